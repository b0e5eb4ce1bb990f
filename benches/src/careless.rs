//! What a careless client costs the others: how long they wait for the pool's status while it does
//! something, and how much memory the supervisor comes to hold.
//!
//! Each case has a pool of its own, in which tasks of a paused project wait. Another connection
//! asks for the status over and over, one question after the other, from before the first request
//! of the case until its last effect; the longest answer counts. So does the supervisor's largest
//! resident set, which is the kernel's own figure (`VmHWM`).

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use pool_protocol::control::{ControlRequest, StatusReply};
use pool_protocol::id::TaskId;
use pool_protocol::task::{self, Task};
use pool_supervisor::client::{
    self, Batch, Connection, Incoming, Receiver, Reply, SubmitOptions, now_ms,
};
use serde::Serialize;
use serde_json::json;

use crate::pool::{Pool, Setup};

/// The project whose tasks wait.
const PAUSED: &str = "paused";
/// For one case: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at whether a case has come to its end.
const STEP: Duration = Duration::from_millis(5);
/// Requests in one write.
const AT_ONCE: u64 = 1000;

/// How much of everything there is.
#[derive(Clone, Copy, Debug)]
pub struct Amounts {
    /// Tasks that wait, and that are cancelled.
    pub tasks: u64,
    /// Projects that are given a limit.
    pub limits: u64,
    /// Lists of projects that are asked for in one write.
    pub lists: u64,
    /// Subscriptions to events, 250 on a connection.
    pub subscriptions: u64,
    /// Tasks that certainly end their workers.
    pub deaths: u64,
    /// Results of 4 MB that nobody reads.
    pub results: u64,
    /// Workers.
    pub workers: u32,
}

/// What a client does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Case {
    Cancels,
    ClientGone,
    LimitsAndLists,
    Subscriptions,
    Deaths,
    UnreadResults,
}

impl Case {
    const ALL: [Self; 6] = [
        Self::Cancels,
        Self::ClientGone,
        Self::LimitsAndLists,
        Self::Subscriptions,
        Self::Deaths,
        Self::UnreadResults,
    ];

    fn name(self, of: &Amounts) -> String {
        match self {
            Self::Cancels => format!("{} cancels", of.tasks),
            Self::ClientGone => format!("a client goes with {} tasks", of.tasks),
            Self::LimitsAndLists => format!("{} limits, {} lists of projects", of.limits, of.lists),
            Self::Subscriptions => format!("{} subscriptions that nobody reads", of.subscriptions),
            Self::Deaths => format!("{} certain deaths", of.deaths),
            Self::UnreadResults => format!("{} results of 4 MB that nobody reads", of.results),
        }
    }
}

/// What a case cost the others.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// What the client did.
    pub what: String,
    /// Answers that were waited for meanwhile.
    pub answers: u64,
    /// The longest of them, in milliseconds.
    pub longest_ms: f64,
    /// From the first request to the last effect, in seconds.
    pub seconds: f64,
    /// The supervisor's largest resident set until the end, in MiB.
    pub peak_mib: f64,
}

/// Measures every case.
///
/// # Errors
/// When a pool does not start, or a case does not come to its end.
pub fn measure(of: &Amounts, mut each: impl FnMut(&Cost)) -> anyhow::Result<Vec<Cost>> {
    let mut costs = Vec::new();
    for case in Case::ALL {
        let cost = measure_one(case, of)
            .with_context(|| format!("failed to measure: {}", case.name(of)))?;
        each(&cost);
        costs.push(cost);
    }
    Ok(costs)
}

