#![deny(warnings, missing_debug_implementations, unreachable_pub)]
//! A task is as visible as its function, and may take and give what is no more visible than that.
extern crate celeriac_dsl as celeriac;
use celeriac::{Flow, State, canvas, task, tasks};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Numbers {
    One(i64),
    Many(Vec<Numbers>),
}

impl Numbers {
    fn sum(&self) -> i64 {
        match self {
            Self::One(number) => *number,
            Self::Many(numbers) => numbers.iter().map(Self::sum).sum(),
        }
    }
}

/// Private to the crate's root.
struct Scale(i64);

#[task(name = "proj.tasks.xsum")]
async fn xsum(numbers: Vec<Numbers>, scale: State<Scale>) -> i64 {
    numbers.iter().map(Numbers::sum).sum::<i64>() * scale.0
}

#[task(name = "proj.tasks.wrap")]
fn wrap(number: i64, #[default(Vec::new())] others: Vec<Numbers>) -> Result<Vec<Numbers>, String> {
    Ok([vec![Numbers::One(number)], others].concat())
}

#[task]
fn gather(#[rest] numbers: Vec<Numbers>) -> Vec<Numbers> {
    numbers
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shared(i64);

#[task]
pub(crate) async fn shared(given: Shared) -> Shared {
    given
}

/// Two modules deep.
mod outer {
    pub(crate) mod inner {
        use celeriac::task;
        use serde::{Deserialize, Serialize};

        #[derive(Debug, Serialize, Deserialize)]
        struct Here(i64);

        #[task]
        fn here(given: Here) -> Here {
            given
        }

        #[derive(Debug, Serialize, Deserialize)]
        pub(super) struct Above(pub(super) i64);

        #[task]
        pub(super) fn above(given: Above) -> Above {
            given
        }

        #[derive(Debug, Serialize, Deserialize)]
        pub(in crate::outer) struct Within(i64);

        #[task]
        pub(in crate::outer) fn within(#[default(Within(1))] given: Within) -> Within {
            given
        }

        pub(crate) fn canvases() -> [String; 1] {
            [celeriac::canvas!(here.s(given = Here(1)) | here.s()).to_string()]
        }
    }

    pub(crate) fn canvases() -> [String; 2] {
        use inner::{Above, above, within};
        [celeriac::canvas!(above.s(given = Above(1))).to_string(), celeriac::canvas!(within.s()).to_string()]
    }
}

/// Visible everywhere, in a library's way.
pub mod public {
    use celeriac::task;
    use serde::{Deserialize, Serialize};

    /// A type for everybody.
    #[derive(Debug, Serialize, Deserialize)]
    pub struct Public(pub i64);

    /// A task for everybody.
    #[task]
    pub fn public(given: Public) -> Public {
        given
    }
}

fn main() {
    let _: Flow<(), i64> = canvas!(wrap.s(1) | xsum.s());
    let _: Flow<(), i64> = canvas!(xsum.s(numbers = [Numbers::Many(vec![Numbers::One(1)])]));
    let _: Flow<(), Vec<Numbers>> = canvas!(wrap.s(1) | gather.si(Numbers::One(1)));
    let _ = canvas!(gather.s(Numbers::One(1), Numbers::One(2)) | xsum.s());
    let _ = wrap.call(1, Vec::new());
    let _ = canvas!(wrap.s(1, others = []));
    let _ = canvas!(shared.s(Shared(1)) | shared.s());
    let _ = canvas!(public::public.s(given = public::Public(1)));
    let _ = (outer::canvases(), outer::inner::canvases());

    #[derive(Debug, Serialize, Deserialize)]
    struct Local(Vec<Local>);
    #[task]
    async fn local(given: Local, #[default] others: Vec<Local>) -> Local {
        Local([vec![given], others].into_iter().flatten().collect())
    }
    let _: Flow<(), Local> = canvas!(local.s(Local(vec![]), [Local(vec![])]) | local.s(others = []));
    assert_eq!(tasks![xsum, wrap, shared, public::public, local].len(), 5);
}
