//! The coroutine methods of the reader: `read`, `readline`, `readuntil`, `readexactly`, `__anext__`.
//!
//! An operation's `first` is the reader and its `second` the argument, if one was given. `read(-1)` collects blocks in its
//! `third`, a list. `progress` is `readuntil`'s number of bytes in which no separator begins.

use super::StreamReader;
use crate::ffi::error::{self, PyResult, owned, raise_object, restore, value_error};
use crate::ffi::{Native, Obj, Raised, Raw, c, call, object};
use crate::operation::{Behaviour, Bound, Operation, Original, Step};
use crate::streams::{incomplete_read_error, limit_overrun_error, raise_any};
use crate::transport::buffer::Bytes;
use std::ffi::CStr;
use wire::{Search, Separators, stream_buffer::search};

#[inline]
fn reader_of(this: &Operation) -> &StreamReader {
    // SAFETY: `create_*` made sure of it, and the slot keeps it while the operation runs.
    unsafe { &*this.first.ptr().cast::<StreamReader>() }
}

/// The stdlib's own function is for readers whose methods are overridden.
#[inline]
fn is_plain_reader(bound: Bound<'_>) -> bool {
    bound
        .get(0)
        .and_then(StreamReader::of)
        .is_some_and(StreamReader::is_plain)
}

fn create_without_argument(behaviour: &'static Behaviour, bound: Bound<'_>) -> PyResult<Option<Obj>> {
    if is_plain_reader(bound) {
        Operation::create(behaviour, bound)
    } else {
        Ok(None)
    }
}

/// And for arguments of unusual types.
fn create_with_number(behaviour: &'static Behaviour, bound: Bound<'_>) -> PyResult<Option<Obj>> {
    let is_int = |raw: Raw| object::type_of(raw) == &raw mut c::PyLong_Type;
    if is_plain_reader(bound) && bound.get(1).is_none_or(is_int) {
        Operation::create(behaviour, bound)
    } else {
        Ok(None)
    }
}

fn create_with_separator(behaviour: &'static Behaviour, bound: Bound<'_>) -> PyResult<Option<Obj>> {
    if is_plain_reader(bound) && bound.get(1).is_none_or(is_usual_separator) {
        Operation::create(behaviour, bound)
    } else {
        Ok(None)
    }
}

fn is_usual_separator(raw: Raw) -> bool {
    // SAFETY: A1.
    let is_bytes = |raw: Raw| unsafe { c::PyBytes_CheckExact(raw) } != 0;
    if is_bytes(raw) {
        return true;
    }
    cfg!(Py_3_13)
        && object::type_of(raw) == &raw mut c::PyTuple_Type
        && (0..call::tuple_len(raw)).all(|index| is_bytes(call::tuple_item(raw, index)))
}

/// Waits for data; `resume` or `raised` comes next.
#[inline]
fn wait(this: &Operation, reader: &StreamReader, function: &str) -> PyResult<Step> {
    let future = reader.begin_wait(function)?;
    this.wait_for(future)
}

fn raised(this: &Operation, exception: Obj) -> PyResult<Step> {
    reader_of(this).end_wait();
    Err(restore(exception))
}

fn check_failure(reader: &StreamReader) -> PyResult<()> {
    match reader.failure() {
        Some(exception) => Err(raise_any(&exception)),
        None => Ok(()),
    }
}

fn nothing() -> PyResult<Step> {
    // SAFETY: A1; the empty bytes object.
    owned(unsafe { c::PyBytes_FromStringAndSize(std::ptr::null(), 0) }).map(Step::Done)
}

/// The argument as a length; whoever asks for more than can be gets all there is.
#[inline]
fn number(argument: Raw) -> i64 {
    if argument.is_null() {
        return -1;
    }
    let mut overflow = 0;
    // SAFETY: A1; an int.
    let number = unsafe { c::PyLong_AsLongLongAndOverflow(argument, &raw mut overflow) };
    match overflow {
        0 => number,
        1.. => i64::MAX,
        _ => i64::MIN,
    }
}

/// `raise IncompleteReadError(everything, expected)`
fn incomplete(reader: &StreamReader, expected: &Obj) -> PyResult<Step> {
    let partial = reader.store.take(usize::MAX)?;
    let class = incomplete_read_error();
    let exception = call::call(class, &[partial.as_ptr(), expected.as_ptr()], None)?;
    Err(raise_object(class, &exception))
}

// ---- read ----------------------------------------------------------------------------------------

fn start_read(this: &Operation) -> PyResult<Step> {
    let reader = reader_of(this);
    check_failure(reader)?;
    match number(this.second.ptr()) {
        ..0 => return read_all(this, reader),
        0 => return nothing(),
        len => {
            if reader.store.is_empty() && !reader.eof.get() {
                reader.wanted.set(len as usize);
                return wait(this, reader, "read");
            }
        }
    }
    read_some(this, reader)
}

#[inline]
fn read_some(this: &Operation, reader: &StreamReader) -> PyResult<Step> {
    let data = reader.store.take(number(this.second.ptr()) as usize)?;
    reader.maybe_resume()?;
    Ok(Step::Done(data))
}

