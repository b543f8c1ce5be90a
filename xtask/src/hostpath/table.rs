//! The counts of a run.

use std::collections::BTreeMap;

use super::answer::Answer;
use super::judge::{PROOFS, Verdict};

/// One row.
#[derive(Debug, Clone, Default)]
struct Row {
    count: usize,
    page: usize,
    mapped_inode: usize,
    handle: usize,
    content: usize,
    none: usize,
    /// No path, as expected.
    null: usize,
    unexpected_null: usize,
    wrong: usize,
    mismatch: usize,
}

/// All rows of a run.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) stacks: usize,
    /// Stacks that could not be built as planned.
    pub(super) broken: usize,
    /// Stacks that could not be built and were to be left out then.
    pub(super) left_out: usize,
    /// Stacks something was said about.
    pub(super) complaints: usize,
    cases: BTreeMap<&'static str, Row>,
    traits: BTreeMap<&'static str, Row>,
    nulls: BTreeMap<&'static str, usize>,
    total: Row,
    /// Answers that had to be a proven path, and those that were.
    wanted: usize,
    proven: usize,
}

impl Table {
    /// Counts one answer.
    pub(super) fn count(
        &mut self,
        label: &'static str,
        traits: &[&'static str],
        answer: &Answer,
        verdict: &Verdict,
        none: Option<&'static str>,
    ) {
        self.cases.entry(label).or_default().count(answer, verdict, none);
        for name in traits {
            self.traits.entry(name).or_default().count(answer, verdict, none);
        }
        self.total.count(answer, verdict, none);
        match none {
            Some(why) => *self.nulls.entry(why).or_default() += usize::from(answer.host.is_none()),
            None => {
                self.wanted += 1;
                self.proven += usize::from(matches!(verdict, Verdict::Right { .. }));
            }
        }
    }

    /// Prints it.
    pub(super) fn print(&self) {
        let width = self.cases.keys().chain(self.traits.keys()).map(|key| key.len()).max();
        let width = width.unwrap_or(0);
        let head = "count   page mapped handle content none | null:ok null:bad wrong label";
        for (title, rows) in [("case", &self.cases), ("stack", &self.traits)] {
            println!("{title:width$}  {head}");
            for (name, row) in rows {
                println!("{name:width$}  {}", row.text());
            }
        }
        println!("{:width$}  {}", "total", self.total.text());
        for (why, count) in &self.nulls {
            println!("no host path, as expected: {count} x {why}");
        }
    }

    /// The counts in one line.
    pub(super) fn summary(&self) -> String {
        format!(
            "{} stacks, {} programs, {} wrong, {} of {} proven by {}, {} unexpected null, \
             {} label mismatches, {} stacks not built, {} left out",
            self.stacks,
            self.total.count,
            self.total.wrong,
            self.proven,
            self.wanted,
            PROOFS.join(" or "),
            self.total.unexpected_null,
            self.total.mismatch,
            self.broken,
            self.left_out
        )
    }

    /// None wrong, all built, 99 of 100 proven.
    pub(super) fn passed(&self) -> bool {
        self.total.wrong == 0
            && self.broken == 0
            && self.total.count > 0
            && self.proven * 100 >= self.wanted * 99
    }
}

impl Row {
    fn count(&mut self, answer: &Answer, verdict: &Verdict, none: Option<&'static str>) {
        self.count += 1;
        match (answer.host.is_some(), answer.verified.as_deref()) {
            (true, Some("page")) => self.page += 1,
            (true, Some("mapped-inode")) => self.mapped_inode += 1,
            (true, Some("handle")) => self.handle += 1,
            (true, Some("content")) => self.content += 1,
            (true, _) => self.none += 1,
            (false, _) if none.is_some() => self.null += 1,
            (false, _) => self.unexpected_null += 1,
        }
        match verdict {
            Verdict::Wrong(_) => self.wrong += 1,
            Verdict::Right { mismatch: Some(_) } => self.mismatch += 1,
            Verdict::Right { mismatch: None } | Verdict::Unproven(_) => {}
        }
    }

    fn text(&self) -> String {
        format!(
            "{:5} {:6} {:6} {:6} {:7} {:4} | {:7} {:8} {:5} {:5}",
            self.count,
            self.page,
            self.mapped_inode,
            self.handle,
            self.content,
            self.none,
            self.null,
            self.unexpected_null,
            self.wrong,
            self.mismatch
        )
    }
}
