//! `tasks`: lists what the app can run.

use std::fmt::Write as _;

use celeriac_dsl::TaskDef;
use celeriac_runtime::App;

use crate::exit::{Exit, Stop};
use crate::io::Io;

/// Calls longer than this do not push the descriptions of the others to the right.
const COLUMN_MAX: usize = 48;

pub(crate) fn tasks(app: &App, io: &mut Io<'_>) -> Result<Exit, Stop> {
    let rows: Vec<(String, &str)> = app
        .registry()
        .tasks()
        .map(|task| (call(task), task.description.trim().lines().next().unwrap_or_default()))
        .collect();
    let widths = rows.iter().map(|(call, _)| call.chars().count());
    let column = widths.filter(|width| *width <= COLUMN_MAX).max().unwrap_or(0);
    let mut list = String::new();
    for (call, description) in rows {
        let line = format!("{call:column$}  {description}");
        writeln!(list, "{}", line.trim_end()).expect("a String takes all text");
    }
    io.print(&list)
}

/// `proj.tasks.add(x: i64, y: i64, z: i64 = 0)`
pub(crate) fn call(task: &TaskDef) -> String {
    let params: Vec<String> = task.params.iter().map(ToString::to_string).collect();
    format!("{}({})", task.name, params.join(", "))
}
