//! What the task iterator's programs write (`crates/kernel/bpf/tasks.bpf.c`): one record a process.

use std::fmt;
use std::ops::Deref;

use bstr::BStr;

use crate::error::Malformed;

/// Bytes a record.
pub const LENGTH: usize = 184;

// What a record tells, as in the C source.
const HAS_MM: u32 = 0x1;
const HAS_NAMESPACES: u32 = 0x2;
const HAS_TTY: u32 = 0x4;
const HAS_RSS_SUM: u32 = 0x8;
const HAS_EXE: u32 = 0x10;
const CHANGED: u32 = 0x20;
const HAS_RSS: u32 = 0x40;
const IS_THREAD: u32 = 0x80;
const IS_END: u32 = 0x100;
/// Threads are told of if their ids are among as many after the newest of before.
pub const SPAN: u32 = 4096;
/// PID namespaces below the initial one that a record has room for.
const DEEPEST: usize = 7;

/// `PF_EXITING` of the kernel's include/linux/sched.h.
const EXITING: u32 = 0x4;

/// What a record tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Of a process.
    Process(TaskRecord),
    /// Of a thread that may be new, by its id.
    Thread(u32),
    /// That there are no more, and how many tasks there were: processes' main threads and others.
    End(u64),
}

/// One process, in the kernel's own units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRecord {
    /// Its process id in the initial PID namespace.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// Its session's leader.
    pub session: u32,
    /// The letter for its state, as field 3 of `/proc/PID/stat`.
    pub state: u8,
    /// The kernel's flags of the task.
    pub flags: u32,
    /// -20 to 19.
    pub nice: i32,
    /// Number of threads.
    pub threads: u32,
    /// Real and effective user id, effective group id, of the initial user namespace.
    pub uid: u32,
    /// See [`TaskRecord::uid`].
    pub euid: u32,
    /// See [`TaskRecord::uid`].
    pub egid: u32,
    /// The controlling terminal's device number as in `/proc/PID/stat`, 0 for none.
    pub tty_nr: i32,
    /// When it started, nanoseconds after boot.
    pub start: u64,
    /// The task's name: of a kernel thread only the short one.
    pub comm: Comm,
    /// Its process id in each PID namespace, outermost first; `None` when there are more than fit.
    pub pids: Option<Pids>,
    /// Inode of its PID namespace; 0 once it has been reaped.
    pub pid_ns: u32,
    /// Inode of its user namespace.
    pub user_ns: u32,
    /// Two others; none after it has exited.
    pub namespaces: Option<Namespaces>,
    /// Its memory; none of a kernel thread, and after it has exited.
    pub memory: Option<Memory>,
    /// The file that it runs.
    pub exe: Option<Exe>,
    /// The v2 cgroup's id, which is its directory's inode.
    pub cgroup: u64,
    /// What tells one set of cgroups from another, during one scan. A pointer: it must not be shown.
    pub(crate) css_set: u64,
    /// It has let go of some of this meanwhile: the record is not to be used.
    pub has_changed: bool,
}

/// Inodes of namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names under /proc/PID/ns")]
pub struct Namespaces {
    pub mnt: u32,
    pub net: u32,
}

/// Pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The address space's.
    pub size: u64,
    /// Resident ones, as far as they are counted together; where they were asked for.
    pub rss: Option<u64>,
    /// Resident ones with what each CPU has yet to add; where that was asked for.
    pub rss_sum: Option<u64>,
}

/// A file as the kernel holds it. On overlayfs and btrfs that is not what stat(2) tells, and the same
/// numbers may be two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exe {
    /// Major and minor number of the super block's device.
    pub device: (u32, u32),
    /// Inode number.
    pub inode: u64,
    /// The file system's magic number (statfs(2)).
    pub magic: u32,
}

