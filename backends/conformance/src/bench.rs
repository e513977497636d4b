//! What the cases are written with: a run, and a hand that plays coordinator and worker.

use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{
    Advance, Advanced, Backend, DEFAULT_QUEUE, Delivery, Dispatch, Event, EventDelivery, Known, Lane, NewRun,
    Take, WorkerId,
};
use celeriac_engine::plan::ScopeNo;
use celeriac_engine::{Plan, Release, RunOutcome, Settled};
use celeriac_primitives::{
    Canvas, Completion, Incarnation, Json, NodeNo, Outcome, RunId, RunRef, Signature, TaskError, TaskMessage,
};

use crate::Subject;

/// How long leases last in the cases: short, because some backends have only real time.
pub const LEASE: Duration = Duration::from_millis(400);

/// A little time, within which everything that is there has come.
pub const SOON: Duration = Duration::from_millis(100);

/// One run on a subject, driven by hand.
pub struct Bench<'s> {
    /// The backend and its clock.
    pub subject: &'s dyn Subject,
    /// The run.
    pub run: RunRef,
    /// Its plan.
    pub plan: Arc<Plan>,
}

impl std::fmt::Debug for Bench<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("run", &self.run).finish_non_exhaustive()
    }
}

/// A signature without arguments.
pub fn sig(name: &str) -> Canvas {
    Signature::new(name).expect("the cases use good names").into()
}

/// Signatures without arguments.
pub fn sigs(names: &[&str]) -> Vec<Canvas> {
    names.iter().map(|name| sig(name)).collect()
}

/// A number as JSON.
pub fn json(number: i64) -> Json {
    Json::new(&number).expect("numbers have a JSON form")
}

/// A failure that says `boom`.
pub fn boom() -> Outcome {
    Outcome::Failed(TaskError::new("ValueError", "boom"))
}

/// A worker's name.
pub fn worker(name: &str) -> WorkerId {
    WorkerId::new(name)
}

/// The run that a number stands for in the cases.
pub fn run_id(number: u64) -> RunRef {
    RunId::from_parts(1_700_000_000_000 + number, number).incarnation(Incarnation::new(number))
}

impl<'s> Bench<'s> {
    /// Submits a canvas as the only run.
    pub async fn submit(subject: &'s dyn Subject, canvas: impl Into<Canvas>) -> Self {
        Self::submit_as(subject, 1, canvas).await
    }

    /// Submits a canvas as the run of this number.
    pub async fn submit_as(subject: &'s dyn Subject, number: u64, canvas: impl Into<Canvas>) -> Self {
        let plan = Arc::new(Plan::compile(&canvas.into()).expect("the cases use good canvases"));
        let run = run_id(number);
        let new = NewRun::new(run, plan.clone());
        subject.backend().submit(new).await.expect("a new run is accepted");
        Self { subject, run, plan }
    }

