//! What a capture tells of itself, and what it leaves out.

use whose_core::state::{facts, manifest, redact};

pub(crate) fn manifest(bytes: &[u8]) {
    if let Ok((entries, _)) = manifest::parse(bytes) {
        let lines: Vec<_> = entries.iter().map(|(p, e)| (p.clone(), e.clone())).collect();
        let again = manifest::document(&manifest::About::default(), &lines).to_string();
        assert_eq!(manifest::parse(again.as_bytes()).map(|(e, _)| e), Ok(entries));
    }
}

pub(crate) fn facts(bytes: &[u8]) {
    if let Ok(facts) = facts::parse(bytes) {
        assert!(facts.clocks.ticks_per_second > 0);
        assert!(facts.binaries.values().all(|file| file.recorded));
    }
}

/// What was taken out stays out, and what is left is as sound as it was.
pub(crate) fn redact(bytes: &[u8]) {
    let Some(once) = redact::environment(bytes) else { return };
    let twice = redact::environment(&once);
    assert_eq!(twice.as_deref().unwrap_or(&once), once.as_slice());
    let sound = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).is_ok();
    assert!(!sound(bytes) || sound(&once));
}
