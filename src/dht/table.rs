//! The routing table (BEP 5): which nodes are known, and how well.
//!
//! Buckets by the number of leading bits that a node shares with our id; the last bucket holds all who share more, and is split when it is
//! full. Only nodes that have answered us are taken, and those of a saved table, on probation. Nobody gets a second place: not by another id, nor by
//! another port of an address of the world; and of a bucket no subnet gets more than [`MAX_OF_SUBNET`].

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::node_id::NodeId;
use crate::address::{Subnet, is_inner};

/// Nodes in a bucket (`K` of BEP 5), and as many again that wait for a place in it.
pub(super) const BUCKET_SIZE: usize = 8;

/// Nodes of one subnet in a bucket, and as many that wait. Inner addresses have no subnet.
pub(super) const MAX_OF_SUBNET: usize = 2;

/// As long as so many wait for a place in a bucket, no others are asked whether they are there.
const ENOUGH_WAITING: usize = 2;

/// After so long without a word a node is questionable, and a bucket that is not full is refreshed (BEP 5).
pub(super) const STALE: Duration = Duration::from_secs(15 * 60);

/// A node that has been asked is not asked again before, for the table's sake.
const RECHECK: Duration = Duration::from_secs(15);

/// A new bucket is refreshed after so long for the first time, if it has not been filled by the way.
const FIRST_REFRESH: Duration = Duration::from_secs(15);

/// Nodes of a saved table are checked after so long, unless look-ups have come upon them before.
const PROBATION: Duration = Duration::from_secs(60);

/// So many failures in a row make a node bad; one, if it has not answered in this run.
const BAD: u8 = 2;

/// So many lose a node its place even if nobody waits for it.
const GONE: u8 = 4;

/// A node as the table knows it.
#[derive(Clone, Copy, Debug)]
struct Node {
    id: NodeId,
    address: SocketAddr,
    /// When it last answered us; `None`: not in this run.
    answered: Option<Instant>,
    /// When we last heard of it: an answer, or a query of a node that had answered before.
    heard: Option<Instant>,
    /// Queries that it has left without an answer since.
    failures: u8,
    /// When it is to be asked next, for the table's sake.
    check_at: Instant,
}

impl Node {
    fn fits(&self) -> bool {
        self.id.fits(self.address.ip())
    }

    fn is_bad(&self) -> bool {
        self.failures >= if self.answered.is_some() { BAD } else { 1 }
    }

    fn is_good(&self, now: Instant) -> bool {
        !self.is_bad() && self.heard.is_some_and(|heard| now < heard + STALE)
    }
}

#[derive(Debug)]
struct Bucket {
    /// At most [`BUCKET_SIZE`].
    nodes: Vec<Node>,
    /// Nodes that have answered and found no place, the latest last; at most [`BUCKET_SIZE`].
    waiting: Vec<Node>,
    /// When nodes that belong here are to be looked for, if there is room for them.
    refresh_at: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Bucket {
        Bucket { nodes: Vec::new(), waiting: Vec::new(), refresh_at: now + FIRST_REFRESH }
    }
}

/// The nodes we know.
#[derive(Debug)]
pub(super) struct RoutingTable {
    own: NodeId,
    /// By the number of leading bits shared with `own`; the last holds those who share more, too. Never empty, at most 160.
    buckets: Vec<Bucket>,
    /// Where each node of a bucket is; those that wait are not among them.
    addresses: HashMap<SocketAddr, NodeId>,
    /// The addresses of the world among these.
    ips: HashSet<IpAddr>,
}

impl RoutingTable {
    pub(super) fn new(now: Instant, own: NodeId) -> RoutingTable {
        RoutingTable { own, buckets: vec![Bucket::new(now)], addresses: HashMap::new(), ips: HashSet::new() }
    }

    /// The same nodes, as somebody with another id sees them.
    pub(super) fn renamed(self, now: Instant, own: NodeId) -> RoutingTable {
        let mut renamed = RoutingTable::new(now, own);
        let mut nodes: Vec<Node> = self
            .buckets
            .into_iter()
            .flat_map(|bucket| bucket.nodes.into_iter().chain(bucket.waiting))
            .collect();
        // Who was heard of last comes first.
        nodes.sort_by_key(|node| std::cmp::Reverse(node.heard));
        for node in nodes {
            renamed.insert(now, node);
        }
        renamed
    }

