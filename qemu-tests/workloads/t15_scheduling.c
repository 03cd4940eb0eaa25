/* SPDX-License-Identifier: GPL-2.0 */
/* T15: every thread keeps its nice value, scheduling class, priority and timer slack. */
#include "check.h"
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static const struct {
	int policy, priority, nice;
	unsigned long slack;
} wanted[] = {
	{ SCHED_OTHER, 0, 5, 50000 },
	{ SCHED_OTHER, 0, -7, 123456 },
	{ SCHED_BATCH, 0, 10, 50000 },
	{ SCHED_IDLE, 0, 3, 50000 },
	{ SCHED_FIFO, 10, 0, 50000 },
	{ SCHED_RR, 20, 0, 50000 },
	{ SCHED_OTHER | SCHED_RESET_ON_FORK, 0, 1, 1000000 },
	{ SCHED_FIFO | SCHED_RESET_ON_FORK, 99, 0, 50000 },
};
enum { THREADS = sizeof(wanted) / sizeof(wanted[0]) };
static atomic_bool closing;
static pthread_barrier_t prepared;

static void *work(void *argument)
{
	int me = (intptr_t)argument;
	pid_t tid = syscall(SYS_gettid);
	struct sched_param parameter = { wanted[me].priority };
	bool timed;

	CHECK_CALL("sched_setscheduler", sched_setscheduler(tid, wanted[me].policy, &parameter));
	if (wanted[me].nice)
		CHECK_CALL("setpriority", setpriority(PRIO_PROCESS, tid, wanted[me].nice));
	CHECK_CALL("PR_SET_TIMERSLACK", prctl(PR_SET_TIMERSLACK, wanted[me].slack));
	/* Real-time threads have no slack, whatever they ask for. */
	timed = wanted[me].priority == 0;
	pthread_barrier_wait(&prepared);
	while (!closing) {
		CHECK_EQUAL("policy", sched_getscheduler(tid), wanted[me].policy);
		CHECK_CALL("sched_getparam", sched_getparam(tid, &parameter));
		CHECK_EQUAL("priority", parameter.sched_priority, wanted[me].priority);
		errno = 0;
		CHECK_EQUAL("nice", getpriority(PRIO_PROCESS, tid), wanted[me].nice);
		if (timed)
			CHECK_EQUAL("timer slack", prctl(PR_GET_TIMERSLACK), wanted[me].slack);
		check_sleep(20);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t id[THREADS];
	unsigned long turns = 0;

	check_begin(argc, argv, "t15_scheduling");
	CHECK_CALL("setpriority", setpriority(PRIO_PROCESS, 0, 0));
	pthread_barrier_init(&prepared, NULL, THREADS + 1);
	for (intptr_t i = 0; i < THREADS; i++)
		CHECK_EQUAL("pthread_create", pthread_create(&id[i], NULL, work, (void *)i), 0);
	pthread_barrier_wait(&prepared);
	check_ready();
	do
		turns++;
	while (!check_turn());
	closing = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(id[i], NULL);
	check_done(turns);
}
