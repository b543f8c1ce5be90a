//! Layers of Podman's stores: its own, and further ones that images are in.

use serde_json::{Value, json};
use whose_testkit::fixture::{CgroupLayout, FixtureHost, fake_id};

use crate::support::{answer, ask};

const GRAPH_ROOT: &str = "/var/lib/containers/storage";
const FURTHER: &str = "/srv/images";

/// A layer of a table.
fn layer(name: &str, parent: Option<&str>) -> Value {
    let diff = format!("sha256:{}", fake_id(format!("diff of {name}")));
    let parent = parent.map(fake_id).unwrap_or_default();
    json!({"id": fake_id(name), "parent": parent, "diff-digest": diff})
}

/// Writes a store's table of layers, and their directories.
fn layers(host: &FixtureHost, root: &str, all: &[(&str, Option<&str>)]) {
    let table: Vec<Value> = all.iter().map(|(name, parent)| layer(name, *parent)).collect();
    host.file(format!("{root}/overlay-layers/layers.json"), json!(table).to_string());
    for (name, _) in all {
        host.file(format!("{root}/overlay/{}/diff/f", fake_id(name)), *name);
    }
}

/// A container of Podman's table, or a working container of Buildah's, with its own layer.
fn entry(host: &FixtureHost, root: &str, name: &str, engine: &str) -> Value {
    let id = fake_id(format!("{engine} {name}"));
    let metadata = json!({"image-name": "localhost/app:1", "name": name, "created-at": 1});
    let metadata = if engine == "podman" { metadata.to_string() } else { String::new() };
    if engine == "buildah" {
        let file = json!({"type": "buildah 0.0.1", "image": "localhost/app:1", "container-id": id});
        let path = format!("{root}/overlay-containers/{id}/userdata/buildah.json");
        host.file(path, file.to_string());
    }
    json!({"id": id, "names": [name], "layer": fake_id(format!("own {name}")), "metadata": metadata})
}

fn containers(host: &FixtureHost, root: &str, all: &[(&str, &str)]) {
    let table: Vec<Value> = all.iter().map(|(name, of)| entry(host, root, name, of)).collect();
    host.file(format!("{root}/overlay-containers/containers.json"), json!(table).to_string());
}

/// Root's store with a container of Podman's and one of Buildah's; their image of two layers is in a
/// further store.
fn host() -> FixtureHost {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    let conf = format!("[storage.options]\nadditionalimagestores = [\"{FURTHER}\"]\n");
    host.file("/etc/containers/storage.conf", conf);
    containers(&host, GRAPH_ROOT, &[("web", "podman"), ("working", "buildah")]);
    layers(&host, GRAPH_ROOT, &[("own web", Some("top")), ("own working", Some("top"))]);
    layers(&host, FURTHER, &[("base", None), ("top", Some("base"))]);
    let image =
        json!([{"id": fake_id("app"), "names": ["localhost/app:1"], "layer": fake_id("top")}]);
    host.file(format!("{FURTHER}/overlay-images/images.json"), image.to_string());
    host
}

