//! The macros of celeriac: `#[task]`, `canvas!` and `tasks!`.
//!
//! Their documentation stands where they are used, in `celeriac-dsl`; what they expand to names that crate alone. Each
//! macro checks everything it can before it gives up, points at the token, and says what to write.

use proc_macro::TokenStream;

mod call;
mod canvas;
mod comprehension;
mod expand;
mod handler;
#[path = "../../src/nearest.rs"]
mod nearest;
mod options;
mod params;
mod rest;
mod task;
mod tasks;
mod text;

/// Makes a task of a function.
///
/// `add` becomes a value that is the task: `add.s(…)`, `add.si(…)`, `add.map(…)`, `add.starmap(…)` and
/// `add.chunks(…)` write canvases, `add.with()` gives keyword arguments by name, and `add.call(…)` runs the function
/// itself.
///
/// - An `async fn` runs on the async threads; a plain `fn` may block and runs off them.
/// - Parameters and results travel as JSON: types that implement serde's `Serialize` and `Deserialize` and own what
///   they hold. At most eight parameters.
/// - The last parameters may have a default: `#[default(0)]`, or `#[default]` for `Default::default()`.
/// - A last parameter `#[rest] numbers: Vec<i64>` takes all positional arguments that are left, Python's `*numbers`.
/// - `ctx: TaskContext` and `db: State<T>` are handed in by the worker, wherever they stand.
/// - The task is as visible as the function: a private one may take and give private types, a `pub` one may not.
/// - The name stands for the task in its whole module, so no variable there can have it.
/// - The function returns a value, or a `Result` whose error is any `std::error::Error`, a `TaskError` or a string.
///
/// # Options
/// - `name = "proj.tasks.add"`: the full name. Without it, the path of the module and the function's name.
/// - `crate = path`: where celeriac is, when it is not the dependency `celeriac`.
#[proc_macro_attribute]
pub fn task(options: TokenStream, item: TokenStream) -> TokenStream {
    task::expand(options.into(), item.into()).into()
}

/// See `celeriac_dsl::canvas`, which hands its crate in.
#[doc(hidden)]
#[proc_macro]
pub fn canvas(tokens: TokenStream) -> TokenStream {
    canvas::expand(tokens.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// See `celeriac_dsl::tasks`, which hands its crate in.
#[doc(hidden)]
#[proc_macro]
pub fn tasks(tokens: TokenStream) -> TokenStream {
    tasks::expand(tokens.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
