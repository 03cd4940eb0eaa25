// SPDX-License-Identifier: GPL-2.0
//! What `/proc` says about a process: enough to choose processes, and to name those that are never moved.

use super::Found;
use pmig_core::obstacle::selection;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// The kernel's flag for its own threads (`PF_KTHREAD`), in the ninth field of `/proc/PID/stat`.
const PF_KTHREAD: u64 = 0x0020_0000;

/// One process of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Its PID.
    pub pid: u32,
    /// PID of the process that `pid` belongs to; differs from it for a thread.
    pub thread_group: u32,
    /// Its parent's PID.
    pub parent: u32,
    /// Its session.
    pub session: u32,
    /// Effective user.
    pub uid: u32,
    /// State letter, as `ps` shows it.
    pub state: char,
    /// Whether it is a thread of the kernel.
    pub kernel_thread: bool,
    /// Name.
    pub comm: String,
    /// Arguments, for people.
    pub command: String,
    /// Executable.
    pub executable: PathBuf,
    /// Path of its cgroup (version 2), or of its systemd cgroup (version 1).
    pub cgroup: String,
    /// Memory in use, bytes.
    pub resident: u64,
    /// PIDs from the innermost PID namespace, outermost first; more than one inside a container.
    pub namespace_pids: Vec<u32>,
}

impl ProcessFacts {
    /// The process `pid`, `None` if there is none.
    pub fn read(pid: u32) -> io::Result<Option<Self>> {
        Self::read_in(Path::new("/proc"), pid)
    }

    /// The same below another mount of `/proc`.
    fn read_in(proc: &Path, pid: u32) -> io::Result<Option<Self>> {
        let directory = proc.join(pid.to_string());
        let text = |name: &str| {
            fs::read(directory.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let (stat, status) = match text("stat").and_then(|stat| Ok((stat, text("status")?))) {
            Ok(texts) => texts,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut facts = Self {
            pid,
            ..Self::default()
        };
        if facts.parse_stat(&stat).is_none() || facts.parse_status(&status).is_none() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/{pid} is not understood"),
            ));
        }
        // The rest may vanish with the process, or be hidden from other users.
        facts.command = text("cmdline")
            .map(|line| command(&line))
            .unwrap_or_default();
        facts.executable = fs::read_link(directory.join("exe")).unwrap_or_default();
        facts.cgroup = text("cgroup").map(|text| cgroup(&text)).unwrap_or_default();
        Ok(Some(facts))
    }

    /// Every process of this host, in ascending order.
    pub fn all() -> io::Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = number(&entry?.file_name()) else {
                continue;
            };
            all.extend(Self::read(pid)?);
        }
        all.sort_by_key(|facts| facts.pid);
        Ok(all)
    }

    /// The fields after the name, which is in parentheses and may hold anything.
    fn parse_stat(&mut self, stat: &str) -> Option<()> {
        let (before, after) = stat.rsplit_once(')')?;
        self.comm = before.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        self.state = fields.first()?.chars().next()?;
        self.parent = fields.get(1)?.parse().ok()?;
        self.session = fields.get(3)?.parse().ok()?;
        let flags: u64 = fields.get(6)?.parse().ok()?;
        self.kernel_thread = flags & PF_KTHREAD != 0;
        Some(())
    }

    fn parse_status(&mut self, status: &str) -> Option<()> {
        let field = |name: &str| {
            status.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key == name).then_some(value.trim())
            })
        };
        self.thread_group = field("Tgid")?.parse().ok()?;
        self.uid = field("Uid")?
            .split_ascii_whitespace()
            .nth(1)?
            .parse()
            .ok()?;
        self.resident = field("VmRSS")
            .and_then(|value| value.strip_suffix("kB")?.trim().parse::<u64>().ok())
            .unwrap_or(0)
            .saturating_mul(1024);
        self.namespace_pids = field("NSpid")
            .unwrap_or_default()
            .split_ascii_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        Some(())
    }

    /// Whether the process is init of its PID namespace.
    pub fn is_init(&self) -> bool {
        self.pid == 1 || self.namespace_pids.last() == Some(&1)
    }

    /// Why this process is never moved, if so. `own` is the PID of pmig, `ancestors` are the processes that pmig runs
    /// below, and `executable` is pmig's own.
    pub fn protected(&self, own: &Own) -> Option<Found> {
        let obstacle = if self.thread_group != self.pid {
            return Some(Found::new(&selection::NOT_A_PROCESS, self.pid));
        } else if self.kernel_thread {
            &selection::KERNEL_THREAD
        } else if self.is_init() {
            &selection::INIT
        } else if own.line.contains(&self.pid)
            || (self.executable == own.executable && self.executable.is_absolute())
        {
            &selection::PMIG_ITSELF
        } else if matches!(self.state, 'Z' | 'X') {
            &selection::EXITING
        } else {
            return None;
        };
        Some(Found::process(obstacle))
    }
}

