//! Plans that are at hand.
//!
//! What was used lately is kept up to a number of bytes; what somebody else keeps (a handle, a dispatch that
//! goes on) is at hand as long as he does. Very large plans have a budget of their own: they are worth
//! keeping while their run goes on, since each of its reports needs them, and worth nothing afterwards.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use celeriac_engine::Plan;
use celeriac_primitives::{Incarnation, RunId, RunRef};
use dashmap::DashMap;
use tokio::sync::OwnedMutexGuard;

/// So many bytes of plans are kept.
const BYTES_MAX: usize = 64 << 20;

/// A plan that has more is large, and of those so many bytes are kept.
const LARGE_BYTES: usize = 8 << 20;
const LARGE_BYTES_MAX: usize = 1 << 30;

/// The plans of some runs. An id has one at a time: that of the run that was last seen to have it.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    known: DashMap<RunId, Known>,
    kept: Mutex<[Kept; 2]>,
    /// How many there ever were: what nobody keeps is forgotten every now and then.
    inserted: AtomicUsize,
    loading: DashMap<RunId, Arc<tokio::sync::Mutex<()>>>,
}

#[derive(Debug)]
struct Known {
    incarnation: Incarnation,
    plan: Weak<Plan>,
    /// What keeps it, when this does.
    kept: Option<Arc<Plan>>,
    bytes: usize,
    /// Since it was last passed over.
    is_used: AtomicBool,
}

/// What is kept, how many bytes it has, and in which order it is to go; some of these went before.
#[derive(Debug, Default)]
struct Kept {
    order: VecDeque<RunRef>,
    plans: usize,
    bytes: usize,
}

/// The right to load a plan, which one at a time has.
pub(crate) struct Loading<'p> {
    plans: &'p Plans,
    run: RunId,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Plans {
    pub(crate) fn find(&self, run: RunRef) -> Option<Arc<Plan>> {
        let known = self.known.get(&run.id)?;
        if known.incarnation != run.incarnation {
            return None;
        }
        known.is_used.store(true, Ordering::Relaxed);
        known.kept.clone().or_else(|| known.plan.upgrade())
    }

    /// Keeps a plan that is needed. A large one whose run was only submitted here is left to its handle.
    pub(crate) fn insert(&self, run: RunRef, plan: Arc<Plan>, is_submitted: bool) {
        let bytes = plan.weight();
        let is_kept = !(is_submitted && bytes > LARGE_BYTES);
        let known = Known {
            incarnation: run.incarnation,
            plan: Arc::downgrade(&plan),
            kept: is_kept.then_some(plan),
            bytes,
            is_used: AtomicBool::new(false),
        };
        if let Some(before) = self.known.insert(run.id, known)
            && before.kept.is_some()
        {
            self.kept()[place(before.bytes)].take_off(before.bytes);
        }
        if is_kept {
            self.make_room(run, bytes);
        }
        if self.inserted.fetch_add(1, Ordering::Relaxed) % 1000 == 999 && self.known.len() > self.most() {
            self.known.retain(|_, known| known.kept.is_some() || known.plan.strong_count() > 0);
        }
    }

    /// The run is gone, or is not what it seemed to be.
    pub(crate) fn remove(&self, run: RunRef) {
        let removed = self.known.remove_if(&run.id, |_, known| known.incarnation == run.incarnation);
        if let Some((_, known)) = removed
            && known.kept.is_some()
        {
            self.kept()[place(known.bytes)].take_off(known.bytes);
        }
    }

    /// The run has ended: a large plan is not kept any longer.
    pub(crate) fn has_ended(&self, run: RunRef) {
        let Some(mut known) = self.known.get_mut(&run.id) else { return };
        if known.incarnation == run.incarnation && known.bytes > LARGE_BYTES && known.kept.take().is_some() {
            let bytes = known.bytes;
            drop(known);
            self.kept()[1].take_off(bytes);
        }
    }

    /// Waits until nobody else loads the plan of this run.
    pub(crate) async fn load(&self, run: RunId) -> Loading<'_> {
        let lock = self.loading.entry(run).or_default().clone();
        let mut loading = Loading { plans: self, run, guard: None };
        loading.guard = Some(lock.lock_owned().await);
        loading
    }

    /// Lets go what has not been used for longest until the rest fits; always keeps this one.
    fn make_room(&self, run: RunRef, bytes: usize) {
        let (place, max) = if place(bytes) == 1 { (1, LARGE_BYTES_MAX) } else { (0, BYTES_MAX) };
        let mut kept = self.kept();
        let kept = &mut kept[place];
        kept.order.push_back(run);
        kept.plans += 1;
        kept.bytes += bytes;
        let is_kept = |run: &RunRef| {
            let known = self.known.get(&run.id);
            known.is_some_and(|known| known.incarnation == run.incarnation && known.kept.is_some())
        };
        if kept.order.len() > 2 * kept.plans + 1000 {
            kept.order.retain(is_kept);
        }
        // Who was used goes to the end once; after that round nobody was.
        let mut rounds = 2 * kept.order.len();
        while kept.bytes > max && rounds > 0 {
            rounds -= 1;
            let Some(oldest) = kept.order.pop_front() else { return };
            let Some(mut known) = self.known.get_mut(&oldest.id) else { continue };
            if known.incarnation != oldest.incarnation || known.kept.is_none() {
                continue;
            }
            if oldest == run || known.is_used.swap(false, Ordering::Relaxed) {
                kept.order.push_back(oldest);
                continue;
            }
            known.kept = None;
            kept.take_off(known.bytes);
        }
    }

    /// So many may be known before those are forgotten that nobody keeps.
    fn most(&self) -> usize {
        2 * self.kept().iter().map(|kept| kept.plans).sum::<usize>() + 1000
    }

    fn kept(&self) -> MutexGuard<'_, [Kept; 2]> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take_off(&mut self, bytes: usize) {
        self.plans -= 1;
        self.bytes -= bytes;
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        drop(self.guard.take());
        self.plans.loading.remove_if(&self.run, |_, lock| Arc::strong_count(lock) == 1);
    }
}

