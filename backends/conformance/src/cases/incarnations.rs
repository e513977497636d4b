//! An id that is used again is another run: nothing that was sent, stored or kept for the one counts for the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use celeriac_backends::{
    Advance, Advanced, BackendError, DEFAULT_QUEUE, Delivery, Dispatch, ErrorKind, Event, Grown, NewRun,
    Origin, Progress, RunStatus, Submitted, Take,
};
use celeriac_dsl::{State, TaskContext, chord, task, tasks};
use celeriac_engine::{Plan, RunOutcome};
use celeriac_primitives::{
    Addition, Canvas, Completion, Incarnation, Item, Json, LeafOptions, Members, Outcome, Own, RunId, RunRef,
    Signature, TaskError, TaskMessage, When,
};
use celeriac_runtime::{App, CoordinatorOptions, GetError, Handle, WorkerOptions};
use tokio::sync::Notify;

use crate::Subject;
use crate::bench::{Bench, LEASE, SOON, events, json, run_id, settle_one, sig, sigs, ways_to_fail, worker};

/// A run that was forgotten, and another that has its id now.
struct Pair<'s> {
    gone: Bench<'s>,
    now: Bench<'s>,
}

/// The run with the id of this number that comes after the first.
fn next(number: u64) -> RunRef {
    run_id(number).id.incarnation(Incarnation::new(number + 1000))
}

fn compile(canvas: &Canvas) -> Arc<Plan> {
    Arc::new(Plan::compile(canvas).expect("the cases use good canvases"))
}

async fn submit(subject: &dyn Subject, run: RunRef, plan: Arc<Plan>) -> Bench<'_> {
    let submitted =
        subject.backend().submit(NewRun::new(run, plan.clone())).await.expect("a new run is accepted");
    assert_eq!(submitted, Submitted::Accepted);
    Bench { subject, run, plan }
}

/// Submits a run and queues its first leaves.
async fn queued<'s>(subject: &'s dyn Subject, canvas: &Canvas) -> Bench<'s> {
    let bench = submit(subject, run_id(1), compile(canvas)).await;
    bench.dispatch_outbox().await;
    bench
}

/// Forgets a run and submits the canvas again under its id.
async fn again<'s>(gone: Bench<'s>, canvas: &Canvas) -> Pair<'s> {
    assert!(gone.backend().forget(gone.run).await.unwrap());
    let now = submit(gone.subject, next(1), compile(canvas)).await;
    Pair { gone, now }
}

impl Pair<'_> {
    async fn status(&self) -> RunStatus {
        self.now.backend().status(self.now.run.id).await.unwrap().expect("the run is known")
    }

    /// Nothing has happened to the run that is there.
    #[track_caller]
    fn untouched(&self, before: RunStatus, after: RunStatus, what: &str) {
        assert_eq!((before, after.incarnation), (after, self.now.run.incarnation), "{what}");
    }

    /// What is settled for the run that is gone.
    async fn settle(&self, completions: impl IntoIterator<Item = Completion>) -> Advanced {
        settle_one(self.gone.backend(), Advance::new(self.gone.run, completions.into_iter().collect())).await
    }
}

/// Every way in which an attempt can end.
fn outcomes() -> Vec<Outcome> {
    let value = || json(1);
    let addition = Addition { own: Own::Value(value()), added: vec![Json::null()] };
    let mut all = vec![
        Outcome::Success(json(7)),
        Outcome::Ignored,
        Outcome::retry(TaskError::new("ValueError", "again")),
        Outcome::Replace(Json::null()),
        Outcome::Add(Box::new(addition)),
        Outcome::Members(Box::new(Members { value: value(), added: vec![Item::Value(value())] })),
    ];
    all.extend(ways_to_fail());
    all
}

