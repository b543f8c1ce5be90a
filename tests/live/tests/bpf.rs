//! The kernel's task iterator tells what /proc tells, field by field, or says why it can't.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test: a panic is its report, stderr its log"
)]

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use whose_kernel::parse::cgroup::Line;
use whose_kernel::parse::io::Io;
use whose_kernel::parse::task_record::Namespaces;
use whose_kernel::scan::bpf::{Scan, Task, Unavailable, Wanted, cgroups, tasks, tasks_by};
use whose_kernel::{Host, Mode, Options, parse};
use whose_live_tests::{alone, unique};
use whose_testkit::cgroup::{CgroupDir, v2_mount};
use whose_testkit::{procfs, require};

const ALL: Wanted = Wanted { rss: true, usage: true };
/// File systems where stat(2) tells the inode as the kernel holds it: ext4, XFS, tmpfs.
const PLAIN: &[u32] = &[0xef53, 0x5846_5342, 0x0102_1994];

/// Three threads, of which one has ended; all have used their CPU, one has written to its disk.
const PROGRAM: &str = r#"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static void burn(void) {
    struct timespec t;
    do { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); getppid(); } while (t.tv_nsec < 70000000);
}
static void *ends(void *unused) { burn(); return unused; }
static void *stays(void *unused) { burn(); *(volatile int *)unused = 1; for (;;) pause(); }
int main(int argc, char **argv) {
    static volatile int burnt;
    static char block[1 << 20];
    pthread_t one, two;
    int fd = open(argv[argc - 1], O_CREAT | O_WRONLY, 0600);
    pthread_create(&one, 0, ends, 0);
    pthread_create(&two, 0, stays, (void *)&burnt);
    burn();
    pthread_join(one, 0);
    while (!burnt) usleep(1000);
    if (write(fd, block, sizeof block) < 0 || fsync(fd) < 0) return 1;
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}
"#;

/// Processes of the test's own, which end with it.
struct Children(Vec<Child>);

impl Children {
    fn start(&mut self, command: &mut Command) -> u32 {
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        self.0.push(child);
        // One that starts in the clock tick of a scan is left to /proc.
        std::thread::sleep(Duration::from_millis(40));
        pid
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            for pid in family(child.id()).into_iter().skip(1) {
                procfs::signal(pid, rustix::process::Signal::KILL);
            }
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Whether what a test needs is there.
fn can_run() -> bool {
    require(&["root", "kernel-btf", "cc", "unshare", "setpriv", "nice", "script"])
}

fn host() -> Host {
    Host::open(Options::default()).unwrap()
}

fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    procfs::wait_for(what, Duration::from_secs(20), look)
}

/// A process and all below it.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while next < all.len() {
        all.extend(procfs::children(all[next]));
        next += 1;
    }
    all
}

/// The process named `sleep` that this one has become, or that is below it.
fn sleeper(pid: u32) -> u32 {
    let is_sleep = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains("(sleep) S "))
    };
    let find = || family(pid).into_iter().find(is_sleep);
    until("sleeping process", find)
}

/// What /proc tells of one process.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    stat: parse::stat::Stat,
    status: parse::status::Status,
    io: Option<Io>,
    pid_ns: Option<u64>,
    user_ns: Option<u64>,
    namespaces: Option<Namespaces>,
    exe: Option<(u64, u64)>,
    lines: Vec<Line>,
}

fn told(host: &Host, pid: u32) -> Option<Told> {
    let dir = host.process(pid).ok()?;
    let ns = |kind: &str| dir.namespace(kind).ok();
    let small = |kind: &str| ns(kind).map(|inode| u32::try_from(inode).unwrap());
    let namespaces = || Some(Namespaces { mnt: small("mnt")?, net: small("net")? });
    let io = std::fs::read(format!("/proc/{pid}/io")).ok();
    let exe = std::fs::metadata(format!("/proc/{pid}/exe")).ok();
    Some(Told {
        stat: dir.stat().ok()?,
        status: dir.status().ok()?,
        io: io.map(|bytes| parse::io::parse(&bytes).unwrap()),
        pid_ns: ns("pid"),
        user_ns: ns("user"),
        namespaces: namespaces(),
        exe: exe.map(|m| (m.dev(), m.ino())),
        lines: dir.cgroup().ok()?,
    })
}

fn all_told(host: &Host) -> HashMap<u32, Told> {
    host.pids().unwrap().into_iter().filter_map(|pid| Some((pid, told(host, pid)?))).collect()
}

