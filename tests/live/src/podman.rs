//! What `whose` says of a container of podman's, compared with what `podman inspect` says.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;
use whose_testkit::facts::Facts;
use whose_testkit::harness::Whose;
use whose_testkit::podman::{Podman, PodmanOptions};
use whose_testkit::procfs;

use crate::{pid_of, whose};

/// What all tests with a podman need.
pub const NEEDS: &[&str] = &["root", "podman", "conmon", "runc", "busybox", "mount-namespace"];
/// The image that [`start`] makes.
pub const IMAGE: &str = "localhost/whose-lab:1";

/// Sets a podman up, with [`IMAGE`].
///
/// # Panics
/// When it does not work.
#[must_use]
pub fn start(options: PodmanOptions) -> Podman {
    let podman = options.start().unwrap_or_else(|e| panic!("{e}"));
    podman.layered_image_with(IMAGE, 2, |_, _| ());
    podman
}

/// Who asks, and by which targets.
#[derive(Debug, Clone)]
pub struct Asking {
    whose: Whose,
    /// Targets besides the init's PID and the id.
    targets: Vec<String>,
    /// What OWNER is to read.
    label: String,
    /// Its engine is in a container: its paths are none of the host's.
    nested: bool,
}

impl Asking {
    /// Root asks.
    #[must_use]
    pub fn root(targets: &[&str], label: impl Into<String>) -> Asking {
        Asking::with(whose(), targets, label)
    }

    /// This command asks.
    #[must_use]
    pub fn with(whose: Whose, targets: &[&str], label: impl Into<String>) -> Asking {
        let targets = targets.iter().map(|target| (*target).to_owned()).collect();
        Asking { whose, targets, label: label.into(), nested: false }
    }

    /// About a container that an engine in a container runs.
    #[must_use]
    pub fn nested(self) -> Asking {
        Asking { nested: true, ..self }
    }

    /// The only answer for a target.
    ///
    /// # Panics
    /// When it is not found.
    #[must_use]
    #[track_caller]
    pub fn answer(&self, target: &str) -> Value {
        let run = self.whose.clone().args(["--json", target]).run().expect_code(0);
        run.json()["answers"][0].clone()
    }

    /// What `whose pids` prints.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    #[track_caller]
    pub fn pids(&self, target: &str) -> BTreeSet<u32> {
        let run = self.whose.clone().args(["pids", target]).run().expect_code(0);
        run.pids().into_iter().collect()
    }

    /// All that is said of a container: by its targets, by its id, by its init. `inspected` is podman's
    /// own, `init` the PID here; the number of facts compared.
    ///
    /// # Panics
    /// When a fact is wrong.
    #[track_caller]
    pub fn check(&self, podman: &Podman, inspected: &Value) -> usize {
        let init = pid_of(&inspected["State"]["Pid"]).filter(|pid| *pid > 0).expect("it runs");
        let user = podman.user().map(|user| user.name().to_owned());
        let pod = inspected["Pod"].as_str().filter(|pod| !pod.is_empty());
        let pod = pod.map(|pod| podman.cli(&["pod", "inspect", "--format", "{{.Name}}", pod]));
        self.check_at(inspected, init, user.as_deref(), pod.as_deref())
    }

    /// As [`Asking::check`], of a podman that some other way was asked.
    ///
    /// # Panics
    /// When a fact is wrong.
    #[track_caller]
    pub fn check_at(
        &self,
        inspected: &Value,
        init: u32,
        user: Option<&str>,
        pod: Option<&str>,
    ) -> usize {
        let id = inspected["Id"].as_str().expect("an id");
        let mut facts = Facts::about(format!("podman's {}", self.label));
        let told = self.answer(&init.to_string());
        same_owner(&mut facts, &told["owner"], inspected);
        let log = &inspected["HostConfig"]["LogConfig"];
        let is_file = log["Type"] != "journald" && !self.nested;
        let log = if is_file { log["Path"].clone() } else { Value::Null };
        facts.same("log", told["owner"]["log"].clone(), log);
        facts.same("init_pid", told["owner"]["init_pid"].clone(), json!(init));
        facts.same("user", told["owner"]["user"].as_str(), user);
        facts.same("pod.name", told["owner"]["pod"]["name"].as_str(), pod);
        let role = if inspected["IsInfra"] == true { "sandbox" } else { "init" };
        facts.same("role", told["process"]["role"].clone(), json!(role));
        facts.same("gaps of its owner", owner_gaps(&told), Vec::<Value>::new());
        let ids = [id, &id[..20]];
        for target in self.targets.iter().map(String::as_str).chain(ids) {
            let by_name = self.answer(target);
            facts.same(target, by_name["owner"].clone(), told["owner"].clone());
        }
        let list = self.whose.clone().args(["ps", "--no-headers", "-o", "owner"]);
        let table = list.arg(init.to_string()).run();
        facts.same("OWNER", table.expect_code(0).stdout_str().trim(), self.label.as_str());
        facts.finish(12)
    }
}

