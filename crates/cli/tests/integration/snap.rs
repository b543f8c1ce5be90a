//! Snaps: the revision is that of the file that runs, whatever else is installed.

use serde_json::{Value, json};
use whose_testkit::fixture::{CgroupLayout, FixtureHost};

use crate::support::answer;

const CGROUP: &str = "/user.slice/user-1000.slice/user@1000.service/app.slice/\
                      snap.firefox.firefox-5a2822d3-6a9b-58bc-ba51-c1d15ddd2b5f.scope";
/// Two revisions are installed; `current` leads to the one that came while the first one ran.
const MOUNTS: &str = "27 1 7:1 / / ro - squashfs /dev/loop1 ro\n\
                      28 27 7:2 / /snap/firefox/4173 ro - squashfs /dev/loop2 ro\n\
                      29 27 7:3 / /snap/firefox/4259 ro - squashfs /dev/loop3 ro\n";

fn owner(exe: &str, mounts: &str, file: bool) -> Value {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    let own = host.path().join("proc/self/mountinfo");
    let more = std::fs::read_to_string(&own).unwrap();
    host.file("proc/self/mountinfo", format!("{MOUNTS}{more}"));
    host.symlink("snap/firefox/current", "4259");
    if file {
        host.file("var/lib/snapd/snaps/firefox_4173.snap", "hsqs");
    }
    let process = host.process(500).comm("firefox").uid(1000).exe(exe).mountinfo(mounts);
    process.ns("mnt", 4_026_599_999).in_cgroup(CGROUP).write();
    host.cgroup_dirs(CGROUP, &[500]);
    answer(&host, "500")
}

#[test]
fn the_revision_is_that_of_what_runs() {
    for file in [true, false] {
        let told = owner("/snap/firefox/4173/usr/lib/firefox/firefox", MOUNTS, file);
        let owner = &told["owner"];
        assert_eq!(
            [&owner["kind"], &owner["runtime"], &owner["id"], &owner["name"], &owner["image"]],
            ["app", "snap", "snap.firefox.firefox", "firefox", "firefox_4173"],
            "{told:#}"
        );
        assert_eq!([&owner["image_id"], &owner["state"]], ["4173", "running"], "{told:#}");
        let path = if file { "/var/lib/snapd/snaps/firefox_4173.snap" } else { "/proc/500/exe" };
        let rests = |e: &Value| e["path"].as_str().is_some_and(|p| p.ends_with(path));
        assert!(told["evidence"].as_array().unwrap().iter().any(rests), "{told:#}");
    }
}

/// Another snap's file, one of the base, or one in a directory that only bears such a name, tells no revision; nor
/// does the link that a later installation has moved.
#[test]
fn what_shows_no_revision_has_none() {
    let fake = MOUNTS
        .replace("7:2 / /snap/firefox/4173 ro - squashfs", "8:1 /x /snap/firefox/4173 rw - ext4");
    // A user's own mounts: a server of his, another snap, and a directory of that one.
    let server = MOUNTS
        .replace("7:2 / /snap/firefox/4173 ro - squashfs", "0:99 / /snap/firefox/4173 rw - fuse");
    let other = MOUNTS.replace("7:2 / /snap/firefox/4173", "7:3 / /snap/firefox/4173");
    let part = MOUNTS.replace("7:2 / /snap/firefox/4173", "7:2 /usr /snap/firefox/4173");
    for (exe, mounts) in [
        ("/snap/firefox/4173/bin/x", server.as_str()),
        ("/snap/firefox/4173/bin/x", other.as_str()),
        ("/snap/firefox/4173/bin/x", part.as_str()),
        ("/usr/bin/bash", MOUNTS),
        ("/snap/chromium/12/bin/x", MOUNTS),
        ("/snap/firefox/current/bin/x", MOUNTS),
        ("/snap/firefox/9/bin/x", MOUNTS),
        ("/snap/firefox/4173/bin/x", fake.as_str()),
    ] {
        let told = owner(exe, mounts, true);
        let owner = told["owner"].clone();
        let gap = |g: &Value| g["what"] == "container description";
        assert!(!told["gaps"].as_array().unwrap().iter().any(gap), "{told:#}");
        assert_eq!(
            (&owner["name"], owner.get("image")),
            (&json!("firefox"), None),
            "{exe}: {owner:#}"
        );
    }
}
