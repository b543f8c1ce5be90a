//! OpenVZ's configuration files.

use whose_core::state::openvz;

/// Nothing is told that was not in the file.
pub(crate) fn config(bytes: &[u8]) {
    let config = openvz::parse(bytes);
    for text in [config.name, config.template].into_iter().flatten() {
        assert!(!text.is_empty() && !text.contains(&b'\n') && text.len() <= bytes.len());
    }
}
