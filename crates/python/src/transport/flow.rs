//! Watermarks: when a protocol is asked to pause and to go on writing. The decisions are in `wire::flow`.

use super::endpoint::Endpoint;
use crate::ffi::error::{self, PyResult, owned, value_error};
use crate::ffi::{Obj, Raw, c, call, object};
use crate::state::names;
use wire::Signal;

/// Of every transport.
pub(super) trait Watermarks: Endpoint {
    #[inline]
    fn maybe_pause_protocol(&self) -> PyResult<()> {
        let mut flow = self.flow.get();
        let signal = flow.grown(self.unsent_len());
        self.flow.set(flow);
        if signal == Signal::Pause {
            self.signal(names::pause_writing(), "protocol.pause_writing() failed")
        } else {
            Ok(())
        }
    }

    fn maybe_resume_protocol(&self) -> PyResult<()> {
        let mut flow = self.flow.get();
        let signal = flow.shrunk(self.unsent_len());
        self.flow.set(flow);
        if signal == Signal::Resume {
            self.signal(names::resume_writing(), "protocol.resume_writing() failed")
        } else {
            Ok(())
        }
    }

    /// A protocol that fails here is reported, and stays connected.
    fn signal(&self, name: Raw, message: &str) -> PyResult<()> {
        if self.call_protocol(name).is_ok() {
            return Ok(());
        }
        let exception = error::take();
        if error::is_exit(exception.as_ptr()) {
            return Err(error::restore(exception));
        }
        match self.event_loop() {
            Some(event_loop) => self.report(&event_loop, message, &exception),
            None => Ok(()),
        }
    }

    /// `_FlowControlMixin._set_write_buffer_limits`, for any numbers.
    fn set_limits(&self, high: Option<Raw>, low: Option<Raw>) -> PyResult<()> {
        let given = |value: Option<Raw>| value.filter(|value| !object::is_none(*value)).map(Obj::from_borrowed);
        let (high, low) = (given(high), given(low));
        let four = call::int(4)?;
        let high = match (high, &low) {
            (Some(high), _) => high,
            (None, None) => call::int(wire::flow::HIGH_LEN_DEFAULT as i64)?,
            // SAFETY: A1.
            (None, Some(low)) => owned(unsafe { c::PyNumber_Multiply(four.as_ptr(), low.as_ptr()) })?,
        };
        let low = match low {
            Some(low) => low,
            // SAFETY: A1.
            None => owned(unsafe { c::PyNumber_FloorDivide(high.as_ptr(), four.as_ptr()) })?,
        };
        if !(is_at_least(&high, &low)? && is_at_least(&low, &call::int(0)?)?) {
            return Err(value_error(&format!(
                "high ({}) must be >= low ({}) must be >= 0",
                call::repr(high.as_ptr())?,
                call::repr(low.as_ptr())?
            )));
        }
        let (low_len, high_len) = (as_len(&low)?, as_len(&high)?);
        let mut flow = self.flow.get();
        flow.set_limits(low_len, high_len);
        self.flow.set(flow);
        self.low_water.set(low);
        self.high_water.set(high);
        Ok(())
    }

    fn show_low_water(&self) -> PyResult<Obj> {
        self.low_water
            .get()
            .map_or_else(|| call::int(wire::flow::HIGH_LEN_DEFAULT as i64 / 4), Ok)
    }

    fn show_high_water(&self) -> PyResult<Obj> {
        self.high_water
            .get()
            .map_or_else(|| call::int(wire::flow::HIGH_LEN_DEFAULT as i64), Ok)
    }
}

impl<T: Endpoint> Watermarks for T {}

fn is_at_least(left: &Obj, right: &Obj) -> PyResult<bool> {
    // SAFETY: A1.
    let answer = owned(unsafe { c::PyObject_RichCompare(left.as_ptr(), right.as_ptr(), c::Py_GE) })?;
    call::is_true(answer.as_ptr())
}

/// A number that is not negative as a length: a length is above one exactly if it is above the other.
fn as_len(number: &Obj) -> PyResult<usize> {
    // SAFETY: A1.
    if unsafe { c::PyLong_Check(number.as_ptr()) } != 0 {
        // SAFETY: A1.
        let len = unsafe { c::PyLong_AsUnsignedLongLong(number.as_ptr()) };
        if error::take_if_any().is_some() {
            // More than any buffer can hold.
            return Ok(usize::MAX);
        }
        return Ok(len as usize);
    }
    // Conversion cuts off the fraction, and ends at the largest length.
    Ok(call::as_f64(number.as_ptr())? as usize)
}
