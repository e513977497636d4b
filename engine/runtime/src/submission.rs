//! A submission with options for the run as a whole.

use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use celeriac_dsl::IntoCanvas;
use celeriac_engine::Plan;
use celeriac_engine::plan::RunOptions;
use celeriac_primitives::{Canvas, OptionError, Options, RetryPolicy, RunId, TaskName, When};
use futures::future::BoxFuture;

use crate::app::{new_run_id, unplaced};
use crate::patience::{OUTAGE_MAX, outlast};
use crate::{App, Handle, SubmitError};

/// A canvas on its way, with options of its run: see [`App::submission`]. Await it to submit.
///
/// All that starts a run goes through here, so that a canvas has the same queues and options wherever it is
/// written: the library, the command line, Celery's JSON.
///
/// Queue, priority, expiry, retry policy, limits and headers hold for all leaves that do not set their
/// own; countdown and eta delay the leaves that start the run. (Celery gives what `apply_async` takes
/// to the first task of a chain alone.)
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

    /// Under this id: the same canvas under the same id is the same run. Another one is a conflict. Without
    /// one, a canvas has the id that follows from its `task_id`, or else a new one.
    pub fn id(mut self, id: RunId) -> Self {
        self.id = Some(id);
        self
    }

    /// Under this key, such as `order-4711`: the same canvas under the same key is one run, however
    /// often and from wherever it is submitted. See [`RunId::from_key`].
    pub fn key(self, key: &str) -> Self {
        self.id(RunId::from_key(key))
    }

    /// Compiles the canvas, with the options of its tasks, the routes and the run. Nothing is stored.
    ///
    /// # Errors
    /// When an option does not fit, or the canvas cannot be compiled.
    pub fn compile(self) -> Result<Compiled<C::Output>, SubmitError> {
        let Self { app, canvas, options, id, wrong } = self;
        if let Some(wrong) = wrong {
            return Err(SubmitError::Option(wrong));
        }
        let canvas = canvas.into_canvas()?;
        let run = RunOptions::of(&options).map_err(SubmitError::Option)?;
        // A canvas that was given an id, by Celery or here, is one run under it.
        let alias = canvas.options().value("task_id").and_then(|id| id.to::<String>().ok());
        let id = id.or_else(|| alias.map(|alias| RunId::from_key(&alias)));
        match app.compile(&canvas, &run) {
            Ok((plan, unknown)) => {
                let expires = matches!(run.leaf.expires, Some(When::After(_)));
                let expiring = if expires {
                    Some((canvas, run))
                } else {
                    drop_beside(canvas, plan.len());
                    None
                };
                Ok(Compiled { app, plan: Arc::new(plan), id, unknown, expiring, types: PhantomData })
            }
            Err(error) => {
                // It may be nested too deep to be dropped.
                canvas.take_apart();
                Err(error)
            }
        }
    }

    pub(crate) async fn send(self) -> Result<Handle<C::Output>, SubmitError> {
        self.compile()?.send().await
    }
}

/// A canvas of more nodes is dropped on a thread of its own.
const DROPPED_HERE: usize = 10_000;

/// To drop a large canvas takes a fifth of the time of compiling it; its run need not wait.
fn drop_beside(canvas: Canvas, nodes: usize) {
    if nodes > DROPPED_HERE
        && let Ok(runtime) = tokio::runtime::Handle::try_current()
    {
        runtime.spawn_blocking(move || drop(canvas));
    }
}

/// A submission of which the plan is known: see [`Submission::compile`]. Await it to submit.
#[must_use = "a submission does nothing until it is awaited"]
pub struct Compiled<T> {
    app: App,
    plan: Arc<Plan>,
    id: Option<RunId>,
    /// Tasks of which nothing is known here.
    unknown: Vec<TaskName>,
    /// Where leaves expire so long after the submission: what the plan is compiled from once more, then.
    expiring: Option<(Canvas, RunOptions)>,
    types: PhantomData<fn() -> T>,
}

impl<T> Compiled<T> {
    /// What is to run.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Those of its tasks of which the app cannot know where they run: they are not registered, no
    /// route is for them, and the canvas neither brings their declaration along nor says where they
    /// run. Their leaves go to the queue `celery`. Sending it logs a warning for each.
    pub fn unplaced(&self) -> Vec<TaskName> {
        unplaced(&self.plan, &self.unknown)
    }

    /// Submits it to this app instead, which has the same tasks, routes and limits on another backend
    /// ([`App::on`]).
    pub fn on(self, app: &App) -> Self {
        Self { app: app.clone(), ..self }
    }

    async fn send(self) -> Result<Handle<T>, SubmitError> {
        let Self { app, plan, id, unknown, expiring, .. } = self;
        if !unknown.is_empty() {
            app.say_unplaced(&plan, unknown);
        }
        let id = id.unwrap_or_else(new_run_id);
        let Some((canvas, mut run)) = expiring else { return Ok(app.store(id, plan, None).await?) };
        // One moment for all leaves. What was given stays a time, by which the same again is known.
        let now_ms = outlast!(OUTAGE_MAX, app.backend().now())?;
        run.leaf.expires = run.leaf.expires.map(|expires| When::At(expires.at_ms(now_ms)));
        let (of_moment, _) = app.compile(&canvas, &run)?;
        drop_beside(canvas, of_moment.len());
        Ok(app.store(id, Arc::new(of_moment), Some(plan)).await?)
    }
}

impl<T> Clone for Compiled<T> {
    fn clone(&self) -> Self {
        let Self { app, plan, id, unknown, expiring, types } = self;
        let (app, plan, unknown, expiring) = (app.clone(), plan.clone(), unknown.clone(), expiring.clone());
        Self { app, plan, id: *id, unknown, expiring, types: *types }
    }
}

impl<T> fmt::Debug for Compiled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled")
            .field("nodes", &self.plan.len())
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> IntoFuture for Compiled<T> {
    type Output = Result<Handle<T>, SubmitError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
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
        app.submission(self)
    }

    /// Puts a submission together, which is sent when it is awaited (Celery's `apply_async`).
    fn apply_async(self, app: &App) -> Submission<Self> {
        app.submission(self)
    }
}

impl<C: IntoCanvas> Apply for C {}