fn measure_one(case: Case, of: &Amounts) -> anyhow::Result<Cost> {
    let setup = Setup { queue: Some(2 * of.tasks), ..Setup::new(of.workers) };
    let pool = Pool::start(&setup)?;
    let mut admin = Connection::open(pool.socket(), "load")?;
    admin.control(&ControlRequest::SetLimit { project: PAUSED, limit: 0 })?;
    let client = Careless::fill(pool.socket(), of.tasks, &mut admin)?;
    let pid = admin.welcome().pid;
    let over = AtomicBool::new(false);
    let (seconds, seen) = std::thread::scope(|scope| {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let asking = scope.spawn(|| ask_on(pool.socket(), &over, begun));
        // A failure says so when the thread is joined.
        let _first_answer = has_begun.recv();
        let start = Instant::now();
        let done = client.act(case, of, pool.socket(), &mut admin);
        let seconds = start.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        let seen = asking
            .join()
            .map_err(|_| anyhow::anyhow!("failed to go on asking for the status"))??;
        done.map(|()| (seconds, seen))
    })?;
    let peak_mib = peak_mib(pid).context("failed to read the supervisor's memory")?;
    Ok(Cost {
        what: case.name(of),
        answers: seen.answers,
        longest_ms: seen.longest_ms,
        seconds,
        peak_mib,
    })
}

/// What somebody saw who asked all the time.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Seen {
    answers: u64,
    longest_ms: f64,
}

fn ask_on(socket: &Path, over: &AtomicBool, begun: Sender<()>) -> anyhow::Result<Seen> {
    let mut connection = Connection::open(socket, "load")?;
    connection.control(&ControlRequest::Status)?;
    drop(begun);
    let mut seen = Seen::default();
    // At least once: a small case may be over before this thread is given a processor.
    loop {
        let asked = Instant::now();
        connection.control(&ControlRequest::Status)?;
        seen.longest_ms = seen.longest_ms.max(asked.elapsed().as_secs_f64() * 1000.0);
        seen.answers += 1;
        if over.load(Ordering::Relaxed) {
            return Ok(seen);
        }
    }
}

fn status(admin: &mut Connection) -> anyhow::Result<StatusReply> {
    match admin.control(&ControlRequest::Status)? {
        Reply::Body(body) => Ok(serde_json::from_slice(&body)?),
        Reply::Outcome(_) => bail!("failed to read the status: the supervisor sent an outcome"),
    }
}

/// Looks at the status until it is as it should be.
fn until(
    admin: &mut Connection,
    what: &str,
    mut is_so: impl FnMut(&StatusReply) -> bool,
) -> anyhow::Result<()> {
    let start = Instant::now();
    while !is_so(&status(admin)?) {
        ensure!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(STEP);
    }
    Ok(())
}

fn parse(task: &serde_json::Value) -> Task {
    task::parse(task.to_string().as_bytes()).expect("the task is written here")
}

/// The client whose tasks wait.
struct Careless {
    sender: client::Sender,
    receiver: Receiver,
}

impl Careless {
    fn fill(socket: &Path, tasks: u64, admin: &mut Connection) -> anyhow::Result<Self> {
        let (mut sender, receiver) = Connection::open(socket, "load")?.split();
        let task = parse(&json!({"type": "execute-code", "code": "1", "projectId": PAUSED}));
        let mut batch = Batch::default();
        for number in 1..=tasks {
            batch.submit(number, &task, now_ms(), SubmitOptions::RUN)?;
            if number % AT_ONCE == 0 || number == tasks {
                sender.send(&mut batch)?;
            }
        }
        until(admin, "all tasks wait", |status| status.stats.tasks.queued == tasks)?;
        Ok(Self { sender, receiver })
    }

    fn act(
        self,
        case: Case,
        of: &Amounts,
        socket: &Path,
        admin: &mut Connection,
    ) -> anyhow::Result<()> {
        match case {
            Case::Cancels => self.cancel(of.tasks),
            Case::ClientGone => {
                drop(self);
                until(admin, "its tasks are cancelled", |status| status.stats.tasks.queued == 0)
            }
            Case::LimitsAndLists => limits_and_lists(of, socket),
            Case::Subscriptions => subscriptions(of, socket),
            Case::Deaths => deaths(of, socket),
            Case::UnreadResults => unread_results(of, socket, admin),
        }
    }

