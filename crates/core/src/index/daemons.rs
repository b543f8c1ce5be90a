//! Asking running daemons for what no state file told.
//!
//! To connect may start something: systemd listens for daemons that do not run. So a socket is only
//! connected to when a process is shown to be its daemon before that: one of the daemon's name, of the
//! socket's owner, outside containers, whose arguments name this very socket, or which has the usual one.
//! Who listens is compared once more when the connection stands. What is told adds to owners that the
//! kernel shows, and changes nothing that a file says.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use whose_fields::{FieldId, Needs};
use whose_kernel::look::Look;
use whose_kernel::parse::mountinfo::strip;
use whose_kernel::read::cgroup_tree;
use whose_kernel::worker::{Ask as Asked, Slow};
use whose_kernel::{Class, Host, ReadError, parse, scan};

use super::Index;
use super::roots::Place;
use super::users::manager_of;
use crate::model::daemon::{Daemons, Peer, Socket, Told};
use crate::model::gap::what;
use crate::model::{Description, Engine, Evidence, Gap, Owner, OwnerKind, Source};
use crate::runtime::segment::{is_hex64, names_an_id};
use crate::runtime::{Query, REGISTRY, Runtime, Service, by_engine};

/// Longest that one answer is waited for, whatever time there is: half of what is left, at most this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest file with a PID.
const PID_FILE: usize = 4096;

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
}

/// What came of one socket.
#[derive(Debug)]
struct Heard {
    socket: Socket,
    /// The user whose daemon it is; `None` for root's.
    user: Option<BString>,
    outcome: Result<(Peer, Option<Vec<Told>>), ReadError>,
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
        let (heard, gaps) = (HashMap::new(), Vec::new());
        self.asking = Some(Asking { daemons, when, heard, gaps });
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
    pub(super) fn told_of(&mut self, query: Query<'_>) -> Vec<(Engine, BString)> {
        let fits = |told: &Told| match query {
            Query::Id(id) => told.id == id,
            Query::IdPrefix(prefix) => told.id.starts_with(prefix),
            Query::Name(name) => told.name.as_ref().is_some_and(|own| own == name),
            Query::Address(_) | Query::Volume(_) => false,
        };
        let mut found = Vec::new();
        for runtime in REGISTRY {
            // Another runtime's daemon knows its own containers by the same ids.
            for service in runtime.services().iter().filter(|s| s.engine == runtime.engine()) {
                self.hear(service);
                let told = self.told_by(service).map(|(_, _, told)| told);
                let ids = told.filter(|t| is_hex64(&t.id) && fits(t)).map(|t| t.id.clone());
                found.extend(ids.map(|id| (runtime.engine(), id)));
            }
        }
        found
    }

    /// What a daemon says of an owner that is its own.
    fn hearsay(&mut self, owner: &Owner, needs: Needs) -> Option<Description> {
        let runtime = by_engine(owner.runtime)?;
        for service in runtime.services() {
            self.hear(service);
            let mut fitting: Vec<(usize, Told)> = Vec::new();
            for (at, heard, told) in self.told_by(service) {
                if owner.has_key(&told.id) && self.has_a_say(heard, told, owner) {
                    fitting.push((at, told.clone()));
                }
            }
            if let Some((at, told)) = fitting.into_iter().next() {
                return self.told_whole(runtime, service, at, told, needs);
            }
        }
        None
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
            !owner.cgroup.is_empty() && lines.iter().flatten().any(|line| inside(&line.path))
        };
        in_reach && (owner.kind != OwnerKind::Machine || is_there())
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
            if let Ok(look) = &found {
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
            let peer = found.and_then(|look| peer(host, service, &socket, &look));
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
            all.push(Heard { socket, user, outcome, silence: None });
        }
        if let Some(asking) = &mut self.asking {
            asking.heard.insert(service.engine, all);
            asking.gaps.extend(gaps.iter().map(|e| Gap::from_read(what::DAEMON, e)));
        }
    }
}

