//! Who works in a worker, and what they hand each other.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_backends::{
    Backend, BackendError, DEFAULT_QUEUE, Delivery, DeliveryId, LaneOrder, Progress, WorkerId,
};
use celeriac_primitives::{Completion, Json, LeafOptions, Outcome, TaskMessage, TaskState};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::WorkerOptions;
use super::execute::Executor;
use super::progress::{self, Desk};
use crate::patience::{insist, pause};

/// How many reports go to the backend in one step.
const REPORTS_MAX: usize = 1024;

/// How long a fetch waits for leaves before it looks again.
const FETCH_WAIT: Duration = Duration::from_secs(5);

/// A worker holds what it is likely to begin within this time.
const RESERVE: Duration = Duration::from_millis(10);

/// A leaf of an unknown task is offered again this often.
const UNKNOWN_EVERY: Duration = Duration::from_secs(1);

/// How long tasks have that were told to stop.
const GRACE: Duration = Duration::from_secs(1);

/// How long a stopping worker waits for its backend.
const BACKEND_GRACE: Duration = Duration::from_secs(5);

type Report = (DeliveryId, Completion);

/// A worker's parts. The task that runs the crew owns the lanes: when it goes, they go.
pub(super) struct Crew {
    backend: Arc<dyn Backend>,
    id: WorkerId,
    queues: Arc<Queues>,
    options: WorkerOptions,
    stopping: CancellationToken,
    bench: Arc<Bench>,
    reports: mpsc::UnboundedSender<Report>,
    lanes: JoinSet<()>,
    helpers: JoinSet<()>,
    reporter: tokio::task::JoinHandle<()>,
}

/// The queues a worker takes leaves from.
#[derive(Debug)]
pub(crate) struct Queues {
    names: Mutex<Vec<Arc<str>>>,
    added: Notify,
}

impl Queues {
    pub(super) fn new(names: &[String]) -> Self {
        let names = match names {
            [] => vec![DEFAULT_QUEUE.into()],
            names => names.iter().map(|name| name.as_str().into()).collect(),
        };
        Self { names: Mutex::new(names), added: Notify::new() }
    }

    pub(crate) fn add(&self, name: &str) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.iter().any(|known| **known == *name) {
            names.push(name.into());
            // Kept when nobody waits: the next fetch then looks once more.
            self.added.notify_one();
        }
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What fetcher, lanes and reporter share.
struct Bench {
    worker: WorkerId,
    unknown_wait: Duration,
    executor: Executor,
    hands: Mutex<Hands>,
    /// A report reached the backend: there is room, or nothing left to do.
    freed: Notify,
}

#[derive(Default)]
struct Hands {
    /// Taken and not begun.
    waiting: VecDeque<Delivery>,
    /// Lanes that run, or are about to.
    lanes: usize,
    /// Taken and not finished: waiting, running, or waiting to be reported.
    held: HashSet<DeliveryId>,
    /// Those among them that have begun and must not begin again: at most once was asked for.
    once: HashMap<DeliveryId, Completion>,
    /// How long a leaf ran lately, on average.
    pace: Option<Duration>,
    /// How many leaves were begun.
    begun: usize,
}

impl Hands {
    fn release(&mut self, deliveries: &[DeliveryId]) {
        for id in deliveries {
            self.held.remove(id);
            self.once.remove(id);
        }
    }

    /// How many leaves to hold besides those that run: what others could begin now must not lie here.
    fn reserve(&self, options: &WorkerOptions) -> usize {
        match (options.prefetch, self.pace) {
            (Some(prefetch), _) => prefetch,
            (None, None) => 0,
            (None, Some(pace)) => {
                let begun = RESERVE.as_secs_f64() / pace.as_secs_f64().max(1e-6) * options.concurrency as f64;
                (begun as usize).min(options.concurrency)
            }
        }
    }

    fn note_pace(&mut self, took: Duration) {
        self.pace = Some(self.pace.map_or(took, |pace| (pace * 15 + took) / 16));
    }
}

impl Crew {
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        id: WorkerId,
        executor: Executor,
        queues: Arc<Queues>,
        mut options: WorkerOptions,
        desk: Arc<Desk>,
    ) -> Self {
        options.concurrency = options.concurrency.max(1);
        let stopping = CancellationToken::new();
        let bench = Arc::new(Bench {
            worker: id.clone(),
            unknown_wait: options.unknown_wait,
            executor,
            hands: Mutex::default(),
            freed: Notify::new(),
        });
        let (reports, done) = mpsc::unbounded_channel();
        let mut helpers = JoinSet::new();
        helpers.spawn(renew(backend.clone(), id.clone(), bench.clone(), options.lease));
        helpers.spawn(progress::send(backend.clone(), desk));
        // Not among the helpers: it outlives the lanes, to report what they have finished.
        let reporter = tokio::spawn(report(backend.clone(), bench.clone(), done, stopping.clone()));
        let lanes = JoinSet::new();
        Self { backend, id, queues, options, stopping, bench, reports, lanes, helpers, reporter }
    }

