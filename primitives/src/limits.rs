//! How large a canvas may be.

use crate::{Canvas, Json, OptionError, Path, Segment};

/// The longest task name, in characters.
pub(crate) const NAME_CHARS_MAX: usize = 255;

/// Bounds on a canvas, checked before it is compiled. Name those that differ: `Limits { depth_max: 9,
/// ..Limits::default() }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deep canvases may be nested.
    pub depth_max: usize,
    /// How many signatures, maps and chunks' items a canvas may hold, callbacks included.
    pub nodes_max: usize,
    /// How many bytes the arguments of one leaf may have, as JSON: those of the canvas, and all with what it
    /// takes from others. Counted is what stands between the brackets of the positional ones and between the
    /// braces of those with names ([`argument_bytes`]).
    pub argument_bytes_max: usize,
    /// How many bytes the result of one leaf may have, as JSON.
    pub result_bytes_max: usize,
    /// How many bytes the options of one leaf may have that travel with it, as JSON: headers, stamps,
    /// `shadow` and `retry`, with those it inherits.
    pub options_bytes_max: usize,
    /// How many bytes an error's texts may have; what is longer is cut. Of no error is more kept than 1 MiB.
    pub error_bytes_max: usize,
    /// How many bytes may describe how far a leaf is; of what is longer only the size is kept. And how many
    /// the name of its state may have; a longer one is cut.
    pub progress_bytes_max: usize,
    /// How many bytes a canvas may have, as JSON, that runs in the place of a leaf, with all that the leaf
    /// adds.
    pub replacement_bytes_max: usize,
    /// How many bytes all arguments of a canvas may have together, as JSON, and the options that differ.
    pub plan_bytes_max: usize,
    /// How many times in a row leaves may be replaced, or add to their list: by or with a canvas of which a
    /// leaf does so, and so on.
    pub replacements_max: usize,
    /// How many nodes a run may have together with all canvases that run in the place of its leaves.
    pub run_nodes_max: usize,
    /// How many queues the leaves of a canvas may name.
    pub queues_max: usize,
}

impl Default for Limits {
    /// 64 levels, a million nodes; 64 MiB each for the arguments and for the result of one leaf, 1 MiB for
    /// its options, 64 KiB for an error and for how far a leaf is, 16 MiB for what runs in its place, 256 MiB
    /// for all arguments of a canvas; 100 replacements in a row, two million nodes with all replacements;
    /// 1,000 queues.
    fn default() -> Self {
        Self {
            depth_max: 64,
            nodes_max: 1_000_000,
            argument_bytes_max: 64 << 20,
            result_bytes_max: 64 << 20,
            options_bytes_max: 1 << 20,
            error_bytes_max: 64 << 10,
            progress_bytes_max: 64 << 10,
            replacement_bytes_max: 16 << 20,
            plan_bytes_max: 256 << 20,
            replacements_max: 100,
            run_nodes_max: 2_000_000,
            queues_max: 1_000,
        }
    }
}

