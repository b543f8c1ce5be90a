//! Machines of systemd-nspawn, plain and booted, and what is inside a booted one, seen from the host and
//! from the machine.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use whose_live_tests::sleeper::{Sleeper, seconds, sleeping};
use whose_live_tests::{alone, answer, compare, compared, pid_of, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::busybox_rootfs;
use whose_testkit::facts::Facts;
use whose_testkit::machine::Machine;
use whose_testkit::nspawn::Nspawn;
use whose_testkit::{procfs, require};

const NEEDS: &[&str] = &["root", "busybox", "systemd-nspawn", "cgroup-v2"];

#[test]
fn plain_machines() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let mut cases = Cases::of("nspawn");
    cases.case("two at once", plain);
    cases.finish();
}

/// Kind, runtime and name of each level that contains.
fn levels(told: &Value) -> Vec<(String, String, String)> {
    let text = |level: &Value, key: &str| level[key].as_str().unwrap_or_default().to_owned();
    let chain = told["chain"].as_array().into_iter().flatten();
    let contains = |level: &&Value| !["unit", "session", "host"].contains(&&*text(level, "kind"));
    let all = ["kind", "runtime", "name"];
    chain.filter(contains).map(|l| all.map(|key| text(l, key)).into()).collect()
}

fn level(kind: &str, runtime: &str, name: &str) -> (String, String, String) {
    (kind.to_owned(), runtime.to_owned(), name.to_owned())
}

/// They share a cgroup, and each has its own name.
fn plain() {
    let (first, second) = (Nspawn::new(), Nspawn::new());
    let work = tempfile::tempdir().unwrap();
    let mut facts = Facts::about("nspawn");
    let start = |nspawn: &Nspawn, dir: &str| {
        let root = busybox_rootfs(&work.path().join(dir));
        std::fs::write(root.join("etc/os-release"), "ID=lab\n").unwrap();
        let root = format!("--directory={}", root.display());
        Sleeper::start(|n| nspawn.command(&[&root], &["/bin/sleep", n]))
    };
    let one = start(&first, "a");
    let alone = answer(first.name());
    facts.same("by name, alone", compare::pids(&alone["processes"]), BTreeSet::from([one.pid()]));
    let other = start(&second, "b");
    for (nspawn, sleeper) in [(&first, &one), (&second, &other)] {
        let pid = sleeper.pid();
        let told = answer(&pid.to_string());
        compare::kernel(&mut facts, &told, pid);
        facts.same(
            "levels",
            levels(&told),
            vec![level("machine", "systemd-nspawn", nspawn.name())],
        );
        let supervisor = answer(&procfs::ppid(pid).unwrap().to_string());
        facts.same("role", supervisor["process"]["role"].as_str(), Some("plumbing"));
        facts.same("serves", &supervisor["process"]["serves"], &told["owner"]["id"]);
        let found = answer(nspawn.name());
        facts.same("by name", found["owner"]["name"].as_str(), Some(nspawn.name()));
        facts.same("its processes", compare::pids(&found["processes"]), BTreeSet::from([pid]));
        let pids = whose().args(["pids", nspawn.name()]).run().expect_code(0).pids();
        facts.same("pids", pids, vec![pid]);
        let list = whose().args(["ls", "--json"]).run().expect_code(0).json();
        let rows = list["containers"].as_array().unwrap();
        let rows = rows.iter().filter(|r| r["name"] == nspawn.name());
        let rows: Vec<Value> = rows.map(|r| r["pids"].clone()).collect();
        facts.same("listed", rows, vec![Value::from(vec![pid])]);
    }
    compared("nspawn, two machines", facts.finish(29));
}

#[test]
fn what_is_in_a_booted_machine() {
    if !require(NEEDS) || !require(&["lxc-start", "dbus-daemon", "dockerd"]) {
        return;
    }
    let _alone = alone();
    let name = unique("whose-boot");
    let times = Times::new();
    let machine = Machine::boot(&name, |root| fill(root, &times)).unwrap_or_else(|e| panic!("{e}"));
    let mut cases = Cases::of("machine");
    cases.case("itself and a service of it", || itself(&machine));
    cases.case("lxc", || inner(&machine, "lab-lxc", &times.lxc, ("machine", "lxc", "inner-lxc")));
    cases.case("nspawn in a service", || {
        let wanted = ("machine", "systemd-nspawn", "inner-service");
        inner(&machine, "lab-nspawn", &times.service, wanted);
    });
    cases.case("nspawn, registered", || {
        inner(
            &machine,
            "lab-registered",
            &times.registered,
            ("machine", "systemd-nspawn", "inner-reg"),
        );
    });
    cases.case("docker", || docker(&machine, &times));
    drop(machine);
    cases.finish();
}

/// How long the process of each sleeps.
struct Times {
    lxc: String,
    service: String,
    registered: String,
    docker: String,
}

impl Times {
    fn new() -> Times {
        Times { lxc: seconds(), service: seconds(), registered: seconds(), docker: seconds() }
    }
}

