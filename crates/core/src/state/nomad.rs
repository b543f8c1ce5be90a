//! What a Nomad client keeps of its allocations: `client/state.db` in its data directory, a bolt database of
//! MessagePack values (nomad client/state/db_bolt.go, helper/boltdd): `allocations/<id>/alloc` with the
//! allocation and its job, and `task-<name>/task_state` beside it. Names are those of the fields in Nomad's
//! structures (nomad/structs/structs.go). `CreateTime` is a number of nanoseconds. A `time.Time` is a string of the
//! bytes of Go's `Time.MarshalBinary`: Nomad's handle sets `TimeNotBuiltin` (nomad/structs/structs.go,
//! `MsgpackHandle`), and not `WriteExt`, so that bytes have the heads of strings (go-msgpack codec/msgpack.go,
//! `EncodeTime`, `EncodeStringBytesRaw`).

use bstr::{BString, ByteSlice};
use whose_kernel::ReadError;
use whose_kernel::held::Held;
use whose_kernel::root::Root;

use super::bolt::{Database, Trouble};
use super::containerd::gotime;
use super::msgpack::{at, elements, int_at, text_at};

/// The database beneath the data directory.
pub const FILE: &[u8] = b"client/state.db";
/// Allocations of one client.
const MOST: usize = 100_000;
/// How the buckets of tasks begin.
const TASK: &[u8] = b"task-";

/// An allocation, as far as it is used. What is not there is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Its id.
    pub id: BString,
    /// Nomad's namespace.
    pub namespace: BString,
    /// Its job's id, and name.
    pub job: (BString, BString),
    /// Id of the periodic or parameterised job that this one was made from.
    pub parent_job: BString,
    /// The task group.
    pub group: BString,
    /// Id and name of the node.
    pub node: (BString, BString),
    /// Creation, milliseconds since 1970.
    pub created: Option<i64>,
    /// The tasks of its group.
    pub tasks: Vec<Task>,
}

/// A task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Its name.
    pub name: BString,
    /// The driver that runs it.
    pub driver: BString,
    /// `image` in the driver's configuration.
    pub image: Option<BString>,
    /// What became of it; `None` where nothing was written down yet.
    pub state: Option<TaskState>,
}

/// What became of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskState {
    /// `pending`, `running` or `dead`.
    pub word: BString,
    /// Last start, milliseconds since 1970.
    pub started: Option<i64>,
}

/// Reads the value of `alloc`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_allocation(bytes: &[u8]) -> Result<Allocation, String> {
    let alloc = at(bytes, &["Alloc"])?.ok_or("no allocation in it")?;
    let text = |path: &[&str]| -> Result<BString, String> {
        Ok(text_at(alloc, path)?.unwrap_or_default().into())
    };
    let group = text(&["TaskGroup"])?;
    let created = int_at(alloc, &["CreateTime"])?.filter(|nanos| *nanos > 0);
    let created = created.and_then(|nanos| i64::try_from(nanos / 1_000_000).ok());
    let mut tasks = Vec::new();
    if let Some(groups) = at(alloc, &["Job", "TaskGroups"])? {
        for own in elements(groups)? {
            if text_at(own, &["Name"])?.is_none_or(|name| name != group.as_slice()) {
                continue;
            }
            if let Some(all) = at(own, &["Tasks"])? {
                tasks = elements(all)?.into_iter().map(task).collect::<Result<_, _>>()?;
            }
        }
    }
    tasks.retain(|task| !task.name.is_empty());
    Ok(Allocation {
        id: text(&["ID"])?,
        namespace: text(&["Namespace"])?,
        job: (text(&["JobID"])?, text(&["Job", "Name"])?),
        parent_job: text(&["Job", "ParentID"])?,
        group,
        node: (text(&["NodeID"])?, text(&["NodeName"])?),
        created,
        tasks,
    })
}

fn task(bytes: &[u8]) -> Result<Task, String> {
    let text = |path: &[&str]| text_at(bytes, path);
    Ok(Task {
        name: text(&["Name"])?.unwrap_or_default().into(),
        driver: text(&["Driver"])?.unwrap_or_default().into(),
        image: text(&["Config", "image"])?.map(Into::into),
        state: None,
    })
}

/// Reads the value of `task_state`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_task_state(bytes: &[u8]) -> Result<TaskState, String> {
    let started = text_at(bytes, &["StartedAt"])?.map_or(Ok(None), gotime::parse)?;
    Ok(TaskState { word: text_at(bytes, &["State"])?.unwrap_or_default().into(), started })
}

/// The database of one client, open.
#[derive(Debug)]
pub struct Client {
    database: Database<Held>,
}

impl Client {
    /// Opens it beneath the data directory.
    ///
    /// # Errors
    /// The read's.
    pub fn open(root: &Root) -> Result<Self, ReadError> {
        Ok(Self { database: Database::open_unrecorded(root, FILE)? })
    }

