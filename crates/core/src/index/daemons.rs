//! Asking running daemons for what no state file told.
//!
//! To connect may start something: systemd listens for daemons that do not run. So a socket is only
//! connected to when a process is shown to have it before that: one of the daemon's name, of the socket's
//! owner, outside containers, that either made the socket (its arguments name it or none, and the socket
//! is younger than the process) or runs in the unit that systemd gives it to. Who listens is compared
//! once more when the connection stands. What is told adds to owners that the kernel shows, and changes
//! nothing that a file says.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use whose_fields::{FieldId, Needs};
use whose_kernel::look::Look;
use whose_kernel::parse::mountinfo::strip;
use whose_kernel::parse::status::Status;
use whose_kernel::read::cgroup_tree;
use whose_kernel::worker::{Ask as Asked, Slow};
use whose_kernel::{Class, Host, ReadError, parse, scan};

use super::Index;
use super::roots::Place;
use super::search::Scope;
use super::users::manager_of;
use crate::model::daemon::{Daemons, Peer, Socket, Told};
use crate::model::gap::what;
use crate::model::{Description, Engine, Evidence, Gap, Owner, OwnerKind, Source};
use crate::runtime::hints::variable_of;
use crate::runtime::segment::{is_hex64, names_an_id};
use crate::runtime::service::Listens;
use crate::runtime::{Query, REGISTRY, Runtime, Service, by_engine};

/// Longest that one answer is waited for, whatever time there is: half of what is left, at most this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest file with a PID.
const PID_FILE: usize = 4096;
/// Milliseconds by which a process may seem to have started later than it did.
const CLOCK: i64 = 2_000;
/// The cause when this user may not connect.
const DENIED: &str = "permission denied";

/// When daemons are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Never; but which of them could be can be told.
    Never,
    /// About what no file told.
    Unread,
    /// Whatever the files told.
    Always,
}

/// Who asks, and what was told.
#[derive(Debug)]
pub(super) struct Asking<'h> {
    daemons: Box<dyn Daemons + 'h>,
    when: Ask,
    heard: HashMap<Engine, Vec<Heard>>,
    gaps: Vec<Gap>,
    /// The processes called like some daemon, once they were looked for among all.
    called: Option<Vec<(BString, u32)>>,
}

/// What came of one socket.
#[derive(Debug)]
struct Heard {
    socket: Socket,
    /// The user whose daemon it is; `None` for root's.
    user: Option<BString>,
    outcome: Result<(Peer, Option<Vec<Told>>), ReadError>,
    /// Keeps what is connected to.
    _node: Option<OwnedFd>,
    /// It did not answer in time: it is not asked again.
    silence: Option<ReadError>,
}

/// A daemon's socket, and what came of it.
#[derive(Clone, Debug)]
pub struct FoundDaemon {
    /// Whose daemon.
    pub engine: Engine,
    /// The socket.
    pub socket: BString,
    /// The daemon's PID (of several with the same arguments one is it) and the containers it has, if it
    /// was asked for them; or why it can't be.
    pub outcome: Result<(Vec<u32>, Option<usize>), Gap>,
}

impl<'h> Index<'h> {
    /// From here on daemons are asked.
    pub fn ask_daemons(&mut self, daemons: Box<dyn Daemons + 'h>, when: Ask) {
        let (heard, gaps, called) = (HashMap::new(), Vec::new(), None);
        self.asking = Some(Asking { daemons, when, heard, gaps, called });
    }

    /// What daemons were asked for and did not tell.
    pub(super) fn daemon_gaps(&self) -> impl Iterator<Item = &Gap> {
        self.asking.iter().flat_map(|asking| &asking.gaps)
    }

