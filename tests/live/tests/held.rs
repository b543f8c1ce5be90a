//! Who holds what a path or a number stands for: namespaces that are kept in files, file systems that are mounted, and
//! files by device and number.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::{Value, json};
use whose_live_tests::disk::Disk;
use whose_live_tests::{alone, answer, pid_of, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::{Docker, IMAGE, View};
use whose_testkit::{procfs, program, require};

const NEEDS: &[&str] = &["root", "docker", "cgroup-v2", "mount-namespace", "loop", "mkfs.ext4"];

/// A process that is ended when this is dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("a process"))
    }

    /// In namespaces of its own once it is called so.
    fn wait(&self, comm: &str) -> u32 {
        let pid = self.0.id();
        procfs::wait_for(comm, Duration::from_secs(10), || {
            procfs::comm(pid).filter(|is| is == comm)
        });
        pid
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A file that keeps a namespace; unmounted when dropped.
struct Kept(PathBuf);

impl Kept {
    fn of(dir: &Path, pid: u32, kind: &str) -> Self {
        let file = dir.join(format!("{kind}-{pid}"));
        std::fs::write(&file, "").unwrap();
        let from = format!("/proc/{pid}/ns/{kind}");
        let mut mount = Command::new("mount");
        assert!(mount.args(["--bind", &from]).arg(&file).status().unwrap().success());
        Self(file)
    }

    fn target(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}

fn pids(told: &Value) -> BTreeSet<u32> {
    let rows = told["processes"].as_array().into_iter().flatten();
    rows.map(|row| pid_of(&row["pid"]).unwrap()).collect()
}

fn names(told: &Value) -> BTreeSet<String> {
    let owners = told["owners"].as_array().unwrap_or_else(|| panic!("no owners: {told:#}"));
    owners.iter().filter_map(|o| Some(o["name"].as_str()?.to_owned())).collect()
}

/// The answer about a namespace: with a gap where some process of this machine may not be asked.
fn about(target: &str) -> Value {
    let refuses = |pid: &u32| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/net"));
        link.is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
    };
    let refused = procfs::pids().into_iter().find(refuses);
    let run = whose().args(["--json", target]).run();
    let run = run.expect_code(if refused.is_some() { 3 } else { 0 });
    let told = run.json()["answers"][0].clone();
    if let Some(pid) = refused {
        let gap = &told["gaps"][0];
        assert!(gap["path"].as_str().unwrap().starts_with(&format!("/proc/{pid}/ns/")), "{gap}");
        assert_eq!((&gap["what"], &gap["class"]), (&json!("namespaces"), &json!("forbidden")));
    }
    told
}

/// The answer about what is mounted: with a gap where some process of this machine that has it mounted may not be asked.
fn about_mount(target: &str) -> Value {
    let run = whose().args(["--json", target]).run();
    let told = run.json()["answers"][0].clone();
    let refuses = |pid: &u32| std::fs::read_dir(format!("/proc/{pid}/fd")).is_err();
    let is_refused = procfs::pids().iter().any(refuses);
    let gaps = told["gaps"].as_array().unwrap();
    assert!(gaps.is_empty() || is_refused, "{told:#}");
    assert!(gaps.iter().all(|gap| gap["class"] == "forbidden"), "{told:#}");
    assert_eq!(run.code, Some(if gaps.is_empty() { 0 } else { 3 }), "{}", run.story());
    told
}

/// Whose processes are in a namespace, by its links.
fn in_namespace(pid: u32, kind: &str) -> BTreeSet<u32> {
    let link = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let own = link(pid).unwrap();
    procfs::pids().into_iter().filter(|pid| link(*pid).as_ref() == Some(&own)).collect()
}

/// A process that does nothing but map a file, which it has closed, and which of the mounts it opened it on.
fn mapper(tool: &Path, file: &Path) -> (u32, Running) {
    let running = Running::start(Command::new(tool).arg(file));
    (running.wait("only-maps"), running)
}

/// By the device alone all files of the disk look alike: the mount tells.
fn only_maps(disk: &Disk) {
    let temp = tempfile::tempdir().unwrap();
    let (source, tool) = (temp.path().join("only-maps.c"), temp.path().join("only-maps"));
    std::fs::write(
        &source,
        "#include <fcntl.h>\n#include <sys/mman.h>\n#include <sys/prctl.h>\n#include <unistd.h>\n\
         int main(int c, char **v) { int f = open(v[1], O_RDONLY);\n\
         if (f < 0 || mmap(0, 4096, PROT_READ, MAP_PRIVATE, f, 0) == MAP_FAILED) return 1;\n\
         close(f); prctl(PR_SET_NAME, \"only-maps\"); for (;;) pause(); }\n",
    )
    .unwrap();
    let built = Command::new("cc").args(["-o"]).args([&tool, &source]).status().unwrap();
    assert!(built.success());
    // Its name is set when it has mapped the file: before, it is called by its own.
    let renamed = temp.path().join("maps");
    std::fs::rename(&tool, &renamed).unwrap();
    let (data, other) = (disk.point().join("data"), disk.point().join("other"));
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("file"), "other").unwrap();
    let bound = temp.path().join("bound");
    std::fs::create_dir(&bound).unwrap();
    let mut mount = Command::new("mount");
    assert!(mount.arg("--bind").args([&data, &bound]).status().unwrap().success());
    let there = mapper(&renamed, &bound.join("file"));
    // The same file by another mount, and another file of the same disk, keep the bound one busy no more than nothing.
    let beside = mapper(&renamed, &data.join("file"));
    let elsewhere = mapper(&renamed, &other.join("file"));
    let told = about_mount(bound.to_str().unwrap());
    let used: Vec<(u32, Value)> = told["uses"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|u| (pid_of(&u["pid"]).unwrap(), u["how"].clone()))
        .collect();
    let pids = [there.0, beside.0, elsewhere.0];
    let busy = Command::new("umount").arg(&bound).output().unwrap();
    drop((there, beside, elsewhere));
    assert!(!busy.status.success(), "nothing kept it busy");
    assert!(Command::new("umount").arg(&bound).status().unwrap().success());
    let how = |pid: u32| used.iter().find(|(p, _)| *p == pid).map(|(_, how)| how.clone());
    assert_eq!(how(pids[0]), Some(json!(["map"])), "{told:#}");
    assert_eq!((how(pids[1]), how(pids[2])), (None, None), "{told:#}");
}

