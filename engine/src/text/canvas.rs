//! Expressions to canvases.

use celeriac_primitives::{Canvas, Chord, Chunks, Map, MapKind, Options, Signature, TaskName};

use super::error::{Fault, Result, cut};
use super::evaluate::Evaluator;
use super::parameters::Parameters;
use super::syntax::{Argument, ArgumentKind, Call, Expr, Kind, Operator, TaskCall};
use super::vocabulary;

impl<'t> Evaluator<'t, '_> {
    /// What every canvas costs beside its leaves.
    pub(super) const CANVAS_WORK: usize = 8;

    pub(super) fn canvas(&mut self, expr: &Expr<'t>) -> Result<Canvas> {
        self.spend(expr.at, Self::CANVAS_WORK)?;
        match &expr.kind {
            Kind::Pipe(parts) => {
                let mut whole = self.canvas(&parts[0])?;
                for part in &parts[1..] {
                    whole = whole.then(self.canvas(part)?);
                }
                Ok(whole)
            }
            Kind::Task(task) => self.task(task),
            Kind::Function(call) if vocabulary::is_canvas_function(call.name) => self.canvas_function(call),
            Kind::Methods(methods) if !self.is_value(&methods.0) => {
                let (base, calls) = &**methods;
                let mut canvas = self.canvas(base)?;
                for call in calls {
                    canvas = self.method(canvas, call)?;
                }
                Ok(canvas)
            }
            _ => Err(self.no_canvas(expr)),
        }
    }

    /// Says what stands where a canvas is needed.
    fn no_canvas(&mut self, expr: &Expr<'t>) -> Fault {
        let not_called = |path: &str| {
            let path = cut(path, 80);
            let (message, help) = match path.rsplit_once('.') {
                Some((_, method)) if vocabulary::is_task_method(method) => {
                    (format!("{path} is not called"), format!("write {path}(…)"))
                }
                _ => (format!("{path} is a task, not yet a signature"), format!("write {path}.s(…)")),
            };
            Fault::new(expr.at, message, help)
        };
        match &expr.kind {
            Kind::Operators(operators)
                if operators.rest.last().is_some_and(|(_, operator, right)| {
                    *operator == Operator::Subtract && matches!(right.kind, Kind::Task(_))
                }) =>
            {
                let help = "write signature(\"name-with-minus\", args=[…])";
                Fault::new(expr.at, "the name of a task that holds a - is written in quotes", help)
            }
            Kind::Path(path) => not_called(path),
            Kind::Word(word) if !self.is_variable(word) => not_called(word),
            Kind::List(_) | Kind::Generator(_) => {
                let help = "write group([…]) to run them side by side, a | b for one after the other";
                Fault::new(expr.at, "a list stands where one canvas is needed", help)
            }
            _ => match self.value(expr) {
                Err(fault) => fault,
                Ok(value) => {
                    let message = format!("{} stands where a canvas is needed", value.what());
                    Fault::new(expr.at, message, "write a signature, such as add.s(2, 2)")
                }
            },
        }
    }

    // Tasks.

    fn task(&mut self, task_call: &TaskCall<'t>) -> Result<Canvas> {
        let TaskCall { task, path, call } = task_call;
        match call.name {
            "s" | "si" => {
                self.spend_nodes(call.at, 1)?;
                let (args, kwargs) = self.task_arguments(&call.arguments)?;
                let immutable = call.name == "si";
                let options = Options::new();
                Ok(Canvas::Signature(Signature { task: task.clone(), args, kwargs, options, immutable }))
            }
            "signature" | "subtask" => {
                let who = format!("{path}.{}", call.name);
                let parameters = Parameters::read(&who, &["args", "kwargs", "options"], call)?;
                self.signature(call.at, task.clone(), &parameters)
            }
            "chunks" => {
                let parameters = Parameters::read(&format!("{path}.chunks"), &["it", "n"], call)?;
                self.chunks(call, task.clone(), &parameters)
            }
            name => {
                let kind = if name == "map" { MapKind::Map } else { MapKind::Starmap };
                let parameters = Parameters::read(&format!("{path}.{name}"), &["it"], call)?;
                self.map(call, kind, task.clone(), &parameters)
            }
        }
    }

    /// A signature with `args`, `kwargs` and `options`; all other keywords are options.
    fn signature(&mut self, at: usize, task: TaskName, parameters: &Parameters<'_, 't>) -> Result<Canvas> {
        self.spend_nodes(at, 1)?;
        let mut signature = Signature::of(task);
        (signature.args, signature.kwargs) = self.bound(parameters)?;
        let mut canvas = Canvas::Signature(signature);
        self.options(&mut canvas, parameters)?;
        Ok(canvas)
    }

    fn map(
        &mut self,
        call: &Call<'t>,
        kind: MapKind,
        task: TaskName,
        parameters: &Parameters<'_, 't>,
    ) -> Result<Canvas> {
        self.spend_nodes(call.at, 1)?;
        parameters.nothing_else()?;
        let items = parameters.required("it", "the list of items")?;
        let items = self.json_items(items, &format!("{} takes", parameters.who))?;
        Ok(Canvas::Map(Map { kind, task, items, options: Options::new() }))
    }

    fn chunks(&mut self, call: &Call<'t>, task: TaskName, parameters: &Parameters<'_, 't>) -> Result<Canvas> {
        parameters.nothing_else()?;
        let it = parameters.required("it", "the list of items")?;
        let n = parameters.required("n", "the size of the chunks")?;
        let items = self.json_items(it, &format!("{} takes", parameters.who))?;
        self.spend_nodes(call.at, items.len())?;
        let size = self.value(n)?;
        let size = size.as_integer().and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
        let size = size.ok_or_else(|| {
            Fault::new(n.at, "the size of chunks is a whole number above 0", "write a number such as 10")
        })?;
        Ok(Canvas::Chunks(Chunks { task, items, size, options: Options::new() }))
    }

    // Functions.

    fn canvas_function(&mut self, call: &Call<'t>) -> Result<Canvas> {
        match call.name {
            "group" => Ok(Canvas::group(self.members(call)?)),
            "chain" => Ok(Canvas::chain(self.members(call)?)),
            "chord" => self.chord(call),
            "signature" => {
                let parameters = Parameters::read("signature", &["task", "args", "kwargs", "options"], call)?;
                let task = self.task_name(parameters.required("task", "the name of a task")?)?;
                self.signature(call.at, task, &parameters)
            }
            "chunks" => {
                let parameters = Parameters::read("chunks", &["task", "it", "n"], call)?;
                let task = self.mapped(&parameters)?;
                self.chunks(call, task, &parameters)
            }
            name => {
                let kind = if name == "xmap" { MapKind::Map } else { MapKind::Starmap };
                let parameters = Parameters::read(name, &["task", "it"], call)?;
                let task = self.mapped(&parameters)?;
                self.map(call, kind, task, &parameters)
            }
        }
    }

    /// The arguments of a group or chain: canvases, or one list or generator of them.
    fn members(&mut self, call: &Call<'t>) -> Result<Vec<Canvas>> {
        if let [Argument { kind: ArgumentKind::Positional, value, .. }] = call.arguments.as_slice()
            && let Some(members) = self.canvases(value)?
        {
            return Ok(members);
        }
        let mut members = Vec::with_capacity(call.arguments.len());
        for Argument { at, kind, value } in &call.arguments {
            match kind {
                ArgumentKind::Positional if matches!(value.kind, Kind::List(_) | Kind::Generator(_)) => {
                    let message = format!("a list is the only argument of {}, or it is spread", call.name);
                    let help = "write * before it, and brackets around a generator: *[…]";
                    return Err(Fault::new(*at, message, help));
                }
                ArgumentKind::Positional => members.push(self.canvas(value)?),
                ArgumentKind::Star => match self.canvases(value)? {
                    Some(mut spread) => members.append(&mut spread),
                    None => return Err(Fault::new(*at, "* spreads a list of canvases", "leave * out")),
                },
                ArgumentKind::Keyword(name) => {
                    let name = cut(name, 40);
                    let help = format!("options follow as .set({name}=…)");
                    return Err(Fault::new(*at, format!("{} has no argument {name}", call.name), help));
                }
                ArgumentKind::DoubleStar => {
                    let help = "options follow as .set(**{…})";
                    return Err(Fault::new(*at, format!("{} takes no ** argument", call.name), help));
                }
            }
        }
        Ok(members)
    }

    /// The canvases of a list or generator; `None` for an expression of another form.
    pub(super) fn canvases(&mut self, expr: &Expr<'t>) -> Result<Option<Vec<Canvas>>> {
        match &expr.kind {
            Kind::List(items) => items.iter().map(|item| self.canvas(item)).collect::<Result<_>>().map(Some),
            Kind::Generator(generator) => {
                let mut members = Vec::new();
                self.generate(generator, 0, &mut |evaluator, element| {
                    members.push(evaluator.canvas(element)?);
                    Ok(())
                })?;
                Ok(Some(members))
            }
            Kind::Function(call) if matches!(call.name, "list" | "tuple") => {
                match call.arguments.as_slice() {
                    [Argument { kind: ArgumentKind::Positional, value, .. }] => self.canvases(value),
                    _ => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    fn chord(&mut self, call: &Call<'t>) -> Result<Canvas> {
        let parameters = Parameters::read("chord", &["header", "body"], call)?;
        parameters.nothing_else()?;
        let header = self.header(parameters.required("header", "a header")?)?;
        let body = match parameters.optional("body") {
            Some(body) if !is_null(body) => Some(Box::new(self.canvas(body)?)),
            _ => None,
        };
        Ok(Canvas::Chord(Chord { header, body, options: Options::new() }))
    }

    /// A header: a list, a generator, a group (its members), or one canvas, which is its only member.
    fn header(&mut self, expr: &Expr<'t>) -> Result<Vec<Canvas>> {
        if let Some(members) = self.canvases(expr)? {
            return Ok(members);
        }
        let mut canvas = self.canvas(expr)?;
        match &mut canvas {
            Canvas::Group(group) if group.options.is_empty() => Ok(std::mem::take(&mut group.members)),
            Canvas::Group(_) => {
                let help = "set them on the chord or on the members, or write [group(…)] for one member";
                Err(Fault::new(expr.at, "the options of a group that is a header would be lost", help))
            }
            _ => Ok(vec![canvas]),
        }
    }

    fn task_name(&mut self, expr: &Expr<'t>) -> Result<TaskName> {
        let value = self.value(expr)?;
        let name = value.as_text().ok_or_else(|| {
            let message = format!("the name of a task is a text, not {}", value.what());
            Fault::new(expr.at, message, "write signature(\"proj.tasks.add\")")
        })?;
        self.names.resolve(expr.at, &name)
    }

    /// The task of `xmap`, `xstarmap` and `chunks`: a name, or a signature that holds nothing but the task.
    fn mapped(&mut self, parameters: &Parameters<'_, 't>) -> Result<TaskName> {
        let expr = parameters.required("task", "a task")?;
        match &expr.kind {
            Kind::Word(word) if !self.is_variable(word) => return self.names.resolve(expr.at, word),
            Kind::Path(path) => return self.names.resolve(expr.at, path),
            _ => {}
        }
        match &self.canvas(expr)? {
            Canvas::Signature(signature)
                if signature.args.is_empty()
                    && signature.kwargs.is_empty()
                    && signature.options.is_empty() =>
            {
                self.refund_node();
                Ok(signature.task.clone())
            }
            Canvas::Signature(_) => {
                let message = format!("{} calls its task with the items alone", parameters.who);
                let help = "leave out arguments and options; options follow as .set(…)";
                Err(Fault::new(expr.at, message, help))
            }
            _ => Err(Fault::new(expr.at, format!("{} takes a task", parameters.who), "write add.s()")),
        }
    }
}

pub(super) fn is_null(expr: &Expr<'_>) -> bool {
    matches!(&expr.kind, Kind::Literal(json) if json.as_str() == "null")
}
