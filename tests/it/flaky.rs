//! A backend that fails, or a coordinator that goes away, at every single call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use celeriac::backends::{
    Advance, Advanced, BackendError, Begin, DeadLetter, DeadLetters, Delivery, DeliveryId, Dispatch,
    ErrorKind, EventDelivery, EventId, Events, Grown, Known, LetterId, NewRun, Origin, Progress, Queue,
    Requeued, RunStatus, Store, Submitted, Swept, Take, WorkerId,
};
use celeriac::engine::advance::Phase;
use celeriac::engine::plan::ScopeNo;
use celeriac::engine::{Plan, Release};
use celeriac::memory::Memory;
use celeriac::prelude::*;
use celeriac::primitives::{Completion, Json, NodeNo, Outcome, RunId, RunRef, Stored, TaskId, TaskMessage};

/// What happens at the call that is meant.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Nothing was done, and the caller hears so.
    Refused,
    /// It was done, and the caller hears that it was not.
    DoneAndDenied,
    /// The caller never hears again: it died after the call.
    Dead,
}

/// Memory, with one fault at the n-th call that changes or reads a run.
#[derive(Clone, Debug)]
pub(crate) struct Flaky {
    inner: Memory,
    fault: Fault,
    at: usize,
    calls: Arc<AtomicUsize>,
    corrupt: Option<RunId>,
    refuses: Option<Refusal>,
    panics: Panics,
    poison: Poison,
    link: Link,
}

