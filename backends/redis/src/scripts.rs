//! The Lua scripts: constant text; data only in their arguments.
//!
//! Each is one atomic step with bounded work. When Redis has lost a script (it restarted, or somebody flushed
//! them), the call brings its text.

use std::sync::LazyLock;

use crate::invocation::Script;

/// How many entries one script handles at most: about 5 ms of work, during which Redis does nothing else.
pub(crate) const SLICE: usize = 500;

/// And so many bytes: what waits behind a larger command on a slow link would wait for long.
pub(crate) const SLICE_BYTES: usize = 1024 * 1024;

/// So many values are read by one command: each is as long as one that travels with its report, at most.
pub(crate) const READ_SLICE: usize = 64;

/// Items in slices that one command can carry.
pub(crate) fn slices<T>(mut items: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut slices = Vec::with_capacity(items.len() / SLICE + 1);
    while !items.is_empty() {
        let (mut count, mut all) = (0, 0);
        while count < items.len().min(SLICE) && (count == 0 || all + bytes(&items[count]) <= SLICE_BYTES) {
            all += bytes(&items[count]);
            count += 1;
        }
        let (slice, rest) = items.split_at(count);
        slices.push(slice);
        items = rest;
    }
    slices
}

/// The same script for what belongs to an accepted run: it may pass `maxmemory`.
fn allowed(text: &str, part: &str) -> String {
    let rest = text.strip_prefix("#!lua\n").expect("a script that may not has no flags");
    format!("#!lua flags=allow-oom\n{part}{rest}")
}

macro_rules! scripts {
    ($($name:ident $file:literal $(+ $part:literal)*)*) => {
        $(pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(&texts::$name()));)*

        #[expect(non_snake_case, reason = "each is named like its script")]
        mod texts {
            $(pub(super) fn $name() -> String {
                let text = include_str!(concat!("scripts/", $file));
                super::script(text, concat!($(include_str!(concat!("scripts/", $part))),*))
            })*
        }

        /// The text of the script that Redis knows by this hash.
        pub(crate) fn text_of(hash: &str) -> Option<String> {
            $(if $name.digest() == hash {
                return Some(texts::$name());
            })*
            [(&SUBMIT_SEGMENT, submit_segment as fn() -> String), (&STAGE_SEGMENT, stage_segment), (&PUBLISH_SEGMENT, publish_segment)]
                .into_iter()
                .find(|(script, _)| script.digest() == hash)
                .map(|(_, text)| text())
        }

        /// Those hashes.
        #[cfg(test)]
        pub(crate) fn hashes() -> impl Iterator<Item = &'static str> {
            [$($name.digest()),*].into_iter()
        }

        /// Each script, and the parts that are put into it.
        #[cfg(test)]
        const ALL: &[(&str, &[&str])] = &[$(($file, &[$($part),*])),*];
    };
}

/// Where a script has what it shares with others, when it is not needed every time: each call makes functions
/// anew.
const PARTS: &str = "-- (parts)\n";

/// A script, with what it shares with others where it says so, or after its first line, which must stay the
/// first.
fn script(text: &str, part: &str) -> String {
    if text.contains(PARTS) {
        return text.replace(PARTS, part);
    }
    let (first, rest) = text.split_once('\n').expect("a script has more than one line");
    format!("{first}\n{part}{rest}")
}

scripts! {
    AGE "age.lua"
    CLOCK "clock.lua"
    DATE "date.lua"
    INTEND "intend.lua"
    SUBMIT "submit.lua" + "meta.lua" + "wake.lua"
    PUBLISH "publish.lua" + "meta.lua"
    STATES "states.lua"
    PLAN "plan.lua"
    SEGMENTS "segments.lua"
    STAGE "stage.lua"
    WRITE "write.lua"
    LETTER "letter.lua"
    ASIDE "aside.lua"
    ANNOUNCE "announce.lua"
    OVERDUE "overdue.lua"
    SETTLE "settle.lua" + "meta.lua" + "remove.lua" + "wake.lua"
    DISPATCH "dispatch.lua" + "meta.lua" + "head.lua" + "put.lua" + "wake.lua"
    CLAIM "claim.lua" + "meta.lua"
    ENQUEUE "enqueue.lua" + "head.lua" + "put.lua" + "channel.lua"
    BEGIN "begin.lua" + "held.lua" + "meta.lua" + "mark.lua"
    ONCE "once.lua" + "meta.lua" + "mark.lua"
    POSTPONE "postpone.lua" + "held.lua" + "head.lua"
    FIRE "fire.lua" + "channel.lua" + "wake.lua"
    DUE "due.lua"
    HEADS "heads.lua" + "head.lua"
    LOST "lost.lua" + "meta.lua"
    NOTE "note.lua"
    QUIET "quiet.lua"
    DROP "drop.lua"
    UNNOTE "unnote.lua"
    PROGRESS "progress.lua" + "meta.lua"
    BURY "bury.lua"
    UNSET "unset.lua" + "head.lua"
    LIFT "lift.lua"
    FORGET "forget.lua" + "meta.lua"
    KEEP "keep.lua" + "meta.lua"
    DISCARD "discard.lua"
    GROW "grow.lua" + "meta.lua"
    TAKE "take.lua" + "held.lua" + "head.lua"
    HAND_BACK "hand_back.lua" + "held.lua" + "channel.lua"
    RENEW "renew.lua" + "held.lua"
    FINISH "finish.lua" + "remove.lua"
    ACKNOWLEDGE "acknowledge.lua" + "remove.lua"
    RETIRE "retire.lua"
    TIDY "tidy.lua"
    LOOK "look.lua"
    SWEEP "sweep.lua" + "head.lua" + "channel.lua"
    GATHER "gather.lua" + "channel.lua"
    PASS_ON "pass_on.lua" + "wake.lua"
    PRIMARY "primary.lua"
}

