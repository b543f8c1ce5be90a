//! What lies beside the layers of an engine's store: volumes, and what is kept for each container.

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::{Class, parse};

use super::Index;
use super::layers::User;
use crate::model::gap::what;
use crate::model::{Engine, Gap};
use crate::runtime::{Matches, Query, REGISTRY, Runtime, StateRoot, by_engine, segment};
use crate::state::docker::container_file;

const DOCKER: Engine = Engine("docker");
/// What Docker's data root has besides its volumes, so that no other directory is taken for one.
const DOCKERS: [&str; 2] = ["/containers", "/image"];
/// Engines that keep their containers in a store of containers/storage.
const OF_STORAGE: [Engine; 3] = [Engine("podman"), Engine("cri-o"), Engine("buildah")];

/// A volume of an engine's own.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Number of the engine's root.
    pub root: usize,
    /// Its name there.
    pub name: BString,
    /// Where its files are, a path of the host.
    pub dir: BString,
}

impl Index<'_> {
    /// The container for which the directory is kept that a path lies in, `<data root>/containers/<id>` or
    /// `<graph root>/<driver>-containers/<id>`; with the number of the engine's root.
    ///
    /// # Errors
    /// When the engine's root can't be looked at.
    pub fn state_dir_of(&mut self, path: &BStr) -> Result<Option<(usize, User)>, Gap> {
        const DIR: &[u8] = b"containers/";
        for at in path.find_iter(DIR).filter(|at| *at > 0) {
            let id = path[at + DIR.len()..].split(|b| *b == b'/').next().unwrap_or_default();
            if !segment::is_hex64(id) {
                continue;
            }
            let found = match path[at - 1] {
                b'/' => self.dockers(BStr::new(&path[..at - 1]), id)?,
                b'-' => {
                    let above = path[..at].rfind_byte(b'/').unwrap_or(0);
                    self.of_storage(BStr::new(&path[..above]), id)?
                }
                _ => None,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The container for which an engine keeps the directory that a path lies in until the host starts anew,
    /// `<run root>/<driver>-containers/<id>/userdata`; with the number of the engine's root. Where that is, its engine's state
    /// says: the path alone proves nothing.
    ///
    /// # Errors
    /// When an engine's state could not be read for that.
    pub fn run_dir_of(&mut self, path: &BStr) -> Result<Option<(usize, User)>, Gap> {
        const DIR: &[u8] = b"-containers/";
        let host = self.host;
        for at in path.find_iter(DIR).filter(|at| *at > 0) {
            let below = &path[at + DIR.len()..];
            let id = BStr::new(below.split(|b| *b == b'/').next().unwrap_or_default());
            let base = BStr::new(&path[..path[..at].rfind_byte(b'/').unwrap_or(0)]);
            let dir = BStr::new(&path[..at + DIR.len() + id.len()]);
            if !segment::is_hex64(id) || base.is_empty() {
                continue;
            }
            let identity = |path: &BStr| host.root().look(path).map(|l| (l.device, l.ino)).ok();
            let Some(wanted) = identity(dir) else { continue };
            let mut problem = None;
            let mut ask = |number: usize, engine: Engine, state: &StateRoot| {
                let of_storage = OF_STORAGE.contains(&engine);
                let runtime = by_engine(engine).filter(|_| of_storage)?;
                let told = match runtime.describe(state, id, Needs::NONE)? {
                    Ok(told) => told.run_dir?,
                    Err(e) => {
                        let is_gone = e.class == Class::Gone;
                        problem = problem.take().or((!is_gone).then_some(e));
                        return None;
                    }
                };
                let kept = BStr::new(told.strip_suffix(b"/userdata")?);
                if !kept.starts_with(b"/") {
                    return None;
                }
                let is_his = |user: &BString| {
                    let number =
                        || parse::decimal32(user).filter(|uid| host.user_name(*uid).is_none());
                    let owns = |uid| host.owned_dir(BStr::new("/"), base, uid).is_ok();
                    kept == dir && host.uid_of(user).or_else(number).is_some_and(owns)
                };
                let is_it = match state.users_own() {
                    // He may name any directory of the host as his.
                    Some(user) => is_his(user),
                    None => host.guard(kept).is_ok() && identity(kept) == Some(wanted),
                };
                is_it.then(|| (number, User::new(engine, id)))
            };
            match (self.each_root(&mut ask).0, problem) {
                (Some(found), _) => return Ok(Some(found)),
                (None, Some(e)) => return Err(Gap::from_read(what::DESCRIPTION, &e)),
                (None, None) => {}
            }
        }
        Ok(None)
    }

    fn dockers(&mut self, base: &BStr, id: &[u8]) -> Result<Option<(usize, User)>, Gap> {
        let Some(number) = self.root_at(DOCKER, base)? else { return Ok(None) };
        let Some((_, state)) = self.roots.get(number) else { return Ok(None) };
        match state.root.look(&container_file(id, "config.v2.json")) {
            Ok(_) => Ok(Some((number, User::new(DOCKER, id)))),
            Err(e) if e.class == Class::Gone => Ok(None),
            Err(e) => Err(Gap::from_read(what::DESCRIPTION, &e)),
        }
    }

    fn of_storage(&mut self, base: &BStr, id: &[u8]) -> Result<Option<(usize, User)>, Gap> {
        for engine in OF_STORAGE {
            let Some(number) = self.root_at(engine, base)? else { continue };
            let (Some(runtime), Some((_, state))) = (by_engine(engine), self.roots.get(number))
            else {
                continue;
            };
            match runtime.find(self.host, state, Query::Id(BStr::new(id))) {
                Ok(found) if found.ids.is_empty() => {}
                Ok(_) => return Ok(Some((number, User::new(engine, id)))),
                Err(e) if e.class == Class::Gone => {}
                Err(e) => return Err(Gap::from_read(what::DESCRIPTION, &e)),
            }
        }
        Ok(None)
    }

    /// The volume that a path lies in, or is the directory of. Of several the outermost counts.
    ///
    /// # Errors
    /// When the engine's root can't be looked at.
    pub fn volume_at(&mut self, path: &BStr) -> Result<Option<Volume>, Gap> {
        let mut all: Vec<(usize, usize, &dyn Runtime)> = Vec::new();
        for runtime in REGISTRY {
            let between = runtime.volumes().map(|dir| format!("/{dir}/")).unwrap_or_default();
            let at = path.find_iter(&between).filter(|at| *at > 0 && !between.is_empty());
            all.extend(at.map(|at| (at, at + between.len(), *runtime)));
        }
        all.sort_by_key(|(at, ..)| *at);
        for (at, below, runtime) in all {
            let base = BStr::new(&path[..at]);
            let name = path[below..].split(|b| *b == b'/').next().unwrap_or_default();
            self.host.guard(base).map_err(|e| Gap::from_read(what::VOLUMES, &e))?;
            let has = |of: &str| self.host.root().has_dir(&[base, of.as_bytes()].concat());
            if runtime.engine() == DOCKER && !DOCKERS.into_iter().all(has) {
                continue;
            }
            let Some(root) = self.root_at(runtime.engine(), base)? else { continue };
            let found = self.volume_of(runtime, root, BStr::new(name));
            if let Some(found) = found.map_err(|e| Gap::from_read(what::VOLUMES, &e))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The volumes of this name, of all engines and users; with the gaps that keep an empty result from
    /// proving anything.
    pub fn volumes_named(&mut self, name: &BStr) -> (Vec<Volume>, Vec<Gap>) {
        while self.roots.advance(self.host) {}
        let (mut found, mut problems);
        loop {
            (found, problems) = self.volumes_in_known(name);
            // A user can give his own the name of anybody's, which may be where nothing has led to yet.
            let users =
                |v: &Volume| self.roots.get(v.root).is_some_and(|r| r.1.users_own().is_some());
            if !found.iter().all(users) || !self.look_everywhere(found.is_empty()) {
                break;
            }
        }
        let late = self.host.out_of_time().then(|| self.late().of(what::VOLUMES));
        let gaps = self.roots.gaps.iter().map(|(_, gap)| gap.clone());
        let gaps = gaps.chain(problems).chain(self.uncaptured()).chain(late).collect();
        (found, gaps)
    }

    fn volumes_in_known(&self, name: &BStr) -> (Vec<Volume>, Vec<Gap>) {
        let (mut found, mut gaps) = (Vec::new(), Vec::new());
        for (number, (engine, _)) in self.roots.told() {
            let Some(runtime) = by_engine(*engine) else { continue };
            match self.volume_of(runtime, number, name) {
                Ok(volume) => found.extend(volume),
                Err(e) => gaps.push(Gap::from_read(what::VOLUMES, &e)),
            }
        }
        (found, gaps)
    }

    fn volume_of(
        &self,
        runtime: &dyn Runtime,
        root: usize,
        name: &BStr,
    ) -> Result<Option<Volume>, whose_kernel::ReadError> {
        let (Some(dir), Some((_, state))) = (runtime.volumes(), self.roots.get(root)) else {
            return Ok(None);
        };
        let below = [dir.as_bytes(), b"/", name].concat();
        match state.root.look(&below) {
            Ok(look) if look.is_dir() => {}
            Ok(_) => return Ok(None),
            Err(e) if e.class == Class::Gone => return Ok(None),
            Err(e) => return Err(e),
        }
        let dir = state.root.join(&[&below[..], b"/_data"].concat());
        let dir = self.host.unrooted(dir.as_ref()).unwrap_or(dir.as_ref()).into();
        Ok(Some(Volume { root, name: name.into(), dir }))
    }

    /// The containers that have a volume, running or not; with what could not be read of others.
    pub fn users_of_volume(&mut self, volume: &Volume) -> (Vec<User>, Vec<Gap>) {
        let Some((engine, state)) = self.roots.get(volume.root) else { return Default::default() };
        let Some(runtime) = by_engine(*engine) else { return Default::default() };
        match runtime.find(self.host, state, Query::Volume(volume.name.as_ref())) {
            Ok(Matches { ids, gaps }) => {
                let user = |key: BString| User::new(*engine, key);
                let of = |gap: Gap| gap.of(what::VOLUMES);
                (ids.into_iter().map(user).collect(), gaps.into_iter().map(of).collect())
            }
            Err(e) => (Vec::new(), vec![Gap::from_read(what::VOLUMES, &e)]),
        }
    }
}
