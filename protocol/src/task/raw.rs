//! Reading the JSON object: every field once, known, of the right shape, and belonging to its type.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{
    AcceptStatus, Deadline, HttpData, InvalidTask, ModuleData, Realm, RetryPolicy, ShellData, Task,
    TaskKind, check_attempts, check_duration, check_key, check_own_limits, check_priority,
    check_retry, check_text, check_timeout,
};
use crate::id::check_project_id;
use crate::json::{self, Part, Sound, Unsound, Value};
use crate::limits;

/// Levels of a task's text: itself, and a list or table whose values are handed on.
const LEVELS: usize = json::MAX_DEPTH + 2;

/// Reads one task.
///
/// # Errors
/// [`InvalidTask`] naming the field that is unknown, given twice, missing, of the wrong shape, out
/// of range, or of another type of task.
pub fn parse(json: &[u8]) -> Result<Task, InvalidTask> {
    let given = Given::read(json::read(json, LEVELS)?)?;
    let kind = kind_of(&given)?;
    given.check_all_belong_to(kind)?;
    let (code, data) = body_of(&given, kind)?;
    common(&given, kind, &code, &data)
}

/// An array of tasks, each still to be read by [`parse`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tasks<'a> {
    /// The first of them, as many as were asked for.
    pub first: Vec<&'a str>,
    /// How many there are.
    pub count: usize,
}

/// An array of tasks that is unsound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidItem {
    /// Which task, counted from 0; nothing when the text is no JSON.
    pub place: Option<usize>,
    /// What is wrong with it.
    pub invalid: InvalidTask,
}

/// Splits an array of tasks. Nothing when the text is no array.
///
/// # Errors
/// [`InvalidItem`]
pub fn split_array(json: &[u8], most: usize) -> Result<Option<Tasks<'_>>, InvalidItem> {
    let sound =
        json::read_some(json, LEVELS + 1, most).map_err(|unsound| match unsound.in_item() {
            Some((item, within)) => InvalidItem { place: Some(item), invalid: within.into() },
            None => InvalidItem { place: None, invalid: unsound.into() },
        })?;
    let count = sound.count;
    Ok(sound
        .items()
        .map(|items| Tasks { first: items.into_iter().map(Value::as_written).collect(), count }))
}

/// The `tag` of a task, as far as it can be read: for saying which task it was that is refused.
#[must_use]
pub fn tag_of(json: &[u8]) -> Option<String> {
    let fields = json::readable_fields(json);
    let (_, value) = fields.iter().find(|(name, _)| name == "tag")?;
    value.text().ok().filter(|tag| tag.len() <= limits::MAX_TAG).map(Cow::into_owned)
}

impl From<Unsound> for InvalidTask {
    fn from(unsound: Unsound) -> Self {
        Self { field: unsound.path, problem: unsound.problem }
    }
}

/// All types.
const ANY: &[TaskKind] = TaskKind::ALL;
const JS: &[TaskKind] = &[TaskKind::Code, TaskKind::Function, TaskKind::Module];

/// Every field, in the order of the contract, with the types that it belongs to.
const TABLE: [(&str, &[TaskKind]); 34] = [
    ("type", ANY),
    ("projectId", ANY),
    ("priority", ANY),
    ("timeout", ANY),
    ("maxAttempts", ANY),
    ("retry", ANY),
    ("delay", ANY),
    ("deadline", ANY),
    ("idempotencyKey", ANY),
    ("durable", ANY),
    ("realm", JS),
    ("tag", ANY),
    ("limits", ANY),
    ("logs", JS),
    ("code", &[TaskKind::Code, TaskKind::Function]),
    ("context", &[TaskKind::Code]),
    ("fn", &[TaskKind::Function]),
    ("args", &[TaskKind::Function, TaskKind::Module, TaskKind::Shell]),
    ("modulePath", &[TaskKind::Module]),
    ("method", &[TaskKind::Module, TaskKind::Http]),
    ("url", &[TaskKind::Http]),
    ("headers", &[TaskKind::Http]),
    ("query", &[TaskKind::Http]),
    ("body", &[TaskKind::Http]),
    ("maxRedirects", &[TaskKind::Http]),
    ("maxResponseBytes", &[TaskKind::Http]),
    ("acceptStatus", &[TaskKind::Http]),
    ("program", &[TaskKind::Shell]),
    ("command", &[TaskKind::Shell]),
    ("cwd", &[TaskKind::Shell]),
    ("env", &[TaskKind::Shell]),
    ("stdin", &[TaskKind::Shell]),
    ("maxOutputBytes", &[TaskKind::Shell]),
    ("acceptExit", &[TaskKind::Shell]),
];

