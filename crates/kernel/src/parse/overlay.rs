//! The options of an overlay mount, as the kernel prints them (fs/overlayfs/params.c).

use bstr::{BStr, BString, ByteSlice};

use super::mountinfo::unescape;

/// An overlay's layers: texts as its mounter wrote them, perhaps relative to a directory nobody
/// records, and valid in the mounter's mount namespace only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Lower directories, top first.
    pub lowers: Vec<BString>,
    /// Data-only directories below them, top first.
    pub data: Vec<BString>,
    /// The upper directory; `None` for a read-only overlay.
    pub upper: Option<BString>,
    /// The work directory, which holds the index.
    pub work: Option<BString>,
    /// Whether attributes are named `user.overlay.` and not `trusted.overlay.`.
    pub userxattr: bool,
    /// Whether a file may have its content in a layer further down; `None` when that is as the
    /// module's parameter says, which the kernel does not repeat.
    pub metacopy: Option<bool>,
}

/// Parses `super_options` of mountinfo, still with its octal escapes: they are undone after the
/// options were told apart, since an escaped comma separates nothing.
#[must_use]
pub fn parse(options: &BStr) -> Overlay {
    parse_array(options.split(|b| *b == b',').map(unescape))
}

/// The same from options that are separate already, as statmount(2) gives them.
pub fn parse_array(options: impl Iterator<Item = BString>) -> Overlay {
    let mut overlay = Overlay::default();
    for option in options {
        let (name, value) = option.split_once_str("=").unwrap_or((&option, b""));
        match name {
            b"lowerdir" => lowers(value, &mut overlay),
            b"lowerdir+" => overlay.lowers.push(value.into()),
            b"datadir+" => overlay.data.push(value.into()),
            b"upperdir" => overlay.upper = Some(unslash(value)),
            b"workdir" => overlay.work = Some(unslash(value)),
            b"userxattr" => overlay.userxattr = true,
            b"metacopy" => overlay.metacopy = Some(value != b"off"),
            _ => {}
        }
    }
    overlay
}

/// `a:b::c`: colons separate, two begin the data-only layers, a backslash takes the next byte as
/// it is.
fn lowers(text: &[u8], overlay: &mut Overlay) {
    let mut part = Vec::new();
    let mut data = false;
    let mut put = |part: &mut Vec<u8>, data: bool| {
        if !part.is_empty() {
            let list = if data { &mut overlay.data } else { &mut overlay.lowers };
            list.push(std::mem::take(part).into());
        }
    };
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => part.extend(bytes.next()),
            b':' => {
                put(&mut part, data);
                if bytes.next_if_eq(&b':').is_some() {
                    data = true;
                }
            }
            other => part.push(other),
        }
    }
    put(&mut part, data);
}

fn unslash(text: &[u8]) -> BString {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => out.extend(bytes.next()),
            other => out.push(other),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use bstr::BString;

    use super::parse;

    fn texts(list: &[BString]) -> Vec<&str> {
        list.iter().map(|t| std::str::from_utf8(t).unwrap()).collect()
    }

    #[test]
    fn docker_s_and_odd_ones() {
        let overlay =
            parse("rw,lowerdir=/o/l/A:/o/l/B,upperdir=/o/x/diff,workdir=/o/x/work".into());
        assert_eq!(texts(&overlay.lowers), ["/o/l/A", "/o/l/B"]);
        assert_eq!(overlay.upper.unwrap(), "/o/x/diff");
        assert_eq!(overlay.work.unwrap(), "/o/x/work");
        let overlay =
            parse(r"rw,lowerdir=/s/co\134:l\134\054x\040y,upperdir=/u\134:,userxattr".into());
        assert_eq!(texts(&overlay.lowers), ["/s/co:l,x y"]);
        assert_eq!((overlay.upper.unwrap().as_slice(), overlay.userxattr), (&b"/u:"[..], true));
        let metacopy = ["lowerdir=a", "lowerdir=a,metacopy=on", "lowerdir=a,metacopy=off"];
        let told = metacopy.map(|text| parse(text.into()).metacopy);
        assert_eq!(told, [None, Some(true), Some(false)]);
    }

    #[test]
    fn data_only_and_the_new_mount_api() {
        let overlay = parse("ro,lowerdir=a:b::c::d,metacopy=on".into());
        assert_eq!(
            (overlay.metacopy, parse("ro,metacopy=off".into()).metacopy),
            (Some(true), Some(false))
        );
        assert_eq!(texts(&overlay.lowers), ["a", "b"]);
        assert_eq!(texts(&overlay.data), ["c", "d"]);
        let overlay = parse(r"ro,lowerdir+=/co:lon,lowerdir+=/b,datadir+=/d".into());
        assert_eq!(texts(&overlay.lowers), ["/co:lon", "/b"]);
        assert_eq!(texts(&overlay.data), ["/d"]);
        assert_eq!(parse("".into()).lowers.len(), 0);
        assert_eq!(texts(&parse(r"lowerdir=a\134".into()).lowers), ["a"]);
    }
}
