//! Podman where systemd makes the cgroups: root's, and a user's with what his manager delegates; scopes, pods'
//! slices, units with split cgroups and units that podman generated. Asked inside, where it is a host, by
//! root and by the user, and from outside. Of the host's own release with a bolt database, and of Debian 13
//! with `db.sql`, quadlet and crun.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::path::Path;

use serde_json::Value;
use whose_live_tests::inner::busybox_archive;
use whose_live_tests::podman::{Asking, NEEDS, listed, same_owner};
use whose_live_tests::{alone, compared, pid_of, unique, whose};
use whose_testkit::facts::Facts;
use whose_testkit::harness::Whose;
use whose_testkit::podman_machine::{PodmanMachine, Programs, USERS, User};
use whose_testkit::{procfs, require, skip};

const IMAGE: &str = "localhost/lab:1";
const PROGRAM: &str = "/whose";

/// A container of the machine.
struct Kind {
    name: String,
    /// Whose engine: the system's, or the user's.
    user: Option<User>,
    pod: Option<String>,
    /// Its cgroup, with ID and POD where those of its own stand.
    cgroup: String,
    /// That of its monitor.
    monitors: String,
}

struct Lab {
    machine: PodmanMachine,
    kinds: Vec<Kind>,
    /// The cgroup that the runtime makes in a container's scope.
    inmost: &'static str,
}

impl Lab {
    /// Boots it, with containers of what every release has.
    fn start(programs: &Programs, inmost: &'static str) -> Lab {
        let machine = PodmanMachine::start(programs).unwrap_or_else(|e| panic!("{e}"));
        let archive = busybox_archive(machine.dir());
        let homes = USERS.map(|user| format!("home/{}", user.name));
        for home in homes.iter().map(String::as_str).chain(["root"]) {
            std::fs::copy(&archive, machine.root().join(home).join("busybox.tar")).unwrap();
        }
        let program = machine.root().join(PROGRAM.trim_start_matches('/'));
        std::fs::copy(whose().bin(), program).unwrap();
        let mut lab = Lab { machine, kinds: Vec::new(), inmost };
        for user in Lab::users() {
            lab.podman(user, &["import", "-q", "busybox.tar", IMAGE]);
            lab.plain(user);
            lab.pod(user);
        }
        lab
    }

    /// The system, and those in the machine.
    fn users() -> impl Iterator<Item = Option<User>> {
        [None].into_iter().chain(USERS.map(Some))
    }

    fn before(&self, user: Option<User>) -> Vec<String> {
        user.map_or_else(|| self.machine.inside(), |user| self.machine.below_manager(user))
    }

    fn podman(&self, user: Option<User>, words: &[&str]) -> String {
        self.machine.run(&self.before(user), &[&["podman"][..], words].concat())
    }

    /// The slice in which a user's engine makes its cgroups, and root's.
    fn slice(user: Option<User>) -> String {
        let manager =
            |uid: u32| format!("/user.slice/user-{uid}.slice/user@{uid}.service/user.slice");
        user.map_or_else(|| "/machine.slice".into(), |user| manager(user.uid))
    }

    fn named(user: Option<User>, name: &str) -> String {
        unique(&format!("{}{name}", user.map_or("root", |user| user.name)))
    }

    fn plain(&mut self, user: Option<User>) {
        let name = Lab::named(user, "plain");
        let words = ["run", "-d", "--network", "none", "--label", "a=b", "--name", &name, IMAGE];
        self.podman(user, &[&words[..], &["/bin/sleep", "97301"]].concat());
        let slice = Lab::slice(user);
        let cgroup = format!("{slice}/libpod-ID.scope{}", self.inmost);
        let monitors = format!("{slice}/libpod-conmon-ID.scope");
        self.kinds.push(Kind { name, user, pod: None, cgroup, monitors });
    }

