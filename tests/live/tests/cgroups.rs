//! What the directories of cgroups tell of processes is what `/proc/PID/cgroup` says, or nothing.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test: a panic is its report, stderr its log"
)]

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bstr::ByteSlice;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::parse::stat::Stat;
use whose_kernel::scan::Memberships;
use whose_kernel::scan::cgroups::by_id;
use whose_kernel::{Host, Options};
use whose_live_tests::{alone, unique};
use whose_testkit::cgroup::{CgroupDir, v1_mount, v2_mount};
use whose_testkit::hostile::{Headless, Zombie};
use whose_testkit::{procfs, require};

/// More directories than there are.
const MANY: usize = 1_000_000;
/// Set for the part of a test that runs in a cgroup namespace of its own.
const INNER: &str = "WHOSE_INNER_NAMESPACE";

fn host() -> Host {
    Host::open(Options::default()).unwrap()
}

fn can_run(name: &str) -> bool {
    if !require(&["root", "cc", "unshare", "cgroup-v2"]) {
        return false;
    }
    let namespace = std::fs::read_link("/proc/self/ns/cgroup").unwrap();
    if namespace != Path::new("cgroup:[4026531835]") {
        whose_testkit::skip(name, "this is not the initial cgroup namespace");
        return false;
    }
    true
}

/// A process that sleeps, until it goes out of scope.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let is_there = || (procfs::comm(child.id())? == "sleep").then_some(());
        procfs::wait_for("sleep", Duration::from_secs(20), is_there);
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A cgroup whose name need not be text.
struct Odd(PathBuf);

impl Odd {
    fn make(parent: &Path, name: &[u8]) -> std::io::Result<Self> {
        let path = parent.join(OsStr::from_bytes(name));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        let removed = || std::fs::remove_dir(&self.0).is_ok().then_some(());
        procfs::wait_for("an empty cgroup", Duration::from_secs(20), removed);
    }
}

fn join(dir: &Path, pid: u32) {
    std::fs::write(dir.join("cgroup.procs"), pid.to_string()).unwrap();
}

/// What /proc says of a process.
fn read(host: &Host, pid: u32) -> Option<(Stat, Vec<Line>)> {
    let dir = host.process(pid).ok()?;
    Some((dir.stat().ok()?, dir.cgroup().ok()?))
}

fn all(host: &Host) -> HashMap<u32, (Stat, Vec<Line>)> {
    host.pids().unwrap().into_iter().filter_map(|pid| Some((pid, read(host, pid)?))).collect()
}

fn told(memberships: &Memberships, pid: u32) -> Option<Vec<Line>> {
    let (stat, _) = read(&host(), pid)?;
    memberships.lines(pid, stat.start_ticks, stat.flags).map(|lines| lines.to_vec())
}

fn v2(lines: &[Line]) -> &Line {
    lines.iter().find(|line| line.is_v2()).expect("a line of cgroup v2")
}

/// What started in the last two ticks is not told of.
fn pass_two_ticks() {
    let host = host();
    let begin = host.uptime_ticks().unwrap();
    let passed = || (host.uptime_ticks().unwrap() > begin + 2).then_some(());
    procfs::wait_for("two ticks", Duration::from_secs(5), passed);
}

/// Moves a kernel thread that may be moved; its PID and where it was.
fn move_kernel_thread(host: &Host, dir: &Path) -> Option<(u32, String)> {
    let kernel = all(host).into_iter().filter(|(_, (stat, _))| stat.is_kernel_thread());
    kernel.into_iter().find_map(|(pid, (_, lines))| {
        let path = v2(&lines).path.to_string();
        std::fs::write(dir.join("cgroup.procs"), pid.to_string()).ok()?;
        Some((pid, path))
    })
}

