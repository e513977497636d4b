//! Leaves in Redis: a line for each queue, and one for its reports.
//!
//! A message and a report start with the task id, the attempt and the run's incarnation, 16, 4 and 8 bytes:
//! so the leaf of a message that cannot be read is known all the same, and the scripts know it without
//! reading messages.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{
    BackendError, Begin, Delivery, DeliveryId, ErrorKind, Lane, LaneOrder, Queue, Swept, Take, WorkerId,
};
use celeriac_primitives::{Completion, Incarnation, Outcome, TaskId, TaskMessage, When};

use crate::RedisBackend;
use crate::connection::GROUP;
use crate::early;
use crate::envelope::{self, Unreadable};
use crate::error::{First, corrupt};
use crate::hints::{POLL, POLL_LIVE, POLL_LIVE_CLUSTER, Wait};
use crate::invocation::Invocation;
use crate::keys::Line;
use crate::lines::{self, Entry, Suspects, print_id};
use crate::queues::Named;
use crate::scripts::{BEGIN, FINISH, ONCE, POSTPONE, RETIRE, slices};
use crate::settle::place_of;
use crate::sweep;

/// The scripts know it as `HEAD` (`scripts/head.lua`).
pub(crate) const HEAD: usize = 16 + 4 + 8;

#[async_trait]
impl Queue for RedisBackend {
    async fn receive(
        &self,
        worker: &WorkerId,
        queues: &[Arc<str>],
        Take { max, lease, wait, order, suspects, .. }: Take,
    ) -> Result<Vec<Delivery>, BackendError> {
        let suspects = if suspects { Suspects::One } else { Suspects::None };
        let (link, owner) = (self.link(), Arc::<str>::from(owner(worker)));
        if self.queues().is_time_to_look() && self.queues().look(link, "receive", queues).await? {
            link.emptied.forget(&owner);
        }
        let channels: Vec<String> =
            queues.iter().map(|queue| link.keys.queue(queue, Lane::default()).channel).collect();
        let (asked, sleeper) = (wait, if wait.is_zero() { None } else { self.sleeper(&owner) });
        let own = sleeper.as_ref().map(|sleeper| sleeper.channel());
        let listened = || channels.iter().map(String::as_str).chain(own);
        let count = || link.hints.count(listened());
        let wait = Wait::new(listened().map(|channel| link.hints.keep(channel)).collect(), wait);
        let (places, taken) = loop {
            let hint = wait.hint();
            if link.hints.take_lanes() {
                self.queues().has_new_lane();
            }
            // What was hinted at and gave something may have been a part of it.
            if self.queues().is_time_to_look_again() && self.queues().look(link, "receive", queues).await? {
                link.emptied.forget(&owner);
            }
            let poll = match count() {
                None => POLL,
                Some(_) if link.is_cluster() => POLL_LIVE_CLUSTER,
                Some(_) => POLL_LIVE,
            };
            let is_still_empty = link.emptied.is_still_empty(&owner, count(), suspects);
            if !is_still_empty || link.emptied.age(&owner) >= poll || asked.is_zero() {
                let (before, waits) = (count(), !wait.is_over());
                let noting = Arc::new(self.begin_take(sleeper.as_ref(), &channels, waits));
                let places = self.queues().lanes(queues, order);
                let lines = places.iter().map(|(queue, lane)| link.keys.queue(queue, *lane)).collect();
                let what = (max, suspects);
                let taken =
                    lines::take_now(link, "receive", &lines, owner.clone(), what, lease, &noting).await?;
                let more = taken.more;
                self.end_take(sleeper.as_ref(), &noting, taken.noted, !more);
                // Who has a suspect now has not looked for others.
                let has_one = taken.entries.iter().any(|entry| entry.is_suspect(suspects));
                let looked = if has_one { Suspects::None } else { suspects };
                link.emptied.note(&owner, before.filter(|_| !more), looked);
                if !taken.entries.is_empty() || max == 0 {
                    if !is_still_empty && !more {
                        self.queues().has_not_looked();
                    }
                    break (places, taken.keep());
                }
                // Nothing here; perhaps in a lane that somebody has begun to use. Who does so hints at it.
                let is_hinted = !is_still_empty || asked.is_zero() || link.is_cluster();
                if is_hinted && self.queues().look(link, "receive", queues).await? {
                    link.emptied.forget(&owner);
                    continue;
                }
            }
            if wait.is_over() {
                break (Vec::new(), Vec::new());
            }
            let poll = poll.saturating_sub(link.emptied.age(&owner));
            wait.next(hint, self.queues().looks_again().map_or(poll, |look| look.min(poll))).await;
        };
        // Who takes uses it, too: a sweep has to look at what is held. Not awaited: what is taken must not
        // get lost.
        let used: Vec<_> = taken.iter().map(|entry| places[entry.line].clone()).collect();
        if self.queues().is_old(&used) {
            let backend = self.clone();
            tokio::spawn(async move {
                let used = used.iter().map(|(queue, lane)| (queue, *lane));
                if let Err(error) = backend.queues().note(backend.link(), "receive", used, false).await {
                    tracing::debug!(%error, "a queue in use is noted later");
                }
            });
        }
        let mut deliveries = Vec::with_capacity(taken.len());
        for entry in taken {
            let (queue, lane) = places[entry.line].clone();
            let id = DeliveryId { queue, lane, entry: entry.id };
            if entry.field != b"m" {
                let line = link.keys.queue(&id.queue, lane);
                if envelope::is_later(&entry.value) {
                    self.leave_to_later(line, owner.clone(), entry.id, lease);
                    continue;
                }
                self.set_aside_beside(
                    line,
                    entry.id,
                    entry.deliveries,
                    "it is no leaf: its field is not m".to_owned(),
                );
                continue;
            }
            match envelope::read(entry.value.get(HEAD..).unwrap_or_default(), self.0.message_bytes_max) {
                Ok(message) => {
                    let message = Arc::new(message);
                    deliveries.push(Delivery { id, message, deliveries: entry.deliveries });
                }
                Err(Unreadable::Later) => {
                    self.leave_to_later(link.keys.queue(&id.queue, lane), owner.clone(), entry.id, lease);
                }
                // Not awaited: when this future is dropped here, it must not take the others with it.
                Err(Unreadable::Broken(reason)) => {
                    drop(tokio::spawn(self.clone().give_up(entry, id, reason)))
                }
            }
        }
        Ok(deliveries)
    }

