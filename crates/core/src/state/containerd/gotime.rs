//! Go's binary times: `Time.MarshalBinary` of Go's package time.
//!
//! A version byte, seconds since the year 1 (8 bytes), nanoseconds (4), minutes east of UTC (2; -1 is
//! UTC), all big-endian; version 2 has one byte more, the seconds of the zone. The zone does not
//! change the moment.

/// Seconds from the year 1 to 1970 (`unixToInternal`).
const TO_1970: i64 = 62_135_596_800;

/// Milliseconds since 1970, cut down; `None` for Go's zero time.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Option<i64>, String> {
    match (bytes.first(), bytes.len()) {
        (Some(1), 15) | (Some(2), 16) => {}
        (Some(1 | 2), _) | (None, _) => return Err("a time of another length".into()),
        (Some(version), _) => return Err(format!("a time of version {version}")),
    }
    let chunk = |from: usize| bytes.get(from..).ok_or("a time cut short");
    let seconds = chunk(1)?.first_chunk().map_or(0, |b| i64::from_be_bytes(*b));
    let nanos = chunk(9)?.first_chunk().map_or(0, |b| u32::from_be_bytes(*b));
    if nanos >= 1_000_000_000 {
        return Err("a time with more than a second of nanoseconds".into());
    }
    if (seconds, nanos) == (0, 0) {
        return Ok(None);
    }
    let ms = seconds.checked_sub(TO_1970).and_then(|s| s.checked_mul(1000));
    let ms = ms.and_then(|ms| ms.checked_add(i64::from(nanos / 1_000_000)));
    ms.map(Some).ok_or_else(|| "a time out of all range".into())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn moments_are_those_of_go() {
        // time.Date(2026, 1, 2, 3, 4, 5, 678912345, time.UTC): 1767323045 s after 1970.
        let seconds: i64 = 1_767_323_045 + 62_135_596_800;
        let of = |version: u8, seconds: i64, nanos: u32, zone: &[u8]| {
            let (seconds, nanos) = (seconds.to_be_bytes(), nanos.to_be_bytes());
            parse(&[&[version][..], &seconds, &nanos, zone].concat())
        };
        assert_eq!(of(1, seconds, 678_912_345, &[0xff, 0xff]), Ok(Some(1_767_323_045_678)));
        // A zone and its seconds change nothing.
        assert_eq!(of(1, seconds, 0, &[0, 60]), Ok(Some(1_767_323_045_000)));
        assert_eq!(of(2, seconds, 0, &[0, 60, 7]), Ok(Some(1_767_323_045_000)));
        assert_eq!(of(1, 62_135_596_799, 999_999_999, &[0xff, 0xff]), Ok(Some(-1)));
        assert_eq!(of(1, 0, 0, &[0xff, 0xff]), Ok(None));
        for (version, seconds, nanos, zone) in [
            (1, seconds, 1_000_000_000, &[0, 0][..]),
            (1, seconds, 0, &[0]),
            (1, seconds, 0, &[0, 0, 0]),
            (2, seconds, 0, &[0, 0]),
            (3, seconds, 0, &[0, 0]),
            (1, i64::MIN, 0, &[0, 0]),
            (1, i64::MAX, 0, &[0, 0]),
        ] {
            of(version, seconds, nanos, zone).unwrap_err();
        }
        parse(b"").unwrap_err();
    }
}
