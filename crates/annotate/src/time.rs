//! Moments as logs write them.

use std::cell::OnceCell;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Short names of the months, in the languages whose short dates are not more than one word: journalctl and
/// dmesg write them as glibc's locales have them (`abmon`). Croatian and Polish or Czech have some in common
/// that are not of the same month.
const MONTHS: [&[&str]; 12] = [
    &[
        "Jan", "Jän", "janv.", "ene", "gen", "jan", "jan.", "tammi", "sty", "led", "Oca", "янв",
        "січ", "1月", "1월", "Ιαν", "sij",
    ],
    &[
        "Feb", "févr.", "feb", "fev", "feb.", "helmi", "lut", "úno", "febr", "Şub", "фев", "лют",
        "2月", "2월", "Φεβ", "velj",
    ],
    &[
        "Mar", "Mär", "mars", "mar", "mrt", "maalis", "bře", "márc", "мар", "бер", "3月", "3월",
        "Μαρ", "ožu",
    ],
    &[
        "Apr", "avril", "abr", "apr", "april", "huhti", "kwi", "dub", "ápr", "Nis", "апр", "кві",
        "4月", "4월", "Απρ", "tra",
    ],
    &[
        "May", "Mai", "mai", "may", "mag", "mei", "maj", "touko", "kvě", "máj", "мая", "тра",
        "5月", "5월", "Μαΐ", "svi",
    ],
    &[
        "Jun", "juin", "jun", "giu", "juni", "kesä", "cze", "čen", "jún", "Haz", "июн", "чер",
        "6月", "6월", "Ιουν", "lip",
    ],
    &[
        "Jul", "juil.", "jul", "lug", "juli", "heinä", "lip", "čec", "júl", "Tem", "июл", "лип",
        "7月", "7월", "Ιουλ", "srp",
    ],
    &[
        "Aug", "août", "ago", "aug", "aug.", "elo", "sie", "srp", "Ağu", "авг", "сер", "8月",
        "8월", "Αυγ", "kol",
    ],
    &[
        "Sep", "sept.", "sep", "set", "sep.", "syys", "wrz", "zář", "szept", "Eyl", "сен", "вер",
        "9月", "9월", "Σεπ", "ruj",
    ],
    &[
        "Oct", "Okt", "oct.", "oct", "ott", "out", "okt", "okt.", "loka", "paź", "říj", "Eki",
        "окт", "жов", "10月", "10월", "Οκτ", "lis",
    ],
    &["Nov", "nov.", "nov", "marras", "lis", "Kas", "ноя", "лис", "11月", "11월", "Νοε", "stu"],
    &[
        "Dec", "Dez", "déc.", "dic", "dez", "dec", "des.", "joulu", "gru", "pro", "Ara", "дек",
        "гру", "12月", "12월", "Δεκ",
    ],
];
/// Longest name of a month or a day of the week, bytes.
const LONGEST_NAME: usize = 16;
/// How far ahead of this clock a moment of this year may be, ms: else it was last year.
const AHEAD: i64 = 24 * 3600 * 1000;

/// The time zone of moments that are written without one: the user's own, looked up (TZ, /etc/localtime)
/// when the first of them comes.
#[derive(Debug, Default)]
pub(crate) struct Zone(OnceCell<TimeZone>);

impl Zone {
    /// This one.
    #[cfg(test)]
    pub(crate) fn fixed(zone: TimeZone) -> Self {
        Self(OnceCell::from(zone))
    }

    fn get(&self) -> &TimeZone {
        self.0.get_or_init(TimeZone::system)
    }
}

/// Coordinated universal time.
pub(crate) fn utc() -> Zone {
    Zone(OnceCell::from(TimeZone::UTC))
}

/// `Nov 25 01:33:06`, also with a fraction, as syslog has it: the moment, and the text's length. The year
/// is the one in which it is not to come.
pub(crate) fn syslog(text: &[u8], now: i64, zone: &Zone) -> Option<(i64, usize)> {
    let (name, day, from) = date(text)?;
    if text.get(from) != Some(&b' ') {
        return None;
    }
    let (clock, length) = clock(text.get(from + 1..)?)?;
    let this_year = zone.get().to_datetime(Timestamp::from_millisecond(now).ok()?).year();
    let of_month = |month| {
        let in_year = |year| moment(year, month, day, clock, zone);
        in_year(this_year).filter(|at| *at <= now + AHEAD).or_else(|| in_year(this_year - 1))
    };
    // Of two moments the earlier one: a process that had begun by then had by the other too.
    Some((months(name).filter_map(of_month).min()?, from + 1 + length))
}

