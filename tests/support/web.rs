//! A plain web server of the test's own.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};
use std::thread;

/// A web server at this address with one file, whatever is asked for; gives its port.
pub fn web_server(ip: IpAddr, body: Vec<u8>) -> u16 {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let body = body.clone();
            thread::spawn(move || {
                loop {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read(&mut byte) {
                            Ok(1) => head.push(byte[0]),
                            _ => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).to_lowercase();
                    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
                    let range = range.and_then(|range| range.split_once('-'));
                    let range =
                        range.map(|(first, last)| (first.parse().unwrap(), last.parse::<usize>().unwrap()));
                    let (first, last) = range.unwrap_or((0, body.len() - 1));
                    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{}\r\n\r\n",
                        last + 1 - first,
                        body.len()
                    );
                    if stream.write_all(&[answer.as_bytes(), &body[first..=last]].concat()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}
