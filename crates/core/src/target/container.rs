//! A container: `NAME`, an id or its beginning, or `container:RUNTIME[@USER]/NAME`.

use bstr::{BStr, BString, ByteSlice};

use crate::model::Engine;
use crate::runtime::REGISTRY;

/// What names a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Only this engine's.
    pub engine: Option<Engine>,
    /// Only this user's.
    pub user: Option<BString>,
    /// Full id, exact name or beginning of an id.
    pub name: BString,
    /// Whether it may be a pod's name or uid as well, or that of a container in a pod.
    pub or_pod: bool,
}

/// A container's name.
#[must_use]
pub fn short(text: &BStr) -> Name {
    Name { engine: None, user: None, name: text.into(), or_pod: false }
}

/// A bare name: a container's, or something else's that nothing marks.
#[must_use]
pub fn bare(text: &BStr) -> Name {
    Name { or_pod: true, ..short(text) }
}

/// What follows `container:`. A text before the first slash that is no runtime's name belongs to
/// the name.
#[must_use]
pub fn long(text: &BStr) -> Name {
    let split = text.find_byte(b'/').and_then(|slash| {
        let (head, name) = (&text[..slash], &text[slash + 1..]);
        let (engine, user) = match head.find_byte(b'@') {
            Some(at) => (&head[..at], Some(BString::from(&head[at + 1..]))),
            None => (head, None),
        };
        let engine = REGISTRY.iter().map(|r| r.engine()).find(|e| e.0.as_bytes() == engine)?;
        (!name.is_empty()).then(|| Name { engine: Some(engine), user, ..short(BStr::new(name)) })
    });
    split.unwrap_or_else(|| short(text))
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::long;
    use crate::model::Engine;

    #[test]
    fn long_forms() {
        let name = long(BStr::new("docker@alice/web"));
        assert_eq!(name.engine, Some(Engine("docker")));
        assert_eq!(name.user.unwrap(), "alice");
        assert_eq!(name.name, "web");
        assert_eq!(long(BStr::new("../x")).name, "../x");
        assert_eq!(long(BStr::new("docker/")).name, "docker/");
    }
}
