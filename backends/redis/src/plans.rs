//! Plans that are at hand.
//!
//! A plan is worth keeping while its run goes on, since a coordinator needs it for each report, and worth
//! nothing afterwards: when the run is known to have ended it is let go. Who has only submitted a run, or
//! looked at it, keeps few, for a coordinator that may be in the same process; what turns out to be needed
//! moves over to what is worked on. Very large plans have a budget of their own. What nobody has used for a
//! while is let go as well: others may have ended its run. And what somebody else keeps (a handle, a dispatch
//! that goes on) is at hand as long as he does.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use celeriac_engine::Plan;
use celeriac_primitives::{Incarnation, RunId, RunRef};
use dashmap::DashMap;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

/// A plan that has more bytes is large.
const LARGE_BYTES: usize = 8 << 20;

/// So many are looked at in one go whether somebody has used them.
const PASSED_AT_ONCE: usize = 100;

/// The plans of some runs. An id has one at a time: that of the run that was last seen to have it.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    known: DashMap<RunId, Known>,
    kept: Mutex<[Kept; 3]>,
    /// How many there ever were: what nobody keeps is forgotten every now and then.
    inserted: AtomicU64,
    loading: DashMap<RunId, Arc<tokio::sync::Mutex<()>>>,
}

/// What a plan is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A coordinator works on its run.
    Work,
    /// Its run was submitted here, or somebody looks at it.
    Perhaps,
    /// Its run has ended.
    Nothing,
}

/// Where plans are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shelf {
    Seen,
    Worked,
    Large,
}

#[derive(Debug)]
struct Known {
    incarnation: Incarnation,
    plan: Weak<Plan>,
    /// What keeps it, when this does.
    kept: Option<(Arc<Plan>, Shelf)>,
    bytes: usize,
    /// Since it was last passed over.
    is_used: AtomicBool,
    /// As the how-manieth it came.
    number: u64,
}

/// What is kept on a shelf, how many bytes it has, and in which order it is to go; some of these went before.
#[derive(Debug, Default)]
struct Kept {
    order: VecDeque<Turn>,
    plans: usize,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    run: RunId,
    number: u64,
    since: Instant,
}

/// The right to load a plan, which one at a time has.
pub(crate) struct Loading<'p> {
    plans: &'p Plans,
    run: RunId,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Shelf {
    const ALL: [Self; 3] = [Self::Seen, Self::Worked, Self::Large];

    fn of(need: Need, bytes: usize) -> Option<Self> {
        match need {
            Need::Work if bytes > LARGE_BYTES => Some(Self::Large),
            Need::Work => Some(Self::Worked),
            // A large one is left to its handle.
            Need::Perhaps if bytes <= LARGE_BYTES => Some(Self::Seen),
            Need::Perhaps | Need::Nothing => None,
        }
    }

    /// So many bytes of plans are kept.
    fn bytes_max(self) -> usize {
        match self {
            Self::Seen => 8 << 20,
            Self::Worked => 64 << 20,
            Self::Large => 1 << 30,
        }
    }

    /// What was not used for so long is let go. To read a large one again is much.
    fn idle_max(self) -> Duration {
        Duration::from_secs(if self == Self::Large { 600 } else { 60 })
    }
}

impl Plans {
    /// A plan that is needed.
    pub(crate) fn find(&self, run: RunRef) -> Option<Arc<Plan>> {
        let known = self.known.get(&run.id)?;
        if known.incarnation != run.incarnation {
            return None;
        }
        known.is_used.store(true, Ordering::Relaxed);
        known.plan()
    }

    /// A plan that somebody looks at.
    pub(crate) fn look(&self, run: RunRef) -> Option<Arc<Plan>> {
        self.known.get(&run.id).filter(|known| known.incarnation == run.incarnation)?.plan()
    }

    /// Whether the plan of a run that had this id is at hand.
    pub(crate) fn has_any(&self, id: RunId) -> bool {
        self.known.get(&id).is_some_and(|known| known.plan.strong_count() > 0)
    }

    pub(crate) fn insert(&self, run: RunRef, plan: Arc<Plan>, need: Need) {
        let bytes = plan.weight();
        let shelf = Shelf::of(need, bytes);
        let number = self.inserted.fetch_add(1, Ordering::Relaxed);
        let known = Known {
            incarnation: run.incarnation,
            plan: Arc::downgrade(&plan),
            kept: shelf.map(|shelf| (plan, shelf)),
            bytes,
            is_used: AtomicBool::new(false),
            number,
        };
        // Plans are dropped when the lock is free again: to drop a large one takes long.
        let mut gone = Vec::new();
        let mut kept = self.kept();
        let before = self.known.insert(run.id, known);
        if let Some(Known { kept: Some((plan, shelf)), bytes, .. }) = before {
            kept[shelf as usize].take_off(bytes);
            gone.push(plan);
        }
        if let Some(shelf) = shelf {
            kept[shelf as usize].put(Turn { run: run.id, number, since: Instant::now() }, bytes);
            for shelf in Shelf::ALL {
                self.make_room(shelf, &mut kept, number, &mut gone);
            }
            self.compact(shelf, &mut kept);
        }
        let most = 2 * kept.iter().map(|kept| kept.plans).sum::<usize>() + 1000;
        drop(kept);
        if number % 1000 == 999 && self.known.len() > most {
            self.known.retain(|_, known| known.plan.strong_count() > 0);
        }
        self.pass_over();
    }

