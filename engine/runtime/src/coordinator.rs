//! The coordinator: settles completions and dispatches what they release.
//!
//! It keeps nothing. Any number may run; each takes events from the backend, and an event that is not
//! acknowledged comes again, to any of them. The order of its steps is what makes that safe: settle,
//! dispatch, and only then acknowledge.

pub(crate) mod compose;
pub(crate) mod dispatch;
mod elsewhere;
mod follow;
mod growth;
mod held;
mod pace;
mod poison;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use celeriac_backends::{Advance, Advanced, Backend, BackendError, Event, EventDelivery, EventId};
use celeriac_engine::{Settled, Verdict};
use celeriac_primitives::{Limits, RunRef};
use foldhash::{HashMap, HashMapExt as _};
use futures::future;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::patience::{endure, insist, pause};
use crate::vitals::Vitals;
use crate::worker::Queues;
use compose::prepared;
use dispatch::Repair;
use elsewhere::{Said, is_elsewhere};
use growth::Step;
use held::{Held, Holding, Outboxes};
use poison::Shunned;

/// A coordinator that runs in the background. Dropping it stops it; what it has not acknowledged goes to
/// another.
#[derive(Debug)]
pub struct Coordinator {
    backend: Arc<dyn Backend>,
    stop: DropGuard,
    tasks: [JoinHandle<()>; 4],
    renewer: JoinHandle<()>,
    vitals: Vitals,
    /// Until this is dropped, what is worked on is renewed.
    renewing: DropGuard,
    beside: TaskTracker,
}

/// How a coordinator works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorOptions {
    /// How many events it takes at once, at least one.
    pub batch_max: usize,
    /// How long it may hold an event before another coordinator gets it.
    pub lease: Duration,
    /// How often it looks for what nobody renews, at most every millisecond.
    pub sweep_every: Duration,
    /// After how many deliveries a leaf whose workers go away is given up, and an event whose coordinators
    /// do. The last of three or more is one in which a leaf is alone in its worker: with fewer, one may fail
    /// for another's fault.
    pub deliveries_max: u32,
}

impl Default for CoordinatorOptions {
    /// 2,048 events, 30 seconds, every 5 seconds, 5 deliveries.
    fn default() -> Self {
        Self {
            batch_max: 2048,
            lease: Duration::from_secs(30),
            sweep_every: Duration::from_secs(5),
            deliveries_max: 5,
        }
    }
}

impl Coordinator {
    /// `limits` bound what runs in the place of leaves; `served` are the queues of an embedded app's worker,
    /// which has to serve those that such canvases name.
    pub(crate) fn start(
        backend: Arc<dyn Backend>,
        options: CoordinatorOptions,
        limits: Limits,
        served: Option<Arc<Queues>>,
    ) -> Self {
        let stop = CancellationToken::new();
        let beside = TaskTracker::new();
        let vitals = Vitals::default();
        let driver = Driver {
            backend: backend.clone(),
            options,
            limits,
            served,
            stop: stop.clone(),
            vitals: vitals.clone(),
            timer_set: Arc::default(),
            held: Arc::default(),
            shunned: Shunned::default(),
            said: Said::default(),
            outboxes: Arc::default(),
            beside: beside.clone(),
            beside_room: Arc::new(Semaphore::new(BESIDE_MAX)),
            bulk_room: Arc::new(Semaphore::new(BULK_AT_ONCE)),
            holder: RandomState::new().build_hasher().finish(),
        };
        // None of them waits for another: a long sweep delays no timer, and a long batch no lease.
        let renewing = CancellationToken::new();
        let (own, until) = (driver.clone(), renewing.clone());
        let renewer = vitals.keep("renewer", move || own.clone().renew_held(until.clone()));
        let tasks = [
            driver.keep("follower of events", Driver::follow_events),
            driver.keep("keeper of timers", Driver::fire_timers),
            driver.keep("repairer", Driver::repair_often),
            driver.keep("sweeper", Driver::sweep_often),
        ];
        let (stop, renewing) = (stop.drop_guard(), renewing.drop_guard());
        Self { backend, stop, tasks, renewer, vitals, renewing, beside }
    }

    /// Finishes the batch at hand and stops. A backend that does not answer is not waited for.
    pub async fn shutdown(self) {
        drop(self.stop);
        for task in self.tasks {
            // One that has failed for good does not end.
            tokio::select! {
                _ = task => {}
                _ = self.vitals.failed() => break,
            }
        }
        self.beside.close();
        self.beside.wait().await;
        drop(self.renewing);
        // What was taken for the wait that stopping interrupted.
        let _ = tokio::time::timeout(QUIESCE, self.backend.quiesce()).await;
    }

