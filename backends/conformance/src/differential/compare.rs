//! Comparing the answers of both backends, and noting what they mean.

use celeriac_backends::{
    Advanced, Begin, Delivery, DeliveryId, ErrorKind, EventDelivery, Submitted, Swept, WorkerId,
};
use celeriac_engine::{Release, RunState};
use celeriac_primitives::RunRef;

use super::choose::STEP_MAX;
use super::model::Tracked;
use super::operation::{Answer, Held, Operation, Pair, Side, Step, Submission};
use super::{Compared, Driver, SHORT};

/// So much is shown before the first difference of two long answers, in characters.
const CONTEXT: usize = 500;

type Settlements = Vec<Result<Advanced, ErrorKind>>;

impl Driver<'_> {
    /// Compares two answers and notes what they mean; whether the operation did or found something.
    pub(super) async fn compare(
        &mut self,
        client: usize,
        operation: &Operation,
        (reference, subject): (Answer, Answer),
        knows: &[RunRef],
    ) -> Compared<bool> {
        match (operation, reference, subject) {
            (Operation::Submit(submission), Answer::Submitted(ours), Answer::Submitted(theirs)) => {
                equal(&ours, &theirs)?;
                self.submitted(client, submission, ours).await
            }
            (Operation::Plan(run), Answer::Plan(ours), Answer::Plan(theirs)) => {
                let tracked = self.model.runs.get(run);
                equal(&ours.as_deref(), &tracked.map(|run| &*run.plan))?;
                // A client may remember the plan of a run that another client has forgotten.
                if self.clients.len() == 1 || ours.is_some() {
                    equal(&ours.is_some(), &theirs.is_some())?;
                    check(ours == theirs, || "the plans differ".to_owned())?;
                }
                Ok(ours.is_some())
            }
            (Operation::Settle(steps), Answer::Settled(ours), Answer::Settled(theirs)) => {
                self.settled(client, steps, knows, (ours, theirs)).await
            }
            (Operation::Owing(max), Answer::Runs(ours), Answer::Runs(theirs)) => {
                self.owing(*max, ours, theirs)
            }
            (Operation::Dispatch(run, leaves), Answer::Queued(ours), Answer::Queued(theirs)) => {
                if self.model.current(run.id).is_some_and(|(current, _)| current != *run) {
                    self.tally.event("dispatch of a run whose id another one has");
                }
                equal(&ours, &theirs)?;
                let queued = ours.map_err(|kind| kind.to_string())?;
                if let Some(tracked) = self.model.runs.get_mut(run) {
                    let expect = leaves.iter().filter(|leaf| tracked.state.dispatch(leaf.release)).count();
                    check(queued == expect, || format!("{queued} were queued, {expect} in the outbox"))?;
                }
                Ok(queued > 0)
            }
            (Operation::Receive { worker, .. }, Answer::Received(ours), Answer::Received(theirs)) => {
                self.received(client, worker, (ours, theirs)).await
            }
            (Operation::Begin(_, held, _), Answer::Begun(ours), Answer::Begun(theirs)) => {
                equal(&ours, &theirs)?;
                self.tally.event(format!("begin: {ours:?}"));
                if ours == Begin::Gone {
                    self.model.release([held]);
                }
                Ok(ours == Begin::Run)
            }
            (Operation::Sweep(_), Answer::Swept(ours), Answer::Swept(theirs)) => self.swept(ours, theirs),
            (Operation::Events(max), Answer::Events(ours), Answer::Events(theirs)) => {
                self.events(client, *max, ours, theirs).await
            }
            (Operation::Forget(run), Answer::Forgotten(ours), Answer::Forgotten(theirs)) => {
                equal(&ours, &theirs)?;
                equal(&ours, &self.model.runs.contains_key(run))?;
                self.forget(*run);
                Ok(ours)
            }
            (operation, Answer::Done, Answer::Done) => Ok(self.done(operation)),
            (_, Answer::Outbox(ours), Answer::Outbox(theirs)) => {
                equal(&ours, &theirs)?;
                Ok(!ours.is_empty())
            }
            (_, Answer::Known(ours), Answer::Known(theirs)) => {
                equal(&ours, &theirs)?;
                Ok(ours.is_some_and(|ours| !ours.is_empty()))
            }
            (_, Answer::Status(ours), Answer::Status(theirs)) => {
                equal(&ours, &theirs)?;
                Ok(ours.is_some())
            }
            (_, Answer::Phases(ours), Answer::Phases(theirs)) => {
                equal(&ours, &theirs)?;
                Ok(ours.is_some())
            }
            (_, Answer::Ids(ours), Answer::Ids(theirs)) => {
                equal(&ours, &theirs)?;
                Ok(!ours.is_empty())
            }
            (_, reference, subject) => unreachable!("answers of another kind: {reference:?} {subject:?}"),
        }
    }

    async fn submitted(
        &mut self,
        client: usize,
        submission: &Submission,
        answer: Result<Submitted, ErrorKind>,
    ) -> Compared<bool> {
        let Submission { run, canvas, plan, starts, retention } = submission;
        let expect = match self.model.current(run.id) {
            None => Ok(Submitted::Accepted),
            Some((current, known)) if known.plan == *plan => Ok(Submitted::Existing(current)),
            Some(_) => Err(ErrorKind::Conflict),
        };
        equal(&answer, &expect)?;
        match answer {
            Ok(Submitted::Accepted) => self.tally.event("accepted: submission"),
            Ok(Submitted::Existing(_)) => self.tally.event("existing: submission"),
            Err(_) => self.tally.event("conflict: submission"),
        }
        if answer != Ok(Submitted::Accepted) {
            return Ok(false);
        }
        let (mut state, released) = RunState::start(plan);
        let mut ready: Vec<Release> = starts.iter().map(|leaf| leaf.release).collect();
        ready.sort_unstable();
        if !released.is_empty() && ready == released {
            assert!(released.iter().all(|release| state.dispatch(*release)), "they were just released");
            // A backend may leave all of them to a coordinator, to which it then announces the run.
            let outbox = self.clients[client].outbox(*run).await.map_err(|error| error.to_string())?;
            if outbox.is_empty() {
                self.tally.event("first leaves queued with the submission");
            } else {
                self.tally.event("first leaves left to a coordinator");
                let queued = self.clients[client].dispatch(*run, starts).await;
                equal(&queued.map_err(|error| error.to_string())?, &starts.len())?;
                self.model.expect_surplus(*run);
            }
        }
        self.tally.event(match plan.len() {
            0..=16 => "a run of at most 16 nodes",
            17..=1024 => "a run of 17 to 1,024 nodes",
            _ => "a run of more than 1,024 nodes",
        });
        if plan.nodes().any(|(node, _)| plan.leaf(node).is_some_and(|leaf| leaf.args.len() > 100_000)) {
            self.tally.event("a run with large arguments");
        }
        if let Some((_, _, before)) = self.model.gone.get(&run.id) {
            self.tally.event(if before == plan {
                "an id was taken again by the same canvas"
            } else {
                "an id was taken again by another canvas"
            });
        }
        let tracked = Tracked {
            canvas: canvas.clone(),
            plan: plan.clone(),
            state,
            retention: *retention,
            versions: None,
        };
        self.model.runs.insert(*run, tracked);
        Ok(true)
    }

    async fn settled(
        &mut self,
        client: usize,
        steps: &[Step],
        knows: &[RunRef],
        (ours, theirs): (Settlements, Settlements),
    ) -> Compared<bool> {
        equal(&(ours.len(), theirs.len()), &(steps.len(), steps.len()))?;
        let mut did_something = false;
        for (step, (ours, theirs)) in steps.iter().zip(ours.into_iter().zip(theirs)) {
            let (ours, theirs) = match (ours, theirs) {
                (Ok(Advanced::Unknown), Ok(Advanced::Unknown)) => {
                    check(!self.model.runs.contains_key(&step.run), || "a run is unknown".to_owned())?;
                    let is_taken = self.model.current(step.run.id).is_some();
                    let another = "settled: a run whose id another one has";
                    self.tally.event(if is_taken { another } else { "settled: unknown run" });
                    continue;
                }
                (
                    Ok(Advanced::Settled { settled: ours, acknowledged: our_ack }),
                    Ok(Advanced::Settled { settled: theirs, acknowledged: their_ack }),
                ) => ((ours, our_ack), (theirs, their_ack)),
                (ours, theirs) => return Err(format!("reference: {ours:?}\nsubject: {theirs:?}")),
            };
            let (ours, our_ack) = ours;
            let (theirs, their_ack) = theirs;
            equal(&ours.verdicts, &theirs.verdicts)?;
            let comes_again = steps.iter().filter(|other| other.run == step.run).count() > 1;
            // A step that only looks may look before those that need the plan, which has to be read first.
            let is_early = comes_again && step.completions.is_empty();
            check(is_early || (ours.decided, ours.ended) == (theirs.decided, theirs.ended), || {
                format!("reference: {ours:?}\nsubject: {theirs:?}")
            })?;
            // A large step may be taken in parts, of which the first does not know what the others see.
            let in_parts = step.completions.len() > STEP_MAX;
            // Prepared leaves may be left to the caller by a client that does not have the run's plan at
            // hand.
            let may_leave = in_parts || self.prepared_may_wait || !knows.contains(&step.run);
            // What is handed out again may be read after the whole batch, in which the run comes up again;
            // the dump shows that the outboxes are the same.
            let is_blurred = ours.repairs() && comes_again;
            let queued_here = |released: &[Release], other: &[Release]| -> Vec<Release> {
                other.iter().filter(|release| !released.contains(release)).copied().collect()
            };
            let left = Pair {
                reference: queued_here(&theirs.released, &ours.released),
                subject: queued_here(&ours.released, &theirs.released),
            };
            let left = if is_blurred { Pair::default() } else { left };
            if !in_parts {
                check(left.reference.is_empty(), || {
                    format!("reference alone releases {:?}", left.reference)
                })?;
                check(left.subject.is_empty() || may_leave, || {
                    format!("subject alone releases {:?}", left.subject)
                })?;
            }
            for (side, left) in [(Side::Reference, left.reference), (Side::Subject, left.subject)] {
                let leaves: Vec<_> =
                    step.prepared.iter().filter(|leaf| left.contains(&leaf.release)).cloned().collect();
                check(leaves.len() == left.len(), || format!("{side:?} alone releases {left:?}"))?;
                if steps.len() > 1 {
                    // They come behind those of the runs after this one.
                    let places = leaves.iter().map(|leaf| (leaf.queue.clone(), leaf.lane));
                    self.model.unordered.extend(places);
                }
                let queued = self.backend(side, client).dispatch(step.run, &leaves).await;
                queued.map_err(|error| error.to_string())?;
            }
            if !step.events.is_empty() {
                if !may_leave {
                    equal(&our_ack, &their_ack)?;
                }
                if our_ack || their_ack {
                    // Whether the step itself acknowledges is up to the backend.
                    for (side, acknowledged) in [(Side::Reference, our_ack), (Side::Subject, their_ack)] {
                        if !acknowledged {
                            self.perform(side, client, &Operation::Acknowledge(step.events.clone())).await?;
                        }
                    }
                    self.model.acknowledged(&step.events);
                    self.tally.event("events acknowledged by the step");
                }
            }
            let tracked = self.model.runs.get_mut(&step.run).ok_or("a forgotten run was settled")?;
            let was_open = !tracked.state.ended();
            let expect = tracked.state.settle(&tracked.plan, step.completions.iter().cloned());
            equal(&ours.verdicts, &expect.verdicts)?;
            equal(&(ours.decided, ours.ended), &(expect.decided, expect.ended))?;
            for release in expect.released.iter().filter(|_| !is_blurred) {
                if !ours.released.contains(release) || !theirs.released.contains(release) {
                    let is_prepared = step.prepared.iter().any(|leaf| leaf.release == *release);
                    check(is_prepared, || format!("{release:?} is not handed out"))?;
                    if tracked.state.dispatch(*release) {
                        self.tally.event("prepared leaves queued by the step");
                    }
                }
            }
            expect.verdicts.iter().for_each(|verdict| self.tally.event(format!("verdict: {verdict:?}")));
            if was_open && tracked.state.ended() {
                self.tally.event("a run ended");
            }
            did_something |= expect.changes();
        }
        Ok(did_something)
    }

    /// Which runs a backend looks at is up to it, as long as it looks at all when it may.
    fn owing(&self, max: usize, mut ours: Vec<RunRef>, mut theirs: Vec<RunRef>) -> Compared<bool> {
        let owing: Vec<RunRef> =
            self.model.runs.iter().filter(|(_, run)| run.state.owed() > 0).map(|(id, _)| *id).collect();
        let is_all = max >= self.model.runs.len();
        for runs in [&mut ours, &mut theirs] {
            runs.sort_unstable();
            let are_owing = runs.iter().all(|run| owing.contains(run));
            check(are_owing && runs.len() <= max, || format!("{runs:?} of {owing:?}"))?;
            if is_all {
                equal(runs, &owing)?;
            }
        }
        Ok(!ours.is_empty())
    }

    /// The same leaves in the same order; only the deliveries have other names. Where the order may differ,
    /// as many of each lane; what only one side has goes back.
    async fn received(
        &mut self,
        client: usize,
        worker: &WorkerId,
        (ours, theirs): (Vec<Delivery>, Vec<Delivery>),
    ) -> Compared<bool> {
        let content = |one: &Delivery| {
            let DeliveryId { queue, lane, .. } = &one.id;
            (queue.clone(), *lane, one.message.clone(), one.deliveries)
        };
        let is_ordered =
            |one: &&Delivery| !self.model.unordered.contains(&(one.id.queue.clone(), one.id.lane));
        let ordered = |all: &[Delivery]| all.iter().filter(is_ordered).map(content).collect::<Vec<_>>();
        equal(&ordered(&ours), &ordered(&theirs))?;
        let places =
            |all: &[Delivery]| all.iter().map(|one| (one.id.queue.clone(), one.id.lane)).collect::<Vec<_>>();
        equal(&places(&ours), &places(&theirs))?;
        let mut theirs: Vec<Option<Delivery>> = theirs.into_iter().map(Some).collect();
        let mut pairs = Vec::new();
        let mut back = Pair::<Vec<DeliveryId>>::default();
        for one in ours {
            let same = |other: &&mut Option<Delivery>| {
                other.as_ref().is_some_and(|other| content(other) == content(&one))
            };
            match theirs.iter_mut().find(same).and_then(Option::take) {
                Some(other) => pairs.push((one, other)),
                None => back.reference.push(one.id),
            }
        }
        back.subject.extend(theirs.into_iter().flatten().map(|other| other.id));
        for (side, ids) in [(Side::Reference, back.reference), (Side::Subject, back.subject)] {
            let answer = self.backend(side, client).hand_back(worker, &ids).await;
            answer.map_err(|error| error.to_string())?;
        }
        let (ours, theirs): (Vec<Delivery>, Vec<Delivery>) = pairs.into_iter().unzip();
        let any = !ours.is_empty();
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            let ids = Pair { reference: ours.id, subject: theirs.id };
            let Delivery { message, deliveries, .. } = ours;
            self.model.remember(Held { ids, message, deliveries, worker: worker.clone(), is_held: true });
        }
        Ok(any)
    }

    fn swept(&mut self, ours: Swept, theirs: Swept) -> Compared<bool> {
        equal(&ours, &theirs)?;
        if ours.redelivered + ours.lost > 0 {
            self.tally.event("a lease had passed");
        }
        let is_over = |run: &Tracked| run.state.ended() && run.retention == Some(SHORT);
        let over: Vec<RunRef> =
            self.model.runs.iter().filter(|(_, run)| is_over(run)).map(|(id, _)| *id).collect();
        equal(&ours.forgotten, &over.len())?;
        for run in over {
            self.tally.event("a run was forgotten by the sweep");
            self.forget(run);
        }
        Ok(ours != Swept::default())
    }

    fn forget(&mut self, run: RunRef) {
        if let Some(tracked) = self.model.runs.remove(&run) {
            self.model.gone.insert(run.id, (run, tracked.canvas, tracked.plan));
        }
    }

    /// Events of different queues may come in any order, and those of a queue that a client does not know yet
    /// come when it finds nothing else: so they are matched as they come.
    async fn events(
        &mut self,
        client: usize,
        max: usize,
        ours: Vec<EventDelivery>,
        theirs: Vec<EventDelivery>,
    ) -> Compared<bool> {
        let any = !ours.is_empty();
        check(ours.len() <= max && theirs.len() <= max, || format!("{} {}", ours.len(), theirs.len()))?;
        let is_last = theirs.is_empty() && max > 0;
        self.take_in(Side::Reference, client, ours).await?;
        self.take_in(Side::Subject, client, theirs).await?;
        if max == usize::MAX && !is_last {
            self.take_all_events(client).await?;
        } else {
            self.model.match_events();
            let Pair { reference, subject } = self.model.loose();
            check(reference >= subject && !(is_last && reference > subject), || self.model.show_loose())?;
        }
        Ok(any)
    }

    async fn take_in(&mut self, side: Side, client: usize, events: Vec<EventDelivery>) -> Compared {
        let surplus = self.model.take_in(side, client, events);
        let acknowledged = self.backend(side, client).acknowledge(&surplus).await;
        acknowledged.map_err(|error| error.to_string())
    }

    /// Takes events until there are none: then both have handed out the same.
    pub(super) async fn take_all_events(&mut self, client: usize) -> Compared {
        for side in [Side::Reference, Side::Subject] {
            loop {
                let answer = self.perform(side, client, &Operation::Events(usize::MAX)).await?;
                let Answer::Events(events) = answer else { unreachable!("it is the same operation") };
                if events.is_empty() {
                    break;
                }
                self.take_in(side, client, events).await?;
            }
        }
        self.model.match_events();
        equal(&self.model.loose(), &Pair { reference: 0, subject: 0 }).map_err(|_| self.model.show_loose())
    }

    /// Operations without an answer: whether there was something for them to do.
    fn done(&mut self, operation: &Operation) -> bool {
        match operation {
            Operation::Finish(done) => {
                self.model.release(done.iter().map(|(held, _)| held));
                done.iter().any(|(held, _)| held.is_held)
            }
            Operation::HandBack(worker, held) => {
                let theirs = held.iter().filter(|held| held.worker == *worker);
                self.model.release(theirs);
                held.iter().any(|held| held.is_held && held.worker == *worker)
            }
            Operation::Renew(worker, held) => held.iter().any(|held| held.is_held && held.worker == *worker),
            // A worker that still holds something is not forgotten.
            Operation::Retire(worker, queues) => {
                let holds =
                    |held: &Held| held.worker == *worker && queues.contains(&held.ids.reference.queue);
                !self.model.deliveries.iter().any(|held| held.is_held && holds(held))
            }
            Operation::Acknowledge(taken) => {
                let is_new = |ids: &Pair<_>| self.model.events.iter().any(|known| known.ids == *ids);
                let any = taken.iter().any(|taken| is_new(&taken.ids));
                self.model.acknowledged(taken);
                any
            }
            other => unreachable!("{} has an answer", other.kind()),
        }
    }
}

pub(super) fn check(holds: bool, why: impl FnOnce() -> String) -> Compared {
    if holds { Ok(()) } else { Err(why()) }
}

/// `Err` with both when they differ.
pub(super) fn equal<T: PartialEq + std::fmt::Debug>(ours: &T, theirs: &T) -> Compared {
    check(ours == theirs, || {
        let (ours, theirs) = (format!("{ours:?}"), format!("{theirs:?}"));
        let same = ours.chars().zip(theirs.chars()).take_while(|(one, other)| one == other).count();
        let part = |text: &str| {
            text.chars().skip(same.saturating_sub(CONTEXT)).take(4 * CONTEXT).collect::<String>()
        };
        let lengths = (ours.len(), theirs.len());
        format!(
            "{lengths:?} characters, around the first that differs:\none:   {}\nother: {}",
            part(&ours),
            part(&theirs)
        )
    })
}
