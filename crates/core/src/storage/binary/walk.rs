//! Looking a path up in an overlay's layers, by the overlay's rules
//! (Documentation/filesystems/overlayfs.rst).

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::Host;
use whose_kernel::object::Object;
use whose_kernel::worker::exam::Way;

use super::stack::{Dir, Stack, Union};

/// How the names of aufs's whiteouts begin (Documentation of aufs, `design/01intro.txt`), as those of fuse-overlayfs do.
const WHITEOUT: &[u8] = b".wh.";
/// What it puts in a directory that shows nothing of those below.
const OPAQUE: &str = ".wh..wh..opq";
/// The attribute for that, by whoever may write which.
const OPAQUES: [&str; 3] =
    ["trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque"];

/// Which directory of the stack a file was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    Upper,
    Lower,
    Data,
}

/// A regular file in a layer.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) object: Object,
    pub(super) place: Where,
    /// Whether its content lies in a layer further down.
    pub(super) metadata_only: bool,
}

/// What a directory or file in a layer says of the layers below.
#[derive(Debug, Default)]
struct Marks {
    opaque: bool,
    metacopy: bool,
    redirect: Option<BString>,
}

/// A merged directory: in which layers it is, top first; the upper one is 0.
type Merged<'s> = Vec<(usize, Step<'s>)>;

enum Step<'s> {
    Layer(&'s Dir),
    Below(Object),
}

impl Step<'_> {
    fn object(&self) -> &Object {
        match self {
            Self::Layer(dir) => &dir.object,
            Self::Below(object) => object,
        }
    }
}

/// Every regular file that the layers have at an overlay's path, top first: not only the one that
/// the overlay shows, since a process may run one that is hidden by now.
pub(super) fn walk(host: &Host, stack: &Stack<'_>, path: &BStr) -> Vec<Found> {
    let walker = Walker { hidden_too: true, ..Walker::new(host, stack) };
    let mut merged: Merged<'_> = walker
        .layers
        .iter()
        .enumerate()
        .filter_map(|(at, dir)| dir.map(|dir| (at, Step::Layer(dir))))
        .collect();
    let names: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|n| !n.is_empty()).collect();
    let Some((last, parents)) = names.split_last() else { return Vec::new() };
    for name in parents {
        merged = walker.enter(&merged, BStr::new(name));
        if merged.is_empty() || host.out_of_time() {
            return Vec::new();
        }
    }
    let dirs = merged.iter().map(|(at, step)| (*at, step.object())).collect();
    walker.files((*last).into(), dirs)
}

/// What an overlay shows at its path: one thing, or a directory's parts in the layers that have it, top
/// first.
pub(super) fn shown(host: &Host, stack: &Stack<'_>, path: &BStr) -> Vec<Object> {
    let walker = Walker::new(host, stack);
    let layers = walker.layers.iter().enumerate();
    let mut merged: Merged<'_> =
        layers.filter_map(|(at, dir)| dir.map(|dir| (at, Step::Layer(dir)))).collect();
    let names: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|n| !n.is_empty()).collect();
    let Some((last, parents)) = names.split_last() else {
        let roots = walker.roots(0).into_iter();
        return roots.filter_map(|(_, dir)| dir.again().ok()).collect();
    };
    for name in parents {
        merged = walker.enter(&merged, BStr::new(name));
        if merged.is_empty() || host.out_of_time() {
            return Vec::new();
        }
    }
    let dirs = merged.iter().map(|(at, step)| (*at, step.object())).collect();
    let mut found: Vec<Object> = Vec::new();
    walker.each((*last).into(), dirs, &mut |_, object, marks| {
        let Ok(look) = object.look() else { return false };
        let is_dir = look.is_dir();
        if !look.is_whiteout() && (is_dir || found.is_empty()) {
            found.push(object);
        }
        is_dir && !marks.opaque
    });
    found
}

/// The same from a layer downwards, for the path that this layer itself has: what leads from a file
/// of metadata alone to its content.
pub(super) fn walk_from(host: &Host, stack: &Stack<'_>, layer: usize, path: &BStr) -> Vec<Found> {
    let walker = Walker::new(host, stack);
    let roots = walker.roots(layer);
    walker.files([b"/", path.trim_start_with(|c| c == '/').as_bytes()].concat().into(), roots)
}

/// The content of a file of metadata alone whose layer was not found again: an absolute redirect
/// leads there all the same.
pub(super) fn content_of(host: &Host, stack: &Stack<'_>, metadata: &Object) -> Vec<Found> {
    let walker = Walker::new(host, stack);
    let Some(path) = walker.marks(metadata).redirect.filter(|r| r.starts_with(b"/")) else {
        return Vec::new();
    };
    let mut found = walker.data(path.as_ref());
    found.extend(walker.files(path, walker.roots(0)));
    found
}

