//! Whole runs: canvases through app, coordinators, workers and a backend, held against the reference
//! evaluator.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use celeriac_backends::{Backend, BackendError};
use celeriac_dsl::{Arguments, Handler, TaskContext, TaskDef};
use celeriac_engine::eager::{Evaluation, Leaf, Returned, eager};
use celeriac_engine::view::Standing;
use celeriac_primitives::{
    Call, Canvas, Failure, Json, Kwargs, Options, Outcome, Path, RunId, Segment, TaskError, TaskId, TaskName,
};
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, GetError, Handle, Worker, WorkerOptions};
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};

use crate::random::{self, Shape};
use crate::table::{self, Failed, Seen};
use crate::tasks;

/// An app with the suite's tasks, and coordinators and workers for it, all in this process.
#[derive(Debug)]
pub struct Crew {
    /// The app.
    pub app: App,
    ledger: Arc<Ledger>,
    _coordinators: Vec<Coordinator>,
    _workers: Vec<Worker>,
}

/// What was run, noted by the tasks themselves and outside the backend: the arguments of each call of each
/// leaf.
#[derive(Debug, Default)]
struct Ledger(Mutex<BTreeMap<TaskId, Vec<Json>>>);

impl Ledger {
    fn note(&self, task: TaskId, args: Json) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(task).or_default().push(args);
    }

    /// Takes out what was noted of a run.
    fn take(&self, run: RunId) -> BTreeMap<TaskId, Vec<Json>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: BTreeMap<_, _> =
            all.iter().filter(|(task, _)| task.run() == run).map(|(t, a)| (*t, a.clone())).collect();
        taken.keys().for_each(|task| drop(all.remove(task)));
        taken
    }
}

fn app(backend: impl Backend, ledger: &Arc<Ledger>) -> App {
    let app = App::builder("conformance").tasks(definitions()).state(ledger.clone()).backend(backend).build();
    app.expect("the suite's tasks have different names")
}

/// What came out of a run.
#[derive(Debug)]
struct Observed {
    /// How many leaves were run.
    leaves: usize,
    result: Result<Json, Failed>,
    failures: Vec<Failed>,
    /// The leaves that were run, by path and arguments, in order.
    ran: Vec<(String, String)>,
    seen: Seen,
}

/// How a run ended of which a part may have been there before.
#[derive(Clone, Debug)]
pub struct GoneOn {
    /// The leaves that were run here, by path.
    pub ran: BTreeSet<String>,
    /// How its end differs from that of the evaluation.
    pub differs: Option<String>,
}

/// How often a leaf may be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// As long as no worker loses a lease.
    Once,
    /// When workers die, and where queueing a leaf and noting that are two steps.
    AtLeastOnce,
}

impl Crew {
    /// Starts coordinators and workers on a backend.
    pub fn start(backend: impl Backend, coordinators: usize, workers: usize) -> Self {
        let mut crew = Self::alone(backend);
        // Small numbers, so that leaves of one run spread over the workers.
        let options = WorkerOptions::default().concurrency(3).prefetch(2).unknown_wait(Duration::ZERO);
        crew._coordinators
            .extend((0..coordinators).map(|_| crew.app.coordinator(CoordinatorOptions::default())));
        crew._workers.extend((0..workers).map(|_| crew.app.worker(options.clone())));
        crew
    }

    /// A client without coordinators and workers.
    pub fn alone(backend: impl Backend) -> Self {
        let ledger = Arc::new(Ledger::default());
        let app = app(backend, &ledger);
        Self { app, ledger, _coordinators: Vec::new(), _workers: Vec::new() }
    }

    /// The same app with a way of its own to the same store, as in another process. What its workers run is
    /// noted together with what the others run.
    pub fn app_on(&self, backend: impl Backend) -> App {
        app(backend, &self.ledger)
    }

    /// Runs a canvas and compares it with the reference evaluator; returns how many leaves were run, each
    /// counted once.
    ///
    /// # Errors
    /// How it differs.
    pub async fn check(&self, canvas: &Canvas, runs: Runs) -> Result<usize, String> {
        let mut ran = Vec::new();
        let evaluation = eager(canvas, &mut |leaf| execute(leaf, &mut ran)).map_err(|e| e.to_string())?;
        ran.sort();
        if runs == Runs::AtLeastOnce {
            ran.dedup();
        }
        let observed = self.observe(canvas.clone(), runs).await?;
        compare(&evaluation, &ran, &observed).map_or(Ok(observed.leaves), Err)
    }

    /// Runs every row of the tables.
    ///
    /// # Panics
    /// When a row does not come out as it says, with all that do not.
    pub async fn check_tables(&self) {
        let mut wrong = Vec::new();
        for row in table::all() {
            let checked = match row.canvas() {
                Ok(canvas) => {
                    self.observe(canvas, Runs::Once).await.and_then(|observed| row.check(&observed.seen))
                }
                Err(error) => Err(error),
            };
            wrong.extend(checked.err());
        }
        assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
    }