    /// Whether a part of it has ended without being told to: its runtime is gone, or it panicked.
    pub(crate) fn is_broken(&self) -> bool {
        let is_over = self.renewer.is_finished() || self.tasks.iter().any(JoinHandle::is_finished);
        is_over || self.vitals.is_failed()
    }

    /// How it is: what is wrong, and whether it goes on.
    pub fn vitals(&self) -> Vitals {
        self.vitals.clone()
    }
}

/// How many runs of a batch are dispatched at the same time.
const RUNS_AT_ONCE: usize = 64;

/// What follows from a batch of events and takes longer goes on beside the next ones.
const BATCH_PATIENCE: Duration = Duration::from_millis(20);

/// A batch of more events is held from the start: to work on it may take as long as a short lease.
const HELD_FROM: usize = 16;

/// So many runs go on beside at most; those after them are waited for.
const BESIDE_MAX: usize = 4096;

/// So many slices of large dispatches are on their way at the same time: others pass in between.
const BULK_AT_ONCE: usize = 2;

/// Repairs without an event begin three leases after a coordinator has started, and no later than this.
const REPAIR_AFTER_MAX: Duration = Duration::from_secs(120);

/// How long a coordinator that stops waits for its backend to give back what it took.
const QUIESCE: Duration = Duration::from_secs(5);

/// An event that is there for the third time has not been handled twice: its coordinator was lost, or could
/// not.
const AGAIN_FROM: u32 = 3;

/// So many runs are named of whose events the handling does not return.
const SAID_MAX: usize = 20;

/// Timers that other coordinators have set are looked at this often: a leaf is not later than this.
const TIMERS_EVERY: Duration = Duration::from_millis(500);

#[derive(Clone)]
struct Driver {
    backend: Arc<dyn Backend>,
    options: CoordinatorOptions,
    limits: Limits,
    served: Option<Arc<Queues>>,
    stop: CancellationToken,
    vitals: Vitals,
    /// A leaf with a timer was dispatched: it may be the next to fire.
    timer_set: Arc<Notify>,
    held: Arc<Held>,
    /// What is not repaired, since that panics.
    shunned: Shunned,
    said: Said,
    outboxes: Arc<Outboxes>,
    /// What goes on beside the events.
    beside: TaskTracker,
    beside_room: Arc<Semaphore>,
    bulk_room: Arc<Semaphore>,
    /// As which it claims outboxes.
    holder: u64,
}

impl Driver {
    /// Does a part of the work until it is told to stop, whatever panics in it.
    fn keep<W>(&self, part: &'static str, work: fn(Self) -> W) -> JoinHandle<()>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let driver = self.clone();
        self.vitals.keep(part, move || work(driver.clone()))
    }

    async fn handle_all(&self, events: Vec<EventDelivery>) -> Result<(), BackendError> {
        self.say_again(&events);
        let is_poison = |delivery: &EventDelivery| self.is_poison(delivery);
        if !events.iter().any(is_poison) {
            return self.handle(events).await;
        }
        let (poison, rest): (Vec<_>, Vec<_>) = events.into_iter().partition(is_poison);
        for delivery in poison {
            let holding = self.hold(std::slice::from_ref(&delivery));
            let run = delivery.event.run();
            let given_up = holding.watch(Box::pin(self.give_up(delivery))).await.unwrap_or(Ok(()));
            // The others of the batch have nothing to do with it.
            if let Err(error) = given_up {
                tracing::error!(%run, %error, source = ?error.source, "an event is not given up; it comes again");
            }
        }
        self.handle(rest).await
    }

    /// Queues leaves when their time comes. Timers are in the backend; another coordinator may have set them.
    async fn fire_timers(self) {
        loop {
            let set = self.timer_set.notified();
            let next = match self.backend.fire().await {
                Ok(next) => next.map_or(TIMERS_EVERY, |next| next.min(TIMERS_EVERY)),
                Err(error) => {
                    self.stop.run_until_cancelled(pause(&error)).await;
                    TIMERS_EVERY
                }
            };
            let wait = async {
                tokio::select! {
                    () = tokio::time::sleep(next) => {}
                    () = set => {}
                }
            };
            if self.stop.run_until_cancelled(wait).await.is_none() {
                return;
            }
        }
    }

    /// Renews the events that take long. After the stop, too, as long as somebody waits for it.
    async fn renew_held(self, until: CancellationToken) {
        let third = self.options.lease / 3;
        let mut often = every(third);
        while until.run_until_cancelled(often.tick()).await.is_some() {
            let due = self.held.due(third / 2);
            self.say_stuck(&due.stuck);
            if !due.renew.is_empty()
                && let Err(error) = self.backend.renew_events(&due.renew, self.options.lease).await
            {
                tracing::warn!(%error, "events were not renewed");
            }
        }
    }

