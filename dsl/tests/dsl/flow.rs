//! Flows in plain Rust: what they are as canvases, and as types.

use std::collections::BTreeMap;

use celeriac::{Flow, FlowError, Grouped, Ignored, IntoCanvas, Tolerant, canvas, chain, chord, group, task};
use celeriac_primitives::{Canvas, Entry, Options, Signature};
use serde_json::Value;

use crate::proj::{add, clean_up, greet, identity, mul, on_failed, ping, sleep, succeeded, xsum};

/// The type of the flow stands at the call, so that both are checked: the type when this compiles.
#[track_caller]
fn check<In, Out, Form>(flow: Flow<In, Out, Form>, expect: &str) {
    assert_eq!(flow.to_string(), expect);
}

#[test]
fn arguments_bind_the_last_required_parameters() {
    check::<(), i64, _>(add.s((4, 4)), "add.s(4, 4)");
    check::<(i64,), i64, _>(mul.s(8), "mul.s(8)");
    check::<(i64,), i64, _>(mul.s((8,)), "mul.s(8)");
    check::<(i64, i64), i64, _>(mul.s(()), "mul.s()");
    check::<(), i64, _>(add.s((1, 2, 3)), "add.s(1, 2, 3)");
    check::<(), (), _>(ping.s(()), "ping.s()");
    check::<Ignored, i64, _>(add.si((2, 2)), "add.si(2, 2)");
    check::<Ignored, (), _>(ping.si(()), "ping.si()");
}