    async fn finish(&self, done: &[(DeliveryId, Completion)]) -> Result<(), BackendError> {
        let hints = self.link().keys.submission_stream();
        let mut first = First::default();
        for slice in slices(done, |(_, completion)| completion.outcome.weight()) {
            for group in self.by_server(slice.iter().map(|(id, _)| id)) {
                let mut by_place = vec![Vec::new(); group.places.len()];
                group.deliveries.iter().for_each(|(at, place)| by_place[*place].push(*at));
                let finished = self
                    .link()
                    .run::<()>("finish", &FINISH, |script| {
                        for (queue, lane) in &group.places {
                            let keys = &self.link().keys;
                            script.key(keys.stream(queue, *lane)).key(keys.report_stream(queue, *lane));
                        }
                        if !self.link().is_cluster() {
                            script.key(self.link().keys.report_index());
                        }
                        let report = |at: &usize| (print_id(slice[*at].0.entry), write_report(&slice[*at].1));
                        let reports: Vec<_> = by_place.iter().flatten().map(report).collect();
                        let is_success = |at: usize| matches!(slice[at].1.outcome, Outcome::Success(_));
                        let goes_along = match (&group.deliveries[..], &reports[..]) {
                            ([(at, _)], [(_, report)]) => is_success(*at) && report.len() <= early::BYTES_MAX,
                            _ => false,
                        };
                        let database = if goes_along { self.link().database.as_str() } else { "" };
                        script.arg(GROUP).arg(&hints).arg(database);
                        for same in &by_place {
                            script.arg(same.len());
                        }
                        for (id, report) in reports {
                            script.arg(id).arg(report);
                        }
                    })
                    .await;
                // A shard that is away holds up none of the others.
                first.of(finished);
            }
        }
        first.into_result()
    }

    async fn begin(&self, worker: &WorkerId, delivery: &Delivery, once: bool) -> Result<Begin, BackendError> {
        if !once && !delivery.must_ask() {
            return Ok(Begin::Run);
        }
        let mut begin = self.begin_here(worker, delivery, once).await?;
        if once && begin == Answer::Run && self.link().is_cluster() {
            begin = self.mark(worker, delivery).await?;
        }
        match begin {
            Answer::Expired => Ok(Begin::Expired),
            Answer::Run => Ok(Begin::Run),
            Answer::NotOurs => Ok(Begin::Gone),
            // Or it has begun there since it is not ours any more.
            Answer::Begun if self.begin_here(worker, delivery, false).await? == Answer::NotOurs => {
                Ok(Begin::Gone)
            }
            Answer::Begun => Ok(Begin::Begun),
            // Who holds the other entry answers for the leaf.
            Answer::Other => {
                let id = &delivery.id;
                let line = self.link().keys.queue(&id.queue, id.lane);
                lines::acknowledge(self.link(), &line, &[id.entry]).await?;
                Ok(Begin::Gone)
            }
        }
    }

