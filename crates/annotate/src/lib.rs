//! The filter of `whose`: adds owners to the lines that other tools print.
//!
//! [`Engine`] takes bytes as they come and passes all of them on, with additions. What a line names
//! is found by the formats (`format`, one file each, pure), and whose that is by a [`Names`].

mod engine;
mod format;
mod host;

mod names;
mod options;
mod time;
mod visible;
mod words;

pub use engine::{Engine, Sink};
pub use format::formats;

pub use host::HostNames;
pub use names::{Called, Known, Names, Standing, Tag, Turn};
pub use options::{BadOption, Options, PidColumn, Style};
