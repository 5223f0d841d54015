//! KRPC (BEP 5): what stands in a packet that comes in, and the packets of our own queries.
//!
//! Reads leniently what strangers write, and judges nothing but shapes: whether an id is believed or a token is right is not for it to
//! say. Answers are written by [`super::reply`].

use std::net::SocketAddr;

use bendy::encoding::{Encoder, Error, SingleItemEncoder};

use super::api::Family;
use super::node_id::NodeId;
use crate::bencode::{self, Dict, List, Value, ValueKind};
use crate::ids::WireHash;

/// Bytes of a transaction id that is echoed; a query with a longer one is not answered.
pub(super) const MAX_TRANSACTION_ID: usize = 64;

/// Bytes of a token that is believed, so that what we send back stays small. Other clients give 4 to 20.
const MAX_TOKEN: usize = 64;

/// Who we are, in the key `v` of queries: two letters and a version (BEP 5, BEP 20).
const VERSION: &[u8] = b"bg\0\x01";

/// What kept a query from being answered, as BEP 5 and 44 number it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    pub(super) code: u16,
    /// For people.
    pub(super) reason: &'static str,
}

impl Refusal {
    /// The packet or its arguments are malformed, or the token is wrong.
    pub(super) const fn protocol(reason: &'static str) -> Refusal {
        Refusal { code: 203, reason }
    }

    /// No such query is known.
    pub(super) const UNKNOWN_METHOD: Refusal = Refusal { code: 204, reason: "unknown method" };
}

/// A packet that can be answered, or is an answer.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    /// The transaction id; as long as it may be.
    pub(super) transaction_id: &'a [u8],
    /// The key `ip`: the receiver's address as the sender sees it (BEP 42), as it stands.
    pub(super) ip: Option<&'a [u8]>,
    pub(super) body: Body<'a>,
}

#[derive(Debug)]
pub(super) enum Body<'a> {
    Query(Query<'a>),
    /// A query that cannot be understood.
    BadQuery(Refusal),
    Response(Response<'a>),
    /// The sender refuses, or its response has no id: for whoever asked both are a failure.
    Error,
}

/// A query.
#[derive(Debug)]
pub(super) struct Query<'a> {
    pub(super) id: NodeId,
    /// The sender is read-only (BEP 43).
    pub(super) read_only: bool,
    /// Which nodes are wanted (BEP 32): those of IPv4, those of IPv6. `None`: those of the sender's own family.
    pub(super) want: Option<[bool; 2]>,
    pub(super) method: Method<'a>,
}

#[derive(Debug)]
pub(super) enum Method<'a> {
    Ping,
    FindNode {
        target: NodeId,
    },
    GetPeers {
        hash: WireHash,
        no_seeds: bool,
        scrape: bool,
    },
    /// Without a port, that of the packet counts.
    AnnouncePeer {
        hash: WireHash,
        port: Option<u16>,
        token: &'a [u8],
        seed: bool,
    },
    Get {
        target: NodeId,
        seq: Option<i64>,
    },
    Put(Put<'a>),
    SampleInfohashes {
        target: NodeId,
    },
}

/// An item to store (BEP 44).
#[derive(Debug)]
pub(super) struct Put<'a> {
    pub(super) token: &'a [u8],
    pub(super) value: Value<'a>,
    /// `None`: an immutable item.
    pub(super) signed: Option<Signed<'a>>,
}

/// What a mutable item has besides its value.
#[derive(Debug)]
pub(super) struct Signed<'a> {
    pub(super) key: &'a [u8],
    pub(super) signature: &'a [u8],
    pub(super) seq: i64,
    pub(super) salt: &'a [u8],
    pub(super) cas: Option<i64>,
}

/// A response. Nodes and peers are read as far as somebody looks at them.
#[derive(Debug)]
pub(super) struct Response<'a> {
    pub(super) id: NodeId,
    pub(super) token: Option<&'a [u8]>,
    nodes: &'a [u8],
    nodes6: &'a [u8],
    values: List<'a>,
}

