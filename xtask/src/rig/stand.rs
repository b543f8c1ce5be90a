//! A standing rig.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::build::{STATIC, c_program};
use anyhow::{Context, Result, bail, ensure};
use whose_testkit::fixture::fake_id;

use super::cgroups::{Cgroups, mounted};

use super::ending::Ending;
use super::janitor::Janitor;
use super::names::{DataRoot, FILES};
use super::room;
use super::spec::{Hierarchies, Names, Spec};

const SOURCE: &str = include_str!("rig.c");
/// What the processes of containers are called, by turns.
const WORKERS: [&str; 5] = ["nginx", "postgres", "redis-server", "python3", "node"];

/// A container of a rig.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The PID of its first process.
    pub(crate) init: u32,
}

/// A standing rig; all of it goes when this is dropped, or when the program ends in any other way.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) containers: Vec<Container>,
    /// The data root with the names of its containers.
    pub(crate) data_root: Option<PathBuf>,
    cgroups: Option<Cgroups>,
    keeper: Option<Keeper>,
    janitor: Janitor,
}

impl Rig {
    /// Sets it up.
    pub(crate) fn stand(spec: &Spec, ending: &Ending) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "a rig makes cgroups, and needs root for it");
        let shares = spec.shares()?;
        room::check(spec.processes)?;
        let mut waste = Vec::new();
        if let Names::At(path) = &spec.names {
            ensure!(!path.exists(), "{} is there already", path.display());
            waste.push(std::path::absolute(path).context("the data root")?);
        }
        let janitor = Janitor::start("rig", waste.clone())?;
        let data_root = match spec.names {
            Names::None => None,
            Names::Private => Some(janitor.dir().join("docker")),
            Names::At(_) => waste.pop(),
        };
        // From here on dropping it clears it away.
        let (containers, cgroups, keeper) = (Vec::new(), None, None);
        let mut rig = Self { containers, data_root: None, cgroups, keeper, janitor };
        rig.build(&shares, spec.hierarchies, data_root.as_deref(), ending)?;
        Ok(rig)
    }

    fn build(
        &mut self,
        shares: &super::spec::Shares,
        hierarchies: Hierarchies,
        data_root: Option<&Path>,
        ending: &Ending,
    ) -> Result<()> {
        let dir = self.janitor.dir();
        // As the directory's, so that one program may stand several.
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let own = name.trim_start_matches("whose-rig-");
        let program = c_program(dir, "rig", SOURCE, STATIC)?;
        let root = dir.join("root");
        for sub in ["", "proc", "etc"] {
            std::fs::create_dir(root.join(sub)).context("making the containers' root")?;
        }
        for name in FILES {
            std::fs::write(root.join("etc").join(name), "").context("making mount points")?;
        }
        let names = data_root.map(DataRoot::make).transpose()?;
        let ids: Vec<String> =
            (0..shares.containers.len()).map(|n| fake_id(format!("rig {own} {n}"))).collect();
        let unit = |n: usize| format!("system.slice/whose-rig-{own}-{n}.service");
        let mut paths: Vec<String> = ids.iter().map(|id| format!("docker/{id}")).collect();
        paths.extend((0..shares.units.len()).map(unit));
        let cgroups = Cgroups::plan(mounted(hierarchies)?, &paths)?;
        std::fs::write(dir.join("cgroups"), cgroups.list()).context("writing the list")?;
        cgroups.make()?;
        let keeper = self.keeper.insert(Keeper::start(&program)?);
        for (n, (id, count)) in ids.into_iter().zip(&shares.containers).enumerate() {
            ending.check()?;
            let binds = names.as_ref().map(|names| names.mounted(&id)).transpose()?;
            let mut lines = vec![format!("root {}", root.display())];
            for (name, file) in binds.unwrap_or_default() {
                lines.push(format!("bind {name} {}", file.display()));
            }
            let procs = cgroups.procs(&format!("docker/{id}"));
            let comm = WORKERS[n % WORKERS.len()];
            let init = keeper.group(comm, &procs, &lines, &format!("container {count}"))?;
            let name = format!("rig-{n:05}");
            if let Some(names) = &names {
                names.running(&id, &name, init)?;
            }
            self.containers.push(Container { id, name, init });
        }
        for (n, count) in shares.units.iter().enumerate() {
            ending.check()?;
            keeper.group("daemon", &cgroups.procs(&unit(n)), &[], &format!("host {count}"))?;
        }
        if shares.root > 0 {
            keeper.group("task", &cgroups.procs(""), &[], &format!("host {}", shares.root))?;
        }
        self.cgroups = Some(cgroups);
        self.data_root = names.map(|names| names.path().to_owned());
        Ok(())
    }

    /// Whether the processes stand: somebody may have ended their keeper.
    pub(crate) fn stands(&mut self) -> bool {
        self.keeper.as_mut().is_some_and(|keeper| matches!(keeper.child.try_wait(), Ok(None)))
    }

    /// The PIDs in a container, as the kernel has them now.
    pub(crate) fn pids(&self, container: &Container) -> Result<Vec<u32>> {
        let cgroups = self.cgroups.as_ref().context("the rig does not stand")?;
        let procs = cgroups.procs(&format!("docker/{}", container.id));
        let file = procs.first().context("there is no hierarchy")?;
        let text = std::fs::read_to_string(file).context("reading cgroup.procs")?;
        text.lines().map(|line| line.parse().context("a PID")).collect()
    }

    /// Clears it away and says what could not be.
    pub(crate) fn clear(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.child.wait().context("waiting for the keeper")?;
        }
        self.janitor.end()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("rig: {error:#}");
        }
    }
}

