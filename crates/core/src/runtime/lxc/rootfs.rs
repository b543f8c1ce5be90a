//! What a container of LXC consists of while it does not run (lxc.container.conf(5); lxc src/lxc/conf.c, `mount_entry`,
//! and src/lxc/storage: `storage_query`, `ovl_mount`).

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::parse::mountinfo::{strip, unescape};
use whose_kernel::{Class, Host, ReadError};

use super::StateRoot;
use crate::model::gap::what;
use crate::model::{Gap, Mounting, RootFiles, Rootfs};
use crate::state::lxc::{CAP, Config, TooDeep};

/// Files in a directory that is included.
const MOST: usize = 4096;
/// Where configurations are that come with LXC, or are the administrator's.
const PLACES: [&str; 2] = ["/usr/share/lxc", "/etc/lxc"];
/// Hooks that run when what is mounted is decided. lxcfs's own mounts nothing outside /proc and /sys.
const HOOKS: [&str; 2] = ["lxc.hook.pre-mount", "lxc.hook.mount"];
const LXCFS: &str = "/usr/share/lxcfs/lxc.mount.hook";
/// What LXC mounts by itself where it makes no `/dev` of its own.
const TERMINALS: [&str; 3] = ["/dev/pts", "/dev/ptmx", "/dev/console"];

impl From<TooDeep> for Gap {
    fn from(_: TooDeep) -> Self {
        Gap::new(what::LAYERS, Class::Malformed, "", "it includes more files than are read", None)
    }
}

pub(super) fn rootfs(
    host: &Host,
    root: &StateRoot,
    name: &BStr,
    config: Config,
) -> Result<Rootfs, Gap> {
    let file = root.root.join(&[name.as_bytes(), b"/config"].concat());
    let unknown = |why: String| Gap::new(what::LAYERS, Class::Unsupported, file.clone(), why, None);
    let config = config.whole(&mut |path| included(host, root, path))?;
    for hook in HOOKS {
        if let Some(own) = config.all(hook).iter().find(|hook| **hook != LXCFS) {
            return Err(unknown(format!("{hook} {own} may mount something in it")));
        }
    }
    let source = config.get("lxc.rootfs.path").or_else(|| config.get("lxc.rootfs"));
    let source = source.ok_or_else(|| unknown("it has no root of its own".into()))?;
    let files = files_of(host, source).map_err(unknown)?;
    let mounts = mounts(host, root, name, &config).map_err(unknown)?;
    Ok(Rootfs { files, mounts })
}

/// What a line `lxc.include` names: a file, or those of a directory that end in `.conf`.
fn included(host: &Host, root: &StateRoot, path: &BStr) -> Result<Vec<Vec<u8>>, Gap> {
    let fail = |class, why: &'static str| Gap::new(what::LAYERS, class, path, why, None);
    if !path.starts_with(b"/") {
        return Err(fail(Class::Unsupported, "what it includes is not absolute"));
    }
    let own = host.unrooted(root.root.shown()).unwrap_or(root.root.shown());
    let is_usual = PLACES.iter().any(|dir| strip(dir.as_bytes(), path).is_some());
    let climbs = path.split(|b| *b == b'/').any(|name| name == b"..");
    // A user's own files are his, beneath his directory, where no link is followed.
    let (tree, rel) = match (root.users_own(), strip(own, path)) {
        (Some(_), Some(below)) if !climbs => {
            (&root.root, below.strip_prefix(b"/").unwrap_or(below))
        }
        (Some(_), _) if climbs || !is_usual => {
            return Err(fail(Class::Forbidden, "only its user says that it includes this"));
        }
        _ => (host.root(), path.as_bytes()),
    };
    let gap = |e: ReadError| Gap::from_read(what::LAYERS, &e);
    host.guard(path).map_err(gap)?;
    if !tree.has_dir(rel) {
        return Ok(vec![tree.read(rel, CAP).map_err(gap)?]);
    }
    let entries = tree.list(rel, MOST).map_err(gap)?;
    let mut names: Vec<BString> = entries.into_iter().map(|entry| entry.name).collect();
    names.retain(|name| name.ends_with(b".conf"));
    names.sort();
    let read = |name: BString| tree.read(&[rel, b"/", &name].concat(), CAP);
    names.into_iter().map(read).collect::<Result<_, _>>().map_err(gap)
}

