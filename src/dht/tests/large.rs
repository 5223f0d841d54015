//! A few real nodes in networks of 10,000, of which the others are scripted: they answer as nodes at their places would, and take announces; nothing
//! else of them exists. Each test is one run in virtual time and tells its seed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::scripted::{FOREVER, LIES, Lie, Node, Scripted, outer, random_id};
use super::sim::Sim;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Real nodes of the world in such a network, that have found contact.
fn clients(seed: u64, scripted: Scripted, number: usize) -> Sim {
    let mut sim = Sim::new(seed);
    (sim.loss, sim.latency) = (10, 15..150);
    sim.scripted = Some(scripted);
    let mut rng = Rng::with_seed(seed);
    for index in 0..number {
        let bootstrap = sim.scripted.as_mut().unwrap().some_alive(Duration::ZERO, 3);
        let seed = seed * 1000 + index as u64;
        sim.add(outer(&mut rng), config(seed), SavedTable::default(), &bootstrap);
    }
    sim.run(20 * SECOND);
    sim
}

/// What came of many look-ups.
#[derive(Default, Debug)]
struct Outcome {
    lookups: usize,
    /// Those that have found a peer that is one.
    successful: usize,
    /// When they did, after the beginning.
    found: Vec<Duration>,
    ended: Vec<Duration>,
    queries: Vec<usize>,
}

impl Outcome {
    fn medians(&mut self) -> (Duration, Duration, usize) {
        self.found.sort();
        self.ended.sort();
        self.queries.sort();
        let middle = |length: usize| length / 2;
        (
            self.found[middle(self.found.len())],
            self.ended[middle(self.ended.len())],
            self.queries[middle(self.queries.len())],
        )
    }
}

/// Each node looks up torrents of its own, one after the other; three peers have announced each.
fn look_up(sim: &mut Sim, rounds: u64, outcome: &mut Outcome) {
    for round in 0..rounds {
        let started = sim.now;
        let mut wanted = Vec::new();
        for index in 0..sim.machines.len() {
            let hash = hash(1 + round * 100 + index as u64);
            let mut rng = Rng::with_seed(round * 100 + index as u64);
            let peers: Vec<SocketAddr> = (0..3).map(|_| outer(&mut rng)).collect();
            let time = sim.now - sim.start;
            sim.scripted.as_mut().unwrap().announce(time, hash, &peers);
            sim.machines[index].record = Default::default();
            sim.tell(index, DhtInput::Follow { hash, need: FOR_PEERS });
            wanted.push((hash, peers));
        }
        sim.run(40 * SECOND);
        for (index, (hash, peers)) in wanted.into_iter().enumerate() {
            sim.tell(index, DhtInput::Unfollow(hash));
            let record = &sim.machines[index].record;
            let found = record.peers.iter().find(|(_, _, peer)| peers.contains(peer));
            outcome.lookups += 1;
            outcome.successful += usize::from(found.is_some());
            outcome.found.extend(found.map(|(at, ..)| *at - started));
            if let Some((at, _, queries, _)) = record.looked_up.first() {
                outcome.ended.push(*at - started);
                outcome.queries.push(*queries);
            }
        }
    }
}

#[test]
fn look_ups_find_the_peers_in_a_network_of_10000_with_loss_dead_nodes_and_liars() {
    let seed = 1;
    let lies: Vec<(Lie, u32)> = LIES.iter().map(|&lie| (lie, 1)).collect();
    let mut sim = clients(seed, Scripted::new(seed, 10_000, 40, &lies), 5);
    let mut outcome = Outcome::default();
    look_up(&mut sim, 60, &mut outcome);
    let (found, ended, queries) = outcome.medians();
    println!(
        "seed {seed}: {} of {} found peers, medians: {found:?} to the first, {ended:?} and {queries} queries to the end; \
         most queries {:?}",
        outcome.successful,
        outcome.lookups,
        outcome.queries.last()
    );
    assert!(100 * outcome.successful >= 99 * outcome.lookups, "seed {seed}: {}", outcome.successful);
    assert!(ended < 5 * SECOND && queries < 80, "seed {seed}: {ended:?}, {queries} queries");
    assert!(outcome.queries.iter().all(|&queries| queries <= 200), "seed {seed}");
}

#[test]
fn a_tenth_of_liars_of_any_kind_keeps_nobody_from_the_peers() {
    for (at, lie) in LIES.into_iter().enumerate() {
        let seed = 100 + at as u64;
        let mut sim = clients(seed, Scripted::new(seed, 10_000, 40, &[(lie, 10)]), 4);
        let mut outcome = Outcome::default();
        look_up(&mut sim, 8, &mut outcome);
        let (found, ended, queries) = outcome.medians();
        println!(
            "{lie:?}: {} of {}, {found:?}, {ended:?}, {queries} queries, at most {:?}",
            outcome.successful,
            outcome.lookups,
            outcome.queries.last()
        );
        assert!(outcome.successful + 1 >= outcome.lookups, "{lie:?}, seed {seed}: {}", outcome.successful);
        assert!(ended < 5 * SECOND && queries < 80, "{lie:?}, seed {seed}: {ended:?}, {queries} queries");
    }
}

