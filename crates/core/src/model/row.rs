//! A process with its owner: what lists are made of.

use std::borrow::Cow;
use std::rc::Rc;

use bstr::{BString, ByteSlice};
use whose_fields::{Cell, FieldId, Pair, Record};
use whose_kernel::parse::stat::Stat;

use super::{Described, Description, Evidence, Fact, Gap, Owner, OwnerKind, Process};

/// Whose a process is: every level, outermost first, and why.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    /// All levels; the last is the owner. Never empty when known.
    pub chain: Vec<Rc<Owner>>,
    /// What it rests on, strongest first.
    pub evidence: Vec<Evidence>,
}

impl Membership {
    /// The innermost owner.
    #[must_use]
    pub fn owner(&self) -> Option<&Rc<Owner>> {
        self.chain.last()
    }
}

/// A process and its membership.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The process.
    pub process: Process,
    /// Whose it is; unread: null.
    pub membership: Fact<Membership>,
}

impl Row {
    /// The innermost owner, if membership is known.
    #[must_use]
    pub fn owner(&self) -> Option<&Rc<Owner>> {
        self.membership.known().and_then(Membership::owner)
    }

    /// Every gap of the row.
    pub fn gaps(&self) -> impl Iterator<Item = &Gap> {
        let p = &self.process;
        let facts = [
            p.stat.gap(),
            p.status.gap(),
            p.args.gap(),
            p.wchan.gap(),
            p.io.gap(),
            p.pidns.gap(),
            p.inside_uid.gap(),
            p.exe.gap(),
            p.start_time.gap(),
            p.age.gap(),
            p.fds.gap(),
            p.cwd.gap(),
        ];
        facts.into_iter().flatten().chain(Self::gaps_of(&self.membership))
    }

    /// The gaps of a membership and its owners.
    pub fn gaps_of(membership: &Fact<Membership>) -> impl Iterator<Item = &Gap> {
        let chain = membership.known().map(|m| m.chain.as_slice()).unwrap_or_default();
        let owners = chain.iter().flat_map(|o| Self::gaps_of_owner(o));
        membership.gap().into_iter().chain(owners)
    }

    /// The gaps of one owner.
    pub fn gaps_of_owner(owner: &Owner) -> impl Iterator<Item = &Gap> {
        let described = match &owner.described {
            Described::Unread(gap) => Some(gap),
            _ => None,
        };
        let parts = owner.description().into_iter().flat_map(|d| d.unread.iter().map(|(_, g)| g));
        [described, owner.state.gap(), owner.init_pid.gap(), owner.seen_pod.gap()]
            .into_iter()
            .flatten()
            .chain(parts)
    }

