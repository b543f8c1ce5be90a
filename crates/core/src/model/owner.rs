//! Owners: containers, units, sessions, the host.

use bstr::{BStr, BString, ByteSlice};
use whose_fields::{Cell, FieldId};

use super::{Evidence, Fact, Gap, Pod, SeenPod, Source, pod};

/// What kind of owner; the contract's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OwnerKind {
    /// A container.
    Container,
    /// A pod's pause container or a virtual machine monitor.
    Sandbox,
    /// A pod.
    Pod,
    /// A machine-like container: nspawn, LXC.
    Machine,
    /// A desktop or HPC application sandbox.
    App,
    /// A scheduler's job, a build step.
    Job,
    /// A systemd unit.
    Unit,
    /// A login session.
    Session,
    /// The host itself, shown by the evidence.
    Host,
    /// Contained, but nobody claims it.
    Unknown,
}

impl OwnerKind {
    /// The contract's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Sandbox => "sandbox",
            Self::Pod => "pod",
            Self::Machine => "machine",
            Self::App => "app",
            Self::Job => "job",
            Self::Unit => "unit",
            Self::Session => "session",
            Self::Host => "host",
            Self::Unknown => "unknown",
        }
    }

    /// Whether processes of it are contained. A pod is no such thing: what is in one is in one of
    /// its containers, or belongs to its machinery.
    #[must_use]
    pub fn contains(self) -> bool {
        matches!(self, Self::Container | Self::Sandbox | Self::Machine | Self::App | Self::Job)
    }
}

impl OwnerKind {
    /// Whether an engine may run inside it, with its state in a root directory of its own.
    #[must_use]
    pub fn has_root(self) -> bool {
        matches!(self, Self::Container | Self::Machine)
    }
}

/// The engine or manager, if proven; the contract's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Engine(pub &'static str);

impl Engine {
    /// systemd, for units and sessions.
    pub const SYSTEMD: Self = Self("systemd");
    /// Not known.
    pub const UNKNOWN: Self = Self("unknown");

    /// Whether ids are names that someone chose: two directories of such an engine's may have the same.
    #[must_use]
    pub fn has_chosen_ids(self) -> bool {
        CHOOSING.contains(&self.0)
    }

    /// Whether others have it run their containers: what is theirs by a cgroup's text is not its own.
    #[must_use]
    pub fn runs_for_others(self) -> bool {
        ["runc", "crun", "youki"].contains(&self.0)
    }
}

/// Those whose containers are called as whoever runs them likes.
const CHOOSING: [&str; 9] =
    ["lxc", "lxd", "incus", "proxmox", "systemd-nspawn", "libvirt-lxc", "runc", "crun", "youki"];

/// A container's state; the contract's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words are docker's own")]
pub enum ContainerState {
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
    Dead,
    Removing,
    Unknown,
}

impl ContainerState {
    /// The contract's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Dead => "dead",
            Self::Removing => "removing",
            Self::Unknown => "unknown",
        }
    }
}

/// A compose project and service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compose {
    /// Project name.
    pub project: BString,
    /// Service name.
    pub service: Option<BString>,
}

/// What a runtime's own state says of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Name, without docker's leading slash.
    pub name: Option<BString>,
    /// Image as it was asked for.
    pub image: Option<BString>,
    /// Image id, with its algorithm.
    pub image_id: Option<BString>,
    /// Labels, sorted by name.
    pub labels: Vec<(BString, BString)>,
    /// The engine's own word for its state.
    pub engine_state: Option<&'static str>,
    /// That word in the contract's vocabulary, before the kernel is asked.
    pub believed: Option<ContainerState>,
    /// Creation, milliseconds since 1970.
    pub created: Option<i64>,
    /// Last start, milliseconds since 1970.
    pub started: Option<i64>,
    /// The init process's PID as the engine wrote it down; may be stale.
    pub pid: Option<u32>,
    /// When that process began, ticks since boot (field 22 of its stat), if the engine wrote that too.
    pub pid_start: Option<u64>,
    /// The pod, if it is in one.
    pub pod: Option<Pod>,
    /// Whether it is what holds a pod's namespaces: the pause container, or a virtual machine.
    pub is_sandbox: bool,
    /// Compose project.
    pub compose: Option<Compose>,
    /// Host path of the log file.
    pub log: Option<BString>,
    /// Host path of the directory that its engine keeps for it until the host starts anew, by its state.
    pub run_dir: Option<BString>,
    /// Host path of the directory that is its root, where its state has one.
    pub rootfs: Option<BString>,
    /// Host path of what is written to where the root is no directory by itself: the upper directory of
    /// an overlay, an image.
    pub writable: Option<BString>,
    /// User whose rootless engine it is.
    pub user: Option<BString>,
    /// Cgroup paths it may have by its own state, seen from where its engine runs; none where the
    /// state does not say.
    pub cgroups: Vec<BString>,
    /// The engine's own namespace that has it, where an engine has some.
    pub namespace: Option<BString>,
    /// The state file it was read from; where a daemon alone tells it, the daemon's socket.
    pub path: BString,
    /// Whether a daemon alone tells it.
    pub is_hearsay: bool,
    /// What a daemon says of it.
    pub heard: Vec<Evidence>,
    /// What else it has and could not be read.
    pub unread: Vec<(FieldId, Gap)>,
}

