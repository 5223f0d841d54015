//! A torrent's trackers: which they are, what they are told, and what they answer.

use std::net::SocketAddr;
use std::time::Instant;

use super::Torrent;
use crate::event::{Kind, Severity};
use crate::finder::announce::{Announce, AnnounceFailure, Answer, MAX_TRACKERS, Token};
use crate::ids::Round;
use crate::session::Notice;
use crate::session::context::Context;
use crate::swarm::Swarm;
use crate::text::without_credentials;
use crate::tracker::{self, Early, Step, Watch};

/// Trackers that the user gives; further ones are forgotten. The torrent's own have the rest of [`MAX_TRACKERS`].
const MAX_USERS: usize = 100;

impl Torrent {
    /// The tiers of its trackers (BEP 12): the torrent's own, then those that the user gives. A private torrent has its own alone (BEP 27).
    pub(super) fn tracker_tiers(&self) -> Vec<Vec<String>> {
        let metainfo = &self.on_disk.metainfo;
        let users: &[Vec<String>] = if metainfo.private { &[] } else { &self.options.trackers };
        join_tiers(&metainfo.trackers, users)
    }

    /// Tells that the user's trackers are not asked, if that is so.
    pub(super) fn tell_unused_trackers(&self, context: &mut Context) {
        if !self.on_disk.metainfo.private {
            return;
        }
        let own_tiers = self.on_disk.metainfo.trackers.len();
        for (tier, urls) in (own_tiers + 1..).zip(&self.options.trackers) {
            for url in urls.iter().take(MAX_USERS) {
                let url = without_credentials(url).into_owned();
                let reason =
                    "it is not asked: the torrent is private, so its own trackers alone are (BEP 27)"
                        .to_owned();
                self.tell_if(context, Severity::Warning, || Kind::TrackerWarning { url, tier, reason });
            }
        }
    }

    /// Asks a tracker.
    pub(super) fn announce(&self, announce: Announce, context: &mut Context) {
        let (downloaded, uploaded) = self.swarm().map_or((0, 0), Swarm::since_started);
        let Announce { url, tier, event, numwant, tracker_id, token, .. } = announce;
        let watch = self.watch_announce(&url, tier + 1, context);
        let request = tracker::Request {
            is_users: self.options.trackers.iter().flatten().any(|users| *users == url),
            url,
            info_hash: self.swarms().wire(),
            peer_id: context.identity.peer_id,
            // Some trackers refuse 0; where nobody can call us anyway, this is a port at which nobody of our address is.
            port: context.identity.ports.outside().max(1),
            uploaded,
            downloaded,
            left: self.lacks(),
            event,
            numwant,
            key: context.identity.key,
            tracker_id,
        };
        if let Some(info_hash) = self.swarms().wire_hashes().nth(1) {
            self.announce_beside(tracker::Request { info_hash, ..request.clone() }, context);
        }
        let (id, round, notify) = (self.id, self.round(), context.notify.clone());
        let to_loop = notify.clone();
        let early = Early::new(move |peers| {
            let _ = to_loop.send(Notice::FoundEarly(id, round, token, peers.to_vec()));
        });
        let options = tracker::Options { watch, early, ..(*context.tracker_options).clone() };
        context.announce(request, options, move |result| {
            // The session may have ended; then nobody needs to know.
            let _ = notify.send(Notice::Announced(id, round, token, result));
        });
    }

    /// Asks a tracker for the peers of a hybrid's version 2 too (BEP 52). It is the announce of version 1 that is told of, and by which
    /// trackers are judged: not all of them know both.
    fn announce_beside(&self, request: tracker::Request, context: &mut Context) {
        let (id, round, notify) = (self.id, self.round(), context.notify.clone());
        let (options, url) = ((*context.tracker_options).clone(), request.url.clone());
        context.announce(request, options, move |result| {
            if let Ok(answer) = result {
                // The session may have ended; then nobody needs to know.
                let _ = notify.send(Notice::FoundBeside(id, round, url, answer));
            }
        });
    }

    /// A tracker has named peers of a hybrid's version 2. What an earlier round asked is void; of a torrent that has turned out to be private
    /// since, the finder does not believe what others than its own trackers say (BEP 27).
    pub(crate) fn on_found_beside(
        &mut self,
        now: Instant,
        asked_in: Round,
        url: &str,
        peers: Vec<SocketAddr>,
    ) {
        if self.round() == asked_in {
            self.with_finder(|finder| finder.found_beside(now, url, peers));
        }
    }

    /// Watches an announce, if somebody wants to know.
    fn watch_announce(&self, url: &str, tier: usize, context: &Context) -> Option<Watch> {
        if !context.subscribers.want(Severity::Debug) {
            return None;
        }
        let (id, notify, url) = (self.id, context.notify.clone(), without_credentials(url).into_owned());
        Some(Watch::new(move |step| {
            // The session may have ended; then nobody needs to know.
            let _ = notify.send(Notice::Told(id, tracker_event(url.clone(), tier, step)));
        }))
    }

    /// A tracker has named peers of one family of addresses, and is still asked for those of the other.
    pub(crate) fn on_found_early(
        &mut self,
        now: Instant,
        asked_in: Round,
        token: Token,
        peers: Vec<SocketAddr>,
    ) {
        if self.round() == asked_in {
            self.with_finder(|finder| finder.found_early(now, token, peers));
        }
    }

    /// A tracker has answered, or failed. What an earlier round asked is void.
    pub(crate) fn on_announced(
        &mut self,
        now: Instant,
        asked_in: Round,
        token: Token,
        result: Result<Answer, AnnounceFailure>,
    ) {
        if self.round() == asked_in {
            self.with_finder(|finder| finder.announced(now, token, result));
        }
    }
}

/// Each list is cut so that the other has room.
fn join_tiers(own: &[Vec<String>], users: &[Vec<String>]) -> Vec<Vec<String>> {
    let users = cut(users, MAX_USERS);
    let mut tiers = cut(own, MAX_TRACKERS - users.iter().map(Vec::len).sum::<usize>());
    tiers.extend(users);
    tiers
}

/// The tiers as far as they hold `most` URLs.
fn cut(tiers: &[Vec<String>], most: usize) -> Vec<Vec<String>> {
    let mut left = most;
    let mut kept = Vec::new();
    for tier in tiers {
        let tier: Vec<String> = tier.iter().take(left).cloned().collect();
        left -= tier.len();
        kept.push(tier);
    }
    kept
}

fn tracker_event(url: String, tier: usize, step: Step) -> Kind {
    match step {
        Step::Connected => Kind::TrackerConnect { url, tier },
        Step::Disconnected => Kind::TrackerDisconnect { url, tier },
        Step::Read(length) => Kind::TrackerRead { url, tier, length },
        Step::Wrote(length) => Kind::TrackerWrite { url, tier, length },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_trackers_come_after_the_torrents_however_many_these_are() {
        let tier = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        let own = [tier(&["http://a/", "http://b/"]), tier(&["http://c/"])];
        let users = [tier(&["http://d/"]), tier(&["http://e/", "http://f/"])];
        let all = [own.as_slice(), users.as_slice()].concat();
        assert_eq!(join_tiers(&own, &users), all);
        let many: Vec<_> = (0..1000).map(|number| vec![format!("http://{number}/")]).collect();
        let joined = join_tiers(&many, &users);
        assert_eq!(joined.iter().flatten().count(), MAX_TRACKERS);
        assert!(joined.ends_with(&users));
    }
}