    fn index(&self, id: &NodeId) -> usize {
        self.own.shared_bits(id).min(self.buckets.len() - 1)
    }

    fn find(&mut self, id: &NodeId, address: SocketAddr) -> Option<&mut Node> {
        let index = self.index(id);
        self.buckets[index].nodes.iter_mut().find(|node| node.id == *id && node.address == address)
    }

    /// A node of a saved table; it is on probation.
    pub(super) fn remember(&mut self, now: Instant, id: NodeId, address: SocketAddr) {
        let check_at = now + PROBATION;
        self.insert(now, Node { id, address, answered: None, heard: None, failures: 0, check_at });
    }

    /// A node has answered. Returns a questionable one that is to be asked whether it is still there, because this one waits
    /// for its place.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        id: NodeId,
        address: SocketAddr,
    ) -> Option<(NodeId, SocketAddr)> {
        // Who changes its id was never what it seemed (BEP 45).
        if let Some(&earlier) = self.addresses.get(&address)
            && earlier != id
        {
            self.remove(&earlier, address);
        }
        let check_at = now + STALE;
        let fresh = Node { id, address, answered: Some(now), heard: Some(now), failures: 0, check_at };
        match self.find(&id, address) {
            Some(node) => {
                *node = fresh;
                None
            }
            None => self.insert(now, fresh),
        }
    }

    /// Gives a node a place, or has it wait for one; see [`RoutingTable::answered`].
    fn insert(&mut self, now: Instant, node: Node) -> Option<(NodeId, SocketAddr)> {
        if node.id == self.own {
            return None;
        }
        loop {
            let index = self.index(&node.id);
            if let Some(at) = self.place(index, &node) {
                let bucket = &mut self.buckets[index];
                bucket.waiting.retain(|other| other.address != node.address && other.id != node.id);
                if let Some(at) = at {
                    let old = bucket.nodes[at];
                    self.remove(&old.id, old.address);
                }
                self.seat(index, node);
                return None;
            }
            let is_last = index + 1 == self.buckets.len();
            let is_full = self.buckets[index].nodes.len() == BUCKET_SIZE;
            if !(is_last && is_full && self.buckets.len() < NodeId::BITS && self.may_join(index, &node, None))
            {
                return self.wait(now, index, node);
            }
            self.split(now);
        }
    }

    /// The place that a node can have at once: `Some(None)` a free one, `Some(Some(at))` that of a bad node, or of one whose id does not
    /// fit its address while this one's does.
    fn place(&self, index: usize, node: &Node) -> Option<Option<usize>> {
        let nodes = &self.buckets[index].nodes;
        if let Some(at) = nodes.iter().position(|other| other.id == node.id) {
            // Somebody has this id already: it moves only if nobody answers at the old address.
            let is_free = nodes[at].failures > 0 && self.may_join(index, node, Some(at));
            return is_free.then_some(Some(at));
        }
        if nodes.len() < BUCKET_SIZE && self.may_join(index, node, None) {
            return Some(None);
        }
        let worse = |other: &Node| other.is_bad() || node.fits() && !other.fits();
        let mut worst: Vec<usize> = (0..nodes.len()).filter(|&at| worse(&nodes[at])).collect();
        worst.sort_by_key(|&at| std::cmp::Reverse((nodes[at].is_bad(), nodes[at].failures)));
        worst.into_iter().find(|&at| self.may_join(index, node, Some(at))).map(Some)
    }

    /// Whether the address has no other place, and its subnet not too many, when the node at `instead` is gone.
    fn may_join(&self, index: usize, node: &Node, instead: Option<usize>) -> bool {
        let nodes = &self.buckets[index].nodes;
        let leaving = instead.map(|at| nodes[at].address);
        let ip = node.address.ip();
        let is_known = |known: bool, same: bool| known && !same;
        if is_known(self.ips.contains(&ip), leaving.is_some_and(|leaving| leaving.ip() == ip))
            || is_known(self.addresses.contains_key(&node.address), leaving == Some(node.address))
        {
            return false;
        }
        let others = nodes.iter().map(|other| other.address).filter(|other| Some(*other) != leaving);
        has_room_for(node.address, others)
    }

    fn seat(&mut self, index: usize, node: Node) {
        self.addresses.insert(node.address, node.id);
        if !is_inner(node.address.ip()) {
            self.ips.insert(node.address.ip());
        }
        self.buckets[index].nodes.push(node);
    }

    fn remove(&mut self, id: &NodeId, address: SocketAddr) {
        let index = self.index(id);
        self.buckets[index].nodes.retain(|node| node.address != address);
        self.addresses.remove(&address);
        self.ips.remove(&address.ip());
    }

    fn split(&mut self, now: Instant) {
        let depth = self.buckets.len();
        let Some(last) = self.buckets.last_mut() else { return };
        let mut deeper = Bucket { refresh_at: last.refresh_at.max(now), ..Bucket::new(now) };
        let own = self.own;
        let is_deeper = |node: &Node| own.shared_bits(&node.id) >= depth;
        deeper.nodes = last.nodes.iter().copied().filter(is_deeper).collect();
        deeper.waiting = last.waiting.iter().copied().filter(is_deeper).collect();
        last.nodes.retain(|node| !is_deeper(node));
        last.waiting.retain(|node| !is_deeper(node));
        self.buckets.push(deeper);
    }

    fn wait(&mut self, now: Instant, index: usize, node: Node) -> Option<(NodeId, SocketAddr)> {
        let bucket = &mut self.buckets[index];
        if node.answered.is_none() || bucket.nodes.iter().any(|other| other.id == node.id) {
            return None;
        }
        bucket.waiting.retain(|other| other.address != node.address && other.id != node.id);
        if !has_room_for(node.address, bucket.waiting.iter().map(|other| other.address)) {
            return None;
        }
        if bucket.waiting.len() == BUCKET_SIZE {
            bucket.waiting.remove(0);
        }
        bucket.waiting.push(node);
        let is_asked = |other: &Node| other.check_at > now && other.check_at <= now + RECHECK;
        let doubtful = bucket.nodes.iter_mut().filter(|other| !other.is_good(now) && !is_asked(other));
        let doubtful = doubtful.min_by_key(|other| other.heard)?;
        doubtful.check_at = now + RECHECK;
        Some((doubtful.id, doubtful.address))
    }

    /// A node has sent us a query. Returns whether the table wants it, and does not know it: it is to be asked who it is.
    pub(super) fn queried_us(&mut self, now: Instant, id: NodeId, address: SocketAddr) -> bool {
        if let Some(node) = self.find(&id, address) {
            if node.answered.is_some() {
                node.heard = Some(now);
                if node.failures == 0 {
                    node.check_at = now + STALE;
                }
            }
            return false;
        }
        self.wants(now, id, address)
    }

    /// Whether a node, if it is there, would get a place now, or that of a questionable one.
    pub(super) fn wants(&self, now: Instant, id: NodeId, address: SocketAddr) -> bool {
        if id == self.own || self.addresses.contains_key(&address) {
            return false;
        }
        let node = Node { id, address, answered: Some(now), heard: Some(now), failures: 0, check_at: now };
        let index = self.index(&id);
        let bucket = &self.buckets[index];
        let is_splittable = index + 1 == self.buckets.len() && self.may_join(index, &node, None);
        self.place(index, &node).is_some()
            || is_splittable
            || bucket.waiting.len() < ENOUGH_WAITING && bucket.nodes.iter().any(|other| !other.is_good(now))
    }

    /// Who is at this address is not who it seemed.
    pub(super) fn forget(&mut self, address: SocketAddr) {
        if let Some(&id) = self.addresses.get(&address) {
            self.remove(&id, address);
        }
    }

    /// Forgets the nodes at addresses of which this is not true.
    pub(super) fn retain(&mut self, is_kept: impl Fn(SocketAddr) -> bool) {
        self.buckets.iter_mut().for_each(|bucket| bucket.waiting.retain(|node| is_kept(node.address)));
        let lost: Vec<SocketAddr> = self.addresses.keys().copied().filter(|&at| !is_kept(at)).collect();
        lost.into_iter().for_each(|address| self.forget(address));
    }

    /// Whether a good node is at this address.
    pub(super) fn is_good(&self, now: Instant, address: SocketAddr) -> bool {
        let bucket = self.addresses.get(&address).map(|id| &self.buckets[self.index(id)]);
        bucket.is_some_and(|bucket| {
            bucket.nodes.iter().any(|node| node.address == address && node.is_good(now))
        })
    }

    /// A node has left a query without an answer, while others did answer.
    pub(super) fn failed(&mut self, now: Instant, id: NodeId, address: SocketAddr) {
        let Some(node) = self.find(&id, address) else { return };
        node.failures = node.failures.saturating_add(1);
        node.check_at = now + RECHECK;
        if !node.is_bad() {
            return;
        }
        let is_gone = node.failures >= GONE || node.answered.is_none();
        let index = self.index(&id);
        let at = self.buckets[index].nodes.iter().position(|node| node.address == address);
        let next = (0..self.buckets[index].waiting.len())
            .rev()
            .find(|&next| self.may_join(index, &self.buckets[index].waiting[next], at));
        if let Some(next) = next {
            let node = self.buckets[index].waiting.remove(next);
            self.remove(&id, address);
            self.seat(index, node);
        } else if is_gone {
            self.remove(&id, address);
        }
    }

    /// The nodes closest to a target that satisfy `filter`, closest first.
    fn nearest(
        &self,
        target: &NodeId,
        number: usize,
        filter: impl Fn(&Node) -> bool,
    ) -> Vec<(NodeId, SocketAddr)> {
        let mut near: Vec<(NodeId, &Node)> =
            self.nodes().filter(|node| filter(node)).map(|node| (node.id.distance(target), node)).collect();
        let by_distance = |one: &(NodeId, &Node), other: &(NodeId, &Node)| one.0.cmp(&other.0);
        if near.len() > number && number > 0 {
            near.select_nth_unstable_by(number - 1, by_distance);
        }
        near.truncate(number);
        near.sort_unstable_by(by_distance);
        near.into_iter().map(|(_, node)| (node.id, node.address)).collect()
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.buckets.iter().flat_map(|bucket| &bucket.nodes)
    }

    /// The closest good nodes: those that are named to others.
    pub(super) fn closest_good(
        &self,
        now: Instant,
        target: &NodeId,
        number: usize,
    ) -> Vec<(NodeId, SocketAddr)> {
        self.nearest(target, number, |node| node.is_good(now))
    }

    /// The closest nodes to ask; bad ones only if there are no others.
    pub(super) fn closest(&self, target: &NodeId, number: usize) -> Vec<(NodeId, SocketAddr)> {
        let usable = self.nearest(target, number, |node| !node.is_bad());
        if usable.is_empty() { self.nearest(target, number, |_| true) } else { usable }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Good and questionable nodes.
    pub(super) fn len(&self) -> usize {
        self.nodes().filter(|node| !node.is_bad()).count()
    }

    pub(super) fn num_good(&self, now: Instant) -> usize {
        self.nodes().filter(|node| node.is_good(now)).count()
    }

    /// Nodes that have answered in this run, those heard of last first.
    pub(super) fn answering(&self, number: usize) -> Vec<(NodeId, SocketAddr)> {
        self.latest(number, |node| node.answered.is_some())
    }

    /// Nodes that the next run should begin with: behind those that have answered in this one, those that are on probation.
    pub(super) fn to_save(&self, number: usize) -> Vec<(NodeId, SocketAddr)> {
        self.latest(number, |_| true)
    }

    /// Nodes that are not bad, those heard of last first.
    fn latest(&self, number: usize, filter: impl Fn(&Node) -> bool) -> Vec<(NodeId, SocketAddr)> {
        let mut nodes: Vec<&Node> = self.nodes().filter(|node| !node.is_bad() && filter(node)).collect();
        nodes.sort_by_key(|node| std::cmp::Reverse(node.heard));
        nodes.iter().take(number).map(|node| (node.id, node.address)).collect()
    }

    /// The node that is to be asked for the table's sake, if one is due. It counts as asked.
    pub(super) fn next_check(&mut self, now: Instant) -> Option<(NodeId, SocketAddr)> {
        let nodes = self.buckets.iter_mut().flat_map(|bucket| &mut bucket.nodes);
        let node = nodes.min_by_key(|node| node.check_at).filter(|node| node.check_at <= now)?;
        node.check_at = now + RECHECK;
        Some((node.id, node.address))
    }

    /// A random id in a bucket that is not full and has not been refreshed for long, if there is one; it counts as refreshed.
    pub(super) fn next_refresh(&mut self, now: Instant, random: NodeId) -> Option<NodeId> {
        let is_due = |bucket: &Bucket| bucket.nodes.len() < BUCKET_SIZE && bucket.refresh_at <= now;
        let index = self.buckets.iter().rposition(is_due)?;
        self.buckets[index].refresh_at = now + STALE;
        let bits = if index + 1 == self.buckets.len() { NodeId::BITS } else { index };
        Some(self.own.near(bits, random))
    }

    /// When there is something to do for the table's sake.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let checks = self.nodes().map(|node| node.check_at);
        let open = self.buckets.iter().filter(|bucket| bucket.nodes.len() < BUCKET_SIZE);
        checks.chain(open.map(|bucket| bucket.refresh_at)).min()
    }
}

