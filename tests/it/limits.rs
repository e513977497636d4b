//! What is more than half as large as it may be is warned of: once, with its size and the limit; smaller
//! things are not.

use std::cell::RefCell;
use std::fmt;
use std::sync::Once;

use celeriac::memory::Memory;
use celeriac::prelude::*;
use celeriac::primitives::{Json, Limits};
use tracing::field::{Field, Visit};
use tracing::span;

#[task(name = "limits.make")]
async fn make(bytes: usize) -> String {
    "x".repeat(bytes - 2)
}

#[task(name = "limits.lengths")]
async fn lengths(texts: Vec<String>) -> usize {
    texts.iter().map(String::len).sum()
}

/// Runs again with so many bytes.
#[task(name = "limits.again")]
async fn again(
    bytes: usize,
    text: Option<String>,
) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
    match text {
        Some(text) => Ok(text.len()),
        None => Err(Retry::now()
            .with(&(bytes, "x".repeat(bytes)), &std::collections::BTreeMap::<String, String>::new())?
            .into()),
    }
}

/// One leaf in its place, whose canvas has some more than so many bytes.
#[task(name = "limits.become")]
async fn becomes(bytes: usize, ctx: TaskContext) -> Result<usize, TaskError> {
    ctx.replace(lengths.s((vec!["x".repeat(bytes)],)))
}

/// Adds a small one to its list, and has a value of so many bytes.
#[task(name = "limits.add")]
async fn adds(bytes: usize, ctx: TaskContext) -> Result<String, TaskError> {
    ctx.add_to_chord(make.s((3,)))?;
    Ok("x".repeat(bytes - 2))
}

const LIMITS: Limits = Limits {
    argument_bytes_max: 10_000,
    result_bytes_max: 8_000,
    options_bytes_max: 4_000,
    replacement_bytes_max: 6_000,
    plan_bytes_max: 12_000,
    error_bytes_max: 1_000,
    progress_bytes_max: 100,
    depth_max: 64,
    nodes_max: 1_000,
    replacements_max: 100,
    run_nodes_max: 1_000,
    queues_max: 1_000,
};

/// What was warned of: what, how many bytes, and how many there may be.
type Warned = (String, u64, u64);

thread_local! {
    static LOG: RefCell<Vec<Warned>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the warnings of each thread by themselves. There is one for all tests: what some threads have and
/// others have not, tracing may not notice in time.
struct Log;

fn take() -> Vec<Warned> {
    LOG.with_borrow_mut(std::mem::take)
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Fields(Some(what), Some(bytes), Some(max)) = fields {
            LOG.with_borrow_mut(|log| log.push((what, bytes, max)));
        }
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The fields of a warning that this is about.
#[derive(Default)]
struct Fields(Option<String>, Option<u64>, Option<u64>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "what" {
            self.0 = Some(value.to_owned());
        }
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "bytes" => self.1 = Some(value),
            "max" => self.2 = Some(value),
            _ => {}
        }
    }
    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// Submits and runs a canvas; what is warned of at the submission, and afterwards.
async fn warned(canvas: impl celeriac::dsl::IntoCanvas) -> (Vec<Warned>, Vec<Warned>) {
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| tracing::subscriber::set_global_default(Log).expect("nobody else listens"));
    take();
    let app = App::builder("limits")
        .tasks(tasks![make, lengths, again, becomes, adds])
        .limits(LIMITS)
        .backend(Memory::new())
        .build()
        .unwrap();
    let run = app.submit(canvas).await.unwrap();
    let submitted = take();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default());
    run.get_json(None).await.unwrap();
    run.ended().await.unwrap();
    (submitted, take())
}

/// A leaf that is called with so many bytes.
fn called_with(bytes: usize) -> Canvas {
    // The quotes, and the brackets of the list that is its argument.
    let text = Json::new(&vec!["x".repeat(bytes - 4)]).unwrap();
    Signature::new("limits.lengths").unwrap().arg(text).unwrap().into()
}

fn one(what: &str, bytes: u64, max: usize) -> Vec<Warned> {
    vec![(what.to_owned(), bytes, max as u64)]
}

#[tokio::test(start_paused = true)]
async fn the_arguments_of_a_leaf_are_warned_of_when_they_are_submitted() {
    let half = LIMITS.argument_bytes_max / 2;
    assert_eq!(warned(called_with(half)).await.0, []);
    let (submitted, ran) = warned(called_with(half + 1)).await;
    assert_eq!(submitted, one("the arguments of a leaf", half as u64 + 1, LIMITS.argument_bytes_max));
    assert!(ran.len() <= 1, "the worker says so of each leaf: {ran:?}");
}

