//! What a worker holds, and who of its crew waits for what.
//!
//! A leaf that was taken waits, is run by a lane, and is reported: it is in one of these places until the
//! backend has heard of it or has it back, and whatever way the worker ends, [`Bench::close`] says what
//! becomes of it. So there is one place that knows whether a leaf has begun.
//!
//! ```text
//!  fetcher ──put──► waiting ──next──► seats ──next──► done ──batch──► on its way ──reported──► gone
//!                                                       ▲                  │
//!                                                       └──── refused ◄────┘
//! ```
//!
//! Lanes are admitted by their number alone: what has run and waits to be reported takes no place.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use celeriac_backends::{Delivery, DeliveryId};
use celeriac_primitives::{Completion, Outcome, TaskMessage, TaskName};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::pace::Pace;
use super::threads::{Lent, Threads};
use super::turn::{Turn, Turns, threads_here};
use crate::Vitals;

/// How many reports go to the backend in one step.
const REPORTS_MAX: usize = 1024;

/// No more leaves are taken while so many reports, or so many bytes of results, have not reached the backend.
const UNREPORTED_MAX: usize = 8 * REPORTS_MAX;
const UNREPORTED_BYTES_MAX: usize = 32 << 20;

/// What the backend does not take is tried again after this.
const AGAIN: Duration = Duration::from_millis(500);

/// How a delivery has ended.
pub(super) type Report = (DeliveryId, Completion);

/// What fetcher, lanes, reporter and keeper share.
pub(super) struct Bench {
    hands: Mutex<Hands>,
    vitals: Vitals,
    /// The thread of the lookout, where there is one.
    lookout: OnceLock<Thread>,
    /// There is something for: the fetcher, which has room, or has lanes to start or to ask anew; the
    /// reporter, and who stands in for a thread that is kept; the keeper; who waits for the end.
    room: Notify,
    called: Notify,
    ended: Notify,
    kept: Notify,
    reserved: Notify,
    idle: Notify,
}

struct Hands {
    concurrency: usize,
    /// How many threads the runtime has for lanes and all else.
    threads_of_runtime: usize,
    pace: Pace,
    /// The reserve when it was computed last.
    reserve: usize,
    /// Taken and not begun.
    waiting: VecDeque<Delivery>,
    /// Taken and not to begin before nothing runs any more.
    apart: Option<Delivery>,
    /// What has lost several workers, until it is reported: there is one at most.
    suspect: Option<DeliveryId>,
    threads: Threads,
    turns: Turns,
    /// One for each lane that there ever was at the same time, and what it runs.
    seats: Vec<Option<Running>>,
    /// Seats without a lane.
    empty: Vec<usize>,
    /// How many lanes run a leaf.
    busy: usize,
    /// Ended.
    done: Vec<Report>,
    done_bytes: usize,
    /// Those that the reporter is at, or who stands in for it.
    on_its_way: Arc<Vec<Report>>,
    /// Those that the backend does not take now, and when they are tried again.
    refused: Vec<Report>,
    again: Option<Instant>,
    is_late: bool,
    /// No leaf begins any more.
    is_stopping: bool,
    /// Nothing comes any more.
    is_closed: bool,
    fetcher_waits: bool,
    reporter_waits: bool,
    keeper_waits: bool,
    lookout_rests: bool,
}

struct Running {
    id: DeliveryId,
    /// What is reported when the lane is cut off, since at most once was asked for and it has begun.
    lost: Option<Completion>,
}

/// A lane's place at the bench.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat(usize);

/// What a lane has done with its leaf.
pub(super) struct Ended {
    /// `None` when it is not this worker's any more, or comes again when its lease has passed.
    pub(super) report: Option<Report>,
    /// How long it took, when it was timed.
    pub(super) took: Option<Duration>,
}

/// What a lane does next.
pub(super) struct Next {
    pub(super) delivery: Delivery,
    /// Whether to time it.
    pub(super) is_timed: bool,
    /// To be taken before.
    pub(super) turn: Turn,
}

/// What a worker held when it stopped.
#[derive(Default)]
pub(super) struct Left {
    /// Ended, or lost: what must not run again.
    pub(super) reports: Vec<Report>,
    /// How many of these have not ended.
    pub(super) lost: usize,
    /// What others may run.
    pub(super) back: Vec<DeliveryId>,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").finish_non_exhaustive()
    }
}

