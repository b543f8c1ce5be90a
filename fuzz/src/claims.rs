//! Everything that is made of a text before anything is read: the runtimes' claims of a cgroup file,
//! their arbitration, and targets.

use bstr::BStr;
use whose_core::index::arbitrate::{Confirmed, arbitrate};
use whose_core::model::OwnerKind;
use whose_core::runtime::{Claim, Mine, REGISTRY, Subject};
use whose_core::target;
use whose_kernel::parse::cgroup::{Line, parse};

/// Claims of root's process with any name and no arguments, whatever its cgroup file says.
pub(crate) fn claims(bytes: &[u8]) {
    let Ok(lines) = parse(bytes) else {
        return;
    };
    for comm in [&b""[..], b"containerd-shim", b"conmon", b"runc:[2:INIT]"] {
        check(&lines, comm);
    }
}

fn check(lines: &[Line], comm: &[u8]) {
    let subject =
        Subject { lines, comm: BStr::new(comm), args: Some(&[]), uid: Some(0), nspid: None };
    let mut all: Vec<Mine> = Vec::new();
    for runtime in REGISTRY {
        let claim = runtime.claim(&subject);
        let asks = matches!(claim, Claim::Need(_));
        assert!(!asks, "{} asks again for what it was given", runtime.engine().0);
        if let Claim::Mine(mine) = claim {
            all.push(mine);
        }
    }
    for level in all.iter().flat_map(|m| &m.levels) {
        assert!(level.depth >= 1 && level.depth <= lines[level.line].segments().count());
        assert!(!level.owner.id.is_empty());
    }
    for answer in [Confirmed::Yes, Confirmed::No] {
        let verdict = arbitrate(lines, &all, &mut |_| answer.clone());
        assert_eq!(verdict.line.is_none(), verdict.chain.is_empty());
        // A pod owns nothing by itself, and no container is its own neighbour.
        assert!(verdict.owner().is_none_or(|o| o.kind != OwnerKind::Pod));
        for pair in verdict.chain.windows(2) {
            assert!(pair[0].kind == OwnerKind::Pod || pair[0] != pair[1]);
        }
        for owner in &verdict.chain {
            assert!(!owner.label().is_empty());
        }
    }
}

/// Any text as a target.
pub(crate) fn targets(bytes: &[u8]) {
    if let Ok(typed) = target::parse(BStr::new(bytes)) {
        assert_eq!(typed.text, bytes);
    }
}
