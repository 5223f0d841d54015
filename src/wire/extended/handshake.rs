//! The handshake of the extension protocol (BEP 10): who numbers which extension how, and a few
//! facts about the peer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bendy::encoding::Encoder;

use super::super::ProtocolError;
use crate::text::escape;
use crate::{bencode, compact};

/// What we call ourselves.
pub const OUR_CLIENT: &str =
    concat!("btget ", env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

/// Requests that a peer keeps waiting, as long as it has not said `reqq` (libtorrent's number, which
/// others follow).
pub const DEFAULT_REQUEST_QUEUE: u32 = 250;

/// The greatest `reqq` that is believed: 64 MiB in flight, enough for 2 Gbit/s over 250 ms.
pub const MAX_REQUEST_QUEUE: u32 = 4096;

/// How many extensions of a peer are remembered; clients have about ten.
pub const MAX_EXTENSIONS: usize = 64;

/// The longest name of an extension that is remembered, in bytes.
pub const MAX_EXTENSION_NAME: usize = 64;

/// The most that is kept of a client's name, in characters.
pub const MAX_CLIENT_NAME: usize = 64;

/// An extension handshake: the payload of an extended message with id [`HANDSHAKE_ID`](super::HANDSHAKE_ID). Every
/// part may be missing, and a peer may send another one later that changes what it names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExtensionHandshake {
    /// `m`: the names of extensions, each with the id that its sender wants to receive it under; 0
    /// turns it off. At most [`MAX_EXTENSIONS`].
    pub extensions: Vec<(String, u8)>,
    /// `v`: name and version of the client. As decoded: at most [`MAX_CLIENT_NAME`] characters,
    /// escaped, fit to print.
    pub client: Option<String>,
    /// `p`: the TCP port that the sender listens on.
    pub port: Option<u16>,
    /// `reqq`: how many requests the sender keeps waiting. As decoded: 1 to [`MAX_REQUEST_QUEUE`].
    pub request_queue: Option<u32>,
    /// `upload_only`: whether the sender wants nothing more (BEP 21).
    pub upload_only: Option<bool>,
    /// `yourip`: the address that the sender sees us at.
    pub your_ip: Option<IpAddr>,
    /// `ipv4`: an address at which the sender can be reached, too.
    pub ipv4: Option<Ipv4Addr>,
    /// `ipv6`: an address at which the sender can be reached, too.
    pub ipv6: Option<Ipv6Addr>,
    /// `metadata_size`: bytes of the torrent's metadata (BEP 9), as the sender says, which can be anything; see
    /// [`usable_metadata_size`](super::usable_metadata_size).
    pub metadata_size: Option<i64>,
}

impl ExtensionHandshake {
    /// The payload that says this.
    pub fn encode(&self) -> Vec<u8> {
        let mut extensions = self.extensions.clone();
        extensions.sort();
        extensions.dedup_by(|later, earlier| later.0 == earlier.0);
        let mut encoder = Encoder::new();
        let encoded = encoder.emit_dict(|mut dict| {
            if let Some(ip) = self.ipv4 {
                dict.emit_pair_with(b"ipv4", |e| e.emit_bytes(&ip.octets()))?;
            }
            if let Some(ip) = self.ipv6 {
                dict.emit_pair_with(b"ipv6", |e| e.emit_bytes(&ip.octets()))?;
            }
            dict.emit_pair_with(b"m", |m| {
                m.emit_dict(|mut m| {
                    extensions.iter().try_for_each(|(name, id)| m.emit_pair(name.as_bytes(), id))
                })
            })?;
            if let Some(size) = self.metadata_size {
                dict.emit_pair(b"metadata_size", size)?;
            }
            if let Some(port) = self.port {
                dict.emit_pair(b"p", port)?;
            }
            if let Some(requests) = self.request_queue {
                dict.emit_pair(b"reqq", requests)?;
            }
            if let Some(upload_only) = self.upload_only {
                dict.emit_pair(b"upload_only", u8::from(upload_only))?;
            }
            if let Some(client) = &self.client {
                dict.emit_pair(b"v", client.as_str())?;
            }
            let Some(ip) = self.your_ip else { return Ok(()) };
            let mut bytes = Vec::new();
            compact::write_ip(ip, &mut bytes);
            dict.emit_pair_with(b"yourip", |e| e.emit_bytes(&bytes))
        });
        encoded.and_then(|()| encoder.get_output()).expect("the keys are sorted, distinct and shallow")
    }

