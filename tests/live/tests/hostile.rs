//! What a hostile container, or bad luck, can do to `/proc`: arguments that can't be read, PIDs
//! that change hands, zombies. No engine is needed.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use whose_live_tests::{alone, pid_of, whose};
use whose_testkit::cases::Cases;
use whose_testkit::cgroup::{CgroupDir, v1_mount, v2_mount};
use whose_testkit::fixture::fake_id;
use whose_testkit::harness::Run;
use whose_testkit::hostile::{ArgvOnFuse, ReusePid, Zombie};
use whose_testkit::{procfs, require, skip};

/// The time-out given to the command, and what it may take on top.
const TIMEOUT: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(1);

/// An ordinary process to be found in the same answers; killed when dropped.
struct Neighbour(Child);

impl Neighbour {
    fn start() -> Neighbour {
        let child = Command::new("sleep").arg("4242").stdin(Stdio::null()).spawn();
        let child = child.expect("starting sleep");
        let pid = child.id();
        procfs::wait_for("the exec", Duration::from_secs(5), || {
            (procfs::comm(pid).as_deref() == Some("sleep")).then_some(())
        });
        Neighbour(child)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn in_time(run: &Run) {
    assert!(run.elapsed <= TIMEOUT + GRACE, "it took too long\n{}", run.story());
    assert!(!run.pipes_held, "something it left behind holds its output\n{}", run.story());
}

fn timed_out(gaps: &Value, pid: u32) -> bool {
    gaps.as_array().into_iter().flatten().any(|gap| {
        let about = format!("{} {}", gap["what"], gap["path"]);
        gap["class"] == "timed-out" && about.contains(&pid.to_string())
    })
}

#[test]
fn arguments_that_can_not_be_read_stop_nobody() {
    if !require(&["root", "cc", "fuse", "mount-namespace"]) {
        return;
    }
    let _alone = alone();
    let neighbour = Neighbour::start();
    let near = neighbour.0.id();
    let trap = match ArgvOnFuse::start("tk-stuck") {
        Ok(trap) => trap,
        Err(why) => return skip("fuse", &why),
    };
    let stuck = trap.pid();
    let mut cases = Cases::of("argv-on-fuse");
    cases.case("ps", || {
        let args = ["ps", "-o", "pid,comm,owner,args", "--json", "--timeout", "2"];
        let run = whose().args(args).run();
        in_time(&run);
        let run = run.expect_code(0);
        let json = run.json();
        let rows = json["rows"].as_array().cloned().unwrap_or_default();
        let row = |pid| rows.iter().find(|r| pid_of(&r["process"]["pid"]) == Some(pid));
        let row_of = |pid| row(pid).unwrap_or_else(|| panic!("no row for {pid}\n{}", run.story()));
        let process = &row_of(stuck)["process"];
        assert_eq!(process["comm"], "tk-stuck");
        assert_eq!(process.get("args"), Some(&Value::Null), "{process:#}");
        assert!(timed_out(&json["gaps"], stuck), "no timed-out gap: {:#}", json["gaps"]);
        assert_eq!(row_of(near)["process"]["args"], serde_json::json!(["sleep", "4242"]));
        for other in &rows {
            let pid = pid_of(&other["process"]["pid"]);
            let whole = pid == Some(stuck) || other["process"]["args"].is_array();
            // A row may lack its arguments only if that process ended meanwhile.
            assert!(whole || pid.and_then(procfs::state).is_none_or(|s| s == 'Z'), "{other:#}");
        }
    });
    cases.case("json", || {
        let words = [stuck.to_string(), near.to_string()];
        let run = whose().args(["--timeout", "2", "--json"]).args(&words).run();
        in_time(&run);
        let run = run.expect_code(0);
        let told = run.json()["answers"].clone();
        assert_eq!(pid_of(&told[0]["process"]["pid"]), Some(stuck), "{}", run.story());
        assert_eq!(told[0]["process"]["comm"], "tk-stuck", "{}", run.story());
        assert_eq!(told[0]["process"].get("args"), Some(&Value::Null), "{}", run.story());
        assert!(timed_out(&told[0]["gaps"], stuck), "{}", run.story());
        assert_eq!(told[1]["process"]["args"], serde_json::json!(["sleep", "4242"]));
    });
    cases.case("card", || {
        let run = whose().args(["--timeout", "2", &stuck.to_string()]).run();
        in_time(&run);
        assert!(run.expect_code(0).stdout_str().contains("tk-stuck"));
    });
    cases.case("in-container", || {
        let run = whose().args(["--timeout", "2", "--in-container", &stuck.to_string()]).run();
        in_time(&run);
        assert!(matches!(run.code, Some(0 | 3 | 5)), "{}", run.story());
    });
    cases.case("table", || {
        let run = whose().args(["ps", "--timeout", "2"]).run();
        in_time(&run);
        assert!(run.expect_code(0).stdout_str().contains("sleep 4242"));
    });
    cases.case("default time-out", || {
        let run = whose().arg(stuck.to_string()).run();
        in_time(&run);
        drop(run.expect_code(0));
    });
    drop(trap);
    let bin = whose().bin().to_owned();
    cases.case("nothing stays behind", || {
        procfs::wait_for("abandoned workers end", Duration::from_secs(10), || {
            let left = procfs::pids().into_iter().filter(|pid| {
                let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
                exe.is_ok_and(|exe| exe == bin)
            });
            (left.count() == 0).then_some(())
        });
    });
    cases.finish();
}

/// A namespace that has a FUSE mount, and in it a process in another one, where something else is
/// mounted at that place: the root of the process is an overlay whose text leads there.
const ELSEWHERE: &str = r#"
set -e
mount -t tmpfs none "$LAB"; cd "$LAB"; mkdir -p f m l u w low/bin; cp "$BUSYBOX" low/bin/sleep
fuse-overlayfs -f -o lowerdir=$LAB/l,upperdir=$LAB/u,workdir=$LAB/w f >/dev/null 2>&1 </dev/null &
server=$!
i=0; while ! grep -q fuse-overlayfs /proc/self/mountinfo; do i=$((i+1)); test $i -lt 200; sleep 0.05; done
unshare -m sh -ec '
    mount -t tmpfs none $LAB/f; d=$LAB/f/graph/overlay/$ID; mkdir -p $d/diff $d/work
    mount -t overlay none -o lowerdir=$LAB/low,upperdir=$d/diff,workdir=$d/work $LAB/m
    exec chroot $LAB/m /bin/sleep 1000' </dev/null >/dev/null &
echo $server $!
read -r _ || true
"#;

/// Ended when dropped, in the order that frees who waits for whom.
struct Elsewhere {
    shell: Child,
    server: u32,
    inner: u32,
}

impl Elsewhere {
    fn start(lab: &Path, id: &str) -> Elsewhere {
        let mut shell = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c", ELSEWHERE])
            .env("LAB", lab)
            .env("ID", id)
            .env("BUSYBOX", whose_testkit::which("busybox").expect("busybox"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting unshare");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pids: Vec<u32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        let elsewhere = Elsewhere { shell, server: pids[0], inner: pids[1] };
        procfs::wait_for("the exec", Duration::from_secs(10), || {
            (procfs::comm(elsewhere.inner).as_deref() == Some("sleep")).then_some(())
        });
        procfs::signal(elsewhere.server, Signal::STOP);
        elsewhere
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        for pid in [self.server, self.inner] {
            procfs::signal(pid, Signal::KILL);
        }
        drop(self.shell.stdin.take());
        drop(self.shell.wait());
    }
}

/// The text of a mount is its mounter's: what it leads to here may never answer.
#[test]
fn a_root_whose_text_leads_to_a_stopped_server_stops_nobody() {
    if !require(&["root", "fuse", "fuse-overlayfs", "busybox", "mount-namespace"]) {
        return;
    }
    let _alone = alone();
    let Some(mount) = v2_mount().or_else(|| v1_mount("pids")) else {
        return skip("cgroup", "no hierarchy is mounted");
    };
    let (lab, id) = (tempfile::tempdir().unwrap(), fake_id("elsewhere"));
    let elsewhere = Elsewhere::start(lab.path(), &id);
    let dir = CgroupDir::make(&mount, &format!("libpod_parent/libpod-{id}"));
    dir.join(elsewhere.inner);
    let namespace = format!("--mount=/proc/{}/ns/mnt", elsewhere.shell.id());
    let mut cases = Cases::of("elsewhere");
    for args in [vec!["--json"], vec!["exe"], vec!["pids"]] {
        cases.case(args[0], || {
            let run = whose().via(["nsenter", &namespace]).args(&args);
            let run = run.args(["--timeout", "2", &elsewhere.inner.to_string()]).run();
            in_time(&run);
            assert!(matches!(run.code, Some(0 | 1 | 3)), "{}", run.story());
            if args[0] == "--json" {
                let owner = run.json()["answers"][0]["owner"].clone();
                assert_eq!(
                    (&owner["runtime"], &owner["id"]),
                    (&"podman".into(), &id.as_str().into())
                );
            }
        });
    }
    cases.case("a path on the server itself", || {
        let target = format!("{}:{}/f/x", elsewhere.shell.id(), lab.path().display());
        let run = whose().args(["path", "--timeout", "2", &target]).run();
        in_time(&run);
        assert_eq!((run.code, run.stdout_str().as_str()), (Some(3), ""), "{}", run.story());
    });
    drop(elsewhere);
    drop(dir);
    cases.finish();
}

/// What an answer shows of the incarnation it is about: its marker's number.
fn marker(text: &str) -> Option<u32> {
    let digits = text.strip_prefix(['a', 'b'])?;
    (digits.len() == 6).then(|| digits.parse().ok())?
}

/// Everything a PID's answer says must come from one process, however fast the PID changes hands.
#[test]
fn a_reused_pid_is_never_mixed_up() {
    const RUNS: usize = 200;
    if !require(&["root", "cc"]) {
        return;
    }
    let _alone = alone();
    let Some(mount) = v2_mount().or_else(|| v1_mount("pids")) else {
        return skip("cgroup", "no hierarchy is mounted");
    };
    // Even markers live in the first cgroup, odd ones in the second.
    let ids = ["even", "odd"].map(|word| fake_id(format!("{word} {}", std::process::id())));
    let dirs = ids.each_ref().map(|id| CgroupDir::make(&mount, &format!("docker/{id}")));
    let mut reuse = ReusePid::start();
    let pid = procfs::free_pid();
    let ended = AtomicBool::new(false);
    let (ticks, runs) = std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let mut ticks: BTreeMap<u32, u64> = BTreeMap::new();
            for n in 0.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("{}{n:06}", if n % 2 == 0 { 'a' } else { 'b' });
                let dir = dirs[usize::from(n % 2 == 1)].path();
                let made = if n == 0 {
                    reuse.spawn(pid, &name, &[dir])
                } else {
                    reuse.swap(pid, &name, &[dir])
                };
                ticks.insert(n, made.unwrap_or_else(|e| panic!("incarnation {n}: {e}")));
                // As fast as it can, and now and then slowly enough to be caught alive.
                std::thread::sleep(Duration::from_millis(
                    [0, 0, 1, 0, 4, 0, 15, 2][n as usize % 8],
                ));
            }
            ticks
        });
        let word = pid.to_string();
        let runs: Vec<Run> = (0..RUNS).map(|_| whose().args(["--json", &word]).run()).collect();
        ended.store(true, Ordering::Relaxed);
        (swapping.join().expect("the swapping thread"), runs)
    });
    drop(reuse);
    let seen = runs.iter().filter(|run| one_incarnation(run, &ids, &ticks)).count();
    eprintln!("        {} incarnations, {seen} of {RUNS} answers caught one", ticks.len());
    // How many there are is the machine's affair; that there are many is what makes it a test.
    assert!(ticks.len() >= RUNS / 5, "only {} incarnations", ticks.len());
    assert!(seen >= 10, "only {seen} answers are about a process");
}

