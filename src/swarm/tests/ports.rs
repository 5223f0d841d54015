//! By which ports peers are told that they can call us.

use super::table::Table;
use crate::address::ListenPorts;
use crate::event::Direction;
use crate::ids::PeerKey;
use crate::swarm::{Hello, Input};
use crate::wire::extended::ExtensionHandshake;
use crate::wire::{Message, Reserved};

/// What was told to a peer: the ports for connections (BEP 10), then those for packets (BEP 5).
fn told(table: &mut Table, peer: PeerKey) -> (Vec<u16>, Vec<u16>) {
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    for message in table.said_to(peer) {
        match message {
            Message::Extended { payload, .. } => {
                tcp.extend(ExtensionHandshake::decode(&payload).unwrap().port)
            }
            Message::Port(port) => udp.push(port),
            _ => {}
        }
    }
    (tcp, udp)
}

fn connect(table: &mut Table) -> PeerKey {
    let hello = table.hello(Direction::Out, b'p');
    let reserved = hello.reserved.with(Reserved::DHT);
    let peer = hello.peer;
    table.input(Input::Connected(Hello { reserved, ..hello }));
    peer
}

#[test]
fn a_port_that_a_gateway_maps_is_told_to_all_outside_and_when_it_changes() {
    let mut table = Table::new(4, 1);
    let early = connect(&mut table);
    assert_eq!(told(&mut table, early), (vec![6881], vec![6881]));
    let mapped = ListenPorts { tcp: Some(7001), udp: Some(7002), ..ListenPorts::unmapped(6881) };
    table.input(Input::Ports(mapped));
    assert_eq!(told(&mut table, early), (vec![7001], vec![]));
    let late = connect(&mut table);
    assert_eq!(told(&mut table, late), (vec![7001], vec![7002]));
    // Their network is on our side of the gateway, as it turns out.
    let near = Some(([10, 9, 0, 200].into(), [255, 255, 0, 0].into()));
    table.input(Input::Ports(ListenPorts { near, ..mapped }));
    assert_eq!(told(&mut table, early), (vec![6881], vec![]));
    table.input(Input::Ports(ListenPorts { near, udp: Some(7003), ..mapped }));
    assert_eq!(told(&mut table, early), (vec![], vec![]), "what does not change for a peer is not told");
}
