//! Who works in a worker: the fetcher, the lanes, and those beside them; and how they stop.

use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{Backend, LaneOrder, WorkerId};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::WorkerOptions;
use super::bench::{Bench, Left};
use super::execute::Executor;
use super::helpers::{self, BACKEND_GRACE, give_back};
use super::lane::{self, Workshop};
use super::large::Gate;
use super::progress::{self, Desk};
use super::queues::Queues;
use crate::patience::pause;

/// How long a fetch waits for leaves before it looks again.
const FETCH_WAIT: Duration = Duration::from_secs(5);

/// How long tasks have that were told to stop.
const GRACE: Duration = Duration::from_secs(1);

/// A worker's parts. The task that runs the crew owns the lanes: when it goes, they go.
pub(super) struct Crew {
    shop: Arc<Workshop>,
    queues: Arc<Queues>,
    lease: Duration,
    lanes: JoinSet<()>,
    helpers: JoinSet<()>,
    reporter: JoinHandle<()>,
}

impl Crew {
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        worker: WorkerId,
        (executor, gate): (Executor, Gate),
        queues: Arc<Queues>,
        options: WorkerOptions,
        desk: Arc<Desk>,
    ) -> Self {
        let WorkerOptions { concurrency, prefetch, lease, unknown_wait, .. } = options;
        let bench = Arc::new(Bench::new(concurrency.max(1), prefetch));
        let stopping = CancellationToken::new();
        let shop = Arc::new(Workshop { backend, worker, unknown_wait, executor, gate, bench, stopping });
        let mut helpers = JoinSet::new();
        helpers.spawn(helpers::renew(shop.clone(), lease));
        helpers.spawn(helpers::keep(shop.clone()));
        helpers.spawn(progress::send(shop.backend.clone(), desk));
        // Not among the helpers: it outlives the lanes, to report what they have finished.
        let reporter = tokio::spawn(helpers::report(shop.clone()));
        Self { shop, queues, lease, lanes: JoinSet::new(), helpers, reporter }
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
            let room = self.shop.bench.room().await;
            let (shop, queues) = (&self.shop, self.queues.names());
            let order = LaneOrder::of(receive);
            // Cancel safe by the backend's contract: when the crew stops here, nothing was taken.
            let answer = tokio::select! {
                answer = shop.backend.receive(&shop.worker, &queues, room, self.lease, FETCH_WAIT, order) => answer,
                () = self.queues.added() => continue,
            };
            let deliveries = match answer {
                Ok(deliveries) => deliveries,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            };
            while self.lanes.try_join_next().is_some() {}
            for seat in self.shop.bench.put(deliveries) {
                self.lanes.spawn(lane::work(self.shop.clone(), seat));
            }
            // The lanes take theirs, and other workers have their turn: a leaf that nobody knows here must not come back
            // before those who know it could ask for it.
            tokio::task::yield_now().await;
        }
    }

    async fn wind_up(mut self, deadline: Duration) -> usize {
        let shop = self.shop.clone();
        let Workshop { backend, worker, bench, .. } = &*shop;
        give_back(&**backend, worker, &bench.take_waiting()).await;
        if tokio::time::timeout(deadline, bench.idle()).await.is_err() {
            shop.executor.cancel();
            if tokio::time::timeout(GRACE, bench.idle()).await.is_err() {
                self.lanes.abort_all();
            }
        }
        self.helpers.abort_all();
        bench.close();
        let reported = async {
            while self.lanes.join_next().await.is_some() {}
            // Nothing comes any more: the reporter ends when it has reported everything.
            let _ = (&mut self.reporter).await;
        };
        if tokio::time::timeout(BACKEND_GRACE, reported).await.is_err() {
            shop.stopping.cancel();
            self.reporter.abort();
        }
        let Left { reports, lost, back } = bench.clear();
        let count = lost + back.len();
        if !reports.is_empty() {
            let reported = tokio::time::timeout(BACKEND_GRACE, backend.finish(&reports)).await;
            if !matches!(reported, Ok(Ok(()))) {
                tracing::warn!(
                    leaves = reports.len(),
                    "could not report how leaves have ended; others will when their leases pass"
                );
            }
        }
        give_back(&**backend, worker, &back).await;
        // What was taken for the fetch that stopping interrupted.
        let _ = tokio::time::timeout(BACKEND_GRACE, backend.quiesce()).await;
        // Should this fail, the backend forgets the worker when it has not heard of it for long.
        let _ = tokio::time::timeout(BACKEND_GRACE, backend.retire(worker, &self.queues.names())).await;
        count
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // The reporter still reports what has ended.
        self.shop.bench.close();
    }
}
