//! What processes are called that are there all the while from one listing of `/proc` to a later one.

use std::cell::Cell;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};

use crate::drain::{read_to_end, read_whole};
use crate::host::Host;
use crate::parse;

/// Longest name of a process that is no kernel thread (`TASK_COMM_LEN` of the kernel's
/// include/linux/sched.h, less its NUL).
const LONGEST: usize = 15;
/// The kernel thread that all others are children of.
const KTHREADD: u32 = 2;
/// Cap of `children`: 4 million PIDs.
const CHILDREN: usize = 32 << 20;
/// How often the children are listed for one list that lacks nobody.
const TRIES: usize = 5;
/// Processes between two looks at the clock.
const TOGETHER: usize = 64;

/// A process as a listing of `/proc` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its PID.
    pub pid: u32,
    /// The inode of its directory. The kernel gives a number of its own to the directory of each process
    /// (`get_next_ino` of fs/inode.c), and while a process lives drops it only for want of memory: the same
    /// one twice is the same process.
    pub inode: u64,
}

/// See the module. It costs half of reading `stat` of each, which has the name too but is composed of
/// some fifty numbers.
#[derive(Debug)]
pub struct Names {
    /// In ascending order of the PIDs.
    all: Vec<Name>,
    /// Where the last one was that was asked for.
    asked: Cell<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    listed: Listed,
    bytes: [u8; LONGEST],
    length: u8,
    /// It was there before and after.
    has_lasted: bool,
}

impl Names {
    /// Reads the names (`comm`, any user) of those of a listing that are wanted and no kernel threads. Who
    /// was met between that listing and this call by his PID, was met as the one who has the name if
    /// [`Names::of`] tells it.
    ///
    /// `None` where it can't be told who is a kernel thread: in a PID namespace without those, and
    /// without `children` (`CONFIG_PROC_CHILDREN`, kernel 4.2).
    #[must_use]
    pub fn read(
        host: &Host,
        before: &[Listed],
        wanted: &mut dyn FnMut(u32) -> bool,
    ) -> Option<Self> {
        let kernel_threads = kernel_threads(host)?;
        let is_user = |pid: u32| kernel_threads.binary_search(&pid).is_err();
        let mut all = Vec::with_capacity(before.len());
        let mut text = Vec::with_capacity(256);
        for some in before.chunks(TOGETHER) {
            if host.out_of_time() {
                break;
            }
            for listed in some.iter().filter(|listed| is_user(listed.pid) && wanted(listed.pid)) {
                all.extend(name(host, *listed, &mut text));
            }
        }
        let after = host.listed().ok()?;
        let mut after = after.iter().peekable();
        for name in &mut all {
            while after.next_if(|other| other.pid < name.listed.pid).is_some() {}
            name.has_lasted = after.peek().is_some_and(|other| **other == name.listed);
        }
        Some(Self { all, asked: Cell::new(0) })
    }

    /// The name of a process that was there before and after, and the inode of its directory.
    #[must_use]
    pub fn of(&self, pid: u32) -> Option<(&[u8], u64)> {
        // Whoever asks for all does so in their order.
        let next = self.asked.get().wrapping_add(1);
        let at = match self.all.get(next) {
            Some(name) if name.listed.pid == pid => next,
            _ => self.all.binary_search_by_key(&pid, |name| name.listed.pid).ok()?,
        };
        self.asked.set(at);
        let name = &self.all[at];
        name.has_lasted.then(|| (name.text(), name.listed.inode))
    }

    /// Whether one whose name was read has this name, be he gone by now or not.
    #[must_use]
    pub fn has(&self, name: &[u8]) -> bool {
        self.all.iter().any(|one| one.text() == name)
    }
}

