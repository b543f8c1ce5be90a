//! Something that listens where a daemon would, and answers as it likes.

use crate::hostile::{Compiled, Helper};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A running one, which ends when this is dropped. `c/daemon.c` lists what it can be told to do.
#[derive(Debug)]
pub struct FakeDaemon {
    helper: Helper,
    socket: PathBuf,
    dir: Compiled,
}

impl FakeDaemon {
    /// Starts one whose process has this name, as this user, or as root. `words` are the mode and what
    /// goes with it. Everybody may connect.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(name: &str, words: &[&str], user: Option<u32>) -> FakeDaemon {
        FakeDaemon::start_with(name, words, user, 0o755)
    }

    /// The same of a program that this user starts and that has root's rights (setuid).
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_setuid(name: &str, words: &[&str], user: u32) -> FakeDaemon {
        FakeDaemon::start_with(name, words, Some(user), 0o4755)
    }

    fn start_with(name: &str, words: &[&str], user: Option<u32>, mode: u32) -> FakeDaemon {
        let program = Compiled::with("daemon", include_str!("../c/daemon.c"), &[]);
        let dir = program.path.parent().expect("a directory").to_owned();
        let everyone = |path: &Path, mode| {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
        };
        everyone(&dir, 0o711);
        everyone(&program.path, mode);
        let run = program.subdir("run");
        everyone(&run, 0o777);
        let socket = run.join("daemon.sock");
        let mut command = match user {
            None => Command::new(&program.path),
            Some(uid) => {
                let mut command = Command::new("setpriv");
                let uid = uid.to_string();
                command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups"]);
                command.arg(&program.path);
                command
            }
        };
        command.args([name, words[0], "-H"]).arg(format!("unix://{}", socket.display()));
        command.args(&words[1..]);
        let helper = Helper::spawn(command);
        assert_eq!(helper.line().as_deref(), Ok("ready"), "a fake daemon");
        FakeDaemon { helper, socket, dir: program }
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The address of its socket, as variables have it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Its PID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.helper.pid()
    }

    /// A directory that everybody may look into, and that lives as long.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path.parent().expect("a directory")
    }

    /// How many have connected.
    ///
    /// # Panics
    /// When it does not say.
    pub fn connections(&mut self) -> u32 {
        let line = self.helper.ask("count").expect("an answer");
        line.parse().expect("a number")
    }
}

#[cfg(test)]
mod tests {
    use super::FakeDaemon;
    use crate::{procfs, require};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn it_has_its_name_and_counts() {
        if !require(&["cc"]) {
            return;
        }
        let mut daemon = FakeDaemon::start("dockerd", &["garbage"], None);
        assert_eq!(procfs::comm(daemon.pid()).as_deref(), Some("dockerd"));
        assert_eq!(daemon.connections(), 0);
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        assert!(told.starts_with("SSH-2.0"), "{told}");
        assert_eq!(daemon.connections(), 1);
    }
}