/// False when the answer is that there is no such process.
fn one_incarnation(run: &Run, ids: &[String; 2], ticks: &BTreeMap<u32, u64>) -> bool {
    let told = run.json()["answers"][0].clone();
    if run.code == Some(1) {
        assert_ne!(told["status"], "found", "{}", run.story());
        return false;
    }
    let process = &told["process"];
    // Between its death and its reaping v1 no longer tells its cgroup.
    let undead = run.code == Some(3) && process["state"] == "Z";
    assert!(run.code == Some(0) || undead, "{}", run.story());
    let args = process["args"].as_array().cloned().unwrap_or_default();
    let texts = [&process["comm"]].into_iter().chain(&args).filter_map(Value::as_str);
    let mut markers: Vec<u32> = texts.filter_map(marker).collect();
    markers.dedup();
    assert!(markers.len() <= 1, "two incarnations in one answer\n{}", run.story());
    let owner = told["owner"]["id"].as_str();
    let cgroup = process["cgroup"].as_str().unwrap_or_default();
    let parity = |text: &str| ids.iter().position(|id| text.contains(id.as_str()));
    let sides = [owner.and_then(parity), parity(cgroup)];
    for side in sides.into_iter().flatten() {
        if let Some(n) = markers.first() {
            assert_eq!(side, usize::from(n % 2 == 1), "another's cgroup\n{}", run.story());
        }
    }
    assert!(!matches!(sides, [Some(a), Some(b)] if a != b), "two cgroups\n{}", run.story());
    let started = process["start_ticks"].as_u64().expect("start_ticks");
    match markers.first() {
        Some(n) => assert_eq!(ticks.get(n), Some(&started), "another's start\n{}", run.story()),
        None => assert!(ticks.values().any(|t| *t == started), "nobody's start\n{}", run.story()),
    }
    !markers.is_empty()
}

