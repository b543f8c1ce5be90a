//! An archive as the kernel takes it for an initramfs: cpio's format `newc`, see
//! Documentation/driver-api/early-userspace/buffer-format.rst.

/// An archive being written.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DEVICE: u32 = 0o020_600;
const END: &str = "TRAILER!!!";

impl Archive {
    /// A directory.
    pub(super) fn dir(&mut self, path: &str) {
        self.entry(path, DIRECTORY, (0, 0), &[]);
    }

    /// A file that may be run.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, (0, 0), content);
    }

    /// A character device.
    pub(super) fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, DEVICE, (major, minor), &[]);
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry(END, 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let (name, size) = (path.len() + 1, content.len());
        let links = u32::from(mode != 0);
        // Magic; inode, mode, owner, group, links, mtime; size; the file system's device; the
        // device itself; length of the name with its zero; no checksum.
        let head = format!(
            "070701{:08X}{mode:08X}{:08X}{:08X}{links:08X}{:08X}{size:08X}{:08X}{:08X}{:08X}{:08X}\
             {name:08X}{:08X}",
            self.entries, 0, 0, 0, 0, 0, device.0, device.1, 0
        );
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn an_entry_is_as_documented() {
        let mut archive = Archive::default();
        archive.file("ab", b"hello");
        let bytes = archive.finish();
        let head = "070701000000010000\
                    81ED000000000000000000000001000000000000000500000000000000000000000000000000\
                    0000000300000000";
        assert_eq!(&bytes[..110], head.as_bytes());
        // The name ends at 113, the content begins at the next multiple of four.
        assert_eq!(&bytes[110..124], b"ab\0\0\0\0hello\0\0\0");
    }

    #[test]
    fn the_end_is_marked_and_aligned() {
        let mut archive = Archive::default();
        archive.dir("d");
        archive.device("d/console", 5, 1);
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let end = b"TRAILER!!!\0";
        assert!(bytes.windows(end.len()).any(|window| window == end));
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("00002180"), "{text}");
        assert!(text.contains("0000000500000001"), "{text}");
    }
}
