//! The files of machines of LXC and systemd-nspawn, on directories, overlays and images, to the host and back; judged as
//! those of Docker and Podman are.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use whose_live_tests::disk::Disk;
use whose_live_tests::paths::{
    Container, Dice, LAYERS, changes, fill, judge, judge_hostless, judge_stopped, keeps, shadowed,
    told_running,
};
use whose_live_tests::{alone, answer, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::busybox_rootfs;
use whose_testkit::harness::Run;
use whose_testkit::lxc::Lxc;
use whose_testkit::nspawn::Nspawn;
use whose_testkit::{procfs, require};

const LXC: &[&str] = &["root", "lxc-start", "busybox"];
const NSPAWN: &[&str] = &["root", "busybox", "systemd-nspawn", "cgroup-v2"];

/// A directory with all layers in one.
fn tree(dir: &Path) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    let root = busybox_rootfs(dir);
    (0..LAYERS).for_each(|layer| fill(layer, &root));
    root
}

fn path_of(target: &str) -> Run {
    whose().args(["path", target]).run()
}

/// Starts two machines by `start`, changes one, and judges both while they run.
fn judged(cases: &mut Cases, changed: &Container, clean: &Container, ran: bool) {
    assert!(ran);
    for (one, other) in [(changed, clean), (clean, changed)] {
        cases.case(&format!("random paths of {}", one.name), || judge(one, other, &mut Dice(42)));
    }
    cases.case("a file that lies under another", || shadowed(changed, clean));
}

fn lxc_suite(what: &str, roots: &dyn Fn(&Path, &str) -> String) {
    let mut lxc = Lxc::new();
    let bound = tempfile::tempdir().unwrap();
    std::fs::write(bound.path().join("file"), "bound").unwrap();
    let bind =
        format!("lxc.mount.entry = {} bound none bind,create=dir 0 0", bound.path().display());
    let base = lxc.path().to_owned();
    let names = ["changed", "clean", "other"].map(unique);
    let mut start = |name: &str| -> Container {
        let rootfs = roots(&base, name);
        let pid = lxc.start(name, &rootfs, "/bin/sleep 10000", std::slice::from_ref(&bind));
        let pid = pid.unwrap_or_else(|e| panic!("{e}"));
        Container { name: name.into(), pid, keeps: keeps(pid) }
    };
    let (changed, clean) = (start(&names[0]), start(&names[1]));
    // Its monitor tells where the others are, once they have ended.
    let _other = start(&names[2]);
    let script = changes(&changed.root(), &mut Dice(4711));
    let ran = lxc.attach(&changed.name, &["/bin/sh", "-c", &script]).status().unwrap().success();
    let mut cases = Cases::of(format!("path-lxc-{what}"));
    judged(&mut cases, &changed, &clean, ran);
    let before = told_running(&changed);
    for name in &names[..2] {
        lxc.stop(name);
    }
    cases.case("the same when it has ended", || {
        judge_stopped(&before);
        let run = path_of(&format!("{}:/bound/file", changed.name)).expect_code(0);
        assert_eq!(run.stdout_str(), format!("{}/file\n", bound.path().display()));
        for memory in ["/proc/uptime", "/dev/null"] {
            let run = path_of(&format!("{}:{memory}", changed.name));
            assert_eq!((run.code, run.stdout_str()), (Some(1), String::new()), "{}", run.story());
        }
    });
    cases.finish();
}

#[test]
fn lxc_on_directories() {
    if require(LXC) {
        let _alone = alone();
        lxc_suite("dir", &|base, name| {
            format!("dir:{}", tree(&base.join(format!("files-of-{name}"))).display())
        });
    }
}

#[test]
fn lxc_on_an_overlay() {
    if require(LXC) {
        let _alone = alone();
        lxc_suite("overlay", &|base, name| {
            let lower = base.join("lower");
            let (one, two) = (lower.join("one"), lower.join("two"));
            if !lower.exists() {
                std::fs::create_dir_all(&one).unwrap();
                std::fs::create_dir_all(&two).unwrap();
                let root = busybox_rootfs(&one);
                (0..2).for_each(|layer| fill(layer, &root));
                (2..LAYERS).for_each(|layer| fill(layer, &two));
            }
            let upper = base.join(format!("{name}-files/delta0"));
            std::fs::create_dir_all(&upper).unwrap();
            format!(
                "overlay:{}:{}:{}",
                two.display(),
                one.join("rootfs").display(),
                upper.display()
            )
        });
    }
}

