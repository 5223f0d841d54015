//! Both machines with one another, cut at each byte, and with whatever a stranger may send.

use super::*;
use proptest::prelude::*;

const TORRENT: WireHash = WireHash([7; 20]);
const BOTH: Methods = Methods { plaintext: true, preferred: Method::Plaintext };
const RC4_FIRST: Methods = Methods { plaintext: true, preferred: Method::Rc4 };
const RC4_ONLY: Methods = Methods { plaintext: false, preferred: Method::Rc4 };

/// What each side has when it is done: its ciphers, and what came behind the handshake.
struct End {
    ciphers: Option<Ciphers>,
    early: Vec<u8>,
}

/// A whole handshake, in parts of at most this many bytes; `behind` is what the answering side sends at once when it is done.
fn shake(
    (caller, answerer): (Methods, Methods),
    initial: &[u8],
    behind: &[u8],
    (part, seed): (usize, u64),
) -> Result<(End, End), MseError> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut caller, first) = Caller::new(TORRENT, caller, initial.to_vec(), &mut rng);
    let mut answerer = Answerer::new(answerer, rng.fork());
    let (mut to_answerer, mut to_caller) = (first, Vec::new());
    let (mut called, mut answered) = (None, None);
    while called.is_none() {
        let take = |queue: &mut Vec<u8>| {
            let rest = queue.split_off(part.min(queue.len()));
            std::mem::replace(queue, rest)
        };
        let next = take(&mut to_answerer);
        if answered.is_none() {
            let mut step = answerer.feed(&next)?;
            loop {
                step = match step {
                    AnswerStep::Send(bytes) => {
                        to_caller.extend(bytes);
                        answerer.feed(&[])?
                    }
                    AnswerStep::Which(asked) => {
                        answerer.resume((asked.0 == obscured(TORRENT)).then_some(TORRENT))?
                    }
                    AnswerStep::Need => break,
                    AnswerStep::Done { answer, torrent, mut ciphers, early } => {
                        assert_eq!(torrent, TORRENT);
                        to_caller.extend(answer);
                        let mut behind = behind.to_vec();
                        ciphers.iter_mut().for_each(|ciphers| ciphers.outgoing.apply(&mut behind));
                        to_caller.extend(behind);
                        answered = Some(End { ciphers, early });
                        break;
                    }
                };
            }
        }
        let next = take(&mut to_caller);
        let mut step = caller.feed(&next)?;
        loop {
            step = match step {
                CallStep::Send(bytes) => {
                    to_answerer.extend(bytes);
                    caller.feed(&[])?
                }
                CallStep::Need => break,
                CallStep::Done { ciphers, early } => {
                    called = Some(End { ciphers, early });
                    break;
                }
            };
        }
        assert!(
            !(to_answerer.is_empty() && to_caller.is_empty() && called.is_none()),
            "they wait for one another"
        );
    }
    let (Some(mut called), Some(answered)) = (called, answered) else { unreachable!("both are done") };
    // What is still under way.
    called.ciphers.iter_mut().for_each(|ciphers| ciphers.incoming.apply(&mut to_caller));
    called.early.extend(to_caller);
    Ok((called, answered))
}

#[test]
fn the_better_method_of_both_is_chosen_or_none() {
    for (caller, answerer, expected) in [
        (BOTH, BOTH, Ok(false)),
        (RC4_FIRST, BOTH, Ok(false)),
        (BOTH, RC4_FIRST, Ok(true)),
        (RC4_ONLY, BOTH, Ok(true)),
        (BOTH, RC4_ONLY, Ok(true)),
        (RC4_ONLY, RC4_ONLY, Ok(true)),
    ] {
        let end = shake((caller, answerer), &[1; 68], b"more", (usize::MAX, 1));
        let enciphered = end.map(|(called, answered)| {
            assert_eq!(called.ciphers.is_some(), answered.ciphers.is_some());
            assert_eq!((answered.early, called.early), (vec![1; 68], b"more".to_vec()));
            called.ciphers.is_some()
        });
        assert_eq!(enciphered, expected, "{caller:?} {answerer:?}");
    }
}

#[test]
fn it_may_be_cut_at_each_byte() {
    for part in 1..200 {
        for initial in [&[][..], &[5; 30], &[6; 68], &[7; 73]] {
            let ends = shake((RC4_ONLY, BOTH), initial, b"behind", (part, part as u64)).unwrap();
            let (mut called, mut answered) = ends;
            assert_eq!((&answered.early[..], &called.early[..]), (initial, &b"behind"[..]));
            let (Some(a), Some(b)) = (&mut called.ciphers, &mut answered.ciphers) else {
                panic!("not enciphered")
            };
            let mut text = b"what goes on".to_vec();
            a.outgoing.apply(&mut text);
            assert_ne!(text, b"what goes on");
            b.incoming.apply(&mut text);
            assert_eq!(text, b"what goes on");
        }
    }
}

#[test]
fn another_torrent_is_not_answered() {
    let mut rng = fastrand::Rng::with_seed(3);
    let (mut caller, first) = Caller::new(WireHash([9; 20]), BOTH, vec![1; 68], &mut rng);
    let mut answerer = Answerer::new(BOTH, rng.fork());
    let Ok(AnswerStep::Send(key)) = answerer.feed(&first) else { panic!("a key") };
    let Ok(CallStep::Send(ask)) = caller.feed(&key) else { panic!("a question") };
    let Ok(AnswerStep::Which(asked)) = answerer.feed(&ask) else { panic!("a name") };
    assert_ne!(asked.0, obscured(TORRENT));
    assert_eq!(asked.0, obscured(WireHash([9; 20])));
    assert_eq!(answerer.resume(None).unwrap_err(), MseError::UnknownTorrent);
    assert_eq!(answerer.feed(&[0; 100]).unwrap_err(), MseError::Malformed);
}