    /// The address of the other family at which the sender says it can be reached, where it is connected by `ip`.
    pub fn ip_beside(&self, ip: IpAddr) -> Option<IpAddr> {
        match ip.to_canonical() {
            IpAddr::V4(_) => self.ipv6.map(IpAddr::from),
            IpAddr::V6(_) => self.ipv4.map(IpAddr::from),
        }
    }

    /// Reads a payload. What is there but makes no sense is taken as missing, and what we do not
    /// know is skipped; bytes after the dictionary are ignored.
    ///
    /// # Errors
    ///
    /// If the payload is not a dictionary.
    pub fn decode(payload: &[u8]) -> Result<ExtensionHandshake, ProtocolError> {
        let malformed = |reason: String| ProtocolError::Malformed { message: "extension handshake", reason };
        let (value, _) = bencode::decode_prefix(payload).map_err(|error| malformed(error.to_string()))?;
        let dict = value.as_dict().ok_or_else(|| malformed(format!("{} is no dictionary", value.kind())))?;
        let mut handshake = ExtensionHandshake::default();
        for (key, value) in dict {
            match key {
                b"ipv4" => {
                    handshake.ipv4 =
                        value.as_bytes().and_then(|ip| <[u8; 4]>::try_from(ip).ok()).map(Into::into)
                }
                b"ipv6" => {
                    handshake.ipv6 =
                        value.as_bytes().and_then(|ip| <[u8; 16]>::try_from(ip).ok()).map(Into::into)
                }
                b"m" => handshake.extensions = extensions(value),
                b"metadata_size" => handshake.metadata_size = super::integer(value),
                b"p" => {
                    handshake.port = value.as_int().and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
                }
                b"reqq" => {
                    let clamped = |requests: i64| requests.clamp(1, i64::from(MAX_REQUEST_QUEUE)) as u32;
                    handshake.request_queue = value.as_int().map(clamped);
                }
                b"upload_only" => handshake.upload_only = value.as_int().map(|number| number != 0),
                b"v" => handshake.client = value.as_bytes().map(client_name).filter(|name| !name.is_empty()),
                b"yourip" => handshake.your_ip = value.as_bytes().and_then(address),
                _ => {}
            }
        }
        Ok(handshake)
    }
}

fn extensions(m: bencode::Value<'_>) -> Vec<(String, u8)> {
    let entries = m.as_dict().into_iter().flatten();
    let known = entries.filter_map(|(name, id)| {
        let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= MAX_EXTENSION_NAME)?;
        Some((name.to_owned(), u8::try_from(id.as_int()?).ok()?))
    });
    known.take(MAX_EXTENSIONS).collect()
}

