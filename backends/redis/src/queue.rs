//! Leaves in Redis: a line per queue.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{BackendError, Delivery, DeliveryId, Queue, Swept, WorkerId};
use celeriac_primitives::{Completion, Outcome};

use crate::RedisBackend;
use crate::connection::{GROUP, line_keys};
use crate::error::refused;
use crate::keys::Line;
use crate::lines::{self, Entry, print_id};
use crate::scripts::{FINISH, RENEW, SLICE};

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
        let consumer = consumer(worker).into();
        let taken = lines::take(self.link(), "receive", &lines, consumer, max, (lease, wait)).await?;
        let mut deliveries = Vec::with_capacity(taken.len());
        for entry in taken {
            let id = DeliveryId { queue: queues[entry.line].clone(), entry: entry.id };
            match rmp_serde::from_slice(entry.field("m")) {
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

    async fn finish(&self, done: Vec<(DeliveryId, Completion)>) -> Result<(), BackendError> {
        let events = self.link().keys.events();
        for slice in done.chunks(SLICE) {
            let (lines, places) = self.lines_of(slice.iter().map(|(id, _)| id));
            self.link()
                .run::<()>("finish", &FINISH, |script| {
                    script.key(&events.stream);
                    line_keys(script, &lines);
                    script.arg(GROUP);
                    for ((id, completion), place) in slice.iter().zip(places) {
                        let Completion { task_id, attempt, outcome } = completion;
                        script.arg(place + 1).arg(print_id(id.entry));
                        script.arg(task_id.to_string()).arg(*attempt).arg(encode(outcome));
                    }
                })
                .await?;
        }
        Ok(())
    }

    async fn renew(
        &self,
        worker: &WorkerId,
        deliveries: &[DeliveryId],
        lease: Duration,
    ) -> Result<(), BackendError> {
        let lease_ms = lines::lease_ms(lease);
        for slice in deliveries.chunks(SLICE) {
            let (lines, places) = self.lines_of(slice);
            self.link()
                .run::<()>("renew", &RENEW, |script| {
                    line_keys(script, &lines);
                    script.arg(GROUP).arg(consumer(worker)).arg(lease_ms);
                    for (id, place) in slice.iter().zip(places) {
                        script.arg(place + 1).arg(print_id(id.entry));
                    }
                })
                .await?;
        }
        Ok(())
    }

    async fn hand_back(&self, worker: &WorkerId, deliveries: &[DeliveryId]) -> Result<(), BackendError> {
        let (lines, places) = self.lines_of(deliveries);
        let entries: Vec<_> = places.into_iter().zip(deliveries.iter().map(|id| id.entry)).collect();
        lines::hand_back(self.link(), "hand_back", &lines, &consumer(worker), &entries).await
    }

    async fn sweep(&self, deliveries_max: u32) -> Result<Swept, BackendError> {
        lines::sweep(self.link(), &self.link().keys.events(), 0, &[]).await?;
        let names: Vec<String> = redis::cmd("SMEMBERS")
            .arg(self.link().keys.queues())
            .query_async(&mut self.link().connection())
            .await
            .map_err(refused("sweep"))?;
        // The script writes the number in place of the last four bytes.
        let mut lost = encode(&Outcome::WorkerLost { deliveries: u32::MAX });
        lost.truncate(lost.len() - size_of::<u32>());
        let mut swept = Swept::default();
        for name in names {
            let line = self.link().keys.queue(&name);
            let (again, lost) = lines::sweep(self.link(), &line, deliveries_max.max(1), &lost).await?;
            swept.redelivered += again;
            swept.lost += lost;
        }
        Ok(swept)
    }
}

impl RedisBackend {
    /// The lines of these deliveries, each once, and the place of each delivery's line among them.
    fn lines_of<'d>(&self, ids: impl IntoIterator<Item = &'d DeliveryId>) -> (Vec<Line>, Vec<usize>) {
        let (mut names, mut places) = (Vec::<&str>::new(), Vec::new());
        for id in ids {
            let known = names.iter().position(|name| **name == *id.queue);
            places.push(known.unwrap_or_else(|| {
                names.push(&id.queue);
                names.len() - 1
            }));
        }
        (names.into_iter().map(|name| self.link().keys.queue(name)).collect(), places)
    }

    /// Ends a leaf whose message cannot be read. What does not even name its leaf is taken out of the queue.
    async fn give_up(self, entry: Entry, id: DeliveryId, reason: String) {
        let named = (entry.text("t").parse(), entry.text("a").parse());
        let done = if let (Ok(task_id), Ok(attempt)) = named {
            let completion = Completion { task_id, attempt, outcome: Outcome::Undecodable(reason) };
            self.finish(vec![(id, completion)]).await
        } else {
            tracing::error!(queue = &*id.queue, reason, "an entry that is no leaf is removed from the queue");
            lines::acknowledge(self.link(), &self.link().keys.queue(&id.queue), &[id.entry]).await
        };
        if let Err(error) = done {
            tracing::warn!(%error, "a leaf that cannot be read comes again when its lease passes");
        }
    }
}

/// A worker as a consumer of its queues; none is named `-`, which holds what nobody does.
fn consumer(worker: &WorkerId) -> String {
    format!("w:{worker}")
}

/// An outcome as bytes.
pub(crate) fn encode(outcome: &Outcome) -> Vec<u8> {
    rmp_serde::to_vec(outcome).expect("an outcome has a MessagePack form")
}
