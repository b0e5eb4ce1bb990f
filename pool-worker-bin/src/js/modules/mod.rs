//! Modules: not loadable in this engine as long as it has no roots.
use super::context::RealmState;
use super::errors::Trouble;
use super::host::Host;
pub(super) struct ModuleRoots;
impl ModuleRoots {
    pub(super) fn new(_: &[std::path::PathBuf]) -> Self {
        Self
    }
}
#[derive(Default)]
pub(super) struct Modules;
pub(super) fn prepare_isolate(_: &mut v8::Isolate) {}
pub(super) fn load<'s>(
    _s: &mut v8::PinScope<'s, '_>,
    _h: &Host,
    _r: &RealmState,
    _p: &str,
) -> Result<v8::Local<'s, v8::Value>, Trouble> {
    Err(super::task::JsFailure::new(super::task::FailureKind::ModuleDenied, "Error", "no module root is configured")
        .into())
}
pub(super) fn pick<'s>(
    _s: &mut v8::PinScope<'s, '_>,
    _e: v8::Local<'s, v8::Value>,
    _p: &str,
    _m: Option<&str>,
) -> Result<(v8::Local<'s, v8::Function>, v8::Local<'s, v8::Value>), Trouble> {
    Err(super::task::JsFailure::new(super::task::FailureKind::ModuleDenied, "Error", "no module root is configured")
        .into())
}
