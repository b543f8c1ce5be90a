//! The lines of a card that say what a file of an engine's own is.

use std::io;

use whose_core::answer::Answer;
use whose_core::model::{Fact, Standing, Stored, StoredKind};

use crate::card::Card;
use crate::text;

impl Card<'_> {
    /// What it is, of what, and which images need it.
    pub(crate) fn stored(&mut self, answer: &Answer, stored: &Stored) -> io::Result<()> {
        let is = self.what_is_stored(stored);
        self.line("is", &is)?;
        if let Some(layer) = &stored.layer {
            let driver = text::sanitise(&layer.driver);
            self.line("layer", &format!("{}   {driver}", text::sanitise(&layer.id)))?;
            if let Some(chain) = &layer.chain_id {
                self.line("chain", &text::sanitise(chain))?;
            }
        }
        let is_image = stored.id.as_ref().is_some_and(|id| stored.image_ids.contains(id));
        if let Some(id) = stored.id.as_ref().filter(|_| stored.layer.is_none() && !is_image) {
            self.line("id", &text::sanitise(id))?;
        }
        self.images(answer.place.as_ref())
    }

    fn what_is_stored(&self, stored: &Stored) -> String {
        let what = match stored.kind {
            StoredKind::ImageConfig => "the configuration of an image",
            StoredKind::ImageRecord => "what the engine keeps of an image",
            StoredKind::Manifest => "the manifest of an image",
            StoredKind::Index => "an image's list of manifests",
            StoredKind::LayerBlob => "a layer as it was downloaded",
            StoredKind::Blob => "a blob of the content store",
            StoredKind::LayerRecord => "what the engine keeps of a layer",
            StoredKind::TarSplit => "the order of a layer's archive (tar-split)",
            StoredKind::Distribution => "where a layer was downloaded from",
            StoredKind::ContainerRecord => "what the engine keeps for a container",
            StoredKind::RootImage => "an image that holds the files of a container or machine",
            StoredKind::Task => "the bundle of a container's task",
            StoredKind::Begun => "what was begun to be written, or was broken off",
            StoredKind::Table => "the engine's own table, of all that it has",
            StoredKind::Other => "the engine's own, of no image and no container that is known",
        };
        match &stored.standing {
            Fact::Known(Standing::Orphan) => {
                self.style.warn(&format!("{what}; an orphan: the engine does not know it"))
            }
            Fact::Known(Standing::Unused) => {
                format!("{what}, which no image and no container has")
            }
            Fact::Known(Standing::BuildCache) => format!("{what}, of the build cache"),
            Fact::Known(Standing::Removing) => format!("{what}, being removed"),
            Fact::Unread(_) => {
                self.style.warn(&format!("{what}; who needs it could not be read in full"))
            }
            Fact::Known(Standing::Used) | Fact::Absent | Fact::Unasked => what.to_owned(),
        }
    }
}

/// Whether it is of something that containers may need.
pub(crate) fn has_users(stored: &Stored) -> bool {
    !matches!(stored.kind, StoredKind::Table | StoredKind::Begun | StoredKind::Other)
}
