//! A container by name or id.

use std::rc::Rc;

use bstr::{BStr, BString};
use whose_fields::Needs;

use super::{Answer, Detail, Status, pod, process};
use crate::index::Index;
use crate::index::describe::pod_evidence;
use crate::index::lookup::Container;
use crate::index::sandboxes::Hidden;
use crate::index::search::Scope;
use crate::model::gap::{Class, what};
use crate::model::{Described, Evidence, Fact, Gap, Membership, Owner, OwnerKind, Row, Source};
use crate::target::Typed;
use crate::target::container::Name;

/// What a name came to.
pub(super) enum Resolved {
    /// One container.
    One(Box<Container>),
    /// One pod, which a bare name may mean too.
    Pod(Box<Container>),
    /// None, or several, or it could not be looked for: the answer says which.
    Not(Box<Answer>),
}

/// Looks the name up.
pub(super) fn resolve(index: &mut Index<'_>, typed: &Typed, name: &Name, needs: Needs) -> Resolved {
    let scope = Scope { engine: name.engine, user: name.user.as_ref().map(|user| user.as_ref()) };
    let found = index.containers_named(name.name.as_ref(), scope);
    let (mut hits, mut late) = (found.containers, found.late);
    let mut gaps = found.gaps;
    let mut pods = Vec::new();
    if let Some(pod) = crate::target::pod::bare(name.name.as_ref()).filter(|_| name.or_pod) {
        let everywhere = hits.is_empty() && index.has_pods();
        let found = index.pods_named(pod.query(), everywhere);
        pods.extend(found.pods.iter().map(|pod| index.pod(pod)));
        pod::running_first(&mut pods);
        gaps.extend(found.gaps);
        let inside = index.containers_in_pods(name.name.as_ref(), everywhere);
        hits.extend(inside.containers);
        gaps.extend(inside.gaps);
        late = late.or(inside.late);
        hits.sort();
        hits.dedup();
    }
    let needs = needs.and(Needs::DESCRIPTION).and(Needs::LIVENESS);
    let (mut containers, unseen) = index.containers_found(&hits, needs);
    late = late.or(unseen);
    if let Some(user) = &name.user {
        let is_unread = |owner: &Owner| matches!(owner.described, Described::Unread(_));
        containers.retain(|c| c.owner.user() == Some(user) || is_unread(&c.owner));
    }
    drop_earlier_runs(&mut containers);
    if let Some(gap) = late {
        let mut answer = none(typed, name, vec![gap]);
        answer.candidates = candidates(&containers);
        return Resolved::Not(Box::new(answer));
    }
    match (containers.len(), pods.len()) {
        (1, 0) => return Resolved::One(Box::new(containers.remove(0))),
        (0, 1) => return Resolved::Pod(Box::new(pods.remove(0))),
        (0, 0) => return Resolved::Not(Box::new(none(typed, name, gaps))),
        _ => {}
    }
    let kind = if containers.is_empty() { "pod" } else { "container" };
    let mut answer = Answer::new(typed, kind, Status::Ambiguous);
    answer.candidates = candidates(&containers);
    answer.candidates.extend(pods.iter().map(pod::candidate_pod));
    let counts = [(containers.len(), "containers"), (pods.len(), "pods")];
    let counts = counts.iter().filter(|(n, _)| *n > 0).map(|(n, of)| format!("{n} {of}"));
    let counts: Vec<String> = counts.collect();
    answer.message = Some(format!("{} fits {}", typed.text, counts.join(" and ")));
    Resolved::Not(Box::new(answer))
}

/// Targets that are each of these; of two with one id a user's names him.
fn candidates(containers: &[Container]) -> Vec<(BString, BString)> {
    let target = |c: &Container| {
        let plain = exact(&c.owner);
        let same = containers.iter().filter(|other| exact(&other.owner) == plain).count();
        match c.owner.user().filter(|_| same > 1) {
            Some(user) => {
                format!("container:{}@{user}/{}", c.owner.runtime.0, c.owner.key()).into()
            }
            None => plain,
        }
    };
    containers.iter().map(|c| (target(c), word(&c.owner))).collect()
}

/// The kubelet starts a container again as another one of the same name; the earlier one may be
/// there still.
fn drop_earlier_runs(containers: &mut Vec<Container>) {
    let name = |c: &Container| c.owner.pod().filter(|p| p.uid.is_some() && p.container.is_some());
    let place = |c: &Container| name(c).map(|p| (p.uid, p.container));
    let runs = |c: &Container| c.pids.as_ref().map_or(true, |pids| !pids.is_empty());
    let running: Vec<_> = containers.iter().filter(|c| runs(c)).filter_map(place).collect();
    containers.retain(|c| runs(c) || place(c).is_none_or(|p| !running.contains(&p)));
}

