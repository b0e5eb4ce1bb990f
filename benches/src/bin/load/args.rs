//! The command line.

use std::path::PathBuf;

use clap::value_parser as parser;
use clap::{Args, Parser, Subcommand};
use pool_bench::pool::{Isolation, Pool, Setup, Tenancy};
use pool_bench::relay::{Answers, Manner};
use pool_bench::workload::Workload;

/// Measure a process pool: tasks a second, latency, CPU time, memory.
#[derive(Debug, Parser)]
#[command(name = "load", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) mode: Mode,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Mode {
    /// A closed or open loop over the pool's own wire
    Tasks(TasksArgs),
    /// The closed loop over a relay that does nothing: what no pool of processes can beat
    Floor(FloorArgs),
    /// A process of `floor`
    #[command(hide = true)]
    FloorRelay(Answering),
    /// A process of `floor`
    #[command(hide = true)]
    FloorEcho(Answering),
    /// `poolctl submit` over a file of small function tasks, from end to end
    Submit(SubmitArgs),
    /// Small function tasks of which some spin until their timeout; fails when the whole takes too
    /// long
    Spinners(SpinnersArgs),
    /// What confinement costs: small function tasks and workers' starts under `strict` and `off`,
    /// side by side
    Isolation(IsolationArgs),
    /// From a worker's spawn to ready
    Starts(StartsArgs),
    /// From a supervisor's start to its first result
    Cold(ColdArgs),
    /// What a long queue costs
    Queued(QueuedArgs),
    /// What a careless client costs the others: the longest answer and the supervisor's memory
    Careless(CarelessArgs),
    /// What a pool costs that has nothing to do
    Idle(IdleArgs),
}

/// How much is run.
#[derive(Debug, Args)]
pub(crate) struct Amount {
    /// Tasks in a round
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000,
        value_parser = parser!(u64).range(1..)
    )]
    pub(crate) tasks: u64,
    /// Rounds; the one in the middle counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Tasks in flight
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = parser!(u32).range(1..))]
    pub(crate) window: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Workers {
    /// Workers of a supervisor that is started [default: as many as there are CPUs]
    #[arg(long, value_name = "N", value_parser = parser!(u32).range(1..))]
    workers: Option<u32>,
}

impl Workers {
    pub(crate) fn count(&self) -> u32 {
        self.workers
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u32))
    }
}

/// The pool that is measured.
#[derive(Debug, Args)]
pub(crate) struct Reach {
    /// The control socket of a running supervisor; without, one is started for the measurement
    #[arg(long, value_name = "PATH", conflicts_with = "workers")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    workers: Workers,
}

impl Reach {
    /// Workers of a supervisor of our own.
    pub(crate) fn count(&self) -> Option<u32> {
        self.socket.is_none().then(|| self.workers.count())
    }

    pub(crate) fn pool(&self, change: impl FnOnce(Setup) -> Setup) -> anyhow::Result<Pool> {
        Pool::reach(self.socket.as_deref(), &change(Setup::new(self.workers.count())))
    }
}

#[derive(Debug, Args)]
pub(crate) struct TasksArgs {
    /// What is run
    #[arg(long, value_name = "WHAT", default_value = "warm")]
    pub(crate) workload: Workload,
    /// Bytes of an echo's text
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub(crate) size: usize,
    /// Connections over which the tasks in flight are spread, one each at least
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parser!(u32).range(1..=1000))]
    pub(crate) clients: u32,
    /// Projects whose the tasks are, in turn
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = parser!(u32).range(1..=100_000)
    )]
    pub(crate) projects: u32,
    /// Tasks arrive at this rate a second, whatever is in flight
    #[arg(
        long,
        value_name = "RATE",
        conflicts_with = "window",
        value_parser = parser!(u32).range(1..)
    )]
    pub(crate) open: Option<u32>,
    /// Tasks until a worker is replaced; 0 is never
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "socket")]
    pub(crate) recycle: u32,
    /// What may share a worker
    #[arg(long, value_name = "WHAT", default_value = "shared", conflicts_with = "socket")]
    pub(crate) tenancy: Tenancy,
    /// How workers are confined
    #[arg(long, value_name = "LEVEL", default_value = "standard", conflicts_with = "socket")]
    pub(crate) isolation: Isolation,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) amount: Amount,
}

