//! Where what a task asks for runs: what its tasks were declared with and where they are routed to, else where the leaf went.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use celeriac_dsl::{State, TaskContext, task, tasks};
use celeriac_engine::text;
use celeriac_primitives::{Json, NodeNo, Options, TaskError};
use celeriac_runtime::{App, AppBuilder, Coordinator, CoordinatorOptions, GetError, Worker, WorkerOptions};

use crate::Subject;

/// What ran where.
type Seen = Arc<Mutex<Vec<String>>>;

/// A worker's queue, and where it notes what it runs.
struct Place {
    queue: &'static str,
    seen: Seen,
}

impl Place {
    fn note(&self, task: &str) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{task}@{}", self.queue));
    }
}

#[task(crate = celeriac_dsl, name = "where.plain")]
async fn plain(place: State<Arc<Place>>) -> i64 {
    place.note("plain");
    1
}

#[task(crate = celeriac_dsl, name = "where.quick", queue = "quick", priority = 7)]
async fn quick(place: State<Arc<Place>>) -> i64 {
    place.note("quick");
    2
}

#[task(crate = celeriac_dsl, name = "where.each", queue = "quick")]
async fn each(number: i64, place: State<Arc<Place>>) -> i64 {
    place.note("each");
    number
}

#[task(crate = celeriac_dsl, name = "routed.task")]
async fn routed(place: State<Arc<Place>>) -> i64 {
    place.note("routed");
    3
}

#[task(crate = celeriac_dsl, name = "where.fail")]
async fn fail(place: State<Arc<Place>>) -> Result<i64, TaskError> {
    place.note("fail");
    Err(TaskError::new("ValueError", "boom"))
}

/// Lets this canvas run in its place.
#[task(crate = celeriac_dsl, name = "where.grow")]
async fn grow(canvas: String, ctx: TaskContext, place: State<Arc<Place>>) -> Result<Json, TaskError> {
    place.note("grow");
    let canvas = text::parse(&canvas).map_err(|error| TaskError::new("ValueError", error.to_string()))?;
    ctx.replace(canvas)?;
    unreachable!("asking for a canvas is an error for whoever asks")
}

/// Adds this canvas to its list.
#[task(crate = celeriac_dsl, name = "where.adds")]
async fn adds(canvas: String, ctx: TaskContext, place: State<Arc<Place>>) -> Result<i64, TaskError> {
    place.note("adds");
    let canvas = text::parse(&canvas).map_err(|error| TaskError::new("ValueError", error.to_string()))?;
    ctx.add_to_chord(canvas)?;
    Ok(0)
}

/// A coordinator that knows no tasks, and a worker for each queue.
struct Fleet {
    app: App,
    seen: Seen,
    _coordinator: Coordinator,
    _workers: Vec<Worker>,
}

fn builder(queue: &'static str, seen: &Seen) -> AppBuilder {
    let all = tasks![plain, quick, each, routed, fail, grow, adds];
    let to_routed = Options::new().with_queue("routed").expect("a good name");
    let place = Arc::new(Place { queue, seen: seen.clone() });
    App::builder("where").tasks(all).state(place).route("routed.*", to_routed)
}

impl Fleet {
    fn start(subject: &dyn Subject) -> Self {
        let seen = Seen::default();
        let strangers = App::builder("strangers").build().expect("it has no tasks").on(subject.shared());
        let _coordinator = strangers.coordinator(CoordinatorOptions::default());
        let app = |queue| builder(queue, &seen).build().expect("the tasks fit together").on(subject.shared());
        let worker = |queue| app(queue).worker(WorkerOptions::default().queues([queue]));
        let _workers = ["celery", "quick", "routed", "slow"].map(worker).into();
        Self { app: app("celery"), seen, _coordinator, _workers }
    }

    /// Runs a canvas to its end, and tells what ran where.
    async fn run(&self, canvas: &str) -> String {
        let run = self.app.submit(text::parse(canvas).expect(canvas)).await.expect(canvas);
        match run.get_json(None).await {
            Ok(_) | Err(GetError::Failed(_)) => {}
            Err(error) => panic!("{canvas}: {error}"),
        }
        run.ended().await.expect(canvas);
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        seen.sort();
        seen.join(" ")
    }
}

fn sorted(seen: String) -> String {
    let mut seen: Vec<&str> = seen.split(' ').collect();
    seen.sort_unstable();
    seen.join(" ")
}

