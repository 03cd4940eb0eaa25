// SPDX-License-Identifier: GPL-2.0
//! What a host says of itself.

use super::CpuFacts;
use super::HostLimits;
use crate::kernel::ModuleInfo;
use nix::time::clock_gettime;
use nix::time::ClockId;
use pmig_wire::process::Namespaces;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;
use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A fact about this host that cannot be found out.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it always holds.
    #[error("{path} has no {what}")]
    Format {
        /// The file.
        path: String,
        /// What is missing.
        what: &'static str,
    },
    /// The facts of a peer make no sense.
    #[error("facts about a host are damaged: {0}")]
    Encoding(serde_json::Error),
    /// A system call failed.
    #[error("{call}: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// Why.
        source: nix::Error,
    },
}

/// The clocks of a host at one moment, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostClocks {
    /// `CLOCK_REALTIME`
    pub realtime: i64,
    /// `CLOCK_MONOTONIC`
    pub monotonic: i64,
    /// `CLOCK_BOOTTIME`
    pub boottime: i64,
}

impl HostClocks {
    /// The clocks now.
    pub fn now() -> Result<Self, HostError> {
        let read = |clock| {
            clock_gettime(clock)
                .map(|time| {
                    time.tv_sec()
                        .saturating_mul(1_000_000_000)
                        .saturating_add(time.tv_nsec())
                })
                .map_err(|source| HostError::Call {
                    call: "clock_gettime",
                    source,
                })
        };
        Ok(Self {
            realtime: read(ClockId::CLOCK_REALTIME)?,
            monotonic: read(ClockId::CLOCK_MONOTONIC)?,
            boottime: read(ClockId::CLOCK_BOOTTIME)?,
        })
    }
}

/// Inode numbers of the namespaces that count as the host's: those of pmig itself. 0 where the kernel has no such kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in /proc/PID/ns")]
pub struct HostNamespaces {
    pub mnt: u32,
    pub uts: u32,
    pub ipc: u32,
    pub net: u32,
    pub pid: u32,
    pub user: u32,
    pub cgroup: u32,
    pub time: u32,
}

impl HostNamespaces {
    /// The namespaces of this process.
    pub fn own() -> Self {
        let read = |name: &str| {
            fs::metadata(Path::new("/proc/self/ns").join(name))
                .ok()
                .and_then(|metadata| u32::try_from(metadata.ino()).ok())
                .unwrap_or(0)
        };
        Self {
            mnt: read("mnt"),
            uts: read("uts"),
            ipc: read("ipc"),
            net: read("net"),
            pid: read("pid"),
            user: read("user"),
            cgroup: read("cgroup"),
            time: read("time"),
        }
    }
}

impl From<HostNamespaces> for Namespaces {
    fn from(own: HostNamespaces) -> Self {
        Namespaces {
            mnt: own.mnt.into(),
            uts: own.uts.into(),
            ipc: own.ipc.into(),
            net: own.net.into(),
            pid: own.pid.into(),
            pid_for_children: own.pid.into(),
            user: own.user.into(),
            cgroup: own.cgroup.into(),
            time: own.time.into(),
            time_for_children: own.time.into(),
        }
    }
}

/// Everything about a host that decides what it can exchange with another. Agents send it to each other first, as JSON,
/// so that agents of different versions can still tell each other why they do not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostFacts {
    /// Its name.
    pub hostname: String,
    /// As `uname -r`.
    pub release: String,
    /// Build id of the kernel, in hexadecimal.
    pub build_id: String,
    /// SHA-256 of the vdso's bytes, in hexadecimal; empty without a vdso.
    pub vdso: String,
    /// Size of a page, bytes.
    pub page_size: u64,
    /// [`pmig_wire::ABI_VERSION`] of the tool.
    pub abi: u32,
    /// Version of the module; empty while it is not loaded.
    pub module_version: String,
    /// Kernel release that the module was built for; empty while it is not loaded.
    pub module_release: String,
    /// A bit for each kind of system call that the module has learnt to resume.
    pub harvested: u32,
    /// The CPU.
    pub cpu: CpuFacts,
    /// Changes with every boot.
    pub boot_id: String,
    /// The clocks when the facts were collected.
    pub clocks: HostClocks,
    /// The host's namespaces.
    pub namespaces: HostNamespaces,
    /// How much fits.
    pub limits: HostLimits,
}

impl HostFacts {
    /// The facts about this host, and about its module if that is loaded.
    pub fn collect(module: Option<&ModuleInfo>) -> Result<Self, HostError> {
        Ok(Self {
            hostname: read("/proc/sys/kernel/hostname")?,
            release: read("/proc/sys/kernel/osrelease")?,
            build_id: build_id()?,
            vdso: vdso()?,
            page_size: page_size()?,
            abi: pmig_wire::ABI_VERSION,
            module_version: module
                .map(|module| module.version.clone())
                .unwrap_or_default(),
            module_release: module
                .map(|module| module.release.clone())
                .unwrap_or_default(),
            harvested: module.map_or(0, |module| module.harvested),
            cpu: CpuFacts::read(&read("/proc/cpuinfo")?),
            boot_id: read("/proc/sys/kernel/random/boot_id")?,
            clocks: HostClocks::now()?,
            namespaces: HostNamespaces::own(),
            limits: HostLimits::read(),
        })
    }

