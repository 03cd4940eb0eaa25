// SPDX-License-Identifier: GPL-2.0
//! What can stand in the way of a migration: the single source of every refusal and every note.
//!
//! Messages, exit reasons, the page on state coverage and the tests all come from [`all`]. A code never changes its
//! meaning; one that is no longer needed is not used again.

use core::fmt;

pub mod destination;
pub mod selection;
pub mod source;

/// How much an obstacle weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The process could notice the difference, but it is moved.
    Note,
    /// The process is not moved.
    Refusal,
}

impl Severity {
    /// `note` or `refusal`.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Refusal => "refusal",
        }
    }
}

/// Which host an obstacle is found on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Where the process is.
    Source,
    /// Where it shall go.
    Destination,
    /// Only the comparison of the two shows it.
    Both,
}

impl Side {
    /// `source`, `destination` or `both`.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Destination => "destination",
            Side::Both => "both",
        }
    }
}

/// One thing that can stand in the way.
#[derive(Debug)]
pub struct Obstacle {
    /// Stable name in kebab-case.
    pub code: &'static str,
    /// Whether it stops the migration.
    pub severity: Severity,
    /// Where it is found.
    pub side: Side,
    /// One line for the user; `{object}` stands for what it is about. See [`Obstacle::message`].
    pub template: &'static str,
    /// What the user can do about it.
    pub hint: &'static str,
    /// The identifier of the feature that is missing, see [`crate::feature`].
    pub feature: &'static str,
}

/// Two obstacles are the same when their codes are.
impl PartialEq for Obstacle {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code
    }
}

impl Eq for Obstacle {}

impl Obstacle {
    /// Whether this stops the migration.
    pub const fn refuses(&self) -> bool {
        matches!(self.severity, Severity::Refusal)
    }

    /// The message about `object`, ready to be shown.
    pub fn message<'a>(&self, object: &'a dyn fmt::Display) -> Message<'a> {
        Message {
            template: self.template,
            object,
        }
    }
}

/// A template and what it is about. Shows the finished message.
pub struct Message<'a> {
    template: &'static str,
    object: &'a dyn fmt::Display,
}

impl fmt::Display for Message<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.template.split_once("{object}") {
            Some((before, after)) => write!(formatter, "{before}{}{after}", self.object),
            None => formatter.write_str(self.template),
        }
    }
}

/// What exactly an obstacle is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// The process as a whole.
    Process,
    /// One thread, by the TID that it believes in.
    Thread {
        /// The TID.
        tid: u32,
    },
    /// One file descriptor.
    Descriptor {
        /// Its number.
        fd: u32,
        /// Identity of its [`pmig_wire::file::File`].
        file: u32,
    },
    /// An open file that no descriptor names: an executable, a directory or a mapping.
    File {
        /// Identity of the [`pmig_wire::file::File`].
        file: u32,
    },
    /// One mapping.
    Mapping {
        /// First address.
        start: u64,
        /// First address behind.
        end: u64,
    },
    /// A bit without a meaning in this version.
    Bit {
        /// Its number.
        bit: u32,
    },
    /// A host.
    Host,
}

impl fmt::Display for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Process => formatter.write_str("the process"),
            Object::Thread { tid } => write!(formatter, "thread {tid}"),
            Object::Descriptor { fd, .. } => write!(formatter, "descriptor {fd}"),
            Object::File { file } => write!(formatter, "file #{file}"),
            Object::Mapping { start, end } => write!(formatter, "mapping {start:x}-{end:x}"),
            Object::Bit { bit } => write!(formatter, "bit {bit}"),
            Object::Host => formatter.write_str("the host"),
        }
    }
}

/// Every obstacle: those of the choice of a process, of the source, of the destination.
pub fn all() -> impl Iterator<Item = &'static Obstacle> {
    selection::TABLE
        .iter()
        .chain(source::TABLE)
        .chain(destination::TABLE)
        .copied()
}

/// The obstacle with this code.
pub fn find(code: &str) -> Option<&'static Obstacle> {
    all().find(|obstacle| obstacle.code == code)
}

/// Declares obstacles, and the table of them in the same order.
macro_rules! obstacles {
    ($($name:ident, $severity:ident, $side:ident, $feature:literal, $code:literal, $template:literal, $hint:literal;)*) => {
        $(
            #[doc = concat!("`", $code, "`: ", $template, ".")]
            pub static $name: $crate::obstacle::Obstacle = $crate::obstacle::Obstacle {
                code: $code,
                severity: $crate::obstacle::Severity::$severity,
                side: $crate::obstacle::Side::$side,
                template: $template,
                hint: $hint,
                feature: $feature,
            };
        )*
        /// The obstacles of this file, in its order.
        pub static TABLE: &[&$crate::obstacle::Obstacle] = &[$(&$name),*];
    };
}
pub(crate) use obstacles;
