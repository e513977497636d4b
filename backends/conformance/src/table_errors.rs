//! What fails, where, and how often callbacks and error callbacks run.
//!
//! The numbers are those of the scenarios that were run with Celery 5.7.0; the nodes and counts are ours.

use crate::table::{Row, fails, gives};

/// The rows, one a line.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    // 4.3 What fails, and what runs all the same.
    fails("4.3 E1", "chain(add.s(1,2), fail.s(), add.s(1))", "chain[1]", "ValueError").leaves(2),
    fails("4.3 E2", "chain(fail.s(), add.s(1), add.s(2))", "chain[0]", "ValueError").leaves(1),
    fails("4.3 E3", "group(fail.s(), add.s(1,2))", "group[0]", "ValueError").leaves(2),
    fails("4.3 E4", "chord([add.s(1,2), fail.s()], tsum.s())", "header[1]", "ValueError").leaves(2),
    fails("4.3 E5", "chord([add.s(1,2), add.s(3,4)], fail.s())", "body", "ValueError").leaves(3),
    fails("4.3 E6", "chord([add.s(1,2), fail.s()], chain(tsum.s(), add.s(1)))", "header[1]", "ValueError").leaves(2),
    fails("4.3 E7", "chord([add.s(1,2), fail.s()], group(tsum.s(), tsum.s()))", "header[1]", "ValueError").leaves(2),
    fails("4.3 E8", "chord([add.s(1,2), fail.s()], chord([tsum.s(), tsum.s()], tsum.s()))", "header[1]", "ValueError").leaves(2),
    fails("4.3 E8 g|g|t", "group(add.s(1,2), fail.s()) | group(tsum.s(), tsum.s()) | tsum.s()", "chain[0].group[1]", "ValueError").leaves(2),
    fails("4.3 E8d", "chord([add.s(1,2), fail.s()], chain(tsum.s(), group(add.s(1), add.s(2))))", "header[1]", "ValueError").leaves(2).differs("Ours 9: a run always ends; Celery waits for ever"),
    fails("4.3 E9", "chain(group(add.s(1,2), fail.s()), tsum.s(), add.s(1))", "chain[0].group[1]", "ValueError").leaves(2),
    fails("4.3 E10", "chain(add.s(1,2), group(add.s(1), fail.s()), tsum.s())", "chain[1].group[1]", "ValueError").leaves(3),
    fails("4.3 E10b", "chain(fail.s(), group(add.s(1), add.s(2)), tsum.s())", "chain[0]", "ValueError").leaves(1),
    fails("4.3 E10c", "chain(fail.s(), group(add.s(1), add.s(2)))", "chain[0]", "ValueError").leaves(1).differs("Ours 9: a run always ends; Celery waits for ever"),
    fails("4.3 E10d", "chain(add.s(1,2), fail.s(), group(add.s(1), add.s(2)), tsum.s(), add.s(1))", "chain[1]", "ValueError").leaves(2),
    fails("4.3 E11", "chord([chord([fail.s(), add.s(1,2)], tsum.s()), add.s(3,4)], tsum.s())", "header[0].header[0]", "ValueError").leaves(3).differs("Ours 10: the leaf's own error; Celery reports a ChordError of the inner body"),
    fails("4.3 E11 after a chain", "chord([chain(add.s(1,2), chord([fail.s(), add.s(2)], tsum.s())), add.s(3,4)], tsum.s())", "header[0].chain[1].header[0]", "ValueError").leaves(4).differs("Ours 10: the leaf's own error; Celery reports a ChordError of the inner body"),
    fails("4.3 E11 chain body", "chord([chord([fail.s(), add.s(1,2)], chain(tsum.s(), add.s(1))), add.s(3,4)], tsum.s())", "header[0].header[0]", "ValueError").leaves(3).differs("Ours 10: the leaf's own error; Celery reports a ChordError of the inner body"),
    fails("4.3 E11b", "chord([chord([add.s(1,2), add.s(3,4)], fail.s()), add.s(5,6)], tsum.s())", "header[0].body", "ValueError").leaves(4),
    fails("4.3 E12", "chord([chain(add.s(1,2), fail.s(), add.s(1)), add.s(3,4)], tsum.s())", "header[0].chain[1]", "ValueError").leaves(3),
    fails("4.3 E12b", "chord([chain(fail.s(), group(add.s(1), add.s(2))), add.s(3,4)], xsum.s())", "header[0].chain[0]", "ValueError").leaves(2).differs("Ours 9: a run always ends; Celery waits for ever"),
    fails("4.3 E12c", "chord([chain(add.s(1,2), group(fail.s(), add.s(1))), add.s(3,4)], xsum.s())", "header[0].chain[1].group[0]", "ValueError").leaves(4),
    fails("4.3 E12d", "chain(group(add.s(1,2), chain(fail.s(), group(add.s(1), add.s(2)), add.s(3))), identity.s())", "chain[0].group[1].chain[0]", "ValueError").leaves(2),
    // 4.3 X5, X6 Results that nobody keeps, and tasks that nobody knows. The other ways in which a leaf may end are cases
    // of `settle` and `policies`: no task of the suite can make its worker report them.
    gives("4.3 X5", "chain(add.s(1,2).set(ignore_result=True), add.s(1))", "4").leaves(2),
    gives("4.3 X5c", "chord([add.s(1,2).set(ignore_result=True), add.s(2,3)], tsum.s())", "8").leaves(3),
    gives("4.3 X5d, and a step", "chord([add.s(1,2), add.s(2,3)], tsum.s().set(ignore_result=True)) | add.s(1)", "9").leaves(4).differs("Ours 9: a run always ends; Celery waits for ever"),
    gives("4.3 X5e", "chord([chain(add.s(1,2), group(add.s(1).set(ignore_result=True), add.s(2))), add.s(3,4)], xsum.s())", "16").leaves(5).differs("Ours 9: a run always ends; Celery waits for ever"),
    fails("4.3 X6", "chain(add.s(1,2), nobody.s(), add.s(1)).link_error(echo.s())", "chain[1]", "NotRegistered").errbacks(1).differs("Ours 9: a run always ends; Celery drops what follows, and the error callbacks"),
    fails("4.3 X6 header", "chord([add.s(1,2), nobody.s()], tsum.s())", "header[1]", "NotRegistered").differs("Ours 9: a run always ends; Celery waits for ever"),
    // 4.3 X8 Arguments that the task does not take.
    fails("4.3 X8 signature", "noargs.s(1)", "canvas", "TypeError").differs("Ours 10: the leaf fails; Celery refuses the call"),
    fails("4.3 X8 step", "chain(add.s(1,2), noargs.s(), add.s(1))", "chain[1]", "TypeError").leaves(2).differs("Ours 10: the leaf itself fails; in Celery the step before it does"),
    fails("4.3 X8 body", "chord([add.s(1,2), add.s(3,4)], noargs.s())", "body", "TypeError").leaves(3).differs("Ours 10: the leaf's own error; in Celery a ChordError"),
    fails("4.3 X8 member", "group(add.s(1,2), noargs.s(1))", "group[1]", "TypeError").leaves(2).differs("Ours 10: the leaf fails; Celery refuses the call"),
    // 4.4 How often error callbacks run.
    fails("4.4 signature", "fail.s(1).link_error(echo.s())", "canvas", "ValueError").errbacks(1),
    fails("4.4 signature, two errbacks", "fail.s(1).link_error(echo.s()).link_error(echo.si(2))", "canvas", "ValueError").errbacks(2),
    fails("4.4 the same errback twice", "fail.s(1).link_error(echo.s()).link_error(echo.s())", "canvas", "ValueError").errbacks(1),
    fails("4.4 chain link_error", "chain(add.s(1,2), fail.s(), add.s(1)).link_error(echo.s())", "chain[1]", "ValueError").leaves(2).errbacks(1),
    fails("4.4 chain on_error", "chain(add.s(1,2), fail.s(), add.s(1)).on_error(echo.s())", "chain[1]", "ValueError").leaves(2).errbacks(1),
    fails("4.4 group", "group(fail.s(), fail.s(), add.s(1,2)).link_error(echo.s())", "group[0]", "ValueError").leaves(3).errbacks(2),
    fails("4.4 chord, one in the header", "chord([add.s(1,2), fail.s()], tsum.s()).link_error(echo.s())", "header[1]", "ValueError").errbacks(1),
    fails("4.4 chord, many in the header", "chord([add.s(1,2), fail.s(), fail.s(), fail.s()], tsum.s()).link_error(echo.s())", "header[1]", "ValueError").leaves(4).errbacks(1),
    fails("4.4 chord, header, group body", "chord([add.s(1,2), fail.s()], group(tsum.s(), tsum.s())).link_error(echo.s())", "header[1]", "ValueError").errbacks(1).differs("Ours 10: once for a chord whose header fails; Celery calls it for each member of the body"),
    fails("4.4 chord, body", "chord([add.s(1,2)], fail.s()).link_error(echo.s())", "body", "ValueError").errbacks(1),
    fails("4.4 chord, chain body", "chord([add.s(1,2)], chain(tsum.s(), fail.s(), add.s(1))).link_error(echo.s())", "body.chain[1]", "ValueError").errbacks(1),
    fails("4.4 chord, group body", "chord([add.s(1,2)], group(fail.s(), tsum.s(), fail.s())).link_error(echo.s())", "body.group[0]", "ValueError").leaves(4).errbacks(2),
    fails("4.4 chord, header errbacks allowed", "chord([fail.s(), add.s(1,2), fail.s()], tsum.s()).link_error(echo.s())", "header[0]", "ValueError").errbacks(1).differs("Ours 10: once for a chord whose header fails; there is no task_allow_error_cb_on_chord_header"),
    fails("4.4 chord in a header", "chord([chord([fail.s(), add.s(1,2)], tsum.s()), add.s(3,4)], tsum.s()).link_error(echo.s())", "header[0].header[0]", "ValueError").leaves(3).errbacks(1),
    fails("4.4 chain of group and task", "chain(group(add.s(1,2), fail.s()), tsum.s()).on_error(echo.s())", "chain[0].group[1]", "ValueError").errbacks(1),
    fails("4.4 chain ending in a group", "chain(add.s(1,2), group(fail.s(), add.s(1), fail.s())).on_error(echo.s())", "chain[1].group[0]", "ValueError").leaves(4).errbacks(2),
    fails("4.4 an errback that fails", "fail.s().link_error(fail.s()).link_error(echo.s())", "canvas", "ValueError").errbacks(2),
    fails("4.4 a chain as errback", "fail.s().link_error(echo.s() | echo.s())", "canvas", "ValueError").errbacks(2).differs("Ours 10: every errback is a task; Celery cannot send a chain as one"),
    fails("4.4 a group as errback", "fail.s().link_error(group(echo.s(), echo.s()))", "canvas", "ValueError").errbacks(2),
    fails("4.4 of a step and of its chain", "chain(add.s(1,2), fail.s().link_error(echo.s()), add.s(1)).link_error(echo.s())", "chain[1]", "ValueError").errbacks(2),
    gives("4.4 nothing fails", "chain(add.s(1,2), group(add.s(3), mul.s(2)), tsum.s()).link_error(echo.s())", "12"),
    // 4.4 How often callbacks run.
    gives("4.4 link", "add.s(1,2).link(echo.s())", "3").leaves(1).callbacks(1),
    gives("4.4 links", "add.s(1,2).link(echo.s()).link(echo.si(0)).link(mul.s(2))", "3").callbacks(3),
    gives("4.4 the same link twice", "add.s(1,2).link(echo.s()).link(echo.s())", "3").callbacks(1),
    gives("4.4 link of a chain", "chain(add.s(1,2), mul.s(2)).link(echo.s())", "6").leaves(2).callbacks(1),
    gives("4.4 link of a group", "group(add.s(1,2), add.s(3,4)).link(echo.s())", "[3,7]").leaves(2).callbacks(1),
    gives("4.4 link of a chord", "chord([add.s(1,2), add.s(3,4)], tsum.s()).link(echo.s())", "10").leaves(3).callbacks(1),
    gives("4.4 a chain as link", "add.s(1,2).link(add.s(1) | add.s(2))", "3").callbacks(2),
    gives("4.4 a link of a link", "add.s(1,2).link(add.s(1).link(add.s(2)))", "3").callbacks(2),
    gives("4.4 a link that fails", "add.s(1,2).link(fail.s()) | add.s(3)", "6").leaves(2).callbacks(1),
    gives("4.4 an errback of a link", "add.s(1,2).link(fail.s().link_error(echo.s()))", "3").callbacks(1).errbacks(1),
    fails("4.4 no link of what failed", "chain(add.s(1,2).link(echo.s()), fail.s().link(echo.s()), add.s(1)).link(echo.s())", "chain[1]", "ValueError").callbacks(1),
    fails("4.4 a link of a header member", "chord([add.s(1,2).link(echo.s()), fail.s()], tsum.s().link(echo.s()))", "header[1]", "ValueError").callbacks(1),
];
