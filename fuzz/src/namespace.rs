//! The text of a link in `/proc/PID/ns`, and what rtnetlink says of namespaces.

use whose_kernel::parse::nslink::parse;
use whose_kernel::parse::rtnetlink;

pub(crate) fn nslink(bytes: &[u8]) {
    let kind = bytes.split(|byte| *byte == b':').next().unwrap_or_default();
    for kind in [kind, b"pid", b"net"] {
        if let Ok(number) = parse(bytes, kind) {
            assert!(bytes.starts_with(kind));
            let mut text = kind.to_vec();
            text.extend(format!(":[{number}]").bytes());
            assert_eq!(parse(&text, kind), Ok(number));
        }
    }
}

pub(crate) fn answers(bytes: &[u8]) {
    let _ = rtnetlink::link(bytes);
    // A message has its header at least.
    assert!(rtnetlink::numbers(bytes).count() <= bytes.len() / 16);
    let request = rtnetlink::ask_link(bytes);
    assert_eq!(request.is_some(), (1..16).contains(&bytes.len()) && !bytes.contains(&0));
}
