//! Every layer of a real engine, compared with what `docker inspect` says of it, both ways.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use whose_live_tests::disk::Disk;
use whose_live_tests::{alone, answer, trace, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::{Builder, Docker, IMAGE, View};
use whose_testkit::require;

const NEEDS: &[&str] = &["root", "docker", "cgroup-v2", "mount-namespace", "strace", "sha256sum"];
/// An image of four layers, the lowest busybox.
const DEEP: &str = "deep:1";

/// Three containers: two of the deep image, one of busybox alone and never started.
struct Stock {
    docker: Docker,
    data: PathBuf,
    driver: &'static str,
    /// Name to id.
    containers: BTreeMap<String, String>,
}

impl Stock {
    fn start(driver: &'static str, data: Option<&Path>) -> Self {
        let mut options = Docker::options(View::V2).storage_driver(driver);
        if let Some(data) = data {
            options = options.arg(format!("--data-root={}", data.display()));
        }
        let docker = options.start().unwrap_or_else(|e| panic!("{e}"));
        docker.image();
        docker.layered_image(DEEP, 4);
        let data = data.map_or_else(|| docker.data_root(), Path::to_owned);
        let mut containers = BTreeMap::new();
        for name in ["one", "two"] {
            let name = unique(name);
            let id = docker.run(&["--name", &name, DEEP, "sleep", "10000"]);
            containers.insert(name, id);
        }
        let name = unique("idle");
        let id = docker.create(&["--name", &name, IMAGE, "true"]);
        containers.insert(name, id);
        Self { docker, data, driver, containers }
    }

    fn store(&self) -> PathBuf {
        match self.driver {
            "vfs" => self.data.join("vfs/dir"),
            "btrfs" => self.data.join("btrfs/subvolumes"),
            driver => self.data.join(driver),
        }
    }

    fn layer_dirs(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.store()).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n != "l" && n != "backingFsBlockDev").collect()
    }

    fn told(&self, name: &str) -> Value {
        answer(self.store().join(name).to_str().unwrap())
    }

    fn image(&self, name: &str) -> Value {
        let text = self.docker.cli(&["image", "inspect", name]);
        serde_json::from_str::<Value>(&text).unwrap()[0].clone()
    }

    fn database(&self, rel: &str) -> String {
        let path = self.data.join(format!("image/{}/layerdb/{rel}", self.driver));
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

fn ids(owners: &Value) -> BTreeSet<String> {
    let owners = owners.as_array().unwrap().iter();
    owners.map(|o| o["id"].as_str().or(o.as_str()).unwrap().to_owned()).collect()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect()
}

#[test]
fn overlay2() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let stock = Stock::start("overlay2", None);
    let mut cases = Cases::of("layers-overlay2");
    cases.case("upper and lower", || stacks(&stock));
    cases.case("every layer is somebody's", || everything(&stock));
    cases.case("images", || images(&stock));
    cases.case("short names", || short_names(&stock));
    cases.case("by name and digest", || named(&stock));
    cases.case("own directories", || own_directories(&stock));
    cases.case("the image store", || image_store(&stock));
    cases.case("a moved tag", || moved_tag(&stock));
    cases.case("the classic builder", || classic(&stock));
    cases.case("BuildKit", || buildkit(&stock));
    cases.case("an orphan", || orphan(&stock));
    cases.case("only reads", || reads(&stock));
    cases.case("a removed container", || removed(&stock));
    drop(stock);
    cases.finish();
}

#[test]
fn vfs() {
    if require(NEEDS) {
        let _alone = alone();
        unstacked(&Stock::start("vfs", None));
    }
}

#[test]
fn btrfs() {
    if !require(NEEDS) || !require(&["mkfs.btrfs"]) {
        return;
    }
    let Some(disk) = Disk::btrfs() else { return };
    let _alone = alone();
    unstacked(&Stock::start("btrfs", Some(&disk.point())));
}

/// Drivers whose directories hold all files of the layers below.
fn unstacked(stock: &Stock) {
    let mut cases = Cases::of(format!("layers-{}", stock.driver));
    cases.case("every layer is somebody's", || everything(stock));
    cases.case("images", || images(stock));
    cases.case("the image store", || image_store(stock));
    cases.case("own layers", || {
        for (name, id) in &stock.containers {
            let mount = stock.database(&format!("mounts/{id}/mount-id"));
            let path = stock.store().join(&mount).join("bin/busybox");
            let told = answer(path.to_str().unwrap());
            assert_eq!(told["owner"]["name"], name.as_str(), "{told:#}");
            assert_eq!(told["file"]["inside"], "/bin/busybox");
            assert_eq!(told["file"]["role"], "direct");
        }
    });
    cases.finish();
}

