//! What a leaf needs before it runs: a task that is known, and leave to begin. (Its input: see
//! [`super::large`].)

use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{BackendError, Begin, Delivery, DeliveryId, Progress};
use celeriac_primitives::{Json, Outcome, TaskMessage};

use super::lane::Workshop;
use crate::patience::endure;

/// A leaf of an unknown task is offered again this often.
const UNKNOWN_EVERY: Duration = Duration::from_secs(1);

/// Lets a leaf whose task nobody here knows wait for another worker; how it ends when it has waited for long.
pub(super) async fn let_wait(shop: &Workshop, id: &DeliveryId, message: &TaskMessage) -> Option<Outcome> {
    let Workshop { backend, worker, unknown_wait, stopping, .. } = shop;
    if unknown_wait.is_zero() {
        return Some(Outcome::UnknownTask);
    }
    let (run, node) = (message.task_id.run(), message.task_id.node());
    let postponed = async {
        let now_ms = endure!(*stopping, backend.now())?;
        let since_ms = message.unknown_since_ms.unwrap_or(now_ms);
        let waited = Duration::from_millis(now_ms.saturating_sub(since_ms));
        if waited >= *unknown_wait {
            return Ok(false);
        }
        if message.unknown_since_ms.is_none() {
            tracing::warn!(%run, %node, task = %message.task, "no such task here; the leaf waits for a worker that has it");
        }
        let leaf = TaskMessage { unknown_since_ms: Some(since_ms), ..message.clone() };
        let (leaf, after) = (Arc::new(leaf), UNKNOWN_EVERY.min(*unknown_wait - waited));
        endure!(*stopping, backend.postpone(worker, id, leaf.clone(), after))?;
        let meta = Json::object([("task", &Json::string(message.task.as_str()))]);
        let TaskMessage { task_id, attempt, incarnation, .. } = *message;
        let report = Progress { task_id, attempt, state: "UNKNOWN".to_owned(), meta, incarnation };
        // For those who look; nothing depends on it.
        let _ = backend.note_progress(&[report]).await;
        Ok::<bool, BackendError>(true)
    };
    match postponed.await {
        Ok(true) => {
            shop.bench.ask_anew();
            None
        }
        Ok(false) => Some(Outcome::UnknownTask),
        Err(error) => {
            tracing::error!(%run, %node, %error, "a leaf of an unknown task cannot be given back");
            None
        }
    }
}

/// Whether a leaf may begin; else how it ends, if that is known.
pub(super) async fn may_begin(
    shop: &Workshop,
    delivery: &Delivery,
    is_once: bool,
) -> Result<(), Option<Outcome>> {
    match endure!(shop.stopping, shop.backend.begin(&shop.worker, delivery, is_once)) {
        Ok(Begin::Run) => Ok(()),
        Ok(Begin::Expired) => Err(Some(Outcome::Expired)),
        // At most once: whoever had it before has begun it.
        Ok(Begin::Begun) => Err(Some(Outcome::WorkerLost { deliveries: (delivery.deliveries - 1).max(1) })),
        // It is another's by now.
        Ok(_) => Err(None),
        Err(error) => {
            let run = delivery.message.task_id.run();
            tracing::error!(%run, %error, "whether a leaf may begin cannot be known");
            Err(None)
        }
    }
}
