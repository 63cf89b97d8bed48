//! Two BIOs of ours, which a connection gets when its handshake is over. A memory BIO clears and copies what goes through
//! it, and keeps the memory; here OpenSSL reads from where the transport has received, and what it writes is a `Vec` that
//! goes to the transport's queue as it is.
//!
//! Invariants
//! - P1: a pipe is the data of its BIO, which the SSL object owns; `destroy` drops it. It is reached through `Pipes`, which
//!   lives as long as the Python object that holds the SSL object, or from OpenSSL's calls.
//! - P2: `lent` is memory of a caller that is inside `Pipes::lend`; it is taken back before that returns.
//! - P3: all access is attached (A1), and no reference to a pipe outlives a function here: OpenSSL calls back.

use super::openssl::{Bio, Library, Ssl, library};
use std::ffi::{c_char, c_int, c_long, c_void};
use std::ptr;

/// `BIO_TYPE_SOURCE_SINK`
const SOURCE_SINK: c_int = 0x0400;
/// `BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY`
const RETRY_READ: c_int = 0x01 | 0x08;
/// `BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY`
const RETRY_ANY: c_int = 0x0f;
/// `BIO_CTRL_PENDING`
const PENDING: c_int = 10;
/// `BIO_CTRL_FLUSH`
const FLUSH: c_int = 11;
/// `BIO_CTRL_WPENDING`
const WRITE_PENDING: c_int = 13;

/// An empty buffer that was larger, because one side was slow, gives its memory back.
const KEPT_LEN_MAX: usize = 24 * 1024;

/// Bytes on their way: first those of `own`, from `begin` on, then those lent.
struct Pipe {
    library: &'static Library,
    own: Vec<u8>,
    begin: usize,
    lent: *const u8,
    lent_len: usize,
}

impl Pipe {
    fn len(&self) -> usize {
        self.own.len() - self.begin + self.lent_len
    }

    fn read(&mut self, room: *mut u8, len: usize) -> usize {
        let waiting = &self.own[self.begin..];
        if !waiting.is_empty() {
            let count = len.min(waiting.len());
            // SAFETY: OpenSSL's memory, which is `len` long and none of ours.
            unsafe { ptr::copy_nonoverlapping(waiting.as_ptr(), room, count) };
            self.begin += count;
            if self.begin == self.own.len() {
                self.own.clear();
                self.begin = 0;
                self.own.shrink_to(KEPT_LEN_MAX);
            }
            return count;
        }
        let count = len.min(self.lent_len);
        if count > 0 {
            // SAFETY: P2; as above.
            unsafe { ptr::copy_nonoverlapping(self.lent, room, count) };
            self.lent = self.lent.wrapping_add(count);
            self.lent_len -= count;
        }
        count
    }

    /// What is lent and not read yet becomes our own.
    fn take_back(&mut self) {
        if self.lent_len > 0 {
            // SAFETY: P2.
            self.own
                .extend_from_slice(unsafe { std::slice::from_raw_parts(self.lent, self.lent_len) });
        }
        (self.lent, self.lent_len) = (ptr::null(), 0);
    }
}

/// The two pipes of a connection.
#[derive(Clone, Copy)]
pub(super) struct Pipes {
    incoming: *mut Pipe,
    outgoing: *mut Pipe,
}

impl Pipes {
    /// Puts two pipes in the place of the memory BIOs, and into them what those hold. None: no memory.
    pub(super) fn install(library: &'static Library, ssl: Ssl, received: Vec<u8>, unsent: Vec<u8>) -> Option<Pipes> {
        let (read_bio, incoming) = new_bio(library, received)?;
        let Some((write_bio, outgoing)) = new_bio(library, unsent) else {
            // SAFETY: made above, and nobody else's; frees the pipe, too.
            unsafe { (library.bio_free)(read_bio) };
            return None;
        };
        // SAFETY: D1; the SSL object takes over the two and gives up the memory BIOs, which their Python objects keep.
        unsafe {
            (library.ssl_set0_rbio)(ssl, read_bio);
            (library.ssl_set0_wbio)(ssl, write_bio);
        }
        Some(Pipes { incoming, outgoing })
    }

    #[inline]
    pub(super) fn incoming_len(self) -> usize {
        // SAFETY: P1, P3.
        unsafe { (*self.incoming).len() }
    }

    #[inline]
    pub(super) fn outgoing_len(self) -> usize {
        // SAFETY: P1, P3.
        unsafe { (*self.outgoing).len() }
    }

    pub(super) fn feed(self, data: &[u8]) {
        // SAFETY: P1, P3.
        let incoming = unsafe { &mut *self.incoming };
        incoming.take_back();
        incoming.own.extend_from_slice(data);
    }

