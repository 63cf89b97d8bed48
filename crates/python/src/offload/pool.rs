//! The stdlib's ThreadPoolExecutor, recognised and fed.
//!
//! Only the class itself, with the stdlib's own `submit`: subclasses and tools that replace it (tracing does) get their
//! calls. Looked at for every job, as they may come at any time.

use super::job::Job;
use crate::ffi::error::{self, PyResult, Raised};
use crate::ffi::{Native, Obj, Raw, c, call, object};
use std::sync::OnceLock;

unsafe extern "C" {
    // Not in pyo3-ffi; documented C API. Both lend what they return.
    static mut PyMethod_Type: c::PyTypeObject;
    fn PyMethod_Function(method: Raw) -> Raw;
    fn PyMethod_Self(method: Raw) -> Raw;
}

/// Found at the first use: the stdlib imports its pool that late, too.
struct Pool {
    /// The dictionary of `concurrent.futures.thread`.
    module: Obj,
    class: Obj,
    submit: Obj,
    names: Names,
}

struct Names {
    acquire: Obj,
    adjust_thread_count: Obj,
    broken: Obj,
    global_shutdown_lock: Obj,
    put: Obj,
    release: Obj,
    shutdown: Obj,
    shutdown_lock: Obj,
    submit: Obj,
    work_queue: Obj,
}

// SAFETY: references that live for ever, used attached only (A1).
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

/// None: the class's `submit` was replaced before we first looked.
static POOL: OnceLock<Option<Pool>> = OnceLock::new();

fn load() -> PyResult<Option<Pool>> {
    let module = call::import("concurrent.futures.thread")?;
    let class = call::getattr(module.as_ptr(), call::interned("ThreadPoolExecutor")?.as_ptr())?;
    let names = Names {
        acquire: call::interned("acquire")?,
        adjust_thread_count: call::interned("_adjust_thread_count")?,
        broken: call::interned("_broken")?,
        global_shutdown_lock: call::interned("_global_shutdown_lock")?,
        put: call::interned("put")?,
        release: call::interned("release")?,
        shutdown: call::interned("_shutdown")?,
        shutdown_lock: call::interned("_shutdown_lock")?,
        submit: call::interned("submit")?,
        work_queue: call::interned("_work_queue")?,
    };
    let submit = call::getattr(class.as_ptr(), names.submit.as_ptr())?;
    let vars = call::getattr(module.as_ptr(), call::interned("__dict__")?.as_ptr())?;
    // SAFETY: a static type of the interpreter.
    if object::type_of(submit.as_ptr()) != &raw mut c::PyFunction_Type {
        return Ok(None);
    }
    let globals = call::getattr(submit.as_ptr(), call::interned("__globals__")?.as_ptr())?;
    if !globals.is(vars.as_ptr()) {
        return Ok(None);
    }
    Ok(Some(Pool {
        module,
        class,
        submit,
        names,
    }))
}

fn pool() -> PyResult<Option<&'static Pool>> {
    if let Some(known) = POOL.get() {
        return Ok(known.as_ref());
    }
    let made = load()?;
    Ok(POOL.get_or_init(|| made).as_ref())
}

/// Can a `Job` be given to it?
#[inline]
pub(super) fn takes_jobs(executor: Raw) -> PyResult<bool> {
    let Some(pool) = pool()? else { return Ok(false) };
    if !pool.class.is(object::type_of(executor).cast()) {
        return Ok(false);
    }
    let submit = call::getattr(executor, pool.names.submit.as_ptr())?;
    if object::type_of(submit.as_ptr()) != &raw mut PyMethod_Type {
        return Ok(false);
    }
    // SAFETY: A1; a method object.
    let (function, receiver) = unsafe { (PyMethod_Function(submit.as_ptr()), PyMethod_Self(submit.as_ptr())) };
    Ok(pool.submit.is(function) && receiver == executor)
}

/// `with lock:`.
fn locked<T>(names: &Names, lock: &Obj, body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    call::call_method(names.acquire.as_ptr(), &[lock.as_ptr()], None)?;
    let outcome = body().map_err(|Raised| error::take());
    let released = call::call_method(names.release.as_ptr(), &[lock.as_ptr()], None);
    match outcome {
        Ok(value) => released.map(|_| value),
        Err(exception) => {
            if released.is_err() {
                error::clear();
            }
            Err(error::restore(exception))
        }
    }
}

/// `ThreadPoolExecutor.submit` with a work item that is there already. False: the pool takes none, and its own `submit`
/// says why.
pub(super) fn submit(executor: Raw, job: &Job) -> PyResult<bool> {
    let Some(pool) = pool()? else { return Ok(false) };
    let names = &pool.names;
    let lock = call::getattr(executor, names.shutdown_lock.as_ptr())?;
    let global_lock = call::getattr(pool.module.as_ptr(), names.global_shutdown_lock.as_ptr())?;
    locked(names, &lock, || {
        locked(names, &global_lock, || {
            for (object, flag) in [
                (executor, &names.broken),
                (executor, &names.shutdown),
                (pool.module.as_ptr(), &names.shutdown),
            ] {
                if call::is_true(call::getattr(object, flag.as_ptr())?.as_ptr())? {
                    return Ok(false);
                }
            }
            let queue = call::getattr(executor, names.work_queue.as_ptr())?;
            call::call_method(names.put.as_ptr(), &[queue.as_ptr(), job.raw()], None)?;
            call::call_method(names.adjust_thread_count.as_ptr(), &[executor], None)?;
            Ok(true)
        })
    })
}
