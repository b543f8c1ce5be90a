//! One process, read through one descriptor of its `/proc/PID` directory.
//!
//! The descriptor names the process itself, not its number: when the process ends and another gets
//! the PID, reads fail with ESRCH rather than tell of the other.

use std::cell::{Cell, OnceCell};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use bstr::BString;
use rustix::fs::{Access, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::capture::Recorder;
use crate::drain::{read_to_end, read_whole};
use crate::error::{Class, ReadError};
use crate::host::{Host, Mode as HostMode};
use crate::object::Object;
use crate::parse;
use crate::parse::cgroup::Line;
use crate::parse::idmap::Extent;
use crate::parse::mountinfo::Mount;
use crate::parse::stat::Stat;
use crate::parse::status::Status;
use crate::root::{Links, Root};
use crate::worker::{Ask, Slow};

use super::thread::Thread;

/// Cap of the small files, bytes.
const SMALL: usize = 64 * 1024;
/// Cap of `cgroup`: named hierarchies are unlimited in number, paths up to 4096 bytes.
const CGROUP: usize = 1 << 20;
/// Cap of `mountinfo`: the kernel's default limit is 100,000 mounts a namespace.
const MOUNTINFO: usize = 32 << 20;

/// Files that the kernel makes in one piece (`ONE` of fs/proc/base.c): a read that does not fill the
/// buffer has reached the end, which saves the read that says so.
const WHOLE: [&str; 4] = ["stat", "status", "cgroup", "wchan"];

/// A process's directory; see the module.
#[derive(Debug)]
pub struct ProcDir<'h> {
    host: &'h Host,
    pid: u32,
    dir: Dir,
    /// What is read of it belongs in the capture that is made.
    is_recorded: bool,
    /// Its `stat` said that it goes on without its main thread.
    goes_on: Cell<bool>,
    /// Its start ticks, once its `stat` was read here.
    start_ticks: Cell<Option<u64>>,
    /// The thread that has what the main thread has no more.
    thread: OnceCell<Option<Thread>>,
}

#[derive(Debug)]
enum Dir {
    Live(OwnedFd),
    Saved(Root),
}

impl Host {
    /// Opens one process; all its reads hang off that one descriptor.
    ///
    /// # Errors
    /// `gone` when there is no such process.
    pub fn process(&self, pid: u32) -> Result<ProcDir<'_>, ReadError> {
        self.before_read(pid, "open");
        let name = pid.to_string();
        let key = || BString::from(format!("proc/{pid}"));
        if self.mode() == HostMode::Saved {
            let key = key();
            if let Some(met) = self.recorded().and_then(|r| r.failure(&key, || self.shown(&key))) {
                return Err(met);
            }
            // A link in the place of a process is none.
            let proc = self.root().descend(b"proc", Links::Never, None)?;
            let dir = proc.descend(name.as_bytes(), Links::Never, None)?;
            return Ok(ProcDir::new(self, pid, Dir::Saved(dir)));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(self.proc_dir(), name.as_str(), flags, Mode::empty()) {
            Ok(fd) => {
                let mut dir = ProcDir::new(self, pid, Dir::Live(fd));
                dir.is_recorded = self.recorder().is_some_and(|recorder| dir.is_admitted(recorder));
                Ok(dir)
            }
            Err(errno) => {
                let error = ReadError::from_errno(self.shown(&key()), errno);
                if let Some(recorder) = self.recorder() {
                    recorder.failed(&key(), &error, false);
                }
                Err(error)
            }
        }
    }

