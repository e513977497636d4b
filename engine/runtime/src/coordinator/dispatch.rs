//! Queueing what runs owe: what a step has released, a slice at a time, and what is left of those who died.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{Advance, BackendError, Dispatch, ErrorKind, Known, Lane};
use celeriac_engine::Release;
use celeriac_engine::plan::{Referring, ScopeNo};
use celeriac_primitives::{Completion, LeafOptions, LimitError, NodeNo, RunRef, TaskMessage, When};
use futures::FutureExt as _;
use futures::stream::{self, StreamExt};
use tokio::time::Instant;

use super::compose::{ARGS_MAX, Composed, compose, failed_at_once, leaf, missing, priority, takes_much};
use super::elsewhere::is_elsewhere;
use super::growth::Step;
use super::held::Alone;
use super::{Driver, RUNS_AT_ONCE};
use crate::large::over;
use crate::panics::Panicked;
use crate::patience::insist;

/// How many leaves are composed and queued in one step of the store.
pub(super) const SLICE: usize = 500;

/// Of leaves that are released together, those after so many are bulk: others go before them.
const EXPRESS_MAX: usize = 100;

/// A dispatch that waits for nobody lets others go on after so long.
const TURN: Duration = Duration::from_millis(2);

/// A claim to an outbox is good for a lease, and no less than this: it is not lost to a moment in which
/// nothing moves.
const CLAIM_MIN: Duration = Duration::from_secs(3);

/// Who waits for one looks so often.
const CLAIMED_AGAIN: Duration = Duration::from_millis(100);

/// A repair dispatches what has been in an outbox for so long.
const OWED_FOR: Duration = Duration::from_secs(1);

/// What is to be given to workers.
pub(crate) enum Dispatching {
    /// What a step released.
    Released(RunRef, Vec<Release>),
    /// All that a run owes: it was just submitted, or somebody who released a part of it has died.
    Outbox(RunRef),
}

/// What becomes of a run that owes something for longer than a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// It gets an event when it has none.
    Announce,
    /// Its outbox is dispatched.
    Dispatch,
}

/// A run whose outbox nobody else empties.
struct Emptying {
    run: RunRef,
    claimed: Option<Instant>,
    alone: Alone,
}

impl Driver {
    /// Longer arguments do not travel with their leaf; nor those that may be near the limit, which their
    /// worker is to see.
    pub(super) fn args_max(&self) -> usize {
        ARGS_MAX.min(self.backend.inline_bytes_max()).min(self.limits.argument_bytes_max / 2)
    }

    /// Queues what a step released; returns steps that were taken because that could not be.
    pub(crate) async fn dispatch(&self, dispatching: &Dispatching) -> Result<Vec<Step>, BackendError> {
        match dispatching {
            Dispatching::Released(run, released) if released.len() <= SLICE => {
                self.dispatch_slices(*run, released, None).await
            }
            Dispatching::Released(run, released) => {
                let mut emptying = self.empty(*run, self.outboxes.alone(*run).await).await?;
                let steps = self.dispatch_slices(*run, released, Some(&mut emptying)).await;
                self.leave(emptying).await;
                steps
            }
            Dispatching::Outbox(run) => {
                let mut emptying = self.empty(*run, self.outboxes.alone(*run).await).await?;
                let steps = self.dispatch_outbox(&mut emptying).await;
                self.leave(emptying).await;
                steps
            }
        }
    }

    async fn dispatch_outbox(&self, emptying: &mut Emptying) -> Result<Vec<Step>, BackendError> {
        let run = emptying.run;
        let outbox = insist!(self.stop, self.backend.outbox(run))?;
        self.dispatch_slices(run, &outbox, Some(emptying)).await
    }

    /// Waits until no other coordinator empties the outbox of this run.
    async fn empty(&self, run: RunRef, alone: Alone) -> Result<Emptying, BackendError> {
        let mut emptying = Emptying { run, claimed: None, alone };
        self.claim(&mut emptying).await?;
        Ok(emptying)
    }

    /// Claims it, again when a part of the time is over.
    async fn claim(&self, emptying: &mut Emptying) -> Result<(), BackendError> {
        let lease = self.options.lease.max(CLAIM_MIN);
        if emptying.claimed.is_some_and(|claimed| claimed.elapsed() < lease / 3) {
            return Ok(());
        }
        let run = emptying.run;
        loop {
            emptying.claimed = Some(Instant::now());
            if insist!(self.stop, self.backend.claim_outbox(run, self.holder, lease))? {
                return Ok(());
            }
            if self.stop.run_until_cancelled(tokio::time::sleep(CLAIMED_AGAIN)).await.is_none() {
                let context = format!("another coordinator dispatches {run}, and this one stops");
                return Err(BackendError::new(ErrorKind::Unavailable, "dispatch").context(context));
            }
        }
    }

