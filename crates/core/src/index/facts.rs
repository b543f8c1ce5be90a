//! Reading the facts of one process that a plan needs.

use whose_fields::Needs;
use whose_kernel::error::EVEN_TO_ROOT;
use whose_kernel::parse::idmap;
use whose_kernel::read::process::ProcDir;
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, Host, ReadError, parse};

use super::entry::Entry;
use crate::model::gap::what;
use crate::model::{Fact, Gap, Process, Row};

/// `stat` and `status`: what a filter can judge before anything else is read.
///
/// # Errors
/// `gone` when the process is; in a saved tree a missing file is a gap of the process instead.
pub(super) fn load(host: &Host, entry: &Entry<'_>, needs: Needs) -> Result<Process, ReadError> {
    let mut process =
        Process { pid: entry.pid(), hz: host.ticks_per_second(), ..Process::default() };
    if let Some(name) = entry.name() {
        process.name = Some(name.clone());
        return Ok(process);
    }
    process.stat = fact(host, entry.stat(needs))?;
    if let Some(stat) = process.stat.known().filter(|stat| stat.goes_on()) {
        process.thread = entry.dir().ok().map(|dir| dir.reader(stat.start_ticks));
    }
    if needs.has(Needs::STATUS) {
        load_status(host, entry, &mut process, needs)?;
        let uid = process.uid();
        process.user = uid.and_then(|uid| host.user_name(uid)).map(Into::into);
    }
    times(host, &mut process);
    Ok(process)
}

/// `status`, unless it was read.
///
/// # Errors
/// As [`load`].
pub(super) fn load_status(
    host: &Host,
    entry: &Entry<'_>,
    process: &mut Process,
    needs: Needs,
) -> Result<(), ReadError> {
    if process.status == Fact::Unasked {
        process.status = fact(host, entry.status(needs))?;
    }
    Ok(())
}

fn fact<T>(host: &Host, read: Result<T, ReadError>) -> Result<Fact<T>, ReadError> {
    match read {
        Ok(value) => Ok(Fact::Known(value)),
        // Gone, or hidden from this user as a whole (hidepid=1): there is no row to be made.
        Err(e) if !host.is_loose() && matches!(e.class, Class::Gone | Class::Forbidden) => Err(e),
        Err(e) => Ok(Fact::Unread(Gap::from_read(what::PROCESS, &e))),
    }
}

/// Wall clock start and age, from the start ticks.
fn times(host: &Host, process: &mut Process) {
    let Some(stat) = process.stat.known() else {
        if let Fact::Unread(gap) = &process.stat {
            process.start_time = Fact::Unread(gap.clone());
            process.age = Fact::Unread(gap.clone());
        }
        return;
    };
    let ticks = stat.start_ticks;
    let boot_gap = |e: &ReadError| Gap::from_read(what::BOOT, e);
    process.start_time = match host.start_time(ticks) {
        Ok(ms) => Fact::Known(ms),
        Err(e) => Fact::Unread(boot_gap(&e)),
    };
    process.age = match host.uptime_ticks() {
        Ok(now) => Fact::Known(now.saturating_sub(ticks)),
        Err(e) => Fact::Unread(boot_gap(&e)),
    };
}

/// The rest of the directory. False when the process is gone.
pub(super) fn load_rest(host: &Host, entry: &Entry<'_>, p: &mut Process, needs: Needs) -> bool {
    let saved = host.is_loose();
    let told = entry.task();
    if needs.has(Needs::IO) {
        // One that has ended is not asked by /proc either.
        let io = told.filter(|_| !p.is_dead()).and_then(|t| t.io);
        p.io = io.map_or(Fact::Unasked, Fact::Known);
    }
    let others = [Needs::WCHAN, Needs::PIDNS, Needs::LINKS, Needs::IDMAP, Needs::FDS];
    if !others.iter().any(|other| needs.has(*other)) {
        return true;
    }
    let of_dir = || entry.dir();
    if of_dir().is_err_and(|e| e.class == Class::Gone) {
        return false;
    }
    if needs.has(Needs::WCHAN) {
        p.wchan = match of_dir().and_then(ProcDir::wchan) {
            Ok(None) => match of_dir().ok().and_then(|dir| hidden(host, p, dir)) {
                Some(e) => Fact::Unread(Gap::from_read(what::WCHAN, &e)),
                None => Fact::Absent,
            },
            Ok(wchan) => wchan.into(),
            Err(e) if e.class == Class::Gone && !saved => return false,
            Err(e) => absent_or_gap(what::WCHAN, &e),
        };
    }
    if needs.has(Needs::PIDNS) {
        p.pidns = match told {
            Some(task) => Fact::Known(task.pid_ns),
            None => soft(what::NAMESPACES, of_dir().and_then(|d| d.namespace("pid"))),
        };
    }
    if needs.has(Needs::LINKS) {
        p.exe = soft(what::LINKS, of_dir().and_then(|d| d.link_text("exe")));
        p.cwd = soft(what::LINKS, of_dir().and_then(|d| d.link_text("cwd")));
    }
    if needs.has(Needs::FDS) && !p.is_dead() {
        p.fds = soft(what::FDS, of_dir().and_then(ProcDir::descriptor_count));
    }
    if needs.has(Needs::IDMAP) {
        p.inside_uid = match (of_dir().and_then(ProcDir::uid_map), p.uid()) {
            (Ok(map), Some(uid)) => idmap::inside(&map, uid).into(),
            (Ok(_), None) => Fact::Absent,
            (Err(e), _) => absent_or_gap(what::IDMAP, &e),
        };
    }
    true
}

