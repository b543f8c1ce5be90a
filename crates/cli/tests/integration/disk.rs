//! `whose ls --disk` over fixture hosts: whose each figure is, against du.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};
use whose_testkit::fixture::{DockerContainer, FixtureHost, LayerStore, StoredImage, fake_id};

use crate::support::{ask, host};

struct Lab<'h> {
    layers: LayerStore<'h>,
    used: StoredImage,
    unused: StoredImage,
    /// The writable layers of `web` and `old`.
    mounts: [String; 2],
}

const DOCKER: &str = "/var/lib/docker";

/// `web` runs and has a log, one that was rotated, and a volume; `old` has ended; both have the volume
/// `both`. One image is used and one is not.
fn lab(host: &FixtureHost) -> Lab<'_> {
    let layers = host.layer_store();
    let used = layers.image(&["base", "app"]);
    let unused = layers.image(&["base", "other"]);
    layers.tag("app:1", &used);
    layers.tag("other:1", &unused);
    let web = DockerContainer::named("web").running(4761).volume("own", "/a").volume("both", "/b");
    let old = DockerContainer::named("old").exited(0).volume("both", "/b");
    for container in [&web, &old] {
        host.docker_container(container);
    }
    let mounts = [&web, &old].map(|container| layers.container(container.id(), &used));
    host.file(format!("{}/tmp/big", layers.files(&mounts[0])), vec![7; 300_000]);
    host.file(format!("{}/tmp/other", layers.files(&mounts[1])), vec![7; 50_000]);
    for (name, len) in [("", 40_000), (".1", 90_000)] {
        let log = format!("{}/{}-json.log{name}", web.dir(), web.id());
        host.file(log, vec![b'x'; len]);
    }
    for (name, len) in [("own", 20_000), ("both", 70_000), ("nobodys", 10_000)] {
        host.file(format!("{DOCKER}/volumes/{name}/_data/file"), vec![b'v'; len]);
    }
    Lab { layers, used, unused, mounts }
}

/// What du says of paths of the host, each inode once.
fn du(host: &FixtureHost, paths: &[&str]) -> u64 {
    let paths = paths.iter().map(|path| host.path().join(path.trim_start_matches('/')));
    let ran = Command::new("du").args(["-scx", "--block-size=1"]).args(paths).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = String::from_utf8(ran.stdout).unwrap();
    text.lines().last().unwrap().split('\t').next().unwrap().parse().unwrap()
}

fn told(host: &FixtureHost, args: &[&str]) -> Value {
    ask(host, &[&["ls", "--disk", "--json"], args].concat()).expect_code(0).json()
}

fn row<'v>(document: &'v Value, kind: &str, name: &str) -> &'v Value {
    let rows = document["disk"].as_array().unwrap();
    let found = rows.iter().find(|row| row["kind"] == kind && row["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}: {document:#}"))
}

