//! Tasks that return a canvas in their place, from end to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use celeriac::engine::view::Standing;
use celeriac::memory::Memory;
use celeriac::prelude::*;
use celeriac::primitives::Outcome;
use tokio::sync::Semaphore;

#[derive(Debug, Default)]
struct Heard(AtomicUsize);

#[task(name = "growth.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(name = "growth.sum")]
async fn sum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

#[task(name = "growth.fail")]
async fn fail(_x: i64) -> Result<i64, TaskError> {
    Err(TaskError::new("ValueError", "boom"))
}

#[task(name = "growth.wait")]
async fn wait(x: i64, gate: State<Arc<Semaphore>>) -> i64 {
    gate.acquire().await.expect("nobody closes it").forget();
    x
}

#[task(name = "growth.heard")]
async fn heard(failure: Failure, count: State<Arc<Heard>>) {
    assert_eq!(
        (failure.node.as_str(), failure.task.as_str()),
        ("chain[1].replacement.chain[1]", "growth.fail")
    );
    count.0.fetch_add(1, Ordering::SeqCst);
}

/// Async, with an error of its own type.
#[task(name = "growth.to_all")]
async fn to_all(ctx: TaskContext, numbers: Vec<i64>, y: i64) -> Result<i64, TaskError> {
    ctx.replace(group(numbers.into_iter().map(|x| add.s((x, y)))) | sum.s(()))
}

/// Blocking, with `?` and a boxed error.
#[task(name = "growth.down")]
fn down(ctx: TaskContext, n: i64) -> Result<i64, Box<dyn std::error::Error + Send + Sync>> {
    if n > 0 {
        ctx.replace(down.s(n - 1) | add.s(1))?;
    }
    Ok(0)
}

/// Nothing is left to do on the way back.
#[task(name = "growth.tail")]
fn tail(ctx: TaskContext, n: i64) -> Result<i64, TaskError> {
    if n > 0 { ctx.replace(tail.s(n - 1)) } else { Ok(0) }
}

/// By name, for tasks of other programs.
#[task(name = "growth.untyped")]
async fn untyped(ctx: TaskContext, x: i64) -> Result<i64, TaskError> {
    let by_name = Signature::new("growth.add").expect("a good name");
    let by_name = by_name.arg(x).and_then(|by_name| by_name.arg(1)).expect("numbers have a JSON form");
    ctx.replace(Flow::<(), i64>::assume(by_name))
}

#[task(name = "growth.fails_inside")]
async fn fails_inside(ctx: TaskContext, x: i64) -> Result<i64, TaskError> {
    ctx.replace(add.s((x, 1)) | fail.s(()) | add.s(1))
}

#[task(name = "growth.waits_inside")]
async fn waits_inside(ctx: TaskContext, x: i64) -> Result<i64, TaskError> {
    ctx.replace(add.s((x, 1)) | wait.s(()))
}

#[task(name = "growth.elsewhere")]
async fn elsewhere(ctx: TaskContext, x: i64) -> Result<i64, TaskError> {
    ctx.replace(add.s((x, 1)).option("queue", "nobody.knew.of.it"))
}

#[task(name = "growth.changes_its_mind")]
async fn changes_its_mind(ctx: TaskContext, x: i64) -> Result<i64, TaskError> {
    let _dropped = ctx.replace(add.s((x, 1)));
    Ok(x)
}

/// A list and its sum, however many numbers there are.
#[task(name = "growth.halves")]
async fn halves(ctx: TaskContext, n: i64) -> Result<i64, TaskError> {
    if n > 1 {
        ctx.add_to_chord(halves.s(n / 2))?;
    }
    Ok(n)
}

#[task(name = "growth.adds_what_fails")]
fn adds_what_fails(ctx: TaskContext, x: i64) -> Result<i64, TaskError> {
    ctx.add_to_chord(fail.s(x))?;
    Ok(x)
}

