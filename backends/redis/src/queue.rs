//! Leaves in Redis: a line for each queue, and one for its reports.
//!
//! A message and a report start with the task id and the attempt, 16 and 4 bytes: so the leaf of a message that cannot
//! be read is known all the same, and the scripts know it without reading messages.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{BackendError, Delivery, DeliveryId, Queue, Swept, WorkerId};
use celeriac_primitives::{Completion, Outcome, TaskId, TaskMessage, When};

use crate::RedisBackend;
use crate::connection::GROUP;
use crate::keys::Line;
use crate::lines::{self, Entry, print_id};
use crate::scripts::{BEGIN, FINISH, FIRE, RENEW, RETIRE, SLICE};
use crate::settle::place_of;

const HEAD: usize = 16 + 4;

/// The timers of so many queues are looked at in one step.
const QUEUES_AT_ONCE: usize = 100;

#[async_trait]
impl Queue for RedisBackend {
    async fn receive(
        &self,
        worker: &WorkerId,
        queues: &[Arc<str>],
        max: usize,
        lease: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, BackendError> {
        let lines: Arc<[Line]> = queues.iter().map(|queue| self.link().keys.queue(queue)).collect();
        let owner = owner(worker).into();
        let taken = lines::take(self.link(), "receive", &lines, owner, max, (lease, wait)).await?;
        let mut deliveries = Vec::with_capacity(taken.len());
        for entry in taken {
            let id = DeliveryId { queue: queues[entry.line].clone(), entry: entry.id };
            match rmp_serde::from_slice::<TaskMessage>(entry.value.get(HEAD..).unwrap_or_default()) {
                Ok(message) => {
                    let message = Arc::new(message);
                    deliveries.push(Delivery { id, message, deliveries: entry.deliveries });
                }
                // Not awaited: when this future is dropped here, it must not take the others with it.
                Err(error) => drop(tokio::spawn(self.clone().give_up(entry, id, error.to_string()))),
            }
        }
        Ok(deliveries)
    }

    async fn finish(&self, done: &[(DeliveryId, Completion)]) -> Result<(), BackendError> {
        let hints = self.link().keys.submissions().stream;
        for slice in done.chunks(SLICE) {
            for group in self.by_server(slice.iter().map(|(id, _)| id)) {
                self.link()
                    .run::<()>("finish", &FINISH, |script| {
                        for queue in &group.queues {
                            let line = self.link().keys.queue(queue);
                            script.key(line.stream).key(self.link().keys.reports(queue).stream);
                        }
                        script.arg(GROUP).arg(&hints);
                        for (at, place) in &group.places {
                            let (id, completion) = &slice[*at];
                            script.arg(place + 1).arg(print_id(id.entry)).arg(write_report(completion));
                        }
                    })
                    .await?;
            }
        }
        Ok(())
    }

    async fn begin(&self, delivery: &DeliveryId, leaf: &TaskMessage) -> Result<bool, BackendError> {
        let Some(When::At(expires_ms)) = leaf.options.as_ref().and_then(|options| options.expires) else {
            return Ok(true);
        };
        let [_, expiring] = self.link().keys.timers(&delivery.queue);
        let in_time: u8 = self
            .link()
            .run("begin", &BEGIN, |script| {
                script.key(expiring).arg(head(leaf.task_id, leaf.attempt)).arg(expires_ms);
            })
            .await?;
        Ok(in_time == 1)
    }

    async fn fire(&self) -> Result<Option<Duration>, BackendError> {
        let link = self.link();
        let (names, _) = self.queues().refresh(link, "fire").await?;
        let (at_once, hints) =
            (if link.is_cluster() { 1 } else { QUEUES_AT_ONCE }, link.keys.submissions().stream);
        let mut next: Option<u64> = None;
        for names in names.chunks(at_once) {
            let due: i64 = link
                .run("fire", &FIRE, |script| {
                    for name in names {
                        script.key(link.keys.queue(name).stream).key(&link.keys.timers(name)[..]);
                        script.key(link.keys.reports(name).stream);
                    }
                    script.arg(SLICE).arg(&hints).arg(encode(&Outcome::Expired));
                })
                .await?;
            next = next.into_iter().chain(u64::try_from(due)).min();
        }
        Ok(next.map(Duration::from_millis))
    }

    async fn renew(
        &self,
        worker: &WorkerId,
        deliveries: &[DeliveryId],
        lease: Duration,
    ) -> Result<(), BackendError> {
        let (owner, (queues, places)) = (owner(worker), queues_of(deliveries));
        for (place, queue) in queues.iter().enumerate() {
            let line = self.link().keys.queue(queue);
            let here = deliveries.iter().zip(&places).filter(|(_, at)| **at == place);
            let ids: Vec<String> = here.map(|(id, _)| print_id(id.entry)).collect();
            for slice in ids.chunks(SLICE) {
                self.link()
                    .run::<()>("renew", &RENEW, |script| {
                        script.key(&line.stream).arg(GROUP).arg(&owner).arg(lines::consumer(&owner, lease));
                        script.arg(slice);
                    })
                    .await?;
            }
        }
        Ok(())
    }

    async fn hand_back(&self, worker: &WorkerId, deliveries: &[DeliveryId]) -> Result<(), BackendError> {
        let (queues, places) = queues_of(deliveries);
        let lines: Vec<Line> = queues.iter().map(|queue| self.link().keys.queue(queue)).collect();
        let entries: Vec<_> = places.into_iter().zip(deliveries.iter().map(|id| id.entry)).collect();
        lines::hand_back(self.link(), "hand_back", &lines, &owner(worker), &entries).await
    }

    async fn retire(&self, worker: &WorkerId, queues: &[Arc<str>]) -> Result<(), BackendError> {
        let owner: Arc<str> = owner(worker).into();
        self.link().emptied.note(&owner, None);
        for queue in queues {
            let stream = self.link().keys.queue(queue).stream;
            self.link()
                .run::<()>("retire", &RETIRE, |script| {
                    script.key(&stream).arg(GROUP).arg(&*owner);
                })
                .await?;
        }
        Ok(())
    }

    async fn quiesce(&self) {
        self.link().takes.close();
        self.link().takes.wait().await;
        self.link().takes.reopen();
    }

    async fn sweep(&self, deliveries_max: u32) -> Result<Swept, BackendError> {
        let link = self.link();
        let (names, _) = self.queues().refresh(link, "sweep").await?;
        for line in self.queues().sources(link) {
            lines::sweep(link, &line, 0, &line.stream, &[]).await?;
        }
        // The script writes the number in place of the last four bytes.
        let mut lost = encode(&Outcome::WorkerLost { deliveries: u32::MAX });
        lost.truncate(lost.len() - size_of::<u32>());
        let mut swept = Swept { forgotten: self.forget_ended().await?, ..Swept::default() };
        for name in names {
            let (line, reports) = (link.keys.queue(&name), link.keys.reports(&name).stream);
            let (again, lost) = lines::sweep(link, &line, deliveries_max.max(1), &reports, &lost).await?;
            swept.redelivered += again;
            swept.lost += lost;
        }
        self.announce_overdue().await?;
        Ok(swept)
    }
}

/// Deliveries that one script can handle: their queues, and of each its place among all and its queue's.
struct Group<'d> {
    queues: Vec<&'d Arc<str>>,
    places: Vec<(usize, usize)>,
}

