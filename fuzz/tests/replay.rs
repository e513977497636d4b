//! The corpora, replayed.

use celeriac_fuzz::{TARGETS, read_corpus};

#[test]
fn every_input_of_the_corpora_keeps_the_promises() {
    for target in TARGETS {
        for (name, input) in read_corpus(target.name).unwrap() {
            println!("{} {name}", target.name);
            target.run(&input);
        }
    }
}

/// A change of format would leave a corpus of which nothing is read any more.
#[test]
fn every_corpus_holds_inputs_that_are_read_and_inputs_that_are_refused() {
    for target in TARGETS {
        let corpus = read_corpus(target.name).unwrap();
        let accepted = corpus.iter().filter(|(_, input)| target.run(input).accepted).count();
        let refused = corpus.len() - accepted;
        assert!(accepted >= 15 && refused >= 3, "{}: {accepted} read, {refused} refused", target.name);
    }
}
