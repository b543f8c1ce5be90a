//! What takes room on the host's disks.

use whose_fields::Needs;
use whose_kernel::ReadError;
use whose_kernel::usage::Progress;

use super::{Answer, containers};
use crate::index::Index;
use crate::index::disk::DiskUsage;
use crate::target::Typed;

/// Counts what containers and engines have on disks; with targets, what those containers alone have. Targets
/// that lead nowhere come back as their answers.
///
/// # Errors
/// When /proc itself can't be read.
pub fn disk(
    index: &mut Index<'_>,
    targets: &[Typed],
    needs: Needs,
    go_on: &mut dyn FnMut(Progress) -> bool,
) -> Result<(DiskUsage, Vec<Answer>), ReadError> {
    let needs = needs.and(Needs::DESCRIBED);
    let (listing, problems) = containers(index, targets, true, needs)?;
    let plan = index.disk_plan(listing, targets.is_empty());
    Ok((index.count_disk(plan, go_on), problems))
}
