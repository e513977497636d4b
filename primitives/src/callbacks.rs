//! A list of callbacks in which each stands once, as in Celery's `append_to_list_option`.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use crate::Canvas;

/// So many are compared one by one. When there are more, it is known by their hashes where an equal one may
/// stand: a message can bring a hundred thousand.
const FEW: usize = 16;

#[derive(Clone, Default)]
pub(crate) struct Callbacks {
    list: Vec<Canvas>,
    /// The places of the hashes, of all or of none.
    places: Option<BTreeMap<u64, Vec<usize>>>,
}

impl Callbacks {
    /// Adds one, unless an equal one is there.
    pub(crate) fn add(&mut self, callback: Canvas) {
        if self.list.len() < FEW {
            if !self.list.contains(&callback) {
                self.list.push(callback);
            }
            return;
        }
        let list = &mut self.list;
        let places = self.places.get_or_insert_with(|| {
            let mut places = BTreeMap::<u64, Vec<usize>>::new();
            list.iter().enumerate().for_each(|(at, known)| places.entry(hash(known)).or_default().push(at));
            places
        });
        let alike = places.entry(hash(&callback)).or_default();
        if !alike.iter().any(|at| list[*at] == callback) {
            alike.push(list.len());
            list.push(callback);
        }
    }

    pub(crate) fn as_slice(&self) -> &[Canvas] {
        &self.list
    }

    /// All of them, to change them.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Canvas> {
        self.places = None;
        self.list.iter_mut()
    }
}

/// Of all that is compared.
fn hash(canvas: &Canvas) -> u64 {
    let (mut hasher, mut todo) = (DefaultHasher::new(), vec![canvas]);
    while let Some(canvas) = todo.pop() {
        canvas.hash_own(&mut hasher);
        todo.extend(canvas.parts());
    }
    hasher.finish()
}

impl From<Vec<Canvas>> for Callbacks {
    fn from(list: Vec<Canvas>) -> Self {
        Self { list, places: None }
    }
}

impl PartialEq for Callbacks {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signature;

    fn leaf(number: usize) -> Canvas {
        Signature::new("t").unwrap().arg(number).unwrap().into()
    }

    #[test]
    fn each_stands_once_however_many_there_are() {
        let mut callbacks = Callbacks::default();
        for number in (0..1_000).chain(0..1_000) {
            callbacks.add(leaf(number));
            callbacks.add(Canvas::chain([leaf(number), leaf(0)]));
        }
        assert_eq!(callbacks.as_slice().len(), 2_000);
        let first: Vec<Canvas> = callbacks.as_slice()[..4].to_vec();
        assert_eq!(
            first,
            [leaf(0), Canvas::chain([leaf(0), leaf(0)]), leaf(1), Canvas::chain([leaf(1), leaf(0)])]
        );
    }

    #[test]
    fn what_was_changed_is_compared_as_it_is_now() {
        let mut callbacks = Callbacks::default();
        (0..100).for_each(|number| callbacks.add(leaf(number)));
        callbacks.iter_mut().for_each(|callback| *callback = Canvas::group([callback.clone()]));
        (0..100).for_each(|number| callbacks.add(Canvas::group([leaf(number)])));
        (0..100).for_each(|number| callbacks.add(leaf(number)));
        assert_eq!(callbacks.as_slice().len(), 200);
    }
}
