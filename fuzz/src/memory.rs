//! What a process has mapped, and the files behind it: maps, auxv, handles, overlay options,
//! statmount.

use bstr::BStr;
use whose_kernel::parse::handle::{Handle, parse_origin};
use whose_kernel::parse::{aufs, auxv, elf, maps, overlay, statmount};

pub(crate) fn maps(bytes: &[u8]) {
    let Ok(mappings) = maps::parse(bytes) else {
        return;
    };
    for mapping in &mappings {
        assert!(mapping.start <= mapping.end && !mapping.holds(mapping.end));
        assert!(!mapping.name.contains(&b'\n'));
    }
}

pub(crate) fn auxv(bytes: &[u8]) {
    let _ = auxv::parse(bytes);
}

pub(crate) fn build_id(bytes: &[u8]) {
    if let Ok(Some(id)) = elf::parse_build_id(bytes) {
        assert!(!id.is_empty() && bytes.windows(id.len()).any(|part| part == id));
    }
    let (start, offset) = (0x7f00_0000_1000, 0x1000);
    for segment in elf::parse_segments(bytes).unwrap_or_default() {
        let lies = segment.load_address(start, offset, 4096);
        assert!(lies.is_none() || segment.offset <= offset + 4096);
    }
}

pub(crate) fn handle(bytes: &[u8]) {
    let origin = parse_origin(bytes);
    let padded = [&[0; 3], bytes].concat();
    let whole = Handle { kind: 0xf8, bytes: padded };
    assert_eq!(whole.parse_layer(), origin.clone().map(Some));
    if let Ok(layer) = origin {
        assert!(layer.inner.bytes.len() + 21 <= bytes.len());
    }
}

pub(crate) fn overlay(bytes: &[u8]) {
    let overlay = overlay::parse(BStr::new(bytes));
    let texts = overlay.lowers.iter().chain(&overlay.data).chain(&overlay.upper);
    assert!(texts.map(|t| t.len()).sum::<usize>() <= bytes.len());
}

pub(crate) fn aufs(bytes: &[u8]) {
    if let Ok(branch) = aufs::branch(bytes) {
        assert!(branch.path.starts_with(b"/") && branch.path.len() < bytes.len());
    }
    match aufs::options(BStr::new(bytes)) {
        Ok(aufs::Branches::Named(all)) => {
            assert!(all.iter().map(|b| b.path.len()).sum::<usize>() < bytes.len());
        }
        // It is joined in a path.
        Ok(aufs::Branches::InSysfs(id)) => assert!(id.iter().all(u8::is_ascii_hexdigit)),
        Err(_) => {}
    }
}

pub(crate) fn statmount(bytes: &[u8]) {
    if let Ok(mount) = statmount::parse(bytes) {
        assert!(!mount.point.contains(&0) && !mount.super_options.contains(&0));
    }
}
