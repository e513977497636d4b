//! One operation, the same for both backends; and doing it on one of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{
    Advance, Advanced, Backend, BackendError, Begin, Delivery, DeliveryId, Dispatch, ErrorKind, Event,
    EventDelivery, EventId, NewRun, Submitted, Swept, Take, WorkerId,
};
use celeriac_engine::advance::Phase;
use celeriac_engine::plan::ScopeNo;
use celeriac_engine::{Plan, Release};
use celeriac_primitives::{Canvas, Completion, NodeNo, RunId, RunRef, TaskMessage};

use super::dump::{Ended, Standing, standing};

/// What belongs to both backends, each its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pair<T> {
    pub(super) reference: T,
    pub(super) subject: T,
}

/// Which backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Reference,
    Subject,
}

/// An operation of the traits. What was handed out before is named by both backends' names for it.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Submit(Submission),
    Plan(RunRef),
    Settle(Vec<Step>),
    Outbox(RunRef),
    Owing(usize),
    Known(RunRef, Vec<NodeNo>, Vec<ScopeNo>),
    Dispatch(RunRef, Vec<Dispatch>),
    Status(RunRef),
    Changed(RunRef),
    Phases(RunRef),
    List(Option<RunId>, usize),
    Forget(RunRef),
    Receive {
        worker: WorkerId,
        queues: Vec<Arc<str>>,
        take: Take,
    },
    /// With whether it runs once at most.
    Begin(WorkerId, Held, bool),
    Finish(Vec<(Held, Completion)>),
    Renew(WorkerId, Vec<Held>),
    HandBack(WorkerId, Vec<Held>),
    Retire(WorkerId, Vec<Arc<str>>),
    Sweep(u32),
    Events(usize),
    Acknowledge(Vec<Taken>),
}

/// A run to be submitted.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    pub(super) run: RunRef,
    pub(super) canvas: Canvas,
    pub(super) plan: Arc<Plan>,
    pub(super) starts: Vec<Dispatch>,
    pub(super) retention: Option<Duration>,
}

/// What is settled of one run.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) run: RunRef,
    pub(super) completions: Vec<Completion>,
    pub(super) prepared: Vec<Dispatch>,
    pub(super) events: Vec<Taken>,
}

/// A delivery that both backends have made.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) ids: Pair<DeliveryId>,
    pub(super) message: Arc<TaskMessage>,
    pub(super) deliveries: u32,
    pub(super) worker: WorkerId,
    /// Whether nobody has finished it or given it back, as far as is known here.
    pub(super) is_held: bool,
}

/// An event that both backends have handed out, and which client of the subject got it.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) ids: Pair<EventId>,
    pub(super) client: usize,
    pub(super) event: Event,
}

/// An answer, without what only names things.
#[derive(Debug)]
pub(super) enum Answer {
    Submitted(Result<Submitted, ErrorKind>),
    Plan(Option<Arc<Plan>>),
    Settled(Vec<Result<Advanced, ErrorKind>>),
    Outbox(Vec<Release>),
    Runs(Vec<RunRef>),
    Ids(Vec<RunId>),
    Known(Option<Ended>),
    Queued(Result<usize, ErrorKind>),
    Status(Option<Standing>),
    Phases(Option<Vec<Phase>>),
    Forgotten(bool),
    Received(Vec<Delivery>),
    Begun(Begin),
    Swept(Swept),
    Events(Vec<EventDelivery>),
    Done,
}

impl<T> Pair<T> {
    pub(super) fn of(&self, side: Side) -> &T {
        match side {
            Side::Reference => &self.reference,
            Side::Subject => &self.subject,
        }
    }
}

impl Submission {
    fn new_run(&self) -> NewRun {
        let Self { run, plan, starts, retention, .. } = self;
        NewRun {
            run: *run,
            plan: plan.clone(),
            starts: starts.clone(),
            retention: *retention,
            origin: None,
            literals: Vec::new(),
            given: None,
        }
    }
}

