//! A pod, or a container in it.

use std::rc::Rc;

use bstr::{BStr, BString};
use whose_fields::Needs;

use super::container::{self, Resolved};
use super::{Answer, Detail, Status};
use crate::index::Index;
use crate::index::describe::pod_evidence;
use crate::index::lookup::Container;
use crate::index::pod_lookup::FoundPods;
use crate::model::{Evidence, Fact, Gap, Membership, Owner, OwnerKind, Pod, Source};
use crate::runtime::PodQuery;
use crate::target::Typed;
use crate::target::pod::Name;

/// Looks the pod up, and the container in it if one is named.
pub(super) fn resolve(index: &mut Index<'_>, typed: &Typed, name: &Name, needs: Needs) -> Resolved {
    let FoundPods { pods, gaps } = index.pods_named(name.query(), true);
    let mut pods: Vec<Container> = pods.iter().map(|found| index.pod(found)).collect();
    running_first(&mut pods);
    match pods.len() {
        0 => Resolved::Not(Box::new(none(typed, gaps))),
        1 => match &name.container {
            None => Resolved::Pod(Box::new(pods.remove(0))),
            Some(container) => in_pod(index, typed, &pods.remove(0), container, needs),
        },
        several => {
            let mut answer = Answer::new(typed, "pod", Status::Ambiguous);
            answer.candidates = pods.iter().map(candidate_pod).collect();
            answer.message = Some(format!("{} fits {several} pods", typed.text));
            Resolved::Not(Box::new(answer))
        }
    }
}

/// Logs outlive their pods: where some run, or can't be looked into, the others are gone.
pub(super) fn running_first(pods: &mut Vec<Container>) {
    let runs = |pod: &Container| pod.pids.as_ref().map_or(true, |pids| !pids.is_empty());
    if pods.iter().any(runs) {
        pods.retain(runs);
    }
}

/// A target that is this pod and no other, and a word on it.
pub(super) fn candidate_pod(pod: &Container) -> (BString, BString) {
    let count = pod.pids.as_ref().map_or("? processes".into(), |pids| match pids.len() {
        1 => "1 process".into(),
        n => format!("{n} processes"),
    });
    (format!("pod:{}", pod.owner.id).into(), format!("pod {} {count}", pod.owner.label()).into())
}

fn none(typed: &Typed, gaps: Vec<Gap>) -> Answer {
    let mut answer = Answer::new(typed, "pod", Status::NotFound);
    let name = typed.text.strip_prefix(b"pod:").unwrap_or(&typed.text);
    let name = BStr::new(name);
    answer.message = Some(format!("no pod {name}"));
    if let Some(gap) = gaps.first() {
        answer.status = Status::Partial;
        answer.message = Some(format!("can't tell whether there is a pod {name}: {gap}"));
        answer.gaps = gaps;
    }
    answer
}

/// The container of that name: the one that runs, else the one that an engine knows.
fn in_pod(
    index: &mut Index<'_>,
    typed: &Typed,
    pod: &Container,
    name: &BString,
    needs: Needs,
) -> Resolved {
    if let Err(gap) = &pod.pids {
        let mut answer = Answer::new(typed, "container", Status::Partial);
        answer.message = Some(gap.to_string());
        answer.gaps.push(gap.clone());
        return Resolved::Not(Box::new(answer));
    }
    let needs = needs.and(Needs::DESCRIPTION).and(Needs::LIVENESS);
    let is_it = |o: &Rc<Owner>| o.pod().and_then(|p| p.container).as_ref() == Some(name);
    let running = index.containers_of_pod(pod);
    let nameless = running
        .iter()
        .any(|o| o.kind == OwnerKind::Container && o.pod().is_none_or(|p| p.container.is_none()));
    let mut found: Vec<Container> =
        running.iter().filter(|o| is_it(o)).map(|owner| index.container_of(owner, needs)).collect();
    let mut unseen = None;
    if found.is_empty() {
        let query = PodQuery {
            uid: Some(BStr::new(&pod.owner.id)),
            container: Some(BStr::new(name)),
            ..PodQuery::default()
        };
        let known = index.known_in_pod(query);
        (found, unseen) = index.containers_found(&known, needs);
    }
    if found.len() == 1 && unseen.is_none() {
        return Resolved::One(Box::new(found.remove(0)));
    }
    let label = pod.owner.label();
    if found.is_empty() || unseen.is_some() {
        let mut answer = Answer::new(typed, "container", Status::NotFound);
        answer.message = Some(format!("no container {name} in pod {label}"));
        let late = unseen.is_some() || index.host().out_of_time();
        if nameless || late {
            answer.status = Status::Partial;
            let why = match late {
                true => "not all of them were looked at in time",
                false => "not all containers in it have a name here",
            };
            answer.message = Some(format!(
                "can't tell whether there is a container {name} in pod {label}: {why}"
            ));
        }
        return Resolved::Not(Box::new(answer));
    }
    let mut answer = Answer::new(typed, "container", Status::Ambiguous);
    answer.candidates =
        found.iter().map(|c| (container::exact(&c.owner), container::word(&c.owner))).collect();
    answer.message = Some(format!("{} fits {} containers", typed.text, found.len()));
    Resolved::Not(Box::new(answer))
}

