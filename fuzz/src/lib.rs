//! What must be so of every parser of foreign bytes, whatever it is given. Each target is fuzzed (`cargo +nightly fuzz run NAME`),
//! and tests/fuzz_seeds.rs runs it on the files of `seeds/NAME`.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use btget::internals::bencode::{Value, decode, decode_prefix};
use btget::internals::dht::{Dht, DhtConfig, DhtHurry, DhtInput, DhtNeed, DhtOutput, Family, SavedTable};
use btget::internals::filter::{BlockList, Line, MAX_LINE, Range};
use btget::internals::hash::Sha256;
use btget::internals::hash::merkle::file_root;
use btget::internals::http::{Dechunker, tidy};
use btget::internals::ids::{PeerKey, WireHash};
use btget::internals::mse::{AnswerStep, Answerer, CallStep, Caller, Method, Methods};
use btget::internals::portmap::{
    Action, DeviceAnswer, NatPmpAbout, NatPmpAnswer, Network, PcpAnswer, PortMapInput, PortMapOutput,
    PortMapper, Protocol, SoapAnswer, read_description, read_soap_answer, read_ssdp_answer,
};
use btget::internals::proofs::{HashAnswer, HashFetch, HashFetchInput, HashFetchOutput, HashServer};
use btget::internals::proxy::{
    Proxy, ProxyDialogue, ProxyStep, Target as ProxyTarget, relay_address, unwrap_datagram, wrap_datagram,
};
use btget::internals::storage::{read_part_file, read_resume_data};
use btget::internals::text::escape;
use btget::internals::tracker;
use btget::internals::utp::{Packet, UtpEndpoint};
use btget::internals::wire::extended::{
    HolepunchMessage, MAX_METADATA_PIECES, MAX_METADATA_SIZE, MAX_PEX_PEERS, MetadataMessage, Offer,
    PexMessage, usable_metadata_size,
};
use btget::internals::wire::lsd::{LSD_GROUPS, LsdAnnounce, MAX_LSD_HASHES, MAX_LSD_PACKET, MAX_LSD_READ};
use btget::internals::wire::{
    ExtensionHandshake, Frame, Handshake, Limits, Message, PeerId, next_frame, piece_header,
};
use btget::metainfo::create::{Content, NewTorrent};
use btget::metainfo::{FileIndex, Magnet, Metainfo, PieceHashes};

/// Panics if something is not as it must be.
pub type Target = fn(&[u8]);

/// Every target.
pub const TARGETS: &[(&str, Target)] = &[
    ("bencode", bencode),
    ("dht", dht),
    ("extension", extension),
    ("file_tree", file_tree),
    ("gateway", gateway),
    ("hashes", hashes),
    ("holepunch", holepunch),
    ("http_answer", http_answer),
    ("ip_filter", ip_filter),
    ("lsd", lsd),
    ("magnet", magnet),
    ("metainfo", metainfo),
    ("mse", mse),
    ("part_file", part_file),
    ("proxy", proxy),
    ("resume_data", resume_data),
    ("ssdp", ssdp),
    ("tracker_http", tracker_http),
    ("tracker_udp", tracker_udp),
    ("upnp", upnp),
    ("ut_metadata", ut_metadata),
    ("ut_pex", ut_pex),
    ("utp", utp),
    ("wire", wire),
];

