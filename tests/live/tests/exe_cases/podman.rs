//! podman as root and as an ordinary user, with each of its storage drivers, and buildah: cases 10,
//! 15, 16a and 16b, T19 and T20.

use super::HostMount;
use super::engine::{Engine, IMAGE, file_server, host, marked, stacked, whole_copies};
use rustix::process::Signal;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use whose_live_tests::judge::{Claim, about, exe};
use whose_live_tests::unique;
use whose_testkit::cases::Cases;
use whose_testkit::harness::Whose;
use whose_testkit::marker::{Markers, Running};
use whose_testkit::podman::{Podman, PodmanOptions};
use whose_testkit::{cgroup, procfs, program};

impl Engine for Podman {
    fn container(&self, options: &[&str]) -> String {
        let count = self.cli(&["ps", "-aq"]).lines().count();
        let name = format!("{}-{count}", unique("marked"));
        let command = [IMAGE, "/bin/busybox", "sleep", "10000"];
        self.run(&[&["--name", &name][..], options, &command].concat());
        name
    }

    fn exec(&self, name: &str, words: &[&str]) -> Running {
        let command = self.command(&[&["exec", "-i", name], words].concat());
        Running::start_beside(command, self.init_pid(name))
    }

    fn sh(&self, name: &str, script: &str) -> String {
        self.cli(&["exec", name, "/bin/sh", "-ec", script])
    }

    fn store(&self) -> PathBuf {
        self.graph_root().to_owned()
    }
}

fn start(options: PodmanOptions, markers: &Markers) -> Podman {
    let podman = options.start().unwrap_or_else(|e| panic!("{e}"));
    podman.layered_image_with(IMAGE, 3, |n, dir| marked(markers, n, dir));
    podman
}

pub(crate) fn overlay(cases: &mut Cases, markers: &Markers) {
    let podman = start(Podman::options(), markers);
    cases.case("15 podman overlay", || stacked(&podman, markers, &[], true));
    cases.case("15 podman: the init itself", || init(&podman));
    cases.case("10a, 10b podman volumes and tmpfs", || volumes(&podman, markers));
    cases.case("10a podman --rootfs", || rootfs(&podman, markers));
    cases.case("16a podman --uidmap", || {
        // The layers' idmapped mounts are gone by then, and with them what the option string names.
        stacked(&podman, markers, &["--uidmap", "0:300000:65536"], false);
    });
    cases.case("15 buildah run", || build(&podman));
    cases.case("T17 podman with 90 layers", || deep(&podman, markers));
}

fn init(podman: &Podman) {
    let name = unique("init");
    podman.cli(&["create", "-i", "--network", "none", "--name", &name, IMAGE, "/bin/low"]);
    let id = podman.inspect(&name)["Id"].as_str().unwrap().to_owned();
    let command = podman.command(&["start", "-a", "-i", &name]);
    let running = Running::start_contained(command, &id);
    assert_eq!(running.pid(), podman.init_pid(&name));
    about(&running).lower(2, 3).copied_up("no").is_proven();
}

fn volumes(podman: &Podman, markers: &Markers) {
    let dir = tempfile::tempdir().unwrap();
    for file in ["dir/x", "file"] {
        markers.write(&dir.path().join(file));
    }
    let volume = unique("volume");
    podman.cli(&["volume", "create", &volume]);
    let data = PathBuf::from(podman.cli(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]));
    assert!(data.starts_with(podman.graph_root()), "{}", data.display());
    markers.write(&data.join("x"));
    let at = |name: &str| dir.path().join(name);
    let mounts = [
        format!("-v={}:/dir", at("dir").display()),
        format!("-v={}:/bin/low", at("file").display()),
        format!("-v={volume}:/volume"),
        format!("-v={}:/overlaid:O", at("dir").display()),
        "--tmpfs=/t:exec".to_owned(),
    ];
    let name = podman.container(&mounts.each_ref().map(String::as_str));
    for (inside, outside) in
        [("/dir/x", at("dir/x")), ("/bin/low", at("file")), ("/volume/x", data.join("x"))]
    {
        let running = podman.exec(&name, &[inside]);
        let claim = about(&running).at(outside).role(&["volume"]).state(&["present"]);
        claim.fact("inside", inside).is_proven();
    }
    // A stack of its own for one volume: what is written does not reach the directory.
    let before = podman.exec(&name, &["/overlaid/x"]);
    about(&before).at(at("dir/x")).lower(0, 1).copied_up("no").is_proven();
    podman.sh(&name, "chmod 711 /overlaid/x");
    let after = podman.exec(&name, &["/overlaid/x"]);
    about(&before).at(at("dir/x")).lower(0, 1).copied_up("after-start").is_proven();
    let told = about(&after).upper().copied_up("before-start").is_proven();
    assert!(host(&told).starts_with(podman.graph_root()), "{told:#}");
    podman.sh(&name, "cp /bin/all /t/x");
    let running = podman.exec(&name, &["/t/x"]);
    let told = about(&running).state(&["present"]).has_none();
    assert_eq!(told["via_proc"], format!("/proc/{}/root/t/x", running.pid()), "{told:#}");
}