    /// Runs the random canvases of these seeds, many at a time, and compares each with the reference
    /// evaluator: the value or a failure that it names, and every leaf run exactly once with the same
    /// arguments.
    ///
    /// # Panics
    /// When one differs, with its seed, its text and the smallest part that still differs.
    pub async fn check_random(&self, seeds: Range<u64>, shape: &Shape) {
        let checks = stream::iter(seeds).map(|seed| async move {
            let canvas = random::canvas(seed, shape);
            (seed, self.differs(&canvas).await.map(|how| (canvas, how)))
        });
        let mut checks = std::pin::pin!(checks.buffer_unordered(32));
        while let Some((seed, differs)) = checks.next().await {
            if let Some((canvas, how)) = differs {
                let (small, how) = self.minimise(canvas.clone(), how).await;
                panic!(
                    "seed {seed} differs: {how}\n  {small}\nout of\n  {canvas}\nreplay: CELERIAC_RANDOM_SEED={seed} \
                     CELERIAC_RANDOM_COUNT=1 cargo test --test it random::"
                );
            }
        }
    }

    async fn minimise(&self, mut canvas: Canvas, mut how: String) -> (Canvas, String) {
        'smaller: loop {
            for smaller in random::shrink(&canvas) {
                if let Some(differs) = self.differs(&smaller).await {
                    (canvas, how) = (smaller, differs);
                    continue 'smaller;
                }
            }
            return (canvas, how);
        }
    }

    /// How a run of the canvas differs from its evaluation; `None` when it does not.
    async fn differs(&self, canvas: &Canvas) -> Option<String> {
        let mut ran = Vec::new();
        let evaluation = eager(canvas, &mut |leaf| execute(leaf, &mut ran));
        ran.sort();
        match (evaluation, self.observe(canvas.clone(), Runs::Once).await) {
            (Err(refused), Ok(_)) => Some(format!("eager refuses it: {refused}")),
            (Err(_), Err(_)) => None,
            (Ok(_), Err(error)) => Some(error),
            (Ok(evaluation), Ok(observed)) => compare(&evaluation, &ran, &observed),
        }
    }

    /// Submits a canvas under an id that may be there already, and waits for its end as
    /// [`check`](Self::check) does. What had ended before need not run here, and nothing runs twice.
    ///
    /// # Errors
    /// When it cannot be submitted or watched, or when a leaf was run twice or with other arguments.
    pub async fn go_on(&self, id: RunId, canvas: &Canvas) -> Result<GoneOn, String> {
        let mut whole = Vec::new();
        let evaluation = eager(canvas, &mut |leaf| execute(leaf, &mut whole)).map_err(|e| e.to_string())?;
        let run = self.app.submission(canvas.clone()).id(id).await.map_err(|error| error.to_string())?;
        let observed = self.observe_run(run, Runs::Once).await?;
        let ran: BTreeSet<String> = observed.ran.iter().map(|(path, _)| path.clone()).collect();
        // A leaf that calls its task for each of a list does so for all of them.
        whole.retain(|(path, _)| ran.contains(path));
        whole.sort();
        if observed.ran != whole {
            return Err(format!("ran {:?}, of what should run {whole:?}", observed.ran));
        }
        Ok(GoneOn { ran, differs: compare_ends(&evaluation, &observed) })
    }

    async fn observe(&self, canvas: Canvas, runs: Runs) -> Result<Observed, String> {
        let run = self.app.submit(canvas).await.map_err(|error| error.to_string())?;
        self.observe_run(run, runs).await
    }

    async fn observe_run<T>(&self, run: Handle<T>, runs: Runs) -> Result<Observed, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let failed =
            |failure: &Failure| Failed { node: failure.node.clone(), kind: failure.error.kind.clone() };
        let result = match run.get_json(None).await {
            Ok(value) => Ok(tasks::without_failures(&value)),
            Err(GetError::Failed(failure)) => Err(failed(&failure)),
            Err(error) => return Err(text(&error)),
        };
        run.ended().await.map_err(|error| text(&error))?;
        let mut seen = Seen { result: Some(result.clone()), ..Seen::default() };
        let (mut ran, mut leaves_run) = (Vec::new(), 0);
        for Part { place, run: part, .. } in parts(&self.app, run.id()).await.map_err(|error| text(&error))? {
            let place = |node| place.join(&part.plan().path(node));
            for node in part.nodes().await.map_err(|error| text(&error))? {
                if part.plan().leaf(node.node).is_none()
                    || !matches!(node.standing, Standing::Succeeded | Standing::Failed)
                {
                    continue;
                }
                seen.ran(&place(node.node));
                let outcome = part.outcome_of(node.node).await.map_err(|error| text(&error))?;
                // The failures of what ran in its place are there.
                if let Some(error) = outcome.as_ref().and_then(Outcome::error)
                    && !matches!(outcome, Some(Outcome::ReplacementFailed(_)))
                    && !place(node.node).segments().iter().any(|segment| segment.is_callback())
                {
                    seen.failures.push(Failed { node: place(node.node).to_string(), kind: error.kind });
                }
            }
            let noted = self.ledger.take(part.id());
            leaves_run += noted.len();
            for (task, calls) in noted {
                let path = place(task.node());
                if runs == Runs::Once
                    && calls.len() != 1
                    && part.plan().leaf(task.node()).is_none_or(|leaf| leaf.call == Call::Once)
                {
                    return Err(format!("{path} was run {} times", calls.len()));
                }
                ran.extend(calls.into_iter().map(|args| line(&path, args)));
            }
        }
        let failures = seen.failures.clone();
        ran.sort();
        if runs == Runs::AtLeastOnce {
            ran.dedup();
        }
        run.forget().await.map_err(|error| text(&error))?;
        Ok(Observed { leaves: leaves_run, result, failures, ran, seen })
    }
}

