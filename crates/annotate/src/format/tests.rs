//! Lines of running text: what each names, and what it does not.

use crate::time::utc;

use super::{Around, Claim, Mention, REGISTRY, Way, What, When, named_in};

/// 2026-11-25T01:33:06Z
const AT: i64 = 1_795_570_386_000;

fn found(line: &str) -> (Option<&'static str>, Vec<Mention>) {
    let zone = utc();
    let around = Around { now: AT + 60_000, zone: &zone, is_this_boot: &|id| id == b"this" };
    let mut found = Vec::new();
    for format in REGISTRY {
        let claim = format.line(line.as_bytes(), around, &mut found);
        if claim != Claim::No {
            if claim == Claim::Shared {
                named_in(line.as_bytes(), &mut found);
            }
            return (Some(format.name()), found);
        }
    }
    (None, found)
}

/// The format of a line, and the PIDs that it names.
fn pids(line: &str) -> (Option<&'static str>, Vec<String>) {
    let (format, found) = found(line);
    let is_pid = |m: &&Mention| matches!(m.what, What::Pid(_) | What::Command(..) | What::Comm(..));
    let pids = found
        .iter()
        .filter(is_pid)
        .map(|m| line[m.at.clone()].trim_matches('"').to_owned())
        .collect();
    (format, pids)
}

#[test]
fn each_format_names_its_pid() {
    for (format, lines) in [
        (
            "ss",
            &["tcp   LISTEN 0  128  0.0.0.0:22  0.0.0.0:*  users:((\"a),(\",pid=4761,fd=3))"][..],
        ),
        (
            "strace",
            &[
                "[pid  4761] openat(AT_FDCWD, \"/etc/1\", O_RDONLY) = 3",
                "[pid 4761] +++ exited with 0 +++",
                "strace: Process 4761 attached",
                "4761  read(3, \"77\", 2) = 2",
                "4761  01:33:06.123456 <... read resumed>\"x\", 1) = 1",
                "4761  1795570386.123456 --- SIGCHLD {si_signo=SIGCHLD, si_pid=77} ---",
            ],
        ),
        (
            "audit",
            &[
                "type=SYSCALL msg=audit(1795570386.123:45): arch=c000003e ppid=77 pid=4761 auid=0",
                "node=a type=EXECVE msg=audit(1795570386.123:45): x=1 pid=4761",
                "type=SYSCALL msg=audit(11/25/26 01:33:06.123:45) : ppid=77 pid=4761 auid=root",
            ],
        ),
        (
            "syslog",
            &[
                "Nov 25 01:33:06 host sshd[4761]: Accepted for root from 10.0.0.1 port 22",
                "<38>Nov 25 01:33:06 host sshd[4761]: x[77]: y",
                "2026-11-25T01:33:06.123456+00:00 host (sd-pam)[4761]: pam",
                "2026-11-25T01:33:06+0000 host dhclient[4761]: x",
                "Nov 25 01:33:06 host kernel: [   12.345678] Out of memory: Killed process 4761 (a) x",
                "Nov 25 01:33:06 host kernel: sleep[4761]: segfault at 0 ip 0 sp 0 error 4",
            ],
        ),
        (
            "journalctl",
            &[
                "Wed 2026-11-25 01:33:06 UTC host sshd[4761]: Accepted",
                "[   12.345678] host systemd[4761]: Started",
                "1795570386.123456 host systemd[4761]: Started",
            ],
        ),
        (
            "dmesg",
            &[
                "[   12.345678] Out of memory: Killed process 4761 (a b) total-vm:77kB",
                "[   12.345678][ T4762] Memory cgroup out of memory: Killed process 4761 (x) total-vm",
                "<4>[   12.345678] oom_reaper: reaped process 4761 (x), now anon-rss:0kB",
                "kern  :warn  : [   12.345678] CPU: 1 PID: 4761 Comm: x Not tainted 6.1",
                "[Wed Nov 25 01:33:06 2026] x invoked; traps: no",
                "2026-11-25T01:33:06,123456+00:00 traps: a[4761] general protection fault ip:0",
                "[   12.345678] [   4761]     0  4761      617      234    45056        0    0 sleep",
                "[   12.345678] INFO: task a:b:4761 blocked for more than 120 seconds.",
                "[   12.345678] audit: type=1400 audit(1795570386.123:45): apparmor=\"DENIED\" pid=4761 x",
            ],
        ),
        (
            "perf script",
            &[
                "            dd  4761 [001]  1234.567890:     250000 cpu-clock: ",
                "a b 2          4761/4762  1234.567890123: sched:sched_switch: prev_pid=77",
                ":4761  4761 1234.567890: x: y",
            ],
        ),
        ("folded stacks", &["dd-4761;main;read 12", "a-b-4761/4762;[k] x 1"]),
        (
            "pstree",
            &["           |-bash(4761)", "  ├─sleep,4761 77", "  │   └─{a b}(4761)", "init(4761)"],
        ),
        ("pgrep", &["4761 sleep 77", "4761 2024 was a year"]),
        (
            "JSON",
            &[
                "{\"pid\":4761,\"ppid\":77}",
                "{\"a\":{\"b\":[{\"PID\": 4761}]},\"port\":80},",
                "  \"pid\": 4761,",
                "{\"_PID\":\"4761\",\"MESSAGE\":\"pid \\\"77\\\"\"}",
            ],
        ),
    ] {
        for line in lines {
            let expected = if line.contains("4761") { vec!["4761".to_owned()] } else { vec![] };
            // The name of a process without one is its PID.
            let expected =
                if line.starts_with(":4761") { vec!["4761".to_owned()] } else { expected };
            assert_eq!(pids(line), (Some(format), expected), "{line}");
        }
    }
}

