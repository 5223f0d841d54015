//! One announce over both families of addresses (BEP 7): a tracker gives peers of that by which it is asked, so whoever has both
//! is in two swarms, or in one of them.
//!
//! The families are asked side by side, each as if it were the only one. One that cannot be reached from here is not asked.

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::{fmt, thread};

use socket2::{Domain, Socket, Type};

use super::{MAX_PEERS, Options};
use crate::bind::Local;
use crate::finder::announce::{AnnounceFailure, Answer};
use crate::http::Family;

/// Who is told of the peers that one family has brought while the other is still asked: a tracker that is slow by one of them
/// keeps nobody waiting. The default is nobody; all are in the announce's answer as well.
#[derive(Clone, Default)]
pub struct Early(Option<Arc<Hears>>);

type Hears = dyn Fn(&[SocketAddr]) + Send + Sync;

impl Early {
    /// `tell` must not block. It may be called from two threads at a time.
    pub fn new(tell: impl Fn(&[SocketAddr]) + Send + Sync + 'static) -> Early {
        Early(Some(Arc::new(tell)))
    }

    fn tell(&self, peers: &[SocketAddr]) {
        if let Some(tell) = self.0.as_ref().filter(|_| !peers.is_empty()) {
            tell(peers);
        }
    }
}

impl fmt::Debug for Early {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Early")
    }
}

/// A host's addresses by family, those that can be reached from here: first the family that the system prefers. One
/// family is there at least, if any address is, be it that it cannot be reached.
pub(super) fn reachable(addresses: &[SocketAddr], local: &Local) -> Vec<(Family, Vec<SocketAddr>)> {
    let mut families: Vec<(Family, Vec<SocketAddr>)> = Vec::new();
    for &address in addresses {
        let family = Family::of(&address);
        match families.iter_mut().find(|(other, _)| *other == family) {
            Some((_, all)) => all.push(address),
            None => families.push((family, vec![address])),
        }
    }
    if families.len() > 1 {
        // Whether the system knows a way. Nothing is sent.
        let has_way = |all: &[SocketAddr]| all.iter().any(|&to| udp_socket(to, local).is_ok());
        let ways: Vec<bool> = families.iter().map(|(_, all)| has_way(all)).collect();
        let mut ways = ways.iter().map(|&has_way| has_way || !ways.contains(&true));
        families.retain(|_| ways.next().unwrap_or(true));
    }
    families
}

/// A socket that sends to this address and hears nobody else.
pub(super) fn udp_socket(to: SocketAddr, local: &Local) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None)?;
    local.bind_to_reach(&socket, to.ip())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Announces over each of these families by `announce`, at the same time, and joins what they say. Without a thread to be had, one after the
/// other.
///
/// # Errors
///
/// If none has brought an answer: what the tracker has said to one of them, or why the first failed.
pub(super) fn over_each<T: Sync>(
    families: &[T],
    options: &Options,
    announce: impl Fn(&T) -> Result<Answer, AnnounceFailure> + Sync,
) -> Result<Answer, AnnounceFailure> {
    let (first, second) = match families {
        [first, second, ..] => (first, second),
        [only] => return announce(only),
        [] => return Err(AnnounceFailure::no_answer("the host has no address")),
    };
    let (to_results, results) = channel();
    let ask = |family: &T, results: Sender<_>| {
        let result = announce(family).inspect(|answer| options.early.tell(&answer.peers));
        // Received below, when both are done.
        let _ = results.send(result);
    };
    thread::scope(|scope| {
        let (ask, of_second) = (&ask, to_results.clone());
        let builder = thread::Builder::new().name("btget-announce".to_owned());
        let other = builder.spawn_scoped(scope, move || ask(second, of_second));
        ask(first, to_results.clone());
        match other {
            // If it panicked, that is no answer.
            Ok(other) => drop(other.join()),
            Err(_) => ask(second, to_results),
        }
    });
    join(results.try_iter())
}

/// Makes one result of several, in the order in which they came.
fn join(
    results: impl IntoIterator<Item = Result<Answer, AnnounceFailure>>,
) -> Result<Answer, AnnounceFailure> {
    let (mut joined, mut failed): (Option<Answer>, Option<AnnounceFailure>) = (None, None);
    for result in results {
        match (result, &mut joined, &failed) {
            (Ok(answer), None, _) => joined = Some(answer),
            (Ok(answer), Some(first), _) => add(first, answer),
            (Err(failure), _, None) => failed = Some(failure),
            // What the tracker itself says is worth more than that it did not answer.
            (Err(failure), _, Some(before)) => {
                if before.status_code == 0 && failure.status_code != 0 {
                    failed = Some(failure);
                }
            }
        }
    }
    let panicked = || AnnounceFailure::no_answer("the announce panicked, which is a fault of this program");
    joined.ok_or_else(|| failed.unwrap_or_else(panicked))
}

