//! A canvas and the canvases in it, however deep they are nested: nothing here recurses.
//!
//! A task or a client may build what is far too deep, and hears so when it hands it over ([`crate::Limits`]).
//! Until then it is cloned, compared, printed and dropped like any other, so none of that may end the stack.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::{Canvas, Chain, Chord, Chunks, Group, Map, Signature};

/// So deep a canvas is printed; of what is deeper only this is said.
const PRINTED_DEPTH_MAX: usize = 256;

impl Canvas {
    /// The canvases right in this one, callbacks last.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Canvas> {
        let (list, body): (&[Canvas], _) = match self {
            Canvas::Chain(chain) => (&chain.steps, None),
            Canvas::Group(group) => (&group.members, None),
            Canvas::Chord(chord) => (&chord.header, chord.body.as_deref()),
            Canvas::Signature(_) | Canvas::Map(_) | Canvas::Chunks(_) => (&[], None),
        };
        list.iter().chain(body).chain(self.options().callbacks())
    }

    /// The same, to change them.
    pub(crate) fn parts_mut(&mut self) -> impl Iterator<Item = &mut Canvas> {
        let (list, body, options): (&mut [Canvas], _, _) = match self {
            Canvas::Signature(signature) => (&mut [], None, &mut signature.options),
            Canvas::Chain(chain) => (&mut chain.steps, None, &mut chain.options),
            Canvas::Group(group) => (&mut group.members, None, &mut group.options),
            Canvas::Chord(chord) => (&mut chord.header, chord.body.as_deref_mut(), &mut chord.options),
            Canvas::Map(map) => (&mut [], None, &mut map.options),
            Canvas::Chunks(chunks) => (&mut [], None, &mut chunks.options),
        };
        list.iter_mut().chain(body).chain(options.callbacks_mut())
    }

    fn has_parts(&self) -> bool {
        self.parts().next().is_some()
    }

    /// Whether canvases are nested more than so deep in this one.
    pub(crate) fn is_deeper_than(&self, max: usize) -> bool {
        let mut todo = vec![(self, 0)];
        while let Some((canvas, depth)) = todo.pop() {
            if depth > max {
                return true;
            }
            todo.extend(canvas.parts().map(|part| (part, depth + 1)));
        }
        false
    }

    /// Calls `change` for this canvas and all in it, each before those in it.
    pub(crate) fn try_change_all<E>(
        &mut self,
        mut change: impl FnMut(&mut Canvas) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut todo = vec![self];
        while let Some(canvas) = todo.pop() {
            change(canvas)?;
            let first = todo.len();
            todo.extend(canvas.parts_mut());
            // The first comes off the stack first.
            todo.get_mut(first..).unwrap_or_default().reverse();
        }
        Ok(())
    }

    /// A clone with a placeholder for each part that has parts.
    fn shell(&self) -> Canvas {
        match self {
            Canvas::Signature(signature) => Canvas::Signature(Signature {
                task: signature.task.clone(),
                args: signature.args.clone(),
                kwargs: signature.kwargs.clone(),
                options: signature.options.map_callbacks(shells),
                immutable: signature.immutable,
            }),
            Canvas::Chain(chain) => Canvas::Chain(Chain {
                steps: shells(&chain.steps),
                options: chain.options.map_callbacks(shells),
                immutable: chain.immutable,
            }),
            Canvas::Group(group) => Canvas::Group(Group {
                members: shells(&group.members),
                options: group.options.map_callbacks(shells),
            }),
            Canvas::Chord(chord) => Canvas::Chord(Chord {
                header: shells(&chord.header),
                body: chord.body.as_deref().map(|body| Box::new(shell_of_part(body))),
                options: chord.options.map_callbacks(shells),
            }),
            Canvas::Map(map) => Canvas::Map(Map {
                kind: map.kind,
                task: map.task.clone(),
                items: map.items.clone(),
                options: map.options.map_callbacks(shells),
            }),
            Canvas::Chunks(chunks) => Canvas::Chunks(Chunks {
                task: chunks.task.clone(),
                items: chunks.items.clone(),
                size: chunks.size,
                options: chunks.options.map_callbacks(shells),
            }),
        }
    }

    /// Whether the two differ at most in their parts, of which they have as many at the same places.
    fn is_alike(&self, other: &Canvas) -> bool {
        let alike = match (self, other) {
            (Canvas::Signature(a), Canvas::Signature(b)) => {
                a.task == b.task && a.args == b.args && a.kwargs == b.kwargs && a.immutable == b.immutable
            }
            (Canvas::Chain(a), Canvas::Chain(b)) => {
                a.steps.len() == b.steps.len() && a.immutable == b.immutable
            }
            (Canvas::Group(a), Canvas::Group(b)) => a.members.len() == b.members.len(),
            (Canvas::Chord(a), Canvas::Chord(b)) => {
                a.header.len() == b.header.len() && a.body.is_some() == b.body.is_some()
            }
            (Canvas::Map(a), Canvas::Map(b)) => a.kind == b.kind && a.task == b.task && a.items == b.items,
            (Canvas::Chunks(a), Canvas::Chunks(b)) => {
                a.task == b.task && a.items == b.items && a.size == b.size
            }
            _ => false,
        };
        alike && self.options().is_alike(other.options())
    }

    /// Adds to a hash what two that are [alike](Self::is_alike) have in common.
    pub(crate) fn hash_own(&self, hasher: &mut impl Hasher) {
        std::mem::discriminant(self).hash(hasher);
        match self {
            Canvas::Signature(own) => (&own.task, &own.args, &own.kwargs, own.immutable).hash(hasher),
            Canvas::Chain(own) => (own.steps.len(), own.immutable).hash(hasher),
            Canvas::Group(own) => own.members.len().hash(hasher),
            Canvas::Chord(own) => (own.header.len(), own.body.is_some()).hash(hasher),
            Canvas::Map(own) => (&own.task, &own.items).hash(hasher),
            Canvas::Chunks(own) => (&own.task, &own.items, own.size).hash(hasher),
        }
        let options = self.options();
        (options.link().len(), options.link_error().len(), options.finally().len()).hash(hasher);
        options.values().for_each(|value| value.hash(hasher));
    }
}

