//! The tasks that the suite's canvases call: pure functions by name, the same for every backend and for eager.
//!
//! | task | returns |
//! |---|---|
//! | `add(x, y, z=0)` | `x + y + z` of whole numbers; of strings or lists `x` and `y` joined |
//! | `mul(x, y)` | `x * y`; of a list and a number the list that often |
//! | `tsum(numbers)` | their sum |
//! | `xsum(numbers)` | the sum of numbers in lists nested to any depth |
//! | `identity(x)` | `x` |
//! | `echo(*args)` | its only argument as it is, otherwise the list of its arguments |
//! | `ids(*args, i)` | `i`; where Celery's task of this name adds the ids, which are not a matter of the canvas |
//! | `noargs()` | `null` |
//! | `fail(*args, **kwargs)` | never: it raises `ValueError("boom")` |
//! | `tag(*args, tag, **kwargs)` | `[tag, …args]`, or `[tag, "digest"]` once that is long |
//! | `become(*args, text, canvas)` | the canvas in its place: of this operator text, or Celery's JSON; the arguments bound |
//! | `add_replaced(x, y)` | in its place `add(x, y)` |
//! | `add_to_all(numbers, y)` | in its place `group(add(x, y) for x in numbers)` |
//! | `replace_with_chain(*args)` | in its place `identity(*args) \| identity()` |
//! | `fail_replaced(*args)` | in its place `fail(*args)` |
//! | `adds(*args, canvases)` | `echo(*args)`, or what `tag` gives; adds canvases (text or JSON), as `become` may, too |
//! | `add_to_all_to_chord(numbers, y)` | 0, and adds `add(x, y)` for x in numbers |
//! | `down(n)` | 0, or in its place `down(n - 1) \| add(1)`: `n` in the end |
//!
//! Names are matched by their last word, so `proj.tasks.add` is `add`. What Python's interpreter would refuse is a
//! `TypeError` here, and an unknown name is a `NotRegistered`.

use celeriac_dsl::TaskContext;
use celeriac_engine::eager::{Leaf, Returned};
use celeriac_engine::text;
use celeriac_primitives::{
    Addition, Call, Canvas, Json, Kwargs, NotAMember, Outcome, Own, Signature, TaskError,
};
use serde_json::Value;

/// All tasks, by the names that [`call`] knows.
#[rustfmt::skip]
pub const NAMES: &[&str] = &[
    "add", "mul", "tsum", "xsum", "identity", "echo", "ids", "noargs", "fail", "tag", "become", "add_replaced",
    "add_to_all", "replace_with_chain", "fail_replaced", "down", "adds", "add_to_all_to_chord",
];

/// The header that says how many attempts at a leaf fail before its task is called, and the type of their error.
pub const FAILS: &str = "fails";
/// See [`FAILS`].
pub const FLAKY: &str = "FlakyError";

/// The failure of an attempt that is to fail, for workers: whatever the task would do.
pub fn flaky(context: &TaskContext) -> Option<TaskError> {
    let fails = context.header(FAILS).is_some_and(|times: u32| context.attempt() <= times);
    fails.then(|| TaskError::new(FLAKY, "this attempt is to fail"))
}

/// Above this length, a `tag` gives a digest of its arguments instead of the arguments.
const TAG_CHARS_MAX: usize = 60;

/// How often `mul` repeats a list.
const REPEATS_MAX: u64 = 100;

type Result<T> = std::result::Result<T, TaskError>;

/// Runs a leaf of the reference evaluator.
///
/// # Errors
/// What the task raises.
pub fn run_leaf(leaf: &Leaf<'_>) -> Result<Returned> {
    run(leaf.task.as_str(), leaf.call, &leaf.args, leaf.kwargs)
}

/// The same as a worker does it, noting the arguments of each call.
///
/// # Errors
/// What the task raises; for a map the first error.
///
/// # Panics
/// When an item of a starmap is no list, which no canvas that was compiled has.
pub fn run_leaf_noting(leaf: &Leaf<'_>, mut note: impl FnMut(&[Json])) -> Result<Returned> {
    let mut once = |args: &[Json]| {
        note(args);
        call(leaf.task.as_str(), args, leaf.kwargs)
    };
    let starmap = |item: &Json| item.to::<Vec<Json>>().expect("items of a starmap are lists");
    let values: Result<Vec<Json>> = match leaf.call {
        Call::Once => return once(&leaf.args),
        Call::Map => leaf.args.iter().map(|item| value(once(std::slice::from_ref(item))?)).collect(),
        Call::Starmap => leaf.args.iter().map(|item| value(once(&starmap(item))?)).collect(),
    };
    values.map(|values| Json::list(values).into())
}

