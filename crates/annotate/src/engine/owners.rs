//! From what a line names to what is added to it.

use std::collections::HashSet;

use regex::bytes::Regex;

use super::cache::TagId;
use super::{Engine, Place};
use crate::format::{Heading, Mention, Side, Way, What, When, named_in};
use crate::names::{Called, Names, Standing};
use crate::options::Style;
use crate::words::pid;

/// How much later than it is written something may be, ms: clocks are read one after another, and
/// whole seconds are cut.
const SLACK: i64 = 1000;
/// Most processes of which it is remembered what a log said.
const MOST_PAST: usize = 4096;
/// Most owners that are named behind one line; so many more are counted.
const MOST_NAMED: usize = 16;

/// The owners of a line, each once.
#[derive(Debug, Default)]
pub(super) struct Owners {
    all: Vec<TagId>,
    seen: HashSet<TagId>,
}

impl Owners {
    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.seen.clear();
    }

    fn add(&mut self, id: TagId) {
        // Most lines have one.
        let is_new = match self.all.len() {
            0..=MOST_NAMED => !self.all.contains(&id),
            _ => {
                if self.seen.is_empty() {
                    self.seen.extend(&self.all);
                }
                self.seen.insert(id)
            }
        };
        if is_new {
            self.all.push(id);
        }
    }

    fn all(&self) -> &[TagId] {
        &self.all
    }
}

impl<N: Names> Engine<N> {
    /// Adds the owner to a row.
    pub(super) fn row(
        &mut self,
        place: &Place<'_>,
        text: &[u8],
        heading: &Heading,
        mention: &Mention,
    ) {
        let id = self.owner_in_row(text, mention);
        let (is_column, side) = (heading.takes_column, heading.side);
        match self.options.style {
            Style::Column if is_column => {
                // A row without owner has its place in the column all the same.
                let id = id.unwrap_or(self.cache.gone());
                self.edits.cells(place.at(&mention.at, side), side, id, self.cache.tag(id));
            }
            Style::Column | Style::Suffix => {
                self.owners.clear();
                id.into_iter().for_each(|id| self.owners.add(id));
                self.behind(place.end());
            }
            Style::Prefix => {
                self.owners.clear();
                id.into_iter().for_each(|id| self.owners.add(id));
                self.before(place.from);
            }
            Style::Replace => {
                if let Some(id) = id {
                    let name = self.cache.tag(id).text.as_bytes();
                    let span = place.span(&mention.at);
                    // It keeps the width of the number, where that is enough.
                    let room =
                        mention.at.len().saturating_sub(crate::words::column(name, name.len()));
                    let blanks = vec![b' '; room];
                    let both = match side {
                        Side::After => [&blanks[..], name].concat(),
                        Side::Before => [name, &blanks[..]].concat(),
                    };
                    self.edits.instead(span.start, span.len(), &both);
                }
            }
            Style::Json => {}
        }
    }

    /// Whose a row is; of a process that is no more, by what else the row says.
    fn owner_in_row(&mut self, text: &[u8], mention: &Mention) -> Option<TagId> {
        let id = self.resolve(mention, text);
        let is_gone = id.is_none_or(|id| self.cache.standing(id) == Standing::Gone);
        if !is_gone || !matches!(mention.what, What::Pid(_)) {
            return id;
        }
        let mut others = Vec::new();
        named_in(text, &mut others);
        others.iter().find_map(|other| self.resolve(other, text)).or(id)
    }

