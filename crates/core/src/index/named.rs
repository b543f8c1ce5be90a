//! Processes in containers of which nothing but the name is read, where nothing else is asked.

use whose_kernel::scan::{Listed, Memberships, Names};

use super::Index;
use super::entry::Entry;
use super::users::CONMON;

impl<'h> Index<'h> {
    /// The names of those that the cgroups' text may put into a container. Nothing where whose a process
    /// is may rest on who is above it: on a monitor in a container.
    pub(super) fn names(&mut self, listed: &[Listed], all: &Memberships) -> Option<Names> {
        let host = self.host();
        let wanted = &mut |pid: u32| match all.likely(pid) {
            Some(lines) => self.names_a_container(pid, &lines),
            None => true,
        };
        Names::read(host, listed, wanted).filter(|names| !names.has(CONMON))
    }

    /// A process that needs no more than its name to be told of; `None` for all others. It was there from
    /// before the cgroups were walked until its name had been read.
    pub(super) fn named(
        &mut self,
        pid: u32,
        names: &Names,
        all: &Memberships,
    ) -> Option<Entry<'h>> {
        let named = names.of(pid)?;
        let lines = all.of_lasting(pid)?;
        // An engine tells where its containers' state is.
        let is_told = !self.may_be_an_engine(named.0) && self.is_told_by_text(pid, &lines);
        is_told.then(|| Entry::named(self.host(), pid, named, lines))
    }
}
