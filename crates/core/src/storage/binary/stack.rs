//! The directories of an overlay, found again from the texts of its mount options.

use std::cell::OnceCell;

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::Host;
use whose_kernel::object::Object;
use whose_kernel::parse::mountinfo::strip;
use whose_kernel::parse::overlay::Overlay;
use whose_kernel::worker::exam::Way;

use super::filesystems::FileSystems;
use crate::model::FileRole;

/// Directories that relative texts are tried from, at most.
const BASES: usize = 64;

/// The default of the option metacopy: `Y` or `N`.
const METACOPY: &[u8] = b"sys/module/overlay/parameters/metacopy";

/// A layer's directory.
#[derive(Debug)]
pub(super) struct Dir {
    /// The directory.
    pub(super) object: Object,
    /// Its path, in the namespace it was found in.
    pub(super) path: BString,
}

/// What puts the layers of a stack together: each has its own marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Union {
    /// The kernel's overlay.
    Overlay,
    /// fuse-overlayfs.
    Fuse,
    /// aufs.
    Aufs,
}

/// An overlay's directories. Texts are their mounter's, so what a text leads to is a guess, which
/// costs nothing when it is wrong: the page check refuses it. The upper directory is known for
/// certain where the kernel gives the handle of the overlay's own root.
pub(super) struct Stack<'h> {
    host: &'h Host,
    root: &'h Object,
    target_root: Option<&'h Object>,
    pub(super) options: Overlay,
    upper: OnceCell<Option<Dir>>,
    lowers: OnceCell<Vec<Option<Dir>>>,
    data: OnceCell<Vec<Option<Dir>>>,
    /// What the kernel says of the overlay's root: the upper directory, or the topmost lower.
    top: Option<(Dir, bool)>,
    /// Where the overlay is mounted: more bases for relative texts.
    near: Vec<BString>,
    /// The directory that relative texts start from, once it was needed.
    base: OnceCell<Option<BString>>,
    /// Whether texts are read in the target's own root before the host's.
    target_first: bool,
    /// What puts the layers together.
    pub(super) union: Union,
}

impl<'h> Stack<'h> {
    /// `overlay_root` is the overlay's own root directory, where it can be reached.
    pub(super) fn new(
        host: &'h Host,
        (root, target_root): (&'h Object, Option<&'h Object>),
        options: Overlay,
        overlay_root: Option<&Object>,
        file_systems: &FileSystems<'_>,
        near: Vec<BString>,
    ) -> Self {
        let top = overlay_root.and_then(|root| {
            let layer = root.handle().ok()?.parse_layer().ok()??;
            let is_dir = |o: &Object| o.look().is_ok_and(|l| l.is_dir());
            let text = if layer.upper { options.upper.as_ref() } else { options.lowers.first() };
            let last = |path: &BString| path.rsplit(|b| *b == b'/').next().map(<[u8]>::to_vec);
            let mut dirs: Vec<Dir> = file_systems
                .open(&layer.inner, None, &is_dir)
                .into_iter()
                .filter_map(|(object, _)| Some(Dir { path: object.path().ok()??, object }))
                .collect();
            // Several file systems may know the handle: the name says which is meant.
            let at = dirs.iter().position(|d| text.is_some_and(|t| last(t) == last(&d.path)));
            let at = at.or((dirs.len() == 1).then_some(0))?;
            Some((dirs.swap_remove(at), layer.upper))
        });
        let (upper, lowers, data) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        let (base, target_first) = (OnceCell::new(), false);
        Self {
            host,
            root,
            target_root,
            options,
            upper,
            lowers,
            data,
            top,
            near,
            base,
            target_first,
            union: Union::Overlay,
        }
    }

    /// The same, where the layers have the marks of fuse-overlayfs besides the kernel's.
    pub(super) fn of_fuse(self) -> Self {
        Self { union: Union::Fuse, ..self }
    }

    /// The same, where aufs puts the layers together, by marks of its own.
    pub(super) fn of_aufs(self) -> Self {
        Self { union: Union::Aufs, ..self }
    }

