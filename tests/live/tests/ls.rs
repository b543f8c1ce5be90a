//! `whose ls` against real engines: the host's, users' own, and engines in containers.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;
use whose_live_tests::inner::{FuseDir, Rootless, busybox_archive, engine_in_a_container, inside};
use whose_live_tests::{alone, answer, compare, pid_of, trace, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::{Docker, IMAGE, View};
use whose_testkit::facts::Facts;
use whose_testkit::{procfs, require, skip};

const NEEDS: &[&str] = &["root", "docker", "cgroup-v2", "mount-namespace", "strace"];

fn listed(args: &[&str]) -> Value {
    whose().args(["ls", "--json"]).args(args).run().expect_code(0).json()
}

/// The container with this id, if it is listed.
fn find<'v>(document: &'v Value, id: &str) -> Option<&'v Value> {
    document["containers"].as_array()?.iter().find(|c| c["id"] == id)
}

fn pids(container: &Value) -> BTreeSet<u32> {
    container["pids"].as_array().into_iter().flatten().filter_map(pid_of).collect()
}

/// The processes that `docker top` tells, but zombies: those are in no cgroup's list.
fn living(pids: BTreeSet<u32>) -> BTreeSet<u32> {
    pids.into_iter().filter(|pid| procfs::state(*pid) != Some('Z')).collect()
}

#[test]
fn the_hosts_containers_on_hybrid_cgroups() {
    if require(NEEDS) && require(&["cgroup-hybrid"]) {
        hosts(View::Hybrid);
    }
}

#[test]
fn the_hosts_containers_on_cgroup_v2() {
    if require(NEEDS) {
        hosts(View::V2);
    }
}

/// Containers of every state.
fn populate(docker: &Docker) {
    docker.image();
    let run = |name: &str, options: &[&str], command: &[&str]| {
        let name = unique(name);
        docker.run(&[&["--name", &name][..], options, command].concat());
        name
    };
    let sleep = [IMAGE, "sleep", "10000"];
    let labels = ["-l", "tier=front", "-l", "com.docker.compose.project=shop"];
    let web = run("web", &labels, &[IMAGE, "sh", "-c", "sleep 10001 & exec sleep 10000"]);
    docker.cli(&["exec", "-d", &web, "sleep", "20001"]);
    run("user", &["--user", "1000"], &sleep);
    run("init", &["--init"], &sleep);
    run("pidhost", &["--pid=host"], &sleep);
    run("parent", &[&docker.own_cgroup_parent()], &sleep);
    let paused = run("paused", &[], &sleep);
    docker.cli(&["pause", &paused]);
    let gone = run("gone", &[], &[IMAGE, "sh", "-c", "exit 3"]);
    docker.cli(&["wait", &gone]);
    let _ = docker.create(&["--name", &unique("fresh"), IMAGE, "sleep", "1"]);
    procfs::wait_for("all processes", Duration::from_secs(20), || {
        let ready = |pid: &u32| procfs::comm(*pid).is_some_and(|comm| comm == "sleep");
        let pids = docker.top_pids(&web);
        (pids.len() == 3 && pids.iter().all(ready)).then_some(())
    });
}

fn hosts(view: View) {
    let _alone = alone();
    let docker = Docker::options(view).start().unwrap_or_else(|e| panic!("{e}"));
    populate(&docker);
    let mut cases = Cases::of(format!("ls-{}", view.name()));
    cases.case("every fact of every container", || every_fact(&docker));
    cases.case("what runs", || what_runs(&docker));
    cases.case("totals", || totals(&docker));
    cases.case("restarting", || restarting(&docker));
    cases.case("plain forms", || plain_forms(&docker));
    cases.case("build step", || build_step(&docker));
    cases.case("ordinary user", || ordinary_user(&docker));
    for args in [&["ls"][..], &["ls", "-a"], &["ls", "--json"], &["ls", "-q"]] {
        cases.case(&format!("strace: whose {}", args.join(" ")), || trace::only_reads(args, 0));
    }
    drop(docker);
    cases.finish();
}

fn every_fact(docker: &Docker) {
    let document = listed(&["-a"]);
    let mut facts = Facts::about("ls -a");
    let ids = docker.all();
    for id in &ids {
        let inspect = docker.inspect(id);
        let Some(container) = find(&document, id) else { panic!("{id} is not listed") };
        compare::owner(&mut facts, container, &inspect);
        let up = inspect["State"]["Running"] == true;
        let wanted = if up { living(docker.top_pids(id)) } else { BTreeSet::new() };
        facts.same("pids", pids(container), wanted.clone());
        facts.same("processes", container["processes"].as_u64(), Some(wanted.len() as u64));
    }
    let others = document["containers"].as_array().into_iter().flatten();
    let twice = others.filter(|c| ids.iter().any(|id| c["id"] == id.as_str())).count();
    facts.same("each once", twice, ids.len());
    facts.finish(ids.len() * 12);
}

