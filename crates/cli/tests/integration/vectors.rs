//! The cgroup vectors, and mutations of them, through `--root` and the binary.

use std::collections::BTreeMap;

use serde_json::Value;
use whose_testkit::fixture::FixtureHost;

use crate::support::whose;

/// Runtimes whose vectors count here; null is the other kind.
const MINE: &str = "docker";
/// Kinds that a process in no container may have.
const NOT_CONTAINED: [&str; 4] = ["unit", "session", "host", "unknown"];
/// PID of the first case; the others follow.
const FIRST: u32 = 1000;

fn vectors() -> Vec<Value> {
    let text = include_str!("../../../../fixtures/cgroup-vectors.json");
    serde_json::from_str(text).unwrap()
}

/// Cgroup texts in, answers out, in order: a tree with nothing but `proc/PID/cgroup`.
fn answers(texts: &[String]) -> Vec<Value> {
    let host = FixtureHost::new();
    for (pid, text) in (FIRST..).zip(texts) {
        host.process(pid).cgroup(text).only_cgroup().write();
    }
    let pids = (FIRST..).take(texts.len()).map(|p| p.to_string());
    let run = whose().root(host.path()).args(["--json", "--timeout", "60"]).args(pids).run();
    let json = run.json();
    let answers = json["answers"].as_array().unwrap().clone();
    assert_eq!(answers.len(), texts.len());
    answers
}

fn is_contained(answer: &Value) -> bool {
    let owner = &answer["owner"];
    let kind = owner["kind"].as_str();
    let plumbing = answer["process"]["role"] == "plumbing";
    !(owner.is_null() || plumbing || kind.is_some_and(|k| NOT_CONTAINED.contains(&k)))
}

fn check(answer: &Value, expect: &Value, story: &str) {
    if expect.is_null() {
        assert!(!is_contained(answer), "{story}\n{answer:#}");
        if answer["owner"].is_null() {
            assert!(!answer["gaps"].as_array().unwrap().is_empty(), "no gap: {story}\n{answer:#}");
        }
        return;
    }
    let owner = &answer["owner"];
    assert_eq!(owner["runtime"], expect["runtime"], "{story}\n{answer:#}");
    assert_eq!(owner["id"], expect["id"], "{story}\n{answer:#}");
    if let Some(uid) = expect.get("pod_uid") {
        assert_eq!(&owner["pod"]["uid"], uid, "{story}\n{answer:#}");
    }
    assert_eq!(answer["chain"].as_array().unwrap().last().unwrap(), owner, "{story}");
}

#[test]
fn every_vector_of_docker_and_null() {
    let cases: Vec<Value> = vectors()
        .into_iter()
        .filter(|v| v["expect"].is_null() || v["expect"]["runtime"] == MINE)
        .collect();
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    let texts: Vec<String> = cases.iter().map(|v| v["cgroup"].as_str().unwrap().into()).collect();
    for (case, answer) in cases.iter().zip(answers(&texts)) {
        check(&answer, &case["expect"], &format!("{case:#}"));
    }
}

#[test]
fn every_vector_of_the_other_runtimes() {
    let cases: Vec<Value> = vectors()
        .into_iter()
        .filter(|v| !v["expect"].is_null() && v["expect"]["runtime"] != MINE)
        .collect();
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    let texts: Vec<String> = cases.iter().map(|v| v["cgroup"].as_str().unwrap().into()).collect();
    for (case, answer) in cases.iter().zip(answers(&texts)) {
        check(&answer, &case["expect"], &format!("{case:#}"));
    }
}

