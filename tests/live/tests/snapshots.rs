//! Every snapshot of a real containerd, compared with the kernel's mounts and with what `ctr` says of
//! it, both ways.
//!
//! `WHOSE_CASE=WORD` runs only some of the cases.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use whose_live_tests::{alone, answer, trace, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::containerd::{Containerd, IMAGE};
use whose_testkit::cri::{Cri, Pod};
use whose_testkit::facts::Facts;
use whose_testkit::{procfs, require};

const NEEDS: &[&str] = &[
    "root",
    "containerd",
    "ctr",
    "containerd-shim-runc-v2",
    "runc",
    "busybox",
    "cgroup-v2",
    "mount-namespace",
    "strace",
];
const DEFAULT: &str = "default";
/// An image of four layers, the lowest busybox.
const DEEP: &str = "docker.io/library/deep:1";
/// What each container writes into its own layer.
const MARK: &str = "/tmp/mark-of-its-own";

struct Container {
    namespace: String,
    id: String,
    image: &'static str,
    pid: u32,
    /// Keys of its own snapshot and what lies below, the topmost first, by containerd's word.
    stack: Vec<String>,
}

/// Two containers of the deep image, one of busybox alone in the same namespace, one in another.
struct Stock {
    containerd: Containerd,
    snapshotter: &'static str,
    containers: Vec<Container>,
    shop: String,
}

impl Stock {
    fn start(snapshotter: &'static str) -> Self {
        let shop = unique("shop");
        let containerd =
            Containerd::options().group(&shop).start().unwrap_or_else(|e| panic!("{e}"));
        for namespace in [DEFAULT, &shop] {
            containerd.image(namespace, snapshotter);
            containerd.layered_image_with((namespace, snapshotter), DEEP, 4, |_, _| {});
        }
        let mut stock =
            Stock { containerd, snapshotter, containers: Vec::new(), shop: shop.clone() };
        let id = |name: &str| unique(&format!("{name}-{snapshotter}"));
        stock.run(DEFAULT, &id("one"), DEEP);
        stock.run(DEFAULT, &id("two"), DEEP);
        stock.run(DEFAULT, &id("flat"), IMAGE);
        // The same id in another namespace.
        stock.run(&shop, &id("one"), DEEP);
        stock
    }

    fn run(&mut self, namespace: &str, id: &str, image: &'static str) {
        let script = format!("echo {namespace}/{id} > {MARK}; exec sleep 100000");
        let options = ["--snapshotter", self.snapshotter];
        self.containerd.run(namespace, &options, &[image, id, "sh", "-c", &script]);
        let pid = self.containerd.init_pid(namespace, id);
        procfs::wait_for(id, Duration::from_secs(20), || {
            procfs::comm(pid).filter(|comm| comm == "sleep")
        });
        let stack = self.stack_of(namespace, id);
        let (namespace, id) = (namespace.to_owned(), id.to_owned());
        self.containers.push(Container { namespace, id, image, pid, stack });
    }

    fn base(&self) -> PathBuf {
        self.containerd.root().join(format!("io.containerd.snapshotter.v1.{}", self.snapshotter))
    }

    /// The directories of all snapshots, by number; `rm-N` is no more one.
    fn dirs(&self) -> BTreeMap<u64, PathBuf> {
        let entries = std::fs::read_dir(self.base().join("snapshots")).unwrap();
        let number = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
        let paths = entries.map(|e| e.unwrap().path());
        paths.filter_map(|p| Some((number(&p)?, p))).collect()
    }

    fn files(&self, dir: &Path) -> PathBuf {
        if self.snapshotter == "overlayfs" { dir.join("fs") } else { dir.to_owned() }
    }

