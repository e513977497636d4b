//! Values and arguments that are large: they reach whoever takes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use celeriac_backends::NewRun;
use celeriac_dsl::{Retry, State, TaskContext, chord, group, task, tasks};
use celeriac_engine::{Plan, RunOutcome};
use celeriac_primitives::{
    Canvas, Entry, Failure, Json, Limits, NodeNo, Options, Outcome, RunRef, Signature, Stored, TaskError,
};
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, GetError, Handle, Worker, WorkerOptions};
use futures::StreamExt;
use tokio::time::Instant;
use uuid::Uuid;

use crate::Subject;
use crate::bench::{Bench, LEASE, run_id, sig};

/// Larger than what any backend carries in messages and reports, and than two pieces of a text.
const LARGE: usize = 1_200_000;

#[derive(Debug, Default)]
pub(super) struct Calls(pub(super) AtomicUsize);

/// A text that has so many bytes as JSON; some of its characters have several.
fn text_of(bytes: usize) -> String {
    let mut text = "ü€x".repeat(bytes / 6);
    while text.len() + 2 > bytes {
        text.pop();
    }
    text.push_str(&"y".repeat(bytes.saturating_sub(2 + text.len())));
    text
}

#[task(crate = celeriac_dsl, name = "large.make")]
async fn make(bytes: usize, calls: State<Arc<Calls>>) -> String {
    calls.0.fetch_add(1, Ordering::SeqCst);
    text_of(bytes)
}

#[task(crate = celeriac_dsl, name = "large.echo")]
async fn echo(text: String) -> String {
    text
}

/// How many bytes it was called with; what was made is what came.
#[task(crate = celeriac_dsl, name = "large.measure")]
pub(super) async fn measure(text: String) -> Result<usize, TaskError> {
    let bytes = Json::string(&text).as_str().len();
    if text == text_of(bytes) { Ok(bytes) } else { Err(TaskError::new("Broken", "the text came broken")) }
}

#[task(crate = celeriac_dsl, name = "large.join")]
async fn join(first: String, second: String, third: String) -> String {
    first + &second + &third
}

#[task(crate = celeriac_dsl, name = "large.lengths")]
async fn lengths(texts: Vec<String>) -> Vec<usize> {
    texts.iter().map(|text| Json::string(text).as_str().len()).collect()
}

#[task(crate = celeriac_dsl, name = "large.entries")]
async fn entries(all: Vec<Entry<String>>) -> Vec<usize> {
    all.iter().map(|entry| entry.ok().map_or(0, |text| Json::string(text).as_str().len())).collect()
}

#[task(crate = celeriac_dsl, name = "large.boom")]
async fn fails(bytes: usize) -> Result<String, TaskError> {
    let text = "x".repeat(bytes);
    Err(TaskError { causes: vec![text.clone(), text.clone()], ..TaskError::new("ValueError", text) })
}

#[task(crate = celeriac_dsl, name = "large.errback")]
async fn errback(failure: Failure, calls: State<Arc<Calls>>) {
    calls.0.fetch_add(failure.error.message.len(), Ordering::SeqCst);
}

/// Runs again with a text of so many bytes, then measures it.
#[task(crate = celeriac_dsl, name = "large.again")]
async fn again(
    bytes: usize,
    text: Option<String>,
    ctx: TaskContext,
) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
    match text {
        Some(text) => Ok(Json::string(&text).as_str().len() + ctx.attempt() as usize),
        None => Err(Retry::now().with(&(bytes,), &BTreeMap::from([("text", text_of(bytes))]))?.into()),
    }
}

#[task(crate = celeriac_dsl, name = "large.become")]
async fn becomes(bytes: usize, ctx: TaskContext) -> Result<String, TaskError> {
    ctx.replace(make.s((bytes,)) | echo.s(()))
}

#[task(crate = celeriac_dsl, name = "large.become_list")]
async fn becomes_list(bytes: usize, ctx: TaskContext) -> Result<Vec<String>, TaskError> {
    ctx.replace(group([make.s((bytes,)), make.s((10,)), make.s((bytes,))]))
}

/// Adds two, one of them large.
#[task(crate = celeriac_dsl, name = "large.add")]
async fn adds(own: usize, other: usize, ctx: TaskContext) -> Result<String, TaskError> {
    ctx.add_to_chord(make.s((other,)))?;
    ctx.add_to_chord(make.s((10,)))?;
    Ok(text_of(own))
}

