//! Snapshots of containerd's, layers of CRI-O's store, and whose they are.

use serde_json::{Value, json};
use whose_testkit::fixture::{
    CgroupLayout, CrioContainer, DockerContainer, FixtureHost, SnapshotKind, SnapshotStore,
    TaskBundle, fake_id,
};

use crate::support::{answer, ask};

const ROOT: &str = "/var/lib/containerd";
const APP: [&str; 3] = ["base", "libs", "app"];
const LIB: [&str; 2] = ["base", "libs"];
const UID: &str = "3d4e5f60-4444-4555-8666-777788889999";

fn host() -> FixtureHost {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    host
}

/// `web` and `api` of `app:1`, `db` of `lib:1`, all in `default`; both images stand on one base.
struct Lab<'h> {
    store: SnapshotStore<'h>,
    app: Vec<u64>,
    own: [u64; 3],
}

fn lab<'h>(host: &'h FixtureHost, root: &str, snapshotter: &str) -> Lab<'h> {
    let store = host.snapshot_store(root, snapshotter);
    let app = store.image("default", "app:1", &APP);
    store.image("default", "lib:1", &LIB);
    let own = [
        store.container("default", "web", "app:1", &APP),
        store.container("default", "api", "app:1", &APP),
        store.container("default", "db", "lib:1", &LIB),
    ];
    store.write();
    Lab { store, app, own }
}

