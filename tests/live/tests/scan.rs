//! All processes read by /proc and by the task iterator: the same rows, whatever the processes are.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test: a panic is its report, stderr its log"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::Value;
use whose_fields::FIELDS;
use whose_live_tests::rows::{listed, same};
use whose_live_tests::{alone, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::cgroup::{CgroupDir, mounts, v1_mount, v2_mount};
use whose_testkit::crowd::{Crowd, family};
use whose_testkit::docker::{Docker, IMAGE};
use whose_testkit::fixture::fake_id;
use whose_testkit::hostile::Zombie;
use whose_testkit::janitor::Janitor;
use whose_testkit::{procfs, require, skip};

/// Every column there is.
fn all_columns() -> String {
    FIELDS.iter().map(|field| field.name).collect::<Vec<_>>().join(",")
}

/// Kinds of processes, each in a container of its own as far as cgroups tell. Those whose names have
/// odd bytes: a newline, a bracket and a state, no UTF-8, an escape sequence.
const KINDS: &[(&str, &str)] = &[
    ("plain", "count=10 ns=pid,mnt,uts,ipc"),
    ("user", "count=10 ns=pid uid=33 gid=33"),
    ("ids", "count=10 uid=4321 ruid=4322 gid=4323"),
    ("nice", "count=10 nice=7 session"),
    ("terminal", "count=10 nice=-5 tty"),
    ("threads", "count=10 threads=5"),
    ("newline", "count=5 comm=610a62"),
    ("bracket", "count=5 comm=612920522028"),
    ("bytes", "count=5 comm=fffe80"),
    ("escape", "count=5 comm=1b5b33316d"),
    ("no name", "count=5 comm="),
    ("deep", "count=10 ns=pid depth=3"),
    ("deepest", "count=10 ns=pid depth=9"),
    ("mapped", "count=10 ns=user,pid map=100000"),
    ("mapped user", "count=10 ns=user,pid map=100000 uid=1000 gid=1000 depth=2"),
    ("no map", "count=10 ns=user,pid"),
    ("dead", "count=10 dead"),
    ("dead deep", "count=10 ns=pid depth=3 dead"),
    ("stopped", "count=10 stop session"),
    ("network", "count=10 ns=net,pid"),
];

/// Processes of every kind; dropped in this order.
struct Rig {
    crowd: Crowd,
    others: Vec<Child>,
    _zombies: Vec<Zombie>,
    leaders: BTreeMap<&'static str, u32>,
    ids: BTreeMap<&'static str, String>,
    _dirs: Vec<CgroupDir>,
    _janitor: Janitor,
}

impl Drop for Rig {
    fn drop(&mut self) {
        for child in &mut self.others {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Rig {
    fn start() -> Rig {
        let mut rig = Rig {
            crowd: Crowd::start(),
            others: Vec::new(),
            _zombies: Vec::new(),
            leaders: BTreeMap::new(),
            ids: BTreeMap::new(),
            _dirs: Vec::new(),
            _janitor: Janitor::start(),
        };
        for (kind, words) in KINDS {
            let id = fake_id(unique(kind));
            rig.add(kind, words, &mounts(), &format!("docker/{id}"));
            rig.ids.insert(kind, id);
        }
        let unit = format!("system.slice/{}.service", unique("scan"));
        rig.add("unit", "count=5", &mounts(), &unit);
        rig.add("host", "count=5", &[], "");
        rig.add("host namespaces", "count=5 ns=pid,mnt", &[], "");
        for (kind, mount) in [("v1 only", v1_mount("pids")), ("v2 only", v2_mount())] {
            let Some(mount) = mount else { continue };
            let id = fake_id(unique(kind));
            rig.add(kind, "count=5 ns=pid", &[mount], &format!("docker/{id}"));
            rig.ids.insert(kind, id);
        }
        rig.add_removed();
        rig.add_zombies();
        rig.settle();
        rig
    }

    fn add(&mut self, kind: &'static str, words: &str, mounts: &[std::path::PathBuf], path: &str) {
        let dirs: Vec<CgroupDir> = mounts.iter().map(|m| CgroupDir::make(m, path)).collect();
        dirs.iter().for_each(|dir| self._janitor.remove(dir));
        let leader = self.crowd.make(words, &dirs.iter().collect::<Vec<_>>());
        self.leaders.insert(kind, leader);
        self._dirs.extend(dirs);
    }

    /// A process whose program is gone.
    fn add_removed(&mut self) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("removed");
        whose_testkit::program::copy("/bin/busybox", &program);
        let mut command = Command::new(&program);
        std::os::unix::process::CommandExt::arg0(&mut command, "sleep");
        self.others.push(command.arg("10000").spawn().unwrap());
    }

    /// Ended in cgroups that are still there, and in some that are not.
    fn add_zombies(&mut self) {
        for mount in [v1_mount("pids"), v2_mount()].into_iter().flatten() {
            for remove in [false, true] {
                let id = fake_id(unique(&format!("zombie {} {remove}", mount.display())));
                let dir = CgroupDir::make(&mount, &format!("docker/{id}"));
                self._janitor.remove(&dir);
                self._zombies.push(Zombie::start(&[dir.path()], remove).expect("a zombie"));
                self._dirs.push(dir);
            }
        }
    }

    /// All of them sleep, have stopped or ended.
    fn settle(&self) {
        let own = self.own();
        procfs::wait_for("quiet processes", Duration::from_secs(20), || {
            let quiet =
                |pid: &u32| procfs::state(*pid).is_some_and(|s| matches!(s, 'S' | 'T' | 'Z'));
            own.iter().all(quiet).then_some(())
        });
        let dead = family(self.leaders["dead deep"]).into_iter();
        let dead = dead.filter(|pid| procfs::state(*pid) == Some('Z')).count();
        assert_eq!(dead, 9, "zombies in a namespace");
    }

    fn own(&self) -> BTreeSet<u32> {
        let mut own = family(self.crowd.pid());
        own.remove(&self.crowd.pid()); // it reads what it is told
        own.extend(self.others.iter().map(Child::id));
        own.extend(self._zombies.iter().map(Zombie::pid));
        own
    }
}

#[test]
fn both_sources_tell_the_same() {
    if !require(&["root", "kernel-btf", "cc", "busybox"]) {
        return;
    }
    let _alone = alone();
    let rig = Rig::start();
    let own = rig.own();
    assert!(own.len() > 200, "{}", own.len());
    let columns = all_columns();
    let mut cases = Cases::of("scan");
    cases.case("every column", || same(&["ps", "-k", "-o", &columns], &own));
    // Few columns are read in another way than all of them.
    for few in [
        "pid,comm,owner",
        "pid,rss",
        "pid,cpu_time",
        "pid,io_read",
        "pid,args,start_ticks",
        "pid,user,role,serves",
        "pid,pidns,inside_uid,inside_pids",
        "pid,wchan,state,cgroup",
    ] {
        cases.case(few, || same(&["ps", "-o", few], &own));
    }
    cases.case("they are told right", || truth(&rig));
    for (name, args) in FILTERS {
        cases.case(name, || filtered(args, &own));
    }
    cases.case("tables", || tables(&own));
    cases.case("ls", || ls(&rig));
    cases.finish();
}

const FILTERS: &[(&str, &[&str])] = &[
    ("-u", &["ps", "-u", "33,4321,100000,101000"]),
    ("--containers-only", &["ps", "--containers-only"]),
    ("--host-only", &["ps", "--host-only"]),
    ("--sort", &["ps", "--sort", "-threads,nice,-pid", "-o", "pid,threads"]),
    ("--sort comm", &["ps", "--containers-only", "--sort", "comm,-uid", "-o", "pid,owner"]),
];

/// What the kinds were made to be.
fn truth(rig: &Rig) {
    for source in ["proc", "bpf"] {
        let list = listed(source, &["ps", "-o", &all_columns()]);
        for (kind, id) in &rig.ids {
            for pid in family(rig.leaders[kind]) {
                let row = list.row(pid);
                let owner = &row["owner"];
                // v1 tells nothing of one that has ended, and its parent is in another namespace.
                let unknown = owner.is_null() && row["process"]["state"] == "Z";
                assert!(owner["id"] == **id || unknown, "{source} {kind} {pid}: {row:?}");
            }
        }
        let process = |kind: &str| list.row(rig.leaders[kind])["process"].clone();
        let bytes = [("newline", "a\nb"), ("bracket", "a) R ("), ("escape", "\u{1b}[31m")];
        for (kind, comm) in bytes {
            assert_eq!(process(kind)["comm"], comm, "{source}");
        }
        assert_eq!(process("ids")["uid"], 4321, "{source}");
        assert_eq!(process("nice")["nice"], 7, "{source}");
        assert_eq!(process("terminal")["nice"], -5, "{source}");
        assert!(process("terminal")["tty"].as_str().unwrap().starts_with("pts/"), "{source}");
        assert_eq!(process("threads")["threads"], 5, "{source}");
        let mapped = *family(rig.leaders["mapped user"]).last().unwrap();
        let mapped = &list.row(mapped)["process"];
        assert_eq!((&mapped["uid"], &mapped["inside_uid"]), (&101_000.into(), &1000.into()));
        assert_eq!(process("stopped")["state"], "T", "{source}");
        assert_eq!(process("deep")["inside_pids"].as_array().unwrap().len(), 2, "{source}");
        let inner = *family(rig.leaders["deepest"]).last().unwrap();
        let inside = &list.row(inner)["process"]["inside_pids"];
        assert_eq!(inside.as_array().unwrap().len(), 10, "{source}");
        let unit = &list.row(rig.leaders["unit"])["owner"];
        assert_eq!(unit["kind"], "unit", "{source}");
        assert_eq!(list.row(rig.leaders["host"])["owner"]["kind"], "host", "{source}");
        // Namespaces of their own, and the host's root: that contains nothing.
        let own = family(rig.leaders["host namespaces"]);
        assert!(own.iter().all(|pid| list.row(*pid)["owner"]["kind"] == "host"), "{source}");
    }
}

fn filtered(args: &[&str], own: &BTreeSet<u32>) {
    let [proc, bpf, auto] = ["proc", "bpf", "auto"].map(|source| listed(source, args));
    let expected = proc.order_of(own);
    assert!(!expected.is_empty(), "{}", args.join(" "));
    assert_eq!(bpf.order_of(own), expected, "{}", args.join(" "));
    assert_eq!(auto.order_of(own), expected, "{}", args.join(" "));
    let gaps = |list: &whose_live_tests::rows::Listed| list.rows[&expected[0]].get("gaps").cloned();
    assert_eq!(gaps(&bpf), gaps(&proc));
}

/// The lines about these processes, however wide the others make the columns.
fn lines(source: &str, args: &[&str], own: &BTreeSet<u32>) -> Vec<String> {
    let run = whose().args(args).args(["--source", source]).run().expect_code(0);
    let text = run.stdout_str();
    let words = |line: &str| line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let of_own = |line: &&str| {
        let pid = line.trim_start().split([' ', ',']).next().and_then(|word| word.parse().ok());
        pid.is_some_and(|pid: u32| own.contains(&pid))
    };
    text.lines().filter(of_own).map(words).collect()
}

fn tables(own: &BTreeSet<u32>) {
    let columns = all_columns().replace(",elapsed", "");
    for args in [
        &["ps", "--raw", "-o", &columns][..],
        &["ps", "--format", "csv", "-o", &columns],
        &["ps", "--format", "csv", "--raw", "-o", "pid,comm,owner"],
        &["ps", "--no-headers", "-o", "pid,user,state,rss,owner,args"],
        &["-o", "pid,user,state,rss,owner,args"],
        &["ps", "-q"],
    ] {
        let [proc, bpf] = ["proc", "bpf"].map(|source| lines(source, args, own));
        assert!(proc.len() >= own.len(), "{}: {}", args.join(" "), proc.len());
        for (proc, bpf) in proc.iter().zip(&bpf) {
            assert_eq!(bpf, proc, "{}", args.join(" "));
        }
        assert_eq!(proc.len(), bpf.len(), "{}", args.join(" "));
    }
    let usual = ["proc", "bpf"].map(|source| lines(source, &[], own).len());
    assert_eq!(usual[0], usual[1]);
    assert!(usual[0] >= own.len());
}

/// The containers with these ids, as `ls` tells of them.
fn containers<'i>(source: &str, ids: impl Iterator<Item = &'i String> + Clone) -> Vec<Value> {
    let run = whose().args(["ls", "-a", "--json", "--source", source]);
    let run = run.args(["-o", "+id,+pids,+status,+image,+user,+cgroup"]).run().expect_code(0);
    let Value::Array(all) = run.json()["containers"].take() else { panic!("{}", run.story()) };
    let own = |row: &Value| ids.clone().any(|id| row["id"] == **id);
    let mut rows: Vec<Value> = all.into_iter().filter(own).collect();
    for row in rows.iter_mut().filter_map(Value::as_object_mut) {
        row.remove("up");
    }
    rows
}

fn ls(rig: &Rig) {
    let proc = containers("proc", rig.ids.values());
    assert!(proc.len() >= KINDS.len(), "{}", proc.len());
    assert_eq!(containers("bpf", rig.ids.values()), proc);
}

#[test]
fn containers_of_a_real_engine() {
    if !require(&["root", "kernel-btf", "docker"]) {
        return;
    }
    let _alone = alone();
    let docker = Docker::hybrid().unwrap_or_else(|e| panic!("{e}"));
    docker.image();
    let name = unique("scan-web");
    let web = docker.run(&[
        "--name",
        &name,
        "--label",
        "a=b",
        IMAGE,
        "sh",
        "-c",
        "sleep 9 & exec sleep 10000",
    ]);
    docker.cli(&["exec", "-d", &web, "sleep", "20001"]);
    docker.cli(&["exec", "-d", "-u", "1000", &web, "sleep", "20002"]);
    let host = docker.run(&["--pid=host", "--user", "1000", IMAGE, "sleep", "10000"]);
    let paused = docker.run(&["--init", IMAGE, "sleep", "10000"]);
    let undead = docker.run(&[IMAGE, "sh", "-c", "(exit 0) & exec sleep 10000"]);
    procfs::wait_for("exec'd processes", Duration::from_secs(20), || {
        let dead = family(docker.init_pid(&undead)).into_iter().filter(|pid| !procfs::alive(*pid));
        (docker.top_pids(&web).len() >= 3 && dead.count() == 1).then_some(())
    });
    // What sleeps for a moment only is over before anything is compared.
    procfs::wait_for("steady containers", Duration::from_secs(20), || {
        (docker.top_pids(&web).len() == 3).then_some(())
    });
    docker.cli(&["pause", &paused]);
    // `docker top` has no zombies.
    let of = |id: &String| &docker.top_pids(id) | &family(docker.init_pid(id));
    let sets: Vec<(&String, BTreeSet<u32>)> =
        [&web, &host, &paused, &undead].into_iter().map(|id| (id, of(id))).collect();
    let own: BTreeSet<u32> = sets.iter().flat_map(|(_, pids)| pids.iter().copied()).collect();
    let mut cases = Cases::of("scan-docker");
    cases.case("every column", || same(&["ps", "-o", &all_columns()], &own));
    cases.case("pid,comm,owner", || same(&["ps", "-o", "pid,comm,owner,status"], &own));
    cases.case("owners", || {
        for source in ["proc", "bpf"] {
            let list = listed(source, &["ps", "-o", "pid,owner,status,role"]);
            for (id, pids) in &sets {
                for pid in pids {
                    assert_eq!(list.row(*pid)["owner"]["id"], **id, "{source} {pid}");
                }
                let state = if **id == paused { "paused" } else { "running" };
                let first = pids.first().unwrap();
                assert_eq!(list.row(*first)["owner"]["state"], state, "{source}");
            }
        }
    });
    cases.case("-c", || filtered(&["ps", "-c", &name], &own));
    cases.case("ls", || {
        let ids = sets.iter().map(|(id, _)| *id);
        let proc = containers("proc", ids.clone());
        assert_eq!(proc.len(), 4);
        assert_eq!(containers("bpf", ids), proc);
    });
    cases.finish();
}

/// Cgroups that most processes are not in.
#[test]
fn odd_cgroups() {
    if !require(&["root", "kernel-btf", "cc", "cgroup-v2"]) {
        return;
    }
    let _alone = alone();
    let Some(mount) = v2_mount() else { return skip("cgroup-v2", "it is not mounted") };
    let mut janitor = Janitor::start();
    let mut cases = Cases::of("scan-cgroups");
    cases.case("threaded", || threaded(&mount, &mut janitor));
    cases.case("a cgroup that is moved into and out of", || moved(&mount, &mut janitor));
    kernel_thread(&mut cases, &mount, &mut janitor);
    cases.finish();
}

/// The threads of a process are in cgroups below the one that it is in itself.
fn threaded(mount: &Path, janitor: &mut Janitor) {
    let id = fake_id(unique("threaded"));
    let above = CgroupDir::make(mount, &format!("docker/{id}"));
    let below = CgroupDir::make(mount, &format!("docker/{id}/below"));
    janitor.remove(&above);
    janitor.remove(&below);
    std::fs::write(below.path().join("cgroup.type"), "threaded").expect("a threaded cgroup");
    let mut crowd = Crowd::start();
    let pid = crowd.make("threads=4", &[&above]);
    let sibling = crowd.make("threads=4", &[&above]);
    std::fs::write(below.path().join("cgroup.threads"), pid.to_string()).expect("a thread moves");
    assert!(procfs::cgroup(pid).unwrap().contains("/below"), "{:?}", procfs::cgroup(pid));
    let own = BTreeSet::from([pid, sibling]);
    same(&["ps", "-o", &all_columns()], &own);
    for source in ["proc", "bpf"] {
        let list = listed(source, &["ps", "-o", "pid,owner,cgroup"]);
        for pid in &own {
            assert_eq!(list.row(*pid)["owner"]["id"], *id, "{source}");
            let path = procfs::cgroup(*pid).unwrap();
            let path = path.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned();
            assert_eq!(list.row(*pid)["process"]["cgroup"], *path, "{source}");
        }
    }
    drop(crowd);
}

/// Processes that change their container all the time are in one of the two.
fn moved(mount: &Path, janitor: &mut Janitor) {
    let ids = ["here", "there"].map(|word| fake_id(unique(word)));
    let dirs = ids.each_ref().map(|id| CgroupDir::make(mount, &format!("docker/{id}")));
    dirs.iter().for_each(|dir| janitor.remove(dir));
    let mut crowd = Crowd::start();
    // All of a container's processes are of one group, which is read once: they have to be told apart.
    let leader = crowd.make("count=20 ns=pid", &[&dirs[0]]);
    let own: Vec<u32> = family(leader).into_iter().collect();
    let (staying, moving) = own.split_at(10);
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ended = &ended;
        let dirs = &dirs;
        scope.spawn(move || {
            for turn in 1.. {
                for pid in moving {
                    if ended.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                    dirs[turn % 2].join(*pid);
                }
            }
        });
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut both = BTreeSet::new();
            for turn in 0..20 {
                let list = listed(["bpf", "proc"][turn % 2], &["ps", "-o", "pid,owner,cgroup"]);
                for pid in staying {
                    assert_eq!(list.row(*pid)["owner"]["id"], *ids[0], "{pid} did not move");
                }
                for pid in moving {
                    let row = list.row(*pid);
                    let at = ids.iter().position(|id| row["owner"]["id"] == **id);
                    let at = at.unwrap_or_else(|| panic!("{pid}: {row:?}"));
                    let cgroup = row["process"]["cgroup"].as_str().unwrap();
                    assert!(cgroup.contains(&ids[at]), "{pid}: {row:?}");
                    both.insert(at);
                }
            }
            both
        }));
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        match seen {
            Ok(both) => assert_eq!(both.len(), 2, "nobody was seen to move"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    drop(crowd);
}

/// A kernel thread in a container's cgroup is the kernel's all the same.
fn kernel_thread(cases: &mut Cases, mount: &Path, janitor: &mut Janitor) {
    let dir = CgroupDir::make(mount, &format!("docker/{}", fake_id(unique("kernel"))));
    janitor.remove(&dir);
    let procs = dir.path().join("cgroup.procs");
    let back = mount.join("cgroup.procs");
    let is_at_top = |pid: &u32| {
        procfs::cgroup(*pid).is_some_and(|text| text.contains("\n0::/\n") || text == "0::/\n")
    };
    let threads = procfs::children(2).into_iter().filter(is_at_top);
    let moved = threads.into_iter().find(|pid| {
        janitor.write(&back, &pid.to_string());
        std::fs::write(&procs, pid.to_string()).is_ok()
    });
    let Some(pid) = moved else {
        return eprintln!("        skipped: the kernel moves none of its threads");
    };
    cases.case("a kernel thread", || {
        let own = BTreeSet::from([pid]);
        assert!(procfs::cgroup(pid).unwrap().contains("/docker/"));
        let columns = "pid,ppid,user,nice,start_ticks,pidns,cgroup,role,owner,args,inside_pids,tty";
        same(&["ps", "-k", "-o", columns], &own);
        for source in ["proc", "bpf"] {
            let list = listed(source, &["ps", "-k", "-o", "pid,role,owner"]);
            assert_eq!(list.row(pid)["process"]["role"], "kernel", "{source}");
            assert_eq!(list.row(pid)["owner"]["kind"], "host", "{source}");
            let list = listed(source, &["ps", "--containers-only", "-k"]);
            assert!(!list.rows.contains_key(&pid), "{source}");
        }
    });
    std::fs::write(&back, pid.to_string()).expect("it goes back");
}
