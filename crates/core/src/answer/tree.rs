//! Processes as a tree: below their owners, each below its parent.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::{Class, ReadError};

use super::listing::read_rows;
use super::{Answer, PidsOptions, list, pids};
use crate::index::Index;
use crate::index::plan::Plan;
use crate::index::scan::Listing;
use crate::model::gap::what;
use crate::model::{Engine, Gap, Owner, OwnerKind, Row};
use crate::target::{Target, Typed};

/// What stands at one place of a tree.
#[derive(Clone, Debug)]
pub enum Node {
    /// An owner: the levels down to it, outermost first; never empty.
    Owner(Vec<Rc<Owner>>),
    /// What could not be found out the owner of.
    Unread,
    /// A process, by its place among the rows.
    Process(usize),
}

/// One place of a tree.
#[derive(Clone, Debug)]
pub struct Branch {
    /// How many are above it: 0 for an outermost owner.
    pub depth: usize,
    /// Whether it is the last below what is above it.
    pub is_last: bool,
    /// What stands there.
    pub node: Node,
}

/// A tree, written down from the top: what is below something comes right after it.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Its places.
    pub branches: Vec<Branch>,
    /// The rows whose parents go round in a circle, which was opened above them.
    pub loops: Vec<usize>,
}

/// The order of owners side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// The host, units and sessions, what contains, what is not known; by what they are called.
    ByName,
    /// As the first of its rows stands.
    ByRows,
}

/// The processes of the targets, or all when there are none, as a tree. A PID means the process and
/// all its descendants, whoever owns them. Targets that lead nowhere come back as their answers.
///
/// # Errors
/// When /proc itself can't be read.
pub fn tree(
    index: &mut Index<'_>,
    targets: &[Typed],
    plan: &Plan,
) -> Result<(Listing, Tree, Vec<Answer>), ReadError> {
    let (mut listing, problems) = list(index, targets, plan)?;
    let by_pid = targets.iter().filter(|typed| matches!(typed.target, Target::Pid(_)));
    // What was typed may be a thread; its process is meant.
    let named: Vec<u32> =
        by_pid.flat_map(|typed| pids(index, typed, PidsOptions::default()).pids).collect();
    if !named.is_empty() {
        add_descendants(index, &named, plan, &mut listing)?;
        plan.order(&mut listing.rows);
    }
    let order = if plan.sort.is_empty() { Owners::ByName } else { Owners::ByRows };
    let tree = grow(&listing.rows, order);
    for row in &tree.loops {
        let path = format!("proc/{}/stat", listing.rows[*row].process.pid);
        let path = index.host().shown(path.as_bytes());
        let why = "its parents go round in a circle";
        listing.gaps.push(Gap::new(what::PROCESS, Class::Malformed, path, why, None));
    }
    Ok((listing, tree, problems))
}

/// Adds the descendants of processes. A process knows its parent and not its children (the list that
/// some kernels have of them leaves out what ends or starts meanwhile), so all are looked at once.
fn add_descendants(
    index: &mut Index<'_>,
    named: &[u32],
    plan: &Plan,
    listing: &mut Listing,
) -> Result<(), ReadError> {
    let all = index.scan(&Plan::default())?;
    listing.gaps.extend(all.gaps);
    let mut started: HashMap<u32, u64> = HashMap::new();
    for at in descendants(&all.rows, named) {
        let process = &all.rows[at].process;
        started.insert(process.pid, process.start_ticks());
    }
    for row in &listing.rows {
        started.remove(&row.process.pid);
    }
    let mut found = Listing::default();
    let mut wanted: Vec<u32> = started.keys().copied().collect();
    wanted.sort_unstable();
    read_rows(index, &wanted, plan, &mut found);
    // Another process may have got the PID since.
    found.rows.retain(|r| started.get(&r.process.pid) == Some(&r.process.start_ticks()));
    listing.rows.extend(found.rows);
    listing.gaps.extend(found.gaps);
    listing.undecided += found.undecided;
    Ok(())
}

