//! The table, as text and for `benches/runs/`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::rig::Hierarchies;

use super::machine::Machine;
use super::stats::{Figure, Pairs, Spread, short};

/// One comparison.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) processes: usize,
    pub(super) containers: usize,
    pub(super) hierarchies: Hierarchies,
    pub(super) ours: String,
    pub(super) theirs: String,
    pub(super) pairs: Pairs,
    /// The ratio of ours to theirs that is asked for, at most.
    pub(super) asked: Vec<(Figure, f64)>,
}

/// What an answer about one costs on one host.
#[derive(Debug)]
pub(super) struct Growth {
    pub(super) title: String,
    pub(super) processes: usize,
    pub(super) containers: usize,
    pub(super) calls: Option<usize>,
    pub(super) cpu: Spread,
    pub(super) wall: Spread,
}

/// All of a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    pub(super) growth: Vec<Growth>,
    /// What was not measured, and why.
    pub(super) skipped: Vec<String>,
    /// Versions of docker's client and daemon.
    pub(super) docker: Option<String>,
}

impl Report {
    /// The tables alone.
    pub(super) fn tables(&self) -> String {
        let mut text = String::new();
        let host = |row: &Row| (row.processes, row.containers, row.hierarchies);
        let hosts: BTreeSet<_> = self.rows.iter().map(host).collect();
        for (processes, containers, hierarchies) in hosts {
            let place = hierarchies.text();
            let _ =
                writeln!(text, "## {processes} processes, {containers} containers in {place}\n");
            let here = |row: &&Row| host(row) == (processes, containers, hierarchies);
            let mut lines = vec![
                ["ours", "theirs", "figure", "ours", "theirs", "ours / theirs", "asked"]
                    .map(str::to_owned)
                    .to_vec(),
            ];
            for row in self.rows.iter().filter(here) {
                lines.extend(Figure::ALL.iter().filter_map(|figure| row.line(*figure)));
            }
            text.push_str(&table(&lines));
            text.push('\n');
        }
        let each = self.each();
        if each.len() > 1 {
            text.push_str("## CPU a process\n\n");
            text.push_str(&table(&each));
            text.push('\n');
        }
        if !self.growth.is_empty() {
            text.push_str("## One answer as the host grows\n\n");
            let head =
                ["command", "processes", "containers", "system calls", "CPU, ms", "wall, ms"];
            let mut lines = vec![head.map(str::to_owned).to_vec()];
            let mut growth: Vec<&Growth> = self.growth.iter().collect();
            growth.sort_by_key(|one| (&one.title, one.processes, one.containers));
            lines.extend(growth.into_iter().map(|one| {
                vec![
                    one.title.clone(),
                    one.processes.to_string(),
                    one.containers.to_string(),
                    one.calls.map_or("-".to_owned(), |calls| calls.to_string()),
                    one.cpu.text(),
                    one.wall.text(),
                ]
            }));
            text.push_str(&table(&lines));
            text.push('\n');
        }
        if !self.skipped.is_empty() {
            text.push_str("## Not measured\n\n");
            for why in &self.skipped {
                let _ = writeln!(text, "- {why}");
            }
        }
        text.trim_end().to_owned() + "\n"
    }

    /// What a list of all costs for each, in microseconds.
    fn each(&self) -> Vec<Vec<String>> {
        let head = ["command", "processes", "containers in", "ours, us", "theirs, us"];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        let mut rows: Vec<&Row> =
            self.rows.iter().filter(|row| row.ours.starts_with("whose ps")).collect();
        rows.sort_by_key(|row| (&row.ours, row.hierarchies, row.processes));
        for row in rows {
            let (Some(ours), Some(theirs)) =
                (row.pairs.ours(Figure::Cpu), row.pairs.theirs(Figure::Cpu))
            else {
                continue;
            };
            // More processes than that are there, but few.
            let processes = f64::from(u32::try_from(row.processes).unwrap_or(u32::MAX));
            let each = |spread: Spread| short(spread.median * 1e3 / processes);
            let (processes, place) = (row.processes.to_string(), row.hierarchies.text().to_owned());
            lines.push(vec![row.ours.clone(), processes, place, each(ours), each(theirs)]);
        }
        lines
    }

    /// All of it, with the machine it was measured on.
    pub(super) fn page(&self, machine: &Machine, conditions: &str) -> String {
        format!(
            "# {}, Linux {}\n\n{}\n{}\n{}",
            machine.date,
            machine.kernel,
            machine.lines(self.docker.as_deref()),
            conditions,
            self.tables()
        )
    }
}