pub async fn a_late_report_changes_nothing_in_the_run_that_has_the_id_now(subject: &dyn Subject) {
    let canvas = sig("a").then(sig("b"));
    let pair = again(queued(subject, &canvas).await, &canvas).await;
    for is_queued in [false, true] {
        if is_queued {
            pair.now.dispatch_outbox().await;
        }
        let before = pair.status().await;
        for outcome in outcomes() {
            let what = format!("{outcome:?}");
            assert_eq!(pair.settle([pair.gone.completion(0, outcome)]).await, Advanced::Unknown, "{what}");
            pair.untouched(before, pair.status().await, &what);
        }
    }
    assert_eq!(pair.now.settle([pair.now.success(0, 8)]).await.released, [pair.now.release(1)]);
    assert_eq!(pair.now.messages(&[pair.now.release(1)]).await[0].args.as_str(), "[8]");
}

/// The worker of the first run has its leaf in hand when the id is used again.
pub async fn a_worker_of_the_first_run_reports_late_to_nobody(subject: &dyn Subject) {
    let canvas = sig("a");
    let gone = queued(subject, &canvas).await;
    let held: Vec<Delivery> = gone.receive("w", 9).await;
    assert_eq!((held.len(), held[0].message.run()), (1, gone.run));
    let pair = again(gone, &canvas).await;
    pair.now.dispatch_outbox().await;
    let before = pair.status().await;
    let done = held[0].message.completion(Outcome::Success(Json::string("MONDAY")));
    subject.backend().finish(&[(held[0].id.clone(), done)]).await.unwrap();
    for event in events(subject).await {
        if let Event::Completed(completion) = event.event {
            assert_eq!(completion.run(), pair.gone.run);
            let advance =
                Advance { events: vec![event.id], ..Advance::new(completion.run(), vec![completion]) };
            assert_eq!(settle_one(subject.backend(), advance).await, Advanced::Unknown);
        }
        subject.backend().acknowledge(&[event.id]).await.unwrap();
    }
    pair.untouched(before, pair.status().await, "a late report");
    let taken = pair.now.receive("w", 9).await;
    assert_eq!((taken.len(), taken[0].message.run()), (1, pair.now.run));
    pair.now.settle([pair.now.success(0, 2)]).await;
    assert_eq!(pair.now.value().await.unwrap(), json(2));
}

pub async fn a_header_does_not_count_the_members_of_the_run_before(subject: &dyn Subject) {
    let canvas = Canvas::chord(sigs(&["a", "b", "c"]), sig("body"));
    let gone = queued(subject, &canvas).await;
    gone.settle([gone.success(0, 1)]).await;
    let pair = again(gone, &canvas).await;
    pair.now.dispatch_outbox().await;
    assert_eq!(pair.now.settle([pair.now.success(0, 10), pair.now.success(1, 20)]).await.released, []);
    for late in [0, 1, 2] {
        assert_eq!(pair.settle([pair.gone.success(late, 1)]).await, Advanced::Unknown);
    }
    assert_eq!(pair.now.settle([pair.now.success(2, 30)]).await.released, [pair.now.release(3)]);
    assert_eq!(pair.now.messages(&[pair.now.release(3)]).await[0].args.as_str(), "[[10,20,30]]");
}

pub async fn leaves_composed_for_the_first_run_are_not_queued_for_the_second(subject: &dyn Subject) {
    let canvas = sig("a").then(sig("b"));
    let gone = queued(subject, &canvas).await;
    gone.settle([gone.success(0, 1)]).await;
    let leaves: Vec<Dispatch> = gone.leaves(&[gone.release(1)]).await;
    let pair = again(gone, &canvas).await;
    pair.now.dispatch_outbox().await;
    pair.now.settle([pair.now.success(0, 2)]).await;
    assert_eq!(subject.backend().dispatch(pair.gone.run, &leaves).await.unwrap(), 0);
    assert!(subject.backend().outbox(pair.gone.run).await.unwrap().is_empty());
    assert_eq!(subject.backend().outbox(pair.now.run).await.unwrap(), [pair.now.release(1)]);
    let advance = Advance { prepared: leaves, ..Advance::new(pair.gone.run, vec![pair.gone.success(0, 1)]) };
    assert_eq!(settle_one(subject.backend(), advance).await, Advanced::Unknown);
    assert_eq!(pair.now.dispatch_outbox().await, 1);
    let taken = pair.now.receive("w", 9).await;
    let args: Vec<&str> = taken.iter().map(|delivery| delivery.message.args.as_str()).collect();
    assert_eq!(args, ["[]", "[2]"], "of the run that is there");
    assert!(taken.iter().all(|delivery| delivery.message.run() == pair.now.run));
}

