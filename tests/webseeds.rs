//! Downloads from web seeds alone: from servers that answer as a script says, and from real ones. A real server that is not installed makes its
//! tests ignored, not passed.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use flate2::{Compression, write::GzEncoder};
use libtest_mimic::{Arguments, Trial};
use rustix::process::Signal;
use serde_json::Value;
use support::clients::is_in_path;
use support::crafted::{Item, dict, info, list, string};
use support::process::{Process, wait_until};

use tempfile::TempDir;

const PIECE: usize = 64 * 1024;

fn main() -> ExitCode {
    let (nginx, python) = (is_in_path("nginx"), is_in_path("python3"));
    let tests: [(&str, bool, fn()); 30] = [
        ("a_file_comes_whatever_way_it_is_sent", true, ways_of_sending),
        ("what_is_not_the_file_is_never_taken_for_it", true, odd_answers),
        ("a_connection_may_be_closed_at_any_point", true, closed),
        ("a_server_may_give_ranges_in_parts", true, parts_of_ranges),
        ("what_comes_of_a_block_before_the_end_is_kept", true, cut_in_blocks),
        ("a_busy_server_is_asked_again_when_it_says", true, busy),
        ("names_are_joined_and_encoded", true, names),
        ("credentials_go_to_their_host_alone_and_are_not_shown", true, credentials),
        ("a_redirect_loop_ends", true, redirects),
        ("corrupt_data_are_found_and_come_from_elsewhere", true, corrupt),
        ("pad_files_are_not_fetched", true, pads),
        ("pieces_are_fetched_by_bep_17", true, by_piece),
        ("without_web_seeds_nobody_is_asked", true, none),
        ("requests_are_sent_ahead_of_answers", true, ahead),
        ("nothing_is_sent_ahead_to_a_server_that_may_not_take_it", true, not_ahead),
        ("what_a_connection_leaves_without_an_answer_is_asked_for_again", true, left_unanswered),
        ("a_server_that_loses_what_it_read_too_far_is_asked_one_by_one", true, lost),
        ("an_error_in_a_row_means_what_it_means_alone", true, error_in_row),
        ("a_redirect_in_a_row_is_followed", true, redirect_in_row),
        ("a_server_that_skips_a_request_condemns_no_file", true, skipped),
        ("answers_that_do_not_end_are_left", true, endless),
        ("a_row_asks_for_no_more_than_a_limit_lets_in", true, row_under_limit),
        ("a_packed_range_is_not_taken", true, packed_range),
        ("a_silent_server_does_not_keep_a_download_from_giving_up", true, silent),
        ("a_server_that_trickles_does_not_either", true, trickling),
        ("the_download_rate_holds", true, rate),
        ("a_kill_in_the_middle_costs_no_verified_piece", true, killed),
        ("nginx_serves_files_in_folders", nginx, from_nginx),
        ("nginx_serves_over_tls_by_a_private_authority", nginx, from_nginx_by_tls),
        ("a_server_without_ranges_is_read_once", python, from_python),
    ];
    let trial = |(name, possible, run): (&str, bool, fn())| {
        Trial::test(name, move || {
            run();
            Ok(())
        })
        .with_ignored_flag(!possible)
    };
    libtest_mimic::run(&Arguments::from_args(), tests.into_iter().map(trial).collect()).exit_code()
}

/// A request, as the server heard it.
#[derive(Clone, Debug)]
struct Asked {
    path: String,
    /// First byte, and the one behind the last.
    range: Option<(usize, usize)>,
    headers: Vec<String>,
}

/// An answer: its bytes, and whether the connection is closed behind them.
struct Answer(Vec<u8>, bool);

struct WebServer {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl WebServer {
    /// A server on loopback; `answer` gets the number of the request, from 1.
    fn start(answer: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> WebServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = WebServer { address: listener.local_addr().unwrap(), log: Arc::default() };
        let (log, answer) = (server.log.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, answer) = (log.clone(), answer.clone());
                thread::spawn(move || serve(stream.unwrap(), &log, &*answer));
            }
        });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(usize, &Asked) -> Answer) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    loop {
        let asked = next_asked(&mut lines)?;
        let number = {
            let mut log = log.lock().unwrap();
            log.push(asked.clone());
            log.len()
        };
        let Answer(bytes, closes) = answer(number, &asked);
        (&stream).write_all(&bytes).ok()?;
        if closes {
            return None;
        }
    }
}

/// The next request.
fn next_asked(lines: &mut impl Iterator<Item = String>) -> Option<Asked> {
    let first = lines.next()?;
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = headers.iter().find_map(|line| {
        let range = line.to_ascii_lowercase().strip_prefix("range: bytes=")?.to_owned();
        let (first, last) = range.split_once('-')?;
        Some((first.parse().ok()?, last.parse::<usize>().ok()? + 1))
    });
    Some(Asked { path: first.split(' ').nth(1)?.to_owned(), range, headers })
}

fn with_head(head: &str, body: &[u8]) -> Vec<u8> {
    [head.as_bytes(), b"\r\n\r\n", body].concat()
}

/// As servers answer.
fn plain(data: &[u8], asked: &Asked) -> Answer {
    let (head, body) = match asked.range {
        Some((from, to)) => (partial_head(data.len(), from, to), &data[from..to]),
        None => ("HTTP/1.1 200 OK".to_owned(), data),
    };
    Answer(with_head(&format!("{head}\r\nContent-Length: {}", body.len()), body), false)
}

fn partial_head(length: usize, from: usize, to: usize) -> String {
    format!("HTTP/1.1 206 Partial\r\nContent-Range: bytes {from}-{}/{length}", to - 1)
}

fn status(line: &str) -> Answer {
    Answer(with_head(&format!("HTTP/1.1 {line}\r\nContent-Length: 2"), b"no"), false)
}

/// A torrent without a tracker, and folders for it.
struct Torrent {
    folder: TempDir,
    items: Vec<Item>,
    single: bool,
}

