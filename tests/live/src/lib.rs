//! What the live tests share: the containers of [`lab`], and how answers are compared with
//! docker's own in [`compare`] and [`trace`]; [`judge`] judges the files that run, [`rows`] one way of
//! reading all processes by the other.
//!
//! They need root and what `ci/lib/install.sh` lists for the tier `live`: engines, `strace`,
//! `busybox-static`, a C compiler. They run the binary that `cargo build -p whose` left beside them
//! (or `WHOSE_BIN`).
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test support: a panic with the whole story is its error report, stderr its log"
)]

pub mod bundle;
pub mod compare;
pub mod disk;
pub mod inner;
pub mod instances;
pub mod judge;
pub mod lab;
pub mod node;
pub mod paths;
pub mod podman;
pub mod replay;
pub mod rows;
pub mod sleeper;
pub mod trace;
pub mod usage;

use serde_json::Value;
use std::sync::{Mutex, MutexGuard, PoisonError};
use whose_testkit::harness::Whose;

/// The built binary.
#[must_use]
pub fn whose() -> Whose {
    Whose::built()
}

/// One engine or trap at a time: they are heavy, and some stop every `ps` of the host.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name no other run of the tests on this machine has.
#[must_use]
pub fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// The first answer of `whose --json TARGET`, which must exit 0.
///
/// # Panics
/// When it does not.
#[must_use]
#[track_caller]
pub fn answer(target: &str) -> Value {
    let run = whose().args(["--json", target]).run().expect_code(0);
    run.json()["answers"][0].clone()
}

/// Says what was compared, in one line.
pub fn compared(what: &str, facts: usize) {
    eprintln!("        {what}: {facts} facts compared");
}

/// A JSON number as a PID.
#[must_use]
pub fn pid_of(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|n| u32::try_from(n).ok())
}