    /// Adds what the places of a line of running text name.
    pub(super) fn running_text(&mut self, place: &Place<'_>, text: &[u8], found: &mut [Mention]) {
        found.sort_by_key(|m| m.at.start);
        self.owners.clear();
        let mut cgroup: Option<TagId> = None;
        let mut processes: Vec<u32> = Vec::new();
        for mention in found.iter() {
            let id = self.resolve(mention, text);
            match (&mention.what, mention.way) {
                (What::Pid(_), Way::Member(key)) => {
                    let id = self.or_by_cgroup(id, mention);
                    let json = id.map_or("null", |id| self.cache.tag(id).json.as_str());
                    let end = place.at(&mention.at, Side::After);
                    self.edits.text(end, &[b",\"", key.as_bytes(), b"\":", json.as_bytes()]);
                    continue;
                }
                (_, Way::Frame) => {
                    if let Some(id) = id.filter(|id| self.is_said(*id)) {
                        let name = self.cache.tag(id).text.replace(';', ":");
                        self.edits.text(place.from, &[name.as_bytes(), b";"]);
                    }
                    continue;
                }
                _ => {}
            }
            if let (What::Pid(pid), true) = (&mention.what, mention.when != When::Now) {
                processes.push(*pid);
            }
            if mention.what == What::Cgroup {
                cgroup = id.or(cgroup);
            }
            if self.options.style == Style::Replace {
                self.replace(place, mention, id);
            } else if let Some(id) = id {
                self.owners.add(id);
            }
        }
        if let (Some(id), [pid]) = (cgroup, processes.as_slice()) {
            if self.past.len() >= MOST_PAST {
                self.past.clear();
            }
            self.past.insert(*pid, id);
        }
        match self.options.style {
            Style::Column | Style::Suffix => self.behind(place.end()),
            Style::Prefix => self.before(place.from),
            Style::Replace | Style::Json => {}
        }
    }

    /// The owner of a process, or else of the cgroup that its record says it was in.
    fn or_by_cgroup(&mut self, process: Option<TagId>, mention: &Mention) -> Option<TagId> {
        let is_known = process.is_some_and(|id| self.cache.standing(id) != Standing::Gone);
        match &mention.cgroup {
            Some(cgroup) if !is_known && mention.when != When::Now => {
                self.cache.thing(&What::Cgroup, cgroup.as_bytes()).or(process)
            }
            _ => process,
        }
    }

    fn replace(&mut self, place: &Place<'_>, mention: &Mention, id: Option<TagId>) {
        let Some(id) = id.filter(|id| self.is_said(*id)) else { return };
        let span = place.span(&mention.at);
        let name = self.cache.tag(id).text.clone();
        self.edits.instead(span.start, span.len(), name.as_bytes());
    }

    /// Whether it is said where there is no column for it.
    fn is_said(&self, id: TagId) -> bool {
        self.cache.standing(id) != Standing::Host
    }

    /// The owners of a line in the words that stand in it; none when there is nothing to say.
    fn words(&mut self) -> Option<String> {
        let is = |id: &TagId, standing| self.cache.standing(*id) == standing;
        // What is no more is only said of a line where nothing else is known.
        let known = |id: &TagId| is(id, Standing::Owner) || is(id, Standing::Removed);
        let any = self.owners.all().iter().any(known);
        let said: Vec<TagId> = self
            .owners
            .all()
            .iter()
            .copied()
            .filter(|id| self.is_said(*id) && (known(id) || !any))
            .collect();
        if said.is_empty() {
            return None;
        }
        let mut names: Vec<&str> =
            said.iter().take(MOST_NAMED).map(|id| self.cache.tag(*id).text.as_str()).collect();
        names.dedup();
        let mut words = names.join(", ");
        if said.len() > MOST_NAMED {
            words.push_str(&format!(", +{}", said.len() - MOST_NAMED));
        }
        Some(words)
    }

    fn behind(&mut self, at: usize) {
        if let Some(words) = self.words() {
            self.edits.text(at, &[" «".as_bytes(), words.as_bytes(), "»".as_bytes()]);
        }
    }

    fn before(&mut self, at: usize) {
        if let Some(words) = self.words() {
            self.edits.text(at, &["«".as_bytes(), words.as_bytes(), "» ".as_bytes()]);
        }
    }

