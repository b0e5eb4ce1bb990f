//! Attacks on a worker's confinement, as `poolctl doctor` orders them.
//!
//! A process that is started and confined exactly like a worker attacks one layer or limit from
//! within, on the thread that would run tasks. The list is closed: what can be asked for is here,
//! and nothing else is ever tried. Every attack is harmless where it succeeds: it signals with
//! number 0, asks with arguments that the kernel must refuse in the end, or changes nothing but the
//! attacking process, which then exits.

use std::fmt;

use crate::lane::Lane;
use crate::layer::Layer;
use crate::outcome::Cause;

macro_rules! attacks {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $js:expr, $io:expr, $tries:literal;)*) => {
        /// One attack.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Attack { $(#[doc = $tries] $(#[$doc])* $variant,)* }

        impl Attack {
            /// All attacks, in the order in which they are reported.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name on the wire and in JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it does, for people.
            #[must_use]
            pub const fn tries(self) -> &'static str {
                match self { $(Self::$variant => $tries,)* }
            }

            /// The layer that must stop it in the lane; nothing where the lane needs what it does.
            #[must_use]
            pub const fn layer(self, lane: Lane) -> Option<Layer> {
                use Layer::*;
                match (self, lane) {
                    $((Self::$variant, Lane::Js) => $js, (Self::$variant, Lane::Io) => $io,)*
                }
            }
        }
    };
}

