//! The web seeds of a torrent (BEP 17, 19): which of them is asked for what, over how many connections, and what their answers mean.
//!
//! [`WebSeeds`] decides, and does no I/O: pure as the swarm is. It is told what happens on its connections, and says by [`WebSeeds::poll`] what
//! is to be fetched over which, and what the swarm is to know. Which pieces are wanted, and whether data are right, is the swarm's to say.

mod answer;
mod api;
mod job;
mod places;
mod row;
mod seed;
mod urls;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use answer::{Accepted, Head, MAX_RETRY_BODY, judge, refuses_ranges};
pub(crate) use api::{Opening, Place, SeedKind, SeedUrl, WebKey, WebOutput};
pub(crate) use job::{Fault, Get, Item, Job, JobEnd, Manner, Part, cut};
pub(crate) use row::{MAX_BYTES, Row};

use crate::event::{Kind, Severity, WantedEvents};
use crate::ids::{PeerKey, WireHash};
use crate::layout::{Block, FileIndex, Layout, PieceIndex};
use crate::metainfo::RawNames;
use crate::swarm::RunWish;
use crate::text::without_credentials;
use seed::{Seed, Sentence};

/// Web seeds of a torrent that are used; further ones are not.
pub(crate) const MAX_WEB_SEEDS: usize = 100;

/// Connections to one web seed.
pub(crate) const CONNECTIONS: usize = 4;

/// The same for a torrent whose files are so short on average that most time goes by between an answer and the next request; also the most to one
/// host, whatever torrents it has.
pub(crate) const MAX_CONNECTIONS: usize = 8;

/// Bytes of a file, on average, below which they are short.
const SHORT_FILE: u64 = 512 << 10;

/// A connection that has had nothing to do for so long is closed.
const IDLE: Duration = Duration::from_secs(10);

/// Between two looks for something to fetch, for a seed for which there was nothing, unless it is known that there may be something now.
const LOOK: Duration = Duration::from_millis(50);

/// When it is tried again to open a connection for which there was no place.
const NO_PLACE: Duration = Duration::from_secs(1);

/// A connection.
#[derive(Debug)]
struct Connection {
    /// Index in `WebSeeds::seeds`.
    seed: usize,
    doing: Doing,
    /// A body that goes on after the last job: of this file, from this offset.
    goes_on_at: Option<(FileIndex, u64)>,
}

#[derive(Debug)]
enum Doing {
    Nothing {
        since: Instant,
    },
    Job {
        since: Instant,
        /// Blocks that have not come, in order.
        left: VecDeque<Block>,
        /// Some have.
        has_brought: bool,
        /// The first answer shows whether ranges mean anything to the server.
        begins_with_range: bool,
    },
}

/// The web seeds of one torrent.
#[derive(Debug)]
pub(crate) struct WebSeeds {
    info_hash: WireHash,
    layout: Arc<Layout>,
    names: RawNames,
    /// At most [`MAX_WEB_SEEDS`].
    seeds: Vec<Seed>,
    /// At most [`MAX_CONNECTIONS`] for each seed.
    connections: BTreeMap<WebKey, Connection>,
    /// Whether anything is to be fetched.
    active: bool,
    /// Connections to one seed, once it has answered well.
    per_seed: usize,
    /// The seed that was last asked for a wish.
    last: usize,
    /// When there may be a place for a further connection, if there was none.
    no_place_until: Option<Instant>,
    /// When seeds without anything to fetch were last looked at anew.
    looked_at: Option<Instant>,
    /// Something has happened since.
    may_have_more: bool,
    outputs: VecDeque<WebOutput>,
    wanted_events: WantedEvents,
}

