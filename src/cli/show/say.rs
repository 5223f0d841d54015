//! What is said about the transfer in words: which events are worth a message, the plain line of
//! `--progress lines`, and the line that remains when a torrent has ended.
//!
//! Pure: events and pictures in, text out.

use std::time::Duration;

use crate::cli::Exit;
use crate::cli::options::config::Verbosity;
use crate::cli::show::bar::{done_percent, time_left, wait_for_peers};
use crate::client::{NextAsk, Phase, Status};
use crate::event::Verdict;
use crate::event::{Kind, Severity, State};
use crate::text::escape;
use crate::text::{Rate, Size, Time, count, percent};

/// How a message is marked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    /// Not at all.
    Plain,
    /// `warning: `
    Warning,
    /// `error: `
    Error,
}

/// Whether this event is worth a message to someone who asked for so much, and how it is marked.
pub(crate) fn mark(kind: &Kind, verbosity: Verbosity) -> Option<Mark> {
    let least = match kind {
        // The bars and lines are their message, and the last line.
        Kind::Progress { .. } | Kind::Summary { .. } => return None,
        // As many as there are pieces.
        Kind::PieceHashPassed { .. } => Verbosity::Debug,
        // Data on disk that are not there yet: the check's outcome says it in one line.
        Kind::PieceHashFailed { peers, .. } if peers.is_empty() => Verbosity::Debug,
        Kind::FileReport { .. } => Verbosity::Verbose,
        // Said once; that it goes on failing is for those who ask.
        Kind::TrackerFailure { times_in_row, .. } if *times_in_row > 1 => Verbosity::Verbose,
        // Exit code 0 is true of the torrent, but not of what is in this file.
        Kind::FileTooLong { .. } => Verbosity::Quiet,
        // The bar shows it, and at the end the last line says it, with the reason.
        Kind::StateChanged { to: State::Stopped, .. } => Verbosity::Verbose,
        // Of hundreds of torrents that were given, each tells of its turn.
        Kind::StateChanged { to: State::Waiting, .. }
        | Kind::StateChanged { from: State::Waiting, to: State::Started, .. } => Verbosity::Verbose,
        Kind::StateChanged { .. } | Kind::Complete { .. } => Verbosity::Normal,
        other => match other.severity() {
            Severity::Debug => Verbosity::Debug,
            Severity::Info => Verbosity::Verbose,
            Severity::Warning => Verbosity::Normal,
            Severity::Critical | Severity::Fatal => Verbosity::Quiet,
        },
    };
    let mark = match kind.severity() {
        Severity::Debug | Severity::Info => Mark::Plain,
        Severity::Warning => Mark::Warning,
        Severity::Critical | Severity::Fatal => Mark::Error,
    };
    (verbosity >= least).then_some(mark)
}

/// One line on what a torrent is doing.
pub(crate) fn plain_line(status: &Status) -> String {
    let name = escape(&status.name);
    let word = match status.phase {
        Phase::Queued => return format!("{name}: waiting to be checked"),
        Phase::Waiting => {
            let of = match status.metadata {
                Some(_) => String::new(),
                None => format!(", {:.1}% of {}", done_percent(status), Size(status.wanted_bytes)),
            };
            return format!("{name}: waiting for its turn to download{of}");
        }
        Phase::Fetching => "metadata",
        Phase::Checking => "checking",
        Phase::Hashing => "hashing",
        Phase::Downloading => "downloading",
        Phase::Seeding => "seeding",
        Phase::Paused => "paused",
        Phase::Stopped => "stopped",
    };
    if status.metadata.is_some() {
        let paused = if status.phase == Phase::Paused { "paused, " } else { "" };
        return format!("{name}: {paused}{}{}", metadata(status), wait(status).unwrap_or_default());
    }
    let left = time_left(status).map(|time| format!(", {} left", Time(time))).unwrap_or_default();
    let done = done_percent(status);
    if status.error.is_some() {
        // A message has said which.
        return format!("{name}: waiting after an error, {done:.1}% of {}", Size(status.wanted_bytes));
    }
    if let Some((_, all, rate)) = status.check {
        let word = if status.phase == Phase::Hashing { "hashing" } else { "checking" };
        return format!("{name}: {word}, {done:.1}% of {} at {}{left}", Size(all), Rate(rate));
    }
    let mut line = format!("{name}: {word}, {done:.1}% of {}", Size(status.wanted_bytes));
    if let Some(wait) = wait(status) {
        line += &wait;
    } else if status.phase != Phase::Stopped {
        line += &format!(
            ", down {}, up {}, {}, {}{left}",
            Rate(status.down_rate),
            Rate(status.up_rate),
            count(status.peers as u64, "peer"),
            count(status.seeds as u64, "seed"),
            left = match status.web_seeds {
                0 => left,
                seeds => format!(", {}{left}", count(seeds as u64, "web seed")),
            }
        );
    }
    line
}

