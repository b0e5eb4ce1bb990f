//! `load`: measures a pool of its own, or a running one.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use pool_bench::closed::{Load, fitting_window};
use pool_bench::figures::{Round, middle};
use pool_bench::isolation::Plan;
use pool_bench::pool::Pool;
use pool_bench::spinners::{Mix, Spun};
use pool_bench::submit::Answerer;
use pool_bench::usage::CpuSeconds;
use pool_bench::workload::Workload;
use pool_bench::{echo, submit};
use pool_supervisor::client::Connection;
use serde_json::json;

/// Measure a process pool: tasks a second, latency, CPU time.
#[derive(Debug, Parser)]
#[command(name = "load", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// A closed loop over the pool's own wire
    Tasks(Tasks),
    /// `poolctl submit` over a file of small function tasks, from end to end
    Submit(Submit),
    /// Small function tasks of which some spin until their timeout; fails when the whole takes too long
    Spinners(Spinners),
    /// What confinement costs: small function tasks and workers' starts under `strict` and `off`, side by side
    Isolation(Isolation),
}

#[derive(Debug, Args)]
struct Common {
    /// The control socket of a running supervisor; without, one is started for the measurement
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Workers of the supervisor that is started [default: as many as there are CPUs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    workers: Option<u32>,
    /// Tasks in a round
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    tasks: u64,
    /// Rounds; the one in the middle counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Tasks in flight
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Tasks {
    /// What is run
    #[arg(long, value_name = "WHAT", default_value = "warm")]
    workload: Workload,
    /// Bytes of an echo's text
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    size: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Submit {
    /// Measure poolctl alone: what answers is no pool, and answers at once
    #[arg(long, conflicts_with_all = ["socket", "workers"])]
    echo: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Spinners {
    /// Workers of the supervisor that is started
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
    /// Tasks, spinners among them
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    tasks: u64,
    /// One task in so many spins
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    one_in: u64,
    /// A spinner's timeout
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Isolation {
    /// Compared with `off`
    #[arg(long, value_name = "LEVEL", default_value = "strict", value_parser = ["strict", "standard"])]
    level: String,
    /// Workers of each pool [default: as many as there are CPUs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    workers: Option<u32>,
    /// Tasks in a round
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    tasks: u64,
    /// Rounds of each, in turns
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Tasks in flight
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// Workers started of each
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    starts: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let measured = match &cli.mode {
        Mode::Tasks(args) => tasks(args).map(|()| true),
        Mode::Submit(args) => submitted(args).map(|()| true),
        Mode::Spinners(args) => spinners(args),
        Mode::Isolation(args) => isolation(args).map(|()| true),
    };
    match measured {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Common {
    fn pool(&self) -> anyhow::Result<Pool> {
        let cpus = || std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        Pool::reach(self.socket.as_deref(), self.workers.unwrap_or_else(cpus))
    }

    /// Prints each round as it ends, and the middle one.
    fn measure(&self, what: serde_json::Value, mut round: impl FnMut() -> anyhow::Result<Round>) -> anyhow::Result<()> {
        let mut rounds = Vec::new();
        for number in 1..=self.rounds {
            let figures = round()?;
            if !self.json {
                println!("{}", figures.line(&format!("round {number}")));
            }
            rounds.push(figures);
        }
        let middle = middle(&rounds).context("failed to find the middle of no rounds")?;
        if self.json {
            println!("{}", json!({ "what": what, "median": middle, "rounds": rounds }));
        } else {
            println!("{}", middle.line("median"));
        }
        Ok(())
    }
}

fn tasks(args: &Tasks) -> anyhow::Result<()> {
    let common = &args.common;
    let pool = common.pool()?;
    let sample = args.workload.sample(args.size);
    let window = fitting_window(common.window as usize, &sample);
    let what = json!({ "workload": args.workload, "window": window, "bodyBytes": sample.task.body.len() });
    if !common.json {
        println!("{:?} tasks with bodies of {} bytes, {window} in flight", args.workload, sample.task.body.len());
    }
    let mut usage = Connection::open(pool.socket(), "load")?;
    let mut load = Load::new(Connection::open(pool.socket(), "load")?, &sample, window);
    // Compiled code, grown heaps and learned credit are part of a pool at work.
    load.round(common.tasks.div_ceil(10), &mut usage)?;
    common.measure(what, || load.round(common.tasks, &mut usage))
}

fn isolation(args: &Isolation) -> anyhow::Result<()> {
    let cpus = || std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let plan = Plan {
        level: &args.level,
        workers: args.workers.unwrap_or_else(cpus),
        tasks: args.tasks,
        rounds: args.rounds,
        window: args.window as usize,
        starts: args.starts,
    };
    let compared = plan.measure(|line| {
        if !args.json {
            println!("{line}");
        }
    })?;
    if args.json {
        println!("{}", serde_json::to_string(&compared)?);
    } else {
        println!("{}", compared.lines(&args.level));
    }
    Ok(())
}

fn submitted(args: &Submit) -> anyhow::Result<()> {
    let common = &args.common;
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let file = folder.path().join("tasks.ndjson");
    submit::write_tasks(&file, common.tasks)?;
    let what = json!({ "submit": common.tasks, "window": common.window, "echo": args.echo });
    if !common.json {
        println!("poolctl submit of {} function tasks, {} in flight", common.tasks, common.window);
    }
    if args.echo {
        let mut round = 0;
        return common.measure(what, || {
            round += 1;
            let socket = folder.path().join(format!("echo-{round}.sock"));
            echo::serve(&socket, 1)?;
            submit::run(&socket, &file, common.tasks, common.window, Answerer::Echo)
        });
    }
    let pool = common.pool()?;
    let mut usage = Connection::open(pool.socket(), "load")?;
    common.measure(what, || {
        let before = CpuSeconds::now(&mut usage)?;
        let figures = submit::run(pool.socket(), &file, common.tasks, common.window, Answerer::Pool)?;
        let cpu = CpuSeconds { client: figures.cpu.client, ..CpuSeconds::now(&mut usage)?.since(&before) };
        Ok(Round { cpu, ..figures })
    })
}

/// Whether it took no longer than it may.
fn spinners(args: &Spinners) -> anyhow::Result<bool> {
    let mix = Mix {
        tasks: args.tasks,
        one_in: args.one_in,
        timeout: Duration::from_millis(args.timeout),
        workers: args.workers,
    };
    let pool = Pool::reach(None, args.workers)?;
    let spun = mix.measure(&mut Connection::open(pool.socket(), "load")?)?;
    let within = spun.is_within();
    if args.json {
        println!("{}", json!({ "spinners": spun, "ratio": spun.ratio(), "within": within }));
        return Ok(within);
    }
    let Spun { succeeded, timed_out, plain_seconds, seconds, least_seconds, bound_seconds } = spun;
    println!(
        "{succeeded} tasks succeeded, {timed_out} spinners were ended after {} ms, on {} workers",
        args.timeout, args.workers
    );
    println!(
        "without the spinners {plain_seconds:.3} s, with them {seconds:.3} s; their timeouts alone take {least_seconds:.3} s"
    );
    println!(
        "the spinners cost {:.2} times that; the bound is {bound_seconds:.3} s: {}",
        spun.ratio(),
        if within { "within" } else { "over" }
    );
    Ok(within)
}