    /// Works until told to stop; returns how many leaves were cut off.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<Duration>) -> usize {
        let told = tokio::select! {
            told = &mut stop => told,
            () = self.fetch() => unreachable!("fetching has no end"),
        };
        match told {
            Ok(deadline) => self.wind_up(deadline).await,
            // The worker was dropped: stop where we are. What is held comes back by its lease.
            Err(_) => 0,
        }
    }

    async fn fetch(&mut self) {
        for receive in 0.. {
            let room = self.bench.room(&self.options).await;
            let (lease, queues) = (self.options.lease, self.queues.names());
            // Cancel safe by the backend's contract: when the crew stops here, nothing was taken.
            let answer = tokio::select! {
                answer = self.backend.receive(&self.id, &queues, room, lease, FETCH_WAIT, LaneOrder::of(receive)) => answer,
                () = self.queues.added.notified() => continue,
            };
            let deliveries = match answer {
                Ok(deliveries) => deliveries,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            };
            while self.lanes.try_join_next().is_some() {}
            for _ in 0..self.bench.put(deliveries, self.options.concurrency) {
                self.lanes.spawn(lane(
                    self.backend.clone(),
                    self.bench.clone(),
                    self.reports.clone(),
                    self.stopping.clone(),
                ));
            }
        }
    }

    async fn wind_up(mut self, deadline: Duration) -> usize {
        let waiting: Vec<DeliveryId> = self.bench.take_waiting();
        give_back(&*self.backend, &self.id, &waiting).await;
        if tokio::time::timeout(deadline, self.bench.idle()).await.is_err() {
            self.bench.executor.cancel();
            if tokio::time::timeout(GRACE, self.bench.idle()).await.is_err() {
                self.lanes.abort_all();
            }
        }
        let Self { backend, id, queues, mut lanes, helpers, reports, mut reporter, bench, stopping, .. } =
            self;
        drop((helpers, reports));
        let reported = async {
            while lanes.join_next().await.is_some() {}
            // All senders are gone: the reporter ends when it has reported everything.
            let _ = (&mut reporter).await;
        };
        if tokio::time::timeout(BACKEND_GRACE, reported).await.is_err() {
            stopping.cancel();
            reporter.abort();
        }
        let (lost, cut_off) = bench.cut_off();
        let count = lost.len() + cut_off.len();
        let reported = tokio::time::timeout(BACKEND_GRACE, backend.finish(&lost)).await;
        if !matches!(reported, Ok(Ok(()))) {
            tracing::warn!(
                leaves = lost.len(),
                "could not report leaves as lost; others will when their leases pass"
            );
        }
        give_back(&*backend, &id, &cut_off).await;
        // What was taken for the fetch that stopping interrupted.
        let _ = tokio::time::timeout(BACKEND_GRACE, backend.quiesce()).await;
        // Should this fail, the backend forgets the worker when it has not heard of it for long.
        let _ = tokio::time::timeout(BACKEND_GRACE, backend.retire(&id, &queues.names())).await;
        count
    }
}

