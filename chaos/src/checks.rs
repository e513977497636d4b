//! The invariants, each a function over the store, its raw keys and the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use celeriac::App;
use celeriac::engine::Plan;
use celeriac::engine::plan::{Edge, NodeKind, ScopeNo};
use celeriac::engine::view::Standing;
use celeriac::primitives::{Call as How, Json, NodeNo, Outcome, Path as NodePath, RunId, TaskId};
use celeriac::redis::RedisBackend;
use celeriac::runtime::{GetError, Handle};
use celeriac_conformance::{tasks, whole};
use futures::stream::{self, StreamExt};

use crate::canvases::{self, Calls, Expected};
use crate::client::{Fate, Forgotten, Run};
use crate::crew::Crew;
use crate::faults::{Cause, Excuses};
use crate::keys::{self, Dump};
use crate::ledger::{Call, End, Ledger, now_us};
use crate::options::{Ingredients, LEASE, SWEEP};
use crate::place::Place;
use crate::report::Report;
use crate::rogues;
use crate::sampler::Seen;

/// What is known when everything has settled.
pub(crate) struct Evidence<'a> {
    pub(crate) seed: u64,
    pub(crate) with: Ingredients,
    /// After how many deliveries a leaf may fail.
    pub(crate) deliveries_max: usize,
    /// Whether Redis may lose what it has acknowledged: a replica takes over without the last writes, as does
    /// a file that is not written at once.
    pub(crate) may_lose: bool,
    pub(crate) redis_kills: usize,
    /// How many runs are under way at the same time.
    pub(crate) at_once: usize,
    pub(crate) runs: Vec<Run>,
    pub(crate) forgotten: Vec<Forgotten>,
    pub(crate) ledger: Ledger,
    pub(crate) excuses: Excuses,
    pub(crate) backend: RedisBackend,
    pub(crate) place: &'a Place,
}

/// What the store says of a run that has ended.
struct Observed {
    /// The value, or path and kind of the failure that was reported.
    result: Result<Json, (String, String)>,
    /// All failures outside callbacks, likewise.
    failures: Vec<(String, String)>,
    /// The leaves that were lost with their workers.
    lost: Vec<Lost>,
    wrong: Vec<String>,
}

/// A leaf that was lost with its worker.
struct Lost {
    path: NodePath,
    task: TaskId,
    /// Whether it is to run at most once.
    once: bool,
    /// Whether it kills its workers.
    kills: bool,
}

