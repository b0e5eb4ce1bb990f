//! Lanes: what a worker process may do.

/// What a worker may do. Untrusted JavaScript never shares a process with the network or with
/// programs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(
    feature = "std",
    derive(bincode::Encode, bincode::Decode, serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum Lane {
    /// JavaScript tasks.
    Js,
    /// HTTP requests and programs.
    Io,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 2] = [Self::Js, Self::Io];

    /// The name in JSON and on the worker's command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Js => "js",
            Self::Io => "io",
        }
    }

    /// The one that shares the pool's workers with this one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Js => Self::Io,
            Self::Io => Self::Js,
        }
    }
}
