//! What an input may take of stack and time.

use std::thread;
use std::time::{Duration, Instant};

use crate::{Outcome, Target};

/// A quarter of what a thread has as a rule, and all of that where the compiler does not optimise: frames
/// are several times as large then.
pub const STACK_BYTES: usize = if cfg!(debug_assertions) { 2 << 20 } else { 512 << 10 };

/// Far longer than the largest input of a corpus takes on a busy machine. Reading that is not linear takes
/// longer.
pub const TIME_MAX: Duration = Duration::from_secs(20);

impl Target {
    /// Runs it within these bounds. One that ends the stack ends the process.
    ///
    /// # Panics
    ///
    /// When a promise is broken, or the time is over.
    pub fn run(&self, data: &[u8]) -> Outcome {
        thread::scope(|scope| {
            let start = Instant::now();
            let builder = thread::Builder::new().stack_size(STACK_BYTES);
            let running = builder.spawn_scoped(scope, || (self.body)(data)).expect("there are threads left");
            let outcome = running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let took = start.elapsed();
            assert!(took < TIME_MAX, "{}: {} bytes took {took:?}", self.name, data.len());
            outcome
        })
    }
}