fn shells(parts: &[Canvas]) -> Vec<Canvas> {
    parts.iter().map(shell_of_part).collect()
}

fn shell_of_part(part: &Canvas) -> Canvas {
    if part.has_parts() { Canvas::chain([]) } else { part.shell() }
}

/// The parts that have parts, each with its placeholder in a shell.
fn unfilled<'a>(
    from: &'a Canvas,
    shell: &'a mut Canvas,
) -> impl Iterator<Item = (&'a Canvas, &'a mut Canvas)> {
    from.parts().zip(shell.parts_mut()).filter(|(from, _)| from.has_parts())
}

impl Clone for Canvas {
    fn clone(&self) -> Self {
        let mut root = self.shell();
        let mut todo: Vec<_> = unfilled(self, &mut root).collect();
        while let Some((from, to)) = todo.pop() {
            *to = from.shell();
            todo.extend(unfilled(from, to));
        }
        root
    }
}

impl PartialEq for Canvas {
    fn eq(&self, other: &Self) -> bool {
        let (mut todo, mut next) = (Vec::new(), Some((self, other)));
        while let Some((a, b)) = next {
            if !a.is_alike(b) {
                return false;
            }
            todo.extend(a.parts().zip(b.parts()));
            next = todo.pop();
        }
        true
    }
}

impl Canvas {
    /// Drops a canvas however deep it is nested: from the top, so that no part that has parts is dropped
    /// inside another, as Rust would do it by itself. Whoever takes a canvas from others does this when it is
    /// too deep.
    pub fn take_apart(mut self) {
        let mut todo = Vec::new();
        self.take_nested(&mut todo);
        while let Some(mut canvas) = todo.pop() {
            canvas.take_nested(&mut todo);
        }
    }

    /// Moves the parts that have parts out of this canvas.
    fn take_nested(&mut self, out: &mut Vec<Canvas>) {
        for part in self.parts_mut() {
            if part.has_parts() {
                out.push(std::mem::replace(part, Canvas::chain([])));
            }
        }
    }
}

impl fmt::Debug for Canvas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_deeper_than(PRINTED_DEPTH_MAX) {
            return f.write_str(TOO_DEEP);
        }
        match self {
            Canvas::Signature(signature) => f.debug_tuple("Signature").field(signature).finish(),
            Canvas::Chain(chain) => f.debug_tuple("Chain").field(chain).finish(),
            Canvas::Group(group) => f.debug_tuple("Group").field(group).finish(),
            Canvas::Chord(chord) => f.debug_tuple("Chord").field(chord).finish(),
            Canvas::Map(map) => f.debug_tuple("Map").field(map).finish(),
            Canvas::Chunks(chunks) => f.debug_tuple("Chunks").field(chunks).finish(),
        }
    }
}

const TOO_DEEP: &str = "<canvases nested more than 256 deep>";