/// Everything.
pub(crate) async fn all(evidence: Evidence<'_>, seen: &mut Seen, report: &mut Report) {
    let Evidence {
        seed,
        with,
        deliveries_max,
        may_lose,
        runs,
        forgotten,
        ledger,
        excuses,
        backend,
        place,
        ..
    } = evidence;
    report.runs = runs.len();
    report.wrong.extend(ledger.unreadable.iter().map(|line| format!("the ledger has the line {line:?}")));
    let app = App::builder("chaos").backend(backend).build().expect("an app without tasks fits together");

    i1_no_accepted_run_is_missing(&app, &runs, may_lose, report).await;
    let bound = evidence.redis_kills * evidence.at_once;
    if report.gone > bound {
        report.wrong.push(format!("I1: {} runs are gone with the store, more than {bound}", report.gone));
    }
    i8_every_run_has_ended(&runs, report);
    let mut eye = keys::Eye::new(place);
    let mut parts: BTreeMap<u64, Vec<Part>> = BTreeMap::new();
    for run in &runs {
        match parts_of(&app, run).await {
            Ok(found) => drop(parts.insert(run.place, found)),
            Err(error) => report.wrong.push(at(run, &error)),
        }
    }
    for Part { run, leaf, .. } in parts.values().flatten() {
        let ready_us = leaf.map_or(0, |leaf| {
            let calls = ledger.run(leaf.run()).find(|(task, _)| *task == leaf);
            calls.and_then(|(_, calls)| returned(calls)).unwrap_or(0)
        });
        if let Ok(Some(dump)) = eye.dump(run.id) {
            report.wrong.extend(i3_counters_are_what_the_states_say(run, &dump));
            if dump.owed > 0 && run.fate == Fate::Ended {
                report.wrong.push(at(run, "I6: a leaf is released and not queued"));
            }
            // I2 and I7, once more at the end.
            seen.compare(run, now_us(), &dump);
        }
        i5_first_starts_in_order(run, ready_us, &ledger, report);
        i7_an_attempt_follows_a_retry(run, &ledger, report);
        leaves_run_twice_only_for_a_reason(run, &ledger, &excuses, may_lose, report);
    }
    nothing_of_a_forgotten_run_begins(&forgotten, &ledger, &excuses, may_lose, report);
    report.looks = seen.looks;
    report.wrong.append(&mut seen.wrong);
    for (before_us, after_us, wrong) in seen.went_back.drain(..) {
        // While a write to the disk is slow, Redis puts the next ones off for up to two seconds, and answers.
        if may_lose && excuses.redis_was_killed(before_us, after_us) {
            report.rolled_back += 1;
        } else {
            report.wrong.extend(wrong);
        }
    }

    let ended = runs.iter().filter(|run| run.fate == Fate::Ended);
    let observed = stream::iter(ended).map(|run| {
        let app = &app;
        let parts = parts.get(&run.place).map_or(&[][..], Vec::as_slice);
        async move { (run, parts, observe(app, run, parts).await) }
    });
    let mut observed = std::pin::pin!(observed.buffer_unordered(8));
    while let Some((run, parts, observed)) = observed.next().await {
        match observed {
            Err(error) => report.wrong.push(at(run, &error)),
            Ok(observed) => {
                let canvas = canvases::canvas(seed, run.place, &with);
                let lost = i13_no_leaf_is_lost_for_another(
                    run,
                    &ledger,
                    &excuses,
                    deliveries_max,
                    &observed.lost,
                    report,
                );
                match canvases::expect(&canvas, &lost) {
                    Err(error) => report.wrong.push(at(run, &format!("eager refuses it: {error}"))),
                    Ok(expected) => {
                        i4_values_and_inputs_are_the_evaluator_s(
                            run, parts, &ledger, &lost, &expected, &observed, report,
                        );
                    }
                }
                // I11
                report.wrong.extend(observed.wrong.iter().map(|what| at(run, what)));
                report.failed_runs += usize::from(observed.result.is_err());
            }
        }
    }
    i9_nothing_is_left_of_forgotten_runs(&app, &runs, place, report).await;
}

/// I1: whatever was accepted is there. Without `appendfsync always`, or where a replica has taken over, Redis
/// may have lost what it had acknowledged.
async fn i1_no_accepted_run_is_missing(app: &App, runs: &[Run], may_lose: bool, report: &mut Report) {
    for run in runs {
        let status = app.backend().status(run.id).await;
        match (status, run.fate) {
            (Ok(Some(_)), Fate::Open | Fate::Ended) => {}
            (Ok(None), _) | (Ok(_), Fate::Vanished) if !may_lose => {
                report.lost += 1;
                report.wrong.push(at(run, "I1: it was accepted and is not there"));
            }
            (Ok(None), Fate::Open) => {
                report.lost += 1;
                report.wrong.push(at(run, "I1: it is gone with the store, and nobody was told"));
            }
            (Ok(None), _) | (Ok(_), Fate::Vanished) => report.gone += 1,
            (Err(error), _) => report.wrong.push(at(run, &format!("I1: {error}"))),
        }
    }
}

