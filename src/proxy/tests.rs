use super::*;

fn proxy(url: &str) -> Proxy {
    url.parse().unwrap()
}

fn target(text: &str) -> Target {
    let (host, port) = text.rsplit_once(':').unwrap();
    Target::new(host, port.parse().unwrap()).unwrap()
}

/// Talks with a proxy that says `answers`, one after each thing that is sent to it, of which each read gives `part` bytes at the most. Gives
/// all that was sent, and what it came to; what is asked for must not reach beyond the answers.
fn talk(
    mut dialogue: ProxyDialogue,
    answers: &[&[u8]],
    part: usize,
) -> (Vec<Vec<u8>>, Result<Target, ProxyError>) {
    let (mut sent, mut come) = (Vec::new(), Vec::new());
    let mut answers = answers.iter();
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        match dialogue.feed(&bytes) {
            Ok(ProxyStep::Send(message)) => {
                assert!(come.is_empty(), "not all of an answer was read");
                sent.push(message);
                come = answers.next().map_or(Vec::new(), |answer| answer.to_vec());
                bytes.clear();
            }
            Ok(ProxyStep::Need(most)) => {
                assert!(most > 0 && !come.is_empty(), "it waits for more than the proxy says: {most}");
                let rest = come.split_off(most.min(part).min(come.len()));
                bytes = std::mem::replace(&mut come, rest);
            }
            Ok(ProxyStep::Done(bound)) => {
                assert!(come.is_empty(), "what follows is the target's");
                return (sent, Ok(bound));
            }
            Err(error) => return (sent, Err(error)),
        }
    }
}

const PARTS: [usize; 4] = [1, 2, 3, usize::MAX];

#[test]
fn a_socks5_proxy_is_asked_for_an_address_or_a_name_wherever_its_answers_are_cut() {
    let bound_v4 = [5, 0, 0, 1, 192, 0, 2, 9, 0x1f, 0x90];
    let bound_v6 = [&[5, 0, 0, 4][..], &[0; 15], &[1, 0x1f, 0x90]].concat();
    let bound_name = [&[5, 0, 0, 3, 5][..], b"outer", &[0x1f, 0x90]].concat();
    for (asked, request) in [
        ("192.0.2.1:6881", vec![5, 1, 0, 1, 192, 0, 2, 1, 0x1a, 0xe1]),
        ("[2001:db8::1]:80", [&[5, 1, 0, 4, 0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1, 0, 80]].concat()),
        ("t.example:443", [&[5, 1, 0, 3, 9][..], b"t.example", &[1, 187]].concat()),
    ] {
        for (reply, bound) in
            [(&bound_v4[..], "192.0.2.9:8080"), (&bound_v6, "[::1]:8080"), (&bound_name, "outer:8080")]
        {
            for part in PARTS {
                let dialogue = ProxyDialogue::connect(&proxy("socks5://p:1"), &target(asked));
                let (sent, end) = talk(dialogue, &[&[5, 0], reply], part);
                assert_eq!(sent, [vec![5, 1, 0], request.clone()]);
                assert_eq!(end, Ok(target(bound)));
            }
        }
    }
}

#[test]
fn user_name_and_password_are_said_decoded_if_the_proxy_asks_for_them() {
    let with_login = proxy("socks5://us%40er:p%3Aa%2Fs%25@p:1");
    let reply: &[u8] = &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for part in PARTS {
        let dialogue = ProxyDialogue::connect(&with_login, &target("t:1"));
        let (sent, end) = talk(dialogue, &[&[5, 2], &[1, 0], reply], part);
        assert_eq!(sent[..2], [vec![5, 2, 0, 2], b"\x01\x05us@er\x06p:a/s%".to_vec()]);
        assert!(end.is_ok());
        let dialogue = ProxyDialogue::connect(&with_login, &target("t:1"));
        assert_eq!(talk(dialogue, &[&[5, 0], reply], part).0.len(), 2, "it wants none");
    }
}

