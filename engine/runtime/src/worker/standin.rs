//! A stand-in goes on with a worker's parts when their own tasks cannot.
//!
//! A leaf that computes for a second before it waits for anything keeps its thread of the runtime, and more
//! than that, although other threads have nothing to do:
//!
//! - whomever its lane called before: a thread runs next what a task has called, and no other takes that
//!   over. So the end of the leaf before is reported a second later, or a free lane is given nothing;
//! - all that waits for sockets and timers, if this was the thread that looked at them: no other is told to.
//!
//! To prevent it each time costs more than a quick leaf. So a thread of our own, which is beside the runtime,
//! calls the stand-in every few milliseconds as long as leaves are in hand. That wakes a thread of the runtime
//! that has time, which looks at sockets and timers from then on; and the stand-in does the work of who was
//! called and has not come.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Notify;

/// It looks so often, and more often while it does somebody's work.
const LOOK: Duration = Duration::from_millis(3);
const LOOK_AT_WORK: Duration = Duration::from_millis(1);

/// When nothing is in hand, and nobody was called in so many looks, it rests until somebody is.
const LOOKS: u32 = 20;

/// Looks after the parts of one worker. Cheap to clone; gone with the last clone and the last part.
#[derive(Clone, Default)]
pub(super) struct StandIn(Arc<Desk>);

#[derive(Default)]
struct Desk {
    parts: Mutex<Vec<Weak<dyn Look>>>,
    /// Somebody was called since it looked last.
    has_called: AtomicBool,
    /// It does somebody's work.
    is_at_work: AtomicBool,
    rests: AtomicBool,
    /// It is time to look.
    look: Notify,
    /// Says when it is.
    clock: OnceLock<Thread>,
}

impl StandIn {
    /// The same work, which this goes on with when its own task cannot.
    pub(super) fn beside<F>(&self, work: F) -> Beside<F>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let bell = Arc::new(Bell {
            desk: self.0.clone(),
            own: AtomicWaker::new(),
            has_called: AtomicBool::new(false),
        });
        let part = Arc::new(Part {
            waker: bell.clone().into(),
            bell,
            is_stood_in: AtomicBool::new(false),
            work: Mutex::new(Work::Goes(Box::pin(work))),
        });
        let look: Weak<dyn Look> = Arc::downgrade(&(part.clone() as Arc<dyn Look>));
        self.0.parts().push(look);
        Beside(part)
    }

    /// Looks after them, for ever. With a single thread there is nothing to do: it is kept from its work as all are.
    pub(super) async fn look(&self, has_leaves: impl Fn() -> bool) {
        let Self(desk) = self;
        if !has_threads() || !desk.start_clock() {
            return std::future::pending().await;
        }
        let mut quiet = 0;
        loop {
            desk.look.notified().await;
            let is_at_work = desk.look();
            desk.is_at_work.store(is_at_work, SeqCst);
            let has_called = desk.has_called.swap(false, SeqCst);
            quiet = if is_at_work || has_called || has_leaves() { 0 } else { quiet + 1 };
            if quiet > LOOKS {
                quiet = 0;
                desk.rest();
            }
        }
    }
}

impl Desk {
    fn parts(&self) -> MutexGuard<'_, Vec<Weak<dyn Look>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it does somebody's work.
    fn look(&self) -> bool {
        let mut parts = Vec::new();
        self.parts().retain(|part| part.upgrade().map(|part| parts.push(part)).is_some());
        parts.iter().fold(false, |is_at_work, part| part.look() | is_at_work)
    }

    /// Whether there is a clock.
    fn start_clock(self: &Arc<Self>) -> bool {
        if self.clock.get().is_some() {
            return true;
        }
        let desk = Arc::downgrade(self);
        match thread::Builder::new().name("celeriac-clock".to_owned()).spawn(|| clock(desk)) {
            Ok(clock) => self.clock.set(clock.thread().clone()).is_ok(),
            Err(error) => {
                tracing::warn!(%error, "no thread beside the runtime: a leaf that computes may hold up others");
                false
            }
        }
    }

    /// It is not called any more until somebody else is.
    fn rest(&self) {
        self.rests.store(true, SeqCst);
        // Who was called just before that has not ended it.
        if self.has_called.load(SeqCst) {
            self.go_on();
        }
    }

