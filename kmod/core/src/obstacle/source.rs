// SPDX-License-Identifier: GPL-2.0
//! Obstacles in the process itself: what it owns and pmig cannot move yet, and what it could notice.

use super::obstacles;

obstacles! {
    // Relations to other tasks.
    CHILDREN, Refusal, Source, "T2", "children",
        "{object} has children, alive or not yet waited for",
        "process trees cannot be moved yet; wait until the children are gone";
    TRACED, Refusal, Source, "T14", "traced",
        "{object} is traced by a debugger",
        "detach the debugger or strace";
    TRACER, Refusal, Source, "T14", "tracer",
        "{object} traces another process",
        "let it detach from what it traces";
    MEMORY_SHARED, Refusal, Source, "T2", "memory-shared",
        "{object} shares its memory with another process",
        "the other was made by clone(CLONE_VM) or vfork; wait until it executes a program or ends";
    FILES_SHARED, Refusal, Source, "T2", "files-shared",
        "{object} shares its descriptor table with another process, or its threads have separate ones",
        "such tables cannot be rebuilt yet";
    FS_SHARED, Refusal, Source, "T2", "fs-shared",
        "{object} shares its working directory with another process, or its threads have separate ones",
        "such directories cannot be rebuilt yet";
    SIGHAND_SHARED, Refusal, Source, "T2", "signal-handlers-shared",
        "{object} shares its signal handlers with another process",
        "such handlers cannot be rebuilt yet";
    VFORK_PARENT, Refusal, Source, "T2", "vfork-parent",
        "{object} waits for a child made by vfork",
        "try again once the child has executed a program";
    VFORK_CHILD, Refusal, Source, "T2", "vfork-child",
        "{object} was made by vfork and has not yet executed a program",
        "try again in a moment";
    ODD_PARENT, Refusal, Source, "T2", "odd-parent",
        "{object} was made with CLONE_PARENT or a per-thread exit signal",
        "such a relation to the parent cannot be rebuilt yet";
    LEADER_EXITED, Refusal, Source, "T1", "leader-exited",
        "the first thread of {object} has ended while others run",
        "such a process cannot be rebuilt yet";
    SUBREAPER, Refusal, Source, "T2", "subreaper",
        "{object} is a child subreaper",
        "service managers and the like stay with their children";
    PARENT_CHANGES, Note, Source, "P2", "parent-changes",
        "the parent of {object} stays here: it sees its child end, and the process gets another parent",
        "nothing to do unless the parent relies on wait() or the process on getppid()";
    GROUP_CHANGES, Note, Source, "T2", "group-changes",
        "{object} leaves its process group, whose leader stays here",
        "nothing to do unless it signals its group";
    SESSION_CHANGES, Note, Source, "T2", "session-changes",
        "{object} leaves its session, whose leader stays here",
        "nothing to do unless it relies on getsid()";
    CGROUP_CHANGES, Note, Source, "T20", "cgroup-changes",
        "{object} leaves its cgroup and that cgroup's limits",
        "set limits on the destination's agent if they are needed there";
    CPU_TIME_RESTARTS, Note, Source, "T8", "cpu-time-restarts",
        "start time and CPU time of {object} begin anew",
        "nothing to do unless it measures itself by getrusage() or its CPU clocks";
    TERMINAL, Refusal, Source, "F16", "controlling-terminal",
        "{object} has a controlling terminal",
        "start it with setsid, or as a service";

    // Threads.
    SECCOMP, Refusal, Source, "T18", "seccomp",
        "{object} is restricted by seccomp",
        "seccomp filters cannot be rebuilt yet; start it without SystemCallFilter= or a sandbox";
    COMPAT, Refusal, Source, "T1", "32-bit",
        "{object} runs 32-bit or x32 code",
        "only 64-bit programs can be moved";
    LSM_LABEL, Refusal, Source, "T17", "lsm-label",
        "{object} is confined by a security module (AppArmor, SELinux, Landlock …), or otherwise than pmig itself",
        "start it unconfined";
    KEYRINGS, Refusal, Source, "T17", "keyrings",
        "{object} holds keys in a keyring of its own",
        "keys cannot be moved yet; revoke them with keyctl, or start it with KeyringMode=inherit";
    SESSION_KEYRING, Note, Source, "T17", "session-keyring",
        "the session keyring of {object} stays here",
        "nothing to do unless it uses keys of its login session (Kerberos, encrypted directories)";
    SCHED_SPECIAL, Refusal, Source, "T15", "scheduling-class",
        "{object} uses the deadline or an extensible scheduling class",
        "give it a normal or real-time policy with chrt";
    NUMA_POLICY, Refusal, Source, "M9", "numa-policy",
        "{object} has a NUMA memory policy",
        "start it without numactl";
    UNKNOWN_RESTART, Refusal, Source, "T5", "unknown-restart",
        "{object} waits in a system call that cannot be resumed elsewhere",
        "try again when it does something else";
    IO_URING, Refusal, Source, "F19", "io-uring",
        "{object} uses io_uring",
        "switch io_uring off in the program";
    AIO, Refusal, Source, "F19", "aio",
        "{object} uses asynchronous I/O (io_setup)",
        "switch asynchronous I/O off in the program";
    POSIX_TIMER, Refusal, Source, "T6", "posix-timer",
        "{object} has a POSIX timer that measures CPU time, or that wakes the host up",
        "such timers cannot be rebuilt yet";
    PERF_EVENTS, Refusal, Source, "F15", "perf-events",
        "{object} is measured by performance events",
        "stop perf";
    UPROBES, Refusal, Source, "T14", "uprobes",
        "{object} is watched by uprobes",
        "remove the probes (perf probe -d, bpftrace)";
    SEM_UNDO, Refusal, Source, "M5", "semaphore-undo",
        "{object} has changes to undo on System V semaphores (SEM_UNDO)",
        "System V objects cannot be moved yet";
    UNKNOWN_FACT, Refusal, Source, "O14", "unknown-fact",
        "the module reports a property of {object} that this pmigctl does not know",
        "use a pmigctl and a pmig.ko of the same version";
    UNKNOWN_RECORD, Refusal, Source, "O14", "unknown-record",
        "the module reports {object} in a form that this pmigctl does not know",
        "use a pmigctl and a pmig.ko of the same version";
    NO_CAPTURE, Refusal, Source, "O14", "incomplete-records",
        "the description of {object} is incomplete",
        "use a pmigctl and a pmig.ko of the same version; see the kernel log";

    // Processor state.
    LDT, Refusal, Source, "T9", "local-descriptor-table",
        "{object} has a local descriptor table (modify_ldt)",
        "wine and dosemu do this; it cannot be rebuilt yet";
    IO_PORTS, Refusal, Source, "T9", "io-ports",
        "{object} has access to I/O ports",
        "a program that drives hardware belongs to its host";
    BREAKPOINT, Refusal, Source, "T14", "hardware-breakpoint",
        "{object} has a hardware breakpoint",
        "detach the debugger";
    SHADOW_STACK, Refusal, Source, "T11", "shadow-stack",
        "{object} has a user-mode shadow stack",
        "start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off";
    AMX, Refusal, Source, "T10", "amx",
        "{object} may use AMX tiles",
        "AMX state cannot be rebuilt yet; switch AMX off in the program";
    SYSCALL_DISPATCH, Refusal, Source, "T18", "syscall-user-dispatch",
        "{object} intercepts its own system calls",
        "wine does this; it cannot be rebuilt yet";
    TLS_SEGMENTS, Refusal, Source, "T9", "tls-segments",
        "{object} has thread-local storage in the GDT (set_thread_area)",
        "only 32-bit code and wine do this; it cannot be rebuilt yet";
    CPU_SETTINGS, Refusal, Source, "T9", "cpu-settings",
        "{object} has changed TSC, CPUID or speculation settings for itself",
        "such settings cannot be rebuilt yet";

    // Memory.
    PROTECTION_KEYS, Refusal, Source, "M9", "protection-keys",
        "{object} uses memory protection keys",
        "protection keys cannot be rebuilt yet";
    USERFAULTFD, Refusal, Source, "F13", "userfaultfd",
        "{object} handles page faults by userfaultfd",
        "it cannot be rebuilt yet";
    UNKNOWN_MAPPING, Refusal, Source, "M1", "unknown-mapping",
        "{object} has memory of a kind that pmig does not know",
        "nothing can be done but to tell the developers which program it is";
    UNKNOWN_MAPPING_FLAG, Refusal, Source, "O14", "unknown-mapping-flag",
        "the module reports a property of {object} that this pmigctl does not know",
        "use a pmigctl and a pmig.ko of the same version";
    HUGETLB, Refusal, Source, "M7", "hugetlb",
        "{object} is hugetlb memory",
        "start the program without explicit huge pages (transparent ones can be moved)";
    DEVICE_MEMORY, Refusal, Source, "M1", "device-memory",
        "{object} is device memory or secret memory",
        "a program that drives hardware belongs to its host";
    MAPPING_USERFAULTFD, Refusal, Source, "F13", "mapping-userfaultfd",
        "{object} is watched by userfaultfd",
        "it cannot be rebuilt yet";
    MAPPING_POLICY, Refusal, Source, "M9", "mapping-numa-policy",
        "{object} has a NUMA policy",
        "start the program without mbind";
    MAPPING_PROTECTION_KEY, Refusal, Source, "M9", "mapping-protection-key",
        "{object} has a protection key",
        "protection keys cannot be rebuilt yet";
    MAPPING_SHADOW_STACK, Refusal, Source, "T11", "mapping-shadow-stack",
        "{object} is a shadow stack",
        "start the program with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off";
    MAPPING_SYNC, Refusal, Source, "M3", "mapping-sync",
        "{object} is persistent memory mapped with MAP_SYNC",
        "persistent memory belongs to its host";
    MAPPING_SHARED, Refusal, Source, "M4", "shared-anonymous-outside",
        "{object} is shared with another process",
        "memory shared between processes cannot be moved yet";
    MAPPING_SYSV, Refusal, Source, "M5", "sysv-shared-memory",
        "{object} is a System V shared memory segment",
        "System V objects cannot be moved yet";
    MAPPING_GUARD, Refusal, Source, "M9", "guard-region",
        "{object} holds guard regions (MADV_GUARD_INSTALL)",
        "guard regions cannot be rebuilt yet";

    // Descriptors and files, by kind.
    FIFO, Refusal, Source, "F4", "fifo",
        "{object} is a named pipe",
        "named pipes cannot be moved yet";
    TERMINAL_FILE, Refusal, Source, "F16", "terminal",
        "{object} is a terminal",
        "start the program with its input and output redirected to files";
    CHAR_DEVICE, Refusal, Source, "F1", "character-device",
        "{object} is a device",
        "a program that drives hardware belongs to its host";
    BLOCK_DEVICE, Refusal, Source, "F1", "block-device",
        "{object} is a block device",
        "a program that uses a disk directly belongs to its host";
    SOCKET, Refusal, Source, "F6", "socket",
        "{object} is a socket",
        "sockets cannot be moved yet; let the program close its connections";
    EVENTS_SHARED, Refusal, Source, "F13", "event-descriptor-shared",
        "{object} is an epoll set, an eventfd, a signalfd or a timerfd that another process also holds",
        "let one of the two close it; a program that starts others should open such descriptors with CLOEXEC";
    EPOLL_TARGET, Refusal, Source, "F13", "epoll-target",
        "{object} is an epoll set that watches a file of which the process has no descriptor any more",
        "let the program take files out of the set before it closes them";
    INOTIFY, Refusal, Source, "F13", "inotify",
        "{object} watches files by inotify",
        "file watches cannot be moved yet";
    FANOTIFY, Refusal, Source, "F15", "fanotify",
        "{object} watches files by fanotify",
        "file watches cannot be moved yet";
    USERFAULTFD_FILE, Refusal, Source, "F13", "userfaultfd-descriptor",
        "{object} is a userfaultfd",
        "it cannot be rebuilt yet";
    IO_URING_FILE, Refusal, Source, "F19", "io-uring-descriptor",
        "{object} is an io_uring",
        "switch io_uring off in the program";
    PIDFD, Refusal, Source, "F14", "pidfd",
        "{object} is a pidfd: a handle on another process",
        "pidfds cannot be moved yet";
    PERF_EVENT_FILE, Refusal, Source, "F15", "perf-event-descriptor",
        "{object} is a performance event",
        "performance is measured on one host";
    BPF, Refusal, Source, "F15", "bpf",
        "{object} is a BPF program, map or link",
        "BPF objects belong to their kernel";
    MEMFD, Refusal, Source, "M6", "memfd",
        "{object} is a memory file without a name (memfd)",
        "memory files cannot be moved yet";
    KERNEL_FILE, Refusal, Source, "F1", "kernel-file",
        "{object} is a file that the kernel makes up (procfs, sysfs, cgroupfs …)",
        "let the program close it, or try again";
    MESSAGE_QUEUE, Refusal, Source, "F18", "message-queue",
        "{object} is a POSIX message queue",
        "message queues cannot be moved yet";
    PATH_FILE, Refusal, Source, "F1", "path-descriptor",
        "{object} was opened with O_PATH",
        "such descriptors cannot be moved yet";
    OTHER_FILE, Refusal, Source, "F1", "other-file",
        "{object} is a file of a kind that cannot be moved",
        "let the program close it";
    UNKNOWN_FILE_KIND, Refusal, Source, "O14", "unknown-file-kind",
        "{object} is of a kind that this pmigctl does not know",
        "use a pmigctl and a pmig.ko of the same version";
    UNKNOWN_FILE_FLAG, Refusal, Source, "O14", "unknown-file-flag",
        "the module reports a property of {object} that this pmigctl does not know",
        "use a pmigctl and a pmig.ko of the same version";

    // Descriptors and files, by state.
    UNLINKED, Refusal, Source, "F3", "deleted-file",
        "{object} was deleted, replaced, or is hidden by a mount",
        "deleted files cannot be moved yet; after an upgrade of its package, restart the program";
    UNNAMED, Refusal, Source, "F3", "unnamed-file",
        "{object} was opened with O_TMPFILE",
        "files without a name cannot be moved yet";
    FILE_OWNER, Refusal, Source, "F1", "signal-driven-io",
        "{object} sends a signal when it is ready (F_SETOWN, O_ASYNC)",
        "signal-driven input and output cannot be moved yet";
    FILE_LOCK, Refusal, Source, "F17", "file-lock",
        "{object} holds a lease, or a lock that another process or a mapping also holds",
        "try again when the program has released it";
    FILE_LOCK_LEAVES, Note, Source, "F17", "file-lock-leaves",
        "the locks of {object} are held on the destination from then on",
        "nothing to do unless processes that stay here count on them: only some network file systems tell other hosts";
    NO_PATH, Refusal, Source, "F1", "path-too-long",
        "the path of {object} is longer than the kernel's limit",
        "use shorter directory names";
    PIPE_OUTSIDE, Refusal, Source, "F5", "pipe-outside",
        "{object} is a pipe whose other end, or this one, another process also holds",
        "redirect the program's input and output to files instead of a pipeline";
    DESCRIPTION_SHARED, Refusal, Source, "F1", "file-position-shared",
        "{object} shares its file position with another process",
        "let each program open the file itself, or write with >>";
    DESCRIPTION_PARTED, Note, Source, "F1", "file-description-parted",
        "{object} is shared with another process, and is no longer afterwards",
        "nothing to do: its position matters to neither";

    // Namespaces.
    MOUNT_NAMESPACE, Refusal, Source, "T19", "mount-namespace",
        "{object} has mounts of its own",
        "containers, and services with PrivateTmp= and the like, cannot be moved yet";
    UTS_NAMESPACE, Refusal, Source, "T19", "uts-namespace",
        "{object} has a host name of its own",
        "containers cannot be moved yet";
    IPC_NAMESPACE, Refusal, Source, "T19", "ipc-namespace",
        "{object} has System V IPC of its own",
        "containers cannot be moved yet";
    NETWORK_NAMESPACE, Refusal, Source, "T19", "network-namespace",
        "{object} has a network of its own",
        "containers, and services with PrivateNetwork=, cannot be moved yet";
    PID_NAMESPACE, Refusal, Source, "T19", "pid-namespace",
        "{object} is in a PID namespace",
        "containers cannot be moved yet";
    USER_NAMESPACE, Refusal, Source, "T19", "user-namespace",
        "{object} is in a user namespace",
        "rootless containers and sandboxes cannot be moved yet";
    CGROUP_NAMESPACE, Refusal, Source, "T19", "cgroup-namespace",
        "{object} is in a cgroup namespace",
        "containers cannot be moved yet";
    TIME_NAMESPACE, Refusal, Source, "T19", "time-namespace",
        "{object} is in a time namespace that pmig did not make",
        "start it without unshare --time";
    CHILD_NAMESPACE, Refusal, Source, "T19", "child-namespace",
        "children of {object} will be in another namespace than it is (unshare, setns)",
        "such a process cannot be moved yet";
}