impl Row {
    fn line(&self, figure: Figure) -> Option<Vec<String>> {
        let ratio = self.pairs.ratio(figure);
        let asked = self.asked.iter().find(|(of, _)| *of == figure).map(|(_, most)| {
            let reached = ratio.is_some_and(|ratio| ratio.median <= *most);
            format!("{}: {}", short(*most), if reached { "reached" } else { "missed" })
        });
        Some(vec![
            self.ours.clone(),
            self.theirs.clone(),
            figure.name().to_owned(),
            self.pairs.ours(figure)?.text(),
            self.pairs.theirs(figure)?.text(),
            ratio.map_or("-".to_owned(), Spread::text),
            asked.unwrap_or_default(),
        ])
    }
}

/// A table in Markdown, its columns padded; the first line is the heading.
fn table(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |line: &[String], column: usize| {
        line.get(column).map(|text| text.replace('|', "\\|")).unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().map(|line| cell(line, column).len()).max().unwrap_or(0).max(3))
        .collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, width) in widths.iter().enumerate() {
            let _ = write!(text, "| {:width$} ", cell(line, column));
        }
        text.push_str("|\n");
        if number == 0 {
            for width in &widths {
                let _ = write!(text, "| {} ", "-".repeat(*width));
            }
            text.push_str("|\n");
        }
    }
    text
}

/// Writes the page of a run under a name that no other has.
pub(super) fn keep(dir: &Path, run: &str, page: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    for number in 1..1000 {
        let path = dir.join(format!("{run}-{number}.md"));
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
        match file {
            Ok(mut file) => {
                std::io::Write::write_all(&mut file, page.as_bytes())
                    .with_context(|| format!("writing {}", path.display()))?;
                return Ok(path);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("making {}", path.display()));
            }
        }
    }
    bail!("{} has a thousand runs {run} already", dir.display())
}

#[cfg(test)]
mod tests {
    use super::{Growth, Hierarchies, Report, Row, keep, table};
    use crate::bench::meter::Sample;
    use crate::bench::stats::{Figure, Pairs, Spread};

    fn row(processes: usize, ours: f64, theirs: f64) -> Row {
        let sample = |cpu| Sample { cpu, wall: 2.0 * cpu, peak: 8.0 };
        Row {
            processes,
            containers: processes / 20,
            hierarchies: Hierarchies::V2,
            ours: "whose ps".to_owned(),
            theirs: "ps -e".to_owned(),
            pairs: Pairs(vec![(sample(ours), sample(theirs))]),
            asked: vec![(Figure::Cpu, 0.125)],
        }
    }

    #[test]
    fn columns_stand_below_each_other() {
        let line = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let text = table(&[line(&["a", "long one"]), line(&["b | c", "d"])]);
        assert_eq!(text, "| a      | long one |\n| ------ | -------- |\n| b \\| c | d        |\n");
    }

    #[test]
    fn what_was_asked_for_is_told_beside_what_came() {
        let spread = Spread { median: 1.0, min: 1.0, max: 2.0 };
        let report = Report {
            rows: vec![
                row(1000, 10.0, 100.0),
                row(100, 50.0, 100.0),
                Row { hierarchies: Hierarchies::All, ..row(1000, 20.0, 100.0) },
            ],
            growth: vec![Growth {
                title: "whose PID".to_owned(),
                processes: 100,
                containers: 5,
                calls: Some(70),
                cpu: spread,
                wall: spread,
            }],
            skipped: vec!["docker: `dockerd` is not installed".to_owned()],
            docker: None,
        };
        let text = report.tables();
        let has = |needle: &str| assert!(text.contains(needle), "{needle}: {text}");
        has("## 100 processes, 5 containers in the v2 tree\n");
        has("## 1000 processes, 50 containers in every cgroup hierarchy\n");
        has("| 0.100 (0.100 to 0.100) | 0.125: reached |");
        has("| 0.500 (0.500 to 0.500) | 0.125: missed |");
        has("| CPU, ms  | 10.0 (10.0 to 10.0) | 100 (100 to 100)    |");
        has("| whose ps | 100       | the v2 tree            | 500      | 1000       |\n");
        has("| whose ps | 1000      | every cgroup hierarchy | 20.0     | 100        |\n");
        has("| whose PID | 100       | 5          | 70           |");
        has("- docker: `dockerd` is not installed\n");
        assert!(text.find("## 100 ").unwrap() < text.find("## 1000 ").unwrap());
    }

    #[test]
    fn no_run_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..2)
            .map(|n| keep(&dir.path().join("runs"), "2024-01-02-6.1.0", &format!("{n}")).unwrap())
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["2024-01-02-6.1.0-1.md", "2024-01-02-6.1.0-2.md"]);
    }
}
