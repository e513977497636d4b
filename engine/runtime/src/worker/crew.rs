//! Who works in a worker: the fetcher, the lanes, and those beside them; and how they stop.

use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{Backend, Delivery, LaneOrder, Take, WorkerId};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::WorkerOptions;
use super::bench::{Bench, Left};
use super::execute::Executor;
use super::helpers::{self, give_back};
use super::lane::Workshop;
use super::lanes::Lanes;
use super::large::Gate;
use super::lookout;
use super::progress::{self, Desk};
use super::queues::Queues;
use super::refusals::Refusals;
use crate::Vitals;
use crate::patience::pause;
use crate::vitals::kept;

/// How long a fetch waits for leaves before it looks again.
const FETCH_WAIT: Duration = Duration::from_secs(5);

/// A leaf that is to run alone waits so long for those that run, and so long nothing begins beside it.
const ALONE_WITHIN: Duration = Duration::from_secs(10);
const ALONE_FOR: Duration = Duration::from_secs(10);

/// How long tasks have that were told to stop.
const GRACE: Duration = Duration::from_secs(1);

/// How long a stopping worker waits for its backend, and for lanes that were cut off: at each step, and when
/// it stops at once.
const BACKEND_GRACE: Duration = Duration::from_secs(5);
const COLD_GRACE: Duration = Duration::from_millis(300);

/// Whether a worker works, or how it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It works.
    No,
    /// What runs has so much time to end.
    Within(Duration),
    /// Now.
    AtOnce,
    /// Nobody has it any more.
    Dropped,
}