/// Any bytes of the other side of an encrypted handshake, in parts of a length that the first byte says, after an honest beginning or none:
/// both machines come to an end or want more, and neither takes a key that gives the secret away.
pub fn mse(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let (part, honest) = (usize::from(first >> 1) + 1, first & 1 == 1);
    let torrent = WireHash([7; 20]);
    let methods = Methods { plaintext: true, preferred: Method::Rc4 };
    let mut rng = fastrand::Rng::with_seed(u64::from(first));
    let (mut caller, key) = Caller::new(torrent, methods, vec![1; 68], &mut rng);
    let mut answerer = Answerer::new(methods, fastrand::Rng::with_seed(3));
    let mut begin = Vec::new();
    if honest {
        // Their own machines, as far as the question; then whatever follows.
        if let Ok(AnswerStep::Send(answer)) = answerer.feed(&key)
            && let Ok(CallStep::Send(ask)) = caller.feed(&answer)
        {
            begin = ask;
        }
    }
    let all = [&begin[..begin.len().min(40)], bytes].concat();
    for chunk in all.chunks(part) {
        let mut step = answerer.feed(chunk);
        loop {
            step = match step {
                Ok(AnswerStep::Send(_)) => answerer.feed(&[]),
                Ok(AnswerStep::Which(_)) => answerer.resume(Some(torrent)),
                Ok(AnswerStep::Need) => break,
                Ok(AnswerStep::Done { .. }) | Err(_) => return,
            };
        }
        match caller.feed(chunk) {
            Ok(CallStep::Done { .. }) => return,
            Ok(CallStep::Send(_) | CallStep::Need) | Err(_) => {}
        }
    }
}

/// Any answers of a proxy, in parts of a length that the first byte says: the request comes to an end or wants more, never nothing and never much, and
/// reads no byte behind the answer. And any packet: what it is said to be is what makes the same packet.
/// What a web server answers: the head, and a body in chunks; however it is cut.
pub fn http_answer(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let part = usize::from(first) + 1;
    let Some(head) = tidy(bytes) else { return };
    assert!(head.used <= bytes.len() && head.bytes.len() <= 2 * head.used);
    let again = tidy(&head.bytes).expect("what is tidied is whole");
    assert_eq!(tidy(&again.bytes).map(|head| head.bytes), Some(again.bytes));
    let body = &bytes[head.used..];
    let read = |part: usize| {
        let (mut chunks, mut data, mut into) = (Dechunker::default(), Vec::<u8>::new(), [0; 100]);
        for piece in body.chunks(part) {
            let mut rest = piece;
            while let Ok((used, came)) = chunks.read(rest, &mut into).map_err(drop) {
                data.extend(&into[..came]);
                rest = &rest[used..];
                if used == 0 {
                    break;
                }
            }
        }
        (data, chunks.is_ended())
    };
    let (data, is_ended) = read(part);
    assert!(data.len() <= body.len());
    if is_ended {
        assert_eq!(read(body.len().max(1)), (data, true));
    }
}

