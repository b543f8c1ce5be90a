//! What can be read here, what can't, and what would fix it.
//!
//! Nothing is guessed from rights: what the other commands read is read, and counted.

use std::collections::HashSet;
use std::rc::Rc;

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::scan::bpf::Wanted;
use whose_kernel::scan::{self, ByProc};
use whose_kernel::{Host, Mode, ReadError, parse};

use super::{Detail, Layers, PidsOptions, answer, binary, pids};
use crate::index::Index;
use crate::index::daemons::FoundDaemon;
use crate::index::engines::FoundEngine;
use crate::index::plan::Plan;
use crate::model::gap::what;
use crate::model::{Described, Fact, File, Gap, Owner, Row};
use crate::target::{Target, Typed, container, layer, path};

/// Containers that are asked for by name, and processes whose binary is looked for: of more, the
/// others are like these.
const MOST: usize = 200;

/// The report.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The host, and who looks at it.
    pub host: HostFacts,
    /// Engines whose state was found.
    pub engines: Vec<FoundEngine>,
    /// Daemons' sockets, and whether they can be asked.
    pub daemons: Vec<FoundDaemon>,
    /// What was read, and how much of it.
    pub can: Vec<Count>,
    /// What could not be read, alike ones together.
    pub cannot: Vec<Missing>,
}

/// What is known of the host.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    /// The kernel's release.
    pub kernel: Option<String>,
    /// The effective uid of this program.
    pub uid: Option<u32>,
    /// Its user's name.
    pub user: Option<BString>,
    /// Capabilities it has, without `CAP_`, and those it lacks of [`WANTED`].
    pub capabilities: Option<(Vec<&'static str>, Vec<&'static str>)>,
    /// How cgroups are mounted: `v2`, `v1`, `hybrid`.
    pub cgroups: Option<&'static str>,
    /// Whether nothing is outside of what this /proc shows.
    pub is_outermost: Option<bool>,
    /// Processes that this /proc shows.
    pub processes: usize,
    /// Containers, running or not.
    pub containers: usize,
    /// How all processes are read here; `None` for a saved tree, which has only files.
    pub scan: Option<ScanFacts>,
}

/// How all processes are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanFacts {
    /// `bpf`, the kernel's task iterator, or `proc`.
    pub source: &'static str,
    /// Why it is not the iterator.
    pub why: Option<String>,
}

/// The capabilities that make a difference to what can be told.
pub const WANTED: [&str; 3] = ["SYS_PTRACE", "DAC_READ_SEARCH", "SYS_ADMIN"];

/// How often something was read of the times that it was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// One of [`what::ALL`].
    pub what: &'static str,
    /// How often it could be read.
    pub read: usize,
    /// How often it was tried.
    pub tried: usize,
}

/// Gaps of one kind.
#[derive(Clone, Debug)]
pub struct Missing {
    /// The first of them.
    pub gap: Gap,
    /// How many there are.
    pub count: usize,
}

const DETAIL: Detail = Detail { needs: Needs::ALL, processes: true, served_by: true, binary: None };

/// Reads what the other commands read.
///
/// # Errors
/// When /proc itself can't be read.
pub fn doctor(index: &mut Index<'_>) -> Result<Report, ReadError> {
    let mut tally = Tally::default();
    let listing = index.scan(&Plan { also: Needs::ALL, ..Plan::default() })?;
    tally.gaps(&listing.gaps);
    let mut owners: HashSet<*const Owner> = HashSet::new();
    for row in &listing.rows {
        tally.row(row);
        for owner in row.membership.known().into_iter().flat_map(|m| &m.chain) {
            if owners.insert(Rc::as_ptr(owner)) {
                tally.owner(owner);
            }
        }
    }
    // What would be summed up was read of each process above.
    let needs = Needs::ALL.without(Needs::IO).without(Needs::FDS);
    let containers = index.containers(true, needs)?;
    tally.gaps(&containers.gaps);
    for listed in containers.rows.iter().take(MOST) {
        let Some(owner) = listed.owner() else { continue };
        tally.container(index, owner.id.as_ref());
    }
    for row in sample(&listing.rows) {
        tally.binary(index, row);
    }
    let own = listing.rows.iter().find(|r| r.process.pid == std::process::id());
    if let Some(own) = own {
        tally.hash(index, own);
    }
    let (engines, gaps) = index.engines();
    tally.gaps(&gaps);
    for engine in &engines {
        tally.engine(index, engine);
    }
    let (layers, gaps) = index.all_layers();
    tally.reading(what::LAYERS, layers.len(), &gaps);
    let unknown = Target::Layer(layer::Name::Directory("no such layer".into()));
    tally.target(index, "no such layer", unknown);
    let boot: Vec<Gap> =
        index.host().boot_id().err().map(|e| Gap::from_read(what::BOOT, &e)).into_iter().collect();
    tally.reading(what::BOOT, 1, &boot);
    let daemons = index.daemons();
    let told = daemons.iter().filter(|d| matches!(d.outcome, Ok((_, Some(_))))).count();
    tally.reading(what::DAEMON, told, &[]);
    tally.gaps(&index.host_gaps());
    let (can, cannot) = tally.finish();
    let host = facts(index, listing.rows.len(), containers.rows.len());
    Ok(Report { host, engines, daemons, can, cannot })
}

