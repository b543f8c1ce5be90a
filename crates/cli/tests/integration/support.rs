//! What these tests share: the binary, and one fixture host that most of them ask.

use serde_json::Value;
use whose_testkit::fixture::{DockerContainer, FixtureHost};
use whose_testkit::harness::{Run, Whose};

/// The binary under test.
pub(crate) fn whose() -> Whose {
    Whose::new(env!("CARGO_BIN_EXE_whose"))
}

/// Runs `whose ARGS --root HOST`.
pub(crate) fn ask(host: &FixtureHost, args: &[&str]) -> Run {
    whose().root(host.path()).args(args).run()
}

/// The first answer of `whose --json TARGET`.
pub(crate) fn answer(host: &FixtureHost, target: &str) -> Value {
    whose().root(host.path()).args(["--json", "--", target]).run().json()["answers"][0].clone()
}

/// A container on the host whose one process is `pid`.
pub(crate) fn container(host: &FixtureHost, name: &str, pid: u32) -> DockerContainer {
    let container = DockerContainer::named(name).running(pid);
    host.docker_container(&container);
    host.cgroup_dir(&format!("docker/{}", container.id()), &[pid]);
    host.process(pid).comm("sleep").cmdline(&[b"sleep", b"100"]).in_docker(container.id()).write();
    container
}

/// Two containers, a service, a session and a kernel thread.
pub(crate) fn host() -> FixtureHost {
    let host = FixtureHost::new();
    host.boot();
    let web = DockerContainer::named("web")
        .running(4761)
        .label("com.docker.compose.project", "shop")
        .label("com.docker.compose.service", "front")
        .label("tier", "front");
    host.docker_container(&web);
    host.cgroup_dir(&format!("docker/{}", web.id()), &[4761, 4770]);
    host.process(4761).comm("sleep").cmdline(&[b"sleep", b"100"]).in_docker(web.id()).write();
    let worker = host.process(4770).comm("worker").cmdline(&[b"worker", b"-n", b"1"]).ppid(4761);
    worker.nspid(&[4770, 7]).in_docker(web.id()).write();
    let _ = container(&host, "db", 5000);
    let nginx = host.process(900).comm("nginx").cmdline(&[b"nginx: master"]).uid(33);
    nginx.in_cgroup("/system.slice/nginx.service").write();
    let shell = host.process(950).comm("bash").cmdline(&[b"-bash"]).uid(1000);
    shell.in_cgroup("/user.slice/user-1000.slice/session-6.scope").write();
    host.process(60).comm("kworker/0:1").kernel_thread().write();
    host
}
