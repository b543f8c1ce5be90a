//! `nvidia-smi`: the table of processes, `pmon`, and `--query-compute-apps --format=csv`.

use super::table::{Heading, Holds, Place, ReadRow, Side};
use super::{Format, Mention};
use crate::words::{pid, words};

pub(super) struct Nvidia;

impl Format for Nvidia {
    fn name(&self) -> &'static str {
        "nvidia-smi"
    }

    fn heading(&self, line: &[u8]) -> Option<Heading> {
        let titles: Vec<_> = words(line).collect();
        let of = |name: &[u8]| titles.iter().position(|t| line[t.clone()] == *name);
        let first = line.get(titles.first()?.clone())?;
        let (at, read): (_, ReadRow) = match first {
            b"|" => (of(b"PID").filter(|_| of(b"GPU").is_some())?, in_box),
            b"#" => (of(b"pid").filter(|_| of(b"gpu").is_some())?, in_pmon),
            b"pid," => (of(b"process_name,").map(|_| 0)?, in_csv),
            _ => return None,
        };
        let heading = Heading::new(line, titles[at].clone(), Place::Word(at), Side::After);
        // A box has no room for a column, and CSV has its own.
        Some(Heading { holds: Holds::Own(read), takes_column: false, ..heading })
    }
}

/// `|    0   N/A  N/A      4761      C   python3      300MiB |`: the number before the type.
fn in_box(_: &Heading, line: &[u8]) -> Option<Mention> {
    let all: Vec<_> = words(line).collect();
    let is_box = line.starts_with(b"|") && all.last().is_some_and(|w| line[w.clone()] == *b"|");
    let is_type = |text: &[u8]| matches!(text, b"C" | b"G" | b"C+G" | b"M+C" | b"M" | b"N/A");
    let pair = all.windows(2).find(|pair| {
        is_box && pid(&line[pair[0].clone()]).is_some() && is_type(&line[pair[1].clone()])
    });
    // The number of the GPU comes first, and N/A may follow it.
    let pair = pair.filter(|pair| pair[0] != all[1]).or_else(|| {
        all.windows(2).skip(2).find(|pair| {
            is_box && pid(&line[pair[0].clone()]).is_some() && is_type(&line[pair[1].clone()])
        })
    })?;
    Some(Mention::pid(pid(&line[pair[0].clone()])?, pair[0].clone()))
}

fn in_pmon(_: &Heading, line: &[u8]) -> Option<Mention> {
    let mut row = words(line);
    let gpu = row.next()?;
    let at = row.next()?;
    let is_row = line[gpu].iter().all(u8::is_ascii_digit);
    Some(Mention::pid(pid(&line[at.clone()]).filter(|_| is_row)?, at))
}

fn in_csv(_: &Heading, line: &[u8]) -> Option<Mention> {
    let comma = line.iter().position(|b| *b == b',')?;
    Some(Mention::pid(pid(&line[..comma])?, 0..comma))
}

#[cfg(test)]
mod tests {
    use super::{Format, Nvidia};

    #[test]
    fn boxes_lists_and_csv() {
        for (head, row) in [
            (
                "|  GPU   GI   CI        PID   Type   Process name                            GPU Memory |",
                "|    0   N/A  N/A      4761      C   /usr/bin/python3                  300MiB |",
            ),
            (
                "|  GPU       PID   Type   Process name                             GPU Memory |",
                "|    1      4761    C+G   Xorg                                          18MiB |",
            ),
            (
                "# gpu        pid  type    sm   mem   enc   dec   command",
                "    0       4761     C    10     2     -     -   python3",
            ),
            ("pid, process_name, used_gpu_memory [MiB]", "4761, python3, 300 MiB"),
        ] {
            let heading = Nvidia.heading(head.as_bytes()).unwrap();
            assert_eq!(&row[heading.row(row.as_bytes()).unwrap().at], "4761", "{row}");
        }
        let heading =
            Nvidia.heading(b"|  GPU       PID   Type   Process name  GPU Memory |").unwrap();
        assert!(
            heading
                .row(b"|        ID   ID                                       Usage      |")
                .is_none()
        );
        assert!(
            heading.row(b"|  No running processes found                           |").is_none()
        );
    }
}
