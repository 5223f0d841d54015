//! One web seed: what it has, what is wrong with it, and when it is asked again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::job::{Fault, Get, Item, Manner, Part};
use super::urls::{get_of_piece, has_query, host_of, url_of_file};
use super::{MAX_CONNECTIONS, Opening, SeedUrl};
use crate::bitfield::Bitfield;
use crate::ids::{PeerKey, WireHash};
use crate::layout::{Block, FileIndex, Layout, PieceIndex};
use crate::metainfo::RawNames;

/// The first pause after an error, doubled by each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause after errors.
const MAX_PAUSE: Duration = Duration::from_secs(600);

/// A server that is busy and names a time is asked again after the usual pause all the same, up to so long: `Retry-After: 0` is no leave to storm it.
const LEAST_BUSY: Duration = Duration::from_secs(30);

/// From the second file in a row on that is not there, or not to be had, the seed is left alone for so long each time: one that has nothing at all is not
/// asked for ten thousand files as fast as it can say no.
const MISS_PAUSE: Duration = Duration::from_millis(1500);

/// After so many jobs that ended well, a seed that has refused to bear so many connections is tried with one more. Doubled each time that it refuses.
const FIRST_TRIAL: u32 = 8;
const MAX_TRIAL: u32 = 512;

/// Corrupt files, or pieces that are of several, after which a seed is not asked for anything any more.
const MAX_CORRUPT: u32 = 3;

/// The same for files that lead in circles or where nobody is to go.
const MAX_ASTRAY: u32 = 3;

/// Why something is not asked for.
#[derive(Clone, Copy, Debug)]
struct Mark {
    ends: End,
    /// Failures in a row.
    failures: u32,
}

/// When a mark ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Never,
    At(Instant),
    /// It has, and is kept for its failures.
    Past,
}

/// What comes of a fault.
#[derive(Debug)]
pub(super) struct Sentence {
    /// What people are told, if it is news.
    pub reason: Option<String>,
    /// Other pieces may be asked of the seed than before.
    pub pieces_change: bool,
    /// That is for good.
    pub is_final: bool,
}

/// A web seed.
#[derive(Debug)]
pub(super) struct Seed {
    /// What the swarm calls it.
    pub key: PeerKey,
    /// Where it is.
    pub url: SeedUrl,
    /// Host and port.
    pub host: String,
    /// It is not asked for anything any more.
    pub is_aside: bool,
    /// Ranges mean nothing to it.
    pub ignores_ranges: bool,
    /// There was nothing to ask it for when that was last looked at.
    pub is_starved: bool,
    /// Where in the torrent's stream the next run is looked for.
    pub cursor: u64,
    /// Connections that were opened.
    pub opened: u32,
    /// Pieces that no URL leads to, the same for all seeds of the torrent; `None` if there is one for each.
    without_url: Option<Arc<Bitfield>>,
    /// What is not asked for besides, because of faults. Bounded by the torrent's files and pieces.
    marks: BTreeMap<Item, Mark>,
    /// When the next mark ends, or earlier.
    next_end: Option<Instant>,
    /// Nothing is asked of it before.
    paused_until: Option<Instant>,
    /// Nor before this, for trouble on the way, which need not be the seed's own.
    way_paused_until: Option<Instant>,
    /// Errors in a row that were not about one file.
    failures: u32,
    /// Files in a row that are not there or not to be had.
    misses: u32,
    corrupt: u32,
    astray: u32,
    /// It has answered well since the last error, and it is known what ranges mean to it: further connections are worth while.
    pub(super) has_answered: bool,
    /// Connections that it has been seen to bear, if that are fewer than we would have.
    bears: usize,
    /// Jobs that have ended well since it was last found what it bears, and with how many of them it is tried with more.
    done: u32,
    trial: u32,
    /// Times that it sent next to nothing, since a job last ended well.
    lulls: u32,
}

impl Seed {
    /// A seed that may be asked for everything but the pieces `without_url`.
    pub(super) fn new(key: PeerKey, without_url: Option<Arc<Bitfield>>, url: SeedUrl) -> Seed {
        Seed {
            key,
            host: host_of(&url.url),
            is_aside: false,
            ignores_ranges: false,
            is_starved: false,
            cursor: 0,
            opened: 0,
            without_url,
            marks: BTreeMap::new(),
            next_end: None,
            paused_until: None,
            way_paused_until: None,
            failures: 0,
            misses: 0,
            corrupt: 0,
            astray: 0,
            has_answered: false,
            bears: usize::MAX,
            done: 0,
            trial: FIRST_TRIAL / 2,
            lulls: 0,
            url,
        }
    }

