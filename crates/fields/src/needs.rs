//! What must be read before a field can be shown.

/// A set of reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Needs(u32);

impl Needs {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// `stat`.
    pub const STAT: Self = Self(1);
    /// `status`.
    pub const STATUS: Self = Self(1 << 1);
    /// `cmdline`, which can block.
    pub const CMDLINE: Self = Self(1 << 2);
    /// `wchan`.
    pub const WCHAN: Self = Self(1 << 3);
    /// `io`.
    pub const IO: Self = Self(1 << 4);
    /// The PID namespace link.
    pub const PIDNS: Self = Self(1 << 5);
    /// `uid_map`.
    pub const IDMAP: Self = Self(1 << 6);
    /// Membership: `cgroup` and whatever the runtimes ask for to claim.
    pub const OWNER: Self = Self(1 << 7);
    /// The owner's description, from its runtime's state.
    pub const DESCRIPTION: Self = Self(1 << 8);
    /// The owner's live state: frozen or not, its init process.
    pub const LIVENESS: Self = Self(1 << 9);
    /// `exe` and `cwd` link texts.
    pub const LINKS: Self = Self(1 << 10);
    /// The number of open descriptors.
    pub const FDS: Self = Self(1 << 11);
    /// What the process is to its owner, and whom it serves.
    pub const ROLE: Self = Self(1 << 12);
    /// What membership rests on.
    pub const EVIDENCE: Self = Self(1 << 13);
    /// CPU time; part of `stat`, but of the task iterator a pass of its own.
    pub const CPU: Self = Self(1 << 14);
    /// Resident memory; part of `status`, but the task iterator has to sum it up.
    pub const RSS: Self = Self(1 << 15);

    /// The owner's image: some engines have it only in their database.
    pub const IMAGE: Self = Self(1 << 16);
    /// What else of the owner some engines have only there: labels, the image's id, when it was made.
    pub const RECORD: Self = Self(1 << 17);
    /// The kernel's name for it: `comm`, or part of `stat`.
    pub const COMM: Self = Self(1 << 18);
    /// All of a description.
    pub const DESCRIBED: Self = Self::DESCRIPTION.and(Self::IMAGE).and(Self::RECORD);

    /// Everything.
    pub const ALL: Self = Self(u32::MAX);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are in the set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those that are in the set and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those that are in both sets.
    #[must_use]
    pub const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether nothing is needed.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The last stage that loads any of these.
    #[must_use]
    pub const fn stage(self) -> Stage {
        if !self.only(Self::DESCRIBED.and(Self::LIVENESS)).is_empty() {
            Stage::Description
        } else if self.has(Self::OWNER) {
            Stage::Owner
        } else {
            Stage::Scan
        }
    }
}

/// The stages of a plan, in order: rows that a filter drops at one are not read for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Facts of the process itself.
    Scan,
    /// Whose it is.
    Owner,
    /// What the owner's runtime says of it.
    Description,
}

#[cfg(test)]
mod tests {
    use super::{Needs, Stage};

    #[test]
    fn sets_and_stages() {
        assert!(Needs::DESCRIBED.has(Needs::IMAGE) && Needs::ALL.only(Needs::IO) == Needs::IO);
        let needs = Needs::STAT.and(Needs::STATUS);
        assert!(needs.has(Needs::STAT) && !needs.has(Needs::OWNER));
        assert_eq!(needs.stage(), Stage::Scan);
        assert_eq!(needs.and(Needs::OWNER).stage(), Stage::Owner);
        assert_eq!(Needs::LIVENESS.stage(), Stage::Description);
        assert!(needs.without(needs).is_empty() && Needs::NONE.is_empty());
        assert!(Needs::ALL.has(Needs::LINKS) && Needs::ALL.without(Needs::LINKS) != Needs::ALL);
    }
}
