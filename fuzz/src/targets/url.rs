//! The rules for HTTP tasks: which address a URL leads to, and whether it may be reached.
//!
//! The judgement is compared, both ways, with lists of networks written here from IANA's
//! registries, and a match of the allow-list written here, once with public addresses allowed and
//! once with these denied. The two parsers that a URL goes through must agree on host and port; and
//! a host that the C library would take for an address (`127.1`, `0x7f000001`) must be judged as
//! that address.
//!
//! An input is lines: the URL, a redirect's `location`, `http.allow` with commas, and what a name
//! resolves to with commas. What comes behind them is addresses as bytes, sixteen each; with twelve
//! zeros in front, four.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::Uri;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pool_protocol::task::HttpData;
use pool_protocol::worker::{HttpSetup, PublicAddresses};
use pool_worker_core::http::{Request, Rules, literal_address, redirect_target};
use url::Url;

/// IPv4 that is not the public internet: IANA's special-purpose registry, multicast, and the
/// reserved rest.
const INNER_4: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
];
/// Within `2000::/3`, which alone is given out as public.
const INNER_6: &[&str] = &["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];

/// See the module's documentation.
pub fn run(input: &[u8]) {
    let end = input
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .nth(3)
        .map_or(input.len(), |(at, _)| at);
    let (text, addresses) = input.split_at(end);
    let Ok(text) = std::str::from_utf8(text) else { return };
    for bytes in addresses.get(1..).unwrap_or_default().chunks_exact(16) {
        is_judged_as_listed(address(bytes.try_into().expect("sixteen")));
    }
    let mut lines = text.split('\n');
    let url = lines.next().unwrap_or_default();
    let location = lines.next().unwrap_or_default();
    let allow: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split(',')
        .filter(|s| !s.is_empty())
        .map(Into::into)
        .collect();
    let resolved: Vec<IpAddr> =
        lines.next().unwrap_or_default().split(',').filter_map(|s| s.parse().ok()).collect();
    let data = HttpData { url: url.to_owned(), ..HttpData::default() };
    let request = Request::new(&data);
    for public in [PublicAddresses::Allow, PublicAddresses::Deny] {
        let setup = HttpSetup { public, allow: allow.clone(), ..HttpSetup::default() };
        let (Ok(rules), Ok(request)) = (Rules::new(&setup), &request) else { return };
        is_the_address_that_was_written(url, &request.url);
        judge(&request.url, &rules, &setup, &resolved);
        if let Ok(target) = redirect_target(&request.url, location.as_bytes()) {
            judge(&target, &rules, &setup, &resolved);
        }
    }
}

/// An address of either kind.
fn address(bytes: [u8; 16]) -> IpAddr {
    match bytes {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] if a > 0 => {
            Ipv4Addr::new(a, b, c, d).into()
        }
        _ => Ipv6Addr::from(bytes).into(),
    }
}

/// Without a rule, exactly the public addresses may be reached; where these are denied, nothing.
fn is_judged_as_listed(ip: IpAddr) {
    let judged = Rules::default().judge("name.example", &[SocketAddr::new(ip, 80)]);
    assert_eq!(judged.is_ok(), is_public(ip), "{ip}: {judged:?}");
    let closed = HttpSetup { public: PublicAddresses::Deny, ..HttpSetup::default() };
    let closed = Rules::new(&closed).expect("an empty list is sound");
    assert!(closed.judge("name.example", &[SocketAddr::new(ip, 80)]).is_err(), "{ip}");
}

/// Everything that is true of a URL that may be fetched if its address may be reached.
fn judge(url: &Url, rules: &Rules, setup: &HttpSetup, resolved: &[IpAddr]) {
    assert!(matches!(url.scheme(), "http" | "https"), "{url}");
    assert!(
        url.username().is_empty() && url.password().is_none() && url.fragment().is_none(),
        "{url}"
    );
    assert!(url.as_str().bytes().all(|b| b.is_ascii_graphic()), "nothing in {url:?} ends a line");
    let Ok(uri) = url.as_str().parse::<Uri>() else { return };
    let host = uri.host().expect("an absolute URI has a host");
    assert_eq!(
        Some(host),
        url.host_str(),
        "the parser that is judged and the one that dials agree on {url}"
    );
    let default = if url.scheme() == "https" { 443 } else { 80 };
    let port = uri.port_u16().unwrap_or(default);
    assert_eq!(Some(port), url.port_or_known_default(), "{url}");

    let literal = literal_address(host);
    let is_address = !matches!(url.host(), Some(url::Host::Domain(_)));
    assert_eq!(literal.is_some(), is_address, "an address is judged as one: {url}");
    let addresses: Vec<IpAddr> = literal.map_or_else(|| resolved.to_vec(), |ip| vec![ip]);
    let sockets: Vec<SocketAddr> = addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
    let may = addresses.iter().all(|ip| {
        let by = |what| setup.allow.iter().any(|rule| names(rule, host, *ip, port) == Some(what));
        match setup.public {
            PublicAddresses::Allow => is_public(*ip) || by(By::Address) || by(By::Name),
            PublicAddresses::Deny => by(By::Address) || is_public(*ip) && by(By::Name),
        }
    });
    let judged = rules.judge(host, &sockets);
    assert_eq!(judged.is_ok(), may, "{url} at {addresses:?} with {setup:?}: {judged:?}");
}

