//! The files of containers, to the host and back: random trees, changed while the container runs, each path
//! judged by what the host's file holds and by where the storage driver keeps it.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use whose_live_tests::disk::Disk;
use whose_live_tests::paths::{
    Container, Dice, Keeps, LAYERS, changes, fill, judge, judge_by_copy, judge_hostless,
    judge_stopped, judge_stopped_forward, shadowed, told_running,
};
use whose_live_tests::podman::NEEDS as PODMAN;
use whose_live_tests::{alone, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::{Docker, View};
use whose_testkit::podman::{Podman, PodmanOptions};
use whose_testkit::require;

const IMAGE: &str = "localhost/lab-path:1";
fn suite(driver: &'static str, data: Option<&Path>) {
    let mut options = Docker::options(View::V2).storage_driver(driver);
    if let Some(data) = data {
        options = options.arg(format!("--data-root={}", data.display()));
    }
    let docker = options.start().unwrap_or_else(|e| panic!("{e}"));
    docker.layered_image_with(IMAGE, LAYERS, fill);
    let (changed, clean) = (unique("changed"), unique("clean"));
    for name in [&changed, &clean] {
        docker.create(&["--name", name, IMAGE, "sleep", "10000"]);
        docker.cli(&["start", name]);
    }
    let of = |name: &str| Container::of(&docker.inspect(name), name, docker.init_pid(name));
    let (changed, clean) = (of(&changed), of(&clean));
    let script = changes(&changed.root(), &mut Dice(4711));
    docker.cli(&["exec", &changed.name, "/bin/sh", "-c", &script]);
    let mut cases = Cases::of(format!("path-{driver}"));
    for (one, other) in [(&changed, &clean), (&clean, &changed)] {
        cases.case(&format!("random paths of {}", one.name), || judge(one, other, &mut Dice(42)));
    }
    cases.case("a file that lies under another", || shadowed(&changed, &clean));
    let before = told_running(&changed);
    // Some other container still leads to the engine, which has no usual place.
    docker.run(&["--name", &unique("other"), IMAGE, "sleep", "10000"]);
    docker.cli(&["kill", &changed.name, &clean.name]);
    cases.case("the same when it has ended", || judge_stopped(&before));
    cases.finish();
}

fn podman_suite(what: &str, driver: &str, options: PodmanOptions) {
    let podman = options.driver(driver).start().unwrap_or_else(|e| panic!("{e}"));
    podman.layered_image_with(IMAGE, LAYERS, fill);
    let names = ["changed", "clean", "other"].map(unique);
    for name in &names {
        podman.run(&["--name", name, IMAGE, "/bin/busybox", "sleep", "10000"]);
    }
    let of = |name: &str| Container::of(&podman.inspect(name), name, podman.init_pid(name));
    let (changed, clean) = (of(&names[0]), of(&names[1]));
    let script = changes(&changed.root(), &mut Dice(4711));
    podman.cli(&["exec", &changed.name, "/bin/sh", "-c", &script]);
    let mut cases = Cases::of(format!("path-podman-{what}"));
    for (one, other) in [(&changed, &clean), (&clean, &changed)] {
        cases.case(&format!("random paths of {}", one.name), || judge(one, other, &mut Dice(42)));
    }
    cases.case("a file that lies under another", || shadowed(&changed, &clean));
    let before = told_running(&changed);
    podman.cli(&["kill", &changed.name, &clean.name]);
    cases.case("the same when it has ended", || judge_stopped(&before));
    cases.finish();
}

#[test]
fn paths_of_podman() {
    if require(PODMAN) {
        let _alone = alone();
        podman_suite("overlay", "overlay", Podman::options());
        podman_suite("vfs", "vfs", Podman::options());
    }
}

#[test]
fn paths_of_a_users_podman() {
    if require(PODMAN) {
        let _alone = alone();
        podman_suite("rootless-overlay", "overlay", Podman::options().rootless());
        podman_suite("rootless-vfs", "vfs", Podman::options().rootless());
    }
}

#[test]
fn paths_of_podman_on_fuse_overlayfs() {
    if require(PODMAN) && require(&["fuse", "fuse-overlayfs"]) {
        let _alone = alone();
        let options = Podman::options().mount_program("/usr/bin/fuse-overlayfs");
        podman_suite("fuse", "overlay", options);
    }
}

/// What a container shows below `/t`, unpacked in a new directory: written down by a process in it.
fn copy_of(podman: &Podman, name: &str, dir: &Path) -> PathBuf {
    let copy = dir.join(name);
    std::fs::create_dir(&copy).unwrap();
    let tar = dir.join(format!("{name}.tar"));
    let words = ["exec", name, "/bin/busybox", "tar", "cf", "-", "t"];
    let mut packing = podman.command(&words);
    let packed = packing.stdout(std::fs::File::create(&tar).unwrap()).status().unwrap();
    assert!(packed.success());
    let mut command = Command::new("tar");
    let unpacked = command.arg("-xf").arg(&tar).arg("-C").arg(&copy).status().unwrap();
    assert!(unpacked.success());
    copy
}

/// What a user's own server shows it refuses to root (fuse(4), allow_other): the layers tell.
#[test]
fn paths_of_a_users_podman_on_fuse_overlayfs() {
    if !require(PODMAN) || !require(&["fuse", "fuse-overlayfs"]) {
        return;
    }
    let _alone = alone();
    let options = Podman::options().rootless().mount_program("/usr/bin/fuse-overlayfs");
    let podman = options.start().unwrap_or_else(|e| panic!("{e}"));
    podman.layered_image_with(IMAGE, LAYERS, fill);
    let names = ["changed", "clean", "other"].map(unique);
    let temp = tempfile::tempdir().unwrap();
    let bound = temp.path().join("bound");
    std::fs::create_dir(&bound).unwrap();
    for dir in [temp.path(), &bound] {
        std::fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(bound.join("file"), "bound").unwrap();
    let bind = format!("{}:/opt/in/bound", bound.display());
    for name in &names {
        let options = ["--name", name, "--privileged", "-v", &bind];
        podman.run(&[&options[..], &[IMAGE, "/bin/busybox", "sleep", "10000"]].concat());
    }
    let of = |name: &String| Container {
        name: name.clone(),
        pid: podman.init_pid(name),
        keeps: Keeps::Tree,
    };
    let (changed, clean) = (of(&names[0]), of(&names[1]));
    assert!(std::fs::read_dir(changed.root()).is_err(), "root may look at it after all");
    let before = copy_of(&podman, &clean.name, temp.path());
    let script = changes(&before, &mut Dice(4711));
    podman.cli(&["exec", &changed.name, "/bin/sh", "-c", &script]);
    let after = copy_of(&podman, &changed.name, temp.path());
    let (changed, clean) = ((&changed, after.as_path()), (&clean, before.as_path()));
    let mut cases = Cases::of("path-podman-rootless-fuse");
    let mut told = Vec::new();
    for (one, other) in [(changed, clean), (clean, changed)] {
        cases.case(&format!("random paths of {}", one.0.name), || {
            told.extend(judge_by_copy(one, other, podman.graph_root()));
        });
    }
    cases.case("what lies over its files", || {
        let target = format!("{}:/proc/uptime", changed.0.name);
        let run = whose().args(["path", &target]).run();
        assert_eq!((run.code, run.stdout_str()), (Some(1), String::new()), "{}", run.story());
    });
    cases.case("what is bound, and what lies over that", || {
        let file = bound.join("file");
        let who_has = || {
            let run = whose().arg("path").arg(&file).run().expect_code(0);
            let lines: Vec<String> = run.stdout_str().lines().map(str::to_owned).collect();
            assert!(lines.iter().all(|line| line.ends_with(":/opt/in/bound/file")), "{lines:?}");
            let has = |name: &String| lines.iter().any(|line| line.contains(name.as_str()));
            names.iter().map(has).collect::<Vec<bool>>()
        };
        assert_eq!(who_has(), [true, true, true]);
        let mount = ["/bin/busybox", "mount", "-t", "tmpfs", "over"];
        // Over what is bound, and over a directory above it.
        for (name, at) in [(&names[0], "/opt/in/bound"), (&names[1], "/opt")] {
            podman.cli(&[&["exec", "--privileged", name], &mount[..], &[at]].concat());
        }
        assert_eq!(who_has(), [false, false, true]);
    });
    podman.cli(&["kill", &changed.0.name, &clean.0.name]);
    cases.case("the same when they have ended", || judge_stopped(&told));
    cases.finish();
}

#[test]
fn paths_of_podman_on_btrfs() {
    if require(PODMAN) && require(&["btrfs", "loop", "mkfs.btrfs"]) {
        let _alone = alone();
        let Some(disk) = Disk::btrfs() else { return };
        let options = Podman::options().graph_root(disk.point().join("root"));
        podman_suite("btrfs", "btrfs", options);
    }
}

#[test]
fn paths_on_fuse_overlayfs() {
    if require(NEEDS) && require(&["fuse", "fuse-overlayfs"]) {
        let _alone = alone();
        suite("fuse-overlayfs", None);
    }
}

const NEEDS: &[&str] = &["root", "docker", "cgroup-v2", "mount-namespace"];

#[test]
fn paths_on_overlay2() {
    if require(NEEDS) {
        let _alone = alone();
        suite("overlay2", None);
    }
}

#[test]
fn paths_on_vfs() {
    if require(NEEDS) {
        let _alone = alone();
        suite("vfs", None);
    }
}

#[test]
fn paths_on_btrfs() {
    if require(NEEDS) && require(&["btrfs", "loop", "mkfs.btrfs"]) {
        let _alone = alone();
        let Some(disk) = Disk::btrfs() else { return };
        suite("btrfs", Some(&disk.point().join("docker")));
    }
}

/// Random trees in what is mounted in a container, and not in its layers.
fn mounted_suite(what: &str) {
    let docker = Docker::options(View::V2).storage_driver("overlay2").start();
    let docker = docker.unwrap_or_else(|e| panic!("{e}"));
    docker.layered_image_with(IMAGE, LAYERS, fill);
    let dirs = tempfile::tempdir().unwrap();
    let start = |word: &str| -> Container {
        let (name, dir) = (unique(word), dirs.path().join(word));
        let option = match what {
            "bind" => {
                std::fs::create_dir(&dir).unwrap();
                (0..LAYERS).for_each(|layer| fill(layer, &dir));
                [String::from("-v"), format!("{}:/t", dir.join("t").display())]
            }
            // The engine fills it with what the image has there.
            "volume" => ["-v".into(), format!("{name}-files:/t")],
            _ => ["--tmpfs".into(), "/t".into()],
        };
        let words = ["--name", &name, &option[0], &option[1], IMAGE, "sleep", "10000"];
        docker.create(&words);
        docker.cli(&["start", &name]);
        if what == "tmpfs" {
            let script = "for d in plain 'with space'; do mkdir -p \"/t/$d\"; \
                          for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo $d $n > \"/t/$d/$n\"; done; done";
            docker.cli(&["exec", &name, "/bin/sh", "-c", script]);
        }
        let pid = docker.init_pid(&name);
        Container { name, pid, keeps: Keeps::Tree }
    };
    let (changed, clean) = (start("changed"), start("clean"));
    let mut cases = Cases::of(format!("path-{what}"));
    if what == "tmpfs" {
        cases.case("files in memory", || judge_hostless(&changed, None));
        return cases.finish();
    }
    let script = changes(&changed.root(), &mut Dice(4711));
    docker.cli(&["exec", &changed.name, "/bin/sh", "-c", &script]);
    for (one, other) in [(&changed, &clean), (&clean, &changed)] {
        cases.case(&format!("random paths of {}", one.name), || judge(one, other, &mut Dice(42)));
    }
    let before = told_running(&changed);
    docker.run(&["--name", &unique("other"), IMAGE, "sleep", "10000"]);
    docker.cli(&["kill", &changed.name, &clean.name]);
    cases.case("the same when it has ended", || judge_stopped_forward(&before));
    cases.finish();
}

#[test]
fn paths_of_binds_volumes_and_memory() {
    if require(NEEDS) {
        let _alone = alone();
        for what in ["bind", "volume", "tmpfs"] {
            mounted_suite(what);
        }
    }
}

/// What `whose path` prints, one line.
fn path_of(target: &str) -> String {
    let run = whose().args(["path", target]).run().expect_code(0);
    let text = run.stdout_str();
    assert_eq!(text.lines().count(), 1, "{}", run.story());
    text.trim_end_matches('\n').to_owned()
}

fn stderr_of(target: &str, code: i32) -> String {
    let run = whose().args(["path", target]).run().expect_code(code);
    assert_eq!(run.stdout_str(), "", "{}", run.story());
    run.stderr_str()
}

#[test]
fn what_is_mounted_in_a_container() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let docker = Docker::options(View::V2).storage_driver("overlay2").start();
    let docker = docker.unwrap_or_else(|e| panic!("{e}"));
    docker.image();
    let bound = tempfile::tempdir().unwrap();
    let bound = bound.path();
    std::fs::create_dir(bound.join("sub")).unwrap();
    for name in ["file", "sub/file"] {
        std::fs::write(bound.join(name), name).unwrap();
    }
    symlink("/etc", bound.join("escape")).unwrap();
    symlink("loop", bound.join("loop")).unwrap();
    let (name, volume) = (unique("mounted"), unique("vol"));
    let bind = format!("{}:/srv", bound.display());
    let options = ["--name", &name, "-v", &bind, "-v", &format!("{volume}:/vol")];
    let image = whose_testkit::docker::IMAGE;
    let id = docker.create(&[&options[..], &["--tmpfs", "/mem", image, "sleep", "10000"]].concat());
    docker.cli(&["start", &name]);
    docker.cli(&[
        "exec",
        &name,
        "/bin/sh",
        "-c",
        "echo x > /vol/db; echo x > /mem/x; ln /vol/db /vol/other",
    ]);
    let at = |path: &str| format!("{name}:{path}");
    let mut cases = Cases::of("path-mounted");
    cases.case("a bind mount, and back", || {
        for (inside, host) in
            [("/srv/file", "file"), ("/srv/sub/file", "sub/file"), ("/srv/sub", "sub")]
        {
            assert_eq!(path_of(&at(inside)), bound.join(host).to_str().unwrap());
        }
        assert_eq!(path_of(&at("/srv")), bound.to_str().unwrap());
        for (host, inside) in [("file", "/srv/file"), ("sub", "/srv/sub")] {
            let host = bound.join(host);
            assert_eq!(path_of(host.to_str().unwrap()), at(inside));
            let card = whose().arg(&host).run().expect_code(0).stdout_str();
            assert!(card.contains(&format!("  used by    {name}   docker   running")), "{card}");
            let told = whose_live_tests::answer(host.to_str().unwrap());
            assert_eq!(told["owners"][0]["name"], json!(name), "{told:#}");
            assert_eq!(told["evidence"][0]["detail"], json!(format!("{name} has it at {inside}")));
        }
        let other = tempfile::tempdir().unwrap();
        let said = stderr_of(other.path().to_str().unwrap(), 1);
        assert!(said.contains("is in no container, as far as is known"), "{said}");
    });
    cases.case("a volume, and back", || {
        for file in ["db", "other"] {
            let host = docker.data_root().join(format!("volumes/{volume}/_data/{file}"));
            let host = host.to_str().unwrap();
            assert_eq!(path_of(&at(&format!("/vol/{file}"))), host);
            assert_eq!(path_of(host), at(&format!("/vol/{file}")));
        }
        let run = whose().args(["path", "--json", &at("/vol/db")]).run().expect_code(0).json();
        let run = run["answers"][0].clone();
        assert_eq!(run["file"]["role"], "volume", "{run:#}");
        assert_eq!((&run["kind"], &run["owner"]["name"]), (&json!("path"), &json!(name)));
    });
    cases.case("what the engine binds", || {
        let host = docker.data_root().join(format!("containers/{id}/hosts"));
        assert_eq!(path_of(&at("/etc/hosts")), host.to_str().unwrap());
        assert_eq!(path_of(host.to_str().unwrap()), at("/etc/hosts"));
    });
    cases.case("links lead nowhere but inside", || {
        // The container's /etc/hosts, and not the host's.
        let host = docker.data_root().join(format!("containers/{id}/hosts"));
        assert_eq!(path_of(&at("/srv/escape/hosts")), host.to_str().unwrap());
        assert!(
            stderr_of(&at("/srv/loop"), 3).contains("links"),
            "{}",
            stderr_of(&at("/srv/loop"), 3)
        );
        assert!(stderr_of(&at("/srv/escape/nothing"), 1).contains("has no"));
    });
    cases.case("what no file of the host is", || {
        let said = stderr_of(&at("/mem/x"), 1);
        assert!(said.contains("/proc/") && said.contains("/root/mem/x opens it"), "{said}");
        let said = stderr_of(&at("/etc"), 1);
        assert!(said.contains("merges this directory from 2 layers"), "{said}");
        stderr_of(&at("/proc/self/maps"), 1);
        assert!(stderr_of(&at("/nothing"), 1).contains("has no /nothing"));
    });
    cases.case("by PID, card and JSON", || {
        let pid = docker.init_pid(&name);
        assert_eq!(path_of(&format!("{pid}:/srv/file")), bound.join("file").to_str().unwrap());
        let card = whose().arg(at("/srv/file")).run().expect_code(0).stdout_str();
        let host = bound.join("file").display().to_string();
        assert!(card.contains(&format!("  on host    {host}\n             volume\n")), "{card}");
        assert!(card.contains(&format!("  container  {name}   docker   running")), "{card}");
        let card = whose().arg(at("/mem/x")).run().expect_code(0).stdout_str();
        let line = format!("  on host    no file\n             /proc/{pid}/root/mem/x opens it\n");
        assert!(card.contains(&line), "{card}");
        let card = whose().arg(at("/etc")).run().expect_code(0).stdout_str();
        let line = "  on host    no file: the overlay merges this directory from 2 layers\n";
        assert!(card.contains(line), "{card}");
    });
    cases.case("an ordinary user", || {
        let run = whose().as_user(65534, 65534).args(["path", &at("/srv/file")]).run();
        assert!(run.code == Some(3) || run.code == Some(1), "{}", run.story());
        assert_eq!(run.stdout_str(), "");
        let pid = docker.init_pid(&name);
        let run = whose()
            .as_user(65534, 65534)
            .args(["path", &format!("{pid}:/srv/file")])
            .run()
            .expect_code(3);
        assert!(run.stderr_str().contains("permission denied"), "{}", run.story());
        // Who may not look into a container is told by its table of mounts what is bound there.
        std::fs::set_permissions(bound, Permissions::from_mode(0o755)).unwrap();
        let run = whose().as_user(65534, 65534).arg("path").arg(bound.join("file")).run();
        assert_eq!(run.stdout_str(), format!("{id}:/srv/file\n"), "{}", run.story());
        let run = whose().as_user(65534, 65534).arg("path").arg(bound.join("sub")).run();
        assert_eq!(run.stdout_str(), format!("{id}:/srv/sub\n"), "{}", run.story());
    });
    docker.run(&["--name", &unique("other"), image, "sleep", "10000"]);
    docker.cli(&["kill", &name]);
    cases.case("when it has ended", || {
        for (inside, host) in
            [("/srv/file", "file"), ("/srv/sub", "sub"), ("/srv/sub/../file", "file")]
        {
            assert_eq!(path_of(&at(inside)), bound.join(host).to_str().unwrap());
        }
        for (host, inside) in [("file", "/srv/file"), ("sub", "/srv/sub")] {
            assert_eq!(path_of(bound.join(host).to_str().unwrap()), at(inside));
            let told = whose_live_tests::answer(bound.join(host).to_str().unwrap());
            assert_eq!(told["owners"][0]["state"], json!("exited"), "{told:#}");
        }
        let volumes = docker.data_root().join(format!("volumes/{volume}/_data/db"));
        assert_eq!(path_of(&at("/vol/db")), volumes.to_str().unwrap());
        let hosts = docker.data_root().join(format!("containers/{id}/hosts"));
        assert_eq!(path_of(&at("/srv/escape/hosts")), hosts.to_str().unwrap());
        assert!(stderr_of(&at("/srv/loop"), 3).contains("links in a circle"));
        let said = stderr_of(&at("/srv/escape/nothing"), 1);
        assert!(said.contains("is exited"), "{said}");
        let run = whose().args(["path", &at("/bin/sh")]).run().expect_code(0);
        assert!(run.stdout_str().trim_end().ends_with("/diff/bin/busybox"), "{}", run.story());
        assert!(run.stderr_str().contains("by its engine's state"), "{}", run.story());
    });
    cases.finish();
}