#[test]
fn literals_strings_and_lists_need_no_types() {
    check::<(), Value, _>(sleep.s(1), "sleep.s(1)");
    check::<(), Value, _>(sleep.s(0.5), "sleep.s(0.5)");
    check::<(), Value, _>(sleep.s((1, "done")), r#"sleep.s(1, "done")"#);
    check::<(), Value, _>(sleep.s((1, [1, 2])), "sleep.s(1, [1, 2])");
    check::<(), String, _>(greet.s("Ann"), r#"greet.s("Ann")"#);
    check::<(), String, _>(greet.s(("Ann", "Dr")), r#"greet.s("Ann", "Dr")"#);
    check::<(), String, _>(greet.s((&String::from("Ann"), None)), r#"greet.s("Ann", null)"#);
    check::<(), i64, _>(xsum.s([1, 2]), "xsum.s([1, 2])");
    check::<(), i64, _>(xsum.s(vec![1, 2]), "xsum.s([1, 2])");
    check::<(), i64, _>(xsum.s(&[1, 2][..]), "xsum.s([1, 2])");
    check::<(), i64, _>(xsum.s(Vec::new()), "xsum.s([])");
    check::<(), Value, _>(identity.s(["a", "b"]), r#"identity.s(["a", "b"])"#);
    check::<(), Value, _>(identity.s(&Value::Null), "identity.s(null)");
}

#[test]
fn keywords_leave_the_positional_parameters_before_them() {
    check::<(), i64, _>(add.with().y(4).s(4), "add.s(4, y=4)");
    check::<(i64,), i64, _>(add.with().y(4).s(()), "add.s(y=4)");
    check::<(i64,), i64, _>(add.with().z(1).s(4), "add.s(4, z=1)");
    check::<(), i64, _>(add.with().z(1).y(4).x(3).s(()), "add.s(x=3, y=4, z=1)");
    check::<Ignored, i64, _>(add.with().z(1).si((3, 4)), "add.si(3, 4, z=1)");
    check::<(), Value, _>(sleep.with().seconds(1).s(()), "sleep.s(seconds=1)");
}

#[test]
fn a_group_may_drop_or_collect_the_failures_of_its_members() {
    let numbers = || group([add.s((1, 1)), add.s((2, 2))]);
    check::<(), Vec<i64>, Tolerant>(
        numbers().drop_failures(),
        r#"group(add.s(1, 1), add.s(2, 2)).set(on_failure="drop")"#,
    );
    check::<(), Vec<Entry<i64>>, Tolerant>(
        numbers().collect_failures(),
        r#"group(add.s(1, 1), add.s(2, 2)).set(on_failure="collect")"#,
    );
    check::<(i64,), Vec<i64>, _>(
        group((add.s(1), mul.s(2))).drop_failures(),
        r#"group(add.s(1), mul.s(2)).set(on_failure="drop")"#,
    );
    check::<(), i64, _>(
        chord(numbers().drop_failures(), xsum.s(())),
        r#"chord([group(add.s(1, 1), add.s(2, 2)).set(on_failure="drop")], xsum.s())"#,
    );
    check::<(), i64, _>(
        numbers().collect_failures() | succeeded.s(()),
        r#"group(add.s(1, 1), add.s(2, 2)).set(on_failure="collect") | succeeded.s()"#,
    );
    check::<(), Vec<Vec<Entry<i64>>>, _>(
        group([chain((numbers().collect_failures(),))]),
        r#"group(chain(group(add.s(1, 1), add.s(2, 2)).set(on_failure="collect")))"#,
    );
    check::<(), i64, _>(
        canvas!(group(add.s(i, i) for i in 0..2).collect_failures() | succeeded.s()),
        r#"group(add.s(0, 0), add.s(1, 1)).set(on_failure="collect") | succeeded.s()"#,
    );
    check::<(), Vec<i64>, Tolerant>(
        canvas!(group(add.s(i, i) for i in 0..2).drop_failures().set(queue = "hi")),
        r#"group(add.s(0, 0), add.s(1, 1)).set(on_failure="drop", queue="hi")"#,
    );
}

#[test]
fn what_runs_finally_gets_the_entry_of_its_canvas_or_nothing() {
    check::<(), i64, _>(add.s((1, 1)).finally(clean_up.s(())), "add.s(1, 1).finally(clean_up.s())");
    check::<(i64,), i64, _>(
        (mul.s(2) | add.s(1)).finally(ping.si(())).finally(identity.s(())),
        "chain(mul.s(2), add.s(1)).finally(ping.si()).finally(identity.s())",
    );
    check::<(), i64, _>(
        canvas!(chain(add.s(1, 1), mul.s(8)).finally(clean_up.s())),
        "chain(add.s(1, 1), mul.s(8)).finally(clean_up.s())",
    );
}

#[test]
fn pipes_give_the_result_to_the_open_parameter_or_to_none() {
    check::<(), i64, _>(add.s((4, 4)) | mul.s(8), "add.s(4, 4) | mul.s(8)");
    check::<(i64,), i64, _>(mul.s(2) | add.si((1, 1)) | mul.s(8), "mul.s(2) | add.si(1, 1) | mul.s(8)");
    check::<(), Value, _>(greet.s("Ann") | identity.s(()), r#"greet.s("Ann") | identity.s()"#);
    let step = mul.s(2);
    check::<(i64,), i64, _>(step.clone() | (step.clone() | step), "mul.s(2) | mul.s(2) | mul.s(2)");
}

#[test]
fn a_group_of_equals_gives_a_vec_and_a_tuple_gives_a_tuple() {
    check::<(), Vec<i64>, Grouped>(group((0..2).map(|i| add.s((i, i)))), "group(add.s(0, 0), add.s(1, 1))");
    check::<(), Vec<i64>, Grouped>(group([add.s((1, 1))]), "group(add.s(1, 1))");
    check::<(i64,), Vec<i64>, Grouped>(group(vec![add.s(1), mul.s(2)]), "group(add.s(1), mul.s(2))");
    check::<(), (i64, String), Grouped>(
        group((add.s((1, 1)), greet.s("Ann"))),
        r#"group(add.s(1, 1), greet.s("Ann"))"#,
    );
    check::<(), (i64,), Grouped>(group(add.s((1, 1))), "group(add.s(1, 1))");
    check::<(i64,), (i64, i64), Grouped>(group((add.s(1), add.si((2, 2)))), "group(add.s(1), add.si(2, 2))");
    check::<Ignored, (i64, i64), Grouped>(
        group((add.si((1, 1)), add.si((2, 2)))),
        "group(add.si(1, 1), add.si(2, 2))",
    );
}

#[test]
fn a_group_feeds_whoever_takes_a_list() {
    check::<(), i64, _>(
        group((0..2).map(|i| add.s((i, i)))) | xsum.s(()),
        "group(add.s(0, 0), add.s(1, 1)) | xsum.s()",
    );
    check::<(), i64, _>(
        group((add.s((1, 1)), mul.s((2, 2)))) | xsum.s(()) | mul.s(2),
        "group(add.s(1, 1), mul.s(2, 2)) | xsum.s() | mul.s(2)",
    );
    check::<(), Vec<i64>, _>(
        add.s((1, 1)) | group([mul.s(2), mul.s(3)]),
        "add.s(1, 1) | group(mul.s(2), mul.s(3))",
    );
    check::<(), i64, _>(
        group((add.s((1, 1)), add.s((2, 2)))) | group((xsum.s(()), xsum.s(()))) | xsum.s(()),
        "group(add.s(1, 1), add.s(2, 2)) | group(xsum.s(), xsum.s()) | xsum.s()",
    );
}

#[test]
fn a_group_directly_in_a_group_is_flattened_in_its_type_too() {
    let pair = || group((add.s((1, 1)), greet.s("Ann")));
    let list = || group((0..2).map(|i| add.s((i, i))));
    let _: Flow<(), (i64, String, i64), Grouped> = group((pair(), add.s((2, 2))));
    let _: Flow<(), Vec<i64>, Grouped> = group((list(), add.s((2, 2))));
    let _: Flow<(), Vec<i64>, Grouped> = group((add.s((2, 2)), list(), list()));
    let _: Flow<(), Vec<i64>, Grouped> = group([list(), list()]);
    let _: Flow<(), Vec<i64>, Grouped> = group((group((add.s((1, 1)), add.s((2, 2)))), list()));
    let _: Flow<(), Vec<i64>, Grouped> = group(list());
    let _: Flow<(), (Vec<i64>, i64), Grouped> = group((chain((list(),)), add.s((2, 2))));
    let _: Flow<(), (i64, i64), Grouped> = group((list() | xsum.s(()), add.s((2, 2))));
    let _: Flow<(), i64> = chord((list(), add.s((1, 1))), xsum.s(()));
}

#[test]
fn a_chord_has_a_header_of_any_kind_and_a_body() {
    let text = "chord([add.s(1, 1), add.s(2, 2)], xsum.s())";
    check::<(), i64, _>(chord([add.s((1, 1)), add.s((2, 2))], xsum.s(())), text);
    check::<(), i64, _>(chord((add.s((1, 1)), add.s((2, 2))), xsum.s(())), text);
    check::<(), i64, _>(chord((1..3).map(|i| add.s((i, i))), xsum.s(())), text);
    check::<(i64,), (), _>(
        chord((add.s(1), add.si((2, 2))), ping.si(())),
        "chord([add.s(1), add.si(2, 2)], ping.si())",
    );
    check::<(), i64, _>(
        chord(group([add.s((1, 1))]), xsum.s(()) | mul.s(2)),
        "chord([group(add.s(1, 1))], xsum.s() | mul.s(2))",
    );
}

#[test]
fn chains_are_tuples_or_lists_of_steps_that_fit() {
    check::<(), i64, _>(chain((add.s((1, 1)), mul.s(2), mul.s(3))), "add.s(1, 1) | mul.s(2) | mul.s(3)");
    check::<(i64,), i64, _>(chain(vec![mul.s(2), mul.s(3)]), "mul.s(2) | mul.s(3)");
    check::<(i64,), i64, _>(chain(Vec::<Flow<(i64,), i64>>::new()), "chain()");
    check::<Ignored, i64, _>(chain([add.si((1, 1)), add.si((2, 2))]), "add.si(1, 1) | add.si(2, 2)");
    let nothing = chain(Vec::<Flow<Ignored, i64>>::new());
    assert!(matches!(nothing.into_canvas(), Err(FlowError::EmptyChain)));
}

#[test]
fn one_task_over_many_items() {
    check::<Ignored, Vec<i64>, _>(xsum.map([[1, 2], [3, 4]]), "xsum.map([[1, 2], [3, 4]])");
    check::<Ignored, Vec<i64>, _>(add.starmap([(1, 2), (3, 4)]), "add.starmap([[1, 2], [3, 4]])");
    check::<Ignored, Vec<i64>, _>(add.starmap([[1, 2], [3, 4]]), "add.starmap([[1, 2], [3, 4]])");
    check::<Ignored, Vec<i64>, _>(
        add.starmap((0..2).map(|i| (i, i, 1))),
        "add.starmap([[0, 0, 1], [1, 1, 1]])",
    );
    check::<Ignored, Vec<Vec<i64>>, _>(
        add.chunks([(1, 1), (2, 2), (3, 3)], 2),
        "add.chunks([[1, 1], [2, 2], [3, 3]], 2)",
    );
    check::<Ignored, Vec<Value>, _>(sleep.map([1, 2]), "sleep.map([1, 2])");
    check::<Ignored, i64, _>(xsum.map([[1]]) | xsum.s(()), "xsum.map([[1]]) | xsum.s()");
}

#[test]
fn callbacks_and_options_stand_in_the_options() {
    check(add.s((1, 1)).link(mul.s(2)), "add.s(1, 1).link(mul.s(2))");
    check(add.s((1, 1)).link(ping.si(())), "add.s(1, 1).link(ping.si())");
    check(group([add.s((1, 1))]).link(ping.s(())), "group(add.s(1, 1).link(ping.si()))");
    check(add.s((1, 1)).link_error(on_failed.s(())), "add.s(1, 1).link_error(on_failed.s())");
    check(add.s((1, 1)).on_error(ping.si(())), "add.s(1, 1).link_error(ping.si())");
    let options = Options::new().with_queue("hi").unwrap().with_priority(5).unwrap();
    check(add.s((1, 1)).set(options), r#"add.s(1, 1).set(priority=5, queue="hi")"#);
    check(add.s((1, 1)).option("queue", "hi"), r#"add.s(1, 1).set(queue="hi")"#);
}

#[test]
fn missing_inputs_can_be_bound_at_the_call() {
    check::<(), i64, _>((add.s(4) | mul.s(8)).partial(4), "add.s(4, 4) | mul.s(8)");
    check::<(i64,), i64, _>(mul.s(()).partial(3), "mul.s(3)");
    check::<(), i64, _>(mul.s(()).partial((2, 3)), "mul.s(2, 3)");
    check::<(), Vec<i64>, _>(group([add.s(1), add.s(2)]).partial(10), "group(add.s(10, 1), add.s(10, 2))");
    check::<(), i64, _>(add.s((1, 2)).partial(()), "add.s(1, 2)");
    check::<Ignored, i64, _>(add.s((1, 2)).immutable(), "add.si(1, 2)");
}

#[test]
fn flows_canvases_and_signatures_can_be_submitted() {
    fn submit<C: IntoCanvas>(canvas: C) -> (String, &'static str) {
        (canvas.into_canvas().unwrap().to_string(), std::any::type_name::<C::Output>())
    }
    let value = std::any::type_name::<Value>();
    assert_eq!(submit(add.s((4, 4)) | mul.s(8)), ("add.s(4, 4) | mul.s(8)".to_owned(), "i64"));
    assert_eq!(submit(add.si((4, 4))), ("add.si(4, 4)".to_owned(), "i64"));
    let foreign = Signature::new("py.add").unwrap();
    assert_eq!(submit(foreign.clone()), ("py.add.s()".to_owned(), value));
    assert_eq!(
        submit(foreign.clone() | add.s(1).untyped().unwrap()),
        ("py.add.s() | add.s(1)".to_owned(), value)
    );
    let assumed: Flow<(i64,), i64> = Flow::assume(foreign);
    assert_eq!(submit(add.s((1, 1)) | assumed).0, "add.s(1, 1) | py.add.s()");
}

#[test]
fn what_has_no_json_form_is_an_error_of_the_canvas() {
    #[task(name = "count")]
    fn count(pairs: BTreeMap<(u8, u8), u8>, more: i64) -> i64 {
        more + pairs.len() as i64
    }
    let pairs = BTreeMap::from([((1, 2), 3)]);
    let error = |flow: Flow<(), i64>| flow.into_canvas().unwrap_err().to_string();
    let why = "not a JSON value: key must be a string";
    assert_eq!(error(count.s((pairs.clone(), 1)) | mul.s(2)), format!("argument 1 of count is {why}"));
    assert_eq!(
        error(count.with().pairs(&pairs).more(1).s(())),
        format!("keyword argument `pairs` of count is {why}")
    );
    assert_eq!(
        error(add.s((1, 1)).option("priority", 50)),
        "option priority takes a whole number from 0 to 9, not 50"
    );
}

#[test]
fn a_long_flow_is_built_in_time_linear_to_its_length() {
    let flow = (0..10_000).fold(add.s((1, 1)), |flow, i| flow | mul.s(i));
    let Ok(Canvas::Chain(chain)) = flow.untyped() else { panic!("a chain") };
    assert_eq!(chain.steps.len(), 10_001);
}
