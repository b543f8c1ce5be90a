//! A container with its processes: what `ls` is made of.

use std::borrow::Cow;
use std::rc::Rc;

use bstr::{BString, ByteSlice};
use whose_fields::{Cell, FieldId, Record};

use super::{Owner, Row};

/// A container, the levels around it, and its processes.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// Its first process, empty when it has none; the container is the innermost owner.
    pub row: Row,
    /// Its processes, those of containers nested in it included; ascending.
    pub pids: Vec<u32>,
}

impl Listed {
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
            FieldId::Up => self.row.get(FieldId::Elapsed),
            field => self.row.get(field),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use whose_fields::{Cell, FieldId, Record};

    use super::Listed;
    use crate::model::{Engine, Fact, Membership, Owner, OwnerKind, Row};

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
        let listed = Listed { row: Row { membership, ..Row::default() }, pids: vec![7, 9] };
        assert_eq!(listed.get(FieldId::Chain), Cell::text("outer/inner"));
        assert_eq!(listed.get(FieldId::Processes), Cell::Uint(2));
        assert_eq!(listed.get(FieldId::Up), Cell::Absent);
        assert_eq!(listed.get(FieldId::Pid), Cell::Absent);
    }
}
