//! Where daemons may be asked: what the environment and the user's own files name, and the usual
//! places. Nothing but sockets of this machine; nothing is touched but the files that are read.

use bstr::{BStr, BString, ByteSlice};
use data_encoding::HEXLOWER;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use whose_core::model::Engine;
use whose_core::model::daemon::Socket;

use crate::json;

/// The value of a variable.
pub type Variable<'e> = dyn Fn(&str) -> Option<BString> + 'e;
/// The content of a small file, by its path.
pub type ReadFile<'e> = dyn Fn(&BStr) -> Option<Vec<u8>> + 'e;

/// What is known of whoever asks.
pub struct Environment<'e> {
    /// Variables of the environment.
    pub variable: Box<Variable<'e>>,
    /// Files of his.
    pub read: Box<ReadFile<'e>>,
    /// His uid.
    pub uid: u32,
    /// His home directory.
    pub home: Option<BString>,
}

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("uid", &self.uid).finish_non_exhaustive()
    }
}

impl Environment<'_> {
    fn set(&self, name: &str) -> Option<BString> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    /// His runtime directory.
    fn runtime_dir(&self) -> BString {
        self.set("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/run/user/{}", self.uid).into())
    }

    fn home(&self) -> Option<BString> {
        self.set("HOME").or_else(|| self.home.clone())
    }
}

/// The usual sockets of Docker.
const DOCKER: [&str; 2] = ["/run/docker.sock", "/var/run/docker.sock"];
/// Of Podman.
const PODMAN: &str = "/run/podman/podman.sock";
/// Of LXD: of the distribution's and of the snap package's.
const LXD: [&str; 2] = ["/var/lib/lxd/unix.socket", "/var/snap/lxd/common/lxd/unix.socket"];
/// Of Incus.
const INCUS: [&str; 2] = ["/run/incus/unix.socket", "/var/lib/incus/unix.socket"];

