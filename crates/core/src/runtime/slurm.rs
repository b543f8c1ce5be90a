//! Slurm job steps: `[<node>_]slurmstepd.scope/job_<n>/step_<x>` on cgroup v2, with
//! `user` for the job's processes and `slurm` for slurmstepd below (slurm
//! src/plugins/cgroup/v2/cgroup_v2.c); `slurm[_<node>]/uid_<u>/job_<n>/step_<x>` on v1
//! (src/plugins/cgroup/v1/xcgroup.c). Newer releases may have another id in place of `job_<n>`.
//!
//! Its state bears out that a job runs here, and tells no more of it.

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::look::Look;
use whose_kernel::root::Links;
use whose_kernel::{Class, Host, Mode, ReadError, parse};

use super::claim::{Claim, Subject};
use super::place::{self, Plumbing};
use super::{FoundRoots, Hints, Runtime, StateRoot, segment};
use crate::model::{ContainerState, Description, Engine, Owner, OwnerKind};
use crate::state::slurm as files;

/// See the module.
#[derive(Debug)]
pub(super) struct Slurm;

const ENGINE: Engine = Engine("slurm");
/// Spool directories: Slurm's default, and those of distributions.
const SPOOLS: [&str; 3] = ["var/spool/slurmd", "var/spool/slurm/d", "var/lib/slurm/slurmd"];
/// Its configuration.
const CONFIGS: [&str; 2] = ["etc/slurm/slurm.conf", "etc/slurm-llnl/slurm.conf"];
/// Largest configuration, bytes.
const CAP: usize = 8 << 20;
/// Entries of a spool directory.
const MOST: usize = 100_000;

impl Runtime for Slurm {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let step = step(place.text());
            // A job is named where its step is, or by itself when it has none.
            let (id, name) = match step {
                Some(step) => (job(place.above())?, Some(step.into())),
                None if place.child().starts_with(b"step_") => return None,
                None => {
                    let own = std::iter::once(place.text()).chain(place.above());
                    (job(own).filter(|_| place.text().starts_with(b"job_"))?, None)
                }
            };
            let mut owner = Owner::new(OwnerKind::Job, ENGINE, id);
            owner.name = name;
            Some(owner)
        });
        let daemon = place::plumbing(subject.lines, |place| {
            let of_step = place.text() == b"slurm" && step(place.parent()).is_some();
            of_step.then(|| job(place.above().skip(1)).map(Plumbing::of)).flatten()
        });
        place::claim(levels, daemon)
    }

    fn kind(&self) -> OwnerKind {
        OwnerKind::Job
    }

    fn has_state(&self) -> bool {
        true
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        let mut found = FoundRoots::default();
        let paths: Vec<BString> = match hints {
            Hints::Default => SPOOLS.map(BString::from).into(),
            Hints::Configured => {
                let read = |path: &str| host.root().read(path.as_bytes(), CAP).ok();
                CONFIGS.into_iter().filter_map(|path| files::spool_dir(&read(path)?)).collect()
            }
            _ => return found,
        };
        // Packages give the directory to the user `slurm`; slurmd runs as root, and what counts in it is root's.
        let owner = (host.mode() != Mode::Saved).then_some(0);
        for path in paths {
            let open = || host.root().descend(&path, Links::Never, owner);
            found.take(host.guard(&path).and_then(|()| open()), None);
        }
        found
    }

    fn describe(
        &self,
        root: &StateRoot,
        id: &BStr,
        _: Needs,
    ) -> Option<Result<Description, ReadError>> {
        Some(describe(root, id))
    }
}