fn rootfs(podman: &Podman, markers: &Markers) {
    let dir = tempfile::tempdir().unwrap();
    let root = whose_testkit::docker::busybox_rootfs(dir.path());
    markers.write(&root.join("bin/x"));
    let name = unique("rootfs");
    let words = ["--name", &name, "--rootfs", root.to_str().unwrap()];
    podman.run(&[&words[..], &["/bin/busybox", "sleep", "10000"]].concat());
    let running = podman.exec(&name, &["/bin/x"]);
    let claim = about(&running).at(root.join("bin/x")).role(&["direct"]).state(&["present"]);
    claim.fact("inside", "/bin/x").is_proven();
    drop(running);
    podman.cli(&["rm", "-f", "-t", "0", &name]);
}

fn deep(podman: &Podman, markers: &Markers) {
    const LAYERS: usize = 90;
    let marked = [0, 1, 45, 89];
    podman.layered_image_with("localhost/lab-deep:1", LAYERS, |n, dir| {
        if marked.contains(&n) {
            markers.write(&dir.join(format!("bin/x{n}")));
        }
    });
    let name = unique("deep");
    podman.run(&["--name", &name, "localhost/lab-deep:1", "/bin/sleep", "10000"]);
    for n in marked {
        let running = podman.exec(&name, &[&format!("/bin/x{n}")]);
        let index = (LAYERS - 1 - n) as u64;
        let told = about(&running).lower(index, LAYERS as u64).copied_up("no").is_proven();
        assert!(host(&told).starts_with(podman.graph_root()), "{told:#}");
    }
    podman.sh(&name, "chmod 711 /bin/x45");
    let running = podman.exec(&name, &["/bin/x45"]);
    about(&running).upper().copied_up("before-start").is_proven();
}

/// A step of a build, in a container that podman does not know.
fn build(podman: &Podman) {
    let name = unique("build");
    let said = |words: &[&str]| super::run(&mut podman.buildah(words));
    said(&["from", "--name", &name, IMAGE]);
    let words = ["run", "--isolation", "oci", "--network", "none", &name, "--", "/bin/low"];
    let running = Running::start_contained(podman.buildah(&words), "buildah-");
    let told = about(&running).lower(2, 3).state(&["present"]).is_proven();
    assert!(host(&told).starts_with(podman.graph_root()), "{told:#}");
    drop(running);
    said(&["rm", &name]);
    let left = cgroup::tops().into_iter().filter(|dir| dir.to_string_lossy().contains("/buildah-"));
    left.for_each(|dir| drop(std::fs::remove_dir(dir)));
}

pub(crate) fn vfs(cases: &mut Cases, markers: &Markers) {
    let podman = start(Podman::options().driver("vfs"), markers);
    cases.case("15 podman vfs", || whole_copies(&podman, markers, "vfs"));
}

pub(crate) fn btrfs(cases: &mut Cases, markers: &Markers) {
    let fs = HostMount::image("btrfs");
    let options = Podman::options().driver("btrfs").graph_root(fs.point().join("root"));
    let podman = start(options, markers);
    cases.case("15, T19 podman btrfs", || whole_copies(&podman, markers, "btrfs"));
    drop(podman);
    drop(fs);
}

