//! Leaves that are replaced by a canvas when they run: Celery's own tests of `self.replace`, and every kind of canvas in
//! every place.
//!
//! Of Celery's tests the one about stamps is left out: stamps are kept and not acted upon.

use crate::table::{Row, fails, gives};

/// The rows, one a line.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    // Celery's integration tests.
    fails("test_chain_replaced_with_a_chain_and_an_error_callback", r#"chain(identity.s('Hello '), become.s(text="chain(identity.s(), fail.s()).link_error(echo.si('m'))"), add.s('world'))"#, "chain[1].replacement.chain[1]", "ValueError").leaves(4).errbacks(1),
    gives("test_chain_with_cb_replaced_with_chain_with_cb", r#"chain(identity.s('Hello '), become.s(text="chain(identity.s(), identity.s()).link(echo.si('m'))"), add.s('world')).link(echo.s())"#, r#""Hello world""#).leaves(5).callbacks(2),
    fails("test_chain_with_eb_replaced_with_chain_with_eb", r#"chain(identity.s('Hello '), become.s(text="chain(identity.s(), fail.s()).link_error(echo.si('m1'))"), add.s('world')).link_error(echo.si('m2'))"#, "chain[1].replacement.chain[1]", "ValueError").leaves(4).errbacks(2),
    fails("test_chain_with_errback_child_replaced", "chain(add_replaced.si(42,1337), fail.s()).link_error(echo.si(1))", "chain[1]", "ValueError").leaves(3).errbacks(1),
    fails("test_chain_child_with_errback_replaced", "chain(fail_replaced.si().link_error(echo.si(1)), identity.si(42))", "chain[0].replacement", "ValueError").leaves(2).errbacks(1),
    gives("test_task_replaced_with_chain", "replace_with_chain.si(42)", "42").leaves(3),
    gives("test_chain_child_replaced_with_chain_middle", "chain(identity.s(42), replace_with_chain.s(), identity.s())", "42").leaves(5),
    gives("test_group_with_callback_child_replaced", "group(add_replaced.si(42,1337), identity.si(31337)).link(echo.si(1))", "[1379,31337]").leaves(3).callbacks(1),
    gives("test_group_child_with_callback_replaced", "group(add_replaced.si(42,1337).link(echo.s()), identity.si(31337))", "[1379,31337]").leaves(3).callbacks(1),
    gives("test_group_child_replaced_with_chain_first", "group(replace_with_chain.si(42), identity.s(1337))", "[42,1337]"),
    gives("test_group_child_replaced_with_chain_middle", "group(identity.s(42), replace_with_chain.s(1337), identity.s(31337))", "[42,1337,31337]"),
    gives("test_group_child_replaced_with_chain_last", "group(identity.s(42), replace_with_chain.s(1337))", "[42,1337]"),
    gives("test_task_replace_with_group_preserves_group_order", "group(group(add_to_all.s([2,1],1), add_to_all.s([4,3],1)) for i in range(3))", "[[3,2],[5,4],[3,2],[5,4],[3,2],[5,4]]").leaves(18),
    gives("test_chord_header_task_replaced_with_chain", "chord(replace_with_chain.si(42), identity.s())", "[42]"),
    gives("test_chord_header_child_replaced_with_chain_first", "chord((replace_with_chain.si(42), identity.s(1337)), identity.s())", "[42,1337]"),
    gives("test_chord_header_child_replaced_with_chain_middle", "chord((identity.s(42), replace_with_chain.s(1337), identity.s(31337)), identity.s())", "[42,1337,31337]"),
    gives("test_chord_header_child_replaced_with_chain_last", "chord((identity.s(42), replace_with_chain.s(1337)), identity.s())", "[42,1337]"),
    gives("test_chord_body_chain_child_replaced_with_chain_first", "chord(identity.s(42), chain(replace_with_chain.s(), identity.s()))", "[42]"),
    gives("test_chord_body_chain_child_replaced_with_chain_middle", "chord(identity.s(42), chain(identity.s(), replace_with_chain.s(), identity.s()))", "[42]"),
    gives("test_chord_body_chain_child_replaced_with_chain_last", "chord(identity.s(42), chain(identity.s(), replace_with_chain.s()))", "[42]"),
    // What was run with Celery besides.
    gives("replaced in a chain", "chain(add.s(1,2), add_replaced.s(1), add.s(10))", "14"),
    gives("replaced by a group in a header", "chord([add_to_all.s([1,2],3), add.s(1,2)], identity.s())", "[[4,5],3]"),
    gives("replaced by a chord in a header", r#"chord([become.s(text="chord([add.s(1,4), add.s(2,3)], identity.s())"), add.s(1,2)], identity.s())"#, "[[5,5],3]"),
    // Every kind of canvas.
    gives("replaced by a signature", r#"become.s(text="add.s(1,2)") | add.s(4)"#, "7").leaves(3),
    gives("replaced by a chain", r#"become.s(text="add.s(1,2) | mul.s(3)") | add.s(4)"#, "13").leaves(4),
    gives("replaced by a group", r#"become.s(text="group(add.s(1,2), add.s(3,4))") | xsum.s()"#, "10").leaves(4),
    gives("replaced by a chord", r#"become.s(text="chord([add.s(1,2), add.s(3,4)], tsum.s())") | add.s(4)"#, "14").leaves(5),
    gives("replaced by an empty group", r#"become.s(text="group()") | identity.s()"#, "[]").leaves(2),
    gives("replaced by an empty chain", r#"become.s(text="chain()") | identity.s()"#, "null").leaves(2),
    gives("replaced by a map", r#"become.s(text="identity.map([1,2])") | tsum.s()"#, "3").leaves(3),
    gives("replaced by a starmap", r#"become.s(text="add.starmap([(1,1),(2,2)])") | tsum.s()"#, "6").leaves(3),
    gives("replaced by chunks", r#"become.s(text="add.chunks([(1,1),(2,2),(3,3)], 2)") | xsum.s()"#, "12").leaves(4),
    // In every place, and three levels deep.
    gives("replaced alone", "add_replaced.s(1,2)", "3").leaves(2),
    gives("replaced first of a chain", "add_replaced.s(1,2) | add.s(3)", "6"),
    gives("replaced last of a chain", "add.s(1,2) | add_replaced.s(3)", "6"),
    gives("replaced members", "group(add_replaced.s(i, i) for i in range(4))", "[0,2,4,6]").leaves(8),
    gives("replaced header", "chord([add_replaced.s(i, i) for i in range(4)], tsum.s())", "12"),
    gives("replaced body", "chord([add.s(1,1), add.s(2,2)], replace_with_chain.s())", "[2,4]"),
    gives("replaced callback", "add.s(1,2).link(add_replaced.s(3))", "3").callbacks(2),
    fails("replaced error callback", "fail.s().link_error(become.si(text='add.s(1,2)'))", "canvas", "ValueError").errbacks(2),
    gives("replaced three levels deep", "down.s(3) | add.s(1)", "4"),
    gives("replaced three levels deep in a header", "chord([down.s(3), down.s(2), add.s(1,1)], tsum.s())", "7"),
    gives("replaced within groups within a replacement", r#"become.s(text="group(become.s(text='group(add_replaced.s(1,1), add.s(2,2))'), add_replaced.s(3,3)) | identity.s()") | xsum.s()"#, "12"),
    // Failures inside.
    fails("replaced by what fails", "fail_replaced.s()", "replacement", "ValueError").leaves(2),
    fails("replaced by what fails in a header", "chord([add.s(1,1), fail_replaced.s()], tsum.s()).link_error(echo.s())", "header[1].replacement", "ValueError").leaves(3).errbacks(1),
    fails("replaced by a group of which two fail", r#"become.s(text="group(fail.s(), add.s(1,1), fail.s())").link_error(echo.s())"#, "replacement.group[0]", "ValueError").leaves(4).errbacks(1),
    fails("replaced by a canvas with a failing callback only", r#"group(become.s(text="add.s(1,1).link(fail.s())"), fail.s())"#, "group[1]", "ValueError").callbacks(1),
    fails("replaced two levels deep by what fails", r#"identity.s(1) | become.s(text="identity.s() | fail_replaced.s().link_error(echo.s())")"#, "chain[1].replacement.chain[1].replacement", "ValueError").errbacks(1),
    fails("replaced by what cannot run", r#"add.s(1,1) | become.si(canvas={'task': 'celery.chord', 'kwargs': {'header': [], 'body': None}, 'subtask_type': 'chord'})"#, "chain[1]", "CompileError").leaves(2),
];
