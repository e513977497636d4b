//! Canvases with what must come out of them, as data: one [`Row`] each, the same for eager and every
//! backend.
//!
//! The rows are what users of Celery rely on: every composition that its users meet, its errors and
//! callbacks, and its own integration tests. Where celeriac means something else on purpose, the row
//! says which rule makes the difference.
//!
//! ```
//! use celeriac_conformance::{table, tasks};
//! use celeriac_engine::eager::eager;
//!
//! for row in table::all() {
//!     let mut seen = table::Seen::default();
//!     let evaluation = eager(&row.canvas()?, &mut |leaf| {
//!         seen.ran(&leaf.path);
//!         tasks::run_leaf(leaf)
//!     })?;
//!     row.check(&seen.with(&evaluation))?;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt::Write as _;

use celeriac_engine::eager::Evaluation;
use celeriac_engine::text;
use celeriac_primitives::{Canvas, Json, Kwargs, Path, Segment};

use crate::{
    table_added, table_catalogue, table_errors, table_policies, table_replaced, table_values, tasks,
};

/// A canvas and what must come out of it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Where it comes from: a number in the tables of compositions (`2.4 #36`) or errors (`4.3 E7`),
    /// or the name of one of Celery's integration tests (`test_chord_order`), and what is special
    /// about this row of it.
    pub id: &'static str,
    source: Source,
    args: &'static str,
    kwargs: &'static str,
    expect: Expect,
    leaves: Option<usize>,
    callbacks: usize,
    errbacks: usize,
    finals: usize,
    /// What Celery does not do, and which of our rules says so.
    pub differs: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Text(&'static str),
    Built(fn() -> Canvas),
}

#[derive(Clone, Copy, Debug)]
enum Expect {
    Value(&'static str),
    /// The list of these numbers, the last one excluded.
    Numbers(u32, u32),
    Fails {
        node: &'static str,
        kind: &'static str,
    },
}

/// What was seen of a run.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The value, or the failure that was reported.
    pub result: Option<Result<Json, Failed>>,
    /// Every leaf that failed outside callbacks of either kind.
    pub failures: Vec<Failed>,
    /// How often a leaf was run outside callbacks of either kind.
    pub leaves: usize,
    /// How often a leaf was run in a callback.
    pub callbacks: usize,
    /// How often a leaf was run in an error callback.
    pub errbacks: usize,
    /// How often a leaf was run in `finally`.
    pub finals: usize,
}

/// A failed leaf: the path of its node, and the type of its error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The path, as text.
    pub node: String,
    /// Such as `ValueError`.
    pub kind: String,
}

/// Every row of every table.
pub fn all() -> impl Iterator<Item = &'static Row> {
    let rows = table_values::ROWS.iter().chain(table_errors::ROWS).chain(table_catalogue::ROWS);
    let rows = rows.chain(table_policies::ROWS.iter()).chain(table_replaced::ROWS);
    rows.chain(table_added::ROWS)
}

/// A row that succeeds: its text, and its value as JSON.
pub(crate) const fn gives(id: &'static str, text: &'static str, value: &'static str) -> Row {
    row(id, Source::Text(text), Expect::Value(value))
}

/// A row that gives the list of the numbers from `from` on that are below `end`.
pub(crate) const fn gives_numbers(id: &'static str, text: &'static str, from: u32, end: u32) -> Row {
    row(id, Source::Text(text), Expect::Numbers(from, end))
}

/// A row that fails: its text, the node of the first failing leaf as written, and the type of the
/// error.
pub(crate) const fn fails(
    id: &'static str,
    text: &'static str,
    node: &'static str,
    kind: &'static str,
) -> Row {
    row(id, Source::Text(text), Expect::Fails { node, kind })
}

/// A row whose canvas cannot be written as text.
pub(crate) const fn built(id: &'static str, canvas: fn() -> Canvas, value: &'static str) -> Row {
    row(id, Source::Built(canvas), Expect::Value(value))
}

const fn row(id: &'static str, source: Source, expect: Expect) -> Row {
    let (args, kwargs) = ("[]", "{}");
    Row {
        id,
        source,
        args,
        kwargs,
        expect,
        leaves: None,
        callbacks: 0,
        errbacks: 0,
        finals: 0,
        differs: None,
    }
}

