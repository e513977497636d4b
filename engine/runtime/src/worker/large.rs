//! Large values on their way into a leaf and out of it, and the limits on both.

use std::sync::Arc;

use celeriac_backends::{Backend, BackendError, ErrorKind};
use celeriac_primitives::{
    Addition, Asked, Json, LimitError, Limits, Outcome, Own, Part, Retry, RunRef, Stored, TaskError,
    TaskMessage, argument_bytes,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::large::{Asking, fetch, join, outcomes, over, warn_at_half};
use crate::patience::endure;

/// Bytes in flight are counted in units of so many: a semaphore has only so many permits.
const UNIT: u64 = 1024;

/// What passes between leaves and the store.
pub(super) struct Gate {
    limits: Limits,
    /// Bytes of inputs that leaves of this worker may hold at the same time.
    in_flight: Arc<Semaphore>,
    in_flight_max: u32,
}

/// A leaf with its arguments, and the room that they take up as long as it runs.
pub(super) struct Input {
    pub(super) message: TaskMessage,
    _room: OwnedSemaphorePermit,
}

impl Gate {
    pub(super) fn new(limits: Limits, in_flight_bytes_max: u64) -> Self {
        let units = u32::try_from(in_flight_bytes_max / UNIT).unwrap_or(u32::MAX).max(1);
        let in_flight = Arc::new(Semaphore::new(units as usize));
        Self { limits, in_flight, in_flight_max: units }
    }

    /// The message with the arguments that did not travel with it; else how the leaf ends, if that is known.
    pub(super) async fn input(
        &self,
        backend: &dyn Backend,
        message: &TaskMessage,
        stopping: &CancellationToken,
    ) -> Result<Box<Input>, Option<Outcome>> {
        let (run, max) = (message.run(), self.limits.argument_bytes_max);
        let failed = |error: BackendError| {
            tracing::error!(%run, %error, "the input of a leaf cannot be read");
            // What is broken is as broken for another worker.
            let is_broken = error.kind == ErrorKind::Corrupt;
            is_broken.then(|| Outcome::Undecodable(format!("its input cannot be read: {error}")))
        };
        let missing =
            || Some(Outcome::Undecodable("a result that it takes is missing from the store".to_owned()));
        let too_long = |bytes| Some(over(&LimitError::InputBytes { bytes, max }));
        let asking = Asking::Endure(stopping);
        let known = outcomes(backend, run, message.input.iter(), max as u64, asking).await.map_err(failed)?;
        let known = known.map_err(too_long)?;
        let parts = message.arguments(&|run, node| known.get(&(run, node))).ok_or_else(missing)?;
        let named = message.named.as_ref().map_or(message.kwargs.as_str().len() as u64, |named| named.bytes);
        let bytes = argument_bytes(parts.iter().map(Part::bytes).sum(), named);
        if bytes > max as u64 {
            return Err(too_long(bytes));
        }
        warn_at_half("the arguments of a leaf", run, bytes, max);
        let units = u32::try_from(bytes / UNIT + 1).unwrap_or(u32::MAX).min(self.in_flight_max);
        let room = self.in_flight.clone().acquire_many_owned(units).await.expect("it is never closed");
        let args = join(backend, &parts, asking).await.map_err(failed)?.ok_or_else(missing)?;
        let kwargs = match &message.named {
            Some(named) => fetch(backend, **named, asking).await.map_err(failed)?.ok_or_else(missing)?,
            None => message.kwargs.clone(),
        };
        Ok(Box::new(Input { message: message.with_arguments(args, kwargs), _room: room }))
    }

    /// Whether an outcome is a small value: then there is nothing to be done.
    pub(super) fn lets_pass(&self, backend: &dyn Backend, outcome: &Outcome) -> bool {
        let max = backend.inline_bytes_max().min(self.limits.result_bytes_max / 2);
        matches!(outcome, Outcome::Success(value) if value.as_str().len() <= max)
    }

    /// How a leaf ends that ended thus: within the limits, and with large values kept apart. `None` when the
    /// store cannot be reached any more.
    pub(super) async fn outcome(
        &self,
        backend: &dyn Backend,
        message: &TaskMessage,
        outcome: Outcome,
        stopping: &CancellationToken,
    ) -> Option<Outcome> {
        let run = message.run();
        let outcome = self.within_limits(run, outcome);
        let inline = backend.inline_bytes_max();
        match &outcome {
            Outcome::Success(value) if value.as_str().len() > inline => {
                let kept = keep(backend, run, value.as_str(), stopping).await?;
                Some(kept.map_or_else(|instead| *instead, Outcome::stored))
            }
            Outcome::Retry(retry) => match &retry.arguments {
                Some((args, kwargs)) if args.as_str().len() + kwargs.as_str().len() > inline => {
                    let list = args.as_str();
                    let items = list.get(1..list.len().saturating_sub(1)).unwrap_or_default();
                    let args = match keep(backend, run, items, stopping).await? {
                        Ok(args) => args,
                        Err(instead) => return Some(*instead),
                    };
                    let kwargs = match keep(backend, run, kwargs.as_str(), stopping).await? {
                        Ok(kwargs) => kwargs,
                        Err(instead) => return Some(*instead),
                    };
                    let stored = Some(Box::new((args, kwargs)));
                    Some(Outcome::Retry(Box::new(Retry { arguments: None, stored, ..Retry::clone(retry) })))
                }
                // Those that are kept apart the worker of the next attempt sees.
                arguments => {
                    let (bytes, max) = (bytes_of(arguments.as_ref()), self.limits.argument_bytes_max);
                    warn_at_half("the arguments of a leaf", run, bytes, max);
                    Some(outcome)
                }
            },
            Outcome::Replace(canvas) if canvas.as_str().len() > inline => {
                let kept = keep(backend, run, canvas.as_str(), stopping).await?;
                Some(asked(kept, false))
            }
            Outcome::Add(addition) => {
                let mut addition = Addition::clone(addition);
                if let Own::Value(own) = &addition.own
                    && own.as_str().len() > inline
                {
                    match keep(backend, run, own.as_str(), stopping).await? {
                        Ok(stored) => addition.own = Own::Apart(stored),
                        Err(instead) => return Some(*instead),
                    }
                }
                if addition.weight() <= inline {
                    return Some(Outcome::Add(Box::new(addition)));
                }
                let text = Json::new(&addition).expect("an addition has a JSON form");
                Some(asked(keep(backend, run, text.as_str(), stopping).await?, true))
            }
            _ => Some(outcome),
        }
    }

    /// An outcome with errors cut to their length, and a failure in the place of a value that is too long.
    fn within_limits(&self, run: RunRef, outcome: Outcome) -> Outcome {
        let Limits { result_bytes_max, argument_bytes_max, replacement_bytes_max, error_bytes_max, .. } =
            self.limits;
        match outcome {
            Outcome::Success(value) => {
                let (bytes, max) = (value.as_str().len(), result_bytes_max);
                if bytes > max {
                    return over(&LimitError::ResultBytes { bytes, max });
                }
                warn_at_half("the result of a leaf", run, bytes as u64, max);
                Outcome::Success(value)
            }
            Outcome::Retry(mut retry) => {
                let (bytes, max) = (bytes_of(retry.arguments.as_ref()), argument_bytes_max);
                if bytes > max as u64 {
                    return over(&LimitError::InputBytes { bytes, max });
                }
                retry.error.cut(error_bytes_max);
                Outcome::Retry(retry)
            }
            Outcome::Failed(mut error) => {
                error.cut(error_bytes_max);
                Outcome::Failed(error)
            }
            Outcome::Rejected(mut reason) => {
                TaskError::cut_text(&mut reason, error_bytes_max);
                Outcome::Rejected(reason)
            }
            Outcome::Replace(canvas) => {
                let bytes = canvas.as_str().len();
                self.replacement(run, bytes, replacement_bytes_max).unwrap_or(Outcome::Replace(canvas))
            }
            Outcome::Add(addition) => {
                let own = if let Own::Value(own) = &addition.own { own.as_str().len() } else { 0 };
                if own > result_bytes_max {
                    return over(&LimitError::ResultBytes { bytes: own, max: result_bytes_max });
                }
                warn_at_half("the result of a leaf", run, own as u64, result_bytes_max);
                let bytes = addition.weight() - own;
                self.replacement(run, bytes, replacement_bytes_max).unwrap_or(Outcome::Add(addition))
            }
            outcome => outcome,
        }
    }

    fn replacement(&self, run: RunRef, bytes: usize, max: usize) -> Option<Outcome> {
        if bytes > max {
            return Some(over(&LimitError::ReplacementBytes { bytes, max }));
        }
        warn_at_half("what runs in the place of a leaf", run, bytes as u64, max);
        None
    }
}

/// How many bytes the arguments of another attempt have.
fn bytes_of(arguments: Option<&(Json, Json)>) -> u64 {
    arguments
        .map_or(0, |(args, kwargs)| argument_bytes(args.as_str().len() as u64, kwargs.as_str().len() as u64))
}

/// Keeps a text in the run, under a name that no other has; else how the leaf ends. `None` when the store
/// cannot be reached any more.
async fn keep(
    backend: &dyn Backend,
    run: RunRef,
    text: &str,
    stopping: &CancellationToken,
) -> Option<Result<Stored, Box<Outcome>>> {
    let stored = Stored { run, name: Uuid::new_v4(), bytes: text.len() as u64, of_plan: false };
    match endure!(*stopping, backend.keep(&stored, text)) {
        Ok(true) => Some(Ok(stored)),
        Ok(false) => Some(Err(Box::new(Outcome::Revoked("its run is not stored any more".to_owned())))),
        Err(error) if error.may_retry() || error.kind == ErrorKind::Denied => None,
        Err(error) => {
            tracing::error!(%run, %error, source = ?error.source, "a result cannot be stored");
            let error = TaskError::new("BackendError", format!("its result cannot be stored: {error}"));
            Some(Err(Box::new(Outcome::Failed(error))))
        }
    }
}

fn asked(kept: Result<Stored, Box<Outcome>>, adds: bool) -> Outcome {
    kept.map_or_else(|instead| *instead, |stored| Outcome::Asked(Box::new(Asked { stored, adds })))
}