impl RedisBackend {
    /// Deliveries in groups that one script can handle: all, or on a Cluster those of one queue.
    fn by_server<'d>(&self, ids: impl IntoIterator<Item = &'d DeliveryId>) -> Vec<Group<'d>> {
        let (queues, places) = queues_of(ids);
        if !self.link().is_cluster() {
            return vec![Group { queues, places: places.into_iter().enumerate().collect() }];
        }
        let group = |(queue, name): (usize, &'d Arc<str>)| Group {
            queues: vec![name],
            places: places
                .iter()
                .enumerate()
                .filter(|(_, at)| **at == queue)
                .map(|(place, _)| (place, 0))
                .collect(),
        };
        queues.into_iter().enumerate().map(group).collect()
    }

    /// Ends a leaf whose message cannot be read. What does not even name its leaf is taken out of the queue.
    async fn give_up(self, entry: Entry, id: DeliveryId, reason: String) {
        let done = if let Some((task_id, attempt, _)) = split_head(&entry.value) {
            let completion = Completion { task_id, attempt, outcome: Outcome::Undecodable(reason) };
            self.finish(&[(id, completion)]).await
        } else {
            tracing::error!(queue = &*id.queue, reason, "an entry that is no leaf is removed from the queue");
            lines::acknowledge(self.link(), &self.link().keys.queue(&id.queue), &[id.entry]).await
        };
        if let Err(error) = done {
            tracing::warn!(%error, "a leaf that cannot be read comes again when its lease passes");
        }
    }
}

/// The queues of deliveries, each once, and the place of each delivery's queue among them.
fn queues_of<'d>(ids: impl IntoIterator<Item = &'d DeliveryId>) -> (Vec<&'d Arc<str>>, Vec<usize>) {
    let mut names = Vec::new();
    let places = ids.into_iter().map(|id| place_of(&mut names, &id.queue)).collect();
    (names, places)
}

/// A worker as an owner of entries.
fn owner(worker: &WorkerId) -> String {
    format!("w:{worker}")
}

/// A message as an entry of a queue.
pub(crate) fn write_message(message: &TaskMessage) -> Vec<u8> {
    let mut bytes = head(message.task_id, message.attempt);
    rmp_serde::encode::write(&mut bytes, message).expect("a message has a MessagePack form");
    bytes
}

/// A completion as an entry of a line of reports.
fn write_report(completion: &Completion) -> Vec<u8> {
    let mut bytes = head(completion.task_id, completion.attempt);
    rmp_serde::encode::write(&mut bytes, &completion.outcome).expect("an outcome has a MessagePack form");
    bytes
}

pub(crate) fn read_report(bytes: &[u8]) -> Option<Completion> {
    let (task_id, attempt, outcome) = split_head(bytes)?;
    Some(Completion { task_id, attempt, outcome: rmp_serde::from_slice(outcome).ok()? })
}

fn head(task_id: TaskId, attempt: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(task_id.uuid().as_bytes());
    bytes.extend_from_slice(&attempt.to_be_bytes());
    bytes
}

fn split_head(bytes: &[u8]) -> Option<(TaskId, u32, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let task_id = TaskId::from_uuid(uuid::Uuid::from_slice(&head[..16]).ok()?).ok()?;
    Some((task_id, u32::from_be_bytes(head[16..].try_into().ok()?), rest))
}

/// An outcome as bytes.
pub(crate) fn encode(outcome: &Outcome) -> Vec<u8> {
    rmp_serde::to_vec(outcome).expect("an outcome has a MessagePack form")
}