pub async fn nothing_grows_in_a_run_that_is_gone(subject: &dyn Subject) {
    let canvas = sig("a");
    let gone = queued(subject, &canvas).await;
    let leaf = gone.run.task(gone.release(0).node);
    let RunRef { id: root, incarnation } = gone.run;
    let origin = Origin { leaf, attempt: 1, root, depth: 1, adds: false, incarnation };
    let segment = origin.segment().id;
    let noted = async |run, id| subject.backend().grow(run, id, 1, 100).await.unwrap();
    assert_eq!(noted(gone.run, segment).await, Grown::Noted);
    let pair = again(gone, &canvas).await;
    assert_eq!(noted(pair.gone.run, segment).await, Grown::Unknown);
    let new = NewRun { origin: Some(origin), ..NewRun::new(origin.segment(), compile(&sig("c"))) };
    let error = subject.backend().submit(new).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UnknownRun);
    assert!(subject.backend().status(segment).await.unwrap().is_none());
    assert!(subject.backend().segments(pair.now.run).await.unwrap().is_empty());
    // The same leaf of the run that is there grows into another one.
    let origin = Origin { incarnation: pair.now.run.incarnation, ..origin };
    assert_ne!(origin.segment().id, segment);
    assert_eq!(noted(pair.now.run, origin.segment().id).await, Grown::Noted);
    let new = NewRun { origin: Some(origin), ..NewRun::new(origin.segment(), compile(&sig("c"))) };
    assert_eq!(subject.backend().submit(new).await.unwrap(), Submitted::Accepted);
}

pub async fn a_segment_of_the_first_run_reports_to_nobody(subject: &dyn Subject) {
    let canvas = sig("a").then(sig("b"));
    let gone = queued(subject, &canvas).await;
    gone.settle([gone.completion(0, Outcome::Replace(Json::null()))]).await;
    let pair = again(gone, &canvas).await;
    pair.now.dispatch_outbox().await;
    pair.now.settle([pair.now.completion(0, Outcome::Replace(Json::null()))]).await;
    let before = pair.status().await;
    let report = |bench: &Bench<'_>, value| Completion { attempt: 2, ..bench.success(0, value) };
    assert_eq!(pair.settle([report(&pair.gone, 7)]).await, Advanced::Unknown);
    pair.untouched(before, pair.status().await, "a late segment");
    assert_eq!(pair.now.settle([report(&pair.now, 8)]).await.released, [pair.now.release(1)]);
}

pub async fn late_progress_is_told_to_nobody(subject: &dyn Subject) {
    let canvas = sig("a");
    let pair = again(queued(subject, &canvas).await, &canvas).await;
    let nodes = [pair.now.release(0).node];
    let report = |run: RunRef, state: &str| Progress {
        task_id: run.task(nodes[0]),
        attempt: 1,
        state: state.to_owned(),
        meta: Json::null(),
        incarnation: run.incarnation,
    };
    let [late, now] = [report(pair.gone.run, "LATE"), report(pair.now.run, "NOW")];
    let before = pair.status().await;
    subject.backend().note_progress(std::slice::from_ref(&late)).await.unwrap();
    pair.untouched(before, pair.status().await, "late progress");
    assert!(subject.backend().progress(pair.now.run, &nodes).await.unwrap().is_empty());
    subject.backend().note_progress(&[now.clone(), late]).await.unwrap();
    assert_eq!(subject.backend().progress(pair.now.run, &nodes).await.unwrap(), [now]);
    assert!(subject.backend().progress(pair.gone.run, &nodes).await.unwrap().is_empty());
}

