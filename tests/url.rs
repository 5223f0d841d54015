//! A .torrent at a URL: fetched within bounds, and what goes wrong told by exit code and in words.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use btget::event::Unfetched;
use btget::internals::http::{DownloadOptions, download};
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

use support::crafted::{Bench, Item};
use support::tls::{CERTIFICATE, server_config};
use support::tracker::{Manners, Tracker};

/// What is answered to a request for this path; whole, with its head.
type Answer = Box<dyn Fn(&str) -> Vec<u8> + Send>;

/// A server that notes the heads of requests. It ends with the process of the test.
struct Server {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Server {
        Server::run(Box::new(answer), None)
    }

    /// With TLS, by [`CERTIFICATE`].
    fn start_tls(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Server {
        Server::run(Box::new(answer), Some(server_config()))
    }

    fn run(answer: Answer, tls: Option<Arc<rustls::ServerConfig>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, heads) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let noted = heads.clone();
        thread::spawn(move || {
            for link in listener.incoming().map_while(Result::ok) {
                match &tls {
                    None => serve(link, &answer, &noted),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config.clone()).unwrap();
                        serve(rustls::StreamOwned::new(connection, link), &answer, &noted);
                    }
                }
            }
        });
        Server { address, heads }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(link: impl Read + Write, answer: &Answer, noted: &Mutex<Vec<String>>) {
    let mut link = BufReader::new(link);
    let mut head = String::new();
    while link.read_line(&mut head).is_ok_and(|length| length > 2) {}
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    noted.lock().unwrap().push(head);
    // Who does not trust us is gone by now.
    let _ = link.get_mut().write_all(&answer(&path));
    let _ = link.get_mut().flush();
}

