//! Apps: tasks, a backend, and a way in.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use celeriac_backends::{Backend, BackendError, DEFAULT_QUEUE, Dispatch, Known, NewRun, Submitted};
use celeriac_dsl::{FlowError, IntoCanvas, States, TaskDef};
use celeriac_engine::plan::{Defaults, RunOptions};
use celeriac_engine::{CompileError, Plan, Release};
use celeriac_memory::Memory;
use celeriac_primitives::{Canvas, Incarnation, Limits, OptionError, Options, RunId, RunRef, TaskName};

use crate::coordinator::compose::{compose, leaf};
use crate::large::{take_apart, warn_at_half};
use crate::patience::{OUTAGE_MAX, outlast};
use crate::registry::Refused;
use crate::worker::Queues;
use crate::{Coordinator, CoordinatorOptions, Handle, Registry, Submission, Worker, WorkerOptions};

/// A named set of tasks on a backend. Cheap to clone.
///
/// An app built with [`App::embedded`] runs its own coordinator and worker; they start with the first
/// submission, in the tokio runtime that submits, and stop when the last clone of the app and its last handle
/// are dropped.
#[derive(Clone, Debug)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    backend: Arc<dyn Backend>,
    has_backend: bool,
    registry: Arc<Registry>,
    states: Arc<States>,
    limits: Limits,
    retention: Option<Duration>,
    embedded: Option<WorkerOptions>,
    up: Mutex<Option<(Coordinator, Worker)>>,
    /// Of which tasks it was said that nobody knows where they run.
    said: Mutex<BTreeSet<TaskName>>,
}

/// Puts an [`App`] together.
#[derive(Debug)]
pub struct AppBuilder {
    name: String,
    backend: Option<Arc<dyn Backend>>,
    tasks: Vec<TaskDef>,
    states: States,
    routes: Vec<(String, Options)>,
    limits: Limits,
    retention: Option<Duration>,
    embedded: Option<WorkerOptions>,
}

/// An app that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Two tasks of one name.
    #[error("two tasks are called {0}; give one of them another name with #[task(name = \"…\")]")]
    DuplicateTask(TaskName),
    /// An option with which a task was declared has a value that does not fit.
    #[error("task {task}: {source}")]
    TaskOption {
        /// The task.
        task: TaskName,
        /// Which option, and what it takes.
        source: OptionError,
    },
    /// A route whose options do not fit.
    #[error("route {pattern:?}: {source}")]
    Route {
        /// The names it is for.
        pattern: String,
        /// Which option, and what it takes.
        source: OptionError,
    },
    /// A task takes a `State<T>` that the app does not have.
    #[error(
        "task {task} takes State<{state}>, and the app has none; add .state(…) with a value of this type"
    )]
    MissingState {
        /// The task.
        task: TaskName,
        /// The type.
        state: &'static str,
    },
}

