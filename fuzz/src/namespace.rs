//! The text of a link in `/proc/PID/ns`.

use whose_kernel::parse::nslink::parse;

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
