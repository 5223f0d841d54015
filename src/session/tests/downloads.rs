//! Torrents that wait for their turn to download.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::*;

/// A session in which so many torrents may download at the same time.
fn with_downloads(max_downloads: usize, test: impl FnOnce(Bench)) {
    with_options(SessionOptions { max_downloads, ..SessionOptions::default() }, test);
}

impl Bench {
    /// Adds torrents of which nothing is there, and has them checked.
    fn add_checked<const N: usize>(
        &mut self,
        names: [&'static str; N],
        options: &TorrentOptions,
    ) -> [TorrentId; N] {
        names.map(|name| {
            let torrent = self.add_with(name, 100_000, options.clone());
            self.run_check(0);
            torrent
        })
    }

    fn enter(&mut self, torrent: TorrentId, state: State) {
        let (reply, _entered) = sync_channel(1);
        self.command(Command::Enter(torrent, state, reply));
    }

    fn phases<const N: usize>(&self, torrents: [TorrentId; N]) -> [Phase; N] {
        torrents.map(|torrent| self.status(torrent).phase)
    }

    /// The changes of state that were told since the last look: of which torrent, and from and to what.
    fn changes(&self) -> Vec<(InfoHashes, State, State)> {
        let change = |(torrent, kind)| match kind {
            Kind::StateChanged { from, to, .. } => Some((Option::unwrap(torrent), from, to)),
            _ => None,
        };
        self.told().into_iter().filter_map(change).collect()
    }

    fn hash(&self, torrent: TorrentId) -> InfoHashes {
        self.status(torrent).info_hash
    }
}

#[test]
fn so_many_torrents_download_and_the_others_wait_in_the_order_given() {
    with_downloads(2, |mut bench| {
        let options = bench.options();
        let all = bench.add_checked(["a", "b", "c", "d"], &options);
        let [a, _, c, d] = all;
        assert_eq!(
            bench.phases(all),
            [Phase::Downloading, Phase::Downloading, Phase::Waiting, Phase::Waiting]
        );
        assert_eq!(bench.status(c).state, State::Started, "that is what the user asked for");
        let waits = [c, d].map(|torrent| (bench.hash(torrent), State::Started, State::Waiting));
        assert_eq!(bench.changes(), waits);
        assert!(!bench.engine.torrents[&c].takes_callers() && !bench.engine.torrents[&c].is_told_of_openly());
        let (reply, _removed) = sync_channel(1);
        bench.command(Command::Remove(a, reply));
        assert_eq!(bench.phases([c, d]), [Phase::Downloading, Phase::Waiting]);
        assert!(bench.engine.torrents[&c].takes_callers());
        assert!(bench.changes().contains(&(bench.hash(c), State::Waiting, State::Started)));
    });
}

#[test]
fn one_that_gets_no_data_for_a_minute_lets_the_next_begin() {
    with_downloads(1, |mut bench| {
        let options = bench.options();
        let all = bench.add_checked(["a", "b", "c"], &options);
        bench.pass_time(Duration::from_millis(59_999));
        assert_eq!(bench.phases(all), [Phase::Downloading, Phase::Waiting, Phase::Waiting]);
        assert_eq!(
            bench.engine.context.downloads.deadline(),
            Some(bench.now + Duration::from_millis(1)),
            "the loop wakes up for it"
        );
        bench.pass_time(Duration::from_millis(1));
        assert_eq!(bench.phases(all), [Phase::Downloading, Phase::Downloading, Phase::Waiting]);
        bench.pass_time(Duration::from_secs(60));
        assert_eq!(bench.phases(all), [Phase::Downloading; 3]);
    });
}

#[test]
fn checks_and_seeds_do_not_count() {
    with_downloads(1, |mut bench| {
        let [seed, other] = ["a", "b"].map(|name| {
            let torrent = bench.add(name, 100_000);
            bench.run_check(0);
            torrent
        });
        bench.add("checked", 1_000_000);
        let missing = bench.add_missing("missing", 100_000);
        bench.run_check(1);
        // For a while a place is kept for the one before it.
        assert_eq!(bench.phases([seed, other, missing]), [Phase::Seeding, Phase::Seeding, Phase::Waiting]);
        bench.pass_time(Duration::from_secs(1));
        assert_eq!(
            bench.phases([seed, other, missing]),
            [Phase::Seeding, Phase::Seeding, Phase::Downloading]
        );
    });
}

#[test]
fn time_spent_waiting_is_none_for_the_stall_timeout() {
    with_downloads(1, |mut bench| {
        let stall_timeout = Some(Duration::from_secs(90));
        let options = TorrentOptions { stall_timeout, ..bench.options() };
        let [a, b, c] = bench.add_checked(["a", "b", "c"], &options);
        bench.pass_time(Duration::from_secs(60));
        assert_eq!(bench.phases([a, b, c]), [Phase::Downloading, Phase::Downloading, Phase::Waiting]);
        bench.pass_time(Duration::from_secs(30));
        assert_eq!(bench.status(a).verdict, Verdict::Incomplete);
        assert_eq!(bench.phases([a, b, c]), [Phase::Stopped, Phase::Downloading, Phase::Waiting]);
        bench.pass_time(Duration::from_secs(30));
        assert_eq!(bench.phases([b, c]), [Phase::Downloading; 2]);
        bench.pass_time(Duration::from_secs(30));
        assert_eq!(bench.phases([b, c]), [Phase::Stopped, Phase::Downloading]);
        bench.pass_time(Duration::from_secs(59));
        assert_eq!(bench.phases([c]), [Phase::Downloading]);
        bench.pass_time(Duration::from_secs(1));
        assert_eq!(bench.phases([c]), [Phase::Stopped]);
        while !bench.engine.torrents.values().all(Torrent::has_ended) {
            bench.pass_on();
        }
        assert_eq!([a, b, c].map(|id| bench.status(id).ended.unwrap().0), [Verdict::Stalled; 3]);
    });
}

#[test]
fn who_is_paused_lets_the_next_begin_and_keeps_its_turn() {
    with_downloads(1, |mut bench| {
        let options = bench.options();
        let [a, b, c] = bench.add_checked(["a", "b", "c"], &options);
        bench.changes();
        bench.enter(c, State::Paused);
        assert_eq!(bench.changes(), [(bench.hash(c), State::Waiting, State::Paused)]);
        assert_eq!(bench.phases([a, b, c]), [Phase::Downloading, Phase::Waiting, Phase::Paused]);
        assert!(!bench.engine.torrents[&c].takes_callers(), "it has not begun");
        bench.enter(a, State::Paused);
        assert_eq!(bench.phases([a, b, c]), [Phase::Paused, Phase::Downloading, Phase::Paused]);
        assert!(bench.engine.torrents[&a].takes_callers(), "paused with its peers");
        for torrent in [a, b, c] {
            bench.enter(torrent, State::Started);
        }
        assert_eq!(bench.phases([a, b, c]), [Phase::Downloading, Phase::Downloading, Phase::Waiting]);
        bench.enter(a, State::Stopped);
        bench.enter(b, State::Stopped);
        assert_eq!(bench.phases([a, b, c]), [Phase::Stopped, Phase::Stopped, Phase::Downloading]);
        bench.enter(a, State::Started);
        assert_eq!(bench.phases([a, c]), [Phase::Waiting, Phase::Downloading]);
    });
}

#[test]
fn an_error_of_the_disk_lets_the_next_begin() {
    with_downloads(1, |mut bench| {
        let options = bench.options();
        let [a, b] = bench.add_checked(["a", "b"], &options);
        fill_disk(&mut bench, a);
        assert_eq!(bench.phases([a, b]), [Phase::Paused, Phase::Downloading]);
    });
}

#[test]
fn a_torrent_that_waits_ends_at_once_when_the_session_does() {
    with_downloads(1, |mut bench| {
        let options = bench.options();
        let [_, b] = bench.add_checked(["a", "b"], &options);
        bench.changes();
        bench.command(Command::Shutdown);
        let told = bench.changes();
        assert!(told.contains(&(bench.hash(b), State::Waiting, State::Stopped)), "{told:?}");
        while !bench.engine.torrents.values().all(Torrent::has_ended) {
            bench.pass_on();
        }
        let (verdict, reason) = bench.status(b).ended.unwrap();
        assert_eq!((verdict, reason.as_str()), (Verdict::Incomplete, "stopped with wanted data missing"));
    });
}

#[test]
fn what_lacks_nothing_any_more_does_not_wait() {
    with_downloads(1, |mut bench| {
        let options = bench.options();
        let [_, b] = bench.add_checked(["a", "b"], &options);
        let (reply, _wanted) = sync_channel(1);
        bench.command(Command::Want(b, Some(vec![0]), None, reply));
        assert_eq!(bench.phases([b]), [Phase::Seeding]);
    });
}
