//! The version of the wire. One named constant per change.
//!
//! A hello carries its sender's version in the header's id, before anything that a version could
//! change. Both sides speak the same version or part, and the message says which one is newer.

/// The first wire: frames with a 16-byte header, bincode heads, opaque bodies.
pub const FIRST: u32 = 1;

/// A worker says which layers confine it, an outcome which are missing; probes of them are frames
/// of their own.
pub const LAYERS: u32 = 2;

/// A task may run in the realm `frozen`.
pub const FROZEN: u32 = 3;

/// A worker is told whether requests may reach public addresses that no list names.
pub const PUBLIC_ADDRESSES: u32 = 4;

/// A limit that was set at run time can be lifted. A worker is told which variables tasks may set
/// for programs and which Unix sockets are not for programs, and says how long a task kept it busy,
/// whatever else the machine did.
pub const TENANTS: u32 = 5;

/// A worker is told how long a program gets to end by itself, its umask, and whose certificates
/// requests trust; and says how long a server asks to be left alone.
pub const PROGRAMS: u32 = 6;

/// A worker is told which other paths lead to its module folders, which conditions of package
/// manifests hold, and what modules find as `NODE_ENV`. A reload can ask for new workers.
pub const MODULES: u32 = 7;

/// What this build speaks.
pub const CURRENT: u32 = MODULES;

/// The two sides speak different versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "failed to agree on a protocol version: {us} speaks {ours}, {them} speaks {theirs}; {older} is \
     older, upgrade it",
    older = if u64::from(*ours) < *theirs { us } else { them }
)]
pub struct Mismatch {
    /// Who we are: `client`, `supervisor`, `worker`.
    pub us: &'static str,
    /// Who they are.
    pub them: &'static str,
    /// Our version.
    pub ours: u32,
    /// Their version.
    pub theirs: u64,
}

impl Mismatch {
    /// Compares the version in a hello with ours.
    ///
    /// # Errors
    /// The mismatch, with both versions.
    pub fn check(us: &'static str, them: &'static str, theirs: u64) -> Result<(), Self> {
        if theirs == u64::from(CURRENT) {
            return Ok(());
        }
        Err(Self { us, them, ours: CURRENT, theirs })
    }
}
