//! Recognition, index and answers of `whose`.
//!
//! The modules form layers; each imports only those before it: [`model`], [`state`], [`runtime`] | [`storage`],
//! [`index`], [`target`], [`answer`]. `cargo xtask tidy` holds them to it.

pub mod answer;
pub mod index;
pub mod model;
pub mod runtime;
pub mod state;
pub mod storage;
pub mod target;
