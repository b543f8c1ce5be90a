//! containerd's content store: what images were downloaded as. A blob is the one image's that needs it, or
//! is shared, or left over from a build, or needed by nothing that has a name.

use std::collections::{BTreeMap, BTreeSet};

use bstr::{BString, ByteSlice};

use super::super::Index;
use super::DiskPlan;
use crate::model::gap::what;
use crate::model::{Engine, Gap, Usage, UsageKind, UsagePart};
use crate::state::containerd::metadata::{Blob, Contents};
use crate::storage::images::containerd_contents::{self as store, BLOBS, BUILDKIT, INGEST};

const ENGINE: Engine = Engine("containerd");

impl Index<'_> {
    /// Adds the blobs of all containerds.
    pub(super) fn plan_contents(&self, plan: &mut DiskPlan) {
        let mut seen = BTreeSet::new();
        let all: Vec<usize> =
            self.roots.told().filter(|(_, (of, _))| *of == ENGINE).map(|(n, _)| n).collect();
        for number in all {
            let Some((_, state)) = self.roots.get(number) else { continue };
            let Ok(look) = state.root.look(BLOBS.as_bytes()) else { continue };
            if !seen.insert((look.device, look.ino)) {
                continue;
            }
            let contents = store::blobs(&state.root).and_then(|there| {
                let contents = store::contents(&state.root)?;
                // One is there just before the database says so.
                let is_new = |digest: &BString| !contents.blobs.contains_key(digest);
                let later =
                    there.iter().any(is_new).then(|| store::contents(&state.root)).transpose()?;
                Ok((there, contents, later))
            });
            match contents {
                Ok((there, contents, later)) => {
                    for digest in &there {
                        let known = |of: &Contents| of.blobs.get(digest).cloned();
                        let blob = known(&contents).or_else(|| later.as_ref().and_then(known));
                        let blob = blob.unwrap_or_default();
                        self.plan_blob(plan, number, (digest, &blob), &contents.used);
                    }
                }
                // They are in the rest of the engine's directory then.
                Err(e) => plan.gaps.push(Gap::from_read(what::LAYERS, &e)),
            }
            if store::has_begun(&state.root) {
                let row = self.shared_row(plan, number, ENGINE, UsageKind::Downloads, INGEST);
                let part = UsagePart::Directory;
                plan.planned.push(self.planned(row, part, number, INGEST.into()));
            }
        }
    }

    fn plan_blob(
        &self,
        plan: &mut DiskPlan,
        root: usize,
        (digest, blob): (&BString, &Blob),
        used: &BTreeMap<BString, Vec<BString>>,
    ) {
        let ids: BTreeSet<&BString> = blob.images.iter().map(|(_, digest)| digest).collect();
        let names: BTreeSet<&BString> = blob.images.iter().map(|(name, _)| name).collect();
        let names: Vec<BString> = names.into_iter().cloned().collect();
        let is_used = ids.iter().any(|id| used.contains_key(*id));
        let kind = match (ids.len(), blob.namespaces.as_slice()) {
            (0, []) => UsageKind::Orphan,
            (0, all) if all.iter().all(|name| name == BUILDKIT) => UsageKind::BuildCache,
            (0, _) => UsageKind::UnusedContents,
            (1, _) if is_used => UsageKind::Image,
            (1, _) => UsageKind::UnusedImage,
            (_, _) if is_used => UsageKind::Images,
            (_, _) => UsageKind::UnusedImages,
        };
        let row = match ids.first().filter(|_| ids.len() == 1) {
            Some(id) => self.image_row(plan, root, ENGINE, kind, (id, &names)),
            None => self.shared_row(plan, root, ENGINE, kind, BLOBS),
        };
        plan.rows[row].has_images(&names);
        let Some((algorithm, digits)) = digest.split_once_str(":") else { return };
        let rel = [BLOBS.as_bytes(), b"/", algorithm, b"/", digits].concat().into();
        plan.planned.push(self.planned(row, UsagePart::Content, root, rel));
    }

    /// The row of what only this image has.
    pub(super) fn image_row(
        &self,
        plan: &mut DiskPlan,
        root: usize,
        engine: Engine,
        kind: UsageKind,
        (id, names): (&BString, &[BString]),
    ) -> usize {
        if let Some(row) = plan.images.get(&(root, kind, id.clone())) {
            return *row;
        }
        let mut row = Usage::new(kind, engine, names.first().unwrap_or(id).clone());
        row.user = self.roots.get(root).and_then(|(_, state)| state.user.clone());
        let number = plan.row(row);
        plan.images.insert((root, kind, id.clone()), number);
        number
    }

    /// The row of what several have, or nobody, in one directory of a root.
    pub(super) fn shared_row(
        &self,
        plan: &mut DiskPlan,
        root: usize,
        engine: Engine,
        kind: UsageKind,
        dir: &str,
    ) -> usize {
        let place = self.disk_path(root, dir.as_bytes());
        if let Some(row) = plan.images.get(&(root, kind, place.clone())) {
            return *row;
        }
        let mut row = Usage::new(kind, engine, place.clone());
        row.user = self.roots.get(root).and_then(|(_, state)| state.user.clone());
        let number = plan.row(row);
        plan.images.insert((root, kind, place), number);
        number
    }
}
