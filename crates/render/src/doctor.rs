//! `whose doctor`: the report for people, and as JSON.

use std::io::{self, Write};

use bstr::BString;
use serde_json::{Map, Value};
use whose_core::answer::doctor::{Count, HostFacts, Missing, Report, ScanFacts};
use whose_core::index::daemons::FoundDaemon;

use crate::Style;
use crate::json::{Header, gap, put_bytes};
use crate::text;

/// Width of the labels, as on cards.
const LABEL: usize = 9;

/// Writes the report for people.
///
/// # Errors
/// The writer's.
pub fn doctor(out: &mut dyn Write, report: &Report, style: Style) -> io::Result<()> {
    let mut line = |label: &str, text: &str| {
        let label = format!("{label:<LABEL$}");
        writeln!(out, "{}  {text}", style.dim(&label))
    };
    let host = &report.host;
    line("host", &about_host(host))?;
    line("as", &about_user(host))?;
    if let Some(scan) = &host.scan {
        line("scan", &about_scan(scan))?;
    }
    for engine in &report.engines {
        let root = text::sanitise(&engine.root);
        let user = engine.user.as_ref().map(|u| format!("   {}'s", text::sanitise(u)));
        let within = (!engine.within.is_empty())
            .then(|| format!("   in container {}", text::sanitise(&engine.within)));
        let count = match &engine.containers {
            Ok(1) => "1 container".to_owned(),
            Ok(n) => format!("{n} containers"),
            Err(gap) => format!("{}: {}", gap.class.name(), gap.cause),
        };
        let more = [user, within].into_iter().flatten().collect::<String>();
        line("engine", &format!("{}   {root}{more}   {count}", engine.engine.0))?;
    }
    for daemon in &report.daemons {
        let socket = text::sanitise(&daemon.socket);
        line("daemon", &format!("{}   {socket}   {}", daemon.engine.0, about_daemon(daemon)))?;
    }
    for (at, count) in report.can.iter().enumerate() {
        line(if at == 0 { "can read" } else { "" }, &about_count(*count))?;
    }
    if report.cannot.is_empty() {
        line("can't", "nothing: all that was tried could be read")?;
    }
    for (at, missing) in report.cannot.iter().enumerate() {
        let label = if at == 0 { "can't" } else { "" };
        line(label, &style.warn(&about_missing(missing)))?;
        let remedy = missing.gap.remedy.as_deref();
        let next = report.cannot.get(at + 1).and_then(|m| m.gap.remedy.as_deref());
        // Said once for several that it would fix together.
        if let Some(remedy) = remedy.filter(|r| next != Some(*r)) {
            line("", &format!("  to fix: {}", text::sanitise(remedy.as_bytes())))?;
        }
    }
    Ok(())
}

fn about_host(host: &HostFacts) -> String {
    let mut parts = Vec::new();
    parts.push(match &host.kernel {
        Some(kernel) => format!("Linux {}", text::sanitise(kernel.as_bytes())),
        None => "Linux, of no known release".to_owned(),
    });
    parts.push(match host.cgroups {
        Some("hybrid") => "cgroups v1 and v2".to_owned(),
        Some(version) => format!("cgroups {version}"),
        None => "no cgroups mounted".to_owned(),
    });
    let plural = |n: usize, one: &str, many: &str| {
        if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
    };
    parts.push(plural(host.processes, "process", "processes"));
    parts.push(plural(host.containers, "container", "containers"));
    match host.is_outermost {
        Some(true) => {}
        Some(false) => parts.push("seen from inside a container".to_owned()),
        None => parts.push("a host or a container: nothing tells".to_owned()),
    }
    parts.join(", ")
}

fn about_scan(scan: &ScanFacts) -> String {
    match &scan.why {
        None => "by the kernel's task iterator".to_owned(),
        Some(why) => format!("by /proc: {}", text::sanitise(why.as_bytes())),
    }
}

fn about_user(host: &HostFacts) -> String {
    let name = |user: &BString| text::sanitise(user);
    let who = match (&host.user, host.uid) {
        (Some(user), _) => name(user),
        (None, Some(uid)) => format!("uid {uid}"),
        (None, None) => "nobody known".to_owned(),
    };
    match &host.capabilities {
        None => who,
        Some((_, lacking)) if lacking.is_empty() => format!("{who}, with all that counts"),
        Some((_, lacking)) => {
            let names: Vec<String> = lacking.iter().map(|n| format!("CAP_{n}")).collect();
            format!("{who}, without {}", names.join(", "))
        }
    }
}

