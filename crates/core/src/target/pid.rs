//! A PID: 1 to 7 digits.

use bstr::BStr;
use whose_kernel::parse;

/// Largest PID the kernel gives, plus one (`PID_MAX_LIMIT` on 64 bits).
pub const LIMIT: u32 = 4_194_304;

/// A process or thread number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pid(pub u32);

impl Pid {
    /// Whether any process can have it.
    #[must_use]
    pub fn is_possible(self) -> bool {
        self.0 > 0 && self.0 < LIMIT
    }
}

/// The PID that a text of 1 to 7 digits is.
#[must_use]
pub fn bare(text: &BStr) -> Option<Pid> {
    (text.len() <= 7).then(|| parse::decimal32(text)).flatten().map(Pid)
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::{Pid, bare};

    #[test]
    fn digits_only() {
        assert_eq!(bare(BStr::new("0042")), Some(Pid(42)));
        for text in ["", "-1", "+1", "12345678", "1a", " 1"] {
            assert_eq!(bare(BStr::new(text)), None, "{text}");
        }
        assert!(!Pid(0).is_possible() && !Pid(4_194_304).is_possible());
        assert!(Pid(1).is_possible() && Pid(4_194_303).is_possible());
    }
}