    /// Every daemon's socket that is there, or that somebody named.
    pub fn daemons(&mut self) -> Vec<FoundDaemon> {
        let mut found = Vec::new();
        let mut seen = Vec::new();
        for service in REGISTRY.iter().flat_map(|r| r.services()) {
            if seen.contains(&service.engine) {
                continue;
            }
            seen.push(service.engine);
            self.hear(service);
            let heard = self.asking.iter().filter_map(|a| a.heard.get(&service.engine)).flatten();
            found.extend(heard.map(|heard| FoundDaemon {
                engine: service.engine,
                socket: heard.socket.path.clone(),
                outcome: match &heard.outcome {
                    Ok((peer, told)) => Ok((peer.pids.clone(), told.as_ref().map(Vec::len))),
                    Err(e) => Err(Gap::from_read(what::DAEMON, e)),
                },
            }));
        }
        found
    }

    /// A description with what a daemon says besides, where it is to be asked.
    pub(super) fn with_hearsay(
        &mut self,
        owner: &Owner,
        by_state: Option<Result<Description, Gap>>,
        needs: Needs,
    ) -> Option<Result<Description, Gap>> {
        let when = self.asking.as_ref().map_or(Ask::Never, |asking| asking.when);
        let asks = when == Ask::Always || !matches!(by_state, Some(Ok(_)));
        if when == Ask::Never || !asks || !owner.within.is_empty() {
            return by_state;
        }
        match (by_state, self.hearsay(owner, needs)) {
            (Some(Ok(description)), Some(heard)) => Some(Ok(completed(description, heard))),
            (_, Some(heard)) => Some(Ok(heard)),
            (by_state, None) => by_state,
        }
    }

    /// Containers that daemons know by this.
    pub(super) fn told_of(&mut self, query: Query<'_>, scope: Scope<'_>) -> Vec<(Engine, BString)> {
        // Of these they say nothing that counts.
        if matches!(query, Query::Address(_) | Query::Volume(_)) || scope.user.is_some() {
            return Vec::new();
        }
        let fits = |told: &Told| match query {
            Query::Id(id) => told.id == id,
            Query::IdPrefix(prefix) => told.id.starts_with(prefix),
            Query::Name(name) => told.name.as_ref().is_some_and(|own| own == name),
            Query::Address(_) | Query::Volume(_) => false,
        };
        let mut found = Vec::new();
        for runtime in REGISTRY.iter().filter(|r| scope.is_of(r.engine())) {
            // A machine's name says nothing yet: which cgroup is its is shown by its process.
            let is_one =
                |id: &BString| runtime.kind() == OwnerKind::Machine || is_hex64(id.as_ref());
            // Another runtime's daemon knows its own containers by the same ids.
            for service in runtime.services().iter().filter(|s| s.engine == runtime.engine()) {
                self.hear(service);
                let told = self.told_by(service).map(|(_, _, told)| told);
                let ids = told.filter(|t| is_one(&t.id) && fits(t)).map(|t| t.id.clone());
                found.extend(ids.map(|id| (runtime.engine(), id)));
            }
        }
        found
    }

    /// Whether a daemon has this very owner: of what anything may be called the cgroup alone tells no
    /// engine.
    pub(super) fn is_told(&mut self, owner: &Owner) -> bool {
        let asks = self.asking.as_ref().is_some_and(|asking| asking.when != Ask::Never);
        asks && by_engine(owner.runtime).is_some_and(|r| self.told_about(r, owner).is_some())
    }

    /// What a daemon says of an owner that is its own.
    fn hearsay(&mut self, owner: &Owner, needs: Needs) -> Option<Description> {
        let runtime = by_engine(owner.runtime)?;
        let (service, at, told) = self.told_about(runtime, owner)?;
        self.told_whole(runtime, service, at, told, needs)
    }

    /// What a runtime's daemons have in their lists of an owner, with the number of the socket.
    fn told_about(
        &mut self,
        runtime: &dyn Runtime,
        owner: &Owner,
    ) -> Option<(&'static Service, usize, Told)> {
        runtime.services().iter().find_map(|service| {
            self.hear(service);
            let fits = |heard: &Heard, told: &Told| {
                owner.has_key(&told.id) && self.has_a_say(heard, told, owner)
            };
            let (at, _, told) = self.told_by(service).find(|(_, heard, told)| fits(heard, told))?;
            Some((service, at, told.clone()))
        })
    }

