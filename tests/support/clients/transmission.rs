//! transmission-daemon, by its settings and its RPC over HTTP.

use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::fixture::Family;
use super::super::process::{Process, wait_until};
use super::{Node, free_port};

/// The header that its RPC wants back, against requests from web pages.
const SESSION_ID: &str = "X-Transmission-Session-Id";

/// Where the one of [`Transmission::start_by`] listens.
pub const PEER_PORT: u16 = 51413;

/// What `torrent-get` calls the states of being checked or waiting for it.
const CHECKING: [i64; 2] = [1, 2];

pub struct Transmission {
    process: Process,
    agent: ureq::Agent,
    url: String,
    peer_port: u16,
    /// Outlives the process.
    _config: TempDir,
}

impl Transmission {
    pub fn start(torrent: &str, family: Family, folder: &Path) -> Transmission {
        Transmission::start_wishing(torrent, family, folder, &[])
    }

    /// With encryption tolerated, preferred or required (0, 1, 2: its options -et, -ep and -er).
    pub fn start_encrypting(torrent: &str, folder: &Path, level: u8) -> Transmission {
        Transmission::start_wishing(torrent, Family::V4, folder, &[("encryption", json!(level))])
    }

    /// With uTP, which is taken at the same port.
    pub fn start_taking_utp(torrent: &str, folder: &Path) -> Transmission {
        Transmission::start_wishing(torrent, Family::V4, folder, &[("utp-enabled", json!(true))])
    }

    /// Where it listens for peers.
    pub fn peer_port(&self) -> u16 {
        self.peer_port
    }

    fn start_wishing(torrent: &str, family: Family, folder: &Path, wishes: &[(&str, Value)]) -> Transmission {
        let config = TempDir::new().unwrap();
        let rpc_port = free_port();
        let peer_port = free_port();
        let mut settings = settings(family, rpc_port, peer_port, folder);
        for (key, value) in wishes {
            settings[*key] = value.clone();
        }
        fs::write(config.path().join("settings.json"), settings.to_string()).unwrap();
        let mut command = Command::new("transmission-daemon");
        command.args(["--foreground", "--log-info", "--config-dir"]).arg(config.path());
        let process = Process::start("transmission-daemon", &mut command);
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(5)))
            .build()
            .into();
        let url = format!("http://127.0.0.1:{rpc_port}/transmission/rpc");
        let mut transmission = Transmission { process, agent, url, peer_port, _config: config };
        transmission.add(torrent, folder);
        transmission
    }

    /// By a command that runs the one that it is given, at this address, with peer exchange: for where nobody can talk to its RPC. It finds the
    /// torrent by itself.
    pub fn start_by(by: Command, torrent: &Path, address: &str, folder: &Path) -> Process {
        Transmission::start_with(by, torrent, address, folder, &[("pex-enabled", json!(true))])
    }

    /// The same with a DHT, which it enters by this node, instead of peer exchange.
    pub fn start_with_dht(by: Command, torrent: &Path, address: &str, folder: &Path, node: &str) -> Process {
        let config = folder.join("transmission");
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("dht.bootstrap"), format!("{node}\n")).unwrap();
        Transmission::start_with(by, torrent, address, folder, &[("dht-enabled", json!(true))])
    }

    /// The same with uTP, instead of peer exchange.
    pub fn start_with_utp(by: Command, torrent: &Path, address: &str, folder: &Path) -> Process {
        Transmission::start_with(by, torrent, address, folder, &[("utp-enabled", json!(true))])
    }
    /// The same with a table that an earlier run might have left, and the whole torrent. It tells of each message of the DHT. It announces nothing
    /// before four nodes have answered and it has heard of nine.
    pub fn start_with_table(
        mut by: Command,
        torrent: &Path,
        address: &str,
        folder: &Path,
        nodes: &[SocketAddrV4],
    ) -> Process {
        let config = folder.join("transmission");
        fs::create_dir_all(&config).unwrap();
        std::os::unix::fs::symlink(folder, config.join("target")).unwrap();
        let mut table = format!("d2:id20:transmission-the-1st5:nodes{}:", 6 * nodes.len()).into_bytes();
        for node in nodes {
            table.extend(node.ip().octets());
            table.extend(node.port().to_be_bytes());
        }
        table.push(b'e');
        fs::write(config.join("dht.dat"), table).unwrap();
        by.env("TR_DHT_VERBOSE", "1");
        Transmission::start_with(by, torrent, address, folder, &[("dht-enabled", json!(true))])
    }

    fn start_with(
        mut by: Command,
        torrent: &Path,
        address: &str,
        folder: &Path,
        wishes: &[(&str, Value)],
    ) -> Process {
        let config = folder.join("transmission");
        let (watched, target) = (config.join("watched"), config.join("target"));
        fs::create_dir_all(&watched).unwrap();
        fs::copy(torrent, watched.join("test.torrent")).unwrap();
        let mut settings = settings(Family::V4, free_port(), PEER_PORT, &target);
        for (key, value) in [
            ("bind-address-ipv4", json!(address)),
            ("rpc-enabled", json!(false)),
            ("start-added-torrents", json!(true)),
            ("watch-dir", json!(watched)),
            ("watch-dir-enabled", json!(true)),
        ] {
            settings[key] = value;
        }
        for (key, value) in wishes {
            settings[*key] = value.clone();
        }
        fs::write(config.join("settings.json"), settings.to_string()).unwrap();
        by.args(["transmission-daemon", "--foreground", "--log-info", "--config-dir"]).arg(&config);
        Process::start("transmission-daemon", &mut by)
    }

    /// Adds the torrent, lets it check what is there, and starts it.
    fn add(&mut self, torrent: &str, folder: &Path) {
        let add = json!({
            "filename": torrent, "download-dir": folder, "paused": true,
        });
        wait_until("transmission-daemon to answer", String::new, || {
            self.process.assert_alive();
            self.try_call("torrent-add", &add)
        });
        if torrent.starts_with("magnet:") {
            self.call("torrent-start-now", &json!({}));
            return;
        }
        self.call("torrent-verify", &json!({}));
        self.wait_for("the check of what is there", |torrent| {
            (!CHECKING.contains(&torrent["status"].as_i64()?)).then_some(())
        });
        self.call("torrent-start-now", &json!({}));
    }

    fn wait_for(&mut self, what: &str, found: impl Fn(&Value) -> Option<()>) {
        let fields = json!({ "fields": ["status", "metadataPercentComplete", "leftUntilDone", "errorString", "trackerStats", "peers"] });
        wait_until(
            what,
            || self.process.story(),
            || found(&self.call("torrent-get", &fields)["torrents"][0]),
        );
    }

    fn call(&self, method: &str, arguments: &Value) -> Value {
        self.try_call(method, arguments)
            .unwrap_or_else(|| panic!("{method} failed\n{}", self.process.story()))
    }

    /// One call; `None` if nobody answers (yet).
    fn try_call(&self, method: &str, arguments: &Value) -> Option<Value> {
        let body = json!({ "method": method, "arguments": arguments }).to_string();
        let mut id = String::new();
        for _ in 0..2 {
            let mut answer = self.agent.post(&self.url).header(SESSION_ID, &id).send(&body).ok()?;
            if answer.status() == 409 {
                id = answer.headers()[SESSION_ID].to_str().unwrap().to_owned();
                continue;
            }
            let text = answer.body_mut().read_to_string().unwrap();
            let mut answer: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(answer["result"], "success", "{method}: {text}\n{}", self.process.story());
            return Some(answer["arguments"].take());
        }
        None
    }
}

