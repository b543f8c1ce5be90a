//! What engines keep of images, layers and containers beside the layers' files, and who needs it.

use serde_json::{Value, json};
use whose_testkit::fixture::{
    CgroupLayout, CrioContainer, DockerContainer, FixtureHost, LayerStore, SnapshotKind,
    StoredImage, TaskBundle, fake_id,
};

use crate::support::{answer, ask};

const IMAGE: &str = "/var/lib/docker/image/overlay2";
const CONTENT: &str = "io.containerd.content.v1.content";

/// `web` and `api` of `app:1`, `db` of `lib:1`; both images stand on one base.
struct Docker<'h> {
    layers: LayerStore<'h>,
    app: StoredImage,
    lib: StoredImage,
    ids: [String; 3],
}

fn host() -> FixtureHost {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    host
}

fn docker(host: &FixtureHost) -> Docker<'_> {
    let layers = host.layer_store();
    let app = layers.image(&["base", "libs", "app"]);
    let lib = layers.image(&["base", "libs"]);
    layers.tag("app:1", &app);
    layers.tag("lib:1", &lib);
    let of = [("web", &app), ("api", &app), ("db", &lib)];
    let ids = of.map(|(name, image)| {
        let id = format!("sha256:{}", image.id);
        let container = DockerContainer::named(name).image_id(id).exited(0);
        host.docker_container(&container);
        let _ = layers.container(container.id(), image);
        container.id().to_owned()
    });
    Docker { layers, app, lib, ids }
}