/// The names of all fields, in the order of the contract; `docs/tasks.md` explains each.
pub const FIELDS: [&str; TABLE.len()] = {
    let mut names = [""; TABLE.len()];
    let mut place = 0;
    while place < TABLE.len() {
        names[place] = TABLE[place].0;
        place += 1;
    }
    names
};

/// The fields of a task that are given: `null` is none.
struct Given<'a> {
    values: [Option<Value<'a>>; TABLE.len()],
}

impl<'a> Given<'a> {
    fn read(sound: Sound<'a>) -> Result<Self, InvalidTask> {
        let value = sound.value;
        let fields =
            sound.fields().ok_or_else(|| InvalidTask::whole(value.not_a("a JSON object")))?;
        let mut values = [None; TABLE.len()];
        for (name, value) in fields {
            let Some(place) = FIELDS.iter().position(|field| *field == name) else {
                return Err(unknown(&name, "", &FIELDS));
            };
            values[place] = (!value.is_null()).then_some(value);
        }
        Ok(Self { values })
    }

    fn get(&self, name: &str) -> Option<Value<'a>> {
        let place = FIELDS.iter().position(|field| *field == name);
        self.values[place.expect("the names of fields are written in this file")]
    }

    /// A field by one of the ways in which values are read.
    fn read_as<T>(
        &self,
        name: &str,
        read: impl FnOnce(Value<'a>) -> Result<T, String>,
    ) -> Result<Option<T>, InvalidTask> {
        self.get(name).map(read).transpose().map_err(|problem| InvalidTask::new(name, problem))
    }

    fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, InvalidTask> {
        self.read_as(name, Value::text)
    }

    fn owned(&self, name: &str) -> Result<Option<String>, InvalidTask> {
        Ok(self.text(name)?.map(Cow::into_owned))
    }

    fn whole<T: TryFrom<i128>>(&self, name: &str) -> Result<Option<T>, InvalidTask> {
        self.read_as(name, Value::whole)
    }

    fn fields(&self, name: &str) -> Result<Option<Vec<Part<'a>>>, InvalidTask> {
        self.read_as(name, Value::fields)
    }

    /// An object whose values are read one by one, by their names.
    fn map<T>(
        &self,
        name: &str,
        read: impl Fn(Value<'a>) -> Result<T, String>,
    ) -> Result<Option<BTreeMap<String, T>>, InvalidTask> {
        let Some(fields) = self.fields(name)? else { return Ok(None) };
        let mut map = BTreeMap::new();
        for (key, value) in fields {
            let value = read(value)
                .map_err(|problem| InvalidTask::new(&format!("{name}.{key}"), problem))?;
            map.insert(key.into_owned(), value);
        }
        Ok(Some(map))
    }

    /// An array whose items are read one by one.
    fn list<T>(
        &self,
        name: &str,
        read: impl Fn(Value<'a>) -> Result<T, String>,
    ) -> Result<Option<Vec<T>>, InvalidTask> {
        let Some(items) = self.read_as(name, Value::items)? else { return Ok(None) };
        let read = |(place, item): (usize, Value<'a>)| {
            read(item).map_err(|problem| InvalidTask::new(&format!("{name}[{place}]"), problem))
        };
        items.into_iter().enumerate().map(read).collect::<Result<_, _>>().map(Some)
    }

    fn check_all_belong_to(&self, kind: TaskKind) -> Result<(), InvalidTask> {
        let is_foreign = |((_, kinds), value): &(&(&str, &[TaskKind]), &Option<Value<'_>>)| {
            value.is_some() && !kinds.contains(&kind)
        };
        match TABLE.iter().zip(&self.values).find(is_foreign) {
            Some(((field, _), _)) => Err(InvalidTask::new(
                field,
                format!("does not belong to a task of type {}", kind.name()),
            )),
            None => Ok(()),
        }
    }
}

/// A field that is not among those of the task, or of one of its objects.
fn unknown(name: &str, inside: &str, known: &[&str]) -> InvalidTask {
    let shown: String = name.chars().take(limits::MAX_PROJECT_ID).collect();
    InvalidTask::new(&format!("{inside}{shown}"), format!("is not known{}", nearest(&shown, known)))
}

fn nearest(field: &str, known: &[&str]) -> String {
    let distance =
        |name: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &field.to_lowercase());
    match known.iter().map(|name| (distance(name), name)).min() {
        // A third of the letters may be wrong: farther off it is no slip of the pen.
        Some((distance, name)) if distance * 3 <= field.len().max(3) => {
            format!("; did you mean `{name}`?")
        }
        _ => String::new(),
    }
}

