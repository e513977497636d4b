//! `run`: runs a canvas and prints its result.

use std::sync::Arc;
use std::time::Duration;

use celeriac_primitives::{Failure, Json};
use celeriac_runtime::{App, GetError, Handle};
use tokio::time::Instant;

use crate::args::RunArgs;
use crate::exit::{Exit, Stop};
use crate::io::{Interrupt, Io};
use crate::progress::Progress;
use crate::tasks;

pub(crate) async fn run(app: &App, args: &RunArgs, io: &mut Io<'_>) -> Result<Exit, Stop> {
    if app.registry().is_empty() {
        return Err(Stop::usage("this program has no tasks to run; make one with celeriac::cli::main(app)"));
    }
    let plan = Arc::new(args.canvas.compile(app, io.stdin)?);
    let run: Handle<Json> = app.submit_plan(plan).await?;
    let progress = Progress::new(io.shows_progress, run.plan());
    let watch = Watch {
        app,
        run: &run,
        progress: &progress,
        end: args.timeout.map(|time| (Instant::now() + time, time)),
    };

    let exit = match watch.wait(&mut io.interrupt, run.get_json(None)).await? {
        Ok(value) => progress.aside(|| io.print(&format!("{value}\n"))),
        Err(GetError::Failed(failure)) => {
            progress.aside(|| io.complain(&explain(app, &failure)));
            Ok(Exit::Failed)
        }
        Err(GetError::Backend(error)) => Err(error.into()),
        Err(error) => Err(Stop::new(Exit::Internal, error)),
    };
    if !app.is_embedded() {
        return exit;
    }
    // Known, and told. What is left of the run is done in this process, and would end with it.
    let ended = match watch.wait(&mut io.interrupt, run.ended()).await {
        Ok(ended) => ended.map_err(Stop::from),
        Err(stop) => Err(stop),
    };
    match (exit, ended) {
        (exit, Ok(())) => exit,
        (Ok(Exit::Failed), Err(stop)) => Err(Stop { exit: Exit::Failed, ..stop }),
        (_, Err(stop)) => Err(stop),
    }
}

/// What may end the waiting for a run.
struct Watch<'a> {
    app: &'a App,
    run: &'a Handle<Json>,
    progress: &'a Progress,
    /// When, and after how long.
    end: Option<(Instant, Duration)>,
}

impl Watch<'_> {
    async fn wait<T>(&self, interrupt: &mut Interrupt<'_>, what: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            () = interrupt => {
                Err(Stop::new(Exit::Interrupted, format!("interrupted; the run {}", self.fate())))
            }
            value = what => Ok(value),
            stop = self.timeout() => Err(stop),
            never = self.progress.follow(self.app, self.run) => match never {},
        }
    }

    async fn timeout(&self) -> Stop {
        let Some((end, time)) = self.end else { std::future::pending().await };
        tokio::time::sleep_until(end).await;
        Stop::new(Exit::Timeout, format!("the run has not ended within {time:?}; it {}", self.fate()))
    }

    /// What becomes of the run when this process ends.
    fn fate(&self) -> &'static str {
        if self.app.is_embedded() { "was executed by this process and ends with it" } else { "goes on" }
    }
}

/// The node, its task and the error; for wrong arguments also what the task takes.
fn explain(app: &App, failure: &Failure) -> String {
    match app.registry().task(&failure.task) {
        Some(task) if failure.error.kind == "TypeError" => {
            format!("{failure}\n  the task is {}", tasks::call(task))
        }
        _ => failure.to_string(),
    }
}
