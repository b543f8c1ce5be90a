//! Raw kernel facts for `whose`.
//!
//! [`parse`] turns bytes into structs and does no I/O. [`read`] and [`scan`] open files, always
//! beneath a [`root::Root`] or one open `/proc/PID` directory. Facts that are not files go through
//! [`live::Live`]. Reads that can block on another process go through [`worker::Worker`].
//! Nothing here knows what a container runtime is.

pub mod capture;
pub mod confined;
mod drain;
pub mod error;
pub mod held;
pub mod host;
pub mod input;
pub mod links;
pub mod live;
pub mod look;
pub mod object;
pub mod own;
pub mod parse;
pub mod read;
pub mod remote;
pub mod root;
pub mod scan;
pub mod seam;
pub mod sift;
pub mod usage;
pub mod worker;

pub use error::{Class, ReadError};
pub use host::{Host, Mode, Options};
