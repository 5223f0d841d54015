//! The way to a server: its proxy, its certificates, its connections, for ureq's agent or a [`Pipeline`](super::Pipeline); and what went wrong, in a
//! user's words.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::{Response, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector};

use super::connect::BoundConnector;
use super::resolve::{self, SystemResolver};
use super::tidied::Tidy;
use super::watch::Tap;
use super::{Detour, Family, Interrupt, Proxies, Reach, USER_AGENT, Watch};
use crate::address::is_inner;
use crate::bind::Local;

/// What a connection that brings much has room for at a time.
pub(crate) const LARGE_BUFFER: usize = 128 << 10;

/// The way to a server.
pub(crate) struct Route<'a> {
    /// What is asked for there.
    pub uri: &'a Uri,
    /// Where the request may lead.
    pub reach: Reach,
    /// Set once there is a connection to an inner address.
    pub reached_inside: &'a Arc<AtomicBool>,
    /// Only by addresses of this family.
    pub family: Option<Family>,
    /// What connections are bound to.
    pub local: &'a Local,
    /// Bytes of a connection's receive buffer, if they are to be few.
    pub receive_buffer: Option<u32>,
    /// Proxies.
    pub proxies: &'a Proxies,
    /// PEM file of the authorities that sign the server's certificate, instead of the bundled ones.
    pub ca_file: Option<&'a Path>,
    /// Who is told of connections and lengths.
    pub watch: Option<Watch>,
    /// Whether the thread is needed elsewhere.
    pub interrupt: Interrupt,
    /// The longest that an exchange takes, all in all; `None`: as long as something comes.
    pub time: Option<Duration>,
    /// Bytes of an answer's head.
    pub max_head: usize,
    /// Bytes that a connection sends or receives at a time: a request's head, and an answer's, have to fit.
    pub buffer: usize,
}

/// What connections to a server are made of: ureq's settings, the chain of connectors, and how its name is looked up.
pub(super) struct Parts<C> {
    pub config: Config,
    pub connector: C,
    pub resolver: SystemResolver,
}

/// An agent for one exchange with this server. It follows no redirects, and takes no status for an error.
///
/// # Errors
///
/// Why there is no way to it, for people.
pub(crate) fn agent(route: Route<'_>) -> Result<ureq::Agent, String> {
    let Parts { config, connector, resolver } = parts(route)?;
    Ok(ureq::Agent::with_parts(config, connector.chain(Tidy), resolver))
}

/// What connections to this server are made of.
///
/// # Errors
///
/// Why there is no way to it, for people.
pub(super) fn parts(route: Route<'_>) -> Result<Parts<impl Connector + use<>>, String> {
    let (scheme, host) = (route.uri.scheme_str().unwrap_or_default(), route.uri.host().unwrap_or_default());
    // ureq's own reading of the environment would send even loopback through a proxy.
    let detour = route.proxies.find(scheme, host)?;
    // Where the user's proxy stands is the user's affair. It looks up names itself; inner addresses are not asked for through it either.
    let is_proxied = detour.is_proxy();
    let reach = if is_proxied { Reach::Anywhere } else { route.reach };
    let target = route.uri.path_and_query().map_or("/", |target| target.as_str());
    // Where the proxy stands on this machine, its `localhost` is ours.
    let own = |host| super::proxy::is_loopback(host).then_some(IpAddr::from([127, 0, 0, 1]));
    let named = |host| resolve::literal(host).or_else(|| own(host));
    if let Some(address) = Some(host).filter(|_| is_proxied).and_then(named) {
        if !route.reach.allows(address, target) {
            return Err(route.reach.refusal(address));
        }
        route.reached_inside.store(is_inner(address), Ordering::Relaxed);
    }
    let (proxy, chosen) = match detour {
        Detour::None => (None, None),
        Detour::Environment(proxy) => (Some(proxy), None),
        Detour::Chosen(proxy) => (None, Some(proxy)),
    };
    let looks_up = chosen.is_none();
    let connector = BoundConnector {
        proxy: chosen,
        local: route.local.clone(),
        receive_buffer: route.receive_buffer,
        reach,
        target: target.to_owned(),
        interrupt: route.interrupt,
        reached_inside: if is_proxied { Arc::default() } else { route.reached_inside.clone() },
    };
    let config = ureq::Agent::config_builder()
        .proxy(proxy)
        .timeout_global(route.time)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .max_response_header_size(route.max_head)
        .input_buffer_size(route.buffer)
        .output_buffer_size(route.buffer)
        .max_idle_connections(0)
        .user_agent(USER_AGENT);
    let config = match route.ca_file.filter(|_| scheme == "https") {
        Some(path) => config.tls_config(TlsConfig::builder().root_certs(read_roots(path)?).build()),
        None => config,
    };
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(connector)
            .chain(RustlsConnector::default())
            .chain(Tap(route.watch));
    // The proxy has its own addresses.
    let family = route.family.filter(|_| !is_proxied);
    let resolver = SystemResolver { local: route.local.clone(), family, looks_up };
    Ok(Parts { config: config.build(), connector, resolver })
}