/// The rows below those with these PIDs.
fn descendants(rows: &[Row], named: &[u32]) -> Vec<usize> {
    let children = Children::of(&parents(rows, &vec![0; rows.len()]));
    let named: HashSet<u32> = named.iter().copied().collect();
    let mut stack: Vec<usize> =
        (0..rows.len()).filter(|at| named.contains(&rows[*at].process.pid)).collect();
    let mut seen: HashSet<usize> = stack.iter().copied().collect();
    let mut found = Vec::new();
    while let Some(at) = stack.pop() {
        for child in children.below(at) {
            if seen.insert(*child) {
                found.push(*child);
                stack.push(*child);
            }
        }
    }
    found
}

/// Who an owner is, among those with the same one around them.
type Identity<'r> = (OwnerKind, Engine, &'r BStr, &'r BStr, Option<&'r BStr>);

/// An owner with what is below it. Of [`Group::levels`] none: not read.
#[derive(Debug, Default)]
struct Group {
    levels: Vec<Rc<Owner>>,
    roots: Vec<usize>,
    inner: Vec<usize>,
}

/// Makes a tree of rows. Below an owner stand those of its processes whose parent is not its own, then
/// the owners nested in it; siblings keep the order of the rows. Every row is in it once.
#[must_use]
pub fn grow(rows: &[Row], order: Owners) -> Tree {
    let mut groups = Groups::of(rows);
    let mut parents = parents(rows, &groups.of_rows);
    let loops = open_loops(rows, &mut parents);
    for (row, parent) in parents.iter().enumerate() {
        if parent.is_none() {
            groups.all[groups.of_rows[row]].roots.push(row);
        }
    }
    if order == Owners::ByName {
        groups.sort_by_name();
    }
    Tree { branches: write_down(&groups, &Children::of(&parents)), loops }
}

/// The owners of rows.
#[derive(Debug, Default)]
struct Groups<'r> {
    /// All of them, in the order in which they are met.
    all: Vec<Group>,
    /// The outermost ones.
    top: Vec<usize>,
    /// That of each row.
    of_rows: Vec<usize>,
    known: HashMap<(Option<usize>, Option<Identity<'r>>), usize>,
}

impl<'r> Groups<'r> {
    fn of(rows: &'r [Row]) -> Self {
        let mut groups = Self::default();
        for row in rows {
            let chain = row.membership.known().map(|m| m.chain.as_slice()).unwrap_or_default();
            let mut innermost = None;
            for (depth, owner) in chain.iter().enumerate() {
                let levels = &chain[..=depth];
                innermost = Some(groups.enter(innermost, Some(identity(owner)), levels));
            }
            let group = innermost.unwrap_or_else(|| groups.enter(None, None, &[]));
            groups.of_rows.push(group);
        }
        groups
    }

    /// The group of an owner in another one, which is made when it is met first.
    fn enter(
        &mut self,
        outer: Option<usize>,
        owner: Option<Identity<'r>>,
        levels: &[Rc<Owner>],
    ) -> usize {
        let next = self.all.len();
        let at = *self.known.entry((outer, owner)).or_insert(next);
        if at == next {
            self.all.push(Group { levels: levels.to_vec(), ..Group::default() });
            match outer {
                Some(outer) => self.all[outer].inner.push(at),
                None => self.top.push(at),
            }
        }
        at
    }

    fn sort_by_name(&mut self) {
        let places: Vec<_> = self.all.iter().map(place).collect();
        self.top.sort_by_key(|at| &places[*at]);
        for group in &mut self.all {
            group.inner.sort_by_key(|at| &places[*at]);
        }
    }
}

fn identity(owner: &Owner) -> Identity<'_> {
    let user = owner.description().and_then(|d| d.user.as_ref()).map(|u| u.as_bstr());
    (owner.kind, owner.runtime, owner.id.as_bstr(), owner.within.as_bstr(), user)
}

/// Where a group stands among others: by kind, then by what it is called.
fn place(group: &Group) -> (u8, BString, BString) {
    let Some(owner) = group.levels.last() else {
        return (4, BString::default(), BString::default());
    };
    let kind = match owner.kind {
        OwnerKind::Host => 0,
        OwnerKind::Unit | OwnerKind::Session => 1,
        OwnerKind::Unknown => 3,
        kind if kind.contains() || kind == OwnerKind::Pod => 2,
        _ => 3,
    };
    (kind, owner.label(), owner.id.clone())
}

