//! Reading the JSON object: every field once, known, of the right shape, and belonging to its type.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{
    Deadline, HttpData, InvalidTask, ModuleData, Realm, RetryPolicy, ShellData, Task, TaskKind, check_attempts,
    check_duration, check_own_limits, check_priority, check_retry, check_text, check_timeout,
};
use crate::id::check_project_id;
use crate::limits;

/// Every field of every type; what belongs to which type is judged after.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a JSON object")]
struct Raw<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    project_id: Option<Cow<'a, str>>,
    priority: Option<i64>,
    timeout: Option<u64>,
    max_attempts: Option<u64>,
    retry: Option<Object<RetryPolicy>>,
    delay: Option<u64>,
    #[serde(borrow)]
    deadline: Option<RawDeadline<'a>>,
    #[serde(borrow)]
    idempotency_key: Option<Cow<'a, str>>,
    durable: Option<bool>,
    #[serde(borrow)]
    realm: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tag: Option<Cow<'a, str>>,
    limits: Option<Object<RawLimits>>,
    logs: Option<bool>,
    // JavaScript
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow, rename = "fn")]
    function: Option<Cow<'a, str>>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    #[serde(borrow)]
    module_path: Option<Cow<'a, str>>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    // HTTP
    url: Option<String>,
    headers: Option<std::collections::BTreeMap<String, String>>,
    query: Option<std::collections::BTreeMap<String, serde_json::Value>>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    max_redirects: Option<u32>,
    max_response_bytes: Option<u64>,
    accept_status: Option<super::AcceptStatus>,
    // programs
    program: Option<String>,
    command: Option<String>,
    cwd: Option<String>,
    env: Option<std::collections::BTreeMap<String, String>>,
    stdin: Option<String>,
    max_output_bytes: Option<u64>,
    accept_exit: Option<Vec<i32>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected milliseconds from now or an RFC 3339 time")]
enum RawDeadline<'a> {
    In(u64),
    At(#[serde(borrow)] Cow<'a, str>),
}

#[derive(Clone, Copy, Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a JSON object")]
struct RawLimits {
    cpu_ms: Option<u64>,
    memory_bytes: Option<u64>,
}

/// A JSON object. Derived readers take an array too, its elements as the fields in their order.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

/// Reads one task.
///
/// # Errors
/// [`InvalidTask`] naming the field that is unknown, given twice, missing, of the wrong shape, out of range, or of
/// another type of task.
pub fn parse(json: &[u8]) -> Result<Task, InvalidTask> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let Object(raw) = serde_path_to_error::deserialize::<_, Object<Raw<'_>>>(&mut reader).map_err(shape_error)?;
    reader.end().map_err(|e| InvalidTask::whole(format!("must be one JSON object: {}", message(&e))))?;
    let kind = kind_of(&raw)?;
    reject_foreign_fields(&raw, kind)?;
    let (code, data) = body_of(&raw, kind)?;
    common(&raw, kind, &code, &data)
}

/// Serde tells of unknown, doubled and misshapen fields; what is added is the field's own name.
fn shape_error(error: serde_path_to_error::Error<serde_json::Error>) -> InvalidTask {
    let message = message(error.inner());
    if error.inner().is_syntax() || error.inner().is_eof() {
        return InvalidTask::whole(format!("is not valid JSON: {message}"));
    }
    let quoted = |text: &str| text.split('`').nth(1).map(str::to_owned);
    if message.starts_with("unknown field") {
        let field = quoted(&message).unwrap_or_default();
        return InvalidTask::new(&field, format!("is not known{}", nearest(&field)));
    }
    if message.starts_with("duplicate field") {
        return InvalidTask::new(&quoted(&message).unwrap_or_default(), "is given twice".into());
    }
    let problem = format!("is malformed: {message}");
    match error.path().to_string() {
        path if path == "." => InvalidTask::whole(problem),
        path => InvalidTask::new(&path, problem),
    }
}

