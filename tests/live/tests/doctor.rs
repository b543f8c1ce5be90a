//! `whose doctor` beside the other commands on the same host: it tells of every gap that they meet,
//! and of none that they don't.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use whose_live_tests::{alone, trace, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::{Docker, IMAGE, View};
use whose_testkit::facts::Facts;
use whose_testkit::harness::Whose;
use whose_testkit::{procfs, require};

const NEEDS: &[&str] = &["root", "docker", "cgroup-v2", "mount-namespace", "strace"];
const NOBODY: u32 = 65534;

fn asked(user: Option<u32>) -> Whose {
    user.map_or_else(whose, |uid| whose().as_user(uid, uid))
}

/// Words of gaps, each with one that has it, for the report.
type Words = BTreeMap<String, String>;

/// The words of all gaps anywhere in a document.
fn words(value: &Value, key: &str, into: &mut Words) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                if name == key {
                    let gaps = value.as_array().into_iter().flatten();
                    into.extend(
                        gaps.filter_map(|g| Some((g["what"].as_str()?.to_owned(), g.to_string()))),
                    );
                } else {
                    words(value, key, into);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|v| words(v, key, into)),
        _ => {}
    }
}

/// Everything that the other commands say could not be read.
fn met(user: Option<u32>, targets: &[String], docker: &Docker) -> Words {
    let mut found = Words::new();
    let columns: Vec<&str> = whose_fields::FIELDS.iter().map(|f| f.name).collect();
    let columns = columns.join(",");
    let mut commands: Vec<Vec<String>> = Vec::new();
    let line = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    commands.push(line(&["ps", "-k", "--json", "-o", &columns]));
    commands.push(line(&["ls", "-a", "--json", "-o", &columns]));
    for target in targets {
        commands.push(line(&["--json", target]));
        if !target.contains('/') && !target.contains(':') {
            commands.push(line(&["exe", "--hash", "--json", target]));
        }
    }
    let data = docker.data_root().display().to_string();
    for target in [data.clone(), format!("{data}/overlay2"), format!("layer:{}", "0".repeat(64))] {
        commands.push(line(&["--json", &target]));
    }
    for command in commands {
        let run = asked(user).args(&command).timeout(Duration::from_secs(60)).run();
        assert!([0, 1, 3].contains(&run.code.unwrap()), "{}", run.story());
        words(&run.json(), "gaps", &mut found);
    }
    for target in targets {
        // A card asks for what JSON does not have: the links of a process.
        let run = asked(user).args(["--why", target]).run();
        let text = run.stdout_str();
        let lines = text.lines().filter_map(|l| l.trim_start().strip_prefix("not read"));
        found
            .extend(lines.filter_map(|l| Some((l.trim().split_once(':')?.0.to_owned(), l.into()))));
    }
    found
}

fn told(user: Option<u32>) -> Value {
    asked(user)
        .args(["doctor", "--json"])
        .timeout(Duration::from_secs(60))
        .run()
        .expect_code(0)
        .json()
}

#[test]
fn doctor_tells_what_the_other_commands_meet() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let docker = Docker::options(View::V2).start().unwrap_or_else(|e| panic!("{e}"));
    docker.image();
    let web = unique("web");
    let volume = unique("volume");
    let bind = format!("{volume}:/volume");
    docker.run(&["--name", &web, "-v", &bind, IMAGE, "sleep", "10000"]);
    let mine = docker.run(&["--name", &unique("mine"), "--user", "65534", IMAGE, "sleep", "10000"]);
    let targets = |docker: &Docker| -> Vec<String> {
        vec![
            "1".to_owned(),
            std::process::id().to_string(),
            docker.init_pid(&web).to_string(),
            docker.init_pid(&mine).to_string(),
            docker.inspect(&web)["Id"].as_str().unwrap().to_owned(),
            format!("{}/volumes/{volume}", docker.data_root().display()),
        ]
    };
    let mut cases = Cases::of("doctor");
    for (who, user) in [("root", None), ("an ordinary user", Some(NOBODY))] {
        cases.case(who, || {
            // A process may come and go between them, so that they are asked on both sides of it.
            let before = met(user, &targets(&docker), &docker);
            let report = told(user);
            let after = met(user, &targets(&docker), &docker);
            let mut said = Words::new();
            words(&report, "cannot", &mut said);
            let mut facts = Facts::about(format!("what {who} can't read"));
            let both = before.keys().filter(|word| after.contains_key(*word));
            let unsaid: Vec<_> = both.filter(|word| !said.contains_key(*word)).collect();
            let seen = json!({"before": before, "after": after, "said": said});
            facts.holds(&format!("nothing else is met: {unsaid:?}"), unsaid.is_empty(), &seen);
            let met = |word: &&String| before.contains_key(*word) || after.contains_key(*word);
            let unmet: Vec<_> = said.keys().filter(|word| !met(word)).collect();
            facts.holds(&format!("all of it is met: {unmet:?}"), unmet.is_empty(), &seen);
            for gap in report["cannot"].as_array().unwrap() {
                facts.holds("a gap", gap["class"].is_string() && gap["path"].is_string(), gap);
                facts.holds("its number", gap["count"].as_u64().is_some_and(|n| n > 0), gap);
            }
            if user.is_some() {
                let forbidden = |g: &&Value| g["class"] == "forbidden";
                let gaps = report["cannot"].as_array().unwrap();
                let fixed = |g: &Value| g["remedy"].as_str().is_some_and(|r| r.contains("root"));
                facts.holds("a way out", gaps.iter().filter(forbidden).all(fixed), gaps);
                for word in ["container description", "host path of the binary", "wait channel"] {
                    facts.holds(word, said.contains_key(word), &said);
                }
            }
            facts.finish(3);
        });
    }
    cases.case("the engine and its containers", || {
        let report = told(None);
        let root = docker.data_root().display().to_string();
        let engines = report["engines"].as_array().unwrap();
        let engine = engines.iter().find(|e| e["root"] == root.as_str()).expect("the engine");
        assert_eq!((&engine["runtime"], &engine["containers"]), (&"docker".into(), &2.into()));
        assert_eq!(report["host"]["uid"], 0);
        assert_eq!(report["host"]["lacks"], Value::Array(Vec::new()));
        let can: Vec<&str> =
            report["can"].as_array().unwrap().iter().filter_map(|c| c["what"].as_str()).collect();
        for word in ["process", "membership", "container description", "host path of the binary"] {
            assert!(can.contains(&word), "{word}: {report:#}");
        }
        let user = told(Some(NOBODY));
        assert_eq!(user["host"]["user"], "nobody");
        assert_eq!(user["host"]["lacks"].as_array().unwrap().len(), 3);
        let strict = whose().as_user(NOBODY, NOBODY).args(["doctor", "--strict"]).run();
        let text = strict.expect_code(3).stdout_str();
        assert!(text.contains("CAP_SYS_PTRACE") && text.contains("to fix: run as root"), "{text}");
    });
    cases.case("a layer that an ordinary user can't look for", || {
        let layer = procfs::wait_for("a layer", Duration::from_secs(5), || {
            let entries = std::fs::read_dir(docker.data_root().join("overlay2")).ok()?;
            let names = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
            names.into_iter().find(|n| n != "l")
        });
        let target = format!("layer:{layer}");
        whose().args([&target]).run().expect_code(0);
        whose().as_user(NOBODY, NOBODY).args([&target]).run().expect_code(3);
    });
    cases.case("strace: whose doctor", || trace::only_examines(&["doctor"], &[0], None));
    drop(docker);
    cases.finish();
}
