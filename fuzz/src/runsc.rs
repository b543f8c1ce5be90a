//! What runsc keeps of a container.

use whose_core::state::runsc;

use crate::docker::stable;

pub(crate) fn state(bytes: &[u8]) {
    stable(bytes, runsc::parse_state);
    for id in [&b"ab"[..], b"", bytes] {
        let is_it = runsc::is_state_of(bytes, id);
        assert!(!is_it || (bytes.starts_with(id) && bytes.len() > id.len()));
    }
}
