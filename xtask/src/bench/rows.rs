//! Whether two lists of processes are of the same processes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

/// Processes by PID, with the tick they started at.
pub(super) type Living = BTreeMap<u32, u64>;

/// Those that live now.
pub(super) fn living() -> Result<Living> {
    let mut all = Living::new();
    for entry in std::fs::read_dir("/proc").context("reading /proc")? {
        let name = entry.context("reading /proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that ended meanwhile is none.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let start = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19));
        let start = start.and_then(|start| start.parse().ok());
        all.insert(pid, start.with_context(|| format!("the start of {pid}"))?);
    }
    Ok(all)
}

/// Those that lived all the time between two looks.
pub(super) fn throughout(before: &Living, after: &Living) -> BTreeSet<u32> {
    before
        .iter()
        .filter(|(pid, start)| after.get(pid) == Some(start))
        .map(|(pid, _)| *pid)
        .collect()
}

/// One row a process: its PID first, its owner last. A heading is no row.
pub(super) fn parse(text: &[u8]) -> Result<BTreeMap<u32, String>> {
    let mut rows = BTreeMap::new();
    for line in String::from_utf8_lossy(text).lines() {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        if first == "PID" {
            continue;
        }
        let pid: u32 = first.parse().with_context(|| format!("{line:?} has no PID"))?;
        let last = words.next_back().unwrap_or_default().to_owned();
        ensure!(rows.insert(pid, last).is_none(), "{pid} is listed twice");
    }
    Ok(rows)
}

/// Fails when a process that lived throughout is not in a list; returns how many rows are of others,
/// which started or ended meanwhile.
pub(super) fn complete<T>(
    whose: &str,
    rows: &BTreeMap<u32, T>,
    steady: &BTreeSet<u32>,
) -> Result<usize> {
    let missing: Vec<String> =
        steady.iter().filter(|pid| !rows.contains_key(pid)).map(u32::to_string).collect();
    ensure!(
        missing.is_empty(),
        "{} of {} processes are not among {whose} rows: {}",
        missing.len(),
        steady.len(),
        missing[..missing.len().min(10)].join(", ")
    );
    Ok(rows.len() - steady.len())
}

/// Fails when a process is not told to be its owner's.
pub(super) fn owned(rows: &BTreeMap<u32, String>, owners: &BTreeMap<u32, String>) -> Result<()> {
    for (pid, owner) in owners {
        let told = rows.get(pid).map_or("nobody", String::as_str);
        ensure!(told == owner, "{pid} is {owner}'s, and told to be {told}'s");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{complete, living, owned, parse, throughout};
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn a_pid_that_was_given_again_is_another_process() {
        let before = BTreeMap::from([(1, 5), (2, 6), (3, 7)]);
        let after = BTreeMap::from([(1, 5), (2, 99), (4, 8)]);
        assert_eq!(throughout(&before, &after), BTreeSet::from([1]));
        let own = std::process::id();
        assert!(throughout(&living().unwrap(), &living().unwrap()).contains(&own));
    }

    #[test]
    fn rows_have_a_pid_and_an_owner() {
        let rows = parse(b"  PID COMMAND OWNER\n    1 init    -\n   20 a b c   web\n").unwrap();
        assert_eq!(rows, BTreeMap::from([(1, "-".to_owned()), (20, "web".to_owned())]));
        assert!(parse(b"1 a\n1 b\n").is_err());
        assert!(parse(b"init 1\n").is_err());
    }

    #[test]
    fn a_list_that_leaves_one_out_is_told() {
        let rows = BTreeMap::from([(1, ()), (2, ()), (9, ())]);
        assert_eq!(complete("our", &rows, &BTreeSet::from([1, 2])).unwrap(), 1);
        let why = complete("our", &rows, &BTreeSet::from([1, 2, 3])).unwrap_err().to_string();
        assert_eq!(why, "1 of 3 processes are not among our rows: 3");
    }

    #[test]
    fn a_wrong_owner_is_told() {
        let rows = BTreeMap::from([(1, "web".to_owned())]);
        assert!(owned(&rows, &rows).is_ok());
        let why = owned(&rows, &BTreeMap::from([(1, "db".to_owned())])).unwrap_err().to_string();
        assert_eq!(why, "1 is db's, and told to be web's");
    }
}