    /// Each container that the daemons of a service told of, with the number of the socket.
    fn told_by(
        &self,
        service: &Service,
    ) -> impl Iterator<Item = (usize, &Heard, &Told)> + use<'_, 'h> {
        let heard = self.asking.as_ref().and_then(|asking| asking.heard.get(&service.engine));
        heard.into_iter().flatten().enumerate().flat_map(|(at, heard)| {
            let told = heard.outcome.iter().filter_map(|(_, told)| told.as_ref()).flatten();
            told.map(move |told| (at, heard, told))
        })
    }

    /// Whether a daemon's word counts for this owner. A user's counts in his own cgroups alone, and in
    /// those nobody else's does. A name that someone chose may be another's: then its process tells.
    fn has_a_say(&self, heard: &Heard, told: &Told, owner: &Owner) -> bool {
        let manager = manager_of(&owner.cgroup).filter(|uid| *uid != 0);
        let in_reach = match manager {
            Some(uid) => heard.user.as_ref() == Some(&self.name_of_user(uid)),
            None => Place::new(self.host, &owner.cgroup).is_in_reach_of_user(heard.user.as_ref()),
        };
        let is_there = || {
            let lines = told.pid.and_then(|pid| self.host.process(pid).ok()?.cgroup().ok());
            let inside = |path: &BString| strip(&owner.cgroup, path).is_some();
            lines.iter().flatten().any(|line| inside(&line.path))
        };
        // While its cgroup is not known it is looked for by that process.
        let is_it = || owner.cgroup.is_empty() || is_there();
        in_reach && (owner.kind != OwnerKind::Machine || is_it())
    }

    /// All that was asked for: what a list does not have is asked for by itself.
    fn told_whole(
        &mut self,
        runtime: &dyn Runtime,
        service: &Service,
        at: usize,
        mut told: Told,
        needs: Needs,
    ) -> Option<Description> {
        let host = self.host;
        let asking = self.asking.as_mut()?;
        let heard = asking.heard.get_mut(&service.engine)?.get_mut(at)?;
        let (peer, _) = heard.outcome.as_ref().ok()?;
        let lacks_image = told.image.is_none() && needs.has(Needs::IMAGE);
        let mut failed = None;
        if !told.is_whole && (needs.has(Needs::RECORD) || lacks_image) {
            let answer = match &heard.silence {
                Some(late) => Err(late.clone()),
                None => asking.daemons.inspect(&heard.socket, peer, told.id.as_ref(), until(host)),
            };
            match answer {
                Ok(whole) if whole.id == told.id => {
                    // Podman has a pod's name in the list alone.
                    let pod = told.pod.take().or(whole.pod.clone());
                    told = Told { pod, ..whole };
                }
                Ok(_) => {
                    let why = "it answers about another container";
                    failed = Some(ReadError::new(heard.socket.path.clone(), Class::Malformed, why));
                }
                Err(e) => {
                    heard.silence = Some(e.clone()).filter(|e| e.class == Class::TimedOut);
                    failed = Some(e);
                }
            }
        }
        let mut description = runtime.heard(&told);
        description.user.clone_from(&heard.user);
        description.path.clone_from(&heard.socket.path);
        let name = told.name.as_ref().unwrap_or(&told.id);
        let detail = format!("{}'s daemon calls it {name}", service.engine.0);
        description.heard =
            vec![Evidence::agreeing(Source::Daemon, detail, heard.socket.path.clone())];
        if let Some(gap) = failed.map(|e| Gap::from_read(what::DAEMON, &e)) {
            if !asking.gaps.contains(&gap) {
                asking.gaps.push(gap.clone());
            }
            let fields = [FieldId::Created, FieldId::Started, FieldId::Log];
            description.unread = fields.map(|field| (field, gap.clone())).into();
            if lacks_image {
                description.unread.push((FieldId::Image, gap));
            }
        }
        Some(description)
    }

