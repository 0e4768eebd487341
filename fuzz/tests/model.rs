//! The model beside the machines, on every run of the tests: the same choices as the fuzzer's, made by proptest.

use proptest::{collection::vec, prelude::*};

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn two_sides_over_many_links_do_what_the_model_says(octets in vec(any::<u8>(), 0..2_000)) {
        adit_fuzz::model(&octets);
    }
}
