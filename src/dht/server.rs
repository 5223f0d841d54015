//! Answering others: what is told to whom, what is stored for whom.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::api::Family;
use super::items::ItemStore;
use super::limits::AnswerLimits;
use super::message::{Method, Put, Query, Refusal};
use super::node_id::NodeId;
use super::queries::Secret;
use super::reply::{MAX_VALUES, Reply};
use super::store::PeerStore;
use super::table::{BUCKET_SIZE, RoutingTable};
use crate::compact::write_ip;
use crate::hash::{Sha1, sha1};
use crate::ids::WireHash;

/// The secret of the tokens changes so often; those made with the one before are good for as long again (BEP 5).
const SECRET_LIFETIME: Duration = Duration::from_secs(5 * 60);

const BAD_TOKEN: Refusal =
    Refusal::protocol("the token is not one that we have given to this address lately");

/// What we give to those who ask, and know again when they store.
#[derive(Debug)]
struct Tokens {
    secret: NodeId,
    earlier: NodeId,
    /// Since when `secret` is used.
    since: Instant,
}

impl Tokens {
    fn new(now: Instant, secret: &mut Secret) -> Tokens {
        Tokens { secret: secret.draw(), earlier: secret.draw(), since: now }
    }

    fn rotate(&mut self, now: Instant, secret: &mut Secret) {
        let lifetimes = now.saturating_duration_since(self.since).as_secs() / SECRET_LIFETIME.as_secs();
        if lifetimes > 0 {
            // What is older than two lifetimes is good for nothing any more.
            self.earlier = if lifetimes == 1 { self.secret } else { secret.draw() };
            self.secret = secret.draw();
            self.since += Duration::from_secs(lifetimes * SECRET_LIFETIME.as_secs());
        }
    }

    fn token(secret: &NodeId, ip: IpAddr) -> [u8; 8] {
        let mut bytes = secret.0.to_vec();
        write_ip(ip, &mut bytes);
        let Sha1([a, b, c, d, e, f, g, h, ..]) = sha1(&bytes);
        [a, b, c, d, e, f, g, h]
    }

    fn issue(&self, ip: IpAddr) -> [u8; 8] {
        Tokens::token(&self.secret, ip)
    }

    fn is_valid(&self, token: &[u8], ip: IpAddr) -> bool {
        [&self.secret, &self.earlier].iter().any(|secret| Tokens::token(secret, ip) == token)
    }
}

/// The part of the node that serves others.
#[derive(Debug)]
pub(super) struct Server {
    family: Family,
    tokens: Tokens,
    pub(super) limits: AnswerLimits,
    peers: PeerStore,
    items: ItemStore,
}

/// What an answer is taken from.
pub(super) struct Knowledge<'a> {
    pub(super) table: &'a RoutingTable,
    /// Good nodes of the other family.
    pub(super) other_nodes: &'a [(NodeId, SocketAddr)],
}

impl Server {
    pub(super) fn new(now: Instant, family: Family, secret: &mut Secret) -> Server {
        Server {
            family,
            tokens: Tokens::new(now, secret),
            limits: AnswerLimits::new(now),
            peers: PeerStore::new(now, family),
            items: ItemStore::default(),
        }
    }

    /// What has to be done now and then, before a query is answered.
    pub(super) fn prepare(&mut self, now: Instant, secret: &mut Secret) {
        self.tokens.rotate(now, secret);
    }

    /// Peers of a torrent that have announced themselves to us.
    pub(super) fn stored_peers(&self, now: Instant, hash: WireHash, rng: &mut Rng) -> Vec<SocketAddr> {
        self.peers.draw(now, hash, MAX_VALUES, false, rng)
    }

    /// Stores what is to be stored, and says what to answer.
    ///
    /// # Errors
    ///
    /// Those of BEP 5 and 44.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        from: SocketAddr,
        query: &Query<'_>,
        knowledge: &Knowledge<'_>,
        rng: &mut Rng,
    ) -> Result<Reply, Refusal> {
        let ip = from.ip();
        let mut reply = Reply::default();
        let target = match &query.method {
            Method::Ping => None,
            Method::FindNode { target } => Some(*target),
            Method::GetPeers { hash, no_seeds, scrape } => {
                reply.token = Some(self.tokens.issue(ip));
                reply.values = self.peers.draw(now, *hash, MAX_VALUES, *no_seeds, rng);
                reply.filters = scrape.then(|| self.peers.scrape(now, *hash)).flatten();
                Some(NodeId::of(*hash))
            }
            Method::AnnouncePeer { hash, port, token, seed } => {
                self.check_token(now, from, token)?;
                let address = SocketAddr::new(ip, port.unwrap_or(from.port()));
                self.peers.announce(now, *hash, address, *seed);
                None
            }
            Method::Put(put) => {
                self.put(now, from, put)?;
                None
            }
            Method::Get { target, seq } => {
                reply.token = Some(self.tokens.issue(ip));
                reply.item = self.items.get(now, target).cloned();
                let proof = reply.item.as_ref().and_then(|item| item.proof.as_ref());
                let stored = proof.map(|proof| proof.seq);
                reply.is_value_known = stored.zip(*seq).is_some_and(|(stored, known)| stored <= known);
                Some(*target)
            }
            Method::SampleInfohashes { target } => {
                reply.sample = Some(self.peers.sample(now, rng));
                Some(*target)
            }
        };
        if let Some(target) = target {
            reply.nodes = nodes(now, self.family, from, target, query.want, knowledge);
        }
        Ok(reply)
    }

    fn check_token(&mut self, now: Instant, from: SocketAddr, token: &[u8]) -> Result<(), Refusal> {
        if !self.tokens.is_valid(token, from.ip()) {
            return Err(BAD_TOKEN);
        }
        self.limits.prove(now, from);
        Ok(())
    }

    fn put(&mut self, now: Instant, from: SocketAddr, put: &Put<'_>) -> Result<(), Refusal> {
        self.check_token(now, from, put.token)?;
        self.items.put(now, put)
    }
}

/// The nodes closest to a target, of the families that are wanted; without a wish, of our own (BEP 32).
fn nodes(
    now: Instant,
    family: Family,
    from: SocketAddr,
    target: NodeId,
    want: Option<[bool; 2]>,
    knowledge: &Knowledge<'_>,
) -> [Option<Vec<(NodeId, SocketAddr)>>; 2] {
    let of_own = || {
        let mut nodes = knowledge.table.closest_good(now, &target, BUCKET_SIZE + 1);
        nodes.retain(|(_, address)| *address != from);
        nodes.truncate(BUCKET_SIZE);
        nodes
    };
    let of_other = || {
        let mut nodes = knowledge.other_nodes.to_vec();
        nodes.sort_by_key(|(id, _)| id.distance(&target));
        nodes.truncate(BUCKET_SIZE);
        nodes
    };
    let wants = want.unwrap_or([family == Family::V4, family == Family::V6]);
    let of = |other: Family| if other == family { of_own() } else { of_other() };
    [wants[0].then(|| of(Family::V4)), wants[1].then(|| of(Family::V6))]
}
