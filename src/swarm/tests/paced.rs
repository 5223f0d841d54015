//! How peers are asked while downloads are limited.

use std::collections::VecDeque;
use std::time::Duration;

use super::table::Table;
use crate::ids::{Counter, PeerKey};
use crate::layout::{BLOCK_LENGTH, Block};
use crate::pace::Pace;
use crate::wire::PIECE_HEADER_LENGTH;

const BLOCK: usize = PIECE_HEADER_LENGTH + BLOCK_LENGTH as usize;
const STEP: Duration = Duration::from_millis(100);

/// A swarm under a limit, and peers that have everything.
struct Limited {
    table: Table,
    pace: Pace,
    peers: Vec<PeerKey>,
    /// What each was asked for, in all, and what of it is still to come.
    asked: Vec<usize>,
    owed: Vec<VecDeque<Block>>,
    /// Bytes that have come.
    came: usize,
}

impl Limited {
    fn new(rate: u64, peers: usize) -> Limited {
        let pace = Pace::new(Some(rate));
        let share = pace.share(Counter::default().torrent());
        let mut table = Table::with(100, 16, |config| config.pace = share);
        let peers: Vec<PeerKey> = (0..peers).map(|_| table.giver()).collect();
        let (asked, owed) = (vec![0; peers.len()], vec![VecDeque::new(); peers.len()]);
        Limited { table, pace, peers, asked, owed, came: 0 }
    }

    /// Lets so much time pass, in which each peer sends so many of the blocks that it owes a second. The most that was owed by all at a time.
    fn run(&mut self, seconds: u64, blocks_a_second: impl Fn(usize) -> f64) -> usize {
        let mut most = 0;
        for step in 0..seconds * 10 {
            self.table.wait(STEP);
            for (number, &peer) in self.peers.iter().enumerate() {
                let asked = self.table.requests_to(peer);
                self.asked[number] += asked.len();
                self.owed[number].extend(asked);
            }
            most = most.max(self.owed.iter().map(VecDeque::len).sum());
            for (number, &peer) in self.peers.iter().enumerate() {
                let by = |step: u64| (blocks_a_second(number) * step as f64 / 10.0) as u64;
                for _ in by(step)..by(step + 1) {
                    let Some(block) = self.owed[number].pop_front() else { break };
                    self.pace.on_read(BLOCK, BLOCK);
                    assert!(self.table.block(peer, block));
                    self.came += BLOCK;
                }
            }
        }
        most
    }
}

#[test]
fn no_more_is_asked_for_than_the_limit_lets_in_and_peers_are_asked_in_turn() {
    for (rate, seconds) in [(10 << 10, 200), (100 << 10, 60), (1 << 20, 20)] {
        let mut limited = Limited::new(rate, 10);
        let most = limited.run(seconds, |_| 100.0);
        let ratio = limited.came as f64 / (seconds * rate) as f64;
        assert!((0.96..=1.02).contains(&ratio), "{ratio} of {rate}");
        assert!(most <= 3 + rate as usize / 5 / BLOCK, "{most} blocks at a time of {rate} bytes a second");
        let (least, most) = (limited.asked.iter().min().unwrap(), limited.asked.iter().max().unwrap());
        assert!(most - least <= most / 10 + 1, "{:?}", limited.asked);
        assert!(limited.table.swarm().peers.values().all(|peer| !peer.snubbed));
    }
}

#[test]
fn slow_and_silent_peers_do_not_keep_what_is_due_from_others() {
    const RATE: u64 = 256 << 10;
    let mut limited = Limited::new(RATE, 10);
    // Five are silent, four send a block in two seconds, and one all that it is asked for.
    let speed = |number| [0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 1000.0][number];
    limited.run(40, speed);
    limited.came = 0;
    limited.run(30, speed);
    let ratio = limited.came as f64 / (30 * RATE) as f64;
    assert!((0.96..=1.02).contains(&ratio), "{ratio}");
}
