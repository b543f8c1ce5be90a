//! Judges `whose exe` by markers: what a process says it has mapped, and what is in the file at the
//! path that was printed.

use crate::whose;
use serde_json::Value;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use whose_testkit::harness::{Run, Whose};
use whose_testkit::kernel;
use whose_testkit::marker::{Marker, Running, read_by_parts};

/// When a run is killed: nothing is asserted about time but that there is an end.
const LIMIT: Duration = Duration::from_secs(30);

/// The first release that names the layer's file of an overlay: name_to_handle_at(2) with
/// AT_HANDLE_FID. Before it, the part that a file has in a stack may be unknown.
const LAYER_HANDLES: (u32, u32) = (6, 6);

/// What became of one question, as a line that `cargo xtask vm` reads; written when dropped, so
/// also by a panic. Only with `WHOSE_JUDGED=1` in the environment.
struct Judged {
    verdict: &'static str,
    told: Value,
}

impl Judged {
    /// Begins with what it is worth if the next check panics.
    fn so_far(verdict: &'static str) -> Judged {
        Judged { verdict, told: Value::Null }
    }
}

impl Drop for Judged {
    fn drop(&mut self) {
        if std::env::var_os("WHOSE_JUDGED").is_some_and(|value| value == "1") {
            let facts = ["verified", "role", "state", "why"].map(|name| (name, &self.told[name]));
            let facts: serde_json::Map<String, Value> =
                facts.into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
            eprintln!("judged  {} {}", self.verdict, Value::Object(facts));
        }
    }
}

/// What must be answered about one process.
#[derive(Debug, Clone)]
#[must_use]
pub struct Claim {
    pid: u32,
    marker: Option<Marker>,
    at: Option<PathBuf>,
    verified: Vec<&'static str>,
    roles: Vec<&'static str>,
    states: Vec<&'static str>,
    copied_up: Option<&'static str>,
    layer: Option<(u64, u64)>,
    via: Vec<String>,
    root: PathBuf,
    facts: Vec<(&'static str, Value)>,
}

/// About a running copy of the marked program.
pub fn about(running: &Running) -> Claim {
    let claim = about_pid(running.pid());
    Claim { marker: Some(running.marker().clone()), ..claim }
}

/// About a process, whatever it runs.
pub fn about_pid(pid: u32) -> Claim {
    Claim {
        pid,
        marker: None,
        at: None,
        verified: vec!["page", "mapped-inode"],
        roles: Vec::new(),
        states: Vec::new(),
        copied_up: None,
        layer: None,
        via: Vec::new(),
        root: PathBuf::from("/"),
        facts: Vec::new(),
    }
}

impl Claim {
    /// The marker of what it runs.
    pub fn marked(mut self, marker: &Marker) -> Claim {
        self.marker = Some(marker.clone());
        self
    }

    /// The very path, where only one is right.
    pub fn at(mut self, path: impl AsRef<Path>) -> Claim {
        self.at = Some(path.as_ref().to_owned());
        self
    }

