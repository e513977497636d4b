//! How a leaf is run: calling options, and what a task can say instead of a value.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use celeriac_dsl::{Ignore, Reject, Retry, State, TaskContext, chord, group, task, tasks};
use celeriac_primitives::{
    Canvas, Compression, Json, Options, Outcome, RetryPolicy, Signature, TaskError, TaskState,
};
use celeriac_runtime::{
    App, Apply, Coordinator, CoordinatorOptions, GetError, Handle, Worker, WorkerOptions,
};
use tokio::time::{Instant, sleep};

use crate::Subject;
use crate::bench::LEASE;

/// What the tasks of a case have noted, in order, each with when.
#[derive(Debug, Default)]
struct Calls(Mutex<Vec<(String, Instant)>>);

impl Calls {
    fn note(&self, what: impl Into<String>) {
        self.all().push((what.into(), Instant::now()));
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<(String, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> Vec<String> {
        self.all().iter().map(|(name, _)| name.clone()).collect()
    }
}

#[task(crate = celeriac_dsl, name = "life.add")]
async fn add(x: i64, y: i64, calls: State<Arc<Calls>>) -> i64 {
    calls.note(format!("add {x} {y}"));
    x + y
}

#[task(crate = celeriac_dsl, name = "life.sum")]
async fn sum(numbers: Vec<i64>, calls: State<Arc<Calls>>) -> i64 {
    calls.note("sum");
    numbers.into_iter().sum()
}

#[task(crate = celeriac_dsl, name = "life.count_some")]
async fn count_some(values: Vec<Option<i64>>) -> usize {
    values.into_iter().flatten().count()
}

/// Fails with this type of error until the attempt of this number.
#[task(crate = celeriac_dsl, name = "life.flaky")]
async fn flaky(
    kind: String,
    until: u32,
    ctx: TaskContext,
    calls: State<Arc<Calls>>,
) -> Result<u32, TaskError> {
    calls.note(format!("flaky {}", ctx.attempt()));
    if ctx.attempt() < until { Err(TaskError::new(kind, "not yet")) } else { Ok(ctx.attempt()) }
}

#[task(
    crate = celeriac_dsl,
    name = "life.declared",
    retry = RetryPolicy::new(2).on(["IOError"]),
    queue = "declared",
    time_limit = 5
)]
async fn declared(ctx: TaskContext) -> Result<u32, TaskError> {
    if ctx.attempt() < 3 { Err(TaskError::new("IOError", "not yet")) } else { Ok(ctx.attempt()) }
}

/// Asks to be run again with one less, until nothing is left.
#[task(crate = celeriac_dsl, name = "life.countdown")]
async fn count_down(
    left: u32,
    calls: State<Arc<Calls>>,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    calls.note(format!("left {left}"));
    match left {
        0 => Ok("lift-off".to_owned()),
        left => Err(Retry::after(Duration::from_millis(100)).with(&(left - 1,), &())?.into()),
    }
}

#[task(crate = celeriac_dsl, name = "life.again")]
async fn again(reason: Option<String>, calls: State<Arc<Calls>>) -> Result<i64, Retry> {
    calls.note("again");
    Err(match reason {
        Some(reason) => Retry::now().because(TaskError::new("BusyError", reason)).max_retries(1),
        None => Retry::now(),
    })
}

#[task(crate = celeriac_dsl, name = "life.reject")]
async fn reject() -> Result<i64, Reject> {
    Err(Reject::new("not my kind"))
}

#[task(crate = celeriac_dsl, name = "life.ignore")]
async fn ignore() -> Result<i64, Ignore> {
    Err(Ignore)
}

/// Sleeps, or stops when it is told to.
#[task(crate = celeriac_dsl, name = "life.sleep")]
async fn nap(ms: u64, ctx: TaskContext, calls: State<Arc<Calls>>) -> Result<String, TaskError> {
    calls.note("nap");
    tokio::select! {
        () = sleep(Duration::from_millis(ms)) => Ok("slept".to_owned()),
        () = ctx.cancellation().cancelled() => Err(TaskError::new("SoftTimeLimitExceeded", "woken")),
    }
}

