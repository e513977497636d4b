//! The evaluator on small canvases.

use celeriac_primitives::Signature;

use super::*;

/// A leaf that returns its arguments after its name; one whose name starts with `bad` fails.
fn t(name: &str) -> Canvas {
    Signature::new(name).unwrap().into()
}

fn si(name: &str) -> Canvas {
    t(name).into_immutable()
}

fn group<const N: usize>(members: [Canvas; N]) -> Canvas {
    Canvas::group(members)
}

fn chain<const N: usize>(steps: [Canvas; N]) -> Canvas {
    Canvas::chain(steps)
}

fn errback(mut canvas: Canvas, name: &str) -> Canvas {
    canvas.options_mut().add_link_error(t(name));
    canvas
}

fn link(mut canvas: Canvas, name: &str) -> Canvas {
    canvas.options_mut().add_link(t(name));
    canvas
}

/// The evaluation, and one line for each leaf that ran: its path and its arguments.
fn run(canvas: &Canvas) -> (Evaluation, Vec<String>) {
    let mut ran = Vec::new();
    let evaluation = eager(canvas, &mut |leaf| {
        let args = Json::list(&leaf.args);
        ran.push(format!("{} {}{args}", leaf.path, leaf.task).replace('"', ""));
        if leaf.task.as_str().starts_with("bad") {
            return Err(TaskError::new("ValueError", "boom"));
        }
        Ok(Json::list([&Json::string(leaf.task.as_str())].into_iter().chain(&leaf.args)))
    });
    (evaluation.unwrap(), ran)
}

/// `expect` is the value without quotes, or the path of the failure.
#[track_caller]
fn check(canvas: Canvas, expect: &str) {
    let seen = match run(&canvas).0.result {
        Ok(value) => value.as_str().replace('"', ""),
        Err(failure) => failure.path.to_string(),
    };
    assert_eq!(seen, expect, "{canvas}");
}

/// Which callbacks of either kind ran, in order: their paths and the nodes they were called for.
#[track_caller]
fn check_callbacks(canvas: Canvas, expect: &[&str]) {
    let ran = run(&canvas).1.into_iter().filter(|line| line.contains("link"));
    let node = |line: String| match line.split_once("node:") {
        Some((path, rest)) => {
            format!("{} {}", path.split(' ').next().unwrap(), rest.split(',').next().unwrap())
        }
        None => line,
    };
    assert_eq!(ran.map(node).collect::<Vec<_>>(), expect, "{canvas}");
}

#[test]
fn a_group_is_a_list_whatever_its_size() {
    check(group([]), "[]");
    check(group([t("a")]), "[[a]]");
    check(chain([group([t("a")])]), "[[a]]");
    check(chain([t("a"), group([t("b")])]), "[[b,[a]]]");
    check(chain([group([t("a")]), t("b")]), "[b,[[a]]]");
    check(chain([t("a"), group([]), t("b")]), "[b,[]]");
}

#[test]
fn an_empty_chain_hands_on_what_it_gets() {
    check(chain([]), "null");
    check(chain([t("a"), chain([]), t("b")]), "[b,[a]]");
    check(chain([chain([]), t("a")]), "[a]");
    check(chain([t("a"), group([chain([]), t("b")])]), "[[a],[b,[a]]]");
    check(group([chain([]), t("b")]), "[null,[b]]");
    check(chain([t("a"), chain([]).into_immutable(), t("b")]), "[b]");
}

#[test]
fn groups_directly_in_groups_and_headers_are_flattened_as_written() {
    let ab = || group([t("a"), t("b")]);
    check(group([ab(), t("c"), group([group([t("d")]), t("e")])]), "[[a],[b],[c],[d],[e]]");
    check(group([chain([ab()]), t("c")]), "[[[a],[b]],[c]]");
    check(Canvas::chord([t("c"), ab()], t("body")), "[body,[[c],[a],[b]]]");
    check(Canvas::chord([chain([t("a"), t("b")])], t("body")), "[body,[[b,[a]]]]");
    check(group([group([t("a"), t("bad")])]), "group[0].group[1]");
}

