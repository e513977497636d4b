//! Tasks: what `#[task]` makes of a function, from a worker's side.

use std::num::ParseIntError;
use std::sync::Arc;

use celeriac::{Arguments, Flow, Handler, State, States, Task, TaskContext, TaskDef, task, tasks};
use celeriac_primitives::{Json, NodeNo, Outcome, RunId, TaskError};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::proj::{add, echo, greet, join, mul, ping, sleep, xsum};

/// A task whose context and state stand between its arguments.
#[task]
async fn mixed(x: i64, ctx: TaskContext, y: i64, offset: State<i64>, #[default(x0())] z: i64) -> i64 {
    x + y + z + *offset + i64::from(ctx.attempt())
}

fn x0() -> i64 {
    100
}

#[task]
fn parse(text: String) -> self::std_result::Result<i64, ParseIntError> {
    let number = text.parse::<i64>()?;
    Ok(number)
}

mod std_result {
    pub(crate) use std::result::Result;
}

#[task]
async fn pick(which: u8) -> Result<u8, Box<dyn std::error::Error + Send + Sync>> {
    match which {
        0 => Err("said so".into()),
        1 => Err(TaskError::new("ValueError", "boom").into()),
        n => Ok(n),
    }
}

#[task]
fn texts(ok: bool) -> Result<(), String> {
    if ok { Ok(()) } else { Err("not ok".to_owned()) }
}

/// A rest with injected parameters around and behind it.
#[task]
async fn weigh(ctx: TaskContext, #[rest] numbers: std::vec::Vec<i64>, scale: State<i64>) -> i64 {
    numbers.iter().sum::<i64>() * *scale + i64::from(ctx.attempt())
}

/// Everything that a parameter's name may be.
#[task]
fn r#match(r#type: String, s: i64, mut keyword: i64, _unused: Option<i64>) -> (String, i64) {
    keyword += s;
    (r#type, keyword)
}

async fn run(task: TaskDef, args: &str, kwargs: &str) -> Outcome {
    let mut states = States::new();
    states.insert(1000_i64);
    let id = RunId::from_parts(1, 2).task(NodeNo::from_index(0));
    let context = TaskContext::new(id, 7, CancellationToken::new(), Arc::new(states));
    let arguments = Arguments::new(Json::parse(args).unwrap(), Json::parse(kwargs).unwrap());
    match task.handler {
        Handler::Async(handler) => handler(context, arguments).await,
        Handler::Blocking(handler) => handler(context, arguments),
    }
}

