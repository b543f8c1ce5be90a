//! Nodes of Kubernetes in containers, as kind and k3d make them: in a container of Docker's the host's own
//! containerd, which is told over CRI what a kubelet tells it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use whose_testkit::containerd::{IMAGE, PAUSE};
use whose_testkit::cri::{PYTHON, Pod, SCRIPT};
use whose_testkit::docker::{Docker, archive, busybox_rootfs};
use whose_testkit::{procfs, which};

use crate::inner::outer_root;

/// How long the engine may take until it answers.
const START: Duration = Duration::from_secs(60);
/// Where pods' logs are on a node.
const LOGS: &str = "/var/log/pods";

/// How a tool makes its nodes.
#[derive(Clone, Copy, Debug)]
pub struct Kind<'k> {
    /// The container's image.
    pub image: &'k str,
    /// Its labels.
    pub labels: &'k [(&'k str, &'k str)],
    /// containerd's `root` on it.
    pub root: &'k str,
    /// Its `state`.
    pub state: &'k str,
}

/// A node that runs; it goes with its Docker.
#[derive(Debug)]
pub struct Node<'d> {
    docker: &'d Docker,
    work: &'d Path,
    socket: String,
    name: String,
    /// The container's id.
    pub id: String,
}

impl<'d> Node<'d> {
    /// Starts one; `work` is a directory of its own, below which its containerd keeps everything that lasts.
    ///
    /// # Panics
    /// When it does not start, or does not answer.
    #[must_use]
    pub fn start(docker: &'d Docker, work: &'d Path, name: &str, kind: Kind<'_>) -> Node<'d> {
        let files = work.join("node");
        for dir in [&files, &work.join("data")] {
            std::fs::create_dir_all(dir).expect("a directory of the node");
        }
        let socket = format!("{}/containerd.sock", kind.state);
        std::fs::write(files.join("config.toml"), config(kind, &socket)).expect("config.toml");
        std::fs::write(files.join("call.py"), SCRIPT).expect("call.py");
        images(work, &files);
        // What docker mounts read-only is its cgroups.
        let script = "#!/bin/bash\nawk '$3 ~ /^cgroup/ {print $2}' /proc/mounts | while read -r m; do \
                      mount -o remount,bind,rw \"$m\"; done\n\
                      containerd --config /node/config.toml &\nwait\n";
        let root = outer_root(work, script);
        let tar = root.with_extension("tar");
        let mut pack = Command::new("tar");
        let packed = pack.arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status();
        assert!(packed.is_ok_and(|s| s.success()), "{pack:?}");
        let changes = ["ENV PATH=/usr/sbin:/usr/bin", "CMD [\"/start.sh\"]"];
        let changes = changes.iter().flat_map(|change| ["--change", change]);
        let import: Vec<&str> = ["import"].into_iter().chain(changes).collect();
        docker.cli(&[&import[..], &[tar.to_str().expect("text"), kind.image]].concat());
        let bind = |from: &Path, to: &str, how: &str| format!("{}:{to}{how}", from.display());
        let volumes = [
            bind(Path::new("/usr"), "/usr", ":ro"),
            bind(Path::new("/etc/alternatives"), "/etc/alternatives", ":ro"),
            bind(&files, "/node", ""),
            bind(&work.join("data"), kind.root, ""),
        ];
        let mut args = vec!["--name", name, "--cap-add=ALL", "--cap-drop=SYS_RESOURCE"];
        args.extend(["--security-opt", "seccomp=unconfined", "--tmpfs", "/run:exec,dev,suid"]);
        args.extend(["--security-opt", "systempaths=unconfined", "--device-cgroup-rule=a *:* rwm"]);
        args.extend(volumes.iter().flat_map(|volume| ["-v", volume]));
        let labels: Vec<String> = kind.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        args.extend(labels.iter().flat_map(|label| ["--label", label]));
        args.push(kind.image);
        let id = docker.run(&args);
        let node = Node { docker, work, socket, name: name.to_owned(), id };
        procfs::wait_for("the node's CRI", START, || node.call("Version", &json!({})).ok());
        for image in ["pause", "image"] {
            let file = format!("/node/{image}.tar");
            let import = ["/usr/bin/ctr", "-a", &node.socket, "-n", "k8s.io", "images", "import"];
            node.run(&[&import[..], &[&file]].concat());
        }
        node
    }

    /// Runs words on the node.
    ///
    /// # Panics
    /// When they fail.
    pub fn run(&self, words: &[&str]) -> String {
        self.docker.cli(&[&["exec", &self.name][..], words].concat())
    }

    /// One call of CRI on the node.
    ///
    /// # Errors
    /// What the engine said.
    pub fn call(&self, method: &str, request: &Value) -> Result<Value, String> {
        let file = self.work.join("node/request.json");
        std::fs::write(file, request.to_string()).map_err(|e| e.to_string())?;
        let call =
            format!("exec {PYTHON} /node/call.py {} {method} </node/request.json", self.socket);
        let told = self.docker.try_cli(&["exec", &self.name, "/bin/bash", "-c", &call])?;
        serde_json::from_str(&told).map_err(|e| format!("{method}: {e}: {told}"))
    }

    /// Starts a pod with one container, and makes the kubelet's link to its log: the ids of the sandbox and
    /// of the container.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn pod(&self, pod: &Pod, container: &str, words: &[&str]) -> [String; 2] {
        let must = |method: &str, request: Value| {
            self.call(method, &request).unwrap_or_else(|e| panic!("{method}: {e}"))
        };
        let text = |told: &Value, key: &str| told[key].as_str().expect("an id").to_owned();
        let sandbox_config = pod.config(Path::new(LOGS));
        let told = must("RunPodSandbox", json!({"config": sandbox_config, "runtime_handler": ""}));
        let sandbox = text(&told, "pod_sandbox_id");
        let logs = format!("{LOGS}/{}/{container}", pod.log_name());
        self.run(&["/bin/mkdir", "-p", &logs, "/var/log/containers"]);
        let create = json!({
            "pod_sandbox_id": sandbox,
            "config": pod.container(container, 0, words),
            "sandbox_config": sandbox_config
        });
        let id = text(&must("CreateContainer", create), "container_id");
        must("StartContainer", json!({"container_id": id}));
        let link = format!("/var/log/containers/{}", pod.link_of(container, &id));
        self.run(&["/bin/ln", "-s", &format!("{logs}/0.log"), &link]);
        [sandbox, id]
    }