    /// What a connection to it has to know.
    pub(super) fn opening(&self) -> Opening {
        let has_query = has_query(&self.url);
        Opening { host: self.host.clone(), is_users: self.url.is_users, has_query }
    }

    /// Whether it may be asked for something now.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        !self.is_aside && !self.is_paused(now)
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.max(self.way_paused_until).is_some_and(|until| until > now)
    }

    /// Connections that may be at work at the same time: one until it has answered well, and to one that gives whole files only, for each of
    /// them begins at the beginning.
    pub(super) fn max_connections(&self, usual: usize) -> usize {
        if self.has_answered && !self.ignores_ranges { usual.min(self.bears) } else { 1 }
    }

    /// When something changes by itself.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next_end
            .into_iter()
            .chain(self.paused_until)
            .chain(self.way_paused_until)
            .filter(|_| !self.is_aside)
            .min()
    }

    /// Ends the pauses that are over. True if other pieces may be asked of it than before.
    pub(super) fn end_pauses(&mut self, now: Instant) -> bool {
        for until in [&mut self.paused_until, &mut self.way_paused_until] {
            *until = until.filter(|&until| until > now);
        }
        if self.next_end.is_none_or(|next| next > now) {
            return false;
        }
        let mut has_changed = false;
        for mark in self.marks.values_mut() {
            if matches!(mark.ends, End::At(at) if at <= now) {
                mark.ends = End::Past;
                has_changed = true;
            }
        }
        let ends = self.marks.values().filter_map(|mark| match mark.ends {
            End::At(at) => Some(at),
            End::Never | End::Past => None,
        });
        self.next_end = ends.min();
        has_changed
    }

    /// The pieces that it may be asked for.
    pub(super) fn pieces(&self, layout: &Layout) -> Bitfield {
        let mut pieces = Bitfield::full(layout.num_pieces());
        self.without_url.iter().for_each(|without| pieces.subtract(without));
        for (item, mark) in &self.marks {
            let gone = match *item {
                _ if mark.ends == End::Past => 0..0,
                Item::File(file) => layout.pieces_of_file(file),
                Item::Piece(piece) => piece.0..piece.0 + 1,
            };
            gone.for_each(|piece| {
                pieces.remove(PieceIndex(piece));
            });
        }
        pieces
    }

    /// Does not ask for something any more, or until then.
    pub(super) fn mark(&mut self, item: Item, until: Option<Instant>) {
        let failures = self.failures_of(item).saturating_add(1);
        self.next_end = self.next_end.into_iter().chain(until).min();
        self.marks.insert(item, Mark { ends: until.map_or(End::Never, End::At), failures });
    }

    fn failures_of(&self, item: Item) -> u32 {
        self.marks.get(&item).map_or(0, |mark| mark.failures)
    }

    /// Whether something is not asked for, or not now.
    fn is_marked(&self, item: Item) -> bool {
        self.marks.get(&item).is_some_and(|mark| mark.ends != End::Past)
    }

    /// Whether something is never asked for any more.
    fn is_gone(&self, item: Item) -> bool {
        self.marks.get(&item).is_some_and(|mark| mark.ends == End::Never)
    }

    /// Blocks have come, by which it is known what ranges mean to it.
    pub(super) fn on_good_answer(&mut self) {
        (self.failures, self.misses, self.has_answered) = (0, 0, true);
    }

    /// A job has ended well.
    pub(super) fn on_job_done(&mut self) {
        self.on_good_answer();
        self.lulls = 0;
        self.done += 1;
        if self.bears < MAX_CONNECTIONS && self.done >= self.trial {
            (self.bears, self.done) = (self.bears + 1, 0);
        }
    }

    /// A job came to nothing, or not to its end. `has_brought`: but to some blocks; `working`: connections of the seed that work at this
    /// moment.
    pub(super) fn on_fault(
        &mut self,
        now: Instant,
        item: Option<Item>,
        fault: &Fault,
        has_brought: bool,
        working: usize,
    ) -> Sentence {
        let is_known = self.is_paused(now);
        let changes =
            |reason: String, is_final| Sentence { reason: Some(reason), pieces_change: true, is_final };
        let nothing = |reason| Sentence { reason, pieces_change: false, is_final: false };
        match (fault, item) {
            (Fault::Denied(reason), _) => {
                self.is_aside = true;
                nothing(Some(format!("{reason}: set aside")))
            }
            (Fault::Missing(reason) | Fault::Wrong(reason), Some(item @ Item::File(_))) => {
                if self.is_gone(item) {
                    return nothing(None);
                }
                self.mark(item, None);
                self.note_miss(now, MISS_PAUSE);
                changes(format!("{reason}; this file is not asked for there any more"), true)
            }
            (Fault::Astray(reason), Some(item)) => {
                if self.is_gone(item) {
                    return nothing(None);
                }
                self.mark(item, None);
                self.note_miss(now, MISS_PAUSE);
                self.astray += 1;
                self.is_aside = self.astray >= MAX_ASTRAY;
                let what = if self.is_aside { "set aside" } else { "not asked for there any more" };
                changes(format!("{reason}; {what}"), true)
            }
            (Fault::Busy(seconds, reason), _) => {
                self.note_failure(working);
                let usual = pause(self.failures);
                let pause =
                    seconds.map_or(usual, |seconds| Duration::from_secs(seconds).max(usual.min(LEAST_BUSY)));
                self.pause(now, pause);
                nothing((!is_known).then(|| format!("{reason}: asked again in {} s", pause.as_secs())))
            }
            // It may begin well each time.
            (Fault::Slow(reason), _) => {
                self.lulls = self.lulls.saturating_add(1);
                self.note_failure(working);
                let pause = pause(self.lulls);
                self.pause_for_way(now, pause);
                nothing((!is_known).then(|| format!("{reason}: asked again in {} s", pause.as_secs())))
            }
            // A piece that is not there (BEP 17), too: servers of pieces may get further ones.
            (Fault::Missing(reason) | Fault::Wrong(reason) | Fault::Refused(reason), Some(item)) => {
                if self.is_marked(item) {
                    return nothing(None);
                }
                let pause = pause(self.failures_of(item).saturating_add(1));
                self.mark(item, Some(now + pause));
                self.note_failure(working);
                self.note_miss(now, self::pause(self.failures).max(MISS_PAUSE));
                changes(format!("{reason}: asked again in {} s", pause.as_secs()), false)
            }
            (
                Fault::Missing(reason)
                | Fault::Wrong(reason)
                | Fault::Astray(reason)
                | Fault::Refused(reason)
                | Fault::Broken(reason),
                _,
            ) => {
                if is_known {
                    return nothing(None);
                }
                // A server that closes in the middle is asked on at once as long as it brings something.
                if has_brought {
                    self.failures = 0;
                    return nothing(None);
                }
                self.note_failure(working);
                let pause = pause(self.failures);
                match fault {
                    Fault::Broken(_) => self.pause_for_way(now, pause),
                    _ => self.pause(now, pause),
                }
                nothing(Some(format!("{reason}: asked again in {} s", pause.as_secs())))
            }
        }
    }

    fn note_failure(&mut self, working: usize) {
        self.failures = self.failures.saturating_add(1);
        self.has_answered = working > 0;
        if working > 0 {
            self.bears = self.bears.min(working);
            (self.done, self.trial) = (0, (self.trial * 2).min(MAX_TRIAL));
        }
    }

    /// A file is not there, or not to be had.
    fn note_miss(&mut self, now: Instant, pause: Duration) {
        self.misses = self.misses.saturating_add(1);
        if self.misses > 1 {
            self.pause(now, pause);
        }
    }

    fn pause(&mut self, now: Instant, pause: Duration) {
        self.paused_until = self.paused_until.max(Some(now + pause));
    }

    fn pause_for_way(&mut self, now: Instant, pause: Duration) {
        self.way_paused_until = self.way_paused_until.max(Some(now + pause));
    }

    /// What everything leaves by works again: the pauses that may have been for that end.
    pub(super) fn way_is_back(&mut self) {
        if self.way_paused_until.take().is_some() {
            (self.failures, self.lulls) = (0, 0);
        }
    }

    /// It has sent corrupt data of a piece: the file that they are of is not asked for any more, or the piece if it is of several. Says which, and
    /// why, if that is news.
    pub(super) fn on_corrupt(&mut self, piece: PieceIndex, layout: &Layout) -> Option<(Item, String)> {
        let is_real = |file: &FileIndex| !layout.file(*file).pad;
        let mut files = layout.spans_of_piece(piece).map(|span| span.file).filter(is_real);
        let item = match (files.next(), files.next()) {
            (Some(file), None) if !self.url.is_by_piece() => Item::File(file),
            _ => Item::Piece(piece),
        };
        if self.is_gone(item) {
            return None;
        }
        self.mark(item, None);
        self.corrupt += 1;
        self.is_aside = self.corrupt >= MAX_CORRUPT;
        let what = if matches!(item, Item::File(_)) { "this file" } else { "the piece" };
        Some((
            item,
            format!("sent corrupt data of piece {}; {what} is not asked for there any more", piece.0),
        ))
    }

    /// The URL that serves something.
    pub(super) fn url_of(&self, item: Item, names: &RawNames) -> Option<String> {
        match item {
            Item::File(file) => url_of_file(&self.url, names, file),
            Item::Piece(_) => None,
        }
    }

    /// The requests that bring these blocks, which follow one another; `None` if a file among them has no URL.
    pub(super) fn plan(
        &self,
        blocks: &[Block],
        info_hash: WireHash,
        layout: &Layout,
        names: &RawNames,
    ) -> Option<Vec<Part>> {
        let (Some(&first), Some(&last)) = (blocks.first(), blocks.last()) else { return Some(Vec::new()) };
        if self.url.is_by_piece() {
            return Some(by_piece(blocks, |bytes| {
                Part::Get(get_of_piece(&self.url, info_hash, layout, bytes))
            }));
        }
        let begin = layout.block_offset(first);
        let end = layout.block_offset(last) + u64::from(last.length);
        let parts = layout.spans(begin, end - begin).map(|span| {
            let extent = layout.file(span.file);
            if extent.pad {
                return Some(Part::Zeros(span.length));
            }
            let manner = if span.length == extent.length { Manner::Whole } else { Manner::Range };
            Some(Part::Get(Get {
                url: url_of_file(&self.url, names, span.file)?,
                item: Item::File(span.file),
                range: span.offset..span.offset + span.length,
                size: extent.length,
                manner,
            }))
        });
        parts.collect()
    }
}

