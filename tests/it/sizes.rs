//! Size is linear, messages carry no graph, and wide or long canvases need no deep stack.

use celeriac::engine::Plan;
use celeriac::prelude::*;
use celeriac::primitives::{Json, Outcome};

#[task(name = "sizes.one")]
async fn one() -> i64 {
    1
}

#[task(name = "sizes.plus")]
async fn plus(x: i64) -> i64 {
    x + 1
}

#[task(name = "sizes.count")]
async fn count(numbers: Vec<i64>) -> usize {
    numbers.len()
}

fn app() -> App {
    App::embedded().tasks(tasks![one, plus, count]).build().unwrap()
}

fn group_of(n: usize, name: &str) -> Canvas {
    Canvas::group((0..n).map(|_| Signature::new(name).unwrap().into()))
}

#[test]
fn two_groups_of_a_thousand_have_at_most_2001_edges() {
    let plan = Plan::compile(&group_of(1000, "a").then(group_of(1000, "b"))).unwrap();
    assert!(plan.edge_count() <= 2001, "{} edges", plan.edge_count());
}

#[test]
fn a_plan_doubles_with_its_canvas() {
    let chords = |n| {
        let chord = || Canvas::chord([group_of(1000, "a")], Signature::new("b").unwrap());
        Plan::compile(&Canvas::chain((0..n).map(|_| chord()))).unwrap().encode().len()
    };
    let (twenty, forty) = (chords(20), chords(40));
    assert!(forty * 100 <= twenty * 205, "{twenty} bytes became {forty}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_100_000_runs_to_its_end() {
    let steps = (0..100_000).map(|_| Signature::of(plus_name()).into());
    let chain = Canvas::chain(std::iter::once(Signature::new("sizes.one").unwrap().into()).chain(steps));
    let run = app().submit(chain).await.unwrap();
    assert_eq!(run.get().await.unwrap(), 100_001);
}

fn plus_name() -> celeriac::primitives::TaskName {
    celeriac::primitives::TaskName::new("sizes.plus").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chord_of_100_000_runs_to_its_end() {
    let run = app().submit(chord((0..100_000).map(|_| one.s(())), count.s(()))).await.unwrap();
    assert_eq!(run.get().await.unwrap(), 100_000);
}

#[task(name = "sizes.text")]
async fn text(size: usize) -> String {
    "x".repeat(size)
}

#[task(name = "sizes.length")]
async fn length(long: String, more: usize) -> usize {
    long.len() + more
}

/// Runs a canvas up to the leaf of this task, which a hand takes instead of a worker; then a worker takes it. Returns
/// the size of its message, and the run's value.
async fn taken(canvas: impl Into<Canvas>, task: &str) -> (usize, usize) {
    use celeriac::backends::{Queue, Take, WorkerId};
    let (memory, lease) = (celeriac::memory::Memory::new(), std::time::Duration::from_secs(9));
    let tasks = tasks![one, plus, count, text, length];
    let app = App::builder("sizes").tasks(tasks).backend(memory.clone()).build().unwrap();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let run = app.submit(canvas.into()).await.unwrap();
    let hand = WorkerId::new("hand");
    loop {
        let taken =
            memory.receive(&hand, &["celery".into()], Take::new(10_000, lease).wait(lease)).await.unwrap();
        let done = taken.iter().filter(|delivery| delivery.message.task.as_str() != task).map(|delivery| {
            let outcome = match delivery.message.task.as_str() {
                "sizes.text" => Outcome::Success(Json::string(&"x".repeat(200_000))),
                _ => Outcome::Success(Json::parse("1").unwrap()),
            };
            (delivery.id.clone(), delivery.message.completion(outcome))
        });
        memory.finish(&done.collect::<Vec<_>>()).await.unwrap();
        if let Some(last) = taken.iter().find(|delivery| delivery.message.task.as_str() == task) {
            memory.hand_back(&hand, std::slice::from_ref(&last.id)).await.unwrap();
            let _worker = app.worker(WorkerOptions::default());
            let value = run.get().await.unwrap();
            return (last.message.encode().len(), serde_json::from_value(value).unwrap());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_result_is_fetched_by_the_worker_that_takes_it() {
    let (bytes, value) = taken((text.s((200_000,)) | length.s(7)).untyped().unwrap(), "sizes.length").await;
    assert_eq!(value, 200_007);
    assert!(bytes < 300, "{bytes}");
}

#[tokio::test(start_paused = true)]
async fn a_body_of_very_many_fetches_its_header() {
    let header = (0..2000).map(|_| one.s(()));
    let (bytes, value) = taken(chord(header, count.s(())).untyped().unwrap(), "sizes.count").await;
    assert_eq!(value, 2000);
    assert!(bytes < 2000 * 20, "{bytes}");
}
