//! Whose process is this PID.

use std::rc::Rc;

use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, Mode, parse};

use super::{Answer, Detail, Server, Status};
use crate::index::Index;
use crate::model::gap::what;
use crate::model::{Described, Fact, Gap, Owner, OwnerKind, Role, Row};
use crate::runtime::Subject;
use crate::target::Typed;
use crate::target::pid::Pid;

pub(super) fn answer(index: &mut Index<'_>, typed: &Typed, pid: Pid, detail: Detail) -> Answer {
    let not_found = || {
        let mut answer = Answer::new(typed, "process", Status::NotFound);
        answer.message = Some(format!("no process {}", pid.0));
        answer
    };
    if !pid.is_possible() {
        return not_found();
    }
    let mut row = match index.row(pid.0, detail.needs) {
        Ok(Some(row)) => row,
        Ok(None) => match index.hidden_processes() {
            Some(gap) => {
                return unread(
                    typed,
                    format!("can't tell whether there is a process {}: {gap}", pid.0),
                    gap,
                );
            }
            None => return not_found(),
        },
        Err(e) if index.host().mode() == Mode::Saved && e.class == Class::Gone => {
            return not_found();
        }
        Err(e) => {
            let gap = Gap::from_read(what::PROCESS, &e);
            return unread(typed, format!("can't look at process {}: {gap}", pid.0), gap);
        }
    };
    // A thread has a directory too; its process is what has an owner.
    let mut kind = "process";
    let tgid = row.process.status.known().and_then(|s| s.tgid);
    if let Some(tgid) = tgid.filter(|t| *t != pid.0) {
        kind = "thread";
        match index.row(tgid, detail.needs) {
            Ok(Some(leader)) => row = leader,
            _ => return not_found(),
        }
    }
    let mut answer = Answer::new(typed, kind, Status::Found);
    if detail.served_by {
        answer.served_by = server(index, &row);
        answer.serves_name = index.name_served(&row);
    }
    let hidden = index.hidden_by(&row);
    if let (Some((hidden, owner)), Fact::Known(membership)) = (hidden, &mut row.membership) {
        membership.evidence.extend(hidden.evidence(&owner));
        answer.gaps.push(hidden.gap());
        answer.hidden = Some(hidden);
    }
    let helper = index.helper(&row);
    if let Fact::Known(membership) = &mut row.membership {
        membership.evidence.extend(helper);
    }
    answer.membership = row.membership.clone();
    let unread = answer.owner().filter(|o| o.kind == OwnerKind::Unknown).cloned();
    if let Some(Described::Unread(gap)) = unread.as_ref().map(|owner| &owner.described) {
        answer.status = Status::Partial;
        answer.message = Some(format!("can't tell whose process {} is: {gap}", pid.0));
    }
    // In a saved tree no process runs: `exe` says so, a card is not asked. A capture tells.
    if let Some(layers) = detail.binary.filter(|_| !index.host().is_loose()) {
        answer.binary = super::binary::of(index, &row, false, layers);
    }
    answer.process = Some(row);
    answer
}

/// There may be such a process, but nothing can be said of it.
fn unread(typed: &Typed, message: String, gap: Gap) -> Answer {
    let mut answer = Answer::new(typed, "process", Status::Partial);
    answer.message = Some(message);
    answer.membership = Fact::Unread(gap);
    answer
}

/// The shim or conmon of the row's container: parent of its init process.
pub(super) fn server(index: &Index<'_>, row: &Row) -> Option<Server> {
    let serviced = |o: &&Rc<Owner>| matches!(o.kind, OwnerKind::Container | OwnerKind::Sandbox);
    let owner = row.owner().filter(serviced)?;
    let host = index.host();
    let direct = matches!(row.process.role.known(), Some(Role::Init | Role::Exec | Role::Sandbox));
    let ppid = if direct {
        row.process.stat.known()?.ppid
    } else {
        host.process(*owner.init_pid.known()?).ok()?.stat().ok()?.ppid
    };
    let dir = host.process(ppid).ok()?;
    let shim = |comm: &[u8]| comm.starts_with(b"containerd-shim");
    let stat = dir.stat().ok().filter(|s| shim(&s.comm) || s.comm == "conmon")?;
    let ask = Ask { file: Slow::Cmdline, pid: ppid, start_ticks: stat.start_ticks };
    let args = parse::cmdline::parse(&host.slow_reads(&[ask]).pop()?.ok()?);
    // Its own word for whom it serves; anyone else with that name does not count.
    let namespace = Subject::flag(&args, "namespace");
    // A pod has one shim, which says the id of the pod's sandbox.
    let pods = owner.pod().is_some() && namespace.as_ref() == Some(&owner.namespace);
    let flag = if shim(&stat.comm) { "id" } else { "c" };
    let serves =
        (pods && shim(&stat.comm)) || Subject::flag(&args, flag).is_some_and(|id| id == owner.id);
    serves.then_some(Server { pid: ppid, comm: stat.comm, namespace })
}