#[test]
fn the_table_stays_healthy_over_a_day_of_churn_and_costs_little() {
    let seed = 5;
    let mut rng = Rng::with_seed(seed);
    let mut nodes = Vec::new();
    // Each place is taken by one node after the other, of four hours each, and there is nobody for some time between.
    for _ in 0..2500 {
        let mut at = 4 * HOUR * rng.u32(..1000) / 1000;
        nodes.push(node(&mut rng, Duration::ZERO..at));
        while at < 25 * HOUR {
            at += HOUR * rng.u32(..1000) / 1000;
            let end = at + 8 * HOUR * rng.u32(1..1000) / 1000;
            nodes.push(node(&mut rng, at..end));
            at = end;
        }
    }
    let mut scripted = Scripted::of(nodes, rng);
    scripted.curiosity = 20;
    let mut sim = clients(seed, scripted, 1);
    for hour in 1..=24 {
        let record = &sim.machines[0].record;
        let before = (record.bytes_out + record.bytes_in, record.wake_ups + record.packets_in);
        sim.run(HOUR);
        let time = sim.now - sim.start;
        let machine = &sim.machines[0];
        let known = machine.dht.table.closest(&machine.dht.id, 1000);
        let scripted = sim.scripted.as_ref().unwrap();
        let alive = known.iter().filter(|(_, address)| scripted.is_alive(time, *address)).count();
        let bytes = (machine.record.bytes_out + machine.record.bytes_in - before.0) / 3600;
        let wake_ups = machine.record.wake_ups + machine.record.packets_in - before.1;
        if hour % 6 == 0 {
            println!(
                "after {hour} h: {} nodes, {alive} of them there; {bytes} bytes/s, {} wake-ups/s",
                known.len(),
                wake_ups as f32 / 3600.0
            );
        }
        assert!(known.len() >= 40, "seed {seed}, hour {hour}: {}", known.len());
        assert!(10 * alive >= 8 * known.len(), "seed {seed}, hour {hour}: {alive} of {}", known.len());
        assert!(bytes < 1024, "seed {seed}, hour {hour}: {bytes} bytes a second");
        assert!(wake_ups < 2 * 3600, "seed {seed}, hour {hour}: {wake_ups} wake-ups");
    }
}

fn node(rng: &mut Rng, life: std::ops::Range<Duration>) -> Node {
    let address = outer(rng);
    Node { id: random_id(rng).bound_to(address.ip()), address, lie: None, life }
}

#[test]
fn a_ring_around_a_target_gets_into_nobodys_table_and_hides_nobody() {
    let seed = 9;
    let mut rng = Rng::with_seed(seed);
    let target = NodeId::of(hash(1));
    let mut nodes: Vec<Node> = (0..5000).map(|_| node(&mut rng, FOREVER)).collect();
    // Machines of one subnet, with ids as close to the target as they like; only few of them fit.
    for last in 1..=250 {
        let address = SocketAddr::from(([77, 77, 77, last], 7777));
        let id = target.near(60 + usize::from(last % 60), random_id(&mut rng));
        let id = if last % 2 == 0 { id.bound_to(address.ip()) } else { id };
        nodes.push(Node { id, address, lie: Some(Lie::UnfitIds), life: FOREVER });
    }
    let mut sim = clients(seed, Scripted::of(nodes, rng), 4);
    let mut outcome = Outcome::default();
    look_up(&mut sim, 10, &mut outcome);
    assert_eq!(outcome.successful, outcome.lookups, "seed {seed}");
    for machine in &sim.machines {
        let known = machine.dht.table.closest(&machine.dht.id, 1000);
        let of_ring = known.iter().filter(|(_, address)| address.port() == 7777);
        let mut by_bucket = std::collections::BTreeMap::new();
        of_ring.for_each(|(id, _)| *by_bucket.entry(id.shared_bits(&machine.dht.id)).or_insert(0) += 1);
        assert!(by_bucket.values().all(|&number| number <= 2), "seed {seed}: {by_bucket:?}");
    }
}

#[test]
fn fifteen_hundred_torrents_are_announced_within_a_quarter_of_an_hour() {
    let seed = 11;
    let mut sim = clients(seed, Scripted::new(seed, 10_000, 20, &[]), 1);
    let mut rng = Rng::with_seed(seed);
    let before = sim.machines[0].record.bytes_out + sim.machines[0].record.bytes_in;
    let hashes: Vec<WireHash> = (0..1500).map(|_| WireHash(random_id(&mut rng).0)).collect();
    for &hash in &hashes {
        sim.tell(0, DhtInput::Follow { hash, need: ANNOUNCED });
    }
    sim.run(15 * 60 * SECOND);
    let machine = &sim.machines[0];
    let announced: BTreeSet<WireHash> =
        machine.record.announced.iter().filter(|(.., nodes)| *nodes >= 1).map(|(_, hash, _)| *hash).collect();
    let bytes = machine.record.bytes_out + machine.record.bytes_in - before;
    let queries: usize = machine.record.looked_up.iter().map(|(_, _, queries, _)| queries).sum();
    println!(
        "seed {seed}: {} announced, {} look-ups of {} queries, {} KiB out and {} KiB in a minute, {} look-ups at once",
        announced.len(),
        machine.record.looked_up.len(),
        queries / machine.record.looked_up.len().max(1),
        machine.record.bytes_out / 15 / 1024,
        machine.record.bytes_in / 15 / 1024,
        machine.record.most_lookups
    );
    assert_eq!(announced.len(), hashes.len(), "seed {seed}");
    assert!(bytes / 15 < 3 << 19, "seed {seed}: {bytes} bytes");
    assert!(machine.record.most_lookups <= 16);
    let scripted = sim.scripted.as_ref().unwrap();
    let peer = SocketAddr::new(machine.address.ip(), 6881);
    let stored: Vec<usize> = hashes.iter().map(|&hash| scripted.has_stored(hash, peer)).collect();
    assert!(stored.iter().all(|&nodes| nodes > 0), "seed {seed}");
    assert!(stored.iter().sum::<usize>() > 6 * hashes.len(), "seed {seed}");
}
