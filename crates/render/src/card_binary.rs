//! The part of a card that tells which file on the host runs.

use std::io;

use whose_core::model::{CopiedUp, Fact, File, FileRole, FileState, Verified};

use crate::card::Card;
use crate::text;

impl Card<'_> {
    pub(crate) fn binary(&mut self, file: &File) -> io::Result<()> {
        let plain =
            file.host.known() == file.inside.as_ref() && file.role == Some(FileRole::Direct);
        if plain && file.state == Some(FileState::Present) && file.copied_up.is_none() {
            // The host's own file under the name that everybody sees.
            let path = file.host.known().map(|p| text::sanitise(p)).unwrap_or_default();
            return self.line("binary", &format!("{path}   {}", proof(file)));
        }
        match file.host.known() {
            Some(path) => self.line("binary", &text::sanitise(path))?,
            None => {
                let why = file.why.as_deref().unwrap_or("no file on the host is what runs");
                let why = match file.state {
                    Some(FileState::Anonymous) => "runs from memory (memfd), no file",
                    Some(FileState::Unlinked) => "its file has no name left",
                    _ => why,
                };
                self.line(
                    "binary",
                    &self.style.warn(&format!("no host path: {}", text::sanitise(why.as_bytes()))),
                )?;
                for candidate in &file.candidates {
                    self.line("", &format!("it may be {}", text::sanitise(candidate)))?;
                }
            }
        }
        let details = details(file);
        if details.is_empty() { Ok(()) } else { self.line("", &details.join(", ")) }
    }

    /// Where the host has a file of a container's.
    pub(crate) fn on_host(&mut self, file: &File) -> io::Result<()> {
        if let Some(path) = file.host.known() {
            self.line("on host", &text::sanitise(path))?;
            let role = file.role.filter(|role| *role != FileRole::Direct).map(FileRole::name);
            let how = match file.verified {
                Verified::Content => Some("of the same content only"),
                Verified::Layers => Some("by its engine's state: it does not run"),
                _ => None,
            };
            let told: Vec<&str> = role.into_iter().chain(how).collect();
            return if told.is_empty() { Ok(()) } else { self.line("", &told.join(", ")) };
        }
        let is_none = file.host == Fact::Absent;
        let known = if is_none { "no file" } else { "no path is proven" };
        let why = file.why.as_deref().map(|why| format!(": {}", text::sanitise(why.as_bytes())));
        let why = format!("{known}{}", why.unwrap_or_default());
        self.line("on host", &if is_none { why } else { self.style.warn(&why) })?;
        for candidate in &file.candidates {
            let path = text::sanitise(candidate);
            self.line("", &if is_none { path } else { format!("it may be {path}") })?;
        }
        match &file.via_proc {
            Some(path) => self.line("", &format!("{} opens it", text::sanitise(path))),
            None => Ok(()),
        }
    }
}

/// Place in the stack, image, proof, and what is out of the ordinary.
fn details(file: &File) -> Vec<String> {
    let mut parts = Vec::new();
    let layer = file.layer.as_ref();
    let place = layer.and_then(|l| Some((l.index?, l.of?)));
    match (file.role, place) {
        (Some(role), Some((index, of))) => {
            parts.push(format!("{} {} of {of}", role.name(), index + 1));
        }
        (Some(FileRole::Direct), None) | (None, _) => {}
        (Some(role), None) => parts.push(role.name().to_owned()),
    }
    if let Some(images) = layer.map(|l| &l.images).filter(|i| !i.is_empty()) {
        let names: Vec<String> = images.iter().map(|i| text::sanitise(i)).collect();
        parts.push(format!("image {}", names.join(" ")));
    }
    match file.state {
        None | Some(FileState::Present | FileState::Anonymous) => {}
        Some(state) => parts.push(format!("its name is {}", state.name())),
    }
    match file.copied_up {
        Some(CopiedUp::BeforeStart) => parts.push("changed in the container, then started".into()),
        Some(CopiedUp::AfterStart) => parts.push("the container changed its copy since".into()),
        Some(CopiedUp::No) | None => {}
    }
    if let Some(program) = &file.program {
        parts.push(format!("runs {}", text::sanitise(program)));
    }
    if file.verified != Verified::Unproven {
        parts.push(proof(file).to_owned());
    }
    parts
}

fn proof(file: &File) -> &'static str {
    match file.verified {
        Verified::Page => "proven by page identity",
        Verified::MappedInode => "proven by the mapped inode",
        Verified::Handle => "by the kernel's file handle; what is mapped could not be compared",
        Verified::Content => "of the same content",
        Verified::Layers => "by the engine's table of layers",
        Verified::Unproven => "not proven",
    }
}