    async fn fire(&self) -> Result<Option<Duration>, BackendError> {
        self.fire_due().await
    }

    async fn postpone(
        &self,
        worker: &WorkerId,
        delivery: &DeliveryId,
        leaf: Arc<TaskMessage>,
        after: Duration,
    ) -> Result<(), BackendError> {
        let keys = &self.link().keys;
        let [delayed, _] = keys.timers(&delivery.queue, delivery.lane);
        self.link()
            .run("postpone", &POSTPONE, |script| {
                script.key(keys.stream(&delivery.queue, delivery.lane)).key(delayed);
                script.key(keys.gone(&delivery.queue));
                if !self.link().is_cluster() {
                    script.key(keys.timer_index());
                }
                script.arg(GROUP).arg(owner(worker)).arg(print_id(delivery.entry));
                script.arg(write_message(&leaf)).arg(after.as_millis() as u64).arg(keys.submission_stream());
            })
            .await
    }

    async fn renew(
        &self,
        worker: &WorkerId,
        deliveries: &[DeliveryId],
        lease: Duration,
    ) -> Result<(), BackendError> {
        let (owner, (all, places)) = (owner(worker), places_of(deliveries));
        let renewals = all.iter().enumerate().map(|(place, (queue, lane))| {
            let line = self.link().keys.queue(queue, *lane);
            let here = deliveries.iter().zip(&places).filter(|(_, at)| **at == place);
            let ids: Vec<_> = here.map(|(id, _)| id.entry).collect();
            let owner = &owner;
            async move { lines::renew(self.link(), "renew", &line, owner, &ids, lease).await }
        });
        if !self.link().is_cluster() {
            return futures::future::try_join_all(renewals).await.map(drop);
        }
        // A shard that does not answer must not cost the leases of the others.
        let renewals = renewals.map(|renewal| tokio::time::timeout(lease / 3, renewal));
        let late = || BackendError::new(ErrorKind::Unavailable, "renew").context("a shard does not answer");
        let answers = futures::future::join_all(renewals).await;
        answers.into_iter().try_for_each(|answer| answer.unwrap_or_else(|_| Err(late())))
    }

    async fn hand_back(&self, worker: &WorkerId, deliveries: &[DeliveryId]) -> Result<(), BackendError> {
        let (all, places) = places_of(deliveries);
        let lines: Vec<Line> = all.iter().map(|(queue, lane)| self.link().keys.queue(queue, *lane)).collect();
        let entries: Vec<_> = places.into_iter().zip(deliveries.iter().map(|id| id.entry)).collect();
        lines::hand_back(self.link(), "hand_back", &lines, &owner(worker), &entries).await
    }

    async fn retire(&self, worker: &WorkerId, queues: &[Arc<str>]) -> Result<(), BackendError> {
        let owner: Arc<str> = owner(worker).into();
        self.link().emptied.forget(&owner);
        self.wake_no_more(&owner).await?;
        let mut first = First::default();
        for (queue, lane) in self.queues().lanes(queues, LaneOrder::FirstFirst) {
            let stream = self.link().keys.stream(&queue, lane);
            let retired = self.link().run::<()>("retire", &RETIRE, |script| {
                script.key(&stream).arg(GROUP).arg(&*owner);
            });
            first.of(retired.await);
        }
        first.into_result()
    }

    async fn quiesce(&self) {
        self.link().takes.wait().await;
    }

