//! What is shown behind an operation for debuggers and 3.14's call graph: the private coroutine that the stdlib's
//! function awaits, `wait()` its `_wait()` for instance. Ours are one coroutine, so a stand-in is made when somebody
//! looks: it has a name, a frame and what is awaited, and cannot be driven.

use super::{Behaviour, Kind, NATIVE, Operation, STAND_IN, Stage, function};
use crate::ffi::error::PyResult;
use crate::ffi::{Native, Obj, Own};
use std::ptr;
use std::sync::RwLock;

type Pair = (&'static Behaviour, &'static Behaviour);

/// Made at import.
static BEHIND: RwLock<Vec<Pair>> = RwLock::new(Vec::new());

/// Operations of `outer` show one of `inner` as what they await, in versions that have such a function.
pub(crate) fn show_behind(outer: &'static Behaviour, inner: &'static Behaviour) -> PyResult<()> {
    let exists = !inner.original.get().is_null() || function::of_behaviour(inner)?.is_some();
    if let Ok(mut pairs) = BEHIND.write()
        && exists
    {
        pairs.push((outer, inner));
    }
    Ok(())
}

/// `cr_await`.
pub(super) fn awaited(this: &Operation) -> PyResult<Obj> {
    let Some(waiter) = this.waiter.get() else {
        return Ok(Obj::none());
    };
    let inner = this.behaviour().and_then(|own| {
        let pairs = BEHIND.read().ok()?;
        let pair = pairs.iter().find(|(outer, _)| ptr::eq(*outer, own))?;
        Some(pair.1)
    });
    let Some(inner) = inner else { return Ok(waiter) };
    let shown = match this.extra().behind.clone() {
        Some(shown) => shown,
        None => make(inner)?.into_obj(),
    };
    if let Some(shown) = Operation::of_exact(shown.as_ptr()) {
        shown.waiter.set_option(Some(waiter));
        shown.put(NATIVE, this.has(NATIVE));
    }
    // Its frame is one of a living coroutine only as long as it lives itself.
    let old = this.extra().behind.replace(shown.clone());
    drop(old);
    Ok(shown)
}

fn make(inner: &'static Behaviour) -> PyResult<Own<Operation>> {
    let shown = Operation::allocate()?;
    shown.kind.set(Kind::Other);
    shown.since.set(ptr::from_ref(inner) as u64);
    shown.put(STAND_IN, true);
    shown.stage.set(Stage::Closed);
    shown.track();
    Ok(shown)
}