    /// Which part of the stack holds this path of the host: of directories one in another the
    /// innermost.
    pub(super) fn role_beneath(&self, path: &BStr) -> Option<FileRole> {
        if !self.is_placed() {
            return None;
        }
        let index = self.work().map(|dir| joined(&dir.path, b"index"));
        let upper = self.upper().map(|dir| (&dir.path, FileRole::Upper));
        let index = index.as_ref().map(|path| (path, FileRole::UpperIndex));
        let lowers = self.lowers().iter().flatten().map(|dir| (&dir.path, FileRole::Lower));
        let data = self.data().iter().flatten().map(|dir| (&dir.path, FileRole::Data));
        let dirs = upper.into_iter().chain(index).chain(lowers).chain(data);
        let holds = |(dir, _): &(&BString, FileRole)| strip(dir, path).is_some();
        dirs.filter(holds).max_by_key(|(dir, _)| dir.len()).map(|(_, role)| role)
    }

    /// The same overlay, its texts read as the process itself would read them. `None` where that is
    /// the host's own way.
    pub(super) fn as_target_sees(&self) -> Option<Self> {
        self.target_root?;
        let top = self.top.as_ref().and_then(|(dir, upper)| Some((self.again(dir)?, *upper)));
        Some(Self {
            host: self.host,
            root: self.root,
            target_root: self.target_root,
            options: self.options.clone(),
            upper: OnceCell::new(),
            lowers: OnceCell::new(),
            data: OnceCell::new(),
            top,
            near: self.near.clone(),
            base: OnceCell::new(),
            target_first: true,
            union: self.union,
        })
    }

    /// Whether a file's metadata and its content may lie in two layers. The attribute that says so
    /// can't be read without CAP_SYS_ADMIN, so only the overlay's options exclude it.
    pub(super) fn may_split(&self) -> bool {
        if self.union == Union::Aufs {
            return false;
        }
        // The module's own default; a file of sysfs shows a page as its size.
        let default =
            || !self.host.root().read(METACOPY, 8192).is_ok_and(|text| text.starts_with(b"N"));
        let copies = || self.options.metacopy.unwrap_or_else(default);
        !self.options.data.is_empty() || (!self.options.userxattr && copies())
    }

    /// The upper directory.
    pub(super) fn upper(&self) -> Option<&Dir> {
        let find = || {
            let text = self.options.upper.as_ref()?;
            match &self.top {
                Some((dir, true)) => self.again(dir),
                _ => self.resolve(text.as_ref()),
            }
        };
        self.upper.get_or_init(find).as_ref()
    }

    /// Whether the upper directory is known for certain, or there is none.
    pub(super) fn upper_is_sure(&self) -> bool {
        self.options.upper.is_none() || matches!(self.top, Some((_, true)))
    }

    /// The directory once more, under a descriptor of its own.
    fn again(&self, dir: &Dir) -> Option<Dir> {
        let object = dir.object.again().ok()?;
        Some(Dir { object, path: dir.path.clone() })
    }

    /// The work directory, beside the upper one on the same file system.
    pub(super) fn work(&self) -> Option<Dir> {
        self.resolve(self.options.work.as_ref()?.as_ref())
    }

    /// The lower directories, top first; `None` for what was not found again.
    pub(super) fn lowers(&self) -> &[Option<Dir>] {
        self.lowers.get_or_init(|| self.resolve_all(&self.options.lowers))
    }

    /// The data-only directories, top first.
    pub(super) fn data(&self) -> &[Option<Dir>] {
        self.data.get_or_init(|| self.resolve_all(&self.options.data))
    }

    /// Whether all its directories were found, on this machine's disks.
    pub(super) fn is_near(&self) -> bool {
        let upper = self.options.upper.is_none() || self.upper().is_some();
        let mut dirs = self.lowers().iter().chain(self.data()).flatten().chain(self.upper());
        upper && self.is_whole() && dirs.all(|dir| self.host.is_near(&dir.object))
    }

    /// Whether all its directories were found again.
    pub(super) fn is_whole(&self) -> bool {
        self.lowers().iter().chain(self.data()).all(Option::is_some)
    }

    fn resolve_all(&self, texts: &[BString]) -> Vec<Option<Dir>> {
        texts
            .iter()
            .map(|t| if self.host.out_of_time() { None } else { self.resolve(t.as_ref()) })
            .collect()
    }