impl Name {
    fn text(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// Its name as `comm` has it by now; nothing if that can't be read.
fn name(host: &Host, listed: Listed, text: &mut Vec<u8>) -> Option<Name> {
    host.before_read(listed.pid, "comm");
    let mut path = [0_u8; 24];
    let length = {
        use std::io::Write;
        let mut rest = &mut path[..];
        write!(rest, "{}/comm", listed.pid).ok()?;
        24 - rest.len()
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(host.proc_dir(), &path[..length], flags, Mode::empty()).ok()?;
    text.clear();
    read_whole(file.as_fd(), text, 4096).ok()?;
    let named = text.strip_suffix(b"\n")?;
    let mut bytes = [0; LONGEST];
    bytes.get_mut(..named.len())?.copy_from_slice(named);
    let length = u8::try_from(named.len()).ok()?;
    Some(Name { listed, bytes, length, has_lasted: false })
}

/// The kernel threads, in ascending order. Such a list of children lacks some only if one that it has
/// ends while it is made (`get_children_iter` of the kernel's fs/proc/array.c): then the next list does not
/// have that one.
fn kernel_threads(host: &Host) -> Option<Vec<u32>> {
    if !host.stat_of(KTHREADD).is_ok_and(|stat| stat.is_kernel_thread()) {
        return None;
    }
    let mut last = children(host, KTHREADD)?;
    for _ in 1..TRIES {
        let next = children(host, KTHREADD)?;
        let is_whole = last.iter().all(|pid| next.binary_search(pid).is_ok());
        if is_whole {
            last.insert(last.partition_point(|pid| *pid < KTHREADD), KTHREADD);
            return Some(last);
        }
        last = next;
    }
    None
}

fn children(host: &Host, pid: u32) -> Option<Vec<u32>> {
    let name = format!("{pid}/task/{pid}/children");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(host.proc_dir(), name, flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    read_to_end(file.as_fd(), &mut text, CHILDREN).ok()?;
    (text.len() <= CHILDREN).then(|| parse::children::parse(&text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::process::{Child, Command, Stdio};

    use super::{Names, kernel_threads};
    use crate::{Host, Options};

    fn asleep() -> Child {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn kernel_threads_are_those_of_stat() {
        let host = Host::open(Options::default()).unwrap();
        let since = host.uptime_ticks().unwrap();
        let Some(told) = kernel_threads(&host) else { return };
        for listed in host.listed().unwrap() {
            let Ok(stat) = host.stat_of(listed.pid) else { continue };
            // One that has begun meanwhile is in no list of before.
            if stat.start_ticks + 1 < since {
                let is_told = told.binary_search(&listed.pid).is_ok();
                assert_eq!(is_told, stat.is_kernel_thread(), "{stat:?}");
            }
        }
    }

    #[test]
    fn a_name_is_that_of_stat() {
        let child = asleep();
        let host = Host::open(Options::default()).unwrap();
        let dir = host.process(child.id()).unwrap();
        // It is called otherwise until it has become `sleep`.
        while dir.stat().is_ok_and(|stat| stat.comm != "sleep") {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let before = host.listed().unwrap();
        let names = Names::read(&host, &before, &mut |_| true);
        let (stat, inode) = (dir.stat().unwrap(), dir.inode().unwrap());
        end(child);
        if let Some(names) = names {
            let (name, of) = names.of(stat.pid).unwrap();
            assert!(of == inode && names.has(name));
            assert_eq!(name, stat.comm);
        }
    }

    #[test]
    fn who_has_ended_or_taken_over_a_number_is_not_told_of() {
        let children = RefCell::new(vec![asleep(), asleep()]);
        let pids: Vec<u32> = children.borrow().iter().map(Child::id).collect();
        let (first, ended) = (pids[0], Cell::new(false));
        let children = std::rc::Rc::new(children);
        let (theirs, ended) = (std::rc::Rc::clone(&children), std::rc::Rc::new(ended));
        let done = std::rc::Rc::clone(&ended);
        let probe = move |pid: u32, file: &str| {
            if pid == first && file == "comm" && !done.replace(true) {
                end(theirs.borrow_mut().remove(0));
            }
        };
        let host = Host::open(Options { probe: Some(Box::new(probe)), ..Options::default() });
        let host = host.unwrap();
        let mut before = host.listed().unwrap();
        // As it would be seen if the number of the second had been another's.
        for listed in before.iter_mut().filter(|listed| listed.pid == pids[1]) {
            listed.inode += 1;
        }
        let names = Names::read(&host, &before, &mut |_| true);
        let told = names.map(|names| (names.of(first).is_some(), names.of(pids[1]).is_some()));
        children.take().into_iter().for_each(end);
        if let Some(told) = told {
            assert!(ended.get());
            assert_eq!(told, (false, false));
        }
    }
}