    async fn sweep(&self, deliveries_max: u32) -> Result<Swept, BackendError> {
        let link = self.link();
        self.plans().pass_over();
        // Said once by whoever sweeps, also when nobody submits.
        link.room.look(link).await;
        // What cannot be done holds up nothing else.
        let mut first = First::default();
        let all = match self.queues().all(link, "sweep").await {
            Ok(all) => {
                if link.is_cluster() {
                    *self.0.named.lock().unwrap_or_else(PoisonError::into_inner) = all.clone();
                }
                all
            }
            // The shard of the lists is away: the queues are those that were there before.
            Err(error) if link.is_cluster() && error.may_retry() => {
                first.of::<()>(Err(error));
                self.0.named.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
            Err(error) => return Err(error),
        };
        let chosen = self.quiet().choose(&all, self.queues().kept_for());
        // The script writes the number in place of the last four bytes.
        let mut lost = encode(&Outcome::WorkerLost { deliveries: u32::MAX });
        lost.truncate(lost.len() - size_of::<u32>());
        let mut swept = Swept { forgotten: first.of(self.forget_ended().await), ..Swept::default() };
        let tidy = self.0.tidied.now(4 * self.queues().kept_for());
        let reports = chosen.iter().flat_map(Named::reports).map(|reports| link.keys.reports(&reports));
        let events = std::iter::once(link.keys.submissions()).chain(reports);
        let events: Vec<_> = events
            .map(|line| sweep::Swept { reports: line.stream.clone(), line, deliveries_max: 0 })
            .collect();
        let (_, events_failed) = sweep::sweep(link, &events, &lost, tidy).await;
        let lane = |(queue, lane): (Arc<str>, Lane)| sweep::Swept {
            line: link.keys.queue(&queue, lane),
            reports: link.keys.report_stream(&queue, lane),
            deliveries_max: deliveries_max.max(1),
        };
        let lanes: Vec<_> = chosen.iter().flat_map(Named::places).map(lane).collect();
        let (counts, lanes_failed) = sweep::sweep(link, &lanes, &lost, tidy).await;
        (swept.redelivered, swept.lost) = counts;
        first.of(events_failed.or(lanes_failed).map_or(Ok(()), Err));
        // What nobody has told of.
        self.reports().hear(chosen.iter().flat_map(Named::reports));
        let lanes: Vec<_> = chosen.iter().flat_map(Named::places).collect();
        if link.is_cluster() {
            self.timers().look_at(lanes);
        } else {
            first.of(self.fire_lanes(&lanes).await);
        }
        first.of(self.drop_unused(&chosen).await);
        first.of(self.lift().await);
        first.of(self.announce_overdue().await);
        first.of(self.queues().note_owed(link, "sweep").await);
        first.of(self.find_unlisted(&all).await);
        first.into_result().map(|()| swept)
    }
}

/// What the scripts say of a leaf that is to begin, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Expired,
    Run,
    /// It is not this worker's.
    NotOurs,
    /// This entry has begun with another worker.
    Begun,
    /// Another entry has begun, or another attempt; or there is no such run.
    Other,
}

impl Answer {
    fn read(answer: usize) -> Result<Self, BackendError> {
        let all = [Self::Expired, Self::Run, Self::NotOurs, Self::Begun, Self::Other];
        all.get(answer).copied().ok_or_else(|| corrupt("begin", format!("answer {answer}")))
    }
}

/// The field of the mark, attempt, incarnation, entry and worker.
fn mark_args(script: &mut Invocation, worker: &WorkerId, delivery: &Delivery) {
    let (leaf, id) = (&delivery.message, &delivery.id);
    script.arg(format!("b{}", leaf.task_id.node())).arg(&leaf.attempt.to_be_bytes()[..]);
    script.arg(&crate::keys::write_incarnation(leaf.incarnation)[..]);
    script.arg(format!("{}/{}/{}", id.queue, id.lane.place(), print_id(id.entry))).arg(worker.to_string());
}

/// Deliveries that one script can handle: their lanes, and of each its place among all and its lane's.
struct Group<'d> {
    places: Vec<(&'d Arc<str>, Lane)>,
    deliveries: Vec<(usize, usize)>,
}

impl RedisBackend {
    /// Notes in its queue that a leaf begins; and at its run, where that is on the same server.
    async fn begin_here(
        &self,
        worker: &WorkerId,
        delivery: &Delivery,
        once: bool,
    ) -> Result<Answer, BackendError> {
        let (leaf, id, keys) = (&delivery.message, &delivery.id, &self.link().keys);
        let expires = leaf.options.as_ref().and_then(|options| options.expires);
        let expires_ms = if let Some(When::At(expires_ms)) = expires { expires_ms } else { 0 };
        let [_, expiring] = keys.timers(&id.queue, id.lane);
        let marks = once && !self.link().is_cluster();
        let answer: usize = self
            .link()
            .run("begin", &BEGIN, |script| {
                script.key(keys.stream(&id.queue, id.lane)).key(expiring);
                script.arg(GROUP).arg(owner(worker)).arg(print_id(id.entry));
                script.arg(head(leaf.task_id, leaf.attempt, leaf.incarnation)).arg(expires_ms);
                if marks {
                    script.key(keys.run(leaf.task_id.run()).hash());
                    mark_args(script, worker, delivery);
                }
            })
            .await?;
        Answer::read(answer)
    }

