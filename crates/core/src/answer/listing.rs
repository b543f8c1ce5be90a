//! Lists of processes: all of the host, or those of some targets.

use whose_fields::Stage;
use whose_kernel::ReadError;

use super::{Answer, PidsOptions, pids};
use crate::index::Index;
use crate::index::plan::{Plan, Says};
use crate::index::scan::{Listing, Scanned, TakeRow};
use crate::model::Gap;
use crate::model::gap::what;
use crate::target::Typed;

/// Passes on the processes of the targets, or all when there are none: in the plan's order when it has
/// one, else as they come, by PID. Targets that lead nowhere come back as their answers.
///
/// # Errors
/// When /proc itself can't be read.
pub fn list_each(
    index: &mut Index<'_>,
    targets: &[Typed],
    plan: &Plan,
    take: &mut TakeRow<'_>,
) -> Result<(Scanned, Vec<Answer>), ReadError> {
    if targets.is_empty() && plan.sort.is_empty() {
        return Ok((index.scan_each(plan, take)?, Vec::new()));
    }
    let (Listing { rows, gaps, undecided }, problems) = list(index, targets, plan)?;
    let _ = rows.into_iter().try_for_each(take);
    Ok((Scanned { gaps, undecided }, problems))
}

/// Lists the processes of the targets, or all when there are none. Targets that lead nowhere come
/// back as their answers.
///
/// # Errors
/// When /proc itself can't be read.
pub fn list(
    index: &mut Index<'_>,
    targets: &[Typed],
    plan: &Plan,
) -> Result<(Listing, Vec<Answer>), ReadError> {
    if targets.is_empty() {
        return Ok((index.scan(plan)?, Vec::new()));
    }
    let mut listing = Listing::default();
    let mut problems = Vec::new();
    let mut wanted: Vec<u32> = Vec::new();
    for typed in targets {
        let found = pids(index, typed, PidsOptions::default());
        wanted.extend(found.pids);
        if found.answer.exit() != 0 {
            problems.push(found.answer);
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    read_rows(index, &wanted, plan, &mut listing);
    plan.order(&mut listing.rows);
    Ok((listing, problems))
}

/// Reads the processes with these PIDs, and keeps those that the plan asks for.
pub(super) fn read_rows(index: &mut Index<'_>, wanted: &[u32], plan: &Plan, listing: &mut Listing) {
    for pid in wanted {
        match index.row(*pid, plan.needs()) {
            Ok(Some(row)) => {
                let stages = [Stage::Scan, Stage::Owner, Stage::Description];
                let says: Vec<Says> = stages.iter().map(|s| plan.filter(*s, &row)).collect();
                if says.contains(&Says::No) {
                    continue;
                }
                if says.contains(&Says::Undecided) {
                    listing.undecided += 1;
                } else {
                    listing.rows.push(row);
                }
            }
            Ok(None) => {}
            Err(e) => listing.gaps.push(Gap::from_read(what::PROCESS, &e)),
        }
    }
}
