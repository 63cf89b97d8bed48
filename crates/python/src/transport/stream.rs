//! The native stream transport (being written).

use crate::event_loop::{EventLoop, io::Side};
use crate::ffi::error::PyResult;
use crate::ffi::types::TypeSpec;
use crate::ffi::{Native, Obj, Raw, c};
use crate::state::state;

#[repr(C)]
pub(crate) struct StreamTransport {
    head: c::PyObject,
}

// SAFETY: repr(C), header first.
unsafe impl Native for StreamTransport {
    fn type_object() -> *mut c::PyTypeObject {
        state().types.stream_transport()
    }
}

impl StreamTransport {
    pub(crate) fn on_ready(&self, _event_loop: &EventLoop, _side: Side) -> PyResult<()> {
        Ok(())
    }
    pub(crate) fn flush(&self, _event_loop: &EventLoop) {}
}

pub(crate) fn build_type(module: Raw) -> PyResult<Obj> {
    TypeSpec::new(
        c"asynchrotron._core.StreamTransport",
        c"",
        size_of::<StreamTransport>(),
        c::Py_TPFLAGS_DEFAULT,
    )
    .build(module)
}
