//! ProcessPipe: the base of the protocol between a child's pipe and asyncio's transport of the child, by which a pipe
//! transport finds the StreamReader to feed without a call.
//!
//! asyncio hands each piece of data from a pipe to the child's transport and calls the protocol in the next turn. For
//! `SubprocessStreamProtocol`, which only feeds a reader, that is three Python calls and a turn; here it is none. Nothing
//! overtakes anything: as long as pieces wait to be delivered (`_pending_calls`), or the protocol has no reader, asyncio's
//! way is taken, and what is queued then runs before the next event.

use crate::ffi::error::PyResult;
use crate::ffi::types::{TypeSpec, add_to_module};
use crate::ffi::{Native, Obj, Own, Raw, c, call, object};
use crate::streams::StreamReader;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

#[repr(C)]
pub(crate) struct ProcessPipe {
    head: c::PyObject,
}

static PROCESS_PIPE: AtomicPtr<c::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

// SAFETY: repr(C), a header and nothing else.
unsafe impl Native for ProcessPipe {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        PROCESS_PIPE.load(Ordering::Relaxed)
    }
}

struct Known {
    /// `asyncio.subprocess.SubprocessStreamProtocol` and its `pipe_data_received`.
    class: Obj,
    method: Obj,
    proc: Obj,
    protocol: Obj,
    pending: Obj,
    fd: Obj,
    dict: Obj,
    pipe_data_received: Obj,
    streams: [Obj; 2],
}

// SAFETY: only used attached (A1); kept for ever.
unsafe impl Send for Known {}
// SAFETY: as above.
unsafe impl Sync for Known {}

static KNOWN: OnceLock<Known> = OnceLock::new();

fn load() -> PyResult<Known> {
    let class = call::import_from("asyncio.subprocess", "SubprocessStreamProtocol")?;
    let pipe_data_received = call::interned("pipe_data_received")?;
    Ok(Known {
        method: call::getattr(class.as_ptr(), pipe_data_received.as_ptr())?,
        class,
        proc: call::interned("proc")?,
        protocol: call::interned("_protocol")?,
        pending: call::interned("_pending_calls")?,
        fd: call::interned("fd")?,
        dict: call::interned("__dict__")?,
        pipe_data_received,
        streams: [call::interned("stdout")?, call::interned("stderr")?],
    })
}

impl ProcessPipe {
    /// The reader that the data of this pipe goes to, if nothing but that would happen.
    pub(crate) fn plain_reader(&self) -> Option<Own<StreamReader>> {
        let found = self.find_reader();
        if found.is_err() {
            // Whatever is missing: asyncio's way will say so.
            crate::ffi::error::clear();
        }
        found.ok()?
    }

    fn find_reader(&self) -> PyResult<Option<Own<StreamReader>>> {
        let Some(known) = KNOWN.get() else { return Ok(None) };
        let transport = call::getattr(self.raw(), known.proc.as_ptr())?;
        if transport.is_none() || !call::getattr(transport.as_ptr(), known.pending.as_ptr())?.is_none() {
            return Ok(None);
        }
        let protocol = call::getattr(transport.as_ptr(), known.protocol.as_ptr())?;
        if object::type_of(protocol.as_ptr()).cast() != known.class.as_ptr()
            || !call::getattr(known.class.as_ptr(), known.pipe_data_received.as_ptr())?.is(known.method.as_ptr())
        {
            return Ok(None);
        }
        let dict = call::getattr(protocol.as_ptr(), known.dict.as_ptr())?;
        // SAFETY: A1; an instance's dict.
        if unsafe { c::PyDict_Contains(dict.as_ptr(), known.pipe_data_received.as_ptr()) } != 0 {
            return Ok(None);
        }
        let fd = call::as_i64(call::getattr(self.raw(), known.fd.as_ptr())?.as_ptr())?;
        let Some(name) = usize::try_from(fd - 1).ok().and_then(|index| known.streams.get(index)) else {
            return Ok(None);
        };
        let reader: Obj = call::getattr(protocol.as_ptr(), name.as_ptr())?;
        Ok(StreamReader::of(reader.as_ptr())
            .filter(|reader| reader.is_plain())
            .map(Native::own))
    }
}

pub(super) fn build(module: Raw) -> PyResult<()> {
    let _ = KNOWN.set(load()?);
    let spec = TypeSpec::new(
        c"asynchrotron._core.ProcessPipe",
        c"Base of the protocol of a child's pipe, whose data goes to a stream's reader without a call.",
        size_of::<ProcessPipe>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_BASETYPE,
    );
    let made = spec.build(module)?;
    add_to_module(module, c"ProcessPipe", &made)?;
    PROCESS_PIPE.store(made.into_ptr().cast(), Ordering::Relaxed);
    Ok(())
}
