//! Which files on the host a process maps.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use bstr::BString;
use whose_kernel::parse::elf::Segment;
use whose_kernel::parse::maps::Mapping;
use whose_kernel::{Class, Mode, ReadError};

use super::binary::{NEEDS, add_layer, directory, one_process, subject, without_memory};
use super::{Answer, Layers, Status};
use crate::index::Index;
use crate::model::gap::what;
use crate::model::{Fact, File, Gap};
use crate::storage::binary::{self, Extent, Located, Subject, Which};
use crate::target::Typed;

/// What a process maps.
#[derive(Debug)]
pub struct Maps {
    /// The target, and whose process it is.
    pub answer: Answer,
    /// Its mappings, in ascending order.
    pub maps: Vec<Mapped>,
}

impl Maps {
    /// What is missing: of the target, and the paths of files.
    #[must_use]
    pub fn all_gaps(&self) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = self.answer.all_gaps().into_iter().cloned().collect();
        for file in self.maps.iter().filter_map(|m| m.file.as_ref()) {
            let of_file = [file.host.gap(), file.build_id.gap()];
            for gap in of_file.into_iter().flatten() {
                if !gaps.contains(gap) {
                    gaps.push(gap.clone());
                }
            }
        }
        gaps
    }

    /// Whether the path of a file is there and could not be told.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.maps.iter().filter_map(|m| m.file.as_ref()).any(|file| file.host.gap().is_some())
    }
}

/// One mapping.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// As the kernel has it.
    pub mapping: Mapping,
    /// The file behind it; `None` for memory that is no file's.
    pub file: Option<Rc<File>>,
    /// Of what is run: the address at which the file's virtual address 0 lies, `dlpi_addr` of
    /// dl_iterate_phdr(3).
    pub load_address: Option<u64>,
}

/// Time to read the beginning of a file that may never answer.
const ASIDE: Option<Duration> = Some(Duration::from_millis(500));

/// What tells one file of a process's maps from another.
type Key = ((u32, u32), u64, BString);

/// The mappings of a target, with the files behind them: of a process, or of a container's first one.
pub fn maps(index: &mut Index<'_>, typed: &Typed, layers: Layers) -> Maps {
    let mut answer = one_process(index, typed, NEEDS);
    let Some(row) = answer.process.clone() else { return Maps { answer, maps: Vec::new() } };
    let host = index.host();
    let shown = host.shown(format!("proc/{}/maps", row.process.pid).as_bytes());
    let read = if host.mode() == Mode::Saved {
        let why = "a saved tree holds no running process";
        Err(ReadError::new(shown, Class::Unsupported, why))
    } else if row.process.is_kernel() || row.process.is_dead() {
        Err(ReadError::new(shown, Class::Gone, "it has no memory"))
    } else {
        let gone = || ReadError::new(shown, Class::Gone, "no such process");
        directory(host, &row.process).ok_or_else(gone)
    };
    let read = read.and_then(|dir| {
        let subject = subject(&dir, &row, Extent::Whole);
        let mappings = binary::mappings(host, &subject)?;
        let files = files(index, &subject, &mappings);
        Ok((mappings, files))
    });
    match read {
        Ok((mappings, files)) => {
            let page = index.host().live().page_size().unwrap_or(4096);
            let mut known: HashMap<Key, (Rc<File>, Vec<Segment>)> = HashMap::new();
            for (key, mut file, segments) in files {
                add_layer(index, &row, &mut file, layers);
                known.insert(key, (Rc::new(file), segments));
            }
            let mapped = |mapping: Mapping| {
                let (file, segments) = known.get(&key(&mapping)).cloned().unzip();
                let run = segments.iter().flatten().filter(|_| mapping.is_executable());
                let mut at = run.map(|s| s.load_address(mapping.start, mapping.offset, page));
                Mapped { load_address: at.find_map(|at| at), file, mapping }
            };
            Maps { answer, maps: mappings.into_iter().map(mapped).collect() }
        }
        Err(e) if e.class == Class::Gone => {
            answer.status = Status::NotFound;
            answer.message = Some(without_memory(&row, "maps no file"));
            Maps { answer, maps: Vec::new() }
        }
        Err(e) => {
            answer.status = Status::Partial;
            answer.message = Some(format!("{}: its maps: {e}", row.process.pid));
            answer.gaps.push(Gap::from_read(what::MAPS, &e));
            Maps { answer, maps: Vec::new() }
        }
    }
}

/// The files behind the mappings, each once, with what is loaded of those that are run.
fn files(
    index: &Index<'_>,
    subject: &Subject<'_>,
    mappings: &[Mapping],
) -> Vec<(Key, File, Vec<Segment>)> {
    let is_run = |m: &&Mapping| m.is_file() && m.is_executable();
    let run: HashSet<Key> = mappings.iter().filter(is_run).map(key).collect();
    let mut seen: HashSet<Key> = HashSet::new();
    let mut files = Vec::new();
    for mapping in mappings.iter().filter(|m| m.is_file()) {
        if seen.insert(key(mapping)) {
            let subject = Subject { which: Which::Mapped(mapping), ..*subject };
            let mut segments = Vec::new();
            let file = match binary::locate(index.host(), &subject) {
                None => gone(mapping),
                Some(Located { mut file, running }) => {
                    if let Some(running) = running.filter(|_| run.contains(&key(mapping))) {
                        file.build_id = binary::hash::build_id(index.host(), &running, ASIDE);
                        segments = binary::hash::segments(index.host(), &running, ASIDE);
                    }
                    file
                }
            };
            files.push((key(mapping), file, segments));
        }
    }
    files
}

fn key(mapping: &Mapping) -> Key {
    (mapping.device, mapping.inode, mapping.name.clone())
}

/// What ended while it was looked at.
fn gone(mapping: &Mapping) -> File {
    let why = "the process ended, or let go of it";
    let gap = Gap::new(what::BINARY, Class::Gone, mapping.name.clone(), why, None);
    let (inside, host) = (Some(mapping.name.clone()), Fact::Unread(gap));
    File { inside, host, why: Some(why.into()), ..File::default() }
}
