//! The few functions of OpenSSL that bytes go through, found in the library that this Python's own `_ssl` module uses.
//!
//! They are looked up through the module's own handle, so it is never another copy of OpenSSL in the process. Where that
//! finds nothing (linked statically, built into the interpreter, another library than OpenSSL) there is no `Direct`, and
//! the engine calls the methods of the Python objects instead.
//!
//! Invariants
//! - D1: a `Direct` was taken from objects whose layout was checked against what they say of themselves (`Direct::of`), and
//!   is used only while they are held.
//! - D2: all calls are made attached (A1): nobody else uses the same connection meanwhile.

use super::pipes::{self, Pipes};
use crate::ffi::error::PyResult;
use crate::ffi::{Obj, Raw, c, call, object};
use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::mem::{self, MaybeUninit};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

pub(super) type Ssl = *mut c_void;
pub(super) type Bio = *mut c_void;
type Method = *mut c_void;

/// `SSL_ERROR_WANT_READ`
const WANT_READ: c_int = 2;
/// `BIO_CTRL_PENDING`
const PENDING: c_int = 10;
/// `BIO_C_SET_BUF_MEM`
const SET_BUF_MEM: c_int = 114;
/// `BIO_C_GET_BUF_MEM_PTR`
const GET_BUF_MEM: c_int = 115;
/// `BIO_CLOSE`
const CLOSE: c_long = 1;

pub(super) struct Library {
    ssl_read_ex: unsafe extern "C" fn(Ssl, *mut c_void, usize, *mut usize) -> c_int,
    ssl_write_ex: unsafe extern "C" fn(Ssl, *const c_void, usize, *mut usize) -> c_int,
    ssl_get_error: unsafe extern "C" fn(Ssl, c_int) -> c_int,
    ssl_has_pending: unsafe extern "C" fn(Ssl) -> c_int,
    ssl_get_rbio: unsafe extern "C" fn(Ssl) -> Bio,
    ssl_get_wbio: unsafe extern "C" fn(Ssl) -> Bio,
    err_clear_error: unsafe extern "C" fn(),
    bio_ctrl: unsafe extern "C" fn(Bio, c_int, c_long, *mut c_void) -> c_long,
    bio_read: unsafe extern "C" fn(Bio, *mut c_void, c_int) -> c_int,
    bio_write: unsafe extern "C" fn(Bio, *const c_void, c_int) -> c_int,
    buf_mem_new: unsafe extern "C" fn() -> *mut BufMem,
    pub(super) ssl_set0_rbio: unsafe extern "C" fn(Ssl, Bio),
    pub(super) ssl_set0_wbio: unsafe extern "C" fn(Ssl, Bio),
    pub(super) bio_new: unsafe extern "C" fn(Method) -> Bio,
    pub(super) bio_free: unsafe extern "C" fn(Bio) -> c_int,
    pub(super) bio_set_data: unsafe extern "C" fn(Bio, *mut c_void),
    pub(super) bio_get_data: unsafe extern "C" fn(Bio) -> *mut c_void,
    pub(super) bio_set_init: unsafe extern "C" fn(Bio, c_int),
    pub(super) bio_set_flags: unsafe extern "C" fn(Bio, c_int),
    pub(super) bio_clear_flags: unsafe extern "C" fn(Bio, c_int),
    pub(super) bio_get_new_index: unsafe extern "C" fn() -> c_int,
    pub(super) bio_meth_new: unsafe extern "C" fn(c_int, *const c_char) -> Method,
    pub(super) bio_meth_set_read:
        unsafe extern "C" fn(Method, unsafe extern "C" fn(Bio, *mut c_char, c_int) -> c_int) -> c_int,
    pub(super) bio_meth_set_write:
        unsafe extern "C" fn(Method, unsafe extern "C" fn(Bio, *const c_char, c_int) -> c_int) -> c_int,
    pub(super) bio_meth_set_ctrl:
        unsafe extern "C" fn(Method, unsafe extern "C" fn(Bio, c_int, c_long, *mut c_void) -> c_long) -> c_int,
    pub(super) bio_meth_set_destroy: unsafe extern "C" fn(Method, unsafe extern "C" fn(Bio) -> c_int) -> c_int,
    /// Our kind of BIO.
    pub(super) pipe_method: Method,
}

