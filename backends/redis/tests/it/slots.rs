//! Slots of a Cluster move while runs are under way: clients meet ASK, MOVED, and TRYAGAIN as long as a part
//! of the keys has moved. Every run ends as if nothing moved, and soon.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use celeriac_conformance::whole::{Crew, Runs};
use celeriac_engine::text;
use celeriac_primitives::Canvas;
use celeriac_redis::RedisBackend;
use celeriac_testkit::Cluster;
use futures::future::join_all;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout};

use crate::leases::{LEASE, app, coordinator, seen, sig, worker};

/// Between two nodes a slot stays for so long.
const HALF_WAY: Duration = Duration::from_millis(300);

/// Much longer than a run takes whose slots do not move, and much shorter than any lease.
const PATIENCE: Duration = Duration::from_secs(20);

const QUEUE: &str = "slots:{q:celery}:stream";
const EVENTS: &str = "slots:{events}:stream";

async fn backend(cluster: &Cluster) -> RedisBackend {
    RedisBackend::builder(cluster.url()).prefix("slots").connect().await.expect("the cluster answers")
}

fn canvas(number: usize) -> Canvas {
    let texts = [
        "chord([add.s(i, i) for i in range(6)], tsum.s()) | add.s(1)",
        "add.s(1, 1) | mul.s(3) | add.s(10) | identity.s()",
        "group([chord([add.s(i, 1), add.s(i, 2)], tsum.s()) for i in range(3)])",
        "chord([add_replaced.s(1, 1), down.s(2), add.s(3, 3)], tsum.s()) | add.s(1)",
        "chord([add.s(1, 1).set(countdown=0.02), add.s(2, 2).set(expires=60), fail.s()], tsum.s()).set(on_failure='drop')",
        "chain(add.s(1, 2), group(fail.s(), add.s(1)), tsum.s()).on_error(echo.s())",
    ];
    text::parse(texts[number % texts.len()]).expect("the canvas is well written")
}

/// Moves the slot of a key to each of the other nodes and back, each time with a stop when every other key
/// has moved.
async fn move_round(cluster: &Cluster, key: &str) {
    let slot = block_in_place(|| cluster.slot_of(key));
    for node in cluster.nodes().iter().chain(&cluster.nodes()[..1]) {
        let moving = block_in_place(|| {
            // The other node has no scripts.
            redis::cmd("SCRIPT").arg("FLUSH").exec(&mut node.connection()).expect("the node answers");
            let moving = cluster.begin_to_move(slot, node).expect("it can move");
            let some: Vec<String> = moving.keys().expect("the node answers").into_iter().step_by(2).collect();
            moving.migrate(&some).expect("they move");
            moving
        });
        sleep(HALF_WAY).await;
        block_in_place(|| moving.finish()).expect("the rest moves");
        sleep(HALF_WAY).await;
    }
}

/// Runs canvases, several at a time, until that is done; how many, and how long the longest took.
async fn under_load(cluster: &Cluster, moves: impl Future<Output = ()>) -> (usize, Duration) {
    let crew = Crew::start(backend(cluster).await, 2, 3);
    let is_over = AtomicBool::new(false);
    let work = (0..6).map(|first| {
        let (crew, is_over) = (&crew, &is_over);
        async move {
            let (mut count, mut longest) = (0, Duration::ZERO);
            while !is_over.load(Ordering::Relaxed) {
                let (canvas, start) = (canvas(first + count), Instant::now());
                let checked = timeout(PATIENCE, crew.check(&canvas, Runs::Once)).await;
                let checked = checked.unwrap_or_else(|_| panic!("no end within {PATIENCE:?}: {canvas}"));
                checked.unwrap_or_else(|differs| panic!("{canvas}: {differs}"));
                (count, longest) = (count + 1, longest.max(start.elapsed()));
            }
            (count, longest)
        }
    });
    let moves = async {
        moves.await;
        is_over.store(true, Ordering::Relaxed);
    };
    let (worked, ()) = tokio::join!(join_all(work), moves);
    let (counts, longest): (Vec<usize>, Vec<Duration>) = worked.into_iter().unzip();
    (counts.into_iter().sum(), longest.into_iter().max().unwrap_or_default())
}

