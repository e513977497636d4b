#![deny(warnings, missing_docs, missing_debug_implementations, unreachable_pub)]
//! What a task is called, and what it calls things, gets in nobody's way; nor does a strict crate get warnings.
extern crate celeriac_dsl as celeriac;

/// Tasks with names that are common elsewhere.
pub mod jobs {
    use celeriac::{State, TaskContext, task};

    /// Has the names of what the expansion uses.
    #[task]
    pub async fn arguments(run: i64, values: i64, context: TaskContext, slots: State<i64>) -> i64 {
        run + values + *slots + i64::from(context.attempt())
    }

    /// Ends with an expression of another module.
    #[task(name = "x")]
    pub fn result(r#type: u8, #[default] rest_of_a_long_name_1: Vec<u8>, #[default] rest_of_a_long_name_2: u8) -> u8 {
        r#type + rest_of_a_long_name_1.iter().sum::<u8>() + rest_of_a_long_name_2
    }
}

fn main() {
    #[allow(unused_imports)]
    use jobs::{arguments, result};
    let _ = celeriac::canvas!(arguments.s(1, 2) | arguments.s(values = 1));
    let _ = celeriac::canvas!(result.s(1, rest_of_a_long_name_2 = 1, rest_of_a_long_name_1 = vec![2]));
}
