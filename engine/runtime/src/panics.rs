//! Panics, as far as they get: what a task or a backend does must not take the crew along.
//!
//! A value that panics when it is dropped can do so once more for every panic it brings along, and once more
//! when the panic itself is dropped. Only what panics while a panic unwinds is out of reach: the process
//! aborts then.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use celeriac_primitives::TaskError;

/// So many panics of panics that are dropped are caught; what is left then is never dropped.
const PAYLOADS: usize = 8;

/// So many bytes are kept of a text that was thrown; its worker cuts it to what the app allows.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// What was thrown, as text.
pub(crate) struct Panicked(pub(crate) String);

thread_local! {
    /// Whether this thread is in something of which a panic is caught here.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// The answer, or what was thrown.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    let before = IS_CAUGHT.replace(true);
    let answer = catch_unwind(AssertUnwindSafe(call));
    IS_CAUGHT.set(before);
    answer.map_err(Panicked::of)
}

/// From now on nothing is printed when a task panics, and the log says where it did: its text may be
/// somebody's data, and control a terminal. It is in the leaf's failure. Other panics are printed as before.
///
/// For the `main` of a program, which has one panic hook for all.
pub fn hush_panics_of_tasks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_CAUGHT.get() {
                return before(panic);
            }
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(place, "a task has panicked; the failure of its leaf says with what");
        }));
    });
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
