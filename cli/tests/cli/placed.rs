//! Where leaves go to: the same from the command line as from the library.

use std::time::Duration;

use celeriac_backends::{Queue as _, Take, WorkerId};
use celeriac_dsl::{Flow, task, tasks};
use celeriac_engine::{render, text};
use celeriac_primitives::{Json, Options, RunId};
use celeriac_redis::RedisBackend;
use celeriac_testkit::Server;

use super::*;

#[task(crate = celeriac_dsl, name = "me.add", queue = "hipri", priority = 7, retry = celeriac_primitives::RetryPolicy::new(2))]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(crate = celeriac_dsl, name = "me.sub")]
async fn sub(x: i64, y: i64) -> i64 {
    x - y
}

#[task(crate = celeriac_dsl, name = "me.plain")]
async fn plain(x: i64) -> i64 {
    x
}

fn placing() -> App {
    let to = |queue| Options::new().with_queue(queue).unwrap();
    App::builder("me").tasks(tasks![add, sub, plain]).route("me.s*", to("subs")).build().unwrap()
}

const CANVASES: &[&str] = &[
    "add.s(1, 2) | sub.s(1)",
    "chord([add.s(1, 1), sub.s(2, 1)], plain.si(1))",
    "add.starmap([(1, 2)])",
    "add.chunks([(1, 2), (3, 4)], 1)",
    "add.s(1, 2).set(queue='own', priority=1)",
    "plain.s(1).link(add.si(1, 1)).on_error(sub.si(1, 1))",
    "group(add.s(1, 1), plain.s(1)).set(queue='around')",
];

fn full_names(canvas: &str) -> celeriac_primitives::Canvas {
    text::parse_with(canvas, &placing().registry().names(), placing().limits()).unwrap()
}

#[test]
fn a_plan_has_the_queues_and_options_of_the_library_in_every_spelling() {
    for canvas in CANVASES {
        let compiled = placing().submission(full_names(canvas)).compile().unwrap();
        let expect = render::json(compiled.plan(), None) + "\n";
        let json = full_names(canvas).to_json();
        for spelled in [canvas, &json.as_str()] {
            let ran = by(placing, "", &["plan", spelled, "-o", "json"], std::future::pending());
            assert_eq!((ran.exit, ran.stderr.as_str()), (Exit::Ok, ""), "{spelled}");
            assert_eq!(ran.stdout, expect, "{spelled}");
        }
    }
    let plan = by(placing, "", &["plan", CANVASES[0], "-o", "json"], std::future::pending()).stdout;
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let [first, second] = [&plan["nodes"][0], &plan["nodes"][1]];
    assert_eq!((&first["queue"], &second["queue"]), (&"hipri".into(), &"subs".into()));
    assert_eq!(
        (&first["options"]["priority"], &first["options"]["retry"]["max_retries"]),
        (&7.into(), &2.into())
    );
}

/// The command line on a Redis, and what is in the queue then.
#[test]
fn what_is_submitted_goes_where_the_library_sends_it() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = server.url();
        let backend = RedisBackend::connect(&url).await.unwrap();
        for canvas in CANVASES {
            let said = command(&placing(), &["submit", "--url", &url, canvas]).await;
            let id: RunId = said.strip_prefix("0 ").expect(&said).trim().parse().unwrap();
            let canvas = Flow::<(), Json>::assume(full_names(canvas));
            let run = placing().on(Arc::new(backend.clone())).submission(canvas).await.unwrap();
            let mine =
                placing().on(Arc::new(backend.clone())).run::<Json>(id).await.unwrap().expect("it is there");
            assert_eq!(render::json(mine.plan(), None), render::json(run.plan(), None));
        }
        let queues = ["hipri", "subs", "own", "around", "celery"].map(Arc::from);
        let take = Take::new(99, Duration::from_secs(10));
        let taken = backend.receive(&WorkerId::new("w"), &queues, take).await.unwrap();
        let mut seen: Vec<String> = taken
            .iter()
            .map(|delivery| {
                let priority = delivery.message.options.as_ref().and_then(|options| options.priority);
                format!("{} {} {priority:?}", delivery.message.task, delivery.id.queue)
            })
            .collect();
        seen.sort();
        seen.dedup();
        assert_eq!(
            seen,
            [
                "me.add around Some(7)",
                "me.add hipri Some(7)",
                "me.add own Some(1)",
                "me.plain around None",
                "me.plain celery None",
                "me.sub subs None",
            ]
        );
    });
}

#[test]
fn a_canvas_with_a_task_id_is_one_run_from_the_command_line_too() {
    on_a_backend(async |app| {
        let canvas = "add.s(1, 1).set(task_id='order-4711')";
        let first = command(&app, &["submit", canvas]).await;
        assert_eq!(command(&app, &["submit", canvas]).await, first);
        assert_eq!(first.trim(), format!("0 {}", RunId::from_key("order-4711")));
        let other = command(&app, &["submit", "add.s(1, 2).set(task_id='order-4711')"]).await;
        assert_eq!(other, "7 error: the task_id of this canvas is taken: its run has another canvas\n");
    });
}

/// A program without tasks, as the bare command line.
#[test]
fn where_nobody_knows_submit_says_so() {
    block_on(async {
        let app = App::builder("bare").build().unwrap().on(Arc::new(Memory::new()));
        let said =
            command(&app, &["submit", "--key", "k", "a.b.s(1) | c.d.s().set(queue='q') | e.f.s()"]).await;
        let id = RunId::from_key("k");
        assert_eq!(
            said,
            format!(
                "0 {id}\nnote: this program does not have a.b, e.f, so their leaves go to the queue celery; where their \
                 workers serve another, write .set(queue=\"…\")\n"
            )
        );
    });
}
