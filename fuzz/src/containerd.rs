//! containerd's own files, and the paths they name.

use bstr::ByteSlice;
use whose_core::runtime::segment;
use whose_core::state::containerd::{bundle, config, cri};
use whose_core::state::spec as oci;

use crate::docker::stable;

pub(crate) fn spec(bytes: &[u8]) {
    stable(bytes, oci::mounts);
    if let Some(spec) = stable(bytes, bundle::parse_spec) {
        path(spec.cgroups_path());
    }
}

pub(crate) fn pid(bytes: &[u8]) {
    if let Ok(pid) = bundle::parse_pid(bytes) {
        assert!(pid > 0);
        assert_eq!(bundle::parse_pid(pid.to_string().as_bytes()), Ok(pid));
    }
}

pub(crate) fn status(bytes: &[u8]) {
    if let Some(status) = stable(bytes, cri::parse_status) {
        assert!(status.words().0.starts_with("CONTAINER_"));
        let time = cri::time(status.created_at);
        assert_eq!(time.is_some(), status.created_at != 0);
    }
}

pub(crate) fn config(bytes: &[u8]) {
    if let Err(why) = config::parse(bytes) {
        assert!(!why.is_empty() && !why.contains('\n'));
    }
}

/// What an engine asked for becomes paths that stay what they are, and are found below others.
pub(crate) fn path(bytes: &[u8]) {
    for own in segment::of_cgroups_path(bytes) {
        assert!(own.starts_with(b"/") && own.len() > 1);
        let below = [b"/outer", own.as_slice(), b"/inner"].concat();
        let down = segment::down_to(&below, &own).unwrap_or_default();
        assert!(down.ends_with(&own) && below.starts_with(down));
    }
    if let Some((tree, namespace, id)) = bundle::tree_of(bytes) {
        assert!(bundle::is_identifier(namespace) && bundle::is_identifier(id));
        let again = [tree, b"/", &bundle::file(namespace, id, "")].concat();
        assert_eq!(again.as_bstr(), bytes.as_bstr());
    }
}
