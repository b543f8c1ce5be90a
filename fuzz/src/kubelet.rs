//! Names of the kubelet's files.

use whose_core::model::Pod;
use whose_core::state::kubelet;

/// Any name or path as each of the files' names: what is accepted is what it was made of.
pub(crate) fn names(bytes: &[u8]) {
    if let Some((id, pod)) = kubelet::parse_link(bytes) {
        let (name, namespace) =
            (pod.name.clone().unwrap_or_default(), pod.namespace.clone().unwrap_or_default());
        let container = pod.container.clone().unwrap_or_default();
        let again = [&name[..], b"_", &namespace, b"_", &container, b"-", &id, b".log"].concat();
        assert_eq!(again, bytes);
        check(&pod);
    }
    if let Some(pod) = kubelet::parse_log_dir(bytes) {
        let uid = pod.uid.clone().unwrap_or_default();
        let again = match (&pod.namespace, &pod.name) {
            (Some(namespace), Some(name)) => [&namespace[..], b"_", name, b"_", &uid].concat(),
            _ => uid.to_vec(),
        };
        assert_eq!(again, bytes);
        check(&pod);
    }
    for pod in [kubelet::parse_log_path(bytes), kubelet::parse_mount(bytes)].iter().flatten() {
        assert!(
            pod.uid.as_ref().is_some_and(|uid| bytes.windows(uid.len()).any(|w| w == &uid[..]))
        );
        check(pod);
    }
}

/// A kubelet's configuration.
pub(crate) fn config(bytes: &[u8]) {
    if let Some(path) = kubelet::parse_config(bytes) {
        assert!(path.starts_with(b"/") && !path.contains(&b'\n') && !path.contains(&0));
    }
}

fn check(pod: &Pod) {
    assert!(pod.uid.as_ref().is_none_or(|uid| kubelet::is_uid(uid)));
    for name in [&pod.name, &pod.namespace, &pod.container].into_iter().flatten() {
        assert!(kubelet::is_name(name, 253) && !name.contains(&b'/'));
    }
}
