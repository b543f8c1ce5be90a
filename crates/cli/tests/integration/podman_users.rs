//! Users with stores of Podman's of their own, who may write in them what they like.

use serde_json::{Value, json};
use whose_testkit::fixture::{CgroupLayout, FixtureHost, PodmanContainer, db_sql, fake_id};

use crate::support::{answer, ask};

const GRAPH_ROOT: &str = "/var/lib/containers/storage";

fn store_of(user: &str) -> String {
    format!("/home/{user}/.local/share/containers/storage")
}

fn manager(uid: u32) -> String {
    format!("/user.slice/user-{uid}.slice/user@{uid}.service")
}

/// A host on which alice (1001) and bob (1000) have something running.
fn host() -> FixtureHost {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    let passwd = "root:x:0:0:root:/root:/bin/bash\nbob:x:1000:1000::/home/bob:/bin/bash\n\
                  alice:x:1001:1001::/home/alice:/bin/bash\n";
    host.file("etc/passwd", passwd);
    host.cgroup_dirs(&manager(1000), &[]).cgroup_dirs(&manager(1001), &[]);
    host
}

fn stopped(name: &str) -> PodmanContainer {
    PodmanContainer::named(name).state(6)
}

/// The targets that a container could be instead.
fn candidates(told: &Value) -> Vec<&str> {
    let all = told["candidates"].as_array().unwrap_or_else(|| panic!("{told:#}"));
    all.iter().map(|c| c.as_str().unwrap_or_else(|| panic!("{told:#}"))).collect()
}

#[test]
fn nobody_hides_anothers_that_was_stopped() {
    let host = host();
    let (hers, roots) = (stopped("aweb"), stopped("rweb"));
    let other = |of: &PodmanContainer, name: &str| stopped(name).id_of(of.id());
    host.podman_containers(GRAPH_ROOT, std::slice::from_ref(&roots));
    host.podman_containers(&store_of("alice"), std::slice::from_ref(&hers));
    host.podman_containers(&store_of("bob"), &[other(&hers, "other"), other(&roots, "others")]);
    for (name, id, user) in [
        ("aweb", hers.id(), json!("alice")),
        ("rweb", roots.id(), Value::Null),
        ("other", hers.id(), json!("bob")),
        ("others", roots.id(), json!("bob")),
    ] {
        ask(&host, &[&format!("container:{name}")]).expect_code(0);
        let told = answer(&host, &format!("container:{name}"));
        let owner = &told["owner"];
        assert_eq!((&owner["name"], &owner["user"]), (&json!(name), &user), "{told:#}");
        assert_eq!((&owner["id"], &owner["state"]), (&json!(id), &json!("exited")), "{told:#}");
    }
    let his = |of: &PodmanContainer, user: &str| format!("container:podman@{user}/{}", of.id());
    let id = |of: &PodmanContainer| format!("container:{}", of.id());
    ask(&host, &[&id(&hers)]).expect_code(4);
    let told = answer(&host, &id(&hers));
    assert_eq!(candidates(&told), [his(&hers, "alice"), his(&hers, "bob")], "{told:#}");
    for (target, name) in [
        (his(&hers, "alice"), "aweb"),
        (his(&hers, "bob"), "other"),
        (his(&roots, "bob"), "others"),
        (id(&roots), "rweb"),
    ] {
        // Whoever's were met before.
        for targets in [&[target.as_str()][..], &["container:other", &target]] {
            let all = ask(&host, &[&["--json"][..], targets].concat()).expect_code(0).json();
            let last = all["answers"].as_array().unwrap().last().unwrap().clone();
            assert_eq!(last["owner"]["name"], name, "{targets:?} {last:#}");
        }
    }
}

#[test]
fn what_runs_where_her_word_is_not_enough_is_not_gone() {
    let host = host();
    let web = PodmanContainer::named("web").running(4100);
    let cgroup = format!("/machine.slice/libpod-{}.scope", web.id());
    host.cgroup_dirs(&cgroup, &[4100]);
    host.process(4100).nspid(&[4100, 1]).in_cgroup(&cgroup).write();
    host.file(format!("{}/db.sql", store_of("alice")), db_sql(std::slice::from_ref(&web)));
    // It is in a cgroup of root's.
    let told = answer(&host, &format!("container:podman@alice/{}", web.id()));
    let owner = &told["owner"];
    assert_eq!((&owner["id"], &owner["name"]), (&json!(web.id()), &Value::Null), "{told:#}");
    assert_eq!(told["gaps"][0]["class"], "gone", "{told:#}");
}

#[test]
fn thousands_of_one_name_end_with_the_time() {
    let host = host();
    let many: Vec<PodmanContainer> =
        (0..5000).map(|n| stopped("web").id_of(&fake_id(format!("web {n}")))).collect();
    // His state may have one more than once, and a name that is no other's.
    let others = PodmanContainer::named("other").state(6);
    host.podman_containers(GRAPH_ROOT, std::slice::from_ref(&others));
    host.podman_containers(&store_of("bob"), &many);
    for target in ["container:web", "container:podman@bob/web"] {
        let all = ask(&host, &["--timeout", "1", "--json", target]).expect_code(3).json();
        let told = &all["answers"][0];
        assert_eq!(told["status"], "partial", "{told:#}");
        assert_eq!(told["gaps"][0]["class"], "timed-out", "{told:#}");
    }
}
