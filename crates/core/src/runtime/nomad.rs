//! Nomad's own tasks: `{share,reserve}.slice/<allocation>.<task>.scope` on cgroup v2,
//! `nomad[/reserve]/<allocation>.<task>` on v1 (nomad client/lib/cgroupslib). What a client keeps of an allocation
//! is in its data directory: job, group, node, and what became of each task. Tasks that Docker or another engine
//! runs are that engine's.

use std::time::Instant;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Subject};
use super::place::{self, Place};
use super::{FoundRoots, Hints, Matches, Query, Runtime, StateRoot, segment};
use crate::model::gap::what;
use crate::model::{ContainerState, Description, Engine, Gap, Owner, OwnerKind};
use crate::state::nomad::{self as files, Allocation, Client, Task};

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
            Query::IdPrefix(_) | Query::Name(_) => {
                let is_it = |task: &Task| !matches!(query, Query::Name(name) if task.name != name);
                for id in client(root)?.ids()? {
                    if matches!(query, Query::IdPrefix(prefix) if !id.starts_with(prefix)) {
                        continue;
                    }
                    if host.out_of_time() {
                        matches.gaps.push(Gap::from_read(what::CONTAINERS, &late(root)));
                        break;
                    }
                    match own(root, id.as_ref()) {
                        Ok(Some(own)) if tasks(&own).any(is_it) => matches.ids.push(id),
                        Ok(_) => {}
                        // It may be one of Nomad's own, whatever is wrong with it.
                        Err(_) if matches!(query, Query::IdPrefix(_)) => matches.ids.push(id),
                        Err(e) => matches.gaps.push(Gap::from_read(what::DESCRIPTION, &e)),
                    }
                }
            }
            Query::Address(_) | Query::Volume(_) => {}
        }
        Ok(matches)
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        let mut ids = Vec::new();
        for id in client(root)?.ids()? {
            if root.until.is_some_and(|until| Instant::now() >= until) {
                return Err(late(root));
            }
            // What can't be read is in the list all the same: it may be one of Nomad's own.
            let own = own(root, id.as_ref());
            if own.map_or(true, |own| own.is_some_and(|own| tasks(&own).next().is_some())) {
                ids.push(id);
            }
        }
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

/// The client's database, opened once a command.
fn client(root: &StateRoot) -> Result<&Client, ReadError> {
    let client = root.client.get_or_init(|| Client::open(&root.root));
    client.as_ref().map_err(ReadError::clone)
}

/// The allocation of this id.
fn own(root: &StateRoot, id: &BStr) -> Result<Option<Allocation>, ReadError> {
    if segment::is_uuid(id, b'-') { client(root)?.allocation(id) } else { Ok(None) }
}

fn late(root: &StateRoot) -> ReadError {
    let why = "not all allocations were looked through in time";
    ReadError::new(root.root.join(files::FILE), Class::TimedOut, why)
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
    use std::time::{Duration, Instant};

    use bstr::{BStr, BString};
    use whose_kernel::parse::cgroup::parse;
    use whose_kernel::{Class, Host, Options};
    use whose_testkit::bolt::{Bucket, Layout, file};

    use super::Nomad;
    use crate::runtime::{Claim, Hints, Query, Runtime, Subject};

    /// An allocation of this id with a task `t`, as MessagePack.
    fn allocation(id: &str, driver: &str) -> Vec<u8> {
        let text =
            |text: &str| [&[0xd9, u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
        let task = [vec![0x82], text("Name"), text("t"), text("Driver"), text(driver)].concat();
        let group = [vec![0x82], text("Name"), text("g"), text("Tasks"), vec![0x91], task].concat();
        let job = [vec![0x81], text("TaskGroups"), vec![0x91], group].concat();
        let head = [vec![0x83], text("ID"), text(id), text("TaskGroup"), text("g")].concat();
        [vec![0x81], text("Alloc"), head, text("Job"), job].concat()
    }

    /// A database is opened once, however many are asked for, and when the time is over that is said.
    #[test]
    fn many_allocations_are_asked_for_in_time() {
        let id = |n: u32| format!("{n:08}-b9bc-5ef8-89e2-a23fa6bbd7fc");
        let mut all = Bucket::default();
        for n in 0..300 {
            let driver = if n % 2 == 0 { "exec" } else { "docker" };
            all.path(&["allocations", &id(n)]).put("alloc", allocation(&id(n), driver));
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("opt/nomad/data/client")).unwrap();
        std::fs::create_dir(at("proc")).unwrap();
        std::fs::write(at("opt/nomad/data/client/state.db"), file(&all, Layout::default()))
            .unwrap();
        let open = |deadline| {
            let root = Some(dir.path().to_str().unwrap().into());
            Host::open(Options { root, deadline: Some(deadline), ..Options::default() }).unwrap()
        };
        let now = Instant::now();
        for (host, in_time) in [(open(now + Duration::from_secs(600)), true), (open(now), false)] {
            let root = Nomad.roots(&host, Hints::Default).roots.pop().unwrap();
            let find = |query| Nomad.find(&host, &root, query).unwrap();
            let first: BString = id(0).into();
            assert_eq!(find(Query::Id(first.as_ref())).ids, std::slice::from_ref(&first));
            std::fs::rename(at("opt/nomad/data/client"), at("moved")).unwrap();
            let list = Nomad.list(&root).map(|ids| ids.len()).map_err(|e| e.class);
            assert_eq!(list, if in_time { Ok(150) } else { Err(Class::TimedOut) });
            for (query, count) in
                [(Query::IdPrefix(BStr::new("0000012")), 5), (Query::Name(BStr::new("t")), 150)]
            {
                let found = find(query);
                let cut: Vec<Class> = found.gaps.iter().map(|gap| gap.class).collect();
                match in_time {
                    true => assert_eq!((found.ids.len(), cut.len()), (count, 0)),
                    false => assert_eq!((found.ids.len(), cut), (0, vec![Class::TimedOut])),
                }
            }
            std::fs::rename(at("moved"), at("opt/nomad/data/client")).unwrap();
        }
    }

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
