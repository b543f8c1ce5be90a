//! The kernel's own BTF (Documentation/bpf/btf.rst): what a program's relocations need of it.
//!
//! `/sys/kernel/btf/vmlinux` describes over a hundred thousand types. A program names a few dozen
//! members of structures, which lead from one to the other: only these are taken. To search all types
//! for each relocation takes longer than the program runs.

use std::collections::HashMap;

use crate::error::Malformed;

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
const SHORT: Malformed = Malformed("BTF is cut short");
const UNKNOWN: Malformed = Malformed("BTF holds an unknown kind of type");

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
const FUNC_PROTO: u32 = 13;
const FLOAT: u32 = 16;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// Bytes that follow the head of a type of each kind, and how many each of its members adds.
const SIZES: [Option<(u8, u8)>; 32] = {
    let mut sizes = [None; 32];
    let mut kind = 1;
    while kind <= 19 {
        sizes[kind] = Some(match kind {
            1 | 14 | 17 => (4, 0),      // a number, a variable, a tag on a declaration
            3 => (12, 0),               // an array
            4 | 5 | 15 | 19 => (0, 12), // members, a section's variables, values of 64 bits
            6 | 13 => (0, 8),           // values, a function's arguments
            _ => (0, 0),
        });
        kind += 1;
    }
    sizes
};

/// How many types lie between two of which the place is kept.
const STRIDE: u32 = 64;
/// Names of one type after another: more is a circle.
const MODIFIERS: u32 = 32;

/// A part of the kernel's BTF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// BTF with the structures that were reached, and of their members those that are named. Pointers
    /// to others lead nowhere.
    pub bytes: Vec<u8>,
    /// The named structures that were reached, each once, with their type ids in the whole BTF.
    pub found: Vec<(String, u32)>,
    /// The type ids of the functions, in the whole BTF.
    pub functions: Vec<Option<u32>>,
}

/// What to take out of a BTF.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The program's own BTF: of structures named there, with or without `___` and what follows, the
    /// members named there are taken.
    pub own: &'a [u8],
    /// Functions to look up. What the first one's arguments point to is taken.
    pub functions: &'a [&'a str],
    /// Structures (or unions) to take to which none of the others leads.
    pub structs: &'a [&'a str],
}

