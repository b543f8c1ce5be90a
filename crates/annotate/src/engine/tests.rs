//! The stream over made-up names.

mod records;

use std::collections::HashMap;
use std::rc::Rc;

use proptest::prelude::{Strategy, any, prop, prop_oneof};
use proptest::{prop_assert_eq, proptest};

use super::{CHUNK, Engine, LONGEST, Sink};
use crate::names::{Called, Known, Names, Standing, Tag, Turn};
use crate::options::{Options, Style};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Lines as tools print them.
const LINES: &str = include_str!("../../tests/lines.txt");

/// Even PIDs below 10,000 are of containers, odd ones the host's; larger ones are no more.
struct Fake {
    tags: HashMap<&'static str, Rc<Tag>>,
    gone: Rc<Tag>,
    turn: Turn,
    /// How often ids and names were asked for, and were not.
    asked: usize,
    overlooked: usize,
    /// The processes that were looked up.
    looked_up: Vec<u32>,
}

fn tag(name: &str, standing: Standing) -> Rc<Tag> {
    let json = format!("{{\"name\":\"{name}\"}}");
    Rc::new(Tag::new(vec![name.to_owned()], name.to_owned(), json, standing))
}

impl Fake {
    fn new() -> Self {
        let tags = ["web", "größe日本"].map(|name| (name, tag(name, Standing::Owner)));
        let mut tags = HashMap::from(tags);
        tags.insert("-", tag("-", Standing::Host));
        tags.insert("removed", tag("0123456789ab(removed)", Standing::Removed));
        let gone = Rc::new(Tag::word("(gone)", 1, Standing::Gone));
        Self { tags, gone, turn: Turn::Same, asked: 0, overlooked: 0, looked_up: Vec::new() }
    }
}

impl Names for Fake {
    fn turn(&mut self) -> Turn {
        self.turn
    }

    fn process(&mut self, pid: u32) -> Option<Known> {
        self.looked_up.push(pid);
        let name = match (pid % 2, pid % 3) {
            _ if pid >= 10_000 => return None,
            (1, _) => "-",
            (_, 0) => "größe日本",
            _ => "web",
        };
        let started = Some(1_795_570_386_000);
        Some(Known { tag: Rc::clone(&self.tags[name]), started, since_boot: 10_000 })
    }

    fn all(&mut self, take: &mut dyn FnMut(u32, Known)) -> bool {
        for pid in 1..10_000 {
            if let Some(known) = self.process(pid) {
                take(pid, known);
            }
        }
        true
    }

    fn is_called(&mut self, _: u32, called: Called<'_>) -> bool {
        self.asked += 1;
        let (Called::Command(name) | Called::Comm(name)) = called;
        [&b"sleep"[..], b"bash", b"dd"].iter().any(|own| name.starts_with(own))
    }

    fn container(&mut self, id: &[u8]) -> Option<Rc<Tag>> {
        self.asked += 1;
        (id == ID.as_bytes()).then(|| Rc::clone(&self.tags["web"]))
    }

    fn cgroup(&mut self, path: &[u8]) -> Option<Rc<Tag>> {
        if let Some(name) = path.strip_prefix(b"/made/") {
            return Some(tag(&String::from_utf8_lossy(name), Standing::Owner));
        }
        Some(Rc::clone(&self.tags[if path.ends_with(ID.as_bytes()) { "web" } else { "removed" }]))
    }

    fn path(&mut self, _: &[u8]) -> Option<Rc<Tag>> {
        None
    }

    fn namespace(&mut self, kind: &[u8], _: u64) -> Option<Rc<Tag>> {
        (kind == b"net").then(|| Rc::clone(&self.tags["web"]))
    }

    fn interface(&mut self, name: &[u8], peer: Option<u32>) -> Option<Rc<Tag>> {
        self.asked += 1;
        let is_it = name == b"veth1a2b3c4" || name == b"veth0";
        (is_it && peer.is_none_or(|p| p == 2)).then(|| Rc::clone(&self.tags["web"]))
    }