    /// The facts as they travel.
    pub fn to_bytes(&self) -> Result<Vec<u8>, HostError> {
        serde_json::to_vec(self).map_err(HostError::Encoding)
    }

    /// The facts that a peer sent. Unknown ones are skipped, missing ones are empty and differ from any real host's.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HostError> {
        serde_json::from_slice(bytes).map_err(HostError::Encoding)
    }
}

/// The text of a small file, without the line end.
pub(super) fn read(path: &str) -> Result<String, HostError> {
    fs::read_to_string(path)
        .map(|text| text.trim_end().to_owned())
        .map_err(|source| HostError::Read {
            path: path.to_owned(),
            source,
        })
}

fn page_size() -> Result<u64, HostError> {
    match nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE) {
        Ok(Some(size)) => Ok(u64::try_from(size).unwrap_or(0)),
        Ok(None) => Ok(0),
        Err(source) => Err(HostError::Call {
            call: "sysconf",
            source,
        }),
    }
}

const NOTES: &str = "/sys/kernel/notes";
const NT_GNU_BUILD_ID: u32 = 3;

fn build_id() -> Result<String, HostError> {
    let notes = fs::read(NOTES).map_err(|source| HostError::Read {
        path: NOTES.to_owned(),
        source,
    })?;
    find_build_id(&notes)
        .map(|id| hex(&id))
        .ok_or(HostError::Format {
            path: NOTES.to_owned(),
            what: "build id",
        })
}

/// Looks through ELF notes: name size, description size, type, then both padded to four bytes.
fn find_build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    while !notes.is_empty() {
        let word = |index: usize| -> Option<u32> {
            let bytes = notes.get(index * 4..index * 4 + 4)?;
            bytes.try_into().ok().map(u32::from_ne_bytes)
        };
        let (name, description) = (
            usize::try_from(word(0)?).ok()?,
            usize::try_from(word(1)?).ok()?,
        );
        let description_start = 12usize.checked_add(name.checked_next_multiple_of(4)?)?;
        let description_end = description_start.checked_add(description)?;
        if word(2)? == NT_GNU_BUILD_ID && notes.get(12..12usize.checked_add(name)?)? == b"GNU\0" {
            return notes
                .get(description_start..description_end)
                .map(<[u8]>::to_vec);
        }
        notes = notes.get(description_end.checked_next_multiple_of(4)?..)?;
    }
    None
}

fn vdso() -> Result<String, HostError> {
    let maps = read("/proc/self/maps")?;
    let Some((start, end)) = vdso_range(&maps) else {
        return Ok(String::new());
    };
    let path = "/proc/self/mem";
    let error = |source| HostError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
    File::open(path)
        .and_then(|file| file.read_exact_at(&mut bytes, start))
        .map_err(error)?;
    Ok(hex(&Sha256::digest(&bytes)))
}

fn vdso_range(maps: &str) -> Option<(u64, u64)> {
    let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
    let (start, end) = line.split_ascii_whitespace().next()?.split_once('-')?;
    let parse = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = (parse(start)?, parse(end)?);
    // Larger than any vdso by far.
    (start < end && end - start <= 1 << 20).then_some((start, end))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, description: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        note.extend((name.len() as u32).to_ne_bytes());
        note.extend((description.len() as u32).to_ne_bytes());
        note.extend(kind.to_ne_bytes());
        for part in [name, description] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn build_id_is_found_behind_other_notes() {
        let mut notes = note(b"Xen\0", 3, &[1; 5]);
        notes.extend(note(b"GNU\0", 1, &[2; 3]));
        notes.extend(note(b"GNU\0", 3, &[0xab; 20]));
        assert_eq!(
            find_build_id(&notes).as_deref(),
            Some([0xab; 20].as_slice())
        );
    }

    #[test]
    fn damaged_notes_have_no_build_id() {
        let whole = note(b"GNU\0", 3, &[0xab; 20]);
        for length in 0..whole.len() {
            assert_eq!(find_build_id(&whole[..length]), None, "{length}");
        }
        let mut huge = whole;
        huge[..8].fill(0xff);
        assert_eq!(find_build_id(&huge), None);
    }

    #[test]
    fn this_host_has_facts() {
        let facts = HostFacts::collect(None).expect("a Linux host");
        assert_eq!(facts.page_size, 4096);
        assert!(!facts.release.is_empty());
        assert!(facts.cpu.features.contains("sse2"));
        assert!(facts.clocks.boottime >= facts.clocks.monotonic);
        let bytes = facts.to_bytes().expect("serializable");
        assert_eq!(HostFacts::from_bytes(&bytes).expect("the same"), facts);
    }

    #[test]
    fn facts_of_other_versions_are_read() {
        let facts = HostFacts::from_bytes(br#"{"release": "7.3.4", "from_the_future": [1]}"#)
            .expect("readable");
        assert_eq!(facts.release, "7.3.4");
        assert_eq!(facts.abi, 0);
        assert!(HostFacts::from_bytes(b"{").is_err());
    }

    #[test]
    fn vdso_range_is_parsed() {
        let maps = "400000-401000 r-xp 0 00:00 0\n7ffff7fc1000-7ffff7fc3000 r-xp 00000000 00:00 0                          [vdso]\n";
        assert_eq!(vdso_range(maps), Some((0x7fff_f7fc_1000, 0x7fff_f7fc_3000)));
        assert_eq!(vdso_range("400000-401000 r-xp 0 00:00 0\n"), None);
    }
}
