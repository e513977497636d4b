//! `run`: results, failures, time.

use std::time::Duration;

use insta::assert_snapshot;

use super::*;

const JSON: &str = r#" {"task": "celery.chain", "args": [], "subtask_type": "chain", "options": {}, "immutable": false,
    "kwargs": {"tasks": [
        {"task": "proj.tasks.add", "args": [4, 4], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": false},
        {"task": "proj.tasks.mul", "args": [8], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": false}]}}"#;

#[test]
fn the_result_is_one_line_of_json_on_stdout_and_nothing_else() {
    check(&["run", "add.s(2, 2)"], "4");
    check(&["run", "chain(add.s(4, 4) | mul.s(8))"], "64");
    check(&["run", "group(add.s(i, i) for i in xrange(10))"], "[0,2,4,6,8,10,12,14,16,18]");
    check(&["run", "chord((add.s(i, i) for i in xrange(10)), xsum.s())"], "90");
    check(&["run", "xsum.map([[1,2],[3,4]])"], "[3,7]");
    check(&["run", "add.starmap([[1,2],[3,4]])"], "[3,7]");
    check(&["run", "add.chunks([[1,1],[2,2],[3,3]], 2)"], "[[2,4],[6]]");
    check(&["run", "group()"], "[]");
    check(&["run", "proj.tasks.echo.s({'a b': [1, None, 'ä']})"], r#"{"a b":[1,null,"ä"]}"#);
}

#[test]
fn numbers_of_any_size_come_through() {
    let number = "123456789012345678901234567890.10";
    check(&["run", &format!("proj.tasks.echo.s({number})")], number);
}

#[test]
fn arguments_are_bound_before_those_of_the_first_tasks() {
    check(&["run", "group(add.s(i) for i in range(10))", "--args", "10"], "[10,11,12,13,14,15,16,17,18,19]");
    check(&["run", "add.s(4) | mul.s(8)", "--args", "4"], "64");
    check(&["run", "add.s()", "--args", "-1, 2, z=5"], "6");
    check(&["run", "add.s(1)", "--args", "2", "--kwargs", "{'z': 3}"], "6");
    check(&["run", "--kwargs={\"y\": 2}", "add.s(1)"], "3");
}

#[test]
fn celerys_json_is_read_from_the_command_line_a_file_and_stdin() {
    check(&["run", JSON], "64");
    check(&["run", "-f", &file("canvas.json", JSON)], "64");
    check(&["run", "--file", &file("bom.json", format!("\u{feff}{JSON}"))], "64");
    assert_eq!(with_stdin(JSON, &["run", "-"]).stdout, "64\n");
    assert_eq!(with_stdin(JSON, &["run", "-f", "-"]).stdout, "64\n");
}

#[test]
fn operator_text_is_read_from_a_file_and_stdin() {
    check(&["run", "-f", &file("canvas.txt", "# eight times\n(add.s(4, 4)\n | mul.s(8))\n")], "64");
    assert_eq!(with_stdin("add.s(2, 2)\n", &["run", "-"]).stdout, "4\n");
}

#[test]
fn a_failed_run_names_the_node_its_task_and_the_error_with_its_causes() {
    assert_snapshot!(celeriac(&["run", "chord([add.s(1, 1), add.s(1, 2) | fail.s()], xsum.s())"]).error(), @r"4 error: header[1].chain[1] (proj.tasks.fail) failed: ValueError: boom: disk full: quota\u{1b}[2J of 5 GB");
}

#[test]
fn wrong_arguments_are_told_with_what_the_task_takes() {
    assert_snapshot!(celeriac(&["run", "add.s(1) | mul.s(2)"]).error(), @r"
    4 error: chain[0] (proj.tasks.add) failed: TypeError: add() missing 1 required argument: 'y'
      the task is proj.tasks.add(x: i64, y: i64, z: i64 = 0)
    ");
    assert_snapshot!(celeriac(&["run", "add.s('1', 2)"]).error(), @r#"
    4 error: canvas (proj.tasks.add) failed: TypeError: add() argument 'x' should be i64: invalid type: string "1", expected i64
      the task is proj.tasks.add(x: i64, y: i64, z: i64 = 0)
    "#);
}

#[test]
fn a_panic_is_a_failure() {
    assert_snapshot!(celeriac(&["run", "panics.s()"]).error(), @"4 error: canvas (proj.tasks.panics) failed: Panic: out of luck");
}

#[test]
fn callbacks_and_error_callbacks_are_done_before_the_program_ends() {
    let ran = celeriac(&["run", "add.s(1, 1).link(sleep.si(60) | count.si())"]);
    assert_eq!((ran.exit, ran.stdout.as_str(), ran.counted), (Exit::Ok, "2\n", 1));
    let ran = celeriac(&["run", "group(fail.s(), sleep.s(60)).link_error(sleep.si(30) | count.si())"]);
    assert_eq!((ran.exit, ran.counted), (Exit::Failed, 1));
}

#[test]
fn a_run_that_takes_too_long_ends_with_6() {
    assert_snapshot!(celeriac(&["run", "sleep.s(60)", "--timeout", "1.5"]).error(), @"6 error: the run has not ended within 1.5s; it was executed by this process and ends with it");
    check(&["run", "sleep.s(60) | add.si(1, 1)", "--timeout", "2m"], "2");
}

#[test]
fn a_result_that_is_known_is_printed_even_when_its_callbacks_take_too_long() {
    let ran = celeriac(&["run", "add.s(1, 1).link(sleep.si(60))", "--timeout", "1"]);
    assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Timeout, "2\n"));
    let ran = celeriac(&["run", "group(fail.s(), sleep.s(60))", "--timeout", "1"]);
    assert_snapshot!(ran.error(), @r"
    4 error: group[0] (proj.tasks.fail) failed: ValueError: boom: disk full: quota\u{1b}[2J of 5 GB
    error: the run has not ended within 1s; it was executed by this process and ends with it
    ");
}

#[test]
fn ctrl_c_ends_the_run_and_says_so() {
    let interrupt = tokio_sleep(3);
    assert_snapshot!(with("", &["run", "sleep.s(60)"], interrupt).error(), @"130 error: interrupted; the run was executed by this process and ends with it");
}

async fn tokio_sleep(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_a_full_disk_is() {
    let run = |kind, args: &[&str]| {
        let (mut stdin, mut stdout, mut stderr) = (std::io::empty(), Broken(kind), Vec::new());
        let exit = block_on(async {
            celeriac_cli::run(
                &app(Counter::default()),
                words(args),
                Io::new(&mut stdin, &mut stdout, &mut stderr),
            )
            .await
        });
        format!("{} {}", exit.code(), String::from_utf8(stderr).unwrap())
    };
    for args in [&["run", "add.s(2, 2)"][..], &["plan", "add.s(2, 2)"], &["tasks"], &["--help"]] {
        assert_eq!(run(std::io::ErrorKind::BrokenPipe, args), "0 ");
        assert_eq!(
            run(std::io::ErrorKind::StorageFull, args),
            "3 error: stdout cannot be written: no storage space\n"
        );
    }
}

#[test]
fn a_thousand_leaves_give_a_result() {
    check(&["run", "chord((add.s(i, i) for i in range(1000)), xsum.s())"], "999000");
}
