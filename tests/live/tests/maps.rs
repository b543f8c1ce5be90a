//! The files that a process maps: each path on the host judged by what the file there holds.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use whose_live_tests::{alone, unique, whose};
use whose_testkit::docker::{Docker, View};
use whose_testkit::hostile::{Mapper, write_mapper};
use whose_testkit::require;

const IMAGE: &str = "localhost/lab-maps:1";
/// Longer than a page, so that a file's first page is its own.
const SIZE: usize = 5000;

fn content(word: &str) -> Vec<u8> {
    word.bytes().cycle().take(SIZE).collect()
}

/// What is in one layer of the image.
fn layer(n: usize, dir: &Path) {
    let data = dir.join("data");
    std::fs::create_dir_all(&data).unwrap();
    let names: &[&str] = match n {
        0 => &["low", "shadowed", "touched", "gone"],
        _ => &["shadowed", "high"],
    };
    for name in names {
        std::fs::write(data.join(name), content(&format!("{name} of {n}, "))).unwrap();
    }
    if n == 0 {
        write_mapper(&dir.join("bin/mapper"));
    }
}

/// The FILE of each name inside.
fn files(told: &Value) -> BTreeMap<String, Value> {
    let maps = told["maps"].as_array().unwrap();
    let file = |m: &Value| Some((m["file"]["inside"].as_str()?.to_owned(), m["file"].clone()));
    maps.iter().filter_map(file).collect()
}

