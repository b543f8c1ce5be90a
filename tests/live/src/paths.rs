//! Judges the files of containers, to the host and back: random trees, changed while the container runs, each
//! path judged by what the host's file holds and by where the storage driver keeps it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{compared, whose};

/// Layers of an image.
pub const LAYERS: usize = 4;
/// Paths that are asked about, of each container.
const PATHS: usize = 200;

/// Names of directories and files: also such as need care in options, tables and lines.
const DIRS: [&str; 6] = ["t", "t/plain", "t/with space", "t/a:b", "t/back\\slash", "t/plain/deep"];
const FILES: [&str; 8] =
    ["one", "two", "three (deleted)", "fo ur", "f:ive", "si\\x", "se,ven", "ÄÖ"];

/// Numbers that look like chance, the same each time.
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Files of one layer, each with a content of its own.
pub fn fill(layer: usize, dir: &Path) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 + layer as u64);
    for sub in DIRS {
        std::fs::create_dir_all(dir.join(sub)).unwrap();
        for number in 0..5 {
            for name in FILES {
                if dice.roll(3) == 0 {
                    let name = format!("{name}{number}");
                    let content = format!("{sub}/{name} of layer {layer}\n");
                    std::fs::write(dir.join(sub).join(name), content).unwrap();
                }
            }
        }
    }
    if layer == 1 {
        std::fs::create_dir_all(dir.join("t/only")).unwrap();
        std::fs::write(dir.join("t/only/file"), "only in layer 1\n").unwrap();
    }
}

/// Everything below a directory as the container sees it, from its root.
fn all(root: &Path, below: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(root.join(below)).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for entry in entries {
        let inside = entry.strip_prefix(root).unwrap().to_owned();
        if entry.symlink_metadata().unwrap().is_dir() {
            all(root, inside.to_str().unwrap(), found);
        }
        found.push(inside);
    }
}

/// A shell's commands that change a container's tree.
pub fn changes(root: &Path, dice: &mut Dice) -> String {
    let mut files = Vec::new();
    all(root, "t", &mut files);
    let mut script = String::from("set -e\n");
    for (at, inside) in files.iter().enumerate() {
        if !root.join(inside).symlink_metadata().is_ok_and(|m| m.is_file()) {
            continue;
        }
        let path = Path::new("/").join(inside);
        let quoted = |path: &Path| format!("'{}'", path.to_str().unwrap());
        let (file, beside) = (quoted(&path), |ending: &str| quoted(&path.with_extension(ending)));
        let name = quoted(Path::new(path.file_name().unwrap()));
        script += &match dice.roll(12) {
            0 | 1 => format!("echo changed >> {file}\n"),
            2 => format!("chmod 600 {file}\n"),
            3 => format!("rm {file}\n"),
            4 => format!("rm {file}; echo another at {at} > {file}\n"),
            5 => format!("ln {file} {}\n", beside("link")),
            6 => format!("ln -s {name} {}\n", beside("sym")),
            7 => format!("ln -s {file} {}\n", beside("abs")),
            8 => format!("mv {file} {}\n", beside("moved")),
            _ => String::new(),
        };
    }
    // Removed, and there again: nothing below shows through.
    script
        + "mkdir /t/new; echo new > /t/new/file; mkfifo /t/new/fifo\n\
           rm -r '/t/with space'; mkdir '/t/with space'; echo after > '/t/with space/one0'\n"
}

/// How a driver keeps a container's files.
#[derive(Debug)]
pub enum Keeps {
    /// The upper directory and the lowers, top first.
    Stack(Vec<PathBuf>),
    /// One directory.
    Tree,
}

/// A running container.
#[derive(Debug)]
pub struct Container {
    /// Its name, as a target.
    pub name: String,
    /// Its first process.
    pub pid: u32,
    /// See there.
    pub keeps: Keeps,
}

/// How a process's root is kept, by its mounts.
#[must_use]
pub fn keeps(pid: u32) -> Keeps {
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let root = mounts.lines().find(|l| l.split(' ').nth(4) == Some("/")).unwrap();
    let option = |name: &str| -> Option<Vec<PathBuf>> {
        let text = root.split_once(&format!("{name}="))?.1.split(',').next()?;
        Some(text.split(':').map(PathBuf::from).collect())
    };
    match (option("upperdir"), option("lowerdir")) {
        (Some(upper), Some(lowers)) => Keeps::Stack([upper, lowers].concat()),
        _ => Keeps::Tree,
    }
}