/// Parses one record.
///
/// # Errors
/// [`Malformed`] when it is not [`LENGTH`] bytes long or holds what no process has.
pub fn parse(bytes: &[u8]) -> Result<Told, Malformed> {
    let record: &[u8; LENGTH] = bytes.try_into().map_err(|_| Malformed("no task record"))?;
    let at = Fields(record);
    let told = at.word(0);
    let pid = at.word(4);
    let level = at.word(152) as usize;
    if told & IS_END != 0 {
        return Ok(Told::End(at.long(8)));
    }
    if pid == 0 || pid > i32::MAX.unsigned_abs() {
        return Err(Malformed("task record without a pid"));
    }
    if told & IS_THREAD != 0 {
        return Ok(Told::Thread(pid));
    }
    let flags = at.word(80);
    let has = |bit: u32| told & bit != 0;
    Ok(Told::Process(TaskRecord {
        pid,
        ppid: at.word(64),
        session: at.word(68),
        state: state(at.word(72), at.word(76)),
        flags,
        nice: at.signed(84).saturating_sub(120),
        threads: at.word(88),
        uid: at.word(92),
        euid: at.word(96),
        egid: at.word(100),
        tty_nr: if has(HAS_TTY) { terminal(at.word(104), at.word(108)) } else { 0 },
        start: at.long(8),
        comm: Comm::new(at.bytes(136)),
        pids: pids(&at, pid, level),
        pid_ns: at.word(120),
        user_ns: at.word(124),
        namespaces: has(HAS_NAMESPACES)
            .then(|| Namespaces { mnt: at.word(128), net: at.word(132) }),
        memory: has(HAS_MM).then(|| Memory {
            size: at.long(40),
            rss: has(HAS_RSS).then(|| at.long(48)),
            rss_sum: has(HAS_RSS_SUM).then(|| at.long(56)),
        }),
        exe: has(HAS_EXE).then(|| Exe {
            device: (at.word(112) >> 20, at.word(112) & 0xf_ffff),
            inode: at.long(32),
            magic: at.word(116),
        }),
        cgroup: at.long(24),
        css_set: at.long(16),
        has_changed: has(CHANGED),
    }))
}

impl TaskRecord {
    /// Whether it is on its way out: then `/proc/PID/cgroup` tells less of it.
    #[must_use]
    pub fn is_exiting(&self) -> bool {
        self.flags & EXITING != 0
    }
}

/// The PIDs from the initial namespace inwards.
fn pids(at: &Fields<'_>, pid: u32, level: usize) -> Option<Pids> {
    let mut pids = [pid; DEEPEST + 1];
    let inner = pids.get_mut(1..=level)?;
    for (n, inner) in inner.iter_mut().enumerate() {
        *inner = at.word(156 + n * 4);
    }
    let pids = pids.get(..=level).filter(|pids| pids.iter().all(|pid| *pid > 0))?;
    Some(Pids::new(pids))
}

/// A task's name: up to 16 bytes, none of them NUL.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Comm([u8; 16]);

impl Comm {
    /// What is before the first NUL.
    #[must_use]
    pub fn new(mut bytes: [u8; 16]) -> Self {
        let end = memchr::memchr(0, &bytes).unwrap_or(bytes.len());
        bytes[end..].fill(0);
        Self(bytes)
    }
}

impl Deref for Comm {
    type Target = BStr;

    fn deref(&self) -> &BStr {
        let end = memchr::memchr(0, &self.0).unwrap_or(self.0.len());
        BStr::new(&self.0[..end])
    }
}

