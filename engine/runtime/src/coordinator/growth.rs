//! Growing: a leaf that returned a canvas, or added some to its list, is replaced by a segment, and a segment
//! that is decided ends its leaf.
//!
//! ```text
//! report "replace" or "add" ─► settle: the leaf is replaced ─► note the segment at the outermost run ─► submit it ─► acknowledge
//! a segment's last report ─► settle: decided ─► settle its leaf ─► and so on upwards ─► acknowledge
//! ```
//!
//! Every step may be repeated: the segment's id depends on the leaf and the attempt alone, and a leaf ends
//! once. So whoever dies in between leaves the event to another coordinator, which does all of it again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{Advance, Advanced, BackendError, ErrorKind, Grown, NewRun, Origin};
use celeriac_engine::plan::{Defaults, Expansion, RunOptions, Source};
use celeriac_engine::{Plan, RunOutcome, RunState, Settled, Verdict};
use celeriac_primitives::{
    Canvas, Completion, Failure, Json, LeafOptions, LimitError, NodeNo, NotAMember, Options, Outcome, Own,
    RunRef, TaskError, TaskName, TaskState,
};

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};

use super::Driver;
use super::dispatch::Dispatching;
use crate::app::first_leaves;
use crate::declared::{self, Declared};
use crate::large::{Asking, fetch, take_apart};
use crate::patience::insist;

/// How many leaves of a run are replaced at the same time.
const REPLACED_AT_ONCE: usize = 64;

/// Canvases that have more bytes are compiled on a thread of their own, off those on which others wait for
/// their turn.
const COMPILED_HERE: usize = 64 * 1024;

/// A step that was taken, and what follows from it.
pub(super) struct Step {
    run: RunRef,
    /// What is to be settled first, when the plan for that is at hand.
    unsettled: Option<Advance>,
    dispatching: Option<Dispatching>,
    growth: Option<Growth>,
    /// Of a segment, which may have ended: it is at hand until its report is done.
    plan: Option<Arc<Plan>>,
}

/// What follows from a step besides leaves to dispatch.
pub(super) struct Growth {
    /// Leaves that canvases are to replace.
    replaced: Vec<Completion>,
    /// Whether the run may be a segment that has to report to its leaf.
    reports: bool,
}

/// Whether something may follow from these completions for which the store must not acknowledge them itself.
pub(super) fn may_grow(advance: &Advance) -> bool {
    advance.run.id.is_segment()
        || advance.completions.iter().any(|done| done.outcome.state() == TaskState::Started)
}

impl Step {
    pub(super) fn of(advance: &Advance, settled: Settled) -> Self {
        let (run, growth, is_repair) = (advance.run, Growth::of(advance, &settled), settled.repairs());
        let dispatching = match settled.released {
            released if released.is_empty() => None,
            // They are handed out again: perhaps somebody is just about to queue them.
            _ if is_repair => Some(Dispatching::Outbox(run)),
            released => Some(Dispatching::Released(run, released)),
        };
        Self { run, unsettled: None, dispatching, growth, plan: None }
    }

    /// That a run was submitted: all it owes follows.
    pub(super) fn outbox(run: RunRef) -> Self {
        Self { run, unsettled: None, dispatching: Some(Dispatching::Outbox(run)), growth: None, plan: None }
    }

    /// That something is to be settled with a plan that is not at hand.
    pub(super) fn unsettled(advance: Advance) -> Self {
        Self { run: advance.run, unsettled: Some(advance), dispatching: None, growth: None, plan: None }
    }

    /// Keeps a plan at hand that was there before the step was taken.
    pub(super) fn keeping(self, plan: Option<Arc<Plan>>) -> Self {
        Self { plan, ..self }
    }

    pub(super) fn run(&self) -> RunRef {
        self.run
    }

    /// Whether nothing follows.
    pub(super) fn is_done(&self) -> bool {
        self.unsettled.is_none() && self.dispatching.is_none() && self.growth.is_none()
    }
}

impl Growth {
    fn of(advance: &Advance, settled: &Settled) -> Option<Self> {
        let done = advance.completions.iter().zip(&settled.verdicts);
        let is_replaced = |verdict: &Verdict| matches!(verdict, Verdict::Replaced | Verdict::ReplacedBefore);
        let mut replaced: Vec<Completion> =
            done.filter(|(_, verdict)| is_replaced(verdict)).map(|(done, _)| done.clone()).collect();
        // Of what a leaf returned in several deliveries the first counts.
        let mut seen = HashSet::new();
        replaced.retain(|done| seen.insert(done.task_id));
        // After a duplicate the run may have been decided by somebody who died before the report.
        let reports = advance.run.id.is_segment() && (settled.decided || settled.repairs());
        (reports || !replaced.is_empty()).then_some(Self { replaced, reports })
    }
}