impl Bench {
    pub(super) fn new(concurrency: usize, prefetch: Option<usize>, threads: usize, vitals: Vitals) -> Self {
        let hands = Hands {
            concurrency,
            threads_of_runtime: threads_here(),
            pace: Pace::new(concurrency, prefetch),
            reserve: 0,
            waiting: VecDeque::new(),
            apart: None,
            suspect: None,
            threads: Threads::new(threads),
            turns: Turns::new(),
            seats: Vec::new(),
            empty: Vec::new(),
            busy: 0,
            done: Vec::new(),
            done_bytes: 0,
            on_its_way: Arc::default(),
            refused: Vec::new(),
            again: None,
            is_late: false,
            is_stopping: false,
            is_closed: false,
            fetcher_waits: false,
            reporter_waits: false,
            keeper_waits: true,
            lookout_rests: false,
        };
        let [room, called, ended, kept, reserved, idle] = [(); 6].map(|()| Notify::new());
        let (hands, lookout) = (Mutex::new(hands), OnceLock::new());
        Self { hands, vitals, lookout, room, called, ended, kept, reserved, idle }
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a lane is free for which nothing is at hand, or half of the reserve is used up; returns
    /// how many leaves to take.
    pub(super) async fn room(&self) -> usize {
        loop {
            {
                let mut hands = self.hands();
                hands.reserve = hands.pace.reserve(Instant::now());
                let room = hands.room();
                hands.fetcher_waits = room == 0;
                if room > 0 {
                    return room;
                }
            }
            self.room.notified().await;
        }
    }

    /// Lets the fetcher ask anew, after others who wait for the same queues: what was just given to others is
    /// not for the one who asked first.
    pub(super) fn ask_anew(&self) {
        self.called.notify_one();
    }

    /// Waits until there are lanes to start, or it is time to ask anew: for others, or for the next suspect.
    pub(super) async fn called(&self) {
        self.called.notified().await;
    }

    /// The seats of the lanes to start when a leaf has begun to wait, which leaves its thread to others.
    pub(super) fn seats(&self) -> Vec<Seat> {
        self.hands().take_seats()
    }

    /// The seats of all the lanes that there may be for what waits: a thread that a leaf keeps begins none.
    pub(super) fn all_seats(&self) -> Vec<Seat> {
        let mut hands = self.hands();
        let most = hands.concurrency;
        hands.take_seats_for(most)
    }

    /// Takes deliveries in hand and returns the seats of the lanes to start.
    pub(super) fn put(&self, deliveries: Vec<Delivery>) -> Vec<Seat> {
        let mut hands = self.hands();
        for delivery in deliveries {
            // Before those of later lanes.
            let lane = delivery.id.lane;
            let place = hands.waiting.partition_point(|waiting| waiting.id.lane <= lane);
            hands.waiting.insert(place, delivery);
        }
        let seats = hands.take_seats();
        if hands.pace.is_free() && hands.waiting.len() > hands.free() {
            self.call_keeper(&mut hands);
        }
        self.wake_lookout(&mut hands);
        seats
    }

    /// There is a lookout now.
    pub(super) fn has_lookout(&self, lookout: Thread) {
        let _ = self.lookout.set(lookout);
    }

    /// Whether nothing is held, so that the lookout may rest until something is.
    pub(super) fn lets_lookout_rest(&self) -> bool {
        let mut hands = self.hands();
        hands.lookout_rests = hands.is_idle();
        hands.lookout_rests
    }

    #[cfg(test)]
    pub(super) fn lookout_rests(&self) -> bool {
        self.hands().lookout_rests
    }

    fn wake_lookout(&self, hands: &mut Hands) {
        if hands.lookout_rests {
            hands.lookout_rests = false;
            if let Some(lookout) = self.lookout.get() {
                lookout.unpark();
            }
        }
    }

    fn call_keeper(&self, hands: &mut Hands) {
        if hands.keeper_waits {
            hands.keeper_waits = false;
            self.reserved.notify_one();
        }
    }

    /// Whether there is something in hand that has lost several workers.
    pub(super) fn has_suspect(&self) -> bool {
        self.hands().suspect.is_some()
    }

    /// Takes a leaf in hand that is to run alone; returns what has not begun, for others.
    pub(super) fn set_apart(&self, delivery: Delivery) -> Vec<DeliveryId> {
        let mut hands = self.hands();
        let others = hands.not_begun().map(|delivery| delivery.id.clone()).collect();
        hands.forget_waiting();
        hands.suspect = Some(delivery.id.clone());
        hands.apart = Some(delivery);
        others
    }

    /// Lets it begin; returns the seat of its lane.
    pub(super) fn let_begin(&self) -> Vec<Seat> {
        let mut hands = self.hands();
        let apart = hands.apart.take();
        hands.waiting.extend(apart);
        self.wake_lookout(&mut hands);
        hands.take_seats()
    }

    /// Waits until no lane runs anything.
    pub(super) async fn still(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.hands().busy == 0 {
                return;
            }
            idle.await;
        }
    }

