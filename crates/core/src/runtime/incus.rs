//! Incus: as LXD, with a name and a directory of its own (incus internal/util/paths.go).

use super::lxd::Lxd;
use super::service;
use crate::model::Engine;

/// Incus.
pub(super) const INCUS: Lxd = Lxd {
    engine: Engine("incus"),
    comm: "incusd",
    places: &["/var/lib/incus"],
    variable: "INCUS_DIR",
    units: &["incus"],
    services: &[service::INCUS],
};
