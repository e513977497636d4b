//! The coordinator: settles completions and dispatches what they release.
//!
//! It keeps nothing but a cache of plans. Any number may run; each takes events from the backend, and an event that
//! is not acknowledged comes again, to any of them. The order of its steps is what makes that safe: settle, dispatch,
//! and only then acknowledge.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{
    Backend, BackendError, DEFAULT_QUEUE, Dispatch, Event, EventDelivery, EventId, Known,
};
use celeriac_engine::plan::{Composer, Results};
use celeriac_engine::{Plan, Release, Settled};
use celeriac_primitives::{Completion, Outcome, RunId};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::patience::{insist, pause};

/// A coordinator that runs in the background. Dropping it stops it; what it has not acknowledged goes to another.
#[derive(Debug)]
pub struct Coordinator {
    stop: DropGuard,
    tasks: [JoinHandle<()>; 2],
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
        let driver = || Driver {
            backend: backend.clone(),
            options: options.clone(),
            plans: HashMap::new(),
            stop: stop.clone(),
        };
        let tasks = [tokio::spawn(driver().follow_events()), tokio::spawn(driver().sweep_often())];
        Self { stop: stop.drop_guard(), tasks }
    }

    /// Finishes the batch at hand and stops. A backend that does not answer is not waited for.
    pub async fn shutdown(self) {
        drop(self.stop);
        for task in self.tasks {
            // A panic of the driver was reported where it happened.
            let _ = task.await;
        }
    }

    /// Whether a part of it has ended without being told to: its runtime is gone, or it panicked.
    pub(crate) fn is_broken(&self) -> bool {
        self.tasks.iter().any(JoinHandle::is_finished)
    }
}

/// Plans are dropped from the cache, all at once, when it holds this many.
const PLANS_MAX: usize = 1024;

/// How many leaves are composed and queued in one step of the store.
const SLICE: usize = 1000;

/// How long one wait for events lasts.
const EVENTS_WAIT: Duration = Duration::from_secs(60);

struct Driver {
    backend: Arc<dyn Backend>,
    options: CoordinatorOptions,
    plans: HashMap<RunId, Arc<Plan>>,
    stop: CancellationToken,
}

impl Driver {
    async fn follow_events(mut self) {
        let (batch_max, lease) = (self.options.batch_max.max(1), self.options.lease);
        let stop = self.stop.clone();
        // Cancel safe by the backend's contract: a batch is handled to its end, or was not taken.
        while let Some(events) =
            stop.run_until_cancelled(self.backend.events(batch_max, lease, EVENTS_WAIT)).await
        {
            let answer = match events {
                Ok(events) => self.handle(events).await,
                Err(error) => Err(error),
            };
            if let Err(error) = answer {
                stop.run_until_cancelled(pause(&error)).await;
            }
        }
    }

    async fn sweep_often(mut self) {
        let stop = self.stop.clone();
        let mut often = tokio::time::interval(self.options.sweep_every.max(Duration::from_millis(1)));
        often.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(often.tick()).await.is_some() {
            if let Err(error) = self.sweep().await {
                stop.run_until_cancelled(pause(&error)).await;
            }
        }
    }

    /// Settles and dispatches what follows from a batch of events, then acknowledges those for which all is done. A
    /// run that cannot be advanced keeps its events, and holds up no other.
    async fn handle(&mut self, events: Vec<EventDelivery>) -> Result<(), BackendError> {
        let mut runs = by_run(events);
        let mut done = self.settle(&mut runs).await;
        for (run, advance) in &runs {
            if done.contains_key(run)
                && let Err(error) = self.dispatch(*run, &advance.released).await
            {
                tracing::error!(%run, %error, source = ?error.source, "a run cannot be advanced");
                done.remove(run);
            }
        }
        let ids: Vec<EventId> = runs
            .into_iter()
            .filter(|(run, _)| done.contains_key(run))
            .flat_map(|(_, advance)| advance.events)
            .collect();
        self.plans.retain(|run, _| done.get(run) != Some(&true));
        let (stop, backend) = (self.stop.clone(), self.backend.clone());
        insist!(stop, backend.acknowledge(&ids))
    }