    fn clear_suspect(&self, hands: &mut Hands, gone: &[DeliveryId]) {
        if hands.suspect.as_ref().is_some_and(|suspect| gone.contains(suspect)) {
            hands.suspect = None;
            self.called.notify_one();
        }
    }

    /// What a lane has done with the leaf it had, and the next one for it. `None` ends the lane: its seat is
    /// empty under the same lock, so that a leaf put in hand right afterwards finds a place for a new lane.
    pub(super) fn next(&self, seat: Seat, ended: Option<Ended>) -> Option<Next> {
        let mut hands = self.hands();
        let had_suspect = hands.suspect.is_some();
        // Who gave a leaf away has called the fetcher, or the keeper.
        let mut has_called_others = ended.as_ref().is_some_and(|ended| ended.report.is_none());
        let mut has_called_reporter = false;
        if let Some(ended) = ended {
            hands.put_down(seat, ended);
        }
        if had_suspect && hands.suspect.is_none() {
            self.called.notify_one();
            has_called_others = true;
        }
        let next = hands.pick_up(seat);
        // When the next leaf is to begin here, the fetcher would wait for it: the reporter calls it then, if
        // that one is about to come.
        let is_called_later = next.is_some() && !hands.reporter_waits;
        if !is_called_later && hands.fetcher_waits && hands.room() > 0 {
            hands.fetcher_waits = false;
            self.room.notify_one();
            has_called_others = true;
        }
        // Last, which hands over the others.
        if hands.reporter_waits && !hands.done.is_empty() {
            hands.reporter_waits = false;
            self.ended.notify_one();
            has_called_reporter = true;
        }
        if hands.busy == 0 {
            self.idle.notify_waiters();
        }
        let (delivery, is_timed) = next?;
        let turn = hands.turns.next(has_called_reporter, has_called_others);
        Some(Next { delivery, is_timed, turn })
    }

    /// Notes that the leaf at this seat begins and must not begin again. `false`: it must not begin here
    /// either, since the worker has stopped and given it back.
    pub(super) fn begin_once(&self, seat: Seat, message: &TaskMessage) -> bool {
        let mut hands = self.hands();
        match &mut hands.seats[seat.0] {
            Some(running) => {
                running.lost = Some(message.completion(Outcome::WorkerLost { deliveries: 1 }));
                true
            }
            None => false,
        }
    }

    /// A thread for the blocking leaf at this seat. Without one, it waits for one or has to be given to
    /// others for this time; in any case it is this lane's no more, which goes on with `None`.
    pub(super) fn lend_thread(
        self: &Arc<Self>,
        seat: Seat,
        delivery: &Delivery,
    ) -> Result<Lent, Option<Duration>> {
        let mut hands = self.hands();
        if hands.threads.take() {
            return Ok(Lent::new(self.clone(), delivery.message.task.clone()));
        }
        if hands.is_closed || hands.seats[seat.0].is_none() {
            return Err(None);
        }
        let away = hands.threads.wait(delivery);
        if away.is_none() {
            hands.seats[seat.0] = None;
            self.call_keeper(&mut hands);
        }
        Err(away)
    }