#[task(crate = celeriac_dsl, name = "large.add_many")]
async fn adds_many(own: usize, count: usize, ctx: TaskContext) -> Result<String, TaskError> {
    for _ in 0..count {
        ctx.add_to_chord(make.s((3,)))?;
    }
    Ok(text_of(own))
}

#[task(crate = celeriac_dsl, name = "large.wide")]
async fn wide(count: usize, ctx: TaskContext) -> Result<Vec<String>, TaskError> {
    ctx.replace(group((0..count).map(|_| make.s((3,))).collect::<Vec<_>>()))
}

#[task(crate = celeriac_dsl, name = "large.number")]
async fn same(number: usize) -> usize {
    number
}

/// Has a leaf in its place whose header has so many bytes.
#[task(crate = celeriac_dsl, name = "large.headed")]
async fn headed(bytes: usize, ctx: TaskContext) -> Result<String, TaskError> {
    let options = Options::new().with_header("h", &"x".repeat(bytes)).expect("a text has a JSON form");
    ctx.replace(make.s((3,)).set(options))
}

#[task(crate = celeriac_dsl, name = "large.says")]
pub(super) async fn says(bytes: usize, ctx: TaskContext) -> Result<String, TaskError> {
    ctx.update_state("PROGRESS", &"x".repeat(bytes))?;
    ctx.cancellation().cancelled().await;
    Ok("stopped".to_owned())
}

/// How many ran at the same time at most.
#[derive(Debug, Default)]
struct Crowd(AtomicUsize, AtomicUsize);

#[task(crate = celeriac_dsl, name = "large.crowd")]
async fn crowd(text: String, at_once: State<Arc<Crowd>>) -> usize {
    let now = at_once.0.fetch_add(1, Ordering::SeqCst) + 1;
    at_once.1.fetch_max(now, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(30)).await;
    at_once.0.fetch_sub(1, Ordering::SeqCst);
    text.len()
}

/// An app on the subject's backend, with a coordinator and a worker.
pub(super) struct House {
    pub(super) app: App,
    pub(super) calls: Arc<Calls>,
    crowd: Arc<Crowd>,
    _coordinator: Coordinator,
    _worker: Worker,
}

impl House {
    pub(super) fn start(subject: &dyn Subject) -> Self {
        Self::within(subject, Limits::default(), WorkerOptions::default())
    }

    pub(super) fn within(subject: &dyn Subject, limits: Limits, options: WorkerOptions) -> Self {
        let (calls, crowd_of) = (Arc::new(Calls::default()), Arc::new(Crowd::default()));
        let mut all = tasks![make, echo, join, measure, lengths, entries, fails, errback, again, becomes];
        all.extend(tasks![becomes_list, adds, adds_many, wide, headed, same, says, crowd]);
        let builder = App::builder("large").tasks(all).state(calls.clone()).state(crowd_of.clone());
        let app = builder.limits(limits).build().expect("the tasks fit together").on(subject.shared());
        let _coordinator = app.coordinator(CoordinatorOptions::default());
        let _worker = app.worker(options.lease(LEASE * 10));
        Self { app, calls, crowd: crowd_of, _coordinator, _worker }
    }

    pub(super) async fn value(&self, canvas: impl Into<Canvas>) -> String {
        let run = self.app.submit(canvas.into()).await.expect("it is accepted");
        run.get_json(Some(Duration::from_secs(60))).await.expect("it succeeds").to_string()
    }

    /// The error of a canvas that fails within seconds, and without having been tried again.
    pub(super) async fn error(&self, canvas: impl Into<Canvas>) -> TaskError {
        let start = Instant::now();
        let run = self.app.submit(canvas.into()).await.expect("it is accepted");
        let error = error(&run).await;
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        error
    }
}

async fn error<T: serde::de::DeserializeOwned + std::fmt::Debug>(run: &Handle<T>) -> TaskError {
    match run.get_timeout(Duration::from_secs(60)).await {
        Err(GetError::Failed(failure)) => failure.error,
        other => panic!("{other:?}"),
    }
}

pub(super) fn call(task: &str, args: &[Json]) -> Canvas {
    let mut signature = Signature::new(task).expect("the cases use good names");
    signature.args = args.to_vec();
    signature.into()
}

pub(super) fn number(number: usize) -> Json {
    Json::new(&number).expect("numbers have a JSON form")
}

fn stored(run: RunRef, number: u128, bytes: usize) -> Stored {
    Stored { run, name: Uuid::from_u128(number), bytes: bytes as u64, of_plan: false }
}

