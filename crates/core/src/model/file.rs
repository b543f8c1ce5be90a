//! A file: as a process has it, as the host has it, and how far that is proven.

use std::borrow::Cow;

use bstr::BString;

use super::{Fact, Gap};

/// One file; the contract's FILE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// The path from the process's own root, without the kernel's ` (deleted)`.
    pub inside: Option<BString>,
    /// The path from the root of its mount namespace, where that is another: a chroot.
    pub namespace_path: Option<BString>,
    /// The proven path on the host; absent where no such path exists, unread where it is not proven.
    pub host: Fact<BString>,
    /// The path in another mount namespace, where the host has none.
    pub layer_path: Option<BString>,
    /// That namespace, `mnt:[N]`.
    pub layer_ns: Option<BString>,
    /// The host path of the merged view, opened and compared.
    pub merged: Option<BString>,
    /// `/proc/PID/root/...`, opened and compared.
    pub via_proc: Option<BString>,
    /// The backing file of a loop device that holds the file system.
    pub image_file: Option<BString>,
    /// Which part of a stack it is.
    pub role: Option<FileRole>,
    /// The layer it lies in.
    pub layer: Option<Layer>,
    /// What of an engine's own it is.
    pub stored: Option<Stored>,
    /// The mount it is reached by.
    pub mount: Option<FileMount>,
    /// The file itself: the one that runs, where that is proven.
    pub inode: Option<Inode>,
    /// How the host path is proven.
    pub verified: Verified,
    /// Why it is not proven by page identity.
    pub why: Option<Cow<'static, str>>,
    /// From a capture, and not read now.
    pub recorded: bool,
    /// What became of its name.
    pub state: Option<FileState>,
    /// Whether the stack copied it up.
    pub copied_up: Option<CopiedUp>,
    /// The script or program behind an interpreter or loader; taken from what the process controls.
    pub program: Option<BString>,
    /// Paths that it may be, when none is proven.
    pub candidates: Vec<BString>,
    /// SHA-256 of the mapped file, lower case hexadecimal.
    pub sha256: Fact<String>,
    /// Its GNU build id, lower case hexadecimal; absent when it has none.
    pub build_id: Fact<String>,
}

impl File {
    /// What could not be read of it.
    pub fn gaps(&self) -> impl Iterator<Item = &Gap> {
        [self.host.gap(), self.sha256.gap(), self.build_id.gap()].into_iter().flatten()
    }
}