impl Container {
    /// By what `inspect` says.
    #[must_use]
    pub fn of(inspected: &Value, name: &str, pid: u32) -> Self {
        let graph = inspected["GraphDriver"]["Data"].clone();
        let dirs = |key: &str| -> Vec<PathBuf> {
            graph[key].as_str().unwrap().split(':').map(PathBuf::from).collect()
        };
        let keeps = match graph.get("UpperDir") {
            Some(_) => Keeps::Stack([dirs("UpperDir"), dirs("LowerDir")].concat()),
            None => Keeps::Tree,
        };
        Self { name: name.into(), pid, keeps }
    }

    /// Its root, as it shows it.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.pid).into()
    }

    fn target(&self, inside: &Path) -> Vec<u8> {
        [self.name.as_bytes(), b":/", inside.as_os_str().as_bytes()].concat()
    }

    /// Whether the kernel gives no handles of its layers' files: a program serves them, or its user mounted
    /// them.
    #[must_use]
    pub fn is_without_handles(&self) -> bool {
        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.pid)).unwrap();
        let root = mounts.lines().find(|l| l.split(' ').nth(4) == Some("/")).unwrap();
        root.contains(" - fuse.fuse-overlayfs ") || root.contains("userxattr")
    }

    /// Whether its lower layers are images that are mounted: squashfs and erofs have no UUID for the kernel's handles.
    fn is_on_images(&self) -> bool {
        let Keeps::Stack(dirs) = &self.keeps else { return false };
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let is_image = |dir: &PathBuf| {
            mounts.lines().any(|line| {
                let mut words = line.split(' ').skip(1);
                words.next() == dir.to_str()
                    && words.next().is_some_and(|kind| ["squashfs", "erofs"].contains(&kind))
            })
        };
        dirs[1..].iter().all(is_image)
    }

    /// What the path leads to, links in it followed: the test's own links only, of one step.
    fn followed(&self, inside: &Path) -> PathBuf {
        match std::fs::read_link(self.root().join(inside)) {
            Ok(to) => match to.strip_prefix("/") {
                Ok(absolute) => absolute.to_owned(),
                Err(_) => inside.with_file_name(to),
            },
            Err(_) => inside.to_owned(),
        }
    }

    /// The entries of a stack at a path, top first, as an overlay without redirects merges them.
    fn entries(&self, inside: &Path) -> Vec<PathBuf> {
        let Keeps::Stack(dirs) = &self.keeps else { panic!("no stack") };
        let mut found = Vec::new();
        for dir in dirs {
            // What is above hides what is below: a file or a whiteout at any directory of the path.
            let mut hidden = false;
            let mut at = dir.clone();
            for part in inside.parent().unwrap().iter() {
                at.push(part);
                match at.symlink_metadata() {
                    Ok(m) if m.is_dir() => hidden |= is_opaque(&at),
                    Ok(_) => return found,
                    Err(_) => break,
                }
            }
            match dir.join(inside).symlink_metadata() {
                Ok(m) if is_whiteout(&m) => return found,
                Ok(m) => {
                    let is_dir = m.is_dir();
                    hidden |= is_dir && is_opaque(&dir.join(inside));
                    if !is_dir && !found.is_empty() {
                        return found;
                    }
                    found.push(dir.join(inside));
                    if !is_dir {
                        return found;
                    }
                }
                Err(_) => {}
            }
            if hidden {
                return found;
            }
        }
        found
    }
}

fn is_whiteout(m: &Metadata) -> bool {
    m.file_type().is_char_device() && m.rdev() == 0
}

fn is_opaque(dir: &Path) -> bool {
    let mut value = [0_u8; 8];
    rustix::fs::lgetxattr(dir, "trusted.overlay.opaque", &mut value).is_ok()
}

