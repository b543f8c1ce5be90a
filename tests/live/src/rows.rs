//! What `ps` tells by one source, judged by what it tells by the other before and after.

use crate::{pid_of, whose};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use whose_testkit::harness::Run;

/// What only grows while a process lives.
const GROWING: [&str; 4] = ["elapsed", "cpu_time", "io_read", "io_write"];
/// What falls while a process sleeps, and is not told in its first tick.
const FALLING: &str = "pcpu";
/// What can change and change back while a process runs.
const RESTLESS: [&str; 7] = ["state", "wchan", "rss", "vsz", "threads", "nice", "role"];

/// A list of processes as JSON.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The run.
    pub run: Run,
    /// The rows by PID.
    pub rows: BTreeMap<u32, Map<String, Value>>,
    /// The PIDs in the order of the list.
    pub order: Vec<u32>,
    /// What is missing about the whole host.
    pub gaps: Value,
}

/// `whose ARGS --json --source SOURCE`, which must exit 0.
///
/// # Panics
/// When it does not.
#[must_use]
#[track_caller]
pub fn listed(source: &str, args: &[&str]) -> Listed {
    of(whose().args(args).args(["--json", "--source", source]).run())
}

/// The list that a run has printed.
///
/// # Panics
/// When it did not exit with 0, or a PID is there twice.
#[must_use]
#[track_caller]
pub fn of(run: Run) -> Listed {
    let run = run.expect_code(0);
    let mut json = run.json();
    let mut rows = BTreeMap::new();
    let mut order = Vec::new();
    let Value::Array(all) = json["rows"].take() else { panic!("no rows\n{}", run.story()) };
    for row in all {
        let Value::Object(row) = row else { panic!("a row that is none: {row}") };
        let pid = pid_of(&row["process"]["pid"]).expect("a row has a PID");
        order.push(pid);
        assert!(rows.insert(pid, row).is_none(), "{pid} is there twice\n{}", run.story());
    }
    Listed { run, rows, order, gaps: json["gaps"].take() }
}

impl Listed {
    /// The row of a process.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn row(&self, pid: u32) -> &Map<String, Value> {
        self.rows.get(&pid).unwrap_or_else(|| panic!("{pid} is missing: {}", self.run.command_line))
    }

    /// Those of `pids` that the list has, in its order.
    #[must_use]
    pub fn order_of(&self, pids: &BTreeSet<u32>) -> Vec<u32> {
        self.order.iter().copied().filter(|pid| pids.contains(pid)).collect()
    }
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Fields compared.
    pub compared: usize,
    /// Differences in processes of the test's own, which all sleep.
    pub wrong: Vec<String>,
    /// Differences in others, which may have changed and changed back: a PID and a field.
    pub odd: BTreeSet<(u32, String)>,
}

/// Judges `told` by what the other source has told `before` and `after`: what both say it says too,
/// and what grows is between them. All processes in both have to be there, with every field.
#[must_use]
pub fn judge(before: &Listed, told: &Listed, after: &Listed, own: &BTreeSet<u32>) -> Outcome {
    let mut outcome = Outcome::default();
    for pid in own {
        for list in [before, told, after].iter().filter(|list| !list.rows.contains_key(pid)) {
            outcome.wrong.push(format!("{pid} is missing: {}", list.run.command_line));
        }
    }
    for (pid, first) in &before.rows {
        let start = |row: &Map<String, Value>| row["process"]["start_ticks"].clone();
        let Some(last) = after.rows.get(pid).filter(|last| start(last) == start(first)) else {
            continue;
        };
        let Some(row) = told.rows.get(pid).filter(|row| start(row) == start(first)) else {
            outcome.odd.insert((*pid, "missing".to_owned()));
            continue;
        };
        let [first, row, last] = [first, row, last].map(fields);
        let names: BTreeSet<&String> = first.keys().chain(row.keys()).chain(last.keys()).collect();
        for name in names {
            let [first, told, last] = [&first, &row, &last].map(|fields| fields.get(name));
            outcome.compared += 1;
            if own.contains(pid) {
                if let Some(wrong) = differs(name, first, told, last) {
                    outcome.wrong.push(format!("{pid}: {name}: {wrong}"));
                }
            } else if first == last
                && told != first
                && !RESTLESS.contains(&name.as_str())
                // What /proc keeps from this user is a gap there.
                && !first.is_some_and(Value::is_null)
                && name != "gaps"
            {
                outcome.odd.insert((*pid, format!("{name}: {first:?}, {told:?}")));
            }
        }
    }
    outcome
}

/// Why a field of a process that sleeps is not what it has to be.
fn differs(
    name: &str,
    first: Option<&Value>,
    told: Option<&Value>,
    last: Option<&Value>,
) -> Option<String> {
    let number = |value: Option<&Value>| value.and_then(Value::as_f64);
    if GROWING.contains(&name)
        && let (Some(low), Some(own), Some(high)) = (number(first), number(told), number(last))
    {
        return (!(low..=high).contains(&own)).then(|| format!("{own} is not in {low}..={high}"));
    }
    if name == FALLING {
        let share = |value: Option<&Value>| number(value).unwrap_or(f64::INFINITY);
        let (high, own, low) = (share(first), share(told), share(last));
        return (!(low..=high).contains(&own)).then(|| format!("{own} is not in {low}..={high}"));
    }
    (first != told || told != last).then(|| format!("{first:?}, {told:?}, {last:?}"))
}

/// A row's fields by name; the owner and its chain as a whole.
fn fields(row: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut all: BTreeMap<String, Value> =
        row.iter().filter(|(name, _)| *name != "process").map(pair).collect();
    all.extend(row["process"].as_object().into_iter().flatten().map(pair));
    all
}

fn pair((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

/// Compares `whose ARGS` by the iterator with the same by /proc, and the other way round.
///
/// # Panics
/// When a process of the test's own differs once, or another one in the same field every time.
#[track_caller]
pub fn same(args: &[&str], own: &BTreeSet<u32>) {
    let mut odd: Option<BTreeSet<(u32, String)>> = None;
    let mut compared = 0;
    for (outer, inner) in [("proc", "bpf"), ("bpf", "proc")] {
        let before = listed(outer, args);
        let told = listed(inner, args);
        let after = listed(outer, args);
        for list in [&before, &told, &after] {
            let by_proc = list.gaps.to_string().contains("was read instead");
            assert!(!by_proc, "no iterator: {}", list.run.stderr_str());
        }
        let Outcome { compared: fields, wrong, odd: others } = judge(&before, &told, &after, own);
        compared += fields;
        let mut story = String::new();
        for line in wrong.iter().take(40) {
            let _ = writeln!(story, "  {line}");
        }
        assert!(
            wrong.is_empty(),
            "{} by {inner}, {outer} around it: {}\n{story}",
            args.join(" "),
            wrong.len()
        );
        odd = Some(match odd {
            None => others,
            Some(so_far) => so_far.intersection(&others).cloned().collect(),
        });
    }
    let odd = odd.unwrap_or_default();
    assert!(odd.is_empty(), "{}: always different: {odd:?}", args.join(" "));
    assert!(compared >= 4 * own.len(), "only {compared} fields compared");
    eprintln!("        {compared} fields, {} processes of the test's own", own.len());
}