fn names(told: &Value) -> Vec<&str> {
    let owners = told["owners"].as_array().unwrap_or_else(|| panic!("{told:#}"));
    let mut names: Vec<&str> = owners.iter().map(|o| o["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

fn outcome(host: &FixtureHost, path: &str) -> (i32, Value) {
    let run = ask(host, &["--json", path]);
    (run.code.unwrap(), run.json()["answers"][0].clone())
}

/// Kind, standing and images of what is found without a gap.
fn stored(host: &FixtureHost, path: &str) -> (Value, Value, Value) {
    let (code, told) = outcome(host, path);
    assert_eq!(
        (code, &told["status"], &told["gaps"]),
        (0, &json!("found"), &json!([])),
        "{told:#}"
    );
    let stored = &told["file"]["stored"];
    (stored["kind"].clone(), stored["standing"].clone(), stored["images"].clone())
}

/// That it can't be told who needs it: the class of the first gap.
fn untold(host: &FixtureHost, path: &str) -> Value {
    let (code, told) = outcome(host, path);
    assert_eq!((code, &told["status"]), (3, &json!("partial")), "{path} {told:#}");
    let standing = &told["file"]["stored"]["standing"];
    assert_eq!((standing, &told["gaps"][0]["what"]), (&Value::Null, &json!("images of an engine")));
    told["gaps"][0]["class"].clone()
}

#[test]
fn what_docker_keeps_of_an_image() {
    let host = host();
    let lab = docker(&host);
    let metadata = format!("{IMAGE}/imagedb/metadata/sha256");
    host.file(format!("{metadata}/{}/lastUpdated", lab.app.id), "2026");
    let of_app = [
        (lab.layers.image_file(&lab.app.id), "image-config"),
        (format!("{metadata}/{}/lastUpdated", lab.app.id), "image-record"),
        (format!("{metadata}/{}", lab.app.id), "image-record"),
    ];
    for (path, kind) in of_app {
        let told = answer(&host, &path);
        let id = format!("sha256:{}", lab.app.id);
        let expected = json!({"kind": kind, "id": id, "engine": "docker", "root": "/var/lib/docker",
            "standing": "used", "images": ["app:1"], "image_ids": [id]});
        assert_eq!(told["file"]["stored"], expected, "{told:#}");
        assert_eq!((names(&told), &told["gaps"]), (vec!["api", "web"], &json!([])), "{told:#}");
        assert!(told["evidence"].to_string().contains(&lab.app.id), "{told:#}");
    }
    assert_eq!(names(&answer(&host, &lab.layers.image_file(&lab.lib.id))), ["db"]);
    // One without a name, that nothing runs from; and one that another was built on.
    let old = lab.layers.image(&["base", "old"]);
    let next = lab.layers.image(&["base", "old", "next"]);
    let path = lab.layers.image_file(&old.id);
    let id = json!([format!("sha256:{}", old.id)]);
    assert_eq!(stored(&host, &path), (json!("image-config"), json!("used"), id.clone()));
    lab.layers.built_on(&next, &old);
    assert_eq!(stored(&host, &path), (json!("image-config"), json!("build-cache"), id));
    // What is kept of none.
    let lost = format!("{metadata}/{}", fake_id("lost"));
    host.file(format!("{lost}/parent"), "");
    for path in [lost.clone(), format!("{lost}/parent")] {
        let found = stored(&host, &path);
        assert_eq!(found, (json!("image-record"), json!("orphan"), json!([])));
    }
    let card = ask(&host, &[&lost]).expect_code(0).stdout_str();
    assert!(card.contains("orphan") && card.contains("used by    no container"), "{card}");
    let card = ask(&host, &[&lab.layers.image_file(&lab.app.id)]).expect_code(0).stdout_str();
    for line in ["the configuration of an image", "app:1   sha256:", "used by", "web", "engine"] {
        assert!(card.contains(line), "{line} {card}");
    }
}

#[test]
fn what_docker_keeps_of_a_layer_and_a_container() {
    let host = host();
    let lab = docker(&host);
    let record = |chain: &str| lab.layers.db(&format!("sha256/{chain}"));
    let top = record(&lab.app.chains[2]);
    host.file(format!("{top}/tar-split.json.gz"), "x");
    for (rest, kind) in
        [("", "layer-record"), ("/diff", "layer-record"), ("/tar-split.json.gz", "tar-split")]
    {
        let told = answer(&host, &format!("{top}{rest}"));
        let file = &told["file"]["stored"];
        assert_eq!([&file["kind"], &file["standing"]], [kind, "used"], "{told:#}");
        assert_eq!(file["id"], format!("sha256:{}", lab.app.chains[2]));
        assert_eq!(file["layer"]["id"], lab.app.caches[2].as_str());
        assert_eq!((&file["images"], names(&told)), (&json!(["app:1"]), vec!["api", "web"]));
        assert!(told["file"].get("layer").is_none(), "it lies in none: {told:#}");
    }
    let told = answer(&host, &record(&lab.app.chains[0]));
    assert_eq!(names(&told), ["api", "db", "web"]);
    assert_eq!(told["file"]["stored"]["images"], json!(["app:1", "lib:1"]));
    // A container's own layer.
    for path in ["", "/mount-id"] {
        let told = answer(&host, &lab.layers.db(&format!("mounts/{}{path}", lab.ids[2])));
        assert_eq!(
            [&told["owner"]["name"], &told["file"]["stored"]["kind"]],
            ["db", "container-record"]
        );
    }
    let kept = answer(&host, &format!("/var/lib/docker/containers/{}/config.v2.json", lab.ids[2]));
    assert_eq!([&kept["owner"]["name"], &kept["file"]["stored"]["standing"]], ["db", "used"]);
    // What nothing has.
    let unused = lab.layers.image(&["alone"]);
    host.remove(lab.layers.image_file(&unused.id));
    let found = stored(&host, &record(&unused.chains[0]));
    assert_eq!(found, (json!("layer-record"), json!("unused"), json!([])));
    let lost = fake_id("lost");
    for dir in
        [lab.layers.db(&format!("mounts/{lost}")), format!("/var/lib/docker/containers/{lost}")]
    {
        host.file(format!("{dir}/x"), "");
        let (kind, standing, _) = match dir.contains("mounts") {
            true => stored(&host, &dir),
            false => continue,
        };
        assert_eq!([kind, standing], ["container-record", "orphan"]);
    }
    // With its directory and without its state it may be on its way.
    assert_eq!(untold(&host, &lab.layers.db(&format!("mounts/{lost}"))), "timed-out");
    let found = stored(&host, &format!("/var/lib/docker/containers/{lost}"));
    assert_eq!(found, (json!("container-record"), json!("orphan"), json!([])));
    let going = record(&format!("{lost}-17-removing"));
    host.file(format!("{going}/cache-id"), "c");
    assert_eq!(stored(&host, &going), (json!("layer-record"), json!("removing"), json!([])));
    // Layers that are being added are nobody's yet.
    let new = lab.layers.db("tmp/write-set-1");
    host.file(format!("{new}/diff"), "");
    let (kind, standing, _) = stored(&host, &format!("{new}/diff"));
    assert_eq!((kind, standing), (json!("begun"), Value::Null));
    assert_eq!(untold(&host, &record(&unused.chains[0])), "timed-out");
}

#[test]
fn what_docker_knows_of_downloads() {
    let host = host();
    let lab = docker(&host);
    let (diff, digest) = (fake_id("diff of app"), fake_id("compressed"));
    let by_digest = format!("{IMAGE}/distribution/diffid-by-digest/sha256/{digest}");
    let by_diff = format!("{IMAGE}/distribution/v2metadata-by-diffid/sha256/{diff}");
    host.file(&by_digest, format!("sha256:{diff}")).file(&by_diff, "[]");
    for path in [&by_digest, &by_diff] {
        let told = answer(&host, path);
        assert_eq!(names(&told), ["api", "web"], "{told:#}");
        let found = stored(&host, path);
        assert_eq!(found, (json!("distribution-record"), json!("used"), json!(["app:1"])));
    }
    let other = by_diff.replace(&diff, &fake_id("other"));
    host.file(&other, "[]");
    assert_eq!(stored(&host, &other), (json!("distribution-record"), json!("unused"), json!([])));
    host.file(&by_digest, "sha256:../x");
    assert_eq!(untold(&host, &by_digest), "malformed");
    // Tables are of all, and of nothing in particular.
    for path in ["", "/repositories.json", "/imagedb", "/layerdb/sha256", "/distribution"] {
        let (kind, standing, images) = stored(&host, &format!("{IMAGE}{path}"));
        assert_eq!((kind, standing, images), (json!("table"), Value::Null, json!([])), "{path}");
    }
    let card = ask(&host, &[&format!("{IMAGE}/repositories.json")]).expect_code(0).stdout_str();
    assert!(card.contains("the engine's own table") && !card.contains("nobody"), "{card}");
    drop(lab);
}

#[test]
fn what_is_not_known_is_the_engines_own() {
    let host = host();
    let _ = docker(&host);
    host.file("/var/lib/docker/network/files/local-kv.db", "x");
    host.file(format!("{IMAGE}/imagedb/new"), "x");
    host.file("/srv/plain/image/overlay2/imagedb/content/sha256/x", "x");
    for path in [
        "/var/lib/docker",
        "/var/lib/docker/network/files/local-kv.db",
        &format!("{IMAGE}/imagedb/new"),
    ] {
        let told = answer(&host, path);
        let stored = &told["file"]["stored"];
        assert_eq!([&stored["kind"], &stored["engine"]], ["other", "docker"], "{told:#}");
        assert_eq!((&stored["root"], &told["owners"]), (&json!("/var/lib/docker"), &json!([])));
        assert!(stored.get("standing").is_none() && stored.get("id").is_none(), "{told:#}");
        let card = ask(&host, &[path]).expect_code(0).stdout_str();
        assert!(card.contains("no image and no container that is known"), "{card}");
        assert!(!card.contains("nobody") && card.contains("engine     docker"), "{card}");
    }
    // Where no engine is there is no store.
    for path in ["/srv/plain/image/overlay2/imagedb/content/sha256/x", "/etc/passwd", "/var/lib"] {
        let told = answer(&host, path);
        assert!(told["file"].get("stored").is_none(), "{told:#}");
    }
    // Nothing that a path of the host is told of is in a container.
    let run = ask(&host, &["path", &format!("{IMAGE}/repositories.json")]).expect_code(1);
    assert_eq!(run.stdout_str(), "");
    let run = ask(&host, &["path", &format!("{IMAGE}/layerdb/mounts/{}", fake_id("web"))]);
    let told = run.expect_code(1).stderr_str();
    assert!(told.contains("is of web, in no place"), "{told}");
}

#[test]
fn damage_in_dockers_store_is_a_gap() {
    let host = host();
    let lab = docker(&host);
    let config = lab.layers.image_file(&lab.app.id);
    let other = format!("/var/lib/docker/containers/{}/config.v2.json", lab.ids[2]);
    let tags = format!("{IMAGE}/repositories.json");
    for file in [&config, &other, &tags] {
        let whole = std::fs::read(host.at(file)).unwrap();
        for bad in ["", "{\"ID\":", "7"] {
            host.file(file, bad);
            let (code, told) = outcome(&host, &config);
            assert_eq!(
                (code, &told["gaps"][0]["class"]),
                (3, &json!("malformed")),
                "{file} {told:#}"
            );
            assert_eq!(told["file"]["stored"]["kind"], "image-config");
        }
        host.remove(file).sparse(file, 1 << 40);
        assert_eq!(outcome(&host, &config).0, 3, "{file}");
        if *file != config {
            host.remove(file).fifo(file);
            assert_eq!(outcome(&host, &config).0, 3, "{file}");
            host.remove(file).symlink(file, "/etc/passwd");
            assert_eq!(outcome(&host, &config).0, 3, "{file}");
        }
        host.remove(file).file(file, whole);
    }
    assert_eq!(stored(&host, &config).1, "used");
    // Layers that lead in a circle.
    let (low, top) = (&lab.app.chains[0], &lab.app.chains[2]);
    host.file(lab.layers.db(&format!("sha256/{low}/parent")), format!("sha256:{top}"));
    let (code, told) = outcome(&host, &lab.layers.db(&format!("sha256/{top}/diff")));
    assert_eq!((code, &told["gaps"][0]["class"]), (3, &json!("malformed")), "{told:#}");
    // A link in the store leads where it does, and to nothing of the store's.
    host.symlink(lab.layers.image_file(&fake_id("link")), "/etc/passwd");
    let told = answer(&host, &lab.layers.image_file(&fake_id("link")));
    assert_eq!((&told["file"]["host"], told["file"].get("stored")), (&json!("/etc/passwd"), None));
}

/// A text in base64.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |three: &[u8]| {
        let bits = (0..3).fold(0, |bits, n| bits << 8 | usize::from(*three.get(n).unwrap_or(&0)));
        let digit = |n: usize| match n <= three.len() {
            true => char::from(DIGITS[bits >> (18 - 6 * n) & 63]),
            false => '=',
        };
        (0..4).map(digit).collect::<String>()
    };
    text.as_bytes().chunks(3).map(digits).collect()
}

const GRAPH_ROOT: &str = "/var/lib/containers/storage";
const FURTHER: &str = "/srv/images";

/// A store of containers/storage: layers with their parents, images with their tops, containers with their
/// images.
fn tables(
    host: &FixtureHost,
    root: &str,
    layers: &[(&str, &str)],
    images: &[(&str, &str)],
    containers: &[(&str, &str)],
) {
    let id = |name: &str| if name.is_empty() { String::new() } else { fake_id(name) };
    let layers: Vec<Value> =
        layers.iter().map(|(name, parent)| json!({"id": id(name), "parent": id(parent)})).collect();
    let images: Vec<Value> = images
        .iter()
        .map(|(name, top)| json!({"id": id(name), "names": [name], "layer": id(top)}))
        .collect();
    let containers: Vec<Value> = containers
        .iter()
        .map(|(name, image)| {
            let metadata = json!({"image-name": image, "name": name, "created-at": 1}).to_string();
            let layer = id(&format!("own {name}"));
            json!({"id": id(name), "names": [name], "image": id(image), "layer": layer, "metadata": metadata})
        })
        .collect();
    for (kind, table) in [("layers", layers), ("images", images), ("containers", containers)] {
        host.file(format!("{root}/overlay-{kind}/{kind}.json"), json!(table).to_string());
    }
}

/// Podman's `web` of `app:1` and `db` of `lib:1`.
fn podman(host: &FixtureHost, root: &str) {
    let layers = [("base", ""), ("top", "base"), ("own web", "top"), ("own db", "base")];
    let images = [("app:1", "top"), ("lib:1", "base")];
    tables(host, root, &layers, &images, &[("web", "app:1"), ("db", "lib:1")]);
}

#[test]
fn what_podman_keeps() {
    for root in [GRAPH_ROOT, "/srv/graph"] {
        let host = host();
        podman(&host, root);
        let app = fake_id("app:1");
        let dir = format!("{root}/overlay-images/{app}");
        host.dir(&dir);
        let value = |key: &str| format!("={}", base64(key));
        let files = [
            (String::new(), "image-record"),
            ("/manifest".to_owned(), "manifest"),
            (format!("/{}", value(&format!("sha256:{app}"))), "image-config"),
            (format!("/{}", value(&format!("manifest-sha256:{}", fake_id("m")))), "manifest"),
            (format!("/{}", value(&format!("sha256:{}", fake_id("other")))), "image-record"),
            ("/=no base64".to_owned(), "image-record"),
        ];
        for (rest, kind) in files {
            if !rest.is_empty() {
                host.file(format!("{dir}{rest}"), "{}");
            }
            let path = format!("{dir}{rest}");
            assert_eq!(
                stored(&host, &path),
                (json!(kind), json!("used"), json!(["app:1"])),
                "{rest}"
            );
            let told = answer(&host, &path);
            assert_eq!(names(&told), ["web"], "{told:#}");
            assert_eq!(told["file"]["stored"]["id"], format!("sha256:{app}"));
        }
        // A layer's archive: of the lower one both images have it.
        for (layer, images, all) in [
            ("base", json!(["app:1", "lib:1"]), vec!["db", "web"]),
            ("top", json!(["app:1"]), vec!["web"]),
        ] {
            let path = format!("{root}/overlay-layers/{}.tar-split.gz", fake_id(layer));
            host.file(&path, "x");
            assert_eq!(stored(&host, &path), (json!("tar-split"), json!("used"), images));
            let told = answer(&host, &path);
            assert_eq!(
                (names(&told), &told["file"]["stored"]["id"]),
                (all, &json!(fake_id(layer)))
            );
        }
        for table in
            ["images/images.json", "layers/layers.lock", "containers/containers.json", "layers"]
        {
            host.file(format!("{root}/overlay-layers/layers.lock"), "");
            let (kind, standing, _) = stored(&host, &format!("{root}/overlay-{table}"));
            assert_eq!((kind, standing), (json!("table"), Value::Null), "{table}");
        }
        // What is in no table.
        let lost = format!("{root}/overlay-images/{}", fake_id("lost"));
        host.file(format!("{lost}/manifest"), "{}");
        assert_eq!(stored(&host, &lost), (json!("image-record"), json!("orphan"), json!([])));
        let lost = format!("{root}/overlay-layers/{}.tar-split.gz", fake_id("lost"));
        host.file(&lost, "x");
        assert_eq!(stored(&host, &lost), (json!("tar-split"), json!("orphan"), json!([])));
        host.file(format!("{root}/overlay-layers/odd"), "x")
            .file(format!("{root}/storage.lock"), "");
        for own in ["overlay-layers/odd", "storage.lock", ""] {
            assert_eq!(stored(&host, &format!("{root}/{own}")).0, "other", "{own}");
        }
        // Without a table that has each container with a directory nothing is known of the rest.
        host.dir(format!("{root}/overlay-containers/{}/userdata", fake_id("transient")));
        assert_eq!(
            untold(&host, &format!("{root}/overlay-containers/{}", fake_id("transient"))),
            "unsupported"
        );
        assert_eq!(outcome(&host, &dir).0, 3);
    }
}

#[test]
fn an_incomplete_layer_is_no_orphan() {
    let host = host();
    podman(&host, GRAPH_ROOT);
    let (whole, broken) = (fake_id("left"), fake_id("broken"));
    let table = json!([{"id": whole}, {"id": broken, "flags": {"incomplete": true}}]);
    host.file(format!("{GRAPH_ROOT}/overlay-layers/layers.json"), table.to_string());
    host.file(format!("{GRAPH_ROOT}/overlay-containers/containers.json"), "[]");
    host.file(format!("{GRAPH_ROOT}/overlay-images/images.json"), "[]");
    let path = |id: &str| format!("{GRAPH_ROOT}/overlay-layers/{id}.tar-split.gz");
    host.file(path(&whole), "x").file(path(&broken), "x");
    assert_eq!(stored(&host, &path(&whole)), (json!("tar-split"), json!("unused"), json!([])));
    assert_eq!(untold(&host, &path(&broken)), "timed-out");
    // Parents that lead in a circle, and a table that is none.
    let circle = json!([{"id": whole, "parent": broken}, {"id": broken, "parent": whole}]);
    let container = json!([{"id": fake_id("web"), "layer": whole}]);
    host.file(format!("{GRAPH_ROOT}/overlay-containers/containers.json"), container.to_string());
    for table in [circle.to_string(), "[{".to_owned(), "{}".to_owned()] {
        host.file(format!("{GRAPH_ROOT}/overlay-layers/layers.json"), table);
        let (code, told) = outcome(&host, &path(&whole));
        assert_eq!((code, &told["gaps"][0]["class"]), (3, &json!("malformed")), "{told:#}");
    }
    host.remove(format!("{GRAPH_ROOT}/overlay-layers/layers.json"));
    host.sparse(format!("{GRAPH_ROOT}/overlay-layers/layers.json"), 1 << 40);
    assert_eq!(outcome(&host, &path(&whole)).0, 3);
}

#[test]
fn images_of_a_further_store() {
    let host = host();
    let conf = format!("[storage.options]\nadditionalimagestores = [\"{FURTHER}\"]\n");
    host.file("/etc/containers/storage.conf", conf);
    tables(&host, GRAPH_ROOT, &[("own web", "top")], &[], &[("web", "app:1")]);
    tables(&host, FURTHER, &[("top", "")], &[("app:1", "top")], &[]);
    let path = format!("{FURTHER}/overlay-images/{}/manifest", fake_id("app:1"));
    host.file(&path, "{}");
    let told = answer(&host, &path);
    assert_eq!((names(&told), &told["file"]["stored"]["root"]), (vec!["web"], &json!(FURTHER)));
    let layer = format!("{FURTHER}/overlay-layers/{}.tar-split.gz", fake_id("top"));
    host.file(&layer, "x");
    assert_eq!(names(&answer(&host, &layer)), ["web"]);
}

#[test]
fn what_cri_o_keeps() {
    let host = host();
    host.dir("etc/crio");
    let pod = CrioContainer::sandbox("shop", "demo");
    let web = pod.container("web").running(4761);
    host.crio_container(&pod).crio_container(&web);
    let own = fake_id(format!("layer of {}", web.id()));
    let layers = json!([{"id": fake_id("app")}, {"id": own, "parent": fake_id("app")}]);
    host.file(format!("{GRAPH_ROOT}/overlay-layers/layers.json"), layers.to_string());
    let images = json!([{"id": fake_id("image"), "names": ["app:1"], "layer": fake_id("app")}]);
    host.file(format!("{GRAPH_ROOT}/overlay-images/images.json"), images.to_string());
    let path = format!("{GRAPH_ROOT}/overlay-layers/{}.tar-split.gz", fake_id("app"));
    host.file(&path, "x");
    let told = answer(&host, &path);
    assert_eq!((names(&told), &told["file"]["stored"]["images"]), (vec!["web"], &json!(["app:1"])));
    assert_eq!(told["owners"][0]["runtime"], "cri-o");
    assert_eq!(told["owners"][0]["pod"]["name"], "demo", "{told:#}");
}

const ROOT: &str = "/var/lib/containerd";
const APP: [&str; 3] = ["base", "libs", "app"];
const LIB: [&str; 2] = ["base", "libs"];

#[test]
fn blobs_of_containerd() {
    let host = host();
    let store = host.snapshot_store(ROOT, "overlayfs");
    store.image("default", "app:1", &APP);
    store.image("other", "again:1", &APP);
    store.image("default", "lib:1", &LIB);
    store.container("default", "web", "app:1", &APP);
    store.container("other", "api", "again:1", &APP);
    store.download(&APP, 10);
    store.download(&LIB, 10);
    let pulled = store.lone_blob(Some("default"), "pulled", 9);
    let built = store.lone_blob(Some("buildkit"), "built", 9);
    let orphan = store.lone_blob(None, "nobody's", 9);
    store.write();
    let blob = |what: String| store.blob(&fake_id(what));
    let ids = |told: &Value| -> Vec<String> {
        let all = told["owners"].as_array().unwrap_or_else(|| panic!("{told:#}"));
        all.iter().map(|o| o["id"].as_str().unwrap().to_owned()).collect()
    };
    let (app, both) = (json!(["again:1", "app:1"]), json!(["again:1", "app:1", "lib:1"]));
    for (what, kind, images) in [
        (format!("manifest {APP:?}"), "manifest", app.clone()),
        (format!("config {APP:?}"), "image-config", app.clone()),
        ("blob of app".to_owned(), "layer-blob", app),
        ("blob of base".to_owned(), "layer-blob", both),
        (format!("manifest {LIB:?}"), "manifest", json!(["lib:1"])),
    ] {
        let path = blob(what.clone());
        let told = answer(&host, &path);
        let is_of_app = images != json!(["lib:1"]);
        assert_eq!(stored(&host, &path), (json!(kind), json!("used"), images), "{what}");
        assert_eq!(ids(&told), if is_of_app { vec!["web", "api"] } else { vec![] }, "{told:#}");
        let digest = path.rsplit('/').next().unwrap();
        assert_eq!(told["file"]["stored"]["id"], format!("sha256:{digest}"));
    }
    let told = answer(&host, &blob("blob of app".to_owned()));
    let manifest = format!("sha256:{}", fake_id(format!("manifest {APP:?}")));
    assert_eq!(told["file"]["stored"]["image_ids"], json!([manifest]));
    for (path, standing) in [(pulled, "unused"), (built, "build-cache"), (orphan.clone(), "orphan")]
    {
        assert_eq!(stored(&host, &path), (json!("blob"), json!(standing), json!([])));
    }
    // What is being written, and the tables.
    let begun = format!("{ROOT}/{CONTENT}/ingest/4711");
    host.file(format!("{begun}/data"), "x").file(format!("{begun}/ref"), "default/7/layer-x");
    let told = answer(&host, &format!("{begun}/data"));
    assert_eq!(told["file"]["stored"]["kind"], "begun");
    assert!(told["evidence"].to_string().contains("written as default/7/layer-x"), "{told:#}");
    let snapshots = format!("{}/metadata.db", store.base());
    for table in [store.meta_db(), snapshots, format!("{ROOT}/{CONTENT}/blobs/sha256")] {
        assert_eq!(stored(&host, &table).0, "table", "{table}");
    }
    host.file(format!("{ROOT}/io.containerd.odd/x"), "x").file(format!("{ROOT}/opt/x"), "x");
    for other in ["io.containerd.odd/x", "opt/x", ""] {
        let told = answer(&host, &format!("{ROOT}/{other}"));
        assert_eq!(
            [&told["file"]["stored"]["kind"], &told["file"]["stored"]["engine"]],
            ["other", "containerd"]
        );
    }
    // Without the whole database nothing is an orphan.
    let whole = std::fs::read(host.at(store.meta_db())).unwrap();
    for bytes in [&whole[..whole.len() / 2], b""] {
        host.file(store.meta_db(), bytes);
        assert_eq!(untold(&host, &orphan), "malformed");
    }
    host.remove(store.meta_db()).symlink(store.meta_db(), "/etc/passwd");
    assert_eq!(outcome(&host, &orphan).0, 3);
}

#[test]
fn what_containerd_keeps_for_a_container() {
    let host = host();
    let store = host.snapshot_store(ROOT, "overlayfs");
    let (pod, sandbox, id) = (("shop", "demo", "uid"), fake_id("sandbox"), fake_id("app"));
    store.image("k8s.io", "app:1", &APP);
    store.image("moby", "app:1", &APP);
    store.container("k8s.io", &id, "app:1", &APP);
    let docker = DockerContainer::named("dock");
    host.docker_container(&docker.clone().exited(0));
    store.container("moby", docker.id(), "app:1", &APP);
    let _ = store.snapshot("default", "x", SnapshotKind::Active, "");
    store.write();
    let bundle = TaskBundle::in_pod(&id, 4761, pod, &sandbox, "front").status(1, 1, 0);
    let cgroup = format!("/kubepods/pod-x/{id}");
    host.task_bundle(&bundle.cgroups_path(&cgroup)).task(4761, 4760, &cgroup);
    host.cgroup_dirs(&cgroup, &[4761]);
    let run = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}");
    let cri = format!("{ROOT}/io.containerd.grpc.v1.cri");
    host.dir(format!("{ROOT}/io.containerd.runtime.v2.task/k8s.io/{id}"));
    for (path, kind) in [
        (format!("{run}/config.json"), "task"),
        (run.clone(), "task"),
        (format!("{ROOT}/io.containerd.runtime.v2.task/k8s.io/{id}"), "task"),
        (format!("{cri}/containers/{id}/status"), "container-record"),
    ] {
        let told = answer(&host, &path);
        assert_eq!(
            [&told["owner"]["id"], &told["file"]["stored"]["kind"]],
            [id.as_str(), kind],
            "{told:#}"
        );
        assert_eq!(
            [&told["owner"]["name"], &told["owner"]["pod"]["name"]],
            ["front", "demo"],
            "{told:#}"
        );
        assert_eq!(told["owner"]["state"], "running");
    }
    let tasks = format!("{ROOT}/io.containerd.runtime.v2.task");
    host.dir(format!("{tasks}/moby/{}", docker.id())).dir(format!("{tasks}/default/gone"));
    let told = answer(&host, &format!("{tasks}/moby/{}", docker.id()));
    assert_eq!([&told["owner"]["runtime"], &told["owner"]["name"]], ["docker", "dock"], "{told:#}");
    assert_eq!(
        stored(&host, &format!("{tasks}/default/gone")),
        (json!("task"), json!("orphan"), json!([]))
    );
    host.file(format!("{cri}/sandboxes/{}/x", fake_id("gone")), "");
    let found = stored(&host, &format!("{cri}/sandboxes/{}", fake_id("gone")));
    assert_eq!((found.0, found.1), (json!("container-record"), json!("orphan")));
}

