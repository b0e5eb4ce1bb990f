//! A thread in namespaces of its own: what it mounts and which network it sees is nobody else's business. Processes that it
//! starts are in them too.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Runs a test with mounts of its own, or says on standard error that it was skipped.
///
/// # Panics
/// As the test does.
pub fn with_own_mounts(test: impl FnOnce() + Send + 'static) {
    apart(UnshareFlags::NEWNS, "mount namespaces (CAP_SYS_ADMIN)", test);
}

/// Runs a test with mounts and a network of its own, in which nothing is reachable but what it adds.
///
/// # Panics
/// As the test does.
pub fn with_own_network(test: impl FnOnce() + Send + 'static) {
    apart(UnshareFlags::NEWNS | UnshareFlags::NEWNET, "network namespaces (CAP_SYS_ADMIN)", || {
        ip(&["link", "set", "lo", "up"]);
        test();
    });
}

fn apart(what: UnshareFlags, feature: &str, test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("the test").to_owned();
    let run = std::thread::Builder::new().name(name.clone());
    let feature = feature.to_owned();
    let ended = run.spawn(move || {
        #[expect(unsafe_code, reason = "leaving a namespace")]
        // SAFETY: neither mounts nor the network are memory: nothing that other threads rely on changes.
        if let Err(error) = unsafe { unshare_unsafe(what) } {
            eprintln!(
                "skipped: {feature}: {error}; run it as root, such as with `sudo -E cargo test -p pool-tests {name}`"
            );
            return;
        }
        // What is mounted from here on must not come out again.
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).expect("a namespace of our own");
        test();
    });
    if let Err(panic) = ended.expect("a thread can be started").join() {
        std::panic::resume_unwind(panic);
    }
}

/// Mounts an empty file system of so many bytes.
///
/// # Panics
/// When the kernel refuses.
pub fn mount_tmpfs(at: &Path, bytes: u64) {
    std::fs::create_dir_all(at).expect("folders can be made");
    let size = std::ffi::CString::new(format!("size={bytes}")).expect("digits");
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(size.as_c_str())).expect("a namespace of our own");
}

/// Makes a mount read-only.
///
/// # Panics
/// When the kernel refuses.
pub fn make_read_only(at: &Path) {
    rustix::mount::mount_remount(at, MountFlags::RDONLY | MountFlags::BIND, "").expect("a namespace of our own");
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

/// Gives the network another address that it answers on.
///
/// # Panics
/// When the system's `ip` fails.
pub fn add_address(address: Ipv4Addr) {
    ip(&["address", "add", &format!("{address}/32"), "dev", "lo"]);
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("iproute2 is installed");
    assert!(status.success(), "ip {arguments:?}: {status}");
}