/// A process whose root is elsewhere shows none of its namespace's mounts: others of that namespace do.
fn hidden_by_chroot(disk: &Disk) {
    let temp = tempfile::tempdir().unwrap();
    let (bound, jail) = (temp.path().join("bound"), temp.path().join("jail"));
    let busybox = whose_testkit::which("busybox").unwrap();
    for dir in [&bound, &jail] {
        std::fs::create_dir(dir).unwrap();
    }
    for dir in [temp.path(), &jail] {
        let program = dir.join("busybox");
        program::copy(&busybox, &program);
    }
    let mut mount = Command::new("mount");
    assert!(
        mount.arg("--bind").args([&disk.point().join("data"), &bound]).status().unwrap().success()
    );
    let chrooted = || {
        let mut first = Command::new("unshare");
        first.args(["-m", "chroot"]).arg(&jail).args(["/busybox", "sleep", "10000"]);
        let running = Running::start(&mut first);
        (running.wait("busybox"), running)
    };
    let beside = |pid: u32, root: &Path, dir: &str| {
        let mut second = Command::new("nsenter");
        let go = format!("cd {dir} && exec /busybox sleep 10000");
        second.arg(format!("--mount=/proc/{pid}/ns/mnt")).arg("chroot").arg(root);
        let program = if root == Path::new("/") { busybox.to_str().unwrap() } else { "/busybox" };
        let go = go.replace("/busybox", program);
        let running = Running::start(second.args([program, "sh", "-c", &go]));
        let pid = running.0.id();
        let cmdline = format!("/proc/{pid}/cmdline");
        procfs::wait_for("sleep", Duration::from_secs(10), || {
            std::fs::read(&cmdline).ok().filter(|args| args.ends_with(b"\0sleep\x0010000\0"))
        });
        (pid, running)
    };
    let (one, two) = (chrooted(), chrooted());
    let whole = beside(one.0, Path::new("/"), bound.to_str().unwrap());
    let other = beside(two.0, temp.path(), "/bound");
    let run = whose().args(["--json"]).arg(&bound).run();
    let told = run.json()["answers"][0].clone();
    let pids = [whole.0, other.0];
    drop((whole, other, one, two));
    assert!(Command::new("umount").arg(&bound).status().unwrap().success());
    for pid in pids {
        let uses = told["uses"].as_array().unwrap_or_else(|| panic!("no uses: {told:#}"));
        let used = uses.iter().find(|u| u["pid"] == pid).map(|u| u["how"].clone());
        assert_eq!(used, Some(json!(["cwd"])), "{pid}: {told:#}");
    }
}