/// Whoever holds on to the first run is told that it is not there, whatever the second has.
pub async fn a_reader_of_the_first_run_reads_nothing_of_the_second(subject: &dyn Subject) {
    let gone = queued(subject, &sig("a")).await;
    let pair = again(gone, &sig("b").then(sig("c"))).await;
    pair.now.dispatch_outbox().await;
    pair.now.settle([pair.now.success(0, 1)]).await;
    pair.now.dispatch_outbox().await;
    pair.now.settle([pair.now.success(1, 2)]).await;
    let (backend, run) = (subject.backend(), pair.gone.run);
    let nodes = [pair.now.release(0).node];
    assert!(backend.plan(run).await.unwrap().is_none());
    assert_eq!(backend.plan(pair.now.run).await.unwrap(), Some(pair.now.plan.clone()));
    assert_eq!(backend.find(run.id).await.unwrap(), Some((pair.now.run, pair.now.plan.clone())));
    assert!(backend.known(run, &nodes, &[]).await.unwrap().is_none());
    assert!(backend.phases(run).await.unwrap().is_none());
    assert!(backend.origin(run).await.unwrap().is_none());
    assert!(backend.changed(run, 0, SOON).await.unwrap().is_none());
    assert!(backend.decided(run, &nodes, SOON).await.unwrap().is_none());
    assert!(!backend.forget(run).await.unwrap(), "nor does it forget the second");
    assert_eq!(pair.status().await.outcome, RunOutcome::Succeeded);
    assert_eq!(backend.list(None, 9).await.unwrap(), [run.id]);
}

/// It is not the second run that is waited for.
pub async fn whoever_waits_for_a_run_is_told_when_its_id_is_used_again(subject: &dyn Subject) {
    let canvas = sig("a");
    let gone = queued(subject, &canvas).await;
    let (backend, run, long) = (subject.backend(), gone.run, Duration::from_secs(20));
    let version = backend.status(run.id).await.unwrap().unwrap().version;
    let (changed, decided, pair) =
        tokio::join!(backend.changed(run, version, long), backend.decided(run, &[], long), async {
            subject.pass(SOON).await;
            again(gone, &canvas).await
        });
    assert!(changed.unwrap().is_none() && decided.unwrap().is_none());
    assert_eq!(pair.status().await.outcome, RunOutcome::Undecided);
}

pub async fn a_submission_that_finds_its_run_is_told_which(subject: &dyn Subject) {
    let plan = compile(&sig("a"));
    let one = submit(subject, run_id(1), plan.clone()).await;
    let new = || NewRun::new(next(1), plan.clone());
    assert_eq!(subject.backend().submit(new()).await.unwrap(), Submitted::Existing(one.run));
    assert!(subject.backend().forget(one.run).await.unwrap());
    assert_eq!(subject.backend().submit(new()).await.unwrap(), Submitted::Accepted);
    assert_eq!(subject.backend().find(one.run.id).await.unwrap().unwrap().0, next(1));
}

/// Forgetting comes twice, or late.
pub async fn forgetting_the_first_run_again_leaves_the_second_where_it_is(subject: &dyn Subject) {
    let plan = compile(&sig("a"));
    let backend = subject.backend();
    let retention = Some(Duration::from_millis(200));
    backend.submit(NewRun { retention, ..NewRun::new(run_id(1), plan.clone()) }).await.unwrap();
    let gone = Bench { subject, run: run_id(1), plan: plan.clone() };
    gone.dispatch_outbox().await;
    gone.settle([gone.success(0, 1)]).await;
    let pair = again(gone, &sig("a")).await;
    assert!(!backend.forget(pair.gone.run).await.unwrap());
    subject.pass(Duration::from_millis(300)).await;
    assert_eq!(backend.sweep(5).await.unwrap().forgotten, 0);
    assert_eq!(backend.list(None, 9).await.unwrap(), [pair.now.run.id]);
    assert_eq!(backend.owing(9).await.unwrap(), [pair.now.run]);
    assert_eq!(pair.now.dispatch_outbox().await, 1);
}

