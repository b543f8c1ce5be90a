use std::fs;
use std::path::Path;

use bstr::BStr;
use whose_kernel::Class;
use whose_kernel::root::{Links, Root};
use whose_testkit::bolt::{self, Bucket};
use whose_testkit::sqlite::{self, Cell, Entry};

use super::{container, has_database, having, names, parse_metadata};

const POD: &str = "aaaa";

fn root(dir: &Path) -> Root {
    Root::open(BStr::new(dir.as_os_str().as_encoded_bytes()), Links::Never).unwrap()
}

fn config(id: &str) -> String {
    format!(
        r#"{{"spec":{{"process":{{"env":["A=b"]}}}},"id":"{id}","name":"web-{id}","pod":"{POD}",
        "rootfsImageName":"localhost/app:1","rootfsImageID":"cd","labels":{{"a":"b"}},"pause":true,
        "createdTime":"2026-01-02T03:04:05.6Z","cgroupManager":"systemd","cgroupsMode":"enabled",
        "cgroupParent":"machine.slice","logPath":"/l","logDriver":"k8s-file","future":[1],
        "namedVolumes":[{{"volumeName":"v-{id}","dest":"/d","options":["rw"]}},{{"volumeName":"all"}}]}}"#
    )
}

const STATE: &str = r#"{"state":3,"pid":77,"startedTime":"2026-01-02T03:04:06Z","conmonPid":70}"#;
const POD_CONFIG: &str = r#"{"id":"aaaa","name":"shop","sharesNet":true}"#;

fn tables(ids: &[&str]) -> Vec<Entry> {
    let text = |text: &str| Cell::Text(text.to_owned());
    let blob = |text: String| Cell::Blob(text.into_bytes());
    let mut configs = Entry::table(
        "ContainerConfig",
        "ID TEXT PRIMARY KEY NOT NULL, Name TEXT UNIQUE NOT NULL, PodID TEXT, JSON TEXT NOT NULL, \
         FOREIGN KEY (PodID) REFERENCES PodConfig(ID)",
    );
    let mut states =
        Entry::table("ContainerState", "ID TEXT, State INTEGER, ExitCode INTEGER, JSON");
    for id in ids {
        configs = configs.row([text(id), text(&format!("web-{id}")), text(POD), blob(config(id))]);
        states = states.row([text(id), Cell::Int(3), Cell::Null, text(STATE)]);
    }
    let pods = Entry::table("PodConfig", "ID, Name, JSON");
    vec![configs, states, pods.row([text(POD), text("shop"), text(POD_CONFIG)])]
}

fn buckets(ids: &[&str]) -> Bucket {
    let mut top = Bucket::default();
    for id in ids {
        top.path(&["all-ctrs"]).put(*id, format!("web-{id}"));
        top.path(&["ctr", id]).put("config", config(id)).put("state", STATE);
    }
    top.path(&["pod", POD]).put("config", POD_CONFIG);
    top
}

fn write_sqlite(dir: &Path, ids: &[&str]) {
    fs::write(dir.join("db.sql"), sqlite::file(&tables(ids), sqlite::Layout::default())).unwrap();
}

fn write_bolt(dir: &Path, ids: &[&str]) {
    fs::create_dir_all(dir.join("libpod")).unwrap();
    let file = bolt::file(&buckets(ids), bolt::Layout::default());
    fs::write(dir.join("libpod/bolt_state.db"), file).unwrap();
}

