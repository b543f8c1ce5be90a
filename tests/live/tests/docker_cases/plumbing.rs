//! Shims and daemons: no workload, and each shim says which container it serves.

use whose_live_tests::answer;
use whose_live_tests::lab::{Kind, Lab};
use whose_testkit::facts::Facts;
use whose_testkit::procfs;

pub(crate) fn shims(lab: &Lab) {
    let mut facts = Facts::about("shims");
    for variant in lab.of_kind(Kind::Steady) {
        let shim = lab.shim(variant);
        let comm = procfs::comm(shim).unwrap_or_default();
        facts.holds("the parent is a shim", comm.starts_with("containerd-shim"), &comm);
        let told = answer(&shim.to_string());
        let name = |what: &str| format!("{} of the shim of {}", what, variant.what);
        facts.same(&name("role"), told["process"]["role"].as_str(), Some("plumbing"));
        facts.same(&name("serves"), told["process"]["serves"].as_str(), Some(variant.id.as_str()));
        facts.holds(&name("owner"), told["owner"]["kind"] != "container", &told["owner"]);
    }
    facts.finish(40);
}

pub(crate) fn daemons(lab: &Lab) {
    let mut facts = Facts::about("daemons");
    for (what, pid) in
        [("dockerd", lab.docker.dockerd_pid()), ("containerd", lab.docker.containerd_pid())]
    {
        let told = answer(&pid.to_string());
        facts.same(what, told["process"]["comm"].as_str(), Some(what));
        facts.same(what, told["process"]["role"].as_str(), Some("plumbing"));
        facts.holds(what, told["owner"]["kind"] != "container", &told["owner"]);
        facts.holds(what, told["process"]["serves"].is_null(), &told["process"]["serves"]);
    }
    facts.finish(8);
}