/// How much of the metadata is there, and of whom they are asked.
fn metadata(status: &Status) -> String {
    let asked = match status.peers {
        0 => String::new(),
        peers => format!(", {}", count(peers as u64, "peer")),
    };
    match status.metadata {
        Some((here, Some(all))) => format!("metadata, {} of {}{asked}", Size(here), Size(all)),
        _ => format!("metadata, none yet{asked}"),
    }
}

/// What a torrent without a peer waits for.
fn wait(status: &Status) -> Option<String> {
    let ask = wait_for_peers(status)?;
    let trackers = match (ask, status.dht_nodes) {
        (NextAsk::Never, None) => return Some(", no peers, and no tracker to ask for any".to_owned()),
        (NextAsk::Never, _) => None,
        (NextAsk::Now, _) => Some("a tracker is being asked".to_owned()),
        (NextAsk::In(time), _) => Some(format!("trackers are asked again in {}", Time(time))),
    };
    let table = status.dht_nodes.map(|nodes| match nodes {
        0 => "looking for nodes of the DHT".to_owned(),
        nodes => format!("looking in the DHT, {} known", count(nodes as u64, "node")),
    });
    let places: Vec<String> = trackers.into_iter().chain(table).collect();
    Some(format!(", no peers yet: {}", places.join("; ")))
}

/// The line that remains when a torrent has ended, whose data are at `path`. `completed` is when everything wanted was
/// there, in seconds since its start; `None` if it never was. `None` for other events. A reason that a message has given
/// already (`is_said`) is not repeated.
pub(crate) fn outcome(summary: &Kind, path: &str, completed: Option<f64>, is_said: bool) -> Option<String> {
    let Kind::Summary { name, verdict, reason, done, wanted, left, downloaded, uploaded, elapsed, .. } =
        summary
    else {
        return None;
    };
    let name = escape(name);
    // What it is never was known.
    let (Some(wanted), Some(left)) = (wanted, left) else {
        return Some(format!("{name}  {} (exit code {})", escape(reason), Exit::from(*verdict).code()));
    };
    if *left > 0 || *verdict != Verdict::Complete {
        return Some(format!(
            "{name}  {:.1}% of {} there, up {}: {} (exit code {})",
            percent(*done, *wanted),
            Size(*wanted),
            Size(*uploaded),
            if is_said { "ended by the error above".into() } else { escape(reason) },
            Exit::from(*verdict).code()
        ));
    }
    let completed = completed.unwrap_or(*elapsed).min(*elapsed);
    let rate = Rate((*downloaded as f64 / completed.max(0.001)) as u64);
    let mut line = match *downloaded {
        0 => format!("{name}  already there and verified, {}", Size(*wanted)),
        some if some < *wanted => {
            let (wanted, some, time) = (Size(*wanted), Size(some), brief(completed));
            format!("{name}  complete, {wanted}, of which {some} came in {time} ({rate})")
        }
        _ => format!("{name}  complete, {} in {} ({rate})", Size(*wanted), brief(completed)),
    };
    if *uploaded > 0 {
        line += &format!(", up {}", Size(*uploaded));
    }
    if elapsed - completed >= 1.0 {
        line += &format!(", seeded {}", brief(elapsed - completed));
    }
    Some(format!("{line}: {path}"))
}

