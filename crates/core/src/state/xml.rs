//! XML as libvirt writes it (XML 1.0, <https://www.w3.org/TR/xml/>): elements, attributes and texts. Comments and
//! instructions are passed over; a document type is refused, and with it all entities but the five that XML has.

use bstr::{BString, ByteSlice};

/// Deepest element taken.
const DEEPEST: usize = 64;
/// Most elements taken.
const MOST: usize = 100_000;

/// A document: its elements in the order in which they begin, the outermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    elements: Vec<Element>,
}

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    within: Option<usize>,
    /// Its name, with its prefix if it has one.
    pub name: BString,
    /// Attributes and their values.
    pub attributes: Vec<(BString, BString)>,
    /// Its own text, that of elements in it left out.
    pub text: BString,
}

impl Element {
    /// The value of an attribute.
    #[must_use]
    pub fn get(&self, attribute: &str) -> Option<&BString> {
        self.attributes.iter().find(|(name, _)| name == attribute).map(|(_, value)| value)
    }
}

/// An element of a document.
#[derive(Clone, Copy, Debug)]
pub struct Node<'d> {
    document: &'d Document,
    at: usize,
}

impl<'d> Node<'d> {
    /// The element itself.
    #[must_use]
    pub fn element(self) -> &'d Element {
        &self.document.elements[self.at]
    }

    /// Elements of that name that are directly in it.
    pub fn all(self, name: &str) -> impl Iterator<Item = Node<'d>> {
        let after = self.document.elements.iter().enumerate().skip(self.at + 1);
        // What is in it stands together, behind it: what comes then is not looked at.
        let own = after.take_while(move |(_, e)| e.within >= Some(self.at));
        own.filter(move |(_, e)| e.within == Some(self.at) && e.name == name)
            .map(move |(at, _)| Node { document: self.document, at })
    }

    /// The first of them.
    #[must_use]
    pub fn first(self, name: &str) -> Option<Node<'d>> {
        self.all(name).next()
    }

    /// The text of the first of them, without what is blank around it.
    #[must_use]
    pub fn text_of(self, name: &str) -> Option<&'d [u8]> {
        self.first(name).map(|node| node.element().text.trim_ascii())
    }
}

impl Document {
    /// The outermost element.
    #[must_use]
    pub fn root(&self) -> Node<'_> {
        Node { document: self, at: 0 }
    }
}

/// Parses a document.
///
/// # Errors
/// When it is not well-formed, too deep, or has a document type.
pub fn parse(bytes: &[u8]) -> Result<Document, String> {
    let mut document = Document::default();
    let mut open: Vec<usize> = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.find_byte(b'<') {
        add_text(&mut document, &open, &decoded(&rest[..at])?)?;
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix(b"<!--") {
            rest = until(after, "-->")?.1;
        } else if let Some(after) = rest.strip_prefix(b"<![CDATA[") {
            let (text, after) = until(after, "]]>")?;
            add_text(&mut document, &open, text)?;
            rest = after;
        } else if let Some(after) = rest.strip_prefix(b"<?") {
            rest = until(after, "?>")?.1;
        } else if rest.starts_with(b"<!") {
            return Err("it has a document type".into());
        } else if let Some(after) = rest.strip_prefix(b"</") {
            let (name, after) = until(after, ">")?;
            let own = open.pop().map(|at| document.elements[at].name.as_bytes());
            if own != Some(name.trim_ascii_end()) {
                return Err("an element ends that is not the last to begin".into());
            }
            rest = after;
        } else {
            let (mut element, is_empty, after) = element(&rest[1..])?;
            element.within = open.last().copied();
            if element.within.is_none() && !document.elements.is_empty() {
                return Err("more than one element is outermost".into());
            }
            if open.len() >= DEEPEST || document.elements.len() >= MOST {
                return Err("too many elements".into());
            }
            document.elements.push(element);
            if !is_empty {
                open.push(document.elements.len() - 1);
            }
            rest = after;
        }
    }
    add_text(&mut document, &[], &decoded(rest)?)?;
    if !open.is_empty() || document.elements.is_empty() {
        return Err("it ends too early".into());
    }
    Ok(document)
}

/// Adds to the text of the innermost element that is open.
fn add_text(document: &mut Document, open: &[usize], text: &[u8]) -> Result<(), String> {
    match open.last() {
        Some(at) => document.elements[*at].text.extend_from_slice(text),
        None if text.trim_ascii().is_empty() => {}
        None => return Err("a text is in no element".into()),
    }
    Ok(())
}