#[task(crate = celeriac_dsl, name = "life.deaf")]
async fn deaf(ms: u64) -> String {
    sleep(Duration::from_millis(ms)).await;
    "slept".to_owned()
}

/// The same, and notes that it has begun.
#[task(crate = celeriac_dsl, name = "life.nap_deaf")]
async fn nap_deaf(ms: u64, calls: State<Arc<Calls>>) {
    calls.note("deaf");
    sleep(Duration::from_millis(ms)).await;
}

#[task(crate = celeriac_dsl, name = "life.errback")]
async fn errback(failure: celeriac_primitives::Failure, calls: State<Arc<Calls>>) {
    calls.note(format!("errback {}", failure.error));
}

type Request = (Option<String>, Option<i64>, u32);

#[task(crate = celeriac_dsl, name = "life.request")]
async fn request(ctx: TaskContext) -> Request {
    (ctx.header("tenant"), ctx.stamp("order"), ctx.retries())
}

#[task(crate = celeriac_dsl, name = "life.echo")]
async fn echo(text: String) -> String {
    text
}

/// Another one in its place.
#[task(crate = celeriac_dsl, name = "life.become")]
async fn become_request(ctx: TaskContext) -> Result<Request, TaskError> {
    ctx.replace(request.s(()))
}

#[task(crate = celeriac_dsl, name = "life.progress")]
async fn steps(count: u32, ctx: TaskContext) -> Result<u32, TaskError> {
    for step in 1..=count {
        ctx.update_state("PROGRESS", &(step, count))?;
        sleep(Duration::from_millis(300)).await;
    }
    Ok(count)
}

/// An app on the subject's backend, with a coordinator.
struct Life {
    app: App,
    calls: Arc<Calls>,
    _coordinator: Coordinator,
    workers: Vec<Worker>,
}

impl Life {
    fn without_worker(subject: &dyn Subject) -> Self {
        Self::with(subject, |builder| builder)
    }

    fn with(
        subject: &dyn Subject,
        change: impl FnOnce(celeriac_runtime::AppBuilder) -> celeriac_runtime::AppBuilder,
    ) -> Self {
        let calls = Arc::new(Calls::default());
        let mut all = tasks![add, sum, flaky, declared, count_down, again, reject, ignore];
        all.extend(tasks![count_some, nap, deaf, nap_deaf, errback, request, become_request, echo, steps]);
        let builder = App::builder("life").tasks(all).state(calls.clone());
        let app = change(builder).build().expect("the tasks fit together").on(subject.shared());
        let options = CoordinatorOptions { sweep_every: LEASE / 4, ..CoordinatorOptions::default() };
        let _coordinator = app.coordinator(options);
        Self { app, calls, _coordinator, workers: Vec::new() }
    }

    fn start(subject: &dyn Subject) -> Self {
        Self::without_worker(subject).working()
    }

    fn working(mut self) -> Self {
        self.workers.push(self.app.worker(WorkerOptions::default().lease(LEASE)));
        self
    }
}