impl<'a> Response<'a> {
    /// The nodes of a family, in the order in which they stand. A rest that is no whole node is ignored.
    pub(super) fn nodes(&self, family: Family) -> impl Iterator<Item = (NodeId, SocketAddr)> + use<'a> {
        let bytes = match family {
            Family::V4 => self.nodes,
            Family::V6 => self.nodes6,
        };
        bytes.chunks_exact(family.node_length()).filter_map(move |node| family.read_node(node))
    }

    /// The peers of a family. Besides one string for each, as BEP 5 wants it, one string of many is understood: some clients send it.
    pub(super) fn values(&self, family: Family) -> impl Iterator<Item = SocketAddr> + use<'a> {
        let length = family.address_length();
        let strings = self.values.filter_map(|value| value.as_bytes());
        let whole = strings.filter(move |bytes| bytes.len() % length == 0);
        whole
            .flat_map(move |bytes| bytes.chunks_exact(length))
            .filter_map(move |peer| family.read_address(peer))
    }
}

/// Reads a packet; `None` if it is none that could be answered.
pub(super) fn read_packet(data: &[u8]) -> Option<Packet<'_>> {
    // Some clients send a byte or two more than the dictionary.
    let (value, _) = bencode::decode_prefix(data).ok()?;
    let mut transaction_id = None;
    let (mut kind, mut method, mut arguments, mut response, mut ip) = (None, None, None, None, None);
    let mut read_only = false;
    for (key, value) in value.as_dict()? {
        match key {
            b"t" => transaction_id = transaction_id.or(value.as_bytes()),
            b"y" => kind = kind.or(value.as_bytes()),
            b"q" => method = method.or(value.as_bytes()),
            b"a" => arguments = arguments.or(value.as_dict()),
            b"r" => response = response.or(value.as_dict()),
            b"ip" => ip = ip.or(value.as_bytes()),
            b"ro" => read_only = is_set(value),
            _ => {}
        }
    }
    let transaction_id = transaction_id.filter(|id| id.len() <= MAX_TRANSACTION_ID)?;
    let body = match kind? {
        b"q" => match read_query(method, arguments, read_only) {
            Ok(query) => Body::Query(query),
            Err(refusal) => Body::BadQuery(refusal),
        },
        b"r" => response.and_then(read_response).map_or(Body::Error, Body::Response),
        b"e" => Body::Error,
        _ => return None,
    };
    Some(Packet { transaction_id, ip, body })
}

fn is_set(value: Value<'_>) -> bool {
    value.as_int().is_some_and(|number| number != 0)
}

/// The arguments of all queries, as far as they are there.
#[derive(Default)]
struct Arguments<'a> {
    id: Option<Value<'a>>,
    target: Option<Value<'a>>,
    info_hash: Option<Value<'a>>,
    token: Option<Value<'a>>,
    port: Option<Value<'a>>,
    implied_port: bool,
    seed: bool,
    no_seeds: bool,
    scrape: bool,
    want: Option<Value<'a>>,
    value: Option<Value<'a>>,
    key: Option<Value<'a>>,
    signature: Option<Value<'a>>,
    seq: Option<Value<'a>>,
    salt: Option<Value<'a>>,
    cas: Option<Value<'a>>,
}

