//! Everything about the pool that is one question and one answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use comfy_table::Cell;
use pool_protocol::control::{
    ControlRequest, DeadWorkerRow, Done, IsolationReply, LaneLayers, LimitReply, ProjectRow,
    StatusReply, TaskReply, TrustReply, WorkerRow,
};
use pool_protocol::id::TaskId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::args::TaskArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output;
use super::run;
use super::table::{Column, millis, size, span, state, table, text, word};
use crate::client::{ClientError, Connection, Reply};

use pool_protocol::frame::Kind;

/// `poolctl status`
pub(super) fn status(connection: &mut Connection, json: bool) -> Result<Exit, CliError> {
    show(&ask(connection, &ControlRequest::Status)?, json, |reply: StatusReply| status_text(&reply))
}

/// `poolctl workers`
pub(super) fn workers(
    connection: &mut Connection,
    dead: bool,
    json: bool,
) -> Result<Exit, CliError> {
    let body = ask(connection, &ControlRequest::Workers { dead })?;
    if dead {
        return show(&body, json, |rows: Vec<DeadWorkerRow>| dead_text(&rows));
    }
    show(&body, json, |rows: Vec<WorkerRow>| workers_text(&rows))
}

/// `poolctl projects`
pub(super) fn projects(connection: &mut Connection, json: bool) -> Result<Exit, CliError> {
    show(
        &ask(connection, &ControlRequest::Projects)?,
        json,
        |rows: BTreeMap<String, ProjectRow>| projects_text(&rows),
    )
}

/// `poolctl task`
pub(super) fn task(connection: &mut Connection, args: &TaskArgs) -> Result<Exit, CliError> {
    let TaskId(task) = args.id;
    let request =
        if args.wait { ControlRequest::Wait { task } } else { ControlRequest::Task { task } };
    match connection.control(&request)? {
        Reply::Outcome(outcome) if args.wait => run::show(&outcome, args.form.json),
        Reply::Outcome(outcome) => {
            let json = pool_protocol::render::outcome_json(&outcome.head()?, &outcome.body);
            show_as(json.as_bytes(), args.form.json, task_text)
        }
        Reply::Body(body) => show_as(&body, args.form.json, task_text),
    }
}

/// `poolctl cancel`
pub(super) fn cancel(
    connection: &mut Connection,
    TaskId(task): TaskId,
    json: bool,
) -> Result<Exit, CliError> {
    done(connection, &ControlRequest::Cancel { task }, json)
}

/// `poolctl limit`
pub(super) fn limit(
    connection: &mut Connection,
    project: &str,
    limit: Option<u32>,
    json: bool,
) -> Result<Exit, CliError> {
    let request = match limit {
        Some(limit) => ControlRequest::SetLimit { project, limit },
        None => ControlRequest::LiftLimit { project },
    };
    show(&ask(connection, &request)?, json, |reply: LimitReply| reply.message + "\n")
}

/// `poolctl drain`
pub(super) fn drain(connection: &mut Connection, json: bool) -> Result<Exit, CliError> {
    done(connection, &ControlRequest::Drain, json)
}

/// `poolctl reload`
pub(super) fn reload(
    connection: &mut Connection,
    modules: bool,
    json: bool,
) -> Result<Exit, CliError> {
    done(
        connection,
        if modules { &ControlRequest::ReloadModules } else { &ControlRequest::Reload },
        json,
    )
}

/// `poolctl shutdown`
pub(super) fn shutdown(
    connection: &mut Connection,
    now: bool,
    json: bool,
) -> Result<Exit, CliError> {
    done(connection, &ControlRequest::Shutdown { now }, json)
}

fn done(
    connection: &mut Connection,
    request: &ControlRequest<'_>,
    json: bool,
) -> Result<Exit, CliError> {
    show(&ask(connection, request)?, json, |reply: Done| reply.message + "\n")
}

/// One question; its answer as JSON.
pub(super) fn ask(
    connection: &mut Connection,
    request: &ControlRequest<'_>,
) -> Result<Bytes, CliError> {
    match connection.control(request)? {
        Reply::Body(body) => Ok(body),
        Reply::Outcome(_) => {
            Err(ClientError::Unexpected { kind: Kind::Outcome, awaited: "a reply" }.into())
        }
    }
}

/// Prints the supervisor's own JSON, or the text made of it.
fn show<T: DeserializeOwned>(
    body: &[u8],
    json: bool,
    text: impl FnOnce(T) -> String,
) -> Result<Exit, CliError> {
    show_as(body, json, |body| serde_json::from_slice(body).map(text))
}

