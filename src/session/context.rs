//! What all torrents of a session share, as one of them needs it to see to its affairs.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::check_queue::{CheckQueue, CheckThreads};
use super::connections::Connections;
use super::dht::DhtNetwork;
use super::downloads::DownloadQueue;
use super::options::SessionOptions;
use super::outage::KeptAnnounce;
use super::subscribers::Subscribers;
use super::uploads::UploadSlots;
use super::web::WebConnections;
use super::{LinkNotice, Notice};
use crate::address::ListenPorts;
use crate::budget::Budget;
use crate::disk::{Disk, MAX_LANES};
use crate::event::{Kind, Severity};
use crate::ids::{Counter, DiskLane};
use crate::net::Gate;
use crate::net::dial::Dialer;
use crate::swarm::MAX_UNWRITTEN;
use crate::tracker::{self, AnnouncePool};
use crate::wire::PeerId;

/// While more bytes than this wait for a disk nothing is read from the sockets of its torrents. The swarms stop
/// asking earlier; the difference is for what was asked for before.
const MAX_WAITING: u64 = MAX_UNWRITTEN + (2 << 20);

/// What all torrents share.
pub(crate) struct Context {
    /// What the user asked of the session as a whole.
    pub options: SessionOptions,
    /// Who we are to peers and trackers.
    pub identity: Identity,
    /// The threads that hash, write, sync and read.
    pub disk: Disk,
    /// Why the disk's threads are not all there any more.
    pub disk_broken: Option<String>,
    /// Whose turn it is to be checked.
    pub(super) check_queue: CheckQueue,
    /// The threads that check.
    pub(super) check_threads: CheckThreads,
    /// Whose turn it is to download.
    pub(super) downloads: DownloadQueue,
    /// The upload slots of all torrents.
    pub(super) uploads: UploadSlots,
    /// The way back to the loop for tasks and threads. Bounded by what is under way: calls, handshakes, announces and
    /// checks each end in one notice.
    pub notify: mpsc::UnboundedSender<Notice>,
    /// For what tasks of this thread tell the loop of links; there are never more than calls and callers.
    pub notify_link: mpsc::UnboundedSender<LinkNotice>,
    /// The subscribers, who are told of events.
    pub subscribers: Subscribers,
    /// The connections of all torrents.
    pub connections: Connections,
    /// The connections to web seeds of all torrents.
    pub web: WebConnections,
    /// Bytes of verified pieces that wait for the disk.
    pub budget: WriteBudget,
    /// The memory for pieces that are begun and not written.
    pub memory: Budget,
    /// Gives out ids of torrents, connections and rounds.
    pub counter: Counter,
    /// Seeds the random choices of each swarm.
    pub rng: fastrand::Rng,
    /// How peers are called.
    pub dialer: Dialer,
    /// How trackers are reached.
    pub tracker_options: Arc<tracker::Options>,
    /// A torrent of the session is, or was, to end if no new data come for some time.
    pub watches_stall: bool,
    /// The threads that announce.
    pub(super) announces: AnnouncePool,
    /// Announces that wait until what is bound to is back; a few of each torrent.
    pub(super) kept_announces: Vec<KeptAnnounce>,
    /// The distributed hash table, if the user wants it.
    pub(super) dht: Option<DhtNetwork>,
}

/// Who we are to peers and trackers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// Our peer id (BEP 20).
    pub peer_id: PeerId,
    /// By which ports we can be called.
    pub ports: ListenPorts,
    /// What trackers recognise us by after our address has changed (BEP 7).
    pub key: u32,
}

impl Context {
    /// Builds an event about no torrent, if somebody wants one of this severity.
    pub(crate) fn tell_if(&mut self, severity: Severity, kind: impl FnOnce() -> Kind) {
        if self.subscribers.want(severity) {
            let kind = kind();
            debug_assert_eq!(kind.severity(), severity, "{kind:?}");
            self.subscribers.tell(None, kind);
        }
    }

    /// Places for connections that nobody has; a call under way has one.
    pub(crate) fn free_places(&self) -> usize {
        self.options.max_peers.saturating_sub(self.connections.count())
    }