fn place(bytes: usize) -> usize {
    usize::from(bytes > LARGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use celeriac_primitives::Signature;

    fn plan(bytes: usize) -> Arc<Plan> {
        let leaf = Signature::new("a").unwrap().arg("x".repeat(bytes)).unwrap();
        Arc::new(Plan::compile(&leaf.into()).unwrap())
    }

    fn run(number: u64) -> RunRef {
        RunId::from_parts(1, number).incarnation(Incarnation::new(number))
    }

    #[test]
    fn plans_are_kept_up_to_a_number_of_bytes() {
        let plans = Plans::default();
        for number in 0..1_000 {
            plans.insert(run(number), plan(200_000), number % 2 == 0);
            plans.find(run(0));
        }
        let kept = (0..1_000).filter(|number| plans.find(run(*number)).is_some()).count();
        assert!((300..=BYTES_MAX / 200_000).contains(&kept), "{kept} are kept");
        assert!(plans.find(run(0)).is_some(), "what is used stays");
        assert!(plans.find(run(999)).is_some() && plans.find(run(1)).is_none());
        assert!(plans.known.len() < 2_000);
        (0..1_000).for_each(|number| plans.remove(run(number)));
        let kept = plans.kept();
        assert_eq!((plans.known.len(), kept[0].bytes, kept[0].plans), (0, 0, 0));
    }

    #[test]
    fn a_plan_is_at_hand_as_long_as_somebody_keeps_it() {
        let (plans, large) = (Plans::default(), plan(LARGE_BYTES));
        plans.insert(run(1), large.clone(), true);
        assert!(plans.find(run(1)).is_some());
        drop(large);
        assert!(plans.find(run(1)).is_none());
        plans.insert(run(1), plan(LARGE_BYTES), false);
        assert!(plans.find(run(1)).is_some());
        plans.has_ended(run(1));
        assert!(plans.find(run(1)).is_none() && plans.kept()[1].bytes == 0);
    }

    #[test]
    fn an_id_that_is_used_again_has_another_plan() {
        let plans = Plans::default();
        let again = run(1).id.incarnation(Incarnation::new(7));
        plans.insert(run(1), plan(10), false);
        plans.insert(again, plan(10), false);
        assert!(plans.find(run(1)).is_none() && plans.find(again).is_some());
        plans.remove(run(1));
        assert!(plans.find(again).is_some());
        assert_eq!(plans.kept()[0].plans, 1);
    }

    #[tokio::test]
    async fn a_plan_is_loaded_by_one_at_a_time() {
        let plans = Plans::default();
        let first = plans.load(run(1).id).await;
        let (second, ()) = tokio::join!(plans.load(run(1).id), async { drop(first) });
        drop(second);
        assert!(plans.loading.is_empty());
    }
}
