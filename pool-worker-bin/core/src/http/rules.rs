//! What HTTP tasks may reach: the public internet, unless the configuration denies it, and what the
//! configuration lists besides.
//!
//! Decides about addresses, never about names alone: a name is judged by everything it resolves to,
//! and one answer that is not allowed denies the name, because a name that points inward for some
//! askers is not to be trusted for others.
//!
//! While public addresses are allowed, the names in the list are inner ones, and such a name is
//! trusted whatever it resolves to. While they are denied, the list also has public names, which
//! belong to others. Then a name opens only the public addresses that it resolves to: if it opened
//! inner ones too, the owner of a listed name could direct requests to the metadata service.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use pool_protocol::worker::{HttpSetup, PublicAddresses};
use url::Host;

use super::address::not_public;

/// An entry of `http.allow` that is none of its forms.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "failed to read `http.allow`: {0:?} is no ADDRESS, ADDRESS:PORT, NETWORK/BITS, NAME or \
     NAME:PORT"
)]
pub struct BadRule(String);

/// Why a destination is denied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Denied {
    host: String,
    address: SocketAddr,
    why: &'static str,
    but: &'static str,
}

/// Of an inner address whose name is listed.
const ONLY_ITS_NAME: &str = "while `http.public` is \"deny\" a name in `http.allow` opens public \
    addresses only: list the address itself";

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, address, why, but } = self;
        if host.trim_matches(['[', ']']).parse() == Ok(address.ip()) {
            write!(f, "{address} is not allowed: it is {why}, and {but}")
        } else {
            write!(f, "{host} is not allowed: {address} is {why}, and {but}")
        }
    }
}

/// What may be reached.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    public: PublicAddresses,
    allow: Vec<Rule>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Rule {
    what: What,
    port: Option<u16>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    Net(IpNet),
    Name(String),
}

impl FromStr for Rule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let bad = || BadRule(text.to_owned());
        if let Ok(net) = text.parse::<IpNet>() {
            return Ok(Self { what: What::Net(net), port: None });
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { what: What::Net(address.into()), port: None });
        }
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self { what: What::Net(socket.ip().into()), port: Some(socket.port()) });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        let what = match Host::parse(host).map_err(|_| bad())? {
            Host::Domain(name) => What::Name(plain_name(&name)),
            Host::Ipv4(address) => What::Net(IpAddr::from(address).into()),
            Host::Ipv6(address) => What::Net(IpAddr::from(address).into()),
        };
        Ok(Self { what, port })
    }
}

impl Rule {
    fn names(&self, name: &str, address: SocketAddr) -> bool {
        if self.port.is_some_and(|port| port != address.port()) {
            return false;
        }
        match &self.what {
            What::Net(net) => net.contains(&address.ip().to_canonical()),
            What::Name(allowed) => allowed == name,
        }
    }

    const fn is_name(&self) -> bool {
        matches!(self.what, What::Name(_))
    }
}

