//! The part of YAML that Go's encoder writes for maps of plain values: a key and a value a line, maps
//! by indentation. Lists and texts of several lines are passed over. No file of a person's is read
//! with it.

use bstr::{BString, ByteSlice};

/// Largest file taken, bytes.
pub const CAP: usize = 4 << 20;
/// Deepest map taken.
const DEEPEST: usize = 32;
/// Longest key taken, bytes.
const LONGEST: usize = 256;

/// The values of a document, each with the keys that lead to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    values: Vec<Value>,
    /// The maps that have values, and the one that each is in.
    maps: Vec<Map>,
}

/// A value with its own key, in a map or at the top.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Value {
    map: Option<usize>,
    key: BString,
    text: BString,
}

/// A map by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Map {
    within: Option<usize>,
    key: BString,
}

/// A key on the way to a line: how far it is indented, and its number among the maps once something is in
/// it.
#[derive(Debug)]
struct Step {
    indent: usize,
    key: BString,
    map: Option<usize>,
}

impl Document {
    /// The value that these keys lead to.
    #[must_use]
    pub fn get(&self, keys: &[&str]) -> Option<&BString> {
        let (last, above) = keys.split_last()?;
        let is_it = |value: &&Value| value.key == *last && self.is_way(value.map, above);
        self.values.iter().find(is_it).map(|value| &value.text)
    }

    /// Whether these keys lead to a map, or none to the top.
    fn is_way(&self, mut map: Option<usize>, keys: &[&str]) -> bool {
        for key in keys.iter().rev() {
            let Some(own) = map.and_then(|at| self.maps.get(at)) else { return false };
            if own.key != *key {
                return false;
            }
            map = own.within;
        }
        map.is_none()
    }

    /// The map that is the last key of a way; numbered when something is first found in it.
    fn map_at(&mut self, way: &mut [Step]) -> Option<usize> {
        let mut within = None;
        for step in way {
            let number = *step.map.get_or_insert_with(|| {
                self.maps.push(Map { within, key: std::mem::take(&mut step.key) });
                self.maps.len() - 1
            });
            within = Some(number);
        }
        within
    }
}

/// Parses a document.
///
/// # Errors
/// When a line is none of those that the encoder writes.
pub fn parse(bytes: &[u8]) -> Result<Document, String> {
    let mut document = Document::default();
    let mut way: Vec<Step> = Vec::new();
    // Lines that are indented further than this are not looked at.
    let mut passed_over: Option<usize> = None;
    for (at, line) in bytes.lines().enumerate() {
        let text = line.trim_start_with(|c| c == ' ');
        let indent = line.len() - text.len();
        if text.trim_ascii().is_empty() || text.starts_with(b"#") || text == b"---" {
            continue;
        }
        if passed_over.is_some_and(|than| indent > than) {
            continue;
        }
        passed_over = None;
        if text == b"-" || text.starts_with(b"- ") {
            passed_over = Some(indent);
            continue;
        }
        let wrong = || format!("line {} is not `key: value`", at + 1);
        let (key, rest) = key_of(text).ok_or_else(wrong)?;
        if key.len() > LONGEST {
            return Err(format!("line {} has a key of more than {LONGEST} bytes", at + 1));
        }
        way.retain(|step| step.indent < indent);
        if way.len() >= DEEPEST {
            return Err(format!("more than {DEEPEST} maps in each other"));
        }
        let rest = rest.trim_ascii();
        match rest.first() {
            None => way.push(Step { indent, key, map: None }),
            // A text of several lines.
            Some(b'|' | b'>') => passed_over = Some(indent),
            Some(_) => {
                // What an encoder folds goes on in lines that are indented further.
                passed_over = Some(indent);
                let (map, text) = (document.map_at(&mut way), scalar(rest).ok_or_else(wrong)?);
                document.values.push(Value { map, key, text });
            }
        }
    }
    Ok(document)
}

/// A key and what stands behind its colon.
fn key_of(text: &[u8]) -> Option<(BString, &[u8])> {
    if let Some(quote) = text.first().filter(|b| b"\"'".contains(b)) {
        let end = 1 + closing(&text[1..], *quote)?;
        let rest = text[end + 1..].strip_prefix(b":")?;
        return Some((scalar(&text[..=end])?, rest));
    }
    let at = text.find(": ").or_else(|| text.ends_with(b":").then(|| text.len() - 1))?;
    Some((text[..at].into(), &text[at + 1..]))
}

