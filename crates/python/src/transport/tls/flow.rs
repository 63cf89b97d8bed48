//! Watermarks of TLS: whether one is crossed is seen here, at each packet; what follows is the stdlib's code.

use super::TlsProtocol;
use super::engine::Engine;
use super::{control_app_writing, control_ssl_reading};
use crate::ffi::error::PyResult;
use crate::ffi::{Obj, Slot, c, call};
use std::cell::Cell;

/// The two marks of a direction. Python code sets them one after the other, to any numbers.
#[repr(C)]
pub(super) struct Limits {
    high_len: Cell<i64>,
    low_len: Cell<i64>,
    /// `(high, low)` as they were given.
    shown: Slot,
}

impl Limits {
    pub(super) fn slot(&self) -> &Slot {
        &self.shown
    }

    pub(super) fn high(&self) -> i64 {
        self.high_len.get()
    }

    pub(super) fn low(&self) -> i64 {
        self.low_len.get()
    }

    fn pair(&self) -> PyResult<(Obj, Obj)> {
        match self.shown.get() {
            Some(pair) => Ok((
                Obj::from_borrowed(call::tuple_item(pair.as_ptr(), 0)),
                Obj::from_borrowed(call::tuple_item(pair.as_ptr(), 1)),
            )),
            None => Ok((call::int(0)?, call::int(0)?)),
        }
    }

    pub(super) fn show_high(&self) -> PyResult<Obj> {
        Ok(self.pair()?.0)
    }

    pub(super) fn show_low(&self) -> PyResult<Obj> {
        Ok(self.pair()?.1)
    }

    pub(super) fn set_high(&self, value: &Obj) -> PyResult<()> {
        self.high_len.set(as_len(value, f64::ceil)?);
        let (_, low) = self.pair()?;
        self.shown.set(call::tuple(&[value.as_ptr(), low.as_ptr()])?);
        Ok(())
    }

    pub(super) fn set_low(&self, value: &Obj) -> PyResult<()> {
        self.low_len.set(as_len(value, f64::floor)?);
        let (high, _) = self.pair()?;
        self.shown.set(call::tuple(&[high.as_ptr(), value.as_ptr()])?);
        Ok(())
    }
}

/// Lengths are whole: at least a number exactly if at least the next whole one.
fn as_len(number: &Obj, round: fn(f64) -> f64) -> PyResult<i64> {
    // SAFETY: A1.
    if unsafe { c::PyLong_Check(number.as_ptr()) } == 0 {
        return Ok(round(call::as_f64(number.as_ptr())?) as i64);
    }
    let mut overflow = 0;
    // SAFETY: A1; an int.
    let len = unsafe { c::PyLong_AsLongLongAndOverflow(number.as_ptr(), &raw mut overflow) };
    Ok(match overflow {
        0 => len,
        1.. => i64::MAX,
        _ => i64::MIN,
    })
}

impl TlsProtocol {
    /// Tells the protocol above if what is unsent has crossed a mark.
    #[inline]
    pub(super) fn watch_app_writing(&self, engine: &Engine) -> PyResult<()> {
        let size = engine.outgoing_len()? as i64 + self.backlog_len.get();
        let paused = self.app_writing_paused.get();
        let limits = &self.outgoing_limits;
        if (size >= limits.high() && !paused) || (size <= limits.low() && paused) {
            self.call_own(control_app_writing())?;
        }
        Ok(())
    }

    /// The same for what was received and is not decrypted yet, and the transport below.
    #[inline]
    pub(super) fn watch_ssl_reading(&self, engine: &Engine) -> PyResult<()> {
        let size = engine.incoming_len()? as i64;
        let paused = self.ssl_reading_paused.get();
        let limits = &self.incoming_limits;
        if (size >= limits.high() && !paused) || (size <= limits.low() && paused) {
            self.call_own(control_ssl_reading())?;
        }
        Ok(())
    }
}