    /// The `stat` of a process, by its PID alone: cheaper than to open its directory for this only.
    ///
    /// # Errors
    /// As [`Host::process`].
    pub fn stat_of(&self, pid: u32) -> Result<Stat, ReadError> {
        if self.mode() == HostMode::Saved || self.recorder().is_some() {
            return self.process(pid)?.stat();
        }
        self.before_read(pid, "stat");
        let name = format!("{pid}/stat");
        let shown = || self.shown(format!("proc/{name}").as_bytes());
        let errno = |e| ReadError::from_errno(shown(), e);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.proc_dir(), name.as_str(), flags, Mode::empty());
        let mut bytes = Vec::new();
        read_whole(file.map_err(errno)?.as_fd(), &mut bytes, SMALL).map_err(errno)?;
        parse::stat::parse(&bytes).map_err(|m| m.at(shown()))
    }

    /// Whether this very process is there still, and `was_dead` or runs.
    pub(crate) fn outlived(&self, pid: u32, start_ticks: u64, was_dead: bool) -> bool {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let name = pid.to_string();
        let Ok(fd) = rustix::fs::openat(self.proc_dir(), name.as_str(), flags, Mode::empty())
        else {
            return false;
        };
        let dir = ProcDir::new(self, pid, Dir::Live(fd));
        let stat = dir.read_now("stat", SMALL).ok().and_then(|b| parse::stat::parse(&b).ok());
        stat.is_some_and(|s| s.start_ticks == start_ticks && (was_dead || !s.is_dead()))
    }

    /// Begins a read that can block and will be asked for alone, soon: it is done while other things
    /// are.
    pub fn prefetch_slow_read(&self, ask: Ask) {
        if self.mode() != HostMode::Saved && self.recorder().is_none() {
            self.before_read(ask.pid, ask.file.name());
            self.worker().borrow_mut().prefetch(ask, self.deadline());
        }
    }

    /// Does reads that can block, through the worker. A saved tree's are plain files.
    #[must_use]
    pub fn slow_reads(&self, asks: &[Ask]) -> Vec<Result<Vec<u8>, ReadError>> {
        for ask in asks {
            self.before_read(ask.pid, ask.file.name());
        }
        if self.mode() == HostMode::Saved {
            let read = |ask: &Ask| self.process(ask.pid)?.slow_file(ask.file);
            return asks.iter().map(read).collect();
        }
        let read = |asks: &[Ask]| self.worker().borrow_mut().read(asks, self.deadline());
        let Some(recorder) = self.recorder() else { return read(asks) };
        let known: Vec<_> = asks.iter().map(|ask| recorder.answer(ask)).collect();
        let is_new = |(ask, known): (&Ask, &Option<_>)| known.is_none().then_some(*ask);
        let new: Vec<Ask> = asks.iter().zip(&known).filter_map(is_new).collect();
        let answers = read(&new);
        for (ask, answer) in new.iter().zip(&answers) {
            recorder.answered(ask, answer);
        }
        let mut answers = answers.into_iter();
        known.into_iter().filter_map(|known| known.or_else(|| answers.next())).collect()
    }
}

fn size_of(dir: impl AsFd, name: &str) -> Result<u64, Errno> {
    let stat = rustix::fs::statat(dir, name, AtFlags::empty())?;
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}

impl<'h> ProcDir<'h> {
    fn new(host: &'h Host, pid: u32, dir: Dir) -> Self {
        let (goes_on, start_ticks) = (Cell::new(false), Cell::new(None));
        Self { host, pid, dir, is_recorded: false, goes_on, start_ticks, thread: OnceCell::new() }
    }

    /// The directory that has a file of it: the main thread's, or once that has ended another's.
    fn dir_of<'d>(&'d self, main: &'d OwnedFd, name: &str) -> &'d OwnedFd {
        if !self.goes_on.get() || matches!(name, "stat" | "status") {
            return main;
        }
        self.thread().map_or(main, |thread| &thread.dir)
    }

    fn thread(&self) -> Option<&Thread> {
        let Dir::Live(dir) = &self.dir else { return None };
        self.thread.get_or_init(|| Thread::living(dir, self.pid)).as_ref()
    }

    /// By what its memory is read, a PID and start ticks, once its `stat` was read: itself, or a thread
    /// of it when the main thread has ended. /proc has a directory for each thread's number too.
    #[must_use]
    pub fn reader(&self, start_ticks: u64) -> (u32, u64) {
        let thread = self.goes_on.get().then(|| self.thread()).flatten();
        thread.map_or((self.pid, start_ticks), |thread| (thread.tid, thread.start_ticks))
    }

