//! stargz as a service with a root of its own, `/var/lib/containerd-stargz-grpc`, where no `meta.db` is
//! (stargz-snapshotter cmd/containerd-stargz-grpc/main.go).

use super::snapshotter::Snapshotter;

/// See the module.
pub(in crate::storage) const STARGZ_SERVICE: Snapshotter = Snapshotter {
    name: "stargz",
    dir: "snapshotter",
    stores: &["snapshotter/snapshots"],
    files: Some("fs"),
    stacks: true,
    hides: Some("a program serves the files of its layers"),
};
