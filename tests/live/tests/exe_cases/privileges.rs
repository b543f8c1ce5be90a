//! Case 19: what is left with fewer rights.

use super::overlay;
use whose_live_tests::judge::{about, exe};
use whose_testkit::cases::Cases;
use whose_testkit::marker::{Lab, Markers};

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("19 an ordinary user", || nobody(markers));
    cases.case("19 root with some capabilities", || capabilities(markers));
}

fn nobody(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x");
    let pid = running.pid().to_string();
    let run = exe(&[&pid]).as_user(65_534, 65_534).run().expect_code(3);
    assert!(run.stdout.is_empty() && !run.stderr.is_empty(), "{}", run.story());
    let run = exe(&["--json", &pid]).as_user(65_534, 65_534).run().expect_code(3);
    let told = run.json()["answers"][0].clone();
    assert!(told["binary"]["host"].is_null(), "{}", run.story());
    let gaps = told["gaps"].as_array().cloned().unwrap_or_default();
    assert!(gaps.iter().any(|g| g["class"] == "forbidden"), "{}", run.story());
}

/// Root's files can be read without any capability, but for what /proc and handles ask.
fn capabilities(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x");
    lab.sh("touch m/x");
    markers.patch(&lab.path("u/x"));
    let words = |caps: &str| format!("--bounding-set=-all{caps}");
    for (caps, page) in [
        ("", false),
        (",+sys_ptrace", false),
        (",+sys_ptrace,+dac_read_search", false),
        (",+sys_ptrace,+dac_read_search,+sys_admin", true),
    ] {
        let claim = about(&running).via(&["setpriv", &words(caps)]).at(lab.path("l/x"));
        if page {
            claim.is_proven();
        } else {
            claim.is_right_or_silent();
        }
    }
}
