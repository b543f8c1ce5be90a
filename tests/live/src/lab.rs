//! One engine with a container of every kind.

use crate::unique;
use std::collections::BTreeSet;
use std::time::Duration;
use whose_testkit::docker::{Docker, IMAGE, View};
use whose_testkit::{procfs, which};

/// What a container of the lab is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs, and its processes don't change.
    Steady,
    /// Does not run.
    Stopped,
    /// Is restarted again and again.
    Loop,
}

/// One container.
#[derive(Debug, Clone)]
pub struct Variant {
    /// What it shows, e.g. `pid-host`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// Its full id.
    pub id: String,
    /// What can be expected of its processes.
    pub kind: Kind,
}

/// The engine and its containers.
#[derive(Debug)]
pub struct Lab {
    /// The engine.
    pub docker: Docker,
    /// The containers.
    pub variants: Vec<Variant>,
}

const SLEEP: [&str; 3] = [IMAGE, "sleep", "10000"];
/// The layers of the image that makes docker mount with relative paths.
const LAYERS: usize = 90;
/// The processes of the container with many.
pub const MANY: usize = 200;

impl Lab {
    /// Starts the engine and all containers.
    ///
    /// # Panics
    /// When something does not start, with the engine's log.
    #[must_use]
    pub fn start(view: View) -> Lab {
        let mut options = Docker::options(view).live_restore();
        if let Some(crun) = which("crun") {
            options = options.runtime("crun", crun);
        }
        let docker = options.start().unwrap_or_else(|e| panic!("{e}"));
        docker.image();
        let mut lab = Lab { docker, variants: Vec::new() };
        if view == View::V1 {
            // Only what is different there.
            lab.add("plain", "web", &[], &SLEEP);
            lab.start_crun();
            return lab;
        }
        lab.start_plain();
        lab.start_namespaces();
        lab.start_odd();
        lab.start_named();
        lab
    }

    fn start_plain(&mut self) {
        let two = "sleep 10001 & exec sleep 10000";
        let web = self.add(
            "plain",
            "web",
            &["--ipc=shareable", "--label", "tier=front", "--label", "odd=\u{e9} =,\"x\"\\ y"],
            &[IMAGE, "sh", "-c", two],
        );
        self.docker.cli(&["exec", "-d", &web, "sleep", "20001"]);
        self.add("init", "init", &["--init"], &[IMAGE, "sh", "-c", two]);
        self.add("user", "user", &["--user", "1000"], &SLEEP);
        let paused = self.add("paused", "paused", &[], &SLEEP);
        self.docker.cli(&["pause", &paused]);
        let loops = format!(
            "i=1; while [ $i -lt {MANY} ]; do sleep 30000 & i=$((i+1)); done; exec sleep 30000"
        );
        self.add("many", "many", &[], &[IMAGE, "sh", "-c", &loops]);
        let web_set = self.variant("plain").clone();
        self.settle(&web_set.name, 3);
        let many = self.variant("many").name.clone();
        self.settle(&many, MANY);
    }

    fn start_namespaces(&mut self) {
        let web = self.variant("plain").name.clone();
        self.add("pid-host", "pidhost", &["--pid=host"], &SLEEP);
        let pid = format!("--pid=container:{web}");
        self.add("pid-of-another", "joinpid", &[&pid], &SLEEP);
        let net = format!("--network=container:{web}");
        let ipc = format!("--ipc=container:{web}");
        self.add("joined", "joined", &[&pid, &net, &ipc], &SLEEP);
        let host = ["--user", "1000", "--network=host", "--ipc=host", "--uts=host"];
        self.add("host-namespaces", "hostns", &host, &SLEEP);
        let parent = self.docker.own_cgroup_parent();
        self.add("cgroup-parent", "parent", &[&parent], &SLEEP);
    }

