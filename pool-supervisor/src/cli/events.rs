//! `poolctl events`: what happened in the pool, a line each.

use bytes::Bytes;
use pool_protocol::control::{ControlRequest, EventJson, EventsStart};

use super::args::Events;
use super::error::CliError;
use super::exit::Exit;
use super::output;
use super::table::millis;
use crate::client::{ClientError, Connection, Incoming};

/// Prints events until the list ends; with `--follow`, until somebody interrupts.
///
/// # Errors
/// [`CliError`] when the connection or our own output broke.
pub(super) fn events(args: &Events, connection: &mut Connection) -> Result<Exit, CliError> {
    let newest = args.last.map(|_| newest(connection)).transpose()?;
    let since = match (args.last, newest) {
        (Some(last), Some(newest)) => Some(newest.saturating_sub(last)),
        _ => args.since,
    };
    let (mut number, mut start) = ask(connection, since, args.follow)?;
    if args.last.is_none()
        && let Some(seen) = since.filter(|seen| *seen > start.last)
    {
        output::complain(&format!(
            "the newest event is {}: the supervisor has started anew since event {seen}; its \
             numbers begin again",
            start.last
        ));
        (number, start) = ask(connection, Some(0), args.follow)?;
    }
    if start.lost > 0 && args.last.is_none() {
        output::complain(&format!("{} older events are no longer kept", start.lost));
    }
    // An event that came after the newest was asked for is none of the last, but is what follows.
    let mut left = match (newest, since) {
        (Some(newest), Some(since)) if !args.follow => newest.saturating_sub(since + start.lost),
        _ => u64::MAX,
    };
    while let Some(body) = next(connection, number)? {
        if left == 0 {
            continue;
        }
        left -= 1;
        let mut line = if args.form.json { body.to_vec() } else { line(&body)?.into_bytes() };
        line.push(b'\n');
        output::write_foreign(&line)?;
    }
    Ok(Exit::Ok)
}

/// The newest event's number, by asking for what comes after every number.
fn newest(connection: &mut Connection) -> Result<u64, CliError> {
    let (number, start) = ask(connection, Some(u64::MAX), false)?;
    while next(connection, number)?.is_some() {}
    Ok(start.last)
}

/// Asks for events, and gives the number under which they come.
fn ask(
    connection: &mut Connection,
    since: Option<u64>,
    follow: bool,
) -> Result<(u64, EventsStart), CliError> {
    let number = connection.ask(&ControlRequest::Events { since, follow })?;
    match receive(connection, number)? {
        Incoming::Reply { body, .. } => {
            Ok((number, serde_json::from_slice(&body).map_err(ClientError::Reply)?))
        }
        other => Err(unexpected(&other)),
    }
}

/// The next event of the list; none at its end.
fn next(connection: &mut Connection, number: u64) -> Result<Option<Bytes>, CliError> {
    match receive(connection, number)? {
        Incoming::Event { body, .. } => Ok(Some(body)),
        Incoming::Reply { .. } => Ok(None),
        other => Err(unexpected(&other)),
    }
}

/// The next message of one list. What still comes of an earlier one is passed over.
fn receive(connection: &mut Connection, number: u64) -> Result<Incoming, CliError> {
    loop {
        match connection.receive()? {
            Incoming::Event { request, .. } | Incoming::Reply { request, .. }
                if request != number => {}
            Incoming::Refused { code, error, .. } => {
                return Err(ClientError::Refused { code, error }.into());
            }
            message => return Ok(message),
        }
    }
}

fn unexpected(message: &Incoming) -> CliError {
    ClientError::Unexpected { kind: message.kind(), awaited: "an event" }.into()
}

/// An event as a person reads it: number, time, name, then what applies.
fn line(body: &[u8]) -> Result<String, CliError> {
    let event: EventJson<'_> = serde_json::from_slice(body).map_err(ClientError::Reply)?;
    let verdict =
        event.verdict.as_ref().map(|verdict| format!("{} ({})", verdict.cause, verdict.evidence));
    let workers = event.workers.map(|n| n.to_string());
    let attempts = event.attempts.map(|n| n.to_string());
    let duration = event.duration.map(millis);
    let mut text = format!("{:>6} {} {:<17}", event.seq, event.time, event.event);
    for (name, value) in [
        ("task", event.task_id.as_deref()),
        ("project", event.project_id),
        ("worker", event.worker_id.as_deref()),
        ("attempts", attempts.as_deref()),
        ("workers", workers.as_deref()),
        ("duration", duration.as_deref()),
        ("error", event.error.as_deref()),
        ("verdict", verdict.as_deref()),
        (event.level.unwrap_or("log"), event.message.as_deref()),
    ] {
        if let Some(value) = value {
            text.push_str(&format!(" {name}={}", value.replace('\n', "\\n")));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_what_applies() {
        let body = br#"{"seq":7,"time":"2026-01-31T12:00:00Z","event":"task-error","taskId":"1a","projectId":"p","duration":1.5,"error":"JS_EXCEPTION: a\nb"}"#;
        assert_eq!(
            line(body).expect("an event"),
            "     7 2026-01-31T12:00:00Z task-error        task=1a project=p duration=1.50 ms \
             error=JS_EXCEPTION: a\\nb"
        );
    }
}
