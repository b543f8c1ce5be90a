//! Pods, made over the Container Runtime Interface as the kubelet makes them: its cgroups, labels,
//! log directories and names.
//!
//! The calls are made by a script in Python, whose gRPC is in Debian.

use crate::call::output;
use crate::containerd::{Containerd, IMAGE};
use crate::procfs;
use crate::require::Needs;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Makes one call, see its head.
pub const SCRIPT: &str = include_str!("call.py");
/// Debian's, whose modules are Debian's too.
pub const PYTHON: &str = "/usr/bin/python3";
/// Where Debian has the plugins of the Container Network Interface.
pub(crate) const PLUGINS: &str = "/usr/lib/cni";
/// How long a call may take.
const CALL: Duration = Duration::from_secs(120);

/// The quality of service, which says where the pod's cgroup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words are Kubernetes'")]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// Who makes the cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words are the kubelet's")]
pub enum Driver {
    Cgroupfs,
    Systemd,
}

/// Which namespaces of the node a pod uses, or shares among its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces {
    /// `hostNetwork`.
    pub host_network: bool,
    /// `shareProcessNamespace`.
    pub shared_pids: bool,
}

impl Namespaces {
    fn options(self) -> Value {
        // 0 is the pod's, 1 the container's, 2 the node's.
        json!({"network": if self.host_network { 2 } else { 0 }, "pid": u8::from(!self.shared_pids)})
    }
}

/// A pod as the kubelet knows it.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: with dashes, or 32 hex digits for a static pod.
    pub uid: String,
    /// Its quality of service.
    pub qos: Qos,
    /// Who makes its cgroups.
    pub driver: Driver,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// The runtime handler, the default one when empty.
    pub handler: String,
    /// The kubelet's cgroup root, e.g. `/kubelet` as kind has it; none when empty.
    pub root: String,
}

impl Pod {
    /// A burstable pod with namespaces of its own.
    #[must_use]
    pub fn new(namespace: &str, name: &str, uid: &str) -> Pod {
        Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            qos: Qos::Burstable,
            driver: Driver::Cgroupfs,
            namespaces: Namespaces::default(),
            handler: String::new(),
            root: String::new(),
        }
    }

    /// Its cgroup.
    #[must_use]
    pub fn cgroup(&self) -> String {
        let class = match self.qos {
            Qos::Guaranteed => "",
            Qos::Burstable => "burstable",
            Qos::BestEffort => "besteffort",
        };
        let (root, uid, slice) = (&self.root, &self.uid, self.uid.replace('-', "_"));
        match self.driver {
            Driver::Cgroupfs if class.is_empty() => format!("{root}/kubepods/pod{uid}"),
            Driver::Cgroupfs => format!("{root}/kubepods/{class}/pod{uid}"),
            Driver::Systemd if class.is_empty() => {
                format!("/kubepods.slice/kubepods-pod{slice}.slice")
            }
            Driver::Systemd => {
                let of_class = format!("kubepods-{class}");
                format!("/kubepods.slice/{of_class}.slice/{of_class}-pod{slice}.slice")
            }
        }
    }

    /// The cgroup of one of its containers, or of its sandbox.
    #[must_use]
    pub fn cgroup_of(&self, id: &str) -> String {
        match self.driver {
            Driver::Cgroupfs => format!("{}/{id}", self.cgroup()),
            Driver::Systemd => format!("{}/cri-containerd-{id}.scope", self.cgroup()),
        }
    }

    /// The name of its log directory.
    #[must_use]
    pub fn log_name(&self) -> String {
        format!("{}_{}_{}", self.namespace, self.name, self.uid)
    }

    fn labels(&self) -> Value {
        json!({
            "io.kubernetes.pod.name": self.name,
            "io.kubernetes.pod.namespace": self.namespace,
            "io.kubernetes.pod.uid": self.uid,
        })
    }

    /// What the engine is told of it; `logs` is where the log directories of pods are.
    #[must_use]
    pub fn config(&self, logs: &Path) -> Value {
        let hostname = if self.namespaces.host_network { "" } else { &self.name };
        json!({
            "metadata": {"name": self.name, "uid": self.uid, "namespace": self.namespace},
            "hostname": hostname,
            "log_directory": logs.join(self.log_name()),
            "labels": self.labels(),
            "annotations": {"kubernetes.io/config.source": "api"},
            "linux": {
                "cgroup_parent": self.cgroup(),
                "security_context": {"namespace_options": self.namespaces.options()}
            }
        })
    }

    /// What the engine is told of one of its containers, which runs these words on [`IMAGE`].
    #[must_use]
    pub fn container(&self, name: &str, attempt: u32, words: &[&str]) -> Value {
        let mut labels = self.labels();
        labels["io.kubernetes.container.name"] = name.into();
        json!({
            "metadata": {"name": name, "attempt": attempt},
            "image": {"image": IMAGE},
            "command": words,
            "labels": labels,
            "annotations": {
                "io.kubernetes.container.restartCount": attempt.to_string(),
                "io.kubernetes.pod.terminationGracePeriod": "30"
            },
            "log_path": log_of(name, attempt),
            "linux": {
                "resources": {"cpu_shares": 102},
                "security_context": {"namespace_options": self.namespaces.options()}
            }
        })
    }

    /// What the kubelet calls its link to a container's log.
    #[must_use]
    pub fn link_of(&self, name: &str, id: &str) -> String {
        format!("{}_{}_{name}-{id}.log", self.name, self.namespace)
    }
}

/// The log of a container in its pod's directory.
fn log_of(name: &str, attempt: u32) -> String {
    format!("{name}/{attempt}.log")
}