/// A leaf with a timer.
fn timed(countdown_ms: Option<u64>, expires_ms: Option<u64>) -> LeafOptions {
    let expires = expires_ms.map(When::At);
    LeafOptions { start: countdown_ms.map(When::After), expires, ..LeafOptions::default() }
}

/// Queues the leaves of a run with these options.
async fn dispatch_timed(bench: &Bench<'_>, options: LeafOptions) {
    let outbox = bench.backend().outbox(bench.run).await.unwrap();
    let start = options.start;
    let options = Some(Arc::new(options));
    let leaves = bench.leaves(&outbox).await.into_iter().map(|leaf| {
        let message = TaskMessage { options: options.clone(), ..TaskMessage::clone(&leaf.message) };
        Dispatch { message: Arc::new(message), start, ..leaf }
    });
    bench.backend().dispatch(bench.run, &leaves.collect::<Vec<_>>()).await.unwrap();
}

pub async fn a_countdown_of_a_forgotten_run_starts_nothing(subject: &dyn Subject) {
    let canvas = Canvas::group(sigs(&["a", "b", "c"]));
    let gone = submit(subject, run_id(1), compile(&canvas)).await;
    dispatch_timed(&gone, timed(Some(200), None)).await;
    let pair = again(gone, &canvas).await;
    subject.pass(Duration::from_millis(300)).await;
    subject.backend().fire().await.unwrap();
    assert!(pair.now.receive("w", 9).await.is_empty());
    // The same of the run that is there starts.
    dispatch_timed(&pair.now, timed(Some(200), None)).await;
    subject.pass(Duration::from_millis(300)).await;
    subject.backend().fire().await.unwrap();
    let taken = pair.now.receive("w", 9).await;
    assert_eq!(taken.len(), 3);
    assert!(taken.iter().all(|delivery| delivery.message.run() == pair.now.run));
}

pub async fn an_expiry_of_a_forgotten_run_reports_nothing(subject: &dyn Subject) {
    let canvas = sig("a");
    let gone = submit(subject, run_id(1), compile(&canvas)).await;
    let expires_ms = subject.backend().now().await.unwrap() + 200;
    dispatch_timed(&gone, timed(None, Some(expires_ms))).await;
    crate::bench::clear_events(subject).await;
    let pair = again(gone, &canvas).await;
    crate::bench::clear_events(subject).await;
    subject.pass(Duration::from_millis(300)).await;
    subject.backend().fire().await.unwrap();
    assert!(events(subject).await.is_empty());
    assert_eq!(pair.now.dispatch_outbox().await, 1);
    assert_eq!(pair.now.receive("w", 9).await.len(), 1, "and no leaf of the first is there");
}

pub async fn thousands_of_leaves_of_a_forgotten_run_are_taken_by_nobody(subject: &dyn Subject) {
    let wide = Canvas::group((0..2500).map(|_| sig("a")));
    let gone = queued(subject, &wide).await;
    let other = submit(subject, run_id(2), compile(&Canvas::group(sigs(&["b", "c"])))).await;
    other.dispatch_outbox().await;
    assert_eq!(gone.receive("v", 100).await.len(), 100);
    let pair = again(gone, &sig("a")).await;
    pair.now.dispatch_outbox().await;
    let mut taken = Vec::new();
    for _ in 0..20 {
        taken.extend(pair.now.receive("w", 1).await);
    }
    let runs: Vec<RunRef> = taken.iter().map(|delivery| delivery.message.run()).collect();
    assert_eq!(runs, [other.run, other.run, pair.now.run], "all that follows comes");
}