#[test]
fn every_byte_is_somebodys() {
    let host = host();
    let lab = lab(&host);
    let document = told(&host, &[]);
    let web = row(&document, "container", "web");
    let files = lab.layers.files(&lab.mounts[0]);
    let (dir, init) = (lab.layers.dir(&lab.mounts[0]), format!("{}-init", lab.mounts[0]));
    let log = |name: &str| format!("{DOCKER}/containers/{0}/{0}-json.log{name}", fake_id("web"));
    assert_eq!(web["layer"], du(&host, &[&dir, &lab.layers.dir(&init)]));
    assert_eq!(web["log"], du(&host, &[&log(""), &log(".1")]));
    let own = format!("{DOCKER}/volumes/own/_data");
    assert_eq!(web["volumes"], du(&host, &[&own]));
    assert_eq!(web["deleted"], 0);
    let parts = web["parts"].as_array().unwrap();
    let part = |kind: &str| parts.iter().find(|p| p["part"] == kind).unwrap();
    assert_eq!(part("layer")["path"], files);
    assert_eq!(part("layer")["bytes"], du(&host, &[&files]));
    // As `docker ps -s` adds them up: the sizes of files.
    assert_eq!(part("layer")["apparent"], 300_000 + 64);
    assert_eq!(
        (&part("volume")["path"], &part("volume")["apparent"]),
        (&json!(own), &json!(20_000))
    );
    assert_eq!(web["owner"]["name"], "web");
    assert_eq!((&web["complete"], &web["engine"]), (&json!(true), &json!("docker")));
    let sum: u64 = parts.iter().map(|p| p["bytes"].as_u64().unwrap()).sum();
    assert_eq!(web["bytes"], sum);
    // What both have is neither's.
    let old = row(&document, "container", "old");
    assert_eq!((&old["volumes"], &old["owner"]["state"]), (&json!(0), &json!("exited")));
    let both = row(&document, "volume", "both");
    assert_eq!(both["bytes"], du(&host, &[&format!("{DOCKER}/volumes/both/_data")]));
    let mut owners = [fake_id("web"), fake_id("old")];
    owners.sort();
    let mut told_owners: Vec<&str> =
        both["owners"].as_array().unwrap().iter().map(|o| o.as_str().unwrap()).collect();
    told_owners.sort_unstable();
    assert_eq!(told_owners, owners);
    assert_eq!(row(&document, "unused-volume", "nobodys")["apparent"], 10_000);
    // The base is in both images; what each has besides is its own.
    let images = row(&document, "images", &format!("{DOCKER}/overlay2"));
    let of = |name: &String| lab.layers.dir(name);
    assert_eq!(images["bytes"], du(&host, &[&of(&lab.used.caches[0])]));
    assert_eq!(images["images"], json!(["app:1", "other:1"]));
    for (kind, name, image) in
        [("image", "app:1", &lab.used), ("unused-image", "other:1", &lab.unused)]
    {
        let own = row(&document, kind, name);
        assert_eq!(own["bytes"], du(&host, &[&of(&image.caches[1])]));
        assert_eq!(own["images"], json!([name]));
    }
    // All of it together is the engine's directory.
    let rows = document["disk"].as_array().unwrap();
    let all: u64 = rows.iter().filter_map(|row| row["bytes"].as_u64()).sum();
    assert_eq!(all, du(&host, &[DOCKER]));
    let totals: Vec<u64> = rows.iter().filter_map(|row| row["bytes"].as_u64()).collect();
    assert!(totals.is_sorted_by(|a, b| a >= b), "{totals:?}");
    let gaps = document["gaps"].as_array().unwrap();
    // The host's other container has no layer.
    assert!(gaps.iter().all(|gap| gap["path"] == "db"), "{gaps:?}");
    assert!(document["notes"][0].as_str().unwrap().contains("disk_apparent"));
}

#[test]
fn the_table_is_aligned_and_narrow() {
    let host = host();
    let _ = lab(&host);
    let run = ask(&host, &["ls", "--disk"]).expect_code(0);
    let text = run.stdout_str();
    let lines: Vec<&str> = text.lines().collect();
    let titles: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(titles, ["TOTAL", "LAYER", "LOG", "VOLUMES", "DELETED", "KIND", "WHAT"]);
    let kind = lines[0].find("KIND").unwrap();
    assert!(lines.iter().all(|l| l.len() < 80 && l.as_bytes()[kind - 1] == b' '), "{text}");
    let web: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(web[web.len() - 2..], ["container", "web"], "{text}");
    assert_eq!(web[4], "0");
    assert!(lines.iter().any(|l| l.contains(" unused-volume nobodys")), "{text}");
    assert!(run.stderr_str().contains("allocated bytes, as du has them"));
    // Columns, an order and plain numbers as in other lists.
    let args = ["ls", "--disk", "--raw", "--no-headers", "--sort", "disk_what"];
    let run = ask(&host, &[&args[..], &["-o", "disk_what,disk_apparent,status"]].concat());
    let text = run.expect_code(0).stdout_str();
    let row = |name: &str| {
        let found = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
        found.into_iter().find(|cells| cells[0] == name).unwrap()
    };
    assert_eq!(row("nobodys"), ["nobodys", "10000", "-"]);
    assert_eq!(row("old")[2], "exited");
    let csv = ask(&host, &["ls", "--disk", "--format", "csv", "-o", "disk_kind,disk_what"]);
    assert!(csv.expect_code(0).stdout_str().contains("\nunused-volume,nobodys\n"));
    let lines = ask(&host, &["ls", "--disk", "--format", "ndjson"]).expect_code(0).ndjson();
    let [_, rows @ .., last] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(rows.iter().all(|line| line["kind"].is_string()) && last["gaps"].is_array());
    ask(&host, &["ls", "--disk", "-q"]).expect_code(2);
}

