use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// An announcer and the time it lives in.
struct World {
    announcer: Announcer,
    now: Instant,
    wants_peers: bool,
}

impl World {
    fn started(tiers: &[&[&str]]) -> World {
        let owned = |urls: &&[&str]| urls.iter().map(|url| url.to_string()).collect();
        let now = Instant::now();
        let mut announcer = Announcer::new(tiers.iter().map(owned).collect(), 7);
        announcer.spread = 0.0;
        announcer.start(now);
        World { announcer, now, wants_peers: true }
    }

    fn poll(&mut self) -> Option<Announce> {
        self.announcer.poll(self.now, needs(self.wants_peers))
    }

    /// The one announce that is due now.
    fn due(&mut self) -> Announce {
        let announce = self.poll().expect("an announce is due");
        assert_eq!(self.poll(), None, "only one is due");
        announce
    }

    fn due_after(&mut self, wait: Duration) -> Announce {
        let early = wait - Duration::from_millis(1);
        self.now += early;
        assert_eq!(self.poll(), None, "nothing is due before {wait:?}");
        self.now += wait - early;
        self.due()
    }

    fn ok(&mut self, announce: &Announce) -> Outcome {
        self.answer(announce, answer())
    }

    fn answer(&mut self, announce: &Announce, answer: Answer) -> Outcome {
        self.announcer.on_answer(self.now, announce.token, Ok(answer)).expect("the token is waited for")
    }

    fn fail(&mut self, announce: &Announce) -> Outcome {
        let failure = AnnounceFailure::no_answer("connection refused");
        self.announcer.on_answer(self.now, announce.token, Err(failure)).expect("the token is waited for")
    }

    /// How long until something is due, as the deadline says; and goes there.
    fn sleep(&mut self) -> Duration {
        assert_eq!(self.poll(), None);
        let deadline = self.announcer.deadline().expect("there is a deadline");
        let wait = deadline.saturating_duration_since(self.now);
        self.now += wait;
        wait
    }

    fn statuses(&self) -> Vec<TrackerStatus<'_>> {
        self.announcer.trackers().collect()
    }
}

/// Peers are missed, or not even wanted.
fn needs(peers: bool) -> AnnounceNeed {
    AnnounceNeed { peers, soon: peers, is_partial_seed: false }
}

/// 30 minutes, at least 5, one peer.
fn answer() -> Answer {
    Answer {
        interval: Some(30 * MINUTE),
        min_interval: Some(5 * MINUTE),
        peers: vec!["10.0.0.1:6881".parse().unwrap()],
        ..Answer::default()
    }
}

const A: &str = "http://a/announce";
const B: &str = "http://b/announce";
const C: &str = "udp://c:1";

#[test]
fn nothing_is_announced_before_start() {
    let mut announcer = Announcer::new(vec![vec![A.into()]], 1);
    assert_eq!(announcer.poll(Instant::now(), needs(true)), None);
    assert_eq!(announcer.deadline(), None);
    assert!(announcer.is_stopped());
}

#[test]
fn the_first_announce_is_started_and_the_next_has_no_event() {
    let mut world = World::started(&[&[A]]);
    let first = world.due();
    assert_eq!(first.event, Some(AnnounceEvent::Started));
    assert_eq!((first.url.as_str(), first.tier, first.numwant), (A, 0, NUMWANT));
    world.ok(&first);
    world.wants_peers = false;
    assert_eq!(world.due_after(30 * MINUTE).event, None);
}

#[test]
fn peers_wanted_bring_the_next_announce_forward_to_the_min_interval() {
    let mut world = World::started(&[&[A]]);
    let first = world.due();
    world.ok(&first);
    world.due_after(5 * MINUTE);
}

#[test]
fn the_deadline_follows_whether_peers_are_wanted() {
    let mut world = World::started(&[&[A]]);
    let first = world.due();
    world.ok(&first);
    world.wants_peers = false;
    assert_eq!(world.sleep(), 30 * MINUTE);
    let second = world.due();
    world.ok(&second);
    world.wants_peers = true;
    assert_eq!(world.sleep(), 5 * MINUTE);
}