/// The value of an item of a map.
fn value(returned: Returned) -> Result<Json> {
    match returned {
        Returned::Value(value) => Ok(value),
        Returned::Replace(_) => Err(TaskError::new("ReplaceError", "an item of a map cannot be replaced")),
        Returned::Add(..) => Err(NotAMember.into()),
    }
}

/// Runs a leaf: the task once, or once per item, one after the other.
///
/// # Errors
/// What the task raises; for a map the first error.
pub fn run(task: &str, how: Call, args: &[Json], kwargs: &Kwargs) -> Result<Returned> {
    let none = Kwargs::new();
    let values: Result<Vec<Json>> = match how {
        Call::Once => return call(task, args, kwargs),
        Call::Map => args.iter().map(|item| value(call(task, std::slice::from_ref(item), &none)?)).collect(),
        Call::Starmap => args
            .iter()
            .map(|item| {
                let args: Vec<Json> =
                    item.to().map_err(|_| type_error(format!("{task}() argument after * must be a list")))?;
                value(call(task, &args, &none)?)
            })
            .collect(),
    };
    values.map(|values| Json::list(values).into())
}

/// Calls a task once.
///
/// # Errors
/// What the task raises.
pub fn call(task: &str, args: &[Json], kwargs: &Kwargs) -> Result<Returned> {
    let short = task.rsplit('.').next().unwrap_or(task);
    let added = added(short, args, kwargs)?;
    let own = match replacement(short, args, kwargs)? {
        Some(canvas) => Returned::Replace(canvas),
        None => Returned::Value(compute(task, short, args, kwargs)?),
    };
    Ok(if added.is_empty() { own } else { Returned::Add(Box::new(own), added) })
}

/// How a leaf of these tasks ends, for workers.
///
/// # Panics
/// When what is returned is an addition to an addition.
pub fn outcome(returned: Result<Returned>) -> Outcome {
    let json = |canvas: &Canvas| Json::from_compact(canvas.to_json());
    match returned {
        Ok(Returned::Value(value)) => Outcome::Success(value),
        Ok(Returned::Replace(canvas)) => Outcome::Replace(json(&canvas)),
        Ok(Returned::Add(own, added)) => {
            let own = match *own {
                Returned::Value(value) => Own::Value(value),
                Returned::Replace(canvas) => Own::Canvas(json(&canvas)),
                Returned::Add(..) => panic!("no task of the suite adds twice"),
            };
            Outcome::Add(Box::new(Addition { own, added: added.iter().map(json).collect() }))
        }
        Err(error) => Outcome::Failed(error),
    }
}

fn sig(task: &str, args: &[Json]) -> Canvas {
    let task = Signature::new(task).expect("the suite's tasks have proper names");
    Signature { args: args.to_vec(), ..task }.into()
}

/// A canvas from its operator text, or from Celery's JSON.
fn written(canvas: &Json) -> Result<Canvas> {
    let broken = |error: &dyn std::fmt::Display| TaskError::new("ValueError", error.to_string());
    match canvas.to::<String>() {
        Ok(text) => text::parse(&text).map_err(|error| broken(&error)),
        Err(_) => Canvas::from_json(canvas.as_str()).map_err(|error| broken(&error)),
    }
}

/// What a task asks to add to the list that its value goes into.
fn added(short: &str, args: &[Json], kwargs: &Kwargs) -> Result<Vec<Canvas>> {
    match (short, args, kwargs.get("canvases")) {
        ("adds" | "become", _, Some(canvases)) => {
            let canvases: Vec<Json> = canvases.to().map_err(|error| type_error(error.to_string()))?;
            canvases.iter().map(written).collect()
        }
        ("adds", _, None) => Err(type_error("adds() misses the keyword argument canvases")),
        ("add_to_all_to_chord", [numbers, y], _) => {
            let numbers: Vec<Json> = numbers.to().map_err(|error| type_error(error.to_string()))?;
            Ok(numbers.into_iter().map(|x| sig("add", &[x, y.clone()])).collect())
        }
        ("add_to_all_to_chord", ..) => Err(type_error("add_to_all_to_chord() takes numbers and y")),
        _ => Ok(Vec::new()),
    }
}

