//! Fuzz targets: a line a target, a module a group of formats.
//!
//! A target takes any bytes and must not panic. Where a parser accepts them it
//! also checks what has to hold then, such as that the parsed value, written
//! out again, parses to the same.
//!
//! `cargo xtask fuzz` runs them with coverage; `cargo test -p whose-fuzz`
//! replays what lies in `corpus/` and `crashes/`.

mod annotate;
mod boot;
mod capture;
mod cgroup;
mod claims;
mod containerd;
mod crio;
mod daemons;
mod databases;
mod docker;
mod kubelet;
mod machines;
mod memory;
mod mount;
mod namespace;
mod openvz;
mod podman;
mod process;
mod runsc;
mod schedulers;
mod tasks;
mod user;

/// One fuzz target.
pub struct Target {
    /// Its name, and that of its folder below `corpus/` and `crashes/`.
    pub name: &'static str,
    /// Feeds it one input.
    pub run: fn(&[u8]),
}

impl Target {
    const fn new(name: &'static str, run: fn(&[u8])) -> Self {
        Self { name, run }
    }
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target::new("annotate", annotate::annotate),
    Target::new("apptainer", machines::apptainer),
    Target::new("aufs", memory::aufs),
    Target::new("auxv", memory::auxv),
    Target::new("bolt", databases::bolt),
    Target::new("boot_id", boot::boot_id),
    Target::new("build_id", memory::build_id),
    Target::new("btf", tasks::btf),
    Target::new("btime", boot::btime),
    Target::new("capabilities", process::capabilities),
    Target::new("capture_facts", capture::facts),
    Target::new("capture_manifest", capture::manifest),
    Target::new("capture_redact", capture::redact),
    Target::new("cgroup", cgroup::cgroup),
    Target::new("children", process::children),
    Target::new("claims", claims::claims),
    Target::new("cmdline", process::cmdline),
    Target::new("containerd_any", databases::any),
    Target::new("containerd_cri", databases::cri),
    Target::new("containerd_time", databases::time),
    Target::new("containerd_config", containerd::config),
    Target::new("containerd_path", containerd::path),
    Target::new("containerd_pid", containerd::pid),
    Target::new("containerd_spec", containerd::spec),
    Target::new("containerd_status", containerd::status),
    Target::new("controllers", cgroup::controllers),
    Target::new("crio_config", crio::config),
    Target::new("crio_spec", crio::spec),
    Target::new("crio_state", crio::state),
    Target::new("crio_text", crio::text),
    Target::new("daemon_bodies", daemons::bodies),
    Target::new("daemon_http", daemons::http),
    Target::new("docker_config", docker::config),
    Target::new("docker_daemon", docker::daemon),
    Target::new("docker_host_config", docker::host_config),
    Target::new("docker_image", docker::image),
    Target::new("docker_layer", docker::layer),
    Target::new("docker_network", databases::network),
    Target::new("docker_repositories", docker::repositories),
    Target::new("docker_time", docker::time),
    Target::new("ecs_container", schedulers::ecs),
    Target::new("flatpak", machines::flatpak),
    Target::new("handle", memory::handle),
    Target::new("idmap", user::idmap),
    Target::new("io", process::io),
    Target::new("json", docker::json),
    Target::new("kubelet_config", kubelet::config),
    Target::new("kubelet_names", kubelet::names),
    Target::new("libvirt_domain", machines::libvirt_domain),
    Target::new("loadavg", boot::loadavg),
    Target::new("lxc_config", machines::lxc_config),
    Target::new("lxd_backup", machines::lxd_backup),
    Target::new("machined", machines::machine),
    Target::new("maps", memory::maps),
    Target::new("mesos_config", schedulers::mesos),
    Target::new("mountinfo", mount::mountinfo),
    Target::new("mount_escape", mount::escape),
    Target::new("msgpack", schedulers::msgpack),
    Target::new("nomad", schedulers::nomad),
    Target::new("nslink", namespace::nslink),
    Target::new("nspawn_settings", machines::nspawn_settings),
    Target::new("oci_state", machines::oci_state),
    Target::new("openvz_config", openvz::config),
    Target::new("overlay", memory::overlay),
    Target::new("passwd", user::passwd),
    Target::new("podman", podman::podman),
    Target::new("protobuf", schedulers::protobuf),
    Target::new("rkt_pod", schedulers::rkt),
    Target::new("rtnetlink", namespace::answers),
    Target::new("runsc_state", runsc::state),
    Target::new("slurm", schedulers::slurm),
    Target::new("sqlite", databases::sqlite),
    Target::new("stat", process::stat),
    Target::new("statmount", memory::statmount),
    Target::new("status", process::status),
    Target::new("storage_containers", crio::containers),
    Target::new("storage_images", crio::images),
    Target::new("storage_layers", crio::layers),
    Target::new("store_path", docker::store_path),
    Target::new("target", claims::targets),
    Target::new("task_record", tasks::record),
    Target::new("task_usage", tasks::usage),
    Target::new("uptime", boot::uptime),
    Target::new("yaml", machines::yaml),
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
