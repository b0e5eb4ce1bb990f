//! A world of its own: namespaces of users, processes, files, network and messages.
//!
//! Decides nothing: tries each, and says which are there. The worker enters most of them itself and
//! not its parent for it: a new network namespace takes the kernel some 400 µs, which the
//! supervisor's thread has not.

use std::fs;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid, getpid, getuid};
use pool_protocol::layer::Layer;

use super::{Confined, root};

/// What the JavaScript lane enters besides those of users and processes, and as which layer it is
/// reported. Host name and control groups are no layers: nothing of JavaScript's reaches them
/// anyway.
const OWN: [(CloneFlags, Option<Layer>); 5] = [
    (CloneFlags::CLONE_NEWNS, Some(Layer::MountNamespace)),
    (CloneFlags::CLONE_NEWNET, Some(Layer::NetworkNamespace)),
    (CloneFlags::CLONE_NEWIPC, Some(Layer::IpcNamespace)),
    (CloneFlags::CLONE_NEWUTS, None),
    (CloneFlags::CLONE_NEWCGROUP, None),
];

/// Whether this process is the first of its process namespace. Then the kernel ends all others with
/// it, and signals of the default action do nothing to it, not even its own.
pub(crate) fn is_init() -> bool {
    getpid().as_raw() == 1
}

/// Enters all that JavaScript is to have, with a root that holds the module folders only. The
/// process must have one thread.
///
/// `namespaced`: the parent says that it has made the first two.
pub(super) fn enter(namespaced: bool, module_roots: &[String], confined: &mut Confined) {
    if namespaced {
        confined.note(Layer::UserNamespace, check_user());
        confined.note(Layer::PidNamespace, check_process());
    } else {
        confined.note(Layer::UserNamespace, own_user_namespace());
        let reason = "the supervisor did not start the worker in one, and a process cannot enter \
            one by itself";
        confined.note(Layer::PidNamespace, Err(reason.to_owned()));
    }
    for (layer, result) in unshare_all() {
        let result = match layer {
            Layer::MountNamespace => result.and_then(|()| root::replace(module_roots)),
            _ => result,
        };
        confined.note(layer, result);
    }
}

/// A mount namespace, whether or not the supervisor has made one already: what is mounted next must
/// be seen by nobody else.
pub(super) fn own_files() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| refused("unshare(CLONE_NEWNS)", e))
}

/// At once when it goes; one by one when not, to know which.
fn unshare_all() -> Vec<(Layer, Result<(), String>)> {
    let all = OWN.iter().fold(CloneFlags::empty(), |all, (flag, _)| all | *flag);
    let at_once = unshare(all).is_ok();
    let one =
        |flag| if at_once { Ok(()) } else { unshare(flag).map_err(|e| refused("unshare", e)) };
    let results = OWN.iter().map(|(flag, layer)| (*layer, one(*flag)));
    results.filter_map(|(layer, result)| Some((layer?, result))).collect()
}

fn check_user() -> Result<(), String> {
    if getuid().is_root() {
        return Ok(());
    }
    Err(format!(
        "the supervisor has made one but not mapped its root: this process is user {}",
        getuid()
    ))
}

fn check_process() -> Result<(), String> {
    if is_init() {
        return Ok(());
    }
    Err(format!(
        "the supervisor says that it has made one, but this process is number {}",
        getpid()
    ))
}

/// With this process as its root, which is nobody but its own user outside.
fn own_user_namespace() -> Result<(), String> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| refused("unshare(CLONE_NEWUSER)", e))?;
    let write = |name: &str, text: &str| {
        let path = format!("/proc/self/{name}");
        fs::write(&path, text).map_err(|e| format!("write({path}): {e}"))
    };
    // INVARIANT: before the groups are mapped: without rights outside, the kernel wants it so.
    write("setgroups", "deny")?;
    write("uid_map", &format!("0 {uid} 1"))?;
    write("gid_map", &format!("0 {gid} 1"))
}

fn refused(call: &str, error: Errno) -> String {
    let hint = match error {
        Errno::EPERM => {
            "; see kernel.unprivileged_userns_clone and \
             kernel.apparmor_restrict_unprivileged_userns, and in a container its \
             seccomp profile"
        }
        Errno::ENOSPC => "; see user.max_user_namespaces and its neighbours",
        Errno::EINVAL => "; the kernel is built without it",
        _ => "",
    };
    format!("{call}: {}{hint}", super::errno(error))
}
