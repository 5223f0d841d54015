//! A small HTTP tracker (BEP 3, 7, 23) on loopback, for tests and the quick-start example.
//!
//! It keeps swarms, answers compact and plain, records every announce for assertions, and misbehaves when
//! told to. A peer's address is the source of its connection and the port that it announces. Needs nothing
//! but std; to be included by `#[path = "support/tracker.rs"] mod tracker;`. Not for the open internet: each
//! connection has a thread, and nothing is bounded but the head of a request and the time it may take.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of a request's head.
const MAX_HEAD: u64 = 32 * 1024;

/// The longest that a connection is served, however it misbehaves.
const MAX_TIME: Duration = Duration::from_secs(60);

/// How the tracker treats whoever asks.
#[derive(Clone, Debug)]
pub enum Manners {
    /// Answers as it should.
    Good,
    /// Refuses with this `failure reason`.
    Refuse(String),
    /// Answers with this body and status 200.
    Body(Vec<u8>),
    /// Answers with this status and body.
    Status(u16, Vec<u8>),
    /// Redirects there; `{query}` stands for the query of the request.
    Redirect(String),
    /// Sends these bytes, whatever they are, and closes.
    Raw(Vec<u8>),
    /// Sends these bytes, then a byte every 20 ms without end.
    Drip(Vec<u8>),
    /// Sends these bytes, then as much as goes through without end.
    Flood(Vec<u8>),
    /// Reads the request and says nothing.
    Hang,
    /// Reads the request and closes.
    Close,
}

/// One announce as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announce {
    pub info_hash: Vec<u8>,
    pub peer_id: Vec<u8>,
    /// The source of the connection and the announced port.
    pub address: SocketAddr,
    /// `started`, `completed`, `stopped`, or empty.
    pub event: String,
    pub uploaded: u64,
    pub downloaded: u64,
    pub left: u64,
    pub numwant: Option<usize>,
    pub compact: bool,
    pub key: Option<String>,
    pub tracker_id: Option<Vec<u8>>,
    /// The request's path with its query.
    pub target: String,
    /// Header names in lower case.
    pub headers: BTreeMap<String, String>,
}

struct Peer {
    address: SocketAddr,
    left: u64,
}

/// By peer id and whether the address is IPv6: who announces over both has two entries.
type Swarm = BTreeMap<(Vec<u8>, bool), Peer>;

struct State {
    manners: Manners,
    interval: u32,
    min_interval: Option<u32>,
    tracker_id: Option<Vec<u8>>,
    warning: Option<String>,
    /// By info hash.
    swarms: BTreeMap<Vec<u8>, Swarm>,
    announces: Vec<Announce>,
    connections: usize,
    is_over: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A running tracker; it ends when dropped.
pub struct Tracker {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

impl Tracker {
    /// On 127.0.0.1, at a port of the system's choice.
    pub fn start() -> Tracker {
        Tracker::start_on(Ipv4Addr::LOCALHOST.into()).expect("127.0.0.1 can be listened on")
    }

    /// On ::1; an error where the machine has no IPv6.
    pub fn start_v6() -> io::Result<Tracker> {
        Tracker::start_on(Ipv6Addr::LOCALHOST.into())
    }