#[test]
fn more_padding_than_is_allowed_is_an_error_and_not_waited_for() {
    let mut rng = fastrand::Rng::with_seed(4);
    let (mut caller, first) = Caller::new(TORRENT, BOTH, vec![1; 68], &mut rng);
    let mut answerer = Answerer::new(BOTH, rng.fork());
    let Ok(AnswerStep::Send(key)) = answerer.feed(&first[..KEY_LENGTH]) else { panic!("a key") };
    // The sign can stand up to 512 bytes behind the key, and 20 long; one byte less leaves room for hope.
    assert!(matches!(answerer.feed(&[0; MAX_PAD + 19]), Ok(AnswerStep::Need)));
    assert_eq!(answerer.feed(&[0]).unwrap_err(), MseError::NoSign);
    assert!(matches!(caller.feed(&key[..KEY_LENGTH]), Ok(CallStep::Send(_))));
    assert!(matches!(caller.feed(&[0; MAX_PAD + 7]), Ok(CallStep::Need)));
    assert_eq!(caller.feed(&[0]).unwrap_err(), MseError::NoSign);
}

/// A caller by hand: what it says after both keys are known, in the clear, and then enciphered.
fn say(offer: &[u8]) -> Result<AnswerStep, MseError> {
    let mut rng = fastrand::Rng::with_seed(5);
    let key = key::PrivateKey::new(&mut rng);
    let mut answerer = Answerer::new(BOTH, rng.fork());
    let Ok(AnswerStep::Send(theirs)) = answerer.feed(&key.public()) else { panic!("a key") };
    let secret = key.secret(theirs.first_chunk().unwrap()).unwrap();
    let mut message = hash_of(&[b"req1", &secret]).0.to_vec();
    let mask = hash_of(&[b"req3", &secret]);
    message.extend(obscured(TORRENT).0.iter().zip(mask.0).map(|(name, mask)| name ^ mask));
    let mut offer = offer.to_vec();
    Cipher::new(&hash_of(&[b"keyA", &secret, &TORRENT.0])).apply(&mut offer);
    message.extend(offer);
    let Ok(AnswerStep::Which(_)) = answerer.feed(&message) else { panic!("a name") };
    answerer.resume(Some(TORRENT))
}

#[test]
fn what_is_wrong_behind_the_sign_is_an_error() {
    let offer = |verification: u8, methods: u32, pad: u16, initial: u16| {
        let pads = vec![3; usize::from(pad)];
        let initials = vec![4; usize::from(initial)];
        [
            &[verification; 8][..],
            &methods.to_be_bytes(),
            &pad.to_be_bytes(),
            &pads,
            &initial.to_be_bytes(),
            &initials,
        ]
        .concat()
    };
    let is_done = |step: Result<AnswerStep, MseError>| matches!(step, Ok(AnswerStep::Done { .. }));
    assert!(is_done(say(&offer(0, 3, 0, 0))));
    assert!(is_done(say(&offer(0, 0xffff_fffe, 512, 4096))), "methods that we do not know are no harm");
    assert_eq!(say(&offer(1, 3, 0, 0)).unwrap_err(), MseError::Malformed);
    assert_eq!(say(&offer(0, 4, 0, 0)).unwrap_err(), MseError::NoMethod);
    assert_eq!(say(&offer(0, 0, 0, 0)).unwrap_err(), MseError::NoMethod);
    assert_eq!(say(&offer(0, 3, 513, 0)).unwrap_err(), MseError::Malformed);
    assert_eq!(say(&offer(0, 3, 0, 4097)).unwrap_err(), MseError::Malformed);
    assert!(matches!(say(&offer(0, 3, 100, 68)[..50]), Ok(AnswerStep::Need)));
}

#[test]
fn a_method_that_was_not_offered_is_not_taken() {
    for chosen in [0u32, 1, 3, 4, u32::MAX] {
        let mut rng = fastrand::Rng::with_seed(6);
        let key = key::PrivateKey::new(&mut rng);
        let (mut caller, first) = Caller::new(TORRENT, RC4_ONLY, Vec::new(), &mut rng);
        let secret = key.secret(first.first_chunk().unwrap()).unwrap();
        assert!(matches!(caller.feed(&key.public()), Ok(CallStep::Send(_))));
        let mut answer = [&[0; 8][..], &chosen.to_be_bytes(), &[0, 0]].concat();
        Cipher::new(&hash_of(&[b"keyB", &secret, &TORRENT.0])).apply(&mut answer);
        assert_eq!(caller.feed(&answer).unwrap_err(), MseError::NoMethod, "{chosen}");
    }
}

proptest! {
    #[test]
    fn any_bytes_in_any_parts_are_an_error_or_not_enough(
        bytes in prop::collection::vec(any::<u8>(), 0..2000), part in 1usize..300, calls: bool, seed: u64
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut caller, _) = Caller::new(TORRENT, BOTH, vec![1; 68], &mut rng);
        let mut answerer = Answerer::new(BOTH, rng.fork());
        for part in bytes.chunks(part) {
            match calls {
                true => match caller.feed(part) {
                    Ok(CallStep::Done { .. }) => prop_assert!(false, "nobody has said so"),
                    Ok(_) => {}
                    Err(_) => break,
                },
                false => match answerer.feed(part) {
                    Ok(AnswerStep::Which(_) | AnswerStep::Done { .. }) => prop_assert!(false, "nobody has said so"),
                    Ok(_) => {}
                    Err(_) => break,
                },
            }
        }
    }
}
