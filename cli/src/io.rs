//! The streams a command uses, so that tests can bring their own.

use std::borrow::Cow;
use std::fmt;
use std::io::{ErrorKind, IsTerminal, Read, Write};

use crate::backend::without_users;
use crate::exit::{Exit, Stop};
use crate::signals::Signals;

/// Where a command reads and writes.
pub struct Io<'a> {
    pub(crate) stdin: &'a mut (dyn Read + Send),
    pub(crate) stdout: &'a mut (dyn Write + Send),
    pub(crate) stderr: &'a mut (dyn Write + Send),
    pub(crate) shows_progress: bool,
    pub(crate) signals: Signals<'a>,
}

impl<'a> Io<'a> {
    /// These streams, without a progress bar, logs and signals.
    pub fn new(
        stdin: &'a mut (dyn Read + Send),
        stdout: &'a mut (dyn Write + Send),
        stderr: &'a mut (dyn Write + Send),
    ) -> Self {
        Self { stdin, stdout, stderr, shows_progress: false, signals: Signals::None }
    }

    /// This process' streams: a progress bar when stderr is a terminal, logs, and the process'
    /// signals.
    pub(crate) fn process(
        stdin: &'a mut (dyn Read + Send),
        stdout: &'a mut (dyn Write + Send),
        stderr: &'a mut (dyn Write + Send),
    ) -> Self {
        let shows_progress = std::io::stderr().is_terminal();
        Self { stdin, stdout, stderr, shows_progress, signals: Signals::Process(None) }
    }

    /// Whether these are this process' own.
    pub(crate) fn is_process(&self) -> bool {
        matches!(self.signals, Signals::Process(_))
    }

    /// The same, stopped as by Ctrl-C when this is ready.
    #[must_use]
    pub fn interrupt(mut self, interrupt: impl Future<Output = ()> + Send + 'a) -> Self {
        self.signals = Signals::Once(Box::pin(interrupt));
        self
    }

    /// Writes to stdout, with nothing in it that a terminal would obey. A reader that has gone away
    /// is no error: it had enough. JSON goes through [`harmless_json`] before, so that it stays
    /// JSON.
    pub(crate) fn print(&mut self, text: &str) -> Result<Exit, Stop> {
        let text = harmless(text);
        match self.stdout.write_all(text.as_bytes()).and_then(|()| self.stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Stop::new(Exit::Io, format!("stdout cannot be written: {error}")))
            }
            _ => Ok(Exit::Ok),
        }
    }

    /// Writes to stderr, likewise. When that fails there is nobody left to tell.
    pub(crate) fn say(&mut self, text: &str) {
        let text = harmless(text);
        let _ = self.stderr.write_all(text.as_bytes()).and_then(|()| self.stderr.flush());
    }

    /// Writes an error to stderr, without passwords.
    pub(crate) fn complain(&mut self, message: &str) {
        self.say(&format!("error: {}\n", without_users(message)));
    }
}

/// The text with nothing in it that a terminal would obey.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|character| is_harmful(character) && !matches!(character, '\n' | '\t')) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => out.push(character),
            _ if is_harmful(character) => out.extend(character.escape_unicode()),
            _ => out.push(character),
        }
    }
    out.into()
}

/// The same on one line: what others have written ends no line of ours.
pub(crate) fn one_line(text: &str) -> String {
    harmless(text).replace('\n', "\\n").replace('\t', " ")
}

/// JSON that means the same, with nothing in it that a terminal would obey or show in another order.
pub(crate) fn harmless_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(is_harmful) {
        return json.into();
    }
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if is_harmful(character) {
            // Such characters stand in texts only.
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(character);
        }
    }
    out.into()
}

fn is_harmful(character: char) -> bool {
    character.is_control() || is_invisible(character)
}

/// Marks that have no width, or turn the direction of what follows.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("shows_progress", &self.shows_progress).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ESC, the control sequence introducer, marks that turn the direction, have no width or are
    /// tags, and a soft hyphen.
    const MARKS: [char; 12] = [
        '\u{1b}',
        '\u{9b}',
        '\u{7f}',
        '\r',
        '\u{8}',
        '\u{202e}',
        '\u{2066}',
        '\u{200b}',
        '\u{feff}',
        '\u{2028}',
        '\u{e0041}',
        '\u{ad}',
    ];

    #[test]
    fn nothing_that_a_terminal_obeys_gets_out() {
        for mark in MARKS {
            let text = format!("a{mark}b\n\tc");
            let (mut out, mut err) = (Vec::new(), Vec::new());
            {
                let mut stdin = std::io::empty();
                let mut io = Io::new(&mut stdin, &mut out, &mut err);
                io.print(&text).unwrap();
                io.say(&text);
                io.complain(&text);
            }
            for written in [&out, &err] {
                let written = String::from_utf8_lossy(written);
                assert!(!written.contains(mark) && written.contains("\n\tc"), "{written:?}");
            }
            assert_eq!(one_line(&text).lines().count(), 1, "{mark:?}");
        }
    }

    #[test]
    fn escaped_json_means_the_same_and_is_printed_as_it_is() {
        for mark in MARKS {
            let text = format!("{mark}é\u{1F600}");
            let json = serde_json::to_string(&[&text]).unwrap();
            let shown = harmless_json(&json);
            assert!(!shown.contains(mark) && harmless(&shown) == shown, "{shown}");
            assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [text]);
        }
    }
}
