//! The machine on its own: what each kind of peer brings it to do. A whole swarm of them is in `sim`.

mod sim;

use super::*;
use proptest::prelude::*;

const PIECE: usize = assembly::PIECE_LENGTH;

/// A machine, the time, and what it has said.
struct Bench {
    fetch: Fetch,
    now: Instant,
    said: Vec<FetchOutput>,
}

impl Bench {
    fn new() -> Bench {
        Bench { fetch: Fetch::new(), now: Instant::now(), said: Vec::new() }
    }

    fn handle(&mut self, input: FetchInput) {
        self.fetch.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.fetch.poll(self.now) {
            self.said.push(output);
        }
        assert!(self.fetch.deadline().is_none_or(|at| at > self.now), "it would be called without end");
        let collected = self.fetch.assemblies.values().map(|one| u64::from(one.size));
        let sizes: Vec<u64> =
            collected.chain(self.fetch.verifying.values().map(|whole| whole.bytes.len() as u64)).collect();
        let large: Vec<u64> = sizes.iter().copied().filter(|&size| size > u64::from(LARGE)).collect();
        assert!(sizes.len() <= MAX_CANDIDATES && large.len() <= MAX_LARGE);
        assert!(large.len() <= 1 || large.iter().sum::<u64>() <= MAX_LARGE_BYTES, "{large:?}");
    }

    fn wait(&mut self, seconds: f64) {
        let until = self.now + Duration::from_secs_f64(seconds);
        while let Some(at) = self.fetch.deadline().filter(|&at| at <= until) {
            self.now = at;
            self.drain();
        }
        self.now = until;
        self.drain();
    }

    fn connect(&mut self, peer: u64, size: Option<i64>) {
        self.handle(FetchInput::Handshake(PeerKey(peer), PeerMetadata { offered: true, size }));
    }

    fn data(&mut self, peer: u64, piece: u32, total_size: i64, data: &[u8]) {
        let data = MetadataMessage::Data { piece, total_size: Some(total_size), data: data.to_vec() };
        self.handle(FetchInput::Message(PeerKey(peer), data));
    }

    fn reject(&mut self, peer: u64, piece: u32) {
        self.handle(FetchInput::Message(PeerKey(peer), MetadataMessage::Reject { piece }));
    }

    /// What it has said since the last call.
    fn said(&mut self) -> Vec<FetchOutput> {
        std::mem::take(&mut self.said)
    }

    /// Whom it has asked for what since the last call; it must have said nothing else.
    fn asked(&mut self) -> Vec<(u64, u32)> {
        let asked = self.said().into_iter().map(|output| match output {
            FetchOutput::Request { peer, piece } => (peer.0, piece),
            other => panic!("it says {other:?}"),
        });
        asked.collect()
    }

    /// Gives what it asks this peer for, out of `metadata`, and returns what it then says beside requests.
    fn serve(&mut self, peers: &[u64], metadata: &[u8]) -> Vec<FetchOutput> {
        let mut other = Vec::new();
        loop {
            let said = self.said();
            if said.is_empty() {
                return other;
            }
            for output in said {
                match output {
                    FetchOutput::Request { peer, piece } if peers.contains(&peer.0) => {
                        let begin = piece as usize * PIECE;
                        let end = metadata.len().min(begin + PIECE);
                        self.data(peer.0, piece, metadata.len() as i64, &metadata[begin..end]);
                    }
                    FetchOutput::Request { .. } => {}
                    output => other.push(output),
                }
            }
        }
    }

    fn verdict(&mut self, said: &[FetchOutput], metadata: &[u8]) {
        for output in said {
            if let FetchOutput::Verify(ticket, bytes) = output {
                self.handle(FetchInput::Verdict(*ticket, bytes[..] == *metadata));
            }
        }
    }
}

fn metadata(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 256) as u8).collect()
}

