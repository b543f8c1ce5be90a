//! Services that systemd itself puts into a sandbox, in a booted machine: to whoever looks from inside each
//! is a unit and in no container, to the host it is in the machine and in nothing else.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use serde_json::{Value, json};
use std::path::Path;
use whose_live_tests::sleeper::{seconds, sleeping};
use whose_live_tests::{alone, answer, compare, compared, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::busybox_rootfs;
use whose_testkit::facts::Facts;
use whose_testkit::machine::Machine;
use whose_testkit::{procfs, require};

/// A service and what it is to be kept from.
struct Unit {
    name: &'static str,
    settings: &'static str,
    /// Namespaces that it does not share with the machine's systemd.
    own: &'static [&'static str],
    seconds: String,
}

fn units() -> Vec<Unit> {
    let root = "RootDirectory=/lab/jail/rootfs";
    let all: [(&'static str, &'static str, &'static [&'static str]); 8] = [
        ("lab-plain", "", &[]),
        ("lab-private-tmp", "PrivateTmp=yes", &["mnt"]),
        ("lab-protect-system", "ProtectSystem=strict\nProtectHome=yes", &["mnt"]),
        ("lab-root-directory", root, &["mnt"]),
        ("lab-dynamic-user", "DynamicUser=yes", &["mnt"]),
        ("lab-private-users", "PrivateUsers=yes", &["user"]),
        ("lab-private-network", "PrivateNetwork=yes\nPrivateIPC=yes", &["net", "ipc"]),
        (
            "lab-all",
            "RootDirectory=/lab/jail/rootfs\nPrivateTmp=yes\nPrivateUsers=yes\nDynamicUser=yes\n\
             PrivateNetwork=yes\nProtectSystem=strict\nProtectProc=invisible\nMountAPIVFS=yes",
            &["mnt", "user", "net"],
        ),
    ];
    all.map(|(name, settings, own)| Unit { name, settings, own, seconds: seconds() }).into()
}

fn fill(root: &Path, units: &[Unit]) {
    busybox_rootfs(&root.join("lab/jail"));
    for unit in units {
        let text = format!(
            "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep {}\n{}\n",
            unit.seconds, unit.settings
        );
        let file = format!("etc/systemd/system/{}.service", unit.name);
        std::fs::write(root.join(file), text).unwrap();
    }
    std::fs::copy(whose().bin(), root.join("lab/whose")).unwrap();
}

#[test]
fn sandboxes_of_systemds() {
    if !require(&["root", "busybox", "systemd-nspawn", "cgroup-v2", "dbus-daemon"]) {
        return;
    }
    let _alone = alone();
    let units = units();
    let name = unique("whose-units");
    let machine = Machine::boot(&name, |root| fill(root, &units)).unwrap_or_else(|e| panic!("{e}"));
    let mut cases = Cases::of("systemd");
    for unit in &units {
        cases.case(unit.name, || both_sides(&machine, unit));
    }
    drop(machine);
    cases.finish();
}

fn link(pid: u32, name: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    link.display().to_string()
}

fn both_sides(machine: &Machine, unit: &Unit) {
    machine.run(&["systemctl", "start", unit.name]).unwrap_or_else(|e| panic!("{e}"));
    let pid = sleeping(&unit.seconds);
    let service = format!("{}.service", unit.name);
    let mut facts = Facts::about(unit.name);
    for kind in ["mnt", "user", "net", "ipc"] {
        let own = link(pid, kind) != link(machine.init(), kind);
        facts.holds(kind, own || !unit.own.contains(&kind), (own, unit.own));
    }
    let inside = procfs::nspid(pid).unwrap()[1].to_string();
    let seen = machine.run(&["/lab/whose", "--json", &inside]).unwrap_or_else(|e| panic!("{e}"));
    let seen: Value = serde_json::from_str(&seen).unwrap();
    let seen = &seen["answers"][0];
    let owner = &seen["owner"];
    facts.same("kind", owner["kind"].as_str(), Some("unit"));
    facts.same("name", owner["name"].as_str(), Some(&*service));
    // What is around the machine can't be seen from there.
    facts.same("levels", kinds(seen), vec!["unknown", "unit"]);
    facts.same("role", seen["process"]["role"].as_str(), Some("host"));
    facts.same("gaps", &seen["gaps"], &json!([]));
    let script = format!("/lab/whose --in-container -q {inside} || echo $?");
    let code = machine.run(&["sh", "-c", &script]);
    // The machine is a container, and looks like none from inside.
    facts.same("--in-container", code.as_deref(), Ok("3"));
    let list = machine.run(&["/lab/whose", "ls", "-a", "--json"]).unwrap_or_else(|e| panic!("{e}"));
    let list: Value = serde_json::from_str(&list).unwrap();
    facts.same("containers there", &list["containers"], &json!([]));
    let told = answer(&pid.to_string());
    compare::kernel(&mut facts, &told, pid);
    facts.same("levels from the host", kinds(&told), vec!["machine"]);
    facts.same("machine", told["owner"]["name"].as_str(), Some(machine.name()));
    facts.same("role from the host", told["process"]["role"].as_str(), Some("workload"));
    let list = whose().args(["ls", "-a", "--json"]).run().expect_code(0).json();
    let rows = list["containers"].as_array().unwrap().iter();
    let with = |row: &&Value| row["pids"].as_array().is_some_and(|p| p.contains(&json!(pid)));
    let names: Vec<Option<&str>> = rows.filter(with).map(|row| row["name"].as_str()).collect();
    facts.same("containers with it", names, vec![Some(machine.name())]);
    compared(&format!("{service}, from both sides"), facts.finish(22));
}

/// The kinds of all levels.
fn kinds(told: &Value) -> Vec<&str> {
    let chain = told["chain"].as_array().into_iter().flatten();
    chain.filter_map(|level| level["kind"].as_str()).collect()
}
