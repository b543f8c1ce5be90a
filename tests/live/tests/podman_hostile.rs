//! What a user can do with his podman's files against who looks at them: root's answers about others
//! stay as they were, nothing outside his tree is opened, and nothing hangs.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use whose_live_tests::trace::traced;
use whose_live_tests::{alone, answer, pid_of, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::cgroup::{CgroupDir, v2_mount};
use whose_testkit::harness::{Run, Whose};
use whose_testkit::podman::Podman;
use whose_testkit::sqlite::{self, Cell, Entry};
use whose_testkit::trace::{led_astray, not_examining};
use whose_testkit::users::LabUser;
use whose_testkit::{procfs, require};

const NEEDS: &[&str] =
    &["root", "podman", "conmon", "runc", "busybox", "mount-namespace", "strace", "setpriv"];
const IMAGE: &str = "localhost/whose-lab:1";
const SHADOW: &str = "/etc/shadow";
/// Bytes of a database that no reader should take.
const HUGE: u64 = 10 << 30;

/// Root's podman with a container, a user's with one, and another user with a process.
struct Lab {
    root: Podman,
    eve: Podman,
    bob: LabUser,
    bobs: Child,
    /// A store of podman's that nobody but its owner, root, has to do with.
    bait: tempfile::TempDir,
    victim: String,
    victim_id: String,
    victim_pid: u32,
    web: String,
    web_id: String,
    web_pid: u32,
    /// What is said of the victim when nobody lies.
    truth: Value,
}

impl Lab {
    fn start() -> Lab {
        let (root, eve) = (started(false), started(true));
        let (victim, web) = (unique("victim"), unique("web"));
        let run = |podman: &Podman, name: &str, seconds: &str| {
            podman.run(&["--name", name, IMAGE, "/bin/busybox", "sleep", seconds])
        };
        let (victim_id, web_id) = (run(&root, &victim, "97101"), run(&eve, &web, "97102"));
        let bob = LabUser::new().unwrap();
        let bobs = sleep_as(&bob, "97103");
        let bait = tempfile::Builder::new().prefix("whose-bait-").tempdir().unwrap();
        let table = bait.path().join("overlay-containers");
        std::fs::create_dir(&table).unwrap();
        std::fs::write(table.join("containers.json"), "[]").unwrap();
        std::fs::write(bait.path().join("db.sql"), database(&victim_id, 1, "bait")).unwrap();
        let (victim_pid, web_pid) = (root.init_pid(&victim), eve.init_pid(&web));
        let truth = answer(&victim_pid.to_string())["owner"].clone();
        assert_eq!((&truth["name"], &truth["user"]), (&json!(victim), &Value::Null));
        let lab = Lab {
            root,
            eve,
            bob,
            bobs,
            bait,
            victim,
            victim_id,
            victim_pid,
            web,
            web_id,
            web_pid,
            truth,
        };
        assert_eq!(lab.owner_of_web(&whose())["name"], lab.web.as_str());
        lab
    }

    fn user(&self) -> &LabUser {
        self.eve.user().unwrap()
    }

    fn db(&self) -> PathBuf {
        self.eve.graph_root().join("db.sql")
    }

    fn table(&self) -> PathBuf {
        self.eve.graph_root().join("vfs-containers/containers.json")
    }

    fn owner_of_web(&self, whose: &Whose) -> Value {
        let run = whose.clone().args(["--json", &self.web_pid.to_string()]).run();
        let owner = run.json()["answers"][0]["owner"].clone();
        // What is not known because it could not be read is an answer in part.
        let code = if owner["kind"] == "unknown" { 3 } else { 0 };
        assert_eq!(run.code, Some(code), "{}", run.story());
        owner
    }

    /// A file of the user's, instead of what was there; put back when the guard goes.
    fn planted(&self, path: &Path, plant: impl FnOnce(&Path)) -> Planted {
        let aside = path.with_extension("aside");
        let had = std::fs::rename(path, &aside).is_ok();
        plant(path);
        std::os::unix::fs::lchown(path, Some(self.user().uid()), None).unwrap();
        Planted { path: path.to_owned(), aside: had.then_some(aside) }
    }

    /// A command under strace. It only examines, stays in the user's tree where that leads it, and
    /// comes to its end.
    fn examined(&self, whose: &Whose, args: &[&str]) -> Run {
        let (run, calls) = traced(&whose.clone().timeout(Duration::from_secs(50)), args);
        let mut wrong = not_examining(&calls, None);
        let baits = [Path::new(SHADOW), self.bait.path(), self.bob.home()];
        for tree in [self.eve.graph_root(), self.user().home(), &self.user().runtime_dir()] {
            wrong.extend(led_astray(&calls, tree, &baits));
        }
        assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), run.story());
        assert!(!run.pipes_held, "{}", run.story());
        run
    }

    /// All that has to stay as it was, whatever the user's files say. Returns what is said of his own
    /// container, by its process.
    fn stands(&self) -> Value {
        let ask = |args: &[&str]| self.examined(&whose(), args);
        let (victim, web) = (self.victim_pid.to_string(), self.web_pid.to_string());
        let told = ask(&["--json", &victim]).expect_code(0).json();
        assert_eq!(told["answers"][0]["owner"], self.truth);
        let told = ask(&["--json", &self.bobs.id().to_string()]).expect_code(0).json();
        assert_ne!(told["answers"][0]["owner"]["kind"], "container", "{told:#}");
        // The list of processes is not one of another container's, and that of containers has each
        // process once.
        let run = ask(&["pids", &self.victim]);
        assert!([vec![self.victim_pid], vec![]].contains(&run.pids()), "{}", run.story());
        let run = ask(&["ls", "-a", "--json"]).expect_code(0);
        let list = run.json();
        let of = |pid: u32| -> Vec<&Value> {
            let all = list["containers"].as_array().unwrap().iter();
            all.filter(|c| c["pids"].as_array().unwrap().contains(&json!(pid))).collect()
        };
        let with_victim = of(self.victim_pid);
        assert!(with_victim.len() == 1, "{with_victim:#?}");
        assert_eq!(with_victim[0]["name"], self.victim.as_str());
        assert_eq!(with_victim[0]["user"], Value::Null, "{with_victim:#?}");
        assert_eq!(of(self.bobs.id()), Vec::<&Value>::new());
        for of_web in of(self.web_pid) {
            assert_eq!(of_web["user"], self.user().name(), "{of_web:#}");
        }
        let run = ask(&["--json", &web]);
        assert!(matches!(run.code, Some(0 | 3)), "{}", run.story());
        let told = run.json()["answers"][0].clone();
        let owner = &told["owner"];
        assert!(owner["user"] == self.user().name() || owner["user"].is_null(), "{told:#}");
        assert!(owner["name"] != self.victim.as_str() && owner["kind"] != "host", "{told:#}");
        told
    }

    /// The user's container has no name while his state can't be read, and the answer says why.
    fn says_why(&self, class: &str, why: &str) {
        let told = self.stands();
        assert_eq!(told["owner"]["kind"], "unknown", "{told:#}");
        assert_eq!(told["owner"]["name"], Value::Null, "{told:#}");
        let gaps = told["gaps"].as_array().unwrap();
        let fits = |gap: &&Value| {
            gap["class"] == class && format!("{} {}", gap["path"], gap["cause"]).contains(why)
        };
        assert!(gaps.iter().any(|gap| fits(&gap)), "no gap {class} {why}: {told:#}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.bobs.kill());
        drop(self.bobs.wait());
    }
}

