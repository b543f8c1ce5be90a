//! The table of fields.

use crate::needs::Needs;

/// The type of a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A whole number, never below zero.
    Uint,
    /// A whole number.
    Int,
    /// A number with a fraction.
    Float,
    /// Bytes that are usually text.
    Text,
    /// A moment.
    Time,
    /// Several of the same.
    List,
    /// Names and values.
    Map,
}

/// What a number counts; tables make it readable, JSON and CSV do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nothing in particular.
    None,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Hundredths of one CPU.
    Percent,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its number.
    pub id: FieldId,
    /// Its name, as typed after `-o` and as listed in `columns`.
    pub name: &'static str,
    /// Other names it answers to: those of ps, docker and podman.
    pub aliases: &'static [&'static str],
    /// Column header.
    pub title: &'static str,
    /// Type of the value.
    pub kind: Type,
    /// Unit of the value.
    pub unit: Unit,
    /// One line for the help.
    pub doc: &'static str,
    /// What must be read for it.
    pub needs: Needs,
    /// Its place in JSON: `process.KEY` or `owner.KEY`; `owner` alone is the whole owner.
    pub json: &'static str,
}

macro_rules! fields {
    ($($id:ident $name:literal [$($alias:literal),*] $title:literal $kind:ident $unit:ident
       ($($need:ident)*) $json:literal $doc:literal;)+) => {
        /// Every field.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each one's line in the table below is its document")]
        pub enum FieldId { $($id),+ }

        /// The registry, in the order in which help and completions list it.
        pub const FIELDS: &[Field] = &[$(Field {
            id: FieldId::$id,
            name: $name,
            aliases: &[$($alias),*],
            title: $title,
            kind: Type::$kind,
            unit: Unit::$unit,
            doc: $doc,
            needs: Needs::NONE$(.and(Needs::$need))*,
            json: $json,
        }),+];
    };
}

