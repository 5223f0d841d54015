//! A proxy of the test's own: SOCKS5 or HTTP. It knows every name, which is that of this machine, and keeps what it is asked for.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a proxy is like.
#[derive(Clone, Default)]
pub struct ProxyManners {
    /// HTTP (`CONNECT`) instead of SOCKS5.
    pub http: bool,
    /// The only user name and password that it takes.
    pub login: Option<(&'static str, &'static str)>,
    /// It carries packets.
    pub udp: bool,
    /// Answers each connection that it is asked for with this code: of SOCKS5, or a status.
    pub refusal: Option<u16>,
    /// Where every name leads; `None`: to loopback.
    pub names: Option<IpAddr>,
    /// Says everything byte by byte.
    pub drips: bool,
}

/// A running proxy.
pub struct TestProxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    /// It has been ended.
    is_over: Arc<AtomicBool>,
    /// Connections to it.
    streams: Arc<Mutex<Vec<TcpStream>>>,
    /// From where it has sent the packets of each association to the world.
    outside: Arc<Mutex<Vec<SocketAddr>>>,
}

impl TestProxy {
    pub fn start(manners: ProxyManners) -> TestProxy {
        TestProxy::start_at("127.0.0.1:0".parse().unwrap(), manners)
    }

    pub fn start_at(address: SocketAddr, manners: ProxyManners) -> TestProxy {
        let listener = TcpListener::bind(address).unwrap();
        let (asked, is_over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (streams, outside) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let proxy = TestProxy {
            address: listener.local_addr().unwrap(),
            asked: asked.clone(),
            is_over: is_over.clone(),
            streams: streams.clone(),
            outside: outside.clone(),
        };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                streams.lock().unwrap().push(stream.try_clone().unwrap());
                let (manners, asked, outside) = (manners.clone(), asked.clone(), outside.clone());
                thread::spawn(move || {
                    // Who goes while it is spoken to is gone.
                    let _ = Caller { stream, manners, asked, outside }.serve();
                });
            }
        });
        proxy
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `connect` or `packet`, and the name or address and the port that it was asked for, each as often as it was.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub fn has_been_asked(&self, what: &str) -> bool {
        self.asked().iter().any(|asked| asked == what)
    }

    /// From where it sends packets of the latest association to the world, by IPv4: who sends something there reaches the client.
    pub fn outside(&self) -> SocketAddr {
        let port = self.outside.lock().unwrap().last().unwrap().port();
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// Closes all connections, and takes none any more.
    pub fn end(self) {
        self.is_over.store(true, Ordering::SeqCst);
        let close = || {
            for stream in self.streams.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        };
        close();
        // The first one wakes it up; then its listener is closed.
        while TcpStream::connect(self.address).is_ok() {
            thread::yield_now();
        }
        close();
    }
}

struct Caller {
    stream: TcpStream,
    manners: ProxyManners,
    asked: Arc<Mutex<Vec<String>>>,
    outside: Arc<Mutex<Vec<SocketAddr>>>,
}

fn nonsense() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

