//! A worker uses all its lanes: whatever runs beside it, a free lane takes what is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use celeriac_dsl::{Retry, State, TaskContext, group, task, tasks};
use celeriac_primitives::{Canvas, Options, Signature, TaskError};
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, Handle, Worker, WorkerOptions};
use tokio::time::{Instant, sleep};

use crate::Subject;

/// Far more than a free lane needs, on a machine where others work; far less than what runs beside it.
const PROMPT: Duration = Duration::from_millis(500);

/// How many leaves have begun that do not end.
#[derive(Debug, Default)]
struct Held(AtomicUsize);

#[task(crate = celeriac_dsl, name = "hands.quick")]
async fn quick(number: u64) -> u64 {
    number
}

#[task(crate = celeriac_dsl, name = "hands.nap")]
async fn nap(ms: u64) -> u64 {
    sleep(Duration::from_millis(ms)).await;
    ms
}

/// Never ends.
#[task(crate = celeriac_dsl, name = "hands.hold")]
async fn hold(held: State<Arc<Held>>) -> u64 {
    held.0.fetch_add(1, Ordering::SeqCst);
    std::future::pending().await
}

/// What the test lets go: leaves that wait, and leaves that keep their thread.
#[derive(Debug, Default)]
struct Reins {
    first: AtomicBool,
    second: AtomicBool,
    hogs: AtomicBool,
}

/// A leaf that keeps its thread does so for at most so long.
const HOG: Duration = Duration::from_secs(10);

