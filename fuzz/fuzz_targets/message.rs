//! `cargo fuzz run message --features libfuzzer`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    celeriac_fuzz::message(data);
});
