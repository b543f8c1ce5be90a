//! The host that is asked: the running one, one mounted elsewhere, or a saved tree.

use std::cell::{OnceCell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use rustix::fs::{FileType, Mode as FileMode, OFlags};

use crate::capture::{Clocks, Recorded, Recorder, Tape};
use crate::error::{Class, ReadError};
use crate::live::{Kernel, Live, Saved};
use crate::parse;
use crate::parse::mountinfo::Mount;
use crate::root::{Links, Root};
use crate::scan::{Listed, Source};
use crate::worker::Worker;

/// `PROC_SUPER_MAGIC` of the kernel's include/uapi/linux/magic.h.
const PROC_MAGIC: i64 = 0x9fa0;
/// Ticks a second of /proc's times on every architecture Linux runs on today (`USER_HZ`).
const USER_HZ: u64 = 100;

/// Where facts come from; the contract's `source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The running host.
    Live,
    /// `--root DIR` where DIR/proc is a procfs: live facts, through that procfs only.
    Mounted,
    /// `--root DIR` with a captured tree.
    Saved,
}

impl Mode {
    /// The contract's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Mounted => "mounted",
            Self::Saved => "saved",
        }
    }
}

/// Called before each read of a process with its PID and the file's name. Tests use it to change
/// the process between two reads.
pub type Probe = Box<dyn Fn(u32, &str)>;

/// How to open a [`Host`].
#[derive(Default)]
pub struct Options {
    /// The tree to answer from; `None` is `/`.
    pub root: Option<BString>,
    /// When the whole command must be done; reads after it are gaps.
    pub deadline: Option<Instant>,
    /// How long one read that can block may take; 500 ms when not given.
    pub patience: Option<Duration>,
    /// See [`Probe`].
    pub probe: Option<Probe>,
    /// What gives the facts that are not files; by the mode when not given.
    pub live: Option<Box<dyn Live>>,
    /// What all reads are to be written to.
    pub recorder: Option<Rc<Recorder>>,
    /// How all processes are to be read.
    pub source: Source,
}

/// A host; see the module. Not shared between threads.
pub struct Host {
    mode: Mode,
    root: Root,
    proc_dir: OwnedFd,
    live: Box<dyn Live>,
    deadline: Option<Instant>,
    probe: Option<Probe>,
    worker: RefCell<Worker>,
    patience: Duration,
    source: Source,
    mounts: OnceCell<Result<Vec<Mount>, ReadError>>,
    users: OnceCell<Vec<(u32, BString)>>,
    boot: OnceCell<Result<i128, ReadError>>,
    outermost: OnceCell<Option<bool>>,
    cached_names: OnceCell<bool>,
    recorder: Option<Rc<Recorder>>,
    recorded: Option<Rc<Recorded>>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("mode", &self.mode).field("root", &self.root).finish()
    }
}

impl Host {
    /// Opens the host.
    ///
    /// # Errors
    /// When the root is no directory, or has no usable `proc` directory.
    pub fn open(options: Options) -> Result<Self, ReadError> {
        let given = options.root.is_some();
        let path = options.root.unwrap_or_else(|| "/".into());
        let mut root = Root::open(path.as_ref(), Links::Within)?;
        let is_procfs = root.fs_magic(b"proc").is_ok_and(|magic| magic == PROC_MAGIC);
        let mode = match (given, is_procfs) {
            (false, true) => Mode::Live,
            (true, true) => Mode::Mounted,
            (true, false) => Mode::Saved,
            (false, false) => {
                let why = "not a proc file system; mount one with: mount -t proc proc /proc";
                return Err(ReadError::new("/proc", Class::Unsupported, why));
            }
        };
        let live = options.live.unwrap_or_else(|| match mode {
            Mode::Saved => Box::new(Saved),
            Mode::Live | Mode::Mounted => Box::new(Kernel),
        });
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc_dir = root.open_dir(b"proc", flags)?;
        let patience = options.patience.unwrap_or(Duration::from_millis(500));
        let worker = RefCell::new(Worker::new(root.join(b"proc"), patience));
        let recorder = options.recorder.filter(|_| mode != Mode::Saved);
        if let Some(recorder) = &recorder {
            recorder.begin(root.shown());
            root = root.with(Tape::Recording(Rc::clone(recorder)));
        }
        Ok(Self {
            mode,
            root,
            proc_dir,
            live,
            deadline: options.deadline,
            probe: options.probe,
            worker,
            patience,
            source: options.source,
            mounts: OnceCell::new(),
            users: OnceCell::new(),
            boot: OnceCell::new(),
            outermost: OnceCell::new(),
            cached_names: OnceCell::new(),
            recorder,
            recorded: None,
        })
    }

