//! Files whose content no capture is to have: they hold secrets (variables of environments, templates) in forms that
//! `redact` does not know. A capture says that such a file is there, and answers from it say that it was not captured.

use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

/// Reads a file of at most `cap` bytes.
///
/// # Errors
/// As [`Root::read`].
pub fn read(root: &Root, rel: &[u8], cap: usize) -> Result<Vec<u8>, ReadError> {
    let held = root.hold(rel, cap)?;
    let size = usize::try_from(held.size()?).unwrap_or(usize::MAX);
    if size > cap {
        return Err(ReadError::new(held.shown(), Class::Malformed, "larger than such a file is"));
    }
    let mut bytes = vec![0; size];
    let got = held.read_at(0, &mut bytes)?;
    bytes.truncate(got);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::rc::Rc;

    use bstr::{BStr, BString};
    use whose_kernel::capture::Recorder;
    use whose_kernel::root::Links;
    use whose_kernel::{Host, Options};

    use super::read;
    use crate::state::{ecs, nomad};

    /// All files below a directory.
    fn files(dir: &Path, found: &mut Vec<Vec<u8>>) {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => files(&entry.path(), found),
                false => found.push(std::fs::read(entry.path()).unwrap()),
            }
        }
    }

    #[test]
    fn no_capture_has_what_is_read_so() {
        let dir = tempfile::tempdir().unwrap();
        let engine = dir.path().join("engine");
        let mut bucket = whose_testkit::bolt::Bucket::default();
        bucket.path(&["allocations", "a"]).put("alloc", "secret77");
        bucket
            .bucket("containers")
            .put("c", "{\"Container\":{\"environment\":{\"A\":\"secret77\"}}}");
        let database = whose_testkit::bolt::file(&bucket, whose_testkit::bolt::Layout::default());
        for file in ["plain", "client/state.db", "data/agent.db", "recorded"] {
            std::fs::create_dir_all(engine.join(file).parent().unwrap()).unwrap();
            let text = format!("{file} secret77").into_bytes();
            let bytes = if file.ends_with(".db") { database.clone() } else { text };
            std::fs::write(engine.join(file), bytes).unwrap();
        }
        let out = dir.path().join("capture");
        let bytes = |path: &Path| BString::from(path.as_os_str().as_encoded_bytes());
        let recorder = Rc::new(Recorder::create(bytes(&out).as_ref(), |_| None).unwrap());
        let options = Options { recorder: Some(Rc::clone(&recorder)), ..Options::default() };
        let host = Host::open(options).unwrap();
        let root = host.root().descend(&bytes(&engine), Links::Never, None).unwrap();
        assert_eq!(read(&root, b"plain", 100).unwrap(), b"plain secret77");
        assert!(read(&root, b"plain", 4).is_err());
        let client = nomad::Client::open(&root).unwrap();
        assert_eq!(client.ids().unwrap(), ["a"]);
        assert!(client.allocation(b"a").is_err());
        assert!(ecs::container(&root, BStr::new("")).unwrap().is_some());
        root.read(b"recorded", 100).unwrap();
        let mut kept = Vec::new();
        recorder.finish(&host).unwrap();
        files(&out, &mut kept);
        let with =
            |word: &[u8]| kept.iter().filter(|f| f.windows(word.len()).any(|w| w == word)).count();
        // What is read as usual shows that these could have been there.
        assert_eq!((with(b"recorded secret77"), with(b"secret77")), (1, 1));
    }
}
