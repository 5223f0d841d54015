//! What the node does by itself: look-ups, announces, upkeep of the routing table, finding contact.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::lookup::{Lookup, LookupId, LookupKind};
use super::message::Ask;
use super::queries::{Overdue, Purpose, Query};
use super::table::BUCKET_SIZE;
use super::{AnnounceRound, Dht, DhtOutput, NodeId, PendingAnnounce};
use crate::ids::WireHash;

/// Look-ups under way at the same time; while nobody has answered yet, one.
const MAX_LOOKUPS: usize = 16;

/// Nodes of the routing table that a look-up begins with.
const FIRST_NODES: usize = 16;

/// The look-up of our own id gives precedence to those of torrents for so long.
const OWN_LOOKUP_DELAY: Duration = Duration::from_secs(3);

/// From one query for the sake of the routing table to the next; and while nobody answers.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const LONELY_CHECK_INTERVAL: Duration = Duration::from_secs(15);

/// Bytes of the longest query: an announce with the longest token.
const MAX_QUERY: u64 = 300;

impl Dht {
    /// Queries that are slow or lost.
    pub(super) fn give_up_overdue(&mut self, now: Instant) {
        while let Some(overdue) = self.queries.overdue(now) {
            match overdue {
                Overdue::Slow(query) => {
                    if let Purpose::Lookup(id) = query.purpose
                        && let Some(lookup) = self.lookups.get_mut(&id)
                    {
                        lookup.on_slow(query.to);
                    }
                }
                Overdue::Lost(query) => {
                    // Where nobody answers it is the network that is gone, not the nodes.
                    if let Some(id) = query.id.filter(|_| self.contact.has_answered_since(query.sent_at)) {
                        self.table.failed(now, id, query.to);
                    }
                    self.contact.on_lost(now);
                    self.query_failed(now, &query);
                }
            }
        }
    }

    /// Tells whoever has asked that a query was in vain.
    pub(super) fn query_failed(&mut self, now: Instant, query: &Query) {
        match query.purpose {
            Purpose::Lookup(id) => {
                if let Some(lookup) = self.lookups.get_mut(&id) {
                    lookup.on_failed(query.to, query.is_slow);
                }
            }
            Purpose::Check => {}
            Purpose::Announce(hash) => self.announce_ended(now, hash, false),
        }
    }

    /// Does all that can be done now.
    pub(super) fn drive(&mut self, now: Instant) {
        self.driven_at = now;
        if self.contact.attempt(now) {
            // Whoever is in the table may be back.
            self.own_lookup_due.get_or_insert(now);
            if self.config.bootstrap_wanted {
                self.outputs.push_back(DhtOutput::Bootstrap);
            }
        }
        self.begin_lookups(now);
        self.ask_named(now);
        // Before look-ups, which could use up the budget for ever: tokens are good for some minutes only.
        self.send_announces(now);
        self.ask_for_lookups(now);
        self.keep_up_table(now);
        self.finish_lookups(now);
        self.next_due = self.find_next_due();
    }