struct Walker<'w, 's> {
    host: &'w Host,
    stack: &'w Stack<'s>,
    /// The upper directory, if any, then the lowers.
    layers: Vec<Option<&'w Dir>>,
    /// Whether a last name that a mark of its own hides is looked for further down all the same.
    hidden_too: bool,
}

impl<'w, 's> Walker<'w, 's> {
    fn new(host: &'w Host, stack: &'w Stack<'s>) -> Self {
        let lowers = stack.lowers().iter().map(Option::as_ref);
        let layers = std::iter::once(stack.upper()).chain(lowers).collect();
        Self { host, stack, layers, hidden_too: false }
    }

    /// The roots of a layer and those below.
    fn roots(&self, from: usize) -> Vec<(usize, &Object)> {
        let layers = self.layers.iter().enumerate().skip(from);
        layers.filter_map(|(at, dir)| dir.map(|dir| (at, &dir.object))).collect()
    }

    /// The merged directory `name` of a merged directory.
    fn enter(&self, merged: &Merged<'w>, name: &BStr) -> Merged<'w> {
        let mut inner: Merged<'w> = Vec::new();
        let dirs = merged.iter().map(|(at, step)| (*at, step.object())).collect();
        self.each(name.into(), dirs, &mut |at, object, marks| {
            if object.look().is_ok_and(|l| l.is_dir()) {
                inner.push((at, Step::Below(object)));
                !marks.opaque
            } else {
                false // a whiteout, a file, a link: nothing below shows
            }
        });
        inner
    }

    /// The regular files of this name, and the content of those that are metadata alone.
    fn files(&self, name: BString, dirs: Vec<(usize, &Object)>) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let mut content: Vec<BString> = Vec::new();
        self.each(name, dirs, &mut |at, object, marks| {
            let Ok(look) = object.look() else { return false };
            if !look.is_file() || (look.size == 0 && self.is_whiteout_file(&object)) {
                // A whiteout hides the name now; what was started before still runs.
                return look.is_whiteout() || look.is_file();
            }
            if marks.metacopy {
                content.extend(marks.redirect.clone().filter(|r| r.starts_with(b"/")));
            }
            let place = if at == 0 { Where::Upper } else { Where::Lower };
            found.push(Found { object, place, metadata_only: marks.metacopy });
            true
        });
        for path in content {
            found.extend(self.data(path.as_ref()));
        }
        found
    }

    /// A file in the data-only layers.
    fn data(&self, path: &BStr) -> Vec<Found> {
        let open = |dir: &Dir| {
            if self.host.out_of_time() {
                return None;
            }
            let object = self.host.lookup(&dir.object, path, Way::Plain).ok()?;
            object.look().ok().filter(whose_kernel::object::Look::is_file)?;
            Some(Found { object, place: Where::Data, metadata_only: false })
        };
        self.stack.data().iter().flatten().filter_map(open).collect()
    }

    /// Goes through the layers with the name that each knows the entry by, as `ovl_lookup` does.
    /// `each` says whether to go on below; an absolute redirect does anyway.
    fn each<'a>(
        &'a self,
        mut name: BString,
        mut dirs: Vec<(usize, &'a Object)>,
        each: &mut dyn FnMut(usize, Object, &Marks) -> bool,
    ) {
        // From the roots of the layers, or from the directories that are merged here.
        let mut from_roots = name.starts_with(b"/");
        dirs.reverse();
        while let Some((at, dir)) = dirs.pop() {
            if self.host.out_of_time() {
                return;
            }
            let mut entry = Entry { name, stop: false };
            let found = self.in_layer(dir, &mut entry);
            name = entry.name;
            let go_on = found.is_none_or(|(object, marks)| each(at, object, &marks));
            if entry.stop || !go_on {
                return;
            }
            if name.starts_with(b"/") && !from_roots {
                from_roots = true;
                dirs = self.roots(at + 1);
                dirs.reverse();
            }
        }
    }

    /// Looks an entry up in one layer: one name, or a path from the layer's root. Redirects on the
    /// way change what it is called further down.
    fn in_layer(&self, dir: &Object, entry: &mut Entry) -> Option<(Object, Marks)> {
        let text = entry.name.clone();
        let absolute = text.starts_with(b"/");
        let mut at = usize::from(absolute);
        let mut below: Option<Object> = None;
        loop {
            let end = text[at..].find_byte(b'/').map_or(text.len(), |n| at + n);
            let last = end == text.len();
            let part = text[at..end].as_bstr();
            if part.is_empty() || self.host.out_of_time() {
                return None;
            }
            let above = below.as_ref().unwrap_or(dir);
            if self.stack.union != Union::Overlay && self.is_whited_out(above, part) {
                entry.stop = !(last && self.hidden_too) || part.starts_with(WHITEOUT);
                return None;
            }
            let object = self.host.lookup(above, part, Way::Plain).ok()?;
            let look = object.look().ok()?;
            if !last && !look.is_dir() {
                entry.stop = true; // a whiteout, a file, a link
                return None;
            }
            let marks = self.marks(&object);
            let opaque = look.is_dir() && marks.opaque;
            if opaque && !last {
                entry.stop = true;
            }
            let redirects = if look.is_dir() { !opaque } else { look.is_file() && marks.metacopy };
            if let Some(redirect) = marks.redirect.as_ref().filter(|_| redirects) {
                entry.stop &= !redirect.starts_with(b"/");
                entry.name = redirected(&entry.name, &text[end..], redirect);
            }
            if last {
                return Some((object, marks));
            }
            below = Some(object);
            at = end + 1;
        }
    }

