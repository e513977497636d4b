//! Apps and handles: submitting, waiting, asking.

use std::time::Duration;

use celeriac::backends::ErrorKind;
use celeriac::engine::view::Standing;
use celeriac::memory::Memory;
use celeriac::prelude::*;
use celeriac::primitives::{Json, Limits, RunId};
use celeriac::runtime::{BuildError, SubmitError};
use futures::StreamExt;

#[task(name = "app.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(name = "app.sleep")]
async fn sleep(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

#[task(name = "app.fail")]
async fn fail() -> Result<i64, TaskError> {
    Err(TaskError::new("ValueError", "boom"))
}

#[task(name = "app.ids")]
async fn ids(ctx: TaskContext) -> (String, String, u32, String) {
    (ctx.run_id().to_string(), ctx.task_id().to_string(), ctx.attempt(), ctx.idempotency_key())
}

#[task(name = "app.report")]
async fn report(failure: Failure) -> String {
    failure.to_string()
}

struct Greeting(&'static str);

#[task(name = "app.greet")]
async fn greet(name: String, greeting: State<Greeting>) -> String {
    format!("{}, {name}", greeting.0)
}

fn app() -> App {
    App::embedded().tasks(tasks![add, sleep, fail, ids, report]).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_handle_tells_how_its_run_stands() {
    let run = app().submit(sleep.s(1000) | sleep.si(1000)).await.unwrap();
    assert_eq!(run.state().await.unwrap(), TaskState::Pending);
    assert!(!run.ready().await.unwrap());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(run.state().await.unwrap(), TaskState::Started);
    assert_eq!(run.get().await.unwrap(), 1000);
    assert_eq!(run.state().await.unwrap(), TaskState::Success);
    assert!(run.ready().await.unwrap() && run.successful().await.unwrap() && !run.failed().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_in_time_and_the_run_goes_on() {
    let run = app().submit(sleep.s(60_000)).await.unwrap();
    let error = run.get_timeout(Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, GetError::Timeout(timeout) if timeout == Duration::from_secs(1)), "{error}");
    assert_eq!(run.get().await.unwrap(), 60_000);
}

#[tokio::test]
async fn get_raises_the_leafs_own_error_with_its_path() {
    let run = app().submit(group((add.s((1, 1)), fail.s(()) | add.s(1)))).await.unwrap();
    let error = run.get().await.unwrap_err();
    assert_eq!(error.to_string(), "group[1].chain[0] (app.fail) failed: ValueError: boom");
    assert_eq!(error.task_error().unwrap().kind, "ValueError");
    assert_eq!(run.state().await.unwrap(), TaskState::Failure);
    run.ended().await.unwrap();
    let nodes = run.nodes().await.unwrap();
    let standings: Vec<Standing> = nodes.iter().map(|node| node.standing).collect();
    assert_eq!(standings, [Standing::Succeeded, Standing::Failed, Standing::Blocked(nodes[1].node)]);
    assert_eq!(nodes[2].path, "group[1].chain[1]");
    assert_eq!(nodes[1].state, TaskState::Failure);
}

#[tokio::test]
async fn the_outcome_of_a_node_is_found_by_its_path() {
    let run = app().submit(add.s((1, 2)) | add.s(3)).await.unwrap();
    assert_eq!(run.get().await.unwrap(), 6);
    let first = run.node_at("chain[0]").unwrap();
    assert_eq!(run.outcome_of(first).await.unwrap().unwrap().value().unwrap().as_str(), "3");
    assert_eq!(run.node_at("chain[7]"), None);
}

#[tokio::test(start_paused = true)]
async fn members_come_as_they_finish_and_failures_among_them() {
    let canvas = Canvas::group([
        Signature::new("app.sleep").unwrap().arg(300).unwrap().into(),
        Signature::new("app.fail").unwrap().into(),
        Signature::new("app.sleep").unwrap().arg(100).unwrap().into(),
        Canvas::from(Signature::new("app.fail").unwrap()).then(Signature::new("app.sleep").unwrap()),
    ]);
    let id = RunId::from_parts(1, 1);
    let app = app();
    app.submission(canvas).id(id).await.unwrap();
    let run = app.run::<Vec<u64>>(id).await.unwrap().unwrap();
    let mut members = Vec::new();
    let mut stream = std::pin::pin!(run.members());
    while let Some((place, value)) = stream.next().await {
        members.push((place, value.map_err(|error| error.to_string())));
    }
    members[..2].sort();
    let boom = |node: &str| Err(format!("{node} (app.fail) failed: ValueError: boom"));
    assert_eq!(members, [(1, boom("group[1]")), (3, boom("group[3].chain[0]")), (2, Ok(100)), (0, Ok(300))]);
}

#[tokio::test]
async fn members_whose_failure_is_tolerated_come_as_entries_or_not_at_all() {
    let leaf = |name| Canvas::from(Signature::new(name).unwrap());
    let app = app();
    let come = async |policy: &str, place: u64| {
        let sleeps = Signature::new("app.sleep").unwrap().arg(100).unwrap().into();
        let mut canvas = Canvas::group([leaf("app.fail"), sleeps, leaf("app.fail").then(leaf("app.sleep"))]);
        canvas.options_mut().set("on_failure", Json::string(policy)).unwrap();
        let run = app.submission(canvas).id(RunId::from_parts(2, place)).await.unwrap();
        let mut members: Vec<(usize, String)> =
            run.members().map(|(place, value)| (place, value.unwrap().to_string())).collect().await;
        members.sort();
        assert!(run.get_json(None).await.is_ok());
        members
    };
    assert_eq!(come("drop", 1).await, [(1, "100".to_owned())]);
    let entries = come("collect", 2).await;
    assert_eq!(entries[1], (1, r#"{"ok":100}"#.to_owned()));
    assert!(entries.len() == 3 && [0, 2].iter().all(|place| entries[*place].1.starts_with(r#"{"error":"#)));
}

#[task(name = "app.succeeded")]
async fn succeeded(results: Vec<Entry<i64>>) -> (usize, usize) {
    let ok = results.iter().filter_map(Entry::ok).count();
    (ok, results.len() - ok)
}

#[task(name = "app.ended")]
async fn ended(entry: Entry<i64>) -> bool {
    entry.into_result().is_ok()
}

/// The list is longer than what travels with a leaf: its worker fetches the results, and is told the
/// failures.
#[tokio::test]
async fn a_typed_body_gets_the_entries_of_a_wide_header() {
    let app = App::embedded().tasks(tasks![add, fail, succeeded, ended]).build().unwrap();
    let header = || group((0..700).map(|i| if i % 7 == 0 { fail.s(()) } else { add.s((i, 1)) }));
    let run = app.submit(chord(header().collect_failures(), succeeded.s(()))).await.unwrap();
    assert_eq!(run.get_timeout(Duration::from_secs(20)).await.unwrap(), (600, 100));
    let run = app.submit(header().drop_failures()).await.unwrap();
    let kept = run.get_timeout(Duration::from_secs(20)).await.unwrap();
    assert_eq!(kept, (0..700).filter(|i| i % 7 != 0).map(|i| i + 1).collect::<Vec<i64>>());
    let run = app.submit(add.s((1, 2)).finally(ended.s(()))).await.unwrap();
    run.ended().await.unwrap();
    let last = run.node_at("finally[0]").unwrap();
    let outcome = run.outcome_of(last).await.unwrap().unwrap();
    assert_eq!(outcome.value().unwrap().as_str(), "true");
}

#[task(name = "app.numbers")]
async fn numbers(#[default(false)] bad: bool) -> Result<Vec<u64>, TaskError> {
    if bad { Err(TaskError::new("ValueError", "none")) } else { Ok(vec![7, 8, 9]) }
}

#[tokio::test]
async fn the_members_of_a_list_that_one_leaf_returns_come_with_it() {
    let app = App::embedded().tasks(tasks![numbers]).build().unwrap();
    let run = app.submit(numbers.s(())).await.unwrap();
    let members: Vec<_> = run.members().map(|(place, value)| (place, value.unwrap())).collect().await;
    assert_eq!(members, [(0, 7), (1, 8), (2, 9)]);
    let run = app.submit(numbers.s(true)).await.unwrap();
    let members: Vec<_> = run.members().collect().await;
    assert!(matches!(&members[..], [(0, Err(GetError::Failed(_)))]));
    let untyped = app.submit(numbers.map([false, false]).untyped().unwrap()).await.unwrap();
    let places: Vec<usize> =
        untyped.members().map(|(place, value)| value.map(|_| place).unwrap()).collect().await;
    assert_eq!(places, [0, 1]);
}

#[tokio::test]
async fn an_embedded_app_serves_every_queue_that_its_canvases_name() {
    let app = app();
    let run = app.submit(add.s((1, 2)) | add.s(3).option("queue", "elsewhere")).await.unwrap();
    assert_eq!(run.get_timeout(Duration::from_secs(20)).await.unwrap(), 6);
}

#[test]
fn an_embedded_app_goes_on_in_another_runtime() {
    let app = app();
    for number in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sum = runtime.block_on(async {
            let run = app.submit(add.s((number, 1))).await.unwrap();
            run.get_timeout(Duration::from_secs(20)).await.unwrap()
        });
        assert_eq!(sum, number + 1);
    }
}

#[tokio::test]
async fn the_tree_of_nodes_shows_how_each_stands() {
    let run = app().submit(fail.s(()) | add.s(1)).await.unwrap();
    run.get().await.unwrap_err();
    let tree = run.tree().await.unwrap();
    assert!(tree.contains("chain[0]") && tree.contains("app.fail") && tree.lines().count() >= 3, "{tree}");
}

#[tokio::test]
async fn options_at_their_ends_neither_panic_nor_wait_for_ever() {
    let long = Duration::MAX;
    let worker =
        WorkerOptions::default().concurrency(0).prefetch(usize::MAX).lease(long).queues(Vec::<String>::new());
    let app = App::builder("ends").tasks(tasks![add]).build().unwrap();
    let _worker = app.worker(worker);
    let _coordinator = app.coordinator(CoordinatorOptions {
        batch_max: 0,
        lease: long,
        sweep_every: Duration::ZERO,
        deliveries_max: 0,
    });
    let run = app.submit(add.s((1, 2))).await.unwrap();
    assert_eq!(run.get_timeout(long).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_run_learns_at_once_that_it_is_forgotten() {
    let run = app().submit(sleep.s(600_000)).await.unwrap();
    let (waiting, forgotten) = (run.clone(), run);
    let before = tokio::time::Instant::now();
    let (got, _) = tokio::join!(waiting.get(), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        forgotten.forget().await.unwrap();
    });
    assert!(matches!(got, Err(GetError::Backend(error)) if error.kind == ErrorKind::UnknownRun));
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_task_knows_its_ids() {
    let run = app().submit(ids.s(())).await.unwrap();
    let (run_id, task_id, attempt, key) = run.get().await.unwrap();
    assert_eq!(run_id, run.id().to_string());
    let task: celeriac::primitives::TaskId = task_id.parse().unwrap();
    assert_eq!((task.run(), task.node().number(), attempt), (run.id(), 1, 1));
    assert_eq!(key, task_id);
}

#[tokio::test]
async fn an_error_callback_gets_the_failure() {
    let run = app().submit(fail.s(()).on_error(report.s(()))).await.unwrap();
    run.get().await.unwrap_err();
    run.ended().await.unwrap();
    let errback = run.node_at("link_error[0]").unwrap();
    let said = run.outcome_of(errback).await.unwrap().unwrap().value().unwrap();
    assert_eq!(said.as_str(), "\"canvas (app.fail) failed: ValueError: boom\"");
}

#[tokio::test]
async fn a_state_reaches_its_task_and_a_missing_one_is_refused_at_the_start() {
    let app = App::embedded().tasks(tasks![greet]).state(Greeting("hello")).build().unwrap();
    assert_eq!(app.submit(greet.s("world")).await.unwrap().get().await.unwrap(), "hello, world");
    let error = App::embedded().tasks(tasks![greet]).build().unwrap_err();
    assert!(matches!(error, BuildError::MissingState { .. }));
    assert!(error.to_string().contains("task app.greet takes State<it::app::Greeting>"), "{error}");
}

#[tokio::test]
async fn two_tasks_of_one_name_are_refused() {
    let error = App::embedded().tasks(tasks![add]).tasks(tasks![add]).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "two tasks are called app.add; give one of them another name with #[task(name = \"…\")]"
    );
}

#[tokio::test]
async fn the_same_id_is_the_same_run_and_another_canvas_a_conflict() {
    let (app, id) = (app(), RunId::from_parts(7, 7));
    let first = app.submission(add.s((1, 2))).id(id).await.unwrap();
    let again = app.submission(add.s((1, 2))).id(id).await.unwrap();
    assert_eq!((first.id(), again.get().await.unwrap()), (again.id(), 3));
    let error = app.submission(add.s((1, 3))).id(id).await.unwrap_err();
    assert!(matches!(error, SubmitError::Backend(error) if error.kind == ErrorKind::Conflict));
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_its_place() {
    let limits = Limits { nodes_max: 3, ..Limits::default() };
    let app = App::embedded().tasks(tasks![add]).limits(limits).build().unwrap();
    let error = app.submit(group((0..4).map(|i| add.s((i, i))))).await.unwrap_err();
    assert!(error.to_string().starts_with("the canvas has more than 3 nodes"), "{error}");
}

#[tokio::test]
async fn a_forgotten_run_is_unknown() {
    let app = app();
    let run = app.submit(add.s((1, 2))).await.unwrap();
    run.get().await.unwrap();
    let other = run.clone();
    run.forget().await.unwrap();
    let error = other.get().await.unwrap_err();
    assert!(matches!(error, GetError::Backend(error) if error.kind == ErrorKind::UnknownRun));
    assert!(app.run::<i64>(other.id()).await.unwrap().is_none());
}

#[tokio::test]
async fn an_embedded_app_stops_with_its_last_clone_and_handle() {
    let backend = Memory::new();
    let app = App::embedded().tasks(tasks![add]).backend(backend.clone()).build().unwrap();
    let run = app.clone().submit(add.s((1, 2))).await.unwrap();
    drop(app);
    assert_eq!(run.get().await.unwrap(), 3);
    drop(run);
    tokio::task::yield_now().await;
    let client = App::builder("client").backend(backend).build().unwrap();
    let orphan = client.submit(add.s((1, 2))).await.unwrap();
    assert!(orphan.get_timeout(Duration::from_millis(50)).await.is_err(), "nobody is left to run it");
}

#[tokio::test]
async fn the_same_key_is_the_same_run_wherever_it_is_submitted() {
    let (app, backend) = (app(), std::sync::Arc::new(Memory::new()));
    let (here, there) = (app.on(backend.clone()), app.on(backend));
    let run = here.submission(add.s((1, 2))).key("order-4711").await.unwrap();
    assert_eq!(run.id(), RunId::from_key("order-4711"));
    assert_eq!(there.submission(add.s((1, 2))).key("order-4711").await.unwrap().id(), run.id());
    let error = there.submission(add.s((2, 2))).key("order-4711").await.unwrap_err();
    assert!(matches!(error, SubmitError::Backend(error) if error.kind == ErrorKind::Conflict));
    assert_ne!(there.submission(add.s((2, 2))).key("order-4712").await.unwrap().id(), run.id());
}

#[tokio::test]
async fn an_app_on_another_backend_has_its_tasks_and_works_only_where_told() {
    let app = app();
    let moved = app.on(std::sync::Arc::new(Memory::new()));
    assert!(!app.has_backend() && app.is_embedded() && moved.has_backend() && !moved.is_embedded());
    let run = moved.submit(add.s((1, 2))).await.unwrap();
    assert!(app.run::<i64>(run.id()).await.unwrap().is_none());
    let _up = (moved.coordinator(Default::default()), moved.worker(Default::default()));
    assert_eq!(run.get_timeout(Duration::from_secs(20)).await.unwrap(), 3);
    let back = moved.in_memory();
    assert!(!back.has_backend() && back.is_embedded());
    assert_eq!(back.submit(add.s((1, 3))).await.unwrap().get().await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn runs_are_listed_with_their_states() {
    let app = app();
    let chosen = [3, 2, 1].map(|number| RunId::from_parts(number, 0));
    app.submission(add.s((1, 2))).id(chosen[2]).await.unwrap();
    app.submission(fail.s(())).id(chosen[1]).await.unwrap();
    app.submission(sleep.s(60_000)).id(chosen[0]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let runs: Vec<_> = app.runs(None, 10).await.unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), chosen);
    let states: Vec<TaskState> = runs.iter().map(|run| run.state).collect();
    assert_eq!(states, [TaskState::Pending, TaskState::Failure, TaskState::Success]);
    assert_eq!((runs[2].status.done, runs[2].status.total()), (1, 1));
    assert_eq!(app.runs(Some(chosen[0]), 1).await.unwrap()[0].as_ref().unwrap().id, chosen[1]);
}
