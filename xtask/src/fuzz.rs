//! `cargo xtask fuzz`: runs the fuzz targets with coverage, on stable Rust.
//!
//! libFuzzer needs no nightly compiler: LLVM's coverage pass is asked for by
//! name, and libfuzzer-sys brings the runtime that reads its counters.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// What was typed.
struct Options {
    targets: Vec<String>,
    seconds: u64,
    jobs: usize,
}

/// Where things lie.
struct Places {
    root: PathBuf,
    target_dir: PathBuf,
}

/// How one target did.
struct Outcome {
    name: String,
    passed: bool,
    line: String,
}

/// Runs the targets named in `words`, or all; says whether none failed.
pub(crate) fn run(root: &Path, words: &[String]) -> Result<bool> {
    let options = options(words)?;
    let known = targets(root)?;
    let chosen = if options.targets.is_empty() { known.clone() } else { options.targets };
    for name in &chosen {
        ensure!(known.contains(name), "no fuzz target `{name}`; there are: {}", known.join(" "));
    }
    let places = Places {
        root: root.to_owned(),
        // Its own folder: these flags would throw out every other build.
        target_dir: std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), PathBuf::from)
            .join("fuzz"),
    };
    let binary = build(&places)?;
    let queue = Mutex::new(VecDeque::from(chosen));
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| work(&queue, &outcomes, &places, &binary, options.seconds));
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_default();
    let failed: Vec<&str> = outcomes
        .iter()
        .filter(|outcome: &&Outcome| !outcome.passed)
        .map(|outcome| outcome.name.as_str())
        .collect();
    println!("fuzz: {} targets ran clean, {} did not", outcomes.len() - failed.len(), failed.len());
    ensure!(!outcomes.is_empty(), "no fuzz target ran");
    Ok(failed.is_empty())
}

fn options(words: &[String]) -> Result<Options> {
    let mut options = Options {
        targets: Vec::new(),
        seconds: 10,
        jobs: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a number"));
        match word.as_str() {
            "--seconds" => options.seconds = value()?.parse().context("--seconds")?,
            "--jobs" => options.jobs = value()?.parse().context("--jobs")?,
            flag if flag.starts_with('-') => bail!("no option {flag}"),
            name => options.targets.push(name.to_owned()),
        }
    }
    ensure!(options.seconds > 0 && options.jobs > 0, "a number above 0 is needed");
    Ok(options)
}

/// The targets: each has a corpus, and the replay test holds them to it.
fn targets(root: &Path) -> Result<Vec<String>> {
    let corpus = root.join("fuzz/corpus");
    let entries = fs::read_dir(&corpus).with_context(|| format!("reading {}", corpus.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn build(places: &Places) -> Result<PathBuf> {
    let host = host()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(&places.root)
        .args(["build", "--locked", "--profile", "ci", "--package", "whose-fuzz"])
        .args(["--features", "libfuzzer", "--bin", "fuzz"])
        // With a target named, build scripts and macros are left without
        // coverage, whose runtime they do not link.
        .args(["--target", &host])
        .arg("--target-dir")
        .arg(&places.target_dir)
        .env("RUSTFLAGS", COVERAGE.join(" "))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null())
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "the fuzz targets do not build");
    Ok(places.target_dir.join(host).join("ci/fuzz"))
}

/// The compiler's own platform.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(rustc).arg("-vV").stdin(Stdio::null()).output().context("running rustc")?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc -vV names no host")
}

fn work(
    queue: &Mutex<VecDeque<String>>,
    outcomes: &Mutex<Vec<Outcome>>,
    places: &Places,
    binary: &Path,
    seconds: u64,
) {
    // The lock must not be held while a target runs.
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    while let Some(name) = next() {
        let outcome = run_one(&name, places, binary, seconds).unwrap_or_else(|error| Outcome {
            line: format!("{error:#}"),
            name,
            passed: false,
        });
        let word = if outcome.passed { "ok" } else { "FAILED" };
        println!("fuzz {} ... {word}: {}", outcome.name, outcome.line);
        if let Ok(mut outcomes) = outcomes.lock() {
            outcomes.push(outcome);
        }
    }
}

