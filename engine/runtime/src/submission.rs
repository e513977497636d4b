//! A submission with options for the run as a whole.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use celeriac_dsl::IntoCanvas;
use celeriac_engine::plan::RunOptions;
use celeriac_primitives::{OptionError, Options, RetryPolicy, RunId, When};
use futures::future::BoxFuture;

use crate::app::new_run_id;
use crate::patience::{OUTAGE_MAX, outlast};
use crate::{App, Handle, SubmitError};

/// A canvas on its way, with options of its run: see [`App::apply_async`]. Await it to submit.
///
/// Queue, priority, expiry, retry policy, limits and headers hold for all leaves that do not set their own;
/// countdown and eta delay the leaves that start the run. (Celery gives what `apply_async` takes to the first
/// task of a chain alone.)
#[must_use = "a submission does nothing until it is awaited"]
#[derive(Debug)]
pub struct Submission<C> {
    app: App,
    canvas: C,
    options: Options,
    id: Option<RunId>,
    wrong: Option<OptionError>,
}

impl<C: IntoCanvas> Submission<C> {
    pub(crate) fn new(app: App, canvas: C) -> Self {
        Self { app, canvas, options: Options::new(), id: None, wrong: None }
    }

    /// Lays options over those that are set.
    pub fn options(mut self, options: &Options) -> Self {
        self.options.merge(options);
        self
    }

    fn try_change(mut self, change: impl FnOnce(Options) -> Result<Options, OptionError>) -> Self {
        match change(self.options.clone()) {
            Ok(options) => self.options = options,
            Err(error) => self.wrong = self.wrong.or(Some(error)),
        }
        self
    }

    fn change(self, change: impl FnOnce(Options) -> Options) -> Self {
        self.try_change(|options| Ok(change(options)))
    }

    /// The leaves that start the run do so after this time.
    pub fn countdown(self, countdown: Duration) -> Self {
        self.change(|options| options.with_countdown(countdown))
    }

    /// The leaves that start the run do not do so before this moment.
    pub fn eta(self, eta: SystemTime) -> Self {
        self.change(|options| options.with_eta(eta))
    }

    /// What has not started so long after the submission ends as expired.
    pub fn expires(self, expires: Duration) -> Self {
        self.change(|options| options.with_expires(expires))
    }

    /// The queue.
    pub fn queue(self, queue: &str) -> Self {
        self.try_change(|options| options.with_queue(queue))
    }

    /// The priority, 0 to 9.
    pub fn priority(self, priority: u8) -> Self {
        self.try_change(|options| options.with_priority(priority))
    }

    /// Which failures are worth another attempt.
    pub fn retry(self, policy: &RetryPolicy) -> Self {
        self.change(|options| options.with_retry(policy))
    }

    /// What runs longer is cut off.
    pub fn time_limit(self, limit: Duration) -> Self {
        self.change(|options| options.with_time_limit(limit))
    }

    /// Under this id: the same canvas under the same id is the same run.
    pub fn id(mut self, id: RunId) -> Self {
        self.id = Some(id);
        self
    }

    /// Under this key, such as `order-4711`; see [`App::submit_keyed`].
    pub fn key(self, key: &str) -> Self {
        self.id(RunId::from_key(key))
    }

    pub(crate) async fn send(self) -> Result<Handle<C::Output>, SubmitError> {
        if let Some(wrong) = self.wrong {
            return Err(SubmitError::Option(wrong));
        }
        let canvas = self.canvas.into_canvas()?;
        let mut run = RunOptions::of(&self.options).map_err(SubmitError::Option)?;
        // One moment for all leaves. What was given stays a time, by which the same again is known.
        let mut given = None;
        if let Some(expires @ When::After(_)) = run.leaf.expires {
            match self.app.compile(&canvas, &run) {
                Ok(plan) => given = Some(Arc::new(plan)),
                Err(error) => {
                    canvas.take_apart();
                    return Err(error.into());
                }
            }
            let now_ms = outlast!(OUTAGE_MAX, self.app.backend().now())?;
            run.leaf.expires = Some(When::At(expires.at_ms(now_ms)));
        }
        // A canvas that was given an id, by Celery or here, is one run under it.
        let alias = canvas.options().value("task_id").and_then(|id| id.to::<String>().ok());
        let id = self.id.or_else(|| alias.map(|alias| RunId::from_key(&alias))).unwrap_or_else(new_run_id);
        let plan = Arc::new(self.app.compile_whole(canvas, &run)?);
        Ok(self.app.submit_given(id, plan, given).await?)
    }
}

impl<C> IntoFuture for Submission<C>
where
    C: IntoCanvas + Send + 'static,
    C::Output: Send,
{
    type Output = Result<Handle<C::Output>, SubmitError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Submitting from the canvas: `add.s((2, 2)).delay(&app).await`, as Celery writes it.
pub trait Apply: IntoCanvas + Sized {
    /// Submits it (Celery's `delay`).
    fn delay(self, app: &App) -> Submission<Self> {
        app.apply_async(self)
    }

    /// Puts a submission together, which is sent when it is awaited (Celery's `apply_async`).
    fn apply_async(self, app: &App) -> Submission<Self> {
        app.apply_async(self)
    }
}

impl<C: IntoCanvas> Apply for C {}