/// Whether a daemon that can't be asked is a gap: one that nobody asked for by name, and that just does
/// not run or is not for this user, is none.
fn is_told(error: &ReadError, when: Ask) -> bool {
    match (when, error.class) {
        (Ask::Never, _) => false,
        (Ask::Always, _) | (_, Class::TimedOut | Class::Malformed) => true,
        (_, Class::Forbidden) => error.cause != "permission denied",
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

/// A socket, and whose it is: root's or this user's own.
fn socket_at(host: &Host, path: &BString) -> Result<Look, ReadError> {
    host.guard(path)?;
    let look = host.root().look(path)?;
    let refused = |class, why: String| Err(ReadError::new(host.shown(path), class, why));
    if !look.is_socket() {
        return refused(Class::Malformed, "it is no socket".into());
    }
    if look.uid != 0 && host.live().euid() != Ok(look.uid) {
        return refused(Class::Forbidden, format!("it belongs to uid {}", look.uid));
    }
    Ok(look)
}

/// The running daemon that has the socket.
fn peer(host: &Host, service: &Service, socket: &Socket, look: &Look) -> Result<Peer, ReadError> {
    // In a container of its own it is somebody else's host that answers.
    if host.is_outermost() != Some(true) {
        let why = "it is not known to be this host's";
        return Err(ReadError::new(host.shown(&socket.path), Class::Unsupported, why));
    }
    let near = candidates(host, service, look.uid);
    let mut found: Vec<(u32, bool)> =
        near.iter().filter_map(|pid| Some((*pid, judge(host, service, look, *pid)?))).collect();
    if found.is_empty() {
        let mut named = Vec::new();
        let all = scan::each_process(host, &mut |pid, dir| {
            let comm = dir.and_then(|dir| dir.stat()).map(|stat| stat.comm);
            named.extend(comm.is_ok_and(|comm| comm == service.comm).then_some(pid));
        });
        all?;
        named.retain(|pid| !near.contains(pid));
        let judged = named.into_iter().map(|pid| (pid, judge(host, service, look, pid)));
        found.extend(judged.filter_map(|(pid, is_handed)| Some((pid, is_handed?))));
    }
    if found.is_empty() {
        let why = format!("no running {} is shown to listen there", service.comm);
        return Err(ReadError::new(host.shown(&socket.path), Class::Gone, why));
    }
    let is_handed = found.iter().any(|(_, is_handed)| *is_handed);
    Ok(Peer { pids: found.into_iter().map(|(pid, _)| pid).collect(), uid: look.uid, is_handed })
}

/// Processes that may be the daemon: those with a PID file in its usual place, or in its unit.
fn candidates(host: &Host, service: &Service, uid: u32) -> Vec<u32> {
    let mut pids: Vec<u32> = Vec::new();
    let files = service.pid_files.iter().filter(|_| uid == 0);
    for bytes in files.filter_map(|file| host.root().read(file.as_bytes(), PID_FILE).ok()) {
        pids.extend(parse::decimal32(bytes.trim_ascii()));
    }
    let manager = format!("/user.slice/user-{uid}.slice/user@{uid}.service");
    let slices = match uid {
        0 => vec!["/system.slice".to_owned()],
        _ => vec![format!("{manager}/app.slice"), manager],
    };
    for hierarchy in cgroup_tree::hierarchies(host).unwrap_or_default() {
        for slice in &slices {
            for unit in service.units {
                let dir = hierarchy.dir(format!("{slice}/{unit}").as_bytes());
                pids.extend(dir.iter().flat_map(|dir| cgroup_tree::members(host, dir)).flatten());
            }
        }
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Whether a process is the daemon that has this socket: then whether it may have it from whoever
/// started it.
fn judge(host: &Host, service: &Service, look: &Look, pid: u32) -> Option<bool> {
    let dir = host.process(pid).ok()?;
    let stat = dir.stat().ok().filter(|stat| stat.comm == service.comm && !stat.is_dead())?;
    let status = dir.status().ok().filter(|status| status.euid == look.uid)?;
    let outermost = status.nspid.as_ref().is_none_or(|pids| pids.len() == 1);
    let contained = dir.cgroup().map_or(true, |lines| names_an_id(&lines));
    if !outermost || contained {
        return None;
    }
    let ask = Asked { file: Slow::Cmdline, pid, start_ticks: stat.start_ticks };
    let bytes = host.slow_reads(&[ask]).pop()?.ok()?;
    let listens = (service.listens)(&parse::cmdline::parse(&bytes))?;
    let is_it = |path: &BStr| {
        host.guard(path).is_ok() && host.root().look(path).is_ok_and(|own| own.is(look))
    };
    if listens.at.iter().any(|path| is_it(path.as_bstr())) {
        return Some(false);
    }
    let usual: Vec<String> = match status.euid {
        0 => service.usual.iter().map(|path| (*path).to_owned()).collect(),
        uid => service.users.iter().map(|file| format!("run/user/{uid}/{file}")).collect(),
    };
    let has_usual = listens.usual && usual.iter().any(|path| is_it(path.as_bytes().as_bstr()));
    has_usual.then_some(listens.is_handed)
}
