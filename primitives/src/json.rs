//! One JSON value, kept as its text.
//!
//! Arguments and results are a user's; coordinator and store carry them as bytes and never look
//! inside. Keeping the text (not a tree of numbers and maps) also keeps integers of any size
//! exactly as they were written.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON value as compact text: no white space outside strings, cheap to clone.
///
/// Two values are equal when their texts are; `{"a":1,"b":2}` and `{"b":2,"a":1}` differ.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Json(Arc<str>);

/// A text that is not JSON, or a Rust value that JSON cannot express.
#[derive(Debug, thiserror::Error)]
#[error("not a JSON value: {0}")]
pub struct JsonError(#[from] serde_json::Error);

impl Json {
    /// The JSON form of a Rust value.
    ///
    /// # Errors
    /// When the value's own `Serialize` fails, or a map has keys that are not strings.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        Ok(Self(serde_json::to_string(value)?.into()))
    }

    /// Checks and compacts a JSON text.
    ///
    /// # Errors
    /// When the text is not one JSON value; Python's `NaN` and `Infinity` are not JSON.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        let raw: &RawValue = serde_json::from_str(text)?;
        Ok(Self::from_raw(raw))
    }

    pub(crate) fn from_raw(raw: &RawValue) -> Self {
        Self(compact(raw.get()))
    }

    /// `null`.
    pub fn null() -> Self {
        Self("null".into())
    }

    /// A JSON string.
    pub fn string(text: &str) -> Self {
        Self::new(text).expect("a str always has a JSON form")
    }

    /// A list of values.
    pub fn list<I>(items: I) -> Self
    where
        I: IntoIterator,
        I::Item: Borrow<Json>,
    {
        let mut text = String::from("[");
        for item in items {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(item.borrow().as_str());
        }
        text.push(']');
        Self(text.into())
    }

    /// An object with these members, in this order.
    pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, &'a Json)>) -> Self {
        let mut text = String::from("{");
        for (key, value) in members {
            if text.len() > 1 {
                text.push(',');
            }
            write_string(&mut text, key);
            text.push(':');
            text.push_str(value.as_str());
        }
        text.push('}');
        Self(text.into())
    }

    /// Takes a text that is known to be compact JSON because it was put together from such texts.
    ///
    /// Nothing is checked: hand in a user's text through [`Json::parse`].
    pub fn from_compact(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The value as a Rust type.
    ///
    /// # Errors
    /// When the value does not fit the type.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        Ok(serde_json::from_str(&self.0)?)
    }

    /// The compact text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text, without a copy.
    pub fn into_text(self) -> Arc<str> {
        self.0
    }
}

impl fmt::Debug for Json {
    /// How long it is. What it says is somebody's data, and what is printed to look for a fault
    /// goes to logs and errors; `Display` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes of JSON>", self.0.len())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    /// In JSON the value itself; in a binary format its text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
            raw.serialize(serializer)
        } else {
            serializer.serialize_str(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Box::<RawValue>::deserialize(deserializer).map(|raw| Self::from_raw(&raw))
        } else {
            // Who wrote a message or completion checked the value; who carries it does not look
            // inside.
            String::deserialize(deserializer).map(|text| Self(text.into()))
        }
    }
}

/// Appends `text` to `out` as a JSON string.
pub(crate) fn write_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).expect("a str always has a JSON form"));
}

/// Drops the white space between tokens of a valid JSON text.
fn compact(text: &str) -> Arc<str> {
    if !text.bytes().any(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in text.chars() {
        if in_string {
            out.push(character);
            match (escaped, character) {
                (false, '\\') => escaped = true,
                (false, '"') => in_string = false,
                _ => escaped = false,
            }
        } else if !matches!(character, ' ' | '\n' | '\r' | '\t') {
            in_string = character == '"';
            out.push(character);
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_only_outside_strings() {
        let json = Json::parse("{ \"a b\" : [1 ,\n \"x \\\" y\" ] }").unwrap();
        assert_eq!(json.as_str(), r#"{"a b":[1,"x \" y"]}"#);
    }

    #[test]
    fn integers_of_any_size_stay_what_they_are() {
        let text = "[1180591620717411303424,-0.10,1e400]";
        assert_eq!(Json::parse(text).unwrap().as_str(), text);
    }

    #[test]
    fn python_nan_is_refused() {
        assert!(Json::parse("NaN").is_err());
        assert!(Json::parse("1 2").is_err());
    }

    #[test]
    fn lists_and_objects_are_put_together_as_text() {
        let one = Json::new(&1).unwrap();
        assert_eq!(Json::list([&one, &Json::null()]).as_str(), "[1,null]");
        assert_eq!(Json::list(Vec::<Json>::new()).as_str(), "[]");
        assert_eq!(Json::object([("a\"", &one)]).as_str(), r#"{"a\"":1}"#);
    }
}
