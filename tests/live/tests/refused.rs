//! Hosts where the task iterator can't be had, or where /proc shows less: the rows are right, and what
//! was asked for by name and is not there is said with its reason.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test: a panic is its report, stderr its log"
)]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use whose_live_tests::rows::{Listed, listed, of};
use whose_live_tests::{alone, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::cgroup::{CgroupDir, mounts};
use whose_testkit::crowd::{Crowd, Refuse, family};
use whose_testkit::fixture::fake_id;
use whose_testkit::harness::{Run, Whose};
use whose_testkit::janitor::Janitor;
use whose_testkit::users::LabUser;
use whose_testkit::{procfs, require};

/// What every loading of a program needs, and `rss` a map and the object's own types besides.
const COLUMNS: &str = "pid,ppid,uid,comm,owner,rss,threads,start_ticks,nice,args";
const INSTEAD: &str = "/proc was read instead";

/// Who runs the processes that are listed.
const USER: &str = "4321";

/// Processes to be listed; dropped in this order.
struct Rig {
    crowd: Crowd,
    own: BTreeSet<u32>,
    /// What /proc tells of them.
    truth: Listed,
    dirs: Vec<CgroupDir>,
    _janitor: Janitor,
}

impl Rig {
    fn start() -> Rig {
        let id = fake_id(unique("refused"));
        let dirs: Vec<CgroupDir> =
            mounts().iter().map(|m| CgroupDir::make(m, &format!("docker/{id}"))).collect();
        let mut janitor = Janitor::start();
        dirs.iter().for_each(|dir| janitor.remove(dir));
        let mut crowd = Crowd::start();
        let inside =
            crowd.make("count=20 ns=pid,mnt nice=3 uid=4321", &dirs.iter().collect::<Vec<_>>());
        // So many tasks that the iterator is worth it.
        let outside = crowd.make("threads=700 uid=4321 comm=61ff62", &[]);
        let own = &family(inside) | &family(outside);
        let truth = listed("proc", &["ps", "-u", USER, "-o", COLUMNS]);
        Rig { crowd, own, truth, dirs, _janitor: janitor }
    }

    /// The rows of its processes have to be those of /proc.
    #[track_caller]
    fn right(&self, list: &Listed) {
        for pid in &self.own {
            assert_eq!(list.row(*pid), self.truth.row(*pid), "{}", list.run.command_line);
        }
    }
}

/// A command line that runs another in a mount namespace of its own, after this line of a shell's.
fn after(line: &str) -> Vec<String> {
    let line = format!("mount --make-rprivate / && {line} && exec \"$@\"");
    ["unshare", "-m", "sh", "-c", &line, "sh"].map(str::to_owned).to_vec()
}

fn asked(via: &[String], source: &str) -> Run {
    whose().via(via).args(["ps", "--json", "-u", USER, "-o", COLUMNS, "--source", source]).run()
}

/// With `bpf` the rows are right and stderr names the reason; with `auto` nothing is said.
#[track_caller]
fn falls_back(rig: &Rig, via: &[String], reason: &str) {
    let list = of(asked(via, "bpf"));
    rig.right(&list);
    let said = list.run.stderr_str();
    assert!(said.contains("task iterator"), "{}", list.run.story());
    let gaps = list.gaps.as_array().unwrap();
    let gap = gaps.iter().find(|gap| gap.to_string().contains(INSTEAD));
    let gap = gap.unwrap_or_else(|| panic!("no gap\n{said}"));
    assert!(gap.to_string().contains(reason), "{reason}: {gap}");
    assert_eq!(gap["class"], "unsupported");
    let strict = whose()
        .via(via)
        .args(["ps", "-u", USER, "-o", COLUMNS, "--source", "bpf", "--strict"])
        .run();
    assert_eq!(strict.code, Some(3), "{}", strict.story());

    let list = of(asked(via, "auto"));
    rig.right(&list);
    assert!(!list.run.stderr_str().contains("iterator"), "{}", list.run.stderr_str());
    assert!(!list.gaps.to_string().contains("iterator"), "{}", list.gaps);
}

/// The iterator is used all the same.
#[track_caller]
fn works(rig: &Rig, via: &[String]) {
    let list = of(asked(via, "bpf"));
    rig.right(&list);
    assert!(!list.gaps.to_string().contains(INSTEAD), "{}", list.gaps);
}

#[test]
fn without_an_iterator_proc_is_read() {
    if !require(&["root", "kernel-btf", "cc", "unshare", "setpriv", "prlimit", "strace"]) {
        return;
    }
    let _alone = alone();
    let rig = Rig::start();
    let mut cases = Cases::of("refused");
    cases.case("nothing is refused", || {
        works(&rig, &[]);
        for source in ["auto", "bpf"] {
            let args = ["ps", "--source", source, "-o", COLUMNS];
            let calls = whose_live_tests::trace::calls(&args, 0);
            assert!(calls.iter().any(|call| call.name == "bpf"), "{source} does not use it");
        }
    });
    system_calls(&mut cases, &rig);
    capabilities(&mut cases, &rig);
    types(&mut cases, &rig);
    namespaces(&mut cases, &rig);
    cases.case("no memory may be locked", || {
        works(&rig, &["prlimit", "--memlock=0:0"].map(str::to_owned));
    });
    cases.case("kernel lockdown", || {
        let text = "none integrity [confidentiality]";
        let line = format!(
            "mkdir -p /sys/kernel/security && mount -t tmpfs tmpfs /sys/kernel/security && \
             echo '{text}' >/sys/kernel/security/lockdown"
        );
        falls_back(&rig, &after(&line), "kernel lockdown");
    });
    cases.finish();
    drop(rig);
}

/// A filter of system calls, as sandboxes have them.
fn system_calls(cases: &mut Cases, rig: &Rig) {
    let refuse = Refuse::new();
    const PERM: i32 = 1;
    const NOMEM: i32 = 12;
    const INVAL: i32 = 22;
    const NOSYS: i32 = 38;
    // Numbers of `enum bpf_cmd` in the kernel's include/uapi/linux/bpf.h.
    let [map, load, btf, link, iterate] = [0, 5, 18, 28, 33].map(Some);
    for (name, errno, command, reason) in [
        ("bpf: EPERM", PERM, None, "no permission"),
        ("bpf: ENOSYS", NOSYS, None, "no task iterator"),
        ("bpf: EINVAL", INVAL, None, "refuses the program"),
        ("map: EPERM", PERM, map, "no permission"),
        ("map: ENOMEM", NOMEM, map, "refuses the program"),
        ("load: EINVAL", INVAL, load, "refuses the program"),
        ("load: EPERM", PERM, load, "no permission"),
        ("types: EINVAL", INVAL, btf, "refuses the program"),
        ("link: EINVAL", INVAL, link, "refuses the program"),
        ("iterator: EPERM", PERM, iterate, "no permission"),
        ("iterator: ENOMEM", NOMEM, iterate, "refuses the program"),
    ] {
        cases.case(name, || falls_back(rig, &refuse.words(errno, command), reason));
    }
}

fn capabilities(cases: &mut Cases, rig: &Rig) {
    let without = |set: &str| ["setpriv", "--bounding-set", set].map(str::to_owned);
    for set in ["-bpf,-perfmon,-sys_admin", "-bpf,-sys_admin", "-perfmon,-sys_admin"] {
        cases.case(&format!("capabilities {set}"), || {
            falls_back(rig, &without(set), "no permission: it needs CAP_BPF and CAP_PERFMON");
        });
    }
    for set in ["-bpf,-perfmon", "-sys_admin"] {
        cases.case(&format!("capabilities {set}"), || works(rig, &without(set)));
    }
}

/// The kernel's description of its types is not there, or is something else.
fn types(cases: &mut Cases, rig: &Rig) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let over =
        |path: &Path| after(&format!("mount --bind {} /sys/kernel/btf/vmlinux", path.display()));
    let right = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
    let no_btf = "no kernel BTF";
    cases.case("types: none", || {
        falls_back(rig, &after("mount -t tmpfs tmpfs /sys/kernel/btf"), no_btf);
    });
    let half = &right[..right.len() / 2];
    let mut zeros = right.clone();
    zeros[24..].fill(0);
    let mut lengths = right.clone();
    lengths[8..24].fill(0xff);
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("only a header", &right[..24]),
        ("half", half),
        ("zeros", &zeros),
        ("lengths", &lengths),
        ("text", b"no types at all\n"),
    ] {
        std::fs::write(at("types"), bytes).unwrap();
        let reason = if name == "zeros" { INSTEAD } else { no_btf };
        let words = over(&at("types"));
        cases.case(&format!("types: {name}"), || falls_back(rig, &words, reason));
    }
    cases.case("types: a FIFO", || {
        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status();
        assert!(made.unwrap().success());
        falls_back(rig, &over(&at("pipe")), no_btf);
    });
    cases.case("types: without an end", || {
        falls_back(rig, &over(Path::new("/dev/zero")), no_btf);
    });
    // Root has them be wrong: no answer is asked for, but the command has to come to its end.
    cases.case("types: garbled", || {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for turn in 0..6 {
            let mut bytes = right.clone();
            for _ in 0..[1, 10, 1000][turn % 3] {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let place = usize::try_from(state >> 33).unwrap() % bytes.len();
                bytes[place] ^= 1 << (state & 7);
            }
            std::fs::write(at("garbled"), &bytes).unwrap();
            let run = asked(&over(&at("garbled")), "bpf");
            assert_eq!(run.code, Some(0), "{}", run.story());
        }
    });
}

