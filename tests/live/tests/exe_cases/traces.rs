//! The system calls of `whose exe`: nothing is written, entered, signalled or run, no memory is
//! read, and no file of a FUSE server is opened.

use super::hostile::Daemon;
use super::overlay;
use whose_live_tests::trace::only_examines;
use whose_testkit::cases::Cases;
use whose_testkit::marker::{Lab, Markers, Running};
use whose_testkit::require;

/// Every form of the question about one process.
#[track_caller]
fn traced(running: &Running, codes: &[i32], fuse: Option<&std::path::Path>) {
    let pid = running.pid().to_string();
    for words in [vec!["exe"], vec!["exe", "--json"], vec!["--json"], vec![], vec!["exe", "--hash"]]
    {
        let plain = words.first() != Some(&"exe");
        let words = [&words[..], &[&pid]].concat();
        only_examines(&words, if plain { &[0] } else { codes }, fuse);
    }
}

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("a stack", || {
        let lab = Lab::new(markers);
        markers.write(&lab.path("l/x"));
        lab.sh(&overlay(&["l"], ""));
        let before = lab.run("exec m/x");
        lab.sh("touch m/x");
        let after = lab.run("exec m/x");
        traced(&before, &[0], None);
        traced(&after, &[0], None);
        lab.sh("rm m/x");
        traced(&after, &[1], None);
    });
    cases.case("a stack without handles", || {
        let lab = Lab::new(markers);
        markers.write(&lab.path("l/x"));
        lab.sh("mkdir u w m");
        let options = "lowerdir=l,upperdir=u,workdir=w,userxattr";
        let script = format!("mount -t overlay o -o {options} m; touch m/x; exec m/x");
        traced(&lab.run(&format!("exec unshare -Urm sh -ec '{script}'")), &[0], None);
    });
    cases.case("no stack, no name", || {
        let lab = Lab::new(markers);
        markers.write(&lab.path("x"));
        traced(&lab.run("exec ./x"), &[0], None);
        traced(&lab.run("exec ./x memfd name"), &[1], None);
        traced(&lab.run("mkdir t; mount -t tmpfs t t; cp x t; exec t/x"), &[1], None);
    });
    if require(&["fuse", "fuse-overlayfs"]) {
        cases.case("a FUSE server's file", || {
            let lab = Lab::new(markers);
            markers.write(&lab.path("l/x"));
            let daemon = Daemon::start(&lab);
            let running = lab.run("exec m/x");
            // Its content is compared, by a worker that is left behind when the server stalls.
            traced(&running, &[0], None);
            drop(running);
            drop(daemon);
        });
    }
}