    async fn leave(&self, emptying: Emptying) {
        if let Err(error) = self.backend.free_outbox(emptying.run, self.holder).await {
            tracing::debug!(run = %emptying.run, %error, "others wait until the claim has passed");
        }
    }

    /// Composes and queues released leaves, a slice at a time.
    async fn dispatch_slices(
        &self,
        run: RunRef,
        released: &[Release],
        mut emptying: Option<&mut Emptying>,
    ) -> Result<Vec<Step>, BackendError> {
        let (mut steps, mut since) = (Vec::new(), Instant::now());
        if released.is_empty() {
            return Ok(steps);
        }
        let Some(plan) = insist!(self.stop, self.backend.plan(run))? else { return Ok(steps) };
        for (number, slice) in released.chunks(SLICE).enumerate() {
            // Large dispatches take turns, and let pass what is small.
            let _turn = if number > 0 { self.bulk_room.acquire().await.ok() } else { None };
            if let Some(emptying) = &mut emptying {
                emptying.alone.moved();
                self.claim(emptying).await?;
            }
            // Who takes very much fetches it: then it need not be read here, nor sent twice. Who runs again
            // may have been given other arguments: that is seen with all it takes at hand.
            let (large, small): (Vec<Release>, Vec<Release>) =
                slice.iter().partition(|release| release.attempt == 1 && takes_much(&plan, release.node));
            let (nodes, scopes) = plan.inputs(&small);
            // Forgotten meanwhile.
            let Some(known) = self.known(run, &nodes, &scopes).await? else { return Ok(steps) };
            let most = self.args_max();
            let Composed { mut leaves, long, mut broken } = compose(&plan, run, &small, &known, most);
            // Who takes much fetches results, and is told failures.
            let (_, scopes) = plan.inputs(&large);
            let Some(failed) = self.known(run, &[], &scopes).await? else { return Ok(steps) };
            let is_mixed = !long.is_empty() || !large.is_empty();
            let long = long.into_iter().map(|release| (release, &known));
            for (release, known) in long.chain(large.into_iter().map(|release| (release, &failed))) {
                match plan.composer().message_by_reference(run, release, known) {
                    Some(Referring { message, bytes }) if bytes <= self.limits.argument_bytes_max as u64 => {
                        leaves.push(leaf(&plan, release, message, known));
                    }
                    Some(Referring { bytes, .. }) => {
                        let max = self.limits.argument_bytes_max;
                        let outcome = over(&LimitError::InputBytes { bytes, max });
                        broken.push(failed_at_once(run, release, outcome));
                    }
                    None => broken.push(missing(run, release)),
                }
            }
            if is_mixed {
                leaves.sort_by_key(|leaf| leaf.release);
            }
            let first = number * SLICE;
            for leaf in leaves.iter_mut().skip(EXPRESS_MAX.saturating_sub(first)) {
                leaf.lane = Lane::new(priority(&leaf.message), true);
            }
            self.fix_expiry(&mut leaves).await?;
            broken.extend(self.queue(run, &leaves).await?);
            if leaves.iter().any(Dispatch::is_timed) {
                self.timer_set.notify_one();
            }
            if !broken.is_empty() {
                // Arguments that are too long in all, or a message that is; or a damaged store lacks a result
                // that was counted. The leaf fails, so that the run ends.
                tracing::error!(%run, leaves = broken.len(), "leaves cannot be put together, or not be queued");
                let batch = [Advance::new(run, broken)];
                let answers = insist!(self.stop, self.backend.settle(&batch))?;
                for (advance, answer) in batch.iter().zip(answers) {
                    let Some(settled) = answer?.settled() else { continue };
                    steps.push(Step::of(advance, settled));
                }
            }
            // A backend that answers at once would let nobody else have a turn.
            if since.elapsed() > TURN {
                tokio::task::yield_now().await;
                since = Instant::now();
            }
        }
        Ok(steps)
    }

    /// Queues leaves; returns how those end that the backend will never take.
    async fn queue(&self, run: RunRef, leaves: &[Dispatch]) -> Result<Vec<Completion>, BackendError> {
        match insist!(self.stop, self.backend.dispatch(run, leaves)) {
            // One of them is; what was queued already is not queued again.
            Err(error) if error.kind == ErrorKind::TooLarge => {}
            answer => return answer.map(|_| Vec::new()),
        }
        let mut refused = Vec::new();
        for leaf in leaves {
            match insist!(self.stop, self.backend.dispatch(run, std::slice::from_ref(leaf))) {
                Err(error) if error.kind == ErrorKind::TooLarge => {
                    let reason = error.context.clone().unwrap_or_else(|| error.to_string());
                    refused.push(failed_at_once(run, leaf.release, over(&LimitError::Message { reason })));
                }
                answer => drop(answer?),
            }
        }
        Ok(refused)
    }

