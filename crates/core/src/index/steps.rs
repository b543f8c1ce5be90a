//! Steps of image builds that no cgroup names: told by who is above the process, and by the files of the
//! step that it has mounted.

use whose_fields::Needs;
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, parse};

use super::Index;
use super::entry::Entry;
use crate::model::gap::what;
use crate::model::{ContainerState, Description, Evidence, Gap, Owner, Process, Source};
use crate::runtime::{Hints, REGISTRY, Runtime};

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
        let (at, _) = self.runner_of(runtime, p.pid)?;
        let path = self.host.shown(format!("proc/{at}/cmdline").as_bytes());
        let detail = format!("below {at}, which runs steps of {}", runtime.engine().0);
        Some((step, Evidence::agreeing(Source::Ancestry, detail, path)))
    }

    /// The process that runs the step which this one is of, and its uid.
    fn runner_of(&self, runtime: &dyn Runtime, pid: u32) -> Option<(u32, u32)> {
        let host = self.host;
        // With a namespace of its own, what runs the step may be the process itself.
        let mut at = pid;
        for _ in 0..MOST_ANCESTORS {
            let stat = host.process(at).and_then(|dir| dir.stat()).ok()?;
            let ask = Ask { file: Slow::Cmdline, pid: at, start_ticks: stat.start_ticks };
            let args = host.slow_reads(&[ask]).pop().and_then(Result::ok).unwrap_or_default();
            if runtime.runs_steps(&parse::cmdline::parse(&args)) {
                let status = host.process(at).and_then(|dir| dir.status()).ok()?;
                return Some((at, status.euid));
            }
            at = stat.ppid;
            if at <= 1 {
                return None;
            }
        }
        None
    }

    /// What a step works in: the working container whose layer is the root of its process, by the store of
    /// whose it is that runs the step. He can mount what he likes, but says that of his own alone.
    pub(super) fn step_description(
        &mut self,
        runtime: &dyn Runtime,
        pid: u32,
    ) -> Option<Result<Description, Gap>> {
        let host = self.host;
        let (_, uid) = self.runner_of(runtime, pid)?;
        let mounts = match host.process(pid).and_then(|dir| dir.mountinfo()) {
            Ok(mounts) => mounts,
            Err(e) if e.class == Class::Gone => return None,
            Err(e) => return Some(Err(Gap::from_read(what::DESCRIPTION, &e))),
        };
        let user = (uid != 0).then(|| self.name_of_user(uid));
        let found = runtime.roots(host, Hints::Mounts(&mounts));
        for root in found.roots.iter().filter(|root| root.user == user) {
            let id = match runtime.works_in(root, &mounts) {
                Ok(Some(id)) => id,
                Ok(None) => continue,
                Err(e) => return Some(Err(Gap::from_read(what::DESCRIPTION, &e))),
            };
            match runtime.describe(root, id.as_ref(), Needs::NONE)? {
                Ok(told) => {
                    // When the step began it does not say; while there is a process it runs.
                    let believed = Some(ContainerState::Running);
                    return Some(Ok(Description { created: None, believed, ..told }));
                }
                Err(e) if e.class == Class::Gone => {}
                Err(e) => return Some(Err(Gap::from_read(what::DESCRIPTION, &e))),
            }
        }
        None
    }
}
