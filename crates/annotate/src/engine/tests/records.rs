//! Records that others write down: logs and objects, whose text is partly someone's own.

use bstr::ByteSlice;

use super::{Both, Engine, Fake, ID, Sink, annotated, engine, tag};
use crate::names::{Standing, Turn};
use crate::options::Style;

#[test]
fn an_object_is_of_its_own_time_and_cgroup() {
    let of = |document: String| -> Vec<String> {
        let out = annotated(Style::Column, &format!("{document}\n"));
        let parts = out.split(",\"owner\":").skip(1);
        parts.map(|part| part[..part.find(['}', ',']).unwrap_or(part.len())].to_owned()).collect()
    };
    let web = "{\"name\":\"web\"";
    let cgroup = format!("\"cgroup\":\"/docker/{ID}\"");
    let at = "\"ts\":1700000000";
    for (document, owners) in [
        (format!("[{{\"pid\":999999,{at},{cgroup}}},{{\"pid\":999998,{at}}}]"), [web, "null"]),
        (format!("[{{{at},{cgroup},\"pid\":999999}},{{\"pid\":999998,{at}}}]"), [web, "null"]),
        (format!("[{{\"pid\":999998,{at}}},{{{cgroup},\"pid\":999999,{at}}}]"), ["null", web]),
        (format!("{{{cgroup},\"a\":{{\"pid\":999998,{at}}},\"pid\":999999,{at}}}"), ["null", web]),
        (format!("{{\"pid\":999998,\"a\":{{\"pid\":999999,{cgroup}}},{at}}}"), ["null", web]),
    ] {
        assert_eq!(of(document.clone()), owners, "{document}");
    }
    // PID 4 is a container's that started in 2026.
    for (document, owner) in [
        ("{\"time\":\"2020-01-01T00:00:00Z\",\"output_fields\":{\"proc.pid\":4}}", "null"),
        ("{\"output_fields\":{\"proc.pid\":4},\"time\":\"2020-01-01T00:00:00Z\"}", "null"),
        ("{\"time\":\"2098-01-01T00:00:00Z\",\"output_fields\":{\"proc.pid\":4}}", web),
        ("{\"time\":\"2020-01-01T00:00:00Z\",\"a\":[{\"b\":{\"pid\":4}}]}", "null"),
        ("{\"time\":\"yesterday\",\"pid\":4}", "null"),
        ("{\"pid\":4,\"time\":null}", "null"),
        ("{\"time\":\"yesterday\",\"a\":{\"pid\":4}}", "null"),
        ("{\"time\":\"2098-01-01T00:00:00Z\",\"pid\":4,\"ts\":1577836800}", "null"),
        ("{\"_BOOT_ID\":\"other\",\"a\":{\"pid\":4,\"time\":\"2098-01-01T00:00:00Z\"}}", "null"),
        ("{\"a\":{\"pid\":4}}", web),
        ("  \"_PID\" : \"4\",", "null"),
    ] {
        assert_eq!(of(document.to_owned()), [owner], "{document}");
    }
}

#[test]
fn a_kill_for_memory_is_of_whom_the_kernel_says() {
    let of = |line: String| {
        let out = annotated(Style::Suffix, &format!("[    9.500000] {line}\n"));
        out.split_once('«').map(|(_, owners)| owners.trim_end_matches("»\n").to_owned())
    };
    // PID 4 and the cgroup are the container web's, 6 is another's, 5 the host's.
    let kill = |rest: &str| of(format!("oom-kill:constraint=X,{rest}"));
    assert_eq!(kill("task_memcg=/made/a,task=x,pid=4,uid=0").as_deref(), Some("a, web"));
    // A cgroup's name with keys in it.
    assert_eq!(
        kill("cpuset=a,pid=6,task_memcg=/made/a,task=x,pid=4,uid=0").as_deref(),
        Some("a, web")
    );
    assert_eq!(
        kill("cpuset=a,task_memcg=/made/b,task_memcg=/made/a,task=x,pid=4,uid=0").as_deref(),
        Some("web")
    );
    // A process's name with keys in it.
    assert_eq!(kill("task_memcg=/made/a,task=,pid=6,uid=1,pid=4,uid=0").as_deref(), Some("a, web"));
    assert_eq!(kill("task_memcg=/made/a,task=x,task=y,pid=4,uid=0").as_deref(), Some("web"));
    // Cut.
    assert_eq!(kill("task_memcg=/made/a,task=x,pid=4"), None);
    // Names in other messages.
    assert_eq!(of("Kill process 6,[4]: segfault at 0".to_owned()).as_deref(), Some("web"));
    assert_eq!(of("a[6]: x[4]: segfault at 0".to_owned()), None);
    assert_eq!(of("traps: a[6] [4] trap int3".to_owned()), None);
    assert_eq!(of("Killed process 4, UID 0, (a) total-vm".to_owned()).as_deref(), Some("web"));
}

#[test]
fn what_is_replaced_is_not_lost() {
    // The same bytes named twice: the ones that came in are all there, replaced once at most.
    for line in [
        format!("oom-kill:constraint=X,task_memcg=/docker/{ID}/x,pid=4194304,task=abc,REST"),
        format!("[    1.000000] oom-kill:x=y,task_memcg=/docker/{ID},pid=4,task=a,pid=6,uid=0"),
        format!(
            "[    1.000000] oom-kill:cpuset=/docker/{ID},pid=4,task_memcg=/docker/{ID},task=a,pid=7,uid=0"
        ),
    ] {
        for (_, style) in Style::ALL.iter().filter(|(_, style)| *style != Style::Json) {
            annotated(*style, &format!("{line}\n"));
        }
    }
}