/// A canvas that is too large, or an option in it that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// Nested too deep.
    #[error(
        "{path}: canvases are nested more than {max} deep; flatten it, or submit the inner part as a run of its own"
    )]
    Depth {
        /// Where the limit was passed.
        path: Path,
        /// The limit.
        max: usize,
    },
    /// Too many nodes.
    #[error("the canvas has more than {max} nodes; use chunks, or split it into several runs")]
    Nodes {
        /// The limit.
        max: usize,
    },
    /// Arguments too long.
    #[error(
        "{path}: the arguments have {bytes} bytes of JSON, more than {max}; pass a reference to the data instead"
    )]
    ArgumentBytes {
        /// The leaf.
        path: Path,
        /// How many there are.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// What a leaf is called with, put together, is too long.
    #[error(
        "the arguments of the leaf, with all that it takes from others, have {bytes} bytes of JSON, more than {max} \
         (argument_bytes_max); pass a reference to the data instead"
    )]
    InputBytes {
        /// How many there are, as far as they were counted.
        bytes: u64,
        /// The limit.
        max: usize,
    },
    /// A result too long.
    #[error(
        "the result has {bytes} bytes of JSON, more than {max} (result_bytes_max); return a reference to the data instead"
    )]
    ResultBytes {
        /// How many there are.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Options too long.
    #[error(
        "{path}: the options have {bytes} bytes (headers, stamps, shadow and retry, with those inherited), more than {max} \
         (options_bytes_max); they travel with each message: pass what is long as an argument"
    )]
    OptionBytes {
        /// The leaf.
        path: Path,
        /// How many there are.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A message too long for the store.
    #[error("the message of the leaf cannot be stored: {reason}; pass what is long as an argument")]
    Message {
        /// What the store says of it, with its size.
        reason: String,
    },
    /// A canvas too long that was to run in the place of a leaf.
    #[error(
        "what is to run in the place of the leaf has {bytes} bytes of JSON, more than {max} (replacement_bytes_max); \
         return a smaller canvas, or submit a run of its own"
    )]
    ReplacementBytes {
        /// How many there are.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Arguments too long in all.
    #[error(
        "the arguments and options of the canvas have {bytes} bytes of JSON in all, more than {max} (plan_bytes_max); pass references \
         to the data, or split it into several runs"
    )]
    PlanBytes {
        /// How many there are.
        bytes: u64,
        /// The limit.
        max: usize,
    },
    /// Replaced too often in a row.
    #[error(
        "leaves were replaced, or added others, more than {max} times in a row (replacements_max); let one task loop, \
         or raise the limit in the app's Limits"
    )]
    Replacements {
        /// The limit.
        max: usize,
    },
    /// Too many nodes together with the replacements.
    #[error(
        "the run would have more than {max} nodes with its replacements (run_nodes_max); use chunks, submit a part as \
         a run of its own, or raise the limit in the app's Limits"
    )]
    RunNodes {
        /// The limit.
        max: usize,
    },
    /// Too many queues.
    #[error(
        "the leaves of the canvas name {count} queues, more than {max} (queues_max); a queue is for leaves that the same workers \
         run: use fewer names, or raise the limit in the app's Limits"
    )]
    Queues {
        /// How many there are.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// An option of the wrong type.
    #[error("{path}: {source}")]
    Option {
        /// The canvas that has the option.
        path: Path,
        /// What is wrong with it.
        source: OptionError,
    },
}

/// How many bytes arguments have, of the lengths of both texts, which have brackets and braces: these are
/// not counted, since every leaf has them.
#[must_use]
pub fn argument_bytes(args: u64, kwargs: u64) -> u64 {
    args.saturating_sub(2) + kwargs.saturating_sub(2)
}

impl Limits {
    /// Checks a canvas. Does not recurse, whatever the depth.
    ///
    /// # Errors
    /// The first limit that is passed, with its place.
    pub fn check(&self, canvas: &Canvas) -> Result<(), LimitError> {
        let mut nodes = 0usize;
        let mut walk = Walk::of(canvas);
        while let Some(canvas) = walk.next(self.depth_max)? {
            let options = canvas.options();
            if !options.is_empty() {
                options.check().map_err(|source| LimitError::Option { path: walk.path(), source })?;
            }
            let (count, bytes) = match canvas {
                Canvas::Signature(signature) => {
                    let named = signature.kwargs.iter();
                    let named = named.map(|(name, value)| name_bytes(name) + 1 + value.as_str().len());
                    (1, list_bytes(&signature.args) + between(named))
                }
                Canvas::Map(map) => (1, list_bytes(&map.items)),
                Canvas::Chunks(chunks) => (chunks.items.len(), list_bytes(&chunks.items)),
                Canvas::Chain(_) | Canvas::Group(_) | Canvas::Chord(_) => (0, 0),
            };
            nodes += count;
            if nodes > self.nodes_max {
                return Err(LimitError::Nodes { max: self.nodes_max });
            }
            if bytes > self.argument_bytes_max {
                let max = self.argument_bytes_max;
                return Err(LimitError::ArgumentBytes { path: walk.path(), bytes, max });
            }
        }
        Ok(())
    }

