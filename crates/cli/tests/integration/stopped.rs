//! Files of containers that do not run: containerd's, CRI's and CRI-O's, to the host and back. A saved tree that holds the
//! layers answers as the disk of a host does.

use serde_json::{Value, json};
use whose_testkit::fixture::{CgroupLayout, CrioContainer, FixtureHost, TaskBundle, fake_id};

use crate::support::{answer, ask};

const ROOT: &str = "/var/lib/containerd";
const APP: [&str; 3] = ["base", "libs", "app"];
const SPEC: &str = r#"{"ociVersion": "1.2.0", "mounts": [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/t", "type": "tmpfs", "source": "tmpfs"},
    {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind"]}]}"#;

fn host() -> FixtureHost {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    let own = host.path().join("proc/self/mountinfo");
    let more = std::fs::read_to_string(&own).unwrap();
    host.file("proc/self/mountinfo", format!("21 1 8:1 / / rw - ext4 /dev/sda1 rw\n{more}"));
    host.file("/srv/data/file", "").file("/srv/data/below/file", "");
    host
}

fn path(host: &FixtureHost, target: &str) -> (i32, String, String) {
    let run = ask(host, &["path", target]);
    (run.code.unwrap(), run.stdout_str(), run.stderr_str())
}

/// That the file at a path in the container is this one of the host, and that this leads back.
fn both_ways(host: &FixtureHost, of: (&str, &str), inside: &str, file: &str, role: &str) -> Value {
    let (target, name) = of;
    let target = format!("{target}:{inside}");
    let told = answer(host, &target);
    assert_eq!(told["status"], "found", "{target}: {told:#}");
    assert_eq!([&told["file"]["host"], &told["file"]["role"]], [file, role], "{told:#}");
    assert_eq!(told["file"]["verified"], "layers", "{told:#}");
    assert_eq!(path(host, &target).1, format!("{file}\n"), "{target}");
    let (code, out, err) = path(host, file);
    assert_eq!(code, 0, "{file}: {err}");
    assert!(out.lines().any(|line| line == format!("{name}:{inside}")), "{file}: {out}{err}");
    told["file"]["layer"].clone()
}

/// What no file of the host is.
fn none(host: &FixtureHost, target: &str) {
    let (code, out, err) = path(host, target);
    assert_eq!((code, out.as_str()), (1, ""), "{target}: {err}");
}

/// That what lies below a mount is its container's, in no place that it shows.
fn covered(host: &FixtureHost, file: &str) {
    let (code, out, err) = path(host, file);
    assert_eq!((code, out.as_str()), (1, ""), "{file}: {err}");
    assert!(err.contains("in no place that they show"), "{err}");
}

#[test]
fn of_containerd_on_every_driver_of_directories() {
    for snapshotter in ["overlayfs", "fuse-overlayfs", "native", "btrfs"] {
        let host = host();
        let store = host.snapshot_store(ROOT, snapshotter);
        let image = store.image("default", "app:1", &APP);
        let own = store.container("default", "web", "app:1", &APP);
        store.spec("default", "web", SPEC);
        store.write();
        let upper = match snapshotter {
            "btrfs" => format!("{}/active/{own}", store.base()),
            _ => store.files(own),
        };
        let base = store.files(image[0]);
        let (stacks, by_program) = match snapshotter {
            "overlayfs" => (true, false),
            "fuse-overlayfs" => (true, true),
            _ => (false, false),
        };
        for name in ["etc/own", "data/file", "t/file", "link/x"] {
            host.file(format!("{upper}/{name}"), name);
        }
        host.file(format!("{base}/bin/tool"), "").file(format!("{base}/bin/gone"), "");
        let role = |role: &'static str| match (stacks, by_program) {
            (false, _) => "direct",
            (true, true) => "fuse-layer",
            (true, false) => role,
        };
        let web = ("web", "web");
        let file = format!("{upper}/etc/own");
        let layer = both_ways(&host, web, "/etc/own", &file, role("upper"));
        assert_eq!([&layer["id"], &layer["driver"]], [&own.to_string(), snapshotter], "{layer:#}");
        if stacks {
            let file = format!("{base}/bin/tool");
            let layer = both_ways(&host, web, "/bin/tool", &file, role("lower"));
            assert_eq!([&layer["index"], &layer["of"]], [&json!(2), &json!(3)], "{layer:#}");
            // Each layer of the fixture has a file in this one.
            let told = answer(&host, "web:/from");
            assert_eq!(told["file"]["candidates"].as_array().unwrap().len(), 4, "{told:#}");
        } else {
            // All of a container's files are in its own directory.
            none(&host, "web:/bin/tool");
        }
        if by_program {
            host.file(format!("{upper}/bin/.wh.gone"), "");
            none(&host, "web:/bin/gone");
            covered(&host, &format!("{base}/bin/gone"));
        }
        // What is mounted lies over them all.
        for name in ["/data/file", "/data/below/file"] {
            let file = format!("/srv{name}");
            assert_eq!(path(&host, &format!("web:{name}")).1, format!("{file}\n"));
        }
        for name in ["web:/data/none", "web:/t/file", "web:/proc/uptime", "web:/etc/own/x"] {
            none(&host, name);
        }
        for name in ["data/file", "t/file"] {
            covered(&host, &format!("{upper}/{name}"));
        }
    }
}