/// `Nov 25`: the month's name, the day, and where they end. Months that are numbered may have a blank
/// before them.
fn date(text: &[u8]) -> Option<(&[u8], i8, usize)> {
    let start = usize::from(text.first() == Some(&b' '));
    let near = &text[start..text.len().min(start + LONGEST_NAME)];
    let end = start + memchr::memchr(b' ', near)?;
    let day = number(text.get(end + 1..end + 3)?)?;
    Some((&text[start..end], day.try_into().ok()?, end + 3))
}

/// The months of this name, from 1.
fn months(name: &[u8]) -> impl Iterator<Item = i8> + '_ {
    let bears = move |names: &[&str]| names.iter().any(|n| n.as_bytes() == name);
    (1_i8..).zip(MONTHS.iter()).filter_map(move |(month, names)| bears(names).then_some(month))
}

/// `2026-11-25T01:33:06.123456+00:00` and the like; without an offset by the zone.
pub(crate) fn iso(text: &[u8], zone: &Zone) -> Option<(i64, usize)> {
    let part = |range: std::ops::Range<usize>| text.get(range).and_then(number);
    let year = i16::try_from(part(0..4)?).ok()?;
    let month = i8::try_from(part(5..7)?).ok()?;
    let day = i8::try_from(part(8..10)?).ok()?;
    let between = [text.get(4)?, text.get(7)?];
    if between != [&b'-', &b'-'] || !matches!(text.get(10)?, b'T' | b't' | b' ' | b'_') {
        return None;
    }
    let (clock, length) = clock(text.get(11..)?)?;
    let mut end = 11 + length;
    let rest = &text[end..];
    if let Some(b'Z' | b'z') = rest.first() {
        return Some((moment(year, month, day, clock, &utc())?, end + 1));
    }
    let Some(sign @ (b'+' | b'-')) = rest.first() else {
        return Some((moment(year, month, day, clock, zone)?, end));
    };
    let hours = rest.get(1..3).and_then(number)?;
    let colon = usize::from(rest.get(3) == Some(&b':'));
    let minutes = rest.get(3 + colon..5 + colon).and_then(number).unwrap_or(0);
    end += 5 + colon;
    let offset = i64::from(hours * 60 + minutes) * 60_000;
    let at = moment(year, month, day, clock, &utc())?;
    Some((if *sign == b'+' { at - offset } else { at + offset }, end.min(text.len())))
}

/// `Wed Nov 25 01:33:06 2026`, as ctime(3) has it.
pub(crate) fn ctime(text: &[u8], zone: &Zone) -> Option<(i64, usize)> {
    let day_of_week = memchr::memchr(b' ', &text[..text.len().min(LONGEST_NAME)])? + 1;
    let (name, day, from) = date(&text[day_of_week..])?;
    let from = day_of_week + from + 1;
    let (clock, length) = clock(text.get(from..)?)?;
    let at = from + length + 1;
    let year = i16::try_from(number(text.get(at..at + 4)?)?).ok()?;
    let in_month = |month| moment(year, month, day, clock, zone);
    Some((months(name).filter_map(in_month).min()?, at + 4))
}

/// Seconds since 1970 with an optional fraction.
pub(crate) fn unix(text: &[u8]) -> Option<(i64, usize)> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let seconds: i64 = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    let (ms, length) = fraction(&text[digits..]);
    Some((seconds.checked_mul(1000)?.checked_add(ms)?, digits + length))
}

/// Hours, minutes, seconds and milliseconds of a clock, and the text's length.
fn clock(text: &[u8]) -> Option<((i8, i8, i8, i64), usize)> {
    let part =
        |range: std::ops::Range<usize>| -> Option<i8> { number(text.get(range)?)?.try_into().ok() };
    if text.get(2) != Some(&b':') || text.get(5) != Some(&b':') {
        return None;
    }
    let (ms, length) = fraction(&text[8.min(text.len())..]);
    // A second of 60 is a leap one.
    Some(((part(0..2)?, part(3..5)?, part(6..8)?.min(59), ms), 8 + length))
}

