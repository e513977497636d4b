//! Large values: kept apart from reports, messages and plans, and fetched where they are read.
//!
//! Workers and clients alone do so. A coordinator knows sizes and names.

use std::sync::Arc;

use celeriac_backends::{Backend, BackendError, ErrorKind, Known};
use celeriac_engine::Plan;
use celeriac_engine::plan::Value;
use celeriac_primitives::{
    Item, Json, LimitError, Members, NodeNo, Outcome, Part, Piece, RunRef, Stored, TaskError,
};
use foldhash::{HashMap, HashMapExt as _};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::patience::{OUTAGE_MAX, endure, insist, outlast};

/// Outcomes of leaves of some runs.
pub(crate) type Outcomes = HashMap<(RunRef, NodeNo), Outcome>;

/// So many outcomes are read before it is looked how long they are.
const READ_AT_ONCE: usize = 500;

/// Room for so much is made before anything is read.
const ROOM_MAX: usize = 64 << 20;

/// For how long a backend that does not answer is asked again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asking<'a> {
    /// Until this is cancelled.
    Until(&'a CancellationToken),
    /// The same, also while it refuses.
    Endure(&'a CancellationToken),
    /// As a client does.
    Outlast,
}

macro_rules! ask {
    ($asking:expr, $operation:expr) => {
        match $asking {
            Asking::Until(stop) => insist!(*stop, $operation),
            Asking::Endure(stop) => endure!(*stop, $operation),
            Asking::Outlast => outlast!(OUTAGE_MAX, $operation),
        }
    };
}

/// Takes the large arguments out of a plan that is to be stored, where the backend keeps them apart.
pub(crate) fn take_apart(backend: &dyn Backend, plan: &mut Arc<Plan>) -> Vec<(Uuid, Arc<str>)> {
    let max = backend.inline_bytes_max();
    if max == usize::MAX || plan.argument_bytes().0 <= max as u64 {
        return Vec::new();
    }
    let name = |text: &str| Uuid::from_u128(xxhash_rust::xxh3::xxh3_128(text.as_bytes()));
    Arc::make_mut(plan).take_apart(max, name)
}

/// The outcomes that pieces refer to, and those that these refer to, and so on. What is missing is not
/// among them. Stops when there are more than `bytes_max` bytes, and says how many were counted.
pub(crate) async fn outcomes<'p>(
    backend: &dyn Backend,
    run: RunRef,
    pieces: impl Iterator<Item = &'p Piece>,
    bytes_max: u64,
    asking: Asking<'_>,
) -> Result<Result<Outcomes, u64>, BackendError> {
    let mut found = Outcomes::new();
    let mut bytes = 0;
    let mut wanted: Vec<(RunRef, NodeNo)> = pieces.filter_map(|piece| piece.leaf(run)).collect();
    while !wanted.is_empty() {
        wanted.sort_unstable();
        wanted.dedup();
        let mut next = Vec::new();
        for of_run in wanted.chunk_by(|a, b| a.0 == b.0) {
            let run = of_run[0].0;
            for slice in of_run.chunks(READ_AT_ONCE) {
                let nodes: Vec<NodeNo> = slice.iter().map(|(_, node)| *node).collect();
                // Of a run that was forgotten nothing is there.
                let mut known = ask!(asking, backend.known(run, &nodes, &[]))?.unwrap_or_default();
                for node in nodes {
                    let Some(outcome) = known.outcomes.remove(&node) else { continue };
                    bytes += outcome.text().map_or(0, |text| text.len() as u64);
                    next.extend(outcome.pieces().filter_map(|piece| piece.leaf(run)));
                    found.insert((run, node), outcome);
                }
                if bytes > bytes_max {
                    return Ok(Err(bytes));
                }
            }
        }
        next.retain(|leaf| !found.contains_key(leaf));
        wanted = next;
    }
    Ok(Ok(found))
}

