//! Methods and options of canvases. Every method gives the canvas itself back.

use celeriac_primitives::{Canvas, Chain, Chord, Chunks, Group, Json, Kwargs, Map, MapKind};

use super::canvas::is_null;
use super::error::{Fault, Result, cut};
use super::evaluate::Evaluator;
use super::parameters::Parameters;
use super::syntax::{Argument, ArgumentKind, Call, Expr};
use super::value::Value;
use super::vocabulary;

impl<'t> Evaluator<'t, '_> {
    pub(super) fn method(&mut self, mut canvas: Canvas, call: &Call<'t>) -> Result<Canvas> {
        match call.name {
            "" => self.called(&mut canvas, call)?,
            "set" => self.options(&mut canvas, &Parameters::read(".set", &[], call)?)?,
            "link" => {
                let callback = self.callback(call, "callback")?;
                if matches!(&canvas, Canvas::Group(group) if group.members.is_empty()) {
                    let help = "write a chord, or link the callback elsewhere";
                    return Err(Fault::new(
                        call.at,
                        "an empty group has no member that could call back",
                        help,
                    ));
                }
                self.spend(call.at, callbacks_of(&canvas))?;
                canvas.link(callback);
            }
            "link_error" | "on_error" => {
                let errback = self.callback(call, "errback")?;
                self.spend(call.at, canvas.options().link_error().len())?;
                canvas.link_error(errback);
            }
            "finally" => {
                let last = self.callback(call, "canvas")?;
                self.spend(call.at, canvas.options().finally().len())?;
                canvas.finally(last);
            }
            "clone" | "partial" => {
                let parameters = Parameters::read(&format!(".{}", call.name), &["args", "kwargs"], call)?;
                let (args, kwargs) = self.bound(&parameters)?;
                self.spend(call.at, leaves(&canvas).saturating_mul(1 + args.len() + 4 * kwargs.len()))?;
                canvas.bind(&args, &kwargs);
                self.options(&mut canvas, &parameters)?;
            }
            "group" => return self.group_of_chunks(canvas, call),
            name => return Err(vocabulary::unknown_canvas_method(call.at, name, call.written)),
        }
        Ok(canvas)
    }

    /// `chord(header)(body)`; any other canvas would be run by the call.
    fn called(&mut self, canvas: &mut Canvas, call: &Call<'t>) -> Result<()> {
        match (canvas, call.arguments.as_slice()) {
            (
                Canvas::Chord(Chord { body: body @ None, .. }),
                [
                    Argument {
                        kind: ArgumentKind::Positional | ArgumentKind::Keyword("body"), value, ..
                    },
                ],
            ) => {
                *body = Some(Box::new(self.canvas(value)?));
                Ok(())
            }
            (Canvas::Chord(Chord { body: None, .. }), _) => {
                Err(Fault::new(call.at, "a chord is called with its body", "write chord(header)(body)"))
            }
            _ => {
                let message = "text says what to run and does not run it: leave out this call";
                let help = "arguments for the whole canvas are given beside it (--args on the command line), \
                            or with .clone((…))";
                Err(Fault::new(call.at, message, help))
            }
        }
    }

    fn callback(&mut self, call: &Call<'t>, parameter: &'static str) -> Result<Canvas> {
        let parameters = Parameters::read(&format!(".{}", call.name), &[parameter], call)?;
        parameters.nothing_else()?;
        self.canvas(parameters.required(parameter, "a canvas")?)
    }

    /// Chunks as the group of starmaps that they run as.
    fn group_of_chunks(&mut self, canvas: Canvas, call: &Call<'t>) -> Result<Canvas> {
        let Canvas::Chunks(Chunks { task, items, size, options }) = &canvas else {
            let help = "write it after name.chunks(items, n), or write group(…)";
            return Err(Fault::new(call.at, "only chunks have the method .group", help));
        };
        let parameters = Parameters::read(".group", &[], call)?;
        parameters.nothing_else()?;
        self.spend(call.at, items.len().div_ceil(*size).saturating_mul(Self::CANVAS_WORK))?;
        let starmap = |part: &[Json]| {
            let (task, options) = (task.clone(), options.clone());
            Canvas::Map(Map { kind: MapKind::Starmap, task, items: part.to_vec(), options })
        };
        Ok(Canvas::group(items.chunks(*size).map(starmap)))
    }

    // Arguments and options that are given as such.

    /// The parameters `args` and `kwargs`; null is nothing.
    pub(super) fn bound(&mut self, parameters: &Parameters<'_, 't>) -> Result<(Vec<Json>, Kwargs)> {
        let args = match parameters.optional("args").filter(|args| !is_null(args)) {
            Some(args) => self.json_items(args, "args are")?,
            None => Vec::new(),
        };
        let mut kwargs = Kwargs::new();
        if let Some(given) = parameters.optional("kwargs").filter(|kwargs| !is_null(kwargs)) {
            for (name, value) in self.members_of(given, "kwargs are")? {
                let json = self.json(given.at, &value)?;
                self.insert(given.at, &mut kwargs, name, json)?;
            }
        }
        Ok((args, kwargs))
    }

    /// The parameter `options`, and the keywords that are no parameters.
    pub(super) fn options(&mut self, canvas: &mut Canvas, parameters: &Parameters<'_, 't>) -> Result<()> {
        if let Some(given) = parameters.optional("options").filter(|options| !is_null(options)) {
            self.spread_options(canvas, given, "options are")?;
        }
        for Argument { at, kind, value } in &parameters.others {
            match kind {
                ArgumentKind::Keyword("link") => {
                    for callback in self.callbacks(value)? {
                        self.spend(*at, canvas.options().link().len())?;
                        canvas.options_mut().add_link(callback);
                    }
                }
                ArgumentKind::Keyword("link_error") => {
                    for errback in self.callbacks(value)? {
                        self.spend(*at, canvas.options().link_error().len())?;
                        canvas.options_mut().add_link_error(errback);
                    }
                }
                ArgumentKind::Keyword("finally") => {
                    for last in self.callbacks(value)? {
                        self.spend(*at, canvas.options().finally().len())?;
                        canvas.options_mut().add_finally(last);
                    }
                }
                ArgumentKind::Keyword(name) => {
                    let option = self.value(value)?;
                    self.option(canvas, value.at, name, &option)?;
                }
                _ => self.spread_options(canvas, value, "** spreads")?,
            }
            self.spend(*at, 1)?;
        }
        Ok(())
    }

    fn spread_options(&mut self, canvas: &mut Canvas, expr: &Expr<'t>, who: &str) -> Result<()> {
        for (name, value) in self.members_of(expr, who)? {
            self.option(canvas, expr.at, &name, &value)?;
        }
        Ok(())
    }

    fn option(&mut self, canvas: &mut Canvas, at: usize, name: &str, value: &Value) -> Result<()> {
        let json = self.json(at, value)?;
        if name == "immutable" {
            return self.immutable(canvas, at, value);
        }
        self.spend_text(at, name.len() + json.as_str().len() + 128)?;
        canvas.options_mut().set(name, json).map_err(|error| {
            let message = format!("the option {} cannot be {}", cut(&error.name, 40), error.value);
            Fault::new(at, message, format!("it takes {}", error.expected))
        })
    }

    /// One callback or a list of them; null is none.
    fn callbacks(&mut self, expr: &Expr<'t>) -> Result<Vec<Canvas>> {
        if is_null(expr) {
            return Ok(Vec::new());
        }
        match self.canvases(expr)? {
            Some(callbacks) => Ok(callbacks),
            None => Ok(vec![self.canvas(expr)?]),
        }
    }

    fn immutable(&mut self, canvas: &mut Canvas, at: usize, value: &Value) -> Result<()> {
        self.spend(at, leaves(canvas))?;
        match value.as_boolean() {
            Some(true) => {
                let whole = std::mem::replace(canvas, Canvas::Chain(Chain::default()));
                *canvas = whole.into_immutable();
                Ok(())
            }
            Some(false) if matches!(canvas, Canvas::Map(_) | Canvas::Chunks(_)) => {
                let message = "maps and chunks always ignore what comes before them";
                Err(Fault::new(at, message, "leave immutable out"))
            }
            Some(false) => {
                thaw(canvas);
                Ok(())
            }
            None if value.what() == "null" => Ok(()),
            None => {
                let message = format!("immutable cannot be {}", value.what());
                Err(Fault::new(at, message, "it takes true or false"))
            }
        }
    }
}

