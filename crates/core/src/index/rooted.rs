//! From a path to containers that do not run, by what their configurations say that their files lie in.

use bstr::{BStr, BString};
use whose_kernel::Class;
use whose_kernel::parse::mountinfo::strip;

use super::Index;
use super::binds::joined;
use super::layers::User;
use crate::model::gap::what;
use crate::model::{Gap, RootFiles};
use crate::runtime::{REGISTRY, Runtime, StateRoot};
use whose_fields::Needs;

/// A container whose own files a path lies in: the number of its engine's root, its key, and the path there; no
/// path there where it is the image that holds them all.
pub(crate) type Rooted = (usize, User, Option<BString>);

/// What a container's files lie in.
enum Holder {
    Dir(BString),
    Image(BString),
}

impl Index<'_> {
    /// Containers of engines without a table of layers that have a directory which the path lies in; with what
    /// could not be read. Something else may lie over the file.
    pub(crate) fn rooted(&mut self, path: &BStr) -> (Vec<Rooted>, Vec<Gap>) {
        let (mut found, mut gaps) = (Vec::new(), Vec::new());
        // Monitors tell where what was moved is.
        if self.roots.walked.is_none() {
            self.roots_from_cgroups();
        }
        for runtime in REGISTRY.iter().filter(|runtime| runtime.has_root_files()) {
            while self.roots.advance_unasked(self.host, *runtime) {}
            let told = self.roots.told().filter(|(_, (engine, _))| *engine == runtime.engine());
            let numbers: Vec<usize> = told.map(|(number, _)| number).collect();
            for number in numbers {
                let Some((engine, root)) = self.roots.get(number) else { continue };
                let keys = match runtime.rooted_near(root, path) {
                    Ok(keys) => keys,
                    Err(e) if e.class == Class::Gone => continue,
                    Err(e) => {
                        gaps.push(Gap::from_read(what::CONTAINERS, &e));
                        continue;
                    }
                };
                let (engine, mut all) = (*engine, Vec::new());
                for key in keys {
                    if self.host().out_of_time() {
                        gaps.push(self.late().of(what::PATH));
                        return (found, gaps);
                    }
                    all.extend(
                        self.dirs_of(*runtime, root, key.as_ref())
                            .into_iter()
                            .map(|d| (key.clone(), d)),
                    );
                }
                for (key, holder) in all {
                    let (Holder::Dir(named) | Holder::Image(named)) = &holder;
                    let real = self.resolve(named.as_ref()).map_or(named.clone(), |r| r.path);
                    let inside = match (&holder, strip(&real, path)) {
                        (Holder::Dir(_), Some(rest)) => Some(joined(b"/", rest)),
                        (Holder::Image(_), Some(rest))
                            if rest.is_empty() && self.may_have(number, path) =>
                        {
                            None
                        }
                        _ => continue,
                    };
                    found.push((number, User::new(engine, key), inside));
                }
            }
        }
        (found, gaps)
    }

    /// Whether a root's word counts for a file: a user may name anybody's, and his own are his.
    pub(super) fn may_have(&self, number: usize, file: &BStr) -> bool {
        let user = self.roots.get(number).and_then(|(_, state)| state.users_own());
        let Some(user) = user else { return true };
        let uid = self.uid_named(user.as_ref());
        let recorded = self.host.root().recorded_owner(file);
        let owner = recorded.or_else(|| self.host.root().look(file).ok().map(|look| look.uid));
        uid.is_some() && uid == owner
    }

    /// What a container's files lie in; what it can't be told of is asked for by its path.
    fn dirs_of(&self, runtime: &dyn Runtime, root: &StateRoot, key: &BStr) -> Vec<Holder> {
        match runtime.rootfs(self.host(), root, key).map(|told| told.map(|rootfs| rootfs.files)) {
            Some(Ok(RootFiles::Dir(dir))) => vec![Holder::Dir(dir)],
            Some(Ok(RootFiles::Stack(dirs))) => dirs.into_iter().map(Holder::Dir).collect(),
            Some(Ok(RootFiles::Image(image))) => vec![Holder::Image(image)],
            None => Vec::new(),
            Some(Err(_)) => {
                let told = runtime.describe(root, key, Needs::NONE).and_then(Result::ok);
                told.and_then(|of| of.rootfs).map(Holder::Dir).into_iter().collect()
            }
        }
    }
}
