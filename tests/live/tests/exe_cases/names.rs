//! Names of every kind: case 20, T12 and T14.

use super::overlay;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use whose_live_tests::judge::about;
use whose_testkit::cases::Cases;
use whose_testkit::marker::{Lab, Markers, Running};

/// Names of programs and of directories of layers.
const NAMES: &[&[u8]] = &[
    b"new\nline",
    b"new\\012line",
    b"back\\slash",
    b"com,ma",
    b"co:lon",
    b"sp ace\ttab",
    b"x (deleted)",
    b"(deleted)",
    b"//deleted",
    b"#1234",
    b"\xff\xfe not UTF-8",
    b"\x1b[31mred\x07",
    "\u{202e}\u{e9}".as_bytes(),
    b"lowerdir=x,upperdir=y",
    b"'quo\"tes' $(touch x) `id`",
    b"-rf",
    b"...",
];

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("20, T12 names of programs", || programs(markers));
    cases.case_with(&["linux-6.7"], "20 names of layers, by the new mount API", || layers(markers));
    cases.case("T14 escaped names of layers", || escaped(markers));
    cases.case_with(&["linux-5.11"], "T12 newline and its escape side by side", || twins(markers));
    cases.case("a path of 5,000 bytes", || long(markers));
    cases.case("a path of 5,000 bytes in a stack", || long_in_stack(markers));
    cases.case("a name of 255 bytes", || longest_name(markers));
}

/// The command that runs a file of this name in the lab's directory `dir`.
fn running(lab: &Lab, dir: &str, name: &[u8]) -> Running {
    let mut command = lab.command(&format!("cd {dir}; exec \"./$NAME\""));
    command.env("NAME", OsStr::from_bytes(name));
    Running::start(command)
}

fn usable(name: &[u8]) -> Vec<u8> {
    // A slash separates directories, in a name of the list too.
    name.iter().map(|b| if *b == b'/' { b'_' } else { *b }).collect()
}

fn programs(markers: &Markers) {
    let lab = Lab::new(markers);
    for name in NAMES {
        markers.write(&lab.path("l").join(OsStr::from_bytes(&usable(name))));
    }
    lab.sh(&overlay(&["l"], ""));
    for name in NAMES {
        let name = usable(name);
        let process = running(&lab, "m", &name);
        let at = lab.path("l").join(OsStr::from_bytes(&name));
        about(&process).at(at).lower(0, 1).state(&["present"]).is_proven();
    }
    // Each of them deleted.
    let name = b"x (deleted)".as_slice();
    let process = running(&lab, "m", name);
    lab.sh("rm 'm/x (deleted)'");
    let at = lab.path("l").join(OsStr::from_bytes(name));
    about(&process).at(at).lower(0, 1).state(&["deleted"]).is_proven();
}

fn layers(markers: &Markers) {
    let lab = Lab::new(markers);
    let names: Vec<Vec<u8>> = NAMES.iter().map(|name| usable(name)).collect();
    let mut tool = lab.command("mkdir u w m; exec \"$ACT\" \"$@\"");
    tool.args(["sh", "overlay", "m"]);
    for (n, name) in names.iter().enumerate() {
        let dir = lab.path(OsStr::from_bytes(name));
        markers.write(&dir.join(format!("x{n}")));
        let mut option = b"lowerdir+=".to_vec();
        option.extend(dir.as_os_str().as_bytes());
        tool.arg(OsStr::from_bytes(&option));
    }
    tool.arg(format!("upperdir={}", lab.path("u").display()));
    tool.arg(format!("workdir={}", lab.path("w").display()));
    super::run(&mut tool);
    for (n, name) in names.iter().enumerate() {
        let process = lab.run(&format!("exec m/x{n}"));
        let at = lab.path(OsStr::from_bytes(name)).join(format!("x{n}"));
        about(&process).at(at).lower(n as u64, names.len() as u64).is_proven();
    }
    // The same by the walk that a stack without layer handles needs.
    lab.sh("touch m/x0");
    markers.patch(&lab.path("u/x0"));
    let process = lab.run("exec m/x0");
    about(&process).at(lab.path("u/x0")).upper().copied_up("before-start").is_proven();
}

fn escaped(markers: &Markers) {
    let lab = Lab::new(markers);
    let names = ["co:l,x y", "back\\slash", "plain"];
    for (n, name) in names.iter().enumerate() {
        markers.write(&lab.path(name).join(format!("x{n}")));
    }
    let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,");
    let lowers: Vec<String> = names.iter().map(|n| escape(lab.path(n).to_str().unwrap())).collect();
    let mut mount = lab.command("mkdir m; exec mount -t overlay o -o \"lowerdir=$LOWERS\" m");
    mount.env("LOWERS", lowers.join(":"));
    super::run(&mut mount);
    for (n, name) in names.iter().enumerate() {
        let process = lab.run(&format!("exec m/x{n}"));
        let at = lab.path(name).join(format!("x{n}"));
        about(&process).at(at).lower(n as u64, 3).is_proven();
    }
}

/// These two print alike in maps.
fn twins(markers: &Markers) {
    let lab = Lab::new(markers);
    let names = [b"n\nx".as_slice(), b"n\\012x"];
    for name in names {
        markers.write(&lab.path("l").join(OsStr::from_bytes(name)));
        markers.write(&lab.path(OsStr::from_bytes(name)));
    }
    let options = "lowerdir=l,upperdir=u,workdir=w,userxattr";
    lab.sh("mkdir u w m");
    for name in names {
        // Where there is no handle, the name in maps may be all there is.
        let mut command = lab.command(&format!(
            "exec unshare -Urm sh -ec 'mount -t overlay o -o {options} m; exec \"m/$NAME\"'"
        ));
        command.env("NAME", OsStr::from_bytes(name));
        let process = Running::start(command);
        about(&process).at(lab.path("l").join(OsStr::from_bytes(name))).is_proven();
        let plain = running(&lab, ".", name);
        about(&plain).at(lab.path(OsStr::from_bytes(name))).is_proven();
    }
}

fn component() -> String {
    "d".repeat(200)
}

fn long(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("x"));
    let process = lab.run(&format!("exec ./x deep . {} 25", component()));
    let told = about(&process).is_proven();
    assert!(told["host"].as_str().is_some_and(|p| p.len() > 5000), "{told:#}");
}

fn long_in_stack(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let process = lab.run(&format!("exec m/x deep m {} 25", component()));
    let told = about(&process).upper().is_proven();
    let host = told["host"].as_str().unwrap_or_default();
    assert!(host.starts_with(lab.path("u").to_str().unwrap()) && host.len() > 5000, "{told:#}");
}

fn longest_name(markers: &Markers) {
    let lab = Lab::new(markers);
    let name = "n".repeat(255);
    markers.write(&lab.path("l").join(&name));
    lab.sh(&overlay(&["l"], ""));
    let process = running(&lab, "m", name.as_bytes());
    about(&process).at(lab.path("l").join(&name)).lower(0, 1).is_proven();
    let mut rm = Command::new("rm");
    super::run(rm.arg(lab.path("l").join(&name)));
    about(&process).state(&["unlinked"]).has_none();
}