/// Gaps of an answer that are about its owner: what an ordinary user may not see of a process is none.
fn owner_gaps(told: &Value) -> Vec<Value> {
    let of = ["membership", "container description", "container state", "containers of an engine"];
    let of_owner = |gap: &&Value| gap["what"].as_str().is_some_and(|what| of.contains(&what));
    told["gaps"].as_array().into_iter().flatten().filter(of_owner).cloned().collect()
}

/// Milliseconds of a time, however it is written; the engine's "never" is none.
fn ms(value: &Value) -> Option<i64> {
    let text = value.as_str().filter(|text| !text.starts_with("0001-01-01"))?;
    let out = Command::new("date").args(["-u", "+%s%3N", "-d", text]).output().ok()?;
    String::from_utf8_lossy(&out.stdout).trim().parse().ok()
}

/// An owner by what podman says of the container.
pub fn same_owner(facts: &mut Facts, owner: &Value, inspected: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let sandbox = inspected["IsInfra"] == true;
    facts.same("kind", owner["kind"].clone(), json!(if sandbox { "sandbox" } else { "container" }));
    facts.same("runtime", owner["runtime"].clone(), json!("podman"));
    facts.same("id", owner["id"].clone(), inspected["Id"].clone());
    facts.same("name", owner["name"].clone(), inspected["Name"].clone());
    // With a directory as its root it has no image.
    let image = Some(text(&inspected["ImageName"])).filter(|image| !image.is_empty());
    facts.same("image", owner["image"].as_str(), image.as_deref());
    let image_id = Some(text(&inspected["Image"])).filter(|id| !id.is_empty());
    let image_id = image_id.map(|id| format!("sha256:{id}"));
    facts.same("image_id", owner["image_id"].as_str(), image_id.as_deref());
    let labels = inspected["Config"]["Labels"].as_object().cloned().unwrap_or_default();
    let told = owner["labels"].as_object().cloned().unwrap_or_default();
    facts.same("labels", told, labels);
    let status = text(&inspected["State"]["Status"]);
    facts.same("state", owner["state"].as_str(), Some(status.as_str()));
    facts.same("engine_state", owner["engine_state"].as_str(), Some(status.as_str()));
    facts.holds("created", ms(&owner["created"]).is_some(), &owner["created"]);
    facts.same("created", ms(&owner["created"]), ms(&inspected["Created"]));
    facts.same("started", ms(&owner["started"]), ms(&inspected["State"]["StartedAt"]));
    let pod = inspected["Pod"].as_str().filter(|pod| !pod.is_empty());
    facts.same("pod.uid", owner["pod"]["uid"].as_str(), pod);
}

/// The containers of `whose ls -a --json`.
///
/// # Panics
/// When it fails.
#[must_use]
pub fn listed(whose: &Whose) -> Vec<Value> {
    let list = whose.clone().args(["ls", "-a", "--json"]).run().expect_code(0).json();
    list["containers"].as_array().expect("a list").clone()
}

/// The process that sleeps that long; `seconds` is to be no other's.
///
/// # Panics
/// When there is none after a while.
#[must_use]
pub fn sleeping(seconds: &str) -> u32 {
    let is_it = |pid: &u32| procfs::args(*pid).is_some_and(|a| a.ends_with(&[seconds.into()]));
    let sleeps =
        |pid: &u32| procfs::comm(*pid).is_some_and(|comm| comm == "busybox" || comm == "sleep");
    procfs::wait_for(seconds, Duration::from_secs(20), || {
        procfs::pids().into_iter().find(|pid| sleeps(pid) && is_it(pid))
    })
}
