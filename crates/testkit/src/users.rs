//! Ordinary users, made for one test.

use crate::call::{ended, said};
use crate::procfs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long one of the tools may take.
const CALL: Duration = Duration::from_secs(30);

/// A user with a home, a runtime directory and subordinate ids. When this is dropped, all of it
/// goes, and whatever still runs under one of the ids is killed.
#[derive(Debug)]
pub struct LabUser {
    name: String,
    uid: u32,
    home: PathBuf,
}

impl LabUser {
    /// Makes one.
    ///
    /// # Errors
    /// What did not work.
    pub fn new() -> Result<LabUser, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("whoselab{}n{count}", std::process::id());
        let home = Path::new("/home").join(&name);
        let mut useradd = Command::new("useradd");
        useradd.args(["--create-home", "--user-group", "--shell", "/bin/sh", "--home-dir"]);
        said(useradd.arg(&home).arg(&name), CALL)?;
        let mut user = LabUser { name, uid: 0, home };
        let uid = said(Command::new("id").args(["-u", &user.name]), CALL)?;
        user.uid = uid.parse().map_err(|e| format!("{uid}: {e}"))?;
        let mut install = Command::new("install");
        install.args(["-d", "-m", "700", "-o", &user.name, "-g", &user.name]);
        said(install.arg(user.runtime_dir()), CALL)?;
        Ok(user)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The uid.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// `/run/user/UID`.
    #[must_use]
    pub fn runtime_dir(&self) -> PathBuf {
        Path::new("/run/user").join(self.uid.to_string())
    }

    /// The first subordinate uid and their number, as `/etc/subuid` has them.
    #[must_use]
    pub fn subordinates(&self) -> Option<(u32, u32)> {
        let text = std::fs::read_to_string("/etc/subuid").ok()?;
        text.lines().find_map(|line| {
            let mut parts = line.split(':');
            (parts.next() == Some(&self.name)).then_some(())?;
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        })
    }

    /// What runs under one of the user's ids.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let range = self.subordinates();
        let own = |uid: u32| {
            uid == self.uid
                || range.is_some_and(|(first, count)| (first..first + count).contains(&uid))
        };
        let alive = procfs::pids().into_iter().filter(|pid| procfs::alive(*pid));
        alive.filter(|pid| procfs::uid(*pid).is_some_and(own)).collect()
    }
}

impl Drop for LabUser {
    fn drop(&mut self) {
        // Without a uid of its own nothing was started.
        if self.uid > 0 && !ended(|| self.processes()) {
            eprintln!("cleaning up after user {}: a process does not die", self.name);
        }
        // The files may belong to any of the ids.
        let runtime_dir = (self.uid > 0).then(|| self.runtime_dir());
        for dir in runtime_dir.iter().chain([&self.home]) {
            drop(said(Command::new("rm").args(["-rf", "--one-file-system"]).arg(dir), CALL));
        }
        if let Err(why) = said(Command::new("userdel").arg(&self.name), CALL) {
            eprintln!("cleaning up after user {}: {why}", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LabUser;
    use crate::{procfs, require};
    use std::process::Command;

    #[test]
    fn a_user_comes_and_goes() {
        if !require(&["root", "useradd", "setpriv"]) {
            return;
        }
        let user = LabUser::new().unwrap();
        let (name, home, run) =
            (user.name().to_owned(), user.home().to_owned(), user.runtime_dir());
        assert!(home.is_dir() && run.is_dir() && user.subordinates().is_some());
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &name, "--regid", &name, "--clear-groups", "sleep", "100"]);
        let mut child = command.spawn().unwrap();
        procfs::wait_for("a process of the user", std::time::Duration::from_secs(10), || {
            (user.processes() == [child.id()]).then_some(())
        });
        drop(user);
        child.wait().unwrap();
        assert!(!home.exists() && !run.exists());
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        assert!(!passwd.contains(&name));
    }
}
