//! What is added to a batch of lines, and how that comes between them.

use super::Sink;
use super::cache::{Cache, TagId};
use crate::format::Side;
use crate::names::{Names, Tag};

/// Blanks to pad with, a piece at a time.
const BLANKS: &[u8] = &[b' '; 64];
/// Width of the column where nothing is known of the rows to come, as wide as an id's short form.
const USUAL: usize = 12;
/// Widest that one name makes a column; the rest of such a row is pushed aside.
const WIDEST: usize = 64;

/// Bytes that are added to a batch, but for those of the line that makes them more.
const LARGE: usize = 4 << 20;

/// One addition at a place of the batch.
#[derive(Debug)]
struct Edit {
    at: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// The titles: a new table begins.
    Titles(Side),
    /// The cells of a row.
    Cells(Side, TagId),
    /// A piece of the texts.
    Text(usize, usize),
    /// So many bytes of the batch go, and a piece of the texts comes in their place.
    Instead(usize, usize, usize),
}

/// The additions to one batch.
#[derive(Debug, Default)]
pub(super) struct Edits {
    edits: Vec<Edit>,
    texts: Vec<u8>,
    /// Widths of the columns: of the table that the batch begins with, and of those begun in it.
    widths: Vec<Vec<usize>>,
    /// Whether the last of them has rows yet.
    has_rows: bool,
    /// Bytes of the cells.
    cells: usize,
}

impl Edits {
    /// Whether so much is to be added that it should go out: lines may be short and names long.
    pub(super) fn is_large(&self) -> bool {
        self.cells + self.texts.len() > LARGE
    }

    /// Takes back the text that was added last, if that is there.
    pub(super) fn take_text_at(&mut self, at: usize) -> Option<Vec<u8>> {
        let start = match self.edits.last()? {
            Edit { at: place, kind: Kind::Text(start, _) } if *place == at => *start,
            _ => return None,
        };
        self.edits.pop();
        Some(self.texts.split_off(start))
    }

    /// A table begins: its header.
    pub(super) fn titles(&mut self, at: usize, side: Side, titles: &[&str]) {
        self.settle();
        if self.widths.is_empty() {
            self.widths.push(Vec::new());
        }
        self.widths.push(titles.iter().map(|t| t.len()).collect());
        self.has_rows = false;
        self.edits.push(Edit { at, kind: Kind::Titles(side) });
    }

    /// A row.
    pub(super) fn cells(&mut self, at: usize, side: Side, id: TagId, tag: &Tag) {
        if self.widths.is_empty() {
            self.widths.push(vec![0; tag.widths.len()]);
        }
        if let Some(widths) = self.widths.last_mut() {
            widths.resize(tag.widths.len(), 0);
            for (widest, width) in widths.iter_mut().zip(&tag.widths) {
                *widest = (*width).min(WIDEST).max(*widest);
            }
        }
        self.has_rows = true;
        self.cells += tag.cells.iter().map(String::len).sum::<usize>();
        self.edits.push(Edit { at, kind: Kind::Cells(side, id) });
    }

    /// Any text.
    pub(super) fn text(&mut self, at: usize, parts: &[&[u8]]) {
        let start = self.texts.len();
        parts.iter().for_each(|part| self.texts.extend_from_slice(part));
        self.edits.push(Edit { at, kind: Kind::Text(start, self.texts.len()) });
    }

    /// A text in the place of some bytes.
    pub(super) fn instead(&mut self, at: usize, length: usize, text: &[u8]) {
        let start = self.texts.len();
        self.texts.extend_from_slice(text);
        self.edits.push(Edit { at, kind: Kind::Instead(length, start, self.texts.len()) });
    }

    /// A table without rows yet is as wide as the one before.
    fn settle(&mut self) {
        if self.has_rows || self.widths.len() < 2 {
            return;
        }
        let [.., earlier, last] = self.widths.as_mut_slice() else { return };
        for (at, width) in last.iter_mut().enumerate() {
            let usual = earlier.get(at).copied().unwrap_or(0).max(USUAL);
            *width = usual.max(*width);
        }
    }

    /// Writes the batch with all that was added. Its last table goes on in the next one.
    pub(super) fn write<N: Names>(&mut self, batch: &[u8], cache: &Cache<N>, sink: &mut dyn Sink) {
        self.settle();
        // The texts of one line come in the order of their places, but for those that stand at one.
        let titles = cache.names.titles();
        let mut from = 0;
        let mut table = 0;
        for edit in &self.edits {
            // What was replaced already has no place for another.
            if edit.at < from && matches!(edit.kind, Kind::Instead(..)) {
                continue;
            }
            let at = edit.at.clamp(from, batch.len());
            sink.pass(&batch[from..at]);
            from = at;
            let is_last = matches!(batch.get(at), None | Some(b'\n' | b'\r'));
            match edit.kind {
                Kind::Titles(side) => {
                    table += 1;
                    let widths = self.widths.get(table).map_or(&[][..], Vec::as_slice);
                    let cells = titles.iter().map(|t| (*t, t.len()));
                    lay(sink, side, cells, widths, is_last);
                }
                Kind::Cells(side, id) => {
                    let widths = self.widths.get(table).map_or(&[][..], Vec::as_slice);
                    let tag = cache.tag(id);
                    let cells = tag.cells.iter().map(String::as_str);
                    lay(sink, side, cells.zip(tag.widths.iter().copied()), widths, is_last);
                }
                Kind::Text(start, end) => sink.add(&self.texts[start..end]),
                Kind::Instead(length, start, end) => {
                    let to = (at + length).min(batch.len());
                    sink.skip(&batch[at..to]);
                    sink.add(&self.texts[start..end]);
                    from = to;
                }
            }
        }
        sink.pass(&batch[from..]);
        self.edits.clear();
        self.texts.clear();
        self.cells = 0;
        let last = self.widths.pop();
        self.widths.clear();
        self.widths.extend(last);
        self.has_rows = true;
    }
}

/// The cells, a blank between them and the rest of the row.
fn lay<'c>(
    sink: &mut dyn Sink,
    side: Side,
    cells: impl Iterator<Item = (&'c str, usize)>,
    widths: &[usize],
    is_last: bool,
) {
    for (at, (cell, width)) in cells.enumerate() {
        if side == Side::After || at > 0 {
            sink.add(b" ");
        }
        sink.add(cell.as_bytes());
        // No line ends in blanks for it.
        if is_last && at + 1 == widths.len() {
            continue;
        }
        let mut room = widths.get(at).copied().unwrap_or(0).saturating_sub(width);
        while room > 0 {
            let piece = room.min(BLANKS.len());
            sink.add(&BLANKS[..piece]);
            room -= piece;
        }
    }
    if side == Side::Before {
        sink.add(b" ");
    }
}
