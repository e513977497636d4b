//! Runs: stored plans and the one atomic step.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_engine::advance::Phase;
use celeriac_engine::plan::{Results, ScopeNo};
use celeriac_engine::{Plan, Release, RunOutcome, Settled};
use celeriac_primitives::{
    Completion, Incarnation, Json, NodeNo, Outcome, RunId, RunRef, Stored, TaskId, TaskMessage, When,
};
use foldhash::HashMap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{BackendError, EventId, Grown, Lane, Origin};

/// Keeps runs.
///
/// A run that was forgotten, and whose id another run has now, is as unknown as one that never was: nothing
/// that was sent, stored or kept for it counts for the other.
#[async_trait]
pub trait Store {
    /// Stores a whole run, and queues its first leaves or announces it to the coordinators, in one step. When
    /// this returns, the run is accepted: it will reach its end whatever dies.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) when the id is taken by another canvas;
    /// [`UnknownRun`](crate::ErrorKind::UnknownRun) when a segment's run is not there (any more). Nothing is
    /// changed then.
    async fn submit(&self, run: NewRun) -> Result<Submitted, BackendError>;

    /// The run that has this id now, and its plan; `None` when there is none.
    async fn find(&self, id: RunId) -> Result<Option<(RunRef, Arc<Plan>)>, BackendError>;

    /// The plan of a run; `None` when there is no such run. Backends keep the plans of runs that were asked
    /// for lately.
    async fn plan(&self, run: RunRef) -> Result<Option<Arc<Plan>>, BackendError>;

    /// The plan of a run when it is at hand without asking anybody.
    fn plan_at_hand(&self, run: RunRef) -> Option<Arc<Plan>>;

    /// Applies what has happened to runs, each run in one atomic step (see [`celeriac_engine::advance`]). One
    /// answer for each entry, in order: a run that cannot be settled holds up no other.
    ///
    /// # Errors
    /// As a whole when the backend does not answer; an entry's own when that run is broken.
    async fn settle(&self, batch: &[Advance]) -> Result<Vec<Result<Advanced, BackendError>>, BackendError>;

    /// The leaves of a run that are released and not dispatched.
    async fn outbox(&self, run: RunRef) -> Result<Vec<Release>, BackendError>;

    /// Runs whose outbox is not empty, at most `max`: what a sweep looks through after a crash. A backend may
    /// look at some of its runs only, at others the next time.
    async fn owing(&self, max: usize) -> Result<Vec<RunRef>, BackendError>;

    /// What is needed to compose leaves: the outcomes of these nodes, also of attempts that ask for another,
    /// and, for scopes, who closed them and how. `None` when there is no such run.
    async fn known(
        &self,
        run: RunRef,
        nodes: &[NodeNo],
        scopes: &[ScopeNo],
    ) -> Result<Option<Known>, BackendError>;

    /// Queues leaves, or sets their timers, and notes that they are dispatched, in one step; a leaf that is
    /// not in the outbox (any more) is left out. Returns how many were queued.
    async fn dispatch(&self, run: RunRef, leaves: &[Dispatch]) -> Result<usize, BackendError>;

    /// Says that `holder`, a number that no other dispatcher has, is going to empty the outbox of a run slice
    /// by slice, and does so no longer than `lease` from now unless it says so again; `false` while another
    /// does. What a backend dispatches in one step needs no such word, and always agrees: it is there for
    /// those that queue a slice first and note it then, so that two do not queue all of it twice.
    async fn claim_outbox(&self, run: RunRef, holder: u64, lease: Duration) -> Result<bool, BackendError> {
        let _ = (run, holder, lease);
        Ok(true)
    }

    /// Says that `holder` does so no longer.
    async fn free_outbox(&self, run: RunRef, holder: u64) -> Result<(), BackendError> {
        let _ = (run, holder);
        Ok(())
    }

    /// Notes how far running leaves are; of runs that are not there nothing is kept.
    async fn note_progress(&self, reports: &[Progress]) -> Result<(), BackendError>;

    /// The last that was noted of these leaves.
    async fn progress(&self, run: RunRef, nodes: &[NodeNo]) -> Result<Vec<Progress>, BackendError>;

    /// What time it is by the clock that timers go by, in milliseconds since 1970.
    async fn now(&self) -> Result<u64, BackendError>;

    /// What new runs meet now besides the usual, in words for people: that there is no room for them.
    async fn strain(&self) -> Result<Option<String>, BackendError> {
        Ok(None)
    }

    /// How the run stands that has this id now; `None` when there is none.
    async fn status(&self, id: RunId) -> Result<Option<RunStatus>, BackendError>;

    /// Waits until a run has changed since the status with this version, but no longer than `timeout`, and
    /// returns its status.
    async fn changed(
        &self,
        run: RunRef,
        since: u64,
        timeout: Duration,
    ) -> Result<Option<RunStatus>, BackendError>;

