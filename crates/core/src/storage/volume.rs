//! Layers that are file systems of their own: datasets, and volumes of the device mapper.

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::Class;
use whose_kernel::parse::mountinfo::{Mount, mount_of};
use whose_kernel::root;

use crate::model::Gap;
use crate::model::gap::what;

/// Where the device mapper's devices have their names (dmsetup(8)).
const MAPPER: &[u8] = b"/dev/mapper/";
/// What a volume of ZFS is called.
const DATASET: &str = "dataset";

/// A file system that is one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// How what is mounted is called: it begins and ends so.
    begins: BString,
    ends: BString,
    /// How it is called in full, as far as its engine's own directory tells.
    exact: Option<BString>,
    /// What it is.
    word: &'static str,
    /// The directory in it that holds the files; without, they are in its root.
    files: Option<&'static str>,
    /// The directory of the data root that the dataset above is mounted at, where many may end so.
    above: Option<&'static str>,
    /// Many may begin and end so: only the whole name counts.
    is_whole: bool,
}

impl Volume {
    /// A dataset of ZFS with this name below another one.
    #[must_use]
    pub fn dataset(name: &BStr) -> Self {
        let ends = [b"/", name.as_bytes()].concat().into();
        Self {
            begins: BString::default(),
            ends,
            exact: None,
            word: DATASET,
            files: None,
            above: None,
            is_whole: false,
        }
    }

    /// A device of the device mapper, by how its name begins and ends.
    #[must_use]
    pub fn device(begins: &[u8], ends: &[u8], exact: Option<String>) -> Self {
        let named = |name: &[u8]| BString::from([MAPPER, name].concat());
        let exact = exact.map(|name| named(name.as_bytes()));
        Self {
            begins: named(begins),
            ends: ends.into(),
            exact,
            word: "device",
            files: None,
            above: None,
            is_whole: false,
        }
    }

    /// A device of the device mapper whose name ends so, in a pool of many whose names are numbers; without the
    /// pool it is not known which.
    #[must_use]
    pub fn device_of_pool(pool: Option<&BStr>, ends: &[u8]) -> Self {
        let exact = pool.map(|pool| [MAPPER, pool, ends].concat().into());
        Self { exact, is_whole: true, ..Self::device(b"", ends, None) }
    }

    /// The same, with its files in a directory of it.
    #[must_use]
    pub fn with_files_in(self, dir: &'static str) -> Self {
        Self { files: Some(dir), ..self }
    }

    /// The same, where names are short: the one above is mounted at this directory of the data root.
    #[must_use]
    pub fn below_the_one_at(self, dir: &'static str) -> Self {
        Self { above: Some(dir), is_whole: true, ..self }
    }

    /// Whether a file system of this type has such a source by the kernel's word: what a FUSE server mounts is called
    /// as its user likes (fusermount3(1), `fsname`).
    fn may_be(&self, fs_type: &BStr) -> bool {
        match self.word {
            DATASET => fs_type == "zfs",
            _ => fs_type != "fuse" && !fs_type.starts_with(b"fuse."),
        }
    }

    fn is_source(&self, source: &BStr, name: &BString) -> bool {
        if self.is_whole {
            return source == name;
        }
        let rest = source.strip_prefix(self.begins.as_bytes());
        rest.and_then(|rest| rest.strip_suffix(self.ends.as_bytes())).is_some_and(|r| !r.is_empty())
    }

    /// What it is called, as far as that is known: the dataset that the data root lies on is the one above.
    fn name(&self, mounts: &[Mount], dir: &BStr) -> BString {
        if let Some(exact) = &self.exact {
            return exact.clone();
        }
        let dir = root::join(dir, self.above.unwrap_or_default().as_bytes());
        let above = mount_of(mounts, &dir).filter(|m| {
            let is_its = self.above.is_none() || m.point == dir;
            m.fs_type == "zfs" && self.word == DATASET && is_its
        });
        match above {
            Some(above) => [above.source.as_slice(), &self.ends].concat().into(),
            None => [self.begins.as_slice(), b"...", &self.ends].concat().into(),
        }
    }