pub async fn a_leaf_of_a_forgotten_run_does_not_come_again(subject: &dyn Subject) {
    let gone = queued(subject, &Canvas::group(sigs(&["a", "b", "c", "d"]))).await;
    let held = gone.receive("v", 4).await;
    let backend = subject.backend();
    assert!(backend.forget(gone.run).await.unwrap());
    // One is given back, one is postponed, one is finished, and one is with a worker that dies.
    backend.hand_back(&worker("v"), &[held[0].id.clone()]).await.unwrap();
    let later = Duration::from_millis(1);
    backend.postpone(&worker("v"), &held[1].id, held[1].message.clone(), later).await.unwrap();
    backend.finish(&[(held[2].id.clone(), held[2].message.completion(Outcome::Ignored))]).await.unwrap();
    for _ in 0..3 {
        subject.pass(2 * LEASE).await;
        backend.sweep(5).await.unwrap();
        backend.fire().await.unwrap();
        assert!(gone.receive("w", 9).await.is_empty());
    }
}

pub async fn a_forgotten_run_takes_the_leaves_of_its_segments_along(subject: &dyn Subject) {
    let gone = queued(subject, &sig("a")).await;
    gone.receive("w", 1).await;
    gone.settle([gone.completion(0, Outcome::Replace(Json::null()))]).await;
    let leaf = gone.run.task(gone.release(0).node);
    let RunRef { id: root, incarnation } = gone.run;
    let origin = Origin { leaf, attempt: 1, root, depth: 1, adds: false, incarnation };
    let backend = subject.backend();
    assert_eq!(backend.grow(gone.run, origin.segment().id, 2, 100).await.unwrap(), Grown::Noted);
    let elsewhere =
        Signature::new("d").unwrap().set(&celeriac_primitives::Options::new().with_queue("other").unwrap());
    let plan = compile(&Canvas::group([sig("c"), elsewhere.into()]));
    backend
        .submit(NewRun { origin: Some(origin), ..NewRun::new(origin.segment(), plan.clone()) })
        .await
        .unwrap();
    let segment = Bench { subject, run: origin.segment(), plan };
    assert_eq!(segment.dispatch_outbox().await, 2);
    assert!(backend.forget(gone.run).await.unwrap());
    for queue in [DEFAULT_QUEUE, "other"] {
        let taken = backend.receive(&worker("w"), &[queue.into()], Take::new(9, LEASE).wait(SOON)).await;
        assert!(taken.unwrap().is_empty(), "{queue}");
    }
}

// Whole runs: a key that is used again, with coordinators and workers.

/// Lets calls wait, and counts them.
#[derive(Debug, Default)]
struct Gate {
    open: Notify,
    began: AtomicUsize,
}

#[task(crate = celeriac_dsl, name = "incarnations.day")]
async fn day(
    name: String,
    waits: bool,
    gate: State<Arc<Gate>>,
    ctx: TaskContext,
) -> Result<String, TaskError> {
    gate.began.fetch_add(1, Ordering::SeqCst);
    if waits {
        gate.open.notified().await;
    }
    let _ = ctx.update_state("DAY", &name);
    Ok(name)
}

#[task(crate = celeriac_dsl, name = "incarnations.both")]
async fn both(days: Vec<String>) -> String {
    days.join(" ")
}

async fn unknown<T>(what: &str, answer: Result<T, BackendError>) {
    match answer {
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::UnknownRun, "{what}");
            assert!(error.to_string().contains("another run"), "{what}: {error}");
        }
        Ok(_) => panic!("{what} is of another run"),
    }
}

