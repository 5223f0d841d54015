//! What a gateway of UPnP says of itself, and how its actions are called (WANIPConnection 1 and 2, WANPPPConnection 1).

use std::net::Ipv4Addr;

use super::api::{DeviceAnswer, Protocol, SoapCall};
use super::xml::{Part, Parts, leaves};

/// Bytes of an answer that are read; what goes on is no answer.
pub const MAX_DEVICE_ANSWER: usize = 128 << 10;

/// Services of a device that are tried.
const MAX_SERVICES: usize = 4;

/// The longest path that is asked for, in bytes.
const MAX_PATH: usize = 512;

/// The kinds of services that map ports.
const KINDS: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// A service of a gateway that maps ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Its kind, as calls have to repeat it.
    pub kind: &'static str,
    /// The port of the gateway at which it is called.
    pub port: u16,
    /// The path there.
    pub path: String,
}

/// Port and path of an `http` URL; `None`: it is none, or holds what may not stand in a request. The host is left out: it is never contacted for
/// what stands in a URL.
pub(super) fn place_of(url: &str) -> Option<(u16, String)> {
    let scheme = url.get(..7)?;
    if !scheme.eq_ignore_ascii_case("http://") {
        return None;
    }
    let rest = &url[7..];
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.is_empty() {
        return None;
    }
    // An IPv6 address holds colons.
    let after_host = authority.rsplit(']').next().unwrap_or(authority);
    let port = match after_host.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() => port.parse().ok().filter(|&port| port != 0)?,
        _ => 80,
    };
    Some((port, clean(path)?))
}

/// A path and query as they may be asked for: with a `/` before them, without fragment.
fn clean(path: &str) -> Option<String> {
    let path = path.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let is_plain = |byte: u8| {
        byte.is_ascii_graphic()
            && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
    };
    (path.len() <= MAX_PATH && path.bytes().all(is_plain)).then_some(path)
}

/// Where a control URL leads that stands in a description at `base`.
fn resolve(base: &(u16, String), url: &str) -> Option<(u16, String)> {
    if url.is_empty() {
        return None;
    }
    if url.contains("://") {
        return place_of(url);
    }
    let (port, path) = base;
    if url.starts_with('/') {
        return Some((*port, clean(url)?));
    }
    let path = path.split('?').next().unwrap_or_default();
    let folder = path.rfind('/').map_or("", |slash| &path[..slash]);
    Some((*port, clean(&format!("{folder}/{url}"))?))
}

