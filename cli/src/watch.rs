//! Waiting for a run, with all that may end the waiting.

use std::time::Duration;

use celeriac_primitives::{Failure, Json};
use celeriac_runtime::{App, Handle};
use tokio::time::Instant;

use crate::exit::{Exit, Stop};
use crate::io::one_line;
use crate::progress::Progress;
use crate::signals::Signals;
use crate::tasks;

/// Waits for one run.
pub(crate) struct Watch<'a> {
    app: &'a App,
    run: &'a Handle<Json>,
    pub(crate) progress: Progress,
    /// When, and after how long.
    end: Option<(Instant, Duration)>,
}

impl<'a> Watch<'a> {
    /// Waits no longer than `timeout` from now.
    pub(crate) fn new(
        app: &'a App,
        run: &'a Handle<Json>,
        shows_progress: bool,
        timeout: Option<Duration>,
    ) -> Self {
        let progress = Progress::new(shows_progress);
        Self { app, run, progress, end: timeout.map(|time| (Instant::now() + time, time)) }
    }

    pub(crate) async fn wait<T>(
        &self,
        signals: &mut Signals<'_>,
        what: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        tokio::select! {
            biased;
            signal = signals.next() => {
                Err(Stop::new(signal.exit(), format!("{signal}; the run {}", self.fate())))
            }
            value = what => Ok(value),
            stop = self.timeout() => Err(stop),
            never = self.progress.follow(self.run) => match never {},
        }
    }

    async fn timeout(&self) -> Stop {
        let Some((end, time)) = self.end else { std::future::pending().await };
        tokio::time::sleep_until(end).await;
        Stop::new(Exit::Timeout, format!("the run has not ended within {time:?}; it {}", self.fate()))
    }

    /// What becomes of the run when this process ends.
    fn fate(&self) -> String {
        match self.app.is_embedded() {
            true => "was executed by this process and ends with it".to_owned(),
            false => format!("goes on; its id is {}", self.run.id()),
        }
    }
}

/// The node, its task and the error; for wrong arguments also what the task takes.
pub(crate) fn explain(app: &App, failure: &Failure) -> String {
    match app.registry().task(&failure.task) {
        Some(task) if failure.error.kind == "TypeError" => {
            format!("{}\n  the task is {}", one_line(&failure.to_string()), tasks::call(task))
        }
        _ => one_line(&failure.to_string()),
    }
}
