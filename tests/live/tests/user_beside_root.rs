//! An ordinary user beside root on one host with many kinds of containers: what root is told and the
//! user is not is just what `whose doctor` tells the user that he can't read.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use whose_live_tests::podman::{self, IMAGE as PODMAN_IMAGE, NEEDS};
use whose_live_tests::sleeper::{Sleeper, seconds, sleeping};
use whose_live_tests::{alone, compared, pid_of, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::{Docker, IMAGE, View, busybox_rootfs};
use whose_testkit::facts::Facts;
use whose_testkit::harness::Whose;
use whose_testkit::lxc::Lxc;
use whose_testkit::nspawn::Nspawn;
use whose_testkit::podman::Podman;
use whose_testkit::require;
use whose_testkit::users::LabUser;

/// What runs, each with the PID of one process; dropped in this order.
struct Rig {
    /// Of which kind each process is.
    pids: BTreeMap<u32, &'static str>,
    /// Ids of containers that were started here.
    ids: BTreeSet<String>,
    sleepers: Vec<Sleeper>,
    docker: Docker,
    podman: Podman,
    _lxc: Lxc,
    _nspawn: Nspawn,
    _other: LabUser,
    _work: tempfile::TempDir,
}

/// As this user, without any capability.
fn as_user(user: &LabUser, words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user.name(), "--regid", user.name(), "--clear-groups"]);
    command.args(["--inh-caps=-all", "--bounding-set=-sys_ptrace"]).args(words);
    command.current_dir("/").env("HOME", user.home());
    command
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

impl Rig {
    fn start() -> Rig {
        let podman = podman::start(Podman::options().rootless());
        let docker = Docker::options(View::V2).start().unwrap_or_else(|e| panic!("{e}"));
        docker.image();
        let other = LabUser::new().unwrap_or_else(|e| panic!("{e}"));
        let work = tempfile::tempdir().unwrap();
        let mut rig = Rig {
            pids: BTreeMap::new(),
            ids: BTreeSet::new(),
            sleepers: Vec::new(),
            docker,
            podman,
            _lxc: Lxc::new(),
            _nspawn: Nspawn::new(),
            _other: other,
            _work: work,
        };
        rig.engines();
        rig.machines();
        rig.sandboxes();
        rig.outside();
        rig
    }

    fn user(&self) -> &LabUser {
        self.podman.user().expect("it is a user's")
    }

    /// The asking user's command.
    fn asked(&self) -> Whose {
        whose().as_user(self.user().uid(), self.user().uid())
    }

    fn engines(&mut self) {
        let uid = self.user().uid().to_string();
        for (kind, name, user) in [("docker", "web", "0"), ("docker, of his uid", "his", &*uid)] {
            let name = unique(name);
            let options = ["--name", &name, "--label", "a=b", "--user", user, IMAGE];
            let id = self.docker.run(&[&options[..], &["sleep", "10000"]].concat());
            self.pids.insert(self.docker.init_pid(&id), kind);
            self.ids.insert(id);
        }
        let stopped = unique("fresh");
        self.ids.insert(self.docker.create(&["--name", &stopped, IMAGE, "true"]));
        let own = seconds();
        let words = ["--name", &unique("db"), PODMAN_IMAGE, "/bin/busybox", "sleep", &own];
        let id = self.podman.run(&words);
        self.pids.insert(self.podman.init_pid(&id), "his podman");
        self.ids.insert(id);
        let stopped = unique("ended");
        let words = ["create", "--network", "none", "--name", &stopped, PODMAN_IMAGE, "true"];
        let id = self.podman.cli(&words);
        self.ids.insert(id.lines().last().expect("an id").to_owned());
    }

    fn machines(&mut self) {
        let name = unique("guest");
        let root = format!("dir:{}", busybox_rootfs(self._lxc.path()).display());
        let own = seconds();
        let init = format!("/bin/sleep {own}");
        self._lxc.start(&name, &root, &init, &[]).unwrap_or_else(|e| panic!("{e}"));
        self.pids.insert(sleeping(&own), "lxc");
        let root = busybox_rootfs(&self._work.path().join("machine"));
        std::fs::write(root.join("etc/os-release"), "ID=lab\n").unwrap();
        let root = format!("--directory={}", root.display());
        let sleeper = Sleeper::start(|n| self._nspawn.command(&[&root], &["/bin/sleep", n]));
        self.pids.insert(sleeper.above(), "nspawn's supervisor");
        self.add(sleeper, "nspawn");
    }