/// Takes out of a BTF of this machine's byte order what is asked for.
///
/// # Errors
/// [`Malformed`] when it is no BTF, or ends too early.
pub fn parse(bytes: &[u8], request: &Request<'_>) -> Result<Excerpt, Malformed> {
    let shapes = Shapes::of(&mut Btf::new(request.own)?)?;
    let mut btf = Btf::new(bytes)?;
    let functions = request.functions.iter().map(|name| (*name, FUNC));
    let structs = request.structs.iter().map(|name| (*name, STRUCT));
    let ids = btf.find(&functions.chain(structs).collect::<Vec<_>>())?;
    let (functions, structs) = ids.split_at(request.functions.len());
    let mut copy = Copy::new(&mut btf, &shapes);
    if let Some(first) = functions.first().copied().flatten() {
        copy.arguments(first)?;
    }
    for id in structs.iter().flatten() {
        copy.id_of(*id, None)?;
    }
    copy.all()?;
    copy.finish(functions.to_vec())
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

impl Head {
    fn is_composite(&self) -> bool {
        matches!(self.kind, STRUCT | UNION)
    }
}

struct Btf<'b> {
    types: &'b [u8],
    strings: &'b [u8],
    /// Where the first type begins, and every [`STRIDE`]th after it, as far as was looked.
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
        Ok(Self { types, strings, places: vec![0] })
    }

    /// The ids of the types with these names and kinds, in one pass that ends with the last of them.
    /// The kernel's names are each there once, so that they are compared by their places.
    fn find(&mut self, wanted: &[(&str, u32)]) -> Result<Vec<Option<u32>>, Malformed> {
        let mut found = vec![None; wanted.len()];
        let place = |name: &str| {
            let text = [b"\0", name.as_bytes(), b"\0"].concat();
            let at = memchr::memmem::find(self.strings, &text)?;
            u32::try_from(at + 1).ok()
        };
        let places = wanted.iter().enumerate();
        let mut open: Vec<(u32, u32, usize)> =
            places.filter_map(|(n, (name, kind))| Some((place(name)?, *kind, n))).collect();
        let (mut id, mut at) = (1, 0);
        while !open.is_empty() && at < self.types.len() {
            self.keep(id, at)?;
            let head = self.head_at(at)?;
            let is_it = |(name, kind, _): &(u32, u32, usize)| {
                *name == head.name && (*kind == head.kind || *kind == STRUCT && head.is_composite())
            };
            if let Some(n) = open.iter().position(is_it) {
                found[open.swap_remove(n).2] = Some(id);
            }
            at = head.rest + extra(head)?;
            id += 1;
        }
        Ok(found)
    }

    /// Remembers the place of a type, if it is the next of those whose places are kept.
    fn keep(&mut self, id: u32, at: usize) -> Result<(), Malformed> {
        if (id - 1).is_multiple_of(STRIDE) && ((id - 1) / STRIDE) as usize == self.places.len() {
            self.places.push(u32::try_from(at).map_err(|_| SHORT)?);
        }
        Ok(())
    }

    fn head(&mut self, id: u32) -> Result<Head, Malformed> {
        let index = id.checked_sub(1).ok_or(Malformed("BTF refers to no type"))?;
        let kept = ((index / STRIDE) as usize).min(self.places.len() - 1);
        let mut at = self.places[kept] as usize;
        let mut now = u32::try_from(kept).map_err(|_| SHORT)? * STRIDE + 1;
        while now < id {
            let head = self.head_at(at)?;
            at = head.rest + extra(head)?;
            now += 1;
            self.keep(now, at)?;
        }
        self.head_at(at)
    }

    fn head_at(&self, at: usize) -> Result<Head, Malformed> {
        let words = self.types.get(at..).and_then(|t| t.first_chunk::<12>()).ok_or(SHORT)?;
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

    /// What follows the heads of the type: `N` words a member.
    fn members<const N: usize>(&self, head: Head) -> Result<Vec<[u32; N]>, Malformed> {
        let rest = self.types.get(head.rest..).ok_or(SHORT)?;
        let one = |n: usize| {
            let mut words = [0; N];
            for (at, each) in words.iter_mut().enumerate() {
                *each = word(rest, (n * N + at) * 4)?;
            }
            Ok(words)
        };
        (0..head.length).map(one).collect()
    }

    fn name(&self, offset: u32) -> Result<&'b [u8], Malformed> {
        if offset == 0 {
            return Ok(&[]); // it has none
        }
        let rest = self.strings.get(offset as usize..).ok_or(SHORT)?;
        Ok(&rest[..memchr::memchr(0, rest).ok_or(SHORT)?])
    }

    /// The type behind names for it and qualifiers.
    fn behind(&mut self, mut id: u32) -> Result<u32, Malformed> {
        for _ in 0..MODIFIERS {
            if id == 0 {
                return Ok(0);
            }
            let head = self.head(id)?;
            match head.kind {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => id = head.third,
                _ => return Ok(id),
            }
        }
        Err(Malformed("BTF has a type that is made of itself"))
    }
}

/// How many bytes follow the head.
fn extra(head: Head) -> Result<usize, Malformed> {
    let (fixed, each) = SIZES[head.kind as usize].ok_or(UNKNOWN)?;
    Ok(usize::from(fixed) + head.length * usize::from(each))
}

/// The structures that a program names, with the names of their members.
struct Shapes<'o> {
    numbers: HashMap<&'o [u8], usize>,
    members: Vec<Vec<&'o [u8]>>,
}

