//! What a path stands for besides itself: a namespace that is kept there, a file system that is mounted there or lies on
//! that device or in that image, a directory of a pod's; and a file by its number.

use std::rc::Rc;

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::object::Look;
use whose_kernel::parse;
use whose_kernel::parse::mountinfo::mount_of;
use whose_kernel::worker::exam::Way;
use whose_kernel::{Class, Mode, ReadError};

use super::path::{self, partial};
use super::{Answer, Detail, Status, container, pod};
use crate::index::Index;
use crate::model::gap::what;
use crate::model::{Evidence, Fact, Gap, Membership, Owner, Row, Source};
use crate::state::kubelet;
use crate::storage::binary::numbered::{Numbered, numbered};
use crate::target::inode::Number;
use crate::target::path::HostPath;
use crate::target::{Typed, pod as pod_target};

/// Names of namespaces in nsfs, and in `/proc/PID/ns`.
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// What a path of the host stands for.
enum Stands {
    /// A namespace, by its kind and number.
    Namespace(&'static str, u64),
    /// A file system, or a directory of it.
    FileSystem((u32, u32), BString),
}

/// Answers for what the path stands for, if it is more than a file.
pub(super) fn held(
    index: &mut Index<'_>,
    answer: &mut Answer,
    path: &BString,
    detail: Detail,
) -> bool {
    match stands(index, path.as_ref()) {
        Some(Stands::Namespace(kind, number)) => {
            let found = index.in_namespace(kind, number, what::NAMESPACES);
            let seen = |pid: u32| {
                let file = format!("proc/{pid}/ns/{kind}");
                (Source::Namespace, format!("{pid} is in {kind}:[{number}]"), file)
            };
            let told = found.map(|(pids, gap)| (pids.into_iter().map(|p| (p, seen(p))), gap));
            answer.kind = "namespace";
            share(index, answer, told, detail);
        }
        Some(Stands::FileSystem(device, root)) => {
            let found = index.holding(device, root.as_ref(), what::PATH);
            let told = found.map(|(all, gap)| {
                let seen = all.into_iter().map(|held| {
                    let gone = if held.is_deleted { ", which was removed" } else { "" };
                    let (pid, namespace) = (held.pid, held.namespace);
                    let told =
                        format!("{pid} has it at {}{gone}, in mnt:[{namespace}]", held.point);
                    (pid, (Source::Mount, told, format!("proc/{pid}/mountinfo")))
                });
                (seen, gap)
            });
            answer.kind = "mount";
            share(index, answer, told, detail);
            used(index, answer, (device, root.as_ref()), detail);
        }
        None => return false,
    }
    true
}

/// Adds what containers have mounted over a path where the host has nothing: evidence, and no owners of it.
pub(super) fn hidden(index: &mut Index<'_>, answer: &mut Answer, path: &BString) {
    if index.host().mode() == Mode::Saved {
        return;
    }
    let (all, mut gap) = match index.mounted_over(path.as_ref(), what::PATH) {
        Ok(told) => told,
        Err(e) => (Vec::new(), Some(Gap::from_read(what::PATH, &e))),
    };
    for over in all {
        if index.host().out_of_time() {
            let why = "not all that have something mounted over it were read in time";
            let late = ReadError::new(index.host().shown(b"proc"), Class::TimedOut, why);
            gap = Some(Gap::from_read(what::PATH, &late));
            break;
        }
        let Ok(Some(row)) = index.row(over.pid, Needs::OWNER.and(Needs::DESCRIPTION)) else {
            continue;
        };
        let Some(owner) = row.owner().filter(|owner| owner.kind.contains()) else { continue };
        let (pid, namespace, mount) = (over.pid, over.namespace, over.mount);
        let more = match over.more {
            0 => String::new(),
            more => format!(", and {more} more so"),
        };
        let told = format!(
            "{} has {} {} mounted over it at {}, which the host has not: {pid}, in mnt:[{namespace}]{more}",
            owner.label(),
            mount.fs_type,
            mount.source,
            mount.point
        );
        let file = index.host().shown(format!("proc/{pid}/mountinfo").as_bytes());
        answer.seen.push(Evidence::agreeing(Source::Mount, told, file));
    }
    // Whoever may not be asked has his reasons for what he mounts; that nobody does is not said.
    answer.gaps.extend(gap.filter(|gap| gap.class == Class::TimedOut));
}

/// What evidence is made of.
type Seen = (Source, String, String);

/// Names those who have it: each process, and each owner once.
fn share(
    index: &mut Index<'_>,
    answer: &mut Answer,
    told: Result<(impl Iterator<Item = (u32, Seen)>, Option<Gap>), ReadError>,
    detail: Detail,
) {
    let (all, mut gap) = match told {
        Ok(told) => told,
        Err(e) => {
            *answer = partial(answer.clone(), Gap::from_read(what::PROCESS, &e));
            return;
        }
    };
    let mut owners: Vec<Rc<Owner>> = Vec::new();
    let mut rows = Vec::new();
    for (pid, (source, told, file)) in all {
        if index.host().out_of_time() {
            let late = ReadError::new(
                index.host().shown(b"proc"),
                Class::TimedOut,
                "not all that have it were read in time",
            );
            gap = gap.or_else(|| Some(Gap::from_read(what::PROCESS, &late)));
            break;
        }
        let path = index.host().shown(file.as_bytes());
        answer.seen.push(Evidence::agreeing(source, told, path));
        add(index, (&mut owners, &mut rows), pid, detail);
    }
    answer.owners = Some(owners);
    answer.processes = rows;
    if let Some(gap) = gap {
        *answer = partial(answer.clone(), gap);
    }
}

/// Adds a process and its owner, each once.
fn add(
    index: &mut Index<'_>,
    (owners, rows): (&mut Vec<Rc<Owner>>, &mut Vec<Row>),
    pid: u32,
    detail: Detail,
) {
    if rows.iter().any(|row| row.process.pid == pid) {
        return;
    }
    let Ok(Some(row)) = index.row(pid, detail.needs) else { return };
    let is_new = |owner: &&Rc<Owner>| {
        let same = |o: &Rc<Owner>| {
            (o.kind, o.runtime, o.key(), &o.within)
                == (owner.kind, owner.runtime, owner.key(), &owner.within)
        };
        !owners.iter().any(same)
    };
    owners.extend(row.owner().filter(is_new).map(Rc::clone));
    rows.push(row);
}

/// Names those who use it: by what they are in, run, map or have open there.
fn used(
    index: &mut Index<'_>,
    answer: &mut Answer,
    (device, root): ((u32, u32), &BStr),
    detail: Detail,
) {
    let (uses, gap) = match index.using(device, root, what::FDS) {
        Ok(told) => told,
        Err(e) => (Vec::new(), Some(Gap::from_read(what::PROCESS, &e))),
    };
    let mut owners = answer.owners.take().unwrap_or_default();
    for one in &uses {
        if index.host().out_of_time() {
            break;
        }
        add(index, (&mut owners, &mut answer.processes), one.pid, detail);
    }
    answer.processes.sort_by_key(|row| row.process.pid);
    answer.owners = Some(owners);
    answer.uses = uses;
    if let Some(gap) = gap {
        *answer = partial(answer.clone(), gap);
    }
}

fn stands(index: &Index<'_>, path: &BStr) -> Option<Stands> {
    let host = index.host();
    if host.mode() == Mode::Saved {
        return None;
    }
    let mounts = host.mounts().ok()?;
    if let Some(mount) = mount_of(mounts, path).filter(|mount| mount.point == path) {
        if mount.fs_type != "nsfs" {
            // Everything is in the first of all.
            let is_first = path == "/";
            return (!is_first).then(|| Stands::FileSystem(mount.device, mount.root.clone()));
        }
        let of = |kind: &&'static str| {
            let number = parse::nslink::parse(&mount.root, kind.as_bytes()).ok()?;
            Some(Stands::Namespace(kind, number))
        };
        return NAMESPACES.iter().find_map(of);
    }
    let root = host.root_object().ok()?;
    host.guard(path).ok()?;
    let look = host.lookup(&root, path, Way::Plain).and_then(|object| object.look()).ok()?;
    let device = if is_block(&look) { Some(look.rdev) } else { None };
    let device = device.or_else(|| look.is_file().then(|| index.loop_of(path)).flatten())?;
    Some(Stands::FileSystem(device, "/".into()))
}