/// UpperDir, LowerDir, MergedDir and WorkDir of each container, both ways.
fn stacks(stock: &Stock) {
    for (name, id) in &stock.containers {
        let data = stock.docker.inspect(name)["GraphDriver"]["Data"].clone();
        let upper = answer(data["UpperDir"].as_str().unwrap());
        assert_eq!(upper["owner"]["id"], id.as_str(), "{upper:#}");
        assert_eq!(upper["owner"]["name"], name.as_str());
        assert_eq!(upper["file"]["role"], "upper");
        assert_eq!(upper["file"]["layer"]["dir"], data["UpperDir"]);
        assert!(upper["evidence"].as_array().unwrap().iter().all(|e| e["agrees"] == true));
        let engine_state = stock.docker.inspect(name)["State"]["Status"].clone();
        assert_eq!(upper["owner"]["state"], engine_state);
        let work = answer(data["WorkDir"].as_str().unwrap());
        assert_eq!(work["owner"]["id"], id.as_str());
        let lowers: Vec<&str> = data["LowerDir"].as_str().unwrap().split(':').collect();
        for (at, lower) in lowers.iter().enumerate() {
            let told = answer(lower);
            let layer = &told["file"]["layer"];
            assert_eq!(layer["dir"], *lower);
            assert_eq!(layer["kind"], if at == 0 { "init" } else { "image" }, "{told:#}");
            assert!(ids(&layer["owners"]).contains(id), "{told:#}");
            assert!(ids(&told["owners"]).contains(id), "{told:#}");
            // A place is told where it is the same for all who use the layer.
            if let Some(index) = layer["index"].as_u64() {
                assert_eq!(index, at as u64, "{told:#}");
                assert_eq!(layer["of"].as_u64().unwrap(), lowers.len() as u64);
            } else {
                assert_eq!(at, lowers.len() - 1, "only busybox's differs: {told:#}");
            }
        }
    }
}

/// The other way round: no layer is missing from, or more than, what docker says.
fn everything(stock: &Stock) {
    let mut uppers = BTreeSet::new();
    let mut inits = BTreeSet::new();
    for name in stock.layer_dirs() {
        let told = stock.told(&name);
        let layer = &told["file"]["layer"];
        assert_eq!(layer["id"], name.as_str());
        assert_eq!(layer["driver"], stock.driver);
        match layer["kind"].as_str() {
            Some("upper") => uppers.extend(ids(&told["owners"])),
            Some("init") => inits.extend(ids(&told["owners"])),
            Some("image") => {
                let chain = layer["chain_id"].as_str().unwrap().replace(':', "/");
                assert_eq!(stock.database(&format!("{chain}/cache-id")), name);
                assert_eq!(stock.database(&format!("{chain}/diff")), layer["diff_id"]);
            }
            other => panic!("{name} is {other:?}: {told:#}"),
        }
    }
    let all: BTreeSet<String> = stock.containers.values().cloned().collect();
    assert_eq!((&uppers, &inits), (&all, &all));
}

/// Each layer of each image names that image, and its containers.
fn images(stock: &Stock) {
    for name in [IMAGE, DEEP] {
        let image = stock.image(name);
        let diffs = texts(&image["RootFS"]["Layers"]);
        let users = |told: &Value| ids(&told["owners"]);
        let mine: BTreeSet<String> = stock
            .containers
            .iter()
            .filter(|(c, _)| stock.docker.inspect(c)["Config"]["Image"] == name)
            .map(|(_, id)| id.clone())
            .collect();
        for (at, diff) in diffs.iter().enumerate() {
            let told = answer(&format!("layer:{diff}"));
            let layer = &told["file"]["layer"];
            assert_eq!(layer["diff_id"], *diff, "{told:#}");
            assert!(texts(&layer["images"]).contains(&name), "{told:#}");
            assert!(users(&told).is_superset(&mine), "{told:#}");
            if at + 1 == diffs.len() && diffs.len() > 1 {
                assert_eq!(users(&told), mine, "{told:#}");
                assert_eq!(texts(&layer["images"]), [name]);
            }
        }
        let data = &image["GraphDriver"]["Data"];
        if let Some(upper) = data["UpperDir"].as_str() {
            assert_eq!(answer(upper)["file"]["layer"]["diff_id"], *diffs.last().unwrap());
        }
    }
}

