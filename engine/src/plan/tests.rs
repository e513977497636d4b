//! What canvases compile to.

use celeriac_primitives::{
    Canvas, Incarnation, Item, Json, Members, NodeNo, OnFailure, Outcome, Part, Piece, RunId, RunRef,
    Signature, Stored, TaskMessage,
};
use insta::{allow_duplicates, assert_snapshot};

use super::*;
use crate::advance::Release;

fn sig(name: &str) -> Canvas {
    Signature::new(name).unwrap().into()
}

fn si(name: &str) -> Canvas {
    sig(name).into_immutable()
}

fn group(names: &[&str]) -> Canvas {
    Canvas::group(names.iter().map(|name| sig(name)))
}

fn many(n: usize) -> Canvas {
    Canvas::group((0..n).map(|i| Signature::new("a").unwrap().arg(i).unwrap().into()))
}

fn with_errback(mut canvas: Canvas, errback: &str) -> Canvas {
    canvas.link_error(sig(errback));
    canvas
}

fn policy(mut canvas: Canvas, policy: OnFailure) -> Canvas {
    *canvas.options_mut() = canvas.options().clone().with_on_failure(policy);
    canvas
}

#[track_caller]
fn compile(canvas: Canvas) -> String {
    let plan = Plan::compile(&canvas).unwrap();
    assert_eq!(Plan::decode(&plan.encode()).unwrap(), plan, "the encoding gives the plan back");
    plan.to_string()
}

