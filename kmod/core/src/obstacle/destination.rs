// SPDX-License-Identifier: GPL-2.0
//! Obstacles on the destination, or between the two hosts.

use super::obstacles;

obstacles! {
    // Between the two hosts.
    ABI_VERSION, Refusal, Both, "O16", "abi-version",
        "pmig on the two hosts speaks different protocol versions: {object}",
        "install the same version of pmig on both";
    MODULE_VERSION, Refusal, Both, "O16", "module-version",
        "the two hosts have different versions of pmig.ko: {object}",
        "install the same version of pmig on both";
    KERNEL_RELEASE, Refusal, Both, "O16", "kernel-release",
        "the two hosts run different kernels: {object}",
        "boot both with the same kernel package";
    KERNEL_BUILD, Refusal, Both, "O16", "kernel-build",
        "the two hosts run different builds of one kernel release: {object}",
        "boot both with the same kernel package";
    VDSO, Refusal, Both, "O16", "vdso",
        "the kernels of the two hosts give programs different vdso code: {object}",
        "boot both with the same kernel package";
    PAGE_SIZE, Refusal, Both, "O16", "page-size",
        "the two hosts have different page sizes: {object}",
        "use hosts of one architecture";
    CPU_FEATURES, Refusal, Both, "O15", "cpu-features",
        "the destination's CPU lacks {object}",
        "move to a host with the same or a newer CPU";
    CPU_STATE, Refusal, Both, "O15", "cpu-state",
        "the CPUs of the two hosts save different register state: {object}",
        "move to a host with the same CPU state (XCR0)";
    CPU_VENDOR, Note, Both, "O15", "cpu-vendor",
        "the CPUs of the two hosts differ: {object}",
        "nothing to do: all features that programs can see are there";
    CLOCK_SKEW, Note, Both, "T7", "clock-skew",
        "the clocks of the two hosts differ by {object}: the process sees CLOCK_REALTIME jump",
        "run a time service (chrony, systemd-timesyncd) on both";

    // The destination as a host.
    HARVEST_MISSING, Refusal, Destination, "T5", "restart-unknown",
        "{object} has not yet learned how its kernel resumes system calls",
        "restart the agent there";
    TIME_NAMESPACE_UNAVAILABLE, Refusal, Destination, "T7", "time-namespace-unavailable",
        "{object} cannot make time namespaces, so the clocks of the process would jump",
        "boot a kernel with CONFIG_TIME_NS there";
    NOT_ENOUGH_MEMORY, Refusal, Destination, "O14", "not-enough-memory",
        "the destination has too little memory: {object}",
        "free memory there or choose another host";
    PID_TAKEN, Note, Destination, "T3", "pid-taken",
        "the destination already uses PID or TID {object}: the process gets a PID namespace to keep it",
        "nothing to do: the process sees its own numbers, ps on that host sees others";
    PID_LIMIT, Refusal, Destination, "T3", "pid-limit",
        "the PID or TID {object} is above the destination's kernel.pid_max",
        "raise kernel.pid_max there (sysctl)";
    TASK_LIMIT, Refusal, Destination, "T1", "task-limit",
        "the destination does not allow so many more threads: {object}",
        "raise pids.max of the agent's cgroup or kernel.threads-max there";
    CPU_MISSING, Refusal, Destination, "T16", "cpu-missing",
        "a thread may run only on CPUs that the destination does not have: {object}",
        "lift it with taskset -a -p ffffffff PID";
    CPU_FEWER, Note, Destination, "T16", "cpu-fewer",
        "the destination has only some of the CPUs that a thread may run on: {object}",
        "nothing to do unless the process counts on that number of CPUs";
    CAPABILITY_MISSING, Refusal, Destination, "T17", "capability-missing",
        "the destination's agent may not give the process {object}",
        "run the agent there as root with all capabilities, outside containers";
    MAPPING_LIMIT, Refusal, Destination, "M1", "mapping-limit",
        "the process has more mappings than the destination allows: {object}",
        "raise vm.max_map_count there (sysctl)";
    DESCRIPTOR_LIMIT, Refusal, Destination, "F1", "descriptor-limit",
        "descriptor {object} is above what the destination allows",
        "raise fs.nr_open there (sysctl)";
    LOW_ADDRESS, Refusal, Destination, "M1", "low-address",
        "{object} is below the destination's vm.mmap_min_addr",
        "lower vm.mmap_min_addr there (sysctl)";

    // Files on the destination.
    FILE_MISSING, Refusal, Destination, "F2", "file-missing",
        "{object} does not exist on the destination",
        "keep the file on a file system that both hosts mount, or copy it there";
    FILE_DIFFERS, Refusal, Destination, "F1", "file-differs",
        "{object} is a different file on the destination",
        "keep the file on a file system that both hosts mount, or copy it with cp -p or rsync -a";
    FILE_KIND_DIFFERS, Refusal, Destination, "F1", "file-kind-differs",
        "{object} is a file of another kind on the destination",
        "look at the path on both hosts";
    FILE_PERMISSION, Refusal, Destination, "F1", "file-permission",
        "{object} cannot be opened on the destination as the process has it open",
        "compare owner, mode and mount options (ro, noexec) of the file on both hosts";
    FILE_BUSY, Refusal, Destination, "F1", "file-busy",
        "{object} is a running program or open for writing on the destination",
        "wait until nobody uses it there";
    INODE_CHANGES, Note, Both, "F2", "inode-changes",
        "{object} has another inode number on the destination",
        "nothing to do unless the program compares inode numbers";

    // Between offer and commit.
    REFUSED_BY_PEER, Refusal, Destination, "O14", "refused-by-destination",
        "the destination refuses for a reason that this pmigctl does not know: {object}",
        "install the same version of pmig on both";
    NOTED_BY_PEER, Note, Destination, "O14", "noted-by-destination",
        "the destination notes something that this pmigctl does not know: {object}",
        "install the same version of pmig on both";
}