    fn start_odd(&mut self) {
        let again = ["--restart=always"];
        self.add("restart-loop", "again", &again, &[IMAGE, "sh", "-c", "sleep 0.4; exit 3"]);
        self.last().kind = Kind::Loop;
        let labels = [
            "-l",
            "com.docker.compose.project=shop",
            "-l",
            "com.docker.compose.service=web",
            "-l",
            "com.docker.compose.container-number=1",
            "-l",
            "com.docker.compose.oneoff=False",
            "-l",
            "com.docker.compose.version=1.29.2",
        ];
        self.add("compose-labels", "shop_web_1", &labels, &SLEEP);
        self.docker.layered_image("lab-deep:1", LAYERS);
        self.add("90-layers", "deep", &[], &["lab-deep:1", "sleep", "10000"]);
        // A child nobody reaps: sleep, the init, does not.
        self.add("zombie", "undead", &[], &[IMAGE, "sh", "-c", "(exit 0) & exec sleep 10000"]);
        let name = unique("fresh");
        let id = self.docker.create(&["--name", &name, IMAGE, "sleep", "1"]);
        self.variants.push(Variant { what: "never-started", name, id, kind: Kind::Stopped });
        let gone = self.add("exited", "gone", &[], &[IMAGE, "sh", "-c", "exit 3"]);
        self.docker.cli(&["wait", &gone]);
        self.last().kind = Kind::Stopped;
        if self.docker.view() == View::V2 {
            self.start_crun();
        }
    }

    /// crun needs a capability that some machines take away; then it is left out by name.
    fn start_crun(&mut self) {
        let name = unique("crun");
        let started =
            self.docker.try_run(&[&["--runtime", "crun", "--name", &name][..], &SLEEP].concat());
        match started {
            Ok(id) => self.variants.push(Variant { what: "crun", name, id, kind: Kind::Steady }),
            Err(why) => eprintln!("skipped: crun on {}: {why}", self.docker.view().name()),
        }
    }

    /// Names that look like something else.
    fn start_named(&mut self) {
        for (what, name) in [("named-number", self.number()), ("named-ps", "ps".to_owned())] {
            let args = [&["--name", &name][..], &SLEEP].concat();
            let id = self.docker.run(&args);
            self.variants.push(Variant { what, name, id, kind: Kind::Steady });
        }
    }

    /// A name that is the PID of this very process.
    fn number(&self) -> String {
        let pid = std::process::id();
        assert!(pid > 9, "docker wants two characters");
        pid.to_string()
    }

    fn add(
        &mut self,
        what: &'static str,
        name: &str,
        options: &[&str],
        command: &[&str],
    ) -> String {
        let name = unique(name);
        let args = [&["--name", &name][..], options, command].concat();
        let id = self.docker.run(&args);
        self.variants.push(Variant { what, name: name.clone(), id, kind: Kind::Steady });
        name
    }

    fn last(&mut self) -> &mut Variant {
        self.variants.last_mut().expect("one was added")
    }

    /// Waits until a container has that many processes, none of them still a shell of docker's.
    fn settle(&self, name: &str, processes: usize) {
        procfs::wait_for(name, Duration::from_secs(20), || {
            let pids = self.docker.top_pids(name);
            let settled = |pid: &u32| procfs::comm(*pid).is_some_and(|comm| comm == "sleep");
            (pids.len() == processes && pids.iter().all(settled)).then_some(())
        });
    }

    /// The container for `what`.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn variant(&self, what: &str) -> &Variant {
        self.find(what).unwrap_or_else(|| panic!("no container for {what}"))
    }

    /// The container for `what`, if this machine could start it.
    #[must_use]
    pub fn find(&self, what: &str) -> Option<&Variant> {
        self.variants.iter().find(|v| v.what == what)
    }

    /// Those of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Variant> {
        self.variants.iter().filter(move |v| v.kind == kind)
    }

    /// A target that can only mean this container: the name, spelled out if it looks like
    /// something else.
    #[must_use]
    pub fn target(variant: &Variant) -> String {
        match variant.what {
            "named-number" | "named-ps" => format!("container:{}", variant.name),
            _ => variant.name.clone(),
        }
    }

    /// The PIDs of the whole cgroup of a container, zombies included, as the kernel lists them.
    ///
    /// # Panics
    /// When docker can't be asked.
    #[must_use]
    pub fn pids(&self, variant: &Variant) -> BTreeSet<u32> {
        self.docker.top_pids(&variant.name)
    }

    /// The shim of a running container: the parent of its init.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn shim(&self, variant: &Variant) -> u32 {
        procfs::ppid(self.docker.init_pid(&variant.name)).expect("the init has a parent")
    }
}
