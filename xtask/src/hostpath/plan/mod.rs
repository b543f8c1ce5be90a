//! What a stack is to be, from a seed and a number alone: nothing is touched.

mod layers;
mod mount;
mod names;
mod overlay;
mod plain;
mod rng;
mod scenes;
mod text;

pub(crate) use text::quoted;

#[cfg(test)]
mod tests;

use rng::Rng;

/// Where a step is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the namespaces `whose` runs in.
    Host,
    /// In the stack's own namespaces.
    Inside,
}

/// The namespaces of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// Those of the caller.
    Host,
    /// A mount namespace of its own.
    Private,
    /// A user namespace and a mount namespace.
    User,
}

/// One command to `stage.c`; paths begin with `@NAME@`, a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) place: Place,
    pub(crate) words: Vec<Vec<u8>>,
    /// The program this starts.
    pub(crate) starts: Option<usize>,
}

/// One running binary, and what is known of it beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// The case, a row of the table.
    pub(crate) label: &'static str,
    /// The text the process finds in its own memory.
    pub(crate) mark: String,
    /// One name of the mapped file, in the caller's namespace.
    pub(crate) file: Option<Vec<u8>>,
    /// Why no host path is expected.
    pub(crate) none: Option<&'static str>,
    /// `copied_up`, when the plan knows it.
    pub(crate) copied_up: Option<&'static str>,
    /// `state`, when the plan knows it.
    pub(crate) state: Option<&'static str>,
    /// `role` of the mapped file, when the plan knows it.
    pub(crate) role: Option<&'static str>,
}

/// One stack with its programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) number: u64,
    pub(crate) space: Space,
    /// What is special about the stack as a whole.
    pub(crate) traits: Vec<&'static str>,
    pub(crate) steps: Vec<Step>,
    pub(crate) programs: Vec<Program>,
    /// Mount points of the host's namespace, in the order of mounting.
    pub(crate) mounts: Vec<Vec<u8>>,
}

/// A plan being made.
struct Draft {
    rng: Rng,
    /// The file systems for layers, as in `@NAME@`.
    disks: Vec<String>,
    /// How often a name is an odd one, of a hundred.
    odd: usize,
    /// The text of the next file.
    next: u64,
    plan: Plan,
}

/// Stack `number` of a run with `seed`, on these file systems.
///
/// Of the file systems `ram` and `btrfs` are known by name: the one is always there, the other
/// has snapshots.
pub(crate) fn plan(seed: u64, number: u64, disks: &[String]) -> Plan {
    let mut rng = Rng::new(seed, number);
    let odd = if rng.chance(50) { 0 } else { 35 };
    let space = match rng.below(100) {
        0..70 => Space::Host,
        70..85 => Space::Private,
        _ => Space::User,
    };
    let plan = Plan {
        number,
        space,
        traits: Vec::new(),
        steps: Vec::new(),
        programs: Vec::new(),
        mounts: Vec::new(),
    };
    let mut draft = Draft { rng, disks: disks.to_vec(), odd, next: 0, plan };
    draft.note(match space {
        Space::Host => "caller's namespaces",
        Space::Private => "own mount namespace",
        Space::User => "own user namespace",
    });
    if odd > 0 {
        draft.note("odd names");
    }
    if draft.rng.chance(12) {
        plain::draw(&mut draft);
    } else {
        overlay::draw(&mut draft);
    }
    draft.plan
}

impl Draft {
    fn note(&mut self, what: &'static str) {
        if !self.plan.traits.contains(&what) {
            self.plan.traits.push(what);
        }
    }

    /// A text that no other file of the run carries, 16 bytes.
    fn mark(&mut self) -> String {
        self.next += 1;
        format!("{:012x}{:04x}", self.plan.number, self.next)
    }

    /// The stack's directory on a file system.
    fn home(&self, disk: &str) -> Vec<u8> {
        format!("@{disk}@/s{}", self.plan.number).into_bytes()
    }

    fn disk(&mut self) -> String {
        self.rng.pick(&self.disks).cloned().unwrap_or_else(|| "ram".to_owned())
    }

    fn name(&mut self, plain: &str) -> Vec<u8> {
        names::name(&mut self.rng, plain, self.odd)
    }

    /// The place where this path is what it says: a private tmpfs is seen only inside.
    fn side(path: &[u8]) -> Place {
        if path.windows(6).any(|part| part == b"/priv/") { Place::Inside } else { Place::Host }
    }

    fn step(&mut self, place: Place, words: &[&[u8]]) {
        let words = words.iter().map(|word| word.to_vec()).collect();
        self.plan.steps.push(Step { place, words, starts: None });
    }

    /// A step at a path, where that path is seen.
    fn at(&mut self, words: &[&[u8]]) {
        let place = words.get(1).map_or(Place::Host, |path| Self::side(path));
        self.step(place, words);
    }

    /// A step among the stack's own mounts.
    fn inside(&mut self, words: &[&[u8]]) {
        self.step(Place::Inside, words);
    }

    /// A mount inside, noted for the clearing up when it is the caller's.
    fn mount(&mut self, words: &[&[u8]], point: &[u8]) {
        self.inside(words);
        if self.plan.space == Space::Host {
            self.plan.mounts.push(point.to_vec());
        }
    }

    /// A private tmpfs for this stack.
    fn private_disk(&mut self) -> Vec<u8> {
        self.next += 1;
        let point = join(&self.home("ram"), format!("priv/t{}", self.next).as_bytes());
        self.at(&[b"mkdir", &point]);
        self.inside(&[b"mount", b"none", &point, b"tmpfs", b"", b"size=16m"]);
        self.note("private tmpfs");
        point
    }

    /// Starts a program and says what is expected of it.
    fn start(&mut self, words: &[&[u8]], program: Program) -> usize {
        let index = self.plan.programs.len();
        self.inside(words);
        if let Some(step) = self.plan.steps.last_mut() {
            step.starts = Some(index);
        }
        self.plan.programs.push(program);
        index
    }

    fn program(&mut self, index: usize) -> Option<&mut Program> {
        self.plan.programs.get_mut(index)
    }
}

use names::join;

impl Program {
    fn new(label: &'static str, mark: &str) -> Self {
        Self {
            label,
            mark: mark.to_owned(),
            file: None,
            none: None,
            copied_up: None,
            state: Some("present"),
            role: None,
        }
    }
}
