//! Sockets: listening, dialling, and the driver of each connection. Moves bytes and decides nothing.
//!
//! All of it runs on the session's one thread; what connections share ([`NetShared`]) needs no locks.

pub(crate) mod dial;
pub(crate) mod driver;
pub(crate) mod egress;
pub(crate) mod gateway;
pub(crate) mod lan;
pub(crate) mod limit;
pub(crate) mod link;
pub(crate) mod listen;
pub(crate) mod lull;
mod peer_names;
mod reader;
pub(crate) mod relay;
mod remembered;
mod routes;
pub(crate) mod secure;
pub(crate) mod transport;
pub(crate) mod udp;
pub(crate) mod utp;
pub(crate) mod web;
mod writer;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;

use crate::blocks::Pool;
use crate::pace::Pace;
use limit::Limit;

/// Bytes that a read takes at the most where it cannot go straight to a block's buffer: requests,
/// haves and the like are short, and a longer block is better read scattered.
const SCRATCH: usize = 32 * 1024;

/// What all connections of a session share.
#[derive(Debug)]
pub(crate) struct NetShared {
    /// Buffers of blocks.
    pub pool: Pool,
    /// Where reads go that do not go to a block. Borrowed only within one synchronous read.
    scratch: RefCell<Box<[u8]>>,
    /// Bytes a second that are read.
    pub download: Limit,
    /// How fast blocks are asked for, so that no more comes.
    pub pace: Pace,
    /// Bytes a second that are written.
    pub upload: Limit,
}

impl NetShared {
    /// Rates in bytes a second.
    pub(crate) fn new(download: Option<u64>, upload: Option<u64>) -> Rc<NetShared> {
        Rc::new(NetShared {
            pool: Pool::default(),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            download: Limit::new(download),
            pace: Pace::new(download),
            upload: Limit::new(upload),
        })
    }
}

/// Lets through, or does not: closed while too much waits for a disk. Then nothing is read from the sockets of the torrents that are on it, and TCP
/// tells their peers to wait.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: Cell<bool>,
    opened: Notify,
}

impl Gate {
    /// Closes or opens it.
    pub(crate) fn set_closed(&self, closed: bool) {
        if self.closed.replace(closed) && !closed {
            self.opened.notify_waiters();
        }
    }

    /// Whether it is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    async fn wait_open(&self) {
        while self.is_closed() {
            self.opened.notified().await;
        }
    }
}
