//! What the tests of `whose` share; never part of the product.
//!
//! - [`harness`] runs the built binary in a clean environment and tells the whole story when a
//!   run is not what was expected;
//! - [`bolt`] writes bbolt databases;
//! - [`fixture`] writes saved trees for `--root`;
//! - [`hostile`] starts small C programs that do to `/proc` what a hostile container can;
//! - [`docker`] starts a real dockerd in private roots and leaves nothing behind;
//! - [`containerd`] does so with a containerd, [`cri`] makes pods in it as the kubelet does;
//!   [`containerd_db`] starts one for what it writes to its databases;
//! - [`podman`], [`lxc`], [`lxd`], [`incus`] and [`nspawn`] do the same for those engines, [`users`] makes ordinary
//!   users with engines of their own;
//! - [`archive`] brings packages of Debian's, [`debian13`] the programs of that release;
//! - [`procfs`] reads the few facts tests compare with, independently of the product's readers;
//! - [`program`] copies programs to be run;
//! - [`cgroup`] makes, finds and removes cgroups;
//! - [`crowd`] makes thousands of processes, or storms of short-lived ones; [`janitor`] clears up after
//!   a test that was killed; [`daemon`] listens where an engine's daemon would;
//! - [`facts`] counts what was compared, so that a test can't pass by comparing nothing;
//! - [`cases`] runs many named cases against one engine and reports each;
//! - [`marker`] makes programs that tell which copy of their file runs;
//! - [`trace`] judges what `strace` saw.
//!
//! Tests that need something the machine may lack call [`require()`].
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test support: a panic with the whole story is its error report, stderr its log"
)]

pub mod archive;
pub mod bolt;
mod call;
pub mod cases;
pub mod cgroup;
pub mod containerd;
pub mod containerd_db;
pub mod cri;
pub mod crowd;
pub mod daemon;
pub mod debian13;
pub mod docker;
pub mod facts;
pub mod fixture;
pub mod harness;
pub mod hostile;
pub mod incus;
pub mod janitor;
pub mod lxc;
pub mod lxd;
pub mod machine;
mod machine_root;
pub mod marker;
pub mod nspawn;
pub mod podman;
pub mod podman_machine;
pub mod procfs;
pub mod program;
mod require;
pub mod sqlite;
pub mod trace;
pub mod users;

pub use require::{Needs, kernel, require, skip, which};