#[test]
fn both_databases_say_the_same() {
    for write in [write_sqlite, write_bolt] {
        let dir = tempfile::tempdir().unwrap();
        assert!(!has_database(&[&root(dir.path())]));
        assert_eq!(names(&[&root(dir.path())]).unwrap(), None);
        write(dir.path(), &["ab", "cd"]);
        let root = root(dir.path());
        assert!(has_database(&[&root]));
        let all = names(&[&root]).unwrap().unwrap();
        let pair = |id: &str| (id.into(), format!("web-{id}").into());
        assert_eq!(all, [pair("ab"), pair("cd")]);
        let stored = container(&[&root], BStr::new("cd")).unwrap().unwrap();
        let config = &stored.config;
        assert_eq!(
            (config.name.as_str(), config.image_name.as_str()),
            ("web-cd", "localhost/app:1")
        );
        assert_eq!((config.image_id.as_str(), config.log_path.as_str()), ("cd", "/l"));
        assert_eq!(config.labels.as_ref().unwrap()["a"], "b");
        assert!(config.is_infra && config.created_time.starts_with("2026"));
        assert_eq!((stored.state.state, stored.state.pid), (3, 77));
        assert_eq!(stored.state.started_time, "2026-01-02T03:04:06Z");
        assert_eq!(stored.pod_name.as_deref(), Some("shop"));
        assert_eq!(container(&[&root], BStr::new("ef")).unwrap(), None);
    }
}

#[test]
fn what_podman_had_before_counts_for_what_it_has_not_now() {
    let dir = tempfile::tempdir().unwrap();
    write_sqlite(dir.path(), &["ab"]);
    write_bolt(dir.path(), &["ab", "cd"]);
    let root = root(dir.path());
    assert_eq!(names(&[&root]).unwrap().unwrap().len(), 2);
    let path = |id: &str| container(&[&root], BStr::new(id)).unwrap().unwrap().path;
    assert!(path("ab").ends_with(b"/db.sql") && path("cd").ends_with(b"/bolt_state.db"));
    // A new database has no table yet.
    fs::write(dir.path().join("db.sql"), "").unwrap();
    assert!(path("ab").ends_with(b"/bolt_state.db"));
}

#[test]
fn what_is_wrong_is_said() {
    let dir = tempfile::tempdir().unwrap();
    write_sqlite(dir.path(), &["ab"]);
    let text = |text: &str| Cell::Text(text.to_owned());
    let fails = |entries: Vec<Entry>| {
        let bytes = sqlite::file(&entries, sqlite::Layout::default());
        fs::write(dir.path().join("db.sql"), bytes).unwrap();
        let error = container(&[&root(dir.path())], BStr::new("ab")).unwrap_err();
        (error.class, error.cause.to_string())
    };
    let configs = |json: &str| {
        let table = Entry::table("ContainerConfig", "ID, Name, PodID, JSON");
        table.row([text("ab"), text("x"), Cell::Null, text(json)])
    };
    assert_eq!(fails(vec![configs(&config("cd"))]).1, "it is another container's");
    assert!(fails(vec![configs("{\"id\":")]).1.starts_with("JSON cut short"));
    let view = Entry::other("view", "ContainerConfig", "CREATE VIEW ContainerConfig AS SELECT 1");
    assert_eq!(fails(vec![view]).0, Class::Unsupported);
    let renamed = Entry::table("ContainerConfig", "Id, Name, Pod, Json2");
    assert_eq!(fails(vec![renamed]).1, "its table ContainerConfig has no column JSON");
    std::os::unix::fs::symlink("/etc/shadow", dir.path().join("link")).unwrap();
    fs::rename(dir.path().join("link"), dir.path().join("db.sql")).unwrap();
    let error = names(&[&root(dir.path())]).unwrap_err();
    assert_eq!(error.class, Class::Malformed);
}

#[test]
fn only_what_podman_wrote_is_its_own() {
    let own = r#"{"image-name":"localhost/a:1","image-id":"cd","name":"web","created-at":1}"#;
    assert_eq!(parse_metadata(own).unwrap().name, "web");
    for other in ["", "{}", r#"{"pod-name":"k8s_p","pod-id":"ab","name":"x"}"#] {
        assert!(parse_metadata(other).is_none(), "{other}");
    }
}

#[test]
fn who_has_a_volume() {
    type Writer = fn(&Path, &[&str]);
    for write in [write_sqlite as Writer, write_bolt] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &["a1", "b2"]);
        let having = |name: &str| having(&[&root(dir.path())], BStr::new(name)).unwrap();
        assert_eq!(having("v-a1"), ["a1"]);
        assert_eq!(having("all"), ["a1", "b2"]);
        assert!(having("v-").is_empty() && having("").is_empty());
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(having(&[&root(dir.path())], BStr::new("all")).unwrap().is_empty());
}
