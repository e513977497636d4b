//! A plan as a listing, one node a line: for tests, logs and a first look.

use std::fmt::{self, Display, Formatter, Write};

use celeriac_primitives::Call;

use super::{After, NodeKind, Plan, ScopeKind, ScopeNo, Value};

impl Display for Plan {
    /// Each node with its call, its scope and its path; then the scopes and the output.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, node) in self.nodes() {
            write!(f, "n{number} = ")?;
            match &node.kind {
                NodeKind::Join => {
                    f.write_str("join ")?;
                    match &node.input {
                        Some(input) => write_value(f, input)?,
                        None => f.write_str("nothing")?,
                    }
                }
                NodeKind::Leaf(leaf) => {
                    let task = self.task(number).expect("a leaf has a task");
                    let method = match leaf.call {
                        Call::Once => "",
                        Call::Map => ".map",
                        Call::Starmap => ".starmap",
                    };
                    write!(f, "{task}{method}(")?;
                    let mut comma = "";
                    if let Some(input) = &node.input {
                        write_value(f, input)?;
                        comma = ", ";
                    }
                    if !leaf.args.is_empty() {
                        write!(f, "{comma}{}", leaf.args)?;
                        comma = ", ";
                    }
                    if &*leaf.kwargs != "{}" {
                        write!(f, "{comma}**{}", leaf.kwargs)?;
                        comma = ", ";
                    }
                    if leaf.is_apart() {
                        write!(f, "{comma}… {} bytes", leaf.bytes())?;
                    }
                    f.write_char(')')?;
                }
            }
            write_after(f, &node.after)?;
            if node.scope != ScopeNo::ROOT {
                write!(f, " in s{}", node.scope.0)?;
            }
            writeln!(f, "  # {}", self.path(number))?;
        }
        for (number, scope) in self.scopes().skip(1) {
            let kind = match scope.kind {
                ScopeKind::Root => "run",
                ScopeKind::Errback => "errback",
                ScopeKind::Finally => "finally",
                ScopeKind::Absorb => "absorb",
                ScopeKind::Detached => "detached",
            };
            writeln!(f, "s{} = {kind} in s{}", number.0, scope.parent.0)?;
        }
        f.write_str("=> ")?;
        write_value(f, self.output())
    }
}

fn write_value(f: &mut Formatter<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Node(node) => write!(f, "n{node}"),
        Value::Const(known) => {
            let (json, after) = &**known;
            write!(f, "{json}")?;
            write_after(f, after)
        }
        Value::Apart(stored) => write!(f, "… {} bytes", stored.bytes),
        Value::Entry(node, scope) => write!(f, "entry of n{node} or s{}", scope.0),
        Value::Kept(node, scope) => write!(f, "n{node} unless s{}", scope.0),
        Value::Failure(scope) => write!(f, "failure of s{}", scope.0),
        Value::List(items) => {
            f.write_char('[')?;
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    f.write_str(", ")?;
                }
                write_value(f, item)?;
            }
            f.write_char(']')
        }
    }
}

fn write_after(f: &mut Formatter<'_>, after: &After) -> fmt::Result {
    if let Some((first, others)) = after.nodes.split_first() {
        write!(f, " after n{first}")?;
        others.iter().try_for_each(|node| write!(f, ", n{node}"))?;
    }
    after.gate.map_or(Ok(()), |gate| write!(f, " after failure of s{}", gate.0))
}