    /// What is known of these; asks nobody when it is nothing.
    pub(super) async fn known(
        &self,
        run: RunRef,
        nodes: &[NodeNo],
        scopes: &[ScopeNo],
    ) -> Result<Option<Known>, BackendError> {
        if nodes.is_empty() && scopes.is_empty() {
            return Ok(Some(Known::default()));
        }
        insist!(self.stop, self.backend.known(run, nodes, scopes))
    }

    /// Turns times from now after which leaves expire into moments.
    async fn fix_expiry(&self, leaves: &mut [Dispatch]) -> Result<(), BackendError> {
        let mut now_ms = None;
        for leaf in leaves {
            let Some(options) = leaf.message.options.clone() else { continue };
            let Some(expires @ When::After(_)) = options.expires else { continue };
            let now = match now_ms {
                Some(now) => now,
                None => *now_ms.insert(insist!(self.stop, self.backend.now())?),
            };
            let expires = Some(When::At(expires.at_ms(now)));
            let options = Some(Arc::new(LeafOptions { expires, ..LeafOptions::clone(&options) }));
            leaf.message = Arc::new(TaskMessage { options, ..TaskMessage::clone(&leaf.message) });
        }
        Ok(())
    }

    /// Dispatches what a coordinator that went away still owes. What is owed for a moment is being dispatched
    /// right now, by whoever released it.
    pub(super) async fn dispatch_owed(&self, repair: Repair) -> Result<(), BackendError> {
        let mut owed = Vec::new();
        for run in self.backend.owing(self.options.batch_max.max(1)).await? {
            if let Some(alone) = self.outboxes.at_once(run).filter(|_| !self.shunned.contains(run)) {
                drop(alone);
                owed.push((run, self.backend.outbox(run).await));
            }
        }
        if owed.is_empty() {
            return Ok(());
        }
        self.stop.run_until_cancelled(tokio::time::sleep(OWED_FOR)).await;
        if repair == Repair::Announce {
            return self.announce_owed(owed).await;
        }
        let repairs = stream::iter(owed).map(async |(run, before)| {
            // Nothing renews it; but what never returns is given up like the handling of an event.
            let holding = self.held.hold(Vec::new());
            match AssertUnwindSafe(holding.watch(self.repair(run, before))).catch_unwind().await {
                Ok(Some(Ok(()))) => {}
                Ok(Some(Err(error))) if is_elsewhere(&error) => self.wait_for_others(run, &error, Vec::new()),
                Ok(Some(Err(error))) => {
                    tracing::error!(%run, %error, source = ?error.source, "a run cannot be advanced");
                }
                Err(panic) => {
                    let Panicked { text, .. } = Panicked::of(panic);
                    tracing::error!(%run, text, "a run cannot be repaired: it panics");
                    self.shunned.add(run);
                }
                Ok(None) => {
                    tracing::error!(%run, "a run is not repaired: that does not return");
                    self.shunned.add(run);
                }
            }
        });
        repairs.buffer_unordered(RUNS_AT_ONCE).collect::<()>().await;
        Ok(())
    }

    /// Lets those come as events that have not changed and have none.
    async fn announce_owed(
        &self,
        owed: Vec<(RunRef, Result<Vec<Release>, BackendError>)>,
    ) -> Result<(), BackendError> {
        let mut runs = Vec::with_capacity(owed.len());
        for (run, before) in owed {
            // One that cannot be read holds up no other.
            match (before, self.backend.outbox(run).await) {
                (Ok(before), Ok(now)) if before == now => runs.push(run),
                (Err(error), _) | (_, Err(error)) if error.may_retry() => return Err(error),
                _ => {}
            }
        }
        if runs.is_empty() {
            return Ok(());
        }
        match self.backend.announce_again(&runs).await? {
            0 => {}
            count => tracing::warn!(runs = count, "nobody was told of what these runs owe; now somebody is"),
        }
        Ok(())
    }

    /// Dispatches a run's outbox, unless it has changed or somebody is about to empty it.
    async fn repair(
        &self,
        run: RunRef,
        before: Result<Vec<Release>, BackendError>,
    ) -> Result<(), BackendError> {
        let Some(alone) = self.outboxes.at_once(run) else { return Ok(()) };
        if before? != self.backend.outbox(run).await?
            || !self.backend.claim_outbox(run, self.holder, self.options.lease.max(CLAIM_MIN)).await?
        {
            return Ok(());
        }
        let mut emptying = Emptying { run, claimed: Some(Instant::now()), alone };
        let steps = self.dispatch_outbox(&mut emptying).await;
        self.leave(emptying).await;
        for step in steps? {
            self.follow(step).await?;
        }
        // Whoever decided it may have died, or its report was lost, before its leaf heard of it.
        if let Some(step) = self.report_of(run).await? {
            self.follow(step).await?;
        }
        Ok(())
    }
}
