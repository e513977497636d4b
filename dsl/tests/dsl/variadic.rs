//! Tasks that take any number of arguments: in flows, and in `canvas!`.

use celeriac::{Flow, FlowError, Ignored, IntoCanvas, Variadic, canvas, chain, chord, group, task};
use celeriac_primitives::Failure;
use serde_json::Value;

use crate::proj::{add, echo, join, mul, ping, total, xsum};

#[track_caller]
fn check<In, Out, Form>(flow: Flow<In, Out, Form>, expect: &str) {
    assert_eq!(flow.to_string(), expect);
}

/// Only what misses nothing can be submitted.
#[track_caller]
fn submit(canvas: impl IntoCanvas, expect: &str) {
    assert_eq!(canvas.into_canvas().unwrap().to_string(), expect);
}

#[test]
fn any_number_of_arguments_runs_by_itself() {
    submit(canvas!(echo.s()), "echo.s()");
    submit(canvas!(echo.s(1)), "echo.s(1)");
    submit(canvas!(echo.s(1, 2)), "echo.s(1, 2)");
    submit(echo.s((1, "a", [true], 0.5)), r#"echo.s(1, "a", [true], 0.5)"#);
    submit(canvas!(echo.si(1, 2)), "echo.si(1, 2)");
    submit(echo.si(()), "echo.si()");
    submit(canvas!(total.s(1, 2, 3, 4, 5, 6, 7, 8)), "total.s(1, 2, 3, 4, 5, 6, 7, 8)");
    submit(canvas!(total.s(1, 2) | mul.s(3)), "total.s(1, 2) | mul.s(3)");
    check::<Variadic<Value>, Value, _>(echo.with().s((1, 2)), "echo.s(1, 2)");
    check::<Ignored, Value, _>(echo.s(1).immutable(), "echo.si(1)");
}

#[test]
fn one_input_fits_in_front_of_the_arguments() {
    check::<(), Value, _>(canvas!(add.s(1, 2) | echo.s()), "add.s(1, 2) | echo.s()");
    check::<(), i64, _>(canvas!(add.s(1, 2) | total.s(3, 4)), "add.s(1, 2) | total.s(3, 4)");
    check::<Variadic<i64>, i64, _>(total.s(()) | total.s(1) | mul.s(2), "total.s() | total.s(1) | mul.s(2)");
    check::<(), Value, _>(
        canvas!(group(add.s(1, 1), ping.s()) | echo.s()),
        "group(add.s(1, 1), ping.s()) | echo.s()",
    );
    check::<(), Value, _>(chord([add.s((1, 1))], echo.s(2)), "chord([add.s(1, 1)], echo.s(2))");
    check::<(), i64, _>(chain((add.s((1, 1)), total.s(()), mul.s(2))), "add.s(1, 1) | total.s() | mul.s(2)");
    check::<Variadic<i64>, i64, _>(chain(vec![total.s(1), total.s((2, 3))]), "total.s(1) | total.s(2, 3)");
    let nothing = chain(Vec::<Flow<Variadic<i64>, i64>>::new());
    assert!(matches!(nothing.into_canvas(), Err(FlowError::EmptyChain)));
}

#[test]
fn more_arguments_can_be_put_in_front_as_long_as_somebody_likes() {
    let all = (0..10).rev().fold(total.s(()), |flow, number| flow.partial(number));
    submit(all, "total.s(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)");
    check::<Variadic<i64>, i64, _>(total.s(3).partial((1, 2)), "total.s(1, 2, 3)");
}

#[test]
fn arguments_go_to_the_rest_when_all_others_have_theirs() {
    check::<(String,), String, _>(join.s(()), "join.s()");
    check::<(), String, _>(join.s("-"), r#"join.s("-")"#);
    check::<(), String, _>(join.s(("-", 2)), r#"join.s("-", 2)"#);
    check::<(), String, _>(join.s(("-", 2, "a", "b")), r#"join.s("-", 2, "a", "b")"#);
    check::<Ignored, String, _>(canvas!(join.si("-", 2, "a")), r#"join.si("-", 2, "a")"#);
    check::<(), String, _>(canvas!(join.s("-", times = 2)), r#"join.s("-", times=2)"#);
    check::<(), String, _>(canvas!(join.s(by = "-")), r#"join.s(by="-")"#);
    #[task(name = "most")]
    fn most(first: i64, #[rest] others: Vec<i64>) -> i64 {
        others.into_iter().fold(first, i64::max)
    }
    check::<(i64,), i64, _>(most.s(()), "most.s()");
    check::<(), i64, _>(most.s(1), "most.s(1)");
    check::<(), i64, _>(canvas!(add.s(1, 1) | most.s() | mul.s(2)), "add.s(1, 1) | most.s() | mul.s(2)");
    check::<(), i64, _>(canvas!(most.s(1, 2, 3)), "most.s(1, 2, 3)");
    assert_eq!(most.call(1, vec![2, 3]), 3);
}

#[test]
fn members_of_a_group_take_the_input_of_the_others() {
    check::<(), (i64, Value), _>(group((add.s((1, 1)), echo.s(2))), "group(add.s(1, 1), echo.s(2))");
    check::<(), (Value, i64), _>(group((echo.s(2), add.s((1, 1)))), "group(echo.s(2), add.s(1, 1))");
    check::<(i64,), (i64, Value), _>(group((add.s(1), echo.s(2))), "group(add.s(1), echo.s(2))");
    check::<(i64,), (Value, i64), _>(group((echo.s(2), add.s(1))), "group(echo.s(2), add.s(1))");
    check::<Variadic<i64>, (i64, i64), _>(
        group((total.s(1), add.si((1, 1)))),
        "group(total.s(1), add.si(1, 1))",
    );
    check::<Variadic<i64>, (i64, i64), _>(
        group((add.si((1, 1)), total.s(1))),
        "group(add.si(1, 1), total.s(1))",
    );
    submit(
        canvas!(group(total.s(1), total.s(1, 2)) | xsum.s()),
        "group(total.s(1), total.s(1, 2)) | xsum.s()",
    );
    submit(canvas!(group(echo.s(i, i) for i in 0..2)), "group(echo.s(0, 0), echo.s(1, 1))");
    check::<(), Vec<i64>, _>(
        add.s((1, 1)) | group([total.s(1), total.s((2, 3))]),
        "add.s(1, 1) | group(total.s(1), total.s(2, 3))",
    );
}

#[test]
fn a_row_may_be_of_any_length() {
    check::<Ignored, Vec<Value>, _>(echo.map([1, 2]), "echo.map([1, 2])");
    check::<Ignored, Vec<i64>, _>(
        total.starmap([[1, 2, 3], [4, 5, 6]]),
        "total.starmap([[1, 2, 3], [4, 5, 6]])",
    );
    check::<Ignored, Vec<Vec<i64>>, _>(
        total.chunks([(1, 2), (3, 4)], 1),
        "total.chunks([[1, 2], [3, 4]], 1)",
    );
}

#[test]
fn a_task_of_any_number_of_arguments_can_be_a_callback() {
    #[task(name = "log")]
    fn log(#[rest] failures: Vec<Failure>) {
        assert!(failures.len() < 9);
    }
    check(add.s((1, 1)).link(echo.s("done")), r#"add.s(1, 1).link(echo.s("done"))"#);
    check(group([add.s((1, 1))]).link(echo.s(())), "group(add.s(1, 1).link(echo.si()))");
    check(add.s((1, 1)).link_error(echo.s(())), "add.s(1, 1).link_error(echo.s())");
    check(add.s((1, 1)).link_error(log.s(())), "add.s(1, 1).link_error(log.s())");
}
