//! `whose annotate` on what real tools print of real containers.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test: a panic is its report, stderr its log"
)]

mod annotate_cases;

use std::collections::BTreeSet;
use std::time::Duration;

use whose_live_tests::{alone, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::{Docker, IMAGE};
use whose_testkit::harness::Run;
use whose_testkit::{procfs, require};

/// A container that writes, one that listens on the host's network, and whoever else is there.
struct World {
    docker: Docker,
    writer: String,
    listener: String,
    /// The first processes of the two.
    pids: [String; 2],
    port: u16,
}

impl World {
    fn start() -> World {
        let docker = Docker::hybrid().unwrap_or_else(|e| panic!("{e}"));
        docker.image();
        let writer = unique("annotate-writer");
        // Past the cache and in small pieces, so that one process is at it for seconds.
        let script = "while :; do dd if=/dev/zero of=/data bs=512 count=200000 oflag=direct; done";
        docker.run(&["--name", &writer, IMAGE, "sh", "-c", script]);
        // Its host has a network of its own, as the engine has: any port is free there.
        let port = 18_080;
        let listener = unique("annotate-listener");
        let server = ["httpd", "-f", "-p", "18080"];
        docker.run(&[&["--name", &listener, "--network", "host", IMAGE], &server[..]].concat());
        let pids = [&writer, &listener].map(|name| docker.init_pid(name).to_string());
        procfs::wait_for("the listener", Duration::from_secs(20), || {
            let tables = ["tcp", "tcp6"].map(|t| format!("/proc/{}/net/{t}", pids[1]));
            let read = |table: &String| std::fs::read_to_string(table).unwrap_or_default();
            tables.iter().any(|t| read(t).contains(&format!(":{port:04X} "))).then_some(())
        });
        World { docker, writer, listener, pids, port }
    }

    /// `whose annotate -- COMMAND`.
    fn annotate(&self, command: &[&str]) -> Run {
        let run = whose().args(["annotate", "--"]).args(command);
        run.timeout(Duration::from_secs(120)).run().expect_code(0)
    }

    /// The same in the network of the engine's host.
    fn annotate_in_net(&self, command: &[&str]) -> Run {
        let target = self.docker.dockerd_pid().to_string();
        self.annotate(&[&["nsenter", "-n", "-t", &target, "--"], command].concat())
    }

    /// Every row of a table with this PID has this owner beside it, and no row of another process that
    /// lives throughout has it.
    fn owns(&self, run: &Run, column: usize) {
        let ours = BTreeSet::from(self.pids.clone());
        let owners = [&self.writer, &self.listener];
        let text = run.stdout_str();
        let mut seen = BTreeSet::new();
        let own = std::process::id().to_string();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (Some(pid), Some(owner)) = (words.get(column), words.get(column + 1)) else {
                continue;
            };
            if let Some(at) = self.pids.iter().position(|p| p == pid) {
                assert_eq!(owner, owners[at], "{line}\n{text}");
                seen.insert((*pid).to_owned());
            }
            assert!(*pid != own || !owners.iter().any(|o| o == owner), "{line}");
        }
        assert_eq!(seen, ours, "{text}");
        assert!(text.lines().any(|l| l.contains(" OWNER ")), "{text}");
    }

    /// Every line with one of these texts ends in the owner; at least one has.
    fn ends(&self, text: &str, with: &str, name: &str) {
        let lines: Vec<&str> = text.lines().filter(|l| l.contains(with)).collect();
        assert!(!lines.is_empty(), "no line has {with}\n{text}");
        for line in lines {
            assert!(line.ends_with(&format!(" «{name}»")), "{line}");
        }
    }
}