    /// What a layer's text leads to: as it stands on the host, with the upper text's prefix
    /// exchanged as the real upper directory's is, and in the target's own root. A relative one is
    /// taken from where the upper's text is true.
    fn resolve(&self, text: &BStr) -> Option<Dir> {
        if self.target_first {
            let root = self.target_root?;
            if text.starts_with(b"/") {
                return self.open(root, text);
            }
            return self.relative(root, text);
        }
        let moved = self.moved(text);
        if !text.starts_with(b"/") {
            let moved = moved.and_then(|p| self.open(self.root, p.as_ref()));
            return moved.or_else(|| self.relative(self.root, text));
        }
        let plain = || self.open(self.root, text);
        moved
            .and_then(|p| self.open(self.root, p.as_ref()))
            .or_else(plain)
            .or_else(|| self.open(self.target_root?, text))
    }

    /// The text with its beginning exchanged as that of the upper's text against the real path.
    fn moved(&self, text: &BStr) -> Option<BString> {
        let (top, is_upper) = self.top.as_ref()?;
        let known =
            if *is_upper { self.options.upper.as_ref()? } else { self.options.lowers.first()? };
        let (theirs, ours) = different_beginnings(known.as_ref(), top.path.as_ref());
        if theirs == ours {
            return None; // nothing to exchange
        }
        let rest = text.strip_prefix(theirs.as_bytes())?;
        let mut path = ours.to_vec();
        if !rest.is_empty() && !path.ends_with(b"/") && !rest.starts_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(rest);
        Some(path.into())
    }

    /// A relative text, from the directory where all of them lead somewhere.
    fn relative(&self, root: &Object, text: &BStr) -> Option<Dir> {
        match self.base.get_or_init(|| self.fitting(root, 1).pop()) {
            Some(base) => self.open(root, joined(base, text).as_ref()),
            None => {
                let mut paths = self.bases().into_iter().map(|base| joined(&base, text));
                paths.find_map(|p| self.open(root, p.as_ref()))
            }
        }
    }

    /// The first directories beneath which all relative texts are directories.
    fn fitting(&self, root: &Object, most: usize) -> Vec<BString> {
        let lowers = self.options.lowers.iter().chain(&self.options.data);
        let texts = lowers.chain(&self.options.upper).filter(|t| !t.starts_with(b"/"));
        let texts: Vec<&BString> = texts.collect();
        let fits = |base: &BString| {
            let open = |t: &&BString| self.open(root, joined(base, t).as_ref()).is_some();
            texts.iter().all(open)
        };
        self.bases().into_iter().filter(fits).take(most).collect()
    }

    /// Whether all relative texts are certain to lead to the layers: the kernel gives a handle of one,
    /// or only one directory fits.
    fn is_placed(&self) -> bool {
        let mut texts = self.options.lowers.iter().chain(&self.options.upper);
        self.top.is_some()
            || texts.all(|t| t.starts_with(b"/"))
            || self.fitting(self.root, 2).len() == 1
    }

    /// Directories that relative texts may start from: those above the upper directory and above
    /// the mount points.
    fn bases(&self) -> Vec<BString> {
        let mut bases: Vec<BString> = Vec::new();
        let top = self.top.as_ref().map(|(dir, _)| dir.path.as_bstr());
        for path in top.into_iter().chain(self.near.iter().map(|p| p.as_bstr())) {
            let mut path = path.as_bytes();
            while let Some(slash) = path.rfind_byte(b'/') {
                path = &path[..slash];
                let base = BString::from(if path.is_empty() { &b"/"[..] } else { path });
                if bases.len() == BASES {
                    return bases;
                }
                if !bases.contains(&base) {
                    bases.push(base);
                }
            }
        }
        bases
    }

