//! Containers that fight back: the path printed is right or none is, and the command ends.

use super::{exe_link, overlay};
use rustix::process::Signal;
use std::path::Path;
use std::process::Command;
use whose_live_tests::judge::{about, exe};
use whose_testkit::cases::Cases;
use whose_testkit::marker::{Going, Lab, Markers};
use whose_testkit::{kernel, procfs, require};

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("T16 a decoy on a private mount", || decoy_mount(markers));
    cases.case("T16 a decoy in a stack", || decoy_in_stack(markers));
    cases.case("T16 a decoy of the same inode number", || decoy_number(markers));
    cases.case("T21 a false exe", || false_exe(markers));
    for what in ["l/x", "m/x", "u/x"] {
        let name = format!("an opening of {what} held back");
        cases.case(&name, || held_back(markers, what));
    }
    cases.case("a file swapped with another", || swapped(markers));
    // Before, nobody could write to the file of a layer that runs.
    cases.case_with(&["linux-5.15"], "a file cut short and made whole", || cut(markers));
    cases.case_with(&["linux-5.15"], "cut short for good", || cut_short(markers));
    cases.case("a layer swapped with another", || layer_swapped(markers));
    cases
        .case_with(&["linux-5.11"], "no regular file where the layer's was", || odd_kinds(markers));
    cases.case("a name replaced again and again", || restless(markers));
    cases.case("every page a private copy", || copied(markers));
    cases.case("a leader that has ended", || leaderless(markers));
    cases.case("exec while asked", || exec_while_asked(markers));
    if require(&["fuse", "fuse-overlayfs"]) {
        cases.case("15 fuse-overlayfs", || fuse(markers));
        cases.case("T20 a FUSE server that never answers", || stalled(markers));
    }
}

/// The string of the lower directory is a real directory of the host, with a program in it.
fn decoy_mount(markers: &Markers) {
    let lab = Lab::new(markers);
    let real = markers.write(&lab.path("store/l/x"));
    let own = markers.write(&lab.path("own"));
    lab.sh("mkdir m; mount -t tmpfs t store; mkdir store/l; mv own store/l/x; \
            mount -t overlay o -o lowerdir=$LAB/store/l,upperdir=$LAB/store/u,workdir=$LAB/store/w \
            m 2>/dev/null || { mkdir store/u store/w; mount -t overlay o -o \
            lowerdir=$LAB/store/l,upperdir=$LAB/store/u,workdir=$LAB/store/w m; }");
    let running = lab.run("exec m/x");
    assert_eq!(running.marker(), &own);
    assert!(real.is_in(&std::fs::read(lab.path("store/l/x")).unwrap()));
    about(&running).has_none();
}

/// As from a container that may mount: the directory is in its own root, a stack itself.
fn decoy_in_stack(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("store/layer/x"));
    let own = markers.write(&lab.path("own"));
    let busybox = whose_testkit::which("busybox").expect("busybox");
    lab.sh(&format!("mkdir -p l/bin l/mm; cp {} l/bin/busybox", busybox.display()));
    lab.sh("for a in sh umount mount; do ln -s busybox l/bin/$a; done");
    lab.sh(&overlay(&["l"], ""));
    lab.sh("mkdir -p m/$LAB/store/layer; mv own m/$LAB/store/layer/x; mkdir -p m/e");
    let dir = lab.path("store/layer");
    let script = format!(
        "mount --bind m m; cd m; mkdir -p old; pivot_root . old; umount -l /old; \
         mount -t overlay o -o lowerdir={0}:/e /mm; exec /mm/x",
        dir.display()
    );
    let running = lab.run(&format!("exec unshare -m --propagation private sh -ec '{script}'"));
    assert_eq!(running.marker(), &own);
    let below = dir.strip_prefix("/").unwrap().join("x");
    about(&running).at(lab.path("u").join(below)).is_proven();
}

/// A file system of the container's own, where the file has the number the host's file has.
fn decoy_number(markers: &Markers) {
    use std::os::unix::fs::MetadataExt;
    let host = super::HostMount::tmpfs();
    let real = host.point().join("l/x");
    markers.write(&real);
    let lab = Lab::new(markers);
    let own = markers.write(&lab.path("own"));
    let point = host.point().display().to_string();
    lab.sh(&format!(
        "mkdir m; mount -t tmpfs t {point}; mkdir {point}/l; mv own {point}/l/x; \
         mount -t overlay o -o lowerdir={point}/l:$LAB/m m"
    ));
    let running = lab.run("exec m/x");
    assert_eq!(running.marker(), &own);
    let seen = std::fs::metadata(format!("/proc/{}/exe", running.pid())).unwrap().ino();
    assert_eq!(seen, std::fs::metadata(&real).unwrap().ino());
    about(&running).has_none();
}