/// What can change and change back between two reads, where it differs.
fn differs(task: &Task, told: &Told) -> Vec<String> {
    let (stat, status) = (&told.stat, &told.status);
    let fields = [
        ("state", u64::from(task.state), u64::from(stat.state)),
        ("flags", task.flags, stat.flags),
        ("nice", task.nice.cast_unsigned().into(), stat.nice.cast_unsigned().into()),
        ("threads", task.threads, stat.threads),
        ("vsize", task.vsize, stat.vsize),
        ("rss", task.rss.unwrap_or(u64::MAX), status.rss.unwrap_or(u64::MAX)),
    ];
    let other = fields.into_iter().filter(|(_, here, there)| here != there);
    other.map(|(name, here, there)| format!("{}: {name}: {here}, {there}", task.pid)).collect()
}

/// Compares every other field; the number of fields that could be.
fn compare(task: &Task, told: &Told) -> usize {
    let (pid, stat, status) = (task.pid, &told.stat, &told.status);
    let is_kernel = stat.is_kernel_thread();
    assert_eq!(task.ppid, stat.ppid, "{pid}: ppid");
    assert_eq!(task.session, stat.session, "{pid}: session");
    assert_eq!(task.start_ticks, stat.start_ticks, "{pid}: start");
    assert_eq!(task.tty_nr, stat.tty_nr, "{pid}: tty");
    assert_eq!(task.is_kernel_thread(), is_kernel, "{pid}: kernel thread");
    let comm: Option<&[u8]> = task.comm.as_ref().map(|comm| comm.as_ref());
    assert_eq!(comm, (!is_kernel).then(|| stat.comm.as_slice()), "{pid}: comm");
    let ids = (task.ruid, task.euid, task.egid);
    assert_eq!(ids, (status.ruid, status.euid, status.egid), "{pid}: ids");
    assert_eq!(Some(&*task.pids), status.nspid.as_deref(), "{pid}: pids");
    assert_eq!(Some(task.pid_ns), told.pid_ns, "{pid}: pid namespace");
    assert_eq!(Some(task.user_ns), told.user_ns, "{pid}: user namespace");
    assert_eq!(task.namespaces, told.namespaces, "{pid}: namespaces");
    assert_eq!(task.exe.is_some(), told.exe.is_some(), "{pid}: exe");
    let mut compared = 12;
    if let Some(exe) = task.exe.filter(|exe| PLAIN.contains(&exe.magic)) {
        let device = rustix::fs::makedev(exe.device.0, exe.device.1);
        assert_eq!(Some((device, exe.inode)), told.exe, "{pid}: exe");
        compared += 1;
    }
    // A thread may have come or gone between the two passes over this process.
    if let Some(cpu) = task.cpu {
        assert_eq!(cpu, (stat.utime, stat.stime), "{pid}: cpu");
        compared += 1;
    }
    if let Some(io) = task.io {
        assert_eq!(Some(io), told.io, "{pid}: io");
        compared += 1;
    }
    compared
}

fn find(scan: &Scan, pid: u32) -> &Task {
    let task = scan.tasks.iter().find(|task| task.pid == pid);
    task.unwrap_or_else(|| panic!("{pid} is missing: {:?}", scan.missed))
}

/// Compiles [`PROGRAM`] to a name of odd bytes, and starts it.
fn start_threads(children: &mut Children, dir: &Path) -> u32 {
    let source = dir.join("threads.c");
    std::fs::write(&source, PROGRAM).unwrap();
    let program = dir.join(OsStr::from_bytes(b"a) S\n\xff(b"));
    let compile = Command::new("cc").arg("-pthread").arg(&source).arg("-o").arg(&program).status();
    assert!(compile.unwrap().success());
    let pid = children.start(Command::new(&program).arg(dir.join("out")).stdout(Stdio::piped()));
    let output = children.0.last_mut().unwrap().stdout.take().unwrap();
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    pid
}

