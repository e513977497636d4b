//! The progress bar: leaves that have ended, of those that will run.

use std::convert::Infallible;
use std::time::Duration;

use celeriac_primitives::Json;
use celeriac_runtime::Handle;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the bar is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// A bar on stderr, or none. It goes when this is dropped.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    pub(crate) fn new(is_shown: bool) -> Self {
        Self(is_shown.then(|| {
            // Out of sight until there is something to see: a run that is done at once needs no bar.
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
            let style = ProgressStyle::with_template("{elapsed:>5} [{wide_bar}] {human_pos}/{human_len}");
            bar.with_style(style.expect("the template is a valid one").progress_chars("=> "))
        }))
    }

    /// Keeps the bar up to date. Never returns.
    pub(crate) async fn follow(&self, run: &Handle<Json>) -> Infallible {
        let Some(bar) = &self.0 else { std::future::pending().await };
        loop {
            tokio::time::sleep(TICK).await;
            // When the backend does not answer, whoever waits for the run will hear of it.
            if let Ok(status) = run.status().await {
                bar.set_length(status.total().into());
                bar.set_position(status.done.into());
                if bar.is_hidden() {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                }
            }
        }
    }

    /// Does something that prints, without the bar.
    pub(crate) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.iter().for_each(ProgressBar::finish_and_clear);
    }
}
