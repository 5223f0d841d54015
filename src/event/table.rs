//! The events as documentation: one row each, shown by the man page and checked against the code.

/// One event of the stream.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Value of the key `event`.
    pub event: &'static str,
    /// Value of the key `severity`.
    pub severity: &'static str,
    /// When it happens.
    pub meaning: &'static str,
    /// Its further keys.
    pub keys: &'static str,
}

const fn row(event: &'static str, severity: &'static str, keys: &'static str, meaning: &'static str) -> Row {
    Row { event, severity, meaning, keys }
}

/// Every event, in the order of [`super::Kind`].
pub const TABLE: &[Row] = &[
    row("listen_success", "info", "address, port, protocol", "A port is open."),
    row(
        "listen_failure",
        "fatal",
        "address, ports, protocol, reason",
        "No port of the list could be opened.",
    ),
    row(
        "ip_filter",
        "info",
        "address, protocol, rule",
        "A filter of the program that embeds btget refused a peer before a byte was sent.",
    ),
    row("torrent_added", "info", "name, size, pieces, files", "A torrent joined the session."),
    row("torrent_removed", "info", "name", "A torrent left the session."),
    row("state_changed", "info", "from, to, reason", "Started, paused or stopped."),
    row("hashcheck_started", "info", "pieces, bytes", "What is on disk is being read."),
    row(
        "hashcheck_finished",
        "info",
        "have, missing, have_count, missing_count, corrupt_count",
        "It has been read.",
    ),
    row(
        "file_report",
        "info",
        "path, status, length, pieces, bytes, shared, reason",
        "What a check found about a file: ok, corrupt, missing, short, long or unreadable (a warning unless ok), the bad pieces, their byte ranges in the file, and those of them that a neighbour may be to blame for.",
    ),
    row(
        "piece_hash_passed",
        "info",
        "index, peers",
        "A piece is right; peers is empty for data that were on disk.",
    ),
    row(
        "piece_hash_failed",
        "warning",
        "index, peers",
        "A piece is wrong; peers is empty for data that were on disk.",
    ),
    row(
        "tracker_announce",
        "info",
        "url, tier, announce",
        "An announce begins; announce is started, completed, stopped or empty.",
    ),
    row(
        "tracker_connect",
        "debug",
        "url, tier",
        "A connection to a tracker stands; each redirect and each address of a UDP tracker makes one.",
    ),
    row("tracker_disconnect", "debug", "url, tier", "It is closed."),
    row(
        "tracker_read",
        "debug",
        "url, tier, length",
        "Bytes of an answer came; of HTTPS, their number inside the encryption.",
    ),
    row("tracker_write", "debug", "url, tier, length", "Bytes of a request were sent, counted likewise."),
    row(
        "tracker_success",
        "info",
        "url, tier, complete, incomplete, peers, interval, min_interval",
        "The tracker answered.",
    ),
    row(
        "tracker_failure",
        "warning",
        "url, tier, reason, times_in_row, status_code",
        "It failed; status_code 0 means that there was no answer.",
    ),
    row("tracker_warning", "warning", "url, tier, reason", "It answered with a warning."),
    row(
        "peer_connect",
        "debug",
        "address, direction, transport",
        "A connection or a call begins; direction is in or out. Of one that comes in it is not known yet which torrent it is about.",
    ),
    row("peer_id", "debug", "address, peer_id, client", "A peer has said who it is."),
    row(
        "peer_handshake_complete",
        "info",
        "address, direction, peer_id, client",
        "Both handshakes are through.",
    ),
    row("peer_disconnect", "info", "address, reason", "A connection has ended, or a call has failed."),
    row("peer_data_in", "debug", "address, length", "So many bytes of the torrent's data were received."),
    row("peer_data_out", "debug", "address, length", "So many bytes of the torrent's data were sent."),
    row(
        "peer_packet_in",
        "debug",
        "address, type and the fields of the message",
        "A message was received; never with block data.",
    ),
    row(
        "peer_packet_out",
        "debug",
        "address, type and the fields of the message",
        "A message was sent; never with block data.",
    ),
    row(
        "peer_error",
        "info",
        "address, peer_id, reason",
        "A peer broke the protocol or its connection failed; peer_id is empty before it has said who it is.",
    ),
    row("peer_ban", "warning", "address, peer_id, reason", "A peer is not dealt with any more."),
    row(
        "invalid_request",
        "info",
        "address, peer_id, reason",
        "A peer asked for what does not exist or what we do not have.",
    ),
    row("file_open", "debug", "path, mode", "A file was opened."),
    row("file_close", "debug", "path", "A file was closed."),
    row("file_read", "debug", "path, length", "Data were read."),
    row("file_write", "debug", "path, length", "Data were written."),
    row(
        "file_error",
        "fatal",
        "path, reason",
        "Data cannot be read or written; the torrent is paused and goes on at SIGUSR2.",
    ),
    row(
        "file_warning",
        "warning",
        "path, reason",
        "Something about a file that people should know, and the torrent goes on: it was too long and has been cut, a symbolic link could not be made, blocks cannot be reserved.",
    ),
    row("url_seed", "info", "url, reason", "News of a web seed; so far: that it is not used."),
    row(
        "progress",
        "info",
        "done, wanted, left, downloaded, uploaded, down_rate, up_rate, peers, seeds, eta, have, wanted_pieces",
        "Each second while something moves.",
    ),
    row("complete", "info", "name, size, elapsed", "Everything wanted is there and verified."),
    row("seeding", "info", "name", "Seeding begins."),
    row(
        "events_dropped",
        "warning",
        "count",
        "So many events before this one were lost because the reader was too slow or could not be written to.",
    ),
    row(
        "summary",
        "info",
        "name, exit_code, reason, done, wanted, left, downloaded, uploaded, wasted, elapsed, have, wanted_pieces",
        "The outcome.",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::*;
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
            IpFilter { address, protocol: "tcp4", rule: evil() },
            TorrentAdded { name: name(), size: 1, pieces: 1, files: 1 },
            TorrentRemoved { name: name() },
            StateChanged { from: State::Started, to: State::Paused, reason: reason() },
            HashcheckStarted { pieces: 1, bytes: 1 },
            HashcheckFinished {
                have: pieces(),
                missing: pieces(),
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
            PeerId { address, peer_id: peer_id(), client: client() },
            PeerHandshakeComplete {
                address,
                direction: Direction::Out,
                peer_id: peer_id(),
                client: client(),
            },
            PeerDisconnect { address, reason: reason() },
            PeerDataIn { address, length: 1 },
            PeerDataOut { address, length: 1 },
            PeerPacketIn { address, packet: json!({"type": "have"}) },
            PeerPacketOut { address, packet: json!({"type": evil()}) },
            PeerError { address, peer_id: peer_id(), reason: reason() },
            PeerBan { address, peer_id: peer_id(), reason: reason() },
            InvalidRequest { address, peer_id: peer_id(), reason: reason() },
            FileOpen { path: path(), mode: "read" },
            FileClose { path: path() },
            FileRead { path: path(), length: 1 },
            FileWrite { path: path(), length: 1 },
            FileError { path: path(), reason: reason() },
            FileWarning { path: path(), reason: reason() },
            UrlSeed { url: url(), reason: reason() },
            Progress {
                done: 1,
                wanted: 2,
                left: 1,
                downloaded: 1,
                uploaded: 1,
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
                wanted: 1,
                left: 0,
                downloaded: 1,
                uploaded: 1,
                wasted: 0,
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
