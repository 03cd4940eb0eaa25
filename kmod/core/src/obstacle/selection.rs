// SPDX-License-Identifier: GPL-2.0
//! Obstacles that a process is never chosen with, whatever it owns.

use super::obstacles;

obstacles! {
    NO_SUCH_PROCESS, Refusal, Source, "O1", "no-such-process",
        "{object} does not exist",
        "look the PID up again; the process may have ended";
    NOT_A_PROCESS, Refusal, Source, "T1", "not-a-process",
        "{object} is a thread, not a process",
        "give the PID of the process it belongs to (Tgid in /proc/PID/status)";
    KERNEL_THREAD, Refusal, Source, "O1", "kernel-thread",
        "{object} is a thread of the kernel",
        "kernel threads belong to their host and are never moved";
    INIT, Refusal, Source, "O1", "init-process",
        "{object} is the init process of its PID namespace",
        "move the processes below it instead";
    PMIG_ITSELF, Refusal, Source, "O1", "pmig-itself",
        "{object} is pmig, or pmig runs below it",
        "run pmigctl from another shell than the one to be moved";
    EXITING, Refusal, Source, "O1", "exiting",
        "{object} is exiting, dumping core, or a zombie",
        "nothing is left to move";
    IN_SESSION, Refusal, Source, "O1", "in-session",
        "{object} is already part of a migration",
        "see pmigctl status";
    SAME_HOST, Refusal, Both, "O1", "same-host",
        "source and destination are the same host",
        "name another host";
}