    fn sandboxes(&mut self) {
        let bwrap = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "sleep"];
        let firejail = ["firejail", "--quiet", "--noprofile", "--private", "sleep"];
        for (kind, words) in [("bubblewrap", &bwrap[..]), ("firejail", &firejail)] {
            self.add(Sleeper::start(|n| command(&[words, &[n]].concat())), kind);
        }
        let jail = |user: &LabUser, words: &[&str]| {
            Sleeper::start(|n| as_user(user, &[words, &[n]].concat()))
        };
        let all = [
            (jail(self.user(), &bwrap), "his bubblewrap"),
            (jail(self.user(), &firejail), "his firejail"),
            (jail(&self._other, &bwrap), "another's bubblewrap"),
            (jail(&self._other, &["unshare", "-Urpf", "sleep"]), "another's namespaces"),
        ];
        for (sleeper, kind) in all {
            self.add(sleeper, kind);
        }
        let root = busybox_rootfs(&self._work.path().join("jail"));
        open_to_all(self._work.path());
        let root = root.display().to_string();
        let script = "mount --bind \"$1\" \"$1\" && cd \"$1\" && mkdir -p old && \
                      pivot_root . old && exec /bin/sleep \"$2\"";
        let pivoted = ["unshare", "-fmp", "sh", "-ec", script, "sh", &root];
        self.add(Sleeper::start(|n| command(&[&pivoted[..], &[n]].concat())), "pivoted");
        let chrooted = Sleeper::start(|n| command(&["chroot", &root, "/bin/sleep", n]));
        self.add(chrooted, "chroot");
    }

    fn outside(&mut self) {
        let all = [
            (Sleeper::start(|n| command(&["sleep", n])), "root's"),
            (Sleeper::start(|n| as_user(self.user(), &["sleep", n])), "his"),
            (Sleeper::start(|n| as_user(&self._other, &["sleep", n])), "another's"),
        ];
        for (sleeper, kind) in all {
            self.add(sleeper, kind);
        }
    }

    fn add(&mut self, sleeper: Sleeper, kind: &'static str) {
        self.pids.insert(sleeper.pid(), kind);
        self.sleepers.push(sleeper);
    }
}

fn open_to_all(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// What both were told, compared.
struct Beside {
    facts: Facts,
    /// The words of all that the user is not told, each with the first such field.
    lost: BTreeMap<&'static str, String>,
    /// Words of the gaps that the user's documents have.
    met: BTreeSet<String>,
    /// Values that root has, and those of them that the user has not.
    values: usize,
    missing: usize,
}

impl Beside {
    fn new() -> Beside {
        let (lost, met) = (BTreeMap::new(), BTreeSet::new());
        Beside { facts: Facts::about("a user beside root"), lost, met, values: 0, missing: 0 }
    }

    /// Compares what is at one place of the documents; where the user has less, one of `gaps`, the
    /// words of his document's gaps, has to say so.
    fn value(&mut self, at: &str, root: &Value, user: Option<&Value>, gaps: &BTreeSet<String>) {
        let user = user.unwrap_or(&Value::Null);
        if root.is_null() || at.ends_with(".evidence") || at.ends_with(".gaps") {
            return;
        }
        let is_owner = root["kind"].is_string() && root.get("runtime").is_some();
        if user.is_null() || is_owner && user["kind"] == "unknown" && root["kind"] != "unknown" {
            return self.less(at, root, user, gaps);
        }
        match (root, user) {
            (Value::Object(root), Value::Object(user)) => {
                let is_weaker =
                    root.contains_key("verified") && root["verified"] != user["verified"];
                if is_weaker {
                    // What else proves a file is told, or why nothing does.
                    self.facts.holds(&format!("{at}: why"), user["why"].is_string(), user);
                }
                for (key, value) in root.iter().filter(|(key, _)| *key != "verified") {
                    self.value(&format!("{at}.{key}"), value, user.get(key), gaps);
                }
                // Nobody but root knows more than root; why it is less is said besides.
                let more = user.iter().filter(|(key, _)| !root.contains_key(*key));
                let more = more.filter(|(key, v)| !v.is_null() && !is_reason(key));
                self.facts.same(&format!("{at}: more than root"), more.count(), 0);
            }
            (Value::Array(root), Value::Array(user)) if root.len() == user.len() => {
                for (n, (root, user)) in root.iter().zip(user).enumerate() {
                    self.value(&format!("{at}[{n}]"), root, Some(user), gaps);
                }
            }
            _ => self.single(at, root, user, gaps),
        }
    }

    fn single(&mut self, at: &str, root: &Value, user: &Value, gaps: &BTreeSet<String>) {
        let key = at.rsplit('.').next().unwrap_or(at);
        self.values += 1;
        match key {
            _ if VOLATILE.contains(&key) => {
                self.facts.same(at, root.is_number(), user.is_number());
            }
            // Something that was asked for is missing, and has to be said below.
            "status" if user == "partial" => self.facts.holds(at, !gaps.is_empty(), gaps),
            _ => self.facts.same(at, user, root),
        }
    }

    fn less(&mut self, at: &str, root: &Value, user: &Value, gaps: &BTreeSet<String>) {
        let leaves = leaves(root);
        self.values += leaves;
        self.missing += leaves;
        // Whoever does not know whose it is gives it no name.
        self.facts.holds(at, user["id"].is_null(), user);
        let word = word(at);
        self.facts.holds(&format!("{at}: {word}"), gaps.contains(word), gaps);
        self.lost.entry(word).or_insert_with(|| at.to_owned());
    }

    /// Compares two documents; the words of the user's gaps.
    fn documents(&mut self, at: &str, root: &Value, user: &Value) {
        let gaps =
            words(&user["gaps"]).union(&words(&user["answers"][0]["gaps"])).cloned().collect();
        for key in ["answers", "maps"] {
            self.value(&format!("{at}.{key}"), &root[key], user.get(key), &gaps);
        }
        self.met.extend(gaps);
    }
}

/// What may change between two looks.
const VOLATILE: [&str; 6] = ["elapsed", "up", "pcpu", "cpu_time", "rss", "size"];

/// What says why there is less.
fn is_reason(key: &str) -> bool {
    ["why", "candidates"].contains(&key)
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Object(all) => all.values().map(leaves).sum(),
        Value::Array(all) => all.iter().map(leaves).sum(),
        _ => 1,
    }
}

