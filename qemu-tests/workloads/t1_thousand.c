/* SPDX-License-Identifier: GPL-2.0 */
/*
 * T1: threads=<n> (default 1000) threads. A third sleeps, a third waits on a futex until it is woken, a third waits on a
 * futex with a timeout. Each has a small stack with content and a counter that must match at the end.
 */
#include "check.h"
#include <linux/futex.h>
#include <sys/syscall.h>

enum { MOST = 20000 };

struct worker {
	uint64_t turns;
	uint32_t word;
	pid_t tid;
};

static struct worker workers[MOST];
static atomic_int started;
static atomic_bool closing;

static void *work(void *argument)
{
	struct worker *me = argument;
	int index = me - workers;
	volatile uint64_t piece[64];

	me->tid = syscall(SYS_gettid);
	for (int i = 0; i < 64; i++)
		piece[i] = check_word(index, i);
	atomic_fetch_add(&started, 1);
	while (!atomic_load(&closing)) {
		struct timespec t = { 1 + index % 5, index * 1000 };
		uint32_t before = __atomic_load_n(&me->word, __ATOMIC_ACQUIRE);
		long result;

		switch (index % 3) {
		case 0:
			CHECK(!nanosleep(&t, NULL), "nanosleep of thread %d: %s", index, strerror(errno));
			break;
		case 1:
			result = syscall(SYS_futex, &me->word, FUTEX_WAIT_PRIVATE, before, NULL, NULL, 0);
			CHECK(!result || errno == EAGAIN, "futex of thread %d: %s", index, strerror(errno));
			break;
		case 2:
			result = syscall(SYS_futex, &me->word, FUTEX_WAIT_PRIVATE, before, &t, NULL, 0);
			CHECK(!result || errno == EAGAIN || errno == ETIMEDOUT, "futex with a timeout of thread %d: %s",
			      index, strerror(errno));
			break;
		}
		for (int i = 0; i < 64; i++)
			CHECK(piece[i] == check_word(index, i), "stack of thread %d", index);
		CHECK_EQUAL("gettid", syscall(SYS_gettid), me->tid);
		me->turns++;
	}
	return NULL;
}

static void wake(struct worker *worker)
{
	__atomic_add_fetch(&worker->word, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &worker->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

int main(int argc, char **argv)
{
	static pthread_t id[MOST];
	unsigned long turns = 0;
	uint64_t total = 0;
	pthread_attr_t attributes;
	int threads;

	check_begin(argc, argv, "t1_thousand");
	threads = check_number("threads", 1000);
	CHECK(threads > 0 && threads <= MOST, "threads=%d", threads);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 65536);
	for (int i = 0; i < threads; i++)
		CHECK_EQUAL("pthread_create", pthread_create(&id[i], &attributes, work, &workers[i]), 0);
	while (atomic_load(&started) < threads)
		check_sleep(10);
	check_ready();
	do {
		for (int i = turns % 7; i < threads; i += 7)
			if (i % 3)
				wake(&workers[i]);
		turns++;
	} while (!check_turn());
	atomic_store(&closing, true);
	for (int i = 0; i < threads; i++)
		if (i % 3)
			wake(&workers[i]);
	for (int i = 0; i < threads; i++) {
		CHECK_EQUAL("pthread_join", pthread_join(id[i], NULL), 0);
		total += workers[i].turns;
		CHECK(workers[i].turns, "thread %d never came back", i);
	}
	check_done(total);
}
