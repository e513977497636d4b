//! Leaves that add members to the list that their value goes into: Celery's own test of `self.add_to_chord`, and every
//! place, policy and kind of canvas.

use crate::table::{Row, fails, gives};

/// The rows, one a line.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    // Celery's integration test; the order is ours.
    gives("test_add_to_chord", "group([add_to_all_to_chord.s([1,2,3],4)]) | identity.s()", "[0,5,6,7]").leaves(5),
    // Every place of a member.
    gives("added first of a header", "chord([adds.s(1, canvases=['add.s(2,2)']), add.s(8,0)], identity.s())", "[1,4,8]").leaves(4),
    gives("added last of a header", "chord([add.s(8,0), adds.s(1, canvases=['add.s(2,2)', 'add.s(3,3)'])], identity.s())", "[8,1,4,6]").leaves(5),
    gives("added in a group that nothing follows", "group(adds.s(1, canvases=['add.s(2,2)']), add.s(8,0))", "[1,4,8]").leaves(3),
    gives("added in a group with a callback", "group(adds.s(1, canvases=['add.s(2,2)'])).link(tsum.s())", "[1,4]").leaves(2).callbacks(1),
    gives("added by the last of a chain", "chord([add.s(1,2) | adds.s(canvases=['add.s(2,2)']), add.s(8,0)], identity.s())", "[3,4,8]").leaves(5),
    gives("added by the last but empty chains", "chord([add.s(1,2) | adds.s(canvases=['add.s(2,2)']) | chain(), add.s(8,0)], identity.s())", "[3,4,8]").leaves(5),
    gives("added by a body", "group(chord([add.s(1,2)], adds.s(canvases=['add.s(2,2)'])), add.s(8,0)) | identity.s()", "[[3],4,8]").leaves(5),
    gives("added in a spliced group", "group(group(adds.s(1, canvases=['add.s(2,2)']), add.s(3,3)), add.s(8,0)) | identity.s()", "[1,4,6,8]").leaves(5),
    gives("added in a group that is a member", "group(chain(group(adds.s(1, canvases=['add.s(2,2)']), add.s(3,3))), add.s(8,0)) | identity.s()", "[[1,4,6],8]").leaves(5),
    gives("added before a group", "group(adds.s(1, canvases=['add.s(2,2)']), add.s(3,3)) | group(tsum.s(), identity.s())", "[11,[1,4,6]]").leaves(5),
    gives("added in a group of a callback", "add.s(1,2).link(group(adds.s(canvases=['add.s(2,2)'])) | tsum.s())", "3").callbacks(3),
    gives("added and handed on as a member", "group(adds.s(1, canvases=['add.s(2,2)']).link(group(chain(), identity.s()) | xsum.s()))", "[1,4]").leaves(2).callbacks(2),
    gives("added before an immutable body", "group(adds.s(1, canvases=['add.s(2,2)'])) | add.si(3,3)", "6").leaves(3),
    gives("added in every header", "chord([adds.s(i, canvases=['add.s(2,2)']) for i in range(3)], identity.s())", "[0,4,1,4,2,4]").leaves(7),
    gives("added in a header whose list does not travel with the body", "group(group(identity.s(i) for i in range(1100)), adds.s(1, canvases=['add.s(2,2)'])) | xsum.s()", "604455").leaves(1103),
    gives("added in a header of entries that do not travel with the body", "group(group(identity.s(i) for i in range(600)), adds.s(1, canvases=['add.s(2,2)', 'fail.s()'])).set(on_failure='collect') | tag.s(tag=1)", r#"[1,"c7953ad72c129597"]"#).leaves(604),
    // Every kind of canvas.
    gives("added chain", "chord([adds.s(1, canvases=['add.s(2,2) | mul.s(3)'])], identity.s())", "[1,12]").leaves(4),
    gives("added group", "chord([adds.s(1, canvases=['group(add.s(2,2), add.s(3,3))', 'add.s(4,4)'])], identity.s())", "[1,4,6,8]").leaves(5),
    gives("added chord", "chord([adds.s(1, canvases=['chord([add.s(2,2), add.s(3,3)], tsum.s())'])], identity.s())", "[1,10]").leaves(5),
    gives("added chain that ends in a group", "chord([adds.s(1, canvases=['add.s(2,2) | group(add.s(1), add.s(2))'])], identity.s())", "[1,[5,6]]").leaves(5),
    gives("added empty group", "chord([adds.s(1, canvases=['group()'])], identity.s())", "[1]").leaves(2),
    gives("added empty chain", "chord([adds.s(1, canvases=['chain()'])], identity.s())", "[1,null]").leaves(2),
    gives("added map", "chord([adds.s(1, canvases=['identity.map([1,2])'])], identity.s())", "[1,[1,2]]").leaves(3),
    gives("added chunks", "chord([adds.s(1, canvases=['add.chunks([(1,1),(2,2),(3,3)], 2)'])], identity.s())", "[1,[[2,4],[6]]]").leaves(4),
    gives("added with callbacks", "chord([adds.s(1, canvases=['add.s(2,2).link(echo.s())']).link(echo.s())], identity.s())", "[1,4]").leaves(3).callbacks(2),
    gives("added with a finally", "chord([adds.s(1, canvases=['add.s(2,2)']).set(finally=echo.s())], identity.s())", "[1,4]").leaves(3).finals(1),
    // Growth upon growth.
    gives("added by what was added", r#"chord([adds.s(1, canvases=["adds.s(2, canvases=['add.s(2,2)'])", 'add.s(9,0)'])], identity.s())"#, "[1,2,4,9]").leaves(5),
    gives("added three levels deep", r#"chord([adds.s(1, canvases=["adds.s(2, canvases=[\"adds.s(3, canvases=['add.s(2,2)'])\"])"]), add.s(8,0)], identity.s())"#, "[1,2,3,4,8]").leaves(6),
    gives("added by what replaced", r#"chord([become.s(text="add.s(1,0) | adds.s(canvases=['add.s(2,2)'])"), add.s(8,0)], identity.s())"#, "[1,4,8]").leaves(6),
    gives("added by a group that replaced", r#"chord([become.s(text="group(adds.s(1, canvases=['add.s(2,2)']), add.s(3,3))"), add.s(8,0)], identity.s())"#, "[[1,4,6],8]").leaves(6),
    gives("added and replaced", r#"chord([become.s(text="add.s(1,0) | mul.s(5)", canvases=['add.s(2,2)']), add.s(8,0)], identity.s())"#, "[5,4,8]").leaves(6),
    gives("added and replaced by what adds", r#"chord([become.s(text="adds.s(1, canvases=['add.s(2,2)'])", canvases=['add.s(3,3)'])], identity.s())"#, "[1,4,6]").leaves(5),
    gives("added what is replaced", "chord([adds.s(1, canvases=['add_replaced.s(2,2)'])], identity.s())", "[1,4]").leaves(4),
    gives("added what is replaced by a group", "chord([adds.s(1, canvases=['add_to_all.s([1,2],1)'])], identity.s())", "[1,[2,3]]").leaves(5),
    // Policies.
    fails("added fails", "chord([adds.s(1, canvases=['add.s(2,2)', 'fail.s()']), add.s(8,0)], identity.s()).link_error(echo.s())", "header[0].replacement.added[1]", "ValueError").leaves(4).errbacks(1),
    fails("added fails below an error callback of the member", "chord([adds.s(1, canvases=['fail.s().link_error(echo.s())']).link_error(echo.s())], identity.s())", "header[0].replacement.added[0]", "ValueError").leaves(2).errbacks(2),
    gives("added fails and is dropped", "chord([adds.s(1, canvases=['add.s(2,2)', 'fail.s()']), fail.s(), add.s(8,0)], identity.s()).set(on_failure='drop')", "[1,4,8]").leaves(6),
    gives("added fails and is collected", "chord([adds.s(1, canvases=['add.s(2,2)', 'fail.s()']), add.s(8,0)], identity.s()).set(on_failure='collect')", r#"[{"ok":1},{"ok":4},{"error":"failure"},{"ok":8}]"#).leaves(5),
    gives("added group fails in part and is dropped", "group(adds.s(1, canvases=['group(add.s(2,2), fail.s())'])).set(on_failure='drop')", "[1,4]").leaves(3),
    gives("added group with a policy of its own", "group(adds.s(1, canvases=[\"group(add.s(2,2), fail.s()).set(on_failure='drop')\"]))", "[1,4]").leaves(3),
    gives("added two levels deep fails and is collected", r#"group(adds.s(1, canvases=["adds.s(2, canvases=['fail.s()', 'add.s(2,2)'])"])).set(on_failure='collect')"#, r#"[{"ok":1},{"ok":2},{"error":"failure"},{"ok":4}]"#).leaves(4),
    gives("added by what replaced fails and is collected", r#"group(become.s(text="add.s(1,0) | adds.s(canvases=['fail.s()'])")).set(on_failure='collect') | identity.s()"#, r#"[{"ok":1},{"error":"failure"}]"#).leaves(5),
    gives("added beside a replacement that fails", r#"group(become.s(text="fail.s()", canvases=['add.s(2,2)']), add.s(8,0)).set(on_failure='collect')"#, r#"[{"error":"failure"},{"ok":8}]"#).leaves(4),
    gives("added by a chain that is tolerated", "group(add.s(1,2) | adds.s(canvases=['fail.s()', 'add.s(2,2)']), fail.s() | adds.s(canvases=['add.s(2,2)'])).set(on_failure='drop') | identity.s()", "[3,4]").leaves(6),
    gives("added in a group that is dropped", "group(chain(group(adds.s(1, canvases=['fail.s()']), add.s(8,0))), add.s(8,0)).set(on_failure='drop')", "[8]"),
    // Where there is nothing to add to.
    fails("added alone", "adds.s(1, canvases=['add.s(2,2)'])", "canvas", "ValueError").leaves(1),
    fails("added last of a chain", "add.s(1,2) | adds.s(canvases=['add.s(2,2)'])", "chain[1]", "ValueError").leaves(2),
    fails("added within a member", "group(adds.s(1, canvases=['add.s(2,2)']) | identity.s())", "group[0].chain[0]", "ValueError").leaves(1),
    fails("added by a body that is no member", "chord([add.s(1,2)], adds.s(canvases=['add.s(2,2)']))", "body", "ValueError").leaves(2),
    fails("added by an item of a map", "group(add_to_all_to_chord.starmap([([1],2)]))", "group[0]", "ValueError").leaves(1),
    fails("added by what replaced what is no member", r#"become.s(text="adds.s(1, canvases=['add.s(2,2)'])")"#, "replacement", "ValueError").leaves(2),
    gives("added by a callback", "group(add.s(1,2).link(adds.s(canvases=['add.s(2,2)'])))", "[3]").callbacks(1),
    fails("added what cannot run", r#"group(adds.s(1, canvases=[{'task': 'celery.chord', 'kwargs': {'header': [], 'body': None}, 'subtask_type': 'chord'}]))"#, "group[0]", "CompileError").leaves(1),
];