pub fn proxy(bytes: &[u8]) {
    if let Some((from, data)) = unwrap_datagram(bytes)
        && !matches!(from, ProxyTarget::Name(..))
    {
        assert_eq!(wrap_datagram(&from, data), bytes);
    }
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let (part, kind) = (usize::from(first >> 3) + 1, first & 7);
    let url = match kind {
        0 | 1 => "socks5://p:1",
        2 | 3 => "socks5://user:password@p:1",
        _ => "http://user:password@p:1",
    };
    let proxy: Proxy = url.parse().expect("it is the URL of a proxy");
    let target = ProxyTarget::new("t.example", 7).expect("it is a name");
    let mut dialogue = match ProxyDialogue::associate(&proxy) {
        Ok(dialogue) if kind & 1 == 1 => dialogue,
        _ => ProxyDialogue::connect(&proxy, &target),
    };
    let (mut rest, mut read) = (bytes, &bytes[..0]);
    for _ in 0..30_000 {
        match dialogue.feed(read) {
            Ok(ProxyStep::Send(message)) => {
                assert!(!message.is_empty());
                read = &[];
            }
            Ok(ProxyStep::Need(most)) => {
                assert!((1..=600).contains(&most));
                if rest.is_empty() {
                    return;
                }
                (read, rest) = rest.split_at(most.min(part).min(rest.len()));
            }
            Ok(ProxyStep::Done(named)) => {
                let _ = relay_address(&named, ([192, 0, 2, 1], 1080).into());
                return;
            }
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
    }
    unreachable!("it reads without an end");
}

/// Any bytes as a block list, in parts of a length that the first byte says: what is read does not depend on the parts, and what a line blocks is
/// refused.
pub fn ip_filter(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let read = |part: usize| {
        let mut list = BlockList::new(String::new());
        bytes.chunks(part).for_each(|chunk| list.feed(chunk).unwrap());
        list.end().unwrap()
    };
    let (filter, report) = read(usize::from(first) + 1);
    assert_eq!(read(bytes.len().max(1)).1, report);
    for line in bytes.split(|&byte| matches!(byte, b'\n' | b'\r')).filter(|line| line.len() <= MAX_LINE) {
        let (begin, end): (IpAddr, IpAddr) = match Line::parse(line) {
            Line::Blocked(Range::V4(begin, end)) => (begin.into(), end.into()),
            Line::Blocked(Range::V6(begin, end)) => (begin.into(), end.into()),
            Line::Nothing | Line::Allowed | Line::Bad => continue,
        };
        assert!(begin <= end && filter.refuses(begin) && filter.refuses(end));
    }
}

/// Any bytes: decoding ends without a panic, spans tile the input, and every part of a value is a value by itself.
pub fn bencode(bytes: &[u8]) {
    match decode_prefix(bytes) {
        Ok((value, rest)) => {
            assert_eq!(value.span().len() + rest.len(), bytes.len());
            every_part_is_a_value(value);
        }
        Err(error) => assert!(error.offset <= bytes.len() && !error.to_string().is_empty()),
    }
}

fn every_part_is_a_value(value: Value<'_>) {
    assert_eq!(decode(value.span()), Ok(value));
    let _ = (value.as_int(), value.as_str());
    let parts = value.as_list().into_iter().flatten();
    let mut inside = 0;
    for part in parts.chain(value.as_dict().into_iter().flatten().map(|(_, part)| part)) {
        inside += part.span().len();
        every_part_is_a_value(part);
    }
    assert!(inside <= value.span().len());
}

/// Any bytes: parsing ends without a panic, and what is accepted keeps the promises of `Metainfo`.
pub fn metainfo(bytes: &[u8]) {
    let torrent = match Metainfo::parse(bytes) {
        Ok(torrent) => torrent,
        Err(error) => {
            let message = error.to_string();
            assert_eq!(escape(&message), message);
            return;
        }
    };
    match &torrent.piece_hashes {
        PieceHashes::V1(hashes) | PieceHashes::Hybrid(hashes, _) => {
            assert_eq!(hashes.len(), torrent.layout.num_pieces() as usize);
        }
        _ => assert!(torrent.layout.files().iter().all(|extent| !extent.pad)),
    }
    for file in (0..torrent.files.len() as u32).map(FileIndex) {
        let layer = torrent.piece_hashes.layers().and_then(|layers| layers.layer(file));
        assert!(layer.is_none_or(|layer| layer.len() == torrent.layout.pieces_of_file(file).len()));
    }
    assert_eq!(torrent.files.len(), torrent.layout.files().len());
    let mut seen = HashSet::new();
    for file in &torrent.files {
        assert!(seen.insert(file.path.to_lowercase()), "{:?} twice", file.path);
        for path in file.symlink.iter().chain([&file.path]) {
            assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255));
            assert_eq!(escape(path), **path);
        }
    }
    let mut out = Vec::new();
    btget::internals::cli::show::torrent::show(&torrent, &mut out).expect("writing to memory never fails");
    btget::internals::cli::show::torrent::show_json(&torrent, &mut out)
        .expect("writing to memory never fails");
}

