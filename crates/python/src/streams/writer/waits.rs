//! The coroutine methods of the writer: `drain` and `wait_closed`.
//!
//! An operation's `first` is the writer. `third` is the future of a drain that waits, and then `second` its protocol.

use super::StreamWriter;
use crate::ffi::error::{PyResult, restore};
use crate::ffi::{Native, Obj, call};
use crate::operation::{Behaviour, Bound, Operation, Original, Step, raise_it};
use crate::streams::{
    StreamReader, StreamReaderProtocol, call_method0, drain_helper, exception, get_close_waiter, raise_any, sleep,
};

/// `drain` sees the transport closing: it lets one turn pass.
const YIELDING: u8 = 1;
/// The protocol of somebody else decides.
const ELSEWHERE: u8 = 2;
/// `drain` waits for ours.
const PAUSED: u8 = 3;

#[inline]
fn writer_of(this: &Operation) -> &StreamWriter {
    // SAFETY: `create` made sure of it, and the slot keeps it while the operation runs.
    unsafe { &*this.first.ptr().cast::<StreamWriter>() }
}

fn create(behaviour: &'static Behaviour, bound: Bound<'_>) -> PyResult<Option<Obj>> {
    match bound.get(0).and_then(StreamWriter::of) {
        Some(_) => Operation::create(behaviour, bound),
        None => Ok(None),
    }
}

fn start_drain(this: &Operation) -> PyResult<Step> {
    let writer = writer_of(this);
    if let Some(reader) = writer.reader.get() {
        let failure = match StreamReader::of(reader.as_ptr()).filter(|reader| reader.is_plain()) {
            Some(reader) => reader.failure(),
            None => Some(call_method0(&reader, exception())?).filter(|failure| !failure.is_none()),
        };
        if let Some(failure) = failure {
            return Err(raise_any(&failure));
        }
    }
    if writer.is_closing()? {
        // So that a loop of writes and drains comes to know of a lost connection.
        this.point.set(YIELDING);
        let turn = call::call1(sleep(), call::int(0)?.as_ptr())?;
        return this.wait_for(turn);
    }
    help(this, writer)
}

/// `self._protocol._drain_helper()`
#[inline]
fn help(this: &Operation, writer: &StreamWriter) -> PyResult<Step> {
    let protocol = writer.protocol.get_or_none();
    let Some(native) = StreamReaderProtocol::of(protocol.as_ptr()).filter(|native| native.is_plain()) else {
        this.point.set(ELSEWHERE);
        return this.wait_for(call_method0(&protocol, drain_helper())?);
    };
    let Some(future) = native.begin_drain()? else {
        return Ok(Step::Done(Obj::none()));
    };
    this.point.set(PAUSED);
    this.second.set(protocol);
    this.third.set(future.clone());
    this.wait_for(future)
}

fn leave(this: &Operation) {
    if this.point.get() == PAUSED
        && let (Some(protocol), Some(future)) = (this.second.get(), this.third.take())
        && let Some(native) = StreamReaderProtocol::of(protocol.as_ptr())
    {
        native.end_drain(&future);
    }
}

fn resume_drain(this: &Operation, _value: Obj) -> PyResult<Step> {
    if this.point.get() == YIELDING {
        return help(this, writer_of(this));
    }
    leave(this);
    Ok(Step::Done(Obj::none()))
}

fn raised_drain(this: &Operation, exception: Obj) -> PyResult<Step> {
    leave(this);
    Err(restore(exception))
}

static DRAIN: Behaviour = Behaviour {
    module: "asyncio.streams",
    class: "StreamWriter",
    name: "drain",
    parameters: &[c"self"],
    required: 1,
    create,
    start: start_drain,
    resume: resume_drain,
    raised: raised_drain,
    original: Original::new(),
};

fn start_wait_closed(this: &Operation) -> PyResult<Step> {
    let writer = writer_of(this);
    let protocol = writer.protocol.get_or_none();
    let closed = call::call_method(get_close_waiter(), &[protocol.as_ptr(), writer.raw()], None)?;
    this.wait_for(closed)
}

static WAIT_CLOSED: Behaviour = Behaviour {
    module: "asyncio.streams",
    class: "StreamWriter",
    name: "wait_closed",
    parameters: &[c"self"],
    required: 1,
    create,
    start: start_wait_closed,
    resume: |_, _| Ok(Step::Done(Obj::none())),
    raised: raise_it,
    original: Original::new(),
};

pub(super) static ALL: [&Behaviour; 2] = [&DRAIN, &WAIT_CLOSED];
