//! The coordinator: settles completions and dispatches what they release.
//!
//! It keeps nothing but a cache of plans. Any number may run; each takes events from the backend, and an event that
//! is not acknowledged comes again, to any of them. The order of its steps is what makes that safe: settle, dispatch,
//! and only then acknowledge.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{Backend, BackendError, DEFAULT_QUEUE, Dispatch, Event, EventDelivery, EventId};
use celeriac_engine::plan::{Composer, Results};
use celeriac_engine::{Plan, Release};
use celeriac_primitives::{Completion, Outcome, RunId};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::patience::Patience;

/// A coordinator that runs in the background. Dropping it stops it; what it has not acknowledged goes to another.
#[derive(Debug)]
pub struct Coordinator {
    stop: DropGuard,
    task: JoinHandle<()>,
}

/// How a coordinator works.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoordinatorOptions {
    /// How many events it takes at once.
    pub batch_max: usize,
    /// How long it may hold an event before another coordinator gets it.
    pub lease: Duration,
    /// How often it looks for what nobody renews.
    pub sweep_every: Duration,
    /// After how many deliveries a leaf whose workers go away is given up.
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
    pub(crate) fn start(backend: Arc<dyn Backend>, options: CoordinatorOptions) -> Self {
        let stop = CancellationToken::new();
        let driver = Driver { backend, options, plans: HashMap::new(), stop: stop.clone() };
        Self { stop: stop.drop_guard(), task: tokio::spawn(driver.run()) }
    }

    /// Finishes the batch at hand and stops.
    pub async fn shutdown(self) {
        drop(self.stop);
        // A panic of the driver was reported where it happened.
        let _ = self.task.await;
    }
}

/// Plans are dropped from the cache, all at once, when it holds this many.
const PLANS_MAX: usize = 1024;

/// How many leaves are composed and queued in one step of the store.
const SLICE: usize = 1000;

struct Driver {
    backend: Arc<dyn Backend>,
    options: CoordinatorOptions,
    plans: HashMap<RunId, Arc<Plan>>,
    stop: CancellationToken,
}

impl Driver {
    async fn run(mut self) {
        let mut patience = Patience::default();
        let mut sweep = tokio::time::interval(self.options.sweep_every);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let CoordinatorOptions { batch_max, lease, sweep_every, .. } = self.options;
            let stop = self.stop.clone();
            let answer = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = sweep.tick() => self.sweep().await,
                // Dropping this future takes no event: backends hand events out in one step, at its end.
                events = self.backend.events(batch_max, lease, sweep_every) => match events {
                    Ok(events) => self.handle(events).await,
                    Err(error) => Err(error),
                },
            };
            patience.unless(answer).await;
        }
    }

    async fn handle(&mut self, events: Vec<EventDelivery>) -> Result<(), BackendError> {
        if events.is_empty() {
            return Ok(());
        }
        let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
        let (submitted, completions) = by_run(events);
        for run in submitted {
            let outbox = self.backend.outbox(run).await?;
            self.dispatch(run, outbox).await?;
        }
        self.settle(completions).await?;
        self.backend.acknowledge(&ids).await
    }

    async fn settle(&mut self, completions: Vec<(RunId, Vec<Completion>)>) -> Result<(), BackendError> {
        let runs: Vec<RunId> = completions.iter().map(|(run, _)| *run).collect();
        let answers = self.backend.settle(completions).await?;
        for (run, settled) in runs.into_iter().zip(answers) {
            let Some(settled) = settled else {
                tracing::debug!(%run, "completion of an unknown run");
                continue;
            };
            self.dispatch(run, settled.released).await?;
            if settled.ended {
                self.plans.remove(&run);
            }
        }
        Ok(())
    }

    /// Composes and queues released leaves, a slice at a time.
    async fn dispatch(&mut self, run: RunId, released: Vec<Release>) -> Result<(), BackendError> {
        if released.is_empty() {
            return Ok(());
        }
        let Some(plan) = self.plan(run).await? else { return Ok(()) };
        let default: Arc<str> = DEFAULT_QUEUE.into();
        for slice in released.chunks(SLICE) {
            let (nodes, scopes) = plan.inputs(slice);
            let known = self.backend.known(run, &nodes, &scopes).await?;
            let (leaves, broken) = compose(&plan, run, slice, &known, &default);
            self.backend.dispatch(run, leaves).await?;
            if !broken.is_empty() {
                // Only a damaged store can lack a result that was counted. The leaf fails, so that the run ends.
                tracing::error!(%run, leaves = broken.len(), "results are missing from the store");
                Box::pin(self.settle(vec![(run, broken)])).await?;
            }
        }
        Ok(())
    }

    async fn plan(&mut self, run: RunId) -> Result<Option<Arc<Plan>>, BackendError> {
        if let Some(plan) = self.plans.get(&run) {
            return Ok(Some(plan.clone()));
        }
        let plan = self.backend.plan(run).await?;
        if let Some(plan) = &plan {
            if self.plans.len() >= PLANS_MAX {
                self.plans.clear();
            }
            self.plans.insert(run, plan.clone());
        }
        Ok(plan)
    }

    /// Takes up what nobody renews, and dispatches what a coordinator that went away still owed.
    async fn sweep(&mut self) -> Result<(), BackendError> {
        let swept = self.backend.sweep(self.options.deliveries_max).await?;
        if swept.redelivered + swept.lost > 0 {
            tracing::warn!(redelivered = swept.redelivered, lost = swept.lost, "leases have passed");
        }
        for run in self.backend.owing(self.options.batch_max).await? {
            let outbox = self.backend.outbox(run).await?;
            self.dispatch(run, outbox).await?;
        }
        Ok(())
    }
}

/// Splits events into submitted runs and completions by run, each in the order of their first event.
fn by_run(events: Vec<EventDelivery>) -> (Vec<RunId>, Vec<(RunId, Vec<Completion>)>) {
    let mut submitted = Vec::new();
    let mut completions: Vec<(RunId, Vec<Completion>)> = Vec::new();
    let mut places: HashMap<RunId, usize> = HashMap::new();
    for EventDelivery { event, .. } in events {
        match event {
            Event::Submitted(run) => submitted.push(run),
            Event::Completed(completion) => {
                let run = completion.task_id.run();
                let place = *places.entry(run).or_insert(completions.len());
                match completions.get_mut(place) {
                    Some((_, completions)) => completions.push(completion),
                    None => completions.push((run, vec![completion])),
                }
            }
        }
    }
    (submitted, completions)
}

fn compose(
    plan: &Plan,
    run: RunId,
    released: &[Release],
    known: &impl Results,
    default: &Arc<str>,
) -> (Vec<Dispatch>, Vec<Completion>) {
    let mut composer: Composer<'_> = plan.composer();
    let mut leaves = Vec::with_capacity(released.len());
    let mut broken = Vec::new();
    for release in released {
        match composer.message(run, *release, known) {
            Some(message) => {
                let queue = plan.queue(release.node).unwrap_or(default).clone();
                leaves.push(Dispatch { release: *release, queue, message: Arc::new(message) });
            }
            None => {
                let outcome =
                    Outcome::Undecodable("the result of a predecessor is missing from the store".to_owned());
                broken.push(Completion {
                    task_id: run.task(release.node),
                    attempt: release.attempt,
                    outcome,
                });
            }
        }
    }
    (leaves, broken)
}