#[test]
fn one_peer_is_asked_for_all_and_what_it_gives_is_verified() {
    let (mut bench, wanted) = (Bench::new(), metadata(40_000));
    bench.connect(1, Some(40_000));
    assert_eq!(bench.asked(), [(1, 0), (1, 1), (1, 2)]);
    assert_eq!(bench.fetch.progress(), (0, Some(40_000)));
    bench.data(1, 2, 40_000, &wanted[32_768..]);
    bench.data(1, 0, 40_000, &wanted[..16_384]);
    assert_eq!(bench.fetch.progress(), (23_616, Some(40_000)));
    bench.data(1, 1, 40_000, &wanted[16_384..32_768]);
    let said = bench.said();
    assert!(matches!(&said[..], [FetchOutput::Verify(_, bytes)] if bytes[..] == wanted[..]));
    bench.verdict(&said, &wanted);
    assert_eq!(bench.said(), [FetchOutput::Done(wanted.into())]);
    bench.connect(2, Some(7));
    assert_eq!((bench.said(), bench.fetch.deadline()), (vec![], None));
}

#[test]
fn a_size_that_is_not_told_comes_with_the_first_piece() {
    let (mut bench, wanted) = (Bench::new(), metadata(20_000));
    bench.connect(1, None);
    assert_eq!((bench.asked(), bench.fetch.progress()), (vec![(1, 0)], (0, None)));
    bench.data(1, 0, 20_000, &wanted[..16_384]);
    assert_eq!((bench.asked(), bench.fetch.progress()), (vec![(1, 1)], (16_384, Some(20_000))));
}

#[test]
fn a_single_piece_is_asked_of_three() {
    let mut bench = Bench::new();
    (1..6).for_each(|peer| bench.connect(peer, Some(100)));
    assert_eq!(bench.asked(), [(1, 0), (2, 0), (3, 0)]);
}

#[test]
fn several_peers_share_the_work() {
    let (mut bench, wanted) = (Bench::new(), metadata(60 * PIECE));
    (1..4).for_each(|peer| bench.connect(peer, Some(wanted.len() as i64)));
    let said = bench.serve(&[1, 2, 3], &wanted);
    assert!(matches!(&said[..], [FetchOutput::Verify(_, bytes)] if bytes[..] == wanted[..]));
    assert!(
        bench.fetch.verifying.values().all(|whole| (1..4).all(|peer| whole.sources.contains(&PeerKey(peer))))
    );
}

#[test]
fn a_silent_peer_is_left_after_5_s_and_what_it_sends_then_still_counts() {
    let (mut bench, wanted) = (Bench::new(), metadata(300));
    bench.connect(1, Some(300));
    assert_eq!(bench.asked(), [(1, 0)]);
    bench.wait(4.9);
    assert_eq!(bench.asked(), []);
    bench.wait(1.2);
    assert_eq!(bench.asked(), [(1, 0)], "asked again after a pause of 1 s");
    bench.wait(5.0);
    bench.data(1, 0, 300, &wanted);
    assert!(matches!(bench.said()[..], [FetchOutput::Verify(..)]));
}

#[test]
fn pauses_after_refusals_grow() {
    let mut bench = Bench::new();
    bench.connect(1, None);
    let mut times = Vec::new();
    let start = bench.now;
    while bench.now < start + Duration::from_secs(400) {
        if !bench.asked().is_empty() {
            times.push((bench.now - start).as_secs());
            bench.reject(1, 0);
        }
        bench.wait(0.5);
    }
    assert_eq!(times, [0, 1, 3, 7, 15, 31, 63, 127, 191, 255, 319, 383]);
    // Now it has them, it says.
    bench.connect(1, Some(50));
    assert_eq!(bench.asked(), [(1, 0)]);
}

#[test]
fn refusals_that_nobody_asked_for_change_nothing() {
    let mut bench = Bench::new();
    bench.connect(1, Some(50));
    bench.said();
    (0..100).for_each(|_| bench.reject(1, 7));
    bench.reject(2, 0);
    assert_eq!((bench.said(), bench.fetch.peers[&PeerKey(1)].failures), (vec![], 0));
}