/// `BUF_MEM`, public since OpenSSL has it.
#[repr(C)]
struct BufMem {
    length: usize,
    data: *mut c_char,
    max: usize,
}

static LIBRARY: AtomicPtr<Library> = AtomicPtr::new(ptr::null_mut());
static WANTED: AtomicBool = AtomicBool::new(true);

pub(super) fn library() -> Option<&'static Library> {
    // SAFETY: set once by `load`, never freed.
    unsafe { LIBRARY.load(Ordering::Relaxed).as_ref() }
}

/// Looks the functions up; that some are missing is no error.
pub(super) fn load() -> PyResult<()> {
    let version = call::import_from("ssl", "OPENSSL_VERSION")?;
    if !call::to_string(version.as_ptr())?.starts_with("OpenSSL ") {
        return Ok(());
    }
    let module = call::import("_ssl")?;
    let Some(file) = call::getattr_optional(module.as_ptr(), call::interned("__file__")?.as_ptr())? else {
        return Ok(());
    };
    let Ok(path) = CString::new(call::to_string(file.as_ptr())?) else {
        return Ok(());
    };
    // SAFETY: a NUL-terminated path; the module is loaded already and stays so.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if handle.is_null() {
        return Ok(());
    }
    let Some(mut found) = find_all(handle) else {
        return Ok(());
    };
    found.pipe_method = pipes::new_method(&found);
    if !found.pipe_method.is_null() {
        LIBRARY.store(Box::into_raw(Box::new(found)), Ordering::Release);
    }
    Ok(())
}

// A field's type is the annotation.
#[allow(clippy::missing_transmute_annotations)]
fn find_all(handle: *mut c_void) -> Option<Library> {
    let find = |name: &std::ffi::CStr| {
        // SAFETY: a live handle and a NUL-terminated name.
        NonNull::new(unsafe { libc::dlsym(handle, name.as_ptr()) }).map(NonNull::as_ptr)
    };
    macro_rules! function {
        ($name:literal) => {{
            let found = find($name)?;
            // SAFETY: the signature is that of OpenSSL's public header, unchanged since 1.1.1.
            unsafe { mem::transmute(found) }
        }};
    }
    Some(Library {
        ssl_read_ex: function!(c"SSL_read_ex"),
        ssl_write_ex: function!(c"SSL_write_ex"),
        ssl_get_error: function!(c"SSL_get_error"),
        ssl_has_pending: function!(c"SSL_has_pending"),
        ssl_get_rbio: function!(c"SSL_get_rbio"),
        ssl_get_wbio: function!(c"SSL_get_wbio"),
        err_clear_error: function!(c"ERR_clear_error"),
        bio_ctrl: function!(c"BIO_ctrl"),
        bio_read: function!(c"BIO_read"),
        bio_write: function!(c"BIO_write"),
        buf_mem_new: function!(c"BUF_MEM_new"),
        ssl_set0_rbio: function!(c"SSL_set0_rbio"),
        ssl_set0_wbio: function!(c"SSL_set0_wbio"),
        bio_new: function!(c"BIO_new"),
        bio_free: function!(c"BIO_free"),
        bio_set_data: function!(c"BIO_set_data"),
        bio_get_data: function!(c"BIO_get_data"),
        bio_set_init: function!(c"BIO_set_init"),
        bio_set_flags: function!(c"BIO_set_flags"),
        bio_clear_flags: function!(c"BIO_clear_flags"),
        bio_get_new_index: function!(c"BIO_get_new_index"),
        bio_meth_new: function!(c"BIO_meth_new"),
        bio_meth_set_read: function!(c"BIO_meth_set_read"),
        bio_meth_set_write: function!(c"BIO_meth_set_write"),
        bio_meth_set_ctrl: function!(c"BIO_meth_set_ctrl"),
        bio_meth_set_destroy: function!(c"BIO_meth_set_destroy"),
        pipe_method: ptr::null_mut(),
    })
}