impl Description {
    /// Whether a process is the init that the engine wrote down, and not a later one with its PID.
    #[must_use]
    pub fn is_init(&self, pid: u32, start_ticks: u64) -> bool {
        self.pid == Some(pid) && self.pid_start.is_none_or(|start| start == start_ticks)
    }

    /// Where most of it was read.
    #[must_use]
    pub fn source(&self) -> Source {
        if self.is_hearsay { Source::Daemon } else { Source::StateFile }
    }

    /// What a state file that calls it so, and a daemon, are evidence for.
    #[must_use]
    pub fn evidence(&self, engine: Engine, name: Option<&BStr>) -> Vec<Evidence> {
        let file = (!self.is_hearsay).then(|| {
            let detail = match name {
                Some(name) => format!("{} calls it {name}", engine.0),
                None => format!("{} has it", engine.0),
            };
            Evidence::agreeing(Source::StateFile, detail, self.path.clone())
        });
        file.into_iter().chain(self.heard.iter().cloned()).collect()
    }

    /// Why this could not be read, if it could not.
    #[must_use]
    pub fn unread(&self, field: FieldId) -> Option<&Gap> {
        self.unread.iter().find(|(id, _)| *id == field).map(|(_, gap)| gap)
    }

    /// Whether this cgroup can be its own, by what its state says and wherever that starts from; an empty
    /// one can be any.
    #[must_use]
    pub fn may_be_in(&self, cgroup: &[u8]) -> bool {
        let is_it = |own: &BString| {
            let before = cgroup.strip_suffix(own.as_slice());
            own.starts_with(b"/") && before.is_some()
        };
        cgroup.is_empty() || self.cgroups.is_empty() || self.cgroups.iter().any(is_it)
    }

    /// Whether its state says that this very cgroup is its own; an empty one can be any.
    #[must_use]
    pub fn is_in(&self, cgroup: &[u8]) -> bool {
        cgroup.is_empty() || self.cgroups.iter().any(|own| is_whole(cgroup, own))
    }

    /// Whether the engine believes that it has processes.
    #[must_use]
    pub fn is_believed_up(&self) -> bool {
        matches!(self.believed, Some(ContainerState::Running | ContainerState::Paused))
    }

    /// Whether the engine believes that it has none.
    #[must_use]
    pub fn is_believed_down(&self) -> bool {
        self.believed.is_some() && !self.is_believed_up()
    }
}

/// Whether a cgroup's path is `own` from the root on. A reader in a cgroup namespace sees `/..` for each
/// step up to there.
#[must_use]
pub fn is_whole(mut cgroup: &[u8], own: &[u8]) -> bool {
    while let Some(rest) = cgroup.strip_prefix(b"/..").filter(|rest| rest.starts_with(b"/")) {
        cgroup = rest;
    }
    own.starts_with(b"/") && cgroup == own
}

/// Whether an owner was described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Described {
    /// Nobody asked, or there is nothing to ask for.
    #[default]
    No,
    /// By its runtime's state.
    Yes(Box<Description>),
    /// It could not be read.
    Unread(Gap),
}

/// What a process belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What kind.
    pub kind: OwnerKind,
    /// Engine or manager.
    pub runtime: Engine,
    /// Full id; for a unit its cgroup path. Empty for the host.
    pub id: BString,
    /// The engine's own namespace in which the id is one of many; empty where ids are the engine's only,
    /// or it is not known.
    pub namespace: BString,
    /// The name that the cgroup or the kernel shows; a description's name comes first.
    pub name: Option<BString>,
    /// The pod's uid from the cgroup.
    pub pod_uid: Option<BString>,
    /// What the kubelet's files say of its pod.
    pub seen_pod: Fact<SeenPod>,
    /// What the runtime's state says.
    pub described: Described,
    /// State by the kernel's facts.
    pub state: Fact<ContainerState>,
    /// The init process, verified to be in the container's cgroup.
    pub init_pid: Fact<u32>,
    /// The cgroup of the owner, as in the line that names it.
    pub cgroup: BString,
    /// Whether `cgroup` is a cgroup v2 path, and the line's v1 controllers.
    pub hierarchy: BString,
    /// Id of the container whose own engine runs it; empty for what the host's engines run.
    pub within: BString,
}

