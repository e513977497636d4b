//! Groups and chords.

use celeriac_primitives::{Canvas, Entry, OnFailure};

use crate::flow::{Flow, FlowError, Grouped, Ignored, One, Tolerant};
use crate::list::{Append, AsTuple, Cons, Nil, Tuple};
use crate::wiring::Accepts;

/// Members in parallel; the result is the list of their results.
///
/// A `Vec`, an array or any iterator of flows of one type gives a `Vec` of their results. A tuple of up to eight flows
/// gives a tuple of their results, which fits a parameter `Vec<T>`, too, when all are `T`. What comes before goes to
/// every member, so all must miss the same input or ignore it.
///
/// A group directly inside a group is flattened; `chain((group(…),))` keeps it a list of its own.
pub fn group<G, In, Out, M>(members: G) -> Flow<In, Out, Grouped>
where
    G: Members<M>,
    G::Inputs: SameInput<In>,
    G::Outputs: Results<Out>,
{
    Flow::of(members.into_canvases().map(Canvas::group))
}

/// A header of members in parallel, and a body that gets the list of their results.
///
/// The header is whatever [`group`] takes, or a group.
pub fn chord<H, In, List, M, Next, Out, Form>(header: H, body: Flow<Next, Out, Form>) -> Flow<In, Out>
where
    H: Header<M>,
    H::Inputs: SameInput<In>,
    H::Results: Results<List>,
    Next: Accepts<List>,
{
    let header = header.into_canvases();
    Flow::of(header.and_then(|header| Ok(Canvas::chord(header, body.untyped()?))))
}

impl<In, Out: Elements> Flow<In, Out, Grouped> {
    /// Members that fail are left out of the list: the group succeeds with the results of the others, in the order
    /// written, and a chord's body gets those. Their own error callbacks run; those of the group do not.
    ///
    /// ```
    /// # extern crate celeriac_dsl as celeriac;
    /// # use celeriac::{chord, group, task};
    /// # #[task] async fn add(x: i64, y: i64) -> i64 { x + y }
    /// # #[task] async fn xsum(numbers: Vec<i64>) -> i64 { numbers.iter().sum() }
    /// chord(group((0..10).map(|i| add.s((i, i)))).drop_failures(), xsum.s(()));
    /// ```
    pub fn drop_failures(self) -> Flow<In, Vec<Out::Element>, Tolerant> {
        self.on_failure(OnFailure::Drop)
    }

    /// The list has an [`Entry`] for each member, of its result or of its failure: the group succeeds when all have
    /// ended. Their own error callbacks run; those of the group do not.
    ///
    /// ```
    /// # extern crate celeriac_dsl as celeriac;
    /// # use celeriac::{group, task};
    /// # use celeriac_primitives::Entry;
    /// # #[task] async fn add(x: i64, y: i64) -> i64 { x + y }
    /// #[task]
    /// async fn count(results: Vec<Entry<i64>>) -> usize {
    ///     results.iter().filter_map(Entry::ok).count()
    /// }
    /// group((0..10).map(|i| add.s((i, i)))).collect_failures() | count.s(());
    /// ```
    pub fn collect_failures(self) -> Flow<In, Vec<Entry<Out::Element>>, Tolerant> {
        self.on_failure(OnFailure::Collect)
    }

    fn on_failure<List>(self, policy: OnFailure) -> Flow<In, List, Tolerant> {
        let set = |canvas: &mut Canvas| {
            *canvas.options_mut() = canvas.options().clone().with_on_failure(policy);
            Ok(())
        };
        self.change(set).retyped()
    }
}

/// What can be the members of a group.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the members of a group",
    label = "should be flows",
    note = "write a `Vec`, an array or an iterator of flows of one type, or a tuple of two to eight flows: \
            `group((add.s((1, 1)), mul.s((2, 2))))`"
)]
pub trait Members<M> {
    /// What they take, as a list of types.
    type Inputs;
    /// What they give, and whether they are groups.
    type Outputs;
    /// The members without their types.
    fn into_canvases(self) -> Result<Vec<Canvas>, FlowError>;
}

/// What can be the header of a chord.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the header of a chord",
    label = "should be flows",
    note = "write a group, a `Vec`, an array or an iterator of flows of one type, or a tuple of flows: \
            `chord([add.s((1, 1)), add.s((2, 2))], xsum.s(()))`"
)]
pub trait Header<M>: Members<M> {
    /// What they give to the body.
    type Results;
}

/// A collection of flows of one type.
#[derive(Debug)]
pub enum Many {}
/// A tuple of flows.
#[derive(Debug)]
pub enum Each {}
/// One flow: a group, whose members these are, or the only member.
#[derive(Debug)]
pub enum Whole {}

#[diagnostic::do_not_recommend]
impl<I> Members<Many> for I
where
    I: IntoIterator,
    I::Item: IsFlow,
{
    type Inputs = Cons<<I::Item as IsFlow>::Input, Nil>;
    type Outputs = Repeated<<I::Item as IsFlow>::Output, <I::Item as IsFlow>::Form>;
    fn into_canvases(self) -> Result<Vec<Canvas>, FlowError> {
        self.into_iter().map(IsFlow::into_result).collect()
    }
}

