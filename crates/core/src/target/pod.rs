//! A Kubernetes pod: `pod:NAMESPACE/NAME`, a container in it as `pod:NAMESPACE/NAME/CONTAINER`,
//! `pod:UID`, or `pod:NAME` in whichever namespace.

use bstr::{BStr, BString, ByteSlice};

use crate::runtime::PodQuery;
use crate::state::kubelet;

/// Longest name of a pod.
const MOST: usize = 253;

/// What names a pod or a container in one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    /// The pod's uid; then nothing else is given.
    pub uid: Option<BString>,
    /// Its namespace.
    pub namespace: Option<BString>,
    /// Its name.
    pub name: Option<BString>,
    /// A container in it.
    pub container: Option<BString>,
}

impl Name {
    /// What the pod is looked up by; the container in it is another matter.
    #[must_use]
    pub fn query(&self) -> PodQuery<'_> {
        PodQuery {
            uid: self.uid.as_ref().map(|p| p.as_bstr()),
            namespace: self.namespace.as_ref().map(|p| p.as_bstr()),
            name: self.name.as_ref().map(|p| p.as_bstr()),
            container: None,
        }
    }
}

/// What follows `pod:`.
#[must_use]
pub fn long(text: &BStr) -> Option<Name> {
    if let Some(name) = uid(text) {
        return Some(name);
    }
    let parts: Vec<&[u8]> = text.split_str("/").collect();
    if !parts.iter().all(|part| kubelet::is_name(part, MOST)) {
        return None;
    }
    let own = |part: &&[u8]| Some(BString::from(*part));
    let name = |namespace, name, container| Name { uid: None, namespace, name, container };
    match parts.as_slice() {
        [pod] => Some(name(None, own(pod), None)),
        [namespace, pod] => Some(name(own(namespace), own(pod), None)),
        [namespace, pod, container] => Some(name(own(namespace), own(pod), own(container))),
        _ => None,
    }
}

/// A pod by its uid, if the text is one.
#[must_use]
pub fn uid(text: &BStr) -> Option<Name> {
    kubelet::is_uid(text).then(|| Name { uid: Some(text.into()), ..Name::default() })
}

/// A pod by its name in whichever namespace, if the text can be one.
#[must_use]
pub fn bare(text: &BStr) -> Option<Name> {
    uid(text).or_else(|| {
        let fits = kubelet::is_name(text, MOST);
        fits.then(|| Name { name: Some(text.into()), ..Name::default() })
    })
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::{bare, long};

    #[test]
    fn forms() {
        let of = |text: &str| {
            let name = long(BStr::new(text))?;
            let parts = [name.uid, name.namespace, name.name, name.container];
            Some(parts.map(|p| p.map_or_else(|| "-".into(), |p| p.to_string())).join(" "))
        };
        let uid = "3d4e5f60-4444-4555-8666-777788889999";
        assert_eq!(of(uid).unwrap(), format!("{uid} - - -"));
        assert_eq!(of(&"0a".repeat(16)).unwrap(), format!("{} - - -", "0a".repeat(16)));
        assert_eq!(of("web-7d9").unwrap(), "- - web-7d9 -");
        assert_eq!(of("prod/web-7d9").unwrap(), "- prod web-7d9 -");
        assert_eq!(of("prod/web-7d9/app").unwrap(), "- prod web-7d9 app");
        for bad in ["", "/", "prod/", "/web", "a/b/c/d", "a//c", "Prod/web", "a_b/c", "a/../b\n"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert!(bare(BStr::new("web")).is_some() && bare(BStr::new("my_web")).is_none());
    }
}
