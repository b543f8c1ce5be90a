//! Images from nothing but a static busybox.

use crate::program;
use crate::require::which;
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A root of one static binary and a link for each applet: the new directory `work/rootfs`.
///
/// # Panics
/// When it can't be made.
pub fn busybox_rootfs(work: &Path) -> PathBuf {
    let root = work.join("rootfs");
    for dir in
        ["bin", "sbin", "etc", "tmp", "proc", "sys", "dev", "root", "run", "var/lib", "usr/bin"]
    {
        std::fs::create_dir_all(root.join(dir)).expect("a directory of the image");
    }
    let busybox = which("busybox").expect("busybox is installed");
    program::copy(&busybox, root.join("bin/busybox"));
    let list = said(Command::new(&busybox).arg("--list"));
    for applet in list.lines().filter(|a| *a != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).expect("a link of the image");
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").expect("etc/passwd");
    root
}

/// Packs a directory.
pub(super) fn tar(dir: &Path, to: &Path) {
    said(Command::new("tar").arg("-C").arg(dir).arg("-cf").arg(to).arg("."));
}

/// An archive for `docker load` with that many layers: busybox, then one small file each, and what
/// `fill` puts into the directory of each. Everything is made below `work`.
///
/// # Panics
/// When it can't be made.
pub fn layered_archive(
    work: &Path,
    name: &str,
    layers: usize,
    fill: &mut dyn FnMut(usize, &Path),
) -> PathBuf {
    let mut dirs = Vec::new();
    for n in 0..layers {
        let dir = if n == 0 {
            busybox_rootfs(work)
        } else {
            let dir = work.join(format!("layer{n}"));
            std::fs::create_dir_all(dir.join("layers")).expect("a layer");
            std::fs::write(dir.join(format!("layers/{n}")), format!("layer {n}\n"))
                .expect("a file");
            dir
        };
        fill(n, &dir);
        dirs.push(dir);
    }
    archive(work, name, &dirs, &json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]}))
}

/// An archive for `docker load` and `ctr images import`: the new file `work/image.tar`, with a layer
/// for each directory, the lowest first. `config` is what an image says of its containers: `Env`,
/// `Cmd`, `Entrypoint`, `Labels`.
///
/// # Panics
/// When it can't be made.
pub fn archive(work: &Path, name: &str, dirs: &[PathBuf], config: &Value) -> PathBuf {
    let out = work.join("archive");
    std::fs::create_dir_all(&out).expect("a directory for the archive");
    let mut files = Vec::new();
    for (n, dir) in dirs.iter().enumerate() {
        let file = format!("layer{n}.tar");
        tar(dir, &out.join(&file));
        files.push(file);
    }
    let sums = said(Command::new("sha256sum").current_dir(&out).args(&files));
    let ids: Vec<String> = sums
        .lines()
        .filter_map(|l| l.split_ascii_whitespace().next())
        .map(|sum| format!("sha256:{sum}"))
        .collect();
    assert_eq!(ids.len(), dirs.len(), "one sum a layer");
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": ids}
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": files}]);
    std::fs::write(out.join("config.json"), config.to_string()).expect("config.json");
    std::fs::write(out.join("manifest.json"), manifest.to_string()).expect("manifest.json");
    let archive = work.join("image.tar");
    tar(&out, &archive);
    archive
}

fn said(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        out.status.success(),
        "{command:?}: {}: {}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}
