// SPDX-License-Identifier: GPL-2.0
//! What stands against an image on this host.

use super::identity;
use super::identity::Difference;
use super::threads;
use super::Finding;
use super::Moment;
use crate::image::Image;
use crate::image::OpenFile;
use crate::image::Uses;
use crate::sys::file;
use crate::sys::process;
use pmig_core::obstacle::destination;
use pmig_core::obstacle::Obstacle;
use pmig_wire::file::open;
use pmig_wire::file::FileKind;
use pmig_wire::mm::vma;
use pmig_wire::mm::Vma;
use std::ffi::CString;
use std::fs;
use std::io;

/// Mappings that a process has besides those of the image while it is being built: code, shared memory, one in flight.
const OWN_MAPPINGS: usize = 4;
/// Memory that must be left over, bytes.
const RESERVE: u64 = 32 << 20;

/// Collects findings.
struct Report(Vec<Finding>);

impl Report {
    fn add(&mut self, obstacle: &'static Obstacle, object: String) {
        let message = obstacle.message(&object).to_string();
        self.0.push(Finding {
            code: obstacle.code,
            object,
            message,
        });
    }
}

/// A number from a file of procfs.
fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path)
        .ok()?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

/// See [`super::check`].
pub(super) fn check(image: &Image, moment: Moment, resident: u64) -> Vec<Finding> {
    let mut report = Report(Vec::new());
    host(image, resident, &mut report);
    numbers(image, moment, &mut report);
    let uses = image.uses();
    for of in image.files.iter().filter(|of| is_needed(image, &uses, of)) {
        path(image, &uses, of, moment, &mut report);
    }
    report.0
}

fn host(image: &Image, resident: u64, report: &mut Report) {
    if let Some(available) = available_memory() {
        if resident.saturating_add(RESERVE) > available {
            let (need, have) = (resident >> 20, available >> 20);
            let text = format!("{need} MiB needed, {have} MiB available");
            report.add(&destination::NOT_ENOUGH_MEMORY, text);
        }
    }
    if let Some(most) = number("/proc/sys/vm/max_map_count") {
        let count = image.vmas.len() + OWN_MAPPINGS;
        if count as u64 > most {
            report.add(
                &destination::MAPPING_LIMIT,
                format!("{count}, allowed are {most}"),
            );
        }
    }
    if let (Some(most), Some(last)) = (number("/proc/sys/fs/nr_open"), image.descriptors.last()) {
        // One above is needed while descriptors are placed.
        if u64::from(last.fd.get()).saturating_add(8) > most {
            report.add(&destination::DESCRIPTOR_LIMIT, last.fd.get().to_string());
        }
    }
    if let Some(most) = number("/proc/sys/kernel/threads-max") {
        let count = image.threads.len() as u64;
        if count > most {
            report.add(
                &destination::TASK_LIMIT,
                format!("{count}, allowed are {most}"),
            );
        }
    }
}

/// `MemAvailable`, bytes.
fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

fn numbers(image: &Image, moment: Moment, report: &mut Report) {
    let tids = || image.threads.iter().map(|one| one.tid());
    let most = number("/proc/sys/kernel/pid_max").unwrap_or(u64::MAX);
    if let Some(tid) = tids().find(|tid| u64::from(*tid) >= most) {
        report.add(&destination::PID_LIMIT, tid.to_string());
    } else if let Some(tid) = tids().find(|tid| threads::in_use(*tid)) {
        // The vessel is there when the process is frozen, and has the numbers itself.
        if moment == Moment::Running {
            report.add(&destination::PID_TAKEN, tid.to_string());
        }
    }
    cpus(image, report);
    let (_, bounding) = process::own_capabilities();
    for one in &image.threads {
        let Some(own) = &one.credentials else {
            continue;
        };
        let missing = own.credentials.permitted.get() & !bounding;
        if missing != 0 {
            report.add(
                &destination::CAPABILITY_MISSING,
                format!("capabilities {missing:#x}"),
            );
            return;
        }
    }
}

/// Whether threads find the CPUs here that they may run on.
fn cpus(image: &Image, report: &mut Report) {
    let Ok(here) = process::cpus(0) else { return };
    let placed = image
        .threads
        .iter()
        .filter_map(|one| Some((one.tid(), one.placement.as_ref()?)))
        .filter(|(_, own)| !own.cpus.is_empty());
    for (tid, own) in placed {
        let all = || own.cpus.iter().enumerate();
        let of = |index: usize| here.get(index).copied().unwrap_or(0);
        let (any, every) = (
            all().any(|(index, byte)| byte & of(index) != 0),
            all().all(|(index, byte)| byte & !of(index) == 0),
        );
        let text = format!("thread {tid}, CPUs {}", cpu_list(&own.cpus));
        if !any {
            report.add(&destination::CPU_MISSING, text);
            return;
        }
        if !every {
            report.add(&destination::CPU_FEWER, text);
            return;
        }
    }
}

