//! A container with its processes: what `ls` is made of.

use std::borrow::Cow;
use std::rc::Rc;

use bstr::{BString, ByteSlice};
use whose_fields::{Cell, FieldId, Record};

use super::{Fact, Membership, Owner, Row};

/// A container, the levels around it, and its processes.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// Its first process, empty when it has none; the container is the innermost owner.
    pub row: Row,
    /// Its processes, those of containers nested in it included; ascending.
    pub pids: Vec<u32>,
    /// What its processes come to together, of the [`TOTALS`] that were read. Unread when it is unread
    /// of one of them: a part must not look like the whole.
    pub totals: Vec<(FieldId, Cell<'static>)>,
}

/// The fields of a process that a container has as the sum over its processes.
pub const TOTALS: [FieldId; 7] = [
    FieldId::Rss,
    FieldId::Threads,
    FieldId::CpuTime,
    FieldId::Pcpu,
    FieldId::IoRead,
    FieldId::IoWrite,
    FieldId::Fds,
];

impl Listed {
    /// A container of which no process is known.
    #[must_use]
    pub fn of_owner(owner: Rc<Owner>) -> Self {
        let membership = Membership { chain: vec![owner], evidence: Vec::new() };
        let row = Row { membership: Fact::Known(membership), ..Row::default() };
        Self { row, ..Self::default() }
    }

    /// Adds a process to it: its PID, and to the totals what was read of it.
    pub fn add(&mut self, process: &Row, totals: &[FieldId]) {
        self.pids.push(process.process.pid);
        for field in totals {
            let cell = process.get(*field);
            match self.totals.iter_mut().find(|(id, _)| id == field) {
                Some((_, total)) => *total = sum(total, &cell),
                None => self.totals.push((*field, sum(&Cell::Absent, &cell))),
            }
        }
    }

    fn total(&self, field: FieldId) -> Cell<'static> {
        match self.totals.iter().find(|(id, _)| *id == field).map(|(_, total)| total) {
            // Sums of ticks, which no float has exactly.
            Some(Cell::Float(n)) => Cell::Float((n * 1000.0).round() / 1000.0),
            Some(total) => total.clone(),
            None => Cell::Absent,
        }
    }

    /// The container.
    #[must_use]
    pub fn owner(&self) -> Option<&Rc<Owner>> {
        self.row.owner()
    }

    /// What it is called: its label after those of the containers around it, `outer/inner`.
    #[must_use]
    pub fn label(&self) -> BString {
        label(&self.row)
    }
}

/// What does not apply to a process adds nothing, what is unread makes the sum so.
fn sum(total: &Cell<'static>, more: &Cell<'_>) -> Cell<'static> {
    match (total, more) {
        (Cell::Unread(class), _) | (_, Cell::Unread(class)) => Cell::Unread(class),
        (Cell::Uint(a), Cell::Uint(b)) => Cell::Uint(a.saturating_add(*b)),
        (Cell::Float(a), Cell::Float(b)) => Cell::Float(a + b),
        (_, Cell::Uint(n)) => Cell::Uint(*n),
        (_, Cell::Float(n)) => Cell::Float(*n),
        (total, _) => total.clone(),
    }
}

/// The labels of all levels that contain, joined by slashes.
pub(super) fn label(row: &Row) -> BString {
    let chain = row.membership.known().map(|m| m.chain.as_slice()).unwrap_or_default();
    let labels = chain.iter().filter(|o| o.kind.contains()).map(|o| o.label());
    bstr::join(b"/", labels.map(|l| l.as_bytes().to_vec())).into()
}

impl Record for Listed {
    fn get(&self, field: FieldId) -> Cell<'_> {
        match field {
            FieldId::Chain => Cell::Bytes(Cow::Owned(self.label().into())),
            FieldId::Processes => Cell::Uint(self.pids.len() as u64),
            FieldId::Pids => {
                Cell::List(self.pids.iter().map(|p| Cell::Uint((*p).into())).collect())
            }
            field if TOTALS.contains(&field) => self.total(field),
            FieldId::Up => self.row.get(FieldId::Elapsed),
            field => self.row.get(field),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use whose_fields::{Cell, FieldId, Record};

    use whose_kernel::parse::stat;

    use super::Listed;
    use crate::model::gap::{Class, ReadError};
    use crate::model::{Engine, Fact, Gap, Membership, Owner, OwnerKind, Process, Row};

    #[test]
    fn the_containers_around_it_come_first() {
        let named = |kind, name: &str| {
            let mut owner = Owner::new(kind, Engine("docker"), name);
            owner.name = Some(name.into());
            Rc::new(owner)
        };
        let chain = vec![
            named(OwnerKind::Unit, "a.service"),
            named(OwnerKind::Container, "outer"),
            named(OwnerKind::Container, "inner"),
        ];
        let membership = Fact::Known(Membership { chain, evidence: Vec::new() });
        let listed = Listed {
            row: Row { membership, ..Row::default() },
            pids: vec![7, 9],
            ..Listed::default()
        };
        assert_eq!(listed.get(FieldId::Chain), Cell::text("outer/inner"));
        assert_eq!(listed.get(FieldId::Processes), Cell::Uint(2));
        assert_eq!(listed.get(FieldId::Up), Cell::Absent);
        assert_eq!(listed.get(FieldId::Pid), Cell::Absent);
    }

    #[test]
    fn a_total_is_of_all_or_unread() {
        let process = |pid: u32, ticks: u64, fds: Fact<u64>| {
            let line = format!("{pid} (x) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 3 0 5 1 1 1");
            let stat = Fact::Known(stat::parse(line.as_bytes()).unwrap());
            Row {
                process: Process { pid, stat, fds, hz: 100, ..Process::default() },
                ..Row::default()
            }
        };
        let asked = [FieldId::CpuTime, FieldId::Threads, FieldId::Fds, FieldId::Rss];
        let mut listed = Listed::default();
        for (pid, ticks) in [(7, 10), (8, 20)] {
            listed.add(&process(pid, ticks, Fact::Known(4)), &asked);
        }
        listed.add(&process(9, 0, Fact::Absent), &asked);
        assert_eq!(listed.pids, [7, 8, 9]);
        assert_eq!(listed.get(FieldId::CpuTime), Cell::Float(0.3));
        assert_eq!(listed.get(FieldId::Threads), Cell::Uint(9));
        assert_eq!(listed.get(FieldId::Fds), Cell::Uint(8));
        assert_eq!(listed.get(FieldId::Rss), Cell::Absent);
        assert_eq!(listed.get(FieldId::IoRead), Cell::Absent);
        let error = ReadError::new("/proc/10/fd", Class::Forbidden, "permission denied");
        let gap = Gap::from_read("open descriptors", &error);
        listed.add(&process(10, 0, Fact::Unread(gap)), &asked);
        listed.add(&process(11, 0, Fact::Known(1)), &asked);
        assert_eq!(listed.get(FieldId::Fds), Cell::Unread("forbidden"));
        assert_eq!(listed.get(FieldId::Threads), Cell::Uint(15));
    }
}