/// Why the kernel keeps from this user what a process sleeps in: it reads `0` then, as it does for one
/// that runs (proc(5)). It shows it to whom it shows the namespaces.
fn hidden(host: &Host, p: &Process, dir: &ProcDir<'_>) -> Option<ReadError> {
    let sleeps = p.stat.known().is_some_and(|s| matches!(s.state, b'S' | b'D'));
    if !sleeps || host.is_loose() {
        return None;
    }
    let error = dir.namespace("pid").err().filter(|e| e.class == Class::Forbidden)?;
    let cause = match error.cause == EVEN_TO_ROOT {
        true => EVEN_TO_ROOT,
        false => "the kernel shows it only to those who may trace the process",
    };
    let path = host.shown(format!("proc/{}/wchan", p.pid).as_bytes());
    Some(ReadError::new(path, Class::Forbidden, cause))
}

/// What zombies and kernel threads do not have is absent, not unread.
pub(super) fn soft<T>(what: &'static str, read: Result<T, ReadError>) -> Fact<T> {
    match read {
        Ok(value) => Fact::Known(value),
        Err(e) => absent_or_gap(what, &e),
    }
}

fn absent_or_gap<T>(what: &'static str, e: &ReadError) -> Fact<T> {
    match e.class {
        Class::Gone => Fact::Absent,
        _ => Fact::Unread(Gap::from_read(what, e)),
    }
}

/// Stores what a slow file's read brought.
type SetSlow<'f> = dyn FnMut(&mut Process, Result<Vec<u8>, ReadError>) + 'f;

impl super::Index<'_> {
    /// Files whose reading can block, of all rows in batches. A process that is gone by now keeps its
    /// row: what was read of it is true.
    pub(super) fn read_slow(&self, rows: &mut [Row], needs: Needs) {
        let saved = self.host().is_loose();
        if needs.has(Needs::CMDLINE) {
            for p in rows.iter_mut().map(|r| &mut r.process) {
                if p.is_kernel() || p.is_dead() {
                    p.args = Fact::Known(Vec::new()); // they have none
                }
            }
            let asked = |p: &Process| p.args.known().is_none();
            self.each_slow(rows, Slow::Cmdline, &asked, &mut |p, answer| {
                p.args = match answer {
                    // Every process has the file: a saved tree without it was not told.
                    Err(e) if saved => Fact::Unread(Gap::from_read(what::ARGS, &e)),
                    answer => soft(what::ARGS, answer.map(|bytes| parse::cmdline::parse(&bytes))),
                };
            });
        }
        if needs.has(Needs::IO) {
            let host = self.host();
            let asked = |p: &Process| !p.is_dead() && p.io.known().is_none();
            self.each_slow(rows, Slow::Io, &asked, &mut |p, answer| {
                let path = host.shown(format!("proc/{}/io", p.pid).as_bytes());
                let io = answer.and_then(|b| parse::io::parse(&b).map_err(|m| m.at(path)));
                p.io = match io {
                    // As above: every process has this file too.
                    Err(e) if saved => Fact::Unread(Gap::from_read(what::IO, &e)),
                    io => soft(what::IO, io),
                };
            });
        }
    }

    /// Has the arguments read that [`Self::read_slow`] will want of one row, where more is read before.
    pub(super) fn prefetch_slow(&self, row: &Row, needs: Needs) {
        let process = &row.process;
        if needs.has(Needs::CMDLINE.and(Needs::OWNER)) && !process.is_kernel() && !process.is_dead()
        {
            let (pid, start_ticks) = process.reader();
            self.host().prefetch_slow_read(Ask { file: Slow::Cmdline, pid, start_ticks });
        }
    }

    fn each_slow(
        &self,
        rows: &mut [Row],
        file: Slow,
        wanted: &dyn Fn(&Process) -> bool,
        set: &mut SetSlow<'_>,
    ) {
        let ask = |p: &Process| {
            let (pid, start_ticks) = p.reader();
            Ask { file, pid, start_ticks }
        };
        let mut asked: Vec<(usize, Ask)> = (rows.iter().enumerate())
            .filter(|(_, r)| wanted(&r.process))
            .map(|(at, r)| (at, ask(&r.process)))
            .collect();
        // A process in uninterruptible sleep is the likeliest to block its reader, and a class of
        // reads is given up after two have: those come last.
        asked
            .sort_by_key(|(at, _)| rows[*at].process.stat.known().is_some_and(|s| s.state == b'D'));
        let asks: Vec<Ask> = asked.iter().map(|(_, ask)| *ask).collect();
        let answers = self.host().slow_reads(&asks);
        for ((at, _), answer) in asked.into_iter().zip(answers) {
            set(&mut rows[at].process, answer);
        }
    }
}
