//! What an event matters and what it says in plain English.
//!
//! Names, URLs and reasons come from strangers: every one of them is escaped here, so a message can
//! go to a terminal as it is.

use std::time::Duration;

use super::{FileStatus, Kind, Severity};
use crate::text::escape;
use crate::text::{Rate, Size, Time, count, percent};

impl Kind {
    /// How much this event matters. It follows from the kind alone, but for `file_report`, where a
    /// file that is not as it should be is a warning.
    pub fn severity(&self) -> Severity {
        use Kind::*;
        match self {
            ListenFailure { .. } | FileError { .. } => Severity::Fatal,
            PieceHashFailed { .. }
            | TrackerFailure { .. }
            | TrackerWarning { .. }
            | PeerBan { .. }
            | FileWarning { .. }
            | EventsDropped { .. } => Severity::Warning,
            FileReport { status, .. } if *status != FileStatus::Ok => Severity::Warning,
            ListenSuccess { .. }
            | IpFilter { .. }
            | TorrentAdded { .. }
            | TorrentRemoved { .. }
            | StateChanged { .. }
            | HashcheckStarted { .. }
            | HashcheckFinished { .. }
            | FileReport { .. }
            | PieceHashPassed { .. }
            | TrackerAnnounce { .. }
            | TrackerSuccess { .. }
            | PeerHandshakeComplete { .. }
            | PeerDisconnect { .. }
            | PeerError { .. }
            | InvalidRequest { .. }
            | UrlSeed { .. }
            | Progress { .. }
            | Complete { .. }
            | Seeding { .. }
            | Summary { .. } => Severity::Info,
            TrackerConnect { .. }
            | TrackerDisconnect { .. }
            | TrackerRead { .. }
            | TrackerWrite { .. }
            | PeerConnect { .. }
            | PeerId { .. }
            | PeerDataIn { .. }
            | PeerDataOut { .. }
            | PeerPacketIn { .. }
            | PeerPacketOut { .. }
            | FileOpen { .. }
            | FileClose { .. }
            | FileRead { .. }
            | FileWrite { .. } => Severity::Debug,
        }
    }

    /// What happened, in plain English, safe to print.
    pub fn message(&self) -> String {
        use Kind::*;
        match self {
            ListenSuccess { .. }
            | ListenFailure { .. }
            | IpFilter { .. }
            | TorrentAdded { .. }
            | TorrentRemoved { .. }
            | StateChanged { .. }
            | Progress { .. }
            | Complete { .. }
            | Seeding { .. }
            | EventsDropped { .. }
            | Summary { .. } => self.session_message(),
            HashcheckStarted { .. }
            | HashcheckFinished { .. }
            | FileReport { .. }
            | PieceHashPassed { .. }
            | PieceHashFailed { .. }
            | FileOpen { .. }
            | FileClose { .. }
            | FileRead { .. }
            | FileWrite { .. }
            | FileError { .. }
            | FileWarning { .. } => self.data_message(),
            TrackerAnnounce { .. }
            | TrackerConnect { .. }
            | TrackerDisconnect { .. }
            | TrackerRead { .. }
            | TrackerWrite { .. }
            | TrackerSuccess { .. }
            | TrackerFailure { .. }
            | TrackerWarning { .. }
            | UrlSeed { .. } => self.tracker_message(),
            PeerConnect { .. }
            | PeerId { .. }
            | PeerHandshakeComplete { .. }
            | PeerDisconnect { .. }
            | PeerDataIn { .. }
            | PeerDataOut { .. }
            | PeerPacketIn { .. }
            | PeerPacketOut { .. }
            | PeerError { .. }
            | PeerBan { .. }
            | InvalidRequest { .. } => self.peer_message(),
        }
    }

    fn session_message(&self) -> String {
        match self {
            Kind::ListenSuccess { address, protocol, .. } => format!("listening on {address} ({protocol})"),
            Kind::ListenFailure { address, ports, protocol, reason } => {
                format!(
                    "cannot listen on {} port {} ({protocol}): {}",
                    escape(address),
                    escape(ports),
                    escape(reason)
                )
            }
            Kind::IpFilter { address, rule, .. } => format!("refused {address}: {}", escape(rule)),
            Kind::TorrentAdded { name, size, pieces, files } => format!(
                "added {}: {} in {} and {}",
                escape(name),
                Size(*size),
                count(*files as u64, "file"),
                count(*pieces, "piece")
            ),
            Kind::TorrentRemoved { name } => format!("removed {}", escape(name)),
            Kind::StateChanged { to, reason, .. } => format!("{to}: {}", escape(reason)),
            Kind::Progress { done, wanted, down_rate, up_rate, peers, eta, .. } => {
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
            }
            Kind::Complete { name, size, elapsed } => {
                format!("{} is complete: {} after {}", escape(name), Size(*size), seconds(*elapsed))
            }
            Kind::Seeding { name } => format!("seeding {}", escape(name)),
            Kind::EventsDropped { count: missed } => {
                format!(
                    "{} lost: the reader was too slow or could not be written to",
                    count(*missed, "event")
                )
            }
            Kind::Summary { name, reason, done, wanted, uploaded, elapsed, .. } => format!(
                "{}: {}; {} of {} there, {} uploaded in {}",
                escape(name),
                escape(reason),
                Size(*done),
                Size(*wanted),
                Size(*uploaded),
                seconds(*elapsed)
            ),
            other => unreachable!("{other:?} is not about the session"),
        }
    }