fields! {
    Pid "pid" ["tgid"] "PID" Uint None () "process.pid" "process id on the host";
    Ppid "ppid" [] "PPID" Uint None (STAT) "process.ppid" "parent's process id";
    User "user" ["euser", "uname"] "USER" Text None (STATUS) "process.user" "effective user's name, from etc/passwd";
    Uid "uid" ["euid"] "UID" Uint None (STATUS) "process.uid" "effective user id";
    State "state" ["s", "stat"] "S" Text None (STAT) "process.state" "the kernel's state letter";
    Wchan "wchan" [] "WCHAN" Text None (WCHAN) "process.wchan" "kernel function it sleeps in";
    Rss "rss" ["rssize", "rsz"] "RSS" Uint Bytes (STATUS RSS) "process.rss" "resident memory";
    Vsz "vsz" ["vsize"] "VSZ" Uint Bytes (STAT) "process.vsz" "address space";
    Threads "threads" ["nlwp", "thcount"] "NLWP" Uint None (STAT) "process.threads" "number of threads";
    CpuTime "cpu_time" ["time", "cputime", "cputimes"] "TIME" Float Seconds (STAT CPU) "process.cpu_time" "CPU time used, user and system";
    Pcpu "pcpu" ["%cpu"] "%CPU" Float Percent (STAT CPU) "process.pcpu" "CPU time over time since the start, in percent of one CPU";
    Nice "nice" ["ni"] "NI" Int None (STAT) "process.nice" "nice value, -20 to 19";
    Sid "sid" ["sess", "session"] "SID" Uint None (STAT) "process.sid" "process id of its session's leader";
    Tty "tty" ["tt", "tname"] "TTY" Text None (STAT) "process.tty" "controlling terminal";
    StartTicks "start_ticks" [] "START_TICKS" Uint None (STAT) "process.start_ticks" "start in clock ticks after boot";
    StartTime "start_time" ["lstart", "start"] "STARTED" Time None (STAT) "process.start_time" "start by the wall clock, to a tick";
    Elapsed "elapsed" ["etime", "etimes"] "ELAPSED" Uint Seconds (STAT) "process.elapsed" "time since the start";
    IoRead "io_read" ["rbytes"] "READ" Uint Bytes (IO) "process.io_read" "bytes read from storage";
    IoWrite "io_write" ["wbytes"] "WRITE" Uint Bytes (IO) "process.io_write" "bytes written to storage";
    Fds "fds" ["nfd", "nfds", "fd_count"] "FDS" Uint None (STAT FDS) "process.fds" "number of open file descriptors";
    InsidePid "inside_pid" ["hpid", "nspid"] "INSIDE" Uint None (STATUS) "process.inside_pid" "process id in its own PID namespace";
    InsidePids "inside_pids" [] "INSIDE_PIDS" List None (STATUS) "process.inside_pids" "process id in each PID namespace, outermost first";
    InsideUid "inside_uid" [] "INSIDE_UID" Uint None (STATUS IDMAP) "process.inside_uid" "effective user id in its user namespace";
    Pidns "pidns" [] "PIDNS" Uint None (PIDNS) "process.pidns" "inode of its PID namespace";
    Cgroup "cgroup" ["cgroups", "cgroupns"] "CGROUP" Text None (OWNER) "process.cgroup" "cgroup path that the answer rests on";
    Role "role" [] "ROLE" Text None (STAT STATUS OWNER ROLE) "process.role" "workload, init, exec, sandbox, plumbing, host or kernel";
    Serves "serves" [] "SERVES" Text None (STAT STATUS OWNER ROLE) "process.serves" "id of the container that plumbing works for";
    Comm "comm" ["ucmd", "ucomm"] "COMM" Text None (COMM) "process.comm" "command name, at most 15 bytes";
    Owner "owner" ["whose"] "OWNER" Text None (OWNER DESCRIPTION) "owner" "container, unit or session it belongs to; - the host, ? unknown";
    Chain "chain" [] "CONTAINER" Text None (OWNER DESCRIPTION) "owner" "the owner after the containers around it: outer/inner";
    Kind "kind" [] "KIND" Text None (OWNER) "owner.kind" "what kind of owner";
    Runtime "runtime" [] "RUNTIME" Text None (OWNER DESCRIPTION) "owner.runtime" "engine of the owner";
    Id "id" ["container_id"] "CONTAINER ID" Text None (OWNER) "owner.id" "owner's full id";
    Name "name" ["names", "container"] "NAME" Text None (OWNER DESCRIPTION) "owner.name" "owner's name";
    Image "image" [] "IMAGE" Text None (OWNER DESCRIPTION IMAGE) "owner.image" "image, as it was asked for";
    ImageId "image_id" ["imageid"] "IMAGE ID" Text None (OWNER DESCRIPTION RECORD) "owner.image_id" "image id";
    Labels "labels" [] "LABELS" Map None (OWNER DESCRIPTION RECORD) "owner.labels" "container's labels";
    Status "status" ["container_state"] "STATUS" Text None (STAT OWNER DESCRIPTION LIVENESS) "owner.state" "container's state";
    EngineState "engine_state" [] "ENGINE STATE" Text None (OWNER DESCRIPTION) "owner.engine_state" "container's state in the engine's own word";
    Created "created" ["createdat"] "CREATED" Time None (OWNER DESCRIPTION RECORD) "owner.created" "when the container was made";
    Started "started" ["startedat"] "STARTED" Time None (OWNER DESCRIPTION RECORD) "owner.started" "when the container was started";
    Up "up" ["uptime", "runningfor"] "UP" Uint Seconds (STAT) "owner.up" "ls: time since the container's first process started";
    Processes "processes" ["procs", "nprocs"] "PROCS" Uint None (STAT) "owner.processes" "ls: number of its processes, nested containers' included";
    Pids "pids" [] "PIDS" List None (STAT) "owner.pids" "ls: its processes on the host";
    InitPid "init_pid" [] "INIT" Uint None (STAT OWNER DESCRIPTION LIVENESS) "owner.init_pid" "container's first process";
    Log "log" ["logpath"] "LOG" Text None (OWNER DESCRIPTION RECORD) "owner.log" "container's log file";
    Project "project" ["compose"] "PROJECT" Text None (OWNER DESCRIPTION RECORD) "owner.compose.project" "compose project";
    Service "service" [] "SERVICE" Text None (OWNER DESCRIPTION RECORD) "owner.compose.service" "compose service";
    Pod "pod" ["podname", "pod_name"] "POD" Text None (OWNER DESCRIPTION) "owner.pod.name" "Kubernetes pod's name";
    Namespace "namespace" ["podns", "pod_namespace"] "NAMESPACE" Text None (OWNER DESCRIPTION) "owner.pod.namespace" "Kubernetes namespace of the pod";
    PodUid "pod_uid" [] "POD UID" Text None (OWNER) "owner.pod.uid" "pod's uid";
    PodContainer "pod_container" [] "POD CONTAINER" Text None (OWNER DESCRIPTION) "owner.pod.container" "container's name in its pod";
    Restarts "restarts" [] "RESTARTS" Uint None (OWNER DESCRIPTION RECORD) "owner.pod.restarts" "how often the kubelet has started it again";
    Qos "qos" ["qos_class"] "QOS" Text None (OWNER) "owner.pod.qos" "pod's class by its cgroup: guaranteed, burstable or besteffort";
    Unit "unit" [] "UNIT" Text None (OWNER) "process.unit" "innermost systemd unit of the chain";
    Depth "depth" [] "DEPTH" Uint None (STAT) "depth" "tree: how many rows it stands below";
    Disk "disk" [] "TOTAL" Uint Bytes (OWNER) "bytes" "ls --disk: bytes on the disk, all together";
    DiskLayer "disk_layer" [] "LAYER" Uint Bytes (OWNER) "layer" "ls --disk: bytes of a container's own layers";
    DiskLog "disk_log" [] "LOG" Uint Bytes (OWNER) "log" "ls --disk: bytes of its log";
    DiskVolumes "disk_volumes" [] "VOLUMES" Uint Bytes (OWNER) "volumes" "ls --disk: bytes of the volumes that nobody else has";
    DiskDeleted "disk_deleted" [] "DELETED" Uint Bytes (OWNER) "deleted" "ls --disk: bytes of files that its processes hold open, and that were removed";
    DiskApparent "disk_apparent" [] "SIZE" Uint Bytes (OWNER) "apparent" "ls --disk: the same by the files' sizes, as engines add them up";
    DiskInodes "disk_inodes" [] "INODES" Uint None (OWNER) "inodes" "ls --disk: files and directories";
    DiskKind "disk_kind" [] "KIND" Text None (OWNER) "kind" "ls --disk: what it is: a container, images, an orphan";
    DiskWhat "disk_what" [] "WHAT" Text None (OWNER DESCRIPTION) "name" "ls --disk: the container, or where it lies";
    Args "args" ["command", "cmd"] "COMMAND" Text None (STAT CMDLINE) "process.args" "arguments; the command name in brackets without";
}