    /// A thread is free again.
    pub(super) fn give_thread_back(&self, was_hung: bool) {
        let mut hands = self.hands();
        let next = hands.threads.give_back(was_hung);
        if was_hung {
            self.vitals.say("threads", None);
        }
        if let Some(next) = next.filter(|_| !hands.is_closed) {
            hands.waiting.push_front(next);
            self.called.notify_one();
        }
    }

    /// Nobody waits for the task on a thread any more, and it goes on.
    pub(super) fn thread_hangs(&self, task: &TaskName) {
        let mut hands = self.hands();
        let is_news = hands.threads.hangs(task);
        let (hung, max) = (hands.threads.hung(), hands.threads.max());
        drop(hands);
        if is_news {
            tracing::warn!(%task, hung, max, "a blocking task goes on when its leaf is over; its thread is lost until it ends");
        }
        if hung >= max {
            let text = format!("all {max} threads for blocking tasks hang, the last in {task}");
            self.vitals.say("threads", Some((text, None)));
        }
    }

    /// How many threads hang.
    pub(super) fn hung_threads(&self) -> usize {
        self.hands().threads.hung()
    }

    /// Takes out a leaf that waits for a thread for too long, and for how long it is given to others.
    pub(super) fn take_threadless(&self) -> Option<(Delivery, Duration)> {
        let mut hands = self.hands();
        let overdue = hands.threads.take_overdue();
        if let Some((delivery, _)) = &overdue {
            self.clear_suspect(&mut hands, std::slice::from_ref(&delivery.id));
        }
        overdue
    }

    /// What has ended, for one step of the backend; waits for it. `None` when nothing will come any more. As
    /// long as the last batch was not reported, it is the same.
    pub(super) async fn batch(&self) -> Option<Arc<Vec<Report>>> {
        loop {
            let again = {
                let mut hands = self.hands();
                if !hands.is_late {
                    hands.take_batch();
                    if !hands.on_its_way.is_empty() {
                        return Some(hands.on_its_way.clone());
                    }
                    // What is refused is left to who stops.
                    if hands.is_closed {
                        return None;
                    }
                }
                hands.reporter_waits = true;
                hands.again
            };
            match again {
                Some(again) => drop(timeout_at(again, self.ended.notified()).await),
                None => self.ended.notified().await,
            }
        }
    }

    /// A leaf keeps its thread.
    pub(super) fn thread_is_kept(&self) {
        self.kept.notify_one();
    }

    /// Waits until a leaf keeps its thread.
    pub(super) async fn kept(&self) {
        self.kept.notified().await;
    }

    /// What has ended, when the reporter was called and has not come.
    pub(super) fn late_batch(&self) -> Option<Arc<Vec<Report>>> {
        let mut hands = self.hands();
        let has_not_come = !hands.reporter_waits && hands.on_its_way.is_empty();
        if has_not_come && !hands.is_closed {
            hands.take_batch();
            hands.is_late = !hands.on_its_way.is_empty();
        }
        hands.is_late.then(|| hands.on_its_way.clone())
    }

    /// The batch has reached the backend, or never will, besides what the backend refuses now.
    pub(super) fn reported(&self, batch: &Arc<Vec<Report>>, refused: Vec<Report>) {
        let mut hands = self.hands();
        // When the worker stops, the reporter takes over what its stand-in was at.
        if !Arc::ptr_eq(batch, &hands.on_its_way) {
            return;
        }
        hands.on_its_way = Arc::default();
        hands.done_bytes -= batch.iter().map(bytes_of).sum::<usize>();
        hands.done_bytes += refused.iter().map(bytes_of).sum::<usize>();
        if std::mem::take(&mut hands.is_late) && hands.reporter_waits && !hands.done.is_empty() {
            hands.reporter_waits = false;
            self.ended.notify_one();
        }
        if hands.suspect.is_some() {
            let is_gone = |id: &&DeliveryId| !refused.iter().any(|(refused, _)| refused == *id);
            let gone: Vec<DeliveryId> = batch.iter().map(|(id, _)| id).filter(is_gone).cloned().collect();
            self.clear_suspect(&mut hands, &gone);
        }
        if !refused.is_empty() {
            hands.refused.extend(refused);
            hands.again.get_or_insert_with(|| Instant::now() + AGAIN);
        }
        if hands.fetcher_waits && hands.room() > 0 {
            hands.fetcher_waits = false;
            self.room.notify_one();
        }
        if hands.is_idle() {
            self.idle.notify_waiters();
        }
    }

