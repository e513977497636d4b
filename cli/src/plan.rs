//! `plan`: draws a canvas and runs nothing.

use celeriac_engine::render;
use celeriac_runtime::App;

use crate::args::{Form, PlanArgs};
use crate::exit::{Exit, Stop};
use crate::io::Io;

pub(crate) fn plan(app: &App, args: &PlanArgs, io: &mut Io<'_>) -> Result<Exit, Stop> {
    let plan = args.canvas.compile(app, io.stdin)?;
    let fold_above = if args.all { usize::MAX } else { render::FOLD_ABOVE };
    let picture = match args.output {
        Form::Tree => render::tree(&plan, None, fold_above),
        Form::Dot => render::dot(&plan, None),
        Form::Mermaid => render::mermaid(&plan, None),
        Form::Json => render::json(&plan, None) + "\n",
    };
    io.print(&picture)
}
