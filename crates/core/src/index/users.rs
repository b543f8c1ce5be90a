//! Users' own engines: found by what runs of them, never by walking through homes.

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::read::cgroup_tree;
use whose_kernel::read::process::ProcDir;
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, Host, ReadError, parse, scan};

use super::Index;
use super::place::unread;
use super::proven::is_hosts;
use crate::model::gap::what;
use crate::model::{
    Described, Description, Engine, Evidence, Gap, Owner, OwnerKind, Process, Role, Row, Source,
};
use crate::runtime::segment::down_to;
use crate::runtime::{Hints, Monitor, REGISTRY, Runtime, StateRoot, Subject, User, by_engine};

/// Ancestors looked at for a container's monitor.
const MOST_ANCESTORS: usize = 32;
/// Users that a directory of running users' names may list.
const MOST_USERS: usize = 100_000;

/// A process that watches over a container, by its own word: engine, key, its uid and its PID.
pub(super) type Watcher = (Engine, BString, u32, u32);

/// Daemons by their names.
const DAEMONS: [&[u8]; 2] = [b"dockerd", b"containerd"];
/// CRI-O's, which no user and no container's own root has arguments of.
const CRIO: &[u8] = b"crio";

/// The monitor of each of Podman's containers.
const CONMON: &[u8] = b"conmon";
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
    cgroup.split_str("/").find_map(uid)
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
                    return self.roots_inside(owner, p.pid, Vec::new());
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
            if runtime.watched(&monitor.args).is_some() && self.is_proven(&dir, &status, *runtime) {
                self.root_of_monitor(*runtime, &monitor);
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
            let uid = dir.status().map_or(0, |status| status.euid);
            monitors.extend((uid != 0).then_some((pid, stat.start_ticks, uid)));
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
        true
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

    /// A user's container that no cgroup names, told by the monitor above the process: an engine
    /// without a cgroup of its own makes none for its containers. The monitor's user must have
    /// the container in an engine of his own; where that can't be read, it is unknown whose it is.
    pub(super) fn watched(&mut self, p: &Process) -> Option<(Owner, Evidence)> {
        let (engine, key, uid, pid) = self.watcher_above(p.stat.known()?.ppid)?;
        if uid == 0 {
            return self.watched_by_hosts(p, engine, &key, pid);
        }
        let hint = (Some(p.pid), Needs::NONE);
        let owner = match self.users_description(engine, key.as_ref(), uid, hint)? {
            Ok(description) => {
                let mut owner = Owner::with_key(OwnerKind::Container, engine, &key);
                owner.described = Described::Yes(Box::new(description));
                owner.adopt();
                owner
            }
            Err(gap) => unread(gap),
        };
        let path = self.host.shown(format!("proc/{pid}/cmdline").as_bytes());
        let detail = format!("below its monitor {pid}, which is {}'s", self.name_of_user(uid));
        Some((owner, Evidence::agreeing(Source::Ancestry, detail, path)))
    }

    /// A container of the host's own engine that no cgroup's text names, or only one that anything may
    /// have: told by the monitor above the process, and by the state which that works in, if that
    /// gives the container the cgroup of the process.
    fn watched_by_hosts(
        &mut self,
        p: &Process,
        engine: Engine,
        key: &BString,
        monitor: u32,
    ) -> Option<(Owner, Evidence)> {
        let runtime = by_engine(engine)?;
        let described = match self.monitored(runtime, p.pid) {
            Some((number, _)) => {
                runtime.describe(&self.roots.get(number)?.1, key.as_ref(), Needs::NONE)?
            }
            // The monitor is root's, and says where it works to nobody else.
            None => Err(self.host.process(monitor).and_then(|m| m.link_text("cwd")).err()?),
        };
        let mut owner = Owner::with_key(OwnerKind::Container, engine, key);
        let usual = BString::from([b"/", key.as_slice()].concat());
        let cgroups = described.as_ref().map_or(std::slice::from_ref(&usual), |d| &d.cgroups);
        let own = |line: &Line| {
            let down = cgroups.iter().find_map(|own| down_to(&line.path, own));
            down.map(|path| (BString::from(path), line.controllers.clone()))
        };
        let lines = p.cgroup.known().map(|lines| lines.as_slice()).unwrap_or_default();
        match lines.iter().rev().find_map(own) {
            Some((cgroup, hierarchy)) => (owner.cgroup, owner.hierarchy) = (cgroup, hierarchy),
            // It asked for none, and is in its monitor's.
            None if cgroups.is_empty() => {}
            // Which it asked for can't be read; a monitor of one container's is that one's all the same.
            None if described.is_err() && runtime.has_monitor_each() => {}
            None => return None,
        }
        owner.described = match described {
            Ok(description) => Described::Yes(Box::new(description)),
            Err(e) if e.class == Class::Gone => return None,
            Err(e) => Described::Unread(Gap::from_read(what::DESCRIPTION, &e)),
        };
        owner.adopt();
        let path = self.host.shown(format!("proc/{monitor}/cmdline").as_bytes());
        let detail = format!("below its monitor {monitor}");
        Some((owner, Evidence::agreeing(Source::Ancestry, detail, path)))
    }

    /// The number of the state that the monitor above a process belongs to, and the key of the container
    /// it watches. Of the host's own engines only.
    pub(super) fn monitored(
        &mut self,
        runtime: &dyn Runtime,
        pid: u32,
    ) -> Option<(usize, BString)> {
        let ppid = self.host.process(pid).and_then(|p| p.stat()).ok()?.ppid;
        let (engine, key, uid, at) = self.watcher_above(ppid)?;
        if uid != 0 || engine != runtime.engine() {
            return None;
        }
        if let Some(known) = self.monitors.get(&at) {
            return known.map(|number| (number, key));
        }
        let host = self.host;
        let dir = host.process(at).ok()?;
        let ask = Ask { file: Slow::Cmdline, pid: at, start_ticks: dir.stat().ok()?.start_ticks };
        let bytes = host.slow_reads(&[ask]).pop()?.ok()?;
        let monitor =
            Monitor { args: parse::cmdline::parse(&bytes), cwd: dir.link_text("cwd").ok() };
        let number = self.root_of_monitor(runtime, &monitor);
        self.monitors.insert(at, number);
        number.map(|number| (number, key))
    }

    /// Whether a process is below the monitor that an engine of the host's gave the container.
    pub(super) fn is_monitored(&mut self, pid: u32, owner: &Owner) -> bool {
        let runtime = by_engine(owner.runtime);
        let monitored = runtime.and_then(|runtime| self.monitored(runtime, pid));
        monitored.is_some_and(|(_, key)| owner.has_key(&key))
    }

    pub(super) fn watcher_above(&mut self, pid: u32) -> Option<Watcher> {
        let host = self.host;
        let mut way = Vec::new();
        let mut at = pid;
        let mut found = None;
        for _ in 0..MOST_ANCESTORS {
            if at <= 1 {
                break;
            }
            if let Some(known) = self.watchers.get(&at) {
                found.clone_from(known);
                break;
            }
            way.push(at);
            let Ok(dir) = host.process(at) else { break };
            let Ok(stat) = dir.stat() else { break };
            let monitors = |r: &&&dyn Runtime| {
                r.monitor().is_some_and(|m| stat.comm.starts_with(m.as_bytes()))
            };
            let mut of_it = REGISTRY.iter().filter(monitors).peekable();
            if of_it.peek().is_some() {
                let ask = Ask { file: Slow::Cmdline, pid: at, start_ticks: stat.start_ticks };
                let bytes = host.slow_reads(&[ask]).pop().and_then(Result::ok).unwrap_or_default();
                let args = parse::cmdline::parse(&bytes);
                let watched = of_it.find_map(|r| Some((*r, r.watched(&args)?)));
                let enough = watched.as_ref().map(|(r, _)| *r).filter(|r| r.monitor_is_enough());
                let uid = dir.status().ok().filter(|s| match enough {
                    _ if s.euid != 0 => true,
                    Some(runtime) => self.is_proven(&dir, s, runtime) && self.is_outside(&dir, s),
                    None => is_hosts(&dir, s),
                });
                if let (Some((runtime, key)), Some(status)) = (watched, uid) {
                    found = Some((runtime.engine(), key, status.euid, at));
                }
                break;
            }
            at = stat.ppid;
        }
        for pid in way {
            self.watchers.insert(pid, found.clone());
        }
        found
    }

    /// The key that a runtime's monitor above the process says, whoever's that monitor is.
    pub(super) fn says_monitor(&self, runtime: &dyn Runtime, pid: u32) -> Option<BString> {
        let comm = runtime.monitor()?;
        let mut at = pid;
        for _ in 0..MOST_ANCESTORS {
            at = self.host.process(at).and_then(|p| p.stat()).ok()?.ppid;
            let stat = self.host.process(at).and_then(|p| p.stat()).ok()?;
            if stat.comm.starts_with(comm.as_bytes())
                && let Some(key) = self.args_of(at).and_then(|args| runtime.watched(&args))
            {
                return Some(key);
            }
        }
        None
    }

    /// Whether a process is below the monitor of the container, which is that of whose engine has it:
    /// anybody can say that he watches over it.
    pub(super) fn is_watched(&mut self, pid: u32, owner: &Owner) -> bool {
        let Ok(stat) = self.host.process(pid).and_then(|p| p.stat()) else { return false };
        let Some((engine, key, uid, _)) = self.watcher_above(stat.ppid) else { return false };
        let user = owner.description().and_then(|d| d.user.as_ref());
        let is_his = match user {
            Some(user) => uid != 0 && self.name_of_user(uid) == *user,
            None => uid == 0,
        };
        is_his && engine == owner.runtime && owner.has_key(&key)
    }

    /// The processes of a container that no cgroup names: all below its monitor. `init` is the PID that
    /// its engine wrote down; a user's may lie about it, and what counts is that the monitor is his. There
    /// is no list of them to be read, so all of /proc is.
    pub(super) fn watched_pids(
        &mut self,
        engine: Engine,
        key: &BStr,
        user: Option<&BString>,
        init: Option<u32>,
    ) -> Option<Vec<u32>> {
        let uid = match user {
            Some(user) => self.host.uid_of(user.as_ref()).or_else(|| parse::decimal32(user))?,
            None => {
                let init = init.filter(|pid| self.is_in(*pid, key))?;
                let ppid = self.host.process(init).and_then(|p| p.stat()).ok()?.ppid;
                self.watcher_above(ppid).filter(|(e, ..)| *e == engine)?.2
            }
        };
        let mut all: Vec<u32> = Vec::new();
        scan::each_process(self.host, &mut |pid, _| all.push(pid)).ok()?;
        let mut pids = Vec::new();
        for pid in all {
            let Ok(stat) = self.host.process(pid).and_then(|p| p.stat()) else { continue };
            if stat.is_dead() || stat.is_kernel_thread() {
                continue;
            }
            let above = self.watcher_above(stat.ppid);
            // Another user's may say the same, and one of his may have started what is in no container.
            let is_below = above.is_some_and(|(e, k, u, _)| (e, u) == (engine, uid) && k == key);
            if is_below && self.is_in(pid, key) {
                pids.push(pid);
            }
        }
        Some(pids)
    }

    /// Whether a process is in the container of this key, which no cgroup names.
    pub(super) fn is_in(&mut self, pid: u32, key: &BStr) -> bool {
        let needs = Needs::STAT.and(Needs::STATUS).and(Needs::OWNER);
        let row = self.row(pid, needs).ok().flatten();
        let owner = row.as_ref().and_then(Row::owner);
        owner.is_some_and(|owner| owner.has_key(key) && owner.cgroup.is_empty())
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
