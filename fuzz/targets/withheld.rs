#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| adit_fuzz::withheld(octets));