async fn error<T: serde::de::DeserializeOwned + std::fmt::Debug>(run: &Handle<T>) -> TaskError {
    match run.get().await {
        Err(GetError::Failed(failure)) => failure.error,
        other => panic!("{other:?}"),
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A timer is not early, and hardly late: what a busy machine adds is allowed for.
#[track_caller]
fn in_time(start: Instant, due: Duration) {
    let took = start.elapsed();
    assert!(due <= took && took <= due + ms(4000), "{took:?}, not {due:?}");
}

pub async fn a_countdown_delays_its_leaf_and_no_other(subject: &dyn Subject) {
    let life = Life::start(subject);
    let start = Instant::now();
    let late = add.s((2, 2)).set(Options::new().with_countdown(ms(700)));
    let run = life.app.submit(chord([add.s((1, 1)), late], sum.s(()))).await.unwrap();
    assert_eq!(run.get().await.unwrap(), 6);
    in_time(start, ms(700));
    assert_eq!(life.calls.names(), ["add 1 1", "add 2 2", "sum"]);
    let times: Vec<Instant> = life.calls.all().iter().map(|(_, at)| *at).collect();
    assert!(times[1] - times[0] > ms(300), "the other member waited, too");
}

pub async fn an_eta_is_kept_and_one_that_is_past_delays_nothing(subject: &dyn Subject) {
    let life = Life::start(subject);
    let start = Instant::now();
    let past = Options::new().with_eta(SystemTime::now() - ms(10_000));
    assert_eq!(life.app.submit(add.s((1, 1)).set(past)).await.unwrap().get().await.unwrap(), 2);
    assert!(start.elapsed() < ms(5000));
    // By the clock of the backend, which was read after the start.
    let start = Instant::now();
    let at_ms = subject.backend().now().await.unwrap() + 600;
    let eta = SystemTime::UNIX_EPOCH + Duration::from_millis(at_ms);
    let run = life.app.submit(add.s((2, 2)).set(Options::new().with_eta(eta))).await.unwrap();
    assert_eq!(run.get().await.unwrap(), 4);
    in_time(start, ms(599));
}

pub async fn a_countdown_of_the_run_delays_what_starts_it(subject: &dyn Subject) {
    let life = Life::start(subject);
    let start = Instant::now();
    let run = (add.s((1, 1)) | add.s(2)).apply_async(&life.app).countdown(ms(1500)).await.unwrap();
    assert_eq!(run.get().await.unwrap(), 4);
    in_time(start, ms(1500));
    assert!(start.elapsed() < ms(3000), "the second step waited again");
}

pub async fn a_delayed_leaf_survives_its_coordinator_and_runs_once(subject: &dyn Subject) {
    let mut life = Life::start(subject);
    let start = Instant::now();
    let run = life.app.submit(add.s((1, 1)).set(Options::new().with_countdown(LEASE * 4))).await.unwrap();
    sleep(LEASE).await;
    life._coordinator = life.app.coordinator(CoordinatorOptions::default());
    assert_eq!(run.get().await.unwrap(), 2);
    in_time(start, LEASE * 4);
    sleep(LEASE).await;
    assert_eq!(life.calls.names().len(), 1);
}

pub async fn a_leaf_that_nobody_starts_in_time_expires(subject: &dyn Subject) {
    let life = Life::without_worker(subject);
    let errbacks = Canvas::from(Signature::new("life.errback").unwrap());
    let mut canvas =
        chord([add.s((1, 1)), add.s((2, 2)).set(Options::new().with_expires(ms(300)))], sum.s(()))
            .untyped()
            .unwrap();
    canvas.link_error(errbacks);
    let run = life.app.submit(canvas).await.unwrap();
    assert_eq!(error(&run).await, TaskError::new("TaskRevokedError", "expired"));
    let life = life.working();
    run.ended().await.unwrap();
    assert!(!life.calls.names().contains(&"add 2 2".to_owned()), "{:?}", life.calls.names());
    assert!(life.calls.names().contains(&"errback TaskRevokedError: expired".to_owned()));
    let states: Vec<TaskState> = run.nodes().await.unwrap().iter().map(|node| node.state).collect();
    assert!(states.contains(&TaskState::Revoked), "{states:?}");
}

pub async fn a_leaf_that_has_started_does_not_expire(subject: &dyn Subject) {
    let life = Life::start(subject);
    let run = life.app.submit(deaf.s(900).set(Options::new().with_expires(ms(400)))).await.unwrap();
    assert_eq!(run.get().await.unwrap(), "slept");
}

/// Where the store's clock is not the coordinator's, the leaf would be over before it is queued.
pub async fn when_a_leaf_expires_is_reckoned_by_the_clock_of_the_store(subject: &dyn Subject) {
    subject.pass(ms(1500)).await;
    let life = Life::start(subject);
    let run = life.app.submit(add.s((1, 2)).set(Options::new().with_expires(ms(1200)))).await.unwrap();
    assert_eq!(run.get().await.unwrap(), 3);
}

pub async fn an_expiry_of_the_run_holds_for_every_leaf(subject: &dyn Subject) {
    let life = Life::start(subject);
    let run = (deaf.s(800) | request.si(())).apply_async(&life.app).expires(ms(400)).await.unwrap();
    assert_eq!(error(&run).await, TaskError::new("TaskRevokedError", "expired"));
}

pub async fn a_route_and_a_declaration_choose_the_queue(subject: &dyn Subject) {
    let to = |queue: &str| Options::new().with_queue(queue).unwrap();
    let life = Life::with(subject, |app| app.route("life.a*", to("adders")).route("*", to("rest")));
    let canvas = group([add.s((1, 1)), add.s((2, 2)).set(to("own"))]);
    let plan = life.app.submission(canvas).compile().unwrap().plan().clone();
    let queues: Vec<_> = plan.nodes().map(|(node, _)| plan.queue(node).unwrap().to_string()).collect();
    assert_eq!(queues, ["adders", "own"]);
    let _workers =
        ["adders", "declared"].map(|queue| life.app.worker(WorkerOptions::default().queues([queue])));
    assert_eq!(life.app.submit(add.s((1, 2))).await.unwrap().get().await.unwrap(), 3);
    // Its declaration goes before the route, and says how often it may fail.
    assert_eq!(life.app.submit(declared.s(())).await.unwrap().get().await.unwrap(), 3);
    let run = add.s((1, 2)).apply_async(&life.app).queue("nobody").await.unwrap();
    assert!(matches!(run.get_timeout(ms(300)).await, Err(GetError::Timeout(_))));
}

pub async fn a_policy_runs_a_failed_leaf_again_and_its_chord_waits(subject: &dyn Subject) {
    let life = Life::start(subject);
    let policy = RetryPolicy::new(3).after(ms(200)).on(["IOError"]);
    let start = Instant::now();
    let often = flaky.s(("IOError".to_owned(), 3)).set(Options::new().with_retry(&policy));
    let canvas = Canvas::chord([often.untyped().unwrap()], sum.s(()).untyped().unwrap());
    let run = life.app.submit(canvas).await.unwrap();
    assert_eq!(run.get().await.unwrap().to_string(), "3");
    in_time(start, ms(400));
    assert_eq!(life.calls.names(), ["flaky 1", "flaky 2", "flaky 3", "sum"]);
}

pub async fn a_policy_ends_with_the_last_error_and_lets_other_errors_pass(subject: &dyn Subject) {
    let life = Life::start(subject);
    let policy = RetryPolicy::new(2).on(["IOError"]);
    let run = |kind: &str| flaky.s((kind.to_owned(), 9)).set(Options::new().with_retry(&policy));
    let lost = life.app.submit(run("IOError")).await.unwrap();
    assert_eq!(error(&lost).await, TaskError::new("IOError", "not yet"));
    assert_eq!(life.calls.names(), ["flaky 1", "flaky 2", "flaky 3"]);
    let wrong = life.app.submit(run("ValueError")).await.unwrap();
    assert_eq!(error(&wrong).await.kind, "ValueError");
    assert_eq!(life.calls.names().len(), 4);
}

pub async fn a_task_runs_again_later_with_other_arguments(subject: &dyn Subject) {
    let life = Life::start(subject);
    let start = Instant::now();
    let run = life.app.submit(count_down.s(3)).await.unwrap();
    assert_eq!(run.get().await.unwrap(), "lift-off");
    in_time(start, ms(300));
    assert_eq!(life.calls.names(), ["left 3", "left 2", "left 1", "left 0"]);
}

pub async fn a_task_that_always_asks_for_another_attempt_fails_in_the_end(subject: &dyn Subject) {
    let life = Life::start(subject);
    let run = life.app.submit(again.s(None)).await.unwrap();
    assert_eq!(error(&run).await.kind, "MaxRetriesExceededError");
    assert_eq!(life.calls.names().len(), 4);
    let run = life.app.submit(again.s(Some("busy".to_owned()))).await.unwrap();
    assert_eq!(error(&run).await, TaskError::new("BusyError", "busy"));
    assert_eq!(life.calls.names().len(), 6);
}

pub async fn a_rejected_leaf_fails_and_an_ignored_one_hands_null_on(subject: &dyn Subject) {
    let life = Life::start(subject);
    let policy = Options::new().with_retry(&RetryPolicy::forever());
    let run = life.app.submit(reject.s(()).set(policy)).await.unwrap();
    assert_eq!(error(&run).await, TaskError::new("Reject", "not my kind"));
    let header = [add.s((1, 1)), ignore.s(())].map(|member| member.untyped().unwrap());
    let run = life.app.submit(Canvas::chord(header, count_some.s(()).untyped().unwrap())).await.unwrap();
    assert_eq!(run.get().await.unwrap().to_string(), "1");
    let node = run.node_at("header[1]").unwrap();
    assert_eq!(run.outcome_of(node).await.unwrap(), Some(Outcome::Ignored));
}

pub async fn a_leaf_past_its_time_limit_is_cut_off(subject: &dyn Subject) {
    let life = Life::start(subject);
    let start = Instant::now();
    let run = life.app.submit(deaf.s(60_000).set(Options::new().with_time_limit(ms(300)))).await.unwrap();
    assert_eq!(error(&run).await, TaskError::new("TimeLimitExceeded", "ran longer than 300 ms"));
    in_time(start, ms(300));
}

pub async fn a_leaf_past_its_soft_time_limit_is_told_so(subject: &dyn Subject) {
    let life = Life::start(subject);
    let limit = Options::new().with_soft_time_limit(ms(200)).with_time_limit(ms(5000));
    let start = Instant::now();
    let run = life.app.submit(nap.s(60_000).set(limit)).await.unwrap();
    assert_eq!(error(&run).await.kind, "SoftTimeLimitExceeded");
    in_time(start, ms(200));
}

pub async fn a_leaf_that_is_acknowledged_early_runs_at_most_once(subject: &dyn Subject) {
    let life = Life::without_worker(subject);
    let once = add.s((1, 1)).set(Options::new().with_acks_late(false));
    let run = life.app.submit(group([once])).await.unwrap();
    let (lost, queues) = (crate::bench::worker("lost"), [celeriac_backends::DEFAULT_QUEUE.into()]);
    let taken = subject
        .backend()
        .receive(&lost, &queues, celeriac_backends::Take::new(1, LEASE).wait(ms(5000)))
        .await
        .unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(subject.backend().begin(&lost, &taken[0], true).await.unwrap(), celeriac_backends::Begin::Run);
    // Its worker is never heard of again.
    let life = life.working();
    assert_eq!(error(&run).await.kind, "WorkerLostError");
    assert!(life.calls.names().is_empty(), "{:?}", life.calls.names());
}

pub async fn a_leaf_that_is_acknowledged_early_and_was_only_held_runs(subject: &dyn Subject) {
    let life = Life::without_worker(subject);
    let run = life.app.submit(add.s((1, 1)).set(Options::new().with_acks_late(false))).await.unwrap();
    let (lost, queues) = (crate::bench::worker("lost"), [celeriac_backends::DEFAULT_QUEUE.into()]);
    let take = celeriac_backends::Take::new(1, LEASE).wait(ms(5000));
    assert_eq!(subject.backend().receive(&lost, &queues, take).await.unwrap().len(), 1);
    let _life = life.working();
    assert_eq!(run.get().await.unwrap(), 2);
}

pub async fn a_leaf_that_runs_at_most_once_is_lost_when_its_worker_cuts_it_off(subject: &dyn Subject) {
    let mut life = Life::start(subject);
    let once = nap_deaf.s(60_000).set(Options::new().with_acks_late(false));
    let run = life.app.submit(once).await.unwrap();
    let until = Instant::now() + ms(5000);
    while life.calls.names().is_empty() && Instant::now() < until {
        sleep(ms(20)).await;
    }
    assert_eq!(life.workers.remove(0).shutdown(Duration::ZERO).await, 1, "it was cut off");
    let life = life.working();
    assert_eq!(error(&run).await.kind, "WorkerLostError");
    assert_eq!(life.calls.names(), ["deaf"]);
}

pub async fn a_leaf_that_runs_at_most_once_is_lost_when_its_worker_stops_at_once(subject: &dyn Subject) {
    for stops_first in [false, true] {
        let mut life = Life::without_worker(subject);
        let worker = life.app.worker(WorkerOptions::default().concurrency(1).prefetch(1));
        let once = || nap_deaf.s(60_000).set(Options::new().with_acks_late(false));
        let begun = life.app.submit(once()).await.unwrap();
        let until = Instant::now() + ms(5000);
        while life.calls.names().is_empty() && Instant::now() < until {
            sleep(ms(20)).await;
        }
        // It is held, and has not begun.
        let waits = life.app.submit(add.s((1, 1)).set(Options::new().with_acks_late(false))).await.unwrap();
        sleep(ms(50)).await;
        let stopper = worker.stopper();
        let stop = async {
            if stops_first {
                // Somebody waits for its end already.
                sleep(ms(50)).await;
            }
            stopper.stop_at_once();
        };
        let start = Instant::now();
        let (cut_off, ()) = tokio::join!(worker.shutdown(ms(60_000)), stop);
        assert_eq!(cut_off, 1 + usize::from(!stops_first), "what waits was given back before");
        assert!(start.elapsed() < ms(10_000), "{:?}", start.elapsed());
        life.workers.push(life.app.worker(WorkerOptions::default()));
        assert_eq!(error(&begun).await.kind, "WorkerLostError");
        assert_eq!(waits.get().await.unwrap(), 2, "it had not begun");
        assert_eq!(life.calls.names(), ["deaf", "add 1 1"]);
        life.workers.remove(0).shutdown(ms(1000)).await;
    }
}

pub async fn leaves_that_a_worker_cuts_off_at_once_run_again_without_waiting_for_a_lease(
    subject: &dyn Subject,
) {
    let mut life = Life::without_worker(subject);
    let worker = life.app.worker(WorkerOptions::default().lease(ms(3_600_000)));
    let run = life.app.submit(nap_deaf.s(300)).await.unwrap();
    let until = Instant::now() + ms(5000);
    while life.calls.names().is_empty() && Instant::now() < until {
        sleep(ms(5)).await;
    }
    worker.stopper().stop_at_once();
    assert_eq!(worker.shutdown(ms(60_000)).await, 1);
    life.workers.push(life.app.worker(WorkerOptions::default()));
    run.get_timeout(ms(20_000)).await.unwrap();
    assert_eq!(life.calls.names(), ["deaf", "deaf"]);
}

pub async fn an_ignored_result_is_not_kept_unless_somebody_takes_it(subject: &dyn Subject) {
    let life = Life::start(subject);
    let quiet = || add.s((1, 1)).set(Options::new().with_ignore_result(true)).untyped().unwrap();
    let run = life.app.submit(quiet()).await.unwrap();
    assert_eq!(run.get().await.unwrap().to_string(), "null");
    let run = life.app.submit(quiet().then(add.s(2).untyped().unwrap())).await.unwrap();
    assert_eq!(run.get().await.unwrap().to_string(), "4");
}

pub async fn a_task_reads_its_headers_and_stamps(subject: &dyn Subject) {
    let life = Life::start(subject);
    let options = Options::new().with_header("tenant", &"acme").unwrap().with_stamp("order", &7).unwrap();
    let run = life.app.submit(request.s(()).set(options.with_shadow("audit"))).await.unwrap();
    assert_eq!(run.get().await.unwrap(), (Some("acme".to_owned()), Some(7), 0));
}

pub async fn progress_can_be_read_while_a_task_runs(subject: &dyn Subject) {
    let life = Life::start(subject);
    let run = life.app.submit(steps.s(4)).await.unwrap();
    let mut seen = Vec::new();
    let until = Instant::now() + ms(10_000);
    while !run.ready().await.unwrap() && Instant::now() < until {
        seen.extend(run.progress().await.unwrap());
        sleep(ms(50)).await;
    }
    assert_eq!(run.get().await.unwrap(), 4);
    let metas: Vec<String> = seen.iter().map(|report| report.meta.to_string()).collect();
    assert!(metas.contains(&"[2,4]".to_owned()), "{metas:?}");
    assert!(seen.iter().all(|report| report.state == "PROGRESS" && report.attempt == 1));
    assert!(run.progress().await.unwrap().is_empty(), "nothing runs any more");
}

pub async fn a_canvas_with_a_task_id_is_one_run_under_it(subject: &dyn Subject) {
    let life = Life::start(subject);
    let named = || add.s((1, 1)).set(Options::new().with_task_id("order-4711").unwrap());
    let (one, two) = (named().delay(&life.app).await.unwrap(), named().delay(&life.app).await.unwrap());
    assert_eq!(one.id(), two.id());
    assert_eq!(two.get().await.unwrap(), 2);
    let found = life.app.run_keyed::<i64>("order-4711").await.unwrap().expect("it is there");
    assert_eq!(found.get_json(None).await.unwrap(), Json::parse("2").unwrap());
    assert_eq!(life.calls.names().len(), 1);
}

pub async fn a_leaf_of_an_unknown_task_waits_for_a_worker_that_knows_it(subject: &dyn Subject) {
    let mut life = Life::without_worker(subject);
    let strangers = App::builder("strangers").build().unwrap().on(subject.shared());
    life.workers.push(strangers.worker(WorkerOptions::default()));
    let run = life.app.submit(add.s((1, 1))).await.unwrap();
    let until = Instant::now() + ms(5000);
    while run.progress().await.unwrap().is_empty() && Instant::now() < until {
        sleep(ms(20)).await;
    }
    assert_eq!(run.progress().await.unwrap()[0].state, "UNKNOWN");
    let life = life.working();
    assert_eq!(run.get().await.unwrap(), 2);
    assert_eq!(life.calls.names(), ["add 1 1"]);
}

pub async fn a_leaf_of_a_task_that_nobody_knows_fails_in_the_end(subject: &dyn Subject) {
    let mut life = Life::without_worker(subject);
    life.workers.push(life.app.worker(WorkerOptions::default().unknown_wait(ms(700))));
    let start = Instant::now();
    let mut canvas = Canvas::from(Signature::new("life.nobody").unwrap());
    canvas.link_error(errback.s(()).untyped().unwrap());
    let run = life.app.submit(canvas).await.unwrap();
    assert_eq!(error(&run).await.kind, "NotRegistered");
    in_time(start, ms(700));
    run.ended().await.unwrap();
    assert_eq!(life.calls.names().len(), 1);
}

pub async fn a_stamp_reaches_what_runs_in_the_place_of_a_task(subject: &dyn Subject) {
    let life = Life::start(subject);
    let run = life.app.submit((request.s(()) | become_request.si(())).stamp("order", 9)).await.unwrap();
    assert_eq!(run.get().await.unwrap(), (None, Some(9), 0));
}

pub async fn a_compressed_message_reaches_its_worker(subject: &dyn Subject) {
    let life = Life::start(subject);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let long = "x".repeat(20_000);
        let run =
            life.app.submit(echo.s(long.clone()).set(Options::new().with_compression(compression))).await;
        assert_eq!(run.unwrap().get().await.unwrap(), long);
    }
    let error = Options::new().set("compression", Json::string("bzip2")).unwrap_err();
    assert_eq!(error.to_string(), "option compression takes \"gzip\" or \"zstd\", not \"bzip2\"");
    let error = Options::new().set("serializer", Json::string("pickle")).unwrap_err();
    assert_eq!(error.to_string(), "option serializer takes \"json\" or \"msgpack\", not \"pickle\"");
}

pub async fn a_task_that_is_not_heard_of_fails_and_one_that_is_goes_on(subject: &dyn Subject) {
    let life = Life::start(subject);
    let beat = || Options::new().with_heartbeat(ms(400));
    let run = life.app.submit(deaf.s(60_000).set(beat())).await.unwrap();
    let error = error(&run).await;
    assert_eq!(error, TaskError::new("HeartbeatTimeout", "not heard of for 400 ms"));
    // It says how far it is every 300 ms, for more than twice the time.
    let run = life.app.submit(steps.s(4).set(beat())).await.unwrap();
    assert_eq!(run.get().await.unwrap(), 4);
}
