//! `whose ls --disk` on real engines: what containers of known sizes come to, judged by du and by the
//! engines' own figures.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use whose_live_tests::disk::Disk;
use whose_live_tests::usage::{
    as_du_says, below, du, of_container, parts, path_of, rows, usage, wait_for,
};
use whose_live_tests::{alone, trace, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::containerd::Containerd;
use whose_testkit::docker::{Docker, View};
use whose_testkit::podman::{Podman, PodmanOptions};
use whose_testkit::require;

const DEEP: &str = "localhost/whose-disk:1";
const OTHER: &str = "localhost/whose-disk-other:1";
/// Bytes that a container writes: into its layer, into a volume, and into a file that it removes.
const LAYER: u64 = 3_145_728;
const VOLUME: u64 = 1_048_576;
const REMOVED: u64 = 2_097_152;

/// What a container does that has all of it.
fn script() -> String {
    format!(
        "busybox head -c {LAYER} /dev/urandom > /big; busybox ln /big /linked; busybox ln -s / /out; \
         busybox head -c {VOLUME} /dev/urandom > /data/file; busybox seq 1 20000; \
         busybox head -c {REMOVED} /dev/urandom > /gone; exec 3< /gone; busybox rm /gone; \
         busybox sync; busybox touch /data/ready; exec busybox sleep 97301"
    )
}

/// The container that holds a removed file open.
fn as_it_wrote(row: &Value) {
    let [removed] = parts(row, "deleted")[..] else { panic!("{row:#}") };
    assert_eq!((&removed["path"], &removed["apparent"]), (&json!("/gone"), &json!(REMOVED)));
    assert!(removed["bytes"].as_u64().unwrap() >= REMOVED);
    let [volume] = parts(row, "volume")[..] else { panic!("{row:#}") };
    assert_eq!(volume["apparent"], VOLUME);
    assert!(row["log"].as_u64().unwrap() >= 100_000, "{row:#}");
}

/// A layer's directory that no table has.
fn orphan(dir: &Path) {
    std::fs::create_dir_all(dir.join("diff/x")).unwrap();
    std::fs::write(dir.join("diff/x/y"), vec![1; 70_000]).unwrap();
    rustix::fs::sync();
    let (document, bytes) = (usage(), du(&[dir]));
    std::fs::remove_dir_all(dir).unwrap();
    let found =
        rows(&document).iter().find(|r| r["kind"] == "orphan" && path_of(&r["parts"][0]) == dir);
    let found = found.unwrap_or_else(|| panic!("{document:#}"));
    assert_eq!(found["bytes"], bytes);
    let after = usage();
    assert!(rows(&after).iter().all(|r| r["name"] != found["name"]), "{after:#}");
}

struct Stock {
    docker: Docker,
    data: PathBuf,
    one: String,
    two: String,
    shared: String,
    unused: String,
}

impl Stock {
    fn start(driver: &str, data: Option<PathBuf>) -> Self {
        let mut options = Docker::options(View::V2).storage_driver(driver);
        if let Some(data) = &data {
            options = options.data_root(data);
        }
        let docker = options.start().unwrap_or_else(|e| panic!("{e}"));
        let data = data.unwrap_or_else(|| docker.data_root());
        docker.layered_image(DEEP, 4);
        docker.layered_image_with(OTHER, 2, |n, dir| {
            std::fs::write(dir.join(format!("own{n}")), vec![1; 50_000]).unwrap();
        });
        let [own, shared, unused] = ["own", "shared", "unused"].map(unique);
        for volume in [&own, &shared, &unused] {
            docker.cli(&["volume", "create", volume]);
            let file = data.join("volumes").join(volume).join("_data/some");
            std::fs::write(file, vec![2; 30_000]).unwrap();
        }
        let file = data.join("volumes").join(&own).join("_data/some");
        std::fs::remove_file(file).unwrap();
        let mounts = [format!("{own}:/data"), format!("{shared}:/shared")];
        let name = unique("one");
        let words = ["--name", &name, "-v", &mounts[0], "-v", &mounts[1], DEEP, "sh", "-c"];
        let one = docker.run(&[&words[..], &[&script()]].concat());
        let name = unique("two");
        let words = ["--name", &name, "-v", &mounts[1], DEEP, "sh", "-c"];
        let two = docker.run(&[&words[..], &["head -c 500000 /dev/urandom > /x; sync"]].concat());
        docker.cli(&["wait", &two]);
        wait_for(&data.join("volumes").join(&own).join("_data/ready"));
        Self { docker, data, one, two, shared, unused }
    }

    /// What the daemon says of disk usage.
    fn says(&self) -> Value {
        let mut stream = UnixStream::connect(self.docker.socket()).unwrap();
        stream.write_all(b"GET /system/df HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let start = text.find('{').unwrap_or_else(|| panic!("{text}"));
        let end = text.rfind('}').unwrap();
        serde_json::from_str(&text[start..=end]).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}

const DOCKER: &[&str] = &["root", "docker", "cgroup-v2", "mount-namespace", "strace"];

fn with_docker(driver: &'static str, data: Option<PathBuf>) {
    let _alone = alone();
    let mut stock = Stock::start(driver, data);
    let mut cases = Cases::of(format!("disk-docker-{driver}"));
    cases.case("as du says", || {
        let document = usage();
        let (one, two) = (of_container(&document, &stock.one), of_container(&document, &stock.two));
        as_du_says(one);
        as_du_says(two);
        as_it_wrote(one);
        assert_eq!((&two["owner"]["state"], &two["volumes"]), (&json!("exited"), &json!(0)));
        let volume = |name: &String| rows(&document).iter().find(|r| r["name"] == *name).unwrap();
        let (shared, unused) = (volume(&stock.shared), volume(&stock.unused));
        assert_eq!((&shared["kind"], &unused["kind"]), (&json!("volume"), &json!("unused-volume")));
        assert_eq!(shared["owners"].as_array().unwrap().len(), 2);
        for row in [shared, unused] {
            assert_eq!(row["bytes"], du(&[&path_of(&row["parts"][0])]));
        }
        if driver == "btrfs" {
            shares_extents(one, &document);
        }
    });
    cases.case("as the daemon says", || as_docker_says(&stock, driver));
    cases.case("what each image has alone", || images(&stock, driver));
    cases.case("an orphan", || {
        let store = store_of(driver);
        orphan(&stock.data.join(store).join("0123456789abcdef0123456789abcdef"));
    });
    cases.case("only what is asked for", || {
        let run = whose().args(["ls", "--disk", "--json", &stock.two]).run().expect_code(0).json();
        let [only] = rows(&run).as_slice() else { panic!("{run:#}") };
        assert_eq!(only["owner"]["id"], stock.two);
        as_du_says(only);
    });
    cases.case("only reads", || trace::only_reads(&["ls", "--disk"], 0));
    let before = usage();
    stock.docker.kill9();
    cases.case("without the daemon", || {
        let after = usage();
        for id in [&stock.one, &stock.two] {
            let figures = |document| {
                let row: &Value = of_container(document, id);
                ["bytes", "apparent", "inodes", "layer", "log", "volumes", "deleted"]
                    .map(|key| row[key].clone())
            };
            assert_eq!(figures(&before), figures(&after));
        }
        let data = &stock.data;
        assert_eq!(below(&after, data), all_of(data, driver));
    });
    drop(stock);
    cases.finish();
}

/// The sizes of files and links, each inode once.
fn sizes(dir: &Path, seen: &mut BTreeSet<u64>) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            sum += sizes(&entry.path(), seen);
        } else if seen.insert(meta.ino()) {
            sum += meta.len();
        }
    }
    sum
}

