//! What the output of other tools looks like: one file a format, one line each in [`REGISTRY`].
//!
//! A format is pure: it sees one line without escape sequences, and tells where something is named.
//! A number is only taken for a PID where the format says that one stands there.

mod audit;
mod bcc;
mod cgtop;
mod coredumpctl;
mod folded;
mod fuser;
mod ids;
mod iotop;
mod journal;
mod json;
mod kernel_log;
mod lsof;
mod netstat;
mod nvidia;
mod perf_script;
mod perf_top;
mod pgrep;
mod pidstat;
mod ps;
mod pstree;
mod ss;
mod strace;
mod syslog;
mod table;
#[cfg(test)]
mod tests;
mod top;

use std::ops::Range;

pub(crate) use ids::named_in;
pub(crate) use table::{Heading, Side};

/// What is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A process or thread.
    Pid(u32),
    /// One that bears the name that stands there, else it is none.
    Command(u32, Range<usize>),
    /// The same, by its short name alone, in which `_` may stand for a blank.
    Comm(u32, Range<usize>),
    /// A container, by its id of 64 digits or the first 12.
    Container,
    /// A cgroup, by its path.
    Cgroup,
    /// A file or directory in an engine's store.
    Path,
    /// A namespace, by its kind and inode.
    Namespace(u64),
    /// A network interface, and the index of its other end where the line has it.
    Interface(Option<u32>),
}

/// When a line says that it was so. Until then the PID may have been another process's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Now: the tool runs.
    Now,
    /// Milliseconds since boot, of this boot if the line is.
    SinceBoot(u64),
    /// Milliseconds since 1970.
    At(i64),
    /// At some time that the line does not tell.
    Sometime,
    /// The process has ended.
    Ended,
}

/// Where the addition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Where the style says.
    Line,
    /// A frame before the stack.
    Frame,
    /// A member of the same JSON object, right behind it, with this key.
    Member(&'static str),
}

/// One place of a line that names something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    /// What.
    pub(crate) what: What,
    /// Where it stands.
    pub(crate) at: Range<usize>,
    /// When it was so.
    pub(crate) when: When,
    /// Where the addition goes.
    pub(crate) way: Way,
    /// The cgroup that the same record says a process was in.
    pub(crate) cgroup: Option<String>,
}

impl Mention {
    pub(crate) fn new(what: What, at: Range<usize>, when: When) -> Self {
        Self { what, at, when, way: Way::Line, cgroup: None }
    }

    /// A process, now.
    pub(crate) fn pid(pid: u32, at: Range<usize>) -> Self {
        Self::new(What::Pid(pid), at, When::Now)
    }
}

/// Whether a line is of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is not.
    No,
    /// It is; ids in the rest of it count too.
    Shared,
    /// It is, and nothing else in it counts.
    Whole,
}

/// What formats are told besides the line.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    /// Milliseconds since 1970.
    pub(crate) now: i64,
    /// The time zone of times without one.
    pub(crate) zone: &'a crate::time::Zone,
    /// Whether an id is that of the running boot.
    pub(crate) is_this_boot: &'a dyn Fn(&[u8]) -> bool,
}

/// The output of a tool.
pub(crate) trait Format: Sync {
    /// The tool's name.
    fn name(&self) -> &'static str;

    /// The line as the header of a table.
    fn heading(&self, _line: &[u8]) -> Option<Heading> {
        None
    }

    /// What a line of running text names.
    fn line(&self, _line: &[u8], _around: Around<'_>, _found: &mut Vec<Mention>) -> Claim {
        Claim::No
    }
}

/// All formats; of two that fit a line the first one counts.
pub(crate) const REGISTRY: &[&dyn Format] = &[
    &json::Json,
    &top::Top,
    &iotop::Iotop,
    &pidstat::Pidstat,
    &lsof::Lsof,
    &fuser::Fuser,
    &netstat::Netstat,
    &coredumpctl::Coredumpctl,
    &cgtop::Cgtop,
    &nvidia::Nvidia,
    &perf_top::PerfTop,
    &ps::Ps,
    &bcc::Bcc,
    &audit::Audit,
    &ss::Ss,
    &strace::Strace,
    &journal::Journal,
    &syslog::Syslog,
    &kernel_log::KernelLog,
    &perf_script::PerfScript,
    &folded::Folded,
    &pstree::Pstree,
    &pgrep::Pgrep,
];

/// The names of all formats, for the help.
#[must_use]
pub fn formats() -> Vec<&'static str> {
    REGISTRY.iter().map(|format| format.name()).collect()
}
