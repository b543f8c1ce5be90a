//! Looking a path up in an overlay's layers, by the overlay's rules
//! (Documentation/filesystems/overlayfs.rst).

use bstr::{BStr, BString};
use whose_kernel::Host;
use whose_kernel::object::Object;
use whose_kernel::worker::exam::Way;

use super::stack::{Dir, Stack};

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

/// A merged directory: in which layers it is, top first.
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
    let layers: Vec<Option<&Dir>> =
        std::iter::once(stack.upper()).chain(stack.lowers().iter().map(Option::as_ref)).collect();
    let mut merged: Merged<'_> = layers
        .iter()
        .enumerate()
        .filter_map(|(at, dir)| dir.map(|dir| (at, Step::Layer(dir))))
        .collect();
    let names: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|n| !n.is_empty()).collect();
    let walker = Walker { host, layers: &layers, userxattr: stack.options.userxattr };
    let Some((last, parents)) = names.split_last() else { return Vec::new() };
    for name in parents {
        merged = walker.enter(&merged, BStr::new(name));
        if merged.is_empty() || host.out_of_time() {
            return Vec::new();
        }
    }
    walker.files(&merged, BStr::new(last), stack)
}

struct Walker<'w, 's> {
    host: &'w Host,
    /// The upper directory, if any, then the lowers.
    layers: &'w [Option<&'s Dir>],
    userxattr: bool,
}

impl<'s> Walker<'_, 's> {
    /// The merged directory `name` of a merged directory.
    fn enter(&self, merged: &Merged<'s>, name: &BStr) -> Merged<'s> {
        let mut inner: Merged<'s> = Vec::new();
        self.each(merged, name, &mut |at, object, marks| {
            if object.look().is_ok_and(|l| l.is_dir()) {
                inner.push((at, Step::Below(object)));
                !marks.opaque
            } else {
                false // a whiteout, a file, a link: nothing below shows
            }
        });
        inner
    }

    /// The regular files of this name.
    fn files(&self, merged: &Merged<'s>, name: &BStr, stack: &Stack<'_>) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let mut redirect: Option<BString> = None;
        self.each(merged, name, &mut |at, object, marks| {
            let Ok(look) = object.look() else { return false };
            if !look.is_file() || (look.size == 0 && self.is_whiteout_file(&object)) {
                // A whiteout hides the name now; what was started before still runs.
                return look.is_whiteout();
            }
            redirect.clone_from(&marks.redirect);
            let place = if at == 0 { Where::Upper } else { Where::Lower };
            found.push(Found { object, place, metadata_only: marks.metacopy });
            true
        });
        if found.last().is_some_and(|f| f.metadata_only) {
            found.extend(self.data(redirect, stack));
        }
        found
    }

    /// The content of a metadata-only file in the data-only layers, by its absolute redirect.
    fn data(&self, redirect: Option<BString>, stack: &Stack<'_>) -> Vec<Found> {
        let Some(path) = redirect.filter(|r| r.starts_with(b"/")) else { return Vec::new() };
        data_files(self.host, stack, path.as_ref())
    }

    /// Goes through the layers with the name that each knows the entry by. `each` says whether to
    /// go on below.
    fn each(
        &self,
        merged: &Merged<'s>,
        name: &BStr,
        each: &mut dyn FnMut(usize, Object, &Marks) -> bool,
    ) {
        let mut name: BString = name.into();
        let mut rest: Vec<(usize, &Object)> =
            merged.iter().map(|(at, step)| (*at, step.object())).collect();
        rest.reverse();
        while let Some((at, dir)) = rest.pop() {
            let Ok(object) = self.host.lookup(dir, name.as_ref(), Way::Plain) else { continue };
            let marks = self.marks(&object);
            let go_on = each(at, object, &marks);
            if !go_on {
                return;
            }
            let Some(redirect) = marks.redirect else { continue };
            if redirect.starts_with(b"/") {
                // From the root of every layer below.
                rest = self
                    .layers
                    .iter()
                    .enumerate()
                    .skip(at + 1)
                    .rev()
                    .filter_map(|(at, dir)| dir.map(|dir| (at, &dir.object)))
                    .collect();
            }
            name = redirect;
        }
    }

    fn marks(&self, object: &Object) -> Marks {
        marks(object, self.userxattr)
    }

    /// The newer whiteout: an empty file with an attribute.
    fn is_whiteout_file(&self, object: &Object) -> bool {
        object.attribute(&named("whiteout", self.userxattr)).is_ok()
    }
}

/// A file in the data-only layers.
pub(super) fn data_files(host: &Host, stack: &Stack<'_>, path: &BStr) -> Vec<Found> {
    let dirs = stack.data().iter().chain(stack.lowers()).flatten();
    let open = |dir: &Dir| {
        let object = host.lookup(&dir.object, path, Way::Plain).ok()?;
        object.look().ok().filter(whose_kernel::object::Look::is_file)?;
        Some(Found { object, place: Where::Data, metadata_only: false })
    };
    dirs.filter_map(open).collect()
}

fn named(mark: &str, userxattr: bool) -> String {
    format!("{}.overlay.{mark}", if userxattr { "user" } else { "trusted" })
}

fn marks(object: &Object, userxattr: bool) -> Marks {
    let get = |mark| object.attribute(&named(mark, userxattr)).ok();
    Marks {
        opaque: get("opaque").is_some_and(|v| v == b"y"),
        metacopy: get("metacopy").is_some(),
        redirect: get("redirect").filter(|v| !v.is_empty()).map(BString::from),
    }
}

/// Whether the content of a layer's file lies in a layer further down, and by which path.
pub(super) fn metadata_only(object: &Object, userxattr: bool) -> Option<Option<BString>> {
    let marks = marks(object, userxattr);
    marks.metacopy.then_some(marks.redirect)
}

/// Whether an upper file says that it was copied up.
pub(super) fn was_copied(object: &Object, userxattr: bool) -> bool {
    object.attribute(&named("origin", userxattr)).is_ok()
}
