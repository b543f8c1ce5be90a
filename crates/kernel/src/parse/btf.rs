//! The kernel's own BTF (Documentation/bpf/btf.rst): what a program's relocations need of it.
//!
//! `/sys/kernel/btf/vmlinux` describes over a hundred thousand types. A program names a few dozen
//! structures, and to search them all for each relocation takes longer than the program runs.

use std::collections::HashMap;

use crate::error::Malformed;

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
const SHORT: Malformed = Malformed("BTF is cut short");

// `BTF_KIND_...` of include/uapi/linux/btf.h.
const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FLOAT: u32 = 16;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// A part of the kernel's BTF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// BTF with the structures that were asked for and what they hold. Pointers in it lead nowhere.
    pub bytes: Vec<u8>,
    /// The structures that were found, each once.
    pub found: Vec<String>,
    /// The type id of the function, in the whole BTF.
    pub function: Option<u32>,
}

/// Takes these structures out of a BTF of this machine's byte order, and looks up one function.
///
/// # Errors
/// [`Malformed`] when it is no BTF, or ends too early.
pub fn parse(bytes: &[u8], structs: &[&str], function: &str) -> Result<Excerpt, Malformed> {
    let btf = Btf::new(bytes)?;
    let mut copy = Copy::new(&btf);
    let mut found: Vec<&str> = Vec::new();
    let mut function_id = None;
    for id in 1..btf.count() {
        let head = btf.head(id)?;
        let is_wanted = matches!(head.kind, STRUCT | UNION | FUNC);
        if !is_wanted {
            continue;
        }
        let name = btf.name(head.name)?;
        if head.kind == FUNC {
            if name == function.as_bytes() {
                function_id.get_or_insert(id);
            }
        } else if let Some(wanted) = structs.iter().find(|s| s.as_bytes() == name) {
            copy.id_of(id);
            if !found.contains(wanted) {
                found.push(wanted);
            }
        }
    }
    copy.all()?;
    let found = found.into_iter().map(str::to_owned).collect();
    Ok(Excerpt { bytes: copy.finish()?, found, function: function_id })
}

/// The first three words of a type.
#[derive(Clone, Copy)]
struct Head {
    name: u32,
    info: u32,
    /// Bytes, or the type it refers to.
    third: u32,
    kind: u32,
    /// How many members.
    length: usize,
    /// Where what follows begins.
    rest: usize,
}

struct Btf<'b> {
    types: &'b [u8],
    strings: &'b [u8],
    /// Where each type begins; the first is void.
    places: Vec<u32>,
}

impl<'b> Btf<'b> {
    fn new(bytes: &'b [u8]) -> Result<Self, Malformed> {
        let magic = bytes.first_chunk::<2>().ok_or(SHORT)?;
        if u16::from_ne_bytes(*magic) != MAGIC {
            return Err(Malformed("no BTF of this machine's byte order"));
        }
        let part = |offset: u32, length: u32| {
            let from = (word(bytes, 4)? as usize).checked_add(offset as usize).ok_or(SHORT)?;
            let to = from.checked_add(length as usize).ok_or(SHORT)?;
            bytes.get(from..to).ok_or(SHORT)
        };
        let types = part(word(bytes, 8)?, word(bytes, 12)?)?;
        let strings = part(word(bytes, 16)?, word(bytes, 20)?)?;
        let mut btf = Self { types, strings, places: vec![0] };
        let mut at = 0;
        while at < types.len() {
            btf.places.push(u32::try_from(at).map_err(|_| SHORT)?);
            let head = btf.head_at(at)?;
            at = head.rest + extra(head)?;
        }
        Ok(btf)
    }

    /// One more than the last id.
    fn count(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    fn head(&self, id: u32) -> Result<Head, Malformed> {
        let place = self.places.get(id as usize).filter(|_| id > 0);
        self.head_at(*place.ok_or(Malformed("BTF refers to no type"))? as usize)
    }

    fn head_at(&self, at: usize) -> Result<Head, Malformed> {
        let words = self.types.get(at..at.saturating_add(12)).ok_or(SHORT)?;
        let info = word(words, 4)?;
        Ok(Head {
            name: word(words, 0)?,
            info,
            third: word(words, 8)?,
            kind: info >> 24 & 0x1f,
            length: (info & 0xffff) as usize,
            rest: at + 12,
        })
    }

    fn name(&self, offset: u32) -> Result<&'b [u8], Malformed> {
        if offset == 0 {
            return Ok(&[]); // it has none
        }
        let rest = self.strings.get(offset as usize..).ok_or(SHORT)?;
        Ok(&rest[..memchr::memchr(0, rest).ok_or(SHORT)?])
    }
}

/// How many bytes follow the head.
fn extra(head: Head) -> Result<usize, Malformed> {
    Ok(match head.kind {
        PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => 0,
        INT | 14 | 17 => 4, // a variable, a tag on a declaration
        ARRAY => 12,
        STRUCT | UNION | 15 | ENUM64 => head.length * 12, // a section of variables
        ENUM | 13 => head.length * 8,                     // a function's arguments
        _ => return Err(Malformed("BTF holds an unknown kind of type")),
    })
}

/// A BTF in the making.
struct Copy<'a, 'b> {
    from: &'a Btf<'b>,
    types: Vec<u8>,
    strings: Vec<u8>,
    ids: HashMap<u32, u32>,
    names: HashMap<u32, u32>,
    /// Ids in the order of their new numbers.
    wanted: Vec<u32>,
}