/// A host that `inet_aton` understands is that address, whatever it looks like.
fn is_the_address_that_was_written(text: &str, url: &Url) {
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else {
        return;
    };
    // The standard passes over any number of slashes.
    let rest = rest.trim_start_matches(['/', '\\']);
    let authority = &rest[..rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len())];
    let host = authority.split(':').next().unwrap_or_default();
    if let Some(address) = inet_aton(host) {
        assert_eq!(url.host(), Some(url::Host::Ipv4(address)), "{text:?} is {address}");
    }
}

/// As the C library reads it: one to four numbers, each decimal, octal or hexadecimal, the last one
/// filling what is left.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(c_number).collect::<Option<_>>()?;
    let (last, bytes) = parts.split_last()?;
    if bytes.len() > 3 || bytes.iter().any(|byte| *byte > 255) {
        return None;
    }
    let room = 32 - 8 * bytes.len();
    if room < 32 && last >> room != 0 {
        return None;
    }
    let high = bytes.iter().enumerate().fold(0, |value, (at, byte)| value | byte << (24 - 8 * at));
    Some(Ipv4Addr::from_bits(high | last))
}

fn c_number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    let sound = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    sound.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            !INNER_4.iter().any(|net| net.parse::<Ipv4Net>().expect("written above").contains(&v4))
        }
        IpAddr::V6(v6) => embedded(v6).map_or_else(
            || within("2000::/3", v6) && !INNER_6.iter().any(|net| within(net, v6)),
            |v4| is_public(v4.into()),
        ),
    }
}

fn within(net: &str, ip: Ipv6Addr) -> bool {
    net.parse::<Ipv6Net>().expect("written above").contains(&ip)
}

/// The IPv4 address that this one stands for by its prefix: mapped, or by the well-known NAT64
/// prefix.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let low =
        Ipv4Addr::from_bits(u32::try_from(ip.to_bits() & u128::from(u32::MAX)).expect("32 bits"));
    (within("::ffff:0:0/96", ip) || within("64:ff9b::/96", ip)).then_some(low)
}

/// What an entry of `http.allow` names a destination by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Address,
    Name,
}

/// Whether an entry of `http.allow` names this destination, and by what.
fn names(rule: &str, host: &str, ip: IpAddr, port: u16) -> Option<By> {
    let plain = match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    };
    if let Ok(net) = rule.parse::<IpNet>() {
        return net.contains(&plain).then_some(By::Address);
    }
    let (name, rule_port) = match rule.parse::<IpAddr>() {
        Ok(_) => (rule, None),
        Err(_) => match rule.rsplit_once(':').map(|(name, port)| (name, port.parse::<u16>())) {
            Some((name, Ok(port))) => (name, Some(port)),
            _ => (rule, None),
        },
    };
    if rule_port.is_some_and(|rule_port| rule_port != port) {
        return None;
    }
    match literal_of_rule(name) {
        Some(address) => (address == plain).then_some(By::Address),
        None => same_name(name, host).then_some(By::Name),
    }
}

fn literal_of_rule(name: &str) -> Option<IpAddr> {
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    bare.parse().ok().or_else(|| match url::Host::parse(name) {
        Ok(url::Host::Ipv4(v4)) => Some(v4.into()),
        _ => None,
    })
}

/// DNS knows no case, and the dot of the root is no part of the name.
fn same_name(rule: &str, host: &str) -> bool {
    let Ok(url::Host::Domain(rule)) = url::Host::parse(rule) else { return false };
    let bare = |name: &str| name.trim_end_matches('.').to_lowercase();
    bare(&rule) == bare(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first and the last address of a network, and those just outside.
    fn edges(net: IpNet) -> Vec<IpAddr> {
        match net {
            IpNet::V4(net) => {
                let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                    .map(|bits| Ipv4Addr::from_bits(bits).into())
                    .into()
            }
            IpNet::V6(net) => {
                let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                    .map(|bits| Ipv6Addr::from_bits(bits).into())
                    .into()
            }
        }
    }

    #[test]
    fn the_edges_of_every_network_are_judged_as_the_registries_list_them() {
        let others = [
            "2000::/3",
            "::ffff:0:0/96",
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "fc00::/7",
            "fe80::/10",
            "ff00::/8",
            "::/96",
        ];
        for net in INNER_4.iter().chain(INNER_6).chain(&others) {
            for ip in edges(net.parse().expect("written above")) {
                is_judged_as_listed(ip);
                if let IpAddr::V4(v4) = ip {
                    is_judged_as_listed(v4.to_ipv6_mapped().into());
                    is_judged_as_listed(
                        Ipv6Addr::from_bits(0x64_ff9b << 96 | u128::from(v4.to_bits())).into(),
                    );
                }
            }
        }
    }

    #[test]
    fn addresses_are_read_as_the_c_library_reads_them() {
        for (text, address) in [
            ("127.1", Some([127, 0, 0, 1])),
            ("0x7f000001", Some([127, 0, 0, 1])),
            ("0177.0.0.01", Some([127, 0, 0, 1])),
            ("1.2.65535", Some([1, 2, 255, 255])),
            ("1.2.65536", None),
            ("256.1", None),
            ("08.1", None),
            ("1.2.3.4.5", None),
            ("a.b", None),
            ("", None),
        ] {
            assert_eq!(inet_aton(text), address.map(Ipv4Addr::from), "{text}");
        }
    }
}