/// The program that makes the processes.
#[derive(Debug)]
struct Keeper {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Keeper {
    fn start(program: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .arg("keep")
            .arg(std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .context("starting the rig's keeper")?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("the keeper has no stdout")?);
        Ok(Self { child, stdin, stdout })
    }

    /// Starts a group of processes; the PID of its first.
    fn group(
        &mut self,
        comm: &str,
        procs: &[PathBuf],
        lines: &[String],
        start: &str,
    ) -> Result<u32> {
        let mut text = format!("comm {comm}\n");
        for file in procs {
            text.push_str(&format!("cgroup {}\n", file.display()));
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(start);
        text.push('\n');
        let stdin = self.stdin.as_mut().context("the keeper has ended")?;
        stdin.write_all(text.as_bytes()).context("the keeper takes no commands")?;
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).context("the keeper does not answer")?;
        match answer.trim_end().parse() {
            Ok(pid) => Ok(pid),
            Err(_) => bail!("{start}: {}", answer.trim_end().trim_start_matches("err ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ending, Hierarchies, Names, Rig, Spec};
    use whose_testkit::require;

    #[test]
    fn a_small_rig_comes_and_goes() {
        if !require(&["root", "cc"]) {
            return;
        }
        let (names, hierarchies) = (Names::Private, Hierarchies::All);
        let spec = Spec { processes: 60, containers: 3, names, hierarchies };
        let mut rig = Rig::stand(&spec, &Ending::listen().unwrap()).unwrap();
        assert!(rig.stands());
        assert_eq!(rig.containers.len(), 3);
        let data_root = rig.data_root.clone().unwrap();
        for container in &rig.containers {
            let read = |file| std::fs::read_to_string(format!("/proc/{}/{file}", container.init));
            let path = format!(":/docker/{}", container.id);
            let cgroup = read("cgroup").unwrap();
            assert!(cgroup.lines().any(|line| line.ends_with(&path)), "{cgroup}");
            let status = read("status").unwrap();
            assert!(status.contains(&format!("\nNSpid:\t{}\t1\n", container.init)), "{status}");
            let bind = format!("/containers/{}/hostname /etc/hostname ", container.id);
            assert!(read("mountinfo").unwrap().contains(&bind));
            let config = data_root.join("containers").join(&container.id).join("config.v2.json");
            let config = std::fs::read_to_string(config).unwrap();
            assert!(config.contains(&format!("\"Name\":\"/{}\"", container.name)), "{config}");
        }
        let (inits, dir) = (rig.containers.clone(), rig.janitor.dir().to_owned());
        let list = std::fs::read_to_string(dir.join("cgroups")).unwrap();
        rig.clear().unwrap();
        assert!(!dir.exists());
        for line in list.lines().filter(|line| !line.starts_with('?')) {
            assert!(!std::path::Path::new(line).exists(), "{line}");
        }
        for container in inits {
            assert!(!std::path::Path::new(&format!("/proc/{}", container.init)).exists());
        }
    }

    #[test]
    fn the_other_hierarchies_are_left_alone() {
        if !require(&["root", "cc"]) {
            return;
        }
        let own = || std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let others = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with("0:")).map(str::to_owned).collect()
        };
        let (names, hierarchies) = (Names::None, Hierarchies::V2);
        let spec = Spec { processes: 60, containers: 3, names, hierarchies };
        let rig = match Rig::stand(&spec, &Ending::listen().unwrap()) {
            Ok(rig) => rig,
            Err(error) if !own().contains("0::") => {
                assert_eq!(error.to_string(), "no cgroup v2 hierarchy is mounted");
                return;
            }
            Err(error) => panic!("{error:#}"),
        };
        for container in &rig.containers {
            let text = std::fs::read_to_string(format!("/proc/{}/cgroup", container.init)).unwrap();
            assert!(text.contains(&format!("0::/docker/{}\n", container.id)), "{text}");
            assert_eq!(others(&text), others(&own()));
            assert_eq!(rig.pids(container).unwrap().len(), 19);
        }
        rig.clear().unwrap();
    }
}
