//! How near to the bound of a fluid crowds of all kinds come: a table, and the laws that hold for it.

use std::time::{Duration, Instant};

use super::sim::{Faults, Sim, Spec};
use crate::layout::{BLOCK_LENGTH, PieceIndex};

/// What stands for the time of a leecher that was not done after six times the bound.
const NEVER: u32 = 99;

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * 1024.0;

/// Who is in a crowd, besides one seed, and what they do.
#[derive(Clone, Debug)]
struct Crowd {
    name: &'static str,
    leechers: usize,
    pieces: u32,
    piece_length: u32,
    /// Bytes a second that the seed sends.
    seed_up: f64,
    /// Bytes a second that leechers send, in turn.
    ups: &'static [f64],
    /// How many times as fast as they send they receive.
    down: f64,
    latency: (u64, u64),
    /// All come within so many seconds.
    within: f64,
    /// Of a hundred, so many leave when they are done.
    leavers: usize,
    /// Of a hundred, so many send blocks of which some are wrong.
    liars: usize,
    /// The seed leaves after so many copies.
    seed_copies: Option<f64>,
    /// The last piece is not with the seed, but with one of the slowest leechers.
    rare_piece: bool,
}

const ALIKE: Crowd = Crowd {
    name: "alike",
    leechers: 100,
    pieces: 256,
    piece_length: 64 << 10,
    seed_up: 1.0 * MIB,
    ups: &[256.0 * KIB],
    down: 8.0,
    latency: (5, 60),
    within: 0.0,
    leavers: 0,
    liars: 0,
    seed_copies: None,
    rare_piece: false,
};

/// From a slow uplink to a fast one, as many of each.
const MIXED: &[f64] = &[64.0 * KIB, 128.0 * KIB, 256.0 * KIB, 512.0 * KIB];

/// What came of a crowd; times as parts of the bound.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    last: f64,
    median: f64,
    /// Copies that the seed has sent.
    copies: f64,
    /// What leechers got and did not need, of what they needed.
    wasted: f64,
}

impl Crowd {
    fn size(&self) -> f64 {
        f64::from(self.pieces) * f64::from(self.piece_length)
    }

    fn is_liar(&self, leecher: usize) -> bool {
        leecher * self.liars % 100 + self.liars > 99
    }

    /// The least time in which a fluid could reach the last of the honest ones.
    fn bound(&self) -> f64 {
        let honest: Vec<usize> = (0..self.leechers).filter(|&i| !self.is_liar(i)).collect();
        let ups: f64 = honest.iter().map(|i| self.ups[i % self.ups.len()]).sum();
        let need = self.size() * honest.len() as f64;
        let by_all = match self.seed_copies {
            None => need / (self.seed_up + ups),
            Some(copies) => (need - copies * self.size()) / ups,
        };
        let slowest = self.ups.iter().copied().fold(f64::INFINITY, f64::min);
        by_all.max(self.size() / self.seed_up).max(self.size() / (slowest * self.down))
    }

    fn sim(&self, seed: u64) -> Sim {
        let mut sim = Sim::new(seed, self.piece_length, self.size() as u64);
        sim.latency = self.latency;
        let blocks = self.seed_copies.map(|copies| (copies * self.size() / f64::from(BLOCK_LENGTH)) as u32);
        let last = PieceIndex(self.pieces - 1);
        sim.add_with(Spec { leaves_after: blocks, ..Spec::seed(self.seed_up) }, |config| {
            if self.rare_piece {
                config.have.remove(last);
            }
        });
        let slowest = (0..self.leechers)
            .min_by(|a, b| self.ups[a % self.ups.len()].total_cmp(&self.ups[b % self.ups.len()]));
        for i in 0..self.leechers {
            let up = self.ups[i % self.ups.len()];
            let corrupt = if self.is_liar(i) { 500 } else { 0 };
            let spec = Spec {
                down: up * self.down,
                joins: Duration::from_secs_f64(self.within * i as f64 / self.leechers as f64),
                leaves_when_done: (i * 37 + 11) % 100 < self.leavers,
                faults: Faults { corrupt, ..Faults::default() },
                ..Spec::leecher(up)
            };
            sim.add_with(spec, |config| {
                if self.rare_piece && Some(i) == slowest {
                    config.have.insert(last);
                }
            });
        }
        sim
    }

