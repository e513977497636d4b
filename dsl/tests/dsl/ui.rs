//! One file per mistake in `tests/ui`, with what the compiler says about it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The compiler whose messages stand beside the cases. Others word their part of them in other ways.
const WRITTEN_FOR: &str = "rustc 1.95.";

/// Set for a second call of this program, with the folder that holds the cases then.
const CASES: &str = "CELERIAC_UI_CASES";

#[test]
fn every_mistake_is_explained_in_the_users_words() {
    let same_words = rustc_version().starts_with(WRITTEN_FOR);
    let cases = std::env::var(CASES).unwrap_or_else(|_| "tests/ui".to_owned());
    if same_words || cases != "tests/ui" {
        let run = trybuild::TestCases::new();
        run.compile_fail(format!("{cases}/*.rs"));
        run.pass("tests/ui/pass/*.rs");
        return;
    }
    // Another compiler: that each mistake is refused can still be held, its words cannot.
    let me = std::env::current_exe().expect("a running program has a path");
    let mut again = Command::new(me);
    again.args(["every_mistake_is_explained_in_the_users_words", "--nocapture"]);
    let status = again.env(CASES, without_messages()).env("TRYBUILD", "overwrite").status();
    assert!(status.expect("this program can be called again").success());
}

fn rustc_version() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("there is a rustc, it built this test");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Copies of the cases alone, below the target folder.
fn without_messages() -> PathBuf {
    let copies = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ui");
    std::fs::create_dir_all(&copies).expect("the target folder can be written");
    for case in std::fs::read_dir("tests/ui").expect("the cases are there") {
        let case = case.expect("the cases can be listed").path();
        if case.extension().is_some_and(|extension| extension == "rs") {
            let name = case.file_name().expect("a listed file has a name");
            std::fs::copy(&case, copies.join(name)).expect("the target folder can be written");
        }
    }
    copies
}