fn namespaces(cases: &mut Cases, rig: &Rig) {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    // As /proc shows them there.
    let as_there = |via: &[String], reason: &str| {
        let columns = ["ps", "--json", "-o", "pid,ppid,comm,start_ticks,inside_pids"];
        let [bpf, proc, auto] = ["bpf", "proc", "auto"]
            .map(|source| of(whose().via(via).args(columns).args(["--source", source]).run()));
        let gap = bpf.gaps.to_string();
        assert!(gap.contains(INSTEAD) && gap.contains(reason), "{gap}");
        assert!(!auto.gaps.to_string().contains("iterator"), "{}", auto.gaps);
        (proc, bpf, auto)
    };
    cases.case("a PID namespace", || {
        let via = words("unshare -pf --mount-proc");
        let (proc, bpf, auto) = as_there(&via, "not the initial PID namespace");
        for list in [proc, bpf, auto] {
            assert_eq!(list.order, [1], "{}", list.run.story());
        }
    });
    cases.case("a PID namespace with the host's /proc", || {
        let via = words("unshare -pf");
        let run =
            whose().via(&via).args(["ps", "-o", "pid,comm", "--source", "bpf", "--json"]).run();
        let list = of(run);
        assert!(rig.own.iter().all(|pid| list.rows.contains_key(pid)), "{}", list.gaps);
    });
    cases.case("a user namespace", || {
        let (proc, bpf, auto) = as_there(&words("unshare -Ur"), "no permission");
        for pid in &rig.own {
            assert_eq!(bpf.row(*pid), proc.row(*pid));
            assert_eq!(auto.row(*pid), proc.row(*pid));
        }
    });
    cases.case("a time namespace", || {
        let via = words("unshare -Tf --boottime 100000");
        let (proc, bpf, auto) = as_there(&via, "something else of this process");
        for pid in &rig.own {
            let ticks = proc.row(*pid)["process"]["start_ticks"].as_u64().unwrap();
            assert!(ticks > procfs::start_ticks(*pid).unwrap(), "it is another clock");
            assert_eq!(bpf.row(*pid), proc.row(*pid));
            assert_eq!(auto.row(*pid), proc.row(*pid));
        }
    });
}

