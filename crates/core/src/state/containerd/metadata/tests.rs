use std::path::Path;
use std::rc::Rc;

use bstr::{BStr, BString};
use memchr::memmem;
use whose_kernel::capture::Recorder;
use whose_kernel::root::{Links, Root};
use whose_kernel::{Class, Host, Options};
use whose_testkit::bolt::{Bucket, Layout, file};

use super::{BlobPart, Cri, FILE, Metadata, Users};
use crate::state::containerd::snapshotter::Snapshotter;

/// What containerd 1.6.20 wrote for one pod with one container, both made over the CRI.
const POD: &[u8] = include_bytes!("../../../../../../fuzz/corpus/bolt/containerd_pod");

#[test]
fn a_pod_is_read_from_what_containerd_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = opened(dir.path(), POD);
    assert_eq!(metadata.namespaces().unwrap(), ["k8s.io"]);
    let all = metadata.containers(b"k8s.io").unwrap();
    let uid = "3d4e5f60-4444-4555-8666-777788889999";
    let (Some(Cri::Sandbox(pod)), Some(Cri::Container(web))) = (&all[0].cri, &all[1].cri) else {
        panic!("{all:?}")
    };
    assert_eq!(all[0].id, pod.id.as_str());
    assert_eq!(pod.name, format!("demo-abc_shop_{uid}_2"));
    let of = &pod.config.metadata;
    assert_eq!((of.name.as_str(), of.namespace.as_str()), ("demo-abc", "shop"));
    assert_eq!((of.uid.as_str(), of.attempt), (uid, 2));
    assert_eq!(pod.net_ns_path, "/var/run/netns/cni-e9264e64-c6ea-d789-38bc-fdd3c4ed0983");
    assert_eq!(pod.config.log_directory, format!("/srv/lab/1/pods/shop_demo-abc_{uid}"));
    let annotations = pod.config.annotations.as_ref().unwrap();
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    assert_eq!(pod.runtime_handler, "");
    assert_eq!(all[0].labels[&BString::from("io.cri-containerd.kind")], "sandbox");
    assert_eq!(all[0].image, "registry.k8s.io/pause:lab");

    assert_eq!(all[1].id, web.id.as_str());
    assert_eq!(web.sandbox_id, pod.id);
    assert_eq!((web.config.metadata.name.as_str(), web.config.metadata.attempt), ("web", 3));
    assert_eq!(web.config.image.image, "docker.io/library/lab-busybox:1");
    assert!(web.image_ref.starts_with("sha256:d43345cc6163"));
    assert_eq!(web.log_path, format!("{}/web/3.log", pod.config.log_directory));
    assert_eq!(web.config.labels.as_ref().unwrap()["io.kubernetes.container.name"], "web");
    assert_eq!(all[1].labels[&BString::from("io.kubernetes.pod.uid")], uid);
    assert_eq!(all[1].image, "docker.io/library/lab-busybox:1");
    assert_eq!(all[1].created, Some(1_795_645_454_062));
    let image = metadata.image(b"k8s.io", b"docker.io/library/lab-busybox:1").unwrap().unwrap();
    assert!(image.starts_with(b"sha256:7aaa67c37047"));
    let users = metadata.users(b"k8s.io", b"overlayfs", &all[1].snapshot_key).unwrap();
    assert_eq!(users.containers, [all[1].id.clone()]);
    let snapshot =
        metadata.snapshot(b"k8s.io", b"overlayfs", &all[1].snapshot_key).unwrap().unwrap();
    let users = metadata.users(b"k8s.io", b"overlayfs", &snapshot.parent).unwrap();
    assert_eq!(users.containers, [all[1].id.clone()]);
    assert!(users.images.contains(&all[1].image), "{:?}", users.images);
}

#[test]
fn a_capture_gets_what_the_tree_reaches_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let engine = dir.path().join("engine");
    std::fs::create_dir(&engine).unwrap();
    drop(opened(&engine, POD));
    assert!(memmem::find(POD, b"secret77").is_some());
    let out = dir.path().join("capture");
    let bytes = |path: &Path| BString::from(path.as_os_str().as_encoded_bytes());
    let recorder = Rc::new(Recorder::create(bytes(&out).as_ref(), |_| None).unwrap());
    let options = Options { recorder: Some(Rc::clone(&recorder)), ..Options::default() };
    let host = Host::open(options).unwrap();
    let root = host.root().descend(&bytes(&engine), Links::Never, None).unwrap();
    let before = Metadata::open(&root).unwrap().containers(b"k8s.io").unwrap();
    // Opened once more, it is not copied once more.
    drop(Metadata::open(&root).unwrap());
    // What can't be read as a whole is not in the capture.
    std::fs::write(engine.join("metadata.db"), &POD[..5000]).unwrap();
    assert!(Snapshotter::open(&root).unwrap().by_id(1).is_err());
    let (entries, _) = recorder.finish(&host).unwrap();
    let unread: Vec<_> =
        entries.iter().filter(|(_, e)| e.is_unread).map(|(path, _)| path).collect();
    assert_eq!(unread.len(), 1);
    assert!(unread[0].ends_with(b"engine/metadata.db"));

    let kept = bytes(&out.join(engine.strip_prefix("/").unwrap()));
    let root = Root::open(kept.as_ref(), Links::Never).unwrap();
    assert_eq!(Metadata::open(&root).unwrap().containers(b"k8s.io").unwrap(), before);
    let content = root.read(FILE, POD.len()).unwrap();
    assert_eq!(memmem::find(&content, b"secret77"), None);
    assert!(memmem::find(&content, b"TOKEN=xxxxxxxx").is_some());
    assert_eq!(root.read(b"metadata.db", 10).unwrap(), b"");
}

