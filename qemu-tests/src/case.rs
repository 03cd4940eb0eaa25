// SPDX-License-Identifier: GPL-2.0

//! A test: a name that reads as a promise, the cluster it needs, and what it does with it.

use std::fmt;
use std::time::Duration;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::cluster::Mode;
use crate::cluster::Shape;

/// What a test does.
type Body = Box<dyn Fn(&Cluster) -> Result<()> + Send + Sync>;

/// A test that has not been run yet.
pub struct Case {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) timeout: Duration,
    pub(crate) fresh: bool,
    pub(crate) spoils: bool,
    pub(crate) unclean: bool,
    pub(crate) body: Body,
}

impl Case {
    /// A test on two equal guests that takes a minute and a half at most.
    ///
    /// It gets guests that others may have used, with no process left, /shared and /tmp empty, the network whole and
    /// the module not loaded. It need not tidy up. Afterwards the kernel log of every guest must be clean.
    pub fn new(
        name: impl Into<String>,
        body: impl Fn(&Cluster) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            shape: Shape::default(),
            timeout: Duration::from_secs(90),
            fresh: false,
            spoils: false,
            unclean: false,
            body: Box::new(body),
        }
    }

    /// Needs that many guests. Fewer than two share the clusters of two.
    pub fn guests(mut self, guests: usize) -> Self {
        self.shape.guests = guests.max(2);
        self
    }

    /// Needs the distribution's own init.
    pub fn systemd(mut self) -> Self {
        self.shape.mode = Mode::Systemd;
        self
    }

    /// Needs these processor models, one for each guest.
    pub fn cpu<S: Into<String>>(mut self, models: impl IntoIterator<Item = S>) -> Self {
        self.shape.cpu = models.into_iter().map(Into::into).collect();
        self
    }

    /// Needs that much memory in each guest.
    pub fn memory_mib(mut self, memory: u32) -> Self {
        self.shape.memory_mib = memory;
        self
    }

    /// Fails when it takes longer.
    pub fn timeout(mut self, seconds: u64) -> Self {
        self.timeout = Duration::from_secs(seconds);
        self
    }

    /// Needs guests that nobody has used.
    pub fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// Leaves guests that nobody else can use.
    pub fn spoils(mut self) -> Self {
        self.spoils = true;
        self
    }

    /// Makes the kernel complain on purpose, and looks at the log itself.
    pub fn unclean(mut self) -> Self {
        self.unclean = true;
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

/// How a test has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It kept its promise.
    Passed,
    /// It did not.
    Failed(String),
    /// It could not be tried, and why.
    Skipped(String),
}

/// The error that a test returns when it cannot be tried.
#[derive(Debug)]
struct Skip(String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped: {}", self.0)
    }
}

impl std::error::Error for Skip {}

/// `return skip("why")` in a test that cannot be tried here.
pub fn skip(reason: impl Into<String>) -> Result<()> {
    Err(Skip(reason.into()).into())
}

impl From<Result<()>> for Outcome {
    fn from(result: Result<()>) -> Self {
        match result {
            Ok(()) => Self::Passed,
            Err(error) => match error.downcast_ref::<Skip>() {
                Some(Skip(reason)) => Self::Skipped(reason.clone()),
                None => Self::Failed(format!("{error:#}")),
            },
        }
    }
}