fn brief(seconds: f64) -> String {
    match seconds {
        few if few < 1.0 => format!("{few:.2}s"),
        few if few < 10.0 => format!("{few:.1}s"),
        many => Time(Duration::try_from_secs_f64(many).unwrap_or(Duration::MAX)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::status;
    use crate::event::{PeersFound, Pieces};

    fn summary(verdict: Verdict, left: u64, downloaded: u64, uploaded: u64, elapsed: f64) -> Kind {
        Kind::Summary {
            name: "ubuntu.iso\n".into(),
            verdict,
            reason: "stopped by a signal".into(),
            done: 4096 - left,
            wanted: Some(4096),
            left: Some(left),
            downloaded,
            uploaded,
            total_downloaded: 9999,
            total_uploaded: 9999,
            wasted: 0,
            peers_found: PeersFound::default(),
            elapsed,
            have: Pieces(vec![]),
            wanted_pieces: Pieces(vec![0..1]),
        }
    }

    #[test]
    fn of_a_link_that_nobody_knows_the_last_line_says_no_size() {
        let mut kind = summary(Verdict::Stalled, 4096, 0, 0, 60.0);
        if let Kind::Summary { wanted, left, .. } = &mut kind {
            (*wanted, *left) = (None, None);
        }
        let line = outcome(&kind, "", None, false).unwrap();
        assert_eq!(line, "ubuntu.iso\\n  stopped by a signal (exit code 5)");
    }

    #[test]
    fn the_last_line_says_how_it_ended() {
        let line = |kind, completed| outcome(&kind, "./ubuntu.iso", completed, false).unwrap();
        assert_eq!(
            line(summary(Verdict::Complete, 0, 4096, 1024, 240.0), Some(4.0)),
            "ubuntu.iso\\n  complete, 4.00 KiB in 4.0s (1.00 KiB/s), up 1.00 KiB, seeded 3m 56s: ./ubuntu.iso"
        );
        assert_eq!(
            line(summary(Verdict::Complete, 0, 0, 0, 0.5), None),
            "ubuntu.iso\\n  already there and verified, 4.00 KiB: ./ubuntu.iso"
        );
        assert_eq!(
            line(summary(Verdict::Complete, 0, 1024, 0, 0.5), None),
            "ubuntu.iso\\n  complete, 4.00 KiB, of which 1.00 KiB came in 0.50s (2.00 KiB/s): ./ubuntu.iso"
        );
        assert_eq!(
            line(summary(Verdict::Incomplete, 1024, 3072, 0, 9.0), None),
            "ubuntu.iso\\n  75.0% of 4.00 KiB there, up 0 B: stopped by a signal (exit code 7)"
        );
        assert_eq!(
            outcome(&summary(Verdict::DiskFull, 1024, 3072, 0, 9.0), "", None, true).unwrap(),
            "ubuntu.iso\\n  75.0% of 4.00 KiB there, up 0 B: ended by the error above (exit code 9)"
        );
        assert_eq!(outcome(&Kind::Seeding { name: "x".into() }, "", None, false), None);
    }

    #[test]
    fn a_plain_line_says_what_the_bar_shows() {
        let mut status = status("a.iso", 1024);
        (status.left, status.peers, status.seeds) = (512 << 20, 1, 2);
        status.down_rate = 5 << 20;
        status.eta = Some(Duration::from_secs(102));
        assert_eq!(
            plain_line(&status),
            "a.iso: downloading, 50.0% of 1.00 GiB, down 5.00 MiB/s, up 0 B/s, 1 peer, 2 seeds, 1m 42s left"
        );
        status.check = Some((1 << 20, 4 << 20, 1 << 20));
        assert_eq!(plain_line(&status), "a.iso: checking, 25.0% of 4.00 MiB at 1.00 MiB/s, 3s left");
        status.error = Some("cannot write ./a.iso: disk full; free 3 GiB and send SIGUSR2".into());
        assert_eq!(
            plain_line(&status),
            "a.iso: waiting after an error, 25.0% of 1.00 GiB",
            "a message has said which"
        );
    }

    #[test]
    fn a_torrent_that_waits_for_its_turn_says_so() {
        let mut waits = Status { phase: Phase::Waiting, ..status("a.iso", 1024) };
        waits.left = 512 << 20;
        assert_eq!(plain_line(&waits), "a.iso: waiting for its turn to download, 50.0% of 1.00 GiB");
        waits.metadata = Some((0, None));
        assert_eq!(plain_line(&waits), "a.iso: waiting for its turn to download");
        let (waiting, started) = (State::Waiting, State::Started);
        for (from, to) in [(started, waiting), (waiting, started)] {
            let kind = Kind::StateChanged { from, to, reason: "8 torrents download".into() };
            assert_eq!(mark(&kind, Verbosity::Normal), None, "there may be hundreds");
            assert_eq!(mark(&kind, Verbosity::Verbose), Some(Mark::Plain));
        }
        let paused = Kind::StateChanged { from: waiting, to: State::Paused, reason: "SIGUSR1".into() };
        assert_eq!(mark(&paused, Verbosity::Normal), Some(Mark::Plain));
    }

    #[test]
    fn the_quiet_hear_errors_and_the_verbose_everything() {
        use Verbosity::*;
        let state = Kind::StateChanged { from: State::Started, to: State::Paused, reason: "SIGUSR1".into() };
        let error = Kind::FileError { path: "a".into(), reason: "disk full".into() };
        let piece = |peers| Kind::PieceHashFailed { index: 1, peers };
        let peer: std::net::SocketAddr = "192.0.2.1:1".parse().unwrap();
        let failure = |times_in_row| Kind::TrackerFailure {
            url: "u".into(),
            tier: 0,
            reason: "r".into(),
            times_in_row,
            status_code: 0,
        };
        let open = Kind::FileClose { path: "a".into() };
        for (kind, heard) in [
            (error, [Some(Mark::Error); 4]),
            (state, [None, Some(Mark::Plain), Some(Mark::Plain), Some(Mark::Plain)]),
            (piece(vec![peer]), [None, Some(Mark::Warning), Some(Mark::Warning), Some(Mark::Warning)]),
            (piece(vec![]), [None, None, None, Some(Mark::Warning)]),
            (failure(1), [None, Some(Mark::Warning), Some(Mark::Warning), Some(Mark::Warning)]),
            (failure(2), [None, None, Some(Mark::Warning), Some(Mark::Warning)]),
            (open, [None, None, None, Some(Mark::Plain)]),
            (summary(Verdict::Complete, 0, 0, 0, 0.0), [None; 4]),
        ] {
            assert_eq!([Quiet, Normal, Verbose, Debug].map(|v| mark(&kind, v)), heard, "{kind:?}");
        }
    }

    #[test]
    fn of_a_link_it_is_said_how_much_of_the_metadata_is_there() {
        let mut link = Status {
            phase: crate::client::Phase::Fetching,
            peers: 2,
            metadata: Some((1024, Some(4096))),
            ..status("x", 0)
        };
        assert_eq!(plain_line(&link), "x: metadata, 1.00 KiB of 4.00 KiB, 2 peers");
        link.phase = crate::client::Phase::Paused;
        assert_eq!(plain_line(&link), "x: paused, metadata, 1.00 KiB of 4.00 KiB, 2 peers");
    }
}
