//! A real dockerd: T1 to T6, T13, T16 and T17, volumes, and an engine in a container.

use super::engine::{Engine, IMAGE, marked};
use super::{exe_link, run};
use std::path::{Path, PathBuf};
use whose_live_tests::inner::{engine_in_a_container, inside};
use whose_live_tests::judge::{Claim, about};
use whose_live_tests::unique;
use whose_testkit::cases::Cases;
use whose_testkit::docker::Docker;
use whose_testkit::marker::{Markers, Running};

const DEEP: &str = "lab-deep:1";

/// The image from which the cases of one engine start containers.
pub(crate) fn image(docker: &Docker, markers: &Markers) {
    docker.layered_image_with(IMAGE, 3, |n, dir| marked(markers, n, dir));
}

impl Engine for Docker {
    fn container(&self, options: &[&str]) -> String {
        container(self, options)
    }

    fn exec(&self, name: &str, words: &[&str]) -> Running {
        exec(self, name, words)
    }

    fn sh(&self, name: &str, script: &str) -> String {
        sh(self, name, script)
    }

    fn store(&self) -> PathBuf {
        self.data_root()
    }
}

/// A running container with these options; its name.
pub(crate) fn container(docker: &Docker, options: &[&str]) -> String {
    let name = unique("marked");
    let name = format!("{name}-{}", docker.all().len());
    let command = [IMAGE, "busybox", "sleep", "10000"];
    docker.run(&[&["--name", &name][..], options, &command].concat());
    name
}

/// Runs a copy of the program in a container.
pub(crate) fn exec(docker: &Docker, name: &str, words: &[&str]) -> Running {
    let id = docker.inspect(name)["Id"].as_str().unwrap().to_owned();
    let command = docker.command(&[&["exec", "-i", name], words].concat());
    Running::start_contained(command, &id)
}

/// Runs busybox's shell in a container.
pub(crate) fn sh(docker: &Docker, name: &str, script: &str) -> String {
    docker.cli(&["exec", name, "/bin/sh", "-ec", script])
}

/// The upper directory of a container.
pub(crate) fn upper(docker: &Docker, name: &str) -> PathBuf {
    let told = docker.inspect(name);
    PathBuf::from(told["GraphDriver"]["Data"]["UpperDir"].as_str().expect("an upper directory"))
}

/// The host directories of the lowers, the top one first: docker's init layer, then the image's.
fn lowers(docker: &Docker, name: &str) -> Vec<PathBuf> {
    let told = docker.inspect(name);
    let text = told["GraphDriver"]["Data"]["LowerDir"].as_str().expect("lower directories");
    text.split(':').map(PathBuf::from).collect()
}

pub(crate) fn cases(cases: &mut Cases, docker: &Docker, markers: &Markers) {
    image(docker, markers);
    cases.case("1-3, T1 layers of an image", || layers(docker));
    cases.case("1-3 the init itself", || init(docker));
    cases.case("4 written at run time", || written(docker));
    cases.case("5a, 5b, 5d, T2, T3 copied up", || copied_up(docker, markers));
    cases.case("6a, 6b, T4 removed, replaced, renamed", || removed(docker, markers));
    cases.case("10a, 10b, 17c, T9 volumes and tmpfs", || volumes(docker, markers));
    cases.case("11, T5 chroot", || chroot(docker));
    cases.case("T6 links out of the root", || links(docker));
    cases.case("T16 a decoy named like a layer", || decoy(docker, markers));
    cases.case("18b, T13 a layer renamed", || layer_renamed(docker));
    cases.case("T17 90 layers", || deep(docker, markers));
    cases.case("12a docker in docker", || nested(docker, markers));
    cases.case("12a docker in docker on a tmpfs", || nested_on_tmpfs(docker, markers));
    cases.case("19 asked in a container that sees all processes", || observer(docker, markers));
}

