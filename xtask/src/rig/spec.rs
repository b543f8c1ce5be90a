//! What is to stand, and how its processes are divided.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::cgroups::mounted;

/// One process of this many is outside containers.
const OUTSIDE: usize = 20;
/// Processes of a unit.
const UNIT: usize = 10;

/// Where the state files for names are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Names {
    /// There are none.
    None,
    /// In the rig's own directory.
    Private,
    /// In a directory that is made for them.
    At(PathBuf),
}

/// Which hierarchies the containers are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hierarchies {
    /// Cgroup v2 alone: what a host without v1 looks like, on one that has both.
    V2,
    /// Every one that is mounted, as engines do it.
    All,
}

impl Hierarchies {
    /// Why a rig can't be in these, or would be the same as in others.
    pub(crate) fn missing(self) -> Option<&'static str> {
        let number = |which| mounted(which).map_or(0, |all| all.len());
        match self {
            Self::V2 if number(Self::V2) == 0 => Some("no cgroup v2 is mounted"),
            Self::All if number(Self::All) == number(Self::V2) => Some("no cgroup v1 is mounted"),
            _ => None,
        }
    }

    /// For people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::V2 => "the v2 tree",
            Self::All => "every cgroup hierarchy",
        }
    }

    /// The one with this word.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        match name {
            "all" => Some(Self::All),
            "v2" => Some(Self::V2),
            _ => None,
        }
    }
}

/// A rig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) processes: usize,
    pub(crate) containers: usize,
    pub(crate) names: Names,
    pub(crate) hierarchies: Hierarchies,
}

/// How many processes are where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// A number a container.
    pub(super) containers: Vec<usize>,
    /// A number a systemd unit.
    pub(super) units: Vec<usize>,
    /// In the root cgroup.
    pub(super) root: usize,
}

impl Spec {
    /// Divides the processes.
    pub(super) fn shares(&self) -> Result<Shares> {
        let outside =
            if self.containers == 0 { self.processes } else { self.processes.div_ceil(OUTSIDE) };
        let inside = self.processes - outside;
        ensure!(
            inside >= self.containers,
            "{} processes are too few for {} containers",
            self.processes,
            self.containers
        );
        let in_units = outside / 2;
        Ok(Shares {
            containers: even(inside, self.containers),
            units: even(in_units, in_units.div_ceil(UNIT)),
            root: outside - in_units,
        })
    }
}

/// Divides a number into parts that differ by one at most.
fn even(number: usize, parts: usize) -> Vec<usize> {
    (0..parts).map(|part| number / parts + usize::from(part < number % parts)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Hierarchies, Names, Shares, Spec};

    fn shares(processes: usize, containers: usize) -> anyhow::Result<Shares> {
        let (names, hierarchies) = (Names::None, Hierarchies::All);
        Spec { processes, containers, names, hierarchies }.shares()
    }

    #[test]
    fn every_process_has_its_place() {
        for (processes, containers) in [(1, 0), (7, 3), (100, 5), (1000, 50), (10_000, 500)] {
            let shares = shares(processes, containers).unwrap();
            let all = shares.containers.iter().chain(&shares.units).sum::<usize>() + shares.root;
            assert_eq!((all, shares.containers.len()), (processes, containers));
            assert!(shares.containers.iter().chain(&shares.units).all(|share| *share > 0));
        }
    }

    #[test]
    fn one_in_twenty_is_outside() {
        let shares = shares(10_000, 500).unwrap();
        assert!(shares.containers.iter().all(|share| *share == 19));
        assert_eq!((shares.units, shares.root), (vec![10; 25], 250));
    }

    #[test]
    fn a_container_without_a_process_is_none() {
        let why = shares(10, 10).unwrap_err().to_string();
        assert_eq!(why, "10 processes are too few for 10 containers");
    }
}