/// The sockets of an engine, likeliest first, each once.
#[must_use]
pub fn sockets(engine: Engine, env: &Environment<'_>) -> Vec<Socket> {
    let mut named: Vec<(Option<BString>, Option<&'static str>)> = Vec::new();
    let usual = |path: &str| (Some(BString::from(path)), None);
    let under = |dir: Option<BString>, file: &str| dir.map(|dir| joined(&dir, file));
    match engine.0 {
        "docker" => {
            let (path, by) = docker(env);
            named.push((path, Some(by)));
            named.extend(DOCKER.map(usual));
            named.push((under(Some(env.runtime_dir()), "docker.sock"), None));
        }
        "podman" => {
            let host = env.set("CONTAINER_HOST").and_then(|url| unix(&url));
            named.push((host, Some("CONTAINER_HOST")));
            named.push(usual(PODMAN));
            named.push((under(Some(env.runtime_dir()), "podman/podman.sock"), None));
        }
        "lxd" | "incus" => {
            let (socket, dir, places) = match engine.0 {
                "lxd" => ("LXD_SOCKET", "LXD_DIR", LXD),
                _ => ("INCUS_SOCKET", "INCUS_DIR", INCUS),
            };
            named.push((env.set(socket), Some(socket)));
            named.push((under(env.set(dir), "unix.socket"), Some(dir)));
            named.extend(places.map(usual));
        }
        _ => {}
    }
    let mut sockets: Vec<Socket> = Vec::new();
    for (path, named_by) in named {
        let Some(path) = path.filter(|path| path.starts_with(b"/")) else { continue };
        if sockets.iter().all(|known| known.path != path) {
            sockets.push(Socket { engine, path, named_by });
        }
    }
    sockets
}

/// What docker's own commands would ask, in their order (docker cli/command/cli.go): `DOCKER_HOST`, the
/// context of `DOCKER_CONTEXT`, the current one of the configuration.
fn docker(env: &Environment<'_>) -> (Option<BString>, &'static str) {
    if let Some(url) = env.set("DOCKER_HOST") {
        return (unix(&url), "DOCKER_HOST");
    }
    let dir = env.set("DOCKER_CONFIG").or_else(|| Some(joined(&env.home()?, ".docker")));
    let Some(dir) = dir else { return (None, "a docker context") };
    let current = || {
        let bytes = (env.read)(joined(&dir, "config.json").as_ref())?;
        parse_config(&bytes).ok()?
    };
    let context = env.set("DOCKER_CONTEXT").or_else(current).filter(|name| name != "default");
    let host = context.and_then(|name| {
        // Its folder is called by the hash of its name (docker cli/context/store).
        let folder = HEXLOWER.encode(&Sha256::digest(&name));
        let bytes = (env.read)(joined(&dir, &format!("contexts/meta/{folder}/meta.json")).as_ref());
        let (own, host) = parse_context(&bytes?).ok()?;
        host.filter(|_| own == name)
    });
    (host.and_then(|url| unix(&url)), "a docker context")
}

/// The path of a socket of this machine that an address names.
#[must_use]
pub fn unix(url: &[u8]) -> Option<BString> {
    let path = url.strip_prefix(b"unix:")?;
    let path = path.strip_prefix(b"//").unwrap_or(path);
    let plain = path.starts_with(b"/") && !path.contains(&0);
    plain.then(|| path.into())
}

fn joined(dir: &[u8], file: &str) -> BString {
    [dir.trim_end_with(|c| c == '/').as_bytes(), b"/", file.as_bytes()].concat().into()
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    current_context: Option<String>,
}

/// The current context that docker's configuration names, if it does.
///
/// # Errors
/// What is wrong with the file.
pub fn parse_config(bytes: &[u8]) -> Result<Option<BString>, String> {
    let config: Config = json(bytes)?;
    Ok(config.current_context.filter(|name| !name.is_empty()).map(BString::from))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Context {
    name: String,
    endpoints: Endpoints,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoints {
    docker: Endpoint,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Endpoint {
    host: Option<String>,
}

/// A context's name and the address of its daemon.
///
/// # Errors
/// What is wrong with the file.
pub fn parse_context(bytes: &[u8]) -> Result<(BString, Option<BString>), String> {
    let context: Context = json(bytes)?;
    Ok((context.name.into(), context.endpoints.docker.host.map(BString::from)))
}

/// Bytes as one segment of a path in a request (RFC 3986): all but letters, digits and `-._~` by their
/// numbers.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bstr::BString;
    use data_encoding::HEXLOWER;
    use sha2::{Digest, Sha256};
    use whose_core::model::Engine;

    use super::{Environment, parse_config, parse_context, sockets, unix};

    fn paths(engine: &'static str, set: &[(&str, &str)], files: &[(&str, &str)]) -> Vec<String> {
        let owned = |pairs: &[(&str, &str)]| -> HashMap<BString, BString> {
            pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
        };
        let (set, files) = (owned(set), owned(files));
        let env = Environment {
            variable: Box::new(move |name| set.get(name.as_bytes()).cloned()),
            read: Box::new(move |path| files.get(path).map(|text| text.to_vec())),
            uid: 1000,
            home: Some("/home/alice".into()),
        };
        sockets(Engine(engine), &env).into_iter().map(|s| s.path.to_string()).collect()
    }

    const USUAL: [&str; 3] =
        ["/run/docker.sock", "/var/run/docker.sock", "/run/user/1000/docker.sock"];

    #[test]
    fn the_usual_places_come_last() {
        assert_eq!(paths("docker", &[], &[]), USUAL);
        let named = paths("docker", &[("DOCKER_HOST", "unix:///srv/d.sock")], &[]);
        assert_eq!(named[0], "/srv/d.sock");
        assert_eq!(named[1..], USUAL);
        let twice = paths("docker", &[("DOCKER_HOST", "unix:///var/run/docker.sock")], &[]);
        assert_eq!(twice[..2], ["/var/run/docker.sock", "/run/docker.sock"]);
        let moved = paths("podman", &[("XDG_RUNTIME_DIR", "/x/")], &[]);
        assert_eq!(moved, ["/run/podman/podman.sock", "/x/podman/podman.sock"]);
        let lxd = paths("lxd", &[("LXD_DIR", "/srv/lxd"), ("LXD_SOCKET", "/s")], &[]);
        assert_eq!(lxd[..3], ["/s", "/srv/lxd/unix.socket", "/var/lib/lxd/unix.socket"]);
        assert_eq!(paths("incus", &[], &[])[0], "/run/incus/unix.socket");
        assert!(paths("containerd", &[], &[]).is_empty());
    }

    #[test]
    fn a_context_is_found_as_docker_finds_it() {
        let folder = HEXLOWER.encode(&Sha256::digest("lab"));
        let meta = format!("/home/alice/.docker/contexts/meta/{folder}/meta.json");
        let context = r#"{"Name":"lab","Endpoints":{"docker":{"Host":"unix:///c.sock"}}}"#;
        let config = ("/home/alice/.docker/config.json", r#"{"currentContext":"lab","auths":{}}"#);
        let files = [config, (meta.as_str(), context)];
        assert_eq!(paths("docker", &[], &files)[0], "/c.sock");
        assert_eq!(paths("docker", &[("DOCKER_CONTEXT", "lab")], &files[1..])[0], "/c.sock");
        assert_eq!(paths("docker", &[("DOCKER_CONTEXT", "default")], &files), USUAL);
        assert_eq!(paths("docker", &[("DOCKER_HOST", "unix:///h")], &files)[0], "/h");
        // The folder of one context with the name of another.
        let other = context.replace("lab", "other");
        assert_eq!(paths("docker", &[], &[config, (&meta, &other)]), USUAL);
        assert_eq!(paths("docker", &[("DOCKER_CONFIG", "/elsewhere")], &files), USUAL);
    }

    #[test]
    fn other_machines_are_not_asked() {
        for url in ["tcp://127.0.0.1:2375", "ssh://lab", "unix://relative", "npipe:////x", "/x", ""]
        {
            assert_eq!(unix(url.as_bytes()), None, "{url}");
            assert_eq!(paths("docker", &[("DOCKER_HOST", url)], &[]), USUAL, "{url}");
        }
        assert_eq!(unix(b"unix:/a").unwrap(), "/a");
    }

    #[test]
    fn damage_is_said() {
        assert_eq!(parse_config(b"7").unwrap_err(), "JSON of another shape");
        assert_eq!(parse_config(b"{}").unwrap(), None);
        assert_eq!(parse_context(b"{\"Name\":\"x\"}").unwrap(), ("x".into(), None));
        assert!(parse_context(b"{\"Name\":7}").is_err());
    }
}