/// A canvas that was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// An argument has no JSON form.
    #[error(transparent)]
    Flow(#[from] FlowError),
    /// An option of the run does not fit.
    #[error(transparent)]
    Option(OptionError),
    /// It cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The backend did not take it.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// So many tasks are named of which nobody knows where they run.
const SAID_MAX: usize = 1000;

/// Those of these tasks that have leaves without a queue in the plan.
pub(crate) fn unplaced(plan: &Plan, unknown: &[TaskName]) -> Vec<TaskName> {
    if unknown.is_empty() {
        return Vec::new();
    }
    let nodes = plan.nodes().map(|(node, _)| node).filter(|node| plan.queue(*node).is_none());
    let without_queue: BTreeSet<&TaskName> = nodes.filter_map(|node| plan.task(node)).collect();
    unknown.iter().filter(|task| without_queue.contains(task)).cloned().collect()
}

impl App {
    /// Starts an app of this name. Without a backend it uses the memory of this process.
    pub fn builder(name: impl Into<String>) -> AppBuilder {
        AppBuilder {
            name: name.into(),
            backend: None,
            tasks: Vec::new(),
            states: States::new(),
            routes: Vec::new(),
            limits: Limits::default(),
            retention: Some(RETENTION),
            embedded: None,
        }
    }

    /// Starts an app that runs everything in this process: the way to begin, to test, and to debug.
    pub fn embedded() -> AppBuilder {
        Self::builder("embedded").run_embedded(WorkerOptions::default())
    }

    /// The app's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The app's tasks.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Bounds on the canvases that the app accepts.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The backend, for those who look at runs directly.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.0.backend
    }

    /// Whether a backend was chosen for it. Without one its runs are kept in the memory of this process,
    /// where no other can see them, and end with it.
    pub fn has_backend(&self) -> bool {
        self.0.has_backend
    }

    /// The same tasks, states and limits on this backend, with no coordinator or worker of its own.
    #[must_use]
    pub fn on(&self, backend: Arc<dyn Backend>) -> App {
        self.moved(backend, true, None)
    }

    /// The same tasks, states and limits in the memory of this process, with a coordinator and a worker of
    /// its own.
    #[must_use]
    pub fn in_memory(&self) -> App {
        let embedded = self.0.embedded.clone().unwrap_or_default();
        self.moved(Arc::new(Memory::new()), false, Some(embedded))
    }

    fn moved(&self, backend: Arc<dyn Backend>, has_backend: bool, embedded: Option<WorkerOptions>) -> App {
        App(Arc::new(Inner {
            name: self.0.name.clone(),
            backend,
            has_backend,
            registry: self.0.registry.clone(),
            states: self.0.states.clone(),
            limits: self.0.limits,
            retention: self.0.retention,
            embedded,
            up: Mutex::new(None),
            said: Mutex::default(),
        }))
    }

    /// Compiles a canvas and stores it as a new run. When this returns, the run is accepted. A backend that
    /// does not answer is asked again for up to 30 seconds.
    ///
    /// With an id, a key, or options for the run as a whole: [`App::submission`].
    ///
    /// # Errors
    /// When the canvas cannot be compiled, or the backend does not take it; nothing has started then. A
    /// backend that does not answer may have taken it all the same: submit under a [key](Submission::key)
    /// where that matters, and again.
    pub async fn submit<C: IntoCanvas>(&self, canvas: C) -> Result<Handle<C::Output>, SubmitError> {
        self.submission(canvas).send().await
    }

    /// A submission that is put together first: `app.submission(canvas).key("order-4711").queue("slow").await`.
    /// Nothing happens before it is awaited.
    pub fn submission<C: IntoCanvas>(&self, canvas: C) -> Submission<C> {
        Submission::new(self.clone(), canvas)
    }

    /// Compiles a canvas with the options of its tasks, the routes, and a run. Beside the plan come those of its
    /// tasks of which nothing is known here: they are not registered, no route names a queue for them, and the
    /// canvas does not bring their declaration along.
    pub(crate) fn compile(
        &self,
        canvas: &Canvas,
        run: &RunOptions,
    ) -> Result<(Plan, Vec<TaskName>), SubmitError> {
        let (wrong, unknown) = (Cell::new(None), RefCell::new(Vec::new()));
        let task = |name: &TaskName, declared: Option<&Options>| {
            match declared {
                None if !self.0.registry.knows(name) => unknown.borrow_mut().push(name.clone()),
                None => {}
                // It may have been called by its name before.
                Some(_) => unknown.borrow_mut().retain(|unknown| unknown != name),
            }
            self.0.registry.options_of(name, declared).unwrap_or_else(|error| {
                wrong.set(Some(error));
                RunOptions::default()
            })
        };
        let plan = Plan::compile_with(canvas, &self.0.limits, Defaults { run, task: &task });
        match wrong.take() {
            Some(error) => Err(SubmitError::Option(error)),
            None => Ok((plan?, unknown.into_inner())),
        }
    }

    /// Says once of each of these tasks that nobody knows where it runs, when some of its leaves have no queue.
    pub(crate) fn say_unplaced(&self, plan: &Plan, mut unknown: Vec<TaskName>) {
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.retain(|task| !said.contains(task));
        if unknown.is_empty() || said.len() >= SAID_MAX {
            return;
        }
        for task in unplaced(plan, &unknown) {
            tracing::warn!(
                task = task.as_str(),
                "its leaves go to the queue {DEFAULT_QUEUE}: this app does not have the task, so it knows neither queue nor \
                 options of its declaration; register the task, add a route, or set a queue"
            );
            said.insert(task);
        }
    }

    /// Stores a plan as a new run. Where moments were made of times that count from the submission, the plan
    /// that has the times comes along.
    pub(crate) async fn store<T>(
        &self,
        id: RunId,
        plan: Arc<Plan>,
        given: Option<Arc<Plan>>,
    ) -> Result<Handle<T>, BackendError> {
        self.start_embedded_parts(&plan);
        let mut run = id.incarnation(new_incarnation());
        let (limits, (most, all)) = (&self.0.limits, plan.argument_bytes());
        warn_at_half("the arguments of a leaf", run, most, limits.argument_bytes_max);
        let (most, options) = plan.option_bytes();
        warn_at_half("the options of a leaf", run, most, limits.options_bytes_max);
        warn_at_half("all arguments and options of a canvas", run, all + options, limits.plan_bytes_max);
        let mut plan = plan;
        let literals = take_apart(self.backend().as_ref(), &mut plan);
        let given = given.map(|mut given| {
            take_apart(self.backend().as_ref(), &mut given);
            given
        });
        let retention = self.0.retention;
        // The same again is the same run, whether or not the backend had stored it before it fell silent.
        // Somebody may have forgotten it in between: then it is another one.
        let submitted = outlast!(OUTAGE_MAX, {
            run = id.incarnation(new_incarnation());
            let (starts, literals, given) = (first_leaves(&plan, run), literals.clone(), given.clone());
            self.0.backend.submit(NewRun {
                starts,
                retention,
                literals,
                given,
                ..NewRun::new(run, plan.clone())
            })
        })?;
        let run = match submitted {
            Submitted::Accepted => run,
            // With moments of its own.
            Submitted::Existing(known) if given.is_some() => {
                let stored = outlast!(OUTAGE_MAX, self.0.backend.plan(known))?;
                return Ok(Handle::new(known, stored.unwrap_or(plan), self.clone()));
            }
            Submitted::Existing(known) => known,
        };
        Ok(Handle::new(run, plan, self.clone()))
    }

    /// Starts the parts of an embedded app, again when the runtime they were started in is gone, and lets its
    /// worker serve the queues of the plan: nobody else in this process would.
    fn start_embedded_parts(&self, plan: &Plan) {
        let Some(options) = &self.0.embedded else { return };
        let mut up = self.0.up.lock().unwrap_or_else(PoisonError::into_inner);
        if up.as_ref().is_none_or(|(coordinator, worker)| coordinator.is_broken() || worker.is_broken()) {
            let worker = self.worker(options.clone().unknown_wait(Duration::ZERO));
            let served = Some(worker.queues());
            *up = Some((self.coordinator_for(CoordinatorOptions::default(), served), worker));
        }
        let (_, worker) = up.as_ref().expect("both were just started");
        plan.queues().iter().for_each(|queue| worker.add_queue(queue));
    }

    /// The same by the key under which it was submitted: that of [`Submission::key`], or its canvas's
    /// `task_id`.
    ///
    /// # Errors
    /// When the backend does not answer.
    pub async fn run_keyed<T>(&self, key: &str) -> Result<Option<Handle<T>>, BackendError> {
        self.run(RunId::from_key(key)).await
    }

    /// The handle of a run that was submitted before, here or elsewhere; `None` when there is no such run.
    ///
    /// # Errors
    /// When the backend does not answer.
    pub async fn run<T>(&self, id: RunId) -> Result<Option<Handle<T>>, BackendError> {
        let found = self.0.backend.find(id).await?;
        Ok(found.map(|(run, plan)| Handle::new(run, plan, self.clone())))
    }

    /// Whether the app runs its own coordinator and worker, so that its runs end with this process.
    pub fn is_embedded(&self) -> bool {
        self.0.embedded.is_some()
    }

    /// Starts a worker for this app's tasks in the current tokio runtime.
    pub fn worker(&self, options: WorkerOptions) -> Worker {
        let Inner { backend, registry, states, limits, .. } = &*self.0;
        Worker::start(backend.clone(), registry.clone(), states.clone(), *limits, options)
    }

    /// Starts a coordinator in the current tokio runtime. It needs none of the app's tasks.
    pub fn coordinator(&self, options: CoordinatorOptions) -> Coordinator {
        self.coordinator_for(options, None)
    }

    fn coordinator_for(&self, options: CoordinatorOptions, served: Option<Arc<Queues>>) -> Coordinator {
        Coordinator::start(self.0.backend.clone(), options, self.0.limits, served)
    }
}

