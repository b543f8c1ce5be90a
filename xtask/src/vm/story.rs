//! What the cases print in a machine, read line by line.

use std::fmt;

use serde_json::Value;

/// The lines that a machine's output begins and ends with.
pub(super) const BEGIN: &str = "whose-vm: begins on";
pub(super) const END: &str = "whose-vm: ends";

/// What an answer is worth, in the words of the judge of `tests/live`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// The path of the file that runs, or a reason why none had to be proven.
    Right,
    /// There is no path, and that is said.
    None,
    /// No path was told where none had to be.
    Silent,
    /// No path where there is one.
    Unproven,
    /// The path of another file.
    Wrong,
    /// The right path with something false beside it.
    Mislabelled,
}

/// One answer of `whose exe`.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) worth: Worth,
    pub(super) role: Option<String>,
    pub(super) verified: Option<String>,
    pub(super) why: Option<String>,
}

/// One case with its answers.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) suite: String,
    pub(super) name: String,
    pub(super) answers: Vec<Answer>,
    /// Why it failed.
    pub(super) failed: Option<String>,
}

/// What became of the random stacks.
#[derive(Debug)]
pub(super) struct Stacks {
    pub(super) summary: String,
    wrong: u64,
    programs: u64,
}

/// A whole run.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) cases: Vec<Case>,
    /// Cases that were left out, with the reasons.
    pub(super) skipped: Vec<String>,
    pub(super) stacks: Option<Stacks>,
    /// What was said of stacks with a wrong or no answer.
    pub(super) complaints: Vec<String>,
    ended: bool,
}

/// The counts of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) right: usize,
    pub(super) none: usize,
    pub(super) silent: usize,
    pub(super) unproven: usize,
    pub(super) wrong: usize,
    /// Cases that failed though no answer in them was wrong or unproven.
    pub(super) broken: usize,
}

/// Reads the output of a machine.
pub(super) fn parse(output: &str) -> Story {
    let mut story = Story::default();
    let mut answers = Vec::new();
    let mut panic = None;
    let mut after_panic = false;
    for line in output.lines() {
        let line = line.trim_end_matches('\r');
        // libtest ends its own line only when the test has ended.
        let line = match line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            Some((_, rest)) => rest,
            None => line,
        };
        if std::mem::take(&mut after_panic) {
            panic = Some(line.trim().to_owned());
        }
        if line.starts_with("thread '") && line.contains(" panicked at ") {
            after_panic = true;
        } else if let Some(rest) = line.strip_prefix("judged  ") {
            answers.extend(answer(rest));
        } else if let Some(name) = line.strip_prefix("ok      ") {
            story.case(name, std::mem::take(&mut answers), None);
            panic = None;
        } else if let Some(name) = line.strip_prefix("FAILED  ") {
            let why = panic.take().unwrap_or_default();
            story.case(name, std::mem::take(&mut answers), Some(why));
        } else if let Some(what) = line.strip_prefix("skipped: ") {
            story.skipped.push(what.to_owned());
        } else if line.starts_with("hostpath: seed ") && line.contains(" programs, ") {
            story.stacks = stacks(line);
        } else if line.starts_with("WRONG: ") || line.starts_with("unproven: ") {
            story.complaints.push(line.to_owned());
        } else if line == END {
            story.ended = true;
        }
    }
    story
}

fn answer(text: &str) -> Option<Answer> {
    let (word, facts) = text.split_once(' ')?;
    let worth = match word {
        "right" => Worth::Right,
        "none" => Worth::None,
        "silent" => Worth::Silent,
        "unproven" => Worth::Unproven,
        "mislabelled" => Worth::Mislabelled,
        // A word that is not known is no reason to call it right.
        _ => Worth::Wrong,
    };
    let facts: Value = serde_json::from_str(facts).unwrap_or_default();
    let text = |name: &str| facts[name].as_str().map(str::to_owned);
    Some(Answer { worth, role: text("role"), verified: text("verified"), why: text("why") })
}

fn stacks(line: &str) -> Option<Stacks> {
    let (_, summary) = line.split_once(" s: ")?;
    let number = |what: &str| {
        let part = summary.split(", ").find_map(|part| part.strip_suffix(what))?;
        part.trim().parse().ok()
    };
    Some(Stacks {
        wrong: number(" wrong")?,
        programs: number(" programs")?,
        summary: summary.to_owned(),
    })
}

impl Story {
    fn case(&mut self, text: &str, answers: Vec<Answer>, failed: Option<String>) {
        let (suite, name) = text.split_once('/').unwrap_or(("", text));
        let name = name.rsplit_once(" (").map_or(name, |(name, _)| name);
        self.cases.push(Case { suite: suite.to_owned(), name: name.to_owned(), answers, failed });
    }