impl AsRef<[u8]> for Comm {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// PIDs of one process, from the outermost namespace to the innermost. There are two at most of nearly
/// all processes, for which no memory is taken.
#[derive(Clone)]
pub struct Pids(Numbers);

#[derive(Clone)]
enum Numbers {
    Few(u8, [u32; FEW]),
    Many(u8, Box<[u32; DEEPEST + 1]>),
}

const FEW: usize = 3;

impl Pids {
    /// As many as a record has room for.
    fn new(pids: &[u32]) -> Self {
        let mut all = [0; DEEPEST + 1];
        let length = pids.len().min(all.len());
        all[..length].copy_from_slice(&pids[..length]);
        let count = u8::try_from(length).unwrap_or(u8::MAX);
        Self(match all.first_chunk::<FEW>() {
            Some(few) if length <= FEW => Numbers::Few(count, *few),
            _ => Numbers::Many(count, Box::new(all)),
        })
    }
}

impl Deref for Pids {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match &self.0 {
            Numbers::Few(count, all) => &all[..usize::from(*count)],
            Numbers::Many(count, all) => &all[..usize::from(*count)],
        }
    }
}

impl AsRef<[u32]> for Pids {
    fn as_ref(&self) -> &[u32] {
        self
    }
}

impl PartialEq for Pids {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Pids {}

impl fmt::Debug for Pids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// The letter for a state, as `task_state_array` and `task_index_to_char` of the kernel have it
/// (4.14 to 6.18).
fn state(state: u32, exit_state: u32) -> u8 {
    const UNINTERRUPTIBLE: u32 = 0x2;
    const REPORTED: u32 = 0x7f;
    const IDLE: u32 = 0x402; // uninterruptible, and no load
    const RTLOCK_WAIT: u32 = 0x1000; // kernel 5.16
    const FROZEN: u32 = 0x8000; // kernel 6.1
    let bits = if state & (RTLOCK_WAIT | FROZEN) != 0 {
        UNINTERRUPTIBLE
    } else if state & IDLE == IDLE {
        return b'I';
    } else {
        (state | exit_state) & REPORTED
    };
    let letters = b"RSDTtXZP";
    letters[(32 - bits.leading_zeros()) as usize]
}

/// The device number of a terminal, packed as `new_encode_dev` does.
fn terminal(major: u32, minor: u32) -> i32 {
    let packed = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
    packed.cast_signed()
}

/// Little-endian numbers at known places.
struct Fields<'r>(&'r [u8; LENGTH]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|b| b.first_chunk::<N>()).copied().unwrap_or([0; N])
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn signed(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.bytes(at))
    }

    fn long(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }
}

