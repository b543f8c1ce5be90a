//! gVisor: its own containers, and the sandboxes in which it runs those of other engines.
//!
//! `runsc-<id>.scope` with systemd's driver and no engine (gvisor g3doc/user_guide/systemd.md); else
//! the cgroup is the engine's. What shows on the host is the sentry, the gofer, and under some
//! platforms processes that hold the workload's memory and are none of its own. State: runsc's root,
//! which the engine chooses (moby daemon/runtime_unix.go; gvisor pkg/shim/v1/proc/init.go).

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::Host;
use whose_kernel::root::{Links, Root};

use super::claim::{Claim, Subject};
use super::{Runtime, Sandbox, place, segment};
use crate::model::{Engine, Owner, OwnerKind};
use crate::state::{json, runsc};

/// See the module.
#[derive(Debug)]
pub(super) struct Gvisor;

const ENGINE: Engine = Engine("gvisor");

/// Where runsc keeps its state for itself, for Docker and for containerd. Below the last two there is
/// a directory for each of containerd's namespaces.
const OWN: &str = "run/runsc";
const BY_NAMESPACE: [&str; 2] = ["run/docker/runtime-runc", "run/containerd/runsc"];
/// The end of the address of a containerd that dockerd started, in its exec root.
const OF_DOCKER: &[u8] = b"/containerd/containerd.sock";
/// Entries that such a directory may have.
const MOST: usize = 100_000;

impl Runtime for Gvisor {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let id = segment::own_scope(place.text(), "runsc")?;
            Some(Owner::new(OwnerKind::Container, ENGINE, id))
        });
        levels.into()
    }

    fn hides(&self) -> Option<&'static str> {
        Some("gVisor runs them in a kernel of its own")
    }

    fn sandbox_names(&self) -> &'static [&'static str] {
        // It runs itself as /proc/self/exe.
        &["exe", "runsc", "runsc-sandbox", "runsc-gofer"]
    }

    fn sandbox(&self, host: &Host, id: &BStr, shim: Option<&[BString]>) -> Option<Sandbox> {
        let dirs = directories(host, shim.unwrap_or_default());
        dirs.iter().find_map(|dir| in_directory(host, dir, id, shim.is_some()))
    }
}

/// The directories in which its state may be; those that the shim's arguments tell of come last.
fn directories(host: &Host, shim: &[BString]) -> Vec<BString> {
    let mut dirs: Vec<BString> = vec![OWN.into()];
    for parent in BY_NAMESPACE {
        let entries = host.root().list(parent.as_bytes(), MOST).unwrap_or_default();
        let inner = entries.into_iter().filter(|e| e.is_dir);
        dirs.extend(inner.map(|e| format!("{parent}/{}", e.name).into()));
    }
    let address = Subject::flag(shim, "address");
    let namespace = Subject::flag(shim, "namespace");
    if let (Some(address), Some(namespace)) = (address, namespace)
        && let Some(exec_root) = address.strip_suffix(OF_DOCKER)
        && segment::chosen(&namespace).is_some()
    {
        dirs.push([exec_root, b"/runtime-runc/", &namespace].concat().into());
    }
    dirs
}

fn in_directory(host: &Host, dir: &BString, id: &BStr, is_seen: bool) -> Option<Sandbox> {
    host.guard(dir).ok()?;
    // Only what root wrote is believed.
    let owner = (host.mode() != whose_kernel::Mode::Saved).then_some(0);
    let root = host.root().descend(dir, Links::Never, owner).ok()?;
    let own = [id.as_bytes(), b"_sandbox:", id.as_bytes(), b".state"].concat();
    // A pod's first container has its sandbox's id. The others have no process on the host.
    let state = read(&root, &own).or_else(|| {
        let entries = if is_seen { Vec::new() } else { root.list(b"", MOST).ok()? };
        let name = entries.into_iter().find(|e| runsc::is_state_of(&e.name, id))?.name;
        read(&root, &name)
    });
    let (state, path) = state.filter(|(state, _)| state.id.as_bytes() == id.as_bytes())?;
    let pid = |pid: i64| u32::try_from(pid).ok().filter(|p| *p > 0);
    Some(Sandbox {
        monitor: state.sandbox.and_then(|s| pid(s.pid)),
        helpers: pid(state.gofer_pid).into_iter().collect(),
        path,
    })
}

fn read(root: &Root, rel: &[u8]) -> Option<(runsc::State, BString)> {
    let bytes = root.read(rel, json::CAP).ok()?;
    Some((runsc::parse_state(&bytes).ok()?, root.join(rel)))
}
