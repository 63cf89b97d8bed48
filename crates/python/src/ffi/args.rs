//! Arguments of vectorcall methods: positional ones by index, keywords by name, errors as CPython words them.

use super::error::{PyResult, type_error};
use super::{Raw, c, call};
use std::ffi::CStr;
use std::ptr;

/// What a `METH_FASTCALL | METH_KEYWORDS` method received; borrowed for the call.
#[derive(Clone, Copy)]
pub(crate) struct Args<'a> {
    positional: &'a [Raw],
    keyword_values: &'a [Raw],
    kwnames: Raw,
}

impl<'a> Args<'a> {
    /// # Safety
    /// The three are a vectorcall's arguments (without the offset flag) and live as long as `'a`.
    #[inline]
    pub(crate) unsafe fn new(args: *const Raw, nargs: usize, kwnames: Raw) -> Args<'a> {
        let keywords = if kwnames.is_null() { 0 } else { call::tuple_len(kwnames) };
        if args.is_null() {
            return Args {
                positional: &[],
                keyword_values: &[],
                kwnames: ptr::null_mut(),
            };
        }
        // SAFETY: the vectorcall protocol: `nargs` values, then one per keyword name.
        let all = unsafe { std::slice::from_raw_parts(args, nargs + keywords) };
        Args {
            positional: &all[..nargs],
            keyword_values: &all[nargs..],
            kwnames,
        }
    }

    #[inline]
    pub(crate) fn positional(&self) -> &'a [Raw] {
        self.positional
    }

    #[inline]
    pub(crate) fn has_keywords(&self) -> bool {
        !self.keyword_values.is_empty()
    }

    #[inline]
    pub(crate) fn keyword_count(&self) -> usize {
        self.keyword_values.len()
    }

    fn keywords(&self) -> impl Iterator<Item = (Raw, Raw)> + use<'a> {
        let kwnames = self.kwnames;
        self.keyword_values
            .iter()
            .enumerate()
            .map(move |(index, value)| (call::tuple_item(kwnames, index), *value))
    }

    /// The value of keyword `wanted`.
    pub(crate) fn keyword(&self, wanted: &CStr) -> Option<Raw> {
        self.keywords()
            .find(|(name, _)| is_name(*name, wanted))
            .map(|(_, value)| value)
    }

    /// The one argument, given by position or as the keyword `name`; None if there are others or none.
    #[inline]
    pub(crate) fn only(&self, name: &CStr) -> Option<Raw> {
        match (self.positional, self.keyword_values) {
            ([value], []) => Some(*value),
            ([], [value]) => is_name(call::tuple_item(self.kwnames, 0), name).then_some(*value),
            _ => None,
        }
    }

    /// The values of keywords, in the order of `names`; None if there are others.
    pub(crate) fn known_keywords<const N: usize>(&self, names: &[&CStr; N]) -> Option<[Option<Raw>; N]> {
        let mut bound = [None; N];
        for (name, value) in self.keywords() {
            let place = names.iter().position(|known| is_name(name, known))?;
            bound[place] = Some(value);
        }
        Some(bound)
    }

    /// The value of the one keyword there may be; `function` names it in errors.
    pub(crate) fn only_keyword(&self, function: &str, wanted: &CStr) -> PyResult<Option<Raw>> {
        match self.keywords().find(|(name, _)| !is_name(*name, wanted)) {
            Some((name, _)) => Err(type_error(&format!(
                "{function}() got an unexpected keyword argument '{}'",
                call::to_string(name)?
            ))),
            None => Ok(self.keyword(wanted)),
        }
    }

    /// Only a `context` keyword besides those in `also`, for the `call_*` family; `function` names it in errors.
    #[inline]
    pub(crate) fn context_only(&self, function: &str, also: &[&CStr]) -> PyResult<Option<Raw>> {
        if !self.has_keywords() {
            return Ok(None);
        }
        let mut context = None;
        for (name, value) in self.keywords() {
            if is_name(name, c"context") {
                context = Some(value);
            } else if !also.iter().any(|known| is_name(name, known)) {
                return Err(unexpected_keyword(function, name));
            }
        }
        Ok(context.filter(|value| !super::object::is_none(*value)))
    }

    /// `receiver.name(…)` with these very arguments.
    pub(crate) fn forward_method(&self, receiver: Raw, name: &str) -> PyResult<super::Obj> {
        let mut all = vec![receiver];
        all.extend_from_slice(self.positional);
        all.extend_from_slice(self.keyword_values);
        let kwnames = (!self.kwnames.is_null()).then(|| super::Obj::from_borrowed(self.kwnames));
        call::call_method(call::interned(name)?.as_ptr(), &all, kwnames.as_ref())
    }

    /// `callable(…)` with these very arguments.
    pub(crate) fn forward(&self, callable: Raw) -> PyResult<super::Obj> {
        let all = [self.positional, self.keyword_values].concat();
        let kwnames = (!self.kwnames.is_null()).then(|| super::Obj::from_borrowed(self.kwnames));
        call::call(callable, &all, kwnames.as_ref())
    }

    /// `callable(first, …)` with `first` before these very arguments.
    pub(crate) fn forward_call(&self, callable: Raw, first: Raw) -> PyResult<super::Obj> {
        let mut all = vec![first];
        all.extend_from_slice(self.positional);
        all.extend_from_slice(self.keyword_values);
        let kwnames = (!self.kwnames.is_null()).then(|| super::Obj::from_borrowed(self.kwnames));
        call::call(callable, &all, kwnames.as_ref())
    }

    /// Binds to `names`; the first `positional_max` may be positional, the first `required` must be there.
    pub(crate) fn bind<const N: usize>(
        &self,
        function: &str,
        names: &[&CStr; N],
        positional_max: usize,
        required: usize,
    ) -> PyResult<[Option<Raw>; N]> {
        let mut bound = [None; N];
        if self.positional.len() > positional_max {
            return Err(too_many(function, positional_max, required, self.positional.len()));
        }
        for (place, value) in bound.iter_mut().zip(self.positional) {
            *place = Some(*value);
        }
        for (name, value) in self.keywords() {
            let Some(index) = names.iter().position(|known| is_name(name, known)) else {
                return Err(unexpected_keyword(function, name));
            };
            if bound[index].is_some() {
                let name = names[index].to_string_lossy();
                return Err(type_error(&format!(
                    "{function}() got multiple values for argument '{name}'"
                )));
            }
            bound[index] = Some(value);
        }
        for index in 0..required {
            if bound[index].is_none() {
                let name = names[index].to_string_lossy();
                return Err(type_error(&if index < positional_max {
                    format!("{function}() missing required argument '{name}' (pos {})", index + 1)
                } else {
                    format!("{function}() missing required keyword-only argument: '{name}'")
                }));
            }
        }
        Ok(bound)
    }
}

