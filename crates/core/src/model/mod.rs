//! What the rest speaks of: processes, owners, evidence, gaps. No I/O.

pub mod daemon;
pub mod evidence;
pub mod fact;
pub mod file;
pub mod gap;
pub mod listed;
pub mod owner;
pub mod pod;
pub mod process;
pub mod row;
pub mod usage;

pub use evidence::{Evidence, Source};
pub use fact::Fact;
pub use file::{
    CopiedUp, File, FileMount, FileRole, FileState, Inode, Layer, LayerKind, Mounting, RootFiles,
    Rootfs, Standing, Stored, StoredKind, Verified,
};
pub use gap::Gap;
pub use listed::{Listed, TOTALS};
pub use owner::{
    Compose, ContainerState, Described, Description, Engine, Owner, OwnerKind, is_whole,
};
pub use pod::{Pod, SeenPod};
pub use process::{Process, Role};
pub use row::{Membership, Row};
pub use usage::{Occupied, Usage, UsageKind, UsagePart};
pub use whose_kernel::Class;
