//! Choosing the next operation, by the seed and by what has happened so far.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{DEFAULT_QUEUE, Dispatch, Event, Lane, LaneOrder, Take, WorkerId};
use celeriac_engine::advance::Phase;
use celeriac_engine::plan::{Results, ScopeNo};
use celeriac_engine::{Plan, Release, RunState};
use celeriac_primitives::{
    Addition, Call, Canvas, Completion, Incarnation, Item, Json, Members, NodeNo, Outcome, Own, RunId,
    RunRef, Signature, TaskError, TaskMessage, TaskName,
};

use super::model::{Model, Tracked};
use super::operation::{Held, Operation, Step, Submission, Taken};
use crate::prepared::{AtHand, prepared};
use crate::random::{self, Rng, Shape};

/// So many ids are used over and over.
const IDS: u64 = 24;

/// At most so many large runs are there at the same time: they are slow to compare.
const LARGE_MAX: usize = 2;

/// A run of more nodes is large.
const LARGE_NODES: usize = 400;

/// More completions of one run are settled alone: a backend may settle them in several steps.
pub(super) const STEP_MAX: usize = 500;

#[derive(Debug)]
pub(super) struct Chooser {
    rng: Rng,
    clients: usize,
}

impl Chooser {
    pub(super) fn new(seed: u64, clients: usize) -> Self {
        Self { rng: Rng::new(seed), clients }
    }

    /// The next operation, and which client of the subject does it. `knows` tells whether a client has the
    /// plan of a run at hand.
    pub(super) fn next(
        &mut self,
        model: &Model,
        knows: &dyn Fn(usize, RunRef) -> bool,
    ) -> (usize, Operation) {
        let (client, mut operation) = self.any(model);
        if let Operation::Settle(steps) = &mut operation
            && steps.len() > 1
        {
            // A coordinator composes nothing in advance then, and a backend that reads the plan first settles
            // that run after the others.
            let unknown = steps.iter_mut().filter(|step| !knows(client, step.run));
            unknown.for_each(|step| step.prepared.clear());
        }
        (client, operation)
    }

    fn any(&mut self, model: &Model) -> (usize, Operation) {
        let mut client = self.rng.below(self.clients as u32) as usize;
        let operation = match self.rng.below(100) {
            0..10 => self.submit(model),
            10..11 => Operation::Plan(self.read_id(model)),
            11..31 => Operation::Settle(self.steps(model)),
            31..39 => self.settle_events(model, &mut client),
            39..41 => Operation::Outbox(self.owing(model)),
            41..43 => Operation::Owing([0, 1, 3, 1000][self.pick(4)]),
            43..46 => self.known(model),
            46..64 => self.dispatch(model),
            64..65 => Operation::Status(self.read_id(model)),
            65..66 => Operation::Changed(self.read_id(model)),
            66..67 => Operation::Phases(self.read_id(model)),
            67..69 => self.list(model),
            69..71 => Operation::Forget(self.forgettable(model)),
            71..73 => self.begin(model),
            73..81 => self.receive(),
            81..87 => self.finish(model),
            87..89 => self.held(model, Operation::Renew),
            89..92 => self.held(model, Operation::HandBack),
            92..93 => Operation::Retire(self.worker(), self.queues()),
            93..95 => Operation::Sweep([0, 1, 2, 5][self.pick(4)]),
            95..98 => Operation::Events([0, 1, 3, 10, usize::MAX][self.pick(5)]),
            _ => self.acknowledge(model, &mut client),
        };
        (client, operation)
    }

    fn pick(&mut self, count: usize) -> usize {
        self.rng.below(count as u32) as usize
    }

