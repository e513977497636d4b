//! The progress bar: leaves that have ended, of those that will run.

use std::time::Duration;

use celeriac_engine::Plan;
use celeriac_engine::advance::Phase;
use celeriac_primitives::Json;
use celeriac_runtime::{App, Handle};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the bar is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// A bar on stderr, or none. It goes when this is dropped.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    optional: Vec<bool>,
}

impl Progress {
    pub(crate) fn new(is_shown: bool, plan: &Plan) -> Self {
        if !is_shown {
            return Self { bar: None, optional: Vec::new() };
        }
        let optional = optional(plan);
        // Out of sight until there is something to see: a run that is done at once needs no bar.
        let bar = ProgressBar::with_draw_target(Some(plan.len() as u64), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{elapsed:>5} [{wide_bar}] {human_pos}/{human_len}");
        bar.set_style(style.expect("the template is a valid one").progress_chars("=> "));
        Self { bar: Some(bar), optional }
    }

    /// Keeps the bar up to date. Never returns.
    pub(crate) async fn follow(&self, app: &App, run: &Handle<Json>) -> std::convert::Infallible {
        loop {
            let Some(bar) = &self.bar else { std::future::pending().await };
            tokio::time::sleep(TICK).await;
            // When the backend does not answer, whoever waits for the run will hear of it.
            if let Ok(Some(phases)) = app.backend().phases(run.id()).await {
                let (done, total) = count(run.plan(), &self.optional, &phases);
                bar.set_length(total);
                bar.set_position(done);
                if bar.is_hidden() {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                }
            }
        }
    }

    /// Does something that prints, without the bar.
    pub(crate) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// Which nodes run only when something fails: error callbacks, and what comes after them.
fn optional(plan: &Plan) -> Vec<bool> {
    let mut optional: Vec<bool> = Vec::with_capacity(plan.len());
    for (number, node) in plan.nodes() {
        // Predecessors have smaller numbers: theirs is known.
        let follows = plan.predecessors(number).any(|(from, _)| optional[from.index()]);
        optional.push(node.gate().is_some() || follows);
    }
    optional
}

/// How many leaves have ended, and how many there are, error callbacks counted once they are called.
fn count(plan: &Plan, optional: &[bool], phases: &[Phase]) -> (u64, u64) {
    let (mut done, mut total) = (0, 0);
    for ((number, _), (optional, phase)) in plan.nodes().zip(optional.iter().zip(phases)) {
        if plan.leaf(number).is_some() && (!optional || *phase != Phase::Waiting) {
            total += 1;
            done += u64::from(matches!(phase, Phase::Succeeded | Phase::Failed));
        }
    }
    (done, total)
}

#[cfg(test)]
mod tests {
    use celeriac_engine::text;

    use super::*;

    #[test]
    fn error_callbacks_count_once_they_are_called_and_joins_never() {
        let canvas = "(group(a.s(), b.s()) | group(c.s(), d.s())).link_error(group(e.s(), e.s()) | f.s())";
        let plan = Plan::compile(&text::parse(canvas).unwrap()).unwrap();
        let optional = optional(&plan);
        let mut phases = vec![Phase::Waiting; plan.len()];
        assert_eq!(count(&plan, &optional, &phases), (0, 4));
        phases[0] = Phase::Succeeded;
        phases[1] = Phase::Failed;
        assert_eq!(count(&plan, &optional, &phases), (2, 4));
        let errback = plan.nodes().find(|(_, node)| node.gate().is_some()).unwrap().0;
        phases[errback.index()] = Phase::Dispatched;
        assert_eq!(count(&plan, &optional, &phases), (2, 5));
    }
}
