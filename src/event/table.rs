//! Every event: its name, its severity, its keys, what it means and what it says, each written once.
//!
//! Names, URLs and reasons come from strangers: every one of them is escaped where it is put into a message, so that a message can
//! go to a terminal as it is.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use super::row::{Row, events};
use super::words::{packet_type, seconds};
use super::{Direction, Encryption, FileStatus, PeersFound, Pieces, Severity, State, Verdict};
use crate::text::{self, Rate, Size, Time, count, escape, percent};

events! {
    /// A port is open.
    ("listen_success", Info) ListenSuccess { address: SocketAddr, port: u16, protocol: &'static str }
    => format!("listening on {address} ({protocol})"),

    /// No port of the list could be opened.
    ("listen_failure", Fatal) ListenFailure {
        address: String,
        ports: String,
        protocol: &'static str,
        reason: String,
    }
    => format!("cannot listen on {} port {} ({protocol}): {}", escape(address), escape(ports), escape(reason)),

    /// Whether anything can be sent by what everything has to leave by (via: the user's proxy, or what is bound to): told
    /// at the start if there is a proxy, and when it changes. A warning while nothing can.
    ("network", Info if *usable, else Warning) Network { via: String, usable: bool, reason: String }
    => format!("{}: {}", escape(via), escape(reason)),

    /// The user's proxy carries no UDP, so uTP, the DHT and UDP trackers are off.
    ("udp_off", Warning) UdpOff { proxy: String, reason: String }
    => format!("{}: {}; uTP, the DHT and UDP trackers are off", escape(proxy), escape(reason)),

    /// A filter of the program that embeds btget refused a peer before a byte was sent.
    ("ip_filter", Info) IpFilter { address: SocketAddr, protocol: &'static str, rule: String }
    => format!("refused {address}: {}", escape(rule)),

    /// The first nodes of the DHT have answered: so many are known at this socket.
    ("dht_started", Info) DhtStarted { address: SocketAddr, nodes: usize }
    => format!("the DHT at {address} knows {}", count(*nodes as u64, "node")),

    /// A look-up in the DHT has ended: so many peers were named by the nodes that were asked, in so many seconds.
    ("dht_peers", Info) DhtPeers { peers: usize, nodes: usize, seconds: f64 }
    => format!(
        "{} from the DHT, {} asked in {seconds:.1} s",
        count(*peers as u64, "peer"),
        count(*nodes as u64, "node")
    ),

    /// So many nodes of the DHT have taken note that we have this torrent.
    ("dht_announce", Info) DhtAnnounce { nodes: usize }
    => format!("announced to {} of the DHT", count(*nodes as u64, "node")),

    /// A gateway lets in those who call: by port of its own address (null: it does not say which), connections or packets as
    /// protocol says, asked by pcp, nat-pmp or upnp. lifetime: seconds until that has to be renewed, null if it does not end.
    ("port_map_success", Info) PortMapSuccess {
        protocol: &'static str,
        method: &'static str,
        address: Option<IpAddr>,
        port: u16,
        gateway: IpAddr,
        lifetime: Option<u64>,
    }
    => match address {
        Some(address) => format!("{gateway} lets in who calls {address} port {port} ({protocol}, {method})"),
        None => format!("{gateway} lets in who calls its port {port} ({protocol}, {method})"),
    },

    /// A gateway does not let in those who call, or no gateway answers (gateway is null), by this method; protocol is null if it is not about
    /// connections or packets alone. It is asked again later.
    ("port_map_failure", Info) PortMapFailure {
        protocol: Option<&'static str>,
        method: &'static str,
        gateway: Option<IpAddr>,
        reason: String,
    }
    => match gateway {
        Some(gateway) => format!("{gateway} maps no port ({method}): {}", escape(reason)),
        None => format!("no port is mapped ({method}): {}", escape(reason)),
    },

    /// A torrent joined the session. Of a magnet link, size, pieces and files are 0
    /// if it is not known yet what it is; metadata_received tells them.
    ("torrent_added", Info) TorrentAdded { name: String, size: u64, pieces: u32, files: usize }
    => match files {
        0 => format!("added {}; what it is, peers have to say", escape(name)),
        files => format!(
            "added {}: {} in {} and {}",
            escape(name),
            Size(*size),
            count(*files as u64, "file"),
            count(*pieces, "piece")
        ),
    },

    /// This peer is asked what a magnet link is, which says itself no more than the info hash. size: bytes of the metadata, null if
    /// the peer has not said it.
    ("metadata_requested", Info) MetadataRequested { address: SocketAddr, size: Option<u64> }
    => match size {
        Some(size) => format!("asking {address} for {} of metadata", Size(*size)),
        None => format!("asking {address} for the metadata"),
    },

    /// It is known what a magnet link is: the metadata are there, and match its hash.
    ("metadata_received", Info) MetadataReceived {
        name: String,
        size: u64,
        pieces: u32,
        files: usize,
        private: bool,
    }
    => format!(
        "the metadata are there: {}, {} in {} and {}",
        escape(name),
        Size(*size),
        count(*files as u64, "file"),
        count(*pieces, "piece")
    ),

    /// A peer is not asked any more what a magnet link is: it cannot say it, or what it said is of no use.
    ("metadata_failed", Info) MetadataFailed { address: SocketAddr, reason: String }
    => format!("no metadata from {address}: {}", escape(reason)),

    /// A torrent left the session.
    ("torrent_removed", Info) TorrentRemoved { name: String }
    => format!("removed {}", escape(name)),

    /// Started, paused, stopped, or waiting: it is started and not its turn to download (--max-downloads).
    ("state_changed", Info) StateChanged { from: State, to: State, reason: String }
    => format!("{to}: {}", escape(reason)),

    /// A hash check waits for its turn: so many torrents come before this one.
    ("hashcheck_queued", Info) HashcheckQueued { ahead: usize }
    => format!("waiting to be checked, behind {}", count(*ahead as u64, "other torrent")),

    /// What is on disk is being read.
    ("hashcheck_started", Info) HashcheckStarted { pieces: u32, bytes: u64 }
    => format!("checking {}, {}", count(*pieces, "piece"), Size(*bytes)),

    /// It has been read. What is corrupt is not missing as well.
    ("hashcheck_finished", Info) HashcheckFinished {
        have: Pieces,
        missing: Pieces,
        corrupt: Pieces,
        have_count: u32,
        missing_count: u32,
        corrupt_count: u32,
    }
    => format!(
        "checked: {have_count} pieces are there, {missing_count} missing, {corrupt_count} corrupt"
    ),

    /// What a check found about a file: ok, corrupt, missing, short, long or unreadable (a warning unless
    /// ok), the bad pieces, their byte ranges in the file, and those of them that a neighbour may be to
    /// blame for.
    ("file_report", Info if *status == FileStatus::Ok, else Warning) FileReport {
        path: String,
        status: FileStatus,
        length: u64,
        pieces: Pieces,
        bytes: Vec<(u64, u64)>,
        shared: Pieces,
        reason: Option<String>,
    }
    => {
        let reason =
            reason.as_ref().map(|reason| format!(": {}", escape(reason))).unwrap_or_default();
        match pieces.0.is_empty() {
            true => format!("{} is {status}{reason}", escape(path)),
            false => format!("{} is {status}{reason}; bad pieces: {pieces}", escape(path)),
        }
    },

    /// A piece is right; peers is empty for data that were on disk.
    ("piece_hash_passed", Info) PieceHashPassed { index: u32, peers: Vec<SocketAddr> }
    => format!("piece {index} is right"),

    /// A piece is wrong; peers is empty for data that were on disk.
    ("piece_hash_failed", Warning) PieceHashFailed { index: u32, peers: Vec<SocketAddr> }
    => match peers.as_slice() {
        [] => format!("piece {index} on disk is not there or not right"),
        [one] => format!("piece {index} has a wrong hash, sent by {one}"),
        many => format!("piece {index} has a wrong hash, sent by {} peers", many.len()),
    },

    /// An announce begins; announce is started, completed, stopped, paused (of a partial seed) or empty.
    ("tracker_announce", Info) TrackerAnnounce { url: String, tier: usize, announce: &'static str }
    => match announce.is_empty() {
        true => format!("announcing to {}", escape(url)),
        false => format!("announcing '{announce}' to {}", escape(url)),
    },

    /// A connection to a tracker stands; each redirect and each address of a UDP tracker makes one.
    ("tracker_connect", Debug) TrackerConnect { url: String, tier: usize }
    => format!("connecting to {}", escape(url)),

    /// It is closed.
    ("tracker_disconnect", Debug) TrackerDisconnect { url: String, tier: usize }
    => format!("closed the connection to {}", escape(url)),

    /// Bytes of an answer came; of HTTPS, their number inside the encryption.
    ("tracker_read", Debug) TrackerRead { url: String, tier: usize, length: usize }
    => format!("{length} bytes from {}", escape(url)),

    /// Bytes of a request were sent, counted likewise.
    ("tracker_write", Debug) TrackerWrite { url: String, tier: usize, length: usize }
    => format!("{length} bytes to {}", escape(url)),

    /// The tracker answered.
    ("tracker_success", Info) TrackerSuccess {
        url: String,
        tier: usize,
        complete: Option<u32>,
        incomplete: Option<u32>,
        peers: usize,
        interval: u64,
        min_interval: Option<u64>,
    }
    => format!(
        "{} from {}, next announce in {interval} s",
        count(*peers as u64, "peer"),
        escape(url)
    ),

    /// It failed; status_code 0 means that there was no answer.
    ("tracker_failure", Warning) TrackerFailure {
        url: String,
        tier: usize,
        reason: String,
        times_in_row: u32,
        status_code: u16,
    }
    => {
        let again = if *times_in_row > 1 {
            format!(" ({times_in_row} times in a row)")
        } else {
            String::new()
        };
        format!("tracker {} failed{again}: {}", escape(url), escape(reason))
    },

    /// It answered with a warning.
    ("tracker_warning", Warning) TrackerWarning { url: String, tier: usize, reason: String }
    => format!("tracker {} warns: {}", escape(url), escape(reason)),

    /// A connection or a call begins; direction is in or out. Of one that comes in it is not known yet
    /// which torrent it is about.
    ("peer_connect", Debug) PeerConnect {
        address: SocketAddr,
        direction: Direction,
        transport: &'static str,
    }
    => match direction {
        Direction::In => format!("{address} connected ({transport})"),
        Direction::Out => format!("connecting to {address} ({transport})"),
    },

    /// A peer has said who it is.
    ("peer_id", Debug) PeerId {
        address: SocketAddr,
        transport: &'static str,
        peer_id: String,
        client: String,
    }
    => format!("{address} is {}", escape(client)),

    /// Both handshakes are through. encryption: none, plaintext (only the handshake was encrypted) or rc4.
    ("peer_handshake_complete", Info) PeerHandshakeComplete {
        address: SocketAddr,
        direction: Direction,
        transport: &'static str,
        peer_id: String,
        client: String,
        encryption: Encryption,
    }
    => match encryption {
        Encryption::Rc4 => format!("connected to {address}, {}, encrypted", escape(client)),
        _ => format!("connected to {address}, {}", escape(client)),
    },

    /// A connection has ended, or a call has failed; transport is then the one that was tried first.
    ("peer_disconnect", Info) PeerDisconnect {
        address: SocketAddr,
        transport: &'static str,
        reason: String,
    }
    => format!("disconnected from {address}: {}", escape(reason)),

    /// So many bytes of the torrent's data were received.
    ("peer_data_in", Debug) PeerDataIn { address: SocketAddr, length: usize }
    => format!("{length} bytes from {address}"),

    /// So many bytes of the torrent's data were sent.
    ("peer_data_out", Debug) PeerDataOut { address: SocketAddr, length: usize }
    => format!("{length} bytes to {address}"),

    /// A message was received; never with block data.
    ("peer_packet_in", Debug, keys "address, type and the fields of the message") PeerPacketIn {
        address: SocketAddr,
        #[serde(flatten)]
        packet: serde_json::Value,
    }
    => format!("{} from {address}", packet_type(packet)),

    /// A message was sent; never with block data.
    ("peer_packet_out", Debug, keys "address, type and the fields of the message") PeerPacketOut {
        address: SocketAddr,
        #[serde(flatten)]
        packet: serde_json::Value,
    }
    => format!("{} to {address}", packet_type(packet)),

    /// A peer broke the protocol or its connection failed; peer_id is empty before it has said who it is.
    ("peer_error", Info) PeerError { address: SocketAddr, peer_id: String, reason: String }
    => format!("trouble with {address}: {}", escape(reason)),

    /// A peer is not dealt with any more.
    ("peer_ban", Warning) PeerBan { address: SocketAddr, peer_id: String, reason: String }
    => format!("banned {address}: {}", escape(reason)),

    /// A peer tells of others (BEP 11): so many that it is connected to and that may be called, so many that have left it.
    ("pex_peers", Info) PexPeers { address: SocketAddr, added: usize, dropped: usize }
    => format!("{} from {address}", count(*added as u64, "peer")),

    /// A peer of the local network is found (BEP 14).
    ("lsd_peer", Info) LsdPeer { address: SocketAddr }
    => format!("{address} is on the local network"),

    /// A peer asked for what does not exist or what we do not have.
    ("invalid_request", Info) InvalidRequest { address: SocketAddr, peer_id: String, reason: String }
    => format!("invalid request from {address}: {}", escape(reason)),

    /// A file was opened.
    ("file_open", Debug) FileOpen { path: String, mode: &'static str }
    => format!("opened {} ({mode})", escape(path)),

    /// A file was closed.
    ("file_close", Debug) FileClose { path: String }
    => format!("closed {}", escape(path)),

    /// Data were read.
    ("file_read", Debug) FileRead { path: String, length: u64 }
    => format!("read {length} bytes of {}", escape(path)),

    /// Data were written.
    ("file_write", Debug) FileWrite { path: String, length: u64 }
    => format!("wrote {length} bytes of {}", escape(path)),

    /// Data cannot be read or written; the torrent is paused, or ends, as --file-error says.
    ("file_error", Fatal) FileError { path: String, reason: String }
    => {
        match reason.contains(path.as_str()) {
            true => escape(reason).into_owned(),
            false => format!("{}: {}", escape(path), escape(reason)),
        }
    },

    /// A file is complete, and longer than the torrent says: the end of it is somebody else's. Told at the end of the transfer.
    ("file_too_long", Warning) FileTooLong { path: String, length: u64, size: u64, reason: String }
    => format!("{}: {}", escape(path), escape(reason)),

    /// Something about a file that people should know, and the torrent goes on: it was too long and has
    /// been cut, a symbolic link could not be made, blocks cannot be reserved.
    ("file_warning", Warning) FileWarning { path: String, reason: String }
    => {
        match reason.contains(path.as_str()) {
            true => escape(reason).into_owned(),
            false => format!("{}: {}", escape(path), escape(reason)),
        }
    },

    /// What is wrong with a web seed, or with one of its files: why, and what comes of it. User name and password are not shown.
    ("url_seed", Info) UrlSeed { url: String, reason: String }
    => format!("web seed {}: {}", escape(url), escape(reason)),

    /// Each second while something moves, once when nothing does any more, and once before `complete`. downloaded and uploaded are payload bytes of this run; the totals are those of the data
    /// that are there, in earlier runs too.
    ("progress", Info) Progress {
        done: u64,
        wanted: u64,
        left: u64,
        downloaded: u64,
        uploaded: u64,
        total_downloaded: u64,
        total_uploaded: u64,
        down_rate: u64,
        up_rate: u64,
        peers: usize,
        seeds: usize,
        eta: Option<u64>,
        have: Pieces,
        wanted_pieces: Pieces,
    }
    => {
        let left =
            eta.map(|s| format!(", {} left", Time(Duration::from_secs(s)))).unwrap_or_default();
        format!(
            "{:.1}% of {}, down {}, up {}, {}{left}",
            percent(*done, *wanted),
            Size(*wanted),
            Rate(*down_rate),
            Rate(*up_rate),
            count(*peers as u64, "peer")
        )
    },

    /// Everything wanted is there and verified.
    ("complete", Info) Complete { name: String, size: u64, elapsed: f64 }
    => format!("{} is complete: {} after {}", escape(name), Size(*size), seconds(*elapsed)),

    /// Seeding begins.
    ("seeding", Info) Seeding { name: String }
    => format!("seeding {}", escape(name)),

    /// So many events before this one were lost because the reader was too slow or could not be written to.
    ("events_dropped", Warning) EventsDropped { count: u64 }
    => format!(
        "{} lost: the reader was too slow or could not be written to",
        text::count(*count, "event")
    ),

    /// The outcome; counters as in progress. wanted and left are not there if it never was known what the torrent is. peers_found: how
    /// many were told of first by tracker, dht, pex, lsd and user; incoming: how many called us.
    ("summary", Info, keys "name, exit_code, reason, done, wanted, left, downloaded, uploaded, total_downloaded, total_uploaded, wasted, peers_found, elapsed, have, wanted_pieces") Summary {
        name: String,
        /// Not a key: the command line puts an exit code, made of it, in its place.
        #[serde(skip)]
        verdict: Verdict,
        reason: String,
        done: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        wanted: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        left: Option<u64>,
        downloaded: u64,
        uploaded: u64,
        total_downloaded: u64,
        total_uploaded: u64,
        wasted: u64,
        peers_found: PeersFound,
        elapsed: f64,
        have: Pieces,
        wanted_pieces: Pieces,
    }
    => match wanted {
        None => format!("{}: {}", escape(name), escape(reason)),
        Some(wanted) => format!(
            "{}: {}; {} of {} there, {} uploaded in {}",
            escape(name),
            escape(reason),
            Size(*done),
            Size(*wanted),
            Size(*uploaded),
            seconds(*elapsed)
        ),
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// One of each, with something hostile in every string.
    fn samples() -> Vec<Kind> {
        let address: SocketAddr = "192.0.2.7:6881".parse().unwrap();
        let evil = || "evil\x1b[2J\n".to_owned();
        let pieces = || Pieces(vec![0..5, 9..10]);
        let (url, name, path, reason, client, peer_id) = (evil, evil, evil, evil, evil, evil);
        use Kind::*;
        vec![
            ListenSuccess { address, port: 6881, protocol: "tcp4" },
            ListenFailure { address: evil(), ports: evil(), protocol: "tcp4", reason: reason() },
            Network { via: evil(), usable: true, reason: evil() },
            UdpOff { proxy: evil(), reason: evil() },
            IpFilter { address, protocol: "tcp4", rule: evil() },
            DhtStarted { address, nodes: 8 },
            DhtPeers { peers: 3, nodes: 40, seconds: 0.5 },
            DhtAnnounce { nodes: 8 },
            PortMapSuccess {
                protocol: "tcp4",
                method: "upnp",
                address: Some(address.ip()),
                port: 6881,
                gateway: address.ip(),
                lifetime: Some(3600),
            },
            PortMapFailure {
                protocol: None,
                method: "nat-pmp",
                gateway: Some(address.ip()),
                reason: reason(),
            },
            TorrentAdded { name: name(), size: 1, pieces: 1, files: 1 },
            MetadataRequested { address, size: Some(1) },
            MetadataReceived { name: name(), size: 1, pieces: 1, files: 1, private: true },
            MetadataFailed { address, reason: reason() },
            TorrentRemoved { name: name() },
            StateChanged { from: State::Started, to: State::Paused, reason: reason() },
            HashcheckQueued { ahead: 1 },
            HashcheckStarted { pieces: 1, bytes: 1 },
            HashcheckFinished {
                have: pieces(),
                missing: pieces(),
                corrupt: pieces(),
                have_count: 1,
                missing_count: 1,
                corrupt_count: 1,
            },
            FileReport {
                path: path(),
                status: FileStatus::Ok,
                length: 1,
                pieces: pieces(),
                bytes: vec![(0, 1)],
                shared: pieces(),
                reason: Some(reason()),
            },
            PieceHashPassed { index: 1, peers: vec![] },
            PieceHashFailed { index: 1, peers: vec![address] },
            TrackerAnnounce { url: url(), tier: 0, announce: "started" },
            TrackerConnect { url: url(), tier: 0 },
            TrackerDisconnect { url: url(), tier: 0 },
            TrackerRead { url: url(), tier: 0, length: 1 },
            TrackerWrite { url: url(), tier: 0, length: 1 },
            TrackerSuccess {
                url: url(),
                tier: 0,
                complete: Some(1),
                incomplete: None,
                peers: 1,
                interval: 1,
                min_interval: None,
            },
            TrackerFailure { url: url(), tier: 0, reason: reason(), times_in_row: 2, status_code: 0 },
            TrackerWarning { url: url(), tier: 0, reason: reason() },
            PeerConnect { address, direction: Direction::In, transport: "tcp" },
            PeerId { address, transport: "utp", peer_id: peer_id(), client: client() },
            PeerHandshakeComplete {
                address,
                direction: Direction::Out,
                transport: "tcp",
                peer_id: peer_id(),
                client: client(),
                encryption: Encryption::Rc4,
            },
            PeerDisconnect { address, transport: "tcp", reason: reason() },
            PeerDataIn { address, length: 1 },
            PeerDataOut { address, length: 1 },
            PeerPacketIn { address, packet: json!({"type": "have"}) },
            PeerPacketOut { address, packet: json!({"type": evil()}) },
            PeerError { address, peer_id: peer_id(), reason: reason() },
            PeerBan { address, peer_id: peer_id(), reason: reason() },
            PexPeers { address, added: 1, dropped: 1 },
            LsdPeer { address },
            InvalidRequest { address, peer_id: peer_id(), reason: reason() },
            FileOpen { path: path(), mode: "read" },
            FileClose { path: path() },
            FileRead { path: path(), length: 1 },
            FileWrite { path: path(), length: 1 },
            FileError { path: path(), reason: reason() },
            FileTooLong { path: path(), length: 1, size: 2, reason: reason() },
            FileWarning { path: path(), reason: reason() },
            UrlSeed { url: url(), reason: reason() },
            Progress {
                done: 1,
                wanted: 2,
                left: 1,
                downloaded: 1,
                uploaded: 1,
                total_downloaded: 1,
                total_uploaded: 1,
                down_rate: 1,
                up_rate: 1,
                peers: 1,
                seeds: 1,
                eta: Some(1),
                have: pieces(),
                wanted_pieces: pieces(),
            },
            Complete { name: name(), size: 1, elapsed: 1.0 },
            Seeding { name: name() },
            EventsDropped { count: 1 },
            Summary {
                name: name(),
                verdict: Verdict::Complete,
                reason: reason(),
                done: 1,
                wanted: Some(1),
                left: Some(0),
                downloaded: 1,
                uploaded: 1,
                total_downloaded: 1,
                total_uploaded: 1,
                wasted: 0,
                peers_found: PeersFound::default(),
                elapsed: 1.0,
                have: pieces(),
                wanted_pieces: pieces(),
            },
        ]
    }

    #[test]
    fn the_table_names_every_event_with_its_severity_and_keys() {
        let samples = samples();
        assert_eq!(samples.len(), TABLE.len());
        for (kind, row) in samples.iter().zip(TABLE) {
            let value = serde_json::to_value(kind).unwrap();
            assert_eq!(value["event"], row.event);
            assert_eq!(serde_json::to_value(kind.severity()).unwrap(), row.severity, "{}", row.event);
            let keys = value.as_object().unwrap().keys().filter(|key| *key != "event");
            let mut keys: Vec<&str> = keys.map(String::as_str).collect();
            let said = row.keys.split(" and ").next().unwrap();
            // The command line makes the exit code of a summary's verdict.
            let mut said: Vec<&str> = said.split(", ").filter(|key| *key != "exit_code").collect();
            keys.sort_unstable();
            said.sort_unstable();
            assert_eq!(keys, said, "{}", row.event);
        }
    }

    #[test]
    fn every_message_is_one_safe_line() {
        for kind in samples() {
            let message = kind.message();
            assert!(!message.is_empty() && !message.contains(char::is_control), "{message:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_as_it_should_be_is_a_warning() {
        let report = |status| Kind::FileReport {
            path: "a".into(),
            status,
            length: 10,
            pieces: Pieces(vec![1..2]),
            bytes: vec![(0, 10)],
            shared: Pieces(vec![]),
            reason: None,
        };
        assert_eq!(report(FileStatus::Corrupt).severity(), Severity::Warning);
        assert_eq!(report(FileStatus::Corrupt).message(), "a is corrupt; bad pieces: 1");
    }

    #[test]
    fn ranges_are_written_as_people_write_them() {
        assert_eq!(Pieces(vec![0..5, 9..10]).to_string(), "0-4, 9");
        assert_eq!(Pieces(vec![]).to_string(), "none");
        let many = Pieces((0..100).map(|n| n * 2..n * 2 + 1).collect());
        assert_eq!(many.to_string(), "0, 2, 4, 6, 8, 10, 12, 14 and 92 more");
        assert_eq!(serde_json::to_value(Pieces(vec![0..5, 9..10])).unwrap(), json!(["0-4", "9"]));
    }
}