    /// Whether fuse-overlayfs and aufs show nothing of this name in a layer's directory, or below it.
    fn is_whited_out(&self, dir: &Object, name: &BStr) -> bool {
        let mark = BString::from([WHITEOUT, name].concat());
        name.starts_with(WHITEOUT) || self.host.lookup(dir, mark.as_ref(), Way::Plain).is_ok()
    }

    fn marks(&self, object: &Object) -> Marks {
        let has = || self.host.lookup(object, BStr::new(OPAQUE), Way::Plain).is_ok();
        let is_dir = || object.look().is_ok_and(|look| look.is_dir());
        if self.stack.union == Union::Aufs {
            return Marks { opaque: is_dir() && has(), ..Marks::default() };
        }
        if self.stack.union == Union::Fuse {
            let is_set = |name: &&str| self.host.attribute(object, name).is_ok_and(|v| v == b"y");
            let opaque = is_dir() && (OPAQUES.iter().any(is_set) || has());
            return Marks { opaque, ..Marks::default() };
        }
        let get =
            |mark| self.host.attribute(object, &named(mark, self.stack.options.userxattr)).ok();
        Marks {
            opaque: get("opaque").is_some_and(|v| v == b"y"),
            metacopy: get("metacopy").is_some(),
            redirect: get("redirect").filter(|v| is_redirect(v)).map(BString::from),
        }
    }

    /// The newer whiteout: an empty file with an attribute.
    fn is_whiteout_file(&self, object: &Object) -> bool {
        let name = named("whiteout", self.stack.options.userxattr);
        self.host.attribute(object, &name).is_ok()
    }
}

/// What is looked up, by the name that the next layer knows it by.
struct Entry {
    name: BString,
    /// Whether layers below have no part in it.
    stop: bool,
}

/// What an entry is called further down, when the name before `rest` is redirected there: from the
/// root, or beside the last name that was looked up, whatever that is called by now.
fn redirected(name: &[u8], rest: &[u8], redirect: &[u8]) -> BString {
    let used = &name[..name.len() - rest.len()];
    let before = used.rfind_byte(b'/').map_or(0, |slash| slash + 1);
    let before = if redirect.starts_with(b"/") { &[] } else { &used[..before] };
    [before, redirect, rest].concat().into()
}

/// One name, or a path from the root without empty names: the kernel takes nothing else.
fn is_redirect(text: &[u8]) -> bool {
    let names = text.strip_prefix(b"/").unwrap_or(text);
    let whole = names.split(|b| *b == b'/').all(|n| !n.is_empty());
    whole && (text.starts_with(b"/") || !text.contains(&b'/'))
}

fn named(mark: &str, userxattr: bool) -> String {
    format!("{}.overlay.{mark}", if userxattr { "user" } else { "trusted" })
}

/// Whether the content of a layer's file lies in a layer further down.
pub(super) fn is_metadata_only(host: &Host, object: &Object, userxattr: bool) -> bool {
    host.attribute(object, &named("metacopy", userxattr)).is_ok()
}

/// Whether an upper file says that it was copied up.
pub(super) fn was_copied(host: &Host, object: &Object, userxattr: bool) -> bool {
    host.attribute(object, &named("origin", userxattr)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{is_redirect, redirected};

    #[test]
    fn names_further_down() {
        for (name, rest, redirect, below) in [
            ("f", "", "g", "g"),
            ("f", "", "/a/g", "/a/g"),
            ("/d/f", "", "g", "/d/g"),
            ("/d/f", "/f", "e", "/e/f"),
            ("/d/e/f", "/f", "x", "/d/x/f"),
            ("/d/e/f", "/e/f", "/x/y", "/x/y/e/f"),
            // The first name was redirected just before.
            ("/x/y/e/f", "/f", "z", "/x/y/z/f"),
        ] {
            let told = redirected(name.as_bytes(), rest.as_bytes(), redirect.as_bytes());
            assert_eq!(told, below, "{name} {redirect}");
        }
    }

    #[test]
    fn redirects_the_kernel_takes() {
        for good in ["d", "/d", "/d/e", "a b"] {
            assert!(is_redirect(good.as_bytes()), "{good}");
        }
        for bad in ["", "/", "d/e", "/d//e", "/d/", "d/"] {
            assert!(!is_redirect(bad.as_bytes()), "{bad}");
        }
    }
}
