//! Files of containers on drivers that few kernels have: aufs, zfs and devicemapper. A saved tree that holds the layers
//! answers as the disk of a host does.

use serde_json::{Value, json};
use whose_testkit::fixture::{CgroupLayout, DockerContainer, FixtureHost, SnapshotKind, fake_id};

use crate::support::{answer, ask};

const HOST: &str = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n";

fn host(mounts: &str) -> FixtureHost {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    let own = host.path().join("proc/self/mountinfo");
    let more = std::fs::read_to_string(&own).unwrap();
    host.file("proc/self/mountinfo", format!("{mounts}{more}"));
    host
}

fn code(host: &FixtureHost, target: &str) -> (i32, String, String) {
    let run = ask(host, &["path", target]);
    (run.code.unwrap(), run.stdout_str(), run.stderr_str())
}

/// `web`, which has ended, of an image of two layers; its writable layer and those of the image, lowest first.
fn web(host: &FixtureHost, driver: &str) -> (String, String, Vec<String>) {
    let web = DockerContainer::named("web").driver(driver).exited(0);
    host.docker_container(&web);
    let store = host.layer_store_at("/var/lib/docker", driver);
    let image = store.image(&["base", "app"]);
    store.tag("app:1", &image);
    let upper = store.container(web.id(), &image);
    let files = image.caches.iter().map(|name| store.files(name)).collect();
    (store.files(&upper), store.files(&format!("{upper}-init")), files)
}

#[test]
fn a_stopped_containers_files_on_aufs() {
    let host = host(HOST);
    let (upper, init, image) = web(&host, "aufs");
    let (base, app) = (&image[0], &image[1]);
    for (dir, name) in [
        (base, "t/plain"),
        (base, "t/gone"),
        (base, "t/again"),
        (base, "t/dir/below"),
        (base, "old/below"),
        (app, "t/app"),
        (app, "t/dir/app"),
        (&init, "t/init"),
        (&upper, "t/again"),
        (&upper, "old/new"),
        (&upper, "t/dir/own"),
    ] {
        host.file(format!("{dir}/{name}"), name);
    }
    for mark in ["t/.wh.gone", "t/.wh.again2", "old/.wh..wh..opq", ".wh..wh.aufs"] {
        host.file(format!("{upper}/{mark}"), "");
    }
    host.dir(format!("{upper}/.wh..wh.plnk"));
    for (path, dir, role, index) in [
        ("/t/plain", base, "lower", json!(2)),
        ("/t/app", app, "lower", json!(1)),
        ("/t/again", &upper, "upper", Value::Null),
        ("/old/new", &upper, "upper", Value::Null),
        ("/t/init", &init, "lower", json!(0)),
    ] {
        let told = answer(&host, &format!("web:{path}"));
        assert_eq!(told["status"], "found", "{path}: {told:#}");
        let file = &told["file"];
        let expected = format!("{dir}{path}");
        assert_eq!([&file["host"], &file["role"]], [expected.as_str(), role], "{file:#}");
        assert_eq!([&file["verified"], &file["layer"]["driver"]], ["layers", "aufs"], "{file:#}");
        assert_eq!(file["layer"]["index"], index, "{file:#}");
        assert_eq!(code(&host, &format!("web:{path}")).1, format!("{expected}\n"));
        // And back.
        let back = answer(&host, &expected);
        assert_eq!([&back["file"]["inside"], &back["file"]["role"]], [path, role], "{back:#}");
        assert_eq!(back["owners"][0]["name"], "web", "{back:#}");
        let back = code(&host, &expected);
        assert_eq!((back.0, back.1.as_str()), (0, format!("web:{path}\n").as_str()), "{back:?}");
    }
    // What marks hide, and the marks themselves.
    for none in ["/t/gone", "/old/below", "/t/.wh.gone", "/.wh..wh.aufs", "/old/.wh..wh..opq"] {
        let (code, out, err) = code(&host, &format!("web:{none}"));
        assert_eq!((code, out.as_str()), (1, ""), "{none}: {err}");
    }
    // A directory that is merged is in each of its layers.
    let told = answer(&host, "web:/t/dir");
    let parts = [&upper, app, base].map(|dir| format!("{dir}/t/dir"));
    assert_eq!(told["file"]["candidates"], json!(parts), "{told:#}");
    assert_eq!(told["file"]["why"], "aufs merges this directory from 3 layers");
    // The view of it all is the container's.
    let view = upper.replace("/diff/", "/mnt/");
    host.file(format!("{view}/t/plain"), "");
    let told = answer(&host, &format!("{view}/t/plain"));
    assert_eq!([&told["file"]["role"], &told["owner"]["name"]], ["merged", "web"], "{told:#}");
}