impl Operation {
    /// The name of the operation.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Submit(_) => "submit",
            Self::Plan(_) => "plan",
            Self::Settle(_) => "settle",
            Self::Outbox(_) => "outbox",
            Self::Owing(_) => "owing",
            Self::Known(..) => "known",
            Self::Dispatch(..) => "dispatch",
            Self::Status(_) => "status",
            Self::Changed(_) => "changed",
            Self::Phases(_) => "phases",
            Self::List(..) => "list",
            Self::Forget(_) => "forget",
            Self::Receive { .. } => "receive",
            Self::Begin(..) => "begin",
            Self::Finish(_) => "finish",
            Self::Renew(..) => "renew",
            Self::HandBack(..) => "hand_back",
            Self::Retire(..) => "retire",
            Self::Sweep(_) => "sweep",
            Self::Events(_) => "events",
            Self::Acknowledge(_) => "acknowledge",
        }
    }

    /// The runs that it may change.
    pub(super) fn touches(&self) -> Vec<RunRef> {
        let mut runs = match self {
            Self::Submit(submission) => vec![submission.run],
            Self::Settle(steps) => steps.iter().map(|step| step.run).collect(),
            Self::Dispatch(run, _) | Self::Forget(run) => vec![*run],
            _ => Vec::new(),
        };
        runs.sort_unstable();
        runs.dedup();
        runs
    }

    /// The nodes whose outcomes it may change.
    pub(super) fn touched_nodes(&self, run: RunRef) -> Vec<NodeNo> {
        let Self::Settle(steps) = self else { return Vec::new() };
        let steps = steps.iter().filter(|step| step.run == run);
        steps.flat_map(|step| step.completions.iter().map(|completion| completion.task_id.node())).collect()
    }

    /// Does it on one of the backends.
    pub(super) async fn perform(&self, backend: &dyn Backend, side: Side) -> Result<Answer, BackendError> {
        let ids = |held: &[Held]| held.iter().map(|held| held.ids.of(side).clone()).collect::<Vec<_>>();
        let kind = |error: BackendError| error.kind;
        const LEASE: Duration = super::LEASE;
        Ok(match self {
            Self::Submit(submission) => {
                Answer::Submitted(backend.submit(submission.new_run()).await.map_err(kind))
            }
            Self::Plan(run) => Answer::Plan(backend.plan(*run).await?),
            Self::Settle(steps) => {
                let batch: Vec<Advance> = steps.iter().map(|step| step.advance(side)).collect();
                let mut answers = backend.settle(&batch).await?;
                for (advance, answer) in batch.iter().zip(&mut answers) {
                    if matches!(answer, Ok(Advanced::Unplanned)) {
                        // Kept until it is settled.
                        let _plan = backend.plan(advance.run).await?;
                        *answer = backend.settle(std::slice::from_ref(advance)).await?.remove(0);
                    }
                }
                Answer::Settled(answers.into_iter().map(|answer| answer.map_err(kind)).collect())
            }
            Self::Outbox(run) => Answer::Outbox(backend.outbox(*run).await?),
            Self::Owing(max) => Answer::Runs(backend.owing(*max).await?),
            Self::Known(run, nodes, scopes) => {
                Answer::Known(backend.known(*run, nodes, scopes).await?.map(Ended::new))
            }
            Self::Dispatch(run, leaves) => Answer::Queued(backend.dispatch(*run, leaves).await.map_err(kind)),
            Self::Status(run) => {
                let status = backend.status(run.id).await?;
                let status = status.filter(|status| status.incarnation == run.incarnation);
                Answer::Status(status.map(standing))
            }
            Self::Changed(run) => {
                Answer::Status(backend.changed(*run, 0, Duration::ZERO).await?.map(standing))
            }
            Self::Phases(run) => Answer::Phases(backend.phases(*run).await?),
            Self::List(before, max) => Answer::Ids(backend.list(*before, *max).await?),
            Self::Forget(run) => Answer::Forgotten(backend.forget(*run).await?),
            Self::Receive { worker, queues, take } => {
                // Who has not heard of the lanes that others use looks for them here.
                backend.fire().await?;
                Answer::Received(backend.receive(worker, queues, *take).await?)
            }
            Self::Begin(worker, held, once) => {
                let id = held.ids.of(side).clone();
                let delivery = Delivery { id, message: held.message.clone(), deliveries: held.deliveries };
                Answer::Begun(backend.begin(worker, &delivery, *once).await?)
            }
            Self::Finish(done) => {
                let done: Vec<_> =
                    done.iter().map(|(held, done)| (held.ids.of(side).clone(), done.clone())).collect();
                backend.finish(&done).await?;
                Answer::Done
            }
            Self::Renew(worker, held) => {
                backend.renew(worker, &ids(held), LEASE).await?;
                Answer::Done
            }
            Self::HandBack(worker, held) => {
                backend.hand_back(worker, &ids(held)).await?;
                Answer::Done
            }
            Self::Retire(worker, queues) => {
                backend.retire(worker, queues).await?;
                Answer::Done
            }
            Self::Sweep(deliveries_max) => Answer::Swept(backend.sweep(*deliveries_max).await?),
            Self::Events(max) => Answer::Events(backend.events(*max, LEASE, Duration::ZERO).await?),
            Self::Acknowledge(taken) => {
                let ids: Vec<EventId> = taken.iter().map(|taken| *taken.ids.of(side)).collect();
                backend.acknowledge(&ids).await?;
                Answer::Done
            }
        })
    }
}

