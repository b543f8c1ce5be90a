//! Layers, volumes and directories in podman's stores, of root and of a user, with each driver; judged by
//! the store's tables, which the test reads itself, and by `podman inspect`.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use whose_live_tests::disk::Disk;
use whose_live_tests::trace::only_examines;
use whose_live_tests::{alone, answer, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::podman::{Podman, PodmanOptions};
use whose_testkit::require;

const NEEDS: &[&str] =
    &["root", "podman", "buildah", "conmon", "runc", "busybox", "mount-namespace", "strace"];
/// An image of three layers, and one of a single one.
const DEEP: &str = "localhost/whose-deep:1";
const FLAT: &str = "localhost/whose-flat:1";

/// Two containers of the deep image, one of them with a volume; one of the flat image that was never
/// started, with the same volume; a working container of buildah's.
struct Stock {
    podman: Podman,
    driver: &'static str,
    one: String,
    volume: String,
    unused: String,
    working: String,
    /// Name to id.
    containers: BTreeMap<String, String>,
    layers: BTreeMap<String, String>,
}

impl Stock {
    fn start(driver: &'static str, options: PodmanOptions) -> Stock {
        let podman = options.driver(driver).start().unwrap_or_else(|e| panic!("{e}"));
        podman.layered_image_with(DEEP, 3, |_, _| ());
        podman.layered_image_with(FLAT, 1, |_, dir| std::fs::write(dir.join("flat"), "").unwrap());
        let [one, two, idle] = ["one", "two", "idle"].map(unique);
        let [volume, unused, working] = ["volume", "unused", "working"].map(unique);
        podman.cli(&["volume", "create", &volume]);
        podman.cli(&["volume", "create", &unused]);
        let mounts = format!("{volume}:/data");
        let sleep = ["/bin/busybox", "sleep", "97201"];
        let mut containers = BTreeMap::new();
        let id = podman.run(&[&["--name", &one, "-v", &mounts, DEEP][..], &sleep].concat());
        containers.insert(one.clone(), id);
        let id = podman.run(&[&["--name", &two, DEEP][..], &sleep].concat());
        containers.insert(two, id);
        let words = ["create", "--name", &idle, "-v", &mounts, FLAT];
        let id = podman.cli(&[&words[..], &sleep].concat());
        containers.insert(idle, id);
        podman.buildah_cli(&["from", "--name", &working, FLAT]);
        let mut stock = Stock {
            podman,
            driver,
            one,
            volume,
            unused,
            working,
            containers,
            layers: BTreeMap::new(),
        };
        let id = |of: &Value| of["id"].as_str().unwrap().to_owned();
        let parent = |of: &Value| of["parent"].as_str().unwrap_or_default().to_owned();
        let all = stock.table("containers", "containers");
        let built = all.iter().find(|c| c["names"] == json!([stock.working])).unwrap();
        stock.containers.insert(stock.working.clone(), id(built));
        stock.layers = stock.table("layers", "layers").iter().map(|l| (id(l), parent(l))).collect();
        stock
    }

    /// A table, and its twin of what is not kept.
    fn table(&self, kind: &str, name: &str) -> Vec<Value> {
        let mut all = Vec::new();
        for file in [format!("{name}.json"), format!("volatile-{name}.json")] {
            let path = self.podman.graph_root().join(format!("{}-{kind}/{file}", self.driver));
            let text = std::fs::read(path).unwrap_or_default();
            let rows: Vec<Value> = serde_json::from_slice(&text).unwrap_or_default();
            all.extend(rows);
        }
        all
    }

    /// A layer's directory.
    fn dir(&self, layer: &str) -> PathBuf {
        let store = match self.driver {
            "overlay" => "overlay",
            "vfs" => "vfs/dir",
            "btrfs" => "btrfs/subvolumes",
            other => panic!("{other}"),
        };
        self.podman.graph_root().join(store).join(layer)
    }

    fn files(&self, layer: &str) -> PathBuf {
        let dir = self.dir(layer);
        if self.driver == "overlay" { dir.join("diff") } else { dir }
    }

    /// A layer and all below it.
    fn chain(&self, top: &str) -> Vec<String> {
        let mut chain = vec![top.to_owned()];
        while let Some(below) = self.layers.get(chain.last().unwrap()).filter(|b| !b.is_empty()) {
            chain.push(below.clone());
        }
        chain
    }

    fn user(&self) -> Value {
        self.podman.user().map_or(Value::Null, |user| json!(user.name()))
    }
}

fn ids(owners: &Value) -> BTreeSet<String> {
    let owners = owners.as_array().into_iter().flatten();
    owners.map(|o| o["id"].as_str().or(o.as_str()).unwrap().to_owned()).collect()
}

fn run(stock: &Stock, suite: &str) {
    let mut cases = Cases::of(format!("podman-layers-{suite}"));
    cases.case("every layer is somebody's", || everything(stock));
    cases.case("the image store", || image_store(stock));
    cases.case("podman's own word", || inspected(stock));
    cases.case("by name", || named(stock));
    cases.case("of a process", || of_a_process(stock));
    cases.case("an orphan", || orphan(stock));
    cases.case("volumes", || volumes(stock));
    cases.case("directories of containers", || directories(stock));
    cases.case("directories in the run root", || run_root(stock));
    cases.case("a working container of buildah's", || working(stock));
    cases.case("only examines", || {
        let layer = stock.layers.keys().next().unwrap();
        for target in [stock.dir(layer).to_str().unwrap(), &format!("volume:{}", stock.volume)] {
            only_examines(&["--json", target], &[0], None);
        }
    });
    cases.finish();
}

/// Each layer of the table: its kind, its containers and its images, by the chains of all of them.
fn everything(stock: &Stock) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let containers: Vec<(String, Vec<String>)> = stock
        .table("containers", "containers")
        .iter()
        .map(|c| (text(&c["id"]), stock.chain(c["layer"].as_str().unwrap())))
        .collect();
    assert_eq!(containers.len(), 4);
    let images = stock.table("images", "images");
    let mut seen = BTreeMap::new();
    for layer in stock.layers.keys() {
        let told = answer(stock.dir(layer).to_str().unwrap());
        let of = &told["file"]["layer"];
        assert_eq!((&of["id"], &of["driver"]), (&json!(layer), &json!(stock.driver)), "{told:#}");
        let dir = stock.files(layer);
        assert_eq!(of["dir"], dir.to_str().unwrap(), "{told:#}");
        let own = containers.iter().find(|(_, chain)| chain[0] == *layer);
        let having = containers.iter().filter(|(_, chain)| chain.contains(layer));
        let having: BTreeSet<String> = having.map(|(id, _)| id.clone()).collect();
        assert_eq!(ids(&told["owners"]), having, "{told:#}");
        assert_eq!(ids(&of["owners"]), having, "{told:#}");
        let held = images
            .iter()
            .filter(|i| stock.chain(i["layer"].as_str().unwrap_or_default()).contains(layer));
        let held: BTreeSet<&str> = held
            .flat_map(|i| i["names"].as_array().unwrap())
            .map(|n| n.as_str().unwrap())
            .collect();
        let told_images = of["images"].as_array().into_iter().flatten();
        let told_images: BTreeSet<&str> = told_images.map(|n| n.as_str().unwrap()).collect();
        assert_eq!(told_images, held, "{told:#}");
        let kind = match (own, held.is_empty()) {
            (Some((id, _)), _) => {
                assert_eq!(told["owner"]["id"], id.as_str(), "{told:#}");
                assert_eq!(told["owner"]["user"], stock.user(), "{told:#}");
                let name = told["owner"]["name"].as_str().unwrap();
                assert_eq!(stock.containers[name], *id);
                let engine = if name == stock.working { "buildah" } else { "podman" };
                assert_eq!(told["owner"]["runtime"], engine, "{told:#}");
                "upper"
            }
            (None, false) => "image",
            (None, true) => "unused",
        };
        assert_eq!(of["kind"], kind, "{told:#}");
        *seen.entry(kind).or_insert(0) += 1;
        assert_eq!(told["gaps"], json!([]), "{told:#}");
        // What lies in it is in the same layer.
        if let Some(entry) = std::fs::read_dir(&dir).unwrap().next() {
            let below = answer(entry.unwrap().path().to_str().unwrap());
            assert_eq!(below["file"]["layer"]["id"], layer.as_str(), "{below:#}");
        }
    }
    assert_eq!(seen["upper"], 4, "{seen:?}");
    assert!(seen["image"] >= 4, "{seen:?}");
}