#[track_caller]
fn check<T: Task>(_: T, args: &str, kwargs: &str, expect: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let outcome = match runtime.block_on(run(T::definition(), args, kwargs)) {
        Outcome::Success(json) => json.to_string(),
        Outcome::Failed(error) => error.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(outcome, expect);
}

#[tokio::test]
async fn the_function_can_be_called_in_a_unit_test() {
    assert_eq!(add.call(2, 2, 0).await, 4);
    assert_eq!(greet.call("Ann".into(), Some("Dr".into())), "Dr Ann");
    let id = RunId::from_parts(1, 2).task(NodeNo::from_index(0));
    let context = TaskContext::new(id, 1, CancellationToken::new(), States::new());
    assert_eq!(mixed.call(1, context, 2, State::new(10), 3).await, 17);
    assert_eq!(r#match.call("t".into(), 1, 2, None), ("t".to_owned(), 3));
}

#[test]
fn json_arguments_reach_the_function_and_its_value_comes_back_as_json() {
    check(add, "[2,2]", "{}", "4");
    check(add, "[2]", r#"{"y":2,"z":3}"#, "7");
    check(mixed, "[1,2]", "{}", "1110");
    check(mixed, "[1,2,3]", "{}", "1013");
    check(ping, "[]", "{}", "null");
    check(echo, "[]", "{}", "[]");
    check(echo, r#"[1,"a",[null]]"#, "{}", r#"[1,"a",[null]]"#);
    check(weigh, "[1,2]", "{}", "3007");
    check(weigh, "[]", "{}", "7");
    check(join, r#"["-",2,"a","b"]"#, "{}", r#""a--b""#);
    check(join, r#"["-"]"#, r#"{"times":2}"#, r#""""#);
    check(sleep, "[0]", "{}", "null");
    check(sleep, r#"[0,{"b":1,"a":[2]}]"#, "{}", r#"{"a":[2],"b":1}"#);
    check(r#match, r#"["t",1]"#, r#"{"keyword":2,"_unused":null}"#, r#"["t",3]"#);
}

#[test]
fn errors_of_every_kind_fail_the_task() {
    check(add, "[1]", "{}", "TypeError: add() missing 1 required argument: 'y'");
    check(
        add,
        r#"[1,"2"]"#,
        "{}",
        "TypeError: add() argument 'y' should be i64: invalid type: string \"2\", expected i64",
    );
    check(
        join,
        r#"["-",1,"a",2]"#,
        "{}",
        "TypeError: join() argument '*parts[1]' should be String: invalid type: integer `2`, expected a string",
    );
    check(
        echo,
        "[]",
        r#"{"arguments":[]}"#,
        "TypeError: echo() got an unexpected keyword argument 'arguments'. What goes to '*arguments' is given without \
         a keyword",
    );
    check(parse, r#"["7"]"#, "{}", "7");
    check(parse, r#"["x"]"#, "{}", "ParseIntError: invalid digit found in string");
    check(pick, "[0]", "{}", "Error: said so");
    check(pick, "[1]", "{}", "ValueError: boom");
    check(pick, "[2]", "{}", "2");
    check(texts, "[false]", "{}", "Error: not ok");
    check(texts, "[true]", "{}", "null");
}

#[test]
fn a_task_and_its_types_may_be_private_to_a_function() {
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Numbers {
        One(i64),
        Many(Vec<Numbers>),
    }
    fn sum(numbers: &Numbers) -> i64 {
        match numbers {
            Numbers::One(number) => *number,
            Numbers::Many(numbers) => numbers.iter().map(sum).sum(),
        }
    }
    #[task(name = "deep")]
    async fn deep(numbers: Vec<Numbers>) -> Numbers {
        Numbers::One(numbers.iter().map(sum).sum())
    }
    check(deep, "[[1,[2,[3,4]],[]]]", "{}", "10");
    let flow: Flow<(), Numbers> = deep.s([Numbers::Many(vec![Numbers::One(1)])]);
    assert_eq!(flow.to_string(), "deep.s([[1]])");
}

#[test]
fn a_definition_says_what_a_worker_must_know() {
    let definition = add::definition();
    assert_eq!(definition.name.as_str(), "add");
    assert_eq!(definition.description, "Adds two or three numbers.\n\nThe third may be left out.");
    let params: Vec<String> = definition.params.iter().map(ToString::to_string).collect();
    assert_eq!(params, ["x: i64", "y: i64", "z: i64 = 0"]);
    assert!(matches!(definition.handler, Handler::Async(_)));
    assert!(matches!(ping::definition().handler, Handler::Blocking(_)));
    let params: Vec<String> = greet::definition().params.iter().map(ToString::to_string).collect();
    assert_eq!(params, ["name: String", "title: Option<String> = None"]);
    let params: Vec<String> = join::definition().params.iter().map(ToString::to_string).collect();
    assert_eq!(params, ["by: String", "times: usize = 1", "*parts: String"]);
    assert_eq!(weigh::definition().params.len(), 1);
}

#[test]
fn a_task_without_a_name_has_the_name_of_its_path() {
    assert_eq!(mixed::NAME, "dsl.tasks.mixed");
    assert_eq!(r#match::NAME, "dsl.tasks.match");
    assert_eq!(parse::name().short(), "parse");
}

#[test]
fn states_that_nobody_gave_are_found_before_anything_runs() {
    let definition = mixed::definition();
    assert_eq!(definition.missing_states(&States::new()), ["i64"]);
    assert!(definition.missing_states(States::new().insert(1_i64)).is_empty());
    assert!(add::definition().missing_states(&States::new()).is_empty());
}

#[test]
fn a_list_of_tasks_keeps_their_order() {
    let list = tasks![add, crate::proj::mul, xsum,];
    assert_eq!(list.iter().map(|task| task.name.as_str()).collect::<Vec<_>>(), ["add", "mul", "xsum"]);
    assert!(tasks![].is_empty());
    assert_eq!(mul::definition().params.len(), 2);
}
