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
    fields: &[&Field],
    records: &[&dyn Record],
    options: TableOptions,
) -> io::Result<()> {
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|r| fields.iter().map(|f| options.shown.text(*r, f)).collect())
        .collect();
    let widest = |at: usize| {
        let header = if options.no_headers { 0 } else { text::width(fields[at].title) };
        let most = rows.iter().map(|r| text::width(&r[at])).max().unwrap_or(0);
        most.min(WIDEST).max(header)
    };
    let widths: Vec<usize> = (0..fields.len()).map(widest).collect();
    if !options.no_headers {
        let titles: Vec<&str> = fields.iter().map(|f| f.title).collect();
        let line = lay(fields, &titles, &widths, options.width);
        writeln!(out, "{}", options.style.dim(&line))?;
    }
    for row in &rows {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        writeln!(out, "{}", lay(fields, &cells, &widths, options.width))?;
    }
    Ok(())
}

/// One line. The last column is not padded, so that no line ends in blanks.
fn lay(fields: &[&Field], cells: &[&str], widths: &[usize], width: Option<usize>) -> String {
    let mut line = String::new();
    for (at, (cell, column)) in cells.iter().zip(widths).enumerate() {
        let last = at + 1 == cells.len();
        let room = column.saturating_sub(text::width(cell));
        if right_aligned(fields[at]) {
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
    match width {
        Some(width) => text::cut(&line, width),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use whose_fields::{Cell, FieldId, Record, find};

    use super::{TableOptions, table};

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
    fn a_terminal_cuts_lines() {
        assert!(shown(Some(10)).lines().all(|l| l.chars().count() <= 10));
    }
}
