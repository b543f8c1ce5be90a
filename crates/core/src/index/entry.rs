//! One process as a scan or a lookup came by it: what is known of it already, and its directory when
//! that is needed.

use std::cell::OnceCell;
use std::rc::Rc;

use bstr::BString;
use whose_fields::Needs;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::parse::mountinfo::Mount;
use whose_kernel::parse::stat::Stat;
use whose_kernel::parse::status::Status;
use whose_kernel::read::process::ProcDir;
use whose_kernel::scan::Memberships;
use whose_kernel::scan::bpf::{Cgroups, Task};
use whose_kernel::{Class, Host, Mode, ReadError};

/// Inode of the initial PID namespace (`PROC_PID_INIT_INO` of the kernel's include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// See the module.
#[derive(Debug)]
pub(super) struct Entry<'h> {
    host: &'h Host,
    pid: u32,
    /// What the task iterator told.
    task: Option<Task>,
    cgroups: Option<Cgroups>,
    /// Its `stat`, if that was read already.
    stat: Option<Stat>,
    /// Its name, if that is all that was read, and is to be.
    name: Option<BString>,
    /// The inode of its directory, if that tells which process it is.
    inode: Option<u64>,
    /// Which process it is, when that is known before its directory is opened.
    start_ticks: Option<u64>,
    dir: OnceCell<Result<ProcDir<'h>, ReadError>>,
    mount_namespace: OnceCell<Result<u64, ReadError>>,
    mounts: OnceCell<Result<Vec<Mount>, ReadError>>,
}

impl<'h> Entry<'h> {
    /// A process whose directory is open.
    pub(super) fn opened(host: &'h Host, dir: ProcDir<'h>) -> Self {
        let pid = dir.pid();
        Self { dir: OnceCell::from(Ok(dir)), ..Self::of(host, pid) }
    }

    /// A process of which nothing but its `stat` was read.
    pub(super) fn listed(host: &'h Host, stat: Stat) -> Self {
        let (pid, start_ticks) = (stat.pid, Some(stat.start_ticks));
        Self { stat: Some(stat), start_ticks, ..Self::of(host, pid) }
    }

    /// One of which nothing is known but its PID.
    fn of(host: &'h Host, pid: u32) -> Self {
        Self {
            host,
            pid,
            task: None,
            cgroups: None,
            stat: None,
            name: None,
            inode: None,
            start_ticks: None,
            dir: OnceCell::new(),
            mount_namespace: OnceCell::new(),
            mounts: OnceCell::new(),
        }
    }

    /// A process of which the name and the cgroups are known, and the inode of its directory.
    pub(super) fn named(
        host: &'h Host,
        pid: u32,
        (name, inode): (&[u8], u64),
        lines: Rc<Vec<Line>>,
    ) -> Self {
        let (name, inode, cgroups) = (Some(name.into()), Some(inode), Some(Ok(lines)));
        Self { name, inode, cgroups, ..Self::of(host, pid) }
    }

    /// Its name, if nothing else of its `stat` is to be read.
    pub(super) fn name(&self) -> Option<&BString> {
        self.name.as_ref()
    }

    /// Takes its cgroups from those who know everyone's, if they know it for sure.
    ///
    /// # Errors
    /// When its `stat` can't be read.
    pub(super) fn find_cgroups(&mut self, all: &Memberships) -> Result<(), ReadError> {
        let stat = match self.stat.take() {
            Some(stat) => stat,
            None => self.dir()?.stat()?,
        };
        self.cgroups = all.lines(self.pid, stat.start_ticks, stat.flags).map(Ok);
        self.stat = Some(stat);
        Ok(())
    }

    /// A process that the task iterator told of, and its cgroups if they were asked for.
    pub(super) fn told(host: &'h Host, task: Task, cgroups: Option<Cgroups>) -> Self {
        let (pid, start_ticks) = (task.pid, Some(task.start_ticks));
        Self { task: Some(task), cgroups, start_ticks, ..Self::of(host, pid) }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether nothing but its `stat` was read so far.
    pub(super) fn is_listed(&self) -> bool {
        self.task.is_none() && self.dir.get().is_none()
    }

    /// What the task iterator told.
    pub(super) fn task(&self) -> Option<&Task> {
        self.task.as_ref()
    }

    /// Its directory: this very process's.
    ///
    /// # Errors
    /// `gone` when it has ended, whoever has its PID by now.
    pub(super) fn dir(&self) -> Result<&ProcDir<'h>, ReadError> {
        let open = || {
            let dir = self.host.process(self.pid)?;
            self.start_ticks.map_or(Ok(()), |ticks| dir.still(ticks))?;
            if self.inode.is_some_and(|inode| dir.inode() != Some(inode)) {
                let path = self.host.shown(format!("proc/{}", self.pid).as_bytes());
                return Err(ReadError::new(path, Class::Gone, "another process has the PID now"));
            }
            Ok(dir)
        };
        self.dir.get_or_init(open).as_ref().map_err(Clone::clone)
    }