/// What is kept beside the layers' files, by the tables and by podman's own word on images.
fn image_store(stock: &Stock) {
    let root = stock.podman.graph_root();
    let kept = |rel: &str| root.join(format!("{}-{rel}", stock.driver));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let containers = stock.table("containers", "containers");
    let mut kinds = BTreeSet::new();
    for image in stock.table("images", "images") {
        let id = text(&image["id"]);
        let mine = containers.iter().filter(|c| c["image"] == image["id"]);
        let mine: BTreeSet<String> = mine.map(|c| text(&c["id"])).collect();
        let dir = kept(&format!("images/{id}"));
        let files = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        for path in files.chain([dir.clone()]) {
            let told = answer(path.to_str().unwrap());
            let stored = &told["file"]["stored"];
            assert_eq!(
                (&stored["standing"], &told["gaps"]),
                (&json!("used"), &json!([])),
                "{told:#}"
            );
            assert_eq!(stored["id"], format!("sha256:{id}"), "{told:#}");
            assert_eq!(stored["images"], image["names"], "{told:#}");
            assert_eq!(stored["root"], root.to_str().unwrap(), "{told:#}");
            assert_eq!(ids(&told["owners"]), mine, "{told:#}");
            for owner in told["owners"].as_array().unwrap() {
                assert_eq!(owner["user"], stock.user(), "{told:#}");
            }
            let kind = text(&stored["kind"]);
            // A configuration is what its digest says.
            if kind == "image-config" {
                let sum = std::process::Command::new("sha256sum").arg(&path).output().unwrap();
                assert!(sum.stdout.starts_with(id.as_bytes()), "{}", path.display());
            }
            kinds.insert(kind);
        }
    }
    assert_eq!(kinds, ["image-config", "image-record", "manifest"].map(str::to_owned).into());
    let mut seen = 0;
    for layer in stock.layers.keys() {
        let path = kept(&format!("layers/{layer}.tar-split.gz"));
        if !path.exists() {
            continue;
        }
        let (told, of) =
            (answer(path.to_str().unwrap()), answer(stock.dir(layer).to_str().unwrap()));
        let stored = &told["file"]["stored"];
        assert_eq!(
            (&stored["kind"], &stored["id"]),
            (&json!("tar-split"), &json!(layer)),
            "{told:#}"
        );
        assert_eq!(stored["layer"], of["file"]["layer"], "{told:#}");
        assert_eq!(ids(&told["owners"]), ids(&of["owners"]), "{told:#}");
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
    let table = answer(kept("images/images.json").to_str().unwrap());
    assert_eq!(table["file"]["stored"]["kind"], "table", "{table:#}");
    // What no table has may just be in the making, and is an orphan once it is older.
    let lost = kept(&format!("images/{}", "0123456789abcdef".repeat(4)));
    std::fs::create_dir(&lost).unwrap();
    let of_root = std::fs::metadata(root).unwrap();
    std::os::unix::fs::chown(&lost, Some(of_root.uid()), Some(of_root.gid())).unwrap();
    let young = whose().args(["--json", lost.to_str().unwrap()]).run().expect_code(3);
    let young = young.json()["answers"][0].clone();
    assert_eq!(
        (&young["status"], &young["file"]["stored"]["standing"]),
        (&json!("partial"), &Value::Null)
    );
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    std::fs::File::open(&lost).unwrap().set_modified(old).unwrap();
    let told = answer(lost.to_str().unwrap());
    std::fs::remove_dir(&lost).unwrap();
    assert_eq!(told["file"]["stored"]["standing"], "orphan", "{told:#}");
}

/// UpperDir and LowerDir as podman has them, with the places among the lowers.
fn inspected(stock: &Stock) {
    let inspected = stock.podman.inspect(&stock.one);
    let data = &inspected["GraphDriver"]["Data"];
    if stock.driver != "overlay" {
        assert_eq!(inspected["GraphDriver"]["Name"], stock.driver);
        return;
    }
    let upper = answer(data["UpperDir"].as_str().unwrap());
    assert_eq!(upper["owner"]["id"], inspected["Id"], "{upper:#}");
    assert_eq!(upper["owner"]["state"], "running", "{upper:#}");
    assert_eq!(upper["file"]["role"], "upper", "{upper:#}");
    let lowers: Vec<&str> = data["LowerDir"].as_str().unwrap().split(':').collect();
    assert_eq!(lowers.len(), 3);
    for (at, lower) in lowers.iter().enumerate() {
        let told = answer(lower);
        let layer = &told["file"]["layer"];
        assert_eq!((&layer["index"], &layer["of"]), (&json!(at), &json!(3)), "{told:#}");
        assert_eq!(told["file"]["role"], "lower", "{told:#}");
    }
}

fn named(stock: &Stock) {
    for layer in stock.layers.keys() {
        let by_path = answer(stock.dir(layer).to_str().unwrap());
        for target in [format!("layer:{layer}"), format!("layer:{}", &layer[..24])] {
            let told = answer(&target);
            assert_eq!(told["kind"], "layer");
            assert_eq!(told["file"]["host"], by_path["file"]["host"], "{told:#}");
            assert_eq!(told["owners"], by_path["owners"], "{told:#}");
        }
    }
    let run = whose().args(["--json", "layer:0123456789abcdef0123"]).run();
    assert!(matches!(run.code, Some(1 | 3)), "{}", run.story());
}

/// The file that runs is in a layer, and the answer says whose that is.
fn of_a_process(stock: &Stock) {
    let init = stock.podman.init_pid(&stock.one);
    let run = whose().args(["--json", &init.to_string()]).run().expect_code(0);
    let told = run.json()["answers"][0].clone();
    if told["binary"]["host"].is_null() {
        // A user's file server lets nobody in: then there is no layer to tell of, but a reason.
        assert!(!told["gaps"].as_array().unwrap().is_empty(), "{told:#}");
        return;
    }
    let layer = &told["binary"]["layer"];
    let id = layer["id"].as_str().unwrap();
    assert_eq!(layer["dir"], stock.files(id).to_str().unwrap(), "{told:#}");
    let is_upper = stock.driver != "overlay";
    assert_eq!(layer["kind"], if is_upper { "upper" } else { "image" }, "{told:#}");
    if !is_upper {
        assert!(layer["images"].as_array().unwrap().contains(&json!(DEEP)), "{told:#}");
    }
    assert!(ids(&layer["owners"]).contains(&stock.containers[&stock.one]), "{told:#}");
    let run = whose().args(["exe", &init.to_string()]).run().expect_code(0);
    assert!(run.stdout_str().starts_with(stock.files(id).to_str().unwrap()), "{}", run.story());
}

fn orphan(stock: &Stock) {
    let name = "f".repeat(64);
    std::fs::create_dir(stock.dir(&name)).unwrap();
    let told = answer(stock.dir(&name).to_str().unwrap());
    std::fs::remove_dir(stock.dir(&name)).unwrap();
    assert_eq!(told["file"]["layer"]["kind"], "orphan", "{told:#}");
    assert_eq!(told["owners"], json!([]), "{told:#}");
}

fn volumes(stock: &Stock) {
    let point =
        |name: &str| stock.podman.cli(&["volume", "inspect", "-f", "{{.Mountpoint}}", name]);
    let using = stock
        .containers
        .iter()
        .filter(|(name, _)| ["one", "idle"].iter().any(|word| name.starts_with(word)));
    let using: BTreeSet<String> = using.map(|(_, id)| id.clone()).collect();
    assert_eq!(using.len(), 2);
    let data = point(&stock.volume);
    std::fs::create_dir_all(format!("{data}/sub")).unwrap();
    let dir = data.strip_suffix("/_data").unwrap();
    for target in [&format!("volume:{}", stock.volume), &data, dir, &format!("{data}/sub")] {
        let told = answer(target);
        assert_eq!(ids(&told["owners"]), using, "{told:#}");
        assert_eq!(told["file"]["role"], "volume", "{told:#}");
        assert_eq!(told["gaps"], json!([]), "{told:#}");
        for owner in told["owners"].as_array().unwrap() {
            assert_eq!(stock.containers[owner["name"].as_str().unwrap()], owner["id"], "{told:#}");
            assert_eq!(owner["user"], stock.user(), "{told:#}");
        }
        let card = whose().arg(target).run().expect_code(0).stdout_str();
        assert!(card.contains(&format!("volume     {}", stock.volume)), "{card}");
        assert!(card.contains(&stock.one), "{card}");
    }
    let told = answer(&format!("volume:{}", stock.volume));
    assert_eq!((&told["kind"], &told["file"]["host"]), (&json!("volume"), &json!(data)));
    let told = answer(&point(&stock.unused));
    assert_eq!(told["owners"], json!([]), "{told:#}");
    let card = whose().arg(format!("volume:{}", stock.unused)).run().expect_code(0).stdout_str();
    assert!(card.contains("no container"), "{card}");
    let run = whose().args(["--json", &format!("volume:{}", unique("none"))]).run();
    assert!(matches!(run.code, Some(1 | 3)), "{}", run.story());
}

/// What is kept for a container leads to it.
fn directories(stock: &Stock) {
    let dir = stock.podman.graph_root().join(format!("{}-containers", stock.driver));
    for (name, id) in &stock.containers {
        let told = answer(dir.join(id).join("userdata").to_str().unwrap());
        assert_eq!((&told["owner"]["name"], &told["owner"]["id"]), (&json!(name), &json!(id)));
        assert_eq!(told["owner"]["user"], stock.user(), "{told:#}");
    }
}

/// What is kept for a container in the run root leads to it, and what is bound from there to where it shows that.
fn run_root(stock: &Stock) {
    let mut bound = 0;
    for (name, id) in stock.containers.iter().filter(|(name, _)| **name != stock.working) {
        let inspected = stock.podman.inspect(name);
        let pid_file = inspected["PidFile"].as_str().unwrap();
        let dir = pid_file.rsplit_once('/').unwrap().0;
        assert!(!dir.starts_with(stock.podman.graph_root().to_str().unwrap()), "{dir}");
        let is_there = std::fs::exists(pid_file).unwrap();
        assert_eq!(is_there, inspected["State"]["Status"] == "running", "{inspected:#}");
        for path in [dir, pid_file].into_iter().take(1 + usize::from(is_there)) {
            let told = answer(path);
            assert_eq!((&told["owner"]["name"], &told["owner"]["id"]), (&json!(name), &json!(id)));
            assert_eq!(told["owner"]["user"], stock.user(), "{told:#}");
            assert_eq!(told["file"]["stored"]["kind"], "container-record", "{told:#}");
        }
        let Some(file) = inspected["HostnamePath"].as_str().filter(|f| !f.is_empty()) else {
            continue;
        };
        let run = whose().args(["path", file]).run().expect_code(0);
        assert_eq!(run.stdout_str(), format!("{name}:/etc/hostname\n"), "{}", run.story());
        bound += 1;
    }
    assert!(bound > 0, "none has a file bound from there");
}

fn working(stock: &Stock) {
    let id = &stock.containers[&stock.working];
    for target in [&stock.working, id, &id[..24]] {
        let told = answer(target);
        let owner = &told["owner"];
        assert_eq!((&owner["runtime"], &owner["id"]), (&json!("buildah"), &json!(id)), "{told:#}");
        assert_eq!(owner["name"], stock.working.as_str(), "{told:#}");
        assert_eq!(owner["image"], FLAT, "{told:#}");
        assert_eq!(owner["user"], stock.user(), "{told:#}");
        assert_eq!(owner["state"], "created", "{told:#}");
        let image =
            stock.podman.buildah_cli(&["inspect", "-f", "{{.FromImageID}}", &stock.working]);
        assert_eq!(owner["image_id"], format!("sha256:{image}").as_str(), "{told:#}");
    }
    let list = whose().args(["ls", "-a", "--json"]).run().expect_code(0).json();
    let list = list["containers"].as_array().unwrap();
    for (name, id) in &stock.containers {
        let listed: Vec<&Value> = list.iter().filter(|o| o["id"] == id.as_str()).collect();
        assert!(listed.len() == 1 && listed[0]["name"] == name.as_str(), "{name}: {listed:#?}");
    }
}

#[test]
fn overlay() {
    if require(NEEDS) {
        let _alone = alone();
        run(&Stock::start("overlay", Podman::options()), "overlay");
    }
}

#[test]
fn vfs() {
    if require(NEEDS) {
        let _alone = alone();
        run(&Stock::start("vfs", Podman::options()), "vfs");
    }
}

#[test]
fn btrfs() {
    if !require(NEEDS) || !require(&["mkfs.btrfs", "btrfs", "loop"]) {
        return;
    }
    let _alone = alone();
    let Some(disk) = Disk::btrfs() else { return };
    let options = Podman::options().graph_root(disk.point().join("root"));
    run(&Stock::start("btrfs", options), "btrfs");
}

#[test]
fn rootless_overlay() {
    if require(NEEDS) {
        let _alone = alone();
        run(&Stock::start("overlay", Podman::options().rootless()), "rootless-overlay");
    }
}

#[test]
fn rootless_fuse() {
    if require(NEEDS) && require(&["fuse", "fuse-overlayfs"]) {
        let _alone = alone();
        let program = whose_testkit::which("fuse-overlayfs").unwrap();
        let options = Podman::options().rootless().mount_program(program);
        run(&Stock::start("overlay", options), "rootless-fuse");
    }
}

#[test]
fn rootless_vfs() {
    if require(NEEDS) {
        let _alone = alone();
        run(&Stock::start("vfs", Podman::options().rootless()), "rootless-vfs");
    }
}

/// Runs with another file as the host's `storage.conf`, in a mount namespace of its own.
const CONFIGURED: &str = r#"
conf=$1; shift
mount -t tmpfs none /etc/containers
cp "$conf" /etc/containers/storage.conf
exec "$@"
"#;

/// Containers have their layers in one store, and those of their image in another.
#[test]
fn further_store() {
    if !require(NEEDS) || !require(&["/etc/containers"]) {
        return;
    }
    let _alone = alone();
    let images = Podman::options().start().unwrap_or_else(|e| panic!("{e}"));
    images.layered_image_with(DEEP, 3, |_, _| ());
    let options = Podman::options().further_store(images.graph_root());
    let podman = options.start().unwrap_or_else(|e| panic!("{e}"));
    let name = unique("far");
    let id = podman.run(&["--name", &name, DEEP, "/bin/busybox", "sleep", "97202"]);
    let ask = |target: &str| {
        let words = ["unshare", "-m", "--propagation", "private", "sh", "-ec", CONFIGURED, "sh"];
        let configured = whose().via(words).via([podman.storage_conf()]);
        let run = configured.args(["--json", target]).run().expect_code(0);
        run.json()["answers"][0].clone()
    };
    let layers = std::fs::read_to_string(images.graph_root().join("overlay-layers/layers.json"));
    let layers: Vec<Value> = serde_json::from_str(&layers.unwrap()).unwrap();
    assert_eq!(layers.len(), 3);
    let store = images.graph_root().join("overlay");
    for layer in layers {
        let told = ask(store.join(layer["id"].as_str().unwrap()).to_str().unwrap());
        let of = &told["file"]["layer"];
        assert_eq!((&of["kind"], ids(&told["owners"])), (&json!("image"), [id.clone()].into()));
        assert_eq!(told["owners"][0]["name"], name.as_str(), "{told:#}");
        assert_eq!(told["owners"][0]["state"], "running", "{told:#}");
        assert!(of["images"].as_array().unwrap().contains(&json!(DEEP)), "{told:#}");
        assert_eq!((&of["of"], of["index"].as_u64().is_some()), (&json!(3), true), "{told:#}");
        assert_eq!(told["gaps"], json!([]), "{told:#}");
    }
    let told = ask(&podman.init_pid(&name).to_string());
    let binary = &told["binary"];
    assert_eq!(binary["verified"], "page", "{told:#}");
    assert!(binary["host"].as_str().unwrap().starts_with(store.to_str().unwrap()), "{told:#}");
    assert_eq!(ids(&binary["layer"]["owners"]), [id.clone()].into(), "{told:#}");
    assert_eq!(binary["layer"]["of"], 3, "{told:#}");
    let upper = podman.inspect(&name)["GraphDriver"]["Data"]["UpperDir"].clone();
    assert_eq!(ask(upper.as_str().unwrap())["owner"]["id"], id.as_str());
    // The containers of the one with the images go first, or those could not.
    drop(podman);
    drop(images);
}
