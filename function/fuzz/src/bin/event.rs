//! Any bytes as Lambda's event.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| token_mint_fuzz::event(data));