fn is_block(look: &Look) -> bool {
    look.mode & 0o170_000 == 0o060_000
}

/// Answers for a directory of a pod's, by its place: the kubelet's, or that of its logs.
pub(super) fn of_kubelet(
    index: &mut Index<'_>,
    typed: &Typed,
    answer: &mut Answer,
    path: &BString,
    detail: Detail,
) -> bool {
    let Some(pod) = kubelet::parse_place(path) else { return false };
    let uid = pod.uid.clone().unwrap_or_default();
    let name = pod_target::Name { uid: pod.uid, container: pod.container, ..Default::default() };
    let resolved = pod::resolve(index, typed, &name, detail.needs);
    let detail = Detail { processes: false, served_by: false, binary: None, ..detail };
    let of = container::answer_of(index, typed, resolved, detail);
    let kept =
        Evidence::agreeing(Source::StateFile, format!("kept for the pod {uid}"), path.clone());
    match (of.status, of.membership) {
        (Status::Found, Fact::Known(membership)) => {
            let mut evidence = vec![kept];
            evidence.extend(membership.evidence);
            answer.membership = Fact::Known(Membership { evidence, ..membership });
        }
        (Status::NotFound, _) => {
            answer.seen.push(kept);
            answer.owners = Some(Vec::new());
        }
        (status, _) => {
            answer.seen.push(kept);
            answer.owners = Some(Vec::new());
            answer.status = status;
            answer.candidates = of.candidates;
            answer.message = of.message;
        }
    }
    answer.gaps.extend(of.gaps);
    true
}