fn kind_of(given: &Given<'_>) -> Result<TaskKind, InvalidTask> {
    let Some(name) = given.text("type")? else {
        return Err(InvalidTask::new("type", format!("is missing; it is one of {}", kinds())));
    };
    TaskKind::ALL.iter().copied().find(|k| k.name() == name).ok_or_else(|| {
        InvalidTask::new("type", format!("must be one of {}, not {name:?}", kinds()))
    })
}

fn kinds() -> String {
    let names: Vec<_> = TaskKind::ALL.iter().map(|k| k.name()).collect();
    names.join(", ")
}

/// The body's two pieces.
fn body_of<'a>(
    given: &Given<'a>,
    kind: TaskKind,
) -> Result<(Cow<'a, str>, Cow<'a, [u8]>), InvalidTask> {
    let as_written = |value: Option<Value<'a>>| value.map_or("", Value::as_written).as_bytes();
    match kind {
        TaskKind::Code => {
            let code = given.text("code")?.ok_or_else(|| missing("code"))?;
            Ok((code, as_written(object(given, "context")?).into()))
        }
        TaskKind::Function => {
            let code = match (given.text("fn")?, given.text("code")?) {
                (Some(_), Some(_)) => {
                    return Err(InvalidTask::new(
                        "code",
                        "is another name of `fn`; give one of them".into(),
                    ));
                }
                (Some(code), None) | (None, Some(code)) => code,
                (None, None) => return Err(missing("fn")),
            };
            Ok((code, as_written(array(given, "args")?).into()))
        }
        TaskKind::Module => {
            let path = given.text("modulePath")?.ok_or_else(|| missing("modulePath"))?;
            let data = ModuleData {
                method: given.text("method")?,
                args: array(given, "args")?.map(Value::raw),
            };
            Ok((path, to_json(&data).into()))
        }
        TaskKind::Http => Ok(("".into(), to_json(&http_data(given)?).into())),
        TaskKind::Shell => Ok(("".into(), to_json(&shell_data(given)?).into())),
    }
}

fn missing(field: &str) -> InvalidTask {
    InvalidTask::new(field, "is missing".into())
}

fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings, numbers and raw JSON serialise")
}

fn object<'a>(given: &Given<'a>, name: &str) -> Result<Option<Value<'a>>, InvalidTask> {
    given.read_as(
        name,
        |value| if value.is_object() { Ok(value) } else { Err(value.not_a("an object")) },
    )
}