/// What Docker keeps beside the layers' files, by its own word on images and containers.
fn image_store(stock: &Stock) {
    let base = stock.data.join(format!("image/{}", stock.driver));
    let told = |rel: &str| answer(base.join(rel).to_str().unwrap());
    for name in [IMAGE, DEEP] {
        let image = stock.image(name);
        let id = image["Id"].as_str().unwrap();
        let of_it = |c: &&String| stock.docker.inspect(c)["Image"] == id;
        let mine = stock.containers.iter().filter(|(_, id)| of_it(id));
        let mine: BTreeSet<String> = mine.map(|(_, id)| id.clone()).collect();
        let told = told(&format!("imagedb/content/{}", id.replace(':', "/")));
        let stored = &told["file"]["stored"];
        assert_eq!([&stored["kind"], &stored["standing"]], ["image-config", "used"], "{told:#}");
        assert_eq!([&stored["id"], &stored["image_ids"][0]], [id, id], "{told:#}");
        assert_eq!(stored["root"], stock.data.to_str().unwrap(), "{told:#}");
        assert!(texts(&stored["images"]).contains(&name), "{told:#}");
        assert_eq!(ids(&told["owners"]), mine, "{told:#}");
    }
    let mut seen = 0;
    for entry in std::fs::read_dir(base.join("layerdb/sha256")).unwrap() {
        let chain = entry.unwrap().file_name().into_string().unwrap();
        let layer = stock.told(&stock.database(&format!("sha256/{chain}/cache-id")));
        for (file, kind) in [("", "layer-record"), ("tar-split.json.gz", "tar-split")] {
            let told = told(&format!("layerdb/sha256/{chain}/{file}"));
            let stored = &told["file"]["stored"];
            assert_eq!([&stored["kind"], &stored["standing"]], [kind, "used"], "{told:#}");
            assert_eq!(stored["id"], format!("sha256:{chain}"), "{told:#}");
            assert_eq!(stored["layer"], layer["file"]["layer"], "{told:#}");
            assert_eq!(ids(&told["owners"]), ids(&layer["owners"]), "{told:#}");
            seen += 1;
        }
    }
    assert!(seen >= 8, "{seen}");
    for (name, id) in &stock.containers {
        let told = told(&format!("layerdb/mounts/{id}/mount-id"));
        assert_eq!(told["owner"]["name"], name.as_str(), "{told:#}");
    }
    assert_eq!(told("repositories.json")["file"]["stored"]["kind"], "table");
    let own = answer(stock.data.join("network/files/local-kv.db").to_str().unwrap());
    assert_eq!(
        [&own["file"]["stored"]["kind"], &own["owners"]],
        [&Value::from("other"), &Value::Array(vec![])]
    );
    // What nothing has may just be in the making, and is an orphan once it is older.
    let lost = base.join("imagedb/metadata/sha256").join("0123456789abcdef".repeat(4));
    std::fs::create_dir_all(&lost).unwrap();
    let young = whose().args(["--json", lost.to_str().unwrap()]).run().expect_code(3);
    let young = young.json()["answers"][0].clone();
    assert_eq!(
        [&young["status"], &young["file"]["stored"]["standing"]],
        [&Value::from("partial"), &Value::Null]
    );
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    std::fs::File::open(&lost).unwrap().set_modified(old).unwrap();
    let told = answer(lost.to_str().unwrap());
    std::fs::remove_dir(&lost).unwrap();
    assert_eq!(
        [&told["status"], &told["file"]["stored"]["standing"]],
        ["found", "orphan"],
        "{told:#}"
    );
}

fn short_names(stock: &Stock) {
    let mut seen = 0;
    for entry in std::fs::read_dir(stock.store().join("l")).unwrap() {
        let link = entry.unwrap().path();
        let Ok(real) = std::fs::canonicalize(&link) else { continue };
        let told = answer(link.to_str().unwrap());
        assert_eq!(told["file"]["host"], real.to_str().unwrap());
        assert_eq!(told["file"]["layer"]["dir"], real.to_str().unwrap());
        seen += 1;
    }
    assert!(seen >= 8, "{seen}");
}

/// An engine that only its containers' cgroups tell of is found by a layer's name too.
fn named(stock: &Stock) {
    for name in stock.layer_dirs() {
        let told = answer(&format!("layer:{name}"));
        assert_eq!(told["file"]["layer"], stock.told(&name)["file"]["layer"]);
        if let Some(chain) = told["file"]["layer"]["chain_id"].as_str() {
            let by_chain = answer(&format!("layer:{chain}"));
            assert_eq!(by_chain["file"]["layer"]["chain_id"], chain);
        }
    }
}

fn own_directories(stock: &Stock) {
    for (name, id) in &stock.containers {
        for file in ["config.v2.json", "hostconfig.json", ""] {
            let path = stock.data.join("containers").join(id).join(file);
            assert_eq!(answer(path.to_str().unwrap())["owner"]["name"], name.as_str());
        }
    }
}

