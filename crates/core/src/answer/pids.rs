//! Just the PIDs, for scripts: all of them or none.

use whose_fields::Needs;
use whose_kernel::{Class, Mode, scan};

use super::container::{Resolved, resolve};
use super::{Answer, Status, pod};
use crate::index::Index;
use crate::index::lookup::Container;
use crate::model::gap::what;
use crate::model::{ContainerState, Fact, Gap, OwnerKind};
use crate::target::{Target, Typed};

/// Which PIDs of a container are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct PidsOptions {
    /// Leave out containers nested in it.
    pub direct: bool,
    /// Scan for processes in its namespaces but outside its cgroup.
    pub strays: bool,
}

/// The PIDs of a target.
#[derive(Clone, Debug)]
pub struct Pids {
    /// Ascending; what there is, when the answer is partial.
    pub pids: Vec<u32>,
    /// How it went.
    pub answer: Answer,
}

/// The PIDs of one target, nested containers and exec'd processes included.
pub fn pids(index: &mut Index<'_>, typed: &Typed, options: PidsOptions) -> Pids {
    match &typed.target {
        Target::Pid(pid) => {
            let detail = super::Detail {
                needs: Needs::STAT.and(Needs::STATUS),
                processes: false,
                served_by: false,
                binary: None,
            };
            let answer = super::process::answer(index, typed, *pid, detail);
            let pids = answer.process.iter().map(|r| r.process.pid).collect();
            Pids { pids, answer }
        }
        Target::Container(name) => match resolve(index, typed, name, Needs::NONE) {
            Resolved::Not(answer) => Pids { pids: Vec::new(), answer: *answer },
            Resolved::One(found) | Resolved::Pod(found) => {
                of_container(index, typed, &found, options)
            }
        },
        Target::Pod(name) => match pod::resolve(index, typed, name, Needs::NONE) {
            Resolved::Not(answer) => Pids { pids: Vec::new(), answer: *answer },
            Resolved::One(found) | Resolved::Pod(found) => {
                of_container(index, typed, &found, options)
            }
        },
        Target::Path(_)
        | Target::Inside(_)
        | Target::Layer(_)
        | Target::Volume(_)
        | Target::Inode(_) => {
            let needs = Needs::DESCRIPTION.and(Needs::LIVENESS);
            let detail = super::Detail { needs, processes: false, served_by: false, binary: None };
            let mut answer = super::answer(index, typed, detail);
            if answer.status != Status::Found {
                return Pids { pids: Vec::new(), answer };
            }
            // An owner whose state was not asked is of an engine that is not this host's own.
            let asked = |o: &&std::rc::Rc<crate::model::Owner>| o.state != Fact::Unasked;
            let Some(owner) = answer.owner().filter(asked).cloned() else {
                answer.status = Status::NotFound;
                answer.message = Some(format!("{} is no one container's", typed.text));
                return Pids { pids: Vec::new(), answer };
            };
            let container = index.container_of(&owner, Needs::NONE);
            of_container(index, typed, &container, options)
        }
    }
}

fn of_container(
    index: &mut Index<'_>,
    typed: &Typed,
    container: &Container,
    options: PidsOptions,
) -> Pids {
    let is_pod = container.owner.kind == OwnerKind::Pod;
    let kind = if is_pod { "pod" } else { "container" };
    let mut answer = Answer::new(typed, kind, Status::Found);
    let listed = if options.direct { direct(index, container) } else { container.pids.clone() };
    let mut pids = match listed {
        Ok(pids) => pids,
        Err(gap) => {
            answer.message = Some(format!("{}: {gap}", typed.text));
            answer.status = Status::Partial;
            answer.gaps.push(gap);
            return Pids { pids: Vec::new(), answer };
        }
    };
    if options.strays
        && let Err(gap) = strays(index, &mut pids)
    {
        answer.message = Some(format!("{}: {gap}", typed.text));
        answer.status = Status::Partial;
        answer.gaps.push(gap);
    }
    if let Some(hidden) = index.hidden(&container.owner, pids.first().copied()) {
        // Those that the host has are all there are to be signalled from here.
        answer.message = Some(format!("{}: {}", typed.text, hidden.gap()));
        answer.gaps.push(hidden.gap());
        if pids.is_empty() && container.owner.state.known().is_none() {
            answer.status = Status::Partial;
        }
        if !pids.is_empty() || answer.status == Status::Partial {
            return Pids { pids, answer };
        }
    }
    if pids.is_empty() && !(options.direct && container.pids.as_ref().is_ok_and(|p| !p.is_empty()))
    {
        let state = container.owner.state.known().copied().unwrap_or(ContainerState::Unknown);
        answer.status = Status::NotFound;
        let name = container.owner.best_name().unwrap_or(&container.owner.id);
        answer.message = Some(if is_pod {
            format!("pod {} has no processes", container.owner.label())
        } else {
            format!("{name} is {}", state.name())
        });
    }
    Pids { pids, answer }
}

/// The processes that are in no container nested in it: by their cgroups where it has one, and without those
/// that an engine in it runs without.
fn direct(index: &mut Index<'_>, container: &Container) -> Result<Vec<u32>, Gap> {
    let unread = |e| Gap::from_read(what::PIDS, &e);
    let mut pids = match &container.hierarchy {
        Some(_) => index.members_of(&index.direct_dirs(container)).map_err(unread)?,
        None => container.pids.clone()?,
    };
    index.without_inner(&container.owner, &mut pids).map_err(unread)?;
    Ok(pids)
}

/// Adds processes that are in the PID or mount namespace of one of `pids`, and are not the host's.
fn strays(index: &Index<'_>, pids: &mut Vec<u32>) -> Result<(), Gap> {
    let host = index.host();
    let namespaces = |pid: u32| {
        let dir = host.process(pid).ok()?;
        Some([dir.namespace("pid").ok(), dir.namespace("mnt").ok()])
    };
    let whole = |n: &[Option<u64>; 2]| n.iter().all(Option::is_some);
    // PID 1 may have capabilities that even root has not here; this program is the host's too, where
    // it sees all of the host.
    let own = || {
        let outermost = host.mode() == Mode::Live && host.is_outermost() == Some(true);
        outermost.then(|| namespaces(std::process::id())).flatten().filter(whole)
    };
    let Some(of_host) = namespaces(1).filter(whole).or_else(own) else {
        let remedy = Some("run as root: sudo whose ...");
        let path = host.shown(b"proc/1/ns");
        return Err(Gap::new(
            what::NAMESPACES,
            Class::Forbidden,
            path,
            "permission denied",
            remedy,
        ));
    };
    let mut inside: Vec<[Option<u64>; 2]> = Vec::new();
    for pid in pids.iter() {
        let mut own = namespaces(*pid).unwrap_or_default();
        for (ns, host_ns) in own.iter_mut().zip(of_host) {
            *ns = ns.filter(|n| Some(*n) != host_ns);
        }
        if !inside.contains(&own) {
            inside.push(own);
        }
    }
    let mut found = Vec::new();
    let scanned = scan::each_process(host, &mut |pid, opened| {
        let Ok(dir) = opened else { return };
        let own = [dir.namespace("pid").ok(), dir.namespace("mnt").ok()];
        let shares = inside.iter().any(|i| i.iter().zip(own).any(|(a, b)| a.is_some() && *a == b));
        if shares {
            found.push(pid);
        }
    });
    scanned.map_err(|e| Gap::from_read(what::PIDS, &e))?;
    pids.extend(found);
    pids.sort_unstable();
    pids.dedup();
    Ok(())
}
