//! Tunnels through an HTTP proxy: `CONNECT` (RFC 9110, 9.3.6).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::url::Credentials;
use super::{ProxyError, ProxyStep, Target};

/// Bytes of an answer's head, at the most.
const MAX_HEAD: usize = 8 * 1024;

/// What every answer begins with.
const BEGIN: &[u8] = b"HTTP/1.";

/// Bytes of the shortest head: a status line without a reason, and an empty line, each ended by a line feed alone.
const MIN_HEAD: usize = b"HTTP/1.1 200\n\n".len();

/// A request for a tunnel.
#[derive(Debug)]
pub(super) struct HttpConnect {
    /// Until it is sent.
    request: Option<Vec<u8>>,
    target: Target,
    has_login: bool,
    head: Vec<u8>,
    /// Bytes of heads that have come, interim ones too.
    read: usize,
}

impl HttpConnect {
    pub(super) fn new(credentials: Option<&Credentials>, target: &Target) -> HttpConnect {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(Credentials { user, password }) = credentials {
            let pair = [user, b":".as_slice(), password].concat();
            request += &format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(pair));
        }
        request += "\r\n";
        HttpConnect {
            request: Some(request.into_bytes()),
            target: target.clone(),
            has_login: credentials.is_some(),
            head: Vec::new(),
            read: 0,
        }
    }

    pub(super) fn has_asked(&self) -> bool {
        self.request.is_none()
    }

    /// See [`super::ProxyDialogue::feed`].
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<ProxyStep, ProxyError> {
        if let Some(request) = self.request.take() {
            return Ok(ProxyStep::Send(request));
        }
        self.head.extend_from_slice(bytes);
        self.read += bytes.len();
        let front = self.head.len().min(BEGIN.len());
        if self.read > MAX_HEAD || self.head[..front] != BEGIN[..front] {
            return Err(ProxyError::OtherProtocol("an HTTP proxy"));
        }
        // Each line may end with a line feed alone (RFC 9112, 2.2).
        let is_whole = self.head.ends_with(b"\n\r\n") || self.head.ends_with(b"\n\n");
        if !is_whole {
            let to_end = if self.head.ends_with(b"\n") || self.head.ends_with(b"\n\r") { 1 } else { 2 };
            return Ok(ProxyStep::Need(MIN_HEAD.saturating_sub(self.head.len()).max(to_end)));
        }
        let head = std::mem::take(&mut self.head);
        let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let (_, rest) = line.split_once(' ').unwrap_or_default();
        let (status, reason) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
        let status = status.parse::<u16>().ok();
        let reason: String = reason.trim().chars().take(100).collect();
        match status {
            Some(100..=199) => Ok(ProxyStep::Need(MIN_HEAD)),
            Some(200..=299) => Ok(ProxyStep::Done(self.target.clone())),
            Some(407) if self.has_login => Err(ProxyError::BadLogin),
            Some(407) => Err(ProxyError::WantsLogin("http")),
            Some(405 | 501) => Err(ProxyError::Unsupported("tunnels (CONNECT)")),
            Some(status) => Err(ProxyError::NotReached(format!("{status} {reason}").trim().to_owned())),
            None => Err(ProxyError::OtherProtocol("an HTTP proxy")),
        }
    }
}
