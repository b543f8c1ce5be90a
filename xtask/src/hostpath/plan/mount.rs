//! How an overlay is mounted: the old call's one string or the new call's options, escaped as
//! each wants it, with paths from the root or from where the caller stands.

use super::names::{below, join};
use super::{Draft, Space};

/// What to mount.
#[derive(Debug, Clone, Default)]
pub(super) struct Overlay {
    pub(super) lowers: Vec<Vec<u8>>,
    pub(super) data: Vec<Vec<u8>>,
    /// The upper and the work directory.
    pub(super) upper: Option<(Vec<u8>, Vec<u8>)>,
    pub(super) words: Vec<&'static str>,
    /// Paths below this are given without it.
    pub(super) from: Option<Vec<u8>>,
    /// Uses fsopen, fsconfig and fsmount.
    pub(super) new_calls: bool,
}

/// Mounts it at `point`.
pub(super) fn mount(draft: &mut Draft, overlay: &Overlay, point: &[u8]) {
    draft.at(&[b"mkdir", point]);
    if let Some(from) = &overlay.from {
        draft.inside(&[b"chdir", from]);
    }
    if overlay.new_calls {
        let mut words: Vec<Vec<u8>> =
            vec![b"mount-new".to_vec(), b"overlay".to_vec(), point.to_vec()];
        words.push(b"source=overlay".to_vec());
        words.extend(overlay.lowers.iter().map(|dir| [b"lowerdir+=", dir.as_slice()].concat()));
        words.extend(overlay.data.iter().map(|dir| [b"datadir+=", dir.as_slice()].concat()));
        if let Some((upper, work)) = &overlay.upper {
            // Unlike the layers', these are unescaped by the kernel in both calls.
            words.push([b"upperdir=", escaped(upper, b"\\").as_slice()].concat());
            words.push([b"workdir=", escaped(work, b"\\").as_slice()].concat());
        }
        words.extend(overlay.words.iter().map(|word| word.as_bytes().to_vec()));
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        draft.mount(&words, point);
    } else {
        let text = option_text(overlay);
        draft.mount(&[b"mount", b"overlay", point, b"overlay", b"", &text], point);
    }
    if overlay.from.is_some() {
        draft.inside(&[b"chdir", b"/"]);
    }
}

/// Mounts an overlay to be a layer of another one.
pub(super) fn nested(draft: &mut Draft, point: &[u8], lowers: &[Vec<u8>]) {
    let mut overlay = Overlay { lowers: lowers.to_vec(), ..Overlay::default() };
    if draft.plan.space == Space::User {
        overlay.words.push("userxattr");
    }
    if draft.rng.chance(50) {
        let dir = [point, b".up"].concat();
        let (upper, work) = (join(&dir, b"u"), join(&dir, b"w"));
        draft.at(&[b"mkdir", &upper]);
        draft.at(&[b"mkdir", &work]);
        overlay.upper = Some((upper, work));
    }
    mount(draft, &overlay, point);
}

fn option_text(overlay: &Overlay) -> Vec<u8> {
    let local = |path: &Vec<u8>| {
        let path = overlay.from.as_ref().and_then(|from| below(from, path)).unwrap_or(path);
        escaped(path, b"\\:,")
    };
    let lowers: Vec<Vec<u8>> = overlay.lowers.iter().map(local).collect();
    let mut text = [b"lowerdir=".as_slice(), &lowers.join(b":".as_slice())].concat();
    for dir in &overlay.data {
        text.extend_from_slice(b"::");
        text.extend(local(dir));
    }
    if let Some((upper, work)) = &overlay.upper {
        text.extend_from_slice(b",upperdir=");
        text.extend(local(upper));
        text.extend_from_slice(b",workdir=");
        text.extend(local(work));
    }
    for word in &overlay.words {
        text.push(b',');
        text.extend_from_slice(word.as_bytes());
    }
    text
}

fn escaped(path: &[u8], special: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(path.len());
    for byte in path {
        if special.contains(byte) {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text
}
