//! One file per mistake in `tests/ui`, with what the compiler says about it.

#[test]
fn every_mistake_is_explained_in_the_users_words() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
    cases.pass("tests/ui/pass/*.rs");
}
