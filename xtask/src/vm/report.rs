//! The result, as it is kept in the tree.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::kernel::Kernel;
use super::programs::Programs;
use super::story::{Answer, Case, Story, Worth};
use super::tools;

/// What all results of a run have in common.
#[derive(Debug)]
pub(super) struct Report {
    head: String,
}

impl Report {
    /// Notes what is run, with what, and when.
    pub(super) fn begin(root: &Path, programs: &Programs) -> Result<Self> {
        let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
        let whose = first(tools::text(Command::new(&programs.whose).arg("--version"))?);
        let qemu = first(tools::text(Command::new("qemu-system-x86_64").arg("--version"))?);
        let date = first(tools::text(Command::new("date").args(["-u", "+%Y-%m-%d"]))?);
        let commit = commit(root)?;
        let head =
            format!("- date: {date}\n- whose: {whose}, commit {commit}\n- emulator: {qemu}\n");
        Ok(Self { head })
    }

    /// The text about a kernel.
    pub(super) fn text(&self, kernel: &Kernel, story: &Story) -> String {
        let (counts, head) = (story.counts(), &self.head);
        format!(
            "# Linux {}\n\n\
             What `cargo xtask vm` saw on this kernel of Debian's, in an emulated machine. An answer of\n\
             `whose exe` is judged by the marker in the file that it names, against the one in the\n\
             memory of the process.\n\n\
             - kernel: {} {}\n{head}- cases: {}, and {} left out\n- answers: {counts}\n\n\
             *Rightly none*: the file has no path on the host, and that was said. *Silent*: no path\n\
             was told where the case allows it. *Unproven*: there is one, and it was not found or not\n\
             proven. *Broken*: a case that could not be run.\n\n{}",
            kernel.release,
            kernel.package,
            kernel.version,
            story.cases.len(),
            story.skipped.len(),
            section(story)
        )
    }
}

fn section(story: &Story) -> String {
    let mut text = String::new();
    if let Some(stacks) = &story.stacks {
        // Writing to a text can't fail.
        let _ = writeln!(text, "Random stacks of `cargo xtask hostpath`: {}.\n", stacks.summary);
    }
    let complaints: Vec<String> = story.complaints.iter().map(|c| complaint_of(c)).collect();
    for (complaint, count) in counts(&complaints) {
        let _ = writeln!(text, "- {count} x {complaint}");
    }
    if !story.complaints.is_empty() {
        text.push('\n');
    }
    text.push_str("| case | answer | verified by | verdict |\n| --- | --- | --- | --- |\n");
    for case in &story.cases {
        let _ = writeln!(text, "{}", row(case));
    }
    if !story.skipped.is_empty() {
        text.push_str("\nLeft out:\n\n");
        for what in &story.skipped {
            let _ = writeln!(text, "- {what}");
        }
    }
    text
}

/// What it was said of, and why; without the PID and the path, which are one run's.
fn complaint_of(line: &str) -> String {
    let (what, rest) = line.split_once("; program ").unwrap_or((line, ""));
    let label = rest.splitn(3, ", ").nth(2).and_then(|rest| rest.split(": ").next());
    let why = rest.split_once(", why ").map(|(_, why)| why);
    [Some(what), label, why].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn row(case: &Case) -> String {
    let answers: Vec<String> = case.answers.iter().map(name).collect();
    let told = |answer: &&Answer| answer.worth == Worth::Right;
    let proofs: Vec<String> =
        case.answers.iter().filter(told).filter_map(|answer| answer.verified.clone()).collect();
    let cells = [
        format!("{}: {}", case.suite, case.name),
        counted(&answers),
        counted(&proofs),
        case.verdict(),
    ];
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |", cells.join(" | "))
}

/// What was answered, in a word.
fn name(answer: &Answer) -> String {
    match answer.worth {
        Worth::None => "no path".to_owned(),
        Worth::Silent | Worth::Unproven => "nothing".to_owned(),
        Worth::Right | Worth::Wrong | Worth::Mislabelled => {
            answer.role.clone().unwrap_or_else(|| "a path".to_owned())
        }
    }
}

/// Each word once, in the order of their first use, with how often it came.
fn counts(words: &[String]) -> Vec<(&str, usize)> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for word in words {
        match counts.iter_mut().find(|(other, _)| other == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    counts
}

/// The same in a text.
fn counted(words: &[String]) -> String {
    let text = |(word, count): &(&str, usize)| match count {
        1 => (*word).to_owned(),
        count => format!("{word} x{count}"),
    };
    counts(words).iter().map(text).collect::<Vec<_>>().join(", ")
}

/// The commit that was built, and whether the tree had changes.
fn commit(root: &Path) -> Result<String> {
    let git = || {
        let mut git = Command::new("git");
        git.arg("-c").arg(format!("safe.directory={}", root.display())).arg("-C").arg(root);
        git
    };
    let commit = tools::text(git().args(["rev-parse", "--short=12", "HEAD"]))?;
    let other = format!(":!{}", super::RESULTS);
    let changed = tools::text(git().args(["status", "--porcelain", "--", ".", &other]))?;
    let and = if changed.is_empty() { "" } else { " and changes" };
    Ok(format!("{}{and}", commit.trim()))
}

#[cfg(test)]
mod tests {
    use super::super::story;
    use super::{counted, section};

    #[test]
    fn a_case_is_a_row() {
        let output = "\
judged  right {\"role\":\"lower\",\"verified\":\"page\"}
judged  right {\"role\":\"lower\",\"verified\":\"page\"}
judged  right {\"role\":null,\"verified\":\"mapped-inode\"}
judged  none {}
ok      exe-x/a | b (1.0s)
skipped: exe-x/c: linux-6.5: the kernel is 5.10
unproven: no path; program 1, PID 77, upper, renamed: no host path, verified none, why late
unproven: no path; program 2, PID 78, upper, renamed: no host path, verified none, why late
hostpath: seed 1, 5.7 s: 4 stacks, 9 programs, 0 wrong
";
        let text = section(&story::parse(output));
        let row = "| exe-x: a \\| b | lower x2, a path, no path | page x2, mapped-inode | right |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("\n- exe-x/c: linux-6.5: the kernel is 5.10\n"), "{text}");
        assert!(text.contains("\n- 2 x unproven: no path; upper, renamed; late\n"), "{text}");
        assert!(text.contains("hostpath`: 4 stacks, 9 programs, 0 wrong.\n"), "{text}");
    }

    #[test]
    fn words_are_counted_in_order() {
        let words = ["b", "a", "b"].map(str::to_owned);
        assert_eq!(counted(&words), "b x2, a");
        assert_eq!(counted(&[]), "");
    }
}