    /// `ContainerStatus` of CRI.
    ///
    /// # Panics
    /// When there is no such container.
    #[must_use]
    pub fn status(&self, id: &str) -> Value {
        let request = json!({"container_id": id, "verbose": false});
        let told = self.call("ContainerStatus", &request).unwrap_or_else(|e| panic!("{e}"));
        told["status"].clone()
    }
}

/// containerd's configuration. A machine may forbid to lower the score of the OOM killer.
fn config(kind: Kind<'_>, socket: &str) -> String {
    let cri = "io.containerd.grpc.v1.cri";
    format!(
        "version = 2\nroot = {:?}\nstate = {:?}\n[grpc]\n  address = {socket:?}\n\
         [plugins.{cri:?}]\n  sandbox_image = {PAUSE:?}\n  disable_apparmor = true\n  \
         restrict_oom_score_adj = true\n  stream_server_address = \"127.0.0.1\"\n  \
         stream_server_port = \"0\"\n",
        kind.root, kind.state
    )
}

/// Archives of both images, in `files`.
fn images(work: &Path, files: &Path) {
    let pause = work.join("pause");
    std::fs::create_dir_all(pause.join("rootfs")).expect("a directory of the image");
    let catatonit = which("catatonit").expect("catatonit is installed");
    std::fs::copy(catatonit, pause.join("rootfs/pause")).expect("a copy of catatonit");
    let entry = json!({"Entrypoint": ["/pause", "-P"]});
    let made = archive(&pause, PAUSE, &[pause.join("rootfs")], &entry);
    std::fs::copy(made, files.join("pause.tar")).expect("the pause image");
    let busybox = work.join("busybox-image");
    let rootfs = busybox_rootfs(&busybox);
    let made = archive(&busybox, IMAGE, &[rootfs], &json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]}));
    std::fs::copy(made, files.join("image.tar")).expect("the image");
}
