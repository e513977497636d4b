//! Who works beside the lanes: the reporter, the renewer, and the keeper of the reserve.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{Backend, BackendError, Delivery, DeliveryId, ErrorKind, WorkerId};
use celeriac_primitives::{Completion, Outcome, TaskError, TaskMessage};

use super::bench::Report;
use super::lane::Workshop;
use super::pace::RESERVE;
use crate::patience::{endure, pause};

/// How long giving leaves back may take while the worker works.
const BACKEND_GRACE: Duration = Duration::from_secs(5);

/// What was not renewed is tried again this often: who looks for leases that have passed waits for it when
/// the backend was away.
const RENEW_AGAIN: Duration = Duration::from_millis(250);

/// Reports in batches: whatever is at hand goes in one step. Ends when all is reported and nothing will come
/// any more.
pub(super) async fn report(shop: &Workshop) {
    while let Some(batch) = shop.bench.batch().await {
        report_batch(shop, &batch).await;
    }
}

/// Does what waits for a thread that a leaf keeps: begins what its lanes would have begun, and reports what
/// the reporter was called for that was to come on it.
pub(super) async fn stand_in(shop: &Arc<Workshop>) {
    loop {
        shop.bench.kept().await;
        shop.start(shop.bench.all_seats());
        while let Some(batch) = shop.bench.late_batch() {
            report_batch(shop, &batch).await;
        }
    }
}

async fn report_batch(shop: &Workshop, batch: &Arc<Vec<Report>>) {
    // Where something is refused already, the others would be reported twice.
    let is_done = !shop.refusals.is_there("reports") && shop.backend.finish(batch).await.is_ok();
    // What cannot be reported does not take the others with it. That is rare: nobody carries it along.
    let refused = if is_done { Vec::new() } else { Box::pin(report_by_queue(shop, batch)).await };
    shop.bench.reported(batch, refused);
}

/// Reports those of one queue after those of the other; returns what the backend does not take now. That is
/// nothing of the leaves' own: they have run, and are reported as soon as it is mended.
async fn report_by_queue(shop: &Workshop, batch: &[Report]) -> Vec<Report> {
    let mut queues: BTreeMap<_, Vec<Report>> = BTreeMap::new();
    for report in batch {
        queues.entry((report.0.queue.clone(), report.0.lane)).or_default().push(report.clone());
    }
    let mut refused = Vec::new();
    for reports in queues.into_values() {
        match shop.backend.finish(&reports).await {
            Ok(()) => {}
            Err(error) if passes(&error) => {
                shop.refusals.note("reports", &error);
                refused.extend(reports);
            }
            Err(_) => report_each(shop, reports, &mut refused).await,
        }
    }
    if refused.is_empty() {
        shop.refusals.are_over("reports");
    }
    refused
}

/// Reports one after the other. A leaf whose report the backend will never take fails instead.
async fn report_each(shop: &Workshop, reports: Vec<Report>, refused: &mut Vec<Report>) {
    for report in reports {
        let (id, completion) = &report;
        let Err(error) = shop.backend.finish(std::slice::from_ref(&report)).await else { continue };
        if passes(&error) {
            shop.refusals.note("reports", &error);
            refused.push(report);
            continue;
        }
        tracing::error!(run = %completion.run(), %error, source = ?error.source, "a report is refused; its leaf fails");
        let text = format!("how it ended cannot be reported: {error}");
        let outcome = Outcome::Failed(TaskError::new("BackendError", text));
        let instead = (id.clone(), Completion { outcome, ..completion.clone() });
        match shop.backend.finish(std::slice::from_ref(&instead)).await {
            Ok(()) => {}
            Err(error) if passes(&error) => refused.push(instead),
            // It comes again when its lease has passed.
            Err(error) => pause(&error).await,
        }
    }
}

/// Whether a report that is refused may be taken later: what is wrong is a permission, or the place where
/// reports go, which may only be away.
fn passes(error: &BackendError) -> bool {
    error.may_retry() || matches!(error.kind, ErrorKind::Denied | ErrorKind::Corrupt)
}

/// Renews the leases of what is held.
pub(super) async fn renew(shop: &Workshop, lease: Duration) {
    let mut beat = tokio::time::interval((lease / 3).max(Duration::from_millis(1)));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        loop {
            let held = shop.bench.held();
            // Who holds nothing any more is refused nothing: the next leaf will show.
            if held.is_empty() {
                break;
            }
            let Err(error) = shop.backend.renew(&shop.worker, &held, lease).await else { break };
            tracing::warn!(%error, leaves = held.len(), "could not renew leases");
            if error.kind == ErrorKind::Denied {
                shop.refusals.note("leases", &error);
            }
            tokio::time::sleep(RENEW_AGAIN).await;
        }
        shop.refusals.are_over("leases");
    }
}

/// Gives back what waits in reserve although no lane is about to begin it, so that the free lane of another
/// worker gets it; and what waits for a thread although none comes back.
pub(super) async fn keep(shop: &Workshop) {
    loop {
        shop.bench.reserved().await;
        let mut begun = shop.bench.begun();
        loop {
            tokio::time::sleep(RESERVE).await;
            let Some(overdue) = shop.bench.take_overdue(begun) else { break };
            begun = shop.bench.begun();
            if !overdue.is_empty() {
                tracing::debug!(leaves = overdue.len(), "no lane is free for them; given back");
                give_back(&*shop.backend, &shop.worker, &overdue, BACKEND_GRACE).await;
            }
            while let Some((Delivery { id, message, .. }, after)) = shop.bench.take_threadless() {
                give_away(shop, &id, message, after).await;
            }
        }
    }
}

/// Gives leaves back that have not begun, or are cut off. Should this fail, their leases do it.
pub(super) async fn give_back(
    backend: &dyn Backend,
    worker: &WorkerId,
    deliveries: &[DeliveryId],
    grace: Duration,
) {
    if deliveries.is_empty() {
        return;
    }
    let given_back = tokio::time::timeout(grace, backend.hand_back(worker, deliveries)).await;
    if !matches!(given_back, Ok(Ok(()))) {
        tracing::warn!(leaves = deliveries.len(), "could not give leaves back; their leases will");
    }
}

/// Gives a blocking leaf for which there is no thread to others, for a while.
pub(super) async fn give_away(shop: &Workshop, id: &DeliveryId, message: Arc<TaskMessage>, after: Duration) {
    match endure!(shop.stopping, shop.backend.postpone(&shop.worker, id, message.clone(), after)) {
        // Else it would be the first to ask when the leaf comes again.
        Ok(()) => shop.bench.ask_anew(),
        Err(error) => tracing::warn!(%error, "could not give a leaf to others; its lease will"),
    }
}
