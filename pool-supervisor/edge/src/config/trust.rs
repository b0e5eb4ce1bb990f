//! What `trust` implies: one setting for whose code the pool runs.
//!
//! Owns the values of other settings that a trust implies, and the comparison with those in force.
//! An implied value is a default: it is set before the file's own settings are read, so an explicit
//! one overrides it. What was implied or overridden is worked out from the values alone. So the
//! effective configuration, read as a file again, has the same settings and says the same of them.

use std::cmp::Ordering;

use pool_protocol::layer::Level;
use pool_protocol::worker::PublicAddresses;
use serde::Serialize;

use super::{CgroupMode, Config, Tenancy};

/// `trust`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Implies nothing: each setting has its own default.
    Trusted,
    /// Code of strangers.
    Untrusted,
}

/// One setting that the trust implies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Implied {
    /// Its path, as in [`super::keys::KEYS`].
    pub key: &'static str,
    /// What the trust implies.
    pub implied: &'static str,
    /// What is in force.
    pub actual: &'static str,
    /// How strict what is in force is, compared with what is implied.
    pub strictness: Ordering,
    /// What a weaker value means; completes "so ".
    weaker: &'static str,
}

impl Implied {
    /// Whether another value than the implied one is in force.
    #[must_use]
    pub const fn is_overridden(&self) -> bool {
        !matches!(self.strictness, Ordering::Equal)
    }
}

/// The settings that a trust decides, from a configuration or as implied.
#[derive(Clone, Copy)]
struct Decided {
    isolation: Level,
    tenancy: Tenancy,
    cgroup_mode: CgroupMode,
    public: PublicAddresses,
}

/// A setting's key, its value's name, and the value's rank: a higher one is stricter.
type Row = (&'static str, &'static str, u8);

/// What the weaker values of [`Decided::rows`] mean, in the same order.
const WEAKER: [&str; 4] = [
    "a worker runs tasks even where this machine lacks a layer of confinement",
    "tasks of different projects run in the same process, one after the other",
    "a worker may run without a limit of the kernel on its memory and processes as a whole",
    "requests reach every public address",
];

impl Decided {
    const fn of(config: &Config) -> Self {
        Self {
            isolation: config.isolation,
            tenancy: config.tenancy,
            cgroup_mode: config.cgroup.mode,
            public: config.http.public,
        }
    }

    const fn set_in(self, config: &mut Config) {
        config.isolation = self.isolation;
        config.tenancy = self.tenancy;
        config.cgroup.mode = self.cgroup_mode;
        config.http.public = self.public;
    }

    const fn rows(self) -> [Row; 4] {
        let isolation = match self.isolation {
            Level::Off => 0,
            Level::Standard => 1,
            Level::Strict => 2,
        };
        let tenancy = match self.tenancy {
            Tenancy::Shared => 0,
            Tenancy::Project => 1,
            Tenancy::Task => 2,
        };
        let cgroup_mode = match self.cgroup_mode {
            CgroupMode::Off => 0,
            CgroupMode::Auto => 1,
            CgroupMode::Required => 2,
        };
        let public = match self.public {
            PublicAddresses::Allow => 0,
            PublicAddresses::Deny => 1,
        };
        [
            ("isolation", self.isolation.name(), isolation),
            ("tenancy", self.tenancy.name(), tenancy),
            ("cgroup.mode", self.cgroup_mode.name(), cgroup_mode),
            ("http.public", self.public.name(), public),
        ]
    }
}

impl Trust {
    /// Both values.
    pub const ALL: [Self; 2] = [Self::Trusted, Self::Untrusted];

    /// The name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Untrusted => "untrusted",
        }
    }

    const fn implies(self) -> Option<Decided> {
        match self {
            Self::Trusted => None,
            Self::Untrusted => Some(Decided {
                isolation: Level::Strict,
                tenancy: Tenancy::Project,
                cgroup_mode: CgroupMode::Required,
                public: PublicAddresses::Deny,
            }),
        }
    }
}

impl Config {
    /// Makes what the trust implies the defaults: before any other setting is read.
    pub(super) const fn trust_as(&mut self, trust: Trust) {
        self.trust = trust;
        if let Some(implied) = trust.implies() {
            implied.set_in(self);
        }
    }

    /// What the trust implies and what is in force; nothing when it implies nothing.
    #[must_use]
    pub fn implied(&self) -> Vec<Implied> {
        let Some(implied) = self.trust.implies() else { return Vec::new() };
        let rows = implied.rows().into_iter().zip(Decided::of(self).rows()).zip(WEAKER);
        rows.map(|(((key, implied, least), (_, actual, rank)), weaker)| Implied {
            key,
            implied,
            actual,
            strictness: rank.cmp(&least),
            weaker,
        })
        .collect()
    }

    /// What the trust implies, a line for each setting, for whoever checks a configuration.
    #[must_use]
    pub fn trust_report(&self) -> Vec<String> {
        let implied = self.implied();
        let head =
            (!implied.is_empty()).then(|| format!("trust = {:?} implies:", self.trust.name()));
        let line = |setting: &Implied| {
            let Implied { key, implied, actual, .. } = setting;
            match setting.strictness {
                Ordering::Equal => format!("  {key} = {implied:?}"),
                Ordering::Less => {
                    format!("  {key} = {implied:?}, overridden by {actual:?}, which is weaker")
                }
                Ordering::Greater => {
                    format!("  {key} = {implied:?}, overridden by {actual:?}, which is stricter")
                }
            }
        };
        head.into_iter().chain(implied.iter().map(line)).collect()
    }

    /// Where the configuration gives away what its trust implies.
    pub(super) fn weakened(&self) -> impl Iterator<Item = String> {
        let trust = self.trust.name();
        // The pool's own sockets refuse programs. Nothing holds `connect` to the list for the
        // others.
        let programs = (self.trust == Trust::Untrusted && !self.shell.sockets.is_empty()).then(|| {
            format!(
                "trust is {trust:?}, but shell.sockets lists sockets: a program that can be made \
                 to open a Unix socket may \
                 reach others of the machine as well; see docs/untrusted-code.md"
            )
        });
        let weaker =
            self.implied().into_iter().filter(|setting| setting.strictness == Ordering::Less);
        let told = weaker.map(move |setting| {
            let Implied { key, implied, actual, weaker, .. } = setting;
            format!(
                "trust is {trust:?}, but {key} is {actual:?} instead of the implied \
                {implied:?}, so {weaker}"
            )
        });
        told.chain(programs)
    }
}
