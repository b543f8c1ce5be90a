//! `/proc/PID/task/TID/children` (proc_pid_task_tid_children(5)): the PIDs of a thread's children.

use super::decimal32;
use crate::error::Malformed;

/// Parses the whole file: numbers, each with a space after it. They come in ascending order here.
///
/// # Errors
/// [`Malformed`] when there is anything else, or the end of a number is missing.
pub fn parse(bytes: &[u8]) -> Result<Vec<u32>, Malformed> {
    if !bytes.is_empty() && !bytes.ends_with(b" ") {
        return Err(Malformed("children end within a number"));
    }
    let words = bytes.split(|b| *b == b' ').filter(|word| !word.is_empty());
    let mut pids = words.map(decimal32).collect::<Option<Vec<u32>>>();
    pids.iter_mut().for_each(|pids| pids.sort_unstable());
    pids.ok_or(Malformed("children hold what is no number"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn children_are_numbers() {
        assert_eq!(parse(b"5 3 40 "), Ok(vec![3, 5, 40]));
        assert_eq!(parse(b""), Ok(Vec::new()));
        for bad in [&b"5 3"[..], b"5 x ", b"5 99999999999 ", b"-5 ", b"5\n"] {
            assert!(parse(bad).is_err());
        }
    }
}
