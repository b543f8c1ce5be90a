//! CRI-O's own files, and the store it shares with other engines.

use std::fmt::Debug;

use whose_core::state::{containers_storage, crio, toml};

use crate::docker::stable;

pub(crate) fn spec(bytes: &[u8]) {
    if let Some(spec) = stable(bytes, crio::parse_spec)
        && let Some(labels) = spec.own("Labels")
    {
        text(labels.as_bytes());
    }
}

pub(crate) fn state(bytes: &[u8]) {
    if let Some(state) = stable(bytes, crio::parse_state) {
        let told = state.init_start_time.as_str();
        assert_eq!(state.start_ticks(), told.and_then(|t| t.parse().ok()));
    }
}

/// As [`stable`], though nothing may come before what may be a byte order mark.
fn toml_file<T: Debug>(bytes: &[u8], parse: fn(&[u8]) -> Result<T, String>) {
    match parse(bytes) {
        Ok(value) => {
            let again = parse(&[bytes, b"\n"].concat()).map(|value| format!("{value:?}"));
            assert_eq!(again, Ok(format!("{value:?}")));
        }
        Err(why) => assert!(!why.is_empty() && !why.contains('\n')),
    }
}

/// Texts in annotations and in the store's table: JSON in JSON.
pub(crate) fn text(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    if let Err(why) = crio::parse_labels(text) {
        assert!(!why.is_empty() && !why.contains('\n'));
    }
    if let Some(metadata) = crio::parse_metadata(text) {
        assert!(!metadata.pod_id.is_empty() && !metadata.pod_name.is_empty());
    }
}

pub(crate) fn config(bytes: &[u8]) {
    toml_file(bytes, crio::parse_config);
    toml_file(bytes, containers_storage::parse_config);
    if let Err(why) = toml::parse::<std::collections::BTreeMap<String, String>>(bytes) {
        assert!(!why.is_empty() && !why.contains('\n'));
    }
}

pub(crate) fn containers(bytes: &[u8]) {
    for container in stable(bytes, containers_storage::parse_containers).into_iter().flatten() {
        text(container.metadata.as_bytes());
    }
}

pub(crate) fn images(bytes: &[u8]) {
    stable(bytes, containers_storage::parse_images);
}

pub(crate) fn layers(bytes: &[u8]) {
    stable(bytes, containers_storage::parse_layers);
}
