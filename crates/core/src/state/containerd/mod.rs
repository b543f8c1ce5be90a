//! containerd's own state: its metadata, and that of its snapshotters.
//!
//! Both are bbolt databases, which containerd keeps locked; see [`super::bolt`]. Names of buckets and
//! keys are containerd's (core/metadata/buckets.go, core/snapshots/storage/bolt.go).

pub mod any;
pub mod cri_metadata;
pub mod gotime;
pub mod metadata;
pub mod snapshotter;
