//! Users' own engines: found by what runs of them, never by walking through homes.

use std::rc::Rc;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::read::cgroup_tree;
use whose_kernel::read::process::ProcDir;
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, Host, ReadError, parse, scan};

use super::Index;
use crate::model::gap::what;
use crate::model::{Description, Engine, Gap, Process, Role, Row};
use crate::runtime::hints::variable_of;
use crate::runtime::{Hints, Monitor, REGISTRY, Runtime, StateRoot, Subject, User, by_engine};

/// Users that a directory of running users' names may list.
const MOST_USERS: usize = 100_000;

/// Daemons by their names.
const DAEMONS: [&[u8]; 2] = [b"dockerd", b"containerd"];
/// CRI-O's, which no user and no container's own root has arguments of.
const CRIO: &[u8] = b"crio";

/// The monitor of each of Podman's containers.
pub(super) const CONMON: &[u8] = b"conmon";
const PODMAN: Engine = Engine("podman");
/// Roots that one user's monitors may lead to.
const MOST_MONITORED: usize = 64;

/// How the names of machines' monitors begin.
pub(super) fn monitors_of_machines() -> Vec<&'static [u8]> {
    let monitors = REGISTRY.iter().filter(|r| r.monitor_is_enough()).filter_map(|r| r.monitor());
    monitors.map(str::as_bytes).collect()
}

/// Users who have something running by which an engine of theirs can be told: a user manager's
/// cgroup, or a PID file in their runtime directory.
pub(super) fn live_users(host: &Host) -> Vec<User> {
    let mut uids: Vec<u32> = Vec::new();
    for hierarchy in cgroup_tree::hierarchies(host).unwrap_or_default() {
        let slices = [hierarchy.point.as_slice(), b"/user.slice"].concat();
        for slice in host.root().list(&slices, MOST_USERS).unwrap_or_default() {
            let uid = slice.name.strip_prefix(b"user-").and_then(|n| n.strip_suffix(b".slice"));
            let Some(uid) = uid.and_then(parse::decimal32) else { continue };
            let manager = format!("/{}/user@{uid}.service", slice.name);
            if host.root().has_dir(&[slices.as_slice(), manager.as_bytes()].concat()) {
                uids.push(uid);
            }
        }
    }
    for entry in host.root().list(b"run/user", MOST_USERS).unwrap_or_default() {
        let Some(uid) = parse::decimal32(&entry.name) else { continue };
        let dir = host.owned_dir(BStr::new("/run/user"), entry.name.as_ref(), uid);
        let dirs = [&b"containerd"[..], b"libpod", b".flatpak"];
        if dir.is_ok_and(|d| d.look(b"docker.pid").is_ok() || dirs.iter().any(|n| d.has_dir(n))) {
            uids.push(uid);
        }
    }
    uids.sort_unstable();
    uids.dedup();
    uids.retain(|uid| *uid != 0);
    uids.into_iter().filter_map(|uid| user(host, uid, Vec::new())).collect()
}

pub(super) fn user(host: &Host, uid: u32, args: Vec<BString>) -> Option<User> {
    Some(User { uid, home: host.home_of(uid)?, args })
}

/// The user whose manager runs a cgroup: the uid in `user@UID.service`.
#[must_use]
pub(super) fn manager_of(cgroup: &[u8]) -> Option<u32> {
    let uid = |segment: &[u8]| {
        parse::decimal32(segment.strip_prefix(b"user@")?.strip_suffix(b".service")?)
    };
    cgroup.split(|b| *b == b'/').find_map(uid)
}