impl<'o> Shapes<'o> {
    fn of(own: &mut Btf<'o>) -> Result<Self, Malformed> {
        let mut shapes = Self { numbers: HashMap::new(), members: Vec::new() };
        let mut at = 0;
        while at < own.types.len() {
            let head = own.head_at(at)?;
            let name = own.name(head.name)?;
            if head.is_composite() && !name.is_empty() {
                let name = &name[..memchr::memmem::find(name, b"___").unwrap_or(name.len())];
                let next = shapes.members.len();
                let number = *shapes.numbers.entry(name).or_insert(next);
                shapes.members.resize(shapes.members.len().max(number + 1), Vec::new());
                for [name, ..] in own.members::<3>(head)? {
                    shapes.members[number].push(own.name(name)?);
                }
            }
            at = head.rest + extra(head)?;
        }
        Ok(shapes)
    }

    /// Whether a member is named; one without a name may hold some that are. Of a structure that the
    /// program does not name, all are.
    fn has(&self, number: Option<usize>, name: &[u8]) -> bool {
        name.is_empty() || number.is_none_or(|n| self.members[n].contains(&name))
    }
}

/// A BTF in the making.
struct Copy<'a, 'b> {
    from: &'a mut Btf<'b>,
    shapes: &'a Shapes<'a>,
    types: Vec<u8>,
    strings: Vec<u8>,
    /// New numbers by the old ones, and by the shape for one without a name.
    ids: HashMap<(u32, Option<usize>), u32>,
    names: HashMap<u32, u32>,
    /// Types in the order of their new numbers.
    wanted: Vec<(u32, Option<usize>)>,
    found: Vec<(String, u32)>,
}

impl<'a, 'b> Copy<'a, 'b> {
    fn new(from: &'a mut Btf<'b>, shapes: &'a Shapes<'a>) -> Self {
        Self {
            from,
            shapes,
            types: Vec::new(),
            strings: vec![0],
            ids: HashMap::new(),
            names: HashMap::new(),
            wanted: Vec::new(),
            found: Vec::new(),
        }
    }

    /// The new number of a type; void stays void. `outer` is the shape of the structure that it is a
    /// nameless part of.
    fn id_of(&mut self, old: u32, outer: Option<usize>) -> Result<u32, Malformed> {
        if old == 0 {
            return Ok(0);
        }
        let head = self.from.head(old)?;
        let is_named = head.is_composite() && head.name != 0;
        let shape = if is_named { self.shape_of(head)? } else { outer };
        let next = u32::try_from(self.wanted.len() + 1).map_err(|_| SHORT)?;
        let id = *self.ids.entry((old, shape)).or_insert(next);
        if id == next {
            self.wanted.push((old, shape));
            if is_named && shape.is_some() {
                let name = String::from_utf8_lossy(self.from.name(head.name)?).into_owned();
                if self.found.iter().all(|(found, _)| *found != name) {
                    self.found.push((name, old));
                }
            }
        }
        Ok(id)
    }

    fn shape_of(&self, head: Head) -> Result<Option<usize>, Malformed> {
        Ok(self.shapes.numbers.get(self.from.name(head.name)?).copied())
    }

    /// What a pointer leads to, if that is a structure with a shape.
    fn target(&mut self, pointer: Head) -> Result<u32, Malformed> {
        let to = self.from.behind(pointer.third)?;
        if to == 0 {
            return Ok(0);
        }
        let head = self.from.head(to)?;
        let is_wanted = head.is_composite() && self.shape_of(head)?.is_some();
        if is_wanted { self.id_of(to, None) } else { Ok(0) }
    }

    /// Takes what a function's arguments point to.
    fn arguments(&mut self, function: u32) -> Result<(), Malformed> {
        let function = self.from.head(function)?;
        let prototype = self.from.head(function.third)?;
        if prototype.kind != FUNC_PROTO {
            return Err(Malformed("BTF has a function without arguments"));
        }
        for [_, kind] in self.from.members::<2>(prototype)? {
            let argument = self.from.behind(kind)?;
            if argument != 0 {
                let head = self.from.head(argument)?;
                if head.kind == PTR {
                    self.target(head)?;
                }
            }
        }
        Ok(())
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
        while let Some((old, shape)) = self.wanted.get(next) {
            self.one(*old, *shape)?;
            next += 1;
        }
        Ok(())
    }

