//! A leaf that computes keeps its thread, and nothing else.
//!
//! A leaf that computes for a second before it waits for anything keeps a thread of the runtime, and more
//! than that, although other threads have nothing to do:
//!
//! - whomever its lane called before: a thread runs next what a task has called, and no other takes that
//!   over. So the end of the leaf before is reported a second later, or a free lane is given nothing;
//! - all that waits for sockets and timers, if this was the thread that looked at them: it tells no other to.
//!
//! Whoever is called seldom is [handed over](super::turn) to other threads, and the fetcher is called by the
//! reporter. With the reporter itself, which each leaf may call, that costs more than a quick leaf; so a
//! lookout, on a thread of its own beside the runtime, looks every few milliseconds whether a leaf keeps a
//! thread, and only then wakes another: this one looks at sockets and timers from then on, and what has ended
//! is [reported there](super::helpers::stand_in). On a runtime of a single thread there is no other, and
//! lanes [step back](super::turn) for those they have called.

use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::bench::Bench;
use super::turn::is_alone;

/// It looks so often: a thread that is in the same leaf at two looks is kept by it.
const LOOK: Duration = Duration::from_millis(3);

/// And less often, down to this, while leaves are begun faster than one in a millisecond: nothing is kept
/// then, and each time that a thread wakes, quick ones take longer for a while.
const LOOK_QUICK: Duration = Duration::from_millis(48);

/// When nothing is in hand at so many looks, it rests until something is.
const LOOKS: u32 = 20;

/// How often each thread has begun or ended to run a leaf: odd while it runs one.
static THREADS: Mutex<Vec<Weak<AtomicU64>>> = Mutex::new(Vec::new());

thread_local! {
    static HERE: Arc<AtomicU64> = {
        let here = Arc::default();
        let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| thread.strong_count() > 0);
        threads.push(Arc::downgrade(&here));
        here
    };
}

/// Runs a leaf for as long as it does not wait.
pub(super) fn running<T>(run: impl FnOnce() -> T) -> T {
    HERE.with(|here| {
        // Nobody else writes it.
        let before = here.load(Relaxed);
        here.store(before + 1, Relaxed);
        let done = run();
        here.store(before + 2, Relaxed);
        done
    })
}

/// Starts the lookout of a worker, which ends when the bench is gone.
pub(super) fn start(bench: &Arc<Bench>) {
    if is_alone() {
        return;
    }
    let (runtime, looked_at) = (Handle::current(), Arc::downgrade(bench));
    let lookout = thread::Builder::new().name("celeriac-lookout".to_owned());
    match lookout.spawn(move || look_out(&looked_at, &runtime)) {
        Ok(lookout) => bench.has_lookout(lookout.thread().clone()),
        Err(error) => {
            tracing::warn!(%error, "no thread beside the runtime: a leaf that computes may hold up others");
        }
    }
}

fn look_out(bench: &Weak<Bench>, runtime: &Handle) {
    let (mut threads, mut begun, mut idle) = (Vec::new(), 0, 0);
    let (mut usual, mut pause, mut woken) = (LOOK, LOOK, None);
    loop {
        let Some(bench) = bench.upgrade() else { return };
        let before = std::mem::replace(&mut threads, look());
        // Should a thread have gone meanwhile, the next look tells.
        let is_kept = threads.iter().zip(&before).any(|(now, before)| now == before && is_in_leaf(now));
        if is_kept {
            bench.thread_is_kept();
            if woken.as_ref().is_none_or(JoinHandle::is_finished) {
                // Who was called may be at work: then nobody is woken by that.
                woken = Some(runtime.spawn(ready(())));
            }
        }
        let before = std::mem::replace(&mut begun, bench.begun());
        let is_quick = u128::from(begun - before) >= pause.as_millis();
        usual = if is_quick && !is_kept { (usual * 2).min(LOOK_QUICK) } else { LOOK };
        // What is in a leaf after a long pause may have begun it just now, and may be kept by it.
        pause = if pause > LOOK && threads.iter().any(is_in_leaf) { LOOK } else { usual };
        idle = if bench.is_in_use() { 0 } else { idle + 1 };
        let rests = idle > LOOKS && bench.lets_lookout_rest();
        drop(bench);
        if rests {
            idle = 0;
            thread::park();
        } else {
            thread::park_timeout(pause);
        }
    }
}

/// What each thread does.
fn look() -> Vec<u64> {
    let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    threads.iter().map(|thread| thread.upgrade().map_or(0, |thread| thread.load(Relaxed))).collect()
}

fn is_in_leaf(thread: &u64) -> bool {
    !thread.is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Vitals;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lookout_that_rests_ends_with_its_bench() {
        let bench = Arc::new(Bench::new(1, None, 1, Vitals::default()));
        let (looked_at, runtime) = (Arc::downgrade(&bench), Handle::current());
        let lookout = thread::spawn(move || look_out(&looked_at, &runtime));
        bench.has_lookout(lookout.thread().clone());
        for _ in 0..1000 {
            if bench.lookout_rests() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        assert!(bench.lookout_rests() && !lookout.is_finished());
        drop(bench);
        tokio::task::spawn_blocking(|| lookout.join().unwrap()).await.unwrap();
    }

    #[test]
    fn a_thread_is_in_a_leaf_while_it_runs_one() {
        let here = || HERE.with(|here| here.load(Relaxed));
        let before = here();
        assert!(!is_in_leaf(&before));
        let within = running(|| {
            assert!(look().contains(&here()), "everybody sees it");
            here()
        });
        assert!(is_in_leaf(&within));
        assert_eq!(here(), before + 2);
    }
}
