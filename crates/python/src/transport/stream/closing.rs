//! The end of a connection. `close` sends what is queued first, `abort` and fatal errors do not; all end in one call of
//! `connection_lost`, after which nothing of the connection is held.

use super::{CLOSING, LOST, Side, StreamTransport};
use crate::ffi::error::{self, PyResult};
use crate::ffi::{Obj, Raw, c, call, object};
use crate::state::names;
use crate::transport::endpoint::Endpoint;
use crate::transport::sendfile::Sendfile;
use crate::transport::{AllSteps, detach, name_of_call_connection_lost, set_exception, settle};

impl StreamTransport {
    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.has(CLOSING)
    }

    pub(super) fn close(&self) -> PyResult<()> {
        // A send that fails closes, so it comes before the question.
        self.flush_now()?;
        let Some(event_loop) = self.event_loop() else {
            return Ok(());
        };
        if self.has(CLOSING) {
            return Ok(());
        }
        self.put(CLOSING, true);
        self.unregister(Side::Read);
        if self.has_unsent() {
            return Ok(());
        }
        self.conn_lost.set(self.conn_lost.get() + 1);
        self.unregister(Side::Write);
        let none = Obj::none();
        self.call_soon(&event_loop, name_of_call_connection_lost(), &[none.as_ptr()])
    }

    /// `abort()`, and the end of every fatal error. What asyncio, which sends without delay, would have handed to the
    /// kernel by now is handed over first; the rest is lost.
    pub(super) fn force_close(&self, exception: Option<&Obj>) -> PyResult<()> {
        let mut steps = AllSteps::new();
        if exception.is_none() {
            steps.run(|| self.flush_now());
        } else {
            // In asyncio the error would have come to the write before: it is this one, not what the kernel says after it.
            self.send_regardless();
        }
        let Some(event_loop) = self.event_loop() else {
            return steps.end();
        };
        if self.conn_lost.get() != 0 {
            return steps.end();
        }
        self.clear_queue();
        self.unregister(Side::Write);
        if !self.has(CLOSING) {
            self.put(CLOSING, true);
            self.unregister(Side::Read);
        }
        self.conn_lost.set(1);
        let argument = exception.cloned().unwrap_or_else(Obj::none);
        let name = name_of_call_connection_lost();
        steps.run(|| self.call_soon(&event_loop, name, &[argument.as_ptr()]));
        steps.end()
    }

    /// Reports the exception once, then closes. Errors of the connection itself are nothing unusual: they are logged in
    /// debug mode, and `connection_lost` gets them.
    #[cold]
    pub(super) fn fatal_error(&self, exception: &Obj, message: &str) -> PyResult<()> {
        let mut steps = AllSteps::new();
        if let Some(event_loop) = self.event_loop() {
            // SAFETY: a static of the interpreter.
            if !error::is_instance_of(exception.as_ptr(), unsafe { c::PyExc_OSError }) {
                steps.run(|| self.report(&event_loop, message, exception));
            } else if event_loop.is_debug() {
                steps.run(|| self.log("debug", "%r: %s", &[call::string(message)?.as_ptr()], Some(exception)));
            }
        }
        steps.run(|| self.force_close(Some(exception)));
        steps.end()
    }

    pub(super) fn call_connection_lost(&self, exception: Raw) -> PyResult<()> {
        if self.has(LOST) || !self.file.is_set() {
            return Ok(());
        }
        self.put(LOST, true);
        let mut steps = AllSteps::new();
        steps.run(|| self.call_protocol_with(names::connection_lost(), exception));
        self.clear_queue();
        self.unregister(Side::Read);
        self.unregister(Side::Write);
        // What may still be asked for can only be had from an open socket.
        steps.run(|| self.whole_extra());
        let sending = self
            .event_loop()
            .and_then(|event_loop| Sendfile::waiting_for(&event_loop, self));
        // Moved out before anything else runs, and dropped last.
        let (sock, protocol, event_loop) = (self.file.take(), self.protocol.take(), self.event_loop.take());
        if let Some(sock) = &sock {
            steps.run(|| call::call_method(names::close(), &[sock.as_ptr()], None));
        }
        if let Some(sending) = sending {
            // asyncio tells only the sender of a file that it reads itself, and lets this one wait for ever.
            steps.run(|| sending.connection_lost(&why_lost(exception)?));
        }
        if let Some(server) = self.server.take() {
            steps.run(|| self.tell_server(detach(), server.as_ptr()));
        }
        if let Some(waiter) = self.empty_waiter.get() {
            steps.run(|| settle(&waiter, set_exception(), &closed_by_peer()?));
        }
        drop((sock, protocol, event_loop));
        steps.end()
    }
}

/// What a sender of a file is told: what `connection_lost` got, else the error asyncio has for it.
fn why_lost(exception: Raw) -> PyResult<Obj> {
    if object::is_none(exception) {
        closed_by_peer()
    } else {
        Ok(Obj::from_borrowed(exception))
    }
}

fn closed_by_peer() -> PyResult<Obj> {
    // SAFETY: a static of the interpreter.
    let error = unsafe { c::PyExc_ConnectionError };
    call::call1(error, call::string("Connection is closed by peer")?.as_ptr())
}
