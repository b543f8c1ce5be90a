//! containerd by itself, with two of its snapshotters: case 15.

use rustix::process::Signal;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use whose_live_tests::judge::about;
use whose_live_tests::unique;
use whose_testkit::cases::Cases;
use whose_testkit::cgroup::tops;
use whose_testkit::docker::layered_archive;
use whose_testkit::marker::{Markers, Running};
use whose_testkit::procfs;

const IMAGE: &str = "docker.io/library/lab-marked:1";

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

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    let containerd = Containerd::start();
    let work = containerd.root().join("image");
    let archive = layered_archive(&work, IMAGE, 3, &mut |n, dir| {
        for name in [&["low", "all"][..], &["middle", "all"], &["all"]][n] {
            markers.write(&dir.join("bin").join(name));
        }
    });
    for (snapshotter, role) in [("overlayfs", "lower"), ("native", "direct")] {
        let mut import = containerd.ctr(&["images", "import", "--snapshotter", snapshotter]);
        super::run(import.arg(&archive));
        for name in ["low", "middle", "all"] {
            cases.case(&format!("15 {snapshotter}: {name}"), || {
                let id = unique(&format!("{snapshotter}-{name}"));
                let file = format!("/bin/{name}");
                let words = ["run", "--rm", "--snapshotter", snapshotter, IMAGE, &id, &file];
                let running = Running::start_contained(containerd.ctr(&words), &id);
                let told = about(&running).role(&[role]).state(&["present"]).is_proven();
                let host = told["host"].as_str().unwrap_or_default();
                assert!(Path::new(host).starts_with(containerd.root()), "{told:#}");
                drop(running);
            });
        }
    }
    drop(containerd);
}