impl Row {
    /// The arguments of the call, as a JSON list.
    pub(crate) const fn args(self, args: &'static str) -> Self {
        Self { args, ..self }
    }

    /// The keyword arguments of the call, as a JSON object.
    pub(crate) const fn kwargs(self, kwargs: &'static str) -> Self {
        Self { kwargs, ..self }
    }

    /// How many leaves run, callbacks of either kind not counted.
    pub(crate) const fn leaves(self, leaves: usize) -> Self {
        Self { leaves: Some(leaves), ..self }
    }

    /// How many leaves run in callbacks.
    pub(crate) const fn callbacks(self, callbacks: usize) -> Self {
        Self { callbacks, ..self }
    }

    /// How many leaves run in error callbacks.
    pub(crate) const fn errbacks(self, errbacks: usize) -> Self {
        Self { errbacks, ..self }
    }

    /// How many leaves run in `finally`.
    pub(crate) const fn finals(self, finals: usize) -> Self {
        Self { finals, ..self }
    }

    pub(crate) const fn differs(self, why: &'static str) -> Self {
        Self { differs: Some(why), ..self }
    }

    /// The canvas as text; none when it cannot be written so.
    pub fn text(&self) -> Option<&'static str> {
        match self.source {
            Source::Text(text) => Some(text),
            Source::Built(_) => None,
        }
    }

    /// The canvas, with the arguments of the call bound.
    ///
    /// # Errors
    /// When the row's own text is wrong, with the row's id.
    pub fn canvas(&self) -> Result<Canvas, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", self.id);
        let mut canvas = match self.source {
            Source::Text(text) => text::parse(text).map_err(|error| wrong(&error))?,
            Source::Built(build) => build(),
        };
        let parse = |text| Json::parse(text).map_err(|error| wrong(&error));
        let args: Vec<Json> = parse(self.args)?.to().map_err(|error| wrong(&error))?;
        let kwargs: Kwargs = parse(self.kwargs)?.to().map_err(|error| wrong(&error))?;
        canvas.bind(&args, &kwargs);
        Ok(canvas)
    }

    /// Compares what was seen with what the row says.
    ///
    /// Of several leaves that fail, a backend may report another one first than the one that is
    /// written first.
    ///
    /// # Errors
    /// All differences, one a line, with the row's id and text.
    pub fn check(&self, seen: &Seen) -> Result<(), String> {
        let mut wrong = String::new();
        let mut differ = |what: &str, seen: &dyn std::fmt::Debug, expect: &dyn std::fmt::Debug| {
            writeln!(wrong, "  {what}: {seen:?}, not {expect:?}").expect("a String takes all text");
        };
        match (self.expect, &seen.result) {
            (Expect::Fails { node, kind }, Some(Err(failed))) => {
                let first = Failed { node: node.to_owned(), kind: kind.to_owned() };
                if !seen.failures.contains(&first) || !seen.failures.contains(failed) {
                    differ("failure", failed, &first);
                }
            }
            (Expect::Fails { node, .. }, result) => differ("result", &told(result.as_ref()), &node),
            (expect, result) => {
                let value = match expect {
                    Expect::Numbers(from, end) => Json::new(&(from..end).collect::<Vec<_>>()),
                    Expect::Value(text) | Expect::Fails { node: text, .. } => Json::parse(text),
                };
                match (value, result) {
                    (Ok(value), Some(Ok(seen))) if value == tasks::without_failures(seen) => {}
                    (Ok(value), seen) => differ("value", &told(seen.as_ref()), &value.as_str()),
                    (Err(error), seen) => differ("value", &told(seen.as_ref()), &error),
                }
            }
        }
        let counts = [
            ("leaves run", seen.leaves, self.leaves.unwrap_or(seen.leaves)),
            ("leaves run in callbacks", seen.callbacks, self.callbacks),
            ("leaves run in error callbacks", seen.errbacks, self.errbacks),
            ("leaves run in finally", seen.finals, self.finals),
        ];
        for (what, seen, expect) in counts {
            if seen != expect {
                differ(what, &seen, &expect);
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let text = self.text().unwrap_or("a canvas without text");
        Err(format!("{}: {text}\n{wrong}", self.id))
    }
}

/// A result in words: values show only how long they are when they are debugged.
fn told(result: Option<&Result<Json, Failed>>) -> String {
    match result {
        Some(Ok(value)) => value.to_string(),
        Some(Err(failed)) => format!("{failed:?}"),
        None => "none".to_owned(),
    }
}

impl Seen {
    /// Counts one run of the leaf at this path. In a callback of a callback the inner one counts.
    pub fn ran(&mut self, path: &Path) {
        match path.segments().iter().rfind(|segment| segment.is_callback()) {
            Some(Segment::LinkError(_)) => self.errbacks += 1,
            Some(Segment::Finally(_)) => self.finals += 1,
            Some(_) => self.callbacks += 1,
            None => self.leaves += 1,
        }
    }

    /// The same with the outcome of the reference evaluator.
    #[must_use]
    pub fn with(mut self, evaluation: &Evaluation) -> Self {
        let failed = |failure: &celeriac_engine::eager::EagerFailure| Failed {
            node: failure.path.to_string(),
            kind: failure.error.kind.clone(),
        };
        let result = evaluation.result.as_ref().map(tasks::without_failures);
        self.result = Some(result.map_err(failed));
        self.failures = evaluation.failures.iter().map(failed).collect();
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use celeriac_engine::eager::eager;

    use super::*;
    use crate::tasks;

    fn run(row: &Row) -> Result<(Seen, Evaluation), String> {
        let mut seen = Seen::default();
        let evaluation = eager(&row.canvas()?, &mut |leaf| {
            seen.ran(&leaf.path);
            tasks::run_leaf(leaf)
        });
        let evaluation = evaluation.map_err(|error| format!("{}: {error}", row.id))?;
        Ok((seen.with(&evaluation), evaluation))
    }

    #[test]
    fn every_row_is_what_the_evaluator_says() {
        let wrong: Vec<String> = all()
            .filter_map(|row| {
                let seen = match run(row) {
                    Ok((seen, _)) => seen,
                    Err(error) => return Some(error),
                };
                // In eager the first failure as written is the one that is reported.
                let first = seen.result.as_ref().and_then(|result| result.as_ref().err());
                if let (Expect::Fails { node, .. }, Some(first)) = (row.expect, first)
                    && first.node != node
                {
                    return Some(format!("{}: failed first at {}, not {node}", row.id, first.node));
                }
                row.check(&seen).err()
            })
            .collect();
        assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    }

    #[test]
    fn the_tables_are_whole() {
        let ids: Vec<&str> = all().map(|row| row.id).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "every id stands once");
        let compositions = ids.iter().filter_map(|id| id.split_once(" #")?.1.parse::<u32>().ok());
        assert!(compositions.eq(1..=127));
        for row in all() {
            assert!(row.differs.is_none_or(|why| why.starts_with("Ours ")), "{}", row.id);
            assert!(row.text().is_some() || row.id == "2.8 #127", "{}", row.id);
        }
    }

    #[test]
    fn a_wrong_outcome_is_found() {
        #[track_caller]
        fn check(row: Row, expect: &str) {
            let error = row.check(&run(&row).unwrap().0).unwrap_err();
            assert!(error.contains(expect), "{error}");
        }
        check(gives("x", "add.s(1,2)", "4"), "value: \"3\", not \"4\"");
        check(gives("x", "fail.s()", "4"), "value: \"Failed");
        check(fails("x", "add.s(1,2)", "canvas", "ValueError"), "result: \"3\", not");
        check(fails("x", "fail.s()", "canvas", "TypeError"), "failure: Failed");
        check(fails("x", "fail.s()", "body", "ValueError"), "failure: Failed");
        check(gives("x", "add.s(1,2)", "3").leaves(2), "leaves run: 1, not 2");
        check(gives("x", "add.s(1,2).link(echo.s())", "3"), "leaves run in callbacks: 1, not 0");
        check(fails("x", "fail.s()", "canvas", "ValueError").errbacks(1), "error callbacks: 0, not 1");
    }
}