async fn check(keys: &[&str]) {
    let cluster = block_in_place(Cluster::start);
    let moves = async {
        sleep(Duration::from_millis(500)).await;
        for key in keys {
            move_round(&cluster, key).await;
        }
    };
    let (count, longest) = under_load(&cluster, moves).await;
    println!("{keys:?}: {count} runs, {longest:?} at most");
    assert!(count > 20, "{count} runs only");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_end_while_the_slot_of_their_queue_moves() {
    check(&[QUEUE]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_end_while_the_slot_of_the_events_moves() {
    check(&[EVENTS]).await;
}

/// It is the queue's slot that stays half way; nobody can take from it, and who holds something holds it.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_whose_queue_is_half_way_for_longer_than_a_lease_runs_once() {
    let cluster = block_in_place(Cluster::start);
    let seen = seen().0;
    let app = app(cluster.url(), &seen).await;
    let _coordinators = [app.coordinator(coordinator()), app.coordinator(coordinator())];
    let _workers = [app.worker(worker()), app.worker(worker())];
    let run = app.submit(sig("slow")).await.unwrap();
    while seen.calls.load(Ordering::SeqCst) == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    let key = "leases:{q:celery}:stream";
    for with_the_stream in [true, false] {
        let moving = block_in_place(|| {
            let (slot, from) = (cluster.slot_of(key), cluster.node_of(key));
            let to = cluster.nodes().iter().find(|node| node.port() != from.port()).expect("there are three");
            let moving = cluster.begin_to_move(slot, to).expect("it can move");
            let some: Vec<String> = moving
                .keys()
                .expect("the node answers")
                .into_iter()
                .filter(|other| (other == key) == with_the_stream)
                .collect();
            moving.migrate(&some).expect("they move");
            moving
        });
        sleep(LEASE * 3).await;
        block_in_place(|| moving.finish()).expect("the rest moves");
    }
    assert_eq!(run.get_json(Some(PATIENCE)).await.unwrap().as_str(), "7");
    assert_eq!(seen.calls.load(Ordering::SeqCst), 1, "it runs once");
}

/// Queues are in slots of their own: what is half way with one is no matter of the other's.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_half_way_holds_up_no_other() {
    let cluster = block_in_place(Cluster::start);
    let seen = seen().0;
    let app = app(cluster.url(), &seen).await;
    let _coordinator = app.coordinator(coordinator());
    let _worker = app.worker(worker().queues(["a", "celery", "z"]));
    let number_on = |queue: &str| {
        let mut canvas = sig("number");
        *canvas.options_mut() = canvas.options().clone().with_queue(queue).expect("a good name");
        canvas
    };
    let queues = ["a", "celery", "z"];
    for queue in queues {
        app.submit(number_on(queue)).await.unwrap().get_json(Some(PATIENCE)).await.unwrap();
    }
    for away in ["a", "z"] {
        let key = format!("leases:{{q:{away}}}:stream");
        let moving = block_in_place(|| {
            let to = cluster.nodes().iter().find(|node| node.port() != cluster.node_of(&key).port());
            let moving = cluster
                .begin_to_move(cluster.slot_of(&key), to.expect("there are three"))
                .expect("it can move");
            moving.migrate(std::slice::from_ref(&key)).expect("it moves");
            moving
        });
        let waits = app.submit(number_on(away)).await.unwrap();
        let start = Instant::now();
        for _ in 0..5 {
            for queue in queues.into_iter().filter(|queue| *queue != away) {
                let run = app.submit(number_on(queue)).await.unwrap();
                let value = run.get_json(Some(PATIENCE)).await;
                assert_eq!(value.unwrap().as_str(), "1", "{queue}, while {away} is half way");
            }
        }
        println!("beside {away}: {:?}", start.elapsed());
        block_in_place(|| moving.finish()).expect("the rest moves");
        assert_eq!(waits.get_json(Some(PATIENCE)).await.unwrap().as_str(), "1");
    }
}

/// Who waits hears of the value or finds it, wherever the run is meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_value_gets_it_when_its_run_has_moved() {
    let cluster = block_in_place(Cluster::start);
    let seen = seen().0;
    let app = app(cluster.url(), &seen).await;
    let _coordinator = app.coordinator(coordinator());
    let _worker = app.worker(worker());
    let run = app.submit(sig("gate").then(sig("after"))).await.unwrap();
    seen.begun.notified().await;
    let waits = tokio::spawn({
        let run = run.clone();
        async move { run.get_json(Some(PATIENCE)).await }
    });
    sleep(Duration::from_millis(100)).await;
    let key = format!("leases:{{{}}}:run", run.id());
    let other = block_in_place(|| {
        let from = cluster.node_of(&key);
        cluster.nodes().iter().find(|node| node.port() != from.port()).expect("there are three")
    });
    let moving = block_in_place(|| {
        let moving = cluster.begin_to_move(cluster.slot_of(&key), other).expect("it can move");
        moving.migrate(std::slice::from_ref(&key)).expect("it moves");
        moving
    });
    seen.open.notify_one();
    sleep(HALF_WAY).await;
    assert!(!waits.is_finished(), "who settles has to wait");
    block_in_place(|| moving.finish()).expect("the rest moves");
    assert_eq!(waits.await.unwrap().unwrap().as_str(), "10");
    run.ended().await.unwrap();
    run.clone().forget().await.unwrap();
    assert!(block_in_place(|| cluster.keys(&format!("leases:{{{}}}:*", run.id()))).is_empty());
}

/// Those of many runs.
#[tokio::test(flavor = "multi_thread")]
async fn runs_end_while_their_own_slots_move() {
    let cluster = block_in_place(Cluster::start);
    let moves = async {
        for turn in 0..40 {
            sleep(Duration::from_millis(50)).await;
            block_in_place(|| {
                let keys = cluster.keys("slots:{*-*}:run");
                let slots: Vec<u16> = keys.iter().rev().take(8).map(|key| cluster.slot_of(key)).collect();
                let node = &cluster.nodes()[turn % 3];
                slots.into_iter().for_each(|slot| cluster.move_slot(slot, node).expect("it moves"));
            });
        }
    };
    let (count, longest) = under_load(&cluster, moves).await;
    println!("runs: {count} runs, {longest:?} at most");
    assert!(count > 20, "{count} runs only");
}
