//! What Podman's database says of containers.

use bstr::{BStr, BString};
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use super::{Matches, Query, StateRoot, VOLUMES, segment};
use crate::model::{Compose, ContainerState, Description, Mounting, Pod};
use crate::state::containers_storage::{self as storage, Store};
use crate::state::docker::time;
use crate::state::podman::{self as files, Config};
use crate::state::spec::Mount;

/// Whether a graph root has a database of Podman's or a container of its in the store's table; what
/// can't be looked at may have.
pub(super) fn has_some(root: &StateRoot) -> bool {
    files::has_database(&places(root)) || !tabled(&root.root).is_ok_and(|all| all.is_empty())
}

/// Where its database may be, the graph root first.
pub(super) fn places(root: &StateRoot) -> Vec<&Root> {
    std::iter::once(&root.root).chain(&root.beside).collect()
}

/// Containers that Podman has put into the tables of every driver.
pub(super) fn tabled(
    root: &Root,
) -> Result<Vec<(storage::Container, files::Metadata, BString)>, ReadError> {
    let mut known = Vec::new();
    for driver in storage::drivers(root)? {
        for container in (Store { root, driver: &driver }).containers()? {
            let metadata = files::parse_metadata(&container.metadata);
            let metadata = metadata.filter(|_| segment::is_hex64(container.id.as_bytes()));
            known.extend(metadata.map(|metadata| (container, metadata, driver.clone())));
        }
    }
    Ok(known)
}

/// Full ids and names of all containers: the database's, or, where there is none, the table's.
pub(super) fn names(root: &StateRoot) -> Result<Vec<(BString, BString)>, ReadError> {
    let of_table = |all: Vec<(storage::Container, files::Metadata, BString)>| {
        all.into_iter().map(|(c, m, _)| (c.id.into(), m.name.into())).collect()
    };
    let mut names = match files::names(&places(root))? {
        Some(names) => names,
        None => of_table(tabled(&root.root)?),
    };
    names.retain(|(id, _)| segment::is_hex64(id));
    Ok(names)
}

pub(super) fn find(root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
    let fits = |(id, name): &(BString, BString)| match query {
        Query::Id(wanted) => id == wanted,
        Query::IdPrefix(prefix) => id.starts_with(prefix),
        Query::Name(wanted) => name == wanted,
        Query::Address(_) | Query::Volume(_) => false,
    };
    match query {
        Query::Address(_) => return Ok(Matches::default()),
        Query::Volume(volume) => {
            let mut ids = files::having(&places(root), volume)?;
            ids.retain(|id| segment::is_hex64(id));
            return Ok(Matches { ids, gaps: Vec::new() });
        }
        Query::Id(_) | Query::IdPrefix(_) | Query::Name(_) => {}
    }
    let found = names(root)?.into_iter().filter(fits);
    Ok(Matches { ids: found.map(|(id, _)| id).collect(), gaps: Vec::new() })
}

pub(super) fn describe(root: &StateRoot, id: &BStr) -> Result<Description, ReadError> {
    let gone = || ReadError::new(root.root.shown(), Class::Gone, "no container of podman");
    if !segment::is_hex64(id) {
        return Err(gone());
    }
    let Some(stored) = files::container(&places(root), id)? else {
        return match files::has_database(&places(root)) {
            true => Err(gone()),
            false => by_table(root, id)?.ok_or_else(gone),
        };
    };
    let (config, state) = (stored.config, stored.state);
    let words = state_words(state.state);
    let text = |text: &str| Some(BString::from(text)).filter(|t| !t.is_empty());
    let labels: Vec<(BString, BString)> = config
        .labels
        .iter()
        .flatten()
        .map(|(k, v)| (k.as_str().into(), v.as_str().into()))
        .collect();
    let pod = Some(&config.pod).filter(|pod| !pod.is_empty()).map(|pod| Pod {
        name: stored.pod_name.as_deref().and_then(text),
        uid: text(pod),
        ..Pod::default()
    });
    Ok(Description {
        name: text(&config.name),
        image: text(&config.image_name),
        image_id: text(&config.image_id).map(|id| with_algorithm(&id)),
        compose: compose(&labels),
        labels,
        engine_state: words.map(|w| w.0),
        believed: words.map(|w| w.1),
        created: time(&config.created_time),
        started: time(&state.started_time),
        pid: u32::try_from(state.pid).ok().filter(|pid| *pid > 0),
        pod,
        is_sandbox: config.is_infra,
        log: text(&config.log_path).filter(|_| is_file(&config.log_driver)),
        run_dir: text(&state.run_dir),
        user: root.user.clone(),
        cgroups: cgroups(&config, uid_of(root)),
        path: stored.path,
        ..Description::default()
    })
}

/// Binds, volumes and what is in memory.
pub(super) fn mounts(root: &StateRoot, id: &BStr) -> Result<Vec<Mounting>, ReadError> {
    let gone = || ReadError::new(root.root.shown(), Class::Gone, "no container of podman");
    let stored = files::container(&places(root), id)?.ok_or_else(gone)?;
    let config = stored.config;
    let spec = config.spec.and_then(|spec| spec.mounts).unwrap_or_default();
    let mounted: Result<Vec<Mounting>, String> = spec.into_iter().map(Mount::mounting).collect();
    let mounted = mounted.map_err(|why| ReadError::new(stored.path, Class::Unsupported, why))?;
    let volumes = config.named_volumes.unwrap_or_default().into_iter().map(|volume| {
        let below = format!("{VOLUMES}/{}/_data", volume.volume_name);
        Mounting { at: volume.dest.into(), from: Some(root.root.join(below.as_bytes())) }
    });
    Ok(mounted.into_iter().chain(volumes).collect())
}

