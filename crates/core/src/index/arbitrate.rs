//! From claims to one chain.
//!
//! Every line of a cgroup file is looked at, since on v1 and hybrid hosts any of them may be the
//! only one that tells. In a line the deepest container is the owner and all levels are kept; of
//! the lines the one with the most containers wins. Units are levels until the first container:
//! those below it are the container's own affair.

use std::collections::{BTreeMap, HashMap, HashSet};

use bstr::BString;

use crate::model::{Engine, Gap, Owner, OwnerKind};
use crate::runtime::claim::{Level, Mine, Proof, path_to};
use whose_kernel::parse::cgroup::Line;

/// Whether a runtime's state knows an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It could not be read.
    Unread(Gap),
}

/// The outcome for one process's cgroup text.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Levels, outermost first; empty when no line names any.
    pub chain: Vec<Owner>,
    /// The line it rests on.
    pub line: Option<usize>,
    /// Lines whose innermost container is none of the chain's.
    pub against: Vec<(usize, Owner)>,
    /// State that could not be read on the way.
    pub gaps: Vec<Gap>,
}

impl Verdict {
    /// The innermost level.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        self.chain.last()
    }

    /// Whether the innermost level is a container or the like.
    #[must_use]
    pub fn is_contained(&self) -> bool {
        self.owner().is_some_and(|o| o.kind.contains() || o.kind == OwnerKind::Unknown)
    }
}

/// Decides. `claims` come in the order of the registry.
pub fn arbitrate(
    lines: &[Line],
    claims: &[Mine],
    confirm: &mut dyn FnMut(&Level) -> Confirmed,
) -> Verdict {
    let mut verdict = Verdict::default();
    let mut by_line: BTreeMap<usize, Vec<Level>> = BTreeMap::new();
    for level in settle(claims, confirm, &mut verdict.gaps) {
        by_line.entry(level.line).or_default().push(level);
    }
    let chain = |(at, levels): (usize, Vec<Level>)| (at, chain_of(&lines[at], &levels));
    let mut chains: Vec<(usize, Vec<Owner>)> = by_line.into_iter().map(chain).collect();
    chains.retain(|(_, chain)| !chain.is_empty());
    let weight = |(at, chain): &(usize, Vec<Owner>)| {
        let containers = chain.iter().filter(|o| is_container(o)).count();
        let line = &lines[*at];
        (
            containers,
            chain.len(),
            line.is_v2(),
            line.has_controller(b"name=systemd"),
            usize::MAX - at,
        )
    };
    let Some(best) = chains.iter().max_by_key(|c| weight(c)).cloned() else {
        return verdict;
    };
    for (at, chain) in &chains {
        let inner = chain.iter().rfind(|o| is_container(o));
        if let Some(inner) = inner.filter(|i| !best.1.iter().any(|o| o.id == i.id)) {
            verdict.against.push((*at, inner.clone()));
        }
    }
    verdict.line = Some(best.0);
    verdict.chain = best.1;
    verdict
}

fn is_container(owner: &Owner) -> bool {
    owner.kind.contains() || owner.kind == OwnerKind::Unknown
}

/// What a state was asked: an engine's key, and where that alone counts its line and depth.
type Question = (Engine, BString, Option<(usize, usize)>);

/// Levels that stand: those the text proves, and those a state confirms. A shape that nobody's
/// state knows becomes an unknown owner, unless another runtime's text names the place.
fn settle(
    claims: &[Mine],
    confirm: &mut dyn FnMut(&Level) -> Confirmed,
    gaps: &mut Vec<Gap>,
) -> Vec<Level> {
    let all = || claims.iter().flat_map(|c| &c.levels);
    let mut stand: Vec<Level> = Vec::new();
    let mut asked: HashMap<Question, bool> = HashMap::new();
    let mut unclaimed: Vec<&Level> = Vec::new();
    let is_others = |level: &Level| {
        let by_text = |l: &Level| l.proof == Proof::Text && l.owner.kind.contains();
        let same = |l: &Level| (l.line, l.depth) == (level.line, level.depth);
        level.proof == Proof::Guess
            && level.owner.runtime.runs_for_others()
            && all().any(|l| by_text(l) && same(l) && l.owner.runtime != level.owner.runtime)
    };
    for level in all().filter(|l| l.proof != Proof::Text && !is_others(l)) {
        // What anything may be called is believed of this place alone.
        let at = (level.proof == Proof::Guess).then_some((level.line, level.depth));
        let key = (level.owner.runtime, level.owner.key(), at);
        let known = *asked.entry(key).or_insert_with(|| {
            let answer = confirm(level);
            let yes = answer == Confirmed::Yes;
            if let Confirmed::Unread(gap) = answer
                && !gaps.contains(&gap)
            {
                gaps.push(gap);
            }
            yes
        });
        if known {
            stand.push(level.clone());
        } else if level.proof == Proof::State {
            unclaimed.push(level);
        }
    }
    // What a state confirms comes before what the text alone says of the same place.
    let place = |l: &Level| (l.line, l.depth);
    let confirmed: HashSet<(usize, usize)> = stand.iter().map(place).collect();
    stand.extend(
        all().filter(|l| l.proof == Proof::Text && !confirmed.contains(&place(l))).cloned(),
    );
    let taken: HashSet<(usize, usize)> =
        stand.iter().filter(|l| l.owner.kind.contains()).map(place).collect();
    let mut ids: HashSet<BString> = stand.iter().map(|l| l.owner.id.clone()).collect();
    for level in unclaimed {
        if !taken.contains(&place(level)) && ids.insert(level.owner.id.clone()) {
            let owner = Owner::new(OwnerKind::Unknown, Engine::UNKNOWN, level.owner.id.clone());
            stand.push(Level { owner, ..level.clone() });
        }
    }
    stand
}

/// The chain of one line.
fn chain_of(line: &Line, levels: &[Level]) -> Vec<Owner> {
    let mut levels: Vec<&Level> = levels.iter().collect();
    // A stable sort keeps the registry's order; of one place a container comes before a unit.
    levels.sort_by_key(|l| (l.depth, !is_container(&l.owner), l.owner.kind != OwnerKind::Pod));
    levels.dedup_by_key(|l| l.depth);
    let mut chain: Vec<Owner> = Vec::new();
    let mut pod_uid = None;
    let mut contained = false;
    for level in levels {
        let mut owner = level.owner.clone();
        owner.cgroup = path_to(line, level.depth);
        owner.hierarchy.clone_from(&line.controllers);
        if owner.kind == OwnerKind::Pod {
            pod_uid.clone_from(&owner.pod_uid);
            if let Some(outer) = chain.iter().rfind(|o| o.kind.has_root()) {
                owner.within.clone_from(&outer.id);
            }
        } else if is_container(&owner) {
            // A service manager inside may repeat the path it found: that is no nesting.
            if chain
                .iter()
                .any(|o| is_container(o) && o.id == owner.id && o.runtime == owner.runtime)
            {
                continue;
            }
            contained = true;
            // What a container runs has its state inside that container.
            if let Some(outer) = chain.iter().rfind(|o| o.kind.has_root()) {
                owner.within.clone_from(&outer.id);
            }
            if owner.pod_uid.is_none() {
                owner.pod_uid = pod_uid.take();
            }
        } else if contained {
            continue;
        }
        chain.push(owner);
    }
    // A pod without a container in it owns nothing.
    while chain.last().is_some_and(|o| o.kind == OwnerKind::Pod) {
        chain.pop();
    }
    chain
}