impl Node for Transmission {
    fn wait_until_complete(&mut self) {
        self.wait_for("transmission-daemon to have everything", |torrent| {
            let is_known = torrent["metadataPercentComplete"].as_f64()? == 1.0;
            (is_known && torrent["leftUntilDone"].as_i64()? == 0).then_some(())
        });
    }
}

fn settings(family: Family, rpc_port: u16, peer_port: u16, folder: &Path) -> Value {
    // It binds its announces to the IPv4 address unless that is the default, even to an IPv6 tracker.
    let bind_v4 = if family == Family::V4 { "127.0.0.1" } else { "0.0.0.0" };
    json!({
        "bind-address-ipv4": bind_v4,
        "bind-address-ipv6": "::1",
        "peer-port": peer_port,
        "peer-port-random-on-start": false,
        "port-forwarding-enabled": false,
        "dht-enabled": false,
        "lpd-enabled": false,
        "pex-enabled": false,
        "utp-enabled": false,
        "rpc-enabled": true,
        "rpc-bind-address": "127.0.0.1",
        "rpc-port": rpc_port,
        "rpc-authentication-required": false,
        "rpc-whitelist-enabled": false,
        "rpc-host-whitelist-enabled": false,
        "download-dir": folder,
        "incomplete-dir-enabled": false,
        "rename-partial-files": false,
        "watch-dir-enabled": false,
        "start-added-torrents": false,
        "speed-limit-down-enabled": false,
        "speed-limit-up-enabled": false,
        "ratio-limit-enabled": false,
        "scrape-paused-torrents-enabled": false,
    })
}
