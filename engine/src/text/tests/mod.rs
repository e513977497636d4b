//! What the parser promises as a whole.

mod accepted;
mod errors_of_form;
mod errors_of_lists_and_names;
mod errors_of_meaning;
mod never_panics;
mod round_trip;

use std::fmt::Debug;

use celeriac_primitives::{Limits, TaskName};

use super::{Names, TextError, parse, parse_args, parse_value, parse_with};

/// An app with two tasks of one short name.
fn app() -> Names {
    let names = ["proj.tasks.add", "proj.tasks.mul", "proj.tasks.xsum", "other.mul"];
    names.map(|name| TaskName::new(name).unwrap()).into_iter().collect()
}

#[track_caller]
fn check_error(text: &str, expect: &str) {
    refused(parse(text), expect);
}

#[track_caller]
fn check_app(text: &str, expect: &str) {
    refused(parse_with(text, &app(), &Limits::default()), expect);
}

#[track_caller]
fn check_value(text: &str, expect: &str) {
    refused(parse_value(text), expect);
}

#[track_caller]
fn check_args(text: &str, expect: &str) {
    refused(parse_args(text), expect);
}

/// The error's `Display`, with a line break before it.
#[track_caller]
fn refused<T: Debug>(result: Result<T, TextError>, expect: &str) {
    assert_eq!(format!("\n{}", result.unwrap_err()), expect);
}