struct Planted {
    path: PathBuf,
    aside: Option<PathBuf>,
}

impl Drop for Planted {
    fn drop(&mut self) {
        if std::fs::remove_file(&self.path).is_err() {
            drop(std::fs::remove_dir_all(&self.path));
        }
        if let Some(aside) = &self.aside {
            std::fs::rename(aside, &self.path).unwrap();
        }
    }
}

fn started(rootless: bool) -> Podman {
    let options = Podman::options();
    let options = if rootless { options.rootless().driver("vfs") } else { options };
    let podman = options.start().unwrap_or_else(|e| panic!("{e}"));
    podman.layered_image_with(IMAGE, 1, |_, _| ());
    podman
}

fn as_user(user: &LabUser) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user.name(), "--regid", user.name(), "--init-groups"]);
    command.stdin(Stdio::null());
    command
}

fn sleep_as(user: &LabUser, seconds: &str) -> Child {
    let child = as_user(user).args(["sleep", seconds]).spawn().unwrap();
    procfs::wait_for("the exec", Duration::from_secs(10), || {
        (procfs::comm(child.id())? == "sleep").then_some(())
    });
    child
}

/// A database that has one container, which runs with this PID.
fn database(id: &str, pid: u32, name: &str) -> Vec<u8> {
    sqlite::file(&entries(id, pid, name), sqlite::Layout::default())
}

