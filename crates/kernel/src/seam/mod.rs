//! The only unsafe code of the project: one primitive a file, each with its reason.

pub mod fork;
