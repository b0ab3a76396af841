//! Any bytes as a request's body.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| token_mint_fuzz::body(data));