/// The text of a leaf that lets this canvas run in its place.
fn grown(canvas: &str) -> String {
    format!("where.grow.s({})", Json::string(canvas))
}

pub async fn what_replaces_a_task_runs_where_its_own_tasks_are_declared_or_routed(subject: &dyn Subject) {
    let fleet = Fleet::start(subject);
    for (canvas, expect) in [
        ("where.quick.si()", "quick@quick"),
        ("routed.task.si()", "routed@routed"),
        ("where.plain.si() | where.quick.si()", "plain@celery quick@quick"),
        (
            "chord([where.plain.si(), where.quick.si()], routed.task.si())",
            "plain@celery quick@quick routed@routed",
        ),
        ("where.plain.si().link(where.quick.si())", "plain@celery quick@quick"),
        ("where.fail.si().link_error(where.quick.si())", "fail@celery quick@quick"),
        ("where.each.map([1, 2])", "each@quick each@quick"),
        ("where.each.chunks([(1,), (2,)], 1)", "each@quick each@quick"),
        ("where.quick.si().set(queue='routed')", "quick@routed"),
        ("group(where.quick.si(), where.plain.si()).set(queue='routed')", "plain@routed quick@routed"),
    ] {
        assert_eq!(fleet.run(&grown(canvas)).await, sorted(format!("grow@celery {expect}")), "{canvas}");
        assert_eq!(fleet.run(canvas).await, expect, "{canvas} by itself");
    }
}

pub async fn what_is_replaced_three_deep_runs_where_its_tasks_are_declared(subject: &dyn Subject) {
    let fleet = Fleet::start(subject);
    let canvas = grown(&grown(&grown("chord([where.quick.si()], routed.task.si())")));
    assert_eq!(fleet.run(&canvas).await, "grow@celery grow@celery grow@celery quick@quick routed@routed");
}

pub async fn what_a_task_adds_runs_where_its_tasks_are_declared_or_routed(subject: &dyn Subject) {
    let fleet = Fleet::start(subject);
    let adding = |canvas: &str| format!("chord([where.adds.s({})], routed.task.si())", Json::string(canvas));
    let expect = "adds@celery quick@quick routed@routed";
    assert_eq!(fleet.run(&adding("where.quick.si()")).await, expect);
    assert_eq!(
        fleet.run(&adding(&grown("where.quick.si()"))).await,
        "adds@celery grow@celery quick@quick routed@routed"
    );
}

pub async fn what_replaces_a_task_and_says_nothing_runs_where_the_task_did(subject: &dyn Subject) {
    let fleet = Fleet::start(subject);
    let slow = |canvas: &str| format!("{}.set(queue='slow')", grown(canvas));
    assert_eq!(fleet.run(&slow("where.plain.si()")).await, "grow@slow plain@slow");
    assert_eq!(
        fleet.run(&slow("where.quick.si() | where.plain.si()")).await,
        "grow@slow plain@slow quick@quick"
    );
    let deep = slow(&grown(&grown("where.plain.si()")));
    assert_eq!(fleet.run(&deep).await, "grow@slow grow@slow grow@slow plain@slow");
    let chord = slow("chord([where.plain.si(), where.quick.si()], where.plain.si())");
    assert_eq!(fleet.run(&chord).await, "grow@slow plain@slow plain@slow quick@quick");
}

pub async fn what_replaces_a_task_has_its_own_priority_or_that_of_the_task(subject: &dyn Subject) {
    let fleet = Fleet::start(subject);
    let canvas = format!("{}.set(priority=3)", grown("where.quick.si() | where.plain.si()"));
    let run = fleet.app.submit(text::parse(&canvas).unwrap()).await.unwrap();
    run.ended().await.unwrap();
    let (_, segment) = run.segments().await.unwrap().remove(0);
    let plan = segment.plan();
    let priority = |index| plan.options(NodeNo::from_index(index)).and_then(|options| options.priority);
    let tasks: BTreeMap<String, Option<u8>> = plan
        .nodes()
        .filter_map(|(node, _)| Some((plan.task(node)?.to_string(), priority(node.index()))))
        .collect();
    assert_eq!(tasks, BTreeMap::from([("where.quick".into(), Some(7)), ("where.plain".into(), Some(3))]));
}