    fn overlooked(&mut self) {
        self.overlooked += 1;
    }

    fn is_this_boot(&self, id: &[u8]) -> bool {
        id == b"this"
    }

    fn now(&self) -> i64 {
        1_795_570_446_000
    }

    fn uptime(&self) -> u64 {
        70_000
    }

    fn gone(&self) -> Rc<Tag> {
        Rc::clone(&self.gone)
    }

    fn titles(&self) -> &[&'static str] {
        &["OWNER"]
    }
}

/// Keeps what came in apart from what was added.
#[derive(Default)]
struct Both {
    all: Vec<u8>,
    passed: Vec<u8>,
}

impl Sink for Both {
    fn pass(&mut self, bytes: &[u8]) {
        self.all.extend_from_slice(bytes);
        self.passed.extend_from_slice(bytes);
    }

    fn add(&mut self, bytes: &[u8]) {
        self.all.extend_from_slice(bytes);
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.passed.extend_from_slice(bytes);
    }
}

fn engine(style: Style) -> Engine<Fake> {
    Engine::new(Fake::new(), Options { style, ..Options::default() })
}

/// Feeds pieces, with a flush after each.
fn feed(engine: &mut Engine<Fake>, sink: &mut dyn Sink, bytes: &[u8], piece: usize) {
    for mut rest in bytes.chunks(piece.max(1)) {
        while !rest.is_empty() {
            let room = engine.room();
            let count = rest.len().min(room.len());
            room[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            engine.filled(count);
            engine.flush(sink);
        }
    }
    engine.finish(sink);
}

fn annotated(style: Style, text: &str) -> String {
    let mut both = Both::default();
    feed(&mut engine(style), &mut both, text.as_bytes(), usize::MAX);
    assert_eq!(String::from_utf8_lossy(&both.passed), text);
    String::from_utf8(both.all).unwrap()
}

#[test]
fn a_table_gets_a_column() {
    let table = "    PID TTY          TIME CMD\n   4762 ?        00:00:00 a\n      6 ?        00:00:00 b\n\
        \x20  4761 ?        00:00:00 c\n  77777 ?        00:00:00 d\n";
    assert_eq!(
        annotated(Style::Column, table),
        "    PID OWNER     TTY          TIME CMD\n   4762 web       ?        00:00:00 a\n      6 größe日本 \
         ?        00:00:00 b\n   4761 -         ?        00:00:00 c\n  77777 (gone)    ?        00:00:00 d\n"
    );
    // Nothing at the end of a line but the name.
    assert_eq!(
        annotated(Style::Column, "CMD    PID\r\na        4\r\n"),
        "CMD    PID OWNER\r\na        4 web\r\n"
    );
    // At the left edge of numbers that stand there.
    assert_eq!(
        annotated(
            Style::Column,
            "PID    COMM    FD ERR PATH\n4      a       3 0 /x\n5      b       3 0 /x"
        ),
        "OWNER PID    COMM    FD ERR PATH\nweb   4      a       3 0 /x\n-     5      b       3 0 /x"
    );
}

#[test]
fn a_parent_does_not_tell_whose_an_ended_process_was() {
    // Both parents live in a container; what they started may have been in one inside it.
    let table = "  PPID   PID CMD\n     4 77777 a\n     4     5 b\n";
    let out = annotated(Style::Column, table);
    assert_eq!(out, "  PPID   PID OWNER  CMD\n     4 77777 (gone) a\n     4     5 -      b\n");
    let tree = "sleep(4)---sleep(77777)\n";
    assert_eq!(annotated(Style::Replace, tree), "sleep(web)---sleep((gone))\n");
}

#[test]
fn styles() {
    let row = "  PID CMD\n    4 a\n    5 b\n";
    assert_eq!(annotated(Style::Suffix, row), "  PID CMD\n    4 a «web»\n    5 b\n");
    assert_eq!(annotated(Style::Prefix, row), "  PID CMD\n«web»     4 a\n    5 b\n");
    assert_eq!(annotated(Style::Replace, row), "  PID CMD\n    web a\n    - b\n");
    let text = format!("container {ID} died\nnothing\n");
    assert_eq!(annotated(Style::Column, &text), format!("container {ID} died «web»\nnothing\n"));
    assert_eq!(annotated(Style::Prefix, &text), format!("«web» container {ID} died\nnothing\n"));
    assert_eq!(annotated(Style::Replace, &text), "container web died\nnothing\n");
    let json = annotated(Style::Json, "  PID CMD\n    4 a\n")
        .lines()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    assert_eq!(json[1], "{\"line\":\"    4 a\",\"owners\":[{\"name\":\"web\"}]}");
}

#[test]
fn colours_and_escapes_in_a_number_stay() {
    assert_eq!(
        annotated(
            Style::Column,
            "\x1b[7m  PID CMD\x1b[0m\n\x1b[1m   \x1b[31m1\x1b[32m2\x1b[0m x\n"
        ),
        "\x1b[7m  PID OWNER     CMD\x1b[0m\n\x1b[1m   \x1b[31m1\x1b[32m2\x1b[0m größe日本 x\n"
            .replace("   12", "12")
    );
    let line = "[pid     4] \x1b[1mread\x1b[0m(3) = 0\x1b[K\r\n";
    assert_eq!(annotated(Style::Column, line), line.replace("\r\n", " «web»\r\n"));
}

#[test]
fn json_gets_members_and_stacks_a_frame() {
    assert_eq!(
        annotated(Style::Column, "{\"pid\": 4, \"a\": {\"tgid\": 6}}\n{\"pid\":77777}\n"),
        "{\"pid\": 4,\"owner\":{\"name\":\"web\"}, \"a\": {\"tgid\": 6,\"owner\":{\"name\":\"größe日本\"}}}\n\
         {\"pid\":77777,\"owner\":null}\n"
    );
    let gone =
        format!("{{\"_BOOT_ID\":\"x\",\"_SYSTEMD_CGROUP\":\"/docker/{ID}\",\"_PID\":\"4\"}}\n");
    assert!(
        annotated(Style::Column, &gone).ends_with("\"_PID\":\"4\",\"owner\":{\"name\":\"web\"}}\n")
    );
    assert_eq!(annotated(Style::Column, "dd-4;main 12\n"), "web;dd-4;main 12\n");
}

#[test]
fn the_past_is_not_matched_to_todays_processes() {
    let of = |line: &str| annotated(Style::Column, &format!("{line}\n"));
    assert!(of("Nov 25 01:33:07 host a[4]: x").ends_with(" «web»\n"));
    assert!(of("Nov 25 01:33:01 host a[4]: x").ends_with(" «(gone)»\n"));
    assert!(of("Nov 25 01:33:01 host a[5]: x").ends_with(" «(gone)»\n"));
    assert!(of("[    9.500000] Killed process 4 (x)").ends_with(" «web»\n"));
    assert!(of("[    1.000000] Killed process 4 (x)").ends_with(" «(gone)»\n"));
    // From another boot: this one is not that old.
    assert!(of("[99999.000000] Killed process 4 (x)").ends_with(" «(gone)»\n"));
    // What a log said of a PID counts for it later.
    let oom = format!(
        "[    1.000000] oom-kill:constraint=X,task_memcg=/docker/{ID},task=x,pid=4,uid=0\n\
         [    1.000001] Killed process 4 (x)\n[    1.000002] Killed process 6 (y)\n"
    );
    let told: Vec<bool> =
        annotated(Style::Column, &oom).lines().map(|l| l.ends_with(" «web»")).collect();
    assert_eq!(told, [true, true, false]);
    let removed = "Memory cgroup stats for /docker/ffff: x";
    assert!(of(removed).ends_with(" «0123456789ab(removed)»\n"));
}

#[test]
fn what_a_log_said_is_forgotten_with_the_tags() {
    let mut engine = engine(Style::Suffix);
    engine.cache.most_tags = 8;
    let mut out = Vec::new();
    let mut put = |line: &str| {
        out.clear();
        engine.room()[..line.len()].copy_from_slice(line.as_bytes());
        engine.filled(line.len());
        engine.flush(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    };
    let (mut named, mut forgotten) = (0, 0);
    for round in 0..40 {
        let pid = 20_000 + round;
        let said = put(&format!("oom-kill:x=y,task_memcg=/made/n{round},task=a,pid={pid},uid=0\n"));
        assert!(said.contains(&format!("«n{round}")), "{said}");
        // Whoever is named for a PID is the one that was said, or nobody.
        for earlier in (0..=round).rev() {
            let said = put(&format!("[    1.000001] Killed process {} (a)\n", 20_000 + earlier));
            let is_named = said.ends_with(&format!(" «n{earlier}»\n"));
            assert!(is_named || said.ends_with(" «(gone)»\n"), "{said}");
            named += usize::from(is_named);
            forgotten += usize::from(!is_named);
        }
    }
    assert!(named > 40 && forgotten > 40, "{named} {forgotten}");
}

#[test]
fn a_process_that_is_gone_is_named_by_its_cgroup_in_the_row() {
    let head = "    PID CGROUP CMD";
    let row = format!("  77777 0::/docker/{ID} x");
    let out = annotated(Style::Suffix, &format!("{head}\n{row}\n  77777 0::/user.slice x\n"));
    assert_eq!(out, format!("{head}\n{row} «web»\n  77777 0::/user.slice x «(gone)»\n"));
}

#[test]
fn what_may_not_be_read_is_said_to_be() {
    let mut engine = engine(Style::Suffix);
    engine.cache.names.tags.insert("web", tag("?", Standing::Unread));
    let mut out = Vec::new();
    feed(&mut engine, &mut out, b"Nov 25 01:33:01 host a[4]: x\n", 99);
    assert_eq!(String::from_utf8(out).unwrap(), "Nov 25 01:33:01 host a[4]: x «?»\n");
}

#[test]
fn an_interface_is_named_where_its_name_still_stands_for_it() {
    let text = "port 1(veth1a2b3c4) x\nveth0@if2 x\nveth0@if3 x\nveth0 x\n\
        Nov 25 01:33:06 host a[77777]: veth1a2b3c4 veth0@if2\n";
    let marks = |engine: &mut Engine<Fake>| -> Vec<bool> {
        let mut out = Vec::new();
        feed(engine, &mut out, text.as_bytes(), usize::MAX);
        String::from_utf8(out).unwrap().lines().map(|l| l.ends_with(" «web»")).collect()
    };
    assert_eq!(marks(&mut engine(Style::Column)), [true, true, false, false, true]);
    let mut file = engine(Style::Column);
    file.written(Some(1_795_570_446_000));
    assert_eq!(marks(&mut file), [true, false, false, false, true]);
    let mut out = Vec::new();
    let log = b"Nov 25 01:33:06 host kernel: veth0@if2 up\n";
    feed(&mut engine(Style::Column), &mut out, log, usize::MAX);
    assert_eq!(out, log);
}

#[test]
fn a_file_names_nobody_who_started_after_it_was_written() {
    let mut engine = engine(Style::Suffix);
    for (written, suffix) in [(1_795_570_387_000, " «web»"), (1_795_570_300_000, " «(gone)»")] {
        engine.restart();
        engine.written(Some(written));
        let mut out = Vec::new();
        feed(&mut engine, &mut out, b"  PID CMD\n    4 a\n", 7);
        assert_eq!(String::from_utf8(out).unwrap(), format!("  PID CMD\n    4 a{suffix}\n"));
    }
}

#[test]
fn a_pid_by_its_column_or_an_expression() {
    let of = |options: Options, text: &str| {
        let mut out = Vec::new();
        feed(&mut Engine::new(Fake::new(), options), &mut out, text.as_bytes(), 3);
        String::from_utf8(out).unwrap()
    };
    let column = |word: &[u8]| Options {
        pid_column: Some(Options::pid_column(word).unwrap()),
        ..Options::default()
    };
    assert_eq!(of(column(b"2"), "a 4 b\nc 5 d\n"), "a 4 web b\nc 5 -   d\n");
    assert_eq!(
        of(column(b"2"), "NAME NR X\na    4 b\n"),
        "NAME NR OWNER        X\na    4 web          b\n"
    );
    assert_eq!(
        of(column(b"NR"), "x\nNAME NR X\na    4 b\n"),
        "x\nNAME NR OWNER        X\na    4 web          b\n"
    );
    let regex = Some(Options::regex("job (?P<pid>[0-9]+)").unwrap());
    let options = Options { regex, ..Options::default() };
    assert_eq!(of(options, "job 4 of 6\n  PID\n    4\n"), "job 4 of 6 «web»\n  PID\n    4\n");
}

#[test]
fn a_line_of_any_length_goes_through() {
    let long = LONGEST + 2 * CHUNK + 17;
    let mut line = b"[pid     4] ".to_vec();
    line.resize(long, b'x');
    for (end, style) in [
        (&b"\r\n"[..], Style::Column),
        (b"\n", Style::Prefix),
        (b"", Style::Suffix),
        (b"\n", Style::Replace),
    ] {
        let text = [&line[..], end, b"[pid     6] y\n"].concat();
        let mut both = Both::default();
        let mut engine = engine(style);
        let held = engine.held.len();
        feed(&mut engine, &mut both, &text, 70_001);
        assert!(both.passed == text && engine.held.len() == held);
        assert!(memchr::memmem::find(&both.all, b"web").is_some());
        if style == Style::Column {
            assert!(
                both.all[..both.all.len() - 14]
                    .ends_with(" «web»\r\n[pid     6] y «größ".as_bytes())
                    || memchr::memmem::find(&both.all, " «web»\r\n".as_bytes()).is_some()
            );
        }
    }
    let mut out = Vec::new();
    feed(&mut engine(Style::Json), &mut out, &[&line[..], b"\n"].concat(), usize::MAX);
    let whole: usize = out
        .split(|b| *b == b'\n')
        .filter(|piece| !piece.is_empty())
        .map(|piece| serde_json::from_slice::<serde_json::Value>(piece).unwrap())
        .map(|piece| piece["line"].as_str().unwrap_or_default().len())
        .sum();
    assert!(whole >= LONGEST);
}

#[test]
fn lines_go_out_with_the_flush_after_them() {
    let mut engine = engine(Style::Column);
    let mut out = Vec::new();
    let mut put = |text: &[u8], out: &mut Vec<u8>| {
        engine.room()[..text.len()].copy_from_slice(text);
        engine.filled(text.len());
        engine.flush(out);
        std::mem::take(out)
    };
    assert_eq!(put(b"[pid     4] a\n[pid", &mut out), "[pid     4] a «web»\n".as_bytes());
    assert_eq!(put(b"     6] b\n", &mut out), "[pid     6] b «größe日本»\n".as_bytes());
    assert_eq!(put(b"$ ", &mut out), b"");
    engine.flush_partial(&mut out);
    assert_eq!(out, b"$ ");
    out.clear();
    engine.finish(&mut out);
    assert_eq!(out, b"");
}

#[test]
fn a_pid_that_was_given_again_is_looked_up_again() {
    let mut engine = engine(Style::Suffix);
    let mut out = Vec::new();
    for (turn, name) in
        [(Turn::Same, "web"), (Turn::Same, "web"), (Turn::Given(1, 9), "new"), (Turn::Any, "newer")]
    {
        engine.cache.names.turn = turn;
        if name != "web" {
            engine.cache.names.tags.insert("web", tag(name, Standing::Owner));
        }
        let line = b"[pid     4] a\n";
        engine.room()[..line.len()].copy_from_slice(line);
        engine.filled(line.len());
        out.clear();
        engine.flush(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), format!("[pid     4] a «{name}»\n"));
    }
}

/// Pieces of lines that formats look for, and anything.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        &b"    PID TTY          TIME CMD"[..],
        b"   4762 ?        00:00:00 a",
        b"PID    COMM    FD ERR PATH",
        b"4      a       3 0 /x",
        b"[pid     4] read(3) = 0",
        b"{\"pid\": 4, \"a\": [{\"_PID\": \"6\"}]}",
        b"[    1.000000] oom-kill:x=y,task_memcg=/docker/x,task=x,pid=4,uid=0",
        b"Nov 25 01:33:07 host a[4]: x",
        b"dd-4;main 12",
        b"  |-bash(4)---sleep(6)",
        b"4 sleep",
        b"tcp LISTEN users:((\"a\",pid=4,fd=3),(\"b\",pid=6,fd=3))",
        b"id 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef net:[4026531840]",
        b"type=X msg=audit(1795570386.5:1): pid=4",
        b"\x1b[1m    \x1b[31m1\x1b[32m2\x1b[0m x\x1b[K",
        b"oom-kill:x=y,task_memcg=/docker/x,pid=4,task=x,REST",
        b"[    1.000000] oom-kill:task_memcg=/docker/docker-/lxc/x,task=/docker/y,task=x,pid=4,uid=0",
        b"",
    ]);
    let printed = prop::sample::select(LINES.lines().map(str::as_bytes).collect::<Vec<_>>());
    let any_bytes = prop::collection::vec(any::<u8>(), 0..40);
    // Lines in each other, so that what they name may lie in each other too.
    let mixed = (printed.clone(), printed.clone(), any::<u8>()).prop_map(|(a, b, at)| {
        let at = usize::from(at) % (a.len() + 1);
        [&a[..at], b, &a[at..]].concat()
    });
    let lines = prop_oneof![
        3 => known.prop_map(<[u8]>::to_vec),
        2 => printed.prop_map(<[u8]>::to_vec),
        1 => mixed,
        1 => any_bytes,
    ];
    (lines, any::<u8>()).prop_map(|(mut line, change)| {
        // Some are changed somewhere.
        if change > 200 && !line.is_empty() {
            let at = usize::from(change) % line.len();
            line[at] = change;
        }
        line
    })
}