/// A CRI endpoint: that of a containerd.
#[derive(Debug)]
pub struct Cri<'a> {
    containerd: &'a Containerd,
    script: PathBuf,
}

/// What this needs and the machine has not.
pub(crate) fn missing() -> Option<String> {
    let programs = ["containerd", "ctr", "containerd-shim-runc-v2", "runc", "busybox", "catatonit"];
    let program = programs.iter().find_map(|program| Needs(program).missing());
    let plugin = || (!Path::new(PLUGINS).join("bridge").exists()).then(|| "no CNI plugins".into());
    let module = || {
        let found = Command::new(PYTHON).args(["-c", "import grpc"]).stderr(Stdio::null()).status();
        (!found.is_ok_and(|s| s.success())).then(|| format!("{PYTHON} has no module grpc"))
    };
    program.or_else(plugin).or_else(module)
}

impl<'a> Cri<'a> {
    /// Of a containerd that was started with [`crate::containerd::ContainerdOptions::cri`].
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn of(containerd: &'a Containerd) -> Cri<'a> {
        let script = containerd.dir().join("call.py");
        std::fs::write(&script, SCRIPT).expect("the script");
        let cri = Cri { containerd, script };
        // It begins to serve after the daemon answers.
        procfs::wait_for("CRI", Duration::from_secs(30), || cri.call("Version", &json!({})).ok());
        cri
    }

    /// One call; the response.
    ///
    /// # Errors
    /// What the engine said.
    pub fn call(&self, method: &str, request: &Value) -> Result<Value, String> {
        let input = self.containerd.dir().join("request.json");
        std::fs::write(&input, request.to_string()).map_err(|e| format!("request: {e}"))?;
        let mut command = Command::new("sh");
        command
            .env_clear()
            .args(["-c", r#"exec "$0" "$1" "$2" "$3" <"$4""#, PYTHON])
            .arg(&self.script)
            .arg(self.containerd.socket())
            .arg(method)
            .arg(&input);
        let out = output(&mut command, CALL)?;
        if !out.status.success() {
            return Err(String::from_utf8_lossy(&out.stderr).trim_end().to_owned());
        }
        serde_json::from_slice(&out.stdout).map_err(|e| format!("{method}: {e}"))
    }

    #[track_caller]
    fn must(&self, method: &str, request: &Value) -> Value {
        let log = || self.containerd.log_tail();
        self.call(method, request).unwrap_or_else(|e| panic!("{e}\n{}", log()))
    }

    /// Where pods' log directories are; `/var/log/pods` on a real host.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.containerd.dir().join("pods")
    }

    /// Starts a pod's sandbox; its id.
    ///
    /// # Errors
    /// What the engine said.
    pub fn run_pod(&self, pod: &Pod) -> Result<String, String> {
        let request = json!({"config": pod.config(&self.logs()), "runtime_handler": pod.handler});
        let told = self.call("RunPodSandbox", &request)?;
        Ok(told["pod_sandbox_id"].as_str().unwrap_or_default().to_owned())
    }

    /// Starts a container in a pod; its id. The attempt counts its restarts. The link that the
    /// kubelet makes in `/var/log/containers` is made too.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn run(
        &self,
        pod: &Pod,
        sandbox: &str,
        name: &str,
        attempt: u32,
        words: &[&str],
    ) -> String {
        let log = log_of(name, attempt);
        let logs = self.logs().join(pod.log_name());
        std::fs::create_dir_all(logs.join(name)).expect("a log directory");
        let request = json!({
            "pod_sandbox_id": sandbox,
            "config": pod.container(name, attempt, words),
            "sandbox_config": pod.config(&self.logs())
        });
        let told = self.must("CreateContainer", &request);
        let id = told["container_id"].as_str().expect("an id").to_owned();
        self.must("StartContainer", &json!({"container_id": id}));
        let link = Path::new("/var/log/containers").join(pod.link_of(name, &id));
        self.containerd.link(&link, &logs.join(log));
        id
    }

    /// Stops a container at once.
    ///
    /// # Panics
    /// When it can't.
    #[track_caller]
    pub fn stop(&self, id: &str) {
        self.must("StopContainer", &json!({"container_id": id, "timeout": 0}));
    }

    /// `ContainerStatus`; the verbose part, which is JSON, is in its `info`.
    ///
    /// # Panics
    /// When there is no such container.
    #[must_use]
    #[track_caller]
    pub fn container(&self, id: &str) -> Value {
        let told = self.must("ContainerStatus", &json!({"container_id": id, "verbose": true}));
        with_info(told)
    }

    /// `PodSandboxStatus`, likewise.
    ///
    /// # Panics
    /// When there is no such sandbox.
    #[must_use]
    #[track_caller]
    pub fn sandbox(&self, id: &str) -> Value {
        let told = self.must("PodSandboxStatus", &json!({"pod_sandbox_id": id, "verbose": true}));
        with_info(told)
    }

    /// `ListContainers`.
    ///
    /// # Panics
    /// When the engine does not answer.
    #[must_use]
    #[track_caller]
    pub fn containers(&self) -> Vec<Value> {
        let told = self.must("ListContainers", &json!({}));
        told["containers"].as_array().cloned().unwrap_or_default()
    }
}

/// The status with the verbose part beneath `info`.
fn with_info(mut told: Value) -> Value {
    let info = told["info"]["info"].as_str().unwrap_or("null");
    let info: Value = serde_json::from_str(info).expect("the verbose part is JSON");
    let mut status = told["status"].take();
    status["info"] = info;
    status
}
