//! The store against a plain reference model, and its properties one by one.

mod behaviours;
mod drive;
mod operations;
mod reference;

use proptest::prelude::*;

proptest! {
    // `PROPTEST_CASES` scales it.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_the_reference_does(ops in prop::collection::vec(operations::op(), 1..300)) {
        drive::run(&ops);
    }

    #[test]
    fn names_behave_as_in_the_reference(ops in prop::collection::vec(operations::name_op(), 1..300)) {
        drive::run(&ops);
    }

    #[test]
    fn content_behaves_as_in_the_reference(ops in prop::collection::vec(operations::content_op(), 1..150)) {
        drive::run(&ops);
    }
}