#[test]
fn of_cri() {
    let host = host();
    let store = host.snapshot_store(ROOT, "overlayfs");
    let image = store.image("k8s.io", "docker.io/library/app:1", &APP);
    let (pause, id) = (fake_id("sandbox"), fake_id("job"));
    let own = store.container("k8s.io", &id, "docker.io/library/app:1", &APP);
    store.spec("k8s.io", &id, SPEC);
    store.write();
    let pod = ("shop", "demo", "3d4e5f60-1111-4555-8666-777788889999");
    let ended = TaskBundle::in_pod(&id, 77, pod, &pause, "job").status(1_000_000, 2, 3);
    host.task_bundle(&ended.without_task());
    let (upper, base) = (store.files(own), store.files(image[0]));
    host.file(format!("{upper}/etc/own"), "").file(format!("{base}/bin/tool"), "");
    host.file(format!("{upper}/data/file"), "");
    let of = (id.as_str(), id.as_str());
    let _ = both_ways(&host, of, "/etc/own", &format!("{upper}/etc/own"), "upper");
    let _ = both_ways(&host, of, "/bin/tool", &format!("{base}/bin/tool"), "lower");
    assert_eq!(path(&host, &format!("{id}:/data/file")).1, "/srv/data/file\n");
    covered(&host, &format!("{upper}/data/file"));
    let told = answer(&host, &format!("{id}:/etc/own"));
    assert_eq!([&told["owner"]["id"], &told["owner"]["state"]], [&id, "exited"], "{told:#}");
}

#[test]
fn without_a_configuration_nothing_is_said() {
    let host = host();
    let store = host.snapshot_store(ROOT, "overlayfs");
    store.image("default", "app:1", &APP);
    let own = store.container("default", "web", "app:1", &APP);
    store.write();
    let file = format!("{}/etc/own", store.files(own));
    host.file(&file, "");
    // What might be mounted over it is not known.
    for target in ["web:/etc/own", &file] {
        let (code, out, err) = path(&host, target);
        assert_eq!((code, out.as_str()), (3, ""), "{target}: {err}");
        assert!(err.contains("has no configuration"), "{err}");
    }
}

/// CRI-O's container `web` in the pod `demo`, which has ended, and the directories of its layers, topmost first.
fn of_crio(host: &FixtureHost, driver: &str) -> (CrioContainer, CrioContainer, Vec<String>) {
    const GRAPH_ROOT: &str = "/var/lib/containers/storage";
    host.dir("etc/crio");
    let pod = CrioContainer::sandbox("shop", "demo").driver(driver);
    let hosts = format!("{}/resolv.conf", pod.run_dir());
    let web = pod.container("web").status("stopped");
    let web = web.bind("/data", "/srv/data").bind("/etc/resolv.conf", &hosts);
    host.crio_container(&pod).crio_container(&web);
    host.file(&hosts, "");
    let layers = [web.layer(), fake_id("app"), fake_id("base")];
    let table = json!([
        {"id": layers[0], "parent": layers[1]},
        {"id": layers[1], "parent": layers[2]},
        {"id": layers[2]},
        {"id": pod.layer()},
    ]);
    host.file(format!("{GRAPH_ROOT}/{driver}-layers/layers.json"), table.to_string());
    host.file(format!("{GRAPH_ROOT}/{driver}-images/images.json"), "[]");
    let dir = |id: &String| match driver {
        "overlay" => format!("{GRAPH_ROOT}/overlay/{id}/diff"),
        "btrfs" => format!("{GRAPH_ROOT}/btrfs/subvolumes/{id}"),
        _ => format!("{GRAPH_ROOT}/vfs/dir/{id}"),
    };
    let dirs: Vec<String> = layers.iter().map(dir).collect();
    for dir in &dirs {
        host.dir(dir);
    }
    (pod, web, dirs)
}

#[test]
fn of_cri_o() {
    for driver in ["overlay", "vfs", "btrfs"] {
        let host = host();
        let (pod, web, dirs) = of_crio(&host, driver);
        let (upper, base) = (&dirs[0], &dirs[2]);
        for file in ["etc/own", "data/file", "etc/resolv.conf"] {
            host.file(format!("{upper}/{file}"), "");
        }
        host.file(format!("{base}/bin/tool"), "");
        let of = (web.id(), "web");
        let role = |role| if driver == "overlay" { role } else { "direct" };
        let layer = both_ways(&host, of, "/etc/own", &format!("{upper}/etc/own"), role("upper"));
        assert_eq!([&layer["id"], &layer["driver"]], [&web.layer(), driver], "{layer:#}");
        let tool = format!("{}:/bin/tool", web.id());
        if driver == "overlay" {
            let _ = both_ways(&host, of, "/bin/tool", &format!("{base}/bin/tool"), "lower");
        } else {
            none(&host, &tool);
        }
        assert_eq!(path(&host, "web:/data/below/file").1, "/srv/data/below/file\n");
        let resolv = format!("{}/resolv.conf", pod.run_dir());
        assert_eq!(path(&host, "web:/etc/resolv.conf").1, format!("{resolv}\n"));
        for file in ["data/file", "etc/resolv.conf"] {
            covered(&host, &format!("{upper}/{file}"));
        }
        // Metadata without a layer.
        std::fs::remove_dir_all(host.at(base)).unwrap();
        let (code, out, err) = path(&host, &tool);
        let expected = if driver == "overlay" { 3 } else { 1 };
        assert_eq!((code, out.as_str()), (expected, ""), "{err}");
    }
}