    /// `stat`, its CPU time only if that is needed.
    pub(super) fn stat(&self, needs: Needs) -> Result<Stat, ReadError> {
        if let Some(stat) = &self.stat {
            return Ok(stat.clone());
        }
        let told = self.task.as_ref().filter(|t| t.cpu.is_some() || !needs.has(Needs::CPU));
        match told.and_then(stat_of) {
            Some(stat) => Ok(stat),
            None => self.dir()?.stat(),
        }
    }

    /// `status`, its resident memory only if that is needed.
    pub(super) fn status(&self, needs: Needs) -> Result<Status, ReadError> {
        let has_rss = |t: &&Task| t.rss.is_some() || t.vsize == 0 || !needs.has(Needs::RSS);
        match self.task.as_ref().filter(has_rss) {
            Some(task) => Ok(status_of(task)),
            None => self.dir()?.status(),
        }
    }

    /// The lines of its cgroup file, if they are known; whoever shares them was given the same ones.
    pub(super) fn cgroups(&self) -> Option<&Cgroups> {
        self.cgroups.as_ref()
    }

    /// The inode of its mount namespace; `None` when it can't be read.
    pub(super) fn mount_namespace(&self) -> Option<u64> {
        self.read_mount_namespace().ok()
    }

    /// The inode of its mount namespace, read once.
    ///
    /// # Errors
    /// As [`ProcDir::namespace`].
    pub(super) fn read_mount_namespace(&self) -> Result<u64, ReadError> {
        let read = || match &self.task {
            Some(task) => task.namespaces.map(|n| u64::from(n.mnt)).ok_or_else(|| {
                let path = self.host.shown(format!("proc/{}/ns/mnt", self.pid).as_bytes());
                ReadError::new(path, Class::Gone, "it has left its namespaces")
            }),
            None => self.dir()?.namespace("mnt"),
        };
        self.mount_namespace.get_or_init(read).clone()
    }

    /// What it has mounted, read once.
    ///
    /// # Errors
    /// As [`ProcDir::mountinfo`].
    pub(super) fn mounts(&self) -> Result<&[Mount], ReadError> {
        let read = || self.dir()?.mountinfo();
        self.mounts.get_or_init(read).as_deref().map_err(Clone::clone)
    }

    /// Whether it is in the initial PID namespace for sure: by the namespace's own number, which is
    /// read faster than all of `status`.
    pub(super) fn is_in_initial_pid_namespace(&self) -> Result<bool, ReadError> {
        let is_saved = self.host.mode() == Mode::Saved; // its files are not made by a kernel
        if is_saved || self.host.is_outermost() != Some(true) || self.task.is_some() {
            return Ok(false);
        }
        // Forbidden, or of a zombie, which has none any more: then it is not for sure.
        Ok(self.dir()?.namespace("pid").is_ok_and(|inode| inode == INITIAL_PID_NAMESPACE))
    }
}

/// `stat` as far as the iterator tells of it; a kernel thread's name it does not tell.
fn stat_of(task: &Task) -> Option<Stat> {
    let comm = task.comm?.as_ref().into();
    let (utime, stime) = task.cpu.unwrap_or_default();
    Some(Stat {
        pid: task.pid,
        comm,
        state: task.state,
        ppid: task.ppid,
        session: task.session,
        tty_nr: task.tty_nr,
        flags: task.flags,
        utime,
        stime,
        nice: task.nice,
        threads: task.threads,
        start_ticks: task.start_ticks,
        vsize: task.vsize,
    })
}

fn status_of(task: &Task) -> Status {
    Status {
        tgid: Some(task.pid),
        ppid: Some(task.ppid),
        ruid: task.ruid,
        euid: task.euid,
        egid: task.egid,
        nspid: Some(task.pids.to_vec()),
        vsize: (task.vsize > 0).then_some(task.vsize),
        rss: task.rss,
        threads: Some(task.threads),
    }
}