#[test]
fn impossible_and_changing_sizes_end_the_asking() {
    for size in [0, -1, 31_457_281, i64::MAX, i64::MIN, 1 << 32 | 100] {
        let mut bench = Bench::new();
        bench.connect(1, Some(size));
        let why = "tells an impossible size of the metadata";
        assert_eq!(bench.said(), [FetchOutput::NotAsked { peer: PeerKey(1), why }], "{size}");
        bench.wait(1000.0);
        bench.connect(1, Some(100));
        assert_eq!(bench.said(), []);
    }
    let mut bench = Bench::new();
    bench.connect(1, Some(100));
    bench.said();
    bench.connect(1, Some(101));
    let why = "changes the size of the metadata";
    assert_eq!(bench.said(), [FetchOutput::NotAsked { peer: PeerKey(1), why }]);
    let mut bench = Bench::new();
    bench.connect(1, Some(31_457_280));
    assert_eq!(bench.asked().len(), 8);
    bench.data(1, 0, 31_457_279, &[0; PIECE]);
    assert_eq!(bench.said(), [FetchOutput::NotAsked { peer: PeerKey(1), why }]);
}

#[test]
fn what_breaks_the_protocol_closes_the_connection() {
    let close = |why| [FetchOutput::Close { peer: PeerKey(1), why }];
    let wrong_length = "sent a piece of metadata of a wrong length";
    let unasked = "sent metadata that nobody asked for";
    for length in [0, 1, PIECE - 1, PIECE + 1, 100_000] {
        let mut bench = Bench::new();
        bench.connect(1, Some(20_000));
        bench.said();
        bench.data(1, 0, 20_000, &vec![0; length]);
        assert_eq!(bench.said(), close(wrong_length));
    }
    for (piece, length) in [(2, PIECE), (1919, PIECE), (u32::MAX, 0)] {
        let mut bench = Bench::new();
        bench.connect(1, Some(20_000));
        bench.said();
        bench.data(1, piece, 20_000, &vec![0; length]);
        assert_eq!(bench.said(), close(unasked));
    }
    let mut bench = Bench::new();
    bench.connect(1, Some(20_000));
    bench.said();
    bench.data(1, 0, 20_000, &[0; PIECE]);
    bench.data(1, 0, 20_000, &[0; PIECE]);
    assert_eq!(bench.said(), close(unasked), "a piece twice");
    bench.connect(1, Some(20_000));
    bench.wait(100.0);
    assert_eq!(bench.said(), []);
}

#[test]
fn a_liar_alone_is_convicted_and_the_others_go_on() {
    let (mut bench, wanted) = (Bench::new(), metadata(300));
    bench.connect(1, Some(300));
    bench.said();
    bench.data(1, 0, 300, &[0; 300]);
    let said = bench.said();
    bench.connect(2, Some(300));
    bench.verdict(&said, &wanted);
    assert_eq!(
        bench.said(),
        [
            FetchOutput::Close { peer: PeerKey(1), why: "sent metadata of another torrent" },
            FetchOutput::Request { peer: PeerKey(2), piece: 0 }
        ]
    );
}

#[test]
fn a_liar_among_others_of_its_size_is_found_and_does_not_stop_them() {
    let wanted = metadata(3 * PIECE);
    let mut bench = Bench::new();
    let lie = vec![9; 3 * PIECE];
    bench.connect(1, Some(wanted.len() as i64));
    bench.connect(2, Some(wanted.len() as i64));
    let asked = bench.asked();
    assert!(asked.contains(&(1, 0)) && asked.contains(&(2, 1)));
    // Both give something of the first candidate.
    bench.data(1, 0, wanted.len() as i64, &lie[..PIECE]);
    bench.data(2, 1, wanted.len() as i64, &wanted[PIECE..2 * PIECE]);
    bench.data(1, 2, wanted.len() as i64, &lie[..PIECE]);
    let first: Vec<_> =
        bench.said().into_iter().filter(|output| matches!(output, FetchOutput::Verify(..))).collect();
    assert_eq!(first.len(), 1);
    bench.verdict(&first, &wanted);
    // From now on each by itself; what they have given already is not asked again.
    let asked = bench.asked();
    assert!(!asked.contains(&(1, 0)) && !asked.contains(&(2, 1)), "{asked:?}");
    assert!(asked.contains(&(1, 1)) && asked.contains(&(2, 0)) && asked.contains(&(2, 2)), "{asked:?}");
    bench.data(1, 1, wanted.len() as i64, &lie[..PIECE]);
    let second = bench.said();
    bench.verdict(&second, &wanted);
    let why = "sent metadata of another torrent";
    assert_eq!(bench.said(), [FetchOutput::Close { peer: PeerKey(1), why }]);
    bench.data(2, 0, wanted.len() as i64, &wanted[..PIECE]);
    bench.data(2, 2, wanted.len() as i64, &wanted[2 * PIECE..]);
    let third = bench.said();
    bench.verdict(&third, &wanted);
    assert_eq!(bench.said(), [FetchOutput::Done(wanted.into())]);
}

