//! Values while they are computed.

use std::cmp::Ordering;
use std::rc::Rc;

use celeriac_primitives::Json;

use super::syntax::Operator;

/// A value of the text: JSON with lists and dictionaries still in parts. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A number, a text, true, false or null.
    Scalar(Json),
    List(Rc<Vec<Value>>),
    /// The keys are JSON texts.
    Dict(Rc<Vec<(Json, Value)>>),
}

/// What is wrong with an operation, and what to write instead.
pub(super) type Refused = (String, &'static str);

impl Value {
    pub(super) fn integer(number: i128) -> Self {
        Self::Scalar(Json::from_compact(number.to_string()))
    }

    pub(super) fn boolean(value: bool) -> Self {
        Self::Scalar(Json::from_compact(if value { "true" } else { "false" }))
    }

    pub(super) fn list(items: Vec<Value>) -> Self {
        Self::List(Rc::new(items))
    }

    /// What it is, for messages.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Scalar(json) => match json.as_str().as_bytes().first() {
                Some(b'"') => "a text",
                Some(b't' | b'f') => "true or false",
                Some(b'n') => "null",
                _ => "a number",
            },
        }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Scalar(json) if json.as_str().starts_with('"'))
    }

    pub(super) fn is_number(&self) -> bool {
        self.what() == "a number"
    }

    /// A whole number that fits; JSON's `1.0` and `1e3` are not whole.
    pub(super) fn as_integer(&self) -> Option<i128> {
        match self {
            Self::Scalar(json) => json.as_str().parse().ok(),
            _ => None,
        }
    }

    pub(super) fn as_boolean(&self) -> Option<bool> {
        match self {
            Self::Scalar(json) => json.to().ok(),
            _ => None,
        }
    }

    /// The text; `None` for other values, and for a text with half a surrogate pair.
    pub(super) fn as_text(&self) -> Option<String> {
        match self {
            Self::Scalar(json) if self.is_text() => json.to().ok(),
            _ => None,
        }
    }

    /// Python's truth: zero and everything empty are false.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::List(items) => !items.is_empty(),
            Self::Dict(members) => !members.is_empty(),
            Self::Scalar(json) => match json.as_str() {
                "false" | "null" | "\"\"" => false,
                text => !self.is_number() || text.bytes().any(|b| (b'1'..=b'9').contains(&b)),
            },
        }
    }

    /// A number with the other sign.
    pub(super) fn negated(self) -> Option<Self> {
        let Self::Scalar(json) = &self else { return None };
        if !self.is_number() {
            return None;
        }
        Some(Self::Scalar(match json.as_str().strip_prefix('-') {
            Some(positive) => Json::from_compact(positive),
            None => Json::from_compact(format!("-{json}")),
        }))
    }
}

/// `left operator right` for the arithmetic operators. Whole numbers are computed exactly or refused; `+` also joins
/// texts.
pub(super) fn arithmetic(operator: Operator, left: &Value, right: &Value) -> Result<Value, Refused> {
    if operator == Operator::Add
        && let (Some(left), Some(right)) = (left.as_text(), right.as_text())
    {
        return Ok(Value::Scalar(Json::string(&(left + &right))));
    }
    for side in [left, right] {
        if !side.is_number() {
            let help = "arithmetic is for whole numbers; + also joins two texts";
            return Err((format!("{} cannot be computed with", side.what()), help));
        }
    }
    let too_large = || ("the number is too large to compute with".to_owned(), "write the result itself");
    let whole = |side: &Value| {
        side.as_integer().ok_or_else(|| match side {
            Value::Scalar(json) if json.as_str().contains(['.', 'e', 'E']) => {
                ("fractions cannot be computed with".to_owned(), "write the result itself")
            }
            _ => too_large(),
        })
    };
    let (left, right) = (whole(left)?, whole(right)?);
    let by_zero = || ("division by zero".to_owned(), "write a divisor other than 0");
    let result = match operator {
        Operator::Add => left.checked_add(right),
        Operator::Subtract => left.checked_sub(right),
        Operator::Multiply => left.checked_mul(right),
        Operator::Divide | Operator::Remainder if right == 0 => return Err(by_zero()),
        Operator::Divide => floor_divide(left, right),
        Operator::Remainder => {
            floor_divide(left, right).map(|quotient| left.wrapping_sub(quotient.wrapping_mul(right)))
        }
        _ if right < 0 => {
            return Err(("a negative power is a fraction".to_owned(), "write the result itself"));
        }
        _ => power(left, right),
    };
    result.map(Value::integer).ok_or_else(too_large)
}

/// Division as in Python, rounded down.
fn floor_divide(left: i128, right: i128) -> Option<i128> {
    let quotient = left.checked_div(right)?;
    let inexact = left % right != 0 && (left < 0) != (right < 0);
    Some(quotient - i128::from(inexact))
}

fn power(base: i128, exponent: i128) -> Option<i128> {
    match base {
        0 | 1 => Some(if exponent == 0 { 1 } else { base }),
        -1 => Some(if exponent % 2 == 0 { 1 } else { -1 }),
        _ => base.checked_pow(u32::try_from(exponent).ok()?),
    }
}

/// The order of two scalars; `None` when they have none.
pub(super) fn order(left: &Value, right: &Value) -> Option<Ordering> {
    let (Value::Scalar(a), Value::Scalar(b)) = (left, right) else { return None };
    if left.is_number() && right.is_number() {
        if a == b {
            return Some(Ordering::Equal);
        }
        return match (left.as_integer(), right.as_integer()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => a.to::<f64>().ok()?.partial_cmp(&b.to::<f64>().ok()?),
        };
    }
    (left.is_text() && right.is_text()).then(|| match (left.as_text(), right.as_text()) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => a.cmp(b),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(left: i128, operator: Operator, right: i128, expect: Option<i128>) {
        let result = arithmetic(operator, &Value::integer(left), &Value::integer(right)).ok();
        assert_eq!(result.and_then(|value| value.as_integer()), expect);
    }

    #[test]
    fn division_rounds_down_as_in_python() {
        for (left, right, quotient, remainder) in
            [(7, 2, 3, 1), (-7, 2, -4, 1), (7, -2, -4, -1), (-7, -2, 3, -1)]
        {
            check(left, Operator::Divide, right, Some(quotient));
            check(left, Operator::Remainder, right, Some(remainder));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        check(i128::MAX, Operator::Add, 1, None);
        check(i128::MIN, Operator::Divide, -1, None);
        check(i128::MIN, Operator::Remainder, -1, None);
        check(1, Operator::Remainder, 0, None);
        check(2, Operator::Power, 127, None);
        check(2, Operator::Power, 126, Some(1 << 126));
        check(-1, Operator::Power, i128::MAX, Some(-1));
        check(0, Operator::Power, 0, Some(1));
        check(2, Operator::Power, -1, None);
    }

    #[test]
    fn numbers_are_ordered_by_value() {
        let scalar = |text: &str| Value::Scalar(Json::parse(text).unwrap());
        for (left, right, expect) in [
            ("1", "1.0", Some(Ordering::Equal)),
            ("-0", "0", Some(Ordering::Equal)),
            ("10", "9", Some(Ordering::Greater)),
            ("\"a\"", "\"b\"", Some(Ordering::Less)),
            ("\"\\u0061\"", "\"a\"", Some(Ordering::Equal)),
            ("1", "\"1\"", None),
        ] {
            assert_eq!(order(&scalar(left), &scalar(right)), expect, "{left} {right}");
        }
    }
}
