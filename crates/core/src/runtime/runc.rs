//! runc: `runc-<id>.scope` with systemd's driver (runc libcontainer/specconv/spec_linux.go); state in
//! `/run/runc/<id>/state.json`.

use super::bare::Bare;
use crate::state::oci;

/// runc.
pub(super) const RUNC: Bare =
    Bare { name: "runc", file: "state.json", parse: oci::runc, config: None };
