#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| btget_fuzz::http_answer(bytes));
