//! Reading: one process, and the cgroup tree.

pub mod cgroup_tree;
pub mod deleted;
pub mod process;
mod thread;
