//! Which HTTP proxy, if any, stands before a server: the environment as curl reads it.
//!
//! Never applies to loopback: a proxy cannot reach our loopback, and what is there is none of its business.

use super::resolve;
use crate::proxy::Proxy;

/// Proxy settings; the default is none.
#[derive(Clone, Default, Debug)]
pub struct Proxies {
    /// For `http` URLs.
    pub http: Option<String>,
    /// For `https` URLs.
    pub https: Option<String>,
    /// Hosts reached directly: names (with the names below them), addresses, or `*`.
    pub no_proxy: Vec<String>,
    /// For everything, whatever else is set: the user has chosen it. It looks up all names.
    pub chosen: Option<Proxy>,
}

/// How a server is reached.
#[derive(Debug)]
pub(crate) enum Detour {
    /// Directly.
    None,
    /// Through a proxy of the environment.
    Environment(ureq::Proxy),
    /// Through the proxy that the user has chosen.
    Chosen(Proxy),
}

impl Detour {
    /// Whether a proxy looks up the server's name.
    pub(crate) fn is_proxy(&self) -> bool {
        !matches!(self, Detour::None)
    }
}

impl Proxies {
    /// What the user has set: `http_proxy` and `https_proxy` (else `all_proxy`) and `no_proxy`, each also
    /// in capitals but for `HTTP_PROXY`, which a web server's visitors can set (as with curl).
    pub fn from_env() -> Proxies {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        Proxies::from_lookup(get)
    }

    fn from_lookup(get: impl Fn(&str) -> Option<String>) -> Proxies {
        let either = |name: &str| get(name).or_else(|| get(&name.to_ascii_uppercase()));
        let all = either("all_proxy");
        let no_proxy = either("no_proxy").unwrap_or_default();
        Proxies {
            http: get("http_proxy").or_else(|| all.clone()),
            https: either("https_proxy").or(all),
            no_proxy: no_proxy.split(',').map(|host| host.trim().to_owned()).collect(),
            chosen: None,
        }
    }

    /// The proxy for a URL of this scheme and host (an IPv6 address with or without brackets).
    ///
    /// # Errors
    ///
    /// Why the setting is of no use, for people.
    pub(crate) fn find(&self, scheme: &str, host: &str) -> Result<Detour, String> {
        if let Some(chosen) = &self.chosen {
            return Ok(Detour::Chosen(chosen.clone()));
        }
        let setting = if scheme.eq_ignore_ascii_case("https") { &self.https } else { &self.http };
        let Some(setting) = setting.as_ref().filter(|_| !is_loopback(host) && !self.is_excluded(host)) else {
            return Ok(Detour::None);
        };
        // The setting is not quoted: it may hold a password.
        let Ok(proxy) = ureq::Proxy::new(setting) else {
            let reason = "the proxy setting is not a URL; set http_proxy like http://host:3128";
            return Err(reason.to_owned());
        };
        // Without its SOCKS feature ureq would go round such a proxy, or fail in the dark.
        match proxy.protocol() {
            ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https => Ok(Detour::Environment(proxy)),
            _ => {
                Err("socks proxies of the environment are not used; give --proxy env, or add the host to no_proxy"
                    .to_owned())
            }
        }
    }

    fn is_excluded(&self, host: &str) -> bool {
        let host = bare(host).to_ascii_lowercase();
        self.no_proxy.iter().any(|pattern| {
            let pattern = bare(pattern).trim_start_matches('.').to_ascii_lowercase();
            let is_below = || host.strip_suffix(&pattern).is_some_and(|head| head.ends_with('.'));
            pattern == "*" || (!pattern.is_empty() && (pattern == host || is_below()))
        })
    }
}

/// Whether a host is this machine by its name or address alone, without asking a name server.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = bare(host).trim_end_matches('.').to_ascii_lowercase();
    match resolve::literal(&host).map(|address| address.to_canonical()) {
        Some(address) => address.is_loopback() || address.is_unspecified(),
        None => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// A host without the brackets of an IPv6 address.
pub(super) fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(settings: &[(&str, &str)]) -> Proxies {
        Proxies::from_lookup(|name| {
            settings.iter().find(|(set, _)| *set == name).map(|(_, value)| value.to_string())
        })
    }

    fn found(proxies: &Proxies, scheme: &str, host: &str) -> Option<String> {
        match proxies.find(scheme, host).unwrap() {
            Detour::None => None,
            Detour::Environment(proxy) => Some(proxy.host().to_owned()),
            Detour::Chosen(proxy) => Some(proxy.host().to_owned()),
        }
    }

    #[test]
    fn each_scheme_has_its_proxy_and_all_is_for_the_rest() {
        let set = proxies(&[("http_proxy", "http://plain:1"), ("ALL_PROXY", "http://rest:2")]);
        assert_eq!(found(&set, "http", "t.example").as_deref(), Some("plain"));
        assert_eq!(found(&set, "https", "t.example").as_deref(), Some("rest"));
        assert_eq!(found(&proxies(&[("HTTP_PROXY", "http://cgi:1")]), "http", "t.example"), None);
        assert_eq!(found(&Proxies::default(), "http", "t.example"), None);
    }

    #[test]
    fn loopback_is_never_reached_through_a_proxy() {
        let set = proxies(&[("all_proxy", "http://proxy:1")]);
        let named = ["[::1]", "localhost", "LOCALHOST.", "a.localhost"];
        for host in
            ["127.0.0.1", "127.9.9.9", "0.0.0.0", "127.1", "0x7f.1", "2130706433"].into_iter().chain(named)
        {
            assert_eq!(found(&set, "http", host), None, "{host}");
        }
        assert!(!is_loopback("localhost.example") && !is_loopback("128.0.0.1"));
    }

    #[test]
    fn no_proxy_names_hosts_and_what_is_below_them() {
        let set = proxies(&[("all_proxy", "http://proxy:1"), ("no_proxy", "a.example, .b.example,10.0.0.1")]);
        for host in ["a.example", "x.a.example", "B.example", "x.b.example", "10.0.0.1"] {
            assert_eq!(found(&set, "http", host), None, "{host}");
        }
        assert!(found(&set, "http", "ba.example").is_some());
        assert!(found(&set, "http", "10.0.0.11").is_some());
        let none = proxies(&[("all_proxy", "http://proxy:1"), ("NO_PROXY", "*")]);
        assert_eq!(found(&none, "http", "a.example"), None);
    }

    #[test]
    fn the_proxy_that_the_user_has_chosen_is_for_everything() {
        let set = proxies(&[("all_proxy", "http://proxy:1"), ("no_proxy", "*")]);
        let set = Proxies { chosen: Some("socks5://chosen".parse().unwrap()), ..set };
        for host in ["t.example", "127.0.0.1", "localhost"] {
            assert_eq!(found(&set, "https", host).as_deref(), Some("chosen"), "{host}");
        }
    }

    #[test]
    fn a_socks_proxy_is_a_failure_and_not_gone_round() {
        let set = proxies(&[("all_proxy", "socks5h://user:secret@proxy:1")]);
        let failure = set.find("http", "t.example").unwrap_err();
        assert!(failure.contains("socks") && !failure.contains("secret"));
    }
}