/// Adds what the tracker has said over the other family: it counts all peers, or those of one family, as it likes.
fn add(first: &mut Answer, other: Answer) {
    first.interval = first.interval.max(other.interval);
    first.min_interval = first.min_interval.max(other.min_interval);
    first.complete = first.complete.max(other.complete);
    first.incomplete = first.incomplete.max(other.incomplete);
    first.downloaded = first.downloaded.max(other.downloaded);
    first.tracker_id = first.tracker_id.take().or(other.tracker_id);
    first.warning = first.warning.take().or(other.warning);
    first.named.extend(other.named);
    // Where there are too many, each family has its half.
    first.peers.truncate(MAX_PEERS.saturating_sub(other.peers.len()).max(MAX_PEERS / 2));
    let known: HashSet<SocketAddr> = first.peers.iter().copied().collect();
    let new = other.peers.into_iter().filter(|peer| !known.contains(peer));
    first.peers.extend(new.take(MAX_PEERS - known.len()));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bind::Bind;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn peer(family: Family, n: usize) -> SocketAddr {
        let bits = 0x0a00_0000 | n as u32;
        match family {
            Family::V4 => SocketAddr::from((Ipv4Addr::from_bits(bits), 1)),
            Family::V6 => SocketAddr::from((Ipv6Addr::from_bits(0xfd << 120 | u128::from(bits)), 1)),
        }
    }

    fn answer(family: Family, peers: usize) -> Answer {
        Answer { peers: (0..peers).map(|n| peer(family, n)).collect(), ..Answer::default() }
    }

    fn failure(reason: &str) -> Result<Answer, AnnounceFailure> {
        Err(AnnounceFailure::no_answer(reason))
    }

    #[test]
    fn two_answers_make_one() {
        let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
        let first =
            Answer { interval: minutes(30), complete: Some(3), tracker_id: None, ..answer(Family::V4, 2) };
        let second = Answer {
            interval: minutes(20),
            min_interval: minutes(5),
            complete: Some(1),
            incomplete: Some(7),
            tracker_id: Some(b"id".to_vec()),
            ..answer(Family::V6, 1)
        };
        let joined = join([Ok(first), failure("no"), Ok(second)]).unwrap();
        assert_eq!((joined.interval, joined.min_interval), (minutes(30), minutes(5)));
        assert_eq!((joined.complete, joined.incomplete), (Some(3), Some(7)));
        assert_eq!(joined.tracker_id.as_deref(), Some(b"id".as_slice()));
        assert_eq!(joined.peers, [peer(Family::V4, 0), peer(Family::V4, 1), peer(Family::V6, 0)]);
    }

    #[test]
    fn of_too_many_peers_each_family_has_its_half_and_what_the_other_does_not_need() {
        for (of_first, of_second, kept) in [
            (1000, 1000, (500, 500)),
            (1000, 100, (900, 100)),
            (100, 1000, (100, 900)),
            (600, 400, (600, 400)),
        ] {
            let both = [Ok(answer(Family::V4, of_first)), Ok(answer(Family::V6, of_second))];
            let peers = join(both).unwrap().peers;
            let first = peers.iter().filter(|peer| peer.is_ipv4()).count();
            assert_eq!((first, peers.len() - first), kept);
        }
        let same = join([Ok(answer(Family::V4, 1000)), Ok(answer(Family::V4, 1000))]).unwrap();
        assert!(same.peers.len() >= 500);
    }

    #[test]
    fn what_the_tracker_says_is_told_before_that_it_cannot_be_reached() {
        let refused = || Err(AnnounceFailure::with_status(403, "go away"));
        let reason = |results: [Result<Answer, AnnounceFailure>; 2]| join(results).unwrap_err().reason;
        assert_eq!(reason([failure("silent"), refused()]), "go away");
        assert_eq!(reason([refused(), failure("silent")]), "go away");
        assert_eq!(reason([failure("refused"), failure("silent")]), "refused");
    }

    #[test]
    fn both_are_asked_at_once_and_the_first_answer_waits_for_nobody() {
        let (to_early, early) = channel();
        let told = Early::new(move |peers| drop(to_early.send(peers.to_vec())));
        let options = Options { early: told, ..Options::default() };
        let (to_slow, slow) = channel::<()>();
        let slow = std::sync::Mutex::new(slow);
        let joined = thread::scope(|scope| {
            let asked = scope.spawn(|| {
                over_each(&[Family::V4, Family::V6], &options, |&family| {
                    if family == Family::V4 {
                        let _ = slow.lock().unwrap().recv();
                    }
                    Ok(answer(family, 1))
                })
            });
            assert_eq!(early.recv().unwrap(), [peer(Family::V6, 0)]);
            to_slow.send(()).unwrap();
            asked.join().unwrap()
        });
        // Who has told what it brought may be overtaken before it is done.
        let joined: HashSet<SocketAddr> = joined.unwrap().peers.into_iter().collect();
        assert_eq!(joined, HashSet::from([peer(Family::V6, 0), peer(Family::V4, 0)]));
        let one = over_each(&[Family::V6], &options, |&family| Ok(answer(family, 1)));
        assert_eq!(one.unwrap().peers.len(), 1);
        assert_eq!(early.try_iter().count(), 1, "of the second one, and not of the only one");
    }

    #[test]
    fn a_family_that_cannot_be_reached_is_not_asked_if_the_other_can() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let families = |addresses: &[SocketAddr], bind: Option<&str>| -> Vec<Family> {
            let local = Local::from(bind.and_then(Bind::parse));
            reachable(addresses, &local).into_iter().map(|(family, _)| family).collect()
        };
        let loopback = [at("[::1]:1"), at("127.0.0.1:1")];
        // From an address of one family there is no way to the other.
        assert_eq!(families(&loopback, Some("127.0.0.1")), [Family::V4]);
        assert_eq!(families(&[at("127.0.0.1:1"), at("127.0.0.2:1")], None), [Family::V4]);
        assert_eq!(families(&loopback[..1], Some("127.0.0.1")), [Family::V6], "so that its error is told");
        assert_eq!(families(&[], None), []);
    }
}