pub(super) fn inode(
    index: &mut Index<'_>,
    typed: &Typed,
    number: Number,
    detail: Detail,
) -> Answer {
    let mut device = number.device;
    let told = numbered(index.host(), device, number.ino);
    if let Ok(told) = &told {
        device = told.device;
    }
    let mut answer = match told {
        Err(gap) => partial(Answer::new(typed, "inode", Status::Partial), gap),
        Ok(Numbered { paths, .. }) if paths.len() > 1 => {
            let mut answer = Answer::new(typed, "inode", Status::Ambiguous);
            answer.message = Some(format!("{} fits {} files", typed.text, paths.len()));
            answer.candidates = paths.into_iter().map(|path| (path, BString::default())).collect();
            return answer;
        }
        Ok(Numbered { mut paths, is_unlinked, .. }) => match paths.pop() {
            Some(path) => path::path(index, typed, &HostPath(path), detail),
            None => {
                let mut answer = Answer::new(typed, "inode", Status::NotFound);
                answer.message = Some(match is_unlinked {
                    true => format!("the file {} has no name any more", typed.text),
                    false => format!("no file {}", typed.text),
                });
                if !is_unlinked {
                    return answer;
                }
                answer
            }
        },
    };
    answer.kind = "inode";
    if detail.processes {
        mapped(index, &mut answer, (device, number.ino), detail);
    }
    answer
}

/// Adds the processes that map it, by the device and number that their tables have: an overlay puts its own there.
fn mapped(
    index: &mut Index<'_>,
    answer: &mut Answer,
    (device, ino): ((u32, u32), u64),
    detail: Detail,
) {
    let (pids, gap) = match index.mapping(device, ino, what::MAPS) {
        Ok(told) => told,
        Err(e) => {
            answer.gaps.push(Gap::from_read(what::MAPS, &e));
            return;
        }
    };
    for pid in pids {
        let Ok(Some(row)) = index.row(pid, detail.needs) else { continue };
        let path = index.host().shown(format!("proc/{pid}/maps").as_bytes());
        let seen = Evidence::agreeing(Source::Mount, format!("{pid} maps it"), path);
        match &mut answer.membership {
            Fact::Known(membership) => membership.evidence.push(seen),
            _ => answer.seen.push(seen),
        }
        answer.processes.push(row);
    }
    answer.gaps.extend(gap);
}