pub(super) fn answer(index: &mut Index<'_>, typed: &Typed, name: &Name, detail: Detail) -> Answer {
    let resolved = resolve(index, typed, name, detail.needs);
    container::answer_of(index, typed, resolved, detail)
}

/// The answer for a pod that was found.
pub(super) fn of(index: &mut Index<'_>, typed: &Typed, pod: &Container, detail: Detail) -> Answer {
    let mut answer = Answer::new(typed, "pod", Status::Found);
    let mut evidence: Vec<Evidence> = Vec::new();
    if let Some(dir) = pod.dirs.first() {
        let cgroup = &pod.owner.cgroup;
        let seen = if cgroup.is_empty() { dir } else { cgroup };
        evidence.push(Evidence::agreeing(Source::Cgroup, seen.clone(), dir.clone()));
    }
    evidence.extend(pod_evidence(&pod.owner));
    let chain = container::chain(index, &pod.owner);
    answer.membership = Fact::Known(Membership { chain, evidence });
    match &pod.pids {
        Ok(pids) if detail.processes => container::rows(index, &mut answer, pod, pids, detail),
        Ok(_) => {}
        Err(gap) => {
            answer.status = Status::Partial;
            answer.message = Some(gap.to_string());
            answer.gaps.push(gap.clone());
        }
    }
    answer
}

/// The answer for the one container of a pod that does its work, when there is but one.
pub(super) fn only_container(
    index: &mut Index<'_>,
    typed: &Typed,
    mut answer: Answer,
    detail: Detail,
) -> Answer {
    let mut works: Vec<Rc<Owner>> = Vec::new();
    for owner in answer.processes.iter().filter_map(|row| row.owner()) {
        let is_new = !works.iter().any(|o| o.id == owner.id && o.runtime == owner.runtime);
        if owner.kind == OwnerKind::Container && is_new {
            works.push(Rc::clone(owner));
        }
    }
    if let [only] = works.as_slice() {
        let needs = detail.needs.and(Needs::DESCRIPTION).and(Needs::LIVENESS);
        let container = index.container_of(only, needs);
        return container::answer_of(index, typed, Resolved::One(Box::new(container)), detail);
    }
    let label = answer.owner().map(|o| o.label()).unwrap_or_default();
    answer.processes.clear();
    if works.is_empty() {
        answer.status = Status::NotFound;
        answer.message = Some(format!("no container of pod {label} runs"));
        return answer;
    }
    let target = |owner: &Rc<Owner>| match owner.pod() {
        Some(Pod { name: Some(name), namespace: Some(ns), container: Some(c), .. }) => {
            format!("pod:{ns}/{name}/{c}").into()
        }
        _ => container::exact(owner),
    };
    answer.status = Status::Ambiguous;
    answer.candidates = works.iter().map(|o| (target(o), container::word(o))).collect();
    answer.message = Some(format!("pod {label} has {} containers", works.len()));
    answer
}