#[test]
fn it_tells_what_proc_tells() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut children = Children(Vec::new());
    let mut start = |command: &mut Command| children.start(command);
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        command
    };
    let nice = start(Command::new("nice").args(["-n", "7", "sleep", "1000"]));
    let ids = ["--reuid", "4321", "--regid", "4322", "--clear-groups", "sleep", "1000"];
    let other = start(Command::new("setpriv").args(ids));
    let inner = start(Command::new("unshare").args(["-pf", "sleep", "1000"]));
    let deep = start(&mut shell("exec unshare -pf unshare -Urpf unshare -mniuCpf sleep 1000"));
    // Eight namespaces deep: more than a record has room for.
    let deepest = start(&mut shell(&format!("exec {} sleep 1000", "unshare -pf ".repeat(8))));
    let terminal = ["-qec", "sleep 1000", "/dev/null"];
    let terminal = start(Command::new("script").args(terminal).stdout(Stdio::null()));
    let shm =
        "mount -t tmpfs t /mnt && cp \"$(command -v sleep)\" /mnt/sleep && exec /mnt/sleep 1000";
    let plain = start(Command::new("unshare").args(["-m", "sh", "-c", shm]));
    let dead = start(&mut Command::new("true"));
    let threads = start_threads(&mut children, dir.path());
    let [nice, other, inner, deep, deepest, terminal, plain] =
        [nice, other, inner, deep, deepest, terminal, plain].map(sleeper);
    let is_dead = || procfs::state(dead).filter(|state| *state == 'Z');
    until("zombie", is_dead);

    let host = host();
    let own = [nice, other, inner, deep, terminal, plain, dead, threads];
    // A process of the host may run for a moment between two reads, but not in every round.
    let rounds: Vec<HashSet<u32>> = (0..3).map(|_| round(&host, &own, deepest)).collect();
    let always = rounds[0].iter().filter(|pid| rounds.iter().all(|round| round.contains(pid)));
    assert_eq!(always.count(), 0, "{rounds:?}");

    let scan = tasks(&host, ALL).unwrap();
    assert_eq!(find(&scan, nice).nice, 7);
    assert_eq!((find(&scan, other).euid, find(&scan, other).egid), (4321, 4322));
    assert_eq!(*find(&scan, inner).pids, [inner, 1]);
    assert_eq!(find(&scan, deep).pids.len(), 4);
    assert_ne!(find(&scan, terminal).tty_nr, 0);
    assert!(find(&scan, plain).exe.is_some_and(|exe| PLAIN.contains(&exe.magic)));
    assert_eq!((find(&scan, dead).state, find(&scan, dead).rss), (b'Z', None));
    let task = find(&scan, threads);
    assert_eq!(task.comm.unwrap().as_ref(), b"a) S\n\xff(b");
    assert_eq!(task.threads, 2);
    let (user, system) = task.cpu.unwrap();
    assert!(user + system >= 3 * 6, "three threads of 70 ms: {user} + {system} ticks");
    assert!(find(&scan, 2).is_kernel_thread());
}

/// Compares all processes that /proc tells the same of before and after; these `own` ones have to be
/// among them. The PIDs of those that differ in what may change and change back.
fn round(host: &Host, own: &[u32], deepest: u32) -> HashSet<u32> {
    let before = all_told(host);
    let scan = tasks(host, ALL).unwrap();
    let after = all_told(host);
    let mut compared = HashMap::new();
    let mut differing = HashSet::new();
    for task in &scan.tasks {
        let told = before.get(&task.pid).filter(|told| after.get(&task.pid) == Some(told));
        let Some(told) = told else { continue };
        compared.insert(task.pid, compare(task, told));
        let others = differs(task, told);
        assert!(others.is_empty() || !own.contains(&task.pid), "{others:?}");
        if !others.is_empty() {
            eprintln!("{others:?}");
            differing.insert(task.pid);
        }
    }
    let is_known =
        |pid: u32| scan.tasks.iter().any(|task| task.pid == pid) || scan.missed.contains(&pid);
    for (pid, told) in &after {
        assert!(!before.contains_key(pid) || is_known(*pid), "{pid} is missing: {told:?}");
    }
    eprintln!("{} of {} processes compared", compared.len(), scan.tasks.len());
    for pid in own {
        assert!(compared.get(pid) >= Some(&14), "{pid}: {:?} {:?}", before[pid], after[pid]);
    }
    assert!(scan.missed.contains(&deepest) && compared.contains_key(&2));
    differing
}