impl Torrent {
    fn new(items: Vec<Item>, single: bool, url_list: &[String], http_seeds: &[String]) -> Torrent {
        let name = if single { b"f +%".as_slice() } else { "t \u{e4}".as_bytes() };
        let urls = |urls: &[String]| list(&urls.iter().map(|url| string(url.as_bytes())).collect::<Vec<_>>());
        let top = dict(&[
            ("httpseeds", urls(http_seeds)),
            ("info", info(name, PIECE, &items, single)),
            ("url-list", urls(url_list)),
        ]);
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("test.torrent"), top).unwrap();
        Torrent { folder, items, single }
    }

    /// One file of these data.
    fn of(data: &[u8], url: &str) -> Torrent {
        let item = Item { data: data.to_vec(), ..Item::new("f", 0) };
        Torrent::new(vec![item], true, &[url.to_owned()], &[])
    }

    fn path(&self, label: &str) -> PathBuf {
        self.folder.path().join(label)
    }

    fn command(&self, label: &str, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
        command.arg(self.path("test.torrent")).arg("--basedir").arg(self.path(label));
        command.arg("--state-dir").arg(self.path("state"));
        command.args(["--no-lsd", "--bind", "127.0.0.1", "--json", "--no-seed"]).args(options);
        command
    }

    /// Runs btget to its end; its exit code, and its events.
    fn run(&self, options: &[&str]) -> (i32, Vec<Value>) {
        self.end_of(Process::start("btget", &mut self.command("data", options)))
    }

    fn end_of(&self, mut process: Process) -> (i32, Vec<Value>) {
        let code = process.wait().code().unwrap_or_else(|| panic!("{}", process.story()));
        (code, process.events())
    }

    /// Runs btget until it has everything, and looks at the files.
    fn download(&self, what: &str, options: &[&str]) -> Vec<Value> {
        let (code, events) = self.run(options);
        assert_eq!(code, 0, "{what}: {events:#?}");
        self.assert_right(what);
        events
    }

    fn assert_right(&self, what: &str) {
        for item in self.items.iter().filter(|item| item.attr.is_empty()) {
            let path: Vec<&str> = item.path.iter().map(|part| std::str::from_utf8(part).unwrap()).collect();
            let path = match self.single {
                true => self.path("data").join("f +%"),
                false => self.path("data").join("t \u{e4}").join(path.join("/")),
            };
            assert!(fs::read(&path).unwrap() == item.data, "{what}: {}", path.display());
        }
    }
}

fn random(length: usize) -> Vec<u8> {
    Item::new("random", length).data
}

/// What was said of web seeds: URL and reason.
fn said(events: &[Value]) -> Vec<(String, String)> {
    let news = events.iter().filter(|event| event["event"] == "url_seed");
    news.map(|event| (event["url"].as_str().unwrap().into(), event["reason"].as_str().unwrap().into()))
        .collect()
}

fn summary(events: &[Value]) -> &Value {
    events.iter().find(|event| event["event"] == "summary").expect("each torrent has one")
}

type Way = fn(&[u8], &Asked) -> Answer;

fn chunked(data: &[u8], asked: &Asked) -> Answer {
    let (head, body) = match asked.range {
        Some((from, to)) => (partial_head(data.len(), from, to), &data[from..to]),
        None => ("HTTP/1.1 200 OK".to_owned(), data),
    };
    let chunks: Vec<u8> = body
        .chunks(10_007)
        .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
        .collect();
    Answer(
        with_head(
            &format!("{head}\r\nTransfer-Encoding: chunked"),
            &[&chunks, b"0\r\n\r\n".as_slice()].concat(),
        ),
        false,
    )
}

/// As [`chunked`], with what is to be ignored.
fn extended_chunks(data: &[u8], asked: &Asked) -> Answer {
    let (head, body) = match asked.range {
        Some((from, to)) => (partial_head(data.len(), from, to), &data[from..to]),
        None => ("HTTP/1.1 200 OK".to_owned(), data),
    };
    let chunk = |chunk: &[u8]| {
        [format!("{:x};signature=\"{}\"\r\n", chunk.len(), "e".repeat(64)).as_bytes(), chunk, b"\r\n"]
            .concat()
    };
    let chunks: Vec<u8> = body.chunks(10_007).flat_map(chunk).collect();
    let trailer = "X-T: foo\r\n".repeat(100);
    let body = [&chunks, format!("0;last\r\n{trailer}\r\n").as_bytes()].concat();
    Answer(with_head(&format!("{head}\r\nTransfer-Encoding: chunked"), &body), false)
}

/// As [`plain`], with these before the other headers.
fn with_headers(data: &[u8], asked: &Asked, headers: &str) -> Answer {
    let Answer(bytes, closes) = plain(data, asked);
    let line = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    Answer([&bytes[..line], headers.as_bytes(), &bytes[line..]].concat(), closes)
}

fn http_1_0(data: &[u8], asked: &Asked) -> Answer {
    let (head, body) = match asked.range {
        Some((from, to)) => (partial_head(data.len(), from, to).replace("/1.1", "/1.0"), &data[from..to]),
        None => ("HTTP/1.0 200 OK".to_owned(), data),
    };
    Answer(with_head(&head, body), true)
}

fn gzipped(data: &[u8], _: &Asked) -> Answer {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    let body = encoder.finish().unwrap();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}", body.len());
    Answer(with_head(&head, &body), false)
}

