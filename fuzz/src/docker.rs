//! Docker's own files.

use std::fmt::Debug;

use bstr::{BStr, ByteSlice};
use whose_core::state::{docker, docker_layers, json};
use whose_core::storage;
use whose_core::storage::images::{self, Of};

pub(crate) fn config(bytes: &[u8]) {
    if let Some(config) = stable(bytes, docker::parse_config) {
        for text in [&config.created, &config.state.started_at] {
            time(text.as_bytes());
        }
    }
}

pub(crate) fn host_config(bytes: &[u8]) {
    stable(bytes, docker::parse_host_config);
}

pub(crate) fn daemon(bytes: &[u8]) {
    stable(bytes, docker::parse_daemon);
}

pub(crate) fn time(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    // The years a timestamp of four digits and a sign can say, in milliseconds.
    let limit = 10_000 * 366 * 86_400_000;
    if let Some(time) = docker::time(text) {
        assert!((-limit..limit).contains(&time));
    }
}

/// The files of layerdb and overlay2 that hold one value: what is accepted can be joined in a path.
pub(crate) fn layer(bytes: &[u8]) {
    let one = [docker_layers::parse_digest, docker_layers::parse_name, docker_layers::parse_link];
    let lower = docker_layers::parse_lower(bytes).unwrap_or_default();
    for name in one.iter().filter_map(|parse| parse(bytes).ok()).chain(lower) {
        assert!(!name.is_empty() && name.len() <= 255);
        assert!(!name.contains(&b'/') && !name.contains(&0) && name != "." && name != "..");
    }
}

pub(crate) fn image(bytes: &[u8]) {
    for diff in stable(bytes, docker_layers::parse_image).into_iter().flatten() {
        assert!(docker_layers::is_hex64(&diff));
    }
}

pub(crate) fn repositories(bytes: &[u8]) {
    for (id, names) in stable(bytes, docker_layers::parse_repositories).into_iter().flatten() {
        assert!(docker_layers::is_hex64(&id) && !names.is_empty());
    }
}

/// Any path as drivers read it: the parts are the path again.
pub(crate) fn store_path(bytes: &[u8]) {
    for (root, driver, place) in storage::readings(BStr::new(bytes)) {
        assert!(bytes.starts_with(root) && !root.is_empty());
        assert!(!place.name.is_empty() && !place.name.contains(&b'/'));
        assert!(place.name != "." && place.name != "..");
        if let Some(inside) = &place.inside {
            assert!(inside.starts_with(b"/") && bytes.ends_with(&inside[1..]));
        }
        let entry = storage::entry(place.store, place.name.as_ref());
        assert_eq!(driver.place(entry.as_ref()).map(|p| p.name), Some(place.name));
    }
    // What image stores make of it: what an item is looked up by lies beneath the data root, on the path's way.
    for (root, _, item) in images::readings(BStr::new(bytes)) {
        let whole = [root.as_bytes(), b"/", &item.rel].concat();
        assert!(!root.is_empty() && bytes.starts_with(&whole));
        assert!(matches!(bytes.get(whole.len()), None | Some(b'/')));
        if let Of::Image(name) | Of::Layer(name) = &item.of {
            assert!(!name.is_empty() && !name.contains(&b'/'));
        }
    }
}

pub(crate) fn json(bytes: &[u8]) {
    stable(bytes, json::parse::<Vec<Vec<String>>>);
}

/// What a parser makes of `bytes`: blanks around it change nothing, and a
/// refusal says why.
pub(crate) fn stable<T: Debug>(bytes: &[u8], parse: fn(&[u8]) -> Result<T, String>) -> Option<T> {
    match parse(bytes) {
        Ok(value) => {
            let padded = [b" \n", bytes, b"\n"].concat();
            let again = parse(&padded).map(|value| format!("{value:?}"));
            assert_eq!(again, Ok(format!("{value:?}")));
            Some(value)
        }
        Err(why) => {
            assert!(!why.is_empty() && !why.contains('\n'));
            None
        }
    }
}
