//! Lower layers with random trees, and what an overlay of them shows.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{join, split};
use super::{Draft, Space};

/// What a layer has at a path.
#[derive(Debug, Clone)]
enum Entry {
    Dir { opaque: bool },
    File { mark: String, real: Vec<u8>, data_only: bool, linked: bool },
    Whiteout,
}

/// One lower directory.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) dir: Vec<u8>,
    /// The lowers of an overlay mounted at `dir`; then `dir` itself holds nothing.
    pub(super) inner: Vec<Vec<u8>>,
    entries: BTreeMap<Vec<u8>, Entry>,
}

/// A file that the overlay shows.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    /// Which layer has its data; `None` for a data-only layer.
    pub(super) layer: Option<usize>,
    /// The data's own path.
    pub(super) real: Vec<u8>,
    pub(super) mark: String,
    /// Whether a lower layer has another file at this path.
    pub(super) shadows: bool,
    /// Whether its layer has it under two names.
    pub(super) linked: bool,
}

/// Lower layers, topmost first, and the data-only ones below them.
#[derive(Debug, Default)]
pub(super) struct Lowers {
    pub(super) layers: Vec<Layer>,
    pub(super) data: Vec<Vec<u8>>,
}

/// Draws `count` layers and writes them.
pub(super) fn draw(draft: &mut Draft, count: usize, private: Option<&[u8]>) -> Lowers {
    let dirs = directories(draft);
    let paths: Vec<Vec<u8>> = (0..3 + draft.rng.below(5))
        .map(|number| {
            let name = draft.name(&format!("x{number}"));
            let dir = if draft.rng.chance(25) { None } else { draft.rng.pick(&dirs).cloned() };
            join(&dir.unwrap_or_default(), &name)
        })
        .collect();
    let one_disk = if draft.rng.chance(50) { Some(draft.disk()) } else { None };
    let mut lowers = Lowers::default();
    if draft.plan.space != Space::User && draft.rng.chance(10) {
        draft.note("data-only layer");
        let dir = join(&draft.home("ram"), b"data");
        draft.at(&[b"mkdir", &dir]);
        lowers.data.push(dir);
    }
    for number in 0..count {
        let base = match (private, &one_disk) {
            (Some(dir), _) if draft.rng.chance(50) => dir.to_vec(),
            (_, Some(disk)) => draft.home(disk),
            (_, None) => {
                let disk = draft.disk();
                draft.note("layers on any file system");
                draft.home(&disk)
            }
        };
        let name = draft.name(&format!("l{number}"));
        let mut layer =
            Layer { dir: join(&base, &name), inner: Vec::new(), entries: BTreeMap::new() };
        if draft.rng.chance(4) {
            nest(draft, &mut layer, &base, number);
        }
        fill(draft, &mut layer, &lowers.data, &dirs, &paths);
        if !layer.inner.is_empty() {
            super::mount::nested(draft, &layer.dir, &layer.inner);
        }
        lowers.layers.push(layer);
    }
    lowers
}

fn directories(draft: &mut Draft) -> Vec<Vec<u8>> {
    let mut dirs: Vec<Vec<u8>> = Vec::new();
    for number in 0..1 + draft.rng.below(4) {
        let name = draft.name(&format!("d{number}"));
        let above = if draft.rng.chance(40) { draft.rng.pick(&dirs).cloned() } else { None };
        dirs.push(join(&above.unwrap_or_default(), &name));
    }
    dirs
}

fn nest(draft: &mut Draft, layer: &mut Layer, base: &[u8], number: usize) {
    draft.note("overlay on overlay");
    for part in 0..2 + draft.rng.below(2) {
        let dir = join(base, format!("n{number}.{part}").as_bytes());
        draft.at(&[b"mkdir", &dir]);
        layer.inner.push(dir);
    }
}

fn fill(
    draft: &mut Draft,
    layer: &mut Layer,
    data: &[Vec<u8>],
    dirs: &[Vec<u8>],
    paths: &[Vec<u8>],
) {
    draft.at(&[b"mkdir", &layer.dir.clone()]);
    for dir in dirs {
        if draft.rng.chance(55) {
            directory(draft, layer, dir);
        }
    }
    for path in paths {
        match draft.rng.below(100) {
            0..45 => file(draft, layer, data, path),
            45..55 if layer.inner.is_empty() => whiteout(draft, layer, path),
            _ => {}
        }
    }
    for dir in dirs {
        if !layer.entries.contains_key(dir) && layer.inner.is_empty() && draft.rng.chance(6) {
            whiteout(draft, layer, dir);
        }
    }
}

/// Where a layer's path really is: in one of the inner layers when it is nested.
fn real(draft: &mut Draft, layer: &Layer, path: &[u8]) -> Vec<u8> {
    let dir = draft.rng.pick(&layer.inner).unwrap_or(&layer.dir);
    join(dir, path)
}

