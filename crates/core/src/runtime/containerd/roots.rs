//! Where containerd keeps its two trees: usual places, `config.toml`, arguments of daemons, and what a
//! shim shows: it works in its bundle's directory.
//!
//! Sources: containerd defaults/defaults_linux.go, core/runtime/v2/shim.go (the shim's working
//! directory); k3s pkg/agent/config; microk8s default-args; moby daemon/internal/containerd/supervisor;
//! firecracker-containerd docs/getting-started.md; nerdctl extras/rootless.

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::root::{Links, Root};
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, Host, Mode, ReadError, parse};

use crate::model::Gap;
use crate::model::gap::what;
use crate::runtime::claim::Subject;
use crate::runtime::{FoundRoots, Hints, Inside, Monitor, StateRoot, User};
use crate::state::containerd::{bundle, config};

/// The tree of what is true while it runs, and where the other one may be, when nothing moves them.
const PLACES: [(&str, &[&str]); 6] = [
    ("/run/containerd", &["/var/lib/containerd"]),
    // k3s, and rke2.
    (
        "/run/k3s/containerd",
        &["/var/lib/rancher/k3s/agent/containerd", "/var/lib/rancher/rke2/agent/containerd"],
    ),
    ("/var/snap/microk8s/common/run/containerd", &["/var/snap/microk8s/common/var/lib/containerd"]),
    ("/run/docker/containerd/daemon", &["/var/lib/docker/containerd/daemon"]),
    ("/run/firecracker-containerd", &["/var/lib/firecracker-containerd/containerd"]),
    // Bottlerocket's second one.
    ("/run/host-containerd", &["/var/lib/host-containerd"]),
];
/// The configuration of the first.
const CONFIG: &str = "/etc/containerd/config.toml";
/// Units that run one.
const UNITS: [&str; 7] = [
    "containerd",
    "docker",
    "k3s",
    "k3s-agent",
    "rke2-server",
    "rke2-agent",
    "snap.microk8s.daemon-containerd",
];
/// Where units have their cgroups, on v2 and on v1 or hybrid hosts.
const SLICES: [&str; 3] = ["", "unified/", "systemd/"];
/// Shims of one unit that are asked where they work; all of one containerd say the same.
const MOST_SHIMS: usize = 16;

/// See `Runtime::roots`.
pub(super) fn find(host: &Host, hints: Hints<'_>) -> FoundRoots {
    let mut found = Finder { host, found: FoundRoots::default() };
    match hints {
        Hints::Default => {
            let configured = configured(host, BStr::new(CONFIG));
            for (at, (run, roots)) in PLACES.iter().enumerate() {
                let moved = configured.as_ref().filter(|(r, _)| at == 0 && r == run);
                match moved {
                    Some((run, root)) => found.open(run, std::slice::from_ref(root)),
                    None => found.open(run.as_bytes(), &texts(roots)),
                }
            }
            found.are_admins();
        }
        Hints::Configured => {
            if let Some((run, root)) = configured(host, BStr::new(CONFIG)) {
                found.open(&run, &[root]);
            }
            found.are_admins();
        }
        Hints::Running => found.running(),
        Hints::At(path) => found.at(path),
        Hints::Args(args) => found.of_args(args),
        Hints::Monitor(monitor) => found.of_monitor(monitor),
        Hints::User(user) => found.of_user(user),
        Hints::Inside(inside) => found.inside(inside),
        // They show layers, of which the state says nothing.
        Hints::Mounts(_) | Hints::UserInside(..) | Hints::Moved(_) => {}
    }
    found.found
}

fn texts(texts: &[&str]) -> Vec<BString> {
    texts.iter().map(|t| BString::from(*t)).collect()
}

/// The two trees by a configuration file.
fn configured(host: &Host, path: &BStr) -> Option<(BString, BString)> {
    let config = config::read(host, path)?;
    let (run, roots) = PLACES[0];
    let text =
        |said: Option<String>, usual: &str| said.filter(|s| !s.is_empty()).unwrap_or(usual.into());
    Some((text(config.state, run).into(), text(config.root, roots[0]).into()))
}

struct Finder<'h> {
    host: &'h Host,
    found: FoundRoots,
}