    /// Says of an event that it comes again and again, as long as it does: whoever had it did not get
    /// anywhere.
    fn say_again(&self, events: &[EventDelivery]) {
        let again = events.iter().filter(|event| event.deliveries >= AGAIN_FROM);
        if let Some(worst) = again.max_by_key(|event| event.deliveries) {
            let text = format!("an event of {} has come {} times", worst.event.run(), worst.deliveries);
            self.vitals.say("events", Some((text, Some(self.options.lease.saturating_mul(2)))));
        }
    }

    /// Says which events are no longer worked on, since that does not return.
    fn say_stuck(&self, stuck: &[(EventId, RunRef)]) {
        let runs: BTreeSet<RunRef> = stuck.iter().map(|(_, run)| *run).collect();
        for run in runs.iter().take(SAID_MAX) {
            tracing::error!(%run, "the handling of an event does not return; it comes again, and is counted");
        }
        if let Some(run) = runs.first() {
            let text = format!("the handling of {} events, one of {run}, has not returned", stuck.len());
            self.vitals.say("handling", Some((text, Some(self.options.lease))));
        }
    }

    async fn sweep_often(self) {
        let mut often = every(self.options.sweep_every);
        while self.stop.run_until_cancelled(often.tick()).await.is_some() {
            if let Err(error) = self.sweep().await {
                self.stop.run_until_cancelled(pause(&error)).await;
            }
        }
    }

    async fn repair_often(self) {
        // What a coordinator before this one has died of comes as an event first, which is counted. What has
        // no event gets one.
        let first = Instant::now() + self.options.lease.saturating_mul(3).min(REPAIR_AFTER_MAX);
        let mut often = every(self.options.sweep_every);
        while self.stop.run_until_cancelled(often.tick()).await.is_some() {
            let repair = if Instant::now() < first { Repair::Announce } else { Repair::Dispatch };
            if let Err(error) = self.dispatch_owed(repair).await {
                self.stop.run_until_cancelled(pause(&error)).await;
            }
        }
    }

    /// Settles and dispatches what follows from a batch of events, then acknowledges those for which all is
    /// done and the store has not done so. A run that cannot be advanced keeps its events, and holds up no
    /// other.
    async fn handle(&self, events: Vec<EventDelivery>) -> Result<(), BackendError> {
        let ids = ids_of(&events);
        let is_small = events.len() <= HELD_FROM;
        let mut handling = pin!(self.handle_held(events));
        if !is_small {
            return self.held.hold(ids).watch(handling).await.unwrap_or(Ok(()));
        }
        // A store that answers at once makes nobody wait, and nothing has to be renewed.
        match poll_fn(|context| Poll::Ready(handling.as_mut().poll(context))).await {
            Poll::Ready(answer) => answer,
            Poll::Pending => self.held.hold(ids).watch(handling).await.unwrap_or(Ok(())),
        }
    }

    fn hold(&self, events: &[EventDelivery]) -> Holding {
        self.held.hold(ids_of(events))
    }

    async fn handle_held(&self, events: Vec<EventDelivery>) -> Result<(), BackendError> {
        let mut runs = by_run(events);
        self.prepare(&mut runs);
        let mut settle: Vec<Advance> = Vec::with_capacity(runs.len());
        // Events that the store must not acknowledge itself.
        let mut kept: Vec<(Vec<EventId>, _)> = Vec::with_capacity(runs.len());
        let mut owed: Vec<(Step, Vec<EventId>)> = Vec::new();
        for (run, submitted, mut advance) in runs {
            if !submitted.is_empty() {
                owed.push((Step::outbox(run), submitted));
            }
            if !advance.completions.is_empty() {
                let may_grow = growth::may_grow(&advance);
                let events = if may_grow { std::mem::take(&mut advance.events) } else { Vec::new() };
                kept.push((events, self.plan_of_segment(run)));
                settle.push(advance);
            }
        }
        let answers = self.settle_each(&settle).await?;
        let mut done = Vec::new();
        for ((mut advance, (kept, plan)), answer) in settle.into_iter().zip(kept).zip(answers) {
            let (run, mut events) = (advance.run, std::mem::take(&mut advance.events));
            events.extend(kept);
            match answer {
                Ok(Advanced::Settled { settled, acknowledged }) => {
                    if settled.ended {
                        tracing::debug!(%run, "a run has ended");
                    }
                    self.discard_lost(&advance, &settled).await?;
                    let step = Step::of(&advance, settled).keeping(plan);
                    if !step.is_done() {
                        owed.push((step, events));
                    } else if !acknowledged {
                        done.extend(events);
                    }
                }
                Ok(Advanced::Unplanned) => owed.push((Step::unsettled(advance), events)),
                Ok(Advanced::Unknown) => {
                    tracing::debug!(%run, "an event of an unknown run");
                    done.extend(events);
                }
                // Where this run is nobody answers; the others go on.
                Err(error) if is_elsewhere(&error) || error.may_retry() => {
                    self.wait_for_others(run, &error, events);
                }
                Err(error) => {
                    tracing::error!(%run, %error, source = ?error.source, "a run cannot be settled");
                }
            }
        }
        done.extend(self.carry_out(owed).await);
        self.acknowledge(&done).await
    }