    fn pod(&mut self, user: Option<User>) {
        let (pod, name) = (Lab::named(user, "pod"), Lab::named(user, "inpod"));
        self.podman(user, &["pod", "create", "--network", "none", "--name", &pod]);
        let words = ["run", "-d", "--pod", &pod, "--name", &name, IMAGE, "/bin/sleep", "97302"];
        self.podman(user, &words);
        let infra = ["pod", "inspect", "--format", "{{.InfraContainerID}}", &pod];
        let infra = self.podman(user, &infra);
        let infra = self.machine.inspect(&self.before(user), &infra);
        let prefix = if user.is_some() { "user" } else { "machine" };
        let slice = format!("{}/{prefix}-libpod_pod_POD.slice", Lab::slice(user));
        for name in [name, infra["Name"].as_str().unwrap().to_owned()] {
            let cgroup = format!("{slice}/libpod-ID.scope{}", self.inmost);
            let monitors = format!("{slice}/libpod-conmon-ID.scope");
            self.kinds.push(Kind { name, user, pod: Some(pod.clone()), cgroup, monitors });
        }
    }

    /// A unit as quadlet writes it. A user's podman moves to a scope first, since it may not split what is
    /// not his.
    fn split_unit(&mut self, user: Option<User>) {
        let name = Lab::named(user, "split");
        let unit = format!(
            "[Unit]\nDefaultDependencies=no\n[Service]\nType=notify\nNotifyAccess=all\nDelegate=yes\n\
             KillMode=mixed\nEnvironment=PODMAN_SYSTEMD_UNIT=%n PATH=/usr/sbin:/usr/bin:/sbin:/bin\n\
             ExecStart=/usr/bin/podman run --name {name} --replace --rm --cgroups=split \
             --sdnotify=conmon --network none -d {IMAGE} /bin/sleep 97303\n"
        );
        let place = if user.is_some() { "user" } else { "system" };
        self.machine.write(&format!("etc/systemd/{place}/{name}.service"), &unit);
        self.start_unit(user, &name);
        let (cgroup, monitors) = match user {
            None => (
                format!("/system.slice/{name}.service/libpod-payload-ID"),
                format!("/system.slice/{name}.service/runtime"),
            ),
            Some(_) => ("*/libpod-payload-ID".into(), "*/runtime".into()),
        };
        self.kinds.push(Kind { name, user, pod: None, cgroup, monitors });
    }

    /// One for which a user's engine asks no manager, in a unit to which nothing is delegated: its runtime makes it a
    /// cgroup of its bare id. The monitor stays in the unit, or in a scope that podman moved itself to.
    fn undelegated(&mut self, user: User, monitors: &str) {
        let name = Lab::named(Some(user), "undelegated");
        let words = ["--cgroup-manager=cgroupfs", "run", "-d", "--network", "none"];
        let more = ["--label", "a=b", "--name", &name, IMAGE, "/bin/sleep", "97306"];
        self.podman(Some(user), &[&words[..], &more].concat());
        let (cgroup, monitors) = ("*.slice/ID".to_owned(), monitors.to_owned());
        self.kinds.push(Kind { name, user: Some(user), pod: None, cgroup, monitors });
    }

    /// A unit that quadlet makes of a file.
    fn quadlet(&mut self, user: Option<User>) {
        let name = Lab::named(user, "quadlet");
        let text = format!(
            "[Unit]\nDefaultDependencies=no\n[Container]\nImage={IMAGE}\nContainerName={name}\n\
             Exec=/bin/sleep 97305\nNetwork=none\nLabel=a=b\n[Quadlet]\nDefaultDependencies=false\n"
        );
        let place = match user {
            None => "etc/containers/systemd".to_owned(),
            Some(user) => format!("etc/containers/systemd/users/{}", user.uid),
        };
        self.machine.write(&format!("{place}/{name}.container"), &text);
        self.start_unit(user, &name);
        let (cgroup, monitors) = match user {
            None => (
                format!("/system.slice/{name}.service/libpod-payload-ID"),
                format!("/system.slice/{name}.service/runtime"),
            ),
            Some(_) => ("*/libpod-payload-ID".into(), "*/runtime".into()),
        };
        self.kinds.push(Kind { name, user, pod: None, cgroup, monitors });
    }

