//! What becomes of a list when a member fails, and what runs in either case.
//!
//! The first rows are written by hand. The others are every policy × group or chord × where in the member the leaf fails
//! × how deep all of it is nested; what must come out is computed from those four alone.

use std::sync::LazyLock;

use crate::table::{Row, fails, gives};

/// All rows.
pub(crate) static ROWS: LazyLock<Vec<Row>> =
    LazyLock::new(|| WRITTEN.iter().copied().chain(products()).collect());

/// One a line.
#[rustfmt::skip]
const WRITTEN: &[Row] = &[
    gives("drop all", r#"chord([fail.si(), fail.si()], identity.s()).set(on_failure="drop")"#, "[]").leaves(3),
    gives("drop none", r#"group(add.s(1,2), add.s(3,4)).set(on_failure="drop")"#, "[3,7]"),
    gives("collect none", r#"group(add.s(1,2), add.s(3,4)).set(on_failure="collect")"#, r#"[{"ok":3},{"ok":7}]"#),
    gives("drop nothing", r#"group().set(on_failure="drop") | identity.s()"#, "[]"),
    gives("collect what cannot fail", r#"add.s(1,2) | group(chain(), group(), chain(group())).set(on_failure="collect")"#, r#"[{"ok":3},{"ok":[]}]"#),
    gives("drop, then a step", r#"group(add.s(1,2), fail.s(), add.s(3,4)).set(on_failure="drop") | tsum.s()"#, "10").leaves(4),
    gives("drop, then a step that takes nothing", r#"group(fail.si(), fail.si()).set(on_failure="drop") | identity.si(3)"#, "3").leaves(3),
    gives("drop, then a group", r#"group(add.s(1,2), fail.s()).set(on_failure="drop") | group(identity.s(), tsum.s())"#, "[[3],3]").leaves(4),
    gives("drop, then chunks", r#"group(fail.s(), identity.s(1)).set(on_failure="drop") | add.chunks([(1,1),(2,2)], 1)"#, "[[2],[4]]").leaves(4),
    gives("a policy for a group of groups", r#"group(group(fail.si(), identity.si(1)), fail.si()).set(on_failure="collect")"#, r#"[{"error":"failure"},{"ok":1},{"error":"failure"}]"#).leaves(3),
    gives("a policy within another", r#"group(group(fail.si(), identity.si(1)).set(on_failure="drop"), identity.si(2)).set(on_failure="collect")"#, r#"[1,{"ok":2}]"#).leaves(3),
    fails("a policy that takes another back", r#"group(group(fail.si(), identity.si(1)).set(on_failure="fail"), fail.si()).set(on_failure="collect")"#, "group[0].group[0]", "ValueError").leaves(3),
    gives("a policy in a header", r#"chord([group(fail.si(), identity.si(1)).set(on_failure="drop"), identity.si(2)], tsum.s())"#, "3").leaves(4),
    fails("a policy in a header is not the header's", r#"chord([group(fail.si(), identity.si(1)).set(on_failure="drop"), fail.si()], tsum.s())"#, "header[1]", "ValueError").leaves(3),
    gives("a chain around a group is one member", r#"group(chain(group(fail.si(), identity.si(1)).set(on_failure="drop")), chain(group(fail.si(), identity.si(1)))).set(on_failure="collect")"#, r#"[{"ok":[1]},{"error":"failure"}]"#).leaves(4),
    gives("chunks are one member", r#"group(add.chunks([(1,1),(2,"x")], 1), add.chunks([(3,3)], 1)).set(on_failure="collect")"#, r#"[{"error":"failure"},{"ok":[[6]]}]"#).leaves(3),
    gives("many failures in one member", r#"group(group(fail.si(), identity.si(1)) | tsum.s(), chord([fail.si(), fail.si()], tsum.s())).set(on_failure="collect")"#, r#"[{"error":"failure"},{"error":"failure"}]"#).leaves(4),
    gives("a failure that was tolerated is no failure", r#"chord([fail.si()], noargs.si()).set(on_failure="drop").link_error(echo.s())"#, "null").leaves(2),
    fails("a body fails whatever its header may", r#"chord([fail.si()], noargs.s()).set(on_failure="drop").link_error(echo.s())"#, "body", "TypeError").leaves(2).errbacks(1),
    fails("what comes before a list that tolerates", r#"fail.s() | group(identity.s(), identity.s()).set(on_failure="collect")"#, "chain[0]", "ValueError").leaves(1),
    gives("an errback of a member", r#"group(fail.si().link_error(echo.s()), chain(fail.si(), noargs.si()).link_error(echo.s())).set(on_failure="drop").link_error(echo.si(1))"#, "[]").leaves(2).errbacks(2),
    gives("a link of a list that tolerates", r#"group(fail.si(), identity.si(1)).set(on_failure="drop", link=[tsum.s()])"#, "[1]").callbacks(1),
    gives("a link of a flattened list that tolerates", r#"group(group(fail.si(), identity.si(1)).set(link=[tsum.s()]), identity.si(2)).set(on_failure="drop")"#, "[1,2]").callbacks(1),
    gives("a list that tolerates in an errback", r#"group(fail.si().link_error(group(fail.s(), chain(), echo.s()).set(on_failure="collect") | echo.s())).set(on_failure="drop")"#, "[]").errbacks(3),
    gives("finally of a success", "add.s(1,2).finally(identity.s())", "3").finals(1),
    fails("finally of a failure", "fail.s().finally(identity.s())", "canvas", "ValueError").finals(1),
    gives("finally takes nothing", "add.s(1,2).finally(noargs.si()).finally(echo.s() | echo.s())", "3").finals(3),
    gives("the same finally twice", "add.s(1,2).finally(echo.s()).finally(echo.s())", "3").finals(1),
    gives("a finally that fails", "chain(add.s(1,2).finally(fail.s()), add.s(3))", "6").finals(1),
    gives("a finally of a finally", "add.s(1,2).finally(fail.s().finally(echo.s()))", "3").finals(2),
    fails("finally of a chain", "chain(add.s(1,2), fail.s(), add.s(3)).finally(echo.s())", "chain[1]", "ValueError").leaves(2).finals(1),
    fails("finally of what was never started", "chain(fail.s(), add.s(3).finally(echo.s()))", "chain[0]", "ValueError").finals(0),
    fails("finally of a group", "group(fail.si(), fail.si(), add.s(1,2)).finally(echo.s())", "group[0]", "ValueError").leaves(3).finals(1),
    gives("finally of a group in a group", "group(group(add.s(1,2)).finally(echo.s()), group().finally(echo.s()))", "[3]").finals(2),
    fails("finally of a chord", "chord([fail.si(), fail.si()], tsum.s()).finally(echo.s())", "header[0]", "ValueError").finals(1),
    fails("finally of a body", "chord([fail.si()], tsum.s().finally(echo.s()))", "header[0]", "ValueError").finals(0),
    gives("finally of chunks", "add.chunks([(1,1),(2,2)], 1).finally(echo.s())", "[[2],[4]]").finals(1),
    gives("finally of nothing", "chain().finally(echo.s()) | add.s(1,2)", "3").finals(1),
    fails("finally and errback", "fail.s().link_error(echo.s()).finally(echo.s())", "canvas", "ValueError").errbacks(1).finals(1),
    gives("finally of a link", "add.s(1,2).link(fail.s().finally(echo.s()))", "3").callbacks(1).finals(1),
];

/// A member with one leaf that fails: what is said of it, its text, where the leaf stands, how many leaves run.
const MEMBERS: &[(&str, &str, &str, usize)] = &[
    ("leaf", "fail.si()", "", 1),
    ("chain", "chain(identity.si(1), fail.s(), identity.s())", ".chain[1]", 2),
    ("header", "chord([fail.si(), identity.si(1)], identity.s())", ".header[0]", 2),
    ("body", "chord([identity.si(1)], fail.s())", ".body", 2),
    ("trailing group", "chain(identity.si(1), group(fail.s(), identity.s()))", ".chain[1].group[0]", 3),
];

/// Every member beside one that succeeds, each with an error callback and `finally`, as its list has, too.
fn products() -> Vec<Row> {
    let mut rows = Vec::new();
    for policy in ["fail", "drop", "collect"] {
        for is_chord in [false, true] {
            for (position, member, inside, run) in MEMBERS {
                for depth in 1..=3 {
                    rows.push(product(policy, is_chord, (position, member, inside, *run), depth));
                }
            }
        }
    }
    rows
}

fn product(
    policy: &str,
    is_chord: bool,
    (position, member, inside, run): (&str, &str, &str, usize),
    depth: usize,
) -> Row {
    let form = if is_chord { "chord" } else { "group" };
    let members = format!("{member}.link_error(echo.s()).finally(echo.s()), identity.si(7)");
    let list = match is_chord {
        true => format!("chord([{members}], identity.s())"),
        false => format!("group({members})"),
    };
    let mut text = format!("{list}.set(on_failure=\"{policy}\").link_error(echo.si(0)).finally(echo.s())");
    let mut value = if policy == "drop" { "[7]" } else { r#"[{"error":"failure"},{"ok":7}]"# }.to_owned();
    let mut node = format!("{}[0]{inside}", if is_chord { "header" } else { "group" });
    for _ in 1..depth {
        text = format!("chord([chain({text}, identity.s()), identity.si(8)], identity.s())");
        value = format!("[{value},8]");
        node = format!("header[0].chain[0].{node}");
    }
    let around = depth - 1;
    // Rows are looked at while the program runs, and there are few.
    let keep = |text: String| -> &'static str { text.leak() };
    let id = keep(format!("{policy}: {position} in a {form}, depth {depth}"));
    let row = if policy == "fail" {
        fails(id, keep(text), keep(node), "ValueError").leaves(run + 1 + around).errbacks(2)
    } else {
        gives(id, keep(text), keep(value)).leaves(run + 1 + usize::from(is_chord) + 3 * around).errbacks(1)
    };
    row.finals(2)
}