    /// The run is gone, or is not what it seemed to be.
    pub(crate) fn remove(&self, run: RunRef) {
        let removed = self.known.remove_if(&run.id, |_, known| known.incarnation == run.incarnation);
        if let Some((_, Known { kept: Some((_, shelf)), bytes, .. })) = removed {
            self.kept()[shelf as usize].take_off(bytes);
        }
    }

    /// The run has ended: its plan is not kept any longer.
    pub(crate) fn has_ended(&self, run: RunRef) {
        let Some(mut known) = self.known.get_mut(&run.id) else { return };
        if known.incarnation != run.incarnation {
            return;
        }
        let (kept, bytes) = (known.kept.take(), known.bytes);
        drop(known);
        if let Some((plan, shelf)) = kept {
            drop(plan);
            self.kept()[shelf as usize].take_off(bytes);
        }
        let is_nobodys =
            |known: &Known| known.incarnation == run.incarnation && known.plan.strong_count() == 0;
        self.known.remove_if(&run.id, |_, known| is_nobodys(known));
    }

    /// Lets go what nobody has used for long, a few at a time.
    pub(crate) fn pass_over(&self) {
        let mut gone = Vec::new();
        let mut kept = self.kept();
        for shelf in Shelf::ALL {
            for _ in 0..PASSED_AT_ONCE {
                let order = &mut kept[shelf as usize].order;
                if order.front().is_none_or(|turn| turn.since.elapsed() < shelf.idle_max()) {
                    break;
                }
                let Some(turn) = order.pop_front() else { break };
                gone.extend(self.pass(turn, shelf, &mut kept));
            }
        }
        drop(kept);
    }

    /// Waits until nobody else loads the plan of this run.
    pub(crate) async fn load(&self, run: RunId) -> Loading<'_> {
        let lock = self.loading.entry(run).or_default().clone();
        let mut loading = Loading { plans: self, run, guard: None };
        loading.guard = Some(lock.lock_owned().await);
        loading
    }

    /// Lets go what has not been used for longest until the rest fits; always keeps this one.
    fn make_room(&self, shelf: Shelf, kept: &mut [Kept; 3], number: u64, gone: &mut Vec<Arc<Plan>>) {
        // Who was used goes to the end once; after that round nobody was.
        let mut rounds = 2 * kept[shelf as usize].order.len();
        while kept[shelf as usize].bytes > shelf.bytes_max() && rounds > 0 {
            rounds -= 1;
            let Some(oldest) = kept[shelf as usize].order.pop_front() else { return };
            if oldest.number == number {
                kept[shelf as usize].order.push_back(oldest);
            } else {
                gone.extend(self.pass(oldest, shelf, kept));
            }
        }
    }

    /// Lets go the one whose turn it is, unless it was used meanwhile: then it is worked on.
    fn pass(&self, turn: Turn, shelf: Shelf, kept: &mut [Kept; 3]) -> Option<Arc<Plan>> {
        let mut known = self.known.get_mut(&turn.run).filter(|known| known.number == turn.number)?;
        let (plan, _) = known.kept.take()?;
        kept[shelf as usize].take_off(known.bytes);
        if !known.is_used.swap(false, Ordering::Relaxed) {
            return Some(plan);
        }
        let shelf = if shelf == Shelf::Large { shelf } else { Shelf::Worked };
        known.kept = Some((plan, shelf));
        kept[shelf as usize].put(Turn { since: Instant::now(), ..turn }, known.bytes);
        None
    }

    /// Forgets the turns of what went before, when they are many.
    fn compact(&self, shelf: Shelf, kept: &mut [Kept; 3]) {
        let Kept { order, plans, .. } = &mut kept[shelf as usize];
        if order.len() > 2 * *plans + 1000 {
            order.retain(|turn| {
                let known = self.known.get(&turn.run);
                known.is_some_and(|known| known.number == turn.number && known.kept.is_some())
            });
        }
    }

    fn kept(&self) -> MutexGuard<'_, [Kept; 3]> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn plan(&self) -> Option<Arc<Plan>> {
        self.kept.as_ref().map(|(plan, _)| plan.clone()).or_else(|| self.plan.upgrade())
    }
}

impl Kept {
    fn put(&mut self, turn: Turn, bytes: usize) {
        self.order.push_back(turn);
        self.plans += 1;
        self.bytes += bytes;
    }

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