#[test]
fn of_places_in_each_other_one_is_replaced() {
    let mut engine = engine(Style::Replace);
    engine.edits.instead(2, 4, b"<a>");
    engine.edits.instead(3, 5, b"<b>");
    engine.edits.text(4, &[b"!"]);
    engine.edits.instead(6, 2, b"<c>");
    engine.edits.instead(9, 99, b"<d>");
    let mut both = Both::default();
    engine.edits.write(b"0123456789", &engine.cache, &mut both);
    assert_eq!(both.all.as_bstr(), "01<a>!<c>8<d>");
    assert_eq!(both.passed.as_bstr(), "0123456789");
}

#[test]
fn long_names_behind_short_lines_go_out_before_they_are_many() {
    let name = "n".repeat(1 << 20);
    let text = format!("PID\n{}", "  4\n".repeat(300_000));
    for style in [Style::Column, Style::Suffix, Style::Prefix, Style::Replace] {
        let mut engine = engine(style);
        engine.cache.names.tags.insert("web", tag(&name, Standing::Owner));
        let mut count = Count::default();
        for piece in text.as_bytes().chunks(500_000) {
            engine.room()[..piece.len()].copy_from_slice(piece);
            assert!(
                engine.filled(piece.len()) && engine.edits.is_large(),
                "{style:?} {}",
                piece.len()
            );
            engine.flush(&mut count);
            assert!(!engine.edits.is_large());
        }
        engine.finish(&mut count);
        assert_eq!(count.passed, text.len());
        assert!(count.added > 250 * 300_000 && count.added < 270 * 300_000, "{}", count.added);
    }
}

#[test]
fn what_only_looks_like_a_tools_line_stays_as_it_is() {
    // 4 is a container's, 99999 nobody's; none is called so.
    for line in [
        "ACME-99999;widget;blue 5",
        "ACME-4;widget;blue 5",
        "| read(99999) | foo",
        "| read(4) | foo",
        "--- printf(99998)",
        "|-printf(4)-+-printf(6)",
        "  |-printf,4 x",
    ] {
        for (_, style) in Style::ALL.iter().filter(|(_, style)| *style != Style::Json) {
            assert_eq!(annotated(*style, &format!("{line}\n")), format!("{line}\n"), "{style:?}");
        }
    }
    // A table after another, without a line between.
    let ps = "USER         PID %CPU COMMAND\n";
    let df = "Filesystem     1K-blocks    Used Available Use% Mounted on\n\
              udev             1012345       0   1012345   0% /dev\n\
              tmpfs             204800    1234    203566   1% /run\n";
    let told = annotated(Style::Suffix, &format!("{ps}root           4  0.0 a\n{df}"));
    assert_eq!(told, format!("{ps}root           4  0.0 a «web»\n{df}"));
}

#[test]
fn this_process_is_looked_up_once() {
    let mut engine = engine(Style::Column);
    engine.cache.own = Some(4);
    engine.cache.names.turn = Turn::Any;
    let mut out = Vec::new();
    let head = "    PID TTY          TIME CMD\n";
    let [own, other] = ["4", "8"].map(|pid| format!("      {pid} ?        00:00:00 sh\n"));
    for line in [head, &own, &other, &own, &other] {
        engine.room()[..line.len()].copy_from_slice(line.as_bytes());
        engine.filled(line.len());
        engine.flush(&mut out);
    }
    assert_eq!(engine.cache.names.looked_up, [4, 8, 8]);
    let out = String::from_utf8(out).unwrap();
    assert_eq!(out.lines().filter(|l| l.contains(" web ")).count(), 4, "{out}");
}

#[test]
fn what_leads_to_nobody_is_not_asked_for_without_end() {
    let mut engine = engine(Style::Suffix);
    let mut count = Count::default();
    let mut put = |engine: &mut Engine<Fake>, text: &str| {
        let before = (engine.cache.names.asked, engine.cache.names.overlooked);
        engine.room()[..text.len()].copy_from_slice(text.as_bytes());
        engine.filled(text.len());
        engine.flush(&mut count);
        let names = &engine.cache.names;
        (names.asked - before.0, names.overlooked - before.1)
    };
    let ids = |from: usize, to: usize| -> String {
        (from..to).map(|n| format!("id a{n:011}\n")).collect()
    };
    assert_eq!(put(&mut engine, &ids(0, 1500)), (1024, 476));
    // What was not asked for is, and what was asked for is not.
    assert_eq!(put(&mut engine, &ids(0, 1500)), (476, 0));
    // Names of processes: each once, and of one process not any number.
    assert_eq!(put(&mut engine, &"6 sleep\n6 cat\n".repeat(100)), (2, 0));
    let names: String = (0..200).map(|n| format!("8 {n}\n")).collect();
    assert_eq!(put(&mut engine, &names), (64, 0));
    engine.cache.names.turn = Turn::Given(6, 7);
    assert_eq!(put(&mut engine, "6 sleep\n8 cat\n"), (1, 0));
    engine.cache.names.turn = Turn::Any;
    assert_eq!(put(&mut engine, "6 sleep\n8 cat\n"), (2, 0));
}

#[derive(Default)]
struct Count {
    passed: usize,
    added: usize,
}

impl Sink for Count {
    fn pass(&mut self, bytes: &[u8]) {
        self.passed += bytes.len();
    }

    fn add(&mut self, bytes: &[u8]) {
        self.added += bytes.len();
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.pass(bytes);
    }
}
