//! Every input of the corpora, as an ordinary test: those that the fuzzers kept because each reaches something the others
//! do not, and those that once found a defect.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use asynchrotron_fuzz::TARGETS;

#[test]
fn every_input_of_the_corpora() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, run) in TARGETS {
        let mut inputs: Vec<_> = fs::read_dir(corpora.join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for path in inputs {
            let input = fs::read(&path).unwrap();
            assert!(catch_unwind(|| run(&input)).is_ok(), "{}", path.display());
        }
    }
}

#[test]
fn every_corpus_has_a_target() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut found: Vec<_> = fs::read_dir(corpora)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, TARGETS.map(|(name, _)| name));
}