#[test]
fn no_peers_are_asked_for_when_none_are_wanted() {
    let mut world = World::started(&[&[A]]);
    world.wants_peers = false;
    assert_eq!(world.due().numwant, 0);
}

#[test]
fn what_has_changed_is_told_as_soon_as_the_tracker_allows_and_once() {
    let mut world = World::started(&[&["http://a/"]]);
    world.wants_peers = false;
    let first = world.due();
    world.ok(&first);
    world.announcer.announce_again(world.now);
    let again = world.due_after(5 * MINUTE);
    assert_eq!(again.event, None);
    // While it is being told, it changes again.
    world.announcer.announce_again(world.now);
    world.ok(&again);
    let again = world.due_after(5 * MINUTE);
    world.ok(&again);
    world.due_after(30 * MINUTE);
}

#[test]
fn a_change_that_a_tracker_may_not_have_heard_of_is_told_again_after_the_back_off() {
    let mut world = World::started(&[&[A]]);
    world.wants_peers = false;
    let first = world.due();
    world.ok(&first);
    world.announcer.announce_again(world.now);
    let told = world.due_after(5 * MINUTE);
    world.fail(&told);
    // Not only when it expects to hear of us anyway.
    let wait = world.sleep();
    assert!(wait < MINUTE, "{wait:?}");
    let again = world.due();
    world.ok(&again);
    world.due_after(30 * MINUTE);
}

#[test]
fn who_could_not_be_reached_is_asked_at_once_when_the_way_is_back() {
    let mut world = World::started(&[&[A]]);
    let first = world.due();
    world.fail(&first);
    world.sleep();
    let second = world.due();
    world.fail(&second);
    assert_eq!(world.poll(), None);
    world.announcer.way_is_back(world.now);
    let third = world.due();
    assert_eq!(third.event, Some(AnnounceEvent::Started));
    world.ok(&third);
    world.announcer.way_is_back(world.now);
    assert_eq!(world.poll(), None, "it has been reached");
    // The back-off goes on where it was if it was not the way.
    let mut world = World::started(&[&[A]]);
    let first = world.due();
    let refusal = AnnounceFailure::with_status(200, "unregistered torrent");
    world.announcer.on_answer(world.now, first.token, Err(refusal));
    world.announcer.way_is_back(world.now);
    assert_eq!(world.poll(), None, "it has refused");
}

#[test]
fn a_lie_about_intervals_is_clamped() {
    for (said, kept) in [
        (Some(Duration::ZERO), MINUTE),
        (Some(Duration::from_secs(1)), MINUTE),
        (Some(Duration::from_secs(7200)), 120 * MINUTE),
        (Some(Duration::MAX), 24 * 60 * MINUTE),
        (None, 30 * MINUTE),
    ] {
        let mut world = World::started(&[&[A]]);
        let first = world.due();
        world.wants_peers = false;
        world.answer(&first, Answer { interval: said, min_interval: None, ..answer() });
        assert_eq!(world.sleep(), kept, "{said:?}");
    }
}

#[test]
fn a_least_time_that_is_longer_than_the_interval_counts() {
    let mut world = World::started(&[&[A]]);
    let first = world.due();
    world.answer(&first, Answer { min_interval: Some(120 * MINUTE), ..answer() });
    assert_eq!(world.sleep(), 120 * MINUTE);
}

#[test]
fn torrents_of_one_tracker_do_not_come_together() {
    let waits: Vec<Duration> = (0..50)
        .map(|seed| {
            let now = Instant::now();
            let mut announcer = Announcer::new(vec![vec![A.into()]], seed);
            announcer.start(now);
            let first = announcer.poll(now, needs(false)).unwrap();
            announcer.on_answer(now, first.token, Ok(answer()));
            announcer.deadline().unwrap() - now
        })
        .collect();
    assert!(waits.iter().all(|wait| (30 * MINUTE..=32 * MINUTE).contains(wait)), "{waits:?}");
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(*most - *least > MINUTE, "{waits:?}");
}

