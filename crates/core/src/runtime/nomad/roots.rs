//! Where a client keeps its state.

use bstr::{BString, ByteSlice};
use whose_kernel::parse::mountinfo::Mount;
use whose_kernel::root::Links;
use whose_kernel::{Class, Host, Mode, ReadError};

use super::super::docker::name_of;
use super::super::{FoundRoots, Hints, StateRoot, Subject, hints, segment};
use crate::model::Gap;
use crate::model::gap::what;
use crate::state::json;
use crate::state::nomad as files;

/// Data directories: those of HashiCorp's packages, and of its guides.
const DATA_DIRS: [&str; 4] = ["opt/nomad/data", "var/lib/nomad", "opt/nomad", "var/nomad"];
/// Where configuration files are.
const CONFIGS: [&str; 2] = ["etc/nomad.d", "etc/nomad"];
/// Files in such a directory.
const MOST_CONFIGS: usize = 1000;
/// `S_ISVTX` and the bits that let others write (inode(7)).
const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o022;

/// Data directories with a client's state, by one kind of hint.
pub(super) fn roots(host: &Host, hints: Hints<'_>) -> FoundRoots {
    let mut found = FoundRoots::default();
    let paths = match hints {
        Hints::Default => DATA_DIRS.map(BString::from).into(),
        Hints::Configured => configured(host),
        Hints::Running => running(host),
        Hints::Mounts(mounts) => vouched(host, from_binds(host, mounts), &mut found.gaps),
        _ => Vec::new(),
    };
    for path in paths {
        match open(host, &path) {
            Ok(root) => {
                let until = host.deadline();
                found.roots.extend(root.map(|root| StateRoot { until, ..root }));
            }
            Err(e) if e.class == Class::Gone => {}
            Err(e) => found.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
        }
    }
    found
}

/// One data directory; `None` for one without a client's state, as a server's is. HashiCorp's packages give it to the
/// user `nomad`, for servers, while a client runs as root (nomad .release/linux/postinst): what root wrote there is
/// the host's. Else its files count only if they belong to whom the directory belongs to, and are his.
fn open(host: &Host, path: &BString) -> Result<Option<StateRoot>, ReadError> {
    host.guard(path)?;
    let saved = host.mode() == Mode::Saved;
    let expected = |uid| (!saved).then_some(uid);
    let root = host.root().descend(path, Links::Never, expected(0))?;
    let owner = |rel: &[u8]| match saved {
        true => Ok(root.recorded_owner(rel).unwrap_or(0)),
        false => root.look(rel).map(|look| look.uid),
    };
    let of_file = match root.look(files::FILE) {
        Err(e) if e.class == Class::Gone => return Ok(None),
        Err(_) => None,
        Ok(_) => owner(files::FILE).ok(),
    };
    let of_dir = owner(b"")?;
    Ok(Some(match (of_dir, of_file) {
        (0, _) => StateRoot::new(root.of_admin(), None, None),
        (_, Some(0)) => StateRoot::new(root, None, None),
        (uid, _) => {
            let own = host.root().descend(path, Links::Never, expected(uid))?;
            StateRoot::new(own, None, Some(name_of(host, uid)))
        }
    }))
}

fn configured(host: &Host) -> Vec<BString> {
    let mut found = Vec::new();
    for dir in CONFIGS {
        for entry in host.root().list(dir.as_bytes(), MOST_CONFIGS).unwrap_or_default() {
            if entry.name.ends_with(b".hcl") || entry.name.ends_with(b".json") {
                let path = [dir.as_bytes(), b"/", &entry.name].concat();
                let bytes = host.root().read(&path, json::CAP);
                found.extend(bytes.ok().and_then(|bytes| files::data_dir(&bytes)));
            }
        }
    }
    found
}

fn running(host: &Host) -> Vec<BString> {
    let agents = hints::in_units(host, &["nomad"], &["nomad"]);
    agents.iter().filter_map(|args| Subject::flag(args, "data-dir")).collect()
}

