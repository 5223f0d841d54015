//! The event stream: one JSON object a line on standard output.
//!
//! The writer has a thread of its own behind a bounded queue, so a reader that is slow, gone or a
//! full disk never holds up the transfer. What it misses is counted and said in an
//! `events_dropped` event as soon as something can be written again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::cli::exit::Exit;
use crate::client::Subscription;
use crate::event::{Event, Kind, Severity};
use crate::text::is_unprintable;

/// How long the end waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// The version of the stream: it grows when a key changes its meaning.
const VERSION: u8 = 1;

#[derive(Serialize)]
struct EventLine<'a> {
    v: u8,
    time: String,
    severity: Severity,
    #[serde(skip_serializing_if = "Option::is_none")]
    torrent: Option<String>,
    #[serde(flatten)]
    kind: &'a Kind,
    /// Of a summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    message: String,
}

/// The exit code of a torrent, if the event is its summary.
pub(crate) fn exit_code(kind: &Kind) -> Option<u8> {
    match kind {
        Kind::Summary { verdict, .. } => Some(Exit::from(*verdict).code()),
        _ => None,
    }
}

/// What an event says in plain English.
pub(crate) fn message(kind: &Kind) -> String {
    match exit_code(kind) {
        Some(code) => format!("{}; exit code {code}", kind.message()),
        None => kind.message(),
    }
}

/// One line of the stream, its end included.
pub(crate) fn line(event: &Event, now: SystemTime) -> Vec<u8> {
    let line = EventLine {
        v: VERSION,
        time: humantime::format_rfc3339_millis(now).to_string(),
        severity: event.kind.severity(),
        torrent: event.torrent.map(|hash| hash.to_string()),
        kind: &event.kind,
        exit_code: exit_code(&event.kind),
        message: message(&event.kind),
    };
    let mut bytes = Vec::with_capacity(256);
    write_json(&line, &mut bytes).expect("events have string keys and nothing that fails");
    bytes.push(b'\n');
    bytes
}

/// Writes a value as one line of JSON in which nothing steers a terminal: what serde_json escapes, and DEL, C1 controls, bidirectional
/// controls and what shows nothing, as `\u`.
pub(super) fn write_json(value: &impl Serialize, out: &mut impl Write) -> serde_json::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(out, Tame))
}

struct Tame;

impl serde_json::ser::Formatter for Tame {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_unprintable) {
            let (before, from) = rest.split_at(at);
            out.write_all(before.as_bytes())?;
            let mut chars = from.chars();
            let mut units = [0; 2];
            for unit in chars.next().map_or(&mut [][..], |c| c.encode_utf16(&mut units)) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = chars.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

/// Whether an event goes to a reader who asked for those of at least this severity: summaries go to every one.
pub(crate) fn wanted(kind: &Kind, least: Severity) -> bool {
    kind.severity() >= least || matches!(kind, Kind::Summary { .. })
}

/// Writes events as lines, whole or not at all.
pub(crate) struct Stream<W> {
    out: W,
    least: Severity,
    /// A line was begun and could not be ended.
    torn: bool,
    /// Events that could not be written since the last one that could.
    dropped: u64,
    /// Nobody reads any more.
    gone: bool,
}

impl<W: Write> Stream<W> {
    /// Events of at least this severity, and every summary. `out` should not buffer.
    pub(crate) fn new(out: W, least: Severity) -> Stream<W> {
        Stream { out, least, torn: false, dropped: 0, gone: false }
    }

    /// Counts events that were lost before they came here.
    pub(crate) fn add_dropped(&mut self, count: u64) {
        self.dropped += count;
    }

    /// Whether the reader has gone away for good.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Writes an event, and before it how many were lost. An error is kept for later: the next
    /// event tries again.
    pub(crate) fn write(&mut self, event: &Event) {
        if self.gone || !wanted(&event.kind, self.least) {
            return;
        }
        if self.dropped > 0 {
            let notice = Event { torrent: None, kind: Kind::EventsDropped { count: self.dropped } };
            match self.write_line(&line(&notice, SystemTime::now())) {
                Ok(()) => self.dropped = 0,
                Err(error) => return self.lost(&error),
            }
        }
        if let Err(error) = self.write_line(&line(event, SystemTime::now())) {
            self.lost(&error);
        }
    }

    /// Says what was lost since the last event that could be written; gives what could not be said.
    pub(crate) fn finish(mut self) -> u64 {
        if self.dropped > 0 && !self.gone {
            let notice = Event { torrent: None, kind: Kind::EventsDropped { count: self.dropped } };
            if self.write_line(&line(&notice, SystemTime::now())).is_ok() {
                self.dropped = 0;
            }
        }
        self.dropped
    }

    fn lost(&mut self, error: &io::Error) {
        self.dropped += 1;
        self.gone = error.kind() == io::ErrorKind::BrokenPipe;
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.out.write_all(b"\n")?;
            self.torn = false;
        }
        let mut rest = line;
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.flush()
    }
}

/// The thread that writes a subscription's events.
pub(crate) struct EventWriter {
    /// Events that were lost and of which nothing could be said, at the thread's end.
    ended: Receiver<u64>,
    /// Events written, to see whether the reader still takes any.
    written: Arc<AtomicU64>,
}