/// What removing an image would give back.
fn images(stock: &Stock, driver: &str) {
    let (document, says) = (usage(), stock.says());
    for (kind, image) in [("image", DEEP), ("unused-image", OTHER)] {
        let mine = |r: &&Value| {
            r["kind"] == kind
                && r["name"] == image
                && path_of(&r["parts"][0]).starts_with(&stock.data)
        };
        let row = rows(&document).iter().find(mine).unwrap_or_else(|| panic!("{document:#}"));
        assert_eq!((&row["images"], &row["complete"]), (&json!([image]), &json!(true)), "{row:#}");
        let dirs: Vec<PathBuf> = row["parts"].as_array().unwrap().iter().map(path_of).collect();
        assert_eq!(row["bytes"], du(&dirs.iter().map(PathBuf::as_path).collect::<Vec<_>>()));
        if driver != "overlay2" {
            continue; // the daemon tells what differs from the layer below
        }
        // It adds up the files in layers that no other image has.
        let all = says["Images"].as_array().unwrap().iter();
        let said = all.clone().find(|i| i["RepoTags"][0] == image).unwrap();
        let unique = said["Size"].as_u64().unwrap() - said["SharedSize"].as_u64().unwrap();
        let mut seen = BTreeSet::new();
        let files: u64 = dirs.iter().map(|d| sizes(&d.join("diff"), &mut seen)).sum();
        let of_driver: u64 = dirs.iter().map(|d| beside(d)).sum();
        assert_eq!(files, unique, "{row:#} {said:#}");
        assert_eq!(row["apparent"], files + of_driver, "{row:#}");
    }
}

