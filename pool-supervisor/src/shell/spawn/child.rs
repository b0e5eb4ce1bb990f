//! What the child does between `clone` and `execve`, on the supervisor's memory.
//!
//! Everything here must be callable in a signal handler: raw system calls on values that lie ready.
//! No allocation, no lock, nothing that can panic.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;

/// The worker's end of the socket pair.
const LINK_FD: c_int = 3;
/// The highest signal's number.
const LAST_SIGNAL: c_int = 64;

/// What is to be done, in the parent's memory.
pub(super) struct Plan<'a> {
    pub(super) path: &'a CStr,
    /// Ends with a null pointer.
    pub(super) arguments: &'a [*const libc::c_char],
    /// Ends with a null pointer.
    pub(super) environment: &'a [*const libc::c_char],
    pub(super) link: c_int,
    pub(super) stderr: c_int,
    /// `cgroup.procs` of its group.
    pub(super) group: Option<c_int>,
    /// What its user namespace's `uid_map` and `gid_map` are to hold.
    pub(super) maps: Option<(&'a CStr, &'a CStr)>,
    /// A `/proc` of its process namespace's own.
    pub(super) own_proc: bool,
    pub(super) trouble: Trouble,
}

/// What can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Group,
    Users,
    Mounts,
    Descriptors,
    Exec,
}

impl Step {
    const ALL: [Self; 5] = [Self::Group, Self::Users, Self::Mounts, Self::Descriptors, Self::Exec];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Group => "cgroup.procs",
            Self::Users => "uid_map and gid_map",
            Self::Mounts => "mounting its own /proc",
            Self::Descriptors => "dup2",
            Self::Exec => "execve",
        }
    }
}

/// What failed, written by the child and read by the parent once the child is gone or has become
/// another program.
#[derive(Default)]
pub(super) struct Trouble {
    errno: AtomicI32,
    step: AtomicI32,
}

impl Trouble {
    pub(super) fn get(&self) -> Option<(Step, Errno)> {
        let errno = self.errno.load(Ordering::Acquire);
        let step = usize::try_from(self.step.load(Ordering::Acquire))
            .ok()
            .and_then(|at| Step::ALL.get(at));
        (errno != 0).then_some((*step?, Errno::from_raw(errno)))
    }

    fn set(&self, step: Step, errno: Errno) {
        self.step.store(step as i32, Ordering::Release);
        self.errno.store(errno as i32, Ordering::Release);
    }
}

