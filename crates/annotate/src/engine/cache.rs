//! What was found out already.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::rc::Rc;

use crate::format::What;
use crate::names::{Called, Known, Names, Standing, Tag, Turn};

/// Lookups of single processes in one generation after which all are read together, if that is cheaper.
const MANY: usize = 128;
/// Most entries that are kept of a kind.
const MOST: usize = 1 << 20;
const MOST_TAGS: usize = 1 << 16;
const MOST_IDS: usize = 1 << 12;
/// Most ids and the like of one batch that are looked up and lead to nobody who is there: each may be any
/// text, and costs a look at every engine's files.
const MOST_STRAY: usize = 1 << 10;
/// Most names of which it is asked whether a process is called so. It has two at most.
const MOST_NAMES: usize = 64;
/// Longest run of PIDs that is taken out one by one.
const FEW: u32 = 4096;

/// The number of a tag.
pub(super) type TagId = u32;

/// A process that was looked up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub(super) tag: TagId,
    pub(super) started: Option<i64>,
    pub(super) since_boot: u64,
    generation: u32,
}

/// Keeps what a [`Names`] said for as long as it is true.
#[derive(Debug)]
pub(super) struct Cache<N> {
    pub(super) names: N,
    processes: HashMap<u32, Process, BuildHasherDefault<PidHasher>>,
    generation: u32,
    looked_up: usize,
    read_all: bool,
    tags: Vec<Rc<Tag>>,
    /// So many are kept, and no more.
    pub(super) most_tags: usize,
    numbers: HashMap<*const Tag, TagId>,
    ids: HashMap<(u8, u32, Vec<u8>), Option<TagId>>,
    strays: usize,
    /// Whether processes are called so, by the names' hashes.
    called: HashMap<u32, Vec<(u64, bool)>, BuildHasherDefault<PidHasher>>,
    hasher: RandomState,
    gone: TagId,
    /// This very process.
    pub(super) own: Option<u32>,
}

impl<N: Names> Cache<N> {
    pub(super) fn new(names: N) -> Self {
        let (gone, own) = (names.gone(), names.own());
        let numbers = HashMap::from([(Rc::as_ptr(&gone), 0)]);
        Self {
            names,
            processes: HashMap::default(),
            generation: 0,
            looked_up: 0,
            read_all: false,
            tags: vec![gone],
            most_tags: MOST_TAGS,
            numbers,
            ids: HashMap::new(),
            strays: 0,
            called: HashMap::default(),
            hasher: RandomState::new(),
            gone: 0,
            own,
        }
    }

    /// The tag of what is no more.
    pub(super) fn gone(&self) -> TagId {
        self.gone
    }

    pub(super) fn tag(&self, id: TagId) -> &Tag {
        &self.tags[id as usize]
    }

    pub(super) fn standing(&self, id: TagId) -> Standing {
        self.tag(id).standing
    }

    /// A new batch of lines; whether the tags were forgotten: then no number of one that was given
    /// before may be used any more.
    pub(super) fn turn(&mut self) -> bool {
        self.strays = 0;
        match self.names.turn() {
            Turn::Same => {}
            Turn::Given(first, last) if first <= last && last - first < FEW => {
                for pid in first..=last {
                    self.processes.remove(&pid);
                    self.called.remove(&pid);
                }
            }
            Turn::Given(..) | Turn::Any => {
                self.generation = self.generation.wrapping_add(1);
                self.looked_up = 0;
                self.read_all = false;
                self.ids.clear();
                self.called.clear();
            }
        }
        let forgets = self.processes.len() > MOST || self.tags.len() > self.most_tags;
        if forgets {
            self.processes = HashMap::default();
            self.ids.clear();
            self.tags.truncate(1);
            self.numbers.clear();
            self.numbers.insert(Rc::as_ptr(&self.tags[0]), 0);
        }
        forgets
    }

    /// A process, or the last one with this PID that was there; `None` when none was seen.
    pub(super) fn process(&mut self, pid: u32) -> Option<Process> {
        // Nobody else gets this process's own PID. Where a tool tells what files are opened, each look
        // at it would be some lines more to look it up for.
        if let Some(process) = self.processes.get(&pid)
            && (process.generation == self.generation || Some(pid) == self.own)
        {
            return (process.tag != self.gone).then_some(*process);
        }
        self.look_up(pid)
    }

