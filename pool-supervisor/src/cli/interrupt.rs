//! Ctrl-C: the first asks for an orderly end, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use signal_hook::consts::SIGINT;
use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::error::CliError;
use super::exit::Exit;

/// Runs `act` once, on a thread of its own, when the user first presses Ctrl-C.
///
/// # Errors
/// [`CliError`] when the system gives no handler or no thread.
pub(super) fn on_interrupt(act: impl FnOnce() + Send + 'static) -> Result<(), CliError> {
    let seen = Arc::new(AtomicBool::new(false));
    // INVARIANT: the handlers run in this order. The one that ends the process looks before the
    // other one sets the flag, so that it acts on the second signal and not on the first.
    flag::register_conditional_shutdown(
        SIGINT,
        i32::from(Exit::Cancelled.code()),
        Arc::clone(&seen),
    )
    .map_err(CliError::Signals)?;
    flag::register(SIGINT, seen).map_err(CliError::Signals)?;
    let mut signals = Signals::new([SIGINT]).map_err(CliError::Signals)?;
    let wait = move || {
        if signals.forever().next().is_some() {
            act();
        }
        // The handle must live on: dropped, it would take the handler away and Ctrl-C with it.
        for _ in signals.forever() {}
    };
    thread::Builder::new()
        .name("poolctl-interrupt".into())
        .spawn(wait)
        .map_err(CliError::Thread)?;
    Ok(())
}