/// The error with its place. Most tasks are one line, and the line's number in a file is said by whoever reads it.
fn message(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

/// The names of all fields, in the order of the contract; `docs/tasks.md` explains each.
pub const FIELDS: &[&str] = &[
    "type",
    "projectId",
    "priority",
    "timeout",
    "maxAttempts",
    "retry",
    "delay",
    "deadline",
    "idempotencyKey",
    "durable",
    "realm",
    "tag",
    "limits",
    "logs",
    "code",
    "context",
    "fn",
    "args",
    "modulePath",
    "method",
    "url",
    "headers",
    "query",
    "body",
    "maxRedirects",
    "maxResponseBytes",
    "acceptStatus",
    "program",
    "command",
    "cwd",
    "env",
    "stdin",
    "maxOutputBytes",
    "acceptExit",
];

fn nearest(field: &str) -> String {
    let best = FIELDS
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&name.to_lowercase(), &field.to_lowercase()), name))
        .min();
    match best {
        // A third of the letters may be wrong: farther off it is no slip of the pen.
        Some((distance, name)) if distance * 3 <= field.len().max(3) => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

fn kind_of(raw: &Raw<'_>) -> Result<TaskKind, InvalidTask> {
    let Some(name) = raw.kind.as_deref() else {
        return Err(InvalidTask::new("type", format!("is missing; it is one of {}", kinds())));
    };
    TaskKind::ALL
        .iter()
        .copied()
        .find(|k| k.name() == name)
        .ok_or_else(|| InvalidTask::new("type", format!("must be one of {}, not {name:?}", kinds())))
}

fn kinds() -> String {
    let names: Vec<_> = TaskKind::ALL.iter().map(|k| k.name()).collect();
    names.join(", ")
}

fn reject_foreign_fields(raw: &Raw<'_>, kind: TaskKind) -> Result<(), InvalidTask> {
    use TaskKind::{Code, Function, Http, Module, Shell};
    let given: &[(&str, bool, &[TaskKind])] = &[
        ("realm", raw.realm.is_some(), &[Code, Function, Module]),
        ("logs", raw.logs.is_some(), &[Code, Function, Module]),
        ("code", raw.code.is_some(), &[Code, Function]),
        ("context", raw.context.is_some(), &[Code]),
        ("fn", raw.function.is_some(), &[Function]),
        ("args", raw.args.is_some(), &[Function, Module, Shell]),
        ("modulePath", raw.module_path.is_some(), &[Module]),
        ("method", raw.method.is_some(), &[Module, Http]),
        ("url", raw.url.is_some(), &[Http]),
        ("headers", raw.headers.is_some(), &[Http]),
        ("query", raw.query.is_some(), &[Http]),
        ("body", raw.body.is_some(), &[Http]),
        ("maxRedirects", raw.max_redirects.is_some(), &[Http]),
        ("maxResponseBytes", raw.max_response_bytes.is_some(), &[Http]),
        ("acceptStatus", raw.accept_status.is_some(), &[Http]),
        ("program", raw.program.is_some(), &[Shell]),
        ("command", raw.command.is_some(), &[Shell]),
        ("cwd", raw.cwd.is_some(), &[Shell]),
        ("env", raw.env.is_some(), &[Shell]),
        ("stdin", raw.stdin.is_some(), &[Shell]),
        ("maxOutputBytes", raw.max_output_bytes.is_some(), &[Shell]),
        ("acceptExit", raw.accept_exit.is_some(), &[Shell]),
    ];
    match given.iter().find(|(_, is_given, kinds)| *is_given && !kinds.contains(&kind)) {
        Some((field, _, _)) => {
            Err(InvalidTask::new(field, format!("does not belong to a task of type {}", kind.name())))
        }
        None => Ok(()),
    }
}

/// The body's two pieces.
fn body_of<'r>(raw: &'r Raw<'_>, kind: TaskKind) -> Result<(Cow<'r, str>, Cow<'r, [u8]>), InvalidTask> {
    let raw_bytes = |value: Option<&'r RawValue>| Cow::Borrowed(value.map_or(&b""[..], |v| v.get().as_bytes()));
    let borrowed = |text: &'r Option<Cow<'_, str>>| text.as_deref().map(Cow::Borrowed);
    match kind {
        TaskKind::Code => {
            let code = borrowed(&raw.code).ok_or_else(|| missing("code"))?;
            check_json_shape("context", raw.context, '{', "an object")?;
            Ok((code, raw_bytes(raw.context)))
        }
        TaskKind::Function => {
            if raw.function.is_some() && raw.code.is_some() {
                return Err(InvalidTask::new("code", "is another name of `fn`; give one of them".into()));
            }
            let code = borrowed(&raw.function).or_else(|| borrowed(&raw.code)).ok_or_else(|| missing("fn"))?;
            check_json_shape("args", raw.args, '[', "an array")?;
            Ok((code, raw_bytes(raw.args)))
        }
        TaskKind::Module => {
            let path = borrowed(&raw.module_path).ok_or_else(|| missing("modulePath"))?;
            check_json_shape("args", raw.args, '[', "an array")?;
            let data = ModuleData { method: raw.method.as_deref().map(Cow::Borrowed), args: raw.args };
            Ok((path, Cow::Owned(to_json(&data))))
        }
        TaskKind::Http => Ok((Cow::Borrowed(""), Cow::Owned(to_json(&http_data(raw)?)))),
        TaskKind::Shell => Ok((Cow::Borrowed(""), Cow::Owned(to_json(&shell_data(raw)?)))),
    }
}

fn missing(field: &str) -> InvalidTask {
    InvalidTask::new(field, "is missing".into())
}

fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings, numbers and raw JSON serialise")
}

fn check_json_shape(field: &str, value: Option<&RawValue>, first: char, what: &str) -> Result<(), InvalidTask> {
    match value {
        Some(v) if !v.get().starts_with(first) => Err(InvalidTask::new(field, format!("must be {what}"))),
        _ => Ok(()),
    }
}

