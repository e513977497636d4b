//! `worker`, `coordinator` and `up`: processes that work until they are told to stop.
//!
//! ```text
//! start ──► work ──signal──► warm stop ──all finished, or --grace over──► 0
//!                                │
//!                             signal ──► give back what is held ──► 130, 143
//! ```

use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::WorkerId;
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, Worker, WorkerOptions};

use crate::args::{CoordinateArgs, CoordinatorArgs, GlobalArgs, ProcessArgs, UpArgs, WorkArgs, WorkerArgs};
use crate::backend;
use crate::exit::{Exit, Stop};
use crate::health::{Health, Reporter};
use crate::io::Io;
use crate::watched::Watched;

/// How long a cold stop may take.
const COLD: Duration = Duration::from_secs(1);

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
    let parts = work.iter().map(|(_, watched)| ("worker", watched.clone()));
    let parts = parts.chain(coordinate.iter().map(|(_, watched)| ("coordinator", watched.clone())));
    let health = Arc::new(Health::new(parts.collect(), args.lease));
    // Before anything is taken: that it cannot be done ends the process.
    let reporter = Reporter::start(&args.health, &health).await?;
    let parts = Parts {
        coordinator: coordinate
            .map(|(coordinate, watched)| start_coordinator(&app, watched, coordinate, args)),
        worker: work.as_ref().map(|(work, watched)| start_worker(&app, watched.clone(), work, args, &name)),
    };
    let worker_id = parts.worker.as_ref().map(|worker| worker.id().clone());

    let signal = io.signals.next().await;
    tracing::info!(%signal, grace = ?args.grace, "stopping: taking no more, finishing what runs");
    health.stops();
    let exit = tokio::select! {
        biased;
        signal = io.signals.next() => {
            tracing::warn!(%signal, "stopping at once");
            if let (Some((_, watched)), Some(id)) = (&work, &worker_id) {
                give_back(watched, id).await;
            }
            signal.exit()
        }
        () = parts.stop(args.grace) => Exit::Ok,
    };
    drop(reporter);
    tracing::info!(%name, "stopped");
    Ok(exit)
}

/// What runs in a process.
struct Parts {
    worker: Option<Worker>,
    coordinator: Option<Coordinator>,
}

impl Parts {
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
    let WorkArgs { concurrency, ref queues, prefetch } = *work;
    let mut options = WorkerOptions::default()
        .concurrency(concurrency as usize)
        .queues(queues)
        .lease(args.lease)
        .name(name);
    options.prefetch = prefetch.map(|leaves| leaves as usize);
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

/// What a worker that is cut off holds goes to others at once, if the backend answers in time.
async fn give_back(watched: &Watched, worker: &WorkerId) {
    match tokio::time::timeout(COLD, watched.give_back(worker)).await {
        Ok(Ok(leaves)) => tracing::info!(leaves, "given back"),
        Ok(Err(error)) => tracing::warn!(%error, "could not give leaves back; their leases will"),
        Err(_) => tracing::warn!("could not give leaves back in time; their leases will"),
    }
}

/// What the process is called: as it was told, or by host and number; with something that no other process has.
fn identity(name: Option<&str>) -> String {
    let host = || gethostname::gethostname().to_string_lossy().into_owned();
    let readable = name.map_or_else(|| format!("{}-{}", host(), std::process::id()), str::to_owned);
    let unique = uuid::Uuid::new_v4().simple().to_string();
    format!("{readable}-{}", &unique[..8])
}