/// The opposite of [`Canvas::into_immutable`].
fn thaw(canvas: &mut Canvas) {
    match canvas {
        Canvas::Signature(signature) => signature.immutable = false,
        Canvas::Chain(chain) => chain.immutable = false,
        Canvas::Group(Group { members, .. }) | Canvas::Chord(Chord { header: members, .. }) => {
            members.iter_mut().for_each(thaw);
        }
        Canvas::Map(_) | Canvas::Chunks(_) => {}
    }
}

/// How many callbacks a new one is compared with, where [`Canvas::link`] puts it.
fn callbacks_of(canvas: &Canvas) -> usize {
    match canvas {
        Canvas::Group(group) => group.members.first().map_or(0, callbacks_of),
        Canvas::Chord(Chord { body: Some(body), .. }) => callbacks_of(body),
        other => other.options().link().len(),
    }
}

/// How many parts a method that changes every leaf may have to touch.
fn leaves(canvas: &Canvas) -> usize {
    match canvas {
        Canvas::Chain(Chain { steps: parts, .. })
        | Canvas::Group(Group { members: parts, .. })
        | Canvas::Chord(Chord { header: parts, .. }) => 1 + parts.iter().map(leaves).sum::<usize>(),
        Canvas::Signature(signature) => 1 + signature.args.len(),
        Canvas::Map(_) | Canvas::Chunks(_) => 1,
    }
}