/// /proc shows an ordinary user only what is his.
#[test]
fn hidden_processes_stay_hidden() {
    if !require(&["root", "cc", "unshare", "setpriv", "useradd"]) {
        return;
    }
    let _alone = alone();
    let mut rig = Rig::start();
    let user = LabUser::new().unwrap();
    let uid = user.uid();
    let his = family(rig.crowd.make(&format!("count=5 uid={uid} gid={uid} dumpable"), &[]));
    let ordinary = |caps: &str| {
        let line = format!("exec setpriv --reuid {uid} --regid {uid} --clear-groups {caps} \"$@\"");
        ["sh", "-c", &line, "sh"].map(str::to_owned).to_vec()
    };
    let ask = |via: &[String], source: &str| -> Listed {
        // As root at first, from a copy that the user can reach.
        let whose: Whose = whose().as_user(0, 0).via(via);
        of(whose.args(["ps", "--json", "-o", "pid,user,comm,rss,args", "--source", source]).run())
    };
    let mut cases = Cases::of("hidepid");
    cases.case("his own only", || {
        let via = [after("mount -t proc -o hidepid=2 proc /proc"), ordinary("")].concat();
        for source in ["auto", "proc", "bpf"] {
            let list = ask(&via, source);
            for pid in &his {
                assert_eq!(list.row(*pid)["process"]["user"], user.name(), "{source}");
            }
            let others = list.rows.values().filter(|row| row["process"]["user"] != user.name());
            assert_eq!(others.count(), 0, "{source}");
            let gaps = list.gaps.as_array().unwrap();
            assert!(gaps.iter().any(|gap| gap["class"] == "forbidden"), "{source}: {gaps:?}");
            assert_eq!(list.run.stderr_str().lines().count(), 1, "{}", list.run.story());
            let iterator = gaps.iter().find(|gap| gap.to_string().contains(INSTEAD));
            assert_eq!(iterator.is_some(), source == "bpf", "{gaps:?}");
            if let Some(gap) = iterator {
                assert!(gap.to_string().contains("no permission"), "{gap}");
                assert!(list.run.stderr_str().contains("iterator"), "{}", list.run.story());
            }
        }
    });
    cases.case("with the capabilities, auto", || {
        let caps = "--inh-caps +bpf,+perfmon --ambient-caps +bpf,+perfmon";
        let via = [after("mount -t proc -o hidepid=2 proc /proc"), ordinary(caps)].concat();
        let list = ask(&via, "auto");
        let others = list.rows.values().filter(|row| row["process"]["user"] != user.name());
        assert_eq!(others.count(), 0);
    });
    cases.case("nothing is hidden", || {
        for source in ["auto", "proc", "bpf"] {
            let list = ask(&ordinary(""), source);
            for pid in his.iter().chain(&rig.own) {
                assert!(list.rows.contains_key(pid), "{source}: {pid}");
            }
            let said = list.gaps.to_string().contains(INSTEAD);
            assert_eq!(said, source == "bpf", "{}", list.gaps);
        }
    });
    cases.finish();
    drop(rig);
}

