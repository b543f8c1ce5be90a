//! What a Mesos agent keeps of a container in its runtime directory: `containers/<id>/config`, and below it
//! `containers/<id>/` again for one in it (mesos src/slave/containerizer/mesos/paths.hpp). The file is the size of
//! a message, four bytes as the host has numbers, and that message (3rdparty/stout/include/stout/protobuf.hpp,
//! `write`): a `ContainerConfig` (include/mesos/slave/containerizer.proto).

use bstr::{BString, ByteSlice};

use super::protobuf::{at, fields};

/// Largest file taken, bytes.
pub const CAP: usize = 8 << 20;

/// Numbers of fields of `ContainerConfig` (include/mesos/slave/containerizer.proto).
const DIRECTORY: u64 = 3;
const ROOTFS: u64 = 5;
const EXECUTOR: u64 = 8;
const TASK: u64 = 9;
const CONTAINER: u64 = 12;
/// `ExecutorInfo.name`, `ExecutorInfo.executor_id.value`, `TaskInfo.name` (include/mesos/mesos.proto).
const EXECUTOR_NAME: [u64; 2] = [EXECUTOR, 9];
const EXECUTOR_ID: [u64; 3] = [EXECUTOR, 1, 1];
const TASK_NAME: [u64; 2] = [TASK, 1];
/// `ContainerInfo.mesos.image.docker.name` (include/mesos/mesos.proto).
const IMAGE: [u64; 5] = [CONTAINER, 5, 1, 3, 1];

/// A container's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// What its task is called, else its executor, else the executor's id.
    pub name: Option<BString>,
    /// The Docker image that its root was made of.
    pub image: Option<BString>,
    /// The host's directory that is its root, where it has one of its own.
    pub rootfs: Option<BString>,
    /// Its sandbox.
    pub directory: Option<BString>,
}

/// Parses such a file.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Config, String> {
    let (size, message) = bytes.split_first_chunk().ok_or("cut short")?;
    if usize::try_from(u32::from_ne_bytes(*size)).ok() != Some(message.len()) {
        return Err("not as long as it says".into());
    }
    fields(message).try_for_each(|field| field.map(drop))?;
    let text = |path: &[u64]| -> Result<Option<BString>, String> {
        Ok(at(message, path)?.filter(|text| !text.is_empty()).map(Into::into))
    };
    let path = |field| Ok::<_, String>(text(&[field])?.filter(|path| path.starts_with(b"/")));
    let directory: Option<BString> = path(DIRECTORY)?;
    let name = match text(&TASK_NAME)? {
        Some(name) => Some(name),
        None => match text(&EXECUTOR_NAME)? {
            Some(name) => Some(name),
            None => text(&EXECUTOR_ID)?,
        },
    };
    Ok(Config { name, image: text(&IMAGE)?, rootfs: path(ROOTFS)?, directory })
}

/// The path of a container's directory in the runtime directory; `chain` has the containers around it, outermost
/// first, and itself.
#[must_use]
pub fn dir(chain: &[u8]) -> Vec<u8> {
    nested(chain, b"containers")
}

/// A path with a directory of this name above each of a chain: `A/B` is `above/A/above/B`.
#[must_use]
pub fn nested(chain: &[u8], above: &[u8]) -> Vec<u8> {
    let levels = chain.iter().filter(|b| **b == b'/').count() + 1;
    let mut path = Vec::with_capacity(chain.len() + levels * (above.len() + 2));
    for part in chain.split_str("/") {
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(above);
        path.push(b'/');
        path.extend_from_slice(part);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::{dir, parse};

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let len = u8::try_from(bytes.len()).unwrap();
        [&[number << 3 | 2, len][..], bytes].concat()
    }

    fn file(message: &[u8]) -> Vec<u8> {
        let size = u32::try_from(message.len()).unwrap().to_ne_bytes();
        [&size[..], message].concat()
    }

    #[test]
    fn names_in_their_order() {
        let executor = [field(1, &field(1, b"e.1")), field(9, b"Executor")].concat();
        let image = field(12, &field(5, &field(1, &field(3, &field(1, b"redis:7")))));
        let message = [field(3, b"/w/runs/c"), field(5, b"/w/rootfs"), field(8, &executor), image];
        let message = message.concat();
        let read = parse(&file(&message)).unwrap();
        assert_eq!(
            (read.name.unwrap(), read.image.unwrap()),
            ("Executor".into(), "redis:7".into())
        );
        assert_eq!(read.rootfs.unwrap(), "/w/rootfs");
        let task = [message, field(9, &field(1, b"web"))].concat();
        assert_eq!(parse(&file(&task)).unwrap().name.unwrap(), "web");
        let id = parse(&file(&field(8, &field(1, &field(1, b"e.1"))))).unwrap();
        assert_eq!(id.name.unwrap(), "e.1");
        assert!(parse(b"\x01\x00").is_err());
        assert!(parse(&[file(&task), b"x".to_vec()].concat()).is_err());
        assert!(parse(&file(b"\x1a\x09/")).is_err());
    }

    #[test]
    fn one_in_another() {
        assert_eq!(dir(b"a"), b"containers/a");
        assert_eq!(dir(b"a/b"), b"containers/a/containers/b");
        assert_eq!(dir(b"a/b/c"), b"containers/a/containers/b/containers/c");
    }
}