    /// Waits until a run is decided, but no longer than `timeout`, and returns its status and, when it has
    /// succeeded, the outcomes of these nodes: all that a client needs for the run's value.
    async fn decided(
        &self,
        run: RunRef,
        nodes: &[NodeNo],
        timeout: Duration,
    ) -> Result<Option<(RunStatus, Known)>, BackendError>;

    /// How far each node of a run is, in the order of the plan; `None` when there is no such run.
    async fn phases(&self, run: RunRef) -> Result<Option<Vec<Phase>>, BackendError>;

    /// Notes at the outermost run that one of its leaves is about to be replaced by this segment of so many
    /// nodes, so that the segment is forgotten with the run; unless the run would have more than `nodes_max`
    /// nodes in all.
    async fn grow(
        &self,
        root: RunRef,
        segment: RunId,
        nodes: usize,
        nodes_max: usize,
    ) -> Result<Grown, BackendError>;

    /// The segments that were noted at a run, in no particular order; some may not be stored yet.
    async fn segments(&self, run: RunRef) -> Result<Vec<RunId>, BackendError>;

    /// What a segment stands for; `None` when the run is none, or unknown.
    async fn origin(&self, run: RunRef) -> Result<Option<Origin>, BackendError>;

    /// Runs by their ids, the newest first: at most `max`, and only those older than `before`, which pages
    /// on. Segments are not among them.
    async fn list(&self, before: Option<RunId>, max: usize) -> Result<Vec<RunId>, BackendError>;

    /// How many bytes a text may have that travels with reports, messages and plans. Longer ones are kept
    /// apart ([`Store::keep`]), if only this is small: a backend to which size is nothing says `usize::MAX`.
    fn inline_bytes_max(&self) -> usize;

    /// Keeps a text in the run that is to own it, in pieces, so that no step is large. `false` when there is
    /// no such run (any more): then nothing is kept. Until it is whole nobody sees it; what is left of it
    /// when its writer dies goes after a while, or with the run.
    async fn keep(&self, value: &Stored, text: &str) -> Result<bool, BackendError>;

    /// Appends a text that is kept, which is fetched in pieces; `false` when it is not there, and then
    /// nothing is appended.
    async fn fetch(&self, value: &Stored, out: &mut Vec<u8>) -> Result<bool, BackendError>;

    /// Removes a text that was kept for a leaf, unless the leaf's outcome refers to it.
    async fn discard(&self, leaf: TaskId, value: &Stored) -> Result<(), BackendError>;

    /// Removes everything a run owns, its segments and what is kept in it included. `false` when there was
    /// none. When this returns, no worker takes a leaf of it any more, whatever is queued; what a worker has
    /// taken before may run, and changes nothing.
    async fn forget(&self, run: RunRef) -> Result<bool, BackendError>;
}

/// A run to be stored.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Chosen by the client, the incarnation at random; of a segment it is that of the run it belongs to.
    pub run: RunRef,
    /// What to run.
    pub plan: Arc<Plan>,
    /// Its first leaves, ready to be queued, none of them timed. A backend queues them in the step that
    /// stores the run, all or none; else, and when they are not all of the first leaves, those stay in the
    /// outbox, and the run is announced.
    pub starts: Vec<Dispatch>,
    /// How long the run is kept after its end, and that of its segments; `None` until it is forgotten.
    pub retention: Option<Duration>,
    /// What it stands for, when it is a segment.
    pub origin: Option<Origin>,
    /// Arguments that were taken out of the plan ([`Plan::take_apart`]), to be stored with it.
    pub literals: Vec<(Uuid, Arc<str>)>,
    /// What the plan was made of, when moments in it were made of times that count from the submission: the
    /// same again is the same run, although its moments are others.
    pub given: Option<Arc<Plan>>,
}

/// What has happened to one run.
#[derive(Clone, Debug)]
pub struct Advance {
    /// The run: what is reported to another that has, or had, its id changes nothing.
    pub run: RunRef,
    /// Deliveries that have ended, in order.
    pub completions: Vec<Completion>,
    /// Leaves that these completions may release, ready to be queued and none of them timed, composed from
    /// the plan at hand: a backend that can do so queues those that are released in the same step and owed at
    /// its end, in the order given, and the others not at all. A step that sees a duplicate or late
    /// completion queues nothing itself, since the leaves may have been composed from its outcome.
    pub prepared: Vec<Dispatch>,
    /// The events that brought the completions. A backend that can do so acknowledges them in the same step
    /// when the step leaves nothing to dispatch.
    pub events: Vec<EventId>,
}