fn whole(data: &[u8], _: &Asked) -> Answer {
    Answer(with_head(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}", data.len()), data), false)
}

fn ways_of_sending() {
    let data = random(9 * 1024 * 1024 + 4321);
    let ways: [(&str, Way); 11] = [
        ("plain", plain),
        ("chunked", chunked),
        ("HTTP/1.0", http_1_0),
        ("gzip", gzipped),
        ("whole", whole),
        ("extended chunks", extended_chunks),
        ("many headers", |data, asked| with_headers(data, asked, &"X-Y: z\r\n".repeat(1000))),
        ("folded headers", |data, asked| with_headers(data, asked, "X: one\r\n two\r\nVia:\r\n\tthree\r\n")),
        ("a space before a colon", |data, asked| with_headers(data, asked, "Accept-Ranges : bytes\r\n")),
        ("203", |data, asked| {
            let Answer(bytes, closes) = whole(data, asked);
            Answer([b"HTTP/1.1 203", &bytes["HTTP/1.1 200".len()..]].concat(), closes)
        }),
        ("no ranges", |data, asked| match asked.range {
            Some(_) => {
                let range = format!("Content-Range: bytes */{}", data.len());
                status(&format!("416 Range Not Satisfiable\r\n{range}"))
            }
            None => whole(data, asked),
        }),
    ];
    for (name, way) in ways {
        let served = data.clone();
        let server = WebServer::start(move |_, asked| way(&served, asked));
        let torrent = Torrent::of(&data, &server.url("/f"));
        let events = torrent.download(name, &[]);
        assert_eq!(said(&events), [], "{name}");
        assert_eq!(summary(&events)["downloaded"], data.len(), "{name}: nothing comes twice");
        let asked = server.asked();
        assert!(asked.len() <= 3, "{name}: {asked:#?}");
        let is_identity = |header: &String| header.eq_ignore_ascii_case("accept-encoding: identity");
        assert!(asked.iter().all(|asked| asked.headers.iter().any(is_identity)), "{name}");
    }
}

fn odd_answers() {
    let data = random(300_000);
    let ways: [(&str, Way, &str); 8] = [
        (
            "another start",
            |data, _| {
                Answer(
                    with_head(
                        &format!("{}\r\nContent-Length: 9", partial_head(data.len(), 1, 10)),
                        &data[1..10],
                    ),
                    false,
                )
            },
            "were asked for",
        ),
        (
            "another total",
            |data, _| {
                Answer(
                    with_head(
                        &format!(
                            "{}\r\nContent-Length: {}",
                            partial_head(data.len() + 1, 0, data.len()),
                            data.len()
                        ),
                        data,
                    ),
                    false,
                )
            },
            "in the torrent",
        ),
        ("longer", |data, asked| whole(&[data, b"x"].concat(), asked), "300001 bytes there"),
        ("shorter", |data, asked| whole(&data[1..], asked), "299999 bytes there"),
        (
            "an endless head",
            |_, _| Answer([b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 1 << 20]].concat(), true),
            "head is too large",
        ),
        ("no HTTP", |_, _| Answer(b"SSH-2.0-x\r\n\r\n".to_vec(), true), "not HTTP"),
        ("not there", |_, _| status("404 Not Found"), "404"),
        ("not for us", |_, _| status("403 Forbidden"), "403: set aside"),
    ];
    for (name, way, reason) in ways {
        let served = data.clone();
        let server = WebServer::start(move |_, asked| way(&served, asked));
        let torrent = Torrent::of(&data, &server.url("/f"));
        let (code, events) = torrent.run(&["--stall-timeout", "2s"]);
        assert_eq!(code, 5, "{name}");
        assert!(said(&events).iter().any(|(_, why)| why.contains(reason)), "{name}: {:?}", said(&events));
        assert_eq!(summary(&events)["left"], data.len(), "{name}");
        assert!(server.asked().len() <= 3, "{name}: {:?}", server.asked());
    }
}

fn closed() {
    let data = random(2 * 1024 * 1024);
    for most in [100, 20_000, 70_000, 1_000_000] {
        let served = data.clone();
        let server = WebServer::start(move |number, asked| {
            let Answer(mut bytes, _) = plain(&served, asked);
            // The first answers end wherever they are, the later ones where something came.
            bytes.truncate(if number == 2 { 100 } else { most.max(20_000) });
            Answer(bytes, true)
        });
        let torrent = Torrent::of(&data, &server.url("/f"));
        torrent.download(&most.to_string(), &[]);
    }
}

fn parts_of_ranges() {
    let data = random(5 * 1024 * 1024 + 4321);
    for most in [100_001, 1 << 20] {
        let server = in_parts(&data, most);
        let torrent = Torrent::of(&data, &server.url("/f"));
        let events = torrent.download(&most.to_string(), &[]);
        assert_eq!(said(&events), [], "{most}: it is no fault");
        assert_eq!(summary(&events)["downloaded"], data.len(), "{most}: nothing comes twice");
        let asked = server.asked();
        let long = |asked: &&Asked| asked.range.is_none_or(|(from, to)| to - from > most);
        assert!(asked.iter().filter(long).count() <= 4, "{most}: each connection learns it once: {asked:#?}");
        assert!(asked.len() <= 2 * data.len() / most + 8, "{most}: {}", asked.len());
    }
    // It would take a request for each few bytes.
    let server = in_parts(&data, 10_000);
    let (code, events) = Torrent::of(&data, &server.url("/f")).run(&["--stall-timeout", "2s"]);
    assert_eq!(code, 5);
    assert!(said(&events).iter().any(|(_, why)| why.contains("were asked for")), "{:?}", said(&events));
    assert!(server.asked().len() <= 4, "{:?}", server.asked());
}

/// A server that gives at most so many bytes of a range.
fn in_parts(data: &[u8], most: usize) -> WebServer {
    let data = data.to_vec();
    WebServer::start(move |_, asked| {
        let range = asked.range.map(|(from, to)| (from, to.min(from + most)));
        plain(&data, &Asked { range, ..asked.clone() })
    })
}

fn cut_in_blocks() {
    let data = random(500_000);
    let served = data.clone();
    let server = WebServer::start(move |_, asked| {
        let Answer(mut bytes, _) = plain(&served, asked);
        bytes.truncate(10_000);
        Answer(bytes, true)
    });
    let events = Torrent::of(&data, &server.url("/f")).download("less than a block at a time", &[]);
    assert_eq!(said(&events), []);
    assert_eq!(summary(&events)["downloaded"], data.len(), "nothing comes twice");
    assert!(server.asked().len() <= data.len() / 9000, "{}", server.asked().len());
}