/// What comes before `end`, and after it.
fn until<'t>(text: &'t [u8], end: &str) -> Result<(&'t [u8], &'t [u8]), String> {
    text.split_once_str(end).ok_or_else(|| format!("no {end}"))
}

/// An element by what follows its `<`, whether that is all of it, and the rest.
fn element(text: &[u8]) -> Result<(Element, bool, &[u8]), String> {
    let (name, mut rest) = name_of(text)?;
    let mut element = Element { name, ..Element::default() };
    loop {
        let trimmed = rest.trim_ascii_start();
        if let Some(after) = trimmed.strip_prefix(b"/>") {
            return Ok((element, true, after));
        }
        if let Some(after) = trimmed.strip_prefix(b">") {
            return Ok((element, false, after));
        }
        let (key, after) = name_of(trimmed)?;
        let after =
            after.trim_ascii_start().strip_prefix(b"=").ok_or("an attribute of no value")?;
        let after = after.trim_ascii_start();
        let quote = after.first().filter(|b| b"'\"".contains(b)).ok_or("a value of no quotes")?;
        let end = after[1..].find_byte(*quote).ok_or("a quote that does not end")? + 1;
        element.attributes.push((key, decoded(&after[1..end])?));
        rest = &after[end + 1..];
    }
}

/// A name at the beginning of a text, and the rest.
fn name_of(text: &[u8]) -> Result<(BString, &[u8]), String> {
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || b"-._:".contains(b) || !b.is_ascii();
    let length = text.iter().take_while(|b| is_part(b)).count();
    if length == 0 {
        return Err("no name where one has to be".into());
    }
    Ok((text[..length].into(), &text[length..]))
}

/// A text with what its references stand for.
fn decoded(text: &[u8]) -> Result<BString, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find_byte(b'&') {
        out.extend_from_slice(&rest[..at]);
        let (name, after) = until(&rest[at + 1..], ";")?;
        match name {
            b"lt" => out.push(b'<'),
            b"gt" => out.push(b'>'),
            b"amp" => out.push(b'&'),
            b"quot" => out.push(b'"'),
            b"apos" => out.push(b'\''),
            _ => {
                let c = character(name).ok_or("a reference to nothing that XML has")?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    Ok(out.into())
}

/// The character of a reference by number.
fn character(name: &[u8]) -> Option<char> {
    let number = name.strip_prefix(b"#")?.to_str().ok()?;
    let number = match number.strip_prefix('x') {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    char::from_u32(number).filter(|c| *c != '\0')
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn elements_attributes_and_texts() {
        let text =
            b"<?xml version='1.0'?>\n<!--\nWARNING: <x>\n-->\n<a b='1' c = \"&lt;&#x41;&#66;'\">\n\
                     <d/>x &amp; y<d e='2'><d>inner</d></d ><![CDATA[<&]]>\n</a>\n";
        let document = parse(text).unwrap();
        let root = document.root();
        assert_eq!(root.element().name, "a");
        assert_eq!(root.element().get("c").unwrap(), "<AB'");
        assert_eq!(root.element().text.trim_ascii(), b"x & y<&");
        assert_eq!(root.all("d").count(), 2);
        let second = root.all("d").nth(1).unwrap();
        assert_eq!(second.element().get("e").unwrap(), "2");
        assert_eq!(second.text_of("d"), Some(&b"inner"[..]));
        assert!(root.first("inner").is_none());
    }

    /// What is in an element ends where the next one begins: many of a kind are not looked through for each.
    #[test]
    fn elements_end_where_others_begin() {
        let many = "<f><t/></f><f/>".repeat(30_000);
        let document = parse(format!("<a><b>{many}</b><t/></a>").as_bytes()).unwrap();
        let all = document.root().first("b").unwrap();
        let with = all.all("f").filter(|f| f.first("t").is_some()).count();
        assert_eq!((all.all("f").count(), with, all.all("t").count()), (60_000, 30_000, 0));
        assert!(document.root().first("t").is_some());
    }

    #[test]
    fn what_is_not_well_formed() {
        for text in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a/>x",
            "<a b></a>",
            "<a b=c></a>",
            "<a b='c></a>",
            "<a>&x;</a>",
            "<a>&#0;</a>",
            "<a>&#xd800;</a>",
            "<a>&amp</a>",
            "<!DOCTYPE a [<!ENTITY x 'y'>]><a/>",
            "<!-- <a/>",
            "< a/>",
            "<a",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse("<a>".repeat(64).as_bytes()).unwrap_err().contains("early"));
        assert!(parse("<a>".repeat(65).as_bytes()).unwrap_err().contains("many"));
    }
}
