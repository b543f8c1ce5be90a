//! Daemons that are asked: what an ordinary user learns from a real one, and what happens when whoever
//! listens does not answer, answers anything, is someone else's, or would first have to be started.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test: a panic is its report, stderr its log"
)]

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use whose_live_tests::{alone, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::cgroup::{CgroupDir, mounts};
use whose_testkit::crowd::Crowd;
use whose_testkit::daemon::FakeDaemon;
use whose_testkit::docker::{Docker, IMAGE};
use whose_testkit::facts::Facts;
use whose_testkit::fixture::fake_id;
use whose_testkit::harness::{Run, Whose};
use whose_testkit::janitor::Janitor;
use whose_testkit::podman::Podman;
use whose_testkit::users::LabUser;
use whose_testkit::{procfs, require};

const STRANGER: u32 = 65534;

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, Permissions::from_mode(0o711)).unwrap();
}

/// As an ordinary user, who has this daemon in his environment.
fn asks(uid: u32, variable: &str, socket: &Path) -> Whose {
    whose().as_user(uid, uid).env(variable, format!("unix://{}", socket.display()))
}

fn answer(run: &Run) -> Value {
    run.json()["answers"][0].clone()
}

/// The evidence that a daemon gave.
fn heard(answer: &Value) -> Vec<(String, bool)> {
    let all = answer["evidence"].as_array().cloned().unwrap_or_default();
    let daemons = all.iter().filter(|e| e["source"] == "daemon");
    let one = |e: &Value| {
        let detail = e["detail"].as_str().unwrap_or_default().to_owned();
        (detail, e["agrees"] == true)
    };
    daemons.map(one).collect()
}

/// The classes of the gaps about daemons, wherever they are told.
fn daemon_gaps(run: &Run) -> BTreeSet<String> {
    let json = run.json();
    let all = json["gaps"].as_array().into_iter().flatten();
    let about = all.filter(|g| g["what"] == "daemon of an engine");
    about.map(|g| g["class"].as_str().unwrap().to_owned()).collect()
}

/// Docker's socket for a group of one.
fn docker_for(user: &LabUser) -> Docker {
    let docker = Docker::hybrid().unwrap_or_else(|e| panic!("{e}"));
    docker.image();
    open_to_all(docker.socket().parent().unwrap());
    chown(docker.socket(), None, Some(user.uid())).unwrap();
    std::fs::set_permissions(docker.socket(), Permissions::from_mode(0o660)).unwrap();
    docker
}

/// What the owner is by docker's own word.
fn same(facts: &mut Facts, owner: &Value, inspected: &Value) {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    facts.same("runtime", owner["runtime"].clone(), json!("docker"));
    facts.same("id", owner["id"].clone(), inspected["Id"].clone());
    let name = word(&inspected["Name"]);
    facts.same("name", word(&owner["name"]), name.trim_start_matches('/').to_owned());
    facts.same("image", owner["image"].clone(), inspected["Config"]["Image"].clone());
    facts.same("image_id", owner["image_id"].clone(), inspected["Image"].clone());
    facts.same("labels", owner["labels"].clone(), inspected["Config"]["Labels"].clone());
    facts.same("state", owner["state"].clone(), json!("running"));
    facts.same("init_pid", owner["init_pid"].clone(), inspected["State"]["Pid"].clone());
    facts.same("log", owner["log"].clone(), inspected["LogPath"].clone());
    let ms = |value: &Value| whose_core::state::docker::time(value.as_str()?);
    facts.holds("created", ms(&owner["created"]).is_some(), &owner["created"]);
    facts.same("created", ms(&owner["created"]), ms(&inspected["Created"]));
    facts.same("started", ms(&owner["started"]), ms(&inspected["State"]["StartedAt"]));
}

