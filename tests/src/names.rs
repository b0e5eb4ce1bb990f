//! A name server that answers as a test says. Only in a network of the test's own: the port is the
//! system's.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex};

use crate::apart;
use crate::folder::Folder;

/// Answers until the process ends.
#[derive(Debug)]
pub struct Names {
    asked: Arc<Mutex<Vec<String>>>,
    _files: Folder,
}

impl Names {
    /// Starts it, and makes everybody in this namespace ask it. The function gives the addresses of
    /// a name, which was asked for so many times before.
    ///
    /// # Panics
    /// When this is no namespace of the test's own.
    #[must_use]
    pub fn start(answer: impl Fn(&str, usize) -> Vec<Ipv4Addr> + Send + 'static) -> Self {
        let files = Folder::new();
        apart::cover(
            "/etc/resolv.conf",
            &files.write("resolv.conf", "nameserver 127.0.0.1\noptions attempts:1\n"),
        );
        apart::cover("/etc/nsswitch.conf", &files.write("nsswitch.conf", "hosts: files dns\n"));
        let socket = UdpSocket::bind("127.0.0.1:53").expect("a network of our own");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut bytes = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut bytes) {
                let query = &bytes[..len];
                let Some((name, wants_v4)) = question(query) else { continue };
                let mut addresses = Vec::new();
                if wants_v4 {
                    let mut log = log.lock().expect("no thread panics while it holds the record");
                    addresses = answer(&name, log.iter().filter(|n| **n == name).count());
                    log.push(name);
                }
                let _ = socket.send_to(&reply(query, &addresses), from);
            }
        });
        Self { asked, _files: files }
    }

    /// How often a name's address was asked for.
    ///
    /// # Panics
    /// Never: no thread panics while it holds the record.
    #[must_use]
    pub fn asked(&self, name: &str) -> usize {
        let asked = self.asked.lock().expect("no thread panics while it holds the record");
        asked.iter().filter(|n| *n == name).count()
    }
}

/// The name that is asked for, and whether by its IPv4 address.
fn question(query: &[u8]) -> Option<(String, bool)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let len = usize::from(*query.get(at)?);
        if len == 0 {
            break;
        }
        labels.push(std::str::from_utf8(query.get(at + 1..at + 1 + len)?).ok()?.to_lowercase());
        at += 1 + len;
    }
    Some((labels.join("."), query.get(at + 1..at + 3)? == [0, 1]))
}

fn reply(query: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    // The number and the question as they came; an answer, recursion available; so many answers and
    // nothing else.
    let question_end =
        query[12..].iter().position(|b| *b == 0).map_or(query.len(), |end| 12 + end + 5);
    let mut bytes = query[..question_end].to_vec();
    bytes[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
    for address in addresses {
        // The name of the question, an address of the internet, for no time at all.
        bytes.extend_from_slice(&[0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        bytes.extend_from_slice(&address.octets());
    }
    bytes
}
