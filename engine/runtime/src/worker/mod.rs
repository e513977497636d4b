//! The worker: takes leaves, runs them, reports how they ended.
//!
//! One fetcher takes deliveries, lanes run them, one reporter finishes them in batches, and a renewer
//! keeps their leases. A lane is a tokio task that runs one leaf after the other as long as there are any;
//! up to `concurrency` of them exist. What is held lies on the bench, where all of them meet. A lookout
//! sees to it that a leaf which computes keeps nobody else from their work.
//!
//! ```text
//!  backend ──receive──► fetcher ──► bench ──► lanes ──► bench ──► reporter ──finish──► backend
//! ```

mod bench;
mod call;
mod crew;
mod execute;
mod helpers;
mod lane;
mod lanes;
mod large;
mod lookout;
mod options;
mod pace;
mod progress;
mod queues;
mod refusals;
mod start;
mod threads;
mod turn;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_backends::{Backend, WorkerId};
use celeriac_dsl::States;
use celeriac_primitives::Limits;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{Registry, Vitals};
use bench::Bench;
use crew::{Crew, Stop};
use execute::Executor;
use large::Gate;
pub use options::WorkerOptions;
pub(crate) use queues::Queues;

/// A worker that runs in the background. Dropping it stops it where it is: what it had not finished goes
/// to another worker when its lease has passed. [`Worker::shutdown`] stops it in order.
#[derive(Debug)]
pub struct Worker {
    id: WorkerId,
    queues: Arc<Queues>,
    stop: Stopper,
    vitals: Vitals,
    bench: Arc<Bench>,
    task: JoinHandle<usize>,
}

/// Stops a worker at once, also while [`Worker::shutdown`] waits. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<watch::Sender<Stop>>);

impl Stopper {
    /// Stops the worker at once: what runs is cut off and given back, or lost when it was to run at most
    /// once. [`Worker::shutdown`] tells when that is done; it waits little for a backend that does not
    /// answer.
    pub fn stop_at_once(&self) {
        self.0.send_replace(Stop::AtOnce);
    }
}

impl Worker {
    pub(crate) fn start(
        backend: Arc<dyn Backend>,
        registry: Arc<Registry>,
        states: Arc<States>,
        limits: Limits,
        options: WorkerOptions,
    ) -> Self {
        let id = unique_id(options.name.as_deref());
        let (stop, told) = watch::channel(Stop::No);
        let vitals = Vitals::default();
        let queues = Arc::new(Queues::new(&options.queues));
        let desk = Arc::new(progress::Desk::new(limits.progress_bytes_max));
        let executor = Executor::new(registry, states, desk.clone());
        let gate = Gate::new(limits, options.bytes_in_flight);
        let executor = (executor, gate);
        let crew = Crew::new(backend, id.clone(), executor, queues.clone(), options, desk, vitals.clone());
        let (stop, bench) = (Stopper(Arc::new(stop)), crew.bench());
        Self { id, queues, stop, vitals, bench, task: tokio::spawn(crew.run(told)) }
    }

    /// Takes leaves from this queue, too, from now on (Celery's `add_consumer`).
    pub fn add_queue(&self, queue: &str) {
        self.queues.add(queue);
    }

    /// The queues it serves, for those who may add some.
    pub(crate) fn queues(&self) -> Arc<Queues> {
        self.queues.clone()
    }

    /// Whether it has ended without being told to: its runtime is gone, or a part of it has failed for
    /// good.
    pub(crate) fn is_broken(&self) -> bool {
        self.task.is_finished() || self.vitals.is_failed()
    }

    /// How it is: what is wrong, and whether it goes on.
    pub fn vitals(&self) -> Vitals {
        self.vitals.clone()
    }

    /// How many threads hang: those of blocking tasks that go on although their leaves are over.
    pub fn hung_threads(&self) -> usize {
        self.bench.hung_threads()
    }

    /// What stops it at once.
    pub fn stopper(&self) -> Stopper {
        self.stop.clone()
    }

    /// The worker's unique name.
    pub fn id(&self) -> &WorkerId {
        &self.id
    }

    /// Stops in order: takes no more leaves, gives back those it has not begun, and lets the others
    /// finish. When `deadline` has passed, the tasks that still run are told by their cancellation token;
    /// those that have not ended a second later are cut off and given back at once, without waiting for
    /// their leases.
    /// Returns how many.
    ///
    /// A blocking task cannot be cut off: it goes on in its thread, its result is dropped, and its leaf is
    /// given back all the same. A backend that does not answer is waited for a few seconds; then leases do
    /// what is left.
    pub async fn shutdown(mut self, deadline: Duration) -> usize {
        self.stop.0.send_if_modified(|stop| {
            let is_news = *stop == Stop::No;
            if is_news {
                *stop = Stop::Within(deadline);
            }
            is_news
        });
        // An error means that the worker is gone: then there is nothing to stop.
        (&mut self.task).await.unwrap_or(0)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.0.send_if_modified(|stop| {
            let is_news = *stop == Stop::No;
            if is_news {
                *stop = Stop::Dropped;
            }
            is_news
        });
    }
}

/// Its name, or process and a number within it; and something that no other worker has.
fn unique_id(name: Option<&str>) -> WorkerId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let readable = name.map_or_else(|| format!("{}-{number}", std::process::id()), str::to_owned);
    WorkerId::new(format!("{readable}-{}", uuid::Uuid::new_v4().simple()))
}
