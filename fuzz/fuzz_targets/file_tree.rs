#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| btget_fuzz::file_tree(bytes));