    fn one(&mut self, old: u32, shape: Option<usize>) -> Result<(), Malformed> {
        let head = self.from.head(old)?;
        let name = self.name_of(head.name)?;
        let rest = self.from.types.get(head.rest..).ok_or(SHORT)?;
        match head.kind {
            INT => self.put(&[name, head.info, head.third, word(rest, 0)?]),
            FWD | FLOAT => self.put(&[name, head.info, head.third]),
            PTR => {
                let to = self.target(head)?;
                self.put(&[name, head.info, to]);
            }
            // Without its values.
            ENUM | ENUM64 => self.put(&[name, head.info & !0xffff, head.third]),
            TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => {
                let to = self.id_of(head.third, shape)?;
                self.put(&[name, head.info, to]);
            }
            ARRAY => {
                let of = self.id_of(word(rest, 0)?, None)?;
                let by = self.id_of(word(rest, 4)?, None)?;
                self.put(&[name, head.info, head.third, of, by, word(rest, 8)?]);
            }
            STRUCT | UNION => {
                let mut members = self.from.members::<3>(head)?;
                let mut kept = Vec::new();
                for member in members.drain(..) {
                    let name = self.from.name(member[0])?;
                    if self.shapes.has(shape, name) {
                        let outer = shape.filter(|_| name.is_empty());
                        let [name, kind] =
                            [self.name_of(member[0])?, self.id_of(member[1], outer)?];
                        kept.push([name, kind, member[2]]);
                    }
                }
                let length = u32::try_from(kept.len()).map_err(|_| SHORT)?;
                self.put(&[name, head.info & !0xffff | length, head.third]);
                kept.iter().for_each(|member| self.put(member));
            }
            _ => return Err(Malformed("BTF holds what is no value in a structure")),
        }
        Ok(())
    }

    fn finish(self, functions: Vec<Option<u32>>) -> Result<Excerpt, Malformed> {
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
        Ok(Excerpt { bytes, found: self.found, functions })
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    let rest = bytes.get(at..).and_then(|b| b.first_chunk::<4>()).ok_or(SHORT)?;
    Ok(u32::from_ne_bytes(*rest))
}

#[cfg(test)]
mod tests {
    use super::{Excerpt, Request, parse};

    /// A BTF of these strings (the first is empty) and types.
    fn btf(strings: &[u8], types: &[u32]) -> Vec<u8> {
        let mut bytes = [&0xeb9f_u16.to_ne_bytes()[..], &[1, 0]].concat();
        let length = u32::try_from(types.len() * 4).unwrap();
        for word in [24, 0, length, length, u32::try_from(strings.len()).unwrap()] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend(types.iter().flat_map(|w| w.to_ne_bytes()));
        bytes.extend_from_slice(strings);
        bytes
    }

    /// int; struct inner { int a; int z; }; int f(const struct outer *); a pointer to inner;
    /// struct outer { union { int a; int z; }; struct inner *b; int z; }; a pointer to it.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0inner\0a\0f\0outer\0b\0z\0";
        #[rustfmt::skip]
        let types = [
            1, 1 << 24, 4, 32, // 1
            5, 4 << 24 | 2, 8, 11, 1, 0, 23, 1, 32, // 2
            0, 13 << 24 | 1, 1, 0, 9, // 3
            13, 12 << 24, 3, // 4
            0, 2 << 24, 2, // 5
            0, 5 << 24 | 2, 4, 11, 1, 0, 23, 1, 0, // 6
            15, 4 << 24 | 3, 24, 0, 6, 0, 21, 5, 64, 23, 1, 128, // 7
            0, 10 << 24, 7, // 8
            0, 2 << 24, 8, // 9
        ];
        btf(strings, &types)
    }