/// A text that is put together, fetching what is stored; `None` when a part of it is not there.
pub(crate) async fn join(
    backend: &dyn Backend,
    parts: &[Part<'_>],
    asking: Asking<'_>,
) -> Result<Option<Json>, BackendError> {
    let bytes: u64 = parts.iter().map(Part::bytes).sum();
    // However long it is said to be: what is not there takes no room.
    let mut text = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0).min(ROOM_MAX));
    for part in parts {
        match part {
            Part::Text(part) => text.extend_from_slice(part.as_bytes()),
            Part::Stored(stored) => {
                if !ask!(asking, backend.fetch(stored, &mut text))? {
                    return Ok(None);
                }
            }
        }
    }
    let text = String::from_utf8(text).map_err(|error| broken("a text that is stored").source(error))?;
    Ok(Some(Json::from_compact(text)))
}

/// A stored text.
pub(crate) async fn fetch(
    backend: &dyn Backend,
    stored: Stored,
    asking: Asking<'_>,
) -> Result<Option<Json>, BackendError> {
    join(backend, &[Part::Stored(stored)], asking).await
}

/// What a client knows, with the values that are kept apart.
pub(crate) async fn complete(
    backend: &dyn Backend,
    run: RunRef,
    mut known: Known,
) -> Result<Known, BackendError> {
    let is_apart = |(_, outcome): &(&NodeNo, &Outcome)| matches!(outcome, Outcome::Apart(_));
    let mut apart: Vec<NodeNo> = known.outcomes.iter().filter(is_apart).map(|(node, _)| *node).collect();
    apart.sort_unstable();
    for node in apart {
        let outcome = whole(backend, run, &known.outcomes[&node]).await?;
        known.outcomes.insert(node, outcome);
    }
    Ok(known)
}

/// An outcome with its value, which may be kept apart.
pub(crate) async fn whole(
    backend: &dyn Backend,
    run: RunRef,
    outcome: &Outcome,
) -> Result<Outcome, BackendError> {
    let Outcome::Apart(apart) = outcome else { return Ok(outcome.clone()) };
    let missing = || broken("a value that is kept apart").context(run);
    let outcomes = outcomes(backend, run, outcome.pieces(), u64::MAX, Asking::Outlast).await?;
    let outcomes = outcomes.map_err(|_| missing())?;
    let result = |run: RunRef, node: NodeNo| outcomes.get(&(run, node));
    let mut parts = Vec::new();
    apart.value.parts(run, &result, &mut parts).ok_or_else(missing)?;
    let value = join(backend, &parts, Asking::Outlast).await?.ok_or_else(missing)?;
    let Some(added) = &apart.added else { return Ok(Outcome::Success(value)) };
    let mut parts = vec![Part::Text("[".into())];
    added.parts(run, &result, &mut parts).ok_or_else(missing)?;
    parts.push(Part::Text("]".into()));
    let items = join(backend, &parts, Asking::Outlast).await?.ok_or_else(missing)?;
    let items: Vec<Json> = items.to().map_err(|error| missing().source(error))?;
    let added = items.into_iter().map(Item::Value).collect();
    Ok(Outcome::Members(Box::new(Members { value, added })))
}

/// A value of which a part is kept apart that belongs to the plan.
pub(crate) async fn value(
    backend: &dyn Backend,
    run: RunRef,
    (plan, value): (&Plan, &Value),
    known: &Known,
) -> Result<Option<Json>, BackendError> {
    let Some(pieces) = plan.composer().pieces(run.id, value, known) else { return Ok(None) };
    let mut parts = Vec::new();
    let result = |_, node: NodeNo| known.outcomes.get(&node);
    let all = pieces.iter().try_for_each(|piece| piece.parts(run, &result, &mut parts));
    if all.is_none() {
        return Ok(None);
    }
    join(backend, &parts, Asking::Outlast).await
}

fn broken(what: &'static str) -> BackendError {
    BackendError::new(ErrorKind::Corrupt, "fetch").context(what)
}

/// Says that something is more than half as large as it may be.
pub(crate) fn warn_at_half(what: &'static str, run: RunRef, bytes: u64, max: usize) {
    if bytes > max as u64 / 2 {
        tracing::warn!(%run, what, bytes, max, "more than half as large as it may be");
    }
}

/// How a leaf ends that is over a limit.
pub(crate) fn over(error: &LimitError) -> Outcome {
    Outcome::Failed(TaskError::new("LimitError", error.to_string()))
}