impl Finder<'_> {
    /// Opens a pair of trees, of which one may be missing. Where the other is when it is in none of
    /// these places, a bundle tells.
    fn open(&mut self, run: &[u8], roots: &[BString]) {
        let tree = self.tree(BStr::new(run));
        let mut root = None;
        for path in roots {
            root = root.or_else(|| self.tree(path.as_ref()));
        }
        if let (None, Some((run, _))) = (&root, &tree) {
            root = bundle::root_of(run).and_then(|path| self.tree(path.as_ref()));
        }
        match (tree, root) {
            (Some((tree, user)), Some((root, _))) => self.push(root, Some(tree), user),
            // Nothing that lasts is there to be read, or may be.
            (Some((tree, user)), None) => {
                if let Some((root, _)) = self.tree(BStr::new(run)) {
                    self.push(root, Some(tree), user);
                }
            }
            (None, Some((root, user))) => self.push(root, None, user),
            (None, None) => {}
        }
    }

    fn push(&mut self, root: Root, run: Option<Root>, user: Option<BString>) {
        self.found.roots.push(StateRoot::new(root, run, user));
    }

    /// One tree and whose it is. Its files count only if they belong to whom the directory belongs to.
    fn tree(&mut self, path: &BStr) -> Option<(Root, Option<BString>)> {
        match open_tree(self.host, path) {
            Ok(tree) => Some(tree),
            Err(e) => {
                self.problem(&e);
                None
            }
        }
    }

    fn problem(&mut self, e: &ReadError) {
        if e.class != Class::Gone {
            self.found.gaps.push(Gap::from_read(what::CONTAINERS, e));
        }
    }

    /// They were found where the administrator has them.
    fn are_admins(&mut self) {
        let of_admin = |found: StateRoot| {
            StateRoot::new(found.root.of_admin(), found.run.map(Root::of_admin), found.user)
        };
        self.found.roots =
            std::mem::take(&mut self.found.roots).into_iter().map(of_admin).collect();
    }

    /// The tree of what lasts at this path, with the other one if that is where it usually is.
    fn at(&mut self, path: &BStr) {
        let path = path.trim_end_with(|c| c == '/');
        let usual = PLACES.iter().find(|(_, roots)| roots.iter().any(|r| r.as_bytes() == path));
        let run = usual.map_or(&b""[..], |(run, _)| run.as_bytes());
        let run = (!run.is_empty()).then(|| self.tree(BStr::new(run))).flatten();
        if let Some((root, user)) = self.tree(BStr::new(path)) {
            self.push(root, run.map(|(run, _)| run), user);
        }
    }

    /// What a daemon's arguments say: its own, or those of a dockerd that runs one.
    fn of_args(&mut self, args: &[BString]) {
        let program = args.first().map_or(&b""[..], |a| a.as_slice());
        let program = program.rsplit_once_str("/").map_or(program, |(_, name)| name);
        let flag = |names: &[&str]| names.iter().find_map(|name| Subject::flag(args, name));
        if program == b"dockerd" {
            let tree = |named: Option<BString>, usual: &str| -> BString {
                [named.unwrap_or(usual.into()).as_slice(), b"/containerd/daemon"].concat().into()
            };
            let run = tree(flag(&["exec-root"]), "/var/run/docker");
            let root = tree(flag(&["data-root", "graph", "g"]), "/var/lib/docker");
            self.open(&run, &[root]);
        } else if program == b"containerd" {
            let file = flag(&["config", "c"]);
            let said =
                configured(self.host, file.as_ref().map_or(BStr::new(CONFIG), |f| f.as_ref()));
            let (run, root) = said.unzip();
            let run = flag(&["state"]).or(run).unwrap_or_else(|| PLACES[0].0.into());
            let root = flag(&["root"]).or(root).unwrap_or_else(|| PLACES[0].1[0].into());
            self.open(&run, &[root]);
        }
    }

    /// The state directory that a shim works in; or that of its containerd's socket.
    fn of_monitor(&mut self, monitor: &Monitor) {
        for run in states_of(&monitor.args, monitor.cwd.as_ref()) {
            let usual = PLACES.iter().find(|(place, _)| *place == run);
            let roots = usual.map(|(_, roots)| texts(roots)).unwrap_or_default();
            let tree = self.tree(run.as_ref());
            if tree.is_some_and(|(run, _)| run.has_dir(bundle::TASKS.as_bytes())) {
                return self.open(&run, &roots);
            }
        }
    }

    /// Daemons and shims in the cgroups of their units.
    fn running(&mut self) {
        let host = self.host;
        let mut asks: Vec<(Ask, bool)> = Vec::new();
        for (unit, slice) in UNITS.iter().flat_map(|u| SLICES.iter().map(move |s| (u, s))) {
            let path = format!("sys/fs/cgroup/{slice}system.slice/{unit}.service/cgroup.procs");
            let Ok(bytes) = host.root().read(path.as_bytes(), 64 * 1024) else { continue };
            let pids = bytes.lines().filter_map(|line| parse::decimal32(line.trim_ascii()));
            let mut shims = 0;
            for pid in pids {
                let Ok(stat) = host.process(pid).and_then(|p| p.stat()) else { continue };
                let is_shim = stat.comm.starts_with(b"containerd-shim");
                shims += usize::from(is_shim);
                let wanted = (is_shim && shims <= MOST_SHIMS) || stat.comm == "containerd";
                if wanted && !asks.iter().any(|(a, _)| a.pid == pid) {
                    let file = Slow::Cmdline;
                    asks.push((Ask { file, pid, start_ticks: stat.start_ticks }, is_shim));
                }
            }
        }
        let files: Vec<Ask> = asks.iter().map(|(ask, _)| *ask).collect();
        let mut seen: Vec<Option<BString>> = Vec::new();
        for ((ask, is_shim), read) in asks.iter().zip(host.slow_reads(&files)) {
            let Ok(bytes) = read else { continue };
            let args = parse::cmdline::parse(&bytes);
            if !*is_shim {
                self.of_args(&args);
                continue;
            }
            let address = Subject::flag(&args, "address");
            if !seen.contains(&address) {
                seen.push(address);
                let cwd = host.process(ask.pid).and_then(|p| p.link_text("cwd")).ok();
                self.of_monitor(&Monitor { args, cwd });
            }
        }
    }

    /// A user's own: its rootless script binds both into the engine's own mount namespace, from here.
    fn of_user(&mut self, user: &User) {
        let run = format!("{}/containerd", user.uid);
        let places = [
            (BStr::new("/run/user"), BStr::new(&run)),
            (user.home.as_ref(), BStr::new(".local/share/containerd")),
        ];
        let [run, root] =
            places.map(|(base, rel)| match self.host.owned_dir(base, rel, user.uid) {
                Ok(tree) => Some(tree),
                Err(e) => {
                    self.problem(&e);
                    None
                }
            });
        let name = name_of(self.host, user.uid);
        match (root, run) {
            (Some(root), run) => self.push(root, run, Some(name)),
            (None, Some(run)) => {
                let rel = format!("{}/containerd", user.uid);
                let again = self.host.owned_dir(places[0].0, BStr::new(&rel), user.uid);
                if let Ok(root) = again {
                    self.push(root, Some(run), Some(name));
                }
            }
            (None, None) => {}
        }
    }

    /// One in a container (a node of kind or k3d), by one of its processes.
    fn inside(&mut self, inside: &Inside<'_>) {
        let cwd = inside.process.link_text("cwd").ok();
        let mut runs = states_of(&inside.args, cwd.as_ref());
        runs.extend(PLACES[..2].iter().map(|(run, _)| BString::from(*run)));
        for run in runs {
            let tree = match inside.process.directory(run.as_ref()) {
                Ok(tree) if tree.has_dir(bundle::TASKS.as_bytes()) => tree,
                Ok(_) => continue,
                Err(e) => {
                    self.problem(&e);
                    continue;
                }
            };
            let usual = PLACES.iter().find(|(place, _)| *place == run);
            let mut roots: Vec<BString> = bundle::root_of(&tree).into_iter().collect();
            roots.extend(usual.map(|(_, roots)| texts(roots)).unwrap_or_default());
            // Without the other tree this one has to do.
            roots.push(run.clone());
            let root = roots.iter().find_map(|path| inside.process.directory(path.as_ref()).ok());
            if let Some(root) = root {
                return self.push(root, Some(tree), None);
            }
        }
    }
}

