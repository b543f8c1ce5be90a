//! All processes of the host, with their owners.

use std::ops::ControlFlow;

use whose_fields::{Needs, Stage};
use whose_kernel::scan::bpf::{Cgroups, Scan, Task, Wanted};
use whose_kernel::scan::{self, ByProc, Memberships, Source};
use whose_kernel::{Class, Host, ReadError};

use super::Index;
use super::entry::Entry;
use super::plan::{Filter, Plan, Says};
use crate::model::gap::what;
use crate::model::{Gap, Row};

/// Rows that are completed together: those who run the slow reads are asked once for all of them.
const TOGETHER: usize = 512;
/// Reads of a process that seems to be gone, at most.
const TRIES: usize = 4;

/// What is read of a process's directory besides `stat` and `cgroup`.
const BESIDE_STAT: Needs = Needs::STATUS
    .and(Needs::WCHAN)
    .and(Needs::PIDNS)
    .and(Needs::IDMAP)
    .and(Needs::LINKS)
    .and(Needs::FDS)
    .and(Needs::ROLE)
    .and(Needs::EVIDENCE);

/// Rows and what is missing from them.
#[derive(Debug, Default)]
pub struct Listing {
    /// The rows, in the plan's order.
    pub rows: Vec<Row>,
    /// What is missing about the whole host.
    pub gaps: Vec<Gap>,
    /// Rows that a filter could not decide about, and so are not shown.
    pub undecided: usize,
}

/// What a scan says besides its rows.
#[derive(Debug, Default)]
pub struct Scanned {
    /// What is missing about the whole host.
    pub gaps: Vec<Gap>,
    /// Rows that a filter could not decide about, and so are not passed on.
    pub undecided: usize,
}

/// Takes a row; it may have had enough.
pub type TakeRow<'f> = dyn FnMut(Row) -> ControlFlow<()> + 'f;

/// A scan on its way.
struct Run<'p, 't, 'f> {
    plan: &'p Plan,
    needs: Needs,
    take: &'t mut TakeRow<'f>,
    waiting: Vec<Row>,
    /// Whoever takes the rows has had enough.
    is_enough: bool,
    scanned: Scanned,
    hidden: usize,
    failed: Option<ReadError>,
}

impl<'h> Index<'h> {
    /// Lists every process the plan asks for, in its order.
    ///
    /// # Errors
    /// When /proc itself can't be read.
    pub fn scan(&mut self, plan: &Plan) -> Result<Listing, ReadError> {
        let mut rows = Vec::new();
        let scanned = self.scan_each(plan, &mut |row| {
            rows.push(row);
            ControlFlow::Continue(())
        })?;
        plan.order(&mut rows);
        Ok(Listing { rows, gaps: scanned.gaps, undecided: scanned.undecided })
    }

    /// Passes on every process the plan asks for as soon as it is known, in ascending order of PIDs.
    /// Rows that a filter drops are not read further.
    ///
    /// # Errors
    /// When /proc itself can't be read.
    pub fn scan_each(&mut self, plan: &Plan, take: &mut TakeRow<'_>) -> Result<Scanned, ReadError> {
        let mut run = Run::new(plan, take);
        let (told, refused) = self.told(plan, run.needs);
        let complete = match told {
            Some(told) => self.by_tasks(told, &mut run),
            None => self.by_proc(&mut run)?,
        };
        // When the time is over, what was read by then is passed on all the same.
        if !run.is_enough {
            let _ = self.complete_rows(&mut run);
        }
        let mut scanned = run.finish(self, complete.is_continue());
        scanned.gaps.extend(refused);
        Ok(scanned)
    }

    /// What the task iterator tells, if it is to be asked; and the gap when it was asked for by name
    /// and can't be had.
    fn told(&self, plan: &Plan, needs: Needs) -> (Option<Scan>, Option<Gap>) {
        let usage = needs.has(Needs::CPU) || needs.has(Needs::IO);
        let wanted = Wanted { rss: needs.has(Needs::RSS), usage };
        match scan::tasks(self.host, wanted) {
            Ok(mut scan) => {
                if plan.filters.contains(&Filter::NoKernelThreads) {
                    scan.tasks.retain(|task| !task.is_kernel_thread());
                }
                (Some(scan), None)
            }
            Err(ByProc::Unavailable(why)) if self.host.source() == Source::Bpf => {
                let path = self.host.shown(b"proc");
                let why = format!("{why}; /proc was read instead");
                (None, Some(Gap::new(what::ITERATOR, Class::Unsupported, path, why, None)))
            }
            Err(_) => (None, None),
        }
    }