#[tokio::test(start_paused = true)]
async fn the_options_of_a_leaf_are_warned_of_when_they_are_submitted() {
    let half = LIMITS.options_bytes_max / 2;
    let of = |bytes| {
        let mut canvas = called_with(10);
        // In an object: {"h":"…"}.
        *canvas.options_mut() = Options::new().with_header("h", &"x".repeat(bytes - 8)).unwrap();
        canvas
    };
    assert_eq!(warned(of(half)).await, (vec![], vec![]));
    let expect = one("the options of a leaf", half as u64 + 1, LIMITS.options_bytes_max);
    assert_eq!(warned(of(half + 1)).await, (expect, vec![]));
}

#[tokio::test(start_paused = true)]
async fn all_arguments_of_a_canvas_are_warned_of_when_they_are_submitted() {
    let (half, few) = (LIMITS.plan_bytes_max / 2, LIMITS.argument_bytes_max / 2);
    let of = |bytes| Canvas::group([called_with(bytes - few), called_with(few)]);
    assert_eq!(warned(of(half)).await, (vec![], vec![]));
    let expect = one("all arguments and options of a canvas", half as u64 + 1, LIMITS.plan_bytes_max);
    assert_eq!(warned(of(half + 1)).await, (expect, vec![]));
}

#[tokio::test(start_paused = true)]
async fn arguments_that_are_put_together_are_warned_of_when_their_leaf_begins() {
    let half = LIMITS.argument_bytes_max / 2;
    // Two texts, and the comma and the brackets of the list.
    let of = |bytes: usize| chord([make.s((3_000,)), make.s((bytes - 3_000 - 3,))], lengths.s(()));
    assert_eq!(warned(of(half)).await, (vec![], vec![]));
    let expect = one("the arguments of a leaf", half as u64 + 10, LIMITS.argument_bytes_max);
    assert_eq!(warned(of(half + 10)).await, (vec![], expect));
}

#[tokio::test(start_paused = true)]
async fn arguments_of_another_attempt_are_warned_of() {
    let half = LIMITS.argument_bytes_max / 2;
    let warned = warned(again.s((half, None))).await;
    let of_arguments = |(what, bytes, max): &Warned| {
        what == "the arguments of a leaf" && *bytes > half as u64 && *max == 2 * half as u64
    };
    assert!(
        warned.0.is_empty() && warned.1.iter().filter(|one| of_arguments(one)).count() == 1,
        "{warned:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_result_is_warned_of_and_that_of_a_leaf_that_adds_to_its_list() {
    let half = LIMITS.result_bytes_max / 2;
    assert_eq!(warned(make.s((half,))).await, (vec![], vec![]));
    let expect = one("the result of a leaf", half as u64 + 1, LIMITS.result_bytes_max);
    assert_eq!(warned(make.s((half + 1,))).await, (vec![], expect.clone()));
    assert_eq!(warned(group([adds.s((half,))])).await, (vec![], vec![]));
    assert_eq!(warned(group([adds.s((half + 1,))])).await, (vec![], expect));
}

#[tokio::test(start_paused = true)]
async fn what_runs_in_the_place_of_a_leaf_is_warned_of() {
    let half = LIMITS.replacement_bytes_max / 2;
    assert_eq!(warned(becomes.s((half - 500,))).await, (vec![], vec![]));
    let (submitted, ran) = warned(becomes.s((half,))).await;
    let [(what, bytes, max)] = &ran[..] else { panic!("{ran:?}") };
    assert_eq!((&**what, *max), ("what runs in the place of a leaf", LIMITS.replacement_bytes_max as u64));
    assert!(submitted.is_empty() && (half as u64..half as u64 + 500).contains(bytes), "{bytes}");
}

/// A limit holds for what is put together, however small it is.
#[tokio::test(start_paused = true)]
async fn a_small_limit_holds_for_arguments_that_are_put_together() {
    let app = App::builder("limits").tasks(tasks![make, lengths]).limits(LIMITS).build().unwrap();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default());
    let of = |bytes: usize| chord([make.s((3_000,)), make.s((bytes - 3_000,))], lengths.s(()));
    assert_eq!(app.submit(of(9_990)).await.unwrap().get().await.unwrap(), 9_986);
    let error = app.submit(chord([make.s((6_000,)), make.s((6_000,))], lengths.s(()))).await.unwrap();
    let error = error.get().await.unwrap_err().to_string();
    assert!(error.contains("LimitError") && error.contains("more than 10000"), "{error}");
}
