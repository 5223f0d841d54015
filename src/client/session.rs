//! A running session.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::torrent::Facts;
use super::{Client, Error, SessionOptions, Subscription, TorrentOptions};
use crate::event::Severity;
use crate::metainfo::{InfoHash, Metainfo};
use crate::session::Command;
use crate::session::thread::{Commands, Thread};
use crate::wire::PeerId;

/// A running session: the listener, the limits and the torrents.
///
/// Dropping it stops every torrent as [`Session::shutdown`] does.
#[derive(Debug)]
pub struct Session {
    /// `None` once it has ended.
    thread: Option<Thread>,
    peer_id: PeerId,
    port: u16,
}

impl Session {
    /// Starts the thread and the listener.
    ///
    /// # Errors
    ///
    /// If none of the ports can be listened on, or a thread cannot be started.
    pub fn start(options: SessionOptions) -> Result<Session, Error> {
        let (thread, peer_id, port) = Thread::start(options).map_err(Error::Start)?;
        Ok(Session { thread: Some(thread), peer_id, port })
    }

    /// Adds a torrent; its check begins at once, and it goes on to `options.state`.
    ///
    /// # Errors
    ///
    /// If it is there already, or the session has ended.
    pub fn add(&self, metainfo: Metainfo, options: TorrentOptions) -> Result<Client, Error> {
        let info_hash = metainfo.info_hash;
        let facts = Arc::new(Facts::new(&metainfo, &options));
        let commands = self.commands()?.clone();
        let add = |reply| Command::Add(Box::new(metainfo), options, reply);
        let added = commands.ask(add).ok_or(Error::Ended)?;
        if !added {
            return Err(Error::Twice(info_hash));
        }
        let (peer_id, port) = (self.peer_id, self.port);
        Ok(Client { commands, info_hash, facts, peer_id, port, session: None })
    }

    /// Ends a torrent and takes it out; its files stay.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn remove(&self, torrent: &Client) -> Result<(), Error> {
        self.ask(|reply| Command::Remove(torrent.info_hash, reply))
    }

    /// The torrents.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn torrents(&self) -> Result<Vec<InfoHash>, Error> {
        self.ask(Command::List)
    }

    /// The events of at least this severity, from now on.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn subscribe(&self, least: Severity) -> Result<Subscription, Error> {
        self.ask(|reply| Command::Subscribe(least, reply))
    }

    /// Ours, the same for all torrents.
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// The port that is listened on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Tells every torrent to stop (finish writing, sync, save resume data, announce `stopped`; 5 s
    /// at the most), without waiting for it.
    pub fn begin_shutdown(&self) {
        if let Some(thread) = &self.thread {
            thread.commands().shut_down();
        }
    }

    /// Stops every torrent and waits until the thread has ended.
    pub fn shutdown(self) {
        drop(self);
    }

    fn commands(&self) -> Result<&Commands, Error> {
        self.thread.as_ref().map(Thread::commands).ok_or(Error::Ended)
    }

    fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> Result<T, Error> {
        self.commands()?.ask(command).ok_or(Error::Ended)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.end();
        }
    }
}
