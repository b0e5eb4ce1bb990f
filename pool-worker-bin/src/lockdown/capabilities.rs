//! Root's rights, given up one by one.
//!
//! Most workers have none: they belong to an ordinary user. One that is root, of the machine or of
//! its own namespace, keeps what the lane has use for, and nothing that it starts can have more.

use pool_protocol::lane::Lane;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
};

/// What programs that root starts may need in the files and processes of other users. Nothing of
/// the network but low ports, nothing of the kernel.
const FOR_PROGRAMS: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// Drops all but what the lane needs, of this thread, and of what it may ever have again.
pub(super) fn drop_for(lane: Lane) -> Result<(), String> {
    let keep = match lane {
        Lane::Js => CapabilitySet::empty(),
        Lane::Io => FOR_PROGRAMS,
    };
    let has = capabilities(None).map_err(|e| format!("capget: {e}"))?;
    if has.effective.contains(CapabilitySet::SETPCAP) {
        bound(keep)?;
    }
    // Older kernels than 4.3 have no such set.
    let _ = clear_ambient_capability_set();
    let left = CapabilitySets {
        effective: has.effective & keep,
        permitted: has.permitted & keep,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, left).map_err(|e| format!("capset: {e}"))?;
    let now = capabilities(None).map_err(|e| format!("capget: {e}"))?;
    let over = (now.effective | now.permitted | now.inheritable) - keep;
    if over.is_empty() {
        Ok(())
    } else {
        Err(format!("the kernel has left {:#x} of them", over.bits()))
    }
}

/// What a program that root starts gets at the most. By number, so that those that this build has
/// no name for go too.
fn bound(keep: CapabilitySet) -> Result<(), String> {
    for number in 0..u64::BITS {
        #[expect(unsafe_code, reason = "prctl on a capability by number")]
        // SAFETY: both options take a number and touch no memory.
        let dropped = unsafe {
            if libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(number), 0, 0, 0) < 0 {
                // The kernel knows no more.
                return Ok(());
            }
            keep.bits() & (1 << number) != 0
                || libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) == 0
        };
        if !dropped {
            return Err(format!(
                "prctl(PR_CAPBSET_DROP, {number}): {}",
                std::io::Error::last_os_error()
            ));
        }
    }
    Ok(())
}
