//! For tests: what is read of processes, counted.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use whose_fields::Needs;
use whose_kernel::{Host, Options};
use whose_testkit::fixture::FixtureHost;

/// What is read of each process to tell where all of them are.
pub(super) fn reads(fixture: &FixtureHost, pids: &[u32]) -> HashMap<(u32, String), usize> {
    let counted = Rc::new(RefCell::new(HashMap::new()));
    let counter = Rc::clone(&counted);
    let count = move |pid: u32, file: &str| {
        *counter.borrow_mut().entry((pid, file.to_owned())).or_insert(0) += 1;
    };
    let host = Host::open(Options {
        root: Some(fixture.path().to_str().unwrap().into()),
        probe: Some(Box::new(count)),
        ..Options::default()
    })
    .unwrap();
    let mut index = super::Index::new(&host);
    for pid in pids {
        let needs = Needs::STAT.and(Needs::OWNER);
        let row = index.row(*pid, needs).unwrap().unwrap();
        assert!(row.owner().is_some(), "{pid}");
    }
    drop(index);
    counted.take()
}
