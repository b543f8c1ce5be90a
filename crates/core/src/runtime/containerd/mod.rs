//! containerd: CRI's containers, nerdctl's, and those named after a namespace; its shims.
//!
//! What runs is told by the task bundles of its state directory, which need neither containerd nor its
//! database; the rest, and what has no task, by the database. Containers are known by `NAMESPACE/ID`: two namespaces may have the same id.
//!
//! Sources: containerd internal/cri/server/podsandbox/helpers_linux.go (`cri-containerd`),
//! pkg/oci/spec.go (`/<namespace>/<id>`), cmd/containerd-shim-runc-v2/manager/manager_linux.go
//! (the shim's arguments); nerdctl pkg/cmd/container/run_cgroup_linux.go.

mod describe;
mod find;
mod record;
mod roots;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Level, Mine, Proof, Serves, Subject, each_segment};
use super::{FoundRoots, Hints, Matches, PodQuery, Query, Runtime, StateRoot, segment};
use crate::model::{Description, Engine, Mounting, Owner, OwnerKind, Role};
use crate::state::containerd::bundle::{self, is_identifier};

/// See the module.
#[derive(Debug)]
pub(super) struct Containerd;

pub(super) const ENGINE: Engine = Engine("containerd");

/// Namespaces that are nothing else: ctr's and nerdctl's own, and CRI's. Any word can be one, and
/// then the text does not tell it from a cgroup parent that someone gave another engine.
const NAMESPACES: [&[u8]; 2] = [b"default", CRI];
/// CRI's namespace.
const CRI: &[u8] = b"k8s.io";
/// The namespace of BuildKit's workers.
const BUILDKIT: &[u8] = b"buildkit";
/// How the names of systemd's units end that have cgroups.
const UNITS: [&str; 6] = [".service", ".scope", ".slice", ".mount", ".socket", ".swap"];

impl Runtime for Containerd {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = each_segment(subject.lines, &mut container);
        if !subject.is_hosts_own() || segment::names_an_id(subject.lines) {
            return levels.into();
        }
        match subject.comm.as_bytes() {
            b"containerd" => plumbing(levels, None),
            b"containerd-shim" => {
                let Some(args) = subject.args else { return Claim::Need(Needs::CMDLINE) };
                // Docker's own it claims itself.
                match Subject::flag(args, "namespace") {
                    Some(namespace) if !segment::is_dockers_namespace(&namespace) => {
                        plumbing(levels, Subject::flag(args, "id").map(Serves::Id))
                    }
                    _ => levels.into(),
                }
            }
            _ => levels.into(),
        }
    }

    fn monitor(&self) -> Option<&'static str> {
        Some("containerd-shim")
    }

    fn watched(&self, args: &[BString]) -> Option<BString> {
        let namespace = Subject::flag(args, "namespace")?;
        let id = Subject::flag(args, "id").filter(|id| is_identifier(id))?;
        let others = is_identifier(&namespace) && !segment::is_others_namespace(&namespace);
        others.then(|| [namespace.as_slice(), b"/", &id].concat().into())
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        roots::find(host, hints)
    }

    fn find(&self, host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        find::find(host, root, query)
    }

    fn find_in_pods(
        &self,
        host: &Host,
        root: &StateRoot,
        query: PodQuery<'_>,
    ) -> Result<Matches, ReadError> {
        Ok(find::in_pods(host, root, query))
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        find::running(root)
    }

    fn ended(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        find::ended(root)
    }

    fn may_run(&self, root: &StateRoot, key: &BStr) -> Result<bool, ReadError> {
        describe::place_in_files(root, key).map(|places| !places.is_empty())
    }

    fn keeps_mounts(&self) -> bool {
        true
    }

    fn mounts(&self, root: &StateRoot, key: &BStr) -> Option<Result<Vec<Mounting>, ReadError>> {
        Some(record::mounts(root, key))
    }

    fn describe(
        &self,
        root: &StateRoot,
        key: &BStr,
        needs: Needs,
    ) -> Option<Result<Description, ReadError>> {
        Some(describe::describe(root, key, needs))
    }

    fn cgroups_of(&self, root: &StateRoot, key: &BStr) -> Vec<BString> {
        describe::describe(root, key, Needs::NONE).map(|d| d.cgroups).unwrap_or_default()
    }
}

/// Roots of containerd's, for an engine that has its containers in a namespace there.
pub(super) fn roots_for(host: &Host, hints: Hints<'_>) -> FoundRoots {
    roots::find(host, hints)
}

