//! What a capture holds: everything that answers about the host, or about some targets, are made of.
//!
//! The answers are given, and the host's recorder writes down what they read. So a capture needs to
//! know no file and no runtime.

use std::collections::BTreeSet;

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::{Host, ReadError};

use super::{Answer, Detail, Layers, PidsOptions, answer, pids};
use crate::index::Index;
use crate::index::plan::Plan;
use crate::model::gap::{Class, what};
use crate::model::{File, Gap, Listed, Row};
use crate::target::{Target, Typed, container, layer, path, pid, pod};

/// What was looked at.
#[derive(Debug, Default)]
pub struct Captured {
    /// The file that each process runs: PID, start ticks.
    pub binaries: Vec<((u32, u64), File)>,
    /// Containers, running or not.
    pub containers: usize,
    /// Targets that lead nowhere, or not all the way.
    pub problems: Vec<Answer>,
    /// What could not be read.
    pub gaps: Vec<Gap>,
    /// The time was over before all was looked at.
    pub is_cut: bool,
}

const WHOLE: Detail =
    Detail { needs: Needs::ALL, processes: true, served_by: true, binary: Some(Layers::Whole) };

/// Looks at the targets, or without any at the whole host.
///
/// # Errors
/// When /proc itself can't be read.
pub fn capture(index: &mut Index<'_>, targets: &[Typed]) -> Result<Captured, ReadError> {
    let mut captured = Captured::default();
    if targets.is_empty() {
        captured.host(index)?;
    }
    for typed in targets {
        // What was found out for one target would spare the next one reads that it needs alone.
        captured.target(&mut Index::new(index.host()), typed);
    }
    captured.is_cut = index.host().out_of_time();
    if captured.is_cut {
        let remedy = Some("try again with a longer --timeout");
        let why = "not everything was captured in time";
        let path = index.host().shown(b"");
        captured.add(&[&Gap::new(what::PROCESS, Class::TimedOut, path, why, remedy)]);
    }
    captured.gaps.extend(index.host_gaps());
    captured.binaries.sort_by_key(|(process, _)| *process);
    captured.binaries.dedup_by_key(|(process, _)| *process);
    Ok(captured)
}

impl Captured {
    fn host(&mut self, index: &mut Index<'_>) -> Result<(), ReadError> {
        self.absent(&mut Index::new(index.host()));
        let listing = index.scan(&Plan { also: Needs::ALL, ..Plan::default() })?;
        self.add(&listing.gaps.iter().collect::<Vec<_>>());
        if let Some(recorder) = index.host().recorder() {
            recorder.close();
        }
        let containers = index.containers(true, Needs::ALL)?;
        self.add(&containers.gaps.iter().collect::<Vec<_>>());
        self.containers = containers.rows.len();
        for row in &listing.rows {
            let text = row.process.pid.to_string().into();
            let target = Target::Pid(pid::Pid(row.process.pid));
            // Asked alone it may need what the scan had from another process.
            self.one(&mut Index::new(index.host()), &Typed { text, target });
        }
        for listed in &containers.rows {
            self.container(index.host(), listed);
        }
        self.pods(index.host(), &containers.rows);
        let hosts: Vec<BString> =
            self.binaries.iter().filter_map(|(_, f)| f.host.known().cloned()).collect();
        let (layers, gaps) = index.all_layers();
        self.add(&gaps.iter().collect::<Vec<_>>());
        let mut paths: Vec<BString> = layers.into_iter().chain(hosts).collect();
        paths.sort();
        paths.dedup();
        for path in paths {
            let target = Target::Path(path::HostPath(path.clone()));
            self.one(index, &Typed { text: path, target });
        }
        Ok(())
    }

    /// A container as it is asked for first: whoever knows the host already reads less.
    fn container(&mut self, host: &Host, listed: &Listed) {
        let Some(owner) = listed.owner() else { return };
        let name = owner.best_name().cloned();
        for text in [Some(owner.id.clone()), name.filter(|n| *n != owner.id)].into_iter().flatten()
        {
            let target = Target::Container(container::short(BStr::new(&text)));
            self.one(&mut Index::new(host), &Typed { text, target });
        }
        if let Some(first) = listed.pids.first() {
            let target = Target::Pid(pid::Pid(*first));
            self.one(&mut Index::new(host), &Typed { text: first.to_string().into(), target });
        }
    }

    /// Pods as they are asked for: by uid and by name.
    fn pods(&mut self, host: &Host, containers: &[Listed]) {
        let mut asked: BTreeSet<BString> = BTreeSet::new();
        for pod in containers.iter().filter_map(|c| c.owner()).filter_map(|o| o.pod()) {
            asked.extend(pod.full_name());
            asked.extend(pod.uid);
        }
        for text in asked {
            let Some(name) = pod::long(BStr::new(&text)) else { continue };
            self.one(&mut Index::new(host), &Typed { text, target: Target::Pod(name) });
        }
    }

    /// Looks for what is not there: a name that nothing has is searched for to the end.
    fn absent(&mut self, index: &mut Index<'_>) {
        let text = BString::from("no such name");
        let named = Target::Container(container::bare(BStr::new(&text)));
        let layer = Target::Layer(layer::Name::Directory(text.clone()));
        for target in [named, layer] {
            let answer = answer(index, &Typed { text: text.clone(), target }, WHOLE);
            self.add(&answer.all_gaps());
        }
    }

    fn target(&mut self, index: &mut Index<'_>, typed: &Typed) {
        let Some(answer) = self.one(index, typed) else { return };
        if answer.owner().is_some_and(|o| o.kind.contains()) {
            self.containers += 1;
        }
        let files = answer.processes.iter().map(|r| (r.process.pid, r.process.start_ticks()));
        for (pid, _) in files.collect::<Vec<_>>() {
            let target = Target::Pid(pid::Pid(pid));
            self.one(index, &Typed { text: pid.to_string().into(), target });
        }
        // The container of a process is looked up by its name as well.
        let owner = answer.owner().filter(|o| o.kind.contains()).map(|o| o.id.clone());
        if let Some(id) = owner.filter(|_| answer.process.is_some()) {
            let target = Target::Container(container::short(BStr::new(&id)));
            self.one(index, &Typed { text: id, target });
        }
        if answer.exit() != 0 {
            self.problems.push(answer);
        }
    }

    /// One answer; `None` once the time is over.
    fn one(&mut self, index: &mut Index<'_>, typed: &Typed) -> Option<Answer> {
        if index.host().out_of_time() {
            return None;
        }
        let answer = answer(index, typed, WHOLE);
        if let Target::Container(_) | Target::Pod(_) = typed.target {
            pids(index, typed, PidsOptions::default());
        }
        if let (Some(row), Some(file)) = (&answer.process, &answer.binary) {
            self.binaries.push((key(row), file.clone()));
        }
        self.add(&answer.all_gaps());
        Some(answer)
    }

    fn add(&mut self, gaps: &[&Gap]) {
        for gap in gaps {
            if !self.gaps.contains(gap) {
                self.gaps.push(Gap::clone(gap));
            }
        }
    }
}

fn key(row: &Row) -> (u32, u64) {
    (row.process.pid, row.process.start_ticks())
}
