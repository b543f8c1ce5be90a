//! What Podman keeps in its database, and in the table of the store; Buildah's file beside that.

use whose_core::state::{buildah, podman};

pub(crate) fn podman(bytes: &[u8]) {
    if let Ok(config) = podman::parse_config(bytes) {
        assert!(config.id.len() + config.name.len() <= bytes.len());
    }
    drop(podman::parse_state(bytes));
    drop(podman::parse_conf(bytes));
    drop(buildah::parse(bytes));
    drop(podman::parse_pod(bytes));
    if let Some(metadata) = std::str::from_utf8(bytes).ok().and_then(podman::parse_metadata) {
        assert!(!metadata.name.is_empty() && metadata.pod_id.is_empty());
    }
}
