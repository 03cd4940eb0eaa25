// SPDX-License-Identifier: GPL-2.0
//! The decisions of this host's agent, written before anybody acts on them.
//!
//! One line an event: the CRC-32C of the JSON in eight hexadecimal digits, a space, the JSON. An event counts once
//! [`Journal::write`] has returned: it is on the disk. A line that is cut off at the end of the file was never acted on and
//! is dropped; damage anywhere else means that decisions are lost, and then the agent does not start.
//!
//! | side | event | meaning |
//! |---|---|---|
//! | source | `committed` | the process is the destination's, if that ever said that it is ready |
//! | source | `aborted` | the process stayed; the same as no entry at all |
//! | source | `done` | the frozen copy is gone |
//! | destination | `ready` | the source may decide at any time |
//! | destination | `running` | decided: the process runs here |
//! | destination | `aborted` | decided: it never ran here |
//! | destination | `released` | the source needs no answer any more |
#![forbid(unsafe_code)]

use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::JournalId;
use crate::proto::MigrationId;
use crate::proto::Role;
use crate::transport::PeerAddress;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Name of the file in the state directory.
pub const FILE_NAME: &str = "journal";
/// Version of the lines.
const SCHEMA: u32 = 1;
/// A file over this size is written anew without the migrations that are over.
const COMPACT_BYTES: u64 = 1024 * 1024;

/// What is known of one migration on one side of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which side this host is.
    pub role: Role,
    /// How far it is.
    pub state: State,
    /// The process on this host.
    pub pid: u32,
    /// Where the other agent is reached.
    pub peer: PeerAddress,
    /// The journal of the other agent.
    pub peer_journal: JournalId,
}

/// How far a migration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Source: the process is the destination's.
    Committed,
    /// Source: the process stayed. Destination: it never ran here.
    Aborted,
    /// Source: the frozen copy is gone.
    Done,
    /// Destination: waits for the decision.
    Ready,
    /// Destination: the process runs here.
    Running,
    /// Destination: the source needs no answer any more.
    Released,
}

