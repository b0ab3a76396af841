//! The corpus: one input for each path through the code that libFuzzer found, and each input that once caused a failure.

use std::{fs, panic::catch_unwind, path::Path};

use token_mint_fuzz::{body, event, profile};

#[test]
fn the_properties_hold_for_the_whole_corpus() {
    for (name, holds) in [("event", event as fn(&[u8])), ("body", body), ("profile", profile)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let inputs: Vec<_> = fs::read_dir(folder).unwrap().map(|input| input.unwrap().path()).collect();
        assert!(!inputs.is_empty(), "{name} has a corpus");
        let breaks = |input: &&_| catch_unwind(|| holds(&fs::read(input).unwrap())).is_err();
        let breaking: Vec<_> = inputs.iter().filter(breaks).collect();
        assert!(breaking.is_empty(), "{name} is broken by {breaking:?}");
    }
}
