//! `worker`, `coordinator` and `up`: processes that work until they are told to stop.
//!
//! ```text
//! start ──► work ──signal──► warm stop ──all finished, or --grace over──► 0
//!            │                   │
//!            │                signal ──► cold stop: cut off what runs ──► 130, 143
//!            │
//!          a part has failed for good ──► warm stop ──► 8
//! ```

use std::sync::Arc;
use std::time::Duration;

use celeriac_runtime::{App, Coordinator, CoordinatorOptions, Stopper, Vitals, Worker, WorkerOptions};

use crate::args::{CoordinateArgs, CoordinatorArgs, GlobalArgs, ProcessArgs, UpArgs, WorkArgs, WorkerArgs};
use crate::backend;
use crate::exit::{Exit, Stop};
use crate::health::{Health, Reporter};
use crate::io::Io;
use crate::signals::Signals;
use crate::watched::Watched;

/// How long a cold stop may take.
const COLD: Duration = Duration::from_secs(2);

pub(crate) async fn worker(
    app: &App,
    global: &GlobalArgs,
    args: &WorkerArgs,
    io: &mut Io<'_>,
) -> Result<Exit, Stop> {
    process(app, global, Some(&args.work), None, &args.process, io).await
}

pub(crate) async fn coordinator(
    app: &App,
    global: &GlobalArgs,
    args: &CoordinatorArgs,
    io: &mut Io<'_>,
) -> Result<Exit, Stop> {
    process(app, global, None, Some(&args.coordinate), &args.process, io).await
}

pub(crate) async fn up(app: &App, global: &GlobalArgs, args: &UpArgs, io: &mut Io<'_>) -> Result<Exit, Stop> {
    process(app, global, Some(&args.work), Some(&args.coordinate), &args.process, io).await
}

async fn process(
    app: &App,
    global: &GlobalArgs,
    work: Option<&WorkArgs>,
    coordinate: Option<&CoordinateArgs>,
    args: &ProcessArgs,
    io: &mut Io<'_>,
) -> Result<Exit, Stop> {
    if work.is_some() && app.registry().is_empty() {
        return Err(Stop::usage("this program has no tasks to run; make one with celeriac::cli::main(app)"));
    }
    let app = tokio::select! {
        biased;
        signal = io.signals.next() => return Err(Stop::new(signal.exit(), signal)),
        app = backend::shared(app, global) => app?,
    };
    let name = identity(args.name.as_deref());
    let url = global.url().map(ToString::to_string);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        app = app.name(),
        %name,
        url,
        prefix = global.prefix(),
        lease = ?args.lease,
        "started"
    );
    let watched = || Arc::new(Watched::new(app.backend().clone()));
    let work = work.map(|work| (work, watched()));
    let coordinate = coordinate.map(|coordinate| (coordinate, watched()));
    let health = Arc::new(Health::new(args.lease));
    // Before anything is taken: that it cannot be done ends the process.
    let reporter = Reporter::start(&args.health, &health).await?;
    let parts = Parts {
        coordinator: coordinate.map(|(coordinate, watched)| {
            let coordinator = start_coordinator(&app, watched.clone(), coordinate, args);
            health.watch("coordinator", watched, coordinator.vitals());
            coordinator
        }),
        worker: work.map(|(work, watched)| {
            let worker = start_worker(&app, watched.clone(), work, args, &name);
            health.watch("worker", watched, worker.vitals());
            worker
        }),
    };
    let done = work_until_told(parts, &health, args.grace, &mut io.signals).await;
    drop(reporter);
    tracing::info!(%name, "stopped");
    done
}

/// Lets the parts work until a signal, or until one of them has failed; then stops them.
async fn work_until_told(
    parts: Parts,
    health: &Health,
    grace: Duration,
    signals: &mut Signals<'_>,
) -> Result<Exit, Stop> {
    let worker = parts.worker.as_ref().map(Worker::stopper);
    let done = tokio::select! {
        biased;
        signal = signals.next() => {
            tracing::info!(%signal, ?grace, "stopping: taking no more, finishing what runs");
            health.stops();
            Ok(Exit::Ok)
        }
        why = parts.failed() => {
            tracing::error!(why, ?grace, "stopping: a part has failed, finishing what runs");
            Err(Stop::new(Exit::Broken, why))
        }
    };
    let mut stop = std::pin::pin!(parts.stop(grace));
    tokio::select! {
        biased;
        signal = signals.next() => {
            tracing::warn!(%signal, "stopping at once");
            worker.iter().for_each(Stopper::stop_at_once);
            if tokio::time::timeout(COLD, stop).await.is_err() {
                tracing::warn!("the backend does not answer in time; leases do what is left");
            }
            Ok(signal.exit())
        }
        () = &mut stop => done,
    }
}