fn owners(told: &Value) -> Vec<(&str, &str)> {
    let owners = told["owners"].as_array().unwrap_or_else(|| panic!("{told:#}"));
    let mut all: Vec<(&str, &str)> = owners
        .iter()
        .map(|o| (o["runtime"].as_str().unwrap(), o["name"].as_str().unwrap()))
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn two_engines_have_a_layer_of_a_further_store() {
    let host = host();
    for (name, place) in [("top", 0), ("base", 1)] {
        let path = format!("{FURTHER}/overlay/{}/diff/f", fake_id(name));
        let told = answer(&host, &path);
        assert_eq!(owners(&told), [("buildah", "working"), ("podman", "web")], "{told:#}");
        let layer = &told["file"]["layer"];
        assert_eq!((&layer["kind"], &layer["index"]), (&json!("image"), &json!(place)));
        assert_eq!((&layer["of"], &told["gaps"]), (&json!(2), &json!([])), "{told:#}");
    }
    let own = format!("{GRAPH_ROOT}/overlay/{}/diff/f", fake_id("own working"));
    assert_eq!(owners(&answer(&host, &own)), [("buildah", "working")]);
    ask(&host, &["container:web"]).expect_code(0);
}

#[test]
fn a_layer_of_a_further_store_is_named_by_its_id() {
    let host = host();
    let digest = fake_id("diff of top");
    for target in [fake_id("top"), fake_id("top")[..12].to_owned(), format!("sha256:{digest}")] {
        let told = answer(&host, &format!("layer:{target}"));
        let dir = format!("{FURTHER}/overlay/{}", fake_id("top"));
        assert_eq!(told["file"]["host"], dir, "{target} {told:#}");
        assert_eq!(owners(&told), [("buildah", "working"), ("podman", "web")], "{told:#}");
    }
    ask(&host, &[&format!("layer:{}", fake_id("none"))]).expect_code(1);
}

#[test]
fn a_stack_goes_on_in_a_further_store() {
    let host = host();
    layers(&host, GRAPH_ROOT, &[("own web", Some("mid")), ("mid", Some("top"))]);
    containers(&host, GRAPH_ROOT, &[("web", "podman")]);
    let place = |root: &str, name: &str| {
        let told = answer(&host, &format!("{root}/overlay/{}/diff/f", fake_id(name)));
        assert_eq!(owners(&told), [("podman", "web")], "{told:#}");
        (told["file"]["layer"]["index"].clone(), told["file"]["layer"]["of"].clone())
    };
    for (root, name, at) in [(GRAPH_ROOT, "mid", 0), (FURTHER, "top", 1), (FURTHER, "base", 2)] {
        assert_eq!(place(root, name), (json!(at), json!(3)), "{name}");
    }
    // Where the rest of it is not known the place is not either.
    layers(&host, FURTHER, &[("top", Some("base"))]);
    for (root, name) in [(GRAPH_ROOT, "mid"), (FURTHER, "top")] {
        assert_eq!(place(root, name), (Value::Null, Value::Null), "{name}");
    }
}

/// A step of a build is called after the working container whose layer its process has as its root, by the store
/// of whose it is that runs it.
#[test]
fn a_step_is_called_after_what_it_works_in() {
    let host = host();
    let id = "buildah-buildah770976400";
    let upper = format!("{GRAPH_ROOT}/overlay/{}/diff", fake_id("own working"));
    let root =
        format!("9 8 0:61 / / rw - overlay overlay rw,lowerdir=/x,upperdir={upper},workdir=/w\n");
    let put = |pid: u32, runner: u32, uid: u32| {
        let args: [&[u8]; 2] = [b"buildah-oci-runtime", b"x"];
        host.process(runner).comm("exe").uid(uid).cmdline(&args).in_cgroup("/").write();
        let step = host.process(pid).ppid(runner).uid(uid).nspid(&[pid, 1]).mountinfo(&root);
        step.in_cgroup(&format!("/{id}")).write();
        host.cgroup_dirs(&format!("/{id}"), &[pid]);
    };
    put(7001, 7000, 0);
    let owner = answer(&host, "7001")["owner"].clone();
    let words = (&owner["kind"], &owner["runtime"], &owner["id"], &owner["name"], &owner["image"]);
    let wanted = [json!("job"), json!("buildah"), json!(id), json!("working")];
    let image = json!("localhost/app:1");
    assert_eq!(words, (&wanted[0], &wanted[1], &wanted[2], &wanted[3], &image), "{owner:#}");
    assert_eq!(owner["state"], "running", "{owner:#}");
    // A user who shows root's layer as his root says nothing of root's container.
    put(7003, 7002, 1000);
    let told = answer(&host, "7003");
    assert_eq!((&told["owner"]["id"], &told["owner"]["name"]), (&json!(id), &Value::Null));
}
