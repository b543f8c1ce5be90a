//! What daemons answer, and the files that say where they are.

use std::fmt::Debug;

use whose_client::http::{self, Reader};
use whose_client::{docker, lxd, places, podman};

/// Longest body here.
const CAP: usize = 4096;

/// An answer is the same however it comes, and its body never longer than it may be.
pub(crate) fn http(bytes: &[u8]) {
    let whole = http::parse(bytes, CAP);
    let step = usize::from(bytes.first().copied().unwrap_or(0) % 7) + 1;
    let mut reader = Reader::new(CAP);
    let pieces = bytes.chunks(step).try_for_each(|piece| reader.take(piece).map(drop));
    let again = pieces.and_then(|()| reader.end());
    match (whole, again) {
        (Ok(whole), Ok(again)) => {
            assert_eq!(whole, again);
            assert!(whole.body.len() <= CAP && whole.status >= 100);
        }
        (Err(why), Err(_)) => assert!(!why.is_empty() && !why.contains('\n')),
        (whole, again) => assert_eq!(whole.is_ok(), again.is_ok(), "in pieces it is another"),
    }
}

/// The bodies of answers, and the files of docker's client.
pub(crate) fn bodies(bytes: &[u8]) {
    fn tried<T: Debug>(parsed: Result<T, String>) {
        if let Err(why) = parsed {
            assert!(!why.is_empty() && !why.contains('\n'));
        }
    }
    tried(docker::parse_list(bytes));
    tried(docker::parse_one(bytes));
    tried(podman::parse_list(bytes));
    tried(podman::parse_one(bytes));
    tried(lxd::parse_list(bytes));
    tried(places::parse_config(bytes));
    tried(places::parse_context(bytes));
    if let Some(path) = places::unix(bytes) {
        assert!(path.starts_with(b"/") && !path.contains(&0));
    }
}