    /// One that ended and one that was never started.
    fn stopped(&self, user: Option<User>) -> [String; 2] {
        let names = ["ended", "new"].map(|name| Lab::named(user, name));
        for (verb, name) in ["run", "create"].iter().zip(&names) {
            let words = [verb, "--network", "none", "--label", "a=b", "--name", name, IMAGE];
            self.podman(user, &[&words[..], &["/bin/sleep", "0"]].concat());
        }
        names
    }

    /// A unit that `podman generate systemd` writes.
    fn generated_unit(&mut self) {
        let name = Lab::named(None, "generated");
        let create = ["create", "--network", "none", "--name", &name, IMAGE, "/bin/sleep", "97304"];
        self.podman(None, &create);
        let unit = self.podman(None, &["generate", "systemd", "--new", "--name", &name]);
        self.podman(None, &["rm", &name]);
        // There is no network to wait for.
        let path = "[Service]\nEnvironment=PATH=/usr/sbin:/usr/bin:/sbin:/bin";
        let unit = unit.replace("[Unit]", "[Unit]\nDefaultDependencies=no");
        let unit = unit.replace("[Service]", path);
        self.machine.write(&format!("etc/systemd/system/{name}.service"), &unit);
        self.start_unit(None, &name);
        let cgroup = "/machine.slice/libpod-ID.scope".into();
        let monitors = format!("/system.slice/{name}.service");
        self.kinds.push(Kind { name, user: None, pod: None, cgroup, monitors });
    }

    fn start_unit(&self, user: Option<User>, name: &str) {
        let before = user.map_or_else(|| self.machine.inside(), |user| self.machine.as_user(user));
        let manager: &[&str] = if user.is_some() { &["--user"] } else { &[] };
        let unit = format!("{name}.service");
        for words in [vec!["daemon-reload"], vec!["start", &unit]] {
            self.machine.run(&before, &[&["systemctl"][..], manager, &words].concat());
        }
    }

    /// `whose` in the machine: root's, or the user's.
    fn whose(&self, user: Option<User>) -> Whose {
        let before = user.map_or_else(|| self.machine.inside(), |user| self.machine.as_user(user));
        patient(Whose::new(PROGRAM).via(before))
    }
}

/// With more time than an answer needs: many engines start beside.
fn patient(whose: Whose) -> Whose {
    whose.args(["--timeout", "20"])
}

/// Whether a path is as wanted: `*` stands for any beginning.
fn fits(path: &str, wanted: &str, inspected: &Value) -> bool {
    let id = inspected["Id"].as_str().unwrap();
    let pod = inspected["Pod"].as_str().unwrap_or_default();
    let wanted = wanted.replace("ID", id).replace("POD", pod);
    match wanted.strip_prefix('*') {
        Some(end) => path.ends_with(end),
        None => path == wanted,
    }
}