    /// Runs until all who are honest are done; for six times the bound at the most.
    fn run(&self, seed: u64) -> Outcome {
        let bound = self.bound();
        let mut sim = self.sim(seed);
        let honest = |sim: &Sim| -> Vec<usize> {
            (1..sim.nodes.len()).filter(|&node| sim.nodes[node].spec.faults.corrupt == 0).collect()
        };
        let leechers = honest(&sim);
        while sim.now().as_secs_f64() < 6.0 * bound
            && leechers.iter().any(|&node| sim.nodes[node].done_at.is_none())
        {
            sim.run_for(Duration::from_secs(1));
        }
        let never = Duration::from_secs_f64(bound * f64::from(NEVER));
        let time = |&node: &usize| sim.nodes[node].done_at.unwrap_or(never).as_secs_f64();
        let mut times: Vec<f64> = leechers.iter().map(time).collect();
        times.sort_by(f64::total_cmp);
        let wasted: u64 = sim.nodes.iter().map(|node| node.swarm().wasted).sum();
        Outcome {
            last: times[times.len() - 1] / bound,
            median: times[times.len() / 2] / bound,
            copies: sim.nodes[0].swarm().uploaded as f64 / self.size(),
            wasted: wasted as f64 / self.size() / self.leechers as f64,
        }
    }
}

fn crowds(leechers: usize) -> Vec<Crowd> {
    let alike = Crowd { leechers, ..ALIKE };
    let mixed = Crowd { name: "mixed rates", ups: MIXED, latency: (5, 150), ..alike.clone() };
    vec![
        mixed.clone(),
        Crowd { name: "30 % leave when done", leavers: 30, ..mixed.clone() },
        Crowd { name: "5 % liars", liars: 5, ..mixed.clone() },
        Crowd { name: "flash crowd", within: 5.0, ..mixed.clone() },
        Crowd { name: "the seed leaves after 1.1 copies", seed_copies: Some(1.1), ..mixed.clone() },
        Crowd { name: "a rare last piece", rare_piece: true, ..mixed.clone() },
        Crowd { name: "all of it", leavers: 30, liars: 5, within: 5.0, rare_piece: true, ..mixed.clone() },
        alike,
    ]
}

/// The whole table: `CROWD=1000 cargo test --release --lib crowds -- --ignored --nocapture`.
#[test]
#[ignore = "prints a table, for minutes"]
fn the_table_of_crowds() {
    let number =
        |name: &str, or: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or);
    let only = std::env::var("ONLY").unwrap_or_default();
    println!("| crowd | clients | last | median | copies | wasted | run |");
    for crowd in crowds(number("CROWD", 100) as usize) {
        if !crowd.name.contains(&only) {
            continue;
        }
        for seed in 0..number("SEEDS", 1) {
            let start = Instant::now();
            let Outcome { last, median, copies, wasted } = crowd.run(seed);
            let took = start.elapsed().as_secs_f64();
            let (name, clients) = (crowd.name, crowd.leechers + 1);
            println!(
                "| {name} | {clients} | {last:.2} | {median:.2} | {copies:.2} | {wasted:.3} | {took:.1} s |"
            );
        }
    }
}

#[test]
fn half_a_crowd_of_mixed_rates_is_done_at_the_bound_and_all_of_it_soon_after() {
    let all = crowds(60);
    for name in ["mixed rates", "30 % leave when done", "a rare last piece"] {
        let crowd = all.iter().find(|crowd| crowd.name == name).unwrap();
        let Outcome { last, median, wasted, .. } = crowd.run(7);
        assert!(median <= 1.1 && last <= 1.6, "{name}: median {median:.2}, last {last:.2}");
        assert!(wasted < 0.1, "{name}: {wasted:.3} wasted");
    }
}
