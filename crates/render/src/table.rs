//! Tables: one line a record, columns aligned.

use std::io::{self, Write};

use whose_fields::{Field, Record};

use crate::lists::{Shown, right_aligned};
use crate::style::Style;
use crate::text;

/// How a table is laid out.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableOptions {
    /// Columns of the terminal; the last column is cut there. `None` cuts nothing.
    pub width: Option<usize>,
    /// No header line.
    pub no_headers: bool,
    /// How cells become text.
    pub shown: Shown,
    /// Colour.
    pub style: Style,
}

/// Longest that one column but the last gets before it pushes the others aside.
const WIDEST: usize = 64;

/// Writes the table.
///
/// # Errors
/// The writer's.
pub fn table(
    out: &mut dyn Write,
    fields: &[&'static Field],
    records: &[&dyn Record],
    options: TableOptions,
) -> io::Result<()> {
    let mut table = Table::new(fields, options);
    records.iter().try_for_each(|record| table.push(out, *record))?;
    table.release(out)
}

/// A table in the making. Rows are held back until [`Table::release`], so that the columns fit them
/// all; those that come after it go out at once, and columns grow where they must.
#[derive(Debug)]
pub struct Table {
    fields: Vec<&'static Field>,
    options: TableOptions,
    widths: Vec<usize>,
    /// The cells of the rows that are held back, one after another.
    cells: String,
    /// Where each of them ends.
    ends: Vec<usize>,
    is_released: bool,
}

impl Table {
    /// One without rows.
    #[must_use]
    pub fn new(fields: &[&'static Field], options: TableOptions) -> Self {
        let header = |f: &&Field| if options.no_headers { 0 } else { text::width(f.title) };
        Self {
            fields: fields.to_vec(),
            options,
            widths: fields.iter().map(header).collect(),
            cells: String::new(),
            ends: Vec::new(),
            is_released: false,
        }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// The writer's.
    pub fn push(&mut self, out: &mut dyn Write, record: &dyn Record) -> io::Result<()> {
        for (field, widest) in self.fields.iter().zip(&mut self.widths) {
            let start = self.cells.len();
            self.options.shown.push(&mut self.cells, record, field);
            self.ends.push(self.cells.len());
            *widest = text::width(&self.cells[start..]).min(WIDEST).max(*widest);
        }
        if self.is_released { self.write_held(out) } else { Ok(()) }
    }

    /// Writes the header and what was held back, and holds back no more.
    ///
    /// # Errors
    /// The writer's.
    pub fn release(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if !self.is_released && !self.options.no_headers {
            let titles = self.fields.iter().map(|f| f.title);
            let mut line = String::new();
            self.lay(&mut line, titles);
            writeln!(out, "{}", self.options.style.dim(&line))?;
        }
        self.is_released = true;
        self.write_held(out)
    }

    /// Whether rows are held back no more.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.is_released
    }

    fn write_held(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut line = String::new();
        let mut start = 0;
        for ends in self.ends.chunks(self.fields.len().max(1)) {
            line.clear();
            let cells =
                ends.iter().map(|end| &self.cells[std::mem::replace(&mut start, *end)..*end]);
            self.lay(&mut line, cells);
            line.push('\n');
            out.write_all(line.as_bytes())?;
        }
        self.cells.clear();
        self.ends.clear();
        Ok(())
    }

    /// One line. The last column is not padded, so that no line ends in blanks.
    fn lay<'c>(&self, line: &mut String, cells: impl Iterator<Item = &'c str>) {
        let count = self.fields.len();
        for (at, (cell, column)) in cells.zip(&self.widths).enumerate() {
            let last = at + 1 == count;
            let room = column.saturating_sub(text::width(cell));
            if right_aligned(self.fields[at]) {
                line.extend(std::iter::repeat_n(' ', room));
                line.push_str(cell);
            } else {
                line.push_str(cell);
                if !last {
                    line.extend(std::iter::repeat_n(' ', room));
                }
            }
            if !last {
                line.push(' ');
            }
        }
        if let Some(width) = self.options.width
            && text::width(line) > width
        {
            *line = text::cut(line, width);
        }
    }
}

#[cfg(test)]
mod tests {
    use whose_fields::{Cell, FieldId, Record, find};

    use super::{Table, TableOptions, table};

    struct One(u64, &'static str);

    impl Record for One {
        fn get(&self, field: FieldId) -> Cell<'_> {
            match field {
                FieldId::Pid => Cell::Uint(self.0),
                FieldId::Owner => Cell::text(self.1),
                FieldId::Comm => Cell::text("x\ny"),
                _ => Cell::Absent,
            }
        }
    }

    fn shown(width: Option<usize>) -> String {
        let fields: Vec<_> = ["pid", "owner", "comm"].iter().map(|n| find(n).unwrap()).collect();
        let (a, b) = (One(7, "web"), One(12345, "nginx.service"));
        let mut out = Vec::new();
        let options = TableOptions { width, ..TableOptions::default() };
        table(&mut out, &fields, &[&a, &b], options).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_and_lines_stay_lines() {
        assert_eq!(
            shown(None),
            "  PID OWNER         COMM\n    7 web           x\\ny\n12345 nginx.service x\\ny\n"
        );
    }

    #[test]
    fn rows_after_the_release_go_out_at_once() {
        let fields: Vec<_> = ["pid", "owner"].iter().map(|n| find(n).unwrap()).collect();
        let mut table = Table::new(&fields, TableOptions::default());
        let mut out = Vec::new();
        table.push(&mut out, &One(7, "web")).unwrap();
        assert!(out.is_empty() && !table.is_released());
        table.release(&mut out).unwrap();
        assert_eq!(out, b"PID OWNER\n  7 web\n");
        table.push(&mut out, &One(12345, "a")).unwrap();
        table.push(&mut out, &One(8, "b")).unwrap();
        table.release(&mut out).unwrap();
        assert_eq!(out, b"PID OWNER\n  7 web\n12345 a\n    8 b\n");
    }

    #[test]
    fn a_terminal_cuts_lines() {
        assert!(shown(Some(10)).lines().all(|l| l.chars().count() <= 10));
    }
}