fn false_exe(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("x"));
    let other = lab.path("other");
    markers.write(&other);
    for how in ["false", "false-mapped"] {
        let running = lab.run(&format!("exec unshare -Ur ./x {how} {}", other.display()));
        assert_eq!(exe_link(running.pid()), other.to_str().unwrap());
        about(&running).says_nothing(&[1, 3]);
    }
}

/// A listener for permission to open, that sleeps. Reading the file to judge comes after its end.
fn held_back(markers: &Markers, what: &str) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    if what == "u/x" {
        lab.sh("touch m/x");
        markers.patch(&lab.path("u/x"));
    }
    let running = lab.run("exec m/x");
    let claim = about(&running).at(lab.path(if what == "u/x" { "u/x" } else { "l/x" }));
    let listener = lab.keep(&format!("listen {what}"));
    claim.is_right_or_silent_until(|| drop(listener));
    claim.is_proven();
}

fn swapped(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    markers.write(&lab.path("l/y"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x");
    let names = [lab.path("l/x"), lab.path("l/y")];
    let going = lab.keep("exchange l/x l/y");
    either(running.pid(), &names);
    drop(going);
    about(&running).is_proven();
}

/// Asks again and again while something goes on: one of these paths, or none.
#[track_caller]
fn either(pid: u32, names: &[std::path::PathBuf]) {
    for _ in 0..15 {
        let run = exe(&[&pid.to_string()]).run();
        assert!(matches!(run.code, Some(0 | 1 | 3)), "{}", run.story());
        let path = run.stdout_str();
        let named = names.iter().any(|name| Path::new(path.trim_end()) == name);
        assert!(path.is_empty() || named, "{}", run.story());
        assert_eq!(run.code == Some(0), named, "{}", run.story());
    }
}

fn cut(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x");
    let going = lab.keep("cut l/x");
    either(running.pid(), &[lab.path("l/x")]);
    drop(going);
    about(&running).at(lab.path("l/x")).is_right_or_silent();
}

fn cut_short(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x");
    let file = std::fs::OpenOptions::new().write(true).open(lab.path("l/x")).unwrap();
    file.set_len(100).unwrap();
    let run = exe(&["--json", "--hash", &running.pid().to_string()]).run();
    assert!(matches!(run.code, Some(0 | 1 | 3)), "{}", run.story());
    let host = run.json()["answers"][0]["binary"]["host"].clone();
    let right = lab.path("l/x");
    assert!(host.is_null() || host == right.to_str().unwrap(), "{}", run.story());
}

fn layer_swapped(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/d/x"));
    markers.write(&lab.path("other/d/x"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/d/x");
    let names = [lab.path("l/d/x"), lab.path("other/d/x")];
    let going = lab.keep("exchange l other");
    either(running.pid(), &names);
    drop(going);
    about(&running).is_proven();
}

/// A pipe, a device and a link in a layer, under the name of what runs: opening them would wait or
/// lead away. The stack is of a user namespace, where layers are walked.
fn odd_kinds(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    markers.write(&lab.path("other"));
    lab.sh("mkdir u w m");
    let options = "lowerdir=l,upperdir=u,workdir=w,userxattr";
    let script = format!("mount -t overlay o -o {options} m; exec m/x");
    let running = lab.run(&format!("exec unshare -Urm sh -ec '{script}'"));
    lab.sh("mv l/x l/real");
    for odd in ["mkfifo l/x", "mknod l/x c 1 5", "ln -s $LAB/other l/x", "mkdir l/x"] {
        lab.sh(odd);
        about(&running).at(lab.path("l/real")).is_right_or_silent();
        lab.sh("rm -r l/x");
    }
}

/// The name in the stack is removed, replaced and renamed all the time; what runs stays.
fn restless(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/d/x"));
    markers.write(&lab.path("new"));
    lab.sh(&overlay(&["l"], ",redirect_dir=on"));
    let running = lab.run("exec m/d/x");
    let script = "echo ready; while test -e go; do cp new m/d/n; mv m/d/n m/d/x; touch m/d/x; \
                  mv m/d m/e; rm m/e/x; mv m/e m/d; done <&-";
    lab.sh("touch go");
    let going = Going::start(lab.command(script));
    let names = [lab.path("l/d/x")];
    let seen = std::panic::catch_unwind(|| either(running.pid(), &names));
    lab.sh("rm go");
    drop(going);
    if let Err(panic) = seen {
        std::panic::resume_unwind(panic);
    }
    about(&running).at(lab.path("l/d/x")).lower(0, 1).is_proven();
}

/// No page is the file's, so that can't be the proof.
fn copied(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x copied");
    about(&running).at(lab.path("l/x")).is_right_or_silent();
    lab.sh("touch m/x");
    markers.patch(&lab.path("u/x"));
    // The mapping is the lower file's still; nothing shows that but its pages.
    about(&running).is_right_or_silent();
}

fn leaderless(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x leaderless");
    assert_eq!(procfs::state(running.pid()), Some('Z'));
    about(&running).at(lab.path("l/x")).is_right_or_silent();
}

fn exec_while_asked(markers: &Markers) {
    let lab = Lab::new(markers);
    let first = markers.write(&lab.path("l/x"));
    let second = markers.write(&lab.path("l/y"));
    lab.sh(&overlay(&["l"], ""));
    let mut running = lab.run("exec m/x exec m/y");
    assert_eq!(running.marker(), &first);
    about(&running).at(lab.path("l/x")).is_proven();
    assert_eq!(running.look_again(), &second);
    about(&running).at(lab.path("l/y")).is_proven();
}

/// The script that mounts fuse-overlayfs on `m` and says its daemon's PID.
const FUSE: &str = "mkdir -p u w m; fuse-overlayfs -f -o \
                    lowerdir=$LAB/l,upperdir=$LAB/u,workdir=$LAB/w m >/dev/null 2>&1 </dev/null & \
                    i=0; while ! grep -q fuse-overlayfs /proc/self/mountinfo; do i=$((i+1)); \
                    test $i -lt 200; sleep 0.05; done; echo $!";

/// A daemon that is killed when this is dropped, stopped or not.
pub(crate) struct Daemon(u32);

impl Daemon {
    pub(crate) fn start(lab: &Lab) -> Daemon {
        let daemon = Daemon(lab.sh(FUSE).parse().unwrap());
        assert_eq!(procfs::comm(daemon.0).as_deref(), Some("fuse-overlayfs"));
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if procfs::comm(self.0).as_deref() == Some("fuse-overlayfs") {
            procfs::signal(self.0, Signal::KILL);
        }
    }
}

fn fuse(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    markers.write(&lab.path("new"));
    let daemon = Daemon::start(&lab);
    lab.sh("cp new m/y; chmod 755 m/y; rm new");
    let (x, y) = (lab.run("exec m/x"), lab.run("exec m/y"));
    if kernel() < (6, 16) {
        // Nothing tells which server a FUSE file system has.
        about(&x).at(lab.path("l/x")).is_right_or_silent();
        about(&y).at(lab.path("u/y")).is_right_or_silent();
        return;
    }
    let expected = about(&x).at(lab.path("l/x")).verified(&["content"]);
    let told = expected.role(&["fuse-layer"]).state(&["present"]).is_proven();
    assert_eq!(told["mount"]["type"], "fuse.fuse-overlayfs", "{told:#}");
    about(&y).at(lab.path("u/y")).verified(&["content"]).role(&["fuse-layer"]).is_proven();
    let run = exe(&[&x.pid().to_string()]).run().expect_code(0);
    assert_eq!(run.stderr_str().lines().count(), 1, "content is said on stderr\n{}", run.story());
    drop((x, y));
    drop(daemon);
}

fn stalled(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    let daemon = Daemon::start(&lab);
    let running = lab.run("exec m/x");
    procfs::signal(daemon.0, Signal::STOP);
    procfs::wait_for("the server stops", std::time::Duration::from_secs(5), || {
        (procfs::state(daemon.0) == Some('T')).then_some(())
    });
    let claim = about(&running).at(lab.path("l/x"));
    claim.is_right_or_silent();
    let run = exe(&["--json", "--hash", &running.pid().to_string()]).run();
    assert!(matches!(run.code, Some(0 | 1 | 3)), "{}", run.story());
    assert!(!run.pipes_held, "{}", run.story());
    // Beside an ordinary one, which must be answered all the same.
    let mut two = Command::new(markers.program());
    two.arg("hold");
    let ordinary = whose_testkit::marker::Running::start(two);
    let words = [running.pid().to_string(), ordinary.pid().to_string()];
    let run = exe(&["--json", &words[0], &words[1]]).run();
    let told = run.json()["answers"][1]["binary"].clone();
    assert_eq!(told["host"], markers.program().to_str().unwrap(), "{}", run.story());
    procfs::signal(daemon.0, Signal::CONT);
    drop(running);
    drop(daemon);
}