/// What runs in a process.
struct Parts {
    worker: Option<Worker>,
    coordinator: Option<Coordinator>,
}

impl Parts {
    /// Waits until one of them has failed for good, and says why.
    async fn failed(&self) -> String {
        let vitals = |vitals: Option<Vitals>| async {
            match vitals {
                Some(vitals) => vitals.failed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            why = vitals(self.worker.as_ref().map(Worker::vitals)) => why,
            why = vitals(self.coordinator.as_ref().map(Coordinator::vitals)) => why,
        }
    }

    /// The worker first: what it reports last, the coordinator may still settle.
    async fn stop(self, grace: Duration) {
        if let Some(worker) = self.worker {
            let given_back = worker.shutdown(grace).await;
            tracing::info!(given_back, "the worker has stopped");
        }
        if let Some(coordinator) = self.coordinator
            && tokio::time::timeout(grace.max(COLD), coordinator.shutdown()).await.is_err()
        {
            tracing::warn!("the coordinator does not finish; another gets what it holds");
        }
    }
}

fn start_worker(app: &App, backend: Arc<Watched>, work: &WorkArgs, args: &ProcessArgs, name: &str) -> Worker {
    let WorkArgs { concurrency, ref queues, prefetch, threads } = *work;
    let mut options = WorkerOptions::default()
        .concurrency(concurrency as usize)
        .queues(queues)
        .lease(args.lease)
        .name(name);
    options.prefetch = prefetch.map(|leaves| leaves as usize);
    options.threads = threads.map(|threads| threads as usize);
    tracing::info!(queues = queues.join(","), concurrency, prefetch, "the worker starts");
    app.on(backend).worker(options)
}

fn start_coordinator(
    app: &App,
    backend: Arc<Watched>,
    coordinate: &CoordinateArgs,
    args: &ProcessArgs,
) -> Coordinator {
    let CoordinateArgs { sweep, deliveries_max } = *coordinate;
    let options = CoordinatorOptions {
        lease: args.lease,
        sweep_every: sweep,
        deliveries_max,
        ..CoordinatorOptions::default()
    };
    tracing::info!(?sweep, deliveries_max, "the coordinator starts");
    app.on(backend).coordinator(options)
}

/// What the process is called: as it was told, or by host and number; with something that no other process has.
fn identity(name: Option<&str>) -> String {
    let host = || gethostname::gethostname().to_string_lossy().into_owned();
    let readable = name.map_or_else(|| format!("{}-{}", host(), std::process::id()), str::to_owned);
    let unique = uuid::Uuid::new_v4().simple().to_string();
    format!("{readable}-{}", &unique[..8])
}

#[cfg(test)]
mod tests {
    use celeriac_memory::Memory;

    use super::*;

    /// A worker or a coordinator for which every answer of the backend is one too many.
    async fn exit_of(is_worker: bool) -> (Exit, String, Option<String>) {
        let watched = Arc::new(Watched::panicking(Arc::new(Memory::new())));
        let app = App::embedded().build().unwrap().on(watched.clone());
        let health = Health::new(Duration::from_secs(1));
        let worker = is_worker.then(|| app.worker(WorkerOptions::default()));
        let coordinator = (!is_worker).then(|| app.coordinator(CoordinatorOptions::default()));
        worker.iter().for_each(|worker| health.watch("worker", watched.clone(), worker.vitals()));
        coordinator.iter().for_each(|part| health.watch("coordinator", watched.clone(), part.vitals()));
        let parts = Parts { worker, coordinator };
        let grace = Duration::from_secs(1);
        let done = work_until_told(parts, &health, grace, &mut Signals::None).await;
        let Stop { exit, message } = done.expect_err("it has failed");
        (exit, message, health.complaint())
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_ends_with_a_code_of_its_own_when_a_part_has_failed() {
        for is_worker in [true, false] {
            let (exit, why, complaint) = exit_of(is_worker).await;
            assert_eq!(exit, Exit::Broken);
            assert!(why.contains("has panicked 5 times in a row: one too many"), "{why}");
            assert!(complaint.unwrap().contains("has panicked"), "health is red");
        }
    }
}