impl AppBuilder {
    /// Adds tasks: `tasks![add, mul]`.
    #[must_use]
    pub fn tasks(mut self, tasks: impl IntoIterator<Item = TaskDef>) -> Self {
        self.tasks.extend(tasks);
        self
    }

    /// Adds a value that tasks take as `State<T>`.
    #[must_use]
    pub fn state<T: Any + Send + Sync>(mut self, state: T) -> Self {
        self.states.insert(state);
        self
    }

    /// Routes tasks by name: leaves of tasks that fit `pattern` (`feeds.*`, `*` stands for any text, `?` for
    /// one character) get these options, mostly a queue, where neither they nor their task nor the run says
    /// otherwise. The first route that fits counts (Celery's `task_routes`).
    #[must_use]
    pub fn route(mut self, pattern: impl Into<String>, options: Options) -> Self {
        self.routes.push((pattern.into(), options));
        self
    }

    /// Uses this backend.
    #[must_use]
    pub fn backend(mut self, backend: impl Backend) -> Self {
        self.backend = Some(Arc::new(backend));
        self
    }

    /// Bounds the canvases that the app accepts.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How long runs are kept after their end, to be read; `None` until they are forgotten. A day by default,
    /// as Celery's `result_expires`.
    #[must_use]
    pub fn retention(mut self, retention: Option<Duration>) -> Self {
        self.retention = retention;
        self
    }