/// Each row's parent, if it is among the rows and in the same group. No parent is younger than its
/// child: what is has got the PID of one that ended.
fn parents(rows: &[Row], group_of: &[usize]) -> Vec<Option<usize>> {
    let at: HashMap<u32, usize> =
        rows.iter().enumerate().map(|(at, row)| (row.process.pid, at)).collect();
    let parent = |(child, row): (usize, &Row)| {
        let stat = row.process.stat.known()?;
        let parent = *at.get(&stat.ppid)?;
        let older = rows[parent].process.start_ticks() <= stat.start_ticks;
        (older && parent != child && group_of[parent] == group_of[child]).then_some(parent)
    };
    rows.iter().enumerate().map(parent).collect()
}

/// Opens each circle of parents above its lowest PID; the rows that were so.
fn open_loops(rows: &[Row], parents: &mut [Option<usize>]) -> Vec<usize> {
    let mut opened = Vec::new();
    // The walk that a row was met on.
    let mut met: Vec<Option<usize>> = vec![None; parents.len()];
    for start in 0..parents.len() {
        let mut path = Vec::new();
        let mut next = Some(start);
        while let Some(at) = next.filter(|at| met[*at].is_none()) {
            met[at] = Some(start);
            path.push(at);
            next = parents[at];
        }
        let Some(again) = next.filter(|at| met[*at] == Some(start)) else { continue };
        let circle = path.iter().skip_while(|at| **at != again);
        if let Some(lowest) = circle.min_by_key(|at| rows[**at].process.pid) {
            parents[*lowest] = None;
            opened.push(*lowest);
        }
    }
    opened
}

/// The children of each row, in the order of the rows.
struct Children {
    first: Vec<usize>,
    all: Vec<usize>,
}

impl Children {
    fn of(parents: &[Option<usize>]) -> Self {
        let mut first = vec![0; parents.len() + 1];
        for parent in parents.iter().flatten() {
            first[parent + 1] += 1;
        }
        for at in 1..first.len() {
            first[at] += first[at - 1];
        }
        let mut free = first.clone();
        let mut all = vec![0; first.last().copied().unwrap_or(0)];
        for (child, parent) in parents.iter().enumerate() {
            if let Some(parent) = parent {
                all[free[*parent]] = child;
                free[*parent] += 1;
            }
        }
        Self { first, all }
    }

    fn below(&self, row: usize) -> &[usize] {
        &self.all[self.first[row]..self.first[row + 1]]
    }
}

