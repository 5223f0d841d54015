//! Packets that come in: answers to our queries, and queries of others.

use std::net::SocketAddr;
use std::time::Instant;

use super::believable::{is_believable, is_reachable};
use super::lookup::LookupKind;
use super::message::{Ask, Body, Method, Packet, Query as ForeignQuery, Refusal, Response, read_packet};
use super::queries::{Purpose, Query};
use super::reply::encode_refusal;
use super::server::Knowledge;
use super::{Dht, DhtOutput, Family, NodeId};
use crate::filter::IpFilter;

/// Bytes of a ping of ours.
pub(super) const PING_LENGTH: usize = 67;

/// Bytes of an answer that says little more than our id, without its transaction id.
const LEAST_REPLY: usize = 80;

/// Good nodes that make the first ones worth telling of before a look-up has ended.
const ENOUGH_TO_START: usize = 8;

/// Nodes of the other family that are passed on of an answer.
const MAX_OTHER_NODES: usize = 16;

impl Dht {
    pub(super) fn on_packet(&mut self, now: Instant, from: SocketAddr, data: &[u8]) {
        if !self.config.family.has(from.ip()) || !is_reachable(from) || self.is_refused(from) {
            return;
        }
        let Some(Packet { transaction_id, ip, body }) = read_packet(data) else { return };
        match body {
            Body::Query(query) => self.on_query(now, from, transaction_id, Ok(query), data.len()),
            Body::BadQuery(refusal) => self.on_query(now, from, transaction_id, Err(refusal), data.len()),
            Body::Response(response) => {
                if let Some(query) = self.queries.answered(now, from, transaction_id) {
                    self.on_response(now, &query, &response);
                    let length = self.config.family.ip_length();
                    let ip = ip.and_then(|ip| self.config.family.read_ip(ip.get(..length)?));
                    if let Some(ip) = ip {
                        self.hear_external_address(now, ip, Some(from));
                    }
                }
            }
            Body::Error => {
                if let Some(query) = self.queries.answered(now, from, transaction_id) {
                    self.on_contact(now, from);
                    self.query_failed(now, &query);
                }
            }
        }
    }

    /// Somebody is there, at the address that we have asked.
    fn on_contact(&mut self, now: Instant, from: SocketAddr) {
        self.server.limits.prove(now, from);
        if self.contact.on_answer(now) {
            self.schedule.wake(now);
            self.own_lookup_due.get_or_insert(now);
        }
    }

    fn on_response(&mut self, now: Instant, query: &Query, response: &Response<'_>) {
        self.on_contact(now, query.to);
        // Who answers under our id is not who it seems.
        if response.id == self.id {
            self.table.forget(query.to);
            self.query_failed(now, query);
            return;
        }
        let doubtful = self.table.answered(now, response.id, query.to);
        match query.purpose {
            Purpose::Lookup(id) => self.on_step(id, query, response),
            Purpose::Check => {
                let believed = believable_nodes(query, response, self.config.family);
                self.ping_wanted(now, welcome(self.filter.clone(), believed));
            }
            Purpose::Announce(hash) => self.announce_ended(now, hash, true),
        }
        if query.both {
            let other = self.config.family.other();
            let nodes = response
                .nodes(other)
                .map(|(_, address)| address)
                .filter(|&node| is_believable(node, query.to));
            let nodes: Vec<SocketAddr> = nodes.take(MAX_OTHER_NODES).collect();
            if !nodes.is_empty() {
                self.outputs.push_back(DhtOutput::OtherFamily(nodes));
            }
        }
        if let Some((id, address)) = doubtful
            && !self.queries.is_asking(address)
        {
            self.ask(now, address, Some(id), Purpose::Check, Ask::Ping);
        }
        self.tell_started(now, ENOUGH_TO_START);
    }

    /// A look-up goes on.
    fn on_step(&mut self, id: super::LookupId, query: &Query, response: &Response<'_>) {
        let family = self.config.family;
        let Some(lookup) = self.lookups.get_mut(&id) else { return };
        let namer = lookup.on_answered(response.id, query.to, response.token, query.is_slow);
        lookup.add_named_nodes(
            namer,
            query.to,
            self.id,
            welcome(self.filter.clone(), response.nodes(family)),
        );
        if let LookupKind::Peers(hash) = lookup.kind {
            let peers = lookup.add_peers(query.to, response.values(family));
            if !peers.is_empty() {
                self.outputs.push_back(DhtOutput::Peers { hash, peers, from: query.to });
            }
        }
    }

    /// Answers a query, unless it must not be, and takes note of who has sent it.
    fn on_query(
        &mut self,
        now: Instant,
        from: SocketAddr,
        transaction_id: &[u8],
        query: Result<ForeignQuery<'_>, Refusal>,
        length: usize,
    ) {
        if self.config.read_only || !self.server.limits.admit(now, from) {
            return;
        }
        self.server.prepare(now, &mut self.secret);
        // Who is read-only asks not to be asked (BEP 43).
        let stranger = query.as_ref().ok().filter(|query| !query.read_only && query.id != self.id);
        let stranger = stranger.map(|query| query.id);
        let is_wanted = stranger.is_some_and(|id| self.table.queried_us(now, id, from));
        let knowledge = Knowledge { table: &self.table, other_nodes: &self.other_nodes };
        let answer = match &query {
            Ok(query) => self.server.answer(now, from, query, &knowledge, &mut self.rng),
            Err(refusal) => Err(*refusal),
        };
        if answer.is_ok()
            && let Ok(ForeignQuery { method: Method::AnnouncePeer { hash, port, .. }, .. }) = query
            && self.schedule.follows(hash)
        {
            let peer = SocketAddr::new(from.ip(), port.unwrap_or(from.port()));
            self.outputs.push_back(DhtOutput::Peers { hash, peers: vec![peer], from: peer });
        }
        let limit = self.server.limits.reply_limit(now, from, length);
        // What goes to who may not be there, the ping included, is no more than twice what came.
        let least = LEAST_REPLY + transaction_id.len();
        let with_ping = limit.checked_sub(PING_LENGTH).filter(|&rest| is_wanted && rest >= least);
        let limit = with_ping.unwrap_or(limit);
        let data = match answer {
            Ok(reply) => reply.encode(self.id, transaction_id, from, limit),
            Err(refusal) => encode_refusal(refusal, transaction_id, limit),
        };
        if let Some(data) = data.filter(|data| self.server.limits.spend(now, data.len())) {
            self.outputs.push_back(DhtOutput::Send { to: from, data });
        }
        if let Some(id) = stranger.filter(|_| with_ping.is_some())
            && !self.queries.is_asking(from)
            && self.server.limits.admit_ping(now)
        {
            self.ask(now, from, Some(id), Purpose::Check, Ask::Ping);
        }
    }
}

/// Those of these nodes that the user's filter does not refuse.
fn welcome(
    filter: Option<IpFilter>,
    nodes: impl Iterator<Item = (NodeId, SocketAddr)>,
) -> impl Iterator<Item = (NodeId, SocketAddr)> {
    nodes.filter(move |(_, address)| !filter.as_ref().is_some_and(|filter| filter.refuses(address.ip())))
}

/// The nodes of an answer that could be there.
fn believable_nodes<'a>(
    query: &Query,
    response: &Response<'a>,
    family: Family,
) -> impl Iterator<Item = (NodeId, SocketAddr)> + use<'a> {
    let from = query.to;
    response.nodes(family).filter(move |(_, address)| is_believable(*address, from))
}
