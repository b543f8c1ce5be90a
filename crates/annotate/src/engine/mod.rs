//! The stream: bytes in, the same bytes and additions out.
//!
//! What comes in is kept until [`Engine::flush`], so that the rows of a table that came together are
//! aligned together. A line longer than [`LONGEST`] goes through in pieces: what its beginning names
//! is added, and memory stays as it is.

mod cache;
mod edits;
mod owners;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;

use memchr::memmem;

use crate::format::{Around, Claim, Heading, Mention, REGISTRY, Side, What, When};
use crate::names::Names;
use crate::options::{Options, PidColumn, Style};
use crate::time::Zone;
use crate::visible::Visible;
use crate::words::words;
use cache::{Cache, TagId};
use edits::Edits;
use owners::Owners;

/// Longest line that is read whole, bytes.
const LONGEST: usize = 1 << 20;
/// Bytes that are taken at once.
const CHUNK: usize = 1 << 18;
/// Longest line that may be a header, bytes.
const LONGEST_HEADER: usize = 4096;

/// What headers have in them: each one of these.
const IN_HEADERS: [&str; 6] = ["ID", "id", "LWP", "Input/s", "PerfTop:", "进程"];

/// Takes what comes out, in order.
pub trait Sink {
    /// Bytes that came in.
    fn pass(&mut self, bytes: &[u8]);

    /// Bytes that were added.
    fn add(&mut self, bytes: &[u8]);

    /// Bytes that came in and were replaced.
    fn skip(&mut self, _bytes: &[u8]) {}
}