/// A file tree and piece layers (BEP 52), as they stand in a torrent: a byte for the length of its pieces and for whether it is a hybrid, the
/// lengths of the tree and of the list of files that version 1 has (two bytes each), these two, and the layers. What is accepted keeps the
/// promises of `Metainfo`, and each layer leads to the root of its file.
pub fn file_tree(bytes: &[u8]) {
    let Some((&[kind, a, b, c, d], rest)) = bytes.split_first_chunk() else { return };
    let (tree, list) = (u16::from_be_bytes([a, b]).into(), u16::from_be_bytes([c, d]).into());
    let Some((tree, rest)) = rest.split_at_checked(tree) else { return };
    let Some((files, layers)) = rest.split_at_checked(list) else { return };
    let piece_length = 1u32 << (14 + (kind & 3));
    let mut torrent = b"d4:infod9:file tree".to_vec();
    torrent.extend(tree);
    // As many pieces as there may be: a hybrid has to agree with itself about that.
    let hybrid = kind >> 2;
    if hybrid > 0 {
        torrent.extend(b"5:files");
        torrent.extend(files);
    }
    torrent.extend(format!("12:meta versioni2e4:name1:n12:piece lengthi{piece_length}e").bytes());
    if hybrid > 0 {
        torrent.extend(format!("6:pieces{}:", 20 * usize::from(hybrid)).bytes());
        torrent.extend(vec![7; 20 * usize::from(hybrid)]);
    }
    torrent.extend(b"e12:piece layers");
    torrent.extend(layers);
    torrent.push(b'e');
    metainfo(&torrent);
    let Ok(torrent) = Metainfo::parse(&torrent) else { return };
    let Some(known) = torrent.piece_hashes.layers() else { return };
    let height = (piece_length >> 14).ilog2();
    for file in (0..torrent.files.len() as u32).map(FileIndex) {
        assert_eq!(known.root(file).is_some(), torrent.layout.file(file).length > 0);
        if let Some(layer) = known.layer(file) {
            assert_eq!(Some(file_root(layer, height)), known.root(file));
        }
    }
}

/// Any text: it is a link that can be written and read back, or refused by words that can be shown.
pub fn magnet(bytes: &[u8]) {
    match Magnet::parse(&String::from_utf8_lossy(bytes)) {
        Ok(magnet) => {
            for note in &magnet.notes {
                assert_eq!(escape(note), *note);
            }
            let ranges = magnet.select_only.iter().flatten();
            assert!(ranges.clone().zip(ranges.skip(1)).all(|(one, next)| one.end < next.start));
            // Encoded, it is up to nine times as long.
            if bytes.len() < 7000 {
                let mut again = Magnet::parse(&magnet.to_uri()).expect("what we write can be read");
                again.notes.clone_from(&magnet.notes);
                assert_eq!(again, magnet);
            }
        }
        Err(error) => {
            let message = error.to_string();
            assert_eq!(escape(&message), message);
        }
    }
}

/// Anything a peer may send: four bytes for the number of pieces and twenty for a peer id, then a handshake or messages. Nothing
/// panics, and what was read says again the bytes it was read from.
pub fn wire(bytes: &[u8]) {
    let Some((num_pieces, rest)) = bytes.split_first_chunk::<4>() else { return };
    let Some((peer_id, mut bytes)) = rest.split_first_chunk::<20>() else { return };
    let num_pieces = u32::from_be_bytes(*num_pieces);
    let limits = Limits { num_pieces: (num_pieces >> 31 == 0).then_some(num_pieces % (1 << 21)) };
    assert!(!PeerId(*peer_id).client_name().chars().any(char::is_control));
    if let Ok(Some(handshake)) = Handshake::decode(bytes) {
        assert_eq!(handshake.encode()[..], bytes[..68]);
        bytes = &bytes[68..];
    }
    while let Ok(Some(frame)) = next_frame(bytes, &limits) {
        let mut again = Vec::new();
        let consumed = match &frame {
            Frame::PieceHeader { block, consumed } => {
                again.extend(piece_header(*block));
                assert_eq!(again, bytes[..*consumed]);
                (*consumed + block.length as usize).min(bytes.len())
            }
            Frame::Message(message, consumed) => {
                assert!(*consumed <= limits.max_buffered());
                assert_eq!(message.wire_length(), *consumed);
                message.encode_into(&mut again);
                if !matches!(message, Message::Unknown { .. }) {
                    assert_eq!(again, bytes[..*consumed]);
                }
                if let Message::Extended { id, payload } = message {
                    extension(payload);
                    let offer = Offer { metadata: true, pex: true, dont_have: true, holepunch: true };
                    let _ = offer.decode(*id, payload);
                }
                *consumed
            }
        };
        bytes = &bytes[consumed..];
    }
}

