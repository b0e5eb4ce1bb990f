//! A thread in namespaces of its own: what it mounts and which network it sees is nobody else's
//! business. Processes that it starts are in them too.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::skip;

/// Runs a test with mounts of its own, or says that it was skipped.
///
/// # Panics
/// As the test does.
pub fn with_own_mounts(test: impl FnOnce() + Send + 'static) {
    apart(UnshareFlags::NEWNS, "mount namespaces", test);
}

/// Runs a test with mounts and a network of its own, in which nothing is reachable but what it
/// adds.
///
/// # Panics
/// As the test does.
pub fn with_own_network(test: impl FnOnce() + Send + 'static) {
    apart(UnshareFlags::NEWNS | UnshareFlags::NEWNET, "network namespaces", || {
        set_loopback_up();
        test();
    });
}

fn apart(what: UnshareFlags, feature: &str, test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::current();
    let run = std::thread::Builder::new().name(thread.name().unwrap_or("the test").to_owned());
    let feature = feature.to_owned();
    let ended = run.spawn(move || {
        #[expect(unsafe_code, reason = "leaving a namespace")]
        // SAFETY: neither mounts nor the network are memory: nothing that other threads rely on
        // changes.
        if let Err(error) = unsafe { unshare_unsafe(what) } {
            return skip::skipped(skip::ADMIN, &format!("{feature}: {error}"));
        }
        // What is mounted from here on must not come out again.
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .expect("a namespace of our own");
        test();
    });
    if let Err(panic) = ended.expect("a thread can be started").join() {
        std::panic::resume_unwind(panic);
    }
}

/// Makes `/proc` show each user his own processes only, of those the ones that may be dumped, as
/// systemd's `ProtectProc=invisible` does.
///
/// # Panics
/// When the kernel refuses.
pub fn hide_processes() {
    mount("proc", "/proc", "proc", MountFlags::empty(), Some(c"hidepid=2"))
        .expect("a namespace of our own");
}

/// Mounts an empty file system of so many bytes.
///
/// # Panics
/// When the kernel refuses.
pub fn mount_tmpfs(at: &Path, bytes: u64) {
    std::fs::create_dir_all(at).expect("folders can be made");
    let size = std::ffi::CString::new(format!("size={bytes}")).expect("digits");
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(size.as_c_str()))
        .expect("a namespace of our own");
}

/// Makes a mount read-only.
///
/// # Panics
/// When the kernel refuses.
pub fn make_read_only(at: &Path) {
    rustix::mount::mount_remount(at, MountFlags::RDONLY | MountFlags::BIND, "")
        .expect("a namespace of our own");
}

/// Puts one file in the place of another.
///
/// # Panics
/// When the kernel refuses.
pub fn cover(file: &str, with: &Path) {
    // A link leads to what has to be covered.
    let real = Path::new(file).canonicalize().expect("it is there");
    mount_bind(with, real).expect("a namespace of our own");
}

/// Gives the network another address that it answers on, alone and not as one of a range.
///
/// # Panics
/// When the kernel refuses.
pub fn add_address(address: Ipv4Addr) {
    // An address besides the first one has a name of its own.
    let mut interface = interface(&format!("lo:{:08x}", u32::from(address)));
    for (request, value) in
        [(libc::SIOCSIFADDR, address), (libc::SIOCSIFNETMASK, Ipv4Addr::BROADCAST)]
    {
        interface.ifr_ifru.ifru_addr = socket_address(value);
        configure(request, &mut interface);
    }
}

fn set_loopback_up() {
    let mut interface = interface("lo");
    interface.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    configure(libc::SIOCSIFFLAGS, &mut interface);
}

#[expect(unsafe_code, reason = "the C library's structure has no constructor")]
fn interface(name: &str) -> libc::ifreq {
    // SAFETY: numbers and an array of them, for which zeroes are valid.
    let mut interface: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in interface.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    interface
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    // After the port.
    for (place, byte) in data[2..6].iter_mut().zip(address.octets()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

/// What the program `ip` would do, which is not on every machine.
#[expect(unsafe_code, reason = "nothing here wraps the calls that configure an interface")]
fn configure(request: libc::Ioctl, interface: &mut libc::ifreq) {
    // Any socket of the network's will do.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    // SAFETY: the requests above take an `ifreq`, which lives during the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut *interface) };
    assert_eq!(result, 0, "request {request:#x}: {}", std::io::Error::last_os_error());
}