    fn owner_cell<'s>(&'s self, of: impl FnOnce(&'s Owner) -> Cell<'s>) -> Cell<'s> {
        match &self.membership {
            Fact::Known(m) => m.owner().map_or(Cell::Absent, |o| of(o)),
            Fact::Unread(gap) => Cell::Unread(gap.class.name()),
            Fact::Unasked | Fact::Absent => Cell::Absent,
        }
    }

    fn process_cell(&self, field: FieldId) -> Cell<'_> {
        let p = &self.process;
        let number = |n: u64| Cell::Uint(n);
        #[allow(clippy::cast_precision_loss, reason = "ticks of CPU time stay far below 2^52")]
        let seconds = |ticks: u64| Cell::Float(ticks as f64 / p.hz.max(1) as f64);
        match field {
            FieldId::Pid if p.pid == 0 => Cell::Absent, // a container without a process
            FieldId::Pid => number(p.pid.into()),
            FieldId::Ppid => p.stat.cell(|s| number(s.ppid.into())),
            FieldId::State => p.stat.cell(|s| Cell::Bytes(Cow::Owned(vec![s.state]))),
            FieldId::Vsz => p.stat.cell(|s| number(s.vsize)),
            FieldId::Threads => p.stat.cell(|s| number(s.threads)),
            FieldId::Nice => p.stat.cell(|s| Cell::Int(s.nice.into())),
            FieldId::Tty => p.stat.cell(|s| tty(s.tty_nr)),
            FieldId::Comm => match &p.name {
                Some(name) => Cell::text(name),
                None => p.stat.cell(|s| Cell::text(&s.comm)),
            },
            FieldId::StartTicks => p.stat.cell(|s| number(s.start_ticks)),
            FieldId::CpuTime => p.stat.cell(|s| seconds(s.utime.saturating_add(s.stime))),
            FieldId::StartTime => p.start_time.cell(|t| Cell::Time(*t)),
            FieldId::Elapsed => p.age.cell(|ticks| number(ticks / p.hz.max(1))),
            FieldId::Pcpu => p.stat.cell(|s| p.age.cell(|age| percent(s, *age))),
            FieldId::Sid => p.stat.cell(|s| number(s.session.into())),
            FieldId::Fds => p.fds.cell(|n| number(*n)),
            FieldId::Uid => p.status.cell(|s| number(s.euid.into())),
            FieldId::User => p.status.cell(|s| match &p.user {
                Some(name) => Cell::text(name),
                None => Cell::Bytes(Cow::Owned(s.euid.to_string().into_bytes())),
            }),
            FieldId::Rss => p.status.cell(|s| s.rss.map_or(Cell::Absent, number)),
            FieldId::InsidePid => p.status.cell(|s| {
                s.nspid
                    .as_ref()
                    .and_then(|n| n.last())
                    .map_or(Cell::Absent, |n| number((*n).into()))
            }),
            FieldId::InsidePids => p.status.cell(|s| match &s.nspid {
                Some(pids) => Cell::List(pids.iter().map(|n| number((*n).into())).collect()),
                None => Cell::Absent,
            }),
            FieldId::InsideUid => p.inside_uid.cell(|n| number((*n).into())),
            FieldId::Wchan => p.wchan.cell(Cell::text),
            FieldId::IoRead => p.io.cell(|io| number(io.read_bytes)),
            FieldId::IoWrite => p.io.cell(|io| number(io.write_bytes)),
            FieldId::Pidns => p.pidns.cell(|n| number(*n)),
            FieldId::Cgroup => p.cgroup_path.cell(|path| Cell::text(path.as_slice())),
            FieldId::Role => p.role.cell(|r| Cell::text(r.name())),
            FieldId::Serves => p.serves.cell(Cell::text),
            FieldId::Args => p.args.cell(|a| Cell::List(a.iter().map(Cell::text).collect())),
            FieldId::Unit => match self.membership.known() {
                Some(m) => {
                    let unit = m.chain.iter().rev().find(|o| o.kind == OwnerKind::Unit);
                    unit.and_then(|o| o.name.as_ref()).map_or(Cell::Absent, Cell::text)
                }
                None => Cell::Absent,
            },
            _ => Cell::Absent,
        }
    }
}

impl Record for Row {
    fn get(&self, field: FieldId) -> Cell<'_> {
        let text = |value: &'static str| Cell::text(value);
        match field {
            FieldId::Owner => self.owner_cell(|o| Cell::Bytes(Cow::Owned(o.label().into()))),
            FieldId::Chain => self.owner_cell(|o| match super::listed::label(self) {
                label if label.is_empty() => Cell::Bytes(Cow::Owned(o.label().into())),
                label => Cell::Bytes(Cow::Owned(label.into())),
            }),
            FieldId::Kind => self.owner_cell(|o| text(o.kind.name())),
            FieldId::Runtime => self.owner_cell(|o| text(o.runtime.0)),
            FieldId::Id => self.owner_cell(|o| match &o.described {
                Described::Unread(gap) if o.id.is_empty() => Cell::Unread(gap.class.name()),
                _ if o.id.is_empty() => Cell::Absent,
                _ => Cell::text(&o.id),
            }),
            FieldId::Name => self.owner_cell(Owner::name_cell),
            FieldId::Image => self.described(field, |d| d.image.as_ref().map(Cell::text)),
            FieldId::ImageId => self.described(field, |d| d.image_id.as_ref().map(Cell::text)),
            FieldId::Labels => {
                self.described(field, |d| Some(Cell::Map(d.labels.iter().map(borrow).collect())))
            }
            FieldId::Status => self.owner_cell(|o| o.state.cell(|s| text(s.name()))),
            FieldId::EngineState => self.described(field, |d| d.engine_state.map(Cell::text)),
            FieldId::Created => self.described(field, |d| d.created.map(Cell::Time)),
            FieldId::Started => self.described(field, |d| d.started.map(Cell::Time)),
            FieldId::InitPid => self.owner_cell(|o| o.init_pid.cell(|p| Cell::Uint((*p).into()))),
            FieldId::Log => self.described(field, |d| d.log.as_ref().map(Cell::text)),
            FieldId::Project => {
                self.described(field, |d| d.compose.as_ref().map(|c| Cell::text(&c.project)))
            }
            FieldId::Service => self.described(field, |d| {
                d.compose.as_ref().and_then(|c| c.service.as_ref()).map(Cell::text)
            }),
            FieldId::Pod => self.pod_cell(|p| p.name),
            FieldId::Namespace => self.pod_cell(|p| p.namespace),
            FieldId::PodUid => self.pod_cell(|p| p.uid),
            FieldId::PodContainer => self.pod_cell(|p| p.container),
            FieldId::Restarts => self.owner_cell(|o| match o.pod().and_then(|p| p.restarts) {
                Some(n) => Cell::Uint(n.into()),
                None => o.described_cell(|d| unread(d, field)),
            }),
            FieldId::Qos => self.owner_cell(|o| o.qos().map_or(Cell::Absent, Cell::text)),
            field => self.process_cell(field),
        }
    }
}

