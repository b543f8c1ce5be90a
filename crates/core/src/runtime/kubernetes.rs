//! Kubernetes pods, from the cgroups the kubelet makes, and containers whose engine they hide.
//!
//! `kubepods[/<qos>]/pod<uid>` with the cgroupfs driver, `...kubepods[-<qos>]-pod<uid>.slice` with
//! systemd's, dashes of the uid as `_` (kubernetes pkg/kubelet/cm). A static pod's uid is 32 digits
//! without dashes. What is below the pod belongs to the engine; with cgroupfs that is a bare id,
//! which does not say whose.

use bstr::{BStr, BString, ByteSlice};

use super::claim::{Claim, Subject};
use super::{Runtime, place, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Kubernetes;

/// What is below a pod and whose engine is not known, and pods themselves.
pub const ENGINE: Engine = Engine("kubernetes");

impl Runtime for Kubernetes {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            if let Some(uid) = pod(place.text(), place.parent()) {
                let mut pod = Owner::new(OwnerKind::Pod, ENGINE, uid.clone());
                pod.pod_uid = Some(uid.into());
                return Some(pod);
            }
            let bare = segment::is_hex64(place.text())
                && pod(place.parent(), place.grandparent()).is_some();
            bare.then(|| Owner::new(OwnerKind::Container, ENGINE, place.text()))
        });
        levels.into()
    }
}

/// The uid of the pod that a segment is the cgroup of, given the one before it; also of a container's
/// whose path was meant for the other driver.
#[must_use]
pub fn pod(text: &[u8], parent: &[u8]) -> Option<Vec<u8>> {
    segment::pod_uid_of_slice(text).or_else(|| {
        let of_kubelet =
            parent.ends_with_str("kubepods") || parent == b"burstable" || parent == b"besteffort";
        text.strip_prefix(b"pod").filter(|_| of_kubelet).and_then(segment::pod_uid)
    })
}

/// Where the kubelet puts a pod's cgroup, by both drivers, and as kind and k3d have it.
#[must_use]
pub fn cgroups_of(uid: &BStr) -> Vec<BString> {
    let low = uid.replace("-", "_");
    let low = BStr::new(&low);
    let mut paths = Vec::new();
    for (dir, prefix) in [("", ""), ("/kubelet", "kubelet-")] {
        let slice = if dir.is_empty() { "" } else { "/kubelet.slice" };
        for class in ["", "burstable", "besteffort"] {
            let level = if class.is_empty() { String::new() } else { format!("/{class}") };
            paths.push(format!("{dir}/kubepods{level}/pod{uid}").into());
            let stem = format!("{prefix}kubepods");
            let inner = if class.is_empty() { stem.clone() } else { format!("{stem}-{class}") };
            let level = if class.is_empty() { String::new() } else { format!("/{inner}.slice") };
            paths.push(format!("{slice}/{stem}.slice{level}/{inner}-pod{low}.slice").into());
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::{cgroups_of, pod};

    #[test]
    fn guessed_places_are_the_pods() {
        let uid = "3d4e5f60-4444-4555-8666-777788889999";
        let paths = cgroups_of(BStr::new(uid));
        assert_eq!(paths.len(), 12);
        for path in &paths {
            let mut parts = path.rsplit(|b| *b == b'/');
            let (text, parent) = (parts.next().unwrap(), parts.next().unwrap());
            assert_eq!(pod(text, parent).unwrap(), uid.as_bytes(), "{path}");
        }
        let kind = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
                    kubelet-kubepods-burstable-pod3d4e5f60_4444_4555_8666_777788889999.slice";
        assert!(
            paths.iter().any(|p| *p == kind)
                && paths.contains(&format!("/kubepods/pod{uid}").into())
        );
    }
}