    /// Whose something is. `None` when nothing is known of it, or it is not what it looked like.
    fn resolve(&mut self, mention: &Mention, text: &[u8]) -> Option<TagId> {
        let pid = match &mention.what {
            What::Pid(pid) => *pid,
            What::Command(pid, name) => {
                let called = Called::Command(&text[name.clone()]);
                if !self.cache.called(*pid, called) {
                    return None;
                }
                *pid
            }
            What::Comm(pid, name) => {
                if !self.cache.called(*pid, Called::Comm(&text[name.clone()])) {
                    return None;
                }
                *pid
            }
            // Such a name is soon given again; that one stands for good in a file.
            What::Interface(_) if mention.when == When::Now && self.written.is_some() => {
                return None;
            }
            _ => return self.cache.thing(&mention.what, &text[mention.at.clone()]),
        };
        let past = self.past.get(&pid).copied();
        let gone = Some(past.unwrap_or(self.cache.gone()));
        match mention.when {
            When::Ended => return gone,
            When::Sometime => return past,
            When::Now | When::At(_) | When::SinceBoot(_) => {}
        }
        let Some(process) = self.cache.process(pid) else { return gone };
        if self.cache.standing(process.tag) == Standing::Unread {
            return Some(process.tag);
        }
        if matches!(mention.when, When::At(_)) && process.started.is_none() {
            // Nothing shows whether it is the same.
            return past;
        }
        let had_begun = match (mention.when, self.written) {
            (When::Now, None) => true,
            // What was written to a file is older than the file's last change.
            (When::Now, Some(written)) => process.started.is_none_or(|at| at <= written + SLACK),
            (When::At(at), _) => process.started.is_some_and(|started| started <= at + SLACK),
            (When::SinceBoot(at), written) => {
                let slack = SLACK.unsigned_abs();
                let uptime = self.cache.names.uptime();
                let booted = self.cache.names.now().saturating_sub_unsigned(uptime);
                let is_this_boot = written.is_none_or(|written| written >= booted);
                is_this_boot && at <= uptime + slack && process.since_boot <= at + slack
            }
            (When::Sometime | When::Ended, _) => false,
        };
        if had_begun { Some(process.tag) } else { gone }
    }

    /// A line as an object, with all its owners.
    pub(super) fn json_line(&mut self, held: &[u8], from: usize, to: usize, continues: bool) {
        let line = &held[from..to];
        let mut visible = std::mem::take(&mut self.visible);
        visible.set(line);
        let text = visible.text();
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        let mut is_document = false;
        let row = self.table.as_ref().and_then(|table| table.row(text));
        if let Some(mention) = row {
            found.push(mention);
        } else if self.table.as_ref().is_some_and(|t| t.ends_at_blank)
            && text.trim_ascii().is_empty()
        {
            self.table = None;
        } else if let Some(heading) = self.heading(text) {
            self.table = Some(heading);
        } else {
            self.mentions(text, &mut found);
            is_document = found.iter().any(|m| matches!(m.way, Way::Member(_)));
        }
        if is_document && !continues {
            let place = Place { line, visible: Some(&visible), from };
            self.running_text(&place, text, &mut found);
        } else {
            self.owners.clear();
            for mention in &found {
                let id = self.resolve(mention, text);
                if let Some(id) = self.or_by_cgroup(id, mention) {
                    self.owners.add(id);
                }
            }
            let object = self.object(line, continues);
            self.edits.instead(from, line.len(), &object);
        }
        self.found = found;
        self.visible = visible;
    }

    fn object(&self, line: &[u8], continues: bool) -> Vec<u8> {
        let (text, is_lossy) = whose_render::text::lossy(line);
        let mut object = serde_json::Map::new();
        object.insert("line".into(), text.into());
        if is_lossy {
            let exact = data_encoding::BASE64.encode(line);
            object.insert("line_base64".into(), exact.into());
        }
        if continues {
            object.insert("continues".into(), true.into());
        }
        let mut out = serde_json::Value::Object(object).to_string().into_bytes();
        out.pop();
        out.extend_from_slice(b",\"owners\":[");
        for (at, id) in self.owners.all().iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(self.cache.tag(*id).json.as_bytes());
        }
        out.extend_from_slice(b"]}");
        if continues {
            out.push(b'\n');
        }
        out
    }
}

/// Where a regular expression finds PIDs.
pub(super) fn by_regex(regex: &Regex, text: &[u8], found: &mut Vec<Mention>) {
    for captures in regex.captures_iter(text) {
        let group = captures.name("pid").or_else(|| captures.get(1));
        let Some(group) = group else { continue };
        if let Some(pid) = pid(group.as_bytes()) {
            found.push(Mention::pid(pid, group.range()));
        }
    }
}
