//! Answers: one for each target, and the lists.

mod back;
mod binary;
mod capture;
mod container;
mod containers;
mod disk;
pub mod doctor;
mod held;
mod inside;
mod listing;
mod maps;
mod path;
mod pids;
mod pod;
mod process;
mod stored;
pub mod tree;
mod volume;

use std::rc::Rc;

use bstr::BString;
use whose_fields::Needs;

use crate::index::Index;
use crate::index::binds::Bound;
use crate::index::busy::Use;
use crate::index::sandboxes::Hidden;
use crate::model::{Evidence, Fact, File, Gap, Membership, Owner, OwnerKind, Row};
use crate::target::{Target, Typed};

pub use back::{Inside, inside};
pub use binary::{exe, exe_path};
pub use capture::{Captured, capture};
pub use containers::containers;
pub use disk::disk;
pub use doctor::doctor;
pub use inside::path_inside;
pub use listing::{list, list_each};
pub use maps::{Mapped, Maps, maps};
pub use path::Place;
pub use pids::{Pids, PidsOptions, pids};
pub use tree::tree;

/// Whether a target was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was.
    Found,
    /// It is not there.
    NotFound,
    /// It fits several.
    Ambiguous,
    /// Found, but what was asked for is incomplete; or it could not be looked for.
    Partial,
}

impl Status {
    /// The contract's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NotFound => "not-found",
            Self::Ambiguous => "ambiguous",
            Self::Partial => "partial",
        }
    }
}

/// A process that keeps a container running from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// PID.
    pub pid: u32,
    /// The kernel's name for it.
    pub comm: BString,
    /// containerd namespace it works in.
    pub namespace: Option<BString>,
}

/// The answer for one target.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The target as typed.
    pub target: BString,
    /// Its kind, the contract's word.
    pub kind: &'static str,
    /// Whether it was found.
    pub status: Status,
    /// The process it is or leads to.
    pub process: Option<Row>,
    /// The processes it leads to, when it leads to several.
    pub processes: Vec<Row>,
    /// Whose it is; unread: null. Of a container, the levels around it and itself.
    pub membership: Fact<Membership>,
    /// For a path or layer: what it is.
    pub file: Option<File>,
    /// The file that the process runs.
    pub binary: Option<File>,
    /// For a path that containers have bound: where in each.
    pub bound: Vec<Bound>,
    /// For a file system that is mounted: who uses it, and by what.
    pub uses: Vec<Use>,
    /// For a path or layer: where it was found.
    pub place: Option<Place>,
    /// For what can have several owners: all of them; empty when it is nobody's.
    pub owners: Option<Vec<Rc<Owner>>>,
    /// For an ambiguous target: targets that each resolve to exactly one, and a word on each.
    pub candidates: Vec<(BString, BString)>,
    /// Who keeps the container running.
    pub served_by: Option<Server>,
    /// The name of the container that the process, plumbing, works for.
    pub serves_name: Option<BString>,
    /// What keeps the container's own processes from the host's sight.
    pub hidden: Option<Hidden>,
    /// What an answer without one owner rests on.
    pub seen: Vec<Evidence>,
    /// What is missing.
    pub gaps: Vec<Gap>,
    /// One line for stderr when there is no answer.
    pub message: Option<String>,
}

impl Answer {
    fn new(typed: &Typed, kind: &'static str, status: Status) -> Self {
        Self {
            target: typed.text.clone(),
            kind,
            status,
            process: None,
            processes: Vec::new(),
            membership: Fact::Unasked,
            file: None,
            binary: None,
            place: None,
            bound: Vec::new(),
            uses: Vec::new(),
            seen: Vec::new(),
            owners: None,
            candidates: Vec::new(),
            served_by: None,
            serves_name: None,
            hidden: None,
            gaps: Vec::new(),
            message: None,
        }
    }

    /// The innermost owner.
    #[must_use]
    pub fn owner(&self) -> Option<&Rc<Owner>> {
        self.membership.known().and_then(Membership::owner)
    }

    /// All levels, outermost first.
    #[must_use]
    pub fn chain(&self) -> &[Rc<Owner>] {
        self.membership.known().map(|m| m.chain.as_slice()).unwrap_or_default()
    }