fn layers(docker: &Docker) {
    let name = container(docker, &[]);
    let lowers = lowers(docker, &name);
    assert_eq!(lowers.len(), 4, "{lowers:?}");
    for (file, index) in [("low", 3), ("middle", 2), ("all", 1)] {
        let running = exec(docker, &name, &[&format!("/bin/{file}")]);
        // No independent position: the first range has zeroes that no name in map_files has.
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", running.pid())).unwrap();
        assert!(maps.starts_with("00400000-"), "{maps}");
        let at = lowers[index].join("bin").join(file);
        let claim = about(&running).at(at).lower(index as u64, 4);
        let told = claim.state(&["present"]).copied_up("no").is_proven();
        assert_eq!(told["inside"], format!("/bin/{file}"), "{told:#}");
        assert_eq!(told["layer"]["driver"], "overlay2", "{told:#}");
        let through = format!("/proc/{}/root/bin/{file}", running.pid());
        assert_eq!(told["via_proc"], through, "{told:#}");
    }
}

fn init(docker: &Docker) {
    let name = unique("init");
    let words = ["create", "-i", "--rm", "--network", "none", "--name", &name, IMAGE, "/bin/low"];
    let id = docker.cli(&words);
    let command = docker.command(&["start", "-a", "-i", &name]);
    let running = Running::start_contained(command, &id);
    assert_eq!(running.pid(), docker.init_pid(&name));
    about(&running).lower(3, 4).copied_up("no").is_proven();
    // By the container's name as well: its init.
    let told = whose_live_tests::judge::exe(&[&name]).run().expect_code(0);
    let path = told.stdout_str();
    let bytes = std::fs::read(path.trim_end()).unwrap_or_default();
    assert!(running.marker().is_in(&bytes), "{}", told.story());
}

fn written(docker: &Docker) {
    let name = container(docker, &[]);
    sh(docker, &name, "cp /bin/low /bin/new; cp /bin/low /new");
    let running = exec(docker, &name, &["/bin/new"]);
    let at = upper(docker, &name).join("bin/new");
    let claim = about(&running).at(at).upper().state(&["present"]);
    claim.copied_up("no").is_proven();
}

fn copied_up(docker: &Docker, markers: &Markers) {
    let name = container(docker, &[]);
    let (lower, upper) = (lowers(docker, &name)[3].clone(), upper(docker, &name));
    let before = exec(docker, &name, &["/bin/touched"]);
    let said = sh(docker, &name, "(printf Z >>/bin/touched) 2>&1 || true");
    assert!(said.contains("busy"), "{said}");
    sh(docker, &name, "chmod 711 /bin/touched");
    markers.patch(&upper.join("bin/touched"));
    let after = exec(docker, &name, &["/bin/touched"]);
    let claim = about(&before).at(lower.join("bin/touched")).lower(3, 4);
    claim.copied_up("after-start").state(&["present"]).is_proven();
    let claim = about(&after).at(upper.join("bin/touched")).upper();
    claim.copied_up("before-start").state(&["present"]).is_proven();
    sh(docker, &name, "echo ZZZ >>/bin/written");
    markers.patch(&upper.join("bin/written"));
    let modified = exec(docker, &name, &["/bin/written"]);
    let claim = about(&modified).at(upper.join("bin/written")).upper();
    claim.copied_up("before-start").is_proven();
}

fn removed(docker: &Docker, markers: &Markers) {
    let name = container(docker, &[]);
    let lower = lowers(docker, &name)[3].join("bin");
    let [gone, replaced, renamed] =
        ["gone", "replaced", "renamed"].map(|file| exec(docker, &name, &[&format!("/bin/{file}")]));
    sh(docker, &name, "cd /bin; rm gone; cp low other; mv other replaced; mv renamed new");
    markers.patch(&upper(docker, &name).join("bin/replaced"));
    let claim = about(&gone).at(lower.join("gone")).lower(3, 4);
    claim.state(&["deleted"]).copied_up("no").is_proven();
    let claim = about(&replaced).at(lower.join("replaced")).lower(3, 4);
    claim.state(&["replaced"]).copied_up("no").is_proven();
    // Moving a lower file copies it up; what was started before runs the lower one.
    about(&renamed).at(lower.join("renamed")).copied_up("after-start").is_proven();
    sh(docker, &name, "cp /bin/low /bin/brief");
    let brief = exec(docker, &name, &["/bin/brief"]);
    sh(docker, &name, "rm /bin/brief");
    markers.patch(&lower.join("e/x"));
    about(&brief).state(&["unlinked"]).has_none();
}