/// Chooses for connections made from now on; gives back whether there is a choice. For tests and measurements.
pub(super) fn want(wanted: bool) -> bool {
    WANTED.store(wanted, Ordering::Relaxed);
    library().is_some()
}

/// The connection and its two BIOs behind the Python objects.
#[derive(Clone, Copy)]
pub(super) struct Direct {
    library: &'static Library,
    ssl: Ssl,
    incoming: Bio,
    outgoing: Bio,
    /// Once the handshake is over.
    pipes: Option<Pipes>,
}

/// The start of `PySSLSocket`, the same in all versions we build for.
#[repr(C)]
struct NativeSslSocket {
    head: c::PyObject,
    socket: Raw,
    ssl: Ssl,
    context: Raw,
}

/// `PySSLMemoryBIO`
#[repr(C)]
struct NativeBio {
    head: c::PyObject,
    bio: Bio,
    eof_written: c_int,
}

fn has_size(raw: Raw, size: usize, exact: bool) -> bool {
    // SAFETY: the type of a live object.
    let found = unsafe { (*object::type_of(raw)).tp_basicsize } as usize;
    if exact { found == size } else { found >= size }
}

impl Direct {
    /// None if the objects are not laid out as we know them. The types were checked by the caller.
    pub(super) fn of(inner: &Obj, incoming: &Obj, outgoing: &Obj) -> PyResult<Option<Direct>> {
        let Some(library) = library().filter(|_| WANTED.load(Ordering::Relaxed)) else {
            return Ok(None);
        };
        let context = call::getattr(inner.as_ptr(), call::interned("context")?.as_ptr())?;
        if !has_size(inner.as_ptr(), size_of::<NativeSslSocket>(), false)
            || !has_size(incoming.as_ptr(), size_of::<NativeBio>(), true)
        {
            return Ok(None);
        }
        // SAFETY: A1; large enough. What lies between the absent socket and the context is the SSL pointer.
        let native = unsafe { &*inner.as_ptr().cast::<NativeSslSocket>() };
        if !native.socket.is_null() || !context.is(native.context) || native.ssl.is_null() {
            return Ok(None);
        }
        // SAFETY: A1; as large as it should be.
        let bio_of = |object: &Obj| unsafe { (*object.as_ptr().cast::<NativeBio>()).bio };
        let direct = Direct {
            library,
            ssl: native.ssl,
            incoming: bio_of(incoming),
            outgoing: bio_of(outgoing),
            pipes: None,
        };
        // SAFETY: the two neighbours are what they should be, so this is the SSL object.
        let (rbio, wbio) = unsafe { ((library.ssl_get_rbio)(direct.ssl), (library.ssl_get_wbio)(direct.ssl)) };
        Ok((rbio == direct.incoming && wbio == direct.outgoing).then_some(direct))
    }

    /// Decrypts into `room`. Err: what went wrong is in OpenSSL's queue, unless it only wants more.
    #[inline]
    pub(super) fn read(&self, room: *mut u8, len: usize) -> Result<usize, Failure> {
        let mut count = 0;
        // SAFETY: D1, D2; `room` has `len` bytes.
        let code = unsafe {
            (self.library.err_clear_error)();
            (self.library.ssl_read_ex)(self.ssl, room.cast(), len, &raw mut count)
        };
        if code == 1 { Ok(count) } else { Err(self.failure()) }
    }

    /// Encrypts one record at most.
    #[inline]
    pub(super) fn write(&self, data: *const u8, len: usize) -> Result<usize, Failure> {
        let mut count = 0;
        // SAFETY: D1, D2; `data` has `len` bytes.
        let code = unsafe {
            (self.library.err_clear_error)();
            (self.library.ssl_write_ex)(self.ssl, data.cast(), len, &raw mut count)
        };
        if code == 1 { Ok(count) } else { Err(self.failure()) }
    }

    #[inline]
    fn failure(&self) -> Failure {
        // SAFETY: D1, D2.
        if unsafe { (self.library.ssl_get_error)(self.ssl, 0) } == WANT_READ {
            Failure::WantRead
        } else {
            Failure::Other
        }
    }

