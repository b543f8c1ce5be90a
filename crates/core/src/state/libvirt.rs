//! What libvirt's LXC driver keeps of a domain, each in a file `<name>.xml`: while it runs what it is and how it goes
//! (`domstatus`), and for as long as it is defined what it is (`domain`) (libvirt src/conf/domain_conf.c,
//! src/lxc/lxc_conf.h, lxc_domain.c).

use bstr::BString;
use whose_kernel::parse::decimal32;

use super::xml::{self, Node};

/// Largest file taken, bytes.
pub const CAP: usize = 4 << 20;
/// How such files' names end.
pub const ENDING: &[u8] = b".xml";

/// libvirt's words for how a domain goes (`virDomainState`), in its own order.
pub const STATES: [&str; 8] =
    ["nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended"];

/// A domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    /// Its name.
    pub name: BString,
    /// Its number while it runs: the PID of its controller.
    pub id: Option<BString>,
    /// How it goes, one of [`STATES`]; none of what is only defined.
    pub state: Option<&'static str>,
    /// PID of its first process.
    pub init: Option<u32>,
    /// The directory of the host that is its root.
    pub root: Option<BString>,
}

/// Parses either file.
///
/// # Errors
/// When it is neither, or of a domain of another driver.
pub fn parse(bytes: &[u8]) -> Result<Domain, String> {
    let document = xml::parse(bytes)?;
    let root = document.root();
    let status = (root.element().name == "domstatus").then_some(root);
    let domain = status.map_or(Some(root), |status| status.first("domain"));
    let domain = domain.filter(|domain| domain.element().name == "domain").ok_or("no domain")?;
    if domain.element().get("type").is_none_or(|kind| kind != "lxc") {
        return Err("a domain of another driver".into());
    }
    let name = domain.text_of("name").filter(|name| !name.is_empty()).ok_or("it has no name")?;
    let number = |text: &BString| decimal32(text).filter(|pid| *pid > 0);
    let state = status.and_then(|status| status.element().get("state"));
    let init = status.and_then(|status| status.first("init")?.element().get("pid"));
    Ok(Domain {
        name: name.into(),
        id: domain.element().get("id").filter(|id| number(id).is_some()).cloned(),
        state: state.and_then(|word| STATES.into_iter().find(|known| word == known)),
        init: init.and_then(number),
        root: root_of(domain),
    })
}

/// The directory that a domain mounts as its root.
fn root_of(domain: Node<'_>) -> Option<BString> {
    let is_root = |node: &Node<'_>| {
        let target = node.first("target").and_then(|target| target.element().get("dir"));
        target.is_some_and(|dir| dir == "/")
    };
    let all = domain.first("devices")?.all("filesystem");
    let mounted = all.filter(is_root).last()?;
    // Others are images, block devices, or templates of another driver.
    if mounted.element().get("type").is_some_and(|kind| kind != "mount") {
        return None;
    }
    let dir = mounted.first("source")?.element().get("dir")?;
    dir.starts_with(b"/").then(|| dir.clone())
}

#[cfg(test)]
mod tests {
    use super::{Domain, parse};

    const DOMAIN: &str = "<name>web_1</name><uuid>78177d07-ac0e-4057-b1de-9ccd66cbc3d7</uuid>\
        <os><type>exe</type><initenv name='A'>secret</initenv></os><devices>\
        <filesystem type='mount'><source dir='/srv'/><target dir='/data'/></filesystem>\
        <filesystem type='mount' accessmode='passthrough'><source dir='/m/web&amp;1'/><target dir='/'/>\
        </filesystem></devices></domain>";

    #[test]
    fn one_that_runs_and_one_that_is_defined() {
        let live = format!(
            "<!--\nWARNING: generated\n-->\n<domstatus state='running' reason='booted' pid='4321'>\n  \
             <init pid='4325'/>\n  <domain type='lxc' id='4321'>{DOMAIN}</domstatus>\n"
        );
        let wanted = Domain {
            name: "web_1".into(),
            id: Some("4321".into()),
            state: Some("running"),
            init: Some(4325),
            root: Some("/m/web&1".into()),
        };
        assert_eq!(parse(live.as_bytes()), Ok(wanted.clone()));
        let defined = format!("<domain type='lxc'>{DOMAIN}");
        let wanted = Domain { id: None, state: None, init: None, ..wanted };
        assert_eq!(parse(defined.as_bytes()), Ok(wanted));
    }

    #[test]
    fn what_is_none_and_what_says_little() {
        for none in [
            "<domain type='kvm'><name>a</name></domain>",
            "<domain><name>a</name></domain>",
            "<domain type='lxc'/>",
            "<domain type='lxc'><name> </name></domain>",
            "<domstatus state='running'/>",
            "<network><name>a</name></network>",
            "NAME=a",
        ] {
            assert!(parse(none.as_bytes()).is_err(), "{none}");
        }
        let text = "<domstatus state='odd' pid='1'><init pid='0'/><domain type='lxc' id='x'><name>a</name>\
                    <devices><filesystem type='file'><source file='/i'/><target dir='/'/></filesystem></devices>\
                    </domain></domstatus>";
        let only = Domain { name: "a".into(), ..Domain::default() };
        assert_eq!(parse(text.as_bytes()), Ok(only));
    }
}