/// A fraction of a second, ms, and its length; none is none.
fn fraction(text: &[u8]) -> (i64, usize) {
    if !matches!(text.first(), Some(b'.' | b',')) {
        return (0, 0);
    }
    let digits = text[1..].iter().take_while(|b| b.is_ascii_digit()).count();
    let first = text[1..=digits].iter().chain(b"000").take(3);
    (first.fold(0, |ms, b| ms * 10 + i64::from(b - b'0')), 1 + digits)
}

/// Digits, the first of which may be a blank.
fn number(text: &[u8]) -> Option<u32> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn moment(
    year: i16,
    month: i8,
    day: i8,
    (hour, minute, second, ms): (i8, i8, i8, i64),
    zone: &Zone,
) -> Option<i64> {
    let nanos = i32::try_from(ms * 1_000_000).ok()?;
    let civil = DateTime::new(year, month, day, hour, minute, second, nanos).ok()?;
    // Of an hour that a clock has twice the later one: a process may then be taken for a younger one,
    // which is to miss it and not to mistake it.
    let at = zone.get().to_ambiguous_timestamp(civil).earlier().ok()?;
    Some(at.as_millisecond())
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::{Zone, ctime, iso, syslog, unix, utc};

    /// 2026-11-25T01:33:06.500Z
    const AT: i64 = 1_795_570_386_500;

    #[test]
    fn each_form() {
        let utc = &utc();
        for (text, ms, length) in [
            (&b"2026-11-25T01:33:06.500Z x"[..], AT, 24),
            (b"2026-11-25T02:33:06.500000+01:00", AT, 32),
            (b"2026-11-25T00:33:06,5-0100", AT, 26),
            (b"2026-11-25 01:33:06 UTC", AT - 500, 19),
        ] {
            assert_eq!(iso(text, utc), Some((ms, length)));
        }
        assert_eq!(ctime(b"Wed Nov 25 01:33:06 2026] x", utc), Some((AT - 500, 24)));
        assert_eq!(unix(b"1795570386.5 x"), Some((AT, 12)));
        for none in [&b""[..], b"2026", b"2026-13-25T01:33:06Z", b"2026-11-25T01-33-06"] {
            assert_eq!(iso(none, utc), None);
        }
    }

    #[test]
    fn a_year_that_is_not_written_is_the_last_one_that_fits() {
        let utc = &utc();
        assert_eq!(syslog(b"Nov 25 01:33:06 x", AT, utc), Some((AT - 500, 15)));
        let (last_year, _) = syslog(b"Dec  1 01:33:06", AT, utc).unwrap();
        assert_eq!(last_year, 1_764_552_786_000);
        let east = &Zone::fixed(TimeZone::fixed(jiff::tz::offset(1)));
        assert_eq!(syslog(b"Nov 25 02:33:06.500 x", AT, east), Some((AT, 19)));
        assert_eq!(syslog(b"Nov 25 0x:33:06", AT, utc), None);
    }

    #[test]
    fn months_have_names_in_other_languages() {
        let utc = &utc();
        for text in ["nov. 25 01:33:06 x", "11月 25 01:33:06 x", "ноя 25 01:33:06 x"] {
            let length = text.len() - 2;
            assert_eq!(syslog(text.as_bytes(), AT, utc), Some((AT - 500, length)), "{text}");
        }
        let of = |text: &str| syslog(text.as_bytes(), AT, utc).map(|(at, _)| at);
        for (other, own) in [("Mär", "Mar"), (" 3月", "Mar"), ("déc.", "Dec"), ("lis", "Oct")] {
            let day = " 25 01:33:06";
            assert_eq!(of(&format!("{other}{day}")), of(&format!("{own}{day}")), "{other}");
        }
        for none in
            ["13月 25 01:33:06", "November 25 01:33:06", "x 25 01:33:06", "  3月 25 01:33:06"]
        {
            assert_eq!(of(none), None, "{none}");
        }
        let german = "Mi Nov 25 01:33:06 2026] x".as_bytes();
        assert_eq!(ctime(german, utc), Some((AT - 500, 23)));
        let japanese = "水 11月 25 01:33:06 2026] x".as_bytes();
        assert_eq!(ctime(japanese, utc), Some((AT - 500, japanese.len() - 3)));
    }
}
