//! Processes that are in a container's namespaces and not in its cgroup: who entered them (nsenter), or
//! was moved.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use bstr::BString;
use whose_kernel::ReadError;
use whose_kernel::read::cgroup_tree::{self, Hierarchy, Walk};

use super::entry::Entry;
use super::{Index, lookup};
use crate::model::{Evidence, Owner, Source};

/// Processes of one cgroup that are asked for their namespace.
const MOST_MEMBERS: usize = 2;

/// The containers by their mount namespaces, as far as they were asked.
#[derive(Debug, Default)]
pub(super) struct ByMounts {
    found: HashMap<u64, Vec<Rc<Owner>>>,
    /// Processes that were asked: a container is in each hierarchy of v1.
    asked: HashSet<u32>,
    /// Cgroups that were not looked at so far.
    left: VecDeque<(Rc<Hierarchy>, BString)>,
}

impl Index<'_> {
    /// The container whose mount namespace the process has, as a chain, though its cgroup says nothing
    /// of it. Costs a walk of the cgroup tree, once, and a process or two of each container until it is
    /// found.
    pub(super) fn joined(&mut self, entry: &Entry<'_>) -> Option<(Vec<Rc<Owner>>, Evidence)> {
        let own = entry.mount_namespace().filter(|own| Some(*own) != self.hosts_mounts())?;
        if self.by_mounts.is_none() {
            let (left, _) = self.all_cgroups();
            self.by_mounts = Some(ByMounts { left, ..ByMounts::default() });
        }
        let chain = loop {
            let known = self.by_mounts.as_mut()?;
            if let Some(chain) = known.found.get(&own) {
                break chain.clone();
            }
            if self.host.out_of_time() {
                return None;
            }
            let (hierarchy, dir) = known.left.pop_front()?;
            self.ask_members(&hierarchy, &dir);
        };
        let name = chain.last().map(|o| o.label())?;
        let path = self.host().shown(format!("proc/{}/ns/mnt", entry.pid()).as_bytes());
        let detail = format!("in the mount namespace of {name}");
        Some((chain, Evidence::agreeing(Source::Namespace, detail, path)))
    }

    /// Every cgroup of every hierarchy; with the reason why there may be more.
    pub(super) fn all_cgroups(&self) -> (VecDeque<(Rc<Hierarchy>, BString)>, Option<ReadError>) {
        let mut all = VecDeque::new();
        let hierarchies = match self.hierarchies() {
            Ok(hierarchies) => hierarchies,
            Err(e) => return (all, Some(e)),
        };
        let mut problem = None;
        for hierarchy in hierarchies {
            let walk = cgroup_tree::subtree(self.host, &hierarchy.point);
            let walk = walk.unwrap_or_else(|e| Walk { dirs: Vec::new(), problem: Some(e) });
            problem = problem.or(walk.problem);
            let hierarchy = Rc::new(hierarchy.clone());
            all.extend(walk.dirs.into_iter().map(|dir| (Rc::clone(&hierarchy), dir)));
        }
        (all, problem)
    }

    /// Learns the mount namespaces of a container, if the cgroup is called as one's.
    fn ask_members(&mut self, hierarchy: &Hierarchy, dir: &BString) {
        if lookup::named_by(hierarchy, dir).is_empty() {
            return;
        }
        for pid in self.first_members(dir) {
            let Some(known) = self.by_mounts.as_mut() else { return };
            if !known.asked.insert(pid) {
                continue;
            }
            let Ok(process) = self.host.process(pid) else { continue };
            let Ok(namespace) = process.namespace("mnt") else { continue };
            let Ok(lines) = process.cgroup().map(Rc::new) else { continue };
            let Some(mut chain) = self.container_chain(pid, &lines) else { continue };
            let Ok(stat) = process.stat() else { continue };
            self.add_levels(&stat, namespace, &mut chain);
            if let Some(known) = &mut self.by_mounts {
                known.found.entry(namespace).or_insert(chain);
            }
        }
    }

    /// The first processes of a cgroup, or of those below it where it has none itself.
    pub(super) fn first_members(&self, dir: &BString) -> Vec<u32> {
        let own = cgroup_tree::members(self.host(), dir).unwrap_or_default();
        let below = || self.members_below(dir).map(|(_, pids)| pids).unwrap_or_default();
        let pids = if own.is_empty() { below() } else { own };
        pids.into_iter().take(MOST_MEMBERS).collect()
    }
}

#[cfg(test)]
mod tests {
    use whose_testkit::fixture::{CgroupLayout, DockerContainer, FixtureHost};

    use crate::index::counted::reads;

    #[test]
    fn each_member_is_asked_once() {
        let fixture = FixtureHost::with_layout(CgroupLayout::V1);
        fixture.boot();
        let web = DockerContainer::named("web").running(700);
        fixture.docker_container(&web);
        fixture.cgroup_dirs(&format!("/docker/{}", web.id()), &[700]);
        fixture.process(700).in_docker(web.id()).write();
        fixture.process(800).in_docker(web.id()).in_cgroup("/").write();
        let reads = reads(&fixture, &[800]);
        assert_eq!(reads[&(700, "ns/mnt".to_owned())], 1, "{reads:?}");
    }

    /// What is found ends the search: of two containers one is asked for the process of one, and both for
    /// the process of the other.
    #[test]
    fn nobody_is_asked_once_it_is_found() {
        let fixture = FixtureHost::new();
        fixture.boot();
        for (pid, name) in [(700, "web"), (701, "db")] {
            let container = DockerContainer::named(name).running(pid);
            fixture.docker_container(&container);
            let scope = format!("/system.slice/docker-{}.scope", container.id());
            fixture.cgroup_dirs(&scope, &[pid]);
            fixture.process(pid).in_docker(container.id()).in_cgroup(&scope).write();
            fixture.process(pid + 100).in_docker(container.id()).in_cgroup("/").write();
        }
        let asked = |target: u32| {
            let reads = reads(&fixture, &[target]);
            [700, 701].map(|pid| reads.get(&(pid, "ns/mnt".to_owned())).copied().unwrap_or(0))
        };
        let (web, db) = (asked(800), asked(801));
        assert_eq!((web[0], db[1]), (1, 1), "{web:?} {db:?}");
        assert_eq!(web[1] + db[0], 1, "{web:?} {db:?}");
    }
}
