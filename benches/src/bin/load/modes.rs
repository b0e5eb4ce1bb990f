//! What each subcommand measures and prints. With `--json` the last line on stdout is one object.

use std::time::Duration;

use anyhow::Context;
use pool_bench::clients::{Clients, fitting_window};
use pool_bench::figures::{Round, middle};
use pool_bench::floor::{Floor, Frames};
use pool_bench::isolation::Plan;
use pool_bench::memory::Memory;
use pool_bench::open::Arrivals;
use pool_bench::pool::{Pool, Setup};
use pool_bench::spinners::{Mix, Spun};
use pool_bench::submit::Answerer;
use pool_bench::usage::CpuSeconds;
use pool_bench::workload::Workload;
use pool_bench::{careless, closed, cold, echo, idle, open, queued, submit};
use pool_supervisor::client::Connection;
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::{
    Amount, CarelessArgs, ColdArgs, FloorArgs, IdleArgs, IsolationArgs, QueuedArgs, SpinnersArgs,
    StartsArgs, SubmitArgs, TasksArgs,
};

impl Amount {
    /// Says each round as it ends.
    fn rounds(
        &self,
        mut round: impl FnMut() -> anyhow::Result<Round>,
    ) -> anyhow::Result<Vec<Round>> {
        let mut rounds = Vec::new();
        for number in 1..=self.rounds {
            let figures = round()?;
            self.say(&figures.line(&format!("round {number}")));
            rounds.push(figures);
        }
        Ok(rounds)
    }

    fn say(&self, line: &str) {
        if !self.json {
            println!("{line}");
        }
    }

    /// Prints the round in the middle, and the memory where it was looked at.
    fn conclude(
        &self,
        what: &Value,
        rounds: &[Round],
        memory: Option<&Memory>,
    ) -> anyhow::Result<()> {
        let middle = middle(rounds).context("failed to find the middle of no rounds")?;
        if self.json {
            let mut all = json!({ "what": what, "median": middle, "rounds": rounds });
            if let Some(memory) = memory {
                all["memory"] = json!(memory);
            }
            println!("{all}");
            return Ok(());
        }
        println!("{}", middle.line("median"));
        if let Some(memory) = memory {
            println!("{}", memory.line());
        }
        Ok(())
    }
}

pub(crate) fn tasks(args: &TasksArgs) -> anyhow::Result<()> {
    let amount = &args.amount;
    let sample = args.workload.sample(args.size)?.of_projects(args.projects);
    let pool = args.reach.pool(|setup| Setup {
        recycle: args.recycle,
        tenancy: args.tenancy,
        isolation: args.isolation,
        programs: args.workload.programs(),
        ..setup
    })?;
    let mut usage = Connection::open(pool.socket(), "load")?;
    let mut clients = Clients::open(pool.socket(), args.clients as usize, &sample)?;
    let window = fitting_window(amount.window as usize, clients.count(), &sample);
    let what = json!({
        "workload": args.workload,
        "bodyBytes": sample.task().body.len(),
        "workers": args.reach.count(),
        "window": if args.open.is_none() { Some(window) } else { None },
        "open": args.open,
        "clients": args.clients,
        "projects": args.projects,
        "recycle": args.recycle,
        "tenancy": args.tenancy,
        "isolation": args.isolation,
    });
    amount.say(&what.to_string());
    // Compiled code, grown heaps and learned credit are part of a pool at work.
    closed::round(&mut clients, amount.tasks.div_ceil(10), window, &mut usage)?;
    let rounds = amount.rounds(|| match args.open {
        Some(rate) => open::round(&mut clients, amount.tasks, Arrivals { rate }, &mut usage),
        None => closed::round(&mut clients, amount.tasks, window, &mut usage),
    })?;
    amount.conclude(&what, &rounds, Some(&Memory::now(&mut usage)?))
}