    /// Asks the daemons of a service for all their containers, once.
    fn hear(&mut self, service: &'static Service) {
        let host = self.host;
        let Some(asking) = &self.asking else { return };
        if asking.heard.contains_key(&service.engine) {
            return;
        }
        let (when, sockets) = (asking.when, asking.daemons.sockets(service.engine));
        let mut all: Vec<Heard> = Vec::new();
        let mut seen: Vec<Look> = Vec::new();
        let mut gaps = Vec::new();
        for socket in sockets {
            let found = socket_at(host, &socket.path);
            if let Ok((look, _)) = &found {
                // One socket has many names.
                if seen.iter().any(|known| known.is(look)) {
                    continue;
                }
                seen.push(*look);
            }
            if socket.named_by.is_none()
                && found.as_ref().is_err_and(|e: &ReadError| e.class == Class::Gone)
            {
                continue;
            }
            let (node, peer) = match found {
                Ok((look, node)) => {
                    let peer = self.peer(service, &socket, &look, &node);
                    (Some(node), peer)
                }
                Err(e) => (None, Err(e)),
            };
            let user = peer.as_ref().ok().map(|p| p.uid).filter(|uid| *uid != 0);
            let user = user.map(|uid| self.name_of_user(uid));
            let daemons = self.asking.as_ref().map(|asking| &asking.daemons);
            let outcome = peer.and_then(|peer| match (when, daemons) {
                (Ask::Never, _) | (_, None) => Ok((peer, None)),
                (_, Some(daemons)) => {
                    daemons.list(&socket, &peer, until(host)).map(|told| (peer, Some(told)))
                }
            });
            gaps.extend(outcome.as_ref().err().filter(|e| is_told(e, when)).cloned());
            all.push(Heard { socket, user, outcome, _node: node, silence: None });
        }
        if let Some(asking) = &mut self.asking {
            asking.heard.insert(service.engine, all);
            asking.gaps.extend(gaps.iter().map(|e| Gap::from_read(what::DAEMON, e)));
        }
    }

    /// The running daemon that has the socket.
    fn peer(
        &mut self,
        service: &Service,
        socket: &Socket,
        look: &Look,
        node: &OwnedFd,
    ) -> Result<Peer, ReadError> {
        let host = self.host;
        let refused =
            |class, why: String| Err(ReadError::new(host.shown(&socket.path), class, why));
        // In a container of its own it is somebody else's host that answers.
        if host.is_outermost() != Some(true) {
            return refused(Class::Unsupported, "it is not known to be this host's".into());
        }
        let at = format!("/proc/self/fd/{}", node.as_raw_fd());
        if !whose_kernel::look::may_write(&at) {
            return refused(Class::Forbidden, DENIED.into());
        }
        let near = candidates(host, service, look.uid);
        let judged = near.iter().map(|(pid, unit)| (*pid, judge(host, service, look, *pid, *unit)));
        let mut found: Vec<(u32, bool)> =
            judged.filter_map(|(pid, is_handed)| Some((pid, is_handed?))).collect();
        // A search among all processes is for what somebody named.
        if found.is_empty() && socket.named_by.is_some() {
            let called = self.called()?;
            let others =
                called.iter().filter(|(comm, _)| comm == service.comm).map(|(_, pid)| *pid);
            let others = others.filter(|pid| near.iter().all(|(known, _)| known != pid));
            let judged = others.map(|pid| (pid, judge(host, service, look, pid, None)));
            found.extend(judged.filter_map(|(pid, is_handed)| Some((pid, is_handed?))));
        }
        if found.is_empty() {
            let why = format!("no running {} is shown to listen there", service.comm);
            return refused(Class::Gone, why);
        }
        let is_handed = found.iter().any(|(_, is_handed)| *is_handed);
        let pids = found.into_iter().map(|(pid, _)| pid).collect();
        Ok(Peer { pids, uid: look.uid, is_handed, at: at.into() })
    }

