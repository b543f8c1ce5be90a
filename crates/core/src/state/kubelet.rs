//! What the names of the kubelet's files say of pods. Nothing is read in them.
//!
//! Sources: kubernetes pkg/kubelet/kuberuntime/helpers.go and legacy.go (log directories and links),
//! pkg/kubelet/kubelet_getters.go (pod directories), pkg/kubelet/kuberuntime/logs/logs.go (rotation).

use std::collections::HashMap;

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError, parse};

use crate::model::Pod;

/// Where the kubelet links to the log of each container. No setting moves it.
pub const LINKS: &str = "var/log/containers";
/// Where it makes a directory for the logs of each pod, unless `podLogsDir` moves it.
pub const LOGS: &str = "var/log/pods";
/// Its own directories when `--root-dir` moves none: everybody's, and microk8s'.
pub const ROOTS: [&str; 2] = ["var/lib/kubelet", "var/snap/microk8s/common/var/lib/kubelet"];

/// Entries that a directory may hold: a node runs some hundred pods, and the logs of what it ran
/// before are removed in time.
const MOST: usize = 100_000;
/// Longest name of a namespace or container (a DNS label), and of a pod (a DNS name).
const LABEL: usize = 63;
const NAME: usize = 253;

/// Whether the text is a UUID of lower-case digits with `dash` between its groups.
#[must_use]
pub fn is_uuid(text: &[u8], dash: u8) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == dash,
            _ => is_digit(*b),
        })
}

/// Whether the text is a pod's uid: a UUID, or the 32 digits of a static pod's hash.
#[must_use]
pub fn is_uid(text: &[u8]) -> bool {
    is_uuid(text, b'-') || (text.len() == 32 && text.iter().all(|b| is_digit(*b)))
}

fn is_digit(b: u8) -> bool {
    b.is_ascii_digit() || (b'a'..=b'f').contains(&b)
}

/// Whether Kubernetes allows such a name. None has a `_` in it, which is what stands between them.
#[must_use]
pub fn is_name(text: &[u8], most: usize) -> bool {
    let fits = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(b);
    !text.is_empty() && text.len() <= most && text.iter().all(fits)
}

/// Id and pod of the container that a link is named after: `<pod>_<namespace>_<container>-<id>.log`.
/// Names are cut to 255 bytes, and then the id at their end is not whole: those say nothing.
#[must_use]
pub fn parse_link(name: &[u8]) -> Option<(BString, Pod)> {
    let (head, id) = name.strip_suffix(b".log")?.rsplit_once_str("-")?;
    if id.len() != 64 || !id.iter().all(|b| is_digit(*b)) {
        return None;
    }
    let [pod, namespace, container] = three(head)?;
    let fit = is_name(pod, NAME) && is_name(namespace, LABEL) && is_name(container, LABEL);
    let pod = Pod {
        name: Some(pod.into()),
        namespace: Some(namespace.into()),
        container: Some(container.into()),
        ..Pod::default()
    };
    fit.then(|| (id.into(), pod))
}

/// The pod that a directory of logs is named after: `<namespace>_<pod>_<uid>`, or the uid alone as
/// before Kubernetes 1.14.
#[must_use]
pub fn parse_log_dir(name: &[u8]) -> Option<Pod> {
    if is_uid(name) {
        return Some(Pod { uid: Some(name.into()), ..Pod::default() });
    }
    let [namespace, pod, uid] = three(name)?;
    let fit = is_name(namespace, LABEL) && is_name(pod, NAME) && is_uid(uid);
    fit.then(|| Pod {
        name: Some(pod.into()),
        namespace: Some(namespace.into()),
        uid: Some(uid.into()),
        ..Pod::default()
    })
}

/// The pod and container of a log file by its path: `.../<namespace>_<pod>_<uid>/<container>/<n>.log`
/// or `.../<uid>/<container>_<n>.log` of old, where n is the number of restarts.
#[must_use]
pub fn parse_log_path(path: &[u8]) -> Option<Pod> {
    let stem = path.strip_suffix(b".log").filter(|p| p.starts_with(b"/"))?;
    let (dir, last) = stem.rsplit_once_str("/")?;
    let (dir, container, number) = match dir.rsplit_once_str("/") {
        Some((above, container)) if parse::decimal32(last).is_some() => (above, container, last),
        _ => {
            let (container, number) = last.rsplit_once_str("_")?;
            (dir, container, number)
        }
    };
    let name = dir.rsplit_str("/").next()?;
    let pod = parse_log_dir(name).filter(|_| is_name(container, LABEL))?;
    let restarts = Some(parse::decimal32(number)?);
    Some(Pod { container: Some(container.into()), restarts, ..pod })
}