impl fmt::Display for Canvas {
    /// Operator text, such as `group(add.s(1, 1), add.s(2, 2)) | xsum.s()`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_deeper_than(PRINTED_DEPTH_MAX) {
            return f.write_str(TOO_DEEP);
        }
        crate::display::write_canvas(f, self)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::{Deref, DerefMut};

    use super::*;
    use crate::{Json, Limits, TaskName};

    type Around = fn(Canvas) -> Canvas;

    /// The ways to put a canvas into another.
    const AROUND: [(&str, Around); 7] = [
        ("chain", |inner| Canvas::chain([leaf("before"), inner])),
        ("group", |inner| Canvas::group([inner, leaf("beside")])),
        ("header", |inner| Canvas::chord([inner], leaf("body"))),
        ("body", |inner| Canvas::chord([leaf("header")], inner)),
        ("link", |inner| with_options(|options| options.add_link(inner))),
        ("link_error", |inner| with_options(|options| options.add_link_error(inner))),
        ("finally", |inner| with_options(|options| options.add_finally(inner))),
    ];

    fn leaf(name: &str) -> Canvas {
        Signature::new(name).unwrap().into()
    }

    fn with_options(change: impl FnOnce(&mut crate::Options)) -> Canvas {
        let mut canvas = Canvas::map(TaskName::new("a").unwrap(), [Json::null()]);
        change(canvas.options_mut());
        canvas
    }

    fn nested(depth: usize, around: impl Fn(usize, Canvas) -> Canvas) -> Canvas {
        (0..depth).fold(leaf("innermost"), |inner, level| around(level, inner))
    }

    /// One that is taken apart in the end.
    struct Deep(Canvas);

    impl Deep {
        fn take(&mut self) -> Canvas {
            std::mem::replace(&mut self.0, Canvas::chain([]))
        }
    }

    impl Deref for Deep {
        type Target = Canvas;

        fn deref(&self) -> &Canvas {
            &self.0
        }
    }

    impl DerefMut for Deep {
        fn deref_mut(&mut self) -> &mut Canvas {
            &mut self.0
        }
    }

    impl Drop for Deep {
        fn drop(&mut self) {
            self.take().take_apart();
        }
    }

    /// Nested so deep in every way, and in all by turns.
    fn of_depth(depth: usize) -> impl Iterator<Item = (&'static str, Deep)> {
        let each = AROUND
            .into_iter()
            .map(move |(name, around)| (name, Deep(nested(depth, |_, inner| around(inner)))));
        let turns = nested(depth, |level, inner| AROUND[level % AROUND.len()].1(inner));
        each.chain([("all", Deep(turns))])
    }

    #[test]
    fn a_canvas_of_any_depth_is_cloned_compared_and_dropped() {
        for (name, canvas) in of_depth(100_000) {
            let mut other = Deep(Canvas::clone(&canvas));
            assert!(*canvas == *other, "{name}");
            let Ok(()) = other.try_change_all(|canvas| {
                if let Canvas::Signature(signature) = canvas
                    && signature.task.as_str() == "innermost"
                {
                    signature.immutable = true;
                }
                Ok::<(), std::convert::Infallible>(())
            });
            assert!(*canvas != *other, "{name}");
        }
    }

    #[test]
    fn a_canvas_of_any_depth_is_written_and_printed() {
        for (name, canvas) in of_depth(100_000) {
            let text = canvas.to_json();
            assert_eq!(text.matches("\"innermost\"").count(), 1, "{name}");
            assert_eq!(text.matches('{').count(), text.matches('}').count(), "{name}");
            assert_eq!(canvas.to_string(), TOO_DEEP, "{name}");
            assert_eq!(format!("{:?}", *canvas), TOO_DEEP, "{name}");
        }
    }

    #[test]
    fn a_canvas_of_any_depth_is_changed_as_a_whole() {
        for (name, mut canvas) in of_depth(100_000) {
            canvas.stamp("order", &Json::null());
            let rename = &mut |task: &TaskName| TaskName::new(format!("x.{task}"));
            canvas.rename(rename).unwrap();
            let text = canvas.to_json();
            assert!(text.contains("\"x.innermost\"") && !text.contains("\"innermost\""), "{name}");
            canvas.link(leaf("last"));
            assert!(Deep(canvas.take().into_immutable()).to_json().contains("\"last\""), "{name}");
        }
    }

    #[test]
    fn a_canvas_deeper_than_its_limit_is_refused_in_every_form() {
        for (depth, is_right) in [(63, true), (64, true), (65, false), (5_000, false)] {
            for (name, canvas) in of_depth(depth) {
                let limits = Limits::default();
                assert_eq!(limits.check(&canvas).is_ok(), is_right, "{name} {depth}");
                assert_eq!(limits.check_depth(&canvas).is_ok(), is_right, "{name} {depth}");
                match Canvas::from_json(&canvas.to_json()) {
                    Ok(read) => assert!(is_right && read == *canvas, "{name} {depth}"),
                    Err(error) => {
                        assert!(
                            !is_right && error.to_string().contains("nested more than 64 deep"),
                            "{name}: {error}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_can_be_printed_is_printed_as_before() {
        for (name, canvas) in of_depth(PRINTED_DEPTH_MAX) {
            for text in [canvas.to_string(), format!("{:?}", *canvas)] {
                assert!(text.contains("innermost"), "{name}");
            }
        }
    }
}