impl Owner {
    /// An owner of which only kind, runtime and id are known.
    #[must_use]
    pub fn new(kind: OwnerKind, runtime: Engine, id: impl Into<BString>) -> Self {
        Self {
            kind,
            runtime,
            id: id.into(),
            namespace: BString::default(),
            name: None,
            pod_uid: None,
            seen_pod: Fact::Unasked,
            described: Described::No,
            state: Fact::Unasked,
            init_pid: Fact::Unasked,
            cgroup: BString::default(),
            hierarchy: BString::default(),
            within: BString::default(),
        }
    }

    /// An owner by the key that an engine's state has for it: `ID`, or `NAMESPACE/ID`.
    #[must_use]
    pub fn with_key(kind: OwnerKind, runtime: Engine, key: &[u8]) -> Self {
        let (namespace, id) = key.rsplit_once_str("/").unwrap_or((b"", key));
        Self { namespace: namespace.into(), ..Self::new(kind, runtime, id) }
    }

    /// Whether its id was chosen by someone: then it may not be the only one.
    #[must_use]
    pub fn is_chosen(&self) -> bool {
        let digit = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        let drawn = self.id.len() == 64 && self.id.iter().all(digit);
        !drawn && (!self.namespace.is_empty() || self.runtime.has_chosen_ids())
    }

    /// Takes over what the description settles: whether it is a sandbox, and the namespace.
    pub fn adopt(&mut self) {
        let Described::Yes(description) = &self.described else { return };
        if description.is_sandbox && self.kind == OwnerKind::Container {
            self.kind = OwnerKind::Sandbox;
        }
        if let Some(namespace) = &description.namespace {
            self.namespace.clone_from(namespace);
        }
    }

    /// The key that its engine's state has for it.
    #[must_use]
    pub fn key(&self) -> BString {
        if self.namespace.is_empty() {
            return self.id.clone();
        }
        [self.namespace.as_slice(), b"/", &self.id].concat().into()
    }

    /// Whether a key of an engine's state is this owner's, as far as its namespace is known.
    #[must_use]
    pub fn has_key(&self, key: &[u8]) -> bool {
        let (namespace, id) = key.rsplit_once_str("/").unwrap_or((b"", key));
        let known = !self.namespace.is_empty() && !namespace.is_empty();
        self.id == id && (!known || self.namespace == namespace)
    }

    /// The host.
    #[must_use]
    pub fn host() -> Self {
        Self::new(OwnerKind::Host, Engine::UNKNOWN, "")
    }

    /// The description, if there is one.
    #[must_use]
    pub fn description(&self) -> Option<&Description> {
        match &self.described {
            Described::Yes(description) => Some(description),
            _ => None,
        }
    }

    /// The user whose own engine describes it.
    #[must_use]
    pub fn user(&self) -> Option<&BString> {
        self.description().and_then(|d| d.user.as_ref())
    }

    /// The best name there is: the engine's, what the kernel shows, a container's in its pod.
    #[must_use]
    pub fn best_name(&self) -> Option<&BString> {
        let in_pod = || self.seen_pod.known().and_then(|seen| seen.pod.container.as_ref());
        self.description().and_then(|d| d.name.as_ref()).or(self.name.as_ref()).or_else(in_pod)
    }

    /// The pod: its uid from the cgroup, the rest by the runtime's state and then by the kubelet's
    /// files. What either says of another pod does not count.
    #[must_use]
    pub fn pod(&self) -> Option<Pod> {
        let uid = self.pod_uid.as_ref();
        let told = self.description().and_then(|d| d.pod.clone()).filter(|p| p.is_of(uid));
        let mut pod = told.unwrap_or_default();
        if uid.is_some() {
            pod.uid = uid.cloned();
        }
        if let Some(seen) = self.seen_pod.known().filter(|s| s.pod.is_of(pod.uid.as_ref())) {
            pod = pod.or(&seen.pod);
        }
        (pod != Pod::default()).then_some(pod)
    }

