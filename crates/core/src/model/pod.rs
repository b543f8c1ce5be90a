//! Kubernetes pods as owners know them.

use bstr::{BStr, BString, ByteSlice};

use super::Source;

/// A Kubernetes pod, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Pod name.
    pub name: Option<BString>,
    /// Pod namespace.
    pub namespace: Option<BString>,
    /// Pod uid, with dashes; 32 hex digits without for a static pod.
    pub uid: Option<BString>,
    /// Container name in the pod.
    pub container: Option<BString>,
    /// How often the kubelet has started the container again.
    pub restarts: Option<u32>,
}

impl Pod {
    /// The same, with what only `other` knows.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        let or = |mine: Option<BString>, its: &Option<BString>| mine.or_else(|| its.clone());
        Self {
            name: or(self.name, &other.name),
            namespace: or(self.namespace, &other.namespace),
            uid: or(self.uid, &other.uid),
            container: or(self.container, &other.container),
            restarts: self.restarts.or(other.restarts),
        }
    }

    /// Whether it may be of the pod with this uid: it says no other.
    #[must_use]
    pub fn is_of(&self, uid: Option<&BString>) -> bool {
        match (&self.uid, uid) {
            (Some(own), Some(uid)) => own == uid,
            _ => true,
        }
    }

    /// `namespace/name`, when both are known.
    #[must_use]
    pub fn full_name(&self) -> Option<BString> {
        let (namespace, name) = (self.namespace.as_ref()?, self.name.as_ref()?);
        Some([namespace.as_slice(), b"/", name].concat().into())
    }
}

/// What the kubelet's own files say of a pod or of a container in it, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenPod {
    /// The pod.
    pub pod: Pod,
    /// Where it was seen: a name among the kubelet's files, or a mount of one.
    pub source: Source,
    /// The file or directory whose name says so, or the mount table.
    pub path: BString,
}

/// The quality of service class that a cgroup path puts its pod in: the kubelet has a level for two of
/// them, and none for `guaranteed` (kubernetes pkg/kubelet/cm/pod_container_manager_linux.go). The
/// innermost pod of the path counts.
#[must_use]
pub fn qos(cgroup: &BStr) -> Option<&'static str> {
    let mut class = None;
    let mut above: &[u8] = b"";
    for segment in cgroup.split(|b| *b == b'/') {
        class = of_slice(segment).or_else(|| of_directory(above, segment)).or(class);
        above = segment;
    }
    class
}

fn of_slice(segment: &[u8]) -> Option<&'static str> {
    let stem = &segment[..segment.find(b".slice")?];
    let (above, _) = stem.rsplit_once_str("-pod")?;
    let word = above.rsplit_str("kubepods").next().filter(|w| w.len() < above.len())?;
    match word {
        b"" => Some("guaranteed"),
        b"-burstable" => Some("burstable"),
        b"-besteffort" => Some("besteffort"),
        _ => None,
    }
}

fn of_directory(above: &[u8], segment: &[u8]) -> Option<&'static str> {
    segment.strip_prefix(b"pod").filter(|uid| !uid.is_empty())?;
    match above {
        b"burstable" => Some("burstable"),
        b"besteffort" => Some("besteffort"),
        other => other.ends_with(b"kubepods").then_some("guaranteed"),
    }
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::{Pod, qos};

    #[test]
    fn classes_by_path() {
        let uid = "3d4e5f60-4444-4555-8666-777788889999";
        let low = uid.replace('-', "_");
        for (path, class) in [
            (format!("/kubepods/burstable/pod{uid}/x"), Some("burstable")),
            (format!("/kubepods/besteffort/pod{uid}"), Some("besteffort")),
            (format!("/kubelet/kubepods/pod{uid}/x"), Some("guaranteed")),
            (
                format!("/kubepods.slice/kubepods-pod{low}.slice/cri-containerd-x.scope"),
                Some("guaranteed"),
            ),
            (
                format!("/kubelet.slice/kubelet-kubepods-burstable-pod{low}.slice/x"),
                Some("burstable"),
            ),
            (format!("/kubepods-besteffort-pod{low}.slice:cri-containerd:x"), Some("besteffort")),
            (format!("/kubepods/burstable/pod{uid}/x/kubepods/pod{uid}/y"), Some("guaranteed")),
            (format!("/burst/pod{uid}/x"), None),
            (format!("/kubepods-other-pod{low}.slice"), None),
            ("/docker/x".into(), None),
            ("".into(), None),
        ] {
            assert_eq!(qos(BStr::new(&path)), class, "{path}");
        }
    }

    #[test]
    fn what_another_knows_is_added_and_replaces_nothing() {
        let name = Pod { name: Some("web".into()), ..Pod::default() };
        let other =
            Pod { name: Some("x".into()), namespace: Some("prod".into()), ..Pod::default() };
        assert_eq!(name.full_name(), None);
        let both = name.or(&other);
        assert_eq!(both.full_name().unwrap(), "prod/web");
        assert!(both.is_of(Some(&"u".into())) && both.is_of(None));
        let known = Pod { uid: Some("v".into()), ..both };
        assert!(!known.is_of(Some(&"u".into())) && known.is_of(Some(&"v".into())));
    }
}
