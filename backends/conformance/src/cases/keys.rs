//! A key is one run, however its times are given: what was given is compared, not the moments made of it.

use std::time::Duration;

use celeriac_backends::ErrorKind;
use celeriac_dsl::{task, tasks};
use celeriac_engine::text;
use celeriac_primitives::{Canvas, Options, RetryPolicy};
use celeriac_runtime::{App, AppBuilder, CoordinatorOptions, GetError, SubmitError, WorkerOptions};

use crate::Subject;

#[task(crate = celeriac_dsl, name = "keys.plain")]
async fn plain(number: i64) -> i64 {
    number
}

#[task(crate = celeriac_dsl, name = "keys.declared", expires = 60)]
async fn declared(number: i64) -> i64 {
    number
}

const MINUTE: Duration = Duration::from_secs(60);

fn builder() -> AppBuilder {
    let minute = Options::new().with_expires(MINUTE);
    App::builder("keys").tasks(tasks![plain, declared]).route("routed.*", minute)
}

fn app(subject: &dyn Subject) -> App {
    builder().build().expect("the tasks fit together").on(subject.shared())
}

/// The same again after a while is the same run.
async fn check(subject: &dyn Subject, name: &str, canvas: &Canvas, options: &Options) {
    let app = app(subject);
    let submit = || app.submission(canvas.clone()).options(options).key(name);
    let first = submit().await.expect(name);
    for _ in 0..2 {
        subject.pass(Duration::from_millis(20)).await;
        let again = submit().await.expect(name);
        assert_eq!(again.run(), first.run(), "{name}");
        assert_eq!(again.plan(), first.plan(), "{name}: with the moments of the first");
    }
    first.forget().await.expect(name);
}

fn parse(canvas: &str) -> Canvas {
    text::parse(canvas).expect(canvas)
}

pub async fn the_same_canvas_with_a_relative_time_under_one_key_is_one_run(subject: &dyn Subject) {
    let none = Options::new();
    let expires = Options::new().with_expires(MINUTE);
    let countdown = Options::new().with_countdown(MINUTE);
    let both = expires.clone().with_countdown(Duration::from_secs(1));
    let policy = RetryPolicy::new(3).after(MINUTE).backoff(Duration::from_secs(1));
    let retry = expires.clone().with_retry(&policy);
    let chord = "chord([keys.plain.s(1), keys.plain.s(2)], keys.plain.si(3))";
    let json = r#"{"task":"keys.plain","args":[1],"kwargs":{},"options":{"expires":60,"countdown":60}}"#;
    for (name, canvas, options) in [
        ("expires of the run", parse("keys.plain.s(1)"), &expires),
        ("countdown of the run", parse("keys.plain.s(1)"), &countdown),
        ("both, of a chain", parse("keys.plain.s(1) | keys.plain.si(2)"), &both),
        ("expires of a chord", parse(chord), &expires),
        ("a retry policy and expires", parse("keys.plain.s(1)"), &retry),
        (
            "expires and a leaf with its own",
            parse("keys.plain.s(1).set(expires=30) | keys.plain.si(2)"),
            &expires,
        ),
        ("expires of a task", parse("keys.declared.s(1)"), &none),
        ("expires of a routed task", parse("routed.task.s(1)"), &none),
        ("expires of a callback", parse("keys.plain.s(1).link(keys.plain.si(2).set(expires=60))"), &none),
        (
            "countdown of an error callback",
            parse("keys.plain.s(1).link_error(keys.plain.si(2).set(countdown=60))"),
            &none,
        ),
        (
            "countdown of a body and expires of a member",
            parse("chord([keys.plain.s(1).set(expires=60)], keys.plain.si(3).set(countdown=60))"),
            &none,
        ),
        (
            "expires of a list in a list",
            parse("group(group(keys.plain.s(1)).set(expires=60), keys.plain.s(2))"),
            &none,
        ),
        ("a map and its countdown", parse("keys.plain.map([1, 2]).set(countdown=60)"), &none),
        ("text", parse("keys.plain.s(1).set(expires=60, countdown=60)"), &none),
        ("JSON", Canvas::from_json(json).unwrap(), &none),
    ] {
        check(subject, name, &canvas, options).await;
    }
}

pub async fn a_canvas_with_a_task_id_and_a_relative_time_is_one_run(subject: &dyn Subject) {
    let app = app(subject);
    let json = r#"{"task":"keys.plain","args":[1],"kwargs":{},"options":{"expires":60,"task_id":"order-1"}}"#;
    let named = parse("keys.plain.s(1).set(task_id='order-2')");
    for (canvas, key) in [(Canvas::from_json(json).unwrap(), "order-1"), (named, "order-2")] {
        let submit = || app.submission(canvas.clone()).expires(MINUTE);
        let first = submit().await.unwrap();
        subject.pass(Duration::from_millis(20)).await;
        assert_eq!(submit().await.unwrap().run(), first.run());
        assert_eq!(app.run_keyed::<i64>(key).await.unwrap().unwrap().run(), first.run());
    }
}

pub async fn another_relative_time_under_the_same_key_is_a_conflict(subject: &dyn Subject) {
    let app = app(subject);
    let submit = |ms| app.submission(parse("keys.plain.s(1)")).expires(Duration::from_millis(ms)).key("k");
    let first = submit(60_000).await.unwrap();
    for ms in [59_999, 60_001] {
        let error = submit(ms).await.unwrap_err();
        let SubmitError::Backend(error) = error else { panic!("{error}") };
        assert_eq!(error.kind, ErrorKind::Conflict);
    }
    // Without a time it is something else, too.
    let error = app.submission(parse("keys.plain.s(1)")).key("k").await.unwrap_err();
    let SubmitError::Backend(error) = error else { panic!("{error}") };
    assert_eq!(error.kind, ErrorKind::Conflict);
    first.forget().await.unwrap();
    submit(59_999).await.expect("the key is free again");
}

/// The moment is that of the first submission.
pub async fn a_run_submitted_again_expires_when_it_would_have(subject: &dyn Subject) {
    let app = app(subject);
    let submit = || app.submission(parse("keys.plain.s(1)")).expires(Duration::from_millis(400)).key("k");
    let first = submit().await.unwrap();
    subject.pass(Duration::from_millis(300)).await;
    assert_eq!(submit().await.unwrap().run(), first.run());
    subject.pass(Duration::from_millis(200)).await;
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default());
    match first.get().await {
        Err(GetError::Failed(failure)) => assert_eq!(failure.error.message, "expired"),
        other => panic!("{other:?}"),
    }
}

/// The second run under a key counts from its own submission.
pub async fn a_key_that_is_used_again_counts_from_its_own_submission(subject: &dyn Subject) {
    let app = app(subject);
    let submit = || app.submission(parse("keys.plain.s(1)")).expires(Duration::from_millis(400)).key("k");
    let first = submit().await.unwrap();
    let before = first.run();
    subject.pass(Duration::from_millis(300)).await;
    first.forget().await.unwrap();
    let second = submit().await.unwrap();
    assert_ne!(second.run(), before);
    subject.pass(Duration::from_millis(200)).await;
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default());
    assert_eq!(second.get().await.expect("its time is not over").to_string(), "1");
    // What has ended is the same run still, whatever the time.
    subject.pass(Duration::from_millis(300)).await;
    assert_eq!(submit().await.unwrap().run(), second.run());
}
