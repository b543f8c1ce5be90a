//! Flatpak's applications: what a user's own files say of those in his cgroups.

use serde_json::{Value, json};
use whose_testkit::fixture::FixtureHost;

use crate::support::{answer, ask};

const INSTANCE: &str = "2347861950";

fn scope(uid: u32, application: &str, instance: &str) -> String {
    format!(
        "/user.slice/user-{uid}.slice/user@{uid}.service/app.slice/\
         app-flatpak-{application}-{instance}.scope"
    )
}

fn info(application: &str, instance: &str) -> String {
    format!(
        "[Application]\nname={application}\nruntime=runtime/org.lab.Platform/x86_64/23\n\n\
         [Instance]\ninstance-id={instance}\narch=x86_64\nbranch=stable\napp-commit=0a1b2c\n"
    )
}

/// Two users, one of whom runs an application.
fn host() -> FixtureHost {
    let host = FixtureHost::new();
    host.boot();
    let users = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n\
                 bob:x:1001:1001::/home/bob:/bin/sh\n";
    host.file("etc/passwd", users);
    for (pid, inside) in [(6200_u32, 1), (6201, 2)] {
        let path = scope(1000, "org.lab.App", INSTANCE);
        host.process(pid).uid(1000).nspid(&[pid, inside]).in_cgroup(&path).write();
    }
    host.cgroup_dir(&scope(1000, "org.lab.App", INSTANCE)[1..], &[6200, 6201]);
    host
}

fn write(host: &FixtureHost, uid: u32, instance: &str, text: &str) {
    let dir = format!("run/user/{uid}/.flatpak/{instance}");
    host.file(format!("{dir}/info"), text);
    host.file(format!("{dir}/bwrapinfo.json"), r#"{"child-pid": 6200, "pid-namespace": 7}"#);
}

fn gaps(told: &Value) -> Vec<String> {
    let all = told["gaps"].as_array().unwrap().iter();
    let own = all.filter(|g| g["what"] == "container description");
    own.map(|g| g["class"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_application_by_its_users_files() {
    let host = host();
    write(&host, 1000, INSTANCE, &info("org.lab.App", INSTANCE));
    for (pid, role) in [("6200", "init"), ("6201", "workload")] {
        let told = answer(&host, pid);
        let owner = &told["owner"];
        let keys = ["kind", "runtime", "id", "name", "image", "image_id", "user", "init_pid"];
        let got: Vec<&Value> = keys.iter().map(|key| &owner[*key]).collect();
        let image = "org.lab.App/x86_64/stable";
        let wanted = [
            json!("app"),
            json!("flatpak"),
            json!(INSTANCE),
            json!("org.lab.App"),
            json!(image),
            json!("0a1b2c"),
            json!("alice"),
            json!(6200),
        ];
        assert_eq!(got, wanted.iter().collect::<Vec<_>>(), "{told:#}");
        assert_eq!(told["process"]["role"], role, "{told:#}");
        assert_eq!(gaps(&told), [""; 0]);
        let file = |e: &Value| e["path"].as_str().is_some_and(|p| p.ends_with("/info"));
        assert!(told["evidence"].as_array().unwrap().iter().any(file), "{told:#}");
    }
    let found = answer(&host, "org.lab.App");
    let pids = found["processes"].as_array().unwrap().iter().map(|p| p["pid"].clone());
    assert_eq!(pids.collect::<Vec<_>>(), [json!(6200), json!(6201)], "{found:#}");
}

#[test]
fn an_instance_that_has_ended() {
    let host = host();
    write(&host, 1000, INSTANCE, &info("org.lab.App", INSTANCE));
    write(&host, 1000, "77", &info("org.lab.Old", "77"));
    let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
    let rows = list["containers"].as_array().unwrap().iter();
    let rows: Vec<_> = rows.map(|r| (r["name"].clone(), r["state"].clone())).collect();
    assert_eq!(rows.len(), 2, "{list:#}");
    assert!(rows.contains(&(json!("org.lab.App"), json!("running"))), "{list:#}");
    assert!(rows.contains(&(json!("org.lab.Old"), json!("exited"))), "{list:#}");
}

#[test]
fn what_is_anothers_or_does_not_fit() {
    // Without files the cgroup's text is all there is, and nothing is missing.
    let bare = host();
    let told = answer(&bare, "6200");
    assert_eq!((&told["owner"]["name"], gaps(&told)), (&json!("org.lab.App"), Vec::new()));
    // Another user's files say nothing of it.
    let other = host();
    write(&other, 1001, INSTANCE, &info("org.lab.Forged", INSTANCE));
    let told = answer(&other, "6200");
    assert_eq!(told["owner"]["name"], "org.lab.App", "{told:#}");
    assert_ne!(told["owner"]["user"], "bob", "{told:#}");
    assert_eq!(told["owner"].get("image").filter(|v| !v.is_null()), None, "{told:#}");
    // Of another instance, cut short, not a file: a gap, and the text's name.
    let spoils: [fn(&FixtureHost, &str); 4] = [
        |host, dir| _ = host.file(format!("{dir}/info"), info("org.lab.X", "8")),
        |host, dir| _ = host.file(format!("{dir}/bwrapinfo.json"), "{\"child"),
        |host, dir| link(host, dir, "../../../../../etc/passwd"),
        |host, dir| link(host, dir, "/etc/passwd"),
    ];
    for spoil in spoils {
        let host = host();
        write(&host, 1000, INSTANCE, &info("org.lab.App", INSTANCE));
        spoil(&host, &format!("run/user/1000/.flatpak/{INSTANCE}"));
        let told = answer(&host, "6200");
        assert_eq!(told["owner"]["name"], "org.lab.App", "{told:#}");
        assert_eq!(told["owner"]["image"], Value::Null, "{told:#}");
        assert_eq!(gaps(&told), ["malformed"], "{told:#}");
    }
}

fn link(host: &FixtureHost, dir: &str, to: &str) {
    host.remove(format!("{dir}/info"));
    host.symlink(format!("{dir}/info"), to);
}