    /// The quality of service class of its pod, by its cgroup.
    #[must_use]
    pub fn qos(&self) -> Option<&'static str> {
        self.pod_uid.as_ref().and_then(|_| pod::qos(self.cgroup.as_ref()))
    }

    /// The short form for a table's OWNER column: `web`, `prod/web-7d9/app`, `nginx.service`, `-` for
    /// the host, `?` for unknown; the first 12 digits of an id that has no readable name.
    #[must_use]
    pub fn label(&self) -> BString {
        if self.kind == OwnerKind::Host {
            return "-".into();
        }
        if self.kind == OwnerKind::Unknown {
            return "?".into();
        }
        // Ids of 64 digits are known by their first 12; others were chosen by someone.
        let short = || BString::from(if self.id.len() == 64 { &self.id[..12] } else { &self.id });
        let pod = self.pod();
        if let Some(full) = pod.as_ref().and_then(Pod::full_name) {
            let container = match self.kind {
                OwnerKind::Pod | OwnerKind::Sandbox => return full,
                _ => pod.and_then(|p| p.container).unwrap_or_else(short),
            };
            return [full.as_slice(), b"/", &container].concat().into();
        }
        match (self.best_name(), self.user()) {
            (Some(name), Some(user)) => [user.as_slice(), b"@", name].concat().into(),
            (Some(name), None) => name.clone(),
            (None, _) => short(),
        }
    }

    /// A cell of the description: unread when the description is.
    pub fn described_cell<'s>(&'s self, of: impl FnOnce(&'s Description) -> Cell<'s>) -> Cell<'s> {
        match &self.described {
            Described::No => Cell::Absent,
            Described::Yes(description) => of(description),
            Described::Unread(gap) => Cell::Unread(gap.class.name()),
        }
    }

    /// The name's cell.
    #[must_use]
    pub fn name_cell(&self) -> Cell<'_> {
        match self.best_name() {
            Some(name) => Cell::text(name),
            None => self.described_cell(|d| {
                d.unread(FieldId::Name).map_or(Cell::Absent, |gap| Cell::Unread(gap.class.name()))
            }),
        }
    }

    /// Whether its id begins with `prefix`.
    #[must_use]
    pub fn id_has_prefix(&self, prefix: &[u8]) -> bool {
        self.id.starts_with_str(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::{Described, Description, Engine, Owner, OwnerKind, Pod, SeenPod};
    use crate::model::{Fact, Source};

    fn container(description: Description) -> Owner {
        let mut owner =
            Owner::new(OwnerKind::Container, Engine("docker"), "0123456789abcdef".repeat(4));
        owner.described = Described::Yes(Box::new(description));
        owner
    }

    #[test]
    fn labels() {
        assert_eq!(Owner::host().label(), "-");
        assert_eq!(Owner::new(OwnerKind::Unknown, Engine::UNKNOWN, "x").label(), "?");
        assert_eq!(container(Description::default()).label(), "0123456789ab");
        let web = Description { name: Some("web".into()), ..Description::default() };
        assert_eq!(container(web.clone()).label(), "web");
        let alice = Description { user: Some("alice".into()), ..web.clone() };
        assert_eq!(container(alice).label(), "alice@web");
        let pod = Pod {
            name: Some("web-7d9".into()),
            namespace: Some("prod".into()),
            container: Some("app".into()),
            ..Pod::default()
        };
        let mut app = container(Description { pod: Some(pod.clone()), ..web });
        assert_eq!(app.label(), "prod/web-7d9/app");
        app.kind = OwnerKind::Sandbox;
        assert_eq!(app.label(), "prod/web-7d9");
        let nameless =
            Description { pod: Some(Pod { container: None, ..pod }), ..Description::default() };
        assert_eq!(container(nameless).label(), "prod/web-7d9/0123456789ab");
    }

    #[test]
    fn a_pods_uid_is_the_kernels() {
        let of = |uid: &str, name: &str| Pod {
            name: Some(name.into()),
            namespace: Some("prod".into()),
            uid: Some(uid.into()),
            ..Pod::default()
        };
        let seen = |pod| SeenPod { pod, source: Source::StateFile, path: "/".into() };
        let mut owner =
            container(Description { pod: Some(of("a", "web")), ..Description::default() });
        assert_eq!(owner.pod().unwrap(), of("a", "web"));
        owner.pod_uid = Some("b".into());
        assert_eq!(owner.pod(), Some(Pod { uid: Some("b".into()), ..Pod::default() }));
        owner.seen_pod = Fact::Known(seen(of("c", "db")));
        assert_eq!(owner.pod().unwrap().name, None);
        owner.seen_pod = Fact::Known(seen(of("b", "db")));
        assert_eq!(owner.pod().unwrap(), of("b", "db"));
    }
}
