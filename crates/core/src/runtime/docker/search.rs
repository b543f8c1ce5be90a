//! Searching the configurations of a data root.

use bstr::{BStr, BString, ByteSlice};
use memchr::memmem;
use whose_kernel::root::join;
use whose_kernel::sift::Judged;
use whose_kernel::{Class, Host, ReadError};

use super::not_its_own;
use crate::model::Gap;
use crate::model::gap::what;
use crate::runtime::{Matches, StateRoot};
use crate::state::{docker as files, docker_network, json};

/// So many containers that it takes longer to read their configurations than to ask which is likely.
const MANY: usize = 64;

/// A search for containers whose configuration holds a text.
pub(super) struct Search<'s> {
    pub(super) host: &'s Host,
    pub(super) root: &'s StateRoot,
    /// Those that are looked through.
    pub(super) ids: Vec<BString>,
    pub(super) needle: &'s [u8],
}

/// What makes a configuration one that is looked for.
type Test<'t> = &'t (dyn Fn(&files::Config) -> bool + Sync);

impl Search<'_> {
    /// Those that pass a test which one container of an engine passes: once one is found that the
    /// kernel shows to run, no other is looked at. What else has its name here was left behind.
    pub(super) fn by_name(&self, test: impl Fn(&files::Config) -> bool + Sync) -> Matches {
        let is_up = |c: &files::Config| c.state.running && c.state.pid > 0;
        if let Some(likely) = self.likely()
            && let (matches, Some((id, pid))) = likely.sift(&test, &is_up)
            && self.runs(id.as_bstr(), pid)
        {
            return Matches { ids: vec![id], ..matches };
        }
        let (matches, running) = self.sift(&test, &is_up);
        match running {
            None => matches,
            Some((id, pid)) if self.runs(id.as_bstr(), pid) => Matches { ids: vec![id], ..matches },
            Some(_) => self.all(test),
        }
    }

    /// A search among those that have the name in one of their networks, where there are many.
    fn likely(&self) -> Option<Self> {
        let Self { host, root, ref ids, needle } = *self;
        if ids.len() < MANY {
            return None;
        }
        let told = docker_network::named(&root.root, needle.as_bstr()).ok()?;
        let ids: Vec<BString> = told.into_iter().filter(|id| ids.contains(id)).collect();
        (!ids.is_empty()).then_some(Self { host, root, ids, needle })
    }

    /// All that pass a test.
    pub(super) fn all(&self, test: impl Fn(&files::Config) -> bool + Sync) -> Matches {
        self.sift(&test, &|_| false).0
    }

    /// Whether the process is in the container's cgroup.
    fn runs(&self, id: &BStr, pid: i64) -> bool {
        let Ok(pid) = u32::try_from(pid) else { return false };
        let lines = self.host.process(pid).and_then(|p| p.cgroup()).unwrap_or_default();
        lines.iter().any(|line| line.segments().any(|s| s.contains_str(id)))
    }

    /// Those that pass `test`; and one that passes `last` too, with its PID: then not all were looked at.
    fn sift(&self, test: Test<'_>, last: Test<'_>) -> (Matches, Option<(BString, i64)>) {
        let Self { host, root, ids, needle } = self;
        let mut matches = Matches::default();
        let sieve = Sieve::new(needle);
        let config = |id: &BString| BString::from(files::container_file(id, "config.v2.json"));
        let paths: Vec<BString> = ids.iter().map(config).collect();
        let shown = root.root.shown();
        let judge = |at: usize, read: Result<Vec<u8>, ReadError>| {
            let read = read.and_then(|bytes| {
                if sieve.excludes(&bytes, &ids[at]) {
                    return Ok(None);
                }
                let path = || join(shown, &paths[at]);
                let config = files::parse_config(&bytes)
                    .map_err(|why| ReadError::new(path(), Class::Malformed, why))?;
                if config.id.as_bytes() != ids[at].as_bytes() {
                    return Err(not_its_own(path()));
                }
                let pid = last(&config).then_some(config.state.pid);
                Ok(test(&config).then_some(pid))
            });
            match read {
                Ok(Some(pid @ Some(_))) => Judged::Last(Ok((at, pid))),
                Ok(Some(None)) => Judged::Found(Ok((at, None))),
                Ok(None) => Judged::Nothing,
                Err(e) if e.class == Class::Gone => Judged::Nothing, // removed meanwhile
                Err(e) => Judged::Found(Err(Gap::from_read(what::DESCRIPTION, &e))),
            }
        };
        let sifted = root.root.sift(&paths, json::CAP, host.deadline(), &judge);
        let mut running = None;
        for found in sifted.found {
            match found {
                Ok((at, pid)) => {
                    matches.ids.push(ids[at].clone());
                    running = running.or(pid.map(|pid| (ids[at].clone(), pid)));
                }
                Err(gap) => matches.gaps.push(gap),
            }
        }
        if !sifted.complete {
            let why = "not all containers were looked through in time";
            let late = ReadError::new(root.root.join(b"containers"), Class::TimedOut, why);
            matches.gaps.push(Gap::from_read(what::CONTAINERS, &late));
        }
        (matches, running)
    }
}

/// Looks through configurations for a text without parsing them.
struct Sieve<'n> {
    needle: memmem::Finder<'n>,
    own_id: memmem::Finder<'static>,
    own_name: memmem::Finder<'static>,
}

impl<'n> Sieve<'n> {
    fn new(needle: &'n [u8]) -> Self {
        // A name with characters that JSON escapes can't be looked for in the bytes.
        let plain = needle.iter().all(|b| (b' '..=b'~').contains(b) && !b"\"\\<>&".contains(b));
        Self {
            needle: memmem::Finder::new(if plain { needle } else { b"" }),
            own_id: memmem::Finder::new(b"\"ID\":\""),
            own_name: memmem::Finder::new(b"\"Name\":\"/"),
        }
    }

    /// Whether this is the whole configuration of the container, as Docker writes it, and does not
    /// hold the text. Only of such does its absence prove anything without parsing it.
    fn excludes(&self, bytes: &[u8], id: &[u8]) -> bool {
        let is_own = |at: usize| {
            let rest = bytes.get(at + 6..).and_then(|rest| rest.strip_prefix(id));
            rest.is_some_and(|rest| rest.starts_with(b"\""))
        };
        self.needle.find(bytes).is_none()
            && bytes.trim_ascii_end().ends_with(b"}")
            && self.own_id.find_iter(bytes).any(is_own)
            && self.own_name.find(bytes).is_some()
            && std::str::from_utf8(bytes).is_ok()
    }
}
