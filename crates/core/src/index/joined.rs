//! Processes that are in a container's namespaces and not in its cgroup: who entered them (nsenter), or
//! was moved.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use bstr::BString;
use whose_kernel::read::cgroup_tree;

use super::entry::Entry;
use super::{Index, lookup};
use crate::model::{Evidence, Owner, Source};

/// Processes of one cgroup that are asked for their namespace.
const MOST_MEMBERS: usize = 2;

/// The containers by their mount namespaces.
pub(super) type ByMounts = HashMap<u64, Vec<Rc<Owner>>>;

impl Index<'_> {
    /// The container whose mount namespace the process has, as a chain, though its cgroup says nothing
    /// of it. Costs a walk of the cgroup tree, once, and a process or two of each container.
    pub(super) fn joined(&mut self, entry: &Entry<'_>) -> Option<(Vec<Rc<Owner>>, Evidence)> {
        let own = entry.mount_namespace()?;
        if self.by_mounts.is_none() {
            self.by_mounts = Some(self.mount_namespaces());
        }
        let chain = self.by_mounts.as_ref()?.get(&own)?.clone();
        let name = chain.last().map(|o| o.label())?;
        let path = self.host().shown(format!("proc/{}/ns/mnt", entry.pid()).as_bytes());
        let detail = format!("in the mount namespace of {name}");
        Some((chain, Evidence::agreeing(Source::Namespace, detail, path)))
    }

    fn mount_namespaces(&mut self) -> ByMounts {
        let host = self.host();
        let hosts_own = self.hosts_mounts();
        let mut found = ByMounts::new();
        // A container is in each hierarchy of v1.
        let mut asked: HashSet<u32> = HashSet::new();
        let hierarchies = self.hierarchies().map(<[_]>::to_vec).unwrap_or_default();
        for hierarchy in hierarchies {
            let walk = cgroup_tree::subtree(host, &hierarchy.point);
            for dir in walk.map(|walk| walk.dirs).unwrap_or_default() {
                if lookup::named_by(&hierarchy, &dir).is_empty() || host.out_of_time() {
                    continue;
                }
                for pid in self.first_members(&dir) {
                    if !asked.insert(pid) {
                        continue;
                    }
                    let Ok(process) = host.process(pid) else { continue };
                    let namespace = process.namespace("mnt").ok().filter(|n| Some(*n) != hosts_own);
                    let Some(namespace) = namespace.filter(|n| !found.contains_key(n)) else {
                        continue;
                    };
                    let Ok(lines) = process.cgroup().map(Rc::new) else { continue };
                    if let Some(chain) = self.container_chain(pid, &lines) {
                        found.insert(namespace, chain);
                    }
                }
            }
        }
        found
    }

    /// The first processes of a cgroup, or of those below it where it has none itself.
    fn first_members(&self, dir: &BString) -> Vec<u32> {
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
}