    /// Those that the iterator told of, and those that it missed, in ascending order.
    fn by_tasks(&mut self, scan: Scan, run: &mut Run<'_, '_, '_>) -> ControlFlow<()> {
        let Scan { tasks, missed } = scan;
        let mut cgroups: Vec<Option<Cgroups>> = if run.needs.has(Needs::OWNER) {
            scan::bpf::cgroups(self.host, &tasks).into_iter().map(Some).collect()
        } else {
            vec![None; tasks.len()]
        };
        let mut missed = missed.into_iter().peekable();
        let told = tasks.into_iter().zip(cgroups.drain(..));
        for (task, cgroups) in told {
            while let Some(pid) = missed.next_if(|pid| *pid < task.pid) {
                self.by_pid(pid, run)?;
            }
            self.by_task(task, cgroups, run)?;
        }
        missed.try_for_each(|pid| self.by_pid(pid, run))
    }

    fn by_proc(&mut self, run: &mut Run<'_, '_, '_>) -> Result<ControlFlow<()>, ReadError> {
        let listed = self.host.listed()?;
        let asked = run.needs.has(Needs::OWNER);
        let all = if asked { Memberships::read(self.host, listed.len()) } else { None };
        let mut pids = listed.iter().map(|listed| listed.pid);
        let Some(all) = all else {
            return Ok(pids.try_for_each(|pid| self.by_pid(pid, run)));
        };
        let names = if run.plan.is_of_names() { self.names(&listed, &all) } else { None };
        Ok(pids.try_for_each(|pid| {
            match names.as_ref().and_then(|names| self.named(pid, names, &all)) {
                Some(entry) => {
                    run.needs = run.needs.without(Needs::STAT);
                    let flow = self.by_entry(&entry, run);
                    run.needs = run.needs.and(Needs::STAT);
                    flow
                }
                None => self.by_membership(pid, &all, run),
            }
        }))
    }

    /// A process on a host of which it is known who is in which cgroup. That and `stat` is enough for
    /// one in a container, unless a column needs more.
    fn by_membership(
        &mut self,
        pid: u32,
        all: &Memberships,
        run: &mut Run<'_, '_, '_>,
    ) -> ControlFlow<()> {
        let host = self.host;
        let few = run.needs.without(BESIDE_STAT) == run.needs;
        let likely = all.likely(pid).filter(|_| few);
        let entry = match likely.is_some_and(|lines| self.names_a_container(pid, &lines)) {
            true => host.stat_of(pid).map(|stat| Entry::listed(host, stat)),
            false => host.process(pid).map(|dir| Entry::opened(host, dir)),
        };
        let entry = entry.and_then(|mut entry| {
            entry.find_cgroups(all)?;
            Ok(entry)
        });
        match entry {
            // One that has just started is read through its directory alone: another that starts in
            // the same tick can't be told from it by numbers.
            Ok(entry) if entry.is_listed() && entry.cgroups().is_none() => self.by_pid(pid, run),
            Ok(entry) => self.by_entry(&entry, run),
            Err(e) => {
                run.note(e);
                ControlFlow::Continue(())
            }
        }
    }

    fn by_task(
        &mut self,
        task: Task,
        cgroups: Option<Cgroups>,
        run: &mut Run<'_, '_, '_>,
    ) -> ControlFlow<()> {
        self.host.before_read(task.pid, "task");
        self.by_entry(&Entry::told(self.host, task, cgroups), run)
    }

    fn by_pid(&mut self, pid: u32, run: &mut Run<'_, '_, '_>) -> ControlFlow<()> {
        let host = self.host;
        // A directory that only `stat` is read of is not worth to be opened.
        let entry = if run.needs.without(BESIDE_STAT).without(Needs::OWNER) == run.needs {
            host.stat_of(pid).map(|stat| Entry::listed(host, stat))
        } else {
            host.process(pid).map(|dir| Entry::opened(host, dir))
        };
        match entry {
            Ok(entry) => self.by_entry(&entry, run),
            Err(e) => {
                run.note(e);
                ControlFlow::Continue(())
            }
        }
    }

    fn by_entry(&mut self, entry: &Entry<'_>, run: &mut Run<'_, '_, '_>) -> ControlFlow<()> {
        if self.host.out_of_time() {
            return ControlFlow::Break(());
        }
        let read = match self.one(entry, run) {
            Err(e) if e.class == Class::Gone && !self.host.is_loose() => {
                self.once_more(entry.pid(), run)
            }
            read => read,
        };
        match read {
            Ok(Some(row)) => run.waiting.push(row),
            Ok(None) => {}
            Err(e) => run.note(e),
        }
        if run.waiting.len() < TOGETHER {
            return ControlFlow::Continue(());
        }
        self.complete_rows(run)
    }

    /// The row of a process that was gone while it was read: where a thread executes a program, it takes
    /// over the process's number, and what was held of either is gone.
    fn once_more(&mut self, pid: u32, run: &mut Run<'_, '_, '_>) -> Result<Option<Row>, ReadError> {
        let host = self.host;
        let mut read = self.one(&Entry::opened(host, host.process(pid)?), run);
        for _ in 1..TRIES {
            if !read.as_ref().is_err_and(|e| e.class == Class::Gone) {
                break;
            }
            read = self.one(&Entry::opened(host, host.process(pid)?), run);
        }
        read
    }

