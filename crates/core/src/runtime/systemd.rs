//! systemd units and login sessions: the owners of the host's own processes.
//!
//! Unit names are the last path segments of cgroups that systemd makes (systemd.unit(5)); a session
//! is `session-ID.scope` (pam_systemd(8)).

use bstr::{BStr, ByteSlice};

use super::Runtime;
use super::claim::{Claim, Level, Proof, Subject, path_to};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Systemd;

/// The unit types that hold processes (systemd.exec(5)), and scopes.
const HOLD_PROCESSES: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// Units of one line that are kept, counted from the outermost and from the innermost.
const ENOUGH: usize = 8;

fn is_unit(segment: &BStr) -> bool {
    let stem = |t: &&str| segment.strip_suffix(t.as_bytes()).is_some_and(|stem| !stem.is_empty());
    HOLD_PROCESSES.iter().any(stem)
}

impl Runtime for Systemd {
    fn engine(&self) -> Engine {
        Engine::SYSTEMD
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let mut levels = Vec::new();
        for (line, text) in subject.lines.iter().enumerate() {
            let units: Vec<(usize, &BStr)> =
                text.segments().enumerate().filter(|(_, s)| is_unit(s)).collect();
            for (n, (at, segment)) in units.iter().enumerate() {
                // Whoever may make cgroups may nest as many as he likes.
                if n >= ENOUGH && n + ENOUGH < units.len() {
                    continue;
                }
                let session =
                    segment.starts_with_str("session-") && segment.ends_with_str(".scope");
                let kind = if session { OwnerKind::Session } else { OwnerKind::Unit };
                let mut owner = Owner::new(kind, Engine::SYSTEMD, path_to(text, at + 1));
                owner.name = Some((*segment).into());
                levels.push(Level { line, depth: at + 1, owner, proof: Proof::Text });
            }
        }
        levels.into()
    }
}