#[test]
fn everybody_is_told_to_be_where_proc_says() {
    if !can_run("everybody_is_told_to_be_where_proc_says") {
        return;
    }
    let _alone = alone();
    let mount = v2_mount().expect("cgroup2 is mounted");
    let outer = CgroupDir::make(&mount, &format!("{}/in/deep", unique("cgroups")));
    let parent = outer.path().parent().unwrap();
    let names = [
        &b"a b"[..],
        b"c:d",
        b"e\\040f",
        b"g\xff\xfeh",
        b"i (deleted)",
        b"\x1b[31m",
        b"#,;=",
        b"-",
    ];
    let odd: Vec<Odd> = names.iter().map(|name| Odd::make(parent, name).unwrap()).collect();
    // Kernels of today refuse a name that would end a line.
    let line = Odd::make(parent, b"j\nk");
    let mut sleepers = Vec::new();
    for dir in odd.iter().chain(line.as_ref().ok()).map(|odd| odd.0.as_path()).chain([outer.path()])
    {
        sleepers.push(Sleeper::start());
        join(dir, sleepers.last().unwrap().pid());
    }
    let host = host();
    let kernel = move_kernel_thread(&host, outer.path());
    pass_two_ticks();

    let before = all(&host);
    let memberships = Memberships::within(&host, MANY).expect("all hierarchies are mounted");
    let after = all(&host);
    if let Some((pid, path)) = &kernel {
        join(&mount.join(path.trim_start_matches('/')), *pid);
    }
    let mut compared = 0;
    for (pid, (stat, lines)) in &after {
        let Some(told) = memberships.lines(*pid, stat.start_ticks, stat.flags) else { continue };
        // Whoever did not move is compared; another may have ended, and its PID be given again.
        let is_same =
            |(was, were): &&(Stat, Vec<Line>)| were == lines && was.start_ticks == stat.start_ticks;
        if before.get(pid).is_some_and(|was| is_same(&was)) {
            assert_eq!(*told, *lines, "{pid}");
            compared += 1;
        }
    }
    eprintln!("{compared} of {} processes compared, kernel thread {kernel:?}", after.len());
    let kernel = kernel.map(|(pid, _)| pid).into_iter().chain([2]);
    for pid in sleepers.iter().map(Sleeper::pid).chain(kernel).chain([std::process::id()]) {
        let lines = told(&memberships, pid);
        if before[&pid].1.iter().all(|line| !line.path.contains(&b'\n')) && line.is_err() {
            assert_eq!(lines.as_ref(), Some(&before[&pid].1), "{pid}");
        }
    }

    // The same cgroups by their ids.
    let id = |dir: &Path| std::fs::metadata(dir).unwrap().ino();
    let dirs: Vec<&Path> = odd.iter().map(|odd| odd.0.as_path()).chain([outer.path()]).collect();
    let gone = Odd::make(parent, b"gone").unwrap();
    let gone_id = id(&gone.0);
    drop(gone);
    let wanted: HashSet<u64> =
        dirs.iter().map(|dir| id(dir)).chain([gone_id, id(&mount)]).collect();
    let found = by_id(&host, &wanted, None);
    for (dir, sleeper) in dirs.iter().zip(&sleepers).filter(|_| line.is_err()) {
        let path = Path::new("/").join(dir.strip_prefix(&mount).unwrap());
        assert_eq!(found.paths[&id(dir)].as_bstr(), path.as_os_str().as_bytes().as_bstr());
        if let Some(lines) = found.lines.get(&id(dir)) {
            assert_eq!(**lines, before[&sleeper.pid()].1);
        }
    }
    assert_eq!(found.paths[&id(&mount)], b"/");
    assert!(!found.paths.contains_key(&gone_id));
    // What is told of this process would be noticed to be wrong.
    let wrong = by_id(&host, &wanted, Some(id(outer.path())));
    assert!(wrong.paths.is_empty() && wrong.lines.is_empty());
}

#[test]
fn where_threads_are_apart_nobody_is_told_of() {
    if !can_run("where_threads_are_apart_nobody_is_told_of") {
        return;
    }
    let _alone = alone();
    let mount = v2_mount().expect("cgroup2 is mounted");
    let base = unique("threaded");
    let domain = CgroupDir::make(&mount, &format!("{base}/domain"));
    let beside = CgroupDir::make(&mount, &format!("{base}/beside"));
    let threaded = Odd::make(domain.path(), b"threaded").unwrap();
    let inner = Odd::make(&threaded.0, b"inner").unwrap();
    let sleepers: Vec<Sleeper> = (0..4).map(|_| Sleeper::start()).collect();
    let [whole, apart, far, other] = [0, 1, 2, 3].map(|n: usize| sleepers[n].pid());
    for pid in [whole, apart, far] {
        domain.join(pid);
    }
    beside.join(other);
    for dir in [&threaded.0, &inner.0] {
        std::fs::write(dir.join("cgroup.type"), "threaded").unwrap();
    }
    std::fs::write(threaded.0.join("cgroup.threads"), apart.to_string()).unwrap();
    std::fs::write(inner.0.join("cgroup.threads"), far.to_string()).unwrap();
    pass_two_ticks();
    let host = host();
    let says = |pid: u32| v2(&read(&host, pid).unwrap().1).path.to_string();
    assert_eq!(says(apart), format!("/{base}/domain/threaded"));
    assert_eq!(says(far), format!("/{base}/domain/threaded/inner"));
    let memberships = Memberships::within(&host, MANY).expect("all hierarchies are mounted");
    for pid in [whole, apart, far] {
        assert_eq!(told(&memberships, pid), None);
    }
    assert_eq!(told(&memberships, other), Some(read(&host, other).unwrap().1));
    // Their ids are those of their own cgroups.
    let id = std::fs::metadata(&inner.0).unwrap().ino();
    let found = by_id(&host, &HashSet::from([id]), None);
    assert_eq!(found.paths[&id].as_bstr(), says(far).as_bytes().as_bstr());
    for pid in [apart, far] {
        domain.join(pid);
    }
    drop(sleepers);
}

