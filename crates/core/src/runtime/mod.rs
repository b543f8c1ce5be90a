//! Runtimes: one file each, and one line each in [`REGISTRY`].
//!
//! A runtime claims processes from evidence already gathered (pure), and reads its own state
//! beneath the roots it finds. It never sees another runtime's claims; `index` arbitrates.

mod apptainer;
mod bare;
mod bubblewrap;
mod buildah;
mod buildkit;
pub mod claim;
mod containerd;
mod crio;
mod crun;
mod docker;
mod ecs;
mod firecracker;
mod firejail;
mod flatpak;
mod found;
mod garden;
mod gvisor;
pub(crate) mod hints;
mod incus;
mod kata;
pub mod kubernetes;
mod libvirt_lxc;
mod lxc;
mod lxd;
mod machined;
mod mesos;
mod nomad;
pub mod nspawn;
mod openvz;
pub mod place;
mod podman;
mod proxmox;
mod query;
mod rkt;
mod runc;
pub mod segment;
pub mod service;
mod slurm;
mod snap;
mod sysbox;
mod systemd;
mod youki;

use std::cell::OnceCell;
use std::time::Instant;

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::parse::mountinfo::Mount;
use whose_kernel::read::process::ProcDir;
use whose_kernel::root::Root;
use whose_kernel::{Host, ReadError};

use crate::model::daemon::Told;
use crate::model::{Description, Engine, Gap, Mounting, Owner, OwnerKind, Rootfs};
use crate::state::containerd::metadata::Metadata;
use crate::state::nomad::Client;
pub use claim::{Claim, Level, Mine, Proof, Serves, Subject};
pub use found::{FoundRoots, Shared};
pub use query::{Matches, PodQuery, Query};
pub use service::Service;

/// Every runtime. Of two that claim the same place with equal proof, the earlier one has it.
pub const REGISTRY: &[&dyn Runtime] = &[
    &docker::Docker,
    &buildkit::BuildKit,
    &containerd::Containerd,
    &crio::CriO,
    &podman::Podman,
    &buildah::Buildah,
    &kata::Kata,
    &kubernetes::Kubernetes,
    &lxd::LXD,
    &incus::INCUS,
    &proxmox::Proxmox,
    &lxc::Lxc,
    &nspawn::Nspawn,
    &libvirt_lxc::LibvirtLxc,
    &rkt::Rkt,
    &runc::RUNC,
    &crun::CRUN,
    &youki::YOUKI,
    &gvisor::Gvisor,
    &firecracker::Firecracker,
    &sysbox::Sysbox,
    &garden::Garden,
    &ecs::Ecs,
    &nomad::Nomad,
    &mesos::Mesos,
    &slurm::Slurm,
    &openvz::OpenVz,
    &flatpak::Flatpak,
    &snap::Snap,
    &bubblewrap::Bubblewrap,
    &firejail::Firejail,
    &apptainer::Apptainer,
    &systemd::Systemd,
];

