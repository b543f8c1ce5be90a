//! The task iterator: the kernel's BTF that its program is fitted to, and what it writes.

use whose_kernel::parse::{btf, task_record, task_usage};

pub(crate) fn btf(bytes: &[u8]) {
    let structs = ["task_struct", "outer", "inner"];
    let Ok(excerpt) = btf::parse(bytes, &structs, "bpf_iter_task") else {
        return;
    };
    // What was taken is BTF with the same structures in it, and nothing more to take.
    let again = btf::parse(&excerpt.bytes, &structs, "bpf_iter_task");
    assert!(again.is_ok_and(|again| {
        excerpt.found.iter().all(|name| again.found.contains(name))
            && again.function.is_none()
            && again.bytes.len() == excerpt.bytes.len()
    }));
}

pub(crate) fn record(bytes: &[u8]) {
    let Ok(record) = task_record::parse(bytes) else {
        return;
    };
    assert!(record.pid > 0 && record.comm.len() <= 16 && !record.comm.contains(&0));
    assert!(record.state.is_ascii_alphabetic());
    assert!(record.pids.is_none_or(|p| p[0] == record.pid && p.len() <= 8 && !p.contains(&0)));
}

pub(crate) fn usage(bytes: &[u8]) {
    let parsed = bytes.chunks(task_usage::LENGTH).map(task_usage::parse);
    let threads: Vec<_> = parsed.filter_map(Result::ok).collect();
    let Some((user, system)) = task_usage::of_process(&threads).and_then(|used| used.cpu) else {
        return;
    };
    // Never less than what was shown before.
    let shown = threads.last().and_then(|t| t.shown);
    assert!(shown.is_some_and(|shown| user >= shown.0 && system >= shown.1));
}