    /// Notes at its run that a leaf begins which runs once at most.
    async fn mark(&self, worker: &WorkerId, delivery: &Delivery) -> Result<Answer, BackendError> {
        let run = self.link().keys.run(delivery.message.task_id.run());
        let answer: usize = self
            .link()
            .run("begin", &ONCE, |script| {
                script.key(run.hash());
                mark_args(script, worker, delivery);
            })
            .await?;
        Answer::read(answer)
    }

    /// Deliveries in groups that one script can handle: all, or on a Cluster those of one lane.
    fn by_server<'d>(&self, ids: impl IntoIterator<Item = &'d DeliveryId>) -> Vec<Group<'d>> {
        let (places, at) = places_of(ids);
        if !self.link().is_cluster() {
            return vec![Group { places, deliveries: at.into_iter().enumerate().collect() }];
        }
        let group = |(number, place): (usize, (&'d Arc<str>, Lane))| Group {
            places: vec![place],
            deliveries: at.iter().enumerate().filter(|(_, at)| **at == number).map(|(i, _)| (i, 0)).collect(),
        };
        places.into_iter().enumerate().map(group).collect()
    }

    /// Ends a leaf whose message cannot be read. What does not even name its leaf is set aside.
    async fn give_up(self, entry: Entry, id: DeliveryId, reason: String) {
        let done = if let Some((task_id, attempt, incarnation, _)) = split_head(&entry.value) {
            let outcome = Outcome::Undecodable(reason);
            let completion = Completion { task_id, attempt, outcome, incarnation };
            self.finish(&[(id, completion)]).await
        } else {
            let line = self.link().keys.queue(&id.queue, id.lane);
            self.set_entry_aside(&line, id.entry, entry.deliveries, "it is no leaf: it names none").await
        };
        if let Err(error) = done {
            tracing::warn!(%error, "a leaf that cannot be read comes again when its lease passes");
        }
    }
}

/// The lanes of deliveries, each once, and the place of each delivery's lane among them.
fn places_of<'d>(ids: impl IntoIterator<Item = &'d DeliveryId>) -> (Vec<(&'d Arc<str>, Lane)>, Vec<usize>) {
    let mut all = Vec::new();
    let places = ids.into_iter().map(|id| place_of(&mut all, (&id.queue, id.lane))).collect();
    (all, places)
}

/// A worker as an owner of entries.
fn owner(worker: &WorkerId) -> String {
    format!("w:{worker}")
}

/// A message as an entry of a queue.
pub(crate) fn write_message(message: &TaskMessage) -> Vec<u8> {
    let mut bytes = head(message.task_id, message.attempt, message.incarnation);
    envelope::write(&mut bytes, message);
    bytes
}

/// A completion as an entry of a line of reports.
pub(crate) fn write_report(completion: &Completion) -> Vec<u8> {
    let mut bytes = head(completion.task_id, completion.attempt, completion.incarnation);
    rmp_serde::encode::write(&mut bytes, &completion.outcome).expect("an outcome has a MessagePack form");
    bytes
}

/// Reads a report. One that names its leaf ends it, whatever else is wrong with it.
pub(crate) fn read_report(bytes: &[u8]) -> Result<Completion, Unreadable> {
    let Some((task_id, attempt, incarnation, outcome)) = split_head(bytes) else {
        return Err(Unreadable::Broken("it is no report: it names no leaf".to_owned()));
    };
    let outcome = match envelope::read_outcome(outcome) {
        Err(Unreadable::Broken(why)) => {
            Outcome::Undecodable(format!("the report on it cannot be read: {why}"))
        }
        outcome => outcome?,
    };
    Ok(Completion { task_id, attempt, outcome, incarnation })
}

pub(crate) fn head(task_id: TaskId, attempt: u32, incarnation: Incarnation) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(task_id.uuid().as_bytes());
    bytes.extend_from_slice(&attempt.to_be_bytes());
    bytes.extend_from_slice(&incarnation.number().to_be_bytes());
    bytes
}

fn split_head(bytes: &[u8]) -> Option<(TaskId, u32, Incarnation, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let task_id = TaskId::from_uuid(uuid::Uuid::from_slice(&head[..16]).ok()?).ok()?;
    let incarnation = Incarnation::new(u64::from_be_bytes(head[20..].try_into().ok()?));
    Some((task_id, u32::from_be_bytes(head[16..20].try_into().ok()?), incarnation, rest))
}

/// An outcome as bytes.
pub(crate) fn encode(outcome: &Outcome) -> Vec<u8> {
    rmp_serde::to_vec(outcome).expect("an outcome has a MessagePack form")
}