    /// One process's row, unless a filter drops it. An error when it is gone.
    fn one(
        &mut self,
        entry: &Entry<'_>,
        run: &mut Run<'_, '_, '_>,
    ) -> Result<Option<Row>, ReadError> {
        let (host, mut needs) = (self.host, run.needs);
        let Some(mut row) = self.begin(entry, needs)? else { return Err(ended(host, entry)) };
        if let Some(stat) = row.process.stat.known() {
            self.inner.meet(stat);
        }
        if !run.keeps(Stage::Scan, &row) {
            return Ok(None);
        }
        let notice = needs.has(Needs::DESCRIPTION);
        if notice && self.may_be_an_engine(row.process.comm()) {
            needs = needs.and(Needs::STATUS).and(Needs::ROLE);
            super::facts::load_status(self.host, entry, &mut row.process, needs)?;
        }
        if !self.finish(entry, &mut row, needs)? {
            return Err(ended(host, entry));
        }
        if notice {
            // A daemon tells where its containers' state is, before any of them needs it.
            self.notice_engine(&row);
        }
        Ok(run.keeps(Stage::Owner, &row).then_some(row))
    }

    /// Adds what is found out for several rows together, and passes them on.
    fn complete_rows(&mut self, run: &mut Run<'_, '_, '_>) -> ControlFlow<()> {
        let mut rows = std::mem::take(&mut run.waiting);
        self.describe_rows(&mut rows, run.needs);
        rows.retain(|row| run.keeps(Stage::Description, row));
        self.read_slow(&mut rows, run.needs);
        let taken = rows.into_iter().try_for_each(|row| (run.take)(row));
        run.is_enough |= taken.is_break();
        taken
    }
}

fn ended(host: &Host, entry: &Entry<'_>) -> ReadError {
    let path = host.shown(format!("proc/{}", entry.pid()).as_bytes());
    ReadError::new(path, Class::Gone, "it has ended")
}

impl<'p, 't, 'f> Run<'p, 't, 'f> {
    fn new(plan: &'p Plan, take: &'t mut TakeRow<'f>) -> Self {
        let (waiting, scanned) = (Vec::with_capacity(TOGETHER), Scanned::default());
        let (is_enough, hidden, failed) = (false, 0, None);
        Self { plan, needs: plan.needs(), take, waiting, is_enough, scanned, hidden, failed }
    }

    fn keeps(&mut self, stage: Stage, row: &Row) -> bool {
        match self.plan.filter(stage, row) {
            Says::Yes => true,
            Says::No => false,
            Says::Undecided => {
                self.scanned.undecided += 1;
                false
            }
        }
    }

    /// A process that could not be read. One that has ended is missing from no list.
    fn note(&mut self, error: ReadError) {
        match error.class {
            Class::Gone => {}
            Class::Forbidden => self.hidden += 1,
            _ => self.failed = Some(error),
        }
    }

    fn finish(self, index: &Index<'_>, complete: bool) -> Scanned {
        let Self { mut scanned, hidden, failed, .. } = self;
        let host = index.host();
        let gap = |class, why: String, remedy| {
            Gap::new(what::PROCESS, class, host.shown(b"proc"), why, Some(remedy))
        };
        if hidden > 0 {
            let why = format!("{hidden} processes may not be looked at");
            scanned.gaps.push(gap(Class::Forbidden, why, "run as root: sudo whose ..."));
        }
        scanned.gaps.extend(failed.map(|e| Gap::from_read(what::PROCESS, &e)));
        if host.out_of_time() {
            let why = if complete { "time ran out" } else { "not all processes were read in time" };
            let remedy = "try again with a longer --timeout";
            scanned.gaps.push(gap(Class::TimedOut, why.to_owned(), remedy));
        }
        scanned
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use whose_kernel::{Class, Host, Options};

    use super::{Index, Plan};

    #[test]
    fn what_was_read_in_time_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        for pid in 1..=3 {
            let process = dir.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(&process).unwrap();
            let stat = format!("{pid} (x) S 0 1 1 0 -1 0{} 7 4096\n", " 0".repeat(12));
            std::fs::write(process.join("stat"), stat).unwrap();
        }
        let time = Duration::from_millis(300);
        let deadline = Instant::now() + time;
        let slow = move |pid: u32, _: &str| {
            if pid == 2 {
                std::thread::sleep(time);
            }
        };
        let host = Host::open(Options {
            root: Some(dir.path().to_str().unwrap().into()),
            deadline: Some(deadline),
            probe: Some(Box::new(slow)),
            ..Options::default()
        })
        .unwrap();
        let listing = Index::new(&host).scan(&Plan::default()).unwrap();
        let pids: Vec<u32> = listing.rows.iter().map(|row| row.process.pid).collect();
        assert_eq!(pids, [1]);
        assert_eq!(listing.gaps.iter().filter(|gap| gap.class == Class::TimedOut).count(), 1);
    }
}