/// Messages about hashes of merkle trees (BEP 52), from a peer that is asked for those of a torrent and asks for them: nothing but the right
/// ones is kept, and every request is answered by its own 48 bytes, or not at all.
pub fn hashes(mut bytes: &[u8]) {
    let torrent = Metainfo::parse(include_bytes!("../seeds/metainfo/v2")).expect("it is a torrent");
    let whole = torrent.piece_hashes.layers().expect("it is of version 2").clone();
    let bare = Metainfo::of_info(&torrent.info_bytes).expect("it is a torrent");
    let missing = bare.piece_hashes.layers().expect("it is of version 2");
    let (mut server, now, peer) =
        (HashServer::new(whole.clone(), &torrent.layout), Instant::now(), PeerKey(1));
    let mut machine = HashFetch::new(missing, &bare.layout);
    machine.handle(now, HashFetchInput::Joined(peer));
    let limits = Limits { num_pieces: Some(torrent.layout.num_pieces()) };
    loop {
        while let Some(output) = machine.poll(now) {
            if let HashFetchOutput::Done(layers) = output {
                for (root, tree) in layers {
                    let files = (0..torrent.files.len() as u32).map(FileIndex);
                    let file = files.into_iter().find(|&file| whole.root(file) == Some(root));
                    assert_eq!(file.and_then(|file| whole.layer(file)), Some(tree.lowest()));
                    assert_eq!(tree.root(), root);
                }
            }
        }
        let (message, consumed) = match next_frame(bytes, &limits) {
            Ok(Some(Frame::Message(message, consumed))) => (message, consumed),
            Ok(Some(Frame::PieceHeader { .. }) | None) | Err(_) => return,
        };
        bytes = &bytes[consumed..];
        match message {
            Message::HashRequest(range) => {
                let answered = |message| match message {
                    Message::Hashes(of, hashes) => {
                        assert!(of == range && hashes.len() <= range.length as usize + 50);
                    }
                    Message::HashReject(of) => assert_eq!(of, range),
                    other => panic!("{other:?}"),
                };
                match server.on_request(now, peer, range.clone(), |_| true) {
                    HashAnswer::Send(message) => answered(message),
                    HashAnswer::Read(run) => {
                        let blocks: u32 = run.pieces().map(|piece| torrent.layout.num_blocks(piece)).sum();
                        let hashes = vec![Sha256([5; 32]); blocks as usize];
                        server
                            .on_read(run, Some(hashes))
                            .into_iter()
                            .for_each(|(_, message)| answered(message));
                    }
                    HashAnswer::Later => panic!("nothing is being read"),
                    HashAnswer::Nothing => {}
                }
            }
            Message::Hashes(range, hashes) => {
                machine.handle(now, HashFetchInput::Hashes(peer, *range, hashes));
            }
            Message::HashReject(range) => machine.handle(now, HashFetchInput::Reject(peer, *range)),
            _ => {}
        }
    }
}

/// The payload of an extension handshake (BEP 10): what is read of it can be written, and reads the same.
pub fn extension(payload: &[u8]) {
    if let Ok(handshake) = ExtensionHandshake::decode(payload) {
        let client = handshake.client.as_deref().unwrap_or_default();
        assert!(!client.chars().any(char::is_control));
        let _ = ExtensionHandshake::decode(&handshake.encode()).expect("what we write can be read");
    }
}

/// The payload of a message about metadata (BEP 9): numbers are within their bounds, and what is read can be written.
pub fn ut_metadata(payload: &[u8]) {
    if let Ok(Some(message)) = MetadataMessage::decode(payload) {
        let (MetadataMessage::Request { piece }
        | MetadataMessage::Data { piece, .. }
        | MetadataMessage::Reject { piece }) = message;
        assert!(piece < MAX_METADATA_PIECES);
        if let MetadataMessage::Data { total_size: Some(size), data, .. } = &message {
            assert!(usable_metadata_size(*size).is_none_or(|size| size <= MAX_METADATA_SIZE));
            assert!(payload.ends_with(data));
        }
        assert_eq!(MetadataMessage::decode(&message.encode()), Ok(Some(message)));
    }
}

