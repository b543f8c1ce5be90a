//! `whose ls --disk` beside `du -s` over one tree of many files.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::jobs::Bench;
use super::meter::Line;
use super::stats::Figure;

/// Directories of the tree, how many lie in one, and files in each: a million.
const DIRS: usize = 1000;
const TOGETHER: usize = 32;
const FILES: usize = 1000;
/// A data root of Docker's with one layer, whose name is in no table.
const DATA: &str = "var/lib/docker";
const LAYER: &str = "overlay2/0123456789abcdef0123456789abcdef/diff";

/// Measures it.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    // It is cleared away with all that is there.
    let dir = bench.meter.dir().context("a directory for the files")?.join("disk");
    if !dir.exists() {
        write(&dir)?;
    }
    let root = dir.display().to_string();
    let data = dir.join(DATA).display().to_string();
    let words =
        ["--root", &root, "ls", "--disk", "--raw", "--no-headers", "-o", "disk,disk_inodes"];
    let theirs = Line::new(["du", "-s", "--block-size=1", &data]);
    let ours = bench.ours(&words);
    let (pairs, outputs) = bench.race(&ours, &theirs, bench.rounds.all)?;
    for (ours, theirs) in &outputs {
        check(ours, theirs)?;
    }
    let title = "whose ls --disk, 1,000,000 files";
    bench.row(title, "du -s", pairs, &[(Figure::Wall, 1.0)]);
    Ok(())
}

fn write(dir: &Path) -> Result<()> {
    let data = dir.join(DATA);
    for below in ["containers", "image/overlay2/layerdb/sha256", "image/overlay2/layerdb/mounts"] {
        std::fs::create_dir_all(data.join(below)).context("a data root")?;
    }
    std::fs::create_dir_all(dir.join("proc")).context("a saved tree")?;
    for at in 0..DIRS {
        let below = data.join(LAYER).join((at / TOGETHER).to_string()).join(at.to_string());
        std::fs::create_dir_all(&below).context("a directory")?;
        for file in 0..FILES {
            File::create(below.join(file.to_string())).context("a file")?;
        }
    }
    Ok(())
}

/// Fails unless our rows come to what du says, and to all files.
fn check(ours: &[u8], theirs: &[u8]) -> Result<()> {
    let (ours, theirs) = (String::from_utf8_lossy(ours), String::from_utf8_lossy(theirs));
    let (mut bytes, mut inodes) = (0, 0);
    for row in ours.lines() {
        let mut numbers = row.split_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next().with_context(|| format!("{row:?} is short"));
        bytes += next()??;
        inodes += next()??;
    }
    let said: u64 = theirs.split_whitespace().next().context("du said nothing")?.parse()?;
    ensure!(bytes == said, "ours are {bytes} bytes, du says {said}");
    ensure!(inodes > (DIRS * FILES) as u64, "{inodes} files and directories");
    Ok(())
}