/// The data directory by the bind that each task has of the directory which its allocation shares (nomad
/// client/allocdir): `<data dir>/alloc/<allocation>/alloc` at `/alloc`.
fn from_binds(host: &Host, mounts: &[Mount]) -> Vec<BString> {
    let Some(bind) = mounts.iter().find(|m| m.point == "/alloc") else { return Vec::new() };
    let dir = bind.root.strip_suffix(b"/alloc").and_then(|dir| dir.rsplit_once_str("/"));
    let data = dir.filter(|(_, id)| segment::is_uuid(id, b'-'));
    let data = data.and_then(|(above, _)| above.strip_suffix(b"/alloc"));
    data.map(|data| hints::on_host(host, bind, data)).unwrap_or_default()
}

/// Those that nobody but root can have made: whoever runs in a task may mount what he likes at `/alloc`. Of the others
/// what stands against them is a gap, unless the host's own word names them too.
fn vouched(host: &Host, paths: Vec<BString>, gaps: &mut Vec<Gap>) -> Vec<BString> {
    let refuse = |path: &BString| match is_roots_own(host, path) {
        Err(e) if e.class == Class::Gone => None,
        told => told.err(),
    };
    let (mut fine, mut named) = (Vec::new(), None::<Vec<BString>>);
    for path in paths {
        let Some(refusal) = refuse(&path) else {
            fine.push(path);
            continue;
        };
        let named = named.get_or_insert_with(|| {
            let usual = DATA_DIRS.map(BString::from).into_iter();
            usual.chain(configured(host)).chain(running(host)).collect()
        });
        let bare = |path: &BString| path.trim_with(|c| c == '/').to_vec();
        // It is opened by that.
        if !named.iter().any(|named| bare(named) == bare(&path)) {
            gaps.push(Gap::from_read(what::CONTAINERS, &refusal));
        }
    }
    fine
}

/// Whether all directories down to a data directory, and its database, are root's, nobody else may make names in them,
/// and no link is among them.
///
/// # Errors
/// What stands against it; `gone` where there is none.
fn is_roots_own(host: &Host, path: &BString) -> Result<(), ReadError> {
    host.guard(path)?;
    let refuse =
        |at: &[u8], why: &'static str| Err(ReadError::new(host.shown(at), Class::Unsupported, why));
    let parts: Vec<&[u8]> = path.split_str("/").filter(|part| !part.is_empty()).collect();
    if parts.windows(2).any(|pair| pair[0] == b"alloc" && segment::is_uuid(pair[1], b'-')) {
        return refuse(path, "among an allocation's own files, which are whoever's runs there");
    }
    let top = host.root().descend(b"", Links::Never, None)?;
    let state = files::FILE.split_str("/");
    let mut at: Vec<u8> = Vec::new();
    for part in std::iter::once(&b""[..]).chain(parts).chain(state) {
        if !at.is_empty() {
            at.push(b'/');
        }
        at.extend_from_slice(part);
        let look = top.look(&at)?;
        let (uid, others) = match host.mode() {
            // A saved tree's modes are those of whoever unpacked it.
            Mode::Saved => (top.recorded_owner(&at).unwrap_or(0), false),
            _ => (look.uid, look.mode & OTHERS_WRITE != 0 && look.mode & STICKY == 0),
        };
        if uid != 0 || others {
            let why = "others than root may make names in it, and only a task's mounts lead there";
            return refuse(&at, why);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use whose_kernel::{Class, Host, Options};

    use super::is_roots_own;

    #[test]
    fn only_where_root_alone_makes_names() {
        let host = Host::open(Options::default()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("n");
        std::fs::create_dir_all(data.join("client")).unwrap();
        std::fs::write(data.join("client/state.db"), "").unwrap();
        let mode = |bits| {
            std::fs::set_permissions(&data, std::fs::Permissions::from_mode(bits)).unwrap();
            is_roots_own(&host, &data.to_str().unwrap().into()).map_err(|e| e.class)
        };
        let is_root = host.live().euid() == Ok(0);
        let fine = if is_root { Ok(()) } else { Err(Class::Unsupported) };
        assert_eq!(mode(0o755), fine);
        assert_eq!(mode(0o777), Err(Class::Unsupported));
        assert_eq!(mode(0o775), Err(Class::Unsupported));
        assert_eq!(mode(0o1777), fine);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&data, &link).unwrap();
        let linked = is_roots_own(&host, &link.to_str().unwrap().into());
        let why = if is_root { Class::Malformed } else { Class::Unsupported };
        assert_eq!(linked.unwrap_err().class, why);
    }
}