#[test]
fn a_groups_cgroups_are_read_once() {
    if !can_run() || !require(&["cgroup-v2"]) {
        return;
    }
    let _alone = alone();
    let mount = v2_mount().expect("cgroup2 is mounted");
    let one = CgroupDir::make(&mount, &unique("bpf-one"));
    let two = CgroupDir::make(&mount, &unique("bpf-two"));
    let mut children = Children(Vec::new());
    let pids: Vec<u32> = (0..5)
        .map(|_| sleeper(children.start(Command::new("sleep").arg("1000"))))
        .inspect(|pid| one.join(*pid))
        .collect();
    let host = host();
    let of = |scan: &Scan, all: &[whose_kernel::scan::bpf::Cgroups], pid: u32| {
        let at = scan.tasks.iter().position(|task| task.pid == pid).unwrap();
        all[at].clone().map(|lines| lines.to_vec())
    };
    let before: HashMap<u32, Told> = all_told(&host);
    let scan = tasks(&host, Wanted::default()).unwrap();
    let all = cgroups(&host, &scan.tasks);
    for (pid, told) in &before {
        let Some(at) = scan.tasks.iter().position(|task| task.pid == *pid) else { continue };
        let now = self::told(&host, *pid).filter(|now| now.lines == told.lines);
        if now.is_some_and(|now| now.stat.flags == told.stat.flags) {
            assert_eq!(
                all[at].as_ref().map(|lines| lines.to_vec()),
                Ok(told.lines.clone()),
                "{pid}"
            );
        }
    }
    let groups: Vec<u32> = pids.iter().map(|pid| find(&scan, *pid).group).collect();
    assert!(groups.iter().all(|group| *group == groups[0]), "{groups:?}");
    let inode = std::fs::metadata(one.path()).unwrap().ino();
    assert!(pids.iter().all(|pid| find(&scan, *pid).cgroup_id == inode));

    // One moves after the scan, one ends, whichever of the group they are: nobody is said to be where
    // another is. Where they were at the scan is an answer too.
    for (moved, ended) in [(0, 4), (3, 1)] {
        let were: HashMap<u32, Told> = all_told(&host);
        let scan = tasks(&host, Wanted::default()).unwrap();
        two.join(pids[moved]);
        if let Some(at) = children.0.iter().position(|child| child.id() == pids[ended]) {
            let mut child = children.0.remove(at);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let all = cgroups(&host, &scan.tasks);
        for pid in &pids {
            let Ok(now) = host.process(*pid).and_then(|dir| dir.cgroup()) else { continue };
            let told = of(&scan, &all, *pid).unwrap();
            assert!(told == now || told == were[pid].lines, "{pid}: {told:?}, not {now:?}");
            assert!(told == now || *pid == pids[moved], "{pid}: {told:?}");
        }
        one.join(pids[moved]);
    }
}

#[test]
fn what_it_lacks_is_said() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let host = host();
    for missing in [&b"sys/kernel/btf/none"[..], b"proc/version"] {
        let refused = tasks_by(&host, ALL, missing).unwrap_err();
        assert!(matches!(refused, Unavailable::NoBtf(_)), "{refused}");
    }
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir(tree.path().join("proc")).unwrap();
    let root = tree.path().as_os_str().as_bytes().into();
    let saved = Host::open(Options { root: Some(root), ..Options::default() }).unwrap();
    assert_eq!(tasks(&saved, ALL), Err(Unavailable::Mode(Mode::Saved)));

    // Before 5.11 it needs memory that may be locked, afterwards not: it works without.
    let limit = getrlimit(Resource::Memlock);
    setrlimit(Resource::Memlock, Rlimit { current: Some(0), ..limit }).unwrap();
    let scan = tasks(&host, ALL);
    let after = getrlimit(Resource::Memlock);
    setrlimit(Resource::Memlock, limit).unwrap();
    assert_eq!(after.current, Some(0), "the limit is as it was");
    assert!(!scan.unwrap().tasks.is_empty());

    // Without the privilege, which a thread has for itself.
    let dropped = std::thread::spawn(|| {
        let none = rustix::thread::CapabilitySets {
            effective: rustix::thread::CapabilitySet::empty(),
            permitted: rustix::thread::CapabilitySet::empty(),
            inheritable: rustix::thread::CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, none).unwrap();
        tasks(&self::host(), ALL)
    });
    assert_eq!(dropped.join().unwrap(), Err(Unavailable::Forbidden));
}

#[test]
fn nothing_is_left_behind() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let host = host();
    for _ in 0..20 {
        let _ = tasks(&host, ALL).unwrap();
    }
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let links = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let left: Vec<_> = links.filter(|link| link.to_string_lossy().contains("bpf")).collect();
    assert!(left.is_empty(), "{left:?}");
}