/// Answers of `whose path --json` by target.
fn answers(targets: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Value> {
    let mut found = BTreeMap::new();
    for some in targets.chunks(50) {
        let mut run = whose().args(["path", "--json"]);
        for target in some {
            run = run.arg(OsStr::from_bytes(target));
        }
        let told = run.run().json();
        let all = told["answers"].as_array().unwrap().clone();
        assert_eq!(all.len(), some.len());
        found.extend(some.iter().cloned().zip(all));
    }
    found
}

/// Some of the container's paths.
fn some(one: &Container, dice: &mut Dice) -> Vec<PathBuf> {
    let mut inside = Vec::new();
    all(&one.root(), "t", &mut inside);
    while inside.len() > PATHS {
        let at = usize::try_from(dice.roll(inside.len() as u64)).unwrap();
        inside.swap_remove(at);
    }
    inside
}

/// What the running container's files are on the host: once it has ended, that is so still.
pub fn told_running(one: &Container) -> Vec<(Vec<u8>, Value, Value)> {
    let targets: Vec<Vec<u8>> = some(one, &mut Dice(7)).iter().map(|i| one.target(i)).collect();
    let told = answers(&targets);
    let facts = |t: &Value| (t["file"]["host"].clone(), t["file"]["candidates"].clone());
    // Of what is no regular file the layers tell more than a program that shows it.
    let counts = |t: &Value| !one.is_without_handles() || t["file"]["host"].is_string();
    told.iter()
        .filter(|(_, t)| counts(t))
        .map(|(target, t)| (target.clone(), facts(t).0, facts(t).1))
        .collect()
}

/// Asks the same again, once the container has ended.
pub fn judge_stopped(before: &[(Vec<u8>, Value, Value)]) {
    let back = stopped(before, true);
    assert!(back > 20, "{back}");
}

/// The same of what is mounted in it, which leads back to it only while it runs.
pub fn judge_stopped_forward(before: &[(Vec<u8>, Value, Value)]) {
    stopped(before, false);
}

fn stopped(before: &[(Vec<u8>, Value, Value)], both_ways: bool) -> usize {
    let targets: Vec<Vec<u8>> = before.iter().map(|(target, ..)| target.clone()).collect();
    let told = answers(&targets);
    let mut back = 0;
    for (target, host, candidates) in before {
        let file = &told[target]["file"];
        assert_eq!((&file["host"], &file["candidates"]), (host, candidates), "{:#}", told[target]);
        let Some(host) = host.as_str() else { continue };
        assert_eq!(file["verified"], "layers", "{:#}", told[target]);
        if both_ways
            && back < 50
            && file["inside"].as_str().is_some_and(|i| target.ends_with(i.as_bytes()))
        {
            let run = whose().args(["path", host]).run().expect_code(0);
            assert!(run.stdout.split(|b| *b == b'\n').any(|l| l == target), "{}", run.story());
            back += 1;
        }
    }
    assert!(before.len() > 100, "{}", before.len());
    compared("paths of a stopped container", before.len() * 2 + back);
    back
}

/// Asks about the container's paths, and for each path of the host who has it. `other` has the same image.
pub fn judge(one: &Container, other: &Container, dice: &mut Dice) {
    let inside = some(one, dice);
    let targets: Vec<Vec<u8>> = inside.iter().map(|i| one.target(i)).collect();
    let told = answers(&targets);
    let mut facts = 0;
    let mut back: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for (path, target) in inside.iter().zip(&targets) {
        let file = &told[target]["file"];
        let real = one.followed(path);
        let shown = one.root().join(&real);
        let Ok(meta) = shown.symlink_metadata() else {
            // A link to what was removed later.
            assert_eq!(told[target]["status"], "not-found", "{:#}", told[target]);
            continue;
        };
        let host = file["host"].as_str().map(PathBuf::from);
        match &one.keeps {
            Keeps::Stack(_) => {
                let entries = one.entries(&real);
                if !meta.is_file() && one.is_without_handles() {
                    assert_eq!((&host, &told[target]["status"]), (&None, &json!("partial")));
                    continue;
                }
                if meta.is_dir() && entries.len() > 1 {
                    assert_eq!(host, None, "{:#}", told[target]);
                    let lies: Vec<PathBuf> = file["candidates"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|c| c.as_str().unwrap().into())
                        .collect();
                    assert_eq!(lies, entries, "{:#}", told[target]);
                    facts += 1;
                    continue;
                }
                assert_eq!(
                    host.as_ref(),
                    entries.first(),
                    "{}: {:#}",
                    real.display(),
                    told[target]
                );
            }
            Keeps::Tree => {
                let own = host.as_ref().unwrap().symlink_metadata().unwrap();
                assert_eq!((own.dev(), own.ino()), (meta.dev(), meta.ino()), "{:#}", told[target]);
            }
        }
        let how = if one.is_without_handles() { "content" } else { "handle" };
        let host = host.unwrap();
        if file["verified"] != how {
            // A number of a file system without a UUID may be one of another's file too.
            let is_lower = matches!(&one.keeps, Keeps::Stack(dirs) if !host.starts_with(&dirs[0]));
            let is_content = file["verified"] == "content" && meta.is_file();
            assert!(is_content && is_lower && one.is_on_images(), "{:#}", told[target]);
        }
        if meta.is_file() {
            assert_eq!(std::fs::read(&host).unwrap(), std::fs::read(&shown).unwrap());
        }
        assert_eq!(file["inside"], json!(format!("/{}", real.display())), "{:#}", told[target]);
        back.push((host, one.target(&real)));
        facts += 3;
    }
    let mut untold = 0;
    for (host, target) in &back {
        let mut run = whose().args(["path", host.to_str().unwrap()]).run();
        if run.code == Some(3) {
            not_told(other, &target[one.name.len() + 2..], &run.stderr_str(), &run.story());
            untold += 1;
        } else {
            run = run.expect_code(0);
        }
        let lines = &run.stdout;
        let has = |target: &[u8]| lines.split(|b| *b == b'\n').any(|line| line == target);
        assert!(has(target), "{}", run.story());
        if run.code == Some(3) {
            let inside = &target[one.name.len()..];
            assert!(!has(&[other.name.as_bytes(), inside].concat()), "{}", run.story());
        }
        facts += 1;
    }
    assert!(untold < back.len() / 4, "{untold} of {}", back.len());
    compared(&format!("paths of {}", one.name), facts);
    assert!(facts > 300, "{facts}");
}

/// A container whose files its user's server shows to nobody else, not even to root: judged by a copy that he made of what
/// it shows. What was told of its files, to be asked again once it has ended.
pub fn judge_by_copy(
    (one, copy): (&Container, &Path),
    (other, others): (&Container, &Path),
    store: &Path,
) -> Vec<(Vec<u8>, Value, Value)> {
    let mut inside = Vec::new();
    all(copy, "t", &mut inside);
    inside.retain(|path| copy.join(path).symlink_metadata().is_ok_and(|m| m.is_file()));
    let mut dice = Dice(42);
    while inside.len() > PATHS {
        let at = usize::try_from(dice.roll(inside.len() as u64)).unwrap();
        inside.swap_remove(at);
    }
    let targets: Vec<Vec<u8>> = inside.iter().map(|i| one.target(i)).collect();
    let told = answers(&targets);
    let (mut facts, mut found) = (0, Vec::new());
    for (path, target) in inside.iter().zip(&targets) {
        let file = &told[target]["file"];
        let host = file["host"].as_str().unwrap_or_else(|| panic!("{:#}", told[target]));
        assert!(Path::new(host).starts_with(store), "{:#}", told[target]);
        assert_eq!(file["verified"], "layers", "{:#}", told[target]);
        let (shown, content) = (copy.join(path), std::fs::read(copy.join(path)).unwrap());
        assert_eq!(std::fs::read(host).unwrap(), content, "{:#}", told[target]);
        // What was only made another one's by its mode has the same content below.
        let mode = |path: &Path| path.symlink_metadata().unwrap().mode() & 0o777;
        assert_eq!(mode(Path::new(host)), mode(&shown), "{:#}", told[target]);
        assert_eq!(file["inside"], json!(format!("/{}", path.display())), "{:#}", told[target]);
        let run = whose().args(["path", host]).run().expect_code(0);
        let has = |target: &[u8]| run.stdout.split(|b| *b == b'\n').any(|line| line == target);
        assert!(has(target), "{}", run.story());
        // The other one has it exactly if it shows the same file, which is none of this one's own.
        let theirs = std::fs::read(others.join(path)).ok();
        if theirs.as_ref() != Some(&content) {
            assert!(!has(&other.target(path)), "{}", run.story());
        }
        found.push((target.clone(), file["host"].clone(), file["candidates"].clone()));
        facts += 6;
    }
    // What it does not show is not there.
    let mut gone = Vec::new();
    all(others, "t", &mut gone);
    gone.retain(|path| copy.join(path).symlink_metadata().is_err());
    let targets: Vec<Vec<u8>> = gone.iter().map(|i| one.target(i)).collect();
    for (target, answer) in &answers(&targets) {
        let target = String::from_utf8_lossy(target);
        assert_eq!(answer["status"], "not-found", "{target}: {answer:#}");
        facts += 1;
    }
    compared(&format!("paths of {} by a copy", one.name), facts);
    assert!(found.len() > 100, "{}", found.len());
    found
}

/// Of files that the host has nowhere: each is told to be none, with a way that opens it. `below` has those that the
/// host has all the same, as long as they are not changed.
pub fn judge_hostless(one: &Container, below: Option<&Path>) {
    let inside = some(one, &mut Dice(42));
    let targets: Vec<Vec<u8>> = inside.iter().map(|i| one.target(i)).collect();
    let told = answers(&targets);
    let (mut none, mut kept) = (0, 0);
    for (path, target) in inside.iter().zip(&targets) {
        let real = one.followed(path);
        let shown = one.root().join(&real);
        let Ok(meta) = shown.symlink_metadata() else { continue };
        if !meta.is_file() {
            continue;
        }
        let content = std::fs::read(&shown).unwrap();
        let lower = below.map(|dir| dir.join(&real));
        let same = |m: &Metadata| (m.mode(), m.nlink()) == (meta.mode(), meta.nlink());
        let is_kept = lower.as_ref().is_some_and(|lower| {
            lower.symlink_metadata().is_ok_and(|m| m.is_file() && same(&m))
                && std::fs::read(lower).unwrap() == content
        });
        let file = &told[target]["file"];
        if is_kept {
            assert_eq!(file["host"], json!(lower.unwrap()), "{:#}", told[target]);
            let how = file["verified"].as_str().unwrap_or_default();
            assert!(["handle", "content"].contains(&how), "{:#}", told[target]);
            let run = whose().args(["path", file["host"].as_str().unwrap()]).run().expect_code(0);
            let has = run.stdout.split(|b| *b == b'\n').any(|line| *line == one.target(&real)[..]);
            assert!(has, "{}", run.story());
            kept += 1;
            continue;
        }
        assert!(file["host"].is_null(), "{:#}", told[target]);
        // Where it can't be told which layer has it there is no more than a gap.
        let status = if below.is_some() { "partial" } else { "not-found" };
        assert_eq!(told[target]["status"], status, "{:#}", told[target]);
        let opened = file["via_proc"].as_str().unwrap_or_else(|| panic!("{:#}", told[target]));
        assert_eq!(std::fs::read(opened).unwrap(), content, "{:#}", told[target]);
        none += 1;
    }
    assert!(none > 20 && (below.is_none() || kept > 50), "{none} {kept}");
    compared(&format!("paths of {} that are nowhere on the host", one.name), none * 3 + kept * 3);
}

/// That `whose` can't tell whether the other container has it is so where a program serves its files and shows
/// one that is in none of its layers by the overlay's marks. It is not among those that have it.
fn not_told(other: &Container, inside: &[u8], stderr: &str, story: &str) {
    let inside = Path::new(OsStr::from_bytes(inside));
    assert!(other.is_without_handles(), "{story}");
    assert!(other.entries(inside).is_empty() && other.root().join(inside).is_file(), "{story}");
    let said = format!("{}:/{}: whether that is it can't be told: ", other.name, inside.display());
    assert!(stderr.contains(&said), "{story}");
}

/// A lower file is the clean container's and no longer that of the one which has changed it.
pub fn shadowed(changed: &Container, clean: &Container) {
    let Keeps::Stack(_) = &changed.keeps else { return };
    let mut inside = Vec::new();
    all(&clean.root(), "t", &mut inside);
    let mut judged = 0;
    for path in inside {
        let (theirs, own) = (clean.entries(&path), changed.entries(&path));
        if clean.root().join(&path).is_dir() || theirs.first() == own.first() {
            continue;
        }
        // The view itself has to say so: a program may keep marks that are not known here.
        let shown = |one: &Container, dir: &Path| {
            let there = std::fs::read(one.root().join(&path)).ok();
            there.is_some() && there == std::fs::read(dir).ok()
        };
        if own.is_empty() && shown(changed, &theirs[0]) {
            continue;
        }
        let run = whose().args(["path", theirs[0].to_str().unwrap()]).run().expect_code(0);
        let has = |target: &[u8]| run.stdout.split(|b| *b == b'\n').any(|line| line == target);
        assert!(has(&clean.target(&path)) && !has(&changed.target(&path)), "{}", run.story());
        judged += 1;
    }
    assert!(judged > 20, "{judged}");
}