#[test]
fn aufs_keeps_copies_of_files_with_several_names_elsewhere() {
    let host = host(HOST);
    let (upper, _, image) = web(&host, "aufs");
    host.file(format!("{}/t/one", image[0]), "x");
    let on_disk = |path: &str| host.path().join(path.trim_start_matches('/'));
    let one = on_disk(&format!("{}/t/one", image[0]));
    std::fs::hard_link(&one, one.with_file_name("two")).unwrap();
    assert_eq!(code(&host, "web:/t/one").0, 0);
    host.dir(format!("{upper}/.wh..wh.plnk"));
    assert_eq!(code(&host, "web:/t/one").0, 0);
    host.file(format!("{upper}/.wh..wh.plnk/17.4711"), "changed");
    let (code, out, err) = code(&host, "web:/t/one");
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(err.contains("a copy that aufs keeps under another name"), "{err}");
}

#[test]
fn a_layer_of_aufs_that_is_not_there() {
    let host = host(HOST);
    let (_, _, image) = web(&host, "aufs");
    std::fs::remove_dir_all(host.path().join(image[0].trim_start_matches('/'))).unwrap();
    let (code, out, err) = code(&host, "web:/t/app");
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(err.contains("one of its layers is not there"), "{err}");
}

/// The contract's exit status, and the gap about the layers.
fn gap(host: &FixtureHost, target: &str) -> (i32, Value) {
    let run = ask(host, &["--json", target]);
    let told = run.json()["answers"][0].clone();
    assert_eq!(told["status"], "partial", "{told:#}");
    assert!(told["file"]["host"].is_null(), "{told:#}");
    (run.code.unwrap(), told["gaps"][0].clone())
}

#[test]
fn a_dataset_that_is_not_mounted_is_named() {
    let data = "22 21 0:40 / /var/lib/docker rw - zfs tank/docker rw\n";
    for (mounts, above) in [(HOST.to_owned(), "..."), (format!("{HOST}{data}"), "tank/docker")] {
        let host = host(&mounts);
        let (upper, _, _) = web(&host, "zfs");
        let name = upper.rsplit('/').next().unwrap();
        let (code, gap) = gap(&host, "web:/tmp/written");
        assert_eq!(code, 3);
        assert_eq!(
            [&gap["class"], &gap["path"]],
            ["unsupported", format!("{above}/{name}").as_str()]
        );
        assert!(gap["cause"].as_str().unwrap().contains("dataset"), "{gap}");
        // The path alone says whose it is, mounted or not.
        assert_eq!(answer(&host, &upper)["owner"]["name"], "web");
    }
}

#[test]
fn a_dataset_that_is_mounted_holds_the_files() {
    let name = fake_id(format!("mount of {}", fake_id("web")));
    let point = format!("/var/lib/docker/zfs/graph/{name}");
    let host = host(&format!("{HOST}23 21 0:41 / {point} rw - zfs tank/docker/{name} rw\n"));
    let (upper, _, _) = web(&host, "zfs");
    assert_eq!(upper, point);
    let told = answer(&host, "web:/tmp/written");
    let file = &told["file"];
    assert_eq!(file["host"], format!("{point}/tmp/written"), "{told:#}");
    assert_eq!([&file["role"], &file["verified"]], ["direct", "layers"], "{file:#}");
    assert_eq!([&file["layer"]["id"], &file["layer"]["driver"]], [name.as_str(), "zfs"]);
    assert_eq!(code(&host, &format!("{point}/tmp/written")).1, "web:/tmp/written\n");
}