fn busy() {
    let data = random(300_000);
    for (code, header) in
        [("503 Busy", "Retry-After: 1"), ("429 Slow Down", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT")]
    {
        let served = data.clone();
        let server = WebServer::start(move |number, asked| match number {
            1 => Answer(with_head(&format!("HTTP/1.1 {code}\r\n{header}\r\nContent-Length: 0"), b""), false),
            _ => plain(&served, asked),
        });
        let torrent = Torrent::of(&data, &server.url("/f"));
        let events = torrent.download(code, &[]);
        assert_eq!(said(&events)[0].1, format!("HTTP status {}: asked again in 1 s", &code[..3]));
    }
}

fn names() {
    let items =
        vec![Item::new("a b/c+d%20.txt", 100_000), Item::new("\u{e4}/#?&;", 70_000), Item::new("e", 0)];
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("/pub/t%20%C3%A4/a%20b/c%2Bd%2520.txt", items[0].data.clone()),
        ("/pub/t%20%C3%A4/%C3%A4/%23%3F%26%3B", items[1].data.clone()),
    ];
    let served = files.clone();
    let server =
        WebServer::start(move |_, asked| match served.iter().find(|(path, _)| *path == asked.path) {
            Some((_, data)) => plain(data, asked),
            None => status("404 Not Found"),
        });
    let torrent = Torrent::new(items, false, &[server.url("/pub/")], &[]);
    torrent.download("several files", &[]);
    let mut paths: Vec<String> = server.asked().into_iter().map(|asked| asked.path).collect();
    paths.sort();
    assert_eq!(paths, ["/pub/t%20%C3%A4/%C3%A4/%23%3F%26%3B", "/pub/t%20%C3%A4/a%20b/c%2Bd%2520.txt"]);
    let data = random(1000);
    for (base, path) in [("/x/", "/x/f%20%2B%25"), ("/x/y?k=v", "/x/y?k=v")] {
        let served = data.clone();
        let server = WebServer::start(move |_, asked| plain(&served, asked));
        let torrent = Torrent::of(&data, "http://127.0.0.1:1/nobody");
        torrent.download(path, &["--webseed", &server.url(base)]);
        assert_eq!(server.asked()[0].path, path);
    }
}

fn credentials() {
    let data = random(100_000);
    let served = data.clone();
    let elsewhere = WebServer::start(move |_, asked| plain(&served, asked));
    let target = elsewhere.url("/there");
    let server = WebServer::start(move |_, asked| match asked.path.as_str() {
        "/f" => Answer(with_head("HTTP/1.1 302 Found\r\nLocation: /g\r\nContent-Length: 0", b""), false),
        _ => Answer(
            with_head(&format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0"), b""),
            false,
        ),
    });
    let torrent = Torrent::of(&data, &server.url("/f").replace("//", "//user:wo%20rd@"));
    let events = torrent.download("credentials", &["--events", "debug"]);
    let has = |asked: &Asked| {
        asked
            .headers
            .iter()
            .any(|header| header.eq_ignore_ascii_case("authorization: Basic dXNlcjp3byByZA=="))
    };
    assert!(server.asked().iter().all(has), "{:?}", server.asked());
    assert!(
        !elsewhere.asked().is_empty()
            && !format!("{:?}", elsewhere.asked()).to_lowercase().contains("authorization")
    );
    assert!(!format!("{events:?}").contains("wo%20rd"));
    let refused = WebServer::start(|_, _| status("401 Unauthorized"));
    let torrent = Torrent::of(&data, &refused.url("/f").replace("//", "//user:wo%20rd@"));
    let (_, events) = torrent.run(&["--stall-timeout", "1s"]);
    assert_eq!(said(&events)[0].0, refused.url("/f").replace("//", "//***@"));
}

fn redirects() {
    let data = random(100_000);
    let server = WebServer::start(|number, _| {
        Answer(
            with_head(&format!("HTTP/1.1 302 Found\r\nLocation: /{number}\r\nContent-Length: 0"), b""),
            false,
        )
    });
    let torrent = Torrent::of(&data, &server.url("/f"));
    let (code, events) = torrent.run(&["--stall-timeout", "3s"]);
    assert_eq!((code, server.asked().len()), (5, 6));
    assert!(said(&events)[0].1.contains("more than 5 redirects"));
    let server = WebServer::start(|_, _| {
        Answer(
            with_head("HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1/f\r\nContent-Length: 0", b""),
            false,
        )
    });
    let torrent = Torrent::of(&data, &server.url("/f"));
    let (_, events) = torrent.run(&["--stall-timeout", "1s"]);
    assert!(said(&events)[0].1.contains("not an http URL"));
}

fn corrupt() {
    let data = random(1_000_000);
    let mut wrong = data.clone();
    wrong[500_000] ^= 1;
    let bad = WebServer::start(move |_, asked| plain(&wrong, asked));
    let alone = Torrent::of(&data, &bad.url("/f"));
    let (code, events) = alone.run(&["--stall-timeout", "2s"]);
    assert_eq!(code, 5);
    assert!(said(&events)[0].1.starts_with("sent corrupt data of piece 7"), "{:?}", said(&events));
    let asked = bad.asked().len();
    let served = data.clone();
    let good = WebServer::start(move |_, asked| plain(&served, asked));
    let item = Item { data: data.clone(), ..Item::new("f", 0) };
    let both = Torrent::new(vec![item], true, &[bad.url("/f"), good.url("/f")], &[]);
    both.download("another seed has it", &[]);
    // Before that is known, other parts of it may be asked for in any number of runs.
    let holds = |asked: &&Asked| asked.range.is_none_or(|(from, to)| (from..to).contains(&500_000));
    let asked = bad.asked().split_off(asked);
    assert!(asked.iter().filter(holds).count() <= 1, "what is corrupt is asked for again: {asked:?}");
}

fn pads() {
    let items = vec![Item::new("a", 100_000), Item::pad(PIECE * 2 - 100_000), Item::new("b", 50_000)];
    let files: Vec<Vec<u8>> = items.iter().map(|item| item.data.clone()).collect();
    let server = WebServer::start(move |_, asked| match asked.path.rsplit('/').next() {
        Some("a") => plain(&files[0], asked),
        Some("b") => plain(&files[2], asked),
        _ => status("404 Not Found"),
    });
    let torrent = Torrent::new(items, false, &[server.url("/")], &[]);
    torrent.download("pads", &[]);
    assert!(server.asked().iter().all(|asked| !asked.path.contains(".pad")), "{:?}", server.asked());
}

fn by_piece() {
    let data = random(PIECE * 5 + 100);
    let served = data.clone();
    let server = WebServer::start(move |number, asked| {
        let value = |key: &str| {
            let query = asked.path.split_once('?').unwrap().1;
            query.split('&').find_map(|pair| pair.strip_prefix(key)).map(str::to_owned)
        };
        let piece: usize = value("piece=").unwrap().parse().unwrap();
        assert!(value("info_hash=").unwrap().contains('%'));
        let bytes = &served[piece * PIECE..served.len().min((piece + 1) * PIECE)];
        let bytes = match value("ranges=") {
            Some(range) => {
                let (from, to) = range.split_once('-').unwrap();
                &bytes[from.parse().unwrap()..to.parse::<usize>().unwrap() + 1]
            }
            None => bytes,
        };
        match number {
            2 => Answer(with_head("HTTP/1.1 503 Busy\r\nContent-Length: 1", b"1"), false),
            _ => Answer(
                with_head(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}", bytes.len()), bytes),
                false,
            ),
        }
    });
    let item = Item { data: data.clone(), ..Item::new("f", 0) };
    let torrent = Torrent::new(vec![item], true, &[], &[server.url("/seed.php")]);
    let events = torrent.download("by piece", &[]);
    assert_eq!(said(&events)[0].1, "HTTP status 503: asked again in 1 s");
}

fn none() {
    let data = random(100_000);
    let server = WebServer::start(|_, _| status("404 Not Found"));
    let torrent = Torrent::of(&data, &server.url("/f"));
    assert_eq!(torrent.run(&["--no-webseeds", "--stall-timeout", "1s"]).0, 5);
    assert_eq!(torrent.run(&["--no-webseeds", "--webseed", &server.url("/")]).0, 2);
    assert_eq!(torrent.run(&["--webseed", "http://u:secret@h/\r\n"]).0, 2);
    assert_eq!(torrent.run(&["--hashcheck-only"]).0, 2, "--no-seed is for downloads");
    assert!(server.asked().is_empty());
}

fn silent() {
    let data = random(300_000);
    let served = data.clone();
    let server = WebServer::start(move |_, asked| {
        let Answer(mut bytes, _) = plain(&served, asked);
        bytes.truncate(150_000);
        Answer(bytes, false)
    });
    let torrent = Torrent::of(&data, &server.url("/f"));
    let (code, events) = torrent.run(&["--stall-timeout", "2s"]);
    assert_eq!(code, 5);
    assert!(summary(&events)["done"].as_u64().unwrap() >= PIECE as u64, "what came before counts");
}

/// A byte now and then is no new data: no block will be whole for an hour.
fn trickling() {
    let data = random(300_000);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/f", listener.local_addr().unwrap());
    let served = data.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let served = served.clone();
            thread::spawn(move || trickle(&stream.unwrap(), &served));
        }
    });
    let torrent = Torrent::of(&data, &url);
    let (code, events) = torrent.run(&["--stall-timeout", "3s"]);
    assert_eq!(code, 5);
    assert_eq!(summary(&events)["done"].as_u64(), Some(0));
}