#[test]
fn several_processes_of_a_line() {
    let line = "u_str ESTAB 0 0 * 1 * 2 users:((\"a\",pid=12,fd=3),(\"b(\",pid=34,fd=4))";
    assert_eq!(pids(line).1, ["12", "34"]);
    let line = "systemd(1)─┬─agetty(700)───{a}(701)";
    assert_eq!(pids(line), (Some("pstree"), vec!["1".into(), "700".into(), "701".into()]));
    let line = "init(1,root)-+-sh(77)---sleep(78,alice)";
    assert_eq!(pids(line).1, ["1", "77", "78"]);
    assert_eq!(pids("[{\"pid\":1},{\"pid\":2}]").1, ["1", "2"]);
}

#[test]
fn other_numbers_are_none() {
    for line in [
        "it took 4761 ms",
        "listening on 0.0.0.0:4761",
        "-rw-r--r-- 1 root root 4761 Nov 25 01:33 a",
        "2026-11-25 01:33:06 4761 rows",
        "[4761/5000] building",
        "[ 47%] Building",
        "error(4761)",
        "f(1) = g(2), h",
        "foo,1 bar",
        "{\"port\":4761,\"ppid\":12}",
        "{\"pid\":47.61}",
        "{\"pid\":4761",
        "\"pid\": 4761 and more",
        "a-b;c",
        "key-4761;value",
        "pid=4761",
        "read(4761, x) = 1",
        "[   12.345678] usb 1-1: new device number 4761",
        "[   12.345678] eth0: link[4761] up",
        "[   12.345678] x: [4761]",
        "12345678 sleep",
        "0 sleep",
        "4761",
        "4761  two blanks",
        "users: 4761",
    ] {
        // One that has to bear a name is checked against the process.
        let is_pid = |m: &Mention| matches!(m.what, What::Pid(_));
        assert!(!found(line).1.iter().any(is_pid), "{line}");
    }
    // Of no program, but of the syslog.
    let line = "Nov 25 01:33:06 host app: took [4761]: ms";
    assert_eq!(pids(line), (Some("syslog"), vec![]));
}

#[test]
fn a_kill_for_memory_names_the_victims_cgroup() {
    let line = "[   12.345678] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=other,\
        mems_allowed=0,oom_memcg=/docker,task_memcg=/docker/x,task=a,b,pid=4761,uid=0";
    let (format, found) = found(line);
    let texts: Vec<&str> = found.iter().map(|m| &line[m.at.clone()]).collect();
    assert_eq!((format, texts), (Some("dmesg"), vec!["4761", "/docker/x"]));
    assert!(found.iter().all(|m| m.when == When::SinceBoot(12_345)));
}

#[test]
fn moments_are_those_of_the_line() {
    for (line, when) in [
        ("Nov 25 01:33:06 host a[1]: x", When::At(AT)),
        ("type=X msg=audit(1795570386.5:1): pid=1", When::At(AT + 500)),
        ("type=X msg=audit(11/25/26 01:33:06.123:45) : pid=1", When::Sometime),
        ("[   12.345678] Killed process 1 (x)", When::SinceBoot(12_345)),
        ("a 1 [000] 12.345678: x:", When::SinceBoot(12_345)),
        ("{\"pid\":1}", When::Now),
        ("{\"time\":\"2026-11-25T01:33:06Z\",\"pid\":1}", When::At(AT)),
        ("{\"pid\":1,\"ts\":1795570386.5}", When::At(AT + 500)),
        ("{\"_PID\":\"1\",\"__REALTIME_TIMESTAMP\":\"1795570386500000\"}", When::At(AT + 500)),
        ("{\"ts\":1795570386500000000,\"pid\":1}", When::At(AT + 500)),
        ("{\"_BOOT_ID\":\"other\",\"_PID\":\"1\"}", When::Ended),
        ("{\"_BOOT_ID\":\"this\",\"_PID\":\"1\"}", When::Now),
    ] {
        assert_eq!(found(line).1.last().map(|m| m.when), Some(when), "{line}");
    }
}

#[test]
fn a_member_is_added_under_a_key_that_is_free() {
    let way = |line: &str| found(line).1.last().map(|m| m.way);
    assert_eq!(way("{\"pid\":1}"), Some(Way::Member("owner")));
    assert_eq!(way("{\"pid\":1,\"owner\":\"me\"}"), Some(Way::Member("whose")));
}