/// What `lxc.rootfs.path` means: `TYPE:SOURCE`, or a path whose kind of file tells.
fn files_of(host: &Host, source: &BStr) -> Result<RootFiles, String> {
    if source.starts_with(b"/") {
        host.guard(source).map_err(|e| e.to_string())?;
        let look = host.root().look(source).map_err(|e| e.to_string())?;
        return Ok(match look.is_dir() {
            true => RootFiles::Dir(source.into()),
            false => RootFiles::Image(source.into()),
        });
    }
    let (kind, rest) = source.split_once_str(":").unwrap_or((source, b""));
    let path = BString::from(rest);
    match kind {
        b"dir" | b"btrfs" if path.starts_with(b"/") => Ok(RootFiles::Dir(path)),
        b"overlay" | b"overlayfs" => stack(&path)
            .map(RootFiles::Stack)
            .ok_or_else(|| format!("its layers {path} are not read")),
        b"loop" | b"nbd" | b"lvm" | b"rbd" | b"zfs" if !path.is_empty() => {
            Ok(RootFiles::Image(path))
        }
        _ => Err(format!("its root {source} is of no kind that is known here")),
    }
}

/// `LOWER:/LOWER:/UPPER`, the lowers as the kernel takes them.
fn stack(text: &BString) -> Option<Vec<BString>> {
    // LXC hands the text to mount(2), where these mean something else.
    if text.contains(&b'\\') || text.contains(&b',') || text.contains_str("::") {
        return None;
    }
    let mut dirs: Vec<BString> = text.split(|b| *b == b':').map(BString::from).collect();
    let upper = dirs.pop()?;
    dirs.insert(0, upper);
    let whole = dirs.len() > 1 && dirs.iter().all(|dir| dir.starts_with(b"/"));
    whole.then_some(dirs)
}