fn what_runs(docker: &Docker) {
    let document = listed(&[]);
    let mut facts = Facts::about("ls");
    let running: BTreeSet<String> = docker.running().into_iter().collect();
    for id in docker.all() {
        facts.same(&id, find(&document, &id).is_some(), running.contains(&id));
    }
    facts.finish(8);
}

/// What is summed up, against what /proc tells of each process. All of them sleep.
fn totals(docker: &Docker) {
    let columns = ["ls", "--json", "-o", "rss,threads,cpu_time,io_read,io_write,fds,pcpu"];
    let document = whose().args(columns).run().expect_code(0).json();
    let mut facts = Facts::about("totals");
    for id in docker.running() {
        let Some(container) = find(&document, &id) else { panic!("{id} is not listed") };
        let pids = living(docker.top_pids(&id));
        let sum = |of: &dyn Fn(u32) -> Option<u64>| pids.iter().map(|pid| of(*pid)).sum();
        let line = |pid: u32, file: &str, key: &str| -> Option<u64> {
            let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
            let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let rss: Option<u64> = sum(&|pid| line(pid, "status", "VmRSS"));
        facts.same("rss", container["rss"].as_u64(), rss.map(|kb| kb * 1024));
        facts.same(
            "threads",
            container["threads"].as_u64(),
            sum(&|pid| line(pid, "status", "Threads")),
        );
        for (key, counter) in [("io_read", "read_bytes"), ("io_write", "write_bytes")] {
            facts.same(key, container[key].as_u64(), sum(&|pid| line(pid, "io", counter)));
        }
        let open =
            |pid: u32| Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64);
        facts.same("fds", container["fds"].as_u64(), sum(&open));
        let ticks: Option<u64> = sum(&|pid| {
            let fields = procfs::stat_fields(pid)?;
            Some(fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?)
        });
        let hundredths = ticks.and_then(|t| u32::try_from(t).ok()).map(f64::from);
        let told = container["cpu_time"].as_f64().map(|seconds| (seconds * 100.0).round());
        facts.same("cpu_time", told, hundredths);
        facts.holds("pcpu", container["pcpu"].is_number(), &container["pcpu"]);
    }
    let largest = whose().args(["ls", "-q", "--sort", "-rss"]).run().expect_code(0).stdout_str();
    let rss = |id: &str| find(&document, id).and_then(|c| c["rss"].as_u64());
    let sorted: Vec<Option<u64>> = largest.lines().map(rss).collect();
    facts.holds("sorted", sorted.windows(2).all(|w| w[0] >= w[1]), &sorted);
    facts.finish(40);
    let run = whose().as_user(65534, 65534).args(columns).run().expect_code(0);
    let document = run.json();
    let web = docker.inspect(&unique("web"))["Id"].as_str().unwrap().to_owned();
    let container = find(&document, &web).unwrap_or_else(|| panic!("{}", run.story()));
    assert!(container["io_read"].is_null() && container["rss"].is_u64(), "{container:#}");
    let gaps = document["gaps"].as_array().unwrap();
    assert!(gaps.iter().any(|g| g["what"] == "I/O counters"), "{gaps:#?}");
}

/// Between two runs it has no process, and docker still lists it.
fn restarting(docker: &Docker) {
    let name = unique("again");
    let args = ["--name", &name, "--restart=always", IMAGE, "sh", "-c", "exit 3"];
    let id = docker.run(&args);
    let state = procfs::wait_for("a restarting container", Duration::from_secs(60), || {
        let document = listed(&[]);
        let container = find(&document, &id).cloned();
        let container = container.filter(|c| c["state"] == "restarting");
        container.filter(|_| docker.inspect(&id)["State"]["Status"] == "restarting")
    });
    assert_eq!(state["processes"], 0, "{state:#}");
    docker.cli(&["rm", "-f", &name]);
    assert!(find(&listed(&["-a"]), &id).is_none(), "it was removed");
}

