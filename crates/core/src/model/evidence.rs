//! What an answer rests on.

use bstr::BString;

/// Where an observation was made, in the contract's words. In order of rank: the kernel outranks
/// state files, state files outrank daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The text of `/proc/PID/cgroup`.
    Cgroup,
    /// Namespaces, and PIDs in them.
    Namespace,
    /// The mount table.
    Mount,
    /// A file of the runtime.
    StateFile,
    /// Parents.
    Ancestry,
    /// The environment.
    Environment,
    /// A running daemon's answer.
    Daemon,
}

impl Source {
    /// The contract's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Namespace => "namespace",
            Self::Mount => "mount",
            Self::StateFile => "state-file",
            Self::Ancestry => "ancestry",
            Self::Environment => "environment",
            Self::Daemon => "daemon",
        }
    }
}

/// One observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Where.
    pub source: Source,
    /// What was seen, one line.
    pub detail: BString,
    /// What was read.
    pub path: BString,
    /// Whether it supports the answer given.
    pub agrees: bool,
}

impl Evidence {
    /// Evidence for the answer.
    #[must_use]
    pub fn agreeing(source: Source, detail: impl Into<BString>, path: impl Into<BString>) -> Self {
        Self { source, detail: detail.into(), path: path.into(), agrees: true }
    }

    /// Evidence that points elsewhere.
    #[must_use]
    pub fn against(source: Source, detail: impl Into<BString>, path: impl Into<BString>) -> Self {
        Self { agrees: false, ..Self::agreeing(source, detail, path) }
    }
}
