//! The search for gateways of UPnP, by multicast (UPnP Device Architecture 1.1, chapter 1), and what is believed of the answers.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::soap::place_of;

/// Where devices are searched.
pub const SSDP_GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900);

/// The longest answer that is read, in bytes.
pub const MAX_SSDP_ANSWER: usize = 2048;

/// What is searched: gateways of version 1, which those of version 2 are too, and of version 2 for those that do not know that.
pub(super) const SEARCHES: [&str; 2] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
];

/// What answers are about; their version need not be that of the question.
const GATEWAY: &str = "urn:schemas-upnp-org:device:InternetGatewayDevice:";

/// Seconds within which devices are to answer.
const MX: u32 = 1;

/// The packet that searches for this.
pub(super) fn search(target: &str) -> Vec<u8> {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: {SSDP_GROUP}\r\nMAN: \"ssdp:discover\"\r\nMX: {MX}\r\nST: {target}\r\n\r\n"
    )
    .into_bytes()
}

/// Where a gateway that has answered describes itself: port and path. On which host it says to do so does not count: it is that which has answered.
pub fn read_ssdp_answer(packet: &[u8]) -> Option<(u16, String)> {
    let text = std::str::from_utf8(packet.get(..MAX_SSDP_ANSWER).unwrap_or(packet)).ok()?;
    let mut lines = text.split("\r\n").flat_map(|line| line.split('\n'));
    let status = lines.next()?;
    if !status.starts_with("HTTP/1.") || status.split_ascii_whitespace().nth(1) != Some("200") {
        return None;
    }
    let (mut is_gateway, mut place) = (false, None);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("ST") {
            let begin = value.get(..GATEWAY.len()).unwrap_or_default();
            is_gateway |= begin.eq_ignore_ascii_case(GATEWAY);
        } else if name.eq_ignore_ascii_case("LOCATION") && place.is_none() {
            place = place_of(value);
        }
    }
    place.filter(|_| is_gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(lines: &[&str]) -> Option<(u16, String)> {
        read_ssdp_answer([&["HTTP/1.1 200 OK"], lines, &["", ""]].concat().join("\r\n").as_bytes())
    }

    const ST: &str = "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1";

    #[test]
    fn a_search_is_as_devices_expect_it() {
        let text = String::from_utf8(search(SEARCHES[0])).unwrap();
        assert!(
            text.starts_with(
                "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\n"
            )
        );
        assert!(text.ends_with("\r\n\r\n"));
    }

    #[test]
    fn of_an_answer_port_and_path_count_and_the_host_does_not() {
        let place = |location: &str| answer(&[ST, &format!("Location:{location}")]);
        assert_eq!(place(" http://192.0.2.1:5000/rootDesc.xml"), Some((5000, "/rootDesc.xml".to_owned())));
        assert_eq!(place("http://evil.example/a?b#c"), Some((80, "/a?b".to_owned())));
        assert_eq!(place("HTTP://[fe80::1]:49152"), Some((49152, "/".to_owned())));
        for wrong in [
            "https://192.0.2.1/",
            "http://192.0.2.1:0/",
            "http://192.0.2.1:70000/",
            "/desc.xml",
            "http:///x",
            "",
        ] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_gateway_is_not_asked() {
        let location = "LOCATION: http://192.0.2.1:5000/";
        assert!(answer(&[ST, location]).is_some());
        assert!(answer(&[location]).is_none());
        assert!(answer(&[location, "ST: urn:schemas-upnp-org:device:MediaServer:1"]).is_none());
        assert!(
            read_ssdp_answer(format!("NOTIFY * HTTP/1.1\r\n{ST}\r\n{location}\r\n\r\n").as_bytes()).is_none()
        );
        assert!(
            read_ssdp_answer(format!("HTTP/1.1 404 No\r\n{ST}\r\n{location}\r\n\r\n").as_bytes()).is_none()
        );
        assert!(read_ssdp_answer(b"\xff\xfe").is_none());
    }
}