/// What the store's table says of a container where there is no database: one that keeps nothing, or
/// keeps it elsewhere.
fn by_table(root: &StateRoot, id: &BStr) -> Result<Option<Description>, ReadError> {
    let mut all = tabled(&root.root)?.into_iter();
    let Some((container, metadata, driver)) = all.find(|(c, ..)| c.id.as_bytes() == id) else {
        return Ok(None);
    };
    let text = |text: String| Some(BString::from(text)).filter(|t| !t.is_empty());
    let table = [&driver[..], b"-containers/containers.json"].concat();
    Ok(Some(Description {
        name: text(metadata.name),
        image: text(metadata.image_name),
        image_id: text(container.image).map(|id| with_algorithm(&id)),
        created: time(&container.created),
        user: root.user.clone(),
        path: root.root.join(&table),
        ..Description::default()
    }))
}

/// The uid of the user whose engine it is; `None` for the system's.
pub(super) fn uid_of(root: &StateRoot) -> Option<u32> {
    root.user.as_ref()?;
    let recorded = root.root.recorded_owner(b"");
    recorded.or_else(|| root.root.look(b"").ok().map(|look| look.uid))
}

/// Paths of the cgroup that a container has; none where it has none of its own, or that does not tell.
/// `uid` is whose rootless engine it is: such a one leaves cgroups to his manager, or makes none
/// (libpod/container_internal_linux.go).
pub(super) fn cgroups(config: &Config, uid: Option<u32>) -> Vec<BString> {
    if config.no_cgroups || matches!(config.cgroups_mode.as_str(), "disabled" | "split") {
        return Vec::new();
    }
    let id = &config.id;
    let parent = config.cgroup_parent.trim_matches('/');
    match (config.cgroup_manager.as_str(), uid) {
        ("systemd", _) => {
            let usual = if uid.is_some() { "user.slice" } else { "machine.slice" };
            let slice = parent.rsplit('/').next().filter(|s| s.ends_with(".slice"));
            let slice = segment::slice_path(slice.unwrap_or(usual).as_bytes());
            let above = uid.map(|uid| format!("/user.slice/user-{uid}.slice/user@{uid}.service"));
            vec![format!("{}{slice}/libpod-{id}.scope", above.unwrap_or_default()).into()]
        }
        // He can write down what he likes.
        (_, Some(_)) => Vec::new(),
        (_, None) => vec![format!("/{parent}/libpod-{id}").into()],
    }
}

/// Whether the log is the file that the configuration names.
fn is_file(driver: &str) -> bool {
    matches!(driver, "k8s-file" | "json-file" | "")
}

fn with_algorithm(id: &[u8]) -> BString {
    if segment::is_hex64(id) { [b"sha256:", id].concat().into() } else { id.into() }
}

/// The engine's word as its commands print it, and ours (libpod/define/containerstate.go).
fn state_words(state: i64) -> Option<(&'static str, ContainerState)> {
    match state {
        1 => Some(("created", ContainerState::Created)),
        2 => Some(("initialized", ContainerState::Created)),
        3 => Some(("running", ContainerState::Running)),
        4 => Some(("stopped", ContainerState::Exited)),
        5 => Some(("paused", ContainerState::Paused)),
        6 => Some(("exited", ContainerState::Exited)),
        7 => Some(("removing", ContainerState::Removing)),
        // It has processes until they end.
        8 => Some(("stopping", ContainerState::Running)),
        _ => None,
    }
}

/// The project that docker-compose and podman-compose put into labels.
fn compose(labels: &[(BString, BString)]) -> Option<Compose> {
    let label = |name: &str| labels.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
    let project =
        label("com.docker.compose.project").or_else(|| label("io.podman.compose.project"))?;
    Some(Compose { project, service: label("com.docker.compose.service") })
}

#[cfg(test)]
mod tests {
    use bstr::ByteSlice;

    use super::{cgroups, state_words};
    use crate::model::ContainerState;
    use crate::state::podman::Config;

    #[test]
    fn where_its_cgroup_is() {
        let paths = |manager: &str, mode: &str, parent: &str, uid| -> Vec<String> {
            let config = Config {
                id: "ab".into(),
                cgroup_manager: manager.into(),
                cgroups_mode: mode.into(),
                cgroup_parent: parent.into(),
                ..Config::default()
            };
            let paths = cgroups(&config, uid);
            paths.iter().map(|p| p.to_str_lossy().into_owned()).collect()
        };
        let rootful = paths("cgroupfs", "enabled", "/libpod_parent", None);
        assert_eq!(rootful, ["/libpod_parent/libpod-ab"]);
        let systemd = paths("systemd", "", "machine.slice", None);
        assert_eq!(systemd, ["/machine.slice/libpod-ab.scope"]);
        let in_pod =
            paths("systemd", "no-conmon", "machine.slice/machine-libpod_pod_aa.slice", None);
        assert_eq!(in_pod, ["/machine.slice/machine-libpod_pod_aa.slice/libpod-ab.scope"]);
        let users = paths("systemd", "enabled", "user.slice", Some(1000));
        let scope = "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ab.scope";
        assert_eq!(users, [scope]);
        for mode in ["disabled", "split"] {
            assert!(paths("systemd", mode, "machine.slice", None).is_empty());
        }
        assert!(paths("cgroupfs", "enabled", "/libpod_parent", Some(1000)).is_empty());
    }

    #[test]
    fn words_of_states() {
        assert_eq!(state_words(2), Some(("initialized", ContainerState::Created)));
        assert_eq!(state_words(8).unwrap().1, ContainerState::Running);
        assert_eq!((state_words(0), state_words(9)), (None, None));
    }
}