    /// struct outer { int a; }; struct outer___old { void *b; }; struct inner { int a; }.
    fn own() -> Vec<u8> {
        let strings = b"\0outer\0outer___old\0inner\0a\0b\0";
        #[rustfmt::skip]
        let types = [
            1, 4 << 24 | 1, 4, 25, 0, 0,
            7, 4 << 24 | 1, 8, 27, 0, 0,
            19, 4 << 24 | 1, 4, 25, 0, 0,
        ];
        btf(strings, &types)
    }

    #[test]
    fn takes_the_named_members_of_what_a_function_is_given() {
        let own = own();
        let request = Request { own: &own, functions: &["f", "g"], structs: &["none"] };
        let Excerpt { bytes, found, functions } = parse(&sample(), &request).unwrap();
        assert_eq!(found, [("outer".to_owned(), 7), ("inner".to_owned(), 2)]);
        assert_eq!(functions, [Some(4), None]);
        #[rustfmt::skip]
        let expected = [
            1, 4 << 24 | 2, 24, 0, 2, 0, 7, 3, 64, // outer: the union and b
            0, 5 << 24 | 1, 4, 9, 4, 0, // the union: a
            0, 2 << 24, 5, // a pointer
            11, 1 << 24, 4, 32, // int
            15, 4 << 24 | 1, 8, 9, 4, 0, // inner: a
        ];
        assert_eq!(bytes, btf(b"\0outer\0b\0a\0int\0inner\0", &expected));
    }

    #[test]
    fn a_structure_is_found_by_its_name_too() {
        let own = own();
        let request = Request { own: &own, functions: &["g"], structs: &["inner"] };
        let excerpt = parse(&sample(), &request).unwrap();
        assert_eq!((excerpt.found, excerpt.functions), (vec![("inner".to_owned(), 2)], vec![None]));
    }

    #[test]
    fn places_that_were_not_kept_are_found_again() {
        // 200 pointers to void, the last types: struct inner { a: the 150th }.
        let mut types: Vec<u32> = (0..200).flat_map(|_| [0, 2 << 24, 0]).collect();
        types.extend([1, 4 << 24 | 1, 8, 7, 150, 0]);
        let bytes = btf(b"\0inner\0a\0", &types);
        let own = own();
        let request = Request { own: &own, functions: &[], structs: &["inner"] };
        let excerpt = parse(&bytes, &request).unwrap();
        let expected = [1, 4 << 24 | 1, 8, 7, 2, 0, 0, 2 << 24, 0];
        assert_eq!(excerpt.bytes, btf(b"\0inner\0a\0", &expected));
        assert_eq!(excerpt.found, [("inner".to_owned(), 201)]);
    }

    #[test]
    fn any_cut_is_refused() {
        let (whole, own) = (sample(), own());
        let request = Request { own: &own, functions: &["f"], structs: &["none"] };
        for n in 0..whole.len() {
            assert!(parse(&whole[..n], &request).is_err(), "{n}");
        }
        let mut other = whole;
        other.swap(0, 1);
        assert!(parse(&other, &request).is_err());
    }

    #[test]
    fn circles_end() {
        // typedef of itself, struct inner { a: it }, and an argument of that type.
        let types = [1, 8 << 24, 1, 1, 4 << 24 | 1, 8, 7, 1, 0, 0, 13 << 24 | 1, 0, 0, 1];
        let types = [&types[..], &[9, 12 << 24, 3]].concat();
        let bytes = btf(b"\0inner\0a\0f\0", &types);
        let own = own();
        let structs = Request { own: &own, functions: &[], structs: &["inner"] };
        assert!(parse(&bytes, &structs).is_ok());
        let functions = Request { own: &own, functions: &["f"], structs: &[] };
        assert!(parse(&bytes, &functions).is_err());
    }
}