/// A tree with a /proc of its own, and one of another PID namespace.
#[test]
fn a_proc_elsewhere() {
    if !require(&["root", "cc", "unshare", "nsenter"]) {
        return;
    }
    let _alone = alone();
    let mut rig = Rig::start();
    let nested = rig.crowd.make("count=7 ns=pid comm=696e73696465", &[]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("proc")).unwrap();
    let proc = dir.path().join("proc");
    let root = dir.path().to_str().unwrap();
    let ask = |line: &str, source: &str| {
        let args = ["--root", root, "ps", "--json", "-o", "pid,ppid,comm,uid,inside_pids"];
        of(whose().via(after(line)).args(args).args(["--source", source]).run())
    };
    let not_asked = |list: &Listed, source: &str| {
        assert_eq!(list.run.json()["source"], "mounted", "{}", list.run.command_line);
        let gap = list.gaps.to_string();
        assert_eq!(gap.contains(INSTEAD), source == "bpf", "{gap}");
        assert_eq!(gap.contains("and this one is mounted"), source == "bpf", "{gap}");
    };
    let mut cases = Cases::of("mounted");
    for source in ["auto", "proc", "bpf"] {
        cases.case(&format!("of the same namespace, {source}"), || {
            let list = ask(&format!("mount -t proc proc {}", proc.display()), source);
            not_asked(&list, source);
            let live = listed("proc", &["ps", "-o", "pid,ppid,comm,uid,inside_pids"]);
            for pid in &rig.own {
                assert_eq!(list.row(*pid)["process"], live.row(*pid)["process"], "{source}");
            }
        });
        cases.case(&format!("of another namespace, {source}"), || {
            let mount = format!(
                "nsenter --pid=/proc/{nested}/ns/pid mount -t proc proc {}",
                proc.display()
            );
            let list = ask(&mount, source);
            not_asked(&list, source);
            assert_eq!(list.order, (1..=7).collect::<Vec<u32>>(), "{}", list.run.story());
            let inside = list.rows.values().all(|row| row["process"]["comm"] == "inside");
            assert!(inside, "{}", list.run.story());
        });
    }
    cases.finish();
    drop(rig);
}

