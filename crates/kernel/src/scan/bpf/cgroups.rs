//! The cgroups of all processes, read once a group.

use std::rc::Rc;

use super::Task;
use crate::error::{Class, ReadError};
use crate::host::Host;
use crate::parse::cgroup::Line;

/// What `/proc/PID/cgroup` tells, or why it could not be read. Members of a group share theirs.
pub type Cgroups = Result<Rc<Vec<Line>>, ReadError>;

/// The cgroups of each of these processes of one scan, in the same order. A group's are read from its
/// first and its last member; when they differ, a process has moved meanwhile, and each member's own
/// are read.
#[must_use]
pub fn cgroups(host: &Host, tasks: &[Task]) -> Vec<Cgroups> {
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (at, task) in tasks.iter().enumerate() {
        let group = task.group as usize;
        if members.len() <= group {
            members.resize(group + 1, Vec::new());
        }
        members[group].push(at);
    }
    let mut all: Vec<Option<Cgroups>> = vec![None; tasks.len()];
    for group in &members {
        match shared(host, tasks, group) {
            Some(lines) => group.iter().for_each(|at| all[*at] = Some(Ok(Rc::clone(&lines)))),
            None => group.iter().for_each(|at| all[*at] = Some(own(host, &tasks[*at]))),
        }
    }
    let none = || Err(ReadError::new("cgroup", Class::Gone, "no such process"));
    all.into_iter().map(|one| one.unwrap_or_else(none)).collect()
}

/// What the first and the last member that are still there both tell. That the first is who it was is
/// made sure of; whoever has the last one's PID by now either tells the same, or the group is read one
/// by one.
fn shared(host: &Host, tasks: &[Task], group: &[usize]) -> Option<Rc<Vec<Line>>> {
    let first =
        group.iter().enumerate().find_map(|(n, at)| Some((n, own(host, &tasks[*at]).ok()?)));
    let (from, first) = first?;
    let mut rest = group[from + 1..].iter().rev();
    let last = rest.find_map(|at| host.process(tasks[*at].pid).and_then(|dir| dir.cgroup()).ok());
    last.is_none_or(|last| last == *first).then_some(first)
}

/// One process's own; `gone` when another has its PID by now.
fn own(host: &Host, task: &Task) -> Cgroups {
    let dir = host.process(task.pid)?;
    let lines = dir.cgroup()?;
    dir.still(task.start_ticks)?;
    Ok(Rc::new(lines))
}