    /// What it rests on, strongest first.
    #[must_use]
    pub fn evidence(&self) -> &[Evidence] {
        self.membership.known().map_or(self.seen.as_slice(), |m| m.evidence.as_slice())
    }

    /// Every gap: of the answer, its process and its owners, each once.
    #[must_use]
    pub fn all_gaps(&self) -> Vec<&Gap> {
        let mut gaps: Vec<&Gap> = Vec::new();
        let rows = self.process.iter().chain(&self.processes).flat_map(Row::gaps);
        let own = Row::gaps_of(&self.membership);
        let file = self.file.iter().chain(&self.binary).flat_map(File::gaps);
        let owners = self.owners.iter().flatten().flat_map(|o| Row::gaps_of_owner(o));
        for gap in self.gaps.iter().chain(rows).chain(own).chain(file).chain(owners) {
            if !gaps.contains(&gap) {
                gaps.push(gap);
            }
        }
        gaps
    }

    /// The answer's part of the exit status, by the contract.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self.status {
            Status::Ambiguous => 4,
            Status::NotFound => 1,
            Status::Partial => 3,
            Status::Found if matches!(self.membership, Fact::Unread(_)) => 3,
            Status::Found => 0,
        }
    }

    /// The exit status of `--in-container`: 0 inside, 5 on the host, 3 when that is not known.
    #[must_use]
    pub fn in_container_exit(&self) -> u8 {
        if self.exit() != 0 {
            return self.exit();
        }
        // A job is neither: a scheduler's is on the host, a build step is not.
        let inside = |o: &Rc<Owner>| o.kind.contains() && o.kind != OwnerKind::Job;
        let several = self.owners.iter().flatten();
        match self.owner().map(|o| o.kind) {
            _ if self.chain().iter().chain(several).any(inside) => 0,
            _ if self.chain().iter().any(|o| o.kind == OwnerKind::Unknown) => 3,
            // All that a pod is are its containers.
            Some(OwnerKind::Pod) => 0,
            Some(OwnerKind::Unit | OwnerKind::Session | OwnerKind::Host) => 5,
            _ => 3,
        }
    }
}

impl Answer {
    /// The rows for the target: one; for what several share, one an owner.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        match &self.owners {
            Some(owners) if self.owner().is_none() => {
                let of = |owner: &Rc<Owner>| Membership {
                    chain: vec![Rc::clone(owner)],
                    evidence: Vec::new(),
                };
                let row = |owner| Row { membership: Fact::Known(of(owner)), ..Row::default() };
                owners.iter().map(row).collect()
            }
            _ => vec![self.row()],
        }
    }

    /// One row for the target: its process, or a container's first process, with the owner.
    fn row(&self) -> Row {
        if let Some(row) = &self.process {
            return row.clone();
        }
        let init = self.owner().and_then(|o| o.init_pid.known().copied());
        let first = self.processes.iter().find(|r| Some(r.process.pid) == init);
        let process = first.map(|r| r.process.clone()).unwrap_or_default();
        Row { process, membership: self.membership.clone() }
    }
}

/// How much of an answer is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Detail {
    /// What is read of each process.
    pub needs: Needs,
    /// Whether the container's processes are wanted, each with its facts.
    pub processes: bool,
    /// Whether the process that serves the container, or the name of the one served, is wanted.
    pub served_by: bool,
    /// Whether the file that a process runs is to be found and proven, and what of its layer.
    pub binary: Option<Layers>,
}

/// What is told of the layer that holds a binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layers {
    /// Nothing: the path is all.
    None,
    /// Its place among the process's own container's, and its images.
    Place,
    /// The containers that use it too: every container's files are read for that.
    Whole,
}

/// Answers for one target.
pub fn answer(index: &mut Index<'_>, typed: &Typed, detail: Detail) -> Answer {
    match &typed.target {
        Target::Pid(pid) => process::answer(index, typed, *pid, detail),
        Target::Container(name) => container::answer(index, typed, name, detail),
        Target::Pod(name) => pod::answer(index, typed, name, detail),
        Target::Path(path) => path::path(index, typed, path, detail),
        Target::Inside(inside) => inside::inside(index, typed, inside, detail),
        Target::Layer(name) => path::layer(index, typed, name, detail),
        Target::Volume(name) => volume::volume(index, typed, name, detail),
        Target::Inode(number) => held::inode(index, typed, *number, detail),
    }
}
