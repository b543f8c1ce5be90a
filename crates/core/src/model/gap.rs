//! What was asked for and could not be read.

use std::borrow::Cow;

use bstr::BString;
use whose_kernel::error::EVEN_TO_ROOT;
pub use whose_kernel::{Class, ReadError};

/// A gap: what, why, where, and what would fix it. A process that vanished is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// What is missing, in a few words that `doctor` uses too: `container names`, `arguments`.
    pub what: &'static str,
    /// Why.
    pub class: Class,
    /// What was read.
    pub path: BString,
    /// The cause, for people.
    pub cause: Cow<'static, str>,
    /// What would fix it.
    pub remedy: Option<&'static str>,
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
            Class::TimedOut => Some("try again with a longer --timeout"),
            Class::Gone | Class::Unsupported | Class::Malformed => None,
        };
        Self {
            what,
            class: error.class,
            path: error.path.clone(),
            cause: error.cause.clone(),
            remedy,
        }
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
        Self { what, class, path: path.into(), cause: cause.into(), remedy }
    }
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.what, self.path, self.cause)?;
        if let Some(remedy) = self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

/// The `what`s, so that every command and `doctor` use the same words.
pub mod what {
    /// Facts of a process.
    pub const PROCESS: &str = "process";
    /// `cmdline`.
    pub const ARGS: &str = "arguments";
    /// `wchan`.
    pub const WCHAN: &str = "wait channel";
    /// `io`.
    pub const IO: &str = "I/O counters";
    /// Namespace links.
    pub const NAMESPACES: &str = "namespaces";
    /// `uid_map`.
    pub const IDMAP: &str = "user id map";
    /// `exe` and `cwd`.
    pub const LINKS: &str = "executable and directory";
    /// Who owns a process.
    pub const MEMBERSHIP: &str = "membership";
    /// Names, images, labels of containers.
    pub const DESCRIPTION: &str = "container description";
    /// Whether a container is frozen.
    pub const STATE: &str = "container state";
    /// Processes of a container.
    pub const PIDS: &str = "processes of a container";
    /// The list of an engine's containers.
    pub const CONTAINERS: &str = "containers of an engine";
    /// The host's boot time or id.
    pub const BOOT: &str = "boot time";
    /// The file on the host behind a process's binary.
    pub const BINARY: &str = "host path of the binary";
    /// Hash and build id of the running file.
    pub const HASH: &str = "hash of the binary";
    /// Layers of an engine's store, and whose they are.
    pub const LAYERS: &str = "layers of an engine";
    /// A path that was asked for.
    pub const PATH: &str = "path";
    /// The containers that use a volume.
    pub const VOLUMES: &str = "containers of a volume";
    /// What is outside the container that `whose` itself runs in.
    pub const OUTSIDE: &str = "what is outside this container";
}
