//! Names from a host.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bstr::{BStr, ByteSlice};
use serde_json::{Map, Value};
use whose_core::answer::{self, Detail};
use whose_core::index::Index;
use whose_core::index::interfaces::FarEnds;
use whose_core::index::mentions::overlooked;
use whose_core::index::plan::Plan;
use whose_core::model::{Described, Fact, Membership, Owner, OwnerKind, Row};
use whose_core::target::{Target, Typed, path};
use whose_fields::{Cell, Field, FieldId, Needs, Record};
use whose_render::{GapCounts, Shown, text};

use crate::names::{Called, Known, Names, Standing, Tag, Turn, short};

/// Processes that a host may start in a millisecond, at the very most: as long as fewer than there are
/// PIDs can have been started since the last look, the newest PID tells which were given.
const STARTS: u32 = 200;
/// PIDs there are, where that can't be read: the kernel's least default.
const LEAST_PIDS: u32 = 1 << 15;
/// How long an answer counts: a process may be moved to another cgroup. Longer where it takes long to
/// read all of them: at most one part in so many of the time is for that.
const AGE: Duration = Duration::from_secs(1);
const PARTS: u32 = 20;
/// How long what an engine's files said counts.
const STATE_AGE: Duration = Duration::from_secs(2);
/// How long no namespace is looked for after one search of all processes.
const SEARCH_EVERY: Duration = Duration::from_secs(1);
/// Most tags that are kept beyond the time of what they were made of.
const MOST_TAGS: usize = 1 << 14;
/// Owners of a path that are named.
const MOST_OWNERS: usize = 4;
/// Digits of a short id.
const SHORT: usize = 12;

/// Answers from the index of a host.
#[derive(Debug)]
pub struct HostNames<'h> {
    index: Index<'h>,
    born: Instant,
    fields: Vec<&'static Field>,
    titles: Vec<&'static str>,
    needs: Needs,
    /// Tags by what they say, and by the owner that they are of; both are kept, so that nothing else
    /// comes to be where they are.
    tags: HashMap<(Vec<String>, String), Rc<Tag>>,
    owners: HashMap<*const Owner, (Rc<Owner>, Rc<Tag>)>,
    gaps: GapCounts,
    gone: Rc<Tag>,
    unread: Rc<Tag>,
    boot_id: Option<String>,
    /// When the clock and the newest PID were looked at last, and since when answers count.
    turned: Option<(Instant, Option<u32>)>,
    since: Instant,
    gap: Duration,
    age: Duration,
    now: i64,
    uptime: u64,
    searched: Option<Instant>,
    /// Whose net namespaces there were at that moment.
    far_ends: Option<(Instant, Option<FarEnds>)>,
}