    /// Checks of a canvas only how deep it is nested. Does not recurse, whatever the depth.
    ///
    /// # Errors
    /// [`LimitError::Depth`].
    pub fn check_depth(&self, canvas: &Canvas) -> Result<(), LimitError> {
        let mut walk = Walk::of(canvas);
        while walk.next(self.depth_max)?.is_some() {}
        Ok(())
    }
}

/// What stands between the brackets.
fn list_bytes(values: &[Json]) -> usize {
    between(values.iter().map(|value| value.as_str().len()))
}

/// So many texts with commas between them.
fn between(texts: impl ExactSizeIterator<Item = usize>) -> usize {
    let commas = texts.len().saturating_sub(1);
    texts.sum::<usize>() + commas
}

/// A name in its quotes.
fn name_bytes(name: &str) -> usize {
    let is_plain = name.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
    if is_plain { name.len() + 2 } else { Json::string(name).as_str().len() }
}

/// A walk over a canvas from the top down. A leaf costs one look: nothing is noted for it.
struct Walk<'a> {
    lists: Vec<List<'a>>,
}

/// Canvases that stand beside each other, and how many of them were visited. Of those above where the walk
/// is, the last visited is the one that it is in; those that come later are not begun.
struct List<'a> {
    canvases: &'a [Canvas],
    visited: usize,
    depth: usize,
    segment: fn(usize) -> Segment,
}

impl<'a> Walk<'a> {
    fn of(canvas: &'a Canvas) -> Self {
        let mut walk = Self { lists: Vec::new() };
        // It is on no way: of what has depth 0 no segment is asked for.
        walk.push(0, std::slice::from_ref(canvas), |_| Segment::Body);
        walk
    }

