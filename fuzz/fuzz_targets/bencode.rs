//! Any bytes: decoding ends without a panic, spans tile the input, and every part of a value is a
//! value by itself.
#![no_main]

use btget::internals::bencode::{Value, decode, decode_prefix};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    match decode_prefix(bytes) {
        Ok((value, rest)) => {
            assert_eq!(value.span().len() + rest.len(), bytes.len());
            walk(value);
        }
        Err(error) => assert!(error.offset <= bytes.len() && !error.to_string().is_empty()),
    }
});

fn walk(value: Value<'_>) {
    assert_eq!(decode(value.span()), Ok(value));
    let _ = (value.as_int(), value.as_str());
    let parts = value.as_list().into_iter().flatten();
    let mut inside = 0;
    for part in parts.chain(value.as_dict().into_iter().flatten().map(|(_, part)| part)) {
        inside += part.span().len();
        walk(part);
    }
    assert!(inside <= value.span().len());
}
