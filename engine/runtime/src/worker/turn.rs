//! A lane lets those come whom it has called, before the next leaf keeps their thread.
//!
//! That helps where the [stand-in](super::standin) cannot: on a runtime of a single thread, and when leaves
//! compute on all threads. It is done only so often, since each time what has ended is reported: quick leaves
//! had better be reported by the hundred.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::standin::has_threads;

/// So long nobody is let come again; the second when other threads may have time.
const PAUSE_ALONE: Duration = Duration::from_micros(200);
const PAUSE: Duration = Duration::from_millis(1);

/// On a single thread all who are called stand in one row: so often until the reporter has gone on, and who
/// sends its bytes.
const STEPS_ALONE: usize = 4;

/// When lanes have let others come.
pub(super) struct Turns {
    is_alone: bool,
    last: Option<Instant>,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { is_alone: !has_threads(), last: None }
    }

    /// A lane has called somebody and is to begin a leaf: how often it steps back before.
    pub(super) fn steps(&mut self, now: Instant) -> usize {
        let pause = if self.is_alone { PAUSE_ALONE } else { PAUSE };
        if self.last.is_some_and(|last| now < last + pause) {
            return 0;
        }
        self.last = Some(now);
        if self.is_alone { STEPS_ALONE } else { 1 }
    }
}

/// Goes to the end of the row of its thread, so often.
pub(super) async fn step_back(times: usize) {
    for _ in 0..times {
        // Not `yield_now`, which lets the runtime look at its sockets first.
        let mut is_back = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut is_back, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}