    fn choose<'i, T>(&mut self, items: &'i [T]) -> Option<&'i T> {
        if items.is_empty() { None } else { items.get(self.pick(items.len())) }
    }

    /// Some of these in a random order.
    fn some<T: Clone>(&mut self, items: &[T], max: usize) -> Vec<T> {
        let mut some = items.to_vec();
        for i in 0..some.len().min(max) {
            let other = i + self.pick(some.len() - i);
            some.swap(i, other);
        }
        some.truncate(max);
        some
    }

    fn id(&mut self) -> RunId {
        let number = self.rng.below(IDS as u32).into();
        RunId::from_parts(1_700_000_000_000 + number, number)
    }

    /// The run that has an id; often the one that had it before.
    fn run(&mut self, model: &Model, id: RunId) -> RunRef {
        let current = model.current(id).map(|(run, _)| run);
        match model.gone.get(&id) {
            Some((gone, _, _)) if current.is_none() || self.rng.percent(12) => *gone,
            _ => current.unwrap_or_else(|| id.incarnation(Incarnation::new(self.rng.next_u64()))),
        }
    }

    /// Mostly a run that is there.
    fn any_id(&mut self, model: &Model) -> RunRef {
        let known: Vec<RunRef> = model.runs.keys().copied().collect();
        match self.choose(&known) {
            Some(run) if self.rng.percent(80) => self.run(model, run.id),
            _ => {
                let id = self.id();
                self.run(model, id)
            }
        }
    }

    /// A run, and often none.
    fn read_id(&mut self, model: &Model) -> RunRef {
        if self.rng.percent(50) {
            let id = self.id();
            self.run(model, id)
        } else {
            self.any_id(model)
        }
    }

    /// A run, mostly one in which there is something to do.
    fn busy(&mut self, model: &Model) -> RunRef {
        let busy: Vec<RunRef> =
            model.runs.iter().filter(|(_, run)| !run.state.ended()).map(|(id, _)| *id).collect();
        match self.choose(&busy) {
            Some(run) if self.rng.percent(85) => *run,
            _ => self.any_id(model),
        }
    }

    /// A run, mostly one that owes a dispatch.
    fn owing(&mut self, model: &Model) -> RunRef {
        let owing: Vec<RunRef> =
            model.runs.iter().filter(|(_, run)| run.state.owed() > 0).map(|(id, _)| *id).collect();
        match self.choose(&owing) {
            Some(run) if self.rng.percent(85) => *run,
            _ => self.any_id(model),
        }
    }

    /// Mostly a run that has ended.
    fn forgettable(&mut self, model: &Model) -> RunRef {
        let over: Vec<RunRef> =
            model.runs.iter().filter(|(_, run)| run.state.ended()).map(|(id, _)| *id).collect();
        match self.choose(&over) {
            Some(run) if self.rng.percent(60) => *run,
            _ => self.read_id(model),
        }
    }

    fn submit(&mut self, model: &Model) -> Operation {
        let run = self.id().incarnation(Incarnation::new(self.rng.next_u64()));
        let known = model.current(run.id).map(|(_, run)| (run.canvas.clone(), run.plan.clone()));
        let gone = || model.gone.get(&run.id).map(|(_, canvas, plan)| (canvas.clone(), plan.clone()));
        let known = known.or_else(gone);
        let (canvas, plan) = match known {
            Some(same) if self.rng.percent(40) => same,
            _ => self.plan(model),
        };
        let retention = match self.rng.below(10) {
            0..4 => None,
            4..8 => Some(Duration::from_secs(24 * 60 * 60)),
            _ => Some(super::SHORT),
        };
        let (state, released) = RunState::start(&plan);
        let mut starts: Vec<Dispatch> =
            released.iter().map(|release| self.leaf(run, &plan, *release, &state)).collect();
        match self.rng.below(12) {
            0..4 => {}
            4..6 => drop(starts.pop()),
            // As many as it takes, and yet not those.
            8 if !starts.is_empty() => starts[0] = starts[starts.len() - 1].clone(),
            9 => starts.extend(starts.first().cloned()),
            _ => starts.clear(),
        }
        Operation::Submit(Submission { run, canvas, plan, starts, retention })
    }

    /// A canvas of any size, so that all forms of storage come up.
    fn plan(&mut self, model: &Model) -> (Canvas, Arc<Plan>) {
        let large = model.runs.values().filter(|run| run.plan.len() > LARGE_NODES).count();
        let seed = self.rng.next_u64();
        let small = Shape {
            depth_max: 3,
            leaves_max: 8,
            fail_percent: 0,
            callback_percent: 25,
            policy_percent: 50,
            replace_percent: 0,
            add_percent: 0,
            option_percent: 0,
        };
        let medium = Shape { fail_percent: 0, callback_percent: 12, option_percent: 0, ..Shape::default() };
        let canvas = match self.rng.below(100) {
            0..40 => random::canvas(seed, &small),
            40..72 => random::canvas(seed, &medium),
            72..82 => self.wide(seed, 20, 300),
            82..91 if large < LARGE_MAX => self.wide(seed, 1000, 1500),
            91..96 => {
                let large = Signature::new("large").expect("a good name");
                let large = large.arg("x".repeat(300_000)).expect("text has a JSON form");
                Canvas::from(large).then(random::canvas(seed, &medium))
            }
            _ => random::canvas(seed, &small),
        };
        // A run that is forgotten is told to the queues that it names.
        let mut canvas = canvas;
        let queue = QUEUES[self.pick(QUEUES.len())];
        *canvas.options_mut() = canvas.options().clone().with_queue(queue).expect("a good name");
        let plan = Plan::compile(&canvas);
        match plan {
            Ok(plan) => (canvas, Arc::new(plan)),
            // Not everything that can be written can be run.
            Err(_) => {
                let canvas = crate::bench::sig("a");
                let plan = Plan::compile(&canvas).expect("a signature can be run");
                (canvas, Arc::new(plan))
            }
        }
    }

    /// A wide canvas: its width in the first step, in the last, in a header, or twice.
    fn wide(&mut self, seed: u64, from: u32, to: u32) -> Canvas {
        let shape = Shape {
            depth_max: 2,
            leaves_max: 6,
            fail_percent: 0,
            callback_percent: 30,
            policy_percent: 50,
            replace_percent: 0,
            add_percent: 0,
            option_percent: 0,
        };
        let part = random::canvas(seed, &shape);
        let width = from + self.rng.below(to - from);
        let many = |count: u32| (0..count).map(|_| crate::bench::sig("a")).collect::<Vec<_>>();
        match self.rng.below(4) {
            0 => Canvas::chord(many(width), part),
            1 => part.then(Canvas::group(many(width))),
            2 => Canvas::group(many(width / 2)).then(Canvas::group(many(width / 2))),
            _ => Canvas::chord(many(width).into_iter().chain([part]), crate::bench::sig("body")),
        }
    }

    fn steps(&mut self, model: &Model) -> Vec<Step> {
        let count = [0, 1, 1, 1, 1, 2, 3, 4][self.pick(8)];
        let mut steps = Vec::new();
        for _ in 0..count {
            let run = self.busy(model);
            let completions = self.completions(model, run);
            let prepared = self.prepared(model, run, &completions);
            let step = Step { run, completions, prepared, events: Vec::new() };
            if step.completions.len() > STEP_MAX {
                return vec![step];
            }
            steps.push(step);
        }
        steps
    }

    fn completions(&mut self, model: &Model, run: RunRef) -> Vec<Completion> {
        let tracked = model.runs.get(&run);
        let open: Vec<NodeNo> = tracked.map_or_else(Vec::new, |tracked| {
            let is_open = |phase| matches!(phase, Phase::Released | Phase::Dispatched | Phase::Replaced);
            let phases = tracked.state.phases().enumerate();
            phases.filter(|(_, phase)| is_open(*phase)).map(|(i, _)| NodeNo::from_index(i)).collect()
        });
        let count = [0, 1, 1, 1, 1, 2, 3, 6][self.pick(8)];
        let mut completions: Vec<Completion> =
            (0..count).map(|_| self.completion(run, tracked, &open)).collect();
        // Wide runs would not come to their end one by one.
        if open.len() > 30 && self.rng.percent(50) {
            let many = [open.len() / 4, open.len() / 2, open.len()][self.pick(3)];
            completions.extend(self.some(&open, many).into_iter().map(|node| Completion {
                task_id: run.task(node),
                attempt: attempt_of(tracked, node),
                incarnation: run.incarnation,
                outcome: if self.rng.percent(97) { self.success() } else { self.outcome() },
            }));
        }
        // The same once more, with other bytes.
        for i in 0..completions.len().min(20) {
            if self.rng.percent(10) {
                let again = Completion { outcome: self.outcome(), ..completions[i].clone() };
                let place = self.pick(completions.len() + 1);
                completions.insert(place, again);
            }
        }
        completions
    }

    fn completion(&mut self, run: RunRef, tracked: Option<&Tracked>, open: &[NodeNo]) -> Completion {
        let nodes = tracked.map_or(5, |tracked| tracked.plan.len());
        let any = NodeNo::from_index(self.pick(nodes.max(1)));
        let attempt_of = |node| attempt_of(tracked, node);
        let open = self.choose(open).copied().unwrap_or(any);
        let (node, attempt) = match self.rng.below(100) {
            0..70 => (open, attempt_of(open)),
            70..77 => (open, attempt_of(open) + 1 + self.rng.below(2)),
            77..83 => (open, attempt_of(open) - 1),
            83..97 => (any, attempt_of(any)),
            97..99 => (NodeNo::from_index(nodes + self.pick(5)), 1),
            _ => (NodeNo::from_index(u32::MAX as usize - 1), 1),
        };
        let outcome = if self.rng.percent(60) { self.success() } else { self.outcome() };
        Completion { task_id: run.task(node), attempt, outcome, incarnation: run.incarnation }
    }

    fn success(&mut self) -> Outcome {
        Outcome::Success(Json::from_compact(self.rng.below(1000).to_string()))
    }

    /// Any way to end.
    fn outcome(&mut self) -> Outcome {
        let text = format!("because {} ✗", self.rng.below(1000));
        match self.rng.below(20) {
            0 => Outcome::Ignored,
            1 => Outcome::Rejected(text),
            2 => Outcome::Revoked(text),
            3 => Outcome::Expired,
            4 => Outcome::TimedOut { limit_ms: self.rng.next_u64() },
            5 => Outcome::WorkerLost { deliveries: self.rng.below(9) },
            6 => Outcome::UnknownTask,
            7 => Outcome::Undecodable(text),
            8 => Outcome::Failed(TaskError::new("ValueError", text)),
            9..12 => Outcome::retry(TaskError::new("IOError", text)),
            12 => Outcome::Success(Json::string(&text)),
            13 | 14 => Outcome::Replace(Json::string(&text)),
            15 => {
                let value = Json::string(&text);
                Outcome::Add(Box::new(Addition { own: Own::Value(value.clone()), added: vec![value] }))
            }
            16 | 17 => {
                let added =
                    (0..self.rng.below(3)).map(|i| Item::Value(Json::new(&i).expect("a number is JSON")));
                let added = added.collect();
                Outcome::Members(Box::new(Members { value: Json::string(&text), added }))
            }
            _ => self.success(),
        }
    }

    /// What a coordinator would have composed in advance, all or a part of it, and sometimes leaves that
    /// nothing here releases.
    fn prepared(&mut self, model: &Model, run: RunRef, completions: &[Completion]) -> Vec<Dispatch> {
        let Some(tracked) = model.runs.get(&run).filter(|_| self.rng.percent(60)) else { return Vec::new() };
        let mut releases = prepared(&tracked.plan, completions);
        if self.rng.percent(20) {
            releases = self.some(&releases, 3);
        }
        if self.rng.percent(20) && !tracked.plan.is_empty() {
            for _ in 0..1 + self.rng.below(3) {
                let node = NodeNo::from_index(self.pick(tracked.plan.len()));
                let is_new = releases.iter().all(|release| release.node != node)
                    && completions.iter().all(|completion| completion.task_id.node() != node);
                if tracked.plan.leaf(node).is_some() && is_new {
                    releases.push(Release { node, attempt: 1 + self.rng.below(10) / 9 });
                }
            }
        }
        let results = AtHand::new(completions);
        releases.into_iter().map(|release| self.leaf(run, &tracked.plan, release, &results)).collect()
    }

    /// Settles what has happened as a coordinator does: all that it holds of some runs.
    fn settle_events(&mut self, model: &Model, client: &mut usize) -> Operation {
        let held = self.some(&model.events, 1);
        *client = held.first().map_or(*client, |taken| taken.client);
        let mine: Vec<Taken> = model.events.iter().filter(|taken| taken.client == *client).cloned().collect();
        let count = [1, 2, 5, 40][self.pick(4)];
        let mut runs: BTreeMap<RunRef, Step> = BTreeMap::new();
        for taken in self.some(&mine, count) {
            let run = match &taken.event {
                Event::Submitted(run) => *run,
                Event::Completed(completion) => completion.run(),
            };
            let step = runs.entry(run).or_insert_with(|| Step {
                run,
                completions: Vec::new(),
                prepared: Vec::new(),
                events: Vec::new(),
            });
            if let Event::Completed(completion) = &taken.event {
                step.completions.push(completion.clone());
            }
            step.events.push(taken);
        }
        let mut steps: Vec<Step> = runs.into_values().collect();
        for step in &mut steps {
            step.prepared = self.prepared(model, step.run, &step.completions);
        }
        Operation::Settle(steps)
    }

    fn known(&mut self, model: &Model) -> Operation {
        let run = self.any_id(model);
        let other = self.any_id(model);
        let nodes = model.runs.get(&run).map_or(5, |run| run.plan.len() + 2);
        let count = [0, 1, 5, nodes][self.pick(4)];
        let nodes = (0..count).map(|_| NodeNo::from_index(self.pick(nodes))).collect();
        // Also scopes that this run does not have.
        let mut scopes = Vec::new();
        for run in [run, other] {
            if let Some(tracked) = model.runs.get(&run) {
                let all: Vec<ScopeNo> = tracked.plan.scopes().map(|(scope, _)| scope).collect();
                scopes.extend(self.some(&all, 4));
            }
        }
        Operation::Known(run, nodes, scopes)
    }

    fn dispatch(&mut self, model: &Model) -> Operation {
        let run = self.owing(model);
        let Some(tracked) = model.runs.get(&run) else {
            let release = Release { node: NodeNo::from_index(self.pick(4)), attempt: 1 };
            return Operation::Dispatch(run, vec![fake(run, DEFAULT_QUEUE, release, &mut self.rng)]);
        };
        let outbox: Vec<Release> = tracked.state.outbox().collect();
        let count = [1, 2, 5, usize::MAX, usize::MAX][self.pick(5)];
        let mut releases =
            if self.rng.percent(70) && count > outbox.len() { outbox } else { self.some(&outbox, count) };
        while self.rng.percent(20) {
            let node = NodeNo::from_index(self.pick(tracked.plan.len() + 1));
            let attempt = tracked.state.attempt(node).unwrap_or(1) + self.rng.below(3);
            let wrong = Release { node, attempt: attempt.saturating_sub(1) };
            let release = self.some(&releases, 1).pop().filter(|_| self.rng.percent(40)).unwrap_or(wrong);
            releases.insert(self.pick(releases.len() + 1), release);
        }
        let leaves = releases.iter().map(|release| self.leaf(run, &tracked.plan, *release, &tracked.state));
        Operation::Dispatch(run, leaves.collect())
    }

    /// A leaf ready to be queued; one that cannot be composed has arguments that nobody else has.
    fn leaf(&mut self, run: RunRef, plan: &Plan, release: Release, results: &impl Results) -> Dispatch {
        let queue = queue_of(plan, release.node);
        match plan.message(run, release, results) {
            Some(message) => Dispatch {
                release,
                queue: queue.into(),
                message: Arc::new(message),
                start: None,
                lane: lane_of(release.node),
            },
            None => fake(run, queue, release, &mut self.rng),
        }
    }

    fn list(&mut self, model: &Model) -> Operation {
        let before = if self.rng.percent(50) { Some(self.any_id(model).id) } else { None };
        Operation::List(before, [0, 1, 3, 1000][self.pick(4)])
    }

    fn worker(&mut self) -> WorkerId {
        WorkerId::new(["w0", "w1", "w2"][self.pick(3)])
    }

    fn queues(&mut self) -> Vec<Arc<str>> {
        let count = 1 + self.pick(QUEUES.len());
        self.some(QUEUES, count).into_iter().map(Arc::from).collect()
    }

    fn receive(&mut self) -> Operation {
        // Few at a time whose leases pass: a sweep may take up very many in parts, whose order is not
        // promised.
        let (lease, kinds) = if self.rng.percent(10) { (Duration::ZERO, 5) } else { (super::LEASE, 6) };
        let max = [0, 1, 2, 5, 20, 1000][self.pick(kinds)];
        let order = if self.rng.below(4) == 0 { LaneOrder::LastFirst } else { LaneOrder::FirstFirst };
        let take = Take::new(max, lease).order(order).suspects(self.rng.percent(80));
        Operation::Receive { worker: self.worker(), queues: self.queues(), take }
    }

    /// A worker begins something that it has to ask for, or that it would have had to.
    fn begin(&mut self, model: &Model) -> Operation {
        let Some(held) = self.deliveries(model, 1).pop() else { return self.receive() };
        let once = held.deliveries == 1 || self.rng.percent(30);
        let worker = if self.rng.percent(75) { held.worker.clone() } else { self.worker() };
        Operation::Begin(worker, held, once)
    }

    /// Some deliveries: mostly held ones, sometimes one that is gone, or one twice.
    fn deliveries(&mut self, model: &Model, max: usize) -> Vec<Held> {
        let only_held = self.rng.percent(75);
        let all: Vec<Held> =
            model.deliveries.iter().filter(|held| held.is_held || !only_held).cloned().collect();
        let mut some = self.some(&all, max);
        if self.rng.percent(10) {
            some.extend(some.first().cloned());
        }
        some
    }

    fn finish(&mut self, model: &Model) -> Operation {
        let max = [1, 1, 3, 10, 50][self.pick(5)];
        let done = self.deliveries(model, max).into_iter().map(|held| {
            let outcome = if self.rng.percent(70) { self.success() } else { self.outcome() };
            let completion = held.message.completion(outcome);
            (held, completion)
        });
        Operation::Finish(done.collect())
    }

    /// Something that a worker does with its deliveries, or with those of another.
    fn held(&mut self, model: &Model, make: fn(WorkerId, Vec<Held>) -> Operation) -> Operation {
        let max = [1, 2, 5][self.pick(3)];
        let some = self.deliveries(model, max);
        let worker = match some.first() {
            Some(held) if self.rng.percent(75) => held.worker.clone(),
            _ => self.worker(),
        };
        make(worker, some)
    }

    fn acknowledge(&mut self, model: &Model, client: &mut usize) -> Operation {
        let all: Vec<Taken> = if self.rng.percent(80) {
            model.events.clone()
        } else {
            model.past_events.iter().cloned().collect()
        };
        // Ids are names of the client that has taken the events.
        let first = self.some(&all, 1);
        *client = first.first().map_or(*client, |taken| taken.client);
        let mine: Vec<Taken> = all.into_iter().filter(|taken| taken.client == *client).collect();
        let max = [1, 3, 40, 200][self.pick(4)];
        Operation::Acknowledge(self.some(&mine, max))
    }
}

