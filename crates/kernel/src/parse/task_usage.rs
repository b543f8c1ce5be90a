//! What the task iterator tells of resources used (`crates/kernel/bpf/tasks.bpf.c`): one record a
//! thread, and what they come to for a process.

use super::io::Io;
use crate::error::Malformed;

/// Bytes a record.
pub const LENGTH: usize = 120;

const HAS_IO: u32 = 0x1;
const HAS_CPU: u32 = 0x2;
const RUNS_UNTIMED: u32 = 0x4;

/// One thread's record. Times are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskUsage {
    /// The thread.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// When the process started, nanoseconds after boot.
    pub start: u64,
    /// Number of threads that the process has.
    pub threads: u32,
    /// What the thread has used.
    pub own: Used,
    /// What ended threads of the process had used.
    pub ended: Used,
    /// Whether the kernel counts storage I/O.
    pub has_io: bool,
    /// What `/proc/PID/stat` last showed as user and system time; `None` on a kernel that counts times
    /// another way, or of a thread whose counters lag behind.
    pub shown: Option<(u64, u64)>,
}

/// Counters of a thread or several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Nanoseconds by timer ticks, in user mode.
    pub utime: u64,
    /// The same, in the kernel.
    pub stime: u64,
    /// Nanoseconds by the scheduler's clock.
    pub runtime: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage.
    pub write_bytes: u64,
}

impl Used {
    fn plus(self, other: Self) -> Self {
        Self {
            utime: self.utime.wrapping_add(other.utime),
            stime: self.stime.wrapping_add(other.stime),
            runtime: self.runtime.wrapping_add(other.runtime),
            read_bytes: self.read_bytes.wrapping_add(other.read_bytes),
            write_bytes: self.write_bytes.wrapping_add(other.write_bytes),
        }
    }
}

/// Parses one record.
///
/// # Errors
/// [`Malformed`] when it is not [`LENGTH`] bytes long or holds what no thread has.
pub fn parse(bytes: &[u8]) -> Result<TaskUsage, Malformed> {
    let record: &[u8; LENGTH] = bytes.try_into().map_err(|_| Malformed("no usage record"))?;
    let word = |at: usize| {
        record.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
    };
    let long = |at: usize| {
        record.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
    };
    let used = |at: usize| Used {
        utime: long(at),
        stime: long(at + 8),
        runtime: long(at + 16),
        read_bytes: long(at + 24),
        write_bytes: long(at + 32),
    };
    let (tid, pid, told) = (word(0), word(4), word(12));
    if tid == 0 || pid == 0 {
        return Err(Malformed("usage record without a pid"));
    }
    let is_timed = told & HAS_CPU != 0 && told & RUNS_UNTIMED == 0;
    Ok(TaskUsage {
        tid,
        pid,
        threads: word(8),
        start: long(16),
        own: used(24),
        ended: used(64),
        has_io: told & HAS_IO != 0,
        shown: is_timed.then(|| (long(104), long(112))),
    })
}

/// What a process used, as /proc tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Fields 14 and 15 of `/proc/PID/stat`, nanoseconds; `None` when they can't be told.
    pub cpu: Option<(u64, u64)>,
    /// `/proc/PID/io`; `None` on a kernel without it.
    pub io: Option<Io>,
}

/// The usage of a process from its threads' records. `None` when a thread came or went meanwhile.
#[must_use]
pub fn of_process(threads: &[TaskUsage]) -> Option<ProcessUsage> {
    let first = threads.first()?;
    // A thread that ends leaves its runtime, which is never nothing, to those that have ended.
    let is_whole = threads.len() == first.threads as usize
        && threads.iter().all(|t| {
            (t.pid, t.start, t.threads) == (first.pid, first.start, first.threads)
                && t.ended.runtime == first.ended.runtime
        });
    if !is_whole {
        return None;
    }
    let total = threads.iter().fold(first.ended, |sum, t| sum.plus(t.own));
    let shown: Option<Vec<(u64, u64)>> = threads.iter().map(|t| t.shown).collect();
    let io = Io { read_bytes: total.read_bytes, write_bytes: total.write_bytes };
    Some(ProcessUsage {
        cpu: shown.and_then(|s| adjusted(total, *s.last()?)),
        io: first.has_io.then_some(io),
    })
}