/// The words of these gaps.
fn words(gaps: &Value) -> BTreeSet<String> {
    let gaps = gaps.as_array().into_iter().flatten();
    gaps.filter_map(|gap| Some(gap["what"].as_str()?.to_owned())).collect()
}

/// By which word of doctor's a field is missing.
fn word(at: &str) -> &'static str {
    let key = at.rsplit('.').next().unwrap_or(at);
    match key {
        "wchan" => "wait channel",
        "io_read" | "io_write" => "I/O counters",
        "pidns" => "namespaces",
        "fds" => "open descriptors",
        "inside_uid" => "user id map",
        "args" => "arguments",
        "start_time" | "elapsed" => "boot time",
        "sha256" | "build_id" => "hash of the binary",
        _ if at.contains(".binary") => "host path of the binary",
        _ if at.starts_with("path ") => "path",
        "owner" | "chain" if at.starts_with("id ") => "containers of an engine",
        "owner" | "id" | "role" | "serves" | "unit" | "cgroup" | "app" => "membership",
        _ if key.starts_with("chain") => "membership",
        "container" | "machine" => "containers of an engine",
        "state" if !at.contains("process") => "container state",
        _ if at.contains("process") => "process",
        _ => "container description",
    }
}

/// Rows by what they are of.
fn keyed(rows: &Value, key: impl Fn(&Value) -> Option<String>) -> BTreeMap<String, &Value> {
    let rows = rows.as_array().into_iter().flatten();
    rows.filter_map(|row| Some((key(row)?, row))).collect()
}

fn pid_in(row: &Value) -> Option<String> {
    Some(pid_of(&row["process"]["pid"])?.to_string())
}

impl Rig {
    /// The same asked by root and by the user.
    fn both(&self, args: &[&str]) -> [Value; 2] {
        [whose(), self.asked()].map(|asked| {
            let run = asked.args(args).timeout(Duration::from_secs(60)).run();
            assert!([0, 1, 3].contains(&run.code.unwrap()), "{}", run.story());
            run.json()
        })
    }

    fn lists(&self, beside: &mut Beside) {
        let columns: Vec<&str> = whose_fields::FIELDS.iter().map(|f| f.name).collect();
        let columns = columns.join(",");
        let [root, user] = self.both(&["ps", "--json", "-o", &columns]);
        let gaps = words(&user["gaps"]);
        let (rows, users) = (keyed(&root["rows"], pid_in), keyed(&user["rows"], pid_in));
        for (pid, kind) in &self.pids {
            let pid = pid.to_string();
            let row = users.get(&pid).copied();
            beside.value(&format!("ps {kind}"), rows[&pid], row, &gaps);
        }
        beside.met.extend(gaps);
        let [root, user] = self.both(&["ls", "-a", "--json", "-o", &columns]);
        let gaps = words(&user["gaps"]);
        let id = |row: &Value| Some(row["id"].as_str()?.to_owned());
        let (rows, users) = (keyed(&root["containers"], id), keyed(&user["containers"], id));
        let own = |row: &Value| {
            let pids = row["pids"].as_array().into_iter().flatten().filter_map(pid_of);
            let is_known = row["id"].as_str().is_some_and(|id| self.ids.contains(id));
            is_known || pids.into_iter().any(|pid| self.pids.contains_key(&pid))
        };
        let own: Vec<_> = rows.iter().filter(|(_, row)| own(row)).collect();
        let kinds = own.iter().map(|(_, row)| row["kind"].as_str().unwrap());
        let kinds: BTreeSet<&str> = kinds.collect();
        beside.facts.same("kinds", kinds, BTreeSet::from(["app", "container", "machine"]));
        beside.facts.same("containers", own.len(), 12);
        for (id, row) in own {
            let kind = row["kind"].as_str().unwrap();
            beside.value(&format!("ls.{kind}"), row, users.get(id.as_str()).copied(), &gaps);
        }
        beside.met.extend(gaps);
    }