proptest! {
    #[test]
    fn what_came_in_goes_out(
        lines in prop::collection::vec((line(), any::<bool>()), 0..12),
        has_end in any::<bool>(),
        piece in 1..200_usize,
    ) {
        let mut text = Vec::new();
        for (line, is_dos) in &lines {
            text.extend_from_slice(line);
            text.extend_from_slice(if *is_dos { b"\r\n" } else { b"\n" });
        }
        if !has_end {
            text.pop();
        }
        for style in [Style::Column, Style::Suffix, Style::Prefix, Style::Replace] {
            let mut both = Both::default();
            feed(&mut engine(style), &mut both, &text, piece);
            prop_assert_eq!(&both.passed, &text);
        }
        // By what came out alone: no line that came in has such a name in it.
        let mut out = Vec::new();
        feed(&mut engine(Style::Json), &mut out, &text, piece);
        let mut again = Vec::new();
        for (at, piece) in out.split(|b| *b == b'\n').enumerate() {
            if at > 0 {
                again.push(b'\n');
            }
            match serde_json::from_slice::<serde_json::Value>(piece) {
                Ok(object) if object.get("line").is_some() => match object.get("line_base64") {
                    Some(exact) => {
                        let exact = exact.as_str().unwrap_or_default().as_bytes();
                        again.extend(data_encoding::BASE64.decode(exact).unwrap_or_default());
                    }
                    None => again.extend_from_slice(object["line"].as_str().unwrap_or_default().as_bytes()),
                },
                _ => again.extend_from_slice(piece),
            }
        }
        let plain = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).replace('\r', "");
            let members = [",\"owner\":{\"name\":\"web\"}", ",\"owner\":{\"name\":\"größe日本\"}",
                ",\"owner\":{\"name\":\"-\"}", ",\"owner\":null"];
            members.iter().fold(text, |text, member| text.replace(member, ""))
        };
        prop_assert_eq!(plain(&again), plain(&text));
    }
}