#[test]
fn twenty_liars_that_announce_30_mib_do_not_cost_600() {
    let (mut bench, wanted) = (Bench::new(), metadata(300));
    for peer in 1..=20 {
        bench.connect(peer, Some(31_457_280 - peer as i64));
    }
    // An honest peer comes last and finds a place all the same.
    bench.connect(99, Some(300));
    let said = bench.serve(&[99], &wanted);
    bench.verdict(&said, &wanted);
    assert_eq!(bench.said(), [FetchOutput::Done(wanted.into())]);
}

#[test]
fn an_honest_peer_with_the_largest_metadata_gets_its_turn_beside_those_who_hold_the_places() {
    let size = 31_457_280i64;
    let (mut bench, wanted) = (Bench::new(), metadata(size as usize));
    // Each gives a piece now and then, so as to look alive.
    (1..=6).for_each(|peer| bench.connect(peer, Some(size - peer as i64)));
    bench.connect(99, Some(size));
    for _ in 0..100 {
        let said = bench.said();
        let mut given = BTreeSet::new();
        for output in said {
            let FetchOutput::Request { peer, piece } = output else { panic!("it says {output:?}") };
            if peer.0 == 99 {
                let begin = piece as usize * PIECE;
                bench.data(99, piece, size, &wanted[begin..begin + PIECE]);
                let more = bench.serve(&[99], &wanted);
                if !more.is_empty() {
                    bench.verdict(&more, &wanted);
                    assert!(matches!(bench.said()[..], [FetchOutput::Done(_)]));
                    return;
                }
            } else if given.insert(peer) && (piece as usize + 1) * PIECE < size as usize - 20 {
                bench.data(peer.0, piece, size - peer.0 as i64, &[0; PIECE]);
            }
        }
        bench.wait(4.0);
    }
    panic!("the honest peer had no turn in 400 s");
}

#[test]
fn the_largest_metadata_find_room_though_smaller_ones_that_never_end_keep_coming() {
    let size = 31_457_280i64;
    let (mut bench, wanted) = (Bench::new(), metadata(size as usize));
    let liar_size = |liar: u64| 5_000_000 - liar as i64;
    (1..=4).for_each(|liar| bench.connect(liar, Some(liar_size(liar))));
    bench.connect(999, Some(size));
    for round in 0..100 {
        // Each of these has had no turn yet, and is before the honest one for that it is smaller.
        bench.connect(10 + round, Some(liar_size(10 + round)));
        let mut given = BTreeSet::new();
        for output in bench.said() {
            let FetchOutput::Request { peer, piece } = output else { panic!("it says {output:?}") };
            if peer.0 == 999 {
                bench.data(999, piece, size, &wanted[piece as usize * PIECE..][..PIECE]);
                let more = bench.serve(&[999], &wanted);
                if !more.is_empty() {
                    bench.verdict(&more, &wanted);
                    assert!(matches!(bench.said()[..], [FetchOutput::Done(_)]));
                    return;
                }
            } else if given.insert(peer) && piece < 300 {
                bench.data(peer.0, piece, liar_size(peer.0), &[0; PIECE]);
            }
        }
        bench.wait(4.0);
        if round > 20 {
            bench.handle(FetchInput::Gone(PeerKey(10 + round)));
        }
    }
    panic!("the honest peer had no turn in 400 s");
}