/// The path on the host, and what is there.
fn there(file: &Value) -> (PathBuf, Vec<u8>) {
    let path = PathBuf::from(file["host"].as_str().unwrap_or_else(|| panic!("no path: {file:#}")));
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

#[test]
fn files_of_layers_volumes_and_memory() {
    if !require(&["docker", "cgroup-v2", "cc"]) {
        return;
    }
    let _alone = alone();
    let docker = Docker::options(View::V2).storage_driver("overlay2").start();
    let docker = docker.unwrap_or_else(|e| panic!("{e}"));
    docker.layered_image_with(IMAGE, 2, layer);
    let volume = tempfile::tempdir().unwrap();
    std::fs::write(volume.path().join("file"), content("volume, ")).unwrap();
    let name = unique("maps");
    let bind = format!("{}:/vol", volume.path().display());
    let options = ["--name", &name, "-v", &bind, "--tmpfs", "/mem", IMAGE];
    let id = docker.run(&[&options[..], &["busybox", "sleep", "10000"]].concat());
    let sh = |script: &str| docker.cli(&["exec", &name, "/bin/sh", "-ec", script]);
    sh(
        "cp /data/low /data/new; cp /data/low /data/short; cp /data/low /mem/file; cp /data/low /data/shared",
    );
    let words = [
        "exec",
        "-i",
        &name,
        "/bin/mapper",
        "/data/low",
        "/data/shadowed",
        "/data/touched",
        "/data/gone",
        "/data/new",
        "/data/short",
        "/vol/file",
        "/mem/file",
        "+/data/shared",
    ];
    let mapper = Mapper::start_contained(docker.command(&words), &id).unwrap();
    // Copied up, with another content, and removed, while they are mapped.
    sh("printf later >> /data/touched; rm /data/gone /data/short");
    let pid = mapper.pid().to_string();
    let run = whose().args(["maps", "--json", &pid]).run().expect_code(0);
    let told = run.json();
    assert_eq!(told["owner"]["name"], json!(name), "{told:#}");
    let files = files(&told);
    let layers = docker.inspect(&name)["GraphDriver"]["Data"].clone();
    let dirs = |key: &str| -> Vec<PathBuf> {
        layers[key].as_str().unwrap().split(':').map(PathBuf::from).collect()
    };
    let (upper, lowers) = (dirs("UpperDir")[0].clone(), dirs("LowerDir"));
    let (high, low) = (&lowers[1], &lowers[2]);
    let mut facts = 0;
    for (inside, dir, word, role) in [
        ("/data/low", low, "low of 0, ", "lower"),
        ("/data/shadowed", high, "shadowed of 1, ", "lower"),
        ("/data/touched", low, "touched of 0, ", "lower"),
        ("/data/gone", low, "gone of 0, ", "lower"),
        ("/data/new", &upper, "low of 0, ", "upper"),
        ("/data/shared", &upper, "low of 0, ", "upper"),
        ("/bin/mapper", low, "", "lower"),
    ] {
        let file = files.get(inside).unwrap_or_else(|| panic!("no {inside} in {files:#?}"));
        let (path, bytes) = there(file);
        assert_eq!(path, dir.join(&inside[1..]), "{file:#}");
        assert!(word.is_empty() || bytes == content(word), "{file:#}");
        assert_eq!((&file["role"], &file["verified"]), (&json!(role), &json!("page")), "{file:#}");
        assert_eq!(file["layer"]["driver"], "overlay2", "{file:#}");
        facts += 4;
    }
    assert_eq!(files["/data/touched"]["copied_up"], "after-start");
    assert_eq!(files["/data/gone"]["state"], "deleted");
    let (path, _) = there(&files["/vol/file"]);
    assert_eq!(path, volume.path().join("file"));
    assert_eq!(files["/vol/file"]["role"], "volume");
    for (inside, state) in [("/data/short", "unlinked"), ("/mem/file", "present")] {
        let file = &files[inside];
        assert_eq!((file.get("host"), &file["state"]), (None, &json!(state)), "{file:#}");
    }
    // As the kernel has the ranges.
    let own = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let maps = told["maps"].as_array().unwrap();
    assert_eq!(maps.len(), own.lines().count());
    for (line, map) in own.lines().zip(maps) {
        let range = format!(
            "{:08x}-{:08x} {} {:08x}",
            map["start"].as_u64().unwrap(),
            map["end"].as_u64().unwrap(),
            map["perms"].as_str().unwrap(),
            map["offset"].as_u64().unwrap()
        );
        assert!(line.starts_with(&range), "{line}\n{range}");
        facts += 4;
    }
    let lines = whose().args(["maps", &pid]).run().expect_code(0).stdout_str();
    let line = |name: &str| lines.lines().find(|l| l.ends_with(name)).map(str::to_owned);
    assert!(line(low.join("data/gone").to_str().unwrap()).is_some(), "{lines}");
    assert!(line("  - /data/short").is_some() && line("[stack]").is_some(), "{lines}");
    let lines =
        whose().args(["maps", "--format", "ndjson", &pid]).run().expect_code(0).stdout_str();
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((&lines[0]["owner"]["name"], lines[0].get("maps")), (&json!(name), None));
    assert_eq!(lines[1..=maps.len()], maps[..]);
    let paths = whose().args(["maps", "-q", &pid]).run().expect_code(0).stdout_str();
    assert_eq!(paths.lines().count(), 8, "{paths}");
    // Of a container: its first process.
    let first = whose().args(["maps", "-q", &name]).run().expect_code(0).stdout_str();
    assert_eq!(first.trim_end(), low.join("bin/busybox").to_str().unwrap());
    eprintln!("maps of a container on overlay2: {facts} facts and more compared");
}

#[test]
fn what_has_no_memory_and_who_may_not_look() {
    if !require(&["root"]) {
        return;
    }
    let run = whose().args(["maps", "2"]).run().expect_code(1);
    assert!(run.stderr_str().contains("2 is a kernel thread and maps no file"), "{}", run.story());
    let own = std::process::id().to_string();
    let run = whose().as_user(65534, 65534).args(["maps", &own]).run().expect_code(3);
    assert_eq!(run.stdout_str(), "", "{}", run.story());
    assert!(run.stderr_str().contains("permission denied"), "{}", run.story());
    whose().args(["maps", "999999999"]).run().expect_code(1);
    whose().args(["maps"]).run().expect_code(2);
}