async fn fetched(subject: &dyn Subject, value: &Stored) -> Option<String> {
    let mut out = b"before".to_vec();
    let is_there = subject.backend().fetch(value, &mut out).await.expect("fetching works");
    let text = String::from_utf8(out).expect("a text");
    let text = text.strip_prefix("before").expect("what was there stays");
    assert!(is_there || text.is_empty(), "nothing is appended of what is not there");
    is_there.then(|| text.to_owned())
}

pub async fn a_text_of_any_length_is_kept_and_comes_back(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a")).await;
    let piece = 512 * 1024;
    for (n, bytes) in [3, 1000, piece - 1, piece, piece + 1, 2 * piece, 3_000_001].into_iter().enumerate() {
        let (value, text) = (stored(bench.run, n as u128, bytes), Json::string(&text_of(bytes)).to_string());
        assert_eq!(text.len(), bytes);
        for _ in 0..2 {
            assert!(subject.backend().keep(&value, &text).await.unwrap());
        }
        assert_eq!(fetched(subject, &value).await.as_deref(), Some(&*text), "{bytes} bytes");
    }
    let empty = stored(bench.run, 99, 0);
    assert!(subject.backend().keep(&empty, "").await.unwrap());
    assert_eq!(fetched(subject, &empty).await.as_deref(), Some(""));
    assert_eq!(fetched(subject, &stored(bench.run, 100, 5)).await, None);
}

pub async fn a_text_is_not_kept_for_a_run_that_is_not_there(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a")).await;
    for run in [run_id(77), bench.run] {
        subject.backend().forget(bench.run).await.unwrap();
        for bytes in [10, LARGE] {
            let value = stored(run, 1, bytes);
            let text = Json::string(&text_of(bytes)).to_string();
            assert!(!subject.backend().keep(&value, &text).await.unwrap());
            assert_eq!(fetched(subject, &value).await, None);
        }
    }
    // Nor does a later run of the same id find it.
    let later = Bench::submit(subject, sig("a")).await;
    assert_eq!(fetched(subject, &stored(later.run, 1, 10)).await, None);
}

pub async fn a_forgotten_run_takes_its_texts_with_it(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a")).await;
    let other = Bench::submit_as(subject, 2, sig("a")).await;
    let values = (0..700).map(|n| stored(bench.run, n, 5));
    let values: Vec<Stored> =
        values.chain([stored(bench.run, 1000, LARGE), stored(other.run, 1, 5)]).collect();
    for value in &values {
        let text = Json::string(&text_of(value.bytes as usize)).to_string();
        assert!(subject.backend().keep(value, &text).await.unwrap());
    }
    assert!(subject.backend().forget(bench.run).await.unwrap());
    Bench::submit(subject, sig("a")).await;
    let (last, first) = values.split_last().unwrap();
    for value in first {
        assert_eq!(fetched(subject, value).await, None);
    }
    assert!(fetched(subject, last).await.is_some(), "that of another run stays");
}