/// Images of whole file systems that are mounted somewhere: what `whose` says of them is what it says of any directory.
#[test]
fn lxc_on_an_overlay_of_images() {
    if !require(LXC) || !require(&["loop", "mksquashfs", "mkfs.erofs"]) {
        return;
    }
    let _alone = alone();
    let temp = tempfile::tempdir().unwrap();
    let one = tree(&temp.path().join("one"));
    let two = temp.path().join("two");
    fill(1, &two);
    let Some(squashed) = Disk::squashfs(&one) else { return };
    let Some(erofs) = Disk::erofs(&two) else { return };
    lxc_suite("images", &|base, name| {
        let upper = base.join(format!("{name}-files/delta0"));
        std::fs::create_dir_all(&upper).unwrap();
        let (one, two) = (squashed.point(), erofs.point());
        format!("overlay:{}:{}:{}", two.display(), one.display(), upper.display())
    });
}

#[test]
fn lxc_in_an_image() {
    if !require(LXC) || !require(&["loop", "mkfs.ext4"]) {
        return;
    }
    let _alone = alone();
    let Some(disk) = Disk::ext4() else { return };
    let root = tree(&disk.point().join("files"));
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(format!("{}/.", root.display())).arg(disk.point());
    assert!(copy.status().unwrap().success());
    let mut lxc = Lxc::new();
    let name = unique("image");
    let image = disk.image();
    let other = unique("other");
    let dir = tree(&lxc.path().join("files-of-other"));
    lxc.start(&other, &format!("dir:{}", dir.display()), "/bin/sleep 10000", &[])
        .unwrap_or_else(|e| panic!("{e}"));
    // Never started: LXC would mount the image by a loop of its own.
    let own = lxc.path().join(&name);
    std::fs::create_dir(&own).unwrap();
    let config = format!("lxc.rootfs.path = loop:{}\nlxc.uts.name = lab\n", image.display());
    std::fs::write(own.join("config"), config).unwrap();
    let mut cases = Cases::of("path-lxc-image");
    let target = format!("{name}:/t/only/file");
    cases.case("while the host has it mounted", || {
        let run = path_of(&target).expect_code(0);
        assert_eq!(run.stdout_str(), format!("{}/t/only/file\n", disk.point().display()));
    });
    let _disk = disk.unmounted();
    cases.case("where it is not mounted", || {
        let run = path_of(&target).expect_code(3);
        assert_eq!(run.stdout_str(), "", "{}", run.story());
        let said = run.stderr_str();
        let image = image.to_str().unwrap();
        assert!(said.contains(image) && said.contains("mounted only while it runs"), "{said}");
    });
    cases.finish();
}

/// A machine of nspawn; ended when this is dropped.
struct Machine {
    child: Child,
    pid: u32,
    nspawn: Nspawn,
}

impl Machine {
    fn start(options: &[&str]) -> Self {
        let nspawn = Nspawn::new();
        let mut command = nspawn.command(options, &["/bin/sleep", "10000"]);
        let child = command.spawn().expect("systemd-nspawn");
        let init = || {
            let mut children = procfs::children(child.id()).into_iter();
            children.rfind(|pid| procfs::comm(*pid).is_some_and(|comm| comm == "sleep"))
        };
        let pid = procfs::wait_for("a machine", Duration::from_secs(20), init);
        Self { child, pid, nspawn }
    }

    fn container(&self) -> Container {
        Container { name: self.nspawn.name().into(), pid: self.pid, keeps: keeps(self.pid) }
    }

    fn changed(&self) -> bool {
        let script = changes(&self.container().root(), &mut Dice(4711));
        let pid = self.pid.to_string();
        let words = ["-t", &pid, "-m", "-p", "--", "/bin/sh", "-c", &script];
        Command::new("nsenter").args(words).status().unwrap().success()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // nspawn ends with its first process.
        drop(Command::new("kill").args(["-9", &self.pid.to_string()]).status());
        drop(self.child.wait());
    }
}

/// The machine's own root, as nspawn wants it.
fn machine_root(dir: &Path) -> PathBuf {
    let root = tree(dir);
    for made in ["usr", "etc"] {
        std::fs::create_dir_all(root.join(made)).unwrap();
    }
    std::fs::write(root.join("etc/os-release"), "ID=lab\n").unwrap();
    root
}