/// Files that the driver keeps beside those of a layer.
fn beside(dir: &Path) -> u64 {
    let all = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().metadata().unwrap());
    all.filter(|meta| meta.is_file()).map(|meta| meta.len()).sum()
}

/// The daemon adds up the sizes of files, as `apparent` does.
fn as_docker_says(stock: &Stock, driver: &str) {
    let (document, says) = (usage(), stock.says());
    let size_of = |list: &str, key: &str, name: &str| {
        let mut all = says[list].as_array().unwrap().iter();
        all.find(|one| one[key] == name).cloned().unwrap_or_else(|| panic!("{name}: {says:#}"))
    };
    for id in [&stock.one, &stock.two] {
        let row = of_container(&document, id);
        let [layer] = parts(row, "layer")[..] else { panic!("{row:#}") };
        let said = size_of("Containers", "Id", id)["SizeRw"].clone();
        if driver != "overlay2" {
            // It tells what differs from the layer below, and these keep all of it.
            assert!(layer["apparent"].as_u64() > said.as_u64(), "{layer:#} {said}");
            assert!(document["notes"].to_string().contains(driver), "{document:#}");
        } else {
            assert_eq!(layer["apparent"], said, "{layer:#}");
        }
    }
    for name in [&stock.shared, &stock.unused] {
        let row = rows(&document).iter().find(|r| r["name"] == *name).unwrap();
        assert_eq!(row["apparent"], size_of("Volumes", "Name", name)["UsageData"]["Size"]);
    }
    assert!(document["notes"].to_string().contains("engines add up"), "{document:#}");
}

/// Where a driver has a layer's directory, below the engine's root.
fn store_of(driver: &str) -> String {
    match driver {
        "vfs" => "vfs/dir".into(),
        "btrfs" => "btrfs/subvolumes".into(),
        driver => driver.into(),
    }
}

/// What du says of an engine's directory; of btrfs with the subvolumes in it, which have devices of their own.
fn all_of(dir: &Path, driver: &str) -> u64 {
    if driver != "btrfs" {
        return du(&[dir]);
    }
    let ran = Command::new("du").args(["-s", "--block-size=1"]).arg(dir).output().unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    text.split('\t').next().unwrap().parse().unwrap()
}

/// Total and exclusive bytes of a subvolume's files, by the file system's own tool.
fn extents(dir: &Path) -> [u64; 2] {
    let mut command = Command::new("btrfs");
    let ran = command.args(["filesystem", "du", "-s", "--raw"]).arg(dir).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = String::from_utf8(ran.stdout).unwrap();
    let mut words = text.lines().nth(1).unwrap().split_ascii_whitespace();
    [(); 2].map(|()| words.next().unwrap().parse().unwrap())
}

/// A container's subvolume shares extents with its image's, which count for each, and that is said.
fn shares_extents(row: &Value, document: &Value) {
    rustix::fs::sync();
    let [layer] = parts(row, "layer")[..] else { panic!("{row:#}") };
    let [total, exclusive] = extents(&path_of(layer));
    let bytes = layer["bytes"].as_u64().unwrap();
    assert!(exclusive >= LAYER && exclusive < total, "{total} {exclusive}");
    // The tool counts extents; what is kept in the inode, as a link is, has a block for du.
    let inline = bytes.checked_sub(total).unwrap_or_else(|| panic!("{layer:#} {total}"));
    assert!(inline <= layer["inodes"].as_u64().unwrap() * 4096, "{layer:#} {total} {exclusive}");
    let notes = document["notes"].to_string();
    assert!(
        notes.contains("share their extents") && notes.contains("btrfs filesystem du"),
        "{notes}"
    );
    let run = whose().args(["ls", "--disk"]).run().expect_code(0);
    assert!(run.stderr_str().contains("share their extents"), "{}", run.story());
}