fn facts(index: &Index<'_>, processes: usize, containers: usize) -> HostFacts {
    let host = index.host();
    let uid = host.live().euid().ok();
    let hierarchies = index.hierarchies().unwrap_or_default();
    let v2 = hierarchies.iter().any(|h| h.v2);
    let v1 = hierarchies.iter().any(|h| !h.v2 && h.controllers.iter().any(is_controller));
    let capabilities = host.own_capabilities().ok().map(|set| {
        let has = |name: &&&str| parse::capabilities::has(set, name);
        let of = |names: &[&'static str], want: bool| -> Vec<&'static str> {
            names.iter().filter(|n| has(n) == want).copied().collect()
        };
        (of(&parse::capabilities::NAMES, true), of(&WANTED, false))
    });
    HostFacts {
        kernel: host.kernel_release().ok(),
        uid,
        user: uid.and_then(|uid| host.user_name(uid)).map(Into::into),
        capabilities,
        cgroups: match (v1, v2) {
            (true, true) => Some("hybrid"),
            (true, false) => Some("v1"),
            (false, true) => Some("v2"),
            (false, false) => None,
        },
        is_outermost: host.is_outermost(),
        processes,
        containers,
        scan: (host.mode() != Mode::Saved).then(|| scan_facts(host)),
    }
}

/// Which way would be gone, by going it.
fn scan_facts(host: &Host) -> ScanFacts {
    let why = match scan::tasks(host, Wanted::default()) {
        Ok(_) => return ScanFacts { source: "bpf", why: None },
        Err(few @ ByProc::Few(_)) => match scan::bpf::tasks(host, Wanted::default()) {
            Ok(_) => few.to_string(),
            Err(e) => ByProc::from(e).to_string(),
        },
        Err(why) => why.to_string(),
    };
    ScanFacts { source: "proc", why: Some(why) }
}

/// The words of a v1 mount are its options too.
fn is_controller(word: &BString) -> bool {
    CONTROLLERS.iter().any(|c| word == c)
}

/// The controllers of cgroup v1 (cgroups(7)): with one of them a hierarchy controls something, and
/// systemd's own does not make a host hybrid.
const CONTROLLERS: [&str; 13] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// One process of each user and owner first, then others.
fn sample(rows: &[Row]) -> Vec<&Row> {
    let mut seen: HashSet<(Option<u32>, BString)> = HashSet::new();
    let alive = |r: &&Row| !r.process.is_kernel() && !r.process.is_dead();
    let (first, others): (Vec<&Row>, Vec<&Row>) = rows.iter().filter(alive).partition(|row| {
        let owner = row.owner().map(|o| o.id.clone()).unwrap_or_default();
        seen.insert((row.process.uid(), owner))
    });
    first.into_iter().chain(others).take(MOST).collect()
}

/// What is missing from a file, each once: hash and build id are missing for the same reason.
fn gaps_of(file: Option<&File>) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for gap in file.into_iter().flat_map(File::gaps) {
        if !gaps.contains(gap) {
            gaps.push(gap.clone());
        }
    }
    gaps
}

/// Counts.
#[derive(Debug, Default)]
struct Tally {
    counts: Vec<Count>,
    missing: Vec<Missing>,
}

impl Tally {
    fn count(&mut self, what: &'static str, read: usize, tried: usize) {
        match self.counts.iter_mut().find(|c| c.what == what) {
            Some(count) => {
                count.read += read;
                count.tried += tried;
            }
            None => self.counts.push(Count { what, read, tried }),
        }
    }

    fn gap(&mut self, gap: &Gap) {
        let alike = |m: &&mut Missing| {
            (m.gap.what, m.gap.class, &m.gap.cause) == (gap.what, gap.class, &gap.cause)
        };
        match self.missing.iter_mut().find(alike) {
            Some(missing) => missing.count += 1,
            None => self.missing.push(Missing { gap: gap.clone(), count: 1 }),
        }
    }

