//! Machines of systemd-nspawn without a unit: their cgroup does not tell one from another, and only
//! their supervisors know what they are called.

use bstr::BString;
use whose_kernel::parse;
use whose_kernel::read::cgroup_tree;
use whose_kernel::worker::{Ask, Slow};

use super::Index;
use crate::model::{Evidence, Owner, Process, Source};
use crate::runtime::{REGISTRY, nspawn};

/// Where the first process of a machine is, with systemd in it or without, and its supervisor.
const INITS: [&str; 2] = ["/payload", "/payload/init.scope"];
const SUPERVISORS: &str = "/supervisor";

/// A supervisor and the name that its options give to its machine.
#[derive(Clone, Debug)]
pub(super) struct Supervisor {
    pid: u32,
    name: BString,
}

impl Index<'_> {
    /// Gives the machine in a chain its name, if it is the only one in its cgroup.
    pub(super) fn name_machine(&self, chain: &mut [Owner]) {
        if let Some(owner) = chain.iter_mut().find(|o| nspawn::is_shared(o)) {
            owner.name = self.supervisor().map(|s| s.name.clone());
        }
    }

    /// What shows a machine's name.
    pub(super) fn name_evidence(&self, owner: &Owner) -> Option<Evidence> {
        let supervisor = self.supervisor().filter(|_| nspawn::is_shared(owner))?;
        let path = self.host().shown(format!("proc/{}/cmdline", supervisor.pid).as_bytes());
        let detail = format!("its supervisor {} calls it {}", supervisor.pid, supervisor.name);
        Some(Evidence::agreeing(Source::Ancestry, detail, path))
    }

    fn supervisor(&self) -> Option<&Supervisor> {
        self.supervisor.get_or_init(|| self.only_supervisor()).as_ref()
    }

    /// The supervisor of the machine, if there is one machine. Its child is the first process of a PID
    /// namespace; a machine whose supervisor was killed has nobody who knows its name.
    fn only_supervisor(&self) -> Option<Supervisor> {
        let host = self.host();
        let mut inits: Vec<u32> = Vec::new();
        for hierarchy in self.hierarchies().ok()? {
            for dir in INITS.iter().filter_map(|path| hierarchy.dir(path.as_bytes())) {
                inits.extend(cgroup_tree::members(host, &dir).unwrap_or_default());
            }
        }
        inits.sort_unstable();
        inits.dedup();
        let is_first = |pid: &u32| {
            let status = host.process(*pid).and_then(|p| p.status());
            status.ok().and_then(|s| s.nspid).is_some_and(|pids| pids[1..] == [1])
        };
        inits.retain(is_first);
        let [init] = inits[..] else { return None };
        let pid = host.process(init).and_then(|p| p.stat()).ok()?.ppid;
        let process = host.process(pid).ok()?;
        let stat = process.stat().ok().filter(|s| s.comm == nspawn::SUPERVISOR)?;
        let lines = process.cgroup().ok()?;
        lines.iter().find(|l| l.path == SUPERVISORS)?;
        let ask = Ask { file: Slow::Cmdline, pid, start_ticks: stat.start_ticks };
        let args = parse::cmdline::parse(&host.slow_reads(&[ask]).pop()?.ok()?);
        let name = REGISTRY.iter().find_map(|runtime| runtime.watched(&args))?;
        Some(Supervisor { pid, name })
    }
}

/// Whether the text puts a process into such a machine and its PIDs say that it is in none: anyone who
/// may can move it there.
pub(super) fn is_outside(outermost: &Owner, p: &Process) -> bool {
    nspawn::is_shared(outermost) && p.nspid().is_some_and(|pids| pids.len() == 1)
}