/// Whether an address may stand beside the others, for all that its subnet has of them.
fn has_room_for(address: SocketAddr, others: impl Iterator<Item = SocketAddr>) -> bool {
    match Subnet::at(address) {
        Some(subnet) => others.filter(|other| Subnet::at(*other) == Some(subnet)).count() < MAX_OF_SUBNET,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: NodeId = NodeId([0; 20]);

    /// An id that shares `bits` leading bits with ours; `number` tells it from others.
    fn id(bits: usize, number: u8) -> NodeId {
        OWN.near(bits, NodeId([number; 20]))
    }

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn check(table: &RoutingTable) {
        let mut count = 0;
        for (index, bucket) in table.buckets.iter().enumerate() {
            assert!(bucket.nodes.len() <= BUCKET_SIZE && bucket.waiting.len() <= BUCKET_SIZE);
            for node in &bucket.nodes {
                assert_eq!(table.index(&node.id), index);
                assert_eq!(table.addresses.get(&node.address), Some(&node.id));
                assert!(is_inner(node.address.ip()) || table.ips.contains(&node.address.ip()));
                let subnet = Subnet::at(node.address);
                let same = bucket.nodes.iter().filter(|other| Subnet::at(other.address) == subnet).count();
                assert!(subnet.is_none() || same <= MAX_OF_SUBNET);
                let same = bucket.nodes.iter().filter(|other| other.id == node.id).count();
                assert_eq!(same, 1);
                count += 1;
            }
        }
        assert_eq!(table.addresses.len(), count);
        assert!(table.ips.len() <= count);
    }

    fn full(now: Instant) -> RoutingTable {
        let mut table = RoutingTable::new(now, OWN);
        for number in 0..9 {
            assert_eq!(table.answered(now, id(0, 1 + number), local(1000 + u16::from(number))), None);
        }
        assert_eq!(table.buckets.len(), 2, "it is split once, and the nodes are all on one side");
        assert_eq!(table.len(), 8);
        table
    }

    #[test]
    fn the_bucket_of_our_own_id_is_split_and_others_are_not() {
        let now = Instant::now();
        let mut table = full(now);
        for bits in 1..20 {
            for number in 0..8 {
                table.answered(
                    now,
                    id(bits, 1 + number),
                    local(2000 + 100 * bits as u16 + u16::from(number)),
                );
            }
        }
        check(&table);
        assert_eq!(table.len(), 20 * 8);
        let closest = table.closest(&OWN, 8);
        assert!(closest.iter().all(|(near, _)| near.shared_bits(&OWN) == 19));
    }

    #[test]
    fn a_questionable_node_is_asked_before_it_is_replaced_and_keeps_its_place_if_it_answers() {
        let now = Instant::now();
        let mut table = full(now);
        let late = now + STALE;
        let newcomer = (id(0, 99), local(99));
        let doubtful = table.answered(late, newcomer.0, newcomer.1).expect("somebody is questionable");
        assert_eq!(table.answered(late, doubtful.0, doubtful.1), None);
        assert!(table.addresses.contains_key(&doubtful.1));
        let next = table.answered(late, id(0, 98), local(98)).expect("others are still questionable");
        assert_ne!(next, doubtful);
        table.failed(late, next.0, next.1);
        assert!(table.addresses.contains_key(&next.1), "it is asked once more");
        table.failed(late, next.0, next.1);
        assert!(!table.addresses.contains_key(&next.1));
        assert!(table.addresses.contains_key(&local(98)), "who came last takes the place");
        check(&table);
    }

    #[test]
    fn of_a_subnet_two_get_a_place_in_a_bucket_and_of_an_address_one_in_the_table() {
        let now = Instant::now();
        let mut table = RoutingTable::new(now, OWN);
        for last in 1..=50 {
            table.answered(now, id(0, last), SocketAddr::from(([9, 9, 9, last], 1)));
            table.answered(
                now,
                id(usize::from(last % 9), last),
                SocketAddr::from(([8, 8, 8, 8], u16::from(last))),
            );
            check(&table);
        }
        assert_eq!(table.nodes().filter(|node| node.id.shared_bits(&OWN) == 0).count(), 2);
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn who_has_the_id_of_its_address_takes_the_place_of_who_has_not() {
        let now = Instant::now();
        let mut table = RoutingTable::new(now, OWN);
        let address = |number: u8| SocketAddr::from(([9, 9, number, 1], 1));
        let unfit = (1..=40).filter(|&number| !id(0, number).fits(address(number).ip()));
        for number in unfit.take(9) {
            table.answered(now, id(0, number), address(number));
        }
        assert_eq!(table.len(), 8);
        let fit = (100..200).map(|number| (id(0, number).bound_to(address(number).ip()), address(number)));
        let fit: Vec<_> = fit.filter(|(id, _)| id.shared_bits(&OWN) == 0).take(8).collect();
        for &(id, address) in &fit {
            table.answered(now, id, address);
        }
        assert!(fit.iter().all(|(_, address)| table.addresses.contains_key(address)));
        check(&table);
    }

    #[test]
    fn who_changes_its_id_loses_its_place_and_who_takes_an_id_of_another_gets_none() {
        let now = Instant::now();
        let mut table = RoutingTable::new(now, OWN);
        table.answered(now, id(0, 1), local(1));
        table.answered(now, id(0, 2), local(1));
        assert_eq!(table.closest(&OWN, 8), [(id(0, 2), local(1))]);
        table.answered(now, id(0, 2), local(2));
        assert_eq!(table.closest(&OWN, 8), [(id(0, 2), local(1))]);
        table.answered(now, OWN, local(3));
        assert_eq!(table.len(), 1);
        table.failed(now, id(0, 2), local(1));
        table.answered(now, id(0, 2), local(2));
        assert_eq!(table.closest(&OWN, 8), [(id(0, 2), local(2))]);
        check(&table);
    }

    #[test]
    fn nodes_are_checked_after_a_quarter_of_an_hour_and_open_buckets_refreshed() {
        let now = Instant::now();
        let mut table = RoutingTable::new(now, OWN);
        table.answered(now, id(0, 1), local(1));
        assert_eq!(table.next_due(), Some(now + FIRST_REFRESH));
        assert_eq!(table.next_check(now), None);
        assert!(table.next_refresh(now, OWN).is_none());
        assert!(table.next_refresh(now + FIRST_REFRESH, OWN).is_some());
        assert_eq!(table.next_due(), Some(now + STALE));
        let late = now + STALE;
        assert_eq!(table.next_check(late), Some((id(0, 1), local(1))));
        assert_eq!(table.next_check(late), None, "it has been asked");
        let late = late + FIRST_REFRESH;
        assert_eq!(table.next_refresh(late, NodeId([7; 20])), Some(OWN));
        assert_eq!(table.next_refresh(late, OWN), None);
        assert!(!table.queried_us(late, id(0, 1), local(1)));
        assert_eq!(table.next_due(), Some(late + STALE));
        assert_eq!(table.num_good(late), 1);
    }

    proptest! {
        #[test]
        fn whatever_happens_places_and_addresses_agree(
            steps in prop::collection::vec((0..5u8, 0..12usize, 0..12u8, 0..6u8, 0..4u16, 0..600u64), 0..300),
        ) {
            let mut now = Instant::now();
            let mut table = RoutingTable::new(now, OWN);
            for (what, bits, number, ip, port, seconds) in steps {
                let ip = [[127, 0, 0, 1], [9, 9, 9, 1], [9, 9, 9, 2], [9, 9, 9, 3], [8, 8, 8, 8], [7, 7, 7, 7]][usize::from(ip)];
                let (id, address) = (id(bits, number), SocketAddr::from((ip, 1 + port)));
                match what {
                    0 => { table.answered(now, id, address); }
                    1 => { table.queried_us(now, id, address); }
                    2 => table.failed(now, id, address),
                    3 => { table.next_check(now); }
                    _ => now += Duration::from_secs(seconds),
                }
                check(&table);
            }
            check(&table.renamed(now, NodeId([0xff; 20])));
        }
    }
}
