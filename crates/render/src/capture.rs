//! JSON of `whose capture`, and of what it saves.

use bstr::BStr;
use serde_json::Value;
use whose_core::model::{File, Gap};

use crate::json::{Header, gap, put_bytes};
use crate::json_file;

/// One FILE of the contract.
#[must_use]
pub fn file_json(file: &File) -> Value {
    json_file::file(file)
}

/// One GAP of the contract.
#[must_use]
pub fn gap_json(of: &Gap) -> Value {
    gap(of)
}

/// The document of `whose capture --json`: where to, how much of what, and what is missing.
#[must_use]
pub fn capture_document(
    header: &Header,
    dir: &BStr,
    counts: &[(&'static str, u64)],
    gaps: &[Gap],
) -> Value {
    let mut object = header.object();
    put_bytes(&mut object, "dir", dir);
    for (name, count) in counts {
        object.insert((*name).into(), (*count).into());
    }
    object.insert("gaps".into(), gaps.iter().map(gap).collect());
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use whose_core::model::gap::{Class, what};
    use whose_core::model::{
        CopiedUp, Fact, File, FileMount, FileRole, FileState, Gap, Inode, Layer, LayerKind,
        Verified,
    };
    use whose_core::state::facts;

    use super::{file_json, gap_json};

    fn read_again(file: &File) -> File {
        let gaps: Value = file.gaps().map(gap_json).collect();
        let clocks = whose_clocks();
        let document = facts::document(&clocks, true, &[((7, 9), file_json(file), gaps)]);
        let facts = facts::parse(document.to_string().as_bytes()).unwrap();
        assert_eq!((facts.clocks, facts.hides_processes), (clocks, true));
        facts.binaries[&(7, 9)].clone()
    }

    fn whose_clocks() -> whose_core::state::facts::Clocks {
        whose_core::state::facts::Clocks {
            since_boot: 1_353_061_838_623,
            boot_moment: 1_795_620_382_612_263_668,
            ticks_per_second: 100,
            page_size: 4096,
            euid: 1000,
        }
    }

    #[test]
    fn a_file_of_a_capture_is_the_file_that_was_told() {
        let whole = File {
            inside: Some(b"/bin/\xff".as_slice().into()),
            namespace_path: Some("/jail/bin/a".into()),
            host: Fact::Known("/l/diff/bin/a\n".into()),
            layer_path: Some("/x".into()),
            layer_ns: Some("mnt:[7]".into()),
            merged: Some("/l/merged/bin/a".into()),
            via_proc: Some("/proc/7/root/bin/a".into()),
            image_file: Some("/images/i".into()),
            role: Some(FileRole::Lower),
            layer: Some(Layer {
                id: "l".into(),
                dir: "/l/diff".into(),
                driver: "overlay2".into(),
                kind: Some(LayerKind::Image),
                chain_id: Some("sha256:c".into()),
                diff_id: Some("sha256:d".into()),
                index: Some(0),
                of: Some(3),
                owners: vec!["c".into()],
                images: vec!["app:1".into(), b"\xfe".as_slice().into()],
            }),
            stored: None,
            mount: Some(FileMount {
                kind: "overlay".into(),
                source: "overlay".into(),
                device: (0, 51),
                root: "/".into(),
                point: "/".into(),
            }),
            inode: Some(Inode { device: (254, 1), ino: 7, nlink: 1, size: 9, mtime: 12_345 }),
            verified: Verified::Page,
            why: Some("so".into()),
            recorded: true,
            state: Some(FileState::Present),
            copied_up: Some(CopiedUp::BeforeStart),
            program: Some("/bin/p".into()),
            candidates: Vec::new(),
            sha256: Fact::Absent,
            build_id: Fact::Known("ab".into()),
        };
        assert_eq!(read_again(&whole), whole);
        let gap = Gap::new(what::BINARY, Class::Forbidden, "/proc/7/exe", "no", Some("be root"));
        let blind = File {
            host: Fact::Unread(gap),
            candidates: vec!["/a".into(), b"/\xff".as_slice().into()],
            recorded: true,
            sha256: Fact::Absent,
            build_id: Fact::Absent,
            ..File::default()
        };
        assert_eq!(read_again(&blind), blind);
    }

    #[test]
    fn another_shape_is_refused() {
        for bad in [
            "[]",
            r#"{"schema":"whose/1"}"#,
            r#"{"schema":"whose/1","clocks":{"since_boot":1,"boot_moment":1,"ticks_per_second":0,"page_size":1},"euid":0,"binaries":[]}"#,
            r#"{"schema":"whose/1","clocks":{"since_boot":1,"boot_moment":1,"ticks_per_second":1,"page_size":1},"euid":0,"binaries":[{"pid":1,"start_ticks":1,"gaps":[],"file":{"verified":"surely"}}]}"#,
            r#"{"schema":"whose/1","clocks":{"since_boot":1,"boot_moment":1,"ticks_per_second":1,"page_size":1},"euid":0,"binaries":[{"pid":1,"start_ticks":1,"gaps":[],"file":{"verified":"none","host":null}}]}"#,
        ] {
            facts::parse(bad.as_bytes()).unwrap_err();
        }
    }
}