fn parents(layer: &mut Layer, path: &[u8]) -> bool {
    let (dir, _) = split(path);
    if dir.is_empty() {
        return true;
    }
    if !parents(layer, dir) {
        return false;
    }
    matches!(
        layer.entries.entry(dir.to_vec()).or_insert(Entry::Dir { opaque: false }),
        Entry::Dir { .. }
    )
}

fn directory(draft: &mut Draft, layer: &mut Layer, path: &[u8]) {
    if layer.entries.contains_key(path) || !parents(layer, path) {
        return;
    }
    let real = real(draft, layer, path);
    draft.at(&[b"mkdir", &real]);
    let opaque = layer.inner.is_empty() && draft.rng.chance(15);
    if opaque {
        draft.note("opaque directory");
        let key: &[u8] = match draft.plan.space {
            Space::User => b"user.overlay.opaque",
            Space::Host | Space::Private => b"trusted.overlay.opaque",
        };
        draft.at(&[b"xattr", &real, key, b"y"]);
    }
    layer.entries.insert(path.to_vec(), Entry::Dir { opaque });
}

fn file(draft: &mut Draft, layer: &mut Layer, data: &[Vec<u8>], path: &[u8]) {
    if layer.entries.contains_key(path) || !parents(layer, path) {
        return;
    }
    let mark = draft.mark();
    let mut real = real(draft, layer, path);
    let data_dir = data.first().filter(|_| layer.inner.is_empty() && draft.rng.chance(50));
    if let Some(data_dir) = data_dir {
        // A file of metadata alone, and its data under another name below all layers.
        let inside = format!("objs/{mark}");
        draft.at(&[b"hole", &real]);
        draft.at(&[b"xattr", &real, b"trusted.overlay.metacopy", b""]);
        let redirect = format!("/{inside}");
        draft.at(&[b"xattr", &real, b"trusted.overlay.redirect", redirect.as_bytes()]);
        real = join(data_dir, inside.as_bytes());
        draft.at(&[b"put", &real, mark.as_bytes()]);
        let entry = Entry::File { mark, real, data_only: true, linked: false };
        layer.entries.insert(path.to_vec(), entry);
        return;
    }
    draft.at(&[b"put", &real, mark.as_bytes()]);
    let linked = layer.inner.is_empty() && draft.rng.chance(15);
    if linked {
        let other = [path, b".too"].concat();
        let other_real = join(&layer.dir, &other);
        draft.at(&[b"link", &real, &other_real]);
        let entry = Entry::File { mark: mark.clone(), real: other_real, data_only: false, linked };
        layer.entries.insert(other, entry);
    }
    layer.entries.insert(path.to_vec(), Entry::File { mark, real, data_only: false, linked });
}

fn whiteout(draft: &mut Draft, layer: &mut Layer, path: &[u8]) {
    if layer.entries.contains_key(path) || !parents(layer, path) {
        return;
    }
    draft.note("whiteout");
    draft.at(&[b"whiteout", &join(&layer.dir, path)]);
    layer.entries.insert(path.to_vec(), Entry::Whiteout);
}

/// The files and directories that an overlay of these layers shows.
pub(super) fn shown(layers: &[Layer]) -> (BTreeMap<Vec<u8>, Shown>, BTreeSet<Vec<u8>>) {
    let mut files = BTreeMap::new();
    let mut dirs = BTreeSet::new();
    for path in layers.iter().flat_map(|layer| layer.entries.keys()) {
        match find(layers, path) {
            Some(Found::File(file)) => drop(files.insert(path.clone(), file)),
            Some(Found::Dir(_)) => drop(dirs.insert(path.clone())),
            None => {}
        }
    }
    (files, dirs)
}

enum Found {
    File(Shown),
    /// The layers that are merged in it.
    Dir(Vec<usize>),
}

fn find(layers: &[Layer], path: &[u8]) -> Option<Found> {
    let (above, _) = split(path);
    let merged = if above.is_empty() {
        (0..layers.len()).collect()
    } else {
        match find(layers, above)? {
            Found::Dir(merged) => merged,
            Found::File(_) => return None,
        }
    };
    let mut dirs = Vec::new();
    for (position, number) in merged.iter().enumerate() {
        match layers[*number].entries.get(path) {
            None => {}
            Some(Entry::Whiteout) => break,
            Some(Entry::Dir { opaque }) => {
                dirs.push(*number);
                if *opaque {
                    break;
                }
            }
            Some(Entry::File { .. }) if !dirs.is_empty() => break,
            Some(Entry::File { mark, real, data_only, linked }) => {
                let shadows = merged[position + 1..].iter().any(|below| {
                    matches!(layers[*below].entries.get(path), Some(Entry::File { .. }))
                });
                return Some(Found::File(Shown {
                    layer: (!data_only).then_some(*number),
                    real: real.clone(),
                    mark: mark.clone(),
                    shadows,
                    linked: *linked,
                }));
            }
        }
    }
    (!dirs.is_empty()).then_some(Found::Dir(dirs))
}
