//! What is asked of an engine's running daemon, and what it says: names for containers that the
//! kernel shows already. Whoever speaks its protocol is no part of this crate.

use std::fmt::Debug;
use std::time::Instant;

use bstr::{BStr, BString};

use super::Engine;
use super::gap::ReadError;

/// A socket at which a daemon may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Whose it is said to be.
    pub engine: Engine,
    /// Its path.
    pub path: BString,
    /// What names it, a variable or a file; `None` for the usual place.
    pub named_by: Option<&'static str>,
}

/// Who has to be at the other end of a socket before anything is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The daemon's PID; of several with the same arguments one is it.
    pub pids: Vec<u32>,
    /// Its effective uid.
    pub uid: u32,
    /// Whether it may have the socket from whoever started it: then that one is seen at the other end.
    pub is_handed: bool,
    /// What is connected to: the very socket that was looked at, whatever has its name by now.
    pub at: BString,
}

/// What a daemon says of one container. Words and times are as it writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Full id; of LXD and Incus the name that the cgroup has.
    pub id: BString,
    /// Name.
    pub name: Option<BString>,
    /// Image as it was asked for.
    pub image: Option<BString>,
    /// Image id.
    pub image_id: Option<BString>,
    /// Labels, sorted by name.
    pub labels: Vec<(BString, BString)>,
    /// The engine's word for its state.
    pub state: Option<String>,
    /// Creation, RFC 3339.
    pub created: Option<String>,
    /// Last start, RFC 3339.
    pub started: Option<String>,
    /// The init process's PID.
    pub pid: Option<u32>,
    /// The log file.
    pub log: Option<BString>,
    /// Id and name of the engine's own pod that it is in.
    pub pod: Option<(BString, Option<BString>)>,
    /// Whether it holds the namespaces of such a pod.
    pub is_sandbox: bool,
    /// Whether all of this was asked for: what is not there then does not apply.
    pub is_whole: bool,
}

/// Someone who speaks the protocols of daemons.
pub trait Daemons: Debug {
    /// The sockets of an engine's daemons, likeliest first. Nothing is connected to.
    fn sockets(&self, engine: Engine) -> Vec<Socket>;

    /// All containers of the daemon, running or not.
    ///
    /// # Errors
    /// `timed-out`, `forbidden` when someone else is at the other end or may connect only, `malformed`
    /// for what is no answer.
    fn list(&self, socket: &Socket, peer: &Peer, until: Instant) -> Result<Vec<Told>, ReadError>;

    /// All that it says of one container.
    ///
    /// # Errors
    /// As [`Daemons::list`]; `gone` when it does not have the container.
    fn inspect(
        &self,
        socket: &Socket,
        peer: &Peer,
        id: &BStr,
        until: Instant,
    ) -> Result<Told, ReadError>;
}
