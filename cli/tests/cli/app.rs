//! An app with a few tasks, put together by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use celeriac_dsl::{Arguments, Handler, Param, TaskContext, TaskDef, outcome};
use celeriac_primitives::{Json, Outcome, TaskError, TaskName};
use celeriac_runtime::App;
use futures::future::BoxFuture;

/// How often `count` was called.
pub(crate) type Counter = Arc<AtomicUsize>;

type Called = BoxFuture<'static, Outcome>;

const fn param(name: &'static str, type_name: &'static str) -> Param {
    Param { name, type_name, default: None }
}

static ADD: [Param; 3] =
    [param("x", "i64"), param("y", "i64"), Param { name: "z", type_name: "i64", default: Some("0") }];
static MUL: [Param; 2] = [param("x", "i64"), param("y", "i64")];
static XSUM: [Param; 1] = [param("numbers", "Vec<i64>")];
static ECHO: [Param; 1] = [param("value", "Json")];
static SLEEP: [Param; 1] = [param("seconds", "f64")];
static NONE: [Param; 0] = [];

fn add(_: TaskContext, arguments: Arguments) -> Called {
    let add = move || {
        let slots = arguments.slots("add", &ADD)?;
        Ok(slots.required::<i64>(0)? + slots.required::<i64>(1)? + slots.or_default(2, || 0)?)
    };
    Box::pin(async move { outcome(add()) })
}

fn mul(_: TaskContext, arguments: Arguments) -> Called {
    let mul = move || {
        let slots = arguments.slots("mul", &MUL)?;
        Ok(slots.required::<i64>(0)? * slots.required::<i64>(1)?)
    };
    Box::pin(async move { outcome(mul()) })
}

fn xsum(_: TaskContext, arguments: Arguments) -> Called {
    let xsum = move || Ok(arguments.slots("xsum", &XSUM)?.required::<Vec<i64>>(0)?.iter().sum::<i64>());
    Box::pin(async move { outcome(xsum()) })
}

fn echo(_: TaskContext, arguments: Arguments) -> Called {
    let echo = move || arguments.slots("echo", &ECHO)?.required::<Json>(0);
    Box::pin(async move { outcome(echo()) })
}

fn sleep(_: TaskContext, arguments: Arguments) -> Called {
    Box::pin(async move {
        let seconds = arguments.slots("sleep", &SLEEP).and_then(|slots| slots.required::<f64>(0));
        match seconds {
            Ok(seconds) => tokio::time::sleep(Duration::from_secs_f64(seconds)).await,
            Err(error) => return Outcome::Failed(error),
        }
        outcome(Ok(()))
    })
}

fn fail(_: TaskContext, _: Arguments) -> Called {
    let causes = vec!["disk full".to_owned(), "quota\u{1b}[2J of 5 GB".to_owned()];
    Box::pin(async { Outcome::Failed(TaskError { causes, ..TaskError::new("ValueError", "boom") }) })
}

fn panics(_: TaskContext, _: Arguments) -> Called {
    Box::pin(async { std::panic::panic_any("out of luck") })
}

fn count(context: TaskContext, _: Arguments) -> Called {
    let count = move || Ok(context.state::<Counter>()?.fetch_add(1, Ordering::SeqCst));
    Box::pin(async move { outcome(count()) })
}

fn block(_: TaskContext, _: Arguments) -> Outcome {
    std::thread::sleep(Duration::from_secs(600));
    Outcome::Success(Json::null())
}

fn task(
    name: &str,
    params: &'static [Param],
    description: &'static str,
    run: fn(TaskContext, Arguments) -> Called,
) -> TaskDef {
    let name = TaskName::new(name).unwrap();
    TaskDef { name, params, states: Vec::new(), handler: Handler::Async(run), description }
}

pub(crate) fn app(counter: Counter) -> App {
    let block = TaskDef { handler: Handler::Blocking(block), ..task("proj.tasks.block", &NONE, "", count) };
    let tasks = [
        task("proj.tasks.add", &ADD, " Adds two or three numbers.\n More about adding.", add),
        task("proj.tasks.mul", &MUL, " Multiplies.", mul),
        task("proj.tasks.xsum", &XSUM, " Sums a list.", xsum),
        task("proj.tasks.echo", &ECHO, "", echo),
        task("other.tasks.echo", &ECHO, "", echo),
        task("proj.tasks.sleep", &SLEEP, " Waits.", sleep),
        task("proj.tasks.fail", &NONE, "", fail),
        task("proj.tasks.panics", &NONE, "", panics),
        task("proj.tasks.count", &NONE, " Counts its calls.", count),
        block,
    ];
    App::embedded().tasks(tasks).state(counter).build().unwrap()
}