    /// Gaps of reads that are counted nowhere else.
    fn gaps(&mut self, gaps: &[Gap]) {
        for gap in gaps {
            self.count(gap.what, 0, 1);
            self.gap(gap);
        }
    }

    /// So much was read, and that was not.
    fn reading(&mut self, what: &'static str, read: usize, gaps: &[Gap]) {
        self.count(what, read, read);
        self.gaps(gaps);
    }

    fn fact<T>(&mut self, what: &'static str, fact: &Fact<T>) {
        match fact {
            Fact::Unasked | Fact::Absent => {}
            Fact::Known(_) => self.count(what, 1, 1),
            Fact::Unread(gap) => self.gaps(std::slice::from_ref(gap)),
        }
    }

    fn row(&mut self, row: &Row) {
        let p = &row.process;
        self.fact(what::PROCESS, &p.stat);
        self.fact(what::PROCESS, &p.status);
        self.fact(what::ARGS, &p.args);
        self.fact(what::WCHAN, &p.wchan);
        self.fact(what::IO, &p.io);
        self.fact(what::FDS, &p.fds);
        self.fact(what::NAMESPACES, &p.pidns);
        self.fact(what::IDMAP, &p.inside_uid);
        self.fact(what::LINKS, &p.exe);
        self.fact(what::LINKS, &p.cwd);
        self.fact(what::BOOT, &p.start_time);
        self.fact(what::MEMBERSHIP, &row.membership);
    }

    fn owner(&mut self, owner: &Owner) {
        self.fact(what::PODS, &owner.seen_pod);
        match &owner.described {
            Described::No => {}
            Described::Yes(_) => self.count(what::DESCRIPTION, 1, 1),
            Described::Unread(gap) => self.gaps(std::slice::from_ref(gap)),
        }
        self.fact(what::STATE, &owner.state);
    }

    fn container(&mut self, index: &mut Index<'_>, id: &BStr) {
        let target = Target::Container(container::short(id));
        let typed = Typed { text: id.into(), target };
        let answer = answer(index, &typed, DETAIL);
        let own = |g: &&&Gap| g.what == what::STATE || g.what == what::DESCRIPTION;
        let gaps: Vec<Gap> = answer.all_gaps().iter().filter(own).map(|g| Gap::clone(g)).collect();
        self.gaps(&gaps);
        let pids = pids(index, &typed, PidsOptions::default());
        let gaps: Vec<Gap> = pids.answer.gaps.clone();
        self.reading(what::PIDS, usize::from(gaps.is_empty()), &gaps);
    }

    fn binary(&mut self, index: &mut Index<'_>, row: &Row) {
        let Some(file) = binary::of(index, row, false, Layers::Whole) else { return };
        match &file.host {
            Fact::Unread(_) => {
                // Then the hash could not be had either.
                self.gaps(&gaps_of(binary::of(index, row, true, Layers::Whole).as_ref()));
            }
            Fact::Known(_) | Fact::Absent | Fact::Unasked => self.count(what::BINARY, 1, 1),
        }
    }

    fn hash(&mut self, index: &mut Index<'_>, row: &Row) {
        let gaps = gaps_of(binary::of(index, row, true, Layers::Whole).as_ref());
        self.reading(what::HASH, usize::from(gaps.is_empty()), &gaps);
    }

    /// The engine's own directory, and a volume of it.
    fn engine(&mut self, index: &mut Index<'_>, engine: &FoundEngine) {
        match &engine.containers {
            Ok(_) => self.count(what::CONTAINERS, 1, 1),
            Err(gap) => self.gaps(std::slice::from_ref(gap)),
        }
        if !engine.within.is_empty() {
            return;
        }
        for path in index.some_paths(engine) {
            let target = Target::Path(path::HostPath(path.clone()));
            self.target(index, &path.to_string(), target);
        }
    }

    fn target(&mut self, index: &mut Index<'_>, text: &str, target: Target) {
        let what = match target {
            Target::Path(_) => what::PATH,
            _ => what::LAYERS,
        };
        let answer = answer(index, &Typed { text: text.into(), target }, DETAIL);
        let gaps: Vec<Gap> = answer.all_gaps().into_iter().cloned().collect();
        self.reading(what, usize::from(gaps.is_empty()), &gaps);
    }

    fn finish(mut self) -> (Vec<Count>, Vec<Missing>) {
        let place = |word: &str| what::ALL.iter().position(|w| *w == word);
        self.counts.sort_by_key(|c| place(c.what));
        self.counts.retain(|c| c.read > 0);
        // The commonest first, of one word together.
        self.missing.sort_by_key(|m| (place(m.gap.what), std::cmp::Reverse(m.count)));
        (self.counts, self.missing)
    }
}
