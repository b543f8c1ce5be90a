//! Nomad's own tasks: `{share,reserve}.slice/<allocation>.<task>.scope` on cgroup v2,
//! `nomad[/reserve]/<allocation>.<task>` on v1 (nomad client/lib/cgroupslib).

use super::claim::{Claim, Subject};
use super::place::{self, Place};
use super::{Runtime, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Nomad;

const ENGINE: Engine = Engine("nomad");

impl Runtime for Nomad {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let (allocation, task) = task(place)?;
            let mut owner = Owner::new(OwnerKind::Container, ENGINE, allocation);
            owner.name = Some(task.into());
            Some(owner)
        });
        levels.into()
    }
}

fn task(place: Place<'_>) -> Option<(&[u8], &[u8])> {
    let text = match place.parent() {
        b"share.slice" | b"reserve.slice" => place.text().strip_suffix(b".scope")?,
        b"nomad" => place.text(),
        b"reserve" if place.grandparent() == b"nomad" => place.text(),
        _ => return None,
    };
    let (allocation, task) = text.split_at_checked(36)?;
    let task = task.strip_prefix(b".").and_then(segment::chosen)?;
    segment::is_uuid(allocation, b'-').then_some((allocation, task))
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use whose_kernel::parse::cgroup::parse;

    use super::Nomad;
    use crate::runtime::{Claim, Runtime, Subject};

    #[test]
    fn only_where_nomad_puts_them() {
        let task = "1516e0f0-b9bc-5ef8-89e2-a23fa6bbd7fc.redis";
        let name = |path: String| {
            let lines = parse(format!("5:cpuset:{path}\n").as_bytes()).unwrap();
            let comm = BStr::new("");
            let subject = Subject { lines: &lines, comm, args: None, uid: None, nspid: None };
            match Nomad.claim(&subject) {
                Claim::Mine(mine) => mine.levels[0].owner.name.as_ref().map(ToString::to_string),
                _ => None,
            }
        };
        let redis = Some("redis".to_owned());
        assert_eq!(name(format!("/nomad/reserve/{task}")), redis);
        assert_eq!(name(format!("/x.slice/reserve.slice/{task}.scope")), redis);
        assert_eq!(name(format!("/system.slice/{task}.scope")), None);
        assert_eq!(name(format!("/reserve/{task}")), None);
        assert_eq!(name(format!("/nomad/{}", &task[..37])), None);
        assert_eq!(name(format!("/nomad/{}", &task[1..])), None);
    }
}
