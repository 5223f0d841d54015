//! The user refuses other addresses than before.

use std::time::Instant;

use super::Engine;
use crate::filter::IpFilter;
use crate::ids::TorrentId;

impl Engine {
    /// From now on this filter holds; peers that it refuses are closed.
    pub(super) fn set_ip_filter(&mut self, now: Instant, filter: Option<IpFilter>) {
        if let Some(dht) = &mut self.context.dht {
            dht.set_filter(now, filter.as_ref());
        }
        self.context.options.ip_filter = filter;
        let torrents: Vec<TorrentId> = self.torrents.keys().copied().collect();
        for id in torrents {
            self.with(id, |torrent, context| torrent.on_other_filter(now, context));
        }
    }
}