pub(super) const QUEUES: &[&str] = &[DEFAULT_QUEUE, "quick", "slow"];

/// One of the plan's, or the one of leaves that name none.
fn queue_of(plan: &Plan, node: NodeNo) -> &'static str {
    let is_named =
        |name: &&&str| **name == DEFAULT_QUEUE || plan.queues().iter().any(|queue| **queue == ***name);
    let named: Vec<&&str> = QUEUES.iter().filter(is_named).collect();
    named[(node.index() / 2) % named.len()]
}

fn lane_of(node: NodeNo) -> Lane {
    [Lane::default(), Lane::new(0, true), Lane::new(7, false)][(node.index() / 3) % 3]
}

fn fake(run: RunRef, queue: &str, release: Release, rng: &mut Rng) -> Dispatch {
    let (leaf, task) = (run.task(release.node), TaskName::new("fake").expect("a good name"));
    let args = Json::list([Json::from_compact(rng.below(1000).to_string())]);
    let kwargs = Json::from_compact("{}");
    let message = TaskMessage::new(leaf, release.attempt, task, Call::Once, args, kwargs);
    let message = TaskMessage { incarnation: run.incarnation, ..message };
    Dispatch {
        release,
        queue: queue.into(),
        message: Arc::new(message),
        start: None,
        lane: lane_of(release.node),
    }
}

/// The attempt at a node on which somebody may report.
fn attempt_of(tracked: Option<&Tracked>, node: NodeNo) -> u32 {
    let attempt = tracked.and_then(|run| run.state.attempt(node)).unwrap_or(1);
    let is_replaced = tracked.is_some_and(|run| run.state.phase(node) == Some(Phase::Replaced));
    attempt + u32::from(is_replaced)
}