#[test]
fn docker_tells_those_whom_its_socket_lets() {
    if !require(&["root", "docker", "mount-namespace", "useradd", "strace"]) {
        return;
    }
    let _alone = alone();
    let user = LabUser::new().unwrap();
    let docker = docker_for(&user);
    let (web, made) = (unique("web"), unique("made"));
    let words = ["--label", "tier=front", "--label", "com.docker.compose.project=shop"];
    docker.run(&[&["--name", &web][..], &words, &[IMAGE, "sleep", "96001"]].concat());
    docker.create(&["--name", &made, IMAGE, "sleep", "96002"]);
    let inspected = docker.inspect(&web);
    let id = inspected["Id"].as_str().unwrap().to_owned();
    let init = docker.init_pid(&web).to_string();
    let his = || asks(user.uid(), "DOCKER_HOST", &docker.socket());
    let mut cases = Cases::of("docker-daemon");
    cases.case("an ordinary user of its group", || {
        let mut facts = Facts::about("a container, by the daemon");
        for target in [&init, &web, &id] {
            let run = his().args(["--json", target]).run().expect_code(0);
            let told = answer(&run);
            same(&mut facts, &told["owner"], &inspected);
            facts.same(
                "evidence",
                heard(&told),
                vec![(format!("docker's daemon calls it {web}"), true)],
            );
            facts.same("gaps", daemon_gaps(&run), BTreeSet::new());
            let gap = |g: &Value| g["what"] == "container description";
            let missing = told["gaps"].as_array().unwrap().iter().any(gap);
            facts.holds("described", !missing, &told["gaps"]);
        }
        facts.finish(40);
        let card = his().args([&init]).run().expect_code(0).stdout_str();
        for word in [web.as_str(), IMAGE, "project shop", "docker's daemon calls it"] {
            assert!(card.contains(word), "{word}\n{card}");
        }
        let ps = his().args(["ps", &init, "--no-headers", "-o", "owner,image,labels"]).run();
        let ps = ps.expect_code(0).stdout_str();
        assert!(ps.starts_with(&web) && ps.contains(IMAGE) && ps.contains("tier=front"), "{ps}");
        let ls = his().args(["ls", "--no-headers", "-o", "name,image"]).run();
        let ls = ls.expect_code(0).stdout_str();
        assert!(ls.lines().any(|l| l.starts_with(&web) && l.contains(IMAGE)), "{ls}");
        assert_eq!(his().args(["pids", &web]).run().expect_code(0).stdout_str().trim(), init);
        let none = his().args(["pids", &made]).run().expect_code(1).stderr_str();
        assert!(none.contains(&format!("{made} is created")), "{none}");
    });
    cases.case("by a context, and by no other machine's address", || {
        let dir = user.home().join(".docker");
        let name = "lab";
        let folder = sha256(name);
        let meta = dir.join("contexts/meta").join(folder);
        std::fs::create_dir_all(&meta).unwrap();
        let host = format!("unix://{}", docker.socket().display());
        let context = json!({"Name": name, "Endpoints": {"docker": {"Host": host}}});
        std::fs::write(meta.join("meta.json"), context.to_string()).unwrap();
        std::fs::write(dir.join("config.json"), r#"{"currentContext":"lab"}"#).unwrap();
        let by = |pairs: &[(&str, &str)]| {
            let home = whose().as_user(user.uid(), user.uid()).env("HOME", user.home());
            let run = pairs.iter().fold(home, |w, (k, v)| w.env(k, v));
            answer(&run.args(["--json", &init]).run().expect_code(0))["owner"]["name"].clone()
        };
        assert_eq!(by(&[]), web.as_str());
        assert_eq!(by(&[("DOCKER_CONTEXT", "lab")]), web.as_str());
        assert_eq!(by(&[("DOCKER_CONTEXT", "other")]), Value::Null);
        assert_eq!(by(&[("DOCKER_HOST", "tcp://127.0.0.1:1")]), Value::Null);
    });
    cases.case("a stranger", || {
        let run = asks(STRANGER, "DOCKER_HOST", &docker.socket()).args(["--json", &init]).run();
        let told = answer(&run.clone().expect_code(0));
        assert_eq!((&told["owner"]["name"], &told["owner"]["id"]), (&Value::Null, &json!(id)));
        assert_eq!((heard(&told), daemon_gaps(&run)), (vec![], BTreeSet::new()), "{told:#}");
        let gaps = told["gaps"].as_array().unwrap();
        assert!(gaps.iter().any(|g| g["what"] == "container description"), "{told:#}");
    });
    cases.case("root asks only when told to", || {
        let host = format!("unix://{}", docker.socket().display());
        let run = |daemon: &[&str]| {
            let whose = whose().env("DOCKER_HOST", &host).args(["--json", &init]);
            answer(&whose.args(daemon).run().expect_code(0))
        };
        let (files, both) = (run(&[]), run(&["--daemon"]));
        assert_eq!(heard(&files), vec![]);
        assert_eq!(heard(&both), [(format!("docker's daemon calls it {web}"), true)]);
        assert_eq!(files["owner"], both["owner"]);
        let trace = whose().via(["strace", "-f", "-qq", "-e", "trace=connect"]);
        let run = trace.env("DOCKER_HOST", &host).args([&init]).run().expect_code(0);
        assert!(!run.stderr_str().contains("connect("), "{}", run.story());
    });
    cases.case("doctor tells which can be asked", || {
        let socket = docker.socket().display().to_string();
        let daemon = |run: Run| {
            let report = run.expect_code(0).json();
            let all = report["daemons"].as_array().unwrap().clone();
            all.into_iter().find(|d| d["socket"] == socket.as_str()).expect("the daemon")
        };
        let user = daemon(his().args(["doctor", "--json"]).run());
        let pids = json!([docker.dockerd_pid()]);
        assert_eq!((&user["pids"], &user["containers"]), (&pids, &json!(2)));
        let root = whose().env("DOCKER_HOST", format!("unix://{socket}"));
        let root = daemon(root.args(["doctor", "--json"]).run());
        assert_eq!((&root["pids"], root.get("containers")), (&pids, None));
        let stranger = asks(STRANGER, "DOCKER_HOST", &docker.socket());
        let stranger = daemon(stranger.args(["doctor", "--json"]).run());
        assert_eq!(stranger["gap"]["class"], "forbidden", "{stranger:#}");
    });
    cases.case("a stopped daemon is waited for once", || {
        procfs::signal(docker.dockerd_pid(), Signal::STOP);
        let run = his().args(["--json", &init, &id, &init]).run();
        let list = his().args(["ls", "--json", "--timeout", "4"]).run();
        procfs::signal(docker.dockerd_pid(), Signal::CONT);
        let told = answer(&run.clone().expect_code(0));
        assert_eq!((&told["owner"]["id"], &told["owner"]["name"]), (&json!(id), &Value::Null));
        assert_eq!(daemon_gaps(&run), BTreeSet::from(["timed-out".into()]), "{}", run.story());
        let list = list.expect_code(0);
        assert_eq!(daemon_gaps(&list), BTreeSet::from(["timed-out".into()]), "{}", list.story());
        let rows = list.json()["containers"].as_array().unwrap().clone();
        assert!(rows.iter().any(|o| o["id"] == id.as_str()), "{rows:#?}");
        assert_eq!(answer(&his().args(["--json", &init]).run())["owner"]["name"], web.as_str());
    });
    drop(docker);
    cases.finish();
}

/// SHA-256 of a text, by another program than the one that is tested.
fn sha256(text: &str) -> String {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut command = Command::new("sha256sum");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sha256sum");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&out.stdout)[..64].to_owned()
}

/// A process in a cgroup that is Docker's by its name.
struct Contained {
    id: String,
    pid: String,
    _crowd: Crowd,
    _dirs: Vec<CgroupDir>,
    _janitor: Janitor,
}

impl Contained {
    fn start() -> Contained {
        let id = fake_id(unique("daemons"));
        let dirs: Vec<CgroupDir> =
            mounts().iter().map(|m| CgroupDir::make(m, &format!("docker/{id}"))).collect();
        let mut janitor = Janitor::start();
        dirs.iter().for_each(|dir| janitor.remove(dir));
        let mut crowd = Crowd::start();
        let pid = crowd.make("count=1 ns=pid,mnt", &dirs.iter().collect::<Vec<_>>());
        Contained { id, pid: pid.to_string(), _crowd: crowd, _dirs: dirs, _janitor: janitor }
    }

    /// What a stranger is told who has this daemon in his environment.
    fn told(&self, daemon: &FakeDaemon) -> Run {
        asks(STRANGER, "DOCKER_HOST", daemon.socket()).args(["--json", &self.pid]).run()
    }

    /// A list in Docker's words that has the container.
    fn list(&self, name: &str) -> String {
        json!([{"Id": self.id, "Names": [format!("/{name}")], "Image": "app:1",
                "ImageID": format!("sha256:{}", "a".repeat(64)), "Labels": {"a": "b"},
                "State": "running"}])
        .to_string()
    }
}

/// The answer comes all the same, with this gap about the daemon.
#[track_caller]
fn gap_only(contained: &Contained, run: Run, class: &str) {
    let story = run.story();
    let told = answer(&run.clone().expect_code(0));
    assert_eq!(told["owner"]["id"], contained.id.as_str(), "{story}");
    assert_eq!(told["owner"]["name"], Value::Null, "{story}");
    assert_eq!(heard(&told), vec![], "{story}");
    assert_eq!(daemon_gaps(&run), BTreeSet::from([class.to_owned()]), "{story}");
    let lines = run.stderr_str().lines().count();
    assert_eq!(lines, 1, "{story}");
}

#[test]
fn whoever_listens_may_answer_anything() {
    if !require(&["root", "cc", "setpriv"]) {
        return;
    }
    let _alone = alone();
    let contained = Contained::start();
    let mut cases = Cases::of("daemons");
    for (mode, class) in [
        ("silent", "timed-out"),
        ("full", "timed-out"),
        ("drip", "timed-out"),
        ("garbage", "malformed"),
        ("close", "malformed"),
        ("endless", "malformed"),
        ("huge", "malformed"),
        ("deep", "malformed"),
    ] {
        cases.case(mode, || {
            let daemon = FakeDaemon::start("dockerd", &[mode], None);
            gap_only(&contained, contained.told(&daemon), class);
        });
    }
    cases.case("one that fails", || {
        let daemon = FakeDaemon::start("dockerd", &["error"], None);
        let run = contained.told(&daemon).expect_code(0);
        assert_eq!(answer(&run)["owner"]["name"], Value::Null, "{}", run.story());
        let strict = asks(STRANGER, "DOCKER_HOST", daemon.socket());
        let run = strict.args(["--json", "--daemon", &contained.pid]).run().expect_code(0);
        assert_eq!(daemon_gaps(&run), BTreeSet::from(["unsupported".into()]), "{}", run.story());
    });
    cases.case("a name with control characters", || {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), contained.list("a\u{1b}[2Jb")).unwrap();
        let path = file.path().to_str().unwrap();
        let daemon = FakeDaemon::start("dockerd", &["tell", path], None);
        let told = asks(STRANGER, "DOCKER_HOST", daemon.socket());
        let ps = told.args(["ps", &contained.pid, "-o", "owner"]).run().expect_code(0);
        assert!(!ps.stdout.contains(&0x1b), "{}", ps.story());
        assert!(ps.stdout_str().contains("[2Jb"), "{}", ps.story());
    });
    cases.finish();
}