    #[track_caller]
    fn check_nothing_is_kept(plans: &Plans) {
        let kept = plans.kept();
        let kept: Vec<_> = kept.iter().map(|kept| (kept.plans, kept.bytes)).collect();
        assert_eq!((plans.known.len(), &kept[..]), (0, &[(0, 0); 3][..]));
    }

    /// How many of a thousand plans of 200 KB are kept, of which the first is used all the time.
    fn kept_of_many(need: Need) -> usize {
        let plans = Plans::default();
        for number in 0..1_000 {
            plans.insert(run(number), plan(200_000), need);
            plans.find(run(0));
        }
        assert!(plans.look(run(0)).is_some(), "what is used stays");
        assert!(plans.look(run(999)).is_some() && plans.look(run(1)).is_none());
        let kept = (0..1_000).filter(|number| plans.look(run(*number)).is_some()).count();
        assert!(plans.known.len() < 2_000);
        (0..1_000).for_each(|number| plans.remove(run(number)));
        check_nothing_is_kept(&plans);
        kept
    }

    #[test]
    fn plans_are_kept_up_to_a_number_of_bytes() {
        let kept = kept_of_many(Need::Work);
        assert!((300..=Shelf::Worked.bytes_max() / 200_000).contains(&kept), "{kept} are kept");
    }

    #[test]
    fn of_runs_that_were_only_submitted_few_are_kept() {
        let kept = kept_of_many(Need::Perhaps);
        assert!((35..=1 + Shelf::Seen.bytes_max() / 200_000).contains(&kept), "{kept} are kept");
    }

    #[test]
    fn a_plan_is_at_hand_as_long_as_somebody_keeps_it() {
        for (bytes, need) in [(LARGE_BYTES, Need::Perhaps), (10, Need::Nothing)] {
            let (plans, kept) = (Plans::default(), plan(bytes));
            plans.insert(run(1), kept.clone(), need);
            assert!(plans.find(run(1)).is_some());
            drop(kept);
            assert!(plans.find(run(1)).is_none());
        }
    }

    #[test]
    fn the_plan_of_a_run_that_has_ended_is_let_go() {
        let plans = Plans::default();
        for bytes in [10, LARGE_BYTES] {
            for need in [Need::Work, Need::Perhaps, Need::Nothing] {
                plans.insert(run(1), plan(bytes), need);
                plans.has_ended(run(1));
                plans.has_ended(run(1));
                assert!(plans.find(run(1)).is_none());
                let handle = plan(bytes);
                plans.insert(run(1), handle.clone(), need);
                plans.has_ended(run(1));
                assert!(plans.find(run(1)).is_some(), "who has a handle has it at hand");
                plans.remove(run(1));
            }
        }
        check_nothing_is_kept(&plans);
    }

    #[test]
    fn the_end_of_another_run_under_the_same_id_lets_nothing_go() {
        let plans = Plans::default();
        plans.insert(run(1), plan(10), Need::Work);
        plans.has_ended(run(1).id.incarnation(Incarnation::new(7)));
        assert!(plans.find(run(1)).is_some());
    }

    #[test]
    fn nothing_grows_with_runs_that_have_ended() {
        let plans = Plans::default();
        for number in 0..5_000 {
            plans.insert(run(number), plan(10), if number % 2 == 0 { Need::Work } else { Need::Perhaps });
            plans.has_ended(run(number));
        }
        let turns: usize = plans.kept().iter().map(|kept| kept.order.len()).sum();
        assert!(turns < 2_100, "{turns} turns");
        check_nothing_is_kept(&plans);
    }

    #[tokio::test(start_paused = true)]
    async fn a_plan_that_nobody_has_used_for_long_is_let_go() {
        let plans = Plans::default();
        for (number, need) in [(1, Need::Work), (2, Need::Work), (3, Need::Perhaps), (4, Need::Perhaps)] {
            plans.insert(run(number), plan(10), need);
        }
        for _ in 0..3 {
            plans.find(run(2));
            plans.find(run(4));
            tokio::time::advance(Shelf::Worked.idle_max()).await;
            plans.pass_over();
        }
        let is_kept = [1, 2, 3, 4].map(|number| plans.look(run(number)).is_some());
        assert_eq!(is_kept, [false, true, false, true]);
        tokio::time::advance(Shelf::Worked.idle_max()).await;
        plans.pass_over();
        assert!(plans.look(run(2)).is_none(), "looking is not using");
    }

    #[test]
    fn an_id_that_is_used_again_has_another_plan() {
        let plans = Plans::default();
        let again = run(1).id.incarnation(Incarnation::new(7));
        plans.insert(run(1), plan(10), Need::Work);
        plans.insert(again, plan(10), Need::Work);
        assert!(plans.find(run(1)).is_none() && plans.find(again).is_some());
        plans.remove(run(1));
        assert!(plans.find(again).is_some());
        assert_eq!(plans.kept()[Shelf::Worked as usize].plans, 1);
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
