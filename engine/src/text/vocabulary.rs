//! The words that text may call, and what is said about the others.

use super::error::{Fault, cut};
use super::names::{Known, nearest};

/// What makes canvases.
const CANVAS_FUNCTIONS: &[&str] = &["group", "chain", "chord", "signature", "xmap", "xstarmap", "chunks"];

/// What makes lists.
const VALUE_FUNCTIONS: &[&str] = &["range", "xrange", "zip", "list", "tuple"];

/// What a task is followed by. `subtask` is Celery's old word for `signature`.
const TASK_METHODS: &[&str] = &["s", "si", "signature", "subtask", "map", "starmap", "chunks"];

/// What a canvas is followed by.
const CANVAS_METHODS: &[&str] =
    &["set", "link", "link_error", "on_error", "finally", "clone", "partial", "group"];

/// What would run a canvas in Python.
const RUNNERS: &[&str] =
    &["apply_async", "apply", "delay", "get", "join", "wait", "run", "freeze", "retry", "forget", "then"];

/// Functions of Python that people try.
const BUILTINS: &[&str] = &[
    "float",
    "int",
    "str",
    "bool",
    "dict",
    "set",
    "len",
    "sum",
    "min",
    "max",
    "abs",
    "sorted",
    "reversed",
    "enumerate",
    "filter",
    "map",
    "datetime",
    "timedelta",
    "print",
];

pub(super) fn is_canvas_function(name: &str) -> bool {
    CANVAS_FUNCTIONS.contains(&name)
}

pub(super) fn is_function(name: &str) -> bool {
    is_canvas_function(name) || VALUE_FUNCTIONS.contains(&name)
}

pub(super) fn is_task_method(name: &str) -> bool {
    TASK_METHODS.contains(&name)
}

/// `name(written)` where `name` is no function.
pub(super) fn unknown_function(at: usize, name: &str, written: &str, names: &Known<'_>) -> Fault {
    let near = [CANVAS_FUNCTIONS, VALUE_FUNCTIONS].concat();
    let shown = cut(name, 40);
    if BUILTINS.contains(&name) {
        let message = format!("the function {name} is not known here");
        let help = "functions of values are range, zip, list and tuple; a task is called with .s(…)";
        return Fault::new(at, message, help);
    }
    if let Some(near) = nearest(name, &near) {
        let help = format!("did you mean {near}(…)? A task is called with {shown}.s({})", brief(written));
        return Fault::new(at, format!("the function {shown} is not known"), help);
    }
    if names.knows(name) {
        let help = format!("write {shown}.s({})", brief(written));
        return Fault::new(at, format!("{shown} is a task; it is not called directly"), help);
    }
    let help = "write group(…), chain(…), chord(…), or a task with .s(…)";
    Fault::new(at, format!("there is no function and no task {shown:?}"), help)
}

/// `path.name(written)` where `name` is no method of tasks.
pub(super) fn unknown_task_method(at: usize, path: &str, name: &str, written: &str) -> Fault {
    let (path, shown, written) = (cut(path, 80), cut(name, 40), brief(written));
    if RUNNERS.contains(&name) {
        let help = match name {
            "delay" => format!("write {path}.s({written})"),
            _ => format!("write {path}.s(…), or {path}.signature({written})"),
        };
        return Fault::new(
            at,
            format!("text says what to run and does not run it: leave out .{shown}"),
            help,
        );
    }
    if CANVAS_METHODS.contains(&name) {
        let help = format!("write {path}.s().{shown}({written})");
        return Fault::new(at, format!("{path} is a task, .{shown} is a method of signatures"), help);
    }
    let message = format!("a task has no method .{shown}");
    match nearest(name, TASK_METHODS) {
        Some(near) => Fault::new(at, message, format!("did you mean .{near}({written})?")),
        None => {
            let help = format!("to call the task {path}.{shown}, write {path}.{shown}.s({written})");
            Fault::new(at, message, help)
        }
    }
}

/// A method that canvases do not have.
pub(super) fn unknown_canvas_method(at: usize, name: &str, written: &str) -> Fault {
    let (shown, written) = (cut(name, 40), brief(written));
    if RUNNERS.contains(&name) {
        let message = format!("text says what to run and does not run it: leave out .{shown}");
        let help = match name {
            "delay" | "apply_async" | "apply" => {
                "arguments for the whole canvas are given beside it (--args on the command line), or with .clone((…))"
            }
            _ => "the result is printed or returned when the canvas has run",
        };
        return Fault::new(at, message, help);
    }
    let message = format!("a canvas has no method .{shown}");
    let help = match name {
        "s" | "si" | "signature" | "subtask" => format!("to bind more arguments, write .clone(({written},))"),
        "map" | "starmap" | "chunks" => format!("write it on the task: name.{shown}({written})"),
        _ => match nearest(name, CANVAS_METHODS) {
            Some(near) => format!("did you mean .{near}({written})?"),
            None => "methods are .set(…), .link(…), .link_error(…), .on_error(…), .finally(…) and .clone(…)"
                .to_owned(),
        },
    };
    Fault::new(at, message, help)
}

/// Arguments as written, or `…` when they are long.
fn brief(written: &str) -> &str {
    let short = written.chars().count() <= 40 && !written.contains(['\n', '#']);
    if short { written } else { "…" }
}