fn moved_tag(stock: &Stock) {
    let old = stock.image(DEEP);
    stock.docker.cli(&["tag", DEEP, "kept:1"]);
    let top = old["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap().to_owned();
    assert_eq!(texts(&answer(&top)["file"]["layer"]["images"]), [DEEP, "kept:1"]);
    stock.docker.cli(&["rmi", "--no-prune", DEEP]);
    assert_eq!(texts(&answer(&top)["file"]["layer"]["images"]), ["kept:1"]);
    // The containers keep the image alive without any name.
    stock.docker.cli(&["tag", IMAGE, "kept:1"]);
    let told = answer(&top);
    assert_eq!(texts(&told["file"]["layer"]["images"]), [old["Id"].as_str().unwrap()], "{told:#}");
    assert_eq!(told["file"]["layer"]["kind"], "image");
    stock.docker.cli(&["tag", old["Id"].as_str().unwrap(), DEEP]);
    stock.docker.cli(&["rmi", "kept:1"]);
}

fn dockerfile(word: &str, last: &str) -> String {
    format!("FROM {IMAGE}\nRUN echo {word} > /one\nRUN {last}\n")
}

fn classic(stock: &Stock) {
    let before = stock.layer_dirs();
    stock.docker.build(Builder::Classic, &dockerfile("c", "echo two > /two"), "built:1").unwrap();
    let made: BTreeSet<String> = stock.layer_dirs().difference(&before).cloned().collect();
    assert_eq!(made.len(), 2);
    for name in &made {
        let told = stock.told(name);
        assert!(texts(&told["file"]["layer"]["images"]).contains(&"built:1"), "{told:#}");
        assert_eq!(told["owners"].as_array().unwrap().len(), 0);
    }
    // What is left when the image goes and its first step stays, as one that others were built on.
    let second = dockerfile("c", "echo other > /two");
    stock.docker.build(Builder::Classic, &second, "built:2").unwrap();
    stock.docker.cli(&["rmi", "--no-prune", "built:1"]);
    stock.docker.cli(&["rmi", "--no-prune", "built:2"]);
    let left: BTreeSet<String> = stock.layer_dirs().difference(&before).cloned().collect();
    assert!(!left.is_empty());
    for name in &left {
        let told = stock.told(name);
        let layer = &told["file"]["layer"];
        assert!(texts(&layer["images"]).iter().all(|i| i.starts_with("sha256:")), "{told:#}");
        assert!(["image", "build-cache"].contains(&layer["kind"].as_str().unwrap()), "{told:#}");
    }
    // An image without a name whose child is there is a step.
    stock.docker.build(Builder::Classic, &dockerfile("s", "echo two > /two"), "built:3").unwrap();
    let steps = stock.docker.cli(&["images", "-aq", "--no-trunc", "--filter", "dangling=false"]);
    assert!(!steps.is_empty());
    stock.docker.cli(&["rmi", "built:3"]);
}

fn buildkit(stock: &Stock) {
    let before = stock.layer_dirs();
    let built = stock.docker.build(Builder::BuildKit, &dockerfile("k", "echo two > /two"), "kit:1");
    built.unwrap_or_else(|e| panic!("{e}"));
    let made: BTreeSet<String> = stock.layer_dirs().difference(&before).cloned().collect();
    assert!(made.len() >= 2, "{made:?}");
    let kinds = |name: &String| {
        let told = stock.told(name);
        assert_eq!(told["owners"].as_array().unwrap().len(), 0, "{told:#}");
        told["file"]["layer"]["kind"].as_str().unwrap().to_owned()
    };
    let with_image: BTreeSet<String> = made.iter().map(kinds).collect();
    assert!(with_image.contains("image"), "{with_image:?}");
    assert!(!with_image.contains("orphan"), "{with_image:?}");
    stock.docker.cli(&["rmi", "kit:1"]);
    for name in made.intersection(&stock.layer_dirs()) {
        assert_eq!(kinds(name), "build-cache", "{name}");
    }
    stock.docker.cli(&["builder", "prune", "-af"]);
}

fn orphan(stock: &Stock) {
    let path = stock.store().join("0123456789abcdef0123456789abcdef");
    std::fs::create_dir_all(path.join("diff/x")).unwrap();
    let told = answer(path.join("diff/x").to_str().unwrap());
    std::fs::remove_dir_all(&path).unwrap();
    assert_eq!(told["file"]["layer"]["kind"], "orphan", "{told:#}");
    assert_eq!(told["owners"].as_array().unwrap().len(), 0);
    whose().arg(path.to_str().unwrap()).run().expect_code(1);
}

fn reads(stock: &Stock) {
    for name in stock.layer_dirs().iter().take(3) {
        trace::only_reads(&[stock.store().join(name).to_str().unwrap()], 0);
        trace::only_reads(&[&format!("layer:{name}")], 0);
    }
    trace::only_reads(&["/etc/passwd"], 0);
}

fn removed(stock: &Stock) {
    let name = stock.containers.keys().next().unwrap();
    let upper = stock.docker.inspect(name)["GraphDriver"]["Data"]["UpperDir"].clone();
    stock.docker.cli(&["rm", "-f", name]);
    whose().arg(upper.as_str().unwrap()).run().expect_code(1);
}