impl Sink for Vec<u8> {
    fn pass(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn add(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// The rest of a line that was too long.
#[derive(Debug)]
struct Tail {
    /// What is to come behind it.
    suffix: Vec<u8>,
}

/// The filter.
#[derive(Debug)]
pub struct Engine<N> {
    cache: Cache<N>,
    options: Options,
    zone: Zone,
    /// Searches for [`IN_HEADERS`]: to make them takes longer than to search most lines.
    headers: [memmem::Finder<'static>; IN_HEADERS.len()],
    /// What came in: up to `done` it was looked at, up to `end` it is there.
    held: Vec<u8>,
    done: usize,
    end: usize,
    /// Whether the lines since the last flush belong to a batch that has begun.
    has_begun: bool,
    /// Whether any of the lines that are looked at has an escape sequence.
    has_escapes: bool,
    edits: Edits,
    /// Whether lines wait for a flush, since so much is added to those before.
    is_full: bool,
    table: Option<Heading>,
    /// Whether the header of the table is in this batch.
    is_fresh: bool,
    tail: Option<Tail>,
    visible: Visible,
    found: Vec<Mention>,
    /// Whose the processes were of which a log told before.
    past: HashMap<u32, TagId>,
    owners: Owners,
    /// When all that comes in had been written, if it is no stream: milliseconds since 1970.
    written: Option<i64>,
}

impl<N: Names> Engine<N> {
    /// One that adds what `names` tells.
    pub fn new(names: N, options: Options) -> Self {
        Self {
            cache: Cache::new(names),
            options,
            zone: Zone::default(),
            headers: IN_HEADERS.map(memmem::Finder::new),
            held: vec![0; LONGEST + CHUNK],
            done: 0,
            end: 0,
            has_begun: false,
            has_escapes: false,
            edits: Edits::default(),
            is_full: false,
            table: None,
            is_fresh: false,
            tail: None,
            visible: Visible::default(),
            found: Vec::new(),
            past: HashMap::new(),
            owners: Owners::default(),
            written: None,
        }
    }

    /// Who tells the names.
    pub fn names(&self) -> &N {
        &self.cache.names
    }

    /// Says when the input was written, in milliseconds since 1970: who started later is not in it.
    pub fn written(&mut self, at: Option<i64>) {
        self.written = at;
    }

    /// Room for what comes in next; never empty. How much was put there, [`Engine::filled`] is to be
    /// told.
    pub fn room(&mut self) -> &mut [u8] {
        let end = self.end.min(self.held.len());
        &mut self.held[end..]
    }

    /// So many bytes came in. True when it is time for a flush: there is hardly any room.
    pub fn filled(&mut self, count: usize) -> bool {
        self.end = (self.end + count).min(self.held.len());
        self.take_lines();
        self.done >= CHUNK || self.end == self.held.len() || self.is_full
    }

    /// Whether a table has begun of which no row may have been seen: some patience aligns it better.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Whether the beginning of a line waits for its end.
    #[must_use]
    pub fn has_partial(&self) -> bool {
        self.done < self.end
    }

    /// Writes all whole lines.
    pub fn flush(&mut self, sink: &mut dyn Sink) {
        self.flush_batch(sink);
        while self.is_full {
            self.take_lines();
            self.flush_batch(sink);
        }
    }

    fn flush_batch(&mut self, sink: &mut dyn Sink) {
        self.is_fresh = false;
        self.has_begun = false;
        if self.done == 0 {
            return;
        }
        self.edits.write(&self.held[..self.done], &self.cache, sink);
        self.held.copy_within(self.done..self.end, 0);
        self.end -= self.done;
        self.done = 0;
    }

    /// Writes all there is, the beginning of a line too: its end goes through as it is.
    pub fn flush_partial(&mut self, sink: &mut dyn Sink) {
        self.flush(sink);
        if self.has_partial() && self.tail.is_none() {
            self.tail = Some(Tail { suffix: Vec::new() });
            self.done = self.end;
        }
        self.flush(sink);
    }

    /// Writes all there is: nothing more will come.
    pub fn finish(&mut self, sink: &mut dyn Sink) {
        if self.is_full {
            self.flush(sink);
        }
        if self.has_partial() {
            let (from, to) = (self.done, self.end);
            match self.tail.take() {
                Some(tail) => self.edits.text(to, &[&tail.suffix]),
                None => self.hold_line(from, to),
            }
            self.done = self.end;
        } else if let Some(tail) = self.tail.take() {
            self.edits.text(self.done, &[&tail.suffix]);
        }
        self.edits.write(&self.held[..self.done], &self.cache, sink);
        (self.done, self.end) = (0, 0);
        self.table = None;
    }

    /// Another input begins.
    pub fn restart(&mut self) {
        self.table = None;
        self.past.clear();
    }

    fn hold_line(&mut self, from: usize, to: usize) {
        self.begin();
        self.has_escapes = true; // it may have
        let held = std::mem::take(&mut self.held);
        self.line(&held, from, to);
        self.held = held;
    }

    fn begin(&mut self) {
        if !self.has_begun {
            self.has_begun = true;
            if self.cache.turn() {
                self.past.clear();
                self.owners.clear();
            }
        }
    }

    /// Looks at every line that is there to its end.
    fn take_lines(&mut self) {
        self.begin();
        self.is_full = false;
        let held = std::mem::take(&mut self.held);
        self.has_escapes = memchr::memchr(0x1b, &held[self.done..self.end]).is_some();
        if self.tail.is_some() {
            self.take_tail(&held);
        }
        if self.tail.is_none() {
            while let Some(length) = memchr::memchr(b'\n', &held[self.done..self.end]) {
                if self.edits.is_large() {
                    self.is_full = true;
                    break;
                }
                let from = self.done;
                let mut to = from + length;
                self.done = to + 1;
                if to > from && held[to - 1] == b'\r' {
                    to -= 1;
                }
                self.line(&held, from, to);
            }
            if !self.is_full && self.end - self.done >= LONGEST {
                self.begin_tail(&held);
            }
        }
        self.held = held;
    }

    /// The rest of a line that was too long.
    fn take_tail(&mut self, held: &[u8]) {
        match memchr::memchr(b'\n', &held[self.done..self.end]) {
            Some(length) => {
                let to = self.done + length;
                let at = if to > 0 && held[to - 1] == b'\r' { to - 1 } else { to };
                if let Some(tail) = self.tail.take() {
                    self.edits.text(at, &[&tail.suffix]);
                }
                self.done = to + 1;
            }
            // A carriage return at the end may be the line's.
            None => self.done = self.end - usize::from(held[..self.end].ends_with(b"\r")),
        }
    }

    /// A line that is too long: its beginning tells, and what is to come behind it waits.
    fn begin_tail(&mut self, held: &[u8]) {
        let (from, to) = (self.done, self.end);
        self.done = to;
        if self.options.style == Style::Json {
            self.json_line(held, from, to, true);
            return;
        }
        self.line(held, from, to);
        let suffix = self.edits.take_text_at(to).unwrap_or_default();
        self.tail = Some(Tail { suffix });
    }

    /// One line, without its end.
    fn line(&mut self, held: &[u8], from: usize, to: usize) {
        if self.options.style == Style::Json {
            return self.json_line(held, from, to, false);
        }
        let line = &held[from..to];
        // Most lines have no escape sequence, and are their own text.
        if !self.has_escapes || memchr::memchr(0x1b, line).is_none() {
            return self.text_line(line, None, from);
        }
        let mut visible = std::mem::take(&mut self.visible);
        visible.set(line);
        self.text_line(line, Some(&visible), from);
        self.visible = visible;
    }

    fn text_line(&mut self, line: &[u8], visible: Option<&Visible>, from: usize) {
        let text = visible.map_or(line, Visible::text);
        let place = Place { line, visible, from };
        if let Some(table) = self.table.take() {
            if let Some(mention) = table.row(text) {
                self.row(&place, text, &table, &mention);
                self.table = Some(table);
                return;
            }
            if table.ends_at_blank && text.trim_ascii().is_empty() {
                return;
            }
            self.table = Some(table);
        }
        if let Some(heading) = self.heading(text) {
            return self.begin_table(&place, text, heading);
        }
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        self.mentions(text, &mut found);
        if !found.is_empty() {
            self.running_text(&place, text, &mut found);
        }
        self.found = found;
    }

    fn begin_table(&mut self, place: &Place<'_>, text: &[u8], mut heading: Heading) {
        let is_column = heading.takes_column && self.options.style == Style::Column;
        // A column that was named by its number may have no header: then this is its first row.
        if let Some(mention) = heading.row(text).filter(|_| heading.is_loose) {
            heading.title = 0..0;
            self.row(place, text, &heading, &mention);
        } else if is_column {
            let at = place.at(&heading.title, heading.side);
            self.edits.titles(at, heading.side, self.cache.names.titles());
            self.is_fresh = true;
        }
        self.table = Some(heading);
    }

    /// The line as the header of a table.
    fn heading(&self, text: &[u8]) -> Option<Heading> {
        if self.options.regex.is_some() {
            return None;
        }
        let at = match &self.options.pid_column {
            None => {
                let may_be = |text| self.headers.iter().any(|part| part.find(text).is_some());
                if text.len() > LONGEST_HEADER || !may_be(text) {
                    return None;
                }
                return REGISTRY.iter().find_map(|format| format.heading(text));
            }
            Some(PidColumn::Number(number)) => {
                // Of lines that are no rows only the first one of a table is its header.
                if self.table.is_some() {
                    return None;
                }
                number - 1
            }
            Some(PidColumn::Title(title)) => {
                words(text).position(|word| text[word] == title[..])?
            }
        };
        let title = words(text).nth(at)?;
        Some(Heading::loose(text, title, at))
    }

    /// What a line of running text names.
    fn mentions(&mut self, text: &[u8], found: &mut Vec<Mention>) {
        if let Some(regex) = &self.options.regex {
            return owners::by_regex(regex, text, found);
        }
        if self.options.pid_column.is_some() {
            return;
        }
        let names = &self.cache.names;
        let is_this_boot = |id: &[u8]| names.is_this_boot(id);
        let around = Around { now: names.now(), zone: &self.zone, is_this_boot: &is_this_boot };
        let mut is_log = false;
        for format in REGISTRY {
            match format.line(text, around, found) {
                Claim::No => {}
                Claim::Shared => {
                    is_log = true;
                    break;
                }
                Claim::Whole => return,
            }
        }
        crate::format::named_in(text, found);
        if is_log {
            // What such a line tells of may be long ago.
            found.retain(|m| !matches!(m.what, What::Interface(_)) || m.when != When::Now);
        }
    }
}

/// A line of the batch.
struct Place<'l> {
    line: &'l [u8],
    visible: Option<&'l Visible>,
    from: usize,
}

impl Place<'_> {
    /// The place in the batch beside a part of the line's text.
    fn at(&self, part: &Range<usize>, side: Side) -> usize {
        self.from
            + match (self.visible, side) {
                (None, Side::After) => part.end,
                (None, Side::Before) => part.start,
                (Some(visible), Side::After) => visible.after(self.line, part.end),
                (Some(visible), Side::Before) => visible.before(part.start),
            }
    }

    /// The bytes of the batch that a part of the line's text stands in.
    fn span(&self, part: &Range<usize>) -> Range<usize> {
        match self.visible {
            None => self.from + part.start..self.from + part.end,
            Some(visible) => {
                let last = part.end.saturating_sub(1).max(part.start);
                self.from + visible.at(part.start)..self.from + visible.at(last) + 1
            }
        }
    }

    /// The line's end in the batch.
    fn end(&self) -> usize {
        self.from + self.line.len()
    }
}