fn entries(id: &str, pid: u32, name: &str) -> [Entry; 2] {
    let config = json!({"id": id, "name": name, "rootfsImageName": format!("{name}:1"),
        "cgroupManager": "cgroupfs", "cgroupsMode": "enabled", "cgroupParent": "/libpod_parent"});
    let state = json!({"state": 3, "pid": pid, "startedTime": "2026-01-02T03:04:05Z"});
    let row = [id.into(), name.into(), Cell::Null, Cell::Text(config.to_string())];
    let config = Entry::table("ContainerConfig", "ID, Name, PodID, JSON").row(row);
    let row = [id.into(), Cell::Int(3), Cell::Null, Cell::Text(state.to_string())];
    [config, Entry::table("ContainerState", "ID, State, ExitCode, JSON").row(row)]
}

fn link_to(target: &str) -> impl FnOnce(&Path) {
    move |path| symlink(target, path).unwrap()
}

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

fn sparse(path: &Path) {
    File::create(path).unwrap().set_len(HUGE).unwrap();
}

fn holding(bytes: Vec<u8>) -> impl FnOnce(&Path) {
    move |path| std::fs::write(path, bytes).unwrap()
}

#[test]
fn a_users_files_lie_to_nobody_but_himself() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let lab = Lab::start();
    let mut cases = Cases::of("podman-hostile");
    cases.case("nothing planted", || assert_eq!(lab.stands()["owner"]["name"], lab.web.as_str()));
    cases.case("db.sql is a link to /etc/shadow", || {
        let _db = lab.planted(&lab.db(), link_to(SHADOW));
        lab.says_why("malformed", "db.sql");
    });
    cases.case("db.sql is a FIFO", || {
        let _db = lab.planted(&lab.db(), fifo);
        lab.says_why("malformed", "db.sql");
    });
    cases.case("db.sql is a directory", || {
        let _db = lab.planted(&lab.db(), |path| std::fs::create_dir(path).unwrap());
        lab.says_why("malformed", "db.sql");
    });
    cases.case("db.sql of 10 GB", || {
        let _db = lab.planted(&lab.db(), sparse);
        lab.says_why("malformed", "db.sql");
    });
    cases.case("db.sql is root's own", || {
        let _db = lab.planted(&lab.db(), holding(database(&lab.web_id, lab.web_pid, "evil")));
        chown(lab.db(), Some(0), None).unwrap();
        lab.says_why("malformed", "db.sql");
    });
    cases.case("views and triggers in place of tables", || views(&lab));
    cases.case("a hot journal", || journal(&lab));
    cases.case("db.sql is replaced all the time", || replaced(&lab));
    cases.case("a database claims root's container", || claims(&lab));
    cases.case("containers.json claims root's container", || table_claims(&lab));
    cases.case("his state has another user's PID", || anothers_pid(&lab));
    cases.case("his store is a link to another's", || store_elsewhere(&lab));
    cases.case("storage.conf leads elsewhere", || configured(&lab));
    cases.case("a monitor leads elsewhere", || monitors(&lab));
    cases.case("a cgroup of his has root's id", || cgroup(&lab));
    cases.case("tables as long as they may be", || long_tables(&lab));
    cases.case("a volume of his has the name of root's", || volume(&lab));
    drop(lab);
    cases.finish();
}

fn views(lab: &Lab) {
    let of = |name: &str| {
        let sql = format!("CREATE VIEW {name} AS SELECT '{}' AS ID, 'evil' AS Name", lab.web_id);
        Entry::other("view", name, &sql)
    };
    let trigger = "CREATE TRIGGER t AFTER INSERT ON x BEGIN SELECT load_extension('/tmp/x'); END";
    let module = "CREATE VIRTUAL TABLE ContainerState USING fts5(ID, State, ExitCode, JSON)";
    let schema = [
        Entry::table("x", "y"),
        of("ContainerConfig"),
        Entry { rows: None, ..Entry::other("table", "ContainerState", module) },
        Entry::other("trigger", "t", trigger),
    ];
    let bytes = sqlite::file(&schema, sqlite::Layout::default());
    let _db = lab.planted(&lab.db(), holding(bytes));
    let told = lab.stands();
    assert_ne!(told["owner"]["name"], "evil", "{told:#}");
}