/// As names are compared: lower case, without the dot of the root.
fn plain_name(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

impl Rules {
    /// Reads `http.public` and `http.allow`.
    ///
    /// # Errors
    /// [`BadRule`], holding the entry.
    pub fn new(setup: &HttpSetup) -> Result<Self, BadRule> {
        let allow = setup.allow.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        Ok(Self { public: setup.public, allow })
    }

    /// Judges what a host resolved to.
    ///
    /// # Errors
    /// [`Denied`] for the first address that may not be reached.
    pub fn judge(&self, host: &str, addresses: &[SocketAddr]) -> Result<(), Denied> {
        let name = plain_name(host);
        for address in addresses {
            if let Some((why, but)) = self.denial(&name, *address) {
                return Err(Denied { host: host.to_owned(), address: *address, why, but });
            }
        }
        Ok(())
    }

    /// What the address is and why that does not do under this name; nothing when it may be
    /// reached.
    fn denial(&self, name: &str, address: SocketAddr) -> Option<(&'static str, &'static str)> {
        let inner = not_public(address.ip());
        let why = match (self.public, inner) {
            (PublicAddresses::Allow, None) => return None,
            (PublicAddresses::Deny, None) => "public, which `http.public` denies",
            (PublicAddresses::Allow | PublicAddresses::Deny, Some(why)) => why,
        };
        let mut naming = self.allow.iter().filter(|rule| rule.names(name, address)).peekable();
        let listed = naming.peek().is_some();
        let names_open_it = self.public == PublicAddresses::Allow || inner.is_none();
        if naming.any(|rule| names_open_it || !rule.is_name()) {
            return None;
        }
        let but = if listed { ONLY_ITS_NAME } else { "`http.allow` does not name it" };
        Some((why, but))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(public: PublicAddresses, allow: &[&str]) -> HttpSetup {
        let allow = allow.iter().map(|s| (*s).to_owned()).collect();
        HttpSetup { public, allow, ..HttpSetup::default() }
    }

    fn rules(allow: &[&str]) -> Rules {
        Rules::new(&setup(PublicAddresses::Allow, allow)).unwrap()
    }

    fn closed(allow: &[&str]) -> Rules {
        Rules::new(&setup(PublicAddresses::Deny, allow)).unwrap()
    }

    fn allows(rules: &Rules, host: &str, addresses: &[&str]) -> bool {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        rules.judge(host, &addresses).is_ok()
    }

    #[test]
    fn without_rules_only_public_addresses_are_reached() {
        let rules = Rules::default();
        assert!(allows(&rules, "example.org", &["8.8.8.8:80", "[2606:4700::1]:80"]));
        assert!(!allows(&rules, "localhost", &["127.0.0.1:80"]));
    }

    #[test]
    fn a_denial_names_the_address_once() {
        let denied = |host: &str, address: &str| {
            Rules::default().judge(host, &[address.parse().unwrap()]).unwrap_err().to_string()
        };
        for (host, address) in [("127.0.0.1", "127.0.0.1:10"), ("[::1]", "[::1]:10")] {
            let end = "is not allowed: it is loopback, and `http.allow` does not name it";
            assert_eq!(denied(host, address), format!("{address} {end}"));
        }
        assert_eq!(
            denied("localhost", "127.0.0.1:10"),
            "localhost is not allowed: 127.0.0.1:10 is loopback, and `http.allow` does not name it"
        );
    }

    #[test]
    fn one_inner_address_among_public_ones_denies_the_name() {
        let rules = Rules::default();
        assert!(!allows(&rules, "rebind.example", &["8.8.8.8:80", "127.0.0.1:80"]));
        assert!(!allows(&rules, "rebind.example", &["8.8.8.8:80", "[::ffff:10.0.0.1]:80"]));
    }

    #[test]
    fn each_form_of_a_rule_allows_what_it_names_and_no_more() {
        let table: &[(&str, &str, &str, bool)] = &[
            ("127.0.0.1", "127.0.0.1", "127.0.0.1:9", true),
            ("127.0.0.1", "127.0.0.2", "127.0.0.2:9", false),
            ("127.0.0.1:8080", "127.0.0.1", "127.0.0.1:8080", true),
            ("127.0.0.1:8080", "127.0.0.1", "127.0.0.1:8081", false),
            ("127.0.0.1:8080", "[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]:8080", true),
            ("10.1.0.0/16", "a.example", "10.1.255.1:80", true),
            ("10.1.0.0/16", "a.example", "10.2.0.1:80", false),
            ("[::1]:80", "[::1]", "[::1]:80", true),
            ("::1", "[::1]", "[::1]:81", true),
            ("fd00::/8", "b.example", "[fd12::1]:443", true),
            ("inner.example", "Inner.Example.", "10.0.0.1:80", true),
            ("inner.example", "other.inner.example", "10.0.0.1:80", false),
            ("inner.example:80", "inner.example", "10.0.0.1:81", false),
            ("localhost:3000", "localhost", "127.0.0.1:3000", true),
        ];
        for (rule, host, address, allowed) in table {
            assert_eq!(
                allows(&rules(&[rule]), host, &[address]),
                *allowed,
                "{rule}: {host} {address}"
            );
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in ["", "10.0.0.0/33", "a b", "name:port", "name:99999", "http://x"] {
            assert!(Rules::new(&setup(PublicAddresses::Allow, &[text])).is_err(), "{text}");
        }
    }

    #[test]
    fn where_public_addresses_are_denied_only_what_is_listed_is_reached() {
        let none = closed(&[]);
        for address in [
            "8.8.8.8:80",
            "[2606:4700::1]:443",
            "[64:ff9b::808:808]:80",
            "[::ffff:8.8.8.8]:80",
            "127.0.0.1:80",
        ] {
            assert!(!allows(&none, "any.example", &[address]), "{address}");
        }
        let table: &[(&str, &str, &str, bool)] = &[
            ("8.8.8.8", "8.8.8.8", "8.8.8.8:80", true),
            ("8.8.8.8", "8.8.4.4", "8.8.4.4:80", false),
            ("8.8.8.8:443", "any.example", "8.8.8.8:443", true),
            ("8.8.8.8:443", "any.example", "8.8.8.8:80", false),
            ("8.8.0.0/16", "any.example", "8.8.4.4:80", true),
            ("2606:4700::/32", "any.example", "[2606:4700::1]:80", true),
            ("api.example", "API.example.", "8.8.8.8:80", true),
            ("api.example:443", "api.example", "8.8.8.8:443", true),
            ("api.example:443", "api.example", "8.8.8.8:80", false),
            ("api.example", "other.example", "8.8.8.8:80", false),
            ("api.example", "sub.api.example", "8.8.8.8:80", false),
            ("10.1.0.0/16", "inner.example", "10.1.2.3:80", true),
            ("127.0.0.1:8080", "localhost", "127.0.0.1:8080", true),
        ];
        for (rule, host, address, allowed) in table {
            assert_eq!(
                allows(&closed(&[rule]), host, &[address]),
                *allowed,
                "{rule}: {host} {address}"
            );
        }
    }

    #[test]
    fn a_listed_name_of_the_internet_leads_nowhere_inside() {
        let rules = closed(&["api.example", "10.0.0.5:80"]);
        for inner in [
            "127.0.0.1:80",
            "169.254.169.254:80",
            "10.0.0.1:80",
            "[::1]:80",
            "[::ffff:169.254.169.254]:80",
        ] {
            assert!(!allows(&rules, "api.example", &[inner]), "{inner}");
            assert!(
                !allows(&rules, "api.example", &["8.8.8.8:80", inner]),
                "{inner} behind a public one"
            );
        }
        assert!(
            allows(&rules, "api.example", &["8.8.8.8:80", "10.0.0.5:80"]),
            "each has an entry that opens it"
        );
    }

    #[test]
    fn a_denial_says_what_is_missing() {
        let said = |rules: &Rules, host: &str, address: &str| {
            rules.judge(host, &[address.parse().unwrap()]).unwrap_err().to_string()
        };
        assert_eq!(
            said(&Rules::default(), "localhost", "127.0.0.1:80"),
            "localhost is not allowed: 127.0.0.1:80 is loopback, and `http.allow` does not name it"
        );
        assert_eq!(
            said(&closed(&[]), "a.example", "8.8.8.8:80"),
            "a.example is not allowed: 8.8.8.8:80 is public, which `http.public` denies, and \
             `http.allow` does not name it"
        );
        assert_eq!(
            said(&closed(&["a.example"]), "a.example", "127.0.0.1:80"),
            "a.example is not allowed: 127.0.0.1:80 is loopback, and while `http.public` \
             is \"deny\" a name in `http.allow` \
             opens public addresses only: list the address itself"
        );
    }
}