/// What is said inside of a container and its monitor, besides what its engine knows.
fn in_its_cgroup(lab: &Lab, kind: &Kind, inspected: &Value, asking: &Asking) -> usize {
    let mut facts = Facts::about(format!("the cgroups of {}", kind.name));
    let init = pid_of(&inspected["State"]["Pid"]).unwrap();
    let told = asking.answer(&init.to_string());
    let cgroup = told["process"]["cgroup"].as_str().unwrap();
    facts.holds("cgroup", fits(cgroup, &kind.cgroup, inspected), cgroup);
    facts.same("pids", asking.pids(&kind.name), [init].into());
    let chain = told["chain"].as_array().unwrap();
    let of_kind = |word: &str| chain.iter().find(|o| o["kind"] == word);
    facts.same(
        "pod",
        of_kind("pod").map(|pod| pod["name"].clone()),
        kind.pod.clone().map(Value::from),
    );
    // A user's manager is a unit itself.
    let in_unit = kind.user.is_some() || kind.cgroup.contains("payload");
    facts.same("unit", of_kind("unit").is_some(), in_unit);
    // Of the monitor: where it is, and for whom.
    let monitor = told["process"]["ppid"].to_string();
    let told = asking.answer(&monitor);
    let process = &told["process"];
    facts.same("monitor", process["comm"].as_str(), Some("conmon"));
    facts.same(
        "monitor's user",
        process["user"].as_str(),
        Some(kind.user.map_or("root", |user| user.name)),
    );
    facts.same("monitor's role", process["role"].as_str(), Some("plumbing"));
    facts.same("monitor serves", process["serves"].clone(), inspected["Id"].clone());
    let cgroup = process["cgroup"].as_str().unwrap();
    facts.holds("monitor's cgroup", fits(cgroup, &kind.monitors, inspected), cgroup);
    facts.same("monitor is outside", told["owner"]["kind"].as_str(), Some("unit"));
    facts.same("machine", lab.machine.outside(init).is_some(), true);
    facts.finish(11)
}

const SYSTEMD: &[&str] = &["systemd-nspawn", "nsenter", "setpriv"];

#[test]
fn with_the_systemd_manager() {
    let systemd = ["/lib/systemd/systemd", "catatonit", "fuse-overlayfs"];
    let bus = ["dbus-daemon", "/usr/lib/systemd/user/dbus.socket", "newuidmap"];
    if !require(&[NEEDS, SYSTEMD, &systemd, &bus].concat()) {
        return;
    }
    let _alone = alone();
    let mut lab = Lab::start(&Programs::hosts(), "");
    for user in Lab::users() {
        lab.split_unit(user);
    }
    for user in USERS {
        lab.undelegated(user, "*.scope");
    }
    lab.generated_unit();
    assert!(lab.machine.root().join("var/lib/containers/storage/libpod/bolt_state.db").exists());
    all_of(&lab);
}

/// A host with cgroups of v2 alone, the database that Podman has since release 5, and units of quadlet's.
#[test]
fn of_debian_13() {
    if !require(&[&["root", "busybox", "apt-get", "dpkg-deb"], SYSTEMD].concat()) {
        return;
    }
    let _alone = alone();
    let programs = match Programs::debian13() {
        Ok(programs) => programs,
        Err(why) => return skip("debian13", &why),
    };
    let mut lab = Lab::start(&programs, "/container");
    only_v2_is_mounted(&lab);
    for user in Lab::users() {
        lab.quadlet(user);
    }
    for user in USERS {
        lab.undelegated(user, "*.service");
    }
    let storage = "storage/db.sql";
    assert!(lab.machine.root().join("var/lib/containers").join(storage).exists());
    for user in USERS {
        let home = lab.machine.root().join("home").join(user.name);
        let data = home.join(".local/share/containers");
        assert!(data.join(storage).exists(), "{}", data.display());
        assert!(!data.join("storage/libpod/bolt_state.db").exists());
    }
    all_of(&lab);
    for user in Lab::users() {
        those_that_do_not_run(&lab, user);
    }
}

/// What the machine mounts, and what `whose` makes of it.
fn only_v2_is_mounted(lab: &Lab) {
    let mounts = lab.machine.run(&lab.machine.inside(), &["cat", "/proc/mounts"]);
    let kinds = mounts.lines().filter_map(|line| line.split(' ').nth(2));
    let groups: Vec<&str> = kinds.filter(|kind| kind.starts_with("cgroup")).collect();
    assert_eq!(groups, ["cgroup2"], "{mounts}");
    let told = lab.whose(None).args(["doctor", "--json"]).run().expect_code(0).json();
    assert_eq!(told["host"]["cgroups"], "v2", "{told:#}");
}