    /// As Ctrl-C of `poolctl submit` does, and as many unknown numbers besides.
    fn cancel(mut self, tasks: u64) -> anyhow::Result<()> {
        let mut sender = self.sender;
        std::thread::scope(|scope| {
            let sending = scope.spawn(move || {
                let mut batch = Batch::default();
                (1..=tasks).for_each(|number| {
                    batch.cancel(number);
                    batch.cancel(number + tasks);
                });
                sender.send(&mut batch).map(|()| sender)
            });
            for _ in 0..tasks {
                let answer = self.receiver.receive()?;
                ensure!(
                    matches!(answer, Incoming::Outcome(_)),
                    "an outcome was due, {:?} came",
                    answer.kind()
                );
            }
            let sent = sending.join().map_err(|_| anyhow::anyhow!("failed to send all cancels"))?;
            sent.map(drop).context("failed to send all cancels")
        })
    }
}

fn limits_and_lists(of: &Amounts, socket: &Path) -> anyhow::Result<()> {
    let (mut sender, mut receiver) = Connection::open(socket, "load")?.split();
    let mut batch = Batch::default();
    let names: Vec<String> = (0..of.limits).map(|number| format!("project-{number}")).collect();
    for names in names.chunks(AT_ONCE as usize) {
        for (number, project) in (1..).zip(names) {
            batch.control(number, &ControlRequest::SetLimit { project, limit: 1 });
        }
        sender.send(&mut batch)?;
        for _ in names {
            receiver.receive()?;
        }
    }
    for number in 1..=of.lists {
        batch.control(number, &ControlRequest::Projects);
    }
    sender.send(&mut batch)?;
    for _ in 0..of.lists {
        receiver.receive()?;
    }
    Ok(())
}

/// Connections that listen and never read, while tasks come and go.
fn subscriptions(of: &Amounts, socket: &Path) -> anyhow::Result<()> {
    const OF_CONNECTION: u64 = 250;
    let mut listeners = Vec::new();
    let mut batch = Batch::default();
    let mut left = of.subscriptions;
    while left > 0 {
        let count = left.min(OF_CONNECTION);
        let (mut sender, receiver) = Connection::open(socket, "load")?.split();
        for number in 1..=count {
            batch.control(number, &ControlRequest::Events { since: Some(0), follow: true });
        }
        sender.send(&mut batch)?;
        listeners.push((sender, receiver));
        left -= count;
    }
    let mut client = Connection::open(socket, "load")?;
    let task = parse(&json!({"type": "execute-code", "code": "1"}));
    for _ in 0..AT_ONCE {
        client.submit(&task, SubmitOptions::RUN)?;
        client.receive()?;
    }
    Ok(())
}

fn deaths(of: &Amounts, socket: &Path) -> anyhow::Result<()> {
    let mut client = Connection::open(socket, "load")?;
    for number in 0..of.deaths {
        let code = format!("const all = []; for (;;) all.push(new Array(100000).fill({number}.5))");
        client.submit(
            &parse(&json!({"type": "execute-code", "code": code, "maxAttempts": 1})),
            SubmitOptions::RUN,
        )?;
    }
    for _ in 0..of.deaths {
        let Incoming::Outcome(outcome) = client.receive()? else { bail!("an outcome was due") };
        ensure!(
            outcome.head()?.code.is_some(),
            "task {} did not end its worker",
            TaskId(outcome.head()?.task)
        );
    }
    Ok(())
}

fn unread_results(of: &Amounts, socket: &Path, admin: &mut Connection) -> anyhow::Result<()> {
    let ended = |status: &StatusReply| status.stats.tasks.completed + status.stats.tasks.failed;
    let before = ended(&status(admin)?);
    let mut client = Connection::open(socket, "load")?;
    let task =
        parse(&json!({"type": "execute-code", "code": "'x'.repeat(4000000)", "realm": "warm"}));
    for _ in 0..of.results {
        client.submit(&task, SubmitOptions::SUBMIT)?;
    }
    until(admin, "all have ended", |status| ended(status) >= before + of.results)
}

fn peak_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()?;
    Some(kib / 1024.0)
}