impl<'h> HostNames<'h> {
    /// Tells these fields of owners.
    #[must_use]
    pub fn new(index: Index<'h>, fields: &[&'static Field]) -> Self {
        let fields = fields.to_vec();
        let titles: Vec<&str> = fields.iter().map(|f| f.title).collect();
        let needs = fields.iter().fold(Needs::STAT.and(Needs::OWNER), |n, f| n.and(f.needs));
        let word = |text, standing| Rc::new(Tag::word(text, fields.len(), standing));
        let now = Instant::now();
        let pids = index.host().root().read(b"proc/sys/kernel/pid_max", 64).ok();
        let pids = pids.and_then(|text| text.trim_ascii().to_str().ok()?.parse().ok());
        let pids: u32 = pids.unwrap_or(LEAST_PIDS);
        Self {
            boot_id: index.host().boot_id().ok(),
            index,
            born: now,
            needs: needs.and(Needs::DESCRIPTION),
            titles,
            gone: word("(gone)", Standing::Gone),
            unread: word("?", Standing::Unread),
            fields,
            tags: HashMap::new(),
            gaps: GapCounts::default(),
            owners: HashMap::new(),
            gap: Duration::from_millis((pids / STARTS).into()),
            age: AGE,
            turned: None,
            since: now,
            now: 0,
            uptime: 0,
            searched: None,
            far_ends: None,
        }
    }

    /// Whether a field says something of an owner, and not of one of its processes.
    #[must_use]
    pub fn is_of_owner(field: &Field) -> bool {
        field.json == "owner" || field.json.starts_with("owner.") && !is_of_list(field.id)
    }

    /// One line about what could not be read of owners that were named; `None` when nothing.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        self.gaps.clone().summary(0)
    }

    fn tag(&mut self, row: &Row) -> Rc<Tag> {
        let Some(owner) = row.owner().cloned() else {
            Row::gaps_of(&row.membership).for_each(|gap| self.gaps.add(gap));
            return Rc::clone(&self.unread);
        };
        let standing = match owner.kind {
            OwnerKind::Host => Standing::Host,
            _ => Standing::Owner,
        };
        if let Some((_, known)) = self.owners.get(&Rc::as_ptr(&owner)) {
            return Rc::clone(known);
        }
        let shown = Shown::default();
        let cells: Vec<String> = self.fields.iter().map(|f| short(shown.text(row, f))).collect();
        let key = (cells, json(&owner));
        let tag = match self.tags.get(&key) {
            Some(known) => Rc::clone(known),
            None => {
                Row::gaps_of(&row.membership).for_each(|gap| self.gaps.add(gap));
                let text = self.in_words(row, &key.0);
                self.keep(Tag::new(key.0, text, key.1, standing))
            }
        };
        self.owners.insert(Rc::as_ptr(&owner), (owner, Rc::clone(&tag)));
        tag
    }

    /// A tag that is kept by what it says, so that the same is not made again.
    fn keep(&mut self, tag: Tag) -> Rc<Tag> {
        let key = (tag.cells.clone(), tag.json.clone());
        if let Some(known) = self.tags.get(&key) {
            return Rc::clone(known);
        }
        if self.tags.len() > MOST_TAGS {
            self.tags.clear();
        }
        let tag = Rc::new(tag);
        self.tags.insert(key, Rc::clone(&tag));
        tag
    }

    /// The first field as it is, the others with their names, as far as they have a value.
    fn in_words(&self, row: &Row, cells: &[String]) -> String {
        let mut words = String::new();
        for (at, (field, cell)) in self.fields.iter().zip(cells).enumerate() {
            if at > 0 && matches!(row.get(field.id), Cell::Absent) {
                continue;
            }
            if at > 0 {
                words.push_str(if words.is_empty() { "" } else { " " });
                words.push_str(field.name);
                words.push('=');
            }
            words.push_str(cell);
        }
        words
    }

    fn of_owner(&mut self, owner: Rc<Owner>) -> Rc<Tag> {
        let membership = Membership { chain: vec![owner], evidence: Vec::new() };
        self.tag(&Row { membership: Fact::Known(membership), ..Row::default() })
    }

    fn known(&mut self, row: &Row) -> Known {
        let tag = self.tag(row);
        let ticks = row.process.start_ticks();
        let started = self.index.host().start_time(ticks).ok();
        let since_boot = ticks.saturating_mul(1000) / self.index.host().ticks_per_second().max(1);
        Known { tag, started, since_boot }
    }

    fn is_live(&self) -> bool {
        self.index.host().mode().name() == "live"
    }

    /// Several owners in one tag.
    fn together(&mut self, owners: &[Rc<Owner>]) -> Option<Rc<Tag>> {
        let tags: Vec<Rc<Tag>> =
            owners.iter().take(MOST_OWNERS).map(|o| self.of_owner(Rc::clone(o))).collect();
        let first = tags.first()?;
        if tags.len() == 1 {
            return Some(Rc::clone(first));
        }
        let column = |at: usize| -> Vec<&str> {
            tags.iter().filter_map(|t| t.cells.get(at).map(String::as_str)).collect()
        };
        let mut cells: Vec<String> =
            (0..self.fields.len()).map(|at| column(at).join(",")).collect();
        let mut words: Vec<&str> = tags.iter().map(|t| t.text.as_str()).collect();
        let more = owners.len().saturating_sub(MOST_OWNERS);
        let rest = format!("+{more}");
        if more > 0 {
            words.push(&rest);
            cells.iter_mut().for_each(|cell| cell.push_str(&format!(",{rest}")));
        }
        let json: Vec<&str> = tags.iter().map(|t| t.json.as_str()).collect();
        let tag = Tag::new(cells, words.join(", "), json.join(","), Standing::Owner);
        Some(self.keep(tag))
    }
}