fn opened(dir: &Path, bytes: &[u8]) -> Metadata {
    std::fs::create_dir(dir.join("io.containerd.metadata.v1.bolt")).unwrap();
    std::fs::write(dir.join(std::str::from_utf8(FILE).unwrap()), bytes).unwrap();
    let path = BStr::new(dir.as_os_str().as_encoded_bytes());
    Metadata::open(&Root::open(path, Links::Never).unwrap()).unwrap()
}

fn any(json: &str) -> Vec<u8> {
    let mut bytes = vec![0x0a, 1, b't', 0x12];
    let len = json.len();
    bytes.extend([u8::try_from(len & 0x7f).unwrap() | 0x80, u8::try_from(len >> 7).unwrap()]);
    bytes.extend(json.as_bytes());
    bytes
}

/// A host with what containerd keeps of three containers, two images and their layers.
fn database(change: impl Fn(&mut Bucket)) -> (tempfile::TempDir, Metadata) {
    let mut root = Bucket::default();
    let time =
        [&[1][..], &(1_767_323_045_i64 + 62_135_596_800).to_be_bytes(), &[0, 0, 0, 0, 0xff, 0xff]];
    root.path(&["v1"]).put("version", "\x04");
    for (namespace, id, image, name) in
        [("shop", "c1", "app:1", "web"), ("shop", "c2", "app:1", "db"), ("k8s.io", "p1", "", "")]
    {
        let one = root.path(&["v1", namespace, "containers", id]);
        one.put("image", image).put("snapshotter", "overlayfs").put("snapshotKey", id);
        one.put("createdat", time.concat())
            .put("sandboxid", "")
            .put("spec", any(&"s".repeat(9000)));
        one.path(&["runtime"]).put("name", "io.containerd.runc.v2");
        if !name.is_empty() {
            one.path(&["labels"]).put("nerdctl/name", name).put("x", "y");
        }
        let snapshots = root.path(&["v1", namespace, "snapshots", "overlayfs"]);
        snapshots.path(&["top", "children"]).put(id, "");
        snapshots.path(&[id]).put("name", format!("{namespace}/7/{id}")).put("parent", "top");
    }
    let snapshots = root.path(&["v1", "shop", "snapshots", "overlayfs"]);
    snapshots.path(&["top"]).put("name", "shop/2/top").put("parent", "base");
    snapshots.path(&["base", "children"]).put("top", "");
    snapshots.path(&["base"]).put("name", "shop/1/base");
    snapshots.path(&["lone"]).put("name", "shop/3/lone");
    for (name, top) in [("app:1", "top"), ("other:1", "lone")] {
        root.path(&["v1", "shop", "images", name, "target"]).put("digest", format!("index-{top}"));
        let blobs = root.path(&["v1", "shop", "content", "blob"]);
        let (index, manifest, config) =
            (format!("index-{top}"), format!("m-{top}"), format!("c-{top}"));
        let content = "containerd.io/gc.ref.content";
        blobs.path(&[&index, "labels"]).put(format!("{content}.m.0"), manifest.clone());
        blobs.path(&[&manifest, "labels"]).put(format!("{content}.config"), config.clone());
        blobs.path(&[&manifest, "labels"]).put(format!("{content}.l.0"), "layer");
        blobs.path(&[&config, "labels"]).put("containerd.io/gc.ref.snapshot.overlayfs", top);
    }
    let json = r#"{"Version":"v1","Metadata":{"ID":"p1","Name":"demo_shop_u_0","Config":{"metadata":{"name":"demo"}}}}"#;
    root.path(&["v1", "k8s.io", "containers", "p1", "extensions"])
        .put("io.cri-containerd.sandbox.metadata", any(json));
    change(&mut root);
    let dir = tempfile::tempdir().unwrap();
    let metadata = opened(dir.path(), &file(&root, Layout::default()));
    (dir, metadata)
}