#[test]
fn a_partial_seed_says_so_with_each_announce_that_has_no_other_event() {
    let mut world = World::started(&[&[A]]);
    let need = AnnounceNeed { is_partial_seed: true, ..needs(false) };
    let first = world.announcer.poll(world.now, need).unwrap();
    assert_eq!(first.event, Some(AnnounceEvent::Started));
    world.ok(&first);
    world.now += 30 * MINUTE;
    let second = world.announcer.poll(world.now, need).unwrap();
    assert_eq!((second.event, second.event.unwrap().as_str()), (Some(AnnounceEvent::Paused), "paused"));
    world.ok(&second);
    world.announcer.stop(world.now);
    assert_eq!(world.due().event, Some(AnnounceEvent::Stopped));
}

#[test]
fn one_tracker_has_one_announce_at_a_time() {
    let mut world = World::started(&[&[A]]);
    world.due();
    world.now += 100 * MINUTE;
    assert_eq!(world.poll(), None);
}

#[test]
fn a_tracker_that_fails_gives_way_to_the_next_at_once() {
    let mut world = World::started(&[&[A], &[B], &[C]]);
    for url in [A, B, C] {
        let announce = world.due();
        assert_eq!((announce.url.as_str(), announce.event), (url, Some(AnnounceEvent::Started)));
        world.fail(&announce);
    }
    assert_eq!(world.poll(), None);
}

#[test]
fn a_working_tier_keeps_the_next_tier_unused() {
    let mut world = World::started(&[&[A], &[B]]);
    for _ in 0..5 {
        let announce = world.due();
        assert_eq!(announce.url, A);
        world.ok(&announce);
        world.sleep();
    }
}

#[test]
fn a_tracker_that_answers_moves_to_the_front_of_its_tier() {
    let mut world = World::started(&[&[A, B, C]]);
    let first = world.due();
    world.fail(&first);
    let second = world.due();
    world.ok(&second);
    let order: Vec<_> = world.statuses().iter().map(|status| status.url.to_owned()).collect();
    assert_eq!(order[..2], [second.url.clone(), first.url]);
    world.sleep();
    assert_eq!(world.due().url, second.url);
}

#[test]
fn each_round_begins_with_the_first_tier() {
    let mut world = World::started(&[&[A], &[B]]);
    let a = world.due();
    world.fail(&a);
    let b = world.due();
    world.ok(&b);
    world.sleep();
    assert_eq!(world.due().url, A);
}

