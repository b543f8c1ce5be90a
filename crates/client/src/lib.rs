//! What running daemons say of their containers: Docker, Podman, LXD and Incus, over HTTP/1.1 on
//! their unix sockets. Blocking, with a deadline, and without any other program.
//!
//! It decides nothing: whether a daemon is asked at all, and what counts of its answer, is core's.
//! Whoever is at the other end may answer anything, or nothing, for ever.

mod connection;
pub mod docker;
pub mod http;
pub mod lxd;
pub mod places;
pub mod podman;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

use bstr::{BStr, BString};
use whose_core::model::Engine;
use whose_core::model::daemon::{Daemons, Peer, Socket, Told};
use whose_core::model::gap::{Class, ReadError};

use places::Environment;

/// Speaks the protocols, at the sockets that an environment names and at the usual ones.
pub struct Client<'e> {
    environment: Environment<'e>,
    sockets: RefCell<HashMap<Engine, Vec<Socket>>>,
}

impl fmt::Debug for Client<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl<'e> Client<'e> {
    /// A client that has looked at nothing yet.
    #[must_use]
    pub fn new(environment: Environment<'e>) -> Self {
        Self { environment, sockets: RefCell::default() }
    }
}

impl Daemons for Client<'_> {
    fn sockets(&self, engine: Engine) -> Vec<Socket> {
        let mut sockets = self.sockets.borrow_mut();
        sockets.entry(engine).or_insert_with(|| places::sockets(engine, &self.environment)).clone()
    }

    fn list(&self, socket: &Socket, peer: &Peer, until: Instant) -> Result<Vec<Told>, ReadError> {
        let (path, parse): (&str, ParseList) = match socket.engine.0 {
            "docker" => (docker::LIST, docker::parse_list),
            "podman" => (podman::LIST, podman::parse_list),
            "lxd" | "incus" => (lxd::LIST, lxd::parse_list),
            _ => return Err(speechless(socket)),
        };
        let body = get(socket, peer, path, until)?;
        parse(&body).map_err(|why| ReadError::new(socket.path.clone(), Class::Malformed, why))
    }

    fn inspect(
        &self,
        socket: &Socket,
        peer: &Peer,
        id: &BStr,
        until: Instant,
    ) -> Result<Told, ReadError> {
        let (path, parse): (String, One) = match socket.engine.0 {
            "docker" => (docker::one(id), docker::parse_one),
            "podman" => (podman::one(id), podman::parse_one),
            // The list has it all.
            _ => {
                let told = self.list(socket, peer, until)?.into_iter().find(|told| told.id == id);
                let gone = || ReadError::new(socket.path.clone(), Class::Gone, "no such container");
                return told.ok_or_else(gone);
            }
        };
        let body = get(socket, peer, &path, until)?;
        parse(&body).map_err(|why| ReadError::new(socket.path.clone(), Class::Malformed, why))
    }
}

type ParseList = fn(&[u8]) -> Result<Vec<Told>, String>;
type One = fn(&[u8]) -> Result<Told, String>;

/// The body of an answer that says it is one.
fn get(socket: &Socket, peer: &Peer, path: &str, until: Instant) -> Result<Vec<u8>, ReadError> {
    let answer = connection::get(socket.path.as_ref(), peer, path, until)?;
    let class = match answer.status {
        200 => return Ok(answer.body),
        404 => Class::Gone,
        401 | 403 => Class::Forbidden,
        _ => Class::Unsupported,
    };
    let why = format!("it answers with status {}", answer.status);
    Err(ReadError::new(socket.path.clone(), class, why))
}

fn speechless(socket: &Socket) -> ReadError {
    let why = format!("{} has no daemon that can be asked", socket.engine.0);
    ReadError::new(socket.path.clone(), Class::Unsupported, why)
}

/// Reads JSON of a daemon's; an error says what is wrong with it in one line.
pub(crate) fn json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => "JSON of another shape".to_owned(),
        serde_json::error::Category::Eof => "JSON cut short".to_owned(),
        _ => "not JSON".to_owned(),
    })
}

/// Containers that a daemon may tell of.
const MOST: usize = 100_000;

/// A list that is not longer than that.
#[derive(Debug)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<'d, T: serde::Deserialize<'d>> serde::Deserialize<'d> for List<T> {
    fn deserialize<D: serde::Deserializer<'d>>(from: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);
        impl<'d, T: serde::Deserialize<'d>> serde::de::Visitor<'d> for Visitor<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MOST}")
            }

            fn visit_seq<A>(self, mut from: A) -> Result<List<T>, A::Error>
            where
                A: serde::de::SeqAccess<'d>,
            {
                let mut all = Vec::new();
                while let Some(one) = from.next_element()? {
                    if all.len() == MOST {
                        return Err(serde::de::Error::invalid_length(MOST + 1, &self));
                    }
                    all.push(one);
                }
                Ok(List(all))
            }
        }
        from.deserialize_seq(Visitor(std::marker::PhantomData))
    }
}

/// A text, unless it is empty.
pub(crate) fn text(text: impl Into<BString>) -> Option<BString> {
    let text = text.into();
    (!text.is_empty()).then_some(text)
}

/// Labels, sorted by name.
pub(crate) fn labels(
    labels: Option<std::collections::BTreeMap<String, String>>,
) -> Vec<(BString, BString)> {
    labels.unwrap_or_default().into_iter().map(|(k, v)| (k.into(), v.into())).collect()
}

/// A PID; 0 and what is none stands for no process.
pub(crate) fn pid(number: i64) -> Option<u32> {
    u32::try_from(number).ok().filter(|pid| *pid > 0)
}
