//! What containers have besides their layers: volumes, logs, removed files.

use std::collections::{BTreeMap, HashSet};

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::{Class, Mode};

use super::super::Index;
use super::super::layers::User;
use super::{Base, DiskPlan, MOST, Planned};
use crate::model::gap::what;
use crate::model::{Engine, Gap, Listed, Occupied, Usage, UsageKind, UsagePart};
use crate::runtime::by_engine;

/// Where the containers of Docker's log driver `local` have theirs, below the directory of each.
const LOCAL_LOGS: &[u8] = b"/local-logs";
const DOCKER: Engine = Engine("docker");

impl Index<'_> {
    /// Adds the volumes of all engines: to the one container that has it, or by itself.
    pub(super) fn plan_volumes(&mut self, plan: &mut DiskPlan, whole: bool) {
        let mut seen = HashSet::new();
        let all: Vec<(usize, Engine)> = self.roots.told().map(|(n, (e, _))| (n, *e)).collect();
        for (root, engine) in all {
            let dir = by_engine(engine).and_then(|runtime| runtime.volumes());
            let (Some(dir), Some((_, state))) = (dir, self.roots.get(root)) else { continue };
            let id = state.root.look(dir.as_bytes()).map(|l| (l.device, l.ino));
            if id.is_ok_and(|id| seen.insert(id)) {
                self.plan_volumes_of(plan, (root, engine), dir, whole);
            }
        }
    }

    fn plan_volumes_of(
        &mut self,
        plan: &mut DiskPlan,
        (root, engine): (usize, Engine),
        dir: &'static str,
        whole: bool,
    ) {
        let Some((_, state)) = self.roots.get(root) else { return };
        let entries = match state.root.list(dir.as_bytes(), MOST) {
            Ok(entries) => entries,
            Err(e) => {
                plan.gaps.push(Gap::from_read(what::VOLUMES, &e));
                return;
            }
        };
        let user = state.user.clone();
        let (users, gaps) = self.volume_users(root, engine, dir);
        let is_known = gaps.is_empty();
        plan.gaps.extend(gaps);
        for name in entries.into_iter().filter(|e| e.is_dir).map(|e| e.name) {
            let none = Vec::new();
            let keys = users.get(&name).unwrap_or(&none);
            let below: BString = [dir.as_bytes(), b"/", &name].concat().into();
            let data: BString = [&below[..], b"/_data"].concat().into();
            let has_data = self.roots.get(root).is_some_and(|(_, s)| s.root.look(&data).is_ok());
            let rel = if has_data { data } else { below };
            let row = match keys.as_slice() {
                [key] => {
                    let user = User::new(engine, key.clone());
                    self.row_for(plan, root, &user, whole)
                }
                _ if !whole => None,
                keys => {
                    let is_unused = keys.is_empty() && is_known;
                    let kind = if is_unused { UsageKind::UnusedVolume } else { UsageKind::Volume };
                    let mut row = Usage::new(kind, engine, name);
                    (row.user, row.owners) = (user.clone(), keys.to_vec());
                    Some(plan.row(row))
                }
            };
            if let Some(row) = row {
                plan.planned.push(self.planned(row, UsagePart::Volume, root, rel));
            }
        }
    }

    /// The containers that have each volume of a root.
    fn volume_users(
        &self,
        root: usize,
        engine: Engine,
        dir: &str,
    ) -> (BTreeMap<BString, Vec<BString>>, Vec<Gap>) {
        let (mut users, mut gaps) = (BTreeMap::<BString, Vec<BString>>::new(), Vec::new());
        let (Some(runtime), Some((_, state))) = (by_engine(engine), self.roots.get(root)) else {
            return (users, gaps);
        };
        let base = [self.disk_path(root, dir.as_bytes()).as_slice(), b"/"].concat();
        let mut ids = Vec::new();
        for listed in [runtime.list(state), runtime.ended(state)] {
            match listed {
                Ok(more) => ids.extend(more),
                Err(e) if e.class == Class::Gone => {}
                Err(e) => gaps.push(Gap::from_read(what::VOLUMES, &e)),
            }
        }
        for id in ids {
            match runtime.mounts(state, BStr::new(&id)) {
                Some(Ok(mounts)) => {
                    let from = mounts.into_iter().filter_map(|m| m.from);
                    let names = from.filter_map(|from| {
                        let name = from.strip_prefix(base.as_slice())?.split_str("/").next()?;
                        Some(BString::from(name))
                    });
                    for name in names {
                        let keys = users.entry(name).or_default();
                        if !keys.contains(&id) {
                            keys.push(id.clone());
                        }
                    }
                }
                Some(Err(e)) if e.class == Class::Gone => {} // removed meanwhile
                Some(Err(e)) => gaps.push(Gap::from_read(what::VOLUMES, &e)),
                None => {}
            }
        }
        (users, gaps)
    }

    /// Adds each container's log, those that were rotated too.
    pub(super) fn plan_logs(&self, plan: &mut DiskPlan) {
        for row in 0..plan.rows.len() {
            let Some(owner) = plan.rows[row].container.as_ref().and_then(Listed::owner) else {
                continue;
            };
            let (engine, id) = (owner.runtime, owner.id.clone());
            let user = plan.rows[row].user.clone();
            if let Some(log) = owner.description().and_then(|d| d.log.clone()) {
                self.plan_log(plan, row, (engine, user.as_ref()), &log);
            }
            if engine == DOCKER && !id.is_empty() {
                let rel: BString = [b"containers/", id.as_slice(), LOCAL_LOGS].concat().into();
                let of = self.roots.told().find(|(_, (of, state))| {
                    *of == engine && state.user == user && state.root.has_dir(&rel)
                });
                if let Some((root, _)) = of {
                    plan.planned.push(self.planned(row, UsagePart::Log, root, rel));
                }
            }
        }
    }

    fn plan_log(
        &self,
        plan: &mut DiskPlan,
        row: usize,
        (engine, user): (Engine, Option<&BString>),
        log: &BString,
    ) {
        let path = BStr::new(log);
        let (base, rel) = match self.beneath_root(engine, user, path) {
            Some((root, rel)) => (Base::Engine(root), BString::from(rel)),
            // A user may say that any file is his log.
            None if user.is_some() || !path.starts_with(b"/") => {
                let why = "a log that is not in its engine's directory is not counted";
                plan.gaps.push(Gap::new(what::DISK, Class::Unsupported, path, why, None));
                return;
            }
            None => (Base::Host, log.clone()),
        };
        let (dir, name) = rel.rsplit_once_str("/").unwrap_or((b"", &rel));
        let above = path.rsplit_once_str("/").map_or(&b""[..], |(dir, _)| dir);
        let root = match base {
            Base::Engine(number) => self.roots.get(number).map(|(_, state)| &state.root),
            _ => Some(self.host.root()),
        };
        let Some(root) = root.filter(|_| self.host.guard(path).is_ok()) else {
            // What stands in the way is said when it is to be counted.
            let (rel, path, part) = (rel.clone(), log.clone(), UsagePart::Log);
            plan.planned.push(Planned { row, part, base, rel, path, is_mount: false });
            return;
        };
        let is_of = |other: &BString| {
            let rest = other.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
        };
        let entries = root.list(dir, MOST).unwrap_or_default();
        for entry in entries.into_iter().filter(|e| !e.is_dir && is_of(&e.name)) {
            let rel = [dir, b"/", &entry.name].concat().into();
            let path = [above, b"/", &entry.name].concat().into();
            let part = UsagePart::Log;
            plan.planned.push(Planned { row, part, base, rel, path, is_mount: false });
        }
    }

    /// Adds the files that were removed and that processes of each container hold open. Each counts once.
    pub(super) fn add_deleted(&self, plan: &mut DiskPlan) {
        if self.host.mode() == Mode::Saved {
            return;
        }
        let mut seen = HashSet::new();
        let (rows, gaps) = (&mut plan.rows, &mut plan.gaps);
        for row in rows {
            let Some(listed) = &row.container else { continue };
            let (mut parts, mut unread) = (Vec::new(), None);
            for pid in &listed.pids {
                if self.host.out_of_time() {
                    gaps.push(self.late().of(what::DISK));
                    return;
                }
                let found = match self.host.process(*pid).and_then(|dir| dir.deleted_files()) {
                    Ok(found) => found,
                    Err(e) if e.class == Class::Gone => continue,
                    Err(e) => {
                        gaps.push(Gap::from_read(what::DISK, &e));
                        unread = Some(e.class);
                        continue;
                    }
                };
                for file in found.into_iter().filter(|file| seen.insert(file.id)) {
                    parts.push(Occupied {
                        part: UsagePart::Deleted,
                        path: file.path,
                        bytes: file.bytes,
                        apparent: file.apparent,
                        inodes: 1,
                        is_complete: true,
                        unread: None,
                    });
                }
            }
            row.parts.extend(parts);
            row.parts.extend(unread.map(|class| Occupied::unread(UsagePart::Deleted, "", class)));
        }
    }
}
