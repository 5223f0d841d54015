//! Words that several messages share.

use std::time::Duration;

use crate::text::{Time, escape};

/// What kind of message a packet is.
pub(super) fn packet_type(packet: &serde_json::Value) -> String {
    escape(packet.get("type").and_then(|kind| kind.as_str()).unwrap_or("message")).into_owned()
}

/// A short time to a tenth of a second, a longer one as people say it.
pub(super) fn seconds(elapsed: f64) -> String {
    match elapsed {
        few if few < 10.0 => format!("{few:.1}s"),
        many => Time(Duration::try_from_secs_f64(many).unwrap_or(Duration::MAX)).to_string(),
    }
}
