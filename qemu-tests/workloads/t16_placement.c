/* SPDX-License-Identifier: GPL-2.0 */
/* T16: the CPUs that each thread may run on, its priority for input and output, its timer slack. */
#include "check.h"
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define REALTIME (1 << 13 | 3)
#define BEST_EFFORT (2 << 13 | 6)
#define IDLE (3 << 13)

static atomic_int prepared;
static atomic_bool over;

struct place {
	int cpu; /* -1 for all */
	int priority;
	unsigned long slack;
};

static struct place places[] = { { 0, BEST_EFFORT, 70000 }, { 1, REALTIME, 50000 }, { -1, IDLE, 1 }, { -1, 0, 50000 } };

static int io_priority(void)
{
	return CHECK_CALL("ioprio_get", syscall(SYS_ioprio_get, 1, 0));
}

static void take(const struct place *place)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(place->cpu, &set);
	if (place->cpu >= 0)
		CHECK_CALL("sched_setaffinity", sched_setaffinity(0, sizeof(set), &set));
	if (place->priority)
		CHECK_CALL("ioprio_set", syscall(SYS_ioprio_set, 1, 0, place->priority));
	CHECK_CALL("PR_SET_TIMERSLACK", prctl(PR_SET_TIMERSLACK, place->slack));
}

static void look(const struct place *place)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CHECK_CALL("sched_getaffinity", sched_getaffinity(0, sizeof(set), &set));
	CHECK_EQUAL("CPUs", CPU_COUNT(&set), place->cpu >= 0 ? 1 : 2);
	if (place->cpu >= 0) {
		CHECK(CPU_ISSET(place->cpu, &set), "not on CPU %d", place->cpu);
		CHECK_EQUAL("CPU", sched_getcpu(), place->cpu);
	}
	if (place->priority)
		CHECK_EQUAL("priority", io_priority(), place->priority);
	else
		CHECK_EQUAL("class of the priority", io_priority() >> 13, 0);
	CHECK_EQUAL("timer slack", prctl(PR_GET_TIMERSLACK), place->slack);
}

static void *thread(void *place)
{
	take(place);
	prepared++;
	while (!over) {
		look(place);
		check_sleep(5);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	enum { THREADS = sizeof(places) / sizeof(places[0]) - 1 };
	pthread_t id[THREADS];
	unsigned long turns = 0;

	check_begin(argc, argv, "t16_placement");
	/* Threads take over what their maker has, so the last one is made first, and the first place is taken in the end. */
	for (int i = THREADS; i > 0; i--)
		CHECK_EQUAL("pthread_create", pthread_create(&id[i - 1], NULL, thread, &places[i]), 0);
	while (prepared < THREADS)
		check_sleep(1);
	take(&places[0]);
	check_ready();
	do {
		look(&places[0]);
		turns++;
	} while (!check_turn());
	over = true;
	for (int i = 0; i < THREADS; i++)
		CHECK_EQUAL("pthread_join", pthread_join(id[i], NULL), 0);
	check_done(turns);
}
