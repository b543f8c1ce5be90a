//! Many small files of an engine's own, read on several processors at once.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use bstr::BString;

use crate::error::ReadError;
use crate::root::Root;

/// Files for which no thread is started: that takes as long as to read twenty.
const FEW: usize = 64;
/// Threads at most: they wait for the same locks of the kernel.
const MOST: usize = 4;
/// Files that a thread takes at once.
const SHARE: usize = 16;

/// What was found among many files.
#[derive(Debug)]
pub struct Sifted<T> {
    /// What was made of the files, in their order.
    pub found: Vec<T>,
    /// Whether all of them were read before the time was over, or as many as were needed.
    pub complete: bool,
}

/// What is made of one file.
#[derive(Debug)]
pub enum Judged<T> {
    /// Nothing.
    Nothing,
    /// What was looked for, or some of it.
    Found(T),
    /// What was looked for: no more files need be read.
    Last(T),
}

/// What is made of a file, by its number.
pub type Judge<'j, T> = &'j (dyn Fn(usize, Result<Vec<u8>, ReadError>) -> Judged<T> + Sync);

impl Root {
    /// Reads files as [`Root::read_of_admin`] does, in no order, and hands each to `judge`.
    pub fn sift<T: Send>(
        &self,
        files: &[BString],
        cap: usize,
        until: Option<Instant>,
        judge: Judge<'_, T>,
    ) -> Sifted<T> {
        let next = AtomicUsize::new(0);
        let is_enough = AtomicBool::new(false);
        let work = |root: &Self| {
            let mut found = Vec::new();
            loop {
                let from = next.fetch_add(SHARE, Ordering::Relaxed);
                if from >= files.len() {
                    return (found, true);
                }
                for (at, file) in files.iter().enumerate().skip(from).take(SHARE) {
                    if is_enough.load(Ordering::Relaxed) {
                        return (found, true);
                    }
                    if until.is_some_and(|until| Instant::now() >= until) {
                        return (found, false);
                    }
                    match judge(at, root.read_of_admin(file, cap)) {
                        Judged::Nothing => {}
                        Judged::Found(made) => found.push((at, made)),
                        Judged::Last(made) => {
                            found.push((at, made));
                            is_enough.store(true, Ordering::Relaxed);
                        }
                    }
                }
            }
        };
        let twins = if files.len() < FEW { 0 } else { processors().min(MOST) - 1 };
        let twin = self.twin().filter(|_| twins > 0);
        let (mut found, complete) = match twin {
            None => work(self),
            Some(twin) => std::thread::scope(|scope| {
                // A thread that can't be had leaves its share to the others.
                let one = || twin.root().map_or_else(|| (Vec::new(), true), |root| work(&root));
                let start = || std::thread::Builder::new().spawn_scoped(scope, one).ok();
                let threads: Vec<_> = (0..twins).filter_map(|_| start()).collect();
                let (mut found, mut complete) = work(self);
                for thread in threads {
                    match thread.join() {
                        Ok((more, whole)) => {
                            found.extend(more);
                            complete &= whole;
                        }
                        Err(panic) => std::panic::resume_unwind(panic),
                    }
                }
                (found, complete)
            }),
        };
        found.sort_by_key(|(at, _)| *at);
        Sifted { found: found.into_iter().map(|(_, made)| made).collect(), complete }
    }
}

/// What another thread needs to make a root of its own; a root may be part of a capture, which is one
/// thread's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Twin<'r> {
    pub(crate) dir: BorrowedFd<'r>,
    pub(crate) shown: &'r BString,
}

impl Twin<'_> {
    fn root(self) -> Option<Root> {
        let dir = rustix::io::fcntl_dupfd_cloexec(self.dir.as_fd(), 0).ok()?;
        Some(Root::twin_of(dir, self.shown.clone()))
    }
}

/// Processors that this program may run on.
fn processors() -> usize {
    let set = rustix::thread::sched_getaffinity(None);
    set.map_or(1, |set| usize::try_from(set.count()).unwrap_or(1)).max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use bstr::{BStr, BString, ByteSlice};

    use super::Judged;
    use crate::root::{Links, Root};

    fn files(count: usize) -> (tempfile::TempDir, Root, Vec<BString>) {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<BString> = (0..count).map(|n| format!("f{n}").into()).collect();
        for name in &names {
            std::fs::write(dir.path().join(name.to_os_str().unwrap()), name).unwrap();
        }
        let path = dir.path().as_os_str().as_encoded_bytes().to_owned();
        let uid = rustix::process::getuid().as_raw();
        let root = Root::open(BStr::new(&path), Links::Never).unwrap();
        let root = root.descend(b"", Links::Never, Some(uid)).unwrap().of_admin();
        (dir, root, names)
    }

    #[test]
    fn every_file_is_judged_once_and_told_in_order() {
        for count in [0, 1, 63, 64, 1_000] {
            let (_dir, root, names) = files(count);
            let judge = |at: usize, read: Result<Vec<u8>, _>| {
                assert_eq!(read.unwrap(), names[at].as_bytes());
                if at.is_multiple_of(3) { Judged::Found(at) } else { Judged::Nothing }
            };
            let sifted = root.sift(&names, 64, None, &judge);
            assert!(sifted.complete);
            assert_eq!(sifted.found, (0..count).step_by(3).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_file_that_is_gone_or_too_long_is_told_as_such() {
        let (dir, root, names) = files(200);
        std::fs::remove_file(dir.path().join("f7")).unwrap();
        std::fs::write(dir.path().join("f8"), [b'x'; 65]).unwrap();
        let sifted = root.sift(&names, 64, None, &|at, read| match read {
            Err(_) => Judged::Found(at),
            Ok(_) => Judged::Nothing,
        });
        assert_eq!(sifted.found, [7, 8]);
    }

    #[test]
    fn once_it_is_enough_no_more_is_read() {
        for count in [10, 5_000] {
            let (_dir, root, names) = files(count);
            let read = AtomicUsize::new(0);
            let sifted = root.sift(&names, 64, None, &|at, _| {
                read.fetch_add(1, Ordering::Relaxed);
                if at == 4 { Judged::Last(at) } else { Judged::Nothing }
            });
            assert!(sifted.complete);
            assert_eq!(sifted.found, [4]);
            assert!(read.into_inner() < names.len());
        }
    }

    #[test]
    fn no_file_is_read_when_the_time_is_over() {
        let (_dir, root, names) = files(200);
        let sifted = root.sift(&names, 64, Some(Instant::now()), &|at, _| Judged::Found(at));
        assert!(!sifted.complete && sifted.found.is_empty());
    }
}
