//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{exit, timeout};

const EXAMPLES: &str = "\
Examples:
  run 'add.s(4, 4) | mul.s(8)'                     run a canvas, print its result
  run 'group(add.s(i) for i in range(10))' --args 10
  run -f canvas.json --timeout 2m                  Celery's JSON, or operator text
  plan 'chord([add.s(1, 1), add.s(2, 2)], xsum.s())'
  tasks                                            what can be called

Exit codes:
";

/// Runs canvases of this app's tasks.
#[derive(Debug, Parser)]
#[command(name = "celeriac", version, after_help = [EXAMPLES, exit::table!()].concat())]
#[command(disable_help_subcommand = true, subcommand_required = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a canvas and print its result, as one line of JSON.
    Run(RunArgs),
    /// Compile a canvas and draw it; nothing is run.
    Plan(PlanArgs),
    /// List the app's tasks.
    Tasks,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  run 'add.s(2, 2)'                                4
  run 'chord((add.s(i, i) for i in range(10)), xsum.s())'
  run 'add.s(4) | mul.s(8)' --args 4               64
  run 'add.s(1)' --args 2 --kwargs '{\"z\": 3}'
  echo 'add.s(2, 2)' | run -
  run -f canvas.json --timeout 90s

It returns when nothing is left to do, callbacks included. A failed run names the node, its task and the error.")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) canvas: CanvasArgs,
    /// Give up after this time: 30 (seconds), 1.5, 500ms, 2m, 1h.
    #[arg(long, value_name = "TIME", value_parser = timeout::parse)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plan 'add.s(4, 4) | mul.s(8)'
  plan -f canvas.json -o dot | dot -Tsvg > canvas.svg
  plan 'group(add.s(i, i) for i in range(1000))' --all")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) canvas: CanvasArgs,
    /// How to draw it.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Form::Tree)]
    pub(crate) output: Form,
    /// Draw every node of a tree, also of long runs that look alike.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For the terminal.
    Tree,
    /// For Graphviz.
    Dot,
    /// For Markdown.
    Mermaid,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct CanvasArgs {
    /// The canvas: operator text, such as 'add.s(4, 4) | mul.s(8)', or Celery's JSON; - reads stdin.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub(crate) text: Option<String>,
    /// Read the canvas from a file.
    #[arg(short, long, value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
    /// Arguments for the first tasks, put before their own: '10, z=5'.
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub(crate) args: Option<String>,
    /// Keyword arguments for the first tasks: '{"z": 5}'.
    #[arg(long, value_name = "DICT")]
    pub(crate) kwargs: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
