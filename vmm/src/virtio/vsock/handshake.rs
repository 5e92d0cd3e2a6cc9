//! What a client of a host socket says before its connection reaches the guest. Pure.
//!
//! ```text
//! hybrid      client ─▶ "CONNECT 1525\n"        ─▶ "OK 1073741824\n" when the guest agrees, else closed
//! hyperkit    client ─▶ "00000003.000005f5\n"   ─▶ nothing; closed when the guest does not agree
//! ```
//!
//! Hybrid is the convention of Firecracker, which cloud-hypervisor, vhost-device-vsock and
//! systemd-ssh-proxy speak, too.

use super::{Cid, Port};

/// A client's line has at most so many bytes, with its newline.
pub const MAX_LINE: usize = 32;

/// How clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `CONNECT port`.
    Hybrid,
    /// `cid.port`, in eight hexadecimal digits each.
    Hyperkit,
}

/// What the beginning of a client's stream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The line goes on.
    More,
    /// It wants this port of the guest; its line has `len` bytes, and behind it the connection begins.
    Connect {
        /// Of this guest; any, if the client does not say.
        cid: Option<Cid>,
        /// The port.
        port: Port,
        /// Bytes of the line.
        len: usize,
    },
    /// It says nothing that could be understood.
    Garbage,
}

/// Reads the beginning of a client's stream.
pub fn parse(dialect: Dialect, bytes: &[u8]) -> Parsed {
    let window = bytes.get(..MAX_LINE).unwrap_or(bytes);
    let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
        return if window.len() == MAX_LINE { Parsed::Garbage } else { Parsed::More };
    };
    let line = window.get(..end).unwrap_or_default();
    let wish = match dialect {
        Dialect::Hybrid => hybrid(line),
        Dialect::Hyperkit => hyperkit(line),
    };
    wish.map_or(Parsed::Garbage, |(cid, port)| Parsed::Connect { cid, port, len: end + 1 })
}

fn hybrid(line: &[u8]) -> Option<(Option<Cid>, Port)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let (verb, port) = (words.next()?, words.next()?);
    // Clients that write it in small letters exist.
    let known = verb.eq_ignore_ascii_case("CONNECT") && words.next().is_none();
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    (known && digits).then_some(())?;
    Some((None, Port(port.parse().ok()?)))
}

fn hyperkit(line: &[u8]) -> Option<(Option<Cid>, Port)> {
    let line = std::str::from_utf8(line).ok()?;
    let (cid, port) = line.split_once('.')?;
    let number = |text: &str| {
        let plain = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| u32::from_str_radix(text, 16).ok())?
    };
    Some((Some(Cid(u64::from(number(cid)?))), Port(number(port)?)))
}

/// What a hybrid client is told when the guest has agreed.
pub fn agreed(local: Port) -> String {
    format!("OK {}\n", local.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn connect(cid: Option<u64>, port: u32, len: usize) -> Parsed {
        Parsed::Connect { cid: cid.map(Cid), port: Port(port), len }
    }

    #[test]
    fn a_client_says_which_port_it_wants() {
        let cases: &[(Dialect, &[u8], Parsed)] = &[
            (Dialect::Hybrid, b"CONNECT 1525\n", connect(None, 1525, 13)),
            (Dialect::Hybrid, b"connect 22\nSSH-2.0-", connect(None, 22, 11)),
            (Dialect::Hybrid, b"CONNECT 4294967295\r\n", connect(None, u32::MAX, 20)),
            (Dialect::Hybrid, b"CONNECT 4294967296\n", Parsed::Garbage),
            (Dialect::Hybrid, b"CONNECT -1\n", Parsed::Garbage),
            (Dialect::Hybrid, b"CONNECT +1\n", Parsed::Garbage),
            (Dialect::Hybrid, b"CONNECT\n", Parsed::Garbage),
            (Dialect::Hybrid, b"CONNECT 1 2\n", Parsed::Garbage),
            (Dialect::Hybrid, b"GET / HTTP/1.1\n", Parsed::Garbage),
            (Dialect::Hybrid, b"\n", Parsed::Garbage),
            (Dialect::Hybrid, b"\xff\xfe 1\n", Parsed::Garbage),
            (Dialect::Hybrid, b"CONNECT 15", Parsed::More),
            (Dialect::Hybrid, b"", Parsed::More),
            (Dialect::Hybrid, b"CONNECT 0000000000000000000000000001\n", Parsed::Garbage),
            (Dialect::Hyperkit, b"00000003.000005f5\n", connect(Some(3), 1525, 18)),
            (Dialect::Hyperkit, b"00000003.000005F5\nx", connect(Some(3), 1525, 18)),
            (Dialect::Hyperkit, b"3.5f5\n", Parsed::Garbage),
            (Dialect::Hyperkit, b"00000003:000005f5\n", Parsed::Garbage),
            (Dialect::Hyperkit, b"+0000003.000005f5\n", Parsed::Garbage),
            (Dialect::Hyperkit, b"00000003.0000", Parsed::More),
        ];
        for (dialect, bytes, expected) in cases {
            assert_eq!(parse(*dialect, bytes), *expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        #[test]
        fn a_line_is_never_awaited_for_ever(
            bytes in proptest::collection::vec(any::<u8>(), 0..80), hybrid in any::<bool>(),
        ) {
            let dialect = if hybrid { Dialect::Hybrid } else { Dialect::Hyperkit };
            match parse(dialect, &bytes) {
                Parsed::More => prop_assert!(bytes.len() < MAX_LINE),
                Parsed::Connect { len, .. } => prop_assert!(len <= MAX_LINE && len <= bytes.len()),
                Parsed::Garbage => {}
            }
        }
    }
}