impl EventWriter {
    /// Starts writing to `out`.
    pub(crate) fn spawn(
        subscription: Subscription,
        least: Severity,
        out: impl Write + Send + 'static,
    ) -> io::Result<EventWriter> {
        let written = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&written);
        let (end, ended) = mpsc::sync_channel(1);
        let run = move || {
            let mut stream = Stream::new(out, least);
            while let Some(event) = subscription.recv() {
                stream.add_dropped(subscription.take_dropped());
                stream.write(&event);
                count.fetch_add(1, Ordering::Relaxed);
                if stream.is_gone() {
                    return;
                }
            }
            stream.add_dropped(subscription.take_dropped());
            let unsaid = stream.finish();
            // Nobody waits any more if it took too long.
            let _ = end.send(unsaid);
        };
        thread::Builder::new().name("events".to_owned()).spawn(run)?;
        Ok(EventWriter { ended, written })
    }

    /// Waits until everything is written, as long as the reader takes something. To be called
    /// after the session's end. Gives how many events were lost without a word about it because
    /// nothing can be written; a reader that went away wanted no more.
    pub(crate) fn finish(self) -> u64 {
        let mut before = self.written.load(Ordering::Relaxed);
        loop {
            match self.ended.recv_timeout(PATIENCE) {
                Ok(unsaid) => return unsaid,
                Err(RecvTimeoutError::Disconnected) => return 0,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let written = self.written.load(Ordering::Relaxed);
            if written == before {
                return 0;
            }
            before = written;
        }
    }
}

/// Standard output without a buffer: each event leaves as it happens.
pub(crate) fn stdout() -> io::Result<std::fs::File> {
    use std::os::fd::AsFd;
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Sha1;
    use crate::ids::InfoHashes;
    use std::io::ErrorKind;

    fn piece(index: u32) -> Event {
        Event {
            torrent: Some(InfoHashes::V1(Sha1([0xab; 20]))),
            kind: Kind::PieceHashPassed { index, peers: vec![] },
        }
    }

    fn parsed(bytes: &[u8]) -> Vec<serde_json::Value> {
        bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    #[test]
    fn a_line_has_the_keys_of_the_contract() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let bytes = line(&piece(7), now);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            format!(
                "{{\"v\":1,\"time\":\"2023-11-14T22:13:20.123Z\",\"severity\":\"info\",\"torrent\":\"{}\",\
                 \"event\":\"piece_hash_passed\",\"index\":7,\"peers\":[],\"message\":\"piece 7 is right\"}}\n",
                "ab".repeat(20)
            )
        );
    }

    /// Takes so many bytes, then fails, then takes everything.
    struct Flaky<'a> {
        taken: &'a mut Vec<u8>,
        room: usize,
        failures: usize,
        error: ErrorKind,
    }

    impl Write for Flaky<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 && self.failures > 0 {
                self.failures -= 1;
                return Err(self.error.into());
            }
            let taken = if self.failures > 0 { bytes.len().min(self.room) } else { bytes.len() };
            self.room -= taken.min(self.room);
            self.taken.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn after_a_full_disk_the_stream_goes_on_and_says_what_is_missing() {
        let mut taken = Vec::new();
        let out = Flaky { taken: &mut taken, room: 250, failures: 3, error: ErrorKind::StorageFull };
        let mut stream = Stream::new(out, Severity::Info);
        (0..6).for_each(|index| stream.write(&piece(index)));
        let lines = parsed(&taken);
        let indices: Vec<_> = lines.iter().filter_map(|line| line["index"].as_u64()).collect();
        assert_eq!(indices, [0, 4, 5]);
        assert_eq!(lines[1]["event"], "events_dropped");
        assert_eq!(lines[1]["count"], 3);
    }

    #[test]
    fn a_reader_that_went_away_is_left_alone() {
        let mut taken = Vec::new();
        let out = Flaky { taken: &mut taken, room: 0, failures: 1, error: ErrorKind::BrokenPipe };
        let mut stream = Stream::new(out, Severity::Info);
        (0..3).for_each(|index| stream.write(&piece(index)));
        assert!(stream.is_gone());
        assert!(taken.is_empty());
    }

    #[test]
    fn a_summary_is_written_whatever_severity_was_asked_for() {
        let mut taken = Vec::new();
        let mut stream = Stream::new(&mut taken, Severity::Fatal);
        stream.write(&piece(1));
        let summary = Kind::Summary {
            name: "x".into(),
            verdict: crate::event::Verdict::Complete,
            reason: "complete".into(),
            done: 1,
            wanted: Some(1),
            left: Some(0),
            downloaded: 0,
            uploaded: 0,
            total_downloaded: 0,
            total_uploaded: 0,
            wasted: 0,
            peers_found: crate::event::PeersFound::default(),
            elapsed: f64::NAN,
            have: crate::event::Pieces(vec![]),
            wanted_pieces: crate::event::Pieces(vec![]),
        };
        stream.write(&Event { torrent: None, kind: summary });
        let lines = parsed(&taken);
        assert_eq!((lines.len(), &lines[0]["event"]), (1, &"summary".into()));
    }

    #[test]
    fn nothing_of_a_stranger_steers_a_terminal() {
        let evil = "a\u{9b}2J\u{7f}\u{202e}\u{1f600}\u{e0001}\u{1b}\"\\z";
        let mut bytes = Vec::new();
        write_json(&evil, &mut bytes).unwrap();
        let json = String::from_utf8(bytes).unwrap();
        assert_eq!(json, "\"a\\u009b2J\\u007f\\u202e\u{1f600}\\udb40\\udc01\\u001b\\\"\\\\z\"");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), evil);
    }
}
