//! From the JSON arguments of a message to the typed parameters of a function.
//!
//! The texts are cut into slices, one per parameter, and every slice is read straight into its type. What does not fit
//! is a `TypeError` in the words Python has for it.

use std::borrow::Cow;
use std::fmt;

use celeriac_primitives::{Json, TaskError};
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::nearest::nearest;
use crate::task::{Param, Parameter};

/// The arguments of one call: a JSON list and a JSON object.
#[derive(Clone, Debug)]
pub struct Arguments {
    args: Json,
    kwargs: Json,
}

/// The arguments of a call put to the parameters they are for, not yet read.
#[derive(Debug)]
pub struct Slots<'a, const N: usize> {
    task: &'static str,
    params: &'static [Param; N],
    values: [Option<&'a RawValue>; N],
    rest: Vec<&'a RawValue>,
}

impl Arguments {
    /// The arguments of a message.
    pub fn new(args: Json, kwargs: Json) -> Self {
        Self { args, kwargs }
    }

    /// The positional arguments, a JSON list.
    pub fn args(&self) -> &Json {
        &self.args
    }

    /// The keyword arguments, a JSON object.
    pub fn kwargs(&self) -> &Json {
        &self.kwargs
    }

    /// Puts every argument to its parameter.
    ///
    /// # Errors
    /// A `TypeError` when there are too many positional arguments, a keyword is unknown, or a parameter is given twice.
    pub fn slots<const N: usize>(
        &self,
        task: &'static str,
        params: &'static [Param; N],
    ) -> Result<Slots<'_, N>, TaskError> {
        let mut slots = Slots { task, params, values: [None; N], rest: Vec::new() };
        slots.fill(self.args.as_str())?;
        slots.fill_by_keyword(self.kwargs.as_str())?;
        Ok(slots)
    }
}

impl<'a, const N: usize> Slots<'a, N> {
    fn fill(&mut self, args: &'a str) -> Result<(), TaskError> {
        let named = self.params.iter().filter(|param| !param.rest).count();
        let positional =
            Positional { values: &mut self.values[..named], rest: (named < N).then_some(&mut self.rest) };
        let mut reader = serde_json::Deserializer::from_str(args);
        let count = positional
            .deserialize(&mut reader)
            .map_err(|error| unreadable(self.task, "positional arguments should be a list", &error))?;
        if count > N && named == N {
            return Err(too_many(self.task, self.params, count));
        }
        Ok(())
    }

    fn fill_by_keyword(&mut self, kwargs: &'a str) -> Result<(), TaskError> {
        if kwargs == "{}" {
            return Ok(());
        }
        let mut reader = serde_json::Deserializer::from_str(kwargs);
        let wrong = Keywords { task: self.task, params: self.params, values: &mut self.values }
            .deserialize(&mut reader)
            .map_err(|error| unreadable(self.task, "keyword arguments should be an object", &error))?;
        wrong.map_or(Ok(()), Err)
    }

    /// The value of a parameter that has no default.
    ///
    /// # Errors
    /// A `TypeError` when it is missing or has the wrong type.
    pub fn required<T: Parameter>(&self, place: usize) -> Result<T, TaskError> {
        match self.values[place] {
            Some(raw) => self.read(place, raw),
            None => Err(self.missing()),
        }
    }

    /// The value of a parameter that has a default.
    ///
    /// # Errors
    /// A `TypeError` when it has the wrong type.
    pub fn or_default<T: Parameter>(
        &self,
        place: usize,
        default: impl FnOnce() -> T,
    ) -> Result<T, TaskError> {
        self.values[place].map_or_else(|| Ok(default()), |raw| self.read(place, raw))
    }

    /// The arguments that are left when all other parameters have theirs; the last parameter takes them.
    ///
    /// # Errors
    /// A `TypeError` when one has the wrong type.
    pub fn rest<T: Parameter>(&self) -> Result<Vec<T>, TaskError> {
        let read = |(place, raw)| {
            let param = &self.params[N - 1];
            self.read_as(param, || format!("*{}[{place}]", param.name), raw)
        };
        self.rest.iter().copied().enumerate().map(read).collect()
    }

    fn read<T: Parameter>(&self, place: usize, raw: &RawValue) -> Result<T, TaskError> {
        let param = &self.params[place];
        self.read_as(param, || param.name.to_owned(), raw)
    }

    fn read_as<T: Parameter>(
        &self,
        param: &Param,
        name: impl FnOnce() -> String,
        raw: &RawValue,
    ) -> Result<T, TaskError> {
        serde_json::from_str(raw.get()).map_err(|error| {
            let (name, type_name, why) = (name(), param.type_name, without_position(&error));
            type_error(format!("{}() argument '{name}' should be {type_name}: {why}", self.task))
        })
    }

