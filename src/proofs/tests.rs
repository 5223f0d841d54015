use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
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

/// Roots, and the hashes of the pieces below each.
type Layers = Vec<(Sha256, Vec<Sha256>)>;

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
                    let answer = server.on_request(now, PeerKey(1000), Box::new(range));
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
    files.filter_map(|file| Some((layers.root(file)?, layers.layer(file)?.to_vec()))).collect()
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
fn two_files_of_one_root_and_different_lengths_leave_a_layer_unknown_whatever_comes() {
    for lengths in [[50_000, 20_000], [20_000, 50_000]] {
        let sample = Sample {
            piece_length: 16384,
            layers: false,
            ..Sample::new(&[("a", lengths[0]), ("b", lengths[1])], false)
        };
        let whole = Metainfo::parse(&Sample { layers: true, ..sample.clone() }.torrent()).unwrap();
        let roots: Vec<Sha256> = expected(&whole).into_iter().map(|(root, _)| root).collect();
        let mut lying = sample.torrent();
        let at = lying.windows(32).position(|bytes| *bytes == roots[1].0).unwrap();
        lying[at..at + 32].copy_from_slice(&roots[0].0);
        let bare = Metainfo::parse(&lying).unwrap();
        let (got, closed) = talk(&mut fetch(&bare), &whole, &[Manner::Honest], Duration::from_secs(1));
        let mut filled = PieceLayers::clone(&layers(&bare));
        filled.fill(got.expect("the layer of the first is a layer"), &bare.layout);
        assert_eq!((filled.missing(&bare.layout).count(), closed), (1, vec![]), "{lengths:?}");
    }
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
    let mut given = |range: HashRange| match server.on_request(now, PeerKey(1), Box::new(range)) {
        Some(Message::Hashes(of, hashes)) if *of == range => Some(hashes.len()),
        Some(Message::HashReject(of)) if *of == range => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(given(good), Some(8));
    assert_eq!(given(HashRange { length: 2, index: 4, ..good }), Some(2 + 2));
    assert_eq!(given(HashRange { length: 2, index: 4, proof_layers: 0, ..good }), Some(2));
    assert_eq!(given(HashRange { length: 2, index: 4, proof_layers: 40, ..good }), Some(2 + 2));
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
        HashRange { proof_layers: u32::MAX, ..good },
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
        let answers: Vec<_> =
            (0..1000).filter_map(|_| server.on_request(now, PeerKey(1), Box::new(range))).collect();
        let given = answers.iter().filter(|answer| matches!(answer, Message::Hashes(..))).count();
        assert_eq!((given, answers.len()), (16, 16 + 64));
    }
    assert!(matches!(server.on_request(start, PeerKey(2), Box::new(range)), Some(Message::Hashes(..))));
}

/// A torrent of pieces of four blocks, and the data of its files.
fn of_blocks(lengths: &[usize]) -> (Metainfo, Vec<Vec<u8>>) {
    let names: Vec<String> = (0..lengths.len()).map(|number| format!("f{number}")).collect();
    let files: Vec<(&str, usize)> =
        names.iter().zip(lengths).map(|(name, &length)| (name.as_str(), length)).collect();
    let sample = Sample { piece_length: 4 * 16384, ..Sample::new(&files, false) };
    let data = sample.files.iter().map(|(_, data)| data.clone()).collect();
    (Metainfo::parse(&sample.torrent()).unwrap(), data)
}

/// What whoever has the data answers.
fn read_blocks(whole: &Metainfo, data: &[Vec<u8>], wanted: &WantedBlocks) -> Vec<Sha256> {
    let layout = &whole.layout;
    let file = layout.file_of_piece(wanted.piece).unwrap();
    let begin = (layout.piece_offset(wanted.piece) - layout.file(file).offset) as usize;
    let bytes = &data[file.0 as usize][begin..][..layout.piece_size(wanted.piece) as usize];
    let mut hashes: Vec<Sha256> = bytes.chunks(16384).map(sha256).collect();
    hashes.resize(wanted.range.length as usize, Sha256::ZERO);
    [hashes, wanted.uncles.clone()].concat()
}

fn sender(number: usize) -> Source {
    Source::Peer(([10, 0, 0, number as u8], 6881).into())
}

