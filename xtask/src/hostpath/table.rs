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
    /// No path, as the plan says.
    null: usize,
    unlabelled: usize,
    wrong: usize,
    mismatch: usize,
}

/// What became of programs for which the plan expects no path.
#[derive(Debug, Clone, Default)]
struct Expected {
    null: usize,
    view: usize,
    proven: usize,
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
    pub(super) complaints: Vec<u64>,
    /// Those of them with more than a path that is right and not proven.
    pub(super) failed: usize,
    cases: BTreeMap<&'static str, Row>,
    traits: BTreeMap<&'static str, Row>,
    nulls: BTreeMap<&'static str, Expected>,
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
        self.cases.entry(label).or_default().count(answer, verdict);
        for name in traits {
            self.traits.entry(name).or_default().count(answer, verdict);
        }
        self.total.count(answer, verdict);
        match none {
            Some(why) => self.nulls.entry(why).or_default().count(verdict),
            None => {
                self.wanted += 1;
                self.proven += usize::from(matches!(verdict, Verdict::Proven(_)));
            }
        }
    }

    /// Prints it.
    pub(super) fn print(&self, seed: u64) {
        let width = self.cases.keys().chain(self.traits.keys()).map(|key| key.len()).max();
        let width = width.unwrap_or(0);
        let head = "count   page mapped handle content none | null:ok null:bad wrong field";
        for (title, rows) in [("case", &self.cases), ("stack", &self.traits)] {
            println!("{title:width$}  {head}");
            for (name, row) in rows {
                println!("{name:width$}  {}", row.text());
            }
        }
        println!("{:width$}  {}", "total", self.total.text());
        for (why, Expected { null, view, proven }) in &self.nulls {
            println!("no host path expected: {null} null, {view} view, {proven} proven: {why}");
        }
        for number in &self.complaints {
            println!("hostpath: to see it again: --seed {seed} --only {number}");
        }
    }

    /// The counts in one line.
    pub(super) fn summary(&self) -> String {
        let expected = |of: fn(&Expected) -> usize| self.nulls.values().map(of).sum::<usize>();
        format!(
            "{} stacks, {} programs, {} wrong, {} of {} proven by {}, {} null without a label, \
             {} null with one ({} told as a view, {} proven all the same), {} fields wrong, \
             {} stacks not built, {} left out",
            self.stacks,
            self.total.count,
            self.total.wrong,
            self.proven,
            self.wanted,
            PROOFS.join(" or "),
            self.total.unlabelled,
            expected(|e| e.null),
            expected(|e| e.view),
            expected(|e| e.proven),
            self.total.mismatch,
            self.broken,
            self.left_out
        )
    }

    /// Stacks that were as they have to be, and the others: with too few proven, all that were not.
    pub(super) fn tests(&self) -> (usize, usize) {
        let few = self.failed == 0 && !self.passed();
        let failed = if few { self.complaints.len().max(1) } else { self.failed };
        (self.stacks.saturating_sub(failed), failed)
    }

    /// None wrong, no null but those expected, all built, 99 of 100 proven.
    pub(super) fn passed(&self) -> bool {
        self.total.wrong == 0
            && self.total.unlabelled == 0
            && self.total.mismatch == 0
            && self.broken == 0
            && self.total.count > 0
            && self.proven * 100 >= self.wanted * 99
    }
}

impl Expected {
    fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Null(_) => self.null += 1,
            Verdict::View(_) => self.view += 1,
            Verdict::Proven(_) => self.proven += 1,
            Verdict::Unlabelled(_) | Verdict::Unproven(_) | Verdict::Wrong(_) => {}
        }
    }
}

impl Row {
    fn count(&mut self, answer: &Answer, verdict: &Verdict) {
        self.count += 1;
        match (answer.host.is_some(), answer.verified.as_deref()) {
            (true, Some("page")) => self.page += 1,
            (true, Some("mapped-inode")) => self.mapped_inode += 1,
            (true, Some("handle")) => self.handle += 1,
            (true, Some("content")) => self.content += 1,
            (true, _) => self.none += 1,
            (false, _) => {}
        }
        match verdict {
            Verdict::Wrong(_) => self.wrong += 1,
            Verdict::Unlabelled(_) => self.unlabelled += 1,
            Verdict::Null(differs) | Verdict::View(differs) | Verdict::Proven(differs) => {
                self.null += usize::from(matches!(verdict, Verdict::Null(_)));
                self.mismatch += usize::from(differs.is_some());
            }
            Verdict::Unproven(_) => {}
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
            self.unlabelled,
            self.wrong,
            self.mismatch
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Table, Verdict};

    fn table(verdicts: &[(Verdict, Option<&'static str>)]) -> Table {
        let mut table = Table::default();
        for (verdict, none) in verdicts {
            table.count("case", &[], &Answer::default(), verdict, *none);
        }
        table
    }

    #[test]
    fn what_fails_a_run() {
        let proven = || (Verdict::Proven(None), None);
        let of = |other| [vec![other], std::iter::repeat_with(proven).take(199).collect()].concat();
        let why = || "why".to_owned();
        let passes = |other| table(&of(other)).passed();
        assert!(passes((Verdict::Null(None), Some("memfd"))));
        assert!(passes((Verdict::View(None), Some("memfd"))));
        assert!(passes((Verdict::Proven(None), Some("memfd"))));
        assert!(passes((Verdict::Unproven(why()), None)));
        assert!(!passes((Verdict::Unlabelled(why()), None)));
        assert!(!passes((Verdict::Wrong(why()), None)));
        assert!(!passes((Verdict::Wrong(why()), Some("memfd"))));
        assert!(!passes((Verdict::Proven(Some(why())), None)));
        assert!(!passes((Verdict::Null(Some(why())), Some("memfd"))));
        assert!(!Table::default().passed());
        let few = [(Verdict::Unproven(why()), None), proven()];
        assert!(!table(&few).passed());
        assert!(table(&few).tests().1 > 0);
        assert_eq!(table(&[proven()]).tests().1, 0);
    }

    #[test]
    fn a_label_that_was_too_dark_is_counted() {
        let all = [
            (Verdict::Null(None), Some("a")),
            (Verdict::Proven(None), Some("a")),
            (Verdict::Proven(None), None),
        ];
        let text = table(&all).summary();
        assert!(text.contains("1 of 1 proven"), "{text}");
        assert!(
            text.contains("1 null with one (0 told as a view, 1 proven all the same)"),
            "{text}"
        );
    }
}
