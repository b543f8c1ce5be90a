//! What the programs are measured on.

use std::path::Path;

use anyhow::{Context, Result, bail};
use whose_testkit::Needs;

use super::Host;
use super::docker::Held;
use super::jobs::LISTS;
use super::meter::Meter;
use super::places::Places;
use crate::rig::{Ending, Hierarchies, Names, Rig, Spec};

/// A host with a rig and a dockerd. Dropped in this order: each needs the next.
#[derive(Debug)]
pub(super) struct World {
    /// Kept: the programs run in its namespace.
    _places: Places,
    pub(super) docker: Option<Held>,
    pub(super) rig: Rig,
    pub(super) processes: usize,
    pub(super) containers: usize,
    pub(super) hierarchies: Hierarchies,
}

impl World {
    /// Sets it up; the meter then runs programs on it. Why there is no dockerd is among `skipped`.
    pub(super) fn stand(
        host: &Host,
        meter: &mut Meter,
        whose: &Path,
        ending: &Ending,
        skipped: &mut Vec<String>,
    ) -> Result<Self> {
        let (processes, containers) = (host.processes, host.containers);
        let (names, hierarchies) = (Names::Private, host.hierarchies);
        let spec = Spec { processes, containers, names, hierarchies };
        let rig = Rig::stand(&spec, ending)?;
        println!(
            "bench: {processes} processes and {containers} containers stand in {}",
            hierarchies.text()
        );
        let docker = match Needs("docker").missing() {
            // Lists of all processes go without.
            _ if host.jobs == [LISTS] => None,
            None => Some(Held::start()?),
            Some(why) => {
                skip(skipped, &format!("docker: {why}"))?;
                None
            }
        };
        ending.check()?;
        let names = rig.data_root.as_deref().context("the rig has no names")?;
        let temporary = std::env::temp_dir().canonicalize().context("temporary files")?;
        let data_root = docker.as_ref().map(|docker| docker.data_root.as_path());
        let places = Places::make(data_root, names, &[whose, &temporary])?;
        meter.namespace = Some(places.namespace());
        Ok(Self { _places: places, docker, rig, processes, containers, hierarchies })
    }
}

/// Says once what is not measured, and why. CI has to have everything.
pub(super) fn skip(skipped: &mut Vec<String>, why: &str) -> Result<()> {
    if std::env::var_os("WHOSE_CI").is_some_and(|value| value == "1") {
        bail!("skipped: {why} (WHOSE_CI=1 makes that a failure)");
    }
    if !skipped.iter().any(|said| said == why) {
        println!("skipped: {why}");
        skipped.push(why.to_owned());
    }
    Ok(())
}