fn mounts(
    host: &Host,
    root: &StateRoot,
    name: &BStr,
    config: &Config,
) -> Result<Vec<Mounting>, String> {
    let memory = |at: &str| Mounting { at: at.into(), from: None };
    let mut all = match config.get("lxc.autodev") {
        Some(no) if no == "0" => TERMINALS.iter().map(|at| memory(at)).collect(),
        _ => vec![memory("/dev")],
    };
    for word in config.all("lxc.mount.auto").iter().flat_map(|line| words(line)) {
        match word.split(|b| *b == b':').next().unwrap_or_default() {
            b"proc" => all.push(memory("/proc")),
            b"sys" => all.push(memory("/sys")),
            word if word.starts_with(b"cgroup") => all.push(memory("/sys/fs/cgroup")),
            _ => {
                return Err(format!(
                    "what lxc.mount.auto = {} mounts is not known",
                    word.as_bstr()
                ));
            }
        }
    }
    let tables = ["lxc.mount.fstab", "lxc.mount"].map(|key| config.get(key));
    let mut lines: Vec<BString> = Vec::new();
    for table in tables.into_iter().flatten() {
        if root.users_own().is_some() {
            return Err(format!("only its user says that {table} is its table of mounts"));
        }
        host.guard(table).map_err(|e| e.to_string())?;
        let bytes = host.root().read(table, CAP).map_err(|e| e.to_string())?;
        lines.extend(bytes.lines().map(BString::from));
    }
    lines.extend(config.all("lxc.mount.entry").into_iter().map(BString::from));
    let own = root.root.join(&[name.as_bytes(), b"/rootfs"].concat());
    let own = host.unrooted(own.as_ref()).unwrap_or(own.as_ref()).to_owned();
    let dirs = [Some(own.as_ref()), config.root_dir()];
    for line in lines {
        all.extend(entry(host, line.as_ref(), &dirs)?);
    }
    Ok(all)
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// A line as of fstab(5); `None` where LXC mounts nothing by it. `dirs` are the container's root as it may be written
/// before where something is mounted.
fn entry(host: &Host, line: &BStr, dirs: &[Option<&BStr>]) -> Result<Option<Mounting>, String> {
    let mut fields = words(line).map(unescape);
    let Some(source) = fields.next().filter(|first| !first.starts_with(b"#")) else {
        return Ok(None);
    };
    let bad = || format!("its mount {line} is not understood");
    let at = fields.next().ok_or_else(bad)?;
    let (kind, options) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let has = |word: &str| options.split(|b| *b == b',').any(|option| option == word.as_bytes());
    let at: BString = match at.first() {
        Some(b'/') => {
            let below = dirs.iter().flatten().find_map(|dir| strip(dir, &at));
            // LXC leaves out what is outside the container's root.
            let Some(below) = below.filter(|below| !below.is_empty()) else { return Ok(None) };
            below.into()
        }
        _ => [b"/", &at[..]].concat().into(),
    };
    if !has("bind") && !has("rbind") {
        // It has directories of the host that are not looked at here.
        let is_stack = kind.contains_str("overlay") || kind == "aufs";
        return if is_stack { Err(bad()) } else { Ok(Some(Mounting { at, from: None })) };
    }
    if !source.starts_with(b"/") || has("relative") {
        return Err(bad());
    }
    if has("optional") && host.guard(&source).is_ok() {
        let look = host.root().look(&source);
        if look.is_err_and(|e| e.class == Class::Gone) {
            return Ok(None);
        }
    }
    Ok(Some(Mounting { at, from: Some(source) }))
}

#[cfg(test)]
mod tests {
    use bstr::{BStr, BString};
    use whose_kernel::Host;
    use whose_kernel::host::Options;
    use whose_kernel::root::Links;

    use super::{StateRoot, entry, files_of, included, stack};
    use crate::model::{Class, RootFiles};

    #[test]
    fn nothing_is_included_that_a_users_link_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let own = "home/alice/.local/share/lxc";
        for dir in ["proc", "etc/lxc", &format!("{own}/c/d")] {
            std::fs::create_dir_all(at(dir)).unwrap();
        }
        for file in ["etc/secret.conf", "etc/lxc/default.conf", &format!("{own}/c/d/own.conf")] {
            std::fs::write(at(file), "lxc.rootfs.path = /x").unwrap();
        }
        for (link, to) in
            [("c/link", "/etc/secret.conf"), ("c/dir", "/etc"), ("c/d/a.conf", "own.conf")]
        {
            std::os::unix::fs::symlink(to, at(own).join(link)).unwrap();
        }
        let root = Some(dir.path().to_str().unwrap().into());
        let host = Host::open(Options { root, ..Options::default() }).unwrap();
        let users = |user| {
            let root = host.root().descend(own.as_bytes(), Links::Never, None).unwrap();
            StateRoot::new(root, None, user)
        };
        let alices = users(Some("alice".into()));
        let of = |root: &StateRoot, path: &str| {
            let read = included(&host, root, BStr::new(path));
            read.map(|files| files.len()).map_err(|gap| gap.class)
        };
        assert_eq!(of(&alices, &format!("/{own}/c/d/own.conf")), Ok(1));
        assert_eq!(of(&alices, "/etc/lxc/default.conf"), Ok(1));
        for bad in ["c/link", "c/dir", "c/dir/secret.conf", "c/d", "c/d/a.conf"] {
            assert_eq!(of(&alices, &format!("/{own}/{bad}")), Err(Class::Malformed), "{bad}");
        }
        for bad in ["/etc/secret.conf", &format!("/{own}/../x"), "/etc/lxc/../secret.conf"] {
            assert_eq!(of(&alices, bad), Err(Class::Forbidden), "{bad}");
        }
        // An administrator's links are his to make.
        assert_eq!(of(&users(None), &format!("/{own}/c/link")), Ok(1));
    }

    #[test]
    fn roots() {
        let host = Host::open(Options::default()).unwrap();
        let of = |text: &str| files_of(&host, BStr::new(text));
        assert_eq!(of("dir:/a/b"), Ok(RootFiles::Dir("/a/b".into())));
        assert_eq!(of("/"), Ok(RootFiles::Dir("/".into())));
        assert_eq!(of("/etc/passwd"), Ok(RootFiles::Image("/etc/passwd".into())));
        assert_eq!(of("loop:/x.img"), Ok(RootFiles::Image("/x.img".into())));
        assert_eq!(of("zfs:tank/a"), Ok(RootFiles::Image("tank/a".into())));
        let layers = ["/u", "/l1", "/l2"].map(BString::from).to_vec();
        assert_eq!(of("overlay:/l1:/l2:/u"), Ok(RootFiles::Stack(layers)));
        for bad in ["dir:a", "overlay:/a", "best:/a", "overlay:/a:b:/u", "/no/such/root"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert_eq!(stack(&"/l\\:x:/u".into()), None);
    }

    #[test]
    fn lines_of_mounts() {
        let host = Host::open(Options::default()).unwrap();
        let dirs = [Some(BStr::new("/var/lib/lxc/a/rootfs"))];
        let of = |line: &str| entry(&host, BStr::new(line), &dirs);
        let told = |line: &str| {
            of(line).unwrap().map(|m| (m.at.to_string(), m.from.map(|from| from.to_string())))
        };
        let is = |at: &str, from: Option<&str>| Some((at.to_owned(), from.map(str::to_owned)));
        assert_eq!(told("/srv/d data none bind,create=dir 0 0"), is("/data", Some("/srv/d")));
        assert_eq!(told("/a\\040b c none rbind"), is("/c", Some("/a b")));
        assert_eq!(told("/s /var/lib/lxc/a/rootfs/m none bind 0 0"), is("/m", Some("/s")));
        assert_eq!(told("tmpfs tmp tmpfs size=1m 0 0"), is("/tmp", None));
        assert_eq!(told("/s /elsewhere none bind 0 0"), None);
        assert_eq!(told("/no/such sys/x none bind,optional 0 0"), None);
        assert_eq!(told("# a comment"), None);
        assert_eq!(told(""), None);
        for bad in ["x y none bind", "x", "/a b none bind,relative", "o m overlay lowerdir=/a"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