#[test]
fn tiers_are_shuffled_by_the_seed_alone() {
    let urls: Vec<String> = (0..20).map(|i| format!("http://{i}/")).collect();
    let order = |seed| {
        let announcer = Announcer::new(vec![urls.clone()], seed);
        announcer.trackers().map(|tracker| tracker.url.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
    assert_ne!(order(1), urls);
}

#[test]
fn a_silent_tracker_is_not_waited_for() {
    let mut world = World::started(&[&[A], &[B]]);
    let silent = world.due();
    assert_eq!(world.sleep(), PATIENCE);
    let second = world.due();
    assert_eq!(second.url, B);
    world.ok(&second);
    world.now += Duration::from_secs(20);
    assert!(matches!(world.fail(&silent), Outcome::Failure { .. }));
    assert_eq!(world.poll(), None, "the answer of B still holds");
}

#[test]
fn a_late_answer_still_brings_its_peers() {
    let mut world = World::started(&[&[A], &[B]]);
    let slow = world.due();
    world.sleep();
    let quick = world.due();
    world.ok(&quick);
    world.now += PATIENCE;
    let Outcome::Success { peers, .. } = world.ok(&slow) else { panic!("A has answered") };
    assert_eq!(peers.len(), 1);
    world.wants_peers = false;
    assert_eq!(world.sleep(), 30 * MINUTE - PATIENCE);
}

#[test]
fn an_answer_without_peers_asks_the_next_tier_too() {
    let mut world = World::started(&[&[A], &[B]]);
    let lonely = world.due();
    world.answer(&lonely, Answer { peers: vec![], ..answer() });
    let second = world.due();
    assert_eq!(second.url, B);
    world.fail(&second);
    world.wants_peers = false;
    assert_eq!(world.sleep(), 30 * MINUTE, "A has answered");
}

#[test]
fn each_tracker_is_asked_by_its_own_interval() {
    let mut world = World::started(&[&[A], &[B]]);
    let (slow, quick) = (world.due(), Answer { interval: Some(2 * MINUTE), ..answer() });
    world.answer(&slow, Answer { peers: vec![], ..answer() });
    let second = world.due();
    world.answer(&second, quick.clone());
    let began = world.now;
    let mut asked = Vec::new();
    while world.now - began < 61 * MINUTE {
        world.now += Duration::from_secs(1);
        let need = AnnounceNeed { peers: true, soon: false, is_partial_seed: false };
        let Some(announce) = world.announcer.poll(world.now, need) else { continue };
        asked.push((announce.url.clone(), (world.now - began).as_secs()));
        let is_slow = announce.url == A;
        world.answer(&announce, if is_slow { Answer { peers: vec![], ..answer() } } else { quick.clone() });
    }
    let of =
        |url: &str| asked.iter().filter(|(asked, _)| asked == url).map(|&(_, at)| at).collect::<Vec<_>>();
    assert_eq!(of(A), [1800, 3600]);
    // Its least interval is five minutes.
    assert_eq!(of(B).len(), 12);
    assert!(of(B).windows(2).all(|pair| pair[1] - pair[0] >= 300), "{asked:?}");
}

#[test]
fn an_answer_without_peers_is_enough_when_none_are_wanted() {
    let mut world = World::started(&[&[A], &[B]]);
    world.wants_peers = false;
    let first = world.due();
    world.answer(&first, Answer { peers: vec![], ..answer() });
    assert_eq!(world.poll(), None);
}

#[test]
fn failures_back_off_exponentially_with_jitter_and_never_end() {
    let mut world = World::started(&[&[A]]);
    let mut expected = Duration::from_secs(15);
    for times in 1..=100 {
        let announce = world.due();
        let outcome = world.fail(&announce);
        assert!(matches!(outcome, Outcome::Failure { times_in_row, .. } if times_in_row == times));
        let wait = world.sleep();
        assert!(wait >= expected.mul_f64(0.75) && wait <= expected.mul_f64(1.25), "{times}: {wait:?}");
        expected = (expected * 2).min(30 * MINUTE);
    }
    let announce = world.due();
    world.ok(&announce);
    assert_eq!(world.statuses()[0].failures_in_row, 0);
}

#[test]
fn a_tracker_says_when_it_wants_to_be_asked_again() {
    let mut world = World::started(&[&[A]]);
    let announce = world.due();
    let retry_in = Some(RetryIn::After(90 * MINUTE));
    let failure = AnnounceFailure { retry_in, ..AnnounceFailure::with_status(200, "overloaded") };
    world.announcer.on_answer(world.now, announce.token, Err(failure));
    assert_eq!(world.sleep(), 90 * MINUTE);
}

#[test]
fn a_tracker_that_says_never_is_left_alone_until_the_next_start() {
    let mut world = World::started(&[&[A]]);
    let announce = world.due();
    let failure =
        AnnounceFailure { retry_in: Some(RetryIn::Never), ..AnnounceFailure::with_status(200, "gone") };
    world.announcer.on_answer(world.now, announce.token, Err(failure));
    assert_eq!((world.poll(), world.announcer.deadline()), (None, None));
    world.announcer.stop(world.now);
    world.announcer.start(world.now);
    world.due();
}

#[test]
fn the_tracker_id_is_given_back_and_one_that_is_not_repeated_holds() {
    let mut world = World::started(&[&[A]]);
    let first = world.due();
    assert_eq!(first.tracker_id, None);
    world.answer(&first, Answer { tracker_id: Some(b"id".to_vec()), ..answer() });
    for _ in 0..2 {
        world.sleep();
        let next = world.due();
        assert_eq!(next.tracker_id.as_deref(), Some(&b"id"[..]));
        world.ok(&next);
    }
}

#[test]
fn an_overlong_tracker_id_is_not_kept() {
    let mut world = World::started(&[&[A]]);
    let first = world.due();
    world.answer(&first, Answer { tracker_id: Some(vec![b'x'; 5000]), ..answer() });
    world.sleep();
    assert_eq!(world.due().tracker_id, None);
}

#[test]
fn completed_goes_out_at_once_and_once() {
    let mut world = World::started(&[&[A]]);
    let first = world.due();
    world.ok(&first);
    world.now += Duration::from_secs(1);
    world.announcer.complete(world.now);
    assert_eq!(world.announcer.deadline(), Some(world.now));
    let completed = world.due();
    assert_eq!(completed.event, Some(AnnounceEvent::Completed));
    world.ok(&completed);
    world.wants_peers = false;
    assert_eq!(world.sleep(), 30 * MINUTE);
    assert_eq!(world.due().event, None);
}

#[test]
fn completed_waits_for_the_started_that_is_under_way() {
    let mut world = World::started(&[&[A]]);
    let first = world.due();
    world.announcer.complete(world.now);
    assert_eq!(world.poll(), None);
    world.ok(&first);
    assert_eq!(world.due().event, Some(AnnounceEvent::Completed));
}

#[test]
fn completed_goes_only_to_trackers_that_know_us() {
    let mut world = World::started(&[&[A], &[B]]);
    let a = world.due();
    world.fail(&a);
    let b = world.due();
    world.ok(&b);
    world.announcer.complete(world.now);
    let completed = world.due();
    assert_eq!(completed.url, B);
    world.ok(&completed);
    world.sleep();
    let later = world.due();
    assert_eq!((later.url.as_str(), later.event), (A, Some(AnnounceEvent::Started)));
    world.ok(&later);
    assert_eq!(world.poll(), None, "a seed that starts has not completed");
}

#[test]
fn a_completed_that_failed_is_sent_again_after_the_back_off() {
    let mut world = World::started(&[&[A]]);
    let first = world.due();
    world.ok(&first);
    world.announcer.complete(world.now);
    let completed = world.due();
    world.fail(&completed);
    assert!(world.sleep() >= Duration::from_secs(11));
    assert_eq!(world.due().event, Some(AnnounceEvent::Completed));
}

#[test]
fn stopped_goes_at_once_to_each_tracker_that_knows_us_and_to_no_other() {
    let mut world = World::started(&[&[A], &[B], &[C]]);
    let a = world.due();
    world.answer(&a, Answer { peers: vec![], ..answer() });
    let b = world.due();
    world.ok(&b);
    world.announcer.stop(world.now);
    assert_eq!(world.announcer.deadline(), Some(world.now));
    let mut stopped: Vec<_> = std::iter::from_fn(|| world.poll()).collect();
    stopped.sort_by(|x, y| x.url.cmp(&y.url));
    let said: Vec<_> = stopped.iter().map(|s| (s.url.as_str(), s.event, s.numwant)).collect();
    let event = Some(AnnounceEvent::Stopped);
    assert_eq!(said, [(A, event, 0), (B, event, 0)]);
    assert!(!world.announcer.is_stopped());
    world.ok(&stopped[0]);
    world.fail(&stopped[1]);
    assert!(world.announcer.is_stopped(), "a stopped that failed is not repeated");
    assert_eq!(world.announcer.deadline(), None);
}

#[test]
fn a_tracker_that_answers_started_after_the_stop_is_told() {
    let mut world = World::started(&[&[A]]);
    let started = world.due();
    world.announcer.stop(world.now);
    assert_eq!(world.poll(), None);
    assert!(!world.announcer.is_stopped());
    world.ok(&started);
    let stopped = world.due();
    assert_eq!(stopped.event, Some(AnnounceEvent::Stopped));
    world.ok(&stopped);
    assert!(world.announcer.is_stopped());
}

#[test]
fn a_tracker_that_never_answered_started_is_not_told_of_the_stop() {
    let mut world = World::started(&[&[A]]);
    let started = world.due();
    world.announcer.stop(world.now);
    world.fail(&started);
    assert_eq!(world.poll(), None);
    assert!(world.announcer.is_stopped());
}

#[test]
fn completing_and_stopping_in_one_moment_says_both_in_order() {
    let mut world = World::started(&[&[A]]);
    let first = world.due();
    world.ok(&first);
    world.announcer.complete(world.now);
    world.announcer.stop(world.now);
    for event in [AnnounceEvent::Completed, AnnounceEvent::Stopped] {
        let announce = world.due();
        assert_eq!(announce.event, Some(event));
        world.fail(&announce);
    }
    assert!(world.announcer.is_stopped());
}

#[test]
fn starting_again_says_started_again() {
    let mut world = World::started(&[&[A]]);
    let first = world.due();
    world.ok(&first);
    world.announcer.stop(world.now);
    let stopped = world.due();
    world.announcer.start(world.now);
    assert_eq!(world.poll(), None, "stopped is still under way");
    world.ok(&stopped);
    assert_eq!(world.due().event, Some(AnnounceEvent::Started));
}

#[test]
fn a_scheme_that_is_not_spoken_is_listed_and_never_asked() {
    let mut world = World::started(&[&["wss://w/"], &["nonsense"], &["HTTP://a/"]]);
    assert_eq!(world.due().url, "HTTP://a/");
    assert_eq!(world.statuses()[0].last_error, Some("wss trackers are not supported"));
    assert_eq!(world.statuses()[1].last_error, Some("not a URL"));
}

#[test]
fn a_torrent_without_trackers_is_quiet() {
    let mut world = World::started(&[]);
    assert_eq!(world.poll(), None);
    assert_eq!(world.announcer.deadline(), None);
    world.announcer.stop(world.now);
    assert!(world.announcer.is_stopped());
}

#[test]
fn a_url_counts_once_and_the_list_is_bounded() {
    let many: Vec<String> = (0..10_000).map(|i| format!("http://{i}/")).collect();
    let announcer = Announcer::new(vec![vec![A.into(), A.into()], vec![A.into()], many], 1);
    assert_eq!(announcer.trackers().count(), MAX_TRACKERS);
    assert_eq!(announcer.trackers().filter(|tracker| tracker.url == A).count(), 1);
}

#[test]
fn a_stale_token_is_ignored() {
    let mut world = World::started(&[&[A]]);
    let first = world.due();
    world.ok(&first);
    assert_eq!(world.announcer.on_answer(world.now, first.token, Ok(answer())), None);
}

#[test]
fn the_rows_count_what_the_tracker_said() {
    let mut world = World::started(&[&[A]]);
    let first = world.due();
    let peers = ["1.2.3.4:5", "[::2]:5", "[::3]:5"].map(|peer| peer.parse().unwrap()).to_vec();
    world.answer(&first, Answer { complete: Some(4), incomplete: Some(2), peers, ..answer() });
    let row = world.statuses().remove(0);
    assert_eq!((row.complete, row.incomplete, row.peers, row.peers6), (Some(4), Some(2), 1, 2));
    assert_eq!((row.failures_in_row, row.last_error), (0, None));
}

/// What may happen to an announcer in the law below.
#[derive(Clone, Debug)]
enum Step {
    Sleep,
    Ok(usize, Option<u64>, bool),
    Fail(usize),
    WantPeers(bool),
    Complete,
    Stop,
    Start,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Sleep),
        4 => (any::<usize>(), any::<Option<u64>>(), any::<bool>()).prop_map(|(i, s, p)| Step::Ok(i, s, p)),
        4 => any::<usize>().prop_map(Step::Fail),
        1 => any::<bool>().prop_map(Step::WantPeers),
        1 => Just(Step::Complete),
        1 => Just(Step::Stop),
        1 => Just(Step::Start),
    ]
}

