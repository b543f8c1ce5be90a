//! `cargo xtask vm`: the cases of `whose exe` on the older kernels that Debian packages, each in an
//! emulated machine, and the result kept in the tree.
//!
//! A machine is a kernel of Debian's, an initramfs with its modules and the programs to run, and a
//! small Debian root on a disk that is thrown away. It runs the cases of `tests/live` and random
//! stacks of `cargo xtask hostpath`, which judge by markers in the files, and tells of them on a
//! serial line.

mod cpio;
mod guest;
mod kernel;
mod modules;
mod programs;
mod report;
mod rootfs;
mod story;
mod tools;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use kernel::Kernel;
use report::Report;
use whose_testkit::archive::Archive;

/// Where the results are kept, a file for each kernel, beneath the project's root.
const RESULTS: &str = "docs/kernels";
/// The kernels: a name to choose them by, and the suites of Debian that have them.
const KERNELS: &[(&str, &[&str])] = &[
    ("5.10", &["bullseye", "bullseye-security"]),
    ("6.1", &["bookworm", "bookworm-security"]),
    ("backport", &["bookworm-backports"]),
];

/// What was typed.
#[derive(Debug)]
struct Options {
    kernels: Vec<String>,
    update: bool,
    keep_output: Option<PathBuf>,
    stacks: u64,
}

/// Runs it; says whether no answer was wrong and every kernel ran.
pub(crate) fn run(root: &Path, words: &[String]) -> Result<bool> {
    let options = options(words)?;
    tools::check()?;
    let cache = cache()?;
    let scratch = tools::Scratch::make(&cache)?;
    let archive = Archive::of_this_machine().map_err(anyhow::Error::msg)?;
    let programs = programs::build(root)?;
    let disk = rootfs::image(&archive, &cache, options.update)?;
    let report = Report::begin(root, &programs)?;
    let results = root.join(RESULTS);
    std::fs::create_dir_all(&results).with_context(|| format!("making {RESULTS}"))?;
    let mut all = true;
    for (name, suites) in KERNELS {
        if !options.kernels.is_empty() && !options.kernels.iter().any(|one| one == name) {
            continue;
        }
        println!("vm: {name}: the newest of {}", suites.join(", "));
        let place = scratch.dir(name)?;
        let kernel = Kernel::get(&archive, &cache, suites, options.update, &place)?;
        println!("vm: {name}: {} runs", kernel.release);
        let output = guest::run(&kernel, &programs, &disk, options.stacks, &place)
            .with_context(|| format!("the machine with Linux {}", kernel.release))?;
        if let Some(dir) = &options.keep_output {
            std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
            std::fs::write(dir.join(name), &output).context("keeping the output")?;
        }
        let story = story::parse(&output);
        println!("vm: {name}: {}", story.summary());
        for line in story.bad() {
            println!("vm: {name}: {line}");
        }
        all &= story.passed();
        let file = format!("{name}.md");
        std::fs::write(results.join(&file), report.text(&kernel, &story))
            .with_context(|| format!("writing {RESULTS}/{file}"))?;
        println!("vm: {name}: the result is in {RESULTS}/{file}");
    }
    Ok(all)
}

fn options(words: &[String]) -> Result<Options> {
    let mut options =
        Options { kernels: Vec::new(), update: false, keep_output: None, stacks: 100 };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--update" => options.update = true,
            "--stacks" => options.stacks = value()?.parse().context("--stacks")?,
            "--output" => options.keep_output = Some(PathBuf::from(value()?)),
            flag if flag.starts_with('-') => bail!("vm has no option {flag}"),
            name => {
                let names: Vec<&str> = KERNELS.iter().map(|(name, _)| *name).collect();
                ensure!(names.contains(&name), "no kernel {name}; there are: {}", names.join(" "));
                options.kernels.push(name.to_owned());
            }
        }
    }
    Ok(options)
}

/// Where downloads are kept: beside what CI keeps.
fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("WHOSE_CI_CACHE") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?)
            .join(".cache/whose-ci"),
    };
    let dir = base.join("vm");
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    dir.canonicalize().context("the folder of downloads")
}