fn show_as(
    body: &[u8],
    json: bool,
    text: impl FnOnce(&[u8]) -> Result<String, serde_json::Error>,
) -> Result<Exit, CliError> {
    if json {
        let body = body.trim_ascii();
        output::write_foreign(&[body, b"\n"].concat())?;
    } else {
        // What is foreign in it was escaped when it was put there: a table has colours of its own.
        output::write(text(body).map_err(ClientError::Reply)?.as_bytes())?;
    }
    Ok(Exit::Ok)
}

/// Lines of a name and what is known under it.
fn pairs<const N: usize>(rows: [(&str, Option<Cell>); N]) -> String {
    let mut table = table(&[Column::Left(""), Column::Left("")]);
    for (name, value) in rows {
        if let Some(value) = value {
            table.add_row([Cell::new(name), value]);
        }
    }
    // Without the header, which is empty.
    text(&table).lines().skip(1).fold(String::new(), |text, line| text + line + "\n")
}

fn status_text(reply: &StatusReply) -> String {
    let (workers, tasks) = (&reply.stats.workers, &reply.stats.tasks);
    let usage: Vec<_> = reply
        .stats
        .project_usage
        .iter()
        .map(|(project, used)| format!("{project} {used}"))
        .collect();
    pairs([
        ("state", Some(state(&reply.state))),
        ("reason", reply.degraded.as_deref().map(word)),
        ("release", Some(Cell::new(format!("{} (pid {})", reply.release, reply.pid)))),
        ("uptime", Some(Cell::new(span(reply.stats.uptime)))),
        (
            "workers",
            Some(Cell::new(format!(
                "{} of {} to {}: {} busy, {} idle, {} starting",
                workers.total,
                reply.min_workers,
                reply.max_workers,
                workers.busy,
                workers.available,
                workers.spawning
            ))),
        ),
        ("tasks", Some(Cell::new(format!("{} running, {} waiting", tasks.running, tasks.queued)))),
        (
            "so far",
            Some(Cell::new(format!(
                "{} accepted, {} succeeded, {} did not; mean run time {}",
                tasks.total,
                tasks.completed,
                tasks.failed,
                millis(tasks.avg_time)
            ))),
        ),
        (
            "set aside",
            (reply.set_aside > 0)
                .then(|| Cell::new(format!("{} for ending their workers", reply.set_aside))),
        ),
        ("load", Some(Cell::new(format!("{:.2}", reply.stats.load)))),
        ("projects", (!usage.is_empty()).then(|| Cell::new(usage.join(", ")))),
        ("http", reply.http.as_ref().map(Cell::new)),
        ("trust", trust_text(&reply.trust).map(Cell::new)),
        ("isolation", Some(word(&isolation_text(&reply.isolation)))),
    ])
}

/// What deserves a line: that code of strangers runs here, and what was overridden for it.
fn trust_text(trust: &TrustReply) -> Option<String> {
    if trust.value == "trusted" {
        return None;
    }
    if trust.overridden.is_empty() {
        return Some(trust.value.clone());
    }
    let settings: Vec<_> =
        trust.overridden.iter().map(|(key, value)| format!("{key} = {value:?}")).collect();
    Some(format!("{}, overridden by {}", trust.value, settings.join(", ")))
}

/// The level, and what each lane lacks of all layers there are.
fn isolation_text(isolation: &IsolationReply) -> String {
    let lane = |(name, layers): (&String, &LaneLayers)| {
        if layers.missing.is_empty() {
            return format!("{name} has every layer");
        }
        let missing = layers.missing.iter().map(|(layer, why)| format!("{layer} ({why})"));
        format!("{name} lacks {}", missing.collect::<Vec<_>>().join(", "))
    };
    let lanes: Vec<_> = isolation.lanes.iter().map(lane).collect();
    if lanes.is_empty() {
        isolation.level.clone()
    } else {
        format!("{}: {}", isolation.level, lanes.join("; "))
    }
}