    /// Ids of all allocations.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn ids(&self) -> Result<Vec<BString>, ReadError> {
        self.database.view(|top| match top.bucket(b"allocations")? {
            Some(all) => all.buckets(MOST),
            None => Ok(Vec::new()),
        })
    }

    /// An allocation with the states of its tasks, all of one moment; `None` where there is none of this id.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn allocation(&self, id: &[u8]) -> Result<Option<Allocation>, ReadError> {
        self.database.view(|top| {
            let Some(own) = top.at(&[b"allocations", id])? else { return Ok(None) };
            let Some(bytes) = own.value(b"alloc")? else { return Ok(None) };
            let mut allocation = parse_allocation(&bytes).map_err(Trouble::Wrong)?;
            if allocation.id != id {
                return Err(Trouble::Wrong("an allocation in another one's place".into()));
            }
            for task in &mut allocation.tasks {
                let bucket = [TASK, task.name.as_bytes()].concat();
                let state = own.bucket(&bucket)?.map_or(Ok(None), |b| b.value(b"task_state"))?;
                let state = state.map(|bytes| parse_task_state(&bytes)).transpose();
                task.state = state.map_err(Trouble::Wrong)?;
            }
            Ok(Some(allocation))
        })
    }
}

/// `data_dir` in a configuration file of an agent's, HCL or JSON: an assignment of a string.
#[must_use]
pub fn data_dir(bytes: &[u8]) -> Option<BString> {
    bytes.lines().map(<[u8]>::trim_ascii_start).find_map(|line| {
        let line = line.strip_prefix(b"\"").unwrap_or(line).strip_prefix(b"data_dir")?;
        let rest = line.strip_prefix(b"\"").unwrap_or(line).trim_ascii_start();
        let rest = rest.strip_prefix(b"=").or_else(|| rest.strip_prefix(b":"))?;
        let (path, _) = rest.trim_ascii_start().strip_prefix(b"\"")?.split_once_str("\"")?;
        path.starts_with(b"/").then(|| path.into())
    })
}

#[cfg(test)]
mod tests {
    use super::{data_dir, parse_allocation, parse_task_state};

    /// A map of texts, each a str8.
    fn text(text: &str) -> Vec<u8> {
        let len = u8::try_from(text.len()).unwrap();
        [&[0xd9, len][..], text.as_bytes()].concat()
    }

    fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let count = 0x80 | u8::try_from(pairs.len()).unwrap();
        let pairs = pairs.iter().flat_map(|(key, value)| [text(key), value.clone()].concat());
        std::iter::once(count).chain(pairs).collect()
    }

    #[test]
    fn an_allocation_of_a_group() {
        let task = |name: &str, driver: &str| {
            let config = map(&[("image", text("i")), ("n", vec![0xc0])]);
            map(&[("Name", text(name)), ("Driver", text(driver)), ("Config", config)])
        };
        let tasks = [vec![0x91], task("redis", "exec")].concat();
        let own = map(&[("Name", text("cache")), ("Tasks", tasks)]);
        let other = map(&[("Name", text("x")), ("Tasks", vec![0x90])]);
        let groups = [vec![0x92], other, own].concat();
        let job = map(&[("Name", text("shop")), ("TaskGroups", groups)]);
        let time = [vec![0xcf], 1_700_000_000_123_456_789_u64.to_be_bytes().to_vec()].concat();
        let alloc = map(&[
            ("ID", text("a")),
            ("TaskGroup", text("cache")),
            ("CreateTime", time),
            ("Job", job),
        ]);
        let read = parse_allocation(&map(&[("Alloc", alloc)])).unwrap();
        assert_eq!((read.id, read.group, read.job.1), ("a".into(), "cache".into(), "shop".into()));
        assert_eq!(read.created, Some(1_700_000_000_123));
        assert_eq!(read.tasks.len(), 1);
        assert_eq!((&read.tasks[0].name, &read.tasks[0].driver), (&"redis".into(), &"exec".into()));
        assert!(parse_allocation(b"\x80").is_err());
        assert!(parse_allocation(b"").is_err());
    }

    #[test]
    fn a_tasks_state() {
        // 2026-01-02T03:04:05Z as Go writes it.
        let seconds = (1_767_323_045_i64 + 62_135_596_800).to_be_bytes();
        let time = [&[1][..], &seconds, &[0, 0, 0, 0], &[0xff, 0xff]].concat();
        let time = [vec![0xaf], time].concat();
        let state = map(&[("State", text("running")), ("StartedAt", time)]);
        let read = parse_task_state(&state).unwrap();
        assert_eq!((read.word, read.started), ("running".into(), Some(1_767_323_045_000)));
        assert!(parse_task_state(&map(&[("StartedAt", text("x"))])).is_err());
    }

    #[test]
    fn where_a_configuration_has_the_data() {
        let of = |text: &str| data_dir(text.as_bytes()).map(|dir| dir.to_string());
        assert_eq!(of("# x\ndata_dir  = \"/opt/nomad/data\"\n"), Some("/opt/nomad/data".into()));
        assert_eq!(of("{\n \"data_dir\": \"/a\",\n"), Some("/a".into()));
        assert_eq!(of("#data_dir = \"/a\""), None);
        assert_eq!(of("data_dir_x = \"/a\""), None);
        assert_eq!(of("data_dir = \"a\""), None);
    }
}
