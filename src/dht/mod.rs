//! A node of the distributed hash table: one machine for each family of addresses (BEP 5, 32, 33, 42, 43, 44, 45, 51).
//!
//! Owns what a node knows and does: its routing table, the look-ups of the torrents that are followed, and what it keeps for others.
//! Pure: packets come in by [`Dht::handle`] and go out by [`Dht::poll`]; it opens no socket, resolves no name, reads no clock. With the same
//! seed and the same inputs it does the same.
//!
//! Nobody is believed alone. Answers count only under the transaction id and from the address that were asked; what they name is
//! taken in small numbers (`lookup`), nodes get a place only by answering (`table`), our own address is learnt by vote (`vote`), and whoever
//! asks gets no more than their share (`limits`).

mod api;
mod believable;
mod contact;
mod drive;
mod incoming;
mod items;
mod limits;
mod lookup;
mod message;
mod node_id;
mod queries;
mod reply;
mod saved;
mod schedule;
mod server;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod vote;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use fastrand::Rng;

pub use api::{DhtAnnounce, DhtConfig, DhtHurry, DhtInput, DhtNeed, DhtOutput, Family};
use believable::is_reachable;
use contact::Contact;
use lookup::{Lookup, LookupId, Token};
pub use node_id::NodeId;
use queries::{Queries, Secret};
use saved::MAX_SAVED_NODES;
pub use saved::SavedTable;
use schedule::Schedule;
use server::Server;
use table::RoutingTable;
use vote::AddressVote;

use crate::bucket::TokenBucket;
use crate::filter::IpFilter;
use crate::ids::WireHash;

/// Bytes of queries in a second, and as many at once: a mebibyte a minute.
const QUERY_RATE: u64 = 16 << 10;
const QUERY_BURST: u64 = 48 << 10;

/// An announce that has to be sent.
#[derive(Debug)]
struct PendingAnnounce {
    hash: WireHash,
    id: NodeId,
    to: SocketAddr,
    token: Token,
    announce: DhtAnnounce,
}

/// The announces of a torrent after one look-up.
#[derive(Clone, Copy, Default, Debug)]
struct AnnounceRound {
    /// Those that have not ended.
    left: usize,
    /// Those that were acknowledged.
    acknowledged: usize,
}

/// A node.
#[derive(Debug)]
pub struct Dht {
    config: DhtConfig,
    secret: Secret,
    rng: Rng,
    id: NodeId,
    table: RoutingTable,
    vote: AddressVote,
    queries: Queries,
    budget: TokenBucket,
    /// Those under way; their number is bounded in `drive`.
    lookups: BTreeMap<LookupId, Lookup>,
    lookups_begun: u64,
    schedule: Schedule,
    /// At most eight for each look-up that has ended.
    pending_announces: VecDeque<PendingAnnounce>,
    announces: HashMap<WireHash, AnnounceRound>,
    contact: Contact,
    /// When the look-up of our own id is due; see `drive`.
    own_lookup_due: Option<Instant>,
    /// Not before this is the next query sent for the table's sake.
    next_check: Instant,
    server: Server,
    filter: Option<IpFilter>,
    /// Good nodes of the other family, as its machine told them last; at most [`MAX_SAVED_NODES`].
    other_nodes: Vec<(NodeId, SocketAddr)>,
    outputs: VecDeque<DhtOutput>,
    /// When all was done last that could be done.
    driven_at: Instant,
    /// When something is due though nothing happens, as things stood then: all of them change by what is handled or driven alone.
    next_due: Option<Instant>,
}