/// The payload of a message of peer exchange (BEP 11): bounded, and what is read can be written.
pub fn ut_pex(payload: &[u8]) {
    if let Ok(message) = PexMessage::decode(payload) {
        assert!(message.added.len() <= 2 * MAX_PEX_PEERS && message.dropped.len() <= 2 * MAX_PEX_PEERS);
        let addresses = || message.added.iter().map(|(address, _)| address).chain(&message.dropped);
        assert!(addresses().all(|address| address.port() != 0));
        // IPv4 addresses in the clothes of IPv6 change their list, and may find it full.
        let again = PexMessage::decode(&message.encode()).expect("what we write can be read");
        assert!(again.added.iter().all(|peer| message.added.contains(peer)));
    }
}

/// The payload of a message of holepunching (BEP 55): what is read is what was written, but for what may be missing at its end or follow.
pub fn holepunch(payload: &[u8]) {
    if let Ok(Some(message)) = HolepunchMessage::decode(payload) {
        let again = message.encode();
        let common = again.len().min(payload.len());
        assert!(again.len() <= 24 && again.len() - common <= 4);
        if let HolepunchMessage::Error(..) = message {
            assert_eq!(again[..], payload[..again.len()]);
        }
        assert_eq!(again[..again.len() - 4], payload[..again.len() - 4]);
        assert_eq!(HolepunchMessage::decode(&again), Ok(Some(message)));
    }
}

/// A packet of local discovery (BEP 14): bounded, and what is read can be written.
pub fn lsd(packet: &[u8]) {
    if let Some(mut announce) = LsdAnnounce::decode(packet) {
        assert!(announce.port != 0 && (1..=MAX_LSD_READ / 40).contains(&announce.info_hashes.len()));
        announce.info_hashes.truncate(MAX_LSD_HASHES);
        for group in LSD_GROUPS {
            let again = announce.encode(group);
            assert!(again.len() <= MAX_LSD_PACKET);
            assert_eq!(LsdAnnounce::decode(&again).as_ref(), Some(&announce));
        }
    }
}

/// Datagrams that come to a port of uTP, each behind a byte that says how long it is, and how long it takes until it comes. There is a connection,
/// whose numbers are the same each time. What is sent is bounded, whatever comes.
pub fn utp(bytes: &[u8]) {
    let start = Instant::now();
    let from = SocketAddr::from(([127, 0, 0, 1], 7));
    let mut endpoint = UtpEndpoint::new(start, 1);
    let (mut now, mut rest, mut sent) = (start, bytes, 0);
    let key = endpoint.call(start, from);
    while let Some((&length, behind)) = rest.split_first() {
        let (datagram, behind) = behind.split_at(behind.len().min(length.into()));
        rest = behind;
        if let Some(packet) = Packet::decode(datagram) {
            let mut again = Vec::new();
            if packet.selective_ack.len() % 4 == 0 && packet.selective_ack.len() <= 252 {
                packet.header.encode_into(packet.selective_ack, &mut again);
                again.extend_from_slice(packet.payload);
                assert_eq!(Packet::decode(&again), Some(packet));
            }
        }
        endpoint.on_datagram(now, from, datagram);
        now += Duration::from_millis(u64::from(length) * 10);
        let mut out = Vec::new();
        while endpoint.poll_packet(now, &mut out).is_some() {
            sent += out.len();
            out.clear();
        }
        while let Some((key, _)) = endpoint.accept() {
            let mut buffer = [0; 100];
            while let Ok(Some(1..)) = endpoint.read(now, key, &mut buffer) {}
            let _ = endpoint.write(key, &[7; 100]);
        }
        if let Some(key) = key {
            let _ = endpoint.write(key, &[7; 100]);
        }
    }
    // Of each datagram: an answer, and a hundred bytes that are sent now and again.
    assert!(sent <= 200 + 4096 * bytes.len());
}