/// Where an answer redirects to, if it does, as it says it.
pub(crate) fn location_of<B>(answer: &Response<B>) -> Option<String> {
    let is_redirect = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = answer.headers().get(header::LOCATION).filter(|_| is_redirect)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

fn read_roots(path: &Path) -> Result<RootCerts, String> {
    let trouble = |what: &str| {
        let path = path.display();
        format!("cannot use {path} for certificates: {what}; correct SSL_CERT_FILE")
    };
    let pem = std::fs::read(path).map_err(|error| trouble(&error.to_string()))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(trouble("it holds none"));
    }
    Ok(RootCerts::from(certificates))
}

/// What went wrong, in a user's words; `None`: it took too long.
pub(crate) fn explain(error: ureq::Error) -> Option<String> {
    use std::io::ErrorKind;
    let reason = match error {
        ureq::Error::Timeout(_) => return None,
        ureq::Error::Io(error) => match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => return None,
            ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "connection reset".to_owned(),
            // rustls speaks through the socket's errors.
            ErrorKind::InvalidData => format!("TLS: {error}"),
            ErrorKind::UnexpectedEof => "the connection was closed before the answer was complete".to_owned(),
            _ => error.to_string(),
        },
        ureq::Error::Protocol(error) => format!("the answer is not HTTP: {error}"),
        ureq::Error::LargeResponseHeader(..) => "the answer's head is too large".to_owned(),
        ureq::Error::Rustls(error) => format!("TLS: {error}"),
        ureq::Error::Other(reason) => reason.to_string(),
        ureq::Error::ConnectProxyFailed(reason) => format!("the proxy refused: {reason}"),
        error => error.to_string(),
    };
    Some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_proxy_is_told_by_name_is_looked_at_for_our_own_network_too() {
        let proxies = Proxies { chosen: Some("socks5://127.0.0.1:1".parse().unwrap()), ..Proxies::default() };
        // Why there is no way there for a torrent, and whether it leads inside.
        let way = |url: &str| {
            let (uri, reached_inside) = (url.parse().unwrap(), Arc::default());
            let route = Route {
                uri: &uri,
                reach: Reach::AnnouncePaths,
                reached_inside: &reached_inside,
                family: None,
                local: &Local::default(),
                receive_buffer: None,
                proxies: &proxies,
                ca_file: None,
                watch: None,
                interrupt: Interrupt::default(),
                time: None,
                max_head: 1000,
                buffer: LARGE_BUFFER,
            };
            agent(route).map(|_| reached_inside.load(Ordering::Relaxed))
        };
        for host in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1",
            "[::1]",
            "2130706433",
            "0x7f.1",
            "10.0.0.1",
        ] {
            assert!(way(&format!("http://{host}/reboot")).is_err(), "{host}");
            assert_eq!(way(&format!("http://{host}/announce")), Ok(true), "{host}");
        }
        // The last is a name, which the proxy is told.
        for host in ["t.example", "192.0.2.1", "localhost.example", "a.example.7", "256.1.1.1"] {
            assert_eq!(way(&format!("http://{host}/reboot")), Ok(false), "{host}");
        }
    }
}
