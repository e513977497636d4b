//! Every completion three times, in any order and with other bytes each time: counters are right, the first outcome is
//! kept, each body is called once, with the first outcomes of its header.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{
    Advance, Advanced, Backend, DEFAULT_QUEUE, Delivery, Dispatch, Event, EventDelivery, EventId, Lane,
    NewRun, Take, WorkerId,
};
use celeriac_engine::advance::Phase;
use celeriac_engine::plan::Results;
use celeriac_engine::{Plan, Release, RunOutcome, RunState, Verdict};
use celeriac_primitives::{Canvas, Json, NodeNo, Outcome, RunRef, TaskId};
use futures::future::join_all;

use crate::bench::{run_id, sig};
use crate::prepared::{AtHand, prepared};
use crate::random::Rng;

/// So many chords are under way at the same time.
const AT_ONCE: u32 = 500;

/// How often each completion comes.
const TIMES: u64 = 3;

/// Nobody's lease passes meanwhile.
const LEASE: Duration = Duration::from_secs(60 * 60);

/// A chord under way, and what is known of it without the backend.
struct Run {
    plan: Arc<Plan>,
    /// The leaves whose outcomes the body gets, in the order of the header.
    header: Vec<NodeNo>,
    /// For the second leaf of a chain, the first.
    before: BTreeMap<NodeNo, NodeNo>,
    body: NodeNo,
    /// What was settled first of each leaf.
    first: BTreeMap<NodeNo, Json>,
    /// The arguments with which each leaf came out of its queue.
    called: BTreeMap<NodeNo, Vec<Json>>,
}

/// Runs so many chords of one to ten members, some of which are groups or chains, through the operations of a backend
/// that nobody else uses.
///
/// # Panics
/// When a promise is broken, with the seed.
pub async fn check(backend: &dyn Backend, seed: u64, chords: u32) {
    let mut rng = Rng::new(seed);
    println!("duplicates: seed {seed}, {chords} chords");
    for first in (0..chords).step_by(AT_ONCE as usize) {
        let numbers = first..chords.min(first + AT_ONCE);
        let runs = numbers.map(|number| (run_id(number.into()), Run::new(&mut rng))).collect();
        let mut wave = Wave { backend, rng: &mut rng, runs, pool: Vec::new(), values: 0 };
        wave.submit().await;
        while wave.work().await | wave.settle_some().await {}
        wave.check_all().await;
    }
}

impl Run {
    fn new(rng: &mut Rng) -> Self {
        let (mut members, mut header, mut before, mut next) = (Vec::new(), Vec::new(), BTreeMap::new(), 0);
        let mut leaf = || {
            next += 1;
            NodeNo::from_index(next - 1)
        };
        for _ in 0..1 + rng.below(10) {
            match rng.below(6) {
                0 => {
                    let width = 1 + rng.below(3);
                    members.push(Canvas::group((0..width).map(|_| sig("a"))));
                    header.extend((0..width).map(|_| leaf()));
                }
                1 => {
                    members.push(sig("a").then(sig("b")));
                    let (first, second) = (leaf(), leaf());
                    before.insert(second, first);
                    header.push(second);
                }
                _ => {
                    members.push(sig("a"));
                    header.push(leaf());
                }
            }
        }
        let body = leaf();
        let plan = Plan::compile(&Canvas::chord(members, sig("body"))).expect("a good canvas");
        assert_eq!(plan.len(), body.index() + 1, "leaves are numbered in the order written");
        Self { plan: Arc::new(plan), header, before, body, first: BTreeMap::new(), called: BTreeMap::new() }
    }

    /// The arguments of a leaf, from the first outcomes.
    fn arguments(&self, node: NodeNo) -> Json {
        let value = |node: &NodeNo| self.first[node].clone();
        match self.before.get(&node) {
            _ if node == self.body => Json::list([Json::list(self.header.iter().map(value))]),
            Some(before) => Json::list([value(before)]),
            None => Json::from_compact("[]"),
        }
    }
}