#[test]
fn docker_overlay2() {
    if require(DOCKER) {
        with_docker("overlay2", None);
    }
}

#[test]
fn docker_vfs() {
    if require(DOCKER) {
        with_docker("vfs", None);
    }
}

#[test]
fn docker_btrfs() {
    if !require(DOCKER) || !require(BTRFS) {
        return;
    }
    let Some(disk) = Disk::btrfs() else { return };
    with_docker("btrfs", Some(disk.point().join("docker")));
}

const BTRFS: &[&str] = &["mkfs.btrfs", "btrfs", "loop"];
const PODMAN: &[&str] =
    &["root", "podman", "buildah", "conmon", "runc", "busybox", "mount-namespace"];

fn with_podman(driver: &'static str, options: PodmanOptions) {
    let _alone = alone();
    let podman = options.driver(driver).start().unwrap_or_else(|e| panic!("{e}"));
    podman.layered_image_with(DEEP, 3, |_, _| ());
    let [one, idle, own, unused, working] = ["one", "idle", "own", "unused", "working"].map(unique);
    podman.cli(&["volume", "create", &own]);
    podman.cli(&["volume", "create", &unused]);
    let mount = format!("{own}:/data");
    let words = ["--name", &one, "-v", &mount, DEEP, "/bin/busybox", "sh", "-c"];
    let id = podman.run(&[&words[..], &[&script()]].concat());
    let idle = podman.cli(&["create", "--name", &idle, DEEP, "/bin/busybox", "true"]);
    podman.buildah_cli(&["from", "--name", &working, DEEP]);
    let graph = podman.graph_root().to_owned();
    wait_for(&graph.join("volumes").join(&own).join("_data/ready"));
    let mut cases = Cases::of(format!("disk-podman-{driver}"));
    cases.case("as du says", || {
        let document = usage();
        let row = of_container(&document, &id);
        as_du_says(row);
        as_it_wrote(row);
        as_du_says(of_container(&document, idle.trim()));
        let built = rows(&document).iter().find(|r| r["owner"]["name"] == working.as_str());
        as_du_says(built.unwrap_or_else(|| panic!("{document:#}")));
        let unused = rows(&document).iter().find(|r| r["name"] == unused.as_str()).unwrap();
        assert_eq!(unused["kind"], "unused-volume");
        if driver == "btrfs" {
            shares_extents(row, &document);
        }
    });
    cases.case("as podman says", || {
        let document = usage();
        let row = of_container(&document, &id);
        let [layer] = parts(row, "layer")[..] else { panic!("{row:#}") };
        let text = podman.cli(&["ps", "-a", "-s", "--format", "json"]);
        let all: Value = serde_json::from_str(&text).unwrap();
        let said = all.as_array().unwrap().iter().find(|c| c["Id"] == id.as_str()).unwrap();
        let said = said["Size"]["rwSize"].as_u64().unwrap();
        let apparent = layer["apparent"].as_u64().unwrap();
        if driver != "overlay" {
            assert!(apparent > said, "{layer:#} {said}");
        } else {
            // Podman leaves out what it mounts over, and that is empty.
            assert_eq!(apparent, said, "{layer:#}");
        }
    });
    cases.case("an orphan", || {
        let store = store_of(driver);
        orphan(&graph.join(store).join("0123456789abcdef0123456789abcdef"));
    });
    cases.case("all of it", || {
        let document = usage();
        assert_eq!(below(&document, &graph), all_of(&graph, driver));
    });
    drop(podman);
    cases.finish();
}

#[test]
fn podman_overlay() {
    if require(PODMAN) {
        with_podman("overlay", Podman::options());
    }
}

#[test]
fn podman_vfs() {
    if require(PODMAN) {
        with_podman("vfs", Podman::options());
    }
}

