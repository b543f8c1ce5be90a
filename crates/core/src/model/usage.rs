//! What takes room on disks, and whose it is: what `ls --disk` is made of.

use std::borrow::Cow;

use bstr::{BString, ByteSlice};
use whose_fields::{Cell, FieldId, Record};

use super::{Class, Engine, Listed};

/// What a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UsageKind {
    /// What a container alone has.
    Container,
    /// A volume that several containers have.
    Volume,
    /// What several images have of which containers have one: each layer counts once, whoever shares it.
    Images,
    /// What several images have of which no container has one.
    UnusedImages,
    /// What an image alone has that containers have.
    Image,
    /// What an image alone has that no container has.
    UnusedImage,
    /// What builds left.
    BuildCache,
    /// Layers that an engine has in its table, and no image and no container.
    UnusedLayers,
    /// What was downloaded, and no image needs.
    UnusedContents,
    /// Downloads that were begun.
    Downloads,
    /// A volume that no container has.
    UnusedVolume,
    /// A machine's files where its engine keeps them, which nothing runs from.
    MachineImage,
    /// A layer's directory that no table has.
    Orphan,
    /// A layer of a table that has no directory.
    Missing,
    /// A layer whose removal has begun.
    Removing,
    /// Layers of which it could not be read whose they are.
    Unknown,
    /// What else an engine has in its directory.
    Engine,
}

impl UsageKind {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Volume => "volume",
            Self::Images => "images",
            Self::UnusedImages => "unused-images",
            Self::Image => "image",
            Self::UnusedImage => "unused-image",
            Self::UnusedContents => "unused-contents",
            Self::Downloads => "downloads",
            Self::BuildCache => "build-cache",
            Self::UnusedLayers => "unused-layers",
            Self::UnusedVolume => "unused-volume",
            Self::MachineImage => "machine-image",
            Self::Orphan => "orphan",
            Self::Missing => "missing",
            Self::Removing => "removing",
            Self::Unknown => "unknown",
            Self::Engine => "engine",
        }
    }
}

/// What a tree is to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UsagePart {
    /// The files of a writable layer, or a root directory that is a container's own.
    Layer,
    /// The engine's layer between that and the image.
    Init,
    /// What a driver keeps beside a layer's files.
    Driver,
    /// A log.
    Log,
    /// A volume.
    Volume,
    /// What an image was downloaded as.
    Content,
    /// A removed file that is open.
    Deleted,
    /// A layer that is no container's own, or the rest of an engine's directory.
    Directory,
}

impl UsagePart {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Init => "init",
            Self::Driver => "driver",
            Self::Log => "log",
            Self::Volume => "volume",
            Self::Content => "content",
            Self::Deleted => "deleted",
            Self::Directory => "directory",
        }
    }

    /// The column that it is part of.
    fn column(self) -> Option<FieldId> {
        match self {
            Self::Layer | Self::Init | Self::Driver => Some(FieldId::DiskLayer),
            Self::Log => Some(FieldId::DiskLog),
            Self::Volume => Some(FieldId::DiskVolumes),
            Self::Deleted => Some(FieldId::DiskDeleted),
            Self::Content | Self::Directory => None,
        }
    }
}

/// One tree or file of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupied {
    /// What it is to the row.
    pub part: UsagePart,
    /// Where it lies on the host; of a removed file what it was called in its container.
    pub path: BString,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Bytes by the sizes of the files.
    pub apparent: u64,
    /// Files and directories.
    pub inodes: u64,
    /// Whether all of it was counted.
    pub is_complete: bool,
    /// Why nothing is known of it.
    pub unread: Option<Class>,
}

impl Occupied {
    /// One of which nothing is known.
    #[must_use]
    pub fn unread(part: UsagePart, path: impl Into<BString>, class: Class) -> Self {
        let (bytes, apparent, inodes) = (0, 0, 0);
        let (path, unread) = (path.into(), Some(class));
        Self { part, path, bytes, apparent, inodes, is_complete: false, unread }
    }

    /// One that takes nothing, which is known.
    #[must_use]
    pub fn nothing(part: UsagePart, path: impl Into<BString>) -> Self {
        let (bytes, apparent, inodes) = (0, 0, 0);
        let (path, unread) = (path.into(), None);
        Self { part, path, bytes, apparent, inodes, is_complete: true, unread }
    }
}