    fn missing(&self) -> TaskError {
        let missing: Vec<String> = self
            .params
            .iter()
            .zip(&self.values)
            .filter(|(param, value)| param.default.is_none() && !param.rest && value.is_none())
            .map(|(param, _)| format!("'{}'", param.name))
            .collect();
        let arguments = if missing.len() == 1 { "argument" } else { "arguments" };
        let names = missing.join(" and ");
        type_error(format!("{}() missing {} required {arguments}: {names}", self.task, missing.len()))
    }
}

fn unreadable(task: &str, what: &str, error: &serde_json::Error) -> TaskError {
    type_error(format!("{task}() {what}: {}", without_position(error)))
}

/// Reads a list into the values, what is left into the rest, and returns its length.
struct Positional<'v, 'a> {
    values: &'v mut [Option<&'a RawValue>],
    rest: Option<&'v mut Vec<&'a RawValue>>,
}

impl<'a> DeserializeSeed<'a> for Positional<'_, 'a> {
    type Value = usize;
    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for Positional<'_, 'a> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut list: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while let Some(value) = list.next_element::<&RawValue>()? {
            match self.values.get_mut(count) {
                Some(slot) => *slot = Some(value),
                None => self.rest.iter_mut().for_each(|rest| rest.push(value)),
            }
            count += 1;
        }
        Ok(count)
    }
}

/// Reads an object into the values by name, and returns the first thing wrong with it.
struct Keywords<'v, 'a> {
    task: &'v str,
    params: &'v [Param],
    values: &'v mut [Option<&'a RawValue>],
}

/// A key of an object; borrowed unless it holds an escape.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> DeserializeSeed<'a> for Keywords<'_, 'a> {
    type Value = Option<TaskError>;
    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Keywords<'_, 'a> {
    type Value = Option<TaskError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut wrong = None;
        while let Some(Key(key)) = object.next_key()? {
            let value: &RawValue = object.next_value()?;
            let Some(place) = self.params.iter().position(|param| !param.rest && param.name == key) else {
                wrong.get_or_insert_with(|| unknown_keyword(self.task, self.params, &key));
                continue;
            };
            if self.values[place].replace(value).is_some() {
                wrong.get_or_insert_with(|| {
                    type_error(format!("{}() got multiple values for argument '{key}'", self.task))
                });
            }
        }
        Ok(wrong)
    }
}

fn unknown_keyword(task: &str, params: &[Param], key: &str) -> TaskError {
    let mut message = format!("{task}() got an unexpected keyword argument '{key}'");
    if params.iter().any(|param| param.rest && param.name == key) {
        message.push_str(&format!(". What goes to '*{key}' is given without a keyword"));
        return type_error(message);
    }
    let names = params.iter().filter(|param| !param.rest).map(|param| param.name);
    if let Some(name) = nearest(key, names) {
        message.push_str(&format!(". Did you mean '{name}'?"));
    }
    type_error(message)
}

fn too_many(task: &str, params: &[Param], given: usize) -> TaskError {
    let required = params.iter().filter(|param| param.default.is_none()).count();
    let takes = match (required, params.len()) {
        (_, 0) => "no positional arguments".to_owned(),
        (1, 1) => "1 positional argument".to_owned(),
        (required, all) if required == all => format!("{all} positional arguments"),
        (required, all) => format!("from {required} to {all} positional arguments"),
    };
    let names: Vec<String> = params.iter().map(Param::to_string).collect();
    let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    let were = if given == 1 { "was" } else { "were" };
    type_error(format!("{task}() takes {takes}{names} but {given} {were} given"))
}

fn type_error(message: String) -> TaskError {
    TaskError::new("TypeError", message)
}