    fn look_up(&mut self, pid: u32) -> Option<Process> {
        self.looked_up += 1;
        if self.looked_up > MANY && !self.read_all {
            self.read_all = true;
            let mut all: Vec<(u32, Known)> = Vec::new();
            self.names.all(&mut |pid, known| all.push((pid, known)));
            for (pid, known) in all {
                self.keep(pid, &known);
            }
            if let Some(process) = self.processes.get(&pid)
                && process.generation == self.generation
            {
                return Some(*process);
            }
        }
        match self.names.process(pid) {
            Some(known) => Some(self.keep(pid, &known)),
            None => {
                let (tag, generation) = (self.gone, self.generation);
                let gone = Process { tag, started: None, since_boot: 0, generation };
                // Who was there under this PID is still who the lines speak of.
                let process = self.processes.entry(pid).or_insert(gone);
                process.generation = generation;
                (process.tag != self.gone).then_some(*process)
            }
        }
    }

    fn keep(&mut self, pid: u32, known: &Known) -> Process {
        let tag = self.number(&known.tag);
        let generation = self.generation;
        let (started, since_boot) = (known.started, known.since_boot);
        let process = Process { tag, started, since_boot, generation };
        self.processes.insert(pid, process);
        process
    }

    /// The number of a tag, which is kept: no other comes to be where it is.
    fn number(&mut self, tag: &Rc<Tag>) -> TagId {
        let place = Rc::as_ptr(tag);
        if let Some(known) = self.numbers.get(&place) {
            return *known;
        }
        let number = TagId::try_from(self.tags.len()).unwrap_or(self.gone);
        self.tags.push(Rc::clone(tag));
        self.numbers.insert(place, number);
        number
    }

    /// The owner of what is no process.
    pub(super) fn thing(&mut self, what: &What, text: &[u8]) -> Option<TagId> {
        let (kind, number) = match *what {
            What::Container => (0, 0),
            What::Cgroup => (1, 0),
            What::Path => (2, 0),
            What::Namespace(_) => (3, 0),
            // No interface has the index 0.
            What::Interface(peer) => (4, peer.unwrap_or(0)),
            What::Pid(_) | What::Command(..) | What::Comm(..) => return None,
        };
        let key = (kind, number, text.to_vec());
        if let Some(known) = self.ids.get(&key) {
            return *known;
        }
        if self.strays >= MOST_STRAY {
            self.names.overlooked();
            return None;
        }
        let tag = match *what {
            What::Container => self.names.container(text),
            What::Cgroup => self.names.cgroup(text),
            What::Path => self.names.path(text),
            What::Namespace(inode) => {
                let end = text.iter().position(|b| *b == b':').unwrap_or(text.len());
                self.names.namespace(&text[..end], inode)
            }
            What::Interface(peer) => self.names.interface(text, peer),
            What::Pid(_) | What::Command(..) | What::Comm(..) => None,
        };
        let is_known = tag.as_ref().is_some_and(|tag| tag.standing != Standing::Removed);
        self.strays += usize::from(!is_known);
        let tag = tag.map(|tag| self.number(&tag));
        if self.ids.len() >= MOST_IDS {
            self.ids.clear();
        }
        self.ids.insert(key, tag);
        tag
    }

    /// A process that must bear the name that the line has.
    pub(super) fn called(&mut self, pid: u32, called: Called<'_>) -> bool {
        let hash = self.hasher.hash_one(match called {
            Called::Command(name) => (true, name),
            Called::Comm(name) => (false, name),
        });
        if self.called.len() >= MOST_TAGS {
            self.called.clear();
        }
        let known = self.called.entry(pid).or_default();
        if let Some((_, is)) = known.iter().find(|(name, _)| *name == hash) {
            return *is;
        }
        let is = known.len() < MOST_NAMES && self.names.is_called(pid, called);
        if known.len() < MOST_NAMES {
            known.push((hash, is));
        }
        is
    }
}

/// Spreads PIDs: Fibonacci hashing.
#[derive(Debug, Default)]
pub(super) struct PidHasher(u64);

impl Hasher for PidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, n: u32) {
        let mixed = (self.0 ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}