attacks! {
    InheritedDescriptors = "inherited-descriptors", Some(Descriptors), Some(Descriptors),
        "find a descriptor that came with the process, besides its own four";
    Environment = "environment", Some(Descriptors), Some(Descriptors),
        "read a variable of the environment";
    OpenFiles = "open-files", Some(ResourceLimits), Some(ResourceLimits),
        "hold more descriptors than its limit";
    CoreDump = "core-dump", Some(ResourceLimits), Some(ResourceLimits),
        "be allowed to leave a core dump";
    FileSize = "file-size", Some(ResourceLimits), None,
        "be allowed to write a file of one byte";
    DataLimit = "data-limit", Some(ResourceLimits), None,
        "map private memory without end";
    CpuWall = "cpu-wall", Some(ResourceLimits), None,
        "burn CPU time past the wall behind a task's budget";
    GainPrivileges = "gain-privileges", Some(NoNewPrivs), Some(NoNewPrivs),
        "start programs that have more rights than it";
    BeDumped = "be-dumped", Some(NotDumpable), Some(NotDumpable),
        "be readable by others of its user";
    CapabilitiesLeft = "capabilities-left", Some(Capabilities), None,
        "find a capability it still has";
    RegainCapability = "regain-capability", Some(Capabilities), Some(Capabilities),
        "take all capabilities back";
    /// Programs that root starts may become others: they are meant to.
    BecomeAnother = "become-another", Some(Capabilities), None,
        "become another user";
    RaiseLimits = "raise-limits", Some(Capabilities), Some(Capabilities),
        "raise its hard limit of descriptors";
    SetClock = "set-clock", Some(UserNamespace), None,
        "set the machine's clock";
    SeeParent = "see-parent", Some(PidNamespace), Some(PidNamespace),
        "see its parent's process id";
    /// For programs the namespace is there only where the pool runs as root.
    SignalSupervisor = "signal-supervisor", Some(PidNamespace), Some(Seccomp),
        "signal the supervisor (number 0)";
    SignalThread = "signal-thread", Some(PidNamespace), None,
        "signal the supervisor's thread (number 0)";
    PidfdSupervisor = "pidfd-supervisor", Some(PidNamespace), Some(Seccomp),
        "open a descriptor of the supervisor's process";
    SeeProcesses = "see-processes", Some(PidNamespace), Some(PidNamespace),
        "list the machine's processes in /proc";
    FindFolders = "find-folders", Some(MountNamespace), None,
        "find the system's folders";
    /// For programs, to be answered there: where the configuration lets them connect, the socket
    /// hangs up.
    ConnectControl = "connect-control", Some(MountNamespace), Some(Seccomp),
        "connect to the control socket";
    ConnectLoopback = "connect-loopback", Some(NetworkNamespace), None,
        "connect to the machine's loopback address";
    ConnectAbstract = "connect-abstract", Some(NetworkNamespace), None,
        "connect to another process's abstract socket";
    NetworkInterfaces = "network-interfaces", Some(NetworkNamespace), None,
        "find a network interface that is up";
    MessageQueue = "message-queue", Some(IpcNamespace), None,
        "open the supervisor's System V message queue";
    OpenPasswd = "open-passwd", Some(Landlock), None,
        "open /etc/passwd";
    ListRoot = "list-root", Some(Landlock), Some(Landlock),
        "list the root folder";
    ListVar = "list-var", Some(Landlock), Some(Landlock),
        "list the folder /var";
    ReadSupervisor = "read-supervisor", Some(Landlock), Some(Landlock),
        "open the supervisor's environment in /proc";
    CreateFile = "create-file", Some(Landlock), Some(Landlock),
        "create a file in /var/tmp";
    RunProgram = "run-program", Some(Landlock), Some(Landlock),
        "start a program that no list names";
    Execve = "execve", Some(Seccomp), None,
        "execve";
    Execveat = "execveat", Some(Seccomp), None,
        "execveat";
    MemfdExec = "memfd-exec", Some(Seccomp), None,
        "execute a file that lies in memory only";
    Fork = "fork", Some(Seccomp), None,
        "start another process";
    Ptrace = "ptrace", Some(Seccomp), Some(Seccomp),
        "ptrace";
    ProcessVmReadv = "process-vm-readv", Some(Seccomp), Some(Seccomp),
        "read the supervisor's memory";
    PrlimitSupervisor = "prlimit-supervisor", Some(Seccomp), Some(Seccomp),
        "read the supervisor's limits";
    ReniceSupervisor = "renice-supervisor", Some(Seccomp), Some(Seccomp),
        "renice the supervisor";
    RescheduleSupervisor = "reschedule-supervisor", Some(Seccomp), Some(Seccomp),
        "schedule the supervisor by another policy";
    PinSupervisor = "pin-supervisor", Some(Seccomp), Some(Seccomp),
        "pin the supervisor to a processor";
    Bpf = "bpf", Some(Seccomp), Some(Seccomp),
        "load a BPF program";
    Mount = "mount", Some(Seccomp), Some(Seccomp),
        "mount";
    UnshareUser = "unshare-user", Some(Seccomp), Some(Seccomp),
        "unshare its user namespace";
    CloneUser = "clone-user", Some(Seccomp), Some(Seccomp),
        "start a process in a new user namespace";
    Setns = "setns", Some(Seccomp), Some(Seccomp),
        "enter another namespace";
    Keyctl = "keyctl", Some(Seccomp), Some(Seccomp),
        "ask for the kernel's keyrings";
    IoUring = "io-uring", Some(Seccomp), Some(Seccomp),
        "set up an io_uring";
    Kexec = "kexec", Some(Seccomp), Some(Seccomp),
        "load another kernel";
    InitModule = "init-module", Some(Seccomp), Some(Seccomp),
        "load a kernel module";
    PerfEvent = "perf-event", Some(Seccomp), Some(Seccomp),
        "open a performance counter";
    Userfaultfd = "userfaultfd", Some(Seccomp), Some(Seccomp),
        "handle its own page faults";
    Openat2 = "openat2", Some(Seccomp), None,
        "open a file by openat2";
    SocketInet = "socket-inet", Some(Seccomp), None,
        "make an internet socket";
    SocketUnix = "socket-unix", Some(Seccomp), Some(Seccomp),
        "make a Unix socket";
    /// Only where the processor has it.
    I386Call = "i386-call", Some(Seccomp), Some(Seccomp),
        "call the kernel by the 32-bit gate";
    /// Only where the processor has it.
    X32Call = "x32-call", Some(Seccomp), Some(Seccomp),
        "call the kernel by the x32 numbers";
    HandleSigsys = "handle-sigsys", Some(Seccomp), None,
        "survive a forbidden call by a signal handler of its own";
    LeaveGroup = "leave-group", Some(Cgroup), Some(Cgroup),
        "move itself to the root control group";
    FillMemory = "fill-memory", Some(CgroupMemory), Some(CgroupMemory),
        "fill shared memory past the group's limit";
    FillProcesses = "fill-processes", Some(CgroupPids), Some(CgroupPids),
        "start threads past the group's limit";
    BurnProcessors = "burn-processors", Some(CgroupCpu), Some(CgroupCpu),
        "burn more CPU time than the group's share";
}

