//! Whose state has a say in what is in a cgroup.

use std::cell::OnceCell;

use bstr::BString;
use whose_kernel::read::cgroup_tree;
use whose_kernel::{Host, Mode};

use crate::runtime::StateRoot;

/// A cgroup, and whose state has a say in what is in it.
pub(in crate::index) struct Place<'p> {
    host: &'p Host,
    cgroup: &'p BString,
    /// Who made it, as the kernel has it: a user, or root. Looked at when a user's state is asked.
    maker: OnceCell<Option<BString>>,
}

impl<'p> Place<'p> {
    pub(in crate::index) fn new(host: &'p Host, cgroup: &'p BString) -> Self {
        Self { host, cgroup, maker: OnceCell::new() }
    }

    /// Whether the state may know what is there. Whoever has an engine of his own can give any container
    /// any name: that counts in cgroups of his alone. Where the cgroup is not known all have a say.
    pub(in crate::index) fn is_in_reach_of(&self, root: &StateRoot) -> bool {
        self.is_in_reach_of_user(root.users_own())
    }

    /// The same of a user's word; `None` stands for root's.
    pub(in crate::index) fn is_in_reach_of_user(&self, user: Option<&BString>) -> bool {
        let Some(user) = user else { return true };
        self.cgroup.is_empty()
            || self.maker.get_or_init(|| self.look()).as_ref().is_some_and(|maker| maker == user)
    }

    /// Whether it is a user's: he makes what he likes in it.
    pub(in crate::index) fn is_a_users(&self) -> bool {
        !self.cgroup.is_empty() && self.maker.get_or_init(|| self.look()).is_some()
    }

    fn look(&self) -> Option<BString> {
        let root = self.host.root();
        let uid = |dir: BString| match self.host.mode() {
            // A saved tree has the owners that its manifest tells, or none.
            Mode::Saved => root.has_dir(&dir).then(|| root.recorded_owner(&dir).unwrap_or(0)),
            _ => root.look(&dir).ok().map(|look| look.uid),
        };
        let hierarchies = cgroup_tree::hierarchies(self.host).unwrap_or_default();
        let dirs = hierarchies.iter().filter_map(|h| h.dir(self.cgroup));
        let uids: Vec<u32> = dirs.filter_map(uid).collect();
        // Of several hierarchies each must be his.
        let uid =
            uids.first().filter(|uid| **uid != 0 && uids.iter().all(|other| other == *uid))?;
        let name = self.host.user_name(*uid);
        Some(name.map_or_else(|| uid.to_string().into(), BString::from))
    }
}