fn resume_read(this: &Operation, _value: Obj) -> PyResult<Step> {
    let reader = reader_of(this);
    reader.end_wait();
    if number(this.second.ptr()) >= 0 {
        return read_some(this, reader);
    }
    if add_block(this, reader)? {
        read_all(this, reader)
    } else {
        join_blocks(this)
    }
}

/// `read(-1)`: blocks until there is none.
fn read_all(this: &Operation, reader: &StreamReader) -> PyResult<Step> {
    loop {
        check_failure(reader)?;
        if reader.store.is_empty() && !reader.eof.get() {
            return wait(this, reader, "read");
        }
        if !add_block(this, reader)? {
            return join_blocks(this);
        }
    }
}

/// False if there was nothing to add.
fn add_block(this: &Operation, reader: &StreamReader) -> PyResult<bool> {
    let is_empty = reader.store.is_empty();
    // asyncio's blocks are no longer than the limit. That shows only if there is an exception to raise after the first.
    let len = match reader.failure() {
        Some(_) => reader.limit_len.get().max(0) as usize,
        None => usize::MAX,
    };
    let block = reader.store.take(len)?;
    reader.maybe_resume()?;
    if is_empty {
        return Ok(false);
    }
    let blocks = match this.third.get() {
        Some(blocks) => blocks,
        None => {
            let blocks = call::list()?;
            this.third.set(blocks.clone());
            blocks
        }
    };
    call::list_append(&blocks, block.as_ptr())?;
    Ok(true)
}

fn join_blocks(this: &Operation) -> PyResult<Step> {
    let Step::Done(empty) = nothing()? else {
        return nothing();
    };
    match this.third.take() {
        Some(blocks) => call::call_method(
            call::interned("join")?.as_ptr(),
            &[empty.as_ptr(), blocks.as_ptr()],
            None,
        )
        .map(Step::Done),
        None => Ok(Step::Done(empty)),
    }
}

// ---- readexactly ---------------------------------------------------------------------------------

fn start_exactly(this: &Operation) -> PyResult<Step> {
    let reader = reader_of(this);
    let len = number(this.second.ptr());
    if len < 0 {
        return Err(value_error("readexactly size can not be less than zero"));
    }
    check_failure(reader)?;
    if len == 0 {
        nothing()
    } else {
        read_exactly(this, reader)
    }
}

fn read_exactly(this: &Operation, reader: &StreamReader) -> PyResult<Step> {
    let len = number(this.second.ptr()) as usize;
    if reader.store.len() >= len {
        let data = reader.store.take(len)?;
        reader.maybe_resume()?;
        return Ok(Step::Done(data));
    }
    if reader.eof.get() {
        return incomplete(reader, &this.second.get_or_none());
    }
    wait(this, reader, "readexactly")
}

fn resume_exactly(this: &Operation, _value: Obj) -> PyResult<Step> {
    let reader = reader_of(this);
    reader.end_wait();
    read_exactly(this, reader)
}

// ---- readuntil -----------------------------------------------------------------------------------

