//! Sandboxes without an engine: only what began them tells whose they are.

use bstr::{BString, ByteSlice};
use whose_kernel::parse;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::worker::{Ask, Slow};

use super::Index;
use super::entry::Entry;
use crate::model::{Evidence, Owner, OwnerKind, Process, Source};
use crate::runtime::claim::path_to;
use crate::runtime::nspawn::PAYLOAD;
use crate::runtime::{REGISTRY, Runtime};

/// Ancestors looked at.
const MOST_ANCESTORS: usize = 32;

impl Index<'_> {
    /// The sandbox of a process in namespaces that no cgroup explains, by the program above it that makes
    /// such and is itself outside.
    pub(super) fn jailed(&self, entry: &Entry<'_>, p: &Process) -> Option<(Owner, Evidence)> {
        let own = entry.mount_namespace()?;
        let host = self.host();
        let mut found: Option<(&'static dyn Runtime, u32)> = None;
        let mut at = p.stat.known()?.ppid;
        for _ in 0..MOST_ANCESTORS {
            if at <= 1 {
                break;
            }
            let Ok(process) = host.process(at) else { break };
            let Ok(stat) = process.stat() else { break };
            let runtime = REGISTRY.iter().copied().find(|runtime| {
                let program = process.link_text("exe").ok();
                let program = program.as_ref().and_then(|exe| exe.rsplit_str("/").next());
                runtime.jailer().is_some_and(|jailer| {
                    // What it is called it can choose itself, the file that it runs can't.
                    stat.comm == jailer && program == Some(jailer.as_bytes())
                })
            });
            match (runtime, found) {
                (Some(runtime), None) => {
                    found = Some((runtime, at));
                    // Each machine has one supervisor.
                    if runtime.kind() == OwnerKind::Machine {
                        break;
                    }
                }
                (Some(same), Some((first, _))) if same.engine() == first.engine() => {
                    found = Some((first, at));
                }
                (_, Some(_)) => break,
                (None, None) => {}
            }
            at = stat.ppid;
        }
        let (runtime, pid) = found?;
        // Only a program outside has put it there.
        if host.process(pid).and_then(|jailer| jailer.namespace("mnt")).ok()? == own {
            return None;
        }
        let args = self.args_of(pid).unwrap_or_default();
        let jail = runtime.jail(host, pid, &args);
        let id = jail.id.unwrap_or_else(|| format!("mnt:[{own}]").into());
        let mut owner = Owner::new(runtime.kind(), runtime.engine(), id);
        owner.name = jail.name;
        if owner.kind == OwnerKind::Machine {
            place_payload(&mut owner, p);
        }
        let path = host.shown(format!("proc/{pid}/exe").as_bytes());
        let detail = format!("below {} {pid}", runtime.engine().0);
        Some((owner, Evidence::agreeing(Source::Ancestry, detail, path)))
    }

    /// The arguments of a process.
    pub(super) fn args_of(&self, pid: u32) -> Option<Vec<BString>> {
        let start_ticks = self.host().process(pid).and_then(|p| p.stat()).ok()?.start_ticks;
        let ask = Ask { file: Slow::Cmdline, pid, start_ticks };
        Some(parse::cmdline::parse(&self.host().slow_reads(&[ask]).pop()?.ok()?))
    }
}

/// Says where a machine is that a service runs: its supervisor has the cgroup beside.
fn place_payload(owner: &mut Owner, p: &Process) {
    let lines = p.cgroup.known().map(|lines| lines.as_slice()).unwrap_or_default();
    let place = |line: &Line| {
        let depth = line.segments().position(|segment| segment == PAYLOAD)? + 1;
        Some((path_to(line, depth), line.controllers.clone()))
    };
    if let Some((cgroup, hierarchy)) = lines.iter().rev().find_map(place) {
        (owner.cgroup, owner.hierarchy) = (cgroup, hierarchy);
    }
}