fn run_one(name: &str, places: &Places, binary: &Path, seconds: u64) -> Result<Outcome> {
    let scratch = places.target_dir.join("run").join(name);
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    let corpus = scratch.join("corpus");
    fs::create_dir_all(&corpus)?;
    // libFuzzer adds to its corpus; the one in the tree is chosen by hand.
    for kept in ["corpus", "crashes"] {
        copy(&places.root.join("fuzz").join(kept).join(name), &corpus)?;
    }
    let log = scratch.join("log");
    let output = File::create(&log)?;
    let started = Instant::now();
    let mut child = Command::new(binary)
        .arg(&corpus)
        .arg(format!("-max_total_time={seconds}"))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=16384", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", scratch.display()))
        .env("WHOSE_FUZZ_TARGET", name)
        .current_dir(&scratch)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("starting the fuzz binary")?;
    // libFuzzer keeps its own time; this is for when it cannot.
    let limit = Duration::from_secs(seconds + 120);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("did not end in {} seconds", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let saved = save_crashes(name, places, &scratch)?;
    if !status.success() || !saved.is_empty() {
        let line = format!("{status}\n{}\n{}", tail(&text), saved.join("\n"));
        return Ok(Outcome { name: name.to_owned(), passed: false, line });
    }
    let outcome = judge(name, &text);
    fs::remove_dir_all(&scratch)?;
    Ok(outcome)
}

/// A run without coverage found nothing because it saw nothing.
fn judge(name: &str, text: &str) -> Outcome {
    let coverage: Vec<u64> = text.lines().filter_map(|line| number_after(line, " cov: ")).collect();
    let runs = text
        .lines()
        .find_map(|line| number_after(line, "stat::number_of_executed_units: "))
        .unwrap_or_default();
    let first = coverage.first().copied().unwrap_or_default();
    let last = coverage.iter().copied().max().unwrap_or_default();
    let line = if last == 0 {
        "no coverage was measured".to_owned()
    } else {
        format!("{runs} runs, coverage {first} to {last}")
    };
    Outcome { name: name.to_owned(), passed: last > 0 && runs > 0, line }
}

fn number_after(line: &str, mark: &str) -> Option<u64> {
    let (_, rest) = line.split_once(mark)?;
    rest.split_whitespace().next()?.parse().ok()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(from) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Moves the inputs that failed into the tree, where `cargo test` replays them.
fn save_crashes(name: &str, places: &Places, scratch: &Path) -> Result<Vec<String>> {
    let mut saved = Vec::new();
    for entry in fs::read_dir(scratch)? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let failed =
            ["crash-", "timeout-", "oom-", "leak-"].iter().any(|kind| file.starts_with(kind));
        if failed {
            let folder = places.root.join("fuzz/crashes").join(name);
            fs::create_dir_all(&folder)?;
            fs::copy(entry.path(), folder.join(&file))?;
            saved.push(format!("the input: fuzz/crashes/{name}/{file}"));
        }
    }
    Ok(saved)
}

/// The end of a log, from the panic on if there is one.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let start = lines
        .iter()
        .position(|line| line.contains("panicked at") || line.contains("ERROR: libFuzzer"))
        .unwrap_or(lines.len().saturating_sub(20));
    lines[start..].iter().take(20).copied().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{judge, options, tail};

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_read() {
        let options = options(&words("stat --seconds 3 cgroup --jobs 1")).unwrap();
        assert_eq!((options.seconds, options.jobs), (3, 1));
        assert_eq!(options.targets, ["stat", "cgroup"]);
    }

    #[test]
    fn bad_options_are_refused() {
        for text in ["--seconds", "--seconds x", "--seconds 0", "--jobs 0", "--fast"] {
            assert!(options(&words(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_run_is_judged_by_its_coverage() {
        let stats = "stat::number_of_executed_units: 42\n";
        let good = format!("#2 INITED cov: 7 ft: 8\n#9 NEW cov: 12 ft: 20\n{stats}");
        let outcome = judge("stat", &good);
        assert!(outcome.passed);
        assert_eq!(outcome.line, "42 runs, coverage 7 to 12");
        assert!(!judge("stat", stats).passed);
        assert!(!judge("stat", "#2 INITED cov: 7 ft: 8\n").passed);
    }

    #[test]
    fn the_tail_starts_at_the_panic() {
        let text = "INFO\nthread main panicked at a.rs:1\nwhy\n";
        assert_eq!(tail(text), "thread main panicked at a.rs:1\nwhy");
    }
}