/// The services that map ports, of a description that was read at this port and path; at most four.
pub fn read_description(body: &[u8], place: &(u16, String)) -> Vec<Service> {
    let document = String::from_utf8_lossy(body.get(..MAX_DEVICE_ANSWER).unwrap_or(body));
    // It stands before the services where there is one.
    let base = leaves(Parts::of(&document)).find(|(name, _)| *name == "URLBase");
    let base = base.and_then(|(_, url)| place_of(&url)).unwrap_or_else(|| place.clone());
    let mut found: Vec<Service> = Vec::new();
    let (mut kind, mut control): (Option<&'static str>, Option<String>) = (None, None);
    let mut leaf: Option<(&str, String)> = None;
    for part in Parts::of(&document) {
        match part {
            Part::Open(name) => {
                if name == "service" {
                    (kind, control) = (None, None);
                }
                leaf = Some((name, String::new()));
            }
            Part::Text(more) => {
                if let Some((_, text)) = &mut leaf {
                    text.push_str(&more);
                }
            }
            Part::Close("service") => {
                let place = control.take().and_then(|url| resolve(&base, &url));
                if let (Some(kind), Some((port, path))) = (kind.take(), place) {
                    let service = Service { kind, port, path };
                    if found.len() < MAX_SERVICES && !found.contains(&service) {
                        found.push(service);
                    }
                }
            }
            Part::Close(name) => match leaf.take() {
                Some((opened, text)) if opened == name && name == "serviceType" => {
                    kind = KINDS.into_iter().find(|known| *known == text.trim());
                }
                Some((opened, text)) if opened == name && name == "controlURL" => {
                    control = Some(text.trim().to_owned());
                }
                _ => {}
            },
        }
    }
    found
}

/// A call of an action with these arguments, which need no escaping.
fn call(kind: &str, action: &str, arguments: &[(&str, &str)]) -> SoapCall {
    let arguments: String =
        arguments.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
    let body = format!(
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{kind}\">{arguments}\
         </u:{action}></s:Body></s:Envelope>\r\n"
    );
    SoapCall { action: format!("\"{kind}#{action}\""), body }
}

/// What is asked of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The address outside.
    Address,
    /// A mapping of a port outside to one of a machine here, for so many seconds (0: until it is removed).
    Add {
        /// What is let through.
        protocol: Protocol,
        /// The port outside.
        external: u16,
        /// The machine here.
        client: Ipv4Addr,
        /// Its port.
        internal: u16,
        /// How long it lasts.
        seconds: u32,
    },
    /// The end of a mapping.
    Remove {
        /// What is let through.
        protocol: Protocol,
        /// The port outside.
        external: u16,
    },
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Action::Address => "GetExternalIPAddress",
            Action::Add { .. } => "AddPortMapping",
            Action::Remove { .. } => "DeletePortMapping",
        }
    }

    /// The call of this action.
    pub(super) fn call(self, kind: &str) -> SoapCall {
        match self {
            Action::Address => call(kind, self.name(), &[]),
            Action::Add { protocol, external, client, internal, seconds } => call(
                kind,
                self.name(),
                &[
                    ("NewRemoteHost", ""),
                    ("NewExternalPort", &external.to_string()),
                    ("NewProtocol", word(protocol)),
                    ("NewInternalPort", &internal.to_string()),
                    ("NewInternalClient", &client.to_string()),
                    ("NewEnabled", "1"),
                    ("NewPortMappingDescription", "btget"),
                    ("NewLeaseDuration", &seconds.to_string()),
                ],
            ),
            Action::Remove { protocol, external } => call(
                kind,
                self.name(),
                &[
                    ("NewRemoteHost", ""),
                    ("NewExternalPort", &external.to_string()),
                    ("NewProtocol", word(protocol)),
                ],
            ),
        }
    }
}

/// What has come of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SoapAnswer {
    /// It is done; the address, if there is one in the answer.
    Done(Option<Ipv4Addr>),
    /// It is refused, with this error code of UPnP.
    Refused(u16, String),
    /// It is no answer; why, for people.
    Useless(String),
}