    fn data_message(&self) -> String {
        match self {
            Kind::HashcheckStarted { pieces, bytes } => {
                format!("checking {}, {}", count(*pieces, "piece"), Size(*bytes))
            }
            Kind::HashcheckFinished { have_count, missing_count, corrupt_count, .. } => {
                format!(
                    "checked: {have_count} pieces are there, {missing_count} missing, {corrupt_count} corrupt"
                )
            }
            Kind::FileReport { path, status, pieces, reason, .. } => {
                let reason =
                    reason.as_ref().map(|reason| format!(": {}", escape(reason))).unwrap_or_default();
                match pieces.0.is_empty() {
                    true => format!("{} is {status}{reason}", escape(path)),
                    false => format!("{} is {status}{reason}; bad pieces: {pieces}", escape(path)),
                }
            }
            Kind::PieceHashPassed { index, .. } => format!("piece {index} is right"),
            Kind::PieceHashFailed { index, peers } => match peers.as_slice() {
                [] => format!("piece {index} on disk is not there or not right"),
                [one] => format!("piece {index} has a wrong hash, sent by {one}"),
                many => format!("piece {index} has a wrong hash, sent by {} peers", many.len()),
            },
            Kind::FileOpen { path, mode } => format!("opened {} ({mode})", escape(path)),
            Kind::FileClose { path } => format!("closed {}", escape(path)),
            Kind::FileRead { path, length } => format!("read {length} bytes of {}", escape(path)),
            Kind::FileWrite { path, length } => format!("wrote {length} bytes of {}", escape(path)),
            Kind::FileError { reason, path } | Kind::FileWarning { reason, path } => {
                match reason.contains(path.as_str()) {
                    true => escape(reason).into_owned(),
                    false => format!("{}: {}", escape(path), escape(reason)),
                }
            }
            other => unreachable!("{other:?} is not about data"),
        }
    }

    fn tracker_message(&self) -> String {
        match self {
            Kind::TrackerAnnounce { url, announce, .. } => match announce.is_empty() {
                true => format!("announcing to {}", escape(url)),
                false => format!("announcing '{announce}' to {}", escape(url)),
            },
            Kind::TrackerConnect { url, .. } => format!("connecting to {}", escape(url)),
            Kind::TrackerDisconnect { url, .. } => format!("closed the connection to {}", escape(url)),
            Kind::TrackerRead { url, length, .. } => format!("{length} bytes from {}", escape(url)),
            Kind::TrackerWrite { url, length, .. } => format!("{length} bytes to {}", escape(url)),
            Kind::TrackerSuccess { url, peers, interval, .. } => {
                format!(
                    "{} from {}, next announce in {interval} s",
                    count(*peers as u64, "peer"),
                    escape(url)
                )
            }
            Kind::TrackerFailure { url, reason, times_in_row, .. } => {
                let again = if *times_in_row > 1 {
                    format!(" ({times_in_row} times in a row)")
                } else {
                    String::new()
                };
                format!("tracker {} failed{again}: {}", escape(url), escape(reason))
            }
            Kind::TrackerWarning { url, reason, .. } => {
                format!("tracker {} warns: {}", escape(url), escape(reason))
            }
            Kind::UrlSeed { url, reason } => format!("web seed {}: {}", escape(url), escape(reason)),
            other => unreachable!("{other:?} is not about a tracker"),
        }
    }

    fn peer_message(&self) -> String {
        match self {
            Kind::PeerConnect { address, direction, transport } => match direction {
                super::Direction::In => format!("{address} connected ({transport})"),
                super::Direction::Out => format!("connecting to {address} ({transport})"),
            },
            Kind::PeerId { address, client, .. } => format!("{address} is {}", escape(client)),
            Kind::PeerHandshakeComplete { address, client, .. } => {
                format!("connected to {address}, {}", escape(client))
            }
            Kind::PeerDisconnect { address, reason } => {
                format!("disconnected from {address}: {}", escape(reason))
            }
            Kind::PeerDataIn { address, length } => format!("{length} bytes from {address}"),
            Kind::PeerDataOut { address, length } => format!("{length} bytes to {address}"),
            Kind::PeerPacketIn { address, packet } => format!("{} from {address}", packet_type(packet)),
            Kind::PeerPacketOut { address, packet } => format!("{} to {address}", packet_type(packet)),
            Kind::PeerError { address, reason, .. } => format!("trouble with {address}: {}", escape(reason)),
            Kind::PeerBan { address, reason, .. } => format!("banned {address}: {}", escape(reason)),
            Kind::InvalidRequest { address, reason, .. } => {
                format!("invalid request from {address}: {}", escape(reason))
            }
            other => unreachable!("{other:?} is not about a peer"),
        }
    }
}

fn packet_type(packet: &serde_json::Value) -> String {
    escape(packet.get("type").and_then(|kind| kind.as_str()).unwrap_or("message")).into_owned()
}

fn seconds(elapsed: f64) -> String {
    match elapsed {
        few if few < 10.0 => format!("{few:.1}s"),
        many => Time(Duration::try_from_secs_f64(many).unwrap_or(Duration::MAX)).to_string(),
    }
}
