//! aufs, which no kernel of a distribution has any more: an overlay plays it. Its branches have the same pages, and `whose`
//! is shown another table of mounts and another sysfs, in a mount namespace of its own.

use std::fmt::Write as _;

use serde_json::Value;
use whose_live_tests::judge::about;
use whose_live_tests::whose;
use whose_testkit::cases::Cases;
use whose_testkit::harness::Run;
use whose_testkit::marker::{Lab, Markers};

use super::overlay;

const ID: &str = "2f9e7dcbb5e3ab2c";

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("15 aufs: branches, copies and removals", || branches(markers));
    cases.case("15 aufs: a path of a process", || named(markers));
    cases.case("15 aufs: branches in the options", || in_options(markers));
    cases.case("15 aufs: no branches to be read", || unread(markers));
}

/// What has `whose` see the process's overlay as an aufs with these options and these files in sysfs.
fn via(lab: &Lab, pid: u32, options: &str, branches: &[&str]) -> Vec<String> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let mut shown = String::new();
    let point = format!(" {} ", lab.path("m").display());
    for line in table.lines() {
        match line.split_once(" - overlay ") {
            Some((mount, _)) if line.contains(&point) => {
                writeln!(shown, "{mount} - aufs none rw,{options}").unwrap();
            }
            _ => writeln!(shown, "{line}").unwrap(),
        }
    }
    assert!(shown.contains(" - aufs "), "{table}");
    let file = lab.path(format!("mountinfo-{pid}"));
    std::fs::write(&file, shown).unwrap();
    let mut script = format!(
        "set -e; mount --make-rprivate /; mount --bind {} /proc/{pid}/mountinfo; \
         mount -t tmpfs none /sys/fs; mkdir -p /sys/fs/aufs/si_{ID}; ",
        file.display()
    );
    for (number, branch) in branches.iter().enumerate() {
        let path = lab.path(branch.split('=').next().unwrap());
        let permission = branch.split('=').nth(1).unwrap();
        let path = path.display();
        write!(script, "echo {path}={permission} > /sys/fs/aufs/si_{ID}/br{number}; ").unwrap();
    }
    script.push_str("exec \"$@\"");
    ["unshare", "-m", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

fn refs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn si() -> String {
    format!("si={ID},dio,dirperm1")
}

const ALL: [&str; 3] = ["u=rw", "app=ro+wh", "base=ro+wh"];

fn branches(markers: &Markers) {
    let lab = Lab::new(markers);
    for file in
        ["base/bin/low", "base/bin/copied", "base/bin/gone", "base/bin/both", "app/bin/both"]
    {
        markers.write(&lab.path(file));
    }
    markers.write(&lab.path("new"));
    lab.sh(&overlay(&["app", "base"], ""));
    lab.sh("cp new m/bin/new");
    let [low, both, copied, gone, new] =
        ["low", "both", "copied", "gone", "new"].map(|name| lab.run(&format!("exec m/bin/{name}")));
    // As aufs would have it, beside what the overlay does.
    lab.sh("touch m/bin/copied; rm m/bin/gone; touch u/bin/.wh.gone");
    let of = |pid| via(&lab, pid, &si(), &ALL);
    let told = about(&low).at(lab.path("base/bin/low")).lower(1, 2).via(&refs(&of(low.pid())));
    let told = told.state(&["present"]).copied_up("no").is_proven();
    assert_eq!([&told["mount"]["type"], &told["verified"]], ["aufs", "page"], "{told:#}");
    let told = about(&both).at(lab.path("app/bin/both")).lower(0, 2).via(&refs(&of(both.pid())));
    told.is_proven();
    let told = about(&new).at(lab.path("u/bin/new")).upper().via(&refs(&of(new.pid())));
    told.copied_up("no").is_proven();
    let told =
        about(&copied).at(lab.path("base/bin/copied")).lower(1, 2).via(&refs(&of(copied.pid())));
    told.copied_up("after-start").is_proven();
    let told = about(&gone).at(lab.path("base/bin/gone")).lower(1, 2).via(&refs(&of(gone.pid())));
    told.state(&["deleted"]).is_proven();
    // Nothing marks a copy: what was made of what can't be told.
    let again = lab.run("exec m/bin/copied");
    let told =
        about(&again).at(lab.path("u/bin/copied")).upper().via(&refs(&of(again.pid()))).is_proven();
    assert!(told.get("copied_up").is_none_or(Value::is_null), "{told:#}");
}

fn path_of(pid: u32, file: &str, via: Vec<String>) -> Run {
    whose().via(via).args(["path", &format!("{pid}:{file}")]).run()
}

fn named(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("base/bin/low"));
    for (file, content) in [
        ("base/t/low", "base"),
        ("base/t/both", "base"),
        ("app/t/both", "app"),
        ("base/t/same", "same"),
    ] {
        std::fs::create_dir_all(lab.path(file).parent().unwrap()).unwrap();
        std::fs::write(lab.path(file), content).unwrap();
    }
    lab.sh(&overlay(&["app", "base"], ""));
    lab.sh("printf new > m/t/new; chmod 600 m/t/same");
    let running = lab.run("exec m/bin/low");
    let pid = running.pid();
    for (name, expected) in
        [("low", "base/t/low"), ("both", "app/t/both"), ("new", "u/t/new"), ("same", "u/t/same")]
    {
        let inside = lab.path("m/t").join(name);
        let run = path_of(pid, inside.to_str().unwrap(), via(&lab, pid, &si(), &ALL));
        let run = run.expect_code(0);
        assert_eq!(
            run.stdout_str(),
            format!("{}\n", lab.path(expected).display()),
            "{}",
            run.story()
        );
    }
    // A branch of another content leads to nothing.
    lab.sh("printf other > u/t/new");
    let marks = via(&lab, pid, &si(), &["app=rw", "base=ro+wh"]);
    let inside = lab.path("m/t/new");
    let run = path_of(pid, inside.to_str().unwrap(), marks).expect_code(3);
    assert_eq!(run.stdout_str(), "", "{}", run.story());
}

fn in_options(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("base/bin/low"));
    std::fs::create_dir_all(lab.path("app")).unwrap();
    lab.sh(&overlay(&["app", "base"], ""));
    let running = lab.run("exec m/bin/low");
    let at = |name: &str| lab.path(name).display().to_string();
    let options = format!("si={ID},br:{}=rw:{}=ro+wh:{}=ro+wh", at("u"), at("app"), at("base"));
    let of = via(&lab, running.pid(), &options, &[]);
    about(&running).at(lab.path("base/bin/low")).lower(1, 2).via(&refs(&of)).is_proven();
}

/// Without branches, or with one whose marks count for nothing, there is no path.
fn unread(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("base/bin/low"));
    std::fs::create_dir_all(lab.path("app")).unwrap();
    lab.sh(&overlay(&["app", "base"], ""));
    let running = lab.run("exec m/bin/low");
    let pid = running.pid();
    for (branches, why) in [
        (&[][..], "the branches of aufs can't be read"),
        (&["u=rw", "app=ro", "base=ro+wh"], "takes no marks from one of its branches"),
        (&["u=odd"], "an unknown permission of a branch"),
    ] {
        // Its path alone would be proven without a look at the mount: the kernel's handle is an overlay's.
        let asked = whose().via(via(&lab, pid, &si(), branches));
        let run = asked.args(["exe", "--json", &pid.to_string()]).run().expect_code(3);
        let answer = run.json()["answers"][0].clone();
        assert!(answer["binary"]["host"].is_null(), "{}", run.story());
        assert!(answer.to_string().contains(why), "{}", run.story());
    }
}
