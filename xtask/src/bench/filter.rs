//! `whose annotate` beside `grep -F` over one text like that of `ps`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::jobs::Bench;
use super::meter::Line;
use super::stats::Figure;

/// Lines of the text, and of a short one that shows whether memory grows with it.
const LINES: usize = 1_000_000;
const FEW: usize = 100_000;
/// A literal that is in every line but the header, and one that is in one of a hundred: grep writes as
/// much as the filter does, or next to nothing.
const ALL: &str = "/usr/sbin/worker";
const RARE: &str = "--number 77";

/// Measures it.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut owners: Vec<(u32, String)> = Vec::new();
    for container in &bench.world.rig.containers {
        for pid in bench.world.rig.pids(container)? {
            owners.push((pid, container.name.clone()));
        }
    }
    ensure!(!owners.is_empty(), "the rig has no processes");
    // It is cleared away with all that is there.
    let dir = bench.meter.dir().context("a directory for the text")?;
    let (whole, short) = (dir.join("ps"), dir.join("short"));
    write(&whole, &owners, LINES)?;
    write(&short, &owners, FEW)?;
    let path = whole.display().to_string();
    let ours = bench.ours(&["annotate", &path]);
    let rounds = bench.rounds.all;
    for (literal, title) in [(ALL, "every line"), (RARE, "one line of 100")] {
        let theirs = Line::new(["grep", "-F", "-e", literal, &path]);
        let (pairs, outputs) = bench.race(&ours, &theirs, rounds)?;
        for (text, _) in &outputs {
            check(text, &owners)?;
        }
        let title = format!("grep -F, {title}");
        bench.row("whose annotate, 1,000,000 lines", &title, pairs, &[(Figure::Wall, 3.0)]);
    }
    // Both are ours: memory must not grow with the text.
    let little = bench.ours(&["annotate", &short.display().to_string()]);
    let (pairs, _) = bench.race(&ours, &little, rounds)?;
    let asked = &[(Figure::Peak, 1.1)];
    bench.row("whose annotate, 1,000,000 lines", "whose annotate, 100,000 lines", pairs, asked);
    Ok(())
}

fn write(path: &Path, owners: &[(u32, String)], lines: usize) -> Result<()> {
    let mut text = String::from(
        "USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND\n",
    );
    for line in 0..lines {
        let (pid, _) = owners[line % owners.len()];
        let (share, vsz, rss, number) =
            (line % 10, 20_000 + line % 5000, 900 + line % 100, line % 100);
        writeln!(
            text,
            "root     {pid:>7}  0.{share}  0.1 {vsz:>6} {rss:>5} ?        Ss   01:33   0:00 \
             {ALL} --number {number}"
        )?;
    }
    std::fs::write(path, text).context("writing the text")
}

/// Fails when a line has not the owner of its process beside the PID.
fn check(text: &[u8], owners: &[(u32, String)]) -> Result<()> {
    let text = String::from_utf8_lossy(text);
    let mut rows = text.lines().skip(1);
    for (at, row) in rows.by_ref().enumerate() {
        let (pid, name) = &owners[at % owners.len()];
        let mut words = row.split_whitespace().skip(1);
        let is_row = words.next().and_then(|w| w.parse().ok()) == Some(*pid);
        ensure!(is_row && words.next() == Some(name), "{pid} is {name}'s: {row:?}");
    }
    let count = text.lines().count();
    ensure!(count == LINES + 1, "{count} lines came out");
    Ok(())
}