    /// A saved tree as its own manifest tells it.
    #[must_use]
    pub fn recalled(mut self, mut recorded: Recorded) -> Self {
        if self.mode == Mode::Saved {
            self.live = Box::new(recorded.clocks);
            recorded.top = self.root.shown().into();
            let recorded = Rc::new(recorded);
            self.root = self.root.with(Tape::Recorded(Rc::clone(&recorded)));
            self.recorded = Some(recorded);
        }
        self
    }

    /// What all reads are written to, while a capture is made.
    #[must_use]
    pub fn recorder(&self) -> Option<&Rc<Recorder>> {
        self.recorder.as_ref()
    }

    /// The manifest of a saved tree that was captured.
    pub(crate) fn recorded(&self) -> Option<&Rc<Recorded>> {
        self.recorded.as_ref()
    }

    /// Whether it is a saved tree put together by hand: such a one may lack any file. A captured one
    /// tells what could not be read.
    #[must_use]
    pub fn is_loose(&self) -> bool {
        self.mode == Mode::Saved && self.recorded.is_none()
    }

    /// Whether it is a captured tree, which holds what was read when it was made and no more.
    #[must_use]
    pub fn is_captured(&self) -> bool {
        self.recorded.is_some()
    }

    /// Whether it is a captured tree that holds what some targets lead to, or what there was time for,
    /// and not the whole host.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.recorded.as_ref().is_some_and(|r| !r.is_whole)
    }

    /// What a later run can't read from files: the clocks, as they are now.
    ///
    /// # Errors
    /// The class of the first that can't be told.
    pub fn clocks(&self) -> Result<Clocks, Class> {
        let (seconds, nanos) = self.live.since_boot()?;
        Ok(Clocks {
            since_boot: seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(nanos)),
            boot_moment: self.live.boot_moment()?,
            ticks_per_second: self.live.ticks_per_second()?,
            page_size: self.live.page_size()?,
            euid: self.live.euid()?,
        })
    }

    /// Where facts come from.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The tree.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Facts that are not files.
    #[must_use]
    pub fn live(&self) -> &dyn Live {
        self.live.as_ref()
    }

    /// When the command must be done.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How all processes are to be read.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// Whether the time the command may take is over.
    #[must_use]
    pub fn out_of_time(&self) -> bool {
        self.deadline.is_some_and(|d| Instant::now() >= d)
    }

    /// The directory of processes, and the worker for its slow files.
    pub(crate) fn proc_dir(&self) -> &OwnedFd {
        &self.proc_dir
    }

    /// See [`Worker`].
    pub(crate) fn worker(&self) -> &RefCell<Worker> {
        &self.worker
    }

    /// See [`Host::trusts_cached_names`].
    pub(crate) fn cached_names(&self) -> &OnceCell<bool> {
        &self.cached_names
    }

    /// How long one read that can block may take.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Calls the probe, if there is one.
    pub fn before_read(&self, pid: u32, file: &str) {
        if let Some(probe) = &self.probe {
            probe(pid, file);
        }
    }

    /// A path beneath the root as the host itself names it, for messages.
    #[must_use]
    pub fn shown(&self, rel: &[u8]) -> BString {
        self.root.join(rel)
    }

    /// The PIDs of all processes in the order of the directory: ascending on a procfs.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn pids(&self) -> Result<Vec<u32>, ReadError> {
        Ok(self.listed()?.into_iter().map(|listed| listed.pid).collect())
    }

    /// All processes, in the same order.
    ///
    /// # Errors
    /// As [`Host::pids`].
    pub fn listed(&self) -> Result<Vec<Listed>, ReadError> {
        let errno = |e| ReadError::from_errno(self.shown(b"proc"), e);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir =
            rustix::fs::openat(&self.proc_dir, ".", flags, FileMode::empty()).map_err(errno)?;
        let mut all = Vec::new();
        crate::drain::for_each_entry(std::os::fd::AsFd::as_fd(&dir), &mut |name, kind, inode| {
            if kind == FileType::Directory || kind == FileType::Unknown {
                let pid = parse::decimal32(name).filter(|p| *p > 0);
                all.extend(pid.map(|pid| Listed { pid, inode }));
            }
        })
        .map_err(errno)?;
        if self.mode == Mode::Saved {
            all.sort_unstable_by_key(|listed| listed.pid);
        }
        if let Some(recorded) = &self.recorded {
            let ended = |pid: u32| recorded.gone(&format!("proc/{pid}").into());
            all.retain(|listed| !ended(listed.pid));
        }
        Ok(all)
    }

    /// Reads a small system-wide file of `proc`, by its name beneath `proc`.
    fn proc_file(&self, name: &str, cap: usize) -> Result<Vec<u8>, ReadError> {
        self.root.read(format!("proc/{name}").as_bytes(), cap)
    }

    /// This boot's id.
    ///
    /// # Errors
    /// When it is missing (a saved tree) or malformed.
    pub fn boot_id(&self) -> Result<String, ReadError> {
        let name = "sys/kernel/random/boot_id";
        let bytes = self.proc_file(name, 4096)?;
        parse::boot::parse_boot_id(&bytes)
            .map_err(|m| m.at(self.shown(b"proc/sys/kernel/random/boot_id")))
    }

    /// How many tasks there are on the whole host, threads counted one by one.
    ///
    /// # Errors
    /// When it is missing (a saved tree) or malformed.
    pub fn task_count(&self) -> Result<u64, ReadError> {
        let bytes = self.proc_file("loadavg", 4096)?;
        parse::boot::parse_task_count(&bytes).map_err(|m| m.at(self.shown(b"proc/loadavg")))
    }

    /// The same, and the PID that was given to a task last, at one moment.
    ///
    /// # Errors
    /// As [`Host::task_count`].
    pub fn task_count_and_newest(&self) -> Result<(u64, u32), ReadError> {
        let bytes = self.proc_file("loadavg", 4096)?;
        let both = parse::boot::parse_task_count(&bytes)
            .and_then(|count| Ok((count, parse::boot::parse_newest_pid(&bytes)?)));
        both.map_err(|m| m.at(self.shown(b"proc/loadavg")))
    }

    /// The kernel's release, `6.1.0-18-amd64` (proc_sys_kernel(5), osrelease).
    ///
    /// # Errors
    /// When it is missing: a saved tree.
    pub fn kernel_release(&self) -> Result<String, ReadError> {
        let bytes = self.proc_file("sys/kernel/osrelease", 4096)?;
        Ok(String::from_utf8_lossy(bytes.trim_ascii()).into_owned())
    }

    /// When a process started, milliseconds since 1970, from its start ticks: to a tick on a
    /// running host, to a second in a saved tree, which has only `btime`.
    ///
    /// # Errors
    /// When a saved tree does not hold the boot time.
    pub fn start_time(&self, ticks: u64) -> Result<i64, ReadError> {
        let tick = 1_000_000_000 / i128::from(self.ticks_per_second().max(1));
        let boot = self.boot.get_or_init(|| match self.live.boot_moment() {
            Ok(moment) => Ok(moment),
            Err(_) => {
                let bytes = self.proc_file("stat", 4 << 20)?;
                let btime = parse::boot::parse_btime(&bytes);
                let btime = btime.map_err(|m| m.at(self.shown(b"proc/stat")))?;
                Ok(i128::from(btime) * 1_000_000_000)
            }
        });
        let nanos = boot.clone()? + i128::from(ticks) * tick;
        // To the nearest tick, so that two runs do not differ by the jitter of reading two clocks.
        let ms = (nanos + tick / 2).div_euclid(tick) * tick / 1_000_000;
        i64::try_from(ms)
            .map_err(|_| ReadError::new(self.shown(b"proc/stat"), Class::Malformed, "no time"))
    }

    /// Clock ticks a second of the times in `/proc/PID/stat`.
    #[must_use]
    pub fn ticks_per_second(&self) -> u64 {
        self.live.ticks_per_second().unwrap_or(USER_HZ)
    }

    /// Time since boot in clock ticks: now, or when a saved tree was taken.
    ///
    /// # Errors
    /// When a saved tree does not hold it.
    pub fn uptime_ticks(&self) -> Result<u64, ReadError> {
        let hz = self.ticks_per_second();
        if let Ok((seconds, nanos)) = self.live.since_boot() {
            return Ok(seconds * hz + u64::from(nanos) * hz / 1_000_000_000);
        }
        let bytes = self.proc_file("uptime", 4096)?;
        let hundredths =
            parse::boot::parse_uptime(&bytes).map_err(|m| m.at(self.shown(b"proc/uptime")))?;
        Ok(hundredths / 100 * hz + hundredths % 100 * hz / 100)
    }

    /// The name of a user, from `etc/passwd` beneath the root.
    #[must_use]
    pub fn user_name(&self, uid: u32) -> Option<&BStr> {
        let found = self.users().iter().find(|(id, _)| *id == uid);
        found.map(|(_, name)| name.as_bstr())
    }

    /// The home directory of a user, from `etc/passwd` beneath the root.
    #[must_use]
    pub fn home_of(&self, uid: u32) -> Option<BString> {
        let bytes = self.root.read(b"etc/passwd", 16 << 20).ok()?;
        let mut homes = parse::passwd::homes(&bytes).into_iter();
        homes.find(|(id, _)| *id == uid).map(|(_, home)| home)
    }

    /// The uid of a user name.
    #[must_use]
    pub fn uid_of(&self, name: &[u8]) -> Option<u32> {
        self.users().iter().find(|(_, n)| n == name).map(|(id, _)| *id)
    }

    fn users(&self) -> &[(u32, BString)] {
        self.users.get_or_init(|| {
            self.root
                .read(b"etc/passwd", 16 << 20)
                .map(|b| parse::passwd::parse(&b))
                .unwrap_or_default()
        })
    }

    /// The mounts through which paths beneath the root are reached: this process's own on the
    /// running host, PID 1's on a mounted one, whichever was saved otherwise.
    ///
    /// # Errors
    /// When none can be read.
    pub fn mounts(&self) -> Result<&[Mount], ReadError> {
        let read = || {
            let names: &[&str] = match self.mode {
                Mode::Live => &["self/mountinfo"],
                Mode::Mounted => &["1/mountinfo"],
                Mode::Saved => &["self/mountinfo", "1/mountinfo"],
            };
            let mut last = None;
            for name in names {
                let bytes = if self.mode == Mode::Live {
                    self.own_file("mountinfo")
                } else {
                    self.proc_file(name, 32 << 20)
                };
                match bytes {
                    Ok(bytes) => {
                        let path = self.shown(format!("proc/{name}").as_bytes());
                        return parse::mountinfo::parse(&bytes).map_err(|m| m.at(path));
                    }
                    Err(e) => last = Some(e),
                }
            }
            Err(last.unwrap_or_else(|| ReadError::new("mountinfo", Class::Gone, "no such file")))
        };
        self.mounts.get_or_init(read).as_deref().map_err(Clone::clone)
    }

    /// Whether this `/proc` keeps other users' processes from this user: mounted with a `hidepid` of
    /// 2 or more (proc(5)), and the user is not root.
    #[must_use]
    pub fn hides_processes(&self) -> bool {
        if let Some(recorded) = &self.recorded {
            return recorded.hides_processes;
        }
        if self.mode == Mode::Saved || self.live.euid() == Ok(0) {
            return false;
        }
        let hiding = [&b"hidepid=invisible"[..], b"hidepid=ptraceable", b"hidepid=2", b"hidepid=4"];
        let proc_mount = self.mounts().ok().and_then(|m| parse::mountinfo::mount_of(m, b"/proc"));
        proc_mount.is_some_and(|m| hiding.iter().any(|option| m.has_option(option)))
    }

    /// Whether this `/proc` is the initial PID namespace's, so that nothing is outside it. `None`
    /// when that can't be told: a saved tree without PID 1's namespaces.
    #[must_use]
    pub fn is_outermost(&self) -> Option<bool> {
        *self.outermost.get_or_init(|| {
            // The initial namespace has a fixed inode (PROC_PID_INIT_INO of include/linux/proc_ns.h).
            // PID 1's link needs ptrace read access; this process's own, where this /proc shows it,
            // says as much: whoever is in the initial namespace is shown by no other's /proc.
            let read = |name: &&str| {
                let text = match self.mode {
                    Mode::Saved => self.root.read_link(format!("proc/{name}").as_bytes()).ok()?,
                    Mode::Live | Mode::Mounted => {
                        rustix::fs::readlinkat(&self.proc_dir, *name, Vec::with_capacity(64))
                            .ok()?
                            .into_bytes()
                            .into()
                    }
                };
                if let Some(recorder) = &self.recorder {
                    recorder.link(&format!("proc/{name}").into(), &text);
                }
                parse::nslink::parse(&text, b"pid").ok()
            };
            let names = ["self/ns/pid", "1/ns/pid"];
            names.iter().find_map(read).map(|inode| inode == 0xEFFF_FFFC)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Host, Mode, Options};
    use crate::live::{Known, Live};

    /// A boot at half a second past, and a reading of the clocks that is a little off.
    #[derive(Debug)]
    struct Fake(i128);

    impl Live for Fake {
        fn since_boot(&self) -> Known<(u64, u32)> {
            Ok((100, 500_000_000))
        }

        fn boot_moment(&self) -> Known<i128> {
            Ok(1_700_000_000_500_000_000 + self.0)
        }

        fn ticks_per_second(&self) -> Known<u64> {
            Ok(100)
        }

        fn page_size(&self) -> Known<u64> {
            Ok(4096)
        }

        fn euid(&self) -> Known<u32> {
            Ok(0)
        }
    }

    fn host(jitter: i128) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        let options = Options {
            root: Some(dir.path().to_str().unwrap().into()),
            live: Some(Box::new(Fake(jitter))),
            ..Options::default()
        };
        let host = Host::open(options).unwrap();
        (dir, host)
    }

    #[test]
    fn times_come_from_the_clock_and_do_not_jitter() {
        for jitter in [-900, 0, 900] {
            let (_dir, host) = host(jitter);
            assert_eq!(host.start_time(1234).unwrap(), 1_700_000_012_840);
            assert_eq!(host.uptime_ticks().unwrap(), 10_050);
        }
    }

    #[test]
    fn a_tree_without_a_procfs_is_saved() {
        let (_dir, host) = host(0);
        assert_eq!(host.mode(), Mode::Saved);
        assert!(host.boot_id().is_err() && host.mounts().is_err());
        assert_eq!(host.pids().unwrap(), [0_u32; 0]);
        assert!(!host.out_of_time());
    }
}