#[test]
fn a_refusal_says_why_and_whether_it_is_the_proxys_or_the_targets() {
    let end = |url: &str, answers: &[&[u8]]| {
        let dialogue = ProxyDialogue::connect(&proxy(url), &target("t:1"));
        talk(dialogue, answers, usize::MAX).1.unwrap_err()
    };
    let (plain, with_login) = ("socks5://p:1", "socks5://me:secret@p:1");
    for (url, answers, said, is_of_target) in [
        (plain, &[&[4, 0][..]][..], "as a SOCKS5 proxy", false),
        (plain, &[b"HTTP/1.1 400"], "as a SOCKS5 proxy", false),
        (plain, &[&[5, 0xff]], "wants a user name", false),
        (plain, &[&[5, 2]], "as a SOCKS5 proxy", false),
        (plain, &[&[5, 1]], "as a SOCKS5 proxy", false),
        (with_login, &[&[5, 0xff]], "choose another proxy", false),
        (with_login, &[&[5, 2], &[1, 1]], "refuses the user name", false),
        (with_login, &[&[5, 2], &[5, 0]], "as a SOCKS5 proxy", false),
        (plain, &[&[5, 0], &[4, 0]], "as a SOCKS5 proxy", false),
        (plain, &[&[5, 0], &[5, 0, 0, 9, 0, 0, 0]], "as a SOCKS5 proxy", false),
        // No more than the code comes of some.
        (plain, &[&[5, 0], &[5, 1]], "general failure", true),
        (plain, &[&[5, 0], &[5, 2, 0, 1, 0, 0, 0]], "not allowed by its rules", true),
        (plain, &[&[5, 0], &[5, 3]], "network unreachable", true),
        (plain, &[&[5, 0], &[5, 4]], "host unreachable", true),
        (plain, &[&[5, 0], &[5, 5]], "connection refused", true),
        (plain, &[&[5, 0], &[5, 6]], "TTL", true),
        (plain, &[&[5, 0], &[5, 7]], "does not carry connections", false),
        (plain, &[&[5, 0], &[5, 8]], "kind of address", true),
        (plain, &[&[5, 0], &[5, 99]], "error 99", true),
    ] {
        let error = end(url, answers);
        assert!(error.to_string().contains(said), "{answers:?}: {error}");
        assert_eq!(error.is_of_target(), is_of_target, "{error}");
        assert!(!error.to_string().contains("secret"));
    }
}

#[test]
fn a_socks5_proxy_is_asked_to_carry_packets_and_an_http_proxy_cannot() {
    let dialogue = ProxyDialogue::associate(&proxy("socks5://p:1")).unwrap();
    let (sent, end) = talk(dialogue, &[&[5, 0], &[5, 0, 0, 1, 0, 0, 0, 0, 4, 0]], 1);
    assert_eq!(sent[1], [5, 3, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(end, Ok(target("0.0.0.0:1024")));
    for code in 1..=8 {
        let dialogue = ProxyDialogue::associate(&proxy("socks5://p:1")).unwrap();
        let end = talk(dialogue, &[&[5, 0], &[5, code]], 1).1;
        // What is not for good may be granted another time.
        let is_for_good = [2, 7, 8].contains(&code);
        assert_eq!(end == Err(ProxyError::Unsupported("UDP")), is_for_good, "{code}");
        assert_eq!(end.unwrap_err().is_of_target(), !is_for_good, "{code}");
    }
    let dialogue = ProxyDialogue::associate(&proxy("socks5://p:1")).unwrap();
    let without_port = talk(dialogue, &[&[5, 0], &[5, 0, 0, 1, 192, 0, 2, 1, 0, 0]], 1).1;
    assert_eq!(without_port, Err(ProxyError::Unsupported("UDP")));
    let refused = ProxyDialogue::associate(&proxy("http://p:1")).unwrap_err();
    assert_eq!(refused, ProxyError::Unsupported("UDP"));
}

#[test]
fn an_http_proxy_is_asked_for_a_tunnel_and_nothing_behind_its_answer_is_read() {
    for answer in [
        "HTTP/1.1 200 Connection established\r\n\r\n",
        "HTTP/1.0 200 OK\r\nVia: x\r\nProxy-Agent: y\r\n\r\n",
        "HTTP/1.1 200\n\n",
        "HTTP/1.1 204 \nA: b\n\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\nVia: x\n\r\n",
        "HTTP/1.1  200  OK\r\nVia: x\n\n",
    ] {
        for part in PARTS {
            let dialogue =
                ProxyDialogue::connect(&proxy("http://me:se%3Acret@p:1"), &target("[2001:db8::1]:6881"));
            let (sent, end) = talk(dialogue, &[answer.as_bytes()], part);
            let expected = "CONNECT [2001:db8::1]:6881 HTTP/1.1\r\nHost: [2001:db8::1]:6881\r\n\
                            Proxy-Authorization: Basic bWU6c2U6Y3JldA==\r\n\r\n";
            assert_eq!(String::from_utf8_lossy(&sent[0]), expected);
            assert!(end.is_ok(), "{answer:?}");
        }
    }
}

#[test]
fn an_http_proxys_refusal_is_told_and_its_head_is_bounded() {
    let end = |url: &str, answer: &[u8]| {
        let dialogue = ProxyDialogue::connect(&proxy(url), &target("t:1"));
        talk(dialogue, &[answer], usize::MAX).1.unwrap_err()
    };
    for (url, answer, said, is_of_target) in [
        ("http://p:1", "HTTP/1.1 407 Auth\r\n\r\n", "wants a user name", false),
        ("http://me:secret@p:1", "HTTP/1.1 407 Auth\r\n\r\n", "refuses the user name", false),
        ("http://p:1", "HTTP/1.1 405 No\r\n\r\n", "tunnels (CONNECT)", false),
        ("http://p:1", "HTTP/1.1 502 Bad Gateway\r\nX: y\r\n\r\n", "the proxy says: 502 Bad Gateway", true),
        ("http://p:1", "HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden", true),
        ("http://p:1", "SSH-2.0-x", "as an HTTP proxy", false),
        ("http://p:1", "HTTP/1.1 abc def\r\n\r\n", "as an HTTP proxy", false),
    ] {
        let error = end(url, answer.as_bytes());
        assert!(error.to_string().contains(said), "{answer:?}: {error}");
        assert_eq!(error.is_of_target(), is_of_target, "{error}");
    }
    let endless = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'a'; 20_000]].concat();
    assert_eq!(end("http://p:1", &endless), ProxyError::OtherProtocol("an HTTP proxy"));
    let dripping = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    assert_eq!(end("http://p:1", dripping.as_bytes()), ProxyError::OtherProtocol("an HTTP proxy"));
}

