//! Any bytes as a `profiles.json` and a request's body.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| token_mint_fuzz::profile(data));
