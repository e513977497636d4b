//! The tree that the parser hands to the evaluator.
//!
//! Chains of operators and of methods are lists, not trees, so that a long text does not make a deep tree.

use celeriac_primitives::{Json, TaskName};

/// An expression and where it begins.
#[derive(Debug)]
pub(super) struct Expr<'t> {
    pub(super) at: usize,
    pub(super) kind: Kind<'t>,
}

#[derive(Debug)]
pub(super) enum Kind<'t> {
    /// A number, a text, true, false or null.
    Literal(Json),
    /// A loop variable, or a name that stands alone.
    Word(&'t str),
    /// Words with dots between them, not called.
    Path(String),
    /// A list or a tuple.
    List(Vec<Expr<'t>>),
    /// A dictionary.
    Dict(Vec<(Expr<'t>, Expr<'t>)>),
    /// `element for … in … if …`, in whatever brackets.
    Generator(Box<Generator<'t>>),
    /// A minus sign.
    Minus(Box<Expr<'t>>),
    /// A plus sign, which only checks that a number follows.
    Plus(Box<Expr<'t>>),
    /// `not`.
    Not(Box<Expr<'t>>),
    /// Operators of one precedence between values.
    Operators(Box<Operators<'t>>),
    /// Canvases with `|` between them.
    Pipe(Vec<Expr<'t>>),
    /// `group(…)`, `range(…)`.
    Function(Box<Call<'t>>),
    /// `proj.tasks.add.s(…)`.
    Task(Box<TaskCall<'t>>),
    /// `….set(…).link(…)`, and the call in `chord(…)(…)`, which has an empty name.
    Methods(Box<(Expr<'t>, Vec<Call<'t>>)>),
}

/// A called name with its arguments.
#[derive(Debug)]
pub(super) struct Call<'t> {
    /// The function or method; empty when the result of a call is called.
    pub(super) name: &'t str,
    /// Where the name stands.
    pub(super) at: usize,
    pub(super) arguments: Vec<Argument<'t>>,
    /// The arguments as written, without the parentheses.
    pub(super) written: &'t str,
}

/// A method of a task.
#[derive(Debug)]
pub(super) struct TaskCall<'t> {
    pub(super) task: TaskName,
    /// The task as written.
    pub(super) path: String,
    pub(super) call: Call<'t>,
}

#[derive(Debug)]
pub(super) struct Argument<'t> {
    pub(super) at: usize,
    pub(super) kind: ArgumentKind<'t>,
    pub(super) value: Expr<'t>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ArgumentKind<'t> {
    /// `value`
    Positional,
    /// `name=value`
    Keyword(&'t str),
    /// `*value`
    Star,
    /// `**value`
    DoubleStar,
}

#[derive(Debug)]
pub(super) struct Generator<'t> {
    pub(super) element: Expr<'t>,
    pub(super) clauses: Vec<Clause<'t>>,
}

#[derive(Debug)]
pub(super) enum Clause<'t> {
    /// `for a, b in items`; one target without a comma takes the item whole.
    For { at: usize, targets: Vec<&'t str>, unpack: bool, items: Expr<'t> },
    /// `if condition`
    If(Expr<'t>),
}

#[derive(Debug)]
pub(super) struct Operators<'t> {
    pub(super) first: Expr<'t>,
    /// Each operator with its place and right side.
    pub(super) rest: Vec<(usize, Operator, Expr<'t>)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
    Pipe,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
}

impl Operator {
    /// How tightly it binds: Python's order.
    pub(super) fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            // 3 is `not`.
            Self::Equal
            | Self::NotEqual
            | Self::Less
            | Self::LessEqual
            | Self::Greater
            | Self::GreaterEqual
            | Self::In
            | Self::NotIn => 4,
            Self::Pipe => 5,
            Self::Add | Self::Subtract => 6,
            Self::Multiply | Self::Divide | Self::Remainder => 7,
            // 8 is the sign.
            Self::Power => 9,
        }
    }
}
