/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Holds one thing that cannot be moved yet, kind=<name> as in the table at the end, and works on. `refused LOG list=1`
 * prints each kind with the code of the obstacle that must be named. If this kernel has no such thing, the log gets
 * SKIP <why> instead of READY.
 */
#include "check.h"
#include <grp.h>
#include <linux/aio_abi.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/landlock.h>
#include <linux/membarrier.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

static char *path;
static pid_t child;

__attribute__((noreturn)) static void skip(const char *what)
{
	check_log("SKIP %s: %s", what, strerror(errno));
	_exit(0);
}

/* What a call returned, unless this kernel refuses it. */
static long try(const char *what, long result)
{
	if (result < 0)
		skip(what);
	return result;
}

static void wait_forever(void)
{
	for (;;)
		pause();
}

static pid_t fork_child(void)
{
	pid_t pid = CHECK_CALL("fork", fork());

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		wait_forever();
	}
	return pid;
}

static void udp(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET };

	CHECK_CALL("bind", bind(CHECK_CALL("socket", socket(AF_INET, SOCK_DGRAM, 0)), (void *)&address, sizeof(address)));
}

static void tcp_listening(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	int fd = CHECK_CALL("socket", socket(AF_INET, SOCK_STREAM, 0));

	CHECK_CALL("bind", bind(fd, (void *)&address, sizeof(address)));
	CHECK_CALL("listen", listen(fd, 5));
}