    /// Waits until more leaves are in hand than there are free lanes, or some wait for a thread.
    pub(super) async fn reserved(&self) {
        self.reserved.notified().await;
    }

    /// How many leaves were begun up to now.
    pub(super) fn begun(&self) -> u64 {
        self.hands().pace.begun()
    }

    /// Takes out of hand what others had better begin: all lanes are busy, and more waits than was begun
    /// since the count was `before`. `None` when nothing waits any more, of which the keeper will hear.
    pub(super) fn take_overdue(&self, before: u64) -> Option<Vec<DeliveryId>> {
        let mut hands = self.hands();
        if hands.waiting.len() <= hands.free() || !hands.pace.is_free() {
            let is_done = hands.threads.waiting().next().is_none();
            hands.keeper_waits = is_done;
            return if is_done { None } else { Some(Vec::new()) };
        }
        let begun = hands.pace.begun() - before;
        let keep = usize::try_from(begun).unwrap_or(usize::MAX);
        if hands.free() > 0 || hands.waiting.len() <= keep {
            return Some(Vec::new());
        }
        hands.pace.slow_down(begun);
        hands.reserve = hands.pace.reserve(Instant::now());
        let overdue: Vec<DeliveryId> =
            hands.waiting.split_off(keep).into_iter().map(|delivery| delivery.id).collect();
        self.clear_suspect(&mut hands, &overdue);
        Some(overdue)
    }

    /// No leaf begins any more. Returns those that have not begun; they are held until they are
    /// [forgotten](Self::forget_waiting).
    pub(super) fn stop_beginning(&self) -> Vec<DeliveryId> {
        let mut hands = self.hands();
        hands.is_stopping = true;
        hands.not_begun().map(|delivery| delivery.id.clone()).collect()
    }

    /// What has not begun is with the backend again.
    pub(super) fn forget_waiting(&self) {
        let mut hands = self.hands();
        hands.forget_waiting();
        if hands.is_idle() {
            self.idle.notify_waiters();
        }
    }

    /// What waits, runs, or was not reported.
    pub(super) fn held(&self) -> Vec<DeliveryId> {
        let hands = self.hands();
        let waiting = hands.not_begun().map(|delivery| &delivery.id);
        let running = hands.seats.iter().flatten().map(|running| &running.id);
        let ended = hands.done.iter().chain(hands.on_its_way.iter()).chain(&hands.refused);
        let ended = ended.map(|(id, _)| id);
        waiting.chain(running).chain(ended).cloned().collect()
    }

    /// Whether something is held.
    pub(super) fn is_in_use(&self) -> bool {
        !self.hands().is_idle()
    }

    /// Waits until nothing is held.
    pub(super) async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.hands().is_idle() {
                return;
            }
            idle.await;
        }
    }

    /// Ends everything: nothing begins any more, and the reporter ends when it has reported what there is.
    pub(super) fn close(&self) {
        let mut hands = self.hands();
        (hands.is_stopping, hands.is_closed, hands.is_late) = (true, true, false);
        hands.try_refused();
        self.ended.notify_one();
    }

    /// Takes everything out of hand that is still held. What has begun and must not run again is lost.
    pub(super) fn clear(&self) -> Left {
        let mut hands = self.hands();
        (hands.is_stopping, hands.is_closed) = (true, true);
        let mut left = Left::default();
        left.back.extend(hands.not_begun().map(|delivery| delivery.id.clone()));
        hands.forget_waiting();
        for Running { id, lost } in hands.seats.iter_mut().filter_map(Option::take) {
            match lost {
                Some(lost) => left.reports.push((id, lost)),
                None => left.back.push(id),
            }
        }
        left.lost = left.reports.len();
        left.reports.extend(hands.on_its_way.iter().cloned());
        left.reports.append(&mut hands.refused);
        left.reports.append(&mut hands.done);
        left
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // It may be resting, and is to end.
        if let Some(lookout) = self.lookout.get() {
            lookout.unpark();
        }
    }
}

impl Hands {
    /// How many lanes could begin a leaf now.
    fn free(&self) -> usize {
        self.concurrency - self.busy
    }