fn client_name(bytes: &[u8]) -> String {
    // Four bytes make a character at the most, so no more of them need to be looked at.
    let bytes = &bytes[..bytes.len().min(4 * MAX_CLIENT_NAME)];
    let text: String = String::from_utf8_lossy(bytes).chars().take(MAX_CLIENT_NAME).collect();
    escape(text.trim()).into_owned()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    compact::read_ip(bytes).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id_of(handshake: &ExtensionHandshake, name: &str) -> Option<u8> {
        let mut theirs = crate::wire::extended::PeerExtensions::default();
        theirs.update(handshake);
        theirs.id_of(name)
    }

    fn addresses() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(|v6| IpAddr::from(v6).to_canonical()),
        ]
    }

    proptest! {
        #[test]
        fn a_handshake_is_read_as_it_was_written(
            extensions in prop::collection::btree_map("[a-z_]{1,20}", any::<u8>(), 0..10),
            client in prop::option::of("[a-zA-Z0-9.]{1,64}"),
            port in prop::option::of(1u16..),
            request_queue in prop::option::of(1..=MAX_REQUEST_QUEUE),
            upload_only in any::<Option<bool>>(),
            your_ip in prop::option::of(addresses()),
            (ipv4, ipv6) in any::<(Option<[u8; 4]>, Option<[u8; 16]>)>(),
            metadata_size: Option<i64>,
        ) {
            let handshake = ExtensionHandshake {
                extensions: extensions.into_iter().collect(),
                client,
                port,
                request_queue,
                upload_only,
                your_ip,
                ipv4: ipv4.map(Ipv4Addr::from),
                ipv6: ipv6.map(Ipv6Addr::from),
                metadata_size,
            };
            prop_assert_eq!(ExtensionHandshake::decode(&handshake.encode()), Ok(handshake));
        }

        #[test]
        fn random_bytes_never_panic_and_stay_in_bounds(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            value in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let _ = ExtensionHandshake::decode(&bytes);
            let mut odd = b"d1:mi5e1:v".to_vec();
            odd.extend(format!("{}:", value.len()).bytes());
            odd.extend(&value);
            odd.extend(b"6:yourip3:abc4:reqqi-7e1:pi99999999999ee");
            let read = ExtensionHandshake::decode(&odd).unwrap();
            prop_assert_eq!((read.port, read.your_ip, read.request_queue), (None, None, Some(1)));
            prop_assert!(read.extensions.is_empty());
            let client = read.client.unwrap_or_default();
            prop_assert!(!client.chars().any(char::is_control));
            // The longest escape has nine characters.
            prop_assert!(client.len() <= MAX_CLIENT_NAME * 9);
        }
    }

    #[test]
    fn what_libtorrent_sends_is_understood() {
        let payload = b"d12:complete_agoi1e1:md11:lt_donthavei7e10:share_modei8e11:upload_onlyi3e\
            12:ut_holepunchi4e11:ut_metadatai2e6:ut_pexi1ee13:metadata_sizei132e1:pi6881e4:reqqi2000e\
            1:v17:libtorrent/2.0.116:yourip4:\x7f\x00\x00\x01e";
        let read = ExtensionHandshake::decode(payload).unwrap();
        assert_eq!(read.client.as_deref(), Some("libtorrent/2.0.11"));
        assert_eq!((read.port, read.request_queue), (Some(6881), Some(2000)));
        assert_eq!(read.your_ip, Some(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(read.metadata_size, Some(132));
        assert_eq!(
            (id_of(&read, "ut_pex"), id_of(&read, "ut_metadata"), id_of(&read, "x")),
            (Some(1), Some(2), None)
        );
    }

    #[test]
    fn ours_says_what_we_are() {
        let ours = ExtensionHandshake {
            client: Some(OUR_CLIENT.to_owned()),
            request_queue: Some(500),
            your_ip: Some(IpAddr::from([10, 0, 0, 7])),
            ..ExtensionHandshake::default()
        };
        let expected =
            [&b"d1:mde4:reqqi500e1:v9:"[..], OUR_CLIENT.as_bytes(), b"6:yourip4:\x0a\x00\x00\x07e"];
        assert_eq!(ours.encode(), expected.concat());
    }

    #[test]
    fn a_peer_with_a_thousand_extensions_costs_no_more_than_the_bound() {
        let names: String = (0..1000).map(|number| format!("4:{number:04}i1e")).collect();
        let read = ExtensionHandshake::decode(format!("d1:md{names}ee").as_bytes()).unwrap();
        assert_eq!(read.extensions.len(), MAX_EXTENSIONS);
        let long = "n".repeat(MAX_EXTENSION_NAME + 1);
        let read = ExtensionHandshake::decode(format!("d1:md65:{long}i1eee").as_bytes()).unwrap();
        assert!(read.extensions.is_empty());
    }

    #[test]
    fn an_extension_that_was_turned_off_has_no_id() {
        let read = ExtensionHandshake::decode(b"d1:md6:ut_pexi0eee").unwrap();
        assert_eq!((id_of(&read, "ut_pex"), read.extensions.len()), (None, 1));
    }

    #[test]
    fn addresses_of_a_wrong_length_are_none_and_a_size_is_taken_as_it_is() {
        let read = ExtensionHandshake::decode(
            b"d4:ipv45:\x01\x02\x03\x04\x054:ipv64:\x01\x02\x03\x0413:metadata_sizei-3ee",
        );
        let read = read.unwrap();
        assert_eq!((read.ipv4, read.ipv6, read.metadata_size), (None, None, Some(-3)));
        let read = ExtensionHandshake::decode(b"d4:ipv44:\x01\x02\x03\x0413:metadata_size2:12e").unwrap();
        assert_eq!((read.ipv4, read.metadata_size), (Some(Ipv4Addr::new(1, 2, 3, 4)), None));
        let read = ExtensionHandshake::decode(b"d13:metadata_sizei99999999999999999999ee").unwrap();
        assert_eq!(read.metadata_size, Some(i64::MAX));
    }

    #[test]
    fn what_is_no_dictionary_is_refused() {
        for (payload, expected) in [
            (&b"li1ee"[..], "extension handshake message is malformed: a list is no dictionary"),
            (b"", "extension handshake message is malformed: truncated: ends after 0 bytes inside a value"),
        ] {
            assert_eq!(ExtensionHandshake::decode(payload).unwrap_err().to_string(), expected);
        }
    }
}