fn array<'a>(given: &Given<'a>, name: &str) -> Result<Option<Value<'a>>, InvalidTask> {
    given.read_as(
        name,
        |value| if value.is_array() { Ok(value) } else { Err(value.not_a("an array")) },
    )
}

fn owned(value: Value<'_>) -> Result<String, String> {
    value.text().map(Cow::into_owned)
}

fn http_data<'a>(given: &Given<'a>) -> Result<HttpData<'a>, InvalidTask> {
    Ok(HttpData {
        url: given.owned("url")?.filter(|url| !url.is_empty()).ok_or_else(|| missing("url"))?,
        method: given.owned("method")?,
        headers: given.map("headers", owned)?,
        query: given.map("query", query_value)?,
        body: given.get("body").map(Value::raw),
        max_redirects: given.whole("maxRedirects")?,
        max_response_bytes: given.whole("maxResponseBytes")?,
        accept_status: given.read_as("acceptStatus", AcceptStatus::read)?,
    })
}

fn query_value(value: Value<'_>) -> Result<serde_json::Value, String> {
    let read = if value.is_array() {
        value.items()?.into_iter().map(scalar).collect::<Option<_>>().map(serde_json::Value::Array)
    } else {
        scalar(value)
    };
    read.ok_or_else(|| value.not_a("a string, a number, true or false, or an array of these"))
}

fn scalar(value: Value<'_>) -> Option<serde_json::Value> {
    if value.is_text() {
        return owned(value).ok().map(serde_json::Value::String);
    }
    let read: serde_json::Value = serde_json::from_str(value.as_written()).ok()?;
    (read.is_number() || read.is_boolean()).then_some(read)
}

fn shell_data(given: &Given<'_>) -> Result<ShellData, InvalidTask> {
    match (given.get("program"), given.get("command")) {
        (Some(_), Some(_)) => {
            return Err(InvalidTask::new(
                "command",
                "stands for `program` and `args`; give one or the other".into(),
            ));
        }
        (None, None) => {
            return Err(InvalidTask::new("program", "is missing (or give `command`)".into()));
        }
        (None, Some(_)) if given.get("args").is_some() => {
            return Err(InvalidTask::new("args", "goes with `program`, not with `command`".into()));
        }
        _ => {}
    }
    Ok(ShellData {
        program: given.owned("program")?,
        args: given.list("args", owned)?,
        command: given.owned("command")?,
        cwd: given.owned("cwd")?,
        env: given.map("env", owned)?,
        stdin: given.owned("stdin")?,
        max_output_bytes: given.whole("maxOutputBytes")?,
        accept_exit: given.list("acceptExit", Value::whole)?,
    })
}

fn common(given: &Given<'_>, kind: TaskKind, code: &str, data: &[u8]) -> Result<Task, InvalidTask> {
    let project = given.text("projectId")?.unwrap_or("default".into());
    check_project_id(&project).map_err(|e| InvalidTask::new("projectId", e.to_string()))?;
    let priority = check_priority(given.whole("priority")?.unwrap_or(0))?;
    let timeout_ms: Option<u64> = given.whole("timeout")?;
    timeout_ms.map_or(Ok(()), check_timeout)?;
    let max_attempts: Option<u64> = given.whole("maxAttempts")?;
    max_attempts.map_or(Ok(()), check_attempts)?;
    let delay_ms = given.whole("delay")?.unwrap_or(0);
    check_duration("delay", delay_ms)?;
    let idempotency_key = given.owned("idempotencyKey")?;
    check_key(idempotency_key.as_deref())?;
    let tag = given.owned("tag")?;
    check_text("tag", tag.as_deref(), limits::MAX_TAG)?;
    let (cpu_ms, memory_bytes) = own_limits(given)?;
    let code_len =
        u32::try_from(code.len()).map_err(|_| InvalidTask::new("code", "is over 4 GiB".into()))?;
    Ok(Task {
        kind,
        project: project.into_owned(),
        priority,
        timeout_ms,
        max_attempts: max_attempts.map(|n| u16::try_from(n).expect("checked above")),
        retry: retry(given)?,
        delay_ms,
        deadline: deadline(given)?,
        idempotency_key,
        durable: given.read_as("durable", Value::boolean)?.unwrap_or(false),
        realm: given.read_as("realm", realm)?,
        tag,
        cpu_ms,
        memory_bytes,
        logs: given.read_as("logs", Value::boolean)?.unwrap_or(false),
        code_len,
        body: [code.as_bytes(), data].concat(),
    })
}

