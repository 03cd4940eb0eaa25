/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A parent that listens to everything it can hear of its child: SIGCHLD, and waitpid() with WUNTRACED and WCONTINUED. Its
 * child works as any workload and writes READY. Only two things may ever be heard: that the child ends, once, and (with
 * stops=<n>) that it was stopped and continued that often by the test.
 *
 *   parent LOG [stops=<n>]
 *
 * The child's log is LOG; the parent's lines begin with PARENT, and it writes the final OK.
 */
#include "check.h"
#include <signal.h>

static volatile sig_atomic_t heard;

static void on_child(int signal)
{
	(void)signal;
	heard++;
}

static void work(void)
{
	static uint64_t memory[1 << 20];
	struct sigaction none = { .sa_handler = SIG_DFL };
	unsigned long turns = 0;

	sigaction(SIGCHLD, &none, NULL);
	check.pid = getpid();
	check_fill(memory, sizeof(memory), 5);
	check_ready();
	do {
		int64_t before = check_clock(CLOCK_MONOTONIC);
		struct timespec t = { 0, 20000000 };

		/* A frozen process sees no EINTR. */
		CHECK(!nanosleep(&t, NULL), "nanosleep: %s", strerror(errno));
		CHECK(check_clock(CLOCK_MONOTONIC) - before >= 20000000, "nanosleep ended early");
		check_filled("memory", memory, sizeof(memory), 5);
		turns++;
	} while (!check_finished());
	_exit(7);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_child };
	int status, stopped = 0, continued = 0, stops, events = 0;
	pid_t child, got;

	check_begin(argc, argv, "parent");
	stops = check_number("stops", 0);
	CHECK_CALL("sigaction", sigaction(SIGCHLD, &action, NULL));
	child = CHECK_CALL("fork", fork());
	if (!child)
		work();
	/* The starter waits for the child only. */
	if (check.ready_fd >= 0)
		close(check.ready_fd);
	for (;;) {
		got = waitpid(child, &status, WUNTRACED | WCONTINUED);
		if (got < 0 && errno == EINTR)
			continue;
		CHECK_EQUAL("waitpid", got, child);
		events++;
		if (WIFSTOPPED(status)) {
			stopped++;
			check_log("PARENT the child was stopped by signal %d", WSTOPSIG(status));
			continue;
		}
		if (WIFCONTINUED(status)) {
			continued++;
			check_log("PARENT the child was continued");
			continue;
		}
		break;
	}
	check_log("PARENT the child ended with status %#x", status);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7, "the child ended with status %#x", status);
	CHECK_EQUAL("stops", stopped, stops);
	CHECK_EQUAL("continues", continued, stops);
	CHECK_EQUAL("SIGCHLD", heard, 2 * stops + 1);
	check_done(events);
}