/// What a task asks to run in its place, when it does.
fn replacement(short: &str, args: &[Json], kwargs: &Kwargs) -> Result<Option<Canvas>> {
    Ok(Some(match short {
        "become" => {
            let mut canvas = match (kwargs.get("text"), kwargs.get("canvas")) {
                (Some(canvas), None) | (None, Some(canvas)) => written(canvas)?,
                _ => return Err(type_error("become() takes text or canvas")),
            };
            canvas.bind(args, &Kwargs::new());
            canvas
        }
        "add_replaced" => sig("add", args),
        "fail_replaced" => sig("fail", args),
        "replace_with_chain" => sig("identity", args).then(sig("identity", &[])),
        "add_to_all" => {
            let [numbers, y] = args else { return Err(type_error("add_to_all() takes numbers and y")) };
            let numbers: Vec<Json> = numbers.to().map_err(|error| type_error(error.to_string()))?;
            Canvas::group(numbers.into_iter().map(|x| sig("add", &[x, y.clone()])))
        }
        "down" => match args {
            [n] => match n.to::<u32>() {
                Ok(0) => return Ok(None),
                Ok(n) => sig("down", &[json(&(n - 1))]).then(sig("add", &[json(&1)])),
                Err(error) => return Err(type_error(error.to_string())),
            },
            _ => return Err(type_error("down() takes n")),
        },
        _ => return Ok(None),
    }))
}

