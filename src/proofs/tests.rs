use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::hash::merkle::MerkleTree;
use crate::hash::{Sha256, sha256};
use crate::ids::{PeerKey, Source};
use crate::layout::{FileIndex, PieceIndex};
use crate::metainfo::samples::Sample;
use crate::metainfo::{Metainfo, PieceLayers};
use crate::wire::{HashRange, Message};

/// A torrent whose files have so many pieces of one block, with its layers and without.
fn torrent(pieces: &[usize]) -> (Metainfo, Metainfo) {
    let names: Vec<String> = (0..pieces.len()).map(|number| format!("f{number}")).collect();
    let files: Vec<(&str, usize)> = names
        .iter()
        .zip(pieces)
        .map(|(name, pieces)| (name.as_str(), (pieces * 16384).saturating_sub(5)))
        .collect();
    let sample = Sample { piece_length: 16384, ..Sample::new(&files, false) };
    let whole = Metainfo::parse(&sample.torrent()).unwrap();
    let bare = Metainfo::parse(&Sample { layers: false, ..sample }.torrent()).unwrap();
    (whole, bare)
}

fn layers(metainfo: &Metainfo) -> Arc<PieceLayers> {
    metainfo.piece_hashes.layers().unwrap().clone()
}

fn server(whole: &Metainfo) -> HashServer {
    HashServer::new(layers(whole), &whole.layout)
}

fn fetch(bare: &Metainfo) -> HashFetch {
    HashFetch::new(&layers(bare), &bare.layout)
}

/// What a server that has all pieces, and nothing to read, says to a peer.
fn ask(server: &mut HashServer, now: Instant, peer: u64, range: HashRange) -> Option<Message> {
    match server.on_request(now, PeerKey(peer), Box::new(range), |_| true) {
        HashAnswer::Send(message) => Some(message),
        HashAnswer::Nothing => None,
        other => panic!("{other:?}"),
    }
}

/// Roots, and the trees over the hashes of the pieces below each.
type Layers = Vec<(Sha256, MerkleTree)>;

/// How a peer answers hash requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    Honest,
    Refuses,
    Silent,
    /// Changes one hash of each answer.
    Lies,
    /// Leaves the last hash of each answer out.
    Short,
    /// Answers what it was not asked.
    Elsewhere,
}

/// Lets the machine talk to such peers until it is done or so much time has passed; gives whom it has closed.
fn talk(
    machine: &mut HashFetch,
    whole: &Metainfo,
    manners: &[Manner],
    limit: Duration,
) -> (Option<Layers>, Vec<usize>) {
    let start = Instant::now();
    let (mut now, mut server, mut closed) = (start, server(whole), Vec::new());
    for peer in 0..manners.len() {
        machine.handle(now, HashFetchInput::Joined(PeerKey(peer as u64)));
    }
    while now - start < limit {
        while let Some(output) = machine.poll(now) {
            match output {
                HashFetchOutput::Done(layers) => return (Some(layers), closed),
                HashFetchOutput::Close { peer, .. } => closed.push(peer.0 as usize),
                HashFetchOutput::Request(peer, range) => {
                    assert!(range.is_valid());
                    let manner = manners[peer.0 as usize];
                    let answer = ask(&mut server, now, 1000, range);
                    let Some(Message::Hashes(range, mut hashes)) = answer else { panic!("{answer:?}") };
                    let mut range = *range;
                    match manner {
                        Manner::Silent => continue,
                        Manner::Refuses => {
                            machine.handle(now, HashFetchInput::Reject(peer, range));
                            continue;
                        }
                        Manner::Honest => {}
                        Manner::Lies => hashes[1].0[7] ^= 1,
                        Manner::Short => drop(hashes.pop()),
                        Manner::Elsewhere => range.index += 512,
                    }
                    machine.handle(now, HashFetchInput::Hashes(peer, range, hashes));
                }
            }
        }
        now = machine
            .deadline()
            .map_or(now + Duration::from_secs(1), |at| at.max(now + Duration::from_millis(1)));
        server.gone(PeerKey(1000));
    }
    (None, closed)
}