/// Where a quoted text ends.
fn closing(text: &[u8], quote: u8) -> Option<usize> {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let doubled = quote == b'\'' && text.get(at..at + 2) == Some(b"''");
        match byte {
            b'\\' if quote == b'"' => at += 2,
            _ if doubled => at += 2,
            byte if *byte == quote => return Some(at),
            _ => at += 1,
        }
    }
    None
}

/// A value, without its quotes. A quoted one that goes on in the next line is `None`.
fn scalar(text: &[u8]) -> Option<BString> {
    let quote = text.first().filter(|b| b"\"'".contains(b));
    let Some(quote) = quote else { return Some(text.into()) };
    let inner = &text[1..];
    let Some(end) = closing(inner, *quote) else { return Some(BString::default()) };
    let inner = &inner[..end];
    if *quote == b'\'' {
        return Some(inner.replace("''", "'").into());
    }
    let mut value = Vec::new();
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        value.push(match (byte, byte == &b'\\') {
            (byte, false) => *byte,
            (_, true) => match bytes.next()? {
                b'n' => b'\n',
                b't' => b'\t',
                other => *other,
            },
        });
    }
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::parse;

    const BACKUP: &[u8] = b"container:\n  architecture: x86_64\n  config:\n    image.os: lab\n    \
        image.release: \"1\"\n    user.text: |-\n      name: wrong\n      x\n    \
        volatile.idmap.base: '[{\"a\":1}]'\n  devices: {}\n  profiles:\n  - default\n  - name: no\n    \
        x: y\n  description: \"\"\n  created_at: 2026-11-26T01:41:00.431407392Z\n  name: c1\n\
        pool:\n  name: default\n\"a b\": 'it''s'\n";

    #[test]
    fn maps_of_values() {
        let document = parse(BACKUP).unwrap();
        let get = |keys: &[&str]| document.get(keys).map(ToString::to_string);
        assert_eq!(get(&["container", "name"]).unwrap(), "c1");
        assert_eq!(get(&["container", "config", "image.release"]).unwrap(), "1");
        assert_eq!(get(&["container", "config", "volatile.idmap.base"]).unwrap(), "[{\"a\":1}]");
        assert_eq!(get(&["container", "created_at"]).unwrap(), "2026-11-26T01:41:00.431407392Z");
        assert_eq!(get(&["container", "description"]).unwrap(), "");
        assert_eq!(get(&["pool", "name"]).unwrap(), "default");
        assert_eq!(get(&["a b"]).unwrap(), "it's");
        assert_eq!([get(&["name"]), get(&["container", "profiles"])], [None, None]);
    }

    #[test]
    fn folded_and_escaped() {
        let document = parse(b"a: one\n  two\nb: \"x\\n\\\"y\\\"\"\nc: d\n").unwrap();
        assert_eq!(document.get(&["a"]).unwrap(), "one");
        assert_eq!(document.get(&["b"]).unwrap(), "x\n\"y\"");
        assert_eq!(document.get(&["c"]).unwrap(), "d");
    }

    #[test]
    fn damage() {
        assert!(parse(b"rubbish\n").unwrap_err().contains("line 1"));
        assert!(parse(b"\"x\n").is_err());
        let deep: Vec<u8> =
            (0..99).flat_map(|n| format!("{}a:\n", " ".repeat(n)).into_bytes()).collect();
        assert!(parse(&deep).unwrap_err().contains("more than"));
        assert_eq!(parse(b"").unwrap(), super::Document::default());
        let long = [&b"a:\n "[..], &vec![b'k'; 257], b": x\n"].concat();
        assert!(parse(&long).unwrap_err().contains("line 2"));
        // Many values below long keys take no more room than the text.
        let mut wide: Vec<u8> = (0..31)
            .flat_map(|n| format!("{}{}:\n", " ".repeat(n), "k".repeat(256)).into_bytes())
            .collect();
        while wide.len() < super::CAP - 64 {
            wide.extend_from_slice(&[&[b' '; 31][..], b"v: x\n"].concat());
        }
        let document = parse(&wide).unwrap();
        assert_eq!((document.maps.len(), document.values.len() > 100_000), (31, true));
        let keys = vec!["k"; 32];
        assert_eq!(document.get(&keys), None);
    }
}
