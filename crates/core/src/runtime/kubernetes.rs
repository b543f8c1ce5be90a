//! Kubernetes pods, from the cgroups the kubelet makes, and containers whose engine they hide.
//!
//! `kubepods[/<qos>]/pod<uid>` with the cgroupfs driver, `...kubepods[-<qos>]-pod<uid>.slice` with
//! systemd's, dashes of the uid as `_` (kubernetes pkg/kubelet/cm). A static pod's uid is 32 digits
//! without dashes. What is below the pod belongs to the engine; with cgroupfs that is a bare id,
//! which does not say whose.

use bstr::ByteSlice;

use super::claim::{Claim, Subject};
use super::{Runtime, place, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Kubernetes;

const ENGINE: Engine = Engine("kubernetes");

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

/// The uid of the pod that a segment is the cgroup of.
fn pod(text: &[u8], parent: &[u8]) -> Option<Vec<u8>> {
    segment::pod_uid_of_slice(text).or_else(|| {
        let of_kubelet =
            parent.ends_with_str("kubepods") || parent == b"burstable" || parent == b"besteffort";
        text.strip_prefix(b"pod").filter(|_| of_kubelet).and_then(segment::pod_uid)
    })
}