proptest! {
    /// Whatever happens: a deadline leads to something, a running announcer has a deadline or waits for an
    /// answer, no tracker is asked twice at a time, and none that answered is asked again within a minute,
    /// but for `completed`, `stopped` and a new start.
    #[test]
    fn no_history_makes_it_spin_or_fall_asleep(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::started(&[&[A, B], &[C]]);
        let mut waiting: Vec<Announce> = Vec::new();
        let mut running = true;
        let mut answered = std::collections::HashMap::new();
        for step in steps {
            match step {
                Step::Sleep => if let Some(deadline) = world.announcer.deadline() {
                    world.now = world.now.max(deadline);
                },
                Step::Ok(pick, interval, has_peers) if !waiting.is_empty() => {
                    let announce = waiting.swap_remove(pick % waiting.len());
                    let peers = if has_peers { answer().peers } else { Vec::new() };
                    let interval = interval.map(Duration::from_secs);
                    if announce.event != Some(AnnounceEvent::Stopped) {
                        answered.insert(announce.url.clone(), world.now);
                    }
                    world.answer(&announce, Answer { interval, min_interval: interval, peers, ..answer() });
                }
                Step::Fail(pick) if !waiting.is_empty() => {
                    let announce = waiting.swap_remove(pick % waiting.len());
                    world.fail(&announce);
                }
                Step::Ok(..) | Step::Fail(_) => {}
                Step::WantPeers(wants) => world.wants_peers = wants,
                Step::Complete => if running { world.announcer.complete(world.now) },
                Step::Stop => { world.announcer.stop(world.now); running = false; }
                Step::Start => {
                    world.announcer.start(world.now);
                    if !running {
                        answered.clear();
                    }
                    running = true;
                }
            }
            for _ in 0..10 {
                let Some(announce) = world.poll() else { break };
                prop_assert!(waiting.iter().all(|other| other.url != announce.url));
                let is_regular = matches!(announce.event, None | Some(AnnounceEvent::Started));
                let rest = answered.get(&announce.url).map(|&at| world.now - at);
                prop_assert!(!is_regular || rest.is_none_or(|rest| rest >= MINUTE), "{announce:?}");
                waiting.push(announce);
            }
            prop_assert_eq!(world.poll(), None);
            let deadline = world.announcer.deadline();
            prop_assert!(deadline.is_none_or(|at| at > world.now), "a deadline that has passed gives nothing");
            prop_assert!(!running || deadline.is_some() || !waiting.is_empty(), "asleep for ever");
            prop_assert!(running || !waiting.is_empty() || world.announcer.is_stopped());
        }
    }
}