#[test]
fn tools_say_whose() {
    if !require(&["root", "docker"]) {
        return;
    }
    let _alone = alone();
    let world = World::start();
    let mut cases = Cases::of("annotate");
    for (name, column, command) in [
        ("ps aux", 1, &["ps", "aux"][..]),
        ("ps auxf", 1, &["ps", "auxf"]),
        ("ps -ef", 1, &["ps", "-ef"]),
        ("ps -eo ppid,pid,args", 1, &["ps", "-eo", "ppid,pid,args"]),
        ("top -b", 0, &["top", "-b", "-n", "2", "-d", "0.2", "-w", "200"]),
    ] {
        cases.case_with(&[command[0]], name, || world.owns(&world.annotate(command), column));
    }
    cases.case_with(&["lsof"], "lsof -n", || {
        let pids = world.pids.join(",");
        // A warning of a file system that it can't look at is none of the test's.
        let script = format!("lsof -nP -p {pids} 2>/dev/null || :");
        world.owns(&world.annotate(&["sh", "-c", &script]), 1);
    });
    cases.case_with(&["ss"], "ss -tnlp", || {
        let run = world.annotate_in_net(&["ss", "-tnlp"]);
        world.ends(&run.stdout_str(), &format!(":{} ", world.port), &world.listener);
    });
    cases.case_with(&["netstat"], "netstat -tnlp", || {
        let run = world.annotate_in_net(&["netstat", "-tnlp"]).stdout_str();
        let port = format!(":{} ", world.port);
        let line = run.lines().find(|l| l.contains(&port)).unwrap_or_else(|| panic!("{run}"));
        assert!(line.contains(&format!("{} {}/httpd", world.listener, world.pids[1])), "{line}");
    });
    cases.case_with(&["pidstat"], "pidstat -d", || {
        let init = &world.pids[0];
        let run = world.annotate(&["pidstat", "-d", "-p", init, "1", "2"]).stdout_str();
        let rows = run.lines().filter(|l| l.contains(&format!(" {init} {} ", world.writer)));
        assert!(rows.count() >= 2, "{run}");
    });
    for iotop in ["/usr/sbin/iotop-py", "/usr/sbin/iotop-c"] {
        cases.case_with(&[iotop], &format!("{iotop} -b"), || {
            let run = world.annotate(&[iotop, "-b", "-o", "-n", "3", "-d", "1"]).stdout_str();
            let of = |l: &&str| l.contains(&format!(" {} ", world.writer));
            assert!(run.lines().filter(of).any(|l| l.contains("dd") || l.contains("sh")), "{run}");
        });
    }
    cases.case_with(&["strace"], "strace -f", || {
        let init = &world.pids[0];
        // It goes on until it is told to end, and then says so.
        let script = format!(
            "timeout -s INT 2 strace -f -o /dev/stdout -e trace=process -p {init} 2>/dev/null; :"
        );
        let run = world.annotate(&["sh", "-c", &script]).stdout_str();
        let own = run.lines().filter(|l| l.starts_with(&format!("{init} ")));
        let own: Vec<&str> = own.collect();
        assert!(!own.is_empty(), "{run}");
        assert!(own.iter().all(|l| l.ends_with(&format!(" «{}»", world.writer))), "{run}");
    });
    cases.case_with(&["pstree"], "pstree -p and pgrep -a", || {
        let run = world.annotate(&["pstree", "-ap"]).stdout_str();
        world.ends(&run, &format!("httpd,{} ", world.pids[1]), &world.listener);
        let port = format!("-f -p {}", world.port);
        let run = world.annotate(&["pgrep", "-af", &format!("^httpd {port}")]).stdout_str();
        world.ends(&run, &port, &world.listener);
    });
    cases.case("a terminal of its own", || {
        let shell = format!(
            "{} annotate -- sh -c 'test -t 1 && ps -p {}'",
            whose().bin().display(),
            world.pids[0]
        );
        let script =
            std::process::Command::new("script").args(["-qec", &shell, "/dev/null"]).output();
        let text = String::from_utf8_lossy(&script.expect("script").stdout).into_owned();
        assert!(text.contains(&format!(" {} ", world.writer)), "{text}");
    });
    annotate_cases::run(&world, &mut cases);
    cases.case_with(&["ip"], "ip link", || interfaces(&world));
    cases.case_with(&["dmesg"], "dmesg after a kill for want of memory", || killed(&world.docker));
    cases.finish();
}

/// A process that ends with the test.
struct Stray(std::process::Child);