#[test]
fn the_dead_are_not_told_of() {
    if !can_run("the_dead_are_not_told_of") {
        return;
    }
    let _alone = alone();
    let mount = v2_mount().expect("cgroup2 is mounted");
    let stays = CgroupDir::make(&mount, &unique("dead-stays"));
    let goes = mount.join(unique("dead-goes"));
    std::fs::create_dir(&goes).unwrap();
    let goes_id = std::fs::metadata(&goes).unwrap().ino();
    let zombie = Zombie::start(&[stays.path()], false).unwrap();
    let removed = Zombie::start(&[&goes], true).unwrap();
    assert!(!goes.exists());
    let headless = Headless::start().unwrap();
    stays.join(headless.pid());
    pass_two_ticks();
    let host = host();
    let memberships = Memberships::within(&host, MANY).expect("all hierarchies are mounted");
    for pid in [zombie.pid(), removed.pid(), headless.pid()] {
        let stat = read(&host, pid).unwrap().0;
        assert_eq!(
            (stat.is_dead(), stat.goes_on()),
            (pid != headless.pid(), pid == headless.pid())
        );
        assert_eq!(told(&memberships, pid), None, "{pid}");
    }
    assert!(v2(&read(&host, removed.pid()).unwrap().1).deleted);
    let found = by_id(&host, &HashSet::from([goes_id]), None);
    assert!(found.paths.is_empty() && found.lines.is_empty());
    drop((zombie, headless));
}

/// What a process was told to be in, moved to and fro by `step` whenever the walk comes to one of the
/// cgroups with this name, beginning with the `first`.
fn moved_at(
    name: &str,
    first: usize,
    step: impl Fn(usize) + 'static,
    pid: u32,
) -> (Option<Vec<Line>>, usize) {
    let (met, steps) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let probe = {
        let (met, steps, name) = (Rc::clone(&met), Rc::clone(&steps), name.to_owned());
        move |asked: u32, path: &str| {
            if asked != 0 || !path.contains(&name) {
                return;
            }
            if met.replace(met.get() + 1) >= first {
                step(steps.replace(steps.get() + 1));
            }
        }
    };
    let options = Options { probe: Some(Box::new(probe)), ..Options::default() };
    let host = Host::open(options).unwrap();
    let memberships = Memberships::within(&host, MANY).expect("all hierarchies are mounted");
    (told(&memberships, pid), met.get())
}

