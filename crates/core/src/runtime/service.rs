//! Daemons that can be asked over a socket: by what each is known to run, where it listens, and what
//! its words mean. Nothing is connected to here.

use bstr::{BString, ByteSlice};

use super::lxc::monitor;
use super::{Subject, segment};
use crate::model::daemon::Told;
use crate::model::{Compose, ContainerState, Description, Engine, Pod};
use crate::state::docker::time;

/// A kind of daemon.
#[derive(Debug)]
pub struct Service {
    /// Whose it is.
    pub engine: Engine,
    /// What the kernel calls its process.
    pub comm: &'static str,
    /// Files that hold its PID, beneath the root.
    pub pid_files: &'static [&'static str],
    /// The systemd units that run root's, each with the places of its socket beneath the root: there it
    /// listens unless told otherwise. A user's units have the same names.
    pub units: &'static [(&'static str, &'static [&'static str])],
    /// Where a user's does, beneath his runtime directory.
    pub users: &'static [&'static str],
    /// The variable of root's daemon that says where its directory is, and the socket beneath that.
    pub moved_by: Option<(&'static str, &'static str)>,
    /// Where one with these arguments listens; `None` for a process that is no daemon.
    pub listens: fn(&[BString]) -> Option<Listens>,
}

/// Where a daemon listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listens {
    /// At the sockets that its arguments name, which it makes.
    pub at: Vec<BString>,
    /// Whether it makes the usual one, if it has none from systemd.
    pub usual: bool,
    /// Whether it may have the usual one from systemd, which then began to listen.
    pub is_handed: bool,
}

/// Docker's.
pub(super) const DOCKER: Service = Service {
    engine: Engine("docker"),
    comm: "dockerd",
    pid_files: &["run/docker.pid", "var/run/docker.pid"],
    units: &[
        ("docker.service", &["run/docker.sock", "var/run/docker.sock"]),
        ("snap.docker.dockerd.service", &["run/docker.sock", "var/run/docker.sock"]),
    ],
    users: &["docker.sock"],
    moved_by: None,
    listens: dockerd,
};

/// Podman's, where it runs as a service.
pub(super) const PODMAN: Service = Service {
    engine: Engine("podman"),
    comm: "podman",
    pid_files: &[],
    units: &[("podman.service", &["run/podman/podman.sock"])],
    users: &["podman/podman.sock"],
    moved_by: None,
    listens: podman,
};

/// LXD's.
pub(super) const LXD: Service = Service {
    engine: Engine("lxd"),
    comm: "lxd",
    pid_files: &["var/snap/lxd/common/lxd.pid"],
    units: &[
        ("lxd.service", &["var/lib/lxd/unix.socket"]),
        ("snap.lxd.daemon.service", &["var/snap/lxd/common/lxd/unix.socket"]),
    ],
    users: &[],
    moved_by: Some(("LXD_DIR", "unix.socket")),
    listens: lxd,
};

/// Incus's.
pub(super) const INCUS: Service = Service {
    engine: Engine("incus"),
    comm: "incusd",
    pid_files: &[],
    units: &[("incus.service", &["run/incus/unix.socket", "var/lib/incus/unix.socket"])],
    users: &[],
    moved_by: Some(("INCUS_DIR", "unix.socket")),
    listens: lxd,
};

/// `-H` may be given several times; `fd://` stands for what systemd hands over. Without any, `daemon.json`
/// may say the same (moby cmd/dockerd/daemon.go, daemon/listeners).
fn dockerd(args: &[BString]) -> Option<Listens> {
    let mut listens = Listens::default();
    let mut named = false;
    for host in flags(args, &["H", "host"]) {
        named = true;
        listens.is_handed |= host.starts_with(b"fd://");
        listens.at.extend(socket(&host));
    }
    (listens.usual, listens.is_handed) = (!named, !named || listens.is_handed);
    Some(listens)
}

