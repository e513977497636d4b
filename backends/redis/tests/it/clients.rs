//! Several clients of one Redis, of which each remembers something else.

use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{
    Advance, Advanced, DEFAULT_QUEUE, Dispatch, Lane, NewRun, Queue, Store, Take, WorkerId,
};
use celeriac_conformance::bench::{json, run_id, sig};
use celeriac_engine::plan::{Results, ScopeNo};
use celeriac_engine::{Plan, Release};
use celeriac_primitives::{Completion, Incarnation, NodeNo, Outcome, RunRef};
use celeriac_redis::RedisBackend;

use celeriac_testkit::Server;

struct Seven(Outcome);

impl Results for Seven {
    fn outcome(&self, _: NodeNo) -> Option<&Outcome> {
        Some(&self.0)
    }

    fn closed_by(&self, _: ScopeNo) -> Option<NodeNo> {
        None
    }
}

/// A run may be forgotten, and its id taken by another canvas, while a client still has the first plan at hand.
#[tokio::test(flavor = "multi_thread")]
async fn leaves_composed_for_another_run_under_the_same_id_are_not_queued() {
    let client = || RedisBackend::builder(Server::shared().url()).prefix("clients").connect();
    let (one, other) = (client().await.unwrap(), client().await.unwrap());
    let seven = Seven(Outcome::Success(json(7)));
    let [first, run] = [1, 2].map(|number| run_id(1).id.incarnation(Incarnation::new(number)));
    let [before, now] = ["b", "c"].map(|then| Arc::new(Plan::compile(&sig("a").then(sig(then))).unwrap()));
    let leaf = |run, plan: &Plan, index| {
        let release = Release { node: NodeNo::from_index(index), attempt: 1 };
        let message = Arc::new(plan.message(run, release, &seven).unwrap());
        Dispatch { release, queue: DEFAULT_QUEUE.into(), message, start: None, lane: Lane::default() }
    };
    other.submit(NewRun::new(first, before.clone())).await.unwrap();
    one.forget(first).await.unwrap();
    one.submit(NewRun::new(run, now.clone())).await.unwrap();
    assert_eq!(other.plan_at_hand(first), Some(before.clone()), "what makes this test worth while");

    let task_id = run.task(NodeNo::from_index(0));
    let done = |run: RunRef| {
        let outcome = seven.0.clone();
        vec![Completion { task_id, attempt: 1, outcome, incarnation: run.incarnation }]
    };
    let advance = Advance { prepared: vec![leaf(first, &before, 1)], ..Advance::new(first, done(first)) };
    assert_eq!(other.settle(&[advance]).await.unwrap().remove(0).unwrap(), Advanced::Unknown);
    assert_eq!(other.dispatch(first, &[leaf(first, &before, 0)]).await.unwrap(), 0);
    let advance = Advance::new(run, done(run));
    let answer = other.settle(&[advance]).await.unwrap().remove(0).unwrap();
    let Advanced::Settled { settled, .. } = answer else { panic!("the run is known") };
    assert_eq!(settled.released, [leaf(run, &now, 1).release]);
    assert_eq!(other.plan(run).await.unwrap(), Some(now.clone()));
    assert_eq!(other.dispatch(run, &[leaf(run, &now, 1)]).await.unwrap(), 1);
    let (worker, second) = (WorkerId::new("w"), Duration::from_secs(1));
    let taken = one.receive(&worker, &[DEFAULT_QUEUE.into()], Take::new(9, second)).await.unwrap();
    let tasks: Vec<&str> = taken.iter().map(|delivery| delivery.message.task.as_str()).collect();
    assert_eq!(tasks, ["c"]);
}