#[test]
fn of_each_piece_exactly_those_who_sent_bad_blocks_are_found_by_hashes_that_are_proved() {
    let (whole, data) = of_blocks(&[300_000, 65_536, 40_000, 20_000, 16_384, 70_000]);
    let (mut server, now) = (server(&whole), Instant::now());
    for piece in (0..whole.layout.num_pieces()).map(PieceIndex) {
        server.gone(PeerKey(1));
        let blocks = whole.layout.num_blocks(piece) as usize;
        if blocks == 1 {
            continue;
        }
        for bad in 0..blocks {
            let mut trials = BlockTrials::new(layers(&whole), whole.layout.clone());
            let senders: Vec<Source> = (0..blocks).map(sender).collect();
            let mut asked = None;
            // A piece of a file whose last piece has one block has four leaves all the same.
            let mut good: Vec<Sha256> = Vec::new();
            for round in 0..2 {
                if round == 1 {
                    let mut hashes = good[..blocks].to_vec();
                    hashes[bad].0[0] ^= 1;
                    trials.on_failed(piece, &senders, hashes);
                    asked = trials.next_request(now, |of, tried| {
                        (of == piece && tried.is_empty()).then_some(PeerKey(1))
                    });
                } else {
                    server.gone(PeerKey(1));
                    let mut probe = BlockTrials::new(layers(&whole), whole.layout.clone());
                    probe.on_failed(piece, &senders, vec![Sha256::ZERO; blocks]);
                    let (_, range) =
                        probe.next_request(now, |_, _| Some(PeerKey(1))).expect("somebody is asked");
                    let wanted = server.on_block_request(now, PeerKey(1), &range).expect("it can be read");
                    good = read_blocks(&whole, &data, &wanted);
                }
            }
            let (_, range) = asked.expect("somebody is asked");
            let mut lie = good.clone();
            lie[0].0[9] ^= 1;
            assert_eq!(trials.on_hashes(PeerKey(1), &range, &lie), TrialEnd::Unproved);
            assert_eq!(trials.on_hashes(PeerKey(2), &range, &good), TrialEnd::Nothing, "it was not asked");
            let expected = TrialEnd::Culprits(piece, vec![sender(bad)]);
            assert_eq!(trials.on_hashes(PeerKey(1), &range, &good), expected, "{piece:?} {bad}");
            assert_eq!(trials.on_hashes(PeerKey(1), &range, &good), TrialEnd::Nothing, "it is over");
        }
    }
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
fn the_blocks_of_two_pieces_a_second_are_read_for_a_peer() {
    let (whole, _) = of_blocks(&[300_000]);
    let (mut server, start) = (server(&whole), Instant::now());
    let root = layers(&whole).root(FileIndex(0)).unwrap();
    let range = HashRange { root, base: 0, index: 4, length: 4, proof_layers: 4 };
    for second in 0..3 {
        let now = start + Duration::from_secs(second);
        let read = (0..100).filter(|_| server.on_block_request(now, PeerKey(1), &range).is_some()).count();
        assert_eq!(read, 2);
    }
    for other in [
        HashRange { length: 2, ..range },
        HashRange { length: 8, index: 8, ..range },
        HashRange { index: 20, ..range },
        HashRange { index: u32::MAX - 3, ..range },
        HashRange { base: 1, ..range },
        HashRange { root: Sha256([1; 32]), ..range },
    ] {
        assert_eq!(server.on_block_request(start, PeerKey(2), &other), None, "{other:?}");
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
        let (whole, bare) = torrent(&[600, 3]);
        let (mut server, mut machine, now) = (server(&whole), fetch(&bare), Instant::now());
        machine.handle(now, HashFetchInput::Joined(PeerKey(1)));
        while machine.poll(now).is_some() {}
        for (file, base, index, length, proof_layers, hashes) in fields {
            let root = layers(&whole).root(FileIndex(file as u32)).unwrap_or(Sha256([3; 32]));
            let range = HashRange { root, base, index, length, proof_layers };
            prop_assert!(server.on_request(now, PeerKey(1), Box::new(range)).is_some());
            machine.handle(now, HashFetchInput::Hashes(PeerKey(1), range, vec![Sha256([7; 32]); hashes]));
            machine.handle(now, HashFetchInput::Reject(PeerKey(1), range));
            while machine.poll(now).is_some() {}
        }
    }
}