/// State directories that a shim's working directory and arguments tell of, the surest first.
fn states_of(args: &[BString], cwd: Option<&BString>) -> Vec<BString> {
    let works_in = cwd.and_then(|cwd| bundle::tree_of(cwd)).map(|(tree, ..)| BString::from(tree));
    let address = Subject::flag(args, "address");
    let beside = address.and_then(|a| a.rsplit_once_str("/").map(|(dir, _)| BString::from(dir)));
    let mut states: Vec<BString> = works_in.into_iter().chain(beside).collect();
    states.retain(|path| path.starts_with(b"/"));
    states.dedup();
    states
}

fn open_tree(host: &Host, path: &BStr) -> Result<(Root, Option<BString>), ReadError> {
    host.guard(path)?;
    if host.mode() == Mode::Saved {
        let owner = host.root().recorded_owner(path).filter(|uid| *uid != 0);
        let root = host.root().descend(path, Links::Never, None)?;
        return Ok((root, owner.map(|uid| name_of(host, uid))));
    }
    let uid = host.root().look(path)?.uid;
    let root = host.root().descend(path, Links::Never, Some(uid))?;
    Ok((root, (uid != 0).then(|| name_of(host, uid))))
}

fn name_of(host: &Host, uid: u32) -> BString {
    host.user_name(uid).map_or_else(|| uid.to_string().into(), BString::from)
}

#[cfg(test)]
mod tests {
    use bstr::BString;

    use super::states_of;

    #[test]
    fn a_shim_tells_where_its_state_is() {
        let args = ["shim", "-address", "/lab/c/containerd.sock"].map(BString::from);
        let cwd = BString::from("/srv/state/io.containerd.runtime.v2.task/default/x");
        assert_eq!(states_of(&args, Some(&cwd)), ["/srv/state", "/lab/c"]);
        assert_eq!(states_of(&args, Some(&"/".into())), ["/lab/c"]);
        let usual = ["shim", "-address", "/run/containerd/containerd.sock"].map(BString::from);
        let cwd = BString::from("/run/containerd/io.containerd.runtime.v2.task/k8s.io/x");
        assert_eq!(states_of(&usual, Some(&cwd)), ["/run/containerd"]);
        let odd = ["shim", "-address", "relative.sock"].map(BString::from);
        assert_eq!(states_of(&odd, None), Vec::<BString>::new());
    }
}
