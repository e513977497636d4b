//! Whom a lane has called does not wait for its next leaf.
//!
//! On a runtime with other threads, who is called seldom is handed over to them; the reporter, whom each leaf
//! may call, is left to the [lookout](super::lookout). On a single thread the lane steps back for them.

use std::future::{poll_fn, ready};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;

/// On a single thread lanes let others come so often. More often costs quick leaves more than it brings: each
/// time what has ended is reported.
const PAUSE_ALONE: Duration = Duration::from_micros(200);

/// On a single thread all who are called stand in one row: so often until the reporter has gone on, and who
/// sends its bytes.
const STEPS_ALONE: usize = 4;

/// Whoever was called last by what runs on this thread may run on any.
pub(super) fn hand_over() {
    if !is_alone() {
        // An empty task takes the place of whoever was to run next here, who goes where other threads find
        // him.
        tokio::spawn(ready(()));
    }
}

/// Whether no other thread of the runtime could do anything.
pub(super) fn is_alone() -> bool {
    Handle::try_current().map_or(true, |runtime| {
        runtime.runtime_flavor() == RuntimeFlavor::CurrentThread || runtime.metrics().num_workers() == 1
    })
}

/// How many threads of the runtime run tasks.
pub(super) fn threads_here() -> usize {
    Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers())
}

/// When lanes have let others come.
pub(super) struct Turns {
    is_alone: bool,
    last: Option<Instant>,
}

/// What a lane does before its next leaf.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turn {
    /// It has called nobody who would wait for it.
    GoOn,
    HandOver,
    StepBack,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { is_alone: is_alone(), last: None }
    }

    /// A lane has called the reporter, or others, and is to begin a leaf.
    pub(super) fn next(&mut self, has_called_reporter: bool, has_called_others: bool) -> Turn {
        match (self.is_alone, has_called_reporter, has_called_others) {
            (_, false, false) => Turn::GoOn,
            // The lookout sees to the reporter; it was called last, which has handed over the others.
            (false, true, _) => Turn::GoOn,
            (false, false, true) => Turn::HandOver,
            (true, ..) => {
                let now = Instant::now();
                if self.last.is_some_and(|last| now < last + PAUSE_ALONE) {
                    return Turn::GoOn;
                }
                self.last = Some(now);
                Turn::StepBack
            }
        }
    }
}

impl Turn {
    pub(super) async fn take(self) {
        match self {
            Self::GoOn => {}
            Self::HandOver => hand_over(),
            Self::StepBack => step_back().await,
        }
    }
}

/// Goes to the end of the row of its thread, and again.
async fn step_back() {
    for _ in 0..STEPS_ALONE {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_is_called_seldom_is_handed_over_to_other_threads() {
        let mut turns = Turns::new();
        assert!(matches!(turns.next(false, false), Turn::GoOn));
        assert!(matches!(turns.next(true, false), Turn::GoOn));
        assert!(matches!(turns.next(true, true), Turn::GoOn));
        assert!(matches!(turns.next(false, true), Turn::HandOver));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_on_a_single_thread_steps_back_for_whomever_it_has_called_but_not_each_time() {
        let mut turns = Turns::new();
        assert!(matches!(turns.next(false, false), Turn::GoOn));
        assert!(matches!(turns.next(true, false), Turn::StepBack));
        assert!(matches!(turns.next(true, true), Turn::GoOn));
        tokio::time::advance(PAUSE_ALONE).await;
        assert!(matches!(turns.next(false, true), Turn::StepBack));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn one_thread_of_a_runtime_for_many_is_alone() {
        let is_alone = tokio::spawn(async { is_alone() }).await.unwrap();
        assert!(is_alone);
    }
}
