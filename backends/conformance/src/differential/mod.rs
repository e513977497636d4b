//! The same random operations on two backends: every answer, and all that can be read afterwards, is the
//! same.
//!
//! ```text
//! seed ─► choose ─► operation ─┬─► reference ─► answer ─┐
//!            ▲                 ├─► subject ───► answer ─┼─► equal? ─► dump of the runs it touched: equal?
//!            │                 └─► model, the engine's own RunState ─┘
//!            └──────────────── what has happened so far
//! ```
//!
//! Where the contract leaves a backend free, the comparison says so where it is made: names of deliveries and
//! events, the order of events of different queues, versions, whether first leaves and prepared leaves are
//! queued in the same step and so the order of leaves of several runs that one step releases, and which runs
//! are looked at for what is owed.
//!
//! The subject may have several clients, of which each operation takes one: so what a client remembers of a
//! run is sometimes out of date.

mod choose;
mod compare;
mod dump;
mod model;
mod operation;
mod tally;

use std::collections::VecDeque;
use std::time::Duration;

use celeriac_backends::{Backend, Take, WorkerId};
use celeriac_primitives::{NodeNo, RunId, RunRef};

use choose::Chooser;
use compare::{check, equal};
use dump::Dump;
use model::{Model, Tracked};
use operation::{Answer, Operation, Pair, Side};

pub use tally::Tally;

/// Leases that do not pass while a test runs.
const LEASE: Duration = Duration::from_secs(60 * 60);

/// A retention that is over before the next sweep.
const SHORT: Duration = Duration::from_millis(1);

/// All runs are compared after so many operations; those that an operation touches, after each.
const ALL_EVERY: u32 = 200;

/// So many operations are remembered for the report of a difference.
const HISTORY: usize = 5000;

/// Of a large run, so many outcomes are compared after an operation, besides those that it may have changed.
const SAMPLE: usize = 64;

/// A differential test: a seed and how many operations.
#[derive(Clone, Debug)]
pub struct Differential {
    seed: u64,
    operations: u32,
    replay: String,
    prepared_may_wait: bool,
}

impl Differential {
    /// So many operations, chosen by this seed.
    pub fn new(seed: u64, operations: u32) -> Self {
        Self { seed, operations, replay: "cargo test".to_owned(), prepared_may_wait: false }
    }

    /// The command that runs this test, for the report of a difference.
    #[must_use]
    pub fn replay(mut self, command: impl Into<String>) -> Self {
        self.replay = command.into();
        self
    }

    /// For a subject that does not queue prepared leaves in the step that releases them: it hands them out as
    /// released, and they are dispatched here.
    #[must_use]
    pub fn prepared_may_wait(mut self) -> Self {
        self.prepared_may_wait = true;
        self
    }

    /// Does the operations on both, both empty at the start, and compares. The subject is given as its
    /// clients: one or more backend objects on the same store. Returns what has happened.
    ///
    /// # Panics
    /// With the first difference: the operation, both answers, what happened to the runs before, and how to
    /// replay it.
    pub async fn check(&self, reference: &dyn Backend, subject: &[&dyn Backend]) -> Tally {
        let mut driver = Driver {
            reference,
            clients: subject,
            model: Model::default(),
            tally: Tally::default(),
            prepared_may_wait: self.prepared_may_wait,
        };
        let mut chooser = Chooser::new(self.seed, subject.len());
        let mut history: VecDeque<(u32, Vec<RunRef>, String)> = VecDeque::new();
        for number in 1..=self.operations {
            let (client, operation) = chooser.next(&driver.model, &|client, run| driver.knows(client, run));
            let text: String = format!("client {client}: {operation}").chars().take(3000).collect();
            let mut answer = driver.step(client, &operation).await.map(|_| ());
            if answer.is_ok() && number % ALL_EVERY == 0 {
                answer = driver.compare_all(client).await;
            }
            if let Err(difference) = answer {
                let touched = operation.touches();
                self.report(number, &text, &difference, &touched, &history);
            }
            history.push_back((number, operation.touches(), text));
            if history.len() > HISTORY {
                history.pop_front();
            }
        }
        if let Err(difference) = driver.drain().await {
            self.report(self.operations, "all that is left is taken out", &difference, &[], &history);
        }
        driver.tally
    }

    fn report(
        &self,
        number: u32,
        operation: &str,
        difference: &str,
        touched: &[RunRef],
        history: &VecDeque<(u32, Vec<RunRef>, String)>,
    ) -> ! {
        // What touched the same runs, or, where that is none, no run either: then it was about queues or
        // events.
        let is_near = |runs: &[RunRef]| {
            runs.iter().any(|run| touched.contains(run)) || (touched.is_empty() && runs.is_empty())
        };
        let mut before: Vec<String> = history
            .iter()
            .rev()
            .filter(|(_, runs, _)| is_near(runs))
            .take(12)
            .map(|(number, _, text)| format!("  {number}: {}", text.chars().take(600).collect::<String>()))
            .collect();
        before.reverse();
        panic!(
            "seed {}, operation {number} differs\n{operation}\n{difference}\nbefore:\n{}\nreplay: \
             CELERIAC_DIFFERENTIAL_SEED={} CELERIAC_DIFFERENTIAL_COUNT={number} {}",
            self.seed,
            before.join("\n"),
            self.seed,
            self.replay,
        );
    }
}

struct Driver<'b> {
    reference: &'b dyn Backend,
    clients: &'b [&'b dyn Backend],
    model: Model,
    tally: Tally,
    prepared_may_wait: bool,
}