/// Answers whatever is asked with the whole file, of which a byte comes each 50 ms, for as long as anybody listens.
fn trickle(mut stream: &TcpStream, data: &[u8]) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    lines.by_ref().find(String::is_empty)?;
    stream.write_all(&with_head(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}", data.len()), b"")).ok()?;
    for byte in data {
        stream.write_all(&[*byte]).ok()?;
        thread::sleep(Duration::from_millis(50));
    }
    Some(())
}

fn rate() {
    let data = random(600_000);
    let served = data.clone();
    let server = WebServer::start(move |_, asked| plain(&served, asked));
    let torrent = Torrent::of(&data, &server.url("/f"));
    let events = torrent.download("limited", &["--max-download-rate", "300K"]);
    let elapsed = summary(&events)["elapsed"].as_f64().unwrap();
    assert!(elapsed > 1.5, "600 kB at 300 KiB/s took {elapsed} s");
}

fn killed() {
    let data = random(4 * 1024 * 1024);
    let served = data.clone();
    let server = WebServer::start(move |_, asked| plain(&served, asked));
    let torrent = Torrent::of(&data, &server.url("/f"));
    let mut first = Process::start("btget", &mut torrent.command("data", &["--max-download-rate", "1M"]));
    let story = first.story();
    let passed = |process: &Process| {
        process.events().iter().filter(|event| event["event"] == "piece_hash_passed").count()
    };
    wait_until("some pieces", || story.clone(), || (passed(&first) >= 10).then_some(()));
    first.signal(Signal::KILL);
    first.wait();
    let before = passed(&first);
    let events = torrent.download("after the kill", &[]);
    let again = summary(&events)["downloaded"].as_u64().unwrap();
    assert!(again <= (data.len() - before * PIECE) as u64, "{again} bytes after {before} pieces");
}

/// Files that one job brings.
const FILES: usize = 40;

/// A torrent of [`FILES`] short files.
fn short_files(url: String) -> Torrent {
    Torrent::new((0..FILES).map(short_file).collect(), false, &[url], &[])
}

fn short_file(number: usize) -> Item {
    Item::new(&number.to_string(), 10_000 + number)
}

/// What a server is to do with a request.
enum Turn {
    /// Send this.
    Say(Vec<u8>),
    /// Send this, and close.
    Last(Vec<u8>),
    /// Close.
    Close,
    /// Send this, and lose the requests that have come until then.
    Lose(Vec<u8>),
}

