//! `canvas!`: every form of Celery's own writing.

use celeriac::{Flow, Grouped, Ignored, canvas};
use serde_json::Value;

use crate::proj::{add, greet, identity, mul, on_failed, ping, sleep, xsum};

#[track_caller]
fn check<In, Out, Form>(flow: Flow<In, Out, Form>, expect: &str) {
    assert_eq!(flow.to_string(), expect);
}

#[test]
fn several_arguments_and_none() {
    check::<(), i64, _>(canvas!(add.s(4, 4) | mul.s(8)), "add.s(4, 4) | mul.s(8)");
    check::<(), i64, _>(canvas!(add.s(1, 2, 3)), "add.s(1, 2, 3)");
    check::<(i64, i64), i64, _>(canvas!(add.s()), "add.s()");
    check::<Ignored, i64, _>(canvas!(add.si(2, 2)), "add.si(2, 2)");
    check::<(), i64, _>(canvas!(add.s((4, 4))), "add.s(4, 4)");
    check::<(), i64, _>(canvas!(xsum.s([])), "xsum.s([])");
    check::<(), Value, _>(canvas!(sleep.s(1, "done")), r#"sleep.s(1, "done")"#);
}

#[test]
fn keywords_by_name_and_type() {
    check::<(), i64, _>(canvas!(add.s(4, y = 4)), "add.s(4, y=4)");
    check::<(i64,), i64, _>(canvas!(add.s(y = 4)), "add.s(y=4)");
    check::<(), i64, _>(canvas!(add.s(x = 3, y = 4, z = 5)), "add.s(x=3, y=4, z=5)");
    check::<(i64,), i64, _>(canvas!(add.s(4, z = 5)), "add.s(4, z=5)");
    check::<Ignored, i64, _>(canvas!(add.si(1, 2, z = 5)), "add.si(1, 2, z=5)");
    check::<(), Value, _>(canvas!(sleep.s(seconds = 1, value = [1, 2])), "sleep.s(seconds=1, value=[1, 2])");
    check::<(), String, _>(canvas!(greet.s("Ann", title = "Dr")), r#"greet.s("Ann", title="Dr")"#);
    check::<(), i64, _>(canvas!(xsum.s(numbers = [])), "xsum.s(numbers=[])");
}

#[test]
fn generators() {
    let ten = "group(add.s(0, 0), add.s(1, 1), add.s(2, 2))";
    check::<(), Vec<i64>, Grouped>(canvas!(group(add.s(i, i) for i in 0..3)), ten);
    check::<(), i64, _>(canvas!(group(add.s(i, i) for i in 0..3) | xsum.s()), &format!("{ten} | xsum.s()"));
    check::<(), i64, _>(canvas!((group(add.s(i, i) for i in 0..3) | xsum.s())), &format!("{ten} | xsum.s()"));
    check::<(), Vec<i64>, _>(canvas!(group([add.s(i, i) for i in 0..3])), ten);
    check::<(), Vec<i64>, _>(
        canvas!(group(add.s(i, y = i) for i in 0..4 if i % 2 == 1)),
        "group(add.s(1, y=1), add.s(3, y=3))",
    );
    let pairs = [(1, 2), (3, 4)];
    check::<(), Vec<i64>, _>(
        canvas!(group(add.s(x, y) for x, y in pairs)),
        "group(add.s(1, 2), add.s(3, 4))",
    );
    check::<(), Vec<i64>, _>(canvas!(group(add.s(x, y) for x in 0..2 for y in 0..x)), "group(add.s(1, 0))");
    check::<(), Vec<i64>, _>(canvas!(group(vec![add.s(i, i) for i in 0..3])), ten);
    check::<(), Vec<i64>, _>(
        canvas!(group(vec![add.s(0, 0), add.s(1, y = 1)])),
        "group(add.s(0, 0), add.s(1, y=1))",
    );
    check::<(i64,), i64, _>(canvas!(chain(mul.s(i) for i in 2..4)), "mul.s(2) | mul.s(3)");
    check::<(), Vec<i64>, _>(
        canvas!(group(add.s(i, i) | mul.s(2) for i in 0..2)),
        "group(add.s(0, 0) | mul.s(2), add.s(1, 1) | mul.s(2))",
    );
}

#[test]
fn groups_chains_and_chords() {
    check::<(), (i64, i64), Grouped>(
        canvas!(group(add.s(1, 1), add.s(2, 2))),
        "group(add.s(1, 1), add.s(2, 2))",
    );
    check::<(), (i64, String), Grouped>(
        canvas!(group(add.s(1, 1), greet.s("Ann"))),
        r#"group(add.s(1, 1), greet.s("Ann"))"#,
    );
    check::<(), (i64,), Grouped>(canvas!(group(add.s(1, 1))), "group(add.s(1, 1))");
    check::<(), i64, _>(
        canvas!(group(add.s(1, 1), add.s(2, 2)) | xsum.s()),
        "group(add.s(1, 1), add.s(2, 2)) | xsum.s()",
    );
    check::<(), Vec<i64>, _>(
        canvas!(group(
            add.s(1, 1),
            add.s(2, 2),
            add.s(3, 3),
            add.s(4, 4),
            add.s(5, 5),
            add.s(6, 6),
            add.s(7, 7),
            add.s(8, 8),
            add.s(9, 9)
        )),
        "group(add.s(1, 1), add.s(2, 2), add.s(3, 3), add.s(4, 4), add.s(5, 5), add.s(6, 6), add.s(7, 7), \
         add.s(8, 8), add.s(9, 9))",
    );
    check::<(), i64, _>(canvas!(chain(add.s(4, 4), mul.s(8), mul.s(2))), "add.s(4, 4) | mul.s(8) | mul.s(2)");
    check::<(i64,), i64, _>(
        canvas!(chain(
            mul.s(1),
            mul.s(2),
            mul.s(3),
            mul.s(4),
            mul.s(5),
            mul.s(6),
            mul.s(7),
            mul.s(8),
            mul.s(9)
        )),
        "mul.s(1) | mul.s(2) | mul.s(3) | mul.s(4) | mul.s(5) | mul.s(6) | mul.s(7) | mul.s(8) | mul.s(9)",
    );
    check::<(), i64, _>(canvas!(chain(add.s(4, 4) | mul.s(8))), "chain(add.s(4, 4) | mul.s(8))");
    let chord = "chord([add.s(1, 1), add.s(2, 2)], xsum.s())";
    check::<(), i64, _>(canvas!(chord([add.s(1, 1), add.s(2, 2)], xsum.s())), chord);
    check::<(), i64, _>(canvas!(chord([add.s(1, 1), add.s(2, 2)])(xsum.s())), chord);
    check::<(), i64, _>(canvas!(chord((add.s(i, i) for i in 1..3), xsum.s())), chord);
    check::<(i64,), i64, _>(
        canvas!(chord([add.s(1), mul.si(2, 2)], xsum.s() | mul.s(2))),
        "chord([add.s(1), mul.si(2, 2)], xsum.s() | mul.s(2))",
    );
}

#[test]
fn methods_on_tasks_and_canvases() {
    check::<Ignored, Vec<i64>, _>(canvas!(xsum.map([[1, 2], [3, 4]])), "xsum.map([[1, 2], [3, 4]])");
    check::<Ignored, Vec<i64>, _>(canvas!(add.starmap([(1, 2), (3, 4)])), "add.starmap([[1, 2], [3, 4]])");
    check::<Ignored, Vec<Vec<i64>>, _>(
        canvas!(add.chunks([[1, 1], [2, 2], [3, 3]], 2)),
        "add.chunks([[1, 1], [2, 2], [3, 3]], 2)",
    );
    check(canvas!(add.s(1, 1).set(queue = "hi", priority = 5)), r#"add.s(1, 1).set(priority=5, queue="hi")"#);
    check::<Ignored, i64, _>(canvas!(add.s(1, 1).set(immutable = true)), "add.si(1, 1)");
    check(canvas!(add.s(1, 1).link(mul.s(y = 2))), "add.s(1, 1).link(mul.s(y=2))");
    check(canvas!(add.s(1, 1).on_error(on_failed.s())), "add.s(1, 1).link_error(on_failed.s())");
    check(
        canvas!((add.s(1, 1) | mul.s(2)).link_error(ping.si())),
        "chain(add.s(1, 1), mul.s(2)).link_error(ping.si())",
    );
    check::<(), i64, _>(canvas!(mul.s().partial(2, 3)), "mul.s(2, 3)");
}

#[test]
fn any_rust_expression_may_stand_where_a_value_or_a_canvas_stands() {
    let first = add.s((1, 1));
    let numbers = [1, 2, 3];
    let flow = canvas!(first | mul.s(numbers.iter().sum::<i64>() + i64::from(true)) | identity.s());
    check::<(), Value, _>(flow, "add.s(1, 1) | mul.s(7) | identity.s()");
    let twice = numbers.len() > 2;
    let flow = canvas!(if twice { add.s(2, 2) } else { add.s(1, 1) });
    check::<(), i64, _>(flow, "add.s(2, 2)");
    let members: Vec<_> = numbers.iter().map(|n| mul.s(*n)).collect();
    check::<(i64,), i64, _>(
        canvas!(group(members) | xsum.s()),
        "group(mul.s(1), mul.s(2), mul.s(3)) | xsum.s()",
    );
    let flow = canvas!(group(numbers.iter().map(|n| add.s(*n, y = *n))));
    check::<(), Vec<i64>, _>(flow, "group(add.s(1, y=1), add.s(2, y=2), add.s(3, y=3))");
    let flow = canvas!({
        let step = mul.s(2);
        add.s(1, 1) | step.clone() | step
    });
    check::<(), i64, _>(flow, "add.s(1, 1) | mul.s(2) | mul.s(2)");
}