/// The times as the kernel shows them: the runtime, split as the timer ticks were, and neither less
/// than it has been before (`cputime_adjust` of kernel/sched/cputime.c, 5.9 to 6.18).
fn adjusted(total: Used, shown: (u64, u64)) -> Option<(u64, u64)> {
    let runtime = total.runtime;
    if shown.0.saturating_add(shown.1) >= runtime {
        return Some(shown);
    }
    let stime = if total.stime == 0 {
        0
    } else if total.utime == 0 {
        runtime
    } else {
        let product = u128::from(total.stime) * u128::from(runtime);
        // Where the machine has no instruction for it, kernels before 6.14 round a large product.
        if cfg!(not(target_arch = "x86_64")) && product >= 1 << 62 {
            return None;
        }
        let share = product / (u128::from(total.stime) + u128::from(total.utime));
        u64::try_from(share).unwrap_or(runtime).min(runtime)
    };
    let stime = stime.max(shown.1);
    let utime = runtime.saturating_sub(stime);
    if utime < shown.0 {
        return Some((shown.0, runtime - shown.0));
    }
    Some((utime, stime))
}

#[cfg(test)]
mod tests {
    use super::{LENGTH, TaskUsage, Used, adjusted, of_process, parse};
    use crate::parse::io::Io;

    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [8_u32, 7, 2, 0x3] {
            bytes.extend(word.to_le_bytes());
        }
        for long in [5_u64, 10, 20, 33, 100, 200, 1, 2, 3, 4, 5, 9, 8] {
            bytes.extend(long.to_le_bytes());
        }
        bytes
    }

    fn thread(tid: u32) -> TaskUsage {
        TaskUsage { tid, ..parse(&sample()).unwrap() }
    }

    #[test]
    fn reads_every_field() {
        let usage = parse(&sample()).unwrap();
        assert_eq!((usage.tid, usage.pid, usage.threads, usage.start), (8, 7, 2, 5));
        let own = Used { utime: 10, stime: 20, runtime: 33, read_bytes: 100, write_bytes: 200 };
        let ended = Used { utime: 1, stime: 2, runtime: 3, read_bytes: 4, write_bytes: 5 };
        assert_eq!((usage.own, usage.ended), (own, ended));
        assert_eq!((usage.has_io, usage.shown), (true, Some((9, 8))));
        assert!(parse(&sample()[1..]).is_err() && parse(&[0; LENGTH]).is_err());
    }

    #[test]
    fn threads_add_up_if_none_came_or_went() {
        let usage = of_process(&[thread(7), thread(8)]).unwrap();
        assert_eq!(usage.io, Some(Io { read_bytes: 204, write_bytes: 405 }));
        // 69 ns, split 21 to 42; the sums hold the ended threads' once.
        assert_eq!(usage.cpu, Some((69 - 46, 46)));
        assert_eq!(of_process(&[thread(7)]), None);
        let mut late = thread(8);
        late.ended.runtime += 1;
        assert_eq!(of_process(&[thread(7), late]), None);
        assert_eq!(of_process(&[thread(7), TaskUsage { threads: 3, ..thread(8) }]), None);
        let untimed = TaskUsage { shown: None, ..thread(8) };
        assert_eq!(of_process(&[thread(7), untimed]).unwrap().cpu, None);
    }

    #[test]
    fn times_are_scaled_and_never_go_down() {
        let used = |utime, stime, runtime| Used { utime, stime, runtime, ..Used::default() };
        assert_eq!(adjusted(used(1, 3, 100), (0, 0)), Some((25, 75)));
        assert_eq!(adjusted(used(0, 3, 100), (0, 0)), Some((0, 100)));
        assert_eq!(adjusted(used(3, 0, 100), (0, 0)), Some((100, 0)));
        assert_eq!(adjusted(used(1, 3, 100), (40, 70)), Some((40, 70)));
        assert_eq!(adjusted(used(1, 3, 100), (30, 10)), Some((30, 70)));
        assert_eq!(adjusted(used(3, 1, 100), (10, 50)), Some((50, 50)));
    }
}