/// A packet that comes to a node of the DHT, and a saved table. Where the packet has the transaction id `tttt`, it is taken for an answer to
/// what the node has asked. What it costs is bounded, and what is saved can be read.
pub fn dht(bytes: &[u8]) {
    let now = Instant::now();
    for (family, from) in [(Family::V4, "127.0.0.1:7"), (Family::V6, "[2001:db8::7]:7")] {
        let from: SocketAddr = from.parse().expect("it is an address");
        let config = DhtConfig { family, read_only: false, port: 6881, bootstrap_wanted: true, seed: 1 };
        let mut node = Dht::new(now, config, SavedTable::decode(bytes, family));
        let need = DhtNeed { peers: DhtHurry::Urgent, announce: None };
        node.handle(now, DhtInput::Follow { hash: WireHash([b'h'; 20]), need });
        node.handle(now, DhtInput::Node(from));
        let asked = std::iter::from_fn(|| node.poll(now)).find_map(|output| match output {
            DhtOutput::Send { to, data } if to == from => Some(data),
            _ => None,
        });
        let mut packet = bytes.to_vec();
        let id = |data: &[u8]| data.windows(5).position(|window| window == b"1:t4:").map(|at| at + 5);
        let places = asked.as_deref().and_then(id).zip(id(bytes));
        if let (Some(asked), Some((here, there))) = (asked, places)
            && bytes.get(there..there + 4) == Some(b"tttt")
        {
            packet[there..there + 4].copy_from_slice(&asked[here..here + 4]);
        }
        node.handle(now, DhtInput::Packet { from, data: &packet });
        let mut outputs = 0;
        while let Some(output) = node.poll(now) {
            outputs += 1;
            assert!(outputs < 200);
            if let DhtOutput::Send { to, data } = output {
                assert!(to.port() != 0 && data.len() <= 1400);
                assert!(to != from || data.len() <= 2 * packet.len().max(150));
            }
        }
        assert!(node.deadline().is_none_or(|at| at > now));
        assert_eq!(SavedTable::decode(&node.save().encode(), family), node.save());
    }
}

/// A packet of a router that is asked for a mapping, by PCP or NAT-PMP. Where it is long enough to be an answer of PCP it gets the nonce of the
/// question. What it costs is bounded, and what is told can be shown.
pub fn gateway(bytes: &[u8]) {
    let (start, local) = (Instant::now(), [192, 168, 1, 7]);
    let network = Network { local: local.into(), router: Some([192, 168, 1, 1].into()), interface: 1 };
    let mut mapper = PortMapper::new(6881, &[Protocol::Tcp, Protocol::Udp], 1);
    mapper.handle(start, PortMapInput::Networks(&[network]));
    mapper.handle(start, PortMapInput::Want(true));
    let (mut outputs, mut nonce) = (0, None);
    for step in 0..4 {
        let now = start + Duration::from_millis(300 * step);
        let mut packet = bytes.to_vec();
        while let Some(output) = mapper.poll(now) {
            outputs += 1;
            match output {
                PortMapOutput::Send { data, .. } => nonce = data.get(24..36).map(<[u8]>::to_vec).or(nonce),
                PortMapOutput::Mapped(mapping) => assert!(mapping.external_port != 0),
                PortMapOutput::Failed { reason, .. } => assert_eq!(escape(&reason), reason),
                _ => {}
            }
        }
        if let (Some(nonce), Some(place)) = (&nonce, packet.get_mut(24..36)) {
            place.copy_from_slice(nonce);
        }
        mapper.handle(now, PortMapInput::Packet { network, data: &packet });
    }
    assert!(outputs < 40, "{outputs}");
    if let Some(answer) = PcpAnswer::decode(bytes) {
        assert!(bytes.len() <= 1100 && (answer.mapping.is_some() || answer.result == 1));
    }
    if let Some(NatPmpAnswer { result: 0, about, .. }) = NatPmpAnswer::decode(bytes) {
        assert!(about == NatPmpAbout::Other || bytes.len() >= 12);
    }
}

