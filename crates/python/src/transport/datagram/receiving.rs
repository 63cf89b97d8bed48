//! Readable sockets: several datagrams per event, the protocol called after each.

use super::{DIRECT, DatagramTransport, READING};
use crate::event_loop::EventLoop;
use crate::ffi::error::{self, PyResult, os_error_object};
use crate::ffi::{Obj, Raised, c, call};
use crate::transport::buffer::Bytes;
use crate::transport::datagram_received;
use reactor::Address;
use std::io::ErrorKind;

/// How many datagrams one event may bring. A sender faster than us must not keep the other connections waiting.
const DATAGRAMS_PER_EVENT_MAX: u8 = 16;

/// So many events in a row may take it for granted that what they brought was all. To find out costs a system call.
const LONE_EVENTS_MAX: u8 = 7;

/// `_SelectorTransport.max_size`.
const LEN_MAX: i64 = 256 * 1024;

/// What came of one receive.
enum Received {
    Datagram(Obj, Obj),
    /// Nothing was there.
    Nothing,
    Failed(Obj),
}

impl DatagramTransport {
    #[inline]
    pub(super) fn read_ready(&self, event_loop: &EventLoop) -> PyResult<()> {
        if self.conn_lost.get() != 0 {
            return Ok(());
        }
        let lone = self.lone_events.get();
        let count_max = if (1..=LONE_EVENTS_MAX).contains(&lone) {
            1
        } else {
            DATAGRAMS_PER_EVENT_MAX
        };
        let mut count = 0;
        while count < count_max {
            let received = if self.has(DIRECT) {
                self.receive(event_loop)
            } else {
                self.receive_by_method()
            };
            match received {
                Ok(Received::Datagram(data, sender)) => {
                    count += 1;
                    let protocol = self.protocol.get_or_none();
                    let arguments = [protocol.as_ptr(), data.as_ptr(), sender.as_ptr()];
                    call::call_method(datagram_received(), &arguments, None)?;
                }
                Ok(Received::Nothing) => break,
                Ok(Received::Failed(exception)) => return self.error_received(&exception),
                Err(Raised) => return self.receive_failed(),
            }
            // The protocol may have paused or closed us.
            if !self.has(READING) || self.conn_lost.get() != 0 {
                return Ok(());
            }
        }
        self.lone_events.set(match count {
            2.. => 0,
            _ if count_max == 1 => lone.wrapping_add(1),
            _ => 1,
        });
        Ok(())
    }

    #[inline]
    fn receive(&self, event_loop: &EventLoop) -> PyResult<Received> {
        let mut sender = Address::nobody();
        let mut buffer = event_loop.take_receive_buffer();
        let received = reactor::sockets::recvfrom(self.live_fd(), &mut buffer, &mut sender);
        let received = received.map(|len| Bytes::copy(&buffer[..len]));
        event_loop.return_receive_buffer(buffer);
        match received {
            Ok(data) => Ok(Received::Datagram(data?, self.object_of(&sender)?)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(Received::Nothing)
            }
            Err(error) => Ok(Received::Failed(os_error_object(&error))),
        }
    }

    /// `sock.recvfrom(max_size)`
    #[cold]
    fn receive_by_method(&self) -> PyResult<Received> {
        let sock = self.file.get_or_none();
        let name = call::interned("recvfrom")?;
        match call::call_method(name.as_ptr(), &[sock.as_ptr(), call::int(LEN_MAX)?.as_ptr()], None) {
            Ok(pair) => {
                // SAFETY: A1; any sequence.
                let pair = error::owned(unsafe { c::PySequence_Tuple(pair.as_ptr()) })?;
                if call::tuple_len(pair.as_ptr()) != 2 {
                    return Err(error::value_error("recvfrom() must give data and an address"));
                }
                let item = |index| Obj::from_borrowed(call::tuple_item(pair.as_ptr(), index));
                Ok(Received::Datagram(item(0), item(1)))
            }
            Err(Raised) => {
                if super::sending::is_not_ready() {
                    error::clear();
                    Ok(Received::Nothing)
                } else if super::sending::is_os_error() {
                    Ok(Received::Failed(error::take()))
                } else {
                    Err(Raised)
                }
            }
        }
    }

    #[cold]
    fn receive_failed(&self) -> PyResult<()> {
        let exception = error::take();
        if error::is_exit(exception.as_ptr()) {
            return Err(error::restore(exception));
        }
        self.fatal_error(&exception, "Fatal read error on datagram transport")
    }
}