#[derive(Debug, Args)]
pub(crate) struct FloorArgs {
    /// Frames of an echo of so many bytes instead of those of a function of two numbers
    #[arg(long, value_name = "BYTES")]
    pub(crate) size: Option<usize>,
    #[command(flatten)]
    pub(crate) answering: Answering,
    #[command(flatten)]
    pub(crate) amount: Amount,
}

/// How the floor's echoes are fed, and how they answer.
#[derive(Debug, Args)]
pub(crate) struct Answering {
    /// Write each answer by itself, as who ends tasks one after the other and holds no result back
    /// must; otherwise all that came in one read are answered in one write
    #[arg(long)]
    pub(crate) one_by_one: bool,
    /// Frames that an echo holds at most, as a pool's workers hold few; otherwise all that come
    #[arg(long, value_name = "N", value_parser = parser!(u32).range(1..))]
    pub(crate) credit: Option<u32>,
}

impl Answering {
    pub(crate) fn manner(&self) -> Manner {
        let answers = if self.one_by_one { Answers::OneByOne } else { Answers::Together };
        Manner { credit: self.credit.unwrap_or(u32::MAX), answers }
    }
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// Measure poolctl alone: what answers is no pool, and answers at once
    #[arg(long, conflicts_with_all = ["socket", "workers"])]
    pub(crate) echo: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) amount: Amount,
}

#[derive(Debug, Args)]
pub(crate) struct SpinnersArgs {
    /// Workers of the supervisor that is started
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = parser!(u32).range(1..))]
    pub(crate) workers: u32,
    /// Tasks, spinners among them
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = parser!(u64).range(1..))]
    pub(crate) tasks: u64,
    /// One task in so many spins
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = parser!(u64).range(1..))]
    pub(crate) one_in: u64,
    /// A spinner's timeout
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = parser!(u64).range(1..))]
    pub(crate) timeout: u64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IsolationArgs {
    /// Compared with `off`
    #[arg(long, value_name = "LEVEL", default_value = "strict")]
    pub(crate) level: Isolation,
    /// Workers started of each
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20,
        value_parser = parser!(u32).range(1..=1000)
    )]
    pub(crate) starts: u32,
    #[command(flatten)]
    pub(crate) workers: Workers,
    #[command(flatten)]
    pub(crate) amount: Amount,
}

#[derive(Debug, Args)]
pub(crate) struct StartsArgs {
    /// Workers started
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20,
        value_parser = parser!(u32).range(1..=1000)
    )]
    pub(crate) rounds: u32,
    /// How they are confined
    #[arg(long, value_name = "LEVEL", default_value = "standard")]
    pub(crate) isolation: Isolation,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ColdArgs {
    /// Starts, besides the first one with an empty cache folder
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct QueuedArgs {
    /// Tasks that wait
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000_000,
        value_parser = parser!(u64).range(1..=4_000_000)
    )]
    pub(crate) tasks: u64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) workers: Workers,
}

#[derive(Debug, Args)]
pub(crate) struct CarelessArgs {
    /// Tasks that wait, and that are cancelled
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000,
        value_parser = parser!(u64).range(1..=1_000_000)
    )]
    pub(crate) tasks: u64,
    /// Projects that are given a limit
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000,
        value_parser = parser!(u64).range(1..=1_000_000)
    )]
    pub(crate) limits: u64,
    /// Lists of projects
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1000,
        value_parser = parser!(u64).range(1..=1_000_000)
    )]
    pub(crate) lists: u64,
    /// Subscriptions to events
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50_000,
        value_parser = parser!(u64).range(1..=200_000)
    )]
    pub(crate) subscriptions: u64,
    /// Tasks that end their workers
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10,
        value_parser = parser!(u64).range(1..=1000)
    )]
    pub(crate) deaths: u64,
    /// Results of 4 MB that nobody reads
    #[arg(
        long,
        value_name = "N",
        default_value_t = 150,
        value_parser = parser!(u64).range(1..=10_000)
    )]
    pub(crate) results: u64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) workers: Workers,
}

#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    /// How long nothing is done
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// Workers of the pool
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = parser!(u32).range(1..))]
    pub(crate) workers: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
