//! What Nomad, Mesos, ECS' agent, rkt and Slurm write down, and the encodings that they use.

use whose_core::state::{ecs, mesos, msgpack, nomad, protobuf, rkt, slurm};

use crate::machines::told;

pub(crate) fn msgpack(bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let before = rest.len();
        if told(msgpack::head(&mut rest)).is_none() {
            break;
        }
        assert!(rest.len() < before);
    }
    for element in told(msgpack::elements(bytes)).unwrap_or_default() {
        // One whole value is one whole value.
        assert!(!element.is_empty());
        assert!(msgpack::elements(&[&[0x91], element].concat()).is_ok());
    }
    let inner = told(msgpack::at(bytes, &["a", "b"])).flatten();
    assert!(inner.is_none_or(|inner| inner.len() < bytes.len()));
    let text = told(msgpack::text_at(bytes, &["a"])).flatten();
    assert!(text.is_none_or(|text| !text.is_empty()));
}

pub(crate) fn nomad(bytes: &[u8]) {
    if let Some(allocation) = told(nomad::parse_allocation(bytes)) {
        assert!(allocation.tasks.iter().all(|task| !task.name.is_empty()));
    }
    drop(told(nomad::parse_task_state(bytes)));
    assert!(nomad::data_dir(bytes).is_none_or(|dir| dir.starts_with(b"/")));
}

pub(crate) fn protobuf(bytes: &[u8]) {
    let fields = protobuf::fields(bytes).map_while(told);
    assert!(fields.map(|(_, field)| field.len() + 2).sum::<usize>() <= bytes.len());
    // An error is the last that is told.
    assert!(protobuf::fields(bytes).skip_while(Result::is_ok).count() <= 1);
    let inner = told(protobuf::at(bytes, &[8, 1, 1])).flatten();
    assert!(inner.is_none_or(|inner| inner.len() < bytes.len()));
}

/// A file, and a message with the size before it.
pub(crate) fn mesos(bytes: &[u8]) {
    let size = u32::try_from(bytes.len()).unwrap_or_default().to_ne_bytes();
    for file in [bytes, &[&size, bytes].concat()] {
        if let Some(config) = told(mesos::parse(file)) {
            let paths = [config.rootfs, config.directory].into_iter().flatten();
            paths.for_each(|path| assert!(path.starts_with(b"/")));
        }
    }
}

pub(crate) fn rkt(bytes: &[u8]) {
    drop(told(rkt::parse(bytes)));
}

pub(crate) fn ecs(bytes: &[u8]) {
    if let Some(container) = told(ecs::parse(bytes)) {
        assert!(container.image.is_none_or(|image| !image.is_empty()));
    }
}

pub(crate) fn slurm(bytes: &[u8]) {
    if let Some((job, step)) = slurm::parse_socket(bytes) {
        assert_eq!(slurm::parse_socket(format!("n_{job}.{step}").as_bytes()), Some((job, step)));
    }
    assert!(slurm::spool_dir(bytes).is_none_or(|dir| dir.starts_with(b"/")));
}
