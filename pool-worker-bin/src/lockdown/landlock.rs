//! Landlock: which files may be read, written and executed, whoever the user is.
//!
//! Decides what belongs to a system that programs need in order to start. What a task's programs
//! work on is for the configuration to name. JavaScript needs nothing but its module folders.
//!
//! Rules are tied to files, not to names: a file that is replaced after the worker's start is
//! another file, and not allowed. That is what is wanted of programs; of a `resolv.conf` it means
//! that a new one is read by workers that start later.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use pool_protocol::worker::Setup;

use super::programs;

/// What this build knows of; less on an older kernel.
const KNOWN: ABI = ABI::V7;
/// From this version on the rules cover truncation, without which a file that may not be written
/// can still be emptied.
const WHOLE: i32 = 3;

/// Of the system, to be read by programs: libraries, their data, and what the C library looks up.
/// No folder of programs: whoever may read one may run what is in it through the dynamic loader,
/// which has to be executable.
const READ: [&str; 53] = [
    // Shared libraries, and the data that programs come with.
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libx32",
    "/usr/share",
    "/usr/local/lib",
    "/usr/local/share",
    // The same where a distribution keeps everything in a store.
    "/nix/store",
    "/gnu/store",
    // The dynamic loader: where libraries are.
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    // Names of users, groups, hosts, services: the C library, for programs and for HTTP requests.
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/networks",
    // What /etc/resolv.conf is a link to: the folders, since the file is replaced whenever the
    // network changes.
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    // Time zone and language.
    "/etc/localtime",
    "/etc/timezone",
    "/etc/locale.alias",
    "/etc/locale.conf",
    // Certificates: curl, git, Python, and HTTP requests.
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/openssl.cnf",
    "/var/lib/ca-certificates",
    "/etc/ca-certificates",
    "/etc/pki/tls",
    "/etc/pki/ca-trust",
    "/etc/crypto-policies",
    // Which of several programs a name means: links only.
    "/etc/alternatives",
    // What a program asks to know where it is.
    "/etc/os-release",
    "/etc/debian_version",
    // Settings of interpreters that do not start without.
    "/etc/python3",
    "/etc/perl",
    "/etc/java",
    // Settings for all users of the programs that are run most.
    "/etc/gitconfig",
    "/etc/mime.types",
    // A program's own figures, and how many processors there are.
    "/proc",
    "/sys",
];

/// Devices without a state: to be read and written.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Leaves nothing to open but the module folders, nothing to connect to and nobody to signal. Of
/// this thread and those it starts.
pub(super) fn for_javascript(module_roots: &[String]) -> Result<(), String> {
    let mut rules = ruleset(AccessNet::from_all(KNOWN))?;
    for root in module_roots {
        rules = allow(rules, Path::new(root), AccessFs::ReadFile | AccessFs::ReadDir)?;
    }
    // A version without truncation does here: there is nothing to truncate, and no call for it.
    enforce(rules, 1)
}

/// Leaves the programs of the list, what they need of the system, and what the configuration names.
/// Of the network, everything: the lane's requests need it.
pub(super) fn for_programs(setup: &Setup) -> Result<(), String> {
    let mut rules = ruleset(BitFlags::EMPTY)?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let execute = AccessFs::ReadFile | AccessFs::Execute;
    let mut allowed: BTreeMap<&Path, BitFlags<AccessFs>> = BTreeMap::new();
    let mut add = |path, access| *allowed.entry(path).or_insert(BitFlags::EMPTY) |= access;
    READ.iter().for_each(|path| add(Path::new(*path), read));
    let authorities = authorities();
    authorities.iter().for_each(|path| add(path, read));
    DEVICES
        .iter()
        .for_each(|path| add(Path::new(*path), read | AccessFs::WriteFile | AccessFs::IoctlDev));
    // What may be executed may not be written, unless the configuration names it twice.
    setup.isolation.readable.iter().for_each(|path| add(Path::new(path), read | AccessFs::Execute));
    setup.isolation.writable.iter().for_each(|path| add(Path::new(path), writing()));
    let programs = programs::executables(&setup.shell);
    programs.iter().for_each(|path| add(path, execute));
    for (path, access) in allowed {
        rules = allow(rules, path, access)?;
    }
    enforce(rules, WHOLE)
}

/// Where the machine's authorities are, if this process's environment says so.
fn authorities() -> Vec<PathBuf> {
    let places =
        ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| std::env::var_os(name).unwrap_or_default());
    places.iter().flat_map(std::env::split_paths).filter(|path| path.is_absolute()).collect()
}

/// What is put on each program besides: it signals nobody but itself and what it starts, so not the
/// worker, which is otherwise confined like it. Nothing where the kernel has no such rule.
pub(super) fn for_one_program() -> Option<OwnedFd> {
    let rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    rules.scope(Scope::Signal).and_then(Ruleset::create).ok()?.into()
}

/// Everything but executing and making device files.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::from_all(KNOWN)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev)
}

/// Handles every right to files, and those to the network; forbids to reach processes outside by
/// signals and abstract sockets.
fn ruleset(net: BitFlags<AccessNet>) -> Result<RulesetCreated, String> {
    let rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    let rules = rules.handle_access(AccessFs::from_all(KNOWN)).map_err(|e| e.to_string())?;
    let rules = if net.is_empty() { Ok(rules) } else { rules.handle_access(net) }
        .map_err(|e| e.to_string())?;
    rules.scope(Scope::from_all(KNOWN)).and_then(Ruleset::create).map_err(|e| e.to_string())
}

/// What does not exist gets no rule.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, String> {
    let Ok(metadata) = path.metadata() else {
        return Ok(rules);
    };
    let Ok(place) = PathFd::new(path) else {
        return Ok(rules);
    };
    let access = if metadata.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    rules.add_rule(PathBeneath::new(place, access)).map_err(|e| format!("{}: {e}", path.display()))
}

fn enforce(rules: RulesetCreated, least: i32) -> Result<(), String> {
    let status = rules.restrict_self().map_err(|e| e.to_string())?;
    let version = version();
    if status.ruleset == RulesetStatus::NotEnforced || version < 1 {
        return Err(if version < 0 {
            "the kernel has no Landlock, or it is not among the security modules of its command \
             line (`lsm=`)"
                .to_owned()
        } else {
            "the kernel enforces none of the rules".to_owned()
        });
    }
    if version < least {
        return Err(format!(
            "the kernel's Landlock is version {version}; from {least} on (Linux 6.2) it covers \
             truncation"
        ));
    }
    Ok(())
}

/// The kernel's; negative when it has none.
fn version() -> i32 {
    const VERSION: u32 = 1;
    #[expect(unsafe_code, reason = "the crate keeps the kernel's version to itself")]
    // SAFETY: with this flag the call reads no memory.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION)
    };
    i32::try_from(version).unwrap_or(-1)
}