/// What a mount of a pod's own directory says, by its place in its file system:
/// `.../pods/<uid>/etc-hosts` or `.../pods/<uid>/containers/<container>/<8 digits>`.
#[must_use]
pub fn parse_mount(root: &[u8]) -> Option<Pod> {
    // Whoever mounts may have a directory of any name, but only beneath his own pod's.
    let at = root.find("/pods/")?;
    let mut parts = root[at + 1..].rsplit_str("/");
    let last = parts.next()?;
    let (container, uid) = if last == b"etc-hosts" {
        (None, parts.next()?)
    } else {
        let container =
            parts.next().filter(|c| is_name(c, LABEL) && last.iter().all(|b| is_digit(*b)))?;
        parts.next().filter(|word| *word == b"containers")?;
        (Some(container.into()), parts.next()?)
    };
    let is_pods = parts.next() == Some(b"pods") && parts.next().is_none() && is_uid(uid);
    is_pods.then(|| Pod { uid: Some(uid.into()), container, ..Pod::default() })
}

/// The pod, and the container where that is told, whose directory a path of the host lies in: below the
/// kubelet's directory of pods, or below that of their logs. Anybody may call a directory so, but in these
/// places only root makes them; what `--root-dir` or `podLogsDir` moved is not known by its path.
#[must_use]
pub fn parse_place(path: &[u8]) -> Option<Pod> {
    let below = |dir: &str| {
        let rest = path.strip_prefix(b"/")?.strip_prefix(dir.as_bytes())?;
        Some(rest.strip_prefix(b"/")?.split_str("/"))
    };
    let named = |name: Option<&[u8]>| name.filter(|c| is_name(c, LABEL)).map(BString::from);
    if let Some(mut parts) = below(LOGS) {
        let pod = parse_log_dir(parts.next()?)?;
        let container = parse_log_path(path).and_then(|pod| pod.container);
        return Some(Pod { container: container.or_else(|| named(parts.next())), ..pod });
    }
    let mut parts = ROOTS.iter().find_map(|root| below(&format!("{root}/pods")))?;
    let uid = parts.next().filter(|uid| is_uid(uid))?;
    // pkg/volume/util/subpath: the volume is between the two.
    let container = match parts.next() {
        Some(b"containers") => named(parts.next()),
        Some(b"volume-subpaths") => named(parts.nth(1)),
        _ => None,
    };
    Some(Pod { uid: Some(uid.into()), container, ..Pod::default() })
}

fn three(text: &[u8]) -> Option<[&[u8]; 3]> {
    let mut parts = text.split_str("_");
    let found = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(found)
}

/// Where the kubelet keeps logs, when its configuration (YAML) moves them: `podLogsDir: /path`, on a
/// line of its own as the kubelet's own tools write it.
#[must_use]
pub fn parse_config(bytes: &[u8]) -> Option<BString> {
    let value = |line: &[u8]| -> Option<BString> {
        let value = line.strip_prefix(b"podLogsDir:")?.trim_ascii();
        let quoted = |q: &[u8]| value.strip_prefix(q).and_then(|v| v.strip_suffix(q));
        Some(quoted(b"\"").or(quoted(b"'")).unwrap_or(value).into())
    };
    let path = bytes.lines().find_map(value)?;
    let plain = path.starts_with(b"/") && !path.contains(&0) && !path.contains(&b'#');
    plain.then_some(path)
}

/// Containers by id, as the links to their logs name them. What two links say of one id counts for
/// nothing.
///
/// # Errors
/// When the directory can't be read or holds too many. One that is not there holds none.
pub fn links(root: &Root, dir: &BStr) -> Result<HashMap<BString, (BString, Pod)>, ReadError> {
    let mut twice = Vec::new();
    let mut found = HashMap::new();
    for name in names(root, dir)? {
        let Some((id, pod)) = parse_link(&name) else { continue };
        if found.insert(id.clone(), (name, pod)).is_some() {
            twice.push(id);
        }
    }
    for id in twice {
        found.remove(&id);
    }
    Ok(found)
}

