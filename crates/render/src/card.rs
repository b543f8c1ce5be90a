//! The card: one target, what matters first, full paths and ids where one would paste them.

use std::io::{self, Write};

use bstr::ByteSlice;
use whose_core::answer::Answer;
use whose_core::model::{Described, Evidence, Owner, OwnerKind, Process, Row, Source};
use whose_fields::{Cell, FieldId, Record};

use crate::style::Style;
use crate::{card_pod, text};

/// Columns of the labels.
const LABEL: usize = 11;
/// Column at which the right part of the first line begins, if there is room.
const RIGHT: usize = 54;
/// PIDs of a container that the card names.
const SOME_PIDS: usize = 12;

/// Writes the card of a found target. With `why` every piece of evidence has a line.
///
/// # Errors
/// The writer's.
pub fn card(out: &mut dyn Write, answer: &Answer, style: Style, why: bool) -> io::Result<()> {
    let mut card = Card { out, style };
    match (&answer.file, &answer.process) {
        (Some(file), None) => card.file(answer, file)?,
        (_, Some(row)) => card.process(answer, row)?,
        (None, None) if answer.owner().is_some_and(|o| o.kind == OwnerKind::Pod) => {
            card.pod(answer)?;
        }
        (None, None) => card.container(answer)?,
    }
    if why { card.why(answer) } else { card.because(answer.evidence()) }
}

pub(crate) struct Card<'o> {
    out: &'o mut dyn Write,
    pub(crate) style: Style,
}

