//! One task over many items: map, starmap and chunks.

use celeriac_primitives::{Canvas, Json, Options};

use crate::bind::BindError;
use crate::flow::{Flow, FlowError, Ignored};
use crate::task::Task;

/// The arguments of one call.
type Call = Result<Vec<Json>, BindError>;

/// `task(item)` for each item, one after the other in one leaf.
pub fn map<T: Task>(calls: impl Iterator<Item = Call>) -> Flow<Ignored, Vec<T::Output>> {
    let items = read::<T>(calls, |mut arguments| arguments.swap_remove(0));
    Flow::of(items.map(|items| declared::<T>(Canvas::map(T::name(), items))))
}

/// `task(*item)` for each item, one after the other in one leaf.
pub fn starmap<T: Task>(calls: impl Iterator<Item = Call>) -> Flow<Ignored, Vec<T::Output>> {
    let rows = read::<T>(calls, Json::list);
    Flow::of(rows.map(|rows| declared::<T>(Canvas::starmap(T::name(), rows))))
}

/// A starmap in parts of `size` rows that run in parallel.
pub fn chunks<T: Task>(calls: impl Iterator<Item = Call>, size: usize) -> Flow<Ignored, Vec<Vec<T::Output>>> {
    let rows = read::<T>(calls, Json::list);
    Flow::of(rows.map(|rows| declared::<T>(Canvas::chunks(T::name(), rows, size))))
}

fn declared<T: Task>(mut canvas: Canvas) -> Canvas {
    *canvas.options_mut() = Options::new().with_declared(T::declared());
    canvas
}

fn read<T: Task>(
    calls: impl Iterator<Item = Call>,
    item: impl Fn(Vec<Json>) -> Json,
) -> Result<Vec<Json>, FlowError> {
    calls.map(|call| call.map(&item).map_err(|error| FlowError::bind(T::NAME, error))).collect()
}
