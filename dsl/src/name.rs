//! Task names at compile time.

/// How many bytes [`dotted`] returns for this path.
pub const fn dotted_len(path: &str) -> usize {
    let bytes = path.as_bytes();
    let (mut i, mut len) = (0, 0);
    while i < bytes.len() {
        i += step(bytes, i);
        len += 1;
    }
    len
}

/// A module path with dots: `proj::tasks::add` is `proj.tasks.add`.
pub const fn dotted<const LEN: usize>(path: &str) -> [u8; LEN] {
    let bytes = path.as_bytes();
    let mut name = [0; LEN];
    let (mut i, mut len) = (0, 0);
    while i < bytes.len() {
        name[len] = if bytes[i] == b':' { b'.' } else { bytes[i] };
        i += step(bytes, i);
        len += 1;
    }
    name
}

/// How many bytes stand for the next byte of the name: `::`, or `::r#`, is one dot.
const fn step(bytes: &[u8], i: usize) -> usize {
    if bytes[i] != b':' {
        1
    } else if i + 3 < bytes.len() && bytes[i + 2] == b'r' && bytes[i + 3] == b'#' {
        4
    } else {
        2
    }
}

/// A checked name; breaks the build when it is none.
pub const fn checked(name: &[u8]) -> &str {
    assert!(
        name.len() <= 255,
        "this task's name is longer than 255 characters: give it a shorter one, #[task(name = \"proj.tasks.add\")]"
    );
    let mut i = 0;
    while i < name.len() {
        assert!(
            name[i].is_ascii(),
            "this task's path is not ASCII: give the task a name, #[task(name = \"proj.tasks.add\")]"
        );
        i += 1;
    }
    match str::from_utf8(name) {
        Ok(name) => name,
        Err(_) => panic!("ASCII is UTF-8"),
    }
}

/// Whether the name at this place stands in the list before it.
pub const fn is_repeated<T: Copy>(entries: &[(&str, T)], place: usize) -> bool {
    let mut i = 0;
    while i < place {
        if equal(entries[i].0.as_bytes(), entries[place].0.as_bytes()) {
            return true;
        }
        i += 1;
    }
    false
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_path_becomes_a_dotted_name() {
        const PATH: &str = "proj::r#mod::tasks::add";
        const NAME: [u8; dotted_len(PATH)] = dotted(PATH);
        assert_eq!(checked(&NAME), "proj.mod.tasks.add");
        assert_eq!(checked(&dotted::<3>("add")), "add");
    }

    #[test]
    fn a_repeated_name_is_found_at_its_second_place() {
        let entries = ["a", "b", "aa", "b"].map(|name| (name, ()));
        assert_eq!((0..4).filter(|i| is_repeated(&entries, *i)).collect::<Vec<_>>(), [3]);
    }
}
