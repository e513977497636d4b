//! The DSL as a user meets it: tasks, flows, `canvas!`, and what does not compile.

#![allow(missing_docs, reason = "tests")]

// Users depend on the facade; these tests on the part of it that is here.
extern crate celeriac_dsl as celeriac;

mod canvas;
mod flow;
mod tasks;
mod ui;
mod variadic;

/// The tasks of Celery's own documentation, and some more.
mod proj {
    use celeriac::task;
    use celeriac_primitives::{Entry, Failure};

    /// Adds two or three numbers.
    ///
    /// The third may be left out.
    #[task(name = "add")]
    pub(crate) async fn add(x: i64, y: i64, #[default(0)] z: i64) -> i64 {
        x + y + z
    }

    #[task(name = "mul")]
    pub(crate) async fn mul(x: i64, y: i64) -> i64 {
        x * y
    }

    #[task(name = "xsum")]
    pub(crate) async fn xsum(numbers: Vec<i64>) -> i64 {
        numbers.iter().sum()
    }

    #[task(name = "sleep")]
    pub(crate) async fn sleep(seconds: f64, #[default] value: serde_json::Value) -> serde_json::Value {
        assert!(seconds >= 0.0);
        value
    }

    #[task(name = "greet")]
    pub(crate) fn greet(name: String, #[default(None)] title: Option<String>) -> String {
        format!("{} {name}", title.unwrap_or_default())
    }

    #[task(name = "ping")]
    pub(crate) fn ping() {}

    #[task(name = "clean_up")]
    pub(crate) async fn clean_up(ended: Entry<i64>) {
        drop(ended);
    }

    #[task(name = "succeeded")]
    pub(crate) async fn succeeded(ended: Vec<Entry<i64>>) -> i64 {
        ended.iter().filter_map(Entry::ok).sum()
    }

    #[task(name = "on_failed")]
    pub(crate) async fn on_failed(failure: Failure) {
        let _ = failure;
    }

    #[task(name = "echo")]
    pub(crate) async fn echo(#[rest] arguments: Vec<serde_json::Value>) -> serde_json::Value {
        serde_json::Value::from(arguments)
    }

    #[task(name = "total")]
    pub(crate) fn total(#[rest] numbers: Vec<i64>) -> i64 {
        numbers.iter().sum()
    }

    #[task(name = "join")]
    pub(crate) fn join(by: String, #[default(1)] times: usize, #[rest] parts: Vec<String>) -> String {
        parts.join(&by.repeat(times))
    }

    #[task(name = "identity")]
    pub(crate) fn identity(value: serde_json::Value) -> serde_json::Value {
        value
    }
}
