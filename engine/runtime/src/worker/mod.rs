//! The worker: takes leaves, runs them, reports how they ended.
//!
//! One fetcher takes deliveries, lanes run them, one reporter finishes them in batches, and a renewer keeps their
//! leases. A lane is a tokio task that runs one leaf after the other as long as there are any; up to `concurrency`
//! of them exist. What is held lies on the bench, where all of them meet.
//!
//! ```text
//!  backend ──receive──► fetcher ──► bench ──► lanes ──► bench ──► reporter ──finish──► backend
//! ```

mod bench;
mod crew;
mod execute;
mod helpers;
mod lane;
mod large;
mod options;
mod pace;
mod progress;
mod queues;
mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_backends::{Backend, WorkerId};
use celeriac_dsl::States;
use celeriac_primitives::Limits;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::Registry;
use crew::Crew;
use execute::Executor;
use large::Gate;
pub use options::WorkerOptions;
pub(crate) use queues::Queues;

/// A worker that runs in the background. Dropping it stops it where it is: what it had not finished goes to another
/// worker when its lease has passed. [`Worker::shutdown`] stops it in order.
#[derive(Debug)]
pub struct Worker {
    id: WorkerId,
    queues: Arc<Queues>,
    shutdown: oneshot::Sender<Duration>,
    task: JoinHandle<usize>,
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
        let (shutdown, stop) = oneshot::channel();
        let queues = Arc::new(Queues::new(&options.queues));
        let desk = Arc::new(progress::Desk::new(limits.progress_bytes_max));
        let executor = Executor::new(registry, states, desk.clone());
        let gate = Gate::new(limits, options.bytes_in_flight);
        let crew = Crew::new(backend, id.clone(), (executor, gate), queues.clone(), options, desk);
        Self { id, queues, shutdown, task: tokio::spawn(crew.run(stop)) }
    }

    /// Takes leaves from this queue, too, from now on (Celery's `add_consumer`).
    pub fn add_queue(&self, queue: &str) {
        self.queues.add(queue);
    }

    /// The queues it serves, for those who may add some.
    pub(crate) fn queues(&self) -> Arc<Queues> {
        self.queues.clone()
    }

    /// Whether it has ended without being told to: its runtime is gone, or it panicked.
    pub(crate) fn is_broken(&self) -> bool {
        self.task.is_finished()
    }

    /// The worker's unique name.
    pub fn id(&self) -> &WorkerId {
        &self.id
    }

    /// Stops in order: takes no more leaves, gives back those it has not begun, and lets the others finish. When
    /// `deadline` has passed, the tasks that still run are told by their cancellation token; those that have not ended
    /// a second later are cut off and given back at once, without waiting for their leases. Returns how many.
    ///
    /// A blocking task cannot be cut off: it goes on in its thread, its result is dropped, and its leaf is given back
    /// all the same. A backend that does not answer is waited for a few seconds; then leases do what is left.
    pub async fn shutdown(self, deadline: Duration) -> usize {
        // An error means that the worker is gone: then there is nothing to stop.
        let _ = self.shutdown.send(deadline);
        self.task.await.unwrap_or(0)
    }
}

/// Its name, or process and a number within it; and something that no other worker has.
fn unique_id(name: Option<&str>) -> WorkerId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let readable = name.map_or_else(|| format!("{}-{number}", std::process::id()), str::to_owned);
    WorkerId::new(format!("{readable}-{}", uuid::Uuid::new_v4().simple()))
}