impl Index<'_> {
    /// Whether a process of this name may be the monitor of a machine.
    fn is_machines(&self, comm: &[u8]) -> bool {
        self.monitors_of_machines.iter().any(|monitor| comm.starts_with(monitor))
    }

    /// Whether a process of this name tells where an engine's state may be.
    pub(super) fn may_be_an_engine(&self, comm: &[u8]) -> bool {
        DAEMONS.contains(&comm)
            || comm == CRIO
            || comm == CONMON
            || comm == b"rootlesskit"
            || comm.starts_with(b"containerd-shim")
            || self.is_machines(comm)
    }

    /// Learns of a user's own engines, at his home or where the arguments of a daemon of his say.
    pub(super) fn roots_of_user(&mut self, uid: u32, args: Vec<BString>) {
        let daemon = !args.is_empty();
        if uid == 0 || !self.users_seen.insert((uid, daemon)) {
            return;
        }
        let host = self.host;
        let Some(user) = user(host, uid, args) else { return };
        for runtime in REGISTRY {
            self.add_users_roots(&user, *runtime);
        }
    }

    /// Learns of engines from a process that a scan came by: the host's own, a user's, or one in a
    /// container. Any process may call itself so; that only tells where to look. The host's own has
    /// to be recognised as that.
    pub(super) fn notice_engine(&mut self, row: &Row) {
        let p = &row.process;
        let Some(owner) = row.owner() else { return };
        if self.is_machines(p.comm()) {
            if p.role.known() == Some(&Role::Plumbing) && !owner.kind.contains() {
                self.notice_machines(p.pid, p.start_ticks(), p.comm());
            }
        } else if self.may_be_an_engine(p.comm()) {
            let uid = p.uid().filter(|uid| *uid != 0);
            let hosts_own = p.role.known() == Some(&Role::Plumbing) && !owner.kind.contains();
            match (DAEMONS.contains(&p.comm().as_bytes()), uid) {
                (false, _) if p.comm() == CRIO => {
                    if hosts_own {
                        self.roots_from_daemon(p.pid, p.start_ticks());
                    } else if owner.kind.has_root() {
                        self.roots_inside(owner, p.pid, Vec::new());
                    }
                    return;
                }
                (true, _) if hosts_own => self.roots_from_daemon(p.pid, p.start_ticks()),
                (true, _) if owner.kind.has_root() => {
                    return self.roots_inside(owner, p.pid, Vec::new());
                }
                (true, Some(uid)) => {
                    let (pid, start_ticks) = p.reader();
                    let ask = Ask { file: Slow::Cmdline, pid, start_ticks };
                    let bytes = self.host.slow_reads(&[ask]).pop().and_then(Result::ok);
                    let args = parse::cmdline::parse(&bytes.unwrap_or_default());
                    return self.roots_of_user(uid, args);
                }
                (false, _) if p.comm() == CONMON && owner.kind.has_root() => {
                    return self.engines_around(owner, p.pid);
                }
                (false, Some(uid)) if p.comm() == CONMON => {
                    // Of several moved ones the mounts and monitors of their containers tell.
                    if self.addresses.insert(format!("a monitor of {uid}").into()) {
                        self.users_monitor(uid, p.pid);
                    }
                }
                (false, Some(uid)) => self.roots_of_user(uid, Vec::new()),
                (false, None) if hosts_own => self.notice_monitor(p),
                (_, None) => {}
            }
        }
        if owner.kind.contains() {
            return;
        }
        if let Some(uid) = p.cgroup_path.known().and_then(|path| manager_of(path.as_slice())) {
            self.roots_of_user(uid, Vec::new());
        }
    }

    /// Learns of an engine by a monitor of its, if the monitor's arguments were read.
    fn notice_monitor(&mut self, p: &Process) {
        let Some(args) = p.args.known() else { return };
        // What all monitors of one engine have in common.
        let address = ["address", "exit-dir"].iter().find_map(|flag| Subject::flag(args, flag));
        let Some(address) = address else { return };
        if !self.addresses.insert(address) {
            return;
        }
        let cwd = self.host.process(p.pid).and_then(|dir| dir.link_text("cwd")).ok();
        let monitor = Monitor { args: args.clone(), cwd };
        for runtime in REGISTRY.iter().filter(|r| r.watched(args).is_some()) {
            self.root_of_monitor(*runtime, &monitor);
        }
    }

    /// Learns of a directory of machines by the monitor of one in it.
    fn notice_machines(&mut self, pid: u32, start_ticks: u64, comm: &[u8]) {
        let host = self.host;
        let Ok(dir) = host.process(pid) else { return };
        let Ok(status) = dir.status() else { return };
        let ask = Ask { file: Slow::Cmdline, pid, start_ticks };
        let Some(Ok(bytes)) = self.host.slow_reads(&[ask]).pop() else { return };
        let monitor = Monitor { args: parse::cmdline::parse(&bytes), cwd: None };
        let named = |m: &'static str| comm.starts_with(m.as_bytes());
        let is_its = |r: &&&dyn Runtime| r.monitor_is_enough() && r.monitor().is_some_and(named);
        for runtime in REGISTRY.iter().filter(is_its) {
            if !self.is_proven(&dir, &status, *runtime) {
                continue;
            }
            if runtime.watched(&monitor.args).is_some() {
                self.root_of_monitor(*runtime, &monitor);
            } else if let Some(variable) = runtime.moved_by()
                && let Some(moved) = variable_of(host, &ask, variable)
            {
                let found = runtime.roots(host, Hints::Moved(moved.as_ref()));
                self.roots.add(*runtime, found);
            }
        }
    }

    /// Learns of a user's own engines, at his home and where this monitor of his says that it works.
    pub(super) fn users_monitor(&mut self, uid: u32, pid: u32) {
        self.roots_of_user(uid, Vec::new());
        if !self.addresses.insert(format!("the monitor {pid} of {uid}").into()) {
            return;
        }
        let Ok(stat) = self.host.process(pid).and_then(|p| p.stat()) else { return };
        self.roots_from_monitor(uid, (pid, stat.start_ticks));
    }

    /// Learns of a user's own engines where a monitor of his says that it works. Each root is held open,
    /// and he may start as many monitors as he likes: the rest of too many roots is a gap.
    fn roots_from_monitor(&mut self, uid: u32, (pid, start_ticks): (u32, u64)) {
        let host = self.host;
        let known = self.users_monitored.get(&uid).copied().unwrap_or_default();
        if known >= MOST_MONITORED {
            if known == MOST_MONITORED {
                let name = self.name_of_user(uid);
                let why = format!("monitors of {name} name more than {MOST_MONITORED} directories");
                let path = host.shown(format!("proc/{pid}/cmdline").as_bytes());
                let gap = Gap::new(what::CONTAINERS, Class::Malformed, path, why, None);
                self.users_gaps.push((uid, PODMAN, gap.clone()));
                self.roots.gaps.push((PODMAN, gap));
                self.users_monitored.insert(uid, known + 1);
            }
            return;
        }
        let ask = Ask { file: Slow::Cmdline, pid, start_ticks };
        let bytes = host.slow_reads(&[ask]).pop().and_then(Result::ok).unwrap_or_default();
        let Some(user) = user(host, uid, parse::cmdline::parse(&bytes)) else { return };
        let before = self.roots.known.len();
        for runtime in REGISTRY.iter().filter(|r| r.watched(&user.args).is_some()) {
            self.add_users_roots(&user, *runtime);
        }
        self.users_monitored.insert(uid, known + self.roots.known.len() - before);
    }

    /// The uid of a user by name, or the number that stands for one without a name.
    pub(super) fn uid_named(&self, user: &BStr) -> Option<u32> {
        let number = || parse::decimal32(user).filter(|uid| self.host.user_name(*uid).is_none());
        self.host.uid_of(user).or_else(number)
    }

    /// Learns of a user's own engines, and keeps what stood in the way.
    pub(super) fn add_users_roots(&mut self, user: &User, runtime: &dyn Runtime) {
        let found = runtime.roots(self.host, Hints::User(user));
        let of = |gap: &Gap| (user.uid, runtime.engine(), gap.clone());
        self.users_gaps.extend(found.gaps.iter().map(of));
        self.add_roots(runtime, found);
    }

    /// What stood in the way of looking at a user's own engines, as far as they were looked for.
    pub(super) fn gaps_of_user(&self, uid: u32, engine: Option<Engine>) -> Vec<Gap> {
        let his =
            |(of, e, _): &&(u32, Engine, Gap)| *of == uid && engine.is_none_or(|asked| asked == *e);
        self.users_gaps.iter().filter(his).map(|(.., gap)| gap.clone()).collect()
    }

    /// Learns of users' engines by all monitors of theirs that run: a graph root that was moved is shown by
    /// nothing else where there are no cgroups. Costs a read a process. False once that was done.
    pub(super) fn roots_from_monitors(&mut self) -> bool {
        let host = self.host;
        if !self.addresses.insert("all monitors".into()) {
            return false;
        }
        let mut monitors: Vec<(u32, u64, u32)> = Vec::new();
        let mut inside: Vec<u32> = Vec::new();
        let mut makers: Vec<u32> = Vec::new();
        let of_users = |pid: u32, dir: Result<ProcDir<'_>, ReadError>| {
            let Ok(dir) = dir else { return };
            let Ok(stat) = dir.stat() else { return };
            if super::instances::makes_instances(&stat.comm) {
                // Setuid ones are his who started them.
                makers.extend(dir.status().map(|status| status.ruid));
            }
            if stat.comm != CONMON {
                return;
            }
            let Ok(status) = dir.status() else { return };
            let uid = status.euid;
            monitors.extend((uid != 0).then_some((pid, stat.start_ticks, uid)));
            inside.extend(status.nspid.is_some_and(|pids| pids.len() > 1).then_some(pid));
        };
        let mut of_users = of_users;
        if scan::each_process(host, &mut of_users).is_err() {
            return false;
        }
        makers.sort_unstable();
        makers.dedup();
        for uid in makers {
            self.learn_instances(uid);
        }
        for (pid, start_ticks, uid) in monitors {
            if host.out_of_time() {
                return false;
            }
            self.roots_from_monitor(uid, (pid, start_ticks));
        }
        for pid in inside {
            if host.out_of_time() {
                return false;
            }
            self.roots_around_monitor(pid);
        }
        true
    }

    /// Learns of the engine in a container whose monitor is there.
    fn roots_around_monitor(&mut self, pid: u32) {
        let needs = Needs::STAT.and(Needs::STATUS).and(Needs::OWNER);
        let row = self.row(pid, needs).ok().flatten();
        let owner = row.as_ref().and_then(Row::owner).filter(|owner| owner.kind.has_root());
        if let Some(owner) = owner.map(Rc::clone) {
            self.engines_around(&owner, pid);
        }
    }

    pub(super) fn name_of_user(&self, uid: u32) -> BString {
        let host = self.host;
        host.user_name(uid).map_or_else(|| uid.to_string().into(), BString::from)
    }

    /// What the user's own engine says of a container of his; never what another's says, since he can
    /// name his cgroups and processes as he likes.
    pub(super) fn users_description(
        &mut self,
        engine: Engine,
        id: &BStr,
        uid: u32,
        (hint, needs): (Option<u32>, Needs),
    ) -> Option<Result<Description, Gap>> {
        let runtime = by_engine(engine)?;
        let name = self.name_of_user(uid);
        self.roots_of_user(uid, Vec::new());
        let mut answer = self.ask_user(runtime, id, (uid, &name), needs)?;
        if let (Err(_), Some(pid)) = (&answer, hint) {
            self.learn_from_mounts(runtime, pid);
            let parent = self.host.process(pid).and_then(|p| p.stat()).ok().map(|s| s.ppid);
            let above = parent.and_then(|ppid| self.watcher_above(ppid));
            if let Some((_, _, _, at)) = above.filter(|(_, _, by, _)| *by == uid) {
                self.users_monitor(uid, at);
            }
            answer = self.ask_user(runtime, id, (uid, &name), needs)?;
        }
        Some(answer)
    }

    fn ask_user(
        &self,
        runtime: &dyn Runtime,
        id: &BStr,
        (uid, user): (u32, &BString),
        needs: Needs,
    ) -> Option<Result<Description, Gap>> {
        let mut problem = None;
        let is_his = |r: &&StateRoot| r.user.as_ref() == Some(user);
        for root in self.roots_of(runtime.engine()).filter(is_his) {
            match runtime.describe(root, id, needs)? {
                Ok(description) => return Some(Ok(description)),
                Err(e) if e.class == Class::Gone => {}
                Err(e) => problem = Some(Gap::from_read(what::DESCRIPTION, &e)),
            }
        }
        let engine = runtime.engine();
        let told = || {
            let his = self.gaps_of_user(uid, Some(engine)).into_iter().next();
            his.map(|gap| gap.of(what::DESCRIPTION))
        };
        let unknown = || {
            let why = format!("no {} state of {user} here knows it", engine.0);
            Gap::new(what::DESCRIPTION, Class::Gone, self.host.shown(b""), why, None)
        };
        // What may keep no state of it has no answer rather than a gap.
        let may_have_none = runtime.monitor().is_none();
        match problem.or_else(told) {
            None if may_have_none => None,
            gap => Some(Err(gap.unwrap_or_else(unknown))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::manager_of;

    #[test]
    fn a_manager_is_a_whole_segment() {
        let path = b"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-x.scope";
        assert_eq!(manager_of(path), Some(1000));
        for none in
            ["/user.slice/user-1000.slice/session-1.scope", "/xuser@1.service", "/user@a.service"]
        {
            assert_eq!(manager_of(none.as_bytes()), None);
        }
    }
}