fn nspawn_suite(what: &str, options: &dyn Fn(&Path) -> Vec<String>) {
    let temp = tempfile::Builder::new().prefix("whose-nspawn-").tempdir().unwrap();
    let start = |dir: &str| {
        let options = options(&machine_root(&temp.path().join(dir)));
        Machine::start(&options.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (first, second) = (start("a"), start("b"));
    let (changed, clean) = (first.container(), second.container());
    let ran = first.changed();
    let mut cases = Cases::of(format!("path-nspawn-{what}"));
    judged(&mut cases, &changed, &clean, ran);
    drop((first, second));
    cases.finish();
}

#[test]
fn nspawn_on_directories() {
    if require(NSPAWN) {
        let _alone = alone();
        nspawn_suite("dir", &|root| vec![format!("--directory={}", root.display())]);
    }
}

#[test]
fn nspawn_on_copies() {
    if require(NSPAWN) {
        let _alone = alone();
        let options =
            |root: &Path| vec![format!("--directory={}", root.display()), "--ephemeral".to_owned()];
        nspawn_suite("ephemeral", &options);
    }
}

/// What changes is in memory, which only the machine has; the rest are the directory's own files.
#[test]
fn nspawn_that_keeps_nothing() {
    if !require(NSPAWN) {
        return;
    }
    let _alone = alone();
    let temp = tempfile::Builder::new().prefix("whose-nspawn-").tempdir().unwrap();
    let root = machine_root(&temp.path().join("a"));
    let directory = format!("--directory={}", root.display());
    let machine = Machine::start(&[&directory, "--volatile=overlay"]);
    let own = machine.container();
    let ran = machine.changed();
    let mut cases = Cases::of("path-nspawn-volatile");
    cases.case("unchanged and changed files", || {
        assert!(ran);
        judge_hostless(&own, Some(&root));
    });
    drop(machine);
    cases.finish();
}

/// A machine in `/var/lib/machines` that does not run; removed when this is dropped.
struct Kept(PathBuf);

impl Drop for Kept {
    fn drop(&mut self) {
        drop(if self.0.is_dir() {
            std::fs::remove_dir_all(&self.0)
        } else {
            std::fs::remove_file(&self.0)
        });
    }
}

#[test]
fn nspawn_machines_that_do_not_run() {
    if !require(NSPAWN) {
        return;
    }
    let _alone = alone();
    let machines = Path::new("/var/lib/machines");
    let (name, raw) = (unique("whose-kept"), unique("whose-raw"));
    let template = tempfile::Builder::new().prefix("whose-nspawn-").tempdir().unwrap();
    let template = machine_root(&template.path().join("a"));
    let kept = Kept(machines.join(&name));
    // As `systemd-nspawn --template` makes it.
    let options =
        ["--quiet", "--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=off"];
    let mut first = Command::new("systemd-nspawn");
    first.args(options).args(["--timezone=off", "--link-journal=no"]);
    first.arg(format!("--machine={name}")).arg(format!("--template={}", template.display()));
    first.arg(format!("--directory={}", kept.0.display()));
    first.args(["/bin/sh", "-c", "echo own > /t/own"]);
    assert!(first.status().unwrap().success());
    let image = Kept(machines.join(format!("{raw}.raw")));
    std::fs::write(&image.0, "no file system").unwrap();
    let settings = Path::new("/run/systemd/nspawn");
    std::fs::create_dir_all(settings).unwrap();
    let bound = tempfile::tempdir().unwrap();
    std::fs::write(bound.path().join("file"), "bound").unwrap();
    let own = Kept(settings.join(format!("{name}.nspawn")));
    std::fs::write(&own.0, format!("[Files]\nBind={}:/bound\n", bound.path().display())).unwrap();
    let mut cases = Cases::of("path-nspawn-stopped");
    cases.case("a directory, and back", || {
        let mut files = 0;
        for file in ["t/own", "t/only/file", "etc/os-release", "bin/busybox"] {
            let (host, target) = (kept.0.join(file), format!("{name}:/{file}"));
            let run = path_of(&target).expect_code(0);
            assert_eq!(run.stdout_str(), format!("{}\n", host.display()), "{}", run.story());
            let back = path_of(host.to_str().unwrap()).expect_code(0);
            assert_eq!(back.stdout_str(), format!("{target}\n"), "{}", back.story());
            files += 1;
        }
        assert_eq!(files, 4);
        let run = path_of(&format!("{name}:/bin/sh")).expect_code(0);
        assert_eq!(run.stdout_str(), format!("{}\n", kept.0.join("bin/busybox").display()));
    });
    cases.case("what its settings bind", || {
        let run = path_of(&format!("{name}:/bound/file")).expect_code(0);
        assert_eq!(run.stdout_str(), format!("{}/file\n", bound.path().display()));
        let run = path_of(&format!("{name}:/run/x")).expect_code(1);
        assert_eq!(run.stdout_str(), "", "{}", run.story());
    });
    cases.case("an image", || {
        let run = path_of(&format!("{raw}:/etc/os-release")).expect_code(3);
        let said = run.stderr_str();
        assert!(said.contains(image.0.to_str().unwrap()), "{}", run.story());
        assert!(said.contains("mounted only while it runs"), "{}", run.story());
        let told = answer(image.0.to_str().unwrap());
        assert_eq!(told["file"]["stored"]["kind"], "root-image", "{told:#}");
        assert_eq!(told["owners"][0]["name"], raw.as_str(), "{told:#}");
    });
    cases.finish();
}