impl<'a> Arguments<'a> {
    fn read(dict: Dict<'a>) -> Arguments<'a> {
        let mut all = Arguments::default();
        for (key, value) in dict {
            match key {
                b"implied_port" => all.implied_port = is_set(value),
                b"seed" => all.seed = is_set(value),
                b"noseed" => all.no_seeds = is_set(value),
                b"scrape" => all.scrape = is_set(value),
                _ => {
                    let field = match key {
                        b"id" => &mut all.id,
                        b"target" => &mut all.target,
                        b"info_hash" => &mut all.info_hash,
                        b"token" => &mut all.token,
                        b"port" => &mut all.port,
                        b"want" => &mut all.want,
                        b"v" => &mut all.value,
                        b"k" => &mut all.key,
                        b"sig" => &mut all.signature,
                        b"seq" => &mut all.seq,
                        b"salt" => &mut all.salt,
                        b"cas" => &mut all.cas,
                        _ => continue,
                    };
                    field.get_or_insert(value);
                }
            }
        }
        all
    }

    fn target(&self) -> Result<NodeId, Refusal> {
        node_id(self.target).ok_or(Refusal::protocol("`target` is not 20 bytes"))
    }

    fn info_hash(&self) -> Result<WireHash, Refusal> {
        let id = node_id(self.info_hash).ok_or(Refusal::protocol("`info_hash` is not 20 bytes"))?;
        Ok(id.hash())
    }

    fn token(&self) -> Result<&'a [u8], Refusal> {
        self.token.and_then(|token| token.as_bytes()).ok_or(Refusal::protocol("no token"))
    }

    /// An integer that may be missing, but not be something else.
    fn integer(value: Option<Value<'_>>) -> Result<Option<i64>, Refusal> {
        let read = |value: Value<'_>| value.as_int().ok_or(Refusal::protocol("not an integer"));
        value.map(read).transpose()
    }

    fn want(&self) -> Option<[bool; 2]> {
        let list = self.want?.as_list()?;
        let has = |name: &[u8]| list.into_iter().any(|want| want.as_bytes() == Some(name));
        Some([has(b"n4"), has(b"n6")])
    }

    fn port(&self) -> Result<Option<u16>, Refusal> {
        if self.implied_port {
            return Ok(None);
        }
        let port = Arguments::integer(self.port)?.and_then(|port| u16::try_from(port).ok());
        port.filter(|&port| port != 0).map(Some).ok_or(Refusal::protocol("no port from 1 to 65535"))
    }

    fn put(&self) -> Result<Put<'a>, Refusal> {
        let signed = match self.key {
            None => None,
            Some(key) => {
                let bytes = |value: Option<Value<'a>>| value.and_then(|value| value.as_bytes());
                let seq = Arguments::integer(self.seq)?.ok_or(Refusal::protocol("no sequence number"))?;
                Some(Signed {
                    key: bytes(Some(key)).ok_or(Refusal::protocol("the key is not a string"))?,
                    signature: bytes(self.signature).ok_or(Refusal::protocol("no signature"))?,
                    seq,
                    salt: bytes(self.salt).unwrap_or_default(),
                    cas: Arguments::integer(self.cas)?,
                })
            }
        };
        let value = self.value.ok_or(Refusal::protocol("no value"))?;
        Ok(Put { token: self.token()?, value, signed })
    }
}

fn node_id(value: Option<Value<'_>>) -> Option<NodeId> {
    NodeId::read(value?.as_bytes()?)
}

fn read_query<'a>(
    method: Option<&'a [u8]>,
    arguments: Option<Dict<'a>>,
    read_only: bool,
) -> Result<Query<'a>, Refusal> {
    let method = method.ok_or(Refusal::protocol("no method"))?;
    let arguments = Arguments::read(arguments.ok_or(Refusal::protocol("no arguments"))?);
    let id = node_id(arguments.id).ok_or(Refusal::protocol("`id` is not 20 bytes"));
    let method = match method {
        b"ping" => Method::Ping,
        b"find_node" => Method::FindNode { target: arguments.target()? },
        b"get_peers" => Method::GetPeers {
            hash: arguments.info_hash()?,
            no_seeds: arguments.no_seeds,
            scrape: arguments.scrape,
        },
        b"announce_peer" => Method::AnnouncePeer {
            hash: arguments.info_hash()?,
            port: arguments.port()?,
            token: arguments.token()?,
            seed: arguments.seed,
        },
        b"get" => Method::Get { target: arguments.target()?, seq: Arguments::integer(arguments.seq)? },
        b"put" => Method::Put(arguments.put()?),
        b"sample_infohashes" => Method::SampleInfohashes { target: arguments.target()? },
        _ => return Err(Refusal::UNKNOWN_METHOD),
    };
    Ok(Query { id: id?, read_only, want: arguments.want(), method })
}