fn journal(lab: &Lab) {
    let _db = lab.planted(&lab.db(), holding(database(&lab.web_id, lab.web_pid, "evil")));
    assert_eq!(lab.stands()["owner"]["name"], "evil");
    let beside = |end: &str| lab.eve.graph_root().join(format!("db.sql-{end}"));
    // The magic number of a journal that was not ended (sqlite.org/fileformat2.html, section 3).
    let hot = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7, 0, 0, 0, 1, 0, 0, 0, 0].to_vec();
    {
        let _journal = lab.planted(&beside("journal"), holding(hot.clone()));
        lab.says_why("timed-out", "db.sql");
    }
    {
        let _log = lab.planted(&beside("wal"), holding(hot));
        lab.says_why("unsupported", "db.sql");
    }
    for end in ["journal", "wal"] {
        let _link = lab.planted(&beside(end), link_to(SHADOW));
        lab.says_why("malformed", "db.sql");
    }
    let _fifo = lab.planted(&beside("journal"), fifo);
    assert_eq!(lab.stands()["owner"]["name"], "evil");
}

/// Two databases take turns, now and then as a link, and one is written to in its place.
fn replaced(lab: &Lab) {
    let _db = lab.planted(&lab.db(), holding(database(&lab.web_id, lab.web_pid, "first")));
    let (next, uid) = (lab.eve.graph_root().join("next"), lab.user().uid());
    let files = ["first", "second"].map(|name| database(&lab.web_id, lab.web_pid, name));
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            for n in 0_usize.. {
                if ended.load(Ordering::Relaxed) {
                    return n;
                }
                if n % 5 == 4 {
                    symlink(SHADOW, &next).unwrap();
                } else {
                    std::fs::write(&next, &files[n % 2]).unwrap();
                    chown(&next, Some(uid), None).unwrap();
                }
                std::fs::rename(&next, lab.db()).unwrap();
                if n % 7 == 3 {
                    drop(std::fs::write(&next, &files[n % 2][..4096]));
                    drop(std::fs::remove_file(&next));
                }
            }
            0
        });
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lab.stands();
            for _ in 0..20 {
                let owner = lab.owner_of_web(&whose());
                let fits = |name: &str| {
                    owner["name"] == name && owner["image"] == format!("{name}:1").as_str()
                };
                let is_one = fits("first") || fits("second");
                assert!(is_one || owner["kind"] == "unknown", "{owner:#}");
            }
        }));
        ended.store(true, Ordering::Relaxed);
        assert!(swapping.join().unwrap() > 20);
        if let Err(panic) = checked {
            std::panic::resume_unwind(panic);
        }
    });
}

fn claims(lab: &Lab) {
    let bytes = database(&lab.victim_id, lab.victim_pid, "evil");
    let _db = lab.planted(&lab.db(), holding(bytes));
    lab.stands();
    let run = lab.examined(&whose(), &["--json", "evil"]);
    let told = run.json()["answers"][0].clone();
    assert_ne!(told["owner"]["init_pid"], lab.victim_pid, "{told:#}");
    assert_eq!(told["processes"].as_array().map_or(0, Vec::len), 0, "{told:#}");
    let told = answer(&lab.victim_id);
    assert_eq!(told["owner"]["name"], lab.victim.as_str(), "{told:#}");
}