/// What has gone on the way to the backend, in this order.
#[derive(Clone, Debug, Default)]
struct Link(Arc<Mutex<Vec<&'static str>>>);

impl Link {
    /// Passes through so many tasks first.
    async fn pass(&self, operation: &'static str, tasks: usize) {
        for _ in 0..tasks {
            tokio::spawn(std::future::ready(())).await.expect("it does not panic");
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reports and leaves that are refused, with whatever comes with them, until it is mended; and how often they
/// were.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) refused: Arc<AtomicUsize>,
    pub(crate) is_mended: Arc<AtomicBool>,
    pub(crate) kind: ErrorKind,
    pub(crate) refuses: fn(&Completion) -> bool,
    pub(crate) leaves: fn(&Dispatch) -> bool,
    pub(crate) renewals: bool,
}

/// What an operation does each time for one run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Harm {
    Panics,
    /// It never returns.
    Hangs,
    /// It takes so long.
    Takes(Duration),
}

/// Operations that do harm for one run each time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Poison(Arc<Mutex<HashMap<RunId, (&'static str, Harm)>>>);

impl Poison {
    pub(crate) fn add(&self, run: RunId, operation: &'static str, harm: Harm) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(run, (operation, harm));
    }

    async fn taste(&self, run: RunRef, operation: &'static str) {
        let harm = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&run.id).copied();
        match harm.filter(|(poisoned, _)| *poisoned == operation) {
            None => {}
            Some((_, Harm::Panics)) => panic!("{operation} of {run} is poison"),
            Some((_, Harm::Hangs)) => std::future::pending().await,
            Some((_, Harm::Takes(time))) => tokio::time::sleep(time).await,
        }
    }
}

/// How often the next calls of an operation panic.
pub(crate) type Panics = Arc<Mutex<HashMap<&'static str, usize>>>;

impl Flaky {
    fn new(inner: Memory, fault: Fault, at: usize) -> Self {
        Self {
            inner,
            fault,
            at,
            calls: Arc::default(),
            corrupt: None,
            refuses: None,
            panics: Panics::default(),
            poison: Poison::default(),
            link: Link::default(),
        }
    }

    /// Memory, of which some operations panic.
    pub(crate) fn panicking(panics: Panics) -> Self {
        Self { panics, ..Self::new(Memory::new(), Fault::Refused, usize::MAX) }
    }

    /// Memory that refuses some reports.
    pub(crate) fn refusing(refusal: Refusal) -> Self {
        Self { refuses: Some(refusal), ..Self::new(Memory::new(), Fault::Refused, usize::MAX) }
    }

    /// Memory that panics for chosen runs.
    pub(crate) fn poisoned() -> (Self, Poison) {
        let poison = Poison::default();
        (Self { poison: poison.clone(), ..Self::new(Memory::new(), Fault::Refused, usize::MAX) }, poison)
    }

    fn enter(&self, operation: &'static str) {
        let mut panics = self.panics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = panics.get_mut(operation).filter(|left| **left > 0) {
            *left -= 1;
            panic!("{operation} panics");
        }
    }

    async fn call<T>(
        &self,
        operation: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        let hit = self.calls.fetch_add(1, Ordering::SeqCst) == self.at;
        let down = || Err(BackendError::new(ErrorKind::Unavailable, "test"));
        match self.fault {
            Fault::Refused if hit => down(),
            Fault::DoneAndDenied if hit => operation.await.and_then(|_| down()),
            Fault::Dead if hit => {
                let _ = operation.await;
                std::future::pending().await
            }
            _ => operation.await,
        }
    }
}

#[async_trait]
impl Store for Flaky {
    async fn submit(&self, run: NewRun) -> Result<Submitted, BackendError> {
        self.enter("submit");
        self.inner.submit(run).await
    }
    async fn find(&self, id: RunId) -> Result<Option<(RunRef, Arc<Plan>)>, BackendError> {
        self.enter("find");
        self.call(self.inner.find(id)).await
    }
    async fn plan(&self, run: RunRef) -> Result<Option<Arc<Plan>>, BackendError> {
        self.enter("plan");
        if self.corrupt == Some(run.id) {
            return Err(BackendError::new(ErrorKind::Corrupt, "plan"));
        }
        self.call(self.inner.plan(run)).await
    }
    fn plan_at_hand(&self, run: RunRef) -> Option<Arc<Plan>> {
        self.inner.plan_at_hand(run).filter(|_| self.corrupt != Some(run.id))
    }
    async fn settle(&self, batch: &[Advance]) -> Result<Vec<Result<Advanced, BackendError>>, BackendError> {
        self.enter("settle");
        for advance in batch {
            self.poison.taste(advance.run, "settle").await;
        }
        self.link.pass("settle", 1).await;
        self.call(self.inner.settle(batch)).await
    }
    async fn outbox(&self, run: RunRef) -> Result<Vec<Release>, BackendError> {
        self.enter("outbox");
        self.call(self.inner.outbox(run)).await
    }
    async fn owing(&self, max: usize) -> Result<Vec<RunRef>, BackendError> {
        self.enter("owing");
        self.inner.owing(max).await
    }
    async fn known(
        &self,
        run: RunRef,
        nodes: &[NodeNo],
        scopes: &[ScopeNo],
    ) -> Result<Option<Known>, BackendError> {
        self.enter("known");
        self.call(self.inner.known(run, nodes, scopes)).await
    }
    async fn dispatch(&self, run: RunRef, leaves: &[Dispatch]) -> Result<usize, BackendError> {
        self.enter("dispatch");
        self.poison.taste(run, "dispatch").await;
        if let Some(refusal) = self.refuses.as_ref().filter(|refusal| leaves.iter().any(refusal.leaves)) {
            refusal.refused.fetch_add(1, Ordering::SeqCst);
            return Err(BackendError::new(refusal.kind, "dispatch").context("the command has 9 bytes"));
        }
        self.call(self.inner.dispatch(run, leaves)).await
    }
    async fn note_progress(&self, reports: &[Progress]) -> Result<(), BackendError> {
        self.enter("note_progress");
        self.inner.note_progress(reports).await
    }
    async fn progress(&self, run: RunRef, nodes: &[NodeNo]) -> Result<Vec<Progress>, BackendError> {
        self.enter("progress");
        self.inner.progress(run, nodes).await
    }
    async fn now(&self) -> Result<u64, BackendError> {
        self.enter("now");
        self.inner.now().await
    }
    async fn grow(
        &self,
        root: RunRef,
        segment: RunId,
        nodes: usize,
        max: usize,
    ) -> Result<Grown, BackendError> {
        self.enter("grow");
        self.call(self.inner.grow(root, segment, nodes, max)).await
    }
    async fn segments(&self, run: RunRef) -> Result<Vec<RunId>, BackendError> {
        self.enter("segments");
        self.inner.segments(run).await
    }
    async fn origin(&self, run: RunRef) -> Result<Option<Origin>, BackendError> {
        self.enter("origin");
        self.call(self.inner.origin(run)).await
    }
    async fn status(&self, run: RunId) -> Result<Option<RunStatus>, BackendError> {
        self.enter("status");
        self.inner.status(run).await
    }
    async fn changed(
        &self,
        run: RunRef,
        since: u64,
        time: Duration,
    ) -> Result<Option<RunStatus>, BackendError> {
        self.enter("changed");
        self.inner.changed(run, since, time).await
    }
    async fn decided(
        &self,
        run: RunRef,
        nodes: &[NodeNo],
        time: Duration,
    ) -> Result<Option<(RunStatus, Known)>, BackendError> {
        self.enter("decided");
        self.inner.decided(run, nodes, time).await
    }
    async fn phases(&self, run: RunRef) -> Result<Option<Vec<Phase>>, BackendError> {
        self.enter("phases");
        self.inner.phases(run).await
    }
    async fn list(&self, before: Option<RunId>, max: usize) -> Result<Vec<RunId>, BackendError> {
        self.enter("list");
        self.inner.list(before, max).await
    }
    fn inline_bytes_max(&self) -> usize {
        self.inner.inline_bytes_max()
    }
    async fn keep(&self, value: &Stored, text: &str) -> Result<bool, BackendError> {
        self.call(self.inner.keep(value, text)).await
    }
    async fn fetch(&self, value: &Stored, out: &mut Vec<u8>) -> Result<bool, BackendError> {
        let start = out.len();
        let fetched = self.call(self.inner.fetch(value, out)).await;
        if fetched.is_err() {
            out.truncate(start);
        }
        fetched
    }
    async fn discard(&self, leaf: TaskId, value: &Stored) -> Result<(), BackendError> {
        self.call(self.inner.discard(leaf, value)).await
    }
    async fn forget(&self, run: RunRef) -> Result<bool, BackendError> {
        self.enter("forget");
        self.inner.forget(run).await
    }
}

#[async_trait]
impl Queue for Flaky {
    async fn receive(
        &self,
        worker: &WorkerId,
        queues: &[Arc<str>],
        take: Take,
    ) -> Result<Vec<Delivery>, BackendError> {
        self.enter("receive");
        self.inner.receive(worker, queues, take).await
    }
    async fn finish(&self, done: &[(DeliveryId, Completion)]) -> Result<(), BackendError> {
        self.enter("finish");
        if let Some(Refusal { refused, kind, refuses, is_mended, .. }) = &self.refuses
            && !is_mended.load(Ordering::SeqCst)
            && done.iter().any(|(_, completion)| refuses(completion))
        {
            refused.fetch_add(1, Ordering::SeqCst);
            return Err(BackendError::new(*kind, "finish"));
        }
        self.call(self.inner.finish(done)).await
    }
    async fn begin(&self, worker: &WorkerId, delivery: &Delivery, once: bool) -> Result<Begin, BackendError> {
        self.enter("begin");
        self.call(self.inner.begin(worker, delivery, once)).await
    }
    async fn fire(&self) -> Result<Option<Duration>, BackendError> {
        self.enter("fire");
        self.inner.fire().await
    }
    async fn postpone(
        &self,
        worker: &WorkerId,
        id: &DeliveryId,
        leaf: Arc<TaskMessage>,
        after: Duration,
    ) -> Result<(), BackendError> {
        self.enter("postpone");
        self.inner.postpone(worker, id, leaf, after).await
    }
    async fn renew(
        &self,
        worker: &WorkerId,
        ids: &[DeliveryId],
        lease: Duration,
    ) -> Result<(), BackendError> {
        self.enter("renew");
        if let Some(Refusal { kind, is_mended, renewals: true, .. }) = &self.refuses
            && !is_mended.load(Ordering::SeqCst)
        {
            return Err(BackendError::new(*kind, "renew"));
        }
        self.inner.renew(worker, ids, lease).await
    }
    async fn hand_back(&self, worker: &WorkerId, ids: &[DeliveryId]) -> Result<(), BackendError> {
        self.enter("hand_back");
        self.inner.hand_back(worker, ids).await
    }
    async fn retire(&self, worker: &WorkerId, queues: &[Arc<str>]) -> Result<(), BackendError> {
        self.enter("retire");
        self.inner.retire(worker, queues).await
    }
    async fn quiesce(&self) {
        self.enter("quiesce");
        self.inner.quiesce().await;
    }
    async fn sweep(&self, deliveries_max: u32) -> Result<Swept, BackendError> {
        self.enter("sweep");
        self.inner.sweep(deliveries_max).await
    }
}

#[async_trait]
impl Events for Flaky {
    async fn events(
        &self,
        max: usize,
        lease: Duration,
        wait: Duration,
    ) -> Result<Vec<EventDelivery>, BackendError> {
        self.enter("events");
        self.link.pass("events", 2).await;
        let taken = self.inner.events(max, lease, wait).await?;
        for delivery in &taken {
            self.poison.taste(delivery.event.run(), "events").await;
        }
        Ok(taken)
    }
    async fn renew_events(&self, events: &[EventId], lease: Duration) -> Result<(), BackendError> {
        self.enter("renew_events");
        self.inner.renew_events(events, lease).await
    }
    async fn acknowledge(&self, events: &[EventId]) -> Result<(), BackendError> {
        self.enter("acknowledge");
        self.call(self.inner.acknowledge(events)).await
    }
    async fn hand_back_events(&self, events: &[EventId]) -> Result<(), BackendError> {
        self.enter("hand_back_events");
        self.inner.hand_back_events(events).await
    }
    async fn set_aside(&self, event: &EventDelivery, reason: &str) -> Result<(), BackendError> {
        self.enter("set_aside");
        self.call(self.inner.set_aside(event, reason)).await
    }
    async fn announce_again(&self, runs: &[RunRef]) -> Result<usize, BackendError> {
        self.enter("announce_again");
        self.inner.announce_again(runs).await
    }
}

#[async_trait]
impl DeadLetters for Flaky {
    async fn dead_letters(
        &self,
        after: Option<LetterId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, BackendError> {
        self.inner.dead_letters(after, max).await
    }
    async fn requeue(&self, letter: LetterId) -> Result<Requeued, BackendError> {
        self.inner.requeue(letter).await
    }
    async fn drop_letter(&self, letter: LetterId) -> Result<bool, BackendError> {
        self.inner.drop_letter(letter).await
    }
}

struct Calls(AtomicUsize);

#[task(name = "flaky.add")]
async fn add(x: i64, y: i64, calls: State<Arc<Calls>>) -> i64 {
    calls.0.fetch_add(1, Ordering::SeqCst);
    x + y
}

#[task(name = "flaky.sum")]
async fn sum(numbers: Vec<i64>, calls: State<Arc<Calls>>) -> i64 {
    calls.0.fetch_add(1, Ordering::SeqCst);
    numbers.iter().sum()
}

/// Runs another leaf in its place.
#[task(name = "flaky.add_replaced")]
async fn add_replaced(ctx: TaskContext, x: i64, y: i64, calls: State<Arc<Calls>>) -> Result<i64, TaskError> {
    calls.0.fetch_add(1, Ordering::SeqCst);
    ctx.replace(add.s((x, y)))
}

/// A chain before arms of unequal length, their body, one that is replaced, and one more: eight leaves, 42.
fn canvas() -> celeriac::dsl::Flow<(), i64> {
    add.s((1, 1)) | chord([add.s(1), add.s(2), add.s(3)], sum.s(())) | add_replaced.s(30) | add.si((40, 2))
}

fn app(backend: Flaky, calls: &Arc<Calls>) -> App {
    App::builder("flaky")
        .tasks(tasks![add, sum, add_replaced])
        .state(calls.clone())
        .backend(backend)
        .build()
        .unwrap()
}

/// Runs the canvas with a fault at this call; returns how many calls there were.
async fn run_with(fault: Fault, at: usize) -> usize {
    let (memory, calls) = (Memory::new(), Arc::new(Calls(AtomicUsize::new(0))));
    let flaky = Flaky::new(memory.clone(), fault, at);
    let seen = flaky.calls.clone();
    let (sick, well) = (app(flaky, &calls), app(Flaky::new(memory, Fault::Refused, usize::MAX), &calls));
    // A coordinator whose call never returns is replaced; a worker of its own store is not its matter here.
    let first = sick.coordinator(CoordinatorOptions::default());
    let _worker = if fault == Fault::Dead {
        well.worker(WorkerOptions::default())
    } else {
        sick.worker(WorkerOptions::default())
    };
    let run = well.submit(canvas()).await.unwrap();
    let before = tokio::time::Instant::now();
    let mut second = None;
    if fault == Fault::Dead {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(first);
        second = Some(well.coordinator(CoordinatorOptions::default()));
    }
    let value = run.get_timeout(Duration::from_secs(300)).await;
    assert_eq!(value.unwrap_or_else(|error| panic!("{fault:?} at call {at}: {error}")), 42);
    assert_eq!(calls.0.load(Ordering::SeqCst), 8, "{fault:?} at call {at}: every leaf ran once");
    let most = if fault == Fault::Dead { 60 } else { 1 };
    assert!(
        before.elapsed() < Duration::from_secs(most),
        "{fault:?} at call {at} cost {:?}",
        before.elapsed()
    );
    drop(second);
    seen.load(Ordering::SeqCst)
}

async fn at_every_call(fault: Fault) {
    let calls = run_with(fault, usize::MAX).await;
    assert!(calls > 8, "only {calls} calls");
    for at in 0..calls {
        run_with(fault, at).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_refused_is_made_again_at_once() {
    at_every_call(Fault::Refused).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_done_and_denied_is_made_again_and_changes_nothing() {
    at_every_call(Fault::DoneAndDenied).await;
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_dies_after_any_call_is_replaced_and_nothing_is_lost_or_doubled() {
    at_every_call(Fault::Dead).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_be_read_holds_up_no_other() {
    let calls = Arc::new(Calls(AtomicUsize::new(0)));
    let mut flaky = Flaky::new(Memory::new(), Fault::Refused, usize::MAX);
    let bad = RunId::from_parts(1, 1);
    flaky.corrupt = Some(bad);
    let app = app(flaky, &calls);
    // All are there when the coordinator comes: one batch.
    let broken = app.submission(canvas()).id(bad).await.unwrap();
    let mut runs = Vec::new();
    for _ in 0..10 {
        runs.push(app.submit(canvas()).await.unwrap());
    }
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default());
    for run in runs {
        assert_eq!(run.get_timeout(Duration::from_secs(5)).await.unwrap(), 42);
    }
    assert!(!broken.ready().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_worker_stops_in_time_although_its_backend_does_not_answer() {
    let calls = Arc::new(Calls(AtomicUsize::new(0)));
    let memory = Memory::new();
    // The third call is the worker's report; it never returns.
    let flaky = Flaky::new(memory.clone(), Fault::Dead, 0);
    let (sick, well) = (app(flaky, &calls), app(Flaky::new(memory, Fault::Refused, usize::MAX), &calls));
    let _coordinator = well.coordinator(CoordinatorOptions::default());
    let worker = sick.worker(WorkerOptions::default());
    well.submit(add.s((1, 2))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = tokio::time::Instant::now();
    worker.shutdown(Duration::from_secs(2)).await;
    assert!(before.elapsed() < Duration::from_secs(15), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_next_events_are_asked_for_before_a_large_batch_is_written() {
    const BATCH: usize = 100;
    let flaky = Flaky::new(Memory::new(), Fault::Refused, usize::MAX);
    let link = flaky.link.clone();
    let app = app(flaky.clone(), &Arc::new(Calls(AtomicUsize::new(0))));
    let options = CoordinatorOptions { batch_max: BATCH, ..CoordinatorOptions::default() };
    let _coordinator = app.coordinator(options);
    app.submit(group((0..3 * BATCH as i64).map(|n| add.s((n, n))))).await.unwrap();
    let (worker, queues) = (WorkerId::new("test"), [Arc::from("celery")]);
    let mut done = Vec::new();
    while done.len() < 3 * BATCH {
        let take = Take::new(3 * BATCH, Duration::from_secs(60)).wait(Duration::from_secs(1));
        for delivery in flaky.receive(&worker, &queues, take).await.unwrap() {
            let large = Outcome::Success(Json::string(&"x".repeat(4000)));
            done.push((delivery.id, delivery.message.completion(large)));
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    link.take();
    flaky.finish(&done).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        link.take()[..4],
        ["events", "settle", "events", "settle"],
        "the answers wait behind what is written"
    );
}
