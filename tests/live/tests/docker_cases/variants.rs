//! One container after another: everything said about it, and about each of its processes.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;
use whose_live_tests::lab::{Lab, MANY, Variant};
use whose_live_tests::{answer, compare, pid_of, unique, whose};
use whose_testkit::cgroup::{CgroupDir, dirs_named};
use whose_testkit::docker::IMAGE;
use whose_testkit::facts::Facts;
use whose_testkit::{procfs, which};

/// The least number of facts compared for a container.
const LEAST: usize = 12;

/// A running container and all its processes.
pub(crate) fn steady(lab: &Lab, variant: &Variant) {
    let target = Lab::target(variant);
    let inspect = lab.docker.inspect(&variant.name);
    let mut facts = Facts::about(format!("{} ({target})", variant.what));
    let told = answer(&target);
    facts.same("answer.kind", told["kind"].as_str(), Some("container"));
    facts.same("answer.status", told["status"].as_str(), Some("found"));
    compare::owner(&mut facts, &told["owner"], &inspect);
    let top = lab.pids(variant);
    facts.holds("docker top lists some", !top.is_empty(), &top);
    facts.same("processes", compare::pids(&told["processes"]), top.clone());
    let listed = whose().args(["pids", &target]).run().expect_code(0).pids();
    let ascending: Vec<u32> = top.iter().copied().collect();
    facts.same("whose pids", listed, ascending);
    if variant.what == "many" {
        facts.same("many are many", top.len(), MANY);
    }
    if variant.what == "pid-host" {
        let init = pid_of(&inspect["State"]["Pid"]).unwrap();
        facts.same("one number in NSpid", procfs::nspid(init).map(|n| n.len()), Some(1));
    }
    facts.finish(LEAST);
    processes(variant, &inspect, &top);
}

/// Every process leads back to the container.
fn processes(variant: &Variant, inspect: &serde_json::Value, pids: &BTreeSet<u32>) {
    let mut facts = Facts::about(format!("the processes of {}", variant.what));
    let words: Vec<String> = pids.iter().map(u32::to_string).collect();
    let told = whose().arg("--json").args(&words).run().expect_code(0).json();
    let answers = told["answers"].as_array().cloned().unwrap_or_default();
    facts.same("an answer a target", answers.len(), pids.len());
    for ((pid, word), answer) in pids.iter().zip(&words).zip(&answers) {
        facts.same("target", answer["target"].as_str(), Some(word.as_str()));
        compare::process(&mut facts, answer, *pid, &variant.id);
    }
    let init = pid_of(&inspect["State"]["Pid"]).expect("State.Pid");
    let alone = answer(&init.to_string());
    compare::process(&mut facts, &alone, init, &variant.id);
    compare::owner(&mut facts, &alone["owner"], inspect);
    facts.same("the init's role", alone["process"]["role"].as_str(), Some("init"));
    facts.finish(LEAST);
}

/// A container that does not run.
pub(crate) fn stopped(lab: &Lab, variant: &Variant) {
    let inspect = lab.docker.inspect(&variant.name);
    let mut facts = Facts::about(variant.what);
    let told = answer(&variant.name);
    compare::owner(&mut facts, &told["owner"], &inspect);
    facts.same("processes", compare::pids(&told["processes"]), BTreeSet::new());
    let run = whose().args(["pids", &variant.name]).run().expect_code(1);
    facts.same("nothing for kill", run.stdout_str(), "");
    let word = inspect["State"]["Status"].as_str().unwrap_or_default();
    let wanted = format!("{} is {word}", variant.name);
    facts.holds("it says why", run.stderr_str().contains(&wanted), (run.stderr_str(), wanted));
    facts.finish(LEAST);
}

/// A container that is restarted for ever: what never changes is right at any moment, the rest
/// fits either of two moments.
pub(crate) fn looping(lab: &Lab, variant: &Variant) {
    // The pause between two runs doubles each time; this begins anew with a short one.
    lab.docker.cli(&["restart", "-t", "0", &variant.name]);
    let inspect = lab.docker.inspect(&variant.name);
    let mut running = 0;
    for _ in 0..40 {
        let mut facts = Facts::about(variant.what);
        let told = answer(&variant.name);
        let owner = &told["owner"];
        facts.same("id", owner["id"].as_str(), Some(variant.id.as_str()));
        facts.same("name", owner["name"].as_str(), Some(variant.name.as_str()));
        facts.same("kind", owner["kind"].as_str(), Some("container"));
        facts.same("runtime", owner["runtime"].as_str(), Some("docker"));
        facts.same("image", &owner["image"], &inspect["Config"]["Image"]);
        facts.same("image_id", &owner["image_id"], &inspect["Image"]);
        let created = inspect["Created"].as_str().and_then(compare::millis);
        facts.same("created", owner["created"].as_str(), created.as_deref());
        facts.same("log", &owner["log"], &inspect["LogPath"]);
        let state = owner["state"].as_str().unwrap_or_default();
        let fits = ["running", "restarting", "exited"].contains(&state);
        facts.holds("state", fits, state);
        facts.holds("init_pid is no 0", owner["init_pid"].as_u64() != Some(0), &owner["init_pid"]);
        let run = whose().args(["pids", &variant.name]).run();
        facts.holds("exit code", matches!(run.code, Some(0 | 1)), run.story());
        facts.same("pids or none", run.code == Some(0), !run.stdout.is_empty());
        facts.finish(LEAST);
        running += usize::from(run.code == Some(0));
        std::thread::sleep(Duration::from_millis(25));
    }
    eprintln!("        running in {running} of 40 looks");
    assert!((1..40).contains(&running), "only one of its two states was seen");
}