pub async fn what_a_delivery_kept_that_did_not_count_is_discarded(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a").then(sig("b").into_immutable())).await;
    let leaf = bench.run.task(NodeNo::from_index(0));
    let [first, second, third] = [1, 2, 3].map(|n| stored(bench.run, n, 7));
    for value in [&first, &second, &third] {
        assert!(subject.backend().keep(value, "\"12345\"").await.unwrap());
    }
    // While nothing counts yet, nobody refers to any.
    subject.backend().discard(leaf, &third).await.unwrap();
    assert_eq!(fetched(subject, &third).await, None);
    bench.settle([bench.completion(0, Outcome::stored(first))]).await;
    for value in [&first, &second] {
        subject.backend().discard(leaf, value).await.unwrap();
    }
    assert_eq!(fetched(subject, &first).await.as_deref(), Some("\"12345\""));
    assert_eq!(fetched(subject, &second).await, None);

    // A coordinator does so, with a duplicate and with what comes too late.
    bench.dispatch_outbox().await;
    let taken = bench.receive("w", 9).await;
    let house = House::start(subject);
    let (one, two) = (stored(bench.run, 4, 7), stored(bench.run, 5, 7));
    for value in [&one, &two] {
        assert!(subject.backend().keep(value, "\"12345\"").await.unwrap());
    }
    let late = bench.completion(0, Outcome::stored(one));
    let counts = bench.completion(1, Outcome::stored(two));
    for completion in [late, counts] {
        let id = taken[0].id.clone();
        subject.backend().finish(&[(id, completion)]).await.unwrap();
    }
    let until = Instant::now() + Duration::from_secs(10);
    while fetched(subject, &one).await.is_some() || bench.outcome().await == RunOutcome::Undecided {
        assert!(Instant::now() < until, "what did not count is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(fetched(subject, &two).await.is_some());
    drop(house);
}

pub async fn arguments_that_are_kept_apart_belong_to_the_canvas(subject: &dyn Subject) {
    let canvas = |letter: &str| call("a", &[Json::string(&letter.repeat(LARGE))]);
    let name = |text: &str| Uuid::from_u128(u128::from(text.as_bytes()[1]));
    let submit = async |letter| {
        let mut plan = Plan::compile(&canvas(letter)).unwrap();
        let literals = plan.take_apart(1000, name);
        let new = NewRun { literals, ..NewRun::new(run_id(1), Arc::new(plan)) };
        subject.backend().submit(new).await
    };
    submit("x").await.unwrap();
    submit("x").await.unwrap();
    assert!(submit("y").await.is_err(), "another text is another canvas");
    let literal = |letter: char| Stored {
        name: Uuid::from_u128(u128::from(letter as u8)),
        of_plan: true,
        ..stored(run_id(1), 0, LARGE + 2)
    };
    assert_eq!(fetched(subject, &literal('x')).await.unwrap(), Json::string(&"x".repeat(LARGE)).as_str());
    assert_eq!(fetched(subject, &literal('y')).await, None);
    assert!(subject.backend().forget(run_id(1)).await.unwrap());
    assert_eq!(fetched(subject, &literal('x')).await, None);
    submit("y").await.unwrap();
    assert_eq!(fetched(subject, &literal('x')).await, None);
    assert!(fetched(subject, &literal('y')).await.is_some());
}

pub async fn large_values_reach_whoever_takes_them(subject: &dyn Subject) {
    let house = House::start(subject);
    for bytes in [1000, 40_000, 100_000, LARGE] {
        let large = || make.s((bytes,));
        let whole = Json::string(&text_of(bytes)).to_string();
        let app = &house.app;
        // The client, flat and as members of a list.
        let run = app.submit(large()).await.unwrap();
        assert_eq!(run.get_json(None).await.unwrap().as_str(), whole, "{bytes} bytes");
        let outcome = run.outcome_of(NodeNo::from_index(0)).await.unwrap();
        assert_eq!(outcome, Some(Outcome::Success(Json::from_compact(whole.clone()))));
        let run = app.submit(group([large(), make.s((10,)), large()])).await.unwrap();
        let list = format!("[{whole},{},{whole}]", Json::string(&text_of(10)));
        assert_eq!(run.get_json(None).await.unwrap().as_str(), list);
        let mut members: Vec<(usize, usize)> =
            run.members().map(|(place, text)| (place, text.unwrap().len() + 2)).collect().await;
        members.sort_unstable();
        assert_eq!(members, [(0, bytes), (1, 10), (2, bytes)]);
        // The next step, several next steps, the body of a chord, and one that collects.
        let run = app.submit(large() | echo.s(()) | measure.s(())).await.unwrap();
        assert_eq!(run.get().await.unwrap(), bytes);
        let run = app.submit(large() | group([measure.s(()), measure.s(())])).await.unwrap();
        assert_eq!(run.get().await.unwrap(), [bytes, bytes]);
        let run = app.submit(chord([large(), make.s((10,)), large()], lengths.s(()))).await.unwrap();
        assert_eq!(run.get().await.unwrap(), [bytes, 10, bytes]);
        let collected = group([large(), fails.s((3,)), large()]).collect_failures() | entries.s(());
        assert_eq!(app.submit(collected).await.unwrap().get().await.unwrap(), [bytes, 0, bytes]);
    }
}

pub async fn large_arguments_reach_their_task_in_every_spelling(subject: &dyn Subject) {
    let house = House::start(subject);
    for bytes in [1000, 40_000, LARGE] {
        let text = text_of(bytes);
        let run = house.app.submit(measure.s((text.clone(),))).await.unwrap();
        assert_eq!(run.get().await.unwrap(), bytes, "typed");
        let json = Json::string(&text);
        let args = call("large.measure", std::slice::from_ref(&json));
        let mut named = Signature::new("large.measure").unwrap();
        named.kwargs = [("text".to_owned(), json.clone())].into_iter().collect();
        let chained = call("large.make", &[number(10)]).then({
            let mut immutable = args.clone();
            immutable = immutable.into_immutable();
            immutable
        });
        for canvas in [args.clone(), named.into(), chained, Canvas::from_json(&args.to_json()).unwrap()] {
            assert_eq!(house.value(canvas.clone()).await, bytes.to_string());
        }
        // With a value that comes before, and several times the same.
        let after = call("large.make", &[number(10)]).then(Canvas::from({
            let mut pair = Signature::new("large.lengths").unwrap();
            pair.args = vec![Json::list([&json, &json])];
            pair.immutable = true;
            pair
        }));
        assert_eq!(house.value(after).await, format!("[{bytes},{bytes}]"));
        let many = Canvas::group((0..5).map(|_| args.clone()));
        assert_eq!(house.value(many).await, format!("[{0},{0},{0},{0},{0}]", bytes));
    }
}

pub async fn large_values_of_what_runs_in_the_place_of_a_leaf_are_the_leafs(subject: &dyn Subject) {
    let house = House::start(subject);
    for bytes in [1000, 40_000, LARGE] {
        let app = &house.app;
        let run = app.submit(becomes.s((bytes,)) | measure.s(())).await.unwrap();
        assert_eq!(run.get().await.unwrap(), bytes);
        let run = app.submit(becomes.s((bytes,))).await.unwrap();
        assert_eq!(run.get().await.unwrap(), text_of(bytes));
        let run = app.submit(becomes_list.s((bytes,)) | lengths.s(())).await.unwrap();
        assert_eq!(run.get().await.unwrap(), [bytes, 10, bytes]);
        let run = app.submit(becomes_list.s((bytes,))).await.unwrap();
        assert_eq!(run.get().await.unwrap(), [bytes, 10, bytes].map(text_of));
        let run = app.submit(chord([becomes.s((bytes,)), make.s((10,))], lengths.s(()))).await.unwrap();
        assert_eq!(run.get().await.unwrap(), [bytes, 10]);
    }
}

pub async fn a_large_value_beside_large_members_goes_to_whom_it_should(subject: &dyn Subject) {
    let house = House::start(subject);
    for (own, other) in [(10, LARGE), (40_000, 10), (40_000, LARGE), (LARGE, LARGE)] {
        let run =
            house.app.submit(chord([adds.s((own, other)), make.s((12,))], lengths.s(()))).await.unwrap();
        assert_eq!(run.get().await.unwrap(), [own, other, 10, 12]);
        let both = group([adds.s((own, other)), make.s((12,))]);
        let run = house.app.submit(both).await.unwrap();
        assert_eq!(run.get().await.unwrap(), [own, other, 10, 12].map(text_of));
        let mut members: Vec<(usize, usize)> =
            run.members().map(|(place, text)| (place, text.unwrap().len() + 2)).collect().await;
        members.sort_unstable();
        let mut expect = vec![(0, own), (0, other), (0, 10), (1, 12)];
        expect.sort_unstable();
        assert_eq!(members, expect);
        let collected = group([adds.s((own, other)), fails.s((3,))]).collect_failures() | entries.s(());
        assert_eq!(house.app.submit(collected).await.unwrap().get().await.unwrap(), [own, other, 10, 0]);
    }
}

pub async fn a_large_canvas_runs_in_the_place_of_its_leaf(subject: &dyn Subject) {
    let house = House::start(subject);
    for count in [10, 700] {
        let parts = house.value(call("large.wide", &[number(count)])).await;
        assert_eq!(parts.len(), 4 * count + 1, "{count} in its place");
        let added = Canvas::group([call("large.add_many", &[number(LARGE), number(count)])]);
        assert_eq!(house.value(added).await.len(), LARGE + 4 * count + 2, "{count} added");
    }
}

pub async fn a_leaf_runs_again_with_large_arguments(subject: &dyn Subject) {
    let house = House::start(subject);
    for bytes in [1000, 40_000, LARGE] {
        assert_eq!(
            house.value(call("large.again", &[number(bytes), Json::null()])).await,
            (bytes + 2).to_string()
        );
    }
}

pub async fn leaves_that_hold_many_bytes_take_turns(subject: &dyn Subject) {
    // By reference on every backend, since they come from results.
    let options = WorkerOptions::default().bytes_in_flight(500_000);
    let house = House::within(subject, Limits::default(), options);
    let large = || make.s((200_000,)) | crowd.s(());
    let run = house.app.submit(group((0..8).map(|_| large()).collect::<Vec<_>>())).await.unwrap();
    assert_eq!(run.get().await.unwrap().len(), 8);
    let most = house.crowd.1.load(Ordering::SeqCst);
    assert!((1..=2).contains(&most), "{most} at the same time");
    // One that is larger than all room runs alone.
    let run = house.app.submit(make.s((700_000,)) | crowd.s(())).await.unwrap();
    assert!(run.get().await.unwrap() > 600_000);
}