#[test]
fn podman_btrfs() {
    if !require(PODMAN) || !require(BTRFS) {
        return;
    }
    let Some(disk) = Disk::btrfs() else { return };
    with_podman("btrfs", Podman::options().graph_root(disk.point().join("root")));
}

/// What containerd itself says of a snapshot: its files' sizes, and how many there are.
fn snapshot_usage(engine: &Containerd, snapshotter: &str, key: &str) -> u64 {
    let words = ["snapshots", "--snapshotter", snapshotter, "usage", "-b", key];
    let text = engine.cli("lab", &words);
    let line = text.lines().last().unwrap();
    line.split_ascii_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| panic!("{text}"))
}

fn with_containerd(snapshotter: &'static str) {
    if !require(&["root", "containerd", "ctr", "mount-namespace"]) {
        return;
    }
    let _alone = alone();
    let engine = Containerd::options().start().unwrap_or_else(|e| panic!("{e}"));
    engine.layered_image_with(("lab", snapshotter), DEEP, 3, |_, _| ());
    let id = unique("one");
    let script =
        format!("head -c {LAYER} /dev/urandom > /big; sync; touch /done; exec sleep 97302");
    engine.run(
        "lab",
        &["--snapshotter", snapshotter],
        &[DEEP, &id, "busybox", "sh", "-c", &script],
    );
    let root = engine.root();
    let snapshots = root.join(format!("io.containerd.snapshotter.v1.{snapshotter}/snapshots"));
    wait_for(&PathBuf::from(format!("/proc/{}/root/done", engine.init_pid("lab", &id))));
    let mut cases = Cases::of(format!("disk-containerd-{snapshotter}"));
    cases.case("as du says", || {
        let document = usage();
        let row = of_container(&document, &id);
        as_du_says(row);
        let [layer] = parts(row, "layer")[..] else { panic!("{row:#}") };
        assert!(path_of(layer).starts_with(&snapshots), "{row:#}");
        let apparent = layer["apparent"].as_u64().unwrap();
        if snapshotter == "native" {
            assert!(apparent > LAYER, "{layer:#}");
            assert!(document["notes"].to_string().contains("native"), "{document:#}");
        } else {
            assert_eq!(apparent, LAYER);
        }
    });
    cases.case("as containerd says", || {
        // It adds up allocated blocks, a directory's too (continuity's fs.DiskUsage).
        let document = usage();
        let row = of_container(&document, &id);
        let [layer] = parts(row, "layer")[..] else { panic!("{row:#}") };
        assert_eq!(layer["bytes"], snapshot_usage(&engine, snapshotter, &id), "{layer:#}");
    });
    cases.case("what the image has", || {
        let document = usage();
        let mine = |kind: &'static str| {
            let of = move |r: &&Value| r["kind"] == kind && r["name"] == DEEP;
            let mut all = rows(&document).iter().filter(of);
            all.find(|r| path_of(&r["parts"][0]).starts_with(&root))
                .unwrap_or_else(|| panic!("{document:#}"))
        };
        let row = mine("image");
        let all: Vec<PathBuf> = row["parts"].as_array().unwrap().iter().map(path_of).collect();
        let blobs = parts(row, "content");
        // Index or manifest, configuration, and three layers; unpacked another three.
        assert!(blobs.len() >= 5 && all.len() == blobs.len() + 3, "{row:#}");
        assert_eq!(row["bytes"], du(&all.iter().map(PathBuf::as_path).collect::<Vec<_>>()));
        let listed = engine.cli("lab", &["content", "list"]);
        let lines = listed.lines().skip(1).map(|l| l.split_ascii_whitespace().next().unwrap());
        let known: BTreeSet<String> = lines.map(|digest| digest.replace("sha256:", "")).collect();
        let told: BTreeSet<String> = blobs
            .iter()
            .map(|b| path_of(b).file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(told, known);
    });
    cases.case("all of it", || {
        let document = usage();
        assert_eq!(below(&document, &root), du(&[&root]));
    });
    drop(engine);
    cases.finish();
}

#[test]
fn containerd_overlayfs() {
    with_containerd("overlayfs");
}

#[test]
fn containerd_native() {
    with_containerd("native");
}