#[test]
fn chunks_are_starmaps_side_by_side_and_one_member() {
    let items = || [Json::parse("[1]"), Json::parse("[2]"), Json::parse("[3]")].map(Result::unwrap);
    let name = |name| TaskName::new(name).unwrap();
    let chunks = Canvas::chunks(name("t"), items(), 2);
    let (_, ran) = run(&chain([t("a"), group([chunks.clone(), t("b")])]));
    assert_eq!(
        ran,
        [
            "chain[0] a[]",
            "chain[1].group[0].chunk[0] t[[1],[2]]",
            "chain[1].group[0].chunk[1] t[[3]]",
            "chain[1].group[1] b[[a]]",
        ]
    );
    check(chain([t("a"), group([chunks, t("b")])]), "[[[t,[1],[2]],[t,[3]]],[b,[a]]]");
    check(Canvas::chunks(name("t"), [], 2), "[]");
    check(Canvas::map(name("t"), items()), "[t,[1],[2],[3]]");
}

#[test]
fn immutable_parts_ignore_their_input_but_need_it() {
    check(chain([t("a"), si("b"), t("c")]), "[c,[b]]");
    check(chain([t("a"), chain([t("b"), t("c")]).into_immutable()]), "[c,[b]]");
    check(chain([t("bad"), si("b")]), "chain[0]");
    assert_eq!(run(&chain([t("bad"), si("b")])).1.len(), 1);
}

#[test]
fn siblings_of_a_failed_leaf_go_on() {
    let canvas = Canvas::chord(
        [t("a"), t("bad1"), chain([t("bad2"), t("never")]), t("b")],
        chain([t("never"), t("never")]),
    );
    let (evaluation, ran) = run(&canvas);
    assert_eq!(
        ran.iter().map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>(),
        ["header[0]", "header[1]", "header[2].chain[0]", "header[3]"]
    );
    let failed: Vec<_> = evaluation.failures.iter().map(|failure| failure.path.to_string()).collect();
    assert_eq!(failed, ["header[1]", "header[2].chain[0]"]);
    assert_eq!(evaluation.result, Err(evaluation.failures[0].clone()));
}

#[test]
fn callbacks_run_once_with_the_value_of_their_canvas() {
    check_callbacks(link(t("a"), "cb"), &["link[0] cb[[a]]"]);
    check_callbacks(link(chain([t("a"), t("b")]), "cb"), &["link[0] cb[[b,[a]]]"]);
    check_callbacks(link(group([t("a"), t("b")]), "cb"), &["link[0] cb[[[a],[b]]]"]);
    check_callbacks(link(Canvas::chord([t("a")], t("b")), "cb"), &["link[0] cb[[b,[[a]]]]"]);
    check_callbacks(link(chain([t("a"), t("bad")]), "cb"), &[]);
    check_callbacks(
        group([link(t("a"), "bad"), chain([link(t("b"), "cb"), t("c")])]),
        &["group[0].link[0] bad[[a]]", "group[1].chain[0].link[0] cb[[b]]"],
    );
}

#[test]
fn a_failing_callback_changes_nothing_else() {
    let canvas = chain([link(t("a"), "bad"), t("b")]);
    check(canvas.clone(), "[b,[a]]");
    assert_eq!(run(&canvas).0.failures, []);
    check_callbacks(errback(link(t("a"), "bad"), "eb"), &["link[0] bad[[a]]"]);
    let mut canvas = t("bad");
    canvas.options_mut().add_link_error(errback(t("bad"), "eb"));
    assert_eq!(run(&canvas).0.failures.len(), 1);
    check_callbacks(canvas, &["link_error[0] canvas", "link_error[0].link_error[0] link_error[0]"]);
}