/// A flow, and nothing else.
pub trait IsFlow {
    /// What it takes.
    type Input;
    /// What it gives.
    type Output;
    /// Whether it is a group.
    type Form;
    /// The canvas.
    fn into_result(self) -> Result<Canvas, FlowError>;
}

impl<In, Out, Form> IsFlow for Flow<In, Out, Form> {
    type Input = In;
    type Output = Out;
    type Form = Form;
    fn into_result(self) -> Result<Canvas, FlowError> {
        self.untyped()
    }
}

#[diagnostic::do_not_recommend]
impl<H: Members<Many>> Header<Many> for H {
    type Results = H::Outputs;
}
#[diagnostic::do_not_recommend]
impl<H: Members<Each>> Header<Each> for H {
    type Results = H::Outputs;
}
#[diagnostic::do_not_recommend]
impl<In, Out> Header<Whole> for Flow<In, Out, Grouped> {
    type Results = Finished<Out>;
}

#[diagnostic::do_not_recommend]
impl<In, Out> Members<Whole> for Flow<In, Out, Grouped> {
    type Inputs = Cons<In, Nil>;
    type Outputs = Finished<Out>;
    fn into_canvases(self) -> Result<Vec<Canvas>, FlowError> {
        Ok(vec![self.untyped()?])
    }
}

#[diagnostic::do_not_recommend]
impl<In, Out> Header<Whole> for Flow<In, Out, Tolerant> {
    type Results = Finished<Out>;
}

#[diagnostic::do_not_recommend]
impl<In, Out> Members<Whole> for Flow<In, Out, Tolerant> {
    type Inputs = Cons<In, Nil>;
    type Outputs = Settled<Out>;
    fn into_canvases(self) -> Result<Vec<Canvas>, FlowError> {
        Ok(vec![self.untyped()?])
    }
}

#[diagnostic::do_not_recommend]
impl<In, Out> Header<Whole> for Flow<In, Out, One> {
    type Results = Finished<(Out,)>;
}

#[diagnostic::do_not_recommend]
impl<In, Out> Members<Whole> for Flow<In, Out, One> {
    type Inputs = Cons<In, Nil>;
    type Outputs = Finished<(Out,)>;
    fn into_canvases(self) -> Result<Vec<Canvas>, FlowError> {
        Ok(vec![self.untyped()?])
    }
}

macro_rules! list {
    () => { Nil };
    ($head:ident $($tail:ident)*) => { Cons<$head, list!($($tail)*)> };
}
macro_rules! members {
    ($(($($in:ident $out:ident $form:ident $flow:ident)*))*) => {$(
        #[diagnostic::do_not_recommend]
        impl<$($in, $out, $form),*> Members<Each> for ($(Flow<$in, $out, $form>,)*) {
            type Inputs = list!($($in)*);
            type Outputs = members!(@ $($out $form)*);
            #[allow(non_snake_case, reason = "the values have the names of the types")]
            fn into_canvases(self) -> Result<Vec<Canvas>, FlowError> {
                let ($($flow,)*) = self;
                Ok(vec![$($flow.untyped()?),*])
            }
        }
    )*};
    (@) => { Nil };
    (@ $out:ident $form:ident $($rest:ident)*) => { Cons<Member<$out, $form>, members!(@ $($rest)*)> };
}
members! {
    (I1 O1 F1 f1)
    (I1 O1 F1 f1 I2 O2 F2 f2)
    (I1 O1 F1 f1 I2 O2 F2 f2 I3 O3 F3 f3)
    (I1 O1 F1 f1 I2 O2 F2 f2 I3 O3 F3 f3 I4 O4 F4 f4)
    (I1 O1 F1 f1 I2 O2 F2 f2 I3 O3 F3 f3 I4 O4 F4 f4 I5 O5 F5 f5)
    (I1 O1 F1 f1 I2 O2 F2 f2 I3 O3 F3 f3 I4 O4 F4 f4 I5 O5 F5 f5 I6 O6 F6 f6)
    (I1 O1 F1 f1 I2 O2 F2 f2 I3 O3 F3 f3 I4 O4 F4 f4 I5 O5 F5 f5 I6 O6 F6 f6 I7 O7 F7 f7)
    (I1 O1 F1 f1 I2 O2 F2 f2 I3 O3 F3 f3 I4 O4 F4 f4 I5 O5 F5 f5 I6 O6 F6 f6 I7 O7 F7 f7 I8 O8 F8 f8)
}

/// A list of inputs that are one: what all members of a group miss.
#[diagnostic::on_unimplemented(
    message = "the members of this group miss different inputs",
    label = "members with different inputs",
    note = "one result goes to every member: let all miss the same input, or let some ignore it with `.si(...)`"
)]
pub trait SameInput<In> {}

#[diagnostic::do_not_recommend]
impl<In> SameInput<In> for Cons<In, Nil> {}

#[diagnostic::do_not_recommend]
impl<First, Next, Rest, In> SameInput<In> for Cons<First, Cons<Next, Rest>>
where
    First: Unify<Next>,
    Cons<First::Input, Rest>: SameInput<In>,
{
}