    fn note(&self, stat: &Stat) {
        self.start_ticks.set(Some(stat.start_ticks));
        if stat.goes_on() {
            self.goes_on.set(true);
        }
    }

    /// Whether the capture takes this process: not if it has had another one with the same PID.
    fn is_admitted(&self, recorder: &Recorder) -> bool {
        match self.read_now("stat", SMALL) {
            Ok(bytes) => {
                let stat = parse::stat::parse(&bytes).ok();
                let admitted =
                    stat.is_some_and(|s| recorder.admit(self.pid, s.start_ticks, s.is_dead()));
                if admitted {
                    recorder.content(&self.key("stat"), &bytes, None);
                }
                admitted
            }
            // Not even that may be read (hidepid): what is met here is kept all the same.
            Err(e) => e.class != Class::Gone,
        }
    }

    /// What is read of it is written here.
    pub(crate) fn recorder(&self) -> Option<&Rc<Recorder>> {
        self.host.recorder().filter(|_| self.is_recorded)
    }

    fn key(&self, name: &str) -> BString {
        format!("proc/{}/{name}", self.pid).into()
    }

    /// A file that a captured tree does not have was not asked for when it was made: every process
    /// has the same ones, and what one does not have is in the manifest.
    fn uncaptured(&self, name: &str, error: ReadError) -> ReadError {
        if !self.host.is_captured() || error.class != Class::Gone {
            return error;
        }
        if self.host.recorded().is_some_and(|r| r.gone(&self.key(name))) {
            return error;
        }
        ReadError::new(self.path(name), Class::Unsupported, "it was not captured")
    }