impl WebSeeds {
    /// Web seeds that are not asked for anything yet, each with the name that the swarm knows it by.
    pub(crate) fn new(
        info_hash: WireHash,
        layout: Arc<Layout>,
        names: RawNames,
        seeds: impl IntoIterator<Item = (PeerKey, SeedUrl)>,
    ) -> WebSeeds {
        let nameless = Arc::new(urls::pieces_without_url(&layout, &names));
        let without = |url: &SeedUrl| urls::is_by_name(url, &names).then(|| nameless.clone());
        let seeds: Vec<Seed> = seeds
            .into_iter()
            .take(MAX_WEB_SEEDS)
            .map(|(key, url)| Seed::new(key, without(&url), url))
            .collect();
        let files = layout.files().iter().filter(|file| file.length > 0 && !file.pad).count();
        let is_short = layout.total() / (files.max(1) as u64) < SHORT_FILE && files > 1;
        WebSeeds {
            info_hash,
            layout,
            names,
            seeds,
            connections: BTreeMap::new(),
            active: false,
            per_seed: if is_short { MAX_CONNECTIONS } else { CONNECTIONS },
            last: 0,
            no_place_until: None,
            looked_at: None,
            may_have_more: false,
            outputs: VecDeque::new(),
            wanted_events: WantedEvents::default(),
        }
    }

    /// From now on, these events are told by [`WebOutput::Event`].
    pub(crate) fn want_events(&mut self, wanted: WantedEvents) {
        self.wanted_events = wanted;
    }

    /// How many web seeds data are being fetched from.
    pub(crate) fn in_use(&self) -> usize {
        let is_busy = |index: &usize| {
            let of_it = |connection: &&Connection| connection.seed == *index;
            self.connections.values().filter(of_it).any(|connection| connection.is_busy())
        };
        (0..self.seeds.len()).filter(is_busy).count()
    }

    /// Something is to be fetched from now on, or not: then all connections are closed.
    pub(crate) fn set_active(&mut self, active: bool) {
        if std::mem::replace(&mut self.active, active) == active {
            return;
        }
        if !active {
            let keys: Vec<WebKey> = self.connections.keys().copied().collect();
            keys.into_iter().for_each(|key| self.close(key));
        }
        for index in 0..self.seeds.len() {
            match active {
                true => self.tell_pieces(index),
                false => self.outputs.push_back(WebOutput::Leave(self.seeds[index].key)),
            }
        }
    }

    /// There may be something to fetch that there was not before: it is looked for at once.
    pub(crate) fn wake(&mut self) {
        self.seeds.iter_mut().for_each(|seed| seed.is_starved = false);
    }

    /// What everything leaves by works again, after it did not: seeds that were not reached may be asked at once.
    pub(crate) fn way_is_back(&mut self) {
        self.seeds.iter_mut().for_each(Seed::way_is_back);
    }

    /// Something has happened, after which there may be more to fetch, or not: that is looked at after [`LOOK`] at the latest, and no more often.
    pub(crate) fn wake_soon(&mut self) {
        self.may_have_more |= self.seeds.iter().any(|seed| seed.is_starved);
    }

    /// When seeds without anything to fetch are looked at anew.
    fn next_look(&self) -> Option<Instant> {
        self.looked_at.map(|at| at + LOOK).filter(|_| self.may_have_more)
    }

    /// The next thing to do; `None`: nothing before [`WebSeeds::deadline`], or the next news. `place_at` says whether a connection to a host may
    /// be opened.
    pub(crate) fn poll(&mut self, now: Instant, place_at: impl Fn(&str) -> Place) -> Option<WebOutput> {
        if self.may_have_more && self.looked_at.is_none_or(|at| at + LOOK <= now) {
            (self.looked_at, self.may_have_more) = (Some(now), false);
            self.wake();
        }
        if self.outputs.is_empty() {
            self.run_due(now);
        }
        self.outputs.pop_front().or_else(|| self.next_want(now, place_at))
    }

