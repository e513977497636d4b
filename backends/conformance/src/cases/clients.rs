//! What a client does with its futures is its own affair: one that nobody polls holds up nobody.

use std::time::Duration;

use celeriac_dsl::{task, tasks};
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, Handle, Worker, WorkerOptions};
use futures::future::maybe_done;
use futures::poll;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, timeout};

use crate::Subject;

/// Far more than it takes, and less than what gives up when nothing moves.
const PROMPT: Duration = Duration::from_secs(20);

/// As soon as this a run comes and goes at least once; a connection on which nothing moves is given up later.
const AT_ONCE: Duration = Duration::from_secs(1);

/// More than what waits in any row.
const MANY: usize = 400;

/// Larger than two pieces of a text.
const LARGE: usize = 1_200_000;

#[task(crate = celeriac_dsl, name = "clients.echo")]
async fn echo(text: String) -> String {
    text
}

struct Client {
    app: App,
    _coordinator: Coordinator,
    _worker: Worker,
}

impl Client {
    fn start(subject: &dyn Subject) -> Self {
        let app = App::builder("clients").tasks(tasks![echo]).build();
        let app = app.expect("the task is there").on(subject.shared());
        let _coordinator = app.coordinator(CoordinatorOptions::default());
        let _worker = app.worker(WorkerOptions::default());
        Self { app, _coordinator, _worker }
    }

    async fn submit(&self, bytes: usize) -> Handle<String> {
        let submitted = timeout(PROMPT, self.app.submit(echo.s("x".repeat(bytes)))).await;
        submitted.expect("nobody holds it up").unwrap()
    }

    /// A run comes and goes.
    async fn runs(&self, bytes: usize) {
        assert_eq!(value(&self.submit(bytes).await).await.len(), bytes);
    }
}

async fn value(run: &Handle<String>) -> String {
    run.get_timeout(PROMPT).await.expect("nobody holds it up")
}

pub async fn many_who_ask_and_are_not_polled_hold_up_nobody(subject: &dyn Subject) {
    let client = Client::start(subject);
    let run = client.submit(1).await;
    value(&run).await;
    let mut fastest = PROMPT;
    for _ in 0..3 {
        let mut asked: Vec<_> = (0..MANY).map(|_| Box::pin(maybe_done(run.state()))).collect();
        // Each is under way then, and polled no more.
        for one in &mut asked {
            let _ = poll!(one.as_mut());
        }
        let start = Instant::now();
        client.runs(1).await;
        fastest = fastest.min(start.elapsed());
        for mut one in asked {
            one.as_mut().await;
            one.as_mut().take_output().expect("it has ended").unwrap();
        }
    }
    assert!(fastest < AT_ONCE, "who is not polled holds up others for {fastest:?}");
}

pub async fn many_who_submit_and_are_not_polled_hold_up_nobody(subject: &dyn Subject) {
    let client = Client::start(subject);
    let mut submitted: FuturesUnordered<_> = (0..MANY).map(|_| client.submit(1)).collect();
    for _ in 0..3 {
        submitted.next().await.unwrap();
        client.runs(1).await;
    }
    let mut waits: FuturesUnordered<_> =
        submitted.map(|run| async move { value(&run).await }).collect::<FuturesUnordered<_>>().await;
    for _ in 0..3 {
        waits.next().await.unwrap();
        client.runs(1).await;
    }
    assert_eq!(waits.count().await, MANY - 6);
}

pub async fn large_values_that_are_half_read_hold_up_nobody(subject: &dyn Subject) {
    let client = Client::start(subject);
    let run = client.submit(LARGE).await;
    value(&run).await;
    let mut read: FuturesUnordered<_> = (0..8).map(|_| value(&run)).collect();
    for _ in 0..3 {
        read.next().await.unwrap();
        client.runs(LARGE).await;
    }
    assert_eq!(read.count().await, 5);
}

pub async fn large_arguments_that_are_half_written_hold_up_nobody(subject: &dyn Subject) {
    let client = Client::start(subject);
    let mut submitted: FuturesUnordered<_> = (0..8).map(|_| client.submit(LARGE)).collect();
    for _ in 0..3 {
        value(&submitted.next().await.unwrap()).await;
        client.runs(LARGE).await;
    }
    assert_eq!(submitted.count().await, 5);
}

/// Whoever gives something up after a while, and keeps the future, has stopped in the middle of it, wherever
/// that is.
pub async fn what_was_given_up_in_the_middle_holds_up_nobody(subject: &dyn Subject) {
    let client = Client::start(subject);
    for micros in (0..10_000).step_by(400) {
        let mut once = Box::pin(async { value(&client.submit(LARGE).await).await });
        let given_up = timeout(Duration::from_micros(micros), &mut once).await;
        client.runs(LARGE).await;
        if given_up.is_err() {
            assert_eq!(once.await.len(), LARGE);
        }
    }
}