    /// Does what is owed, and returns the events that are done with then. What takes long goes on beside the
    /// next events, which are as important.
    async fn carry_out(&self, owed: Vec<(Step, Vec<EventId>)>) -> Vec<EventId> {
        let (mut done, mut left) = (Vec::new(), owed.len());
        if owed.is_empty() {
            return done;
        }
        let of_step = |(step, events): &(Step, Vec<EventId>)| {
            let run = step.run();
            events.iter().map(move |event| (*event, run)).collect::<Vec<_>>()
        };
        let all: Vec<(EventId, RunRef)> = owed.iter().flat_map(of_step).collect();
        let driver = self.clone();
        let work = stream::iter(owed).map(move |(step, events)| {
            let driver = driver.clone();
            async move {
                let run = step.run();
                match driver.follow(step).await {
                    Ok(()) => events,
                    Err(error) if is_elsewhere(&error) => {
                        driver.wait_for_others(run, &error, events);
                        Vec::new()
                    }
                    Err(error) => {
                        tracing::error!(%run, %error, source = ?error.source, "a run cannot be advanced");
                        Vec::new()
                    }
                }
            }
        });
        let mut work = work.buffer_unordered(RUNS_AT_ONCE).boxed();
        let mut patience = std::pin::pin!(tokio::time::sleep(BATCH_PATIENCE));
        loop {
            let (room, wanted) = (&self.beside_room, left as u32);
            let beside = async {
                patience.as_mut().await;
                room.clone().acquire_many_owned(wanted.min(BESIDE_MAX as u32)).await
            };
            tokio::select! {
                biased;
                events = work.next() => match events {
                    Some(events) => {
                        left -= 1;
                        done.extend(events);
                    }
                    None => return done,
                },
                Ok(room) = beside => {
                    let known: BTreeSet<EventId> = done.iter().copied().collect();
                    let rest = all.into_iter().filter(|(event, _)| !known.contains(event)).collect();
                    let holding = self.held.hold(rest);
                    // When it panics, its events are renewed no more, and come again.
                    let go_on = self.clone().go_on(work, holding, room);
                    self.beside.spawn(self.vitals.clone().note("dispatcher", go_on));
                    return done;
                }
            }
        }
    }

    /// Does the rest of it.
    async fn go_on(
        self,
        mut work: BoxStream<'static, Vec<EventId>>,
        holding: Holding,
        mut room: OwnedSemaphorePermit,
    ) {
        let (finished, mut acknowledged) = mpsc::unbounded_channel();
        let working = async move {
            while let Some(done) = work.next().await {
                drop(room.split(1));
                // Who acknowledges it is there as long as this is.
                let _ = finished.send(done);
            }
        };
        // The rest of the work goes on meanwhile; what is done by then is acknowledged together.
        let acknowledging = async {
            let mut done = Vec::new();
            while acknowledged.recv_many(&mut done, RUNS_AT_ONCE).await > 0 {
                let events = std::mem::take(&mut done).concat();
                if let Err(error) = self.acknowledge(&events).await {
                    tracing::warn!(%error, "events that are done with come again");
                }
                holding.let_go(events);
            }
        };
        holding.watch(future::join(working, acknowledging)).await;
    }

    /// Settles a batch. What is refused for one of its runs is refused for that one alone.
    async fn settle_each(
        &self,
        batch: &[Advance],
    ) -> Result<Vec<Result<Advanced, BackendError>>, BackendError> {
        match insist!(self.stop, self.backend.settle(batch)) {
            // That is rare: nobody carries it along.
            Err(error) if is_elsewhere(&error) => Box::pin(self.settle_apart(batch)).await,
            answers => answers,
        }
    }

