//! What a task's JavaScript has not, or has otherwise than the bare engine, and why.
//! `docs/javascript.md` has the same rows.

use pool_worker::js::Realm;

use super::Row;

/// Something that is removed, added or changed on purpose.
pub(super) struct Difference {
    /// The intrinsic, as one writes it; what it leads to belongs to it.
    pub(super) path: &'static str,
    /// Others of which the same is true.
    pub(super) like_it: &'static [&'static str],
    pub(super) reason: &'static str,
    pub(super) how: How,
    /// Where it applies.
    pub(super) when: When,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// The bare engine alone has it.
    Removed,
    /// We alone have it.
    Added,
    /// Both have it, with other properties.
    Replaced,
    /// Both have it; called, ours throws an error with this in its message.
    Throws(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// Unless the configuration allows code generation and WebAssembly.
    NotAllowed,
    /// Where it allows them.
    Allowed,
    /// In the frozen realm.
    Frozen,
}

impl Difference {
    pub(super) fn is_for(&self, row: Row) -> bool {
        match self.when {
            When::Always => true,
            When::NotAllowed => !row.permissive,
            When::Allowed => row.permissive,
            When::Frozen => row.realm == Realm::Frozen,
        }
    }

    /// Whether this is why a finding differs.
    pub(super) fn explains(
        &self,
        row: Row,
        path: &str,
        bare: Option<&str>,
        ours: Option<&str>,
    ) -> bool {
        let belongs_to = |listed| {
            path.strip_prefix(listed)
                .is_some_and(|rest: &str| rest.is_empty() || rest.starts_with(['.', ' ']))
        };
        self.is_for(row)
            && (belongs_to(self.path) || self.like_it.iter().any(|listed| belongs_to(listed)))
            && match self.how {
                How::Removed => ours.is_none(),
                How::Added => bare.is_none(),
                How::Replaced => true,
                // What did not come back cannot settle later.
                How::Throws(message) => {
                    ours.is_none_or(|ours| ours.contains("throws ") && ours.contains(message))
                }
            }
    }
}

const fn difference(path: &'static str, how: How, when: When, reason: &'static str) -> Difference {
    Difference { path, like_it: &[], reason, how, when }
}

const NO_CODE: How = How::Throws("Code generation from strings disallowed");

pub(super) const DIFFERENCES: &[Difference] = &[
    difference(
        "eval",
        NO_CODE,
        When::NotAllowed,
        "code from strings is off unless `js.allowCodeGeneration` says otherwise",
    ),
    difference("Function", NO_CODE, When::NotAllowed, "as `eval`"),
    difference("%GeneratorFunction.prototype%.constructor", NO_CODE, When::NotAllowed, "as `eval`"),
    difference("%AsyncFunction.prototype%.constructor", NO_CODE, When::NotAllowed, "as `eval`"),
    difference(
        "%AsyncGeneratorFunction.prototype%.constructor",
        NO_CODE,
        When::NotAllowed,
        "as `eval`",
    ),
    difference(
        "WebAssembly",
        How::Removed,
        When::NotAllowed,
        "off unless `js.allowWasm` says otherwise",
    ),
    difference(
        "FinalizationRegistry",
        How::Removed,
        When::Allowed,
        "with WebAssembly its callbacks would run in another task's time; without, it is there and \
         never calls back",
    ),
    difference(
        "Atomics.waitAsync",
        How::Replaced,
        When::Always,
        "a wait ends with its task; V8's own would be answered in another task's time",
    ),
    difference(
        "Atomics.notify",
        How::Replaced,
        When::Always,
        "wakes those waits, and none of the instruction `memory.atomic.wait` of WebAssembly",
    ),
    difference(
        "Atomics.wait",
        How::Throws("Atomics.wait cannot be called in this context"),
        When::Always,
        "a task that blocks its thread would block its worker; `Atomics.waitAsync` is there",
    ),
    difference(
        "console",
        How::Replaced,
        When::Always,
        "its lines are the task's log; what only an inspector understands is not there",
    ),
    difference("setTimeout", How::Added, When::Always, "timers end with their task"),
    difference("setInterval", How::Added, When::Always, "as `setTimeout`"),
    difference("clearTimeout", How::Added, When::Always, "as `setTimeout`"),
    difference("clearInterval", How::Added, When::Always, "as `setTimeout`"),
    difference(
        "queueMicrotask",
        How::Added,
        When::Always,
        "as everywhere but in the bare language",
    ),
    difference(
        "structuredClone",
        How::Added,
        When::Always,
        "as everywhere but in the bare language; its options are ignored, since there is nothing \
         to transfer to",
    ),
    difference(
        "WebAssembly",
        How::Removed,
        When::Frozen,
        "a compilation that a task leaves would answer in another task's time",
    ),
    Difference {
        path: "RegExp.$1",
        like_it: &[
            "RegExp.$2",
            "RegExp.$3",
            "RegExp.$4",
            "RegExp.$5",
            "RegExp.$6",
            "RegExp.$7",
            "RegExp.$8",
            "RegExp.$9",
            "RegExp.input",
            "RegExp.$_",
            "RegExp.lastMatch",
            "RegExp.$&",
            "RegExp.lastParen",
            "RegExp.$+",
            "RegExp.leftContext",
            "RegExp.$`",
            "RegExp.rightContext",
            "RegExp.$'",
        ],
        reason: "as well as `RegExp.$2` to `$9`, `input`, `lastMatch`, `lastParen`, `leftContext`, \
            `rightContext` and their short names: the last match may be another task's",
        how: How::Removed,
        when: When::Frozen,
    },
];
