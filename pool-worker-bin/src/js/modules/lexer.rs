//! Which names a CommonJS file seems to export, found in its text, before it runs.
//!
//! An ES module's imports are linked before anything runs, so the names must be known by then. Node
//! finds them with the lexer of the npm package cjs-module-lexer; this is the same text, in a
//! context in which no code of a task ever runs.

use super::super::host::{key, text};

/// Version 2.3.0, as `npm pack cjs-module-lexer` gives it; the licence is beside it.
const SOURCE: &str = include_str!("lexer/lexer.js");

/// A context with the lexer in it.
pub(in super::super) struct Lexer {
    context: v8::Global<v8::Context>,
    parse: v8::Global<v8::Function>,
}

/// What is seen in a text.
#[derive(Debug, Default)]
pub(super) struct Lexed {
    pub(super) exports: Vec<String>,
    /// Specifiers of modules whose exports are exported too.
    pub(super) reexports: Vec<String>,
}

impl Lexer {
    /// Makes the context; `None` only if V8 is out of memory or is being told to stop.
    pub(super) fn new(scope: &mut v8::PinScope<'_, '_>) -> Option<Self> {
        v8::scope!(let scope, scope);
        let context = v8::Context::new(scope, v8::ContextOptions::default());
        let scope = &mut v8::ContextScope::new(scope, context);
        let source = text(scope, SOURCE);
        let mut source = v8::script_compiler::Source::new(source, None);
        let parameter = key(scope, "module");
        let body = v8::script_compiler::compile_function(
            scope,
            &mut source,
            &[parameter],
            &[],
            v8::script_compiler::CompileOptions::NoCompileOptions,
            v8::script_compiler::NoCacheReason::NoReason,
        )?;
        let (exports, parse) = (key(scope, "exports"), key(scope, "parse"));
        let module = v8::Object::new(scope);
        let empty = v8::Object::new(scope);
        module.create_data_property(scope, exports.into(), empty.into())?;
        let receiver = v8::undefined(scope).into();
        body.call(scope, receiver, &[module.into()])?;
        let exports = v8::Local::<v8::Object>::try_from(module.get(scope, exports.into())?).ok()?;
        let parse = v8::Local::<v8::Function>::try_from(exports.get(scope, parse.into())?).ok()?;
        Some(Self {
            context: v8::Global::new(scope, context),
            parse: v8::Global::new(scope, parse),
        })
    }

    /// What the text exports; nothing where it cannot be read. `None`: the task is being told to
    /// stop.
    pub(super) fn lex(&self, scope: &mut v8::PinScope<'_, '_>, source: &str) -> Option<Lexed> {
        v8::scope!(let scope, scope);
        let context = v8::Local::new(scope, &self.context);
        let scope = &mut v8::ContextScope::new(scope, context);
        v8::tc_scope!(let scope, scope);
        let parse = v8::Local::new(scope, &self.parse);
        let receiver = v8::undefined(scope).into();
        let source = text(scope, source);
        let lexed = parse.call(scope, receiver, &[source.into()]);
        let lexed = lexed.and_then(|lexed| v8::Local::<v8::Object>::try_from(lexed).ok()).and_then(
            |lexed| {
                Some(Lexed {
                    exports: list(scope, lexed, "exports")?,
                    reexports: list(scope, lexed, "reexports")?,
                })
            },
        );
        if scope.has_terminated() {
            scope.rethrow();
            return None;
        }
        scope.reset();
        // It keeps the last text that it was given.
        let nothing = v8::String::empty(scope);
        parse.call(scope, receiver, &[nothing.into()]);
        Some(lexed.unwrap_or_default())
    }
}

fn list(
    scope: &mut v8::PinScope<'_, '_>,
    lexed: v8::Local<'_, v8::Object>,
    name: &str,
) -> Option<Vec<String>> {
    let name = key(scope, name);
    let values = v8::Local::<v8::Array>::try_from(lexed.get(scope, name.into())?).ok()?;
    (0..values.length())
        .map(|index| Some(values.get_index(scope, index)?.to_rust_string_lossy(scope)))
        .collect()
}
