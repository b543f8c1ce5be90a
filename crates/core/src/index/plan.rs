//! What a command will read, decided once from its columns, sort keys and filters.

use bstr::BString;
use whose_fields::{FieldId, Needs, Record, Stage};

use crate::model::{OwnerKind, Row};

/// A condition on rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Effective user id is one of these.
    Uids(Vec<u32>),
    /// One level of the chain is this container (full id).
    Containers(Vec<BString>),
    /// The owner is a unit, session or the host.
    HostOnly,
    /// Some level of the chain is a container, sandbox, machine or app.
    ContainersOnly,
    /// Not a kernel thread.
    NoKernelThreads,
    /// One of these PIDs.
    Pids(Vec<u32>),
}

/// What a filter says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Keep it.
    Yes,
    /// Drop it.
    No,
    /// What it depends on could not be read.
    Undecided,
}

impl Filter {
    /// What must be read to decide.
    #[must_use]
    pub fn needs(&self) -> Needs {
        match self {
            Self::Uids(_) => Needs::STATUS,
            Self::Containers(_) | Self::HostOnly | Self::ContainersOnly => Needs::OWNER,
            Self::NoKernelThreads => Needs::STAT,
            Self::Pids(_) => Needs::NONE,
        }
    }

    /// Decides about a row of which [`Filter::needs`] was read.
    #[must_use]
    pub fn says(&self, row: &Row) -> Says {
        let from = |known: Option<bool>| match known {
            Some(true) => Says::Yes,
            Some(false) => Says::No,
            None => Says::Undecided,
        };
        let chain = row.membership.known().map(|m| &m.chain);
        match self {
            Self::Uids(uids) => from(row.process.uid().map(|uid| uids.contains(&uid))),
            Self::Containers(ids) => {
                from(chain.map(|c| c.iter().any(|o| o.kind.contains() && ids.contains(&o.id))))
            }
            Self::HostOnly => match row.owner().map(|o| o.kind) {
                // Something nobody knows is around it.
                Some(_)
                    if chain.is_some_and(|c| c.iter().any(|o| o.kind == OwnerKind::Unknown)) =>
                {
                    Says::Undecided
                }
                Some(OwnerKind::Unit | OwnerKind::Session | OwnerKind::Host) => Says::Yes,
                Some(OwnerKind::Unknown) | None => Says::Undecided,
                Some(_) => Says::No,
            },
            Self::ContainersOnly => match chain {
                Some(chain) if chain.iter().any(|o| o.kind.contains()) => Says::Yes,
                Some(chain) if chain.iter().any(|o| o.kind == OwnerKind::Unknown) => {
                    Says::Undecided
                }
                Some(_) if row.owner().is_some_and(|o| o.kind != OwnerKind::Unknown) => Says::No,
                _ => Says::Undecided,
            },
            Self::NoKernelThreads => match row.process.stat.known() {
                Some(stat) if stat.is_kernel_thread() => Says::No,
                _ => Says::Yes,
            },
            Self::Pids(pids) => from(Some(pids.contains(&row.process.pid))),
        }
    }
}

/// One sort key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// The field.
    pub field: FieldId,
    /// Largest first.
    pub descending: bool,
}

/// Columns, order and conditions of a list.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The columns, in order.
    pub columns: Vec<FieldId>,
    /// Sort keys, the first counts most. None: by PID.
    pub sort: Vec<SortKey>,
    /// Conditions; all must hold.
    pub filters: Vec<Filter>,
    /// What a row must have besides, for its identity or the subcommand.
    pub also: Needs,
}

impl Plan {
    /// Everything that will be read.
    #[must_use]
    pub fn needs(&self) -> Needs {
        self.asked(|_| true).and(Needs::STAT)
    }

    /// Whether of a process that is no kernel thread nothing is asked but its name, and whose it is.
    #[must_use]
    pub fn is_of_names(&self) -> bool {
        let asked = self.asked(|filter| *filter != Filter::NoKernelThreads);
        asked.has(Needs::COMM)
            && asked.without(Needs::COMM.and(Needs::OWNER).and(Needs::DESCRIBED)).is_empty()
    }

    /// What is needed for the columns, the order and those of the filters.
    fn asked(&self, of: impl Fn(&Filter) -> bool) -> Needs {
        let fields = self.columns.iter().copied().chain(self.sort.iter().map(|k| k.field));
        let needs = fields.fold(self.also, |n, f| n.and(f.field().needs));
        self.filters.iter().filter(|f| of(f)).fold(needs, |n, f| n.and(f.needs()))
    }

    /// What the filters that can be decided by the end of `stage`, and not before, say of a row.
    #[must_use]
    pub fn filter(&self, stage: Stage, row: &Row) -> Says {
        let mut said = Says::Yes;
        for filter in self.filters.iter().filter(|f| f.needs().stage() == stage) {
            match filter.says(row) {
                Says::No => return Says::No,
                Says::Undecided => said = Says::Undecided,
                Says::Yes => {}
            }
        }
        said
    }

    /// Sorts rows: by the keys, then by PID.
    pub fn order(&self, rows: &mut [Row]) {
        rows.sort_by_key(|r| r.process.pid);
        sort_records(rows, &self.sort);
    }
}

/// Sorts records by the keys; those alike keep their order.
pub fn sort_records(records: &mut [impl Record], keys: &[SortKey]) {
    records.sort_by(|a, b| {
        let mut order = std::cmp::Ordering::Equal;
        for key in keys {
            let (a, b) = (a.get(key.field), b.get(key.field));
            let next = a.order(&b);
            // What is missing stays last either way.
            let flip = key.descending && !a.is_missing() && !b.is_missing();
            order = order.then(if flip { next.reverse() } else { next });
        }
        order
    });
}
