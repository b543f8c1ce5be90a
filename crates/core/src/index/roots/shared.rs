//! Roots of one engine that are another's too.

use whose_kernel::Host;

use super::{Roots, Step};
use crate::runtime::{FoundRoots, Runtime, StateRoot, by_engine};

impl Roots {
    /// Takes the roots of the engine in whose roots a runtime has containers too: they were looked for as far as that step, or are
    /// now. Not those that a path alone led to.
    pub(super) fn share(&mut self, host: &Host, runtime: &dyn Runtime, step: Step) {
        let Some(shared) = runtime.shares().filter(|_| step <= Step::Running) else { return };
        let Some(other) = by_engine(shared.engine) else { return };
        let at = |roots: &Self| roots.steps.get(&shared.engine).copied().unwrap_or_default();
        while at(self) < step && self.advance_one(host, other) {}
        let its = self.of(shared.engine).filter(|root| (shared.is_its)(root));
        let roots = its.filter_map(StateRoot::again).collect();
        self.add(runtime, FoundRoots { roots, gaps: Vec::new() });
    }
}

#[cfg(test)]
mod tests {
    use whose_kernel::{Host, Options};
    use whose_testkit::fixture::{FixtureHost, TaskBundle};

    use super::{Roots, Step};
    use crate::model::Engine;
    use crate::runtime::by_engine;

    const GARDEN: Engine = Engine("garden");
    const CONTAINERD: Engine = Engine("containerd");

    fn known(namespace: &str) -> Vec<(Engine, String)> {
        let fixture = FixtureHost::new();
        fixture.boot();
        fixture.task_bundle(&TaskBundle::new(namespace, "x", 700));
        let root = Some(fixture.path().to_str().unwrap().into());
        let host = Host::open(Options { root, ..Options::default() }).unwrap();
        let mut roots = Roots::default();
        // The one is looked for, which takes the other as far.
        let garden = by_engine(GARDEN).unwrap();
        assert!(roots.advance_unasked(&host, garden));
        let steps = [GARDEN, CONTAINERD].map(|engine| roots.steps.get(&engine).copied());
        assert_eq!(steps, [Some(Step::Default); 2]);
        while roots.advance_unasked(&host, garden) {}
        // Both are known, and not twice, however far the other goes by itself.
        while roots.advance(&host) {}
        let run = |root: &crate::runtime::StateRoot| {
            let run = root.run.as_ref().unwrap().shown().to_string();
            run.strip_prefix(fixture.path().to_str().unwrap()).unwrap().to_owned()
        };
        let both = roots.told().filter(|(_, (e, _))| [GARDEN, CONTAINERD].contains(e));
        both.map(|(_, (engine, root))| (*engine, run(root))).collect()
    }

    #[test]
    fn what_has_something_of_anothers_is_the_others_too() {
        let run = String::from("/run/containerd");
        let both = vec![(CONTAINERD, run.clone()), (GARDEN, run.clone())];
        assert_eq!(known("garden"), both);
        assert_eq!(known("default"), [(CONTAINERD, run)]);
    }
}
