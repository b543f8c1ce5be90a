//! Steps of image builds that no cgroup names: told by who is above the process, and by the files of the
//! step that it has mounted.

use whose_kernel::parse;
use whose_kernel::worker::{Ask, Slow};

use super::Index;
use super::entry::Entry;
use crate::model::{Evidence, Owner, Process, Source};
use crate::runtime::REGISTRY;

/// Ancestors looked at for the one that runs the step.
const MOST_ANCESTORS: usize = 32;

impl Index<'_> {
    /// The build step that a process is of. Whoever has namespaces of his own can mount the like and name
    /// himself so: it says something of himself alone.
    pub(super) fn build_step(
        &mut self,
        entry: &Entry<'_>,
        p: &Process,
    ) -> Option<(Owner, Evidence)> {
        let mounts = entry.mounts().ok()?;
        let (runtime, step) =
            REGISTRY.iter().find_map(|runtime| Some((*runtime, runtime.step_in(mounts)?)))?;
        let host = self.host;
        // With a namespace of its own, what runs the step may be the process itself.
        let mut at = p.pid;
        for _ in 0..MOST_ANCESTORS {
            let stat = host.process(at).and_then(|dir| dir.stat()).ok()?;
            let ask = Ask { file: Slow::Cmdline, pid: at, start_ticks: stat.start_ticks };
            let args = host.slow_reads(&[ask]).pop().and_then(Result::ok).unwrap_or_default();
            if runtime.runs_steps(&parse::cmdline::parse(&args)) {
                let path = host.shown(format!("proc/{at}/cmdline").as_bytes());
                let detail = format!("below {at}, which runs steps of {}", runtime.engine().0);
                return Some((step, Evidence::agreeing(Source::Ancestry, detail, path)));
            }
            at = stat.ppid;
            if at <= 1 {
                return None;
            }
        }
        None
    }
}