/// One field of one of the task's objects, if its value is not `null`.
fn inner<'a, T>(
    object: &str,
    name: &str,
    value: Value<'a>,
    read: impl FnOnce(Value<'a>) -> Result<T, String>,
) -> Result<Option<T>, InvalidTask> {
    let value = (!value.is_null()).then_some(value);
    value
        .map(read)
        .transpose()
        .map_err(|problem| InvalidTask::new(&format!("{object}.{name}"), problem))
}

fn own_limits(given: &Given<'_>) -> Result<(Option<u64>, Option<u64>), InvalidTask> {
    let (mut cpu_ms, mut memory_bytes) = (None, None);
    for (name, value) in given.fields("limits")?.unwrap_or_default() {
        match &*name {
            "cpuMs" => cpu_ms = inner("limits", &name, value, Value::whole)?,
            "memoryBytes" => memory_bytes = inner("limits", &name, value, Value::whole)?,
            _ => return Err(unknown(&name, "limits.", &["cpuMs", "memoryBytes"])),
        }
    }
    check_own_limits(cpu_ms, memory_bytes)?;
    Ok((cpu_ms, memory_bytes))
}

fn retry(given: &Given<'_>) -> Result<Option<RetryPolicy>, InvalidTask> {
    let Some(fields) = given.fields("retry")? else { return Ok(None) };
    let mut retry = RetryPolicy::default();
    for (name, value) in fields {
        let whole = |default: u32| -> Result<u32, InvalidTask> {
            Ok(inner("retry", &name, value, Value::whole)?.unwrap_or(default))
        };
        let number = |default: f64| -> Result<f64, InvalidTask> {
            Ok(inner("retry", &name, value, Value::number)?.unwrap_or(default))
        };
        match &*name {
            "initialDelay" => retry.initial_delay_ms = whole(retry.initial_delay_ms)?,
            "factor" => retry.factor = number(retry.factor)?,
            "maxDelay" => retry.max_delay_ms = whole(retry.max_delay_ms)?,
            "jitter" => retry.jitter = number(retry.jitter)?,
            _ => {
                return Err(unknown(
                    &name,
                    "retry.",
                    &["initialDelay", "factor", "maxDelay", "jitter"],
                ));
            }
        }
    }
    check_retry(&retry)?;
    Ok(Some(retry))
}

fn realm(value: Value<'_>) -> Result<Realm, String> {
    match value.text()?.as_ref() {
        "fresh" => Ok(Realm::Fresh),
        "warm" => Ok(Realm::Warm),
        "frozen" => Ok(Realm::Frozen),
        _ => Err(value.not_a("`fresh`, `warm` or `frozen`")),
    }
}

fn deadline(given: &Given<'_>) -> Result<Option<Deadline>, InvalidTask> {
    const WANTED: &str = "milliseconds from now or an RFC 3339 time such as 2026-01-31T12:00:00Z";
    let read = |value: Value<'_>| {
        if value.is_text() {
            let at = value.text()?.parse::<jiff::Timestamp>().map_err(|_| value.not_a(WANTED))?;
            return Ok(Deadline::At(at.as_millisecond()));
        }
        value.number().map_err(|_| value.not_a(WANTED))?;
        value.whole().map(Deadline::In)
    };
    let deadline = given.read_as("deadline", read)?;
    if let Some(Deadline::In(ms)) = deadline {
        check_duration("deadline", ms)?;
    }
    Ok(deadline)
}
