//! Buildah's own file of a working container, `buildah.json` among the big data of the store's
//! container (buildah buildah.go).

use serde::Deserialize;
use whose_kernel::{Class, ReadError};

use super::containers_storage::{Container, Store};
use super::json;

/// The file's name.
const FILE: &str = "buildah.json";

/// A working container, as far as it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Builder {
    /// Name of the image that it was begun from; empty for one from scratch.
    pub image: String,
    /// That image's id, without its algorithm.
    pub image_id: String,
    /// Full id of the container.
    pub container_id: String,
}

/// Parses the file.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Builder, String> {
    json::parse(bytes)
}

/// Whether a container of the table is a working container of Buildah's.
#[must_use]
pub fn is_its(store: &Store<'_>, container: &Container) -> bool {
    let file = store.userdata(container.id.as_bytes(), FILE);
    container.metadata.is_empty() && store.root.look(&file).is_ok()
}

/// What the file says of a container; `None` when it has none.
///
/// # Errors
/// When it is there and can't be read.
pub fn of(store: &Store<'_>, id: &[u8]) -> Result<Option<Builder>, ReadError> {
    match json::read::<Builder>(store.root, &store.userdata(id, FILE)) {
        Ok(builder) if builder.container_id.as_bytes() == id => Ok(Some(builder)),
        Ok(_) => Ok(None),
        Err(e) if e.class == Class::Gone => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_file_as_buildah_writes_it() {
        let text = br#"{"Args":{},"type":"buildah 0.0.1","image":"localhost/a:1","image-id":"ab",
            "image-digest":"sha256:cd","config":"e30=","container-name":"b","container-id":"ef"}"#;
        let builder = parse(text).unwrap();
        assert_eq!((builder.image.as_str(), builder.image_id.as_str()), ("localhost/a:1", "ab"));
        assert_eq!(builder.container_id, "ef");
        assert!(parse(b"[1]").unwrap_err().starts_with("JSON of another shape"));
    }
}