/// Units that are started when their test comes.
fn fill(root: &Path, times: &Times) {
    let unit = |name: &str, start: &str| {
        let text = format!(
            "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart={start}\nDelegate=yes\n\
             Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
        );
        std::fs::write(root.join(format!("etc/systemd/system/{name}.service")), text).unwrap();
    };
    let tree = |at: &str| {
        let tree = busybox_rootfs(&root.join(at));
        std::fs::write(tree.join("etc/os-release"), "ID=lab\n").unwrap();
    };
    tree("var/lib/lxc/inner-lxc");
    let config = format!(
        "lxc.uts.name = inner\nlxc.rootfs.path = dir:/var/lib/lxc/inner-lxc/rootfs\n\
         lxc.init.cmd = /bin/sleep {}\nlxc.net.0.type = empty\nlxc.apparmor.profile = unconfined\n\
         lxc.mount.auto = proc:mixed\n",
        times.lxc
    );
    std::fs::write(root.join("var/lib/lxc/inner-lxc/config"), config).unwrap();
    unit("lab-lxc", "/usr/bin/lxc-start -F -n inner-lxc");
    let nspawn = "/usr/bin/systemd-nspawn -q --console=pipe --resolv-conf=off --timezone=off \
                  --link-journal=no";
    tree("lab/service");
    let service = format!(
        "{nspawn} --register=no --keep-unit -M inner-service -D /lab/service/rootfs /bin/sleep {}",
        times.service
    );
    unit("lab-nspawn", &service);
    tree("lab/registered");
    let registered =
        format!("{nspawn} -M inner-reg -D /lab/registered/rootfs /bin/sleep {}", times.registered);
    unit("lab-registered", &registered);
    tree("lab/image");
    let dockerd = "/usr/sbin/dockerd --bridge=none --iptables=false --ip6tables=false \
                   --storage-driver=vfs";
    unit("lab-docker", dockerd);
    std::fs::copy(whose().bin(), root.join("lab/whose")).unwrap();
}

fn itself(machine: &Machine) {
    let mut facts = Facts::about("the machine");
    let told = answer(&machine.init().to_string());
    compare::kernel(&mut facts, &told, machine.init());
    facts.same("levels", levels(&told), vec![level("machine", "systemd-nspawn", machine.name())]);
    let dbus = machine.run(&["systemctl", "show", "-P", "MainPID", "dbus.service"]).unwrap();
    let mut inside: Vec<u32> = Vec::new();
    let found = answer(machine.name());
    for pid in compare::pids(&found["processes"]) {
        let own = answer(&pid.to_string());
        facts.same("a process of it", levels(&own), levels(&told));
        inside.extend(procfs::nspid(pid).and_then(|pids| pids.get(1).copied()));
    }
    facts.holds("dbus is one of them", inside.iter().any(|pid| pid.to_string() == dbus), &inside);
    let supervisor = answer(&machine.supervisor().to_string());
    facts.same("role", supervisor["process"]["role"].as_str(), Some("plumbing"));
    compared("nspawn, booted", facts.finish(12));
}

/// What a unit of the machine started, from both sides.
fn inner(machine: &Machine, unit: &str, time: &str, wanted: (&str, &str, &str)) {
    machine.run(&["systemctl", "start", unit]).unwrap_or_else(|e| panic!("{e}"));
    let pid = sleeping(time);
    let mut facts = Facts::about(wanted.2);
    both_sides(&mut facts, machine, pid, wanted);
    compared(&format!("{} in a booted machine, from both sides", wanted.1), facts.finish(11));
}

fn both_sides(
    facts: &mut Facts,
    machine: &Machine,
    pid: u32,
    (kind, runtime, name): (&str, &str, &str),
) {
    let told = answer(&pid.to_string());
    compare::kernel(facts, &told, pid);
    let all = vec![level("machine", "systemd-nspawn", machine.name()), level(kind, runtime, name)];
    facts.same("levels", levels(&told), all);
    let list = whose().args(["ls", "--json"]).run().expect_code(0).json();
    let rows = list["containers"].as_array().unwrap().clone();
    let row = rows.iter().find(|r| r["name"] == name && r["runtime"] == runtime);
    facts.same("listed", row.map(|r| r["pids"].clone()), Some(vec![pid].into()));
    let inside = procfs::nspid(pid).unwrap()[1].to_string();
    let seen = machine.run(&["/lab/whose", "--json", &inside]).unwrap_or_else(|e| panic!("{e}"));
    let seen: Value = serde_json::from_str(&seen).unwrap();
    let own = levels(&seen["answers"][0]);
    facts.same("from inside", own.last(), Some(&level(kind, runtime, name)));
    let by_name = machine.run(&["/lab/whose", "pids", name]);
    facts.same("its PID there", by_name.as_deref(), Ok(inside.as_str()));
}

fn docker(machine: &Machine, times: &Times) {
    machine.run(&["systemctl", "start", "lab-docker"]).unwrap_or_else(|e| panic!("{e}"));
    let docker = |args: &[&str]| machine.run(&[&["/usr/bin/docker"][..], args].concat());
    procfs::wait_for("dockerd in the machine", Duration::from_secs(60), || docker(&["info"]).ok());
    let import = "tar -C /lab/image/rootfs -c . | /usr/bin/docker import - inner-image:1";
    machine.run(&["sh", "-ec", import]).unwrap_or_else(|e| panic!("{e}"));
    let run = ["run", "-d", "--network", "none", "--name", "inner-docker", "inner-image:1"];
    docker(&[&run[..], &["/bin/sleep", &times.docker]].concat()).unwrap_or_else(|e| panic!("{e}"));
    let pid = sleeping(&times.docker);
    let mut facts = Facts::about("docker in the machine");
    both_sides(&mut facts, machine, pid, ("container", "docker", "inner-docker"));
    let told = answer(&pid.to_string());
    facts.same("image", told["owner"]["image"].as_str(), Some("inner-image:1"));
    facts.same("init", pid_of(&told["owner"]["init_pid"]), Some(pid));
    drop(docker(&["rm", "-f", "inner-docker"]));
    compared("docker in a booted machine, from both sides", facts.finish(13));
}
