//! Files of containers that do not run: containerd's, CRI's and CRI-O's, to the host and back. A saved tree that holds the
//! layers answers as the disk of a host does.

use serde_json::{Value, json};
use whose_testkit::fixture::{
    CgroupLayout, CrioContainer, DockerContainer, FixtureHost, TaskBundle, fake_id,
};

use crate::support::{answer, ask};

const ROOT: &str = "/var/lib/containerd";
const APP: [&str; 3] = ["base", "libs", "app"];
const SPEC: &str = r#"{"ociVersion": "1.2.0", "mounts": [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/t", "type": "tmpfs", "source": "tmpfs"},
    {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind"]},
    {"destination": "/etc/one", "type": "bind", "source": "/srv/one", "options": ["bind", "ro"]},
    {"destination": "/far", "type": "bind", "source": "/srv/far", "options": ["bind"]},
    {"destination": "/far/in", "type": "tmpfs", "source": "tmpfs"}]}"#;

fn host() -> FixtureHost {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    let own = host.path().join("proc/self/mountinfo");
    let more = std::fs::read_to_string(&own).unwrap();
    host.file("proc/self/mountinfo", format!("21 1 8:1 / / rw - ext4 /dev/sda1 rw\n{more}"));
    host.file("/srv/data/file", "").file("/srv/data/below/file", "").file("/srv/one", "");
    // What is bound by a link, something mounted over a part of it, and what is bound nowhere.
    host.file("/srv/real/file", "").file("/srv/real/in/file", "").symlink("/srv/far", "real");
    host.file("/srv/other", "").file("/srv/database", "");
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

/// That files of the host which are bound in a container, by [`SPEC`] or in the same way, lead to it and back.
fn bound_both_ways(host: &FixtureHost, (target, name): (&str, &str)) {
    for (inside, file) in [
        ("/data/file", "/srv/data/file"),
        ("/data/below/file", "/srv/data/below/file"),
        ("/data", "/srv/data"),
        ("/etc/one", "/srv/one"),
        ("/far/file", "/srv/real/file"),
    ] {
        assert_eq!(path(host, &format!("{target}:{inside}")).1, format!("{file}\n"), "{inside}");
        let back = (0, format!("{name}:{inside}\n"), String::new());
        assert_eq!(path(host, file), back, "{file}");
        let told = answer(host, file);
        assert_eq!([&told["status"], &told["owners"][0]["state"]], ["found", "exited"], "{told:#}");
        assert_eq!(told["evidence"][0]["source"], "state-file", "{told:#}");
    }
    assert_eq!(path(host, "/srv/far/file").1, format!("{name}:/far/file\n"));
    for file in ["/srv/real/in/file", "/srv/other", "/srv/database", "/srv"] {
        let (code, out, err) = path(host, file);
        assert_eq!((code, out.as_str()), (1, ""), "{file}: {err}");
        assert!(err.contains("is in no container, as far as is known"), "{err}");
    }
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
    bound_both_ways(&host, (&id, &id));
}

#[test]
fn of_docker() {
    let host = host();
    let store = host.layer_store();
    let image = store.image(&["base"]);
    let web = DockerContainer::named("web").exited(0).bind("/srv/data", "/data");
    let web = web.bind("/srv/one", "/etc/one").bind("/srv/far", "/far").bind("", "/far/in");
    host.docker_container(&web);
    store.container(web.id(), &image);
    bound_both_ways(&host, ("web", "web"));
}

#[test]
fn who_can_not_be_asked_is_a_gap() {
    // Two records, of which one has no configuration, and one whose layer is not there.
    let host = host();
    let store = host.snapshot_store(ROOT, "overlayfs");
    store.image("default", "app:1", &APP);
    store.container("default", "web", "app:1", &APP);
    store.container("default", "bare", "app:1", &APP);
    let gone = store.container("default", "gone", "app:1", &APP);
    store.spec("default", "web", SPEC);
    store.spec("default", "gone", SPEC);
    store.write();
    std::fs::remove_dir_all(host.at(store.dir(gone))).unwrap();
    let (code, out, err) = path(&host, "/srv/one");
    assert_eq!((code, out.as_str()), (3, "web:/etc/one\n"), "{err}");
    assert!(err.contains("what default/bare mounts can't be told: has no configuration"), "{err}");
    let told = answer(&host, "/srv/one");
    assert_eq!(told["owners"].as_array().unwrap().len(), 1, "{told:#}");
    let gaps = told["gaps"].as_array().unwrap();
    assert_eq!(gaps.len(), 2, "{told:#}");
    assert_eq!(gaps[1]["path"], "gone:/etc/one", "{told:#}");
    // What none of those that can be read mounts stays open too.
    assert_eq!(path(&host, "/srv/other").0, 3);
}

#[test]
fn very_many_mounts_end_in_time() {
    // More than a container may have, and as many as that which all lead there and are all covered.
    for (count, cause) in [(200_000, "more than 4096 mounts"), (4000, "no time left")] {
        let host = host();
        let store = host.snapshot_store(ROOT, "overlayfs");
        store.image("default", "app:1", &APP);
        store.container("default", "web", "app:1", &APP);
        let mounts = |at: usize| {
            format!(
                r#"{{"destination":"/a{at}","type":"bind","source":"/srv/far"}},
                   {{"destination":"/a{at}/file","type":"tmpfs","source":"t"}},"#
            )
        };
        let mounts: String = (0..count / 2).map(mounts).collect();
        store.spec("default", "web", &format!(r#"{{"mounts":[{mounts}{{}}]}}"#));
        store.write();
        let (code, out, err) = path(&host, "/srv/real/file");
        assert_eq!((code, out.as_str()), (3, ""), "{err}");
        assert!(err.contains("web") && err.contains(cause), "{err}");
    }
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
    let web =
        web.bind("/etc/one", "/srv/one").bind("/far", "/srv/far").bind("/far/in", "/srv/none");
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
        bound_both_ways(&host, (web.id(), "web"));
        // Metadata without a layer.
        std::fs::remove_dir_all(host.at(base)).unwrap();
        let (code, out, err) = path(&host, &tool);
        let expected = if driver == "overlay" { 3 } else { 1 };
        assert_eq!((code, out.as_str()), (expected, ""), "{err}");
    }
}
