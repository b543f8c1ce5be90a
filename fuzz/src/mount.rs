//! `/proc/PID/mountinfo`.

use whose_kernel::parse::mountinfo::{mount_of, parse, strip, unescape};

pub(crate) fn mountinfo(bytes: &[u8]) {
    let Ok(mounts) = parse(bytes) else {
        return;
    };
    let mut text = Vec::new();
    for mount in &mounts {
        let (major, minor) = mount.device;
        text.extend(format!("{} {} {major}:{minor} ", mount.id, mount.parent).bytes());
        for field in [&mount.root, &mount.point] {
            escaped(field, &mut text);
            text.push(b' ');
        }
        text.extend(b"rw - ");
        escaped(&mount.fs_type, &mut text);
        // A mount without a source has one word less.
        if !mount.source.is_empty() {
            text.push(b' ');
            escaped(&mount.source, &mut text);
        }
        text.push(b' ');
        text.extend_from_slice(&mount.super_options);
        text.push(b'\n');
        assert!(mount_of(&mounts, &mount.point).is_some());
    }
    assert_eq!(parse(&text), Ok(mounts));
}

pub(crate) fn escape(bytes: &[u8]) {
    let plain = unescape(bytes);
    assert!(plain.len() <= bytes.len());
    let mut again = Vec::new();
    escaped(&plain, &mut again);
    assert_eq!(unescape(&again), plain);
    // The first byte says how much of the rest is the directory.
    if let Some((at, path)) = bytes.split_first() {
        let dir = &path[..usize::from(*at).min(path.len())];
        if let Some(rest) = strip(dir, path) {
            assert!(rest.is_empty() || rest.starts_with(b"/"));
            assert!(path.ends_with(rest));
        }
    }
}

/// As the kernel writes a field.
fn escaped(field: &[u8], into: &mut Vec<u8>) {
    for byte in field {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => into.extend(format!("\\{byte:03o}").bytes()),
            _ => into.push(*byte),
        }
    }
}