#[test]
fn only_what_is_asked_for() {
    let host = host();
    let lab = lab(&host);
    let document = told(&host, &["old"]);
    let [only] = document["disk"].as_array().unwrap().as_slice() else { panic!("{document:#}") };
    assert_eq!(only["name"], "old");
    let init = format!("{}-init", lab.mounts[1]);
    let own = [&lab.layers.dir(&lab.mounts[1])[..], &lab.layers.dir(&init)];
    assert_eq!((&only["bytes"], &only["volumes"]), (&json!(du(&host, &own)), &json!(0)));
    let run = ask(&host, &["ls", "--disk", "none"]).expect_code(1);
    assert!(run.stderr_str().contains("none"));
}

#[test]
fn layers_without_metadata_and_metadata_without_layers() {
    let host = host();
    let lab = lab(&host);
    let orphan = fake_id("nobody knows");
    host.file(format!("{}/diff/x", lab.layers.dir(&orphan)), vec![1; 60_000]);
    host.file(format!("{}/x", lab.layers.dir("gone-removing")), vec![1; 1000]);
    host.remove(lab.layers.dir(&lab.mounts[1]));
    host.remove(lab.layers.dir(&lab.unused.caches[1]));
    let document = told(&host, &[]);
    let dir = lab.layers.dir(&orphan);
    let found = row(&document, "orphan", &dir);
    assert_eq!(found["bytes"], du(&host, &[&dir]));
    assert_eq!(found["parts"][0]["path"], dir);
    assert_eq!(row(&document, "removing", &lab.layers.dir("gone-removing"))["apparent"], 1000);
    let missing = row(&document, "missing", &lab.layers.dir(&lab.mounts[1]));
    assert_eq!((&missing["bytes"], &missing["owners"]), (&json!(0), &json!([fake_id("old")])));
    let old = row(&document, "container", "old");
    // Its init layer is there.
    let init = lab.layers.dir(&format!("{}-init", lab.mounts[1]));
    assert_eq!((&old["layer"], &old["complete"]), (&json!(du(&host, &[&init])), &json!(true)));
    // Of db no table has a layer: what it takes is not known, and not nothing.
    let db = row(&document, "container", "db");
    assert_eq!((&db["layer"], &db["bytes"], &db["log"]), (&json!(null), &json!(null), &json!(0)));
    let gaps = document["gaps"].as_array().unwrap();
    assert!(gaps.iter().any(|gap| gap["path"] == "db"), "{gaps:?}");
    let missing = row(&document, "missing", &lab.layers.dir(&lab.unused.caches[1]));
    assert_eq!(missing["images"], json!(["other:1"]));
    let all: u64 =
        document["disk"].as_array().unwrap().iter().filter_map(|r| r["bytes"].as_u64()).sum();
    assert_eq!(all, du(&host, &[DOCKER]));
}

#[test]
fn hard_links_count_once_and_links_lead_nowhere() {
    let host = host();
    let lab = lab(&host);
    let [web, old] = lab.mounts.each_ref().map(|m| lab.layers.files(m));
    let at = |path: &str| host.path().join(path.trim_start_matches('/'));
    std::fs::hard_link(at(&format!("{web}/tmp/big")), at(&format!("{old}/tmp/linked"))).unwrap();
    host.symlink(format!("{web}/out"), "/etc");
    host.symlink(format!("{web}/loop"), ".");
    host.sparse(format!("{old}/sparse"), 1 << 40);
    let document = told(&host, &[]);
    // By name: old comes before web.
    let sizes: BTreeMap<&str, (u64, u64)> = ["old", "web"]
        .into_iter()
        .map(|name| {
            let row = row(&document, "container", name);
            (name, (row["layer"].as_u64().unwrap(), row["apparent"].as_u64().unwrap()))
        })
        .collect();
    assert!(sizes["old"].0 >= 350_000 && sizes["old"].1 > 1 << 40, "{sizes:?}");
    assert!(sizes["web"].0 < 100_000, "{sizes:?}");
    let all: u64 =
        document["disk"].as_array().unwrap().iter().filter_map(|r| r["bytes"].as_u64()).sum();
    assert_eq!(all, du(&host, &[DOCKER]));
    // Alone, the other name counts.
    assert!(told(&host, &["web"])["disk"][0]["layer"].as_u64().unwrap() > 300_000);
}