/// Runs `look` with the separators of a `readuntil`: its argument, or a newline.
#[inline]
fn with_separators<T>(argument: Raw, look: impl FnOnce(&Separators<'_>) -> T) -> T {
    if argument.is_null() {
        return look(&Separators::One(b"\n"));
    }
    if let Some(separator) = Bytes::of(argument) {
        return look(&Separators::One(separator.as_ref()));
    }
    let all: Vec<Bytes> = (0..call::tuple_len(argument))
        .filter_map(|index| Bytes::of(call::tuple_item(argument, index)))
        .collect();
    let mut sorted: Vec<&[u8]> = all.iter().map(Bytes::as_ref).collect();
    sorted.sort_by_key(|separator| separator.len());
    look(&Separators::Any(&sorted))
}

fn start_until(this: &Operation) -> PyResult<Step> {
    let text = with_separators(this.second.ptr(), |separators| match separators {
        Separators::Any([]) => Some("Separator should contain at least one element"),
        Separators::One([]) | Separators::Any([[], ..]) => Some("Separator should be at least one-byte string"),
        _ => None,
    });
    if let Some(text) = text {
        return Err(value_error(text));
    }
    let reader = reader_of(this);
    check_failure(reader)?;
    read_until(this, reader)
}

#[inline]
fn read_until(this: &Operation, reader: &StreamReader) -> PyResult<Step> {
    let (mut scanned, limit) = (this.progress.get(), reader.limit_len.get());
    let found = with_separators(this.second.ptr(), |separators| {
        reader
            .store
            .with_bytes(|bytes| search(bytes, separators, &mut scanned, limit))
    });
    this.progress.set(scanned);
    match found {
        Search::Take(len) => {
            let data = reader.store.take(len)?;
            reader.maybe_resume()?;
            Ok(Step::Done(data))
        }
        Search::FoundTooFar(at) => overrun("Separator is found, but chunk is longer than limit", at),
        Search::NotFound(at) => overrun("Separator is not found, and chunk exceed the limit", at),
        Search::Wait if reader.eof.get() => incomplete(reader, &Obj::none()),
        Search::Wait => wait(this, reader, "readuntil"),
    }
}

fn resume_until(this: &Operation, _value: Obj) -> PyResult<Step> {
    let reader = reader_of(this);
    reader.end_wait();
    read_until(this, reader)
}

#[cold]
fn overrun(text: &str, consumed: usize) -> PyResult<Step> {
    let (text, consumed) = (call::string(text)?, call::int(consumed as i64)?);
    let class = limit_overrun_error();
    let exception = call::call(class, &[text.as_ptr(), consumed.as_ptr()], None)?;
    Err(raise_object(class, &exception))
}

// ---- readline ------------------------------------------------------------------------------------

fn start_line(this: &Operation) -> PyResult<Step> {
    let outcome = start_until(this);
    end_line(this, outcome)
}

fn resume_line(this: &Operation, value: Obj) -> PyResult<Step> {
    let outcome = resume_until(this, value);
    end_line(this, outcome)
}

fn raised_line(this: &Operation, exception: Obj) -> PyResult<Step> {
    let outcome = raised(this, exception);
    end_line(this, outcome)
}

/// What `readline` makes of the outcome of its `readuntil`, and `__anext__` of that.
#[inline]
fn end_line(this: &Operation, outcome: PyResult<Step>) -> PyResult<Step> {
    let step = match outcome {
        Ok(step) => step,
        Err(Raised) => Step::Done(end_line_without(reader_of(this))?),
    };
    if let Step::Done(line) = &step
        && this.is(&NEXT)
        && Bytes::of(line.as_ptr()).is_some_and(|line| line.as_ref().is_empty())
    {
        // SAFETY: A1; a static of the interpreter.
        unsafe { c::PyErr_SetNone(c::PyExc_StopAsyncIteration) };
        return Err(Raised);
    }
    Ok(step)
}

/// `readline`'s two `except` clauses.
#[cold]
fn end_line_without(reader: &StreamReader) -> PyResult<Obj> {
    let exception = error::take();
    let attribute = |name: &str| call::getattr(exception.as_ptr(), call::interned(name)?.as_ptr());
    if error::is_instance_of(exception.as_ptr(), incomplete_read_error()) {
        return attribute("partial");
    }
    if !error::is_instance_of(exception.as_ptr(), limit_overrun_error()) {
        return Err(restore(exception));
    }
    let consumed = call::as_i64(attribute("consumed")?.as_ptr())? as usize;
    if reader.store.with_bytes(|bytes| bytes.get(consumed) == Some(&b'\n')) {
        reader.store.consume(consumed + 1)?;
    } else {
        reader.store.clear()?;
    }
    reader.maybe_resume()?;
    let arguments = attribute("args")?;
    // SAFETY: A1; `args` is a tuple of all exceptions.
    let text = owned(unsafe { c::PySequence_GetItem(arguments.as_ptr(), 0) })?;
    // SAFETY: a static of the interpreter.
    let error = call::call1(unsafe { c::PyExc_ValueError }, text.as_ptr())?;
    // SAFETY: A1; takes over the reference.
    unsafe { c::PyException_SetContext(error.as_ptr(), exception.into_ptr()) };
    Err(restore(error))
}

// ---- behaviours ----------------------------------------------------------------------------------

const fn behaviour(
    name: &'static str,
    parameters: &'static [&'static CStr],
    required: usize,
    create: fn(&'static Behaviour, Bound<'_>) -> PyResult<Option<Obj>>,
    start: fn(&Operation) -> PyResult<Step>,
    resume: fn(&Operation, Obj) -> PyResult<Step>,
    raised: fn(&Operation, Obj) -> PyResult<Step>,
) -> Behaviour {
    Behaviour {
        module: "asyncio.streams",
        class: "StreamReader",
        name,
        parameters,
        required,
        create,
        start,
        resume,
        raised,
        original: Original::new(),
    }
}

static READ: Behaviour = behaviour(
    "read",
    &[c"self", c"n"],
    1,
    create_with_number,
    start_read,
    resume_read,
    raised,
);

static EXACTLY: Behaviour = behaviour(
    "readexactly",
    &[c"self", c"n"],
    2,
    create_with_number,
    start_exactly,
    resume_exactly,
    raised,
);

static UNTIL: Behaviour = behaviour(
    "readuntil",
    &[c"self", c"separator"],
    1,
    create_with_separator,
    start_until,
    resume_until,
    raised,
);

static LINE: Behaviour = behaviour(
    "readline",
    &[c"self"],
    1,
    create_without_argument,
    start_line,
    resume_line,
    raised_line,
);

static NEXT: Behaviour = behaviour(
    "__anext__",
    &[c"self"],
    1,
    create_without_argument,
    start_line,
    resume_line,
    raised_line,
);

pub(super) static ALL: [&Behaviour; 5] = [&READ, &EXACTLY, &UNTIL, &LINE, &NEXT];