/// Such as `0,2-5`.
fn cpu_list(set: &[u8]) -> String {
    let has = |cpu: usize| {
        set.get(cpu / 8)
            .is_some_and(|byte| byte >> (cpu % 8) & 1 != 0)
    };
    let mut parts = Vec::new();
    let mut cpu = 0;
    while cpu < set.len() * 8 {
        let start = cpu;
        while has(cpu) {
            cpu += 1;
        }
        match cpu - start {
            0 => cpu += 1,
            1 => parts.push(start.to_string()),
            _ => parts.push(format!("{start}-{}", cpu - 1)),
        }
    }
    parts.join(",")
}

/// Whether a file must be opened here: by a descriptor, a mapping, or as executable or directory.
fn is_needed(image: &Image, uses: &Uses<'_>, of: &OpenFile) -> bool {
    let process = &image.process;
    let named = [
        process.executable,
        process.working_directory,
        process.root_directory,
    ]
    .iter()
    .any(|id| id.get() == of.id());
    let opened = [
        FileKind::Regular,
        FileKind::Directory,
        FileKind::MemoryDevice,
    ]
    .contains(&of.kind());
    // What has no path is an obstacle of the source.
    opened && !of.path.is_empty() && !of.has(open::UNLINKED) && (named || uses.any(of.id()))
}

fn path(image: &Image, uses: &Uses<'_>, of: &OpenFile, moment: Moment, report: &mut Report) {
    let object = of.display();
    let Ok(path) = CString::new(of.path.clone()) else {
        return report.add(&destination::FILE_MISSING, object);
    };
    let status = match file::status_of_path(&path, !of.has(open::NOFOLLOW)) {
        Ok(status) => status,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return report.add(&destination::FILE_MISSING, object);
        }
        // A file server may trust the user of the process more than root; the vessel tries as both.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !is_root(image) => return,
        Err(error) => {
            return report.add(&destination::FILE_PERMISSION, format!("{object} ({error})"));
        }
    };
    match identity::compare(of, &status, moment) {
        Some(Difference::Kind(text)) => {
            return report.add(
                &destination::FILE_KIND_DIFFERS,
                format!("{object} ({text})"),
            );
        }
        Some(Difference::Content(text)) => {
            return report.add(&destination::FILE_DIFFERS, format!("{object} ({text})"));
        }
        None => {}
    }
    access(image, uses, of, &path, report);
    let descriptors = || !uses.descriptors(of.id()).is_empty();
    if of.kind() == FileKind::Regular && status.inode != of.file.inode.get() && descriptors() {
        report.add(&destination::INODE_CHANGES, object);
    }
}

/// Whether the process is root for file systems.
fn is_root(image: &Image) -> bool {
    let leader = image
        .threads
        .first()
        .and_then(|one| one.credentials.as_ref());
    leader.is_none_or(|own| own.credentials.fsuid.get() == 0)
}

/// What the mount or the file itself does not allow.
fn access(image: &Image, uses: &Uses<'_>, of: &OpenFile, path: &CString, report: &mut Report) {
    let executable = image.process.executable.get() == of.id();
    let exec = |one: &&Vma| one.flags.get() & vma::EXEC != 0;
    let mapped = || uses.vmas(of.id()).iter().any(exec);
    let file_system = file::mount_flags(path).unwrap_or_default();
    let object = of.display();
    if of.is_writable() && of.kind() != FileKind::MemoryDevice && file_system.read_only {
        report.add(
            &destination::FILE_PERMISSION,
            format!("{object} (mounted read-only)"),
        );
    } else if (executable || mapped()) && file_system.no_exec {
        report.add(
            &destination::FILE_PERMISSION,
            format!("{object} (mounted noexec)"),
        );
    } else if of.is_writable() && of.kind() == FileKind::Regular && file::is_busy(path) {
        report.add(&destination::FILE_BUSY, object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ThreadPlacement;
    use pmig_wire::thread::Placement;
    use pmig_wire::thread::MAX_CPU_SET;
    use zerocopy::FromZeros;

    #[test]
    fn threads_need_a_cpu_that_they_may_run_on() {
        let found = |cpus: &[u8]| {
            let mut image = Image::empty(5);
            image.threads[0].placement = Some(ThreadPlacement {
                placement: Placement::new_zeroed(),
                cpus: cpus.to_vec(),
            });
            let mut report = Report(Vec::new());
            super::cpus(&image, &mut report);
            report.0.first().map(|finding| finding.code)
        };
        let here = process::cpus(0).expect("own");
        let mut some = here.clone();
        some.resize(MAX_CPU_SET, 0);
        assert_eq!(found(&[]), None);
        assert_eq!(found(&some), None);
        some[MAX_CPU_SET - 1] |= 0x80;
        assert_eq!(found(&some), Some("cpu-fewer"));
        some[..here.len()].fill(0);
        assert_eq!(found(&some), Some("cpu-missing"));
    }

    #[test]
    fn sets_of_cpus_are_read_by_people() {
        assert_eq!(cpu_list(&[0b0011_1101, 0b1000_0000]), "0,2-5,15");
        assert_eq!(cpu_list(&[]), "");
    }
}
