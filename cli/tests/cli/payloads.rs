//! What is printed to look for a fault shows nothing of arguments and results.

use std::fmt::Debug;

use celeriac_backends::{DeadLetter, Event, NewRun, Progress};
use celeriac_engine::{Plan, text};
use celeriac_primitives::{
    Addition, Call, Completion, Incarnation, Item, Json, Members, NodeNo, Outcome, Own, Piece, RunId,
    TaskMessage, TaskName,
};

/// Somebody's data.
const MARK: &str = "somebodys-secret";

#[track_caller]
fn check(what: &str, shown: impl Debug) {
    for shown in [format!("{shown:?}"), format!("{shown:#?}")] {
        assert!(!shown.contains(MARK), "{what}: {shown}");
    }
}

#[test]
fn no_argument_and_no_result_is_shown() {
    let (mark, task_id) = (|| Json::string(MARK), RunId::from_parts(1, 7).task(NodeNo::from_index(0)));
    let incarnation = Incarnation::new(1);
    check("a value", mark());
    let canvas = format!(
        "chord([a.s('{MARK}', k=['{MARK}']), b.map(['{MARK}']), c.chunks([['{MARK}']], 1)], d.s(['{MARK}']))\
         .link(e.s('{MARK}')) | f.s({{'k': '{MARK}'}}).set(headers={{'x': '{MARK}'}})"
    );
    let canvas = text::parse(&canvas).unwrap();
    check("a canvas", &canvas);
    let plan = Plan::compile(&canvas).unwrap();
    check("a plan", &plan);
    check("a run", NewRun::new(RunId::from_parts(1, 7).incarnation(incarnation), plan.into()));
    let name = TaskName::new("a").unwrap();
    let message =
        TaskMessage::new(task_id, 1, name, Call::Once, Json::list([mark()]), Json::object([("k", &mark())]));
    check("a message", TaskMessage { input: vec![Piece::Text(MARK.into())], ..message });
    for outcome in [
        Outcome::Success(mark()),
        Outcome::Add(Box::new(Addition { own: Own::Value(mark()), added: vec![mark()] })),
        Outcome::Add(Box::new(Addition { own: Own::Canvas(mark()), added: vec![mark()] })),
        Outcome::Members(Box::new(Members { value: mark(), added: vec![Item::Value(mark())] })),
    ] {
        let completion = Completion { task_id, attempt: 1, outcome, incarnation };
        check("a completion", Event::Completed(completion));
    }
    let meta = mark();
    check("progress", Progress { task_id, attempt: 1, state: "PROGRESS".into(), meta, incarnation });
    let fields = vec![(MARK.as_bytes().to_vec(), MARK.as_bytes().to_vec())];
    let (id, from, entry, reason) = ("1-0".parse().unwrap(), None, "1-0".into(), "why".into());
    let letter = DeadLetter { id, from, entry, deliveries: 1, reason, bytes: 9, is_whole: true, fields };
    check("a dead letter", &letter);
    assert!(!format!("{letter:?}").contains("115, 111"), "nor its bytes");
}