pub async fn a_key_used_again_yields_the_value_of_its_own_run(subject: &dyn Subject) {
    let gate = Arc::new(Gate::default());
    let all = tasks![day, both];
    let app = App::builder("days").tasks(all).state(gate.clone()).build().unwrap().on(subject.shared());
    let options = CoordinatorOptions { sweep_every: LEASE / 4, ..CoordinatorOptions::default() };
    let _coordinator = app.coordinator(options);
    let _worker = app.worker(WorkerOptions::default().lease(LEASE));
    let canvas = |name: &str, waits| {
        let days = [day.s((name.to_owned(), waits)), day.s((name.to_owned(), waits))];
        chord(days, both.s(()))
    };
    let monday: Handle<String> = app.submission(canvas("MONDAY", true)).key("order-4711").await.unwrap();
    while gate.began.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let old = monday.clone();
    monday.forget().await.unwrap();
    let tuesday: Handle<String> = app.submission(canvas("TUESDAY", false)).key("order-4711").await.unwrap();
    gate.open.notify_waiters();
    assert_eq!(tuesday.get().await.unwrap(), "TUESDAY TUESDAY");
    tuesday.ended().await.unwrap();
    assert_eq!((old.id(), old.run() == tuesday.run()), (tuesday.id(), false));
    unknown("status", old.status().await).await;
    unknown("state", old.state().await).await;
    unknown("ready", old.ready().await).await;
    unknown("ended", old.ended().await).await;
    unknown("nodes", old.nodes().await).await;
    unknown("tree", old.tree().await).await;
    unknown("progress", old.progress().await).await;
    unknown("changed", old.changed(0, SOON).await).await;
    let node = old.node_at("header[0]").expect("it has a header");
    unknown("outcome_of", old.outcome_of(node).await).await;
    unknown("retry_of", old.retry_of(node).await).await;
    match old.get().await {
        Err(GetError::Backend(error)) => unknown::<()>("get", Err(error)).await,
        other => panic!("{other:?}"),
    }
    unknown("segments", old.segments().await).await;
    old.forget().await.unwrap();
    assert_eq!(tuesday.get().await.unwrap(), "TUESDAY TUESDAY", "nor was it forgotten");
    let found: Handle<String> = app.run_keyed("order-4711").await.unwrap().expect("it is there");
    assert_eq!((found.run(), found.get().await.unwrap().as_str()), (tuesday.run(), "TUESDAY TUESDAY"));
}

/// A client that has the first run's plan at hand.
pub async fn a_client_with_the_first_plan_at_hand_reads_the_second_run(subject: &dyn Subject) {
    let gate = Arc::new(Gate::default());
    let all = || tasks![day, both];
    let app = App::builder("days").tasks(all()).state(gate).build().unwrap().on(subject.shared());
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default());
    let id = RunId::from_key("order-4712");
    let list = |names: &[&str]| {
        Canvas::group(names.iter().map(|name| {
            let signature = Signature::new("incarnations.day").unwrap().arg(name).unwrap();
            Canvas::from(signature.arg(false).unwrap())
        }))
    };
    let monday: Handle<serde_json::Value> = app.run_as(id, list(&["MO", "DI"])).await;
    assert_eq!(monday.get_json(None).await.unwrap().as_str(), r#"["MO","DI"]"#);
    monday.forget().await.unwrap();
    let tuesday: Handle<serde_json::Value> = app.run_as(id, list(&["DO"])).await;
    assert_eq!(tuesday.get_json(None).await.unwrap().as_str(), r#"["DO"]"#);
    let found: Handle<Vec<String>> = app.run(id).await.unwrap().expect("it is there");
    assert_eq!(found.get().await.unwrap(), ["DO"]);
}

/// Submitting a canvas as data.
trait RunAs {
    async fn run_as(&self, id: RunId, canvas: Canvas) -> Handle<serde_json::Value>;
}

impl RunAs for App {
    async fn run_as(&self, id: RunId, canvas: Canvas) -> Handle<serde_json::Value> {
        self.submission(canvas).id(id).await.expect("the canvas is accepted")
    }
}
