//! What is read, and as what.

use celeriac_primitives::{Json, Limits};

use super::app;
use crate::text::{parse, parse_args, parse_value, parse_with};

#[track_caller]
fn check(text: &str, expect: &str) {
    match parse(text) {
        Ok(canvas) => assert_eq!(canvas.to_string(), expect),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn signatures_are_written_as_in_celery() {
    check("proj.tasks.add.s(4, 4)", "proj.tasks.add.s(4, 4)");
    check("add.si(4)", "add.si(4)");
    check("add.s()", "add.s()");
    check("add.s(4, y=4)", "add.s(4, y=4)");
    check(r#"add.s(4, **{"odd key": 1})"#, r#"add.s(4, **{"odd key": 1})"#);
    check(r#"add.s(4, y=1, **{"z": 2},)"#, "add.s(4, y=1, z=2)");
    check("add.s(*[1, 2], *range(2), z=3)", "add.s(1, 2, 0, 1, z=3)");
    check(r#"add.signature((2, 2), {"z": 1}, countdown=10)"#, "add.s(2, 2, z=1).set(countdown=10)");
    check("add.signature(args=(2,), immutable=True, queue='hi')", r#"add.si(2).set(queue="hi")"#);
    check(
        r#"add.signature((2,), None, {"queue": "hi"}, priority=3)"#,
        r#"add.s(2).set(priority=3, queue="hi")"#,
    );
    check("add.subtask((2, 2))", "add.s(2, 2)");
    check(
        "add.signature((2,), link=mul.s(4), link_error=[a.s(), b.s()])",
        "add.s(2).link(mul.s(4)).link_error(a.s()).link_error(b.s())",
    );
    check(
        r#"signature("proj.tasks.add", args=(2, 2), kwargs={"z": 1}, immutable=true, queue="hi")"#,
        r#"proj.tasks.add.si(2, 2, z=1).set(queue="hi")"#,
    );
    check(r#"signature("any-name", (2, 2))"#, r#"signature("any-name", args=[2, 2], kwargs={})"#);
    check("signature('add')", "add.s()");
}

#[test]
fn pipes_splice_and_chain_does_not() {
    check("add.s(4, 4) | mul.s(8)", "add.s(4, 4) | mul.s(8)");
    check("a.s() | (b.s() | c.s())", "a.s() | b.s() | c.s()");
    check(r#"(a.s() | b.s()).set(queue="q") | c.s()"#, r#"chain(chain(a.s(), b.s()).set(queue="q"), c.s())"#);
    check("(a.s() | b.s()).set(immutable=true)", "chain(a.s(), b.s()).set(immutable=true)");
    check("chain(add.s(4, 4), mul.s(8))", "add.s(4, 4) | mul.s(8)");
    check("chain(add.s(4, 4) | mul.s(8))", "chain(add.s(4, 4) | mul.s(8))");
    check("chain([a.s(), b.s()])", "a.s() | b.s()");
    check("chain((a.s(), b.s()))", "a.s() | b.s()");
    check("chain(a.s())", "chain(a.s())");
    check("chain()", "chain()");
    check("chain(a.s(), chain(b.s(), c.s()))", "chain(a.s(), b.s() | c.s())");
    check("a.s() | chain(b.s(), c.s())", "a.s() | b.s() | c.s()");
    check("chain(ids.si(i=i) for i in range(3))", "ids.si(i=0) | ids.si(i=1) | ids.si(i=2)");
}

#[test]
fn groups_take_canvases_a_list_or_a_generator() {
    check("group()", "group()");
    check("group(add.s(2, 2), add.s(4, 4))", "group(add.s(2, 2), add.s(4, 4))");
    check("group([add.s(2, 2), add.s(4, 4)])", "group(add.s(2, 2), add.s(4, 4))");
    check("group((add.s(2, 2),))", "group(add.s(2, 2))");
    check("group(add.s(i, i) for i in xrange(3))", "group(add.s(0, 0), add.s(1, 1), add.s(2, 2))");
    check("group([add.s(i) for i in range(2)]) | xsum.s()", "group(add.s(0), add.s(1)) | xsum.s()");
    check("group(*[add.s(i) for i in range(2)], mul.s(3))", "group(add.s(0), add.s(1), mul.s(3))");
    check("group(list(add.s(i) for i in range(2)))", "group(add.s(0), add.s(1))");
    check("group(group(a.s()), b.s())", "group(group(a.s()), b.s())");
    check("group(a.s() | b.s(), c.s())", "group(a.s() | b.s(), c.s())");
}

#[test]
fn headers_are_lists_generators_groups_or_one_canvas() {
    check("chord([add.s(1, 1), add.s(2, 2)], xsum.s())", "chord([add.s(1, 1), add.s(2, 2)], xsum.s())");
    check(
        "chord((add.s(i, i) for i in xrange(3)), xsum.s())",
        "chord([add.s(0, 0), add.s(1, 1), add.s(2, 2)], xsum.s())",
    );
    check("chord(add.s(i, i) for i in range(2), xsum.s())", "chord([add.s(0, 0), add.s(1, 1)], xsum.s())");
    check("chord(add.s(i, i) for i in range(2))(xsum.s())", "chord([add.s(0, 0), add.s(1, 1)], xsum.s())");
    check("chord([add.s(i, i) for i in range(2)])(xsum.s())", "chord([add.s(0, 0), add.s(1, 1)], xsum.s())");
    check("chord(header=[a.s()], body=b.s())", "chord([a.s()], b.s())");
    check("chord([a.s()], body=None)", "chord([a.s()])");
    check("chord((a.s(), b.s()), c.s())", "chord([a.s(), b.s()], c.s())");
    check("chord(group(a.s(), b.s()), c.s())", "chord([a.s(), b.s()], c.s())");
    check("chord([group(a.s(), b.s())], c.s())", "chord([group(a.s(), b.s())], c.s())");
    check("chord(a.s() | b.s(), c.s())", "chord([a.s() | b.s()], c.s())");
    check("chord(a.s(), b.s())", "chord([a.s()], b.s())");
    check("chord([a.s()])", "chord([a.s()])");
    check("chord([], xsum.s())", "chord([], xsum.s())");
    check("chord([a.s()])(body=b.s())", "chord([a.s()], b.s())");
}

#[test]
fn maps_and_chunks_take_any_list() {
    check("xsum.map([[1, 2], [3, 4]])", "xsum.map([[1, 2], [3, 4]])");
    check("xsum.map([range(3), list(range(2)), (1, 2)])", "xsum.map([[0, 1, 2], [0, 1], [1, 2]])");
    check("xsum.map(range(3))", "xsum.map([0, 1, 2])");
    check("add.starmap(zip(range(3), range(3)))", "add.starmap([[0, 0], [1, 1], [2, 2]])");
    check("add.starmap([(i, i * 2) for i in range(3)])", "add.starmap([[0, 0], [1, 2], [2, 4]])");
    check(
        "add.chunks(zip(range(5), range(5)), 2)",
        "add.chunks([[0, 0], [1, 1], [2, 2], [3, 3], [4, 4]], 2)",
    );
    check("add.chunks(it=[[1, 1]], n=10)", "add.chunks([[1, 1]], 10)");
    check(
        "add.chunks([[1, 1], [2, 2], [3, 3]], 2).group()",
        "group(add.starmap([[1, 1], [2, 2]]), add.starmap([[3, 3]]))",
    );
    check(
        r#"add.chunks([[1, 1], [2, 2]], 1).set(queue="q").group() | xsum.s()"#,
        r#"group(add.starmap([[1, 1]]).set(queue="q"), add.starmap([[2, 2]]).set(queue="q")) | xsum.s()"#,
    );
    check("xmap(add.s(), [1, 2])", "add.map([1, 2])");
    check("xstarmap(proj.add, [[1, 2]])", "proj.add.starmap([[1, 2]])");
    check(r#"xmap(signature("a-b"), [null])"#, r#"xmap(signature("a-b"), [null])"#);
    check("chunks(add.si(), [[1, 1]], 2)", "add.chunks([[1, 1]], 2)");
}

#[test]
fn methods_give_the_canvas_back() {
    check(r#"add.s(2).set(queue="hi", priority=5)"#, r#"add.s(2).set(priority=5, queue="hi")"#);
    check("add.s(2).set(immutable=true)", "add.si(2)");
    check("add.si(2).set(immutable=False)", "add.s(2)");
    check("group(a.s(), b.s()).set(immutable=True)", "group(a.si(), b.si())");
    check(
        r#"add.s(2).set(expires=None, headers={"a": 1}, **{"x y": 2})"#,
        r#"add.s(2).set(expires=null, headers={"a": 1}, **{"x y": 2})"#,
    );
    check(
        "add.s(2).link(mul.s(4)).link(mul.s(4)).link_error(log.s())",
        "add.s(2).link(mul.s(4)).link_error(log.s())",
    );
    check("add.s(2).on_error(log.si())", "add.s(2).link_error(log.si())");
    check("group(a.s(), b.s()).link(c.s(1))", "group(a.s().link(c.si(1)), b.s())");
    check("group(a.s(), b.s()).set(link=[c.s(1), d.s()])", "group(a.s(), b.s()).set(link=[c.s(1), d.s()])");
    check(
        "chord([a.s()], b.s()).link(c.s()).link_error(d.s())",
        "chord([a.s()], b.s().link(c.s())).link_error(d.s())",
    );
    check("chord([a.s()]).link(c.s())", "chord([a.s()]).link(c.s())");
    check("(a.s() | b.s()).link(c.s())", "chain(a.s(), b.s()).link(c.s())");
    check(
        "group(a.s()).set(on_failure='drop', finally=[b.s()]).finally(c.s()).finally(c.s())",
        "group(a.s()).set(on_failure=\"drop\").finally(b.s()).finally(c.s())",
    );
    check("chord([a.s()], b.s()).finally(c.s())", "chord([a.s()], b.s()).finally(c.s())");
    check(r#"add.s(2).clone((4,), {"z": 5}, queue="hi")"#, r#"add.s(4, 2, z=5).set(queue="hi")"#);
    check("(a.s(1) | b.s()).clone(args=[0])", "a.s(0, 1) | b.s()");
    check("group(a.s(1), b.si(1)).partial((0,))", "group(a.s(0, 1), b.si(1))");
    check("add.s(2).clone()", "add.s(2)");
}

#[test]
fn generators_go_over_lists() {
    check("group(add.s(a, b) for a, b in [(1, 2), (3, 4)])", "group(add.s(1, 2), add.s(3, 4))");
    check("group(add.s(i, j) for i in range(2) for j in range(i))", "group(add.s(1, 0))");
    check("group(add.s(i) for i in range(10) if i % 2 == 0 if i > 2)", "group(add.s(4), add.s(6), add.s(8))");
    check("group(add.s(i) for i in range(10, 0, -4))", "group(add.s(10), add.s(6), add.s(2))");
    check("group(add.s(i) for i in range(2, 4))", "group(add.s(2), add.s(3))");
    check("group(add.s(i) for i in range(-1))", "group()");
    check("group(add.s(x) for x, in [[1], [2]])", "group(add.s(1), add.s(2))");
    check(
        "group(add.s(i) for i in range(6) if 1 < i <= 3 or i == 5 and not i in [5])",
        "group(add.s(2), add.s(3))",
    );
    check(r#"group(add.s(i) for i in [3, "a", None] if i != "a")"#, "group(add.s(3), add.s(null))");
    check("group(add.s(i) for i in [1, 2, 3] if i not in (1, 2))", "group(add.s(3))");
    check(
        r#"group(add.s([i, {"k": i}], z=(i,)) for i in range(1))"#,
        r#"group(add.s([0, {"k": 0}], z=[0]))"#,
    );
    check(
        "group(add.s(i + 1, i - 1, i * 3, 7 // 2, -7 // 2, -7 % 3, 2 ** 10, -i) for i in [5])",
        "group(add.s(6, 4, 15, 3, -4, 2, 1024, -5))",
    );
    check(
        "group(add.s((i + 1) * 2, -2 ** 2, 2 ** 3 ** 2, 10 - 3 - 2) for i in [1])",
        "group(add.s(4, -4, 512, 5))",
    );
    check(r#"group(add.s("a" + "b" + x) for x in ["c"])"#, r#"group(add.s("abc"))"#);
    check(
        "group(chord((add.s(i, j) for j in range(2)), xsum.s()) for i in range(2))",
        "group(chord([add.s(0, 0), add.s(0, 1)], xsum.s()), chord([add.s(1, 0), add.s(1, 1)], xsum.s()))",
    );
    check("group(add.s(i) for i in [j * j for j in range(3)])", "group(add.s(0), add.s(1), add.s(4))");
}

#[test]
fn values_are_python_or_json() {
    check(
        "add.s(1180591620717411303424, 1_000, 0x1f, 1.50, 1e5, .5, -0)",
        "add.s(1180591620717411303424, 1000, 31, 1.50, 1e5, 0.5, -0)",
    );
    check(
        r#"add.s('a' "b" 'c"d', "\x41\n", r'\d', "é", '\u00e9', """x
y""")"#,
        r#"add.s("abc\"d", "A\n", "\\d", "é", "é", "x\ny")"#,
    );
    check("add.s(True, False, None, true, false, null)", "add.s(true, false, null, true, false, null)");
    check(
        r#"add.s((), (1,), (1, 2), [], [[]], {}, {"a": {"b": [1,],},})"#,
        r#"add.s([], [1], [1, 2], [], [[]], {}, {"a": {"b": [1]}})"#,
    );
    check(r#"add.s({'a': 1, "b": (1, 2)})"#, r#"add.s({"a": 1, "b": [1, 2]})"#);
    check(
        "add.s(range(3), zip([1], [2]), [i for i in range(2)], list(), tuple([1]))",
        "add.s([0, 1, 2], [[1, 2]], [0, 1], [], [1])",
    );
    check(
        r#"add.s(1 == 1.0, "a" in ["a"], 1 and 0, "" or "x", not 1)"#,
        r#"add.s(true, true, 0, "x", false)"#,
    );
}

#[test]
fn white_space_and_odd_names_are_no_obstacle() {
    check(
        "  # first add
add.s(
  2, # two
  2,
)
  | mul.s(8) # then",
        "add.s(2, 2) | mul.s(8)",
    );
    check(
        "(
  add.s(1)
  | mul.s(2)
)",
        "add.s(1) | mul.s(2)",
    );
    check(
        "proj
.tasks.add
.s(1)",
        "proj.tasks.add.s(1)",
    );
    check(
        r"add.s(1 + \
 2)",
        "add.s(3)",
    );
    check(
        "group.s(1) | s.s() | map.map([1]) | not.s() | a.s.si()",
        "group.s(1) | s.s() | map.map([1]) | not.s() | a.s.si()",
    );
    check("((add.s(2)))", "add.s(2)");
    check("\u{feff}add.s(1)", "add.s(1)");
}

#[test]
fn short_names_mean_the_full_ones() {
    for (text, expect) in [
        ("add.s(1) | tasks.add.s(2)", "proj.tasks.add.s(1) | proj.tasks.add.s(2)"),
        ("signature('xsum')", "proj.tasks.xsum.s()"),
        (
            "xmap(xsum, [[1]]) | other.mul.starmap([[1]])",
            "proj.tasks.xsum.map([[1]]) | other.mul.starmap([[1]])",
        ),
    ] {
        assert_eq!(parse_with(text, &app(), &Limits::default()).unwrap().to_string(), expect);
    }
}

#[test]
fn values_and_arguments_are_read_alone() {
    assert_eq!(parse_value("{'a': (1, None)} # end").unwrap().as_str(), r#"{"a":[1,null]}"#);
    assert_eq!(parse_value("range(2)").unwrap().as_str(), "[0,1]");
    assert_eq!(parse_value("-2 ** 64").unwrap().as_str(), "-18446744073709551616");
    let printed = |text| {
        let (args, kwargs) = parse_args(text).unwrap();
        let kwargs = Json::object(kwargs.iter().map(|(name, value)| (name.as_str(), value)));
        format!("{} {kwargs}", Json::list(args))
    };
    assert_eq!(printed("4, z=5"), r#"[4] {"z":5}"#);
    assert_eq!(printed(" "), "[] {}");
    assert_eq!(printed("[1, 2], *(3, 4), **{'a b': \"c\"},"), r#"[[1,2],3,4] {"a b":"c"}"#);
}

/// The members of a large group are generated in linear time: the limit on nodes is reached at once.
#[test]
fn a_large_group_is_read() {
    let canvas = parse("group(add.s(i, i) for i in range(100000)) | xsum.s()").unwrap();
    assert_eq!(Limits::default().check(&canvas), Ok(()));
    assert!(canvas.to_string().ends_with("add.s(99999, 99999)) | xsum.s()"));
}