/// Whether a name is that of a process, maybe with `_` for its blanks.
fn is_comm(comm: &[u8], name: &[u8]) -> bool {
    let fits = |(own, other): (&u8, &u8)| own == other || (*own == b' ' && *other == b'_');
    comm.len() == name.len() && comm.iter().zip(name).all(fits)
}

/// Fields of lists of containers, which no process has.
fn is_of_list(id: FieldId) -> bool {
    matches!(id, FieldId::Up | FieldId::Processes | FieldId::Pids)
}

/// An owner in the shape of the schema, as far as it is known.
fn json(owner: &Owner) -> String {
    let text = |bytes: &[u8]| Value::from(short(text::lossy(bytes).0));
    let mut object = Map::new();
    object.insert("kind".into(), owner.kind.name().into());
    if owner.kind != OwnerKind::Host {
        object.insert("runtime".into(), owner.runtime.0.into());
        let unread = matches!(owner.described, Described::Unread(_)) && owner.id.is_empty();
        object.insert("id".into(), if unread { Value::Null } else { text(&owner.id) });
    }
    if let Some(name) = owner.best_name() {
        object.insert("name".into(), text(name));
    }
    if let Some(description) = owner.description() {
        let parts = [("image", &description.image), ("user", &description.user)];
        for (key, value) in parts {
            if let Some(value) = value {
                object.insert(key.into(), text(value));
            }
        }
    }
    if let Some(pod) = owner.pod() {
        let parts = [
            ("name", pod.name),
            ("namespace", pod.namespace),
            ("uid", pod.uid),
            ("container", pod.container),
        ];
        let inner: Map<String, Value> = parts
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), text(&value?))))
            .collect();
        object.insert("pod".into(), Value::Object(inner));
    }
    Value::Object(object).to_string()
}