fn expected(whole: &Metainfo) -> Layers {
    let layers = layers(whole);
    let files = (0..whole.files.len() as u32).map(FileIndex);
    files.filter_map(|file| Some((layers.root(file)?, layers.tree(file)?.clone()))).collect()
}

#[test]
fn all_layers_come_from_one_honest_peer_and_complete_the_torrent() {
    let (whole, bare) = torrent(&[1, 2, 3, 0, 512, 513, 1500]);
    let (got, closed) = talk(&mut fetch(&bare), &whole, &[Manner::Honest], Duration::from_secs(1));
    let got = got.expect("it is done");
    assert_eq!((got.clone(), closed), (expected(&whole), vec![]));
    let mut filled = PieceLayers::clone(&layers(&bare));
    filled.fill(got, &bare.layout);
    assert_eq!(format!("{filled:?}"), format!("{:?}", layers(&whole)));
}

#[test]
fn files_of_the_same_content_are_asked_for_once() {
    let mut sample = Sample { piece_length: 16384, ..Sample::new(&[("a", 50_000), ("b", 50_000)], false) };
    sample.files[1].1 = sample.files[0].1.clone();
    let whole = Metainfo::parse(&sample.torrent()).unwrap();
    let bare = Metainfo::parse(&Sample { layers: false, ..sample }.torrent()).unwrap();
    let mut machine = fetch(&bare);
    assert_eq!(machine.progress(), (0, 4 * 32));
    let (got, _) = talk(&mut machine, &whole, &[Manner::Honest], Duration::from_secs(1));
    let mut filled = PieceLayers::clone(&layers(&bare));
    filled.fill(got.expect("it is done"), &bare.layout);
    assert_eq!(filled.missing(&bare.layout).count(), 0);
}

#[test]
fn nothing_that_does_not_lead_to_the_root_is_taken() {
    let (whole, bare) = torrent(&[2, 700]);
    for manner in [Manner::Lies, Manner::Short, Manner::Elsewhere] {
        let (got, closed) = talk(&mut fetch(&bare), &whole, &[manner], Duration::from_secs(600));
        assert_eq!((got, closed), (None, vec![0]), "{manner:?}");
    }
}

#[test]
fn who_is_silent_or_refuses_does_not_keep_the_others_from_it_and_is_not_closed() {
    let (whole, bare) = torrent(&[1400]);
    let manners = [Manner::Silent, Manner::Refuses, Manner::Silent, Manner::Honest];
    let (got, closed) = talk(&mut fetch(&bare), &whole, &manners, Duration::from_secs(120));
    assert_eq!((got, closed), (Some(expected(&whole)), vec![]));
}

