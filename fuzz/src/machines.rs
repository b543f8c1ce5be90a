//! What LXC, LXD, systemd-machined, libvirt, runc, crun, youki, Flatpak and Apptainer write down.

use std::fmt::Debug;

use whose_core::state::{apptainer, flatpak, libvirt, lxc, lxd, machined, nspawn, oci, xml, yaml};

/// Whatever is refused is refused with a reason on one line.
pub(crate) fn told<T: Debug>(read: Result<T, String>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(why) => {
            assert!(!why.is_empty() && !why.contains('\n'), "{why:?}");
            None
        }
    }
}

pub(crate) fn lxc_config(bytes: &[u8]) {
    let config = lxc::parse(bytes);
    assert!(config.root_dir().is_none_or(|path| path.starts_with(b"/")));
    assert!(config.image().is_none_or(|image| image.iter().filter(|b| **b == b'/').count() >= 2));
}

pub(crate) fn flatpak(bytes: &[u8]) {
    let instance = flatpak::parse(bytes);
    assert!(instance.reference().is_none_or(|r| r.iter().filter(|b| **b == b'/').count() >= 2));
    assert!(instance.id.is_none_or(|id| !id.is_empty()));
    assert_ne!(told(flatpak::child(bytes)), Some(Some(0)));
}

pub(crate) fn apptainer(bytes: &[u8]) {
    if let Some(instance) = told(apptainer::parse(bytes)) {
        assert_ne!(instance.pid, Some(0));
        assert!(instance.log.is_none_or(|path| path.starts_with(b"/")));
    }
}

pub(crate) fn yaml(bytes: &[u8]) {
    if let Some(document) = told(yaml::parse(bytes)) {
        // What follows adds to it and changes nothing.
        let more = yaml::parse(&[bytes, b"\nzz:\n  yy: xx\n"].concat());
        if let Ok(more) = more
            && document.get(&["zz", "yy"]).is_none()
        {
            assert_eq!(more.get(&["container", "name"]), document.get(&["container", "name"]));
        }
    }
}

pub(crate) fn lxd_backup(bytes: &[u8]) {
    if let Some(instance) = told(lxd::parse(bytes)) {
        assert!(!instance.name.is_empty());
    }
}

pub(crate) fn machine(bytes: &[u8]) {
    let machine = machined::parse(bytes);
    assert!(machine.leader != Some(0));
    assert!(machine.root.is_none_or(|root| root.starts_with(b"/")));
}

pub(crate) fn libvirt_domain(bytes: &[u8]) {
    // A text is never longer than what stands for it.
    if let Some(document) = told(xml::parse(bytes)) {
        let root = document.root().element();
        assert!(!root.name.is_empty());
        let text = [&root.name[..], &root.text].concat();
        assert!(text.len() <= bytes.len());
    }
    if let Some(domain) = told(libvirt::parse(bytes)) {
        assert!(!domain.name.is_empty());
        assert_ne!(domain.init, Some(0));
        assert!(domain.root.is_none_or(|root| root.starts_with(b"/")));
        assert!(domain.id.is_none_or(|id| id.iter().all(u8::is_ascii_digit)));
    }
}

pub(crate) fn nspawn_settings(bytes: &[u8]) {
    let settings = nspawn::parse(bytes);
    let paths = settings.mounts.iter().flat_map(|m| [Some(&m.at), m.from.as_ref()]).flatten();
    paths.for_each(|path| assert!(path.starts_with(b"/")));
}

pub(crate) fn oci_state(bytes: &[u8]) {
    drop(told(oci::youki_cgroup(bytes)));
    for parse in [oci::runc, oci::crun, oci::youki] {
        if let Some(container) = told(parse(bytes)) {
            assert!(container.cgroups.iter().all(|path| path.starts_with(b"/") && path.len() > 1));
        }
    }
}