#[test]
fn a_device_is_named_or_holds_the_files() {
    let plain = host(HOST);
    let (upper, _, _) = web(&plain, "devicemapper");
    let name = upper.split('/').rev().nth(1).unwrap().to_owned();
    let (status, told) = gap(&plain, "web:/tmp/written");
    assert_eq!(status, 3);
    let path = told["path"].as_str().unwrap();
    assert!(
        path.starts_with("/dev/mapper/docker-") && path.ends_with(&format!("-{name}")),
        "{path}"
    );
    assert!(told["cause"].as_str().unwrap().contains("device"), "{told}");
    let point = format!("/var/lib/docker/devicemapper/mnt/{name}");
    let line = format!("23 21 253:3 / {point} rw - xfs /dev/mapper/docker-8:1-4711-{name} rw\n");
    let mounted = host(&format!("{HOST}{line}"));
    web(&mounted, "devicemapper");
    let told = answer(&mounted, "web:/tmp/written");
    let file = &told["file"];
    assert_eq!(file["host"], format!("{point}/rootfs/tmp/written"), "{told:#}");
    assert_eq!([&file["layer"]["id"], &file["role"]], [name.as_str(), "direct"], "{file:#}");
    assert_eq!(code(&mounted, &format!("{point}/rootfs/tmp/written")).1, "web:/tmp/written\n");
}

#[test]
fn snapshots_of_containerd_without_a_directory() {
    let above =
        "22 21 0:40 / /var/lib/containerd/io.containerd.snapshotter.v1.zfs rw - zfs tank/c rw\n";
    for (snapshotter, name) in [("zfs", "tank/c/"), ("devmapper", "/dev/mapper/pool-snap-")] {
        let point = "/run/elsewhere/rootfs";
        let lines = |number: u64| {
            let source = match snapshotter {
                "zfs" => format!("zfs tank/c/{number}"),
                _ => format!("ext4 /dev/mapper/pool-snap-{number}"),
            };
            format!("{HOST}{above}23 21 0:41 / {point} rw - {source} rw\n")
        };
        let store_on = |host: &FixtureHost| {
            let store = host.snapshot_store("/var/lib/containerd", snapshotter);
            store.snapshot("default", "base", SnapshotKind::Committed, "");
            let number = store.container_on("default", "web", "app:1", "base");
            store.spec("default", "web", r#"{"mounts": []}"#);
            store.write();
            let base = format!("{}/snapshots", store.base());
            std::fs::remove_dir_all(host.path().join(base.trim_start_matches('/'))).ok();
            if snapshotter == "devmapper" {
                host.file(format!("{}/pool.db", store.base()), "");
            }
            number
        };
        let unmounted = host(&format!("{HOST}{above}"));
        let number = store_on(&unmounted);
        let (status, told) = gap(&unmounted, "web:/t/file");
        assert_eq!((status, told["path"].as_str()), (3, Some(format!("{name}{number}").as_str())));
        // Another one's of this number, and a server of a user's that is called as this one.
        for source in [
            format!("ext4 /dev/mapper/other-pool-snap-{number}"),
            format!("zfs tank/other/{number}"),
            format!("fuse.x {name}{number}"),
        ] {
            let lines = format!("{HOST}{above}23 21 0:41 / {point} rw - {source} rw\n");
            let others = host(&lines);
            store_on(&others);
            others.file(format!("{point}/t/file"), "");
            assert_eq!(gap(&others, "web:/t/file").0, 3, "{source}");
        }
        let mounted = host(&lines(number));
        store_on(&mounted);
        mounted.file(format!("{point}/t/file"), "");
        let told = answer(&mounted, "web:/t/file");
        let file = &told["file"];
        assert_eq!(file["host"], format!("{point}/t/file"), "{told:#}");
        assert_eq!(
            [&file["layer"]["id"], &file["layer"]["driver"]],
            [&number.to_string(), snapshotter]
        );
    }
}