fn table_claims(lab: &Lab) {
    let entry = |id: &str, name: &str| {
        let metadata = json!({"image-name": "evil:1", "name": name}).to_string();
        json!({"id": id, "names": [name], "layer": id, "metadata": metadata})
    };
    let table = json!([entry(&lab.victim_id, "evil"), entry(&lab.web_id, &lab.victim)]);
    let _table = lab.planted(&lab.table(), holding(table.to_string().into_bytes()));
    // Without a database the table is all there is.
    let _bolt = lab.planted(&lab.eve.graph_root().join("libpod"), |path| {
        std::fs::create_dir(path).unwrap();
    });
    let told = answer(&lab.victim_pid.to_string());
    assert_eq!(told["owner"], lab.truth);
    let told = answer(&lab.victim_id);
    assert_eq!(told["owner"]["name"], lab.victim.as_str(), "{told:#}");
    // He may call his own as another is called: then each is told apart by its user.
    let owner = lab.owner_of_web(&whose());
    assert_eq!((&owner["name"], &owner["user"]), (&json!(lab.victim), &json!(lab.user().name())));
    let run = lab.examined(&whose(), &["--json", &lab.victim]).expect_code(4);
    let candidates = run.json()["answers"][0]["candidates"].clone();
    let pids: BTreeSet<Vec<u32>> = candidates
        .as_array()
        .unwrap()
        .iter()
        .map(|candidate| {
            whose().args(["pids", candidate.as_str().unwrap()]).run().expect_code(0).pids()
        })
        .collect();
    assert_eq!(pids, BTreeSet::from([vec![lab.victim_pid], vec![lab.web_pid]]));
    for bad in [&b"[{"[..], b"{}", b"[[[[[[[[[[[[[[[[[[[[["] {
        drop(std::fs::write(lab.table(), bad));
        let told = lab.owner_of_web(&whose());
        assert_eq!(told["kind"], "unknown", "{told:#}");
    }
    lab.stands();
}

/// The PID of another user's process is nobody's but that user's.
fn anothers_pid(lab: &Lab) {
    for pid in [lab.bobs.id(), lab.victim_pid, 1] {
        let _db = lab.planted(&lab.db(), holding(database(&lab.web_id, pid, "evil")));
        lab.stands();
        let run = lab.examined(&whose(), &["--json", "evil"]);
        let told = run.json()["answers"][0].clone();
        assert_ne!(pid_of(&told["owner"]["init_pid"]), Some(pid), "{told:#}");
        assert_ne!(pid_of(&told["process"]["pid"]), Some(pid), "{told:#}");
        let run = lab.examined(&whose(), &["pids", "evil"]);
        // The kernel knows which processes are below his monitor.
        assert_eq!(run.expect_code(0).pids(), [lab.web_pid]);
        let told = answer(&lab.web_pid.to_string());
        assert_eq!(told["owner"]["name"], "evil", "{told:#}");
        assert_ne!(pid_of(&told["owner"]["init_pid"]), Some(pid), "{told:#}");
    }
}

fn store_elsewhere(lab: &Lab) {
    let bait = lab.bait.path().to_str().unwrap();
    for at in [".local", ".local/share/containers", ".local/share/containers/storage"] {
        let _store = lab.planted(&lab.user().home().join(at), link_to(bait));
        // The kernel still knows from where the container's root was mounted.
        assert_eq!(lab.stands()["owner"]["name"], lab.web.as_str());
    }
}

fn configured(lab: &Lab) {
    let dir = lab.user().home().join(".config/containers");
    std::fs::create_dir_all(&dir).unwrap();
    for dir in [&dir, &lab.user().home().join(".config")] {
        chown(dir, Some(lab.user().uid()), None).unwrap();
    }
    let file = dir.join("storage.conf");
    let is_told = || assert_eq!(lab.stands()["owner"]["name"], lab.web.as_str());
    let bait = lab.bait.path().to_str().unwrap();
    for place in [bait, "/etc", "/proc/1/root", "$HOME/../../etc", lab.bob.home().to_str().unwrap()]
    {
        let text = format!("[storage]\ngraphroot = \"{place}\"\n");
        let _conf = lab.planted(&file, holding(text.into_bytes()));
        is_told();
    }
    let _link = lab.planted(&file, link_to(SHADOW));
    is_told();
    drop(_link);
    let _fifo = lab.planted(&file, fifo);
    is_told();
    drop(_fifo);
    let _huge = lab.planted(&file, sparse);
    is_told();
}

/// A program that calls itself a monitor of root's container, or of his own with another's store.
fn monitors(lab: &Lab) {
    let bait = lab.bait.path().to_str().unwrap();
    let script = "exec -a conmon sh -c 'sleep 97104 & wait' conmon \"$@\"";
    for (id, root) in [(&lab.victim_id, bait), (&lab.victim_id, "/"), (&lab.web_id, bait)] {
        let bundle = format!("{root}/overlay-containers/{id}/userdata");
        let words = ["-c", id, "-u", id, "-b", &bundle, "-n", &lab.victim];
        let end = ["--exit-command-arg", "--root", "--exit-command-arg", root];
        let mut command = as_user(lab.user());
        command.args(["bash", "-c", script, "bash"]).args(words).args(end);
        let mut child = command.spawn().unwrap();
        // What counts is the kernel's name for it, which it gives itself.
        let below = procfs::wait_for("its child", Duration::from_secs(10), || {
            procfs::children(child.id()).into_iter().next()
        });
        lab.stands();
        let told = lab.examined(&whose(), &["--json", &below.to_string()]).json();
        let owner = &told["answers"][0]["owner"];
        assert_ne!(owner["name"], lab.victim.as_str(), "{owner:#}");
        procfs::signal(below, rustix::process::Signal::KILL);
        drop(child.kill());
        drop(child.wait());
    }
}