/// The pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    (FIRST_PAUSE * 2u32.pow(failures.saturating_sub(1).min(10))).min(MAX_PAUSE)
}

/// Blocks that follow one another as runs of bytes of one piece each.
fn by_piece(blocks: &[Block], part: impl Fn(Block) -> Part) -> Vec<Part> {
    let runs = blocks.chunk_by(|a, b| a.piece == b.piece).filter_map(|run| {
        let (first, last) = (run.first()?, run.last()?);
        Some(Block { length: last.begin + last.length - first.begin, ..*first })
    });
    runs.map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Counter;
    use crate::webseed::SeedKind;

    #[test]
    fn a_pause_for_trouble_on_the_way_ends_when_the_way_is_back_and_one_that_the_server_wants_does_not() {
        let url = SeedUrl { url: "http://web.example/".to_owned(), kind: SeedKind::Files, is_users: true };
        let (now, broken) = (Instant::now(), Fault::Broken("connection refused".to_owned()));
        let busy = Fault::Busy(Some(90), "503".to_owned());
        let missing = Fault::Missing("404".to_owned());
        for (faults, is_ready) in [
            (&[&broken][..], true),
            (&[&busy], false),
            (&[&missing], false),
            (&[&broken, &busy], false),
            (&[&busy, &broken], false),
        ] {
            let mut seed = Seed::new(Counter::default().peer(), None, url.clone());
            seed.way_is_back();
            assert!(seed.is_ready(now));
            for fault in faults {
                seed.on_fault(now, None, fault, false, 0);
            }
            assert!(!seed.is_ready(now));
            seed.way_is_back();
            assert_eq!(seed.is_ready(now), is_ready, "{faults:?}");
        }
    }
}