/// The child's whole life before `execve`. Its return is its exit.
pub(super) extern "C" fn run(plan: *mut c_void) -> c_int {
    #[expect(unsafe_code, reason = "the one argument that `clone` hands over")]
    // SAFETY: `clone` was given a plan that lives in the frame of the thread that waits for this
    // process.
    let plan = unsafe { &*plan.cast::<Plan<'_>>() };
    let (step, errno) = prepare(plan);
    plan.trouble.set(step, errno);
    127
}

/// One thing to do, or nothing where the plan has none of it.
type Take = fn(&Plan<'_>) -> Result<(), Errno>;

/// Comes back only with what went wrong.
fn prepare(plan: &Plan<'_>) -> (Step, Errno) {
    let steps: [(Step, Take); 4] = [
        (Step::Group, enter_group),
        (Step::Users, map_users),
        (Step::Mounts, mount_proc),
        (Step::Descriptors, arrange_descriptors),
    ];
    for (step, take) in steps {
        if let Err(errno) = take(plan) {
            return (step, errno);
        }
    }
    reset_signals();
    #[expect(unsafe_code, reason = "nothing may come between")]
    // SAFETY: the path is a C string and both lists are of C strings and end with a null pointer.
    unsafe {
        libc::execve(plan.path.as_ptr(), plan.arguments.as_ptr(), plan.environment.as_ptr());
    }
    (Step::Exec, Errno::last())
}

/// "0" is whoever writes it, in whatever process namespace.
fn enter_group(plan: &Plan<'_>) -> Result<(), Errno> {
    plan.group.map_or(Ok(()), |fd| write_all(fd, c"0"))
}

fn map_users(plan: &Plan<'_>) -> Result<(), Errno> {
    let Some((users, groups)) = plan.maps else { return Ok(()) };
    // Without it no unprivileged process may set the other: groups could be dropped that deny
    // access to files.
    write_file(c"/proc/self/setgroups", c"deny")?;
    write_file(c"/proc/self/uid_map", users)?;
    write_file(c"/proc/self/gid_map", groups)
}

fn mount_proc(plan: &Plan<'_>) -> Result<(), Errno> {
    if !plan.own_proc {
        return Ok(());
    }
    let none = ptr::null();
    #[expect(unsafe_code, reason = "raw system calls")]
    // SAFETY: all arguments are C strings or null, as the call allows. The first call keeps the
    // second from the mount namespaces of others.
    unsafe {
        check(libc::mount(
            none,
            c"/".as_ptr(),
            none,
            libc::MS_REC | libc::MS_PRIVATE,
            none.cast(),
        ))?;
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        check(libc::mount(
            c"proc".as_ptr(),
            c"/proc".as_ptr(),
            c"proc".as_ptr(),
            flags,
            none.cast(),
        ))
    }
}

fn arrange_descriptors(plan: &Plan<'_>) -> Result<(), Errno> {
    // Every descriptor of the supervisor is close-on-exec; these four are all that the child has.
    // Standard error goes first: its pipe may lie on the link's number, but the link never on 2,
    // which is open in every Rust program.
    put(plan.stderr, 2)?;
    put(plan.link, LINK_FD)?;
    open_null(libc::O_RDONLY, 0)?;
    open_null(libc::O_WRONLY, 1)
}

fn open_null(how: c_int, at: c_int) -> Result<(), Errno> {
    #[expect(unsafe_code, reason = "raw system calls")]
    // SAFETY: the path is a C string. The descriptor that is opened belongs to this process alone
    // and goes with `execve`.
    let fd = unsafe { libc::open(c"/dev/null".as_ptr(), how | libc::O_CLOEXEC) };
    check(fd)?;
    put(fd, at)
}

/// Duplicates it to the number, without the mark that would close it. `dup2` onto itself would
/// leave the mark.
fn put(fd: c_int, at: c_int) -> Result<(), Errno> {
    #[expect(unsafe_code, reason = "raw system calls")]
    // SAFETY: numbers only; the child's table of descriptors is its own.
    check(unsafe { if fd == at { libc::fcntl(fd, libc::F_SETFD, 0) } else { libc::dup2(fd, at) } })
}

/// The default action for every signal, then none is held back. What fails here (SIGKILL, SIGSTOP,
/// the C library's own) has its default anyway.
fn reset_signals() {
    #[expect(unsafe_code, reason = "raw system calls")]
    // SAFETY: the table of actions is the child's own (no CLONE_SIGHAND); an empty action is the
    // default one.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        for number in 1..=LAST_SIGNAL {
            libc::sigaction(number, &raw const default, ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

fn write_file(path: &CStr, text: &CStr) -> Result<(), Errno> {
    #[expect(unsafe_code, reason = "raw system calls")]
    // SAFETY: the path is a C string.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(fd)?;
    let written = write_all(fd, text);
    #[expect(unsafe_code, reason = "raw system calls")]
    // SAFETY: opened above, and nothing else uses it.
    unsafe {
        libc::close(fd);
    }
    written
}

/// The kernel takes these texts whole or not at all.
fn write_all(fd: c_int, text: &CStr) -> Result<(), Errno> {
    let bytes = text.to_bytes();
    #[expect(unsafe_code, reason = "raw system calls")]
    // SAFETY: the pointer and the length are those of one slice.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    if written < 0 { Err(Errno::last()) } else { Ok(()) }
}

fn check(result: c_int) -> Result<(), Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(()) }
}
