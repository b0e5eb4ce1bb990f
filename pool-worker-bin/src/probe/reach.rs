//! Attacks that reach for files and for the network.
#![expect(unsafe_code, reason = "asking for network interfaces, as no safe wrapper does")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use pool_protocol::control::HelloHead;
use pool_protocol::frame::{self, Kind};
use pool_protocol::lane::Lane;
use pool_protocol::limits::HEADER_BYTES;
use pool_protocol::version;
use pool_protocol::worker::{ProbeReport, Setup};

use super::report::{errno, judge, stopped, succeeded};

/// Nobody listens there; that nobody does is an answer of the machine's own network.
const DISCARD_PORT: u16 = 9;
const CONNECT: Duration = Duration::from_secs(2);
/// The supervisor's answer, or its hanging up, on a machine that has much to do.
const ANSWER: Duration = Duration::from_secs(30);
/// Interfaces are numbered from 1; a machine with more has its first ones up.
const INTERFACES: i32 = 64;

pub(super) fn open(path: &str) -> ProbeReport {
    judge(&format!("open({path:?})"), File::open(path).map_err(|e| errno(&e)), &[Errno::ENOENT])
}

/// Those of every system, but for what holds a module folder.
pub(super) fn find_folders(setup: &Setup) -> ProbeReport {
    let holds_modules =
        |folder: &str| setup.js.module_roots.iter().any(|root| Path::new(root).starts_with(folder));
    let folders = ["/etc", "/usr", "/var", "/home", "/root", "/run"];
    let found: Vec<_> =
        folders.iter().filter(|f| !holds_modules(f) && Path::new(f).exists()).collect();
    if found.is_empty() {
        stopped("stat: ENOENT for each of them")
    } else {
        succeeded(format!("stat: {found:?} are there"))
    }
}

pub(super) fn list(path: &str) -> ProbeReport {
    match fs::read_dir(path) {
        Ok(entries) => succeeded(format!("{path} has {} entries", entries.count())),
        Err(error) => {
            judge(&format!("open({path:?})"), Err::<(), _>(errno(&error)), &[Errno::ENOENT])
        }
    }
}

pub(super) fn create_file() -> ProbeReport {
    let path = format!("/var/tmp/pool-probe-{}", std::process::id());
    let made = File::create_new(&path);
    if made.is_ok() {
        // Ours, and empty.
        let _ = fs::remove_file(&path);
    }
    judge(&format!("create({path:?})"), made.map_err(|e| errno(&e)), &[Errno::ENOENT, Errno::EROFS])
}

/// JavaScript must not find it. Programs may be able to connect, and must not be answered.
pub(super) fn connect_control(path: &str, lane: Lane) -> ProbeReport {
    let what = format!("connect({path:?})");
    match (UnixStream::connect(path), lane) {
        (Ok(stream), Lane::Io) => say_hello(&what, stream),
        // Refused by what covers it.
        (answer, _) => {
            judge(&what, answer.map_err(|e| errno(&e)), &[Errno::ENOENT, Errno::ECONNREFUSED])
        }
    }
}

fn say_hello(what: &str, mut stream: UnixStream) -> ProbeReport {
    let mut hello = Vec::new();
    frame::put(
        &mut hello,
        Kind::Hello,
        u64::from(version::CURRENT),
        &HelloHead { program: "probe" },
        &[],
    );
    let answer = stream
        .set_read_timeout(Some(ANSWER))
        .and_then(|()| stream.write_all(&hello))
        .and_then(|()| stream.read(&mut [0; HEADER_BYTES]));
    match answer {
        Ok(0) => stopped(format!("{what}: hung up on")),
        Ok(_) => succeeded(format!("{what}: answered")),
        Err(error) if matches!(errno(&error), Errno::EPIPE | Errno::ECONNRESET) => {
            stopped(format!("{what}: hung up on ({:?})", errno(&error)))
        }
        Err(error) => succeeded(format!("{what}: not refused ({error})")),
    }
}

pub(super) fn connect_loopback() -> ProbeReport {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, DISCARD_PORT));
    let answer = TcpStream::connect_timeout(&address, CONNECT).map_err(|e| errno(&e));
    judge(&format!("connect({address})"), answer, &[Errno::ENETUNREACH, Errno::EHOSTUNREACH])
}

/// The supervisor listens there while this attack is made.
pub(super) fn connect_abstract(supervisor: u32) -> anyhow::Result<ProbeReport> {
    let name = pool_protocol::probe::abstract_socket(supervisor);
    let address = UnixAddr::from_abstract_name(&name)?;
    let answer = UnixStream::connect_addr(&address).map_err(|e| errno(&e));
    // Refused by nobody: the one that listens is not to be seen from here.
    Ok(judge(&format!("connect(\"@{name}\")"), answer, &[Errno::ECONNREFUSED]))
}

pub(super) fn network_interfaces() -> ProbeReport {
    // SAFETY: numbers only.
    let made = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    let socket = match Errno::result(made) {
        // SAFETY: just made, and nobody else's.
        Ok(fd) => unsafe { OwnedFd::from_raw_fd(fd) },
        Err(error) => return judge("socket(AF_INET)", Err::<(), _>(error), &[]),
    };
    match (1..=INTERFACES).filter(|index| is_up(&socket, *index)).count() {
        0 => stopped("no interface is up"),
        n => succeeded(format!("{n} interfaces are up")),
    }
}

fn is_up(socket: &OwnedFd, index: i32) -> bool {
    // SAFETY: a structure of numbers and bytes, for which zeros are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_ifindex = index;
    // SAFETY: the kernel writes the name into the structure that it is given.
    let named = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFNAME, &raw mut request) };
    if named < 0 {
        return false;
    }
    // SAFETY: the kernel reads the name and writes the flags.
    let answered = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
    // SAFETY: it has written the flags.
    answered == 0 && unsafe { request.ifr_ifru.ifru_flags } & libc::IFF_UP as i16 != 0
}
