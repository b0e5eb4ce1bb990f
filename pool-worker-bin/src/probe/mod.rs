//! One attack on this process's own confinement, instead of tasks.
//!
//! Owns what each attack of [`Attack`] does. The process is confined exactly as for tasks and
//! attacks on the thread that would run them. It must do no harm where it succeeds: signals have
//! number 0, arguments are such that the kernel has to refuse in the end, and what is gained is
//! gained by a process that exits. That an attack is to be made is said in the setup, which comes
//! from the supervisor before anything else: no task can ask for one.

mod calls;
mod group;
mod itself;
mod processes;
mod reach;
mod report;

use anyhow::{Context, bail};
use pool_protocol::frame::{self, Kind};
use pool_protocol::probe::Attack;
use pool_protocol::worker::{ProbeReport, ProbeSetup, Setup};

use crate::link::{Link, LinkError};

/// An attack that is ordered.
#[derive(Debug)]
pub(crate) struct Probe<'a> {
    attack: Attack,
    order: &'a ProbeSetup,
    setup: &'a Setup,
    /// What came of it, when it has been made.
    report: Option<ProbeReport>,
}

/// The attack that the setup orders, if it does.
pub(crate) fn ordered(setup: &Setup) -> anyhow::Result<Option<Probe<'_>>> {
    let Some(order) = &setup.probe else { return Ok(None) };
    let attack = Attack::by_name(&order.attack)
        .with_context(|| format!("failed to probe: no attack is {order:?}"))?;
    if attack.layer(setup.lane).is_none() || !attack.exists_here() {
        bail!("failed to probe: {attack} is no attack on a worker of this lane or machine");
    }
    Ok(Some(Probe { attack, order, setup, report: None }))
}

impl Probe<'_> {
    /// To be called when everything but the filter of system calls is on: attacks what lies beneath
    /// it.
    pub(crate) fn before_the_filter(&mut self) -> anyhow::Result<()> {
        if self.attack.is_beneath_the_filter(self.setup.lane) {
            self.report = Some(self.make()?);
        }
        Ok(())
    }

    /// To be called where tasks would be served: attacks, and says what came of it if the process
    /// lives to tell.
    pub(crate) fn run(mut self, link: &Link) -> anyhow::Result<Result<(), LinkError>> {
        let report = match self.report.take() {
            Some(report) => report,
            None => self.make()?,
        };
        let body = serde_json::to_vec(&report).expect("texts serialise");
        Ok(link.send(|out| frame::put_plain(out, Kind::Probed, 0, &body)))
    }

    fn make(&self) -> anyhow::Result<ProbeReport> {
        make(self.attack, self.order, self.setup)
            .with_context(|| format!("failed to probe by {}", self.attack))
    }
}

fn make(attack: Attack, order: &ProbeSetup, setup: &Setup) -> anyhow::Result<ProbeReport> {
    use Attack::*;
    Ok(match attack {
        InheritedDescriptors => itself::inherited_descriptors(),
        Environment => itself::environment(),
        OpenFiles => itself::open_files(setup)?,
        CoreDump => itself::limit_above_zero(rlimit::Resource::CORE)?,
        FileSize => itself::limit_above_zero(rlimit::Resource::FSIZE)?,
        DataLimit => itself::data_limit()?,
        CpuWall => itself::cpu_wall(),
        GainPrivileges => itself::gain_privileges()?,
        BeDumped => itself::be_dumped()?,
        CapabilitiesLeft => itself::capabilities_left()?,
        RegainCapability => itself::regain_capability(),
        BecomeAnother => itself::become_another(),
        RaiseLimits => itself::raise_limits()?,
        SeeParent => processes::see_parent(),
        SeeProcesses => processes::see_processes(),
        RunProgram => processes::run_program(setup)?,
        Fork => processes::fork(0),
        CloneUser => processes::fork(libc::CLONE_NEWUSER),
        FindFolders => reach::find_folders(setup),
        ListRoot => reach::list("/"),
        ListVar => reach::list("/var"),
        OpenPasswd => reach::open("/etc/passwd"),
        ReadSupervisor => reach::open(&format!("/proc/{}/environ", order.supervisor)),
        CreateFile => reach::create_file(),
        ConnectControl => reach::connect_control(&order.control_socket, setup.lane),
        ConnectLoopback => reach::connect_loopback(),
        ConnectAbstract => reach::connect_abstract(order.supervisor)?,
        NetworkInterfaces => reach::network_interfaces(),
        LeaveGroup => group::leave(),
        FillMemory => group::fill_memory(setup)?,
        FillProcesses => group::fill_processes(),
        BurnProcessors => group::burn_processors()?,
        MemfdExec => calls::memfd_exec(),
        PerfEvent => calls::perf_event(),
        I386Call => calls::i386(),
        HandleSigsys => calls::handle_sigsys()?,
        SetClock | SignalSupervisor | SignalThread | PidfdSupervisor | MessageQueue | Execve
        | Execveat | Ptrace | ProcessVmReadv | PrlimitSupervisor | ReniceSupervisor
        | RescheduleSupervisor | PinSupervisor | Bpf | Mount | UnshareUser | Setns | Keyctl
        | IoUring | Kexec | InitModule | Userfaultfd | Openat2 | SocketInet | SocketUnix
        | X32Call => calls::plain(attack, order.supervisor).context("not a plain call")?,
    })
}