/// A run, or a segment of one.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where it stands in the outermost canvas.
    pub place: Path,
    /// The run.
    pub run: Handle<Json>,
    /// The leaf that a segment stands for.
    pub leaf: Option<TaskId>,
}

/// A run and all its segments; none when it is not there.
///
/// # Errors
/// When the backend does not answer.
pub async fn parts(app: &App, run: RunId) -> Result<Vec<Part>, BackendError> {
    let Some(run) = app.run(run).await? else { return Ok(Vec::new()) };
    let mut segments = run.segments().await?;
    let mut parts = vec![Part { place: Path::root(), run, leaf: None }];
    let mut next = 0;
    while let Some(around) = parts.get(next).cloned() {
        let is_inside = |(leaf, _): &(TaskId, Handle<Json>)| leaf.run() == around.run.id();
        for (leaf, run) in segments.extract_if(.., |segment| is_inside(segment)) {
            let place = around.place.join(&around.run.plan().path(leaf.node())).child(Segment::Replacement);
            parts.push(Part { place, run, leaf: Some(leaf) });
        }
        next += 1;
    }
    Ok(parts)
}

/// Runs a leaf as a worker does, noting each of its calls.
fn execute(leaf: &Leaf<'_>, ran: &mut Vec<(String, String)>) -> Result<Returned, TaskError> {
    tasks::run_leaf_noting(leaf, |args| ran.push(line(&leaf.path, Json::list(args))))
}

/// A leaf that was run. A failure holds ids, and of several failures which came first: not compared.
fn line(path: &Path, args: Json) -> (String, String) {
    let is_errback = path.segments().iter().any(|segment| matches!(segment, Segment::LinkError(_)));
    (path.to_string(), if is_errback { String::new() } else { tasks::without_failures(&args).to_string() })
}

fn compare(evaluation: &Evaluation, ran: &[(String, String)], observed: &Observed) -> Option<String> {
    compare_ends(evaluation, observed)
        .or_else(|| (observed.ran != ran).then(|| format!("ran {:?}, not {ran:?}", observed.ran)))
}

/// The value or failure, and all failures.
fn compare_ends(evaluation: &Evaluation, observed: &Observed) -> Option<String> {
    let seen = Seen::default().with(evaluation);
    match (seen.result.expect("the evaluation has a result"), &observed.result) {
        (Ok(expect), Ok(value)) if expect == *value => {}
        // Of several failures, the first in time is reported.
        (Err(_), Err(failed)) if seen.failures.contains(failed) => {}
        (expect, result) => return Some(format!("result {result:?}, not {expect:?}")),
    }
    let sorted = |failures: &[Failed]| {
        let mut lines: Vec<String> = failures.iter().map(|f| format!("{} {}", f.node, f.kind)).collect();
        lines.sort();
        lines
    };
    let (failures, expect) = (sorted(&observed.failures), sorted(&seen.failures));
    (failures != expect).then(|| format!("failures {failures:?}, not {expect:?}"))
}

/// The suite's tasks, as a worker takes them.
fn definitions() -> Vec<TaskDef> {
    macro_rules! definition {
        ($($place:literal)*) => {
            [$(Handler::Async(entry::<$place>)),*]
        };
    }
    let handlers = definition!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17);
    assert_eq!(handlers.len(), tasks::NAMES.len(), "one handler for each task");
    let define = |(handler, name): (Handler, &&str)| TaskDef {
        name: TaskName::new(*name).expect("the suite's names are good"),
        params: &[],
        states: Vec::new(),
        options: Options::new(),
        handler,
        description: "a task of the suite",
    };
    handlers.into_iter().zip(tasks::NAMES).map(define).collect()
}

fn entry<const PLACE: usize>(context: TaskContext, arguments: Arguments) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        if let Some(error) = tasks::flaky(&context) {
            return Outcome::Failed(error);
        }
        let ledger = context.state::<Arc<Ledger>>().expect("the app has a ledger");
        ledger.note(context.task_id(), arguments.args().clone());
        let (args, kwargs) = (arguments.args().to::<Vec<Json>>(), arguments.kwargs().to::<Kwargs>());
        let (Ok(args), Ok(kwargs)) = (args, kwargs) else {
            return Outcome::Undecodable(format!("{arguments:?}"));
        };
        tasks::outcome(tasks::run(tasks::NAMES[PLACE], Call::Once, &args, &kwargs))
    })
}
