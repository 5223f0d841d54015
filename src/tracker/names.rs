//! Peers that an answer gives by name.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::MAX_PEERS;
use super::answer::NamedPeer;
use crate::http::resolve::in_turn;

/// No further name of an answer is looked up after this: the peers that have an address wait for it.
const MAX_NAMES_TIME: Duration = Duration::from_secs(5);

/// Adds the addresses of peers that an answer gives by name, as long as there is time.
pub(super) fn look_up_peers(names: &[NamedPeer], deadline: Instant, peers: &mut Vec<SocketAddr>) {
    let until = deadline.min(Instant::now() + MAX_NAMES_TIME);
    for NamedPeer { host, port } in names {
        if Instant::now() >= until {
            break;
        }
        // One of each family; a name that nobody knows is nobody.
        let found = (host.as_str(), *port).to_socket_addrs().into_iter().flatten();
        for address in in_turn(found).into_iter().take(2) {
            if peers.len() < MAX_PEERS && !peers.contains(&address) {
                peers.push(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_that_are_named_are_looked_up() {
        let named = |host: &str| NamedPeer { host: host.to_owned(), port: 7 };
        let mut peers = Vec::new();
        look_up_peers(
            &[named("localhost"), named("localhost")],
            Instant::now() + Duration::from_secs(60),
            &mut peers,
        );
        assert!(peers.contains(&"127.0.0.1:7".parse().unwrap()) && peers.len() <= 2, "{peers:?}");
        let mut late = Vec::new();
        look_up_peers(&[named("localhost")], Instant::now(), &mut late);
        assert_eq!(late, []);
    }
}
