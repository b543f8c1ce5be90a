//! What a user may type, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};
use whose_live_tests::lab::{Kind, Lab};
use whose_live_tests::{answer, compare, pid_of, unique, whose};
use whose_testkit::facts::Facts;

/// Every id, and a prefix of each that no other id of the lab has.
pub(crate) fn prefix_and_id(lab: &Lab) {
    let mut facts = Facts::about("ids and prefixes");
    for variant in &lab.variants {
        let by_id = answer(&variant.id);
        facts.same(variant.what, by_id["owner"]["name"].as_str(), Some(variant.name.as_str()));
        let short = answer(&variant.id[..12]);
        facts.same(variant.what, short["owner"]["id"].as_str(), Some(variant.id.as_str()));
        facts.same(variant.what, short["target"].as_str(), Some(&variant.id[..12]));
        // As short as it can be, with a letter: digits alone are a PID.
        let shortest = (4..64).map(|n| &variant.id[..n]).find(|prefix| {
            let digits = prefix.bytes().all(|b| b.is_ascii_digit());
            !digits && !lab.variants.iter().any(|v| v.id != variant.id && v.id.starts_with(prefix))
        });
        let shortest = shortest.expect("ids differ");
        let named = format!("container:{shortest}");
        for target in [shortest, named.as_str()] {
            let found = answer(target);
            facts.same(target, found["owner"]["id"].as_str(), Some(variant.id.as_str()));
        }
    }
    facts.finish(5 * 15);
}