struct Wave<'b> {
    backend: &'b dyn Backend,
    rng: &'b mut Rng,
    runs: BTreeMap<RunRef, Run>,
    /// Events that were taken and not settled.
    pool: Vec<EventDelivery>,
    /// Every completion has a value of its own.
    values: u64,
}

impl Wave<'_> {
    /// Half of the runs start with their submission.
    async fn submit(&mut self) {
        let mut submissions = Vec::new();
        for (id, run) in &self.runs {
            let (state, released) = RunState::start(&run.plan);
            let mut new = NewRun::new(*id, run.plan.clone());
            if self.rng.percent(50) {
                new.starts = compose(&run.plan, *id, &released, &state);
            }
            submissions.push(self.backend.submit(new));
        }
        for submitted in join_all(submissions).await {
            submitted.expect("a new run is accepted");
        }
    }

    /// A worker: takes leaves and reports each three times. Whether there were any.
    async fn work(&mut self) -> bool {
        let (worker, queues, max) = (WorkerId::new("w"), [DEFAULT_QUEUE.into()], 1 + self.rng.below(1000));
        let taken = self.backend.receive(&worker, &queues, Take::new(max as usize, LEASE)).await;
        let taken: Vec<Delivery> = taken.expect("receive works");
        let mut done = Vec::new();
        for Delivery { id, message, deliveries } in taken {
            assert_eq!(deliveries, 1);
            let (run, node) = (message.run(), message.task_id.node());
            let run = self.runs.get_mut(&run).expect("a run of this wave");
            run.called.entry(node).or_default().push(message.args.clone());
            for _ in 0..TIMES {
                self.values += 1;
                let outcome = Outcome::Success(Json::from_compact(self.values.to_string()));
                done.push((id.clone(), message.completion(outcome)));
            }
        }
        shuffle(self.rng, &mut done);
        self.backend.finish(&done).await.expect("finish works");
        !done.is_empty()
    }

    /// A coordinator: settles some of what has happened, in any order, and dispatches what that releases. Whether
    /// there was anything.
    async fn settle_some(&mut self) -> bool {
        let max = 1 + self.rng.below(1500) as usize;
        let events = self.backend.events(max, LEASE, Duration::ZERO).await.expect("events work");
        let any = !events.is_empty() || !self.pool.is_empty();
        self.pool.extend(events);
        shuffle(self.rng, &mut self.pool);
        // The rest comes later, often long after the run has gone on.
        let later = self.rng.below(self.pool.len() as u32) as usize;
        let (mut runs, mut submitted) = (BTreeMap::<RunRef, Advance>::new(), Vec::<(RunRef, EventId)>::new());
        for EventDelivery { id, event, .. } in self.pool.drain(later..) {
            match event {
                Event::Submitted(run) => submitted.push((run, id)),
                Event::Completed(completion) => {
                    let run = completion.run();
                    let advance = runs.entry(run).or_insert_with(|| Advance::new(run, Vec::new()));
                    advance.completions.push(completion);
                    advance.events.push(id);
                }
            }
        }
        let mut batch: Vec<Advance> = runs.into_values().collect();
        shuffle(self.rng, &mut batch);
        for advance in &mut batch {
            let (plan, results) = (&self.runs[&advance.run].plan, AtHand::new(&advance.completions));
            let releases = prepared(plan, &advance.completions);
            advance.prepared = compose(plan, advance.run, &releases, &results);
        }
        let answers = self.backend.settle(&batch).await.expect("settle works");
        let mut done: Vec<EventId> = submitted.iter().map(|(_, id)| *id).collect();
        let mut owed: Vec<(RunRef, Vec<Release>)> = Vec::new();
        for (run, _) in submitted {
            owed.push((run, self.backend.outbox(run).await.expect("reading works")));
        }
        for (advance, answer) in batch.iter().zip(answers) {
            let Ok(Advanced::Settled { settled, acknowledged }) = answer else {
                panic!("{} is not settled: {answer:?}", advance.run);
            };
            let first = &mut self.runs.get_mut(&advance.run).expect("a run of this wave").first;
            for (completion, verdict) in advance.completions.iter().zip(&settled.verdicts) {
                let (node, value) = (completion.task_id.node(), completion.outcome.value());
                let expect = if first.contains_key(&node) { Verdict::Duplicate } else { Verdict::Accepted };
                assert_eq!(*verdict, expect, "{completion:?}");
                first.entry(node).or_insert(value.expect("all are successes"));
            }
            if !acknowledged {
                done.extend(&advance.events);
            }
            owed.push((advance.run, settled.released));
        }
        let dispatched = owed.iter().filter(|(_, released)| !released.is_empty());
        join_all(dispatched.map(|(run, released)| self.dispatch(*run, released))).await;
        self.backend.acknowledge(&done).await.expect("acknowledging works");
        join_all(batch.iter().take(10).map(|advance| self.check_counters(advance.run))).await;
        any
    }

    async fn dispatch(&self, id: RunRef, released: &[Release]) {
        let run = &self.runs[&id];
        let (nodes, scopes) = run.plan.inputs(released);
        let known = self.backend.known(id, &nodes, &scopes).await.expect("reading works");
        let known = known.expect("the run is known");
        let leaves = compose(&run.plan, id, released, &known);
        assert_eq!(leaves.len(), released.len(), "all inputs are known");
        self.backend.dispatch(id, &leaves).await.expect("dispatch works");
    }

    /// The body waits exactly until all of its header have ended, and nothing else does when what it needs is there.
    async fn check_counters(&self, id: RunRef) {
        let run = &self.runs[&id];
        let phases = self.backend.phases(id).await.expect("reading works").expect("the run is known");
        for (node, _) in run.plan.nodes() {
            let phase = phases[node.index()];
            let is_ready = match run.before.get(&node) {
                _ if node == run.body => run.header.iter().all(|node| run.first.contains_key(node)),
                Some(before) => run.first.contains_key(before),
                None => true,
            };
            match (run.first.contains_key(&node), is_ready) {
                (true, _) => assert_eq!(phase, Phase::Succeeded, "{id} {node}"),
                // What starts with its submission's event is in the outbox until then.
                (_, true) => assert!(matches!(phase, Phase::Released | Phase::Dispatched), "{id} {node}"),
                (_, false) => assert_eq!(phase, Phase::Waiting, "{id} {node}"),
            }
        }
    }

    /// Every leaf was called once, with the first outcomes, which are those that are kept.
    async fn check_all(&self) {
        join_all(self.runs.iter().map(|(id, run)| async move {
            let nodes: Vec<NodeNo> = run.plan.nodes().map(|(node, _)| node).collect();
            self.check_counters(*id).await;
            assert_eq!(self.backend.outbox(*id).await.expect("reading works"), []);
            let status = self.backend.status(id.id).await.expect("reading works").expect("the run is known");
            let counts = (status.outcome, status.open, status.done as usize);
            assert_eq!(counts, (RunOutcome::Succeeded, 0, nodes.len()), "{id}");
            let known = self.backend.known(*id, &nodes, &[]).await.expect("reading works");
            let known = known.expect("the run is known");
            for node in nodes {
                let task: TaskId = id.task(node);
                assert_eq!(known.outcomes[&node], Outcome::Success(run.first[&node].clone()), "{task}");
                assert_eq!(run.called[&node], [run.arguments(node)], "{task}");
            }
            assert!(self.backend.forget(*id).await.expect("forgetting works"));
        }))
        .await;
    }
}

fn compose(plan: &Plan, run: RunRef, released: &[Release], results: &impl Results) -> Vec<Dispatch> {
    let leaf = |release: &Release| {
        let message = Arc::new(plan.message(run, *release, results)?);
        Some(Dispatch {
            release: *release,
            queue: DEFAULT_QUEUE.into(),
            message,
            start: None,
            lane: Lane::default(),
        })
    };
    released.iter().filter_map(leaf).collect()
}

fn shuffle<T>(rng: &mut Rng, items: &mut [T]) {
    for i in 1..items.len() {
        items.swap(i, rng.below(i as u32 + 1) as usize);
    }
}