fn volumes(docker: &Docker, markers: &Markers) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for file in ["dir/x", "file", "other"] {
        markers.write(&at(file));
    }
    let volume = unique("volume");
    docker.cli(&["volume", "create", &volume]);
    let data = docker.data_root().join("volumes").join(&volume).join("_data");
    markers.write(&data.join("x"));
    let mounts = [
        format!("-v={}:/dir", at("dir").display()),
        format!("-v={}:/bin/low", at("file").display()),
        format!("-v={volume}:/volume"),
        "--tmpfs=/t:exec".to_owned(),
    ];
    let name = container(docker, &mounts.each_ref().map(String::as_str));
    for (inside, outside) in
        [("/dir/x", at("dir/x")), ("/bin/low", at("file")), ("/volume/x", data.join("x"))]
    {
        let running = exec(docker, &name, &[inside]);
        let claim = about(&running).at(&outside).role(&["volume"]).state(&["present"]);
        let told = claim.is_proven();
        assert_eq!(told["inside"], inside, "{told:#}");
        assert!(told["copied_up"].is_null(), "it is in no stack: {told:#}");
    }
    docker.cli(&["exec", &name, "cp", "/dir/x", "/t/x"]);
    drop(std::fs::remove_file(at("dir/x")));
    let running = exec(docker, &name, &["/t/x"]);
    let told = about(&running).state(&["present"]).has_none();
    assert_eq!(told["via_proc"], format!("/proc/{}/root/t/x", running.pid()), "{told:#}");
    assert_eq!(told["mount"]["type"], "tmpfs", "{told:#}");
    // T9: the source of the bound file is renamed over.
    let bound = exec(docker, &name, &["/bin/low"]);
    std::fs::rename(at("other"), at("file")).unwrap();
    about(&bound).state(&["unlinked"]).has_none();
}

fn chroot(docker: &Docker) {
    let name = container(docker, &[]);
    sh(docker, &name, "mkdir -p /cr/bin; cp /bin/low /cr/bin/x");
    let running = exec(docker, &name, &["/bin/busybox", "chroot", "/cr", "/bin/x"]);
    assert_eq!(exe_link(running.pid()), "/cr/bin/x");
    let at = upper(docker, &name).join("cr/bin/x");
    let told = about(&running).at(at).upper().state(&["present"]).is_proven();
    assert_eq!(told["inside"], "/bin/x", "{told:#}");
    assert_eq!(told["namespace_path"], "/cr/bin/x", "{told:#}");
}

fn links(docker: &Docker) {
    let name = container(docker, &[]);
    let lower = lowers(docker, &name)[3].join("bin");
    let running = exec(docker, &name, &["/bin/d/x"]);
    // The way to it leads to the host's own directory now.
    let host = tempfile::tempdir().unwrap();
    std::fs::copy(lower.join("e/x"), host.path().join("x")).unwrap();
    sh(docker, &name, &format!("rm -r /bin/d; ln -s {} /bin/d", host.path().display()));
    let seen = std::fs::metadata(format!("/proc/{}/root/bin/d/", running.pid()));
    assert!(seen.is_ok(), "the link is not seen from the host: {seen:?}");
    let told = about(&running).at(lower.join("d/x")).lower(3, 4).is_proven();
    assert!(told["state"] == "deleted" || told["state"] == "replaced", "{told:#}");
    assert!(told["via_proc"].is_null(), "{told:#}");
}

/// A directory of the container's own whose name is that of a real layer of the host.
fn decoy(docker: &Docker, markers: &Markers) {
    let options =
        ["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "--tmpfs", "/t:exec"];
    let name = container(docker, &options);
    let real = lowers(docker, &name)[3].clone();
    let script = format!(
        "mkdir -p {0}/bin /mm /empty; cp /bin/middle {0}/bin/low; \
         mount -t overlay o -o lowerdir={0}:/empty /mm",
        real.display()
    );
    sh(docker, &name, &script);
    let own = upper(docker, &name).join(real.strip_prefix("/").unwrap()).join("bin/low");
    markers.patch(&own);
    let running = exec(docker, &name, &["/mm/bin/low"]);
    about(&running).at(own).is_proven();
    // The same on a tmpfs: nothing on the host has it.
    let script = format!(
        "mkdir -p /t/l/bin /t/u /t/w /m2; cp /bin/low /t/l/bin/low; mount --bind /t/l {0}; \
         mount -t overlay o -o lowerdir={0},upperdir=/t/u,workdir=/t/w /m2",
        real.display()
    );
    sh(docker, &name, &script);
    let inside = PathBuf::from(format!("/proc/{}/root/t/l/bin/low", docker.init_pid(&name)));
    markers.patch(&inside);
    let running = exec(docker, &name, &["/m2/bin/low"]);
    about(&running).has_none();
}

fn layer_renamed(docker: &Docker) {
    let name = container(docker, &[]);
    let layer = lowers(docker, &name)[1].clone();
    let away = layer.with_file_name("diff-away");
    let running = exec(docker, &name, &["/bin/all"]);
    std::fs::rename(&layer, &away).unwrap();
    let moved = || about(&running).at(away.join("bin/all")).is_proven();
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(moved));
    // Others use the layer.
    std::fs::rename(&away, &layer).unwrap();
    if let Err(panic) = seen {
        std::panic::resume_unwind(panic);
    }
    about(&running).at(layer.join("bin/all")).lower(1, 4).is_proven();
}

