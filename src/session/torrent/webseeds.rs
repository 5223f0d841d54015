//! A torrent's web seeds: which they are, and what their connections bring.

use std::time::Instant;

use super::{Activity, Torrent};
use crate::metainfo::Metainfo;
use crate::net::web::{Access, FromWeb};
use crate::session::context::Context;
use crate::session::options::TorrentOptions;
use crate::session::web::WebConnections;
use crate::transfer::WebTask;
use crate::webseed::{Place, SeedKind, SeedUrl, WebSeeds};

/// The web seeds that the user and a torrent give, those of the user first, each once; none if the user wants none.
pub(crate) fn web_seed_urls(metainfo: &Metainfo, options: &TorrentOptions) -> Vec<SeedUrl> {
    let seed = |url: &String, kind, is_users| SeedUrl { url: url.clone(), kind, is_users };
    let mut urls: Vec<SeedUrl> = Vec::new();
    if options.use_web_seeds {
        let users = options.web_seeds.iter().map(|url| seed(url, SeedKind::Files, true));
        let files = metainfo.url_list.iter().map(|url| seed(url, SeedKind::Files, false));
        let pieces = metainfo.http_seeds.iter().map(|url| seed(url, SeedKind::Pieces, false));
        for url in users.chain(files).chain(pieces) {
            if !urls.iter().any(|other| (&other.url, other.kind) == (&url.url, url.kind)) {
                urls.push(url);
            }
        }
    }
    urls
}

impl Torrent {
    /// The web seeds that are asked for data; `None` if there are none.
    pub(super) fn new_web_seeds(&self, context: &mut Context) -> Option<WebSeeds> {
        let metainfo = &self.on_disk.metainfo;
        let urls = web_seed_urls(metainfo, &self.options);
        if urls.is_empty() {
            return None;
        }
        let urls: Vec<_> = urls.into_iter().map(|url| (context.counter.peer(), url)).collect();
        Some(WebSeeds::new(self.swarms().wire(), metainfo.layout.clone(), metainfo.raw_names(), urls))
    }

    /// Does all that the transfer has to say about web seeds.
    pub(super) fn perform_web(&mut self, now: Instant, context: &mut Context) {
        let Activity::Running { transfer, .. } = &mut self.activity else { return };
        transfer.wake_web_seeds();
        let may_call = !context.dialer.egress.is_absent();
        let place_at =
            |web: &WebConnections, host: &str| if may_call { web.place_at(host) } else { Place::NoWay };
        while let Some(task) = self
            .transfer_mut()
            .and_then(|transfer| transfer.poll_web(now, |host| place_at(&context.web, host)))
        {
            match task {
                WebTask::Open(key, opening) => {
                    let others = context.connections.count() + context.web.count();
                    let download = &context.connections.shared.download;
                    let access = Access {
                        local: context.tracker_options.local.clone(),
                        receive_buffer: download.receive_buffer(others),
                        proxies: context.tracker_options.proxies.clone(),
                        ca_file: context.tracker_options.ca_file.clone(),
                        is_users: opening.is_users,
                        has_query: opening.has_query,
                    };
                    let gate = context.budget.gate(self.on_disk.lane);
                    if let Err(error) = context.web.open(key, self.id, opening, access, gate) {
                        let reason = format!("cannot start a thread: {error}");
                        self.with_transfer(|transfer| transfer.on_web_not_opened(now, key, &reason));
                    }
                }
                WebTask::Fetch(key, job) => context.web.fetch(key, job),
                WebTask::Close(key) => context.web.close(key),
                WebTask::Event(kind) => self.tell(context, *kind),
            }
        }
    }

    /// What a connection to a web seed has brought.
    pub(crate) fn on_web(&mut self, now: Instant, event: FromWeb, context: &mut Context) {
        let Activity::Running { transfer, .. } = &mut self.activity else {
            return context.web.give_back(event);
        };
        match event {
            FromWeb::Blocks(key, blocks) => {
                self.progress.moved = true;
                for (block, data) in blocks {
                    let unneeded = transfer.on_web_block(now, key, block, data);
                    if unneeded.is_none() {
                        self.last_data = now;
                    }
                    context.connections.shared.pool.put(unneeded);
                }
            }
            FromWeb::Waste(key, bytes) => transfer.on_web_waste(key, bytes),
            FromWeb::SaysRanges(key) => transfer.on_web_ranges(key),
            FromWeb::Lull(key) => transfer.on_web_lull(now, key),
            FromWeb::Died(key) => transfer.on_web_died(now, key),
            FromWeb::Ended(key, end) => transfer.on_web_ended(now, key, &end),
        }
        self.has_input = true;
    }
}