impl Attack {
    /// The attack of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|attack| attack.name() == name)
    }

    /// Whether this kind of machine can be attacked in this way at all.
    #[must_use]
    pub const fn exists_here(self) -> bool {
        !matches!(self, Self::I386Call | Self::X32Call) || cfg!(target_arch = "x86_64")
    }

    /// Whether an attack is tried only where its layer is on: elsewhere nothing but the machine's
    /// own size would stop it.
    #[must_use]
    pub const fn needs_its_layer(self) -> bool {
        matches!(self, Self::FillMemory | Self::FillProcesses | Self::BurnProcessors)
    }

    /// Whether the layer that must stop it lies beneath the filter of system calls, and the attack
    /// is one that the process lives through. Such an attack is made just before the filter is put
    /// on, which would answer for the layer.
    #[must_use]
    pub const fn is_beneath_the_filter(self, lane: Lane) -> bool {
        let is_deadly = matches!(self, Self::CpuWall | Self::FillMemory);
        !is_deadly && !matches!(self.layer(lane), None | Some(Layer::Seccomp))
    }

    /// Whether this end of the attacking process shows that it was stopped. Every attack may die of
    /// the system call that it makes; any other death is a fault of the probe, and shows nothing.
    #[must_use]
    pub const fn is_stopped_by(self, cause: Cause) -> bool {
        match cause {
            Cause::SandboxViolation => true,
            Cause::CpuLimit => matches!(self, Self::CpuWall),
            Cause::KernelOom => matches!(self, Self::FillMemory),
            // A kernel without the 32-bit gate answers with SIGSEGV.
            Cause::EngineFatal => matches!(self, Self::I386Call),
            _ => false,
        }
    }
}

/// The key of the message queue that the supervisor of that process id has during
/// [`Attack::MessageQueue`].
#[must_use]
pub const fn message_queue(supervisor: u32) -> i32 {
    // With bits that no other program's number has by chance; the process id alone might be one.
    (supervisor ^ 0x706f_0000).cast_signed()
}

/// The name of the abstract socket on which the supervisor of that process id listens during
/// [`Attack::ConnectAbstract`].
#[must_use]
pub fn abstract_socket(supervisor: u32) -> String {
    format!("process-pool-probe-{supervisor}")
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::LayerSet;

    #[test]
    fn every_layer_that_a_lane_can_have_is_attacked_in_it() {
        for lane in [Lane::Js, Lane::Io] {
            for layer in LayerSet::NONE.lacking(lane).with(LayerSet::CGROUP).iter() {
                let attacked = Attack::ALL.iter().any(|attack| attack.layer(lane) == Some(layer));
                assert!(attacked, "nothing attacks {layer} in the lane {}", lane.name());
            }
        }
    }

    #[test]
    fn names_are_unique_and_read_back() {
        for attack in Attack::ALL {
            assert_eq!(Attack::by_name(attack.name()), Some(*attack));
        }
        assert_eq!(Attack::by_name("rm -rf"), None);
    }
}