#[cfg(test)]
mod tests {
    use super::{Comm, Exe, LENGTH, Memory, Namespaces, TaskRecord, Told, parse, state, terminal};

    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [0x1_u32 | 0x2 | 0x4 | 0x8 | 0x10 | 0x40, 4761] {
            bytes.extend(word.to_le_bytes());
        }
        for long in [7_u64, 0xffff_8881_0000_1000, 42, 99, 300, 200, 205] {
            bytes.extend(long.to_le_bytes());
        }
        for word in [4740, 4761, 1, 0, 0x40_0100, 115, 3, 1000, 1001, 1002, 136, 2] {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes.extend(u32::to_le_bytes(254 << 20 | 3));
        for word in [0xef53, 11, 12, 13, 14] {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes.extend(b"a)\n\xff\0garbage____");
        for word in [2, 25, 1, 0, 0, 0, 0, 0] {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes
    }

    fn process(bytes: &[u8]) -> TaskRecord {
        match parse(bytes) {
            Ok(Told::Process(record)) => record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_process_is_told_apart() {
        let mut bytes = sample();
        bytes[0] = 0x80;
        assert_eq!(parse(&bytes), Ok(Told::Thread(4761)));
        bytes[..8].copy_from_slice(&0x100_u64.to_le_bytes());
        assert_eq!(parse(&bytes), Ok(Told::End(7)));
    }

    #[test]
    fn reads_every_field() {
        let task = process(&sample());
        assert_eq!((task.pid, task.ppid, task.session, task.state), (4761, 4740, 4761, b'S'));
        assert_eq!((task.flags, task.nice, task.threads), (0x40_0100, -5, 3));
        assert_eq!((task.uid, task.euid, task.egid, task.tty_nr), (1000, 1001, 1002, 136 << 8 | 2));
        assert_eq!((task.start, task.cgroup, task.css_set), (7, 42, 0xffff_8881_0000_1000));
        assert_eq!(task.comm.as_ref(), b"a)\n\xff");
        assert_eq!(format!("{:?}", task.comm), "\"a)\\n\\xff\"");
        assert_eq!(task.pids.as_deref(), Some(&[4761, 25, 1][..]));
        assert_eq!((task.pid_ns, task.user_ns), (11, 12));
        let namespaces = Namespaces { mnt: 13, net: 14 };
        assert_eq!(task.namespaces, Some(namespaces));
        assert_eq!(task.memory, Some(Memory { size: 300, rss: Some(200), rss_sum: Some(205) }));
        assert_eq!(task.exe, Some(Exe { device: (254, 3), inode: 99, magic: 0xef53 }));
        assert!(!task.is_exiting() && !task.has_changed);
    }

    #[test]
    fn what_is_not_told_is_absent() {
        let mut bytes = sample();
        bytes[..4].copy_from_slice(&0x20_u32.to_le_bytes());
        bytes[80] = 0x4;
        let task = process(&bytes);
        assert_eq!((task.namespaces, task.memory, task.exe, task.tty_nr), (None, None, None, 0));
        assert!(task.has_changed && task.is_exiting());
    }

    #[test]
    fn more_namespaces_than_fit_are_not_told() {
        let mut bytes = sample();
        bytes[152] = 8;
        assert_eq!(process(&bytes).pids, None);
        bytes[152] = 3; // the third is 0: it could not be read
        assert_eq!(process(&bytes).pids, None);
        bytes[152..156].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(process(&bytes).pids, None);
    }

    #[test]
    fn as_many_pids_as_there_are_namespaces() {
        for level in 0..=7_u8 {
            let mut bytes = sample();
            bytes[152] = level;
            for n in 0..level {
                let at = 156 + usize::from(n) * 4;
                bytes[at..at + 4].copy_from_slice(&(u32::from(n) + 1).to_le_bytes());
            }
            let inner = (0..u32::from(level)).map(|n| n + 1);
            let expected: Vec<u32> = std::iter::once(4761).chain(inner).collect();
            let pids = process(&bytes).pids.unwrap();
            assert_eq!((&*pids, &pids.clone()), (&expected[..], &pids));
        }
        assert_eq!(size_of::<Option<super::Pids>>(), 16);
    }

    #[test]
    fn a_name_may_fill_its_place() {
        let long = Comm::new(*b"0123456789abcdef");
        assert_eq!(long.as_ref(), b"0123456789abcdef");
        assert_eq!(Comm::new(*b"\0rest\0\0\0\0\0\0\0\0\0\0\0"), Comm::new([0; 16]));
    }

    #[test]
    fn another_length_is_refused() {
        let whole = sample();
        assert_eq!(whole.len(), LENGTH);
        assert!(
            parse(&whole[..LENGTH - 1]).is_err() && parse(&[&whole[..], &[0]].concat()).is_err()
        );
        assert!(parse(&[0; LENGTH]).is_err());
    }

    #[test]
    fn states_are_the_kernels_letters() {
        let letters = [
            (0, 0, b'R'),
            (1, 0, b'S'),
            (2, 0, b'D'),
            (4, 0, b'T'),
            (8, 0, b't'),
            (0x80, 0x10, b'X'),
            (0x80, 0x20, b'Z'),
            (0x40, 0, b'P'),
            (0x402, 0, b'I'),
            (0x8000, 0, b'D'),
            (0x1000, 0, b'D'),
            (0x2001, 0, b'S'), // freezable
            (0x102, 0, b'D'),  // killable
        ];
        for (bits, exit, letter) in letters {
            assert_eq!(state(bits, exit), letter, "{bits:x}");
        }
    }

    #[test]
    fn a_terminals_number_is_packed() {
        assert_eq!(terminal(136, 3), 34819);
        assert_eq!(terminal(136, 0x1234), 0x0120_8834);
    }
}