#[test]
fn only_ones_own_and_roots_daemons_count() {
    if !require(&["root", "cc", "setpriv", "useradd"]) {
        return;
    }
    let _alone = alone();
    let contained = Contained::start();
    let (alice, bob) = (LabUser::new().unwrap(), LabUser::new().unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), contained.list("evil")).unwrap();
    std::fs::set_permissions(file.path(), Permissions::from_mode(0o644)).unwrap();
    let words = ["tell", file.path().to_str().unwrap()];
    let mut cases = Cases::of("owners");
    cases.case("root's own", || {
        let mut daemon = FakeDaemon::start("dockerd", &words, None);
        let told = asks(STRANGER, "DOCKER_HOST", daemon.socket());
        let ps = told.args(["ps", "-o", "name,image", &contained.pid]).run().expect_code(0);
        assert!(ps.stdout_str().contains("evil app:1"), "{}", ps.story());
        assert_eq!(daemon.connections(), 1);
    });
    cases.case("another user's is not connected to", || {
        let mut daemon = FakeDaemon::start("dockerd", &words, Some(alice.uid()));
        for uid in [0, bob.uid()] {
            let whose = if uid == 0 { whose() } else { whose().as_user(uid, uid) };
            let whose = whose.env("DOCKER_HOST", daemon.address()).arg("--daemon");
            let run = whose.args(["--json", &contained.pid]).run().expect_code(0);
            assert_eq!(answer(&run)["owner"]["name"], Value::Null, "{}", run.story());
            let gaps = daemon_gaps(&run);
            assert!(gaps.contains("forbidden"), "{gaps:?} {}", run.story());
        }
        assert_eq!(daemon.connections(), 0);
    });
    cases.case("his own has no say about root's containers", || {
        let daemon = FakeDaemon::start("dockerd", &words, Some(alice.uid()));
        let whose = asks(alice.uid(), "DOCKER_HOST", daemon.socket());
        let run = whose.args(["--json", &contained.pid]).run().expect_code(0);
        assert_eq!(answer(&run)["owner"]["name"], Value::Null, "{}", run.story());
    });
    cases.case("who listens is who runs, or nothing is said", || {
        // Alice's dockerd says that it has the socket which her other program listens at.
        let mut other = FakeDaemon::start("other", &words, Some(alice.uid()));
        let socket = other.socket().to_owned();
        let link = other.dir().join("run/link.sock");
        let claims = FakeDaemon::start("dockerd", &words, Some(alice.uid()));
        std::fs::hard_link(&socket, &link).unwrap();
        std::fs::remove_file(claims.socket()).unwrap();
        std::fs::hard_link(&socket, claims.socket()).ok();
        let whose = asks(alice.uid(), "DOCKER_HOST", claims.socket()).arg("--daemon");
        let run = whose.args(["--json", &contained.pid]).run().expect_code(0);
        assert_eq!(answer(&run)["owner"]["name"], Value::Null, "{}", run.story());
        assert!(!daemon_gaps(&run).is_empty(), "{}", run.story());
        assert!(other.connections() <= 1);
    });
    cases.finish();
}

