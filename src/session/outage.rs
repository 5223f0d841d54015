//! What everything leaves by: whether what is bound to is there, whether the proxy works, and what is done when that changes.
//!
//! While what is bound to is gone everything waits: peers are not called, announces are kept. When it is back, sockets are opened anew, for those
//! that were bound to it before are of no use.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::sleep;

use super::context::Context;
use super::dht::{DhtNetwork, DhtOptions};
use super::{Engine, LinkNotice, Notice};
use crate::address::ListenPorts;
use crate::bind::{Bind, Local};
use crate::event::{Event, Kind, Severity};
use crate::finder::announce::{AnnounceFailure, Answer};
use crate::net::driver::FromPeer;
use crate::net::egress::ProxyNews;
use crate::net::listen::{Listeners, listen};
use crate::net::relay::{RelayNews, relay};
use crate::net::udp::{UdpPort, UdpReaders};
use crate::proxy::Proxy;
use crate::tracker::{self, AnnouncePool, Request};
use crate::utp::Transport;

/// Between two looks at whether what is bound to is there.
const LOOK: Duration = Duration::from_secs(2);

/// Has an announce made.
pub(super) type KeptAnnounce = Box<dyn FnOnce(&AnnouncePool)>;

/// What is said at the start where the user has chosen a proxy.
pub(super) fn begun_through(proxy: &Proxy) -> Kind {
    let reason =
        "everything goes through it, so nobody can call by TCP, and the local network is not spoken to";
    Kind::Network { via: proxy.to_string(), usable: true, reason: reason.to_owned() }
}

/// Tells when what is bound to goes and when it is back, if it can go at all.
pub(super) fn watch_presence(local: Local, notify: UnboundedSender<Notice>) {
    if local.bind().is_none_or(Bind::is_loopback) {
        return;
    }
    tokio::task::spawn_local(async move {
        let mut before = local.presence();
        loop {
            sleep(LOOK).await;
            let now = local.presence();
            if now == before {
                continue;
            }
            // Another one of the same name is one that is gone, and one that is back.
            let news = [before.is_some().then_some(false), now.is_some().then_some(true)];
            before = now;
            for is_there in news.into_iter().flatten() {
                if notify.send(Notice::Presence(is_there)).is_err() {
                    return;
                }
            }
        }
    });
}

impl Context {
    /// Gives the peers that a tracker names, and the proxy looks up, addresses that stand for them.
    pub(super) fn stand_in_for_names(&self, answer: &mut Answer) {
        let egress = &self.dialer.egress;
        let named = answer.named.drain(..).filter_map(|(host, port)| egress.stand_in(&host, port, false));
        answer.peers.extend(named);
    }

    /// Has an announce made, as [`AnnouncePool::push`] says; if nothing can be sent now, as soon as it can.
    pub(super) fn announce(
        &mut self,
        request: Request,
        options: tracker::Options,
        tell: impl FnOnce(Result<Answer, AnnounceFailure>) + Send + 'static,
    ) {
        match self.dialer.egress.is_absent() {
            false => self.announces.push(request, options, tell),
            true => self.kept_announces.push(Box::new(move |pool| pool.push(request, options, tell))),
        }
    }
}

impl Engine {
    /// What everything leaves by, for who is told late.
    pub(super) fn network_news(&self) -> impl Iterator<Item = Event> {
        let proxy = self.context.options.proxy.as_ref();
        let udp_off = self.udp_off.clone().zip(proxy);
        let udp_off = udp_off.map(|(reason, proxy)| Kind::UdpOff { proxy: proxy.to_string(), reason });
        let failed = self.proxy_failure.clone().zip(proxy);
        let failed =
            failed.map(|(reason, proxy)| Kind::Network { via: proxy.to_string(), usable: false, reason });
        let kinds = proxy.map(begun_through).into_iter().chain(failed).chain(udp_off);
        kinds.map(|kind| Event { torrent: None, kind }).collect::<Vec<_>>().into_iter()
    }

    /// Has the proxy carry the packets of the DHT, which begins when it does, and of uTP.
    pub(super) fn relay_packets(&mut self, readers: UdpReaders) {
        let Some(port) = self.udp.clone().filter(UdpPort::is_relayed) else { return };
        let (egress, notify) = (self.context.dialer.egress.clone(), self.context.notify.clone());
        // The session may be over.
        let tell = move |news| drop(notify.send(Notice::Relay(news)));
        tokio::task::spawn_local(relay(egress, port, readers, tell));
    }

    /// The proxy carries packets from now on, or does not any more, or never will.
    pub(super) fn on_relay(&mut self, now: Instant, news: RelayNews) {
        match news {
            RelayNews::Carries => self.open_dht(now),
            RelayNews::Lost => self.context.dht.iter_mut().for_each(DhtNetwork::close),
            RelayNews::Refused(reason) => {
                let Some(proxy) = self.context.options.proxy.as_ref().map(Proxy::to_string) else { return };
                self.udp_off = Some(reason.clone());
                // It was carried before.
                self.context.dht = None;
                self.context.tell_if(Severity::Warning, || Kind::UdpOff { proxy, reason });
            }
        }
    }