    /// The answers by what they are worth.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for case in &self.cases {
            for answer in &case.answers {
                match answer.worth {
                    Worth::Right => counts.right += 1,
                    Worth::None => counts.none += 1,
                    Worth::Silent => counts.silent += 1,
                    Worth::Unproven => counts.unproven += 1,
                    Worth::Wrong | Worth::Mislabelled => counts.wrong += 1,
                }
            }
            counts.broken += usize::from(case.is_broken());
        }
        counts
    }

    /// Whether it ran to its end, something was judged, and nothing was wrong.
    pub(super) fn passed(&self) -> bool {
        let counts = self.counts();
        let stacks = self.stacks.as_ref().is_some_and(|s| s.wrong == 0 && s.programs > 0);
        self.ended && stacks && counts.right > 0 && counts.wrong == 0 && counts.broken == 0
    }

    /// A line for each case and stack that was not right.
    pub(super) fn bad(&self) -> impl Iterator<Item = String> {
        let cases = self.cases.iter().filter_map(|case| {
            let why = case.failed.as_ref()?;
            Some(format!("{}/{}: {}: {why}", case.suite, case.name, case.verdict()))
        });
        cases.chain(self.complaints.iter().cloned())
    }

    /// The counts in one line.
    pub(super) fn summary(&self) -> String {
        let stacks = self.stacks.as_ref().map_or("no stacks", |stacks| &stacks.summary);
        format!("{} cases, {}; stacks: {stacks}", self.cases.len(), self.counts())
    }
}

impl Case {
    fn is_broken(&self) -> bool {
        let told =
            |a: &Answer| matches!(a.worth, Worth::Wrong | Worth::Mislabelled | Worth::Unproven);
        self.failed.is_some() && !self.answers.iter().any(told)
    }

    /// In a word, with the reason where there is one.
    pub(super) fn verdict(&self) -> String {
        let first = |worth| self.answers.iter().find(|answer| answer.worth == worth);
        let because = |word: &str, answer: &Answer| match &answer.why {
            // What follows are paths of one run.
            Some(why) => format!("{word}: {}", why.split("; ").next().unwrap_or(why)),
            None => word.to_owned(),
        };
        if first(Worth::Wrong).is_some() {
            return "WRONG".to_owned();
        }
        if first(Worth::Mislabelled).is_some() {
            return "MISLABELLED".to_owned();
        }
        if let Some(answer) = first(Worth::Unproven) {
            return because("unproven", answer);
        }
        if self.failed.is_some() {
            return "FAILED".to_owned();
        }
        match first(Worth::Silent) {
            Some(answer) => because("right or silent", answer),
            None => "right".to_owned(),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} right, {} rightly none, {} silent, {} unproven, {} wrong, {} broken",
            self.right, self.none, self.silent, self.unproven, self.wrong, self.broken
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, parse};

    const OUTPUT: &str = "\
whose-vm: begins on 5.10.0-46-amd64
running 2 tests
test exe_of_layers ... judged  right {\"role\":\"lower\",\"verified\":\"page\"}
judged  right {\"role\":\"upper\",\"verified\":\"mapped-inode\",\"why\":\"no page\"}
ok      exe-layers/4 an opening of l/x (held) (1.2s)
skipped: exe-layers/8c data: linux-6.5: the kernel is 5.10
ok
test exe_deleted ... ok      exe-deleted/6a (3.1s)

thread 'exe_deleted' (409) panicked at a.rs:1:2:
the path is another
judged  wrong {\"role\":null}
FAILED  exe-deleted/6b (1.0s)
judged  none {\"state\":\"unlinked\"}
judged  silent {\"why\":\"not found; it may be /a\"}
ok      exe-deleted/6c (1.0s)
thread 'exe_deleted' (409) panicked at a.rs:3:4:
mount: bad option
FAILED  exe-deleted/6d (1.0s)
hostpath: seed 1, stacks on btrfs
hostpath: seed 1, 5.7 s: 40 stacks, 89 programs, 0 wrong, 60 of 63 proven by page, 2 left out
whose-vm: ends
";

    #[test]
    fn answers_go_with_the_case_that_ends_after_them() {
        let story = parse(OUTPUT);
        let names: Vec<&str> = story.cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["4 an opening of l/x (held)", "6a", "6b", "6c", "6d"]);
        let numbers: Vec<usize> = story.cases.iter().map(|case| case.answers.len()).collect();
        assert_eq!(numbers, [2, 0, 1, 2, 0]);
        assert_eq!(story.cases[0].suite, "exe-layers");
        assert_eq!(story.skipped, ["exe-layers/8c data: linux-6.5: the kernel is 5.10"]);
        let counts = Counts { right: 2, none: 1, silent: 1, unproven: 0, wrong: 1, broken: 1 };
        assert_eq!(story.counts(), counts);
    }

    #[test]
    fn verdicts_name_the_worst() {
        let story = parse(OUTPUT);
        let verdicts: Vec<String> = story.cases.iter().map(super::Case::verdict).collect();
        let wanted = ["right", "right", "WRONG", "right or silent: not found", "FAILED"];
        assert_eq!(verdicts, wanted);
        let bad: Vec<String> = story.bad().collect();
        assert_eq!(
            bad,
            [
                "exe-deleted/6b: WRONG: the path is another",
                "exe-deleted/6d: FAILED: mount: bad option"
            ]
        );
    }

    #[test]
    fn nothing_passes_that_was_not_judged_to_the_end() {
        assert!(!parse(OUTPUT).passed());
        let good: String = OUTPUT
            .lines()
            .filter(|line| !line.starts_with("FAILED") && !line.starts_with("judged  wrong"))
            .map(|line| format!("{line}\r\n"))
            .collect();
        assert!(parse(&good).passed(), "{:?}", parse(&good));
        for part in ["whose-vm: ends", "judged  right", "hostpath: seed", " 0 wrong"] {
            let other = if part == " 0 wrong" { " 1 wrong" } else { "" };
            assert!(!parse(&good.replace(part, other)).passed(), "{part}");
        }
        assert!(!parse(&good.replace("judged  none", "judged  odd")).passed());
        assert!(!parse("").passed());
    }
}