/// Its first attempt leaves nothing behind.
#[task(name = "growth.adds_and_retries")]
fn adds_and_retries(ctx: TaskContext, x: i64) -> Result<i64, Box<dyn std::error::Error + Send + Sync>> {
    ctx.add_to_chord(add.s((x, 1)))?;
    if ctx.attempt() == 1 { Err(Retry::now().into()) } else { Ok(x) }
}

/// Asks whether it can, and does without.
#[task(name = "growth.adds_if_it_can")]
async fn adds_if_it_can(ctx: TaskContext, x: i64) -> i64 {
    match ctx.add_to_chord(add.s((x, 1))) {
        Ok(()) => x,
        Err(error) if error.kind == "ValueError" => -1,
        Err(_) => -2,
    }
}

#[task(name = "growth.adds_and_is_replaced")]
async fn adds_and_is_replaced(ctx: TaskContext, x: i64) -> Result<i64, TaskError> {
    ctx.add_to_chord(add.s((x, 1)))?;
    ctx.replace(add.s((x, 10)))
}

fn app_on(memory: &Memory, gate: &Arc<Semaphore>, heard_count: &Arc<Heard>) -> App {
    let all = tasks![
        add,
        sum,
        fail,
        wait,
        heard,
        to_all,
        down,
        tail,
        untyped,
        fails_inside,
        waits_inside,
        elsewhere,
        changes_its_mind,
        halves,
        adds_what_fails,
        adds_and_retries,
        adds_if_it_can,
        adds_and_is_replaced
    ];
    let app = App::embedded().tasks(all).state(gate.clone()).state(heard_count.clone());
    app.backend(memory.clone()).build().unwrap()
}

fn app() -> App {
    app_on(&Memory::new(), &Arc::new(Semaphore::new(0)), &Arc::default())
}

macro_rules! check {
    ($canvas:expr, $expect:expr) => {
        assert_eq!(app().submit($canvas).await.unwrap().get().await.unwrap(), $expect)
    };
}

#[tokio::test]
async fn a_task_is_replaced_by_a_typed_canvas() {
    check!(to_all.s((vec![1, 2, 3], 10)) | add.s(1), 37);
    check!(down.s(5) | add.s(1), 6);
    check!(untyped.s(5) | add.s(1), 7);
    check!(chord([down.s(2), to_all.s((vec![1], 1)), add.s((1, 1))], sum.s(())), 6);
    check!(changes_its_mind.s(5), 5);
}

#[tokio::test]
async fn the_worker_of_an_embedded_app_serves_queues_that_it_first_hears_of_from_a_replacement() {
    check!(elsewhere.s(5), 6);
}