fn read_response(dict: Dict<'_>) -> Option<Response<'_>> {
    let (mut id, mut token, mut nodes, mut nodes6, mut values) = (None, None, None, None, None);
    for (key, value) in dict {
        match key {
            b"id" => id = id.or(Some(value)),
            b"token" => token = token.or(value.as_bytes()),
            b"nodes" => nodes = nodes.or(value.as_bytes()),
            b"nodes6" => nodes6 = nodes6.or(value.as_bytes()),
            b"values" => values = values.or(value.as_list()),
            _ => {}
        }
    }
    Some(Response {
        id: node_id(id)?,
        token: token.filter(|token| (1..=MAX_TOKEN).contains(&token.len())),
        nodes: nodes.unwrap_or_default(),
        nodes6: nodes6.unwrap_or_default(),
        values: values.unwrap_or_default(),
    })
}

/// A query of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ask<'a> {
    Ping,
    FindNode {
        target: NodeId,
        /// Nodes of both families are wanted (BEP 32), not only those of the family that is asked.
        both: bool,
    },
    GetPeers {
        hash: WireHash,
    },
    AnnouncePeer {
        hash: WireHash,
        port: u16,
        implied_port: bool,
        seed: bool,
        token: &'a [u8],
    },
}

impl Ask<'_> {
    /// The packet: the query of the node `id`, under this transaction id.
    pub(super) fn encode(&self, id: NodeId, transaction_id: &[u8], read_only: bool) -> Vec<u8> {
        let mut encoder = Encoder::new();
        let name: &[u8] = match self {
            Ask::Ping => b"ping",
            Ask::FindNode { .. } => b"find_node",
            Ask::GetPeers { .. } => b"get_peers",
            Ask::AnnouncePeer { .. } => b"announce_peer",
        };
        let encoded = encoder.emit_dict(|mut dict| {
            dict.emit_pair_with(b"a", |arguments| self.encode_arguments(id, arguments))?;
            dict.emit_pair_with(b"q", |value| value.emit_bytes(name))?;
            if read_only {
                dict.emit_pair(b"ro", 1)?;
            }
            dict.emit_pair_with(b"t", |value| value.emit_bytes(transaction_id))?;
            dict.emit_pair_with(b"v", |value| value.emit_bytes(VERSION))?;
            dict.emit_pair_with(b"y", |value| value.emit_bytes(b"q"))
        });
        finish(encoder, encoded)
    }

    fn encode_arguments(&self, id: NodeId, arguments: SingleItemEncoder<'_>) -> Result<(), Error> {
        arguments.emit_dict(|mut dict| {
            dict.emit_pair_with(b"id", |value| value.emit_bytes(&id.0))?;
            match self {
                Ask::Ping => Ok(()),
                Ask::FindNode { target, both } => {
                    dict.emit_pair_with(b"target", |value| value.emit_bytes(&target.0))?;
                    if *both { dict.emit_pair(b"want", ["n4", "n6"].as_slice()) } else { Ok(()) }
                }
                Ask::GetPeers { hash } => {
                    dict.emit_pair_with(b"info_hash", |value| value.emit_bytes(&hash.0))
                }
                Ask::AnnouncePeer { hash, port, implied_port, seed, token } => {
                    if *implied_port {
                        dict.emit_pair(b"implied_port", 1)?;
                    }
                    dict.emit_pair_with(b"info_hash", |value| value.emit_bytes(&hash.0))?;
                    dict.emit_pair(b"port", *port)?;
                    if *seed {
                        dict.emit_pair(b"seed", 1)?;
                    }
                    dict.emit_pair_with(b"token", |value| value.emit_bytes(token))
                }
            }
        })
    }
}

/// What the encoder has written.
pub(super) fn finish(encoder: Encoder, encoded: Result<(), Error>) -> Vec<u8> {
    encoded.and_then(|()| encoder.get_output()).expect("the keys are sorted, distinct and shallow")
}