    /// The host it is of.
    pub(crate) fn host(&self) -> &'h Host {
        self.host
    }

    /// The path of a file of it, for messages.
    pub(crate) fn shown(&self, name: &[u8]) -> BString {
        self.host.shown(&[format!("proc/{}/", self.pid).as_bytes(), name].concat())
    }

    /// In a saved tree, what was saved of the process's own root: a directory in the place of the
    /// link.
    pub(crate) fn saved_root(&self) -> Option<Result<Root, ReadError>> {
        let Dir::Saved(dir) = &self.dir else { return None };
        let why = "the saved tree does not have the process's own root";
        let none = || ReadError::new(self.path("root"), Class::Unsupported, why);
        Some(dir.descend(b"root", Links::Never, None).map_err(|_| none()))
    }

    /// The PID it was opened by.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The inode of its directory on a procfs: no other process has it.
    #[must_use]
    pub fn inode(&self) -> Option<u64> {
        let Dir::Live(dir) = &self.dir else { return None };
        rustix::fs::fstat(dir).ok().map(|stat| stat.st_ino)
    }

    fn path(&self, name: &str) -> BString {
        self.host.shown(format!("proc/{}/{name}", self.pid).as_bytes())
    }

    fn read(&self, name: &str, cap: usize) -> Result<Vec<u8>, ReadError> {
        self.host.before_read(self.pid, name);
        let read = self.read_now(name, cap);
        match (self.recorder(), &read) {
            (Some(recorder), Ok(bytes)) => recorder.content(&self.key(name), bytes, None),
            (Some(recorder), Err(e)) => recorder.failed(&self.key(name), e, false),
            (None, _) => {}
        }
        read
    }

    fn read_now(&self, name: &str, cap: usize) -> Result<Vec<u8>, ReadError> {
        let fd = match &self.dir {
            Dir::Saved(root) => {
                return root.read(name.as_bytes(), cap).map_err(|e| self.uncaptured(name, e));
            }
            Dir::Live(fd) => self.dir_of(fd, name),
        };
        let errno = |e| ReadError::from_errno(self.path(name), e);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(fd, name, flags, Mode::empty()).map_err(errno)?;
        let mut bytes = Vec::new();
        let in_one_piece = WHOLE.contains(&name);
        let read = if in_one_piece { read_whole } else { read_to_end };
        read(file.as_fd(), &mut bytes, cap).map_err(errno)?;
        if bytes.len() > cap {
            let why = format!("more than {cap} bytes");
            return Err(ReadError::new(self.path(name), Class::Malformed, why));
        }
        Ok(bytes)
    }

    fn link(&self, name: &str) -> Result<BString, ReadError> {
        self.host.before_read(self.pid, name);
        let read = match &self.dir {
            Dir::Saved(root) => {
                return root.read_link(name.as_bytes()).map_err(|e| self.uncaptured(name, e));
            }
            Dir::Live(fd) => {
                rustix::fs::readlinkat(self.dir_of(fd, name), name, Vec::with_capacity(256))
                    .map(|text| BString::from(text.into_bytes()))
                    .map_err(|e| ReadError::from_errno(self.path(name), e))
            }
        };
        match (self.recorder(), &read) {
            (Some(recorder), Ok(text)) => recorder.link(&self.key(name), text),
            (Some(recorder), Err(e)) => recorder.failed(&self.key(name), e, false),
            (None, _) => {}
        }
        read
    }

    /// `stat`; any user, unless `hidepid` hides the process.
    ///
    /// # Errors
    /// `gone` once the process has been reaped.
    pub fn stat(&self) -> Result<Stat, ReadError> {
        let stat = parse::stat::parse(&self.read("stat", SMALL)?);
        let stat = stat.map_err(|m| m.at(self.path("stat")))?;
        self.note(&stat);
        Ok(stat)
    }

    /// `status`; any user.
    ///
    /// # Errors
    /// As [`ProcDir::stat`].
    pub fn status(&self) -> Result<Status, ReadError> {
        parse::status::parse(&self.read("status", SMALL)?).map_err(|m| m.at(self.path("status")))
    }

    /// `cgroup`; any user. A zombie's v1 lines all read `/`.
    ///
    /// # Errors
    /// As [`ProcDir::stat`].
    pub fn cgroup(&self) -> Result<Vec<Line>, ReadError> {
        self.cgroup_lines(&self.cgroup_text()?)
    }

    /// The text of `cgroup`, for those who know what to make of it already.
    ///
    /// # Errors
    /// As [`ProcDir::stat`].
    pub fn cgroup_text(&self) -> Result<Vec<u8>, ReadError> {
        self.read("cgroup", CGROUP)
    }

    /// The lines of a text that [`ProcDir::cgroup_text`] gave.
    ///
    /// # Errors
    /// `malformed` when it is none.
    pub fn cgroup_lines(&self, text: &[u8]) -> Result<Vec<Line>, ReadError> {
        parse::cgroup::parse(text).map_err(|m| m.at(self.path("cgroup")))
    }

    /// `mountinfo`; any user. A zombie has none (EINVAL, so `unsupported`).
    ///
    /// # Errors
    /// As [`ProcDir::stat`].
    pub fn mountinfo(&self) -> Result<Vec<Mount>, ReadError> {
        let bytes = self.read("mountinfo", MOUNTINFO)?;
        parse::mountinfo::parse(&bytes).map_err(|m| m.at(self.path("mountinfo")))
    }

    /// `uid_map`; any user.
    ///
    /// # Errors
    /// As [`ProcDir::stat`].
    pub fn uid_map(&self) -> Result<Vec<Extent>, ReadError> {
        let read = self.read("uid_map", SMALL).map_err(|e| match e.class {
            // The kernel's word for a process that is gone by now (`proc_id_map_open` of
            // fs/proc/base.c) is EINVAL.
            Class::Unsupported => self.read_now("stat", SMALL).err().unwrap_or(e),
            _ => e,
        });
        parse::idmap::parse(&read?).map_err(|m| m.at(self.path("uid_map")))
    }

    /// `wchan`: the kernel function it sleeps in; `None` when it runs, or when the kernel hides it
    /// from a reader without ptrace read access (both read `0`).
    ///
    /// # Errors
    /// As [`ProcDir::stat`].
    pub fn wchan(&self) -> Result<Option<BString>, ReadError> {
        let mut bytes = self.read("wchan", SMALL)?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        Ok((!bytes.is_empty() && bytes != b"0").then(|| bytes.into()))
    }

    /// The inode of a namespace, `kind` as in `/proc/PID/ns`; needs ptrace read access.
    ///
    /// # Errors
    /// As [`ProcDir::stat`]; `gone` also for a zombie, which has left most namespaces.
    pub fn namespace(&self, kind: &str) -> Result<u64, ReadError> {
        let name = format!("ns/{kind}");
        let text = self.link(&name)?;
        parse::nslink::parse(&text, kind.as_bytes()).map_err(|m| m.at(self.path(&name)))
    }

    /// The text of `exe`, `cwd` or `root`, as the kernel writes it; needs ptrace read access.
    ///
    /// # Errors
    /// As [`ProcDir::stat`]; `gone` for kernel threads and zombies.
    pub fn link_text(&self, name: &str) -> Result<BString, ReadError> {
        self.link(name)
    }

    /// `exe`, `root`, `ns/mnt` or another link as what it leads to, not as a text. Needs ptrace read
    /// access.
    ///
    /// # Errors
    /// `gone` for what a kernel thread or zombie does not have; `unsupported` in a saved tree.
    pub fn object(&self, name: &str) -> Result<Object, ReadError> {
        self.host.before_read(self.pid, name);
        let Dir::Live(dir) = &self.dir else {
            let why = "a saved tree has no running kernel behind it";
            return Err(ReadError::new(self.path(name), Class::Unsupported, why));
        };
        // A namespace answers its ioctls only through a descriptor opened for reading.
        let kind = if name.starts_with("ns/") { OFlags::RDONLY } else { OFlags::PATH };
        let dir = self.dir_of(dir, name);
        let opened = rustix::fs::openat(dir, name, kind | OFlags::CLOEXEC, Mode::empty());
        opened.map(Object::new).map_err(|e| ReadError::from_errno(self.path(name), e))
    }

    /// The numbers of its open descriptors. Needs ptrace read access.
    ///
    /// # Errors
    /// As [`ProcDir::stat`]; `unsupported` in a saved tree.
    pub fn descriptors(&self) -> Result<Vec<u32>, ReadError> {
        let errno = |e| ReadError::from_errno(self.path("fd"), e);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fds = rustix::fs::openat(self.descriptors_dir()?, "fd", flags, Mode::empty());
        let fds = fds.map_err(errno)?;
        let mut numbers = Vec::new();
        crate::drain::for_each_entry(fds.as_fd(), &mut |name, _, _| {
            numbers.extend(parse::decimal32(name));
        })
        .map_err(errno)?;
        Ok(numbers)
    }

    /// The directory that has its `fd`.
    pub(super) fn descriptors_dir(&self) -> Result<&OwnedFd, ReadError> {
        self.host.before_read(self.pid, "fd");
        let Dir::Live(dir) = &self.dir else {
            let why = "a saved tree has no running kernel behind it";
            return Err(ReadError::new(self.path("fd"), Class::Unsupported, why));
        };
        Ok(self.dir_of(dir, "fd"))
    }

    /// How many descriptors it has open. From kernel 6.2 the size of the directory tells (`fd_count` of
    /// fs/proc/fd.c), to anyone who may look at the process; before, ptrace read access is needed to
    /// count them. A kernel thread has none, and a zombie none any more.
    ///
    /// # Errors
    /// As [`ProcDir::stat`]; `unsupported` in a saved tree.
    pub fn descriptor_count(&self) -> Result<u64, ReadError> {
        self.host.before_read(self.pid, "fd");
        if let Dir::Live(dir) = &self.dir {
            let dir = self.dir_of(dir, "fd");
            let size = size_of(dir, "fd").map_err(|e| ReadError::from_errno(self.path("fd"), e))?;
            // None may mean that there are none, or that this kernel does not say: of this process it
            // would, which has some.
            let has_told = || size_of(self.host.proc_dir(), "self/fd").is_ok_and(|own| own > 0);
            if size > 0 || has_told() {
                return Ok(size);
            }
        }
        self.descriptors().map(|numbers| numbers.len() as u64)
    }

    /// The FUSE connection that a descriptor serves, as its fdinfo says (about kernel 6.16): the
    /// minor number of the file system's device.
    #[must_use]
    pub fn fuse_connection(&self, fd: u32) -> Option<u32> {
        let text = self.read(&format!("fdinfo/{fd}"), SMALL).ok()?;
        let line = text.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"fuse_connection:"))?;
        parse::decimal32(line.trim_ascii())
    }

    /// A slow file of a saved tree, where nothing can block.
    fn slow_file(&self, file: Slow) -> Result<Vec<u8>, ReadError> {
        self.read(file.name(), 2 << 20)
    }

    /// Whether it is still the process with these start ticks.
    ///
    /// # Errors
    /// `gone` when it has ended, whoever has the PID now.
    pub fn still(&self, start_ticks: u64) -> Result<(), ReadError> {
        if let (Dir::Live(dir), None) = (&self.dir, self.recorder())
            && self.start_ticks.get() == Some(start_ticks)
        {
            // What has a name in the directory of one that has ended is found no more. That costs a fifth
            // of composing what is in it.
            self.host.before_read(self.pid, "stat");
            return rustix::fs::accessat(dir, "stat", Access::EXISTS, AtFlags::empty())
                .map_err(|e| ReadError::from_errno(self.path("stat"), e));
        }
        let bytes = self.read("stat", SMALL)?;
        if parse::stat::start_ticks(&bytes) == Some(start_ticks) {
            if let Ok(stat) = parse::stat::parse(&bytes) {
                self.note(&stat);
            }
            return Ok(());
        }
        Err(ReadError::new(self.path("stat"), Class::Gone, "another process has the PID now"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use crate::{Host, Options};

    #[test]
    fn descriptors_are_counted_as_they_are_listed() {
        let host = Host::open(Options::default()).unwrap();
        let mut sleep = Command::new("sleep");
        let mut child = sleep.arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let dir = host.process(child.id()).unwrap();
        // What was to be closed is closed once it has become sleep.
        let settled = (0..1000).find(|_| {
            std::thread::sleep(Duration::from_millis(5));
            dir.stat().is_ok_and(|s| s.comm == "sleep")
        });
        let (count, listed) = (dir.descriptor_count(), dir.descriptors());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(settled.is_some() && count.as_ref().is_ok_and(|n| *n >= 3), "{count:?}");
        assert_eq!(count, listed.map(|l| l.len() as u64));
        assert!(dir.descriptor_count().is_err());
    }

    #[test]
    fn who_has_ended_is_not_there_still() {
        let host = Host::open(Options::default()).unwrap();
        let mut sleep = Command::new("sleep");
        let mut child = sleep.arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let (fresh, known) = (host.process(child.id()).unwrap(), host.process(child.id()).unwrap());
        let ticks = known.stat().unwrap().start_ticks;
        let runs = [fresh.still(ticks).is_ok(), known.still(ticks).is_ok()];
        let other = [fresh.still(ticks + 1).is_ok(), known.still(ticks + 1).is_ok()];
        child.kill().unwrap();
        // Until it is waited for it is there, ended as it is.
        let settled = (0..1000).find(|_| {
            std::thread::sleep(Duration::from_millis(1));
            fresh.stat().is_ok_and(|s| s.is_dead())
        });
        let ended = [fresh.still(ticks).is_ok(), known.still(ticks).is_ok()];
        child.wait().unwrap();
        assert!(settled.is_some());
        assert_eq!((runs, other, ended), ([true; 2], [false; 2], [true; 2]));
        for dir in [&fresh, &known] {
            assert_eq!(dir.still(ticks).map_err(|e| e.class), Err(crate::Class::Gone));
        }
    }
}