/// What became of an [`Advance`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advanced {
    /// There is no such run.
    Unknown,
    /// Nothing was done: the run's plan is needed for it, is large and not at hand. Who has asked for it
    /// ([`Store::plan`]) and keeps it meanwhile settles again. So others need not wait until it is read.
    Unplanned,
    /// It was settled.
    Settled {
        /// What the step did. What it queued itself is not among the released.
        settled: Settled,
        /// Whether the events are acknowledged.
        acknowledged: bool,
    },
}

impl NewRun {
    /// A run without leaves that are ready, kept until it is forgotten.
    pub fn new(run: RunRef, plan: Arc<Plan>) -> Self {
        let (starts, literals) = (Vec::new(), Vec::new());
        Self { run, plan, starts, retention: None, origin: None, literals, given: None }
    }

    /// What is compared with what is submitted under the same id.
    pub fn given(&self) -> &Arc<Plan> {
        self.given.as_ref().unwrap_or(&self.plan)
    }

    /// Whether the leaves that are ready are these, which the run starts with, each once and in any order. If
    /// not, none of them is queued.
    pub fn starts_with(&self, released: &[Release]) -> bool {
        let mut starts: Vec<Release> = self.starts.iter().map(|leaf| leaf.release).collect();
        starts.sort_unstable();
        starts == released
    }
}

impl Advance {
    /// Completions alone.
    pub fn new(run: RunRef, completions: Vec<Completion>) -> Self {
        Self { run, completions, prepared: Vec::new(), events: Vec::new() }
    }
}

impl Advanced {
    /// What the step did, when the run is known.
    pub fn settled(self) -> Option<Settled> {
        match self {
            Self::Unknown | Self::Unplanned => None,
            Self::Settled { settled, .. } => Some(settled),
        }
    }
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// A new run.
    Accepted,
    /// The same run was there already: this one.
    Existing(RunRef),
}

/// A leaf to be queued.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// The leaf and its attempt.
    pub release: Release,
    /// Where to.
    pub queue: Arc<str>,
    /// In which part of the queue it waits.
    pub lane: Lane,
    /// What the worker gets. When it expires is a moment, not a time from now.
    pub message: Arc<TaskMessage>,
    /// When it is to be queued; at once when it is not said. Until then it is with nobody.
    pub start: Option<When>,
}

impl Dispatch {
    /// After which moment it does not start any more, in milliseconds since 1970.
    pub fn expires_ms(&self) -> Option<u64> {
        match self.message.options.as_ref()?.expires? {
            When::At(ms) => Some(ms),
            When::After(_) => None,
        }
    }

    /// Whether a timer belongs to it.
    pub fn is_timed(&self) -> bool {
        self.start.is_some() || self.message.options.as_ref().is_some_and(|options| options.expires.is_some())
    }
}

/// How far a running leaf is, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The leaf.
    pub task_id: TaskId,
    /// The attempt that said so.
    pub attempt: u32,
    /// A state of the task's own, such as `PROGRESS`.
    pub state: String,
    /// What describes it.
    pub meta: Json,
    /// Which of the runs that ever had the id in `task_id`.
    #[serde(default)]
    pub incarnation: Incarnation,
}

impl Progress {
    /// About how many bytes it takes to send.
    pub fn weight(&self) -> usize {
        self.state.len() + self.meta.as_str().len() + 64
    }
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunStatus {
    /// Which of the runs that ever had the id.
    pub incarnation: Incarnation,
    /// Decided, and how.
    pub outcome: RunOutcome,
    /// Leaves that are released and have not ended.
    pub open: u32,
    /// Leaves that have ended, error callbacks included.
    pub done: u32,
    /// Leaves that run unless something fails ([`Plan::expected`]).
    pub expected: u32,
    /// Grows with every change of the run.
    pub version: u64,
}

impl RunStatus {
    /// Whether nothing of the run is left to do, callbacks included.
    pub fn ended(&self) -> bool {
        self.open == 0
    }

    /// How many leaves there are to run: those expected, and the error callbacks that were called besides.
    pub fn total(&self) -> u32 {
        self.expected.max(self.done + self.open)
    }
}

/// What a store knows of some nodes and scopes.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Outcomes of the nodes that have ended.
    pub outcomes: HashMap<NodeNo, Outcome>,
    /// Who closed the scopes that are closed; their outcomes are among the others.
    pub closed: HashMap<ScopeNo, NodeNo>,
}

impl Known {
    /// Adds what is known besides.
    pub fn extend(&mut self, other: Known) {
        self.outcomes.extend(other.outcomes);
        self.closed.extend(other.closed);
    }
}

impl Results for Known {
    fn outcome(&self, node: NodeNo) -> Option<&Outcome> {
        self.outcomes.get(&node)
    }

    fn closed_by(&self, scope: ScopeNo) -> Option<NodeNo> {
        self.closed.get(&scope).copied()
    }
}