/// Not found, or not to be found out.
fn none(typed: &Typed, name: &Name, gaps: Vec<Gap>) -> Answer {
    let mut answer = Answer::new(typed, "container", Status::NotFound);
    answer.message = Some(format!("no container {}", name.name));
    if let Some(gap) = gaps.first() {
        answer.status = Status::Partial;
        answer.message =
            Some(format!("can't tell whether there is a container {}: {gap}", name.name));
        answer.gaps = gaps;
    }
    answer
}

/// A target that is this container and no other.
pub(super) fn exact(owner: &Owner) -> BString {
    format!("container:{}/{}", owner.runtime.0, owner.key()).into()
}

pub(super) fn word(owner: &Owner) -> BString {
    let name = owner.best_name().map_or(BStr::new(b"?"), |n| n.as_ref());
    let state = owner.state.known().map_or("unknown", |s| s.name());
    let image = owner.description().and_then(|d| d.image.as_ref());
    let image = image.map_or(BStr::new(b""), |i| i.as_ref());
    format!("{name} {state} {image}").into()
}

pub(super) fn answer(index: &mut Index<'_>, typed: &Typed, name: &Name, detail: Detail) -> Answer {
    let resolved = resolve(index, typed, name, detail.needs);
    answer_of(index, typed, resolved, detail)
}

/// The answer for what a name came to.
pub(super) fn answer_of(
    index: &mut Index<'_>,
    typed: &Typed,
    resolved: Resolved,
    detail: Detail,
) -> Answer {
    let container = match resolved {
        Resolved::One(container) => container,
        Resolved::Pod(pod) => return pod::of(index, typed, &pod, detail),
        Resolved::Not(answer) => return *answer,
    };
    let mut answer = Answer::new(typed, "container", Status::Found);
    let chain = chain(index, &container.owner);
    let hint = container.pids.as_ref().ok().and_then(|pids| pids.first().copied());
    answer.hidden = index.hidden(&container.owner, hint);
    let mut evidence = evidence(&container);
    evidence.extend(answer.hidden.as_ref().and_then(|h| h.evidence(&container.owner)));
    answer.gaps.extend(answer.hidden.as_ref().map(Hidden::gap));
    answer.membership = Fact::Known(Membership { chain, evidence });
    match &container.pids {
        Ok(pids) if detail.processes || detail.served_by => {
            rows(index, &mut answer, &container, pids, detail);
        }
        Ok(_) => {}
        Err(gap) => {
            answer.status = Status::Partial;
            answer.message = Some(gap.to_string());
            answer.gaps.push(gap.clone());
        }
    }
    answer
}

pub(super) fn rows(
    index: &mut Index<'_>,
    answer: &mut Answer,
    container: &Container,
    pids: &[u32],
    detail: Detail,
) {
    let init = container.owner.init_pid.known().copied();
    let wanted = pids.iter().copied().filter(|p| detail.processes || Some(*p) == init);
    let mut rows: Vec<Row> = Vec::new();
    for pid in wanted {
        if index.host().out_of_time() {
            let remedy = Some("try again with a longer --timeout");
            let why = "not all processes were read in time";
            let path = index.host().shown(b"proc");
            let gap = Gap::new(what::PIDS, Class::TimedOut, path, why, remedy);
            answer.status = Status::Partial;
            answer.message = Some(gap.to_string());
            answer.gaps.push(gap);
            break;
        }
        match index.row(pid, detail.needs) {
            Ok(Some(row)) => rows.push(row),
            Ok(None) => {} // ended meanwhile
            Err(e) => answer.gaps.push(Gap::from_read(what::PROCESS, &e)),
        }
    }
    if detail.served_by {
        let init = rows.iter().find(|r| Some(r.process.pid) == init);
        answer.served_by = init.and_then(|row| process::server(index, row));
    }
    if detail.processes {
        answer.processes = rows;
    }
}

/// The levels around the container, described, and itself.
pub(super) fn chain(index: &mut Index<'_>, owner: &Rc<Owner>) -> Vec<Rc<Owner>> {
    let mut chain: Vec<Rc<Owner>> = Vec::new();
    for outer in index.levels_around(owner) {
        chain.push(match outer.kind {
            OwnerKind::Container => index.outer(&outer),
            OwnerKind::Pod => index.named_pod(&outer, Some(owner)),
            _ => Rc::new(outer),
        });
    }
    chain.push(Rc::clone(owner));
    chain
}

fn evidence(container: &Container) -> Vec<Evidence> {
    let mut evidence = Vec::new();
    let owner = &container.owner;
    if let Some(dir) = container.dirs.first() {
        evidence.push(Evidence::agreeing(Source::Cgroup, owner.cgroup.clone(), dir.clone()));
    }
    evidence.extend(pod_evidence(owner));
    if let Described::Yes(description) = &owner.described {
        let name = owner.best_name().map(|name| name.as_ref());
        evidence.extend(description.evidence(owner.runtime, name));
    }
    evidence
}
