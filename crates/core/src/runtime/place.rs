//! A segment of a cgroup path with what stands around it, for names that mean something only in
//! their place, and claims made from such.

use bstr::BStr;
use whose_kernel::parse::cgroup::Line;

use super::claim::{Claim, Level, Mine, Proof, Serves};
use crate::model::{Owner, Role};

/// Segments that most paths have at most.
const FEW: usize = 16;

/// One segment in its place. What is not there reads as empty.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    /// The line.
    pub line: &'p Line,
    segments: &'p [&'p BStr],
    at: usize,
}

impl<'p> Place<'p> {
    /// The segment.
    #[must_use]
    pub fn text(&self) -> &'p [u8] {
        self.segment(Some(self.at))
    }

    /// The one before it.
    #[must_use]
    pub fn parent(&self) -> &'p [u8] {
        self.segment(self.at.checked_sub(1))
    }

    /// The one before that.
    #[must_use]
    pub fn grandparent(&self) -> &'p [u8] {
        self.segment(self.at.checked_sub(2))
    }

    /// The one after it.
    #[must_use]
    pub fn child(&self) -> &'p [u8] {
        self.segment(Some(self.at + 1))
    }

    /// Those before it, nearest first.
    pub fn above(&self) -> impl Iterator<Item = &'p [u8]> + use<'p> {
        self.segments.iter().take(self.at).rev().map(|s| s.as_ref())
    }

    fn segment(&self, at: Option<usize>) -> &'p [u8] {
        at.and_then(|at| self.segments.get(at)).map_or(b"", |s| s.as_ref())
    }
}

/// A process of a runtime's machinery, and whom it works for if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plumbing(pub Option<Serves>);

impl Plumbing {
    /// It works for the container with this id.
    #[must_use]
    pub fn of(id: &[u8]) -> Self {
        Self(Some(Serves::Id(id.into())))
    }
}

/// Calls `of` for every segment of every line; an owner it returns is proven by the text there.
pub fn levels(lines: &[Line], mut of: impl FnMut(Place<'_>) -> Option<Owner>) -> Vec<Level> {
    let mut levels = Vec::new();
    let mut segments: Vec<&BStr> = Vec::with_capacity(FEW);
    for (index, line) in lines.iter().enumerate() {
        segments.clear();
        segments.extend(line.segments());
        for at in 0..segments.len() {
            if let Some(owner) = of(Place { line, segments: &segments, at }) {
                levels.push(Level { line: index, depth: at + 1, owner, proof: Proof::Text });
            }
        }
    }
    levels
}

/// Calls `of` for the last segment of every line, until it says whose plumbing that is. Only the
/// last: monitors have cgroups of their own with nothing below them.
pub fn plumbing(
    lines: &[Line],
    mut of: impl FnMut(Place<'_>) -> Option<Plumbing>,
) -> Option<Plumbing> {
    lines.iter().find_map(|line| {
        let segments: Vec<&BStr> = line.segments().collect();
        let at = segments.len().checked_sub(1)?;
        of(Place { line, segments: &segments, at })
    })
}

/// A claim of levels, and of a part in the machinery.
#[must_use]
pub fn claim(levels: Vec<Level>, plumbing: Option<Plumbing>) -> Claim {
    match plumbing {
        None => levels.into(),
        Some(Plumbing(serves)) => Claim::Mine(Mine { levels, role: Some(Role::Plumbing), serves }),
    }
}

#[cfg(test)]
mod tests {
    use bstr::BString;
    use whose_kernel::parse::cgroup::parse;

    use super::{Plumbing, levels, plumbing};
    use crate::model::{Engine, Owner, OwnerKind};

    #[test]
    fn neighbours_end_at_the_line() {
        let lines = parse(b"2:a:/x/y/z\n1:b:/\n0::/w\n").unwrap();
        let mut seen: Vec<BString> = Vec::new();
        let found = levels(&lines, |p| {
            let around = [p.grandparent(), p.parent(), p.text(), p.child()];
            seen.push(bstr::join(b",", around).into());
            let owner = || Owner::new(OwnerKind::Container, Engine::UNKNOWN, p.text());
            (p.above().last() == Some(b"x")).then(owner)
        });
        assert_eq!(seen, [",,x,y", ",x,y,z", "x,y,z,", ",,w,"]);
        let at: Vec<(usize, usize)> = found.iter().map(|l| (l.line, l.depth)).collect();
        assert_eq!(at, [(0, 2), (0, 3)]);
        let last = plumbing(&lines, |p| (p.text() == b"w").then(|| Plumbing::of(b"w")));
        assert_eq!(last, Some(Plumbing::of(b"w")));
        assert_eq!(plumbing(&lines, |p| (p.text() == b"y").then_some(Plumbing(None))), None);
    }
}
