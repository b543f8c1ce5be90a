//! Answers need no daemon: they are the same after it was killed.

use std::collections::BTreeSet;
use whose_live_tests::lab::{Kind, Lab, Variant};
use whose_live_tests::{compare, whose};
use whose_testkit::procfs;

pub(crate) fn killed_daemon(lab: &mut Lab) {
    let variants: Vec<Variant> = lab.of_kind(Kind::Steady).cloned().collect();
    let running: BTreeSet<String> = lab.docker.running().into_iter().collect();
    let pids: Vec<BTreeSet<u32>> = variants.iter().map(|v| lab.pids(v)).collect();
    assert!(variants.iter().all(|v| running.contains(&v.id)), "all of them run");
    let before: Vec<String> = variants.iter().map(told).collect();
    let (dockerd, containerd) = (lab.docker.dockerd_pid(), lab.docker.containerd_pid());
    lab.docker.kill9();
    assert!(!procfs::alive(dockerd) && !procfs::alive(containerd), "both are dead");
    for (variant, pids) in variants.iter().zip(&pids) {
        for pid in pids {
            assert!(procfs::state(*pid).is_some(), "{pid} of {} is gone", variant.what);
        }
        assert!(pids.iter().any(|pid| procfs::alive(*pid)), "{} is dead", variant.what);
    }
    let mut differ = Vec::new();
    for (variant, before) in variants.iter().zip(&before) {
        let after = told(variant);
        if *before != after {
            differ.push(format!("{}\n  before: {before}\n  after:  {after}", variant.what));
        }
    }
    assert!(differ.is_empty(), "without a daemon it says otherwise:\n{}", differ.join("\n"));
    for (variant, pids) in variants.iter().zip(&pids) {
        let listed = whose().args(["pids", &Lab::target(variant)]).run().expect_code(0).pids();
        assert_eq!(BTreeSet::from_iter(listed), *pids, "{}", variant.what);
    }
}

/// The whole answer for a container as text, without what may change by itself.
fn told(variant: &Variant) -> String {
    let run = whose().args(["--json", &Lab::target(variant)]).run().expect_code(0);
    let mut json = run.json();
    compare::without_volatile(&mut json);
    json.to_string()
}