fn ok(headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: {to}\r\n\r\n")
        .into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bench() -> Bench {
    Bench::of(16 * 1024, &[Item::new("a", 40_000)])
}

fn btget(url: &str, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
    command.arg(url).args(["--no-lsd", "--bind", "127.0.0.1", "--state-dir", ""]).args(options);
    command.env_remove("SSL_CERT_FILE").output().unwrap()
}

fn shown(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn a_torrent_is_fetched_whatever_its_content_type_and_saved() {
    let bench = bench();
    let torrent = fs::read(bench.torrent()).unwrap();
    let server = Server::start(move |path| match path {
        "/plain" => ok("Content-Type: text/plain\r\n", &torrent),
        "/zipped?x=y" => ok("Content-Encoding: gzip\r\n", &gzip(&torrent)),
        "/old%20one%3C1%3E" => ok("Content-Type: text/html\r\nContent-Encoding: X-GZip\r\n", &gzip(&torrent)),
        "/chunked" => {
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
            [format!("{head}{:x}\r\n", torrent.len()).as_bytes(), &torrent, b"\r\n0\r\n\r\n"].concat()
        }
        "/odd" => {
            let many = "X-Y: z\r\n".repeat(500);
            let head = format!(
                "HTTP/1.1 200 OK\r\n{many}Connection : close\r\nTransfer-Encoding:\r\n chunked\r\n\r\n"
            );
            let size = format!("{:x};signature={}\r\n", torrent.len(), "e".repeat(64));
            [head.as_bytes(), size.as_bytes(), &torrent, b"\r\n0;last\r\nX: y\r\n\r\n"].concat()
        }
        "/far" => redirect("near/1"),
        "/near/1" => redirect("/near/2"),
        "/near/2" => redirect("?3"),
        "/near/2?3" => redirect("4"),
        "/near/4" => redirect("//127.0.0.1:1/nowhere"),
        _ => ok("", b""),
    });
    let saved = bench.place("saved.torrent");
    let output =
        btget(&server.url("/plain"), &["--show", "--json", "--save-torrent", saved.to_str().unwrap()]);
    assert_eq!(shown(&output)["info_hash"], bench.metainfo().info_hash.to_string());
    assert!(fs::read(saved).unwrap() == fs::read(bench.torrent()).unwrap());
    let secret = server.url("/zipped?x=y").replace("http://", "HTTP://me:secret@");
    let output = btget(&secret, &["--show", "--json"]);
    assert_eq!(shown(&output)["name"], "t");
    assert!(server.heads()[1].to_ascii_lowercase().contains("authorization: basic "), "{:?}", server.heads());
    for odd in ["/old one<1>#fragment", "/chunked", "/odd"] {
        assert_eq!(shown(&btget(&server.url(odd), &["--show", "--json"]))["name"], "t", "{odd}");
    }
    let output = btget(&server.url("/far"), &["--show"]);
    assert_eq!(output.status.code(), Some(6), "nobody is there: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.heads().len(), 5 + 5);
}

#[test]
fn a_download_by_url_goes_on_as_that_of_a_file() {
    let bench = bench();
    let _seed = bench.seed(&[]);
    let torrent = fs::read(bench.torrent()).unwrap();
    let server = Server::start(move |_| ok("", &torrent));
    let folder = bench.empty_folder("here");
    let output = btget(&server.url("/x.torrent"), &["--no-seed", "-d", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    bench.assert_just(&folder, &[1]);
}

#[test]
fn what_goes_wrong_is_told_by_exit_code_and_in_words() {
    let server = Server::start(|path| match path {
        "/redirected" => redirect("/redirected"),
        "/elsewhere" => redirect("ftp://x/y"),
        "/denied" => b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/forbidden" => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/broken" => b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/garbage" => b"what do you mean?\r\n\r\n".to_vec(),
        "/packed" => ok("Content-Encoding: br\r\n", b"packed"),
        "/huge" => b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nd4:info".to_vec(),
        "/login" => ok("Content-Type: Text/HTML; charset=utf-8\r\n", b"Please log in"),
        "/unzipped" => ok("Content-Encoding: gzip\r\n", b"no gzip"),
        "/cut" => b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nd4:info".to_vec(),
        "/page" => ok("", b"\n <!DOCTYPE html><html><body>log in</body></html>"),
        "/none" => ok("", b"no torrent"),
        "/empty" => ok("", b""),
        _ => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
    });
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{closed}/x.torrent");
    // No name server is asked for a name that cannot be.
    let unknown = format!("http://{}.test/x.torrent", "x".repeat(64));
    for (url, code, words) in [
        (&server.url("/gone?key=1"), 3, "HTTP status 404"),
        (&nobody, 6, "connection refused"),
        (&server.url("/cut"), 6, "closed before the answer was complete"),
        (&unknown, 19, "check the URL"),
        (&server.url("/garbage"), 22, "the answer is not HTTP"),
        (&server.url("/broken"), 22, "HTTP status 500"),
        (&server.url("/elsewhere"), 22, "not an http URL"),
        (&server.url("/redirected"), 23, "more than 5 redirects"),
        (&server.url("/denied"), 24, "HTTP status 401"),
        (&server.url("/forbidden"), 24, "HTTP status 403"),
        (&server.url("/packed"), 22, "packed by \"br\""),
        (&server.url("/huge"), 22, "larger than 64 MiB"),
        (&server.url("/login"), 26, "it is a web page (HTML) and no .torrent"),
        (&server.url("/page"), 26, "it is a web page (HTML) and no .torrent"),
        (&server.url("/none"), 26, "cannot read http://"),
        (&server.url("/empty"), 26, "cannot read http://"),
    ] {
        let output = btget(url, &["--json", "-d", "/nowhere/at/all"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{url}: {said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{url}: {said}");
        let summary = shown(&output);
        assert_eq!((&summary["event"], &summary["exit_code"]), (&"summary".into(), &code.into()), "{url}");
    }
    let output = btget(&server.url("/unzipped"), &["--show"]);
    assert!(matches!(output.status.code(), Some(6 | 22)), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!Path::new("/nowhere").exists());
}

#[test]
fn an_authority_of_ones_own_is_trusted_by_ssl_cert_file() {
    let bench = bench();
    let torrent = fs::read(bench.torrent()).unwrap();
    let server = Server::start_tls(move |_| ok("", &torrent));
    let url = format!("https://{}/x.torrent", server.address);
    let output = btget(&url, &["--show"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(6) && said.contains("TLS: invalid peer certificate"), "{said}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
    let output = command.args([&url, "--show", "--json"]).env("SSL_CERT_FILE", CERTIFICATE).output().unwrap();
    assert_eq!(shown(&output)["name"], "t");
}

#[test]
fn size_and_time_are_bounded() {
    let bomb = gzip(&vec![b'x'; 1 << 20]);
    let server = Server::start(move |_| ok("Content-Encoding: gzip\r\n", &bomb));
    let fetch = |url: &str, time| {
        download(url, 1 << 19, &DownloadOptions { timeout: time, ..DownloadOptions::from_env() })
    };
    let failure = fetch(&server.url("/"), Duration::from_secs(60)).unwrap_err();
    assert_eq!(failure.kind, Unfetched::BadAnswer, "{failure}");
    let tracker = Tracker::start();
    for manners in [Manners::Hang, Manners::Drip(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())] {
        tracker.set_manners(manners);
        let failure = fetch(&tracker.url(), Duration::from_millis(300)).unwrap_err();
        assert_eq!(failure.kind, Unfetched::Network, "{failure}");
        assert!(failure.reason.contains("within 0.3 s"), "{failure}");
    }
}