    /// On this address, at a port of the system's choice.
    pub fn start_on(address: IpAddr) -> io::Result<Tracker> {
        let socket = TcpListener::bind((address, 0))?;
        let address = socket.local_addr()?;
        let state = State {
            manners: Manners::Good,
            interval: 1800,
            min_interval: None,
            tracker_id: None,
            warning: None,
            swarms: BTreeMap::new(),
            announces: Vec::new(),
            connections: 0,
            is_over: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let listener = std::thread::spawn({
            let shared = shared.clone();
            move || listen(&socket, &shared)
        });
        Ok(Tracker { address, shared, listener: Some(listener) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its announce URL.
    pub fn url(&self) -> String {
        format!("http://{}/announce", self.address)
    }

    /// How it treats whoever asks from now on.
    pub fn set_manners(&self, manners: Manners) {
        self.state().manners = manners;
    }

    /// The intervals it gives, in seconds; 1800 and none to begin with.
    pub fn set_interval(&self, interval: u32, min_interval: Option<u32>) {
        let mut state = self.state();
        state.interval = interval;
        state.min_interval = min_interval;
    }

    /// The `tracker id` that it gives.
    pub fn set_tracker_id(&self, id: &[u8]) {
        self.state().tracker_id = Some(id.to_vec());
    }

    /// The `warning message` that it gives.
    pub fn set_warning(&self, warning: &str) {
        self.state().warning = Some(warning.to_owned());
    }

    /// Puts a peer into a swarm as if it had announced itself.
    pub fn add_peer(&self, info_hash: &[u8], peer_id: &[u8], address: SocketAddr, left: u64) {
        let key = (peer_id.to_vec(), address.is_ipv6());
        self.state().swarms.entry(info_hash.to_vec()).or_default().insert(key, Peer { address, left });
    }

    /// Every announce so far, in order, those that were answered badly included.
    pub fn announces(&self) -> Vec<Announce> {
        self.state().announces.clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    /// Waits until the announces are as asked; false if they are not in time.
    pub fn wait_for(&self, time: Duration, mut is_so: impl FnMut(&[Announce]) -> bool) -> bool {
        let guard = self.state();
        let waited = self.shared.changed.wait_timeout_while(guard, time, |state| !is_so(&state.announces));
        !waited.expect("no thread of the tracker panics").1.timed_out()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.state().is_over = true;
        self.shared.changed.notify_all();
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the tracker panics")
    }
}

fn listen(socket: &TcpListener, shared: &Arc<Shared>) {
    for stream in socket.incoming() {
        let mut state = shared.lock();
        if state.is_over {
            return;
        }
        state.connections += 1;
        drop(state);
        if let Ok(stream) = stream {
            let shared = shared.clone();
            // Whatever goes wrong with a connection is the other side's matter.
            std::thread::spawn(move || serve(stream, &shared));
        }
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let until = Instant::now() + MAX_TIME;
    stream.set_read_timeout(Some(MAX_TIME))?;
    stream.set_write_timeout(Some(MAX_TIME))?;
    let (target, headers) = read_head(&stream)?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let announce = parse(&target, query, headers, stream.peer_addr()?.ip());
    let manners = shared.lock().manners.clone();
    let answer = match (path, announce) {
        ("/announce", Ok(announce)) => {
            let mut state = shared.lock();
            let answer = state.answer(&announce);
            state.announces.push(announce);
            shared.changed.notify_all();
            answer
        }
        ("/announce", Err(missing)) => bencoded_failure(&format!("missing or wrong: {missing}")),
        _ => return respond(&mut stream, 404, "", b"not found"),
    };
    match manners {
        Manners::Good => respond(&mut stream, 200, "", &answer),
        Manners::Refuse(reason) => respond(&mut stream, 200, "", &bencoded_failure(&reason)),
        Manners::Body(body) => respond(&mut stream, 200, "", &body),
        Manners::Status(status, body) => respond(&mut stream, status, "", &body),
        Manners::Redirect(location) => {
            let location = location.replace("{query}", query);
            respond(&mut stream, 302, &format!("Location: {location}\r\n"), b"")
        }
        Manners::Raw(bytes) => stream.write_all(&bytes),
        Manners::Drip(bytes) => {
            stream.write_all(&bytes)?;
            while Instant::now() < until && shared.wait(Duration::from_millis(20)) {
                stream.write_all(b"x")?;
            }
            Ok(())
        }
        Manners::Flood(bytes) => {
            stream.write_all(&bytes)?;
            while Instant::now() < until && shared.wait(Duration::ZERO) {
                stream.write_all(&[b'x'; 65536])?;
            }
            Ok(())
        }
        Manners::Hang => {
            while Instant::now() < until && shared.wait(Duration::from_millis(20)) {}
            Ok(())
        }
        Manners::Close => Ok(()),
    }
}

impl Shared {
    /// Waits for so long; false once the tracker is dropped.
    fn wait(&self, time: Duration) -> bool {
        let state = self.lock();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, time, |state| !state.is_over)
            .expect("no thread of the tracker panics");
        !state.is_over
    }
}

fn read_head(stream: &TcpStream) -> io::Result<(String, BTreeMap<String, String>)> {
    let mut lines = BufReader::new(stream.take(MAX_HEAD)).lines();
    let mut next = || lines.next().unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()));
    let request = next()?;
    let target = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let line = next()?;
        match line.split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => return Ok((target, headers)),
        };
    }
}

fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n")?;
    stream.write_all(body)
}

/// The announce, or the key that it lacks.
fn parse(
    target: &str,
    query: &str,
    headers: BTreeMap<String, String>,
    ip: IpAddr,
) -> Result<Announce, &'static str> {
    let mut keys = BTreeMap::new();
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        keys.insert(key, percent_decode(value));
    }
    let text = |key: &str| keys.get(key).and_then(|value| std::str::from_utf8(value).ok());
    let number = |key: &'static str| text(key).and_then(|value| value.parse().ok()).ok_or(key);
    let id = |key: &'static str| keys.get(key).filter(|value| value.len() == 20).cloned().ok_or(key);
    let port = text("port").and_then(|port| port.parse().ok()).ok_or("port")?;
    Ok(Announce {
        info_hash: id("info_hash")?,
        peer_id: id("peer_id")?,
        address: SocketAddr::new(ip.to_canonical(), port),
        event: text("event").unwrap_or_default().to_owned(),
        uploaded: number("uploaded")?,
        downloaded: number("downloaded")?,
        left: number("left")?,
        numwant: text("numwant").and_then(|value| value.parse().ok()),
        compact: text("compact") == Some("1"),
        key: text("key").map(str::to_owned),
        tracker_id: keys.get("trackerid").cloned(),
        target: target.to_owned(),
        headers,
    })
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| char::from(byte.unwrap_or_default()).to_digit(16).unwrap_or(0) as u8;
        decoded.push(if byte == b'%' { hex(bytes.next()) << 4 | hex(bytes.next()) } else { byte });
    }
    decoded
}

