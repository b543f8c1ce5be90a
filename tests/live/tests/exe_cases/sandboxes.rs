//! What no engine knows: bubblewrap, firejail, bare runc, chroot and unshare: case 15, T18.

use std::path::{Path, PathBuf};
use std::process::Command;
use whose_live_tests::judge::about;
use whose_live_tests::unique;
use whose_testkit::cases::Cases;
use whose_testkit::docker::busybox_rootfs;
use whose_testkit::marker::{Lab, Markers, Running};
use whose_testkit::{cgroup, require};

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    if require(&["firejail"]) {
        cases.case("T18 firejail --private-bin", || private_bin(markers));
        cases.case("T18 firejail --private, --private-tmp", || private_dirs(markers));
    }
    if require(&["bwrap"]) {
        cases.case("15 bwrap", || bwrap(markers));
        cases.case("10b bwrap on a tmpfs", || bwrap_tmpfs(markers));
    }
    if require(&["runc"]) {
        cases.case("15 bare runc", || runc(markers));
    }
    cases.case("11 chroot of the host", || chroot(markers));
    cases.case("15 unshare", || unshare(markers));
}

/// A program where firejail looks for them; it goes when this is dropped.
struct Installed(PathBuf);

impl Installed {
    fn new(markers: &Markers) -> Installed {
        let installed = Installed(Path::new("/usr/local/bin").join(unique("whose-live")));
        markers.write(&installed.0);
        installed
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn firejail(words: &[&str]) -> Running {
    let mut command = Command::new("firejail");
    command.args(["--quiet", "--noprofile"]).args(words);
    Running::start_below(command)
}

/// The private copy in a tmpfs runs, not the host's file of the same path.
fn private_bin(markers: &Markers) {
    let installed = Installed::new(markers);
    let path = installed.0.to_str().unwrap();
    let name = installed.0.file_name().unwrap().to_str().unwrap();
    let running = firejail(&[&format!("--private-bin={name}"), path]);
    let told = about(&running).has_none();
    assert!(told["via_proc"].is_string(), "{told:#}");
}

/// A program outside of the private directories is the host's, a copy in one is nobody's.
fn private_dirs(markers: &Markers) {
    let installed = Installed::new(markers);
    let path = installed.0.to_str().unwrap();
    let running = firejail(&["--private", path]);
    about(&running).at(path).role(&["direct", "volume"]).state(&["present"]).is_proven();
    drop(running);
    let script = format!("cp {path} /tmp/x; exec /tmp/x");
    let running = firejail(&["--private", "--private-tmp", "/bin/sh", "-ec", &script]);
    let told = about(&running).state(&["present"]).has_none();
    assert!(told["via_proc"].is_string(), "{told:#}");
}

fn bwrap(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("root/bin/x"));
    markers.write(&lab.path("own"));
    for (inside, at) in [("/bin/x", lab.path("root/bin/x")), ("/own", lab.path("own"))] {
        let mut command = Command::new("bwrap");
        command.arg("--bind").arg(lab.path("root")).args(["/", "--tmpfs", "/t", "--ro-bind"]);
        command.arg(lab.path("own")).args(["/own", "--dev", "/dev", "--unshare-pid", inside]);
        let running = Running::start_below(command);
        let told = about(&running).at(at).state(&["present"]).is_proven();
        assert_eq!(told["inside"], inside, "{told:#}");
    }
}

fn bwrap_tmpfs(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("x"));
    // The host has another file of that name.
    markers.write(&lab.path("t/x"));
    let (from, to) = (lab.path("x"), lab.path("t"));
    let mut command = Command::new("bwrap");
    command.args(["--bind", "/", "/", "--tmpfs"]).arg(&to).args(["--unshare-pid", "sh", "-ec"]);
    command.arg(format!("cp {} {1}/x; exec {1}/x", from.display(), to.display()));
    let running = Running::start_below(command);
    let told = about(&running).state(&["present"]).has_none();
    assert!(told["via_proc"].is_string(), "{told:#}");
}

fn runc(markers: &Markers) {
    let lab = Lab::new(markers);
    let root = busybox_rootfs(&lab.path(""));
    markers.write(&root.join("bin/x"));
    lab.sh("runc spec");
    let file = lab.path("config.json");
    let text = std::fs::read(&file).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&text).unwrap();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["/bin/x"]);
    // Limits above those of this machine are refused.
    config["process"].as_object_mut().unwrap().remove("rlimits");
    std::fs::write(&file, config.to_string()).unwrap();
    let id = unique("bare");
    let mut command = Command::new("runc");
    command.arg("--root").arg(lab.path("state")).arg("run").arg("-b").arg(lab.path(""));
    let old: Vec<PathBuf> = cgroup::tops();
    command.arg(&id);
    let running = Running::start_contained(command, &id);
    let claim = about(&running).at(root.join("bin/x")).role(&["direct"]).state(&["present"]);
    claim.is_proven();
    drop(running);
    let new = cgroup::tops().into_iter().filter(|dir| !old.contains(dir) && dir.ends_with(&id));
    new.for_each(|dir| cgroup::remove_empty(&dir));
}

fn chroot(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("root/bin/x"));
    let mut command = Command::new("chroot");
    command.arg(lab.path("root")).arg("/bin/x");
    let running = Running::start(command);
    let at = lab.path("root/bin/x");
    let claim = about(&running).at(&at).role(&["direct"]).state(&["present"]);
    let told = claim.fact("inside", "/bin/x").is_proven();
    assert_eq!(told["namespace_path"], at.to_str().unwrap(), "{told:#}");
}

fn unshare(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("x"));
    for flags in ["-mpf", "-Urmpf"] {
        let mut command = Command::new("unshare");
        command.args([flags, "--mount-proc"]).arg(lab.path("x"));
        let running = Running::start_below(command);
        about(&running).at(lab.path("x")).role(&["direct"]).state(&["present"]).is_proven();
    }
}