/// I3: what a run counts is what the states of its nodes say.
pub(crate) fn i3_counters_are_what_the_states_say(run: &Run, dump: &Dump) -> Vec<String> {
    let plan = &*run.plan;
    if dump.states.len() != plan.len() {
        return vec![at(run, &format!("I3: {} states of {} nodes", dump.states.len(), plan.len()))];
    }
    let mut wrong = Vec::new();
    let mut differ = |what: &str, is: u32, expect: u32| {
        if is != expect {
            wrong.push(at(run, &format!("I3: {what} is {is}, not {expect}")));
        }
    };
    let state = |node: NodeNo| dump.states[node.number() as usize - 1];
    let (mut open, mut owed, mut left, mut done) = (0, 0, 0, 0);
    for ((number, node), waits) in plan.nodes().zip(plan.waits()) {
        let gate = node.gate().is_some_and(|gate| dump.fields.contains_key(&('x', gate.index() as u32)));
        let is_closed = |scope: ScopeNo| dump.fields.contains_key(&('x', scope.index() as u32));
        let has_ended = |from, edge: Edge| state(from) == b'S' || edge.part().is_some_and(is_closed);
        let seen = plan.predecessors(number).filter(|(from, edge)| has_ended(*from, *edge)).count() as u32;
        let (seen, state) = (seen + u32::from(gate), state(number));
        differ(&format!("whether {number} waits"), u32::from(state == b'W'), u32::from(seen < *waits));
        let counted = if seen < *waits { seen } else { 0 };
        differ(&format!("the counter of {number}"), dump.number('c', number.number()), counted);
        let is_leaf = matches!(node.kind, NodeKind::Leaf(_));
        let has_ended = is_leaf && matches!(state, b'S' | b'F');
        let has_outcome = dump.fields.contains_key(&('o', number.number()));
        // A leaf that asked to run again has that as its outcome until it has ended.
        let retried = is_leaf && dump.number('a', number.number()) > 1;
        let expect = u32::from(has_ended || retried);
        differ(&format!("whether {number} has an outcome"), u32::from(has_outcome), expect);
        open += u32::from(matches!(state, b'R' | b'D' | b'P'));
        owed += u32::from(state == b'R');
        done += u32::from(has_ended);
        left += u32::from(plan.is_output(number) && state != b'S');
    }
    differ("open", dump.open, open);
    differ("owed", dump.owed, owed);
    differ("left", dump.left, left);
    differ("done", dump.done, done);
    wrong
}

/// I4: the value, the failures and the arguments of every call are those of the reference evaluator, and no
/// leaf is missing.
fn i4_values_and_inputs_are_the_evaluator_s(
    run: &Run,
    parts: &[Part],
    ledger: &Ledger,
    lost: &BTreeSet<NodePath>,
    expected: &Expected,
    observed: &Observed,
    report: &mut Report,
) {
    let failed = |failure: &celeriac::engine::eager::EagerFailure| {
        (failure.path.to_string(), failure.error.kind.clone())
    };
    let mut failures: Vec<_> = expected.evaluation.failures.iter().map(failed).collect();
    failures.sort();
    match (&expected.evaluation.result, &observed.result) {
        (Ok(expect), Ok(value)) if tasks::without_failures(expect) == *value => {}
        // Of several failures, the first in time is reported.
        (Err(_), Err(failure)) if failures.contains(failure) => {}
        (expect, result) => {
            report.wrong.push(at(run, &format!("I4: the result is {result:?}, not {expect:?}")));
        }
    }
    if observed.failures != failures {
        report.wrong.push(at(run, &format!("I4: failures {:?}, not {failures:?}", observed.failures)));
    }
    let mut calls = Calls::new();
    for Part { place, run, .. } in parts {
        for (task, made) in ledger.run(run.id) {
            let path = place.join(&run.plan.path(task.node()));
            if lost.contains(&path) {
                continue;
            }
            let hashes: BTreeSet<u64> = made.iter().map(|call| call.hash).collect();
            hashes.into_iter().for_each(|hash| *calls.entry(canvases::key(&path, hash)).or_default() += 1);
        }
    }
    if calls != expected.calls {
        let differ = |a: &Calls, b: &Calls| -> Vec<String> {
            let other = a.iter().filter(|(key, count)| b.get(*key) != Some(count));
            other.take(3).map(|((path, _), count)| format!("{path} {count} times")).collect()
        };
        let (more, less) = (differ(&calls, &expected.calls), differ(&expected.calls, &calls));
        report.wrong.push(at(run, &format!("I4: called {more:?}, where the evaluator calls {less:?}")));
    }
}