/// As many containers as go into a table, each on a layer at the top of a deep stack.
fn long_tables(lab: &Lab) {
    const CONTAINERS: usize = 60_000;
    const DEEP: usize = 900;
    let layer = |n: usize| format!("{n:064x}");
    let stack: Vec<Value> = (0..DEEP)
        .map(|n| json!({"id": layer(n), "parent": if n == 0 { String::new() } else { layer(n - 1) }}))
        .collect();
    let table = |first: usize| {
        let row = |n| json!({"id": layer(n), "layer": layer(DEEP - 1), "metadata": "x"});
        let rows: Vec<Value> = (first..first + CONTAINERS / 2).map(row).collect();
        json!(rows).to_string().into_bytes()
    };
    let at = |rel: &str| lab.eve.graph_root().join(rel);
    let _table = lab.planted(&lab.table(), holding(table(0)));
    let twin = at("vfs-containers/volatile-containers.json");
    let _twin = lab.planted(&twin, holding(table(CONTAINERS)));
    let layers = at("vfs-layers/layers.json");
    let _layers = lab.planted(&layers, holding(json!(stack).to_string().into_bytes()));
    lab.stands();
    let bottom = at("vfs/dir").join(layer(0));
    let _dir = lab.planted(&bottom, |path| std::fs::create_dir(path).unwrap());
    let run = lab.examined(&whose(), &["--json", bottom.to_str().unwrap()]);
    let told = run.json()["answers"][0].clone();
    assert!(matches!(run.code, Some(0 | 3)), "{}", run.code.unwrap_or(-1));
    assert_eq!(told["file"]["layer"]["owners"].as_array().unwrap().len(), CONTAINERS);
    // A circle is no stack.
    let top = layer(DEEP - 1);
    let circle = json!([{"id": layer(0), "parent": top}, {"id": top, "parent": layer(0)}]);
    std::fs::write(&layers, circle.to_string()).unwrap();
    let run = lab.examined(&whose(), &["--json", bottom.to_str().unwrap()]).expect_code(3);
    let gap = run.json()["answers"][0]["gaps"][0].clone();
    assert_eq!(gap["class"], "malformed", "{gap:#}");
}

/// Both are told apart, and nothing of his is taken for root's.
fn volume(lab: &Lab) {
    let name = unique("volume");
    for podman in [&lab.root, &lab.eve] {
        podman.cli(&["volume", "create", &name]);
    }
    let mount = format!("{name}:/data");
    let user = unique("user");
    lab.root.cli(&["create", "--name", &user, "-v", &mount, IMAGE, "/bin/busybox", "true"]);
    let run = lab.examined(&whose(), &["--json", &format!("volume:{name}")]).expect_code(4);
    let candidates = run.json()["answers"][0]["candidates"].clone();
    let of = |podman: &Podman| {
        let dir = podman.graph_root().join("volumes").join(&name).join("_data");
        let run = lab.examined(&whose(), &["--json", dir.to_str().unwrap()]).expect_code(0);
        assert!(candidates.as_array().unwrap().contains(&json!(dir)), "{candidates:#}");
        run.json()["answers"][0]["owners"].clone()
    };
    let roots = of(&lab.root);
    assert_eq!((roots.as_array().unwrap().len(), &roots[0]["name"]), (1, &json!(user)));
    assert_eq!(of(&lab.eve), json!([]));
}

