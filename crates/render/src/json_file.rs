//! The contract's FILE and LAYER as JSON.

use bstr::BString;
use data_encoding::BASE64;
use serde_json::{Map, Value};
use whose_core::model::{Fact, File, FileMount, Inode, Layer, Stored};

use crate::json::put_bytes;
use crate::text;

/// One FILE. What does not apply or was not asked for is left out; what could not be read is null.
pub(crate) fn file(file: &File) -> Value {
    let mut object = Map::new();
    put_optional(&mut object, "inside", file.inside.as_ref());
    put_optional(&mut object, "namespace_path", file.namespace_path.as_ref());
    put_fact(&mut object, "host", &file.host, |o, path| put_bytes(o, "host", path));
    put_optional(&mut object, "layer_path", file.layer_path.as_ref());
    put_optional(&mut object, "layer_ns", file.layer_ns.as_ref());
    put_optional(&mut object, "merged", file.merged.as_ref());
    put_optional(&mut object, "via_proc", file.via_proc.as_ref());
    put_optional(&mut object, "image_file", file.image_file.as_ref());
    put_word(&mut object, "role", file.role.map(whose_core::model::FileRole::name));
    if let Some(of) = &file.layer {
        object.insert("layer".into(), layer(of));
    }
    if let Some(of) = &file.stored {
        object.insert("stored".into(), stored(of));
    }
    if let Some(of) = &file.mount {
        object.insert("mount".into(), mount(of));
    }
    if let Some(of) = &file.inode {
        object.insert("inode".into(), inode(of));
    }
    object.insert("verified".into(), file.verified.name().into());
    put_word(&mut object, "why", file.why.as_deref());
    if file.recorded {
        object.insert("recorded".into(), true.into());
    }
    put_word(&mut object, "state", file.state.map(whose_core::model::FileState::name));
    put_word(&mut object, "copied_up", file.copied_up.map(whose_core::model::CopiedUp::name));
    put_optional(&mut object, "program", file.program.as_ref());
    if !file.candidates.is_empty() {
        put_texts(&mut object, "candidates", &file.candidates);
    }
    let hash = |key: &'static str| {
        move |o: &mut Map<String, Value>, text: &String| {
            o.insert(key.into(), text.as_str().into());
        }
    };
    put_fact(&mut object, "sha256", &file.sha256, hash("sha256"));
    put_fact(&mut object, "build_id", &file.build_id, hash("build_id"));
    Value::Object(object)
}

/// One LAYER.
pub(crate) fn layer(layer: &Layer) -> Value {
    let mut object = Map::new();
    put_bytes(&mut object, "id", &layer.id);
    put_bytes(&mut object, "dir", &layer.dir);
    if !layer.driver.is_empty() {
        put_bytes(&mut object, "driver", &layer.driver);
    }
    put_word(&mut object, "kind", layer.kind.map(whose_core::model::LayerKind::name));
    put_optional(&mut object, "chain_id", layer.chain_id.as_ref());
    put_optional(&mut object, "diff_id", layer.diff_id.as_ref());
    for (key, number) in [("index", layer.index), ("of", layer.of)] {
        if let Some(number) = number {
            object.insert(key.into(), number.into());
        }
    }
    put_texts(&mut object, "owners", &layer.owners);
    put_texts(&mut object, "images", &layer.images);
    Value::Object(object)
}

/// One STORED.
fn stored(stored: &Stored) -> Value {
    let mut object = Map::new();
    put_word(&mut object, "kind", Some(stored.kind.name()));
    put_optional(&mut object, "id", stored.id.as_ref());
    put_bytes(&mut object, "engine", &stored.engine);
    put_bytes(&mut object, "root", &stored.root);
    put_fact(&mut object, "standing", &stored.standing, |o, standing| {
        o.insert("standing".into(), standing.name().into());
    });
    if let Some(of) = &stored.layer {
        object.insert("layer".into(), layer(of));
    }
    put_texts(&mut object, "images", &stored.images);
    put_texts(&mut object, "image_ids", &stored.image_ids);
    Value::Object(object)
}

/// What an older kernel does not tell of another namespace's mount is null.
fn put_told(object: &mut Map<String, Value>, key: &str, text: &BString) {
    if text.is_empty() {
        object.insert(key.into(), Value::Null);
    } else {
        put_bytes(object, key, text);
    }
}

fn mount(mount: &FileMount) -> Value {
    let mut object = Map::new();
    put_bytes(&mut object, "type", &mount.kind);
    put_told(&mut object, "source", &mount.source);
    object.insert("device".into(), device(mount.device));
    put_bytes(&mut object, "root", &mount.root);
    put_told(&mut object, "point", &mount.point);
    Value::Object(object)
}