/// A store that somebody made in a volume is his: what it says is told of it alone.
#[test]
fn a_store_in_a_volume_is_told_as_one() {
    let host = host();
    let lab = docker(&host);
    let made = "/var/lib/docker/volumes/v/_data/d";
    let layers = host.layer_store_at(made, "overlay2");
    let image = layers.image(&["evil"]);
    layers.tag("app:1", &image);
    host.dir(format!("{made}/containers"));
    let told = answer(&host, &layers.image_file(&image.id));
    assert_eq!(
        (&told["file"]["stored"]["root"], &told["owners"]),
        (&json!(made), &json!([])),
        "{told:#}"
    );
    let card = ask(&host, &[&layers.image_file(&image.id)]).expect_code(0).stdout_str();
    assert!(card.contains("a container may write it"), "{card}");
    // In a layer it is a file of the layer's.
    let own = lab.layers.files(&lab.app.caches[0]);
    let decoy = format!("{own}/image/overlay2/imagedb/content/sha256/{}", lab.app.id);
    host.file(&decoy, "{}").dir(format!("{own}/image/overlay2/layerdb"));
    let told = answer(&host, &decoy);
    assert!(
        told["file"].get("stored").is_none() && told["file"].get("layer").is_some(),
        "{told:#}"
    );
}

#[test]
fn an_image_of_a_containers_files() {
    let host = host();
    let config = "lxc.rootfs.path = loop:/srv/imaged\nlxc.uts.name = imaged\n";
    host.file("/var/lib/lxc/imaged/config", config);
    host.file("/srv/imaged", "no file system").file("/srv/imaged.old", "x");
    let told = answer(&host, "/srv/imaged");
    let stored = &told["file"]["stored"];
    assert_eq!([&stored["kind"], &stored["standing"]], ["root-image", "used"], "{told:#}");
    assert_eq!([&stored["engine"], &stored["root"]], ["lxc", "/var/lib/lxc"], "{told:#}");
    assert_eq!((&told["owners"][0]["id"], &told["gaps"]), (&json!("imaged"), &json!([])));
    let card = ask(&host, &["/srv/imaged"]).expect_code(0).stdout_str();
    assert!(card.contains("an image that holds the files") && card.contains("imaged"), "{card}");
    let told = answer(&host, "/srv/imaged.old");
    assert_eq!((&told["owners"], told["file"].get("stored")), (&json!([]), None), "{told:#}");
}