/// A zombie has lost most of what tells its owner; that does not make it the host's.
#[test]
fn a_zombie_is_never_called_a_host_process() {
    if !require(&["root", "cc"]) {
        return;
    }
    let _alone = alone();
    let id = fake_id(format!("zombie {}", std::process::id()));
    let mounts: Vec<(&str, PathBuf)> = [("v1", v1_mount("pids")), ("v2", v2_mount())]
        .into_iter()
        .filter_map(|(name, mount)| Some((name, mount?)))
        .collect();
    let mut cases = Cases::of("zombie");
    cases.case("plain", || {
        let zombie = Zombie::start(&[], false).expect("a zombie");
        not_host(zombie.pid(), None);
    });
    for (name, mount) in &mounts {
        cases.case(&format!("in a container's cgroup on {name}"), || {
            let dir = CgroupDir::make(mount, &format!("docker/{id}"));
            let zombie = Zombie::start(&[dir.path()], false).expect("a zombie");
            not_host(zombie.pid(), Some(&id));
        });
        cases.case(&format!("whose cgroup on {name} was removed"), || {
            let dir = CgroupDir::make(mount, &format!("docker/{id}"));
            let zombie = Zombie::start(&[dir.path()], true).expect("a zombie");
            assert!(!dir.path().exists());
            not_host(zombie.pid(), Some(&id));
        });
    }
    cases.finish();
}

