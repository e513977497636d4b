//! `cargo fuzz run canvas_json --features libfuzzer`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    celeriac_fuzz::canvas_json(data);
});