    /// The layer that a path on the host lies in, and the rest of it; the upper one is 0. Of
    /// directories one in another the innermost.
    pub(super) fn layer_of<'p>(&self, path: &'p BStr) -> Option<(usize, &'p BStr)> {
        let lowers = self.lowers().iter().enumerate();
        let lowers = lowers.filter_map(|(at, dir)| dir.as_ref().map(|d| (at + 1, d)));
        let all = self.upper().into_iter().map(|d| (0, d)).chain(lowers);
        let holds = all.filter_map(|(at, d)| Some((at, d.path.len(), strip(&d.path, path)?)));
        let (at, _, rest) = holds.max_by_key(|(at, long, _)| (*long, std::cmp::Reverse(*at)))?;
        Some((at, rest))
    }

    fn open(&self, root: &Object, path: &BStr) -> Option<Dir> {
        if self.host.out_of_time() {
            return None;
        }
        // A text is anybody's: it must not lead where nothing answers.
        self.host.guard(path).ok()?;
        let object = self.host.lookup(root, path, Way::Links).ok()?;
        object.look().ok().filter(|l| l.is_dir())?;
        let path = object.path().ok()??;
        Some(Dir { object, path })
    }
}

/// Both paths without the longest common end, whole components of it.
fn different_beginnings<'p>(a: &'p BStr, b: &'p BStr) -> (&'p BStr, &'p BStr) {
    let same = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    // Cut at a slash that is in both, or where one of them ends.
    let whole = |n: usize| {
        n == 0
            || a.get(a.len() - n) == Some(&b'/')
            || (n == a.len() && b.get(b.len() - n - 1) == Some(&b'/'))
            || (n == b.len() && a.get(a.len() - n - 1) == Some(&b'/'))
    };
    let cut = (0..=same).rev().find(|n| whole(*n)).unwrap_or(0);
    (a[..a.len() - cut].as_bstr(), b[..b.len() - cut].as_bstr())
}

/// A path beneath a directory.
pub(super) fn joined(dir: &[u8], rest: &[u8]) -> BString {
    let mut path = dir.strip_suffix(b"/").unwrap_or(dir).to_vec();
    path.push(b'/');
    path.extend_from_slice(rest.strip_prefix(b"/").unwrap_or(rest));
    path.into()
}

#[cfg(test)]
mod tests {
    use bstr::{BStr, BString};
    use whose_kernel::parse::overlay;
    use whose_kernel::{Host, Options};

    use super::{FileSystems, Stack, different_beginnings};
    use crate::model::FileRole;

    #[test]
    fn a_file_s_place_tells_its_part_and_where_relative_texts_start() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().canonicalize().unwrap();
        for name in ["l1", "l2/d", "u", "w"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        let path = |name: &str| BString::from(dir.join(name).to_str().unwrap());
        let host = Host::open(Options::default()).unwrap();
        let root = host.root_object().unwrap();
        let role = |file: &str, beneath: &str| {
            let options = overlay::parse(BStr::new("lowerdir=l1:l2,upperdir=u,workdir=w"));
            let file_systems = FileSystems::new(&host, &root, None, &[]);
            let near = vec![path(file)];
            let stack = Stack::new(&host, (&root, None), options, None, &file_systems, near);
            stack.role_beneath(path(beneath).as_ref())
        };
        for (beneath, expected) in [
            ("l2/d/x", Some(FileRole::Lower)),
            ("u/x", Some(FileRole::Upper)),
            ("w/index/00fb", Some(FileRole::UpperIndex)),
            ("w/work/x", None),
            ("l22/x", None),
            ("x", None),
        ] {
            assert_eq!(role("l2/d/x", beneath), expected, "{beneath}");
        }
        // Two places that fit say nothing.
        for name in ["l1", "l2", "u", "w"] {
            std::fs::create_dir_all(dir.join("l2/d").join(name)).unwrap();
        }
        assert_eq!(role("l2/d/x", "l2/d/x"), None);
    }

    #[test]
    fn what_a_nested_engine_s_paths_begin_with() {
        for (a, b, theirs, ours) in [
            ("/var/lib/docker/o/x/diff", "/lab/dind/o/x/diff", "/var/lib/docker", "/lab/dind"),
            ("x/diff", "/lab/o/x/diff", "", "/lab/o/"),
            ("/a/x", "/b/y", "/a/x", "/b/y"),
            ("/same/x", "/same/x", "", ""),
            ("/ax/diff", "/bx/diff", "/ax", "/bx"),
        ] {
            let cut = different_beginnings(BStr::new(a), BStr::new(b));
            assert_eq!(cut, (BStr::new(theirs), BStr::new(ours)), "{a} {b}");
        }
    }
}