/// Pods by uid, as the directories of their logs name them. What two of them say of one uid counts
/// for nothing.
///
/// # Errors
/// As [`links`].
pub fn log_dirs(root: &Root, dir: &BStr) -> Result<HashMap<BString, (BString, Pod)>, ReadError> {
    let mut found: HashMap<BString, (BString, Pod)> = HashMap::new();
    let mut twice = Vec::new();
    for name in names(root, dir)? {
        let Some(pod) = parse_log_dir(&name) else { continue };
        let uid = pod.uid.clone().unwrap_or_default();
        match found.get(&uid) {
            // The name of old says less, and no other.
            Some((_, known)) if pod.name.is_none() || known.name.is_none() => {
                if pod.name.is_some() {
                    found.insert(uid, (name, pod));
                }
            }
            Some(_) => twice.push(uid),
            None => {
                found.insert(uid, (name, pod));
            }
        }
    }
    for uid in twice {
        found.remove(&uid);
    }
    Ok(found)
}

fn names(root: &Root, dir: &BStr) -> Result<Vec<BString>, ReadError> {
    match root.list(dir, MOST) {
        Ok(entries) => Ok(entries.into_iter().map(|e| e.name).collect()),
        Err(e) if e.class == Class::Gone => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// The pod that a container's link leads to, by the link's text. The link is not followed.
#[must_use]
pub fn linked(root: &Root, dir: &BStr, name: &[u8]) -> Option<Pod> {
    let path = [dir.as_bytes(), b"/", name].concat();
    root.read_link(&path).ok().and_then(|text| parse_log_path(&text))
}

#[cfg(test)]
mod tests {
    use super::{
        parse_config, parse_link, parse_log_dir, parse_log_path, parse_mount, parse_place,
    };

    const UID: &str = "3d4e5f60-4444-4555-8666-777788889999";
    const STATIC: &str = "097bb9198e3765f6e6f442dc4014e7dd";

    fn id() -> String {
        "0123456789abcdef".repeat(4)
    }

    #[test]
    fn links_to_logs() {
        let (found, pod) =
            parse_link(format!("web-7d9_prod_app-side-{}.log", id()).as_bytes()).unwrap();
        assert_eq!(found, id());
        assert_eq!(pod.full_name().unwrap(), "prod/web-7d9");
        assert_eq!(pod.container.unwrap(), "app-side");
        let cut = format!("{}_prod_app-{}", "w".repeat(200), id());
        for bad in [
            format!("web_prod_app-{}", id()),
            format!("web_prod_app-{}0.log", id()),
            format!("web_prod_app-{}.log", &id()[..63]),
            format!("web_prod_app_{}.log", id()),
            format!("web_pr_od_app-{}.log", id()),
            format!("_prod_app-{}.log", id()),
            format!("web__app-{}.log", id()),
            format!("web_prod_-{}.log", id()),
            format!("web_prod-{}.log", id()),
            format!("we/b_prod_app-{}.log", id()),
            format!("WEB_prod_app-{}.log", id()),
            format!("{}.log", &cut[..251]),
            String::new(),
            ".log".into(),
        ] {
            assert_eq!(parse_link(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn directories_of_logs() {
        for uid in [UID, STATIC] {
            let pod = parse_log_dir(format!("kube-system_etcd-n1_{uid}").as_bytes()).unwrap();
            assert_eq!(pod.full_name().unwrap(), "kube-system/etcd-n1");
            assert_eq!(pod.uid.unwrap(), uid);
            let old = parse_log_dir(uid.as_bytes()).unwrap();
            assert_eq!((old.uid.unwrap(), old.name), (uid.into(), None));
        }
        for bad in ["", "a_b", "a_b_c", "a_b_c_d", "__", "lost+found"] {
            assert_eq!(parse_log_dir(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_log_dir(format!("a_b_c_{UID}").as_bytes()), None);
        assert_eq!(parse_log_dir(UID.to_uppercase().as_bytes()), None);
    }

    #[test]
    fn paths_of_logs() {
        let pod = parse_log_path(format!("/var/log/pods/prod_web_{UID}/app/12.log").as_bytes());
        let pod = pod.unwrap();
        assert_eq!((pod.restarts, pod.container.unwrap()), (Some(12), "app".into()));
        assert_eq!((pod.uid.unwrap(), pod.name.unwrap()), (UID.into(), "web".into()));
        let old = parse_log_path(format!("/var/log/pods/{UID}/app_3.log").as_bytes()).unwrap();
        assert_eq!((old.restarts, old.container.unwrap()), (Some(3), "app".into()));
        for bad in [
            format!("var/log/pods/prod_web_{UID}/app/1.log"),
            format!("/var/log/pods/prod_web_{UID}/app/1.log.gz"),
            format!("/var/log/pods/prod_web_{UID}/app/x.log"),
            format!("/var/log/pods/prod_web_{UID}/../1.log.log"),
            format!("/var/log/pods/prod_web_{UID}/app/99999999999.log"),
            "/etc/passwd".into(),
            "/.log".into(),
            ".log".into(),
        ] {
            assert_eq!(parse_log_path(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn places_in_a_pods_directories() {
        let uid = "9f2f44d8-0a4d-4f64-9e4c-3d6d0ab5fb1f";
        let of = |path: String| {
            let pod = parse_place(path.as_bytes())?;
            Some((pod.uid?.to_string(), pod.container.map(|c| c.to_string())))
        };
        let pods = |rest: &str| of(format!("/var/lib/kubelet/pods/{uid}{rest}"));
        let is = |container: Option<&str>| Some((uid.to_owned(), container.map(str::to_owned)));
        for rest in ["", "/etc-hosts", "/volumes/kubernetes.io~empty-dir/data/x", "/containers"] {
            assert_eq!(pods(rest), is(None), "{rest}");
        }
        assert_eq!(pods("/containers/app/0a1b2c3d"), is(Some("app")));
        assert_eq!(pods("/volume-subpaths/data/app/0"), is(Some("app")));
        assert_eq!(pods("/containers/not_one/x"), is(None));
        let logs = |rest: &str| of(format!("/var/log/pods/shop_web-7d9_{uid}{rest}"));
        assert_eq!(logs(""), is(None));
        assert_eq!(logs("/app/0.log"), is(Some("app")));
        assert_eq!(logs("/app"), is(Some("app")));
        assert_eq!(of(format!("/var/log/pods/{uid}/app_0.log")), is(Some("app")));
        let k8s = format!("/var/snap/microk8s/common/var/lib/kubelet/pods/{uid}/x");
        assert_eq!(of(k8s), is(None));
        for none in ["/var/lib/kubelet/pods", "/var/lib/kubelet/pods/x/y", "/var/log/pods/a_b_c/x"]
        {
            assert_eq!(of(none.into()), None, "{none}");
        }
        // Anybody's directory of that name.
        assert_eq!(of(format!("/srv/var/lib/kubelet/pods/{uid}/etc-hosts")), None);
    }

    #[test]
    fn mounts_of_a_pods_directory() {
        let at = |rest: &str| parse_mount(format!("/srv/kubelet/pods/{rest}").as_bytes());
        let hosts = at(&format!("{UID}/etc-hosts")).unwrap();
        assert_eq!((hosts.uid.unwrap(), hosts.container), (UID.into(), None));
        let log = at(&format!("{STATIC}/containers/etcd/0a1b2c3d")).unwrap();
        assert_eq!((log.uid.unwrap(), log.container.unwrap()), (STATIC.into(), "etcd".into()));
        for bad in ["x/etc-hosts", "x/containers/app/0a", &format!("{UID}/volumes/app/0a"), UID] {
            assert_eq!(at(bad), None, "{bad}");
        }
        assert_eq!(parse_mount(format!("/x/{UID}/etc-hosts").as_bytes()), None);
        assert_eq!(at(&format!("{UID}/volumes/v/pods/{UID}/etc-hosts")), None);
    }

    #[test]
    fn moved_logs() {
        let config = b"kind: KubeletConfiguration\npodLogsDir: \"/srv/logs\"\nport: 10250\n";
        assert_eq!(parse_config(config).unwrap(), "/srv/logs");
        assert_eq!(parse_config(b"podLogsDir: /srv/logs  \n").unwrap(), "/srv/logs");
        for bad in ["podLogsDir: srv\n", "  podLogsDir: /x\n", "podLogsDir: /x # y\n", ""] {
            assert_eq!(parse_config(bad.as_bytes()), None, "{bad}");
        }
    }
}