/// The input of two members of a group: the same, or one of them ignores it.
pub trait Unify<Other> {
    /// It.
    type Input;
}

impl<In> Unify<In> for Ignored {
    type Input = In;
}

macro_rules! unify {
    ($(($($name:ident)*))*) => {$(
        impl<$($name),*> Unify<($($name,)*)> for ($($name,)*) {
            type Input = Self;
        }
        impl<$($name),*> Unify<Ignored> for ($($name,)*) {
            type Input = Self;
        }
    )*};
}
unify!(()(A)(A B)(A B C)(A B C D)(A B C D E)(A B C D E F)(A B C D E F G)(A B C D E F G H));

/// What the members of a group give, put together.
#[diagnostic::on_unimplemented(
    message = "the results of these members cannot be put together",
    label = "members of different types",
    note = "a group directly inside a group is flattened, and its members need the type of the others; to keep it a \
            list of its own, write `chain((group(...),))`",
    note = "a tuple has at most eight members; more of one type are a `Vec` or an array"
)]
pub trait Results<Output> {}

/// The results of a group with its own policy: of no use to a group around it.
#[derive(Debug)]
pub struct Settled<Out>(std::marker::PhantomData<Out>);

/// Any number of members of one type.
#[derive(Debug)]
pub struct Repeated<Out, Form>(std::marker::PhantomData<(Out, Form)>);

/// The results of a group that is complete.
#[derive(Debug)]
pub struct Finished<Out>(std::marker::PhantomData<Out>);

/// One member, perhaps a group.
#[derive(Debug)]
pub struct Member<Out, Form>(std::marker::PhantomData<(Out, Form)>);

/// Members whose number is known, as a list of types.
#[derive(Debug)]
pub struct Known<List>(std::marker::PhantomData<List>);

/// Members whose number is not known, all of one type.
#[derive(Debug)]
pub struct ListOf<T>(std::marker::PhantomData<T>);

#[diagnostic::do_not_recommend]
impl<Out> Results<Out> for Finished<Out> {}
#[diagnostic::do_not_recommend]
impl<Out> Results<Vec<Out>> for Repeated<Out, One> {}
#[diagnostic::do_not_recommend]
impl<Out: Elements> Results<Vec<Out::Element>> for Repeated<Out, Grouped> {}
#[diagnostic::do_not_recommend]
impl<List: AsTuple> Results<List::Tuple> for Known<List> {}
#[diagnostic::do_not_recommend]
impl<T> Results<Vec<T>> for ListOf<T> {}

#[diagnostic::do_not_recommend]
impl<M, Rest, Out> Results<Out> for Cons<M, Rest>
where
    Self: Collected,
    <Self as Collected>::Members: Results<Out>,
{
}

/// Members folded from the last to the first.
pub trait Collected {
    /// [`Known`] or [`ListOf`].
    type Members;
}

impl Collected for Nil {
    type Members = Known<Nil>;
}

impl<M, Rest: Collected> Collected for Cons<M, Rest>
where
    M: InFrontOf<Rest::Members>,
{
    type Members = M::Members;
}

/// A member in front of others; those of a group are put there one by one.
pub trait InFrontOf<Rest> {
    /// All together.
    type Members;
}

impl<T, List> InFrontOf<Known<List>> for Member<T, One> {
    type Members = Known<Cons<T, List>>;
}

impl<T> InFrontOf<ListOf<T>> for Member<T, One> {
    type Members = ListOf<T>;
}

impl<T, List: AllAre<T>> InFrontOf<Known<List>> for Member<Vec<T>, Grouped> {
    type Members = ListOf<T>;
}

impl<T> InFrontOf<ListOf<T>> for Member<Vec<T>, Grouped> {
    type Members = ListOf<T>;
}

/// A list of types that are all `T`.
pub trait AllAre<T> {}
impl<T> AllAre<T> for Nil {}
impl<T, Rest: AllAre<T>> AllAre<T> for Cons<T, Rest> {}

/// Results of one type: a `Vec`, or a tuple of equals.
pub trait Elements {
    /// Their type.
    type Element;
}

impl<T> Elements for Vec<T> {
    type Element = T;
}

macro_rules! tuple_groups {
    ($(($($name:ident)*) ($($same:ident)*))*) => {$(
        impl<T> Elements for ($($same,)*) {
            type Element = T;
        }
        impl<List, $($name),*> InFrontOf<Known<List>> for Member<($($name,)*), Grouped>
        where
            <($($name,)*) as Tuple>::List: Append<List>,
        {
            type Members = Known<<<($($name,)*) as Tuple>::List as Append<List>>::Joined>;
        }
        impl<T> InFrontOf<ListOf<T>> for Member<($($same,)*), Grouped> {
            type Members = ListOf<T>;
        }
    )*};
}
tuple_groups! {
    (A) (T)
    (A B) (T T)
    (A B C) (T T T)
    (A B C D) (T T T T)
    (A B C D E) (T T T T T)
    (A B C D E F) (T T T T T T)
    (A B C D E F G) (T T T T T T T)
    (A B C D E F G H) (T T T T T T T T)
}