/// A worker's parts. When the task that runs the crew goes, the lanes go.
pub(super) struct Crew {
    shop: Arc<Workshop>,
    queues: Arc<Queues>,
    lease: Duration,
    vitals: Vitals,
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
        vitals: Vitals,
    ) -> Self {
        let threads = options.threads_max();
        let WorkerOptions { concurrency, prefetch, lease, unknown_wait, .. } = options;
        let bench = Arc::new(Bench::new(concurrency.max(1), prefetch, threads, vitals.clone()));
        let stopping = CancellationToken::new();
        let (lanes, refusals) = (Lanes::new(vitals.clone()), Refusals::new(vitals.clone()));
        let shop = Arc::new(Workshop {
            backend,
            worker,
            unknown_wait,
            executor,
            gate,
            bench,
            lanes,
            refusals,
            stopping,
        });
        let mut helpers = JoinSet::new();
        let (own, said) = (shop.clone(), vitals.clone());
        helpers.spawn(async move { kept!(said, "renewer", helpers::renew(&own, lease)) });
        let (own, said) = (shop.clone(), vitals.clone());
        helpers.spawn(async move { kept!(said, "keeper of the reserve", helpers::keep(&own)) });
        let (own, said) = (shop.clone(), vitals.clone());
        helpers.spawn(async move { kept!(said, "sender of progress", progress::send(&*own.backend, &desk)) });
        let (own, said) = (shop.clone(), vitals.clone());
        helpers.spawn(async move { kept!(said, "stand-in", helpers::stand_in(&own)) });
        lookout::start(&shop.bench);
        // Not among the helpers: it outlives the lanes, to report what they have finished.
        let (own, said) = (shop.clone(), vitals.clone());
        let reporter = tokio::spawn(async move { kept!(said, "reporter", helpers::report(&own)) });
        Self { shop, queues, lease, vitals, helpers, reporter }
    }

    /// The bench, for those who look at it.
    pub(super) fn bench(&self) -> Arc<Bench> {
        self.shop.bench.clone()
    }

    /// Works until told to stop; returns how many leaves were cut off.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<Stop>) -> usize {
        let vitals = self.vitals.clone();
        let told = tokio::select! {
            // A worker that nobody has takes nothing more.
            biased;
            told = stop.wait_for(|stop| *stop != Stop::No) => told.map_or(Stop::Dropped, |told| *told),
            () = async { kept!(vitals, "fetcher", self.fetch()) } => unreachable!("fetching has no end"),
        };
        match told {
            Stop::Within(deadline) => self.wind_up(Some(deadline), stop).await,
            Stop::AtOnce => self.wind_up(None, stop).await,
            // Stop where we are. What is held comes back by its lease.
            Stop::Dropped | Stop::No => 0,
        }
    }

    async fn fetch(&mut self) {
        for receive in 0.. {
            let shop = self.shop.clone();
            let Workshop { backend, worker, bench, .. } = &*shop;
            let room = tokio::select! {
                room = bench.room() => room,
                () = bench.called() => {
                    shop.start(bench.put(Vec::new()));
                    continue;
                }
            };
            tokio::select! {
                biased;
                () = shop.refusals.allowed() => {}
                () = bench.called() => {
                    shop.start(bench.put(Vec::new()));
                    continue;
                }
            }
            let (queues, order) = (self.queues.names(), LaneOrder::of(receive));
            let take =
                Take::new(room, self.lease).wait(FETCH_WAIT).order(order).suspects(!bench.has_suspect());
            // Cancel safe by the backend's contract: when the crew stops here, nothing was taken.
            let answer = tokio::select! {
                answer = backend.receive(worker, &queues, take) => answer,
                () = self.queues.added() => continue,
                () = bench.called() => Ok(Vec::new()),
            };
            match answer {
                Ok(mut deliveries) => match deliveries.iter().position(Delivery::is_suspect) {
                    Some(place) => {
                        let alone = deliveries.swap_remove(place);
                        self.run_alone(alone, deliveries).await;
                    }
                    None => shop.start(bench.put(deliveries)),
                },
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            }
        }
    }

    /// Runs a leaf that has begun in several workers that were lost: what it does then is its own doing, and
    /// nobody comes to harm by it. Others get what was taken with it; nothing more is taken, for as long as
    /// may be.
    async fn run_alone(&mut self, alone: Delivery, others: Vec<Delivery>) {
        let shop = self.shop.clone();
        let (run, node) = (alone.message.task_id.run(), alone.message.task_id.node());
        tracing::warn!(%run, %node, deliveries = alone.deliveries, "a leaf that has lost its workers runs alone");
        let mut back = shop.bench.set_apart(alone);
        back.extend(others.into_iter().map(|delivery| delivery.id));
        give_back(&*shop.backend, &shop.worker, &back, BACKEND_GRACE).await;
        // What runs has its time to end, and so has the suspect.
        let _ = tokio::time::timeout(ALONE_WITHIN, shop.bench.still()).await;
        let seats = shop.bench.let_begin();
        shop.start(seats);
        let ended = async {
            while shop.bench.has_suspect() {
                shop.bench.called().await;
            }
        };
        let _ = tokio::time::timeout(ALONE_FOR, ended).await;
        // It may have been called for these.
        shop.start(shop.bench.put(Vec::new()));
    }

    /// Stops within the deadline, or at once.
    async fn wind_up(mut self, deadline: Option<Duration>, mut stop: watch::Receiver<Stop>) -> usize {
        let shop = self.shop.clone();
        let Workshop { backend, worker, bench, .. } = &*shop;
        let not_begun = bench.stop_beginning();
        let is_warm = match deadline {
            None => false,
            Some(deadline) => {
                let warm = async {
                    give_back(&**backend, worker, &not_begun, BACKEND_GRACE).await;
                    bench.forget_waiting();
                    if tokio::time::timeout(deadline, bench.idle()).await.is_err() {
                        shop.executor.cancel();
                        let _ = tokio::time::timeout(GRACE, bench.idle()).await;
                    }
                };
                tokio::select! {
                    biased;
                    Ok(_) = stop.wait_for(|stop| *stop == Stop::AtOnce) => false,
                    () = warm => true,
                }
            }
        };
        let grace = if is_warm { BACKEND_GRACE } else { COLD_GRACE };
        shop.executor.cancel();
        let mut lanes = shop.lanes.cut_off();
        self.helpers.abort_all();
        bench.close();
        let reported = async {
            while lanes.join_next().await.is_some() {}
            // Nothing comes any more: the reporter ends when it has reported everything.
            let _ = (&mut self.reporter).await;
        };
        if tokio::time::timeout(grace, reported).await.is_err() {
            shop.stopping.cancel();
            self.reporter.abort();
        }
        let Left { reports, lost, back } = bench.clear();
        let count = lost + back.len();
        if !reports.is_empty() {
            let reported = tokio::time::timeout(grace, backend.finish(&reports)).await;
            if !matches!(reported, Ok(Ok(()))) {
                tracing::warn!(
                    leaves = reports.len(),
                    "could not report how leaves have ended; others will when their leases pass"
                );
            }
        }
        give_back(&**backend, worker, &back, grace).await;
        // What was taken for the fetch that stopping interrupted.
        let _ = tokio::time::timeout(grace, backend.quiesce()).await;
        // Should this fail, the backend forgets the worker when it has not heard of it for long.
        let _ = tokio::time::timeout(grace, backend.retire(worker, &self.queues.names())).await;
        count
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // They go, and start no others meanwhile.
        self.shop.lanes.cut_off();
        // The reporter still reports what has ended.
        self.shop.bench.close();
    }
}