/// I5: nobody begins before those it waits for have returned, and nobody in a segment before its leaf has.
fn i5_first_starts_in_order(run: &Run, ready_us: u64, ledger: &Ledger, report: &mut Report) {
    let plan = &*run.plan;
    let calls: BTreeMap<NodeNo, &[Call]> =
        ledger.run(run.id).map(|(task, calls)| (task.node(), calls)).collect();
    // When the value of a node was there at the earliest. Predecessors have smaller numbers: theirs is known.
    let mut there: Vec<u64> = Vec::with_capacity(plan.len());
    for (number, _) in plan.nodes() {
        // Of a part that may have failed, nobody knows here when it did.
        let needed = plan.predecessors(number).filter(|(_, edge)| edge.part().is_none());
        let ready = needed.map(|(from, _)| there[from.number() as usize - 1]).max();
        let ready = ready.unwrap_or(ready_us);
        let calls = calls.get(&number).copied().unwrap_or_default();
        if let Some(first) = calls.first()
            && first.begun_us < ready
        {
            let early = ready - first.begun_us;
            let what = format!("I5: {} began {early} µs before its input was there", plan.path(number));
            report.wrong.push(at(run, &what));
        }
        there.push(returned(calls).unwrap_or(ready));
    }
}

/// When the last of a leaf's calls returned for the first time.
fn returned(calls: &[Call]) -> Option<u64> {
    let mut first: BTreeMap<u64, u64> = BTreeMap::new();
    for call in calls {
        if let Some((ended, End::Ok | End::Failed)) = call.ended {
            let earliest = first.entry(call.hash).or_insert(ended);
            *earliest = ended.min(*earliest);
        }
    }
    first.into_values().max()
}

/// I7: a second attempt is made when the first has asked for it, and only then.
fn i7_an_attempt_follows_a_retry(run: &Run, ledger: &Ledger, report: &mut Report) {
    for (task, calls) in ledger.run(run.id) {
        let is_retry = |call: &&Call| matches!(call.ended, Some((_, End::Retry)));
        for call in calls.iter().filter(|call| call.attempt > 1) {
            let mut before = calls.iter().filter(is_retry);
            let follows = before.any(|retry| {
                retry.attempt + 1 == call.attempt
                    && retry.ended.is_some_and(|(ended, _)| ended <= call.begun_us)
            });
            if !follows {
                let what = format!("I7: attempt {} of node {} came by itself", call.attempt, task.node());
                report.wrong.push(at(run, &what));
            }
        }
        report.retried += usize::from(calls.iter().any(|call| call.attempt > 1));
    }
}

/// I13: a leaf is lost with its worker when it kills whoever runs it; when it runs at most once and something
/// befell the worker that had begun it; and when that has happened to it as often as it may. No other leaf
/// is. Those that the canvas does not know of, by their paths.
fn i13_no_leaf_is_lost_for_another(
    run: &Run,
    ledger: &Ledger,
    excuses: &Excuses,
    deliveries_max: usize,
    lost: &[Lost],
    report: &mut Report,
) -> BTreeSet<NodePath> {
    let lost = lost.iter().filter(|leaf| leaf.once || !leaf.kills);
    lost.map(|Lost { path, task, once, .. }| {
        let calls = ledger.run(task.run()).find(|(begun, _)| begun == task);
        let calls = calls.map_or(&[][..], |(_, calls)| calls);
        let is_for_a_reason = match (once, calls.last()) {
            // Between saying that it begins and beginning.
            (true, None) => excuses.someone_died(),
            (true, Some(last)) => excuses.may_be_lost(&ledger.processes, last),
            // The first delivery counts as begun, whether it has or not.
            (false, _) => calls.len() + 1 >= deliveries_max,
        };
        match (is_for_a_reason, once) {
            (true, true) => report.lost_once += 1,
            (true, false) => report.given_up += 1,
            (false, _) => {
                report.innocent += 1;
                let what = format!("I13: {path} was lost with a worker, begun {} times", calls.len());
                report.wrong.push(at(run, &what));
            }
        }
        path.clone()
    })
    .collect()
}

/// How long after a run was forgotten its leaves may begin that a worker had taken before: what runs before
/// them ends.
const IN_HAND: Duration = Duration::from_secs(3);

