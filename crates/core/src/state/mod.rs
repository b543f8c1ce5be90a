//! Formats of state on disk, and stores that several runtimes share. Each reader takes a `Root`.

pub mod apptainer;
pub mod bolt;
pub mod buildah;
pub mod containerd;
pub mod containers_storage;
pub mod crio;
pub mod docker;
pub mod docker_layers;
pub mod facts;
pub mod flatpak;
pub mod json;
pub mod kubelet;
pub mod lxc;
pub mod lxd;
pub mod machined;
pub mod manifest;
pub mod nspawn;
pub mod oci;
pub mod openvz;
pub mod podman;
pub mod redact;
pub mod runsc;
pub mod spec;
pub mod sqlite;
pub mod toml;
pub mod yaml;