/// A server that looks at the row of requests: `turn` gets the number of the request on its connection, from 1, the request, whether others have come
/// behind it, and the plain answer.
struct RowServer {
    address: SocketAddr,
    /// What was asked for, by connection.
    rows: Arc<Mutex<Vec<Vec<String>>>>,
    /// Times that a request had another one behind it.
    ahead: Arc<AtomicUsize>,
}

impl RowServer {
    /// `patience`: how long another request is waited for before each answer but the last, the first two, and the fourth of all: two are sent when the
    /// second answer comes, and have to be answered before others are.
    fn start(
        patience: Duration,
        turn: impl Fn(usize, &Asked, Vec<u8>) -> Turn + Send + Sync + 'static,
    ) -> RowServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = RowServer { address, rows: Arc::default(), ahead: Arc::default() };
        let (rows, ahead, turn) = (server.rows.clone(), server.ahead.clone(), Arc::new(turn));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (rows, ahead, turn) = (rows.clone(), ahead.clone(), turn.clone());
                thread::spawn(move || serve_row(&stream.unwrap(), patience, &rows, &ahead, &*turn));
            }
        });
        server
    }

    fn torrent(&self) -> Torrent {
        short_files(format!("http://{}/", self.address))
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.rows.lock().unwrap().clone()
    }

    fn requests(&self) -> usize {
        self.rows().iter().map(Vec::len).sum()
    }

    fn times(&self, file: &str) -> usize {
        self.rows().iter().flatten().filter(|path| path.ends_with(file)).count()
    }
}

/// Requests as they come, read on a thread of their own.
fn requests_of(stream: &TcpStream) -> Receiver<Asked> {
    let (sender, receiver) = channel();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    thread::spawn(move || {
        while let Some(asked) = next_asked(&mut lines) {
            if sender.send(asked).is_err() {
                return;
            }
        }
    });
    receiver
}

fn serve_row(
    mut stream: &TcpStream,
    patience: Duration,
    rows: &Mutex<Vec<Vec<String>>>,
    ahead: &AtomicUsize,
    turn: &dyn Fn(usize, &Asked, Vec<u8>) -> Turn,
) {
    let place = {
        let mut rows = rows.lock().unwrap();
        rows.push(Vec::new());
        rows.len() - 1
    };
    let (requests, mut behind, mut number) = (requests_of(stream), None, 0);
    let note = |asked: Asked| {
        rows.lock().unwrap()[place].push(asked.path.clone());
        asked
    };
    while let Some(asked) = behind.take().or_else(|| requests.recv().ok().map(note)) {
        number += 1;
        let is_alone = number <= 2 || (place == 0 && number == 4);
        if !is_alone && !asked.path.ends_with(&format!("/{}", FILES - 1)) {
            behind = requests.recv_timeout(patience).ok().map(note);
            ahead.fetch_add(behind.is_some().into(), Ordering::Relaxed);
        }
        let file: usize = asked.path.rsplit('/').next().unwrap().parse().unwrap_or_default();
        let Answer(plain, _) = plain(&short_file(file).data, &asked);
        let (bytes, closes) = match turn(number, &asked, plain) {
            Turn::Say(bytes) => (bytes, false),
            Turn::Last(bytes) => (bytes, true),
            Turn::Close => return drop(stream.shutdown(Shutdown::Both)),
            Turn::Lose(bytes) => {
                behind = None;
                requests.try_iter().map(note).for_each(drop);
                (bytes, false)
            }
        };
        if stream.write_all(&bytes).is_err() || closes {
            return drop(stream.shutdown(Shutdown::Both));
        }
    }
}

/// How long a server waits for a request that is to come.
const PATIENT: Duration = Duration::from_secs(10);
/// And for one that is not.
const BRIEF: Duration = Duration::from_millis(20);

/// What a server does with the number of a request on its connection, and the plain answer to it.
type Script = Box<dyn Fn(usize, Vec<u8>) -> Turn + Send + Sync>;

fn ahead() {
    let gzip = |plain: &[u8]| {
        let body = plain.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let no_range = Asked { path: String::new(), range: None, headers: Vec::new() };
        gzipped(&plain[body..], &no_range).0
    };
    let interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".as_slice();
    let ways: [(&str, Script); 3] = [
        ("plain", Box::new(|_, plain| Turn::Say(plain))),
        (
            "some packed",
            Box::new(move |number, plain| Turn::Say(if number % 3 == 0 { gzip(&plain) } else { plain })),
        ),
        ("with interim answers", Box::new(move |_, plain| Turn::Say([interim, &plain].concat()))),
    ];
    for (name, way) in ways {
        let server = RowServer::start(PATIENT, move |number, _, plain| way(number, plain));
        let events = server.torrent().download(name, &[]);
        assert_eq!(said(&events), [], "{name}");
        assert_eq!(
            (server.rows().len(), server.requests()),
            (1, FILES),
            "{name}: nothing is asked for twice"
        );
        assert_eq!(server.ahead.load(Ordering::Relaxed), FILES - 4, "{name}: each had another one behind it");
    }
}

fn not_ahead() {
    let old = |plain: Vec<u8>| {
        let text = b"HTTP/1.0 200 OK\r\nConnection: keep-alive";
        [text, &plain["HTTP/1.1 200 OK".len()..]].concat()
    };
    let said_close = |plain: Vec<u8>| {
        [b"HTTP/1.1 200 OK\r\nConnection: x, Close", &plain["HTTP/1.1 200 OK".len()..]].concat()
    };
    let ways: [(&str, Script); 2] = [
        ("HTTP/1.0", Box::new(move |_, plain| Turn::Say(old(plain)))),
        ("it closes", Box::new(move |_, plain| Turn::Last(said_close(plain)))),
    ];
    for (name, way) in ways {
        let server = RowServer::start(BRIEF, move |number, _, plain| way(number, plain));
        let events = server.torrent().download(name, &[]);
        assert_eq!(said(&events), [], "{name}");
        assert_eq!((server.requests(), server.ahead.load(Ordering::Relaxed)), (FILES, 0), "{name}");
    }
}

