//! One libFuzzer binary for all targets; `WHOSE_FUZZ_TARGET` names the one to run.

#![no_main]
#![allow(clippy::print_stderr, reason = "it has nobody else to tell")]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use whose_fuzz::Target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

/// Finds the target before the first input.
fn choose() {
    let name = std::env::var("WHOSE_FUZZ_TARGET").unwrap_or_default();
    match whose_fuzz::target(&name) {
        Some(target) => {
            TARGET.get_or_init(|| target);
        }
        None => {
            eprintln!("WHOSE_FUZZ_TARGET names no target: {name:?}");
            std::process::exit(2);
        }
    }
}

fuzz_target!(init: choose(), |bytes: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(bytes);
    }
});
