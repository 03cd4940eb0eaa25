/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Freezes and describes processes with threads=<n> (default 20) threads through the module, rounds=<n> times, while
 * something happens to them at a random moment: they are killed, killed while they are stopped, exit, run another program,
 * make threads and let them end all the time, or get signals. seed=<n> repeats a run.
 *
 * Every request is answered within hang=<seconds> (default 30), each process ends when it is killed, and no session is
 * left. How often which request succeeded is noted; in 100 rounds and more each must have failed and succeeded.
 */
#include "netlink.h"
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

enum happening { KILLED, KILLED_STOPPED, EXITS, EXECUTES, CHURNS, SIGNALLED, HAPPENINGS };

static unsigned long succeeded[COMMANDS + 1], failed[COMMANDS + 1];
static int hang;
/* How long a round takes that nothing happens in, microseconds. */
static int64_t usual;

static void sleep_microseconds(uint64_t microseconds)
{
	struct timespec t = { microseconds / 1000000, microseconds % 1000000 * 1000 };

	nanosleep(&t, NULL);
}

static void *wait_for_ever(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static void *end_at_once(void *unused)
{
	return unused;
}

static void *make_threads(void *unused)
{
	for (;;) {
		pthread_t thread;

		if (!pthread_create(&thread, NULL, end_at_once, NULL))
			pthread_join(thread, NULL);
	}
	return unused;
}

/* What the process does to itself, from a thread that is not its first. */
struct own {
	enum happening what;
	uint64_t delay;
};

static void *do_it(void *argument)
{
	const struct own *own = argument;
	char *const again[] = { "ends_frozen", "sleep", NULL };

	sleep_microseconds(own->delay);
	if (own->what == EXITS)
		_exit(0);
	execv("/proc/self/exe", again);
	_exit(1);
}

/* The process that is frozen. It says on `ready` that all its threads are there. */
static void victim(int threads, struct own own, int ready)
{
	pthread_t thread;

	close(netlink); /* a session lives as long as anyone holds its socket */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGUSR1, SIG_DFL);
	for (int i = 1; i < threads; i++)
		CHECK_EQUAL("pthread_create", pthread_create(&thread, NULL, wait_for_ever, NULL), 0);
	if (own.what == CHURNS)
		CHECK_EQUAL("pthread_create", pthread_create(&thread, NULL, make_threads, NULL), 0);
	if (own.what == EXITS || own.what == EXECUTES)
		CHECK_EQUAL("pthread_create", pthread_create(&thread, NULL, do_it, &own), 0);
	if (write(ready, "r", 1) != 1)
		_exit(1);
	wait_for_ever(NULL);
}

/* Sends the request and waits until it is done. Returns 0 or an errno; *number gets an attribute of four bytes. */
static int ask(uint16_t type, uint32_t *number)
{
	static uint8_t bytes[1 << 18];
	uint8_t command = message.generic.cmd;

	CHECK_CALL("send", send(netlink, &message, message.header.nlmsg_len, 0));
	for (;;) {
		struct pollfd ready = { .fd = netlink, .events = POLLIN };
		const struct nlmsghdr *header = (const void *)bytes;
		ssize_t length;

		CHECK(poll(&ready, 1, hang * 1000) == 1, "request %d is not answered", command);
		length = CHECK_CALL("recv", recv(netlink, bytes, sizeof(bytes), 0));
		for (; NLMSG_OK(header, (size_t)length); header = NLMSG_NEXT(header, length)) {
			size_t size;
			const void *content;

			if (header->nlmsg_seq != sequence)
				continue;
			if (header->nlmsg_type == NLMSG_ERROR || header->nlmsg_type == NLMSG_DONE) {
				int error = -*(const int *)NLMSG_DATA(header);

				++*(error ? &failed[command] : &succeeded[command]);
				return error;
			}
			content = attribute(header, type, &size);
			if (content && size == sizeof(*number))
				memcpy(number, content, sizeof(*number));
		}
	}
}

static int ask_about(uint8_t command, uint16_t flags, uint32_t session, uint32_t pid)
{
	const uint32_t deadline = 2000;

	begin(family, command, flags);
	put(SESSION, &session, sizeof(session));
	if (pid)
		put(PID, &pid, sizeof(pid));
	if (command == FREEZE)
		put(DEADLINE, &deadline, sizeof(deadline));
	return ask(0, NULL);
}

