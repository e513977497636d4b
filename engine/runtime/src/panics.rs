//! Panics, as far as they get: what a task or a backend does must not take the crew along.
//!
//! A value that panics when it is dropped can do so once more for every panic it brings along, and once more
//! when the panic itself is dropped. Only what panics while a panic unwinds is out of reach: the process
//! aborts then.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use celeriac_primitives::TaskError;

/// So many panics of panics that are dropped are caught; what is left then is never dropped.
const PAYLOADS: usize = 8;

/// So many bytes are kept of a text that was thrown; its worker cuts it to what the app allows.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// What was thrown, as text.
pub(crate) struct Panicked(pub(crate) String);

/// The answer, or what was thrown.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(Panicked::of)
}

impl Panicked {
    /// What was thrown is dropped here.
    pub(crate) fn of(payload: Box<dyn Any + Send>) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = TaskError::cut_of(text.unwrap_or("a value that is no text"), TEXT_BYTES_MAX);
        let mut payload = payload;
        for _ in 0..PAYLOADS {
            match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                Ok(()) => return Self(text),
                Err(next) => payload = next,
            }
        }
        std::mem::forget(payload);
        Self(text)
    }
}