/// More than 16 ids: two of them begin with the same digit.
pub(crate) fn ambiguous_prefix(lab: &Lab) {
    let mut by_digit: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let ids = lab.docker.all();
    for id in &ids {
        by_digit.entry(&id[..1]).or_default().push(id);
    }
    let (digit, fitting) =
        by_digit.into_iter().find(|(_, ids)| ids.len() > 1).expect("more than 16 ids");
    let target = format!("container:{digit}");
    let run = whose().args(["--json", &target]).run().expect_code(4);
    let told = run.json()["answers"][0].clone();
    assert_eq!(told["status"], "ambiguous", "{told:#}");
    let candidates = told["candidates"].as_array().cloned().unwrap_or_default();
    let found: Vec<String> = candidates
        .iter()
        .filter_map(|c| answer(c.as_str()?)["owner"]["id"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(found.len(), candidates.len(), "each candidate resolves to exactly one");
    for id in fitting {
        assert!(found.iter().any(|f| f == id), "{id} is missing in {found:?}");
    }
    let run = whose().args(["pids", &target]).run().expect_code(4);
    assert!(run.stdout.is_empty() && !run.stderr.is_empty(), "{}", run.story());
}

pub(crate) fn not_there() {
    let name = unique("nobody");
    for target in [name.as_str(), "../x", "feedfacefeedfacefeed"] {
        let run = whose().args(["--json", "--", target]).run().expect_code(1);
        assert_eq!(run.json()["answers"][0]["status"], "not-found", "{}", run.story());
        let run = whose().args(["pids", "--", target]).run().expect_code(1);
        assert!(run.stdout.is_empty() && !run.stderr.is_empty(), "{}", run.story());
    }
    for target in ["0", "4194304", "4194305"] {
        let run = whose().arg(target).run();
        assert_eq!(run.code, Some(1), "{}", run.story());
    }
    assert_eq!(whose().arg("-1").run().code, Some(2));
    let run = whose().args(["--", "-rf"]).run();
    assert_eq!(run.code, Some(1), "{}", run.story());
}

/// A container may be called like a PID or a subcommand.
pub(crate) fn odd_names(lab: &Lab) {
    let number = lab.variant("named-number");
    let me = std::process::id();
    assert_eq!(number.name, me.to_string());
    let told = answer(&number.name);
    assert_eq!(told["kind"], "process", "digits are a PID and nothing else: {told:#}");
    assert_eq!(pid_of(&told["process"]["pid"]), Some(me));
    let told = answer(&format!("container:{}", number.name));
    assert_eq!(told["owner"]["id"], number.id.as_str(), "{told:#}");
    let ps = lab.variant("named-ps");
    let run = whose().args(["--json", "--", "ps"]).run().expect_code(0);
    assert_eq!(run.json()["answers"][0]["owner"]["id"], ps.id.as_str(), "{}", run.story());
}

pub(crate) fn plain_forms(lab: &Lab) {
    let web = lab.variant("plain");
    let run = whose().args(["-q", &web.name]).run().expect_code(0);
    assert_eq!(run.stdout_str(), format!("{}\n", web.id));
    let words: Vec<String> = lab.pids(web).iter().map(u32::to_string).collect();
    let run = whose().args(["pids", "-d,", &web.name]).run().expect_code(0);
    assert_eq!(run.stdout_str().trim_end(), words.join(","));
    // The card names what one would look for.
    let pid = lab.docker.init_pid(&web.name).to_string();
    let card = whose().arg(&pid).run().expect_code(0).stdout_str();
    for part in [pid.as_str(), &web.name, &web.id, "lab-busybox:1", "docker", "running"] {
        assert!(card.contains(part), "{part} is not on the card:\n{card}");
    }
    assert!(!card.contains('\u{1b}'), "colours in a pipe:\n{card}");
    let run = whose().args(["pids", &pid]).run().expect_code(0);
    assert!(run.pids().contains(&pid.parse().unwrap()), "{}", run.story());
}

pub(crate) fn in_container(lab: &Lab) {
    for variant in lab.of_kind(Kind::Steady) {
        let pid = lab.docker.init_pid(&variant.name).to_string();
        let run = whose().args(["--in-container", "-q", &pid]).run().expect_code(0);
        assert!(!run.pipes_held, "{}", run.story());
    }
    let mine = answer(&std::process::id().to_string());
    if ["host", "unit", "session"].contains(&mine["owner"]["kind"].as_str().unwrap_or_default()) {
        let me = std::process::id().to_string();
        drop(whose().args(["--in-container", &me]).run().expect_code(5));
        let daemon = lab.docker.dockerd_pid().to_string();
        drop(whose().args(["--in-container", &daemon]).run().expect_code(5));
    }
}

/// Without rights the id is known from the cgroup; the name is a gap with its remedy, for docker's
/// files are root's.
pub(crate) fn ordinary_user(lab: &Lab) {
    let web = lab.variant("plain");
    let pid = lab.docker.init_pid(&web.name).to_string();
    let run = whose().as_user(65_534, 65_534).args(["--json", &pid]).run().expect_code(0);
    let told = run.json()["answers"][0].clone();
    assert_eq!(told["owner"]["id"], web.id.as_str(), "{}", run.story());
    assert!(told["owner"]["name"].is_null(), "{}", run.story());
    let gaps = told["gaps"].as_array().cloned().unwrap_or_default();
    let forbidden = gaps.iter().find(|g| g["class"] == "forbidden");
    let gap = forbidden.unwrap_or_else(|| panic!("no gap says why\n{}", run.story()));
    assert!(gap["remedy"].as_str().is_some_and(|r| !r.is_empty()), "{gap:#}");
}

/// For who is logged in where the daemon is: on v2 `/sys/fs/cgroup` is cgroup2 there.
pub(crate) fn in_the_engines_mount_namespace(lab: &Lab) {
    let dockerd = lab.docker.dockerd_pid();
    let mut facts = Facts::about(format!("seen from the {} view", lab.docker.view().name()));
    for what in ["plain", "many", "cgroup-parent", "pid-host", "joined", "paused", "90-layers"] {
        let variant = lab.variant(what);
        let here = || whose().in_mount_namespace_of(dockerd);
        let run = here().args(["--json", &variant.name]).run().expect_code(0);
        let told = run.json()["answers"][0].clone();
        compare::owner(&mut facts, &told["owner"], &lab.docker.inspect(&variant.name));
        facts.same(what, compare::pids(&told["processes"]), lab.pids(variant));
        let pids = here().args(["pids", &variant.name]).run().expect_code(0).pids();
        facts.same(what, BTreeSet::from_iter(pids), lab.pids(variant));
        let init = lab.docker.init_pid(&variant.name);
        let told = here().args(["--json", &init.to_string()]).run().expect_code(0).json();
        compare::process(&mut facts, &told["answers"][0], init, &variant.id);
    }
    facts.finish(7 * 20);
}