impl<'a, 'b> Copy<'a, 'b> {
    fn new(from: &'a Btf<'b>) -> Self {
        let (types, strings) = (Vec::new(), vec![0]);
        let (ids, names) = (HashMap::new(), HashMap::new());
        Self { from, types, strings, ids, names, wanted: Vec::new() }
    }

    /// The new number of a type; void stays void.
    fn id_of(&mut self, old: u32) -> u32 {
        if old == 0 {
            return 0;
        }
        *self.ids.entry(old).or_insert_with(|| {
            self.wanted.push(old);
            u32::try_from(self.wanted.len()).unwrap_or(u32::MAX)
        })
    }

    fn name_of(&mut self, old: u32) -> Result<u32, Malformed> {
        if old == 0 {
            return Ok(0);
        }
        if let Some(new) = self.names.get(&old) {
            return Ok(*new);
        }
        let new = u32::try_from(self.strings.len()).map_err(|_| SHORT)?;
        self.strings.extend_from_slice(self.from.name(old)?);
        self.strings.push(0);
        self.names.insert(old, new);
        Ok(new)
    }

    fn put(&mut self, words: &[u32]) {
        for word in words {
            self.types.extend_from_slice(&word.to_ne_bytes());
        }
    }

    /// Copies what is wanted, and what that holds in turn.
    fn all(&mut self) -> Result<(), Malformed> {
        let mut next = 0;
        while let Some(old) = self.wanted.get(next) {
            self.one(*old)?;
            next += 1;
        }
        Ok(())
    }

    fn one(&mut self, old: u32) -> Result<(), Malformed> {
        let head = self.from.head(old)?;
        let name = self.name_of(head.name)?;
        let rest = &self.from.types[head.rest..];
        match head.kind {
            INT => self.put(&[name, head.info, head.third, word(rest, 0)?]),
            FWD | FLOAT => self.put(&[name, head.info, head.third]),
            PTR => self.put(&[name, head.info, 0]),
            // Without its values.
            ENUM | ENUM64 => self.put(&[name, head.info & !0xffff, head.third]),
            TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => {
                let to = self.id_of(head.third);
                self.put(&[name, head.info, to]);
            }
            ARRAY => {
                let (of, by) = (self.id_of(word(rest, 0)?), self.id_of(word(rest, 4)?));
                self.put(&[name, head.info, head.third, of, by, word(rest, 8)?]);
            }
            STRUCT | UNION => {
                self.put(&[name, head.info, head.third]);
                for n in 0..head.length {
                    let name = self.name_of(word(rest, n * 12)?)?;
                    let kind = self.id_of(word(rest, n * 12 + 4)?);
                    self.put(&[name, kind, word(rest, n * 12 + 8)?]);
                }
            }
            _ => return Err(Malformed("BTF holds what is no value in a structure")),
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>, Malformed> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| SHORT);
        let (types, strings) = (length(&self.types)?, length(&self.strings)?);
        let mut bytes = Vec::with_capacity(HEADER + self.types.len() + self.strings.len());
        bytes.extend_from_slice(&MAGIC.to_ne_bytes());
        bytes.extend_from_slice(&[1, 0]); // version, flags
        for word in [24, 0, types, types, strings] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(&self.types);
        bytes.extend_from_slice(&self.strings);
        Ok(bytes)
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    let rest = bytes.get(at..).and_then(|b| b.first_chunk::<4>()).ok_or(SHORT)?;
    Ok(u32::from_ne_bytes(*rest))
}

#[cfg(test)]
mod tests {
    use super::{Excerpt, parse};

    /// int, struct inner { int a; }, a function, struct outer { struct inner b; void *c; }.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0inner\0a\0f\0outer\0b\0c\0";
        let types: &[u32] = &[
            1,
            1 << 24,
            4,
            32, // 1
            5,
            4 << 24 | 1,
            4,
            11,
            1,
            0, // 2
            0,
            13 << 24,
            0, // 3
            13,
            12 << 24,
            3, // 4
            0,
            2 << 24,
            2, // 5
            15,
            4 << 24 | 2,
            16,
            21,
            2,
            0,
            23,
            5,
            64, // 6
        ];
        let mut bytes = [&0xeb9f_u16.to_ne_bytes()[..], &[1, 0]].concat();
        let length = u32::try_from(types.len() * 4).unwrap();
        for word in [24, 0, length, length, u32::try_from(strings.len()).unwrap()] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend(types.iter().flat_map(|w| w.to_ne_bytes()));
        bytes.extend_from_slice(strings);
        bytes
    }

    #[test]
    fn takes_a_structure_with_what_it_holds() {
        let Excerpt { bytes, found, function } = parse(&sample(), &["outer", "none"], "f").unwrap();
        assert_eq!((found, function), (vec!["outer".to_owned()], Some(4)));
        // It is a BTF itself, with all that `outer` needs; what a pointer leads to is left out.
        let again = parse(&bytes, &["inner", "outer"], "f").unwrap();
        assert_eq!((again.found.len(), again.function), (2, None));
        assert_eq!(again.bytes.len(), bytes.len());
    }

    #[test]
    fn any_cut_is_refused() {
        let whole = sample();
        for n in 0..whole.len() {
            assert!(parse(&whole[..n], &["outer"], "f").is_err(), "{n}");
        }
        let mut other = whole;
        other.swap(0, 1);
        assert!(parse(&other, &["outer"], "f").is_err());
    }
}
