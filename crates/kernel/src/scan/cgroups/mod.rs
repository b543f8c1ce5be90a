//! The cgroups of all processes by the directories of the hierarchies, instead of one file a process.
//!
//! It may stand for `/proc/PID/cgroup` only where a directory's path is what this program would read
//! there: on the running host, in the initial cgroup namespace, by mounts of whole hierarchies, each
//! hierarchy accounted for. Of a v1 hierarchy with only the root cgroup nothing has to be read. A
//! cgroup that was removed has no directory: whoever is still in it has to be read of.

mod layout;
mod memberships;
mod paths;
mod tree;
mod walk;

pub use memberships::Memberships;
pub use paths::{ById, by_id};
