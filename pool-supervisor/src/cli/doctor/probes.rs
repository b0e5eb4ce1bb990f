//! Attacks from within a process that is confined as a worker.

use std::path::Path;

use pool_protocol::control::{ControlRequest, ProbeReply};
use pool_protocol::lane::Lane;
use pool_protocol::layer::Layer;
use pool_protocol::outcome::Cause;
use pool_protocol::probe::Attack;
use serde_json::Value;

use super::super::admin::ask;
use super::super::error::CliError;
use super::Patient;
use super::row::{Finding, Row};
use crate::client::{ClientError, Connection};

/// All attacks on the lane, in the order of the layers.
pub(super) fn attack(
    connection: &mut Connection,
    patient: &Patient,
    lane: Lane,
    rows: &mut Vec<Row>,
) -> Result<(), CliError> {
    for layer in Layer::ALL.iter().copied() {
        for attack in
            Attack::ALL.iter().copied().filter(|a| a.exists_here() && a.layer(lane) == Some(layer))
        {
            rows.push(one(connection, patient, lane, layer, attack)?);
        }
    }
    Ok(())
}

fn one(
    connection: &mut Connection,
    patient: &Patient,
    lane: Lane,
    layer: Layer,
    attack: Attack,
) -> Result<Row, CliError> {
    let row = |verdict, promised, stopped_by| Row {
        lane: lane.name(),
        layer: layer.name().to_owned(),
        tried: attack.tries().to_owned(),
        stopped_by,
        verdict,
        promised,
    };
    if let Some(why) = opened(patient, lane, attack) {
        return Ok(row(Finding::NotTried, false, why));
    }
    let promised = patient.promised(lane).has(layer);
    if attack.needs_its_layer() && !patient.claims(lane, layer.name()) {
        return Ok(row(
            Finding::Missing,
            promised,
            missing("not tried", patient.reason(lane, layer.name())),
        ));
    }
    let answer = ask(connection, &ControlRequest::Probe { lane, attack: attack.name() });
    let reply: ProbeReply = match answer {
        Ok(body) => serde_json::from_slice(&body).map_err(ClientError::Reply)?,
        Err(CliError::Client(ClientError::Refused { error, .. })) => {
            return Ok(row(Finding::NotTried, promised, error));
        }
        Err(error) => return Err(error),
    };
    let is_on = reply.layers.iter().any(|on| on == layer.name());
    let (outcome, words) = judge(attack, &reply);
    Ok(match outcome {
        Outcome::Unknown => row(Finding::NotTried, promised || is_on, words),
        Outcome::Stopped if is_on => row(Finding::Bites, true, words),
        Outcome::WentThrough if is_on => row(Finding::Leaks, true, words),
        Outcome::Stopped | Outcome::WentThrough => {
            row(Finding::Missing, promised, missing(&words, patient.reason(lane, layer.name())))
        }
    })
}

/// What the configuration itself opens to programs is no leak.
fn opened(patient: &Patient, lane: Lane, attack: Attack) -> Option<String> {
    if (lane, attack) == (Lane::Io, Attack::SocketUnix) {
        let listed = patient
            .setting("/shell/sockets")
            .as_array()
            .and_then(|sockets| sockets.first()?.as_str());
        return listed.map(|socket| format!("shell.sockets has {socket}"));
    }
    let keys = ["/shell/readable", "/shell/writable", "/shell/cwd"];
    let (path, keys) = match (lane, attack) {
        (Lane::Io, Attack::RunProgram) => ("/usr/bin", &keys[..1]),
        (Lane::Io, Attack::CreateFile) => ("/var/tmp", &keys[1..]),
        (Lane::Io, Attack::ListVar) => ("/var", &keys[..]),
        (Lane::Io, Attack::ListRoot) => ("/", &keys[..2]),
        _ => return None,
    };
    keys.iter().find_map(|key| {
        let value = patient.setting(key);
        let folders = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        // A working folder that is the root opens nothing: it is where programs start when nothing
        // is said.
        let opens = |folder: &str| {
            Path::new(path).starts_with(folder) && (folder != "/" || *key != "/shell/cwd")
        };
        let folder = folders.iter().filter_map(Value::as_str).find(|folder| opens(folder))?;
        Some(format!("{} has {folder}", key[1..].replace('/', ".")))
    })
}

fn missing(words: &str, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("{words} [{reason}]"),
        None => words.to_owned(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Stopped,
    WentThrough,
    Unknown,
}

fn judge(attack: Attack, reply: &ProbeReply) -> (Outcome, String) {
    if let Some(report) = &reply.report {
        let outcome = if report.succeeded { Outcome::WentThrough } else { Outcome::Stopped };
        return (outcome, report.detail.clone());
    }
    let words = format!("{}: {}", reply.verdict.cause, reply.verdict.evidence);
    let cause = Cause::ALL.iter().find(|cause| cause.name() == reply.verdict.cause);
    // A process that says nothing before it has said what confines it was never an attacker.
    let was_ready = !reply.layers.is_empty();
    match cause {
        Some(cause) if was_ready && attack.is_stopped_by(*cause) => (Outcome::Stopped, words),
        _ => (Outcome::Unknown, words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pool_protocol::control::VerdictReply;
    use pool_protocol::worker::ProbeReport;

    fn reply(report: Option<bool>, cause: Cause) -> ProbeReply {
        ProbeReply {
            lane: "js".into(),
            attack: "execve".into(),
            layers: vec!["seccomp".into()],
            report: report
                .map(|succeeded| ProbeReport { succeeded, detail: "execve(NULL)".into() }),
            verdict: VerdictReply { cause: cause.name().into(), evidence: "its end".into() },
        }
    }

    #[test]
    fn only_the_attacks_own_death_counts_as_being_stopped() {
        for (attack, report, cause, outcome) in [
            (Attack::Execve, None, Cause::SandboxViolation, Outcome::Stopped),
            (Attack::Execve, Some(false), Cause::Exited, Outcome::Stopped),
            (Attack::Execve, Some(true), Cause::Exited, Outcome::WentThrough),
            (Attack::Execve, None, Cause::Exited, Outcome::Unknown),
            (Attack::Execve, None, Cause::EngineFatal, Outcome::Unknown),
            (Attack::Execve, None, Cause::SpawnFailed, Outcome::Unknown),
            (Attack::Execve, None, Cause::Unresponsive, Outcome::Unknown),
            (Attack::Execve, None, Cause::CpuLimit, Outcome::Unknown),
            (Attack::CpuWall, None, Cause::CpuLimit, Outcome::Stopped),
            (Attack::FillMemory, None, Cause::KernelOom, Outcome::Stopped),
        ] {
            let (judged, words) = judge(attack, &reply(report, cause));
            assert_eq!(judged, outcome, "{attack}, {report:?}, {cause}: {words}");
        }
        let silent = ProbeReply { layers: Vec::new(), ..reply(None, Cause::SandboxViolation) };
        assert_eq!(judge(Attack::Execve, &silent).0, Outcome::Unknown, "it never became a worker");
    }
}
