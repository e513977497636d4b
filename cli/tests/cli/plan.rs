//! `plan` and `tasks`: they print, and run nothing.

use insta::assert_snapshot;

use super::*;

#[track_caller]
fn printed(args: &[&str]) -> String {
    let ran = celeriac(args);
    assert_eq!((ran.exit, ran.stderr.as_str()), (Exit::Ok, ""));
    ran.stdout
}

const CHORD: &str = "chord([add.s(1, 1), add.s(2, 2)], xsum.s())";

#[test]
fn a_plan_is_drawn_as_a_tree() {
    assert_snapshot!(printed(&["plan", CHORD]), @r"
    chord
    ├─ header[0] n1 proj.tasks.add.s(1, 1)
    ├─ header[1] n2 proj.tasks.add.s(2, 2)
    └─ body n3 proj.tasks.xsum.s([n1, n2])
    => n3
    ");
}

#[test]
fn a_plan_is_drawn_in_other_forms() {
    assert_snapshot!(printed(&["plan", "add.s(1) | mul.s(8)", "-o", "dot", "--args", "4"]), @r#"
    digraph plan {
      compound=true;
      node [shape=box, fontname="monospace"];
      edge [fontname="monospace"];
      n1 [label="n1 proj.tasks.add.s(4, 1)\nchain[0]"];
      n2 [label="n2 proj.tasks.mul.s(n1, 8)\nchain[1]", peripheries=2];
      n1 -> n2;
    }
    "#);
    assert_snapshot!(printed(&["plan", "add.s(1, 1)", "--output=mermaid"]), @r#"
    flowchart TD
      n1["n1 proj.tasks.add.s(1, 1)<br/>canvas"]
    "#);
    let json: serde_json::Value = serde_json::from_str(&printed(&["plan", CHORD, "-o", "json"])).unwrap();
    assert_eq!(json["nodes"][2]["task"], "proj.tasks.xsum");
    assert_eq!(printed(&["plan", CHORD, "-o", "json"]).lines().count(), 1);
}

#[test]
fn long_plans_are_folded_unless_all_is_asked_for() {
    let canvas = "group(add.s(i, i) for i in range(1000))";
    assert_eq!(printed(&["plan", canvas]).lines().count(), 13);
    assert_eq!(printed(&["plan", canvas, "--all"]).lines().count(), 1002);
}

#[test]
fn planning_runs_nothing() {
    let ran = celeriac(&["plan", "group(count.s(), count.s() | panics.s())"]);
    assert_eq!((ran.exit, ran.counted), (Exit::Ok, 0));
    assert_eq!(celeriac(&["run", "group(count.s(), count.si())"]).counted, 2);
}

#[test]
fn what_cannot_run_is_not_drawn_either() {
    assert_snapshot!(celeriac(&["plan", "chord([add.s()])"]).error(), @"2 error: canvas: this chord has no body; write chord(header, body)");
    assert_snapshot!(celeriac(&["plan", "sub.s(1)"]).error(), @r#"
    2 error: line 1, column 1: there is no task "sub"
      sub.s(1)
      ^ write the name of a task that the app has
    "#);
}

#[test]
fn tasks_are_listed_with_parameters_and_the_first_line_of_their_doc() {
    assert_snapshot!(printed(&["tasks"]), @r"
    other.tasks.echo(value: Json)
    proj.tasks.add(x: i64, y: i64, z: i64 = 0)      Adds two or three numbers.
    proj.tasks.block()
    proj.tasks.count()                              Counts its calls.
    proj.tasks.echo(value: Json)
    proj.tasks.fail(_ignored: Json = Json::null())
    proj.tasks.linger(path: String)                 Waits for ten minutes, the first time.
    proj.tasks.mul(x: i64, y: i64)                  Multiplies.
    proj.tasks.panics()
    proj.tasks.panics_beside()                      Goes on when what it has started panics.
    proj.tasks.sleep(seconds: f64)                  Waits.
    proj.tasks.xsum(numbers: Vec<i64>)              Sums a list.
    ");
}

#[test]
fn a_program_without_tasks_draws_any_canvas_and_runs_none() {
    let run = |args: &[&str]| {
        let (mut stdin, mut stdout, mut stderr) = (&b""[..], Vec::new(), Vec::new());
        let app = celeriac_runtime::App::builder("bare").build().unwrap();
        let io = celeriac_cli::Io::new(&mut stdin, &mut stdout, &mut stderr);
        let exit = crate::block_on(celeriac_cli::run(&app, crate::words(args), io));
        (exit, String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    };
    let (exit, stdout, _) = run(&["plan", "any.task.s(1) | other.s()"]);
    assert!(exit == Exit::Ok && stdout.contains("any.task") && stdout.contains("other"), "{stdout}");
    let (exit, _, stderr) = run(&["run", "any.task.s(1)"]);
    assert_eq!(exit, Exit::Usage);
    assert!(stderr.starts_with("error: this program has no tasks to run"), "{stderr}");
}