fn plain_forms(docker: &Docker) {
    let web = unique("web");
    let id = docker.inspect(&web)["Id"].as_str().unwrap().to_owned();
    let run = whose().args(["ls", "-q"]).run().expect_code(0);
    let ids: BTreeSet<String> = run.stdout_str().lines().map(str::to_owned).collect();
    for id in docker.running() {
        assert!(ids.contains(&id), "{id}\n{}", run.story());
    }
    let pid = docker.init_pid(&web).to_string();
    for target in [web.as_str(), &id, &pid] {
        let run = whose().args(["ls", "-q", target]).run().expect_code(0);
        assert_eq!(run.stdout_str(), format!("{id}\n"), "{target}");
    }
    let run = whose().args(["ls", "-o", "chain,processes", "--no-headers", &web]).run();
    assert_eq!(run.expect_code(0).stdout_str().split_whitespace().collect::<Vec<_>>(), [&web, "3"]);
}

/// It looks like a container and is none.
fn build_step(docker: &Docker) {
    let work = tempfile::tempdir().expect("a directory to build in");
    let _ = busybox_archive(work.path());
    let file = "FROM scratch\nCOPY busybox/bin /bin\nRUN [\"/bin/sleep\", \"31\"]\n";
    std::fs::write(work.path().join("Dockerfile"), file).expect("a Dockerfile");
    let mut command = Command::new("/usr/bin/docker");
    command.args(["-H", &format!("unix://{}", docker.socket().display()), "build", "-q"]);
    command.args(["--network=none", "--no-cache"]).arg(work.path());
    command.env("DOCKER_BUILDKIT", "1").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut build = command.spawn().expect("a build");
    let step = |pid: &u32| {
        let args = procfs::args(*pid).unwrap_or_default();
        let cgroup = procfs::cgroup(*pid).unwrap_or_default();
        args == ["/bin/sleep", "31"] && cgroup.contains("buildkit")
    };
    let mut waited = 0;
    let pid = loop {
        if let Some(pid) = procfs::pids().into_iter().find(step) {
            break pid;
        }
        if build.try_wait().expect("the build").is_some() || waited == 200 {
            drop(build.kill());
            let out = build.wait_with_output().expect("the build");
            return skip("buildkit", String::from_utf8_lossy(&out.stderr).trim());
        }
        waited += 1;
        std::thread::sleep(Duration::from_millis(100));
    };
    let told = answer(&pid.to_string());
    let document = listed(&["-a"]);
    drop(build.kill());
    drop(build.wait());
    assert_eq!(
        (&told["owner"]["kind"], &told["owner"]["runtime"]),
        (&"job".into(), &"buildkit".into())
    );
    let all = document["containers"].as_array().unwrap();
    assert!(!all.iter().any(|c| pids(c).contains(&pid)), "{document:#}");
}

fn ordinary_user(docker: &Docker) {
    let run = whose().as_user(65534, 65534).args(["ls", "--json"]).run().expect_code(0);
    let document = run.json();
    let web = docker.inspect(&unique("web"))["Id"].as_str().unwrap().to_owned();
    let container = find(&document, &web).unwrap_or_else(|| panic!("{}", run.story()));
    assert!(container["name"].is_null(), "{container:#}");
    assert_eq!(pids(container), living(docker.top_pids(&web)));
    assert!(!document["gaps"].as_array().unwrap().is_empty(), "{document:#}");
    assert_eq!(run.stderr_str().lines().count(), 1, "{}", run.story());
    whose().as_user(65534, 65534).args(["ls", "--strict"]).run().expect_code(3);
}

/// Engines in containers: on a directory of the host, and on a tmpfs that only the container sees.
#[test]
fn docker_in_docker() {
    if !require(NEEDS) || !require(&["cgroup-hybrid"]) {
        return;
    }
    let _alone = alone();
    let docker = Docker::hybrid().unwrap_or_else(|e| panic!("{e}"));
    let work = tempfile::tempdir().expect("a directory for the engines");
    let data = work.path().join("data");
    std::fs::create_dir(&data).expect("a data root");
    let mut cases = Cases::of("docker-in-docker");
    let mut outers = Vec::new();
    for (name, data) in [("volume", Some(data.as_path())), ("tmpfs", None)] {
        let outer = unique(name);
        let id = engine_in_a_container(&docker, work.path(), &outer, data);
        let run = ["run", "-d", "--network=none", "--name", name, "-l", "deep=yes", "lab-inner:1"];
        let command = ["sh", "-c", "sleep 25001 & exec sleep 25000"];
        let inner = inside(&docker, &outer, &[&run[..], &command].concat());
        let stopped = ["create", "--network=none", "--name", "never", "lab-inner:1", "sleep", "1"];
        let _ = inside(&docker, &outer, &stopped);
        outers.push((name, outer, id, inner));
    }
    for (name, outer, id, inner) in &outers {
        cases.case(name, || nested(&docker, name, outer, id, inner));
    }
    cases.case("a name in two engines", || {
        let run = whose().args(["--json", "never"]).run().expect_code(4);
        let told = run.json()["answers"][0].clone();
        assert_eq!(told["candidates"].as_array().unwrap().len(), 2, "{told:#}");
    });
    cases.case("strace: whose ls", || trace::only_reads(&["ls", "-a"], 0));
    cases.case("strace: an inner name", || trace::only_reads(&["tmpfs"], 0));
    drop(docker);
    cases.finish();
}

