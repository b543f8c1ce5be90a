//! The list of `whose ps`, written while its rows come in.

use std::collections::HashSet;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use whose_core::model::{Gap, Row};
use whose_fields::Field;

use crate::csv::{csv_header, csv_row};
use crate::json::{Header, listing_gaps, listing_header, listing_row, write_line};
use crate::lists::GapCounts;
use crate::table::{Table, TableOptions};

/// How long the rows of a table are held back, so that its columns fit them all.
const PATIENCE: Duration = Duration::from_millis(400);
/// How often what was written goes out when rows are long in coming.
const OFTEN: Duration = Duration::from_millis(200);

/// How the list is written.
#[derive(Debug)]
pub enum ListingFormat {
    /// PIDs only, one a line.
    Pids,
    /// An aligned table.
    Table(TableOptions),
    /// CSV, with the columns' names or without.
    Csv {
        /// Whether the columns' names come first.
        has_header: bool,
    },
    /// One JSON document.
    Json(Header),
    /// A JSON object a line.
    Ndjson(Header),
}

/// See the module.
#[derive(Debug)]
pub struct Listing {
    fields: Vec<&'static Field>,
    shape: Shape,
    counts: GapCounts,
    begun: Instant,
    flushed: Instant,
}

#[derive(Debug)]
enum Shape {
    Pids,
    Table(Table),
    Csv,
    Json { has_rows: bool, gaps: Gaps },
    Ndjson { gaps: Gaps },
}

/// Gaps, each once, in the order in which they were met.
#[derive(Debug, Default)]
struct Gaps {
    seen: HashSet<Gap>,
    all: Vec<Gap>,
}

impl Gaps {
    fn add(&mut self, gap: &Gap) {
        if self.seen.insert(gap.clone()) {
            self.all.push(gap.clone());
        }
    }
}

