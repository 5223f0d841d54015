//! The URLs among the options: of the proxy, of trackers, of web seeds. What is wrong with one is said without its password.

use anyhow::{anyhow, bail};

use crate::cli::options::args::{Args, TransportArg};
use crate::cli::options::config::Surroundings;
use crate::client::Proxy;
use crate::metainfo::{is_torrent_url, tracker_url, web_seed_url};
use crate::text::{escape, without_any_credentials};

/// Where `--proxy env` looks, in this order.
pub(super) const PROXY_VARIABLES: [&str; 6] =
    ["all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"];

/// `--proxy`. The error quotes no password.
pub(super) fn proxy(args: &Args, around: &Surroundings) -> anyhow::Result<Option<Proxy>> {
    let Some(given) = &args.proxy else { return Ok(None) };
    let proxy = proxy_of(given, around)?;
    if matches!(args.transport, Some(TransportArg::Utp)) && !proxy.may_carry_packets() {
        bail!(
            "'--transport utp' cannot be used with '--proxy {proxy}': an HTTP proxy carries no UDP; give --transport tcp, or a SOCKS5 proxy, e.g. --proxy socks5://127.0.0.1:1080"
        );
    }
    Ok(Some(proxy))
}

fn proxy_of(given: &str, around: &Surroundings) -> anyhow::Result<Proxy> {
    const ALLOWED: &str = "give socks5:// or http://, host and port, e.g. socks5://127.0.0.1:1080 or http://user:password@proxy.example:3128, or env";
    let shown = |url: &str| escape(&without_any_credentials(url)).into_owned();
    if given != "env" {
        let read = given.parse::<Proxy>();
        return read.map_err(|error| {
            anyhow!("invalid value '{}' for '--proxy <URL>': {error}; {ALLOWED}", shown(given))
        });
    }
    let Some(set) = &around.proxy else {
        bail!(
            "invalid value 'env' for '--proxy <URL>': the environment names no proxy; set all_proxy, e.g. all_proxy=socks5://127.0.0.1:1080"
        );
    };
    // Without a scheme it is HTTP, as curl has it.
    let url = if set.contains("://") { set.clone() } else { format!("http://{set}") };
    let read = url.parse::<Proxy>();
    read.map_err(|error| {
        anyhow!(
            "invalid value 'env' for '--proxy <URL>': the environment says '{}', and {error}; {ALLOWED}",
            shown(&url)
        )
    })
}

/// The URL of a .torrent. The error quotes no password.
pub(super) fn torrent_url(url: &str) -> anyhow::Result<String> {
    if is_torrent_url(url) {
        return Ok(url.to_owned());
    }
    let shown = escape(&without_any_credentials(url)).into_owned();
    match url.split_once("://") {
        Some((scheme, path)) if scheme.eq_ignore_ascii_case("file") => {
            bail!("'{shown}' is the URL of a file here; give its path, {}", escape(path))
        }
        _ => bail!(
            "'{shown}' is not a URL that a .torrent can be fetched from; give an http or https URL, e.g. https://example.org/x.torrent, or \
             the path of a file, with ./ before it if it begins like a URL"
        ),
    }
}

/// Tiers of `--tracker`. The error quotes no password.
pub(super) fn tracker_tiers(given: &[String]) -> anyhow::Result<Vec<Vec<String>>> {
    let tier = |urls: &String| urls.split(',').map(tracker).collect();
    given.iter().map(tier).collect()
}

fn tracker(url: &str) -> anyhow::Result<String> {
    tracker_url(url).ok_or_else(|| {
        anyhow!(
            "invalid value '{}' for '--tracker <URL>': not the URL of a tracker; give http, https or udp URLs, one with a port if it is udp, with \
             commas between those of one tier, e.g. https://tracker.example/announce,udp://tracker.example:6969",
            escape(&without_any_credentials(url))
        )
    })
}

/// A value of `--webseed`. The error quotes no password.
pub(super) fn web_seed(url: &str) -> anyhow::Result<String> {
    web_seed_url(url).ok_or_else(|| {
        anyhow!(
            "invalid value '{}' for '--webseed <URL>': not the URL of a web seed; give an http or https URL without spaces and control characters, \
             e.g. https://mirror.example/pub/",
            escape(&without_any_credentials(url))
        )
    })
}