#[test]
fn who_is_dismissed_is_told_of_the_end_once_and_asked_no_more() {
    let (own, other) = ("http://own/a", "http://other/a");
    let kept = [vec![own.to_owned()]];
    // It has answered; it is being asked; it has failed.
    for (answered, failed) in [(true, false), (false, false), (false, true)] {
        let mut world = World::started(&[&[other], &[own]]);
        let announce = world.due();
        assert_eq!(announce.url, other);
        if answered {
            world.ok(&announce);
        } else if failed {
            world.fail(&announce);
        }
        assert_eq!(world.announcer.keep_only(world.now, &kept), answered);
        assert_eq!(world.announcer.trackers().count(), 1);
        let mut due = Vec::new();
        while let Some(announce) = world.poll() {
            due.push((announce.url.clone(), announce.event, announce.numwant));
            if announce.url == own {
                world.ok(&announce);
            }
        }
        let mut expected = vec![(own.to_owned(), Some(AnnounceEvent::Started), NUMWANT)];
        let stopped = (other.to_owned(), Some(AnnounceEvent::Stopped), 0);
        if answered {
            expected.insert(0, stopped.clone());
        }
        assert_eq!(due, expected, "{answered} {failed}");
        if !answered && !failed {
            // It learns of us only now.
            let outcome = world.ok(&announce);
            assert!(matches!(&outcome, Outcome::Success { peers, .. } if peers.is_empty()), "{outcome:?}");
            let announce = world.due();
            assert_eq!((announce.url, announce.event, announce.numwant), stopped);
        }
        world.sleep();
        assert_eq!(world.due().url, own);
        // Whoever never answers to that does not keep the torrent from going on, nor is it told again.
        world.announcer.stop(world.now);
        let last: Vec<String> = std::iter::from_fn(|| world.poll()).map(|announce| announce.url).collect();
        assert!(!last.contains(&other.to_owned()), "{last:?}");
    }
}