fn deep(docker: &Docker, markers: &Markers) {
    const LAYERS: usize = 90;
    let marked = [0, 1, 45, 88, 89];
    docker.layered_image_with(DEEP, LAYERS, |n, dir| {
        if marked.contains(&n) {
            markers.write(&dir.join(format!("bin/x{n}")));
        }
        markers.write(&dir.join("bin/all"));
    });
    let name = unique("deep");
    docker.run(&["--name", &name, DEEP, "busybox", "sleep", "10000"]);
    let options = std::fs::read_to_string(format!("/proc/{}/mountinfo", docker.init_pid(&name)));
    assert!(options.unwrap().contains("lowerdir=l/"), "the layers are not relative paths");
    for n in marked {
        let running = exec(docker, &name, &[&format!("/bin/x{n}")]);
        about(&running).lower((LAYERS - n) as u64, LAYERS as u64 + 1).is_proven();
    }
    let all = exec(docker, &name, &["/bin/all"]);
    about(&all).lower(1, LAYERS as u64 + 1).is_proven();
    sh(docker, &name, "touch /bin/all");
    markers.patch(&upper(docker, &name).join("bin/all"));
    let again = exec(docker, &name, &["/bin/all"]);
    about(&again).upper().copied_up("before-start").is_proven();
    about(&all).lower(1, LAYERS as u64 + 1).copied_up("after-start").is_proven();
}

/// An engine in a container: its paths are those of another dockerd's, read in the wrong place.
fn nested(docker: &Docker, markers: &Markers) {
    let lab = tempfile::tempdir().unwrap();
    let root = lab.path().join("root");
    let script = "mkdir -p root/usr root/etc/alternatives root/proc root/sys root/dev root/tmp \
                  root/run root/var/lib root/root data; for l in bin sbin lib lib64; do \
                  ln -s usr/$l root/$l; done; ln -s ../run root/var/run; \
                  cp /etc/passwd /etc/group root/etc; chmod 755 root/start; \
                  tar -C root -cf root.tar .; tar -C inner -cf inner.tar .";
    let start = "#!/bin/bash\nawk '$3==\"cgroup\"{print $2}' /proc/mounts | \
                 while read -r m; do mount -o remount,bind,rw $m; done\n\
                 exec dockerd --bridge=none --iptables=false --ip6tables=false\n";
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("start"), start).unwrap();
    markers.write(&lab.path().join("inner/bin/x"));
    run(std::process::Command::new("sh").current_dir(lab.path()).args(["-ec", script]));
    let path = |name: &str| lab.path().join(name).display().to_string();
    let change = ["import", "--change", "ENV PATH=/usr/sbin:/usr/bin"];
    docker.cli(&[&change[..], &[&path("root.tar"), "lab-dind:1"]].concat());
    let mounts = [
        format!("-v={}:/var/lib/docker", path("data")),
        format!("-v={}:/inner.tar:ro", path("inner.tar")),
    ];
    let name = unique("dind");
    docker.run(&[
        "--name",
        &name,
        "--cap-add=ALL",
        "--cap-drop=SYS_RESOURCE",
        "--security-opt=seccomp=unconfined",
        "--security-opt=systempaths=unconfined",
        "--device-cgroup-rule=a *:* rwm",
        "-v=/usr:/usr:ro",
        "-v=/etc/alternatives:/etc/alternatives:ro",
        &mounts[0],
        &mounts[1],
        "lab-dind:1",
        "/start",
    ]);
    let inner = |words: &[&str]| docker.try_cli(&[&["exec", &name, "docker"], words].concat());
    whose_testkit::procfs::wait_for("inner engine", std::time::Duration::from_secs(60), || {
        inner(&["version"]).ok()
    });
    inner(&["import", "/inner.tar", "b:1"]).unwrap();
    let words = ["exec", "-i", &name, "docker", "run", "-i", "--network", "none", "--name", "in"];
    let id = docker.inspect(&name)["Id"].as_str().unwrap().to_owned();
    let command = docker.command(&[&words[..], &["b:1", "/bin/x"]].concat());
    let running = Running::start_contained(command, &id);
    assert_eq!(whose_testkit::procfs::nspid(running.pid()).map(|n| n.len()), Some(3));
    in_directory(about(&running).role(&["lower"]), Path::new(&path("data")));
    drop(running);
    drop(inner(&["rm", "-f", "in"]));
    docker.cli(&["rm", "-f", &name]);
}