    /// Settles the completions of each run, and finds out what is to be dispatched. Returns the runs for which that
    /// worked, and whether they have ended.
    async fn settle(&mut self, runs: &mut [(RunId, Advance)]) -> HashMap<RunId, bool> {
        let (stop, backend) = (self.stop.clone(), self.backend.clone());
        let batch: Vec<(RunId, Vec<Completion>)> =
            runs.iter_mut().map(|(run, advance)| (*run, std::mem::take(&mut advance.completions))).collect();
        // All at once; only when that fails for good, one by one, to find those that can be settled.
        let answers: Vec<Result<Option<Settled>, BackendError>> =
            match insist!(stop, backend.settle(batch.clone())) {
                Ok(answers) => answers.into_iter().map(Ok).collect(),
                Err(_) => {
                    let mut answers = Vec::with_capacity(batch.len());
                    for (run, completions) in batch {
                        let answer = insist!(stop, backend.settle(vec![(run, completions.clone())]));
                        answers.push(answer.map(|mut answers| answers.pop().flatten()));
                    }
                    answers
                }
            };
        let mut settled_runs = HashMap::with_capacity(runs.len());
        for ((run, advance), answer) in runs.iter_mut().zip(answers) {
            match answer {
                Ok(Some(settled)) => {
                    advance.released = settled.released;
                    settled_runs.insert(*run, settled.ended);
                }
                Ok(None) => {
                    tracing::debug!(%run, "an event of an unknown run");
                    settled_runs.insert(*run, true);
                }
                Err(error) => {
                    tracing::error!(%run, %error, source = ?error.source, "a run cannot be settled");
                    continue;
                }
            }
            if advance.submitted {
                match insist!(stop, backend.outbox(*run)) {
                    Ok(outbox) => advance.released = outbox,
                    Err(error) => {
                        tracing::error!(%run, %error, source = ?error.source, "a run cannot be read");
                        settled_runs.remove(run);
                    }
                }
            }
        }
        settled_runs
    }

    /// Composes and queues released leaves, a slice at a time.
    async fn dispatch(&mut self, run: RunId, released: &[Release]) -> Result<(), BackendError> {
        if released.is_empty() {
            return Ok(());
        }
        let (stop, backend) = (self.stop.clone(), self.backend.clone());
        let Some(plan) = self.plan(run).await? else { return Ok(()) };
        let default: Arc<str> = DEFAULT_QUEUE.into();
        for slice in released.chunks(SLICE) {
            let (nodes, scopes) = plan.inputs(slice);
            let known = if nodes.is_empty() && scopes.is_empty() {
                Known::default()
            } else {
                insist!(stop, backend.known(run, &nodes, &scopes))?
            };
            let (leaves, broken) = compose(&plan, run, slice, &known, &default);
            insist!(stop, backend.dispatch(run, leaves.clone()))?;
            if !broken.is_empty() {
                // Only a damaged store can lack a result that was counted. The leaf fails, so that the run ends.
                tracing::error!(%run, leaves = broken.len(), "results are missing from the store");
                let answers = insist!(stop, backend.settle(vec![(run, broken.clone())]))?;
                let released: Vec<Release> =
                    answers.into_iter().flatten().flat_map(|settled| settled.released).collect();
                Box::pin(self.dispatch(run, &released)).await?;
            }
        }
        Ok(())
    }

    async fn plan(&mut self, run: RunId) -> Result<Option<Arc<Plan>>, BackendError> {
        if let Some(plan) = self.plans.get(&run) {
            return Ok(Some(plan.clone()));
        }
        let (stop, backend) = (self.stop.clone(), self.backend.clone());
        let plan = insist!(stop, backend.plan(run))?;
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
        for run in self.backend.owing(self.options.batch_max.max(1)).await? {
            let outbox = self.backend.outbox(run).await;
            let dispatched = match outbox {
                Ok(outbox) => self.dispatch(run, &outbox).await,
                Err(error) => Err(error),
            };
            if let Err(error) = dispatched {
                tracing::error!(%run, %error, source = ?error.source, "a run cannot be advanced");
            }
        }
        // Plans are wanted by the driver that follows events; here they would only lie about.
        self.plans.clear();
        Ok(())
    }
}

/// What has happened to one run, and what follows from it.
#[derive(Default)]
struct Advance {
    events: Vec<EventId>,
    submitted: bool,
    completions: Vec<Completion>,
    released: Vec<Release>,
}

/// Sorts events by run, in the order in which the runs come up.
fn by_run(events: Vec<EventDelivery>) -> Vec<(RunId, Advance)> {
    let mut runs: Vec<(RunId, Advance)> = Vec::new();
    let mut places: HashMap<RunId, usize> = HashMap::new();
    for EventDelivery { id, event } in events {
        let run = match &event {
            Event::Submitted(run) => *run,
            Event::Completed(completion) => completion.task_id.run(),
        };
        let place = *places.entry(run).or_insert(runs.len());
        if place == runs.len() {
            runs.push((run, Advance::default()));
        }
        let advance = &mut runs[place].1;
        advance.events.push(id);
        match event {
            Event::Submitted(_) => advance.submitted = true,
            Event::Completed(completion) => advance.completions.push(completion),
        }
    }
    runs
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