fn fuse_options() -> PodmanOptions {
    let program = whose_testkit::which("fuse-overlayfs").expect("fuse-overlayfs");
    Podman::options().mount_program(program)
}

pub(crate) fn fuse(cases: &mut Cases, markers: &Markers) {
    let podman = start(fuse_options(), markers);
    cases.case("15 podman fuse-overlayfs", || file_server(&podman));
    cases.case("T20 podman's file server stopped", || stalled(&podman));
}

/// Goes on when this is dropped.
struct Stopped(u32);

impl Stopped {
    fn process(pid: u32) -> Stopped {
        procfs::signal(pid, Signal::STOP);
        let stopped = Stopped(pid);
        procfs::wait_for("the server stops", Duration::from_secs(5), || {
            (procfs::state(pid) == Some('T')).then_some(())
        });
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        procfs::signal(self.0, Signal::CONT);
    }
}

/// The file server of a container.
fn server(podman: &Podman, name: &str) -> u32 {
    let merged = podman.inspect(name)["GraphDriver"]["Data"]["MergedDir"].clone();
    let merged = merged.as_str().expect("a merged directory").to_owned();
    let serves = |pid: &u32| {
        procfs::comm(*pid).is_some_and(|comm| comm == "fuse-overlayfs")
            && procfs::args(*pid).is_some_and(|args| args.contains(&merged))
    };
    procfs::pids().into_iter().find(serves).expect("a file server")
}

fn stalled(podman: &Podman) {
    let name = podman.container(&[]);
    let running = podman.exec(&name, &["/bin/low"]);
    let claim = about(&running).verified(&["content"]).role(&["fuse-layer"]);
    let path = host(&claim.is_proven());
    let stopped = Stopped::process(server(podman, &name));
    // What the file's pages say can't be compared now; a path must still be the right one.
    claim.clone().at(&path).is_right_or_silent();
    let pid = running.pid().to_string();
    let run = exe(&["--json", "--hash", &pid]).run();
    assert!(matches!(run.code, Some(0 | 1 | 3)) && !run.pipes_held, "{}", run.story());
    let told = run.json()["answers"][0]["binary"]["host"].clone();
    assert!(told.is_null() || told == path.to_str().unwrap(), "{}", run.story());
    drop(stopped);
    claim.at(&path).is_proven();
}

/// An ordinary user's: the kernel gives no handle of a layer's file there.
pub(crate) fn rootless(cases: &mut Cases, markers: &Markers) {
    let podman = start(Podman::options().rootless(), markers);
    cases.case("16b podman rootless overlay", || {
        let name = podman.container(&[]);
        let options =
            std::fs::read_to_string(format!("/proc/{}/mountinfo", podman.init_pid(&name)));
        assert!(options.unwrap().contains("userxattr"), "the kernel does not mount it");
        stacked(&podman, markers, &[], true);
    });
    cases.case("10a podman rootless volume", || {
        let volume = unique("volume");
        podman.cli(&["volume", "create", &volume]);
        let name = podman.container(&[&format!("-v={volume}:/volume")]);
        podman.sh(&name, "cp /bin/low /volume/x");
        let point = podman.cli(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]);
        let running = podman.exec(&name, &["/volume/x"]);
        let at = PathBuf::from(point).join("x");
        about(&running).at(at).role(&["volume"]).state(&["present"]).is_proven();
    });
    cases.case("19 podman rootless, asked by the user", || {
        let asking = Asking::new();
        let name = podman.container(&[]);
        let running = podman.exec(&name, &["/bin/low"]);
        may_be(&running, about(&running), &asking.by_user(&podman));
        may_be(&running, unshared(&podman, &name, &running), &asking.unshared(&podman));
    });
}

