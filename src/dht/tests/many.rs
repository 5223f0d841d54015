//! Networks of real nodes, on loopback addresses.

use std::time::Duration;

use super::sim::Sim;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A network of so many nodes, who have all been told of the first one.
fn network(seed: u64, number: u16) -> Sim {
    let mut sim = Sim::new(seed);
    for index in 0..number {
        let bootstrap = if index == 0 { vec![] } else { vec![local(1000)] };
        sim.add(local(1000 + index), config(seed + u64::from(index)), SavedTable::default(), &bootstrap);
        sim.run(Duration::from_millis(50));
    }
    sim.run(60 * SECOND);
    sim
}

fn has_found(sim: &Sim, index: usize, peer: SocketAddr) -> bool {
    sim.machines[index].record.peers.iter().any(|(_, _, found)| *found == peer)
}

#[test]
fn two_clients_on_a_network_of_200_find_each_other() {
    for seed in 0..3 {
        let mut sim = network(1000 * seed, 200);
        let sizes: Vec<usize> = sim.machines.iter().map(|machine| machine.dht.num_nodes()).collect();
        let few = sizes.iter().filter(|&&size| size < 16).count();
        println!("seed {seed}: tables of {:?} to {:?} nodes", sizes.iter().min(), sizes.iter().max());
        assert!(few < 10, "seed {seed}: {few} of 200 know fewer than 16 nodes");
        let bootstrap = [local(1007)];
        let port = |port| DhtConfig { port, ..config(seed + u64::from(port)) };
        let one = sim.add(local(5001), port(5001), SavedTable::default(), &bootstrap);
        sim.tell(one, DhtInput::Follow { hash: hash(seed), need: ANNOUNCED });
        sim.run(5 * SECOND);
        assert_eq!(sim.machines[one].record.announced.len(), 1, "seed {seed}");
        assert!(sim.machines[one].record.announced[0].2 >= 6, "seed {seed}");
        let two = sim.add(local(5002), port(5002), SavedTable::default(), &bootstrap);
        let before = sim.now;
        sim.tell(two, DhtInput::Follow { hash: hash(seed), need: ANNOUNCED });
        let found = sim.run_until(10 * SECOND, |sim| has_found(sim, two, local(5001)));
        let record = &sim.machines[two].record;
        println!("seed {seed}: found after {:?} and {} packets", sim.now - before, record.packets_out);
        assert!(found, "seed {seed}");
        assert!(sim.now - before < Duration::from_millis(200) && record.packets_out <= 40, "seed {seed}");
        // The other learns of it by its next look-up.
        assert!(sim.run_until(20 * 60 * SECOND, |sim| has_found(sim, one, local(5002))), "seed {seed}");
    }
}

#[test]
fn two_clients_find_each_other_though_two_fifths_have_just_gone_and_packets_get_lost() {
    for seed in 0..3 {
        let mut sim = network(77 + seed, 150);
        (sim.loss, sim.latency) = (10, 15..150);
        (1..150).filter(|index| index % 5 < 2).for_each(|index| sim.remove(index));
        let bootstrap = [local(1002), local(1003), local(1004)];
        for (index, port) in [(150, 5001), (151, 5002)] {
            let config = DhtConfig { port, ..config(seed + u64::from(port)) };
            assert_eq!(sim.add(local(port), config, SavedTable::default(), &bootstrap), index);
            sim.tell(index, DhtInput::Follow { hash: hash(seed), need: ANNOUNCED });
            sim.run(15 * SECOND);
            let announced = &sim.machines[index].record.announced;
            assert!(announced.iter().any(|(.., nodes)| *nodes >= 3), "seed {seed}: {announced:?}");
        }
        assert!(has_found(&sim, 151, local(5001)), "seed {seed}");
    }
}

#[test]
fn two_nodes_alone_are_network_enough() {
    let mut sim = Sim::new(1);
    let one = sim.add(local(1), DhtConfig { port: 1, ..config(1) }, SavedTable::default(), &[]);
    let two = sim.add(local(2), DhtConfig { port: 2, ..config(2) }, SavedTable::default(), &[local(1)]);
    for index in [one, two] {
        sim.tell(index, DhtInput::Follow { hash: hash(1), need: ANNOUNCED });
    }
    let both = |sim: &Sim| has_found(sim, one, local(2)) && has_found(sim, two, local(1));
    assert!(sim.run_until(6 * 60 * SECOND, both));
}