#[test]
fn a_packet_goes_in_a_header_and_what_is_none_or_a_fragment_is_dropped() {
    for to in ["192.0.2.1:6881", "[2001:db8::1]:80", "t.example:443"] {
        let packet = wrap_datagram(&target(to), b"data");
        assert_eq!(unwrap_datagram(&packet), Some((target(to), &b"data"[..])));
        assert_eq!(unwrap_datagram(&wrap_datagram(&target(to), b"")), Some((target(to), &b""[..])));
        let header = packet.len() - 4;
        assert!((0..header).all(|length| unwrap_datagram(&packet[..length]).is_none()));
        for (at, byte) in [(0, 1), (1, 1), (2, 1), (2, 0x80), (3, 0), (3, 2), (3, 9)] {
            let mut wrong = packet.clone();
            wrong[at] = byte;
            assert_eq!(unwrap_datagram(&wrong), None, "byte {at} is {byte}");
        }
    }
}

#[test]
fn an_address_of_no_host_is_the_proxys_own() {
    let relay = |named: &str, proxy: &str| relay_address(&target(named), proxy.parse().unwrap()).to_string();
    assert_eq!(relay("192.0.2.9:7", "192.0.2.1:1080"), "192.0.2.9:7");
    assert_eq!(relay("0.0.0.0:7", "192.0.2.1:1080"), "192.0.2.1:7");
    assert_eq!(relay("[::]:7", "192.0.2.1:1080"), "192.0.2.1:7");
    // A server with one socket for both families writes addresses of IPv4 so.
    for (named, meant) in [("192.0.2.9", "192.0.2.9:7"), ("0.0.0.0", "192.0.2.1:7")] {
        let ip: std::net::Ipv4Addr = named.parse().unwrap();
        let named = [&[5, 0, 0, 4][..], &ip.to_ipv6_mapped().octets(), &[0, 7]].concat();
        let dialogue = ProxyDialogue::associate(&proxy("socks5://p:1")).unwrap();
        let named = talk(dialogue, &[&[5, 0], &named], 1).1.unwrap();
        assert_eq!(relay_address(&named, "192.0.2.1:1080".parse().unwrap()).to_string(), meant);
        let packet = [&[0, 0, 0, 4][..], &ip.to_ipv6_mapped().octets(), &[0, 7], b"data"].concat();
        assert_eq!(unwrap_datagram(&packet), Some((target(&format!("{ip}:7")), &b"data"[..])));
    }
    assert_eq!(relay("inner:7", "[2001:db8::1]:1080"), "[2001:db8::1]:7");
}

#[test]
fn a_target_is_an_address_or_a_name_without_anything_that_ends_a_line() {
    for (host, shown) in
        [("[::1]", "[::1]:7"), ("::1", "[::1]:7"), ("10.0.0.1", "10.0.0.1:7"), ("a.b", "a.b:7")]
    {
        assert_eq!(Target::new(host, 7).unwrap().to_string(), shown);
    }
    for wrong in ["", "a b", "a\r\nb", "a\nb", "\u{e4}.example", &"x".repeat(256)] {
        assert_eq!(Target::new(wrong, 7), None, "{wrong:?}");
    }
}

#[test]
fn a_url_is_read_as_a_proxy_and_shown_without_its_password() {
    for (url, shown) in [
        ("socks5://p.example:9050", "socks5://p.example:9050"),
        ("SOCKS5H://me:secret@127.0.0.1/", "socks5://127.0.0.1:1080"),
        ("http://me:se@cret@[::1]:3128", "http://[::1]:3128"),
        ("http://proxy", "http://proxy:1080"),
        (" socks5://@p:1 ", "socks5://p:1"),
    ] {
        let read = proxy(url);
        assert_eq!(read.to_string(), shown);
        assert!(!format!("{read:?}").contains("se"), "{read:?}");
    }
    let long = format!("socks5://{}:x@p:1", "u".repeat(256));
    for wrong in [
        "",
        "p:1",
        "https://p:1",
        "socks4://p:1",
        "ftp://p:1",
        "socks5://",
        "socks5://:1",
        "socks5://p:0",
        "socks5://p:65536",
        "socks5://p:+1",
        "socks5://p:",
        "socks5://a b:1",
        "socks5://::1:1",
        "socks5://[p]:1",
        "socks5://[::1]1",
        "socks5://p:1/path",
        "socks5://me:sec/ret@p:1",
        "socks5://:secret@p:1",
        "http://p\r\nX:1",
        &long,
    ] {
        let error = wrong.parse::<Proxy>().unwrap_err().to_string();
        assert!(!error.contains("secret") && !error.is_empty(), "{wrong}: {error}");
    }
}