    /// Somebody is called.
    fn note(&self) {
        if !self.has_called.load(SeqCst) {
            self.has_called.store(true, SeqCst);
        }
        if self.rests.load(SeqCst) {
            self.go_on();
        }
    }

    fn go_on(&self) {
        if self.rests.swap(false, SeqCst)
            && let Some(clock) = self.clock.get()
        {
            clock.unpark();
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // It may be resting.
        if let Some(clock) = self.clock.get() {
            clock.unpark();
        }
    }
}

/// Says when to look; on a thread of its own, which no leaf keeps, and where no call waits for others.
fn clock(desk: Weak<Desk>) {
    loop {
        let Some(now) = desk.upgrade() else { return };
        now.look.notify_one();
        let pause = if now.is_at_work.load(SeqCst) { LOOK_AT_WORK } else { LOOK };
        let rests = now.rests.load(SeqCst);
        drop(now);
        if rests {
            thread::park();
        } else {
            thread::park_timeout(pause);
        }
    }
}

/// Whether another thread may have time.
pub(super) fn has_threads() -> bool {
    Handle::try_current().is_ok_and(|runtime| {
        runtime.runtime_flavor() != RuntimeFlavor::CurrentThread && runtime.metrics().num_workers() > 1
    })
}

/// Work that may be gone on with elsewhere. It ends with this, its own task's end of it.
pub(super) struct Beside<F: Future>(Arc<Part<F>>);

struct Part<F: Future> {
    work: Mutex<Work<F>>,
    /// Goes on with it, whoever polled it last.
    waker: Waker,
    bell: Arc<Bell>,
    /// Its own task has not come since the stand-in did.
    is_stood_in: AtomicBool,
}

enum Work<F: Future> {
    Goes(Pin<Box<F>>),
    /// What its own task is to hear.
    Ended(Result<F::Output, Box<dyn Any + Send>>),
    Gone,
}

/// Calls a part.
struct Bell {
    desk: Arc<Desk>,
    own: AtomicWaker,
    /// It was called, and nobody has come.
    has_called: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_called.store(true, SeqCst);
        self.desk.note();
        self.own.wake();
    }
}

impl<F: Future> Part<F> {
    fn work(&self) -> MutexGuard<'_, Work<F>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, work: &mut Work<F>) {
        let Work::Goes(future) = work else { return };
        self.bell.has_called.store(false, SeqCst);
        let mut context = Context::from_waker(&self.waker);
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context))) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(output)) => *work = Work::Ended(Ok(output)),
            Err(panic) => *work = Work::Ended(Err(panic)),
        }
    }
}

/// What the stand-in knows of a part.
trait Look: Send + Sync {
    /// Goes on with it if it was called and has not come; whether its own task has not come since.
    fn look(&self) -> bool;
}

impl<F> Look for Part<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn look(&self) -> bool {
        if !self.bell.has_called.load(SeqCst) {
            return self.is_stood_in.load(SeqCst);
        }
        let mut work = match self.work.try_lock() {
            Ok(work) => work,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Its own task is there.
            Err(TryLockError::WouldBlock) => return false,
        };
        self.is_stood_in.store(true, SeqCst);
        self.poll(&mut work);
        if !matches!(*work, Work::Goes(_)) {
            self.bell.own.wake();
        }
        true
    }
}

impl<F: Future> Future for Beside<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let part = &self.0;
        part.bell.own.register(cx.waker());
        // The stand-in is there for one poll at most.
        let mut work = part.work();
        part.is_stood_in.store(false, SeqCst);
        part.poll(&mut work);
        match std::mem::replace(&mut *work, Work::Gone) {
            Work::Ended(Ok(output)) => Poll::Ready(output),
            Work::Ended(Err(panic)) => resume_unwind(panic),
            goes => {
                *work = goes;
                Poll::Pending
            }
        }
    }
}