impl Card<'_> {
    pub(crate) fn head(&mut self, left: &str, right: &str) -> io::Result<()> {
        if right.is_empty() {
            return writeln!(self.out, "{}", self.style.strong(left));
        }
        let room = RIGHT.saturating_sub(text::width(left)).max(2);
        writeln!(self.out, "{}{}{right}", self.style.strong(left), " ".repeat(room))
    }

    pub(crate) fn line(&mut self, label: &str, value: &str) -> io::Result<()> {
        let label = format!("{label:LABEL$}");
        writeln!(self.out, "  {}{value}", self.style.dim(&label))
    }

    fn process(&mut self, answer: &Answer, row: &Row) -> io::Result<()> {
        let p = &row.process;
        let args: Vec<&[u8]> = p.args.known().into_iter().flatten().map(|a| a.as_slice()).collect();
        let command = match (args.is_empty(), p.stat.known()) {
            (false, _) => text::command_line(&args),
            (true, Some(_)) => format!("[{}]", text::sanitise(p.comm())),
            (true, None) => "?".into(),
        };
        self.head(&format!("{}  {command}", p.pid), &standing(row))?;
        if answer.kind == "thread" {
            let thread = text::sanitise(&answer.target);
            self.line("thread", &format!("{thread} of process {}", p.pid))?;
        }
        self.owner(answer)?;
        if answer.owner().is_some_and(|o| o.kind.contains() || o.kind == OwnerKind::Unknown) {
            self.inside(p)?;
        }
        if let Some(binary) = &answer.binary {
            self.binary(binary)?;
        }
        self.part(answer, p)?;
        self.hidden(answer)?;
        self.served_by(answer)
    }

    /// What the process is for, where that is not plain.
    fn part(&mut self, answer: &Answer, p: &Process) -> io::Result<()> {
        let Some(role) = p.role.known().map(|r| r.name()) else { return Ok(()) };
        match (role, p.serves.known()) {
            ("plumbing", Some(id)) => {
                let name = answer.serves_name.as_ref();
                let name = name.map(|n| format!("{}   ", text::sanitise(n))).unwrap_or_default();
                self.line("plumbing", &format!("serves {name}{}", text::sanitise(id)))
            }
            ("plumbing", None) => self.line("plumbing", "of an engine"),
            ("sandbox", _) if answer.hidden.is_some() => self.line("role", "runs the sandbox"),
            ("exec", _) => self.line("started", "from outside, into the container (exec)"),
            ("kernel", _) => self.line("kernel", "a thread of the kernel"),
            _ => Ok(()),
        }
    }

    fn inside(&mut self, p: &Process) -> io::Result<()> {
        let mut parts = Vec::new();
        if let Some(pids) = p.nspid().filter(|n| n.len() > 1) {
            let inner: Vec<String> = pids[1..].iter().map(u32::to_string).collect();
            parts.push(format!("pid {}", inner.join(", ")));
        }
        if let (Some(inside), Some(uid)) = (p.inside_uid.known(), p.uid())
            && *inside != uid
        {
            parts.push(format!("uid {inside}"));
        }
        if let Some(exe) = p.exe.known() {
            parts.push(text::sanitise(exe));
        }
        if let Some(cwd) = p.cwd.known() {
            parts.push(format!("cwd {}", text::sanitise(cwd)));
        }
        if parts.is_empty() { Ok(()) } else { self.line("inside", &parts.join("   ")) }
    }

    pub(crate) fn owner(&mut self, answer: &Answer) -> io::Result<()> {
        let chain = answer.chain();
        let Some(owner) = answer.owner() else {
            return self.line("owner", &self.style.warn("not known: membership could not be read"));
        };
        self.level(owner.kind.name(), owner)?;
        if let Some(d) = owner.description() {
            let image = d.image.iter().chain(&d.image_id).map(|i| text::sanitise(i));
            let image: Vec<String> = image.collect();
            if !image.is_empty() {
                self.line("image", &image.join("   "))?;
            }
            if let Some(compose) = &d.compose {
                let service =
                    compose.service.as_ref().map(|s| format!("   service {}", text::sanitise(s)));
                let project = text::sanitise(&compose.project);
                self.line("compose", &format!("project {project}{}", service.unwrap_or_default()))?;
            }
        }
        if let Some(pod) = owner.pod() {
            self.line("pod", &card_pod::line(owner, &pod))?;
        }
        let uid = owner.pod().and_then(|pod| pod.uid);
        for outer in chain.iter().rev().skip(1) {
            // What holds this pod is told; the pod itself is on a line of its own.
            if outer.kind != OwnerKind::Pod || uid.as_ref() != Some(&outer.id) {
                self.level("within", outer)?;
            }
        }
        Ok(())
    }

    pub(crate) fn level(&mut self, label: &str, owner: &Owner) -> io::Result<()> {
        let id = text::sanitise(&owner.id);
        let value = match owner.kind {
            OwnerKind::Host => "the host itself".into(),
            OwnerKind::Unknown => {
                let why = match owner.described {
                    Described::Unread(_) => "contained, and whose it is could not be read",
                    _ => "contained, but no known runtime claims it",
                };
                self.style.warn(format!("{why}   {id}").trim_end())
            }
            OwnerKind::Unit | OwnerKind::Session => {
                format!(
                    "{}   {id}",
                    owner.name.as_ref().map(|n| text::sanitise(n)).unwrap_or_default()
                )
            }
            _ => {
                let name = owner.best_name().map_or_else(|| "?".into(), |n| text::sanitise(n));
                let user = owner.description().and_then(|d| d.user.as_ref());
                let user = user.map(|u| format!("   of {}", text::sanitise(u))).unwrap_or_default();
                let state =
                    owner.state.known().map(|s| format!("   {}", s.name())).unwrap_or_default();
                format!("{}   {}{user}{state}   {id}", self.style.strong(&name), owner.runtime.0)
            }
        };
        self.line(label, &value)
    }

    fn container(&mut self, answer: &Answer) -> io::Result<()> {
        let Some(owner) = answer.owner() else { return Ok(()) };
        let name =
            owner.best_name().map_or_else(|| text::sanitise(&owner.id), |n| text::sanitise(n));
        let state = owner.state.known().map_or("?", |s| s.name());
        let engine = owner.description().and_then(|d| d.engine_state).filter(|e| *e != state);
        let engine = engine.map(|e| format!(" ({} says {e})", owner.runtime.0)).unwrap_or_default();
        self.head(&name, &format!("{state}{engine}"))?;
        self.owner(answer)?;
        if let Some(d) = owner.description() {
            let times = [("created", d.created), ("started", d.started)];
            let times: Vec<String> = times
                .iter()
                .filter_map(|(w, t)| t.map(|t| format!("{w} {}", text::time(t))))
                .collect();
            if !times.is_empty() {
                self.line("times", &times.join("   "))?;
            }
        }
        self.processes(answer, owner)?;
        self.hidden(answer)?;
        if let Some(log) = owner.description().and_then(|d| d.log.as_ref()) {
            self.line("log", &text::sanitise(log))?;
        }
        self.served_by(answer)
    }

    pub(crate) fn processes(&mut self, answer: &Answer, owner: &Owner) -> io::Result<()> {
        let rows = &answer.processes;
        if rows.is_empty() {
            return self.line("processes", "none");
        }
        if let Some(init) = rows.iter().find(|r| Some(&r.process.pid) == owner.init_pid.known()) {
            let args = init.process.args.known().map(Vec::as_slice).unwrap_or_default();
            let command = text::command_line(args);
            self.line("init", &format!("{}   {command}   {}", init.process.pid, standing(init)))?;
        }
        let pids: Vec<String> =
            rows.iter().take(SOME_PIDS).map(|r| r.process.pid.to_string()).collect();
        let more = rows.len().saturating_sub(SOME_PIDS);
        let more = if more > 0 { format!(" and {more} more: whose pids") } else { String::new() };
        self.line("processes", &format!("{}   {}{more}", rows.len(), pids.join(" ")))
    }

    fn served_by(&mut self, answer: &Answer) -> io::Result<()> {
        let Some(server) = &answer.served_by else { return Ok(()) };
        let namespace = server.namespace.as_ref();
        let namespace = namespace.map(|n| format!(" (namespace {})", text::sanitise(n)));
        let comm = text::sanitise(&server.comm);
        self.line("served by", &format!("{comm} {}{}", server.pid, namespace.unwrap_or_default()))
    }

    /// Where the processes are that one would look for here.
    fn hidden(&mut self, answer: &Answer) -> io::Result<()> {
        let Some(hidden) = &answer.hidden else { return Ok(()) };
        let what = format!("its own processes can't be seen from the host: {}", hidden.what);
        self.line("sandbox", &self.style.warn(&what))
    }

    fn because(&mut self, evidence: &[Evidence]) -> io::Result<()> {
        let against = evidence.iter().filter(|e| !e.agrees).count();
        let mut parts: Vec<String> = evidence.iter().filter(|e| e.agrees).map(short).collect();
        if against > 0 {
            parts.push(self.style.warn(&format!("{against} disagree: see --why")));
        }
        if parts.is_empty() { Ok(()) } else { self.line("because", &parts.join(", ")) }
    }

    fn why(&mut self, answer: &Answer) -> io::Result<()> {
        for evidence in answer.evidence() {
            let detail = text::sanitise(&evidence.detail);
            let path = text::sanitise(&evidence.path);
            let source = evidence.source.name();
            let sign = if evidence.agrees { "because" } else { "although" };
            self.line(sign, &format!("{source}: {detail}   ({path})"))?;
        }
        for gap in answer.all_gaps() {
            self.line("not read", &text::sanitise(gap.to_string().as_bytes()))?;
        }
        Ok(())
    }
}