/// systemd listens for a daemon until somebody connects, and then starts it.
#[test]
fn nothing_is_started_by_asking() {
    if !require(&["root", "cc"]) {
        return;
    }
    let _alone = alone();
    let contained = Contained::start();
    let mut cases = Cases::of("activation");
    for daemon in [&[][..], &["--daemon"]] {
        cases.case(&format!("{daemon:?}"), || {
            let mut listener = FakeDaemon::start("systemd", &["silent"], None);
            let whose = asks(STRANGER, "DOCKER_HOST", listener.socket()).args(daemon);
            let run = whose.args(["--json", &contained.pid]).run().expect_code(0);
            assert_eq!(answer(&run)["owner"]["id"], contained.id.as_str(), "{}", run.story());
            let gaps = daemon_gaps(&run);
            assert_eq!(gaps.contains("gone"), !daemon.is_empty(), "{gaps:?}");
            assert_eq!(listener.connections(), 0);
            let report = asks(STRANGER, "DOCKER_HOST", listener.socket());
            let report = report.args(["doctor"]).run().expect_code(0).stdout_str();
            assert!(report.contains("no running dockerd is shown to listen there"), "{report}");
            assert_eq!(listener.connections(), 0);
        });
    }
    cases.case("a daemon whose arguments name a socket that it did not make", || {
        let mut listener = FakeDaemon::start("systemd", &["silent"], None);
        let claims = FakeDaemon::start("dockerd", &["silent"], None);
        let old = ["-d", "1 minute ago", listener.socket().to_str().unwrap()];
        assert!(std::process::Command::new("touch").args(old).status().unwrap().success());
        std::fs::remove_file(claims.socket()).unwrap();
        std::fs::hard_link(listener.socket(), claims.socket()).unwrap();
        let whose = whose().env("DOCKER_HOST", claims.address()).arg("--daemon");
        let run = whose.args(["--json", &contained.pid]).run().expect_code(0);
        assert!(daemon_gaps(&run).contains("gone"), "{}", run.story());
        assert_eq!(listener.connections(), 0);
    });
    cases.finish();
}