impl<F: Future> Drop for Beside<F> {
    fn drop(&mut self) {
        *self.0.work() = Work::Gone;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Instant;

    use tokio::task::JoinHandle;

    use super::*;

    /// A part that counts how often it was called.
    #[derive(Default)]
    struct Counter {
        called: Notify,
        count: AtomicUsize,
    }

    impl Counter {
        async fn work(&self, until: usize) -> usize {
            while self.count.load(SeqCst) < until {
                self.called.notified().await;
                self.count.fetch_add(1, SeqCst);
            }
            until
        }

        /// Calls it and keeps the thread until it has come.
        fn call_and_keep_the_thread(&self) {
            let (before, start) = (self.count.load(SeqCst), Instant::now());
            self.called.notify_one();
            while self.count.load(SeqCst) == before {
                assert!(start.elapsed() < Duration::from_secs(10), "nobody came");
                std::hint::spin_loop();
            }
        }
    }

    fn start(until: usize) -> (StandIn, Arc<Counter>, JoinHandle<usize>) {
        let (stand_in, counter) = (StandIn::default(), Arc::new(Counter::default()));
        let work = counter.clone();
        let part = tokio::spawn(stand_in.beside(async move { work.work(until).await }));
        let looks = stand_in.clone();
        tokio::spawn(async move { looks.look(|| false).await });
        (stand_in, counter, part)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn who_is_called_by_a_task_that_computes_is_stood_in_for() {
        let (_stand_in, counter, part) = start(100);
        let computes = tokio::spawn(async move {
            for _ in 0..100 {
                counter.call_and_keep_the_thread();
            }
        });
        computes.await.unwrap();
        assert_eq!(part.await.unwrap(), 100, "its own task hears of the end");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn a_stand_in_that_rests_comes_when_somebody_is_called() {
        let (stand_in, counter, part) = start(5);
        for _ in 0..5 {
            let start = Instant::now();
            while !stand_in.0.rests.load(SeqCst) {
                assert!(start.elapsed() < Duration::from_secs(10), "it does not rest");
                tokio::time::sleep(LOOK).await;
            }
            let counter = counter.clone();
            tokio::spawn(async move { counter.call_and_keep_the_thread() }).await.unwrap();
        }
        assert_eq!(part.await.unwrap(), 5);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn timers_go_on_while_a_task_that_has_waited_for_one_keeps_its_thread() {
        let stand_in = StandIn::default();
        tokio::spawn(async move { stand_in.look(|| true).await });
        for _ in 0..20 {
            let is_over = Arc::new(AtomicBool::new(false));
            let sets = is_over.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                sets.store(true, SeqCst);
            });
            let keeps = async move {
                // Until the other threads have found nothing to do.
                tokio::time::sleep(Duration::from_millis(5)).await;
                let start = Instant::now();
                while !is_over.load(SeqCst) {
                    assert!(start.elapsed() < Duration::from_secs(10), "no timer came");
                    std::hint::spin_loop();
                }
            };
            tokio::spawn(keeps).await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_call_is_lost_between_a_task_and_its_stand_in() {
        let (stand_in, counter, part) = start(20_000);
        // As if it looked all the time.
        let desk = stand_in.0.clone();
        let looks = tokio::spawn(async move {
            loop {
                desk.look();
                tokio::task::yield_now().await;
            }
        });
        let calls = tokio::spawn(async move {
            for count in 0..20_000 {
                counter.called.notify_one();
                while counter.count.load(SeqCst) <= count {
                    tokio::task::yield_now().await;
                }
            }
        });
        tokio::time::timeout(Duration::from_secs(60), calls).await.expect("a call was lost").unwrap();
        assert_eq!(part.await.unwrap(), 20_000);
        looks.abort();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn a_panic_is_its_own_tasks() {
        let stand_in = StandIn::default();
        let called = Arc::new(Notify::new());
        let waits = called.clone();
        let part = tokio::spawn(stand_in.beside(async move {
            waits.notified().await;
            panic!("told");
        }));
        tokio::spawn(async move { stand_in.look(|| false).await });
        let computes = tokio::spawn(async move {
            called.notify_one();
            std::thread::sleep(LOOK * 10);
        });
        let panic: Result<(), _> = part.await;
        assert!(panic.unwrap_err().is_panic());
        computes.await.unwrap();
    }

    #[tokio::test]
    async fn work_goes_with_its_own_task() {
        let (stand_in, counter, part) = start(1);
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&counter), 2);
        part.abort();
        assert!(part.await.unwrap_err().is_cancelled());
        assert_eq!(Arc::strong_count(&counter), 1);
        counter.called.notify_one();
        assert!(!stand_in.0.look());
        assert!(stand_in.0.parts().is_empty());
    }
}
