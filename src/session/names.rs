//! Names of peers and nodes, looked up beside the loop.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

/// How long a name may be looked up.
const LOOK_UP: Duration = Duration::from_secs(10);

/// The addresses of a host, with this port: `most` of them, none if its name is not known in time.
pub(super) async fn addresses_of(host: String, port: u16, most: usize) -> Vec<SocketAddr> {
    match timeout(LOOK_UP, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => addresses.take(most).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}