impl Driver {
    /// Does all that follows from a step, and from the steps that follow from it: a report is one, too.
    /// (Boxed, because dispatching may find that a leaf is to be failed.)
    pub(super) fn follow(&self, step: Step) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(async move {
            // A list and not a recursion: what is decided may stand for a leaf that stands for a leaf, a
            // hundred times.
            let mut steps = vec![step];
            while let Some(Step { run, unsettled, dispatching, growth, plan: _plan }) = steps.pop() {
                if let Some(advance) = unsettled {
                    steps.extend(self.settle_alone(advance).await?);
                }
                if let Some(dispatching) = dispatching {
                    steps.extend(self.dispatch(&dispatching).await?);
                }
                let Some(Growth { replaced, reports }) = growth else { continue };
                let replacing = stream::iter(replaced).map(|done| async move { self.replace(&done).await });
                let mut replacing = std::pin::pin!(replacing.buffer_unordered(REPLACED_AT_ONCE));
                while let Some(step) = replacing.next().await {
                    steps.extend(step?);
                }
                if reports {
                    steps.extend(self.report_of(run).await?);
                }
            }
            Ok(())
        })
    }

    /// Lets canvases run in the place of their leaf; a step when that ended the leaf at once.
    async fn replace(&self, done: &Completion) -> Result<Option<Step>, BackendError> {
        let adds = match &done.outcome {
            Outcome::Asked(asked) => asked.adds,
            outcome => matches!(outcome, Outcome::Add(_)),
        };
        let Completion { task_id: leaf, attempt, incarnation, .. } = *done;
        let run = done.run();
        let around = self.origin(run).await?;
        let (root, depth) = around.map_or((run.id, 1), |around| (around.root, around.depth + 1));
        let origin = Origin { leaf, attempt, root, depth, adds, incarnation };
        // Forgotten meanwhile.
        let Some(plan) = insist!(self.stop, self.backend.plan(run))? else { return Ok(None) };
        let outcome = match self.asked(&done.outcome).await? {
            Ok(Some(outcome)) => outcome,
            // An earlier delivery of this report has done all that follows from it; or it was forgotten
            // meanwhile.
            Ok(None) => return self.report_of(origin.segment()).await,
            Err(error) => return self.refuse(&origin, error).await,
        };
        let compiled = if texts(&outcome) > COMPILED_HERE {
            let driver = self.clone();
            let compile = move || driver.compile(&outcome, depth, leaf.node(), &plan);
            let compiled = tokio::task::spawn_blocking(compile).await;
            compiled.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        } else {
            self.compile(&outcome, depth, leaf.node(), &plan)
        };
        let plan = match compiled {
            Ok(plan) => Arc::new(plan),
            Err(error) => return self.refuse(&origin, error).await,
        };
        let (segment, max) = (origin.segment(), self.limits.run_nodes_max);
        let root = root.incarnation(incarnation);
        match insist!(self.stop, self.backend.grow(root, segment.id, plan.len(), max))? {
            Grown::Noted => {}
            Grown::Full => {
                return self.refuse(&origin, limit(&LimitError::RunNodes { max })).await;
            }
            // Forgotten meanwhile.
            Grown::Unknown => return Ok(None),
        }
        if let Some(served) = &self.served {
            plan.queues().iter().for_each(|queue| served.add(queue));
        }
        let mut plan = plan;
        let literals = take_apart(&*self.backend, &mut plan);
        let (starts, own) = (first_leaves(&plan, segment), Some(origin));
        let new = NewRun { starts, origin: own, literals, ..NewRun::new(segment, plan.clone()) };
        match insist!(self.stop, self.backend.submit(new.clone())) {
            Ok(_) => {}
            Err(error) if error.kind == ErrorKind::Conflict => {
                // The leaf was delivered twice and returned two canvases: the first counts.
                tracing::warn!(%run, node = %leaf.node(), "a leaf returned another canvas the second time");
                return Ok(None);
            }
            // It names more queues than there may be.
            Err(error) if error.kind == ErrorKind::Full => {
                return self.refuse(&origin, TaskError::new("LimitError", error.to_string())).await;
            }
            // Forgotten meanwhile.
            Err(error) if error.kind == ErrorKind::UnknownRun => return Ok(None),
            Err(error) => return Err(error),
        }
        tracing::debug!(%run, node = %leaf.node(), %segment, "a leaf was replaced");
        if let Outcome::Asked(asked) = &done.outcome {
            // The segment is stored: nobody reads it again.
            insist!(self.stop, self.backend.discard(leaf, &asked.stored))?;
        }
        if RunState::start(&plan).0.outcome() != RunOutcome::Undecided {
            // Nothing will happen there that could bring the report.
            return self.report_of(segment).await;
        }
        Ok(None)
    }

    /// What a leaf asks for, which may be kept apart; nothing when it is not there any more.
    async fn asked(&self, outcome: &Outcome) -> Result<Result<Option<Outcome>, TaskError>, BackendError> {
        let Outcome::Asked(asked) = outcome else { return Ok(Ok(Some(outcome.clone()))) };
        let (bytes, max) = (asked.stored.bytes as usize, self.limits.replacement_bytes_max);
        if bytes > max {
            return Ok(Err(limit(&LimitError::ReplacementBytes { bytes, max })));
        }
        let text = fetch(&*self.backend, asked.stored, Asking::Until(&self.stop)).await?;
        Ok(text.map(|text| asked.read(text)).transpose().map_err(|error| refused(outcome, &error)))
    }

    /// Ends a leaf whose canvases cannot run, but not one in whose place those of an earlier delivery do.
    async fn refuse(&self, origin: &Origin, error: TaskError) -> Result<Option<Step>, BackendError> {
        if insist!(self.stop, self.backend.status(origin.segment().id))?.is_some() {
            return Ok(None);
        }
        self.report(origin, Outcome::Failed(error)).await
    }

    /// The plan of what runs in the place of a leaf of the plan `around`. It carries the leaf's stamps. Tasks
    /// of which nothing is set go where the leaf they stand for went.
    fn compile(&self, outcome: &Outcome, depth: u32, leaf: NodeNo, around: &Plan) -> Result<Plan, TaskError> {
        let max = self.limits.replacements_max;
        if depth as usize > max {
            return Err(limit(&LimitError::Replacements { max }));
        }
        let mut tasks = Declared::new();
        let mut read = |canvas: &Json| {
            let (canvas, declared) = declared::read(canvas);
            tasks.extend(declared);
            Canvas::from_json(canvas.as_str()).map_err(|error| refused(outcome, &error))
        };
        let member = around.leaf(leaf).and_then(|leaf| leaf.member);
        let canvas;
        let (own, added) = match outcome {
            Outcome::Replace(own) => {
                canvas = read(own)?;
                (Source::Canvas(&canvas), &[][..])
            }
            // Whoever asks its context to add is told so at once.
            Outcome::Add(_) if member.is_none() => return Err(NotAMember.into()),
            Outcome::Add(addition) => {
                let own = match &addition.own {
                    Own::Value(value) => Source::Value(value),
                    Own::Canvas(own) => {
                        canvas = read(own)?;
                        Source::Canvas(&canvas)
                    }
                    Own::Apart(stored) => Source::Apart(*stored),
                };
                (own, addition.added.as_slice())
            }
            other => unreachable!("{} lets nothing grow", other.state()),
        };
        let added: Vec<Canvas> = added.iter().map(&mut read).collect::<Result<_, _>>()?;
        let options = around.options(leaf);
        let stamps = options.and_then(|options| options.stamps.clone());
        let run =
            RunOptions { leaf: LeafOptions { stamps, ..LeafOptions::default() }, ..RunOptions::default() };
        let priority = options.and_then(|options| options.priority);
        let of_leaf = RunOptions {
            queue: around.queue(leaf).map(|queue| queue.to_string()),
            leaf: LeafOptions { priority, ..LeafOptions::default() },
        };
        let task = |name: &TaskName, _: Option<&Options>| match tasks.get(name) {
            Some(declared) => declared.clone().or(&of_leaf),
            None => of_leaf.clone(),
        };
        let defaults = Defaults { run: &run, task: &task };
        let expansion = Expansion { own, added: &added, member };
        Plan::compile_expansion(expansion, &self.limits, defaults).map_err(|error| refused(outcome, &error))
    }

    /// Reports to its leaf how a segment was decided, if it was.
    pub(super) async fn report_of(&self, segment: RunRef) -> Result<Option<Step>, BackendError> {
        let Some(origin) = self.origin(segment).await? else { return Ok(None) };
        let Some(plan) = insist!(self.stop, self.backend.plan(segment))? else { return Ok(None) };
        let (nodes, scopes) = plan.known_for(plan.output());
        let decided = insist!(self.stop, self.backend.decided(segment, &nodes, Duration::ZERO))?;
        let Some((status, mut known)) = decided else { return Ok(None) };
        if status.outcome == RunOutcome::Succeeded && !scopes.is_empty() {
            let Some(closed) = self.known(segment, &[], &scopes).await? else { return Ok(None) };
            known.extend(closed);
        }
        let outcome = match status.outcome {
            RunOutcome::Undecided => return Ok(None),
            RunOutcome::Succeeded => {
                // The failures of what it had added are told from the run of the leaf.
                let around = match origin.adds {
                    true => insist!(self.stop, self.backend.plan(origin.around()))?,
                    false => None,
                };
                let told = |failure: Failure| match &around {
                    Some(around) => around.failure_inside(origin.leaf.node(), &failure),
                    None => failure,
                };
                plan.expanded(segment, origin.adds, &known, self.backend.inline_bytes_max(), &told)
            }
            RunOutcome::Failed(node) => {
                let Some(known) = self.known(segment, &[node], &[]).await? else { return Ok(None) };
                let failure =
                    known.outcomes.get(&node).and_then(|outcome| plan.failure(segment.id, node, outcome));
                failure.map(|failure| Outcome::ReplacementFailed(Box::new(failure)))
            }
        };
        // Only a damaged store can lack a result that was counted.
        let outcome = outcome.unwrap_or_else(|| {
            Outcome::Undecodable("a result of its replacement is missing from the store".to_owned())
        });
        let step = self.report(&origin, outcome).await?;
        if step.is_none() {
            // The run was forgotten while the segment was about to be stored: nobody else knows of it.
            insist!(self.stop, self.backend.forget(segment))?;
        }
        Ok(step)
    }

    /// Ends a leaf that was replaced; no step when its run is not known.
    async fn report(&self, origin: &Origin, outcome: Outcome) -> Result<Option<Step>, BackendError> {
        let Origin { leaf: task_id, incarnation, .. } = *origin;
        let completion = Completion { task_id, attempt: origin.reports_as(), outcome, incarnation };
        self.settle_alone(Advance::new(origin.around(), vec![completion])).await
    }

    /// Settles what has happened to one run, waiting for its plan when that is large; no step when the run is
    /// not known.
    pub(super) async fn settle_alone(&self, mut advance: Advance) -> Result<Option<Step>, BackendError> {
        // Who calls this acknowledges them.
        advance.events.clear();
        let mut plan = self.plan_of_segment(advance.run);
        let mut is_asked = false;
        loop {
            let mut answers = insist!(self.stop, self.backend.settle(std::slice::from_ref(&advance)))?;
            match answers.pop().expect("one answer for each entry")? {
                Advanced::Settled { settled, .. } => {
                    return Ok(Some(Step::of(&advance, settled).keeping(plan)));
                }
                Advanced::Unplanned if !is_asked => {
                    is_asked = true;
                    // At hand as long as it is kept here.
                    plan = insist!(self.stop, self.backend.plan(advance.run))?;
                    if plan.is_none() {
                        return Ok(None);
                    }
                }
                Advanced::Unplanned => {
                    let context = format!("the plan of {} is at hand, and is not", advance.run);
                    return Err(BackendError::new(ErrorKind::Unavailable, "settle").context(context));
                }
                Advanced::Unknown => return Ok(None),
            }
        }
    }

    /// The plan of a segment that is about to be settled: it may end, and is needed for its report.
    pub(super) fn plan_of_segment(&self, run: RunRef) -> Option<Arc<Plan>> {
        run.id.is_segment().then(|| self.backend.plan_at_hand(run)).flatten()
    }

    async fn origin(&self, run: RunRef) -> Result<Option<Origin>, BackendError> {
        if !run.id.is_segment() {
            return Ok(None);
        }
        insist!(self.stop, self.backend.origin(run))
    }
}

/// How many bytes of text the canvases have that are to run in the place of a leaf.
fn texts(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Replace(canvas) => canvas.as_str().len(),
        Outcome::Add(addition) => {
            let added: usize = addition.added.iter().map(|canvas| canvas.as_str().len()).sum();
            added + if let Own::Canvas(own) = &addition.own { own.as_str().len() } else { 0 }
        }
        _ => 0,
    }
}

fn refused(outcome: &Outcome, error: &dyn std::error::Error) -> TaskError {
    let which = match outcome {
        Outcome::Replace(_) => "the canvas that was returned",
        Outcome::Asked(asked) if !asked.adds => "the canvas that was returned",
        _ => "a canvas that was added",
    };
    TaskError::new("CompileError", format!("{which} cannot run: {error}"))
}

fn limit(error: &LimitError) -> TaskError {
    TaskError::new("LimitError", error.to_string())
}
