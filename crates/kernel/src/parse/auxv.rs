//! `/proc/PID/auxv` (proc_pid_auxv(5)): pairs of words, the target's own width.

use crate::error::Malformed;

/// What is used of it. The process may change it (`PR_SET_MM_AUXV`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Auxv {
    /// `AT_PHDR`: where the program headers are mapped.
    pub program_headers: Option<u64>,
    /// `AT_ENTRY`: where the program itself begins.
    pub entry: Option<u64>,
    /// `AT_BASE`: where the interpreter is mapped; 0 without one.
    pub base: Option<u64>,
}

/// Parses the file. Whether words have 8 bytes or 4 is seen by `AT_PAGESZ`, which is a power of two
/// only when read with the right width.
///
/// # Errors
/// [`Malformed`] when it is neither.
pub fn parse(bytes: &[u8]) -> Result<Auxv, Malformed> {
    let wide = pairs::<8>(bytes);
    let sound = |pairs: &[(u64, u64)]| {
        pairs.iter().any(|(key, value)| *key == 6 && value.is_power_of_two() && *value >= 4096)
    };
    let pairs = if sound(&wide) { wide } else { pairs::<4>(bytes) };
    if !sound(&pairs) {
        return Err(Malformed("auxv holds no page size"));
    }
    let get = |key| pairs.iter().find(|(k, _)| *k == key).map(|(_, value)| *value);
    Ok(Auxv { program_headers: get(3), entry: get(9), base: get(7) })
}

fn pairs<const N: usize>(bytes: &[u8]) -> Vec<(u64, u64)> {
    let word = |part: &[u8]| {
        let mut wide = [0_u8; 8];
        if cfg!(target_endian = "big") {
            wide[8 - N..].copy_from_slice(part);
        } else {
            wide[..N].copy_from_slice(part);
        }
        u64::from_ne_bytes(wide)
    };
    bytes
        .chunks_exact(2 * N)
        .map(|pair| (word(&pair[..N]), word(&pair[N..])))
        .take_while(|(key, _)| *key != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn words<const N: usize>(words: &[u64]) -> Vec<u8> {
        let low = |w: &u64| w.to_le_bytes()[..N].to_vec();
        words.iter().flat_map(low).collect()
    }

    #[test]
    fn both_widths() {
        for bytes in [
            words::<8>(&[6, 4096, 3, 0x40_0040, 9, 0x40_1000, 7, 0, 0, 0, 3, 9]),
            words::<4>(&[6, 4096, 3, 0x40_0040, 9, 0x40_1000, 7, 0, 0, 0]),
        ] {
            let auxv = parse(&bytes).unwrap();
            assert_eq!(auxv.program_headers, Some(0x40_0040));
            assert_eq!((auxv.entry, auxv.base), (Some(0x40_1000), Some(0)));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parse(b"").is_err() && parse(&[1; 64]).is_err());
        assert!(parse(&std::fs::read("/proc/self/auxv").unwrap()).unwrap().entry.is_some());
    }
}
