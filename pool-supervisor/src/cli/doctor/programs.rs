//! Programs, as far as the pool's own allow-list has one that an attack can be made with. No
//! program is ever started that is not known to be harmless.

use std::fs;

use pool_protocol::lane::Lane;
use regex::Regex;
use serde_json::{Value, json};

use super::super::error::CliError;
use super::Patient;
use super::row::{Finding, Row};
use super::tasks::Tasks;

/// They do nothing, whatever they are given.
const HARMLESS: [&str; 6] = ["true", "false", "uname", "id", "whoami", "echo"];
const SHELLS: [&str; 3] = ["sh", "dash", "bash"];
/// Programs that write more than this, and how they are told to.
const WRITERS: [(&str, &[&str]); 4] = [
    ("yes", &[]),
    ("seq", &["100000"]),
    ("head", &["-c", "100000", "/dev/zero"]),
    ("cat", &["/dev/zero"]),
];
const MAX_OUTPUT: u64 = 1000;

pub(super) fn attack(
    tasks: &mut Tasks<'_>,
    patient: &Patient,
    rows: &mut Vec<Row>,
) -> Result<(), CliError> {
    let list = List(patient.setting("/shell/allow").as_array().cloned().unwrap_or_default());
    let unlisted = json!({
        "type": "shell-command",
        "program": "/usr/lib/process-pool-doctor",
        "timeout": 5000,
    });
    let found = tasks.run(unlisted)?.stopped_by(&["COMMAND_DENIED"]);
    rows.push(Row::limit(Lane::Io, "allow-list", "start a program that is not on the list", found));
    rows.push(argument(tasks, &list)?);
    rows.push(preload(tasks, patient, &list)?);
    rows.push(output(tasks, &list)?);
    rows.push(left_behind(tasks, &list)?);
    rows.push(file_size(tasks, patient, &list)?);
    Ok(())
}

/// The configured programs.
struct List(Vec<Value>);

impl List {
    /// The first of these programs that is on the list with these arguments.
    fn find(&self, names: &[&str], args: &[&str]) -> Option<String> {
        let entry = self.0.iter().find(|entry| {
            is_one_of(entry, names)
                && (args.is_empty() || args.iter().all(|arg| allows(entry, arg)))
        })?;
        entry["program"].as_str().map(str::to_owned)
    }
}

fn is_one_of(entry: &Value, names: &[&str]) -> bool {
    let path = entry["program"].as_str().unwrap_or_default();
    path.rsplit('/').next().is_some_and(|name| names.contains(&name))
}

fn allows(entry: &Value, arg: &str) -> bool {
    let pattern =
        entry["args"].as_str().and_then(|pattern| Regex::new(&format!("^(?:{pattern})$")).ok());
    pattern.is_some_and(|pattern| pattern.is_match(arg))
}

fn lacks(limit: &str, tried: &str, what: &str) -> Row {
    Row::excused(Lane::Io, limit, tried, format!("shell.allow has no {what}"))
}

fn argument(tasks: &mut Tasks<'_>, list: &List) -> Result<Row, CliError> {
    const ARGUMENT: &str = "--process-pool-doctor;$(id)";
    let (limit, tried) = ("arguments", "give an argument that no pattern allows");
    let entry = list.0.iter().find(|entry| is_one_of(entry, &HARMLESS) && !allows(entry, ARGUMENT));
    let Some(program) = entry.and_then(|entry| entry["program"].as_str()) else {
        return Ok(lacks(limit, tried, &format!("{} with a pattern", HARMLESS.join(", "))));
    };
    let task =
        json!({"type": "shell-command", "program": program, "args": [ARGUMENT], "timeout": 5000});
    Ok(Row::limit(Lane::Io, limit, tried, tasks.run(task)?.stopped_by(&["COMMAND_DENIED"])))
}

fn preload(tasks: &mut Tasks<'_>, patient: &Patient, list: &List) -> Result<Row, CliError> {
    let (limit, tried) = ("environment", "set LD_PRELOAD for a program");
    if let Some(entry) = opened(patient, "LD_PRELOAD") {
        return Ok(Row::excused(Lane::Io, limit, tried, format!("shell.taskEnv has {entry}")));
    }
    let Some(program) = list.find(&HARMLESS, &[]) else {
        return Ok(lacks(limit, tried, &HARMLESS.join(", ")));
    };
    let env = json!({"LD_PRELOAD": "/nonexistent.so"});
    let task = json!({"type": "shell-command", "program": program, "env": env, "timeout": 5000});
    Ok(Row::limit(
        Lane::Io,
        limit,
        tried,
        tasks.run(task)?.stopped_by(&["COMMAND_DENIED", "INVALID_TASK"]),
    ))
}