#[test]
fn a_client_that_comes_before_the_network_finds_it_when_it_comes() {
    let mut sim = Sim::new(1);
    let early = sim.add(local(1), config(1), SavedTable::default(), &[local(2)]);
    sim.tell(early, DhtInput::Follow { hash: hash(1), need: FOR_PEERS });
    sim.run(60 * SECOND);
    assert!(sim.machines[early].record.bootstraps.len() >= 4, "it is asked for again and again");
    assert!(sim.machines[early].record.packets_out < 40);
    sim.add(local(2), config(2), SavedTable::default(), &[]);
    let peer = sim.add(local(3), DhtConfig { port: 3, ..config(3) }, SavedTable::default(), &[local(2)]);
    sim.tell(peer, DhtInput::Follow { hash: hash(1), need: ANNOUNCED });
    assert!(sim.run_until(120 * SECOND, |sim| has_found(sim, early, local(3))));
}

#[test]
fn a_saved_table_is_a_way_back_without_bootstrap_nodes() {
    let mut sim = network(7, 50);
    let saved = SavedTable::decode(&sim.machines[20].dht.save().encode(), Family::V4);
    assert!(saved.nodes.len() >= 16);
    let id = sim.machines[20].dht.id();
    sim.machines[20].dht = Dht::new(sim.now, config(99), saved);
    assert_eq!(sim.machines[20].dht.id(), id);
    sim.machines[20].record.bootstraps.clear();
    sim.tell(20, DhtInput::Follow { hash: hash(1), need: FOR_PEERS });
    assert!(sim.run_until(SECOND, |sim| !sim.machines[20].record.looked_up.is_empty()));
    sim.run(10 * SECOND);
    assert!(sim.machines[20].record.bootstraps.is_empty());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut sim = network(3, 40);
        sim.loss = 10;
        (0..40).for_each(|index| {
            sim.tell(index, DhtInput::Follow { hash: hash(index as u64 % 5), need: ANNOUNCED })
        });
        sim.run(60 * SECOND);
        let record = |machine: &super::sim::Machine| {
            (machine.record.packets_out, machine.record.bytes_in, machine.record.peers.len())
        };
        sim.machines.iter().map(record).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn contact_that_is_lost_is_found_again_without_anybody_helping() {
    let mut sim = Sim::new(5);
    let alone = DhtConfig { bootstrap_wanted: false, ..config(1) };
    for index in 0..20 {
        sim.add(
            local(1000 + index),
            DhtConfig { seed: 100 + u64::from(index), ..alone.clone() },
            SavedTable::default(),
            &[],
        );
    }
    (1..20).for_each(|index| sim.tell(index, DhtInput::Node(local(1000))));
    sim.run(60 * SECOND);
    let peer = DhtConfig { port: 9, ..alone };
    let peer = sim.add(local(9), peer, SavedTable::default(), &[]);
    sim.tell(peer, DhtInput::Node(local(1005)));
    sim.run(10 * SECOND);
    let known = sim.machines[peer].dht.num_nodes();
    assert!(known >= 8, "{known}");
    sim.loss = 100;
    sim.run(3 * 3600 * SECOND);
    // Without an answer nobody is known to be gone.
    assert!(sim.machines[peer].dht.contact.is_alone());
    assert!(sim.machines[peer].dht.save().nodes.len() >= 8);
    sim.machines[peer].record = Default::default();
    sim.run(3600 * SECOND);
    let packets = sim.machines[peer].record.packets_out;
    assert!(packets < 2000, "{packets} in an hour, for nothing");
    sim.loss = 0;
    sim.run(6 * 60 * SECOND);
    assert!(!sim.machines[peer].dht.contact.is_alone());
    sim.tell(peer, DhtInput::Follow { hash: hash(1), need: FOR_PEERS });
    sim.run(10 * SECOND);
    assert_eq!(sim.machines[peer].record.looked_up.len(), 1);
}

#[test]
fn more_torrents_at_the_start_than_are_looked_up_at_a_time_come_in_turn() {
    let mut sim = network(7, 30);
    let saved = sim.machines[20].dht.save().without_id();
    let peer = sim.add(local(9), config(9), saved, &[]);
    (1..=40).for_each(|number| sim.tell(peer, DhtInput::Follow { hash: hash(number), need: FOR_PEERS }));
    // The simulator sees to it that no deadline has passed with nothing to be done.
    sim.run(30 * SECOND);
    assert!(sim.machines[peer].record.looked_up.len() >= 40);
}

#[test]
fn a_run_without_contact_keeps_what_the_run_before_has_saved() {
    let sim = network(7, 30);
    let saved = sim.machines[20].dht.save();
    let mut dht = Dht::new(sim.now, config(5), saved.clone());
    dht.handle(sim.now, DhtInput::Follow { hash: hash(1), need: FOR_PEERS });
    let mut now = sim.now;
    while now < sim.now + 600 * SECOND {
        outputs(&mut dht, now);
        now = dht.deadline().unwrap();
    }
    let sorted = |saved: SavedTable| {
        let mut nodes = saved.nodes;
        nodes.sort();
        (saved.id, nodes)
    };
    assert_eq!(sorted(dht.save()), sorted(saved));
}
