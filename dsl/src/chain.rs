//! Chains.

use std::marker::PhantomData;

use celeriac_primitives::Canvas;

use crate::flow::{Flow, FlowError, Ignored};
use crate::wiring::Accepts;

/// Steps one after the other, each given the result of the one before: `chain((a, b, c))` is `a | b | c`.
///
/// A tuple of up to eight flows, or a `Vec` or array of flows that take what they give. A chain of no steps hands on
/// what it gets.
pub fn chain<S: Steps<In, Out>, In, Out>(steps: S) -> Flow<In, Out> {
    Flow::of(steps.into_canvases().map(Canvas::chain))
}

/// Steps written one by one, as `canvas!(chain(a, b, c))` has them: any number, each checked where it stands.
#[derive(Debug)]
pub struct Writing<In, Out> {
    steps: Result<Vec<Canvas>, FlowError>,
    types: PhantomData<fn(In) -> Out>,
}

/// The first step.
pub fn first<In, Out, Form>(step: Flow<In, Out, Form>) -> Writing<In, Out> {
    Writing { steps: step.untyped().map(|step| vec![step]), types: PhantomData }
}

impl<In, Mid> Writing<In, Mid> {
    /// One more step.
    pub fn then<Next: Accepts<Mid>, Out, Form>(self, step: Flow<Next, Out, Form>) -> Writing<In, Out> {
        let steps = self.steps.and_then(|mut steps| {
            steps.push(step.untyped()?);
            Ok(steps)
        });
        Writing { steps, types: PhantomData }
    }

    /// The chain of these steps.
    pub fn chain(self) -> Flow<In, Mid> {
        Flow::of(self.steps.map(Canvas::chain))
    }
}

/// What can be the steps of a chain.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the steps of a chain",
    label = "should be flows",
    note = "write a tuple of one to eight flows, `chain((add.s((2, 2)), mul.s(8)))`, or a `Vec` or array of flows of \
            one type; longer ones with `|`"
)]
pub trait Steps<In, Out> {
    /// The steps without their types.
    fn into_canvases(self) -> Result<Vec<Canvas>, FlowError>;
}

impl<In: Repeats<Out>, Out, Form> Steps<In, Out> for Vec<Flow<In, Out, Form>> {
    fn into_canvases(self) -> Result<Vec<Canvas>, FlowError> {
        if self.is_empty() && !In::HANDS_ON {
            return Err(FlowError::EmptyChain);
        }
        self.into_iter().map(Flow::untyped).collect()
    }
}

impl<In: Repeats<Out>, Out, Form, const N: usize> Steps<In, Out> for [Flow<In, Out, Form>; N] {
    fn into_canvases(self) -> Result<Vec<Canvas>, FlowError> {
        Vec::from(self).into_canvases()
    }
}

impl<In, Out, Form> Steps<In, Out> for Flow<In, Out, Form> {
    fn into_canvases(self) -> Result<Vec<Canvas>, FlowError> {
        Ok(vec![self.untyped()?])
    }
}

/// Inputs of a flow that can follow itself.
#[diagnostic::on_unimplemented(
    message = "a step of this chain gives `{Out}`, which the next one cannot take: it misses `{Self}`",
    label = "steps do not fit each other",
    note = "in a `Vec` or array every step takes what the step before it gives; write different steps as a tuple"
)]
pub trait Repeats<Out> {
    /// Whether no step at all gives a result: the input itself.
    const HANDS_ON: bool;
}

#[diagnostic::do_not_recommend]
impl<T> Repeats<T> for Ignored {
    const HANDS_ON: bool = false;
}

#[diagnostic::do_not_recommend]
impl<T> Repeats<T> for (T,) {
    const HANDS_ON: bool = true;
}

macro_rules! steps {
    ($(($first:ident $last:ident) ($($in:ident $out:ident $form:ident $flow:ident)*) ($($from:ident $to:ident)*))*) => {$(
        impl<$($in, $out, $form),*> Steps<$first, $last> for ($(Flow<$in, $out, $form>,)*)
        where
            $($to: Accepts<$from>),*
        {
            fn into_canvases(self) -> Result<Vec<Canvas>, FlowError> {
                let ($($flow,)*) = self;
                Ok(vec![$($flow.untyped()?),*])
            }
        }
    )*};
}
steps! {
    (I1 O1) (I1 O1 F1 f1) ()
    (I1 O2) (I1 O1 F1 f1 I2 O2 F2 f2) (O1 I2)
    (I1 O3) (I1 O1 F1 f1 I2 O2 F2 f2 I3 O3 F3 f3) (O1 I2 O2 I3)
    (I1 O4) (I1 O1 F1 f1 I2 O2 F2 f2 I3 O3 F3 f3 I4 O4 F4 f4) (O1 I2 O2 I3 O3 I4)
    (I1 O5) (I1 O1 F1 f1 I2 O2 F2 f2 I3 O3 F3 f3 I4 O4 F4 f4 I5 O5 F5 f5) (O1 I2 O2 I3 O3 I4 O4 I5)
    (I1 O6) (I1 O1 F1 f1 I2 O2 F2 f2 I3 O3 F3 f3 I4 O4 F4 f4 I5 O5 F5 f5 I6 O6 F6 f6) (O1 I2 O2 I3 O3 I4 O4 I5 O5 I6)
    (I1 O7) (I1 O1 F1 f1 I2 O2 F2 f2 I3 O3 F3 f3 I4 O4 F4 f4 I5 O5 F5 f5 I6 O6 F6 f6 I7 O7 F7 f7)
        (O1 I2 O2 I3 O3 I4 O4 I5 O5 I6 O6 I7)
    (I1 O8) (I1 O1 F1 f1 I2 O2 F2 f2 I3 O3 F3 f3 I4 O4 F4 f4 I5 O5 F5 f5 I6 O6 F6 f6 I7 O7 F7 f7 I8 O8 F8 f8)
        (O1 I2 O2 I3 O3 I4 O4 I5 O5 I6 O6 I7 O7 I8)
}
