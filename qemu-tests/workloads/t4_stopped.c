/* SPDX-License-Identifier: GPL-2.0 */
/*
 * T4: a program that the test stops with SIGSTOP, moves, and lets go on with SIGCONT. It must not run while it is
 * stopped: the test sees that its heartbeat stands still. With SIGCONT its handler runs once.
 */
#include "check.h"
#include <signal.h>

static volatile sig_atomic_t continued;

static void on_continue(int signal)
{
	(void)signal;
	continued++;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_continue, .sa_flags = SA_RESTART };
	static uint64_t memory[65536];
	unsigned long turns = 0;

	check_begin(argc, argv, "t4_stopped");
	CHECK_CALL("sigaction", sigaction(SIGCONT, &action, NULL));
	check_fill(memory, sizeof(memory), 3);
	check_ready();
	do {
		check_filled("memory", memory, sizeof(memory), 3);
		turns++;
	} while (!check_turn());
	CHECK_EQUAL("SIGCONT handled", continued, check_number("continued", 1));
	check_done(turns);
}
