//! How large the body of a task may be (`limits.bodyBytes`), while a reload changes it.
//!
//! A worker exits on a body that is larger than what it was told at its start, and a client is
//! judged by what it was told when it connected. So a larger limit is told to clients only when no
//! worker takes tasks any more that was told less, and workers are told the largest that any client
//! was.

/// What clients and workers are told.
#[derive(Debug)]
pub(super) struct BodyLimit {
    /// What new clients are told.
    announced: u64,
    /// What the configuration says.
    configured: u64,
    /// The largest that was ever configured: such a body may wait, or its client be connected.
    largest: u64,
    /// Workers that may be given tasks, and were told less than what is configured.
    smaller: usize,
}

impl BodyLimit {
    pub(super) const fn new(configured: u64) -> Self {
        Self { announced: configured, configured, largest: configured, smaller: 0 }
    }

    pub(super) const fn for_clients(&self) -> u64 {
        self.announced
    }

    pub(super) const fn for_workers(&self) -> u64 {
        self.largest
    }

    /// Another configuration; `told` is what each worker that may be given tasks was told.
    pub(super) fn configure(&mut self, configured: u64, told: impl Iterator<Item = u64>) {
        self.configured = configured;
        self.largest = self.largest.max(configured);
        self.smaller = told.filter(|told| *told < configured).count();
        self.announced =
            if self.smaller == 0 { configured } else { self.announced.min(configured) };
    }

    /// A worker that was told this much is given no more tasks.
    pub(super) fn leaves(&mut self, told: u64) {
        if told < self.configured {
            self.smaller -= 1;
            if self.smaller == 0 {
                self.announced = self.configured;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_announced_when_the_last_worker_that_was_told_less_has_left() {
        let mut limit = BodyLimit::new(10);
        limit.configure(30, [10, 10].into_iter());
        assert_eq!((limit.for_clients(), limit.for_workers()), (10, 30));
        limit.leaves(10);
        limit.leaves(30);
        assert_eq!(limit.for_clients(), 10);
        limit.leaves(10);
        assert_eq!(limit.for_clients(), 30);
    }

    #[test]
    fn less_is_announced_at_once_and_workers_are_still_told_the_most() {
        let mut limit = BodyLimit::new(30);
        limit.configure(10, [30].into_iter());
        assert_eq!((limit.for_clients(), limit.for_workers()), (10, 30));
        limit.leaves(30);
        limit.configure(20, [30].into_iter());
        assert_eq!(limit.for_clients(), 20, "who was told 30 takes 20");
        limit.configure(40, [30].into_iter());
        limit.configure(50, [30].into_iter());
        assert_eq!(limit.for_clients(), 20, "twice raised, and nobody has left yet");
    }
}