#[test]
fn a_link_in_the_place_of_a_directory_is_not_followed() {
    let host = host();
    let lab = lab(&host);
    let files = lab.layers.files(&lab.mounts[0]);
    host.remove(&files);
    host.file("/outside/huge", vec![1; 2_000_000]);
    host.symlink(&files, "/outside");
    host.remove(format!("{DOCKER}/volumes/own/_data"));
    host.symlink(format!("{DOCKER}/volumes/own/_data"), "/outside");
    let document = told(&host, &["web"]);
    assert!(document["disk"][0]["bytes"].as_u64().unwrap() < 500_000, "{document:#}");
}

#[test]
fn a_capture_has_nothing_to_be_counted() {
    let host = FixtureHost::captured("debian-12-docker-v2");
    let run = ask(&host, &["ls", "--disk", "--json"]).expect_code(0).json();
    assert_eq!(run["disk"], json!([]));
    let gaps = run["gaps"].as_array().unwrap();
    let gap = gaps.iter().find(|gap| gap["what"] == "disk usage").unwrap();
    assert_eq!(gap["class"], "unsupported");
    ask(&host, &["ls", "--disk", "--strict"]).expect_code(3);
}

#[test]
fn what_was_counted_when_the_time_is_over() {
    let host = host();
    let _ = lab(&host);
    let run = ask(&host, &["ls", "--disk", "--json", "--timeout", "0.000001"]).expect_code(3);
    let gaps = run.json()["gaps"].clone();
    let is_late = |gap: &&Value| gap["class"] == "timed-out" && gap["what"] == "disk usage";
    assert!(gaps.as_array().unwrap().iter().any(|gap| is_late(&gap)), "{gaps:#}");
    assert!(run.stderr_str().contains("timed-out"), "{}", run.stderr_str());
}

#[test]
fn what_could_not_be_read_is_not_nothing() {
    let host = host();
    lab(&host);
    let config = format!("{DOCKER}/containers/{}/config.v2.json", fake_id("web"));
    host.file(&config, b"{\"ID\":");
    let document = told(&host, &[]);
    let id = fake_id("web");
    let rows = document["disk"].as_array().unwrap();
    let web = rows.iter().find(|row| row["owner"]["id"] == id.as_str());
    let web = web.unwrap_or_else(|| panic!("{document:#}"));
    // Its layer is in the engine's table still; its log and volumes are in its configuration alone.
    assert!(web["layer"].as_u64().unwrap() > 300_000, "{web:#}");
    assert_eq!((&web["log"], &web["volumes"]), (&Value::Null, &Value::Null), "{web:#}");
    assert_eq!((&web["bytes"], &web["complete"]), (&Value::Null, &json!(false)), "{web:#}");
    assert_ne!(row(&document, "container", "old")["bytes"], Value::Null);
}

