//! A lane: runs one leaf after the other, until there is none.
//!
//! A lane gets its leaf from [`Bench::next`], with which it also puts down the one before: what may
//! begin now, and in which order, is decided there. What a leaf needs besides is asked for in
//! [`start`].

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use celeriac_backends::{Backend, Delivery, WorkerId};
use celeriac_dsl::Handler;
use celeriac_primitives::{Completion, Outcome, TaskMessage, TaskState};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bench::{Bench, Ended, Next, Seat};
use super::call::failed;
use super::execute::Executor;
use super::lanes::Lanes;
use super::large::Gate;
use super::lookout::running;
use super::refusals::Refusals;
use super::threads::Lent;
use super::{helpers, start};
use crate::panics::caught;

/// What all lanes of a worker use.
pub(super) struct Workshop {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) worker: WorkerId,
    pub(super) unknown_wait: std::time::Duration,
    pub(super) executor: Executor,
    pub(super) gate: Gate,
    pub(super) bench: Arc<Bench>,
    pub(super) lanes: Lanes,
    pub(super) refusals: Refusals,
    /// Fires when the backend is not waited for any more.
    pub(super) stopping: CancellationToken,
}

/// Works at a seat.
pub(super) async fn work(shop: Arc<Workshop>, seat: Seat) {
    let mut next = shop.bench.next(seat, None);
    while let Some(Next { delivery, is_timed, turn }) = next {
        // The leaf may keep this thread for long.
        turn.take().await;
        let start = is_timed.then(Instant::now);
        // A task's own panics are caught where it is called; this is for all others.
        let completion = {
            let mut run = pin!(shop.run(seat, &delivery));
            let mut has_waited = false;
            let run = poll_fn(|cx| match running(|| caught(|| run.as_mut().poll(cx))) {
                Ok(poll) => {
                    if poll.is_pending() && !std::mem::replace(&mut has_waited, true) {
                        shop.lanes.start_more(&shop);
                    }
                    poll
                }
                Err(panicked) => {
                    let failed = failed(&delivery.message.task, panicked);
                    Poll::Ready(Some(delivery.message.completion(failed)))
                }
            });
            run.await
        };
        let report = completion.map(|completion| (delivery.id, completion));
        next = shop.bench.next(seat, Some(Ended { report, took: start.map(|start| start.elapsed()) }));
        // Leaves that never wait would keep a thread to themselves.
        tokio::task::consume_budget().await;
    }
}

impl Workshop {
    /// Starts a lane at each of these seats.
    pub(super) fn start(self: &Arc<Self>, seats: Vec<Seat>) {
        self.lanes.start(self, seats);
    }

    /// Runs a leaf; `None` when it comes again: when its lease has passed, or later when it waits for
    /// another worker.
    async fn run(&self, seat: Seat, delivery: &Delivery) -> Option<Completion> {
        let Delivery { message, deliveries, .. } = delivery;
        let TaskMessage { task_id, attempt, .. } = **message;
        let (run, node) = (task_id.run(), task_id.node());
        let shadow = message.options.as_ref().and_then(|options| options.shadow.as_deref());
        let task = shadow.unwrap_or(message.task.as_str());
        tracing::debug!(%run, %node, task, attempt, deliveries, "a leaf starts");
        let outcome = match self.outcome(seat, delivery).await {
            Ok(outcome) | Err(Some(outcome)) => outcome,
            Err(None) => return None,
        };
        match outcome.state() {
            TaskState::Success => {
                tracing::debug!(%run, %node, task, attempt, "a leaf has succeeded");
            }
            TaskState::Started => {
                tracing::debug!(%run, %node, task, attempt, "a leaf asks for a canvas in its place");
            }
            // What went wrong may hold arguments: it is for whoever reads the run.
            state => tracing::info!(%run, %node, task, attempt, %state, "a leaf has ended"),
        }
        Some(message.completion(outcome))
    }

    /// How a leaf ends; or how it ends without having run, if that is known here.
    async fn outcome(&self, seat: Seat, delivery: &Delivery) -> Result<Outcome, Option<Outcome>> {
        let message = &delivery.message;
        let Some(task) = self.executor.task(&message.task) else {
            return Err(Box::pin(start::let_wait(self, &delivery.id, message)).await);
        };
        let lent = match task.handler {
            Handler::Async(_) => None,
            Handler::Blocking(_) => Some(Box::pin(self.thread(seat, delivery)).await?),
        };
        let options = self.executor.options(message);
        // Held as long as the leaf runs.
        let input = match message.is_apart() {
            true => Some(Box::pin(self.gate.input(&*self.backend, message, &self.stopping)).await?),
            false => None,
        };
        let is_once = options.as_ref().is_some_and(|options| options.acks_late == Some(false));
        // The last thing before it runs: what is noted as begun has begun.
        if is_once || delivery.must_ask() {
            Box::pin(start::may_begin(self, delivery, is_once)).await?;
        }
        if is_once && !self.bench.begin_once(seat, message) {
            return Err(None);
        }
        let thread = lent.as_ref().map(|lent| &lent.thread);
        let whole = input.as_ref().map_or(&**message, |input| &input.message);
        let outcome = self.executor.execute(task, whole, options, thread).await;
        drop(input);
        if self.gate.lets_pass(&*self.backend, &outcome) {
            return Ok(outcome);
        }
        Box::pin(self.gate.outcome(&*self.backend, message, outcome, &self.stopping)).await.ok_or(None)
    }

    /// A thread for a blocking leaf; without one, the leaf is this lane's no more.
    async fn thread(&self, seat: Seat, delivery: &Delivery) -> Result<Lent, Option<Outcome>> {
        match self.bench.lend_thread(seat, delivery) {
            Ok(lent) => Ok(lent),
            Err(away) => {
                if let Some(after) = away {
                    helpers::give_away(self, &delivery.id, delivery.message.clone(), after).await;
                }
                Err(None)
            }
        }
    }
}