/// A job of which a step has its socket here.
fn describe(root: &StateRoot, id: &BStr) -> Result<Description, ReadError> {
    let gone = || ReadError::new(root.root.shown(), Class::Gone, "no socket of a step of this job");
    let job = parse::decimal32(id).ok_or_else(gone)?;
    let is_its = |name: &BString| files::parse_socket(name).is_some_and(|(own, _)| own == job);
    let mut names: Vec<BString> = root.root.list(b"", MOST)?.into_iter().map(|e| e.name).collect();
    let is_roots = |name: &BString, look: &Look| match root.root.recorded_owner(name) {
        Some(owner) => owner == 0,
        None => root.root.trusts(look),
    };
    names.retain(|name| {
        let look = if is_its(name) { root.root.look(name).ok() } else { None };
        look.is_some_and(|look| look.is_socket() && is_roots(name, &look))
    });
    names.sort_unstable();
    let socket = names.first().ok_or_else(gone)?;
    Ok(Description {
        believed: Some(ContainerState::Running),
        path: root.root.join(socket),
        ..Description::default()
    })
}

fn step(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"step_").filter(|s| !s.is_empty()).map(|_| text)
}

/// The id of the job whose segment comes first, if those after it are Slurm's.
fn job<'p>(mut above: impl Iterator<Item = &'p [u8]>) -> Option<&'p [u8]> {
    let text = above.next()?;
    let parent = above.next()?;
    let number = |text: &'p [u8], prefix: &str| {
        let digits = text.strip_prefix(prefix.as_bytes())?;
        (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then_some(digits)
    };
    if parent == b"slurmstepd.scope" || parent.ends_with(b"_slurmstepd.scope") {
        return number(text, "job_").or_else(|| segment::chosen(text));
    }
    let root = above.next()?;
    let v1 = number(parent, "uid_").is_some() && (root == b"slurm" || root.starts_with(b"slurm_"));
    v1.then(|| number(text, "job_")).flatten()
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use whose_kernel::parse::cgroup::parse;

    use super::Slurm;
    use crate::model::Role;
    use crate::runtime::{Claim, Mine, Runtime, Serves, Subject};

    fn mine(path: &str) -> Mine {
        let lines = parse(format!("0::{path}\n").as_bytes()).unwrap();
        let comm = BStr::new("");
        let subject = Subject { lines: &lines, comm, args: None, uid: None, nspid: None };
        match Slurm.claim(&subject) {
            Claim::Mine(mine) => mine,
            _ => Mine::default(),
        }
    }

    fn job(path: &str) -> Vec<(String, Option<String>, usize)> {
        let level = |l: crate::runtime::Level| {
            (l.owner.id.to_string(), l.owner.name.map(|n| n.to_string()), l.depth)
        };
        mine(path).levels.into_iter().map(level).collect()
    }

    #[test]
    fn jobs_and_steps() {
        let step = |id: &str, name: &str, depth| vec![(id.into(), Some(name.into()), depth)];
        let scope = "/system.slice/node1_slurmstepd.scope";
        assert_eq!(job(&format!("{scope}/job_7/step_0/user/task_0")), step("7", "step_0", 4));
        assert_eq!(job(&format!("{scope}/sABC/step_extern")), step("sABC", "step_extern", 4));
        assert_eq!(job(&format!("{scope}/job_7")), [("7".into(), None, 3)]);
        assert_eq!(job("/slurm_node1/uid_7/job_8/step_batch"), step("8", "step_batch", 4));
        for none in [
            format!("{scope}/system"),
            scope.to_owned(),
            "/slurm/job_8/step_0".to_owned(),
            "/system.slice/job_8/step_0".to_owned(),
            "/slurm/uid_7/job_x".to_owned(),
            "/slurm/uid_7".to_owned(),
        ] {
            assert_eq!(mine(&none), Mine::default(), "{none}");
        }
    }

    #[test]
    fn slurmstepd_serves_the_job() {
        let daemon = mine("/system.slice/slurmstepd.scope/job_7/step_0/slurm");
        assert_eq!(daemon.role, Some(Role::Plumbing));
        assert_eq!(daemon.serves, Some(Serves::Id("7".into())));
        assert_eq!(mine("/system.slice/slurmstepd.scope/job_7/step_0/user").role, None);
    }
}