/// The rows of a table of a document: keys in the first column, the rest.
fn documented(text: &str, title: &str) -> BTreeMap<String, String> {
    let table = text.split_once(title).unwrap().1.split("\n\n").next().unwrap();
    let lines = table.lines().skip(2).map(|line| line.trim_matches('|').split('|'));
    lines
        .flat_map(|mut cells| {
            let keys = cells.next().unwrap().to_owned();
            let kind = cells.next().unwrap().trim().to_owned();
            let keys = keys.split(',').map(|key| key.trim().trim_matches('`').to_owned());
            keys.map(move |key| (key, kind.clone())).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn rows_are_of_the_documented_shape() {
    let text = include_str!("../../../../docs/disk.md");
    let (kinds, shape) = (documented(text, "| kind |"), documented(text, "| ROW |"));
    let host = host();
    let lab = lab(&host);
    host.file(format!("{}/diff/x", lab.layers.dir(&fake_id("orphan"))), vec![1; 1000]);
    host.remove(lab.layers.dir(&lab.mounts[1]));
    let document = told(&host, &[]);
    let keys: Vec<&String> = document.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["schema", "source", "boot_id", "disk", "notes", "gaps"]);
    let mut seen = std::collections::BTreeSet::new();
    for row in document["disk"].as_array().unwrap() {
        let row = row.as_object().unwrap();
        assert!(kinds.contains_key(row["kind"].as_str().unwrap()), "{row:#?}");
        for (key, value) in row {
            let documented = shape.get(key).unwrap_or_else(|| panic!("{key} is not documented"));
            let fits = match value {
                Value::Null => documented.ends_with("or null"),
                Value::Number(_) => documented.starts_with("number"),
                Value::String(_) => documented == "string",
                Value::Bool(_) => documented == "boolean",
                Value::Array(_) => documented.starts_with('['),
                Value::Object(_) => documented == "OWNER",
            };
            assert!(fits, "{key} is {documented}: {value}");
            seen.insert(key.clone());
        }
        for part in row["parts"].as_array().unwrap() {
            let keys: Vec<&String> = part.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["part", "path", "bytes", "apparent", "inodes", "complete"]);
            assert!(text.contains(&format!("`{}`", part["part"].as_str().unwrap())));
        }
    }
    // A user's engine is a case of its own.
    let all = shape.keys().filter(|key| *key != "user").cloned().collect();
    assert_eq!(seen, all);
}

/// Containers of LXC that do not run: by their configuration alone.
#[test]
fn what_machines_have_that_do_not_run() {
    let host = host();
    let at = |name: &str| format!("/var/lib/lxc/{name}");
    let machine = |name: &str, rootfs: &str| {
        host.file(format!("{}/config", at(name)), format!("lxc.rootfs.path = {rootfs}\n"));
    };
    machine("plain", "dir:/var/lib/lxc/plain/rootfs");
    host.file(format!("{}/rootfs/big", at("plain")), vec![1; 90_000]);
    machine("stacked", "overlay:/var/lib/lxc/plain/rootfs:/var/lib/lxc/stacked/delta0");
    host.file(format!("{}/delta0/new", at("stacked")), vec![1; 50_000]);
    machine("imaged", "loop:/srv/imaged");
    host.sparse("/srv/imaged", 1 << 30);
    machine("hosts", "dir:/");
    machine("elsewhere", "zfs:tank/elsewhere");
    host.file("/var/lib/machines/idle/etc/os-release", vec![1; 7000]);
    host.file("/var/lib/machines/other.raw", vec![1; 20_000]);
    host.file("/var/lib/machines/.#idle.lck", vec![1; 10]);
    let document = told(&host, &[]);
    let own = |name: &str| {
        let found = row(&document, "machine", name);
        (found["parts"][0]["path"].as_str().unwrap().to_owned(), found["bytes"].as_u64())
    };
    for (name, path) in [
        ("plain", "/var/lib/lxc/plain/rootfs"),
        ("stacked", "/var/lib/lxc/stacked/delta0"),
        ("imaged", "/srv/imaged"),
    ] {
        assert_eq!(own(name), (path.to_owned(), Some(du(&host, &[path]))), "{name}");
    }
    for name in ["hosts", "elsewhere"] {
        let found = row(&document, "machine", name);
        assert_eq!((&found["layer"], &found["complete"]), (&Value::Null, &json!(false)), "{name}");
    }
    for name in ["/var/lib/machines/idle", "/var/lib/machines/other.raw"] {
        assert_eq!(row(&document, "machine-image", name)["bytes"], du(&host, &[name]));
    }
    let rest = row(&document, "engine", "/var/lib/lxc");
    let plain_and_stacked = own("plain").1.unwrap() + own("stacked").1.unwrap();
    assert_eq!(rest["bytes"].as_u64().unwrap() + plain_and_stacked, du(&host, &["/var/lib/lxc"]));
}

#[test]
fn what_images_were_downloaded_as() {
    const ROOT: &str = "/var/lib/containerd";
    let host = host();
    let store = host.snapshot_store(ROOT, "overlayfs");
    let (app, lib) = (["base", "libs", "app"], ["base", "libs"]);
    let layers = store.image("default", "app:1", &app);
    store.image("default", "lib:1", &lib);
    let own = store.container("default", "web", "app:1", &app);
    store.download(&app, 30_000);
    store.download(&lib, 20_000);
    let alone = store.lone_blob(Some("default"), "pulled", 9000);
    let built = store.lone_blob(Some("buildkit"), "built", 10_000);
    let orphan = store.lone_blob(None, "nobody's", 50_000);
    let begun = format!("{ROOT}/io.containerd.content.v1.content/ingest");
    host.file(format!("{begun}/4711/data"), vec![1; 70_000]);
    host.file(format!("{}/big", store.files(layers[2])), vec![1; 80_000]);
    host.file(format!("{}/new", store.files(own)), vec![1; 5000]);
    store.write();
    let document = told(&host, &[]);
    let blob = |what: String| store.blob(&fake_id(what));
    let blobs = format!("{ROOT}/io.containerd.content.v1.content/blobs");
    let snapshots = format!("{}/snapshots", store.base());
    // Removing the image gives these back.
    let of_app = [
        store.dir(layers[2]),
        blob(format!("manifest {app:?}")),
        blob(format!("config {app:?}")),
        blob("blob of app".to_owned()),
    ];
    let of_lib = [blob(format!("manifest {lib:?}")), blob(format!("config {lib:?}"))];
    let shared = ["base", "libs"].map(|word| blob(format!("blob of {word}")));
    let lowers = [store.dir(layers[0]), store.dir(layers[1])];
    let expected: [(&str, &str, &[String]); 8] = [
        ("image", "app:1", &of_app),
        ("unused-image", "lib:1", &of_lib),
        ("images", &blobs, &shared),
        ("images", &snapshots, &lowers),
        ("unused-contents", &blobs, &[alone]),
        ("build-cache", &blobs, &[built]),
        ("orphan", &blobs, &[orphan]),
        ("downloads", &begun, std::slice::from_ref(&begun)),
    ];
    for (kind, name, paths) in expected {
        let found = row(&document, kind, name);
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        assert_eq!(found["bytes"], du(&host, &paths), "{found:#}");
        assert_eq!((&found["engine"], &found["complete"]), (&json!("containerd"), &json!(true)));
    }
    assert_eq!(row(&document, "images", &blobs)["images"], json!(["app:1", "lib:1"]));
    let rows = document["disk"].as_array().unwrap();
    let all: u64 = rows
        .iter()
        .filter(|r| r["engine"] == "containerd")
        .map(|r| r["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(all, du(&host, &[ROOT]));
    // Without the database whose the blobs are is not known: they are in the rest, and a gap says why.
    host.remove(store.meta_db());
    let document = told(&host, &[]);
    let gaps = document["gaps"].to_string();
    assert!(gaps.contains("whose its blobs are is not known"), "{gaps}");
    let rest = row(&document, "engine", ROOT);
    assert!(rest["bytes"].as_u64() > Some(300_000), "{rest:#}");
}

#[test]
fn a_reader_that_has_enough() {
    let host = host();
    let _ = lab(&host);
    let script = "\"$0\" --root \"$1\" ls --disk | head -n 1; echo ${PIPESTATUS[0]}";
    let mut bash = Command::new("bash");
    bash.args(["-c", script]).arg(crate::support::whose().bin()).arg(host.path());
    let ran = bash.output().unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    let [first, status] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(first.starts_with("TOTAL") && ["0", "141"].contains(&status), "{text}");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(!said.contains("panic") && !said.contains("pipe"), "{said}");
    for wrong in [
        &["ls", "--disk", "-q"][..],
        &["ls", "--disk", "--sort", "none"],
        &["ls", "--disk", "-o", "none"],
        &["ls", "--disk", "--timeout", "x"],
        &["ps", "--disk"],
    ] {
        let run = ask(&host, wrong).expect_code(2);
        assert!(run.stdout.is_empty() && !run.stderr.is_empty(), "{wrong:?}");
    }
}