#[tokio::test]
async fn a_failure_inside_is_raised_with_its_path_and_heard_of_once() {
    let heard_count = Arc::<Heard>::default();
    let app = app_on(&Memory::new(), &Arc::new(Semaphore::new(0)), &heard_count);
    let run = app.submit((add.s((1, 1)) | fails_inside.s(())).link_error(heard.s(()))).await.unwrap();
    let Err(GetError::Failed(failure)) = run.get().await else { panic!("it fails") };
    assert_eq!(failure.to_string(), "chain[1].replacement.chain[1] (growth.fail) failed: ValueError: boom");
    run.ended().await.unwrap();
    assert_eq!(heard_count.0.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_item_of_a_map_cannot_be_replaced_and_the_error_says_what_to_do() {
    let run = app().submit(down.map([0, 1])).await.unwrap();
    let error = run.get().await.unwrap_err().to_string();
    assert!(error.contains("call the task once for each item, in a group"), "{error}");
}

#[tokio::test]
async fn a_run_shows_what_runs_in_the_place_of_a_leaf_and_takes_it_along_when_it_is_forgotten() {
    let (memory, gate) = (Memory::new(), Arc::new(Semaphore::new(0)));
    let app = app_on(&memory, &gate, &Arc::default());
    let run = app.submit(waits_inside.s(1) | add.s(1)).await.unwrap();
    let (leaf, segment) = loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if let Some(segment) = run.segments().await.unwrap().pop() {
            break segment;
        }
    };
    assert_eq!((leaf.run(), leaf.node().number()), (run.id(), 1));
    let nodes = run.nodes().await.unwrap();
    assert_eq!(nodes[0].standing, Standing::Replaced);
    assert!(run.tree().await.unwrap().contains("↳ n1 growth.waits_inside"), "{}", run.tree().await.unwrap());
    assert_eq!(app.runs(None, 9).await.unwrap().len(), 1, "a segment is not listed");
    assert!(!run.status().await.unwrap().ended());
    gate.add_permits(1);
    assert_eq!(run.get().await.unwrap(), 3);
    run.ended().await.unwrap();
    assert_eq!(segment.outcome_of(segment.node_at("chain[0]").unwrap()).await.unwrap(), {
        let two = celeriac::primitives::Json::new(&2).unwrap();
        Some(Outcome::Success(two))
    });
    run.forget().await.unwrap();
    assert_eq!(memory.census()["runs"], 0);
}

#[tokio::test]
async fn a_task_adds_to_the_list_that_its_value_goes_into() {
    check!(group([halves.s(5), halves.s(1), halves.s(2)]), [5, 2, 1, 1, 2, 1]);
    check!(chord([halves.s(8), add.s((1, 1))], sum.s(())), 8 + 4 + 2 + 1 + 2);
    check!(group([adds_and_retries.s(5), adds_and_is_replaced.s(1)]), [5, 6, 11, 2]);
    check!(group([adds_what_fails.s(5), add.s((1, 1))]).drop_failures(), [5, 2]);
    check!(adds_if_it_can.s(5), -1);
    check!(group([adds_if_it_can.s(5) | add.s(1), adds_if_it_can.s(5)]), [0, 5, 6]);
    check!(group([adds_if_it_can.map([1, 2])]), [[-1, -1]]);
}

#[tokio::test]
async fn what_was_added_comes_with_its_member_and_as_an_entry_where_failures_are_collected() {
    use futures::StreamExt;

    let run = app().submit(group([halves.s(5), halves.s(1)])).await.unwrap();
    let mut members: Vec<(usize, i64)> =
        run.members().map(|(place, value)| (place, value.unwrap())).collect().await;
    members.sort_by_key(|(place, _)| *place);
    assert_eq!(members, [(0, 5), (0, 2), (0, 1), (1, 1)]);

    let run = app().submit(group([adds_what_fails.s(5), add.s((1, 1))]).collect_failures()).await.unwrap();
    let entries = run.get().await.unwrap();
    assert_eq!((entries[0].ok(), entries[2].ok(), entries.len()), (Some(&5), Some(&2), 3));
    let failure = entries[1].error().unwrap();
    assert_eq!(failure.node, "group[0].replacement.added[0]");
    assert_eq!((&*failure.error.message, failure.task.as_str()), ("boom", "growth.fail"));
    let places: Vec<usize> = run.members().map(|(place, _)| place).collect().await;
    assert_eq!(places.iter().filter(|place| **place == 0).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_a_hundred_replacements_in_a_row_ends_them_all() {
    check!(tail.s(100), 0);
    let run = app().submit(tail.s(101)).await.unwrap();
    let Err(GetError::Failed(failure)) = run.get().await else { panic!("it is one too many") };
    assert_eq!((failure.node.matches("replacement").count(), &*failure.error.kind), (100, "LimitError"));
}

#[tokio::test]
async fn the_app_s_limits_bound_what_grows() {
    let limits = celeriac::primitives::Limits { replacements_max: 2, ..Default::default() };
    let app = App::embedded().tasks(tasks![down, add]).limits(limits).build().unwrap();
    assert_eq!(app.submit(down.s(2)).await.unwrap().get().await.unwrap(), 2);
    let error = app.submit(down.s(3)).await.unwrap().get().await.unwrap_err();
    let error = error.task_error().unwrap();
    assert_eq!(error.kind, "LimitError");
    assert!(error.message.contains("more than 2 times in a row (replacements_max)"), "{error}");
}
