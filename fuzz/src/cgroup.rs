//! `/proc/PID/cgroup` and `/proc/cgroups`.

use whose_kernel::parse::cgroup::{Line, parse};
use whose_kernel::parse::controllers;

pub(crate) fn cgroup(bytes: &[u8]) {
    let Ok(lines) = parse(bytes) else {
        return;
    };
    let mut text = Vec::new();
    for line in &lines {
        check(line);
        text.extend(line.hierarchy.to_string().bytes());
        text.push(b':');
        text.extend(line.controllers.iter());
        text.push(b':');
        text.extend(line.path.iter());
        text.extend(if line.deleted { b" (deleted)\n".iter() } else { b"\n".iter() });
    }
    assert_eq!(parse(&text), Ok(lines));
}

fn check(line: &Line) {
    assert!(line.path.starts_with(b"/") && !line.path.contains(&b'\n'));
    assert!(!line.controllers.contains(&b':'));
    for segment in line.segments() {
        assert!(!segment.is_empty() && !segment.contains(&b'/'));
    }
    for controller in line.controllers.split(|byte| *byte == b',') {
        assert!(line.has_controller(controller));
    }
}

pub(crate) fn controllers(bytes: &[u8]) {
    let Ok(all) = controllers::parse(bytes) else {
        return;
    };
    let mut text = b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n".to_vec();
    for one in &all {
        text.extend(one.name.iter());
        text.extend(format!("\t{}\t{}\t1\n", one.hierarchy, one.cgroups).bytes());
    }
    assert_eq!(controllers::parse(&text), Ok(all));
}
