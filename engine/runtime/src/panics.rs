//! Panics, as far as they get: what a task or a backend does must not take the crew along.
//!
//! A value that panics when it is dropped can do so once more for every panic it brings along, and once more
//! when the panic itself is dropped. Only what panics while a panic unwinds is out of reach: the process
//! aborts then.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use celeriac_primitives::{TaskError, TaskName};

/// So many panics of panics that are dropped are caught; what is left then is never dropped.
const PAYLOADS: usize = 8;

/// So many bytes are kept of a text that was thrown; its worker cuts it to what the app allows.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// A panic that was caught.
pub(crate) struct Panicked {
    /// What was thrown, as text. It may be somebody's data, and control a terminal.
    pub(crate) text: String,
    /// Where, when it was caught in the thread it befell and [`print_no_payloads`] was called.
    place: Option<String>,
}

thread_local! {
    /// Whether this thread is in something of which a panic is caught here.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };

    /// Where it has panicked last, in something that is caught.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// The answer, or what was thrown.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    let before = IS_CAUGHT.replace(true);
    let answer = catch_unwind(AssertUnwindSafe(call));
    IS_CAUGHT.set(before);
    answer.map_err(|payload| Panicked { place: PLACE.take(), ..Panicked::of(payload) })
}

/// From now on no panic prints its text, besides those of the main thread: it may be somebody's data, and
/// control a terminal. When a task panics, the text is in the failure of its leaf, and the log names the
/// task and the place. Of other threads, as those that a task starts, the place is printed, and the text
/// is logged at level debug.
///
/// For the `main` of a program, which has one panic hook for all.
pub fn print_no_payloads() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            if IS_CAUGHT.get() {
                return PLACE.set(Some(place));
            }
            let thread = std::thread::current();
            if thread.name() == Some("main") {
                return before(panic);
            }
            let name = thread.name().unwrap_or("without a name").escape_debug();
            let trace = Backtrace::capture();
            let trace = match trace.status() {
                BacktraceStatus::Captured => format!("\n{trace}"),
                _ => String::new(),
            };
            // As the standard library does it: there is nobody to tell that it cannot be written.
            let _ = writeln!(std::io::stderr(), "thread '{name}' panicked at {place}{trace}");
            tracing::debug!(place, text = text_of(panic.payload()), "a thread has panicked");
        }));
    });
}

fn text_of(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

impl Panicked {
    /// Says in the log which task has panicked, and where.
    pub(crate) fn log(&self, task: &TaskName, what: &str) {
        tracing::error!(task = task.as_str(), place = self.place, "{what}");
    }

    /// What was thrown is dropped here.
    pub(crate) fn of(payload: Box<dyn Any + Send>) -> Self {
        let text = TaskError::cut_of(text_of(&*payload).unwrap_or("a value that is no text"), TEXT_BYTES_MAX);
        let mut payload = payload;
        for _ in 0..PAYLOADS {
            match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                Ok(()) => return Self { text, place: None },
                Err(next) => payload = next,
            }
        }
        std::mem::forget(payload);
        Self { text, place: None }
    }
}