#[test]
fn records_are_read_in_full() {
    let (_dir, metadata) = database(|_| {});
    assert_eq!(metadata.namespaces().unwrap(), ["k8s.io", "shop"]);
    assert_eq!(metadata.ids(b"shop").unwrap(), ["c1", "c2"]);
    assert!(metadata.ids(b"none").unwrap().is_empty());
    let one = metadata.container(b"shop", b"c1").unwrap().unwrap();
    assert_eq!(
        (one.id, one.image, one.runtime),
        ("c1".into(), "app:1".into(), "io.containerd.runc.v2".into())
    );
    assert_eq!((one.snapshotter, one.snapshot_key), ("overlayfs".into(), "c1".into()));
    assert_eq!((one.created, one.sandbox_id, one.cri), (Some(1_767_323_045_000), "".into(), None));
    assert_eq!(one.labels[&BString::from("nerdctl/name")], "web");
    assert_eq!(metadata.container(b"shop", b"p1").unwrap(), None);
    let pod = metadata.container(b"k8s.io", b"p1").unwrap().unwrap();
    let Some(Cri::Sandbox(sandbox)) = pod.cri else { panic!("no sandbox") };
    assert_eq!(sandbox.config.metadata.name, "demo");
    assert_eq!(metadata.image(b"shop", b"app:1").unwrap().unwrap(), "index-top");
    assert_eq!(metadata.image(b"k8s.io", b"app:1").unwrap(), None);
    let snapshot = metadata.snapshot(b"shop", b"overlayfs", b"top").unwrap().unwrap();
    assert_eq!((snapshot.name, snapshot.parent), ("shop/2/top".into(), "base".into()));
    assert_eq!(metadata.snapshot(b"shop", b"native", b"top").unwrap(), None);
}

#[test]
fn containers_are_found_by_label_and_snapshot() {
    let (_dir, metadata) = database(|_| {});
    let ids = |found: Vec<super::Container>| -> Vec<BString> {
        found.into_iter().map(|c| c.id).collect()
    };
    assert_eq!(ids(metadata.labelled(b"shop", b"nerdctl/name", b"db").unwrap()), ["c2"]);
    assert_eq!(ids(metadata.labelled(b"shop", b"x", b"y").unwrap()), ["c1", "c2"]);
    assert!(metadata.labelled(b"k8s.io", b"x", b"y").unwrap().is_empty());
    assert_eq!(ids(metadata.containers(b"shop").unwrap()), ["c1", "c2"]);
    let users = |key: &str| metadata.users(b"shop", b"overlayfs", key.as_bytes()).unwrap();
    let of = |containers: &[&str], images: &[&str]| Users {
        containers: containers.iter().copied().map(BString::from).collect(),
        images: images.iter().copied().map(BString::from).collect(),
    };
    assert_eq!(users("base"), of(&["c1", "c2"], &["app:1"]));
    assert_eq!(users("top"), of(&["c1", "c2"], &["app:1"]));
    assert_eq!(users("c2"), of(&["c2"], &[]));
    assert_eq!(users("lone"), of(&[], &["other:1"]));
    assert_eq!(users("none"), Users::default());
    assert_eq!(metadata.users(b"shop", b"native", b"top").unwrap(), Users::default());
}

