//! A worker uses all its lanes: whatever runs beside it, a free lane takes what is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use celeriac_dsl::{State, group, task, tasks};
use celeriac_primitives::Options;
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

struct Hands {
    app: App,
    held: Arc<Held>,
    _coordinator: Coordinator,
}

impl Hands {
    fn start(subject: &dyn Subject) -> Self {
        let held = Arc::new(Held::default());
        let app = App::builder("hands").tasks(tasks![quick, nap, hold]).state(held.clone()).build();
        let app = app.expect("the tasks fit together").on(subject.shared());
        let _coordinator = app.coordinator(CoordinatorOptions::default());
        Self { app, held, _coordinator }
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
