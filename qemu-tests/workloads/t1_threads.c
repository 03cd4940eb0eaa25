/* SPDX-License-Identifier: GPL-2.0 */
/*
 * T1: threads=<n> (default 64) threads that hand work to each other through mutexes, a condition variable, a barrier and
 * a semaphore. Each checks its thread-local storage, its TID and that no work item is lost or done twice.
 */
#include "check.h"
#include <semaphore.h>
#include <sys/syscall.h>

enum { SLOTS = 97, MOST = 256 };

static __thread uint64_t local[64];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;
static uint64_t queue[SLOTS];
static unsigned int head, filled;
static uint64_t produced, consumed, sum_in, sum_out;
static bool closing;
static pthread_barrier_t barrier;
static sem_t seats;
static atomic_int seated, passed;
static pid_t tids[MOST];
static uint64_t counts[MOST];
static int threads;

static void check_local(int me)
{
	for (int i = 0; i < 64; i++)
		CHECK(local[i] == check_word(me, i), "thread-local word %d of thread %d", i, me);
	CHECK_EQUAL("gettid", syscall(SYS_gettid), tids[me]);
}

static void *producer(void *argument)
{
	int me = (intptr_t)argument;
	uint64_t item = me;

	tids[me] = syscall(SYS_gettid);
	for (int i = 0; i < 64; i++)
		local[i] = check_word(me, i);
	pthread_barrier_wait(&barrier);
	for (;;) {
		pthread_mutex_lock(&lock);
		while (filled == SLOTS && !closing)
			pthread_cond_wait(&not_full, &lock);
		if (closing) {
			pthread_mutex_unlock(&lock);
			return NULL;
		}
		queue[(head + filled++) % SLOTS] = item;
		sum_in += item;
		produced++;
		pthread_cond_signal(&not_empty);
		pthread_mutex_unlock(&lock);
		item = check_word(item, me) >> 8;
		counts[me]++;
		check_local(me);
		check_sleep(1 + item % 20);
	}
}

static void *consumer(void *argument)
{
	int me = (intptr_t)argument;

	tids[me] = syscall(SYS_gettid);
	for (int i = 0; i < 64; i++)
		local[i] = check_word(me, i);
	pthread_barrier_wait(&barrier);
	for (;;) {
		pthread_mutex_lock(&lock);
		while (!filled && !closing)
			pthread_cond_wait(&not_empty, &lock);
		if (!filled) {
			pthread_mutex_unlock(&lock);
			return NULL;
		}
		sum_out += queue[head];
		head = (head + 1) % SLOTS;
		filled--;
		consumed++;
		pthread_cond_signal(&not_full);
		pthread_mutex_unlock(&lock);
		/* Never more than the semaphore has seats. */
		while (sem_wait(&seats))
			CHECK(errno == EINTR, "sem_wait: %s", strerror(errno));
		int now = atomic_fetch_add(&seated, 1) + 1;

		CHECK(now <= 3, "seats taken: expected at most 3, got %d", now);
		check_local(me);
		atomic_fetch_sub(&seated, 1);
		sem_post(&seats);
		atomic_fetch_add(&passed, 1);
		counts[me]++;
	}
}

int main(int argc, char **argv)
{
	pthread_t id[MOST];
	unsigned long turns = 0;

	check_begin(argc, argv, "t1_threads");
	threads = check_number("threads", 64);
	CHECK(threads >= 2 && threads <= MOST, "threads=%d", threads);
	pthread_barrier_init(&barrier, NULL, threads + 1);
	sem_init(&seats, 0, 3);
	for (intptr_t i = 0; i < threads; i++)
		CHECK_EQUAL("pthread_create", pthread_create(&id[i], NULL, i % 2 ? consumer : producer, (void *)i), 0);
	pthread_barrier_wait(&barrier);
	check_ready();
	do {
		pthread_mutex_lock(&lock);
		CHECK_EQUAL("items", consumed + filled, produced);
		pthread_mutex_unlock(&lock);
		if (turns % 50 == 0)
			CHECK_EQUAL("threads", check_status("/proc/self/status", "Threads", 10), threads + 1);
		turns++;
	} while (!check_turn());

	pthread_mutex_lock(&lock);
	closing = true;
	pthread_cond_broadcast(&not_empty);
	pthread_cond_broadcast(&not_full);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < threads; i++)
		CHECK_EQUAL("pthread_join", pthread_join(id[i], NULL), 0);
	CHECK_EQUAL("items", consumed, produced);
	CHECK_EQUAL("sum of the items", sum_out, sum_in);
	CHECK_EQUAL("items passed on", passed, consumed);
	for (int i = 0; i < threads; i++)
		CHECK(i % 2 || counts[i], "thread %d did nothing", i);
	check_done(consumed);
}
