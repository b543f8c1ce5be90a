//! The engines whose state was found.

use bstr::BString;

use super::Index;
use crate::model::gap::{Class, ReadError, what};
use crate::model::{Engine, Gap};
use crate::runtime::{StateRoot, by_engine};

/// One engine's state.
#[derive(Clone, Debug)]
pub struct FoundEngine {
    /// The engine.
    pub engine: Engine,
    /// Where its state lies, as the host names it; for one in a container as /proc does.
    pub root: BString,
    /// The user whose own it is.
    pub user: Option<BString>,
    /// Id of the container that it is in; empty for the host's.
    pub within: BString,
    /// Containers it knows, running or not.
    pub containers: Result<usize, Gap>,
}

/// Directories of an engine that are looked into for some path in each.
const SOME: [&str; 2] = ["volumes", "containers"];
/// Entries that such a directory may hold.
const MOST: usize = 200_000;

impl Index<'_> {
    /// Paths that somebody may ask for: the engine's own directory, what is not in it, a volume, a
    /// container's directory.
    #[must_use]
    pub fn some_paths(&self, engine: &FoundEngine) -> Vec<BString> {
        // Whether the second is there only who may look into the first can tell.
        let absent = [engine.root.as_slice(), b"/no such file"].concat();
        let mut paths = vec![engine.root.clone(), absent.into()];
        let is_it = |state: &&StateRoot| {
            let shown = state.root.shown();
            self.host.unrooted(shown).unwrap_or(shown) == engine.root
        };
        let Some(state) = self.roots_of(engine.engine).find(is_it) else { return paths };
        for dir in SOME {
            let entries = state.root.list(dir.as_bytes(), MOST).unwrap_or_default();
            let first = entries.into_iter().find(|e| e.is_dir);
            paths.extend(first.map(|e| {
                [engine.root.as_slice(), b"/", dir.as_bytes(), b"/", &e.name].concat().into()
            }));
        }
        paths
    }

    /// Every engine of which state can be found; with what stood in the way of looking.
    pub fn engines(&mut self) -> (Vec<FoundEngine>, Vec<Gap>) {
        let host = self.host;
        let found = |engine: Engine, state: &StateRoot, within: &BString| {
            let shown = state.root.shown();
            let listed = by_engine(engine).map(|runtime| {
                // What is not there yet, a directory or a database, has nothing in it.
                let none = |e: ReadError| match e.class {
                    Class::Gone => Ok(Vec::new()),
                    _ => Err(e),
                };
                let (running, ended) = (runtime.list(state), runtime.ended(state));
                Ok(running.or_else(none)?.len() + ended.or_else(none)?.len())
            });
            FoundEngine {
                engine,
                root: host.unrooted(shown).unwrap_or(shown).into(),
                user: state.user.clone(),
                within: within.clone(),
                containers: match listed {
                    Some(Err(e)) => Err(Gap::from_read(what::CONTAINERS, &e)),
                    Some(Ok(count)) => Ok(count),
                    None => Ok(0),
                },
            }
        };
        let none = BString::default();
        let (mut gaps, roots) = self.all_roots();
        let mut engines: Vec<FoundEngine> =
            roots.iter().map(|(engine, state)| found(*engine, state, &none)).collect();
        engines.extend(self.nested_roots().map(|(within, e, state)| found(e, state, within)));
        gaps.extend(self.nested_gaps().cloned());
        (engines, gaps)
    }
}