    /// Whether peers are met by holes in firewalls (BEP 55): they tell one another of others, and are called by uTP.
    pub(crate) fn punches_holes(&self) -> bool {
        self.options.peer_exchange && self.options.proxy.is_none() && self.dialer.transports.has_utp()
    }

    /// Whether the filter refuses a peer that calls us; if so, that is told. (Those that we may call pass the gate of each
    /// torrent's finder.)
    pub(crate) fn is_filtered(&mut self, address: SocketAddr) -> bool {
        let filter = self.options.ip_filter.as_ref();
        let Some(rule) = filter.and_then(|filter| filter.refusal(address.ip())) else { return false };
        self.tell_filtered(address, rule);
        true
    }

    /// Tells that the filter has refused a peer, by this rule.
    pub(crate) fn tell_filtered(&mut self, address: SocketAddr, rule: String) {
        self.tell_if(Severity::Info, || Kind::IpFilter { address, protocol: protocol(address), rule });
    }
}

/// `tcp4` or `tcp6`.
pub(super) fn protocol(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "tcp4" } else { "tcp6" }
}

/// `udp4` or `udp6`.
pub(super) fn udp_protocol(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "udp4" } else { "udp6" }
}

/// The bytes of whole pieces that wait for the disk, by device; closes the gate before the sockets of a device's torrents while there
/// are too many.
#[derive(Debug, Default)]
pub(crate) struct WriteBudget {
    lanes: [LaneBudget; MAX_LANES],
    /// The longest pieces of all torrents: a few of them may always wait.
    longest_piece: u32,
}

#[derive(Debug, Default)]
struct LaneBudget {
    unwritten: u64,
    gate: Rc<Gate>,
}

impl WriteBudget {
    /// The gate for what comes for torrents of a lane.
    pub(crate) fn gate(&self, lane: DiskLane) -> Rc<Gate> {
        self.lanes[lane.0].gate.clone()
    }

    /// A piece of so many bytes waits for the disk from now on.
    pub(crate) fn take(&mut self, lane: DiskLane, bytes: u64) {
        self.lanes[lane.0].unwritten += bytes;
        self.set(lane);
    }

    /// Gives back room for so many bytes: they have been written, or never will be.
    pub(crate) fn give_back(&mut self, lane: DiskLane, bytes: u64) {
        self.lanes[lane.0].unwritten -= bytes;
        self.set(lane);
    }

    /// The session's torrents have changed: `longest_piece` is the longest piece of all.
    pub(crate) fn fit(&mut self, longest_piece: u32) {
        self.longest_piece = longest_piece;
        (0..MAX_LANES).for_each(|lane| self.set(DiskLane(lane)));
    }

    /// One more torrent is there, whose pieces are that long.
    pub(crate) fn fit_also(&mut self, piece: u32) {
        self.fit(self.longest_piece.max(piece));
    }

    fn set(&self, lane: DiskLane) {
        let LaneBudget { unwritten, gate } = &self.lanes[lane.0];
        gate.set_closed(*unwritten > MAX_WAITING.max(4 * u64::from(self.longest_piece)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_is_closed_while_too_much_waits_but_four_pieces_may_always() {
        let (mut budget, lane) = (WriteBudget::default(), DiskLane::default());
        let gate = budget.gate(lane);
        budget.take(lane, MAX_WAITING);
        assert!(!gate.is_closed());
        budget.take(lane, 1);
        assert!(gate.is_closed());
        budget.fit(64 << 20);
        assert!(!gate.is_closed());
        budget.take(lane, 256 << 20);
        assert!(gate.is_closed());
        budget.give_back(lane, MAX_WAITING + 1);
        assert!(!gate.is_closed());
    }

    #[test]
    fn what_waits_for_one_disk_closes_no_gate_before_another() {
        let mut budget = WriteBudget::default();
        let [hung, other] = [0, 1].map(DiskLane);
        let gates = [hung, other].map(|lane| budget.gate(lane));
        let are_closed = || [gates[0].is_closed(), gates[1].is_closed()];
        budget.take(hung, MAX_WAITING + 1);
        budget.take(other, MAX_WAITING);
        assert_eq!(are_closed(), [true, false]);
        budget.give_back(other, MAX_WAITING);
        assert_eq!(are_closed(), [true, false]);
        budget.give_back(hung, 1);
        assert_eq!(are_closed(), [false, false]);
    }
}