impl Step {
    fn advance(&self, side: Side) -> Advance {
        Advance {
            run: self.run,
            completions: self.completions.clone(),
            prepared: self.prepared.clone(),
            events: self.events.iter().map(|taken| *taken.ids.of(side)).collect(),
        }
    }
}

/// At most so many parts of an operation are shown.
const SHOWN: usize = 30;

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit(Submission { run, canvas, plan, starts, retention }) => {
                let canvas: String = canvas.to_string().chars().take(1000).collect();
                write!(f, "submit {run:?}, {} nodes, retention {retention:?}, starts", plan.len())?;
                leaves(f, starts)?;
                write!(f, ": {canvas}")
            }
            Self::Settle(steps) => {
                write!(f, "settle")?;
                for Step { run, completions, prepared, events } in steps {
                    write!(f, " {run:?} [")?;
                    for Completion { task_id, attempt, outcome, .. } in completions.iter().take(SHOWN) {
                        write!(f, " {}@{attempt} {outcome:?}", task_id.node())?;
                    }
                    write!(f, "; {} completions, {} events, prepared", completions.len(), events.len())?;
                    leaves(f, prepared)?;
                    write!(f, "]")?;
                }
                Ok(())
            }
            Self::Dispatch(run, queued) => {
                write!(f, "dispatch {run:?}")?;
                leaves(f, queued)
            }
            Self::Finish(done) => {
                write!(f, "finish")?;
                for (held, Completion { task_id, attempt, outcome, .. }) in done {
                    let id = &held.ids.subject;
                    write!(f, " {} {:?}: {task_id}@{attempt} {outcome:?}", id.queue, id.entry)?;
                }
                Ok(())
            }
            Self::Renew(worker, held) | Self::HandBack(worker, held) => {
                write!(f, "{} {worker}", self.kind())?;
                for held in held {
                    let Held { ids: Pair { subject: id, .. }, worker, is_held, .. } = held;
                    write!(f, " {} {:?} of {worker} {is_held}", id.queue, id.entry)?;
                }
                Ok(())
            }
            Self::Acknowledge(taken) => write!(f, "acknowledge {} events", taken.len()),
            other => write!(f, "{other:?}"),
        }
    }
}

fn leaves(f: &mut fmt::Formatter<'_>, leaves: &[Dispatch]) -> fmt::Result {
    for Dispatch { release, queue, .. } in leaves.iter().take(SHOWN) {
        write!(f, " {}@{}→{queue}", release.node, release.attempt)?;
    }
    if leaves.len() > SHOWN { write!(f, " … {} leaves", leaves.len()) } else { Ok(()) }
}
