//! Containers of platforms that cannot be run here: what a cgroup's text tells, and files where the
//! platform, or the engine below it, keeps some.

use serde_json::{Value, json};
use whose_testkit::fixture::{DockerContainer, FixtureHost};

use crate::support::{answer, ask};

const CT: &str = "8f2f9a47-2ec5-4a25-9c1e-6a0f3f1f2b10";

/// The cgroup text of what runs in the container, in a unit of its.
fn inside(id: &str) -> String {
    format!(
        "13:ve:/{id}\n8:memory:/machine.slice/{id}\n1:name=systemd:/{id}/system.slice/x.service\n"
    )
}

#[test]
fn openvz_calls_its_containers_by_their_files() {
    let host = FixtureHost::new();
    host.boot();
    host.process(500).comm("sshd").cgroup(inside(CT)).write();
    host.process(501).comm("init").cgroup(inside("101")).write();
    host.process(502).comm("init").cgroup(inside("102")).write();
    let config = "OSTEMPLATE=\"centos-7-x86_64\"\nNAME=\"shop\"\nHOSTNAME=\"shop.lab\"\n";
    host.file(format!("vz/private/{CT}/ve.conf"), config);
    let link = format!("/vz/private/{CT}/ve.conf");
    host.symlink(format!("etc/vz/conf/{CT}.conf"), &link);
    host.file("etc/vz/conf/101.conf", "HOSTNAME=\"old.lab\"\n");
    host.file("etc/vz/conf/ve-basic.conf-sample", "NAME=\"sample\"\n");
    let told = answer(&host, "500");
    let owner = &told["owner"];
    assert_eq!(
        [&owner["kind"], &owner["runtime"], &owner["id"], &owner["name"], &owner["image"]],
        [
            &json!("machine"),
            &json!("openvz"),
            &json!(CT),
            &json!("shop"),
            &json!("centos-7-x86_64")
        ]
    );
    let file = |e: &Value| {
        e["source"] == "state-file" && e["path"].as_str().is_some_and(|p| p.ends_with(".conf"))
    };
    assert!(told["evidence"].as_array().unwrap().iter().any(file), "{told:#}");
    // What it calls itself is no name: several may, and none is found by it.
    let nameless = answer(&host, "501");
    assert_eq!((&nameless["owner"]["id"], nameless["owner"].get("name")), (&json!("101"), None));
    // One without a file has its number alone, and says why.
    let unnamed = answer(&host, "502");
    assert_eq!((&unnamed["owner"]["id"], &unnamed["owner"]["name"]), (&json!("102"), &Value::Null));
    let gap = |g: &Value| g["what"] == "container description";
    assert!(unnamed["gaps"].as_array().unwrap().iter().any(gap), "{unnamed:#}");
    let table = ask(&host, &["ps", "--no-headers", "-o", "pid,owner"]).expect_code(0).stdout_str();
    let rows = table.lines().map(|l| l.split_whitespace().collect::<Vec<&str>>());
    let rows: Vec<Vec<&str>> = rows.filter(|row| row[0] != "1").collect();
    assert_eq!(rows, [["500", "shop"], ["501", "101"], ["502", "102"]]);
    ask(&host, &["--in-container", "500"]).expect_code(0);
}

#[test]
fn a_link_of_openvz_leads_to_no_file_outside() {
    let host = FixtureHost::new();
    host.boot();
    host.process(500).cgroup(inside("101")).write();
    host.symlink("etc/vz/conf/101.conf", "../../../../../../../../etc/hostname");
    // Nor to one beside the containers', though it is the host's.
    host.process(501).cgroup(inside("102")).write();
    host.file("srv/ve.conf", "NAME=\"elsewhere\"\n");
    host.symlink("etc/vz/conf/102.conf", "/vz/private/../../srv/ve.conf");
    for (pid, id) in [("500", "101"), ("501", "102")] {
        let told = answer(&host, pid);
        assert_eq!((&told["owner"]["id"], &told["owner"]["name"]), (&json!(id), &Value::Null));
        let gaps = told["gaps"].as_array().unwrap();
        assert!(gaps.iter().any(|g| g["class"] == "unsupported"), "{told:#}");
    }
}

#[test]
fn docker_names_what_ecs_runs() {
    let host = FixtureHost::new();
    host.boot();
    let web = DockerContainer::named("ecs-shop-7-web-b0c1")
        .image("shop:7")
        .label("com.amazonaws.ecs.container-name", "web")
        .label("com.amazonaws.ecs.task-definition-family", "shop")
        .running(600);
    host.docker_container(&web);
    let path = format!("ecs/d6785e51b602f0046c8af68c2805b616/{}", web.id());
    host.cgroup_dirs(&path, &[600]);
    host.process(600).comm("web").cgroup(format!("6:memory:/{path}\n")).write();
    let fargate = "8:memory:/ecs/5a0c3b7d9e1f24680a1b2c3d4e5f6071-2750272591\n";
    host.process(601).comm("web").cgroup(fargate).write();
    let owner = answer(&host, "600")["owner"].clone();
    assert_eq!(
        [&owner["runtime"], &owner["id"], &owner["name"], &owner["image"]],
        ["docker", web.id(), "ecs-shop-7-web-b0c1", "shop:7"]
    );
    assert_eq!(owner["labels"]["com.amazonaws.ecs.container-name"], "web");
    // Of what Fargate runs there is no state on the host: it has an id, and what is missing is said.
    let told = answer(&host, "601");
    let owner = &told["owner"];
    assert_eq!(
        [&owner["runtime"], &owner["id"], &owner["name"]],
        [&json!("ecs"), &json!("5a0c3b7d9e1f24680a1b2c3d4e5f6071-2750272591"), &Value::Null]
    );
    let gap = |g: &Value| g["what"] == "container description";
    assert!(told["gaps"].as_array().unwrap().iter().any(gap), "{told:#}");
}