/// A piece of evidence in a few words.
fn short(evidence: &Evidence) -> String {
    let detail = text::sanitise(&evidence.detail);
    match evidence.source {
        Source::Cgroup => format!("cgroup {detail}"),
        Source::StateFile => {
            let path = &evidence.path;
            if let Some(at) = path.find(b"/layerdb/") {
                return shortened(&path[at + 1..]);
            }
            let name = path.rfind_byte(b'/').map_or(path.as_slice(), |slash| &path[slash + 1..]);
            text::sanitise(name)
        }
        _ => detail,
    }
}

/// A path with its ids cut to 12 digits.
fn shortened(path: &[u8]) -> String {
    let cut = |part: &[u8]| match part.len() {
        64 => format!("{}..", text::sanitise(&part[..12])),
        _ => text::sanitise(part),
    };
    let parts: Vec<String> = path.split(|b| *b == b'/').map(cut).collect();
    parts.join("/")
}

/// User, state, age; for a process that waits or is dead, on what.
fn standing(row: &Row) -> String {
    let mut parts = Vec::new();
    if let Cell::Bytes(user) = row.get(FieldId::User) {
        parts.push(text::sanitise(&user));
    }
    if let Some(stat) = row.process.stat.known() {
        let letter = char::from(stat.state);
        let wchan = row.process.wchan.known().filter(|_| matches!(stat.state, b'D' | b'Z'));
        parts.push(match (stat.state, wchan) {
            (b'Z', _) if stat.goes_on() => {
                let others = stat.threads - 1;
                format!("Z (its main thread has ended, {others} of {} threads left)", stat.threads)
            }
            (b'Z', _) => "Z (zombie)".into(),
            (_, Some(wchan)) => format!("{letter} in {}", text::sanitise(wchan)),
            _ => letter.to_string(),
        });
    }
    if let Some(seconds) = row.process.elapsed() {
        parts.push(format!("up {}", text::ago(seconds)));
    }
    parts.join(", ")
}