fn http_data<'r>(raw: &'r Raw<'_>) -> Result<HttpData<'r>, InvalidTask> {
    let url = raw.url.clone().filter(|u| !u.is_empty()).ok_or_else(|| missing("url"))?;
    let scalar = |v: &serde_json::Value| v.is_string() || v.is_number() || v.is_boolean();
    let sound = |v: &serde_json::Value| scalar(v) || v.as_array().is_some_and(|list| list.iter().all(scalar));
    if let Some((name, _)) = raw.query.iter().flatten().find(|(_, v)| !sound(v)) {
        let problem = "must be a string, a number or a boolean, or an array of these";
        return Err(InvalidTask::new(&format!("query.{name}"), problem.into()));
    }
    Ok(HttpData {
        url,
        method: raw.method.as_deref().map(str::to_owned),
        headers: raw.headers.clone(),
        query: raw.query.clone(),
        body: raw.body,
        max_redirects: raw.max_redirects,
        max_response_bytes: raw.max_response_bytes,
        accept_status: raw.accept_status.clone(),
    })
}

fn shell_data(raw: &Raw<'_>) -> Result<ShellData, InvalidTask> {
    match (&raw.program, &raw.command) {
        (Some(_), Some(_)) => {
            return Err(InvalidTask::new("command", "stands for `program` and `args`; give one or the other".into()));
        }
        (None, None) => return Err(InvalidTask::new("program", "is missing (or give `command`)".into())),
        (None, Some(_)) if raw.args.is_some() => {
            return Err(InvalidTask::new("args", "goes with `program`, not with `command`".into()));
        }
        _ => {}
    }
    let args = match raw.args {
        Some(v) => Some(
            serde_json::from_str(v.get())
                .map_err(|_| InvalidTask::new("args", "must be an array of strings".into()))?,
        ),
        None => None,
    };
    Ok(ShellData {
        program: raw.program.clone(),
        args,
        command: raw.command.clone(),
        cwd: raw.cwd.clone(),
        env: raw.env.clone(),
        stdin: raw.stdin.clone(),
        max_output_bytes: raw.max_output_bytes,
        accept_exit: raw.accept_exit.clone(),
    })
}

fn common(raw: &Raw<'_>, kind: TaskKind, code: &str, data: &[u8]) -> Result<Task, InvalidTask> {
    let project = raw.project_id.as_deref().unwrap_or("default");
    check_project_id(project).map_err(|e| InvalidTask::new("projectId", e.to_string()))?;
    let priority = check_priority(raw.priority.unwrap_or(0))?;
    if let Some(ms) = raw.timeout {
        check_timeout(ms)?;
    }
    if let Some(n) = raw.max_attempts {
        check_attempts(n)?;
    }
    if let Some(Object(retry)) = &raw.retry {
        check_retry(retry)?;
    }
    let delay_ms = raw.delay.unwrap_or(0);
    check_duration("delay", delay_ms)?;
    check_text("idempotencyKey", raw.idempotency_key.as_deref(), limits::MAX_IDEMPOTENCY_KEY)?;
    check_text("tag", raw.tag.as_deref(), limits::MAX_TAG)?;
    let own = raw.limits.as_ref().map_or_else(RawLimits::default, |limits| limits.0);
    check_own_limits(own.cpu_ms, own.memory_bytes)?;
    let code_len = u32::try_from(code.len()).map_err(|_| InvalidTask::new("code", "is over 4 GiB".into()))?;
    Ok(Task {
        kind,
        project: project.to_owned(),
        priority,
        timeout_ms: raw.timeout,
        max_attempts: raw.max_attempts.map(|n| u16::try_from(n).expect("checked above")),
        retry: raw.retry.as_ref().map(|retry| retry.0),
        delay_ms,
        deadline: raw.deadline.as_ref().map(deadline).transpose()?,
        idempotency_key: raw.idempotency_key.as_deref().map(str::to_owned),
        durable: raw.durable.unwrap_or(false),
        realm: raw.realm.as_deref().map(realm).transpose()?,
        tag: raw.tag.as_deref().map(str::to_owned),
        cpu_ms: own.cpu_ms,
        memory_bytes: own.memory_bytes,
        logs: raw.logs.unwrap_or(false),
        code_len,
        body: [code.as_bytes(), data].concat(),
    })
}

fn realm(name: &str) -> Result<Realm, InvalidTask> {
    match name {
        "fresh" => Ok(Realm::Fresh),
        "warm" => Ok(Realm::Warm),
        "frozen" => Ok(Realm::Frozen),
        other => Err(InvalidTask::new("realm", format!("must be `fresh`, `warm` or `frozen`, not {other:?}"))),
    }
}

fn deadline(raw: &RawDeadline<'_>) -> Result<Deadline, InvalidTask> {
    match raw {
        RawDeadline::In(ms) => check_duration("deadline", *ms).map(|()| Deadline::In(*ms)),
        RawDeadline::At(text) => {
            text.parse::<jiff::Timestamp>().map(|at| Deadline::At(at.as_millisecond())).map_err(|_| {
                InvalidTask::new(
                    "deadline",
                    format!(
                        "must be milliseconds from now or an RFC 3339 time such as 2026-01-31T12:00:00Z, not {text:?}"
                    ),
                )
            })
        }
    }
}
