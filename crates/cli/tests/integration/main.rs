//! Tests over the built binary and saved trees; no root, no engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests: a panic is their report"
)]

mod annotate;
mod bad_input;
mod bare;
mod binds;
mod capture;
mod captured;
mod containerd;
mod containerd_records;
mod crio;
mod disk;
mod doctor;
mod documented;
mod drivers;
mod flatpak;
mod honesty;
mod image_stores;
mod jails;
mod kind;
mod layers;
mod libvirt;
mod linking;
mod look_alikes;
mod ls;
mod lxc;
mod machines;
mod membership;
mod output;
mod podman;
mod podman_inside;
mod podman_stores;
mod podman_users;
mod pods;
mod ps;
mod run_roots;
mod sandboxes;
mod saved;
mod scheduler_state;
mod schedulers;
mod snap;
mod snapshots;
mod states;
mod stopped;
mod support;
mod tree;
mod vectors;
