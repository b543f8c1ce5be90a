//! A capture, and whether it answers as the live host did.

use crate::whose;
use serde_json::Value;
use std::path::{Path, PathBuf};
use whose_testkit::facts::Facts;
use whose_testkit::harness::Whose;

/// Keys whose values change while a process only sleeps, and those that tell where an answer is
/// from.
const PASSING: &[&str] = &["source", "recorded", "rss", "vsz", "cpu_time", "io_read", "io_write"];

/// A capture in a directory of its own.
#[derive(Debug)]
pub struct Capture {
    dir: tempfile::TempDir,
    user: Option<u32>,
}

impl Capture {
    /// Captures the targets, or the whole host, as root or as another user.
    ///
    /// # Panics
    /// When `whose capture` does not exit with `code`.
    #[must_use]
    #[track_caller]
    pub fn of(targets: &[&str], user: Option<u32>, code: i32) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the capture");
        if let Some(uid) = user {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(uid)).expect("chown");
        }
        let capture = Self { dir, user };
        let path = capture.path().display().to_string();
        capture.whose().arg("capture").arg(path).args(targets).run().expect_code(code);
        capture
    }

    /// The saved tree.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn whose(&self) -> Whose {
        match self.user {
            Some(uid) => whose().as_user(uid, uid),
            None => whose(),
        }
    }

    /// Compares what is said live, and what the capture says later, byte for byte but for what
    /// passes.
    #[track_caller]
    pub fn compare(&self, facts: &mut Facts, args: &[&str]) {
        self.compare_part(facts, args, "");
    }

    /// Compares the part of a document at this JSON pointer: the rest may be about what else runs.
    #[track_caller]
    pub fn compare_part(&self, facts: &mut Facts, args: &[&str], part: &str) {
        let live = self.whose().args(args).run();
        let saved = whose().arg("--root").arg(self.path()).args(args).run();
        let what = args.join(" ");
        facts.same(&format!("{what}: exit status"), saved.code, live.code);
        let root = self.path().display().to_string();
        if args.contains(&"--json") {
            let normal = |text: &str| {
                let mut value = serde_json::from_str(text).unwrap_or(Value::Null);
                normalise(&mut value, &root);
                value.pointer(part).cloned().unwrap_or(Value::Null)
            };
            let (live, saved) = (normal(&live.stdout_str()), normal(&saved.stdout_str()));
            differ(facts, &what, &live, &saved);
        } else {
            let normal = |text: &str| text.replace(&root, "").replace("//", "/");
            facts.same(&what, normal(&saved.stdout_str()), normal(&live.stdout_str()));
        }
    }

    /// What the capture says.
    #[must_use]
    pub fn ask(&self, args: &[&str]) -> whose_testkit::harness::Run {
        whose().arg("--root").arg(self.path()).args(args).run()
    }
}

fn normalise(value: &mut Value, root: &str) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !PASSING.contains(&key.as_str()));
            object.values_mut().for_each(|v| normalise(v, root));
        }
        Value::Array(values) => {
            // How many rows a filter could not decide about depends on what else runs.
            values.retain(|v| v["what"] != "rows");
            values.iter_mut().for_each(|v| normalise(v, root));
        }
        Value::String(text) if text == root => *text = "/".into(),
        Value::String(text) => *text = text.replace(root, ""),
        _ => {}
    }
}

/// Every leaf is a fact.
fn differ(facts: &mut Facts, at: &str, live: &Value, saved: &Value) {
    match (live, saved) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k)));
            for key in keys {
                let (a, b) = (a.get(key), b.get(key));
                differ(
                    facts,
                    &format!("{at}.{key}"),
                    a.unwrap_or(&Value::Null),
                    b.unwrap_or(&Value::Null),
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                differ(facts, &format!("{at}[{n}]"), a, b);
            }
        }
        (live, saved) => facts.same(at, saved, live),
    }
}

/// Captures these targets as a fixture host where `WHOSE_FIXTURES` names a directory.
///
/// # Panics
/// When they are not captured.
pub fn keep(targets: &[&str], name: &str) {
    let Some(dir) = std::env::var_os("WHOSE_FIXTURES") else { return };
    let to = Path::new(&dir).join(name);
    std::fs::create_dir_all(&to).expect("a directory for the fixture");
    whose().arg("capture").arg(to.join("tree")).args(targets).run().expect_code(0);
}