impl State {
    /// Takes the announcer into its swarm, or out of it, and answers with the others.
    fn answer(&mut self, announce: &Announce) -> Vec<u8> {
        let swarm = self.swarms.entry(announce.info_hash.clone()).or_default();
        let key = (announce.peer_id.clone(), announce.address.is_ipv6());
        match announce.event.as_str() {
            "stopped" => swarm.remove(&key),
            _ => swarm.insert(key, Peer { address: announce.address, left: announce.left }),
        };
        let others = swarm.iter().filter(|((id, _), _)| *id != announce.peer_id);
        let others = others.map(|((id, _), peer)| (id.as_slice(), peer.address));
        let others: Vec<_> = others.take(announce.numwant.unwrap_or(50)).collect();
        let complete = swarm.values().filter(|peer| peer.left == 0).count();
        let mut answer = format!("d8:completei{complete}e10:incompletei{}e", swarm.len() - complete);
        answer.push_str(&format!("8:intervali{}e", self.interval));
        if let Some(min_interval) = self.min_interval {
            answer.push_str(&format!("12:min intervali{min_interval}e"));
        }
        let mut answer = answer.into_bytes();
        write_peers(&others, announce.compact, &mut answer);
        if let Some(id) = &self.tracker_id {
            answer.extend(b"10:tracker id");
            write_string(id, &mut answer);
        }
        if let Some(warning) = &self.warning {
            answer.extend(b"15:warning message");
            write_string(warning.as_bytes(), &mut answer);
        }
        answer.push(b'e');
        answer
    }
}

fn write_peers(peers: &[(&[u8], SocketAddr)], compact: bool, answer: &mut Vec<u8>) {
    answer.extend(b"5:peers");
    if !compact {
        answer.push(b'l');
        for (id, address) in peers {
            answer.extend(b"d2:ip");
            write_string(address.ip().to_string().as_bytes(), answer);
            answer.extend(b"7:peer id");
            write_string(id, answer);
            answer.extend(format!("4:porti{}ee", address.port()).as_bytes());
        }
        answer.push(b'e');
        return;
    }
    let mut peers4 = Vec::new();
    let mut peers6 = Vec::new();
    for (_, address) in peers {
        let port = address.port().to_be_bytes();
        match address.ip() {
            IpAddr::V4(ip) => peers4.extend(ip.octets().into_iter().chain(port)),
            IpAddr::V6(ip) => peers6.extend(ip.octets().into_iter().chain(port)),
        }
    }
    write_string(&peers4, answer);
    if !peers6.is_empty() {
        answer.extend(b"6:peers6");
        write_string(&peers6, answer);
    }
}

fn bencoded_failure(reason: &str) -> Vec<u8> {
    format!("d14:failure reason{}:{reason}e", reason.len()).into_bytes()
}

fn write_string(string: &[u8], into: &mut Vec<u8>) {
    into.extend(format!("{}:", string.len()).as_bytes());
    into.extend(string);
}
