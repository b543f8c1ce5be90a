//! Messages of rtnetlink(7): of links and of the numbers that a net namespace has for others, with the
//! attributes of the kernel's include/uapi/linux/{netlink,rtnetlink,if_link,net_namespace}.h.

/// Length of a message's header, and of what comes before the attributes of each kind.
const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const NUMBER_HEADER: usize = 4;
/// Kinds of messages, and the flag of requests.
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_NUMBER: u16 = 88;
const GET_NUMBER: u16 = 90;
const REQUEST: u16 = 1;
/// Attributes of links, and one of those nested in the last.
const NAME: u16 = 3;
const PEER: u16 = 5;
const PEER_NAMESPACE: u16 = 37;
const INFO: u16 = 18;
const KIND: u16 = 1;
/// Attributes of namespaces.
const NUMBER: u16 = 1;
const OF_PID: u16 = 2;
/// Bits of an attribute's kind that are none of it.
const FLAGS: u16 = 0xC000;
/// Longest name of an interface: `IFNAMSIZ` with its NUL.
const LONGEST: usize = 15;

/// Where a link leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kind of a virtual one, `veth`.
    pub kind: Option<Vec<u8>>,
    /// The index of the link that it hangs on: of a `veth`, its other end.
    pub peer: Option<u32>,
    /// The number that this net namespace has for that one's, if it is another.
    pub namespace: Option<u32>,
}

/// Asks for a link by its name; `None` when no link may bear that.
#[must_use]
pub fn ask_link(name: &[u8]) -> Option<Vec<u8>> {
    let is_name = (1..=LONGEST).contains(&name.len()) && !name.contains(&0);
    let name = [name, b"\0"].concat();
    is_name.then(|| request(GET_LINK, 0, &[0; LINK_HEADER], NAME, &name))
}

/// Asks for the number that this net namespace has for a process's.
#[must_use]
pub fn ask_number(pid: u32) -> Vec<u8> {
    request(GET_NUMBER, pid, &[0; NUMBER_HEADER], OF_PID, &pid.to_ne_bytes())
}

fn request(kind: u16, sequence: u32, header: &[u8], attribute: u16, value: &[u8]) -> Vec<u8> {
    let short = |n: usize| u16::try_from(n).unwrap_or_default();
    let mut body = header.to_vec();
    body.extend_from_slice(&short(4 + value.len()).to_ne_bytes());
    body.extend_from_slice(&attribute.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
    let mut message = u32::from(short(HEADER + body.len())).to_ne_bytes().to_vec();
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&REQUEST.to_ne_bytes());
    message.extend_from_slice(&sequence.to_ne_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&body);
    message
}

/// The link of which an answer tells; `None` when it tells of none.
#[must_use]
pub fn link(answer: &[u8]) -> Option<Link> {
    let body = messages(answer).find(|m| m.kind == NEW_LINK)?.body.get(LINK_HEADER..)?;
    let mut link = Link { kind: None, peer: None, namespace: None };
    for (kind, value) in attributes(body) {
        match kind {
            PEER => link.peer = number(value),
            PEER_NAMESPACE => link.namespace = number(value).filter(|n| is_number(*n)),
            INFO => {
                let kind = attributes(value).find(|(kind, _)| *kind == KIND);
                link.kind = kind.map(|(_, text)| text.strip_suffix(b"\0").unwrap_or(text).to_vec());
            }
            _ => {}
        }
    }
    Some(link)
}

/// The PIDs that answers are about, with the number of each one's net namespace, as far as this one
/// has any for it.
pub fn numbers(answers: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    messages(answers).filter(|m| m.kind == NEW_NUMBER).filter_map(|message| {
        let body = message.body.get(NUMBER_HEADER..)?;
        let (_, value) = attributes(body).find(|(kind, _)| *kind == NUMBER)?;
        let number = number(value).filter(|n| is_number(*n))?;
        Some((message.sequence, number))
    })
}

/// Whether it is one: -1 is for none.
fn is_number(number: u32) -> bool {
    i32::try_from(number).is_ok()
}

struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(number(bytes.get(..4)?)?).ok()?;
        let kind = short(bytes.get(4..6)?)?;
        let sequence = number(bytes.get(8..12)?)?;
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, sequence, body })
    })
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(short(bytes.get(..2)?)?);
        let kind = short(bytes.get(2..4)?)? & !FLAGS;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn short(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Link, ask_link, ask_number, attributes, link, messages, numbers, request};

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        request(0, 0, &[], kind, value)[16..].to_vec()
    }

    fn answer(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn requests_have_their_lengths() {
        let ask = ask_link(b"veth1").unwrap();
        assert_eq!((ask.len(), ask[0]), (16 + 16 + 12, 44));
        assert_eq!(ask[32..], *b"\x0a\0\x03\0veth1\0\0\0");
        assert_eq!(ask_number(7).len(), 28);
        for bad in [&b""[..], b"a\0", b"0123456789abcdef"] {
            assert_eq!(ask_link(bad), None);
        }
    }

    #[test]
    fn a_link_has_its_far_end() {
        let info = attribute(1, b"veth\0");
        let body = [
            vec![0; 16],
            attribute(3, b"veth1\0"),
            attribute(5, &2_u32.to_ne_bytes()),
            attribute(37, &3_i32.to_ne_bytes()),
            attribute(18 | 0x8000, &info),
        ]
        .concat();
        let seen = link(&answer(16, 0, &body)).unwrap();
        let kind = Some(b"veth".to_vec());
        assert_eq!(seen, Link { kind, peer: Some(2), namespace: Some(3) });
        let body = [vec![0; 16], attribute(37, &(-1_i32).to_ne_bytes())].concat();
        assert_eq!(link(&answer(16, 0, &body)).unwrap().namespace, None);
        // An error has the request in it.
        assert_eq!(link(&answer(2, 0, &body)), None);
        for length in 0..body.len() {
            let _ = link(&answer(16, 0, &body)[..length]);
        }
    }

    #[test]
    fn numbers_are_told_by_pid() {
        let of = |number: i32| [vec![0; 4], attribute(1, &number.to_ne_bytes())].concat();
        let all = [
            answer(88, 4761, &of(3)),
            answer(88, 4762, &of(-1)),
            answer(2, 4763, &of(5)),
            answer(88, 4764, &of(0)),
        ]
        .concat();
        assert_eq!(numbers(&all).collect::<Vec<_>>(), [(4761, 3), (4764, 0)]);
        assert_eq!(numbers(&all[..27]).count(), 0);
    }

    #[test]
    fn lengths_of_nothing_end_it() {
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[255; 64]).count(), 0);
    }
}
