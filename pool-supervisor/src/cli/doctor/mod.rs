//! `poolctl doctor`: attacks the running pool's confinement and limits on this machine, and says
//! what stopped each attack.
//!
//! Owns which attacks are made and what an answer to one is worth. Two kinds: probes, where a
//! process confined as a worker attacks from within (see `pool_protocol::probe`), and ordinary
//! tasks that do what hostile code does. All are small, bounded, and made one after the other in a
//! project of their own, so that a pool in use is not disturbed.
//!
//! What is promised, and so has to bite: with `strict` and `off` every layer of
//! [`LayerSet::promised`]; with `standard` `descriptors` and `resource-limits`. Besides these,
//! whatever the level, every layer that the attacked process itself claims; and every limit of
//! tasks. A layer that is promised nowhere and claimed by nobody is shown as missing, and no more.

mod probes;
mod programs;
mod requests;
mod row;
mod scripts;
mod tasks;

use pool_protocol::control::{ControlRequest, StatusReply};
use pool_protocol::lane::Lane;
use pool_protocol::layer::{LayerSet, Level};
use serde_json::Value;

use super::admin::ask;
use super::error::CliError;
use super::exit::Exit;
use super::output;
use crate::client::{ClientError, Connection};

use row::Summary;
use tasks::Tasks;

/// What the running pool says of itself.
struct Patient {
    level: Level,
    status: StatusReply,
    /// As `--check-config` prints it.
    config: Value,
}

impl Patient {
    /// Layers that must bite whatever the attacked process says of itself.
    fn promised(&self, lane: Lane) -> LayerSet {
        match self.level {
            Level::Strict | Level::Off => LayerSet::promised(self.level, lane),
            Level::Standard => LayerSet::promised(Level::Off, lane),
        }
    }

    /// Whether the lane's workers claim the layer.
    fn claims(&self, lane: Lane, layer: &str) -> bool {
        self.status
            .isolation
            .lanes
            .get(lane.name())
            .is_some_and(|lane| lane.on.iter().any(|on| on == layer))
    }

    /// Why the lane's workers have not got the layer.
    fn reason(&self, lane: Lane, layer: &str) -> Option<&str> {
        self.status.isolation.lanes.get(lane.name())?.missing.get(layer).map(String::as_str)
    }

    /// A setting, by its path in the configuration.
    fn setting(&self, path: &str) -> &Value {
        self.config.pointer(path).unwrap_or(&Value::Null)
    }
}

/// Attacks, prints, and says by the exit code whether all that is promised bites.
pub(super) fn doctor(connection: &mut Connection, json: bool) -> Result<Exit, CliError> {
    let mut patient = examine(connection)?;
    let mut limits = Vec::new();
    {
        let mut tasks = Tasks::new(connection);
        scripts::attack(&mut tasks, &patient, &mut limits)?;
        programs::attack(&mut tasks, &patient, &mut limits)?;
        requests::attack(&mut tasks, &patient, &mut limits)?;
    }
    // Asked again: by now both lanes have workers, which have said what confines them.
    patient.status = status(connection)?;
    let mut rows = Vec::new();
    for lane in [Lane::Js, Lane::Io] {
        probes::attack(connection, &patient, lane, &mut rows)?;
    }
    rows.append(&mut limits);
    let summary = Summary::of(patient.level, &rows);
    if json {
        output::line(&row::json(&rows, &summary))?;
    } else {
        output::write(row::text(&rows, &summary).as_bytes())?;
    }
    Ok(if summary.passed { Exit::Ok } else { Exit::Failed })
}

fn examine(connection: &mut Connection) -> Result<Patient, CliError> {
    let status = status(connection)?;
    let config: Value = serde_json::from_slice(&ask(connection, &ControlRequest::Config)?)
        .map_err(ClientError::Reply)?;
    let level = serde_json::from_value(Value::from(status.isolation.level.clone()))
        .map_err(ClientError::Reply)?;
    Ok(Patient { level, status, config })
}

fn status(connection: &mut Connection) -> Result<StatusReply, CliError> {
    Ok(serde_json::from_slice(&ask(connection, &ControlRequest::Status)?)
        .map_err(ClientError::Reply)?)
}
