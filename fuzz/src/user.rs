//! User names and user namespaces.

use whose_kernel::parse::{idmap as idmap_file, passwd as passwd_file};

pub(crate) fn passwd(bytes: &[u8]) {
    let entries = passwd_file::parse(bytes);
    let mut text = Vec::new();
    for (uid, name) in &entries {
        assert!(!name.is_empty() && !name.contains(&b':') && !name.contains(&b'\n'));
        text.extend(name.iter());
        text.extend(format!(":x:{uid}:{uid}::/:/bin/sh\n").bytes());
    }
    assert_eq!(passwd_file::parse(&text), entries);
    for (uid, home) in passwd_file::homes(bytes) {
        assert!(home.starts_with(b"/") && entries.iter().any(|(known, _)| *known == uid));
    }
}

pub(crate) fn idmap(bytes: &[u8]) {
    let Ok(map) = idmap_file::parse(bytes) else {
        return;
    };
    let mut text = String::new();
    for extent in &map {
        text += &format!("{:10} {:10} {:10}\n", extent.inside, extent.outside, extent.count);
        let first = idmap_file::inside(&map, extent.outside);
        assert!(extent.count == 0 || first.is_some());
    }
    assert_eq!(idmap_file::parse(text.as_bytes()), Ok(map));
}
