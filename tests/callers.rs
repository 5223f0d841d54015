//! Who calls btget, and what it takes to be let in.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use btget::client::{Session, SessionOptions, TorrentOptions};
use btget::internals::wire::{Handshake, PeerId, Reserved};
use btget::metainfo::Metainfo;

use support::fixture::Fixture;
use support::process::{PATIENCE, wait_until};

#[test]
fn silent_callers_shut_nobody_out() {
    let fixture = Fixture::single(100_000, "", 1);
    let metainfo = Metainfo::parse(&fs::read(fixture.torrent()).unwrap()).unwrap();
    let info_hash = metainfo.info_hash.wire();
    let loopback = Some(Ipv4Addr::LOCALHOST.into());
    let session =
        Session::start(SessionOptions { bind: loopback, ports: vec![0], ..Default::default() }).unwrap();
    let folder = fixture.empty_folder("target");
    let client = session.add(metainfo, TorrentOptions { basedir: folder, ..Default::default() }).unwrap();
    let silent: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, session.port())).unwrap()).collect();
    let ours = Handshake { reserved: Reserved::FAST, info_hash, peer_id: PeerId([b'h'; 20]) };
    // Again while the torrent is being looked at, for then nobody is let in.
    let answered = || {
        let mut honest = TcpStream::connect((Ipv4Addr::LOCALHOST, session.port())).ok()?;
        honest.set_read_timeout(Some(PATIENCE)).ok()?;
        honest.write_all(&ours.encode()).ok()?;
        honest.read_exact(&mut [0; 68]).ok()
    };
    wait_until("the handshake to be answered", || format!("{:?}", client.status()), answered);
    drop((silent, client));
    session.shutdown();
}