/// Defines an enum of the contract's words.
macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$inner])* $variant,)+ }

        impl $name {
            /// The contract's word.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The value with this word.
            #[must_use]
            pub fn by_name(name: &str) -> Option<Self> {
                match name { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words! {
    /// Which part of a stack a file is.
    FileRole {
        /// In the writable layer.
        Upper = "upper",
        /// In a read-only layer.
        Lower = "lower",
        /// In a data-only layer.
        Data = "data",
        /// In an overlay's index of hard links.
        UpperIndex = "upper-index",
        /// On a file system of its own, no stack involved.
        Direct = "direct",
        /// In a volume or bind mount.
        Volume = "volume",
        /// In a layer below a FUSE file system.
        FuseLayer = "fuse-layer",
        /// Only the merged view can be named.
        Merged = "merged",
        /// In no file system: a memfd, an unnamed temporary file.
        Anonymous = "anonymous",
    }
}

words! {
    /// How a host path is proven, strongest first.
    #[derive(Default)]
    Verified {
        /// The process maps the very page that the file has.
        Page = "page",
        /// The kernel shows the mapped inode, and it is the file's (before kernel 6.8).
        MappedInode = "mapped-inode",
        /// The kernel's file handle of `exe` is the file's.
        Handle = "handle",
        /// Size and SHA-256 are equal.
        Content = "content",
        /// By an engine's table of layers: nothing runs that the kernel could be asked about.
        Layers = "layers",
        /// Nothing is proven.
        #[default]
        Unproven = "none",
    }
}

words! {
    /// What became of the name that a process was started by.
    FileState {
        /// It names the file still.
        Present = "present",
        /// It is gone.
        Deleted = "deleted",
        /// It names another file now.
        Replaced = "replaced",
        /// Another mount lies over it.
        Hidden = "hidden",
        /// Its mount is in no mount table.
        Detached = "detached",
        /// The file that runs has no name left at all.
        Unlinked = "unlinked",
        /// It never had one.
        Anonymous = "anonymous",
        /// It changed as often as it was looked at.
        Changing = "changing",
    }
}

words! {
    /// Whether an overlay copied the file to its writable layer.
    CopiedUp {
        /// It did not.
        No = "no",
        /// Before the process started: the copy runs.
        BeforeStart = "before-start",
        /// After it: the lower file runs, `exe` opens the copy.
        AfterStart = "after-start",
    }
}

words! {
    /// What a layer is for.
    LayerKind {
        /// A container's writable layer.
        Upper = "upper",
        /// What the engine puts between that and the image.
        Init = "init",
        /// A layer of images.
        Image = "image",
        /// A snapshot that is mounted to be read only.
        View = "view",
        /// A step of a build, kept for the next.
        BuildCache = "build-cache",
        /// The engine's table has it, but no image and no container does.
        Unused = "unused",
        /// Its removal has begun.
        Removing = "removing",
        /// The engine does not know it.
        Orphan = "orphan",
    }
}

/// A directory of a storage driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// Its name in the driver's store.
    pub id: BString,
    /// Its directory on the host: the root of the layer's files.
    pub dir: BString,
    /// The driver: `overlay2`, `btrfs`; empty when no engine's store is known.
    pub driver: BString,
    /// What it is for, where that is known.
    pub kind: Option<LayerKind>,
    /// For an image layer: the digest that stands for it and all below it, `sha256:...`.
    pub chain_id: Option<BString>,
    /// For an image layer: the digest of its archive, `sha256:...`.
    pub diff_id: Option<BString>,
    /// Place among the lowers, 0 the topmost; absent for a writable layer.
    pub index: Option<u32>,
    /// How many lowers the stack has.
    pub of: Option<u32>,
    /// Full ids of the containers that use it.
    pub owners: Vec<BString>,
    /// Names of the images that hold it; the id of one without a name.
    pub images: Vec<BString>,
}

words! {
    /// What a file of an engine's own is, beside layers and volumes.
    StoredKind {
        /// The configuration of an image.
        ImageConfig = "image-config",
        /// What else is kept of an image.
        ImageRecord = "image-record",
        /// The manifest of an image.
        Manifest = "manifest",
        /// A list of manifests, one a platform.
        Index = "index",
        /// A layer, as it was downloaded.
        LayerBlob = "layer-blob",
        /// Another blob of a content store.
        Blob = "blob",
        /// What is kept of a layer.
        LayerRecord = "layer-record",
        /// By which a layer's archive is put together again.
        TarSplit = "tar-split",
        /// Where a layer was downloaded from, or is known to be.
        Distribution = "distribution-record",
        /// What is kept for a container.
        ContainerRecord = "container-record",
        /// The bundle that a container's task was made from.
        Task = "task",
        /// A file that holds the file system of a container or machine.
        RootImage = "root-image",
        /// What was begun to be written: a download, or a layer.
        Begun = "begun",
        /// A table of all that there is, or a directory of all of a kind.
        Table = "table",
        /// Not known what.
        Other = "other",
    }
}

words! {
    /// Who has what is stored.
    Standing {
        /// An image or a container.
        Used = "used",
        /// The engine has it, but no image and no container does.
        Unused = "unused",
        /// What a build left for the next one.
        BuildCache = "build-cache",
        /// Its removal has begun.
        Removing = "removing",
        /// The engine does not know it.
        Orphan = "orphan",
    }
}

/// A file of an engine's own that is in no layer and no volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What it is.
    pub kind: StoredKind,
    /// The image, layer (its chain id, or its name in the store), container or blob that it is of, in full;
    /// none of what is of all.
    pub id: Option<BString>,
    /// The engine.
    pub engine: BString,
    /// The engine's root, a path of the host.
    pub root: BString,
    /// Who has it; absent of what is of nothing in particular.
    pub standing: Fact<Standing>,
    /// The layer that it is of, where that is known.
    pub layer: Option<Layer>,
    /// Names of the images that need it; the id of one without a name.
    pub images: Vec<BString>,
    /// Ids of those images.
    pub image_ids: Vec<BString>,
}

/// The mount a file is reached by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileMount {
    /// File system type.
    pub kind: BString,
    /// What is mounted.
    pub source: BString,
    /// Device, major and minor.
    pub device: (u32, u32),
    /// The mounted directory, in the file system.
    pub root: BString,
    /// Where, from the process's root.
    pub point: BString,
}

/// What identifies and describes an inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inode {
    /// Device, major and minor.
    pub device: (u32, u32),
    /// Number.
    pub ino: u64,
    /// Names it has.
    pub nlink: u32,
    /// Bytes.
    pub size: u64,
    /// Last change of the content, milliseconds since 1970.
    pub mtime: i64,
}

/// What a container mounts over its own files when it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounting {
    /// Where, from its root.
    pub at: BString,
    /// The directory or file of the host; `None` for what is none, such as memory.
    pub from: Option<BString>,
}

/// What a container's own files lie in, by its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootFiles {
    /// One directory.
    Dir(BString),
    /// The directories of an overlay, the upper one first.
    Stack(Vec<BString>),
    /// A file or device that holds a file system, or a name that leads to one.
    Image(BString),
}

/// A container's file system, by its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rootfs {
    /// Its own files.
    pub files: RootFiles,
    /// What lies over them when it runs.
    pub mounts: Vec<Mounting>,
}