impl Drop for Stray {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Interfaces in the network of the engine's host lead to the container at their other end, though the
/// other ends of all have one index; and to nobody where that is no container.
fn interfaces(world: &World) {
    let other = unique("annotate-peer");
    world.docker.run(&["--name", &other, IMAGE, "sleep", "100000"]);
    let mut stray = std::process::Command::new("unshare");
    let stray = Stray(stray.args(["--net", "sleep", "1000"]).spawn().expect("unshare"));
    let target = world.docker.dockerd_pid().to_string();
    let inside = |words: &[&str]| {
        let mut command = std::process::Command::new("nsenter");
        let output = command.args(["-n", "-t", &target, "--"]).args(words).output();
        let output = output.expect("nsenter");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let own = std::process::id();
    let drawn = |n: u32| format!("veth{:07x}", (own * 4 + n) & 0xfff_ffff);
    let ends = [
        (drawn(0), world.pids[0].clone(), Some(&world.writer)),
        (drawn(1), world.docker.init_pid(&other).to_string(), Some(&other)),
        (drawn(2), stray.0.id().to_string(), None),
        (format!("ve-{own}"), world.pids[0].clone(), Some(&world.writer)),
    ];
    procfs::wait_for("a network of its own", Duration::from_secs(20), || {
        let net = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        (net(&ends[2].1)? != net("self")?).then_some(())
    });
    for (at, (name, pid, _)) in ends.iter().enumerate() {
        let peer = format!("eth{at}");
        let words = ["ip", "link", "add", name, "type", "veth", "peer", "name", &peer];
        assert!(inside(&[&words[..], &["netns", pid]].concat()).0, "{name}");
    }
    let whose = whose().bin().display().to_string();
    let (is_done, text) = inside(&[&whose, "annotate", "--", "ip", "-o", "link"]);
    assert!(is_done, "{text}");
    let mut indexes: Vec<u32> = Vec::new();
    for (name, _, owner) in &ends {
        let title = format!(" {name}@if");
        let line = text.lines().find(|l| l.contains(&title));
        let line = line.unwrap_or_else(|| panic!("{name}\n{text}"));
        let index = line.split(&title).nth(1).and_then(|rest| rest.split(':').next());
        indexes.push(index.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{line}")));
        match owner {
            Some(owner) => assert!(line.ends_with(&format!(" «{owner}»")), "{line}"),
            None => assert!(!line.contains('«'), "{line}"),
        }
    }
    assert!(indexes[0] == indexes[1] && indexes[1] == indexes[2], "{indexes:?}");
    // A name that engines draw stands for itself; another one not, nor with another end, nor long ago.
    let (log, short) = (&ends[0].0, &ends[3].0);
    let said = [
        format!("docker0: port 1({log}) entered blocking state"),
        format!("{short} and {short}@if{}: x", indexes[3] + 1),
        format!("Nov 25 01:33:06 host netd: {short}@if{} is up", indexes[3]),
        format!("{log}: in a network that has no {log}"),
    ];
    let echo = format!("printf '%s\\n' '{}'", said.join("' '"));
    let (is_done, text) = inside(&[&whose, "annotate", "--", "sh", "-c", &echo]);
    assert!(is_done, "{text}");
    let marks: Vec<bool> = text.lines().map(|l| l.contains(&world.writer)).collect();
    assert_eq!(marks, [true, false, false, true], "{text}");
    // Outside that network nobody has them.
    let run = world.annotate(&["sh", "-c", &echo]).stdout_str();
    assert!(!run.contains('«'), "{run}");
    // They go with the networks of their other ends.
    for (name, ..) in &ends {
        assert!(inside(&["ip", "link", "del", name]).0, "{name}");
    }
}

/// The kernel's report names the container by its cgroup, when the process is gone, and when the
/// container is.
fn killed(docker: &Docker) {
    let name = unique("annotate-oom");
    let limits = ["--memory", "16m", "--memory-swap", "16m"];
    let id = docker
        .run(&[&["--name", &name], &limits[..], &[IMAGE, "sh", "-c", "tail /dev/zero"]].concat());
    procfs::wait_for("the kill", Duration::from_secs(60), || {
        let log = std::process::Command::new("dmesg").output().expect("dmesg");
        let log = String::from_utf8_lossy(&log.stdout).into_owned();
        log.lines().any(|l| l.contains("oom-kill:") && l.contains(&id)).then_some(())
    });
    let run = || whose().args(["annotate", "--", "dmesg"]).run().expect_code(0).stdout_str();
    let text = run();
    for line in text.lines().filter(|l| l.contains(&id)) {
        assert!(line.ends_with(&format!(" «{name}»")), "{line}");
    }
    let report = text.lines().skip_while(|l| !(l.contains("oom-kill:") && l.contains(&id)));
    let victim = report
        .into_iter()
        .find(|l| l.contains("Killed process "))
        .unwrap_or_else(|| panic!("{text}"));
    assert!(victim.ends_with(&format!(" «{name}»")), "{victim}");
    docker.cli(&["rm", "-f", &name]);
    let text = run();
    let last =
        text.lines().find(|l| l.contains("oom-kill:") && l.contains(&id)).expect("the report");
    assert!(last.ends_with(&format!(" «{}(removed)»", &id[..12])), "{last}");
}
