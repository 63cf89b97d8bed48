//! Transports: the bytes between sockets and protocols.

pub(crate) mod stream;
