//! `network/files/local-kv.db` of Docker's data root: the endpoints of running containers in their networks, which have their
//! containers' names.
//!
//! A bbolt database with the bucket `libnetwork` (moby's libnetwork: endpoint.go, sandbox_store.go, datastore/). An endpoint's
//! key is `docker/network/v1.0/endpoint/NETWORK/ENDPOINT/`, a sandbox's `docker/network/v1.0/sandbox/SANDBOX/`; the value is
//! eight bytes of a counter and JSON.

use std::ops::ControlFlow;

use bstr::{BStr, BString, ByteSlice};
use memchr::memmem;
use serde::Deserialize;
use whose_kernel::ReadError;
use whose_kernel::root::Root;

use super::bolt::{Bucket, Database, Source, Trouble};

const FILE: &[u8] = b"network/files/local-kv.db";
const BUCKET: &[u8] = b"libnetwork";
const KEYS: &[u8] = b"docker/network/v1.0/";
/// Bytes before the JSON.
const COUNTER: usize = 8;
/// Endpoints of one name that are followed: a container has one in each of its networks.
const MOST: usize = 64;

#[derive(Deserialize)]
struct Endpoint {
    #[serde(default)]
    name: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Sandbox {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Cid", default)]
    container: String,
}

/// The ids of containers that have endpoints of this name: where to look first for a container of the name. It may have been
/// renamed, and who is in no network has none.
///
/// # Errors
/// The read's, or `malformed`.
pub fn named(root: &Root, name: &BStr) -> Result<Vec<BString>, ReadError> {
    named_in(&Database::open_unrecorded(root, FILE)?, name)
}

/// The same of a database.
///
/// # Errors
/// As [`named`].
pub fn named_in<S: Source>(database: &Database<S>, name: &BStr) -> Result<Vec<BString>, ReadError> {
    database.view(|top| match top.bucket(BUCKET)? {
        Some(all) => containers(&all, name),
        None => Ok(Vec::new()),
    })
}

fn containers(all: &Bucket<'_>, name: &BStr) -> Result<Vec<BString>, Trouble> {
    let text = memmem::Finder::new(name);
    let (mut sandboxes, mut found): (Vec<String>, Vec<BString>) = (Vec::new(), Vec::new());
    // Endpoints come before sandboxes.
    all.walk(&mut |item| {
        let Some(kind) = item.key()?.strip_prefix(KEYS).and_then(|key| key.split_str("/").next())
        else {
            return Ok(ControlFlow::Continue(()));
        };
        let json = item.value()?.and_then(|value| value.get(COUNTER..)).unwrap_or_default();
        if kind == b"endpoint" && sandboxes.len() < MOST && text.find(json).is_some() {
            let endpoint: Option<Endpoint> = serde_json::from_slice(json).ok();
            let its = endpoint.filter(|e| e.name.as_bytes() == name.as_bytes());
            sandboxes.extend(its.map(|endpoint| endpoint.sandbox));
        } else if kind == b"sandbox" {
            if sandboxes.is_empty() {
                return Ok(ControlFlow::Break(()));
            }
            let sandbox: Option<Sandbox> = serde_json::from_slice(json).ok();
            let its = sandbox.filter(|s| sandboxes.contains(&s.id));
            let id = its.map(|sandbox| BString::from(sandbox.container));
            found.extend(id.filter(|id| !found.contains(id)));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use bstr::{BStr, BString};
    use whose_testkit::bolt::{Bucket, Layout, file};

    use super::named_in;
    use crate::state::bolt::Database;

    fn value(json: &str) -> Vec<u8> {
        [&7_u64.to_le_bytes()[..], json.as_bytes()].concat()
    }

    fn of(bucket: &Bucket, name: &str) -> Vec<BString> {
        named_in(&Database::over(file(bucket, Layout::default())), BStr::new(name)).unwrap()
    }

    #[test]
    fn a_name_leads_by_its_endpoints_to_containers() {
        let mut root = Bucket::default();
        let all = root.bucket("libnetwork");
        let key = |rest: &str| format!("docker/network/v1.0/{rest}/");
        for (at, name, sandbox) in
            [(1, "web", "s1"), (2, "db", "s2"), (3, "web", "s1"), (4, "web", "s9")]
        {
            let json =
                format!(r#"{{"name":"{name}","id":"e{at}","sandbox":"{sandbox}","generic":{{}}}}"#);
            all.put(key(&format!("endpoint/n{at}/e{at}")), value(&json));
        }
        let long = format!(r#"{{"name":"other","aliases":["web"],"pad":"{}"}}"#, "x".repeat(9000));
        all.put(key("endpoint/n5/e5"), value(&long));
        all.put(key("endpoint/n6/e6"), value("not JSON of web"));
        all.put(key("endpoint/n7/e7"), b"web".to_vec());
        for (id, container) in [("s1", "c1"), ("s2", "c2"), ("s3", "c3")] {
            let json = format!(r#"{{"ID":"{id}","Cid":"{container}","Eps":[],"ExtDNS":null}}"#);
            all.put(key(&format!("sandbox/{id}")), value(&json));
        }
        assert_eq!((of(&root, "web"), of(&root, "db")), (vec!["c1".into()], vec!["c2".into()]));
        assert!(of(&root, "we").is_empty() && of(&root, "").is_empty());
        assert!(of(&Bucket::default(), "web").is_empty());
        assert!(named_in(&Database::over(b"no database".to_vec()), BStr::new("web")).is_err());
    }
}
