//! Where what a task asks for runs: what its tasks were declared with and where they are routed to, else where the leaf went.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use celeriac_dsl::{IntoCanvas, State, TaskContext, TaskDef, group, task, tasks};
use celeriac_engine::text;
use celeriac_primitives::{Json, NodeNo, Options, TaskError, TaskName};
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

/// Lets typed signatures run in its place, of tasks that its worker need not have.
#[task(crate = celeriac_dsl, name = "where.types")]
async fn types(ctx: TaskContext, place: State<Arc<Place>>) -> Result<Vec<i64>, TaskError> {
    place.note("types");
    ctx.replace(group([quick.si(()), plain.si(())]) | collected.s(()))
}

#[task(crate = celeriac_dsl, name = "where.adds_typed")]
async fn adds_typed(ctx: TaskContext, place: State<Arc<Place>>) -> Result<i64, TaskError> {
    place.note("adds_typed");
    ctx.add_to_chord(quick.si(()))?;
    Ok(0)
}

#[task(crate = celeriac_dsl, name = "where.collected", queue = "routed")]
async fn collected(numbers: Vec<i64>, place: State<Arc<Place>>) -> Vec<i64> {
    place.note("collected");
    numbers
}

/// A fleet in which each worker has only the tasks that are declared for its queue, and a client that has none.
fn apart(subject: &dyn Subject) -> Fleet {
    let seen = Seen::default();
    let app = |queue: &'static str, tasks: Vec<TaskDef>| {
        let place = Arc::new(Place { queue, seen: seen.clone() });
        let app = App::builder("apart").tasks(tasks).state(place).build();
        app.expect("the tasks fit together").on(subject.shared())
    };
    let client = app("nowhere", Vec::new());
    let worker = |queue, tasks| app(queue, tasks).worker(WorkerOptions::default().queues([queue]));
    let _workers = vec![
        worker("celery", tasks![plain, types, adds_typed]),
        worker("quick", tasks![quick, each]),
        worker("routed", tasks![collected]),
    ];
    let _coordinator = client.coordinator(CoordinatorOptions::default());
    Fleet { app: client, seen, _coordinator, _workers }
}

impl Fleet {
    /// Submits typed signatures to an app that has none of their tasks, and tells what ran where.
    async fn run_typed<C: IntoCanvas>(&self, canvas: C) -> String
    where
        C::Output: Debug,
    {
        let run = self.app.submit(canvas).await.expect("it is a good canvas");
        run.get().await.expect("it succeeds");
        run.ended().await.expect("it is known");
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        seen.sort();
        seen.join(" ")
    }
}

pub async fn a_typed_signature_runs_where_its_task_is_declared_wherever_it_is_submitted(
    subject: &dyn Subject,
) {
    let fleet = apart(subject);
    assert_eq!(fleet.run_typed(quick.s(())).await, "quick@quick");
    assert_eq!(fleet.run_typed(plain.s(())).await, "plain@celery");
    assert_eq!(fleet.run_typed(each.map([1, 2])).await, "each@quick each@quick");
    assert_eq!(fleet.run_typed(each.chunks([(1,), (2,)], 1)).await, "each@quick each@quick");
    let chord = group([quick.si(()), plain.si(())]) | collected.s(());
    assert_eq!(fleet.run_typed(chord).await, "collected@routed plain@celery quick@quick");
    let linked = plain.si(()).link(quick.si(())).finally(quick.si(()));
    assert_eq!(fleet.run_typed(linked).await, "plain@celery quick@quick quick@quick");
    // What is said of the leaf itself counts first, and by its name alone nobody knows.
    let to_quick = Options::new().with_queue("quick").expect("a good name");
    assert_eq!(fleet.run_typed(each.s(1).set(to_quick)).await, "each@quick");
    let by_name = text::parse("where.quick.si()").expect("a good canvas");
    let compiled = fleet.app.submission(by_name).compile().expect("a good canvas");
    assert_eq!(compiled.unplaced().iter().map(TaskName::as_str).collect::<Vec<_>>(), ["where.quick"]);
    let compiled = fleet.app.submission(quick.s(()) | plain.si(())).compile().expect("a good canvas");
    assert!(compiled.unplaced().is_empty());
    let plan = compiled.plan();
    assert_eq!(plan.options(NodeNo::from_index(0)).and_then(|options| options.priority), Some(7));
}

pub async fn a_typed_signature_that_replaces_a_task_runs_where_its_own_task_is_declared(
    subject: &dyn Subject,
) {
    let fleet = apart(subject);
    let expect = "collected@routed plain@celery quick@quick types@celery";
    assert_eq!(fleet.run_typed(types.s(())).await, expect);
    let expect = "adds_typed@celery collected@routed quick@quick";
    assert_eq!(fleet.run_typed(group([adds_typed.s(())]) | collected.s(())).await, expect);
}