    /// The directory of its files, where the host has it mounted.
    ///
    /// # Errors
    /// The gap that names it where it is not mounted, or several are called so.
    pub fn mounted(&self, mounts: &[Mount], dir: &BStr) -> Result<BString, Gap> {
        let name = self.name(mounts, dir);
        let fail =
            |why: String| Gap::new(what::LAYERS, Class::Unsupported, name.clone(), why, None);
        let is_it = |m: &&Mount| {
            m.root == "/"
                && self.may_be(m.fs_type.as_ref())
                && self.is_source(m.source.as_ref(), &name)
        };
        let is_shown = |m: &&Mount| mount_of(mounts, &m.point).is_some_and(|top| top.id == m.id);
        let mut all = mounts.iter().filter(is_it).filter(is_shown);
        let Some(first) = all.next() else {
            let word = self.word;
            return Err(fail(format!(
                "its files are in this {word}, which is mounted only while it runs"
            )));
        };
        if all.any(|other| other.device != first.device) {
            return Err(fail(format!("several of the mounted {}s are called so", self.word)));
        }
        Ok(match self.files {
            Some(dir) => root::join(first.point.as_ref(), dir.as_bytes()),
            None => first.point.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use whose_kernel::parse::mountinfo::{Mount, parse};

    use super::Volume;

    fn mounts(lines: &[&str]) -> Vec<Mount> {
        let text: Vec<String> = lines
            .iter()
            .enumerate()
            .map(|(id, line)| format!("{} 0 {line} rw\n", id + 1))
            .collect();
        parse(text.concat().as_bytes()).unwrap()
    }

    fn of(volume: &Volume, lines: &[&str]) -> Result<String, (String, String)> {
        let told = volume.mounted(&mounts(lines), BStr::new("/d"));
        told.map(|dir| dir.to_string()).map_err(|gap| (gap.path.to_string(), gap.cause.to_string()))
    }

    #[test]
    fn datasets() {
        let volume = Volume::dataset(BStr::new("abc"));
        let root = "0:40 / /d rw - zfs tank/docker";
        let own = "0:41 / /d/zfs/graph/abc rw - zfs tank/docker/abc";
        let only = "its files are in this dataset, which is mounted only while it runs";
        let told = |name: &str| Err((name.to_owned(), only.to_owned()));
        assert_eq!(of(&volume, &[root, own]), Ok("/d/zfs/graph/abc".into()));
        assert_eq!(of(&volume, &[root]), told("tank/docker/abc"));
        assert_eq!(of(&volume, &["8:1 / / rw - ext4 /dev/sda1"]), told(".../abc"));
        // Another one, a directory of it, and what lies below something else.
        for other in [
            "0:41 / /d/zfs/graph/xabc rw - zfs tank/docker/xabc",
            "0:41 /bin /x rw - zfs tank/docker/abc",
            "0:41 / /y rw - zfs /abc",
        ] {
            assert_eq!(of(&volume, &[root, other]), told("tank/docker/abc"), "{other}");
        }
        // Numbers are the names of many.
        let number = Volume::dataset(BStr::new("12")).below_the_one_at("zfs");
        let own = "0:51 / /run/x rw - zfs tank/c/12";
        let other = "0:52 / /run/y rw - zfs tank/other/12";
        let above = "0:50 / /d/zfs rw - zfs tank/c";
        assert_eq!(of(&number, &[root, above, own, other]), Ok("/run/x".into()));
        assert_eq!(of(&number, &[root, above, other]), told("tank/c/12"));
        assert_eq!(of(&number, &[root, own, other]), told(".../12"));
        let over = "0:50 / /d/zfs rw - tmpfs none";
        assert_eq!(of(&volume, &[root, own, over]), told("tank/docker/abc"));
    }

    #[test]
    fn devices() {
        let exact = Some("docker-8:1-77-abc".to_owned());
        let volume = Volume::device(b"docker-", b"-abc", exact).with_files_in("rootfs");
        let own = "253:3 / /d/devicemapper/mnt/abc rw - xfs /dev/mapper/docker-8:1-77-abc";
        assert_eq!(of(&volume, &[own]), Ok("/d/devicemapper/mnt/abc/rootfs".into()));
        let gap = of(&volume, &["8:1 / /d rw - xfs /dev/mapper/docker-8:1-77-xabc"]).unwrap_err();
        assert_eq!(gap.0, "/dev/mapper/docker-8:1-77-abc");
        // Two pools number their snapshots alike.
        let snapshot = Volume::device_of_pool(Some(BStr::new("one")), b"-snap-12");
        let one = "253:3 / /a rw - ext4 /dev/mapper/one-snap-12";
        let again = "253:3 / /b rw - ext4 /dev/mapper/one-snap-12";
        let two = "253:4 / /c rw - ext4 /dev/mapper/two-snap-12";
        assert_eq!(of(&snapshot, &[one, again]), Ok("/a".into()));
        assert_eq!(of(&snapshot, &[one, two]), Ok("/a".into()));
        assert_eq!(of(&snapshot, &[two]).unwrap_err().0, "/dev/mapper/one-snap-12");
        let unknown = Volume::device_of_pool(None, b"-snap-12");
        assert_eq!(of(&unknown, &[one]).unwrap_err().0, "/dev/mapper/...-snap-12");
        let copy = "253:9 / /copy rw - xfs /dev/mapper/docker-8:1-77-abc";
        let gap = of(&volume, &[own, copy]).unwrap_err();
        assert_eq!(gap.1, "several of the mounted devices are called so");
    }

    /// An ordinary user has a server of his mounted, called as somebody's layer.
    #[test]
    fn no_server_of_a_users_is_one() {
        let device = Volume::device(b"docker-", b"-abc", None).with_files_in("rootfs");
        let dataset = Volume::dataset(BStr::new("abc"));
        for kind in ["fuse", "fuse.sshfs"] {
            let false_device = format!("0:77 / /mnt/x rw - {kind} /dev/mapper/docker-8:1-77-abc");
            assert!(of(&device, &[&false_device]).is_err(), "{kind}");
            let own = "253:3 / /d/mnt rw - xfs /dev/mapper/docker-8:1-77-abc";
            assert_eq!(of(&device, &[own, &false_device]), Ok("/d/mnt/rootfs".into()), "{kind}");
            let false_dataset = format!("0:78 / /mnt/y rw - {kind} tank/docker/abc");
            assert!(of(&dataset, &[&false_dataset]).is_err(), "{kind}");
        }
    }
}