/// Anybody may start a program that has root's rights, under any name.
#[test]
fn a_setuid_program_is_not_roots_daemon() {
    if !require(&["root", "cc", "setpriv", "useradd"]) {
        return;
    }
    let _alone = alone();
    let contained = Contained::start();
    let alice = LabUser::new().unwrap();
    let mut daemon = FakeDaemon::start_setuid("dockerd", &["silent"], alice.uid());
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    assert!(status.contains(&format!("\nUid:\t{}\t0\t", alice.uid())), "{status}");
    let whose = whose().env("DOCKER_HOST", daemon.address()).arg("--daemon");
    let run = whose.args(["--json", &contained.pid]).run().expect_code(0);
    assert!(daemon_gaps(&run).contains("gone"), "{}", run.story());
    assert_eq!(daemon.connections(), 0);
}

#[test]
fn podman_tells_as_a_service() {
    if !require(&["root", "podman", "conmon", "runc", "busybox", "mount-namespace", "useradd"]) {
        return;
    }
    let _alone = alone();
    let mut cases = Cases::of("podman-daemon");
    let image = "localhost/whose-lab:1";
    for rootless in [false, true] {
        cases.case(if rootless { "a user's own" } else { "root's, to an ordinary user" }, || {
            let options = Podman::options();
            let options = if rootless { options.rootless().driver("vfs") } else { options };
            let podman = options.start().unwrap_or_else(|e| panic!("{e}"));
            podman.layered_image_with(image, 2, |_, _| ());
            let web = unique("web");
            podman.run(&[
                "--name",
                &web,
                "--label",
                "a=b",
                image,
                "/bin/busybox",
                "sleep",
                "96011",
            ]);
            let inspected = podman.inspect(&web);
            let init = podman.init_pid(&web).to_string();
            let dir = tempfile::tempdir().unwrap();
            open_to_all(dir.path());
            if let Some(user) = podman.user() {
                chown(dir.path(), Some(user.uid()), None).unwrap();
            }
            let socket = dir.path().join("podman.sock");
            let address = format!("unix://{}", socket.display());
            let mut service =
                podman.command(&["system", "service", "-t", "0", &address]).spawn().unwrap();
            procfs::wait_for("the service", Duration::from_secs(20), || {
                socket.exists().then_some(())
            });
            std::fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
            let uid = podman.user().map_or(STRANGER, LabUser::uid);
            let whose = asks(uid, "CONTAINER_HOST", &socket).args(["--daemon", "--json", &init]);
            let whose = match podman.user() {
                Some(user) => whose.env("HOME", user.home()),
                None => whose,
            };
            let run = whose.run();
            procfs::signal(service.id(), Signal::TERM);
            service.wait().unwrap();
            let told = answer(&run.expect_code(0));
            let mut facts = Facts::about("a container of podman's, by its service");
            let owner = &told["owner"];
            facts.same("id", owner["id"].clone(), inspected["Id"].clone());
            facts.same("name", owner["name"].clone(), json!(web));
            facts.same("image", owner["image"].clone(), inspected["ImageName"].clone());
            let id = format!("sha256:{}", inspected["Image"].as_str().unwrap());
            facts.same("image_id", owner["image_id"].clone(), json!(id));
            facts.same("labels", owner["labels"].clone(), json!({"a": "b"}));
            facts.same("state", owner["state"].clone(), json!("running"));
            facts.same(
                "evidence",
                heard(&told),
                vec![(format!("podman's daemon calls it {web}"), true)],
            );
            facts.finish(7);
        });
    }
    cases.finish();
}