fn workers_text(rows: &[WorkerRow]) -> String {
    use Column::{Left, Right};
    let mut table = table(&[
        Left("WORKER"),
        Right("PID"),
        Left("LANE"),
        Left("STATE"),
        Right("TASKS"),
        Right("MEMORY"),
        Right("CPU"),
        Right("AGE"),
        Left("TASK"),
        Left("PROJECT"),
    ]);
    for row in rows {
        table.add_row([
            Cell::new(&row.worker_id),
            Cell::new(row.pid),
            Cell::new(&row.lane),
            state(&row.state),
            Cell::new(row.tasks),
            Cell::new(size(row.memory_bytes)),
            Cell::new(millis(row.cpu_ms)),
            Cell::new(span(row.age)),
            Cell::new(row.task_id.as_deref().unwrap_or("-")),
            Cell::new(row.project_id.as_deref().unwrap_or("-")),
        ]);
    }
    text(&table)
}

fn dead_text(rows: &[DeadWorkerRow]) -> String {
    use Column::{Left, Right};
    let mut table = table(&[
        Left("WORKER"),
        Right("PID"),
        Left("LANE"),
        Left("ENDED"),
        Right("TASKS"),
        Right("LIVED"),
        Left("CAUSE"),
        Left("EVIDENCE"),
    ]);
    for row in rows {
        table.add_row([
            Cell::new(&row.worker_id),
            Cell::new(row.pid),
            Cell::new(&row.lane),
            Cell::new(&row.time),
            Cell::new(row.tasks),
            Cell::new(span(row.age)),
            Cell::new(&row.verdict.cause),
            word(&row.verdict.evidence),
        ]);
    }
    text(&table)
}

fn projects_text(rows: &BTreeMap<String, ProjectRow>) -> String {
    use Column::{Left, Right};
    let mut table = table(&[
        Left("PROJECT"),
        Right("RUNNING"),
        Right("LIMIT"),
        Right("AVAILABLE"),
        Right("WAITING"),
        Right("WEIGHT"),
        Right("ENDED"),
    ]);
    let or_none = |value: Option<u32>| value.map_or_else(|| "none".to_owned(), |n| n.to_string());
    for (project, row) in rows {
        table.add_row([
            Cell::new(project),
            Cell::new(row.used),
            Cell::new(or_none(row.limit)),
            Cell::new(or_none(row.available)),
            Cell::new(row.queued),
            Cell::new(row.weight),
            Cell::new(row.ended),
        ]);
    }
    text(&table)
}

/// The outcome of a task that has ended. Its result may be nested in any depth.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ended {
    task_id: Option<String>,
    status: String,
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<EndedError>,
    attempts: u32,
    worker_id: Option<String>,
    tag: Option<String>,
    receipt: Receipt,
}

#[derive(Deserialize)]
struct EndedError {
    code: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    queued_ms: f64,
    run_ms: f64,
    cpu_ms: f64,
    memory_bytes: u64,
}

fn some(text: &Option<String>) -> Option<Cell> {
    text.as_deref().map(word)
}

/// A task's state, or the outcome of one that has ended.
fn task_text(body: &[u8]) -> Result<String, serde_json::Error> {
    match serde_json::from_slice(body) {
        Ok(task) => Ok(state_text(&task)),
        Err(_) => serde_json::from_slice(body).map(|ended| ended_text(&ended)),
    }
}

fn state_text(task: &TaskReply) -> String {
    pairs([
        ("task", Some(Cell::new(&task.task_id))),
        ("state", Some(state(&task.state))),
        ("project", Some(Cell::new(&task.project_id))),
        ("attempts", Some(Cell::new(task.attempts))),
        ("worker", some(&task.worker_id)),
        ("tag", some(&task.tag)),
    ])
}

fn ended_text(task: &Ended) -> String {
    let error = task.error.as_ref().map(|error| {
        let parts: Vec<&str> =
            [&error.code, &error.message].into_iter().flatten().map(String::as_str).collect();
        word(&parts.join(": "))
    });
    let result = match task.error {
        None => Some(task.result.as_ref().map_or(Cell::new("null"), |result| word(result.get()))),
        Some(_) => None,
    };
    pairs([
        ("task", some(&task.task_id)),
        ("state", Some(state(&task.status))),
        ("result", result),
        ("error", error),
        ("attempts", Some(Cell::new(task.attempts))),
        ("worker", some(&task.worker_id)),
        ("tag", some(&task.tag)),
        ("queued", Some(Cell::new(millis(task.receipt.queued_ms)))),
        ("ran", Some(Cell::new(millis(task.receipt.run_ms)))),
        ("cpu", Some(Cell::new(millis(task.receipt.cpu_ms)))),
        ("memory", Some(Cell::new(size(task.receipt.memory_bytes)))),
    ])
}
