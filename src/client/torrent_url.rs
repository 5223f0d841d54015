//! A .torrent at a URL.

use crate::bind::Bind;
use crate::event::Unfetched;
use crate::http::{Download, DownloadError, DownloadOptions, download};
use crate::metainfo::MAX_LENGTH;
use crate::session::options::SessionOptions;

/// Fetches a .torrent from an http or https URL, for [`Metainfo::parse`](crate::metainfo::Metainfo::parse): whatever its content type, 64 MiB
/// after inflating at the most, by 5 redirects at the most, which do not lead from outside to the local network. It is reached as the session
/// with these options reaches trackers: all that is sent leaves by what is bound to, and through the proxy if there is one. The environment names
/// proxies as curl reads them, and authorities in place of the bundled ones (`SSL_CERT_FILE`). Blocks, for 30 s at the most.
///
/// # Errors
///
/// Whatever keeps it from a whole, successful answer.
pub fn download_torrent(url: &str, options: &SessionOptions) -> Result<Download, DownloadError> {
    let not_bound = |reason| DownloadError { kind: Unfetched::Network, reason };
    options.bind.as_ref().map_or(Ok(()), Bind::check).map_err(not_bound)?;
    let mut reached = DownloadOptions { local: options.bind.clone().into(), ..DownloadOptions::from_env() };
    reached.proxies.chosen = options.proxy.clone();
    download(url, MAX_LENGTH as u64, &reached)
}
