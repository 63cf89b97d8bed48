//! Pipe transports: the native twins of `unix_events._UnixReadPipeTransport` and `_UnixWritePipeTransport`. This file: how
//! both begin and end.
//!
//! Invariants (with E1 to E4 of `endpoint.rs`)
//! - P1: `LOSS_DUE` is set exactly from when `connection_lost` is certain to be called, so that it is called once, and
//!   the descriptor closed once.

mod reading;
mod writing;

pub(crate) use reading::{ReadPipe, build_type as build_read_type};
pub(crate) use writing::{WritePipe, build_type as build_write_type};

use super::endpoint::{CLOSING, LOST, READING, STREAM, WRITING, checked_loop, set_extra};
use super::lifetime::Lifetime;
use super::surface::given;
use super::{AllSteps, name_of_call_connection_lost};
use crate::child::pipe::ProcessPipe;
use crate::event_loop::{EventLoop, io::Side};
use crate::ffi::Native;
use crate::ffi::error::{self, PyResult, os_error, runtime_error, value_error};
use crate::ffi::{Args, Obj, Raw, Slot, call};
use crate::state::names;
use crate::streams::StreamReaderProtocol;
use reactor::files::Kind;

/// See P1.
const LOSS_DUE: u16 = 1;

/// What is not read stays there, for the next read: not so with datagrams, terminals and other devices.
const KEEPS_REST: u16 = 1 << 5;

/// It is a pipe, which may be one of packets.
const FIFO: u16 = 1 << 6;

/// What `__init__` of both gets.
struct Parameters {
    event_loop: Raw,
    pipe: Raw,
    protocol: Raw,
    waiter: Option<Raw>,
    extra: Option<Raw>,
}

impl Parameters {
    fn bind(args: Args<'_>, function: &str) -> PyResult<Parameters> {
        let names = &[c"loop", c"pipe", c"protocol", c"waiter", c"extra"];
        let [event_loop, pipe, protocol, waiter, extra] = args.bind(function, names, 5, 3)?;
        let (Some(event_loop), Some(pipe), Some(protocol)) = (event_loop, pipe, protocol) else {
            unreachable!("bind() has checked the three required ones");
        };
        Ok(Parameters {
            event_loop,
            pipe,
            protocol,
            waiter: given(waiter),
            extra: given(extra),
        })
    }
}

/// Of either end.
trait Pipe: Lifetime {
    fn extra(&self) -> &Slot;

    /// Forgets what is unsent.
    fn clear_queue(&self);

    /// Checks the pipe and takes it in; `refused` says what else it could be. A pipe that is refused stays its owner's.
    fn init_pipe<'a>(&self, given: &Parameters, refused: &str) -> PyResult<(&'a EventLoop, Kind)> {
        let event_loop = checked_loop(given.event_loop)?;
        if self.event_loop.is_set() || self.has(LOST) {
            return Err(runtime_error("the transport is initialised already"));
        }
        let extra = given
            .extra
            .map_or_else(call::dict, |extra| Ok(Obj::from_borrowed(extra)))?;
        self.extra().set(extra.clone());
        let pipe = call::interned("pipe")?;
        set_extra(&extra, pipe.as_ptr(), &Obj::from_borrowed(given.pipe))?;
        self.init_loop(event_loop, None)?;
        let kind = self.init_file(given.pipe).and_then(|()| {
            let fd = self.live_fd();
            let kind = reactor::files::kind(fd).map_err(|error| os_error(&error))?;
            if kind == Kind::Other {
                return Err(value_error(refused));
            }
            reactor::files::set_nonblocking(fd).map_err(|error| os_error(&error))?;
            self.put(FIFO, kind == Kind::Fifo);
            self.put(KEEPS_REST, kind == Kind::Socket && reactor::sockets::is_stream(fd));
            Ok(kind)
        });
        if kind.is_err() {
            let exception = error::take();
            drop((self.file.take(), self.event_loop.take()));
            return Err(error::restore(exception));
        }
        self.set_protocol(given.protocol);
        kind.map(|kind| (event_loop, kind))
    }

    fn set_protocol(&self, protocol: Raw) {
        self.put(
            STREAM,
            StreamReaderProtocol::check(protocol) || ProcessPipe::check(protocol),
        );
        self.protocol.set(Obj::from_borrowed(protocol));
    }

    /// `_close(exc)`: now, whatever is unsent.
    fn end(&self, exception: Option<&Obj>) -> PyResult<()> {
        self.put(CLOSING, true);
        self.unregister(Side::Write);
        self.clear_queue();
        self.end_soon(exception)
    }

    /// Schedules `connection_lost`, once.
    fn end_soon(&self, exception: Option<&Obj>) -> PyResult<()> {
        self.unregister(Side::Read);
        let Some(event_loop) = self.event_loop() else {
            return Ok(());
        };
        if self.has(LOSS_DUE) {
            return Ok(());
        }
        self.put(LOSS_DUE, true);
        let argument = exception.cloned().unwrap_or_else(Obj::none);
        self.call_soon(&event_loop, name_of_call_connection_lost(), &[argument.as_ptr()])
    }

    /// Reports what is not usual, then ends. Which errors are usual differs.
    #[cold]
    fn fatal_error(&self, exception: &Obj, message: &str, usual: bool) -> PyResult<()> {
        let mut steps = AllSteps::new();
        if let Some(event_loop) = self.event_loop() {
            if !usual {
                steps.run(|| self.report(&event_loop, message, exception));
            } else if event_loop.is_debug() {
                steps.run(|| self.log("debug", "%r: %s", &[call::string(message)?.as_ptr()], Some(exception)));
            }
        }
        steps.run(|| self.end(Some(exception)));
        steps.end()
    }

    fn call_connection_lost(&self, exception: Raw) -> PyResult<()> {
        if self.has(LOST) || !self.file.is_set() {
            return Ok(());
        }
        self.put(LOST | LOSS_DUE | CLOSING, true);
        let mut steps = AllSteps::new();
        steps.run(|| self.call_protocol_with(names::connection_lost(), exception));
        self.clear_queue();
        self.unregister(Side::Read);
        self.unregister(Side::Write);
        // Moved out before anything else runs, and dropped last.
        let (file, protocol, event_loop) = (self.file.take(), self.protocol.take(), self.event_loop.take());
        if let Some(file) = &file {
            steps.run(|| call::call_method(names::close(), &[file.as_ptr()], None));
        }
        drop((file, protocol, event_loop));
        steps.end()
    }

    fn repr_with(&self, flag: u16) -> PyResult<String> {
        let mut text = super::surface::repr_begin(self)?;
        text.push(' ');
        text.push_str(match (self.file.is_set(), self.event_loop()) {
            (false, _) => "closed",
            (true, Some(event_loop)) if !event_loop.is_closed() => super::surface::polling(self, flag),
            (true, _) => "open",
        });
        Ok(text)
    }
}

fn py_set_protocol<T: Pipe>(this: &T, protocol: Raw) -> PyResult<()> {
    this.set_protocol(protocol);
    Ok(())
}

fn py_call_connection_lost<T: Pipe>(this: &T, exception: Raw) -> PyResult<()> {
    this.call_connection_lost(exception)
}