fn about_daemon(daemon: &FoundDaemon) -> String {
    let (pids, told) = match &daemon.outcome {
        Ok(found) => found,
        Err(gap) => return format!("not asked: {}", text::sanitise(gap.cause.as_bytes())),
    };
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let process = format!("process {}", pids.join(" or "));
    match told {
        None => format!("{process} listens; asked with --daemon"),
        Some(1) => format!("{process} tells of 1 container"),
        Some(n) => format!("{process} tells of {n} containers"),
    }
}

fn about_count(count: Count) -> String {
    if count.read == count.tried {
        format!("{}   {}", count.what, count.read)
    } else {
        format!("{}   {} of {}", count.what, count.read, count.tried)
    }
}

fn about_missing(missing: &Missing) -> String {
    let gap = &missing.gap;
    let times = if missing.count == 1 { String::new() } else { format!(" ({})", missing.count) };
    let path = text::sanitise(&gap.path);
    let cause = text::sanitise(gap.cause.as_bytes());
    format!("{}{times}   {}: {cause}   {path}", gap.what, gap.class.name())
}

/// The document of `whose doctor --json`.
#[must_use]
pub fn doctor_document(header: &Header, report: &Report) -> Value {
    let mut object = header.object();
    object.insert("host".into(), host(&report.host));
    let engines = report.engines.iter().map(|engine| {
        let mut object = Map::new();
        object.insert("runtime".into(), engine.engine.0.into());
        put_bytes(&mut object, "root", &engine.root);
        if let Some(user) = &engine.user {
            put_bytes(&mut object, "user", user);
        }
        if !engine.within.is_empty() {
            put_bytes(&mut object, "within", &engine.within);
        }
        let count = engine.containers.as_ref().ok().map(|n| Value::from(*n));
        object.insert("containers".into(), count.unwrap_or(Value::Null));
        Value::Object(object)
    });
    object.insert("engines".into(), engines.collect());
    let daemons = report.daemons.iter().map(|daemon| {
        let mut object = Map::new();
        object.insert("runtime".into(), daemon.engine.0.into());
        put_bytes(&mut object, "socket", &daemon.socket);
        match &daemon.outcome {
            Ok((pids, told)) => {
                object.insert("pids".into(), pids.iter().copied().collect());
                if let Some(count) = told {
                    object.insert("containers".into(), (*count).into());
                }
            }
            Err(why) => {
                object.insert("containers".into(), Value::Null);
                object.insert("gap".into(), gap(why));
            }
        }
        Value::Object(object)
    });
    object.insert("daemons".into(), daemons.collect());
    let can = report.can.iter().map(|count| {
        let mut object = Map::new();
        object.insert("what".into(), count.what.into());
        object.insert("read".into(), count.read.into());
        object.insert("tried".into(), count.tried.into());
        Value::Object(object)
    });
    object.insert("can".into(), can.collect());
    let cannot = report.cannot.iter().map(|missing| {
        let mut value = gap(&missing.gap);
        if let Value::Object(object) = &mut value {
            object.insert("count".into(), missing.count.into());
        }
        value
    });
    object.insert("cannot".into(), cannot.collect());
    Value::Object(object)
}

fn host(host: &HostFacts) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        object.insert(key.into(), value.unwrap_or(Value::Null));
    };
    put("kernel", host.kernel.as_deref().map(Into::into));
    put("uid", host.uid.map(Into::into));
    put("user", host.user.as_ref().map(|u| text::lossy(u).0.into()));
    let names = |list: &Vec<&'static str>| -> Value {
        list.iter().map(|n| Value::from(format!("CAP_{n}"))).collect()
    };
    put("capabilities", host.capabilities.as_ref().map(|(has, _)| names(has)));
    put("lacks", host.capabilities.as_ref().map(|(_, lacks)| names(lacks)));
    put("cgroups", host.cgroups.map(Into::into));
    put("outermost", host.is_outermost.map(Into::into));
    put("processes", Some(host.processes.into()));
    put("containers", Some(host.containers.into()));
    if let Some(scan) = &host.scan {
        put("scan", Some(scan.source.into()));
        if let Some(why) = &scan.why {
            put("scan_why", Some(why.as_str().into()));
        }
    }
    Value::Object(object)
}