fn nested(docker: &Docker, name: &str, outer: &str, outer_id: &str, inner: &str) {
    let inspect: Value = serde_json::from_str(&inside(docker, outer, &["inspect", inner])).unwrap();
    let mut inspect = inspect[0].clone();
    // What the inner engine calls a PID or a path is none of the host's.
    let believed = pid_of(&inspect["State"]["Pid"]).unwrap();
    let members: BTreeSet<u32> = procfs::pids()
        .into_iter()
        .filter(|pid| procfs::cgroup(*pid).is_some_and(|text| text.contains(inner)))
        .collect();
    let level = |pid: &&u32| procfs::nspid(**pid).is_some_and(|n| n.len() == 3 && n[1] == believed);
    let init = *members.iter().find(level).expect("the inner init");
    inspect["State"]["Pid"] = init.into();
    inspect["LogPath"] = "".into();
    let mut facts = Facts::about(format!("{outer}/{name}"));
    let document = listed(&["-a"]);
    let container = find(&document, inner).unwrap_or_else(|| panic!("{document:#}"));
    compare::owner(&mut facts, container, &inspect);
    facts.same("pids", pids(container), members.clone());
    let chain = |told: &Value| -> Vec<String> {
        let levels = told["chain"].as_array().cloned().unwrap_or_default();
        levels.iter().filter_map(|o| o["id"].as_str().map(str::to_owned)).collect()
    };
    let wanted = [outer_id.to_owned(), inner.to_owned()];
    facts.same("chain", chain(container), wanted.to_vec());
    for target in [name, inner, &inner[..12], &init.to_string()] {
        let told = answer(target);
        compare::owner(&mut facts, &told["owner"], &inspect);
        facts.same(&format!("{target} chain"), chain(&told), wanted.to_vec());
        facts.same("outer", told["chain"][0]["name"].as_str(), Some(outer));
    }
    let run = whose().args(["pids", name]).run().expect_code(0);
    facts.same("pids of", run.pids().into_iter().collect::<BTreeSet<_>>(), members.clone());
    let whole = pids(find(&document, outer_id).unwrap());
    facts.holds("the outer one has them too", members.is_subset(&whole), &whole);
    let table = whose().args(["ls", "-a", "-o", "chain,status", "--no-headers"]).run();
    let table = table.expect_code(0).stdout_str();
    let line = |what: &str, state: &str| {
        let wanted = [format!("{outer}/{what}"), state.to_owned()];
        table.lines().any(|l| l.split_whitespace().eq(wanted.iter().map(String::as_str)))
    };
    facts.holds("outer/inner", line(name, "running"), &table);
    facts.holds("outer/never", line("never", "created"), &table);
    facts.finish(60);
}

