//! Docker's own files.

use std::fmt::Debug;

use whose_core::state::{docker, json};

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

pub(crate) fn json(bytes: &[u8]) {
    stable(bytes, json::parse::<Vec<Vec<String>>>);
}

/// What a parser makes of `bytes`: blanks around it change nothing, and a
/// refusal says why.
fn stable<T: Debug>(bytes: &[u8], parse: fn(&[u8]) -> Result<T, String>) -> Option<T> {
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
