//! A .torrent at a URL.

use std::net::IpAddr;

use crate::http::{DownloadError, DownloadOptions, download};
use crate::metainfo::MAX_LENGTH;

/// Fetches a .torrent from an http or https URL, for [`Metainfo::parse`](crate::metainfo::Metainfo::parse): whatever its content type, 64 MiB
/// after inflating at the most, by 5 redirects at the most, which do not lead from outside to the local network. The environment names
/// proxies as curl reads them, and authorities in place of the bundled ones (`SSL_CERT_FILE`). All that is sent leaves from `bind`. Blocks,
/// for 30 s at the most.
///
/// # Errors
///
/// Whatever keeps it from a whole, successful answer.
pub fn download_torrent(url: &str, bind: Option<IpAddr>) -> Result<Vec<u8>, DownloadError> {
    download(url, MAX_LENGTH as u64, &DownloadOptions { bind, ..DownloadOptions::from_env() })
}
