//! Whole canvases on the memory backend, held against the tables and the reference evaluator.

use celeriac::backends::Queue as _;
use celeriac::memory::Memory;
use celeriac_conformance::random::Shape;
use celeriac_conformance::whole::Crew;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_tables_comes_out_as_it_says() {
    Crew::start(Memory::new(), 2, 3).check_tables().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_canvases_equal_the_reference_evaluator_and_run_every_leaf_once() {
    let (first, count) = (setting("CELERIAC_RANDOM_SEED", 1), setting("CELERIAC_RANDOM_COUNT", 2_000));
    check(Memory::new(), first, count).await;
}

/// Values of more bytes than this are kept apart: most lists, and all texts.
const APART: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_tables_comes_out_as_it_says_with_values_kept_apart() {
    Crew::start(Memory::keeping_apart(APART), 2, 3).check_tables().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_canvases_equal_the_reference_evaluator_with_values_kept_apart() {
    let (first, count) = (setting("CELERIAC_RANDOM_SEED", 1), setting("CELERIAC_RANDOM_COUNT", 500));
    check(Memory::keeping_apart(APART), first, count).await;
}

/// Not even the smallest value travels with a message or a report.
#[tokio::test(flavor = "multi_thread")]
async fn random_canvases_equal_the_reference_evaluator_with_all_values_kept_apart() {
    let (first, count) = (setting("CELERIAC_RANDOM_SEED", 1), setting("CELERIAC_RANDOM_COUNT", 300));
    check(Memory::keeping_apart(0), first, count).await;
}

async fn check(backend: Memory, first: u64, count: u64) {
    Crew::start(backend.clone(), 2, 3).check_random(first..first + count, &Shape::default()).await;
    println!("{count} canvases from seed {first} on, all equal");
    // The last events may still be on their way to a coordinator.
    for _ in 0..500 {
        // Queues go away with a sweep.
        backend.sweep(5).await.unwrap();
        if backend.census().values().all(|left| *left == 0) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("forgotten runs leave nothing: {:?}", backend.census());
}