pub(crate) fn floor(args: &FloorArgs) -> anyhow::Result<()> {
    let amount = &args.amount;
    let workload = if args.size.is_some() { Workload::Echo } else { Workload::Warm };
    let sample = workload.sample(args.size.unwrap_or_default())?;
    let window = fitting_window(amount.window as usize, 1, &sample);
    let what = json!({
        "floor": true,
        "oneByOne": args.answering.one_by_one,
        "credit": args.answering.credit,
        "size": args.size,
        "window": window,
        "frames": Frames::of(&sample),
    });
    amount.say(&format!("{what}; the relay counts as the supervisor, two echoes as the workers"));
    let mut floor = Floor::start(&sample, args.answering.manner())?;
    floor.round(amount.tasks.div_ceil(10), window)?;
    let rounds = amount.rounds(|| floor.round(amount.tasks, window))?;
    amount.conclude(&what, &rounds, None)
}

pub(crate) fn isolation(args: &IsolationArgs) -> anyhow::Result<()> {
    let amount = &args.amount;
    let plan = Plan {
        level: args.level,
        workers: args.workers.count(),
        tasks: amount.tasks,
        rounds: amount.rounds,
        window: amount.window as usize,
        starts: args.starts,
    };
    let compared = plan.measure(|line| amount.say(&line))?;
    if amount.json {
        println!("{}", serde_json::to_string(&compared)?);
    } else {
        println!("{}", compared.lines(args.level.name()));
    }
    Ok(())
}

pub(crate) fn starts(args: &StartsArgs) -> anyhow::Result<()> {
    let starts = pool_bench::starts::measure(args.isolation, args.rounds)?;
    if args.json {
        return print_with(&json!({ "starts": args.rounds, "isolation": args.isolation }), &starts);
    }
    println!(
        "{} workers under {}: ready after {:.1} ms ({:.1} to {:.1}); CPU of a worker's life {:.1} \
         ms, of the supervisor for it {:.1} ms",
        args.rounds,
        args.isolation.name(),
        starts.median_ms,
        starts.min_ms,
        starts.max_ms,
        starts.worker_cpu_ms,
        starts.supervisor_cpu_ms
    );
    Ok(())
}

pub(crate) fn cold(args: &ColdArgs) -> anyhow::Result<()> {
    let cold = cold::measure(args.rounds)?;
    if args.json {
        return print_with(&json!({ "cold": true, "rounds": args.rounds }), &cold);
    }
    println!(
        "first start ever {:.1} ms; {} later ones {:.1} ms ({:.1} to {:.1}), of which {:.1} ms \
         until the supervisor answered a hello",
        cold.first_ms,
        args.rounds,
        cold.median_ms,
        cold.min_ms,
        cold.max_ms,
        cold.welcome_median_ms
    );
    Ok(())
}

pub(crate) fn idle(args: &IdleArgs) -> anyhow::Result<()> {
    let idle = idle::measure(args.workers, Duration::from_secs(args.seconds))?;
    if args.json {
        return print_with(
            &json!({ "idle": true, "seconds": args.seconds, "workers": args.workers }),
            &idle,
        );
    }
    println!(
        "{} idle workers: {:.4} % of a processor, of which the supervisor {:.4} %",
        args.workers, idle.total_percent, idle.supervisor_percent
    );
    println!("{}", idle.memory.line());
    Ok(())
}