#[test]
fn who_moves_during_the_walk_is_never_told_to_be_elsewhere() {
    if !can_run("who_moves_during_the_walk_is_never_told_to_be_elsewhere") {
        return;
    }
    let _alone = alone();
    let mount = v2_mount().expect("cgroup2 is mounted");
    let name = unique("moving");
    let mounts: Vec<PathBuf> = [Some(mount), v1_mount("pids")].into_iter().flatten().collect();
    let make = |side: &str| -> Vec<CgroupDir> {
        mounts.iter().map(|mount| CgroupDir::make(mount, &format!("{name}-{side}"))).collect()
    };
    let dirs = [make("one"), make("two")];
    let files: Vec<[PathBuf; 2]> = (0..mounts.len())
        .map(|n| [0, 1].map(|side: usize| dirs[side][n].path().join("cgroup.procs")))
        .collect();
    let sleeper = Sleeper::start();
    let pid = sleeper.pid();
    pass_two_ticks();
    let put = |at: usize, side: usize| std::fs::write(&files[at][side], pid.to_string()).unwrap();
    // In which hierarchies it moves, one at a step; a longer turn moves it back.
    let turns: &[&[usize]] = match mounts.len() {
        1 => &[&[0], &[0, 0]],
        _ => &[&[0], &[1], &[0, 1], &[1, 0], &[0, 0]],
    };
    let (mut answered, mut unanswered) = (0, 0);
    for turn in turns {
        for first in 0.. {
            (0..mounts.len()).for_each(|at| put(at, 0));
            // All it was in, from the beginning on.
            let was = Rc::new(RefCell::new(vec![read(&host(), pid).unwrap().1]));
            let step = {
                let (files, turn, was) = (files.clone(), turn.to_vec(), Rc::clone(&was));
                let sides = RefCell::new(vec![0; mounts.len()]);
                move |step: usize| {
                    let Some(at) = turn.get(step) else { return };
                    let side = 1 - sides.borrow()[*at];
                    sides.borrow_mut()[*at] = side;
                    std::fs::write(&files[*at][side], pid.to_string()).unwrap();
                    was.borrow_mut().push(read(&host(), pid).unwrap().1);
                }
            };
            let (told, met) = moved_at(&name, first, step, pid);
            match told {
                Some(lines) => {
                    assert!(was.borrow().contains(&lines), "{turn:?} {first}: {lines:?}, {was:?}");
                    answered += 1;
                }
                None => unanswered += 1,
            }
            assert!(met >= 2, "the walk came by {met} of the two cgroups");
            if first >= met {
                assert_eq!(was.borrow().len(), 1, "nothing moved");
                break;
            }
        }
    }
    eprintln!("{answered} answered, {unanswered} not");
    assert!(answered > 0 && unanswered > 0);

    // And one that moves all the time.
    let done = AtomicBool::new(false);
    (0..mounts.len()).for_each(|at| put(at, 0));
    let host = host();
    let is_one = |lines: &[Line]| v2(lines).path == format!("/{name}-one");
    let is_two = |lines: &[Line]| v2(lines).path == format!("/{name}-two");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for side in [1, 0].into_iter().cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                put(0, side);
            }
        });
        let mut seen = [0; 3];
        for _ in 0..20 {
            let memberships = Memberships::within(&host, MANY).expect("all are mounted");
            match told(&memberships, pid) {
                None => seen[2] += 1,
                Some(lines) => {
                    assert!(is_one(&lines) || is_two(&lines), "{lines:?}");
                    seen[usize::from(is_two(&lines))] += 1;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        eprintln!("always moving: {seen:?} in one, two, not told of");
    });
}

#[test]
fn who_came_during_the_walk_is_not_told_of() {
    if !can_run("who_came_during_the_walk_is_not_told_of") {
        return;
    }
    let _alone = alone();
    let mount = v2_mount().expect("cgroup2 is mounted");
    let name = unique("coming");
    let dir = CgroupDir::make(&mount, &name);
    let before = Sleeper::start();
    dir.join(before.pid());
    pass_two_ticks();
    let came = Rc::new(RefCell::new(None));
    let probe = {
        let (came, dir, name) = (Rc::clone(&came), dir.path().to_owned(), name.clone());
        move |asked: u32, path: &str| {
            if asked == 0 && path.contains(&name) && came.borrow().is_none() {
                let sleeper = Sleeper::start();
                join(&dir, sleeper.pid());
                came.replace(Some(sleeper));
            }
        }
    };
    let options = Options { probe: Some(Box::new(probe)), ..Options::default() };
    let host = Host::open(options).unwrap();
    let memberships = Memberships::within(&host, MANY).expect("all hierarchies are mounted");
    let came = came.take().expect("the walk came by");
    assert_eq!(told(&memberships, before.pid()), Some(read(&host, before.pid()).unwrap().1));
    // Even where it was met: another could have had its PID.
    assert_eq!(told(&memberships, came.pid()), None);
}

#[test]
fn it_is_left_where_it_does_not_fit() {
    if std::env::var_os(INNER).is_some() {
        assert!(Memberships::within(&host(), MANY).is_none());
        let found = by_id(&host(), &HashSet::from([1]), None);
        assert!(found.paths.is_empty() && found.lines.is_empty());
        return;
    }
    if !can_run("it_is_left_where_it_does_not_fit") {
        return;
    }
    let _alone = alone();
    assert!(Memberships::within(&host(), MANY).is_some());
    let dir = CgroupDir::make(&v2_mount().expect("cgroup2 is mounted"), &unique("few"));
    assert!(Memberships::read(&host(), 1).is_none(), "a walk for one process");
    assert!(Memberships::within(&host(), 0).is_none(), "more directories than none");
    drop(dir);
    let mounted = Options { root: Some("/".into()), ..Options::default() };
    assert!(Memberships::within(&Host::open(mounted).unwrap(), MANY).is_none());
    // The paths in another namespace are other texts.
    let inner = Command::new("unshare")
        .arg("-C")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "it_is_left_where_it_does_not_fit", "--nocapture"])
        .env(INNER, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&inner.stdout);
    assert!(inner.status.success() && text.contains("1 passed"), "{inner:?}");
}
