//! Who is at the other end of a network interface. A veth's ends are in two net namespaces; the kernel
//! tells the number that this one has for the other, and the number of each process's. Both being the same
//! is the proof: indexes are not, since most containers have an interface of the same one.

use std::collections::HashMap;
use std::rc::Rc;

use whose_fields::Needs;
use whose_kernel::links::Links;

use super::Index;
use crate::model::Owner;

/// All processes by the number of their net namespace, of one moment.
#[derive(Debug)]
pub struct FarEnds {
    links: Links,
    members: HashMap<u32, Vec<u32>>,
}

impl FarEnds {
    /// The containers at the other end of this interface of ours, in the order of their first processes;
    /// `peer` is the index that the other end must have. Nobody when it is no veth, or leads to no
    /// container.
    pub fn owners(
        &self,
        index: &mut Index<'_>,
        name: &[u8],
        peer: Option<u32>,
        needs: Needs,
    ) -> Vec<Rc<Owner>> {
        let mut owners: Vec<Rc<Owner>> = Vec::new();
        let Some(link) = self.links.link(name) else { return owners };
        let is_it =
            link.kind.as_deref() == Some(b"veth") && peer.is_none_or(|p| link.peer == Some(p));
        let Some(number) = link.namespace.filter(|_| is_it) else { return owners };
        let members = self.members.get(&number).map_or(&[][..], Vec::as_slice);
        let mut seen = Vec::new();
        for pid in members {
            if index.host().out_of_time() {
                break;
            }
            let Ok(Some(row)) = index.row(*pid, needs) else { continue };
            if let Some(owner) = row.owner().filter(|owner| owner.kind.contains())
                && !owners.iter().any(|known| known == owner)
            {
                seen.push(*pid);
                owners.push(Rc::clone(owner));
            }
        }
        // Who bears the PID now is who was read of, unless it was given again: then it must be there too.
        let still = self.links.namespaces(&seen).unwrap_or_default();
        let mut is_still = seen.iter().map(|pid| still.contains(&(*pid, number)));
        owners.retain(|_| is_still.next() == Some(true));
        owners
    }
}

impl Index<'_> {
    /// Looks at the net namespaces of all processes; `None` where the kernel can't be asked for them.
    #[must_use]
    pub fn far_ends(&self) -> Option<FarEnds> {
        let links = Links::of(self.host())?;
        let mut pids = self.host().pids().ok()?;
        pids.sort_unstable();
        let mut members: HashMap<u32, Vec<u32>> = HashMap::new();
        for (pid, number) in links.namespaces(&pids)? {
            members.entry(number).or_default().push(pid);
        }
        Some(FarEnds { links, members })
    }
}