pub(crate) fn queued(args: &QueuedArgs) -> anyhow::Result<()> {
    let queued = queued::measure(args.tasks, args.workers.count())?;
    if args.json {
        return print_with(
            &json!({ "queued": args.tasks, "workers": args.workers.count() }),
            &queued,
        );
    }
    println!(
        "submission: {:.0} tasks/s with an empty queue, {:.0} tasks/s with {} waiting ({:.2}); \
         supervisor {:.0} and {:.0} ns each",
        queued.empty_rate,
        queued.full_rate,
        args.tasks,
        queued.submit_ratio,
        queued.empty_cpu_ns,
        queued.full_cpu_ns
    );
    println!(
        "memory: {:.0} bytes for each waiting task besides its body of {}",
        queued.bytes_per_task, queued.body_bytes
    );
    println!(
        "running: {:.0} tasks/s with few waiting, {:.0} tasks/s with all ({:.2}); supervisor {:.0} \
         and {:.0} ns each; to the end {:.0} tasks/s",
        queued.few_drain_rate,
        queued.many_drain_rate,
        queued.drain_ratio,
        queued.few_drain_cpu_ns,
        queued.many_drain_cpu_ns,
        queued.drain_rate
    );
    Ok(())
}

pub(crate) fn careless(args: &CarelessArgs) -> anyhow::Result<()> {
    let CarelessArgs { tasks, limits, lists, subscriptions, deaths, results, .. } = *args;
    let amounts = careless::Amounts {
        tasks,
        limits,
        lists,
        subscriptions,
        deaths,
        results,
        workers: args.workers.count(),
    };
    let costs = careless::measure(&amounts, |cost| {
        if !args.json {
            println!(
                "{}: the longest of {} answers {:.1} ms, {:.1} s in all, the supervisor's memory \
                 {:.0} MiB at most",
                cost.what, cost.answers, cost.longest_ms, cost.seconds, cost.peak_mib
            );
        }
    })?;
    if args.json {
        println!(
            "{}",
            json!({ "what": { "tasks": tasks, "workers": amounts.workers }, "costs": costs })
        );
    }
    Ok(())
}

/// One line of JSON: what was measured, and the figures beside it.
fn print_with(what: &Value, figures: &impl Serialize) -> anyhow::Result<()> {
    let mut all = serde_json::to_value(figures)?;
    all["what"] = what.clone();
    println!("{all}");
    Ok(())
}

pub(crate) fn submitted(args: &SubmitArgs) -> anyhow::Result<()> {
    let amount = &args.amount;
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let file = folder.path().join("tasks.ndjson");
    submit::write_tasks(&file, amount.tasks)?;
    let what = json!({ "submit": amount.tasks, "window": amount.window, "echo": args.echo });
    amount.say(&what.to_string());
    if args.echo {
        let mut round = 0;
        let rounds = amount.rounds(|| {
            round += 1;
            let socket = folder.path().join(format!("echo-{round}.sock"));
            echo::serve(&socket, 1)?;
            submit::run(&socket, &file, amount.tasks, amount.window, Answerer::Echo)
        })?;
        return amount.conclude(&what, &rounds, None);
    }
    let pool = args.reach.pool(|setup| setup)?;
    let mut usage = Connection::open(pool.socket(), "load")?;
    let rounds = amount.rounds(|| {
        let before = CpuSeconds::now(&mut usage)?;
        let figures =
            submit::run(pool.socket(), &file, amount.tasks, amount.window, Answerer::Pool)?;
        let cpu = CpuSeconds {
            client: figures.cpu.client,
            ..CpuSeconds::now(&mut usage)?.since(&before)
        };
        Ok(Round { cpu, ..figures })
    })?;
    amount.conclude(&what, &rounds, Some(&Memory::now(&mut usage)?))
}

/// Whether it took no longer than it may.
pub(crate) fn spinners(args: &SpinnersArgs) -> anyhow::Result<bool> {
    let mix = Mix {
        tasks: args.tasks,
        one_in: args.one_in,
        timeout: Duration::from_millis(args.timeout),
        workers: args.workers,
    };
    let pool = Pool::start(&Setup::new(args.workers))?;
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
        "without the spinners {plain_seconds:.3} s, with them {seconds:.3} s; their timeouts alone \
         take {least_seconds:.3} s"
    );
    println!(
        "the spinners cost {:.2} times that; the bound is {bound_seconds:.3} s: {}",
        spun.ratio(),
        if within { "within" } else { "over" }
    );
    Ok(within)
}
