//! The card of a pod, and a container's line about its pod.

use std::io;

use bstr::BString;
use whose_core::answer::Answer;
use whose_core::model::{Owner, OwnerKind, Pod};

use crate::card::Card;
use crate::text;

/// Namespace, name and uid; what is known of the container in it.
pub(crate) fn line(owner: &Owner, pod: &Pod) -> String {
    let part = |p: &Option<BString>| p.as_ref().map_or_else(|| "?".into(), |p| text::sanitise(p));
    let (namespace, name) = (part(&pod.namespace), part(&pod.name));
    // A pod that is no cgroup's of a kubelet is its engine's own, and has no namespace.
    let mut line = match owner.pod_uid.is_none() && pod.namespace.is_none() && pod.name.is_some() {
        true => format!("{name}   {}", part(&pod.uid)),
        false => format!("{namespace}/{name}   {}", part(&pod.uid)),
    };
    if let Some(container) = &pod.container {
        line.push_str(&format!("   container {}", text::sanitise(container)));
    }
    match pod.restarts {
        None | Some(0) => {}
        Some(1) => line.push_str("   1 restart"),
        Some(n) => line.push_str(&format!("   {n} restarts")),
    }
    if let Some(class) = owner.qos() {
        line.push_str(&format!("   {class}"));
    }
    line
}

impl Card<'_> {
    pub(crate) fn pod(&mut self, answer: &Answer) -> io::Result<()> {
        let Some(owner) = answer.owner() else { return Ok(()) };
        let rows = &answer.processes;
        self.head(&text::sanitise(&owner.label()), if rows.is_empty() { "" } else { "running" })?;
        let pod = owner.pod().unwrap_or_default();
        self.line("pod", &line(owner, &pod))?;
        for outer in answer.chain().iter().rev().skip(1) {
            self.level("within", outer)?;
        }
        let mut inside: Vec<&Owner> = Vec::new();
        for owner in rows.iter().filter_map(|r| r.owner()).filter(|o| o.kind.contains()) {
            if !inside.iter().any(|o| o.id == owner.id && o.runtime == owner.runtime) {
                inside.push(owner);
            }
        }
        inside.sort_by_key(|o| (o.kind != OwnerKind::Sandbox, o.label()));
        for owner in inside {
            self.level(owner.kind.name(), owner)?;
        }
        self.processes(answer, owner)
    }
}