impl Caller {
    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.manners.drips {
            return self.stream.write_all(bytes);
        }
        self.stream.set_nodelay(true)?;
        bytes.iter().try_for_each(|byte| self.stream.write_all(&[*byte]))
    }

    fn read<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn note(&self, what: &str, target: &str) {
        self.asked.lock().unwrap().push(format!("{what} {target}"));
    }

    fn serve(mut self) -> io::Result<()> {
        if self.manners.http { self.serve_http() } else { self.serve_socks5() }
    }

    fn serve_socks5(&mut self) -> io::Result<()> {
        let [5, count] = self.read()? else { return Err(nonsense()) };
        let mut methods = vec![0; count.into()];
        self.stream.read_exact(&mut methods)?;
        match self.manners.login {
            None if methods.contains(&0) => self.say(&[5, 0])?,
            Some((user, password)) if methods.contains(&2) => {
                self.say(&[5, 2])?;
                let [1, length] = self.read()? else { return Err(nonsense()) };
                let mut given = vec![0; length.into()];
                self.stream.read_exact(&mut given)?;
                let [length] = self.read()?;
                let mut word = vec![0; length.into()];
                self.stream.read_exact(&mut word)?;
                let is_right = given == user.as_bytes() && word == password.as_bytes();
                self.say(&[1, u8::from(!is_right)])?;
                if !is_right {
                    return Ok(());
                }
            }
            _ => return self.say(&[5, 0xff]),
        }
        let [5, command, 0] = self.read()? else { return Err(nonsense()) };
        let (shown, target) = self.read_target()?;
        match command {
            1 => {
                self.note("connect", &shown);
                let code = self.manners.refusal.map(|code| code as u8);
                match code.map_or_else(|| TcpStream::connect(target).map_err(|_| 5), Err) {
                    Ok(server) => {
                        self.say(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
                        self.join(server)
                    }
                    Err(code) => self.say(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]),
                }
            }
            3 if self.manners.udp => self.carry(),
            _ => self.say(&[5, 7, 0, 1, 0, 0, 0, 0, 0, 0]),
        }
    }

    /// What it is called, and where it is.
    fn read_target(&mut self) -> io::Result<(String, SocketAddr)> {
        let [kind] = self.read()?;
        let host = match kind {
            1 => IpAddr::from(Ipv4Addr::from(self.read::<4>()?)).to_string(),
            4 => IpAddr::from(Ipv6Addr::from(self.read::<16>()?)).to_string(),
            3 => {
                let [length] = self.read()?;
                let mut name = vec![0; length.into()];
                self.stream.read_exact(&mut name)?;
                String::from_utf8(name).map_err(|_| nonsense())?
            }
            _ => return Err(nonsense()),
        };
        let port = u16::from_be_bytes(self.read()?);
        Ok(self.found(&host, port))
    }

    fn found(&self, host: &str, port: u16) -> (String, SocketAddr) {
        found(host, port, self.manners.names)
    }

    fn serve_http(&mut self) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.read::<1>()?);
        }
        let head = String::from_utf8(head).map_err(|_| nonsense())?;
        let place =
            head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).ok_or_else(nonsense)?;
        let (host, port) = place.rsplit_once(':').ok_or_else(nonsense)?;
        let (shown, target) =
            self.found(host.trim_matches(['[', ']']), port.parse().map_err(|_| nonsense())?);
        self.note("connect", &shown);
        if let Some(("user", "pass:word")) = self.manners.login
            && !head.contains("\r\nProxy-Authorization: Basic dXNlcjpwYXNzOndvcmQ=\r\n")
        {
            return self.say(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
        }
        match self.manners.refusal.map_or_else(|| TcpStream::connect(target).map_err(|_| 502), Err) {
            Ok(server) => {
                self.say(b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n")?;
                self.join(server)
            }
            Err(status) => self.say(format!("HTTP/1.1 {status} Not today\r\n\r\n").as_bytes()),
        }
    }

    /// Carries bytes both ways until both have ended.
    fn join(&mut self, server: TcpStream) -> io::Result<()> {
        let (mut from_server, mut to_client) = (server.try_clone()?, self.stream.try_clone()?);
        let back = thread::spawn(move || {
            let _ = io::copy(&mut from_server, &mut to_client);
            let _ = to_client.shutdown(Shutdown::Write);
        });
        let mut to_server = server;
        let _ = io::copy(&mut self.stream, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
        let _ = back.join();
        Ok(())
    }

    /// Carries packets as long as the connection stands.
    fn carry(&mut self) -> io::Result<()> {
        let inside = UdpSocket::bind((self.stream.local_addr()?.ip(), 0))?;
        let v4 = UdpSocket::bind("0.0.0.0:0")?;
        self.outside.lock().unwrap().push(v4.local_addr()?);
        // There may be no IPv6.
        let v6 = UdpSocket::bind("[::1]:0").ok();
        let port = inside.local_addr()?.port();
        let is_over = Arc::new(AtomicBool::new(false));
        let client = Arc::new(Mutex::new(None::<SocketAddr>));
        for socket in [Some(&inside), Some(&v4), v6.as_ref()].into_iter().flatten() {
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        }
        for from_world in [Some(v4.try_clone()?), v6.as_ref().map(UdpSocket::try_clone).transpose()?] {
            let Some(from_world) = from_world else { continue };
            let (to_client, over, known) = (inside.try_clone()?, is_over.clone(), client.clone());
            thread::spawn(move || {
                let mut packet = [0; 4096];
                while !over.load(Ordering::Relaxed) {
                    let Ok((length, from)) = from_world.recv_from(&mut packet) else { continue };
                    let Some(client) = *known.lock().unwrap() else { continue };
                    let mut wrapped = vec![0, 0, 0];
                    match from.ip() {
                        IpAddr::V4(ip) => wrapped.extend([&[1], &ip.octets()[..]].concat()),
                        IpAddr::V6(ip) => wrapped.extend([&[4], &ip.octets()[..]].concat()),
                    }
                    wrapped.extend(from.port().to_be_bytes());
                    wrapped.extend(&packet[..length]);
                    // A fragment of it first, which is to be dropped.
                    let mut fragment = wrapped.clone();
                    fragment[2] = 1;
                    let _ = to_client.send_to(&fragment, client);
                    let _ = to_client.send_to(&wrapped, client);
                }
            });
        }
        let (over, asked, names) = (is_over.clone(), self.asked.clone(), self.manners.names);
        thread::spawn(move || {
            let mut packet = [0; 4096];
            while !over.load(Ordering::Relaxed) {
                let Ok((length, from)) = inside.recv_from(&mut packet) else { continue };
                *client.lock().unwrap() = Some(from);
                let Some(((shown, to), data)) = unwrap(&packet[..length], names) else { continue };
                asked.lock().unwrap().push(format!("packet {shown}"));
                let outside = if to.is_ipv4() { Some(&v4) } else { v6.as_ref() };
                let _ = outside.map(|outside| outside.send_to(data, to));
            }
        });
        let [high, low] = port.to_be_bytes();
        // The proxy's own address.
        self.say(&[5, 0, 0, 1, 0, 0, 0, 0, high, low])?;
        let _ = io::copy(&mut self.stream, &mut io::sink());
        is_over.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn unwrap(packet: &[u8], names: Option<IpAddr>) -> Option<((String, SocketAddr), &[u8])> {
    let (head, rest) = packet.split_at_checked(4)?;
    let (host, rest) = match head {
        [0, 0, 0, 1] => {
            let (ip, rest) = rest.split_first_chunk::<4>()?;
            (Ipv4Addr::from(*ip).to_string(), rest)
        }
        [0, 0, 0, 4] => {
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            (Ipv6Addr::from(*ip).to_string(), rest)
        }
        [0, 0, 0, 3] => {
            let (&length, rest) = rest.split_first()?;
            let (name, rest) = rest.split_at_checked(length.into())?;
            (String::from_utf8(name.to_vec()).ok()?, rest)
        }
        _ => return None,
    };
    let (port, data) = rest.split_first_chunk::<2>()?;
    Some((found(&host, u16::from_be_bytes(*port), names), data))
}

/// How a target is noted, and where it is.
fn found(host: &str, port: u16, names: Option<IpAddr>) -> (String, SocketAddr) {
    let ip = host.parse::<IpAddr>();
    let shown = match &ip {
        Ok(ip) => SocketAddr::new(*ip, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    };
    let by_name = names.unwrap_or(Ipv4Addr::LOCALHOST.into());
    (shown, SocketAddr::new(ip.unwrap_or(by_name), port))
}