/// The field with this name or alias, in any case.
#[must_use]
pub fn find(name: &str) -> Option<&'static Field> {
    let same = |n: &str| n.eq_ignore_ascii_case(name);
    FIELDS
        .iter()
        .find(|f| same(f.name))
        .or_else(|| FIELDS.iter().find(|f| f.aliases.iter().any(|a| same(a))))
}

impl FieldId {
    /// The field's entry.
    #[must_use]
    pub fn field(self) -> &'static Field {
        &FIELDS[self as usize]
    }
}

/// The field name that a mistyped one most resembles, for messages.
#[must_use]
pub fn closest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let names =
        FIELDS.iter().flat_map(|f| std::iter::once(f.name).chain(f.aliases.iter().copied()));
    let scored = names.map(|n| (distance(n.as_bytes(), name.as_bytes()), n));
    scored.min_by_key(|(d, _)| *d).filter(|(d, n)| *d <= 1 + n.len() / 4).map(|(_, n)| n)
}

/// Edit distance.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{FIELDS, FieldId, closest, find};

    #[test]
    fn every_name_is_unique_and_in_its_place() {
        let mut seen = BTreeSet::new();
        for (at, field) in FIELDS.iter().enumerate() {
            assert_eq!(field.id as usize, at, "{}", field.name);
            for name in std::iter::once(&field.name).chain(field.aliases) {
                assert!(seen.insert(*name), "{name} twice");
                let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
                assert!(name.trim_start_matches('%').bytes().all(plain), "{name}");
                assert_eq!(find(name).map(|f| f.name), Some(field.name));
            }
            // A process has its number before anything is read of it.
            let is_known = field.id == FieldId::Pid;
            assert!(!field.doc.is_empty() && field.needs.is_empty() == is_known, "{}", field.name);
        }
    }

    #[test]
    fn what_is_made_of_a_field_needs_what_it_needs() {
        let needs = |name| find(name).unwrap().needs;
        assert!(needs("pcpu").has(needs("cpu_time")) && needs("pcpu").has(needs("elapsed")));
    }

    #[test]
    fn names_are_found_in_any_case_and_typos_answered() {
        assert_eq!(find("PID").map(|f| f.name), Some("pid"));
        assert_eq!(closest("ownr"), Some("owner"));
        assert_eq!(closest("zzzzzz"), None);
    }
}
