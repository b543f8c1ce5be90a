//! Evidence as a runtime sees it, and its answer.

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::parse::cgroup::Line;

use crate::model::{Owner, Role};

/// One process's evidence. What is `None` was not read; a runtime that must have it says
/// [`Claim::Need`].
#[derive(Clone, Copy, Debug)]
pub struct Subject<'e> {
    /// The lines of its cgroup file.
    pub lines: &'e [Line],
    /// The kernel's name for it; whatever runs in a container can set its own.
    pub comm: &'e BStr,
    /// Its arguments; whatever runs in a container can set its own.
    pub args: Option<&'e [BString]>,
    /// Its effective uid as the reader sees it; of a setuid program of root's that of who started it.
    pub uid: Option<u32>,
    /// Its PIDs in nested PID namespaces, outermost first.
    pub nspid: Option<&'e [u32]>,
}

impl Subject<'_> {
    /// Whether it may be a host's daemon: root's, and in no nested PID namespace.
    #[must_use]
    pub fn is_hosts_own(&self) -> bool {
        self.uid == Some(0) && self.nspid.is_none_or(|n| n.len() == 1)
    }

    /// The argument after `flag`, for Go's single-dash and double-dash forms and `flag=value`.
    #[must_use]
    pub fn flag(args: &[BString], flag: &str) -> Option<BString> {
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let Some(bare) = arg.strip_prefix(b"--").or_else(|| arg.strip_prefix(b"-")) else {
                continue;
            };
            if bare == flag.as_bytes() {
                return rest.next().cloned();
            }
            let value = bare.strip_prefix(flag.as_bytes()).and_then(|v| v.strip_prefix(b"="));
            if let Some(value) = value {
                return Some(value.into());
            }
        }
        None
    }
}

/// How well a level is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Anything may be called so: it is nothing at all unless this runtime's state knows the id and
    /// gives it this cgroup.
    Guess,
    /// The shape is any runtime's: it counts only if this runtime's state knows the id.
    State,
    /// The text proves it.
    Text,
}

/// One level of a chain: a segment of one cgroup line that names an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Index of the line.
    pub line: usize,
    /// Segments of the path up to and with the one that names it.
    pub depth: usize,
    /// Kind, runtime, id and name as the text shows them.
    pub owner: Owner,
    /// How it is proven.
    pub proof: Proof,
}

/// Whom plumbing works for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serves {
    /// The container with this id.
    Id(BString),
    /// The container with this address.
    Address(BString),
}

/// A claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mine {
    /// Levels in any order.
    pub levels: Vec<Level>,
    /// What the process is, when the runtime can tell.
    pub role: Option<Role>,
    /// Whom it works for, when it is plumbing.
    pub serves: Option<Serves>,
}

/// A runtime's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing of this runtime's.
    NotMine,
    /// This.
    Mine(Mine),
    /// More evidence is needed; ask again with it.
    Need(Needs),
}

impl From<Vec<Level>> for Claim {
    fn from(levels: Vec<Level>) -> Self {
        if levels.is_empty() {
            Self::NotMine
        } else {
            Self::Mine(Mine { levels, ..Mine::default() })
        }
    }
}

/// The path of the first `depth` segments of a line.
#[must_use]
pub fn path_to(line: &Line, depth: usize) -> BString {
    let mut path = Vec::with_capacity(line.path.len());
    for segment in line.segments().take(depth) {
        path.push(b'/');
        path.extend_from_slice(segment);
    }
    path.into()
}

/// Names the owner a segment stands for, given the segment before it.
pub type NameSegment<'f> = dyn FnMut(Option<&BStr>, &BStr) -> Option<(Owner, Proof)> + 'f;

/// Calls `of(previous segment, segment)` for every segment of every line; what it returns becomes a
/// level there.
pub fn each_segment(lines: &[Line], of: &mut NameSegment<'_>) -> Vec<Level> {
    let mut levels = Vec::new();
    for (line, text) in lines.iter().enumerate() {
        let mut previous = None;
        for (at, segment) in text.segments().enumerate() {
            if let Some((owner, proof)) = of(previous, segment) {
                levels.push(Level { line, depth: at + 1, owner, proof });
            }
            previous = Some(segment);
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use bstr::BString;

    use super::Subject;

    #[test]
    fn flags_in_every_form() {
        let args: Vec<BString> =
            ["shim", "-id", "X", "--address=/a", "-namespace", "moby"].map(BString::from).into();
        assert_eq!(Subject::flag(&args, "id").unwrap(), "X");
        assert_eq!(Subject::flag(&args, "address").unwrap(), "/a");
        assert_eq!(Subject::flag(&args, "namespace").unwrap(), "moby");
        assert_eq!(Subject::flag(&args, "i"), None);
        assert_eq!(Subject::flag(&args[..2], "id"), None);
    }
}