/// Without the right to compare pages nothing is proven: the right file is named as what it may be.
#[track_caller]
fn may_be(running: &Running, claim: Claim, via: &[String]) {
    let via: Vec<&str> = via.iter().map(String::as_str).collect();
    let told = claim.via(&via).says_nothing(&[3]);
    assert_eq!(told["verified"], "none", "{told:#}");
    let candidates = told["candidates"].as_array().cloned().unwrap_or_default();
    let [only] = candidates.as_slice() else { panic!("not one candidate: {told:#}") };
    let bytes = std::fs::read(only.as_str().unwrap()).unwrap();
    assert!(running.marker().is_in(&bytes), "{told:#}");
}

/// About a process, with paths as the monitors of the user's containers see them.
fn unshared(podman: &Podman, name: &str, running: &Running) -> Claim {
    let monitor = procfs::ppid(podman.init_pid(name)).expect("a monitor");
    about(running).in_root_of(monitor)
}

/// A copy of the binary that everybody may run.
struct Asking(tempfile::TempDir);

impl Asking {
    fn new() -> Asking {
        let dir = tempfile::tempdir().unwrap();
        program::copy(Whose::built().bin(), dir.path().join("whose"));
        super::run(Command::new("chmod").arg("755").arg(dir.path()));
        Asking(dir)
    }

    /// Words that run the copy in place of the program they are put before.
    fn instead(&self) -> [String; 4] {
        let script = format!("shift; exec {}/whose \"$@\"", self.0.path().display());
        ["sh".into(), "-c".into(), script, "sh".into()]
    }

    /// As the engine's user.
    fn by_user(&self, podman: &Podman) -> Vec<String> {
        let user = podman.user().expect("a user").name();
        let words = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"];
        words.into_iter().map(str::to_owned).chain(self.instead()).collect()
    }

    /// As that user, in the namespaces of the user's containers.
    fn unshared(&self, podman: &Podman) -> Vec<String> {
        let command = podman.command(&["unshare"]);
        let text = |word: &std::ffi::OsStr| word.to_str().expect("text").to_owned();
        let variables = command.get_envs().filter_map(|(name, value)| {
            value.map(|value| format!("{}={}", text(name), text(value)))
        });
        let program = [text(command.get_program())];
        let words = program.into_iter().chain(command.get_args().map(text));
        ["env".to_owned()].into_iter().chain(variables).chain(words).chain(self.instead()).collect()
    }
}

pub(crate) fn rootless_vfs(cases: &mut Cases, markers: &Markers) {
    let podman = start(Podman::options().rootless().driver("vfs"), markers);
    cases.case("15 podman rootless vfs", || whole_copies(&podman, markers, "vfs"));
}

/// A user's file server lets nobody in from outside the user's namespace, not even root: without
/// a look at the file there is no proof.
pub(crate) fn rootless_fuse(cases: &mut Cases, markers: &Markers) {
    let podman = start(fuse_options().rootless(), markers);
    cases.case("15 podman rootless fuse-overlayfs", || {
        let name = podman.container(&[]);
        let running = podman.exec(&name, &["/bin/low"]);
        let refused = std::fs::read(format!("/proc/{}/exe", running.pid()));
        assert_eq!(refused.map_err(|e| e.kind()), Err(std::io::ErrorKind::PermissionDenied));
        about(&running).says_nothing(&[3]);
        gap_is_forbidden(&running);
        let asking = Asking::new();
        let via = asking.unshared(&podman);
        may_be(&running, unshared(&podman, &name, &running), &via);
    });
    cases.case("T20 podman rootless, its file server stopped", || {
        let name = podman.container(&[]);
        let running = podman.exec(&name, &["/bin/low"]);
        let stopped = Stopped::process(server(&podman, &name));
        about(&running).says_nothing(&[3]);
        gap_is_forbidden(&running);
        drop(stopped);
    });
}

#[track_caller]
fn gap_is_forbidden(running: &Running) {
    let run = exe(&["--json", &running.pid().to_string()]).run().expect_code(3);
    let gaps = run.json()["answers"][0]["gaps"].as_array().cloned().unwrap_or_default();
    let told = |gap: &serde_json::Value| gap["what"].as_str().is_some_and(|w| w.contains("binary"));
    let gap = gaps.iter().find(|gap| told(gap)).unwrap_or_else(|| panic!("{}", run.story()));
    assert_eq!(gap["class"], "forbidden", "{}", run.story());
}
