//! The filter over other tools' output.

use std::rc::Rc;

use whose_annotate::{Called, Engine, Known, Names, Options, Sink, Standing, Style, Tag, Turn};

/// Names for all that is asked: what matters is what goes through.
struct All(Rc<Tag>);

impl Names for All {
    fn turn(&mut self) -> Turn {
        Turn::Same
    }

    fn process(&mut self, pid: u32) -> Option<Known> {
        let tag = Rc::clone(&self.0);
        (!pid.is_multiple_of(3)).then_some(Known { tag, started: Some(0), since_boot: 0 })
    }

    fn all(&mut self, _: &mut dyn FnMut(u32, Known)) -> bool {
        false
    }

    fn is_called(&mut self, _: u32, _: Called<'_>) -> bool {
        true
    }

    fn container(&mut self, _: &[u8]) -> Option<Rc<Tag>> {
        Some(Rc::clone(&self.0))
    }

    fn cgroup(&mut self, _: &[u8]) -> Option<Rc<Tag>> {
        Some(Rc::clone(&self.0))
    }

    fn path(&mut self, _: &[u8]) -> Option<Rc<Tag>> {
        Some(Rc::clone(&self.0))
    }

    fn namespace(&mut self, _: &[u8], _: u64) -> Option<Rc<Tag>> {
        Some(Rc::clone(&self.0))
    }

    fn interface(&mut self, _: &[u8], _: Option<u32>) -> Option<Rc<Tag>> {
        Some(Rc::clone(&self.0))
    }

    fn overlooked(&mut self) {}

    fn is_this_boot(&self, id: &[u8]) -> bool {
        id.is_empty()
    }

    fn now(&self) -> i64 {
        1_795_570_446_000
    }

    fn uptime(&self) -> u64 {
        70_000
    }

    fn gone(&self) -> Rc<Tag> {
        Rc::new(Tag::word("(gone)", 1, Standing::Gone))
    }

    fn titles(&self) -> &[&'static str] {
        &["OWNER"]
    }
}

#[derive(Default)]
struct Passed(Vec<u8>);

impl Sink for Passed {
    fn pass(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn add(&mut self, _: &[u8]) {}

    fn skip(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Any bytes, in pieces of any size and every style: all of them go through, in order. The first byte is
/// the style, the second the size.
pub(crate) fn annotate(bytes: &[u8]) {
    let (Some((style, rest)), Some(size)) = (bytes.split_first(), bytes.get(1)) else { return };
    let (_, style) = Style::ALL[usize::from(*style) % Style::ALL.len()];
    let tag = Tag::new(vec!["web".into()], "web".into(), "{}".into(), Standing::Owner);
    let options = Options { style, ..Options::default() };
    let mut engine = Engine::new(All(Rc::new(tag)), options);
    let mut passed = Passed::default();
    for piece in rest.chunks(usize::from(*size).max(1)) {
        engine.room()[..piece.len()].copy_from_slice(piece);
        if engine.filled(piece.len()) || size.is_multiple_of(2) {
            engine.flush(&mut passed);
        }
    }
    engine.finish(&mut passed);
    assert!(passed.0 == rest);
}
