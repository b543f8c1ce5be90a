//! containerd by itself, with two of its snapshotters: case 15, T17.

use super::engine::host;
use rustix::process::Signal;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use whose_live_tests::judge::{Claim, about};
use whose_live_tests::unique;
use whose_testkit::cases::Cases;
use whose_testkit::cgroup::tops;
use whose_testkit::docker::layered_archive;
use whose_testkit::marker::{Markers, Running};
use whose_testkit::procfs;

const IMAGE: &str = "docker.io/library/lab-marked:1";
const DEEP: &str = "docker.io/library/lab-deep:1";

/// A containerd of its own, stopped when dropped. Its containers have ended by then: each is run
/// attached.
struct Containerd {
    daemon: Child,
    dir: tempfile::TempDir,
}

impl Containerd {
    fn start() -> Containerd {
        let dir = tempfile::Builder::new().prefix("whose-ctr-").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = \
             [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = \"{}\"\n",
            at("root"),
            at("state"),
            at("socket")
        );
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        // What it mounts is seen in a namespace of its own.
        let daemon = Command::new("unshare")
            .args(["-m", "--propagation", "private", "containerd", "--config"])
            .arg(dir.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let containerd = Containerd { daemon, dir };
        procfs::wait_for("containerd", Duration::from_secs(30), || {
            containerd.ctr(&["version"]).output().is_ok_and(|o| o.status.success()).then_some(())
        });
        containerd
    }

    fn ctr(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(self.dir.path().join("socket")).args(words);
        command
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        procfs::signal(self.daemon.id(), Signal::TERM);
        drop(self.daemon.wait());
        let socket = self.dir.path().join("socket").display().to_string();
        for pid in procfs::pids() {
            // Only their arguments are read: some other test's may be a trap.
            let shim = procfs::comm(pid).is_some_and(|c| c.starts_with("containerd-shim"));
            if shim && procfs::args(pid).is_some_and(|args| args.contains(&socket)) {
                procfs::signal(pid, Signal::KILL);
            }
        }
        for dir in tops().into_iter().filter(|dir| dir.file_name() == Some("default".as_ref())) {
            // Only goes when nobody is in it.
            drop(std::fs::remove_dir(dir));
        }
    }
}

/// Runs these words in a new container of an image, attached; it goes with what runs.
fn started(containerd: &Containerd, snapshotter: &str, image: &str, words: &[&str]) -> Running {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let id = format!("{}-{count}", unique(snapshotter));
    let run = ["run", "--rm", "--snapshotter", snapshotter, image, &id];
    Running::start_contained(containerd.ctr(&[&run[..], words].concat()), &id)
}

/// The claim holds, at a path in the engine's store.
#[track_caller]
fn in_store(containerd: &Containerd, claim: &Claim) {
    let told = claim.is_proven();
    assert!(host(&told).starts_with(containerd.root()), "{told:#}");
}

fn import(containerd: &Containerd, snapshotter: &str, archive: &Path) {
    let mut import = containerd.ctr(&["images", "import", "--snapshotter", snapshotter]);
    super::run(import.arg(archive));
}

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    let containerd = Containerd::start();
    let work = containerd.root().join("image");
    let archive = layered_archive(&work, IMAGE, 3, &mut |n, dir| {
        for name in [&["low", "all"][..], &["middle", "all"], &["all"]][n] {
            markers.write(&dir.join("bin").join(name));
        }
    });
    for (snapshotter, role) in [("overlayfs", "lower"), ("native", "direct")] {
        import(&containerd, snapshotter, &archive);
        for name in ["low", "middle", "all"] {
            cases.case(&format!("15 {snapshotter}: {name}"), || {
                let running = started(&containerd, snapshotter, IMAGE, &[&format!("/bin/{name}")]);
                in_store(&containerd, &about(&running).role(&[role]).state(&["present"]));
            });
        }
    }
    cases.case("15 overlayfs: written and copied up", || {
        for (script, copied) in [
            ("cp /bin/low /bin/new; exec /bin/new", "no"),
            ("chmod 711 /bin/low; exec /bin/low", "before-start"),
        ] {
            let words = ["/bin/sh", "-ec", script];
            let running = started(&containerd, "overlayfs", IMAGE, &words);
            in_store(&containerd, &about(&running).upper().copied_up(copied));
        }
    });
    cases.case("T17 containerd with 80 layers", || deep(&containerd, markers));
    drop(containerd);
}

/// The lower directories are relative to one that nobody records, the upper one is not.
fn deep(containerd: &Containerd, markers: &Markers) {
    const LAYERS: usize = 80;
    let marked = [0, 1, 40, 79];
    let work = containerd.root().join("deep");
    let archive = layered_archive(&work, DEEP, LAYERS, &mut |n, dir| {
        if marked.contains(&n) {
            markers.write(&dir.join(format!("bin/x{n}")));
        }
    });
    import(containerd, "overlayfs", &archive);
    for n in marked {
        let running = started(containerd, "overlayfs", DEEP, &[&format!("/bin/x{n}")]);
        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", running.pid())).unwrap();
        let lowers = mounts.split_once("lowerdir=").expect("an overlay").1;
        assert!(!lowers.starts_with('/'), "the layers are not relative paths: {lowers}");
        let index = (LAYERS - 1 - n) as u64;
        in_store(containerd, &about(&running).lower(index, LAYERS as u64));
    }
    let words = ["/bin/sh", "-ec", "chmod 711 /bin/x40; exec /bin/x40"];
    let running = started(containerd, "overlayfs", DEEP, &words);
    in_store(containerd, &about(&running).upper().copied_up("before-start"));
}
