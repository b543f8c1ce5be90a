//! The only unsafe code of the project: one primitive a file, each with its reason.

pub mod bpf;
pub mod constant;
pub mod entry;
pub mod fork;
pub mod handle;
pub mod mounts;
pub mod page;