/// Whether a script only reads, so that a replica takes it as well.
pub(crate) fn only_reads(script: &'static Script) -> bool {
    [&DUE, &HEADS, &LOOK, &PLAN, &SEGMENTS, &STATES, &CLOCK]
        .iter()
        .any(|reading| std::ptr::eq::<Script>(&***reading, script))
}

/// Submitting what runs in the place of a leaf: that is a part of bringing an accepted run to its end.
pub(crate) static SUBMIT_SEGMENT: LazyLock<Script> = LazyLock::new(|| Script::new(&submit_segment()));
pub(crate) static STAGE_SEGMENT: LazyLock<Script> = LazyLock::new(|| Script::new(&stage_segment()));
pub(crate) static PUBLISH_SEGMENT: LazyLock<Script> = LazyLock::new(|| Script::new(&publish_segment()));

fn submit_segment() -> String {
    allowed(
        include_str!("scripts/submit.lua"),
        concat!(include_str!("scripts/meta.lua"), include_str!("scripts/wake.lua")),
    )
}

fn stage_segment() -> String {
    allowed(include_str!("scripts/stage.lua"), "")
}

fn publish_segment() -> String {
    allowed(include_str!("scripts/publish.lua"), include_str!("scripts/meta.lua"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[usize], expect: &[usize]) {
        let lengths: Vec<usize> = slices(bytes, |bytes| *bytes).iter().map(|slice| slice.len()).collect();
        assert_eq!(lengths, expect);
    }

    fn folder() -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/scripts")
    }

    /// A file without its comments.
    fn code(file: &str) -> String {
        let text = std::fs::read_to_string(folder().join(file)).expect("it is in the folder");
        text.lines().map(|line| line.split("--").next().unwrap_or_default().to_owned() + "\n").collect()
    }

    /// Whether a name stands there by itself.
    fn names(code: &str, name: &str) -> bool {
        code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == name)
    }

    /// What a part gives to the scripts that have it: all that it makes at its outermost level.
    fn given(part: &str) -> Vec<String> {
        let made = |line: &str| {
            let made = line.strip_prefix("local ")?;
            let made = made.strip_prefix("function ").unwrap_or(made);
            let end = made.find([' ', '(', ',']).unwrap_or(made.len());
            Some(made[..end].to_owned())
        };
        code(part).lines().filter_map(made).collect()
    }

    #[test]
    fn a_script_has_the_parts_that_it_uses_and_no_others() {
        let mut parts: Vec<&str> = ALL.iter().flat_map(|(_, parts)| parts.iter().copied()).collect();
        parts.sort_unstable();
        parts.dedup();
        for (file, own) in ALL {
            let (mut whole, text) = (String::new(), code(file));
            for part in *own {
                let more: String =
                    own.iter().skip_while(|other| *other != part).skip(1).map(|p| code(p)).collect();
                let is_used = given(part).iter().any(|name| names(&text, name) || names(&more, name));
                assert!(is_used, "{file} uses nothing of {part}");
                whole += &code(part);
            }
            whole += &text;
            for part in parts.iter().filter(|part| !own.contains(part)) {
                for name in given(part) {
                    let is_own = ["local ", "local function ", "function "]
                        .iter()
                        .any(|made| whole.contains(&format!("{made}{name}")));
                    assert!(is_own || !names(&whole, &name), "{file} uses {name}, and has not {part}");
                }
            }
        }
    }

    #[test]
    fn what_only_reads_says_so() {
        let reads = |file: &str| {
            let text = std::fs::read_to_string(folder().join(file)).expect("it is in the folder");
            text.starts_with("#!lua flags=no-writes\n")
        };
        let files: Vec<&str> = ALL.iter().map(|(file, _)| *file).filter(|file| reads(file)).collect();
        assert_eq!(files.len(), 8, "{files:?}");
        assert!(
            [&DUE, &HEADS, &LOOK, &PLAN, &SEGMENTS, &STATES, &CLOCK]
                .into_iter()
                .all(|script| only_reads(script))
        );
        assert!(!only_reads(&PRIMARY) && !only_reads(&TAKE));
    }

    /// A marker that is written in another way would be a comment, and the parts would be where they cost
    /// time in every call.
    #[test]
    fn where_parts_go_is_said_once_in_the_words_that_are_known() {
        for (file, own) in ALL {
            let text = std::fs::read_to_string(folder().join(file)).expect("it is in the folder");
            let markers: Vec<&str> = text
                .split_inclusive('\n')
                .map(str::trim_start)
                .filter(|line| line.starts_with("-- ("))
                .collect();
            assert!(markers.iter().all(|marker| *marker == PARTS), "{file}: {markers:?}");
            assert!(markers.len() <= 1, "{file} says twice where its parts go");
            assert!(markers.is_empty() || !own.is_empty(), "{file} has no parts");
        }
    }

    #[test]
    fn every_file_is_a_script_or_a_part_of_one() {
        for entry in std::fs::read_dir(folder()).expect("there is a folder") {
            let file = entry.expect("it can be read").file_name().into_string().expect("a plain name");
            assert!(
                ALL.iter().any(|(name, parts)| *name == file || parts.contains(&&*file)),
                "{file} is unused"
            );
        }
    }

    #[test]
    fn what_one_command_carries_is_bounded_by_number_and_by_bytes() {
        check(&[], &[]);
        check(&[1; 1001], &[500, 500, 1]);
        check(&[SLICE_BYTES / 2; 5], &[2, 2, 1]);
        check(&[10 * SLICE_BYTES, 1, 1, 10 * SLICE_BYTES], &[1, 2, 1]);
    }
}