/// When it is confirmed that a run was forgotten, nothing of it begins any more but what was in a worker's
/// hands.
fn nothing_of_a_forgotten_run_begins(
    forgotten: &[Forgotten],
    ledger: &Ledger,
    excuses: &Excuses,
    may_lose: bool,
    report: &mut Report,
) {
    let mut at: BTreeMap<RunId, &Forgotten> = BTreeMap::new();
    for run in forgotten {
        at.entry(run.run.id).or_insert(run);
        if run.came_back && !may_lose {
            report.wrong.push(format!("I1: run {} was forgotten, and came back", run.run));
        }
    }
    report.forgotten = at.len();
    // A leaf of a segment belongs to the run of the leaf that the segment stands for.
    let roots: BTreeMap<RunId, RunId> = ledger
        .forgotten
        .iter()
        .filter_map(|(_, task, _)| Some((at.get(&task.run())?.run, task.node())))
        .flat_map(|(run, node)| (1..=3).map(move |attempt| (run.segment(node, attempt).id, run.id)))
        .collect();
    for (process, task, us) in &ledger.forgotten {
        let run = task.run();
        let Some(run) = at.get(roots.get(&run).unwrap_or(&run)) else { continue };
        let late_us = us.saturating_sub(run.at_us);
        report.forgotten_leaves += usize::from(late_us > 0);
        let was_in_hand = Duration::from_micros(late_us) <= IN_HAND
            || excuses.stood_still(&ledger.processes[*process], run.at_us, *us);
        if !was_in_hand && !run.came_back {
            report.wrong.push(format!("a leaf of run {} began {late_us} µs after it was forgotten", run.run));
        }
    }
}

/// Nothing is doubled: a call is made again only when something befell its worker or Redis, and with the same
/// arguments; and that of a leaf that runs at most once, never, unless Redis has lost what it had said.
fn leaves_run_twice_only_for_a_reason(
    run: &Run,
    ledger: &Ledger,
    excuses: &Excuses,
    may_lose: bool,
    report: &mut Report,
) {
    for (task, calls) in ledger.run(run.id) {
        report.leaves += 1;
        let mut same: BTreeMap<(u32, u64), Vec<&Call>> = BTreeMap::new();
        calls.iter().for_each(|call| same.entry((call.attempt, call.hash)).or_default().push(call));
        let inputs: BTreeSet<u64> = calls.iter().map(|call| call.hash).collect();
        if inputs.len() > 1 && calls_once(&run.plan, task) {
            report.doubled += 1;
            report
                .wrong
                .push(at(run, &format!("doubled: {} got several inputs", run.plan.path(task.node()))));
        }
        let once = is_once(&run.plan, task.node());
        report.once += usize::from(once);
        for pair in same.values().flat_map(|calls| calls.windows(2)) {
            let cause = match once {
                true if !may_lose => None,
                true => excuses.redis_was_killed(pair[0].begun_us, pair[1].begun_us).then_some(Cause::Redis),
                false => excuses.cause(&ledger.processes, pair[0], pair[1]),
            };
            match cause {
                Some(cause) => *report.again.entry(cause).or_default() += 1,
                None => {
                    report.doubled += 1;
                    let [first, second] = [pair[0], pair[1]]
                        .map(|call| format!("{} at {}", ledger.processes[call.process], call.begun_us));
                    let ended = pair[0].ended;
                    let what =
                        format!("doubled: {task} by {first} ({ended:?}) and by {second}, for no reason");
                    report.wrong.push(at(run, &what));
                }
            }
        }
    }
}

/// Whether a leaf runs at most once.
fn is_once(plan: &Plan, node: NodeNo) -> bool {
    plan.options(node).is_some_and(|options| options.acks_late == Some(false))
}

fn calls_once(plan: &Plan, task: TaskId) -> bool {
    plan.leaf(task.node()).is_some_and(|leaf| leaf.call == How::Once)
}