impl Listing {
    /// Begins a list.
    ///
    /// # Errors
    /// The writer's.
    pub fn begin(
        out: &mut dyn Write,
        fields: &[&'static Field],
        format: ListingFormat,
    ) -> io::Result<Self> {
        let shape = match format {
            ListingFormat::Pids => Shape::Pids,
            ListingFormat::Table(options) => Shape::Table(Table::new(fields, options)),
            ListingFormat::Csv { has_header } => {
                if has_header {
                    csv_header(out, fields)?;
                }
                Shape::Csv
            }
            ListingFormat::Json(header) => {
                let head = serde_json::to_string_pretty(&listing_header(&header, fields))?;
                let head = head.trim_end_matches('}').trim_end();
                write!(out, "{head},\n  \"rows\": [")?;
                Shape::Json { has_rows: false, gaps: Gaps::default() }
            }
            ListingFormat::Ndjson(header) => {
                write_line(out, &listing_header(&header, fields))?;
                Shape::Ndjson { gaps: Gaps::default() }
            }
        };
        let now = Instant::now();
        let counts = GapCounts::default();
        Ok(Self { fields: fields.to_vec(), shape, counts, begun: now, flushed: now })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// The writer's.
    pub fn row(&mut self, out: &mut dyn Write, row: &Row) -> io::Result<()> {
        row.gaps().for_each(|gap| self.gap(gap));
        let fields = &self.fields;
        let now = Instant::now();
        match &mut self.shape {
            Shape::Pids => writeln!(out, "{}", row.process.pid)?,
            Shape::Csv => csv_row(out, fields, row)?,
            Shape::Table(table) => {
                table.push(out, row)?;
                if !table.is_released() && now.duration_since(self.begun) > PATIENCE {
                    table.release(out)?;
                }
            }
            Shape::Json { has_rows, .. } => {
                let between = if std::mem::replace(has_rows, true) { "," } else { "" };
                write!(out, "{between}\n    {}", indented(&listing_row(fields, row))?)?;
            }
            Shape::Ndjson { .. } => write_line(out, &listing_row(fields, row))?,
        }
        if now.duration_since(self.flushed) > OFTEN {
            self.flushed = now;
            out.flush()?;
        }
        Ok(())
    }

    /// Notes something that is missing, of a row or of the whole host.
    pub fn gap(&mut self, gap: &Gap) {
        self.counts.add(gap);
        if let Shape::Json { gaps, .. } | Shape::Ndjson { gaps } = &mut self.shape {
            gaps.add(gap);
        }
    }

    /// Ends the list; `undecided` rows were left out. The line for stderr, if something is missing.
    ///
    /// # Errors
    /// The writer's.
    pub fn end(mut self, out: &mut dyn Write, undecided: usize) -> io::Result<Option<String>> {
        match &mut self.shape {
            Shape::Pids | Shape::Csv => {}
            Shape::Table(table) => table.release(out)?,
            Shape::Json { has_rows, gaps } => {
                let end = if *has_rows { "\n  ]" } else { "]" };
                let gaps = listing_gaps(&gaps.all, undecided);
                let gaps = serde_json::to_string_pretty(&gaps)?.replace('\n', "\n  ");
                writeln!(out, "{end},\n  \"gaps\": {gaps}\n}}")?;
            }
            Shape::Ndjson { gaps } => {
                let gaps = listing_gaps(&gaps.all, undecided);
                if gaps.as_array().is_some_and(|all| !all.is_empty()) {
                    write_line(out, &json!({ "gaps": gaps }))?;
                }
            }
        }
        Ok(self.counts.summary(undecided))
    }
}

/// A row as it stands in the document. Text in JSON has no line ends of its own.
fn indented(row: &Value) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(row)?.replace('\n', "\n    "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use whose_core::model::gap::{Class, what};
    use whose_core::model::{Gap, Row};
    use whose_fields::{Field, find};

    use super::{Listing, ListingFormat};
    use crate::json::Header;

    fn fields() -> Vec<&'static Field> {
        ["pid", "comm"].iter().map(|n| find(n).unwrap()).collect()
    }

    fn row(pid: u32) -> Row {
        let mut row = Row::default();
        row.process.pid = pid;
        row
    }

    fn written(format: ListingFormat, rows: &[Row], gaps: &[Gap]) -> String {
        let mut out = Vec::new();
        let mut listing = Listing::begin(&mut out, &fields(), format).unwrap();
        rows.iter().for_each(|row| listing.row(&mut out, row).unwrap());
        gaps.iter().for_each(|gap| listing.gap(gap));
        let line = listing.end(&mut out, 0).unwrap();
        assert_eq!(line.is_some(), !gaps.is_empty());
        String::from_utf8(out).unwrap()
    }

    fn header() -> Header {
        Header { source: "live", boot_id: None }
    }

    #[test]
    fn a_document_is_what_one_made_at_once_would_be() {
        let gap = Gap::new(what::PROCESS, Class::Forbidden, "/proc/1", "hidden", None);
        for count in 0..3 {
            let rows: Vec<Row> = (1..=count).map(row).collect();
            let text = written(ListingFormat::Json(header()), &rows, &[gap.clone(), gap.clone()]);
            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["rows"].as_array().unwrap().len(), rows.len());
            assert_eq!(value["columns"], json!(["pid", "comm"]));
            assert_eq!(value["gaps"].as_array().unwrap().len(), 1);
            assert_eq!(serde_json::to_string_pretty(&value).unwrap() + "\n", text);
        }
    }

    #[test]
    fn lines_are_documents() {
        let text = written(ListingFormat::Ndjson(header()), &[row(1), row(2)], &[]);
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    }

    #[test]
    fn an_empty_table_is_its_header() {
        let options = crate::TableOptions::default();
        assert_eq!(written(ListingFormat::Table(options), &[], &[]), "PID COMM\n");
        assert_eq!(
            written(ListingFormat::Csv { has_header: true }, &[row(7)], &[]),
            "pid,comm\n7,\n"
        );
        assert_eq!(written(ListingFormat::Pids, &[row(7)], &[]), "7\n");
    }
}