/// Whoever reads along may stop, or may not take anything.
#[test]
fn output_that_goes_nowhere() {
    if !require(&["root", "cc", "bash", "kernel-btf"]) {
        return;
    }
    let _alone = alone();
    let mut rig = Rig::start();
    // More than a pipe holds.
    rig.crowd.make("count=1000 uid=4321", &rig.dirs.iter().collect::<Vec<_>>());
    let mut cases = Cases::of("output");
    for source in ["proc", "bpf", "auto"] {
        for format in ["table", "csv", "json", "ndjson"] {
            let run = |line: &str| -> Run {
                let args = [
                    "ps",
                    "-u",
                    USER,
                    "--source",
                    source,
                    "--format",
                    format,
                    "-o",
                    "pid,comm,args,cgroup",
                ];
                whose().via(["bash", "-c", line, "bash"]).args(args).run()
            };
            cases.case(&format!("{source} {format}"), || {
                let first = run("\"$@\" | head -n 1; exit ${PIPESTATUS[0]}").expect_code(0);
                assert_eq!(first.stderr_str(), "", "head");
                assert_eq!(first.stdout_str().lines().count(), 1);
                let full = run("exec \"$@\" >/dev/full").expect_code(6);
                assert!(full.stderr_str().contains("No space left"), "{}", full.story());
                assert_eq!(full.stderr_str().lines().count(), 1, "{}", full.story());
                for (name, line) in
                    [("closed", "exec \"$@\" >&-"), ("all closed", "exec \"$@\" >&- 2>&- <&-")]
                {
                    // Rust opens /dev/null where a standard stream is closed.
                    let closed = run(line).expect_code(0);
                    assert_eq!(
                        (closed.stdout_str(), closed.stderr_str()),
                        Default::default(),
                        "{name}"
                    );
                }
            });
        }
    }
    cases.finish();
    drop(rig);
}

/// A config file or a variable may ask as well.
#[test]
fn it_can_be_asked_for_elsewhere() {
    if !require(&["root", "kernel-btf", "cc", "unshare"]) {
        return;
    }
    let _alone = alone();
    let refuse = Refuse::new();
    let gap = |run: Run| {
        let json = run.expect_code(0).json();
        json["gaps"].as_array().is_some_and(|gaps: &Vec<Value>| {
            gaps.iter().any(|gap| gap.to_string().contains(INSTEAD))
        })
    };
    let ask = || whose().via(refuse.words(1, None)).args(["ps", "-o", "pid", "--json"]);
    assert!(!gap(ask().run()));
    assert!(gap(ask().env("WHOSE_SOURCE", "bpf").run()));
    assert!(!gap(ask().env("WHOSE_SOURCE", "bpf").args(["--source", "proc"]).run()));
    let line = "mount -t tmpfs tmpfs /etc && mkdir /etc/whose && \
                echo 'source = \"bpf\"' >/etc/whose/config.toml";
    let configured = || whose().via(after(line)).via(refuse.words(1, None));
    assert!(gap(configured().args(["ps", "-o", "pid", "--json"]).run()));
    let proc = configured().env("WHOSE_SOURCE", "proc").args(["ps", "-o", "pid", "--json"]);
    assert!(!gap(proc.run()));
}
