//! Layers of confinement: what a worker cannot do, and who says so.
//!
//! A worker reports the layers that it has put on and checked, the supervisor adds those that it
//! put around it. What is not reported is missing, and is called missing wherever a person may
//! look: nothing claims a layer that is not there.

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::lane::Lane;

macro_rules! layers {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// One way in which a worker is confined.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Layer { $($(#[$doc])* $variant,)* }

        impl Layer {
            /// All layers, in the order of the wire.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in JSON and in the log.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

layers! {
    /// No descriptor but its own, an empty environment.
    Descriptors = "descriptors",
    /// `RLIMIT_DATA`, `NOFILE`, `CORE`, `FSIZE`, `CPU`, as far as the lane has use for them.
    ResourceLimits = "resource-limits",
    /// No program that it starts has more rights than it.
    NoNewPrivs = "no-new-privs",
    /// Neither traced nor dumped, and its `/proc` entries belong to root.
    NotDumpable = "not-dumpable",
    /// No capability is left (JavaScript), or none that reaches beyond its own user's files
    /// (programs).
    Capabilities = "capabilities",
    /// A user namespace of its own.
    UserNamespace = "user-namespace",
    /// A process namespace of its own: it sees no process, and what it starts ends with it.
    PidNamespace = "pid-namespace",
    /// A mount namespace of its own: JavaScript finds an empty root.
    MountNamespace = "mount-namespace",
    /// A network namespace of its own, without an interface that is up.
    NetworkNamespace = "network-namespace",
    /// System V and POSIX message queues of its own.
    IpcNamespace = "ipc-namespace",
    /// Files: none but those that its lane needs.
    Landlock = "landlock",
    /// System calls: none but those that its lane needs.
    Seccomp = "seccomp",
    /// A control group of its own, which is killed as a whole.
    Cgroup = "cgroup",
    /// The group's `memory.max`.
    CgroupMemory = "cgroup-memory",
    /// The group's `pids.max`.
    CgroupPids = "cgroup-pids",
    /// The group's `cpu.max`.
    CgroupCpu = "cgroup-cpu",
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How much confinement is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Every layer that the level promises, or no pool.
    Strict,
    /// Every layer that the machine gives; what is missing is said.
    Standard,
    /// Limits of resources only. For debugging, and for code that is trusted.
    Off,
}

impl Level {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Standard => "standard",
            Self::Off => "off",
        }
    }
}

/// A set of layers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct LayerSet(u32);

impl LayerSet {
    /// None.
    pub const NONE: Self = Self(0);

    /// Those listed.
    #[must_use]
    pub const fn of(layers: &[Layer]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < layers.len() {
            bits |= 1 << layers[i] as u32;
            i += 1;
        }
        Self(bits)
    }

    /// What the level promises of a worker of the lane, without control groups: those are promised
    /// by a setting of their own.
    ///
    /// Programs need the network, other processes and files: they get no namespaces by promise.
    #[must_use]
    pub const fn promised(level: Level, lane: Lane) -> Self {
        use Layer::{
            Capabilities, Descriptors, IpcNamespace, Landlock, MountNamespace, NetworkNamespace,
            NoNewPrivs, NotDumpable, PidNamespace, ResourceLimits, Seccomp, UserNamespace,
        };
        let always = Self::of(&[Descriptors, ResourceLimits]);
        let both =
            always.with(Self::of(&[NoNewPrivs, NotDumpable, Capabilities, Landlock, Seccomp]));
        match (level, lane) {
            (Level::Off, _) => always,
            (_, Lane::Io) => both,
            (_, Lane::Js) => both.with(Self::of(&[
                UserNamespace,
                PidNamespace,
                MountNamespace,
                NetworkNamespace,
                IpcNamespace,
            ])),
        }
    }

    /// All of the control group's.
    pub const CGROUP: Self =
        Self::of(&[Layer::Cgroup, Layer::CgroupMemory, Layer::CgroupPids, Layer::CgroupCpu]);

    /// What a worker of the lane that has put on these layers lacks of all there are for it.
    /// Without a group there is no use in naming the group's limits.
    #[must_use]
    pub const fn lacking(self, lane: Lane) -> Self {
        let missing = Self::promised(Level::Strict, lane).with(Self::CGROUP).without(self);
        if missing.has(Layer::Cgroup) {
            missing.without(Self::CGROUP).with(Self::of(&[Layer::Cgroup]))
        } else {
            missing
        }
    }

    /// Both sets' layers.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of this set that are not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Adds one.
    pub const fn insert(&mut self, layer: Layer) {
        self.0 |= 1 << layer as u32;
    }

    /// Whether it is among them.
    #[must_use]
    pub const fn has(self, layer: Layer) -> bool {
        self.0 & (1 << layer as u32) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its layers in order. Bits that no layer of this build has are left out.
    pub fn iter(self) -> impl Iterator<Item = Layer> {
        Layer::ALL.iter().copied().filter(move |layer| self.has(*layer))
    }

    /// Their names.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(Layer::name).collect()
    }
}

impl fmt::Debug for LayerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Layer::name)).finish()
    }
}

impl fmt::Display for LayerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, layer) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{layer}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_once() {
        let promised = LayerSet::promised(Level::Strict, Lane::Js);
        assert_eq!(promised.lacking(Lane::Js).names(), ["cgroup"]);
        let grouped = promised.with(LayerSet::of(&[Layer::Cgroup]));
        assert_eq!(
            grouped.lacking(Lane::Js).names(),
            ["cgroup-memory", "cgroup-pids", "cgroup-cpu"]
        );
        assert_eq!(promised.with(LayerSet::CGROUP).lacking(Lane::Js), LayerSet::NONE);
        let off = LayerSet::promised(Level::Off, Lane::Io);
        assert_eq!(off.names(), ["descriptors", "resource-limits"]);
        assert_eq!(
            off.lacking(Lane::Io).to_string(),
            "no-new-privs, not-dumpable, capabilities, landlock, seccomp, cgroup"
        );
    }
}
