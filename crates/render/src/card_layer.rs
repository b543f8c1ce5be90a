//! The card of a path or a layer.

use std::io;

use whose_core::answer::{Answer, Place};
use whose_core::model::{Fact, File, Layer, LayerKind};
use whose_core::storage::Part;

use crate::card::Card;
use crate::card_stored::has_users;
use crate::text;

/// Containers and images that the card names.
const SOME: usize = 12;

impl Card<'_> {
    /// What a path or layer is, and whose.
    pub(crate) fn file(&mut self, answer: &Answer, file: &File) -> io::Result<()> {
        self.head(&text::sanitise(&answer.target), "")?;
        // What a process or container has: nothing but its path there was given.
        if answer.place.is_none() && file.inside.is_some() {
            self.on_host(file)?;
        } else if let Fact::Known(host) = &file.host
            && *host != answer.target
        {
            self.line("on host", &text::sanitise(host))?;
        }
        if let Some(layer) = &file.layer {
            self.layer(answer, file, layer)?;
        }
        let volume = answer.place.as_ref().and_then(|place| place.volume.as_ref());
        if let Some(volume) = volume {
            self.line("volume", &text::sanitise(volume))?;
        }
        if let Some(stored) = &file.stored {
            self.stored(answer, stored)?;
        }
        let is_known = file.layer.is_some() || volume.is_some() || file.stored.is_some();
        match (answer.owner(), &answer.owners) {
            (Some(_), _) => self.owner(answer)?,
            (None, Some(owners)) if owners.is_empty() && !is_known => {
                let nobody = "nobody known: in no layer, directory or mount of a container";
                self.line("owner", nobody)?;
            }
            (None, Some(owners)) => {
                for (at, owner) in owners.iter().take(SOME).enumerate() {
                    self.level(if at == 0 { "used by" } else { "" }, owner)?;
                }
                let more = owners.len().saturating_sub(SOME);
                if more > 0 {
                    self.line("", &format!("and {more} more: whose --json"))?;
                }
                let whole = answer.gaps.is_empty() && file.stored.as_ref().is_none_or(has_users);
                if owners.is_empty() && whole {
                    self.line("used by", "no container")?;
                }
            }
            (None, None) => {}
        }
        let pids = answer.processes.iter().map(|row| row.process.pid.to_string());
        let mut pids: Vec<String> = pids.collect();
        let more = pids.len().saturating_sub(SOME);
        pids.truncate(SOME);
        if !pids.is_empty() {
            let more = if more > 0 { format!("   and {more} more") } else { String::new() };
            self.line("processes", &format!("{}{more}", pids.join("  ")))?;
        }
        self.uses(answer)?;
        if let Some(place) = &answer.place {
            self.engine(place)?;
        }
        Ok(())
    }

    /// Who uses what is mounted, and so keeps it busy.
    fn uses(&mut self, answer: &Answer) -> io::Result<()> {
        let uses = &answer.uses;
        for (at, one) in uses.iter().take(SOME).enumerate() {
            let fds: Vec<String> = one.fds.iter().take(SOME).map(ToString::to_string).collect();
            let more = if one.fds.len() > SOME { " ..." } else { "" };
            let by = |how: &&'static str| match *how {
                "fd" => format!("fd {}{more}", fds.join(" ")),
                how => how.to_owned(),
            };
            let how: Vec<String> = one.how.iter().map(by).collect();
            let row = answer.processes.iter().find(|row| row.process.pid == one.pid);
            let comm = row.map(|row| text::sanitise(row.process.comm()).to_string());
            let owner =
                row.and_then(|row| row.owner()).map(|o| text::sanitise(&o.label()).to_string());
            let words = [Some(one.pid.to_string()), comm, owner, Some(how.join(", "))];
            let words: Vec<String> = words.into_iter().flatten().collect();
            self.line(if at == 0 { "busy by" } else { "" }, &words.join("   "))?;
        }
        let more = uses.len().saturating_sub(SOME);
        if more > 0 {
            self.line("", &format!("and {more} more: whose --json"))?;
        }
        Ok(())
    }

    fn layer(&mut self, answer: &Answer, file: &File, layer: &Layer) -> io::Result<()> {
        let place = answer.place.as_ref();
        let id = text::sanitise(&layer.id);
        let driver = text::sanitise(&layer.driver);
        self.line("layer", &format!("{id}   {driver}"))?;
        let is = self.what(answer, layer);
        self.line("is", &is)?;
        if let Some(chain) = &layer.chain_id {
            self.line("chain", &text::sanitise(chain))?;
        }
        self.images(place)?;
        if place.is_some_and(|p| p.is_link) {
            self.line("link", "a link in the layer, which means something inside only")?;
        }
        if let Some(inside) = &file.inside {
            let as_what = match place.and_then(|p| p.part) {
                Some(Part::Merged) => "   in the merged view",
                _ => "",
            };
            self.line("inside", &format!("{}{as_what}", text::sanitise(inside)))?;
        }
        Ok(())
    }

    /// One line: what the layer is.
    fn what(&self, answer: &Answer, layer: &Layer) -> String {
        let whose = || match answer.owner() {
            Some(owner) => text::sanitise(&owner.label()),
            None => "a container".into(),
        };
        let at = match (layer.index, layer.of) {
            (Some(index), Some(of)) => format!("   lower {} of {of}", u64::from(index) + 1),
            _ => String::new(),
        };
        let unless = match &answer.place {
            Some(p) if p.is_changing => {
                "; or a pull or build that is under way, or was broken off, has made it"
            }
            _ => "",
        };
        match layer.kind {
            Some(LayerKind::Upper) => format!("the writable layer of {}", whose()),
            Some(LayerKind::Init) => format!("the init layer of {}{at}", whose()),
            Some(LayerKind::Image) => format!("an image layer{at}"),
            Some(LayerKind::View) => format!("a read-only view of {}", whose()),
            Some(LayerKind::BuildCache) => "build cache".into(),
            Some(LayerKind::Unused) => {
                format!("a layer that no image and no container has{unless}")
            }
            Some(LayerKind::Removing) => "being removed".into(),
            Some(LayerKind::Orphan) => {
                self.style.warn(&format!("an orphan: the engine does not know it{unless}"))
            }
            None => self.style.warn("not known: the engine's table could not be read in full"),
        }
    }

    pub(crate) fn images(&mut self, place: Option<&Place>) -> io::Result<()> {
        let images = place.map(|p| p.images.as_slice()).unwrap_or_default();
        for (at, image) in images.iter().take(SOME).enumerate() {
            let names: Vec<String> = image.names.iter().map(|n| text::sanitise(n)).collect();
            let names = if names.is_empty() { "no name".into() } else { names.join("  ") };
            let label = if at == 0 { "image" } else { "" };
            self.line(label, &format!("{names}   {}", text::sanitise(&image.id)))?;
        }
        let more = images.len().saturating_sub(SOME);
        if more > 0 {
            self.line("", &format!("and {more} more: whose --json"))?;
        }
        Ok(())
    }

    fn engine(&mut self, place: &Place) -> io::Result<()> {
        let user = place.user.as_ref();
        let user = user.map(|u| format!("   of {}", text::sanitise(u))).unwrap_or_default();
        let store = text::sanitise(&place.store);
        self.line("engine", &format!("{}{user}   {store}", place.engine.0))?;
        if let Some(outer) = &place.in_volume_of {
            let outer = text::sanitise(outer);
            let value = format!("in a volume of the engine at {outer}: a container may write it");
            self.line("within", &value)?;
        }
        Ok(())
    }
}