fn inode(inode: &Inode) -> Value {
    let mut object = Map::new();
    object.insert("device".into(), device(inode.device));
    object.insert("ino".into(), inode.ino.into());
    object.insert("nlink".into(), inode.nlink.into());
    object.insert("size".into(), inode.size.into());
    object.insert("mtime".into(), text::time(inode.mtime).into());
    Value::Object(object)
}

fn device((major, minor): (u32, u32)) -> Value {
    format!("{major}:{minor}").into()
}

fn put_optional(object: &mut Map<String, Value>, key: &str, value: Option<&BString>) {
    if let Some(value) = value {
        put_bytes(object, key, value);
    }
}

fn put_word(object: &mut Map<String, Value>, key: &str, word: Option<&str>) {
    if let Some(word) = word {
        object.insert(key.into(), word.into());
    }
}

fn put_fact<T>(
    object: &mut Map<String, Value>,
    key: &str,
    fact: &Fact<T>,
    put: impl FnOnce(&mut Map<String, Value>, &T),
) {
    match fact {
        Fact::Known(value) => put(object, value),
        Fact::Unread(_) => {
            object.insert(key.into(), Value::Null);
        }
        Fact::Unasked | Fact::Absent => {}
    }
}

/// Texts; where one's bytes are no UTF-8, the exact ones of all beside them.
fn put_texts(object: &mut Map<String, Value>, key: &str, texts: &[BString]) {
    object.insert(key.into(), texts.iter().map(|t| text::lossy(t).0).collect());
    if texts.iter().any(|t| text::lossy(t).1) {
        let exact = texts.iter().map(|t| BASE64.encode(t));
        object.insert(format!("{key}_base64"), exact.collect());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use whose_core::model::gap::{Class, what};
    use whose_core::model::{
        CopiedUp, Fact, File, FileMount, FileRole, FileState, Gap, Inode, Layer, LayerKind,
        Verified,
    };

    use super::file;

    #[test]
    fn nothing_known_is_nothing_told() {
        assert_eq!(file(&File::default()), json!({"verified": "none"}));
    }

    #[test]
    fn every_key_of_the_contract() {
        let whole = File {
            inside: Some("/bin/a".into()),
            namespace_path: Some("/jail/bin/a".into()),
            host: Fact::Known("/l/diff/bin/a".into()),
            merged: Some("/l/merged/bin/a".into()),
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
                images: vec!["app:1".into(), "b\u{e4}\u{e4}".into()],
            }),
            mount: Some(FileMount {
                kind: "overlay".into(),
                source: "overlay".into(),
                device: (0, 51),
                root: "/".into(),
                point: "/".into(),
            }),
            inode: Some(Inode { device: (254, 1), ino: 7, nlink: 1, size: 9, mtime: 0 }),
            verified: Verified::Page,
            state: Some(FileState::Present),
            copied_up: Some(CopiedUp::No),
            sha256: Fact::Known("ab".into()),
            ..File::default()
        };
        assert_eq!(
            file(&whole),
            json!({"inside": "/bin/a", "namespace_path": "/jail/bin/a", "host": "/l/diff/bin/a",
                "merged": "/l/merged/bin/a", "role": "lower",
                "layer": {"id": "l", "dir": "/l/diff", "driver": "overlay2", "kind": "image",
                    "chain_id": "sha256:c", "diff_id": "sha256:d", "index": 0, "of": 3,
                    "owners": ["c"], "images": ["app:1", "b\u{e4}\u{e4}"]},
                "mount": {"type": "overlay", "source": "overlay", "device": "0:51", "root": "/",
                    "point": "/"},
                "inode": {"device": "254:1", "ino": 7, "nlink": 1, "size": 9,
                    "mtime": "1970-01-01T00:00:00.000Z"},
                "verified": "page", "state": "present", "copied_up": "no", "sha256": "ab"})
        );
    }

    #[test]
    fn what_could_not_be_read_is_null() {
        let gap = || Gap::new(what::BINARY, Class::Forbidden, "/p", "no", None);
        let blind = File {
            host: Fact::Unread(gap()),
            build_id: Fact::Unread(gap()),
            sha256: Fact::Absent,
            why: Some("no permission".into()),
            candidates: vec!["/a\u{ff}".into(), bstr::BString::from(&b"/b\xff"[..])],
            recorded: true,
            ..File::default()
        };
        assert_eq!(
            file(&blind),
            json!({"host": null, "verified": "none", "why": "no permission", "recorded": true,
                "candidates": ["/a\u{ff}", "/b\u{fffd}"],
                "candidates_base64": ["L2HDvw==", "L2L/"], "build_id": null})
        );
    }
}