impl Bench {
    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until half of the reserve is used up, and returns how many leaves to take.
    async fn room(&self, options: &WorkerOptions) -> usize {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            {
                let hands = self.hands();
                let prefetch = hands.reserve(options);
                let room = options.concurrency.saturating_add(prefetch).saturating_sub(hands.held.len());
                if room > 0 && hands.waiting.len() <= prefetch / 2 {
                    return room;
                }
            }
            freed.await;
        }
    }

    /// Takes deliveries in hand and returns how many lanes to start.
    fn put(&self, deliveries: Vec<Delivery>, concurrency: usize) -> usize {
        let mut hands = self.hands();
        hands.held.extend(deliveries.iter().map(|delivery| delivery.id.clone()));
        for delivery in deliveries {
            // Before those of later lanes.
            let lane = delivery.id.lane;
            let place = hands.waiting.partition_point(|waiting| waiting.id.lane <= lane);
            hands.waiting.insert(place, delivery);
        }
        let start = concurrency.saturating_sub(hands.lanes).min(hands.waiting.len());
        hands.lanes += start;
        start
    }

    /// The next leaf for a lane. `None` ends the lane: it is counted out under the same lock, so that a leaf put in
    /// hand right afterwards finds a free place for a new one.
    ///
    /// Also whether to time it: one in eight tells the pace, and the first few.
    fn next(&self, took: Option<Duration>) -> Option<(Delivery, bool)> {
        let mut hands = self.hands();
        took.into_iter().for_each(|took| hands.note_pace(took));
        let next = hands.waiting.pop_front();
        if next.is_none() {
            hands.lanes -= 1;
        }
        hands.begun += 1;
        let is_timed = hands.begun.is_multiple_of(8) || hands.begun < 8;
        next.map(|next| (next, is_timed))
    }

    fn take_waiting(&self) -> Vec<DeliveryId> {
        let mut hands = self.hands();
        let waiting: Vec<DeliveryId> = hands.waiting.drain(..).map(|delivery| delivery.id).collect();
        hands.release(&waiting);
        waiting
    }

    /// What is held when the worker stops: reports of leaves that are lost with it, and what others may run.
    fn cut_off(&self) -> (Vec<Report>, Vec<DeliveryId>) {
        let hands = self.hands();
        let (lost, back): (Vec<_>, Vec<_>) =
            hands.held.iter().cloned().partition(|id| hands.once.contains_key(id));
        let report = |id: DeliveryId| {
            let lost = hands.once[&id].clone();
            (id, lost)
        };
        (lost.into_iter().map(report).collect(), back)
    }

    fn held(&self) -> Vec<DeliveryId> {
        self.hands().held.iter().cloned().collect()
    }

    /// Runs a leaf; or says how it ends without, if that is known here.
    async fn run(
        &self,
        backend: &dyn Backend,
        id: &DeliveryId,
        message: &TaskMessage,
        deliveries: u32,
        stopping: &CancellationToken,
    ) -> Result<Outcome, Option<Outcome>> {
        let Some(task) = self.executor.task(&message.task) else {
            return Err(Box::pin(self.let_wait(backend, id, message, stopping)).await);
        };
        let options = self.executor.options(message);
        if let Some(options) = options.as_deref() {
            Box::pin(may_start(backend, id, message, options, deliveries, stopping)).await?;
            if options.acks_late == Some(false) {
                let lost = message.completion(Outcome::WorkerLost { deliveries: 1 });
                self.hands().once.insert(id.clone(), lost);
            }
        }
        if message.input.is_empty() {
            return Ok(self.executor.execute(task, message, options).await);
        }
        let whole = Box::pin(with_input(backend, message, stopping)).await?;
        Ok(self.executor.execute(task, &whole, options).await)
    }

    /// Lets a leaf whose task nobody here knows wait for another worker; how it ends when it has waited for long.
    async fn let_wait(
        &self,
        backend: &dyn Backend,
        id: &DeliveryId,
        message: &TaskMessage,
        stopping: &CancellationToken,
    ) -> Option<Outcome> {
        if self.unknown_wait.is_zero() {
            return Some(Outcome::UnknownTask);
        }
        let (run, node) = (message.task_id.run(), message.task_id.node());
        let postponed = async {
            let now_ms = insist!(*stopping, backend.now())?;
            let since_ms = message.unknown_since_ms.unwrap_or(now_ms);
            let waited = Duration::from_millis(now_ms.saturating_sub(since_ms));
            if waited >= self.unknown_wait {
                return Ok(false);
            }
            if message.unknown_since_ms.is_none() {
                tracing::warn!(%run, %node, task = %message.task, "no such task here; the leaf waits for a worker that has it");
            }
            let leaf = TaskMessage { unknown_since_ms: Some(since_ms), ..message.clone() };
            let (leaf, after) = (Arc::new(leaf), UNKNOWN_EVERY.min(self.unknown_wait - waited));
            insist!(*stopping, backend.postpone(&self.worker, id, leaf.clone(), after))?;
            let meta = Json::object([("task", &Json::string(message.task.as_str()))]);
            let TaskMessage { task_id, attempt, incarnation, .. } = *message;
            let report = Progress { task_id, attempt, state: "UNKNOWN".to_owned(), meta, incarnation };
            // For those who look; nothing depends on it.
            let _ = backend.note_progress(&[report]).await;
            Ok::<bool, BackendError>(true)
        };
        match postponed.await {
            Ok(true) => None,
            Ok(false) => Some(Outcome::UnknownTask),
            Err(error) => {
                tracing::error!(%run, %node, %error, "a leaf of an unknown task cannot be given back");
                None
            }
        }
    }

    async fn idle(&self) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.hands().held.is_empty() {
                return;
            }
            freed.await;
        }
    }
}