/// `Err` with what differs.
type Compared<T = ()> = Result<T, String>;

impl Driver<'_> {
    /// Whether it did something.
    async fn step(&mut self, client: usize, operation: &Operation) -> Compared<bool> {
        if matches!(operation, Operation::Sweep(_)) {
            // Leases of no time and short retentions are over then by any clock.
            tokio::time::sleep(2 * SHORT).await;
        }
        let knows: Vec<RunRef> =
            operation.touches().into_iter().filter(|run| self.knows(client, *run)).collect();
        let reference = self.perform(Side::Reference, client, operation).await?;
        let subject = self.perform(Side::Subject, client, operation).await?;
        let did_something = self.compare(client, operation, (reference, subject), &knows).await?;
        self.tally.operation(operation.kind(), did_something);
        for run in operation.touches() {
            self.compare_run(client, run, Some(&operation.touched_nodes(run))).await?;
        }
        Ok(did_something)
    }

    async fn perform(&self, side: Side, client: usize, operation: &Operation) -> Compared<Answer> {
        let answer = operation.perform(self.backend(side, client), side).await;
        answer.map_err(|error| format!("{side:?} fails: {error} {:?}", error.source))
    }

    /// Whether a client of the subject has the plan of a run at hand, and not that of another run under its
    /// id.
    fn knows(&self, client: usize, run: RunRef) -> bool {
        let plan = self.clients[client].plan_at_hand(run);
        plan.is_some_and(|plan| self.model.runs.get(&run).is_some_and(|run| run.plan == plan))
    }

    fn backend(&self, side: Side, client: usize) -> &dyn Backend {
        match side {
            Side::Reference => self.reference,
            Side::Subject => self.clients[client],
        }
    }

    /// Compares all that can be read of a run, on both backends and with the engine; of the outcomes those of
    /// these nodes and a sample, or all.
    async fn compare_run(&mut self, client: usize, run: RunRef, touched: Option<&[NodeNo]>) -> Compared {
        let Some(tracked) = self.model.runs.get_mut(&run) else {
            for backend in [self.reference, self.clients[client]] {
                let status = backend.status(run.id).await.map_err(|error| error.to_string())?;
                check(status.is_none_or(|status| status.incarnation != run.incarnation), || {
                    format!("{run} is not there, and has {status:?}")
                })?;
            }
            return Ok(());
        };
        let Tracked { plan, state, versions, .. } = tracked;
        let all = (0..plan.len()).map(NodeNo::from_index);
        let nodes: Vec<NodeNo> = match touched {
            Some(touched) if plan.len() > SAMPLE => {
                let sample = all.step_by(plan.len() / SAMPLE + 1);
                touched.iter().copied().chain(sample).collect()
            }
            _ => all.collect(),
        };
        let ours = Dump::take(self.reference, (run, plan), &nodes).await;
        let theirs = Dump::take(self.clients[client], (run, plan), &nodes).await;
        let (ours, theirs) =
            (ours.map_err(|error| error.to_string())?, theirs.map_err(|error| error.to_string())?);
        let (Some((ours, our_version)), Some((theirs, their_version))) = (ours, theirs) else {
            return Err(format!("one of them does not know {run}"));
        };
        equal(&ours, &Dump::of(plan, state, &nodes))
            .map_err(|how| format!("not as the engine says\n{how}"))?;
        equal(&ours, &theirs)?;
        // One step may count as several changes, but not as none.
        let now = Pair { reference: our_version, subject: their_version };
        if let Some(before) = versions.replace(now.clone()) {
            let changed = (before.reference != now.reference, before.subject != now.subject);
            check(changed.0 == changed.1 && before.subject <= now.subject, || format!("{before:?} {now:?}"))?;
        }
        if touched.is_none() {
            state.check_invariants(plan);
        }
        Ok(())
    }

    /// Compares everything that can be read.
    async fn compare_all(&mut self, client: usize) -> Compared {
        let list = Operation::List(None, 10_000);
        let (ours, theirs) = (
            self.perform(Side::Reference, client, &list).await?,
            self.perform(Side::Subject, client, &list).await?,
        );
        let runs: Vec<RunRef> = self.model.runs.keys().rev().copied().collect();
        let ids: Vec<RunId> = runs.iter().map(|run| run.id).collect();
        for answer in [ours, theirs] {
            let Answer::Ids(listed) = answer else { unreachable!("it is a list") };
            equal(&listed, &ids)?;
        }
        for run in runs {
            self.compare_run(client, run, None).await?;
        }
        Ok(())
    }

    /// Takes out all that is left, which is the same on both, and forgets all runs.
    async fn drain(&mut self) -> Compared {
        for client in 0..self.clients.len() {
            self.compare_all(client).await?;
        }
        let receive = Operation::Receive {
            worker: WorkerId::new("drain"),
            queues: choose::QUEUES.iter().map(|queue| (*queue).into()).collect(),
            take: Take::new(10_000, LEASE),
        };
        // One suspect at a time.
        while self.step(0, &receive).await? {}
        self.take_all_events(0).await?;
        for client in 0..self.clients.len() {
            let mine = self.model.events.iter().filter(|taken| taken.client == client).cloned().collect();
            self.step(client, &Operation::Acknowledge(mine)).await?;
        }
        let runs: Vec<RunRef> = self.model.runs.keys().copied().collect();
        for run in runs {
            self.step(0, &Operation::Forget(run)).await?;
        }
        self.compare_all(0).await
    }
}