/* Freezes and describes the process, more than once, and lets it go in one way or another. */
static void move(uint32_t pid)
{
	uint32_t session = 0;

	begin(family, SURVEY, NLM_F_DUMP);
	put(PID, &pid, sizeof(pid));
	ask(0, NULL);
	begin(family, SESSION_NEW, NLM_F_ACK);
	put(ROLE, "\1", 1);
	put(MIGRATION, "0123456789abcdef", 16);
	CHECK_EQUAL("SESSION_NEW", ask(SESSION, &session), 0);
	ask_about(FREEZE, NLM_F_ACK, session, pid);
	for (int i = 0; i < 3; i++)
		ask_about(CAPTURE, NLM_F_DUMP, session, pid);
	switch (dice(4)) {
	case 0:
		close(netlink);
		open_netlink();
		return;
	case 1:
		ask_about(THAW, NLM_F_ACK, session, 0);
		break;
	default:
		if (!ask_about(COMMIT, NLM_F_ACK, session, 0))
			CHECK_EQUAL("KILL", ask_about(KILL, NLM_F_ACK, session, 0), 0);
	}
	ask_about(SESSION_END, NLM_F_ACK, session, 0);
}

struct outside {
	enum happening what;
	pid_t pid;
	uint64_t delay;
};

/* What others do to the process, who also see its end. */
static void *happen(void *argument)
{
	const struct outside *outside = argument;
	int status;

	sleep_microseconds(outside->delay);
	if (outside->what == KILLED || outside->what == KILLED_STOPPED)
		kill(outside->pid, SIGKILL);
	else if (outside->what == SIGNALLED)
		kill(outside->pid, SIGUSR1);
	else
		return NULL;
	while (waitpid(outside->pid, &status, 0) < 0)
		CHECK(errno == EINTR || errno == ECHILD, "waitpid: %s", strerror(errno));
	return NULL;
}

static void one(int threads, enum happening what)
{
	int ready[2], status;
	uint64_t delay = dice(usual + usual / 4 + 1);
	struct outside outside = { what, 0, delay };
	pthread_t thread;
	char byte;

	CHECK_CALL("pipe", pipe2(ready, O_CLOEXEC));
	outside.pid = CHECK_CALL("fork", fork());
	if (!outside.pid)
		victim(threads, (struct own){ what, delay }, ready[1]);
	CHECK_EQUAL("read", read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	if (what == KILLED_STOPPED) {
		kill(outside.pid, SIGSTOP);
		CHECK_CALL("waitpid", waitpid(outside.pid, &status, WUNTRACED));
	}
	CHECK_EQUAL("pthread_create", pthread_create(&thread, NULL, happen, &outside), 0);
	move(outside.pid);
	if (what >= EXITS && what != SIGNALLED) {
		kill(outside.pid, SIGKILL);
		CHECK_CALL("waitpid", waitpid(outside.pid, &status, 0));
	}
	pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
	unsigned long rounds;
	uint32_t left = 0;
	int threads;

	if (argc == 2 && !strcmp(argv[1], "sleep")) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		wait_for_ever(NULL);
	}
	check_begin(argc, argv, "ends_frozen");
	rounds = check_number("rounds", 1000);
	threads = check_number("threads", 20);
	hang = check_number("hang", 30);
	state = check_number("seed", 1) * 2654435761u + 1;
	find_family();
	open_netlink();
	check_ready();
	for (int i = 0; i < 4; i++) {
		/* Nothing happens in the first rounds: what is forked to be killed late lives long enough. */
		int64_t begun = check_clock(CLOCK_MONOTONIC);

		one(threads, HAPPENINGS);
		usual = (check_clock(CLOCK_MONOTONIC) - begun) / 1000;
	}
	for (unsigned long round = 0; round < rounds; round++) {
		one(threads, dice(HAPPENINGS));
		check_beat();
	}
	begin(family, STATUS, NLM_F_DUMP);
	CHECK_EQUAL("STATUS", ask(SESSION, &left), 0);
	CHECK_EQUAL("a session is left", left, 0);
	for (int command = 1; command <= COMMANDS; command++)
		if (succeeded[command] || failed[command])
			check_log("NOTE command %d: %lu succeeded, %lu failed", command, succeeded[command],
				  failed[command]);
	if (rounds >= 100)
		CHECK(succeeded[FREEZE] && failed[FREEZE] && succeeded[CAPTURE] && failed[CAPTURE] &&
		      succeeded[COMMIT] && failed[COMMIT], "what happened did not come at all moments");
	check_done(rounds);
}
