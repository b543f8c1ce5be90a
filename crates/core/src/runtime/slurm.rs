//! Slurm job steps: `[<node>_]slurmstepd.scope/job_<n>/step_<x>` on cgroup v2, with
//! `user` for the job's processes and `slurm` for slurmstepd below (slurm
//! src/plugins/cgroup/v2/cgroup_v2.c); `slurm[_<node>]/uid_<u>/job_<n>/step_<x>` on v1
//! (src/plugins/cgroup/v1/xcgroup.c). Newer releases may have another id in place of `job_<n>`.

use super::claim::{Claim, Subject};
use super::place::{self, Plumbing};
use super::{Runtime, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Slurm;

const ENGINE: Engine = Engine("slurm");

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
