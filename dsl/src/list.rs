//! Lists of types, and the way between them and tuples.
//!
//! Parameters are bound from the last to the first, so most lists here are kept backwards.

/// A type in front of a list.
#[derive(Debug)]
pub struct Cons<H, T>(pub H, pub T);

/// The empty list.
#[derive(Debug)]
pub struct Nil;

/// A list turned round, in front of `Done`.
pub trait Reverse<Done = Nil> {
    /// The list backwards.
    type Reversed;
}

impl<Done> Reverse<Done> for Nil {
    type Reversed = Done;
}

impl<H, T: Reverse<Cons<H, Done>>, Done> Reverse<Done> for Cons<H, T> {
    type Reversed = T::Reversed;
}

/// Two lists, one after the other.
pub trait Append<Tail> {
    /// Both.
    type Joined;
}

impl<Tail> Append<Tail> for Nil {
    type Joined = Tail;
}

impl<H, T: Append<Tail>, Tail> Append<Tail> for Cons<H, T> {
    type Joined = Cons<H, T::Joined>;
}

/// A tuple as a list.
pub trait Tuple {
    /// The list.
    type List;
    /// The list backwards.
    type Reversed;
    /// How many there are.
    const LEN: usize;
    /// The values as a list.
    fn into_list(self) -> Self::List;
    /// The values as a list, backwards.
    fn into_reversed(self) -> Self::Reversed;
}

/// A list of at most eight types as a tuple.
pub trait AsTuple {
    /// The tuple.
    type Tuple;
}

macro_rules! list {
    () => { Nil };
    ($head:ident $($tail:ident)*) => { Cons<$head, list!($($tail)*)> };
}
macro_rules! values {
    () => { Nil };
    ($head:ident $($tail:ident)*) => { Cons($head, values!($($tail)*)) };
}
macro_rules! tuples {
    ($(($($name:ident)*) ($($backwards:ident)*))*) => {$(
        impl<$($name),*> Tuple for ($($name,)*) {
            type List = list!($($name)*);
            type Reversed = list!($($backwards)*);
            const LEN: usize = <[&str]>::len(&[$(stringify!($name)),*]);
            #[allow(non_snake_case, reason = "the values have the names of their types")]
            fn into_list(self) -> Self::List {
                let ($($name,)*) = self;
                values!($($name)*)
            }
            #[allow(non_snake_case, reason = "the values have the names of their types")]
            fn into_reversed(self) -> Self::Reversed {
                let ($($name,)*) = self;
                values!($($backwards)*)
            }
        }

        impl<$($name),*> AsTuple for list!($($name)*) {
            type Tuple = ($($name,)*);
        }
    )*};
}
tuples! {
    () ()
    (A) (A)
    (A B) (B A)
    (A B C) (C B A)
    (A B C D) (D C B A)
    (A B C D E) (E D C B A)
    (A B C D E F) (F E D C B A)
    (A B C D E F G) (G F E D C B A)
    (A B C D E F G H) (H G F E D C B A)
}