/// Runs `f` with the arguments of a `tp_init`/`tp_new` call (tuple and dict) in vectorcall form.
pub(crate) fn with_tuple_and_dict<T>(args: Raw, kwargs: Raw, f: impl FnOnce(Args<'_>) -> PyResult<T>) -> PyResult<T> {
    let count = call::tuple_len(args);
    let mut values: Vec<Raw> = (0..count).map(|index| call::tuple_item(args, index)).collect();
    let mut names = Vec::new();
    if !kwargs.is_null() {
        let (mut position, mut name, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        // SAFETY: A1; a dict that nobody else can change during construction; borrowed out-pointers.
        while unsafe { c::PyDict_Next(kwargs, &raw mut position, &raw mut name, &raw mut value) } != 0 {
            names.push(name);
            values.push(value);
        }
    }
    let kwnames = call::tuple(&names)?;
    // SAFETY: laid out as the protocol says; everything lives in this frame or its caller's.
    f(unsafe { Args::new(values.as_ptr(), count, kwnames.as_ptr()) })
}

#[inline]
fn is_name(name: Raw, known: &CStr) -> bool {
    // SAFETY: keyword names are strings.
    unsafe { c::PyUnicode_CompareWithASCIIString(name, known.as_ptr()) == 0 }
}

/// As the twin words it: a function of asyncio's Python code (`BaseEventLoop.…`), or of its C module.
#[cold]
fn unexpected_keyword(function: &str, name: Raw) -> super::Raised {
    let name = call::to_string(name).unwrap_or_default();
    type_error(&if cfg!(Py_3_13) || function.contains('.') {
        format!("{function}() got an unexpected keyword argument '{name}'")
    } else {
        format!("'{name}' is an invalid keyword argument for {function}()")
    })
}

#[cold]
fn too_many(function: &str, positional_max: usize, required: usize, given: usize) -> super::Raised {
    let bound = if positional_max == required {
        "exactly"
    } else {
        "at most"
    };
    let plural = if positional_max == 1 { "" } else { "s" };
    type_error(&if positional_max == 0 {
        format!("{function}() takes no positional arguments")
    } else {
        format!("{function}() takes {bound} {positional_max} positional argument{plural} ({given} given)")
    })
}