static void unix_pair(void)
{
	int fds[2];

	CHECK_CALL("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
}

static void netlink_socket(void)
{
	CHECK_CALL("socket", socket(AF_NETLINK, SOCK_RAW, 0));
}

/* The set watches a file that is only on its way through a socket. */
static void epoll_target(void)
{
	int set = CHECK_CALL("epoll_create1", epoll_create1(0)), pair[2], fd = CHECK_CALL("eventfd", eventfd(0, 0));
	struct epoll_event event = { .events = EPOLLIN };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec byte = { "x", 1 };
	struct msghdr message = {
		.msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};

	CHECK_CALL("epoll_ctl", epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	CHECK_CALL("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	CHECK_CALL("sendmsg", sendmsg(pair[0], &message, 0));
	close(fd);
}

static void shared_eventfd(void)
{
	CHECK_CALL("eventfd", eventfd(3, 0));
	child = fork_child();
}

static void inotify(void)
{
	int fd = CHECK_CALL("inotify_init1", inotify_init1(0));

	CHECK_CALL("inotify_add_watch", inotify_add_watch(fd, "/tmp", IN_CREATE));
}

static void a_pidfd(void)
{
	CHECK_CALL("pidfd_open", (int)syscall(SYS_pidfd_open, 1, 0));
}

static void memfd(void)
{
	int fd = CHECK_CALL("memfd_create", memfd_create("a memory file", MFD_ALLOW_SEALING));

	CHECK_CALL("ftruncate", ftruncate(fd, 8192));
}

static void children(void)
{
	child = fork_child();
}

static void zombie(void)
{
	child = CHECK_CALL("fork", fork());
	if (!child)
		_exit(7);
	CHECK_CALL("waitid", waitid(P_PID, child, NULL, WEXITED | WNOWAIT));
}

static void shared_with_child(void)
{
	char *memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(memory != MAP_FAILED, "mmap: %s", strerror(errno));
	memory[0] = 1;
	child = fork_child();
}

static void shared_with_orphan(void)
{
	char *memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t between;

	CHECK(memory != MAP_FAILED, "mmap: %s", strerror(errno));
	memory[0] = 1;
	/* The grandchild is nobody's child, so the memory is the only thing that ties it to this process. */
	between = CHECK_CALL("fork", fork());
	if (!between) {
		pid_t me = check.pid;

		if (fork())
			_exit(0);
		while (!kill(me, 0))
			check_sleep(100);
		_exit(0);
	}
	waitpid(between, NULL, 0);
}

static void sysv_shm(void)
{
	int id = CHECK_CALL("shmget", shmget(IPC_PRIVATE, 65536, IPC_CREAT | 0600));
	void *start = shmat(id, NULL, 0);

	CHECK(start != (void *)-1, "shmat: %s", strerror(errno));
	CHECK_CALL("shmctl", shmctl(id, IPC_RMID, NULL));
}

static void sem_undo(void)
{
	int id = CHECK_CALL("semget", semget(IPC_PRIVATE, 1, IPC_CREAT | 0600));
	struct sembuf up = { 0, 1, SEM_UNDO };

	CHECK_CALL("semop", semop(id, &up, 1));
}

static void io_uring(void)
{
	struct io_uring_params parameters = { 0 };

	try("io_uring_setup", syscall(SYS_io_uring_setup, 4, &parameters));
}

static void aio(void)
{
	static aio_context_t context;

	try("io_setup", syscall(SYS_io_setup, 4, &context));
}

static void posix_timer(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_NONE };
	timer_t timer;

	CHECK_CALL("timer_create", timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer));
}

static void seccomp(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { 1, &allow };

	CHECK_CALL("PR_SET_NO_NEW_PRIVS", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	try("seccomp", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

static void landlock(void)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_BLOCK };
	int ruleset = syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

	try("landlock", ruleset);
	CHECK_CALL("PR_SET_NO_NEW_PRIVS", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK_CALL("landlock_restrict_self", syscall(SYS_landlock_restrict_self, ruleset, 0));
	close(ruleset);
}

static int open_own(const char *suffix, int flags)
{
	snprintf(path, PATH_MAX, "%s.%s", check.log, suffix);
	return CHECK_CALL("open", open(path, flags | O_CREAT, 0600));
}

static void deleted_file(void)
{
	int fd = open_own("deleted", O_RDWR);

	CHECK_EQUAL("write", write(fd, "text", 4), 4);
	CHECK_CALL("unlink", unlink(path));
}

static void lease(void)
{
	int fd = CHECK_CALL("open", open("/run/refused-lease", O_RDONLY | O_CREAT | O_CLOEXEC, 0600));

	CHECK_CALL("F_SETLEASE", fcntl(fd, F_SETLEASE, F_RDLCK));
}

static void shared_flock(void)
{
	CHECK_CALL("flock", flock(open_own("flock", O_RDWR | O_APPEND), LOCK_EX));
	child = fork_child();
}

static void terminal(void)
{
	int master = CHECK_CALL("open", open("/dev/ptmx", O_RDWR | O_NOCTTY));

	CHECK_CALL("unlockpt", unlockpt(master));
	CHECK_CALL("open", open(ptsname(master), O_RDWR | O_NOCTTY));
}

static void controlling_terminal(void)
{
	int master = CHECK_CALL("open", open("/dev/ptmx", O_RDWR | O_NOCTTY)), fd;

	signal(SIGHUP, SIG_IGN);
	CHECK_CALL("unlockpt", unlockpt(master));
	fd = CHECK_CALL("open", open(ptsname(master), O_RDWR));
	close(fd);
	CHECK_CALL("/dev/tty", open("/dev/tty", O_RDWR));
}

static void fifo(void)
{
	snprintf(path, PATH_MAX, "%s.fifo", check.log);
	unlink(path);
	CHECK_CALL("mkfifo", mkfifo(path, 0600));
	CHECK_CALL("open", open(path, O_RDWR));
}

static void pipe_outside(void)
{
	int ends[2];

	CHECK_CALL("pipe", pipe(ends));
	/* A process that is nobody's child holds the other end. */
	if (!CHECK_CALL("fork", fork())) {
		pid_t me = check.pid;

		close(ends[0]);
		if (fork())
			_exit(0);
		while (!kill(me, 0))
			check_sleep(100);
		_exit(0);
	}
	close(ends[1]);
	wait(NULL);
}

static void proc_file(void)
{
	CHECK_CALL("open", open("/proc/self/status", O_RDONLY));
}

static void path_only(void)
{
	CHECK_CALL("open", open("/tmp", O_PATH));
}

static void hugetlb(void)
{
	void *start = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE,
			   -1, 0);

	if (start == MAP_FAILED)
		skip("MAP_HUGETLB");
}

static void own_namespace(int flag)
{
	try("unshare", unshare(flag));
}

static void namespace_uts(void)
{
	own_namespace(CLONE_NEWUTS);
}

static void namespace_ipc(void)
{
	own_namespace(CLONE_NEWIPC);
}

static void namespace_net(void)
{
	own_namespace(CLONE_NEWNET);
}

static void namespace_mount(void)
{
	own_namespace(CLONE_NEWNS);
}

static void namespace_user(void)
{
	own_namespace(CLONE_NEWUSER);
}

static void namespace_children(void)
{
	own_namespace(CLONE_NEWPID);
}

static void *with_own(void *argument)
{
	CHECK_CALL("unshare", unshare((intptr_t)argument));
	wait_forever();
	return NULL;
}

static void thread_with_own(int flag)
{
	pthread_t id;

	CHECK_EQUAL("pthread_create", pthread_create(&id, NULL, with_own, (void *)(intptr_t)flag), 0);
	check_sleep(100);
}

static void thread_files(void)
{
	thread_with_own(CLONE_FILES);
}

static void thread_fs(void)
{
	thread_with_own(CLONE_FS);
}

static void protection_key(void)
{
	try("pkey_alloc", pkey_alloc(0, 0));
}

static void perf_event(void)
{
	struct perf_event_attr attribute = { .type = PERF_TYPE_SOFTWARE, .size = sizeof(attribute),
					     .config = PERF_COUNT_SW_CONTEXT_SWITCHES };

	try("perf_event_open", syscall(SYS_perf_event_open, &attribute, 0, -1, -1, 0));
}

static void subreaper(void)
{
	CHECK_CALL("PR_SET_CHILD_SUBREAPER", prctl(PR_SET_CHILD_SUBREAPER, 1));
}

static void message_queue(void)
{
	int id = try("mq_open", mq_open("/pmig-refused", O_RDWR | O_CREAT, 0600, NULL));

	(void)id;
	mq_unlink("/pmig-refused");
}

static void deadline(void)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attribute = { sizeof(attribute), SCHED_DEADLINE, 0, 0, 0, 20000000, 100000000, 100000000 };

	try("sched_setattr", syscall(SYS_sched_setattr, 0, &attribute, 0));
}

static char *some_memory(void)
{
	char *start = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(start != MAP_FAILED, "mmap: %s", strerror(errno));
	start[0] = 1;
	return start;
}

static void guard_region(void)
{
	try("MADV_GUARD_INSTALL", madvise(some_memory() + 4096, 4096, 102));
}

static void numa_policy(void)
{
	unsigned long nodes = 1;

	try("set_mempolicy", syscall(SYS_set_mempolicy, 2, &nodes, 64));
}

static void mapping_policy(void)
{
	unsigned long nodes = 1;

	try("mbind", syscall(SYS_mbind, some_memory(), 65536, 2, &nodes, 64, 0));
}

static void tracer(void)
{
	/* What it traces is no child of its own for long: it is traced, therefore this is the tracer. */
	child = fork_child();
	try("ptrace", syscall(SYS_ptrace, 0x4206, child, 0, 0)); /* PTRACE_SEIZE */
}

static void signal_driven(void)
{
	int ends[2];

	signal(SIGIO, SIG_IGN);
	CHECK_CALL("pipe", pipe(ends));
	CHECK_CALL("F_SETOWN", fcntl(ends[0], F_SETOWN, getpid()));
	CHECK_CALL("F_SETFL", fcntl(ends[0], F_SETFL, O_ASYNC));
}

static void keyring(void)
{
	try("add_key", syscall(SYS_add_key, "user", "pmig", "secret", 6ul, -2)); /* KEY_SPEC_PROCESS_KEYRING */
}

static const struct {
	const char *kind, *codes;
	void (*hold)(void);
} kinds[] = {
	/* The second column: codes of obstacles, any of which may be named. */
	{ "udp-socket", "socket", udp },
	{ "tcp-listening", "socket", tcp_listening },
	{ "unix-socket-pair", "socket", unix_pair },
	{ "netlink-socket", "socket", netlink_socket },
	{ "epoll-target", "epoll-target", epoll_target },
	{ "shared-eventfd", "event-descriptor-shared", shared_eventfd },
	{ "inotify", "inotify", inotify },
	{ "pidfd", "pidfd", a_pidfd },
	{ "memfd", "memfd", memfd },
	{ "children", "children", children },
	{ "zombie", "children", zombie },
	{ "shared-anonymous-with-child", "shared-anonymous-outside|children", shared_with_child },
	{ "shared-anonymous-with-outsider", "shared-anonymous-outside", shared_with_orphan },
	{ "sysv-shared-memory", "sysv-shared-memory", sysv_shm },
	{ "semaphore-undo", "semaphore-undo", sem_undo },
	{ "io-uring", "io-uring|io-uring-descriptor", io_uring },
	{ "aio", "aio", aio },
	{ "posix-timer", "posix-timer", posix_timer },
	{ "seccomp", "seccomp", seccomp },
	{ "landlock", "lsm-label", landlock },
	{ "deleted-file", "deleted-file", deleted_file },
	{ "lease", "file-lock", lease },
	{ "shared-flock", "file-lock", shared_flock },
	{ "terminal", "terminal", terminal },
	{ "controlling-terminal", "controlling-terminal", controlling_terminal },
	{ "fifo", "fifo", fifo },
	{ "pipe-outside", "pipe-outside", pipe_outside },
	{ "proc-file", "kernel-file", proc_file },
	{ "path-descriptor", "path-descriptor", path_only },
	{ "hugetlb", "hugetlb", hugetlb },
	{ "uts-namespace", "uts-namespace", namespace_uts },
	{ "ipc-namespace", "ipc-namespace", namespace_ipc },
	{ "network-namespace", "network-namespace", namespace_net },
	{ "mount-namespace", "mount-namespace", namespace_mount },
	{ "user-namespace", "user-namespace", namespace_user },
	{ "child-namespace", "child-namespace|pid-namespace", namespace_children },
	{ "files-of-one-thread", "files-shared", thread_files },
	{ "directory-of-one-thread", "fs-shared", thread_fs },
	{ "protection-key", "protection-keys", protection_key },
	{ "perf-event", "perf-events|perf-event-descriptor", perf_event },
	{ "subreaper", "subreaper", subreaper },
	{ "message-queue", "message-queue", message_queue },
	{ "deadline-class", "scheduling-class", deadline },
	{ "guard-region", "guard-region", guard_region },
	{ "numa-policy", "numa-policy", numa_policy },
	{ "mapping-numa-policy", "mapping-numa-policy", mapping_policy },
	{ "tracer", "tracer", tracer },
	{ "signal-driven-io", "signal-driven-io", signal_driven },
	{ "keyring", "keyrings", keyring },
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

int main(int argc, char **argv)
{
	static uint64_t memory[65536];
	unsigned long turns = 0;
	const char *kind;
	int which;

	if (argc > 2 && !strcmp(argv[2], "list=1")) {
		for (int i = 0; i < KINDS; i++)
			printf("%s %s\n", kinds[i].kind, kinds[i].codes);
		return 0;
	}
	path = malloc(PATH_MAX);
	check_begin(argc, argv, "refused");
	kind = check_option("kind", "");
	for (which = 0; which < KINDS && strcmp(kinds[which].kind, kind);)
		which++;
	CHECK(which < KINDS, "no kind %s", kind);
	check_fill(memory, sizeof(memory), 77);
	kinds[which].hold();
	check_ready();
	do {
		check_filled("memory", memory, sizeof(memory), 77);
		turns++;
	} while (!check_turn());
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	check_done(turns);
}
