//! What runs something else: cases 14 and 21.

use super::chroot_and_mounts::pivot;
use super::{exe_link, overlay};
use std::path::Path;
use whose_live_tests::judge::{about, about_pid};
use whose_testkit::cases::Cases;
use whose_testkit::marker::{Lab, Markers, Running};
use whose_testkit::{procfs, skip};

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("14a scripts", || scripts(markers));
    cases.case("14b one program, many links", || applet(markers));
    cases.case("14c binfmt_misc with flag F", || binfmt(markers));
    cases.case("21 run by the loader", loader);
}

fn scripts(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/bin/interpreter"));
    let interpreter = lab.path("m/bin/interpreter");
    std::fs::write(lab.path("l/first"), format!("#!{}\n", interpreter.display())).unwrap();
    let first = lab.path("m/first");
    std::fs::write(lab.path("l/second"), format!("#!{} word\n", first.display())).unwrap();
    lab.sh("chmod 755 l/first l/second");
    lab.sh(&overlay(&["l"], ""));
    for script in ["first", "second"] {
        let running = lab.run(&format!("exec m/{script}"));
        assert_eq!(exe_link(running.pid()), interpreter.to_str().unwrap());
        assert_eq!(procfs::comm(running.pid()).as_deref(), Some(script));
        let expected = about(&running).at(lab.path("l/bin/interpreter")).lower(0, 1);
        let told = expected.state(&["present"]).is_proven();
        let program = told["program"].as_str().unwrap_or_default();
        assert!(program.ends_with(&format!("/{script}")), "{told:#}");
    }
}

fn applet(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/bin/box"));
    lab.sh("ln -s box l/bin/ls; ln -s /bin/box l/bin/cat");
    lab.sh(&overlay(&["l"], ""));
    for (start, name) in [("exec m/bin/ls", "ls"), ("exec chroot m /bin/cat", "cat")] {
        let running = lab.run(start);
        assert_eq!(procfs::comm(running.pid()).as_deref(), Some(name));
        about(&running).at(lab.path("l/bin/box")).lower(0, 1).state(&["present"]).is_proven();
    }
}

/// In a user namespace the table is its own, so nothing of the machine is changed.
fn binfmt(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("interpreter"));
    std::fs::create_dir_all(lab.path("l/bin")).unwrap();
    std::fs::write(lab.path("l/bin/foreign"), "WHOSEFMT and so on").unwrap();
    lab.sh("chmod 755 l/bin/foreign; mkdir f");
    lab.sh(&overlay(&["l"], ""));
    let rule = format!(":whose:M::WHOSEFMT::{}:F", lab.path("interpreter").display());
    let script = format!(
        "mount -t binfmt_misc none f; printf \"%s\" \"{rule}\" >f/register; exec chroot m /bin/foreign"
    );
    let probe = "unshare -Urm mount -t binfmt_misc none f 2>&1 || true";
    let said = lab.sh(probe);
    if !said.is_empty() {
        return skip("binfmt_misc in a user namespace", &said);
    }
    let running = lab.run(&format!("exec unshare -Urm sh -ec '{script}'"));
    assert_eq!(exe_link(running.pid()), lab.path("interpreter").to_str().unwrap());
    about(&running).at(lab.path("interpreter")).is_proven();
    drop(running);
    // As in a container: registered outside of it, and none of its mounts has the interpreter.
    let busybox = whose_testkit::which("busybox").expect("busybox");
    lab.sh(&format!("cp {} m/bin/busybox; mkdir -p m/old", busybox.display()));
    lab.sh("for a in sh umount; do ln -s busybox m/bin/$a; done");
    let script = format!(
        "mount -t binfmt_misc none f; printf \"%s\" \"{rule}\" >f/register; exec ./interpreter"
    );
    let outer = lab.run(&format!("exec unshare -Urm sh -ec '{script}'"));
    let enter = format!("nsenter -U -m -t {} --preserve-credentials", outer.pid());
    let dir = lab.path("").display().to_string();
    let pivoted = pivot("/bin/foreign");
    let mut command = lab.command("cd /; exec $ENTER sh -ec \"cd $LAB; exec $PIVOT\"");
    command.env("ENTER", enter).env("PIVOT", pivoted).env("LAB", dir);
    let inner = Running::start(command);
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", inner.pid())).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    assert_eq!(exe_link(inner.pid()), lab.path("interpreter").to_str().unwrap());
    about(&inner).at(lab.path("interpreter")).is_proven();
}

fn loader() {
    let markers = Markers::dynamic();
    let lab = Lab::new(&markers);
    let said = lab.sh(&format!("ldd {}", markers.program().display()));
    let words = || said.split_ascii_whitespace();
    let loader = words().find(|w| w.starts_with('/') && w.contains("/ld-"));
    let libc = words().find(|w| w.starts_with('/') && w.contains("libc.so"));
    let (loader, libc) = (loader.expect("a loader"), libc.expect("libc"));
    lab.sh(&format!("mkdir l; cp {loader} l/ld.so; cp {libc} l/libc.so.6"));
    let app = markers.write(&lab.path("l/app"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("cd m; exec ./ld.so --library-path . ./app");
    assert_eq!(running.marker(), &app);
    assert_eq!(exe_link(running.pid()), lab.path("m/ld.so").to_str().unwrap());
    let expected = about_pid(running.pid()).at(lab.path("l/ld.so")).lower(0, 1);
    let told = expected.state(&["present"]).is_proven();
    let program = told["program"].as_str().unwrap_or_default();
    assert_eq!(Path::new(program).file_name(), Some("app".as_ref()), "{told:#}");
    // The program by itself: its loader and libraries are other mappings.
    let running = lab.run("exec m/app");
    about(&running).at(lab.path("l/app")).lower(0, 1).is_proven();
}
