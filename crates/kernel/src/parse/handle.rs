//! File handles, as name_to_handle_at(2) gives them, and the layer handle in an overlay's.

use crate::error::Malformed;

/// A handle: a type, and bytes that mean something to the file system alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    /// `handle_type`.
    pub kind: i32,
    /// `f_handle`, at most 128 bytes.
    pub bytes: Vec<u8>,
}

/// The handle of a layer's file inside an overlay's handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerHandle {
    /// Whether the file lies in the upper directory.
    pub upper: bool,
    /// UUID of the layer's file system; all zero when it has none.
    pub uuid: [u8; 16],
    /// The file's own handle.
    pub inner: Handle,
}

/// `OVL_FILEID_V1` of fs/overlayfs/overlayfs.h: three bytes of padding, then what the extended
/// attribute `trusted.overlay.origin` holds.
const OVERLAY: i32 = 0xf8;
/// `FILEID_INO64_GEN` of include/linux/exportfs.h: what the kernel itself makes up, and FUSE.
const INO64_GEN: i32 = 0x81;
/// Longest handle of any file system (`MAX_HANDLE_SZ`).
const LONGEST: usize = 128;

impl Handle {
    /// Whether the file system has no handles of its own, or is an overlay: the number is that of a
    /// view, and no layer's file has this handle. FUSE has the same type.
    #[must_use]
    pub fn is_of_a_view(&self) -> bool {
        matches!(self.kind, OVERLAY | INO64_GEN)
    }

    /// The layer's handle in an overlay's. `None` when it is another file system's, or an overlay's
    /// without one: mounted in a user namespace, or on another overlay.
    ///
    /// # Errors
    /// [`Malformed`] when it says to be an overlay's and is not.
    pub fn parse_layer(&self) -> Result<Option<LayerHandle>, Malformed> {
        if self.kind != OVERLAY {
            return Ok(None);
        }
        parse_origin(self.bytes.get(3..).unwrap_or_default()).map(Some)
    }
}

/// Parses `struct ovl_fb`: version, magic, length, flags, type, UUID, handle.
///
/// # Errors
/// [`Malformed`] when it is not one of version 0 in this machine's byte order.
pub fn parse_origin(bytes: &[u8]) -> Result<LayerHandle, Malformed> {
    let [version, magic, length, flags, kind, rest @ ..] = bytes else {
        return Err(Malformed("overlay handle is cut short"));
    };
    if (*version, *magic) != (0, 0xfb) {
        return Err(Malformed("overlay handle of an unknown version"));
    }
    // 0x01: big endian; 0x02: any byte order.
    let order = u8::from(cfg!(target_endian = "big"));
    if flags & 0x02 == 0 && flags & 0x01 != order {
        return Err(Malformed("overlay handle of another byte order"));
    }
    let inner = usize::from(*length).checked_sub(21).and_then(|n| rest.get(16..16 + n));
    let (Some(inner), Some(uuid)) = (inner, rest.first_chunk::<16>()) else {
        return Err(Malformed("overlay handle of a wrong length"));
    };
    if inner.len() > LONGEST {
        return Err(Malformed("overlay handle of a wrong length"));
    }
    let inner = Handle { kind: i32::from(*kind), bytes: inner.to_vec() };
    Ok(LayerHandle { upper: flags & 0x04 != 0, uuid: *uuid, inner })
}

#[cfg(test)]
mod tests {
    use super::{Handle, parse_origin};

    fn handle(flags: u8, length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, 0xfb, length, flags, 1];
        bytes.extend([7; 16]);
        bytes.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        bytes
    }

    #[test]
    fn upper_and_lower() {
        let own = u8::from(cfg!(target_endian = "big"));
        for (flags, upper) in [(own, false), (own | 4, true), (2, false)] {
            let whole = Handle { kind: 0xf8, bytes: handle(flags, 29) };
            let layer = whole.parse_layer().unwrap().unwrap();
            assert_eq!((layer.upper, layer.uuid), (upper, [7; 16]));
            assert_eq!(layer.inner, Handle { kind: 1, bytes: vec![1, 2, 3, 4, 5, 6, 7, 8] });
        }
    }

    #[test]
    fn others_and_damage() {
        let own = u8::from(cfg!(target_endian = "big"));
        let plain = |kind| Handle { kind, bytes: vec![0; 16] };
        assert_eq!(plain(0x81).parse_layer(), Ok(None));
        assert!(plain(0x81).is_of_a_view() && plain(0xf8).is_of_a_view());
        assert!(!plain(1).is_of_a_view() && !plain(0x4d).is_of_a_view());
        for bytes in [vec![], vec![0; 3], handle(own ^ 1, 29), handle(own, 200), handle(own, 3)] {
            assert!(Handle { kind: 0xf8, bytes }.parse_layer().is_err());
        }
        assert!(parse_origin(&[1, 0xfb, 21, 2, 1]).is_err());
    }
}
