//! One request to a device of the local network, at an address and not by a name: what UPnP needs of HTTP.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{Uri, header};

use super::{Interrupt, LARGE_BUFFER, Proxies, Reach, Route, agent, explain};
use crate::bind::Local;

/// The longest that an exchange takes, all in all.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of an answer's head.
const MAX_HEAD: usize = 16 << 10;

/// Asks a device for what is at this path and query; with `soap`, the value of `SOAPAction` and a body of XML, by POST. Redirects are not followed,
/// and no proxy is used: nobody but the device is contacted. Gives status and body, of which at most `limit` bytes are taken after inflating.
///
/// # Errors
///
/// Why there is no whole answer, for people.
pub(crate) fn ask_device(
    local: Local,
    to: SocketAddr,
    path: &str,
    soap: Option<(&str, &str)>,
    limit: usize,
) -> Result<(u16, Vec<u8>), String> {
    let uri: Uri = format!("http://{to}{path}").parse().map_err(|_| "its URL is not valid".to_owned())?;
    let agent = agent(Route {
        uri: &uri,
        reach: Reach::Anywhere,
        reached_inside: &Arc::default(),
        family: None,
        local: &local,
        receive_buffer: None,
        proxies: &Proxies::default(),
        ca_file: None,
        watch: None,
        interrupt: Interrupt::default(),
        time: Some(TIMEOUT),
        max_head: MAX_HEAD,
        buffer: LARGE_BUFFER,
    })?;
    let explained = |error| {
        explain(error).unwrap_or_else(|| format!("no complete answer within {} s", TIMEOUT.as_secs()))
    };
    let answer = match soap {
        None => agent.get(&uri).header(header::CONNECTION, "close").call(),
        Some((action, body)) => agent
            .post(&uri)
            .header(header::CONNECTION, "close")
            .header(header::CONTENT_TYPE, "text/xml; charset=\"utf-8\"")
            .header("SOAPAction", action)
            .send(body),
    };
    let mut answer = answer.map_err(explained)?;
    let mut body = Vec::new();
    let reader = answer.body_mut().as_reader();
    let read = reader.take(limit as u64 + 1).read_to_end(&mut body);
    read.map_err(|error| explained(ureq::Error::from(error)))?;
    if body.len() > limit {
        return Err(format!("its answer is larger than {} KiB", limit >> 10));
    }
    Ok((answer.status().as_u16(), body))
}