/// However a connection ends, the download goes on at once, without a fault of the seed, and what is asked for in vain is little.
fn left_unanswered() {
    let close = |plain: Vec<u8>| {
        [b"HTTP/1.1 200 OK\r\nConnection: close", &plain["HTTP/1.1 200 OK".len()..]].concat()
    };
    let every = |most: usize, last: fn(Vec<u8>) -> Turn| -> Script {
        Box::new(move |number, plain| if number < most { Turn::Say(plain) } else { last(plain) })
    };
    let ways: [(&str, usize, Script); 5] = [
        ("it closes after each", 1, every(1, Turn::Last)),
        ("it closes after some", 7, every(7, Turn::Last)),
        ("it closes instead of an answer", 7, every(8, |_| Turn::Close)),
        (
            "it says that it closes",
            7,
            Box::new(
                move |number, plain| if number < 7 { Turn::Say(plain) } else { Turn::Last(close(plain)) },
            ),
        ),
        (
            "it sends more than it should",
            7,
            every(7, |plain| Turn::Say([plain.as_slice(), b"and more"].concat())),
        ),
    ];
    for (name, bears, way) in ways {
        let server = RowServer::start(BRIEF, move |number, _, plain| way(number, plain));
        let events = server.torrent().download(name, &[]);
        assert_eq!(said(&events), [], "{name}");
        let in_vain = server.requests() - FILES;
        assert!(
            in_vain <= 2 * bears + FILES.div_ceil(bears),
            "{name}: {in_vain} in vain: {:?}",
            server.rows()
        );
        let ahead = server.ahead.load(Ordering::Relaxed);
        assert!(bears == 1 || ahead > FILES / 2, "{name}: {ahead} ahead");
    }
}

fn lost() {
    let server = RowServer::start(BRIEF, |_, _, plain| Turn::Lose(plain));
    let events = server.torrent().download("it loses requests", &[]);
    assert_eq!(said(&events), []);
    assert!(server.rows().len() <= 2 && server.requests() <= FILES + 2, "{:?}", server.rows());
}

fn error_in_row() {
    let server = RowServer::start(BRIEF, |_, asked, plain| match asked.path.rsplit('/').next() {
        Some("20") => Turn::Say(status("404 Not Found").0),
        _ => Turn::Say(plain),
    });
    let torrent = server.torrent();
    let (code, events) = torrent.run(&["--stall-timeout", "3s"]);
    assert_eq!(code, 5);
    let said = said(&events);
    assert!(
        said.len() == 1 && said[0].0.ends_with("/20") && said[0].1.starts_with("HTTP status 404"),
        "{said:?}"
    );
    assert_eq!(server.times("/20"), 1, "{:?}", server.rows());
    // All pieces but the one or two that it is of.
    let left = summary(&events)["left"].as_u64().unwrap() as usize;
    assert!(left <= 2 * PIECE, "{left} bytes left");
    assert!(server.requests() <= FILES + 64, "{:?}", server.rows());
    let is_busy = AtomicBool::new(true);
    let busy = RowServer::start(BRIEF, move |_, asked, plain| match asked.path.rsplit('/').next() {
        Some("20") if is_busy.swap(false, Ordering::Relaxed) => {
            let head = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0";
            Turn::Say(with_head(head, b""))
        }
        _ => Turn::Say(plain),
    });
    let events = busy.torrent().download("busy", &[]);
    assert_eq!(self::said(&events)[0].1, "HTTP status 503: asked again in 1 s");
    assert_eq!(busy.times("/20"), 2, "{:?}", busy.rows());
}

fn redirect_in_row() {
    let server = RowServer::start(BRIEF, |_, asked, plain| match asked.path.as_str() {
        path if path.ends_with("/20") && !path.starts_with("/moved") => {
            Turn::Say(with_head("HTTP/1.1 302 Found\r\nLocation: /moved/20\r\nContent-Length: 0", b""))
        }
        _ => Turn::Say(plain),
    });
    let events = server.torrent().download("one is elsewhere", &[]);
    assert_eq!(said(&events), []);
    assert_eq!(server.times("/moved/20"), 1);
    assert_eq!(server.times("/20"), 2, "{:?}", server.rows());
    let rows = server.rows();
    let moved = rows.iter().flatten().position(|path| path == "/moved/20").unwrap();
    let before: Vec<&String> = rows.iter().flatten().take(moved).collect();
    assert!(before.len() <= 20 + 1 + 2 * 20, "what was behind it is little: {rows:?}");
}

/// The answers behind it look like those to the requests in front of them.
fn skipped() {
    let is_first = AtomicBool::new(true);
    let server = RowServer::start(BRIEF, move |number, _, plain| match number {
        20 if is_first.swap(false, Ordering::Relaxed) => Turn::Say(Vec::new()),
        _ => Turn::Say(plain),
    });
    let events = server.torrent().download("a request is skipped", &[]);
    assert_eq!(said(&events), []);
}

/// A redirect whose body never comes, and data behind which comes one trailer after the other.
fn endless() {
    let data = random(200_000);
    let served = data.clone();
    let server = WebServer::start(move |_, asked| {
        if asked.path == "/f" {
            let head = "HTTP/1.1 302 Found\r\nLocation: /moved\r\nContent-Length: 150";
            return Answer(with_head(head, b""), false);
        }
        let Answer(mut bytes, _) = chunked(&served, asked);
        bytes.truncate(bytes.len() - 2);
        bytes.extend(b"X: y\r\n".repeat(100_000));
        Answer(bytes, false)
    });
    let torrent = Torrent::of(&data, &server.url("/f"));
    let events = torrent.download("without end", &[]);
    let elapsed = summary(&events)["elapsed"].as_f64().unwrap();
    assert!(said(&events).is_empty() && elapsed < 10.0, "{elapsed} s, {:?}", said(&events));
}

