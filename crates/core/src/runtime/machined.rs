//! Machines that are registered with systemd-machined, whoever runs them.

use bstr::{BStr, BString};
use whose_kernel::{Class, Host, ReadError};

use super::docker::{of_admin, open_all};
use super::{FoundRoots, Hints, Inside, StateRoot, segment};
use crate::model::{ContainerState, Description};
use crate::state::machined::{self as files, Machine};

/// Where they are registered.
pub(super) const PLACE: &str = "run/systemd/machines";
/// Machines that a host may have.
const MOST: usize = 100_000;
/// How the links from units begin.
const UNIT: &[u8] = b"unit:";

pub(super) fn roots(host: &Host, hints: Hints<'_>) -> FoundRoots {
    match hints {
        Hints::Default => of_admin(open_all(host, [PLACE.into()])),
        Hints::Inside(inside) => of_inside(inside),
        _ => FoundRoots::default(),
    }
}

fn of_inside(inside: &Inside<'_>) -> FoundRoots {
    let mut found = FoundRoots::default();
    found.take(inside.process.directory(BStr::new(PLACE)), None);
    found
}

/// The machine of this name, if it is a container and `service` registered it.
pub(super) fn machine(root: &StateRoot, name: &BStr, service: &str) -> Result<Machine, ReadError> {
    let gone = || ReadError::new(root.root.shown(), Class::Gone, "no machine of this name");
    let own = segment::chosen(name).filter(|n| !n.starts_with(UNIT)).ok_or_else(gone)?;
    let machine = files::parse(&root.root.read(own, files::CAP)?);
    let fits = machine.name == name && machine.class == "container" && machine.service == service;
    if fits { Ok(machine) } else { Err(gone()) }
}

/// Names of those that `service` registered.
pub(super) fn list(root: &StateRoot, service: &str) -> Result<Vec<BString>, ReadError> {
    let mut names: Vec<BString> = root.root.list(b"", MOST)?.into_iter().map(|e| e.name).collect();
    names.retain(|name| {
        !name.starts_with(UNIT) && !name.starts_with(b".") && {
            let read = machine(root, name.as_ref(), service);
            read.map_or_else(|e| e.class != Class::Gone, |_| true)
        }
    });
    Ok(names)
}

/// What is registered of it.
pub(super) fn describe(root: &StateRoot, machine: &Machine) -> Description {
    let unit = &machine.unit;
    // A machine's scope is in this slice, a service is where it was put.
    let slice: &[u8] =
        if unit.ends_with(b".service") { b"/system.slice/" } else { b"/machine.slice/" };
    let of_unit = |slice: &[u8], end: &[u8]| BString::from([slice, unit, end].concat());
    let mut cgroups = vec![of_unit(slice, b"/payload"), of_unit(slice, b"")];
    if unit.ends_with(b".service") {
        cgroups.push(of_unit(b"/machine.slice/", b"/payload"));
        cgroups.push(of_unit(b"/machine.slice/", b""));
    }
    Description {
        name: Some(machine.name.clone()),
        engine_state: Some("running"),
        believed: Some(ContainerState::Running),
        started: machine.registered,
        pid: machine.leader,
        rootfs: machine.root.clone(),
        cgroups: if unit.is_empty() { Vec::new() } else { cgroups },
        path: root.root.join(&machine.name),
        ..Description::default()
    }
}