    /// Runs a coordinator and a worker with these options inside the app.
    #[must_use]
    pub fn run_embedded(mut self, worker: WorkerOptions) -> Self {
        self.embedded = Some(worker);
        self
    }

    /// Checks that everything fits together.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(self) -> Result<App, BuildError> {
        let mut registry = Registry::default();
        for task in self.tasks {
            if let Some(state) = task.missing_states(&self.states).first() {
                return Err(BuildError::MissingState { task: task.name.clone(), state });
            }
            registry.add(task).map_err(|refused| match refused {
                Refused::Duplicate(task) => BuildError::DuplicateTask(task),
                Refused::Option(task, source) => BuildError::TaskOption { task, source },
            })?;
        }
        for (pattern, options) in self.routes {
            match RunOptions::of(&options) {
                Ok(options) => registry.route(&pattern, options),
                Err(source) => return Err(BuildError::Route { pattern, source }),
            }
        }
        Ok(App(Arc::new(Inner {
            name: self.name,
            has_backend: self.backend.is_some(),
            backend: self.backend.unwrap_or_else(|| Arc::new(Memory::new())),
            registry: Arc::new(registry),
            states: Arc::new(self.states),
            limits: self.limits,
            retention: self.retention,
            embedded: self.embedded,
            up: Mutex::new(None),
            said: Mutex::default(),
        })))
    }
}

/// How long runs are kept after their end when the app does not say.
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// A run with more first leaves is announced, and a coordinator queues them.
const STARTS_MAX: usize = 100;

/// So does one whose first leaves have more bytes.
const STARTS_BYTES_MAX: usize = 4 << 20;

/// The leaves a run starts with, ready to be queued; none when they are many, or large.
pub(crate) fn first_leaves(plan: &Plan, run: RunRef) -> Vec<Dispatch> {
    let starts = plan.starts().filter(|node| plan.leaf(*node).is_some()).take(STARTS_MAX + 1);
    let releases: Vec<Release> = starts.map(|node| Release { node, attempt: 1 }).collect();
    if releases.len() > STARTS_MAX {
        return Vec::new();
    }
    let composed = compose(plan, run, &releases, &Known::default(), usize::MAX);
    let mut leaves = composed.leaves;
    for release in composed.long {
        let Some(referring) = plan.composer().message_by_reference(run, release, &Known::default()) else {
            return Vec::new();
        };
        leaves.push(leaf(plan, release, referring.message, &Known::default()));
    }
    // Coordinators set timers, and queue many bytes in parts.
    let bytes: usize = leaves.iter().map(|leaf| leaf.message.weight()).sum();
    if bytes > STARTS_BYTES_MAX || leaves.iter().any(Dispatch::is_timed) { Vec::new() } else { leaves }
}

/// What tells a run from others that have, had or will have its id: the next number of a row that is this
/// process's own.
fn new_incarnation() -> Incarnation {
    static SEED: LazyLock<u64> = LazyLock::new(|| uuid::Uuid::new_v4().as_u128() as u64);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Incarnation::new(xxhash_rust::xxh3::xxh3_64_with_seed(&number, *SEED))
}

/// A fresh run id: the time in its upper bits, chance below.
pub(crate) fn new_run_id() -> RunId {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    RunId::from_parts(since_1970.as_millis() as u64, uuid::Uuid::new_v4().as_u128() as u64)
}