/// `podman system service [URI]`: without one it has systemd's socket, or makes the usual one (podman
/// cmd/podman/system/service.go).
fn podman(args: &[BString]) -> Option<Listens> {
    let words: Vec<&BString> = args.iter().skip(1).filter(|a| !a.starts_with(b"-")).collect();
    let at = words.iter().position(|word| *word == "service")?;
    (at > 0 && words[at - 1] == "system").then_some(())?;
    // Any address will do, tcp's too.
    let named: Vec<&&BString> = words[at + 1..].iter().filter(|w| w.contains(&b':')).collect();
    let usual = named.is_empty();
    let at = named.into_iter().filter_map(|word| socket(word)).collect();
    Some(Listens { at, usual, is_handed: usual })
}

/// The daemon has flags alone; its helpers and its client's commands begin with a word (lxd
/// lxd/main.go, incus cmd/incusd/main.go). Its monitors have a title of LXC's.
fn lxd(args: &[BString]) -> Option<Listens> {
    let is_flag = args.get(1).is_none_or(|first| first.starts_with(b"-"));
    let is_daemon = is_flag && monitor::titled(args).is_none();
    is_daemon.then(|| Listens { at: Vec::new(), usual: true, is_handed: true })
}

/// The path in `unix://PATH`.
fn socket(url: &[u8]) -> Option<BString> {
    let path = url.strip_prefix(b"unix:")?;
    let path = path.strip_prefix(b"//").unwrap_or(path);
    path.starts_with(b"/").then(|| path.into())
}

/// Every value of a flag: `-H x`, `-Hx`, `--host x`, `--host=x`.
fn flags(args: &[BString], names: &[&str]) -> Vec<BString> {
    let mut found = Vec::new();
    for (at, arg) in args.iter().enumerate() {
        for name in names {
            let glued = || {
                let rest = arg.strip_prefix(b"-")?.strip_prefix(name.as_bytes())?;
                (name.len() == 1 && !rest.is_empty() && !rest.starts_with(b"="))
                    .then(|| rest.into())
            };
            // The flag's own value alone: the next argument may be another's.
            let own = &args[at..args.len().min(at + 2)];
            let is_it = arg.trim_start_with(|c| c == '-').split_str("=").next();
            let own = is_it
                .filter(|word| *word == name.as_bytes() && arg.starts_with(b"-"))
                .and_then(|_| Subject::flag(own, name));
            found.extend(own.or_else(glued));
        }
    }
    found
}

/// What a daemon's words mean.
pub(super) fn description(told: &Told) -> Description {
    let label = |name: &str| told.labels.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
    let project =
        label("com.docker.compose.project").or_else(|| label("io.podman.compose.project"));
    let words = told.state.as_deref().and_then(state);
    let moment = |text: &Option<String>| text.as_deref().and_then(time);
    let image_id = told.image_id.clone().map(|id| match segment::is_hex64(&id) {
        true => [b"sha256:", id.as_slice()].concat().into(),
        false => id,
    });
    Description {
        name: told.name.clone(),
        image: told.image.clone(),
        image_id,
        compose: project
            .map(|project| Compose { project, service: label("com.docker.compose.service") }),
        labels: told.labels.clone(),
        engine_state: words.map(|w| w.0),
        believed: words.map(|w| w.1),
        created: moment(&told.created),
        started: moment(&told.started),
        pid: told.pid,
        pod: told.pod.clone().map(|(uid, name)| Pod { uid: Some(uid), name, ..Pod::default() }),
        is_sandbox: told.is_sandbox,
        log: told.log.clone(),
        is_hearsay: true,
        ..Description::default()
    }
}