    fn cards(&self, beside: &mut Beside) {
        let mut targets: Vec<(String, String)> =
            self.pids.iter().map(|(pid, kind)| (pid.to_string(), (*kind).to_owned())).collect();
        targets.extend(self.ids.iter().map(|id| (id.clone(), "id".to_owned())));
        let mut layers = BTreeSet::new();
        for (target, kind) in &targets {
            let [root, user] = self.both(&["--json", target]);
            let layer = &root["answers"][0]["binary"]["layer"]["dir"];
            layers.extend(layer.as_str().map(str::to_owned));
            beside.documents(&format!("{kind} card"), &root, &user);
            if kind != "id" {
                let [root, user] = self.both(&["exe", "--hash", "--json", target]);
                beside.documents(&format!("{kind} exe"), &root, &user);
            }
            // A card tells what JSON does not have: the links of a process.
            let text = self.asked().args(["--why", target]).run().stdout_str();
            let lines = text.lines().filter_map(|l| l.trim_start().strip_prefix("not read"));
            let said = lines.filter_map(|l| Some(l.trim().split_once(':')?.0.to_owned()));
            beside.met.extend(said);
        }
        beside.facts.same("layers", layers.len(), 2);
        let nowhere = format!("layer:{}", "0".repeat(64));
        let data = self.docker.data_root().display().to_string();
        for path in layers.into_iter().chain([data, nowhere]) {
            let [root, user] = self.both(&["--json", &path]);
            beside.documents(&format!("path {path}"), &root, &user);
        }
    }

    fn doctor(&self, beside: &mut Beside) {
        let [_, user] = self.both(&["doctor", "--json"]);
        let cannot = words(&user["cannot"]);
        for (word, at) in &beside.lost {
            beside.facts.holds(&format!("doctor: {at}"), cannot.contains(*word), &cannot);
        }
        // What it says that he can read in full is nowhere missing.
        let counts = user["can"].as_array().unwrap();
        let whole = counts.iter().filter(|c| c["read"] == c["tried"]);
        let whole: BTreeSet<&str> = whole.filter_map(|c| c["what"].as_str()).collect();
        for word in ["process", "arguments", "boot time", "container state"] {
            beside.facts.holds(word, whole.contains(word), &whole);
        }
        for word in whole {
            beside.facts.holds(
                &format!("all of it: {word}"),
                !beside.lost.contains_key(word),
                word,
            );
        }
        beside.facts.same("what doctor says is lost", &cannot, &beside.met);
    }
}

#[test]
fn what_is_lost_is_what_doctor_says() {
    let all = ["docker", "lxc-start", "systemd-nspawn", "bwrap", "firejail", "setpriv"];
    if !require(&[NEEDS, &all].concat()) {
        return;
    }
    let _alone = alone();
    let rig = Rig::start();
    let mut cases = Cases::of("beside");
    cases.case("an ordinary user beside root", || {
        let mut beside = Beside::new();
        rig.lists(&mut beside);
        rig.cards(&mut beside);
        rig.doctor(&mut beside);
        let Beside { facts, lost, values, missing, .. } = beside;
        for (word, at) in &lost {
            eprintln!("        lost: {word}, as {at}");
        }
        eprintln!(
            "        {values} values that root is told, {missing} of them kept from the user"
        );
        let kept: BTreeSet<&str> = lost.into_keys().collect();
        let wanted = [
            "wait channel",
            "I/O counters",
            "namespaces",
            "membership",
            "container description",
            "containers of an engine",
            "host path of the binary",
            "hash of the binary",
        ];
        assert!(kept.is_superset(&wanted.into()), "{kept:?}");
        assert!(missing > 800 && values > 2 * missing, "{missing} of {values}");
        compared("an ordinary user beside root", facts.finish(3000));
    });
    drop(rig);
    cases.finish();
}