    /// May there be more to decrypt without receiving more?
    #[inline]
    pub(super) fn may_have_more(&self) -> bool {
        // SAFETY: D1, D2.
        self.incoming_len() > 0 || unsafe { (self.library.ssl_has_pending)(self.ssl) } == 1
    }

    #[inline]
    fn pending(&self, bio: Bio) -> usize {
        // SAFETY: D1, D2.
        unsafe { (self.library.bio_ctrl)(bio, PENDING, 0, ptr::null_mut()) as usize }
    }

    #[inline]
    pub(super) fn incoming_len(&self) -> usize {
        self.pipes
            .map_or_else(|| self.pending(self.incoming), Pipes::incoming_len)
    }

    #[inline]
    pub(super) fn outgoing_len(&self) -> usize {
        self.pipes
            .map_or_else(|| self.pending(self.outgoing), Pipes::outgoing_len)
    }

    /// The handshake is over.
    pub(super) fn install_pipes(&mut self) {
        if self.pipes.is_some() {
            return;
        }
        let (received, unsent) = (self.drain(self.incoming), self.drain(self.outgoing));
        self.renew(self.incoming);
        self.renew(self.outgoing);
        self.pipes = Pipes::install(self.library, self.ssl, received, unsent);
    }

    #[inline]
    pub(super) fn pipes(&self) -> Option<Pipes> {
        self.pipes
    }

    /// Appends what was received. False: no memory.
    #[inline]
    pub(super) fn feed(&self, data: &[u8]) -> bool {
        if let Some(pipes) = self.pipes {
            pipes.feed(data);
            return true;
        }
        let Ok(len) = c_int::try_from(data.len()) else {
            return false;
        };
        // SAFETY: D1, D2; `data` has `len` bytes.
        len == 0 || unsafe { (self.library.bio_write)(self.incoming, data.as_ptr().cast(), len) } == len
    }

    /// Takes out all that is to be sent.
    #[inline]
    pub(super) fn take(&self) -> Vec<u8> {
        self.pipes.map_or_else(|| self.drain(self.outgoing), Pipes::take)
    }

    fn drain(&self, bio: Bio) -> Vec<u8> {
        let len = self.pending(bio);
        let mut taken: Vec<u8> = Vec::with_capacity(len);
        let room: &mut [MaybeUninit<u8>] = taken.spare_capacity_mut();
        let wanted = c_int::try_from(len).unwrap_or(c_int::MAX);
        // SAFETY: D1, D2; `room` has that many bytes.
        let count = unsafe { (self.library.bio_read)(bio, room.as_mut_ptr().cast(), wanted) };
        // SAFETY: so many have been written.
        unsafe { taken.set_len(usize::try_from(count).unwrap_or(0).min(len)) };
        taken
    }

    /// Gives a memory BIO that is empty new memory, which is none until something is written.
    #[cold]
    fn renew(&self, bio: Bio) {
        // SAFETY: no preconditions.
        let fresh = unsafe { (self.library.buf_mem_new)() };
        if !fresh.is_null() {
            // SAFETY: D1, D2; the BIO frees the old one, which is empty, and owns the new one.
            unsafe { (self.library.bio_ctrl)(bio, SET_BUF_MEM, CLOSE, fresh.cast()) };
        }
    }

    /// How much memory the two BIOs have, for tests.
    pub(super) fn held_len(&self) -> usize {
        [self.incoming, self.outgoing]
            .into_iter()
            .map(|bio| {
                let mut memory: *mut BufMem = ptr::null_mut();
                // SAFETY: D1, D2; a memory BIO says where its BUF_MEM is.
                unsafe { (self.library.bio_ctrl)(bio, GET_BUF_MEM, 0, (&raw mut memory).cast()) };
                // SAFETY: as it said; borrowed until the end of the line.
                unsafe { memory.as_ref() }.map_or(0, |memory| memory.max)
            })
            .sum::<usize>()
            + self.pipes.map_or(0, Pipes::held_len)
    }
}

pub(super) enum Failure {
    /// Nothing more can be decrypted for now.
    WantRead,
    /// End of the connection, or an error: the method of the Python object says which.
    Other,
}