#[test]
fn a_backends_snapshot_has_holders_in_every_namespace() {
    let (_dir, metadata) = database(|root| {
        // Another namespace has the same, by a key of its own, and a container on it.
        let other = root.path(&["v1", "other", "snapshots", "overlayfs"]);
        other.path(&["theirs"]).put("name", "shop/2/top");
        other.path(&["theirs", "children"]).put("x", "");
        other.path(&["x"]).put("name", "other/9/x").put("parent", "theirs");
        let one = root.path(&["v1", "other", "containers", "x"]);
        one.put("snapshotter", "overlayfs").put("snapshotKey", "x");
        // k8s.io has containers on a snapshot that is none of its own.
        root.path(&["v1", "k8s.io", "snapshots", "overlayfs", "top"]).put("name", "k8s.io/2/top");
    });
    let holders = |name: &str| metadata.holders(b"overlayfs", name.as_bytes(), true).unwrap();
    let text = |holders: Vec<super::Holder>| -> Vec<String> {
        let of = |h: super::Holder| {
            let users = h.containers.iter().map(|u| format!("{}={}", u.id, u.snapshot));
            let images = h.images.iter().map(|(name, digest)| format!("{name}={digest}"));
            let all: Vec<String> = users.chain(images).collect();
            format!("{}/{}: {}", h.namespace, h.key, all.join(" "))
        };
        holders.into_iter().map(of).collect()
    };
    let mine = "shop/top: c1=shop/7/c1 c2=shop/7/c2 app:1=index-top";
    assert_eq!(text(holders("shop/2/top")), ["other/theirs: x=other/9/x", mine]);
    let lone = metadata.holders(b"overlayfs", b"shop/3/lone", false).unwrap();
    assert_eq!(text(lone), ["shop/lone: other:1=index-lone"]);
    assert!(holders("shop/99/top").is_empty() && holders("").is_empty());
    assert!(metadata.holders(b"native", b"shop/2/top", true).unwrap().is_empty());
    let own = |ns: &[u8], id: &[u8], of: &[u8]| metadata.own_snapshot(ns, id, of).unwrap();
    assert_eq!(own(b"shop", b"c1", b"overlayfs").unwrap(), "shop/7/c1");
    for (ns, id, of) in [("shop", "none", "overlayfs"), ("shop", "c1", "native"), ("x", "c1", "x")]
    {
        assert_eq!(own(ns.as_bytes(), id.as_bytes(), of.as_bytes()), None);
    }
    assert!(metadata.chains(b"overlayfs", b"ab").unwrap().is_empty());
    let (_dir, metadata) = database(|root| {
        let all = root.path(&["v1", "shop", "snapshots", "overlayfs"]);
        all.path(&["sha256:abc"]).put("name", "shop/4/sha256:abc");
        all.path(&["sha256:abd"]).put("name", "shop/5/sha256:abd");
    });
    assert_eq!(metadata.chains(b"overlayfs", b"abd").unwrap(), ["shop/5/sha256:abd"]);
    assert_eq!(metadata.chains(b"overlayfs", b"ab").unwrap().len(), 2);
    // One that nobody can tell apart by name spoils the whole.
    let (_dir, metadata) = database(|root| {
        root.path(&["v1", "shop", "snapshots", "overlayfs", "nameless"]).put("parent", "");
    });
    let error = metadata.holders(b"overlayfs", b"shop/2/top", true).unwrap_err();
    assert_eq!(error.class, Class::Malformed);
}

#[test]
fn a_record_that_is_damaged_is_a_gap_of_its_own() {
    let (_dir, metadata) = database(|root| {
        root.path(&["v1", "shop", "containers", "c1"]).put("createdat", "x");
        let extensions = root.path(&["v1", "shop", "containers", "c2", "extensions"]);
        extensions
            .put("io.cri-containerd.container.metadata", any(r#"{"Version":"v9","Metadata":{}}"#));
        // Snapshots that lie on each other.
        let snapshots = root.path(&["v1", "shop", "snapshots", "overlayfs"]);
        snapshots.path(&["top", "children"]).put("base", "");
    });
    for (id, why) in [("c1", "a time of version 120"), ("c2", "CRI metadata of version v9, not v1")]
    {
        let error = metadata.container(b"shop", id.as_bytes()).unwrap_err();
        assert_eq!((error.class, &*error.cause), (Class::Malformed, why));
        assert!(error.path.ends_with(FILE));
    }
    assert_eq!(metadata.ids(b"shop").unwrap().len(), 2);
    assert_eq!(metadata.users(b"shop", b"overlayfs", b"base").unwrap().containers.len(), 2);
}

#[test]
fn blobs_are_of_the_images_that_need_them() {
    let (_dir, metadata) = database(|root| {
        let blobs = root.path(&["v1", "shop", "content", "blob"]);
        blobs.path(&["layer"]).put("size", "x");
        blobs.path(&["lone"]).put("size", "x");
        // What needs itself comes to an end.
        blobs.path(&["c-lone", "labels"]).put("containerd.io/gc.ref.content.x", "index-lone");
        root.path(&["v1", "k8s.io", "content", "blob", "lone"]).put("size", "x");
    });
    let contents = metadata.contents().unwrap();
    let images = |digest: &str| -> Vec<String> {
        let blob = &contents.blobs[BStr::new(digest)];
        blob.images.iter().map(|(name, digest)| format!("{name} {digest}")).collect()
    };
    for blob in ["index-top", "m-top", "c-top"] {
        assert_eq!(images(blob), ["app:1 index-top"], "{blob}");
    }
    assert_eq!(images("c-lone"), ["other:1 index-lone"]);
    assert_eq!(images("layer"), ["app:1 index-top", "other:1 index-lone"]);
    assert_eq!(images("lone"), [""; 0]);
    assert_eq!(contents.blobs[BStr::new("lone")].namespaces, ["k8s.io", "shop"]);
    assert_eq!(contents.blobs.len(), 8);
    assert_eq!(Vec::from_iter(contents.used.keys()), ["index-top"]);
    assert_eq!(contents.used[BStr::new("index-top")], ["shop/c1", "shop/c2"]);
    let part = |digest: &str| contents.blobs[BStr::new(digest)].part;
    assert_eq!([part("layer"), part("lone")], [Some(BlobPart::Layer), None]);
}