/// By name, in the list, and from outside in the list, against the engine.
fn those_that_do_not_run(lab: &Lab, user: Option<User>) {
    let names = lab.stopped(user);
    let mut facts = Facts::about("containers that don't run");
    let mut askers = vec![lab.whose(None)];
    askers.extend(user.map(|user| lab.whose(Some(user))));
    for name in &names {
        let inspected = lab.machine.inspect(&lab.before(user), name);
        for asker in askers.iter().chain([&patient(whose())]) {
            let list = listed(asker);
            let rows: Vec<&Value> = list.iter().filter(|o| o["name"] == name.as_str()).collect();
            assert_eq!(rows.len(), 1, "{name}: {list:#?}");
            same_owner(&mut facts, rows[0], &inspected);
            facts.same("user", rows[0]["user"].as_str(), user.map(|user| user.name));
            facts.same("processes", rows[0]["processes"].as_u64(), Some(0));
        }
        for asker in &askers {
            let told = asker.clone().args(["--json", name]).run().expect_code(0).json();
            let told = &told["answers"][0];
            same_owner(&mut facts, &told["owner"], &inspected);
            let pids = asker.clone().args(["pids", name]).run();
            facts.same("no PIDs", (pids.code, pids.stdout.is_empty()), (Some(1), true));
        }
    }
    // Two containers, in three places at least.
    let count = facts.finish(2 * 3 * 12);
    compared(&format!("podman in a machine, {}, not running", names.join(" and ")), count);
}

/// All that run, by root and by whose they are inside, and from outside.
fn all_of(lab: &Lab) {
    let (mut inside, mut outside) = (0, 0);
    for kind in &lab.kinds {
        let inspected = lab.machine.inspect(&lab.before(kind.user), &kind.name);
        let init = pid_of(&inspected["State"]["Pid"]).unwrap();
        let label = kind.user.map(|u| format!("{}@{}", u.name, kind.name));
        let label = label.unwrap_or_else(|| kind.name.clone());
        let exact = match kind.user {
            None => format!("container:podman/{}", kind.name),
            Some(user) => format!("container:podman@{}/{}", user.name, kind.name),
        };
        // By root, and by whose it is.
        let mut askers = vec![lab.whose(None)];
        askers.extend(kind.user.map(|user| lab.whose(Some(user))));
        for asker in askers {
            let asking = Asking::with(asker, &[&kind.name, &exact], &label);
            inside += asking.check_at(&inspected, init, name_of(kind), kind.pod.as_deref());
            inside += in_its_cgroup(lab, kind, &inspected, &asking);
        }
        let outer = lab.machine.outside(init).expect("the host sees it");
        let asking = Asking::with(patient(whose()), &[&kind.name], &label).nested();
        outside += asking.check_at(&inspected, outer, name_of(kind), kind.pod.as_deref());
        let told = asking.answer(&outer.to_string());
        let outermost = &told["chain"][0];
        assert_eq!(outermost["kind"], "machine", "{told:#}");
        // Machines without a unit share a cgroup: of one alone the name is told.
        let name = outermost["name"].as_str();
        let wanted = (machines() == 1).then(|| machines_name(&lab.machine));
        assert_eq!(name, wanted.as_deref(), "{told:#}");
        assert_eq!(asking.pids(&kind.name), [outer].into());
    }
    let of_users = lab.kinds.iter().filter(|kind| kind.user.is_some()).count();
    let each = lab.kinds.len() + of_users;
    assert!(inside >= 30 * each && outside >= 20 * lab.kinds.len(), "{inside} {outside}");
    let what = format!("podman in a machine, {} containers", lab.kinds.len());
    compared(&format!("{what}, from inside"), inside);
    compared(&format!("{what}, from the host"), outside);
    for user in USERS {
        what_the_user_sees(lab, user);
        what_holds_the_users_namespaces(lab, user);
    }
    what_puts_layers_together(lab);
}