/// An exec'd process is a child of the shim, and the container's.
pub(crate) fn exec(lab: &Lab) {
    let web = lab.variant("plain");
    let top = lab.pids(web);
    let execd = top
        .iter()
        .copied()
        .find(|pid| procfs::args(*pid).is_some_and(|a| a == ["sleep", "20001"]))
        .expect("the exec'd sleep");
    assert_eq!(procfs::ppid(execd), Some(lab.shim(web)));
    let told = answer(&execd.to_string());
    let mut facts = Facts::about("exec");
    compare::process(&mut facts, &told, execd, &web.id);
    facts.same("role", told["process"]["role"].as_str(), Some("exec"));
    facts.same("args", &told["process"]["args"], &serde_json::json!(["sleep", "20001"]));
    facts.finish(8);
}

/// A process below the container's cgroup, as with systemd inside.
pub(crate) fn nested_cgroup(lab: &Lab) {
    let name = unique("nest");
    let id =
        lab.docker.run(&["--name", &name, IMAGE, "sh", "-c", "sleep 10001 & exec sleep 10000"]);
    let init = lab.docker.init_pid(&name);
    let child = procfs::wait_for("the child", Duration::from_secs(5), || {
        procfs::children(init).first().copied()
    });
    let inner: Vec<CgroupDir> = dirs_named(&id)
        .iter()
        .map(|dir| CgroupDir::make(dir, "system.slice/nginx.service"))
        .collect();
    assert!(!inner.is_empty(), "no cgroup of {id}");
    inner.iter().for_each(|dir| dir.join(child));
    let listed = whose().args(["pids", &name]).run().expect_code(0).pids();
    let told = answer(&child.to_string());
    lab.docker.cli(&["rm", "-f", &name]);
    let mut facts = Facts::about("nested cgroup");
    facts.same("whose pids", BTreeSet::from_iter(listed), BTreeSet::from([init, child]));
    facts.same("owner.id", told["owner"]["id"].as_str(), Some(id.as_str()));
    facts.finish(2);
}

/// A zombie in a container is the container's, or nobody knows; never the host's.
pub(crate) fn zombie(lab: &Lab) {
    let undead = lab.variant("zombie");
    let init = lab.docker.init_pid(&undead.name);
    let zombie = procfs::wait_for("the zombie", Duration::from_secs(10), || {
        procfs::children(init).into_iter().find(|pid| procfs::state(*pid) == Some('Z'))
    });
    let run = whose().args(["--json", &zombie.to_string()]).run();
    let told = run.json()["answers"][0].clone();
    assert_ne!(told["owner"]["kind"], "host", "{}", run.story());
    assert_eq!(told["process"]["state"], "Z", "{}", run.story());
    match told["owner"]["id"].as_str() {
        // Its parent and its NSpid say whose it was, whatever became of its cgroup.
        Some(id) => assert_eq!(id, undead.id, "{}", run.story()),
        None => assert_eq!(run.code, Some(3), "{}", run.story()),
    }
    let rows = whose().args(["ps", "-o", "pid,owner", "--json"]).run().expect_code(0).json();
    let row = rows["rows"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| pid_of(&r["process"]["pid"]) == Some(zombie));
    assert_ne!(row.expect("a row for the zombie")["owner"]["kind"], "host");
}

/// The real docker-compose, where it is installed and works with the daemon.
pub(crate) fn compose(lab: &Lab) {
    let Some(program) = which("docker-compose") else {
        return eprintln!("skipped: docker-compose: not installed");
    };
    let dir = tempfile::tempdir().expect("a directory for the project");
    let project = unique("shop");
    let file = format!(
        "version: '2.4'\nservices:\n  front:\n    image: {IMAGE}\n    command: sleep 10000\n    \
         network_mode: none\n"
    );
    std::fs::write(dir.path().join("docker-compose.yml"), file).unwrap();
    let up = Command::new(program)
        .current_dir(dir.path())
        .env("DOCKER_HOST", format!("unix://{}", lab.docker.socket().display()))
        .args(["-p", &project, "up", "-d"])
        .output()
        .expect("running docker-compose");
    if !up.status.success() {
        let why = String::from_utf8_lossy(&up.stderr).into_owned();
        return eprintln!("skipped: docker-compose on {}: {why}", lab.docker.view().name());
    }
    let filter = format!("label=com.docker.compose.project={project}");
    let id = lab.docker.cli(&["ps", "-q", "--no-trunc", "--filter", &filter]);
    let inspect = lab.docker.inspect(&id);
    let told = answer(&id);
    lab.docker.cli(&["rm", "-f", &id]);
    let mut facts = Facts::about("docker-compose");
    compare::owner(&mut facts, &told["owner"], &inspect);
    facts.same("project", told["owner"]["compose"]["project"].as_str(), Some(project.as_str()));
    facts.same("service", told["owner"]["compose"]["service"].as_str(), Some("front"));
    facts.finish(LEAST);
}