/// pmig itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// This process and those above it.
    pub line: Vec<u32>,
    /// The tool's executable: the agent has it as well.
    pub executable: PathBuf,
    /// Session of this process.
    pub session: u32,
}

impl Own {
    /// This process.
    pub fn read() -> io::Result<Self> {
        let mut line = Vec::new();
        let mut session = 0;
        let mut pid = std::process::id();
        while pid != 0 && !line.contains(&pid) {
            line.push(pid);
            let Some(facts) = ProcessFacts::read(pid)? else {
                break;
            };
            if line.len() == 1 {
                session = facts.session;
            }
            pid = facts.parent;
        }
        Ok(Self {
            line,
            executable: std::env::current_exe().unwrap_or_default(),
            session,
        })
    }
}

/// What a process that ended in the middle of reading looks like.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

fn number(name: &OsStr) -> Option<u32> {
    std::str::from_utf8(name.as_bytes()).ok()?.parse().ok()
}

fn command(line: &str) -> String {
    line.trim_end_matches('\0')
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

/// The line of the unified hierarchy, or that of systemd's own where there is none.
fn cgroup(text: &str) -> String {
    let path = |controller: &str| {
        text.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            (parts.next()? == controller).then(|| parts.next().unwrap_or_default().to_owned())
        })
    };
    path("")
        .or_else(|| path("name=systemd"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(stat: &str, status: &str) -> Option<ProcessFacts> {
        let directory = tempfile::tempdir().expect("a directory");
        let own = directory.path().join("7");
        fs::create_dir(&own).expect("a directory");
        fs::write(own.join("stat"), stat).expect("a file");
        fs::write(own.join("status"), status).expect("a file");
        fs::write(own.join("cmdline"), "a\0b c\0").expect("a file");
        fs::write(
            own.join("cgroup"),
            "1:name=systemd:/old\n0::/system.slice/x.service\n",
        )
        .expect("a file");
        ProcessFacts::read_in(directory.path(), 7).ok().flatten()
    }

    const STATUS: &str = "Name:\tx\nTgid:\t7\nUid:\t1\t1000\t1\t1\nVmRSS:\t  8 kB\nNSpid:\t7\n";

    #[test]
    fn a_name_with_parentheses_is_no_trick() {
        let facts = process("7 (a) R 1 (b) S 3 4 5 0 -1 2097152 0", STATUS).expect("a process");
        assert_eq!(facts.comm, "a) R 1 (b");
        assert_eq!((facts.state, facts.parent, facts.session), ('S', 3, 5));
        assert!(facts.kernel_thread);
        assert_eq!((facts.uid, facts.resident), (1000, 8192));
        assert_eq!(facts.command, "a b c");
        assert_eq!(facts.cgroup, "/system.slice/x.service");
    }

    #[test]
    fn nonsense_is_no_process() {
        assert_eq!(process("7 x", STATUS), None);
        assert_eq!(process("7 (x) S 1 2 3 4 5 6 7", "Name: x\n"), None);
    }

    #[test]
    fn this_process_is_pmig() {
        let own = Own::read().expect("a process");
        assert_eq!(own.line.first(), Some(&std::process::id()));
        let facts = ProcessFacts::read(std::process::id())
            .expect("readable")
            .expect("alive");
        let found = facts.protected(&own).expect("protected");
        assert_eq!(found.obstacle.code, "pmig-itself");
        assert!(ProcessFacts::all().expect("readable").contains(&facts) || facts.resident > 0);
    }

    #[test]
    fn what_is_never_moved_is_named() {
        let own = Own {
            line: vec![50, 40],
            executable: "/usr/bin/pmigctl".into(),
            session: 40,
        };
        let user = ProcessFacts {
            pid: 60,
            thread_group: 60,
            state: 'S',
            ..ProcessFacts::default()
        };
        let code = |facts: ProcessFacts| facts.protected(&own).map(|found| found.obstacle.code);
        assert_eq!(code(user.clone()), None);
        assert_eq!(
            code(ProcessFacts {
                thread_group: 59,
                ..user.clone()
            }),
            Some("not-a-process")
        );
        assert_eq!(
            code(ProcessFacts {
                kernel_thread: true,
                ..user.clone()
            }),
            Some("kernel-thread")
        );
        assert_eq!(
            code(ProcessFacts {
                pid: 1,
                thread_group: 1,
                ..user.clone()
            }),
            Some("init-process")
        );
        assert_eq!(
            code(ProcessFacts {
                namespace_pids: vec![60, 1],
                ..user.clone()
            }),
            Some("init-process")
        );
        assert_eq!(
            code(ProcessFacts {
                pid: 40,
                thread_group: 40,
                ..user.clone()
            }),
            Some("pmig-itself")
        );
        let agent = ProcessFacts {
            executable: "/usr/bin/pmigctl".into(),
            ..user.clone()
        };
        assert_eq!(code(agent), Some("pmig-itself"));
        assert_eq!(code(ProcessFacts { state: 'Z', ..user }), Some("exiting"));
    }
}