/// A row of `ls --disk`.
#[derive(Clone, Debug)]
pub struct Usage {
    /// What it is of.
    pub kind: UsageKind,
    /// The container, for a row of one.
    pub container: Option<Listed>,
    /// The engine whose directory it lies in.
    pub engine: Engine,
    /// The user whose engine that is.
    pub user: Option<BString>,
    /// What the row is called: a container, a volume, a path of the host.
    pub name: BString,
    /// Ids of the containers that share it, or that lack it.
    pub owners: Vec<BString>,
    /// Names of the images whose layers these are.
    pub images: Vec<BString>,
    /// What it is made of.
    pub parts: Vec<Occupied>,
}

impl Usage {
    /// A row of nothing yet.
    #[must_use]
    pub fn new(kind: UsageKind, engine: Engine, name: impl Into<BString>) -> Self {
        Self {
            kind,
            container: None,
            engine,
            user: None,
            name: name.into(),
            owners: Vec::new(),
            images: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// Names images that have some of it.
    pub fn has_images(&mut self, names: &[BString]) {
        for name in names {
            if !self.images.contains(name) {
                self.images.push(name.clone());
            }
        }
    }

    /// The sum over the parts of a column, or over all of them. Unread when that is unread of one of
    /// them: a part must not look like the whole.
    #[must_use]
    pub fn sum(&self, column: Option<FieldId>, of: impl Fn(&Occupied) -> u64) -> Cell<'static> {
        let mut sum = 0_u64;
        for part in self.parts.iter().filter(|p| column.is_none() || p.part.column() == column) {
            match part.unread {
                Some(class) => return Cell::Unread(class.name()),
                None => sum = sum.saturating_add(of(part)),
            }
        }
        Cell::Uint(sum)
    }

    /// The kind as it is told: a container's own.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        let owner = self.container.as_ref().and_then(Listed::owner);
        owner.map_or(self.kind.name(), |owner| owner.kind.name())
    }

    /// Whether all of it was counted.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.parts.iter().all(|part| part.is_complete && part.unread.is_none())
    }
}

impl Record for Usage {
    fn get(&self, field: FieldId) -> Cell<'_> {
        match field {
            FieldId::Disk => self.sum(None, |part| part.bytes),
            FieldId::DiskApparent => self.sum(None, |part| part.apparent),
            FieldId::DiskInodes => self.sum(None, |part| part.inodes),
            FieldId::DiskLayer | FieldId::DiskLog | FieldId::DiskVolumes | FieldId::DiskDeleted => {
                match self.kind {
                    UsageKind::Container => self.sum(Some(field), |part| part.bytes),
                    _ => Cell::Absent,
                }
            }
            FieldId::DiskKind => Cell::text(self.kind_name()),
            FieldId::DiskWhat => Cell::Bytes(Cow::Borrowed(self.name.as_bytes())),
            field => match &self.container {
                Some(listed) => listed.get(field),
                None if field == FieldId::Runtime => Cell::text(self.engine.0),
                None => Cell::Absent,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use whose_fields::{Cell, FieldId, Record};

    use super::{Occupied, Usage, UsageKind, UsagePart};
    use crate::model::{Class, Engine};

    #[test]
    fn a_part_does_not_look_like_the_whole() {
        let part = |part, bytes, unread| Occupied {
            part,
            path: "/x".into(),
            bytes,
            apparent: 1,
            inodes: 1,
            is_complete: true,
            unread,
        };
        let mut usage = Usage::new(UsageKind::Container, Engine("docker"), "web");
        assert_eq!(usage.get(FieldId::Disk), Cell::Uint(0));
        usage.parts = vec![
            part(UsagePart::Layer, 4096, None),
            part(UsagePart::Driver, 8192, None),
            part(UsagePart::Log, 512, None),
        ];
        assert_eq!(usage.get(FieldId::DiskLayer), Cell::Uint(12_288));
        assert_eq!(usage.get(FieldId::DiskVolumes), Cell::Uint(0));
        assert_eq!(usage.get(FieldId::Disk), Cell::Uint(12_800));
        assert_eq!(usage.get(FieldId::DiskInodes), Cell::Uint(3));
        usage.parts.push(part(UsagePart::Volume, 0, Some(Class::Unsupported)));
        assert_eq!(usage.get(FieldId::DiskLog), Cell::Uint(512));
        assert_eq!(usage.get(FieldId::DiskVolumes), Cell::Unread("unsupported"));
        assert_eq!(usage.get(FieldId::Disk), Cell::Unread("unsupported"));
        assert!(!usage.is_complete());
        let engine = Usage::new(UsageKind::Engine, Engine("docker"), "/var/lib/docker");
        assert_eq!(engine.get(FieldId::DiskLayer), Cell::Absent);
        assert_eq!(engine.get(FieldId::Runtime), Cell::text("docker"));
    }
}