/// The entry of `shell.taskEnv` that lets tasks set the variable.
fn opened<'a>(patient: &'a Patient, variable: &str) -> Option<&'a str> {
    let listed = patient.setting("/shell/taskEnv").as_array()?;
    listed.iter().filter_map(Value::as_str).find(|entry| match entry.strip_suffix('*') {
        Some(beginning) => variable.starts_with(beginning),
        None => *entry == variable,
    })
}

fn output(tasks: &mut Tasks<'_>, list: &List) -> Result<Row, CliError> {
    let (limit, tried) = ("output", "write more than is kept of an output");
    let writer = WRITERS.iter().find_map(|(name, args)| Some((list.find(&[name], args)?, *args)));
    let Some((program, args)) = writer else {
        return Ok(lacks(limit, tried, "yes, seq, head, cat"));
    };
    let ended = tasks.run(json!({
        "type": "shell-command",
        "program": program,
        "args": args,
        "maxOutputBytes": MAX_OUTPUT,
        "timeout": 20_000,
    }))?;
    let kept = ended.body["stdout"].as_str().map_or(0, str::len) as u64;
    let found = match ended.code {
        Some(_) => ended.stopped_by(&["OUTPUT_LIMIT"]),
        None if kept <= MAX_OUTPUT && ended.body["truncated"] == true => {
            (Finding::Bites, format!("the output was cut at {kept} bytes"))
        }
        None => (Finding::Leaks, format!("nothing: {kept} bytes were kept")),
    };
    Ok(Row::limit(Lane::Io, limit, tried, found))
}

/// A child in a session of its own, which outlives its parent and is recognised by what it was told
/// to wait for.
fn left_behind(tasks: &mut Tasks<'_>, list: &List) -> Result<Row, CliError> {
    let (limit, tried) = ("process-tree", "leave a child in a session of its own");
    let mark = format!("31.{}", std::process::id());
    let script = format!("setsid sleep {mark} & sleep 0.2");
    let others = list.find(&["setsid"], &[]).and(list.find(&["sleep"], &[]));
    let Some(program) = others.and(list.find(&SHELLS, &["-c", &script])) else {
        return Ok(lacks(limit, tried, "shell that takes any script, with setsid and sleep"));
    };
    let task = json!({
        "type": "shell-command",
        "program": program,
        "args": ["-c", script],
        "timeout": 10_000,
    });
    let ended = tasks.run(task)?;
    let found = match (ended.code, is_running(&mark)) {
        (_, true) => (Finding::Leaks, "nothing: the child is still there".to_owned()),
        (None, false) => (Finding::Bites, "the child ended with its task".to_owned()),
        (Some(_), false) => (Finding::NotTried, ended.words()),
    };
    Ok(Row::limit(Lane::Io, limit, tried, found))
}

fn is_running(mark: &str) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.into_iter().any(|line| line.split(|byte| *byte == 0).any(|word| word == mark.as_bytes()))
}

fn file_size(tasks: &mut Tasks<'_>, patient: &Patient, list: &List) -> Result<Row, CliError> {
    let (limit, tried) = ("file-size", "be allowed to write a file beyond the limit");
    let script = "ulimit -f";
    let Some(program) = list.find(&SHELLS, &["-c", script]) else {
        return Ok(lacks(limit, tried, "shell that takes any script"));
    };
    let task = json!({
        "type": "shell-command",
        "program": program,
        "args": ["-c", script],
        "timeout": 10_000,
    });
    let ended = tasks.run(task)?;
    let configured = patient.setting("/limits/fileBytes").as_u64().unwrap_or(0);
    // Shells count in blocks of 512 or of 1024 bytes.
    let blocks =
        ended.body["stdout"].as_str().map(|text| text.trim().to_owned()).unwrap_or_default();
    let found = match (ended.code, blocks.parse::<u64>()) {
        (Some(_), _) => (Finding::NotTried, ended.words()),
        (None, Ok(blocks)) if blocks.saturating_mul(512) <= configured => {
            (Finding::Bites, format!("RLIMIT_FSIZE is {blocks} blocks"))
        }
        (None, _) => (Finding::Leaks, format!("nothing: its limit is {blocks}")),
    };
    Ok(Row::limit(Lane::Io, limit, tried, found))
}
