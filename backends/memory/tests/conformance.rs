//! The memory backend passes the suite, under virtual time.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{Backend, Store};
use celeriac_conformance::Subject;
use celeriac_conformance::bench::{Bench, sigs};
use celeriac_conformance::differential::Differential;
use celeriac_conformance::whole::Runs;
use celeriac_memory::Memory;
use celeriac_primitives::Canvas;

struct InMemory(Memory);

#[async_trait]
impl Subject for InMemory {
    fn backend(&self) -> &dyn Backend {
        &self.0
    }

    fn shared(&self) -> Arc<dyn Backend> {
        Arc::new(self.0.clone())
    }

    async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
    }
}

celeriac_conformance::suite!(start_paused = true; InMemory(Memory::new()));

mod threads {
    use super::*;
    celeriac_conformance::suite!(threads; InMemory(Memory::new()));
}

/// As many as `CELERIAC_DUPLICATES_COUNT` chords.
#[tokio::test]
async fn completions_that_come_three_times_count_once_in_every_chord() {
    let count = std::env::var("CELERIAC_DUPLICATES_COUNT");
    let count = count.map_or(10_000, |count| count.parse().expect("CELERIAC_DUPLICATES_COUNT is a number"));
    celeriac_conformance::duplicates::check(&Memory::new(), 1, count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_grow_also_when_every_report_comes_three_times() {
    celeriac_conformance::growth::check(Memory::new(), Runs::Once).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_canvases_that_a_leaf_returned_in_several_deliveries_the_first_counts() {
    celeriac_conformance::growth::check_that_the_first_counts(Memory::new()).await;
}

/// The differential test finds nothing between the reference and itself: what it finds elsewhere is a
/// difference.
#[tokio::test(start_paused = true)]
async fn any_operations_have_the_same_effect_on_two_memories() {
    let (reference, subject) = (Memory::new(), Memory::new());
    let clients: [&dyn Backend; 2] = [&subject, &subject];
    Differential::new(1, 2_500).check(&reference, &clients).await;
}

/// How often somebody was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_value_is_woken_by_the_last_step_alone() {
    let subject = InMemory(Memory::new());
    let bench = Bench::submit(&subject, Canvas::chain(sigs(&["a", "b", "c"]))).await;
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut value = pin!(subject.0.decided(bench.run, &[], Duration::from_secs(60)));
    assert!(value.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    for (step, times) in [(0, 0), (1, 0), (2, 1)] {
        bench.dispatch_outbox().await;
        bench.settle([bench.success(step, 1)]).await;
        assert_eq!(woken.0.load(Ordering::SeqCst), times, "after step {step}");
    }
    assert!(value.await.unwrap().is_some());
}