/// What the JSON reader says, without the place in a text that the user does not see.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ADD: [Param; 3] = [
        Param { name: "x", type_name: "i64", default: None, rest: false },
        Param { name: "y", type_name: "i64", default: None, rest: false },
        Param { name: "z", type_name: "i64", default: Some("0"), rest: false },
    ];

    fn add(args: &str, kwargs: &str) -> Result<(i64, i64, i64), TaskError> {
        let arguments = Arguments::new(Json::parse(args).unwrap(), Json::parse(kwargs).unwrap());
        let slots = arguments.slots("add", &ADD)?;
        Ok((slots.required(0)?, slots.required(1)?, slots.or_default(2, || 0)?))
    }

    #[track_caller]
    fn check(args: &str, kwargs: &str, expect: (i64, i64, i64)) {
        assert_eq!(add(args, kwargs), Ok(expect));
    }

    #[track_caller]
    fn refused(args: &str, kwargs: &str, expect: &str) {
        assert_eq!(add(args, kwargs).unwrap_err().to_string(), format!("TypeError: {expect}"));
    }

    #[test]
    fn arguments_go_to_parameters_by_place_and_by_name() {
        check("[2,2]", "{}", (2, 2, 0));
        check("[2,2,5]", "{}", (2, 2, 5));
        check("[1]", r#"{"z":3,"y":2}"#, (1, 2, 3));
        check("[]", r#"{"x":1,"y":2}"#, (1, 2, 0));
        check("[1]", r#"{"\u0079":2}"#, (1, 2, 0));
    }

    #[test]
    fn what_does_not_fit_is_a_type_error_in_words_python_users_know() {
        refused("[1]", "{}", "add() missing 1 required argument: 'y'");
        refused("[]", r#"{"z":1}"#, "add() missing 2 required arguments: 'x' and 'y'");
        refused(
            "[1,2,3,4]",
            "{}",
            "add() takes from 2 to 3 positional arguments (x: i64, y: i64, z: i64 = 0) but 4 were given",
        );
        refused("[1,2]", r#"{"zz":3}"#, "add() got an unexpected keyword argument 'zz'. Did you mean 'z'?");
        refused("[1,2]", r#"{"tenant":3}"#, "add() got an unexpected keyword argument 'tenant'");
        refused("[1,2]", r#"{"x":3}"#, "add() got multiple values for argument 'x'");
        refused("[1]", r#"{"y":3,"y":4}"#, "add() got multiple values for argument 'y'");
        refused(
            r#"[1,"a"]"#,
            "{}",
            r#"add() argument 'y' should be i64: invalid type: string "a", expected i64"#,
        );
        refused(
            "5",
            "{}",
            "add() positional arguments should be a list: invalid type: integer `5`, expected a list",
        );
        refused(
            "[1,2]",
            "[]",
            "add() keyword arguments should be an object: invalid type: sequence, expected an object",
        );
    }

    #[test]
    fn what_is_left_goes_to_the_rest_and_is_named_by_its_place() {
        static TAG: [Param; 3] = [
            Param { name: "x", type_name: "i64", default: None, rest: false },
            Param { name: "y", type_name: "i64", default: Some("7"), rest: false },
            Param { name: "others", type_name: "i64", default: None, rest: true },
        ];
        let tag = |args, kwargs| -> Result<_, TaskError> {
            let arguments = Arguments::new(Json::parse(args).unwrap(), Json::parse(kwargs).unwrap());
            let slots = arguments.slots("tag", &TAG)?;
            Ok((slots.required(0)?, slots.or_default(1, || 7)?, slots.rest()?))
        };
        let check = |args, kwargs, expect: (i64, i64, Vec<i64>)| assert_eq!(tag(args, kwargs), Ok(expect));
        check("[1]", "{}", (1, 7, vec![]));
        check("[1,2]", "{}", (1, 2, vec![]));
        check("[1,2,3,4]", "{}", (1, 2, vec![3, 4]));
        check("[]", r#"{"y":2,"x":1}"#, (1, 2, vec![]));
        let refused = |args, kwargs, expect: &str| {
            assert_eq!(tag(args, kwargs).unwrap_err().to_string(), format!("TypeError: {expect}"));
        };
        refused("[]", "{}", "tag() missing 1 required argument: 'x'");
        refused(
            r#"[1,2,3,4,"5"]"#,
            "{}",
            r#"tag() argument '*others[2]' should be i64: invalid type: string "5", expected i64"#,
        );
        refused("[1,2,3]", r#"{"y":1}"#, "tag() got multiple values for argument 'y'");
        refused(
            "[1]",
            r#"{"others":[1]}"#,
            "tag() got an unexpected keyword argument 'others'. What goes to '*others' is given without a keyword",
        );
        refused("[1]", r#"{"other":1}"#, "tag() got an unexpected keyword argument 'other'");
    }

    #[test]
    fn a_task_without_parameters_takes_no_arguments() {
        static NONE: [Param; 0] = [];
        let call = |args| Arguments::new(Json::parse(args).unwrap(), Json::parse("{}").unwrap());
        assert!(call("[]").slots("ping", &NONE).is_ok());
        let arguments = call("[1]");
        let error = arguments.slots("ping", &NONE).unwrap_err();
        assert_eq!(error.message, "ping() takes no positional arguments but 1 was given");
    }
}
