//! Nomad's own tasks: `{share,reserve}.slice/<allocation>.<task>.scope` on cgroup v2,
//! `nomad[/reserve]/<allocation>.<task>` on v1 (nomad client/lib/cgroupslib). What a client keeps of an allocation
//! is in its data directory: job, group, node, and what became of each task. Tasks that Docker or another engine
//! runs are that engine's.

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Subject};
use super::place::{self, Place};
use super::{FoundRoots, Hints, Matches, Query, Runtime, StateRoot, segment};
use crate::model::gap::what;
use crate::model::{ContainerState, Description, Engine, Gap, Owner, OwnerKind};
use crate::state::nomad::{self as files, Allocation, Task};

mod roots;

/// See the module.
#[derive(Debug)]
pub(super) struct Nomad;

const ENGINE: Engine = Engine("nomad");
/// Drivers that have another engine run their tasks, which knows them itself.
const OTHERS: [&str; 6] = ["docker", "podman", "containerd-driver", "lxc", "nspawn", "rkt"];
/// Drivers that give a task a root of its own, made of the allocation's files.
const CHROOTS: [&str; 2] = ["exec", "java"];

impl Runtime for Nomad {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let (allocation, task) = task(place)?;
            let mut owner = Owner::new(OwnerKind::Container, ENGINE, allocation);
            owner.name = Some(task.into());
            Some(owner)
        });
        levels.into()
    }

    fn has_state(&self) -> bool {
        true
    }

    fn maps_users(&self) -> bool {
        false
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        roots::roots(host, hints)
    }

    fn find(&self, host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let mut matches = Matches::default();
        match query {
            Query::Id(id) => {
                let own = own(root, id)?.filter(|own| tasks(own).next().is_some());
                matches.ids.extend(own.map(|own| own.id));
            }
            Query::IdPrefix(prefix) => {
                matches.ids = self.list(root)?;
                matches.ids.retain(|id| id.starts_with(prefix));
            }
            Query::Name(name) => {
                for id in files::ids(&root.root)? {
                    if host.out_of_time() {
                        let why = "not all allocations were looked through in time";
                        let path = root.root.join(files::FILE);
                        let late = ReadError::new(path, Class::TimedOut, why);
                        matches.gaps.push(Gap::from_read(what::CONTAINERS, &late));
                        break;
                    }
                    match own(root, id.as_ref()) {
                        Ok(Some(own)) if tasks(&own).any(|t| t.name == name) => {
                            matches.ids.push(id)
                        }
                        Ok(_) => {}
                        Err(e) => matches.gaps.push(Gap::from_read(what::DESCRIPTION, &e)),
                    }
                }
            }
            Query::Address(_) | Query::Volume(_) => {}
        }
        Ok(matches)
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        let mut ids = files::ids(&root.root)?;
        // What can't be read is in the list all the same: it may be one of Nomad's own.
        ids.retain(|id| match own(root, id.as_ref()) {
            Ok(Some(own)) => tasks(&own).next().is_some(),
            Ok(None) => false,
            Err(_) => true,
        });
        Ok(ids)
    }

    fn describe(
        &self,
        root: &StateRoot,
        id: &BStr,
        _: Needs,
    ) -> Option<Result<Description, ReadError>> {
        let gone =
            || ReadError::new(root.root.join(files::FILE), Class::Gone, "no allocation of it");
        Some(own(root, id).and_then(|own| own.map(|own| described(root, &own)).ok_or_else(gone)))
    }

    fn cgroups_of(&self, root: &StateRoot, id: &BStr) -> Vec<BString> {
        let Ok(Some(own)) = own(root, id) else { return Vec::new() };
        let mut paths = Vec::new();
        for task in tasks(&own) {
            let name = format!("{}.{}", own.id, task.name);
            for parent in ["share", "reserve"] {
                paths.push(format!("/nomad.slice/{parent}.slice/{name}.scope").into());
            }
            paths.push(format!("/nomad/{name}").into());
            paths.push(format!("/nomad/reserve/{name}").into());
        }
        paths
    }
}

/// The allocation of this id.
fn own(root: &StateRoot, id: &BStr) -> Result<Option<Allocation>, ReadError> {
    if segment::is_uuid(id, b'-') { files::allocation(&root.root, id) } else { Ok(None) }
}

