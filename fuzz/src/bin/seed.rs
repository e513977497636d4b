//! Writes the corpora anew: `cargo run --bin seed`.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;

use celeriac_engine::{Plan, text};
use celeriac_fuzz::{corpus_dir, deep, wide};
use celeriac_primitives::{
    Addition, Call, Completion, Incarnation, Item, Json, Members, NodeNo, Outcome, Own, Piece, RunId,
    TaskError, TaskMessage, TaskName,
};

/// Texts of all forms; their JSON and their plans are seeds too.
const TEXTS: &[(&str, &str)] = &[
    ("signature", "proj.tasks.add.s(4, y=4)"),
    ("signature_immutable", "add.si(1, 2).set(queue=\"hi\", priority=5, countdown=1.5)"),
    (
        "signature_by_name",
        "signature(\"a-b\", args=[1, {\"k\": [null, true]}], kwargs={\"a b\": -1e5}, immutable=true)",
    ),
    ("signature_spread", "add.s(*[1, 2], **{\"odd key\": 1180591620717411303424})"),
    ("signature_with_options", "add.signature((2, 2), {'z': 1}, countdown=10, headers={\"a\": 1})"),
    ("chain_by_pipe", "add.s(4, 4) | mul.s(8) | xsum.si([1])"),
    ("chain_of_chains", "chain(add.s(1) | add.s(2), chain(), chain(add.s(3)).set(immutable=true))"),
    ("chain_generated", "chain(ids.si(i=i) for i in range(3))"),
    ("chain_linked", "(a.s() | b.s()).link(c.s()).link_error(d.si())"),
    ("group", "group(add.s(2, 2), add.s(4, 4))"),
    ("group_generated", "group(add.s(i, j=i * 2) for i in range(10) if i % 2 == 0) | xsum.s()"),
    ("group_empty", "group() | xsum.s()"),
    ("group_nested", "group(group(a.s()), a.s() | b.s(), group([c.s()])).set(link=[d.s()])"),
    ("group_linked", "group(a.s(), b.s()).link(c.s(1)).on_error(d.s())"),
    ("chord", "chord([add.s(1, 1), add.s(2, 2)], xsum.s())"),
    ("chord_generated", "chord((add.s(i, i) for i in xrange(10)), xsum.s())"),
    ("chord_called", "chord(add.s(a, b) for a, b in [(1, 2), (3, 4)])(xsum.s())"),
    ("chord_nested", "chord([chord([a.s()], b.s()), c.s() | d.s()], chord([e.s()], f.s())).link(g.s())"),
    ("map", "xsum.map([[1, 2], [3, 4]]) | xmap(signature(\"a-b\"), range(3))"),
    ("starmap", "add.starmap(zip(range(5), [i * i for i in range(5)]))"),
    ("chunks", "add.chunks(zip(range(20), range(20)), 3)"),
    ("chunks_as_a_group", "add.chunks([[1, 1], [2, 2], [3, 3]], 2).group() | xsum.s()"),
    ("bound", "(a.s(1) | group(b.s(), c.si())).clone((4,), {\"z\": 5}, queue=\"hi\")"),
    (
        "callbacks",
        "a.s().link(b.s().link(c.s())).link_error(group(d.s(), e.s())).link(chord([f.s()], g.s()))",
    ),
    (
        "policies",
        "chord([a.s(), group(b.s(), c.s() | d.s()).set(on_failure=\"drop\")], e.s()).set(on_failure=\"collect\")",
    ),
    ("finally", "(a.s() | group(b.s(), c.s()).finally(d.si())).finally(e.s() | f.s())"),
    (
        "values",
        "add.s(-0, .5, 1_000, 0x1f, 'a' \"\\u00e9\" 'b', \"\\ud83d\\ude00\", r'\\d', (), {'k': [None, True]})",
    ),
    ("arithmetic", "add.s(2 ** 10 - 7 // -2 * 3 % 5, -(1 + 2), 1 < 2 <= 2, not 1 in [1, 2] or 'a' != 'b')"),
    ("comments", "# first\ngroup(\n  add.s(1), # one\n  add.s(2),\n) # end"),
];

/// Texts that are refused.
const BROKEN_TEXTS: &[(&str, &str)] = &[
    ("broken_bracket", "group(add.s(1), [add.s(2)"),
    ("broken_call", "add(2, 2)"),
    ("broken_comma", "add.s(1 2)"),
    ("broken_delay", "add.delay(4)"),
    ("broken_operator", "a.s() & b.s()"),
    ("broken_range", "group(add.s(i) for i in range(10 ** 12))"),
    ("broken_text", "add.s('a"),
    ("deep_brackets", "((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((a.s())"),
];

