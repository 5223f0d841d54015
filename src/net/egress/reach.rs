//! How the proxy itself is reached: at one of the addresses of its name.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep};

use super::Egress;
use crate::proxy::Proxy;

/// After so long without an answer the next of the proxy's addresses is called as well (RFC 8305, 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// How long the addresses of the proxy's name hold.
const NAME_HOLDS: Duration = Duration::from_secs(60);

/// Addresses of the proxy's name that are tried.
const MAX_ADDRESSES: usize = 4;

impl Egress {
    pub(super) async fn connect_to_proxy(&self, proxy: &Proxy) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        let addresses = self.addresses_of(proxy).await?;
        let mut further = addresses.iter();
        let mut calls = Vec::new();
        loop {
            if let Some(&address) = further.next() {
                calls.push(Box::pin(async move { (address, self.connect_to(address).await) }));
            } else if calls.is_empty() {
                break;
            }
            tokio::select! {
                (address, called) = first_of(&mut calls) => match called {
                    Ok(stream) => {
                        self.prefer(address);
                        return Ok(stream);
                    }
                    Err(error) => last = error,
                },
                // A silent one does not keep us from the others (RFC 8305).
                () = sleep(NEXT_ADDRESS), if further.len() > 0 => {}
            }
        }
        *self.found.borrow_mut() = None;
        Err(last)
    }

    /// The proxy is reached at this one of its addresses: it is the first to be called from now on.
    fn prefer(&self, address: SocketAddr) {
        if let Some((_, addresses)) = &mut *self.found.borrow_mut()
            && let Some(at) = addresses.iter().position(|&known| known == address)
        {
            addresses[..=at].rotate_right(1);
        }
    }

    /// The proxy's own name is the one name that is looked up here.
    async fn addresses_of(&self, proxy: &Proxy) -> io::Result<Vec<SocketAddr>> {
        let now = Instant::now();
        if let Some((at, addresses)) = &*self.found.borrow()
            && now - *at < NAME_HOLDS
        {
            return Ok(addresses.clone());
        }
        let found = lookup_host((proxy.host(), proxy.port())).await?;
        let addresses: Vec<SocketAddr> =
            found.filter(|address| self.local.reaches(address.ip())).take(MAX_ADDRESSES).collect();
        *self.found.borrow_mut() = Some((now, addresses.clone()));
        Ok(addresses)
    }
}

/// What is done first, and is taken out of them.
async fn first_of<F: Future + Unpin>(calls: &mut Vec<F>) -> F::Output {
    std::future::poll_fn(|context| {
        for at in 0..calls.len() {
            if let Poll::Ready(done) = Pin::new(&mut calls[at]).poll(context) {
                drop(calls.swap_remove(at));
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_done_first_is_taken_out_and_the_others_go_on() {
        let after = |seconds| {
            Box::pin(async move {
                sleep(Duration::from_secs(seconds)).await;
                seconds
            })
        };
        let mut calls = vec![after(3), after(1), after(2)];
        let mut done = Vec::new();
        while !calls.is_empty() {
            done.push(first_of(&mut calls).await);
        }
        assert_eq!(done, [1, 2, 3]);
    }
}