/// A cgroup of his own manager's with the id of root's container in its name, and his process in it.
fn cgroup(lab: &Lab) {
    let Some(mount) = v2_mount() else { return whose_testkit::skip("cgroup2", "is not mounted") };
    let uid = lab.user().uid();
    let manager = format!("user.slice/user-{uid}.slice/user@{uid}.service");
    let dir = CgroupDir::make(&mount, &format!("{manager}/libpod-{}.scope", lab.victim_id));
    let mut child = sleep_as(lab.user(), "97105");
    dir.join(child.id());
    lab.stands();
    let told = lab.examined(&whose(), &["--json", &child.id().to_string()]).json();
    let owner = &told["answers"][0]["owner"];
    assert_ne!(owner["name"], lab.victim.as_str(), "{owner:#}");
    assert_ne!(owner["init_pid"], lab.victim_pid, "{owner:#}");
    let told = answer(&lab.victim);
    assert_eq!(told["owner"]["init_pid"], lab.victim_pid, "{told:#}");
    drop(child.kill());
    drop(child.wait());
}

/// Mounts on the user's home, each in a mount namespace of its own so that nobody else is caught.
const FUSE: &str = r#"
set -e
mkdir -p "$LAB/l" "$LAB/u" "$LAB/w"
fuse-overlayfs -f -o lowerdir=$LAB/l,upperdir=$LAB/u,workdir=$LAB/w "$HOME" >/dev/null 2>&1 </dev/null &
server=$!
i=0; while ! grep -q fuse-overlayfs /proc/self/mountinfo; do i=$((i+1)); test $i -lt 200; sleep 0.05; done
kill -STOP $server
echo $server
read -r _ || true
"#;
/// Who reads the pipe is the daemon, which never answers; only its own process group gets through.
const AUTOFS: &str = r#"
set -e
mkfifo "$LAB/pipe"; exec 9<>"$LAB/pipe"
mount -i -t autofs -o fd=9,pgrp=$$,minproto=5,maxproto=5,direct none "$HOME"
echo $$
read -r _ || true
"#;

/// A namespace with such a mount; when it is dropped, the one that does not answer goes first.
struct Trapped {
    shell: Child,
    server: u32,
    _dir: tempfile::TempDir,
}

impl Trapped {
    fn start(script: &str, home: &Path) -> Trapped {
        let dir = tempfile::tempdir().unwrap();
        let mut shell = Command::new("setsid")
            .args(["unshare", "-m", "--propagation", "private", "sh", "-c", script])
            .env("LAB", dir.path())
            .env("HOME", home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = shell.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        let server = line.trim().parse().unwrap_or_else(|_| panic!("no trap: {line:?}"));
        Trapped { shell, server, _dir: dir }
    }
}

impl Drop for Trapped {
    fn drop(&mut self) {
        if self.server != self.shell.id() {
            procfs::signal(self.server, rustix::process::Signal::KILL);
        }
        drop(self.shell.stdin.take());
        drop(self.shell.wait());
    }
}

#[test]
fn a_home_that_does_not_answer_is_not_visited() {
    if !require(NEEDS) || !require(&["fuse", "fuse-overlayfs"]) {
        return;
    }
    let _alone = alone();
    let lab = Lab::start();
    let mut cases = Cases::of("podman-home");
    for (kind, script) in [("fuse", FUSE), ("autofs", AUTOFS)] {
        cases.case(kind, || {
            let trapped = Trapped::start(script, lab.user().home());
            let inside = whose().in_mount_namespace_of(trapped.shell.id());
            let owner = lab.owner_of_web(&inside);
            assert_eq!(owner["kind"], "unknown", "{owner:#}");
            let pid = lab.web_pid.to_string();
            for args in [&["--json", &pid][..], &["ls", "-a", "--json"], &["pids", &lab.web]] {
                let run = lab.examined(&inside, args);
                assert!(matches!(run.code, Some(0 | 3)), "{}", run.story());
                if args.contains(&"--json") {
                    let json = run.json();
                    let all = [&json["gaps"], &json["answers"][0]["gaps"]];
                    let mut gaps = all.iter().filter_map(|g| g.as_array()).flatten();
                    let fits = |gap: &Value| {
                        let path = gap["path"].as_str().unwrap_or_default();
                        gap["class"] == "unsupported"
                            && Path::new(path).starts_with(lab.user().home())
                    };
                    assert!(gaps.any(fits), "{}", run.story());
                }
            }
            let run = lab.examined(&inside, &["--json", &lab.victim_pid.to_string()]);
            assert_eq!(run.json()["answers"][0]["owner"], lab.truth);
        });
    }
    drop(lab);
    cases.finish();
}