#[test]
fn a_peer_that_takes_the_extension_back_is_asked_no_more_until_it_offers_it_again() {
    let mut bench = Bench::new();
    bench.connect(1, Some(20_000));
    bench.said();
    bench.handle(FetchInput::Handshake(PeerKey(1), PeerMetadata { offered: false, size: None }));
    bench.wait(100.0);
    assert_eq!(bench.said(), []);
    bench.connect(1, None);
    assert_eq!(bench.asked(), [(1, 0), (1, 1)]);
    bench.handle(FetchInput::Gone(PeerKey(1)));
    bench.wait(100.0);
    assert_eq!((bench.said(), bench.fetch.deadline()), (vec![], None));
    assert!(
        bench.fetch.groups.is_empty() && bench.fetch.assemblies.is_empty() && bench.fetch.peers.is_empty()
    );
}

#[derive(Clone, Debug)]
enum Step {
    Handshake(u64, bool, Option<i64>),
    /// Answer a request that is open, rightly or not.
    Answer(usize, bool),
    Data(u64, u32, Option<i64>, usize),
    Reject(u64, u32),
    Gone(u64),
    Verdict,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    let size =
        prop_oneof![Just(None), (0i64..3).prop_map(|size| Some(size * 20_000)), any::<i64>().prop_map(Some)];
    prop_oneof![
        2 => (0u64..6, any::<bool>(), size.clone()).prop_map(|(peer, on, size)| Step::Handshake(peer, on, size)),
        6 => (0usize..20, any::<bool>()).prop_map(|(which, right)| Step::Answer(which, right)),
        1 => (0u64..6, 0u32..4, size, 0usize..20_000).prop_map(|(a, b, c, d)| Step::Data(a, b, c, d)),
        1 => (0u64..6, 0u32..4).prop_map(|(peer, piece)| Step::Reject(peer, piece)),
        1 => (0u64..6).prop_map(Step::Gone),
        3 => Just(Step::Verdict),
        2 => (0u64..8000).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever comes: no panic, the bounds hold, and an honest peer that comes in the end is enough.
    #[test]
    fn a_storm_of_inputs_does_not_stop_an_honest_peer(steps in prop::collection::vec(steps(), 0..80)) {
        let (mut bench, wanted) = (Bench::new(), metadata(40_000));
        let mut open: Vec<(u64, u32)> = Vec::new();
        let mut candidates = Vec::new();
        for step in steps {
            match step {
                Step::Handshake(peer, offered, size) => {
                    bench.handle(FetchInput::Handshake(PeerKey(peer), PeerMetadata { offered, size }));
                }
                Step::Answer(which, right) if !open.is_empty() => {
                    let (peer, piece) = open.remove(which % open.len());
                    let begin = piece as usize * PIECE;
                    let end = wanted.len().min(begin + PIECE);
                    let data = if begin < end { wanted[begin..end].to_vec() } else { vec![] };
                    let data = if right { data } else { data.iter().map(|byte| !byte).collect() };
                    bench.data(peer, piece, 40_000, &data);
                }
                Step::Answer(..) => {}
                Step::Data(peer, piece, total_size, length) => {
                    let data = MetadataMessage::Data { piece, total_size, data: vec![0; length] };
                    bench.handle(FetchInput::Message(PeerKey(peer), data));
                }
                Step::Reject(peer, piece) => bench.reject(peer, piece),
                Step::Gone(peer) => bench.handle(FetchInput::Gone(PeerKey(peer))),
                Step::Verdict => bench.verdict(&std::mem::take(&mut candidates), &wanted),
                Step::Wait(milliseconds) => bench.wait(milliseconds as f64 / 1000.0),
            }
            for output in bench.said() {
                match output {
                    FetchOutput::Request { peer, piece } => open.push((peer.0, piece)),
                    FetchOutput::Done(bytes) => {
                        prop_assert_eq!(&bytes[..], &wanted[..]);
                        return Ok(());
                    }
                    FetchOutput::Verify(..) => candidates.push(output),
                    FetchOutput::Close { .. } | FetchOutput::NotAsked { .. } => {}
                }
            }
        }
        bench.connect(99, Some(40_000));
        for _ in 0..200 {
            candidates.extend(bench.serve(&[99], &wanted));
            if candidates.iter().any(|output| matches!(output, FetchOutput::Done(_))) {
                return Ok(());
            }
            bench.verdict(&std::mem::take(&mut candidates), &wanted);
            bench.wait(1.0);
        }
        prop_assert!(false, "the honest peer was not enough in 200 s");
    }
}