fn ids(owners: &Value) -> Vec<&str> {
    let owners = owners.as_array().unwrap_or_else(|| panic!("{owners}"));
    let mut ids: Vec<&str> = owners.iter().map(|o| o["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids
}

fn outcome(host: &FixtureHost, target: &str) -> (i32, Value) {
    let run = ask(host, &["--json", target]);
    (run.code.unwrap(), run.json()["answers"][0].clone())
}

#[test]
fn a_writable_snapshot_is_its_containers() {
    for snapshotter in ["overlayfs", "native", "fuse-overlayfs", "erofs", "nydus"] {
        let host = host();
        let lab = lab(&host, ROOT, snapshotter);
        let bundle = TaskBundle::new("default", "web", 4761);
        let socket = "/run/containerd/containerd.sock";
        host.task_bundle(&bundle).shim(4762, &bundle, socket).task(4761, 4762, "/default/web");
        host.cgroup_dirs("/default/web", &[4761]);
        let stacks = snapshotter != "native";
        for (number, id) in lab.own.iter().zip(["web", "api", "db"]) {
            let dir = lab.store.files(*number);
            let told = answer(&host, &format!("{dir}/from/{id}"));
            assert_eq!(told["status"], "found", "{snapshotter} {told:#}");
            let owner = &told["owner"];
            assert_eq!([&owner["runtime"], &owner["id"]], ["containerd", id], "{told:#}");
            let file = &told["file"];
            assert_eq!(file["inside"], format!("/from/{id}"));
            let role = match snapshotter {
                "native" => "direct",
                "fuse-overlayfs" => "fuse-layer",
                _ => "upper",
            };
            assert_eq!(file["role"], role, "{snapshotter}");
            let layer = &file["layer"];
            assert_eq!(layer["id"], number.to_string());
            assert_eq!([&layer["dir"], &layer["driver"]], [dir.as_str(), snapshotter]);
            assert_eq!([&layer["kind"], &layer["owners"]], [&json!("upper"), &json!([id])]);
            assert_eq!(layer["images"], json!([]));
            assert!(layer.get("index").is_none() && layer.get("chain_id").is_none());
            assert_eq!(answer(&host, &lab.store.dir(*number))["owner"]["id"], id);
        }
        let web = answer(&host, &lab.store.dir(lab.own[0]));
        assert_eq!([&web["owner"]["state"], &web["owner"]["name"]], ["running", "web"], "{web:#}");
        // An image's top layer, and what two images share.
        let at = |n: usize| answer(&host, &lab.store.files(lab.app[n]));
        let top = at(2);
        assert_eq!(ids(&top["owners"]), ["api", "web"]);
        let layer = &top["file"]["layer"];
        assert_eq!([&layer["kind"], &layer["images"]], [&json!("image"), &json!(["app:1"])]);
        assert_eq!(layer["chain_id"], SnapshotStore::chain_id(&APP));
        let place = (layer["index"].as_u64(), layer["of"].as_u64());
        assert_eq!(place, if stacks { (Some(0), Some(3)) } else { (None, None) });
        for n in [0, 1] {
            let shared = at(n);
            assert_eq!(ids(&shared["owners"]), ["api", "db", "web"]);
            let layer = &shared["file"]["layer"];
            assert_eq!(layer["images"], json!(["app:1", "lib:1"]));
            assert!(layer.get("index").is_none(), "it differs: {layer:#}");
        }
        let chain = SnapshotStore::chain_id(&APP);
        let told = answer(&host, &format!("layer:{chain}"));
        assert_eq!(told["file"]["layer"], top["file"]["layer"]);
        let card = ask(&host, &[&lab.store.dir(lab.own[0])]).expect_code(0).stdout_str();
        assert!(
            card.contains("the writable layer of web") && card.contains("containerd"),
            "{card}"
        );
    }
}

#[test]
fn the_directories_of_btrfs_are_one_store() {
    let host = host();
    let lab = lab(&host, ROOT, "btrfs");
    for (dir, number, kind) in [("active", lab.own[0], "upper"), ("snapshots", lab.app[2], "image")]
    {
        let path = format!("{}/{dir}/{number}", lab.store.base());
        host.file(format!("{path}/bin/x"), "");
        let told = answer(&host, &format!("{path}/bin/x"));
        assert_eq!(told["file"]["layer"]["kind"], kind, "{told:#}");
        assert_eq!(told["file"]["layer"]["dir"], path);
        assert_eq!([&told["file"]["inside"], &told["file"]["role"]], ["/bin/x", "direct"]);
    }
}

#[test]
fn a_blockfile_is_the_layer_itself() {
    let host = host();
    let lab = lab(&host, ROOT, "blockfile");
    let path = format!("{}/snapshots/{}", lab.store.base(), lab.own[0]);
    host.remove(&path).file(&path, "a file system");
    let told = answer(&host, &path);
    assert_eq!([&told["owner"]["id"], &told["file"]["layer"]["driver"]], ["web", "blockfile"]);
}

#[test]
fn a_pods_container_has_its_pod() {
    let host = host();
    let store = host.snapshot_store(ROOT, "overlayfs");
    let app = store.image("k8s.io", "docker.io/library/app:1", &APP);
    let (pause, id) = (fake_id("sandbox"), fake_id("app"));
    let own = store.container("k8s.io", &id, "docker.io/library/app:1", &APP);
    store.write();
    let pod = ("shop", "demo-abc", UID);
    let bundle = TaskBundle::in_pod(&id, 4761, pod, &pause, "front");
    let cgroup = format!("/kubepods/burstable/pod{UID}/{id}");
    let bundle = bundle.cgroups_path(&cgroup);
    host.task_bundle(&bundle).task(4761, 4760, &cgroup);
    host.cgroup_dirs(&cgroup, &[4761]);
    for path in [store.files(own), store.files(app[2])] {
        let told = answer(&host, &path);
        let owner = &told["owners"][0];
        assert_eq!([&owner["id"], &owner["name"]], [id.as_str(), "front"], "{told:#}");
        assert_eq!([&owner["pod"]["namespace"], &owner["pod"]["name"]], ["shop", "demo-abc"]);
        assert_eq!(owner["pod"]["uid"], UID);
    }
}

#[test]
fn moved_roots_are_known_by_the_path() {
    for root in ["/srv/c", "/var/lib/rancher/k3s/agent/containerd"] {
        let host = host();
        let lab = lab(&host, root, "overlayfs");
        let told = answer(&host, &lab.store.dir(lab.own[2]));
        assert_eq!(told["owner"]["id"], "db", "{told:#}");
        assert_eq!(told["file"]["layer"]["owners"], json!(["db"]));
    }
}

#[test]
fn the_same_key_in_two_namespaces_is_not_one_snapshot() {
    let host = host();
    let store = host.snapshot_store(ROOT, "overlayfs");
    let mut owned = Vec::new();
    for namespace in ["default", "shop"] {
        store.image(namespace, "app:1", &APP);
        owned.push(store.container(namespace, "web", "app:1", &APP));
    }
    let base = store.number("default", &SnapshotStore::chain_id(&APP[..1]));
    // Its base has a name in a third namespace.
    store.share("default", &SnapshotStore::chain_id(&APP[..1]), "other");
    store.write();
    for (number, namespace) in owned.iter().zip(["default", "shop"]) {
        let told = answer(&host, &store.dir(*number));
        assert_eq!(told["owners"].as_array().unwrap().len(), 1, "{told:#}");
        let seen = told["evidence"].to_string();
        assert!(seen.contains(&format!("web in the namespace {namespace}")), "{seen}");
    }
    let told = answer(&host, &store.dir(base));
    assert_eq!(ids(&told["owners"]), ["web"], "{told:#}");
    assert!(told["evidence"].to_string().contains("in the namespace other"), "{told:#}");
}

#[test]
fn dockers_containers_are_dockers() {
    let host = host();
    let web = DockerContainer::named("web").running(4761);
    host.docker_container(&web);
    host.dir("run/containerd");
    let store = host.snapshot_store(ROOT, "overlayfs");
    store.image("moby", "docker.io/library/app:1", &APP);
    let init_key = format!("{}-init", web.id());
    let below = SnapshotStore::chain_id(&APP);
    let init = store.snapshot("moby", &init_key, SnapshotKind::Committed, &below);
    let own = store.container_on("moby", web.id(), "docker.io/library/app:1", &init_key);
    store.write();
    let told = answer(&host, &store.files(own));
    let owner = &told["owner"];
    assert_eq!([&owner["runtime"], &owner["id"], &owner["name"]], ["docker", web.id(), "web"]);
    let told = answer(&host, &store.files(init));
    assert_eq!(told["owner"]["name"], "web");
    let layer = &told["file"]["layer"];
    assert_eq!(
        [&layer["kind"], &layer["index"], &layer["of"]],
        [&json!("init"), &json!(0), &json!(4)]
    );
    // A root that somebody made says nothing of Docker's own.
    let made = host.snapshot_store("/srv/made", "overlayfs");
    made.image("moby", "app:1", &APP);
    let own = made.container("moby", web.id(), "app:1", &APP);
    made.write();
    let told = answer(&host, &made.files(own));
    assert_eq!(told["owner"]["id"], web.id(), "{told:#}");
    assert!(told["owner"].get("name").is_none(), "{told:#}");
}

#[test]
fn what_no_container_has() {
    let host = host();
    let lab = lab(&host, ROOT, "overlayfs");
    let store = &lab.store;
    let layer = SnapshotStore::chain_id(&LIB);
    let view = store.snapshot("default", "looked-at", SnapshotKind::View, &layer);
    let unpacking = "extract-123456789-abcd sha256:ff";
    let step = store.snapshot("default", unpacking, SnapshotKind::Active, &layer);
    let cache = store.snapshot("buildkit", "step", SnapshotKind::Committed, "");
    let lost = store.snapshot("default", "lost", SnapshotKind::Active, &layer);
    let last = store.snapshot("default", "last", SnapshotKind::Active, &layer);
    store.forget("default", "lost");
    store.write();
    let kind = |number: u64| answer(&host, &store.dir(number))["file"]["layer"]["kind"].clone();
    assert_eq!([kind(view), kind(step), kind(cache)], ["unused", "unused", "build-cache"]);
    assert_eq!([kind(lost), kind(last)], ["orphan", "unused"]);
    // Directories that no snapshot has: of a lower number, and of one that is being made.
    let junk = store.dir(lost).replace(&format!("/{lost}"), "/junk");
    let new = store.dir(last + 1);
    for path in [&junk, &new] {
        host.dir(path);
        let told = answer(&host, path);
        assert_eq!(
            [&told["file"]["layer"]["kind"], &told["owners"]],
            [&json!("orphan"), &json!([])]
        );
    }
    let card = |path: &str| ask(&host, &[path]).expect_code(0).stdout_str();
    assert!(card(&new).contains("under way") && !card(&junk).contains("under way"));
    assert!(card(&store.dir(step)).contains("under way"));
    let going = junk.replace("/junk", "/rm-7");
    host.dir(&going);
    assert_eq!(answer(&host, &going)["file"]["layer"]["kind"], "removing");
    assert_eq!(outcome(&host, &store.dir(999)).0, 1);
}

#[test]
fn damage_is_a_gap_and_no_orphan() {
    let host = host();
    let lab = lab(&host, ROOT, "overlayfs");
    let path = lab.store.dir(lab.own[0]);
    let databases = [lab.store.meta_db(), format!("{}/metadata.db", lab.store.base())];
    for database in &databases {
        let whole = std::fs::read(host.at(database)).unwrap();
        let mut zeros = whole.clone();
        zeros[2 * 4096..].fill(0);
        for bytes in [&whole[..whole.len() / 2], &whole[..100], &zeros, b""] {
            host.file(database, bytes);
            let (code, told) = outcome(&host, &path);
            assert_eq!((code, &told["status"]), (3, &json!("partial")), "{told:#}");
            assert!(told["file"]["layer"].get("kind").is_none(), "{told:#}");
            assert_eq!(told["gaps"][0]["class"], "malformed", "{told:#}");
            assert!(told["gaps"][0]["path"].as_str().unwrap().ends_with(".db"));
        }
        host.file(database, &whole);
    }
    assert_eq!(answer(&host, &path)["owner"]["id"], "web");
    host.remove(lab.store.meta_db());
    let (code, told) = outcome(&host, &path);
    assert_eq!((code, &told["gaps"][0]["class"]), (3, &json!("gone")), "{told:#}");
    // A link in the place of a database is not followed.
    host.symlink(lab.store.meta_db(), "/etc/passwd");
    assert_eq!(outcome(&host, &path).0, 3);
}

#[test]
fn a_snapshotter_with_a_root_of_its_own_is_half_known() {
    let host = host();
    let lab = lab(&host, ROOT, "stargz");
    let base = "/var/lib/containerd-stargz-grpc/snapshotter";
    let database = std::fs::read(host.at(format!("{}/metadata.db", lab.store.base()))).unwrap();
    host.file(format!("{base}/metadata.db"), database);
    host.dir(format!("{base}/snapshots/{}/fs", lab.own[0]));
    let (code, told) = outcome(&host, &format!("{base}/snapshots/{}/fs", lab.own[0]));
    assert_eq!((code, &told["status"]), (3, &json!("partial")), "{told:#}");
    assert_eq!(told["file"]["layer"]["driver"], "stargz");
    assert!(told.get("owner").is_none() && told["owners"] == json!([]), "{told:#}");
}

/// Writes the tables of a containers/storage store: layers with their parents, and images with their
/// tops.
fn tables(host: &FixtureHost, root: &str, layers: &[(&str, &str)], images: &[(&str, &str)]) {
    let layers: Vec<Value> = layers
        .iter()
        .map(|(id, parent)| {
            let diff = format!("sha256:{}", fake_id(format!("diff of {id}")));
            json!({"id": id, "parent": parent, "diff-digest": diff})
        })
        .collect();
    let images: Vec<Value> = images
        .iter()
        .map(|(name, top)| json!({"id": fake_id(name), "names": [name], "layer": top}))
        .collect();
    host.file(format!("{root}/overlay-layers/layers.json"), Value::from(layers).to_string());
    host.file(format!("{root}/overlay-images/images.json"), Value::from(images).to_string());
}

#[test]
fn layers_of_cri_os_store() {
    for root in ["/var/lib/containers/storage", "/srv/graph"] {
        let host = host();
        host.dir("etc/crio");
        let pod = CrioContainer::sandbox("shop", "demo").graph_root(root);
        let web = pod.container("web").running(4761);
        let api = pod.container("api").running(4762);
        for one in [&pod, &web, &api] {
            host.crio_container(one);
        }
        let [base, app, pause] = ["base", "app", "pause"].map(fake_id);
        let own = |c: &CrioContainer| fake_id(format!("layer of {}", c.id()));
        let [of_pod, of_web, of_api] = [own(&pod), own(&web), own(&api)];
        let layers = [
            (base.as_str(), ""),
            (&app, &base),
            (&pause, ""),
            (&of_pod, &pause),
            (&of_web, &app),
            (&of_api, &app),
        ];
        tables(&host, root, &layers, &[("app:1", &app), ("pause:3", &pause)]);
        for (id, _) in layers {
            host.file(format!("{root}/overlay/{id}/diff/bin/x"), "x");
        }
        let told = answer(&host, &format!("{root}/overlay/{of_web}/diff/bin/x"));
        let owner = &told["owner"];
        assert_eq!([&owner["runtime"], &owner["id"], &owner["name"]], ["cri-o", web.id(), "web"]);
        assert_eq!([&owner["pod"]["namespace"], &owner["pod"]["name"]], ["shop", "demo"]);
        let layer = &told["file"]["layer"];
        assert_eq!(
            [&layer["kind"], &layer["driver"], &told["file"]["role"]],
            ["upper", "overlay", "upper"]
        );
        let merged = format!("{root}/overlay/{of_web}/merged");
        host.dir(&merged);
        assert_eq!(answer(&host, &merged)["file"]["role"], "merged");
        for (id, index, of) in [(&app, 0, 2), (&base, 1, 2)] {
            let told = answer(&host, &format!("{root}/overlay/{id}"));
            let mut both = [web.id(), api.id()];
            both.sort_unstable();
            assert_eq!(ids(&told["owners"]), both, "{told:#}");
            let layer = &told["file"]["layer"];
            assert_eq!([&layer["index"], &layer["of"]], [&json!(index), &json!(of)]);
            assert_eq!([&layer["kind"], &layer["images"]], [&json!("image"), &json!(["app:1"])]);
        }
        let told = answer(&host, &format!("{root}/overlay/{of_pod}"));
        assert_eq!([&told["owner"]["kind"], &told["owner"]["id"]], ["sandbox", pod.id()]);
        host.dir(format!("{root}/overlay/{}/diff", fake_id("lost")));
        let told = answer(&host, &format!("{root}/overlay/{}", fake_id("lost")));
        assert_eq!(told["file"]["layer"]["kind"], "orphan", "{told:#}");
        // A container that has a directory and is in no table: the table is elsewhere.
        host.crio_container(&pod.container("other").untabled());
        let (code, told) = outcome(&host, &format!("{root}/overlay/{}", fake_id("lost")));
        assert_eq!((code, &told["gaps"][0]["class"]), (3, &json!("unsupported")), "{told:#}");
        // The tables must be whole.
        host.file(format!("{root}/overlay-layers/layers.json"), "[{\"id\":");
        let (code, told) = outcome(&host, &format!("{root}/overlay/{of_web}"));
        assert_eq!((code, &told["gaps"][0]["class"]), (3, &json!("malformed")), "{told:#}");
    }
}