    async fn settle_apart(
        &self,
        batch: &[Advance],
    ) -> Result<Vec<Result<Advanced, BackendError>>, BackendError> {
        let mut answers = Vec::with_capacity(batch.len());
        for advance in batch {
            match insist!(self.stop, self.backend.settle(std::slice::from_ref(advance))) {
                Ok(mut answer) => answers.append(&mut answer),
                Err(error) if is_elsewhere(&error) => answers.push(Err(error)),
                Err(error) => return Err(error),
            }
        }
        Ok(answers)
    }

    async fn acknowledge(&self, done: &[EventId]) -> Result<(), BackendError> {
        if done.is_empty() {
            return Ok(());
        }
        endure!(self.stop, self.backend.acknowledge(done))
    }

    /// Removes what deliveries have stored that did not count.
    async fn discard_lost(&self, advance: &Advance, settled: &Settled) -> Result<(), BackendError> {
        for (done, verdict) in advance.completions.iter().zip(&settled.verdicts) {
            // What a canvas is to be read from is discarded when that was done.
            if !matches!(verdict, Verdict::Duplicate | Verdict::Stale | Verdict::Refused) {
                continue;
            }
            for stored in done.outcome.stored_texts() {
                endure!(self.stop, self.backend.discard(done.task_id, &stored))?;
            }
        }
        Ok(())
    }

    /// Composes what the completions are going to release when their outcomes are all that it takes: the next
    /// step of a chain, then, is queued by the step that settles this one.
    fn prepare(&self, runs: &mut [(RunRef, Vec<EventId>, Advance)]) {
        let most = self.args_max();
        for (run, _, advance) in runs {
            if let Some(plan) = self.backend.plan_at_hand(*run) {
                advance.prepared = prepared(&plan, *run, &advance.completions, most);
            }
        }
    }

    /// Takes up what nobody renews.
    async fn sweep(&self) -> Result<(), BackendError> {
        let swept = self.backend.sweep(self.options.deliveries_max).await?;
        if swept.redelivered + swept.lost > 0 {
            tracing::warn!(redelivered = swept.redelivered, lost = swept.lost, "leases have passed");
        }
        if swept.forgotten > 0 {
            tracing::debug!(runs = swept.forgotten, "runs were forgotten, their time is over");
        }
        Ok(())
    }
}

fn ids_of(events: &[EventDelivery]) -> Vec<(EventId, RunRef)> {
    events.iter().map(|delivery| (delivery.id, delivery.event.run())).collect()
}

fn every(time: Duration) -> Interval {
    let mut interval = tokio::time::interval(time.max(Duration::from_millis(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Sorts events by run, in the order in which the runs come up, each with those that say that it was just
/// submitted. These are done with when its outbox is dispatched; the completions when they are settled and
/// what follows is, too.
fn by_run(events: Vec<EventDelivery>) -> Vec<(RunRef, Vec<EventId>, Advance)> {
    let mut runs: Vec<(RunRef, Vec<EventId>, Advance)> = Vec::new();
    let mut places: HashMap<RunRef, usize> = HashMap::new();
    for EventDelivery { id, event, .. } in events {
        let run = event.run();
        let place = *places.entry(run).or_insert(runs.len());
        if place == runs.len() {
            runs.push((run, Vec::new(), Advance::new(run, Vec::new())));
        }
        let (_, submitted, advance) = &mut runs[place];
        match event {
            Event::Submitted(_) => submitted.push(id),
            Event::Completed(completion) => {
                advance.events.push(id);
                advance.completions.push(completion);
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use celeriac_primitives::{Completion, Incarnation, NodeNo, Outcome, RunId};

    use super::*;

    /// Else the report of a run that cannot be settled now would be acknowledged with the run's submission,
    /// and lost.
    #[test]
    fn the_events_of_a_submission_and_of_reports_are_kept_apart() {
        let run = RunId::from_parts(1, 1).incarnation(Incarnation::new(1));
        let (task_id, incarnation) = (run.task(NodeNo::from_index(0)), run.incarnation);
        let completion = Completion { task_id, attempt: 1, outcome: Outcome::Ignored, incarnation };
        let ids = [1, 2].map(|entry| EventId { source: 0, entry: (0, entry) });
        let events = [Event::Submitted(run), Event::Completed(completion)];
        let deliveries = ids.into_iter().zip(events).map(|(id, event)| EventDelivery {
            id,
            event,
            is_bulk: false,
            deliveries: 1,
        });
        let runs = by_run(deliveries.collect());
        assert_eq!((&runs[0].1[..], &runs[0].2.events[..]), (&ids[..1], &ids[1..]));
    }
}