    /// What `ctr` says of a namespace's snapshots: key to parent and kind.
    fn known(&self, namespace: &str) -> BTreeMap<String, (String, String)> {
        let words = ["snapshots", "--snapshotter", self.snapshotter, "list"];
        let text = self.containerd.cli(namespace, &words);
        let of_line = |line: &str| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[..] {
                [key, parent, kind] => (key.to_owned(), (parent.to_owned(), kind.to_owned())),
                [key, kind] => (key.to_owned(), (String::new(), kind.to_owned())),
                _ => panic!("ctr snapshots list printed {line:?}"),
            }
        };
        text.lines().skip(1).map(of_line).collect()
    }

    fn stack_of(&self, namespace: &str, id: &str) -> Vec<String> {
        let known = self.known(namespace);
        let mut stack = vec![id.to_owned()];
        while let Some((parent, _)) =
            known.get(stack.last().unwrap()).filter(|(p, _)| !p.is_empty())
        {
            stack.push(parent.clone());
        }
        stack
    }

    /// The directories of a container's stack as the kernel has them, the topmost first: they are what
    /// its root is mounted from.
    fn mounted(&self, one: &Container) -> Vec<PathBuf> {
        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", one.pid)).unwrap();
        let root = mounts.lines().find(|l| l.split(' ').nth(4) == Some("/")).expect("a root");
        let option = |name: &str| {
            let text = root.split_once(&format!("{name}="))?.1;
            Some(text.split(',').next().unwrap_or_default().to_owned())
        };
        let (upper, lowers) = (option("upperdir").unwrap(), option("lowerdir").unwrap());
        std::iter::once(upper.as_str()).chain(lowers.split(':')).map(PathBuf::from).collect()
    }
}

fn ids(owners: &Value) -> BTreeSet<String> {
    let owners = owners.as_array().unwrap_or_else(|| panic!("no owners: {owners}")).iter();
    owners.map(|o| o["id"].as_str().or(o.as_str()).unwrap().to_owned()).collect()
}

/// Who uses a snapshot, by containerd's own word: containers whose stack has it.
fn users(stock: &Stock, namespace: &str, key: &str) -> BTreeSet<String> {
    let all = stock.containers.iter().filter(|c| c.namespace == namespace);
    all.filter(|c| c.stack.iter().any(|k| k == key)).map(|c| c.id.clone()).collect()
}

#[test]
fn snapshots_of_overlayfs() {
    if require(NEEDS) {
        suite("overlayfs");
    }
}

#[test]
fn snapshots_of_native() {
    if require(NEEDS) {
        suite("native");
    }
}

fn suite(snapshotter: &'static str) {
    let _alone = alone();
    let mut stock = Stock::start(snapshotter);
    let mut cases = Cases::of(format!("snapshots-{snapshotter}"));
    cases.case("each container's own", || own(&stock));
    if snapshotter == "overlayfs" {
        cases.case("stacks as they are mounted", || stacks(&stock));
    }
    cases.case("the files that run", || running(&stock));
    cases.case("every snapshot is somebody's", || everything(&stock));
    cases.case("chain ids", || chain_ids(&stock));
    cases.case("the content store", || contents(&stock));
    cases.case("only reads", || {
        let dir = mark_of(&stock, &stock.containers[0]);
        trace::only_reads(&["--json", dir.to_str().unwrap()], 0);
    });
    cases.case("a view and a lone one", || odd(&stock));
    stock.containerd.kill9();
    cases.case("an orphan, containerd being dead", || orphan(&stock));
    cases.case("each container's own, containerd being dead", || own(&stock));
    cases.case("the files that run, containerd being dead", || running(&stock));
    stock.containerd.start().unwrap();
    cases.case("a removed container", || removed(&stock));
    drop(stock);
    cases.finish();
}

