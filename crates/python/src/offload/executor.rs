//! `loop.run_in_executor` and `to_thread`.

use super::job::{Call, Job};
use super::{chain, pool};
use crate::event_loop::EventLoop;
use crate::ffi::error::PyResult;
use crate::ffi::types::add_to_module;
use crate::ffi::{Args, Native, Obj, Own, Raw, c, call, context, object, trampoline};
use crate::future::Future;
use crate::operation::{Behaviour, Operation, Original, Step, VARIADIC, function, raise_it};
use crate::state::{helper, imports, names};
use crate::waiters;

/// `loop.run_in_executor(executor, func, *args)`, as CPython calls it; `to_thread` knows it by its address.
pub(crate) unsafe extern "C" fn run_in_executor_entry(slf: Raw, args: *const Raw, nargs: isize, kwnames: Raw) -> Raw {
    trampoline::enter(|| {
        // SAFETY: CPython checks the receiver's type for method descriptors.
        let this = unsafe { &*slf.cast::<EventLoop>() };
        // SAFETY: the vectorcall protocol.
        run_in_executor(this, unsafe { Args::new(args, nargs as usize, kwnames) })
    })
}

/// The running version's own method, for what is not ours to answer.
#[cold]
fn as_asyncio(this: &EventLoop, args: Args<'_>) -> PyResult<Obj> {
    let method = call::getattr(imports::base_event_loop(), names::run_in_executor())?;
    args.forward_call(method.as_ptr(), this.raw())
}

fn run_in_executor(this: &EventLoop, args: Args<'_>) -> PyResult<Obj> {
    let [executor, function, arguments @ ..] = args.positional() else {
        return as_asyncio(this, args);
    };
    if args.has_keywords() || this.is_debug() || !this.has_plain_posts() {
        return as_asyncio(this, args);
    }
    this.check_open()?;
    let executor = if object::is_none(*executor) {
        match default_executor(this)? {
            Some(executor) => executor,
            None => return as_asyncio(this, args),
        }
    } else {
        Obj::from_borrowed(*executor)
    };
    if pool::takes_jobs(executor.as_ptr())? {
        let call = Call {
            function: Obj::from_borrowed(*function),
            arguments: call::tuple(arguments)?,
            keywords: None,
            context: None,
        };
        if let Some(future) = offload(this, &executor, call)? {
            return Ok(future.into_obj());
        }
    }
    let mut all = vec![executor.as_ptr(), *function];
    all.extend_from_slice(arguments);
    let submitted = call::call_method(names::submit(), &all, None)?;
    chain::wrap(&submitted, &this.obj())
}

/// The default executor, made if there is none yet. None: it was shut down, for asyncio's method to say.
fn default_executor(this: &EventLoop) -> PyResult<Option<Obj>> {
    let executor = call::getattr(this.raw(), names::default_executor())?;
    if call::is_true(call::getattr(this.raw(), names::executor_shutdown_called())?.as_ptr())? {
        return Ok(None);
    }
    if executor.is_none() {
        return call::call1(helper("make_default_executor")?.as_ptr(), this.raw()).map(Some);
    }
    Ok(Some(executor))
}

/// Gives the call to a pool that takes jobs. None: it does not take any more.
fn offload(this: &EventLoop, executor: &Obj, call: Call) -> PyResult<Option<Own<Future>>> {
    let made = waiters::create_future(&this.obj())?;
    let Some(future) = Future::of_exact(made.as_ptr()).filter(|own| own.native_loop().is_some()) else {
        return Ok(None);
    };
    let future = future.own();
    let job = Job::create(this, &future, call)?;
    // First, as the job may be done before `submit` comes back.
    chain::watch(&future, &job)?;
    Ok(pool::submit(executor.as_ptr(), &job)?.then_some(future))
}

// ---- to_thread -------------------------------------------------------------------------------------

static TO_THREAD: Behaviour = Behaviour {
    module: "asyncio.threads",
    class: "",
    name: "to_thread",
    parameters: &[c"func", VARIADIC],
    required: 1,
    create: Operation::create,
    start,
    resume: |_, value| Ok(Step::Done(value)),
    raised: raise_it,
    original: Original::new(),
};

/// Is `loop.run_in_executor` our own method, bound to that loop?
fn has_own_method(event_loop: &EventLoop, method: &Obj) -> bool {
    // SAFETY: A1; a method object's parts, borrowed.
    unsafe {
        c::PyCFunction_Check(method.as_ptr()) != 0
            && c::PyCFunction_GetSelf(method.as_ptr()) == event_loop.raw()
            && c::PyCFunction_GetFunction(method.as_ptr())
                .is_some_and(|entry| entry as *const () == run_in_executor_entry as *const ())
    }
}

fn start(this: &Operation) -> PyResult<Step> {
    let event_loop = match EventLoop::running() {
        Some(running) => running.obj(),
        None => call::call0(imports::get_running_loop())?,
    };
    let own_context = context::copy_current()?;
    let function = this.first.get_or_none();
    let arguments = this.second.get_or_none();
    let keywords = this.third.get();
    let method = call::getattr(event_loop.as_ptr(), names::run_in_executor())?;
    if let Some(native) = EventLoop::of(event_loop.as_ptr())
        && has_own_method(native, &method)
        && !native.is_debug()
        && native.has_plain_posts()
    {
        native.check_open()?;
        if let Some(executor) = default_executor(native)?
            && pool::takes_jobs(executor.as_ptr())?
        {
            let call = Call {
                function: function.clone(),
                arguments: arguments.clone(),
                keywords: keywords.clone(),
                context: Some(own_context.clone()),
            };
            if let Some(future) = offload(native, &executor, call)? {
                return this.wait_for_future(future);
            }
        }
    }
    let run = call::getattr(own_context.as_ptr(), call::interned("run")?.as_ptr())?;
    let mut all = vec![run.as_ptr(), function.as_ptr()];
    all.extend((0..call::tuple_len(arguments.as_ptr())).map(|index| call::tuple_item(arguments.as_ptr(), index)));
    let all = call::tuple(&all)?;
    let partial = call::import_from("functools", "partial")?;
    let job = call::call_with(partial.as_ptr(), &all, keywords.as_ref())?;
    let future = call::call(method.as_ptr(), &[Obj::none().as_ptr(), job.as_ptr()], None)?;
    this.wait_for(future)
}

pub(super) fn build(module: Raw) -> PyResult<()> {
    match function::of_variadic(&TO_THREAD)? {
        Some(to_thread) => add_to_module(module, c"to_thread", &to_thread),
        None => Ok(()),
    }
}
