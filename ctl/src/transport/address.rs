// SPDX-License-Identifier: GPL-2.0
//! How a peer is named.

use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::net::Ipv6Addr;

/// A host, by name or address, and the port of its agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PeerAddress {
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The text names no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host, host:port or [address]:port")]
pub struct ParsePeerError(String);

impl PeerAddress {
    /// Reads `host`, `host:port`, `address`, `[address]` or `[address]:port`. `port` is used where none is given.
    pub fn parse(text: &str, port: u16) -> Result<Self, ParsePeerError> {
        let error = || ParsePeerError(text.to_owned());
        let (host, port) = if text.parse::<Ipv6Addr>().is_ok() {
            (text, port)
        } else if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(error)?;
            match rest.strip_prefix(':') {
                Some(number) => (host, number.parse().map_err(|_| error())?),
                None if rest.is_empty() => (host, port),
                None => return Err(error()),
            }
        } else if let Some((host, number)) = text.split_once(':') {
            (host, number.parse().map_err(|_| error())?)
        } else {
            (text, port)
        };
        let is_plain = host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%'));
        if host.is_empty() || !is_plain || port == 0 {
            return Err(error());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood() {
        for (text, host, port) in [
            ("b", "b", 7788),
            ("b.example:99", "b.example", 99),
            ("10.0.0.2", "10.0.0.2", 7788),
            ("10.0.0.2:1", "10.0.0.2", 1),
            ("fe80::1", "fe80::1", 7788),
            ("[fe80::1]", "fe80::1", 7788),
            ("[fe80::1]:5", "fe80::1", 5),
        ] {
            let address = PeerAddress::parse(text, 7788).expect(text);
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(PeerAddress::parse(&address.to_string(), 1), Ok(address));
        }
        for wrong in [
            "", ":1", "b:", "b:0", "b:x", "b:70000", "[::1", "[::1]x", "a b", "a/b",
        ] {
            assert!(PeerAddress::parse(wrong, 7788).is_err(), "{wrong}");
        }
    }
}