/// Writes a value in its canonical form: keys sorted, numbers without leading zeros.
///
/// # Errors
///
/// If it has none: a key stands twice, or an integer is beyond 64 bits.
pub(super) fn write_canonical(value: Value<'_>, encoder: SingleItemEncoder<'_>) -> Result<(), Error> {
    let odd = || Error::malformed_content(std::fmt::Error);
    match value.kind() {
        ValueKind::Integer => encoder.emit_int(value.as_int().ok_or_else(odd)?),
        ValueKind::String => encoder.emit_bytes(value.as_bytes().ok_or_else(odd)?),
        ValueKind::List => encoder.emit_list(|list| {
            let mut items = value.as_list().into_iter().flatten();
            items.try_for_each(|item| list.emit_with(|encoder| write_canonical(item, encoder)))
        }),
        ValueKind::Dictionary => encoder.emit_dict(|mut dict| {
            let mut entries = value.as_dict().into_iter().flatten();
            entries.try_for_each(|(key, item)| {
                dict.emit_pair_with(key, |encoder| write_canonical(item, encoder))
            })
        }),
    }
}

/// Whether a value stands in its canonical form; BEP 44 wants no other stored.
pub(super) fn is_canonical(value: Value<'_>) -> bool {
    let mut encoder = Encoder::new();
    let encoded = encoder.emit_with(|encoder| write_canonical(value, encoder));
    encoded.and_then(|()| encoder.get_output()).is_ok_and(|bytes| bytes == value.span())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: NodeId = NodeId(*b"abcdefghij0123456789");
    const HASH: WireHash = WireHash(*b"mnopqrstuvwxyz123456");

    fn query(packet: &[u8]) -> Query<'_> {
        match read_packet(packet).unwrap().body {
            Body::Query(query) => query,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(packet: &[u8]) -> u16 {
        match read_packet(packet).unwrap().body {
            Body::BadQuery(refusal) => refusal.code,
            other => panic!("{other:?}"),
        }
    }

    fn response(packet: &[u8]) -> Response<'_> {
        match read_packet(packet).unwrap().body {
            Body::Response(response) => response,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_examples_of_bep_5_are_understood() {
        let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
        assert!(matches!(query(ping), Query { id: ID, read_only: false, want: None, method: Method::Ping }));
        assert_eq!(read_packet(ping).unwrap().transaction_id, b"aa");
        let get_peers =
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe";
        assert!(matches!(query(get_peers).method, Method::GetPeers { hash: HASH, .. }));
        let announce = b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e\
            5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe";
        let Method::AnnouncePeer { port, token, seed, .. } = query(announce).method else { panic!() };
        assert_eq!((port, token, seed), (None, &b"aoeusnth"[..], false));
        let values =
            b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re";
        let values = response(values);
        assert_eq!(values.token, Some(&b"aoeusnth"[..]));
        let peers: Vec<String> = values.values(Family::V4).map(|peer| peer.to_string()).collect();
        assert_eq!(peers, ["97.120.106.101:11893", "105.100.104.116:28269"]);
        let error = b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee";
        assert!(matches!(read_packet(error).unwrap().body, Body::Error));
    }

    #[test]
    fn a_query_that_is_unknown_or_malformed_is_told_which() {
        assert_eq!(refusal(b"d1:ad2:id20:abcdefghij0123456789e1:q4:gong1:t2:aa1:y1:qe"), 204);
        for malformed in [
            &b"d1:q4:ping1:t2:aa1:y1:qe"[..],
            b"d1:ad2:id19:abcdefghij012345678e1:q4:ping1:t2:aa1:y1:qe",
            b"d1:ad2:id20:abcdefghij01234567896:target3:abce1:q9:find_node1:t2:aa1:y1:qe",
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti0e5:token2:xye1:q13:announce_peer1:t2:aa1:y1:qe",
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti65536e5:token2:xye1:q13:announce_peer1:t2:aa1:y1:qe",
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti80ee1:q13:announce_peer1:t2:aa1:y1:qe",
            b"d1:ad2:id20:abcdefghij01234567895:token2:xye1:q3:put1:t2:aa1:y1:qe",
            b"d1:t2:aa1:y1:qe",
        ] {
            assert_eq!(refusal(malformed), 203, "{}", malformed.escape_ascii());
        }
    }

    #[test]
    fn what_cannot_be_answered_is_no_packet() {
        let long = [b"d1:t65:".as_slice(), &[b'x'; 65], b"1:y1:qe"].concat();
        for packet in
            [&b""[..], b"x", b"le", b"i1e", b"de", b"d1:y1:qe", b"d1:t2:aae", b"d1:t2:aa1:y1:xe", &long]
        {
            assert!(read_packet(packet).is_none(), "{}", packet.escape_ascii());
        }
    }

    #[test]
    fn a_list_of_peers_may_be_one_string_and_a_rest_is_ignored() {
        let one = b"d1:rd2:id20:abcdefghij01234567895:nodes30:mnopqrstuvwxyz123456axje.uxxxx6:valuesl12:axje.uidhtnm5:shortee1:t1:a1:y1:re";
        let one = response(one);
        assert_eq!(one.values(Family::V4).count(), 2);
        assert_eq!(one.values(Family::V6).count(), 0);
        assert_eq!(one.nodes(Family::V4).collect::<Vec<_>>().len(), 1);
    }

    #[test]
    fn queries_of_ours_are_those_of_bep_5_32_33_and_43() {
        let ask = Ask::Ping.encode(ID, b"aa", false);
        assert_eq!(ask, b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:v4:bg\0\x011:y1:qe");
        let ask = Ask::FindNode { target: NodeId::of(HASH), both: true }.encode(ID, b"aa", true);
        let query = query(&ask);
        assert!(query.read_only && query.want == Some([true, true]));
        assert!(matches!(query.method, Method::FindNode { target } if target == NodeId::of(HASH)));
        let ask = Ask::GetPeers { hash: HASH }.encode(ID, b"aa", false);
        assert!(matches!(self::query(&ask).method, Method::GetPeers { hash: HASH, .. }));
        for implied_port in [false, true] {
            let ask = Ask::AnnouncePeer { hash: HASH, port: 6881, implied_port, seed: true, token: b"xy" };
            let packet = ask.encode(ID, b"aa", false);
            let Method::AnnouncePeer { hash, port, token, seed } = self::query(&packet).method else {
                panic!()
            };
            assert_eq!((hash, token, seed), (HASH, &b"xy"[..], true));
            assert_eq!(port, (!implied_port).then_some(6881));
        }
    }

    #[test]
    fn only_one_way_to_write_a_value_is_canonical() {
        let canonical = |bytes: &[u8]| is_canonical(bencode::decode(bytes).unwrap());
        for good in [&b"i0e"[..], b"i-5e", b"0:", b"d1:ai1e1:bl3:abcdeee", b"le"] {
            assert!(canonical(good), "{}", good.escape_ascii());
        }
        for bad in
            [&b"i00e"[..], b"i-0e", b"01:a", b"d1:bi1e1:ai1ee", b"d1:ai1e1:ai1ee", b"i99999999999999999999e"]
        {
            assert!(!canonical(bad), "{}", bad.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn random_packets_are_read_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            text in "d(1:t2:aa)?(1:y1:[qre])?(1:q(4:ping|3:put|9:get_peers))?(1:[ar]d(2:id20:[a-z]{20})?(1:v(i1e|le))?(6:valuesl6:abcdefe)?(5:nodes26:[a-z]{26})?e)?(2:roi1e)?e",
        ) {
            for packet in [&bytes[..], text.as_bytes()] {
                if let Some(Packet { body: Body::Response(response), .. }) = read_packet(packet) {
                    let _ = (response.nodes(Family::V4).count(), response.values(Family::V6).count());
                }
            }
        }
    }
}