/// The engines' words, and ours (moby api/types/container, podman libpod/define/containerstate.go, incus
/// shared/api/status_code.go).
fn state(word: &str) -> Option<(&'static str, ContainerState)> {
    const WORDS: [(&str, ContainerState); 14] = [
        ("configured", ContainerState::Created),
        ("created", ContainerState::Created),
        ("dead", ContainerState::Dead),
        ("error", ContainerState::Unknown),
        ("exited", ContainerState::Exited),
        ("frozen", ContainerState::Paused),
        ("initialized", ContainerState::Created),
        ("paused", ContainerState::Paused),
        ("removing", ContainerState::Removing),
        ("restarting", ContainerState::Restarting),
        ("running", ContainerState::Running),
        ("starting", ContainerState::Created),
        ("stopped", ContainerState::Exited),
        // It has processes until they end.
        ("stopping", ContainerState::Running),
    ];
    WORDS.into_iter().find(|(own, _)| *own == word)
}

#[cfg(test)]
mod tests {
    use bstr::BString;

    use super::{Listens, description, dockerd, lxd, podman};
    use crate::model::ContainerState;
    use crate::model::daemon::Told;

    fn args(line: &str) -> Vec<BString> {
        line.split(' ').map(BString::from).collect()
    }

    fn listens(at: &[&str], usual: bool, is_handed: bool) -> Option<Listens> {
        Some(Listens { at: at.iter().map(|p| (*p).into()).collect(), usual, is_handed })
    }

    #[test]
    fn where_dockerd_listens() {
        assert_eq!(dockerd(&args("dockerd")), listens(&[], true, true));
        assert_eq!(dockerd(&args("dockerd -H fd:// --debug")), listens(&[], false, true));
        let two = dockerd(&args("dockerd --data-root /x -H unix:///a --host=unix:///b"));
        assert_eq!(two, listens(&["/a", "/b"], false, false));
        assert_eq!(dockerd(&args("dockerd -Hunix:///a")), listens(&["/a"], false, false));
        assert_eq!(dockerd(&args("dockerd -H=unix:///a")), listens(&["/a"], false, false));
        // Nothing of this machine.
        assert_eq!(dockerd(&args("dockerd -H tcp://:2375")), listens(&[], false, false));
        assert_eq!(dockerd(&args("dockerd --label -H")), listens(&[], true, true));
    }

    #[test]
    fn what_is_no_service_listens_nowhere() {
        let usual = listens(&[], true, true);
        assert_eq!(podman(&args("podman system service")), usual);
        assert_eq!(podman(&args("/usr/bin/podman --log-level=info system service -t 0")), usual);
        let named = podman(&args("podman system service --time=0 unix:///p.sock"));
        assert_eq!(named, listens(&["/p.sock"], false, false));
        let elsewhere = podman(&args("podman system service tcp:localhost:8888"));
        assert_eq!(elsewhere, listens(&[], false, false));
        for other in ["podman ps", "podman", "podman run x service", "podman service"] {
            assert_eq!(podman(&args(other)), None, "{other}");
        }
        assert_eq!(lxd(&args("lxd --group lxd")), usual);
        assert_eq!(lxd(&args("lxd")), usual);
        assert_eq!(lxd(&args("lxd forkstart web")), None);
        assert_eq!(lxd(&["[lxc monitor] /var/lib/lxd/containers c1".into()]), None);
    }

    #[test]
    fn words_of_daemons() {
        let told = Told {
            image_id: Some("a".repeat(64).into()),
            labels: vec![("com.docker.compose.project".into(), "shop".into())],
            state: Some("stopped".into()),
            created: Some("1970-01-01T00:00:01.5Z".into()),
            ..Told::default()
        };
        let made = description(&told);
        assert_eq!(made.image_id.unwrap(), format!("sha256:{}", "a".repeat(64)));
        assert_eq!(made.compose.unwrap().project, "shop");
        assert_eq!(
            (made.engine_state, made.believed),
            (Some("stopped"), Some(ContainerState::Exited))
        );
        assert_eq!((made.created, made.started, made.is_hearsay), (Some(1500), None, true));
        let odd = description(&Told { state: Some("zen".into()), ..Told::default() });
        assert_eq!(odd.engine_state, None);
    }
}
