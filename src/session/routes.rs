//! Finds the torrent that something is about.

use std::time::Instant;

use super::dht::DhtNews;
use super::portmap::MappingNews;
use super::thread::thread_gone;
use super::uploads::Demand;
use super::{Addition, Command, Engine, Known, LinkNotice, Notice, Torrent};
use crate::disk::Done;
use crate::event::{Severity, State};
use crate::ids::{InfoHashes, TorrentId};
use crate::net::driver::FromPeer;
use crate::net::web::FromWeb;

impl Engine {
    pub(super) fn on_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Add(addition, reply) => {
                let _ = reply.send(self.add(now, *addition));
            }
            Command::Remove(id, reply) => {
                self.remove(now, id);
                let _ = reply.send(());
            }
            Command::Enter(id, state, reply) => {
                let done = self.with(id, |torrent, context| torrent.enter(now, state, "asked for", context));
                let _ = reply.send(done.is_some());
            }
            Command::EnterAll(state, reply) => {
                self.enter_all(now, state);
                let _ = reply.send(());
            }
            Command::Hashcheck(id, pieces, reply) => {
                let done = self.with(id, |torrent, context| torrent.check_again(now, pieces, context));
                let _ = reply.send(done.is_some());
            }
            Command::Ask(id, question) => {
                let mut torrent = self.torrents.get_mut(&id);
                if let (Some(torrent), Some(dht)) = (&mut torrent, &self.context.dht) {
                    // Counted for whoever looks, and not in each turn.
                    torrent.set_dht_nodes(dht.nodes_for(torrent));
                }
                question(now, torrent.as_deref());
            }
            Command::List(reply) => {
                let _ = reply.send(self.torrents.values().map(Torrent::info_hash).collect());
            }
            Command::Subscribe(least, interest, reply) => {
                let news = self.news();
                let _ = reply.send(self.context.subscribers.add(least, interest, news));
            }
            Command::Want(id, priorities, order, reply) => {
                let done = self.with(id, |torrent, context| torrent.want(now, priorities, order, context));
                let _ = reply.send(done.is_some());
            }
            Command::OpenReader(id, file, reply) => {
                let opened = self.with(id, |torrent, context| torrent.open_reader(now, file, context));
                let _ = reply.send(opened.flatten());
            }
            Command::AwaitPiece(id, reader, piece, reply) => {
                self.with(id, |torrent, _| torrent.await_piece(now, reader, piece, reply));
            }
            Command::MoveReader(id, reader, piece, reply) => {
                let done = self.with(id, |torrent, _| torrent.move_reader(now, reader, piece));
                let _ = reply.send(done.is_some());
            }
            Command::CloseReader(id, reader) => {
                self.with(id, |torrent, _| torrent.close_reader(now, reader));
            }
            Command::AddPeer(id, address, reply) => {
                let done = self.with(id, |torrent, context| torrent.add_peer(now, address, context));
                let _ = reply.send(done.is_some());
            }
            Command::SetIpFilter(filter, reply) => {
                self.set_ip_filter(now, filter);
                let _ = reply.send(());
            }
            Command::Shutdown => self.shut_down(now),
        }
    }

    /// Brings all torrents into this state before anything else is done. Those that have their turn come first, so that those that have none
    /// count them.
    fn enter_all(&mut self, now: Instant, state: State) {
        let mut all: Vec<(bool, TorrentId)> =
            self.torrents.iter().map(|(&id, torrent)| (!torrent.has_turn(), id)).collect();
        all.sort_unstable();
        for (_, id) in all {
            self.with(id, |torrent, context| {
                torrent.enter(now, state, "asked for", context);
                context.downloads.set(now, id, torrent.counts_until());
            });
        }
    }

    pub(super) fn on_link_notice(&mut self, now: Instant, notice: LinkNotice) {
        match notice {
            LinkNotice::Accepted(link, address) => self.on_accepted(link, address),
            LinkNotice::Answered(call, address, end) => self.on_answered(now, call, address, end),
            LinkNotice::Dialed(id, called, end) => {
                self.context.connections.dialing -= 1;
                self.with(id, |torrent, context| torrent.on_dialed(now, called, end, context));
            }
        }
    }

    pub(super) fn on_notice(&mut self, now: Instant, notice: Notice) {
        match notice {
            Notice::Named(id, address) => {
                self.with(id, |torrent, context| torrent.add_peer(now, address, context));
            }
            Notice::Nodes(addresses) => {
                if let Some(dht) = &mut self.context.dht {
                    dht.on_nodes(now, &addresses);
                }
            }
            Notice::Heard(packet, source) => {
                let found = self.local.as_mut().map(|local| local.on_packet(now, &packet, source));
                for (name, address) in found.into_iter().flatten() {
                    let Some(&id) = self.by_hash.get(&name) else { continue };
                    self.with(id, |torrent, context| torrent.on_local_peer(now, address, context));
                }
            }
            Notice::Gateway(news) => {
                if let Some(mapping) = &mut self.mapping {
                    mapping.on_news(now, news);
                }
            }
            Notice::Announced(id, round, token, mut result) => {
                if let Ok(answer) = &mut result {
                    self.context.stand_in_for_names(answer);
                }
                self.with(id, |torrent, _| torrent.on_announced(now, round, token, result));
            }
            Notice::FoundEarly(id, round, token, peers) => {
                self.with(id, |torrent, _| torrent.on_found_early(now, round, token, peers));
            }
            Notice::FoundBeside(id, round, url, mut answer) => {
                self.context.stand_in_for_names(&mut answer);
                self.with(id, |torrent, _| torrent.on_found_beside(now, round, &url, answer.peers));
            }
            Notice::Hashed(id, run, hashes) => {
                self.with(id, |torrent, _| torrent.on_hashed(now, run, hashes));
            }
            Notice::Metadata(id, read) => {
                self.with(id, |torrent, context| torrent.on_metadata(now, read, context));
                self.enter_swarms(now, id);
                self.fit_budget();
            }
            Notice::PieceChecked(id, piece, result) => {
                self.with(id, |torrent, context| torrent.on_piece_checked(piece, result, context));
            }
            Notice::CheckBegun(id, round) => {
                self.context.check_queue.begun(id);
                self.with(id, |torrent, context| torrent.on_check_begun(round, context));
            }
            Notice::CheckPostponed(id, round, lane, to_read) => {
                let ahead = self.context.check_queue.postpone(lane, to_read);
                if self
                    .with(id, |torrent, context| torrent.on_check_postponed(now, round, ahead, context))
                    .is_none()
                {
                    self.context.check_queue.leave(id);
                }
            }
            Notice::Checked(id, round, lane, checked) => {
                self.context.check_queue.end(lane);
                self.with(id, |torrent, context| torrent.on_checked(now, round, checked, context));
            }
            Notice::Prepared(id, starts, result) => {
                self.with(id, |torrent, context| torrent.on_prepared(now, starts, result, context));
            }
            Notice::Room(id, starts) => {
                self.with(id, |torrent, context| torrent.on_room(now, starts, context));
            }
            Notice::Synced(id, synced) => {
                self.with(id, |torrent, context| torrent.on_synced(now, synced, context));
            }
            Notice::Snapshot(id, taken) => {
                self.with(id, |torrent, context| torrent.on_snapshot(now, taken, context));
            }
            Notice::Stored(id) => {
                self.with(id, |torrent, _| torrent.on_stored());
            }
            Notice::LastSaved(id, saved) => {
                self.with(id, |torrent, context| torrent.on_last_saved(now, saved, context));
            }
            Notice::Presence(is_there) => self.on_presence(now, is_there),
            Notice::ListenAgain => self.listen_again(now),
            Notice::Relay(news) => self.on_relay(now, news),
            Notice::Proxy(news) => self.on_proxy(now, news),
            Notice::Told(id, kind) => {
                self.with(id, |torrent, context| torrent.tell(context, kind));
            }
        }
    }

    pub(super) fn on_peer(&mut self, now: Instant, event: FromPeer) {
        let Some(connection) = self.context.connections.get(event.peer()) else {
            return self.context.connections.give_back(event);
        };
        let torrent = connection.torrent;
        self.with(torrent, |torrent, context| torrent.on_peer(now, event, context));
    }

    pub(super) fn on_web(&mut self, now: Instant, event: FromWeb) {
        match self.context.web.torrent_of(event.key()) {
            Some(torrent) => drop(self.with(torrent, |torrent, context| torrent.on_web(now, event, context))),
            None => self.context.web.give_back(event),
        }
    }

    pub(super) fn on_done(&mut self, now: Instant, done: Done) {
        match done.torrent() {
            Some(torrent) => {
                self.with(torrent, |torrent, context| torrent.on_done(now, done, context));
            }
            None => {
                if let Done::Broken { thread } = done {
                    self.on_disk_broken(now, thread);
                }
            }
        }
    }

    /// A thread of the disk is gone, by an error of this program: all torrents end.
    fn on_disk_broken(&mut self, now: Instant, thread: &str) {
        let reason = thread_gone(thread);
        self.context.disk_broken = Some(reason.clone());
        for (&id, torrent) in &mut self.torrents {
            torrent.on_disk_broken(now, &reason, &mut self.context);
            self.touched.insert(id);
        }
    }

    /// Does what is due at gateways, and passes on what they have mapped.
    pub(super) fn advance_mapping(&mut self, now: Instant) {
        while let Some(news) = self.mapping.as_mut().and_then(|mapping| mapping.poll(now)) {
            match news {
                MappingNews::Event(kind) => self.context.tell_if(Severity::Info, || *kind),
                MappingNews::ExternalAddress(ip, from) => {
                    if let Some(dht) = &mut self.context.dht {
                        dht.on_external_address(now, ip, from);
                    }
                }
                MappingNews::Ports(ports) => {
                    let before = std::mem::replace(&mut self.context.identity.ports, ports);
                    if let Some(dht) = &mut self.context.dht {
                        dht.set_ports(now, ports);
                    }
                    for (&id, torrent) in &mut self.torrents {
                        torrent.set_ports(now, before, ports);
                        self.touched.insert(id);
                    }
                }
            }
        }
    }

    /// Does what is due in the DHT, and passes on what it has found.
    pub(super) fn advance_dht(&mut self, now: Instant) {
        while let Some(news) = self.context.dht.as_mut().and_then(|dht| dht.poll(now)) {
            match news {
                DhtNews::Peers(name, peers) => {
                    let Some(&id) = self.by_hash.get(&name) else { continue };
                    self.with(id, |torrent, _| torrent.on_dht_peers(now, peers));
                }
                DhtNews::Event(None, kind) => self.context.tell_if(Severity::Info, || *kind),
                DhtNews::Event(Some(name), kind) => {
                    let Some(&id) = self.by_hash.get(&name) else { continue };
                    self.with(id, |torrent, context| {
                        if context.subscribers.want(Severity::Info) {
                            torrent.tell(context, *kind);
                        }
                    });
                }
            }
        }
    }

    /// Adds a torrent and begins its check. `None` if it is there already.
    fn add(&mut self, now: Instant, addition: Addition) -> Option<TorrentId> {
        let Addition { known, options } = addition;
        let info_hash = known.info_hash();
        if self.shutting_down || info_hash.wire_hashes().any(|name| self.by_hash.contains_key(&name)) {
            return None;
        }
        let id = self.context.counter.torrent();
        self.context.watches_stall |= options.stall_timeout.is_some();
        self.name(id, info_hash);
        let (mut refusal, mut nothing_chosen) = (None, None);
        let torrent = match known {
            Known::Metainfo(metainfo, claim) => {
                // Nobody is asked for the layers of a torrent that may not be written anyway.
                if !metainfo.piece_hashes.are_known() && (claim.is_ok() || options.metadata_only) {
                    Torrent::without_layers(now, id, metainfo, options, claim, &mut self.context)
                } else {
                    let claim = claim.map_err(|error| refusal = Some(error)).ok();
                    Torrent::new(now, id, metainfo, options, claim, &mut self.context)
                }
            }
            Known::NothingChosen(metainfo, reason) => {
                nothing_chosen = Some(reason);
                Torrent::new(now, id, metainfo, options, None, &mut self.context)
            }
            Known::Magnet(magnet, claims, device) => {
                let torrent = Torrent::of_magnet(now, id, magnet, options, claims, &mut self.context);
                torrent.on_device(device, &mut self.context)
            }
        };
        self.context.budget.fit_also(torrent.piece_length());
        self.torrents.insert(id, torrent);
        self.enter_swarms(now, id);
        self.with(id, |torrent, context| {
            if torrent.will_ask_for_turn() {
                context.downloads.expect(now, id);
            }
            match nothing_chosen {
                Some(reason) => torrent.begin_in_vain(now, reason, context),
                None => torrent.begin(now, refusal.as_ref(), context),
            }
            if let Some(reason) = context.disk_broken.clone() {
                torrent.on_disk_broken(now, &reason, context);
            }
        });
        Some(id)
    }

    /// A torrent is found by these hashes from now on.
    fn name(&mut self, id: TorrentId, hashes: InfoHashes) {
        for name in hashes.wire_hashes() {
            if self.by_hash.insert(name, id).is_none() {
                self.context.dialer.secrecy.add(name);
            }
        }
    }

    /// A torrent that a link names by one hash may turn out to be a hybrid: it is in both swarms then, unless another torrent is in the
    /// second one already.
    fn enter_swarms(&mut self, now: Instant, id: TorrentId) {
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        let (known, possible) = (torrent.swarms(), torrent.possible_swarms());
        let is_free = |name| self.by_hash.get(&name).is_none_or(|&other| other == id);
        if known != possible && possible.wire_hashes().all(is_free) {
            torrent.enter_swarms(now, possible);
            self.name(id, possible);
        }
    }

    fn remove(&mut self, now: Instant, id: TorrentId) {
        let Some(torrent) = self.torrents.remove(&id) else { return };
        self.by_hash.retain(|_, named| *named != id);
        for name in torrent.swarms().wire_hashes() {
            self.context.dialer.secrecy.remove(name);
            if let Some(local) = &mut self.local {
                local.forget(now, name);
            }
            if let Some(dht) = &mut self.context.dht {
                dht.forget(now, name);
            }
        }
        if let Some(mapping) = &mut self.mapping {
            mapping.update(now, id, false);
        }
        self.unschedule(id);
        self.context.downloads.forget(id);
        self.context.uploads.set(now, id, Demand::default());
        self.touched.extend(self.context.uploads.take_unmet());
        torrent.on_removed(now, &mut self.context);
        self.fit_budget();
    }

    fn fit_budget(&mut self) {
        let longest = self.torrents.values().map(Torrent::piece_length).max();
        self.context.budget.fit(longest.unwrap_or(0));
    }

    /// Ends all torrents, and the loop once they have ended.
    pub(super) fn shut_down(&mut self, now: Instant) {
        self.shutting_down = true;
        for (&id, torrent) in &mut self.torrents {
            torrent.stop_for_good(now, &mut self.context);
            self.touched.insert(id);
        }
    }
}
