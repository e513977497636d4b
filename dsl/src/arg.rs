//! Which Rust values may stand for a parameter.

use celeriac_primitives::{Json, JsonError};
use serde::Serialize;
use serde_json::Value;

/// A value that may be given for a parameter of type `P`: its JSON form is the JSON form of a `P`.
///
/// Besides `P` itself: a reference to it, `&str` for a `String`, arrays and slices for a `Vec`, a value for an
/// `Option`, whole numbers for floats, and most of these for a `serde_json::Value`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be given for a parameter of type `{P}`",
    label = "should be `{P}`"
)]
pub trait Arg<P> {
    /// The JSON form.
    ///
    /// # Errors
    /// When the value has none: a map whose keys are not strings, for example.
    fn into_json(self) -> Result<Json, JsonError>;
}

#[diagnostic::do_not_recommend]
impl<P: Serialize> Arg<P> for P {
    fn into_json(self) -> Result<Json, JsonError> {
        Json::new(&self)
    }
}

#[diagnostic::do_not_recommend]
impl<P: Serialize> Arg<P> for &P {
    fn into_json(self) -> Result<Json, JsonError> {
        Json::new(self)
    }
}

#[diagnostic::do_not_recommend]
impl<P: Serialize> Arg<Option<P>> for P {
    fn into_json(self) -> Result<Json, JsonError> {
        Json::new(&self)
    }
}

#[diagnostic::do_not_recommend]
impl<P, A: Arg<P>, const N: usize> Arg<Vec<P>> for [A; N] {
    fn into_json(self) -> Result<Json, JsonError> {
        let items = self.into_iter().map(A::into_json).collect::<Result<Vec<_>, _>>()?;
        Ok(Json::list(items))
    }
}

#[diagnostic::do_not_recommend]
impl<P: Serialize> Arg<Vec<P>> for &[P] {
    fn into_json(self) -> Result<Json, JsonError> {
        Json::new(self)
    }
}

macro_rules! serialised {
    ($($parameter:ty: $($value:ty),*;)*) => {$($(
        #[diagnostic::do_not_recommend]
        impl Arg<$parameter> for $value {
            fn into_json(self) -> Result<Json, JsonError> {
                Json::new(&self)
            }
        }
    )*)*};
}
// A `Value` or a `Json` takes whatever there is.
macro_rules! lists {
    ($($parameter:ty),*) => {$(
        #[diagnostic::do_not_recommend]
        impl<A: Arg<$parameter>, const N: usize> Arg<$parameter> for [A; N] {
            fn into_json(self) -> Result<Json, JsonError> {
                <[A; N] as Arg<Vec<$parameter>>>::into_json(self)
            }
        }

        #[diagnostic::do_not_recommend]
        impl<T: Serialize> Arg<$parameter> for Vec<T> {
            fn into_json(self) -> Result<Json, JsonError> {
                Json::new(&self)
            }
        }
    )*};
}
lists!(Value, Json);

// One integer type per parameter type, and one float type: a literal takes it, because there is no other choice.
serialised! {
    String: &str;
    Option<String>: &str;
    f64: i64;
    f32: i64;
    Option<f64>: i64;
    Value: bool, i64, f64, &str, String;
    Json: bool, i64, f64, &str, String;
}
