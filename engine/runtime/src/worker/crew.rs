//! Who works in a worker, and what they hand each other.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_backends::{Backend, Delivery, DeliveryId, WorkerId};
use celeriac_primitives::Completion;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;

use super::WorkerOptions;
use super::execute::Executor;
use crate::patience::Patience;

/// How many reports go to the backend in one step.
const REPORTS_MAX: usize = 1024;

/// How long a fetch waits for leaves before it looks again.
const FETCH_WAIT: Duration = Duration::from_secs(5);

type Report = (DeliveryId, Completion);

/// A worker's parts. The task that runs the crew owns the lanes: when it goes, they go.
pub(super) struct Crew {
    backend: Arc<dyn Backend>,
    id: WorkerId,
    queues: Vec<Arc<str>>,
    options: WorkerOptions,
    bench: Arc<Bench>,
    reports: mpsc::UnboundedSender<Report>,
    lanes: JoinSet<()>,
    helpers: JoinSet<()>,
    reporter: tokio::task::JoinHandle<()>,
}

/// What fetcher, lanes and reporter share.
struct Bench {
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
}

impl Hands {
    fn release(&mut self, deliveries: &[DeliveryId]) {
        for id in deliveries {
            self.held.remove(id);
        }
    }
}

impl Crew {
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        id: WorkerId,
        executor: Executor,
        options: WorkerOptions,
    ) -> Self {
        let bench = Arc::new(Bench { executor, hands: Mutex::default(), freed: Notify::new() });
        let (reports, done) = mpsc::unbounded_channel();
        let mut helpers = JoinSet::new();
        helpers.spawn(renew(backend.clone(), id.clone(), bench.clone(), options.lease));
        // Not among the helpers: it outlives the lanes, to report what they have finished.
        let reporter = tokio::spawn(report(backend.clone(), bench.clone(), done));
        let queues = options.queues.iter().map(|queue| queue.as_str().into()).collect();
        Self { backend, id, queues, options, bench, reports, lanes: JoinSet::new(), helpers, reporter }
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
        let mut patience = Patience::default();
        loop {
            let room = self.bench.room(&self.options).await;
            let lease = self.options.lease;
            // Cancel safe by the backend's contract: when the crew stops here, nothing was taken.
            let answer = self.backend.receive(&self.id, &self.queues, room, lease, FETCH_WAIT).await;
            let deliveries = patience.unless(answer).await.unwrap_or_default();
            while self.lanes.try_join_next().is_some() {}
            for _ in 0..self.bench.put(deliveries, self.options.concurrency) {
                self.lanes.spawn(lane(self.bench.clone(), self.reports.clone()));
            }
        }
    }

    async fn wind_up(mut self, deadline: Duration) -> usize {
        let waiting: Vec<DeliveryId> = self.bench.take_waiting();
        self.give_back(&waiting).await;
        let cut_off = match tokio::time::timeout(deadline, self.bench.idle()).await {
            Ok(()) => Vec::new(),
            Err(_) => {
                self.bench.executor.cancel();
                self.lanes.shutdown().await;
                self.bench.held()
            }
        };
        let Self { backend, id, lanes, helpers, reports, reporter, bench, .. } = self;
        drop((lanes, helpers, reports));
        // All senders are gone: the reporter ends when it has reported everything.
        let _ = reporter.await;
        let lost: Vec<DeliveryId> = bench.held().into_iter().filter(|id| cut_off.contains(id)).collect();
        if let Err(error) = backend.hand_back(&id, &lost).await {
            tracing::warn!(%error, leaves = lost.len(), "could not give leaves back; their leases will");
        }
        lost.len()
    }

    async fn give_back(&self, deliveries: &[DeliveryId]) {
        if let Err(error) = self.backend.hand_back(&self.id, deliveries).await {
            tracing::warn!(%error, leaves = deliveries.len(), "could not give leaves back; their leases will");
        }
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
                let room = (options.concurrency + options.prefetch).saturating_sub(hands.held.len());
                if room > 0 && hands.waiting.len() <= options.prefetch / 2 {
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
        hands.waiting.extend(deliveries);
        let start = concurrency.saturating_sub(hands.lanes).min(hands.waiting.len());
        hands.lanes += start;
        start
    }

    /// The next leaf for a lane. `None` ends the lane: it is counted out under the same lock, so that a leaf put in
    /// hand right afterwards finds a free place for a new one.
    fn next(&self) -> Option<Delivery> {
        let mut hands = self.hands();
        let next = hands.waiting.pop_front();
        if next.is_none() {
            hands.lanes -= 1;
        }
        next
    }

    fn take_waiting(&self) -> Vec<DeliveryId> {
        let mut hands = self.hands();
        let waiting: Vec<DeliveryId> = hands.waiting.drain(..).map(|delivery| delivery.id).collect();
        hands.release(&waiting);
        waiting
    }

    fn held(&self) -> Vec<DeliveryId> {
        self.hands().held.iter().cloned().collect()
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

/// Runs one leaf after the other, until there is none.
async fn lane(bench: Arc<Bench>, reports: mpsc::UnboundedSender<Report>) {
    while let Some(Delivery { id, message, .. }) = bench.next() {
        let outcome = bench.executor.execute(&message).await;
        let completion = Completion { task_id: message.task_id, attempt: message.attempt, outcome };
        if reports.send((id, completion)).is_err() {
            return;
        }
        // Leaves that never wait would keep a thread to themselves.
        tokio::task::consume_budget().await;
    }
}

/// Reports in batches: whatever is at hand goes in one step.
async fn report(backend: Arc<dyn Backend>, bench: Arc<Bench>, mut done: mpsc::UnboundedReceiver<Report>) {
    let mut patience = Patience::default();
    let mut batch = Vec::with_capacity(REPORTS_MAX);
    while done.recv_many(&mut batch, REPORTS_MAX).await > 0 {
        let ids: Vec<DeliveryId> = batch.iter().map(|(id, _)| id.clone()).collect();
        while patience.unless(backend.finish(batch.clone()).await).await.is_none() {}
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