/// Writes the groups down from the top. Not by recursion: someone may have forked deeper than a stack.
fn write_down(groups: &Groups<'_>, children: &Children) -> Vec<Branch> {
    enum At {
        Group(usize),
        Row(usize),
    }
    let mut branches = Vec::with_capacity(groups.all.len() + groups.of_rows.len());
    let mut stack: Vec<(usize, bool, At)> = Vec::new();
    let push = |stack: &mut Vec<(usize, bool, At)>, depth: usize, below: Vec<At>| {
        let last = stack.len();
        let onto = below.into_iter().rev().map(|at| (depth, false, at));
        stack.extend(onto);
        if let Some((_, is_last, _)) = stack.get_mut(last) {
            *is_last = true;
        }
    };
    push(&mut stack, 0, groups.top.iter().map(|at| At::Group(*at)).collect());
    while let Some((depth, is_last, at)) = stack.pop() {
        let (node, below) = match at {
            At::Row(row) => {
                let below = children.below(row).iter().map(|at| At::Row(*at)).collect();
                (Node::Process(row), below)
            }
            At::Group(at) => {
                let group = &groups.all[at];
                let node = match group.levels.as_slice() {
                    [] => Node::Unread,
                    levels => Node::Owner(levels.to_vec()),
                };
                let own = group.roots.iter().map(|at| At::Row(*at));
                (node, own.chain(group.inner.iter().map(|at| At::Group(*at))).collect())
            }
        };
        branches.push(Branch { depth, is_last, node });
        push(&mut stack, depth + 1, below);
    }
    branches
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::rc::Rc;

    use proptest::prelude::{Strategy, any, prop};
    use proptest::{prop_assert, prop_assert_eq, proptest};
    use whose_kernel::parse::stat;

    use super::{Branch, Node, Owners, Tree, descendants, grow};
    use crate::model::{Engine, Fact, Membership, Owner, OwnerKind, Process, Row};

    fn row(pid: u32, ppid: u32, start: u64, owners: &[(OwnerKind, &str)]) -> Row {
        let line = format!("{pid} (x) S {ppid} 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start} 1 1 1");
        let stat = Fact::Known(stat::parse(line.as_bytes()).unwrap());
        let owner = |(kind, id): &(OwnerKind, &str)| {
            let mut owner = Owner::new(*kind, Engine("docker"), *id);
            owner.name = Some((*id).into());
            Rc::new(owner)
        };
        let chain: Vec<Rc<Owner>> = owners.iter().map(owner).collect();
        let membership = match chain.as_slice() {
            [] => Fact::Unasked,
            _ => Fact::Known(Membership { chain, evidence: Vec::new() }),
        };
        Row { process: Process { pid, stat, ..Process::default() }, membership }
    }

    const HOST: &[(OwnerKind, &str)] = &[(OwnerKind::Host, "")];
    const UNIT: &[(OwnerKind, &str)] = &[(OwnerKind::Unit, "b.service")];
    const OUTER: &[(OwnerKind, &str)] = &[(OwnerKind::Container, "outer")];
    const INNER: &[(OwnerKind, &str)] =
        &[(OwnerKind::Container, "outer"), (OwnerKind::Container, "inner")];
    const IN_UNIT: &[(OwnerKind, &str)] =
        &[(OwnerKind::Unit, "b.service"), (OwnerKind::Container, "inner")];

    /// One word a branch: its depth, what stands there, and a dot when it is the last.
    fn words(rows: &[Row], tree: &Tree) -> Vec<String> {
        let word = |b: &Branch| {
            let text = match &b.node {
                Node::Owner(levels) => levels.last().unwrap().label().to_string(),
                Node::Unread => "unread".into(),
                Node::Process(at) => rows[*at].process.pid.to_string(),
            };
            format!("{}{text}{}", " ".repeat(b.depth), if b.is_last { "." } else { "" })
        };
        tree.branches.iter().map(word).collect()
    }

    #[test]
    fn below_their_owners_each_below_its_parent() {
        let rows = [
            row(1, 0, 0, HOST),
            row(9, 50, 60, OUTER), // exec'd: its parent is the shim
            row(40, 1, 40, UNIT),
            row(50, 1, 50, UNIT),
            row(51, 50, 51, OUTER),
            row(52, 51, 52, OUTER),
            row(53, 52, 53, INNER),
            row(54, 53, 54, INNER),
            row(55, 1, 55, IN_UNIT),
            row(56, 999, 56, &[]),
        ];
        let tree = grow(&rows, Owners::ByName);
        assert_eq!(
            words(&rows, &tree),
            [
                "-",
                " 1.",
                "b.service",
                " 40",
                " 50",
                " inner.",
                "  55.",
                "outer",
                " 9",
                " 51",
                "  52.",
                " inner.",
                "  53.",
                "   54.",
                "unread.",
                " 56."
            ]
        );
        let shuffled: Vec<Row> = [6, 9, 0].map(|at: usize| rows[at].clone()).into();
        let tree = grow(&shuffled, Owners::ByRows);
        let wanted = ["outer", " inner.", "  53.", "unread", " 56.", "-.", " 1."];
        assert_eq!(words(&shuffled, &tree), wanted);
    }

    #[test]
    fn a_parent_is_not_younger_than_its_child() {
        let rows = [row(7, 8, 100, HOST), row(8, 1, 101, HOST), row(9, 8, 101, HOST)];
        assert_eq!(words(&rows, &grow(&rows, Owners::ByName)), ["-.", " 7", " 8.", "  9."]);
    }

    #[test]
    fn circles_are_opened_above_their_lowest_pid() {
        let rows = [row(3, 9, 5, HOST), row(5, 5, 5, HOST), row(8, 9, 5, HOST), row(9, 8, 5, HOST)];
        let tree = grow(&rows, Owners::ByName);
        assert_eq!(words(&rows, &tree), ["-.", " 5", " 8.", "  9.", "   3."]);
        assert_eq!(tree.loops, [2]);
    }

    #[test]
    fn no_depth_is_too_deep() {
        let rows: Vec<Row> = (1..=100_000).map(|pid| row(pid, pid - 1, 1, UNIT)).collect();
        let tree = grow(&rows, Owners::ByName);
        assert_eq!(tree.branches.last().unwrap().depth, 100_000);
        assert_eq!(descendants(&rows, &[99_990]).len(), 10);
    }

    #[test]
    fn descendants_cross_owners() {
        let rows =
            [row(1, 0, 0, HOST), row(5, 1, 5, UNIT), row(7, 5, 7, OUTER), row(8, 1, 8, UNIT)];
        assert_eq!(descendants(&rows, &[5]), [2]);
        assert_eq!(descendants(&rows, &[1]).len(), 3);
        assert_eq!(descendants(&rows, &[7, 999]).len(), 0);
    }

    fn chains() -> impl Strategy<Value = Vec<(OwnerKind, &'static str)>> {
        let kind = prop::sample::select(vec![
            OwnerKind::Host,
            OwnerKind::Unit,
            OwnerKind::Container,
            OwnerKind::Unknown,
        ]);
        prop::collection::vec((kind, prop::sample::select(vec!["a", "b"])), 0..3)
    }

    fn any_rows() -> impl Strategy<Value = Vec<Row>> {
        let one = (0_u32..30, 0_u32..30, 0_u64..4, chains());
        prop::collection::vec(
            one.prop_map(|(pid, ppid, start, c)| row(pid, ppid, start, &c)),
            0..40,
        )
    }

    fn ids(row: &Row) -> Vec<(OwnerKind, String)> {
        let chain = row.membership.known().map(|m| m.chain.as_slice()).unwrap_or_default();
        chain.iter().map(|o| (o.kind, o.id.to_string())).collect()
    }

    proptest! {
        #[test]
        fn any_rows_make_a_tree(rows in any_rows(), by_name in any::<bool>()) {
            let order = if by_name { Owners::ByName } else { Owners::ByRows };
            let tree = grow(&rows, order);
            let mut above: Vec<&Branch> = Vec::new();
            let mut seen = HashSet::new();
            let mut owners = HashSet::new();
            for (at, branch) in tree.branches.iter().enumerate() {
                prop_assert!(branch.depth <= above.len());
                above.truncate(branch.depth);
                let next = tree.branches[at + 1..].iter().find(|b| b.depth <= branch.depth);
                prop_assert_eq!(branch.is_last, next.is_none_or(|n| n.depth < branch.depth));
                match (&branch.node, above.last().map(|b| &b.node)) {
                    (Node::Process(at), Some(Node::Process(parent))) => {
                        let (child, parent) = (&rows[*at], &rows[*parent]);
                        let ppid = child.process.stat.known().unwrap().ppid;
                        prop_assert_eq!(ppid, parent.process.pid);
                        prop_assert_eq!(ids(child), ids(parent));
                        prop_assert!(parent.process.start_ticks() <= child.process.start_ticks());
                        prop_assert!(seen.insert(*at));
                    }
                    (Node::Process(at), Some(node)) => {
                        let levels = match node {
                            Node::Owner(levels) => levels.as_slice(),
                            _ => &[],
                        };
                        let levels: Vec<_> = levels.iter().map(|o| (o.kind, o.id.to_string())).collect();
                        prop_assert_eq!(ids(&rows[*at]), levels);
                        // It has no parent among the rows that could be the right one.
                        let own = &rows[*at].process;
                        let ppid = own.stat.known().unwrap().ppid;
                        let fits = |r: &Row| r.process.pid == ppid && ppid != own.pid
                            && ids(r) == ids(&rows[*at])
                            && r.process.start_ticks() <= own.start_ticks();
                        let several = rows.iter().filter(|r| r.process.pid == ppid).count() > 1;
                        prop_assert!(several || tree.loops.contains(at) || !rows.iter().any(fits));
                        prop_assert!(seen.insert(*at));
                    }
                    (Node::Owner(levels), outer) => {
                        let path: Vec<_> = levels.iter().map(|o| (o.kind, o.id.clone())).collect();
                        prop_assert!(owners.insert(path));
                        match outer {
                            None => prop_assert_eq!(levels.len(), 1),
                            Some(Node::Owner(outer)) => prop_assert_eq!(outer.len() + 1, levels.len()),
                            Some(_) => prop_assert!(false, "an owner below a process"),
                        }
                    }
                    (Node::Unread, outer) => prop_assert!(outer.is_none()),
                    (Node::Process(_), None) => prop_assert!(false, "a process without owner"),
                }
                above.push(branch);
            }
            prop_assert_eq!(seen.len(), rows.len());
        }
    }
}