/// Proven, and below this directory.
#[track_caller]
fn in_directory(claim: Claim, dir: &Path) {
    let told = claim.is_proven();
    let host = told["host"].as_str().unwrap_or_default();
    assert!(Path::new(host).starts_with(dir), "{told:#}");
}

/// The inner engine's store is a tmpfs that only the outer container has: no path of the host.
fn nested_on_tmpfs(docker: &Docker, markers: &Markers) {
    let lab = tempfile::tempdir().unwrap();
    markers.write(&lab.path().join("x"));
    let outer = unique("dindtmpfs");
    drop(engine_in_a_container(docker, lab.path(), &outer, None));
    docker.cli(&["cp", lab.path().join("x").to_str().unwrap(), &format!("{outer}:/x")]);
    let run = ["run", "-d", "--network=none", "--name", "in", "lab-inner:1"];
    let inner = inside(docker, &outer, &[&run[..], &["sleep", "10000"]].concat());
    drop(inside(docker, &outer, &["cp", "/x", "in:/bin/x"]));
    let command =
        docker.command(&["exec", "-i", &outer, "/usr/bin/docker", "exec", "-i", "in", "/bin/x"]);
    let running = Running::start_contained(command, &inner);
    assert_eq!(whose_testkit::procfs::nspid(running.pid()).map(|n| n.len()), Some(3));
    // Neither the host's mounts nor its own have the store: what is proven is the merged file.
    let claim = about(&running).role(&["upper", "merged"]).state(&["present"]);
    claim.fact("verified", "page").has_none();
    drop(running);
    drop(inside(docker, &outer, &["rm", "-f", "in"]));
    docker.cli(&["rm", "-f", &outer]);
}

/// In a container with the host's PID namespace and the rights: paths are those it can open itself.
fn observer(docker: &Docker, markers: &Markers) {
    let dir = tempfile::tempdir().unwrap();
    markers.write(&dir.path().join("x"));
    let shared = format!("-v={}:/shared", dir.path().display());
    let whose = whose_testkit::harness::Whose::built().bin().display().to_string();
    let options = [
        "--pid=host",
        "--cap-add=SYS_PTRACE",
        "--cap-add=DAC_READ_SEARCH",
        "--cap-add=SYS_ADMIN",
        "--security-opt=seccomp=unconfined",
        "-v=/usr/lib:/lib:ro",
        "-v=/usr/lib64:/lib64:ro",
        &format!("-v={whose}:{whose}:ro"),
        &shared,
    ];
    let observer = container(docker, &options);
    let socket = format!("unix://{}", docker.socket().display());
    let via = ["docker", "-H", &socket, "exec", &observer];
    let from = docker.init_pid(&observer);
    let asked = |running: &Running| about(running).via(&via).in_root_of(from);
    let other = container(docker, &[&shared]);
    // The layers of another container are out of its sight.
    let low = exec(docker, &other, &["/bin/low"]);
    asked(&low).says_nothing(&[1, 3]);
    // What both have is at its own place.
    let bound = exec(docker, &other, &["/shared/x"]);
    asked(&bound).at("/shared/x").is_proven();
}