#[test]
fn errbacks_of_a_group_run_for_each_member() {
    check_callbacks(errback(t("bad"), "eb"), &["link_error[0] canvas"]);
    check_callbacks(
        errback(
            group([t("bad"), t("a"), group([t("bad")]), chain([group([t("bad"), t("bad")]), t("b")])]),
            "eb",
        ),
        &[
            "link_error[0] group[0]",
            "link_error[0] group[2].group[0]",
            "link_error[0] group[3].chain[0].group[0]",
        ],
    );
    let items = [Json::parse("[1]").unwrap(), Json::parse("[2]").unwrap()];
    check_callbacks(
        errback(Canvas::chunks(TaskName::new("bad").unwrap(), items, 1), "eb"),
        &["link_error[0] chunk[0]", "link_error[0] chunk[1]"],
    );
}

#[test]
fn errbacks_of_a_chain_run_once_but_for_each_member_at_its_end() {
    let bads = || group([t("bad"), t("bad")]);
    check_callbacks(errback(chain([t("a"), t("bad"), t("b")]), "eb"), &["link_error[0] chain[1]"]);
    check_callbacks(errback(chain([bads(), t("b")]), "eb"), &["link_error[0] chain[0].group[0]"]);
    let each = ["link_error[0] chain[1].group[0]", "link_error[0] chain[1].group[1]"];
    check_callbacks(errback(chain([t("a"), bads()]), "eb"), &each);
    check_callbacks(errback(chain([t("a"), bads(), chain([])]), "eb"), &each);
    check_callbacks(
        errback(chain([t("a"), chain([bads(), t("b")])]), "eb"),
        &["link_error[0] chain[1].chain[0].group[0]"],
    );
}

#[test]
fn errbacks_of_a_chord_run_once_for_its_header_and_by_its_body() {
    let bads = || group([t("bad"), t("bad")]);
    check_callbacks(
        errback(Canvas::chord([t("bad"), group([t("bad")])], t("b")), "eb"),
        &["link_error[0] header[0]"],
    );
    check_callbacks(errback(Canvas::chord([t("a")], t("bad")), "eb"), &["link_error[0] body"]);
    check_callbacks(
        errback(Canvas::chord([t("a")], bads()), "eb"),
        &["link_error[0] body.group[0]", "link_error[0] body.group[1]"],
    );
}

#[test]
fn every_covering_canvas_calls_its_errbacks_the_innermost_first() {
    let mut canvas = errback(chain([errback(group([errback(t("bad"), "x"), t("bad")]), "y"), t("b")]), "z");
    canvas.options_mut().add_link_error(si("last"));
    let (_, ran) = run(&canvas);
    let ran: Vec<_> = ran.iter().filter(|line| line.contains("link_error")).collect();
    let paths: Vec<_> = ran.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "chain[0].group[0].link_error[0]",
            "chain[0].link_error[0]",
            "link_error[0]",
            "link_error[1]",
            "chain[0].link_error[0]"
        ]
    );
    assert_eq!(
        ran[0],
        "chain[0].group[0].link_error[0] x[{task_id:null,node:chain[0].group[0],task:bad,state:FAILURE,\
         error:{type:ValueError,message:boom,causes:[]}}]"
    );
    assert_eq!(ran[3], "link_error[1] last[]", "an immutable errback gets nothing");
}

#[test]
fn a_canvas_without_meaning_is_refused_before_anything_runs() {
    #[track_caller]
    fn refuse(canvas: Canvas, expect: &str) {
        let error = eager::<Json>(&canvas, &mut |leaf| panic!("{} ran", leaf.path)).unwrap_err().to_string();
        assert!(error.starts_with(expect), "{error}");
    }
    let no_body = || Canvas::Chord(Chord { header: vec![t("a")], ..Chord::default() });
    refuse(chain([t("a"), no_body()]), "chain[1]: a chord needs a body");
    refuse(Canvas::chord([t("a")], group([no_body()])), "body.group[0]: a chord needs a body");
    let mut canvas = t("a");
    canvas.link_error(group([t("b"), Canvas::chunks(TaskName::new("t").unwrap(), [], 0)]));
    refuse(canvas, "link_error[0].group[1]: chunks need a size");
}