    /// The processes that are called like a daemon, with that name: all are looked at once a command.
    fn called(&mut self) -> Result<&[(BString, u32)], ReadError> {
        let known = self.asking.as_mut().and_then(|asking| asking.called.take());
        let called = match known {
            Some(called) => called,
            None => {
                let comms: Vec<&str> =
                    REGISTRY.iter().flat_map(|r| r.services()).map(|s| s.comm).collect();
                let mut called = Vec::new();
                scan::each_process(self.host, &mut |pid, dir| {
                    let comm = dir.and_then(|dir| dir.stat()).map(|stat| stat.comm);
                    let comm = comm.ok().filter(|comm| comms.iter().any(|own| comm == own));
                    called.extend(comm.map(|comm| (comm, pid)));
                })?;
                called
            }
        };
        let asking = self.asking.as_mut().map(|asking| asking.called.insert(called));
        Ok(asking.map_or(&[], |called| called.as_slice()))
    }
}

/// Whether a daemon that can't be asked is a gap: one that nobody asked for by name, and that just does
/// not run or is not for this user, is none.
fn is_told(error: &ReadError, when: Ask) -> bool {
    match (when, error.class) {
        (Ask::Never, _) => false,
        (Ask::Always, _) | (_, Class::TimedOut | Class::Malformed) => true,
        (_, Class::Forbidden) => error.cause != DENIED,
        (_, Class::Gone | Class::Unsupported) => false,
    }
}

/// Until when an answer is waited for.
fn until(host: &Host) -> Instant {
    let now = Instant::now();
    let left = host.deadline().map_or(PATIENCE * 2, |end| end.saturating_duration_since(now));
    now + (left / 2).min(PATIENCE)
}

/// A description with what a daemon says where it says nothing; where both do and differ, both are
/// evidence.
fn completed(mut own: Description, heard: Description) -> Description {
    let socket = heard.path;
    let pairs =
        [("calls it", &own.name, &heard.name), ("has image", &own.image_id, &heard.image_id)];
    let mut against = Vec::new();
    for (verb, ours, theirs) in pairs {
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours != theirs
        {
            let detail = format!("its daemon {verb} {theirs}");
            against.push(Evidence::against(Source::Daemon, detail, socket.clone()));
        }
    }
    own.heard = if against.is_empty() { heard.heard } else { against };
    own.name = own.name.or(heard.name);
    let mut filled: Vec<FieldId> = Vec::new();
    let fields = [
        (FieldId::Image, &mut own.image, heard.image),
        (FieldId::ImageId, &mut own.image_id, heard.image_id),
        (FieldId::Log, &mut own.log, heard.log),
    ];
    for (field, ours, theirs) in fields {
        if ours.is_none() && theirs.is_some() {
            *ours = theirs;
            filled.push(field);
        }
    }
    let times = [
        (FieldId::Created, &mut own.created, heard.created),
        (FieldId::Started, &mut own.started, heard.started),
    ];
    for (field, ours, theirs) in times {
        if ours.is_none() && theirs.is_some() {
            *ours = theirs;
            filled.push(field);
        }
    }
    if own.unread(FieldId::Labels).is_some() {
        own.labels = heard.labels;
        own.compose = own.compose.or(heard.compose);
        filled.push(FieldId::Labels);
    }
    own.unread.retain(|(field, _)| !filled.contains(field));
    own
}

/// A socket that is held, and whose it is: root's or this user's own.
fn socket_at(host: &Host, path: &BString) -> Result<(Look, OwnedFd), ReadError> {
    host.guard(path)?;
    let (look, node) = host.root().node(path)?;
    let refused = |class, why: String| Err(ReadError::new(host.shown(path), class, why));
    if !look.is_socket() {
        return refused(Class::Malformed, "it is no socket".into());
    }
    if look.uid != 0 && host.live().euid() != Ok(look.uid) {
        return refused(Class::Forbidden, format!("it belongs to uid {}", look.uid));
    }
    Ok((look, node))
}