    /// Proven by one of these; `page` or `mapped-inode` unless told.
    pub fn verified(mut self, words: &[&'static str]) -> Claim {
        self.verified = words.to_vec();
        self
    }

    /// One of these roles.
    pub fn role(mut self, words: &[&'static str]) -> Claim {
        self.roles = words.to_vec();
        self
    }

    /// In a lower layer: its index, 0 being the topmost, of that many.
    pub fn lower(mut self, index: u64, of: u64) -> Claim {
        self.layer = Some((index, of));
        self.role(&["lower"])
    }

    /// In the upper layer.
    pub fn upper(self) -> Claim {
        self.role(&["upper"])
    }

    /// One of these states.
    pub fn state(mut self, words: &[&'static str]) -> Claim {
        self.states = words.to_vec();
        self
    }

    /// This word for `copied_up`.
    pub fn copied_up(mut self, word: &'static str) -> Claim {
        self.copied_up = Some(word);
        self
    }

    /// Asked through another program, e.g. `setpriv`.
    pub fn via(mut self, words: &[&str]) -> Claim {
        self.via = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Asked in the mount namespace of this process, so that paths are of that one.
    pub fn seen_from(self, pid: u32) -> Claim {
        self.in_root_of(pid).via(&["nsenter", "-m", "-t", &pid.to_string(), "--"])
    }

    /// Paths are those that this process sees.
    pub fn in_root_of(mut self, pid: u32) -> Claim {
        self.root = PathBuf::from(format!("/proc/{pid}/root"));
        self
    }

    /// Any other field of FILE.
    pub fn fact(mut self, name: &'static str, value: impl Into<Value>) -> Claim {
        self.facts.push((name, value.into()));
        self
    }

    /// The path is printed, and it is right. Returns `binary`.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn is_proven(&self) -> Value {
        let mut judged = Judged::so_far("unproven");
        let run = self.ask(&[]).run();
        if run.code != Some(0) {
            judged.told = self.ask(&["--json"]).run().json()["answers"][0]["binary"].clone();
        }
        let run = run.expect_code(0);
        judged.verdict = "wrong";
        let path = only_path(&run);
        self.holds_for(&path, &run);
        judged.verdict = "mislabelled";
        let ended = self.ask(&["-0"]).run().expect_code(0);
        let mut wanted = path.as_os_str().as_bytes().to_vec();
        wanted.push(0);
        assert_eq!(ended.stdout, wanted, "{}", ended.story());
        let (told, run) = self.json(0);
        judged.told = told.clone();
        let host = told["host"].as_str().map(str::to_owned);
        assert_eq!(host.as_deref(), Some(&*path.to_string_lossy()), "{}", run.story());
        let word = told["verified"].as_str().unwrap_or_default();
        assert!(self.verified.contains(&word), "verified {word:?}\n{}", run.story());
        if word != "page" {
            assert!(told["why"].is_string(), "no reason\n{}", run.story());
        }
        self.rest(&told, &run);
        judged.verdict = "right";
        self.is_named(&told, &path);
        told
    }

    /// The name that the process has for it leads to the same file, unless another one has it by now.
    #[track_caller]
    fn is_named(&self, told: &Value, path: &Path) {
        let exact = told["inside_base64"].is_null();
        let shows_it = told["state"] == "present" && told["copied_up"] != "after-start";
        let Some(inside) = told["inside"].as_str().filter(|i| exact && shows_it && i.len() < 4096)
        else {
            return;
        };
        let target = format!("{}:{inside}", self.pid);
        let run = whose().args(["path", &target]).timeout(LIMIT).via(&self.via).run();
        if run.stdout.is_empty() {
            // It may be that the kernel gives no handle. That nothing is there is only right where the file
            // is not beneath the process's own root.
            let elsewhere = told["via_proc"].is_null() && run.code == Some(1);
            assert!(elsewhere || run.code == Some(3), "{}", run.story());
            eprintln!("        by its name not told: {}", run.stderr_str().trim_end());
            return;
        }
        let other = only_path(&run);
        if other != path {
            let bytes = self.read(&other).unwrap_or_else(|e| panic!("{e}\n{}", run.story()));
            let same = self.read(path).is_ok_and(|own| own == bytes);
            assert!(same, "WRONG: by its name it is another file\n{}", run.story());
        }
    }

    /// No path is printed, for there is none on the host. Returns `binary`.
    ///
    /// # Panics
    /// When one is printed.
    #[track_caller]
    pub fn has_none(&self) -> Value {
        // Without the layer's handle a file without a path can't be told from one not found.
        let unsure = kernel() < LAYER_HANDLES;
        self.says_nothing(if unsure { &[1, 3] } else { &[1] })
    }

    /// No path is printed, with one of these exit codes. Returns `binary`.
    ///
    /// # Panics
    /// When one is printed.
    #[track_caller]
    pub fn says_nothing(&self, codes: &[i32]) -> Value {
        let mut judged = Judged::so_far("wrong");
        let run = self.ask(&[]).run();
        assert!(run.stdout.is_empty(), "a path is printed\n{}", run.story());
        judged.verdict = "mislabelled";
        assert!(!run.stderr.is_empty(), "no reason is given\n{}", run.story());
        assert!(run.code.is_some_and(|c| codes.contains(&c)), "{codes:?}\n{}", run.story());
        let (told, run) = self.json(run.code.unwrap_or_default());
        judged.told = told.clone();
        assert!(told["host"].is_null(), "{}", run.story());
        self.rest(&told, &run);
        judged.verdict = if run.code == Some(1) { "none" } else { "silent" };
        told
    }

    /// For traps: the path printed is right, or none is, and the command ends. True when there was
    /// one.
    ///
    /// # Panics
    /// When a wrong path is printed.
    #[track_caller]
    pub fn is_right_or_silent(&self) -> bool {
        self.is_right_or_silent_until(|| ())
    }

    /// The same, with something to be ended before the file is read to judge.
    ///
    /// # Panics
    /// When a wrong path is printed.
    #[track_caller]
    pub fn is_right_or_silent_until(&self, end: impl FnOnce()) -> bool {
        let mut judged = Judged::so_far("wrong");
        let run = self.ask(&[]).run();
        end();
        assert!(!run.pipes_held, "something it left holds its output\n{}", run.story());
        if run.stdout.is_empty() {
            assert!(matches!(run.code, Some(1 | 3)), "{}", run.story());
            assert!(!run.stderr.is_empty(), "no reason is given\n{}", run.story());
            judged.verdict = "silent";
            judged.told["why"] = run.stderr_str().trim().rsplit(": ").next().into();
            return false;
        }
        assert_eq!(run.code, Some(0), "{}", run.story());
        self.holds_for(&only_path(&run), &run);
        judged.verdict = "right";
        true
    }

    /// Reads a file by its path in the namespace of the question.
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        if self.root == Path::new("/") {
            return read_by_parts(path);
        }
        std::fs::read(self.root.join(path.strip_prefix("/").unwrap_or(path)))
    }

    fn ask(&self, words: &[&str]) -> Whose {
        exe(words).arg(self.pid.to_string()).via(&self.via)
    }

    #[track_caller]
    fn holds_for(&self, path: &Path, run: &Run) {
        if let Some(marker) = &self.marker {
            let bytes = self
                .read(path)
                .unwrap_or_else(|e| panic!("the path can't be read: {e}\n{}", run.story()));
            assert!(
                marker.is_in(&bytes),
                "WRONG: the file there is not what runs, which says {}\n{}",
                marker.as_str(),
                run.story()
            );
        }
        if let Some(at) = &self.at {
            assert_eq!(path, at, "{}", run.story());
        }
    }

    #[track_caller]
    fn json(&self, code: i32) -> (Value, Run) {
        let run = self.ask(&["--json"]).run().expect_code(code);
        (run.json()["answers"][0]["binary"].clone(), run)
    }

    #[track_caller]
    fn rest(&self, told: &Value, run: &Run) {
        // Other ways to the file that runs must lead to it as well.
        for name in ["via_proc", "merged"] {
            // What can't be opened by one string, or is no text, is left to the host path.
            let text = told[name].as_str().filter(|path| path.len() < 4096);
            let exact = told[format!("{name}_base64")].is_null();
            if let (Some(path), Some(marker), true) = (text, &self.marker, exact) {
                let path = Path::new(path);
                // Links of /proc are to be followed.
                let bytes = if name == "merged" { self.read(path) } else { std::fs::read(path) };
                let bytes = bytes.unwrap_or_else(|e| panic!("{name}: {e}\n{}", run.story()));
                assert!(marker.is_in(&bytes), "{name} is another file\n{}", run.story());
            }
        }
        // A part in a stack that is not told is no wrong one.
        let untold = |name: &str| kernel() < LAYER_HANDLES && told[name].is_null();
        let one_of = |name: &str, words: &[&str]| {
            let word = told[name].as_str().unwrap_or_default();
            let fits = words.is_empty() || words.contains(&word);
            let fits = fits || (name != "state" && untold(name));
            assert!(fits, "{name} is {word:?}, not one of {words:?}\n{}", run.story());
        };
        one_of("role", &self.roles);
        one_of("state", &self.states);
        if let Some(word) = self.copied_up {
            one_of("copied_up", &[word]);
        }
        if let Some((index, of)) = self.layer.filter(|_| !untold("layer")) {
            assert_eq!(told["layer"]["index"], index, "layer.index\n{}", run.story());
            assert_eq!(told["layer"]["of"], of, "layer.of\n{}", run.story());
        }
        for (name, value) in &self.facts {
            assert_eq!(&told[*name], value, "{name}\n{}", run.story());
        }
    }
}

/// `whose exe ARGS`, to be killed when it does not end.
pub fn exe(args: &[&str]) -> Whose {
    whose().arg("exe").args(args).timeout(LIMIT)
}

/// The one path that was printed, with its newline.
#[track_caller]
fn only_path(run: &Run) -> PathBuf {
    let path = run.stdout.strip_suffix(b"\n");
    let path = path.unwrap_or_else(|| panic!("no newline at the end\n{}", run.story()));
    assert!(path.starts_with(b"/"), "no absolute path\n{}", run.story());
    PathBuf::from(std::ffi::OsStr::from_bytes(path))
}