async fn give_back(backend: &dyn Backend, id: &WorkerId, deliveries: &[DeliveryId]) {
    let given_back = tokio::time::timeout(BACKEND_GRACE, backend.hand_back(id, deliveries)).await;
    if !matches!(given_back, Ok(Ok(()))) {
        tracing::warn!(leaves = deliveries.len(), "could not give leaves back; their leases will");
    }
}

/// Runs one leaf after the other, until there is none.
async fn lane(
    backend: Arc<dyn Backend>,
    bench: Arc<Bench>,
    reports: mpsc::UnboundedSender<Report>,
    stopping: CancellationToken,
) {
    let mut took = None;
    while let Some((Delivery { id, message, deliveries }, is_timed)) = bench.next(took.take()) {
        let start = is_timed.then(Instant::now);
        let TaskMessage { task_id, attempt, .. } = *message;
        let (run, node) = (task_id.run(), task_id.node());
        let shadow = message.options.as_ref().and_then(|options| options.shadow.as_deref());
        let task = shadow.unwrap_or(message.task.as_str());
        tracing::debug!(%run, %node, task, attempt, deliveries, "a leaf starts");
        let outcome = match bench.run(&*backend, &id, &message, deliveries, &stopping).await {
            Ok(outcome) | Err(Some(outcome)) => outcome,
            Err(None) => {
                // It comes again: when its lease has passed, or later when it waits for another worker.
                bench.hands().release(&[id]);
                bench.freed.notify_waiters();
                continue;
            }
        };
        took = start.map(|start| start.elapsed());
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
        if reports.send((id, message.completion(outcome))).is_err() {
            return;
        }
        // Leaves that never wait would keep a thread to themselves.
        tokio::task::consume_budget().await;
    }
}

/// Whether a leaf may start; else how it ends, if that is known.
async fn may_start(
    backend: &dyn Backend,
    id: &DeliveryId,
    message: &TaskMessage,
    options: &LeafOptions,
    deliveries: u32,
    stopping: &CancellationToken,
) -> Result<(), Option<Outcome>> {
    // At most once: whoever had it before may have run it.
    if options.acks_late == Some(false) && deliveries > 1 {
        return Err(Some(Outcome::WorkerLost { deliveries: deliveries - 1 }));
    }
    if options.expires.is_none() {
        return Ok(());
    }
    match insist!(*stopping, backend.begin(id, message)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Some(Outcome::Expired)),
        Err(error) => {
            tracing::error!(run = %message.task_id.run(), %error, "whether a leaf has expired cannot be known");
            Err(None)
        }
    }
}

/// The message with an input that did not travel with it; else how the leaf ends, if that is known.
async fn with_input(
    backend: &dyn Backend,
    message: &TaskMessage,
    stopping: &CancellationToken,
) -> Result<TaskMessage, Option<Outcome>> {
    let (run, nodes) = (message.run(), message.references());
    match insist!(*stopping, backend.known(run, &nodes, &[])) {
        // Forgotten: nobody wants to hear of it.
        Ok(None) => Err(Some(Outcome::Ignored)),
        Ok(Some(known)) => match message.resolve(|node| known.outcomes.get(&node)) {
            Some(whole) => Ok(whole),
            None => {
                Err(Some(Outcome::Undecodable("a result that it takes is missing from the store".to_owned())))
            }
        },
        Err(error) => {
            tracing::error!(%run, %error, "the input of a leaf cannot be read");
            Err(None)
        }
    }
}

/// Reports in batches: whatever is at hand goes in one step.
async fn report(
    backend: Arc<dyn Backend>,
    bench: Arc<Bench>,
    mut done: mpsc::UnboundedReceiver<Report>,
    stopping: CancellationToken,
) {
    let mut batch = Vec::with_capacity(REPORTS_MAX);
    while done.recv_many(&mut batch, REPORTS_MAX).await > 0 {
        let ids: Vec<DeliveryId> = batch.iter().map(|(id, _)| id.clone()).collect();
        if let Err(error) = insist!(stopping, backend.finish(&batch)) {
            // Nobody will hear of these; they are not renewed any more and run again when their leases have passed.
            pause(&error).await;
        }
        batch.clear();
        bench.hands().release(&ids);
        bench.freed.notify_waiters();
    }
}

async fn renew(backend: Arc<dyn Backend>, id: WorkerId, bench: Arc<Bench>, lease: Duration) {
    let mut beat = tokio::time::interval((lease / 3).max(Duration::from_millis(1)));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let held = bench.held();
        if !held.is_empty()
            && let Err(error) = backend.renew(&id, &held, lease).await
        {
            tracing::warn!(%error, leaves = held.len(), "could not renew leases");
        }
    }
}
