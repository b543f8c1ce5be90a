//! crun: `crun-<id>.scope` with systemd's driver (crun src/libcrun/cgroup-systemd.c); state in
//! `/run/crun/<id>/status`.

use super::bare::Bare;
use crate::state::oci;

/// crun.
pub(super) const CRUN: Bare = Bare { name: "crun", file: "status", parse: oci::crun, config: None };
