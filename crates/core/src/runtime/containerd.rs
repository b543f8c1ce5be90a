//! containerd: CRI's containers, nerdctl's, and those named after a namespace; its shims.
//!
//! Sources: containerd internal/cri/server/podsandbox/helpers_linux.go (`cri-containerd`),
//! pkg/oci/spec.go (`/<namespace>/<id>`), cmd/containerd-shim-runc-v2/manager/manager_linux.go
//! (the shim's arguments); nerdctl pkg/cmd/container/run_cgroup_linux.go.

use bstr::ByteSlice;
use whose_fields::Needs;

use super::claim::{Claim, Subject};
use super::place::{self, Place, Plumbing};
use super::{Runtime, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Containerd;

const ENGINE: Engine = Engine("containerd");

/// Namespaces that are nothing else: ctr's and nerdctl's own, and CRI's. Any word can be one, and
/// then the text does not tell it from a cgroup parent that someone gave another engine.
const NAMESPACES: [&[u8]; 2] = [b"default", b"k8s.io"];

impl Runtime for Containerd {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, container);
        if !subject.is_hosts_own() || segment::names_an_id(subject.lines) {
            return levels.into();
        }
        match subject.comm.as_bytes() {
            b"containerd" => place::claim(levels, Some(Plumbing(None))),
            b"containerd-shim" => match subject.args {
                None => Claim::Need(Needs::CMDLINE),
                Some(args) => {
                    // Docker's own it claims itself.
                    let namespace = Subject::flag(args, "namespace");
                    let other = namespace.is_some_and(|n| !n.starts_with(b"moby"));
                    let serves = || match Subject::flag(args, "id") {
                        Some(id) => Plumbing::of(&id),
                        None => Plumbing(None),
                    };
                    place::claim(levels, other.then(serves))
                }
            },
            _ => levels.into(),
        }
    }
}

fn container(place: Place<'_>) -> Option<Owner> {
    let text = place.text();
    let in_namespace = NAMESPACES.contains(&place.parent()) && segment::is_hex64(text);
    let id = segment::scope_id(text, "cri-containerd")
        .or_else(|| segment::scope_id(text, "nerdctl"))
        .or(in_namespace.then_some(text))?;
    let mut owner = Owner::new(OwnerKind::Container, ENGINE, id);
    // The mismatched form has the pod's slice in the same segment.
    owner.pod_uid = segment::pod_uid_of_slice(text).map(Into::into);
    Some(owner)
}

#[cfg(test)]
mod tests {
    use bstr::{BStr, BString};
    use whose_kernel::parse::cgroup::parse;

    use super::Containerd;
    use crate::model::Role;
    use crate::runtime::{Claim, Runtime, Serves, Subject};

    fn claim(cgroup: &str, comm: &str, args: Option<&[BString]>, nspid: &[u32]) -> Claim {
        let lines = parse(cgroup.as_bytes()).unwrap();
        let nspid = Some(nspid);
        let comm = BStr::new(comm);
        Containerd.claim(&Subject { lines: &lines, comm, args, uid: Some(0), nspid })
    }

    #[test]
    fn a_shim_says_whom_it_serves_and_dockers_is_dockers() {
        let unit = "0::/system.slice/k3s.service\n";
        let shim = "containerd-shim";
        let args = |namespace: &str| [shim, "-namespace", namespace, "-id", "x"].map(BString::from);
        assert!(matches!(claim(unit, shim, None, &[7]), Claim::Need(_)));
        let Claim::Mine(mine) = claim(unit, shim, Some(&args("k8s.io")), &[7]) else {
            panic!("not claimed");
        };
        assert_eq!(mine.role, Some(Role::Plumbing));
        assert_eq!(mine.serves, Some(Serves::Id("x".into())));
        assert_eq!(claim(unit, shim, Some(&args("moby")), &[7]), Claim::NotMine);
        assert_eq!(claim(unit, shim, Some(&[]), &[7]), Claim::NotMine);
    }

    #[test]
    fn who_is_in_a_container_is_no_shim_whatever_its_name() {
        let id = "0123456789abcdef".repeat(4);
        let docker = format!("0::/system.slice/docker-{id}.scope\n");
        assert_eq!(claim(&docker, "containerd-shim", None, &[7]), Claim::NotMine);
        assert_eq!(claim("0::/\n", "containerd-shim", None, &[7, 1]), Claim::NotMine);
        assert!(matches!(claim("0::/\n", "containerd", None, &[7]), Claim::Mine(_)));
    }
}
