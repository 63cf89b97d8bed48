//! The eventfd as loom can follow it: a counter that is not zero while the bell rings, and a place to wait for that.

use std::io;

use crate::sync::{Condvar, Mutex, lock};

#[derive(Debug)]
pub(super) struct Bell {
    rings: Mutex<u64>,
    rang: Condvar,
}

impl Bell {
    #[allow(clippy::unnecessary_wraps, reason = "its twin makes a system call")]
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            rings: Mutex::new(0),
            rang: Condvar::new(),
        })
    }

    pub(super) fn ring(&self) {
        *lock(&self.rings) += 1;
        self.rang.notify_one();
    }

    pub(super) fn silence(&self) {
        *lock(&self.rings) = 0;
    }

    pub(super) fn wait(&self) {
        let mut rings = lock(&self.rings);
        while *rings == 0 {
            rings = self.rang.wait(rings).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}