    /// Packets go out, after they did not, or for the first time.
    fn open_dht(&mut self, now: Instant) {
        if self.context.dht.is_none() && self.context.options.proxy.is_some() {
            self.context.dht = self.new_relayed_dht();
        }
        if let Some(dht) = &mut self.context.dht {
            dht.open();
            self.torrents.values().for_each(|torrent| dht.update(now, torrent));
        }
    }

    fn new_relayed_dht(&mut self) -> Option<DhtNetwork> {
        // Where the proxy sends from is not known here, so there is nothing to announce, and who asks may get no answer.
        let options = self.context.options.dht.clone().map(|dht| DhtOptions { read_only: true, ..dht })?;
        let (seed, notify) = (self.context.rng.u64(..), self.context.notify.clone());
        let (ports, filter) = (ListenPorts::unmapped(0), self.context.options.ip_filter.clone());
        Some(DhtNetwork::new(options, self.udp.clone()?, ports, filter, seed, notify))
    }

    /// The proxy has stopped working, or works again.
    pub(super) fn on_proxy(&mut self, now: Instant, news: ProxyNews) {
        let Some(proxy) = self.context.options.proxy.as_ref().map(Proxy::to_string) else { return };
        let (usable, reason) = match news {
            ProxyNews::Failed(reason) => {
                let reason = format!("{reason}; nothing goes past it, and it is tried again");
                self.proxy_failure = Some(reason.clone());
                (false, reason)
            }
            ProxyNews::Works => {
                self.proxy_failure = None;
                self.on_way_back(now);
                (true, "the proxy works again".to_owned())
            }
        };
        self.tell_network(proxy, usable, reason);
    }

    /// What is bound to is gone, or back.
    pub(super) fn on_presence(&mut self, now: Instant, is_there: bool) {
        let Some(bind) = self.context.options.bind.as_ref().map(Bind::to_string) else { return };
        self.context.dialer.egress.set_absent(!is_there);
        if is_there {
            self.listen_again(now);
            let kept = std::mem::take(&mut self.context.kept_announces);
            kept.into_iter().for_each(|announce| announce(&self.context.announces));
            self.on_way_back(now);
            return self.tell_network(bind, true, "it is back".to_owned());
        }
        self.stop_listening();
        let reason = format!("{bind} is gone");
        for peer in self.context.connections.keys() {
            self.on_peer(now, FromPeer::Closed(peer, reason.clone()));
        }
        self.tell_network(bind, false, "it is gone; nothing is sent until it is back".to_owned());
    }

    fn on_way_back(&mut self, now: Instant) {
        for (&id, torrent) in &mut self.torrents {
            torrent.on_way_back(now);
            self.touched.insert(id);
        }
    }

    fn stop_listening(&mut self) {
        self.accepting.drain(..).for_each(|task| task.abort());
        if let Some(udp) = self.udp.as_ref().filter(|udp| !udp.is_relayed()) {
            udp.close();
            self.context.dht.iter_mut().for_each(DhtNetwork::close);
        }
    }

    /// Opens the sockets anew at which we are reached, at the same port. What cannot be opened yet is tried again.
    pub(super) fn listen_again(&mut self, now: Instant) {
        // It has been done, or there is nothing to do.
        let has_udp = self.udp.as_ref().is_some_and(|udp| !udp.addresses().is_empty());
        if self.context.options.proxy.is_some() || !self.accepting.is_empty() || has_udp {
            return;
        }
        let (local, port) =
            (Local::from(self.context.options.bind.clone()), self.context.identity.ports.local);
        match listen(&[port], &local, self.udp.is_some()) {
            Ok(mut listeners) => {
                self.listening = listeners.addresses();
                if let (Some(udp), Some(new)) = (&self.udp, listeners.udp.take()) {
                    udp.replace(&new);
                }
                self.accept_from(listeners);
                self.open_dht(now);
            }
            // It is gone again.
            Err(_) if self.context.dialer.egress.is_absent() => {}
            Err(_) => {
                let notify = self.context.notify.clone();
                tokio::task::spawn_local(async move {
                    sleep(LOOK).await;
                    // The session may be over.
                    let _ = notify.send(Notice::ListenAgain);
                });
            }
        }
    }

    /// Hears those who call.
    pub(super) fn accept_from(&mut self, listeners: Listeners) {
        let notify = self.context.notify_link.clone();
        // Who calls us is one of several.
        let receive_buffer = self.context.connections.shared.download.receive_buffer(1);
        receive_buffer.into_iter().for_each(|bytes| listeners.set_receive_buffer(bytes));
        if self.context.options.transport.takes(Transport::Tcp) {
            self.accepting = listeners
                .accept(move |link, address| notify.send(LinkNotice::Accepted(link, address)).is_ok());
        }
    }

    fn tell_network(&mut self, via: String, usable: bool, reason: String) {
        let severity = if usable { Severity::Info } else { Severity::Warning };
        self.context.tell_if(severity, || Kind::Network { via, usable, reason });
    }
}
