//! `cargo xtask rig`: a host with many processes in many containers, to measure on.
//!
//! The processes do nothing. They are in real cgroups with Docker's paths, in every hierarchy unless
//! told, and a container's are in namespaces of its own.

mod cgroups;
mod ending;
mod janitor;
mod names;
mod room;
mod spec;
mod stand;

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub(crate) use cgroups::mounted;
pub(crate) use ending::Ending;
pub(crate) use janitor::Janitor;
pub(crate) use spec::{Hierarchies, Names, Spec};
pub(crate) use stand::Rig;

/// How often it is looked whether the end has come.
const TICK: Duration = Duration::from_millis(50);

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    spec: Spec,
    seconds: Option<u64>,
    command: Vec<String>,
}

/// Sets a rig up, lets it stand, and clears it away; false when the command on it failed.
pub(crate) fn run(words: &[String]) -> Result<bool> {
    let options = options(words)?;
    let ending = Ending::listen()?;
    let began = Instant::now();
    let mut rig = Rig::stand(&options.spec, &ending)?;
    println!(
        "rig: {} processes and {} containers stand after {:.1} s",
        options.spec.processes,
        options.spec.containers,
        began.elapsed().as_secs_f64()
    );
    if let (Some(first), Some(last)) = (rig.containers.first(), rig.containers.last()) {
        println!(
            "rig: containers {} (PID {}) to {} (PID {})",
            first.id, first.init, last.id, last.init
        );
        if let Some(path) = &rig.data_root {
            println!("rig: named {} to {} in {}", first.name, last.name, path.display());
        }
    }
    let done = wait(&options, &mut rig, &ending);
    rig.clear()?;
    println!("rig: cleared");
    done
}

/// Waits for the first end that comes.
fn wait(options: &Options, rig: &mut Rig, ending: &Ending) -> Result<bool> {
    let limit = options.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut child = match options.command.split_first() {
        Some((program, args)) => {
            Some(Command::new(program).args(args).spawn().with_context(|| program.clone())?)
        }
        None => None,
    };
    if child.is_none() && limit.is_none() {
        println!("rig: Ctrl-C ends it");
    }
    let mut status: Option<ExitStatus> = None;
    while status.is_none() && !ending.wanted() && limit.is_none_or(|limit| Instant::now() < limit) {
        if !rig.stands() {
            bail!("somebody ended the rig");
        }
        std::thread::sleep(TICK);
        if let Some(child) = &mut child {
            status = child.try_wait().context("waiting for the command")?;
        }
    }
    if let (Some(mut child), None) = (child, status) {
        drop(child.kill());
        drop(child.wait());
    }
    // A command that was cut off has not succeeded.
    Ok(status.map_or(options.command.is_empty(), |status| status.success()))
}

fn options(words: &[String]) -> Result<Options> {
    let (names, hierarchies) = (Names::None, Hierarchies::All);
    let mut spec = Spec { processes: 10_000, containers: 500, names, hierarchies };
    let (mut seconds, mut command, mut containers) = (None, Vec::new(), None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--processes" => spec.processes = value()?.parse().context("--processes")?,
            "--containers" => containers = Some(value()?.parse().context("--containers")?),
            "--names" if spec.names == Names::None => spec.names = Names::Private,
            "--names" => {}
            "--data-root" => spec.names = Names::At(PathBuf::from(value()?)),
            "--hierarchies" => {
                let which = Hierarchies::by_name(value()?);
                spec.hierarchies = which.context("--hierarchies is all or v2")?;
            }
            "--for" => seconds = Some(value()?.parse().context("--for")?),
            "--" => command = words.by_ref().cloned().collect(),
            other => bail!("rig has no option {other}"),
        }
    }
    spec.containers = containers.unwrap_or(spec.processes / 20);
    Ok(Options { spec, seconds, command })
}

#[cfg(test)]
mod tests {
    use super::{Hierarchies, Names, Spec, options};

    fn typed(text: &str) -> anyhow::Result<super::Options> {
        options(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_typed_is_meant() {
        let (names, hierarchies) = (Names::None, Hierarchies::All);
        let spec = Spec { processes: 10_000, containers: 500, names, hierarchies };
        let plain = typed("").unwrap();
        assert_eq!((plain.spec, plain.seconds, plain.command.len()), (spec, None, 0));
        let all = typed("--processes 100 --containers 7 --names --for 3 -- ps -e --names").unwrap();
        let names = Names::Private;
        let spec = Spec { processes: 100, containers: 7, names, hierarchies };
        assert_eq!((all.spec, all.seconds), (spec, Some(3)));
        assert_eq!(all.command, ["ps", "-e", "--names"]);
        assert_eq!(typed("--hierarchies v2").unwrap().spec.hierarchies, Hierarchies::V2);
        // As many containers as a rig of that size has by rule.
        assert_eq!(typed("--processes 1000").unwrap().spec.containers, 50);
    }

    #[test]
    fn a_place_for_names_asks_for_names() {
        for text in ["--names --data-root /a/b", "--data-root /a/b --names", "--data-root /a/b"] {
            assert_eq!(typed(text).unwrap().spec.names, Names::At("/a/b".into()), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for (text, why) in [
            ("--count 3", "rig has no option --count"),
            ("--for", "--for needs a value"),
            ("--processes many", "--processes"),
            ("--hierarchies v1", "--hierarchies is all or v2"),
        ] {
            assert_eq!(typed(text).unwrap_err().to_string(), why);
        }
    }
}
