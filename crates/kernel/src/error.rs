//! Read errors, classified once into what a caller decides by.

use std::borrow::Cow;

use bstr::{BStr, BString};
use rustix::io::Errno;

/// What kind of failure a read met. The names are those of the output contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The file or process is not there (any more).
    Gone,
    /// Permission is missing.
    Forbidden,
    /// This kernel, file system or mode cannot tell.
    Unsupported,
    /// It was read, or found, but is not what it should be.
    Malformed,
    /// It did not answer in time.
    TimedOut,
}

impl Class {
    /// The contract's word for the class.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Forbidden => "forbidden",
            Self::Unsupported => "unsupported",
            Self::Malformed => "malformed",
            Self::TimedOut => "timed-out",
        }
    }

    /// The class with this word.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        let all = [Self::Gone, Self::Forbidden, Self::Unsupported, Self::Malformed, Self::TimedOut];
        all.into_iter().find(|class| class.name() == name)
    }

    /// The class of a kernel error.
    #[must_use]
    pub fn of(errno: Errno) -> Self {
        match errno {
            // ENODEV: a cgroup that was removed while it was open.
            Errno::NOENT | Errno::SRCH | Errno::NOTDIR | Errno::NODEV => Self::Gone,
            Errno::ACCESS | Errno::PERM => Self::Forbidden,
            Errno::TIMEDOUT | Errno::INTR => Self::TimedOut,
            // openat2: a link where none is allowed, or a way out of the root.
            Errno::LOOP | Errno::XDEV | Errno::FBIG | Errno::ISDIR | Errno::NAMETOOLONG => {
                Self::Malformed
            }
            _ => Self::Unsupported,
        }
    }
}

/// A read that failed: what was tried, on what, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {cause}")]
pub struct ReadError {
    /// The path as a person would name it.
    pub path: BString,
    /// The class, for decisions.
    pub class: Class,
    /// The reason, for people.
    pub cause: Cow<'static, str>,
}

impl ReadError {
    /// An error from the kernel's answer.
    #[must_use]
    pub fn from_errno(path: impl Into<BString>, errno: Errno) -> Self {
        Self { path: path.into(), class: Class::of(errno), cause: describe(errno) }
    }

    /// An error of our own finding.
    #[must_use]
    pub fn new(
        path: impl Into<BString>,
        class: Class,
        cause: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { path: path.into(), class, cause: cause.into() }
    }

    /// The path as bytes.
    #[must_use]
    pub fn path(&self) -> &BStr {
        self.path.as_ref()
    }
}

/// The cause when being root does not help: a capability is missing, or the target is protected.
pub const EVEN_TO_ROOT: &str = "permission denied, even to root";

/// The cause when what is read together was never twice the same.
pub const CHANGING: &str = "it changed all the time while it was read";

/// The cause when the kernel does not support the operation on this file.
pub const NOT_SUPPORTED: &str = "operation not supported";

fn describe(errno: Errno) -> Cow<'static, str> {
    match errno {
        Errno::NOENT => "no such file".into(),
        Errno::SRCH => "no such process".into(),
        Errno::ACCESS | Errno::PERM if rustix::process::geteuid().is_root() => EVEN_TO_ROOT.into(),
        Errno::ACCESS | Errno::PERM => "permission denied".into(),
        Errno::OPNOTSUPP => NOT_SUPPORTED.into(),
        Errno::LOOP => "a symbolic link where none is allowed".into(),
        Errno::XDEV => "leads out of its root".into(),
        other => std::io::Error::from(other).to_string().into(),
    }
}

/// A parser's refusal: which part was not as the kernel writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

impl Malformed {
    /// The read error for the file that held it.
    #[must_use]
    pub fn at(self, path: impl Into<BString>) -> ReadError {
        ReadError::new(path, Class::Malformed, self.0)
    }
}