/// A user's own engine, on a host without systemd: no cgroup names its containers.
#[test]
fn a_users_own_engine() {
    if !require(NEEDS) || !require(&["rootlesskit", "newuidmap", "useradd", "su"]) {
        return;
    }
    let _alone = alone();
    let rootless = match Rootless::start() {
        Ok(rootless) => rootless,
        Err(why) => return skip("rootless docker", &why),
    };
    let work = tempfile::tempdir().expect("a directory for the image");
    let archive = busybox_archive(work.path());
    let import = ["import", "--change", "ENV PATH=/bin", archive.to_str().unwrap(), "lab:1"];
    let _ = rootless.cli(&import);
    let name = unique("mine");
    let run = ["run", "-d", "--network=none", "--name", &name, "-l", "whose=mine", "lab:1"];
    let command = ["sh", "-c", "sleep 26001 & exec sleep 26000"];
    let id = rootless.cli(&[&run[..], &command].concat());
    let never = unique("unborn");
    let stopped =
        rootless.cli(&["create", "--network=none", "--name", &never, "lab:1", "sleep", "1"]);
    let inspect = |id: &str| -> Value {
        let text = rootless.cli(&["inspect", id]);
        serde_json::from_str::<Value>(&text).unwrap()[0].clone()
    };
    let mut cases = Cases::of("rootless-docker");
    let wanted = inspect(&id);
    let init = pid_of(&wanted["State"]["Pid"]).unwrap();
    let members = procfs::wait_for("both processes", Duration::from_secs(20), || {
        let mut all = procfs::children(init);
        all.insert(init);
        (all.len() == 2).then_some(all)
    });
    cases.case("ls", || {
        let mut facts = Facts::about("a user's containers");
        let document = listed(&["-a"]);
        for (id, inspect) in [(&id, wanted.clone()), (&stopped, inspect(&stopped))] {
            let container = find(&document, id).unwrap_or_else(|| panic!("{document:#}"));
            compare::owner(&mut facts, container, &inspect);
            facts.same("user", container["user"].as_str(), Some(rootless.user()));
        }
        facts.same("pids", pids(find(&document, &id).unwrap()), members.clone());
        facts.same("not run", find(&listed(&[]), &stopped).is_some(), false);
        facts.finish(28);
    });
    cases.case("targets", || {
        let mut facts = Facts::about("a user's container");
        for target in [name.as_str(), &id, &id[..12], &init.to_string()] {
            let told = answer(target);
            compare::owner(&mut facts, &told["owner"], &wanted);
            facts.same("user", told["owner"]["user"].as_str(), Some(rootless.user()));
        }
        let run = whose().args(["pids", &name]).run().expect_code(0);
        facts.same("pids", run.pids().into_iter().collect::<BTreeSet<_>>(), members.clone());
        facts.finish(52);
    });
    cases.case("ps", || {
        let run = whose().args(["ps", "-o", "owner", "--no-headers", &init.to_string()]).run();
        assert_eq!(run.expect_code(0).stdout_str(), format!("{}@{name}\n", rootless.user()));
    });
    cases.case("strace: whose ls", || trace::only_reads(&["ls", "-a"], 0));
    drop(rootless);
    cases.finish();
}

/// A container's engine whose state never answers: the rest is told, in time.
#[test]
fn state_that_never_answers_stops_nobody() {
    if !require(NEEDS) || !require(&["fuse", "fuse-overlayfs"]) {
        return;
    }
    let _alone = alone();
    let work = tempfile::tempdir().expect("a directory for the trap");
    let at = work.path().join("data");
    // Before the engine starts, whose mounts are its own from then on.
    let trap = match FuseDir::mount(work.path(), &at) {
        Ok(trap) => trap,
        Err(why) => return skip("fuse-overlayfs", &why),
    };
    let docker = Docker::v2().unwrap_or_else(|e| panic!("{e}"));
    docker.image();
    let other = docker.run(&["--name", &unique("other"), IMAGE, "sleep", "10000"]);
    let bind = format!("{}:/var/lib/docker", at.display());
    let name = unique("deaf");
    let script = "printf dockerd > /proc/self/comm; sleep 10000; :";
    let id = docker.run(&["--name", &name, "-v", &bind, IMAGE, "sh", "-c", script]);
    let init = docker.init_pid(&name);
    procfs::wait_for("a process called dockerd", Duration::from_secs(10), || {
        (procfs::comm(init).as_deref() == Some("dockerd")).then_some(())
    });
    trap.deafen();
    let run = whose().args(["ls", "-a", "--json"]).timeout(Duration::from_secs(20)).run();
    let run = run.expect_code(0);
    let document = run.json();
    let mut facts = Facts::about("beside a deaf state");
    for id in [&other, &id] {
        let container = find(&document, id).unwrap_or_else(|| panic!("{document:#}"));
        compare::owner(&mut facts, container, &docker.inspect(id));
        facts.same("pids", pids(container), living(docker.top_pids(id)));
    }
    let fuse = |gap: &Value| gap["cause"].as_str().is_some_and(|c| c.contains("fuse"));
    let gaps = document["gaps"].as_array().unwrap();
    facts.holds("a gap", gaps.iter().any(fuse), gaps.len());
    let absent = whose().args(["no-such-name"]).timeout(Duration::from_secs(10)).run();
    facts.holds("a name", absent.code == Some(1) || absent.code == Some(3), absent.story());
    facts.finish(26);
    drop(trap);
}
