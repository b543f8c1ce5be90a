//! containerd's own state, in its two trees: what is true while it runs (task bundles) and what lasts
//! (CRI's files, its metadata, and that of its snapshotters).
//!
//! The latter are bbolt databases, which containerd keeps locked; see [`super::bolt`]. Names of buckets
//! and keys are containerd's (core/metadata/buckets.go, core/snapshots/storage/bolt.go).

pub mod any;
pub mod bundle;
pub mod config;
pub mod cri;
pub mod cri_metadata;
pub mod gotime;
pub mod metadata;
pub mod snapshotter;