/// Reads the answer to a call.
pub fn read_soap_answer(action: Action, answer: &DeviceAnswer) -> SoapAnswer {
    let document = String::from_utf8_lossy(answer.body.get(..MAX_DEVICE_ANSWER).unwrap_or(&answer.body));
    let find =
        |wanted: &str| leaves(Parts::of(&document)).find(|(name, _)| *name == wanted).map(|(_, text)| text);
    if answer.status == 200 {
        let expected = action.name();
        let is_answer = |part: Part<'_>| matches!(part, Part::Open(name) if name.strip_suffix("Response") == Some(expected));
        if !Parts::of(&document).any(is_answer) {
            return SoapAnswer::Useless("its answer is no answer of UPnP".to_owned());
        }
        let address = find("NewExternalIPAddress").and_then(|text| text.parse::<Ipv4Addr>().ok());
        return SoapAnswer::Done(address.filter(|ip| !ip.is_unspecified()));
    }
    match find("errorCode").and_then(|code| code.parse().ok()) {
        Some(code) => {
            let words: String = find("errorDescription").unwrap_or_default().chars().take(100).collect();
            SoapAnswer::Refused(code, words)
        }
        None => SoapAnswer::Useless(format!("HTTP status {}", answer.status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTION: &str = "<root xmlns='urn:schemas-upnp-org:device-1-0'><device><serviceList>\
        <service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/l3</controlURL></service>\
        </serviceList><deviceList><device><serviceList>\
        <service><serviceType> urn:schemas-upnp-org:service:WANIPConnection:1 </serviceType><controlURL>CONTROL</controlURL></service>\
        <service><controlURL>/ppp</controlURL><serviceType>urn:schemas-upnp-org:service:WANPPPConnection:1</serviceType></service>\
        </serviceList></device></deviceList></device></root>";

    fn services(control: &str, base: &str) -> Vec<(u16, String)> {
        let document =
            DESCRIPTION.replace("CONTROL", control).replace("<device>", &format!("{base}<device>"));
        let found = read_description(document.as_bytes(), &(5000, "/a/desc.xml".to_owned()));
        found.into_iter().map(|service| (service.port, service.path)).collect()
    }

    #[test]
    fn services_are_found_wherever_their_urls_lead() {
        let ppp = (5000, "/ppp".to_owned());
        for (control, expected) in [
            ("/ctl", (5000, "/ctl")),
            ("ctl?x=1", (5000, "/a/ctl?x=1")),
            ("http://evil.example:81/ctl", (81, "/ctl")),
        ] {
            assert_eq!(
                services(control, ""),
                [(expected.0, expected.1.to_owned()), ppp.clone()],
                "{control}"
            );
        }
        let base = "<URLBase>http://192.0.2.1:7000/b/</URLBase>";
        assert_eq!(services("ctl", base), [(7000, "/b/ctl".to_owned()), (7000, "/ppp".to_owned())]);
        for wrong in ["", "ftp://192.0.2.1/ctl", "/a b", "/a\r\nHost: x", "/ä", "/&lt;", &"/x".repeat(300)] {
            assert_eq!(services(wrong, ""), std::slice::from_ref(&ppp), "{wrong}");
        }
    }

    #[test]
    fn no_more_than_four_services_are_read() {
        let service = |number: usize| {
            format!(
                "<service><serviceType>{}</serviceType><controlURL>/{number}</controlURL></service>",
                KINDS[0]
            )
        };
        let document: String = (0..10_000).map(service).collect();
        assert_eq!(read_description(document.as_bytes(), &(1, "/".to_owned())).len(), MAX_SERVICES);
    }

    #[test]
    fn a_call_names_service_and_action() {
        let client = Ipv4Addr::new(192, 168, 1, 7);
        let add =
            Action::Add { protocol: Protocol::Udp, external: 6882, client, internal: 6881, seconds: 3600 };
        let call = add.call(KINDS[1]);
        assert_eq!(call.action, "\"urn:schemas-upnp-org:service:WANIPConnection:1#AddPortMapping\"");
        let read: Vec<_> =
            leaves(Parts::of(&call.body)).map(|(name, text)| format!("{name}={text}")).collect();
        assert_eq!(
            read.join(" "),
            "NewRemoteHost= NewExternalPort=6882 NewProtocol=UDP NewInternalPort=6881 NewInternalClient=192.168.1.7 \
             NewEnabled=1 NewPortMappingDescription=btget NewLeaseDuration=3600"
        );
    }

    #[test]
    fn answers_are_done_refused_or_useless() {
        let read = |status, body: &str| {
            read_soap_answer(Action::Address, &DeviceAnswer { status, body: body.as_bytes().to_vec() })
        };
        let done = "<e:Envelope><e:Body><m:GetExternalIPAddressResponse><NewExternalIPAddress>203.0.113.9</NewExternalIPAddress>";
        assert_eq!(read(200, done), SoapAnswer::Done(Some([203, 0, 113, 9].into())));
        assert_eq!(read(200, &done.replace("203.0.113.9", "0.0.0.0")), SoapAnswer::Done(None));
        assert_eq!(read(200, &done.replace("203.0.113.9", "")), SoapAnswer::Done(None));
        let fault = "<s:Fault><detail><UPnPError><errorCode>718</errorCode><errorDescription>Conflict</errorDescription></UPnPError>";
        assert_eq!(read(500, fault), SoapAnswer::Refused(718, "Conflict".to_owned()));
        assert!(matches!(read(200, "<html>"), SoapAnswer::Useless(_)));
        assert_eq!(read(404, "nothing"), SoapAnswer::Useless("HTTP status 404".to_owned()));
    }
}