#[test]
fn a_request_that_cannot_be_filled_is_refused_with_the_same_bytes() {
    let (whole, _) = torrent(&[5, 1]);
    let (mut server, now) = (server(&whole), Instant::now());
    let root = |file| layers(&whole).root(FileIndex(file)).unwrap();
    let good = HashRange { root: root(0), base: 0, index: 0, length: 8, proof_layers: 2 };
    let mut given = |range: HashRange| match ask(&mut server, now, 1, range) {
        Some(Message::Hashes(of, hashes)) if *of == range => Some(hashes.len()),
        Some(Message::HashReject(of)) if *of == range => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(given(good), Some(8));
    assert_eq!(given(HashRange { length: 2, index: 4, ..good }), Some(2 + 2));
    assert_eq!(given(HashRange { length: 2, index: 4, proof_layers: 0, ..good }), Some(2));
    for many in [40, u32::MAX] {
        assert_eq!(given(HashRange { length: 2, index: 4, proof_layers: many, ..good }), Some(2 + 2));
    }
    for bad in [
        HashRange { root: Sha256([9; 32]), ..good },
        // A file of one piece: its root is its hash.
        HashRange { root: root(1), ..good },
        HashRange { length: 16, ..good },
        HashRange { length: 1024, ..good },
        HashRange { length: 3, ..good },
        HashRange { length: 1, ..good },
        HashRange { length: 0, ..good },
        HashRange { index: 4, ..good },
        HashRange { index: 8, ..good },
        HashRange { index: u32::MAX - 7, ..good },
        HashRange { base: 4, ..good },
        HashRange { base: u32::MAX, ..good },
    ] {
        assert_eq!(given(bad), None, "{bad:?}");
    }
}

#[test]
fn a_flood_of_hash_requests_gets_16_answers_and_64_refusals_a_second() {
    let (whole, _) = torrent(&[5]);
    let (mut server, start) = (server(&whole), Instant::now());
    let root = layers(&whole).root(FileIndex(0)).unwrap();
    let range = HashRange { root, base: 0, index: 0, length: 2, proof_layers: 2 };
    for second in 0..4 {
        let now = start + Duration::from_secs(second);
        let answers: Vec<_> = (0..1000).filter_map(|_| ask(&mut server, now, 1, range)).collect();
        let given = answers.iter().filter(|answer| matches!(answer, Message::Hashes(..))).count();
        assert_eq!((given, answers.len()), (16, 16 + 64));
    }
    assert!(matches!(ask(&mut server, start, 2, range), Some(Message::Hashes(..))));
}

#[test]
fn all_peers_together_get_512_answers_a_second() {
    let (whole, _) = torrent(&[5]);
    let (mut server, start) = (server(&whole), Instant::now());
    let root = layers(&whole).root(FileIndex(0)).unwrap();
    let range = HashRange { root, base: 0, index: 0, length: 2, proof_layers: 2 };
    for second in 0..3 {
        let now = start + Duration::from_secs(second);
        let answers =
            (0..100).flat_map(|peer| [peer; 16]).filter_map(|peer| ask(&mut server, now, peer, range));
        assert_eq!(answers.filter(|answer| matches!(answer, Message::Hashes(..))).count(), 512);
    }
}

/// A torrent of pieces of four blocks, and the data of its files.
fn of_blocks(lengths: &[usize]) -> (Metainfo, Vec<Vec<u8>>) {
    of_pieces(4 * 16384, lengths)
}

fn of_pieces(piece_length: u32, lengths: &[usize]) -> (Metainfo, Vec<Vec<u8>>) {
    let names: Vec<String> = (0..lengths.len()).map(|number| format!("f{number}")).collect();
    let files: Vec<(&str, usize)> =
        names.iter().zip(lengths).map(|(name, &length)| (name.as_str(), length)).collect();
    let sample = Sample { piece_length, ..Sample::new(&files, false) };
    let data = sample.files.iter().map(|(_, data)| data.clone()).collect();
    (Metainfo::parse(&sample.torrent()).unwrap(), data)
}

/// The hashes of the blocks of these pieces.
fn hashes_of(whole: &Metainfo, data: &[Vec<u8>], run: PieceRun) -> Vec<Sha256> {
    let layout = &whole.layout;
    let of_piece = |piece: PieceIndex| {
        let file = layout.file_of_piece(piece).unwrap();
        let begin = (layout.piece_offset(piece) - layout.file(file).offset) as usize;
        data[file.0 as usize][begin..][..layout.piece_size(piece) as usize].chunks(16384).map(sha256)
    };
    run.pieces().flat_map(of_piece).collect()
}

/// What whoever has the data answers.
fn answer(server: &mut HashServer, whole: &Metainfo, data: &[Vec<u8>], range: HashRange) -> Vec<Sha256> {
    let now = Instant::now();
    server.gone(PeerKey(1));
    let message = match server.on_request(now, PeerKey(1), Box::new(range), |_| true) {
        HashAnswer::Read(run) => {
            let [(PeerKey(1), message)] = &server.on_read(run, Some(hashes_of(whole, data, run)))[..] else {
                panic!("one asked, and gets one answer");
            };
            message.clone()
        }
        HashAnswer::Send(message) => message,
        other => panic!("{other:?}"),
    };
    let Message::Hashes(of, hashes) = message else { panic!("{message:?}") };
    assert_eq!(*of, range);
    hashes
}

fn sender(number: usize) -> Source {
    Source::Peer(([10, 0, (number / 256) as u8, number as u8], 6881).into())
}

/// Has a piece fail for each of these blocks, and finds who sent it.
fn try_block(whole: &Metainfo, data: &[Vec<u8>], server: &mut HashServer, piece: PieceIndex, bad: usize) {
    let now = Instant::now();
    let mut trials = BlockTrials::new(layers(whole), whole.layout.clone());
    let blocks = whole.layout.num_blocks(piece) as usize;
    let mut hashes = hashes_of(whole, data, PieceRun { first: piece, count: 1 });
    hashes[bad].0[0] ^= 1;
    let senders: Vec<Source> = (0..blocks).map(sender).collect();
    trials.on_failed(piece, &senders, hashes);
    let mut found = Vec::new();
    while let Some((_, range)) =
        trials.next_request(now, |of, tried| (of == piece && tried.is_empty()).then_some(PeerKey(1)))
    {
        assert!(range.is_valid());
        let good = answer(server, whole, data, range);
        let mut lie = good.clone();
        lie[0].0[9] ^= 1;
        assert_eq!(trials.on_hashes(PeerKey(1), &range, &lie), TrialEnd::Unproved);
        assert_eq!(trials.on_hashes(PeerKey(2), &range, &good), TrialEnd::Nothing, "it was not asked");
        match trials.on_hashes(PeerKey(1), &range, &good) {
            TrialEnd::Culprits(of, culprits) if of == piece => found.extend(culprits),
            other => panic!("{other:?}"),
        }
        assert_eq!(trials.on_hashes(PeerKey(1), &range, &good), TrialEnd::Nothing, "it is over");
    }
    assert_eq!(found, [sender(bad)], "{piece:?} {bad}");
}

#[test]
fn of_each_piece_exactly_those_who_sent_bad_blocks_are_found_by_hashes_that_are_proved() {
    let (whole, data) = of_blocks(&[300_000, 65_536, 40_000, 20_000, 16_384, 70_000]);
    let mut server = server(&whole);
    for piece in (0..whole.layout.num_pieces()).map(PieceIndex) {
        let blocks = whole.layout.num_blocks(piece) as usize;
        for bad in (0..blocks).filter(|_| blocks > 1) {
            try_block(&whole, &data, &mut server, piece, bad);
        }
    }
}

#[test]
fn bad_blocks_are_found_in_pieces_of_any_length() {
    // In pieces of 16 MiB: two pieces of which the last is short; one alone; less than one.
    let block = 16_384;
    let (whole, data) = of_pieces(16 << 20, &[1300 * block + 1, 1024 * block, 600 * block, 5 * block]);
    let mut server = server(&whole);
    for (piece, blocks) in [(0, 1024), (1, 277), (2, 1024), (3, 600), (4, 5)] {
        assert_eq!(whole.layout.num_blocks(PieceIndex(piece)), blocks);
        let edges = [0, 511, 512, 1023].map(|bad| bad.min(blocks as usize - 1));
        edges.into_iter().for_each(|bad| try_block(&whole, &data, &mut server, PieceIndex(piece), bad));
    }
}

#[test]
fn hashes_of_the_blocks_of_several_pieces_are_given_too() {
    let (whole, data) = of_blocks(&[300_000, 40_000]);
    let mut server = server(&whole);
    // 19 blocks in five pieces: the tree is 5 high.
    let root = layers(&whole).root(FileIndex(0)).unwrap();
    for length in [2, 4, 8, 16, 32] {
        for index in (0..20).step_by(length as usize) {
            let range = HashRange { root, base: 0, index, length, proof_layers: 4 };
            let hashes = answer(&mut server, &whole, &data, range);
            assert!(proved(&range, &hashes).is_some(), "{length} from {index}");
        }
    }
    // Nothing is said of pieces that are not there.
    let range = HashRange { root, base: 0, index: 8, length: 8, proof_layers: 4 };
    let has = |piece: PieceIndex| piece.0 != 3;
    let refused = HashAnswer::Send(Message::HashReject(Box::new(range)));
    assert_eq!(server.on_request(Instant::now(), PeerKey(1), Box::new(range), has), refused);
}

#[test]
fn a_trial_asks_four_peers_one_after_the_other_and_ends_when_the_piece_passes() {
    let (whole, _) = of_blocks(&[65_536]);
    let mut now = Instant::now();
    let mut trials = BlockTrials::new(layers(&whole), whole.layout.clone());
    let piece = PieceIndex(0);
    trials.on_failed(piece, &[sender(1); 4], vec![Sha256::ZERO; 4]);
    assert_eq!(trials.next_request(now, |_, _| Some(PeerKey(1))), None, "one sent all of it");
    trials.on_failed(piece, &[1, 1, 2, 2].map(sender), vec![Sha256::ZERO; 4]);
    let next = |trials: &mut BlockTrials, now| {
        let asked = trials.next_request(now, |_, tried| (1..9).map(PeerKey).find(|key| !tried.contains(key)));
        asked.map(|(key, range)| (key.0, range))
    };
    let (first, range) = next(&mut trials, now).unwrap();
    assert_eq!((first, next(&mut trials, now)), (1, None));
    trials.on_reject(PeerKey(1), &range);
    assert_eq!(next(&mut trials, now), Some((2, range)));
    trials.gone(PeerKey(2));
    assert_eq!(next(&mut trials, now), Some((3, range)));
    now += Duration::from_secs(20);
    assert_eq!(next(&mut trials, now), Some((4, range)), "who is silent is not waited for");
    trials.on_reject(PeerKey(4), &range);
    assert_eq!(next(&mut trials, now), None);
    trials.on_failed(piece, &[1, 1, 2, 2].map(sender), vec![Sha256::ZERO; 4]);
    trials.on_passed(piece);
    assert_eq!(next(&mut trials, now), None);
}

#[test]
fn what_is_read_for_hashes_is_bounded_for_each_peer_and_for_all_and_read_once_for_all_who_ask() {
    // Pieces of 8 MiB, half of what is read for a peer in a second.
    let pieces = 12;
    let (whole, data) = of_pieces(8 << 20, &[pieces * (8 << 20)]);
    let (mut server, start) = (server(&whole), Instant::now());
    let root = layers(&whole).root(FileIndex(0)).unwrap();
    let range = |piece: u32| HashRange { root, base: 0, index: 512 * piece, length: 512, proof_layers: 20 };
    let asked = |server: &mut HashServer, now, peer, piece| {
        server.on_request(now, PeerKey(peer), Box::new(range(piece)), |_| true)
    };
    let run = |piece| PieceRun { first: PieceIndex(piece), count: 1 };
    let refused = |piece| HashAnswer::Send(Message::HashReject(Box::new(range(piece))));
    assert_eq!(asked(&mut server, start, 1, 0), HashAnswer::Read(run(0)));
    assert_eq!(asked(&mut server, start, 2, 0), HashAnswer::Later);
    assert_eq!(asked(&mut server, start, 1, 1), HashAnswer::Read(run(1)));
    assert_eq!(asked(&mut server, start, 1, 2), refused(2), "that is enough for one peer");
    for (peer, piece) in [(2, 2), (2, 3), (3, 4), (3, 5), (4, 6), (4, 7)] {
        assert_eq!(asked(&mut server, start, peer, piece), HashAnswer::Read(run(piece)));
    }
    assert_eq!(asked(&mut server, start, 5, 8), refused(8), "that is enough for all");
    let given = server.on_read(run(0), Some(hashes_of(&whole, &data, run(0))));
    assert_eq!(given.iter().map(|(peer, _)| peer.0).collect::<Vec<_>>(), [1, 2]);
    assert!(given.iter().all(|(_, message)| matches!(message, Message::Hashes(..))));
    assert_eq!(asked(&mut server, start, 5, 8), refused(8));
    assert!(
        matches!(asked(&mut server, start, 5, 0), HashAnswer::Send(Message::Hashes(..))),
        "it was read last"
    );
    server.gone(PeerKey(2));
    let given = server.on_read(run(2), None);
    assert_eq!(given, [], "whoever asked is gone");
    let given = server.on_read(run(4), None);
    assert_eq!(given, [(PeerKey(3), Message::HashReject(Box::new(range(4))))], "it could not be read");
    assert_eq!(server.on_read(run(4), Some(Vec::new())), [], "nobody waits for it");
    let later = start + Duration::from_secs(1);
    assert_eq!(asked(&mut server, later, 1, 9), HashAnswer::Read(run(9)));
}

#[test]
fn a_range_of_blocks_that_no_file_has_is_refused() {
    let (whole, _) = of_blocks(&[300_000, 40_000]);
    let (mut server, now) = (server(&whole), Instant::now());
    let root = layers(&whole).root(FileIndex(0)).unwrap();
    let range = HashRange { root, base: 0, index: 4, length: 4, proof_layers: 4 };
    for other in [
        HashRange { length: 64, index: 0, ..range },
        HashRange { index: 20, ..range },
        HashRange { index: u32::MAX - 3, ..range },
        HashRange { base: 1, ..range },
        HashRange { root: Sha256([1; 32]), ..range },
        HashRange { root: layers(&whole).root(FileIndex(1)).unwrap(), ..range },
    ] {
        assert_eq!(ask(&mut server, now, 1, other), Some(Message::HashReject(Box::new(other))), "{other:?}");
    }
}

#[test]
fn what_is_behind_the_tree_of_a_short_file_is_refused() {
    // Three blocks, of which a tree has four leaves, in a piece of sixteen.
    let (whole, _) = of_pieces(16 * 16384, &[40_000]);
    let (mut server, now) = (server(&whole), Instant::now());
    let root = layers(&whole).root(FileIndex(0)).unwrap();
    for index in [4, 6, 8, 14] {
        let range = HashRange { root, base: 0, index, length: 2, proof_layers: 0 };
        assert_eq!(ask(&mut server, now, 1, range), Some(Message::HashReject(Box::new(range))), "{index}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn one_honest_peer_among_any_others_is_enough_and_exactly_the_liars_are_closed(
        pieces in prop::collection::vec(0usize..1200, 1..4),
        mut manners in prop::collection::vec(
            prop::sample::select(vec![
                Manner::Honest, Manner::Refuses, Manner::Silent, Manner::Lies, Manner::Short, Manner::Elsewhere,
            ]),
            0..8,
        ),
        place in any::<prop::sample::Index>(),
    ) {
        manners.insert(place.index(manners.len() + 1), Manner::Honest);
        let (whole, bare) = torrent(&pieces);
        let (got, closed) = talk(&mut fetch(&bare), &whole, &manners, Duration::from_secs(3600));
        prop_assert_eq!(got, Some(expected(&whole)));
        let lies = |peer: &usize| {
            matches!(manners[*peer], Manner::Lies | Manner::Short | Manner::Elsewhere)
        };
        prop_assert!(closed.iter().all(lies), "{:?} of {:?}", closed, manners);
    }

    #[test]
    fn no_message_breaks_either_side(
        fields in prop::collection::vec((0usize..3, 0u32..4, 0u32..2000, 0u32..600, 0u32..20, 0usize..600), 1..30),
    ) {
        let (_, bare) = torrent(&[600, 3]);
        let (whole, _) = of_blocks(&[600 * 16384, 3 * 16384, 7]);
        let (mut server, mut machine, now) = (server(&whole), fetch(&bare), Instant::now());
        machine.handle(now, HashFetchInput::Joined(PeerKey(1)));
        while machine.poll(now).is_some() {}
        for (file, base, index, length, proof_layers, hashes) in fields {
            let root = layers(&whole).root(FileIndex(file as u32)).unwrap_or(Sha256([3; 32]));
            let range = HashRange { root, base, index, length, proof_layers };
            match server.on_request(now, PeerKey(1), Box::new(range), |_| true) {
                HashAnswer::Read(run) => {
                    let blocks = run.pieces().map(|piece| whole.layout.num_blocks(piece)).sum::<u32>();
                    prop_assert!(!server.on_read(run, Some(vec![Sha256([1; 32]); blocks as usize])).is_empty());
                }
                answer => prop_assert!(answer != HashAnswer::Nothing && answer != HashAnswer::Later),
            }
            machine.handle(now, HashFetchInput::Hashes(PeerKey(1), range, vec![Sha256([7; 32]); hashes]));
            machine.handle(now, HashFetchInput::Reject(PeerKey(1), range));
            while machine.poll(now).is_some() {}
        }
    }
}