impl Names for HostNames<'_> {
    fn own(&self) -> Option<u32> {
        self.index.host().own_pid()
    }

    fn turn(&mut self) -> Turn {
        let now = Instant::now();
        if let (Ok(ticks), hz) =
            (self.index.host().uptime_ticks(), self.index.host().ticks_per_second().max(1))
        {
            self.uptime = ticks.saturating_mul(1000) / hz;
            if let Ok(at) = self.index.host().start_time(ticks) {
                self.now = at;
            }
        }
        let newest = if self.is_live() {
            self.index.host().task_count_and_newest().ok().map(|(_, n)| n)
        } else {
            None
        };
        let Some((before, known)) = self.turned.replace((now, newest)) else { return Turn::Any };
        if self.index.host().mode().name() == "saved" {
            return Turn::Same;
        }
        if now - before > self.gap || now - self.since > self.age {
            self.since = now;
            if now - self.born > STATE_AGE.max(self.age) {
                self.index = Index::new(self.index.host());
                self.born = now;
                self.owners.clear();
                if self.tags.len() > MOST_TAGS {
                    self.tags.clear();
                }
            }
            return Turn::Any;
        }
        match (known, newest) {
            (Some(before), Some(newest)) if before == newest => Turn::Same,
            (Some(before), Some(newest)) => Turn::Given(before.saturating_add(1), newest),
            _ => Turn::Any,
        }
    }

    fn process(&mut self, pid: u32) -> Option<Known> {
        match self.index.row(pid, self.needs) {
            Ok(Some(row)) => Some(self.known(&row)),
            Ok(None) => None,
            // It is there, and that is all that may be known.
            Err(_) => Some(Known { tag: Rc::clone(&self.unread), started: None, since_boot: 0 }),
        }
    }

    fn all(&mut self, take: &mut dyn FnMut(u32, Known)) -> bool {
        let columns = self.fields.iter().map(|f| f.id).collect();
        let plan = Plan { columns, also: self.needs, ..Plan::default() };
        let begun = Instant::now();
        // Rows are told as they come, and not kept.
        let fresh = Index::new(self.index.host());
        let mut index = std::mem::replace(&mut self.index, fresh);
        let scanned = index.scan_each(&plan, &mut |row| {
            let known = self.known(&row);
            take(row.process.pid, known);
            ControlFlow::Continue(())
        });
        self.index = index;
        self.age = AGE.max(begun.elapsed() * PARTS);
        scanned.is_ok()
    }

    fn is_called(&mut self, pid: u32, called: Called<'_>) -> bool {
        let needs = match called {
            Called::Command(_) => Needs::STAT.and(Needs::CMDLINE),
            Called::Comm(_) => Needs::STAT.and(Needs::STATUS),
        };
        let Ok(Some(row)) = self.index.row(pid, needs) else { return false };
        let process = &row.process;
        match called {
            Called::Command(name) => {
                let args = process.args.known();
                process.comm() == name || args.is_some_and(|args| bstr::join(b" ", args) == name)
            }
            Called::Comm(name) if is_comm(process.comm(), name) => true,
            // A thread may be called as its process.
            Called::Comm(name) => {
                let tgid = process.status.known().and_then(|s| s.tgid).filter(|tgid| *tgid != pid);
                let row = tgid.and_then(|tgid| self.index.row(tgid, Needs::STAT).ok()?);
                row.is_some_and(|row| is_comm(row.process.comm(), name))
            }
        }
    }

    fn container(&mut self, id: &[u8]) -> Option<Rc<Tag>> {
        let found = self.index.container_with_id(BStr::new(id), self.needs);
        found.gaps.iter().for_each(|gap| self.gaps.add(gap));
        Some(self.of_owner(found.owner?))
    }

    fn cgroup(&mut self, path: &[u8]) -> Option<Rc<Tag>> {
        let found = self.index.owner_of_cgroup(BStr::new(path), self.needs)?;
        if !found.is_removed {
            return Some(self.tag(&found.row));
        }
        let owner = found.row.owner()?;
        let id = text::sanitise(&owner.id[..owner.id.len().min(SHORT)]);
        let tag = Tag::word(&format!("{id}(removed)"), self.fields.len(), Standing::Removed);
        let json = json(owner);
        Some(self.keep(Tag { json, ..tag }))
    }

    fn path(&mut self, path: &[u8]) -> Option<Rc<Tag>> {
        let target = Target::Path(path::bare(BStr::new(path))?);
        let typed = Typed { text: path.into(), target };
        let needs = self.needs;
        let detail = Detail { needs, processes: false, served_by: false, binary: None };
        let answer = answer::answer(&mut self.index, &typed, detail);
        let owners = answer.owners.clone().unwrap_or_default();
        let one = answer.owner().filter(|o| o.kind.contains()).cloned();
        let owners = if owners.is_empty() { one.into_iter().collect() } else { owners };
        self.together(&owners)
    }

    fn namespace(&mut self, kind: &[u8], inode: u64) -> Option<Rc<Tag>> {
        let now = Instant::now();
        if self.searched.is_some_and(|at| now - at < SEARCH_EVERY) && self.is_live() {
            return None;
        }
        let kind = std::str::from_utf8(kind).ok()?;
        let pid = self.index.process_in_namespace(kind, inode);
        self.searched = pid.is_none().then_some(now);
        let row = self.index.row(pid?, self.needs).ok()??;
        Some(self.tag(&row))
    }

    fn interface(&mut self, name: &[u8], peer: Option<u32>) -> Option<Rc<Tag>> {
        let now = Instant::now();
        let known = self.far_ends.take().filter(|(at, _)| now - *at < SEARCH_EVERY);
        let known = known.unwrap_or_else(|| (now, self.index.far_ends()));
        let ends = known.1.as_ref();
        let owners = ends.map(|ends| ends.owners(&mut self.index, name, peer, self.needs));
        self.far_ends = Some(known);
        self.together(&owners?)
    }

    fn overlooked(&mut self) {
        self.gaps.add(&overlooked());
    }

    fn is_this_boot(&self, id: &[u8]) -> bool {
        // journald writes it without dashes.
        let digits = |text: &[u8]| text.iter().copied().filter(|b| *b != b'-').collect::<Vec<u8>>();
        self.boot_id.as_ref().is_some_and(|own| digits(own.as_bytes()) == digits(id))
    }

    fn now(&self) -> i64 {
        self.now
    }

    fn uptime(&self) -> u64 {
        self.uptime
    }

    fn gone(&self) -> Rc<Tag> {
        Rc::clone(&self.gone)
    }

    fn titles(&self) -> &[&'static str] {
        &self.titles
    }
}
