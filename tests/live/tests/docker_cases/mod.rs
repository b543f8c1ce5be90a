//! The cases of the docker suites.

pub(crate) mod lookups;
pub(crate) mod plumbing;
pub(crate) mod restore;
pub(crate) mod tables;
pub(crate) mod variants;