    /// When to call [`WebSeeds::poll`] though nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let idle = self.connections.values().filter_map(|connection| match connection.doing {
            Doing::Nothing { since } => Some(since + IDLE),
            Doing::Job { .. } => None,
        });
        let seeds = self.seeds.iter().filter(|_| self.active).filter_map(Seed::deadline);
        idle.chain(seeds).chain(self.no_place_until).chain(self.next_look()).min()
    }

    fn run_due(&mut self, now: Instant) {
        self.no_place_until = self.no_place_until.filter(|&until| until > now);
        let is_idle = |connection: &Connection| matches!(connection.doing, Doing::Nothing { since } if since + IDLE <= now);
        let idle: Vec<WebKey> =
            self.connections.iter().filter(|(_, it)| is_idle(it)).map(|(&key, _)| key).collect();
        idle.into_iter().for_each(|key| self.close(key));
        for index in 0..self.seeds.len() {
            if self.seeds[index].end_pauses(now) && self.active {
                self.tell_pieces(index);
            }
        }
    }

    /// A connection that could fetch something.
    fn next_want(&mut self, now: Instant, place_at: impl Fn(&str) -> Place) -> Option<WebOutput> {
        if !self.active {
            return None;
        }
        let count = self.seeds.len();
        for index in (1..=count).map(|step| (self.last + step) % count) {
            let seed = &self.seeds[index];
            if !seed.is_ready(now) || seed.is_starved {
                continue;
            }
            let of_it = || self.connections.iter().filter(|(_, connection)| connection.seed == index);
            let busy = of_it().filter(|(_, connection)| connection.is_busy()).count();
            if busy >= seed.max_connections(self.per_seed) {
                continue;
            }
            let idle = of_it().filter(|(_, connection)| !connection.is_busy());
            // First one whose body goes on.
            let idle = idle.max_by_key(|(_, connection)| connection.goes_on_at.is_some());
            let idle = idle.map(|(&key, connection)| (key, connection.goes_on_at));
            let place = if idle.is_some() { Place::Free } else { place_at(&seed.host) };
            if place != Place::Free {
                // Others may be at hosts that have a place.
                self.no_place_until.get_or_insert(now + NO_PLACE);
                match self.useless(now, index, place) {
                    Some(key) => {
                        self.give_way(now, key);
                        return self.outputs.pop_front();
                    }
                    None => continue,
                }
            }
            let (key, goes_on_at) = idle.unwrap_or((WebKey { seed: seed.key, number: seed.opened }, None));
            let wish = match goes_on_at {
                Some((file, offset)) => {
                    let extent = self.layout.file(file);
                    RunWish { from: extent.offset + offset, until: Some(extent.end()) }
                }
                None => RunWish { from: seed.cursor, until: None },
            };
            self.last = index;
            return Some(WebOutput::Want(key, wish));
        }
        None
    }

    /// What the swarm gives a connection to fetch that wanted something; nothing: it has nothing for it now.
    pub(crate) fn on_run(&mut self, now: Instant, key: WebKey, blocks: Vec<Block>) {
        let Some(index) = self.seeds.iter().position(|seed| seed.key == key.seed) else { return };
        let going_on = self.connections.get_mut(&key).and_then(|connection| connection.goes_on_at.take());
        let (Some(&first), Some(&last)) = (blocks.first(), blocks.last()) else {
            // It may have something elsewhere than in this body.
            self.seeds[index].is_starved = going_on.is_none();
            return;
        };
        let seed = &mut self.seeds[index];
        let end = self.layout.block_offset(last) + u64::from(last.length);
        seed.cursor = end % self.layout.end().max(1);
        let Some(parts) = seed.plan(&blocks, self.info_hash, &self.layout, &self.names) else {
            // It was taken to have what it does not have.
            seed.mark(Item::Piece(first.piece), None);
            self.outputs.push_back(WebOutput::GiveBack(key.seed, blocks));
            return self.tell_pieces(index);
        };
        let left = blocks.iter().copied().collect();
        let begins_with_range = matches!(parts.first(), Some(Part::Get(get)) if get.manner != Manner::Whole);
        let doing = Doing::Job { since: now, left, has_brought: false, begins_with_range };
        match self.connections.entry(key) {
            Entry::Occupied(mut connection) => connection.get_mut().doing = doing,
            Entry::Vacant(place) => {
                seed.opened += 1;
                place.insert(Connection { seed: index, doing, goes_on_at: None });
                self.outputs.push_back(WebOutput::Open(key, seed.opening()));
            }
        }
        self.outputs.push_back(WebOutput::Fetch(key, Job { blocks, parts }));
    }

    /// A connection that was to be opened could not be.
    pub(crate) fn on_not_opened(&mut self, now: Instant, key: WebKey, reason: &str) {
        let fault = Some((None, Fault::Broken(reason.to_owned())));
        self.on_ended(now, key, &JobEnd::with(fault));
        self.connections.remove(&key);
    }

    /// A connection brings nothing any more, by a defect of this program.
    pub(crate) fn on_died(&mut self, now: Instant, key: WebKey) {
        let fault = Some((None, Fault::Broken("its thread has panicked".to_owned())));
        self.on_ended(now, key, &JobEnd::with(fault));
        self.close(key);
    }

    /// The server at the other end of a connection sends next to nothing: others may have what it was asked for.
    pub(crate) fn on_lull(&mut self, now: Instant, key: WebKey) {
        let fault = Some((None, Fault::Slow("sends next to nothing".to_owned())));
        self.on_ended(now, key, &JobEnd::with(fault));
        self.close(key);
    }

    /// A block has come over this connection. False if it is not the next that was to come, so that something is wrong with this program.
    pub(crate) fn on_block(&mut self, key: WebKey, block: Block) -> bool {
        let Some(connection) = self.connections.get_mut(&key) else { return false };
        let Doing::Job { left, has_brought, begins_with_range, .. } = &mut connection.doing else {
            return false;
        };
        if left.front() != Some(&block) {
            return false;
        }
        left.pop_front();
        *has_brought = true;
        if *begins_with_range {
            self.seeds[connection.seed].on_good_answer();
        }
        true
    }

    /// An answer over this connection shows that ranges mean nothing to its web seed.
    pub(crate) fn on_ranges_ignored(&mut self, key: WebKey) {
        if let Some(connection) = self.connections.get(&key) {
            self.seeds[connection.seed].ignores_ranges = true;
        }
    }

    /// An answer over this connection says that its web seed knows ranges.
    pub(crate) fn on_ranges_known(&mut self, key: WebKey) {
        if let Some(connection) = self.connections.get(&key) {
            self.seeds[connection.seed].has_answered = true;
        }
    }

    /// Blocks that a connection is to bring yet.
    pub(crate) fn left_of(&self, key: WebKey) -> impl Iterator<Item = Block> + '_ {
        let doing = self.connections.get(&key).map(|connection| &connection.doing);
        let left = doing.and_then(|doing| match doing {
            Doing::Job { left, .. } => Some(left.iter().copied()),
            Doing::Nothing { .. } => None,
        });
        left.into_iter().flatten()
    }

    /// Nobody waits any more for what a connection is to bring: it is closed, unless its server would begin the next answer, too, with the first
    /// byte of the file.
    pub(crate) fn abandon(&mut self, key: WebKey) {
        let of_it = |connection: &Connection| self.seeds[connection.seed].ignores_ranges;
        if !self.connections.get(&key).is_some_and(of_it) {
            self.close(key);
        }
    }

    /// The job of a connection has ended.
    pub(crate) fn on_ended(&mut self, now: Instant, key: WebKey, end: &JobEnd) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let index = connection.seed;
        connection.goes_on_at = end.goes_on_at;
        let before = std::mem::replace(&mut connection.doing, Doing::Nothing { since: now });
        let Doing::Job { left, has_brought, .. } = before else { return };
        if !left.is_empty() {
            self.outputs.push_back(WebOutput::GiveBack(key.seed, left.into()));
        }
        let working = self.connections.values().filter(|other| other.seed == index);
        let working =
            working.filter(|other| matches!(other.doing, Doing::Job { has_brought: true, .. })).count();
        let seed = &mut self.seeds[index];
        seed.ignores_ranges |= end.ignores_ranges;
        let Some((item, fault)) = &end.fault else { return seed.on_job_done() };
        let Sentence { reason, pieces_change, is_final } =
            seed.on_fault(now, *item, fault, has_brought, working);
        // There is nothing left of a connection on which nothing came but its end, and others may wait for its place.
        let is_dead = matches!(fault, Fault::Broken(_)) && !has_brought && !seed.is_ready(now);
        if let Some(reason) = reason {
            let is_of_server =
                matches!(fault, Fault::Denied(_) | Fault::Busy(..) | Fault::Slow(_) | Fault::Broken(_));
            let item = item.filter(|_| !is_of_server);
            let url = item.and_then(|item| self.seeds[index].url_of(item, &self.names));
            self.tell(index, url, reason);
        }
        if self.seeds[index].is_aside {
            self.put_aside(index);
        } else if pieces_change {
            self.tell_pieces(index);
            if is_final {
                self.close_those_at_unavailable(index);
            }
        }
        if is_dead {
            self.close(key);
        }
    }

    /// The web seed of this number has sent corrupt data of a piece.
    pub(crate) fn on_corrupt(&mut self, number: u16, piece: PieceIndex) {
        let index = usize::from(number);
        let Some(seed) = self.seeds.get_mut(index).filter(|seed| !seed.is_aside) else { return };
        let Some((item, reason)) = seed.on_corrupt(piece, &self.layout) else { return };
        let url = self.seeds[index].url_of(item, &self.names);
        self.tell(index, url, reason);
        if self.seeds[index].is_aside {
            self.tell(index, None, "set aside: too much of what it sends is corrupt".to_owned());
            return self.put_aside(index);
        }
        self.tell_pieces(index);
        self.close_those_at_unavailable(index);
    }

    fn put_aside(&mut self, index: usize) {
        let of_it = self.connections.iter().filter(|(_, connection)| connection.seed == index);
        let keys: Vec<WebKey> = of_it.map(|(&key, _)| key).collect();
        keys.into_iter().for_each(|key| self.close(key));
        self.outputs.push_back(WebOutput::Leave(self.seeds[index].key));
    }

    /// Closes the connections of a seed that fetch what it is not to be asked for any more.
    fn close_those_at_unavailable(&mut self, index: usize) {
        let pieces = self.seeds[index].pieces(&self.layout);
        let is_at = |connection: &Connection| match &connection.doing {
            Doing::Job { left, .. } => left.iter().any(|block| !pieces.contains(block.piece)),
            Doing::Nothing { .. } => false,
        };
        let found = self.connections.iter().filter(|(_, it)| it.seed == index && is_at(it));
        let keys: Vec<WebKey> = found.map(|(&key, _)| key).collect();
        keys.into_iter().for_each(|key| self.close(key));
    }

    fn close(&mut self, key: WebKey) {
        let Some(connection) = self.connections.remove(&key) else { return };
        self.outputs.push_back(WebOutput::Close(key));
        if let Doing::Job { left, .. } = connection.doing
            && !left.is_empty()
        {
            self.outputs.push_back(WebOutput::GiveBack(key.seed, left.into()));
        }
    }

    /// Tells the swarm what a seed may be asked for.
    fn tell_pieces(&mut self, index: usize) {
        let seed = &self.seeds[index];
        if self.active && !seed.is_aside {
            let pieces = seed.pieces(&self.layout);
            self.outputs.push_back(WebOutput::Has(seed.key, index as u16, pieces));
        }
    }

    /// Tells of a seed, or of one of its URLs.
    fn tell(&mut self, index: usize, url: Option<String>, reason: String) {
        let url = url.as_ref().unwrap_or(&self.seeds[index].url.url);
        let kind = || Kind::UrlSeed { url: without_credentials(url).into_owned(), reason };
        let event = self.wanted_events.build(Severity::Info, kind);
        self.outputs.extend(event.map(|kind| WebOutput::Event(Box::new(kind))));
    }
}

impl Connection {
    fn is_busy(&self) -> bool {
        matches!(self.doing, Doing::Job { .. })
    }
}
