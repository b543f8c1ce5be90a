//! The task iterator: the kernel's BTF that its program is fitted to, and what it writes.

use whose_kernel::parse::btf::{self, Request};
use whose_kernel::parse::task_record::{self, Told};
use whose_kernel::parse::task_usage;

/// A BTF with a structure `outer` that has members `a` and `b`, and one `inner` with a member `a`.
#[rustfmt::skip]
const OWN: &[u32] = &[
    0x0001_eb9f, 24, 0, 60, 60, 17,
    1, 4 << 24 | 2, 8, 7, 0, 0, 9, 0, 32,
    11, 4 << 24 | 1, 4, 7, 0, 0,
];
const NAMES: &[u8] = b"\0outer\0a\0b\0inner\0";

pub(crate) fn btf(bytes: &[u8]) {
    let own = OWN.iter().flat_map(|word| word.to_ne_bytes()).chain(NAMES.iter().copied());
    let own: Vec<u8> = own.collect();
    let request = Request { own: &own, functions: &["bpf_iter_task", "f"], structs: &["inner"] };
    let Ok(excerpt) = btf::parse(bytes, &request) else {
        return;
    };
    // What was taken is BTF with the same structures in it, and no function.
    let names: Vec<&str> = excerpt.found.iter().map(|(name, _)| name.as_str()).collect();
    let again = btf::parse(&excerpt.bytes, &Request { structs: &names, ..request });
    assert!(again.is_ok_and(|again| {
        names.iter().all(|name| again.found.iter().any(|(found, _)| found == name))
            && again.functions.iter().all(Option::is_none)
    }));
}

pub(crate) fn record(bytes: &[u8]) {
    let Ok(Told::Process(record)) = task_record::parse(bytes) else {
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