fn borrow(label: &(BString, BString)) -> Pair<'_> {
    (Cow::Borrowed(label.0.as_bytes()), Cow::Borrowed(label.1.as_bytes()))
}

impl Row {
    /// A word of the pod: unread where the kubelet's files are, and nothing else tells it.
    fn pod_cell(&self, of: impl FnOnce(super::Pod) -> Option<BString>) -> Cell<'_> {
        self.owner_cell(|o| match (o.pod().and_then(of), &o.seen_pod) {
            (Some(word), _) => Cell::Bytes(Cow::Owned(word.into())),
            (None, Fact::Unread(gap)) => Cell::Unread(gap.class.name()),
            (None, _) => Cell::Absent,
        })
    }

    fn described<'s>(
        &'s self,
        field: FieldId,
        of: impl FnOnce(&'s Description) -> Option<Cell<'s>>,
    ) -> Cell<'s> {
        self.owner_cell(|o| {
            o.described_cell(|d| match unread(d, field) {
                Cell::Absent => of(d).unwrap_or(Cell::Absent),
                unread => unread,
            })
        })
    }
}

/// The cell of what a description lacks: unread where it could not be read.
fn unread(description: &Description, field: FieldId) -> Cell<'_> {
    description.unread(field).map_or(Cell::Absent, |gap| Cell::Unread(gap.class.name()))
}

/// CPU time in percent of a process's age, to a tenth. Of one that has no age yet there is none.
fn percent(stat: &Stat, age: u64) -> Cell<'static> {
    #[allow(clippy::cast_precision_loss, reason = "ticks stay far below 2^52")]
    let share = |used: u64| (used as f64 * 1000.0 / age as f64).round() / 10.0;
    if age == 0 { Cell::Absent } else { Cell::Float(share(stat.utime.saturating_add(stat.stime))) }
}

/// The terminal's usual name from its device number (console_ioctl and pts(4) majors), as ps has
/// it: `pts/0`, `tty1`, `ttyS0`, else `MAJOR:MINOR`.
fn tty(device: i32) -> Cell<'static> {
    let device = device.cast_unsigned();
    if device == 0 {
        return Cell::Absent;
    }
    // The kernel's new_encode_dev.
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0xfff00);
    let name = match (major, minor) {
        (136..=143, n) => format!("pts/{}", (major - 136) * 256 + n),
        (4, n @ 0..=63) => format!("tty{n}"),
        (4, n) => format!("ttyS{}", n - 64),
        (5, 1) => "console".into(),
        (229, n) => format!("hvc{n}"),
        (major, minor) => format!("{major}:{minor}"),
    };
    Cell::Bytes(Cow::Owned(name.into_bytes()))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use whose_fields::{Cell, FIELDS, FieldId, Record};

    use whose_kernel::parse::stat;

    use super::{Fact, Membership, Owner, Row, percent, tty};

    #[test]
    fn nothing_asked_is_absent_everywhere() {
        let row = Row::default();
        for field in FIELDS {
            assert_eq!(row.get(field.id), Cell::Absent, "{}", field.name);
        }
    }

    #[test]
    fn the_owner_is_the_last_of_the_chain() {
        let chain = vec![Rc::new(Owner::host())];
        let membership = Fact::Known(Membership { chain, evidence: Vec::new() });
        let row = Row { membership, ..Row::default() };
        assert_eq!(row.get(FieldId::Owner), Cell::text("-"));
        assert_eq!(row.get(FieldId::Id), Cell::Absent);
    }

    #[test]
    fn a_share_of_a_cpu_is_of_the_whole_life() {
        let line = b"7 (x) S 1 1 1 0 -1 0 0 0 0 0 30 3 0 0 20 0 1 0 5 1 1 1";
        let stat = stat::parse(line).unwrap();
        assert_eq!(percent(&stat, 100), Cell::Float(33.0));
        assert_eq!(percent(&stat, 990), Cell::Float(3.3));
        assert_eq!(percent(&stat, 0), Cell::Absent);
    }

    #[test]
    fn terminals_have_their_names() {
        assert_eq!(tty(34816), Cell::text("pts/0"));
        assert_eq!(tty(34816 + 7), Cell::text("pts/7"));
        assert_eq!(tty(1025), Cell::text("tty1"));
        assert_eq!(tty(1088), Cell::text("ttyS0"));
        assert_eq!(tty(0), Cell::Absent);
    }
}
