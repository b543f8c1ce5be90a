//! youki: `youki-<id>.scope` with systemd's driver (youki crates/libcgroups/src/systemd/manager.rs), with
//! cgroupfs `:youki:<id>` taken literally (crates/libcontainer/src/utils.rs); state in
//! `/run/youki/<id>/state.json`, the cgroup in `youki_config.json` beside it.

use super::bare::Bare;
use crate::state::oci;

/// youki.
pub(super) const YOUKI: Bare = Bare {
    name: "youki",
    file: "state.json",
    parse: oci::youki,
    config: Some(("youki_config.json", oci::youki_cgroup)),
};
