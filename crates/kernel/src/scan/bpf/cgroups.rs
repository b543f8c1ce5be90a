//! The cgroups of all processes: by their ids where those tell all, else read once a group.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::os::fd::AsFd;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Task;
use crate::drain::read_to_end;
use crate::error::{Class, Malformed, ReadError};
use crate::host::Host;
use crate::parse;
use crate::parse::cgroup::Line;
use crate::scan::cgroups::by_id;

/// What `/proc/PID/cgroup` tells, or why it could not be read. Members of a group share theirs, and
/// so do groups that are told the same.
pub type Cgroups = Result<Rc<Vec<Line>>, ReadError>;

/// `PF_EXITING` of the kernel's include/linux/sched.h.
const EXITING: u64 = 0x4;
/// What a read takes; more than most such files have.
const BUFFER: usize = 8 << 10;
/// Cap of `cgroup`, as for one process.
const LARGEST: usize = 1 << 20;

/// The cgroups of each of these processes of one scan, in the same order.
///
/// Where all v1 hierarchies have only their root, what the kernel said of the v2 cgroup tells all.
/// Otherwise a group's are read from its first and its last member; when they differ, a process has
/// moved meanwhile, and each member's own are read.
#[must_use]
pub fn cgroups(host: &Host, tasks: &[Task]) -> Vec<Cgroups> {
    let number = |task: &Task| task.group as usize;
    let groups = tasks.iter().map(number).max().map_or(0, |last| last + 1);
    let mut firsts: Vec<Option<&Task>> = vec![None; groups];
    for task in tasks {
        firsts[number(task)].get_or_insert(task);
    }
    let own = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
    let own = tasks.iter().find(|task| task.pid == own).map(|task| task.cgroup_id);
    let wanted: HashSet<u64> = firsts.iter().flatten().map(|task| task.cgroup_id).collect();
    let by_id = by_id(host, &wanted, own);
    let lines = |first: &Option<&Task>| by_id.lines.get(&first.as_ref()?.cgroup_id).cloned();
    let mut told: Vec<Option<Rc<Vec<Line>>>> = firsts.iter().map(lines).collect();
    let mut members: Vec<Vec<&Task>> = vec![Vec::new(); groups];
    for task in tasks.iter().filter(|task| told[number(task)].is_none()) {
        members[number(task)].push(task);
    }
    let mut reader = Reader::new(host);
    for (told, members) in told.iter_mut().zip(&members) {
        let Some(first) = members.first() else { continue };
        let path = by_id.paths.get(&first.cgroup_id);
        *told = path.and_then(|path| reader.both(members, path)).or_else(|| reader.shared(members));
    }
    let one = |task| match &told[number(task)] {
        Some(lines) => Ok(Rc::clone(lines)),
        None => reader.own(task),
    };
    tasks.iter().map(one).collect()
}

/// Reads files of many processes into the same memory.
struct Reader<'h> {
    host: &'h Host,
    /// The name of a file beneath /proc.
    name: String,
    /// The first member's text.
    text: Vec<u8>,
    /// Whatever else is read.
    other: Vec<u8>,
    /// What each text says: few differ.
    texts: HashMap<Vec<u8>, Rc<Vec<Line>>>,
}

impl<'h> Reader<'h> {
    fn new(host: &'h Host) -> Self {
        let (text, other) = (Vec::with_capacity(BUFFER), Vec::with_capacity(BUFFER));
        Self { host, name: String::new(), text, other, texts: HashMap::new() }
    }

    /// What the first and the last member both tell, if they are in the v2 cgroup that the group was in.
    /// Who they are need not be known then: two others would have to be in that cgroup by now, and both
    /// elsewhere than the group in the same way. What may be told of one on its way out does not count:
    /// both may have been ended.
    fn both(&mut self, group: &[&Task], path: &[u8]) -> Option<Rc<Vec<Line>>> {
        let [first, .., last] = group else { return None };
        self.read(first.pid, "cgroup").ok()?;
        let mut lines = self.other.split(|b| *b == b'\n');
        let is_there = lines.clone().any(|line| line.strip_prefix(b"0::") == Some(path));
        let is_v1 = |line: &[u8]| !line.is_empty() && !line.starts_with(b"0::");
        if !is_there || lines.all(|line| !is_v1(line) || line.ends_with(b":/")) {
            return None;
        }
        std::mem::swap(&mut self.text, &mut self.other);
        self.read(last.pid, "cgroup").ok()?;
        if self.text == self.other { self.parsed().ok() } else { None }
    }