#[test]
fn what_is_held() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let Some(disk) = Disk::ext4() else { return };
    let docker = Docker::options(View::V2).storage_driver("vfs").start();
    let docker = docker.unwrap_or_else(|e| panic!("{e}"));
    docker.image();
    let name = unique("holder");
    let point = disk.point();
    std::fs::create_dir(point.join("data")).unwrap();
    std::fs::write(point.join("data/file"), "held").unwrap();
    let bind = format!("{}:/srv", point.join("data").display());
    docker.create(&["--name", &name, "--network", "none", "-v", &bind, IMAGE, "sleep", "10000"]);
    docker.cli(&["start", &name]);
    let init = docker.init_pid(&name);
    let temp = tempfile::tempdir().unwrap();
    let mut cases = Cases::of("held");
    cases.case("a container's namespaces, kept in files", || {
        for kind in ["net", "uts", "ipc", "pid", "mnt"] {
            let kept = Kept::of(temp.path(), init, kind);
            let told = about(kept.target());
            assert_eq!(told["kind"], "namespace", "{told:#}");
            assert_eq!(names(&told), [name.clone()].into(), "{told:#}");
            assert_eq!(pids(&told), in_namespace(init, kind), "{told:#}");
            let card = whose().arg(kept.target()).run().stdout_str();
            assert!(card.contains(&format!("  used by    {name}   docker   running")), "{card}");
            assert!(card.contains(&format!("  processes  {init}")), "{card}");
        }
    });
    cases.case("a namespace of nobody's", || {
        let alone = Running::start(Command::new("unshare").args(["-n", "sleep", "10000"]));
        let pid = alone.wait("sleep");
        let kept = Kept::of(temp.path(), pid, "net");
        let told = about(kept.target());
        assert_eq!(pids(&told), [pid].into(), "{told:#}");
        assert!(!names(&told).contains(&name), "{told:#}");
        drop(alone);
        let told = about(kept.target());
        assert_eq!((&told["owners"], &told["kind"]), (&json!([]), &json!("namespace")), "{told:#}");
    });
    cases.case("a mount point, its device and its image", || {
        let private = ["-m", "--propagation", "private", "sleep", "10000"];
        let other = Running::start(Command::new("unshare").args(private));
        let pid = other.wait("sleep");
        let device = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = device.lines().find(|l| l.split(' ').nth(4) == point.to_str()).unwrap();
        let device = mount.split(" - ext4 ").nth(1).unwrap().split(' ').next().unwrap();
        for target in [point.to_str().unwrap(), device, disk.image().to_str().unwrap()] {
            let told = about_mount(target);
            assert_eq!(told["kind"], "mount", "{told:#}");
            let held = pids(&told);
            assert!(held.contains(&pid) && held.contains(&init), "{told:#}");
            assert!(names(&told).contains(&name), "{told:#}");
            let said: Vec<&str> = told["evidence"]
                .as_array()
                .unwrap()
                .iter()
                .map(|e| e["detail"].as_str().unwrap())
                .collect();
            let at = |pid: u32, at: &str| format!("{pid} has it at {at}, in mnt:[");
            assert!(said.iter().any(|s| s.starts_with(&at(init, "/srv"))), "{said:?}");
            let own = at(pid, point.to_str().unwrap());
            assert!(said.iter().any(|s| s.starts_with(&own)), "{said:?}");
        }
        // The directory alone is the container's, and an ordinary file nobody's.
        let run = whose().args(["path", point.join("data/file").to_str().unwrap()]).run();
        assert_eq!(run.expect_code(0).stdout_str(), format!("{name}:/srv/file\n"));
    });
    cases.case("what a container alone has mounted over a directory", || {
        let dir = point.join("data/below");
        std::fs::create_dir(&dir).unwrap();
        let target = dir.to_str().unwrap();
        let over = |told: &Value| -> Vec<String> {
            let all = told["evidence"].as_array().into_iter().flatten();
            let said = all.map(|e| e["detail"].as_str().unwrap().to_owned());
            said.filter(|s| s.contains("mounted over it")).collect()
        };
        assert_eq!(over(&answer(target)), Vec::<String>::new());
        let inside =
            ["-m", "-t", &init.to_string(), "mount", "-t", "tmpfs", "of-its-own", "/srv/below"];
        assert!(Command::new("nsenter").args(inside).status().unwrap().success());
        let told = answer(target);
        let said = over(&told);
        let [said] = &said[..] else { panic!("{told:#}") };
        let begins = format!("{name} has tmpfs of-its-own mounted over it at /srv/below");
        assert!(
            said.starts_with(&begins) && said.contains(&format!(": {init}, in mnt:[")),
            "{said}"
        );
        // It is no owner of what it hides, and has nothing over what lies beside.
        assert_eq!(told["kind"], "path", "{told:#}");
        assert_eq!(over(&answer(point.join("data/file").to_str().unwrap())), Vec::<String>::new());
        let inside = ["-m", "-t", &init.to_string(), "umount", "/srv/below"];
        assert!(Command::new("nsenter").args(inside).status().unwrap().success());
        std::fs::remove_dir(&dir).unwrap();
    });
    cases.case("who keeps it busy", || {
        let program = point.join("busybox");
        program::copy(whose_testkit::which("busybox").unwrap(), &program);
        let runs = Running::start(Command::new(&program).args(["sleep", "10000"]));
        let runs = (runs.wait("busybox"), runs);
        let is_in = Running::start(Command::new("sleep").arg("10000").current_dir(&point));
        let is_in = (is_in.wait("sleep"), is_in);
        let file = std::fs::File::open(point.join("data/file")).unwrap();
        let has = Running::start(Command::new("sleep").arg("10000").stdin(file));
        let has = (has.wait("sleep"), has);
        let elsewhere = Running::start(Command::new("sleep").arg("10000"));
        let elsewhere = (elsewhere.wait("sleep"), elsewhere);
        let told = about_mount(point.to_str().unwrap());
        let used = |pid: u32| {
            let uses = told["uses"].as_array().unwrap_or_else(|| panic!("no uses: {told:#}"));
            uses.iter().find(|u| u["pid"] == pid).map(|u| (u["how"].clone(), u["fds"].clone()))
        };
        assert_eq!(used(runs.0), Some((json!(["exe", "map"]), json!([]))), "{told:#}");
        assert_eq!(used(is_in.0), Some((json!(["cwd"]), json!([]))), "{told:#}");
        assert_eq!(used(has.0), Some((json!(["fd"]), json!([0]))), "{told:#}");
        assert_eq!((used(elsewhere.0), used(init)), (None, None), "{told:#}");
        assert!(pids(&told).is_superset(&[runs.0, is_in.0, has.0, init].into()), "{told:#}");
        let card = whose().arg(&point).run().stdout_str();
        for line in [format!("{}   busybox", runs.0), format!("{}   sleep", is_in.0)] {
            assert!(card.contains(&line), "{card}");
        }
        drop(runs);
        std::fs::remove_file(&program).unwrap();
    });
    cases.case("who only maps a file of a directory that is bound", || only_maps(&disk));
    cases.case("who uses it beside processes that hide it", || hidden_by_chroot(&disk));
    cases.case("a file by its number", || {
        let program = point.join("data/busybox");
        program::copy(whose_testkit::which("busybox").unwrap(), &program);
        let here = Running::start(Command::new(&program).args(["sleep", "10000"]));
        let here = (here.wait("busybox"), here);
        docker.cli(&["exec", "-d", &name, "/srv/busybox", "sleep", "10000"]);
        let meta = program.metadata().unwrap();
        let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
        procfs::wait_for("busybox", Duration::from_secs(10), || {
            let runs = |pid: &u32| {
                std::fs::metadata(format!("/proc/{pid}/exe"))
                    .is_ok_and(|m| (m.dev(), m.ino()) == (meta.dev(), meta.ino()))
            };
            Some(()).filter(|()| procfs::pids().iter().filter(|pid| runs(pid)).count() == 2)
        });
        for target in [
            format!("{major}:{minor}:{}", meta.ino()),
            format!("inode:{}:{}", meta.dev(), meta.ino()),
        ] {
            let told = answer(&target);
            assert_eq!(told["kind"], "inode", "{told:#}");
            assert_eq!(told["file"]["host"], program.to_str().unwrap(), "{told:#}");
            assert_eq!(names(&told), [name.clone()].into(), "{told:#}");
            let mapped = pids(&told);
            assert!(mapped.contains(&here.0) && mapped.len() == 2, "{told:#}");
        }
        let none = format!("{major}:{minor}:4000000");
        let run = whose().arg(&none).run().expect_code(1);
        assert!(run.stderr_str().contains(&format!("no file {none}")), "{}", run.story());
        std::fs::remove_file(&program).unwrap();
        let gone = format!("{major}:{minor}:{}", meta.ino());
        let run = whose().args(["--json", &gone]).run().expect_code(1);
        assert!(run.stderr_str().contains("has no name any more"), "{}", run.story());
        assert!(pids(&run.json()["answers"][0]).contains(&here.0), "{}", run.story());
        // Of a device that is mounted nowhere nothing is known.
        let run = whose().arg("250:77:5").run().expect_code(3);
        assert!(
            run.stderr_str().contains("no file system that is mounted here"),
            "{}",
            run.story()
        );
    });
    drop(docker);
    cases.finish();
}
