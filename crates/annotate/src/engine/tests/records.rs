//! Records that others write down: logs and objects, whose text is partly someone's own.

use super::{ID, annotated};
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
