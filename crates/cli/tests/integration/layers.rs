//! Paths and layers, and whose they are.

use serde_json::{Value, json};
use whose_testkit::fixture::{DockerContainer, FixtureHost, LayerStore, StoredImage, fake_id};

use crate::support::{answer, ask, container, host};

/// The lab: `web` and `api` of `app:1`, `db` of `lib:1`; both images stand on one base.
struct Store<'h> {
    layers: LayerStore<'h>,
    app: StoredImage,
    lib: StoredImage,
    ids: [String; 3],
    mounts: [String; 3],
}

fn store(host: &FixtureHost) -> Store<'_> {
    let layers = host.layer_store();
    let app = layers.image(&["base", "libs", "app"]);
    let lib = layers.image(&["base", "libs"]);
    layers.tag("app:1", &app);
    layers.tag("app:latest", &app);
    layers.tag("lib:1", &lib);
    let _ = container(host, "api", 5100);
    let ids = ["web", "api", "db"].map(fake_id);
    let mounts = [(0, &app), (1, &app), (2, &lib)].map(|(n, i)| layers.container(&ids[n], i));
    Store { layers, app, lib, ids, mounts }
}

fn names(owners: &Value) -> Vec<&str> {
    let owners = owners.as_array().unwrap();
    let mut names: Vec<&str> = owners.iter().map(|o| o["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

/// The contract's exit status and status of one target.
fn outcome(host: &FixtureHost, target: &str) -> (i32, Value) {
    let run = ask(host, &["--json", target]);
    (run.code.unwrap(), run.json()["answers"][0].clone())
}

#[test]
fn a_writable_layer_is_its_containers() {
    let host = host();
    let store = store(&host);
    for (n, name) in ["web", "api", "db"].iter().enumerate() {
        let dir = store.layers.files(&store.mounts[n]);
        let told = answer(&host, &format!("{dir}/tmp/written"));
        assert_eq!(told["kind"], "path");
        assert_eq!(told["owner"]["name"], *name, "{told:#}");
        assert_eq!(told["owner"]["id"], store.ids[n].as_str());
        assert_eq!(told["owner"]["state"], "running");
        assert_eq!(names(&told["owners"]), [*name]);
        let file = &told["file"];
        assert_eq!(file["inside"], "/tmp/written");
        assert_eq!(file["host"], format!("{dir}/tmp/written"));
        assert_eq!(file["role"], "upper");
        assert_eq!(file["inode"]["size"], 64);
        let layer = &file["layer"];
        assert_eq!(layer["id"], store.mounts[n].as_str());
        assert_eq!(layer["dir"], dir);
        assert_eq!(layer["driver"], "overlay2");
        assert_eq!(layer["kind"], "upper");
        assert_eq!(layer["owners"], json!([store.ids[n]]));
        assert!(layer.get("index").is_none() && layer.get("chain_id").is_none());
        assert_eq!(told["gaps"], json!([]));
        let evidence = told["evidence"][0].clone();
        assert!(evidence["path"].as_str().unwrap().ends_with("/mount-id"), "{evidence:#}");
        assert!(told["evidence"].as_array().unwrap().iter().all(|e| e["agrees"] == true));
    }
    let dir = store.layers.dir(&store.mounts[0]);
    for (path, role) in [("", Value::Null), ("/diff", json!("upper"))] {
        let told = answer(&host, &format!("{dir}{path}"));
        assert_eq!(told["owner"]["name"], "web");
        assert_eq!(told["file"]["role"], role, "{path}");
    }
}

#[test]
fn an_init_layer_is_the_first_lower() {
    let host = host();
    let store = store(&host);
    let name = format!("{}-init", store.mounts[0]);
    let told = answer(&host, &format!("{}/etc/hosts", store.layers.files(&name)));
    assert_eq!(told["owner"]["name"], "web", "{told:#}");
    let layer = &told["file"]["layer"];
    assert_eq!((layer["kind"].as_str(), layer["index"].as_u64()), (Some("init"), Some(0)));
    assert_eq!(layer["of"], 4);
    assert_eq!(told["file"]["role"], "lower");
    assert_eq!(answer(&host, &format!("layer:{name}"))["file"]["layer"]["kind"], "init");
}

#[test]
fn an_image_layer_has_all_its_images_and_containers() {
    let host = host();
    let store = store(&host);
    let at = |n: usize, word: &str| {
        let told =
            answer(&host, &format!("{}/layer/{word}", store.layers.files(&store.app.caches[n])));
        assert_eq!(told["status"], "found", "{told:#}");
        assert!(told.get("owner").is_none(), "several: {told:#}");
        assert_eq!(told["file"]["layer"]["chain_id"], format!("sha256:{}", store.app.chains[n]));
        told
    };
    let top = at(2, "app");
    assert_eq!(names(&top["owners"]), ["api", "web"]);
    let layer = &top["file"]["layer"];
    assert_eq!(layer["images"], json!(["app:1", "app:latest"]));
    assert_eq!((layer["index"].as_u64(), layer["of"].as_u64()), (Some(1), Some(4)));
    assert_eq!(layer["kind"], "image");
    assert_eq!(layer["diff_id"], format!("sha256:{}", fake_id("diff of app")));
    for (n, word) in [(0, "base"), (1, "libs")] {
        let below = at(n, word);
        assert_eq!(names(&below["owners"]), ["api", "db", "web"]);
        let layer = &below["file"]["layer"];
        assert_eq!(layer["images"], json!(["app:1", "app:latest", "lib:1"]));
        // Its place is not the same in all of them.
        assert!(layer.get("index").is_none(), "{layer:#}");
        assert_eq!(below["file"]["role"], "lower");
    }
    // Every form of the same layer.
    let (chain, cache) = (&store.app.chains[2], &store.app.caches[2]);
    let forms = [
        format!("layer:{cache}"),
        format!("layer:{}", &cache[..12]),
        format!("layer:sha256:{chain}"),
        format!("layer:{chain}"),
        format!("layer:sha256:{}", &fake_id("diff of app")[..20]),
    ];
    for form in forms {
        let told = answer(&host, &form);
        assert_eq!(told["kind"], "layer");
        assert_eq!(told["file"]["layer"], top["file"]["layer"], "{form}");
        assert_eq!(names(&told["owners"]), ["api", "web"]);
        assert_eq!(told["file"]["host"], store.layers.dir(cache));
    }
}

#[test]
fn a_moved_tag_leaves_the_old_image_without_a_name() {
    let host = host();
    let store = store(&host);
    let new = store.layers.image(&["base", "libs", "app2"]);
    store.layers.tag("app:1", &new);
    store.layers.tag("app:latest", &new);
    let told = answer(&host, &store.layers.files(&store.app.caches[2]));
    assert_eq!(told["file"]["layer"]["images"], json!([format!("sha256:{}", store.app.id)]));
    assert_eq!(names(&told["owners"]), ["api", "web"]);
    let shared = answer(&host, &store.layers.files(&store.app.caches[1]));
    let images = &shared["file"]["layer"]["images"];
    let old = format!("sha256:{}", store.app.id);
    assert_eq!(*images, json!(["app:1", "app:latest", "lib:1", old]));
    let idle = answer(&host, &store.layers.files(&new.caches[2]));
    assert_eq!(idle["owners"], json!([]));
    assert_eq!(idle["file"]["layer"]["kind"], "image");
}

#[test]
fn builds_leave_steps() {
    let host = host();
    let store = store(&host);
    // The older builder: an image without a name that another was built on.
    let step = store.layers.image(&["base", "libs", "step"]);
    let broken = store.layers.image(&["base", "libs", "step", "next"]);
    store.layers.built_on(&broken, &step);
    let told = answer(&host, &store.layers.files(&step.caches[2]));
    assert_eq!(told["file"]["layer"]["kind"], "build-cache", "{told:#}");
    // Its tip was built on nothing further: an image whose tag may have moved.
    let told = answer(&host, &store.layers.files(&broken.caches[3]));
    assert_eq!(told["file"]["layer"]["kind"], "image", "{told:#}");
    // BuildKit: a directory that its own database names, and a layer of the table that it made.
    let name = "mvylmwno7au64ylrz58qvx4g5";
    host.file(format!("{}/x", store.layers.files(name)), "");
    host.file("var/lib/docker/buildkit/snapshots.db", format!("\0\x01committed{name}\0"));
    let told = answer(&host, &store.layers.files(name));
    assert_eq!(told["file"]["layer"]["kind"], "build-cache", "{told:#}");
    assert_eq!(told["owners"], json!([]));
    assert_eq!(outcome(&host, &store.layers.dir("junk")).0, 1);
    host.dir(store.layers.dir("junk"));
    assert_eq!(answer(&host, &store.layers.dir("junk"))["file"]["layer"]["kind"], "orphan");
}

#[test]
fn an_orphan_is_said_only_after_a_complete_read() {
    let host = host();
    let store = store(&host);
    let lost = fake_id("lost");
    host.file(format!("{}/x", store.layers.files(&lost)), "");
    let (code, told) = outcome(&host, &store.layers.files(&lost));
    assert_eq!((code, told["status"].as_str()), (0, Some("found")), "{told:#}");
    assert_eq!(told["file"]["layer"]["kind"], "orphan");
    assert_eq!(told["owners"], json!([]));
    assert!(told.get("owner").is_none());
    let card = ask(&host, &[&store.layers.dir(&lost)]).expect_code(0).stdout_str();
    assert!(card.contains("orphan") && !card.contains("under way"), "{card}");
    // While something is being added the card says so.
    host.dir(store.layers.db("tmp/write-set-1"));
    let card = ask(&host, &[&store.layers.dir(&lost)]).expect_code(0).stdout_str();
    assert!(card.contains("under way"), "{card}");
    // A table that can't be read proves nothing.
    let mount = store.layers.db(&format!("mounts/{}/mount-id", store.ids[2]));
    let chain = store.layers.db(&format!("sha256/{}/cache-id", store.app.chains[1]));
    for file in [&mount, &chain] {
        let whole = std::fs::read(host.at(file)).unwrap();
        for bad in ["", "../../../etc", "a/b"] {
            host.file(file, bad);
            let (code, told) = outcome(&host, &store.layers.files(&lost));
            assert_eq!((code, told["status"].as_str()), (3, Some("partial")), "{told:#}");
            assert!(told["file"]["layer"].get("kind").is_none(), "{told:#}");
            assert_eq!(told["gaps"][0]["what"], "layers of an engine");
        }
        host.remove(file);
        assert_eq!(outcome(&host, &store.layers.files(&lost)).0, 3);
        host.symlink(file, "/etc/passwd");
        assert_eq!(outcome(&host, &store.layers.files(&lost)).0, 3);
        host.fifo(file);
        assert_eq!(outcome(&host, &store.layers.files(&lost)).0, 3);
        host.remove(file).sparse(file, 1 << 40);
        assert_eq!(outcome(&host, &store.layers.files(&lost)).0, 3);
        host.remove(file).file(file, whole);
    }
    // Nor does a database of BuildKit's that can't be.
    host.fifo("var/lib/docker/buildkit/snapshots.db");
    assert_eq!(outcome(&host, &store.layers.files(&lost)).0, 3);
}

#[test]
fn names_of_layers_being_removed() {
    let host = host();
    let store = store(&host);
    let lost = fake_id("lost");
    host.dir(store.layers.files(&lost));
    host.file(store.layers.db(&format!("sha256/{}-5-removing/cache-id", fake_id("c"))), &lost);
    assert_eq!(answer(&host, &store.layers.dir(&lost))["file"]["layer"]["kind"], "removing");
    let renamed = format!("{}-removing", fake_id("other"));
    host.dir(store.layers.dir(&renamed));
    assert_eq!(answer(&host, &store.layers.dir(&renamed))["file"]["layer"]["kind"], "removing");
    // A directory of the table that is being removed names no container.
    host.file(store.layers.db("mounts/junk-removing/mount-id"), "");
    assert_eq!(answer(&host, &store.layers.dir(&lost))["status"], "found");
}

#[test]
fn broken_chains_are_gaps_and_no_loops() {
    let host = host();
    let store = store(&host);
    let parent = |n: usize| store.layers.db(&format!("sha256/{}/parent", store.app.chains[n]));
    let top = store.layers.files(&store.app.caches[2]);
    // A circle below the layer: which images have it can't be told.
    let whole = std::fs::read(host.at(parent(1))).unwrap();
    host.file(parent(1), format!("sha256:{}", store.app.chains[2]));
    let (code, told) = outcome(&host, &top);
    assert_eq!((code, told["status"].as_str()), (3, Some("partial")), "{told:#}");
    // A parent that is not there.
    host.file(parent(1), format!("sha256:{}", fake_id("nowhere")));
    let (code, told) = outcome(&host, &top);
    assert_eq!(code, 3, "{told:#}");
    assert_eq!(told["gaps"][0]["class"], "gone");
    // Its own containers are known all the same.
    assert_eq!(names(&told["owners"]), ["api", "web"]);
    host.file(parent(1), whole);
    assert_eq!(outcome(&host, &top).0, 0);
    // An image whose configuration is cut short may have it too.
    host.file(store.layers.image_file(&store.lib.id), "{\"rootfs\":");
    let (code, told) = outcome(&host, &top);
    assert_eq!((code, told["file"]["layer"]["kind"].as_str()), (3, Some("image")), "{told:#}");
    assert_eq!(told["file"]["layer"]["images"], json!(["app:1", "app:latest"]));
}

#[test]
fn links_are_followed_on_the_host_and_not_in_a_layer() {
    let host = host();
    let store = store(&host);
    let dir = store.layers.dir(&store.mounts[0]);
    let short = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    host.symlink(
        format!("var/lib/docker/overlay2/l/{short}"),
        format!("../{}/diff", store.mounts[0]),
    );
    host.symlink("srv/mine", &dir);
    for path in [
        format!("/var/lib/docker/overlay2/l/{short}/tmp/written"),
        format!("/var/lib/docker/overlay2/l/{short}/../diff/tmp/./written"),
        "/srv/mine/diff/tmp/written".to_owned(),
        format!("/srv//./mine/../{}/diff//tmp/written", store.mounts[0]),
    ] {
        let told = answer(&host, &path);
        assert_eq!(told["file"]["host"], format!("{dir}/diff/tmp/written"), "{path}");
        assert_eq!(told["owner"]["name"], "web");
    }
    // What a container links to is not the host's file of that name.
    host.symlink(format!("{dir}/diff/sh"), "/etc/passwd").symlink(format!("{dir}/diff/up"), "/etc");
    for inside in ["/sh", "/up/passwd"] {
        let told = answer(&host, &format!("{dir}/diff{inside}"));
        assert_eq!(told["file"]["inside"], inside, "{told:#}");
        assert_eq!(told["owner"]["name"], "web");
        assert!(told["file"].get("inode").is_none(), "{told:#}");
    }
    assert_eq!(outcome(&host, &format!("{dir}/diff/up/../tmp/written")).0, 3);
    host.symlink("loop", "/loop");
    assert_eq!(outcome(&host, "/loop/x").0, 3);
}

#[test]
fn a_decoy_store_in_a_layer_is_its_containers() {
    let host = host();
    let store = store(&host);
    let decoy = format!("{}/x", store.layers.files(&store.mounts[2]));
    let inner = host.layer_store_at(&decoy, "overlay2");
    let image = inner.image(&["base"]);
    let fake = inner.container(&store.ids[0], &image);
    let told = answer(&host, &inner.files(&fake));
    assert_eq!(told["owner"]["name"], "db", "the outermost store counts: {told:#}");
    // In a volume there is no outer layer: names come from that engine's own files.
    let volume = "/var/lib/docker/volumes/v/_data";
    let inner = host.layer_store_at(volume, "overlay2");
    let image = inner.image(&["base"]);
    let fake = inner.container(&store.ids[0], &image);
    let (code, told) = outcome(&host, &inner.files(&fake));
    assert_eq!(code, 0, "{told:#}");
    assert_eq!(told["owner"]["id"], store.ids[0].as_str());
    assert!(told["owner"]["name"].is_null(), "no victim's name: {told:#}");
    assert!(told["owner"].get("state").is_none(), "{told:#}");
    let card = ask(&host, &[&inner.files(&fake)]).stdout_str();
    assert!(card.contains("in a volume of the engine at /var/lib/docker"), "{card}");
    ask(&host, &["pids", &inner.files(&fake)]).expect_code(1);
    host.docker_container(
        &DockerContainer::named("inner").with_id(&store.ids[0]).data_root(volume),
    );
    assert_eq!(answer(&host, &inner.files(&fake))["owner"]["name"], "inner");
}

#[test]
fn what_is_nobodys_and_what_is_not_there() {
    let host = host();
    let store = store(&host);
    let told = answer(&host, "/etc/passwd");
    assert_eq!((told["kind"].as_str(), told["status"].as_str()), (Some("path"), Some("found")));
    assert_eq!(told["owners"], json!([]));
    assert!(told.get("owner").is_none() && told["file"].get("layer").is_none());
    assert_eq!(told["file"]["host"], "/etc/passwd");
    for path in ["/no/such/file", "/var/lib/docker/overlay2/nope/diff", "/etc/passwd/x"] {
        let run = ask(&host, &[path]).expect_code(1);
        assert_eq!(run.stdout_str(), "");
        assert_eq!(run.stderr_str(), format!("whose: no file {path}\n"));
    }
    let gone = format!("{}/no/such", store.layers.files(&store.mounts[0]));
    ask(&host, &[&gone]).expect_code(1);
    let run = ask(&host, &["layer:0123456789ab"]).expect_code(1);
    assert_eq!(run.stderr_str(), "whose: no layer layer:0123456789ab\n");
    for bad in ["layer:0123", "layer:", "layer:../../../../etc", "path:etc", "path:"] {
        ask(&host, &[bad]).expect_code(2);
    }
    for path in ["/", "//", "/.", "/.."] {
        assert_eq!(answer(&host, path)["file"]["host"], "/");
    }
    ask(&host, &[&format!("/{}", "x/".repeat(2500))]).expect_code(3);
}

#[test]
fn a_containers_own_directory_and_a_volume() {
    let host = host();
    let store = store(&host);
    let dir = format!("/var/lib/docker/containers/{}", store.ids[2]);
    for path in [dir.clone(), format!("{dir}/config.v2.json"), format!("{dir}/hosts")] {
        let told = answer(&host, &path);
        assert_eq!(told["owner"]["name"], "db", "{told:#}");
        assert_eq!(names(&told["owners"]), ["db"]);
    }
    host.dir(format!("/var/lib/docker/containers/{}", fake_id("nobody")));
    let told = answer(&host, &format!("/var/lib/docker/containers/{}", fake_id("nobody")));
    assert_eq!(told["owners"], json!([]));
}

#[test]
fn a_volume_is_of_all_that_have_it() {
    let host = host();
    let _store = store(&host);
    for (name, volume) in [("one", "data"), ("two", "data"), ("other", "data2")] {
        host.docker_container(&DockerContainer::named(name).volume(volume, "/data").exited(0));
    }
    for volume in ["data", "data2", "unused"] {
        host.file(format!("var/lib/docker/volumes/{volume}/_data/x"), "");
    }
    for target in
        ["/var/lib/docker/volumes/data/_data/x", "/var/lib/docker/volumes/data", "volume:data"]
    {
        let told = answer(&host, target);
        assert_eq!(names(&told["owners"]), ["one", "two"], "{told:#}");
        assert_eq!((&told["file"]["role"], told.get("owner")), (&json!("volume"), None));
    }
    let told = answer(&host, "volume:data");
    assert_eq!(told["file"]["host"], "/var/lib/docker/volumes/data/_data");
    assert_eq!(names(&answer(&host, "volume:data2")["owners"]), ["other"]);
    assert_eq!(answer(&host, "volume:unused")["owners"], json!([]));
    assert_eq!(outcome(&host, "volume:dat").0, 1);
    for bad in ["volume:", "volume:../data", "volume:a/b"] {
        ask(&host, &[bad]).expect_code(2);
    }
    ask(&host, &["pids", "volume:data"]).expect_code(1);
    // Who can't be read may have it.
    host.file(format!("{}/config.v2.json", DockerContainer::named("other").dir()), "{\"data\"");
    let (code, told) = outcome(&host, "volume:data");
    assert_eq!((code, names(&told["owners"])), (3, vec!["one", "two"]), "{told:#}");
    assert_eq!(told["gaps"][0]["what"], "containers of a volume", "{told:#}");
}

#[test]
fn a_prefix_of_two_layers_is_ambiguous() {
    let host = host();
    let store = store(&host);
    let twins = ["a", "b"].map(|end| format!("0123456789abc{end}"));
    for twin in &twins {
        host.dir(store.layers.files(twin));
    }
    let (code, told) = outcome(&host, "layer:0123456789ab");
    assert_eq!((code, told["status"].as_str()), (4, Some("ambiguous")), "{told:#}");
    let candidates: Vec<&str> =
        told["candidates"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    assert_eq!(candidates, twins.each_ref().map(|t| store.layers.dir(t)));
    for (candidate, twin) in candidates.iter().zip(&twins) {
        assert_eq!(answer(&host, candidate)["file"]["layer"]["id"], twin.as_str());
    }
    // The beginning of a container's layer is also that of its init layer.
    let told = answer(&host, &format!("layer:{}", &store.mounts[0][..14]));
    assert_eq!(told["file"]["layer"]["kind"], "upper");
}

#[test]
fn every_driver_and_a_moved_data_root() {
    let host = host();
    for driver in ["vfs", "btrfs", "fuse-overlayfs"] {
        let root = format!("/srv/{driver}");
        let layers = host.layer_store_at(&root, driver);
        let image = layers.image(&["base", "top"]);
        layers.tag("app:1", &image);
        let own = DockerContainer::named(driver).data_root(&root).driver(driver).exited(0);
        host.docker_container(&own);
        let mount = layers.container(own.id(), &image);
        let told = answer(&host, &format!("{}/tmp/written", layers.files(&mount)));
        assert_eq!(told["owner"]["name"], driver, "{told:#}");
        assert_eq!(told["owner"]["state"], "exited");
        assert_eq!(told["file"]["inside"], "/tmp/written");
        let told = answer(&host, &format!("{}/layer/base", layers.files(&image.caches[0])));
        assert_eq!(names(&told["owners"]), [driver]);
        let layer = &told["file"]["layer"];
        assert_eq!(
            (layer["kind"].as_str(), layer["driver"].as_str()),
            (Some("image"), Some(driver))
        );
        let stacked = driver == "fuse-overlayfs";
        assert_eq!(layer["index"].as_u64(), stacked.then_some(2), "{layer:#}");
        assert_eq!(told["file"]["role"], if stacked { "fuse-layer" } else { "direct" });
    }
    // By name only a root that something tells of is searched.
    ask(&host, &[&format!("layer:{}", fake_id("cache of base top"))]).expect_code(1);
    host.file("etc/docker/daemon.json", "{\"data-root\":\"/srv/vfs\"}");
    ask(&host, &[&format!("layer:{}", fake_id("cache of base top"))]).expect_code(0);
}

#[test]
fn the_plain_forms() {
    let host = host();
    let store = store(&host);
    let upper = store.layers.dir(&store.mounts[0]);
    let shared = store.layers.dir(&store.app.caches[2]);
    let orphan = store.layers.dir("junk");
    host.dir(&orphan);
    assert_eq!(
        ask(&host, &["-q", &upper]).expect_code(0).stdout_str(),
        format!("{}\n", store.ids[0])
    );
    let both = ask(&host, &["-q", &shared]).expect_code(0).stdout_str();
    assert_eq!(both.lines().count(), 2, "{both}");
    ask(&host, &["-q", &orphan]).expect_code(1);
    assert_eq!(ask(&host, &["pids", &upper]).expect_code(0).pids(), [4761, 4770]);
    ask(&host, &["pids", &shared]).expect_code(1);
    ask(&host, &["--in-container", &upper]).expect_code(0);
    ask(&host, &["--in-container", &shared]).expect_code(0);
    ask(&host, &["--in-container", &orphan]).expect_code(3);
    let csv = ask(&host, &["--format", "csv", "-o", "owner", "--no-headers", &shared]).stdout_str();
    let mut owners: Vec<&str> = csv.lines().collect();
    owners.sort_unstable();
    assert_eq!(owners, ["api", "web"]);
    let why = ask(&host, &["--why", &upper]).expect_code(0).stdout_str();
    assert!(why.contains("state-file: the writable layer of"), "{why}");
    let card = ask(&host, &[&shared]).expect_code(0).stdout_str();
    for part in ["an image layer   lower 2 of 4", "app:1  app:latest", "used by", "layerdb/sha256/"]
    {
        assert!(card.contains(part), "{part}: {card}");
    }
}

#[test]
fn hostile_names_stay_on_their_line() {
    let host = host();
    let store = store(&host);
    let name = "a\nowner: root\x1b[31m";
    host.file(format!("{}/{name}", store.layers.files(&store.mounts[0])), "");
    let path = format!("{}/{name}", store.layers.files(&store.mounts[0]));
    let card = ask(&host, &[&path]).expect_code(0).stdout_str();
    assert!(!card.contains('\x1b') && card.contains("a\\nowner: root\\x1b[31m"), "{card}");
    assert_eq!(answer(&host, &path)["owner"]["name"], "web");
}