impl State {
    /// Whether nothing that can happen asks for this entry any more.
    fn is_over(self) -> bool {
        matches!(self, State::Aborted | State::Done | State::Released)
    }
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file operation failed.
    #[error("the journal {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is damaged.
    #[error("the journal {} is damaged in line {line}: decisions about processes may be lost", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// It was written by a later version.
    #[error("the journal {} has schema {found}, this agent understands {SCHEMA}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// There are no random numbers.
    #[error("no random number: {0}")]
    Random(#[from] getrandom::Error),
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Failure::new(FailureCode::JournalError, error.to_string())
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line {
    Opened {
        schema: u32,
        journal: JournalId,
    },
    Migration {
        migration: MigrationId,
        #[serde(flatten)]
        entry: Entry,
    },
}

/// The journal of an agent.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    id: JournalId,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    length: u64,
    entries: BTreeMap<(MigrationId, Role), Entry>,
    /// A write failed half-way: what is in the file now is not known.
    broken: bool,
}

impl Journal {
    /// Opens the journal in the directory `dir`, or begins one.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let path = dir.join(FILE_NAME);
        let at = |source| JournalError::Io {
            path: path.clone(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(at)?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(at(error)),
        };
        let (id, entries) = read(&path, &bytes)?;
        let id = match id {
            Some(id) => id,
            None => JournalId(getrandom::u64()?),
        };
        let (file, length) = rewrite(&path, id, &entries).map_err(at)?;
        let entries = entries
            .into_iter()
            .filter(|(_, entry)| !entry.state.is_over())
            .collect();
        Ok(Self {
            path,
            id,
            inner: Mutex::new(Inner {
                file,
                length,
                entries,
                broken: false,
            }),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name, which changes when the file is lost.
    pub fn id(&self) -> JournalId {
        self.id
    }

    /// Whether a write failed so that what is on the disk cannot be known.
    pub fn is_broken(&self) -> bool {
        self.inner().broken
    }

    /// Writes nothing more, as if this process had died: for tests of what a dead agent leaves behind.
    #[doc(hidden)]
    pub fn halt(&self) {
        self.inner().broken = true;
    }

    /// Writes what is known now of `migration`. On return it is on the disk.
    pub fn write(&self, migration: MigrationId, entry: Entry) -> Result<(), JournalError> {
        let at = |source| JournalError::Io {
            path: self.path.clone(),
            source,
        };
        let mut inner = self.inner();
        if inner.broken {
            return Err(at(io::Error::other(
                "an earlier write failed; the agent has to be started anew",
            )));
        }
        let line = encode(&Line::Migration {
            migration,
            entry: entry.clone(),
        })
        .map_err(at)?;
        if let Err(error) = inner
            .file
            .write_all(&line)
            .and_then(|()| inner.file.sync_data())
        {
            // Back to the last whole line. If even that fails nobody can tell what is on the disk.
            let length = inner.length;
            inner.broken = inner
                .file
                .set_len(length)
                .and_then(|()| inner.file.sync_data())
                .is_err();
            return Err(at(error));
        }
        inner.length = inner.length.saturating_add(line.len() as u64);
        inner.entries.insert((migration, entry.role), entry);
        if inner.length > COMPACT_BYTES {
            self.compact(&mut inner).map_err(at)?;
        }
        Ok(())
    }

    /// What is known of `migration` on the side `role`.
    pub fn entry(&self, migration: MigrationId, role: Role) -> Option<Entry> {
        self.inner().entries.get(&(migration, role)).cloned()
    }

    /// Every migration that is not known to be over.
    pub fn entries(&self) -> Vec<(MigrationId, Entry)> {
        self.inner()
            .entries
            .iter()
            .map(|((migration, _), entry)| (*migration, entry.clone()))
            .collect()
    }

    fn compact(&self, inner: &mut Inner) -> io::Result<()> {
        inner.entries.retain(|_, entry| !entry.state.is_over());
        let (file, length) = rewrite(&self.path, self.id, &inner.entries)?;
        inner.file = file;
        inner.length = length;
        Ok(())
    }
}

type Entries = BTreeMap<(MigrationId, Role), Entry>;

fn read(path: &Path, bytes: &[u8]) -> Result<(Option<JournalId>, Entries), JournalError> {
    let mut id = None;
    let mut entries = Entries::new();
    let mut lines = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .enumerate()
        .peekable();
    while let Some((index, line)) = lines.next() {
        let is_last = lines.peek().is_none();
        match decode(line) {
            Some(Line::Opened { schema, .. }) if schema != SCHEMA => {
                return Err(JournalError::Schema {
                    path: path.to_owned(),
                    found: schema,
                });
            }
            Some(Line::Opened { journal, .. }) if index == 0 => id = Some(journal),
            Some(Line::Migration { migration, entry }) if id.is_some() => {
                entries.insert((migration, entry.role), entry);
            }
            // The machine stopped in the middle of this line, so nobody has acted on it.
            None if is_last && !line.ends_with(b"\n") => {
                tracing::warn!(
                    line = index.saturating_add(1),
                    "the end of the journal is cut off and dropped"
                );
            }
            _ => {
                return Err(JournalError::Damaged {
                    path: path.to_owned(),
                    line: index.saturating_add(1),
                })
            }
        }
    }
    Ok((id, entries))
}

fn decode(line: &[u8]) -> Option<Line> {
    let line = line.strip_suffix(b"\n")?;
    let (checksum, json) = line.split_at_checked(8)?;
    let json = json.strip_prefix(b" ")?;
    let checksum = u32::from_str_radix(std::str::from_utf8(checksum).ok()?, 16).ok()?;
    if crc32c::crc32c(json) != checksum {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn encode(line: &Line) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(line)?;
    Ok(format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())).into_bytes())
}

/// Writes a new file with what is not over, and puts it in the place of the old one.
fn rewrite(path: &Path, id: JournalId, entries: &Entries) -> io::Result<(File, u64)> {
    let mut bytes = encode(&Line::Opened {
        schema: SCHEMA,
        journal: id,
    })?;
    for ((migration, _), entry) in entries.iter().filter(|(_, entry)| !entry.state.is_over()) {
        bytes.extend(encode(&Line::Migration {
            migration: *migration,
            entry: entry.clone(),
        })?);
    }
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    // Appending, so that a write after a shortened file lands at its end.
    let file = OpenOptions::new().append(true).open(path)?;
    Ok((file, bytes.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(role: Role, state: State) -> Entry {
        let peer = PeerAddress {
            host: "b".into(),
            port: 1,
        };
        Entry {
            role,
            state,
            pid: 7,
            peer,
            peer_journal: JournalId(9),
        }
    }

    fn id(byte: u8) -> MigrationId {
        MigrationId::from_bytes([byte; 16])
    }

    #[test]
    fn decisions_survive_and_finished_migrations_are_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(dir.path()).expect("a new journal");
        journal
            .write(id(1), entry(Role::Source, State::Committed))
            .expect("written");
        journal
            .write(id(1), entry(Role::Destination, State::Ready))
            .expect("written");
        journal
            .write(id(2), entry(Role::Source, State::Committed))
            .expect("written");
        journal
            .write(id(2), entry(Role::Source, State::Done))
            .expect("written");
        let name = journal.id();
        drop(journal);
        let journal = Journal::open(dir.path()).expect("the same journal");
        assert_eq!(journal.id(), name);
        assert_eq!(
            journal.entry(id(1), Role::Source),
            Some(entry(Role::Source, State::Committed))
        );
        assert_eq!(
            journal.entry(id(1), Role::Destination),
            Some(entry(Role::Destination, State::Ready))
        );
        assert_eq!(journal.entry(id(2), Role::Source), None);
    }

    #[test]
    fn a_torn_end_is_dropped_at_every_length() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE_NAME);
        let journal = Journal::open(dir.path()).expect("a new journal");
        journal
            .write(id(1), entry(Role::Source, State::Committed))
            .expect("written");
        let whole = fs::read(&path).expect("a file").len();
        journal
            .write(id(2), entry(Role::Destination, State::Ready))
            .expect("written");
        let bytes = fs::read(&path).expect("a file");
        for length in whole..bytes.len() {
            fs::write(&path, &bytes[..length]).expect("written");
            let journal = Journal::open(dir.path()).expect("a journal with a torn end");
            assert_eq!(journal.entries().len(), 1, "{length}");
        }
    }

    #[test]
    fn damage_inside_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE_NAME);
        let journal = Journal::open(dir.path()).expect("a new journal");
        journal
            .write(id(1), entry(Role::Source, State::Committed))
            .expect("written");
        journal
            .write(id(2), entry(Role::Source, State::Committed))
            .expect("written");
        let good = fs::read(&path).expect("a file");
        for position in 0..good.len() {
            let mut bytes = good.clone();
            bytes[position] ^= 0x40;
            fs::write(&path, &bytes).expect("written");
            let result = Journal::open(dir.path());
            let is_torn = position == good.len() - 1;
            assert_eq!(result.is_ok(), is_torn, "byte {position}: {result:?}");
        }
    }
}
