//! What was asked for and could not be read.

use std::borrow::Cow;
use std::ops::Deref;

use bstr::BString;
use whose_kernel::error::{CHANGING, EVEN_TO_ROOT};
pub use whose_kernel::{Class, ReadError};

/// A gap: what, why, where, and what would fix it. A process that vanished is none. It is kept apart,
/// so that a fact which is known takes no room for the reasons why it might not be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gap(Box<Reasons>);

/// What a [`Gap`] says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reasons {
    /// What is missing, in a few words that `doctor` uses too: `container names`, `arguments`.
    pub what: &'static str,
    /// Why.
    pub class: Class,
    /// What was read.
    pub path: BString,
    /// The cause, for people.
    pub cause: Cow<'static, str>,
    /// What would fix it.
    pub remedy: Option<Cow<'static, str>>,
}

impl Gap {
    /// The gap that a failed read leaves, with the usual remedy of its class.
    #[must_use]
    pub fn from_read(what: &'static str, error: &ReadError) -> Self {
        let remedy = match error.class {
            Class::Forbidden if error.cause == EVEN_TO_ROOT => {
                Some("give whose the capability CAP_SYS_PTRACE, or run it outside this sandbox")
            }
            Class::Forbidden => Some("run as root: sudo whose ..."),
            Class::TimedOut if error.cause == CHANGING => Some("try again"),
            Class::TimedOut => Some("try again with a longer --timeout"),
            Class::Gone | Class::Unsupported | Class::Malformed => None,
        };
        Self::from(Reasons {
            what,
            class: error.class,
            path: error.path.clone(),
            cause: error.cause.clone(),
            remedy: remedy.map(Cow::Borrowed),
        })
    }

    /// The same gap, of something else that is missing by it.
    #[must_use]
    pub fn of(mut self, what: &'static str) -> Self {
        self.0.what = what;
        self
    }

    /// A gap of our own finding.
    #[must_use]
    pub fn new(
        what: &'static str,
        class: Class,
        path: impl Into<BString>,
        cause: impl Into<Cow<'static, str>>,
        remedy: Option<&'static str>,
    ) -> Self {
        let remedy = remedy.map(Cow::Borrowed);
        Self::from(Reasons { what, class, path: path.into(), cause: cause.into(), remedy })
    }
}

/// The first of several gaps, and how many more there are, for one line.
#[must_use]
pub fn first_of(gaps: &[Gap]) -> Option<String> {
    let (first, more) = gaps.split_first()?;
    Some(match more.len() {
        0 => first.to_string(),
        more => format!("{first}, and {more} more"),
    })
}

impl From<Reasons> for Gap {
    fn from(reasons: Reasons) -> Self {
        Self(Box::new(reasons))
    }
}

impl Deref for Gap {
    type Target = Reasons;

    fn deref(&self) -> &Reasons {
        &self.0
    }
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.what, self.path, self.cause)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

/// The `what`s, so that every command and `doctor` use the same words.
pub mod what {
    /// Defines the words, and the list of all of them.
    macro_rules! whats {
        ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
            $($(#[$doc])* pub const $name: &str = $word;)+

            /// All of them.
            pub const ALL: &[&str] = &[$($name,)+];
        };
    }

    whats! {
        /// Facts of a process.
        PROCESS = "process",
        /// `cmdline`.
        ARGS = "arguments",
        /// `wchan`.
        WCHAN = "wait channel",
        /// `io`.
        IO = "I/O counters",
        /// The number of open descriptors.
        FDS = "open descriptors",
        /// Namespace links.
        NAMESPACES = "namespaces",
        /// `uid_map`.
        IDMAP = "user id map",
        /// `exe` and `cwd`.
        LINKS = "executable and directory",
        /// Who owns a process.
        MEMBERSHIP = "membership",
        /// Names, images, labels of containers.
        DESCRIPTION = "container description",
        /// Whether a container is frozen.
        STATE = "container state",
        /// Processes of a container.
        PIDS = "processes of a container",
        /// The list of an engine's containers.
        CONTAINERS = "containers of an engine",
        /// The host's boot time or id.
        BOOT = "boot time",
        /// The file on the host behind a process's binary.
        BINARY = "host path of the binary",
        /// What a process maps.
        MAPS = "mapped files",
        /// Hash and build id of the running file.
        HASH = "hash of the binary",
        /// Layers of an engine's store, and whose they are.
        LAYERS = "layers of an engine",
        /// An engine's images, and who needs what is kept of them.
        IMAGES = "images of an engine",
        /// A path that was asked for.
        PATH = "path",
        /// Names of pods, in the kubelet's files.
        PODS = "pod names",
        /// The containers that use a volume.
        VOLUMES = "containers of a volume",
        /// What takes room on disks.
        DISK = "disk usage",
        /// The kernel's task iterator, when it was asked for.
        ITERATOR = "task iterator",
        /// Processes in a sandbox that has a kernel of its own.
        GUEST = "processes in a sandbox",
        /// A running daemon's answer.
        DAEMON = "daemon of an engine",
        /// What is not in a capture of some targets.
        OUTSIDE_CAPTURE = "what was not captured",
        /// What is outside the container that `whose` itself runs in.
        OUTSIDE = "what is outside this container",
    }

    /// The one with this word.
    #[must_use]
    pub fn by_name(word: &str) -> Option<&'static str> {
        ALL.iter().find(|w| **w == word).copied()
    }
}