    /// When to call [`Dht::poll`] though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        if self.outputs.is_empty() { self.next_due } else { Some(self.driven_at) }
    }

    pub(super) fn find_next_due(&self) -> Option<Instant> {
        let may_begin = self.has_somebody_to_ask() && self.has_room_for_lookup();
        let lookups = self.schedule.next_due().filter(|_| may_begin);
        let own = self.own_lookup_at(self.driven_at).filter(|_| may_begin);
        let waits = !self.pending_announces.is_empty()
            || !self.contact.to_ask.is_empty()
            || self.lookups.values().any(|lookup| lookup.is_stirred);
        let budget = waits.then(|| self.budget.ready(MAX_QUERY));
        let upkeep = self.table.next_due().map(|at| at.max(self.next_check));
        let others = [self.queries.next_due(), self.contact.next_due(), lookups, own, budget, upkeep];
        others.into_iter().flatten().min()
    }

    /// When our own id is looked up: torrents that are due by then come before, but not for long.
    fn own_lookup_at(&self, now: Instant) -> Option<Instant> {
        let due = self.own_lookup_due?;
        let is_idle = self.lookups.is_empty() && !self.schedule.has_due(now.max(due));
        Some(if is_idle { due } else { due + OWN_LOOKUP_DELAY })
    }

    fn has_somebody_to_ask(&self) -> bool {
        !self.table.is_empty() || !self.contact.to_ask.is_empty()
    }

    fn has_room_for_lookup(&self) -> bool {
        self.lookups.len() < if self.contact.is_alone() { 1 } else { MAX_LOOKUPS }
    }

    /// Sends a query, if the budget allows it.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        to: SocketAddr,
        id: Option<NodeId>,
        purpose: Purpose,
        ask: Ask<'_>,
    ) -> bool {
        if !self.budget.take(now, MAX_QUERY) {
            return false;
        }
        let both = matches!(ask, Ask::FindNode { both: true, .. });
        let query = Query { to, id, purpose, sent_at: now, both, is_slow: false };
        let transaction_id = self.queries.begin(query, &mut self.secret);
        let data = ask.encode(self.id, transaction_id.bytes(), self.config.read_only);
        // What was taken too much is given back.
        self.budget.give_back(MAX_QUERY.saturating_sub(data.len() as u64));
        // A look-up that was under way when the filter changed may know such: to it they are silent.
        if !self.is_refused(to) {
            self.outputs.push_back(DhtOutput::Send { to, data });
        }
        true
    }

    /// Begins the look-ups that are due, as long as there is anybody to ask.
    fn begin_lookups(&mut self, now: Instant) {
        while self.has_somebody_to_ask() && self.has_room_for_lookup() {
            let Some(start) = self.schedule.start(now) else { break };
            let (kind, target) = (LookupKind::Peers(start.hash), NodeId::of(start.hash));
            let lookup = self.begin_lookup(now, kind, target, start.is_urgent);
            lookup.begin_with(start.closest);
        }
        if self.own_lookup_at(now).is_some_and(|at| at <= now)
            && self.has_somebody_to_ask()
            && self.has_room_for_lookup()
        {
            self.own_lookup_due = None;
            self.begin_lookup(now, LookupKind::Own, self.id, false);
        }
    }

    fn begin_lookup(
        &mut self,
        now: Instant,
        kind: LookupKind,
        target: NodeId,
        is_urgent: bool,
    ) -> &mut Lookup {
        self.lookups_begun += 1;
        let mut lookup = Lookup::new(now, kind, target, is_urgent);
        lookup.begin_with(self.table.closest(&target, FIRST_NODES));
        self.lookups.entry(LookupId(self.lookups_begun)).or_insert(lookup)
    }

    /// Asks those who were named: a look-up that has few answers asks them what it wants to know, and they are pinged otherwise.
    fn ask_named(&mut self, now: Instant) {
        while let Some(address) = self.contact.to_ask.pop_front() {
            if self.queries.is_asking(address) {
                continue;
            }
            // While nobody has answered, there is one look-up, which asks them all.
            let hungry = self.lookups.values_mut().find(|lookup| lookup.is_hungry());
            if let Some(lookup) = hungry {
                lookup.add_unnamed(address);
            } else if !self.ask(now, address, None, Purpose::Check, Ask::Ping) {
                self.contact.to_ask.push_front(address);
                return;
            }
        }
    }

    /// Sends the next queries of all look-ups, one of each in turn, as far as the budget goes.
    fn ask_for_lookups(&mut self, now: Instant) {
        let mut ids: Vec<LookupId> =
            self.lookups.iter().filter(|(_, lookup)| lookup.is_stirred).map(|(id, _)| *id).collect();
        let mut has_budget = true;
        while has_budget && !ids.is_empty() {
            ids.retain(|&id| {
                has_budget &= self.budget.has(now, MAX_QUERY);
                has_budget && self.ask_for_lookup(now, id)
            });
        }
    }

    /// Sends the next query of a look-up; `false` if it has none.
    fn ask_for_lookup(&mut self, now: Instant, id: LookupId) -> bool {
        let Some(lookup) = self.lookups.get_mut(&id) else { return false };
        let Some((node, address)) = lookup.next() else { return false };
        let ask = match lookup.kind {
            LookupKind::Peers(hash) => Ask::GetPeers { hash },
            // Nodes of the other family are asked for on the way in, and later no more (BEP 32).
            LookupKind::Own => Ask::FindNode { target: lookup.target, both: true },
            LookupKind::Refresh => Ask::FindNode { target: lookup.target, both: false },
        };
        self.ask(now, address, node, Purpose::Lookup(id), ask)
    }

    fn finish_lookups(&mut self, now: Instant) {
        let is_done = |lookup: &Lookup| !lookup.is_stirred && lookup.is_done();
        while let Some(id) = self.lookups.iter().find(|(_, lookup)| is_done(lookup)).map(|(id, _)| *id) {
            let Some(mut lookup) = self.lookups.remove(&id) else { return };
            for address in lookup.take_unnamed() {
                self.contact.ask_later(address);
            }
            self.finish_lookup(now, lookup);
            // There may be room for others now.
            self.begin_lookups(now);
            self.ask_named(now);
            self.send_announces(now);
            self.ask_for_lookups(now);
        }
    }

    fn finish_lookup(&mut self, now: Instant, lookup: Lookup) {
        if lookup.answers > 0 {
            self.tell_started(now, 1);
        }
        match lookup.kind {
            LookupKind::Peers(hash) => {
                if lookup.answers > 0 {
                    self.outputs.push_back(DhtOutput::LookedUp {
                        hash,
                        peers: lookup.num_peers(),
                        nodes_asked: lookup.asked,
                        took: now.saturating_duration_since(lookup.started_at),
                    });
                }
                if let Some(announce) = self.schedule.looked_up(now, hash, lookup.closest()) {
                    let nodes = lookup.announce_to();
                    let round = AnnounceRound { left: nodes.len(), acknowledged: 0 };
                    self.announces.insert(hash, round);
                    for (id, to, token) in nodes {
                        self.pending_announces.push_back(PendingAnnounce { hash, id, to, token, announce });
                    }
                    if round.left == 0 {
                        self.announces.remove(&hash);
                        self.schedule.announced(now, hash, 0);
                    }
                }
            }
            LookupKind::Own if lookup.answers == 0 => {
                let again = self.contact.next_due().unwrap_or(now);
                self.own_lookup_due = Some(again.max(now + OWN_LOOKUP_DELAY));
            }
            LookupKind::Own | LookupKind::Refresh => {}
        }
    }

    /// Says that the first good nodes are there, once there are so many.
    pub(super) fn tell_started(&mut self, now: Instant, least: usize) {
        if self.contact.is_started {
            return;
        }
        let nodes = self.table.num_good(now);
        if nodes >= least {
            self.contact.is_started = true;
            self.outputs.push_back(DhtOutput::Started { nodes });
        }
    }

    fn send_announces(&mut self, now: Instant) {
        while let Some(pending) = self.pending_announces.pop_front() {
            let ask = Ask::AnnouncePeer {
                hash: pending.hash,
                port: pending.announce.port.unwrap_or(self.config.port),
                implied_port: pending.announce.implied_port,
                seed: pending.announce.seed,
                token: &pending.token,
            };
            if !self.ask(now, pending.to, Some(pending.id), Purpose::Announce(pending.hash), ask) {
                self.pending_announces.push_front(pending);
                return;
            }
        }
    }

    /// One of the announces of a torrent has ended.
    pub(super) fn announce_ended(&mut self, now: Instant, hash: WireHash, is_acknowledged: bool) {
        let Some(round) = self.announces.get_mut(&hash) else { return };
        round.left = round.left.saturating_sub(1);
        round.acknowledged += usize::from(is_acknowledged);
        if round.left == 0 {
            let nodes = round.acknowledged;
            self.announces.remove(&hash);
            self.schedule.announced(now, hash, nodes);
            self.outputs.push_back(DhtOutput::Announced { hash, nodes });
        }
    }

    /// Asks a node that has been silent for long, or looks for nodes of a bucket that has room.
    fn keep_up_table(&mut self, now: Instant) {
        if now < self.next_check || self.table.next_due().is_none_or(|at| at > now) {
            return;
        }
        self.next_check = now + if self.contact.is_alone() { LONELY_CHECK_INTERVAL } else { CHECK_INTERVAL };
        if let Some((id, address)) = self.table.next_check(now) {
            // It is asked for nodes of its own bucket: so full buckets are refreshed, too.
            let target = self.id.near(self.id.shared_bits(&id).min(NodeId::BITS - 1), self.secret.draw());
            let ask = Ask::FindNode { target, both: false };
            self.ask(now, address, Some(id), Purpose::Check, ask);
        } else if self.has_room_for_lookup() {
            let random = self.secret.draw();
            if let Some(target) = self.table.next_refresh(now, random) {
                self.begin_lookup(now, LookupKind::Refresh, target, false);
                self.ask_for_lookups(now);
            }
        }
    }

    /// Pings nodes that a check has come upon and the table has room for: a few, and only while it is small.
    pub(super) fn ping_wanted(&mut self, now: Instant, nodes: impl Iterator<Item = (NodeId, SocketAddr)>) {
        let mut pings = 2;
        for (id, address) in nodes.take(2 * BUCKET_SIZE) {
            let is_wanted = self.table.wants(now, id, address) && !self.queries.is_asking(address);
            if pings > 0 && is_wanted && self.ask(now, address, Some(id), Purpose::Check, Ask::Ping) {
                pings -= 1;
            }
        }
    }

    /// Counts a vote about our own address; a new one gives us a new id (BEP 42), if the old does not fit it.
    pub(super) fn hear_external_address(&mut self, now: Instant, ip: IpAddr, from: Option<SocketAddr>) {
        if self.vote.hear(ip, from) && !self.id.fits(ip) {
            self.id = self.secret.draw().bound_to(ip);
            let unnamed = super::RoutingTable::new(now, self.id);
            self.table = std::mem::replace(&mut self.table, unnamed).renamed(now, self.id);
            self.own_lookup_due = Some(now + OWN_LOOKUP_DELAY);
        }
    }
}