/// Runs of the OCI runtimes and of Buildah have names of another kind: any number, below any slice.
#[test]
fn mutations_of_steps_and_of_scopes() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let is_its = |v: &Value| ["buildah", "crun"].iter().any(|r| v["expect"]["runtime"] == *r);
    let of_them: Vec<Value> = vectors().into_iter().filter(is_its).collect();
    assert!(of_them.len() >= 7, "only {} vectors", of_them.len());
    let mut cases: Vec<(String, Value)> = Vec::new();
    while cases.len() < 600 {
        let vector = &of_them[random.below(of_them.len())];
        let mut expect = vector["expect"].clone();
        let old = expect["id"].as_str().unwrap().to_owned();
        let number = random.below(1 << 31);
        let is_step = expect["runtime"] == "buildah";
        let id = if is_step { format!("buildah-buildah{number}") } else { format!("s{number}") };
        let fresh = vector["cgroup"].as_str().unwrap().replace(&old, &id);
        expect["id"] = id.clone().into();
        match random.below(3) {
            0 => cases.push((fresh, expect)),
            1 => {
                let prefix = random.pick(&["/a.slice", "/a.slice/a-b.slice", "/../.."]);
                cases.push((with_paths(&fresh, &id, |path| format!("{prefix}{path}")), expect));
            }
            _ => {
                // Without its runtime's word or with another one it is nobody's.
                let wrong = if is_step { format!("buildah-build{number}") } else { "x".into() };
                let damaged = match is_step {
                    true => fresh.replace(&id, &wrong).replace("runc-", "").replace("crun-", ""),
                    false => fresh.replace("crun-", "run-"),
                };
                cases.push((damaged, Value::Null));
            }
        }
    }
    let texts: Vec<String> = cases.iter().map(|c| c.0.clone()).collect();
    for ((text, expect), answer) in cases.iter().zip(answers(&texts)) {
        check(&answer, expect, text);
    }
}

/// A small generator with a fixed seed, so that a failure can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }

    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits)
            .map(|_| self.pick(&["0", "7", "a", "b", "c", "d", "e", "f", "1", "9"]))
            .collect()
    }
}

/// Rewrites the path of every line that holds the id.
fn with_paths(text: &str, id: &str, change: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let (head, path) =
            line.match_indices(':').nth(1).map(|(i, _)| line.split_at(i + 1)).unwrap();
        let path = if path.contains(id) { change(path) } else { path.to_owned() };
        out.push_str(&format!("{head}{path}\n"));
    }
    out
}

#[test]
fn a_thousand_mutations() {
    mutated(MINE);
}

#[test]
fn a_thousand_mutations_of_podmans() {
    mutated("podman");
}

fn mutated(runtime: &str) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let of_it: Vec<Value> =
        vectors().into_iter().filter(|v| v["expect"]["runtime"] == runtime).collect();
    let mut cases: Vec<(String, Value)> = Vec::new();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    while cases.len() < 1000 {
        let vector = &of_it[random.below(of_it.len())];
        let text = vector["cgroup"].as_str().unwrap();
        let old = vector["expect"]["id"].as_str().unwrap();
        let id = random.hex(64);
        let mut expect = vector["expect"].clone();
        expect["id"] = id.clone().into();
        let fresh = text.replace(old, &id);
        let kind = random.pick(&["id", "prefix", "suffix", "near-miss"]);
        *kinds.entry(kind).or_default() += 1;
        let (mutated, expect) = match kind {
            "id" => (fresh, expect),
            "prefix" => {
                let slices =
                    ["/a.slice", "/a.slice/a-b.slice", "/wsl-user/distro-2/systemd", "/../.."];
                let prefix = random.pick(&slices);
                (with_paths(&fresh, &id, |path| format!("{prefix}{path}")), expect)
            }
            "suffix" => {
                let tails = ["/init.scope", "/container", "/system.slice/x.service", "/a b/c:d"];
                let tail = random.pick(&tails);
                let deleted =
                    |path: &str| path.strip_suffix(" (deleted)").unwrap_or(path).to_owned();
                (with_paths(&fresh, &id, |path| format!("{}{tail}", deleted(path))), expect)
            }
            _ => {
                let wrong = match random.below(4) {
                    0 => id[1..].to_owned(),
                    1 => format!("{id}0"),
                    2 => id.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A"),
                    _ => format!("{}g", &id[1..]),
                };
                let lines = fresh.replace(&id, &wrong);
                // An enclosing container stays one: only the innermost id was damaged.
                let expect = serde_json::json!({ "not": wrong });
                (lines, expect)
            }
        };
        cases.push((mutated, expect));
    }
    assert!(kinds.values().all(|n| *n > 150), "{kinds:?}");
    let texts: Vec<String> = cases.iter().map(|c| c.0.clone()).collect();
    for ((text, expect), answer) in cases.iter().zip(answers(&texts)) {
        match expect.get("not") {
            Some(wrong) => {
                let chain = answer["chain"].as_array().cloned().unwrap_or_default();
                let named = chain.iter().any(|o| o["kind"] == "container" && &o["id"] == wrong);
                assert!(!named, "{text}\n{answer:#}");
            }
            None => check(&answer, expect, text),
        }
    }
}