fn not_host(pid: u32, id: Option<&str>) {
    assert_eq!(procfs::state(pid), Some('Z'));
    let text = procfs::cgroup(pid).unwrap_or_default();
    let run = whose().args(["--json", &pid.to_string()]).run();
    assert!(matches!(run.code, Some(0 | 3)), "{}", run.story());
    let told = run.json()["answers"][0].clone();
    let owner = &told["owner"];
    assert_ne!(owner["kind"], "host", "its cgroup file:\n{text}{}", run.story());
    assert_eq!(told["process"]["state"], "Z", "{}", run.story());
    if let (Some(id), true) = (id, owner["kind"] == "container") {
        assert_eq!(owner["id"], id, "{}", run.story());
    }
    if id.is_some_and(|id| text.contains(id)) {
        assert_eq!(owner["kind"], "container", "its cgroup still says so\n{text}{}", run.story());
    }
    let rows = whose().args(["ps", "-o", "pid,owner", "--json"]).run().expect_code(0).json();
    let rows = rows["rows"].as_array().cloned().unwrap_or_default();
    let row = rows.iter().find(|r| pid_of(&r["process"]["pid"]) == Some(pid));
    let row = row.unwrap_or_else(|| panic!("ps has no row for the zombie {pid}"));
    assert_ne!(row["owner"]["kind"], "host", "{row:#}");
}