    /// What the first and the last member that are still there both tell. Of the first it is made sure
    /// that it is who it was, and has not begun to exit, whereupon /proc tells less. The last can only
    /// disagree: whoever has its PID by now either tells the same, or the group is read one by one.
    fn shared(&mut self, group: &[&Task]) -> Option<Rc<Vec<Line>>> {
        let mut rest = group.iter();
        rest.find(|task| self.read_of(task).is_ok_and(|flags| is_alike(flags, task.flags)))?;
        let mut last = rest.rev();
        if last.any(|task| self.read(task.pid, "cgroup").is_ok()) && self.other != self.text {
            return None;
        }
        self.parsed().ok()
    }

    /// One process's own.
    fn own(&mut self, task: &Task) -> Cgroups {
        self.read_of(task)?;
        let path = || self.host.shown(format!("proc/{}/cgroup", task.pid).as_bytes());
        self.parsed().map_err(|e| e.at(path()))
    }

    /// Reads the cgroups of a process, and its flags; `gone` when another has its PID by now. What was
    /// read is its own: it had the PID before, and has it after.
    fn read_of(&mut self, task: &Task) -> Result<u64, ReadError> {
        self.read(task.pid, "cgroup")?;
        std::mem::swap(&mut self.text, &mut self.other);
        self.read(task.pid, "stat")?;
        let path = || self.host.shown(format!("proc/{}", self.name).as_bytes());
        let stat = parse::stat::parse(&self.other).map_err(|e| e.at(path()))?;
        if stat.start_ticks == task.start_ticks {
            return Ok(stat.flags);
        }
        Err(ReadError::new(path(), Class::Gone, "another process has the PID now"))
    }

    /// Reads a file of whoever has this PID. The kernel makes it in one piece: what does not fill the
    /// memory is all of it.
    fn read(&mut self, pid: u32, file: &str) -> Result<(), ReadError> {
        self.host.before_read(pid, file);
        self.name.clear();
        let _ = write!(self.name, "{pid}/{file}");
        self.other.clear();
        let into = &mut self.other;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened =
            rustix::fs::openat(self.host.proc_dir(), self.name.as_str(), flags, Mode::empty());
        let read = opened.and_then(|fd| {
            let room = into.capacity();
            match rustix::io::read(&fd, rustix::buffer::spare_capacity(into)) {
                Ok(n) if n < room => Ok(()),
                Ok(_) | Err(Errno::INTR) => read_to_end(fd.as_fd(), into, LARGEST),
                Err(errno) => Err(errno),
            }
        });
        let path = || self.host.shown(format!("proc/{}", self.name).as_bytes());
        match read {
            Ok(()) if self.other.len() > LARGEST => {
                let why = format!("more than {LARGEST} bytes");
                Err(ReadError::new(path(), Class::Malformed, why))
            }
            Ok(()) => Ok(()),
            Err(errno) => Err(ReadError::from_errno(path(), errno)),
        }
    }

    /// What the text says.
    fn parsed(&mut self) -> Result<Rc<Vec<Line>>, Malformed> {
        if let Some(lines) = self.texts.get(&self.text) {
            return Ok(Rc::clone(lines));
        }
        let lines = Rc::new(parse::cgroup::parse(&self.text)?);
        self.texts.insert(self.text.clone(), Rc::clone(&lines));
        Ok(lines)
    }
}

/// Whether both or none of these flags are those of a process on its way out.
fn is_alike(flags: u64, others: u64) -> bool {
    (flags ^ others) & EXITING == 0
}
