//! Recall and precision on what tools really print, counted by line.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use whose_annotate::{Called, Engine, Known, Names, Options, Sink, Standing, Style, Tag, Turn};

/// The processes of the samples, which run.sh made.
const PROCESSES: [&[u8]; 6] = [b"run.sh", b"bash", b"sleep", b"dd", b"python3", b"pstree"];

/// Names everything by its own text, between signs that no sample has.
struct Echo;

fn tag(text: &str) -> Rc<Tag> {
    let text = format!("⟦{text}⟧");
    Rc::new(Tag::new(vec![text.clone()], text, "null".to_owned(), Standing::Owner))
}

fn lossy(text: &[u8]) -> Option<Rc<Tag>> {
    Some(tag(&String::from_utf8_lossy(text)))
}

impl Names for Echo {
    fn turn(&mut self) -> Turn {
        Turn::Same
    }

    fn process(&mut self, pid: u32) -> Option<Known> {
        Some(Known { tag: tag(&pid.to_string()), started: Some(0), since_boot: 0 })
    }

    fn all(&mut self, _: &mut dyn FnMut(u32, Known)) -> bool {
        false
    }

    fn is_called(&mut self, _: u32, called: Called<'_>) -> bool {
        match called {
            Called::Comm(name) => PROCESSES.contains(&name),
            Called::Command(_) => true,
        }
    }

    fn container(&mut self, id: &[u8]) -> Option<Rc<Tag>> {
        lossy(id)
    }

    fn cgroup(&mut self, path: &[u8]) -> Option<Rc<Tag>> {
        lossy(path)
    }

    fn path(&mut self, path: &[u8]) -> Option<Rc<Tag>> {
        lossy(path)
    }

    fn namespace(&mut self, kind: &[u8], _: u64) -> Option<Rc<Tag>> {
        lossy(kind)
    }

    fn interface(&mut self, name: &[u8], _: Option<u32>) -> Option<Rc<Tag>> {
        lossy(name)
    }

    fn overlooked(&mut self) {}

    fn is_this_boot(&self, _: &[u8]) -> bool {
        true
    }

    fn now(&self) -> i64 {
        1_795_570_446_000
    }

    fn uptime(&self) -> u64 {
        u64::MAX / 2
    }

    fn gone(&self) -> Rc<Tag> {
        let tag = Tag::word("⟦(gone)⟧", 1, Standing::Gone);
        Rc::new(tag)
    }

    fn titles(&self) -> &[&'static str] {
        &["OWNER"]
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/annotate")
}

/// What each line of the output says that the line names.
fn told(text: &[u8]) -> BTreeMap<usize, BTreeSet<String>> {
    let mut engine = Engine::new(Echo, Options { style: Style::Suffix, ..Options::default() });
    let mut out = Vec::new();
    for piece in text.chunks(4096) {
        engine.room()[..piece.len()].copy_from_slice(piece);
        engine.filled(piece.len());
        engine.flush(&mut out);
    }
    engine.finish(&mut out);
    let mut told = BTreeMap::new();
    for (at, line) in String::from_utf8_lossy(&out).split('\n').enumerate() {
        let parts = line.split('⟦').skip(1).filter_map(|part| part.split('⟧').next());
        let names: BTreeSet<String> = parts.map(str::to_owned).collect();
        if !names.is_empty() {
            told.insert(at + 1, names);
        }
    }
    told
}

fn truth(text: &str) -> BTreeMap<usize, BTreeSet<String>> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let number: usize = words.next().unwrap().parse().unwrap();
        (number, words.map(str::to_owned).collect())
    };
    text.lines().map(line).collect()
}

fn samples() -> Vec<PathBuf> {
    let mut samples: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    samples.sort();
    assert!(samples.len() >= 40, "{}", samples.len());
    samples
}

/// Keeps what came in.
#[derive(Default)]
struct Passed(Vec<u8>);

impl Sink for Passed {
    fn pass(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn add(&mut self, _: &[u8]) {}

    fn skip(&mut self, bytes: &[u8]) {
        self.pass(bytes);
    }
}

/// Lines as tools print them of which no sample is there.
const LINES: &str = include_str!("lines.txt");

/// Longest line that is cut everywhere; of longer ones the beginning is.
const CUTS: usize = 200;

#[test]
fn a_line_may_be_cut_anywhere() {
    let mut texts: Vec<Vec<u8>> = samples().iter().map(|s| std::fs::read(s).unwrap()).collect();
    texts.push(LINES.into());
    for text in texts {
        let mut engines = Style::ALL.map(|(_, style)| {
            let engine = Engine::new(Echo, Options { style, ..Options::default() });
            (style, engine)
        });
        // A header is whole once, so that rows are cut too.
        for line in text.split(|b| *b == b'\n') {
            let longest = line.len().min(CUTS);
            let mut cut: Vec<u8> = Vec::new();
            for length in (0..longest).chain([line.len()]) {
                cut.extend_from_slice(&line[..length]);
                cut.push(b'\n');
            }
            for (style, engine) in &mut engines {
                let mut passed = Passed::default();
                for piece in cut.chunks(1 << 16) {
                    engine.room()[..piece.len()].copy_from_slice(piece);
                    engine.filled(piece.len());
                    engine.flush(&mut passed);
                }
                assert!(passed.0 == cut, "{style:?}: {}", String::from_utf8_lossy(line));
            }
        }
    }
}

#[test]
fn every_sample_is_read_as_it_was_meant() {
    let samples = samples();
    let (mut all, mut found, mut wrong) = (0, 0, 0);
    let mut story = String::new();
    for sample in samples {
        let told = told(&std::fs::read(&sample).unwrap());
        let meant = truth(&std::fs::read_to_string(sample.with_extension("named")).unwrap());
        let name = sample.file_name().unwrap().to_string_lossy();
        all += meant.len();
        found += meant.iter().filter(|(line, names)| told.get(line) == Some(names)).count();
        for (line, names) in &told {
            if meant.get(line) != Some(names) {
                wrong += 1;
                let _ = writeln!(story, "{name}:{line}: {names:?}");
            }
        }
        for (line, names) in meant.iter().filter(|(line, _)| !told.contains_key(line)) {
            let _ = writeln!(story, "{name}:{line}: not {names:?}");
        }
    }
    eprintln!("samples: {found} of {all} lines, {wrong} wrong\n{story}");
    assert!(wrong == 0 && found * 100 >= all * 99, "{found} of {all}, {wrong} wrong\n{story}");
}