    /// The backend.
    pub fn backend(&self) -> &'s dyn Backend {
        self.subject.backend()
    }

    /// The leaf at this place of the plan, at its first attempt.
    pub fn release(&self, index: usize) -> Release {
        Release { node: NodeNo::from_index(index), attempt: 1 }
    }

    /// A completion of the leaf at this place.
    pub fn completion(&self, index: usize, outcome: Outcome) -> Completion {
        let (task_id, incarnation) = (self.run.task(NodeNo::from_index(index)), self.run.incarnation);
        Completion { task_id, attempt: 1, outcome, incarnation }
    }

    /// A success of the leaf at this place.
    pub fn success(&self, index: usize, value: i64) -> Completion {
        self.completion(index, Outcome::Success(json(value)))
    }

    /// Settles completions of this run.
    pub async fn settle(&self, completions: impl IntoIterator<Item = Completion>) -> Settled {
        let advance = Advance::new(self.run, completions.into_iter().collect());
        settle_one(self.backend(), advance).await.settled().expect("the run is known")
    }

    /// What is known of these: nothing before the run is submitted.
    pub async fn known(&self, nodes: &[NodeNo], scopes: &[ScopeNo]) -> Known {
        let known = self.backend().known(self.run, nodes, scopes).await.expect("reading works");
        known.unwrap_or_default()
    }

    /// Composes released leaves.
    pub async fn messages(&self, released: &[Release]) -> Vec<TaskMessage> {
        let (nodes, scopes) = self.plan.inputs(released);
        let known = self.known(&nodes, &scopes).await;
        let message = |release: &Release| self.plan.message(self.run, *release, &known);
        released.iter().map(|release| message(release).expect("all inputs are known")).collect()
    }

    /// Released leaves, ready to be queued.
    pub async fn leaves(&self, released: &[Release]) -> Vec<Dispatch> {
        let messages = self.messages(released).await;
        let leaf = |(release, message): (&Release, TaskMessage)| Dispatch {
            release: *release,
            queue: self.plan.queue(release.node).cloned().unwrap_or_else(|| DEFAULT_QUEUE.into()),
            message: Arc::new(message),
            start: None,
            lane: Lane::default(),
        };
        released.iter().zip(messages).map(leaf).collect()
    }

    /// Queues released leaves; returns how many were queued.
    pub async fn dispatch(&self, released: &[Release]) -> usize {
        let leaves = self.leaves(released).await;
        self.backend().dispatch(self.run, &leaves).await.expect("dispatch works")
    }

    /// Queues what is in the outbox.
    pub async fn dispatch_outbox(&self) -> usize {
        let outbox = self.backend().outbox(self.run).await.expect("reading works");
        self.dispatch(&outbox).await
    }

    /// Takes leaves from the default queue.
    pub async fn receive(&self, name: &str, max: usize) -> Vec<Delivery> {
        let queues = [DEFAULT_QUEUE.into()];
        self.backend()
            .receive(&worker(name), &queues, Take::new(max, LEASE).wait(SOON))
            .await
            .expect("receive works")
    }

    /// Takes what has happened.
    pub async fn events(&self) -> Vec<EventDelivery> {
        events(self.subject).await
    }

    /// How the run stands.
    pub async fn outcome(&self) -> RunOutcome {
        self.backend().status(self.run.id).await.expect("reading works").expect("the run is known").outcome
    }

    /// The run's value.
    pub async fn value(&self) -> Option<Json> {
        let (nodes, scopes) = self.plan.known_for(self.plan.output());
        let known = self.known(&nodes, &scopes).await;
        self.plan.output_value(self.run.id, &known)
    }

    /// Settles successes one after the other, dispatching what they release, until nothing is open; a leaf yields its
    /// arguments. Returns the arguments of each leaf, by its place.
    pub async fn run_to_the_end(&self) -> Vec<(usize, String)> {
        let mut released = self.backend().outbox(self.run).await.expect("reading works");
        let mut ran = Vec::new();
        while !released.is_empty() {
            let messages = self.messages(&released).await;
            self.dispatch(&released).await;
            ran.extend(messages.iter().map(|m| (m.task_id.node().index(), m.args.to_string())));
            let done = messages.into_iter().map(|m| m.completion(Outcome::Success(m.args.clone())));
            released = self.settle(done).await.released;
        }
        ran.sort();
        ran
    }
}

/// Applies what has happened to one run.
pub async fn settle_one(backend: &dyn Backend, advance: Advance) -> Advanced {
    let mut answers = backend.settle(&[advance]).await.expect("settle works");
    assert_eq!(answers.len(), 1, "one answer for each entry");
    answers.remove(0).expect("the run can be settled")
}

/// Takes what has happened.
pub async fn events(subject: &dyn Subject) -> Vec<EventDelivery> {
    subject.backend().events(10_000, LEASE, SOON).await.expect("events work")
}

/// Every way in which a leaf can fail.
pub fn ways_to_fail() -> [Outcome; 8] {
    [
        boom(),
        Outcome::Rejected("no".into()),
        Outcome::Revoked("revoked".into()),
        Outcome::Expired,
        Outcome::TimedOut { limit_ms: 5 },
        Outcome::WorkerLost { deliveries: 5 },
        Outcome::UnknownTask,
        Outcome::Undecodable("not JSON".into()),
    ]
}

/// Acknowledges everything that has happened so far.
pub async fn clear_events(subject: &dyn Subject) -> Vec<Event> {
    let (ids, events): (Vec<_>, Vec<_>) = events(subject).await.into_iter().map(|e| (e.id, e.event)).unzip();
    subject.backend().acknowledge(&ids).await.expect("acknowledging works");
    events
}