    /// How many leaves to take; none as long as there is enough at hand.
    fn room(&self) -> usize {
        let unreported = self.done.len() + self.on_its_way.len() + self.refused.len();
        if unreported >= UNREPORTED_MAX || self.done_bytes >= UNREPORTED_BYTES_MAX {
            return 0;
        }
        let (free, waiting) = (self.free(), self.waiting.len());
        if waiting < free || waiting <= self.reserve / 2 {
            free.saturating_add(self.reserve).saturating_sub(waiting)
        } else {
            0
        }
    }

    /// Seats for the lanes that are to run what waits. Quick leaves have one for each thread: when one waits,
    /// its lane [asks for more](Bench::seats).
    fn take_seats(&mut self) -> Vec<Seat> {
        let most = if self.pace.is_quick() { self.threads_of_runtime } else { self.concurrency };
        self.take_seats_for(most)
    }

    /// The same, when so many lanes are to come at most.
    fn take_seats_for(&mut self, most: usize) -> Vec<Seat> {
        let lanes = self.seats.len() - self.empty.len();
        // Lanes that have not begun a leaf yet take one themselves.
        let coming = lanes - self.busy;
        let start = self.waiting.len().min(most).saturating_sub(coming).min(self.concurrency - lanes);
        let mut seats = Vec::with_capacity(start);
        for _ in 0..start {
            seats.push(Seat(self.empty.pop().unwrap_or_else(|| {
                self.seats.push(None);
                self.seats.len() - 1
            })));
        }
        seats
    }

    /// Puts the next leaf on a seat; or the lane ends, and the seat is empty.
    fn pick_up(&mut self, seat: Seat) -> Option<(Delivery, bool)> {
        let next = if self.is_stopping { None } else { self.waiting.pop_front() };
        let Some(next) = next else {
            self.empty.push(seat.0);
            return None;
        };
        self.seats[seat.0] = Some(Running { id: next.id.clone(), lost: None });
        self.busy += 1;
        Some((next, self.pace.begin()))
    }

    /// What has ended is on its way, as much as goes in one step; unless something is already.
    fn take_batch(&mut self) {
        if self.again.is_some_and(|again| again <= Instant::now()) {
            self.try_refused();
        }
        if self.on_its_way.is_empty() && !self.done.is_empty() {
            let count = self.done.len().min(REPORTS_MAX);
            let batch = match count == self.done.len() {
                true => std::mem::take(&mut self.done),
                false => self.done.drain(..count).collect(),
            };
            self.on_its_way = Arc::new(batch);
        }
    }

    /// What was refused is to be reported once more.
    fn try_refused(&mut self) {
        self.again = None;
        self.done.append(&mut self.refused);
    }

    fn put_down(&mut self, seat: Seat, ended: Ended) {
        self.busy -= 1;
        ended.took.into_iter().for_each(|took| self.pace.note(took));
        // Without a leaf at its seat the worker has stopped, and others have been told of it or given it.
        let Some(Running { id, lost }) = self.seats[seat.0].take() else { return };
        // One that must not run again and has no report is lost all the same.
        match ended.report.or_else(|| Some((id.clone(), lost?))) {
            Some(report) => {
                self.done_bytes += bytes_of(&report);
                self.done.push(report);
            }
            None if self.suspect.as_ref() == Some(&id) => self.suspect = None,
            None => {}
        }
    }

    /// Taken and not begun: they wait for a lane, or for a thread.
    fn not_begun(&self) -> impl Iterator<Item = &Delivery> {
        self.waiting.iter().chain(&self.apart).chain(self.threads.waiting())
    }

    fn forget_waiting(&mut self) {
        self.waiting.clear();
        self.apart = None;
        self.threads.clear();
    }

    fn is_idle(&self) -> bool {
        self.busy == 0
            && self.not_begun().next().is_none()
            && self.done.is_empty()
            && self.on_its_way.is_empty()
            && self.refused.is_empty()
    }
}

/// What a report holds of a task's making, roughly.
fn bytes_of((_, completion): &Report) -> usize {
    match &completion.outcome {
        Outcome::Success(value) | Outcome::Replace(value) => value.as_str().len(),
        _ => 0,
    }
}