    /// OpenSSL reads from `data` while `decrypt` runs; what it leaves is kept.
    #[inline]
    pub(super) fn lend<T>(self, data: &[u8], decrypt: impl FnOnce() -> T) -> T {
        {
            // SAFETY: P1, P3.
            let incoming = unsafe { &mut *self.incoming };
            incoming.take_back();
            (incoming.lent, incoming.lent_len) = (data.as_ptr(), data.len());
        }
        let _end = Lent(self.incoming);
        decrypt()
    }

    /// All that is to be sent.
    #[inline]
    pub(super) fn take(self) -> Vec<u8> {
        // SAFETY: P1, P3.
        std::mem::take(unsafe { &mut (*self.outgoing).own })
    }

    pub(super) fn held_len(self) -> usize {
        // SAFETY: P1, P3.
        unsafe { (*self.incoming).own.capacity() + (*self.outgoing).own.capacity() }
    }
}

/// Takes back what was lent, also when a panic ends the loan.
struct Lent(*mut Pipe);

impl Drop for Lent {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: P1, P3; whoever lends holds the connection.
        unsafe { (*self.0).take_back() };
    }
}

fn new_bio(library: &'static Library, own: Vec<u8>) -> Option<(Bio, *mut Pipe)> {
    // SAFETY: a method that lives for ever.
    let bio = unsafe { (library.bio_new)(library.pipe_method) };
    if bio.is_null() {
        return None;
    }
    let pipe = Box::into_raw(Box::new(Pipe {
        library,
        own,
        begin: 0,
        lent: ptr::null(),
        lent_len: 0,
    }));
    // SAFETY: the BIO was just made; it owns the pipe from here on (P1).
    unsafe {
        (library.bio_set_data)(bio, pipe.cast());
        (library.bio_set_init)(bio, 1);
    }
    Some((bio, pipe))
}

/// The functions of our kind of BIO. Null: no memory.
pub(super) fn new_method(library: &Library) -> *mut c_void {
    // SAFETY: public functions of OpenSSL with the arguments that its headers say; a name that lives for ever.
    unsafe {
        let method = (library.bio_meth_new)((library.bio_get_new_index)() | SOURCE_SINK, c"asynchrotron".as_ptr());
        if !method.is_null() {
            (library.bio_meth_set_read)(method, read);
            (library.bio_meth_set_write)(method, write);
            (library.bio_meth_set_ctrl)(method, control);
            (library.bio_meth_set_destroy)(method, destroy);
        }
        method
    }
}

/// The pipe of a BIO of ours; null before it has one.
#[inline]
fn pipe_of(bio: Bio) -> *mut Pipe {
    // SAFETY: a live BIO, which OpenSSL calls us with.
    library().map_or(ptr::null_mut(), |library| unsafe { (library.bio_get_data)(bio) }.cast())
}

unsafe extern "C" fn read(bio: Bio, room: *mut c_char, len: c_int) -> c_int {
    // SAFETY: P1, P3.
    let Some(pipe) = (unsafe { pipe_of(bio).as_mut() }) else {
        return -1;
    };
    // SAFETY: a live BIO.
    unsafe { (pipe.library.bio_clear_flags)(bio, RETRY_ANY) };
    match pipe.read(room.cast(), usize::try_from(len).unwrap_or(0)) {
        0 if len > 0 => {
            // SAFETY: a live BIO.
            unsafe { (pipe.library.bio_set_flags)(bio, RETRY_READ) };
            -1
        }
        count => count as c_int,
    }
}

unsafe extern "C" fn write(bio: Bio, data: *const c_char, len: c_int) -> c_int {
    // SAFETY: P1, P3.
    let Some(pipe) = (unsafe { pipe_of(bio).as_mut() }) else {
        return -1;
    };
    // SAFETY: OpenSSL's memory, which is `len` long.
    let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), usize::try_from(len).unwrap_or(0)) };
    if pipe.own.is_empty() {
        // Most are taken out before the next one comes: no more than they need.
        pipe.own.reserve_exact(data.len());
    }
    pipe.own.extend_from_slice(data);
    len
}

unsafe extern "C" fn control(bio: Bio, command: c_int, _larg: c_long, _parg: *mut c_void) -> c_long {
    match command {
        FLUSH => 1,
        // SAFETY: P1, P3.
        PENDING | WRITE_PENDING => unsafe { pipe_of(bio).as_ref() }.map_or(0, |pipe| pipe.len() as c_long),
        _ => 0,
    }
}

unsafe extern "C" fn destroy(bio: Bio) -> c_int {
    let pipe = pipe_of(bio);
    if !pipe.is_null() {
        // SAFETY: P1; the BIO is being freed, and nobody uses the pipe after its connection.
        drop(unsafe { Box::from_raw(pipe) });
    }
    1
}
