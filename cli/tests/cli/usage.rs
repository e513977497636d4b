//! Wrong usage: each mistake gets one clear error, and nothing runs.

use insta::assert_snapshot;

use super::*;

#[test]
fn help_and_version_go_to_stdout() {
    let help = celeriac(&["--help"]);
    assert_eq!((help.exit, help.stderr.as_str()), (Exit::Ok, ""));
    assert_snapshot!(help.stdout, @r"
    Runs canvases of this app's tasks

    Usage: proj [OPTIONS] <COMMAND>

    Commands:
      run          Run a canvas and print its result, as one line of JSON
      plan         Compile a canvas and draw it; nothing is run
      tasks        List the app's tasks
      worker       Run leaves, until it is told to stop
      coordinator  Advance runs, until it is told to stop
      up           A worker and a coordinator in one process
      submit       Store a canvas as a new run and print its id
      wait         Wait until a run has ended
      result       Print the result of a run, as one line of JSON
      ls           List runs, the newest first
      show         Draw a run with the state of every node
      graph        Draw a run for other programs
      forget       Remove a run and all that belongs to it
      dead         List what nobody could read or handle, requeue it or drop it
      health       Ask whether a process is healthy
      acl          Print what a Redis user needs for its role, as rules of an ACL

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --url <URL>          Where runs are kept: redis://host:6379/0, rediss://…, unix:///run/redis.sock, redis-cluster://…, redis-sentinel://host:26379/mymaster, memory: [env: CELERIAC_URL]
          --url-file <FILE>    A file with the URL in it, as secrets are mounted. An error when there is a URL besides [env: CELERIAC_URL_FILE]
          --prefix <PREFIX>    What all keys of the backend begin with [default: celeriac] [env: CELERIAC_PREFIX]
          --log <FILTER>       What is logged to stderr: off, error, warn, info, debug [default: info in processes, else off] [env: CELERIAC_LOG]
          --log-format <FORM>  How it is logged [env: CELERIAC_LOG_FORMAT] [default: text] [possible values: text, json]

    Examples:
      run 'add.s(4, 4) | mul.s(8)'                     run a canvas, print its result
      run 'group(add.s(i) for i in range(10))' --args 10
      run -f canvas.json --timeout 2m                  Celery's JSON, or operator text
      plan 'chord([add.s(1, 1), add.s(2, 2)], xsum.s())'
      tasks                                            what can be called

    With a backend that processes share, --url redis://localhost:6379 or CELERIAC_URL:
      up                                               a worker and a coordinator, until SIGTERM
      submit 'add.s(4, 4) | mul.s(8)'                  prints the id of the run
      result ID                                        waits, prints 64

    Exit codes:
    | code | meaning |
    |------|---------|
    | 0    | done; of `worker`, `coordinator` and `up`: stopped in order; of `health`: green |
    | 1    | an internal error, or the backend does not answer; of `health`: red |
    | 2    | usage: a wrong option, a text or JSON that is no canvas, an unknown task, a canvas that does not compile |
    | 3    | a file or stream cannot be read or written |
    | 4    | the run failed |
    | 5    | not found: there is no such run |
    | 6    | timeout, or not decided yet |
    | 7    | conflict: the id or the key is taken by another canvas, or the run has not ended |
    | 8    | of `worker`, `coordinator` and `up`: a part has failed again and again; start the process anew |
    | 130  | interrupted with Ctrl-C; of `worker`, `coordinator` and `up`: at the second signal |
    | 143  | the same with SIGTERM |
    ");
    assert_snapshot!(celeriac(&["run", "--help"]).stdout, @r#"
    Run a canvas and print its result, as one line of JSON

    Usage: proj run [OPTIONS] [TEXT]

    Arguments:
      [TEXT]  The canvas: operator text, such as 'add.s(4, 4) | mul.s(8)', or Celery's JSON; - reads stdin

    Options:
      -f, --file <PATH>     Read the canvas from a file
          --args <ARGS>     Arguments for the first tasks, put before their own: '10, z=5'
          --kwargs <DICT>   Keyword arguments for the first tasks: '{"z": 5}'
          --timeout <TIME>  Give up after this time: 30 (seconds), 1.5, 500ms, 2m, 1h
      -h, --help            Print help

    Global options:
          --url <URL>          Where runs are kept: redis://host:6379/0, rediss://…, unix:///run/redis.sock, redis-cluster://…, redis-sentinel://host:26379/mymaster, memory: [env: CELERIAC_URL]
          --url-file <FILE>    A file with the URL in it, as secrets are mounted. An error when there is a URL besides [env: CELERIAC_URL_FILE]
          --prefix <PREFIX>    What all keys of the backend begin with [default: celeriac] [env: CELERIAC_PREFIX]
          --log <FILTER>       What is logged to stderr: off, error, warn, info, debug [default: info in processes, else off] [env: CELERIAC_LOG]
          --log-format <FORM>  How it is logged [env: CELERIAC_LOG_FORMAT] [default: text] [possible values: text, json]

    Examples:
      run 'add.s(2, 2)'                                4
      run 'chord((add.s(i, i) for i in range(10)), xsum.s())'
      run 'add.s(4) | mul.s(8)' --args 4               64
      run 'add.s(1)' --args 2 --kwargs '{"z": 3}'
      echo 'add.s(2, 2)' | run -
      run -f canvas.json --timeout 90s
      run 'add.s(2, 2)' --url redis://localhost:6379   submits it and waits

    In this process, it returns when nothing is left to do, callbacks included. A failed run names the node, its task and the error.
    "#);
    let version = celeriac(&["--version"]);
    assert_eq!(
        (version.exit, version.stdout),
        (Exit::Ok, format!("celeriac {}\n", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn a_command_is_needed_and_its_canvas_too() {
    assert_eq!(celeriac(&[]).exit, Exit::Usage);
    assert_snapshot!(celeriac(&["run"]).error(), @r"
    2 error: the following required arguments were not provided:
      <TEXT>

    Usage: proj run <TEXT>

    For more information, try '--help'.
    ");
    assert_snapshot!(celeriac(&["run", "add.s()", "-f", "canvas.json"]).error(), @r"
    2 error: the argument '[TEXT]' cannot be used with '--file <PATH>'

    Usage: proj run <TEXT>

    For more information, try '--help'.
    ");
    assert_snapshot!(celeriac(&["rum", "add.s()"]).error(), @r"
    2 error: unrecognized subcommand 'rum'

      tip: a similar subcommand exists: 'run'

    Usage: proj [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
}

#[test]
fn bad_text_is_shown_with_a_caret() {
    assert_snapshot!(celeriac(&["run", "add.s(2, 2"]).error(), @r"
    2 error: line 1, column 6: this ( is never closed
      add.s(2, 2
           ^ write ) where it ends
    ");
    assert_snapshot!(celeriac(&["run", "add(2, 2)"]).error(), @r"
    2 error: line 1, column 1: add is a task; it is not called directly
      add(2, 2)
      ^ write add.s(2, 2)
    ");
    assert!(celeriac(&["run", ""]).error().starts_with("2 error: line 1, column 1: the text is empty\n"));
    let path = file("bad.txt", "add.s(4, 4)\n  | mul.s(8,,)");
    assert_snapshot!(celeriac(&["run", "-f", &path]).error().replace(&path, "PATH"), @r"
    2 error: PATH: line 2, column 13: , cannot stand here
        | mul.s(8,,)
                  ^ write a signature or a value here
    ");
    assert_snapshot!(with_stdin("add.s(1 2)", &["run", "-"]).error(), @r"
    2 error: stdin: line 1, column 9: a comma is missing
      add.s(1 2)
              ^ write a comma before 2
    ");
}

#[test]
fn an_unknown_task_is_refused_with_those_that_come_near() {
    assert_snapshot!(celeriac(&["run", "group(add.s(1, 1), mull.s(2, 2))"]).error(), @r#"
    2 error: line 1, column 20: there is no task "mull"
      group(add.s(1, 1), mull.s(2, 2))
                         ^ did you mean proj.tasks.mul?
    "#);
    assert_snapshot!(celeriac(&["run", "echo.s(1)"]).error(), @r#"
    2 error: line 1, column 1: "echo" means several tasks
      echo.s(1)
      ^ write other.tasks.echo or proj.tasks.echo
    "#);
    assert_snapshot!(celeriac(&["run", "nothing_like_it.s()"]).error(), @r#"
    2 error: line 1, column 1: there is no task "nothing_like_it"
      nothing_like_it.s()
      ^ write the name of a task that the app has
    "#);
}

/// Celery's JSON for one task inside a group.
fn json(task: &str) -> String {
    let leaf = format!(r#"{{"task": {task:?}, "args": [1, 1], "kwargs": {{}}, "options": {{}}}}"#);
    format!(
        r#"{{"task": "celery.group", "kwargs": {{"tasks": [{leaf}]}}, "options": {{}}, "subtask_type": "group"}}"#
    )
}

#[test]
fn an_unknown_task_in_json_is_refused_with_its_path() {
    check(&["run", &json("proj.tasks.add")], "[2]");
    assert_snapshot!(celeriac(&["run", &json("proj.tasks.adds")]).error(), @r#"2 error: group[0]: this app has no task "proj.tasks.adds"; did you mean proj.tasks.add?"#);
    assert_snapshot!(celeriac(&["run", &json("add")]).error(), @r#"2 error: group[0]: this app has no task "add"; write the full name, proj.tasks.add"#);
    assert_snapshot!(celeriac(&["run", &json("xyzzy")]).error(), @r#"2 error: group[0]: this app has no task "xyzzy"; the command tasks lists what it has"#);
}

#[test]
fn bad_json_is_told_with_its_path() {
    assert_snapshot!(celeriac(&["run", "{\"task\": 5}"]).error(), @"2 error: canvas: a canvas should be an object with task, args, kwargs and options: not a JSON value: invalid type: integer `5`, expected a string at line 1 column 10");
    assert_snapshot!(celeriac(&["run", "{\"args\": []}"]).error(), @"2 error: canvas: task is missing");
    let path = file("bad.json", json("no name"));
    assert_snapshot!(celeriac(&["run", "-f", &path]).error().replace(&path, "PATH"), @r#"2 error: PATH: group[0]: "no name" is not a task name: it holds ' '; use letters, digits, '_', '-' and dots"#);
}

#[test]
fn a_canvas_that_does_not_compile_is_refused_with_its_path() {
    assert_snapshot!(celeriac(&["run", "add.s(1, 1) | mul.s(2).set(countdown='soon')"]).error(), @r#"
    2 error: line 1, column 38: the option countdown cannot be "soon"
      add.s(1, 1) | mul.s(2).set(countdown='soon')
                                           ^ it takes a number of seconds, not negative
    "#);
    assert_snapshot!(celeriac(&["run", "add.chunks([[1, 1]], 0)"]).error(), @r"
    2 error: line 1, column 22: the size of chunks is a whole number above 0
      add.chunks([[1, 1]], 0)
                           ^ write a number such as 10
    ");
}

#[test]
fn arguments_that_are_none_are_refused() {
    assert_snapshot!(celeriac(&["run", "add.s()", "--args", "1, )"]).error(), @r"
    2 error: --args: line 1, column 4: ) cannot stand here
      1, )
         ^ write a signature or a value here
    ");
    assert_snapshot!(celeriac(&["run", "add.s()", "--kwargs", "[1]"]).error(), @r#"2 error: --kwargs: write a dictionary, such as '{"z": 5}', not [1]"#);
    assert_snapshot!(celeriac(&["run", "add.s()", "--kwargs", "{z: 1}"]).error(), @r#"
    2 error: --kwargs: line 1, column 2: the name z is not known
      {z: 1}
       ^ write "z" in quotes for a text; only loop variables stand without
    "#);
    assert_snapshot!(celeriac(&["run", "add.s()", "--args", "z=1", "--kwargs", "{'z': 1}"]).error(), @"2 error: z stands both in --args and in --kwargs");
}

#[test]
fn a_timeout_that_is_none_is_refused() {
    assert_snapshot!(celeriac(&["run", "add.s(1, 1)", "--timeout", "soon"]).error(), @r"
    2 error: invalid value 'soon' for '--timeout <TIME>': write seconds, or a number with ms, s, m or h: 30, 1.5, 500ms, 2m

    For more information, try '--help'.
    ");
}

#[test]
fn files_that_cannot_be_read_end_with_3_and_those_that_are_no_text_with_2() {
    assert_snapshot!(celeriac(&["run", "-f", "no/such/file.json"]).error(), @"3 error: no/such/file.json cannot be read: No such file or directory (os error 2)");
    assert_eq!(celeriac(&["run", "-f", env!("CARGO_TARGET_TMPDIR")]).exit, Exit::Io);
    let path = file("latin1.txt", b"add.s('\xe4')");
    assert_snapshot!(celeriac(&["plan", "-f", &path]).error().replace(&path, "PATH"), @"2 error: PATH: this is no text in UTF-8");
}