const BROKEN_JSON: &[(&str, &str)] = &[
    ("broken_json", "{\"task\":\"add\","),
    ("broken_key", "{\"task\":\"add\",\"arg\":[]}"),
    ("broken_missing", "{\"args\":[]}"),
    ("broken_name", "{\"task\":\"a b\"}"),
    ("broken_type", "{\"task\":\"celery.chain\",\"kwargs\":{\"tasks\":3},\"subtask_type\":\"chain\"}"),
    (
        "chord_with_a_frozen_group",
        "{\"task\":\"celery.chord\",\"args\":[1],\"kwargs\":{\"header\":{\"task\":\"celery.group\",\
     \"kwargs\":{\"tasks\":[{\"task\":\"a\"}]},\"subtask_type\":\"group\"},\"body\":{\"task\":\"b\"},\"kwargs\":{\"z\":1}},\
     \"options\":{\"task_id\":\"x\"},\"subtask_type\":\"chord\"}",
    ),
    (
        "number_as_size",
        "{\"task\":\"celery.chunks\",\"kwargs\":{\"task\":{\"task\":\"a\"},\"it\":[],\"n\":0}}",
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    for (name, input) in TEXTS.iter().chain(BROKEN_TEXTS) {
        write("text", name, input.as_bytes())?;
    }
    for (name, input) in TEXTS {
        let canvas = text::parse(input).map_err(|error| format!("{name}: {error}"))?;
        write("canvas_json", name, canvas.to_json().as_bytes())?;
        if let Ok(plan) = Plan::compile(&canvas) {
            write("plan", name, &plan.encode())?;
        }
    }
    for (name, input) in BROKEN_JSON {
        write("canvas_json", name, input.as_bytes())?;
    }
    // Small here: a test reads them large.
    for (target, name, input) in deep(66).into_iter().chain(wide(3)) {
        write(target, &name, &input)?;
    }
    let whole = Plan::compile(&text::parse("chord([a.s(1), b.s(2)], c.s())")?)?.encode();
    write_broken("plan", &whole)?;
    write_messages()
}

fn write_messages() -> Result<(), Box<dyn Error>> {
    let task_id = RunId::from_parts(1_700_000_000_000, 7).task(NodeNo::from_index(0));
    let incarnation = Incarnation::new(u64::MAX / 3);
    let add = TaskName::new("proj.tasks.add")?;
    let mut whole = Vec::new();
    let [one, two, three] = [1, 2, 3].map(NodeNo::from_index);
    let by_reference = [
        Piece::Text("[".into()),
        Piece::Result(one),
        Piece::Item(two),
        Piece::Entry(three),
        Piece::Text("]".into()),
    ];
    for (name, call, args, kwargs) in [
        ("message", Call::Once, "[4,4]", "{}"),
        ("message_without_arguments", Call::Once, "[]", "{}"),
        ("message_with_keywords", Call::Once, "[]", "{\"x\":1,\"y\":[null,\"ü\"]}"),
        ("message_with_a_large_number", Call::Once, "[1180591620717411303424,-0.10]", "{}"),
        ("message_of_a_map", Call::Map, "[1,2,3]", "{}"),
        ("message_of_a_starmap", Call::Starmap, "[[1,2],[3,4]]", "{}"),
        ("message_by_reference", Call::Once, "[8]", "{}"),
    ] {
        let (args, kwargs) = (Json::parse(args)?, Json::parse(kwargs)?);
        let input = if name == "message_by_reference" { by_reference.to_vec() } else { Vec::new() };
        let message = TaskMessage::new(task_id, 3, add.clone(), call, args, kwargs);
        whole = TaskMessage { input, member: call == Call::Once, ..message }.encode();
        write("message", name, &whole)?;
    }
    let error = || TaskError::new("ValueError", "boom");
    let mut caused = error();
    caused.causes = vec!["disk full".to_owned(), "ü".to_owned()];
    for (name, outcome) in [
        ("completion_success", Outcome::Success(Json::parse("[8,{\"a\":null}]")?)),
        ("completion_ignored", Outcome::Ignored),
        ("completion_failed", Outcome::Failed(error())),
        ("completion_failed_with_causes", Outcome::Failed(caused)),
        ("completion_retry", Outcome::retry(error())),
        ("completion_rejected", Outcome::Rejected("no".to_owned())),
        ("completion_revoked", Outcome::Revoked("revoked".to_owned())),
        ("completion_expired", Outcome::Expired),
        ("completion_timed_out", Outcome::TimedOut { limit_ms: 1500 }),
        ("completion_worker_lost", Outcome::WorkerLost { deliveries: 3 }),
        ("completion_unknown_task", Outcome::UnknownTask),
        ("completion_undecodable", Outcome::Undecodable("broken".to_owned())),
        (
            "completion_add",
            Outcome::Add(Box::new(Addition { own: Own::Value(Json::null()), added: vec![Json::null()] })),
        ),
        (
            "completion_members",
            Outcome::Members(Box::new(Members {
                value: Json::null(),
                added: vec![Item::Value(Json::null())],
            })),
        ),
    ] {
        write("message", name, &Completion { task_id, attempt: 1, outcome, incarnation }.encode())?;
    }
    write_broken("message", &whole)
}

/// Bytes that are nearly right.
fn write_broken(target: &str, whole: &[u8]) -> Result<(), Box<dyn Error>> {
    let longer = [whole, &[0]].concat();
    let other_version = [&[9], &whole[1..]].concat();
    write(target, "broken_empty", &[])?;
    write(target, "broken_end", &whole[..whole.len() / 2])?;
    write(target, "broken_longer", &longer)?;
    write(target, "broken_version", &other_version)
}

fn write(target: &str, name: &str, input: &[u8]) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(corpus_dir(target))?;
    fs::write(corpus_dir(target).join(name), input)?;
    Ok(())
}