/// Each of the programs that do so serves the container whose layers it mounts.
fn what_puts_layers_together(lab: &Lab) {
    let [.., user] = USERS;
    let own = lab.kinds.iter().filter(|kind| kind.user == Some(user));
    let id = |kind: &Kind| lab.machine.inspect(&lab.before(Some(user)), &kind.name)["Id"].clone();
    let wanted: Vec<String> = own.map(|kind| id(kind).as_str().unwrap().to_owned()).collect();
    for asker in [lab.whose(None), lab.whose(Some(user))] {
        let rows = asker.args(["ps", "--json", "-o", "pid,comm,user,role,serves"]).run();
        let rows = rows.expect_code(0).json()["rows"].as_array().unwrap().clone();
        let all = rows.iter().map(|row| &row["process"]);
        let programs: Vec<&Value> = all.filter(|p| p["comm"] == "fuse-overlayfs").collect();
        let mut served: Vec<String> = Vec::new();
        for program in programs {
            assert_eq!(program["role"], "plumbing", "{program:#}");
            assert_eq!(program["user"], user.name, "{program:#}");
            served.push(program["serves"].as_str().unwrap_or_default().to_owned());
        }
        served.sort();
        let mut wanted = wanted.clone();
        wanted.sort();
        assert_eq!(served, wanted);
    }
}

fn name_of(kind: &Kind) -> Option<&'static str> {
    kind.user.map(|user| user.name)
}

/// How many machines share the cgroup of those without a unit, another test's too.
fn machines() -> usize {
    let is_one = |pid: &u32| {
        let shares = |cgroup: String| cgroup.lines().any(|line| line.ends_with(":/supervisor"));
        procfs::comm(*pid).is_some_and(|comm| comm == "systemd-nspawn")
            && procfs::cgroup(*pid).is_some_and(shares)
    };
    procfs::pids().into_iter().filter(is_one).count()
}

fn machines_name(machine: &PodmanMachine) -> String {
    let name = machine.dir().file_name().map(Path::new).unwrap();
    name.display().to_string()
}

/// Of root's and each other's containers users are told the ids at most, and that the names can't be read.
fn what_the_user_sees(lab: &Lab, user: User) {
    let list = listed(&lab.whose(Some(user)));
    for kind in &lab.kinds {
        let named = list.iter().filter(|o| o["name"] == kind.name.as_str()).count();
        assert_eq!(named, usize::from(kind.user == Some(user)), "{}: {list:#?}", kind.name);
        if kind.user.is_some() {
            continue;
        }
        let inspected = lab.machine.inspect(&lab.before(None), &kind.name);
        let init = inspected["State"]["Pid"].to_string();
        let asker = lab.whose(Some(user));
        let told = asker.args(["--json", &init]).run().expect_code(0).json()["answers"][0].clone();
        assert_eq!(told["owner"]["id"], inspected["Id"], "{told:#}");
        assert!(told["owner"]["name"].is_null(), "{told:#}");
        let gaps = told["gaps"].as_array().unwrap();
        let closed = gaps.iter().find(|gap| gap["what"] == "container description");
        assert_eq!(closed.map(|gap| &gap["class"]), Some(&"forbidden".into()), "{told:#}");
    }
}

/// The process that holds the user's namespaces is in a scope of its own, and nobody's container.
fn what_holds_the_users_namespaces(lab: &Lab, user: User) {
    let file = format!("/run/user/{}/libpod/tmp/pause.pid", user.uid);
    let pause = lab.machine.run(&lab.machine.as_user(user), &["cat", &file]);
    for asker in [lab.whose(None), lab.whose(Some(user))] {
        let told = asker.args(["--json", pause.trim()]).run().expect_code(0).json();
        let told = &told["answers"][0];
        assert_eq!(told["process"]["comm"], "catatonit", "{told:#}");
        assert_eq!(told["process"]["role"], "plumbing", "{told:#}");
        assert_eq!(told["process"]["user"], user.name, "{told:#}");
        assert_eq!(told["owner"]["kind"], "unit", "{told:#}");
        let cgroup = told["process"]["cgroup"].as_str().unwrap();
        assert!(cgroup.contains("/podman-pause-"), "{told:#}");
    }
}