    /// The next canvas; those in it follow.
    fn next(&mut self, depth_max: usize) -> Result<Option<&'a Canvas>, LimitError> {
        let (canvas, depth) = loop {
            let Some(list) = self.lists.last_mut() else { return Ok(None) };
            if let Some(canvas) = list.canvases.get(list.visited) {
                list.visited += 1;
                break (canvas, list.depth);
            }
            self.lists.pop();
        };
        if depth > depth_max {
            return Err(LimitError::Depth { path: self.path(), max: depth_max });
        }
        // What is pushed last comes first.
        match canvas {
            Canvas::Signature(_) | Canvas::Map(_) | Canvas::Chunks(_) => {}
            Canvas::Chain(chain) => self.push(depth + 1, &chain.steps, |i| Segment::Chain(i as u32)),
            Canvas::Group(group) => self.push(depth + 1, &group.members, |i| Segment::Group(i as u32)),
            Canvas::Chord(chord) => {
                self.push(depth + 1, &chord.header, |i| Segment::Header(i as u32));
                let body = chord.body.as_deref().map_or(&[][..], std::slice::from_ref);
                self.push(depth + 1, body, |_| Segment::Body);
            }
        }
        let options = canvas.options();
        if !options.is_empty() {
            self.push(depth + 1, options.link(), |i| Segment::Link(i as u32));
            self.push(depth + 1, options.link_error(), |i| Segment::LinkError(i as u32));
            self.push(depth + 1, options.finally(), |i| Segment::Finally(i as u32));
        }
        Ok(Some(canvas))
    }

    fn push(&mut self, depth: usize, canvases: &'a [Canvas], segment: fn(usize) -> Segment) {
        if !canvases.is_empty() {
            self.lists.push(List { canvases, visited: 0, depth, segment });
        }
    }

    /// The way to the canvas that was visited last.
    fn path(&self) -> Path {
        let above = self.lists.iter().filter(|list| list.depth > 0 && list.visited > 0);
        above.map(|list| (list.segment)(list.visited - 1)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signature;

    fn leaf() -> Canvas {
        Signature::new("a").unwrap().into()
    }

    #[test]
    fn depth_is_counted_in_canvases_and_the_place_is_named() {
        let limits = Limits { depth_max: 2, ..Limits::default() };
        let two = Canvas::chain([leaf(), Canvas::group([leaf(), leaf()])]);
        assert_eq!(limits.check(&two), Ok(()));
        let three = Canvas::chord([leaf(), two], leaf());
        let error = limits.check(&three).unwrap_err();
        assert!(
            error.to_string().starts_with("header[1].chain[1].group[0]: canvases are nested more than 2"),
            "{error}"
        );
    }

    #[test]
    fn the_place_is_named_wherever_a_canvas_stands() {
        let long = || Canvas::from(Signature::new("a").unwrap().arg("0123456789").unwrap());
        let with = |add: fn(&mut Canvas, Canvas)| {
            let mut canvas = leaf();
            add(&mut canvas, leaf());
            add(&mut canvas, long());
            Canvas::chord([leaf(), Canvas::chain([leaf(), canvas])], leaf())
        };
        let body = Canvas::chord([leaf()], Canvas::group([leaf(), long()]));
        let mut callback = leaf();
        callback.link(Canvas::group([leaf()]));
        let after = Canvas::chain([callback, long()]);
        for (canvas, place) in [
            (long(), "canvas"),
            (with(Canvas::link), "header[1].chain[1].link[1]"),
            (with(Canvas::link_error), "header[1].chain[1].link_error[1]"),
            (with(Canvas::finally), "header[1].chain[1].finally[1]"),
            (body, "body.group[1]"),
            (after, "chain[1]"),
        ] {
            let limits = Limits { argument_bytes_max: 10, ..Limits::default() };
            let Err(LimitError::ArgumentBytes { path, .. }) = limits.check(&canvas) else {
                panic!("{place}: it is too long");
            };
            assert_eq!(path.to_string(), place);
        }
    }

    #[test]
    fn callbacks_count_as_nodes() {
        let mut canvas = leaf();
        canvas.link(leaf());
        canvas.link_error(Canvas::group([leaf(), leaf()]));
        assert_eq!(Limits { nodes_max: 4, ..Limits::default() }.check(&canvas), Ok(()));
        assert_eq!(
            Limits { nodes_max: 3, ..Limits::default() }.check(&canvas),
            Err(LimitError::Nodes { max: 3 })
        );
    }

    #[test]
    fn a_hundred_thousand_levels_are_refused_without_recursion() {
        let mut canvas = leaf();
        for _ in 0..100_000 {
            canvas = Canvas::chain([canvas]);
        }
        assert!(matches!(Limits::default().check(&canvas), Err(LimitError::Depth { .. })));
        assert_eq!(Limits::default().check_depth(&canvas), Limits::default().check(&canvas));
        canvas.take_apart();
    }

    #[test]
    fn long_arguments_are_refused_with_their_place() {
        let limits = Limits { argument_bytes_max: 10, ..Limits::default() };
        let long = Canvas::from(Signature::new("a").unwrap().arg("0123456789").unwrap());
        let error = limits.check(&Canvas::group([leaf(), long])).unwrap_err();
        assert!(error.to_string().starts_with("group[1]: the arguments have 12 bytes"), "{error}");
    }

    #[test]
    fn arguments_are_counted_as_they_are_written_without_their_brackets() {
        let check = |leaf: Signature, args: &str, kwargs: &str| {
            let bytes = argument_bytes(args.len() as u64, kwargs.len() as u64) as usize;
            let check =
                |max| Limits { argument_bytes_max: max, ..Limits::default() }.check(&leaf.clone().into());
            assert_eq!(check(bytes), Ok(()), "{args} {kwargs}");
            if let Some(max) = bytes.checked_sub(1) {
                let expect = LimitError::ArgumentBytes { path: Path::default(), bytes, max };
                assert_eq!(check(max), Err(expect), "{args} {kwargs}");
            }
        };
        let leaf = || Signature::new("a").unwrap();
        let named = |mut leaf: Signature, name: &str, value: &str| {
            leaf.kwargs.insert(name.to_owned(), Json::string(value));
            leaf
        };
        check(leaf(), "[]", "{}");
        check(leaf().arg("0123").unwrap().arg(7).unwrap(), r#"["0123",7]"#, "{}");
        check(named(leaf(), "x", "ü"), "[]", r#"{"x":"ü"}"#);
        let two = named(named(leaf().arg(1).unwrap(), "é", ""), "a\"\n", "b");
        check(two, "[1]", r#"{"a\"\n":"b","é":""}"#);
    }
}