/// Waits until it is let go, and leaves its thread to others.
#[task(crate = celeriac_dsl, name = "hands.plug")]
async fn plug(is_first: bool, reins: State<Arc<Reins>>) {
    while !if is_first { &reins.first } else { &reins.second }.load(Ordering::SeqCst) {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Keeps its thread after it has waited.
#[task(crate = celeriac_dsl, name = "hands.late_hog")]
async fn late_hog(reins: State<Arc<Reins>>, held: State<Arc<Held>>) -> bool {
    sleep(Duration::from_millis(5)).await;
    held.0.fetch_add(1, Ordering::SeqCst);
    keep_thread(&reins)
}

/// Keeps its thread until it is let go; whether it was.
#[task(crate = celeriac_dsl, name = "hands.hog")]
async fn hog(reins: State<Arc<Reins>>, held: State<Arc<Held>>) -> bool {
    held.0.fetch_add(1, Ordering::SeqCst);
    keep_thread(&reins)
}

/// The same, and says so before.
#[task(crate = celeriac_dsl, name = "hands.tell")]
async fn tell(reins: State<Arc<Reins>>, ctx: TaskContext) -> Result<bool, TaskError> {
    ctx.update_state("HOLDS", &1)?;
    Ok(keep_thread(&reins))
}

/// Waits until so many of its kind have begun; whether they have.
#[task(crate = celeriac_dsl, name = "hands.meet")]
async fn meet(others: usize, held: State<Arc<Held>>) -> bool {
    held.0.fetch_add(1, Ordering::SeqCst);
    let until = Instant::now() + HOG;
    while held.0.load(Ordering::SeqCst) < others && Instant::now() < until {
        sleep(Duration::from_millis(1)).await;
    }
    held.0.load(Ordering::SeqCst) >= others
}

/// The same on its own thread, which it tells the runtime to replace.
#[task(crate = celeriac_dsl, name = "hands.meet_in_place")]
async fn meet_in_place(others: usize, held: State<Arc<Held>>) -> bool {
    tokio::task::block_in_place(|| {
        held.0.fetch_add(1, Ordering::SeqCst);
        let until = std::time::Instant::now() + HOG;
        while held.0.load(Ordering::SeqCst) < others && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        held.0.load(Ordering::SeqCst) >= others
    })
}

fn keep_thread(reins: &Reins) -> bool {
    let until = std::time::Instant::now() + HOG;
    while !reins.hogs.load(Ordering::SeqCst) {
        if std::time::Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

#[task(crate = celeriac_dsl, name = "hands.fails")]
async fn fails() -> Result<u64, TaskError> {
    Err(TaskError::new("ValueError", "no"))
}

#[task(crate = celeriac_dsl, name = "hands.again")]
async fn again(ctx: TaskContext) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    if ctx.attempt() == 1 { Err(Retry::now().into()) } else { Ok(2) }
}

struct Hands {
    app: App,
    held: Arc<Held>,
    reins: Arc<Reins>,
    _coordinator: Coordinator,
}

impl Hands {
    fn start(subject: &dyn Subject) -> Self {
        let held = Arc::new(Held::default());
        let reins = Arc::new(Reins::default());
        let tasks = tasks![quick, nap, hold, plug, hog, late_hog, tell, meet, meet_in_place, fails, again];
        let app = App::builder("hands").tasks(tasks).state(held.clone()).state(reins.clone()).build();
        let app = app.expect("the tasks fit together").on(subject.shared());
        let _coordinator = app.coordinator(CoordinatorOptions::default());
        Self { app, held, reins, _coordinator }
    }

    fn worker(&self, concurrency: usize) -> Worker {
        self.app.worker(WorkerOptions::default().concurrency(concurrency))
    }

    /// So many leaves have begun that never end, in this queue.
    async fn hold(&self, count: usize, options: Options) {
        let before = self.held.0.load(Ordering::SeqCst);
        let leaves = (0..count).map(|_| hold.s(()).set(options.clone()));
        self.app.submit(group(leaves)).await.unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while self.held.0.load(Ordering::SeqCst) < before + count {
            assert!(Instant::now() < until, "they do not begin");
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// A leaf is begun, run and settled at once, time after time. Half of the times may be slow, on a busy
    /// machine.
    async fn is_prompt(&self, options: Options) {
        let mut times = Vec::new();
        for number in 0..9 {
            let start = Instant::now();
            let run = self.app.submit(quick.s(number).set(options.clone())).await.unwrap();
            let value = run.get_timeout(Duration::from_secs(10)).await.expect("a lane is free");
            assert_eq!(value, number);
            times.push(start.elapsed());
        }
        times.sort_unstable();
        assert!(times[times.len() / 2] < PROMPT, "{times:?}");
    }

    /// Waits until so many leaves have begun that keep their threads.
    async fn hog_begins(&self, count: usize) {
        let until = Instant::now() + HOG;
        while self.held.0.load(Ordering::SeqCst) < count {
            assert!(Instant::now() < until, "it does not begin");
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn quick_ones(&self, count: u64) -> Handle<Vec<u64>> {
        self.app.submit(group((0..count).map(|number| quick.s(number)))).await.unwrap()
    }
}

fn placed(queue: &str, priority: u8) -> Options {
    let options = Options::new().with_queue(queue).expect("a good name");
    options.with_priority(priority).expect("a priority")
}

async fn ends(run: &Handle<Vec<u64>>) {
    run.get_timeout(Duration::from_secs(10)).await.expect("a lane is free");
}

pub async fn a_fresh_worker_begins_a_leaf_beside_those_that_never_end(subject: &dyn Subject) {
    let hands = Hands::start(subject);
    let _worker = hands.worker(4);
    for _ in 0..3 {
        hands.hold(1, Options::new()).await;
        hands.is_prompt(Options::new()).await;
    }
}

pub async fn a_worker_whose_leaves_were_slow_begins_a_leaf_beside_those_that_never_end(
    subject: &dyn Subject,
) {
    let hands = Hands::start(subject);
    let _worker = hands.worker(4);
    let slow = hands.app.submit(group((0..8).map(|_| nap.s(100)))).await.unwrap();
    slow.get_timeout(Duration::from_secs(10)).await.unwrap();
    hands.hold(3, Options::new()).await;
    hands.is_prompt(Options::new()).await;
}

pub async fn a_worker_whose_leaves_were_quick_begins_a_leaf_beside_those_that_never_end(
    subject: &dyn Subject,
) {
    let hands = Hands::start(subject);
    let _worker = hands.worker(4);
    ends(&hands.quick_ones(200).await).await;
    hands.hold(3, Options::new()).await;
    hands.is_prompt(Options::new()).await;
}

/// Quick leaves have few lanes. So many begin at the same time as there may be, whatever ran before.
async fn check_that_they_meet(subject: &dyn Subject, leaf: fn(usize) -> Canvas) {
    const LANES: usize = 12;
    let hands = Hands::start(subject);
    let _worker = hands.worker(LANES);
    for round in 1..=3 {
        ends(&hands.quick_ones(500).await).await;
        hands.held.0.store(0, Ordering::SeqCst);
        let run = hands.app.submit(Canvas::group((0..LANES).map(|_| leaf(LANES)))).await.unwrap();
        let met = run.get_timeout(Duration::from_secs(30)).await.unwrap();
        let all = vec![true; LANES];
        assert_eq!(met, serde_json::json!(all), "round {round}: some waited for the end of others");
    }
}

pub async fn leaves_that_wait_for_each_other_meet_after_quick_ones(subject: &dyn Subject) {
    check_that_they_meet(subject, |others| meet.s(others).untyped().expect("a number")).await;
}

pub async fn leaves_that_keep_their_threads_meet_after_quick_ones(subject: &dyn Subject) {
    check_that_they_meet(subject, |others| meet_in_place.s(others).untyped().expect("a number")).await;
}

pub async fn a_free_lane_takes_leaves_of_every_queue_and_priority(subject: &dyn Subject) {
    let hands = Hands::start(subject);
    let queues = ["celery", "second", "third"];
    let _worker = hands.app.worker(WorkerOptions::default().concurrency(4).queues(queues));
    for queue in queues {
        hands.hold(1, placed(queue, 9)).await;
        for queue in queues {
            hands.is_prompt(placed(queue, 0)).await;
        }
    }
}

pub async fn a_worker_without_a_free_lane_leaves_to_others_what_they_can_begin(subject: &dyn Subject) {
    let hands = Hands::start(subject);
    let _first = hands.worker(4);
    // Quick ones: it will think that it begins more within ten milliseconds.
    ends(&hands.quick_ones(200).await).await;
    hands.hold(4, Options::new()).await;
    let run = hands.quick_ones(20).await;
    sleep(Duration::from_millis(50)).await;
    let _second = hands.worker(1);
    ends(&run).await;
    for _ in 0..3 {
        hands.is_prompt(Options::new()).await;
    }
}

pub async fn a_worker_that_holds_nothing_besides_leaves_all_that_waits_to_others(subject: &dyn Subject) {
    check_that_it_holds(0, subject).await;
}

pub async fn a_worker_holds_at_most_as_many_leaves_besides_as_it_was_told(subject: &dyn Subject) {
    check_that_it_holds(3, subject).await;
}

async fn check_that_it_holds(prefetch: usize, subject: &dyn Subject) {
    let hands = Hands::start(subject);
    let first = hands.app.worker(WorkerOptions::default().concurrency(2).prefetch(prefetch));
    hands.hold(2, Options::new()).await;
    let runs = futures::future::join_all((0..8).map(|number| hands.app.submit(quick.s(number)))).await;
    sleep(Duration::from_millis(100)).await;
    let _second = hands.worker(4);
    let until = Instant::now() + Duration::from_secs(10);
    let left = async || {
        let mut left = 0;
        for run in &runs {
            left += usize::from(!run.as_ref().unwrap().ready().await.unwrap());
        }
        left
    };
    while left().await > prefetch {
        assert!(Instant::now() < until, "it holds more than {prefetch}");
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_millis(50)).await;
    // It takes more when half of what it may hold is used up: two that came at once are enough of three.
    let enough = prefetch.min(prefetch / 2 + 1);
    let left = left().await;
    assert!((enough..=prefetch).contains(&left), "{left} left: what it holds, no other worker has");
    first.shutdown(Duration::ZERO).await;
    for run in &runs {
        run.as_ref().unwrap().get_timeout(Duration::from_secs(10)).await.unwrap();
    }
}

/// What a leaf does that ends before another begins that keeps its thread.
fn call(task: &str, argument: Option<u64>) -> Canvas {
    let signature = Signature::new(task).expect("a good name");
    argument.into_iter().fold(signature, |leaf, argument| leaf.arg(argument).expect("a number")).into()
}

/// Its end is known while the next leaf of its lane keeps the thread.
async fn check_that_it_is_reported(subject: &dyn Subject, first: Canvas, lanes: usize) {
    let hands = Hands::start(subject);
    let _worker = hands.app.worker(WorkerOptions::default().concurrency(lanes).prefetch(16 * lanes));
    // As many lanes, each of which finds the leaf and then the other at hand.
    let mut plugs = Vec::new();
    for _ in 0..lanes {
        plugs.push(hands.app.submit(plug.s((true,))).await.unwrap());
    }
    sleep(Duration::from_millis(50)).await;
    let (mut firsts, mut hogs) = (Vec::new(), Vec::new());
    for _ in 0..lanes {
        firsts.push(hands.app.submit(first.clone()).await.unwrap());
    }
    // Runs may reach a queue in another order than they were submitted.
    sleep(Duration::from_millis(200)).await;
    for _ in 0..lanes {
        hogs.push(hands.app.submit(hog.s(())).await.unwrap());
    }
    sleep(Duration::from_millis(200)).await;
    // More than it holds, and than it begins before: what runs again is for another worker.
    hands.quick_ones(64).await;
    sleep(Duration::from_millis(100)).await;
    hands.reins.first.store(true, Ordering::SeqCst);
    hands.hog_begins(1).await;
    // For what runs again.
    let _second = hands.worker(1);
    for first in &firsts {
        let _ = first.get_json(Some(Duration::from_secs(30))).await;
    }
    hands.reins.hogs.store(true, Ordering::SeqCst);
    for run in hogs {
        let is_let_go = run.get_timeout(Duration::from_secs(30)).await.unwrap();
        assert!(is_let_go, "the end of a leaf was known when the next had ended");
    }
}

pub async fn a_quick_leaf_is_reported_while_the_next_keeps_its_thread(subject: &dyn Subject) {
    check_that_it_is_reported(subject, call("hands.quick", Some(1)), 1).await;
}

pub async fn a_leaf_that_has_waited_is_reported_while_the_next_keeps_its_thread(subject: &dyn Subject) {
    check_that_it_is_reported(subject, call("hands.nap", Some(3)), 1).await;
}

pub async fn a_failure_is_reported_while_the_next_leaf_keeps_its_thread(subject: &dyn Subject) {
    check_that_it_is_reported(subject, call("hands.fails", None), 1).await;
}

pub async fn a_retry_is_reported_while_the_next_leaf_keeps_its_thread(subject: &dyn Subject) {
    check_that_it_is_reported(subject, call("hands.again", None), 1).await;
}

pub async fn a_leaf_that_runs_at_most_once_is_reported_while_the_next_keeps_its_thread(
    subject: &dyn Subject,
) {
    let once = Signature::new("hands.quick").expect("a good name").arg(1).expect("a number");
    let once = once.set(&Options::new().with_acks_late(false));
    check_that_it_is_reported(subject, once.into(), 1).await;
}

pub async fn the_last_of_many_quick_leaves_is_reported_while_the_next_keeps_its_thread(
    subject: &dyn Subject,
) {
    let hands = Hands::start(subject);
    hands.app.submit(plug.s((true,))).await.unwrap();
    let _worker = hands.app.worker(WorkerOptions::default().concurrency(1).prefetch(1000));
    let mut many = Vec::new();
    for number in 0..200 {
        many.push(hands.app.submit(quick.s(number)).await.unwrap());
    }
    // Runs may reach a queue in another order than they were submitted.
    sleep(Duration::from_millis(200)).await;
    let holds = hands.app.submit(hog.s(())).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    hands.reins.first.store(true, Ordering::SeqCst);
    for run in many {
        run.get_timeout(Duration::from_secs(30)).await.unwrap();
    }
    hands.reins.hogs.store(true, Ordering::SeqCst);
    assert!(holds.get_timeout(Duration::from_secs(30)).await.unwrap(), "they were known when it had ended");
}

pub async fn leaves_of_two_lanes_are_reported_while_the_next_keep_their_threads(subject: &dyn Subject) {
    check_that_it_is_reported(subject, call("hands.nap", Some(3)), 2).await;
}

pub async fn a_free_lane_is_given_leaves_while_another_keeps_its_thread(subject: &dyn Subject) {
    let hands = Hands::start(subject);
    let _worker = hands.app.worker(WorkerOptions::default().concurrency(2).prefetch(1));
    hands.app.submit(plug.s((true,))).await.unwrap();
    let other = hands.app.submit(plug.s((false,))).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let holds = hands.app.submit(hog.s(())).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    hands.reins.first.store(true, Ordering::SeqCst);
    hands.hog_begins(1).await;
    hands.reins.second.store(true, Ordering::SeqCst);
    other.get_timeout(Duration::from_secs(30)).await.unwrap();
    for number in 0..4 {
        let run = hands.app.submit(quick.s(number)).await.unwrap();
        assert_eq!(run.get_timeout(Duration::from_secs(30)).await.unwrap(), number);
    }
    hands.reins.hogs.store(true, Ordering::SeqCst);
    assert!(holds.get_timeout(Duration::from_secs(30)).await.unwrap(), "the free lane had no leaf meanwhile");
}

pub async fn leaves_go_on_beside_one_that_has_waited_and_keeps_its_thread(subject: &dyn Subject) {
    let hands = Hands::start(subject);
    let _worker = hands.app.worker(WorkerOptions::default().concurrency(4));
    for round in 1..=5 {
        let holds = hands.app.submit(late_hog.s(())).await.unwrap();
        let naps = hands.app.submit(nap.s(20)).await.unwrap();
        hands.hog_begins(round).await;
        naps.get_timeout(Duration::from_secs(30)).await.unwrap();
        ends(&hands.quick_ones(4).await).await;
        hands.reins.hogs.store(true, Ordering::SeqCst);
        let is_let_go = holds.get_timeout(Duration::from_secs(30)).await.unwrap();
        assert!(is_let_go, "round {round}: all stood still meanwhile");
        hands.reins.hogs.store(false, Ordering::SeqCst);
    }
}

pub async fn progress_is_told_while_its_leaf_keeps_its_thread(subject: &dyn Subject) {
    let hands = Hands::start(subject);
    let _worker = hands.worker(1);
    let run = hands.app.submit(tell.s(())).await.unwrap();
    let until = Instant::now() + HOG * 2;
    while run.progress().await.unwrap().is_empty() && Instant::now() < until {
        sleep(Duration::from_millis(5)).await;
    }
    hands.reins.hogs.store(true, Ordering::SeqCst);
    assert!(run.get_timeout(Duration::from_secs(30)).await.unwrap(), "it was told when its leaf had ended");
}