/// I6: what waits in the queues and what is held is nothing, soon after the last run has ended.
pub(crate) fn until_idle(place: &Place, crew: &mut Crew, report: &mut Report) {
    let patience = LEASE + SWEEP + Duration::from_secs(6);
    let began = Instant::now();
    loop {
        crew.tend();
        match keys::duties(place) {
            Ok(duties) if duties.is_empty() => return,
            Ok(duties) if began.elapsed() > patience => {
                report.wrong.extend(duties.into_iter().map(|duty| format!("I6: {duty}")));
                return;
            }
            Err(error) if began.elapsed() > patience => return report.wrong.push(format!("I6: {error}")),
            Ok(_) | Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// I8: in time, that is before the client gave up.
fn i8_every_run_has_ended(runs: &[Run], report: &mut Report) {
    for run in runs.iter().filter(|run| run.fate == Fate::Open) {
        report.stuck += 1;
        report.wrong.push(at(run, "I8: it has not ended"));
    }
}

/// What is known of queues.
const OF_QUEUES: [&str; 6] =
    ["{events}:names", "{events}:lanes", "{events}:reports", "{events}:timers", ":gone", ":idle"];

/// On a Cluster, the intent to store a run is swept after minutes when its client got no answer.
fn is_of_intents(connection: &mut redis::Connection, key: &str) -> bool {
    let mut size = |key: &str| keys::size(connection, key);
    let intents = "celeriac:{events}:intents";
    key == intents || key == "celeriac:{events}:runs" && size(key) <= size(intents)
}

/// I9: of runs that were forgotten nothing is left; the streams of queues and events stay for a while, as
/// does what is known of queues, what expires by itself, and the consumers of the dead until they were idle
/// for an hour.
async fn i9_nothing_is_left_of_forgotten_runs(app: &App, runs: &[Run], place: &Place, report: &mut Report) {
    for run in runs {
        let forgotten = match app.run::<Json>(run.id).await {
            Ok(Some(handle)) => handle.forget().await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            report.wrong.push(at(run, &format!("I9: {error}")));
        }
    }
    for node in place.masters() {
        let mut connection = node.connection();
        for key in keys::all(&mut connection).unwrap_or_default() {
            if key.ends_with(":stream") {
                let consumers = keys::consumers(&mut connection, &key);
                report.dead_consumers += consumers.map_or(0, |(consumers, _)| consumers);
            } else if !OF_QUEUES.iter().any(|what| key.ends_with(what))
                && !is_of_intents(&mut connection, &key)
                && !keys::expires(&mut connection, &key)
            {
                report.wrong.push(format!("I9: the key {key} is left"));
            }
        }
    }
}

/// I12: see also the exit codes, which the crew judges.
pub(crate) fn i12_no_process_panics(logs: &Path, report: &mut Report) {
    let files = std::fs::read_dir(logs).into_iter().flatten().flatten();
    for file in files {
        let text = std::fs::read(file.path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // The tasks that panic do so in one file.
        let is_wrong = |line: &&str| line.contains("panicked at") && !line.contains("chaos/src/rogues.rs");
        let panics = text.lines().filter(is_wrong);
        report.wrong.extend(panics.map(|line| format!("I12: {}: {line}", file.path().display())));
    }
}

/// A run, or a segment of one.
struct Part {
    /// Where it stands in the outermost canvas.
    place: NodePath,
    run: Run,
    /// The leaf that a segment stands for.
    leaf: Option<TaskId>,
}

/// A run and its segments, and the run alone when it is not there.
async fn parts_of(app: &App, run: &Run) -> Result<Vec<Part>, String> {
    let found = whole::parts(app, run.id).await.map_err(|error| error.to_string())?;
    let part = |whole::Part { place, run: segment, leaf }| {
        let run = match leaf {
            Some(_) => Run { id: segment.id(), plan: Arc::new(segment.plan().clone()), ..run.clone() },
            None => run.clone(),
        };
        Part { place, run, leaf }
    };
    let parts: Vec<Part> = found.into_iter().map(part).collect();
    Ok(if parts.is_empty() {
        vec![Part { place: NodePath::root(), run: run.clone(), leaf: None }]
    } else {
        parts
    })
}

/// What the store says of a run.
async fn observe(app: &App, run: &Run, parts: &[Part]) -> Result<Observed, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let handle: Handle<Json> =
        app.run(run.id).await.map_err(|error| text(&error))?.ok_or("it has ended and is not there")?;
    let result = match handle.get_json(Some(Duration::from_secs(10))).await {
        Ok(value) => Ok(tasks::without_failures(&value)),
        Err(GetError::Failed(failure)) => Err((failure.node.clone(), failure.error.kind.clone())),
        Err(error) => return Err(format!("I8: it has ended and has no result: {error}")),
    };
    let mut observed = Observed { result, failures: Vec::new(), lost: Vec::new(), wrong: Vec::new() };
    for Part { place, run, .. } in parts {
        let handle: Handle<Json> = app
            .run(run.id)
            .await
            .map_err(|error| text(&error))?
            .ok_or("a segment has ended and is not there")?;
        for node in handle.nodes().await.map_err(|error| text(&error))? {
            if node.standing != Standing::Failed {
                continue;
            }
            let outcome = handle.outcome_of(node.node).await.map_err(|error| text(&error))?;
            // The failures of what ran in its place are there.
            let is_replaced = matches!(outcome, Some(Outcome::ReplacementFailed(_)));
            let path = place.join(&handle.plan().path(node.node));
            if matches!(outcome, Some(Outcome::WorkerLost { .. })) {
                let plan = handle.plan();
                let (task, leaf) = (plan.task(node.node), plan.leaf(node.node));
                let kills = task
                    .zip(leaf)
                    .is_some_and(|(task, leaf)| rogues::always_kills(task.as_str(), &leaf.kwargs));
                let (task, once) = (run.id.task(node.node), is_once(plan, node.node));
                observed.lost.push(Lost { path: path.clone(), task, once, kills });
            }
            let failure = outcome.and_then(|outcome| handle.plan().failure(run.id, node.node, &outcome));
            let Some(failure) = failure else {
                observed.wrong.push(format!("I11: {} failed for no reason", node.path));
                continue;
            };
            if failure.error.kind.is_empty() || failure.node != node.path && !is_replaced {
                observed.wrong.push(format!("I11: {} failed with {failure:?}", node.path));
            }
            if !is_replaced && !is_callback(&path) {
                observed.failures.push((path.to_string(), failure.error.kind));
            }
        }
    }
    observed.failures.sort();
    Ok(observed)
}

fn is_callback(path: &NodePath) -> bool {
    path.segments().iter().any(|segment| segment.is_callback())
}

fn at(run: &Run, what: &str) -> String {
    format!("{what}: run {}, canvas {}", run.id, run.place)
}

#[cfg(test)]
mod tests {
    use celeriac::primitives::RunId;

    use super::*;

    /// A chord of two after its first header task.
    #[track_caller]
    fn check(states: &str, counter: &str, open: u32, expect: &[&str]) {
        let canvas = celeriac::engine::text::parse("chord([noargs.s(), noargs.s()], tsum.s())").unwrap();
        let (id, plan) = (RunId::from_parts(1, 2), Arc::new(Plan::compile(&canvas).unwrap()));
        let run = Run { place: 7, id, plan, fate: Fate::Open };
        let fields = [(('o', 1), b"1".to_vec()), (('c', 3), counter.as_bytes().to_vec())].into();
        let states = states.as_bytes().to_vec();
        let dump = Dump { open, left: 1, done: 1, states, fields, ..Dump::default() };
        let expect: Vec<String> = expect.iter().map(|what| at(&run, what)).collect();
        assert_eq!(i3_counters_are_what_the_states_say(&run, &dump), expect);
    }

    /// The first of two members that may fail has failed.
    #[test]
    fn the_closing_of_a_member_s_scope_counts_for_its_list() {
        let text = "chord([noargs.s(), noargs.s()], tsum.s()).set(on_failure='drop')";
        let plan = Arc::new(Plan::compile(&celeriac::engine::text::parse(text).unwrap()).unwrap());
        let run = Run { place: 7, id: RunId::from_parts(1, 2), plan, fate: Fate::Open };
        let counter = |closed: bool| {
            let mut fields: BTreeMap<_, _> = [(('o', 1), b"1".to_vec()), (('c', 3), b"1".to_vec())].into();
            fields.extend(closed.then(|| (('x', 1), b"1".to_vec())));
            let dump =
                Dump { open: 1, left: 1, done: 1, states: b"FDWW".to_vec(), fields, ..Dump::default() };
            i3_counters_are_what_the_states_say(&run, &dump)
        };
        assert_eq!(counter(true), Vec::<String>::new());
        assert_eq!(counter(false), [at(&run, "I3: the counter of 3 is 1, not 0")]);
    }

    #[test]
    fn a_counter_that_is_not_what_its_predecessors_say_is_found() {
        check("SDW", "1", 1, &[]);
        check("SPW", "1", 1, &[]);
        check("SDW", "2", 1, &["I3: the counter of 3 is 2, not 1"]);
        check("SDW", "1", 2, &["I3: open is 2, not 1"]);
        check("SDD", "1", 2, &["I3: whether 3 waits is 0, not 1"]);
        check("SD", "1", 1, &["I3: 2 states of 3 nodes"]);
    }
}