impl Dht {
    /// A node that begins with what an earlier run has saved.
    pub fn new(now: Instant, config: DhtConfig, saved: SavedTable) -> Dht {
        let mut secret = Secret::new(config.seed, config.family);
        let vote = AddressVote::new(config.family, saved.external);
        let random = saved.id.unwrap_or_else(|| secret.draw());
        let id =
            vote.address().filter(|&ip| !random.fits(ip)).map_or(random, |ip| secret.draw().bound_to(ip));
        let mut table = RoutingTable::new(now, id);
        let known = saved.nodes.iter().filter(|(_, address)| is_reachable(*address));
        for &(id, address) in known.filter(|(_, address)| config.family.has(address.ip())) {
            table.remember(now, id, address);
        }
        let mut dht = Dht {
            rng: Rng::with_seed(secret.number()),
            server: Server::new(now, config.family, &mut secret),
            contact: Contact::new(now, !table.is_empty()),
            schedule: Schedule::new(now),
            budget: TokenBucket::new(now, QUERY_BURST, QUERY_RATE),
            queries: Queries::default(),
            lookups: BTreeMap::new(),
            lookups_begun: 0,
            pending_announces: VecDeque::new(),
            announces: HashMap::new(),
            own_lookup_due: Some(now),
            next_check: now,
            filter: None,
            other_nodes: Vec::new(),
            outputs: VecDeque::new(),
            driven_at: now,
            next_due: None,
            config,
            secret,
            id,
            table,
            vote,
        };
        dht.next_due = dht.find_next_due();
        dht
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Instant, input: DhtInput<'_>) {
        // What is overdue by now has not been answered by what comes now.
        self.give_up_overdue(now);
        match input {
            DhtInput::Packet { from, data } => self.on_packet(now, from, data),
            DhtInput::Node(address) => {
                let is_usable = self.config.family.has(address.ip()) && is_reachable(address);
                if is_usable && !self.is_refused(address) && !self.table.is_good(now, address) {
                    self.contact.hear_of(address);
                }
            }
            DhtInput::Follow { hash, need } => {
                if !self.schedule.follows(hash) {
                    for peer in self.server.stored_peers(now, hash, &mut self.rng) {
                        self.outputs.push_back(DhtOutput::Peers { hash, peers: vec![peer], from: peer });
                    }
                }
                let announce = need.announce.filter(|_| !self.config.read_only);
                self.schedule.follow(now, hash, DhtNeed { announce, ..need });
            }
            DhtInput::Unfollow(hash) => self.unfollow(hash),
            DhtInput::ExternalAddress { ip, from } => self.hear_external_address(now, ip, from),
            DhtInput::OtherFamilyNodes(nodes) => {
                let usable = nodes.iter().filter(|(_, address)| self.config.family.other().has(address.ip()));
                self.other_nodes = usable.take(MAX_SAVED_NODES).copied().collect();
            }
            DhtInput::Filter(filter) => self.set_filter(filter),
        }
        self.drive(now);
    }

    /// The next thing to do; `None`: nothing before [`Dht::deadline`] or the next input.
    pub fn poll(&mut self, now: Instant) -> Option<DhtOutput> {
        if self.outputs.is_empty() && self.deadline().is_some_and(|at| at <= now) {
            self.give_up_overdue(now);
            self.drive(now);
        }
        self.outputs.pop_front()
    }

    /// What the next run should begin with: our id, our address, and at most 300 nodes: those that have answered, and those of the
    /// run before that have not been asked in vain.
    pub fn save(&self) -> SavedTable {
        SavedTable {
            family: Some(self.config.family),
            id: Some(self.id),
            external: self.vote.address(),
            nodes: self.table.to_save(MAX_SAVED_NODES),
        }
    }

    /// Nodes in the routing table that are not known to be gone: good and questionable ones (BEP 5).
    pub fn num_nodes(&self) -> usize {
        self.table.len()
    }

    /// Nodes that have answered, for the machine of the other family ([`DhtInput::OtherFamilyNodes`]); at most 300.
    pub fn good_nodes(&self) -> Vec<(NodeId, SocketAddr)> {
        self.table.answering(MAX_SAVED_NODES)
    }

    /// The id by which this node is known.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// What is under way with those who are refused now ends as if they were silent.
    fn set_filter(&mut self, filter: Option<IpFilter>) {
        self.filter = filter;
        if let Some(filter) = &self.filter {
            self.table.retain(|address| !filter.refuses(address.ip()));
            self.contact.retain(|address| !filter.refuses(address.ip()));
            self.other_nodes.retain(|(_, address)| !filter.refuses(address.ip()));
        }
    }

    /// Whether the user's filter refuses an address.
    fn is_refused(&self, address: SocketAddr) -> bool {
        self.filter.as_ref().is_some_and(|filter| filter.refuses(address.ip()))
    }

    fn unfollow(&mut self, hash: WireHash) {
        self.schedule.unfollow(hash);
        self.lookups.retain(|_, lookup| lookup.kind != lookup::LookupKind::Peers(hash));
        self.pending_announces.retain(|pending| pending.hash != hash);
        self.announces.remove(&hash);
    }
}