/// The tasks that Nomad runs itself.
fn tasks(allocation: &Allocation) -> impl Iterator<Item = &Task> {
    allocation.tasks.iter().filter(|task| !OTHERS.iter().any(|other| task.driver == *other))
}

/// What is said of an allocation; of a task only where it has one, since both have the same id.
fn described(root: &StateRoot, own: &Allocation) -> Description {
    let only = tasks(own).next().filter(|_| tasks(own).count() == 1);
    let words: Vec<&[u8]> =
        tasks(own).filter_map(|t| t.state.as_ref()).map(|s| s.word.as_bytes()).collect();
    let (word, state) = if words.contains(&&b"running"[..]) {
        (Some("running"), Some(ContainerState::Running))
    } else if words.contains(&&b"pending"[..]) {
        (Some("pending"), Some(ContainerState::Created))
    } else if words.contains(&&b"dead"[..]) {
        (Some("dead"), Some(ContainerState::Exited))
    } else {
        (None, None)
    };
    let files = |task: &Task| {
        let dir = [b"alloc/", own.id.as_slice(), b"/", &task.name].concat();
        let has_root = CHROOTS.iter().any(|driver| task.driver == *driver);
        let plain = segment::chosen(&task.name).is_some();
        (has_root && plain && root.root.has_dir(&dir)).then(|| root.root.join(&dir))
    };
    Description {
        name: only.map(|task| task.name.clone()),
        image: only.and_then(|task| task.image.clone()),
        labels: labels(own, only),
        engine_state: word,
        believed: state,
        created: own.created,
        started: only.and_then(|task| task.state.as_ref()?.started),
        rootfs: only.and_then(files),
        path: root.root.join(files::FILE),
        ..Description::default()
    }
}

/// The labels that Nomad has Docker give to a task's container (nomad drivers/docker/driver.go), of those that its
/// own state has.
fn labels(own: &Allocation, only: Option<&Task>) -> Vec<(BString, BString)> {
    let task = only.map(|task| &task.name);
    let all = [
        ("alloc_id", Some(&own.id)),
        ("job_id", Some(&own.job.0)),
        ("job_name", Some(&own.job.1)),
        ("namespace", Some(&own.namespace)),
        ("node_id", Some(&own.node.0)),
        ("node_name", Some(&own.node.1)),
        ("parent_job_id", Some(&own.parent_job)),
        ("task_group_name", Some(&own.group)),
        ("task_name", task),
    ];
    let said = all.into_iter().filter_map(|(key, value)| Some((key, value?)));
    said.filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (format!("com.hashicorp.nomad.{key}").into(), value.clone()))
        .collect()
}

fn task(place: Place<'_>) -> Option<(&[u8], &[u8])> {
    let text = match place.parent() {
        b"share.slice" | b"reserve.slice" => place.text().strip_suffix(b".scope")?,
        b"nomad" => place.text(),
        b"reserve" if place.grandparent() == b"nomad" => place.text(),
        _ => return None,
    };
    let (allocation, task) = text.split_at_checked(36)?;
    let task = task.strip_prefix(b".").and_then(segment::chosen)?;
    segment::is_uuid(allocation, b'-').then_some((allocation, task))
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use whose_kernel::parse::cgroup::parse;

    use super::Nomad;
    use crate::runtime::{Claim, Runtime, Subject};

    #[test]
    fn only_where_nomad_puts_them() {
        let task = "1516e0f0-b9bc-5ef8-89e2-a23fa6bbd7fc.redis";
        let name = |path: String| {
            let lines = parse(format!("5:cpuset:{path}\n").as_bytes()).unwrap();
            let comm = BStr::new("");
            let subject = Subject { lines: &lines, comm, args: None, uid: None, nspid: None };
            match Nomad.claim(&subject) {
                Claim::Mine(mine) => mine.levels[0].owner.name.as_ref().map(ToString::to_string),
                _ => None,
            }
        };
        let redis = Some("redis".to_owned());
        assert_eq!(name(format!("/nomad/reserve/{task}")), redis);
        assert_eq!(name(format!("/x.slice/reserve.slice/{task}.scope")), redis);
        assert_eq!(name(format!("/system.slice/{task}.scope")), None);
        assert_eq!(name(format!("/reserve/{task}")), None);
        assert_eq!(name(format!("/nomad/{}", &task[..37])), None);
        assert_eq!(name(format!("/nomad/{}", &task[1..])), None);
    }
}