/// The file that a container wrote, where the host has it: found by its content.
fn mark_of(stock: &Stock, one: &Container) -> PathBuf {
    let wanted = format!("{}/{}\n", one.namespace, one.id);
    let marks = stock.dirs().into_values().map(|d| stock.files(&d).join(&MARK[1..]));
    let mut found: Vec<PathBuf> =
        marks.filter(|m| std::fs::read_to_string(m).is_ok_and(|text| text == wanted)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn own(stock: &Stock) {
    for one in &stock.containers {
        let path = mark_of(stock, one);
        let told = answer(path.to_str().unwrap());
        let mut facts = Facts::about(format!("{}/{}", one.namespace, one.id));
        let dir = stock
            .files(&stock.dirs().into_values().find(|d| path.starts_with(stock.files(d))).unwrap());
        let (owner, file, layer) = (&told["owner"], &told["file"], &told["file"]["layer"]);
        facts.same("status", &told["status"], "found");
        facts.same("runtime", &owner["runtime"], "containerd");
        facts.same("id", &owner["id"], one.id.as_str());
        facts.same("name", &owner["name"], one.id.as_str());
        facts.same("state", &owner["state"], "running");
        facts.same("init_pid", &owner["init_pid"], u64::from(one.pid));
        facts.same("owners", ids(&told["owners"]), BTreeSet::from([one.id.clone()]));
        facts.same("layer owners", ids(&layer["owners"]), BTreeSet::from([one.id.clone()]));
        facts.same("host", &file["host"], path.to_str().unwrap());
        facts.same("inside", &file["inside"], MARK);
        let role = if stock.snapshotter == "overlayfs" { "upper" } else { "direct" };
        facts.same("role", &file["role"], role);
        facts.same("kind", &layer["kind"], "upper");
        facts.same("driver", &layer["driver"], stock.snapshotter);
        facts.same("dir", &layer["dir"], dir.to_str().unwrap());
        facts.same("images", &layer["images"], &serde_json::json!([]));
        let seen = told["evidence"].to_string();
        let key = format!("{} in the namespace {}", one.id, one.namespace);
        facts.holds("evidence", seen.contains(&key), &seen);
        facts.finish(16);
    }
}

/// Both ways: each directory of the mount is asked for.
fn stacks(stock: &Stock) {
    for one in &stock.containers {
        let mounted = stock.mounted(one);
        let keys = &one.stack;
        assert_eq!(mounted.len(), keys.len());
        let mut facts = Facts::about(format!("the stack of {}/{}", one.namespace, one.id));
        for (at, (dir, key)) in mounted.iter().zip(keys).enumerate() {
            let told = answer(dir.to_str().unwrap());
            let layer = &told["file"]["layer"];
            facts.same("dir", &layer["dir"], dir.to_str().unwrap());
            facts.same("owners", ids(&layer["owners"]), users(stock, &one.namespace, key));
            facts.same("kind", &layer["kind"], if at == 0 { "upper" } else { "image" });
            if at == 0 {
                continue;
            }
            facts.same("chain id", &layer["chain_id"], key.as_str());
            // A place is told where it is the same for all who use the layer.
            match layer["index"].as_u64() {
                Some(index) => {
                    facts.same("index", index, at as u64 - 1);
                    facts.same("of", &layer["of"], keys.len() as u64 - 1);
                }
                None => facts.holds("only busybox's differs", at == keys.len() - 1, &told),
            }
        }
        facts.finish(8);
    }
}

/// Forward: the file that runs, and its layer in the container's stack; back: from that path.
fn running(stock: &Stock) {
    for one in &stock.containers {
        let told = answer_exe(one.pid);
        let file = &told["binary"];
        let layer = &file["layer"];
        let host = file["host"].as_str().unwrap_or_else(|| panic!("{told:#}"));
        let mut facts = Facts::about(format!("what {}/{} runs", one.namespace, one.id));
        let same = same_file(Path::new(host), one.pid, stock.snapshotter == "overlayfs");
        facts.holds("the same content", same, host);
        facts.same("verified", &file["verified"], "page");
        facts.holds("in the store", Path::new(host).starts_with(stock.base()), host);
        facts.same("driver", &layer["driver"], stock.snapshotter);
        facts.holds("owner", ids(&layer["owners"]).contains(&one.id), layer);
        let images: Vec<&str> =
            layer["images"].as_array().unwrap().iter().map(|i| i.as_str().unwrap()).collect();
        if stock.snapshotter == "overlayfs" {
            facts.holds("image", images.contains(&one.image), &images);
            let lowers = one.stack.len() as u64 - 1;
            facts.same("index", &layer["index"], lowers - 1);
            facts.same("of", &layer["of"], lowers);
        } else {
            facts.same("a copy of its own", images, Vec::<&str>::new());
        }
        let exe = whose().args(["exe", "--json", &one.pid.to_string()]).run().expect_code(0);
        let exe = exe.json()["answers"][0]["binary"].clone();
        facts.same("exe", &exe["host"], host);
        facts.same("exe: layer", &exe["layer"]["id"], &layer["id"]);
        facts.holds("exe: owner", ids(&exe["layer"]["owners"]).contains(&one.id), &exe);
        facts.same("exe: images", &exe["layer"]["images"], &layer["images"]);
        let back = answer(host);
        facts.holds("back", ids(&back["owners"]).contains(&one.id), &back);
        facts.same("back to the same layer", &back["file"]["layer"]["id"], &layer["id"]);
        facts.finish(12);
    }
}

fn answer_exe(pid: u32) -> Value {
    let run = whose().args(["--json", &pid.to_string()]).run().expect_code(0);
    run.json()["answers"][0].clone()
}

/// Whether a file is what a process runs.
fn same_file(path: &Path, pid: u32, by_content: bool) -> bool {
    let read = |path: &Path| {
        let file = std::fs::File::open(path).unwrap();
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    use std::os::unix::fs::MetadataExt;
    let exe = PathBuf::from(format!("/proc/{pid}/exe"));
    let identity = |path: &Path| path.metadata().map(|m| (m.dev(), m.ino())).unwrap();
    read(path) == read(&exe) && (by_content || identity(path) == identity(&exe))
}

/// The other way round: each directory on disk is a snapshot that containerd has, with its users.
fn everything(stock: &Stock) {
    let mut told_of: BTreeMap<String, usize> = BTreeMap::new();
    let mut uppers = BTreeSet::new();
    for (number, dir) in stock.dirs() {
        let told = answer(dir.to_str().unwrap());
        let layer = &told["file"]["layer"];
        let seen = told["evidence"].to_string();
        let namespaces = [DEFAULT, stock.shop.as_str()];
        let of = namespaces.iter().find(|n| seen.contains(&format!("in the namespace {n}\"")));
        let of = *of.unwrap_or_else(|| panic!("{told:#}"));
        let mut facts = Facts::about(dir.display().to_string());
        facts.same("id", &layer["id"], number.to_string().as_str());
        facts.same("gaps", &told["gaps"], &serde_json::json!([]));
        match layer["kind"].as_str() {
            Some("upper") => {
                uppers.extend(ids(&told["owners"]).into_iter().map(|id| format!("{of}/{id}")));
            }
            Some("image") => {
                let key = layer["chain_id"].as_str().unwrap();
                facts.same("users", ids(&told["owners"]), users(stock, of, key));
                facts.holds("its kind", stock.known(of)[key].1 == "Committed", key);
            }
            other => panic!("{} is {other:?}: {told:#}", dir.display()),
        }
        *told_of.entry(of.to_owned()).or_default() += 1;
        facts.finish(2);
    }
    for namespace in [DEFAULT, stock.shop.as_str()] {
        assert_eq!(told_of[namespace], stock.known(namespace).len(), "{namespace}");
    }
    let all = stock.containers.iter().map(|c| format!("{}/{}", c.namespace, c.id));
    assert_eq!(uppers, all.collect());
}

/// `layer:sha256:...`: two namespaces may have the same.
/// Each blob, by containerd's word on images and what their manifests say; tasks and tables.
fn contents(stock: &Stock) {
    let root = stock.containerd.root();
    let blobs = root.join("io.containerd.content.v1.content/blobs");
    let mut expected: BTreeMap<String, (&str, BTreeSet<String>)> = BTreeMap::new();
    let mut made: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for namespace in [DEFAULT, &stock.shop] {
        let list = stock.containerd.cli(namespace, &["images", "list"]);
        for line in list.lines().skip(1) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let (name, target) = (words[0], words[2].to_owned());
            let mut next = vec![(target, "")];
            while let Some((digest, kind)) = next.pop() {
                let bytes = std::fs::read(blobs.join(digest.replace(':', "/"))).unwrap();
                let document: Value = match kind {
                    "" => serde_json::from_slice(&bytes).unwrap(),
                    _ => Value::Null,
                };
                let digest_of = |of: &Value| of["digest"].as_str().unwrap().to_owned();
                let list = |key: &str| document[key].as_array().cloned().unwrap_or_default();
                next.extend(list("manifests").iter().map(|one| (digest_of(one), "")));
                next.extend(list("layers").iter().map(|one| (digest_of(one), "layer-blob")));
                let config = document.get("config").map(|one| (digest_of(one), "image-config"));
                next.extend(config);
                let kind = match kind {
                    "" if document.get("manifests").is_some() => "index",
                    "" => "manifest",
                    kind => kind,
                };
                let all = stock.containers.iter();
                let mine = all.filter(|c| c.namespace == namespace && c.image == name);
                made.entry(digest.clone()).or_default().extend(mine.map(|c| c.id.clone()));
                let one = expected.entry(digest).or_insert((kind, BTreeSet::new()));
                one.1.insert(name.to_owned());
            }
        }
    }
    assert!(expected.len() >= 6, "{expected:?}");
    for (digest, (kind, images)) in &expected {
        let told = answer(blobs.join(digest.replace(':', "/")).to_str().unwrap());
        let mut facts = Facts::about(digest);
        let stored = &told["file"]["stored"];
        facts.same("kind", &stored["kind"], *kind);
        facts.same("standing", &stored["standing"], "used");
        facts.same("id", &stored["id"], digest.as_str());
        let named = stored["images"].as_array().unwrap().iter();
        let named: BTreeSet<String> = named.map(|n| n.as_str().unwrap().to_owned()).collect();
        facts.same("images", &named, images);
        facts.same("owners", &ids(&told["owners"]), &made[digest]);
        facts.same("gaps", &told["gaps"], &serde_json::json!([]));
        facts.finish(6);
    }
    for one in &stock.containers {
        let task = format!("io.containerd.runtime.v2.task/{}/{}", one.namespace, one.id);
        for dir in [root.join(&task), stock.containerd.state().join(&task).join("config.json")] {
            let told = answer(dir.to_str().unwrap());
            assert_eq!(told["file"]["stored"]["kind"], "task", "{told:#}");
            assert_eq!(told["owner"]["id"], one.id.as_str(), "{told:#}");
            assert_eq!(told["owner"]["init_pid"], u64::from(one.pid), "{told:#}");
        }
    }
    let table = answer(root.join("io.containerd.metadata.v1.bolt/meta.db").to_str().unwrap());
    assert_eq!(table["file"]["stored"]["kind"], "table", "{table:#}");
    // What no namespace has may just be in the making, and is an orphan once it is older.
    let lost = blobs.join("sha256").join("0123456789abcdef".repeat(4));
    std::fs::write(&lost, "lost").unwrap();
    let young = whose().args(["--json", lost.to_str().unwrap()]).run().expect_code(3);
    let young = young.json()["answers"][0].clone();
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().append(true).open(&lost).unwrap().set_modified(old).unwrap();
    let told = answer(lost.to_str().unwrap());
    std::fs::remove_file(&lost).unwrap();
    assert_eq!(young["status"], "partial", "{young:#}");
    assert_eq!(told["file"]["stored"]["standing"], "orphan", "{told:#}");
}

fn chain_ids(stock: &Stock) {
    let (default, shop) = (stock.known(DEFAULT), stock.known(&stock.shop));
    let mut seen = 0;
    for key in default.keys().chain(shop.keys()).filter(|key| key.starts_with("sha256:")) {
        let target = format!("layer:{key}");
        if default.contains_key(key) && shop.contains_key(key) {
            let run = whose().args(["--json", &target]).run().expect_code(4);
            let candidates = run.json()["answers"][0]["candidates"].clone();
            let candidates = candidates.as_array().unwrap().clone();
            assert_eq!(candidates.len(), 2, "{candidates:?}");
            for path in candidates {
                let told = answer(path.as_str().unwrap());
                assert_eq!(told["file"]["layer"]["chain_id"], key.as_str());
            }
        } else {
            let layer = answer(&target)["file"]["layer"].clone();
            assert_eq!(layer["chain_id"], key.as_str());
            assert!(
                stock.dirs().values().any(|d| *stock.files(d) == *layer["dir"].as_str().unwrap())
            );
        }
        seen += 1;
    }
    assert!(seen >= 8, "{seen}");
}

fn odd(stock: &Stock) {
    let top = stock.containers[0].stack[1].clone();
    let snapshots = |words: &[&str]| {
        let all = [&["snapshots", "--snapshotter", stock.snapshotter][..], words].concat();
        stock.containerd.cli(DEFAULT, &all)
    };
    let before: BTreeSet<u64> = stock.dirs().into_keys().collect();
    let names = [unique("view"), unique("lone")];
    snapshots(&["view", &names[0], &top]);
    snapshots(&["prepare", &names[1], &top]);
    let made: Vec<PathBuf> =
        stock.dirs().into_iter().filter(|(n, _)| !before.contains(n)).map(|(_, d)| d).collect();
    // A view of native's has no directory of its own.
    let names = if stock.snapshotter == "native" { &names[1..] } else { &names[..] };
    assert_eq!(made.len(), names.len());
    for (dir, name) in made.iter().zip(names) {
        let told = answer(dir.to_str().unwrap());
        assert_eq!(told["file"]["layer"]["kind"], "unused", "{told:#}");
        assert_eq!(told["owners"], serde_json::json!([]));
        assert!(told["evidence"].to_string().contains(name.as_str()), "{told:#}");
    }
    for name in [unique("view"), unique("lone")] {
        snapshots(&["rm", &name]);
    }
}

/// While containerd is dead: alive, it removes directories that no snapshot has
/// (snapshots/overlay/overlay.go `Cleanup`, after each collection).
fn orphan(stock: &Stock) {
    let junk = stock.base().join("snapshots/4711");
    std::fs::create_dir_all(stock.files(&junk)).unwrap();
    let told = answer(junk.to_str().unwrap());
    assert_eq!(told["file"]["layer"]["kind"], "orphan", "{told:#}");
    assert_eq!(told["owners"], serde_json::json!([]));
    std::fs::remove_dir_all(&junk).unwrap();
}

fn removed(stock: &Stock) {
    let (gone, left) = (&stock.containers[0], &stock.containers[1]);
    let mark = mark_of(stock, gone);
    let keys = left.stack.clone();
    stock.containerd.remove(&gone.namespace, &gone.id);
    procfs::wait_for("its snapshot is gone", Duration::from_secs(20), || {
        (!mark.exists()).then_some(())
    });
    whose().args([mark.to_str().unwrap()]).run().expect_code(1);
    // containerd is still removing others.
    let told: Vec<Value> = stock
        .dirs()
        .values()
        .map(|d| whose().args(["--json", d.to_str().unwrap()]).run())
        .filter(|run| run.code != Some(1))
        .map(|run| run.expect_code(0).json()["answers"][0].clone())
        .filter(|t| t["file"]["layer"]["chain_id"] == keys[1].as_str())
        .collect();
    let owners: Vec<_> = told.iter().map(|t| ids(&t["owners"])).collect();
    assert!(owners.contains(&BTreeSet::from([left.id.clone()])), "{told:#?}");
}

/// A pod's containers and their layers, through CRI.
#[test]
fn snapshots_of_pods() {
    if !require(NEEDS) || !require(&["cri", "cgroup-hybrid"]) {
        return;
    }
    let _alone = alone();
    let containerd = Containerd::options().cri().start().unwrap_or_else(|e| panic!("{e}"));
    containerd.pause_image();
    containerd.image("k8s.io", "overlayfs");
    let cri = Cri::of(&containerd);
    let uid = format!("3d4e5f60-4444-4555-8666-{:012x}", std::process::id());
    let pod = Pod::new("shop", &unique("layered"), &uid);
    let sandbox = cri.run_pod(&pod).unwrap_or_else(|e| panic!("{e}"));
    let web = cri.run(&pod, &sandbox, "web", 0, &["sleep", "10000"]);
    let side = cri.run(&pod, &sandbox, "side", 0, &["sleep", "10001"]);
    for (id, name) in [(&sandbox, None), (&web, Some("web")), (&side, Some("side"))] {
        let pid = containerd.init_pid("k8s.io", id);
        procfs::wait_for(id, Duration::from_secs(20), || {
            procfs::comm(pid).filter(|comm| comm == "sleep" || comm == "pause")
        });
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let root = mounts.lines().find(|l| l.split(' ').nth(4) == Some("/")).unwrap();
        let option = |name: &str| {
            let text = root.split_once(&format!("{name}=")).unwrap().1;
            text.split([',', ':']).next().unwrap().to_owned()
        };
        let mut facts = Facts::about(name.unwrap_or("the sandbox"));
        let upper = answer(&option("upperdir"));
        let (owner, of) = (&upper["owner"], &upper["owner"]["pod"]);
        facts.same("id", &owner["id"], id.as_str());
        facts.same("kind", &owner["kind"], if name.is_some() { "container" } else { "sandbox" });
        facts.same("runtime", &owner["runtime"], "containerd");
        // A sandbox's bundle has no name of its pod before containerd 1.7.
        for (what, wanted) in [("name", pod.name.as_str()), ("namespace", "shop")] {
            let told = of[what].as_str();
            facts.holds(what, told == Some(wanted) || (told.is_none() && name.is_none()), of);
        }
        facts.same("uid", &of["uid"], uid.as_str());
        facts.same("state", &owner["state"], "running");
        if let Some(name) = name {
            facts.same("name", &owner["name"], name);
        }
        let lower = answer(&option("lowerdir"));
        let expected = match name {
            None => BTreeSet::from([sandbox.clone()]),
            Some(_) => BTreeSet::from([web.clone(), side.clone()]),
        };
        facts.same("users of the image", ids(&lower["owners"]), expected);
        let images = lower["file"]["layer"]["images"].to_string();
        facts.holds(
            "image",
            images.contains(if name.is_some() { IMAGE } else { "pause" }),
            &images,
        );
        let exe = answer_exe(pid);
        let layer = &exe["binary"]["layer"];
        facts.same("layer of what runs", &layer["id"], &lower["file"]["layer"]["id"]);
        facts.holds("its owner", ids(&layer["owners"]).contains(id), layer);
        facts.same("its place", &layer["index"], 0);
        facts.finish(12);
    }
}