/// A unit, and the places of its socket.
type Unit = (&'static str, &'static [&'static str]);

/// Processes that may be the daemon: those with a PID file in its usual place, and those in a unit of its,
/// with that.
fn candidates(host: &Host, service: &Service, uid: u32) -> Vec<(u32, Option<Unit>)> {
    let mut pids: Vec<(u32, Option<Unit>)> = Vec::new();
    let manager = format!("/user.slice/user-{uid}.slice/user@{uid}.service");
    let slices = match uid {
        0 => vec!["/system.slice".to_owned()],
        _ => vec![format!("{manager}/app.slice"), manager],
    };
    for hierarchy in cgroup_tree::hierarchies(host).unwrap_or_default() {
        for slice in &slices {
            for unit in service.units {
                let dir = hierarchy.dir(format!("{slice}/{}", unit.0).as_bytes());
                let members = dir.iter().flat_map(|dir| cgroup_tree::members(host, dir)).flatten();
                pids.extend(members.map(|pid| (pid, Some(*unit))));
            }
        }
    }
    let files = service.pid_files.iter().filter(|_| uid == 0);
    for bytes in files.filter_map(|file| host.root().read(file.as_bytes(), PID_FILE).ok()) {
        pids.extend(parse::decimal32(bytes.trim_ascii()).map(|pid| (pid, None)));
    }
    // Those in a unit stand first.
    let mut seen = Vec::new();
    pids.retain(|(pid, _)| {
        !seen.contains(pid) && {
            seen.push(*pid);
            true
        }
    });
    pids
}

/// Whether a process is the daemon that has this socket: then whether it may have it from whoever
/// started it. `unit`: the daemon's unit that it runs in.
fn judge(
    host: &Host,
    service: &Service,
    look: &Look,
    pid: u32,
    unit: Option<Unit>,
) -> Option<bool> {
    let dir = host.process(pid).ok()?;
    let stat = dir.stat().ok().filter(|stat| stat.comm == service.comm && !stat.is_dead())?;
    // A program that anybody may run with root's rights is not root's.
    let is_his = |s: &Status| s.euid == look.uid && s.ruid == look.uid;
    let status = dir.status().ok().filter(is_his)?;
    let outermost = status.nspid.as_ref().is_none_or(|pids| pids.len() == 1);
    let lines = dir.cgroup().ok()?;
    let elsewhere = names_an_id(&lines) || lines.iter().any(|l| is_anothers(&l.path, look.uid));
    if !outermost || elsewhere {
        return None;
    }
    let ask = Asked { file: Slow::Cmdline, pid, start_ticks: stat.start_ticks };
    let bytes = host.slow_reads(&[ask]).pop()?.ok()?;
    let mut listens = (service.listens)(&parse::cmdline::parse(&bytes))?;
    if let Some((variable, file)) = service.moved_by.filter(|_| look.uid == 0)
        && let Some(dir) = variable_of(host, &ask, variable)
    {
        let own = [dir.as_slice(), b"/", file.as_bytes()].concat();
        listens = Listens { at: vec![own.into()], ..listens };
    }
    let is_it = |path: &BStr| {
        host.guard(path).is_ok() && host.root().look(path).is_ok_and(|own| own.is(look))
    };
    let is_one = |places: &[&str]| match look.uid {
        0 => places.iter().any(|place| is_it(place.as_bytes().as_bstr())),
        uid => service
            .users
            .iter()
            .any(|file| is_it(format!("run/user/{uid}/{file}").as_bytes().as_bstr())),
    };
    if let Some((_, places)) = unit.filter(|_| listens.is_handed)
        && is_one(places)
    {
        return Some(true);
    }
    // What it made itself is not older than it. Both have the clock of their time.
    let started = host.start_time(stat.start_ticks).ok()?;
    if look.mtime / 1_000_000 + i128::from(CLOCK) < i128::from(started) {
        return None;
    }
    let made = listens.at.iter().any(|path| is_it(path.as_bstr()))
        || listens.usual && service.units.iter().any(|(_, places)| is_one(places));
    made.then_some(false)
}

/// Whether a cgroup is of another user's.
fn is_anothers(path: &BString, uid: u32) -> bool {
    let slice = path.strip_prefix(b"/user.slice/user-").and_then(|rest| rest.split_str(".").next());
    slice.and_then(parse::decimal32).is_some_and(|of| of != uid)
}
