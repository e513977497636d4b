//! Operator text: a canvas as a Celery user writes it.
//!
//! ```
//! use celeriac_engine::text;
//!
//! let canvas = text::parse("chord((add.s(i, i) for i in range(3)), xsum.s())")?;
//! assert_eq!(canvas.to_string(), "chord([add.s(0, 0), add.s(1, 1), add.s(2, 2)], xsum.s())");
//!
//! let error = text::parse("add(2, 2)").unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "line 1, column 1: add is a task; it is not called directly\n  add(2, 2)\n  ^ write add.s(2, 2)"
//! );
//! # Ok::<(), text::TextError>(())
//! ```
//!
//! [`parse`] reads back every canvas that `Display` prints, and what people write by hand:
//!
//! | Written | Means |
//! |---|---|
//! | `proj.tasks.add.s(2, y=2)`, `.si(…)` | a signature, an immutable one |
//! | `add.signature((2,), {"y": 2}, countdown=10)`, `signature("add", args=…, kwargs=…, queue="hi")` | the same with options |
//! | `a \| b`, `(a \| b) \| c` | a chain; plain chains are spliced |
//! | `chain(…)`, `group(…)` | of its arguments, or of one list or generator; nothing is spliced |
//! | `chord(header, body)`, `chord(header)(body)` | the header is a list, a generator, a group (its members) or one canvas |
//! | `add.map(items)`, `add.starmap(items)`, `xmap(add.s(), items)`, `xstarmap(…)` | one leaf for all items |
//! | `add.chunks(items, n)`, `chunks(add.s(), items, n)`, and `.group()` after them | starmaps of `n` items |
//! | `.set(queue="hi", immutable=true, link=…)` | options of the outermost canvas |
//! | `.link(c)`, `.link_error(c)`, `.on_error(c)` | callbacks |
//! | `.finally(c)` | what runs in either case (ours) |
//! | `.set(on_failure="drop")`, `"collect"` | of a group or chord: what becomes of members that fail (ours) |
//! | `.clone((4,), {"z": 5}, queue="hi")`, `.partial(…)` | more arguments, bound where Celery binds them |
//!
//! Values are Python's literals or JSON: numbers of any size, texts, `True` and `true`, lists, tuples, dictionaries.
//! Loop variables stand wherever a value may, with whole-number arithmetic (`+ - * // % **`). Lists may be written
//! as `range(…)`, `xrange(…)`, `zip(…)` or `[… for a, b in … if …]`; canvases may be generated in the same way.
//! Comments, line breaks and trailing commas are allowed everywhere.
//!
//! Two things differ from Python. A text describes a canvas and runs nothing, so `.link(…)` and its like give the
//! canvas itself back (Celery's `link` returns the callback), and `.delay(…)`, `.get()` and a final `()` are errors
//! that say what to write. And a text that is JSON is read as JSON, so `"\/"` is a slash.
//!
//! Bounds: expressions nest 256 deep; a text makes at most [`Limits::nodes_max`] canvases, and values in proportion.
//! The length of the text is the caller's to bound. What a canvas *means* is not checked here.

mod arguments;
mod canvas;
mod complaint;
mod error;
mod evaluate;
mod lexer;
mod lists;
mod literal;
mod methods;
mod names;
mod parameters;
mod parser;
mod syntax;
#[cfg(test)]
mod tests;
mod value;
mod vocabulary;

use celeriac_primitives::{Canvas, Json, Kwargs, Limits};

pub use error::TextError;
pub use names::{AnyName, Names, Resolver, UnknownTask};

use error::Result as Faulty;
use evaluate::Evaluator;
use names::Known;
use parser::Parser;

/// Reads a canvas. Task names are taken as they are written.
///
/// # Errors
/// [`TextError`], with the place and what to write instead.
pub fn parse(text: &str) -> Result<Canvas, TextError> {
    parse_with(text, &AnyName, &Limits::default())
}

/// Reads a canvas whose task names mean what `names` says, of at most `limits.nodes_max` nodes.
///
/// # Errors
/// [`TextError`], with the place and what to write instead.
pub fn parse_with(text: &str, names: &dyn Resolver, limits: &Limits) -> Result<Canvas, TextError> {
    let read = || -> Faulty<Canvas> {
        let mut parser = Parser::new(text, Known::new(names))?;
        let expr = parser.whole_canvas()?;
        Evaluator::new(text, parser.names, limits).canvas(&expr)
    };
    read().map_err(|fault| TextError::new(text, fault))
}

/// Reads one value: a Python literal or JSON.
///
/// # Errors
/// [`TextError`], with the place and what to write instead.
pub fn parse_value(text: &str) -> Result<Json, TextError> {
    let read = || -> Faulty<Json> {
        let mut parser = Parser::new(text, Known::new(&AnyName))?;
        let expr = parser.whole_value()?;
        let mut evaluator = Evaluator::new(text, parser.names, &Limits::default());
        let value = evaluator.value(&expr)?;
        evaluator.json(expr.at, &value)
    };
    read().map_err(|fault| TextError::new(text, fault))
}

/// Reads the inside of a call's parentheses, such as `4, z=5`; an empty text is no arguments.
///
/// # Errors
/// [`TextError`], with the place and what to write instead.
pub fn parse_args(text: &str) -> Result<(Vec<Json>, Kwargs), TextError> {
    let read = || -> Faulty<(Vec<Json>, Kwargs)> {
        let mut parser = Parser::new(text, Known::new(&AnyName))?;
        let arguments = parser.whole_arguments()?;
        Evaluator::new(text, parser.names, &Limits::default()).task_arguments(&arguments)
    };
    read().map_err(|fault| TextError::new(text, fault))
}