/// Whether port and path may be asked for.
fn assert_can_be_asked(port: u16, path: &str) {
    assert!(port != 0 && path.starts_with('/') && path.len() <= 512);
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic()));
}

/// An answer to the search for gateways of UPnP.
pub fn ssdp(bytes: &[u8]) {
    if let Some((port, path)) = read_ssdp_answer(bytes) {
        assert_can_be_asked(port, &path);
    }
}

/// What a gateway of UPnP says of itself, or answers to a call: then the first byte says whether it has done it.
pub fn upnp(bytes: &[u8]) {
    let services = read_description(bytes, &(5000, "/desc.xml".to_owned()));
    assert!(services.len() <= 4);
    services.iter().for_each(|service| assert_can_be_asked(service.port, &service.path));
    let Some((&first, body)) = bytes.split_first() else { return };
    let answer = DeviceAnswer { status: if first % 2 == 0 { 200 } else { 500 }, body: body.to_vec() };
    match read_soap_answer(Action::Address, &answer) {
        SoapAnswer::Done(address) => assert!(address.is_none_or(|ip| !ip.is_unspecified())),
        SoapAnswer::Refused(_, words) => assert!(words.chars().count() <= 100),
        SoapAnswer::Useless(reason) => assert_eq!(escape(&reason), reason),
    }
}

/// The body of an HTTP tracker's answer: bounded, and its words can be shown.
pub fn tracker_http(body: &[u8]) {
    match tracker::answer::parse(body, 200) {
        Ok((answer, _)) => {
            assert!(answer.peers.len() <= tracker::MAX_PEERS);
            assert!(answer.warning.is_none_or(|warning| !warning.is_empty()));
        }
        Err(failure) => assert!(!failure.reason.is_empty() && failure.reason.chars().count() < 1000),
    }
}

/// What follows action and transaction id in a UDP tracker's answer; the first byte says which family.
pub fn tracker_udp(bytes: &[u8]) {
    let Some((family, body)) = bytes.split_first() else { return };
    if let Some(answer) = tracker::parse_udp(body, family % 2 == 1) {
        assert!(answer.peers.len() <= tracker::MAX_PEERS);
        assert!(body.len() >= 12 && answer.peers.len() <= (body.len() - 12) / 6);
    }
}

/// Whatever stands in resume data behind a right header, under a right checksum.
pub fn resume_data(payload: &[u8]) {
    let _ = read_resume_data(&album(), payload);
}

/// Whatever stands in a part file: the first byte says how many records are made of what follows (where, how long, data), and the
/// rest stands behind them as it is.
pub fn part_file(bytes: &[u8]) {
    let Some((&count, mut rest)) = bytes.split_first() else { return };
    let mut records = Vec::new();
    for _ in 0..count % 16 {
        let Some((head, data)) = rest.split_first_chunk::<4>() else { break };
        let offset = u64::from(u16::from_be_bytes([head[0], head[1]]));
        let length = usize::from(u16::from_be_bytes([head[2], head[3]])).min(data.len());
        let (data, later) = data.split_at(length);
        records.push((offset, data));
        rest = later;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let kept = read_part_file(&album(), folder.path(), &records, rest).expect("the file can be read");
    let given: u64 = records.iter().map(|(_, data)| data.len() as u64).sum();
    assert!(kept.iter().map(|range| range.end - range.start).sum::<u64>() <= given + rest.len() as u64);
}

/// Three files in five pieces.
fn album() -> Metainfo {
    let files = [("a", 20_000), ("b", 1), ("c/d", 50_000)];
    let torrent = NewTorrent {
        name: "album",
        content: Content::Folder(&files),
        piece_length: 16384,
        piece_hashes: &[btget::metainfo::Sha1([7; 20]); 5],
        trackers: &[],
        private: false,
    };
    Metainfo::parse(&torrent.encode()).expect("it is a torrent")
}