/// The ids of all containers in a namespace, running or not, sorted.
pub(super) fn ids_in(root: &StateRoot, namespace: &[u8]) -> Result<Vec<BString>, ReadError> {
    let gone = |read: Result<Vec<BString>, ReadError>| match read {
        Err(e) if e.class == Class::Gone => Ok(Vec::new()),
        read => read,
    };
    let run = root.run.as_ref().map(|run| bundle::ids(run, namespace));
    let mut ids = gone(run.unwrap_or_else(|| Ok(Vec::new())))?;
    ids.extend(gone(record::database(root).and_then(|all| all.ids(namespace)))?);
    ids.retain(|id| is_identifier(id));
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// What is known of a container in a namespace.
pub(super) fn describe_in(
    root: &StateRoot,
    namespace: &[u8],
    id: &[u8],
    needs: Needs,
) -> Result<Description, ReadError> {
    if !is_identifier(id) {
        return Err(ReadError::new(root.root.shown(), Class::Gone, "no id of a container"));
    }
    describe::of_place(root, describe::Place::new(namespace, id), needs)
}

fn plumbing(levels: Vec<Level>, serves: Option<Serves>) -> Claim {
    Claim::Mine(Mine { levels, role: Some(Role::Plumbing), serves })
}

/// What a segment may be: CRI's and nerdctl's scopes by their text, a bare id only with the state's
/// word, and `/NAMESPACE/ID` of names that someone chose no more than a guess.
fn container(previous: Option<&BStr>, text: &BStr) -> Option<(Owner, Proof)> {
    let of_text =
        segment::scope_id(text, "cri-containerd").or_else(|| segment::scope_id(text, "nerdctl"));
    if let Some(id) = of_text {
        let mut owner = Owner::new(OwnerKind::Container, ENGINE, id);
        // The mismatched form has the pod's slice in the same segment.
        owner.pod_uid = segment::pod_uid_of_slice(text).map(Into::into);
        return Some((owner, Proof::Text));
    }
    let parent = previous?;
    let owner = || Owner::new(OwnerKind::Container, ENGINE, text);
    if segment::is_hex64(text) {
        let proof = match NAMESPACES.contains(&parent.as_bytes()) {
            true => Proof::Text,
            // Docker's by the text.
            false if parent == "docker" => return None,
            false => Proof::State,
        };
        return Some((owner(), proof));
    }
    let unit = |s: &BStr| UNITS.iter().any(|end| s.ends_with_str(end));
    let names = is_identifier(parent) && is_identifier(text) && !unit(parent) && !unit(text);
    let step = parent.as_bytes() == BUILDKIT && segment::is_buildkit_id(text);
    let guess = names && !step && !segment::is_others_namespace(parent);
    guess.then(|| (Owner { namespace: parent.into(), ..owner() }, Proof::Guess))
}

#[cfg(test)]
mod tests {
    use bstr::{BStr, BString};
    use whose_kernel::parse::cgroup::parse;

    use super::Containerd;
    use crate::model::Role;
    use crate::runtime::{Claim, Proof, Runtime, Serves, Subject};

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

    fn levels(cgroup: &str) -> Vec<(String, Proof)> {
        match claim(cgroup, "x", Some(&[]), &[7, 1]) {
            Claim::Mine(mine) => {
                mine.levels.iter().map(|l| (l.owner.key().to_string(), l.proof)).collect()
            }
            _ => Vec::new(),
        }
    }

    #[test]
    fn names_are_guesses_and_ids_need_the_states_word() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(levels("0::/default/lab-ctr\n"), [("default/lab-ctr".into(), Proof::Guess)]);
        assert_eq!(levels(&format!("0::/default/{id}\n")), [(id.clone(), Proof::Text)]);
        assert_eq!(levels(&format!("0::/lab/{id}\n")), [(id.clone(), Proof::State)]);
        for none in [
            format!("0::/docker/{id}"),
            "0::/system.slice/nginx.service".into(),
            "0::/a/init.scope".into(),
            "0::/buildkit/wzswqs8aincjb63xfdhov1b6r".into(),
            "0::/moby/x".into(),
            "0::/a/.x".into(),
            "0::/x".into(),
        ] {
            assert_eq!(levels(&format!("{none}\n")), [], "{none}");
        }
    }

    #[test]
    fn a_monitor_watches_a_key_that_is_not_dockers() {
        let of = |namespace: &str, id: &str| {
            Containerd.watched(&["shim", "-namespace", namespace, "-id", id].map(BString::from))
        };
        assert_eq!(of("default", "x").unwrap(), "default/x");
        for (namespace, id) in [("moby", "x"), ("moby-1.2", "x"), ("a/b", "x"), ("a", "../x")] {
            assert_eq!(of(namespace, id), None);
        }
    }
}
