//! What an answer of the kernel says about an attack.

use std::io;

use nix::errno::Errno;
use pool_protocol::worker::ProbeReport;

/// Answers by which a call is refused before it is looked at. Any other error shows that the kernel
/// went on to judge the arguments, which are wrong on purpose: nothing stood in the way of right
/// ones.
const REFUSALS: [Errno; 3] = [Errno::EACCES, Errno::EPERM, Errno::ENOSYS];

/// The attack did what it tried to do.
pub(super) fn succeeded(detail: impl Into<String>) -> ProbeReport {
    ProbeReport { succeeded: true, detail: detail.into() }
}

/// It did not.
pub(super) fn stopped(detail: impl Into<String>) -> ProbeReport {
    ProbeReport { succeeded: false, detail: detail.into() }
}

/// Judges an answer; `also` are errors by which this very call is refused too.
pub(super) fn judge<T>(what: &str, answer: Result<T, Errno>, also: &[Errno]) -> ProbeReport {
    match answer {
        Ok(_) => succeeded(format!("{what}: done")),
        Err(errno) if REFUSALS.contains(&errno) || also.contains(&errno) => {
            stopped(format!("{what}: {errno:?}"))
        }
        Err(errno) => succeeded(format!("{what}: not refused ({errno:?} for its arguments)")),
    }
}

/// The number in an error of the standard library.
pub(super) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_stops_an_attack() {
        for (answer, also, is_success) in [
            (Ok(()), &[][..], true),
            (Err(Errno::EFAULT), &[], true),
            (Err(Errno::EACCES), &[], false),
            (Err(Errno::ENOSYS), &[], false),
            (Err(Errno::ESRCH), &[], true),
            (Err(Errno::ESRCH), &[Errno::ESRCH], false),
        ] {
            assert_eq!(judge("call", answer, also).succeeded, is_success, "{answer:?}");
        }
        assert_eq!(
            judge("kill(1, 0)", Err::<(), _>(Errno::EPERM), &[]).detail,
            "kill(1, 0): EPERM"
        );
    }
}