#[test]
fn a_chain_is_a_fold() {
    assert_snapshot!(compile(sig("a").then(sig("b")).then(si("c"))), @r"
    n1 = a()  # chain[0]
    n2 = b(n1)  # chain[1]
    n3 = c() after n2  # chain[2]
    => n3
    ");
}

#[test]
fn groups_are_lists_and_nested_groups_are_flattened_in_order() {
    assert_snapshot!(compile(Canvas::chord([group(&["a", "b"]), sig("c")], sig("body"))), @r"
    n1 = a()  # header[0].group[0]
    n2 = b()  # header[0].group[1]
    n3 = c()  # header[1]
    n4 = body([n1, n2, n3])  # body
    => n4
    ");
}

#[test]
fn a_list_for_several_consumers_passes_through_one_join() {
    assert_snapshot!(compile(group(&["a", "b"]).then(group(&["c", "d"]))), @r"
    n1 = a()  # chain[0].group[0]
    n2 = b()  # chain[0].group[1]
    n3 = join [n1, n2]  # chain[1]
    n4 = c(n3)  # chain[1].group[0]
    n5 = d(n3)  # chain[1].group[1]
    => [n4, n5]
    ");
}

#[test]
fn what_is_empty_still_waits_for_what_came_before() {
    assert_snapshot!(compile(sig("x").then(Canvas::group([])).then(sig("y"))), @r"
    n1 = x()  # chain[0]
    n2 = y([] after n1)  # chain[2]
    => n2
    ");
    assert_snapshot!(compile(Canvas::group([])), @"=> []");
    assert_snapshot!(compile(Canvas::chain([])), @"=> null");
}

#[test]
fn a_group_is_flattened_also_when_a_callback_takes_its_list() {
    let linked = |members: &[&str]| {
        let mut inner = group(members);
        inner.options_mut().add_link(si("cb"));
        sig("x").then(Canvas::group([sig("p"), sig("q")])).then(Canvas::group([inner]))
    };
    assert_snapshot!(compile(linked(&[])), @r"
    n1 = x()  # chain[0]
    n2 = p(n1)  # chain[1].group[0]
    n3 = q(n1)  # chain[1].group[1]
    n4 = join [] after n2, n3  # chain[2].group[0]
    n5 = cb() after n4 in s1  # chain[2].group[0].link[0]
    s1 = detached in s0
    => [] after n2, n3
    ");
    assert_snapshot!(compile(linked(&["a", "b"])), @r"
    n1 = x()  # chain[0]
    n2 = p(n1)  # chain[1].group[0]
    n3 = q(n1)  # chain[1].group[1]
    n4 = join [n2, n3]  # chain[2].group[0]
    n5 = a(n4)  # chain[2].group[0].group[0]
    n6 = b(n4)  # chain[2].group[0].group[1]
    n7 = join [n5, n6]  # chain[2].group[0]
    n8 = cb() after n7 in s1  # chain[2].group[0].link[0]
    s1 = detached in s0
    => [n5, n6]
    ");
}

#[test]
fn an_empty_chain_hands_on_what_it_gets_and_nothing_when_it_gets_nothing() {
    assert_snapshot!(compile(Canvas::chain([Canvas::chain([]), sig("a"), Canvas::chain([])])), @r"
    n1 = a()  # chain[1]
    => n1
    ");
    let mut ignoring = Canvas::Chain(celeriac_primitives::Chain { immutable: true, ..Default::default() });
    ignoring.link_error(sig("e"));
    assert_snapshot!(compile(Canvas::chain([sig("a"), ignoring, sig("b")])), @r"
    n1 = a()  # chain[0]
    n2 = b() after n1  # chain[2]
    => n2
    ");
}

#[test]
fn an_errback_of_a_group_covers_each_member_and_that_of_a_chord_its_header_once() {
    assert_snapshot!(compile(with_errback(group(&["a", "b"]), "e")), @r"
    n1 = a() in s1  # group[0]
    n2 = e(failure of s1) in s2  # link_error[0]
    n3 = b() in s3  # group[1]
    n4 = e(failure of s3) in s4  # link_error[0]
    s1 = errback in s0
    s2 = detached in s0
    s3 = errback in s0
    s4 = detached in s0
    => [n1, n3]
    ");
    assert_snapshot!(compile(with_errback(Canvas::chord([sig("a"), sig("b")], sig("c")), "e")), @r"
    n1 = a() in s1  # header[0]
    n2 = b() in s1  # header[1]
    n3 = e(failure of s1) in s2  # link_error[0]
    n4 = c([n1, n2]) in s3  # body
    n5 = e(failure of s3) in s4  # link_error[0]
    s1 = errback in s0
    s2 = detached in s0
    s3 = errback in s0
    s4 = detached in s0
    => n4
    ");
}

#[test]
fn an_errback_of_a_chords_body_covers_the_header_too() {
    assert_snapshot!(compile(Canvas::chord([sig("a")], with_errback(sig("c"), "e"))), @r"
    n1 = a() in s1  # header[0]
    n2 = e(failure of s1) in s2  # body.link_error[0]
    n3 = c([n1]) in s3  # body
    n4 = e(failure of s3) in s4  # body.link_error[0]
    s1 = errback in s0
    s2 = detached in s0
    s3 = errback in s0
    s4 = detached in s0
    => n3
    ");
}

#[test]
fn an_errback_of_a_chain_covers_a_group_at_its_end_member_by_member() {
    assert_snapshot!(compile(with_errback(Canvas::chain([sig("a"), group(&["b", "c"])]), "e")), @r"
    n1 = a() in s1  # chain[0]
    n2 = b(n1) in s2  # chain[1].group[0]
    n3 = e(failure of s2) in s3  # link_error[0]
    n4 = c(n1) in s4  # chain[1].group[1]
    n5 = e(failure of s4) in s5  # link_error[0]
    n6 = e(failure of s1) in s6  # link_error[0]
    s1 = errback in s0
    s2 = errback in s0
    s3 = detached in s0
    s4 = errback in s0
    s5 = detached in s0
    s6 = detached in s0
    => [n2, n4]
    ");
}

#[test]
fn a_callback_takes_the_result_and_stands_apart() {
    let mut canvas = sig("a");
    canvas.link(sig("cb"));
    assert_snapshot!(compile(canvas.then(sig("b"))), @r"
    n1 = a()  # chain[0]
    n2 = cb(n1) in s1  # chain[0].link[0]
    n3 = b(n1)  # chain[1]
    s1 = detached in s0
    => n3
    ");
}

#[test]
fn a_tolerated_member_ends_in_one_node_and_a_join_settles_the_list() {
    let members = || Canvas::group([sig("a"), sig("b").then(group(&["c", "d"])), Canvas::chain([])]);
    assert_snapshot!(compile(policy(members(), OnFailure::Drop).then(si("e"))), @r"
    n1 = a() in s1  # chain[0].group[0]
    n2 = b() in s2  # chain[0].group[1].chain[0]
    n3 = c(n2) in s2  # chain[0].group[1].chain[1].group[0]
    n4 = d(n2) in s2  # chain[0].group[1].chain[1].group[1]
    n5 = join [n3, n4] in s2  # chain[0].group[1]
    n6 = join null in s3  # chain[0].group[2]
    n7 = join [n1 unless s1, n5 unless s2, n6 unless s3]  # chain[0]
    n8 = e() after n7  # chain[1]
    s1 = absorb in s0
    s2 = absorb in s0
    s3 = absorb in s0
    => n8
    ");
    // A flattened group follows the policy around it, unless it has its own.
    let inner = || {
        Canvas::group([
            group(&["a", "b"]),
            policy(group(&["c"]), OnFailure::Fail),
            policy(group(&["d"]), OnFailure::Drop),
        ])
    };
    assert_snapshot!(compile(with_errback(policy(inner(), OnFailure::Collect), "e")), @r"
    n1 = a() in s1  # group[0].group[0]
    n2 = b() in s2  # group[0].group[1]
    n3 = c() in s3  # group[1].group[0]
    n4 = e(failure of s3) in s4  # link_error[0]
    n5 = d() in s5  # group[2].group[0]
    n6 = join [entry of n1 or s1, entry of n2 or s2, n3, n5 unless s5]  # canvas
    s1 = absorb in s0
    s2 = absorb in s0
    s3 = errback in s0
    s4 = detached in s0
    s5 = absorb in s0
    => n6
    ");
    assert_snapshot!(compile(policy(Canvas::chord([sig("a")], sig("b")), OnFailure::Collect)), @r"
    n1 = a() in s1  # header[0]
    n2 = join [entry of n1 or s1]  # canvas
    n3 = b(n2)  # body
    s1 = absorb in s0
    => n3
    ");
}

#[test]
fn finally_takes_the_entry_of_its_canvas() {
    let mut canvas = group(&["a", "b"]);
    canvas.finally(sig("f"));
    canvas.finally(si("g"));
    assert_snapshot!(compile(sig("x").then(canvas).then(sig("y"))), @r"
    n1 = x()  # chain[0]
    n2 = a(n1) in s1  # chain[1].group[0]
    n3 = b(n1) in s1  # chain[1].group[1]
    n4 = join [n2, n3] in s1  # chain[1]
    n5 = join entry of n4 or s1  # chain[1]
    n6 = f(n5) in s2  # chain[1].finally[0]
    n7 = g() after n5 in s3  # chain[1].finally[1]
    n8 = y(n4)  # chain[2]
    s1 = finally in s0
    s2 = detached in s0
    s3 = detached in s0
    => n8
    ");
    let mut nothing = Canvas::chain([]);
    nothing.finally(sig("f"));
    assert_snapshot!(compile(nothing.then(sig("y"))), @r"
    n1 = join null in s1  # chain[0]
    n2 = join entry of n1 or s1  # chain[0]
    n3 = f(n2) in s2  # chain[0].finally[0]
    n4 = y()  # chain[1]
    s1 = finally in s0
    s2 = detached in s0
    => n4
    ");
}

#[test]
fn chunks_are_parallel_starmaps() {
    let items = ["[1,1]", "[2,2]", "[3,3]"].map(|item| Json::parse(item).unwrap());
    let chunks = Canvas::chunks(TaskName::new("add").unwrap(), items, 2);
    assert_snapshot!(compile(sig("x").then(chunks)), @r"
    n1 = x()  # chain[0]
    n2 = add.starmap([1,1],[2,2]) after n1  # chain[1].chunk[0]
    n3 = add.starmap([3,3]) after n1  # chain[1].chunk[1]
    => [n2, n3]
    ");
}

#[test]
fn what_cannot_run_as_written_is_refused_with_its_place() {
    #[track_caller]
    fn refuse(canvas: Canvas, expect: &str) {
        assert_eq!(Plan::compile(&canvas).unwrap_err().to_string(), expect);
    }
    let add = || TaskName::new("add").unwrap();
    let no_body = Canvas::Chord(celeriac_primitives::Chord::default());
    refuse(Canvas::group([sig("a"), no_body]), "group[1]: this chord has no body; write chord(header, body)");
    refuse(Canvas::chunks(add(), [], 0), "canvas: chunks need a size of at least 1");
    let item = [Json::parse("7").unwrap()];
    let says = "canvas: item 0 is 7, but every item of a starmap is a list of arguments: write [7]";
    refuse(Canvas::starmap(add(), item.clone()), says);
    refuse(Canvas::chunks(add(), item, 1), says);
    let says = "chain[1]: on_failure is for groups and chords; write group(…).set(on_failure=\"drop\") around what may fail";
    refuse(sig("a").then(policy(sig("b"), OnFailure::Drop)), says);
    let mut wrong = group(&["a"]);
    assert_eq!(
        wrong.options_mut().set("on_failure", Json::string("ignore")).unwrap_err().to_string(),
        "option on_failure takes \"fail\", \"drop\" or \"collect\", not \"ignore\""
    );
    let text = r#"{"task":"a","args":[],"kwargs":{},"options":{"countdown":"soon"},"subtask_type":null,"immutable":false}"#;
    let late = Canvas::from_json(text).unwrap();
    let says = "chain[1]: option countdown takes a number of seconds, not negative, not \"soon\"";
    refuse(sig("a").then(late), says);
}

#[test]
fn a_value_that_doubles_with_every_step_is_refused() {
    let twice = || Canvas::group([Canvas::chain([]), Canvas::chain([])]);
    let canvas = Canvas::chain(std::iter::once(sig("a")).chain((0..40).map(|_| twice())));
    assert!(matches!(Plan::compile(&canvas), Err(CompileError::ValueSize { max: 1_000_000, .. })));
}

#[test]
fn error_callbacks_of_error_callbacks_do_not_pass_the_limit_on_nodes() {
    let mut canvas = sig("a");
    for _ in 0..8 {
        let mut ten = Canvas::group((0..10).map(|_| sig("a")));
        ten.link_error(canvas);
        canvas = ten;
    }
    assert_eq!(
        Plan::compile(&canvas).unwrap_err().to_string(),
        LimitError::Nodes { max: 1_000_000 }.to_string()
    );
}

#[test]
fn a_plan_within_larger_limits_is_read_back() {
    let limits = Limits { nodes_max: 1_200_000, ..Limits::default() };
    let plan = Plan::compile_within(&many(1_100_000), &limits).unwrap();
    assert_eq!(Plan::decode(&plan.encode()).unwrap().len(), 1_100_000);
    let full = Limits { nodes_max: 1000, ..Limits::default() };
    assert_eq!(Plan::compile_within(&many(1000), &full).unwrap().len(), 1000);
}

#[test]
fn edges_grow_with_the_sum_and_not_with_the_product() {
    let plan = Plan::compile(&many(1000).then(many(1000))).unwrap();
    assert_eq!((plan.len(), plan.edge_count()), (2001, 2000));
    let after = Canvas::chain([many(1000), Canvas::group((0..1000).map(|_| si("b")))]);
    assert_eq!(Plan::compile(&after).unwrap().edge_count(), 2000);
}

#[test]
fn the_stored_plan_grows_in_step_with_the_canvas() {
    let chords = |n| Canvas::chain((0..n).map(|_| Canvas::chord((0..1000).map(|_| sig("a")), sig("body"))));
    let bytes = |n| Plan::compile(&chords(n)).unwrap().encode().len() as f64;
    let (twenty, forty) = (bytes(20), bytes(40));
    assert!(forty / twenty <= 2.05, "{twenty} bytes, doubled {forty}");
}

#[test]
fn broken_bytes_are_errors() {
    let mut tolerant =
        policy(Canvas::group([sig("a"), sig("b").then(group(&["c", "d"]))]), OnFailure::Collect);
    tolerant.finally(sig("f"));
    let errback = with_errback(group(&["a", "b"]).then(group(&["c", "d"])), "e");
    for canvas in [errback, tolerant.then(policy(Canvas::chord([sig("g")], sig("h")), OnFailure::Drop))] {
        check_broken(Plan::compile(&canvas).unwrap().encode());
    }
}

fn check_broken(bytes: Vec<u8>) {
    for cut in 0..bytes.len() {
        assert!(Plan::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    // A changed byte may give another plan, but one that decodes can always be run to its end.
    for place in 1..bytes.len() {
        for byte in [0, 1, 0x7f, 0x91, 0xc0, 0xff] {
            let mut changed = bytes.clone();
            changed[place] = byte;
            if let Ok(plan) = Plan::decode(&changed) {
                crate::advance::tests::run_to_the_end(&plan, 7);
            }
        }
    }
}

#[test]
fn a_cycle_or_a_dangling_reference_is_refused() {
    let mut plan = Plan::compile(&sig("a").then(sig("b"))).unwrap();
    for to in [1, 2, 9] {
        plan.parts.nodes[0].after.nodes = vec![NodeNo::from_index(to)];
        let error = Plan::decode(&plan.encode()).unwrap_err().to_string();
        allow_duplicates! { assert!(error.starts_with("broken plan: node 0 refers to"), "{error}"); }
    }
}

/// A plan of leaves that only wait for each other: `edges` holds (from, to) with from < to.
pub(crate) fn dag(nodes: usize, edges: &[(usize, usize)]) -> Plan {
    let members = (0..nodes).map(|_| sig("a"));
    let group = Canvas::group(members);
    let own = Source::Canvas(&group);
    let alone = Expansion { own, added: &[], member: None };
    let mut parts = lower::lower(alone, nodes, Defaults::none()).unwrap();
    for (from, to) in edges {
        parts.nodes[*to].after.nodes.push(NodeNo::from_index(*from));
    }
    Plan::build(parts, nodes).unwrap()
}

#[test]
fn what_is_added_stands_in_a_list_behind_the_leafs_own_value() {
    let added = [sig("a"), group(&["b", "c"])];
    let own = Json::parse("7").unwrap();
    let expand = |own, member| {
        let expansion = Expansion { own, added: &added, member };
        let plan = Plan::compile_expansion(expansion, &Limits::default(), Defaults::none()).unwrap();
        assert_eq!(Plan::decode(&plan.encode()).unwrap(), plan, "the encoding gives the plan back");
        plan.to_string()
    };
    assert_snapshot!(expand(Source::Value(&own), Some(OnFailure::Fail)), @r"
    n1 = a()  # added[0]
    n2 = b()  # added[1].group[0]
    n3 = c()  # added[1].group[1]
    => [7, n1, n2, n3]
    ");
    let canvas = sig("x").then(sig("y"));
    assert_snapshot!(expand(Source::Canvas(&canvas), Some(OnFailure::Collect)), @r"
    n1 = x()  # chain[0]
    n2 = y(n1)  # chain[1]
    n3 = a() in s1  # added[0]
    n4 = b() in s2  # added[1].group[0]
    n5 = c() in s3  # added[1].group[1]
    n6 = join [n2, entry of n3 or s1, entry of n4 or s2, entry of n5 or s3]  # canvas
    s1 = absorb in s0
    s2 = absorb in s0
    s3 = absorb in s0
    => n6
    ");
}

fn run_of(number: u64) -> RunRef {
    RunId::from_parts(number, 2).incarnation(Incarnation::new(number))
}

/// A text in parts, what is stored as its number of bytes.
fn joined(parts: Vec<Part<'_>>) -> String {
    let text = |part| match part {
        Part::Text(text) => text.into_owned(),
        Part::Stored(stored) => format!("<{}>", stored.bytes),
    };
    parts.into_iter().map(text).collect()
}

/// Leaves that have succeeded, by their places, and what they added.
struct Succeeded(Vec<Outcome>);

impl Results for Succeeded {
    fn outcome(&self, node: NodeNo) -> Option<&Outcome> {
        self.0.get(node.index())
    }

    fn closed_by(&self, _: ScopeNo) -> Option<NodeNo> {
        None
    }
}

#[test]
fn what_was_added_goes_to_the_list_and_to_nobody_else() {
    let run = RunId::from_parts(1, 2).incarnation(celeriac_primitives::Incarnation::new(3));
    let json = |text: &str| Json::parse(text).unwrap();
    let added = vec![Item::Value(json("8")), Item::Value(json("9"))];
    let results = Succeeded(vec![
        Outcome::Members(Box::new(Members { value: json("7"), added })),
        Outcome::Success(json("1")),
    ]);
    let check = |canvas: &Canvas, leaf: &str, args: &str, pieces: &[Piece]| {
        let plan = Plan::compile(canvas).unwrap();
        let node =
            plan.nodes().map(|(node, _)| node).find(|node| plan.path(*node).to_string() == leaf).unwrap();
        let release = Release { node, attempt: 1 };
        assert_eq!(plan.message(run, release, &results).unwrap().args.as_str(), args, "{canvas}");
        let Referring { message, bytes } =
            plan.composer().message_by_reference(run, release, &results).unwrap();
        assert_eq!(message.input, pieces, "{canvas}");
        let parts = message.arguments(&|_, node| results.outcome(node)).unwrap();
        assert_eq!(joined(parts), args, "{canvas}");
        assert!(bytes >= args.len() as u64 - 2 && bytes <= args.len() as u64 + 4, "{canvas}: {bytes}");
    };
    let [a, b] = [0, 1].map(NodeNo::from_index);
    let text = |text: &str| Piece::Text(text.into());
    let header = || Canvas::chord([sig("a"), sig("b")], sig("body"));
    check(
        &header(),
        "body",
        "[[7,8,9,1]]",
        &[text("["), Piece::Item(a), text(","), Piece::Item(b), text("]")],
    );
    let entries = [text("["), Piece::Entry(a), text(","), Piece::Entry(b), text("]")];
    check(&policy(header(), OnFailure::Collect), "body", r#"[[{"ok":7},8,9,{"ok":1}]]"#, &entries);
    let mut linked = sig("a");
    linked.link(sig("callback"));
    linked.finally(sig("last"));
    let linked = Canvas::group([linked]);
    check(&linked, "group[0].link[0]", "[7]", &[Piece::Result(a)]);
    let entry = [text("{\"ok\":"), Piece::Result(a), text("}")];
    check(&linked, "group[0].finally[0]", r#"[{"ok":7}]"#, &entry);
    // An empty chain hands on the value alone.
    let mut linked = sig("a");
    linked.link(Canvas::group([Canvas::chain([])]).then(sig("callback")));
    let alone = [text("["), Piece::Result(a), text("]")];
    check(&Canvas::group([linked]), "group[0].link[0].chain[1]", "[[7]]", &alone);
}

#[test]
fn large_arguments_are_taken_out_of_the_plan_and_referred_to() {
    let run = run_of(1);
    let (long, short) = (Json::string(&"x".repeat(100)), Json::parse("1").unwrap());
    let call = |name: &str, args: &[&Json], named: &[&Json]| {
        let mut signature = Signature::new(name).unwrap();
        signature.args = args.iter().map(|json| (*json).clone()).collect();
        signature.kwargs = named.iter().map(|json| ("k".to_owned(), (*json).clone())).collect();
        Canvas::from(signature)
    };
    let canvas = call("a", &[&short, &long], &[]).then(call("b", &[&short], &[&long])).then(call(
        "c",
        &[&short, &long],
        &[&short],
    ));
    let whole = Plan::compile(&canvas).unwrap();
    let mut plan = whole.clone();
    let taken = plan.take_apart(50, |text| uuid::Uuid::from_u128(text.len() as u128));
    let lengths: Vec<usize> = taken.iter().map(|(_, text)| text.len()).collect();
    assert_eq!(lengths, [104, 108], "what stands in two places is taken once");
    assert!(plan.encode().len() < 500 && Plan::decode(&plan.encode()).unwrap() == plan);
    assert_eq!(plan.clone().take_apart(50, |_| unreachable!("nothing is left")), []);

    let results = Succeeded(vec![Outcome::Success(short.clone()), Outcome::Success(short)]);
    for (place, expect, named) in [(0, "[<104>]", None), (1, "[1,1]", Some(108)), (2, "[1,<104>]", None)] {
        let release = Release { node: NodeNo::from_index(place), attempt: 1 };
        assert!(plan.message(run, release, &results).is_none());
        let Referring { message, bytes } =
            plan.composer().message_by_reference(run, release, &results).unwrap();
        assert_eq!(joined(message.arguments(&|_, node| results.outcome(node)).unwrap()), expect);
        assert_eq!(message.named.map(|named: Box<Stored>| named.bytes), named);
        let length = whole.message(run, release, &results).unwrap().args.as_str().len() as u64;
        assert!(bytes >= length - 2, "{bytes} bytes");
    }
}

#[test]
fn an_input_of_large_results_is_not_put_together_and_its_size_is_known() {
    let run = run_of(1);
    let plan = Plan::compile(&Canvas::chord([sig("a"), sig("b"), sig("c")], sig("body"))).unwrap();
    let name = uuid::Uuid::from_u128(7);
    let stored = |bytes| Outcome::stored(Stored { run, name, bytes, of_plan: false });
    let short = Outcome::Success(Json::parse("1").unwrap());
    let long = Outcome::Success(Json::string(&"x".repeat(100)));
    let release = Release { node: NodeNo::from_index(3), attempt: 1 };
    for (outcomes, expect) in [
        ([short.clone(), stored(1 << 40), short.clone()], (1 << 40) + 6),
        ([long.clone(), long, short.clone()], 209),
    ] {
        let results = Succeeded(outcomes.to_vec());
        assert_eq!(plan.composer_up_to(150).message(run, release, &results), Err(NotWritten::Long));
        let referring = plan.composer().message_by_reference(run, release, &results).unwrap();
        assert_eq!(referring.bytes, expect);
    }
    let results = Succeeded(vec![short.clone(), short]);
    assert_eq!(plan.composer().message(run, release, &results), Err(NotWritten::Missing));
}

#[test]
fn a_leaf_in_whose_place_a_large_value_came_refers_to_it() {
    let (run, leaf) = (run_of(3), NodeNo::from_index(0));
    let plan = Plan::compile(&Canvas::group([sig("a"), sig("b")])).unwrap();
    let stored = Stored { run, name: uuid::Uuid::from_u128(7), bytes: 1000, of_plan: false };
    let short = Outcome::Success(Json::parse("1").unwrap());
    let results = Succeeded(vec![Outcome::stored(stored), short]);
    let outcome = plan.expanded(run, false, &results, 100, &|failure| failure).unwrap();
    assert_eq!(outcome.bytes(), Some(1004));
    let message = TaskMessage {
        input: vec![Piece::Result(leaf)],
        ..plan.message(run, Release { node: leaf, attempt: 1 }, &results).unwrap()
    };
    let outer = run_of(1);
    let message = TaskMessage { task_id: outer.task(leaf), incarnation: outer.incarnation, ..message };
    let result = |of, node: NodeNo| if of == outer { Some(&outcome) } else { results.0.get(node.index()) };
    assert_eq!(joined(message.arguments(&result).unwrap()), "[[<1000>,1]]");
}