fn compute(task: &str, short: &str, args: &[Json], kwargs: &Kwargs) -> Result<Json> {
    let bind = |names: &[&str], required| bind(short, names, required, args, kwargs);
    match short {
        "add" => {
            let bound = bind(&["x", "y", "z"], 2)?;
            let sum = plus(&bound[0], &bound[1])?;
            Ok(json(&bound.get(2).filter(|z| !z.is_null()).map_or(Ok(sum.clone()), |z| plus(&sum, z))?))
        }
        "mul" => {
            let bound = bind(&["x", "y"], 2)?;
            if let (Value::Array(list), Some(times @ ..REPEATS_MAX)) = (&bound[0], bound[1].as_u64()) {
                return Ok(json(&vec![list.as_slice(); times as usize].concat()));
            }
            let product = number("mul", &bound[0])?.checked_mul(number("mul", &bound[1])?);
            Ok(json(&product.ok_or_else(too_large)?))
        }
        "tsum" => {
            let bound = bind(&["numbers"], 1)?;
            let numbers = bound[0].as_array().ok_or_else(|| type_error("tsum() takes a list of numbers"))?;
            let sum = numbers.iter().try_fold(0, |sum, item| total(sum, number("tsum", item)?))?;
            Ok(json(&sum))
        }
        "xsum" => Ok(json(&deep_sum(&bind(&["numbers"], 1)?[0])?)),
        "identity" => Ok(json(&bind(&["x"], 1)?[0])),
        "noargs" => bind(&[], 0).map(|_| Json::null()),
        "echo" => Ok(match args {
            [only] => only.clone(),
            _ => Json::list(args),
        }),
        "ids" => kwargs.get("i").cloned().ok_or_else(|| type_error("ids() misses the keyword argument i")),
        "fail" => Err(TaskError::new("ValueError", "boom")),
        "tag" => tag(args, kwargs),
        "adds" if !kwargs.contains_key("tag") => compute(task, "echo", args, kwargs),
        "adds" => {
            let kwargs = kwargs.iter().filter(|(name, _)| *name != "canvases");
            tag(args, &kwargs.map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        "add_to_all_to_chord" => Ok(json(&0)),
        "down" => Ok(json(&0)),
        _ => Err(TaskError::new("NotRegistered", task)),
    }
}

/// Arguments by parameter, as Python binds them; parameters after the last argument are left out.
fn bind(task: &str, names: &[&str], required: usize, args: &[Json], kwargs: &Kwargs) -> Result<Vec<Value>> {
    if args.len() > names.len() {
        let (most, given) = (names.len(), args.len());
        return Err(type_error(format!("{task}() takes {most} arguments, {given} were given")));
    }
    let mut bound: Vec<Option<&Json>> = args.iter().map(Some).collect();
    bound.resize(names.len(), None);
    for (name, value) in kwargs {
        match names.iter().position(|known| known == name) {
            Some(i) if bound[i].is_none() => bound[i] = Some(value),
            Some(_) => return Err(type_error(format!("{task}() got two values for {name}"))),
            None => return Err(type_error(format!("{task}() has no parameter {name}"))),
        }
    }
    if let Some(missing) = bound[..required].iter().position(Option::is_none) {
        return Err(type_error(format!("{task}() misses the argument {}", names[missing])));
    }
    let value = |json: &Json| json.to().map_err(|error| type_error(error.to_string()));
    bound.into_iter().map(|arg| arg.map_or(Ok(Value::Null), value)).collect()
}

fn plus(x: &Value, y: &Value) -> Result<Value> {
    match (x, y) {
        (Value::String(x), Value::String(y)) => Ok(Value::String(format!("{x}{y}"))),
        (Value::Array(x), Value::Array(y)) => Ok(Value::Array([x.as_slice(), y.as_slice()].concat())),
        _ => Ok(Value::from(total(number("add", x)?, number("add", y)?)?)),
    }
}

fn deep_sum(value: &Value) -> Result<i64> {
    match value {
        Value::Array(items) => items.iter().try_fold(0, |sum, item| total(sum, deep_sum(item)?)),
        _ => number("xsum", value),
    }
}

fn number(task: &str, value: &Value) -> Result<i64> {
    value.as_i64().ok_or_else(|| type_error(format!("{task}() takes whole numbers, not {value}")))
}

fn total(x: i64, y: i64) -> Result<i64> {
    x.checked_add(y).ok_or_else(too_large)
}

/// A value that shows every argument, their order and who made it, and does not grow with the canvas.
///
/// A failure object counts as the word `failure`: its ids differ from run to run.
fn tag(args: &[Json], kwargs: &Kwargs) -> Result<Json> {
    let tag = kwargs.get("tag").ok_or_else(|| type_error("tag() misses the keyword argument tag"))?;
    let seen = args.iter().map(without_failures);
    let others = kwargs
        .iter()
        .filter(|(name, _)| *name != "tag")
        .map(|(name, value)| Json::object([(name.as_str(), value)]));
    let seen: Vec<Json> = seen.chain(others).collect();
    let whole = Json::list([tag].into_iter().chain(&seen));
    if whole.as_str().len() <= TAG_CHARS_MAX {
        return Ok(whole);
    }
    Ok(Json::list([tag, &Json::string(&format!("{:016x}", fnv1a(whole.as_str())))]))
}

/// The same value with the word `failure` for every failure in it: its ids differ from run to run, and when several
/// leaves of one part fail, so does which of them was the first.
///
/// # Panics
/// When the text is not JSON.
pub fn without_failures(json: &Json) -> Json {
    fn replace(value: &mut Value) {
        match value {
            Value::Object(members) if members.contains_key("task_id") => *value = Value::from("failure"),
            Value::Object(members) => members.values_mut().for_each(replace),
            Value::Array(items) => items.iter_mut().for_each(replace),
            _ => {}
        }
    }
    if !json.as_str().contains("\"task_id\":") {
        return json.clone();
    }
    let mut value = json.to().expect("what tasks take and return is JSON");
    replace(&mut value);
    self::json(&value)
}

/// FNV-1a: short, without a seed, and the same on every machine.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn json(value: &impl serde::Serialize) -> Json {
    Json::new(value).expect("a JSON value has a JSON form")
}

fn type_error(message: impl Into<String>) -> TaskError {
    TaskError::new("TypeError", message)
}

fn too_large() -> TaskError {
    TaskError::new("OverflowError", "the number does not fit 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value, or the text of the canvas.
    fn text_of(returned: Returned) -> String {
        match returned {
            Returned::Value(value) => value.to_string(),
            Returned::Replace(canvas) => canvas.to_string(),
            Returned::Add(own, added) => {
                let added: Vec<String> = added.iter().map(ToString::to_string).collect();
                format!("{} and {}", text_of(*own), added.join(", "))
            }
        }
    }

    /// `expect` is the value, the canvas in its place, or the kind of the error.
    #[track_caller]
    fn check(task: &str, args: &str, kwargs: &str, expect: &str) {
        let args: Vec<Json> = Json::parse(args).unwrap().to().unwrap();
        let kwargs: Kwargs = Json::parse(kwargs).unwrap().to().unwrap();
        let seen = call(task, &args, &kwargs).map_or_else(|error| error.kind, text_of);
        assert_eq!(seen, expect);
    }

    #[test]
    fn tasks_compute_what_the_table_says() {
        check("add", "[1,2]", "{}", "3");
        check("proj.tasks.add", "[1]", r#"{"y":2,"z":3}"#, "6");
        check("add", r#"["Hello ","world"]"#, "{}", "\"Hello world\"");
        check("mul", "[6,7]", "{}", "42");
        check("mul", "[[6,7],2]", "{}", "[6,7,6,7]");
        check("tsum", "[[1,2,3]]", "{}", "6");
        check("xsum", "[[1,[2,[3,[]]]]]", "{}", "6");
        check("identity", "[[1]]", "{}", "[1]");
        check("echo", "[7]", "{}", "7");
        check("echo", "[7,8]", "{}", "[7,8]");
        check("echo", "[]", "{}", "[]");
        check("ids", "[0]", r#"{"i":5}"#, "5");
        check("noargs", "[]", "{}", "null");
    }

    #[test]
    fn tasks_are_replaced_by_what_the_table_says() {
        check("become", "[1]", r#"{"text":"add.s(2) | mul.s(3)"}"#, "add.s(1, 2) | mul.s(3)");
        check("become", "[]", r#"{"canvas":{"task":"add","args":[1,2]}}"#, "add.s(1, 2)");
        check("become", "[]", r#"{"text":"add.s("}"#, "ValueError");
        check("add_replaced", "[1,2]", "{}", "add.s(1, 2)");
        check("add_to_all", "[[1,2],3]", "{}", "group(add.s(1, 3), add.s(2, 3))");
        check("replace_with_chain", "[1]", "{}", "identity.s(1) | identity.s()");
        check(
            "adds",
            "[1]",
            r#"{"canvases":["add.s(1, 2)",{"task":"fail"}]}"#,
            "1 and add.s(1, 2), fail.s()",
        );
        check("adds", "[1]", r#"{"canvases":["fail.s()"],"tag":7}"#, "[7,1] and fail.s()");
        check("adds", "[1]", r#"{"canvases":[]}"#, "1");
        check(
            "become",
            "[]",
            r#"{"text":"fail.s()","canvases":["add.s(1, 2)"]}"#,
            "fail.s() and add.s(1, 2)",
        );
        check("add_to_all_to_chord", "[[1,2],3]", "{}", "0 and add.s(1, 3), add.s(2, 3)");
        check("adds", "[]", "{}", "TypeError");
        check("fail_replaced", "[]", "{}", "fail.s()");
        check("down", "[2]", "{}", "down.s(1) | add.s(1)");
        check("down", "[0]", "{}", "0");
    }

    #[test]
    fn what_python_refuses_is_a_type_error() {
        check("add", "[1]", "{}", "TypeError");
        check("add", "[1,2,3,4]", "{}", "TypeError");
        check("add", "[1,2]", r#"{"x":1}"#, "TypeError");
        check("add", "[1,2]", r#"{"w":1}"#, "TypeError");
        check("add", "[[],3]", "{}", "TypeError");
        check("tsum", "[3]", "{}", "TypeError");
        check("noargs", "[3]", "{}", "TypeError");
        check("add", "[9223372036854775807,1]", "{}", "OverflowError");
        check("fail", "[1,2]", r#"{"tag":1}"#, "ValueError");
        check("nobody", "[]", "{}", "NotRegistered");
    }

    #[test]
    fn every_listed_name_is_known() {
        for name in NAMES {
            let error = call(name, &[], &Kwargs::new()).err().map(|error| error.kind);
            assert_ne!(error.as_deref(), Some("NotRegistered"), "{name}");
        }
    }

    #[test]
    fn a_tag_shows_its_arguments_in_order_and_stays_short() {
        check("tag", "[1,[2]]", r#"{"tag":7}"#, "[7,1,[2]]");
        check("tag", "[1]", r#"{"tag":7,"x":2}"#, r#"[7,1,{"x":2}]"#);
        check("tag", r#"[{"task_id":null,"node":"body"}]"#, r#"{"tag":7}"#, r#"[7,"failure"]"#);
        let tag = |text: &str| {
            let args = [Json::string(&text.repeat(30)), Json::new(&1).unwrap()];
            let kwargs = Kwargs::from([("tag".to_owned(), Json::new(&7).unwrap())]);
            call("tag", &args, &kwargs).map(text_of).unwrap()
        };
        assert!(tag("ab").len() < TAG_CHARS_MAX);
        assert_ne!(tag("ab"), tag("ba"));
    }

    #[test]
    fn maps_call_their_task_for_each_item_and_stop_at_the_first_error() {
        let run = |how, items: &str| {
            let items: Vec<Json> = Json::parse(items).unwrap().to().unwrap();
            run("add", how, &items, &Kwargs::new()).map_or_else(|e| e.kind, text_of)
        };
        assert_eq!(run(Call::Starmap, "[[1,1],[2,2]]"), "[2,4]");
        assert_eq!(run(Call::Starmap, "[]"), "[]");
        assert_eq!(run(Call::Starmap, "[[1,1],2]"), "TypeError");
        assert_eq!(run(Call::Map, "[1]"), "TypeError");
    }
}