/// Where to look for an engine's state, from the cheapest to the dearest.
#[derive(Clone, Copy, Debug)]
pub enum Hints<'h> {
    /// Where the engine keeps it unless told otherwise.
    Default,
    /// What the engine's configuration files say.
    Configured,
    /// What the arguments of running daemons say that left a PID file or a unit.
    Running,
    /// The bind mounts of one process in a container.
    Mounts(&'h [Mount]),
    /// A directory that holds what the engine's state holds.
    At(&'h BStr),
    /// The arguments of a daemon.
    Args(&'h [BString]),
    /// A user who may have an engine of his own, and its arguments if it was seen running.
    User(&'h User),
    /// An engine inside a container.
    Inside(&'h Inside<'h>),
    /// The engine of a user inside a container: its directory is his there.
    UserInside(&'h Inside<'h>, &'h InnerUser),
    /// A monitor of one of its containers.
    Monitor(&'h Monitor),
    /// Where the environment of its running daemon has its directory.
    Moved(&'h BStr),
}

/// What a process shows that watches over a container of the host's own engine.
#[derive(Clone, Debug)]
pub struct Monitor {
    /// Its arguments.
    pub args: Vec<BString>,
    /// Its working directory, if it may be read.
    pub cwd: Option<BString>,
}

/// A user as `etc/passwd` has him.
#[derive(Clone, Debug)]
pub struct User {
    /// His uid.
    pub uid: u32,
    /// His home directory.
    pub home: BString,
    /// Arguments of his engine; empty when it was not seen.
    pub args: Vec<BString>,
}

/// A user as the `etc/passwd` of a container has him.
#[derive(Clone, Debug)]
pub struct InnerUser {
    /// His uid there.
    pub uid: u32,
    /// His name there.
    pub name: BString,
    /// His home directory there.
    pub home: BString,
}

/// A user's process that may help an engine of his.
#[derive(Clone, Debug)]
pub struct Helper {
    /// Its PID.
    pub pid: u32,
    /// His uid.
    pub uid: u32,
    /// Its arguments.
    pub args: Vec<BString>,
}

/// What is known of an engine in a container, by one process there.
#[derive(Debug)]
pub struct Inside<'h> {
    /// The process: the engine, or one that it started.
    pub process: ProcDir<'h>,
    /// Its arguments.
    pub args: Vec<BString>,
    /// Mounts of one of the engine's own containers; empty when there is none.
    pub mounts: Vec<Mount>,
}

/// The state of one engine: its directory tree, or two of them.
#[derive(Debug)]
pub struct StateRoot {
    /// The tree: what lasts, where an engine keeps that apart from what is true while it runs.
    pub root: Root,
    /// The tree of what is true while it runs, where that is another one.
    pub run: Option<Root>,
    /// The user whose rootless engine it is; `None` for the system's.
    pub user: Option<BString>,
    /// Whether it is the system's all the same: Docker gives the tree of a remapped engine to whom root
    /// is mapped to.
    pub is_remapped: bool,
    /// Other directories where the same engine may keep its database.
    pub beside: Vec<Root>,
    /// Graph roots of other stores, paths of the host, whose layers its containers may have below theirs.
    pub further: Vec<BString>,
    /// containerd's database, once it was opened.
    pub metadata: OnceCell<Result<Metadata, ReadError>>,
    /// The database of a client of Nomad's, once it was opened.
    pub client: OnceCell<Result<Client, ReadError>>,
    /// Containers of a store of containers/storage by their ids, once they were asked for one by one.
    pub(crate) stored: OnceCell<Result<Vec<buildah::Working>, ReadError>>,
    /// When its list has to be done, for a runtime that looks into each container for that.
    pub until: Option<Instant>,
    /// Names of all containers, sorted, once they were listed; for a runtime that is asked about many.
    pub names: OnceCell<Result<Vec<BString>, ReadError>>,
}

impl StateRoot {
    /// A state of which nothing was read yet.
    #[must_use]
    pub fn new(root: Root, run: Option<Root>, user: Option<BString>) -> Self {
        Self {
            root,
            run,
            user,
            is_remapped: false,
            beside: Vec::new(),
            further: Vec::new(),
            metadata: OnceCell::new(),
            client: OnceCell::new(),
            stored: OnceCell::new(),
            until: None,
            names: OnceCell::new(),
        }
    }

    /// The same for another engine that has containers there; none of its files read yet.
    pub(crate) fn again(&self) -> Option<Self> {
        let run = self.run.as_ref().map(Root::again).transpose().ok()?;
        let is_remapped = self.is_remapped;
        Some(Self { is_remapped, ..Self::new(self.root.again().ok()?, run, self.user.clone()) })
    }

    /// The user whose word alone it is: it counts for what is his, and for nothing else.
    #[must_use]
    pub fn users_own(&self) -> Option<&BString> {
        self.user.as_ref().filter(|_| !self.is_remapped)
    }
}

/// A sandbox that keeps a container's own processes from the host's sight: the host sees those that
/// run it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// The process that runs them, if its files name it: a kernel of its own, or a virtual machine's
    /// monitor. It may be stale.
    pub monitor: Option<u32>,
    /// Processes that serve it; may be stale.
    pub helpers: Vec<u32>,
    /// The file or directory that says so.
    pub path: BString,
}

/// What a sandbox without a cgroup of its own is known by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jail {
    /// Its id; none where only its namespaces tell it from others.
    pub id: Option<BString>,
    /// Its name.
    pub name: Option<BString>,
}

/// A runtime; see the module. The defaults are those of a runtime without state on disk.
pub trait Runtime: Sync {
    /// Its name.
    fn engine(&self) -> Engine;

    /// What it makes of the evidence. Pure.
    fn claim(&self, subject: &Subject<'_>) -> Claim;

    /// What kind of owner its containers are.
    fn kind(&self) -> OwnerKind {
        OwnerKind::Container
    }

    /// Whether it keeps state of its containers that is read here.
    fn has_state(&self) -> bool {
        false
    }

    /// Whether what the monitor above a process says is enough to know whose its cgroup is: of two
    /// containers of one name the cgroup's text does not tell which.
    fn monitor_is_enough(&self) -> bool {
        false
    }

    /// How the name of its containers' monitors begins, if users run some of their own.
    fn monitor(&self) -> Option<&'static str> {
        None
    }

    /// Whether it makes containers within its own by itself: then the key of one is `OUTER/ID` too.
    fn nests(&self) -> bool {
        false
    }

    /// Whether it gives its containers user namespaces. Of one that gives none, whoever is in another than the host's
    /// made it himself, and mounts in it what he likes: his mounts say nothing of the engine.
    fn maps_users(&self) -> bool {
        true
    }

    /// The variable in its daemon's environment that says where its directory is.
    fn moved_by(&self) -> Option<&'static str> {
        None
    }

    /// What a process of one of its containers shows of that, for a runtime that keeps no state.
    fn shown_by(&self, _host: &Host, _: &Owner, _pid: u32) -> Option<Description> {
        None
    }

    /// The container that a monitor of these arguments says it watches. Anyone can say so: it counts
    /// for a user's own containers only. Pure.
    fn watched(&self, _args: &[BString]) -> Option<BString> {
        None
    }

    /// Whether each of its containers has a monitor of its own, and what is below that is in it.
    fn has_monitor_each(&self) -> bool {
        false
    }

    /// Names of processes that may help a user's own engine.
    fn helper_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// The container that a user's process works for, by the state of his own engine.
    fn helps_one(&self, _root: &StateRoot, _helper: &Helper) -> Option<BString> {
        None
    }

    /// Whether a user's process works for all of his engine's containers, by the files he has of it.
    fn helps_all(&self, _host: &Host, _helper: &Helper) -> bool {
        false
    }

    /// The build step that has its own files among these mounts. Pure.
    fn step_in(&self, _mounts: &[Mount]) -> Option<Owner> {
        None
    }

    /// Whether its jobs are build steps, which have no state but that of what they work in.
    fn has_steps(&self) -> bool {
        false
    }

    /// The id of the container in this root that a step works in, by the mounts of a process of the step.
    ///
    /// # Errors
    /// When the state can't be read.
    fn works_in(&self, _root: &StateRoot, _mounts: &[Mount]) -> Result<Option<BString>, ReadError> {
        Ok(None)
    }

    /// Whether a process of these arguments runs build steps. Pure.
    fn runs_steps(&self, _args: &[BString]) -> bool {
        false
    }

    /// What the kernel calls the programs that make its sandboxes and stay above them, for a runtime
    /// whose sandboxes nothing else shows.
    fn jailers(&self) -> &'static [&'static str] {
        &[]
    }

    /// The runtime some of whose sandboxes are instances in this one's state, each with the PID of a
    /// process in it: its own, or another's that it uses.
    fn names_jails_of(&self) -> Option<Engine> {
        None
    }

    /// What its sandbox is known by that a process of its made; `args` are that process's.
    fn jail(&self, _host: &Host, _pid: u32, _args: &[BString]) -> Jail {
        Jail::default()
    }

    /// Where a container's own processes are, if it keeps them from the host's sight.
    fn hides(&self) -> Option<&'static str> {
        None
    }

    /// What the kernel may call processes that run its sandboxes.
    fn sandbox_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// Its sandbox in which the container runs, by the files it keeps of it. `shim` has the arguments
    /// of the container's shim; `None` if the host has no process of the container.
    fn sandbox(&self, _host: &Host, _id: &BStr, _shim: Option<&[BString]>) -> Option<Sandbox> {
        None
    }

    /// What the mounts of a container's process show of its part in an engine's container. Whoever has
    /// namespaces of his own can mount the like.
    fn seen_in(&self, _mounts: &[Mount]) -> Option<&'static str> {
        None
    }

    /// Engines whose state describes its sandboxes, which have the ids of theirs.
    fn engines(&self) -> &'static [&'static str] {
        &[]
    }

    /// The directory below a root that has one directory a volume, with the volume's files in `_data`;
    /// `None` for an engine without volumes.
    fn volumes(&self) -> Option<&'static str> {
        None
    }

    /// Whether its roots hold the files of its containers, though no driver of storage does.
    fn holds_files(&self) -> bool {
        false
    }

    /// The host's directory in which each directory, and each `.raw` file, is a machine's root.
    fn images(&self) -> Option<&'static str> {
        None
    }

    /// Engines that keep containers of theirs in the same roots: where one has led to a root, they are
    /// looked for there.
    fn beside(&self) -> &'static [Engine] {
        &[]
    }

    /// The engine in some of whose roots it keeps containers too: those are not looked for twice.
    fn shares(&self) -> Option<Shared> {
        None
    }

    /// Roots of its state, by one kind of hint.
    fn roots(&self, _host: &Host, _hints: Hints<'_>) -> FoundRoots {
        FoundRoots::default()
    }

    /// The containers that match. Stops, with a gap, when the host's time is out.
    ///
    /// # Errors
    /// When the state can't be listed.
    fn find(
        &self,
        _host: &Host,
        _root: &StateRoot,
        _query: Query<'_>,
    ) -> Result<Matches, ReadError> {
        Ok(Matches::default())
    }

    /// What a container mounts over its own files, by its state; `None` for a runtime whose state is not read for it.
    fn mounts(&self, _root: &StateRoot, _id: &BStr) -> Option<Result<Vec<Mounting>, ReadError>> {
        None
    }

    /// Whether [`Runtime::mounts`] tells anything.
    fn keeps_mounts(&self) -> bool {
        false
    }

    /// What a container's file system is made of; `None` if a table of layers tells, or its configuration is not read.
    fn rootfs(&self, _: &Host, _: &StateRoot, _id: &BStr) -> Option<Result<Rootfs, Gap>> {
        None
    }

    /// Whether its configuration names what its containers' files lie in.
    fn has_root_files(&self) -> bool {
        false
    }

    /// The keys of the containers whose own files may lie at a path of the host.
    ///
    /// # Errors
    /// When the state can't be listed.
    fn rooted_near(&self, root: &StateRoot, _path: &BStr) -> Result<Vec<BString>, ReadError> {
        self.list(root)
    }

    /// The containers in pods that match, sandboxes too; for a runtime that knows of pods.
    ///
    /// # Errors
    /// As [`Runtime::find`].
    fn find_in_pods(
        &self,
        _host: &Host,
        _root: &StateRoot,
        _query: PodQuery<'_>,
    ) -> Result<Matches, ReadError> {
        Ok(Matches::default())
    }

    /// The full ids of all its containers, running or not, as [`Matches::ids`].
    ///
    /// # Errors
    /// When the state can't be listed.
    fn list(&self, _root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        Ok(Vec::new())
    }

    /// The full ids of those containers besides that have no task, which only a database knows.
    ///
    /// # Errors
    /// When that can't be read.
    fn ended(&self, _root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        Ok(Vec::new())
    }

    /// Whether the container may have processes by what its state keeps of those that run.
    ///
    /// # Errors
    /// When that can't be read.
    fn may_run(&self, _root: &StateRoot, _id: &BStr) -> Result<bool, ReadError> {
        Ok(true)
    }

    /// What the state says of one container; `None` for a runtime that keeps none. What is dear to
    /// read is left out where it is not among the needs.
    ///
    /// # Errors
    /// `gone` when this root does not have it.
    fn describe(
        &self,
        _root: &StateRoot,
        _id: &BStr,
        _needs: Needs,
    ) -> Option<Result<Description, ReadError>> {
        None
    }

    /// The daemons that can be asked about its containers.
    fn services(&self) -> &'static [Service] {
        &[]
    }

    /// What a daemon's words mean.
    fn heard(&self, told: &Told) -> Description {
        service::description(told)
    }

    /// Cgroup paths the container may have, most likely first; for one without a known process.
    fn cgroups_of(&self, _root: &StateRoot, _id: &BStr) -> Vec<BString> {
        Vec::new()
    }
}

/// The runtime with this name, if it is in the registry.
#[must_use]
pub fn by_engine(engine: Engine) -> Option<&'static dyn Runtime> {
    REGISTRY.iter().copied().find(|r| r.engine() == engine)
}