/// What is asked for comes, if only into the kernel's buffers: it has to wait for its time.
fn row_under_limit() {
    const RATE: usize = 100 << 10;
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = times.clone();
    let server = RowServer::start(BRIEF, move |_, _, plain| {
        noted.lock().unwrap().push(Instant::now());
        Turn::Say(plain)
    });
    server.torrent().download("under a limit", &["--max-download-rate", "100K"]);
    let times = times.lock().unwrap().clone();
    assert_eq!(times.len(), FILES, "nothing is asked for twice");
    let mut asked = 0;
    for (number, at) in times.iter().enumerate() {
        let due = RATE + (at.duration_since(times[0]).as_secs_f64() * RATE as f64) as usize;
        assert!(asked <= due, "{asked} bytes before request {number}, {due} due");
        asked += short_file(number).data.len();
    }
}

/// A range of a packed file is none of the file: it is asked for again later.
fn packed_range() {
    let data = random(9 * 1024 * 1024);
    let served = data.clone();
    let server = WebServer::start(move |number, asked| match asked.range {
        Some((from, to)) if number == 2 => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&served[from..to]).unwrap();
            let body = encoder.finish().unwrap();
            let head = partial_head(served.len(), from, to);
            let head = format!("{head}\r\nContent-Encoding: gzip\r\nContent-Length: {}", body.len());
            Answer(with_head(&head, &body), false)
        }
        _ => plain(&served, asked),
    });
    let torrent = Torrent::of(&data, &server.url("/f"));
    let events = torrent.download("packed", &[]);
    let said = said(&events);
    assert!(said.len() == 1 && said[0].1.contains("gzip"), "{said:?}");
    assert_eq!(summary(&events)["downloaded"], data.len(), "nothing is taken that does not count");
}

/// Starts nginx on a folder; gives its URL.
fn nginx(root: &Path, tls: bool) -> (Process, String) {
    let work = root.join("nginx");
    fs::create_dir(&work).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("{what}_temp_path {}; ", work.display()))
        .collect();
    let certificate = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/localhost.pem");
    let (listen, keys) = match tls {
        true => (
            format!("{free} ssl"),
            format!("ssl_certificate {certificate}; ssl_certificate_key {certificate};"),
        ),
        false => (free.to_string(), String::new()),
    };
    let configuration = format!(
        "daemon off; master_process off; error_log stderr error; pid {}/pid; events {{}} \
         http {{ log_format ahead '$pipe'; access_log {}/ahead ahead; {temporary} server {{ listen {listen}; root {}; {keys} }} }}",
        work.display(),
        work.display(),
        root.join("root").display()
    );
    fs::write(work.join("conf"), configuration).unwrap();
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-p"]).arg(&work).arg("-c").arg(work.join("conf"));
    let process = Process::start("nginx", &mut command);
    wait_until("nginx", || process.story(), || TcpStream::connect(free).ok());
    (process, format!("{}://{free}/", if tls { "https" } else { "http" }))
}

/// Asserts that most requests for [`files`] were there before nginx had answered those in front of them.
fn assert_asked_ahead(root: &Path) {
    let log = fs::read_to_string(root.join("nginx/ahead")).unwrap();
    let ahead = log.lines().filter(|line| *line == "p").count();
    assert!(ahead > 100, "{ahead} of {}", log.lines().count());
}

/// The files of a torrent below the root of a server.
fn put_files(root: &Path, items: &[Item]) {
    for item in items {
        let parts = item.path.iter().map(|part| std::str::from_utf8(part).unwrap());
        let path = root.join("root").join("t \u{e4}").join(parts.collect::<Vec<_>>().join("/"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &item.data).unwrap();
    }
}

fn files() -> Vec<Item> {
    let mut items: Vec<Item> =
        (0..300).map(|n| Item::new(&format!("s {}/f+{n}", n % 7), 1000 + 37 * n)).collect();
    items.push(Item::new("large", 6 * 1024 * 1024));
    items.push(Item::new("z", 12_345));
    items
}

fn from_nginx() {
    let root = TempDir::new().unwrap();
    let items = files();
    put_files(root.path(), &items);
    let (_server, url) = nginx(root.path(), false);
    let torrent = Torrent::new(items, false, &[url], &[]);
    let events = torrent.download("nginx", &[]);
    assert_eq!(said(&events), []);
    assert_asked_ahead(root.path());
}

fn from_nginx_by_tls() {
    let root = TempDir::new().unwrap();
    let items = files();
    put_files(root.path(), &items);
    let (_server, url) = nginx(root.path(), true);
    let torrent = Torrent::new(items, false, &[url], &[]);
    let (code, events) = torrent.run(&["--stall-timeout", "1s"]);
    assert_eq!(code, 5);
    assert!(said(&events)[0].1.starts_with("TLS: "), "nobody vouches for it: {:?}", said(&events));
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/localhost.pem");
    let process = Process::start("btget", torrent.command("data", &[]).env("SSL_CERT_FILE", authority));
    let (code, events) = torrent.end_of(process);
    assert_eq!((code, said(&events)), (0, Vec::new()));
    torrent.assert_right("over TLS");
    assert_asked_ahead(root.path());
}

fn from_python() {
    let root = TempDir::new().unwrap();
    let items = files();
    put_files(root.path(), &items);
    let folder = root.path().join("root");
    let mut command = Command::new("python3");
    command.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory"]).arg(&folder).arg("0");
    let mut server = Process::start("http.server", &mut command);
    server.wait_for_line(&["Serving HTTP"]);
    let line = server.lines().into_iter().find(|line| line.contains("Serving HTTP")).unwrap();
    let port: u16 = line.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    let torrent = Torrent::new(items, false, &[format!("http://127.0.0.1:{port}/")], &[]);
    let events = torrent.download("http.server", &[]);
    let size: u64 = torrent.items.iter().map(|item| item.data.len() as u64).sum();
    assert_eq!(summary(&events)["downloaded"], size, "each file is read once");
}
