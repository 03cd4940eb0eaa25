/* SPDX-License-Identifier: GPL-2.0 */
/*
 * T13: a thread that holds robust mutexes ends after the move, and the next one is told so; threads are joined, which
 * needs the word that the kernel clears at their end. pi=1 adds a mutex with priority inheritance, held, with waiters.
 */
#include "check.h"
#include <sys/syscall.h>

enum { MUTEXES = 10, WAITERS = 3 };

static pthread_mutex_t mutexes[MUTEXES], plain_pi;
static atomic_bool closing;
static atomic_int locked, waiting, got;

static void *owner(void *unused)
{
	(void)unused;
	for (int i = 0; i < MUTEXES; i++)
		CHECK_EQUAL("pthread_mutex_lock", pthread_mutex_lock(&mutexes[i]), 0);
	locked = 1;
	while (!closing)
		check_sleep(20);
	return (void *)0x1234; /* and holds them all */
}

static void *waiter(void *unused)
{
	(void)unused;
	waiting++;
	CHECK_EQUAL("pthread_mutex_lock", pthread_mutex_lock(&plain_pi), 0);
	got++;
	CHECK_EQUAL("pthread_mutex_unlock", pthread_mutex_unlock(&plain_pi), 0);
	return NULL;
}

/* Waits for a mutex whose owner dies while it waits. */
static void *heir(void *unused)
{
	(void)unused;
	waiting++;
	CHECK_EQUAL("pthread_mutex_lock of the last one", pthread_mutex_lock(&mutexes[MUTEXES - 1]), EOWNERDEAD);
	CHECK_EQUAL("pthread_mutex_consistent", pthread_mutex_consistent(&mutexes[MUTEXES - 1]), 0);
	CHECK_EQUAL("pthread_mutex_unlock", pthread_mutex_unlock(&mutexes[MUTEXES - 1]), 0);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_mutexattr_t attributes;
	pthread_t owner_id, heir_id, waiter_id[WAITERS];
	void *head, *now;
	size_t length, size;
	unsigned long turns = 0;
	void *result;
	bool pi;

	check_begin(argc, argv, "t13_robust");
	pi = check_number("pi", 0);
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	for (int i = 0; i < MUTEXES; i++)
		pthread_mutex_init(&mutexes[i], &attributes);
	CHECK_EQUAL("pthread_create", pthread_create(&owner_id, NULL, owner, NULL), 0);
	while (!locked)
		check_sleep(1);
	CHECK_EQUAL("pthread_create", pthread_create(&heir_id, NULL, heir, NULL), 0);
	if (pi) {
		pthread_mutexattr_init(&attributes);
		pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
		pthread_mutex_init(&plain_pi, &attributes);
		CHECK_EQUAL("pthread_mutex_lock", pthread_mutex_lock(&plain_pi), 0);
		for (int i = 0; i < WAITERS; i++)
			CHECK_EQUAL("pthread_create", pthread_create(&waiter_id[i], NULL, waiter, NULL), 0);
	}
	while (waiting < (pi ? WAITERS + 1 : 1))
		check_sleep(1);
	check_sleep(50);
	CHECK_CALL("get_robust_list", (int)syscall(SYS_get_robust_list, 0, &head, &length));
	check_ready();
	do {
		CHECK_CALL("get_robust_list", (int)syscall(SYS_get_robust_list, 0, &now, &size));
		CHECK(now == head && size == length, "robust list: expected %p, %zu, got %p, %zu", head, length, now, size);
		for (int i = 0; i < MUTEXES; i++)
			CHECK_EQUAL("pthread_mutex_trylock", pthread_mutex_trylock(&mutexes[i]), EBUSY);
		CHECK_EQUAL("waiters that got the lock", got, 0);
		turns++;
	} while (!check_turn());
	closing = true;
	CHECK_EQUAL("pthread_join", pthread_join(owner_id, &result), 0);
	CHECK(result == (void *)0x1234, "result of the thread: got %p", result);
	CHECK_EQUAL("pthread_join", pthread_join(heir_id, NULL), 0);
	for (int i = 0; i < MUTEXES; i++) {
		CHECK_EQUAL("pthread_mutex_lock after the owner's end", pthread_mutex_lock(&mutexes[i]),
			    i < MUTEXES - 1 ? EOWNERDEAD : 0);
		if (i < MUTEXES - 1)
			CHECK_EQUAL("pthread_mutex_consistent", pthread_mutex_consistent(&mutexes[i]), 0);
		CHECK_EQUAL("pthread_mutex_unlock", pthread_mutex_unlock(&mutexes[i]), 0);
	}
	if (pi) {
		CHECK_EQUAL("pthread_mutex_unlock of the PI mutex", pthread_mutex_unlock(&plain_pi), 0);
		for (int i = 0; i < WAITERS; i++)
			CHECK_EQUAL("pthread_join", pthread_join(waiter_id[i], NULL), 0);
		CHECK_EQUAL("waiters that got the lock", got, WAITERS);
	}
	check_done(turns);
}
